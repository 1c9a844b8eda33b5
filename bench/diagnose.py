"""Does `diagnose` name what is wrong with a model, and leave a healthy one alone? Sick
models, each made by a recipe that is named, and healthy ones.

    # the cases on which the rules were tuned, and those by which they are judged
    OMP_NUM_THREADS=1 python bench/diagnose.py --split tuning
    OMP_NUM_THREADS=1 python bench/diagnose.py --split judging
    # judged again after a fault was mended, with other seeds and sizes
    OMP_NUM_THREADS=1 python bench/diagnose.py --split again
    # a few small cases: shows that it runs
    python bench/diagnose.py --quick
    # goes on with a stored file, case by case
    OMP_NUM_THREADS=1 python bench/diagnose.py --split judging --add FILE

Tuning and judging share no seed, no set of data and no pair of architecture and size.
MNIST and Fashion-MNIST are looked for in `VAE_COURSE_DATA`."""
import argparse, math, random, tempfile, time
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributions as D
from torch import nn

import common

from vae_course.beta_vae import beta_vae, beta_tcvae
from vae_course.cvae import mlp_cvae
from vae_course.data import Examples, as_floats
from vae_course.elbo import VAE, conv_vae, mlp_vae
from vae_course.latent import StandardNormal, diagonal_gaussian
from vae_course.model import MixturePrior
from vae_course.semi_supervised import m2
from vae_course.text import MinimumRate, text_vae
from vae_course.training import fit, linear
from vae_course.vq_vae import vq_vae

# ------------------------------------------------------------------- the sets of data


def _drawn_folder(n=3000, size=16, seed=0):
    "A folder of small colour images: letters, turned, moved and coloured."
    from PIL import Image, ImageDraw, ImageFont
    folder, r = Path(tempfile.mkdtemp(prefix="letters_")), random.Random(seed)
    for i in range(n):
        letter = r.choice("ACEHKLTX")
        ink, ground = ([r.randrange(lo, lo + 100) for _ in range(3)] for lo in (150, 0))
        image = Image.new("RGB", (4 * size, 4 * size), tuple(ground))
        big = ImageFont.load_default(4 * size * r.uniform(0.6, 0.9))
        ImageDraw.Draw(image).text((2 * size + r.gauss(0, 3), 2 * size + r.gauss(0, 3)),
                                   letter, tuple(ink), font=big, anchor="mm")
        image = image.rotate(r.gauss(0, 15), fillcolor=tuple(ground))
        (folder / letter).mkdir(exist_ok=True)
        image.resize((size, size)).save(folder / letter / f"{i}.png")
    return folder


def _small(part):
    "Grey images of 7×7 or 8×8, black or white."
    x = as_floats(part.x).mean(1, keepdim=True)
    x = nn.functional.avg_pool2d(x, 4 if x.shape[-1] == 28 else 2)
    return Examples((x > x.mean()).float(), part.y)


@lru_cache(None)
def get_set(name):
    "Train and test of a set, cut to what trains in seconds."
    from vae_course.arrays import from_arrays
    from vae_course.datasets import load
    from vae_course.folders import from_folder
    from vae_course.lines import load_names, load_shakespeare
    if name.startswith("small "):
        data = get_set(name.removeprefix("small "))
        return SimpleNamespace(**vars(data) | dict(
            name=name, train=_small(data.train), test=_small(data.test)))
    if name == "8×8":
        from sklearn.datasets import load_digits
        found = load_digits()
        data = from_arrays(found.images / 16, found.target)
    elif name == "folder": data = from_folder(_drawn_folder(), 16, 3)
    elif name == "names": data = load_names()
    elif name == "words":
        from vae_course.lines import from_strings
        play = load_shakespeare()
        lines = play.lines(play.train) + play.lines(play.test)
        words = {w.strip(".,;:!?'-").lower() for line in lines for w in line.split()}
        data = from_strings(sorted(w for w in words if 2 < len(w) < 11), name="words")
    else: data = load(name)
    rng = torch.Generator().manual_seed(0)
    def cut(part, n):
        return part[torch.randperm(len(part), generator=rng)[:n]]
    return SimpleNamespace(name=name, train=cut(data.train, 4000), whole=data,
                           test=cut(data.test, 1000), classes=data.classes)


# -------------------------------------------------------------------- the architectures

