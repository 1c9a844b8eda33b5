"""β-VAE and β-TCVAE: what a notebook cannot show quickly: gradients, compiled steps,
half precision, two ways to save, the command line, and the arithmetic of their
bench."""
import json, sys
from pathlib import Path

import numpy as np, pytest, torch

from vae_course import datasets, sprites
from vae_course.beta_vae import (
    BetaTCVAE, BetaVAE, _discretize, beta_tcvae, beta_vae, cyclical, factorvae_score,
    kl_by_latent, kl_decomposition, kl_penalty, mig)
from vae_course.cli import main
from vae_course.data import DataError, Examples
from vae_course.elbo import VAE, Bernoulli, conv_vae, mlp_networks, mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.step import make_optimizers, StepConfig
from vae_course.latent import StandardNormal, diagonal_gaussian
from vae_course.noise import Noise, replayed_noise
from vae_course.training import fit, linear, load_model, save_model

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "bench"))
import disentanglement     # noqa: E402  (a script, not a package)

SHAPE, D, N = (1, 12, 12), 4, 64
BUILD = dict(beta_vae=lambda **kw: beta_vae(SHAPE, D, **kw),
             beta_tcvae=lambda **kw: beta_tcvae(SHAPE, D, dataset_size=N, **kw))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shapes(n=N, seed=0):
    return (torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
            > 0.8).float()


def examples():
    return Examples((shapes() * 255).byte(), torch.zeros(N, dtype=torch.int64))


def losses(model, batch, eps):
    "The terms at z = mu + sigma eps."
    with replayed_noise(Noise([eps])):
        return model.losses(batch)


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("hidden", [(32,), (32, 16), None],
                         ids=["one layer", "two layers", "convolutions"])
@pytest.mark.parametrize("seed", range(3))
def test_at_beta_1_loss_and_gradient_are_those_of_a_vae(name, hidden, seed):
    torch.manual_seed(seed)
    plain = mlp_vae(SHAPE, D, hidden) if hidden else conv_vae(SHAPE, D, (8, 8))
    same = BUILD[name](beta=1.0, hidden=hidden, widths=(8, 8))
    same.load_state_dict(plain.state_dict())
    batch, eps = (shapes(16, seed), None), torch.randn(16, D)
    a, b = losses(plain, batch, eps), losses(same, batch, eps)
    assert a.keys() <= b.keys()
    for term in a:
        assert torch.isclose(a[term], b[term], rtol=1e-5), term
    a["loss"].backward(), b["loss"].backward()
    for p, q in zip(plain.parameters(), same.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", BUILD)
def test_what_is_watched_stays_at_beta_1(name):
    torch.manual_seed(0)
    model, batch, eps = (BUILD[name](beta=1.0).double(), (shapes(16).double(), None),
                         torch.randn(16, D).double())
    before = losses(model, batch, eps)
    model.beta.fill_(5.0)
    after = losses(model, batch, eps)
    assert isinstance(model, VAE) and after["neg_elbo"] == before["neg_elbo"]
    taxed = after["kl"] if name == "beta_vae" else after["total_correlation"]
    assert torch.isclose(after["loss"] - before["loss"], 4 * taxed, rtol=1e-6)


def test_the_penalty_of_the_kl():
    kl = torch.tensor([0.1, 0.4, 3.0])
    assert torch.isclose(kl_penalty(kl, torch.tensor(2.0)), torch.tensor(7.0))
    assert torch.isclose(kl_penalty(kl, 1.0, free_bits=0.5), torch.tensor(4.0))
    for capacity in (0.0, 2.0, 3.5, 9.0):
        assert torch.isclose(kl_penalty(kl, 3.0, capacity=capacity),
                             torch.tensor(3 * abs(3.5 - capacity)), atol=1e-5)


def test_the_decomposition_adds_up_and_knows_a_gaussian():
    """Means spread as N(0, C) and one variance: each part has a closed form; here for
    three latents, one of them alone."""
    torch.manual_seed(0)
    C, s, n = (torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.9, 0.0], [0.0, 0.0, 0.5]]), 0.6,
               3000)
    mu = torch.randn(n, 3) @ torch.linalg.cholesky(C).T
    q, prior = (diagonal_gaussian(mu, torch.full_like(mu, 2 * np.log(s))),
                diagonal_gaussian(torch.zeros(3), torch.zeros(3)))
    z, S = q.sample(), C + s**2 * torch.eye(3)
    known = torch.stack([0.5 * S.logdet() - 3 * np.log(s),
                         0.5 * (S.diagonal().log().sum() - S.logdet()),
                         0.5 * (S.diagonal() - 1 - S.diagonal().log()).sum()])
    found = torch.stack(kl_decomposition(q, z, prior, n))
    assert torch.allclose(found, known, atol=0.1) and torch.isclose(
        found.sum(), (q.log_prob(z) - prior.log_prob(z)).mean(), atol=1e-4)
    alone = diagonal_gaussian(mu[:, 2:], torch.full((n, 1), 2 * np.log(s)))
    # one latent depends on no other
    assert abs(kl_decomposition(alone, z[:, 2:],
                                diagonal_gaussian(torch.zeros(1), torch.zeros(1)),
                                n).total_correlation) < 1e-5


