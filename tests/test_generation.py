"""What lesson 09 cannot show: any shape and type of codes, other models, untouched
state, singular covariances, two oracles on random sizes."""
import math

import numpy as np
import pytest, torch
from hypothesis import assume, given, settings, strategies as st
from PIL import Image
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors

from vae_course.classifier import Classifier, features
from vae_course.cvae import mlp_cvae
from vae_course.data import Examples
from vae_course.folders import from_folder
from vae_course.elbo import conv_vae, mlp_vae
from vae_course.generation import (
    AggregatedPosterior, _ball_radii, _count_balls, aggregated_posterior,
    attribute_direction, decode_mean, encode_point, fit_mixture, frechet_distance,
    frechet_gaussians, generate, hole_mass, interpolate, lerp, memorized_share,
    mlp_autoencoder, nearest_neighbours, precision_recall, quality, slant, slerp,
    thickness)
from vae_course.training import fit


def tiny(**config):
    torch.manual_seed(0)
    return mlp_vae(**dict(data_shape=(1, 8, 8), latent_dim=3, hidden=(10,)) | config)


def test_asking_leaves_the_model_and_the_random_numbers_alone():
    model = tiny(dropout=0.5).train()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    x = torch.full((4, 1, 8, 8), 0.5)
    a, b = generate(model, 5, seed=3), interpolate(model, x, x.flip(0) * 0.3, steps=4)
    assert (model.training and torch.equal(torch.get_rng_state(), state)
            and not a.requires_grad)
    assert torch.equal(a, generate(model, 5, seed=3)) and b.shape == (4, 4, 1, 8, 8)


@pytest.mark.parametrize(
    "build", [lambda: tiny(), lambda: conv_vae((3, 9, 11), latent_dim=3, widths=(4,)),
              lambda: mlp_autoencoder(data_shape=(1, 8, 8), latent_dim=3, hidden=(10,)),
              lambda: mlp_cvae((1, 8, 8), {"labels": 4}, 3, (10,)).at(2)],
    ids=["mlp", "convolutions", "autoencoder", "condition held"])
def test_every_kind_of_model_is_generated_from(build):
    model = build()
    shape = tuple(model.data_shape)
    # one more than a batch
    x = torch.rand(1001, *shape)
    z = encode_point(model, x)
    assert (z.shape == (1001, 3)
            and torch.allclose(z[-1:], model.encode(x[-1:]).mean, atol=1e-5))
    for source in (None, fit_mixture(z, components=2), aggregated_posterior(model, x),
                   torch.distributions.MultivariateNormal(
                       torch.zeros(3).double(), torch.eye(3).double())):
        made = generate(model, 7, source)
        assert (made.shape == (7, *shape) and made.dtype == torch.float32
                and made.isfinite().all())


def test_temperature_scales_about_the_mean_of_the_prior():
    model = tiny()
    model.prior_net.mu.fill_(2.0)                                 # N(2, exp 2)
    cold = generate(model, 3, temperature=0)
    assert torch.allclose(cold, decode_mean(model, torch.full((3, 3), 2.0)))


def test_aggregated_posterior_draws_what_its_density_says():
    torch.manual_seed(0)
    q = AggregatedPosterior(torch.tensor([[-3.0], [0.0], [4.0]]),
                            torch.tensor([[0.5], [1.0], [0.2]]))
    edges = torch.linspace(-6, 6, 25).double()
    grid = torch.linspace(-6, 6, 24 * 50 + 1).double()[:-1] + 6 / 1200
    expected = q.log_prob(grid[:, None]).exp().view(24, 50).mean(1) * 0.5
    z = q.sample((50_000,)).flatten()
    seen = torch.histogram(z, edges).hist / len(z)
    assert ((seen - expected).abs()
            < 5 * (expected * (1 - expected) / len(z)).sqrt() + 2e-4).all()
    assert q.sample((2, 4)).shape == (2, 4, 1)


def test_aggregated_posterior_is_exact_for_sharp_and_distant_codes():
    mu, sigma = (torch.tensor([[100.0, -50.0], [3.0, 2.0]]),
                 torch.tensor([[1e-2, 1e-2], [1.0, 0.1]]))
    q = AggregatedPosterior(mu, sigma)
    normal = torch.distributions.Independent(
        torch.distributions.Normal(mu.double(), sigma.double()), 1)
    assert torch.allclose(
        q.log_prob(mu),
        torch.stack([normal.log_prob(m.double()[None]).logsumexp(0) - math.log(2)
                     for m in mu]), atol=1e-4)


