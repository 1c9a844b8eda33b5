"""Priors, posteriors and layers beyond the Gaussian: every combination trains, is saved
and goes on where it was stopped; the bound is a bound; the gaps add up; bad input is
named; and the command line trains them on a folder."""
import itertools, math

import numpy as np
import pytest, torch
import torch.distributions as D
from PIL import Image
from torch import nn

from vae_course import cli
from vae_course.beyond_gaussian import (
    FlexibleVAE, FlowPosterior, FlowPrior, FullGaussian, InferenceGaps, RealNVP,
    TwoLayerVAE, VampPrior, flexible_vae, importance_weighted_losses, inference_gaps)
from vae_course.cvae import mlp_cvae
from vae_course.data import DataError, Examples
from vae_course.elbo import mlp_vae
from vae_course.evaluation import elbo, log_weights, nll, ppca_vae
from vae_course.latent import PPCA, StandardNormal
from vae_course.model import MixturePrior, Unsupported
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.training import build, fit, load_model, save_model
from vae_course.vq_vae import vq_vae

torch.set_num_threads(1)
SHAPE = (1, 6, 6)
KINDS = [dict(prior=p, posterior=q) for p, q in itertools.product(
    ("normal", "mixture", "vamp", "flow"), ("gaussian", "full", "flow"))]
LAYERS = [dict(ladder=ladder, k=k) for ladder in (False, True) for k in (1, 3)]


def digits(n=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *SHAPE, generator=g)
    return Examples((x < 0.3).float(), torch.arange(n) % 10)


def flexible(seed=0, latent_dim=3, **settings):
    torch.manual_seed(seed)
    small = dict(components=4, couplings=2, width=8) | settings
    return flexible_vae(SHAPE, latent_dim, (16,), **small)


def layered(seed=0, **settings):
    torch.manual_seed(seed)
    return TwoLayerVAE(SHAPE, (3, 2), (16,), between=8, **settings)


MAKE = ([pytest.param(lambda s=s, k=k: flexible(k=k, **s), id=f"{s['prior']}-"
                      f"{s['posterior']}-{k}") for s in KINDS for k in (1, 3)]
        + [pytest.param(lambda s=s: layered(**s), id=f"ladder={s['ladder']}-{s['k']}")
           for s in LAYERS])


# ---------------------------------------------------------------- the contract

@pytest.mark.parametrize("make", MAKE)
def test_it_trains_is_saved_and_is_the_same_again(make, tmp_path):
    model, data = make(), digits()
    first = elbo(model, data).mean
    fit(model, data, epochs=8, batch_size=16, progress=False, device="cpu", lr=1e-2)
    assert elbo(model, data).mean > first + 1
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert type(again) is type(model) and again.config == model.config
    assert torch.equal(nll(model, data, 5).values, nll(again, data, 5).values)
    assert model.sample(3).shape == model.reconstruct(data.x[:3]).shape == (3, *SHAPE)


@pytest.mark.parametrize("make", [lambda: flexible(prior="vamp", posterior="flow", k=2),
                                  lambda: layered(ladder=True, k=2)])
def test_a_run_goes_on_where_it_was_stopped(make, tmp_path):
    data, settings = digits(), dict(batch_size=16, progress=False, device="cpu")
    whole, parted = make(), make()
    fit(whole, data, epochs=2, **settings)

    class Stop(Exception): pass

    class StopAfterOne:
        def on_epoch(self, *_): raise Stop
    from vae_course.callbacks import Callback
    stop = type("StopAfterOne", (Callback,), dict(on_epoch=StopAfterOne.on_epoch))
    with pytest.raises(Stop):
        fit(parted, data, epochs=2, checkpoint=tmp_path / "run", callbacks=[stop()],
            **settings)
    again = make()
    fit(again, data, epochs=2, checkpoint=tmp_path / "run", **settings)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(),
                                                 again.parameters()))


