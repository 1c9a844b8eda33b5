"""More parts of the pages: what they compute in a real browser, beside torch."""
import base64, json, math, re, subprocess, sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from PIL import Image
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from test_live import (BOARD, box, browser, close, digits, keys, made, marked, of, part,
                       root, shown_examples, stroke, tab, vae)
from vae_course.generation import encode_point, interpolate, lerp, slerp
from vae_course.model import Unsupported
from vae_course.packing import packed, packed_lines, rounded
from vae_course.semi_supervised import draw_labels, neighbour_graph, spread_labels
from vae_course.training import build

fixtures = browser, part, tab, vae             # of test_live, for pytest to find here


def heard(tab, k, *words):
    "The numbers behind these words in the k-th read-out, once it has rested."
    tab.wait_for_timeout(250)
    text = tab.locator("output").nth(k).inner_text().replace("−", "-")
    found = [re.search(re.escape(w) + r" (-?\d+(\.\d+)?)", text) for w in words]
    assert all(found), f"{words} in {text!r}"
    return [float(number[1]) for number in found]


def touched(tab, selector, points):
    "A line drawn with a finger; points are shares of the square."
    session, b = tab.context.new_cdp_session(tab), box(tab, selector)
    session.send("Emulation.setTouchEmulationEnabled", dict(enabled=True))
    for i, (x, y) in enumerate(points):
        session.send("Input.dispatchTouchEvent", dict(
            type="touchMove" if i else "touchStart", touchPoints=[dict(
                x=b["x"] + x * b["width"], y=b["y"] + y * b["height"])]))
    session.send("Input.dispatchTouchEvent", dict(type="touchEnd", touchPoints=[]))
    session.send("Emulation.setTouchEmulationEnabled", dict(enabled=False))


FIRST, SECOND = (f"[aria-label='{n} drawing'] {BOARD}" for n in ("First", "Second"))


def walk_agrees(tab, model):
    "Codes, lengths and images of both ways, at t and in nine steps."
    again = rounded(model)
    images, ends, t, z, norms, means, strips, angle = of(
        tab, "images", "ends", "t", "z", "norms", "means", "strips", "angle")
    x = torch.tensor(images).view(2, 1, 1, 28, 28)
    with torch.no_grad():
        codes = torch.stack([encode_point(again, v)[0] for v in x])
        close(ends, codes)
        for k, way in enumerate((lerp, slerp)):
            want = way(*codes, steps=41)[round(40 * t)]
            close(z[k], want)
            assert norms[k] == pytest.approx(want.norm().item(), abs=1e-3)
            close(means[k], again.decode(want[None]).mean)
            close(strips[k], interpolate(again, *x, path=way))
    assert math.cos(angle) == pytest.approx(torch.cosine_similarity(
        *codes, dim=0).item(), abs=1e-4)
    *lengths, turned = heard(tab, 0, "t", "length of z", "straight,", "at the ends",
                             "and", "angle")
    assert lengths == pytest.approx([t, *norms, *codes.norm(dim=1).tolist()], abs=6e-3)
    assert turned == pytest.approx(math.degrees(angle), abs=.51)
    return x, z


@marked()
def test_one_walks_between_two_drawings_straight_and_round(part, vae):
    tab = part("walk", packed(vae, about=shown_examples()))
    x, z = walk_agrees(tab, vae)                # two of the examples
    close(x[0], digits().test.floats()[2])
    stroke(tab, FIRST, [(.2, .2), (.8, .2), (.4, .9)])
    drawn, moved = walk_agrees(tab, vae)
    assert (drawn[0] - x[0]).abs().max() > .5 and torch.equal(drawn[1], x[1])
    tab.set_viewport_size({"width": 390, "height": 844})
    touched(tab, SECOND, [(.5, y / 10) for y in range(1, 10)])
    drawn, moved = walk_agrees(tab, vae)
    assert (drawn[1] - x[1]).abs().max() > .5
    for pressed, at in ((["ArrowLeft"], .475), (["Home"], 0), (["End"], 1)):
        assert keys(tab, "t, from 0 to 1", *pressed) == at
        _, (straight, round_) = walk_agrees(tab, vae)
        same = (torch.tensor(straight) - torch.tensor(round_)).abs().max() < 1e-6
        assert same == (at in (0, 1))
    close(straight, torch.tensor(of(tab, "ends")[0][1]), 1e-6)
    keys(tab, "t, from 0 to 1", *["ArrowLeft"] * 10)
    for name in ("First", "Second"):            # one image twice: nowhere to go
        tab.locator(f"[aria-label='{name} drawing'] button[aria-label^='Take example']"
                    ).nth(1).click()
    _, z = walk_agrees(tab, vae)
    close(z[0], torch.tensor(of(tab, "ends")[0][0]), 1e-6)


