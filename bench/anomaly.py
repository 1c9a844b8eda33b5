"""One-class anomaly detection, each class of MNIST and Fashion-MNIST in turn, with one
score and the same settings for all; beside it a digit left out, clothes against digits,
and training sets that are not clean.

    # every run that is not there yet; about half a minute each on one core
    OMP_NUM_THREADS=1 python bench/anomaly.py
    # what settings and score were chosen by: normal training images alone, no
    # anomaly, no test image
    OMP_NUM_THREADS=1 python bench/anomaly.py --choose
    # a fraction of the work: shows that it runs
    python bench/anomaly.py --quick

Each run leaves a file in `--runs` (default: `bench/runs/anomaly-…`), so a bench that
was cut short goes on where it stood. The summary is written when every run is there."""
import argparse, json, statistics, tempfile, time
from pathlib import Path

import torch

import common
from vae_course.anomaly_detection import (
    AnomalyDetector, Detection, Proportion, anomaly_scores, auroc, complexity,
    conformal_threshold, score_methods)
from vae_course.data import Examples, binarized, split
from vae_course.datasets import load
from vae_course.elbo import mlp_vae
from vae_course.acceleration import flush_denormals
from vae_course.devices import pick_device
from vae_course.training import fit

seeds, sets, shares = (0, 1, 2), ("mnist", "fashion_mnist"), (0.0, 0.01, 0.05, 0.1)

base = dict(config=dict(latent_dim=16, hidden=[400]), epochs=40, batch_size=128,
            lr=3e-3)
candidates = [base | dict(config=base["config"] | change) for change in (
    dict(), dict(latent_dim=8), dict(latent_dim=32), dict(dropout=0.2),
    dict(dropout=0.4), dict(likelihood="gaussian"), dict(likelihood="bernoulli"))]
candidates += [base | dict(config=base["config"] | change) for change in (
    dict(hidden=[400, 400]), dict(dropout=0.2, hidden=[400, 400]),
    dict(dropout=0.2, hidden=[400, 400, 400]))]
candidates += [
    base | dict(config=base["config"] | dict(dropout=0.2), epochs=20, batch_size=32)]
candidates += [base | dict(model="conv_vae", config=dict(latent_dim=16)) | change
               for change in (dict(), dict(epochs=15), dict(epochs=15, lr=6e-3),
                              dict(epochs=15, batch_size=32))]
candidates += [
    base | dict(model="conv_vae", config=dict(latent_dim=32), epochs=15, batch_size=32)]
tried_classes, tried_scores = ((0, 2, 4, 6, 8), ("reconstruction_error", "neg_elbo",
                                                 "neg_log_px", "complexity_corrected"))
# CPU-seconds of training a class, one thread: what a lesson can wait for
affordable = 30

# Written down before a test image was read, by what `--choose` found on normal training
# images: the highest mean AUROC among the affordable candidates.
settings = base | dict(score_method="reconstruction_error",
                       config=dict(latent_dim=16, hidden=[400, 400]))
plain_settings = base | dict(score_method="neg_elbo",
                             config=base["config"] | dict(likelihood="bernoulli"))
# lesson 10, case 2
left_out_settings = dict(config=dict(latent_dim=20), epochs=3, lr=5e-3,
                         false_alarm=0.01)
# lesson 10, case 3
far_settings = dict(latent_dim=20, epochs=3, lr=5e-3)

# Ruff et al. 2018
svdd = dict(mnist=[.980, .997, .917, .919, .949, .885, .983, .946, .939, .965],
            fashion_mnist=[None] * 10)
targets = dict(mnist=0.95, fashion_mnist=None)

