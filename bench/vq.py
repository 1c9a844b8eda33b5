"""Running means beside the codebook loss in a VQ-VAE: the same initial weights and the
same restarts on both sides, five seeds. And what an image costs and loses, in codes and
in a Gaussian VAE's z: the plane of rate and distortion.

    # every run that is not there yet; about a minute each on one core
    OMP_NUM_THREADS=1 python bench/vq.py
    # starts no run after an hour; the next call goes on
    OMP_NUM_THREADS=1 python bench/vq.py --minutes 60
    # what `settings` were chosen by: held-out training images, no test image is read
    OMP_NUM_THREADS=1 python bench/vq.py --choose
    # a fraction of the work: shows that it runs
    python bench/vq.py --quick

Each run leaves a file in `--runs` (default: `bench/runs/vq-…`), so a bench that was cut
short goes on where it stood. The summary names what is not there yet."""
import argparse, json, math, tempfile, time
from functools import cache
from pathlib import Path

import torch

import common
from disentanglement import paired
from vae_course.data import Batches, Examples, split
from vae_course.datasets import load
from vae_course.elbo import conv_vae
from vae_course.acceleration import flush_denormals
from vae_course.devices import pick_device
from vae_course.step import evaluate
from vae_course.vq_vae import (CodePrior, codebook_usage, dataset_codes, perplexity,
                               reconstruction_mse, train_steps, vq_vae)

seeds, sides = (0, 1, 2, 3, 4), ("ema", "loss")
# the last: one Gaussian VAE for three times as many steps
books, betas, longer = (64, 256), (0.03, 0.01, 0.003), (0.003, 1200)

# Fixed before a test image was looked at: `--choose` tried the candidates below on
# 5,000 held-out training images, and the best was taken, for each side and model by
# itself. Its codes for the prior came from a model trained with lr=1e-2; K, dim, widths
# and the threshold of dead codes were not tried.
settings = dict(steps=400, prior_steps=300, batch_size=128, prior_batch=64, dim=8,
                dead_code_threshold=0.2, latent_dim=64, widths=(16, 32), decay=0.9,
                lr=dict(ema=2e-2, loss=2e-2), prior_lr=8e-3, gaussian_lr=1e-2)
candidates = dict(ema=[dict(lr=lr) for lr in (5e-3, 1e-2, 2e-2)]
                      + [dict(lr=1e-2, decay=0.95), dict(lr=4e-2)],
                  loss=[dict(lr=lr) for lr in (5e-3, 1e-2, 2e-2, 4e-2)],
                  prior=[dict(lr=lr) for lr in (4e-3, 8e-3)],
                  gaussian=[dict(lr=lr) for lr in (3e-3, 1e-2)])

protocol = (
    "Fashion-MNIST, grey levels / 255, 60,000 images to train and 10,000 to test. "
    "VQ-VAE: convolutions {widths}, 7 × 7 codes of {dim} numbers, Gaussian likelihood "
    "with a learned σ, commitment ¼; Adam, warm-up and cosine, batches of "
    "{batch_size}. Both sides start from the same weights, draw every entry of the "
    "codebook from the first batch, and put a code on a vector of the batch whenever "
    "its running use is below {dead_code_threshold} of the uniform share; one moves "
    "the codebook by running means (decay {decay}), the other by the codebook loss. "
    "Each side is trained for {steps} steps. In use: chosen at least a tenth of the "
    "uniform share, over the whole test set, the model frozen. Rate and distortion, "
    "{steps} steps for every model but one Gaussian VAE that has more: bits are −log2 "
    "p(codes) of a causal transformer trained for {prior_steps} steps of {prior_batch} "
    "lists of codes, or the KL of the Gaussian VAE (the same kind of decoder, "
    "z{latent_dim}, σ = 1, β in front of the KL, the error that of one drawn z); "
    "errors are means over pixels. Learning rates and decay were chosen by the error, "
    "code length or loss on 5,000 held-out training images, for each side by itself, "
    "with one seed; the test set is read once for each model, after its last step. "
    "Differences are paired by seed, with the 95 % interval of Student's t; "
    "«separated» means that it leaves out 0.")


def vq_trained(examples, seed, n_codes, side, steps, s, **changes):
    "A VQ-VAE after `steps`; `changes` are of its learning rate or decay."
    torch.manual_seed(seed)
    model = (
        vq_vae(examples.data_shape, n_codes=n_codes, dim=s["dim"], widths=s["widths"],
               prior="uniform", decay=changes.get("decay", s["decay"]),
               dead_code_threshold=s["dead_code_threshold"], ema=side == "ema")
        .to(examples.x.device))
    train_steps(model, examples, steps, changes.get("lr", s["lr"][side]),
                s["batch_size"], seed)
    return model