def test_the_three_parts_are_logged_under_the_names_of_the_decomposition():
    torch.manual_seed(0)
    model, batch, eps = BUILD["beta_tcvae"](), (shapes(16), None), torch.randn(16, D)
    terms = losses(model, batch, eps)
    q = model.encode(batch[0])
    parts = kl_decomposition(q, q.mean + q.stddev * eps, model.prior(), N)._asdict()
    assert list(parts) == ["index_code_mi", "total_correlation", "dimension_wise_kl"]
    for name, part in parts.items():
        assert torch.isclose(terms[name], part, atol=1e-5), name


@pytest.mark.parametrize("kind, settings",
                         [(BetaVAE, dict(free_bits=0.2, capacity=1.0)),
                          (BetaTCVAE, dict(dataset_size=N, estimator="weighted"))])
def test_a_model_can_be_made_from_its_parts(kind, settings):
    "By the constructor alone: what `beta_vae` and `beta_tcvae` build is no other."
    def parts():
        return *mlp_networks(SHAPE, D, (16,)), StandardNormal(D), Bernoulli(), SHAPE, D
    torch.manual_seed(3)
    ours = kind(*parts(), beta=2.0, **settings)
    torch.manual_seed(3)
    theirs = (beta_vae if kind is BetaVAE else beta_tcvae)(
        SHAPE, D, beta=2.0, hidden=(16,), **settings)
    batch, eps = (shapes(16), None), torch.randn(16, D)
    a, b = losses(ours, batch, eps), losses(theirs, batch, eps)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert ours.data_shape == SHAPE and ours.latent_dim == D


def scores(codes, factors):
    return mig(codes, factors).mean, factorvae_score(codes, factors, 600, 600)


def test_disentanglement_scores_know_a_perfect_code_and_one_that_knows_nothing():
    torch.manual_seed(0)
    factors = torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(60, 1)
    perfect = torch.cat([factors.double(), 0.01 * torch.randn(1200, 1).double()], 1)
    assert scores(perfect, factors) == (pytest.approx(1, abs=0.05), 1.0)
    # order and sign do not count
    assert scores(-perfect[:, [2, 1, 0]], factors) == (pytest.approx(1, abs=0.05), 1.0)
    gap, share = scores(perfect[torch.randperm(1200)], factors)
    assert gap < 0.05 and abs(share - 1 / 2) < 5 * (1 / 4 / 600)**0.5
    assert scores(torch.zeros(1200, 3), factors) == (0.0, 0.0)


@pytest.mark.parametrize("score", [mig, factorvae_score])
@pytest.mark.parametrize("codes, factors",
                         [(torch.rand(5, 2), torch.zeros(4, 1).long()),
                          (torch.rand(5), torch.zeros(5, 1).long()),
                          (torch.rand(5, 2), torch.zeros(5).long())],
                         ids=["rows missing", "codes in one row", "factors in one row"])
def test_scores_refuse_codes_and_factors_that_do_not_belong_together(
        score, codes, factors):
    with pytest.raises(ValueError, match="both need one row for each example"):
        score(codes, factors)


def test_codes_of_a_diverged_model_are_refused():
    with pytest.raises(ValueError, match="diverged"):
        mig(torch.tensor([[0.0], [float("inf")]]), torch.tensor([[0], [1]]))


def test_bins_are_of_equal_width_and_the_largest_value_is_in_the_last():
    codes = torch.tensor([[0.0, 3.0], [0.24, 3.0], [0.26, 3.0], [1.0, 3.0]])
    assert _discretize(codes, bins=4).tolist() == [[0, 0], [0, 0], [1, 0], [3, 0]]


