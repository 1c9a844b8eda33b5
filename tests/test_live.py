"""What a page computes, in a real browser, beside torch: programs of every registered
model of images, and the pages that run them."""
import json, shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from test_models import SMALL
from vae_course.cvae import Quadrants
from vae_course.data import Examples, as_floats
from vae_course.datasets import load
from vae_course.evaluation import base_distribution
from vae_course.model import MixturePrior, Unsupported
from vae_course.packing import packed, rounded, rounding_cost, weight_kinds
from vae_course.training import build, fit, registry

root = Path(__file__).resolve().parent.parent
script = root / "nbs" / "assets" / "live.js"
chromium = (shutil.which("chromium") or shutil.which("chromium-browser")
            or shutil.which("google-chrome"))
in_browser = [pytest.mark.browser, pytest.mark.skipif(
    chromium is None, reason="no Chromium on this machine: install the package "
                             "`chromium`")]


def marked(*marks):
    def mark(f):
        for m in (*in_browser, *marks): f = m(f)
        return f
    return mark


# models of something else than images; a page cannot show them
REFUSED = {"text_vae", "code_prior", "speech_vq_vae", "classifier"}
IMAGES = ["vae", "conv_vae", "beta_vae", "beta_tcvae", "cvae", "autoencoder", "vq_vae",
          "m2"]


def small(name, **more):
    torch.manual_seed(0)
    return build(name, **SMALL.get(name, {}) | more).eval()


def mixture():
    torch.manual_seed(0)
    return build("vae", hidden=[32], latent_dim=4, prior=MixturePrior(4, 3)).eval()


MODELS = {name: lambda name=name: small(name) for name in IMAGES}
MODELS |= {
    "colour": lambda: small("conv_vae", data_shape=[3, 32, 32], widths=[8, 16],
                            likelihood="gaussian_learned"),
    "odd sides": lambda: small("conv_vae", data_shape=[1, 13, 18]),
    "laplace": lambda: small("vae", likelihood="laplace_learned"),
    "own scales": lambda: small("conv_vae", likelihood="gaussian_per_dimension"),
    "heteroscedastic": lambda: small("conv_vae", likelihood="gaussian_heteroscedastic"),
    "learned prior": lambda: small("cvae", sees=["encoder", "decoder", "prior"]),
    "decoder alone": lambda: small("cvae", sees=["decoder"]),
    "number": lambda: small("cvae", condition={"number": [-30, 30]}),
    "columns": lambda: small("cvae", condition=[{"labels": 3}, {"number": [0, 20]}]),
    "quadrants": lambda: small("cvae", condition={"quadrants": ["upper left"]},
                               sees=["encoder", "decoder", "prior"]),
    "mixture prior": mixture,
    "conv classifier": lambda: small("m2", classifier="conv"),
    "colour codes": lambda: small("vq_vae", data_shape=[3, 32, 32], prior="uniform"),
}


@cache
def digits(): return load("digits")


def images(model, n=20):
    "Test images in the shape that a model takes."
    shape = model.data_shape
    if tuple(shape) == (1, 28, 28): return digits().test.floats()[:n]
    g = torch.Generator().manual_seed(0)
    return torch.rand(n, *shape, generator=g)


def conditions(model, x):
    "A condition for each image, as torch takes it; None for a model without."
    if not getattr(model, "conditional", False): return None
    n, kind = len(x), model.condition
    if isinstance(kind, Quadrants): return x
    if kind.shape: return torch.stack([torch.arange(n) % 3, torch.arange(n)], 1).float()
    return torch.arange(n) % 10


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    "A tab that keeps what it asked for and what went wrong."
    context = browser.new_context(viewport={"width": 1000, "height": 900},
                                  color_scheme="light")
    tab = context.new_page()
    tab.asked, tab.wrong = [], []
    tab.on("request", lambda r: tab.asked.append(r.url))
    tab.on("console", lambda m: m.type == "error" and tab.wrong.append(m.text))
    tab.on("pageerror", lambda e: tab.wrong.append(str(e)))
    yield tab
    assert not tab.wrong, tab.wrong
    context.close()


@pytest.fixture
def engine(tab, tmp_path):
    "A tab with the script alone, from a file."
    page = tmp_path / "engine.html"
    page.write_text("<!doctype html><meta charset=utf-8><title>engine</title><script>"
                    + script.read_text(encoding="utf-8") + "</script>",
                    encoding="utf-8")
    tab.goto(page.as_uri())
    return tab


RUN = """([program, xs, cs, noise]) => {
  const p = new vaeLive.Program(program), list = v => v && Array.from(v);
  return xs.map((x, i) => {
    const c = cs && cs[i], q = p.encode(x, c), made = p.decode(q.codes || q.mu, c);
    return {mu: list(q.mu), logvar: list(q.logvar), codes: list(q.codes),
            mean: list(made.mean), terms: p.spec.prior && p.terms(x, c, noise),
            labels: p.classifier && list(p.classify(x))};
  });
}"""


def flat(x): return x.flatten(1).tolist()