@marked()
def test_both_ways_are_those_of_lesson_09(part, vae):
    tab = part("walk", packed(vae, about=shown_examples()))
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 20, 6, generator=g)
    b[0], b[1] = 3 * a[0], a[1] + 1e-5          # of one direction
    for name, way in (("lerp", lerp), ("slerp", slerp)):
        found = tab.evaluate(f"""([a, b]) => a.map((row, i) => [0, .25, .5, .75, 1].map(
            t => vaeLive.{name}(row, b[i], t)))""", [a.tolist(), b.tolist()])
        close(torch.tensor(found).transpose(0, 1), way(a, b, steps=5), 1e-4)
    with pytest.raises(ValueError, match="opposite directions"): slerp(a[0], -2 * a[0])
    found = tab.evaluate("([a, b]) => vaeLive.slerp(a, b, .5)",
                         [a[0].tolist(), (-2 * a[0]).tolist()])
    close(found, -a[0] / 2, 1e-5)               # no one way: straight
    low, high = of(tab, "band")[0]
    assert [low, high] == pytest.approx(stats.chi(4).ppf([.05, .95]), abs=2e-3)


@marked()
def test_a_temperature_makes_draws_alike_or_strange(part, vae):
    tab = part("walk", packed(vae, about=shown_examples()))
    (noise,), again, last = of(tab, "noise"), rounded(vae), 0
    for pressed in (["Home"], ["ArrowRight"] * 4, ["ArrowRight"] * 6, ["End"]):
        tau = keys(tab, "temperature τ", *pressed)
        draws, samples, spread = of(tab, "draws", "samples", "spread")
        z = tau * torch.tensor(noise).view(8, 4)
        close(draws, z, 1e-6)
        with torch.no_grad(): mean = again.decode(z).mean.flatten(1)
        close(samples, mean)
        want = (mean - mean.mean(0)).square().mean().sqrt().item()
        assert spread == pytest.approx(want, abs=1e-4)
        lengths = z.norm(dim=1)
        assert heard(tab, 1, "τ", "from", "to", "eight by") == pytest.approx(
            [tau, lengths.min().item(), lengths.max().item(), want], abs=6e-3)
        assert spread > last or tau > 1 or tau == 0 == spread
        last = spread
    tab.get_by_role("button", name="Other noise").click()
    other = of(tab, "noise")[0]
    assert other != noise and of(tab, "draws")[0][0] == [4 * v for v in other[:4]]
    assert torch.tensor(noise).std() == pytest.approx(1, abs=.5)


# ---------------------------------------------------------------- labels that spread

MAP_OF_CODES = "canvas[aria-roledescription='map of codes']"


def spread_agrees(tab, data, k=10, rounds=math.inf):
    "Shares of the classes, and what is right, as lesson 11 computes them."
    codes, y = codes_in(data)
    known, F, guess, near, right, near_right, reached = of(
        tab, "known", "F", "guess", "nearest", "right", "nearestRight", "reached")
    labels = y[known]
    classes, own = np.unique(labels, return_inverse=True)
    graph, rest = neighbour_graph(codes, k), np.setdiff1d(np.arange(len(y)), known)
    scale = sp.diags_array(1 / np.sqrt(graph.sum(1)))
    S, Y = (scale @ graph @ scale).toarray(), np.zeros((len(y), len(classes)))
    Y[known, own] = 1
    if rounds == math.inf: found = np.linalg.solve(np.eye(len(y)) - .99 * S, .01 * Y)
    else:
        found = Y
        for _ in range(rounds): found = .99 * S @ found + .01 * Y
    found = found / found.sum(0)
    came = found.sum(1) > 1e-12
    found[came] /= found[came].sum(1, keepdims=True)
    if rounds == math.inf and len(classes) > 1 and came.all():
        course = spread_labels(graph, known, own, len(classes))
        assert abs(found - course).max() < 1e-3
    F = np.array(F)
    assert abs(F[:, classes] - found * came[:, None]).max() < 1e-3
    assert np.delete(F, classes, 1).sum() == 0 and reached == came[rest].sum()
    guess, near = np.array(guess), np.array(near)
    named, (first, second) = F.argmax(1), np.sort(F, 1)[:, :-3:-1].T
    clear = came & ((first - second > 1e-3) | (len(classes) == 1))
    assert (guess == np.where(came, named, -1))[rest].all() and clear.mean() > .5 * (
        came.mean())
    assert (classes[found.argmax(1)] == guess)[np.intersect1d(rest, clear.nonzero())
                                               ].all()
    one = KNeighborsClassifier(1).fit(codes[known], labels).predict(codes)
    assert (one == near).all()
    assert right == pytest.approx((guess == y)[rest].mean(), abs=1e-9)
    assert near_right == pytest.approx((one == y)[rest].mean(), abs=1e-9)
    words = ["of the other", "spreading names", "the nearest label"]
    assert heard(tab, 0, *words) == pytest.approx(
        [len(rest), 100 * right, 100 * near_right], abs=.051)
    return known, right


