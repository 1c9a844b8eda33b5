"""Why is it blurry, and what helps? Lesson 14's ways on one data set, three seeds.

    # writes bench/results/sharpness-DEVICE.json after each model; the same command
    # again goes on where it was cut short
    OMP_NUM_THREADS=1 python bench/sharpness.py
    # a fraction of the work: shows that it runs
    python bench/sharpness.py --quick

MNIST is looked for in `VAE_COURSE_DATA`."""
import argparse, time

import torch
import torch.nn.functional as F

import common

settings = dict(train=30_000, n=2000, latent_dim=16, widths=[16, 32], epochs=2,
                batch_size=64, lr=3e-3)
seeds = 0, 1, 2
ways = ("σ = 1", "σ learned", "σ learned, per pixel", "σ optimal",
        "σ learned, 64 latents", "σ learned, perceptual term",
        "σ learned, adversarial term", "GAN", "σ = 1, perceptual term")

protocol = ("{data}: {images} training images, dequantized and brought to half their "
            "size. Encoder and decoder of convolutions {widths}, {latent_dim} latents "
            "where a row does not say otherwise, {epochs} epochs in batches of "
            "{batch_size}; Adam at {lr:g} at most (warm-up and cosine), and for the "
            "two adversarial rows the rates of the models. Quality of {n:,} images "
            "(means of p(x|z), z from the prior) beside as many test images, in the "
            "features of a classifier trained on other training images than the "
            "perceptual term's classifier; `floor` is that of other test images. "
            "Sharpness: Laplacian energy as a share of that of the test images; "
            "`draws`: of draws from p(x|z). −ELBO: one z for each test image, a "
            "density. Each run names its commit and machine.")


def half_size(examples, seed):
    "Grey images, dequantized, at half their height and width."
    from vae_course.data import Examples
    from vae_course.elbo import dequantize
    x = dequantize(examples.x, torch.Generator().manual_seed(seed))
    return Examples(F.avg_pool2d(x, 2), examples.y)


class World:
    "The data, and the two classifiers: one that judges, one for the perceptual term."
    def __init__(self, quick):
        from vae_course.classifier import Classifier, agreement
        from vae_course.datasets import load
        from vae_course.generation import quality
        from vae_course.training import fit
        self.data = load()
        large, train = self.data.name == "mnist", self.data.train
        half = len(train) // 2
        if quick: train, half = train[:1024], 512
        self.epochs = 1 if quick else settings["epochs"] * (1 if large else 8)
        self.n = 200 if quick else settings["n"] if large else len(self.data.test) // 2
        parts = half_size(train, 1)
        self.train = parts[:settings["train"]] if large else parts
        self.test = half_size(self.data.test, 0)
        self.real, self.other = self.test.x[:self.n], self.test.x[self.n:2*self.n]
        self.judges = []
        for seed, part in enumerate((parts[half:], parts[:half])):
            torch.manual_seed(seed)
            judge = Classifier(part.data_shape, len(self.data.classes))
            fit(judge, part, epochs=1 if quick else 3 if large else 25, lr=3e-3,
                device="cpu", progress=False)
            self.judges.append(judge)
        self.accuracy = [agreement(j, self.test.x, self.test.y) for j in self.judges]
        self.floor = quality(self.judges[0], self.real, self.other)._asdict()


def model_of(way, world, latent_dim, widths):
    "The model of a row."
    from vae_course.sharpness import GAN, perceptual_vae, sigma_vae, vae_gan
    shape = world.train.data_shape
    size = dict(data_shape=shape, widths=widths,
                latent_dim=64 if "64" in way else latent_dim)
    if way == "GAN": return GAN(**size)
    if "adversarial" in way: return vae_gan(**size)
    if "perceptual" in way:
        return perceptual_vae(**size, classifier=world.judges[1], likelihood=(
            "gaussian" if "σ = 1" in way else "gaussian_learned"))
    kind = (1.0 if way == "σ = 1" else "per_pixel" if "pixel" in way else
            "optimal" if "optimal" in way else "learned")
    return sigma_vae(**size, sigma=kind)


