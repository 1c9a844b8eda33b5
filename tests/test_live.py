"""What a page computes, in a real browser, beside torch: programs of every registered
model of images, and the pages that run them."""
import base64, functools, http.server, importlib.util, json, math, re, shutil
import subprocess, sys, threading
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributions as D
from PIL import Image
from torch import nn

from test_models import SMALL
from vae_course import live
from vae_course.anomaly_detection import AnomalyDetector, precision_from_rates
from vae_course.beyond_gaussian import TwoLayerDistribution, TwoLayerVAE
from vae_course.cli import main
from vae_course.cvae import Quadrants
from vae_course.data import Batches, DataError
from vae_course.datasets import load
from vae_course.devices import seeded
from vae_course.evaluation import base_distribution
from vae_course.gpu import arithmetic_intensity, attainable, linear_cost
from vae_course.images import read_image
from vae_course.live import explore
from vae_course.model import MixturePrior, Unsupported, center
from vae_course.packing import packed, rounded, rounding_cost, weight_kinds
from vae_course.step import evaluate
from vae_course.training import build, fit, load_model, registry, save_model

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
          "m2", "sigma_vae", "perceptual_vae", "vae_gan", "flexible_vae",
          "two_layer_vae"]


def small(name, **more):
    torch.manual_seed(0)
    return build(name, **SMALL.get(name, {}) | more).eval()


def lively(model):
    "With weights as large as trained ones, so that every bound and bend is felt."
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                m.weight.mul_(3.5)
                if m.bias is not None: m.bias.normal_(0, 0.3)
    return model


def mixture():
    torch.manual_seed(0)
    return build("vae", hidden=[32], latent_dim=4, prior=MixturePrior(4, 3)).eval()


def after_a_step(model):
    "A σ-VAE that has seen a batch, so that its σ is the one it computed."
    before = float(model.likelihood.sigma.detach())
    model.train().losses((images(model, 50), torch.zeros(50)))
    assert abs(float(model.likelihood.sigma.detach()) - before) > 0.1
    return model.eval()


def off_start(model):
    "A learned σ, away from where it starts, and each its own."
    with torch.no_grad():
        for p in model.likelihood.parameters(): p.add_(torch.randn_like(p))
    assert len([*model.likelihood.parameters()]) == 1
    return model


def bent(name, **more):
    "A model of lesson 16, its flows and its prior away from where they start."
    model = small(name, **more)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "flow" in key: p.normal_(0, 0.15)
            elif key.startswith("prior_net"): p.add_(0.5 * torch.randn_like(p))
    return model


DEEP = {f"{posterior}, {prior}": (posterior, prior)
        for posterior in ("gaussian", "full", "flow")
        for prior in ("normal", "mixture", "vamp", "flow")}