class Strict:
    "p(x|z), each pixel of 0 or 1 given z and those before it in reading order."
    def __init__(self, net, z, shape): self.net, self.z, self.shape = net, z, shape

    def log_prob(self, x):
        x = x.expand(*self.z.shape[:-1], *self.shape)
        logits = self.net(x.reshape(-1, *self.shape), self.z.flatten(0, -2))
        each = D.Bernoulli(logits=logits, validate_args=False).log_prob(
            x.reshape(logits.shape))
        return each.flatten(1).sum(1).reshape(self.z.shape[:-1])


class Masked(nn.Conv2d):
    "A convolution that sees what comes before, and the place itself where it may."
    def __init__(self, a, b, size, own):
        super().__init__(a, b, size, padding=size // 2)
        mask = torch.ones(size, size)
        mask[size // 2, size // 2 + own:], mask[size // 2 + 1:] = 0, 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight * self.mask, self.bias,
                                    padding=self.padding)


class StrictDecoder(nn.Module):
    "Masked convolutions, and z added to each place (a small PixelCNN)."
    def __init__(self, shape, latent, width, depth=3, size=5):
        super().__init__()
        sizes = [shape[0]] + [width] * depth
        self.layers = nn.ModuleList(Masked(a, b, size, i > 0) for i, (a, b) in
                                    enumerate(zip(sizes, sizes[1:])))
        self.from_z = nn.Linear(latent, width)
        self.out = nn.Conv2d(width, shape[0], 1)

    def forward(self, x, z):
        h = x
        for i, layer in enumerate(self.layers):
            h = layer(h)
            if i == 0: h = h + self.from_z(z)[..., None, None]
            h = nn.functional.silu(h)
        return self.out(h)


class StrictVAE(VAE):
    "A VAE whose decoder also sees the pixels before each one."
    def decode(self, z, c=None): return Strict(self.decoder, z, self.data_shape)


def strict_vae(shape, latent_dim, hidden, width):
    latent = latent_dim
    inner = mlp_vae(shape, latent, hidden)
    return StrictVAE(inner.encoder, StrictDecoder(shape, latent, width),
                     StandardNormal(latent), inner.likelihood, shape, latent)


def build_model(arch, data, seed):
    "A new model: `arch` is a name and its settings."
    torch.manual_seed(seed)
    settings = dict(arch)
    kind, shape = settings.pop("kind"), data.train.data_shape
    if kind == "text":
        whole = data.whole
        return text_vae(whole.alphabet.letters, whole.longest, **settings)
    if kind == "mlp": return mlp_vae(shape, **settings)
    if kind == "conv": return conv_vae(shape, **settings)
    if kind == "beta": return beta_vae(shape, **settings)
    if kind == "tc": return beta_tcvae(shape, dataset_size=len(data.train), **settings)
    if kind == "vq": return vq_vae(shape, prior="uniform", **settings)
    if kind == "cvae": return mlp_cvae(shape, {"labels": len(data.classes)}, **settings)
    if kind == "m2": return m2(shape, classes=len(data.classes), **settings)
    if kind == "mixture":
        return mlp_vae(shape, prior=MixturePrior(settings["latent_dim"]), **settings)
    if kind == "strict": return strict_vae(shape, **settings)
    if kind == "normed":
        model = mlp_vae(shape, **settings)
        flat = [m for m in model.encoder.modules() if isinstance(m, nn.Linear)]
        model.encoder = nn.Sequential(nn.Flatten(), flat[0],
                                      nn.BatchNorm1d(flat[0].out_features), nn.SiLU(),
                                      *flat[1:])
        return model
    raise ValueError(kind)


# ----------------------------------------------------------- the recipes, one a disease

class Case(SimpleNamespace):
    "What is to be made: disease, recipe, architecture, data, seed and severity."
    recipe = anneal = rate = factor = disease = None
    binarize = blind = False      # `blind`: the history is not shown to `diagnose`
    noise = 0.0


def train(model, data, case, epochs=None, **how):
    "Train as the course does; the history."
    text = not isinstance(data.train.x, torch.Tensor)
    usual: dict = dict(lr=1e-2 if text else 3e-3, batch_size=256 if text else 128,
                       clip=5.0)
    if case.anneal: usual["schedules"] = dict(beta=linear(0, 1, until=case.anneal))
    if case.rate: usual["callbacks"] = [MinimumRate(case.rate)]
    how = usual | how
    return fit(model, data.train, epochs=epochs or case.epochs, seed=case.seed,
               device="cpu", progress=False, watch_nan=False,
               binarize=case.binarize, **how)


def healthy(case, data):
    model = build_model(case.arch, data, case.seed)
    return model, data, train(model, data, case)


def with_losses(model, losses):
    "`model`, whose `losses` are replaced, as a subclass would."
    base = type(model)
    def own(self, batch): return losses(self, batch, base.losses)
    model.__class__ = type(base.__name__, (base,), dict(losses=own))
    return model


def weigh(case, data):
    "The two terms of the loss with weights of the bug that `case.bug` names."
    model = build_model(case.arch, data, case.seed)
    x = data.train.x
    values = (math.prod(data.train.data_shape) if isinstance(x, torch.Tensor)
              else float(x[1].float().mean()) + 1)
    a, b = dict(pixel_mean=(1 / values, 1.0), latent_mean=(1.0, 1 / model.latent_dim),
                batch_sum_kl=(1.0, 32.0), batch_sum_reconstruction=(128.0, 1.0),
                forgotten_half=(2.0, 1.0), half_kl_twice=(1.0, 0.5),
                both_means=(1 / values, 1 / model.latent_dim),
                kl_per_pixel=(1.0, 1 / values))[case.bug]
    scale = 1 / max(a, b)
    def losses(self, batch, usual):
        terms = usual(self, batch)
        loss = a * terms["reconstruction"] + b * terms["kl"]
        # Adam does not mind the size; clipping would
        return terms | dict(loss=scale * loss)
    if case.where == "loss":
        return with_losses(model, losses), data, None
    return model, data, losses


def accidental(case, data):
    model, data, losses = weigh(case, data)
    if losses is None: return model, data, train(model, data, case)
    # the wrong weights were those of a loop of one's own; the model says nothing
    usual = type(model)
    history = train(with_losses(model, losses), data, case)
    model.__class__ = usual
    return model, data, history


def mixed_order(self, batch, usual):
    "Codes reach the decoder in another order than their examples."
    x, c = self.inputs(batch)
    q = self.encode(x, c)
    z = q.rsample()
    from vae_course.beta_vae import kl_by_latent, kl_penalty
    z = z.view(2, -1, z.shape[-1]).transpose(0, 1).reshape(z.shape) if (
        len(z) % 2 == 0) else z.flip(0)
    reconstruction = -self.decode(z, c).log_prob(x).mean()
    by_latent = kl_by_latent(q, self.prior(c), z).mean(0)
    kl = by_latent.sum()
    loss = reconstruction + kl_penalty(by_latent, self.beta,
                                       getattr(self, "free_bits", 0.0),
                                       getattr(self, "capacity", 0.0))
    return dict(loss=loss, reconstruction=reconstruction, kl=kl,
                neg_elbo=reconstruction + kl)


def collapse(case, data):
    "Trained until the KL is below 0.3 nats, at β = 1."
    model = build_model(case.arch, data, case.seed)
    usual, rows = type(model), []
    for _ in range(4):
        if case.recipe == "mixed order": with_losses(model, mixed_order)
        rows += train(model, data, case).rows        # or a decoder that needs no code
        model.__class__ = usual
        if rows[-1]["kl"] < 0.3: return model, data, rows
    raise RuntimeError(f"{case}: the KL is still {rows[-1]['kl']:.2f}")


def lagging(case, data):
    model = build_model(case.arch, data, case.seed)
    parts = [p for k, p in model.named_parameters()
             if k.startswith(("encoder", "to_q"))]
    kept = None
    if case.recipe == "encoder of an early epoch":
        train(model, data, case, case.early)
        kept = {k: v.clone() for k, v in model.state_dict().items()
                if k.startswith(("encoder", "to_q"))}
        history = train(model, data, case)
        model.load_state_dict(kept, strict=False)
        return model, data, history
    if case.recipe == "encoder frozen early":
        train(model, data, case, case.early)
        for p in parts: p.requires_grad_(False)
        history = train(model, data, case)
        for p in parts: p.requires_grad_(True)
        return model, data, history
    history = train(model, data, case)                  # weights damaged
    torch.manual_seed(case.seed)
    with torch.no_grad():
        for p in parts: p.add_(case.noise * p.std().nan_to_num() * torch.randn_like(p))
    return model, data, history


def under_beta(case, data):
    model = build_model(case.arch, data, case.seed)
    how = {} if "beta" in case.arch else dict(schedules=dict(beta=case.beta))
    return model, data, train(model, data, case, **how)


def nan(case, data):
    model = build_model(case.arch, data, case.seed)
    history = train(model, data, case)
    if case.recipe == "weights":
        with torch.no_grad():
            for _ in range(200):                       # steps that are far too large
                x, c = model.inputs((as_floats(data.train.x[:64])
                                     if isinstance(data.train.x, torch.Tensor) else
                                     data.train[:64].x, data.train.y[:64]))
                with torch.enable_grad():
                    model.zero_grad()
                    model.losses((x, data.train.y[:64]))["loss"].backward()
                for p in model.parameters():
                    if p.grad is not None: p.sub_(case.step * p.grad)
                if not all(p.isfinite().all() for p in model.parameters()): break
            else: raise RuntimeError("the weights stayed finite")
    elif case.recipe == "data":
        x = as_floats(data.train.x).clone()
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(
            case.seed))[:case.rows]
        x[rows, ..., -1] = math.nan
        data = SimpleNamespace(name=data.name, train=Examples(x, data.train.y),
                               test=data.test, classes=data.classes)
    else:                                              # a logvar without bounds
        model.posterior = Unbounded()
        with torch.no_grad():
            last = [m for m in model.encoder.modules() if isinstance(m, nn.Linear)][-1]
            half = len(last.bias) // 2
            last.weight[half:] *= case.factor
    return model, data, history


