"""The conditional VAE: it is a VAE where the condition says nothing, and goes through
every way of running and saving that a VAE goes through."""
import json, sys
from pathlib import Path

import pytest, torch
import torch.distributions as D
from torch import nn

from vae_course import evaluation, run
from vae_course.classifier import Classifier
from vae_course.cvae import CVAE, Quadrants, Unconditional, complete, mlp_cvae
from vae_course.data import Batches, DataError, Examples
from vae_course.datasets import load
from vae_course.elbo import mlp_vae
from vae_course.latent import diagonal_gaussian
from vae_course.model import Unsupported
from vae_course.noise import Noise, replayed_noise
from vae_course.acceleration import AcceleratedStep
from vae_course.step import make_optimizers, StepConfig
from vae_course.training import build, fit, load_model, registry, save_model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import common, cvae_labels, cvae_quadrants     # noqa: E402 (scripts, not a package)

shape = (1, 8, 8)
specs = dict(labels={"labels": 4}, number={"number": [-30, 30]},
             columns=[{"labels": 4}, {"labels": 2}, {"number": [-30, 30]}],
             quadrants={"quadrants": ["lower left"]})
every = ("encoder", "decoder", "prior")


def model_of(name, **changes):
    torch.manual_seed(0)
    return mlp_cvae(shape, specs[name], latent_dim=4, hidden=(32,), **changes)


def examples(name, n=100):
    numbers = torch.Generator().manual_seed(0)
    x, label, slant = torch.rand(n, *shape, generator=numbers), torch.randint(
        0, 4, (n,), generator=numbers), torch.rand(n, generator=numbers) * 60 - 30
    return Examples(x, dict(labels=label, number=slant,
                            columns=torch.stack([label.float(), label % 2, slant], 1),
                            quadrants=label)[name])


def losses(model, x, y, eps):
    "The terms at z = mu + sigma eps."
    with replayed_noise(Noise([eps])):
        return model.losses((x, y))


def layers(net):
    return [m for m in net.modules() if isinstance(m, nn.Linear)]


@torch.no_grad()
def deafened(model, name):
    "`model` with the condition's weights at zero, and the VAE with its other weights."
    vae = mlp_vae(shape, latent_dim=4, hidden=(32,))
    for old, part in ((vae.encoder, model.encoder), (vae.decoder, model.decoder.net)):
        if name == "quadrants":
            net, own = layers(part.net), layers(old)[0].in_features
            net[0].weight[:, own:] = 0
            layers(old)[0].weight.copy_(net[0].weight[:, :own])
            layers(old)[0].bias.copy_(net[0].bias)
            pairs = zip(layers(old)[1:], net[1:], strict=True)
        else:
            part.scale.weight.zero_(), part.shift.weight.zero_()
            pairs = zip(layers(old), layers(part.first) + layers(part.after),
                        strict=True)
        for a, b in pairs:
            a.load_state_dict(b.state_dict())
    return vae


@pytest.mark.parametrize("name", specs)
def test_with_the_weights_of_the_condition_at_zero_it_is_a_vae(name):
    """Same images, same noise, same numbers; and the condition may change without a
    trace."""
    model, data = model_of(name), examples(name)
    before = losses(model, data.x, data.y, torch.zeros(100, 4))["loss"]
    vae = deafened(model, name)
    assert losses(model, data.x, data.y, torch.zeros(100, 4))["loss"] != before
    # a VAE counts every pixel
    model.condition.unseen = None
    eps = torch.randn(100, 4)
    a, b = losses(vae, data.x, None, eps), losses(model, data.x, data.y, eps)
    assert a.keys() == b.keys()
    for term in a:
        assert torch.allclose(a[term], b[term], rtol=1e-5), term
    c, other = (torch.roll(model.condition.from_batch(data.x, data.y), shift, 0)
                for shift in (0, 1))
    assert (
        torch.equal(model.decode(eps, c).mean, model.decode(eps, other).mean)
        and torch.equal(model.encode(data.x, c).mean, model.encode(data.x, other).mean))


@pytest.mark.parametrize("sees", [every, ("encoder", "decoder"), ("decoder", "prior"),
                                  ("decoder",), ("prior",), ("encoder",)], ids=" ".join)
