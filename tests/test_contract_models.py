"""Models of kinds that no lesson has: their densities are densities, their bounds are
bounds, and they are trained, saved and used in float64 as every other."""
import copy, itertools, math

import pytest, torch

import contract_models
import test_models
from contract_models import (
    CONTRACT, Flow, Mixture, Spelling, TwoLayers, image_model, pictures, words)
from test_every_measure import ASK, HAS, WORLDS, few, missing_of
from test_every_measure import models      # noqa: F401 (a fixture)
from test_models import SMALL
from vae_course import cli, evaluation, generation
from vae_course.anomaly_detection import score_methods
from vae_course.beta_vae import BetaTCVAE, BetaVAE, kl_by_latent, kl_penalty
from vae_course.data import Examples, map_tensors, tensors_of
from vae_course.elbo import VAE, kl_divergence
from vae_course.latent import diagonal_gaussian
from vae_course.model import LatentVariableModel, Unsupported, center
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.step import evaluate, make_optimizers, map_rows, train_epoch
from vae_course.training import build, fit, load_model, registry, save_model

HAVE_A_BOUND = [name for name in HAS
                if name not in SMALL or name in test_models.HAS_A_BOUND]


def batch_of(name):
    w = WORLDS[name]
    return w.x, w.y


# ---------------------------------------------------------------- densities

def plane(low=-12.0, high=12.0, n=601):
    "A fine grid of the plane `(n², 2)`, and the area of a cell."
    line = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.cartesian_prod(line, line), (line[1] - line[0]).item()**2


def rough(module, seed=0):
    "`module` in float64, its weights far from where they begin."
    torch.manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for p in module.parameters(): p.copy_(0.5 * torch.randn_like(p))
    return module


@pytest.mark.parametrize("seed", range(3))
def test_a_flow_is_a_density_and_draws_what_it_scores(seed):
    flow, (z, cell) = rough(Flow(2), seed), plane()
    q = flow(torch.tensor([0.3, -0.5, -0.4, 0.2], dtype=torch.float64))
    with torch.no_grad():
        p = q.log_prob(z).exp() * cell
        assert p.sum().item() == pytest.approx(1, abs=1e-4)
        draws = q.sample((100_000,))
    mean = (p[:, None] * z).sum(0)
    deviation = ((p[:, None] * z**2).sum(0) - mean**2).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / 100_000**0.5).all()
    # and it ties its latents together
    tied = (p[:, None] * (z - mean)).T @ (z - mean)
    assert abs(tied[0, 1]) > 0.05 * tied[0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_is_a_density_and_draws_what_it_scores(seed):
    prior, (z, cell) = rough(Mixture(2), seed)(), plane()
    with torch.no_grad():
        p = prior.log_prob(z).exp() * cell
        assert p.sum().item() == pytest.approx(1, abs=1e-4)
        draws, mean = prior.sample((100_000,)), (p[:, None] * z).sum(0)
    assert torch.allclose(prior.mean, mean, atol=1e-3)
    deviation = prior.variance.sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * deviation / 100_000**0.5).all()


def test_two_layers_are_a_joint_density():
    model, ((z, cell), x) = rough(TwoLayers(top=1, bottom=1)), (plane(), pictures(
        1).double())
    pair = z[:, None, :1], z[:, None, 1:]
    with torch.no_grad():
        for d in (model.encode(x), model.prior()):
            assert (d.log_prob(pair).exp() * cell).sum().item() == pytest.approx(
                1, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_probabilities_of_all_words_add_up_to_1(seed):
    model = rough(Spelling(letters=2, most=3), seed)
    every = [w for n in range(4) for w in itertools.product(range(2), repeat=n)]
    tokens = torch.tensor([[*w, *[0] * (3 - len(w))] for w in every])
    lengths = torch.tensor([len(w) for w in every])
    z = torch.randn(1, contract_models.LATENTS, dtype=torch.float64)
    with torch.no_grad():
        p = model.decode(z.expand(len(every), -1)).log_prob((tokens, lengths)).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-9)
        torch.manual_seed(0)
        drawn, ends = model.decode(z.expand(20_000, -1)).sample()
    for word, size, share in zip(tokens, lengths, p):
        found = ((drawn == word).all(1) & (ends == size)).double().mean().item()
        assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 20_000) + 1e-9


