"""Structured prediction on MNIST quadrants: a conditional VAE beside a plain network,
as in Pyro's tutorial.

    # writes bench/results/cvae_quadrants-DEVICE.json
    OMP_NUM_THREADS=2 python bench/cvae_quadrants.py
    # the same on a GPU
    python bench/cvae_quadrants.py --device cuda
    # one way to show c, one quadrant seen, held-out images only: how the settings
    # were chosen
    python bench/cvae_quadrants.py --choose prior --epochs 8
    # a fraction of the work: shows that it runs
    python bench/cvae_quadrants.py --quick

It may be interrupted: finished runs are kept in bench/runs, the one in progress in a
checkpoint, and the same command goes on with them. MNIST is looked for in
`VAE_COURSE_DATA`."""
import argparse, math, tempfile, time
from pathlib import Path

import torch
import torch.nn.functional as F

import common
from vae_course.devices import synchronize
from vae_course.step import Trainable

seen = {1: ["lower left"], 2: ["lower left", "upper left"],
        3: ["lower left", "upper left", "upper right"]}
# Pyro's tutorial
published = {"plain": {1: 100.4, 2: 61.9, 3: 25.4}, "cvae": {1: 71.8, 2: 51.0, 3: 24.2}}
seeds, split_seed, test_seed, particles = (0,), 0, 2026, 10
settings = dict(latent_dim=200, hidden=[500, 500], sees=["decoder", "prior"], lr=1e-3,
                batch_size=128, epochs=dict(cvae=12, plain=8), patience=5,
                validation_size=5000)

# Which parts are shown c beside their own input was chosen on the held-out images, with
# one quadrant seen and 8 epochs: the test images had no say in it.
# The encoder has the whole image, c with it; Pyro's model is "prior": there x reaches
# the decoder through the prior and z alone.
ways = {"prior": ["prior"], "encoder and decoder": ["encoder", "decoder"],
        "decoder": ["decoder"], "decoder and prior": ["decoder", "prior"]}

# What lesson 07 trains before the reader's eyes, and compares with its row here: one
# quadrant seen, all 60,000 images, no images held out.
short_seeds, short = ((0, 1, 2),
                      dict(latent_dim=20, hidden=[400], sees=["decoder", "prior"],
                           lr=3e-3, batch_size=128, epochs=3))

protocol = ("{data}, grey pixels with cross-entropy (no log p(x): it ranks models of "
            "this table only), {images} training images, {validation_size} held out of "
            "the 60,000 for stopping (patience {patience}, back to the best weights), "
            "{tested} test images read once, at the end. Fully connected {hidden}, "
            "{latent_dim} latents, Adam at {lr:g} at most (warm-up and cosine), "
            "batches of {batch_size}, {epochs} epochs at most. Only unseen pixels "
            "count. CVAE: the mean of {particles} single-sample −ELBOs, each with "
            "closed-form KL, c shown to {sees} (the way best on held-out images after "
            "8 epochs with one quadrant seen); plain network: its cross-entropy. Seen: "
            "1 lower left, 2 left half, 3 all but lower right. One seed. Seconds on "
            "the wall are those of a machine that had other work: the seconds of CPU "
            "beside them say more. Pyro's tutorial, whose figures stand beside, holds "
            "the rate, stopped on the test images, so that its figures are optimistic, "
            "and fills the unseen pixels of the prior's input with the plain network's "
            "guess, which is left out here. Short: lesson 07's model, {short}.")


class Plain(Trainable):
    "The plain network: every unseen pixel on its own, from the seen ones."
    def __init__(self, condition, data_shape, hidden):
        super().__init__()
        from vae_course.elbo import mlp
        self.condition, self.data_shape = condition, tuple(data_shape)
        self.net = mlp(condition.width, *hidden, math.prod(data_shape))

    def losses(self, batch):
        x, _ = batch
        logits = self.net(self.condition(x)).float().unflatten(-1, self.data_shape)
        each = (F.binary_cross_entropy_with_logits(logits, x, reduction="none")
                * self.condition.unseen)
        return dict(loss=each.flatten(1).sum(1).mean())


def load_images(quick=False):
    "`(name, train, held out, test, train with held out)`."
    from vae_course.data import split
    from vae_course.datasets import load
    data = load()
    train, held = split(data.train, settings["validation_size"] / len(data.train)
                                    if len(data.train) > 10_000 else 0.1,
                        seed=split_seed)
    return ((data.name, train[:1024], held[:500], data.test[:500], data.train[:1024])
            if quick else (data.name, train, held, data.test, data.train))