def steps(model, step_config, moved=None):
    "Losses of four steps on fixed batches and noise of one seed."
    torch.manual_seed(0)
    optimizers = make_optimizers(model, torch.device("cpu"))
    for group in optimizers[0].param_groups:
        group["lr"].fill_(1e-3)
    stepper, rows = AcceleratedStep(model, optimizers, 16, None, step_config), []
    for i in range(4):
        if moved:
            getattr(model, moved).fill_(float(i))
        x = shapes(16, i)
        torch.manual_seed(i)
        rows.append(stepper((x, torch.zeros(16, dtype=torch.int64)))["loss"].item())
    return torch.tensor(rows)


def fresh(name, **kw):
    torch.manual_seed(1)
    return BUILD[name](hidden=(32,), **kw)


@pytest.mark.parametrize("name", BUILD)
def test_bfloat16_is_the_same_within_tolerance(name):
    plain, half = (steps(fresh(name, beta=3.0), s)
                   for s in (StepConfig(), StepConfig(precision="bf16")))
    assert torch.allclose(plain, half, rtol=0.03) and not torch.equal(plain, half)


@pytest.mark.parametrize("name", BUILD)
def test_a_compiled_step_is_the_same_step(name):
    plain, program = (steps(fresh(name, beta=3.0), s)
                      for s in (StepConfig(), StepConfig(compile=True)))
    assert torch.allclose(plain, program, rtol=1e-3)


def test_a_compiled_step_sees_what_a_schedule_moves():
    plain, program = (steps(fresh("beta_vae", beta=3.0), s, "capacity")
                      for s in (StepConfig(), StepConfig(compile=True)))
    assert torch.allclose(plain, program, rtol=1e-3)
    assert not torch.allclose(plain, steps(fresh("beta_vae", beta=3.0), StepConfig()),
                              rtol=1e-3)


@pytest.mark.parametrize("name", BUILD)
def test_saved_and_loaded(name, tmp_path):
    torch.manual_seed(0)
    model, x = BUILD[name](beta=2.5, hidden=(16,)), shapes(8)
    fit(model, examples(), epochs=1, batch_size=32, progress=False, compile=False,
        checkpoint=tmp_path / "run.safetensors")
    save_model(model, tmp_path / "model.safetensors")
    for file in ("model.safetensors", "run.safetensors"):
        again = load_model(tmp_path / file)
        assert (type(again) is type(model) and again.beta == 2.5
                and again.config == model.config)
        assert (torch.equal(again.reconstruct(x), model.reconstruct(x))
                and again.sample(2).shape == (2, *SHAPE))