def codes_in(data):
    codes = np.frombuffer(base64.b64decode(data["codes"]), "<f2").astype("float32")
    return codes.reshape(len(data["labels"]), -1), np.array(data["labels"])


@marked()
def test_labels_spread_over_a_map_of_codes(part):
    data = json.loads((made / "spread.json").read_text(encoding="utf-8"))
    _, y = codes_in(data)
    tab = part("spread", made / "spread.json")
    known, right = spread_agrees(tab, data)     # one of each class, to begin with
    assert sorted(y[known]) == list(range(10))
    press = lambda name: tab.get_by_role("button", name=name).click()
    press("Add ten at random")
    known, _ = spread_agrees(tab, data)
    assert len(set(known)) == 20
    for _ in range(3): press("Add one of each class")
    known, more = spread_agrees(tab, data)
    assert np.bincount(y[known]).min() >= 4 and len(set(known)) == 50 and more > right
    for pressed, k in ((["PageUp"], 12), (["Home"], 1), (["ArrowRight"] * 3, 4)):
        assert keys(tab, "neighbours k", *pressed) == k
        spread_agrees(tab, data, k)
    for pressed, rounds in ((["Home"], 0), (["ArrowRight"], 1), (["PageUp"], 2),
                            (["End", "ArrowLeft"], 64)):
        keys(tab, "rounds", *pressed)
        spread_agrees(tab, data, 4, rounds)


@marked()
def test_a_label_is_revealed_by_pointer_finger_and_keys(part):
    data = json.loads((made / "spread.json").read_text(encoding="utf-8"))
    codes, y = codes_in(data)
    tab = part("spread", made / "spread.json")
    tab.get_by_role("button", name="Forget them").click()
    assert of(tab, "known", "right") == [[], 0]
    tab.wait_for_selector("text=no label is known")
    flat = np.array(data["flat"])
    b = box(tab, MAP_OF_CODES)

    def at(i): return tuple(b[s] + b[n] * (.5 + w * flat[i][d] * 310 / 640) for s, n, w,
                            d in (("x", "width", 1, 0), ("y", "height", -1, 1)))
    tab.mouse.click(*at(7))
    known, _ = spread_agrees(tab, data)
    assert known == [7] and (np.array(of(tab, "guess")[0]) == y[7]).all()
    tab.mouse.click(*at(7))                     # once more hides it
    assert of(tab, "known")[0] == []
    session = tab.context.new_cdp_session(tab)
    session.send("Emulation.setTouchEmulationEnabled", dict(enabled=True))
    for kind, points in (("touchStart", [dict(zip("xy", at(100)))]), ("touchEnd", [])):
        session.send("Input.dispatchTouchEvent", dict(type=kind, touchPoints=points))
    tab.wait_for_function("document.querySelector('.live').live.known.length")
    assert spread_agrees(tab, data)[0] == [100]
    session.send("Emulation.setTouchEmulationEnabled", dict(enabled=False))
    tab.locator(MAP_OF_CODES).focus()
    seen = 0
    for key, axis, way in (("ArrowRight", 0, 1), ("ArrowUp", 1, 1),
                           ("ArrowLeft", 0, -1), ("ArrowDown", 1, -1)):
        before = of(tab, "at")[0]
        tab.keyboard.press(key)
        after = of(tab, "at")[0]
        if after == before: continue            # nothing lies that way
        assert way * (flat[after] - flat[before])[axis] > 0
        guess, share, known = of(tab, f"guess.{after}", f"F.{after}", "known")
        told = ("dot", "its label is") if after in known else (
            "dot", "spreading says", "with share")
        assert heard(tab, 1, *told) == pytest.approx(
            [after + 1, guess, max(share)][:len(told)], abs=6e-3)
        tab.keyboard.press("Enter")             # reveals, or hides again
        now = of(tab, "known")[0]
        assert set(now) == set(known) ^ {after}
        if after in now:
            spread_agrees(tab, data)
            assert heard(tab, 1, "its label is") == [y[after]]
            seen += 1
    assert seen >= 2