def one_run(way, seed, world):
    "Train one model, and measure it."
    from vae_course.data import Batches
    from vae_course.devices import seeded
    from vae_course.generation import quality
    from vae_course.sharpness import GAN, VAEGAN, sharpness
    from vae_course.step import evaluate
    from vae_course.training import fit
    torch.manual_seed(seed)
    model = model_of(way, world, settings["latent_dim"], settings["widths"])
    own = isinstance(model, (GAN, VAEGAN))
    cpu = time.process_time()
    history = fit(model, world.train, epochs=world.epochs, seed=seed, device="cpu",
                  batch_size=settings["batch_size"], progress=False,
                  lr=None if own else settings["lr"])
    cpu = time.process_time() - cpu
    with seeded(seed): made = model.sample(world.n).clamp(0, 1)
    found = dict(sharpness=sharpness(made, world.real),
                 **quality(world.judges[0], world.real, made)._asdict())
    if not isinstance(model, GAN):
        with seeded(seed), torch.no_grad():
            draws = model.decode(model.prior().sample((world.n,))).sample()
        terms = evaluate(model, Batches(world.test, 1000), seed=0)
        found |= dict(draws=sharpness(draws, world.real), neg_elbo=terms["neg_elbo"],
                      kl=terms["kl"], sigma=model.likelihood.sigma.mean().item())
    return dict(way=way, seed=seed, **found, cpu_seconds=cpu,
                training_seconds=sum(history["seconds"]))


measured = ("sharpness", "frechet", "precision", "recall", "draws", "neg_elbo", "kl",
            "sigma", "cpu_seconds", "training_seconds")


def row_of(way, runs):
    "One row: what the seeds of one way gave."
    return dict(way=way, **{name: common.summary([r[name] for r in runs])
                            for name in measured if name in runs[0]}, runs=runs)


def measure(quick=False, old=None, limit=None, wrote=lambda result: None):
    """The result of the bench, as written to the file. Runs in `old`, a result with the
    same settings, are taken over; at most `limit` models are trained; `wrote` gets the
    result after each. Raises `SystemExit`."""
    world, device = World(quick), torch.device("cpu")
    if old and (old["settings"], old["data"]) != (settings, world.data.name):
        raise SystemExit("the stored file has other settings: move it away first")
    words = protocol.format(data=world.data.name, images=f"{len(world.train):,}",
                            **settings | dict(n=world.n, epochs=world.epochs))
    result = common.facts(device, words, seeds=seeds) | dict(
        bench="sharpness", quick=quick, data=world.data.name, settings=settings)
    place = {name: result[name] for name in ("commit", "device")}
    print(f"classifiers right on {world.accuracy}, floor {world.floor}", flush=True)
    runs = [r for row in old["rows"] for r in row["runs"]] if old else []

    def so_far():
        rows = [row_of(way, mine) for way in ways
                if (mine := sorted((r for r in runs if r["way"] == way),
                                   key=lambda r: r["seed"]))]
        return result | dict(accuracy=world.accuracy, floor=world.floor, rows=rows,
                             load_average_after=common.load_average())

    done = {(r["way"], r["seed"]) for r in runs}
    lacking = [(way, seed) for seed in seeds[:1 if quick else None] for way in ways
               if (way, seed) not in done]
    for way, seed in lacking[:limit]:
        run = one_run(way, seed, world)
        runs.append(place | run)
        print(f"{way:28} seed {seed} " + "  ".join(
            f"{name} {run[name]:.3f}" for name in measured if name in run), flush=True)
        wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, help="train at most so many models")
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    folder = common.output_folder(args, args.quick)
    name = f"sharpness-{common.slug(torch.device('cpu'))}"
    path = folder / f"{name}.json"
    old = common.read_result(path) if path.exists() else None
    result = measure(args.quick, old, args.limit,
                     lambda result: common.write(folder, name, result))
    common.write(folder, name, result)


if __name__ == "__main__":
    main()