class Unbounded(nn.Module):
    def forward(self, out): return diagonal_gaussian(*out.chunk(2, -1))


def training_mode(case, data):
    model, data, history = healthy(case, data)
    return model.train(), data, history


def leak(case, data):
    "Some test examples are in the training set, too, perhaps a little changed."
    rng = torch.Generator().manual_seed(case.seed)
    n = round(case.share * len(data.test))
    rows = torch.randperm(len(data.train), generator=rng)[:n]
    out = torch.randperm(len(data.test), generator=rng)[:n]
    if isinstance(data.train.x, tuple):
        test = Examples(tuple(t.clone() for t in data.test.x), data.test.y)
        for mine, theirs in zip(test.x, data.train.x): mine[out] = theirs[rows]
    else:
        x = as_floats(data.test.x).clone()
        copies = as_floats(data.train.x)[rows]
        if case.noise:
            copies = (copies + case.noise * torch.randn(copies.shape, generator=rng))
        x[out] = copies.clamp(0, 1)
        test = Examples(x, data.test.y)
    data = SimpleNamespace(**vars(data) | dict(test=test))
    return healthy(case, data)


def no_information(case, data):
    model = build_model(case.arch, data, case.seed)
    if case.recipe == "mixed order":
        usual = type(model)
        history = train(with_losses(model, mixed_order), data, case)
        model.__class__ = usual
        return model, data, history
    return model, data, train(model, data, case)


