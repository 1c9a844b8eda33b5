"""The checks of a density, held against densities that others wrote (zuko), and against
errors planted one at a time."""
import pytest, torch
import torch.distributions as D

from vae_course.beyond_gaussian import Coupling, FlowPrior, RealNVP, flexible_vae
from vae_course.density import density_checks
from vae_course.elbo import mlp
from vae_course.model import MixturePrior

zuko = pytest.importorskip("zuko")


def rough(module, seed=0, scale=0.5):
    "Weights far from where they begin."
    torch.manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters(): p.copy_(scale * torch.randn_like(p))
    return module


# ---------------------------------------------------------------- zuko's densities

@pytest.mark.parametrize("make", ["NICE", "MAF", "NSF"])
def test_flows_of_zuko_pass(make):
    torch.manual_seed(0)
    flow = getattr(zuko.flows, make)(2, transforms=2, hidden_features=(16,))()
    report = density_checks(flow, transforms=[flow.transform], samples=20_000, n=200)
    assert report.passed, report
    assert all(c.passed for c in report.checks)


def test_a_mixture_of_zuko_passes():
    torch.manual_seed(0)
    p = zuko.mixtures.GMM(2, components=3)()
    assert density_checks(p, samples=20_000, n=200).passed


# ---------------------------------------------------------------- ours beside zuko's

@pytest.mark.parametrize("dim", [2, 3, 5, 8])
def test_a_coupling_is_that_of_zuko_with_the_halves_exchanged(dim):
    torch.manual_seed(dim)
    first = (dim + 1) // 2
    net, z = mlp(first, 8, 2 * (dim - first)), torch.randn(20, dim)
    def affine(a):
        log_scale, shift = net(a).chunk(2, -1)
        return zuko.transforms.DependentTransform(
            D.AffineTransform(shift, log_scale.tanh().exp()), 1)
    theirs = zuko.transforms.CouplingTransform(affine, torch.arange(dim) < first)
    ours = Coupling(net)
    y, log_det = theirs.call_and_ladj(z)
    assert torch.allclose(ours(z), y.roll(-first, -1), atol=1e-6)
    assert torch.allclose(ours.log_abs_det_jacobian(z, ours(z)), log_det, atol=1e-6)
    assert torch.allclose(ours.inv(ours(z)), z, atol=1e-5)


def test_a_flow_scores_as_zuko_composes_it():
    torch.manual_seed(0)
    flow, z = rough(FlowPrior(4, couplings=3)), torch.randn(30, 4)
    composed = zuko.transforms.ComposedTransform(
        *[Coupling(net).inv for net in reversed(flow.flow.nets)])
    theirs = zuko.distributions.NormalizingFlow(composed, flow.base())
    assert torch.allclose(flow().log_prob(z), theirs.log_prob(z), atol=1e-4)


def test_a_vamp_prior_scores_as_a_mixture_of_zuko():
    torch.manual_seed(0)
    model = flexible_vae((1, 4, 4), 3, (8,), prior="vamp", components=6)
    each = model.encode(model.prior_net.pseudo_inputs)
    theirs, z = zuko.distributions.Mixture(each, torch.zeros(6)), torch.randn(30, 3)
    assert torch.allclose(model.prior().log_prob(z), theirs.log_prob(z), atol=1e-4)


# ---------------------------------------------------------------- errors are noticed

@pytest.mark.parametrize("seed", range(3))
def test_flows_and_mixtures_of_the_course_pass(seed):
    for prior in (rough(FlowPrior(2, 4, 16), seed, .3),
                  rough(MixturePrior(2, 5), seed, 1)):
        report = density_checks(prior(), low=-16, high=16, n=800, samples=20_000)
        assert report.passed, report


class Changed:
    "A density with another `log_prob` or `sample`."
    def __init__(self, p, log_prob=None, sample=None):
        self.log_prob, self.sample = log_prob or p.log_prob, sample or p.sample


def test_a_density_per_coordinate_is_seen_by_its_cells_alone():
    "Its integral is 1 and its entropy is right: both are those of the marginals."
    p = rough(MixturePrior(2, 4), seed=1, scale=1.0)()
    each, weights = p.component_distribution.base_dist, p.mixture_distribution.probs
    def marginals(z):
        log_p = each.log_prob(z[..., None, :]) + weights.log()[:, None]
        return log_p.logsumexp(-2).sum(-1)
    assert density_checks(Changed(p, marginals), -12, 12).failed == ["cells"]


@pytest.mark.parametrize("wrong, check", [
    (lambda log_det: 2 * log_det, "log-determinant"),
    (lambda log_det: -log_det, "log-determinant"),
    (lambda log_det: 0 * log_det, "log-determinant")])
def test_a_wrong_log_determinant_is_seen_twice(wrong, check, monkeypatch):
    # strong enough that the mistaken volume is far off: the integral is .86 and more
    flow, right = rough(RealNVP(2, 2, 8), scale=.8), Coupling.log_abs_det_jacobian
    monkeypatch.setattr(Coupling, "log_abs_det_jacobian",
                        lambda self, z, y: wrong(right(self, z, y)))
    base = D.Independent(D.Normal(torch.zeros(2), torch.ones(2)), 1)
    failed = density_checks(flow(base), low=-12, high=12, samples=20_000).failed
    assert check in failed and {"integral", "cells"} & set(failed)


def test_a_grid_that_misses_the_mass_says_so():
    wide = D.Independent(D.Normal(torch.zeros(2), 6 * torch.ones(2)), 1)
    report = density_checks(wide, samples=5000)
    assert "integral" in report.failed
    assert "of the draws beyond the grid" in report["integral"].found
    assert density_checks(wide, low=-40, high=40, samples=5000).passed


def test_the_random_numbers_are_left_alone_and_a_seed_repeats_itself():
    p = D.Independent(D.Normal(torch.zeros(2), torch.ones(2)), 1)
    before = torch.get_rng_state()
    one, two = (repr(density_checks(p, samples=2000, n=80)) for _ in range(2))
    assert one == two and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("p, words", [
    (D.Independent(D.Normal(torch.zeros(3), 1), 1), "needs a density over the plane"),
    (D.Normal(torch.zeros(2), torch.ones(2)), "sum over the coordinates"),
    (D.Independent(D.Normal(torch.zeros(4, 2), 1), 1), "for one example")])
def test_what_is_no_density_over_the_plane_is_refused(p, words):
    with pytest.raises(ValueError, match=words): density_checks(p, samples=1000)


@pytest.mark.parametrize("settings", [dict(low=1, high=1), dict(n=50), dict(n=0),
                                      dict(samples=10)])
def test_a_grid_that_makes_no_sense_is_refused(settings):
    p = D.Independent(D.Normal(torch.zeros(2), torch.ones(2)), 1)
    with pytest.raises(ValueError, match="give low < high"):
        density_checks(p, **settings)



def test_transforms_can_be_checked_by_themselves():
    flow = rough(RealNVP(2, 4, 8))
    p = D.Independent(D.Normal(torch.zeros(2), torch.ones(2)), 1)
    report = density_checks(p, samples=2000, n=80,
                            transforms=[Coupling(net) for net in flow.nets])
    assert report["inverse"].passed and report["log-determinant"].passed