def test_codes_that_labels_spread_over_are_small_and_told():
    data = json.loads((made / "spread.json").read_text(encoding="utf-8"))
    codes, y = codes_in(data)
    assert (made / "spread.json").stat().st_size <= 40_000
    assert codes.shape == (360, 16) and (np.bincount(y) == 36).all()
    row = json.loads((made / "protocol.json").read_text(encoding="utf-8"))["spread"]
    graph = neighbour_graph(codes)
    for n, told in row["right"].items():
        draws = [draw_labels(torch.tensor(y), int(n), 10, d).numpy() for d in range(10)]
        right = [(spread_labels(graph, r, y[r], 10).argmax(1) == y)[
            np.setdiff1d(np.arange(360), r)].mean() for r in draws]
        assert told == pytest.approx(np.mean(right), abs=.01)


# ---------------------------------------------------------------- names between two

ALPHABET = "abcdefghijké"


def text_model(**settings):
    "A small one whose weights are as large as trained ones, so that it writes letters."
    torch.manual_seed(0)
    model = build("text_vae", **dict(alphabet=ALPHABET, longest=9, latent_dim=4,
                                     width=20, embedding=6) | settings).eval()
    with torch.no_grad():
        for p in model.parameters(): p.mul_(3)
    return model


def names_agree(tab, again, t):
    "Codes, logits and the lines written, with the rounded weights."
    lines, ends, mu, logvar, z, way, made, logits, tokens, log_p, between = of(
        tab, "lines", "ends", "q.0.mu", "q.0.logvar", "z", "way", "made.line",
        "made.logits", "made.tokens", "made.logP", "between")
    with torch.no_grad():
        q = again.encode(again.alphabet.encode(lines))
        close(ends, q.mean)
        close(mu, q.mean[0])
        close(logvar, q.variance.log()[0])
        path = (slerp, lerp)[way]
        want = path(*q.mean, steps=41)[round(40 * t)]
        close(z, want)
        p = again.decode(torch.tensor(z)[None])
        here = torch.tensor([tokens]), torch.tensor([len(tokens)])
        close(logits, p.logits(here[0])[0, :len(logits)])
        assert len(logits) == min(len(tokens) + 1, again.decoder.longest)
        assert log_p == pytest.approx(p.log_prob(here).item(), abs=1e-3)
        assert [made] == again.alphabet.decode(p.most_likely(1))
        nine = again.decode(path(*q.mean, steps=9)).most_likely(1)
        assert between == again.alphabet.decode(nine)
    assert tab.locator("[aria-label='Nine names on the way'] button").all_inner_texts(
        ) == [line or "(nothing)" for line in between]
    assert heard(tab, 0, "t", "log p", "length of z") == pytest.approx(
        [t, log_p, want.norm().item()], abs=6e-3)
    return lines, between, logvar


@marked()
@pytest.mark.parametrize("kind, settings", [
    ("float16", {}), ("int8", {}), ("float16", dict(every_step=False))])