def deep(posterior, prior, **more):
    # five latents: the halves of a coupling are not of one width
    return bent("flexible_vae", posterior=posterior, prior=prior,
                **dict(latent_dim=5, couplings=3) | more)


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
    # σ from training ("optimal", the default, keeps a running average)
    "computed sigma": lambda: after_a_step(small("sigma_vae")),
    "learned sigma": lambda: off_start(small("sigma_vae", sigma="learned")),
    "sigma per pixel": lambda: off_start(small("sigma_vae", sigma="per_pixel")),
    "fixed sigma": lambda: small("sigma_vae", sigma=0.4),
    "ladder": lambda: small("two_layer_vae", ladder=True),
    "colour codes": lambda: small("vq_vae", data_shape=[3, 32, 32], prior="uniform"),
}
MODELS |= {name: lambda kinds=kinds: deep(*kinds) for name, kinds in DEEP.items()}


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
  const rows = (p, noise) => Array.from({length: noise.length / p.width},
                                        (_, k) => noise.slice(k * p.width,
                                                              (k + 1) * p.width));
  const p = new vaeLive.Program(program), list = v => v && Array.from(v);
  return xs.map((x, i) => {
    const c = cs && cs[i], q = p.encode(x, c), made = p.decode(q.codes || q.mu, c);
    return {mu: list(q.mu), logvar: list(q.logvar), codes: list(q.codes),
            mean: list(made.mean), z: noise && q.mu && rows(p, noise).map(
              e => list(p.draw(q, e))), logq: noise && q.mu && rows(p, noise).map(
              e => p.logQ(q, p.draw(q, e))), logp: noise && q.mu && rows(p, noise).map(
              e => p.logPrior(p.draw(q, e), c)),
            terms: p.spec.prior && p.terms(x, c, noise),
            labels: p.classifier && list(p.classify(x))};
  });
}"""


def flat(x): return x.flatten(1).tolist()


def latents(model):
    "How many numbers z has; 4 for a model of codes, which needs no noise."
    if isinstance(model, TwoLayerVAE): return sum(model.config["latent_dims"])
    return getattr(model, "latent_dim", 4)


def diagonal(p): return isinstance(base_distribution(p), D.Normal)


def row_of(z):
    "z as a page has it: of two layers the numbers of the upper one first."
    return torch.cat(z, -1) if isinstance(z, tuple) else z


def drawn(q, noise):
    "What torch draws from q(z|x) with this noise, `(K, B, D)`."
    if isinstance(q, TwoLayerDistribution):
        d = 3                                   # latents of the upper layer in `SMALL`
        upper, lower = noise[..., :d], noise[..., d:]
        one, two = (upper, lower) if q.top_first else (lower, upper)
        first = drawn(q.first, one)
        second = drawn(q.second(first), two)
        return (first, second) if q.top_first else (second, first)
    if isinstance(q, D.TransformedDistribution):
        z = drawn(q.base_dist, noise)
        for transform in q.transforms: z = transform(z)
        return z
    if isinstance(q, D.MultivariateNormal):
        return q.mean + (q.scale_tril @ noise[..., None])[..., 0]
    return q.mean + q.stddev * noise


@marked()
@pytest.mark.parametrize("kind", weight_kinds)
@pytest.mark.parametrize("name", MODELS)
def test_a_browser_computes_what_torch_computes_with_the_rounded_weights(
        engine, name, kind):
    model = lively(MODELS[name]())
    again, x = rounded(model, kind), images(model)
    c = conditions(model, x)
    width = latents(model)
    noise = torch.randn(3, width, generator=torch.Generator().manual_seed(1))
    cs = None if c is None else c.flatten(1).tolist() if c.dim() > 1 else c.tolist()
    found = engine.evaluate(RUN, [packed(model, kind), flat(x), cs,
                                  noise.flatten().tolist()])
    with torch.no_grad():
        q = again.encode(x, c)
        codes, simple = hasattr(model, "codes"), diagonal(q)
        mode = q.mode if codes else center(q)
        mean = again.decode(mode, c).mean.flatten(1)
        z = mode[None] if codes else drawn(q, noise[:, None])
        reconstruction = -again.decode(z, c).log_prob(x).mean(0)
        prior = again.prior(c)
        if codes: kl = -prior.log_prob(q.mode)
        elif simple and diagonal(prior): kl = torch.distributions.kl_divergence(
            base_distribution(q), base_distribution(prior)).sum(-1)
        else: kl = (q.log_prob(z) - prior.log_prob(z)).mean(0)
    rows = {key: torch.tensor([row[key] for row in found]) for key in (
        ("mean", "codes") if codes else ("mean", "mu", "z", "logq", "logp"))}
    assert (rows["mean"] - mean).abs().max() < 1e-3
    if codes:
        assert (rows["codes"] == q.mode.flatten(1)).float().mean() >= 0.999
        assert len(q.mode.unique()) > 2
    else:
        assert (rows["mu"] - row_of(mode)).abs().max() < 1e-3
        assert (rows["z"] - row_of(z).movedim(0, 1)).abs().max() < 1e-3
        for key, p in (("logq", q), ("logp", prior)):
            assert torch.allclose(rows[key], p.log_prob(z).T, rtol=1e-4, atol=1e-3), key
    if simple or isinstance(q, D.MultivariateNormal):
        logvar = torch.tensor([row["logvar"] for row in found])
        assert q.variance.log().abs().max() > 1
        assert (logvar - q.variance.log()).abs().max() < 1e-3
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


# ---------------------------------------------------------------- pages

def trained(name, x, **settings):
    "A small model that has seen a little, so that its latents tell something."
    model = small(name, **settings)
    fit(model, x, epochs=3, batch_size=100, progress=False)
    return model.eval()


def close(found, want, tolerance=1e-3):
    found, want = torch.as_tensor(found).flatten(), want.flatten()
    assert found.shape == want.shape
    assert (found - want).abs().max() < tolerance, (found - want).abs().max()


@pytest.fixture(scope="module")
def vae():
    return trained("vae", digits().train[:3000])


@pytest.fixture
def page(tab, tmp_path):
    "Opens the page of a model from a file, and looks at what it asked for at the end."
    def open_page(model, data=None, **more):
        made = explore(model, data, tmp_path / "page.html", **more)
        tab.goto((tmp_path / "page.html").as_uri())
        tab.made = made
        return tab
    yield open_page
    assert [url for url in tab.asked if not url.startswith(("file:", "blob:"))] == []


STATE = """() => {
  const app = document.querySelector('#app').live, out = {};
  for (const key of ['z', 'mean', 'x', 'reconstruction', 'codes', 'labels', 'c', 'cx',
                     'score', 'terms', 'samples', 'between', 'brush'])
    if (app[key] !== undefined && app[key] !== null) out[key] =
      ArrayBuffer.isView(app[key]) ? Array.from(app[key]) : app[key];
  const plain = v => ArrayBuffer.isView(v) ? Array.from(v) : v;
  for (const key of ['samples', 'between']) if (out[key]) out[key] =
    out[key].map(row => ({z: Array.from(row.z), mean: Array.from(row.mean)}));
  if (out.terms) out.terms = {reconstruction: out.terms.reconstruction,
                              kl: out.terms.kl, negElbo: out.terms.negElbo};
  if (app.q && app.q.mu) { out.mu = Array.from(app.q.mu);
                           out.sigma = app.q.sigma && Array.from(app.q.sigma); }
  return out;
}"""


def state(tab): return tab.evaluate(STATE)


def decoded(model, z, c=None):
    "What torch decodes with the rounded weights of a page."
    c = None if c is None else torch.tensor([c])
    with torch.no_grad(): return rounded(model).decode(torch.tensor([z]), c).mean[0]


def agrees(tab, model, c=None):
    "The decoded image is what torch gives for the point, and is what is on the canvas."
    now = state(tab)
    close(now["mean"], decoded(model, now["z"], c))
    shown = tab.evaluate("""() => {
      const canvas = document.querySelector('figure canvas.live-picture');
      const d = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return [canvas.width, canvas.height, Array.from(d.data)];
    }""")
    pixels = torch.tensor(shown[2]).view(shown[1], shown[0], 4)[..., :3]
    want = torch.tensor(now["mean"]).view(*model.data_shape).clamp(0, 1)
    close(pixels.movedim(-1, 0)[:len(want)] / 255, want, 0.51 / 255)
    return now


def terms_agree(now, model, c=None):
    "Both terms and the reconstruction of the image that the page took."
    again = rounded(model)
    x = torch.tensor(now["x"]).view(1, *model.data_shape)
    c = None if c is None else torch.tensor([c])
    with torch.no_grad():
        q = again.encode(x, c)
        close(now["reconstruction"], again.decode(q.mean, c).mean)
        close(now["mu"], q.mean)
        close(now["sigma"], q.stddev)
        prior = again.prior(c)
        kl = torch.distributions.kl_divergence(base_distribution(q),
                                               base_distribution(prior)).sum(-1)
    close(now["terms"]["kl"], kl)
    return x, q


def box(tab, selector):
    place = tab.locator(selector).first
    place.scroll_into_view_if_needed()
    return place.bounding_box()


def stroke(tab, selector, points):
    "A line drawn with the mouse; points are shares of the square."
    b = box(tab, selector)
    at = [(b["x"] + x * b["width"], b["y"] + y * b["height"]) for x, y in points]
    tab.mouse.move(*at[0])
    tab.mouse.down()
    for p in at[1:]: tab.mouse.move(*p, steps=6)
    tab.mouse.up()


MAP, BOARD = "canvas[aria-roledescription=plane]", "canvas[aria-label^='Draw here']"


@marked()
def test_a_point_is_dragged_and_moved_by_arrow_keys_and_sliders(page, vae):
    tab = page(vae, digits().test)
    order = tab.evaluate("document.querySelector('#app').live.program.spec.about.order")
    before = agrees(tab, vae)
    stroke(tab, MAP, [(.5, .5), (.8, .3)])
    dragged = agrees(tab, vae)
    changed = {i for i in range(4) if dragged["z"][i] != before["z"][i]}
    assert changed == set(order[:2])
    assert dragged["z"][order[0]] > 0.5 and dragged["z"][order[1]] > 0.5
    tab.locator(MAP).focus()
    for key, axis, way in (("ArrowRight", 0, 1), ("ArrowLeft", 0, -1),
                           ("ArrowUp", 1, 1), ("ArrowDown", 1, -1)):
        old = state(tab)["z"]
        tab.keyboard.press(key)
        new = agrees(tab, vae)["z"]
        assert way * (new[order[axis]] - old[order[axis]]) > 0.05
        assert new[order[1 - axis]] == old[order[1 - axis]]
    tab.locator("input[type=range]").nth(2).focus()
    old = state(tab)["z"]
    tab.keyboard.press("ArrowRight")
    new = agrees(tab, vae)["z"]
    assert [i for i in range(4) if new[i] != old[i]] == [order[2]]
    said = tab.locator("output[aria-live]").first
    tab.wait_for_function("t => document.querySelector('output[aria-live]')"
                          ".textContent.startsWith(t)", arg=f"z {new[order[0]]:.2f}"
                          .replace("-", "−"))
    assert "nearest example" in said.inner_text()


@marked()
def test_a_drawing_is_what_the_model_sees_with_mouse_and_with_touch(
        browser, vae, tmp_path):
    explore(vae, digits().test, tmp_path / "page.html")
    seven, found = [(.2, .2), (.8, .2), (.4, .9)], []
    for touch in (False, True):
        context = browser.new_context(viewport={"width": 390, "height": 844},
                                      has_touch=touch, is_mobile=touch)
        tab = context.new_page()
        tab.goto((tmp_path / "page.html").as_uri())
        if touch:
            b, session = box(tab, BOARD), context.new_cdp_session(tab)
            path = [(x0 + (x1 - x0) * k / 6, y0 + (y1 - y0) * k / 6)
                    for (x0, y0), (x1, y1) in zip(seven, seven[1:]) for k in range(7)]
            for i, (x, y) in enumerate(path):
                session.send("Input.dispatchTouchEvent", dict(
                    type="touchMove" if i else "touchStart", touchPoints=[dict(
                        x=b["x"] + x * b["width"], y=b["y"] + y * b["height"])]))
            session.send("Input.dispatchTouchEvent", dict(type="touchEnd",
                                                          touchPoints=[]))
            assert tab.evaluate("scrollX") == 0
        else: stroke(tab, BOARD, seven)
        now = state(tab)
        x, q = terms_agree(now, vae)
        noise = torch.tensor(tab.evaluate("""() => { const p = document.querySelector(
            '#app').live.program; return Array.from(vaeLive.noiseFor(p)); }"""))
        z = q.mean + q.stddev * noise.view(-1, 1, 4)
        with torch.no_grad(): want = -rounded(vae).decode(z).log_prob(x).mean()
        close(now["terms"]["reconstruction"], want, 1e-2)
        found.append(x[0, 0])
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert f"{now['terms']['kl']:.1f}" in tab.locator("table").inner_text()
        context.close()
    for x in found:             # 20 pixels, the center of mass in the middle, as MNIST
        rows, columns = (x > 0).any(1).nonzero(), (x > 0).any(0).nonzero()
        assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == 20
        grid = torch.arange(28) + .5
        for side in (x.sum(1), x.sum(0)):
            assert abs((side * grid).sum() / side.sum() - 14) <= 0.5
    assert (found[0] - found[1]).abs().mean() < 0.03


@marked()
def test_a_dropped_image_is_scored_and_its_pixels_are_those_of_the_file(
        page, vae, tmp_path):
    tab = page(vae, digits().test)
    x = digits().test.x[3]
    Image.fromarray(x[0].numpy()).save(tmp_path / "digit.png")
    drop(tab, tmp_path / "digit.png")
    tab.wait_for_function("document.querySelector('#app').live.x")
    now = state(tab)
    close(now["x"], x / 255, 1e-6)
    terms_agree(now, vae)
    Image.new("RGB", (90, 45), (255, 0, 0)).save(tmp_path / "red.png")
    tab.set_input_files("input[type=file]", tmp_path / "red.png")
    tab.wait_for_function("document.querySelector('#app').live.x[14 * 28] > .2")
    wide = torch.tensor(state(tab)["x"]).view(28, 28)      # padded above and below
    assert (wide[:7] == 0).all() and (wide[21:] == 0).all()
    close(wide[7:21], torch.full((14, 28), .299), 1e-3)
    (tmp_path / "no.png").write_text("no image", encoding="utf-8")
    tab.set_input_files("input[type=file]", tmp_path / "no.png")
    tab.wait_for_selector("text=holds no image")


def drop(tab, path):
    "A file dropped on the zone, as a browser hands it over."
    blob = base64.b64encode(path.read_bytes()).decode()
    handle = tab.evaluate_handle("""blob => {
      const bytes = Uint8Array.from(atob(blob), c => c.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'a.png', {type: 'image/png'}));
      return data;
    }""", blob)
    tab.dispatch_event(".live-drop", "drop", {"dataTransfer": handle})


@marked()
def test_the_class_is_switched_for_the_image_and_for_what_is_decoded(page):
    model = trained("cvae", digits().train[:2000])
    tab = page(model, digits().test)
    for k in (7, 2):
        tab.get_by_label("decode as").select_option(str(k))
        assert agrees(tab, model, k)["c"] == k
    tab.locator("button[aria-label^='Take example']").nth(4).click()
    k = int(digits().test.y[4])
    now = agrees(tab, model, k)
    for row in now["samples"][:2] + now["between"][:2]:
        close(row["mean"], decoded(model, row["z"], k))
    assert now["cx"] == k
    terms_agree(now, model, k)
    tab.get_by_label("your image shows").select_option("1")
    terms_agree(state(tab), model, 1)


@marked()
def test_a_model_with_a_latent_label_reads_the_image_itself(page):
    model = trained("m2", digits().train[:2000])
    tab = page(model, digits().test)
    tab.locator("button[aria-label^='Take example']").nth(2).click()
    now = state(tab)
    x = torch.tensor(now["x"]).view(1, 1, 28, 28)
    with torch.no_grad(): shares = rounded(model).classify(x).probs[0]
    close(now["labels"], shares)
    assert now["cx"] == int(shares.argmax())
    terms_agree(now, model, now["cx"])


@marked()
def test_codes_are_painted_with_pointer_and_keys(page):
    model = trained("vq_vae", digits().train[:2000])
    tab = page(model, digits().test)
    again, grid = rounded(model), "canvas[aria-label^='Codes of the image']"
    def image_agrees():
        now = state(tab)
        codes = torch.tensor(now["codes"]).view(1, 7, 7)
        with torch.no_grad(): close(now["mean"], again.decode(codes).mean)
        return now
    x = digits().test.floats()[:1]
    assert image_agrees()["codes"] == again.codes(x).flatten().tolist()
    b = box(tab, "canvas[aria-label^='Palette']")
    tab.mouse.click(b["x"] + b["width"] * .4, b["y"] + b["height"] * .4)
    brush = state(tab)["brush"]
    b = box(tab, grid)
    tab.mouse.click(b["x"] + b["width"] * .5 / 7, b["y"] + b["height"] * .5 / 7)
    assert image_agrees()["codes"][0] == brush
    tab.locator(grid).focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"): tab.keyboard.press(key)
    assert image_agrees()["codes"][8] == brush
    drawn = state(tab)["samples"][0]
    with torch.no_grad():
        close(drawn["mean"], again.decode(torch.tensor(drawn["z"]).view(1, 7, 7)).mean)


@marked()
def test_samples_and_the_way_between_two_codes(page, vae):
    tab = page(vae, digits().test)
    first = state(tab)
    for row in first["samples"] + first["between"]:
        close(row["mean"], decoded(vae, row["z"]))
    tab.get_by_text("New samples").click()
    assert state(tab)["samples"][0]["z"] != first["samples"][0]["z"]
    tab.get_by_label("temperature").fill("0")
    assert state(tab)["samples"][3]["z"] == [0] * 4
    tab.get_by_text("All to 0").click()
    tab.get_by_text("The point is the right end").click()
    between = state(tab)["between"]
    assert between[-1]["z"] == [0] * 4 and between[0] == first["between"][0]
    close(between[4]["z"], torch.tensor(first["between"][0]["z"]) / 2, 1e-6)


@marked()
@pytest.mark.parametrize("method", ["reconstruction_error", "neg_elbo", "neg_log_px",
                                    "reconstruction_probability"])
def test_a_detector_scores_the_dropped_image_as_it_does_in_python(
        page, method, tmp_path):
    detector = AnomalyDetector(config=dict(latent_dim=4, hidden=[32]), epochs=2,
                               score_method=method, device="cpu",
                               settings={} if "error" in method else dict(samples=7))
    detector.fit(digits().train.x[:1000])
    x = digits().test.x[5]
    detector.save(tmp_path / "detector.safetensors")
    main(["explore", str(tmp_path / "detector.safetensors"), "--data", "digits",
          "--out", str(tmp_path / "page.html")])
    tab = page(detector, digits().test)
    for text in (tab.made.text, (tmp_path / "page.html").read_text(encoding="utf-8")):
        assert f'"threshold":{detector.threshold_}' in text
    Image.fromarray(x[0].numpy()).save(tmp_path / "digit.png")
    drop(tab, tmp_path / "digit.png")
    tab.wait_for_function("document.querySelector('#app').live.score !== undefined")
    detector.model_ = rounded(detector.model_)
    score, found = detector.anomaly_score(x[None])[0], state(tab)["score"]
    assert abs(found - score) < 1e-3 * max(1, abs(score))
    alarm = score > detector.threshold_
    words = "an alarm" if alarm else "no alarm"
    assert words in tab.locator("p[aria-live]").inner_text()


@marked()
def test_a_page_of_colour_images_from_a_folder_opens_from_a_file(tab, tmp_path):
    "Trained, explored and opened as a reader would, with the commands."
    g = torch.Generator().manual_seed(0)
    for i in range(60):
        colour = torch.randint(60, 256, (3,), generator=g).tolist()
        image, k = Image.new("RGB", (40, 32)), i % 2
        image.paste(tuple(colour), (4 + 16 * k, 6, 20 + 16 * k, 26))
        (tmp_path / f"images/{'left right'.split()[k]}").mkdir(parents=True,
                                                               exist_ok=True)
        image.save(tmp_path / f"images/{'left right'.split()[k]}/{i}.png")
    run, out = str(tmp_path / "run"), str(tmp_path / "page.html")
    data = f"folder:{tmp_path}/images"
    main(["train", "--data", data, "--size", "32", "--model", "conv_vae", "--epochs",
          "2", "--batch-size", "16", "--set", "widths=[8,8]", "--set", "latent_dim=3",
          "--out", run])
    main(["explore", run, "--data", data, "--out", out])
    tab.goto(Path(out).as_uri())
    model = load_model(tmp_path / "run/model.safetensors").eval()
    stroke(tab, MAP, [(.5, .5), (.3, .6)])
    agrees(tab, model)
    tab.set_input_files("input[type=file]", tmp_path / "images/left/0.png")
    tab.wait_for_function("document.querySelector('#app').live.x")
    now = state(tab)
    x = read_image(tmp_path / "images/left/0.png", 3, (32, 32)) / 255
    assert (torch.tensor(now["x"]).view(3, 32, 32) - x).abs().mean() < 0.02
    terms_agree(now, model)
    assert "left" in tab.locator(".live-key").inner_text()
    for words in (["--no-data"], ["--no-data", "--data", data, "--weights", "int8"]):
        main(["explore", run, "--out", out, *words])
        assert '"examples":null' in Path(out).read_text(encoding="utf-8")
        tab.goto(Path(out).as_uri())
        assert len(state(tab)["samples"]) == 12
    assert [url for url in tab.asked if not url.startswith(("file:", "blob:"))] == []


@marked()
@pytest.mark.parametrize("name", MODELS)
def test_a_page_of_every_model_opens_with_and_without_images(page, name):
    model = MODELS[name]()
    bare = page(model)
    assert len(state(bare)["samples"]) == 12 and "x" not in state(bare)
    if tuple(model.data_shape) != (1, 28, 28) or name == "columns": return
    tab = page(model, digits().test[:50])
    tab.locator("button[aria-label^='Take example']").nth(3).click()
    now, x = state(tab), digits().test.floats()[3:4]
    close(now["x"], x)
    c = conditions(model, x)
    if hasattr(getattr(model, "condition", None), "low"): c = torch.zeros(1)
    elif c is not None and c.dim() == 1: c = torch.tensor([now["cx"]])
    with torch.no_grad(): close(now["reconstruction"], rounded(model).reconstruct(x, c))
    if name != "quadrants": return
    shown = tab.evaluate("""() => [...document.querySelectorAll('canvas.live-picture')]
        .filter(c => !c.closest('button')).map(c => [c.getAttribute('aria-label'),
        Array.from(c.getContext('2d').getImageData(0, 0, 28, 28).data)])""")
    assert len(shown) == 3 + 12 + 9
    unseen = model.condition.unseen[0] > 0
    want = dict(zip((3, 23), (now["samples"][0], now["between"][-1])))
    for i, (words, pixels) in enumerate(shown):     # what is given stands in each
        found = torch.tensor(pixels).view(28, 28, 4)[..., 0] / 255
        close(found[~unseen], x[0, 0][~unseen], .51 / 255)
        if i in want: close(found[unseen], torch.tensor(want[i]["mean"]).view(
            28, 28)[unseen], .51 / 255)
    facts = tab.evaluate("document.querySelector('#app').live.program.spec.about")
    assert facts["order"][0] == facts["kl"].index(max(facts["kl"]))
    assert sum(facts["kl"]) == pytest.approx(evaluate(
        model, Batches(digits().test[:50], 50), seed=0)["kl"], abs=3e-4)


@marked()
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("kind", ["vae", "cvae", "vq_vae", "flexible_vae",
                                  "two_layer_vae"])
def test_axe_finds_nothing_serious_and_nothing_is_too_wide(page, kind, mode):
    from axe_playwright_python.sync_playwright import Axe
    tab = page(small(kind), digits().test)
    for width in (1100, 390):
        tab.set_viewport_size({"width": width, "height": 844})
        tab.emulate_media(color_scheme=mode, reduced_motion="reduce")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        found = [f"{v['id']}: {v['nodes'][0]['html'][:120]}"
                 for v in Axe().run(tab).response["violations"]
                 if v["impact"] in ("serious", "critical")]
        assert not found, found


# ---------------------------------------------------------------- what is in the file

def test_images_are_in_the_file_and_are_left_out_when_asked(vae):
    first = base64.b64encode(digits().test.x[:24].numpy().tobytes()).decode()
    whole, bare = (explore(vae, digits().test, with_data=keep)
                   for keep in (True, False))
    assert first in whole.text and "images of the data are in this file" in whole.text
    assert first not in bare.text and '"examples":null' in bare.text
    assert "None of the images" in bare.text and bare.sizes["images"] == 0
    assert '"codes"' not in bare.text.partition('id="page"')[2]


def test_a_large_page_says_what_is_too_large():
    large = explore(small("vae", hidden=[800]))
    assert large.size > 1.5e6 and "--weights int8" in repr(large)
    half = explore(small("vae", hidden=[1200]), weights="int8")
    assert "narrower layers" in half.advice and half.size < 3e6
    assert explore(small("vae")).advice == ""


def test_what_cannot_be_explored_is_one_sentence(tmp_path, capsys):
    detector = AnomalyDetector(config=dict(latent_dim=2, hidden=[8]), epochs=1,
                               score_method="likelihood_regret", device="cpu")
    detector.fit(digits().train.x[:200])
    with pytest.raises(Unsupported, match="likelihood_regret"): explore(detector)
    with pytest.raises(DataError, match="this model takes"):
        explore(small("vae"), torch.rand(3, 1, 8, 8))
    with pytest.raises(DataError, match="give `Examples`"): explore(small("vae"), "x")
    save_model(small("vae"), tmp_path / "run/model.safetensors")
    save_model(small("classifier"), tmp_path / "judge/model.safetensors")
    for words, said in {"run": "--no-data", "judge": "Classifier", "none": "no model",
                        "run/model.safetensors": "no detector"}.items():
        extra = ["--data", "digits"] if words == "judge" else []
        with pytest.raises(SystemExit) as e:
            main(["explore", str(tmp_path / words), "--out", str(tmp_path / "x.html"),
                  *extra])
        assert said in str(e.value) and "\n" not in str(e.value)
    assert not (tmp_path / "x.html").exists()


# ---------------------------------------------------------------- parts of the site

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

    def end_headers(self):
        # files are rewritten within a second, which a browser's cache does not notice
        self.send_header("Cache-Control", "no-store")
        super().end_headers()


@pytest.fixture
def part(tab, tmp_path):
    """Serves a page with one part, below the fold, whose programs are fetched once it
    comes into view."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where = f"http://127.0.0.1:{server.server_port}/"

    def open_part(name, *programs, look=True):
        places = []
        for i, program in enumerate(programs):
            if isinstance(program, Path): text = program.read_text(encoding="utf-8")
            else: text = json.dumps(program)
            (tmp_path / f"{i}.json").write_text(text, encoding="utf-8")
            places.append(f"{i}.json")
        (tmp_path / "live.js").write_text(script.read_text(encoding="utf-8"),
                                          encoding="utf-8")
        (tmp_path / "index.html").write_text(
            "<!doctype html><html lang=en><meta charset=utf-8><title>a part</title>"
            "<link rel=icon href='data:,'>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            "<main><h1>A part</h1><div style='height:3000px'></div>"
            f"<div class=live data-part={name} data-program='{' '.join(places)}'>"
            "<img alt='a still picture' src='data:image/gif;base64,R0lGODlhAQABAAAAACw="
            "'></div></main><script src=live.js defer></script></html>",
            encoding="utf-8")
        tab.goto(where + "index.html")
        if look:
            tab.locator(".live").scroll_into_view_if_needed()
            tab.wait_for_selector(".live[data-ready=yes] .live-app")
        return tab
    yield open_part
    inside = where, "data:", tmp_path.as_uri()
    outside = [url for url in tab.asked if not url.startswith(inside)]
    server.shutdown()
    assert outside == []