def test_holes_are_of_the_stated_level_for_any_score():
    torch.manual_seed(0)
    usual, drawn = torch.randn(2, 20_000, 4)
    for score in (lambda z: z[:, 0], lambda z: -z.norm(dim=1), lambda z: z.prod(1)):
        for level in (0.01, 0.1):
            assert (abs(hole_mass(score, usual, drawn, level) - level)
                    < 5 * (2 * level / 20_000) ** 0.5)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), D=st.integers(2, 20), steps=st.integers(2, 7),
       seed=st.integers(0, 10**6))
def test_paths_end_where_they_should_and_turn_steadily(n, D, steps, seed):
    a, b = torch.randn(2, n, D, generator=torch.Generator().manual_seed(seed),
                       dtype=torch.float64)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    assume(((a * b).sum(1) > -0.99).all())       # opposite: there is no one way
    for path in (lerp, slerp):
        way = path(a, b, steps)
        assert (way.shape == (steps, n, D) and torch.allclose(way[0], a)
                and torch.allclose(way[-1], b))
        assert torch.allclose(way.flip(0), path(b, a, steps))
    way = slerp(a, b, steps)
    assert torch.allclose(way.norm(dim=-1), torch.ones(steps, n).double())
    turns = (way[1:] * way[:-1]).sum(-1).clamp(-1, 1).acos()
    assert torch.allclose(turns, turns[:1].expand_as(turns), atol=1e-5)


def test_slerp_at_its_edges():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert torch.equal(slerp(a, a, 3), lerp(a, a, 3))
    assert slerp(a, 0 * a, 3).isfinite().all()
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, torch.tensor([[0.0, 1.0], [0.0, -1.0]]), 3)


def test_directions_of_a_known_cause():
    """Codes moved by class along one axis, by the attribute along another: within
    classes only the second is found."""
    torch.manual_seed(0)
    y, amount = torch.randint(5, (20_000,)), torch.randn(20_000)
    z = 0.1 * torch.randn(20_000, 3)
    z[:, 0] += 3 * y
    z[:, 1] += amount
    d = attribute_direction(z, amount + 10 * y, y)
    # between the halves of N(0, 1)
    gap = 2 * math.sqrt(2 / math.pi)
    assert abs(d[1] - gap) < 0.05 and d[0].abs() < 0.01 and d[2].abs() < 0.01
    # all with all: the class
    assert attribute_direction(z, amount + 10 * y)[0] > 5


def test_attributes_do_not_depend_on_the_place_and_know_their_scale():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 6:26, 8:11] = 1
    for move in ((3, 0), (0, 9), (-4, 5)):
        moved = torch.roll(image, move, (2, 3))
        assert (torch.allclose(thickness(moved), thickness(image))
                and torch.allclose(slant(moved), slant(image), atol=1e-4))
    assert (torch.allclose(slant(torch.rot90(torch.eye(16), 1)[None, None]),
                           torch.tensor([45.0]))
            and thickness(torch.zeros(2, 1, 8, 8)).eq(0).all())
    assert torch.allclose(thickness(image.expand(1, 3, 32, 32)), thickness(image))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(5, 60), m=st.integers(5, 60), d=st.integers(1, 12),
       k=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_neighbours_radii_and_shares_are_those_of_scikit_learn(n, m, d, k, seed):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=g, dtype=torch.float64),
            torch.randn(m, d, generator=g, dtype=torch.float64))
    theirs, rows = (NearestNeighbors(n_neighbors=k, algorithm="brute").fit(b.numpy())
                    .kneighbors(a.numpy()))
    ours, our_rows = nearest_neighbours(a, b, k, chunk=7)
    assert np.allclose(ours, theirs) and (our_rows.numpy() == rows).all()
    radius = {name: NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(
        p.numpy()).kneighbors(p.numpy())[0][:, -1] for name, p in (("a", a), ("b", b))}
    assert np.allclose(_ball_radii(a, k), radius["a"])
    between = torch.cdist(a, b).numpy()
    recall, precision = ((between <= radius["b"] + 1e-9).any(1).mean(),
                         (between <= radius["a"][:, None] + 1e-9).any(0).mean())
    assert np.allclose(precision_recall(a, b, k), (precision, recall))
    assert (_count_balls(a, b, _ball_radii(b, k), chunk=3).numpy()
            == (between <= radius["b"] + 1e-9).sum(1)).all()