recipes = {None: healthy, "collapse": collapse, "lagging encoder": lagging,
           "dead codebook": healthy, "over-regularised": under_beta,
           "holes": under_beta, "σ too large": healthy, "nan": nan,
           "training mode": training_mode, "accidental β": accidental,
           "KL without information": no_information, "leak": leak}


def make(case):
    "The case's model, data and history; the model in the mode it would be found in."
    model, data, history = recipes[case.disease](case, get_set(case.data))
    if case.disease != "training mode": model.eval()
    return model, data, None if case.blind else history


# ------------------------------------------------------------------------- the splits

# what a range of two numbers means: drawn evenly in its logarithm, by the case's seed
def drawn(value, rng):
    if isinstance(value, tuple) and len(value) == 2:
        return math.exp(rng.uniform(*map(math.log, value)))
    return value


def mlp(**more): return dict(kind="mlp") | more


def conv(**more): return dict(kind="conv") | more


def text(**more): return dict(kind="text", embedding=16) | more


learned, fixed = dict(likelihood="gaussian_learned"), "gaussian"

def _tuning():
    "Of each case: disease, architecture, set, epochs, and the rest."
    a, b = mlp(latent_dim=8, hidden=[128]), conv(latent_dim=10, widths=[8, 16])
    c = mlp(latent_dim=6, hidden=[64], **learned)
    t = text(latent_dim=4, width=48)
    A, B, C = (a, "mnist", 15), (b, "mnist", 6), (c, "8×8", 60)
    T = (t, "words", 30, dict(rate=4.0))
    strict = dict(kind="strict", latent_dim=4, hidden=[64], width=16)
    beta = dict(kind="beta", latent_dim=8, hidden=[128])
    vq = dict(kind="vq", n_codes=64, widths=[8, 16])
    sigma = lambda s: mlp(latent_dim=8, hidden=[128],
                          likelihood=dict(name="gaussian", sigma=s))
    yield from ((None, *spec) for spec in (
        A, B, C, T, (t | dict(free_bits=0.5), "words", 30),
        (t | dict(mean_norm=0.9), "words", 30),
        (beta | dict(beta=4.0), "mnist", 10),
        (beta | dict(beta=3.0, **learned), "8×8", 60),
        (vq, "mnist", 4), (vq | dict(n_codes=32), "8×8", 30),
        (dict(kind="cvae", latent_dim=8, hidden=[128]), "mnist", 10),
        (dict(kind="tc", latent_dim=8, hidden=[128]), "mnist", 10),
        (dict(kind="mixture", latent_dim=8, hidden=[128]), "mnist", 10),
        (dict(kind="m2", latent_dim=8, hidden=[128]), "8×8", 30),
        (sigma(0.2), "mnist", 10), (beta | dict(beta=0.5), "mnist", 10)))
    yield from (("collapse", *spec) for spec in (
        (strict, "8×8", 20, dict(binarize=True)), (t, "words", 30),
        (*C, dict(recipe="mixed order")), (a, "mnist", 30, dict(recipe="mixed order")),
        (dict(kind="cvae", latent_dim=8, hidden=[128]), "mnist", 20,
         dict(recipe="mixed order"))))
    early = dict(recipe="encoder of an early epoch", early=2)
    frozen = dict(recipe="encoder frozen early", early=3)
    damaged = dict(recipe="damaged weights", noise=(0.2, 0.8))
    yield from (("lagging encoder", *spec) for spec in (
        (*A, early), (*B, frozen), (*C, damaged), (*T[:3], damaged | T[3]),
        (*C, early), (*T[:3], early | T[3])))
    dead = dict(dead_code_threshold=0.0)
    yield from (("dead codebook", *spec) for spec in (
        (vq | dead, "mnist", 3), (vq | dead | dict(n_codes=128), "8×8", 20),
        (vq | dict(dead_code_threshold=0.0, ema=False), "mnist", 3)))
    yield from (("over-regularised", *spec) for spec in (
        (*A, dict(beta=(10, 60))), (*B, dict(beta=(10, 60))), (*C, dict(beta=(10, 60))),
        (beta | dict(beta=(10, 60)), "mnist", 10), (*T[:3], dict(beta=(2, 6)))))
    yield from (("holes", *spec) for spec in (
        (*A, dict(beta=(3e-3, 0.1))), (*B, dict(beta=(3e-3, 0.1))),
        (*C, dict(beta=(3e-3, 0.1))), (beta | dict(beta=(3e-3, 0.1)), "mnist", 10),
        (*T[:3], dict(beta=(3e-3, 0.05)))))
    yield from (("σ too large", *spec) for spec in (
        (sigma((0.35, 1.0)), "mnist", 10), (sigma((0.35, 1.0)), "8×8", 60),
        (b | dict(likelihood=dict(name="gaussian", sigma=(0.35, 1.0))), "mnist", 8)))
    yield from (("nan", *spec) for spec in (
        (*A, dict(recipe="weights", step=10.0)),
        (*B, dict(recipe="data", rows=(1, 50))),
        (*C, dict(recipe="logvar", factor=(10, 40))),
        (*T[:3], T[3] | dict(recipe="weights", step=100.0))))
    yield from (("training mode", *spec) for spec in (
        (a | dict(dropout=(0.05, 0.5)), "mnist", 10),
        (t | dict(word_dropout=(0.05, 0.4)), "words", 30, T[3]),
        (dict(kind="normed", latent_dim=8, hidden=[128]), "8×8", 60)))
    yield from (("accidental β", *spec) for spec in (
        (*A, dict(bug="pixel_mean", where="loss")),
        (*A, dict(bug="pixel_mean", where="loop")),
        (*A, dict(bug="pixel_mean", where="loop", blind=True)),
        (*B, dict(bug="latent_mean", where="loop", blind=True)),
        (*C, dict(bug="batch_sum_reconstruction", where="loop", blind=True)),
        (*C, dict(bug="forgotten_half", where="loss")),
        (*B, dict(bug="batch_sum_kl", where="loop", blind=True)),
        (*T[:3], dict(bug="kl_per_pixel", where="loop", blind=True)),
        (*A, dict(bug="kl_per_pixel", where="loop", blind=True)),
        (*T[:3], dict(bug="pixel_mean", where="loss"))))
    mixed = dict(recipe="mixed order")
    yield from (("KL without information", *spec) for spec in (
        (beta | dict(beta=4.0, capacity=(3, 15)), "mnist", 10, mixed),
        (beta | dict(beta=4.0, capacity=(3, 15), **learned), "8×8", 60, mixed),
        (t | dict(mean_norm=(0.6, 1.0)), "words", 20, mixed),
        (t | dict(free_bits=(0.5, 1.5)), "words", 20, mixed)))
    yield from (("leak", *spec) for spec in (
        (*A, dict(share=(0.04, 0.5))), (*C, dict(share=(0.04, 0.5), noise=0.02)),
        (*B, dict(share=(0.04, 0.5), noise=(0.01, 0.06))),
        (*T[:3], T[3] | dict(share=(0.04, 0.5)))))