def shown_examples(n=4):
    x, y = digits().test.x[:n], digits().test.y[:n]
    blob = base64.b64encode(x.numpy().tobytes()).decode()
    return dict(examples=dict(images=blob, labels=y.tolist()),
                classes=[str(k) for k in range(10)])


def finger(tab, session, b, start, end):
    "A finger slides over the box `b` from one place to another, both in shares of it."
    for i in range(9):
        x, y = (s + (e - s) * i / 8 for s, e in zip(start, end))
        session.send("Input.dispatchTouchEvent", dict(
            type="touchMove" if i else "touchStart", touchPoints=[dict(
                x=b["x"] + x * b["width"], y=b["y"] + y * b["height"])]))
    session.send("Input.dispatchTouchEvent", dict(type="touchEnd", touchPoints=[]))
    tab.wait_for_timeout(300)


def of(tab, *names):
    "What the part knows by these names."
    return tab.evaluate("""names => {
      const app = document.querySelector('.live').live;
      const plain = v => ArrayBuffer.isView(v) ? Array.from(v) : Array.isArray(v)
        ? v.map(plain) : v;
      return names.map(name => plain(name.split('.').reduce((o, k) => o[k], app)));
    }""", list(names))


@marked()
def test_a_part_is_fetched_when_it_comes_into_view_and_the_picture_stays_until_then(
        part, tmp_path):
    model = small("vae", latent_dim=2)
    tab = part("plane", packed(model, "int8", ("decoder", "prior")), look=False)
    tab.wait_for_timeout(300)
    assert tab.locator(".live img").count() == 1
    assert not any(url.endswith(".json") for url in tab.asked)
    tab.locator(".live").scroll_into_view_if_needed()
    tab.wait_for_selector(".live[data-ready=yes] .live-app")
    assert tab.locator(".live img").count() == 0
    assert sum(url.endswith(".json") for url in tab.asked) == 1
    (tmp_path / "0.json").unlink()              # without its program
    wrong = len(tab.wrong)
    tab.goto(tab.url)
    tab.locator(".live").scroll_into_view_if_needed()
    tab.wait_for_selector(".live[data-ready=no]")
    assert tab.locator(".live img").count() == 1
    del tab.wrong[wrong:]                       # the browser says 404, as it should
    tab.goto((tmp_path / "index.html").as_uri())        # from a file: the picture
    tab.locator(".live").scroll_into_view_if_needed()
    tab.wait_for_timeout(200)
    assert tab.locator(".live img").count() == 1


