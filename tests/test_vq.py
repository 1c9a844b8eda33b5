"""The quantizer beside `vector-quantize-pytorch`, and what a notebook cannot show:
compiled steps, half precision, two processes, a saved model.

Called as a script it is one of the processes: `python test_vq.py OUT NUMBER PROCESSES
THRESHOLD`."""
import json, math, os, subprocess, sys
from pathlib import Path

import pytest, torch

from vae_course import vq_vae as room
from vae_course.data import Batches, Examples
from vae_course.acceleration import AcceleratedStep
from vae_course.distributed import leave_processes, rank_and_world_size
from vae_course.model import center
from vae_course.step import evaluate, make_optimizers, StepConfig, train_epoch
from vae_course.training import fit, load_model, save_model
from vae_course.vq_vae import (
    CodePrior, UniformCodes, VectorQuantizer, nearest_codes, vq_vae)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import vq as bench     # noqa: E402  (a script, not a package)

K, D = 16, 8
files = Path(__file__).parent / "files"


def pair(ema):
    """Ours and theirs with one codebook; theirs counts vectors where ours counts
    multiples of the uniform share."""
    theirs = pytest.importorskip(
        "vector_quantize_pytorch",
        reason="the oracle vector-quantize-pytorch is not installed")
    ours = VectorQuantizer(K, D, decay=0.9, dead_code_threshold=0, ema=ema)
    theirs = theirs.VectorQuantize(
        dim=D, codebook_size=K, decay=0.9, commitment_weight=0.25,
        accept_image_fmap=True, ema_update=ema, learnable_codebook=not ema,
        threshold_ema_dead_code=0, rotation_trick=False, kmeans_init=False)
    torch.manual_seed(0)
    book, z = torch.randn(K, D), torch.randn(4, D, 3, 3)
    with torch.no_grad():
        ours.codebook.copy_(book)
        ours.sums.copy_(book)
        theirs._codebook.embed.copy_(book[None])
        if ema:
            uniform = z.numel() / D / K
            theirs._codebook.cluster_size.fill_(uniform)
            theirs._codebook.embed_avg.copy_(book[None] * uniform)
    return ours, theirs, z


@pytest.mark.parametrize("ema", [True, False], ids=["running means", "codebook loss"])
def test_value_gradient_and_codes_are_those_of_the_oracle(ema):
    ours, theirs, z = pair(ema)
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    e, codes, terms = ours(a)
    e2, codes2, loss = theirs(b)
    assert torch.equal(codes, codes2)
    assert torch.allclose(e, e2, atol=1e-6)
    # theirs averages over these, ours sums
    cells = z.numel() / len(z)
    assert torch.isclose(0.25 * terms["commitment_loss"] / cells, loss.sum(), rtol=1e-5)
    weights = torch.randn_like(e)
    (to_z,), (to_z2,) = (torch.autograd.grad((weights * q).sum(), v, retain_graph=True)
                         for q, v in ((e, a), (e2, b)))
    assert torch.equal(to_z, weights) and torch.allclose(to_z2, weights)
    (to_z,), (to_z2,) = (
        torch.autograd.grad(0.25 * terms["commitment_loss"], a, retain_graph=True),
        torch.autograd.grad(loss.sum(), b, retain_graph=True))
    assert torch.allclose(to_z / cells, to_z2, rtol=1e-4, atol=1e-8)
    # theirs weighs both losses by commitment_weight
    if not ema:
        to_book, = torch.autograd.grad(0.25 * terms["codebook_loss"], ours.codebook)
        to_book2, = torch.autograd.grad(loss.sum(), theirs._codebook.embed)
        assert torch.allclose(to_book / cells, to_book2[0], rtol=1e-4, atol=1e-8)


def test_running_means_are_those_of_the_oracle():
    ours, theirs, z = pair(True)
    for step in range(5):
        batch = z + 0.1 * step
        ours(batch)
        theirs(batch)
        ours.after_step()
        assert torch.allclose(ours.codebook, theirs._codebook.embed[0], atol=1e-4), step


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


