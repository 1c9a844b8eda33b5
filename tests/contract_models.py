"""Models that no lesson has, in few lines each: a flow as q(z|x), a learned mixture as
p(z), two layers of latents, words of several lengths. Whatever takes a model must take
these, or say what they lack."""
import torch
import torch.distributions as D
from torch import nn
from torch.distributions import constraints

from vae_course.beta_vae import BetaTCVAE, BetaVAE
from vae_course.elbo import VAE, Bernoulli, DiagonalGaussian, mlp, mlp_networks
from vae_course.latent import StandardNormal, diagonal_gaussian
from vae_course.model import LatentVariableModel
from vae_course.reparameterization import bound_logvar

SHAPE, LATENTS = (1, 8, 8), 4


class Coupling(D.Transform):
    """One half is scaled and shifted by what a network reads off the other; then they
    change places."""
    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(self, net):
        super().__init__()
        self.net = net

    def _call(self, z):
        a, b = z.tensor_split(2, -1)
        s, t = self.net(a).chunk(2, -1)
        return torch.cat([b * s.tanh().exp() + t, a], -1)

    def _inverse(self, y):
        b, a = y.tensor_split([y.shape[-1] // 2], -1)
        s, t = self.net(a).chunk(2, -1)
        return torch.cat([a, (b - t) / s.tanh().exp()], -1)

    def log_abs_det_jacobian(self, z, y):
        return self.net(z.tensor_split(2, -1)[0]).chunk(2, -1)[0].tanh().sum(-1)


class Flow(nn.Module):
    "A diagonal Gaussian, and what two couplings make of it."
    def __init__(self, latents=LATENTS):
        super().__init__()
        self.gaussian, half = DiagonalGaussian(), latents // 2
        self.nets = nn.ModuleList(mlp(half, 8, 2 * half) for _ in range(2))

    def forward(self, out):
        return D.TransformedDistribution(
            self.gaussian(out), [Coupling(net) for net in self.nets],
            validate_args=False)


class Mixture(nn.Module):
    "Gaussians with weights, means and widths that are learned."
    def __init__(self, latents=LATENTS, components=3):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.mu = nn.Parameter(torch.randn(components, latents))
        self.logvar = nn.Parameter(torch.zeros(components, latents))

    def forward(self):
        return D.MixtureSameFamily(
            D.Categorical(logits=self.logits, validate_args=False),
            diagonal_gaussian(self.mu, bound_logvar(self.logvar)), validate_args=False)


def image_model(kind=VAE, prior=None, posterior=None, shape=SHAPE, latents=LATENTS,
                likelihood=None, **settings):
    "A model of fully connected layers from these parts."
    if posterior is not None: settings["posterior"] = posterior
    return kind(*mlp_networks(shape, latents, (16,)), prior or StandardNormal(latents),
                likelihood or Bernoulli(), shape, latents, **settings)


class Joint:
    "p(top) p(bottom|top): its values are pairs."
    def __init__(self, top, bottom):
        self.top, self.bottom = top, bottom

    def rsample(self, shape=()):
        top = self.top.rsample(shape)
        return top, self.bottom(top).rsample()

    @torch.no_grad()
    def sample(self, shape=()): return self.rsample(shape)

    def log_prob(self, z): return self.top.log_prob(z[0]) + self.bottom(z[0]).log_prob(
        z[1])

    @property
    def mode(self): return self.top.mean, self.bottom(self.top.mean).mean


class TwoLayers(LatentVariableModel):
    "z is a pair: q(top|x) q(bottom|x, top), and p(top) p(bottom|top) p(x|bottom)."
    def __init__(self, shape=SHAPE, top=2, bottom=3):
        super().__init__()
        self.data_shape, size = shape, torch.Size(shape).numel()
        self.body = nn.Sequential(nn.Flatten(), mlp(size, 16))
        self.to_top, self.to_bottom = nn.Linear(16, 2 * top), nn.Linear(16 + top,
                                                                        2 * bottom)
        self.down, self.out = nn.Linear(top, 2 * bottom), mlp(bottom, 16, size)
        self.p_top, self.gaussian = StandardNormal(top), DiagonalGaussian()

    def encode(self, x, c=None):
        h = self.body(x.to(self.device))
        def bottom(top):
            seen = torch.cat([h.expand(*top.shape[:-1], -1), top], -1)
            return self.gaussian(self.to_bottom(seen))
        return Joint(self.gaussian(self.to_top(h)), bottom)

    def prior(self, c=None):
        return Joint(self.p_top(), lambda top: self.gaussian(self.down(top)))

    def decode(self, z, c=None):
        logits = self.out(z[1].to(self.device)).unflatten(-1, self.data_shape)
        return D.Independent(D.Bernoulli(logits=logits, validate_args=False),
                             len(self.data_shape), validate_args=False)


class Words:
    "p(word|z), each letter given those before it; a word ends where its length says."
    def __init__(self, model, z): self.model, self.z = model, z

    def log_prob(self, x):
        tokens, lengths = x
        steps = torch.arange(tokens.shape[-1] + 1, device=tokens.device)
        end = self.model.letters
        told = torch.where(steps < lengths[:, None],
                           nn.functional.pad(tokens, (0, 1)), end)
        logits = self.model.logits(self.z, nn.functional.pad(tokens, (1, 0), value=end))
        each = logits.log_softmax(-1).gather(
            -1, told.expand(logits.shape[:-1])[..., None])[..., 0]
        return (each * (steps <= lengths[:, None])).sum(-1)

    @torch.no_grad()
    def sample(self):
        end, most = self.model.letters, self.model.most
        shape, device = self.z.shape[:-1], self.z.device
        told = torch.full((*shape, 1), end, device=device)
        for _ in range(most):
            logits = self.model.logits(self.z, told)[..., -1, :]
            new = D.Categorical(logits=logits, validate_args=False).sample()
            told = torch.cat([told, new[..., None]], -1)
        ended = (told[..., 1:] == end).cumsum(-1) > 0
        return told[..., 1:].masked_fill(ended, 0), (~ended).sum(-1)


class Spelling(LatentVariableModel):
    "A model of words: x is `(tokens, lengths)`, and p(x|z) has no mean."
    def __init__(self, letters=5, most=4, latents=LATENTS, width=12):
        super().__init__()
        self.letters, self.most = letters, most
        self.embed = nn.Embedding(letters + 1, width)
        self.read = nn.Linear(width, 2 * latents)
        self.past, self.to_width = nn.Linear(width, width), nn.Linear(latents, width)
        self.head = nn.Linear(width, letters + 1)
        self.prior_net, self.gaussian = StandardNormal(latents), DiagonalGaussian()

    def logits(self, z, told):
        before = self.past(self.embed(told)).cumsum(-2)        # of the letters so far
        logits = self.head((before + self.to_width(z)[..., None, :]).tanh())
        full = torch.arange(told.shape[-1], device=told.device) >= self.most
        shut = torch.arange(self.letters + 1, device=told.device) < self.letters
        # after the last place there is nothing but the end
        return logits.masked_fill(full[:, None] & shut, -1e9)

    def encode(self, x, c=None):
        tokens, lengths = (t.to(self.device) for t in x)
        counts = torch.arange(tokens.shape[1], device=self.device) < lengths[:, None]
        seen = (self.embed(tokens) * counts[..., None]).sum(1)
        return self.gaussian(self.read(seen / lengths[:, None].clamp(min=1)))

    def decode(self, z, c=None): return Words(self, z.to(self.device))

    def prior(self, c=None): return self.prior_net()


def words(n=20, letters=5, most=4, seed=0):
    "`(tokens, lengths)` of made-up words."
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(most + 1, (n,), generator=g)
    tokens = torch.randint(letters, (n, most), generator=g)
    return tokens * (torch.arange(most) < lengths[:, None]), lengths


def pictures(n=20, shape=SHAPE, seed=0):
    "Black and white images."
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(n, *shape, generator=g) < 0.3).float()


# name → makes the model; images of `SHAPE` unless it is of words
CONTRACT = {
    "flow": lambda: image_model(posterior=Flow()),
    "mixture": lambda: image_model(prior=Mixture()),
    "flow and mixture": lambda: image_model(prior=Mixture(), posterior=Flow()),
    "beta, mixture": lambda: image_model(BetaVAE, prior=Mixture(), beta=3.0),
    "beta, flow": lambda: image_model(BetaVAE, posterior=Flow(), free_bits=0.1),
    "beta_tc, mixture": lambda: image_model(BetaTCVAE, prior=Mixture(),
                                            dataset_size=20),
    "two layers": TwoLayers, "words": Spelling}