@marked()
def test_the_plane_is_dragged(part):
    model = small("vae", latent_dim=2)
    tab = part("plane", packed(model, "int8", ("decoder", "prior")))
    stroke(tab, MAP, [(.5, .5), (.75, .25)])
    z, mean = of(tab, "z", "mean")
    close(z, torch.tensor([1.5, 1.5]), 0.05)
    with torch.no_grad():
        close(mean, rounded(model, "int8").decode(torch.tensor([z])).mean)
    tab.locator(MAP).focus()
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Home")
    assert of(tab, "z")[0] == [0, 0]


@marked()
def test_a_part_draws_a_digit(part, vae):
    model = vae
    tab = part("draw", packed(model, about=shown_examples()))
    stroke(tab, BOARD, [(.3, .2), (.7, .2), (.4, .9)])
    x, mu, sigma, made, terms = of(tab, "x", "q.mu", "q.sigma", "reconstruction",
                                   "terms")
    again = rounded(model)
    with torch.no_grad():
        q = again.encode(torch.tensor(x).view(1, 1, 28, 28))
        close(mu, q.mean)
        close(sigma, q.stddev)
        close(made, again.decode(q.mean).mean)
    kl = .5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(-1)
    close(terms["kl"], kl)
    words = "KL " + f"{terms['kl']:.1f}"
    tab.wait_for_function("t => document.querySelector('output').textContent.includes(t"
                          ")", arg=words)


@marked()
def test_a_part_writes_other_digits_in_the_same_handwriting(part):
    model = trained("cvae", digits().train[:2000])
    tab = part("class", packed(model, about=shown_examples()))
    tab.locator("button[aria-label^='Take example']").nth(2).click()
    x, rows, c = of(tab, "x", "rows", "c")
    again, x = rounded(model), torch.tensor(x).view(1, 1, 28, 28)
    assert c == int(digits().test.y[2])
    for k in (0, 9):
        with torch.no_grad(): close(rows[k], again.reconstruct(x, c, k))
    tab.get_by_label("it shows").select_option("1")
    with torch.no_grad():
        close(of(tab, "rows")[0][5], again.reconstruct(x, 1, 5))


def strip(tab):
    "The pixels on the canvases of the eight completions, (8, 3, H, W)."
    found = tab.evaluate("""() => [...document.querySelectorAll(
        '[aria-label="Eight completions"] canvas')].map(canvas => Array.from(
        canvas.getContext('2d').getImageData(0, 0, 28, 28).data))""")
    return torch.tensor(found).view(8, 28, 28, 4)[..., :3].movedim(-1, 1) / 255


@marked()
@pytest.mark.parametrize("seen", [["upper left", "upper right"], ["lower left"],
                                  ["upper left", "lower left", "upper right"]])
