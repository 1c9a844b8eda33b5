"""Pages of the models of lesson 16: other posteriors, other priors and two layers, in a
real browser, beside torch."""
import base64

import pytest
import torch
import torch.distributions as D
from PIL import Image

from test_live import (DEEP, MAP, MODELS, browser, close, deep, diagonal, digits,
                       drawn, drop, engine, latents, lively, marked, page, row_of,
                       small, state, stroke, tab)
from vae_course import live
from vae_course.anomaly_detection import AnomalyDetector
from vae_course.beyond_gaussian import FullGaussian
from vae_course.generation import encode_point
from vae_course.live import explore, facts_of
from vae_course.model import MixturePrior, Unsupported, center
from vae_course.packing import packed, rounded

fixtures = browser, engine, page, tab          # of test_live, for pytest to find here
LAYERS = dict(two_layer_vae=lambda: small("two_layer_vae"), ladder=MODELS["ladder"])
SOME = ["full, flow", "flow, vamp", "gaussian, mixture"]
UPPER, LOWER = 3, 4             # latents of the layers, in `SMALL`


def model_of(name): return lively({**MODELS, **LAYERS}[name]())


def as_codes(model, z):
    "What torch decodes for the rows of numbers that a page has."
    z = torch.tensor(z).float()
    return (z[..., :UPPER], z[..., UPPER:]) if name_of(model)[0] == "t" else z


def name_of(model): return model.config["name"]


def decoded(model, z):
    with torch.no_grad(): return rounded(model).decode(as_codes(model, [z])).mean[0]


def app(tab, words):
    return tab.evaluate(f"""() => {{
      const app = document.querySelector('[data-part], #app').live, p = app.program,
            plain = v => ArrayBuffer.isView(v) ? Array.from(v)
              : Array.isArray(v) ? v.map(plain) : v;
      return plain({words});
    }}""")


def gaussian(q): return diagonal(q) or isinstance(q, D.MultivariateNormal)


def image_agrees(tab, model, x):
    "The code, both terms, the reconstruction and the draws on the map."
    now, again = state(tab), rounded(model)
    noise = torch.tensor(app(tab, "vaeLive.noiseFor(p)")).float().view(-1, 1,
                                                                       latents(model))
    rings = torch.tensor(app(tab, "Array.from({length: 100}, (_, k) => "
                                  "vaeLive.randomOf(k + 1).normals(p.width))")).float()
    with torch.no_grad():
        q, prior = again.encode(x), again.prior()
        close(now["mu"], row_of(center(q)))
        close(now["z"], row_of(center(q)))
        close(now["reconstruction"], again.decode(center(q)).mean)
        close(now["mean"], again.decode(center(q)).mean)
        z = drawn(q, noise)
        cost = -again.decode(z).log_prob(x).mean()
        kl = (q.log_prob(z) - prior.log_prob(z)).mean()
        cloud = row_of(drawn(q, rings[:, None]))
    for key, want in dict(reconstruction=cost, kl=kl, negElbo=cost + kl).items():
        assert abs(now["terms"][key] - want) < 1e-3 + 1e-4 * abs(want), key
    shown = [f"{now['terms'][k]:.1f}" for k in ("reconstruction", "kl", "negElbo")]
    cells = [t.replace("−", "-") for t in tab.locator("table td").all_inner_texts()]
    assert cells == shown
    if gaussian(q): close(now["sigma"], q.stddev)
    else: close(app(tab, "app.cloud"), cloud)
    return q


@marked()
@pytest.mark.parametrize("name", [*DEEP, *LAYERS])
def test_a_slider_and_an_image_on_the_page_agree_with_torch(page, name):
    model = model_of(name)
    if name == "gaussian, normal": return           # a VAE, tested as such
    tab, data = page(model, digits().test[:60]), digits().test.floats()
    order = app(tab, "p.spec.about.order")
    before = state(tab)
    close(before["mean"], decoded(model, before["z"]))
    slider = tab.locator("input[type=range]").nth(1)
    slider.focus()
    slider.press("ArrowRight")
    now = state(tab)
    moved = [i for i in range(latents(model)) if now["z"][i] != before["z"][i]]
    assert order[1] in moved and (len(moved) == 1 or name in LAYERS)
    close(now["mean"], decoded(model, now["z"]))
    assert now["mean"] != before["mean"]
    tab.locator("button[aria-label^='Take example']").nth(5).click()
    q = image_agrees(tab, model, data[5:6])
    assert (app(tab, "app.cloud") is None) == gaussian(q)
    for row in state(tab)["samples"][:3] + state(tab)["between"][:3]:
        close(row["mean"], decoded(model, row["z"]))