def test_free_bits_and_capacity_are_kept_in_the_config(tmp_path):
    save_model(beta_vae(SHAPE, D, free_bits=0.3, capacity=2.0),
               tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    assert (again.free_bits, again.capacity.item()) == (pytest.approx(0.3), 2.0)


def test_a_schedule_moves_the_capacity_and_ends_where_it_says():
    torch.manual_seed(0)
    model = beta_vae(SHAPE, D, beta=30.0, hidden=(32,))
    history = fit(model, examples(), epochs=40, batch_size=16, lr=1e-2,
                  schedules=dict(capacity=linear(0.0, 3.0, until=0.7)), progress=False,
                  compile=False)
    assert abs(history["kl"][-1] - 3) < 0.5 and model.capacity == 3.0
    assert torch.isclose(kl_by_latent(model.encode(shapes())).sum(1).mean(),
                         torch.tensor(3.0), atol=0.7)


def test_cycles():
    s = cyclical(2.0, cycles=5, rise=0.25)
    values = [s(t) for t in np.linspace(0, 0.999, 1000)]
    assert (min(values) == 0 and max(values) == 2 and s(1) == 2
            and sum(b < a for a, b in zip(values, values[1:])) == 4)
    assert abs(np.mean(values) - 2 * (0.25 / 2 + 0.75)) < 0.01


def test_another_training_set_than_n_is_refused():
    with pytest.raises(DataError, match="give dataset_size=64"):
        fit(beta_tcvae(SHAPE, D, dataset_size=60_000), examples(), epochs=1,
            batch_size=32, progress=False)
    # of those to watch there may be any number
    fit(beta_tcvae(SHAPE, D, dataset_size=N, hidden=(8,)), examples(), examples()[:10],
        epochs=1, batch_size=32, progress=False, compile=False)


def test_the_command_line_trains_and_samples(tmp_path, capsys):
    words = ("train --model beta_vae --data sprites --epochs 1 --batch-size "
             "1024 --device cpu --precision fp32 --compile off --set "
             "hidden=[16] --set beta=2".split())
    main([*words, "--out", str(tmp_path / "run")])
    assert "nats per example" in capsys.readouterr().out
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.beta == 2 and model.data_shape == (1, 32, 32)
    main(["sample", str(tmp_path / "run"), "-n", "4"])
    assert (tmp_path / "run" / "samples.png").exists()


def test_the_published_file_and_the_kept_part_give_the_same_images():
    """The published order, all 737,280 of it, with a number in place of an image; and
    the factors of what is kept."""
    kept = datasets._kept_part(np.arange(737_280))
    assert kept.shape == (46_080,)
    orientation, x, y = kept // 1024 % 40, kept // 32 % 32, kept % 32
    values = sprites.sprite_factors(torch.arange(46_080)).numpy()
    assert (values == np.stack([kept // (6 * 40 * 1024), kept // (40 * 1024) % 6,
                                orientation // 4, x // 2, y // 2], 1)).all()
    assert not (orientation % 4).any() and not (x % 2).any() and not (y % 2).any()


def test_the_bench_pairs_by_seed():
    d = disentanglement.paired([0.1, 0.2, 0.3, 0.1, 0.2], [0.2, 0.3, 0.5, 0.1, 0.4])
    assert (d["mean"] == pytest.approx(0.12) and d["interval"] == pytest.approx(
                [0.12 - 2.776 * 0.0374166, 0.12 + 2.776 * 0.0374166], abs=1e-5)
            and d["separated"])
    assert not disentanglement.paired([0.1, 0.2], [0.2, 0.1])["separated"]


def test_the_bench_runs_goes_on_and_refuses_other_settings(
        tmp_path, capsys, monkeypatch):
    words = ["--quick", "--world", "ellipses", "--out", str(tmp_path / "out"), "--runs",
             str(tmp_path / "runs")]
    images = Examples((torch.rand(96, 1, 32, 32) > 0.8).byte() * 255,
                      torch.randint(46_080, (96,)))
    monkeypatch.setattr(disentanglement, "world", lambda chosen, quick: (
        (images[:64], images[64:]), ["scale", "x", "y"],
        lambda y: sprites.sprite_factors(y)[:, [1, 3, 4]]))
    disentanglement.main([*words, "--minutes", "0"])
    assert "0 of 8 runs of ellipses are done" in capsys.readouterr().out
    disentanglement.main(words)
    path, = (tmp_path / "out").iterdir()
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [r["model"] for r in found["rows"]] == list(disentanglement.models) and all(
        r["seeds"] == [0, 1] for r in found["rows"]) and len(found["differences"]) == 6
    assert ({"command", "commit", "seeds", "versions", "protocol"} <= set(found)
            and found["quick"] and found["factors"] == ["scale", "x", "y"])
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.json")}
    # finds every run
    disentanglement.main(words)
    assert before == {p: p.stat().st_mtime_ns for p in before} and len(before) == 8
    monkeypatch.setitem(disentanglement.worlds["ellipses"], "lr", 1e-3)
    with pytest.raises(SystemExit, match="other settings"):
        disentanglement.main(words)


def test_processes_of_the_bench_share_the_seeds_and_the_last_writes(
        tmp_path, monkeypatch):
    images = Examples((torch.rand(96, 1, 32, 32) > 0.8).byte() * 255,
                      torch.randint(46_080, (96,)))
    monkeypatch.setattr(disentanglement, "world", lambda chosen, quick: (
        (images[:64], images[64:]), ["scale", "x", "y"],
        lambda y: sprites.sprite_factors(y)[:, [1, 3, 4]]))
    words = ["--quick", "--world", "ellipses", "--out", str(tmp_path / "out"), "--runs",
             str(tmp_path / "runs"), "--seeds"]
    disentanglement.main([*words, "1"])
    assert (not (tmp_path / "out").exists()
            and len([*(tmp_path / "runs").rglob("*-1.json")]) == 4)
    disentanglement.main([*words, "0"])
    path, = (tmp_path / "out").iterdir()
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(r["model"], r["seeds"]) for r in rows] == [
        (model, [0, 1]) for model in disentanglement.models]