def test_a_part_completes_what_is_drawn_and_examples(part, seen):
    model = trained("cvae", digits().train[:2000], condition=dict(quadrants=seen),
                    sees=["decoder", "prior"])
    tab = part("complete", packed(model, "int8", ("decoder", "prior"),
                                  shown_examples(5)))
    again, unseen = rounded(model, "int8"), model.condition.unseen[0] > 0

    def agrees(x):
        "Eight draws of p(z|c), decoded; what was given stays; and what is said of it."
        given, eps, z, made, spread, off = of(tab, "given", "eps", "z", "made",
                                              "spread", "off")
        close(given, x.masked_fill(unseen, 0), 1e-5)
        c = torch.tensor(given).float().view(1, 1, 28, 28)
        with torch.no_grad():
            p = again.prior(c)
            close(z, p.mean + p.stddev * torch.tensor(eps).view(8, 4))
            assert (p.mean.abs() > .01).any() and len(set(eps)) == 32
            mean = again.decode(torch.tensor(z)[:, None], c).mean[:, 0, 0]
        mean = mean.where(unseen, c[0, 0])
        close(made, mean)
        shown = strip(tab)
        close(shown[:, 2], mean, .51 / 255)             # blue has all of it
        tinted = shown[:, 0] < shown[:, 2]
        assert not (tinted & unseen).any()
        assert (tinted | unseen | (shown[:, 2] < .02)).all()
        each = mean[:, unseen]
        close([spread], each.var(0, unbiased=False).mean().sqrt())
        assert said(tab, "differ by") == pytest.approx([spread], abs=6e-4)
        if off is not None:
            close([off], (each.mean(0) - x[unseen]).square().mean().sqrt())
            assert said(tab, "off their mean by") == pytest.approx([off], abs=6e-4)
        return torch.tensor(made), off

    x = digits().test.floats()[:5, 0]
    tab.locator("button[aria-label^='Take example']").nth(1).click()
    first, off = agrees(x[1])
    assert off is not None and tab.get_by_text("the whole example").is_visible()
    tab.get_by_role("button", name="Fresh draws").press("Enter")
    second, _ = agrees(x[1])
    assert (first - second).abs().max() > 1e-3
    tab.get_by_role("button", name="Clear").click()
    tab.get_by_role("button", name="Fresh draws").click()
    given, made, off = of(tab, "given", "made", "off")          # nothing to complete
    assert not any(given) and made == [] and off is None and not strip(tab).any()
    assert not tab.get_by_text("the whole example").is_visible()
    tab.wait_for_selector("text=nothing is drawn yet")
    stroke(tab, BOARD, [(.25, .1), (.25, .9), (.75, .9), (.75, .1)])
    drawn = torch.tensor(of(tab, "given")[0]).float().view(28, 28)
    for r, c in ((6, 7), (20, 7)):              # the left stroke, where it is seen
        assert (drawn[r, c] > .9) == (not unseen[r, c])
    agrees(drawn)