def build(kind, quadrants, shape, chosen):
    "The model of `kind` (`plain` or `cvae`) that is shown so many quadrants."
    from vae_course.cvae import Quadrants, mlp_cvae
    if kind == "plain":
        return Plain(Quadrants(seen[quadrants], shape), shape, chosen["hidden"])
    return mlp_cvae(shape, {"quadrants": seen[quadrants]}, chosen["latent_dim"],
                    chosen["hidden"], sees=chosen["sees"])


def trained(model, train, chosen, epochs, seed, device, **more):
    """`(history, seconds on the wall, seconds of CPU)` of a training at a rate that
    warms up and falls along a cosine."""
    from vae_course.training import fit, warmup_cosine
    wall, cpu = time.perf_counter(), time.process_time()
    history = fit(model, train, epochs=epochs, batch_size=chosen["batch_size"],
                  lr=warmup_cosine(chosen["lr"]), seed=seed, device=str(device),
                  progress=False, **more)
    synchronize(device)
    return history, time.perf_counter() - wall, time.process_time() - cpu


def tested(model, kind, test, device):
    "Nats on the unseen pixels of the test images, and the KL among them."
    from vae_course.data import Batches
    from vae_course.step import evaluate
    nats = [evaluate(model, Batches(test.to(device), 1000), seed=test_seed + i)
            for i in range(1 if kind == "plain" else particles)]
    mean = lambda term: sum(n[term] for n in nats) / len(nats)
    return (dict(test=mean("loss"), kl=None) if kind == "plain"
            else dict(test=mean("neg_elbo"), kl=mean("kl")))


def one_run(kind, quadrants, seed, device, folder, quick=False):
    "Train, stop on the held-out images, read the test images once."
    _, train, held, test, _ = load_images(quick)
    torch.manual_seed(seed)
    model = build(kind, quadrants, train.data_shape, settings).to(device)
    checkpoint = folder / f"{kind}-{quadrants}-{seed}.safetensors"
    history, wall, cpu = trained(
        model, train, settings, 2 if quick else settings["epochs"][kind], seed, device,
        valid=held, patience=settings["patience"], checkpoint=checkpoint)
    best = history.best()
    checkpoint.unlink(missing_ok=True)
    return dict(kind=kind, quadrants=quadrants, seed=seed,
                **tested(model, kind, test, device), validation=best[history.monitor],
                best_epoch=best["epoch"], epochs=len(history),
                training_seconds=sum(history["seconds"]), wall_seconds=wall,
                cpu_seconds=cpu, step_config=str(history.step_config))


def short_run(kind, quadrants, seed, device, folder, quick=False):
    "The model of lesson 07, as the lesson trains it."
    *_, test, train = load_images(quick)
    torch.manual_seed(seed)
    model = build("cvae", quadrants, train.data_shape, short).to(device)
    (history, wall,
     cpu) = trained(model, train, short, 1 if quick else short["epochs"], seed, device)
    return dict(kind=kind, quadrants=quadrants, seed=seed,
                **tested(model, kind, test, device),
                training_seconds=sum(history["seconds"]), wall_seconds=wall,
                cpu_seconds=cpu, step_config=str(history.step_config))


def kept(how, folder, device, kind, quadrants, seed, quick):
    """What `how` gives, or what an earlier call with the same settings left of it.
    Raises `SystemExit`."""
    path, wanted = (folder / f"{kind}-{quadrants}-{seed}.json",
                    (short if kind == "short" else settings) | dict(quick=quick))
    if not path.exists():
        common.write(folder, path.stem,
                     dict(settings=wanted, commit=common.commit(),
                          load_average=common.load_average())
                     | how(kind, quadrants, seed, device, folder, quick))
    run = common.read_result(path)
    if run["settings"] != wanted:
        raise SystemExit(
            f"{path} was made with other settings: delete it, and call again")
    print(f"{quadrants} seen   {kind:6} seed {seed}   {run['test']:8.2f} nats   "
          f"{run['training_seconds']:8.1f} s on the wall, "
          f"{run['cpu_seconds']:8.1f} s of CPU", flush=True)
    return run


