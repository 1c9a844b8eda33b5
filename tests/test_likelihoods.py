"""Likelihoods: each is normalised over the values that it takes, agrees with scipy,
stays finite whatever a decoder gives, checks its input, and serves every builder."""
import json
import math

import numpy as np
import pytest
import scipy.stats as st
import torch
import torch.nn.functional as F

from vae_course.anomaly_detection import AnomalyDetector
from vae_course.beta_vae import beta_tcvae, beta_vae
from vae_course.cli import main
from vae_course.cvae import mlp_cvae
from vae_course.data import Batches, DataError, DataSet, Examples
from vae_course.elbo import (
    Bernoulli, Gaussian, VAE, conv_vae, likelihood_settings, likelihoods,
    make_likelihood, mlp_vae)
from vae_course.evaluation import (
    elbo, interval_coverage, nll, rate_distortion, reliability)
from vae_course.likelihoods import (
    Categorical, DiscretizedLogistic, DiscretizedLogisticMixture, GaussianPerDimension,
    HeteroscedasticGaussian, Laplace, Likelihood, NegativeBinomial, OneHot, Poisson)
from vae_course.protocol import evaluate_test_set, format_result, prepare
from vae_course.step import train_epoch
from vae_course.training import build, load_model, save_model
from vae_course.vq_vae import vq_vae

SHAPE = (2, 9, 7)
SPECS = {name: name for name in likelihoods if name not in ("categorical", "table")}
TRAIN = "train --data digits --epochs 1 --device cpu --set hidden=[16]".split()
SPECS["categorical"] = dict(name="categorical", classes=4)
COUNTS = ("poisson", "negative_binomial", "categorical")


def data_for(name, n=6, shape=SHAPE, seed=0):
    "Examples that a likelihood takes."
    g = torch.Generator().manual_seed(seed)
    if name in COUNTS: return torch.randint(0, 4, (n, *shape), generator=g).float()
    if name == "bernoulli": return torch.rand(n, *shape, generator=g).round()
    return torch.randint(0, 256, (n, *shape), generator=g).float() / 255


def outputs(likelihood, n=200, shape=(1,), spread=2.0, seed=0):
    "What a decoder might give, in float64."
    g = torch.Generator().manual_seed(seed)
    return spread * torch.randn(n, *likelihood.output_shape(shape), generator=g,
                                dtype=torch.double)


# ---------------------------------------------------------------- normalised

DISCRETE = {
    "bernoulli": (Bernoulli(), torch.arange(2.)),
    "categorical": (Categorical((1,), 7), torch.arange(7.)),
    "discretized_logistic": (DiscretizedLogistic((1,)), torch.arange(256.) / 255),
    "discretized_logistic_mixture": (DiscretizedLogisticMixture((1,), 3),
                                     torch.arange(256.) / 255),
    "poisson": (Poisson(), torch.arange(400.)),
    "negative_binomial": (NegativeBinomial((1,)), torch.arange(20_000.))}


@pytest.mark.parametrize("name", DISCRETE)
def test_the_probabilities_of_all_values_sum_to_1(name):
    likelihood, values = DISCRETE[name]
    p = likelihood(outputs(likelihood, 50, spread=1.0))
    total = p.log_prob(values.double()[:, None, None]).exp().sum(0)
    assert total.shape == (50, 1) and (total - 1).abs().max() < 1e-6


@pytest.mark.parametrize("size", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("likelihood", [DiscretizedLogistic((1,)),
                                        DiscretizedLogisticMixture((1,), 4)])
def test_a_mixture_sums_to_1_far_outside_and_for_scales_below_a_step(likelihood, size):
    "In float32, with means below 0, above 1 and on the edges."
    out = outputs(likelihood, 500, spread=size).float()
    levels = torch.arange(256.)[:, None, None] / 255
    total = likelihood(out).log_prob(levels).double().exp().sum(0)
    assert (total - 1).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["gaussian", "gaussian_learned", "laplace",
                                  "gaussian_per_dimension", "laplace_learned",
                                  "gaussian_heteroscedastic"])
