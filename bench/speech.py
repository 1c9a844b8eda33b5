"""What the codes of speech know, and how well they are said on request and in another
voice: lesson 13's model, trained longer, beside the ways that do less well.

    # writes bench/results/speech-DEVICE.json, after each model; run it again to go on
    OMP_NUM_THREADS=1 python bench/speech.py
    # a fraction of the work: shows that it runs
    python bench/speech.py --quick

The Free Spoken Digit Dataset is looked for in `VAE_COURSE_DATA`; without it, digits are
spoken by a made voice, and nothing is written to bench/results."""
import argparse, json, math, time

import torch
from torch.nn import functional as F

import common

# Lesson 13's model, and what differs from it in the others.
settings = dict(n_codes=128, dim=32, width=128, dropout=0.3, dead_code_threshold=0.05,
                jitter=0.0, epochs=40, prior_epochs=30, batch_size=64, lr=3e-3,
                temperature=1.0, floor=0.3, told=True, classifier_epochs=12)
ways = {"128 codes, jitter 0.1": dict(jitter=0.1),
        "128 codes, no jitter": {},
        "64 codes, jitter 0.1": dict(n_codes=64, jitter=0.1),
        "512 codes, jitter 0.1": dict(n_codes=512, jitter=0.1),
        "128 codes, jitter 0.1, floor 0.01": dict(jitter=0.1, floor=0.01)}
seeds = 0, 1, 2
per_pair = 20
targets = dict(made=0.90)
protocol = (
    "{data}: {images:,} training clips of 0.8 s, 300 test clips (takes 0 to 4, the "
    "same speakers as in training). The model of lesson 13, Adam at {lr:g} at most "
    "(warm-up and cosine), batches of {batch_size}, {epochs} epochs; its prior "
    "{prior_epochs} epochs more on its codes. `lost`: share of the variance of the "
    "test spectrograms. Bits per second of the test codes. `made`: the share of "
    "{made:,} samples, as many of each digit and speaker, codes at temperature "
    "{temperature:g}, in which a classifier hears the digit that was asked for, with "
    "its interval of 95 % (binomial); `made_speaker`: the same of the speaker. "
    "Variety: the mean distance of two of a digit in the classifier's features, as a "
    "share of that of real test clips. `target`: the mean probability of the target "
    "speaker when test clips are decoded as another; `kept`: the share in which the "
    "digit is still heard; `rebuilt_…`: the same two for plain reconstruction. The "
    "classifiers are trained on real training clips, as they are and smoothed once "
    "and twice over 3 × 3 cells; `real` is their accuracy on real test clips. Probes:"
    " SVM (RBF, C = 10) on code vectors and on code identities; without a speaker: "
    "six folds, the codes' model has heard all speakers and the probe five. The first"
    " way and the length of training were chosen by a first run of seed 0 with other "
    "settings, judged on test clips.")


def unit(x, floor):
    "Spectrograms in [0, 1], as a classifier takes them."
    low = math.log(floor)
    return ((x - low) / (5 - low)).clamp(0, 1)


def smooth(x): return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)


def judges_of(data, pairs, floor, epochs, seed=0):
    "Classifiers of digit and speaker, trained on real speech."
    from vae_course.classifier import Classifier
    from vae_course.data import Examples
    from vae_course.training import fit
    x = unit(pairs.train.x, floor)
    x, found = torch.cat([x, smooth(x), smooth(smooth(x))]), []
    for k, n in ((0, 10), (1, 6)):
        torch.manual_seed(seed)
        judge = Classifier(x.shape[1:], n)
        fit(judge, Examples(x, pairs.train.y[:, k].repeat(3)), epochs=epochs,
            batch_size=64, lr=2e-3, device="cpu", progress=False)
        found.append(judge)
    return found