def row_of(runs, kind, quadrants):
    "One row: what the seeds of one kind gave."
    mine = [r for r in runs if (r["kind"], r["quadrants"]) == (kind, quadrants)]
    return dict(kind=kind, quadrants=quadrants, seen=seen[quadrants],
                published=published.get(kind, {}).get(quadrants), runs=mine,
                **{name: common.summary([r[name] for r in mine])
                   for name in ("test", "validation", "training_seconds", "cpu_seconds")
                   if name in mine[0]})


def measure(device, folder, quick=False):
    "The result of the bench on `device`, as written to the file."
    name, train, held, test, _ = load_images(quick)
    epochs = (
        2 if quick else "{cvae} (plain network {plain})".format(**settings["epochs"]))
    words = protocol.format(
        data=name, images=f"{len(train):,}", tested=f"{len(test):,}",
        particles=particles, short=", ".join(f"{k} {v}" for k, v in short.items()),
        **settings | dict(validation_size=f"{len(held):,}",
                          hidden="-".join(map(str, settings["hidden"])),
                          sees=" and ".join(settings["sees"]), epochs=epochs))
    result = common.facts(device, words, seeds=seeds) | dict(
        bench="cvae_quadrants", quick=quick, data=name, settings=settings,
        published=published)
    runs = [kept(one_run, folder, device, kind, quadrants, seed, quick)
            for kind in ("cvae", "plain") for quadrants in (1, 3, 2) for seed in seeds]
    lesson = [kept(short_run, folder, device, "short", 1, seed, quick)
              for seed in short_seeds[:1 if quick else None]]
    rows = [row_of(runs, kind, quadrants) for kind in ("plain", "cvae")
            for quadrants in seen]
    verdicts = [dict(kind=r["kind"], quadrants=r["quadrants"], **common.compare(
        r["test"]["median"], r["published"], at_least=False,
        judged=not quick and name == "mnist")) for r in rows if r["kind"] == "cvae"]
    choice = [common.read_result(path) for path in sorted(folder.glob("choose-*.json"))]
    return result | dict(rows=rows, verdicts=verdicts, choice=choice,
                         lesson=row_of(lesson, "short", 1) | dict(settings=short),
                         load_average_after=common.load_average())


def choose(way, device, epochs, folder):
    """Keep −ELBO on the held-out images, one quadrant seen, with c shown in this way;
    no test image is read."""
    _, train, held, *_ = load_images()
    torch.manual_seed(seeds[0])
    model = (
        build("cvae", 1, train.data_shape, settings | dict(sees=ways[way])).to(device))
    (history, _,
     cpu) = trained(model, train, settings, epochs, seeds[0], device, valid=held)
    found = dict(way=way, sees=ways[way], epochs=epochs, seed=seeds[0],
                 validation=history["valid_neg_elbo"][-1], cpu_seconds=cpu,
                 commit=common.commit())
    print(f"c shown to {' and '.join(ways[way])}: {found['validation']:.2f} nats on "
          f"the held-out images after {epochs} epochs, {cpu:.0f} s of CPU")
    return common.write(folder, f"choose-{way.replace(' ', '-')}", found)


def show(result):
    words = {True: "reached", False: "MISSED", None: "not judged"}
    print(f"\nnats on the unseen pixels of the test images, {result['device']}, "
          f"{result['threads']} threads")
    for row in [*result["rows"], result["lesson"]]:
        print(f"{row['quadrants']} seen   "
              f"{row['kind']:6}{row['test']['median']:8.2f}   published "
              f"{row['published'] or '—'}   {row['training_seconds']['median']:8.1f} s")
    for v in result["verdicts"]:
        print(f"{v['quadrants']} seen   {v['measured']:.2f}; target: at most "
              f"{v['target']}: {words[v['reached']]}")


def main():
    parser = common.options(argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    parser.add_argument("--choose", choices=list(ways),
                        help="train with c shown in this way, keep −ELBO on the "
                             "held-out images, and read no test image")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of --choose")
    args = parser.parse_args()
    device = torch.device(args.device)
    folder = common.output_folder(args, args.quick)
    parts = ((Path(tempfile.mkdtemp(prefix="vae_course_runs_")) if args.quick
              else common.root / "bench" / "runs")
             / f"cvae_quadrants-{common.slug(device)}")
    parts.mkdir(parents=True, exist_ok=True)
    if args.choose:
        return choose(args.choose, device, args.epochs, parts)
    result = measure(device, parts, args.quick)
    show(result)
    common.write(folder, f"cvae_quadrants-{result['slug']}", result)


if __name__ == "__main__":
    main()
