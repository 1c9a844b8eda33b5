"""Small errors that would hide in `generation`: each of these was planted, and no other
test noticed it."""
import math
import pytest, torch, torch.nn.functional as F
import vae_course.generation as room
from vae_course.classifier import Classifier, features
from vae_course.elbo import mlp_vae
from vae_course.generation import (
    _count_balls, aggregated_posterior, attribute_direction, decode_mean, fit_mixture,
    frechet_distance, generate, hole_mass, interpolate, lerp, memorized_share,
    mlp_autoencoder, nearest_neighbours, precision_recall, quality, slant, slerp,
    thickness)
def tiny(**config):
    torch.manual_seed(0)
    return mlp_vae(**dict(data_shape=(1, 8, 8), latent_dim=3, hidden=(10,)) | config)


def test_temperature_multiplies_standard_deviations():
    model = tiny(); model.prior_net.mu.fill_(2.0)
    torch.manual_seed(0); z = model.prior().sample((3,))
    assert torch.allclose(generate(model, 3, temperature=2.0, seed=0),
                          decode_mean(model, 2 + 2.0 * (z - 2)), atol=1e-5)


def test_seeds_differ():
    model = tiny()
    assert not torch.equal(generate(model, 5, seed=3), generate(model, 5, seed=4))


def test_aggregated_posterior_has_mean_and_standard_deviation():
    model, x = tiny(), torch.rand(5, 1, 8, 8)
    q, known = model.encode(x), aggregated_posterior(model, x)
    assert (torch.allclose(known.mu, q.mean.double(), rtol=1e-4, atol=1e-5)
            and torch.allclose(known.sigma, q.stddev.double(), rtol=1e-4, atol=1e-5))


def test_confidence_is_over_classes():
    torch.manual_seed(0)
    judge, x = (Classifier((1, 8, 8), 3, widths=(2, 2), features=4).eval(),
                torch.rand(20, 1, 8, 8))
    assert torch.allclose(room.confidence(judge, x), judge(x).softmax(1).max(1).values,
                          rtol=1e-4)


def test_mixture_has_its_seed():
    z = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(fit_mixture(z, 5, seed=0).log_prob(z.double()),
                           fit_mixture(z, 5, seed=1).log_prob(z.double()))


def test_a_tie_is_no_hole():
    assert hole_mass(lambda z: 0 * z[:, 0], torch.randn(50, 2), torch.randn(50, 2)) == 0


def test_thickness_does_not_depend_on_the_place():
    image = torch.zeros(1, 1, 32, 32); image[0, 0, 6:26, 8:11] = 1
    assert torch.allclose(thickness(image.roll((-6, -8), (2, 3))), thickness(image))


def test_slant_of_a_steep_line():
    line = torch.zeros(1, 1, 16, 16)
    line[0, 0, 15 - 2 * torch.arange(8), torch.arange(8)] = 1
    assert torch.allclose(slant(line), torch.tensor([math.degrees(math.atan(0.5))]))


def test_classes_count_by_their_size():
    z, v, y = (torch.tensor([[0.], [1.], [0.], [1.], [0.], [5.]]),
               torch.tensor([0., 1., 0., 1., 0., 1.]), torch.tensor([0, 0, 0, 0, 1, 1]))
    assert torch.allclose(attribute_direction(z, v, y),
                          torch.tensor([(4 * 1 + 2 * 5) / 6]))


def test_the_median_belongs_to_the_lower_half():
    assert attribute_direction(torch.tensor([[0.], [1.], [5.]]),
                               torch.tensor([0., 1., 2.])) == 4.5


def test_way_goes_from_a_to_b():
    model, (a, b) = tiny(), torch.rand(2, 4, 1, 8, 8)
    way = interpolate(model, a, b, steps=3)
    assert (torch.allclose(way[0], model.reconstruct(a), atol=1e-5)
            and torch.allclose(way[-1], model.reconstruct(b), atol=1e-5))
    assert (way[0] - model.reconstruct(b)).abs().max() > 1e-3


def test_way_is_spherical_if_not_said():
    model = tiny(); torch.manual_seed(1); a, b = torch.rand(2, 4, 1, 8, 8)
    assert (torch.equal(interpolate(model, a, b), interpolate(model, a, b, path=slerp))
            and not torch.equal(interpolate(model, a, b),
                                interpolate(model, a, b, path=lerp)))


def test_autoencoder_loss_is_a_mean_over_examples():
    torch.manual_seed(0)
    model = mlp_autoencoder(data_shape=(1, 8, 8), latent_dim=3, hidden=(10,))
    x = torch.rand(6, 1, 8, 8)
    assert torch.allclose(
        model.losses((x, None))["loss"],
        F.binary_cross_entropy(model.reconstruct(x), x, reduction="none").sum() / 6)


def test_ties_count_at_chance():
    seen = torch.rand(500, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    assert abs(memorized_share(seen[:100], seen, seen[:100])) < 1e-9


def test_both_sides_need_points():
    with pytest.raises(ValueError, match="more points than dimensions"):
        frechet_distance(torch.randn(50, 4), torch.randn(4, 4))


def test_both_sides_are_finite():
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance(torch.randn(50, 4), torch.full((50, 4), math.nan))


def test_covariance_is_unbiased():
    a = torch.tensor([[1., 0.], [-1., 0.], [0., 1.], [0., -1.]])
    assert abs(frechet_distance(a, 3 * a) - 2 * (6**0.5 - (2/3)**0.5)**2) < 1e-5


def test_the_ball_holds_its_rim():
    assert _count_balls(torch.tensor([[1.0]]), torch.tensor([[0.0]]),
                        torch.tensor([1.0])) == 1


def test_k_is_handed_on():
    torch.manual_seed(0)
    judge = Classifier((1, 8, 8), 3, widths=(2, 2), features=4)
    real, made = torch.rand(2, 60, 1, 8, 8)
    assert (quality(judge, real, made, k=1)[1:]
            == precision_recall(features(judge, real), features(judge, made), 1)
            != quality(judge, real, made)[1:])


def test_distance_to_itself_is_zero():
    x = 10 + torch.rand(200, 50, generator=torch.Generator().manual_seed(0))
    assert nearest_neighbours(x, x)[0].eq(0).all()


def test_one_feature_is_enough():
    a = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    assert abs(frechet_distance(a, 3 * a + 1) - 5) < 0.5          # 1² + (3 − 1)²