protocol = ("Grey levels / 255. One-class: the 5,421 to 6,742 (Fashion-MNIST: 6,000) "
            "training images of a class, a fifth of them held out for the threshold at "
            "a false-alarm rate of 5 %, {settings}, Gaussian decoder with a learned σ; "
            "score: {score}, named before the test set was read. AUROC on all 10,000 "
            "test images, the nine other classes as anomalies, each class trained with "
            "{seeds} seeds; the table of all scores on the first {table} test images. "
            "Recipe and score chosen on MNIST by --choose: for classes {tried}, normal "
            "training images held out against the same images spoiled by hand (turned, "
            "upside down, two halves that do not fit, a patch moved, a patch erased), "
            "no other class and no test image: the highest mean among those that train "
            "in {affordable} CPU-seconds a class. Plain: {plain} (cross-entropy on "
            "grey pixels). Left out: lesson 10, case 2, {left_out}; far: case 3, "
            "{far}; 500 test images a side. Not clean: class 4, a share of the "
            "training images drawn from the other classes, threshold from held-out "
            "images of the same heap, 2,000 other test images as anomalies; "
            "recalibrated: the same model with a threshold from a random half of the "
            "test images of class 4, tested on the other half. Without a network: the "
            "shortness as PNG; PCA, 16 components, squared error; the distance to the "
            "nearest training image; PCA and neighbours see the training images of "
            "seed 0.")


def of_class(examples, k):
    return examples[examples.y == k]


def without_class(examples, k):
    return examples[examples.y != k]


def spoiled(x, seed=0):
    "Normal images `(N, 1, 28, 28)` made strange by hand: `{how: images}`."
    g = torch.Generator().manual_seed(seed)
    moved, erased = x.clone(), x.clone()
    for i in range(len(x)):
        a, b, c, d = torch.randint(4, 15, (4,), generator=g).tolist()
        moved[i, :, a:a + 10, b:b + 10] = x[i, :, c:c + 10, d:d + 10]
        # somewhere on the stroke
        place = int(torch.multinomial(x[i, 0].flatten() + 1e-6, 1, generator=g))
        row, column = (min(max(v - 4, 0), 19) for v in divmod(place, 28))
        erased[i, :, row:row + 9, column:column + 9] = 0
    halves = torch.cat([x[..., :14], x.roll(1, 0)[..., 14:].roll(6, 2)], 3)
    return dict(turned=x.rot90(1, (2, 3)).contiguous(), upside_down=x.flip(2),
                halves=halves, moved=moved, erased=erased)


def tried(candidate, k, quick):
    """For each score the AUROC of held-out normal training images against the same
    images spoiled."""
    train, held = split(of_class(load("mnist").train, k), 0.1, seed=0)
    chosen = candidate | (dict(epochs=1) if quick else {})
    cpu = time.process_time()
    detector = AnomalyDetector(**chosen | dict(score_method="reconstruction_error"),
                               calibration_fraction=0.1,
                               device="cpu").fit(train[:500] if quick else train)
    cpu = time.process_time() - cpu
    held = Examples(held.floats()[:200], held.y[:200])
    strange = [Examples(x, held.y) for x in spoiled(held.x).values()]
    allowed = [how for how in tried_scores
               if candidate["config"].get("likelihood") != "bernoulli"
                  or how in ("reconstruction_error", "neg_elbo")]
    return dict(training_cpu_seconds=cpu) | {
        how: statistics.mean(auroc(normal, anomaly_scores(detector.model_, s, how))
                             for s in strange)
        for how in allowed for normal in [anomaly_scores(detector.model_, held, how)]}


def one_class(name, k, seed, device, quick):
    "One detector of one class."
    data = load(name)
    train, test = of_class(data.train, k), data.test[:500] if quick else data.test
    chosen = settings | (dict(epochs=1) if quick else {})
    detector = AnomalyDetector(**chosen, seed=seed, device=device).fit(
        train[:500] if quick else train)
    found = torch.as_tensor(detector.anomaly_score(test))
    part = test[:100 if quick else 1000]
    every = {how: anomaly_scores(detector.model_, part, how) for how in score_methods}
    return dict(
        auroc=auroc(found[test.y == k], found[test.y != k]),
        detection=Proportion(found[test.y != k] > detector.threshold_).value,
        false_alarm=Proportion(found[test.y == k] > detector.threshold_).value,
        scores={how: auroc(v[part.y == k], v[part.y != k]) for how, v in every.items()},
        sigma=detector.model_.likelihood.sigma.item())


def plain(name, k, device, quick):
    "The plain VAE with −ELBO."
    data = load(name)
    train, test = of_class(data.train, k), data.test[:500] if quick else data.test
    detector = AnomalyDetector(**plain_settings | (dict(epochs=1) if quick else {}),
                               device=device).fit(train[:500] if quick else train)
    found = torch.as_tensor(detector.anomaly_score(test))
    return dict(auroc=auroc(found[test.y == k], found[test.y != k]))