def everything(model):
    return {name: b.clone()
            for name, b in [*model.named_buffers(), *model.named_parameters()]}


def test_evaluation_changes_nothing():
    torch.manual_seed(0)
    model = vq_vae(n_codes=8, prior="uniform")
    examples = Examples(torch.randint(256, (64, 1, 28, 28), dtype=torch.uint8),
                        torch.zeros(64, dtype=torch.int64))
    fit(model, examples, epochs=1, batch_size=32, progress=False, compile=False)
    before = everything(model)
    evaluate(model, Batches(examples, 32))
    model.codes(examples.floats())
    model.reconstruct(examples.floats())
    model.sample(3)
    assert same(before, everything(model))


@pytest.mark.parametrize("ema", [True, False])
def test_idempotent_and_in_agreement(ema):
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 6, ema=ema).eval()
    z = torch.randn(7, 6, 5, 4, requires_grad=True)
    e, codes, _ = quantizer(z)
    again, codes_again, _ = quantizer(e.detach())
    assert torch.equal(again, e) and torch.equal(codes_again, codes)
    assert torch.equal(quantizer.look_up(codes), e)
    flat = z.detach().movedim(1, -1).reshape(-1, 6)
    assert torch.equal(torch.cdist(flat.double(), quantizer.codebook.detach().double())
                       .argmin(1), codes.flatten())
    weights = torch.randn_like(e)
    assert torch.equal(torch.autograd.grad((weights * e).sum(), z)[0], weights)


def test_distances_are_full_precision_under_autocast():
    torch.manual_seed(0)
    z, book = torch.randn(3000, 16), torch.randn(256, 16)
    exact = nearest_codes(z, book)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_codes(z, book), exact)
        quantizer = VectorQuantizer(256, 16)
        quantizer.codebook.copy_(book)
        codes = quantizer.codes(z.T[None, :, :, None])
        quantizer(z.T[None, :, :, None])
    # of other strides: two entries within a rounding may change places
    codes = codes.flatten()
    far = ((z.double() - book.double()[codes]).norm(dim=1)
           / (z.double() - book.double()[exact]).norm(dim=1))
    assert (far - 1).abs().max() < 1e-5
    totals = torch.zeros(256, 16).index_add_(0, codes, z)
    assert torch.allclose(quantizer.totals, totals, atol=1e-4)


def test_the_first_step_and_the_dead_are_put_on_vectors_of_the_batch():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 2, decay=0.5)
    z = 100 + torch.randn(1, 2, 50, 1)
    quantizer(z)
    quantizer.after_step()
    vectors = {tuple(v) for v in z.movedim(1, -1).reshape(-1, 2).tolist()}
    assert ({tuple(v) for v in quantizer.codebook.tolist()} <= vectors
            and (quantizer.usage == 1).all())
    with torch.no_grad():
        quantizer.codebook[3] = -1000.0
        quantizer.sums[3] = -1000.0
    for _ in range(10):
        quantizer(z)
        quantizer.after_step()
    assert quantizer.codebook.min() > 90


def test_no_restart_leaves_the_dead_where_they_are():
    quantizer = VectorQuantizer(4, 2, decay=0.9, dead_code_threshold=0)
    with torch.no_grad():
        quantizer.codebook.copy_(
            torch.tensor([[0.0, 0], [1, 1], [500, 500], [-500, 500]]))
        quantizer.sums.copy_(quantizer.codebook)
    z = torch.rand(1, 2, 50, 1)
    for _ in range(400):
        quantizer(z)
        quantizer.after_step()
    assert torch.allclose(quantizer.codebook[2:],
                          torch.tensor([[500.0, 500], [-500, 500]]), rtol=1e-3)


