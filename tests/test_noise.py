"""Noise that is handed over: every operator of torch that draws, every distribution, in
every way a model may ask for it."""
import pytest, torch
import torch.distributions as D
from torch import nn
from torch.nn import functional as F

from vae_course.devices import seeded
from vae_course.noise import Noise, noise_is_handed, recorded_noise, replayed_noise

one = torch.ones(3, 4)
OPERATORS = dict(
    rand=lambda: torch.rand(3, 4), randn=lambda: torch.randn(3, 4),
    rand_like=lambda: torch.rand_like(one), randn_like=lambda: torch.randn_like(one),
    randint=lambda: torch.randint(9, (3, 4)),
    randint_like=lambda: torch.randint_like(one, 2, 9),
    randperm=lambda: torch.randperm(12), normal=lambda: torch.normal(one, one),
    normal_of_numbers=lambda: torch.normal(0.0, 1.0, (3, 4)),
    normal_in_place=lambda: torch.empty(3, 4).normal_(2, 3),
    uniform_in_place=lambda: torch.empty(3, 4).uniform_(2, 3),
    exponential_in_place=lambda: torch.empty(3, 4).exponential_(),
    cauchy_in_place=lambda: torch.empty(3, 4).cauchy_(),
    log_normal_in_place=lambda: torch.empty(3, 4).log_normal_(),
    geometric_in_place=lambda: torch.empty(3, 4).geometric_(0.3),
    random_in_place=lambda: torch.empty(3, 4).random_(9),
    random_whole=lambda: torch.empty(12, dtype=torch.int64).random_(99),
    bernoulli=lambda: torch.bernoulli(one / 2),
    bernoulli_in_place=lambda: torch.empty(3, 4).bernoulli_(0.5),
    multinomial=lambda: torch.multinomial(one, 12, replacement=True),
    poisson=lambda: torch.poisson(5 * one), dropout=lambda: F.dropout(one, 0.5),
    dropout2d=lambda: F.dropout2d(torch.ones(1, 12, 2, 2), 0.5),
    alpha_dropout=lambda: F.alpha_dropout(one, 0.5, True),
    binomial=lambda: torch.binomial(9 * one, one / 2),
    gumbel=lambda: F.gumbel_softmax(one, tau=0.5),
    trunc_normal=lambda: nn.init.trunc_normal_(torch.empty(3, 4)))
logits = torch.zeros(12, 5)
DISTRIBUTIONS = dict(
    Normal=D.Normal(one, one), Laplace=D.Laplace(one, one), Gamma=D.Gamma(one, one),
    Beta=D.Beta(one, one), Dirichlet=D.Dirichlet(one), Poisson=D.Poisson(5 * one),
    Bernoulli=D.Bernoulli(one / 2), Categorical=D.Categorical(logits=logits),
    OneHot=D.OneHotCategorical(logits=logits), StudentT=D.StudentT(3 * one),
    NegativeBinomial=D.NegativeBinomial(5 * one, 0.5 * one), Gumbel=D.Gumbel(one, one),
    LogNormal=D.LogNormal(one, one), Cauchy=D.Cauchy(one, one),
    MultivariateNormal=D.MultivariateNormal(one, torch.eye(4)),
    LowRank=D.LowRankMultivariateNormal(one, torch.ones(3, 4, 1), one),
    RelaxedBernoulli=D.RelaxedBernoulli(torch.tensor(0.5), logits=one),
    Mixture=D.MixtureSameFamily(D.Categorical(logits=logits[:, :2]),
                                D.Normal(torch.zeros(12, 2), torch.ones(12, 2))))
DRAWS = OPERATORS | {name: d.sample for name, d in DISTRIBUTIONS.items()}


@pytest.mark.parametrize("name", DRAWS)
def test_what_was_drawn_is_drawn_again_whatever_the_seed(name):
    draw = DRAWS[name]
    with seeded(1), recorded_noise() as noise: first = draw()
    with seeded(1): alone = draw()
    with seeded(2):
        other = draw()
        with replayed_noise(noise): again = draw()
    assert torch.equal(first, again) and first.dtype == again.dtype
    assert torch.equal(first, alone), "watching changes what is drawn"
    assert not torch.equal(first, other) and len(noise) >= 1
    assert not noise_is_handed()


@pytest.mark.parametrize("name", DRAWS)
def test_noise_is_of_that_operator_and_not_of_its_seed(name):
    "Other noise gives other draws: it is not the generator that is set back."
    draw = DRAWS[name]
    with seeded(1), recorded_noise() as noise: draw()
    with seeded(2), recorded_noise() as others: kept = draw()
    with seeded(1), replayed_noise(others): again = draw()
    assert torch.equal(kept, again)
    assert not all(map(torch.equal, noise.draws, others.draws))