def left_out(k, device, quick):
    "All digits but one are normal: what every score makes of that one."
    data = load("mnist")
    train = without_class(data.train, k)
    detector = AnomalyDetector(**left_out_settings | (dict(epochs=1) if quick else {}),
                               device=device).fit(train[:1000] if quick else train)
    n = 50 if quick else 500
    normal, anomalous = without_class(data.test, k)[:n], of_class(data.test, k)[:n]
    return dict(digit=k,
                scores={how: auroc(anomaly_scores(detector.model_, normal, how),
                                   anomaly_scores(detector.model_, anomalous, how))
                        for how in score_methods})


def far(likelihood, device, quick):
    "Trained on clothes, tested on digits."
    clothes, digits = load("fashion_mnist"), load("mnist")
    torch.manual_seed(0)
    model = mlp_vae(latent_dim=far_settings["latent_dim"], likelihood=likelihood)
    n, black_and_white = 50 if quick else 500, likelihood == "bernoulli"
    fit(model, clothes.train[:1000] if quick else clothes.train,
        epochs=1 if quick else far_settings["epochs"], lr=far_settings["lr"],
        binarize=black_and_white, device=device, progress=False)
    normal, anomalous = (binarized(e.test[:n]) if black_and_white else e.test[:n]
                         for e in (clothes, digits))
    words = dict(bernoulli="Bernoulli, pixels drawn as 0 or 1",
                 gaussian_learned="Gaussian with a learned σ, grey pixels")
    return dict(likelihood=words[likelihood], scores={how: auroc(
        anomaly_scores(model, normal, how), anomaly_scores(model, anomalous, how))
                                                      for how in score_methods})


def contaminated(share, seed, device, quick, k=4):
    "A training set of which a share belongs to other classes."
    data = load("mnist")
    mine, rest = of_class(data.train, k), without_class(data.train, k)
    n = round(len(mine) * share / (1 - share))
    some = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))[:n]
    train = Examples(torch.cat([mine.x, rest.x[some]]),
                     torch.cat([mine.y, rest.y[some]])) if n else mine
    if quick:
        train = train[torch.randperm(len(train),
                                     generator=torch.Generator().manual_seed(0))[:500]]
    detector = AnomalyDetector(**settings | (dict(epochs=1) if quick else {}),
                               seed=seed, device=device).fit(train)
    normal, anomalous = (
        detector.anomaly_score(of_class(data.test, k)),
        detector.anomaly_score(without_class(data.test, k)[:200 if quick else 2000]))
    one, other = torch.as_tensor(normal)[torch.randperm(
        len(normal), generator=torch.Generator().manual_seed(seed))].tensor_split(2)
    found, clean = (Detection(normal, anomalous, detector.threshold_),
                    conformal_threshold(one, detector.false_alarm))
    return dict(share=share, auroc=found.auroc, detection=found.detection.value,
                false_alarm=found.false_alarm.value,
                detection_recalibrated=Proportion(anomalous > clean).value,
                false_alarm_recalibrated=Proportion(other > clean).value)


def no_model(normal, anomalous):
    "AUROC of the shortness as PNG: what a score must beat before it deserves the name."
    return auroc(-complexity(normal.floats()), -complexity(anomalous.floats()))


def pca_error(train, x, components=16):
    "Squared error of `x` rebuilt from the principal components of `train`, `(N,)`."
    mean = train.mean(0)
    axes = torch.linalg.eigh((train - mean).T @ (train - mean))[1][:, -components:]
    return ((x - mean) - (x - mean) @ axes @ axes.T).square().sum(1)


def nearest_distance(train, x):
    "Distance from each row of `x` to the nearest row of `train`, `(N,)`."
    return torch.cat([torch.cdist(rows, train).amin(1) for rows in x.split(500)])


baselines = dict(pca=pca_error, nearest=nearest_distance)


def baseline_scores(train, *sets):
    "`{how: a row of scores for each set}`, in the space of the pixels."
    pixels = [e.floats().flatten(1) for e in (train, *sets)]
    return {how: [f(pixels[0], x) for x in pixels[1:]] for how, f in baselines.items()}