def test_a_density_integrates_to_1(name):
    likelihood = make_likelihood(name, (1,))
    out, grid = outputs(likelihood, 20), torch.linspace(-80, 80, 400_001).double()
    p = likelihood(out)
    for i in range(20):
        one = likelihood(out[i:i + 1])
        density = one.log_prob(grid[:, None, None])[:, 0, 0].exp()
        assert abs(torch.trapezoid(density, grid) - 1) < 1e-5
    assert p.batch_shape == (20, 1)


def test_every_likelihood_says_whether_it_is_a_density():
    density = {n for n, s in SPECS.items() if make_likelihood(s, SHAPE).is_density}
    assert density == {n for n in SPECS if n.startswith(("gaussian", "laplace"))}


# ---------------------------------------------------------------- as in scipy

def bounded(t, limit): return limit * np.tanh(t / limit)


def test_counts_are_those_of_scipy():
    x = torch.arange(60.).double()[:, None]
    out = outputs(Poisson(), 30)
    rate = np.exp(bounded(out.numpy()[:, 0], 15))
    ours = Poisson()(out[:, 0]).log_prob(x).numpy()
    assert np.allclose(ours, st.poisson.logpmf(x.numpy(), rate), atol=1e-8)
    nb = NegativeBinomial((1,))
    out = outputs(nb, 30)
    mean, theta = (np.exp(bounded(out.numpy()[:, i, 0], limit))
                   for i, limit in ((0, 15), (1, 7)))
    p = nb(out)
    expected = st.nbinom.logpmf(x.numpy(), theta, theta / (theta + mean))
    assert np.allclose(p.log_prob(x[..., None]).numpy()[..., 0], expected, atol=1e-8)
    assert np.allclose(p.mean[:, 0], mean) and np.allclose(
        p.variance[:, 0], mean + mean**2 / theta)


def test_poisson_in_float32_is_right_to_a_hundredth_nat_up_to_10_000():
    "For rates from 0.05 to 10,000, as the docstring says."
    x = torch.tensor([0., 1, 2, 10, 100, 1000, 5000, 9999, 10_000])[:, None]
    log_rate = torch.linspace(math.log(.05), math.log(10_000), 2000)
    out = 15 * torch.atanh(log_rate.double() / 15).float()
    exact = st.poisson.logpmf(x.numpy(), np.exp(bounded(out.double().numpy(), 15)))
    ours = Poisson()(out).log_prob(x)
    assert ours.dtype == torch.float32
    error = np.abs(ours.double().numpy() - exact)
    assert error.max() < 0.02


def test_real_numbers_are_those_of_scipy():
    x, mean = np.linspace(-3, 3, 13)[:, None], np.array([[0.5, -2.0]])
    both = torch.tensor(mean)
    ours = GaussianPerDimension((2,), [0.5, 2.0], learned=False).double()(
        both).log_prob(
        torch.tensor(x)).numpy()
    assert np.allclose(ours, st.norm.logpdf(x, mean, [[0.5, 2.0]]))
    ours = Laplace(0.7).double()(both).log_prob(torch.tensor(x)).numpy()
    assert np.allclose(ours, st.laplace.logpdf(x, mean, 0.7), atol=1e-6)
    raw = torch.tensor([[-1.0, 3.0]]).double()
    p = HeteroscedasticGaussian((2,), floor=0.05)(torch.stack([both, raw], 1))
    sigma = 0.05 + F.softplus(raw).numpy()
    assert np.allclose(p.log_prob(torch.tensor(x)).numpy(),
                       st.norm.logpdf(x, mean, sigma))


def test_classes_are_those_of_torch():
    logits, x = torch.randn(5, 4, 3), torch.tensor([0., 3., 1.])
    ours = Categorical((3,), 4)(logits).log_prob(x)
    assert torch.allclose(ours, -F.cross_entropy(
        logits, x.long().expand(5, 3), reduction="none"))


def published(y, logits, means, log_scales):
    """The mixture as PixelCNN++ computes it (`discretized_mix_logistic_loss` of
    openai/pixel-cnn) for y in [−1, 1], without the coupling of the channels; its
    approximation for narrow steps is left out, so that it must be given none."""
    inv, half = np.exp(-log_scales), 1 / 255
    plus, minus = (1 / (1 + np.exp(-(y - means + s * half) * inv)) for s in (1, -1))
    p = np.where(y < -0.999, plus, np.where(y > 0.999, 1 - minus, plus - minus))
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return np.log((weights * p).sum(-1))