@pytest.mark.parametrize("name", [n for n, d in DISTRIBUTIONS.items() if d.has_rsample])
def test_the_gradient_through_a_draw_is_as_before(name):
    if name in ("Gamma", "Beta", "Dirichlet", "StudentT"): return   # of the draw itself
    kind, at = type(DISTRIBUTIONS[name]), torch.ones(3, 4, requires_grad=True)
    make = dict(MultivariateNormal=lambda: kind(at, torch.eye(4)),
                LowRank=lambda: kind(at, torch.ones(3, 4, 1), one),
                RelaxedBernoulli=lambda: kind(torch.tensor(0.5), logits=at)).get(
        name, lambda: kind(at, one))
    with seeded(0), recorded_noise() as noise: first = make().rsample()
    with seeded(1), replayed_noise(noise): again = make().rsample()
    a, b = (torch.autograd.grad(v.sum(), at)[0] for v in (first, again))
    assert torch.equal(a, b) and a.abs().sum() > 0


def test_dropout_has_the_same_mask_and_its_gradient():
    x = torch.ones(50, requires_grad=True)
    for p in (0.2, 0.5):
        with recorded_noise() as noise: a = F.dropout(x, p)
        with replayed_noise(noise): b = F.dropout(x, p)
        assert torch.equal(a, b)
        first, again = (torch.autograd.grad(v.sum(), x)[0] for v in (a, b))
        assert torch.equal(first, again) and torch.equal(first, a.detach())
    with recorded_noise() as noise:
        F.dropout(x, 0.5, training=False), F.dropout(x, 0.0)
    assert len(noise) == 0


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_the_dropout_of_gpus_is_scaled_as_ever(p):
    "`native_dropout`, which a GPU takes and a CPU knows: kept values count 1/(1 − p)."
    x = torch.ones(1000, requires_grad=True)
    with recorded_noise() as noise: a, mask = torch.native_dropout(x, p, True)
    with replayed_noise(noise): b, again = torch.native_dropout(x, p, True)
    assert torch.equal(a, b) and torch.equal(mask, again) and mask.dtype == torch.bool
    assert torch.allclose(a, mask / (1 - p)) and 0 < mask.sum() < 1000
    with recorded_noise() as noise: torch.native_dropout(x, p, False)
    assert len(noise) == 0


def test_several_draws_come_in_order_and_must_fit():
    def both(): return torch.randn(3), torch.rand(2)
    with recorded_noise() as noise: a = both()
    with replayed_noise(noise): b = both()
    assert all(map(torch.equal, a, b)) and len(noise) == 2
    with pytest.raises(ValueError, match="holds 2 draws, but this .* wants more"), (
            replayed_noise(noise)):
        both(), both()
    with pytest.raises(ValueError, match="holds 2 draws, but this .* wanted only 1"), (
            replayed_noise(noise)):
        torch.randn(3)
    with pytest.raises(ValueError, match=r"draw 1 .* shape \(3,\), but \(4,\)"), (
            replayed_noise(noise)):
        torch.randn(4)
    assert not noise_is_handed()


def test_an_error_inside_is_that_error():
    with recorded_noise() as noise: torch.randn(3)
    with pytest.raises(KeyError), replayed_noise(noise):
        raise KeyError("mine")
    assert not noise_is_handed()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_parts_of_several_processes_are_the_whole(world_size):
    noise = Noise([torch.arange(7.)[:, None].expand(7, 2), torch.arange(7)])
    parts = [noise.part(rank, world_size) for rank in range(world_size)]
    for i, draw in enumerate(noise.draws):
        assert torch.equal(torch.cat([part.draws[i] for part in parts]), draw)
        sizes = [len(part.draws[i]) for part in parts]
        assert sizes == [len(p) for p in torch.arange(7).tensor_split(world_size)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_noise_takes_the_type_that_is_wanted(dtype):
    with recorded_noise() as noise: first = torch.randn(50)
    with replayed_noise(noise): again = torch.randn(50, dtype=dtype)
    assert again.dtype == dtype and torch.equal(again, first.to(dtype))


def test_what_is_kept_is_not_what_the_model_goes_on_with():
    with recorded_noise() as noise: drawn = torch.randn(3)
    kept = noise.draws[0].clone()
    drawn.zero_()
    assert torch.equal(noise.draws[0], kept)
    with replayed_noise(noise): torch.randn(3).zero_()
    assert torch.equal(noise.draws[0], kept)


def test_a_layer_of_attention_and_of_noise_together():
    "Dropout inside attention draws as well."
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
    x = torch.randn(2, 5, 8)
    with recorded_noise() as noise: a = layer(x)
    with replayed_noise(noise): b = layer(x)
    assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a, layer(x))