def without_training(parts, left, clothes, quick):
    """Put the scores without a network beside the others: the shortness as PNG, and PCA
    and nearest neighbours, which see the images that seed 0 trains on."""
    n, part = (50, 100) if quick else (500, 1000)
    for name, found in parts.items():
        data = load(name)
        test, y = (e[:500] if quick else e for e in (data.test, data.test.y))
        for row in found["rows"]:
            k = row["class"]
            train, _ = split(of_class(data.train, k), 0.2, seed=0)
            [scores] = zip(*baseline_scores(train[:500] if quick else train,
                                            test).values())
            for how, v in zip(baselines, scores):
                row[how] = auroc(v[y == k], v[y != k])
                first, of_k = v[:part], y[:part] == k
                row[f"{how}_first"] = auroc(first[of_k], first[~of_k])
            row["no_model_first"] = no_model(of_class(test[:part], k),
                                             without_class(test[:part], k))
        found["baselines"] = {how: statistics.mean(r[how] for r in found["rows"])
                              for how in baselines}
        for how in ("no_model", *baselines):
            found["scores"][how] = dict(mean=statistics.mean(
                r.pop(f"{how}_first") for r in found["rows"]))
    digits, tailor = load("mnist"), load("fashion_mnist")
    for row in left:
        k = row["digit"]
        train, _ = split(without_class(digits.train, k), 0.2, seed=0)
        normal, anomalous = (without_class(digits.test, k)[:n],
                             of_class(digits.test, k)[:n])
        row["scores"] |= dict(no_model=no_model(normal, anomalous)) | {
            how: auroc(*v) for how, v in baseline_scores(
                train[:1000] if quick else train, normal, anomalous).items()}
    for row in clothes:
        drawn = binarized if row["likelihood"].startswith("Bernoulli") else lambda e: e
        train = drawn(tailor.train[:1000] if quick else tailor.train)
        normal, anomalous = (drawn(e.test[:n]) for e in (tailor, digits))
        row["scores"] |= dict(no_model=no_model(normal, anomalous)) | {
            how: auroc(*v) for how, v in baseline_scores(
                train, normal, anomalous).items()}


def job_done(name, job, folder, wanted):
    "The result of a job: from its file, or made now."
    path = folder / f"{name}.json"
    if path.exists():
        found = common.read_result(path)
        if found["settings"] != json.loads(json.dumps(wanted)):
            raise SystemExit(f"{path} was made with other settings: give another "
                             "folder with --runs, or delete it")
        return found
    wall, cpu = time.perf_counter(), time.process_time()
    found = job()
    found |= dict(seconds=time.perf_counter() - wall,
                  cpu_seconds=time.process_time() - cpu, settings=wanted,
                  commit=common.commit())
    common.write(folder, name, found)
    return found


def choose(folder, quick):
    """What each candidate reached: mean AUROC over the classes tried, for each score;
    normal training images alone."""
    table = []
    for i, candidate in enumerate(candidates[:2] if quick else candidates):
        runs = [job_done(f"choose-{i}-{k}", lambda: tried(candidate, k, quick), folder,
                         dict(candidate=candidate, quick=quick))
                for k in tried_classes[:1 if quick else None]]
        table.append(dict(candidate=candidate, training_cpu_seconds=statistics.median(
                              r["training_cpu_seconds"] for r in runs),
                          **{how: statistics.mean(r[how] for r in runs)
                             for how in tried_scores if how in runs[0]}))
        print(candidate, {how: round(v, 4) for how, v in table[-1].items()
                          if how != "candidate"}, flush=True)
    return table


def rows_of(runs, name, which_seeds, classes):
    """One part of the result: a row for each class, the mean over classes for each
    seed, and the same for every score."""
    rows = [dict(
        {"class": k},
        auroc=common.summary([runs[name, k, s]["auroc"] for s in which_seeds]),
        detection=common.summary([runs[name, k, s]["detection"] for s in which_seeds]),
        false_alarm=common.summary([runs[name, k, s]["false_alarm"]
                                    for s in which_seeds]), published=svdd[name][k])
            for k in classes]
    mean = common.summary([statistics.mean(runs[name, k, s]["auroc"] for k in classes)
                           for s in which_seeds])
    every = {how: dict(mean=statistics.mean(
        runs[name, k, s]["scores"][how] for k in classes for s in which_seeds))
             for how in score_methods}
    return dict(rows=rows, mean=mean, scores=every,
                plain=statistics.mean(runs[name, k, "plain"]["auroc"] for k in classes),
                published=dict(mnist=0.948).get(name))