@pytest.mark.parametrize("name", specs)
def test_every_weight_is_used(name, sees):
    """None may be left out of the loss: with several processes the others would wait
    for its gradient."""
    model, data = model_of(name, sees=sees), examples(name)
    model.losses((data.x, data.y))["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    given = {part for part, module in dict(
        encoder=model.encoder, decoder=model.decoder.net, prior=model.prior_net).items()
             if not isinstance(module, Unconditional)}
    assert given == set(sees)


@pytest.mark.parametrize("name", specs)
def test_it_comes_back_from_a_file(name, tmp_path):
    model, data, eps = model_of(name, sees=every), examples(name), torch.randn(100, 4)
    again = load_model(save_model(model, tmp_path / "model.safetensors"))
    assert (
        isinstance(again, CVAE) and again.config == model.config and not again.training)
    assert torch.equal(losses(again, data.x, data.y, eps)["loss"],
                       losses(model, data.x, data.y, eps)["loss"])
    assert json.loads(json.dumps(model.config)) == model.config
    assert isinstance(build(**model.config), CVAE) and "cvae" in registry


def steps_of(step_config, name):
    """Every step's terms on 100 examples in batches of 16, the same order and noise for
    all ways; and the model."""
    model, device = model_of(name, sees=every), torch.device("cpu")
    optimizers = make_optimizers(model, device)
    optimizers[0].param_groups[0]["lr"].fill_(3e-3)
    batches = Batches(examples(name), 16, shuffle=True,
                      generator=torch.Generator().manual_seed(1))
    stepper = AcceleratedStep(model, optimizers, 16, None, step_config)
    model.train()
    def terms(i, batch):
        torch.manual_seed(i)
        return torch.stack(list(stepper(batch).values()))
    return torch.stack([terms(i, batch) for i, batch in enumerate(batches)]), model


@pytest.mark.parametrize("name", ["columns", "quadrants"])
def test_compiled_steps_agree_with_eager_ones(name):
    (eager, _), (made, _) = (steps_of(StepConfig(), name),
                             steps_of(StepConfig(compile=True), name))
    assert (eager - made).abs().max() < 1e-3 * eager.abs().max()


@pytest.mark.parametrize("name", specs)
def test_bfloat16_agrees_with_float32(name):
    (full, _), (half, model) = (steps_of(StepConfig(), name),
                                steps_of(StepConfig("bf16"), name))
    # bfloat16 keeps 8 bits: 0.4 % a number
    assert 0 < (full - half).abs().max() < 0.01 * full.abs().max()
    assert all(p.dtype == torch.float32 for p in model.parameters())


bad = dict(
    counted_from_one=("labels", torch.tensor([1, 4]), "do they count from 1"),
    no_label=("labels", torch.tensor([-1, 3]), "leave those examples out"),
    half=("labels", torch.tensor([0.5, 1.0]), "whole numbers"),
    not_one_hot=("labels", torch.ones(2, 4), "not one-hot"),
    too_wide=("labels", torch.eye(5)[:2], r"one-hot \(B, 4\)"),
    too_large=("number", torch.tensor([0.0, 31.0]), "from 0 to 31"),
    nan=("number", torch.tensor([0.0, float("nan")]), "numbers from"),
    column=("columns", torch.tensor([[0, 2, 0.0], [1, 1, 0.0]]), "column 1 of train"),
    few=("columns", torch.zeros(2, 2), "a column for each"))


@pytest.mark.parametrize("case", bad)
def test_a_bad_condition_is_refused_before_the_first_step(case, monkeypatch):
    name, y, words = bad[case]
    monkeypatch.setattr(run.Run, "before_step",
                        lambda self, step: pytest.fail("a step was taken"))
    model = model_of(name)
    # a `DataError` is one
    with pytest.raises(ValueError, match=words):
        fit(model, Examples(torch.rand(2, *shape), y), epochs=1, batch_size=2,
            progress=False, device="cpu")
    with pytest.raises(ValueError, match=words.replace("train", "valid")):
        fit(model, examples(name), valid=Examples(torch.rand(2, *shape), y), epochs=1,
            batch_size=50, progress=False, device="cpu")
    with pytest.raises(ValueError, match=words.replace("train", "the condition")):
        model.sample(2, y)