@marked()
def test_a_half_is_completed_with_touch_and_other_models_are_refused(
        part, browser, tmp_path):
    model = small("cvae", condition=dict(quadrants=["upper left", "upper right"]),
                  sees=["decoder", "prior"])
    live.part("complete", model, data=digits().test[:20]).write(tmp_path / "a.html")
    context = browser.new_context(viewport={"width": 390, "height": 844},
                                  has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto((tmp_path / "a.html").as_uri())
    tab.wait_for_selector(".live[data-ready=yes]")
    b, session = box(tab, BOARD), context.new_cdp_session(tab)
    for i, x in enumerate((.3, .5, .7)):
        session.send("Input.dispatchTouchEvent", dict(
            type="touchMove" if i else "touchStart", touchPoints=[dict(
                x=b["x"] + x * b["width"], y=b["y"] + .3 * b["height"])]))
    session.send("Input.dispatchTouchEvent", dict(type="touchEnd", touchPoints=[]))
    given, = of(tab, "given")
    assert sum(given[28 * 8 + 9:28 * 8 + 19]) > 9 and sum(given[28 * 14:]) == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    told = part("plane", packed(small("vae"))).evaluate("""program => {
      const host = document.createElement('div');
      host.dataset.part = 'complete';
      return vaeLive.mount(host, [program]).then(() => '', e => e.message);
    }""", packed(small("vae")))
    assert told == "the part complete needs a model that is told a part of the image"
    for other in (small("vae"), small("cvae")):
        with pytest.raises(ValueError, match="quadrants"):
            live.part("complete", other, data=digits().test)


@marked()
def test_a_sum_and_a_mean_over_the_pixels_stand_side_by_side(part):
    models = [lively(small("vae")) for _ in range(2)]
    with torch.no_grad():
        for p in models[1].parameters(): p.mul_(.2)
    tab = part("reduction", *[packed(m, "int8", about=dict(reduction=r, **more))
                              for m, r, more in zip(models, ("sum", "mean"),
                                                    (shown_examples(5), {}))])
    again = [rounded(m, "int8") for m in models]

    def agrees():
        x, rows = of(tab, "x", "reconstructions")
        x = torch.tensor(x).float().view(1, 1, 28, 28)
        noise = tab.evaluate("""() => Array.from(vaeLive.noiseFor(
            document.querySelector('.live').live.program))""")
        words, found = tab.locator("output"), []
        for m, row in zip(again, rows):
            with torch.no_grad():
                close(row, m.reconstruct(x))
                q = m.encode(x)
                z = q.mean + q.stddev * torch.tensor(noise).view(20, 1, 4)
                r = -m.decode(z).log_prob(x).mean().item()
                kl = D.kl_divergence(base_distribution(q), D.Normal(0., 1.)).sum()
            found.append((r, kl.item()))
        tab.wait_for_timeout(250)
        text = words.inner_text()
        for name, (r, kl), pixels in zip(("sum", "mean"), found, (1, 784)):
            got = [float(v) for v in re.search(
                f"{name}: reconstruction ([\\d.]+), KL ([\\d.]+) nats, its own loss "
                "([\\d.]+)", text).groups()]
            assert got == pytest.approx([r, kl, r / pixels + kl], abs=.06), text
        got = of(tab, *(f"terms.{i}.{key}" for i in (0, 1)
                        for key in ("reconstruction", "kl")))
        assert got == pytest.approx([v for pair in found for v in pair], rel=1e-5,
                                    abs=1e-3)
        return x

    x = digits().test.floats()[:5]
    rows, = of(tab, "rows")
    for m, made in zip(again, rows):            # both models, every example
        with torch.no_grad(): close(made, m.reconstruct(x))
    tab.get_by_role("button", name="Take example 3").press("Enter")
    close(agrees(), x[2:3])
    assert tab.locator("text=weights as int8").count() == 2     # each says what it is
    stroke(tab, BOARD, [(.3, .2), (.7, .2), (.4, .9)])
    drawn = agrees()[0, 0]                      # a seven, centred as MNIST is
    assert (drawn > 0).any(1).sum() == 20 and (drawn > .5).sum() > 50
    tab.set_viewport_size({"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_mean_over_the_pixels_is_the_one_thing_that_differs():
    "The same settings and protocol; its loss is that of β = 784, divided by 784."
    spec = importlib.util.spec_from_file_location("live_tool", root / "tools/live.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = json.loads((made / "protocol.json").read_text(encoding="utf-8"))
    both = [rows[f"reduction_{r}"] for r in ("sum", "mean")]
    for key in ("model", "train", "data", "seed", "steps", "batch_size", "weights"):
        assert both[0][key] == both[1][key], key
    assert [row["settings"].pop("reduction") for row in both] == ["sum", "mean"]
    assert both[0]["settings"] == both[1]["settings"]
    batch, losses = (digits().train.floats()[:50], None), []
    for change in (dict(reduction="mean"), {}):
        model, _ = tool.trained("vae", dict(hidden=[8], latent_dim=2) | change,
                                digits(), 3, 0)
        if not change: model.load_state_dict(losses[0][0].state_dict())
        model.beta.fill_(1 if change else 784)
        model.zero_grad()
        with seeded(1): loss = model.losses(batch)["loss"]
        loss.backward()
        slope = torch.cat([p.grad.flatten() for p in model.parameters()])
        losses.append((model, loss.item(), slope))
    (_, mean, slope), (_, heavy, steep) = losses
    assert 784 * mean == pytest.approx(heavy, rel=1e-5)
    assert torch.allclose(784 * slope, steep, rtol=1e-4, atol=1e-4)
    programs = [json.loads((made / f"reduction_{r}.json").read_text(encoding="utf-8"))
                for r in ("sum", "mean")]
    kl = [sum(p["about"]["kl"]) for p in programs]
    assert kl[0] > 10 and kl[1] < .01           # the mean's codes say nothing


@marked()
def test_a_part_paints_with_codes(part):
    model = trained("vq_vae", digits().train[:2000], prior="uniform")
    tab = part("codes", packed(model, about=shown_examples()))
    tab.locator("button[aria-label^='Take example']").nth(1).click()
    again, x = rounded(model), digits().test.floats()[1:2]
    codes, mean = of(tab, "codes", "mean")
    assert codes == again.codes(x).flatten().tolist()
    b = box(tab, "canvas[aria-label^='Codes of the image']")
    tab.mouse.click(b["x"] + b["width"] * .95, b["y"] + b["height"] * .95)
    painted, mean, brush = of(tab, "codes", "mean", "brush")
    assert painted == codes[:-1] + [brush]
    with torch.no_grad():
        close(mean, again.decode(torch.tensor(painted).view(1, 7, 7)).mean)


@marked()
def test_the_threshold_is_moved(part):
    g = torch.Generator().manual_seed(0)
    normal, odd = torch.randn(200, generator=g), torch.randn(100, generator=g) + 2
    normal, odd = (10 * normal).round() / 10, (10 * odd).round() / 10    # with ties
    assert (normal == 1).any() and (odd == 1).any()
    tab = part("threshold", dict(format=1, normal=normal.tolist(), threshold=1.0,
                                 anomalous=odd.tolist(), names=["normal", "odd"]))
    for key in (None, "ArrowRight", "ArrowLeft", "PageDown"):
        if key:
            tab.get_by_label("threshold").focus()
            tab.keyboard.press(key)
        t, false, hit, true = of(tab, "threshold", "falseAlarms", "detections",
                                 "precision")
        want = [(s > t).double().mean().item() for s in (normal.double(), odd.double())]
        assert (false, hit) == pytest.approx(want, abs=1e-9)
        assert true == pytest.approx(precision_from_rates(hit, false, 0.01))
    words = f"false alarms {100 * false:.1f} %"
    tab.wait_for_function("t => document.querySelector('output').textContent.includes(t"
                          ")", arg=words)


@marked()
def test_a_finger_takes_the_point_and_scrolls_past_the_plane(browser, tmp_path):
    program = json.dumps(packed(small("vae", latent_dim=2)))
    (tmp_path / "a.html").write_text(
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-"
        "width'><div class=live data-part=plane></div><div style='height:3000px'></div>"
        f"<script>{script.read_text(encoding='utf-8')}</script><script>vaeLive.mount("
        f"document.querySelector('.live'), [{program}])</script>", encoding="utf-8")
    context = browser.new_context(viewport=dict(width=390, height=800),
                                  has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto((tmp_path / "a.html").as_uri())
    tab.wait_for_selector(".live[data-ready=yes]")
    plane = "canvas[aria-roledescription=plane]"
    session = context.new_cdp_session(tab)

    def slide(start, end):
        finger(tab, session, box(tab, plane), start, end)
        z, = of(tab, "z")
        return z, tab.evaluate("scrollY")
    span = 3
    z, scrolled = slide((.15, .9), (.15, .3))           # away from the point: a scroll
    assert z == [0, 0] and scrolled > 50
    tab.evaluate("scrollTo(0, 0)")
    z, scrolled = slide((.5, .5), (.8, .2))             # from the point: it follows
    assert z == pytest.approx([.6 * span, .6 * span], abs=.1) and scrolled == 0
    z, scrolled = slide((.1, .9), (.4, .9))             # sideways: it follows, too
    assert z == pytest.approx([-.2 * span, -.8 * span], abs=.1) and scrolled == 0
    b = box(tab, plane)
    tab.touchscreen.tap(b["x"] + .75 * b["width"], b["y"] + .25 * b["height"])
    assert of(tab, "z")[0] == pytest.approx([.5 * span, .5 * span], abs=.05)
    context.close()


@marked()
def test_beta_is_switched(part):
    programs, models = [], []
    for beta in (0.5, 4):
        model = small("beta_vae", beta=beta, latent_dim=6)
        with torch.no_grad(): model.decoder[0][0].weight.mul_(beta)
        models.append(model)
        programs.append(packed(model, about=dict(
            beta=beta, rate=9 / beta, distortion=80 + beta, order=[3, 1, 0, 2, 4, 5],
            kl=[.3, .4, .05, beta, .01, .01],
            **(shown_examples() if beta == 4 else {}))))
    tab = part("beta", *programs)
    images = digits().test.floats()
    said = "t => document.querySelector('output').textContent.includes(t)"

    def agrees(k, example):
        x = images[example:example + 1]
        all_of, draws = of(tab, "reconstructions", "draws")
        with torch.no_grad():
            for made, model in zip(all_of, models):
                close(made, rounded(model).reconstruct(x))
            z = torch.tensor(tab.evaluate(
                "() => Array.from(vaeLive.randomOf(1).normals(48))")).view(8, 6)
            close(draws, rounded(models[k]).decode(z).mean)
    for k, words in ((0, "rate 18.0, distortion 80.5"), (1, "rate 2.3, distortion 84")):
        tab.get_by_text(f"β = {(0.5, 4)[k]}").click()
        agrees(k, 0)
        tab.wait_for_function(said, arg=words)
        pressed = tab.locator("[aria-label='β'] button[aria-pressed=true]")
        assert pressed.inner_text() == f"β = {(0.5, 4)[k]}"
        assert tab.locator(".live-rows span").first.inner_text() == (
            f"{(0.5, 4)[k]:.2f} nats")
        assert "3 of all 6 hold" in tab.locator(".live-rows + figcaption").inner_text()
    tab.get_by_label("Take example 4").click()
    agrees(1, 3)
    label = digits().test.y[3].item()
    tab.wait_for_function(said, arg=f"the {label} under β 4; on average")
    assert tab.get_by_label("Take example 4").get_attribute("aria-pressed") == "true"
    chart = tab.locator("canvas[aria-label^='Rate and distortion']")
    box = chart.bounding_box()          # the point of β = 0.5 is on the right, below
    chart.click(position=dict(x=.9 * box["width"], y=.78 * box["height"]))
    agrees(0, 3)


@marked()
def test_nothing_of_a_part_is_cut_off_on_a_narrow_screen(part):
    for name, files in PAGES.items():
        tab = part(name, *files)
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.evaluate("document.querySelector('.live').style.cssText = 'width: 340px; "
                     "overflow: hidden'")
        out = tab.evaluate("""() => {
            const host = document.querySelector('.live').getBoundingClientRect();
            return [...document.querySelectorAll('.live-app *')].filter(e => {
                const box = e.getBoundingClientRect();
                return box.width && box.right > host.right + 1;
            }).map(e => e.outerHTML.slice(0, 80));
        }""")
        assert not out, (name, out)


@marked()
def test_latents_are_moved_one_by_one(part):
    model = small("vae")
    tab = part("traversals", packed(model, about=dict(order=[2, 0, 1, 3],
                                                      kl=[.5, .4, 2., .1])))
    assert "z3 · 2.00 nats" in tab.locator(".live-slide").first.inner_text()
    tab.locator("input[type=range]").first.focus()
    tab.keyboard.press("ArrowRight")
    z, mean = of(tab, "z", "mean")
    assert z[2] > 0 and z[0] == z[1] == z[3] == 0
    with torch.no_grad(): close(mean, rounded(model).decode(torch.tensor([z])).mean)


@marked()
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_parts_of_the_site(part, mode):
    from axe_playwright_python.sync_playwright import Axe
    for name, files in PAGES.items():
        tab = part(name, *files)
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.emulate_media(color_scheme=mode, reduced_motion="reduce")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, name
        found = [f"{name}: {v['id']}: {v['nodes'][0]['html'][:120]}"
                 for v in Axe().run(tab).response["violations"]
                 if v["impact"] in ("serious", "critical")]
        assert not found, found


@marked()
def test_a_part_of_a_lessons_own_model_is_a_page_of_its_own(tab, vae, tmp_path):
    "As a cell shows it, and in the frame that it stands in."
    small_page = live.part("draw", vae, data=digits().test[:200])
    small_page.write(tmp_path / "part.html")
    tab.goto((tmp_path / "part.html").as_uri())
    tab.wait_for_selector(".live[data-ready=yes]")
    tab.locator("button[aria-label^='Take example']").nth(3).click()
    (mu,) = of(tab, "q.mu")
    with torch.no_grad():
        close(mu, rounded(vae).encode(digits().test.floats()[3:4]).mean)
    (tmp_path / "cell.html").write_text("<!doctype html><meta charset=utf-8>"
                                        + small_page._repr_html_(), encoding="utf-8")
    tab.goto((tmp_path / "cell.html").as_uri())
    frame = tab.frame_locator("iframe")
    frame.locator(".live[data-ready=yes] table td").first.wait_for()
    assert [url for url in tab.asked if not url.startswith(("file:", "about:"))] == []


@marked()
def test_a_part_of_two_betas_shows_their_own_rates(tab, tmp_path):
    models = [trained("beta_vae", digits().train[:1000], beta=b) for b in (0.5, 8.0)]
    live.part("beta", *models, data=digits().test[:200]).write(tmp_path / "part.html")
    tab.goto((tmp_path / "part.html").as_uri())
    tab.wait_for_selector(".live[data-ready=yes]")
    for model, k in zip(models, range(2)):
        tab.locator("[aria-label='β'] button").nth(k).click()
        terms = evaluate(model, Batches(digits().test[:200], 100), seed=0)
        words = f"rate {terms['kl']:.1f}, distortion"
        tab.wait_for_function("t => document.querySelector('output').textContent"
                              ".includes(t)", arg=words)


# ---------------------------------------------------------------- parts without a model

BARE = ["gaussian", "noise", "reliability", "blur", "posterior", "roofline"]


@pytest.fixture
def alone(tab, tmp_path):
    "Opens a page with one part that needs no program, from a file; no request is made."
    def open_part(name):
        (tmp_path / "live.js").write_text(script.read_text(encoding="utf-8"),
                                          encoding="utf-8")
        (tmp_path / f"{name}.html").write_text(
            "<!doctype html><html lang=en><meta charset=utf-8><title>a part</title>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            f"<main><h1>A part</h1><div class=live data-part={name}>"
            "<img alt='a still picture' src='data:image/gif;base64,R0lGODlhAQABAAAAACw="
            "'></div></main><script src=live.js defer></script></html>",
            encoding="utf-8")
        tab.goto((tmp_path / f"{name}.html").as_uri())
        tab.wait_for_selector(".live[data-ready=yes] .live-app")
        return tab
    yield open_part
    files = {(tmp_path / f"{name}.html").as_uri() for name in BARE}
    files |= {(tmp_path / "live.js").as_uri(), "data:image/gif;base64,R0lGODlhAQABAAAAA"
              "Cw="}
    assert set(tab.asked) <= files, tab.asked


def keys(tab, label, *pressed):
    "Keys pressed on a slider, and its value after them."
    place = tab.get_by_label(label, exact=True)
    place.focus()
    for key in pressed: tab.keyboard.press(key)
    return float(place.input_value())


def said(tab, *words):
    "The numbers that stand behind these words in the read-out, once it has rested."
    tab.wait_for_timeout(250)
    text = tab.locator("output").inner_text().replace("−", "-")
    text = re.sub(r"(?<=\d),(?=\d)", "", text)
    found = []
    for w in words:
        number = re.search(re.escape(w.replace("−", "-")) + r" (-?\d+(\.\d+)?)", text)
        assert number, f"{w!r} is not in {text!r}"
        found.append(float(number[1]))
    return found


DENSITY = "canvas[aria-roledescription=density]"


def of_gaussian(tab):
    "What the part says of q, which torch.distributions and an integral say too."
    from scipy import integrate
    mu, logvar = of(tab, "mu", "logvar")
    q, p = D.Normal(torch.tensor(mu).double(), math.exp(logvar / 2)), D.Normal(0., 1.)

    def weight(z):
        z = torch.tensor(z, dtype=torch.double)
        return (q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z))).item()

    areas = [integrate.quad(lambda z: max(0, way * weight(z)), mu - 20, mu + 20,
                            points=[-1, 0, mu - 1, mu, mu + 1], limit=400)[0]
             for way in (1, -1)]
    kl = D.kl_divergence(q, p).item()
    of_mean = D.kl_divergence(D.Normal(torch.tensor(mu), 1.), p).item()
    want = [of_mean, kl, *areas]
    got = said(tab, "log σ²):", "together", "area above 0", "below 0")
    assert got == pytest.approx(want, abs=1e-3)
    assert said(tab, "log σ²): %.3f and" % got[0]) == pytest.approx(
        [kl - of_mean], abs=1e-3)
    assert got[2] - got[3] == pytest.approx(kl, abs=2e-3)       # (3): the area
    return mu, logvar


@marked()
def test_a_gaussian_is_moved_away_from_the_prior(alone):
    tab = alone("gaussian")
    assert of_gaussian(tab) == (1, -1.4)
    for label, pressed in (("μ", ["ArrowLeft"] * 3), ("log σ²", ["ArrowRight"] * 5),
                           ("μ", ["Home"]), ("log σ²", ["End"]), ("log σ²", ["Home"]),
                           ("μ", ["End"])):
        at = keys(tab, label, *pressed)
        assert at in [pytest.approx(v) for v in of_gaussian(tab)]
    tab.locator(DENSITY).focus()
    for key, want in (("Home", (0, 0)), ("ArrowRight", (.1, 0)), ("ArrowUp", (.1, -.1)),
                      ("ArrowLeft", (0, -.1)), ("Shift+ArrowDown", (0, .4))):
        tab.keyboard.press(key)
        assert of_gaussian(tab) == pytest.approx(want)
        assert float(tab.get_by_label("log σ²").input_value()) == pytest.approx(want[1])
    tab.keyboard.press("Home")
    assert of_gaussian(tab) == (0, 0)
    assert said(tab, "together", "area above 0", "below 0") == [0, 0, 0]
    peak = 1 / math.sqrt(2 * math.pi)           # of q, whose top is dragged up
    b = box(tab, DENSITY)

    def at(mu, high):
        return (b["x"] + b["width"] * (60 + 568 * (mu + 5) / 10) / 640,
                b["y"] + b["height"] * (210 - 198 * high / 2) / 584)

    tab.mouse.move(*at(0, peak))
    tab.mouse.down()
    tab.mouse.move(*at(-1.5, 2 * peak), steps=5)
    tab.mouse.up()
    assert of_gaussian(tab) == pytest.approx((-1.5, -2 * math.log(2)), abs=.06)
    tab.mouse.click(b["x"] + b["width"] / 2, b["y"] + .6 * b["height"])
    assert of_gaussian(tab)[0] < -1.4           # only the upper field is for dragging


@marked()
def test_a_gaussian_is_moved_with_touch(browser, tmp_path):
    (tmp_path / "a.html").write_text(
        "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-"
        "width'><div class=live data-part=gaussian></div><div style='height:2000px'>"
        f"</div><script>{script.read_text(encoding='utf-8')}</script>",
        encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844},
                                  has_touch=True, is_mobile=True)
    tab = context.new_page()
    tab.goto((tmp_path / "a.html").as_uri())
    tab.wait_for_selector(".live[data-ready=yes]")
    b, session = box(tab, DENSITY), context.new_cdp_session(tab)

    def slide(start, end): finger(tab, session, b, start, end)

    slide((.6, .2), (.4, .28))                  # up and down in the upper field: σ
    mu, logvar = of_gaussian(tab)
    assert mu == pytest.approx(10 * (.4 * 640 - 60) / 568 - 5, abs=.06)
    high = 2 * (210 - .28 * 584) / 198
    assert logvar == pytest.approx(-2 * math.log(high) - math.log(2 * math.pi), abs=.06)
    assert tab.evaluate("scrollY") == 0
    slide((.5, .9), (.5, .2))                   # below it the page scrolls
    assert of_gaussian(tab) == (mu, logvar) and tab.evaluate("scrollY") > 50
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@marked()
def test_codes_move_smoothly_with_the_same_noise_and_jump_with_fresh_noise(alone):
    tab = alone("noise")

    def agrees():
        mu, logvar, eps = of(tab, "mu", "logvar", "eps")
        mu, logvar = (torch.tensor(v, dtype=torch.double, requires_grad=True)
                      for v in (mu, logvar))
        z = mu + (logvar / 2).exp() * torch.tensor(eps, dtype=torch.double)
        loss = (z - 1).square().mean()
        loss.backward()
        variance = logvar.exp().item()
        want = (loss.item(), mu.grad.item(), logvar.grad.item(),
                (mu.item() - 1)**2 + variance, 2 * (mu.item() - 1), variance)
        text = tab.locator("output")
        numbers = (*said(tab, "loss from the draws", "slope for μ from the draws",
                         "for log σ² from the draws"),
                   *(float(v.replace("−", "-")) for v in
                     re.findall(r"exact (−?[\d.]+)", text.inner_text())))
        assert numbers == pytest.approx(want, abs=1e-3)
        return eps

    def roughness():
        curve = torch.tensor(of(tab, "curve")[0])
        return (curve[2:] - 2 * curve[1:-1] + curve[:-2] - .02).abs().max().item()

    first = agrees()
    assert len(set(first)) == 20
    assert keys(tab, "μ", "ArrowRight", "PageUp") > -1
    assert keys(tab, "log σ²", "ArrowLeft", "ArrowLeft") == -0.2
    assert agrees() == first and roughness() < 1e-5      # a parabola
    tab.get_by_role("button", name="Fresh noise", exact=True).click()
    second = agrees()
    assert second != first and roughness() < 1e-5
    tab.get_by_role("button", name="Fresh noise at each move").click()
    keys(tab, "μ", "ArrowRight")
    third = agrees()
    keys(tab, "μ", "ArrowLeft")
    assert agrees() != third != second and roughness() > .1


@marked()
def test_intervals_of_a_stated_sigma_hold_what_the_normal_law_says(alone):
    from scipy import integrate
    from scipy.stats import norm
    tab = alone("reliability")
    for pressed in ((), ("ArrowLeft",), ("Home",), ("End", "ArrowLeft", "ArrowLeft")):
        sigma = 2 ** keys(tab, "σ of p(x|z)", *pressed)
        def inside(level): return 2 * norm.cdf(sigma * norm.ppf((1 + level) / 2)) - 1
        error = integrate.quad(lambda c: abs(inside(c) - c), 0, 1)[0]
        cost = integrate.quad(lambda e: -norm.logpdf(e, 0, sigma) * norm.pdf(e),
                              -12, 12)[0]
        got = said(tab, "σ", "50 % interval holds", "90 % interval",
                   "calibration error", "−log p")
        want = [sigma, 100 * inside(.5), 100 * inside(.9), error, cost]
        assert [got[0], *got[3:]] == pytest.approx([want[0], *want[3:]], abs=1e-3)
        assert got[1:3] == pytest.approx(want[1:3], abs=.051)       # in percent
        coverage = of(tab, "coverage")[0]
        assert coverage == pytest.approx([v / 100 for v in want[1:3]], abs=1e-6)
    keys(tab, "σ of p(x|z)", "Home", *["ArrowRight"] * 20)
    assert said(tab, "σ", "calibration error", "−log p") == [1, 0, 1.419]


@marked()
def test_sigma_moves_the_eight_centres_as_in_lesson_14(alone):
    truth = D.MixtureSameFamily(D.Categorical(torch.ones(2)),
                                D.Normal(torch.tensor([-1., 1.]), 0.25))
    with seeded(0): points = truth.sample((100,))
    with seeded(1): start = torch.randn(8)
    tab = alone("blur")
    x = torch.tensor(of(tab, "points")[0], dtype=torch.double)
    close(x, points.double().sort().values, 6e-4)
    grid = torch.linspace(-4, 4, 4001, dtype=torch.double)
    mass = truth.log_prob(grid.float()).double().exp() * .002

    def log_p(f, sigma, x):                     # a row for each sigma
        return (D.Normal(f[:, None], sigma[:, None, None]).log_prob(x[:, None])
                .logsumexp(-1) - math.log(8))

    def learned(sigma, free=False):
        f = ((1000 * start.double()).round() / 1000).expand(len(sigma), 8)
        for _ in range(300):
            q = D.Normal(f[:, None], sigma[:, None, None]).log_prob(x[:, None])
            q = q.softmax(-1)
            f = (q * x[:, None]).sum(1) / q.sum(1).clamp(min=1e-6)
            if free:
                off = (q * (x[:, None] - f[:, None])**2).sum(-1)
                sigma = off.mean(-1).sqrt()
        return f, sigma, -(log_p(f, sigma, grid) * mass).sum(1), -log_p(
            f, sigma, x).mean(1)

    def agrees(f, sigma, new, seen):
        assert said(tab, "σ", "−log p", "new data,") == pytest.approx(
            [sigma, new, seen], abs=1e-3)
        close(of(tab, "centres")[0], f)

    steps = torch.linspace(-5.5, 1, 66, dtype=torch.double)
    every = learned(2 ** steps)
    least = every[2].argmin()
    for pressed in (["ArrowLeft"] * 15, ["PageDown"], ["Home"], ["End"]):
        at = keys(tab, "σ of p(x|z)", *pressed)
        i = (steps - at).abs().argmin()
        agrees(every[0][i], *(v[i].item() for v in every[1:]))
        assert said(tab, "least along the curve", "at σ") == pytest.approx(
            [every[2][least].item(), 2 ** steps[least].item()], abs=1e-3)
    assert said(tab, "eight centres in") == [1]          # σ = 2: they have merged
    tab.get_by_role("button", name="Learn σ").click()
    f, *rest = learned(torch.tensor([.5], dtype=torch.double), free=True)
    agrees(f[0], *(v.item() for v in rest))
    assert .15 < rest[0] < .3


@marked()
def test_a_gaussian_is_laid_over_a_posterior(alone):
    from scipy.optimize import minimize
    tab = alone("posterior")
    axis = torch.linspace(-7, 7, 281, dtype=torch.double)
    a, b = torch.meshgrid(axis, axis, indexing="ij")
    z, cell = torch.stack([a, b], -1), 0.05**2
    sights = [(a + b, 1.5, .3), (b + (a + 1)**2 / 2, 1, .3), (a*a + b*b, 2, .5)]

    def divergence(q, sight):
        seen, x, s = sight
        joint = D.Normal(seen, s).log_prob(torch.tensor(x)) + D.Normal(
            0., 1.).log_prob(z).sum(-1)
        log_p = joint - (joint.logsumexp((0, 1)) + math.log(cell))
        m, (s1, s2), r = torch.tensor(q[:2]), (math.exp(v / 2) for v in q[2:4]), q[4]
        cov = torch.tensor([[s1*s1, r*s1*s2], [r*s1*s2, s2*s2]])
        log_q = D.MultivariateNormal(m.double(), cov.double()).log_prob(z)
        return (log_q.exp() * (log_q - log_p)).sum().item() * cell

    for i, sight in enumerate(sights):
        tab.get_by_label("seen, with noise:").select_option(str(i))
        for label, pressed in (("mean of z₁", ["ArrowRight"] * 3),
                               ("log σ² of z₂", ["ArrowLeft"] * 2),
                               ("correlation", ["PageDown"])):
            keys(tab, label, *pressed)
        q = of(tab, "q")[0]
        want = divergence(q, sight)
        assert said(tab, "KL(q‖p)") == pytest.approx([want], abs=1e-3)
        left = said(tab, "the best diagonal q leaves", "the best q with correlation")
        for words, gap, free in (("Best diagonal q", left[0], 0),
                                 ("Best with correlation", left[1], 1)):
            tab.get_by_role("button", name=words).click()
            best = of(tab, "q")[0]
            assert said(tab, "KL(q‖p)") == [gap] and (free or best[4] == 0)
            assert gap == pytest.approx(divergence(best, sight), abs=1e-3)
            found = minimize(                   # from there, nothing is much better
                lambda v: divergence([*v, *best[4 + free:]], sight), best[:4 + free],
                bounds=[(-2.5, 2.5)] * 2 + [(-4, 1)] * 2 + [(-.95, .95)] * free)
            assert gap == pytest.approx(found.fun, abs=1e-3), (i, words)
    keys(tab, "mean of z₁", "Home")
    stroke(tab, MAP, [(.5, .5), (.75, .25)])
    close(of(tab, "q")[0][:2], torch.tensor([1.5, 1.5]), .05)
    tab.get_by_label("seen, with noise:").select_option("0")        # a Gaussian
    precision = 1 + 1 / .3**2                   # mean field: 1/Λ_ii
    gap = math.log(precision / math.sqrt(precision**2 - (precision - 1)**2))
    assert said(tab, "the best diagonal q leaves", "the best q with correlation"
                ) == pytest.approx([gap, 0], abs=1e-3)


@marked()
def test_a_layer_is_moved_under_the_roofline(alone):
    tab = alone("roofline")
    for machine, numbers, pressed in ((0, 0, "ArrowRight"), (1, 1, "PageDown"),
                                      (1, 0, "End"), (0, 1, "Home")):
        tab.get_by_label("machine:").select_option(str(machine))
        tab.get_by_label("numbers:").select_option(str(numbers))
        batch = 2 ** int(keys(tab, "images in a batch", pressed))
        width = 2 ** int(keys(tab, "width of the layer", "ArrowRight"))
        size, name = (4, 2)[numbers], ("fp32", "bf16")[numbers]
        rate, bandwidth = of(tab, f"machine.{name}", "machine.bandwidth")
        cost = linear_cost(batch, width, width, size)
        want = [batch, width, arithmetic_intensity(cost), rate / bandwidth,
                attainable(cost, rate, bandwidth) / 1e12, rate / 1e12]
        got = said(tab, "batch", "width", f"{name}:", "ridge", "at most", "of")
        assert got == pytest.approx(want, abs=1e-3)
        held = "memory" if want[4] < want[5] else "arithmetic"
        assert tab.locator("output").inner_text().endswith(f"held by {held}")
        spoken = tab.get_by_label("images in a batch").get_attribute("aria-valuetext")
        assert spoken == f"{batch:,}"
        tab.set_viewport_size({"width": 390, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390


@marked()
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_parts_without_a_model(alone, mode):
    from axe_playwright_python.sync_playwright import Axe
    for name in BARE:
        tab = alone(name)
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.emulate_media(color_scheme=mode, reduced_motion="reduce")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390, name
        assert tab.locator("input[type=range]").count() >= 1
        found = [f"{name}: {v['id']}: {v['nodes'][0]['html'][:120]}"
                 for v in Axe().run(tab).response["violations"]
                 if v["impact"] in ("serious", "critical")]
        assert not found, found


@marked()
def test_a_served_part_fetches_no_program_unless_it_needs_one(part):
    tab = part("noise")                         # served, without a program
    assert not any(url.endswith(".json") for url in tab.asked)
    assert said(tab, "loss from the draws", "for log σ² from the draws")
    told = tab.evaluate("""() => {
      const host = document.createElement('div');
      host.dataset.part = 'plane';
      return vaeLive.mount(host).then(() => '', e => e.message);
    }""")
    assert told == "the part plane needs a data-program"


# ---------------------------------------------------------------- the page models

made = root / "nbs" / "assets" / "live"
NEEDS = dict(plane="plane plane_autoencoder", draw="draw", codes="codes",
             complete="complete", reduction="reduction_sum reduction_mean",
             threshold="threshold", traversals="beta_4",
             beta="beta_0_25 beta_1 beta_4 beta_10") | {"class": "class"}
PAGES = {part: [made / f"{name}.json" for name in names.split()]
         for part, names in NEEDS.items()}


def test_the_page_models_are_small_and_say_what_they_are():
    rows = json.loads((made / "protocol.json").read_text(encoding="utf-8"))
    files = {p.stem: p for p in made.glob("*.json")
             if p.stem not in ("protocol", "parts")}
    assert rows.keys() == files.keys()
    for name, row in rows.items():
        assert row["bytes"] == files[name].stat().st_size <= 300_000, name
        assert row["cpu_seconds"] <= 60 and row["threads"] == 1 and "seed" in row, name
        if "neg_elbo" not in row: continue
        assert abs(row["neg_elbo"]["rounded"] - row["neg_elbo"]["as_trained"]) < .5
        program = json.loads(files[name].read_text(encoding="utf-8"))
        assert {"name", "trained", "neg_elbo", "test"} <= program["about"].keys()
        assert max(row["settings"].get("hidden") or [0]) <= 128
    for name, of_page in PAGES.items():
        assert sum(p.stat().st_size for p in of_page) <= 500_000, name
    for together in (("draw", "reduction"), ("class", "complete")):   # of one lesson
        assert sum(p.stat().st_size for name in together
                   for p in PAGES[name]) <= 500_000, together


def test_each_part_without_a_model_has_a_still_picture():
    for name in BARE:
        with Image.open(made / f"{name}.png") as picture:
            assert picture.width == 640 and len(set(picture.convert("L").tobytes())) > 9
        assert (made / f"{name}.png").stat().st_size < 150_000


@pytest.mark.slow
@pytest.mark.processes
def test_a_page_model_is_made_by_the_tool(tmp_path):
    "With a few steps; the same command gives the same file."
    texts = []
    for k in range(2):
        subprocess.run([sys.executable, "tools/live.py", "plane", "--steps", "2",
                        "--data", "digits", "--out", tmp_path / str(k)], cwd=root,
                       check=True, capture_output=True, timeout=300)
        texts.append((tmp_path / str(k) / "plane.json").read_text(encoding="utf-8"))
        row = json.loads((tmp_path / str(k) / "protocol.json").read_text(
            encoding="utf-8"))["plane"]
        assert row["steps"] == 2 and row["data"] == "digits"
    assert texts[0] == texts[1] and "encoder" not in json.loads(texts[0])