@pytest.mark.parametrize("kind", ["flow", "mixture"])
def test_the_kl_of_draws_is_the_integral(kind):
    z, cell = plane()
    flat = torch.tensor([0.4, -0.2, -1.0, 0.3], dtype=torch.float64)
    q = (rough(Flow(2))(flat) if kind == "flow"
         else diagonal_gaussian(flat[:2], flat[2:]))
    p = (diagonal_gaussian(torch.zeros(2).double(), torch.zeros(2).double())
         if kind == "flow" else rough(Mixture(2))())
    with torch.no_grad():
        log_q = q.log_prob(z)
        exact = (log_q.exp() * (log_q - p.log_prob(z)) * cell).sum()
        torch.manual_seed(0)
        drawn = q.sample((50_000,))
        found = kl_divergence(q, p, drawn)
        by_latent = kl_by_latent(q, p, drawn)
    error = found.std() / len(found)**0.5
    assert abs(found.mean() - exact) < 5 * error
    assert by_latent.shape == (50_000, 1) and torch.equal(by_latent[:, 0], found)


# ---------------------------------------------------------------- bounds

@pytest.mark.parametrize("name", HAVE_A_BOUND)
def test_the_elbo_is_below_the_importance_weighted_bound(name, models):  # noqa: F811
    """From the same draws it is so for every example (Jensen); and the loss is on
    average the ELBO."""
    model, w = models[name], WORLDS[name]
    low, high = (evaluation.elbo(model, w.examples, 100).values,
                 -evaluation.nll(model, w.examples, 100).values)
    few_draws = -evaluation.nll(model, w.examples, 5).values
    rounding = 1e-5 * low.abs()
    assert (low <= high + rounding).all() and high.isfinite().all()
    certain = name in ("vq_vae", "speech_vq_vae")   # one list: nothing is drawn
    assert (low < high - rounding).any() != certain
    gap = high - few_draws
    assert gap.mean() > -5 * gap.std() / len(gap)**0.5 - rounding.max()
    parts = evaluation.rate_distortion(model, w.examples, 100).neg_elbo.values
    with torch.no_grad():
        losses = torch.stack([model.losses(batch_of(name))["neg_elbo"]
                              for _ in range(200)]).double()
    error = losses.std() / len(losses)**0.5
    assert abs(losses.mean() + low.mean()) < 5 * error + 0.02 * low.mean().abs()
    assert abs(parts.mean() + low.mean()) < 5 * error + 0.02 * low.mean().abs()


@pytest.mark.parametrize("name", CONTRACT)
def test_losses_are_finite_and_the_gradient_reaches_every_weight(name):
    torch.manual_seed(0)
    model = CONTRACT[name]()
    terms = model.losses(batch_of(name))
    assert all(t.shape == () and t.isfinite() for t in terms.values())
    assert torch.isclose(terms["neg_elbo"], terms["reconstruction"] + terms["kl"])
    terms["loss"].backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", CONTRACT)
def test_the_same_noise_gives_the_same_losses(name):
    torch.manual_seed(0)
    model = CONTRACT[name]().eval()
    with recorded_noise() as noise: a = model.losses(batch_of(name))
    b = model.losses(batch_of(name))
    with replayed_noise(noise): c = model.losses(batch_of(name))
    assert all(torch.equal(a[k], c[k]) for k in a) and not torch.equal(a["loss"],
                                                                      b["loss"])
    assert len(noise) == (2 if name == "two layers" else 1)
    shorter = copy.deepcopy(noise)
    shorter.draws.pop()
    with pytest.raises(ValueError, match="wants more"), replayed_noise(shorter):
        model.losses(batch_of(name))


# ---------------------------------------------------------------- β

KINDS = dict(mixture=dict(prior=Mixture), flow=dict(posterior=Flow),
             both=dict(prior=Mixture, posterior=Flow), neither={})


def same_weights(kind, parts, **settings):
    torch.manual_seed(0)
    plain = image_model(**{k: make() for k, make in parts.items()})
    other = image_model(kind, **{k: make() for k, make in parts.items()}, **settings)
    with torch.no_grad():                      # so that q is near p
        for p in plain.parameters(): p.mul_(0.3)
    other.load_state_dict(plain.state_dict())
    return plain, other