@pytest.mark.parametrize("make", MAKE)
def test_bounds_are_ordered_and_the_objective_is_the_bound(make):
    model, data = make(), digits(32)
    fit(model, data, epochs=3, batch_size=16, progress=False, device="cpu", lr=1e-2)
    model.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        terms = importance_weighted_losses(model, data.x, 200)
        log_w = log_weights(model, data.x, 200)
    # five standard errors of both, over draws
    error = 5 * (2 * log_w.var(0).mean() / 200 / 32).sqrt().item() + 1e-3
    assert abs(terms["neg_elbo"].item() + log_w.mean().item()) < error
    assert terms["loss"] < terms["neg_elbo"]
    assert math.isclose(terms["neg_elbo"].item(),
                        (terms["reconstruction"] + terms["kl"]).item(), rel_tol=1e-5)


def test_one_draw_is_the_elbo_and_beta_weighs_the_kl():
    model, x = flexible(posterior="flow"), digits(16).x
    with torch.no_grad(), recorded_noise() as noise:
        one = importance_weighted_losses(model, x, 1)
    with torch.no_grad(), replayed_noise(noise):
        heavy = importance_weighted_losses(model, x, 1, beta=3.0)
    assert torch.isclose(one["loss"], one["neg_elbo"])
    assert torch.isclose(heavy["loss"], one["reconstruction"] + 3 * one["kl"])
    assert torch.isclose(heavy["neg_elbo"], one["neg_elbo"])


@pytest.mark.parametrize("k", [1, 2, 7])
def test_the_objective_is_the_logarithm_of_the_mean_weight(k):
    model, x = flexible(prior="mixture"), digits(8).x
    with torch.no_grad():
        with recorded_noise() as noise: loss = importance_weighted_losses(model, x, k)
        with replayed_noise(noise):
            q = model.encode(x)
            z = q.rsample((k,))
        w = (model.decode(z).log_prob(x).double() + model.prior().log_prob(z).double()
             - q.log_prob(z).double())
        by_hand = -(w - w.max(0)[0]).exp().mean(0).log() - w.max(0)[0]
    assert loss["loss"].item() == pytest.approx(by_hand.mean().item(), rel=1e-5)


# ---------------------------------------------------------------- the pieces

@pytest.mark.parametrize("dim", [2, 3, 4, 7])
def test_couplings_move_every_coordinate_and_begin_as_the_identity(dim):
    torch.manual_seed(0)
    flow = RealNVP(dim, couplings=4, width=8)
    base, z = StandardNormal(dim)(), torch.randn(5, dim)
    torch.testing.assert_close(flow(base).log_prob(z), base.log_prob(z))
    with torch.no_grad():
        for p in flow.parameters(): p.copy_(torch.randn_like(p))
    moved = z
    for step in flow(base).transforms: moved = step(moved)
    assert ((moved - z).abs() > 1e-4).all()


def test_a_context_is_read_and_broadcasts():
    torch.manual_seed(0)
    q = FlowPosterior(3, couplings=2, width=8, context_dim=4)
    with torch.no_grad():
        for p in q.parameters(): p.copy_(torch.randn_like(p))
    out = torch.randn(5, q.numbers)
    other = out.clone()
    other[:, -4:] += 1
    z = torch.randn(7, 5, 3)
    assert q(out).log_prob(z).shape == (7, 5)
    assert not torch.allclose(q(out).log_prob(z), q(other).log_prob(z))
    # and beside components, as in a mixture of flows
    assert q(out).log_prob(torch.randn(9, 1, 3)).shape == (9, 5)
    for i in range(5):
        torch.testing.assert_close(q(out).log_prob(z)[:, i],
                                   q(out[i:i + 1]).log_prob(z[:, i:i + 1])[:, 0],
                                   rtol=1e-4, atol=1e-3)


def test_the_full_covariance_is_that_of_its_draws():
    torch.manual_seed(0)
    make = FullGaussian(3)
    q = make(torch.randn(make.numbers))
    z = q.sample((200_000,))
    assert q.scale_tril.tril().equal(q.scale_tril)
    assert torch.allclose(torch.cov(z.T), q.covariance_matrix, atol=0.05
                          * q.covariance_matrix.abs().max().item())


def test_a_vamp_prior_begins_where_it_is_told_and_its_inputs_learn():
    model, data = flexible(prior="vamp"), digits()
    model.prior_net.start_from(data.x)
    begun = model.prior_net.pseudo_inputs.detach().clone()
    assert all((data.x == u).flatten(1).all(1).any() for u in begun)
    fit(model, data, epochs=1, batch_size=16, progress=False, device="cpu")
    assert not torch.equal(begun, model.prior_net.pseudo_inputs)