def test_the_mixture_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    logits, means, raw = rng.normal(size=(3, 50, 4)) * [[[1]], [[0.7]], [[1]]]
    v = rng.integers(0, 256, 50)
    v[:4] = 0, 255, 1, 254
    mixture = DiscretizedLogisticMixture((50,), 4)
    out = torch.tensor(np.concatenate([logits, means, raw], -1).T[None])
    ours = mixture(out).log_prob(torch.tensor(v / 255)).numpy()[0]
    assert np.allclose(ours, published(v[:, None] / 127.5 - 1, logits, means,
                                       bounded(raw, 7)), atol=1e-6)
    one = DiscretizedLogistic((50,))
    ours = one(torch.tensor(np.stack([means[:, 0], raw[:, 0]]))[None]).log_prob(
        torch.tensor(v / 255)).numpy()[0]
    assert np.allclose(ours, published(v[:, None] / 127.5 - 1, logits[:, :1],
                                       means[:, :1], bounded(raw[:, :1], 7)), atol=1e-6)


def test_the_mean_of_levels_is_theirs_to_within_half_a_step():
    mixture, levels = DiscretizedLogisticMixture((1,), 3), torch.arange(256.) / 255
    for spread, apart in ((0.5, 1e-5), (20.0, 1/510)):
        p = mixture(outputs(mixture, spread=spread))
        each = p.log_prob(levels.double()[:, None, None]).exp()
        exact = (each * levels[:, None, None]).sum(0)
        assert (p.mean - exact).abs().max() < apart
        assert p.mean.min() >= 0 and p.mean.max() <= 1


@pytest.mark.parametrize("name", DISCRETE)
def test_draws_come_as_often_as_log_prob_says(name):
    likelihood, values = DISCRETE[name]
    torch.manual_seed(0)
    p, n = likelihood(outputs(likelihood, 1, spread=0.7).float()), 20_000
    drawn = p.sample((n,)).flatten()
    assert drawn.dtype == torch.float32
    likelihood.check(drawn[:, None], "draws")
    for value in values[:4]:
        probability = p.log_prob(value).exp().item()
        noise = math.sqrt(probability * (1 - probability) / n)
        share = (drawn == value).float().mean().item()
        assert abs(share - probability) < 5 * noise + 1e-9
    if name != "categorical":
        error = drawn.double().std() / math.sqrt(n)
        assert abs(drawn.double().mean() - p.mean) < 5 * error + 1/510


# ---------------------------------------------------------------- whatever comes

@pytest.mark.parametrize("size", [0.0, 10.0, -10.0, 1e3, -1e3, 1e5, -1e5])
@pytest.mark.parametrize("name", SPECS)
def test_log_p_and_its_gradient_are_finite_for_every_output(name, size):
    likelihood, x = make_likelihood(SPECS[name], SHAPE), data_for(name)
    signs = torch.randn(6, *likelihood.output_shape(SHAPE)).sign()
    for out in (torch.full_like(signs, size), size * signs):
        out.requires_grad_()
        log_p = likelihood(out).log_prob(x)
        log_p.sum().backward()
        assert log_p.shape == x.shape and log_p.isfinite().all()
        assert out.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in likelihood.parameters())


@pytest.mark.parametrize("name", SPECS)
def test_half_precision_is_brought_to_float32(name):
    model = mlp_vae(SHAPE, 2, (8,), SPECS[name])
    x = data_for(name)
    with torch.autocast("cpu", torch.bfloat16):
        terms = model.losses((x, None))
        each = model.decode(model.encode(x).mean).log_prob(x)
    assert each.dtype == torch.float32
    assert all(t.dtype == torch.float32 and t.isfinite() for t in terms.values())
    out = torch.randn(6, *model.likelihood.output_shape(SHAPE)).bfloat16()
    if name not in ("bernoulli", "gaussian", "gaussian_learned"):   # cast by the model
        assert model.likelihood(out).log_prob(x).dtype == torch.float32