@pytest.mark.parametrize("kind, parts", [
    *((BetaVAE, parts) for parts in KINDS.values()),
    *((BetaTCVAE, KINDS[name]) for name in ("mixture", "neither"))],
    ids=lambda v: v.__name__ if isinstance(v, type) else " ".join(v) or "plain")
def test_at_beta_1_loss_and_gradient_are_those_of_a_vae_whatever_q_and_p(kind, parts):
    """Also where the estimate of the KL is below 0, as it now and then is when q has
    become p."""
    settings = dict(dataset_size=20) if kind is BetaTCVAE else {}
    plain, other = same_weights(kind, parts, beta=1.0, **settings)
    below = 0
    for seed in range(30):
        batch = pictures(4, seed=seed), None
        torch.manual_seed(seed)
        with recorded_noise() as noise: a = plain.losses(batch)
        with replayed_noise(noise): b = other.losses(batch)
        below += int(a["kl"] < 0)
        for term in a:
            assert torch.isclose(a[term], b[term], rtol=1e-4, atol=1e-5), term
        gradients = [torch.autograd.grad(t["loss"], list(m.parameters()),
                                         allow_unused=True)
                     for t, m in ((a, plain), (b, other))]
        for p, q in zip(*gradients, strict=True):
            assert torch.allclose(p, q, rtol=1e-3, atol=1e-4)
    assert below or not parts


def test_a_negative_estimate_of_the_kl_is_weighed_as_any_other():
    for kl in (-0.3, 0.3):
        estimate = torch.tensor([kl], requires_grad=True)
        penalty = kl_penalty(estimate, 2.0)
        penalty.backward()
        assert penalty.item() == pytest.approx(2 * kl) and estimate.grad.item() == 2
    assert kl_penalty(torch.tensor([-0.3]), 2.0, capacity=1.0).item() == pytest.approx(
        2.6)
    assert kl_penalty(torch.tensor([-0.3]), 2.0, free_bits=0.5).item() == 1.0


def test_the_total_correlation_of_a_flow_is_refused_by_name():
    torch.manual_seed(0)
    model = image_model(BetaTCVAE, dataset_size=20)
    model.posterior = Flow()
    with pytest.raises(Unsupported, match="`kl_decomposition` needs .* each latent by "
                                          "itself, and a TransformedDistribution"):
        model.losses((pictures(), None))


# ---------------------------------------------------------------- training and files

@pytest.mark.parametrize("name", [name for name in CONTRACT if name != "words"])
def test_fit_trains_it(name):
    torch.manual_seed(0)
    model, examples = CONTRACT[name](), Examples(pictures(20), torch.arange(20) % 10)
    history = fit(model, examples, examples, epochs=60, batch_size=10, lr=1e-2,
                  device="cpu", progress=False)
    first, last = (history["valid_neg_elbo"][i] for i in (0, -1))
    assert last < first - 5 and math.isfinite(last)


def test_words_are_learned():
    torch.manual_seed(0)
    model, batches = Spelling(), [(words(50, seed=1), None)]
    optimizers = make_optimizers(model, torch.device("cpu"))
    for group in optimizers[0].param_groups: group["lr"].fill_(1e-2)
    nats = [train_epoch(model, batches, optimizers)["neg_elbo"] for _ in range(150)]
    assert nats[-1] < nats[0] - 0.5
    tokens, lengths = cli.draw_samples(model, 130, 0, torch.device("cpu"))
    assert tokens.shape == (130, 4) and lengths.shape == (130,)
    assert (tokens * (torch.arange(4) >= lengths[:, None]) == 0).all()


def stored(name):
    "For the registry: `contract_models` make what is in a file."
    model = CONTRACT[name]()
    model.config = dict(name=name)
    return model