@pytest.mark.parametrize("name", specs)
def test_a_missing_condition_is_named(name):
    model, x = model_of(name), torch.rand(2, *shape)
    for ask in (lambda: model.encode(x), lambda: model.decode(torch.zeros(2, 4)),
                lambda: model.prior(), lambda: model.sample(2),
                lambda: model.reconstruct(x)):
        with pytest.raises(Unsupported, match="condition is missing|has a condition"):
            ask()


@pytest.mark.parametrize("seen", [["upper left"], ["lower left", "upper left"],
                                  ["lower left", "upper left", "upper right"]], ids=len)
@pytest.mark.parametrize("data_shape", [(1, 7, 9), (3, 8, 6)], ids=str)
def test_unseen_pixels_never_reach_the_prior_or_the_loss_seen_ones(seen, data_shape):
    """Odd sides, colour: the seen pixels alone decide p(z|c), the unseen ones alone are
    scored, and a completion keeps what was given."""
    model = mlp_cvae(data_shape, {"quadrants": seen}, latent_dim=3, hidden=(8,),
                     sees=("decoder", "prior"))
    x, eps, unseen = (torch.rand(5, *data_shape), torch.randn(5, 3),
                      model.condition.unseen)
    assert model.condition.width + int(unseen.sum()) == x[0].numel()
    other = torch.where(unseen > 0, torch.rand_like(x), x)
    assert torch.equal(model.prior(x).mean, model.prior(other).mean)
    p, z = model.decode(eps, x), torch.where(unseen > 0, x, torch.rand_like(x))
    assert (torch.equal(p.log_prob(x), p.log_prob(z))
            and not torch.equal(p.log_prob(x), p.log_prob(other)))
    made = complete(model, x, n=4)
    assert made.shape == (4, *x.shape) and torch.equal(
        torch.where(unseen > 0, 0, made[0]), torch.where(unseen > 0, 0, x))


def test_the_classifier_refuses_other_labels(tmp_path):
    data = examples("labels")
    with pytest.raises(DataError, match="knows 0 to 2"):
        fit(Classifier(shape, 3), data, epochs=1, batch_size=50, progress=False,
            device="cpu")
    model = Classifier(shape, 4).eval()
    assert torch.equal(load_model(save_model(model, tmp_path / "judge"))(data.x),
                       model(data.x))