def test_likelihoods_work_at_any_number_of_leading_dimensions():
    for name, spec in SPECS.items():
        likelihood, x = make_likelihood(spec, SHAPE), data_for(name)
        out = torch.randn(3, 6, *likelihood.output_shape(SHAPE))
        p = likelihood(out)
        assert p.batch_shape == (3, 6, *SHAPE) and p.log_prob(x).shape == (3, 6, *SHAPE)
        assert torch.allclose(p.log_prob(x)[1], likelihood(out[1]).log_prob(x),
                              atol=1e-5)
        assert p.sample().shape == (3, 6, *SHAPE)
        assert p.sample((2,)).shape == (2, 3, 6, *SHAPE)


# ---------------------------------------------------------------- checked on input

@pytest.mark.parametrize("name", SPECS)
def test_support_is_said_in_words_and_what_suits_is_taken(name):
    likelihood, x = make_likelihood(SPECS[name], SHAPE), data_for(name)
    likelihood.check(x, "train")
    assert isinstance(likelihood, Likelihood) and len(likelihood.support) > 10


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_refused(name, value):
    likelihood, x = make_likelihood(SPECS[name], SHAPE), data_for(name)
    x[4, 0, 3, 2] = value
    with pytest.raises(DataError, match="^train holds NaN or infinity in 1 of its 6 "
                                        "examples, first in number 4: repair them"):
        likelihood.check(x, "train")


@pytest.mark.parametrize("name, x, words", [
    ("bernoulli", [0.0, 200.0], "reaches from 0 to 200, and this model takes "
                                "numbers from 0 to 1: divide by 255, or give them"),
    ("bernoulli", [-1.0, 1.0], "reaches from -1 to 1, .*: rescale the data"),
    ("discretized_logistic", [0.0, 0.5], "holds 0.5, and this model takes numbers from "
                                         "0 to 1 in steps of 1/255: give the stored"),
    ("discretized_logistic", [0.0, 17.0], ".*divide by 255, or give them as uint8"),
    ("discretized_logistic_mixture", [-0.5, 0.0], "reaches from -0.5 to 0"),
    ("poisson", [0.0, 1.5], "holds 1.5, and this model takes whole numbers from 0: "
                            "give counts as they were counted"),
    ("negative_binomial", [-2.0, 1.0], "reaches from -2 to 1, and this model takes "
                                       "whole numbers from 0"),
    ("categorical", [0.0, 4.0], "reaches from 0 to 4, and this model takes whole "
                                "numbers from 0 to 3.*count the classes from 0"),
    ("categorical", [0.0, 2.2], "holds 2.2, and this model takes")])
def test_what_does_not_suit_is_refused_in_one_sentence(name, x, words):
    with pytest.raises(DataError, match=f"^valid {words}") as e:
        make_likelihood(SPECS[name], (2,)).check(torch.tensor([x]), "valid")
    assert "\n" not in str(e.value) and ". " not in str(e.value)


def test_a_value_between_the_steps_is_found_in_the_last_of_many_rows():
    x = torch.ones(5000, 1)
    x[-1] = 0.5
    with pytest.raises(DataError, match="holds 0.5"): Poisson().check(x)


def test_bytes_are_v_over_255_for_every_likelihood():
    x = torch.arange(256, dtype=torch.uint8)[:, None]
    for name in ("bernoulli", "gaussian", "laplace", "discretized_logistic"):
        make_likelihood(name, (1,)).check(x)
    for name in COUNTS:
        with pytest.raises(DataError, match=r"counts as v/255; give .* x.float\(\)"):
            make_likelihood(SPECS[name], (1,)).check(x)
    Poisson().check((x > 100).byte() * 255)                    # 0 and 1
    with pytest.raises(DataError, match="holds torch.int64: give float32"):
        Poisson().check(x.long())


@pytest.mark.parametrize("make, words", [
    (lambda: Categorical((1,), 1), "classes=1"),
    (lambda: Categorical((1,), 2.0), "classes=2.0"),
    (lambda: DiscretizedLogisticMixture((1,), 0), "components=0"),
    (lambda: GaussianPerDimension((2,), [1.0, -1.0]), "finite and greater than"),
    (lambda: GaussianPerDimension((2,), [1.0] * 3), r"one for each of \(2,\)"),
    (lambda: Laplace(0.0), "greater than 0"),
    (lambda: Laplace(0.005, learned=True), "greater than 0.01"),
    (lambda: HeteroscedasticGaussian((1,), 0), "floor=0"),
    (lambda: NegativeBinomial((3,))(torch.zeros(5, 3)),
     r"got \(5, 3\) from the decoder: the last dimensions must be \(2, 3\)")])