def test_two_layers_mix_gaussians():
    "log p(bottom) by a sum over many tops is that of draws from both layers."
    torch.manual_seed(0)
    model = TwoLayerVAE(SHAPE, (1, 1), (8,), between=8)
    with torch.no_grad():
        for p in model.down.parameters(): p.copy_(0.4 * torch.randn_like(p))
        _, bottom = model.prior().sample((200_000,))
        top = model.prior().first.sample((2000,))
        line = torch.linspace(-8, 8, 400)[:, None, None]
        p = model.prior().second(top).log_prob(line).exp().mean(1)
    cell = (line[1] - line[0]).item()
    assert (p.sum() * cell).item() == pytest.approx(1, abs=0.01)
    mean = (p * line[:, 0, 0]).sum() * cell
    # 2,000 tops, five standard errors
    assert abs(mean - bottom.mean()) < 5 * bottom.std() / 2000**0.5


@pytest.mark.parametrize("ladder", [False, True])
def test_the_order_of_a_pair_is_top_and_bottom(ladder):
    model, x = layered(ladder=ladder), digits(5).x
    for p in (model.prior(), model.encode(x)):
        top, bottom = p.sample((4,))
        assert top.shape[-1] == 2 and bottom.shape[-1] == 3
        assert p.log_prob((top, bottom)).shape == top.shape[:-1]
    top, bottom = model.encode(x).mode
    assert top.shape == (5, 2) and bottom.shape == (5, 3)


# ---------------------------------------------------------------- the gaps

def test_of_a_linear_model_the_gaps_are_known():
    "In probabilistic PCA no q beats the Gaussian; the encoder's part is known."
    torch.manual_seed(0)
    x = torch.randn(400, 2) @ torch.randn(2, 8) + 0.5 * torch.randn(400, 8)
    ppca = PPCA.fit(x, 2)
    for widen, shift in ((1.0, 0.0), (1.5, 0.5)):
        model = ppca_vae(ppca, widen, shift)
        gaps = inference_gaps(model, x[:50].double(), steps=300, samples=2000)
        owed = 2 * (widen**2 - 1 - 2 * math.log(widen) + shift**2) / 2
        assert gaps.amortization.mean == pytest.approx(owed, abs=0.05)
        assert gaps.approximation.mean == pytest.approx(0, abs=0.03)
        true = -ppca.log_prob(x[:50]).mean().item()
        assert gaps.nll.mean == pytest.approx(true, abs=0.05)
        total = gaps.nll.mean + gaps.approximation.mean + gaps.amortization.mean
        assert gaps.neg_elbo.mean == pytest.approx(total, abs=1e-6)


def test_looking_for_the_gaps_leaves_the_model_alone():
    model, x = flexible(posterior="flow", prior="vamp").train(), digits(6).x
    before, random = [p.clone() for p in model.parameters()], torch.get_rng_state()
    one, two = (inference_gaps(model, x, 3, 2, samples=5) for _ in range(2))
    assert isinstance(one, InferenceGaps) and repr(one) == repr(two)
    assert all(map(torch.equal, before, model.parameters())) and model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    # a step never makes it worse
    assert (one.amortization.values >= 0).all()


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("make, words", [
    (lambda: RealNVP(1), "at least 2 latents"),
    (lambda: RealNVP(2, 0), "at least 1 coupling"),
    (lambda: flexible(latent_dim=1, posterior="flow"), "at least 2 latents"),
    (lambda: VampPrior(SHAPE, 0), "a mixture needs at least 1"),
    (lambda: flexible(prior="gauss"), "there are the priors normal, mixture, vamp, "),
    (lambda: flexible(posterior="iaf"), "the posteriors gaussian, full, flow"),
    (lambda: flexible(k=0), "needs at least one draw"),
    (lambda: flexible(prior="vamp", likelihood=dict(name="categorical", classes=3)),
     "need examples that are plain numbers"),
    (lambda: layered(k=0), "at least one draw"),
    (lambda: TwoLayerVAE(SHAPE, (3,)), r"two widths, \(bottom, top\)"),
    (lambda: mlp_vae(SHAPE, 2, (8,), prior=FlowPrior(3)),
     "prior of latent_dim=3 for a model of latent_dim=2"),
    (lambda: FlexibleVAE(nn.Flatten(), nn.Identity(), MixturePrior(3), nn.Identity(),
                         SHAPE, 2), r"got a prior over \(3,\) for a model of"),
    (lambda: flexible(prior="vamp").prior_net.start_from(torch.zeros(2, *SHAPE)),
     "give at least 4, of shape"),
    (lambda: flexible(prior="vamp").prior_net.start_from(torch.zeros(9, 1, 2, 2)),
     "give at least 4, of shape"),
    (lambda: FlowPosterior(3)(torch.zeros(2, 6)), "got 6 numbers for a flow"),
    (lambda: FullGaussian(3)(torch.zeros(2, 6)), "got 6 numbers for a full covariance"),
    (lambda: flexible().encode(torch.zeros(2, 1, 5, 5)), "this model needs"),
    (lambda: layered().encode(torch.zeros(2, 1, 5, 5)), "this model needs"),
    (lambda: layered().decode((torch.zeros(2, 2), torch.zeros(2, 9))),
     "the last dimension must be 3")])