def _judging(more=0, kept=0.15):
    """As `_tuning`, with other sets, architectures and seeds. `more` latents and, eight
    times as many, of the widths; σ `kept` in a healthy model."""
    n, wide, two = 12 + more, [200 + 8 * more], [160 + 8 * more, 80 + 8 * more]
    a, c = (mlp(latent_dim=n, hidden=wide),
            mlp(latent_dim=10 + more, hidden=two, **learned))
    b = conv(latent_dim=16 + more, widths=[12, 24], **learned)
    d = dict(kind="cvae", latent_dim=6 + more, hidden=[150 + 8 * more])
    e = conv(latent_dim=6 + more, widths=[16, 32], **learned)
    t = text(latent_dim=5 + more, width=64)
    A, B, C = (a, "digits", 20), (b, "fashion_mnist", 6), (c, "folder", 40)
    E, F, T = (d, "fashion_mnist", 10), (e, "folder", 20), (t, "names", 10,
                                                            dict(rate=3.0))
    vq = dict(kind="vq", n_codes=96 + 8 * more, widths=[12, 24])
    beta = dict(kind="beta", latent_dim=n, hidden=wide)
    letters = dict(kind="beta", latent_dim=10 + more, hidden=two, **learned)
    sigma = lambda s: dict(likelihood=dict(name="gaussian", sigma=s))
    yield from ((None, *spec) for spec in (
        A, B, C, E, F, T, (beta | dict(beta=4.0), "digits", 20),
        (beta | dict(beta=4.0, hidden=None, widths=[12, 24]), "fashion_mnist", 6),
        (letters | dict(beta=2.0), "folder", 40),
        (beta | dict(kind="tc"), "digits", 20),
        (dict(kind="mixture", latent_dim=n, hidden=wide), "digits", 20),
        (dict(kind="m2", latent_dim=6 + more, hidden=[150]), "digits", 12),
        (vq, "fashion_mnist", 4), (vq | dict(n_codes=48), "folder", 15),
        (t | dict(free_bits=0.4), "names", 10), (t | dict(mean_norm=0.9), "names", 10),
        (mlp(latent_dim=10 + more, hidden=two, **sigma(kept)), "folder", 40),
        (beta | dict(beta=0.6), "digits", 20), (*A, dict(anneal=0.5)),
        (mlp(latent_dim=8 + more, hidden=[100]), "small fashion_mnist", 10)))
    yield from (("collapse", *spec) for spec in (
        (t, "names", 10), (*C, dict(recipe="mixed order")),
        (*A, dict(recipe="mixed order")), (*E, dict(recipe="mixed order"))))
    yield from (("lagging encoder", *spec) for spec in (
        (*A, dict(recipe="encoder of an early epoch", early=2)),
        (*B, dict(recipe="encoder frozen early", early=2)),
        (*C, dict(recipe="damaged weights", noise=(0.2, 0.8))),
        (*T[:3], T[3] | dict(recipe="encoder of an early epoch", early=2))))
    dead = dict(dead_code_threshold=0.0)
    yield from (("dead codebook", *spec) for spec in (
        (vq | dead, "fashion_mnist", 3), (vq | dead | dict(n_codes=128), "folder", 10),
        (vq | dead | dict(n_codes=48, ema=False), "digits", 5)))
    heavy, light = dict(beta=(10, 60)), dict(beta=(3e-3, 0.1))
    yield from (("over-regularised", *spec) for spec in (
        (*A, heavy), (*E, heavy), (letters | heavy, "folder", 40),
        (*T[:3], dict(beta=(2, 6)))))
    yield from (("holes", *spec) for spec in (
        (*A, light), (*E, light), (letters | light, "folder", 40),
        (*T[:3], dict(beta=(3e-3, 0.05)))))
    yield from (("σ too large", *spec) for spec in (
        (a | sigma((0.35, 1.0)), "digits", 20),
        (conv(latent_dim=16 + more, widths=[12, 24]) | sigma((0.35, 1.0)),
         "fashion_mnist", 6),
        (c | sigma((0.35, 1.0)), "folder", 40)))
    yield from (("nan", *spec) for spec in (
        (*A, dict(recipe="weights", step=10.0)),
        (*B, dict(recipe="data", rows=(1, 50))),
        (*C, dict(recipe="logvar", factor=(10, 40))),
        (*T[:3], T[3] | dict(recipe="weights", step=100.0))))
    yield from (("training mode", *spec) for spec in (
        (a | dict(dropout=(0.05, 0.5)), "digits", 20),
        (t | dict(word_dropout=(0.05, 0.4)), "names", 10, T[3]),
        (dict(kind="normed", latent_dim=10 + more, hidden=[150]), "fashion_mnist", 10)))
    yield from (("accidental β", *spec) for spec in (
        (*E, dict(bug="pixel_mean", where="loop", blind=True)),
        (*C, dict(bug="latent_mean", where="loop", blind=True)),
        (*B, dict(bug="forgotten_half", where="loss")),
        (*T[:3], dict(bug="kl_per_pixel", where="loop", blind=True))))
    mixed = dict(recipe="mixed order")
    yield from (("KL without information", *spec) for spec in (
        (beta | dict(beta=4.0, capacity=(3, 15)), "digits", 20, mixed),
        (letters | dict(beta=4.0, capacity=(3, 15)), "folder", 40, mixed),
        (t | dict(mean_norm=(0.6, 1.0)), "names", 6, mixed)))
    yield from (("leak", *spec) for spec in (
        (*A, dict(share=(0.04, 0.5))),
        (*E, dict(share=(0.04, 0.5), noise=(0.01, 0.06))),
        (*C, dict(share=(0.04, 0.5), noise=0.02)),
        (*T[:3], T[3] | dict(share=(0.04, 0.5)))))


