"""The programs that the pages run: `make live` trains them and writes nbs/assets/live/.

Each is small, is trained on one thread from a fixed seed in about a minute or less, and
has its row in nbs/assets/live/protocol.json: settings, data, seed, steps, seconds of
CPU, versions, the day, −ELBO on test images as trained and as rounded, and bytes."""
import argparse, base64, datetime, json, math, platform, shutil, sys, time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import sklearn
import torch
from PIL import Image
from sklearn.manifold import TSNE

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root))
from vae_course.anomaly_detection import (      # noqa: E402
    AnomalyDetector)
from vae_course.checkpoint import write_atomic                          # noqa: E402
from vae_course.data import DataSet, Examples, as_floats                # noqa: E402
from vae_course.datasets import load                                    # noqa: E402
from vae_course.devices import seeded                                   # noqa: E402
from vae_course.elbo import VAE                                         # noqa: E402
from vae_course.generation import encode_point                          # noqa: E402
from vae_course.lines import load_names                                 # noqa: E402
from vae_course.live import facts_of                                    # noqa: E402
from vae_course.packing import (                                        # noqa: E402
    packed, packed_lines, rounded, rounding_cost)
from vae_course.semi_supervised import (                                # noqa: E402
    draw_labels, neighbour_graph, spread_labels)
from vae_course.step import evaluating                                  # noqa: E402
from vae_course.training import build, fit                              # noqa: E402

folder = root / "nbs" / "assets" / "live"
BOTH, DECODER = ("encoder", "decoder", "prior"), ("decoder", "prior")
MLP = dict(data_shape=[1, 28, 28], hidden=[128])
CONV = dict(data_shape=[1, 28, 28], hidden=None, widths=[16, 32], latent_dim=10)
CODES = dict(data_shape=[1, 28, 28], n_codes=64, dim=8, widths=[16, 32],
             prior="uniform")
HALF = dict(data_shape=[1, 28, 28], hidden=[88], latent_dim=8,
            sees=["decoder", "prior"],
            condition=dict(quadrants=["upper left", "upper right"]))

SMALL = dict(data_shape=[1, 28, 28], hidden=[36], latent_dim=8)

# name: (what it is, model, settings, parts, steps, examples of each class in it)
PROGRAMS: dict[str, tuple[str, str, dict[str, Any], tuple, int, int]] = {
    "plane": ("a VAE with two latents", "vae", MLP | dict(latent_dim=2), DECODER, 3000,
              0),
    "plane_autoencoder": ("an autoencoder with two latents", "autoencoder",
                          MLP | dict(latent_dim=2), DECODER, 3000, 0),
    "draw": ("a VAE with two latents", "vae", MLP | dict(latent_dim=2), BOTH, 3000, 1),
    **{f"reduction_{r}": (f"a small VAE, the {r} over its pixels", "vae",
                          SMALL | dict(reduction=r), BOTH, 5000, int(r == "sum"))
       for r in ("sum", "mean")},
    "class": ("a conditional VAE", "cvae", MLP | dict(latent_dim=8, hidden=[112]),
              BOTH, 2500, 1),
    "complete": ("a conditional VAE that is told the upper half", "cvae", HALF, DECODER,
                 9000, 1),
    "codes": ("a VQ-VAE of 64 codes", "vq_vae", CODES, BOTH, 1500, 1),
    **{f"beta_{b:g}".replace(".", "_"): (
        f"a VAE trained with β = {b:g}", "beta_vae", CONV | dict(beta=b), BOTH, 1500,
        int(b == 1)) for b in (0.25, 1.0, 4.0, 10.0)}}


def first_of_each(examples: Examples, n: int, classes: int = 10) -> Examples:
    "The first `n` examples of each class, in the order of the classes."
    rows = [(examples.y == k).nonzero().flatten()[:n] for k in range(classes)]
    return examples[torch.cat(rows)]


def shown(data: DataSet, n: int) -> dict[str, Any]:
    "Images that a page lets its reader take."
    if not n: return {}
    some = first_of_each(data.test, n)
    blob = base64.b64encode(some.x.contiguous().numpy().tobytes()).decode()
    return dict(classes=list(data.classes),
                examples=dict(images=blob, labels=some.y.tolist()))


class Averaged(VAE):
    "The mistake of lesson 03: its loss is a mean over the pixels, beside the whole KL."
    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        terms = super().losses(batch)
        mean = terms["reconstruction"] / math.prod(self.data_shape or ())
        return terms | dict(loss=mean + terms["kl"])