def test_bad_input_is_named(make, words):
    with pytest.raises(ValueError, match=words): make()


def test_what_a_model_lacks_is_named():
    x = digits(4).x
    with pytest.raises(Unsupported, match="an encoder whose numbers a posterior takes"):
        inference_gaps(layered(), x)
    with pytest.raises(Unsupported, match="has none, or has a condition"):
        inference_gaps(mlp_cvae(SHAPE, {"labels": 10}, 2, (8,)), x)
    with pytest.raises(Unsupported, match=r"draws from q\(z\|x\) with a gradient"):
        importance_weighted_losses(vq_vae((1, 8, 8), n_codes=4, widths=[4]),
                                   torch.zeros(2, 1, 8, 8))
    for model in (flexible(), layered()):
        for method in (model.prior, lambda c: model.encode(x, c)):
            with pytest.raises(Unsupported, match="leave c out"): method(3)


def test_pixels_out_of_range_are_refused_before_training():
    bad = Examples(3 * torch.rand(20, *SHAPE), torch.zeros(20).long())
    for model in (flexible(), layered()):
        with pytest.raises(DataError, match="0 to 1"):
            fit(model, bad, epochs=1, progress=False, device="cpu")


# ---------------------------------------------------------------- the command line

@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    numbers = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(numbers.integers(0, 256, (8, 8), dtype=np.uint8)).save(
            tmp_path / "mine" / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize("words", [
    "flexible_vae --set prior=vamp components=4", "flexible_vae --set prior=flow",
    "flexible_vae --set posterior=flow k=3", "two_layer_vae --set ladder=true",
    "two_layer_vae --set k=3", "vae --set "
    'prior={"name":"flow_prior","latent_dim":3,"couplings":2} latent_dim=3'])
def test_the_command_line_trains_it_on_a_folder(words, pictures, capsys):
    model, *settings = words.split()
    sets = [w for v in settings[1:] for w in ("--set", v)]
    cli.main(["train", "--data", "folder:mine", "--model", model, "--epochs", "1",
              "--batch-size", "8", "--device", "cpu", "--out", "run", "--set",
              "hidden=[8]", *sets])
    assert "test -ELBO" in capsys.readouterr().out
    cli.main(["sample", "run", "-n", "4", "--device", "cpu"])
    assert "4 samples of the trained model" in capsys.readouterr().out


def test_the_command_line_names_a_prior_that_there_is_not(pictures, capsys):
    with pytest.raises(SystemExit, match="there are the priors normal"):
        cli.main(["train", "--data", "folder:mine", "--model", "flexible_vae", "--set",
                  "prior=gauss", "--out", "run", "--device", "cpu"])


def test_a_flow_prior_is_built_by_its_name():
    prior = build("flow_prior", latent_dim=4, couplings=2)
    assert type(prior) is FlowPrior and isinstance(prior(), D.TransformedDistribution)