def prior_trained(codes, n_codes, s, lr=None):
    "A transformer that has learned `codes`."
    torch.manual_seed(0)
    prior = CodePrior(n_codes, codes.shape[1:]).to(codes.device)
    train_steps(prior,
                Examples(codes.float(), torch.zeros(len(codes), dtype=torch.int64,
                                                    device=codes.device)),
                s["prior_steps"], lr or s["prior_lr"], s["prior_batch"])
    return prior


def gaussian_trained(examples, beta, s, lr=None, steps=None):
    "A Gaussian VAE at β."
    torch.manual_seed(0)
    model = conv_vae(examples.data_shape, latent_dim=s["latent_dim"],
                     widths=s["widths"], likelihood="gaussian").to(examples.x.device)
    model.beta.fill_(beta)
    train_steps(model, examples, steps or s["steps"], lr or s["gaussian_lr"],
                s["batch_size"])
    return model


@torch.no_grad()
def code_bits(prior, codes):
    "Mean −log2 p(codes)."
    return (
        -torch.cat([prior.log_prob(part) for part in codes.split(250)]).mean().item()
        / math.log(2))


def vq_figures(model, examples, n_codes):
    "What is read of a frozen VQ-VAE."
    codes = dataset_codes(model, examples)
    counts = codes.flatten().bincount(minlength=n_codes).float()
    return (dict(mse=reconstruction_mse(model, examples),
                 codebook_usage=codebook_usage(counts).item(),
                 perplexity=perplexity(counts).item(),
                 sigma=model.likelihood.sigma.item()), codes)


def compared(train, test, seed, side, steps, s):
    "One run of the comparison."
    model = vq_trained(train, seed, max(books), side, steps, s)
    return dict(seed=seed, side=side, steps=steps,
                **vq_figures(model, test, max(books))[0])


def code_point(train, test, n_codes, s):
    "Rate and distortion with codes."
    model = vq_trained(train, 0, n_codes, "ema", s["steps"], s)
    found, codes = vq_figures(model, test, n_codes)
    prior = prior_trained(dataset_codes(model, train[:s["prior_examples"]]), n_codes, s)
    return dict(n_codes=n_codes, bits_uniform=codes[0].numel() * math.log2(n_codes),
                bits=code_bits(prior, codes), **found)


def gaussian_figures(model, examples):
    terms = evaluate(model, Batches(examples, 1000), seed=0)
    pixels = math.prod(examples.data_shape)
    return dict(bits=terms["kl"] / math.log(2),
                mse=2 * (terms["reconstruction"] / pixels
                         - 0.5 * math.log(2 * math.pi)), loss=terms["loss"])


def gaussian_point(train, test, beta, s, steps=None):
    "Rate and distortion of a Gaussian VAE."
    return dict(beta=beta, steps=steps or s["steps"],
                **gaussian_figures(gaussian_trained(train, beta, s, steps=steps), test))


def choices(train, s):
    "Jobs that try the candidates on held-out training images."
    rest, held = split(train, share=5000 / 60_000)
    def vq(side, change):
        return lambda: dict(
            change, mse=(found := vq_figures(
                vq_trained(rest, 0, max(books), side, s["steps"], s, **change), held,
                max(books))[0])["mse"], codebook_usage=found["codebook_usage"])
    @cache
    def codes():
        model = vq_trained(rest, 0, max(books), "ema", s["steps"], s, lr=1e-2)
        return (dataset_codes(model, rest[:s["prior_examples"]]),
                dataset_codes(model, held))
    def prior(change):
        return dict(change, bits=code_bits(
            prior_trained(codes()[0], max(books), s, **change), codes()[1]))
    def gaussian(change):
        return dict(change, loss=gaussian_figures(
            gaussian_trained(rest, 0.01, s, **change), held)["loss"])
    for side in sides:
        yield from ((f"choose-{side}-{i}", vq(side, change))
                    for i, change in enumerate(candidates[side]))
    yield from ((f"choose-gaussian-{i}", lambda change=change: gaussian(change))
                for i, change in enumerate(candidates["gaussian"]))
    yield from ((f"choose-prior-{i}", lambda change=change: prior(change))
                for i, change in enumerate(candidates["prior"]))


def job_done(name, job, folder, s, until=math.inf):
    """The result of a job: from its file, or made now; None when it is too late to
    begin."""
    path = folder / f"{name}.json"
    if path.exists():
        found = common.read_result(path)
        if (not name.startswith("choose") and {k: found["settings"].get(k) for k in s}
                                              != json.loads(json.dumps(s))):
            raise SystemExit(f"{path} was made with other settings: give another "
                             "folder with --runs, or delete it")
        return found
    if time.perf_counter() > until:
        return None
    wall, cpu = time.perf_counter(), time.process_time()
    found = job()
    found |= dict(seconds=time.perf_counter() - wall,
                  cpu_seconds=time.process_time() - cpu, settings=s,
                  commit=common.commit())
    common.write(folder, name, found)
    return found