def probes(views, y, names):
    "Accuracy of an SVM on each view: the official split, and a speaker left out."
    from sklearn.svm import SVC
    rows = {}
    (train, test), (y_train, y_test) = views, y
    for name in names:
        a, b = train[name], test[name]
        rows[name] = {what: SVC(C=10).fit(a, y_train[:, k]).score(b, y_test[:, k])
                      for k, what in enumerate(("digit", "speaker"))}
        both, labels = torch.cat([a, b]), torch.cat([y_train, y_test])
        left_out = []
        for who in range(6):
            theirs = labels[:, 1] == who
            svm = SVC(C=10).fit(both[~theirs], labels[~theirs, 0])
            left_out.append(svm.score(both[theirs], labels[theirs, 0]))
        rows[name]["left_out"] = left_out
    return rows


def one_run(way, seed, data, pairs, judges, quick):
    "Train one model, and measure it."
    from scipy.stats import binomtest
    from vae_course.classifier import agreement, variety
    from vae_course.data import Examples
    from vae_course.speech import (band_statistics, bits_per_second, code_identities,
                                   speech_vq_vae)
    from vae_course.training import fit
    from vae_course.vq_vae import dataset_codes, perplexity
    chosen, cpu = settings | ways[way], time.process_time()
    x, y, x_test, y_test = pairs.train.x, pairs.train.y, pairs.test.x, pairs.test.y
    torch.manual_seed(seed)
    model = speech_vq_vae(
        x.shape[1:], dict(rate=data.rate, floor=chosen["floor"]), **band_statistics(x),
        digits=10, speakers=6, **{k: chosen[k] for k in (
            "n_codes", "dim", "width", "dropout", "dead_code_threshold", "jitter")})
    how = dict(batch_size=chosen["batch_size"], lr=chosen["lr"], seed=seed,
               device="cpu", progress=False)
    fit(model, pairs.train, epochs=1 if quick else chosen["epochs"], **how)
    codes, test_codes = (dataset_codes(model, p) for p in (pairs.train, pairs.test))
    fit(model.prior_net, Examples(codes, y),
        epochs=1 if quick else chosen["prior_epochs"], **how)
    cpu = time.process_time() - cpu
    hears_digit, hears_speaker = judges
    def on_unit(t): return unit(t, chosen["floor"])
    with torch.no_grad():
        price = bits_per_second(model.prior(y_test).log_prob(test_codes), .8)
    counts = test_codes.flatten().bincount(minlength=chosen["n_codes"]).float()
    rebuilt = model.reconstruct(x_test, y_test)
    torch.manual_seed(seed)
    asked = torch.cartesian_prod(torch.arange(10), torch.arange(6)).repeat(per_pair, 1)
    made = model.sample(len(asked), asked, temperature=chosen["temperature"])
    said = agreement(hears_digit, on_unit(made), asked[:, 0])
    ci = binomtest(round(said * len(made)), len(made)).proportion_ci()
    target = (y_test[:, 1] + 1) % 6
    other = model.reconstruct(x_test, y_test, torch.stack([y_test[:, 0], target], 1))

    @torch.no_grad()
    def probability(t):
        p = hears_speaker(on_unit(t)).softmax(1)
        return p.gather(1, target[:, None]).mean().item()

    views = [{"code vectors": model.quantizer.look_up(c).flatten(1),
              "code identities": code_identities(c, chosen["n_codes"])}
             for c in (codes, test_codes)]
    return dict(
        way=way, seed=seed, cpu_seconds=cpu,
        lost=((rebuilt - x_test).square().mean() / x_test.var()).item(),
        bits=price, uniform_bits=25 * math.log2(chosen["n_codes"]),
        perplexity=perplexity(counts).item(),
        real=agreement(hears_digit, on_unit(x_test), y_test[:, 0]),
        real_speaker=agreement(hears_speaker, on_unit(x_test), y_test[:, 1]),
        made=said, made_interval=[ci.low, ci.high],
        made_speaker=agreement(hears_speaker, on_unit(made), asked[:, 1]),
        variety=variety(hears_digit, on_unit(made), asked[:, 0])
        / variety(hears_digit, on_unit(x_test), y_test[:, 0]),
        target=probability(other), kept=agreement(hears_digit, on_unit(other),
                                                  y_test[:, 0]),
        rebuilt_target=probability(rebuilt),
        rebuilt_kept=agreement(hears_digit, on_unit(rebuilt), y_test[:, 0]),
        probes=probes(views, (y, y_test), [] if quick or seed else list(views[0])))