@marked()
@pytest.mark.parametrize("name", [*DEEP, *LAYERS])
def test_latents_are_sorted_by_what_the_page_says(page, name):
    "By the KL where each latent has one, else by the variance of the mean code."
    model, test = model_of(name), digits().test[:60]
    tab = page(model, test)
    about, words = app(tab, "p.spec.about"), tab.locator("main").inner_text()
    if name == "gaussian, normal":
        assert "spread" not in about and "by their KL on test images" in words
        return
    with torch.no_grad():
        by = row_of(encode_point(model, test.floats())).var(0)
    close(about["spread"], by, 1e-3)
    assert "kl" not in about
    assert "nats" not in "".join(tab.locator(".live-slide").all_inner_texts())
    assert "by the variance of the mean code over test images" in words
    want = by.argsort(descending=True).tolist()
    if name in LAYERS: want = sorted(want, key=lambda i: i >= UPPER)
    assert about["order"] == want
    labels = tab.locator(".live-slide label").all_inner_texts()
    assert labels[0].endswith(f"variance {by[want[0]]:.2f}")
    posterior = name.split(",")[0]
    said = ("turned by the covariance" if posterior == "full" else "a hundred draws" if
            posterior == "flow" or name in LAYERS else "an ellipse of one and of two")
    assert said in words


@marked()
@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_below_follows_the_upper_one_until_it_is_moved(page, name):
    model = model_of(name)
    again = rounded(model)
    tab = page(model, digits().test[:60])
    labels = tab.locator(".live-slide label").all_inner_texts()
    assert [t.split()[0] for t in labels[:7]] == ["upper"] * UPPER + ["lower"] * LOWER
    order = app(tab, "p.spec.about.order")
    def follows():
        now = state(tab)
        with torch.no_grad():
            p = again.gaussian(again.down(torch.tensor([now["z"][:UPPER]]).float()))
        close(now["z"][UPPER:], p.mean)
        close(now["mean"], decoded(model, now["z"]))
        return now
    slider = tab.locator("input[type=range]")
    for k in (0, 2):
        old = state(tab)["z"]
        slider.nth(k).press("ArrowRight")
        new = follows()["z"]
        changed = [i for i in range(UPPER) if new[i] != old[i]]
        assert changed == [order[k]]
    tab.get_by_text("Upper layer to 0").click()
    old = state(tab)["z"]
    slider.nth(UPPER + 1).press("ArrowRight")
    now = state(tab)
    changed = [i for i in range(UPPER + LOWER) if now["z"][i] != old[i]]
    assert changed == [order[UPPER + 1]]
    close(now["mean"], decoded(model, now["z"]))
    stroke(tab, MAP, [(.5, .5), (.7, .3)])
    new = follows()["z"]
    assert new[order[0]] > 0.3 and new[order[1]] > 0.3
    tab.get_by_text("Upper layer to 0").click()
    assert follows()["z"][:UPPER] == [0] * UPPER
    tab.get_by_label("temperature").fill("0")
    with torch.no_grad(): p = again.gaussian(again.down(torch.zeros(1, UPPER)))
    close(state(tab)["samples"][0]["z"], torch.cat([torch.zeros(1, UPPER), p.mean], 1))
    codes = base64.b64decode(app(tab, "app.page.examples.codes"))
    with torch.no_grad(): z = row_of(encode_point(model, digits().test.floats()[:60]))
    close(torch.frombuffer(bytearray(codes), dtype=torch.float32), z)


@marked()
@pytest.mark.parametrize("name", [*DEEP, *LAYERS])
def test_draws_from_a_prior_are_those_that_it_scores(engine, name):
    "Mean, variance and log p of 3000 draws in the browser, beside many in torch."
    model = model_of(name)
    z, scores = map(torch.tensor, engine.evaluate("""program => {
      const p = new vaeLive.Program(program), random = vaeLive.randomOf(5);
      const z = Array.from({length: 3000}, () => p.drawLatent(random));
      return [z.map(v => Array.from(v)), z.map(v => p.logPrior(v))];
    }""", packed(model)))
    prior = rounded(model).prior()
    torch.manual_seed(0)
    with torch.no_grad():
        draws = prior.sample((30000,))
        want, many = prior.log_prob(draws), row_of(draws)
    def same(a, b):
        se = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 5 * se).all()
    same(z, many)
    middle = many.mean(0)
    same((z - middle).abs(), (many - middle).abs())
    same(z[:, 0] * z[:, 1], many[:, 0] * many[:, 1])
    same(scores, want)


@marked()
def test_the_ellipse_on_the_map_is_that_of_the_covariance(engine):
    model = lively(deep("full", "normal"))
    x = digits().test.floats()[:1]
    points = torch.tensor(engine.evaluate("""([program, x]) => {
      const p = new vaeLive.Program(program), q = p.encode(x), at = [];
      const nothing = () => 0, g = {lineTo: (a, b) => at.push([a, b]), arc: nothing,
        beginPath: nothing, stroke: nothing, fill: nothing};
      vaeLive.drawQ(g, v => v[0], v => v[1], p, q, [4, 1], "#000", null);
      return at;
    }""", [packed(model), x.flatten().tolist()]))
    with torch.no_grad(): q = rounded(model).encode(x)
    axes = [4, 1]
    off = points.view(2, -1, 2) - q.mean[0, axes]
    inverse = torch.linalg.inv(q.covariance_matrix[0][axes][:, axes])
    length = torch.einsum("kni,ij,knj->kn", off, inverse, off).sqrt()
    close(length[0], torch.ones(65), 5e-3)
    close(length[1], torch.full((65,), 2.), 5e-3)
    assert abs(q.covariance_matrix[0, 4, 1]) > 0.1