def main(words=None):
    parser = common.options(argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    parser.add_argument("--choose", action="store_true",
                        help="try the candidates on held-out training images, and stop")
    parser.add_argument("--minutes", type=float, default=math.inf,
                        help="start no run after so many minutes")
    parser.add_argument("--runs", help="folder of the single runs")
    args = parser.parse_args(words)
    device, which_seeds = pick_device(args.device), seeds[:2] if args.quick else seeds
    if device.type == "cpu":
        flush_denormals()
    s = (settings | dict(prior_examples=20_000)
         | (dict(steps=4, prior_steps=2, prior_examples=500) if args.quick else {}))
    name = f"vq-{common.slug(device)}"
    out = common.output_folder(args, args.quick or args.choose)
    folder = (Path(args.runs) if args.runs
              else (Path(tempfile.mkdtemp(prefix="vae_course_runs_")) if args.quick
                    else common.root / "bench" / "runs") / name)
    data = load("fashion_mnist")
    train, test = (data.train.to(device),
                   (data.test[:500] if args.quick else data.test).to(device))
    if args.choose:
        for title, job in choices(train, s):
            print(title, {k: v for k, v in job_done(title, job, folder, s).items()
                          if k not in ("settings", "commit")}, flush=True)
        return None
    result = common.facts(device, protocol.format(**s), seeds=which_seeds) | dict(
        bench="vq", quick=args.quick, data=data.name, settings=s)
    until = time.perf_counter() + 60 * args.minutes
    get = lambda title, job: job_done(title, job, folder, s, until)
    points = {k: get(f"codes-{k}", lambda k=k: code_point(train, test, k, s))
              for k in reversed(books)}
    gaussian = {b: get(f"beta-{b:g}", lambda b=b: gaussian_point(train, test, b, s))
                for b in betas}
    gaussian["longer"] = get("beta-{:g}-{}".format(*longer), lambda: gaussian_point(
        train, test, longer[0], s, 4 if args.quick else longer[1]))
    missing = [f"{k} codes" for k, p in points.items() if not p] + [
        f"β = {b}" for b, p in gaussian.items() if not p]
    result |= dict(codes=[p for p in points.values() if p],
                   gaussian=[p for p in gaussian.values() if p], runs=[], rows=[],
                   differences=[],
                   choices=[dict(name=path.stem, **common.read_result(path))
                            for path in sorted(folder.glob("choose-*.json"))])
    if points[256]:
        result["aims"] = dict(codebook_usage=common.compare(
            points[256]["codebook_usage"], 0.95, judged=not args.quick))
        if points[64]:
            result["aims"]["mse_below_64_codes"] = common.compare(
                points[256]["mse"], points[64]["mse"], at_least=False,
                judged=not args.quick)
    runs = [get(f"{side}-{seed}-{s['steps']}", lambda side=side, seed=seed: compared(
        train, test, seed, side, s["steps"], s))
            for seed in which_seeds for side in sides]
    result["runs"] += filter(None, runs)
    if all(runs):
        result["rows"], result["differences"] = summarise(runs, s["steps"])
    else:
        missing.append("running means beside the codebook loss")
    return common.write(out, name, result | dict(
        left_out=[
            dict(name=m, why="its runs are not all there yet; the same command goes on")
            for m in missing], load_average_after=common.load_average()))


def summarise(runs, steps, measures=("codebook_usage", "perplexity", "mse")):
    "A row for each side, and their paired differences."
    by = {side: sorted((r for r in runs if r["side"] == side), key=lambda r: r["seed"])
          for side in sides}
    rows = [dict(side=side, steps=steps, seeds=[r["seed"] for r in by[side]],
                 **{m: common.summary([r[m] for r in by[side]]) for m in measures})
            for side in sides]
    differences = dict(less="loss", more="ema", steps=steps, **{m: paired(
        [r[m] for r in by["loss"]], [r[m] for r in by["ema"]]) for m in measures})
    for row in rows:
        print(steps, row["side"], {m: row[m]["values"] for m in measures})
    for m in measures:
        d = differences[m]
        print(f"{steps} steps, running means - codebook loss, {m}: {d['mean']:+.4g}, "
              f"95 % interval [{d['interval'][0]:+.4g}, {d['interval'][1]:+.4g}]: "
              f"{'separated' if d['separated'] else 'not separated'}")
    return rows, [differences]


if __name__ == "__main__":
    main()