one_of = dict(labels=2, number=11.0, columns=[1, 0, -7.0],
              quadrants=torch.rand(shape, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("sees", [every, ("encoder", "decoder")], ids=" ".join)
@pytest.mark.parametrize("name", specs)
def test_held_at_a_condition_it_is_the_model_with_that_condition(name, sees):
    model = model_of(name, sees=sees).eval()
    with torch.no_grad():
        for p in model.parameters(): p.mul_(2)
    held, x = model.at(one_of[name]), torch.rand(3, *shape)
    c, z = model.as_condition(one_of[name], 3), torch.randn(3, 4)
    assert not held.conditional and not held.training
    for ours, theirs in ((held.encode(x), model.encode(x, c)),
                         (held.decode(z), model.decode(z, c)),
                         (held.prior().expand((3,)), model.prior(c))):
        assert torch.allclose(ours.mean, theirs.mean, atol=1e-6)
        value = z if ours.event_shape == (4,) else x
        assert torch.allclose(ours.log_prob(value), theirs.log_prob(value), rtol=1e-5)
    assert torch.allclose(held.prior().stddev, model.prior(c).stddev[0], rtol=1e-5)
    assert held.prior().batch_shape == () and held.decode(z[0]).batch_shape == (1,)
    assert torch.allclose(held(x), model(x, c)) and torch.allclose(
        held.reconstruct(x), model.reconstruct(x, c))
    torch.manual_seed(0)
    drawn = held.sample(3)
    torch.manual_seed(0)
    assert torch.allclose(drawn, model.sample(3, c), atol=1e-5)
    y, eps = (None if name == "quadrants" else c), torch.randn(3, 4)
    if name == "quadrants": return                    # c of a batch is x itself
    a, b = losses(held, x, None, eps), losses(model, x, y, eps)
    # the KL of the held one is that of the draw
    assert torch.isclose(a["reconstruction"], b["reconstruction"], rtol=1e-5)


class Two(nn.Module):
    "p(z|c) as a mixture of two Gaussians."
    def __init__(self, width):
        super().__init__()
        self.net = nn.Linear(width, 2 * 4)

    def forward(self, e):
        mu = 3 * self.net(e).unflatten(-1, (2, 4))
        return D.MixtureSameFamily(
            D.Categorical(logits=mu[..., 0]), diagonal_gaussian(mu, 0 * mu),
            validate_args=False)


def test_held_at_a_condition_a_prior_of_another_kind_stays_what_it_is():
    model, z = model_of("labels", sees=every).eval(), torch.randn(7, 4)
    model.prior_net = Two(4)
    held, p = model.at(2), model.prior(torch.tensor([2]))
    assert torch.allclose(held.prior().log_prob(z), p.log_prob(z[:, None])[:, 0])
    assert held.prior().log_prob(z[0]).shape == ()
    torch.manual_seed(0)
    drawn = held.prior().sample((5,))
    torch.manual_seed(0)
    assert torch.equal(drawn, p.sample((5,))[:, 0]) and held.prior().sample().shape == (
        4,)
    assert torch.equal(held.prior().mean, p.mean[0]) and held.sample(3).shape == (
        3, *shape)
    x = (examples("labels").x > 0.5).float()
    assert evaluation.nll(held, Examples(x, torch.zeros(100).long()), 5).mean > 0


@pytest.mark.parametrize("name", specs)
def test_the_temperature_multiplies_the_deviations_of_the_prior(name):
    model = model_of(name, sees=every).eval()
    c = model.as_condition(one_of[name], 5)
    torch.manual_seed(0)
    p = model.prior(c)
    z, cold = p.sample(), None
    for temperature in (0.0, 0.5, 2.0):
        torch.manual_seed(0)
        made = model.sample(5, c, temperature=temperature)
        known = model.decode(p.mean + temperature * (z - p.mean), c).mean
        assert torch.allclose(made, known, atol=1e-6)
        cold = made if temperature == 0 else cold
    # nothing is left of chance
    assert torch.allclose(cold, cold[:1].expand_as(cold), atol=1e-6)


def test_new_is_what_the_examples_become():
    model, data = model_of("labels"), examples("labels", 6)
    x, c, new = data.x, data.y, (data.y + 1) % 4
    known = model.decode(model.encode(x, c).mean, new).mean
    assert torch.allclose(model.reconstruct(x, c, new=new), known)
    assert not torch.allclose(model.reconstruct(x, c), known, atol=1e-4)


# ---------------------------------------------------------------- files of version
# 0.1.0

def test_a_model_of_version_0_1_0_loads():
    model = load_model(Path(__file__).parent / "files" / "cvae-0.1.0.safetensors")
    assert (isinstance(model, CVAE) and model.condition.shape == (2,)
            and model.latent_dim == 2)
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))[:3]
    c = torch.tensor([[0.0, 28.879287719726562], [2.0, -15.209369659423828],
                      [1.0, -10.071762084960938]])
    means = torch.tensor([[0.5203415155, -0.3535251617], [0.9409188032, -0.6573455334],
                          [0.5526530743, -0.4242039621]])
    spreads = torch.tensor([[1.3060595989, 1.0590479374], [1.1509796381, 0.9902937412],
                            [1.2769992352, 0.9369612336]])
    assert (torch.allclose(model.encode(x, c).mean, means, atol=1e-5)
            and torch.allclose(model.prior(c).stddev, spreads, atol=1e-5))
    assert torch.allclose(model.reconstruct(x, c).mean((1, 2, 3)),
                          torch.tensor([0.4938661456, 0.4717324972, 0.5077050924]),
                          atol=1e-5)


@pytest.mark.parametrize("name", specs)
def test_the_weights_keep_the_names_of_version_0_1_0(name):
    part = {"net.0", "net.2"} if name == "quadrants" else {"first", "after.1.0"}
    bias = lambda layers: {f"{layer}.{p}" for layer in layers
                           for p in ("weight", "bias")}
    film = set() if name == "quadrants" else {"scale.weight", "shift.weight"}
    expected = ({f"{where}.{p}" for where in ("encoder", "decoder.net")
                 for p in bias(part) | film}
                | {f"prior_net.{p}" for p in bias({"net.0", "net.2"})})
    assert model_of(name, sees=every).state_dict().keys() == expected


# ---------------------------------------------------------------- the benches