@settings(max_examples=25, deadline=None)
@given(d=st.integers(1, 12), rank=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_frechet_is_that_of_the_matrix_root_also_where_it_is_singular(d, rank, seed):
    g = torch.Generator().manual_seed(seed)
    A, B = (torch.randn(d, rank, generator=g, dtype=torch.float64),
            torch.randn(d, d, generator=g, dtype=torch.float64))
    A, B, mu, nu = (A @ A.T, B @ B.T,
                    *torch.randn(2, d, generator=g, dtype=torch.float64))
    ours = frechet_gaussians(mu, A, nu, B).item()
    product = (A + 1e-10 * torch.eye(d)) @ B
    theirs = (((mu - nu)**2).sum().item() + (A + B).trace().item()
              - 2 * np.real(np.trace(sqrtm(product.numpy()))))
    assert (abs(ours - theirs) < 1e-3 * (1 + abs(theirs))
            and abs(ours - frechet_gaussians(nu, B, mu, A).item()) < 1e-6 * (1 + ours))
    Q = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    assert (
        abs(ours - frechet_gaussians(Q @ mu, Q @ A @ Q.T, Q @ nu, Q @ B @ Q.T).item())
        < 1e-6 * (1 + ours))


def test_frechet_distance_of_dead_features():
    "Features that are always 0, as of a unit that never fires, change nothing."
    torch.manual_seed(0)
    a, b = torch.randn(2, 200, 4).abs()
    padded = [torch.cat([x, torch.zeros(200, 3)], 1) for x in (a, b)]
    assert (abs(frechet_distance(*padded) - frechet_distance(a, b))
            < 1e-5 * frechet_distance(a, b) + 1e-5 * a.var(0).sum())
    assert frechet_distance(padded[0], padded[0]) < 1e-5 * a.var(0).sum()


def test_memory_of_a_copier_and_of_an_honest_source():
    g = torch.Generator().manual_seed(0)
    seen, unseen, new = (torch.rand(n, 1, 6, 6, generator=g) for n in (500, 500, 2000))
    assert (memorized_share(seen[:100] + 0.01, seen, unseen) == 1
            and memorized_share(unseen[:100] + 0.01, seen, unseen) == -1)
    # of as many unseen, and of fewer
    for n in (500, 100):
        error = (500 / n / len(new)) ** 0.5
        assert abs(memorized_share(new, seen, unseen[:n])) < 5 * error
        assert abs(memorized_share(torch.cat([new, seen.repeat(4, 1, 1, 1) + 0.01]),
                                   seen, unseen[:n]) - 0.5) < 5 * error
    # ties say nothing
    assert memorized_share(seen, seen, seen) == 0


def test_an_autoencoder_trains_no_variance():
    model = mlp_autoencoder(data_shape=(1, 8, 8), latent_dim=3, hidden=(10,))
    batch = torch.rand(6, 1, 8, 8), torch.zeros(6).long()
    model.losses(batch)["loss"].backward()
    last = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Linear)][-1]
    assert (
        last.weight.grad[:3].abs().sum() > 0 and last.weight.grad[3:].abs().sum() == 0)
    history = fit(model, Examples(*batch), epochs=2, batch_size=3, progress=False,
                  device="cpu")
    assert (set(history.rows[-1]) >= {"loss", "reconstruction"}
            and "kl" not in history.rows[-1])


def test_five_lines_for_a_folder_of_images(tmp_path):
    "As in lesson 09, on PNG files of two sizes."
    g = np.random.default_rng(0)
    for k in range(40):
        path = tmp_path / ("light" if k % 2 else "dark") / f"{k}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((g.random((12 + k % 3, 12)) * (255 if k % 2 else 60)).astype(
            np.uint8)).save(path)
    mine = from_folder(tmp_path, size=12)
    model = mlp_vae(mine.train.data_shape, latent_dim=2, hidden=(20,))
    fit(model, mine.train, epochs=3, batch_size=16, progress=False, device="cpu")
    made = generate(model, 9,
                    fit_mixture(encode_point(model, mine.train.floats()), components=2))
    assert made.shape == (9, 1, 12, 12) and 0 <= made.min() and made.max() <= 1


def test_quality_asks_the_classifier_in_evaluation_mode():
    torch.manual_seed(0)
    judge = Classifier((1, 8, 8), 3, widths=(2, 2), features=4, dropout=0.5).train()
    real, made = torch.rand(2, 60, 1, 8, 8)
    first = quality(judge, real, made)
    assert judge.training and first == quality(judge, real, made)
    assert first == (frechet_distance(features(judge, real), features(judge, made)),
                     *precision_recall(features(judge, real), features(judge, made)))


@pytest.mark.gpu
def test_on_a_gpu():
    model, x = tiny().cuda(), torch.rand(50, 1, 8, 8).cuda()
    z = encode_point(model, x)
    for source in (None, fit_mixture(z, components=2), aggregated_posterior(model, x)):
        assert generate(model, 5, source).device.type == "cuda"
    assert (interpolate(model, x[:3], x[3:6]).device.type == "cuda"
            and thickness(x).device.type == slant(x).device.type == "cpu")
    assert (frechet_distance(z, z) < 1e-5 * z.var(0).sum()
            and precision_recall(z, z) == (1, 1))