def trained_steps(step_config, ema, prior):
    torch.manual_seed(0)
    model = vq_vae((1, 12, 12), n_codes=8, dim=4, widths=(4, 8), ema=ema, prior=prior)
    optimizers = make_optimizers(model, torch.device("cpu"))
    for g in optimizers[0].param_groups:
        g["lr"].fill_(1e-3)
    stepper, rows = AcceleratedStep(model, optimizers, 16, None, step_config), []
    for i in range(4):
        x = torch.rand(16, 1, 12, 12, generator=torch.Generator().manual_seed(i))
        rows.append(stepper((x, torch.zeros(16, dtype=torch.int64)))["loss"].item())
    return model, torch.tensor(rows)


@pytest.mark.parametrize("ema", [True, False], ids=["running means", "codebook loss"])
def test_a_compiled_step_is_the_same_step(ema):
    plain, rows = trained_steps(StepConfig(), ema, "uniform")
    program, rows2 = trained_steps(StepConfig(compile=True), ema, "uniform")
    assert torch.allclose(rows, rows2, rtol=1e-3)
    assert torch.allclose(plain.quantizer.codebook, program.quantizer.codebook,
                          atol=1e-2)


def test_bfloat16_is_the_same_within_tolerance():
    _, rows = trained_steps(StepConfig(), True, "transformer")
    _, rows2 = trained_steps(StepConfig(precision="bf16"), True, "transformer")
    assert torch.allclose(rows, rows2, rtol=0.05)


def test_a_model_is_saved_and_loaded_with_its_codebook(tmp_path):
    torch.manual_seed(0)
    model = vq_vae((3, 20, 12), n_codes=8, dim=4, widths=(4, 8))
    x = torch.rand(32, 3, 20, 12)
    fit(model, Examples(x, torch.zeros(32, dtype=torch.int64)), epochs=1, batch_size=16,
        progress=False, compile=False)
    save_model(model, tmp_path / "vq.safetensors")
    again = load_model(tmp_path / "vq.safetensors")
    assert (torch.equal(model.codes(x), again.codes(x))
            and torch.equal(model.quantizer.usage, again.quantizer.usage))
    assert (torch.equal(model.reconstruct(x), again.reconstruct(x))
            and again.sample(2).shape == (2, 3, 20, 12))


def test_the_bound_is_reconstruction_and_code_length():
    torch.manual_seed(0)
    model, x = vq_vae(n_codes=32, prior="uniform").eval(), torch.rand(6, 1, 28, 28)
    terms = model.losses((x, None))
    e = model.quantizer.look_up(model.codes(x))
    assert torch.isclose(terms["reconstruction"],
                         -model.decode_entries(e).log_prob(x).mean())
    p = model.decode(model.codes(x))
    assert torch.isclose(terms["reconstruction"], -p.log_prob(x).mean())
    assert (torch.isclose(terms["kl"], torch.tensor(49 * 5 * 0.6931472))
            and torch.isclose(terms["neg_elbo"], terms["reconstruction"] + terms["kl"]))
    assert torch.isclose(terms["loss"],
                         terms["neg_elbo"] + 0.25 * terms["commitment_loss"])


def test_a_point_mass_is_certain_of_its_codes():
    torch.manual_seed(0)
    model, x = vq_vae(n_codes=8).eval(), torch.rand(3, 1, 28, 28)
    q, codes = model.encode(x), model.codes(x)
    assert torch.equal(q.sample(), codes) and torch.equal(center(q), codes)
    assert torch.equal(q.sample((2, 5)), codes.expand(2, 5, *codes.shape))
    assert q.log_prob(codes).tolist() == [0, 0, 0]
    other = codes.clone()
    other[1, 0, 0] = (codes[1, 0, 0] + 1) % 8           # one code of 49
    assert q.log_prob(other).tolist() == [0, -math.inf, 0]
    several = torch.stack([codes, other])
    assert q.log_prob(several).tolist() == [[0, 0, 0], [0, -math.inf, 0]]