@pytest.mark.parametrize("name", CONTRACT)
def test_saved_and_loaded_it_is_the_same_model(name, tmp_path, monkeypatch):
    function = "stored_" + name.replace(" ", "_").replace(",", "")
    monkeypatch.setattr(contract_models, function, lambda: stored(name), raising=False)
    monkeypatch.setitem(registry, name, f"contract_models:{function}")
    torch.manual_seed(0)
    model = build(name)
    with torch.no_grad():
        for p in model.parameters(): p.add_(0.1 * torch.randn_like(p))
    again = load_model(save_model(model, tmp_path / "m.safetensors"))
    assert type(again) is type(model) and not again.training
    batches = few(WORLDS[name])
    assert evaluate(model, batches, seed=0) == evaluate(again, batches, seed=0)


# ---------------------------------------------------------------- float64

# they train, in float32, what is no question of the measure
SLOW = ("vq_vae.train_steps",)

def doubles(batch):
    return map_tensors(lambda t: t.double() if t.is_floating_point() else t, batch)


@pytest.mark.parametrize("name", HAS)
@pytest.mark.parametrize("key", [k for k in ASK if k.split(".")[0] in (
    "evaluation", "generation", "anomaly_detection", "plots", "widgets", "vq_vae",
    "cli", "method", "classifier") and k not in SLOW])
def test_in_float64_it_works_as_in_float32(name, key, models):  # noqa: F811
    (ask, needs), w = ASK[key], WORLDS[name]
    method = key[:7] == "method."
    if missing_of(name, needs) or (
            method and not isinstance(models[name], LatentVariableModel)): return
    exact, wide = copy.deepcopy(models[name]).double(), copy.copy(w)
    wide.x = doubles(w.x)
    try: found = ask(exact, wide)
    except ValueError as e:
        assert str(e).startswith("got ")
        return
    assert found is not None
    near = ask(models[name], w)
    # what is drawn in float64 is other numbers
    if key in ("evaluation.per_example", "evaluation.posterior_mean_variance",
               "generation.encode_point", "generation.decode_mean", "method.forward",
               "method.reconstruct", "vq_vae.reconstruction_mse",
               "anomaly_detection.reconstruction_error") and name != "words":
        for a, b in zip(*map(tensors_of, ([found], [near])), strict=True):
            assert a.shape == b.shape and (
                # whole numbers were drawn, and so are others
                not a.is_floating_point()
                or torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4))


def test_the_maps_of_two_latents_are_drawn_in_float64():
    torch.manual_seed(0)
    w, model = WORLDS["vae"], build("vae", hidden=[32], latent_dim=2).double()
    for key in ("plots.plot_manifold", "widgets.latent_explorer"):
        assert ASK[key][0](model, w) is not None


@pytest.mark.parametrize("name", HAVE_A_BOUND)
def test_its_losses_are_in_the_type_of_its_weights(name, models):  # noqa: F811
    exact, w = copy.deepcopy(models[name]).double(), WORLDS[name]
    terms = exact.losses((doubles(w.x), w.y))
    assert {t.dtype for k, t in terms.items() if k in ("loss", "kl", "reconstruction")
            } == {torch.float64}
    assert all(t.isfinite() for t in terms.values())


# ---------------------------------------------------------------- centers and layers

def test_the_center_of_a_flow_is_the_center_of_its_base_through_it():
    torch.manual_seed(0)
    model, x = CONTRACT["flow"](), pictures(3)
    q = model.encode(x)
    z = q.base_dist.mean
    for transform in q.transforms: z = transform(z)
    assert torch.equal(center(q), z)
    assert torch.equal(generation.encode_point(model, x), z)
    assert torch.equal(model.reconstruct(x), model.decode(z).mean)
    assert not torch.allclose(z, q.base_dist.mean, atol=1e-3)


def test_each_layer_of_latents_goes_its_own_way():
    torch.manual_seed(0)
    model, x = TwoLayers(), pictures(4)
    ways = [generation.lerp(a, b, 5) for a, b in zip(
        generation.encode_point(model, x[:2]), generation.encode_point(model, x[2:]))]
    images = generation.interpolate(model, x[:2], x[2:], 5, generation.lerp)
    assert images.shape == (5, 2, *x.shape[1:])
    by_hand = torch.stack([model.decode((a, b)).mean for a, b in zip(*ways)])
    assert torch.allclose(images, by_hand, atol=1e-5)


