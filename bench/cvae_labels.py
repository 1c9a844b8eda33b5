"""Does a conditional VAE draw what it is asked for? Lesson 07's model of labels, beside
the ways that do less well.

    # writes bench/results/cvae_labels-DEVICE.json
    OMP_NUM_THREADS=2 python bench/cvae_labels.py
    # a fraction of the work: shows that it runs
    python bench/cvae_labels.py --quick
    # trains only what a stored file lacks, and writes it after each model
    OMP_NUM_THREADS=1 python bench/cvae_labels.py --add FILE

MNIST is looked for in `VAE_COURSE_DATA`."""
import argparse, time
from pathlib import Path

import torch
from torch import nn

import common

judge_seed, per_label, swapped = 0, 500, 1000
targets = dict(agreement=0.97, variety=0.80)

# Lesson 07's model, and what differs from it in the others. `beta` is the weight of the
# KL at the beginning; it falls to 1 in a straight line until `until`.
settings = dict(latent_dim=10, hidden=[400], sees=["encoder", "decoder"], lr=5e-3,
                batch_size=128, epochs=4, beta=5.0, until=0.9)
# `joined` gives the deviation of the label's weights at the start, as modulation
# has it; True leaves them as `nn.Linear` draws them.
seeds = 0, 1, 2
ways = {"c to encoder and decoder, β from 5 to 1": {},
        "c to encoder and decoder, β = 1": dict(beta=1.0),
        "c to encoder and decoder, β = 1, 16 epochs": dict(beta=1.0, epochs=16),
        "c to the decoder alone, β from 5 to 1": dict(sees=["decoder"]),
        "c to the decoder alone, β = 1": dict(sees=["decoder"], beta=1.0),
        "c joined to the input of both, β from 5 to 1": dict(joined=True),
        "c joined to the input of both, β = 1": dict(joined=True, beta=1.0),
        "c joined to the input of both, β = 1, 16 epochs": dict(joined=True, beta=1.0,
                                                                epochs=16),
        "c joined to the input of both, at the scale of modulation, β = 1": dict(
            joined=1.0, beta=1.0),
        "c joined to the decoder's input alone, β = 1": dict(
            joined=True, sees=["decoder"], beta=1.0)}
# what `--add` trains first; a row may have fewer seeds than the others
first = ("c joined to the input of both, β from 5 to 1",
         "c joined to the input of both, at the scale of modulation, β = 1",
         "c to encoder and decoder, β = 1", "c joined to the input of both, β = 1",
         "c to the decoder alone, β = 1", "c to the decoder alone, β from 5 to 1")

protocol = ("{data}: {images} training images, drawn black or white anew each time. "
            "Fully connected {hidden}, {latent_dim} latents, Adam at {lr:g} at most "
            "(warm-up and cosine), batches of {batch_size}, {epochs} epochs where a "
            "row does not say otherwise. Labels "
            "modulate the first layer of a part, or are joined to its input where it "
            "says so, with weights as `nn.Linear` draws them or, at the scale of "
            "modulation, from N(0, 1). Agreement: the share of {n:,} images, as many "
            "of each class, z from the prior at temperature 1, in which a classifier "
            "trained on the real images sees the label that was asked for. "
            "Variety: the mean distance "
            "of two of them of one class in the classifier's features, as a share of "
            "that of the real test images. Swap: the share of {swapped:,} test images, "
            "rebuilt with another label, in which the classifier sees the new label. "
            "−ELBO at β = 1 on the test images, black or white; `vae` is that of the "
            "same VAE without labels, β = 1. Each run names its commit and machine.")


def judge_of(data, quick):
    """The classifier of lesson 07, trained on real images, and its accuracy on the test
    images."""
    from vae_course.classifier import Classifier, agreement
    from vae_course.training import fit
    torch.manual_seed(judge_seed)
    judge = Classifier(data.train.data_shape, len(data.classes))
    fit(judge, data.train[:1000] if quick else data.train,
        epochs=1 if quick else {"mnist": 4, "digits": 25}[data.name], lr=3e-3,
        progress=False)
    return judge, agreement(judge, data.test.floats(), data.test.y)


def joined(chosen, shape, classes):
    """A `CVAE` with the label as further inputs of the first layer of what sees it, and
    no modulation."""
    from vae_course.cvae import CVAE, Concat, Labels, ReshapeOutput, Unconditional
    from vae_course.elbo import Bernoulli, mlp
    from vae_course.latent import StandardNormal
    d, latent, hidden = (torch.Size(shape).numel(), chosen["latent_dim"],
                         chosen["hidden"])
    told = "encoder" in chosen["sees"]
    encoder = (
        Concat(mlp(d + classes, *hidden, 2 * latent), nn.Flatten()) if told
        else Unconditional(nn.Sequential(nn.Flatten(), mlp(d, *hidden, 2 * latent))))
    decoder = ReshapeOutput(Concat(mlp(latent + classes, *reversed(hidden), d)), shape)
    if (scale := chosen.get("joined", True)) is not True:
        for part in (encoder, decoder.net):
            if isinstance(part, Concat):
                nn.init.normal_(part.net[0].weight[:, -classes:], std=scale)
    return CVAE(encoder, decoder, Unconditional(StandardNormal(latent)), Bernoulli(),
                Labels(classes), shape, latent)