@pytest.mark.parametrize("prior", ["uniform", "transformer"])
def test_the_prior_and_the_decoder_take_codes_of_any_shape(prior):
    torch.manual_seed(0)
    model = vq_vae((1, 8, 8), n_codes=3, dim=4, widths=(4, 8), prior=prior).eval()
    p, codes = model.prior(), torch.randint(3, (2, 5, 2, 2))
    with torch.no_grad():
        every = torch.cartesian_prod(*4 * [torch.arange(3)]).view(81, 2, 2)
        assert torch.isclose(p.log_prob(every).exp().sum(), torch.tensor(1.0))
        assert p.log_prob(codes).shape == (2, 5) and p.log_prob(codes[0, 0]).shape == ()
        assert torch.allclose(p.log_prob(codes)[1, 3], p.log_prob(codes[1, 3]))
        for shape in ((), (4,), (2, 3)):
            assert p.sample(shape).shape == (*shape, 2, 2)
            assert p.sample(shape).dtype == torch.int64
        d = model.decode(codes)
        assert d.mean.shape == (2, 5, 1, 8, 8)
        assert torch.allclose(d.mean[1, 2], model.decode(codes[1, 2:3]).mean[0],
                              atol=1e-5)
        x = torch.rand(5, 1, 8, 8)
        assert d.log_prob(x).shape == (2, 5) and torch.allclose(
            d.log_prob(x)[1], model.decode(codes[1]).log_prob(x), rtol=1e-4)


def test_codes_are_whole_numbers_and_entries_are_not():
    model = vq_vae(n_codes=8)
    with pytest.raises(ValueError, match="`decode_entries` takes entries"):
        model.decode(model.vectors(torch.rand(2, 1, 28, 28)))


def test_the_prior_alone_gets_the_gradient_of_the_code_length():
    torch.manual_seed(0)
    model, x = vq_vae(n_codes=8), torch.rand(6, 1, 28, 28)
    model.losses((x, None))["kl"].backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters()
             if p.grad is not None}
    assert moved == {"prior_net"} and {"encoder", "decoder"} < {
        name.split(".")[0] for name, _ in model.named_parameters()}
    assert [name for name, p in model.prior_net.named_parameters()
            if p.grad is None] == []


def test_a_prior_looks_back_only_and_draws_what_it_scores():
    torch.manual_seed(0)
    prior = CodePrior(5, (3, 4), width=16, heads=2)
    codes = torch.randint(5, (1, 11))
    changed = codes.clone()
    changed[0, 6] = (codes[0, 6] + 1) % 5
    difference = (prior.logits(codes) - prior.logits(changed)).abs().amax((0, 2))
    assert difference[:7].max() < 1e-5 < difference[7:].min()
    lists = torch.cartesian_prod(*4 * [torch.arange(3)]).view(81, 2, 2)
    little = CodePrior(3, (2, 2), width=8, heads=2)
    assert torch.isclose(little.log_prob(lists).exp().sum(), torch.tensor(1.0),
                         atol=1e-5)
    assert torch.isclose(UniformCodes(3, (2, 2)).log_prob(lists).exp().sum(),
                         torch.tensor(1.0), atol=1e-5)


# ---------------------------------------------------------------- several processes