def test_one_walks_from_one_name_to_another(part, kind, settings):
    model = text_model(**settings)
    again = rounded(model, kind)
    tab = part("names", packed_lines(model, kind))      # its fields hold other letters
    assert tab.get_by_text("the model was shown no").count() == 1
    first, second = (tab.get_by_label(f"the {n} name") for n in ("first", "second"))
    first.fill("abea")
    second.click()
    tab.keyboard.press("Control+A")
    tab.keyboard.type("Jihgé")
    lines, between, logvar = names_agree(tab, again, .5)
    assert lines == ["abea", "jihgé"] and max(map(abs, logvar)) > .3
    assert len({*between}) > 2 and max(map(len, between)) > 1
    for pressed, at in ((["ArrowRight"], .525), (["PageDown"], None), (["Home"], 0),
                        (["End"], 1)):
        t = keys(tab, "t, from 0 to 1", *pressed)
        assert at is None or t == at
        names_agree(tab, again, t)
    tab.locator("[aria-label='Nine names on the way'] button").nth(3).click()
    names_agree(tab, again, .375)
    assert tab.locator("button[aria-pressed=true]").count() == 1
    tab.get_by_label("way:").select_option("1")
    names_agree(tab, again, .375)
    for typed, said in (("axe", "the model was shown no “x”"), ("", "type a name"),
                        ("abcdeabcde", "at most 9 letters")):
        first.fill(typed)
        tab.wait_for_selector(f"output:has-text('{said}')")
        assert of(tab, "lines")[0] == lines
        assert first.get_attribute("aria-invalid") == "true"
    first.fill("bad")
    assert names_agree(tab, again, .375)[0] == ["bad", "jihgé"]


@marked()
def test_the_comparison_of_names_notices_a_weight_that_is_off(part):
    model = text_model()
    tab = part("names", packed_lines(model))
    for n in ("first", "second"): tab.get_by_label(f"the {n} name").fill("bad")
    names_agree(tab, rounded(model), .5)
    with torch.no_grad(): model.decoder.gru.gru.bias_hh_l0[-1] += .05
    with pytest.raises(AssertionError): names_agree(tab, rounded(model), .5)


def test_lines_that_a_page_cannot_write_are_refused_by_name():
    for words, make in {
            "got a VAE": lambda: build("vae"),
            "TextVAE with latents": lambda: text_model(latent_dim=0),
            "the condition Labels": lambda: text_model(languages=3),
            "NormedMean": lambda: text_model(mean_norm=.9),
            "the layer LSTM": lambda: with_cell(nn.LSTM(10, 20)),
            "GRU with bidirectional=True": lambda: with_cell(
                nn.GRU(10, 20, bidirectional=True))}.items():
        with pytest.raises(Unsupported, match=words): packed_lines(make())
    with pytest.raises(ValueError, match="float16, int8"):
        packed_lines(text_model(), "int4")
    program = packed_lines(text_model())
    assert json.loads(json.dumps(program)) == program


def with_cell(cell):
    model = text_model()
    model.decoder.gru.gru = cell
    return model


# ---------------------------------------------------------------- all of these parts

PAGES = dict(walk="beta_1", spread="spread", names="names")


@marked()
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_finds_nothing_serious_in_these_parts(part, mode):
    from axe_playwright_python.sync_playwright import Axe
    for name, program in PAGES.items():
        tab = part(name, made / f"{program}.json")
        for width in (390, 760):
            tab.set_viewport_size({"width": width, "height": 844})
            tab.emulate_media(color_scheme=mode, reduced_motion="reduce")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
            found = [f"{name}: {v['id']}: {v['nodes'][0]['html'][:120]}"
                     for v in Axe().run(tab).response["violations"]
                     if v["impact"] in ("serious", "critical")]
            assert not found, found


def test_each_of_these_parts_has_a_still_picture():
    for name in PAGES:
        with Image.open(made / f"{name}.png") as picture:
            assert picture.width >= 640 and len(set(picture.convert("L").tobytes())) > 9
        assert (made / f"{name}.png").stat().st_size < 150_000


@pytest.mark.slow
@pytest.mark.processes
def test_codes_and_names_are_made_by_the_tool(tmp_path):
    "With a few steps; the same command gives the same files."
    texts = []
    for k in range(2):
        subprocess.run([sys.executable, "tools/live.py", "spread", "names", "--steps",
                        "2", "--data", "digits", "--out", tmp_path / str(k)], cwd=root,
                       check=True, capture_output=True, timeout=300)
        texts.append([(tmp_path / str(k) / f"{name}.json").read_text(encoding="utf-8")
                      for name in ("spread", "names")])
        rows = json.loads((tmp_path / str(k) / "protocol.json").read_text(
            encoding="utf-8"))
        assert [rows[name]["steps"] for name in ("spread", "names")] == [2, 2]
        assert rows["spread"]["data"] == "digits" and rows["names"]["data"] == "names"
    assert texts[0] == texts[1]