def test_settings_that_cannot_be_are_refused(make, words):
    with pytest.raises(ValueError, match=words): make()


# ---------------------------------------------------------------- by name

def test_a_likelihood_by_name_by_dict_and_by_json():
    for spec in ({"name": "categorical", "classes": 3},
                 '{"name": "categorical", "classes": 3}'):
        assert make_likelihood(spec, (2,)).n_parameters == 3
    assert make_likelihood({"name": "gaussian_learned", "sigma": 2.0}).sigma > 1.99
    fixed = {"name": "gaussian_per_dimension", "sigma": [0.5, 3.0], "learned": False}
    assert make_likelihood(fixed, (2,)).sigma.tolist() == [0.5, 3.0]
    assert likelihood_settings("poisson") == dict(name="poisson")
    assert list(SPECS)[:3] == ["bernoulli", "gaussian", "gaussian_learned"]


@pytest.mark.parametrize("spec, words", [
    ("binomial", "no likelihood called 'binomial': there are bernoulli, gaussian"),
    ({"classes": 3}, "no likelihood called None"), (7, "no likelihood called 7"),
    ("categorical", "the likelihood categorical needs 'classes'"),
    ({"name": "poisson", "rate": 3}, "has no setting 'rate'"),
    ({"name": "categorical", "classes": 3, "data_shape": [1]}, "no setting 'data_shap"),
    ('{"name": "categorical"', "is not JSON")])
def test_a_name_or_setting_that_there_is_not(spec, words):
    with pytest.raises(ValueError, match=words): mlp_vae(likelihood=spec)


def test_bernoulli_and_gaussian_keep_their_place_and_the_keys_of_their_state():
    assert issubclass(Bernoulli, Likelihood) and issubclass(Gaussian, Likelihood)
    assert list(Bernoulli().state_dict()) == []
    assert list(Gaussian().state_dict()) == list(Gaussian(0.3, True).state_dict()) == [
        "raw"]
    keys = list(mlp_vae(latent_dim=2, hidden=(8,)).state_dict())
    assert keys[0] == "encoder.2.0.weight" and keys[-1] == "decoder.0.2.bias"


# ---------------------------------------------------------------- every builder

BUILDERS = dict(
    mlp_vae=(mlp_vae, dict(hidden=[8], latent_dim=2)),
    conv_vae=(conv_vae, dict(widths=[4, 8], latent_dim=2)),
    beta_vae=(beta_vae, dict(hidden=None, widths=[4], latent_dim=2)),
    beta_tcvae=(beta_tcvae, dict(hidden=[8], latent_dim=2, dataset_size=6)),
    cvae=(mlp_cvae, dict(hidden=[8], latent_dim=2)),
    vq_vae=(vq_vae, dict(widths=[4, 8], n_codes=8)))


def made(builder, spec, shape=SHAPE, seed=0):
    torch.manual_seed(seed)
    function, config = BUILDERS[builder]
    return function(data_shape=shape, likelihood=spec, **config)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", SPECS)
def test_every_builder_builds_and_trains_with_every_likelihood(builder, name):
    model = made(builder, SPECS[name])
    batches = Batches(Examples(data_for(name, 24), torch.arange(24) % 10), 6)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    first, *_, last = [train_epoch(model, batches, optimizer)["loss"] for _ in range(8)]
    assert math.isfinite(last) and last < first
    c = dict(c=torch.tensor([1, 2, 3])) if builder == "cvae" else {}
    model.eval()
    drawn = model.sample(3, **c)
    assert drawn.shape == (3, *SHAPE) and drawn.isfinite().all()
    if name in ("categorical", "discretized_logistic", "discretized_logistic_mixture"):
        assert drawn.min() >= 0 and drawn.max() <= model.likelihood.high


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", ["categorical", "discretized_logistic_mixture",
                                  "gaussian_per_dimension"])