def one_run(way, seed, data, judge, quick):
    "Train one model, and measure what it draws."
    from vae_course.classifier import agreement, variety
    from vae_course.cvae import mlp_cvae
    from vae_course.data import Batches, binarized
    from vae_course.step import evaluate
    from vae_course.training import fit, linear
    chosen, train, test = (settings | ways[way],
                           data.train[:1024] if quick else data.train, data.test)
    classes, shape = len(data.classes), data.train.data_shape
    torch.manual_seed(seed)
    model = joined(chosen, shape, classes) if chosen.get("joined") else mlp_cvae(
        shape, {"labels": classes}, chosen["latent_dim"], chosen["hidden"],
        sees=chosen["sees"])
    cpu = time.process_time()
    history = fit(model, train, epochs=1 if quick else chosen["epochs"],
                  batch_size=chosen["batch_size"], lr=chosen["lr"], binarize=True,
                  seed=seed, device="cpu", progress=False,
                  schedules={"beta": linear(chosen["beta"], 1, until=chosen["until"])})
    cpu = time.process_time() - cpu
    torch.manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_label)
    made = model.sample(len(labels), labels)
    x, y = test.floats()[:swapped], test.y[:swapped]
    new = (y + torch.randint(1, classes, (len(y),))) % classes
    return dict(
        way=way, seed=seed, agreement=agreement(judge, made, labels),
        variety=variety(judge, made, labels) / variety(judge, test.floats(), test.y),
        swap=agreement(judge, model.reconstruct(x, y, new), new),
        test=evaluate(model, Batches(binarized(test), 1000), seed=0)["neg_elbo"],
        training_seconds=sum(history["seconds"]), cpu_seconds=cpu,
        step_config=str(history.step_config))


def without_condition(data, quick):
    """−ELBO of a VAE of the same size that is told no label, in nats: what the label is
    worth."""
    from vae_course.data import Batches, binarized
    from vae_course.elbo import mlp_vae
    from vae_course.step import evaluate
    from vae_course.training import fit
    torch.manual_seed(0)
    model = mlp_vae(data.train.data_shape, settings["latent_dim"], settings["hidden"])
    fit(model, data.train[:1024] if quick else data.train,
        epochs=1 if quick else settings["epochs"], batch_size=settings["batch_size"],
        lr=settings["lr"], binarize=True, seed=0, device="cpu", progress=False)
    return evaluate(model, Batches(binarized(data.test), 1000), seed=0)["neg_elbo"]


def row_of(way, runs):
    "One row: what the seeds of one way gave."
    return dict(way=way, **{name: common.summary([r[name] for r in runs]) for name in (
        "agreement", "variety", "swap", "test", "training_seconds", "cpu_seconds")},
        runs=runs)


def measure(quick=False, old=None, limit=None, wrote=lambda result: None):
    """The result of the bench, as written to the file. Runs in `old`, a result with the
    same settings, are taken over; at most `limit` models are trained; `wrote` gets the
    result after each. Raises `SystemExit`."""
    from vae_course.datasets import load
    data, device = load(), torch.device("cpu")
    if old and (old["settings"], old["data"]) != (settings, data.name):
        raise SystemExit("the stored file has other settings: run without --add")
    shown = settings | dict(hidden=settings["hidden"][0],
                            epochs=1 if quick else settings["epochs"])
    words = protocol.format(data=data.name, images=f"{len(data.train):,}",
                            n=per_label * len(data.classes), swapped=swapped, **shown)
    result = common.facts(device, words, seeds=seeds) | dict(
        bench="cvae_labels", quick=quick, data=data.name, settings=settings, ways=ways)
    place = {name: result[name] for name in ("commit", "device")}
    if old:                         # its machine and its day; a new run names its own
        result |= {k: v for k, v in old.items() if k not in ("protocol", "ways")}
    judge, accuracy = judge_of(data, quick)
    print(f"classifier: {100 * accuracy:.2f} % of the real test images", flush=True)
    vae = old["vae"] if old else without_condition(data, quick)
    print(f"a VAE without labels: -ELBO {vae:.2f}", flush=True)
    runs = [{k: old[k] for k in place} | r for row in old["rows"]
            for r in row["runs"]] if old else []

    def so_far():
        rows = [row_of(way, mine) for way in ways
                if (mine := sorted((r for r in runs if r["way"] == way),
                                   key=lambda r: r["seed"]))]
        judged = not quick and data.name == "mnist"
        verdicts = [dict(what=name, **common.compare(
            rows[0][name]["min"], targets[name], judged=judged)) for name in targets]
        return result | dict(classifier=accuracy, vae=vae, rows=rows, verdicts=verdicts,
                             load_average_after=common.load_average())

    done = {(r["way"], r["seed"]) for r in runs}
    order = [*first, *(way for way in ways if way not in first)] if old else ways
    lacking = [(way, seed) for way in order for seed in seeds[:1 if quick else None]
               if (way, seed) not in done]
    for way, seed in lacking[:limit]:
        run = one_run(way, seed, data, judge, quick)
        runs.append(place | run)
        print(f"{way:65} seed {seed}" + "".join(
            f"   {name} {run[name]:.3f}"
            for name in ("agreement", "variety", "swap", "test"))
            + f"   {run['cpu_seconds']:.0f} s of CPU", flush=True)
        wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="FILE",
                        help="train only what this stored file lacks")
    parser.add_argument("--limit", type=int, help="with --add: at most so many models")
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    if args.add:
        measure(args.quick, common.read_result(args.add), args.limit,
                lambda result: common.write(args.add.parent, args.add.stem, result))
        return
    folder = common.output_folder(args, args.quick)
    result = measure(args.quick)
    common.write(folder, f"cvae_labels-{result['slug']}", result)


if __name__ == "__main__":
    main()