def _again():
    """As `_judging`, of other sizes and seeds: a first judging had found that a set of
    many equal images was taken for a leak, and had one fixed σ that was 1.6 times the
    error among its healthy models."""
    return _judging(2, 0.1)


def _quick():
    "As `_tuning`, on the smallest images alone."
    c = mlp(latent_dim=6, hidden=[48], **learned)
    C = (c, "8×8", 40)
    beta = dict(kind="beta", latent_dim=6, hidden=[48], **learned)
    yield from (
        (None, *C), (None, beta | dict(beta=4.0), "8×8", 40),
        ("lagging encoder", *C, dict(recipe="damaged weights", noise=(0.4, 0.8))),
        ("over-regularised", *C, dict(beta=(10, 60))),
        ("holes", *C, dict(beta=(3e-3, 0.05))),
        ("σ too large", mlp(latent_dim=6, hidden=[48],
                            likelihood=dict(name="gaussian", sigma=(0.4, 1.0))),
         "8×8", 40),
        ("nan", *C, dict(recipe="data", rows=(1, 50))),
        ("training mode", c | dict(dropout=(0.1, 0.5)), "8×8", 40),
        ("accidental β", *C, dict(bug="pixel_mean", where="loss")),
        ("KL without information", beta | dict(capacity=(3, 15)), "8×8", 40,
         dict(recipe="mixed order")),
        ("leak", *C, dict(share=(0.1, 0.5), noise=0.02)))