def takes_grey(name: str, settings: dict) -> bool:
    "Whether a program is trained on grey pixels: the others draw each as 0 or 1."
    told = settings.get("condition") or {}
    return name in ("vq_vae", "autoencoder") or "quadrants" in told


def trained(name: str, settings: dict, data: DataSet, steps: int, seed: int) -> Any:
    "The model, and the seconds of CPU that its training took."
    reduction = settings.get("reduction", "sum")
    with seeded(seed):
        model = build(name, **{k: v for k, v in settings.items() if k != "reduction"})
    if reduction == "mean": model.__class__ = Averaged
    epochs = -(-steps * 128 // len(data.train))
    start = time.process_time()
    fit(model, data.train, epochs=epochs, max_steps=steps, batch_size=128, seed=seed,
        progress=False, device="cpu",
        binarize=not takes_grey(name, settings))
    return model.eval(), time.process_time() - start


def one_program(name: str, data: DataSet, steps: int | None, seed: int) -> tuple:
    "`(program, its row of the protocol)`."
    what, kind, settings, parts, usual, n = PROGRAMS[name]
    model, seconds = trained(kind, settings, data, steps or usual, seed)
    test = data.test[:2000]
    binary = Examples((as_floats(test.x) > torch.rand(
        test.x.shape, generator=torch.Generator().manual_seed(seed))).float(), test.y)
    measured = test if takes_grey(kind, settings) else binary
    for weights in ("int8", "float16"):         # the smaller one, where it costs little
        before, after = rounding_cost(model, measured, weights, seed)
        if abs(after - before) < 0.4: break
    day = datetime.date.today().isoformat()
    about: dict[str, Any] = dict(name=what, trained=day, neg_elbo=round(after, 2),
                                 test=f"{len(test):,} test images of {data.name}")
    if kind == "autoencoder": about["measure"] = "reconstruction"
    if "quadrants" in (settings.get("condition") or {}):
        about["measure"] = "−ELBO of the other half"
    with evaluating(model):
        about |= facts_of(model, test)
        if getattr(model, "latent_dim", 0) == 2:     # how far a plane has to reach
            mu = encode_point(model, as_floats(test.x))
            about["span"] = max(3.0, round(mu.abs().quantile(0.98).item(), 1))
    about |= shown(data, n)
    if "reduction" in settings: about["reduction"] = settings["reduction"]
    if kind == "beta_vae":
        rate = sum(about["kl"])
        about |= dict(beta=settings["beta"], rate=round(rate, 3),
                      distortion=round(after - rate, 3))
    row = dict(model=kind, settings=settings, data=data.name, train=len(data.train),
               seed=seed, steps=steps or usual, batch_size=128,
               cpu_seconds=round(seconds, 1), threads=torch.get_num_threads(),
               versions=dict(torch=torch.__version__, python=platform.python_version()),
               machine=platform.machine(), trained=day, weights=weights,
               neg_elbo=dict(as_trained=round(before, 3), rounded=round(after, 3)),
               of=about["test"] + (", grey" if measured is test else
                                   ", each pixel drawn once as 0 or 1"))
    return packed(model, weights, parts, about), row


def scores(data: DataSet, steps: int | None, seed: int) -> tuple:
    "`(scores, row)`: a detector trained without twos, shown other digits and twos."
    def only(examples, keep): return examples[keep(examples.y).nonzero().flatten()]
    start, epochs = time.process_time(), 6 if steps is None else 1
    detector = AnomalyDetector(config=dict(latent_dim=8, hidden=[64]), epochs=epochs,
                               device="cpu", seed=seed)
    detector.fit(only(data.train, lambda y: y != 2)[:12000])
    seconds = time.process_time() - start
    both = [detector.anomaly_score(only(data.test, keep)[:400])
            for keep in (lambda y: y != 2, lambda y: y == 2)]
    normal, odd = ([round(float(v), 2) for v in part] for part in both)
    row = dict(model="detector", settings=dict(latent_dim=8, hidden=[64]),
               data=f"{data.name} without twos", seed=seed, epochs=epochs,
               cpu_seconds=round(seconds, 1), trained=datetime.date.today().isoformat(),
               threads=torch.get_num_threads(), score=detector.score_method)
    return dict(format=1, normal=normal, anomalous=odd, names=["other digits", "twos"],
                about=dict(name="a detector that saw no twos", trained=row["trained"]),
                threshold=round(float(detector.threshold_), 2)), row


def spread(data: DataSet, steps: int | None, seed: int) -> tuple:
    """`(codes, row)`: of test images, with their labels, and a flat picture of them,
    which is for the eye alone."""
    settings, steps = MLP | dict(latent_dim=16), steps or 3000
    model, seconds = trained("vae", settings, data, steps, seed)
    some, K = first_of_each(data.test, 36), len(data.classes)
    codes = encode_point(model, as_floats(some.x)).cpu().numpy().astype("<f2")
    flat = TSNE(2, random_state=seed).fit_transform(codes.astype("float32"))
    flat = 0.96 * flat / abs(flat).max()
    graph, right = neighbour_graph(codes), {}
    for n in (K, 5 * K):                        # labels, as many of each class
        draws = [draw_labels(some.y, n, K, draw).numpy() for draw in range(10)]
        shares = [spread_labels(graph, known, some.y[known], K) for known in draws]
        right[n] = round(sum(float((f.argmax(1) == some.y.numpy()).sum() - n)
                             for f in shares) / (10 * (len(some) - n)), 3)
    day = datetime.date.today().isoformat()
    row = dict(model="vae", settings=settings, data=data.name, train=len(data.train),
               seed=seed, steps=steps, batch_size=128, cpu_seconds=round(seconds, 1),
               threads=torch.get_num_threads(),
               versions=dict(torch=torch.__version__, sklearn=sklearn.__version__,
                             python=platform.python_version()),
               machine=platform.machine(), trained=day, right=right,
               of=f"the unlabelled of {len(some)} test images of {data.name}, spread "
                  "from so many labels over a graph of 10 neighbours, ten draws")
    return dict(format=1, latent_dim=16, labels=some.y.tolist(),
                codes=base64.b64encode(codes.tobytes()).decode(),
                flat=[[round(float(v), 3) for v in place] for place in flat],
                classes=list(data.classes), about=dict(
                    name=f"codes of {len(some)} test images of {data.name}, by a VAE "
                         "with 16 latents", trained=day)), row


def names(_: DataSet, steps: int | None, seed: int) -> tuple:
    "`(program, row)`: a VAE of first names; β is low, so that codes tell the name."
    data, beta, usual = load_names(), 0.2, 870
    settings = dict(alphabet=data.alphabet.letters, longest=data.longest, latent_dim=16,
                    width=96)
    with seeded(seed): model = build("text_vae", **settings)
    steps, start = steps or usual, time.process_time()
    fit(model, data.train, epochs=-(-steps * 256 // len(data.train)), max_steps=steps,
        batch_size=256, lr=1e-2, clip=5.0, seed=seed, schedules=dict(beta=beta),
        progress=False, device="cpu")
    model, seconds = model.eval(), time.process_time() - start
    model.beta.fill_(1.0)                       # −ELBO is measured as it is defined
    for weights in ("int8", "float16"):
        before, after = rounding_cost(model, data.test, weights, seed)
        if abs(after - before) < 0.1: break
    with torch.no_grad():                       # as the page reads and writes them
        again = rounded(model, weights).decode(
            rounded(model, weights).encode(data.test.x).mean).most_likely(1)
    lines = list(zip(data.lines(data.test), data.alphabet.decode(again)))
    same = round(sum(a == b for a, b in lines) / len(lines), 3)
    day = datetime.date.today().isoformat()
    about = dict(name=f"a VAE of {len(data.train):,} first names, trained with β = "
                      f"{beta}; {100 * same:.0f} % of unseen names come out unchanged",
                 trained=day, neg_elbo=round(after, 2),
                 test=f"{len(data.test):,} unseen names")
    row = dict(model="text_vae", settings=settings, data="names", seed=seed,
               train=len(data.train), steps=steps, batch_size=256, beta=beta,
               cpu_seconds=round(seconds, 1), threads=torch.get_num_threads(),
               versions=dict(torch=torch.__version__, python=platform.python_version(),
                             faker=metadata.version("faker")),
               machine=platform.machine(), trained=day, weights=weights, same=same,
               neg_elbo=dict(as_trained=round(before, 3), rounded=round(after, 3)),
               of=about["test"])
    return packed_lines(model, weights, about), row


def write(name: str, program: dict, row: dict, out: Path) -> None:
    "The program, and its row of the protocol."
    path, protocol = out / f"{name}.json", out / "protocol.json"
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(program, separators=(",", ":")) + "\n"
    write_atomic(path, text.encode("utf-8"))
    rows = json.loads(protocol.read_text(encoding="utf-8")) if protocol.exists() else {}
    rows[name] = row | dict(bytes=path.stat().st_size)
    write_atomic(protocol, (json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
                            ).encode("utf-8"))
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB, {row['cpu_seconds']} s of "
          f"CPU, {row.get('neg_elbo', '')}", flush=True)


def speed(seconds: float = 2.0) -> None:
    "Decodes a second in Chromium, on this machine as it is now."
    import os
    from playwright.sync_api import sync_playwright
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "MLP 20-128-784": ("vae", dict(latent_dim=20, hidden=[128])),
        "convolutions 16, 32 to 32 x 32 x 3": (
            "conv_vae", dict(data_shape=[3, 32, 32])),
        "convolutions 32, 64 to 32 x 32 x 3": (
            "conv_vae", dict(data_shape=[3, 32, 32], widths=[32, 64]))}
    script = (root / "nbs" / "assets" / "live.js").read_text(encoding="utf-8")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<script>" + script + "</script>")
        for words, (name, settings) in models.items():
            rate = page.evaluate("""([program, seconds]) => {
              const p = new vaeLive.Program(program);
              const z = vaeLive.randomOf(1).normals(p.width);
              for (let i = 0; i < 50; i++) p.decode(z);
              const start = performance.now();
              let n = 0;
              while (performance.now() - start < 1000 * seconds) { p.decode(z); n++; }
              return 1000 * n / (performance.now() - start);
            }""", [packed(build(name, **settings)), seconds])
            print(f"{words}: {rate:,.0f} decodes a second (load "
                  f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
        browser.close()


# part without a program: what is pressed before its still picture is taken
STILLS = dict(gaussian=None, noise="Fresh noise at each move", reliability=None,
              blur="Learn σ", posterior="Best diagonal q", roofline=None)


def stills(out: Path, names: list[str]) -> None:
    """The pictures that stand where a part cannot run, in light shades: of its canvas,
    where it needs no program, else of the whole part. Of all parts, or of some."""
    from playwright.sync_api import sync_playwright
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    script = (root / "nbs" / "assets" / "live.js").read_text(encoding="utf-8")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=dict(width=900, height=1000),
                                color_scheme="light")
        for name, pressed in STILLS.items():
            if names and name not in names: continue
            page.set_content(f"<div class=live data-part={name}></div>"
                             f"<script>{script}</script>")
            page.evaluate("vaeLive.mount(document.querySelector('.live'))")
            if pressed: page.get_by_role("button", name=pressed).click()
            page.wait_for_timeout(200)
            url = page.evaluate("document.querySelector('canvas').toDataURL()")
            place = out / f"{name}.png"
            place.write_bytes(base64.b64decode(url.partition(",")[2]))
            print(f"{place.name}: {place.stat().st_size / 1000:.0f} kB")
        page = browser.new_page(viewport=dict(width=776, height=1000),
                                color_scheme="light")
        parts = json.loads((folder / "parts.json").read_text(encoding="utf-8"))
        for name, part in parts.items():
            if not part["programs"] or names and name not in names: continue
            specs = [json.loads((folder / f"{n}.json").read_text(encoding="utf-8"))
                     for n in part["programs"]]
            page.set_content(f"<div class=live data-part={part['part']}></div>"
                             f"<script>{script}</script>")
            page.evaluate("specs => vaeLive.mount(document.querySelector('.live'), "
                          "specs)", specs)
            page.wait_for_timeout(500)
            place = out / f"{name}.png"
            page.locator(".live").screenshot(path=place)
            if place.stat().st_size > 150_000:
                with Image.open(place) as taken:
                    fewer = taken.quantize(256, Image.Quantize.FASTOCTREE)
                fewer.save(place, optimize=True)
            print(f"{place.name}: {place.stat().st_size / 1000:.0f} kB")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="some of them; all, when not given")
    parser.add_argument("--data", default="mnist", help="mnist, or digits without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="fewer, to try")
    parser.add_argument("--out", type=Path, default=folder)
    parser.add_argument("--speed", action="store_true",
                        help="train nothing: how many decodes a second a browser does")
    parser.add_argument("--stills", action="store_true",
                        help="train nothing: the still pictures of parts")
    given = parser.parse_args()
    if given.speed: return speed()
    if given.stills: return stills(given.out, given.names)
    others: dict[str, Callable] = dict(threshold=scores, spread=spread,
                                   names=names)
    known = [*PROGRAMS, *others]
    if odd := set(given.names) - set(known):
        parser.error(f"no program {', '.join(odd)}: there are {', '.join(known)}")
    torch.set_num_threads(1)
    data = load(given.data)
    for name in given.names or known:
        make: Callable = others.get(
            name, lambda *how, name=name: one_program(name, *how))
        program, row = make(data, given.steps, given.seed)
        write(name, program, row, given.out)


if __name__ == "__main__":
    main()