@marked()
@pytest.mark.parametrize("kind", weight_kinds)
@pytest.mark.parametrize("name", MODELS)
def test_a_browser_computes_what_torch_computes_with_the_rounded_weights(
        engine, name, kind):
    model = MODELS[name]()
    again, x = rounded(model, kind), images(model)
    c = conditions(model, x)
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    cs = None if c is None else c.flatten(1).tolist() if c.dim() > 1 else c.tolist()
    found = engine.evaluate(RUN, [packed(model, kind), flat(x), cs,
                                  noise.flatten().tolist()])
    with torch.no_grad():
        q = again.encode(x, c)
        codes = not hasattr(q, "mean")
        mean = again.decode(q.mode if codes else q.mean, c).mean.flatten(1)
        z = q.mode[None] if codes else q.mean + q.stddev * noise[:, None]
        reconstruction = -again.decode(z, c).log_prob(x).mean(0)
        prior = again.prior(c)
        if codes: kl = -prior.log_prob(q.mode)
        elif name == "mixture prior":
            kl = (q.log_prob(z) - prior.log_prob(z)).mean(0)
        else: kl = torch.distributions.kl_divergence(
            base_distribution(q), base_distribution(prior)).sum(-1)
    rows = {key: torch.tensor([row[key] for row in found]) for key in ("mean", *(
        ["codes"] if codes else ["mu", "logvar"]))}
    assert (rows["mean"] - mean).abs().max() < 1e-3
    if codes:
        assert (rows["codes"] == q.mode.flatten(1)).float().mean() >= 0.999
    else:
        assert (rows["mu"] - q.mean).abs().max() < 1e-3
        assert (rows["logvar"] - q.variance.log()).abs().max() < 1e-3
    terms = [row["terms"] for row in found]
    for key, want in dict(reconstruction=reconstruction, kl=kl).items():
        got = torch.tensor([t[key] for t in terms])
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-3), key
    if name in ("m2", "conv classifier"):
        with torch.no_grad(): shares = again.classify(x).probs
        assert (torch.tensor([row["labels"] for row in found])
                - shares).abs().max() < 1e-3
    assert [url for url in engine.asked if not url.startswith("file:")] == []


@marked()
def test_the_comparison_notices_a_weight_that_is_off(engine):
    "The tolerance is one: with another weight in the last layer it is exceeded."
    model = small("vae")
    x, program = images(model), packed(model)
    with torch.no_grad(): model.decoder[0][-1].bias[400] += 0.02
    with torch.no_grad(): mean = rounded(model).reconstruct(x).flatten(1)
    found = engine.evaluate(RUN, [program, flat(x), None, None])
    assert (torch.tensor([r["mean"] for r in found]) - mean).abs().max() > 1e-3


@marked()
def test_draws_follow_the_prior(engine):
    "The noise is normal, and codes drawn by the transformer have its probabilities."
    draws = torch.tensor(engine.evaluate(
        "() => Array.from(vaeLive.randomOf(3).normals(20000))"))
    n = len(draws)
    assert abs(draws.mean()) < 5 / n**0.5 and abs(draws.var() - 1) < 5 * (2 / n)**0.5
    assert abs(draws.pow(4).mean() - 3) < 5 * (96 / n)**0.5
    model = small("vq_vae", n_codes=3)
    first = torch.tensor(engine.evaluate("""program => {
        const p = new vaeLive.Program(program), random = vaeLive.randomOf(1);
        return Array.from({length: 300}, () => p.drawCodes(random)[0]);
    }""", packed(model)))
    with torch.no_grad():
        p = rounded(model).prior_net.logits(torch.zeros(1, 0).long())[0, -1].softmax(-1)
    share = first.bincount(minlength=3) / 300
    assert ((share - p).abs() < 5 * (p * (1 - p) / 300).sqrt()).all()


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("name", registry)
def test_a_registered_model_runs_on_a_page_or_is_refused_by_name(name):
    try: program = packed(small(name))
    except Unsupported as e:
        assert name not in IMAGES
        assert name in REFUSED or "a page cannot run" in str(e)
        return
    assert name not in REFUSED and json.loads(json.dumps(program)) == program


class Odd(nn.Module):
    def forward(self, x): return x


class OwnDecode(type(small("vae"))):
    def decode(self, z, c=None): return super().decode(2 * z, c)


def with_layer(layer):
    model = small("vae")
    model.decoder.append(layer)
    return model


def with_class(kind):
    model = small("vae")
    model.__class__ = kind
    return model


@pytest.mark.parametrize("words, make", {
    "the layer Odd": lambda: with_layer(Odd()),
    "the layer BatchNorm2d": lambda: with_layer(nn.BatchNorm2d(1)),
    "Conv2d with dilation": lambda: with_layer(nn.Conv2d(1, 1, 3, padding=2,
                                                         dilation=2)),
    "the likelihood Categorical": lambda: small(
        "vae", likelihood=dict(name="categorical", classes=3)),
    "an `decode` of its own": lambda: with_class(OwnDecode),
    "images of 1 or 3 channels": lambda: small("vae", data_shape=[5]),
}.items())
def test_what_a_page_cannot_run_is_refused_by_name(words, make):
    with pytest.raises(Unsupported, match=words): packed(make())


def test_weights_that_cannot_be_stored_are_refused():
    for value, kind, words in ((float("nan"), "int8", "NaN"), (1e6, "float16", "65504"),
                               (1.0, "int4", "float16, int8")):
        model = small("vae")
        with torch.no_grad(): model.decoder[0][0].weight[0, 0] = value
        with pytest.raises(ValueError, match=words): packed(model, kind)


# ---------------------------------------------------------------- what rounding costs

def test_the_rounded_copy_leaves_the_model_alone_and_rounding_costs_little():
    model = small("vae", hidden=[64])
    fit(model, digits().train[:2000], epochs=4, batch_size=100, progress=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    test = digits().test[:300]
    for kind in weight_kinds:
        whole, after = rounding_cost(model, test, kind)
        assert whole != after and abs(after - whole) < 0.5, kind
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