@pytest.mark.parametrize("name", ["vae", "flow", "mixture", "flow and mixture"])
def test_scores_are_the_bounds_of_lesson_05(name, models):  # noqa: F811
    "And a score does not depend on the other examples of its batch."
    model, x, K = copy.deepcopy(models[name]), WORLDS[name].x, 8
    if name[:4] == "flow": rough(model.posterior).float()
    with torch.no_grad():
        q = model.encode(x)
        base = q.base_dist if name[:4] == "flow" else q
        eps = torch.randn(K, 1, 4, generator=torch.Generator().manual_seed(3))
        z = base.mean + base.stddev * eps
        for transform in getattr(q, "transforms", ()): z = transform(z)
        log_px, log_p = model.decode(z).log_prob(x), model.prior().log_prob(z)
        log_w = log_px + log_p - q.log_prob(z)
        kl = kl_divergence(q, model.prior(), z)
        known = dict(reconstruction_probability=-log_px.mean(0),
                     neg_elbo=(kl - log_px).mean(0),
                     neg_log_px=math.log(K) - log_w.logsumexp(0))
        for how, scores in known.items():
            found = score_methods[how](model, x, samples=K, seed=3)
            assert torch.allclose(found, scores, rtol=1e-4, atol=1e-3), how
            alone = torch.cat([score_methods[how](model, x[i:i + 1], samples=K, seed=3)
                               for i in range(len(x))])
            assert torch.allclose(found, alone, rtol=1e-4, atol=1e-3), how


@pytest.mark.parametrize("size", [1, 3, 7])
def test_however_the_rows_are_cut_the_answer_is_the_same(size):
    torch.manual_seed(0)
    for name in ("two layers", "flow", "mixture"):
        model, w = CONTRACT[name](), WORLDS[name]
        whole = evaluation.per_example(lambda x: model(x), model, w.examples, 20)
        parts = evaluation.per_example(lambda x: model(x), model, w.examples, size)
        assert torch.allclose(whole, parts, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_rows_of_pairs_are_cut_and_put_together_in_order(size, models):  # noqa: F811
    "Inputs that are pairs, outputs that are pairs, and a condition beside them."
    w, model = WORLDS["words"], models["words"]
    means = map_rows(lambda x: model.encode(x).mean, model, w.x, batch_size=size)
    assert torch.allclose(means, model.encode(w.x).mean, atol=1e-6)
    again = map_rows(lambda x: x, model, w.x, batch_size=size)
    assert all(map(torch.equal, again, w.x))
    layers, x = models["two layers"], WORLDS["two layers"].x
    found = map_rows(lambda x: layers.encode(x).mode, layers, x, batch_size=size)
    assert all(torch.allclose(a, b, atol=1e-6)
               for a, b in zip(found, layers.encode(x).mode, strict=True))
    told, (x, y) = models["cvae"], (WORLDS["cvae"].x, WORLDS["cvae"].y)
    made = map_rows(lambda x, c: told(x, c), told, x, y, batch_size=size)
    assert torch.allclose(made, told(x, y), atol=1e-5)
    assert torch.equal(map_rows(lambda x, c: x if c is None else None, told, x, None,
                                batch_size=size), x)


@pytest.mark.parametrize("name", ["vae", "cvae", "vq_vae", *CONTRACT])
def test_a_seed_gives_the_same_examples_again(name, models):  # noqa: F811
    model, more = models[name], WORLDS[name].each()
    a, b, c = (tensors_of(generation.generate(model, 4, seed=s, **more))
               for s in (1, 1, 2))
    assert all(map(torch.equal, a, b)) and not all(map(torch.equal, a, c))


def test_a_model_with_weights_of_its_own_loses_nothing_by_its_kind():
    "The default losses of the contract are those of a VAE, on average."
    torch.manual_seed(0)
    model = image_model(prior=Mixture())
    with recorded_noise() as noise: ours = VAE.losses(model, (pictures(), None))
    with replayed_noise(noise):
        theirs = LatentVariableModel.losses(model, (pictures(), None))
    for term in ("loss", "reconstruction", "kl", "neg_elbo"):
        assert torch.isclose(ours[term], theirs[term], rtol=1e-5), term


def test_the_registered_models_are_among_those_asked():
    assert SMALL.keys() <= HAS.keys()
