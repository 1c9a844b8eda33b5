"""Does a conditional VAE draw what it is asked for? Lesson 07's model of labels, beside
the ways that do less well.

    # writes bench/results/cvae_labels-DEVICE.json
    OMP_NUM_THREADS=2 python bench/cvae_labels.py
    # a fraction of the work: shows that it runs
    python bench/cvae_labels.py --quick

MNIST is looked for in `VAE_COURSE_DATA`."""
import argparse, time

import torch
from torch import nn

import common

judge_seed, per_label, swapped = 0, 500, 1000
targets = dict(agreement=0.97, variety=0.80)

# Lesson 07's model, and what differs from it in the others. `beta` is the weight of the
# KL at the beginning; it falls to 1 in a straight line until `until`.
settings = dict(latent_dim=10, hidden=[400], sees=["encoder", "decoder"], lr=5e-3,
                batch_size=128, epochs=4, beta=5.0, until=0.9)
ways = {"c to encoder and decoder, β from 5 to 1": ({}, (0, 1, 2)),
        "c to encoder and decoder, β = 1": (dict(beta=1.0), (0,)),
        "c to the decoder alone, β from 5 to 1": (dict(sees=["decoder"]), (0,)),
        "c to the decoder alone, β = 1": (dict(sees=["decoder"], beta=1.0), (0,)),
        "c joined to the input of both, β = 1": (dict(joined=True, beta=1.0), (0,)),
        "c joined to the decoder's input alone, β = 1": (
            dict(joined=True, sees=["decoder"], beta=1.0), (0,)),}

protocol = ("{data}: {images} training images, drawn black or white anew each time. "
            "Fully connected {hidden}, {latent_dim} latents, Adam at {lr:g} at most "
            "(warm-up and cosine), batches of {batch_size}, {epochs} epochs. Labels "
            "modulate the first layer of a part, or are joined to its input where it "
            "says so. Agreement: the share of {n:,} images, as many of each class, z "
            "from the prior at temperature 1, in which a classifier trained on the "
            "real images sees the label that was asked for. Variety: the mean distance "
            "of two of them of one class in the classifier's features, as a share of "
            "that of the real test images. Swap: the share of {swapped:,} test images, "
            "rebuilt with another label, in which the classifier sees the new label. "
            "−ELBO at β = 1 on the test images, black or white; `vae` is that of the "
            "same VAE without labels, β = 1.")


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
    return CVAE(encoder, decoder, Unconditional(StandardNormal(latent)), Bernoulli(),
                Labels(classes), shape, latent)


def one_run(way, seed, data, judge, quick):
    "Train one model, and measure what it draws."
    from vae_course.classifier import agreement, variety
    from vae_course.cvae import mlp_cvae
    from vae_course.data import Batches, binarized
    from vae_course.step import evaluate
    from vae_course.training import fit, linear
    chosen, train, test = (settings | ways[way][0],
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


def measure(quick=False):
    "The result of the bench, as written to the file."
    from vae_course.datasets import load
    data, device = load(), torch.device("cpu")
    shown = settings | dict(hidden=settings["hidden"][0],
                            epochs=1 if quick else settings["epochs"])
    words = protocol.format(data=data.name, images=f"{len(data.train):,}",
                            n=per_label * len(data.classes), swapped=swapped, **shown)
    result = common.facts(device, words, seeds=(0, 1, 2)) | dict(
        bench="cvae_labels", quick=quick, data=data.name, settings=settings,
        ways={way: changed for way, (changed, _) in ways.items()})
    judge, accuracy = judge_of(data, quick)
    print(f"classifier: {100 * accuracy:.2f} % of the real test images", flush=True)
    vae = without_condition(data, quick)
    print(f"a VAE without labels: -ELBO {vae:.2f}", flush=True)
    rows = []
    for way, (_, seeds) in ways.items():
        runs = [one_run(way, seed, data, judge, quick)
                for seed in seeds[:1 if quick else None]]
        rows.append(dict(
            way=way, **{name: common.summary([r[name] for r in runs])
                        for name in ("agreement", "variety", "swap", "test",
                                     "training_seconds", "cpu_seconds")}, runs=runs))
        print(
            f"{way:42}" + "".join(f"   {name} {rows[-1][name]['median']:.3f}"
                                  for name in ("agreement", "variety", "swap", "test"))
            + f"   {rows[-1]['cpu_seconds']['median']:.0f} s of CPU", flush=True)
    judged = not quick and data.name == "mnist"
    verdicts = [dict(what=name, **common.compare(rows[0][name]["min"], targets[name],
                                                 judged=judged)) for name in targets]
    return result | dict(classifier=accuracy, vae=vae, rows=rows, verdicts=verdicts,
                         load_average_after=common.load_average())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    folder = common.output_folder(args, args.quick)
    result = measure(args.quick)
    common.write(folder, f"cvae_labels-{result['slug']}", result)


if __name__ == "__main__":
    main()