splits = dict(tuning=(_tuning, 100), judging=(_judging, 1000),
              again=(_again, 2000), quick=(_quick, 5000))


def cases(split):
    "All cases of a split, their severities drawn."
    specs, first = splits[split]
    for i, (disease, arch, data, epochs, *more) in enumerate(specs()):
        seed = first + i
        rng = random.Random(seed)
        def settle(value):
            if isinstance(value, dict): return {k: settle(v) for k, v in value.items()}
            return drawn(value, rng)
        rest = settle(dict(more[0]) if more else {})
        if "rows" in rest: rest["rows"] = round(rest["rows"])
        yield Case(disease=disease, arch=settle(arch), data=data, epochs=epochs,
                   seed=seed, id=f"{split} {i}", **rest)


# -------------------------------------------------------------------------- the counts

protocol = ("{n} cases: {sick} sick models, of eleven diseases, and {healthy} healthy "
            "ones, each trained in seconds on the CPU: fully connected, convolutions, "
            "β-VAE, conditional, VQ-VAE, a decoder that sees earlier pixels, text, on "
            "{sets}, of which 4,000 training and 1,000 test examples are taken where "
            "there are more (digits are 5,000 of MNIST's, the folder letters that were "
            "drawn, names from Faker, words from Shakespeare; small: 7×7 or 8×8, black "
            "or white). Severities are drawn by each case's seed, evenly in their "
            "logarithm. A sick model counts where the *first* finding is its disease; "
            "a healthy one where there is none. `blind` cases are diagnosed "
            "without the history of their training. The split `tuning` has other "
            "seeds, sets and architectures; the rules were set on it and on it alone.")