def test_a_model_with_a_likelihood_of_settings_is_saved_and_loaded(
        builder, name, tmp_path):
    spec = (dict(name=name, components=2) if "mixture" in name else SPECS[name])
    model = made(builder, spec)
    assert json.loads(json.dumps(model.config)) == model.config
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.likelihood.n_parameters == model.likelihood.n_parameters
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k])
               for k, v in again.state_dict().items())
    assert type(build(**model.config)) is type(model)


def test_convolutions_keep_parameters_and_colours_apart():
    "The n numbers of a value are the n that the likelihood reads for it."
    model = made("conv_vae", dict(name="discretized_logistic_mixture", components=2))
    out = model.decoder(torch.randn(4, 2))
    assert out.shape == (4, 6, *SHAPE)
    weight = model.decoder[-3].weight                 # (in, 6·2, 4, 4)
    with torch.no_grad():
        weight.zero_()
        model.decoder[-3].bias.copy_(torch.arange(12.))
    out = model.decoder(torch.randn(4, 2))
    assert out[0, :, :, 0, 0].tolist() == torch.arange(12.).view(6, 2).tolist()


def test_classes_are_read_as_places_and_counts_by_their_logarithm():
    x = torch.tensor([[[2., 0.]], [[1., 1.]]])
    assert OneHot(3)(x).tolist() == [[[0, 1], [0, 0], [1, 0]], [[0, 0], [1, 1], [0, 0]]]
    model = made("mlp_vae", dict(name="categorical", classes=4))
    assert model.encoder[2][0].in_features == 4 * math.prod(SHAPE)
    model = made("mlp_vae", "poisson")
    x = data_for("poisson")
    assert torch.equal(model.encoder[0](x), torch.log1p(x).flatten(1))


@pytest.mark.parametrize("size", [0.02, 0.3, 2.0])
def test_a_learned_scale_begins_where_it_was_told_to(size):
    for scale in (GaussianPerDimension((2,), size).sigma, Laplace(size, True).scale,
                  Gaussian(size, True).sigma):
        assert torch.allclose(scale, torch.tensor(size), rtol=1e-4)


def test_a_learned_sigma_for_each_value_finds_the_noise_of_each():
    torch.manual_seed(0)
    sigma = torch.tensor([0.1, 0.5, 2.0])
    x = sigma * torch.randn(4000, 3)
    model = mlp_vae((3,), 1, (4,), dict(name="gaussian_per_dimension", sigma=1.0))
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    batches = Batches(Examples(x, torch.full((4000,), -1)), 400)
    for _ in range(40): train_epoch(model, batches, optimizer)
    total = (model.likelihood.sigma**2 + model.sample(4000).var(0)).sqrt().detach()
    assert (total / sigma - 1).abs().max() < 0.15


# ---------------------------------------------------------------- evaluated

@pytest.mark.parametrize("name", SPECS)
def test_evaluation_works_or_refuses_cleanly(name):
    model = made("mlp_vae", SPECS[name]).eval()
    examples = Examples(data_for(name, 8), torch.full((8,), -1))
    bound, tight = elbo(model, examples), nll(model, examples, samples=5)
    parts = rate_distortion(model, examples)
    assert all(math.isfinite(v) for v in (bound.mean, tight.mean, parts.neg_elbo.mean))
    if name == "bernoulli": assert reliability(model, examples).count.sum() == 8 * 126
    else:
        with pytest.raises(ValueError, match="reliability is of Bernoulli pixels"):
            reliability(model, examples)
    if model.likelihood.is_density:
        assert 0 <= interval_coverage(model, examples)[0.5].mean <= 1
    else:
        with pytest.raises(ValueError, match="intervals are of continuous values"):
            interval_coverage(model, examples)


def test_a_distribution_without_quantiles_is_refused():
    class Mixture(Likelihood):
        def forward(self, out):
            D, means = torch.distributions, out[..., None] + torch.tensor([0., 1.])
            return D.MixtureSameFamily(D.Categorical(torch.ones_like(means)),
                                       D.Normal(means, 1.0))

    model = made("mlp_vae", "gaussian")
    model.likelihood = Mixture()
    with pytest.raises(ValueError, match="a MixtureSameFamily likelihood: it has no q"):
        interval_coverage(model, Examples(data_for("gaussian"), torch.zeros(6).long()))