def part_of_a_run(threshold):
    """Two epochs on 40 images in batches of 16, dealt to the processes; the terms and
    the codebook after them."""
    number, processes = rank_and_world_size()
    # weights of its own for each process: the first one's must win
    torch.manual_seed(number)
    model = vq_vae((1, 8, 8), n_codes=6, dim=3, widths=(4,), prior="uniform",
                   dead_code_threshold=threshold)
    if not threshold:
        model.quantizer.sums.copy_(model.quantizer.codebook)
    numbers = torch.Generator().manual_seed(5)
    examples = Examples(torch.rand(40, 1, 8, 8, generator=numbers),
                        torch.zeros(40).long())
    optimizers = make_optimizers(model, torch.device("cpu"))
    optimizers[0].param_groups[0]["lr"].fill_(1e-2)
    batches = Batches(examples, 16, shuffle=True,
                      generator=torch.Generator().manual_seed(7),
                      shard=(number, processes))
    step = AcceleratedStep(model, optimizers, 16)
    history = [train_epoch(model, batches, optimizers, step=step) for _ in range(2)]
    return dict(history=history, codebook=model.quantizer.codebook.flatten().tolist(),
                usage=model.quantizer.usage.tolist())


def processes(tmp_path, number, threshold):
    env = os.environ | dict(OMP_NUM_THREADS="1",
                            PYTHONPATH=str(Path(__file__).parent.parent))
    every = [subprocess.Popen([sys.executable, __file__, str(tmp_path / str(number)),
                               str(i), str(number), str(threshold)],
                              env=env, encoding="utf-8", stderr=subprocess.PIPE)
             for i in range(number)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in every]
    finally:
        for process in every:
            process.kill()
    assert not any(process.returncode for process in every), "\n".join(errors)[-3000:]
    return [json.loads((tmp_path / f"{number}.{i}.json").read_text(encoding="utf-8"))
            for i in range(number)]


@pytest.mark.processes
def test_two_processes_move_the_codebook_as_one(tmp_path):
    """Counts and sums are those of the whole batch: 8 and 8 of its images, 4 and 4 in
    the last."""
    one, = processes(tmp_path, 1, 0)
    two, other = processes(tmp_path, 2, 0)
    assert two["codebook"] == other["codebook"]
    assert (two["codebook"] == pytest.approx(one["codebook"], abs=1e-4)
            and two["usage"] == pytest.approx(one["usage"], abs=1e-5))
    for a, b in zip(one["history"], two["history"]):
        # perplexity and use are those of each part
        for name in ("loss", "reconstruction", "kl", "commitment_loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-4), name


@pytest.mark.processes
def test_two_processes_restart_the_dead_at_the_same_places(tmp_path):
    two, other = processes(tmp_path, 2, 0.5)
    assert two["codebook"] == other["codebook"] and two["usage"] == other["usage"]


# ---------------------------------------------------------------- known error 9

def check_gradients(quantizer):
    """What must hold of the gradients of a `VectorQuantizer` whose codebook is moved by
    the codebook loss."""
    z, weights = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4)
    def moves(loss):
        return torch.autograd.grad(loss, (z, quantizer.codebook), allow_unused=True,
                                   retain_graph=True)
    e, codes, terms = quantizer(z)
    assert torch.equal(e, quantizer.look_up(codes)), (
        "the value is not that of the entries")
    assert e.requires_grad, "the gradient is blocked"
    to_z, to_book = moves((weights * e).sum())
    assert to_z is not None and torch.equal(to_z, weights), (
        "the gradient does not reach z unchanged")
    assert to_book is None or not to_book.any(), "the reconstruction moves the codebook"
    to_z, to_book = moves(terms["commitment_loss"])
    assert to_z is not None and to_z.any() and to_book is None, (
        "the commitment moves the encoder, and nothing else")
    to_z, to_book = moves(terms["codebook_loss"])
    assert to_book is not None and to_book.any() and to_z is None, (
        "the codebook loss moves the codebook, and nothing else")


def test_each_loss_moves_what_it_should():
    torch.manual_seed(0)
    check_gradients(VectorQuantizer(8, 3, ema=False))


wrong_steps = {"blocked": lambda e, z: e.detach() + 0 * z,
               "doubled": lambda e, z: 2 * (z - z.detach()) + e.detach(),
               "not quantized": lambda e, z: z,
               "no value of the codebook": lambda e, z: z + e.detach(),
               "codebook moves by the reconstruction": lambda e, z: z - z.detach() + e}