def row_of(way, runs):
    "One row: what the seeds of one way gave."
    names = ("lost", "bits", "uniform_bits", "perplexity", "real", "made",
             "made_speaker", "variety", "target", "kept", "rebuilt_target",
             "rebuilt_kept", "cpu_seconds")
    return dict(way=way, runs=runs, **{name: common.summary([r[name] for r in runs]) | {
        "mean": sum(r[name] for r in runs) / len(runs)} for name in names})


def measure(quick, old, wrote):
    "Train what `old` lacks; `wrote` gets the result after each model."
    from vae_course.datasets import load
    from vae_course.speech import Sound, mfcc_features, spectrograms
    data = load("spoken_digits")
    words = protocol.format(data=data.name, images=len(data.train), made=60 * per_pair,
                            **settings)
    result = common.facts(torch.device("cpu"), words, seeds=seeds,
                          packages=("scipy", "scikit-learn")) | dict(
        bench="speech", quick=quick, data=data.name, settings=settings, ways=ways)
    if old and (old["settings"], old["ways"]) != (settings, ways):
        raise SystemExit("the stored file has other settings: move it away")
    runs = [r for row in old["rows"] for r in row["runs"]] if old else []
    features = [mfcc_features(part.x) for part in (data.train, data.test)]
    low, high = features[0].mean(0), features[0].std(0)
    views = [{"MFCC": (f - low) / high} for f in features]
    y = [torch.stack([p.y, p.x["speaker"]], 1) for p in (data.train, data.test)]
    result["mfcc"] = old["mfcc"] if old else probes(views, y, ["MFCC"])["MFCC"]
    print("MFCC:", result["mfcc"], flush=True)
    done, pairs, judges = {(r["way"], r["seed"]) for r in runs}, {}, {}
    for seed in seeds[:1 if quick else None]:
        for way in list(ways)[:2 if quick else None]:
            if (way, seed) in done:
                continue
            floor = (settings | ways[way])["floor"]
            if floor not in pairs:
                pairs[floor] = spectrograms(data, Sound(rate=data.rate, floor=floor),
                                            pairs=True)
                judges[floor] = judges_of(data, pairs[floor], floor,
                                          1 if quick else settings["classifier_epochs"])
            run = one_run(way, seed, data, pairs[floor], judges[floor], quick)
            runs.append(run | {k: result[k] for k in ("commit", "device")})
            print(f"{way:36} seed {seed}" + "".join(
                f"   {name} {run[name]:.3f}" for name in (
                    "lost", "bits", "real", "made", "variety", "target", "kept",
                    "rebuilt_kept")) + f"   {run['cpu_seconds']:.0f} s of CPU",
                flush=True)
            rows = [row_of(w, mine) for w in ways
                    if (mine := [r for r in runs if r["way"] == w])]
            verdicts = [dict(what=name, **common.compare(
                rows[0][name]["mean"], targets[name],
                judged=not quick and data.name == "spoken_digits"))
                for name in targets]
            wrote(result | dict(rows=rows, verdicts=verdicts,
                                load_average_after=common.load_average()))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    folder = common.output_folder(args, args.quick)
    name = f"speech-{common.slug(torch.device('cpu'))}"
    path = folder / f"{name}.json"
    old = (json.loads(path.read_text(encoding="utf-8"))
           if path.exists() and not args.quick else None)
    measure(args.quick, old, lambda result: common.write(folder, name, result))


if __name__ == "__main__":
    main()