def test_the_protocol_says_what_a_number_bounds():
    g = torch.Generator().manual_seed(0)
    parts = [Examples(torch.randint(0, 256, (40, *SHAPE), generator=g).byte(),
                      torch.zeros(40, dtype=torch.long)) for _ in range(2)]
    data = DataSet("noise", *parts, classes=[])
    model = made("mlp_vae", "discretized_logistic").eval()
    prepared = prepare(model, data)
    assert "of 256 values; logistic likelihood: an upper bound on" in prepared.pixels
    assert torch.equal(prepared.test.x, data.test.x)
    result = evaluate_test_set(model, prepared, "cpu")
    nats = result["value"] / math.prod(SHAPE)
    assert math.isclose(result["bits_per_dim"], nats / math.log(2))
    assert math.log(256) * 0.9 < nats and "bits per dimension" in format_result(result)
    laplace = made("mlp_vae", "laplace_learned").eval()
    prepared = prepare(laplace, data)
    assert "Laplace likelihood" in prepared.pixels and "/256" in prepared.pixels
    with pytest.raises(ValueError, match="a Laplace is a density"):
        prepare(laplace, data, binarize=True)


@pytest.mark.parametrize("words, config, said", [
    (["--likelihood", "discretized_logistic"], "discretized_logistic",
     "logistic likelihood: an upper bound"),
    (["--likelihood", '{"name": "discretized_logistic_mixture", "components": 2}'],
     dict(name="discretized_logistic_mixture", components=2), "bits per dimension"),
    (["--set", 'likelihood={"name": "gaussian", "sigma": 0.3}'],
     dict(name="gaussian", sigma=0.3), "sigma 0.300"),
    (["--likelihood", "laplace_learned"], "laplace_learned", "Laplace likelihood")])
def test_the_command_line_takes_a_likelihood_by_name_and_by_json(
        tmp_path, capsys, words, config, said):
    main([*TRAIN, "--out", str(tmp_path / "run"), *words])
    assert said in capsys.readouterr().out
    run = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert run["settings"]["set"]["likelihood"] == config
    main(["sample", str(tmp_path / "run"), "-n", "4"])


@pytest.mark.parametrize("likelihood, words", [
    ("poisson", "takes whole numbers from 0: uint8 counts as v/255"),
    ("categorical", "needs 'classes': give"), ('{"name": "poi', "is not JSON"),
    ("binomial", "there are bernoulli, gaussian")])
def test_the_command_line_refuses_a_likelihood_in_one_line(
        tmp_path, likelihood, words):
    with pytest.raises(SystemExit, match=words) as e:
        main([*TRAIN, "--out", str(tmp_path / "run"), "--likelihood", likelihood])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial",
                                        "laplace_learned", "gaussian_per_dimension"])
def test_a_detector_finds_what_its_likelihood_finds_strange(likelihood):
    x = np.random.default_rng(0).poisson(3, (200, 5)).astype("float32")
    config = dict(latent_dim=2, hidden=[8], likelihood=likelihood)
    detector = AnomalyDetector(config=config, epochs=3).fit(x)
    assert detector.predict(np.full((2, 5), 60, "float32")).tolist() == [-1, -1]
    if not detector.model_.likelihood.is_density:
        with pytest.raises(DataError, match="takes .0, inf. alone"):
            AnomalyDetector(config=config, epochs=3).fit(x - 9)
        with pytest.raises(DataError, match="takes whole numbers from 0"):
            AnomalyDetector(config=config, epochs=3).fit(x + 0.5)


def test_a_vae_of_ones_own_parts():
    likelihood = NegativeBinomial((5,))
    model = VAE(torch.nn.Linear(5, 4), torch.nn.Sequential(
        torch.nn.Linear(2, 10), torch.nn.Unflatten(-1, likelihood.output_shape((5,)))),
        lambda: torch.distributions.Independent(
            torch.distributions.Normal(torch.zeros(2), 1.), 1), likelihood, (5,), 2)
    x = torch.poisson(torch.full((6, 5), 3.0))
    assert model.losses((x, None))["loss"].isfinite()
    assert model.decode(torch.randn(3, 6, 2)).log_prob(x).shape == (3, 6)