@pytest.mark.parametrize("error",
                         [*wrong_steps, "the other is detached", "nothing is detached"])
def test_the_check_of_the_gradients_sees_a_planted_error(error, monkeypatch):
    """Known error 9, in each of its forms: `check_gradients` passes what is right, and
    no wrong one."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(8, 3, ema=False)
    if error in wrong_steps:
        monkeypatch.setattr(room, "straight_through", wrong_steps[error])
    else:
        forward, swapped = (quantizer.forward, dict(commitment_loss="codebook_loss",
                                                    codebook_loss="commitment_loss"))
        def planted(z):
            e, codes, terms = forward(z)
            both = room.batch_squared_distance(z, quantizer.look_up(codes))
            return e, codes, {k: both if error == "nothing is detached" and k in swapped
                                 else terms[swapped.get(k, k)] for k in terms}
        monkeypatch.setattr(quantizer, "forward", planted)
    with pytest.raises(AssertionError):
        check_gradients(quantizer)


# ---------------------------------------------------------------- files of version
# 0.1.0

def test_a_model_of_version_0_1_0_loads_with_its_renamed_setting():
    model = load_model(files / "vq-0.1.0.safetensors")
    assert (model.quantizer.dead_code_threshold == 0.1 and model.quantizer.decay == 0.8
            and model.quantizer.n_codes == 5)
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))[:4]
    assert model.codes(x[:1]).flatten().tolist() == [
        3, 2, 3, 1, 2, 3, 2, 1, 0, 0, 2, 1, 0, 2, 1, 4]
    assert torch.allclose(model.reconstruct(x).mean((1, 2, 3)),
                          torch.tensor([0.0272709, 0.0278415, 0.0294960, 0.0273988]),
                          atol=1e-5)
    assert torch.allclose(model.quantizer.usage, torch.tensor(
        [1.1513751, 0.8152500, 1.1298751, 1.0133750, 0.8901250]))
    assert list(model.losses((x, None))) == [
        "loss", "reconstruction", "kl", "neg_elbo", "commitment_loss", "perplexity",
        "codebook_usage"]


def test_the_model_of_a_run_of_version_0_1_0_loads():
    for name in ("model", "run"):
        assert load_model(files / "vq-run-0.1.0"
                          / f"{name}.safetensors").quantizer.dead_code_threshold == 0.1


def test_the_weights_of_a_learned_prior_keep_their_names():
    "A file of version 0.1.0 holds them by these."
    block = ["norm1", "norm2", "to_qkv", "out", "mlp.0", "mlp.2"]
    layers = (
        [f"blocks.{i}.{name}" for i in (0, 1) for name in block] + ["head.0", "head.1"])
    assert CodePrior(4, (2, 2)).state_dict().keys() == {"place", "embed.weight"} | {
        f"{name}.{part}" for name in layers for part in ("weight", "bias")}


def test_a_result_of_version_0_1_0_is_read_with_todays_keys():
    old = json.loads((files / "vq-0.1.0.json").read_text(encoding="utf-8"))
    new = bench.common.translate(old)
    assert new["settings"] == json.loads(
        json.dumps(bench.settings | dict(prior_examples=20_000)))
    assert (
        new["runs"][0]["codebook_usage"] == old["runs"][0]["in_use"]
        and new["aims"]["codebook_usage"]["target"] == old["aims"]["in_use"]["asked"])
    assert '"in_use"' not in json.dumps(new) and '"restart"' not in json.dumps(new)
    assert bench.common.translate(new) == new


if __name__ == "__main__":
    out, number, count, threshold = sys.argv[1:]
    if count != "1":
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{out}.meeting", rank=int(number),
            world_size=int(count))
    Path(f"{out}.{number}.json").write_text(
        json.dumps(part_of_a_run(float(threshold))), encoding="utf-8")
    if count != "1":
        leave_processes()