# ---------------------------------------------------------------- parts in a cell

@marked()
@pytest.mark.parametrize("name", [*SOME, *LAYERS])
def test_the_parts_of_a_cell_run_these_models(tab, tmp_path, name):
    model, test = model_of(name), digits().test[:60]
    def opened(*words):
        live.part(*words, data=test).write(tmp_path / "part.html")
        tab.goto((tmp_path / "part.html").as_uri())
        tab.wait_for_selector("[data-ready=yes]")
    def point_agrees():
        z, mean = app(tab, "app.z"), app(tab, "app.mean")
        close(mean, decoded(model, z))
        if name in LAYERS:
            again = rounded(model)
            with torch.no_grad():
                close(z[UPPER:], again.gaussian(again.down(
                    torch.tensor([z[:UPPER]]).float())).mean)
        return z
    opened("plane", model)
    tab.locator("canvas[aria-roledescription=plane]").press("ArrowRight")
    assert max(map(abs, point_agrees()[:5])) > 0
    opened("traversals", model)
    old = point_agrees()
    tab.locator("input[type=range]").first.press("ArrowRight")
    assert point_agrees() != old
    assert "variance" in tab.locator(".live-slide").first.inner_text()
    opened("draw", model)
    tab.locator("button[aria-label^='Take example']").nth(2).click()
    x, again = test.floats()[2:3], rounded(model)
    with torch.no_grad():
        close(app(tab, "app.q.mu"), row_of(center(again.encode(x))))
        close(app(tab, "app.reconstruction"), again.decode(
            center(again.encode(x))).mean)
    words = tab.locator("main").inner_text()
    assert ("a hundred draws" in words) == (name in LAYERS or name[:4] == "flow")
    tab.wait_for_function("() => document.querySelector('output').textContent"
                          ".includes('reconstruction')")


@marked()
@pytest.mark.parametrize("name", ["full, flow", "two_layer_vae"])
def test_the_part_of_betas_says_what_it_sorts_by(tab, tmp_path, name):
    model = model_of(name)
    live.part("beta", model, model, data=digits().test[:60]).write(tmp_path / "a.html")
    tab.goto((tmp_path / "a.html").as_uri())
    tab.wait_for_selector("[data-ready=yes]")
    words = tab.locator("main").inner_text()
    assert "most variance of the mean code" in words and "most KL" not in words
    assert "z from the prior" in words and "N(0, I)" not in words


# ---------------------------------------------------------------- detectors

@marked()
@pytest.mark.parametrize("method", ["reconstruction_error", "neg_elbo", "neg_log_px",
                                    "reconstruction_probability"])
@pytest.mark.parametrize("settings", [
    dict(posterior="flow", prior="vamp"), dict(prior="flow"), dict(posterior="full")],
    ids=lambda d: " ".join(d.values()))
def test_a_detector_of_these_models_scores_as_in_python_or_is_refused(
        page, method, settings, tmp_path):
    config = dict(latent_dim=4, hidden=[32], components=5, couplings=2, width=8)
    detector = AnomalyDetector(
        model="flexible_vae", config=config | settings, epochs=1, score_method=method,
        device="cpu", settings={} if "error" in method else dict(samples=7))
    detector.fit(digits().train.x[:600])
    if settings.get("posterior") == "full" and "error" not in method:
        with pytest.raises(Unsupported, match=f"{method} of a FlexibleVAE"):
            explore(detector, digits().test)
        return
    tab, x = page(detector, digits().test[:50]), digits().test.x[5]
    Image.fromarray(x[0].numpy()).save(tmp_path / "digit.png")
    drop(tab, tmp_path / "digit.png")
    tab.wait_for_function("document.querySelector('#app').live.score !== undefined")
    detector.model_ = rounded(detector.model_)
    score, found = detector.anomaly_score(x[None])[0], state(tab)["score"]
    assert abs(found - score) < 1e-3 * max(1, abs(score))


class Other(FullGaussian):
    def forward(self, out): return super().forward(2 * out)


@pytest.mark.parametrize("part, make, name", [
    ("posterior", lambda m: Other(5), "full, normal"),
    ("prior_net.base", lambda m: MixturePrior(5, 2), "gaussian, flow"),
    ("posterior.gaussian", lambda m: torch.nn.Identity(), "flow, normal"),
    ("top_prior", lambda m: MixturePrior(UPPER, 2), "two_layer_vae")])
def test_a_part_of_another_class_is_refused_by_name(part, make, name):
    model = model_of(name)
    new, (*where, last) = make(model), part.split(".")
    setattr(model.get_submodule(".".join(where)), last, new)
    with pytest.raises(Unsupported, match=f"a page cannot run a {type(new).__name__} "):
        packed(model)


def test_facts_of_a_model_with_a_closed_kl_are_as_before():
    facts = facts_of(small("vae"), digits().test[:50])
    assert facts.keys() == {"order", "kl"}
    assert facts_of(MODELS["mixture prior"](), digits().test[:50]).keys() == {
        "order", "spread"}