def measure(result, folder, device, quick):
    "Every run, and what they say together."
    which_seeds, classes = (seeds[:1], (0, 4)) if quick else (seeds, range(10))
    about = dict(detector=settings, quick=quick)
    runs = {}
    for name in sets:
        for s in which_seeds:
            for k in classes:
                runs[name, k, s] = job_done(
                    f"{name}-{k}-{s}", lambda: one_class(name, k, s, device, quick),
                    folder, about)
                print(f"{name} {k} seed {s}: {runs[name, k, s]['auroc']:.4f}",
                      flush=True)
        for k in classes:
            runs[name, k, "plain"] = job_done(
                f"{name}-{k}-plain", lambda: plain(name, k, device, quick), folder,
                dict(detector=plain_settings, quick=quick))
    parts = {name: rows_of(runs, name, which_seeds, classes) for name in sets}
    for name, part in parts.items():
        part["verdict"] = common.compare(part["mean"]["median"], targets[name],
                                         judged=not quick)
    without = [job_done(f"left-out-{k}", lambda: left_out(k, device, quick), folder,
                        about | left_out_settings)
               for k in (range(1, 2) if quick else range(10))]
    clothes = [job_done(f"far-{how}", lambda: far(how, device, quick), folder,
                        about | far_settings)
               for how in ("bernoulli", "gaussian_learned")]
    heaps = []
    for share in shares:
        found = [job_done(f"share-{share:g}-{s}",
                          lambda: contaminated(share, s, device, quick), folder, about)
                 for s in which_seeds]
        heaps.append(dict(share=share,
                          **{key: common.summary([f[key] for f in found]) for key in (
                              "auroc", "detection", "false_alarm",
                              "detection_recalibrated", "false_alarm_recalibrated")}))
    without_training(parts, without, clothes, quick)
    return result | dict(
        one_class=parts,
        rows=[dict(name=name, **part["mean"]) for name, part in parts.items()],
        verdicts=[part["verdict"] for part in parts.values()], one_left_out=without,
        far=clothes, contaminated=heaps, load_average_after=common.load_average())


def show(result):
    words = {True: "reached", False: "MISSED", None: "not judged"}
    for name, part in result["one_class"].items():
        v = part["verdict"]
        print(f"{name}: mean AUROC {part['mean']['median']:.4f} (seeds "
              f"{', '.join(f'{x:.4f}' for x in part['mean']['values'])}), plain "
              f"{part['plain']:.4f}; target: {v['target']}: {words[v['reached']]}")
        print("   " + ", ".join(f"{how} {m['mean']:.4f}"
                                for how, m in part["scores"].items()))


def main(words=None):
    parser = common.options(argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    parser.add_argument(
        "--choose", action="store_true",
        help="try the candidates on normal training images, print, and stop")
    parser.add_argument("--runs", help="folder of the single runs")
    args = parser.parse_args(words)
    device = pick_device(args.device)
    if device.type == "cpu":
        flush_denormals()
    name = f"anomaly-{common.slug(device)}"
    out = common.output_folder(args, args.quick)
    folder = (Path(args.runs) if args.runs
              else (Path(tempfile.mkdtemp(prefix="vae_course_runs_")) if args.quick
                    else common.root / "bench" / "runs") / name)
    folder.mkdir(parents=True, exist_ok=True)
    if args.choose:
        return choose(folder, args.quick)
    text = protocol.format(
        settings=", ".join(f"{k} {v}" for k, v in settings.items()
                           if k != "score_method"),
        score=settings["score_method"], seeds=len(seeds), table="1,000",
        tried=", ".join(map(str, tried_classes)), affordable=affordable,
        plain=", ".join(f"{k} {v}" for k, v in plain_settings.items()),
        left_out=", ".join(f"{k} {v}" for k, v in left_out_settings.items()),
        far=", ".join(f"{k} {v}" for k, v in far_settings.items()))
    result = common.facts(device, text, seeds=seeds, packages=("scikit-learn",)) | dict(
        bench="anomaly", quick=args.quick, settings=settings, affordable=affordable,
        choice=choose(folder, args.quick))
    result = measure(result, folder, str(device), args.quick)
    show(result)
    common.write(out, name, result)


if __name__ == "__main__":
    main()