targets = dict(sick=36 / 40, healthy=19 / 20)


def one_case(case):
    "Make it, diagnose it: a row."
    from vae_course.diagnosis import diagnose
    cpu = time.process_time()
    model, data, history = make(case)
    made = time.process_time()
    report = diagnose(model, data, history)
    done = time.process_time()
    found = [f.disease for f in report.findings]
    # `recipe` was a key of older files, and is read as another
    severity = {"made_by" if k == "recipe" else k: v for k, v in vars(case).items()
                if k not in ("id", "disease", "arch", "data", "seed", "epochs")}
    return dict(
        name=case.id, disease=case.disease or "healthy", arch=case.arch, data=case.data,
        epochs=case.epochs, seed=case.seed, severity=severity, found=found,
        evidence=report.findings[0].evidence if found else "",
        right=(found[:1] == [case.disease] if case.disease else not found),
        training_cpu_seconds=made - cpu, diagnosis_cpu_seconds=done - made)


def measure(split, old=None, limit=None, wrote=lambda result: None):
    "The result as written to the file; rows in `old` are taken over."
    chosen = list(cases(split))
    rows = list(old["rows"]) if old else []
    done = {row["name"] for row in rows}
    words = protocol.format(
        n=len(chosen), sick=sum(c.disease is not None for c in chosen),
        healthy=sum(c.disease is None for c in chosen),
        sets=", ".join(sorted({c.data for c in chosen})))
    facts = common.facts(torch.device("cpu"), words, seeds=[c.seed for c in chosen])
    if old: facts |= {k: old[k] for k in ("date", "commit", "load_average", "warning")}

    def so_far():
        groups = {True: [r for r in rows if r["disease"] == "healthy"],
                  False: [r for r in rows if r["disease"] != "healthy"]}
        right = {k: sum(r["right"] for r in group) for k, group in groups.items()}
        counts = dict(sick=len(groups[False]), sick_right=right[False],
                      healthy=len(groups[True]), healthy_right=right[True])
        judged = split in ("judging", "again") and len(rows) == len(chosen)
        verdicts = [dict(what=name, **common.compare(
            counts[f"{name}_right"] / max(1, counts[name]), targets[name],
            judged=judged)) for name in targets]
        return facts | dict(bench="diagnose", split=split, quick=split == "quick",
                            counts=counts, verdicts=verdicts, rows=rows,
                            load_average_after=common.load_average())

    for case in [c for c in chosen if c.id not in done][:limit]:
        row = one_case(case)
        rows.append(row)
        print(f"{'right' if row['right'] else 'WRONG'}  {row['name']:11} "
              f"{row['disease']:22} {case.arch['kind']:7} {case.data:20} "
              f"-> {', '.join(row['found']) or 'nothing'}   "
              f"{row['training_cpu_seconds']:.0f} + {row['diagnosis_cpu_seconds']:.1f} "
              "s of CPU", flush=True)
        wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=["tuning", "judging", "again"],
                        default="again")
    parser.add_argument("--add", type=Path, metavar="FILE",
                        help="make only the cases that this stored file lacks")
    parser.add_argument("--limit", type=int, help="at most so many cases")
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    split = "quick" if args.quick else args.split
    old = common.read_result(args.add) if args.add else None
    if old and old["split"] != split:
        raise SystemExit(f"{args.add} holds the split {old['split']}: name that one")
    folder = args.add.parent if args.add else common.output_folder(
        args, args.quick or args.limit is not None)
    slug = common.slug(torch.device("cpu"))
    name = args.add.stem if args.add else f"diagnose_{split}-{slug}"
    result = measure(split, old, args.limit, lambda r: common.write(folder, name, r))
    counts = result["counts"]
    print(f"first finding right: {counts['sick_right']} of {counts['sick']} sick; "
          f"no finding: {counts['healthy_right']} of {counts['healthy']} healthy")


if __name__ == "__main__":
    main()