def test_the_plain_network_counts_unseen_pixels_alone():
    model = cvae_quadrants.Plain(Quadrants(["lower left"], shape), shape, [8])
    x = torch.rand(3, *shape)
    loss = model.losses((x, None))["loss"]
    changed = torch.where(model.condition.unseen > 0, 1 - x, x)
    assert model.losses((changed, None))["loss"] != loss and 0 < loss < 48 * 2


@pytest.mark.parametrize("sees", [["encoder", "decoder"], ["decoder"]], ids=" ".join)
def test_the_joined_model_of_the_bench_hears_the_label_where_it_says(sees):
    model, x = (cvae_labels.joined(cvae_labels.settings | dict(sees=sees), shape, 4),
                torch.rand(2, *shape))
    model.losses((x, torch.tensor([0, 3])))["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert (torch.equal(model.encode(x, torch.tensor([0, 0])).mean,
                        model.encode(x, torch.tensor([1, 1])).mean)
            == ("encoder" not in sees))
    assert not torch.equal(model.decode(torch.zeros(1, 10), torch.tensor([0])).mean,
                           model.decode(torch.zeros(1, 10), torch.tensor([1])).mean)


def test_joined_weights_of_the_label_start_as_wide_as_those_of_modulation():
    wide, narrow = (cvae_labels.joined(cvae_labels.settings | dict(joined=scale), shape,
                                       4) for scale in (1.0, True))
    for part in (lambda m: m.encoder.net[0], lambda m: m.decoder.net.net[0]):
        assert .9 < part(wide).weight[:, -4:].std() < 1.1
        assert part(narrow).weight[:, -4:].std() < .3
        assert part(wide).weight[:, :-4].std() < .3


def test_what_a_stored_file_has_is_not_trained_again(monkeypatch):
    numbers = dict.fromkeys(("agreement", "variety", "swap", "test", "training_seconds",
                             "cpu_seconds"), 1.0)
    old = dict(settings=cvae_labels.settings, data=load().name, commit="abc",
               device="another", vae=100.0, rows=[
                   dict(way=way, runs=[dict(way=way, seed=0, **numbers)])
                   for way in cvae_labels.ways])
    trained, wrote = [], []

    def one_run(way, seed, *rest):
        trained.append((way, seed))
        return dict(way=way, seed=seed, **numbers)
    monkeypatch.setattr(cvae_labels, "one_run", one_run)
    monkeypatch.setattr(cvae_labels, "judge_of", lambda *rest: (None, .99))
    result = cvae_labels.measure(old=old, limit=3, wrote=wrote.append)
    one, two = cvae_labels.first[:2]
    assert trained == [(one, 1), (one, 2), (two, 1)] and len(wrote) == 3
    assert [r["way"] for r in result["rows"]] == list(cvae_labels.ways)
    runs = next(r["runs"] for r in result["rows"] if r["way"] == one)
    assert [r["seed"] for r in runs] == [0, 1, 2] and result["commit"] == "abc"
    assert runs[0]["device"] == "another" != runs[1]["device"]
    with pytest.raises(SystemExit, match="other settings"):
        cvae_labels.measure(old=old | dict(data="others"))


def test_the_rows_and_verdicts_of_made_up_runs():
    runs = [dict(kind="cvae", quadrants=1, seed=s, test=v, training_seconds=1.0,
                 cpu_seconds=1.0) for s, v in enumerate((70.0, 72.0, 71.0))]
    row = cvae_quadrants.row_of(runs, "cvae", 1)
    assert (
        row["test"] == common.summary([70.0, 72.0, 71.0]) and row["published"] == 71.8
        and row["seen"] == ["lower left"] and row["runs"] == runs)
    assert cvae_quadrants.row_of([dict(r, kind="short") for r in runs], "short",
                                 1)["published"] is None


def test_runs_of_other_settings_are_not_reused(tmp_path):
    run = dict(test=1.0, training_seconds=1.0, cpu_seconds=1.0)
    once = [cvae_quadrants.kept(lambda *a: run, tmp_path, None, "cvae", 1, 0, quick)
            for quick in (True, True)]
    assert once[0] == once[1] and once[0]["settings"]["quick"] and once[0]["commit"]
    with pytest.raises(SystemExit, match="other settings"):
        cvae_quadrants.kept(lambda *a: run, tmp_path, None, "cvae", 1, 0, False)
