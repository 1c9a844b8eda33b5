"""Do β-VAE and β-TCVAE disentangle the factors of dSprites better than a VAE? Five seeds of each, all shown, and their paired differences.

    OMP_NUM_THREADS=2 python bench/disentanglement.py                  # every run that is not there yet; about 10 minutes each on two cores
    OMP_NUM_THREADS=2 python bench/disentanglement.py --minutes 60     # starts no run after an hour; the next call goes on
    python bench/disentanglement.py --device cuda --steps 300000       # full length on a GPU
    python bench/disentanglement.py --quick                            # a fraction of the work: shows that it runs

Each run leaves a file in `--runs` (default: `bench/runs/disentanglement-…`), a checkpoint while it trains and its result at its end, so a bench that was
cut short goes on where it stood. The summary is written when every run is there. dSprites is looked for in `VAE_COURSE_DATA`."""
import argparse, json, math, statistics, tempfile, time
from pathlib import Path

import torch

import common

seeds = (0, 1, 2, 3, 4)
models = {"VAE": dict(name="beta_vae", beta=1.0), "β-VAE": dict(name="beta_vae", beta=4.0), "β-TCVAE": dict(name="beta_tcvae", beta=6.0)}

# All of this was fixed before MIG or the FactorVAE score of any run was read. β = 4 is that of Higgins et al. (2017) for dSprites, β = 6 that of Chen et al. (2018);
# batch and latents are those of disentanglement_lib (Locatello et al. 2019), the rate is that of Burgess et al. (2018); widths and steps are what ten minutes on two cores allow at 32×32.
settings = dict(steps=12_000, batch_size=64, lr=5e-4, latent_dim=10, widths=(32, 64), bins=20)

protocol = ("The {pictures} combinations of dSprites' downsampled grid (3 shapes, 6 scales, 10 orientations, 16 × 16 places), brought to 32×32, black and white. Convolutions {widths}, "
            "z{latent_dim}, Bernoulli likelihood, Adam at a constant rate of {lr:g}, batches of {batch_size}, {steps} steps; the same initial weights and order of batches for the three "
            "models of a seed. β of the total correlation or of the KL: {betas}. Trained on {train} pictures; MIG ({bins} bins) and FactorVAE score (5,000 votes to learn from, 5,000 to score) on the "
            "posterior means of all pictures, −ELBO at β = 1 on the {test} test pictures; every model is evaluated once, after its last step. Differences are paired by "
            "seed, with the 95 % interval of Student's t; «separated» means that it leaves out 0.")


def student(n):
    "The 97.5 % quantile of Student's t for a mean of `n` values."
    return {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[n]


def paired(a, b):
    "The mean of b − a over seeds with its 95 % interval; `separated` is None where one seed alone is there."
    difference = [y - x for x, y in zip(a, b)]
    mean, n = statistics.mean(difference), len(difference)
    if n < 2:
        return dict(mean=mean, interval=None, separated=None, values=difference)
    half = student(n) * statistics.stdev(difference) / math.sqrt(n)
    return dict(mean=mean, interval=[mean - half, mean + half], separated=bool(mean - half > 0 or mean + half < 0), values=difference)


def pictures(quick=False):
    from vae_course.data import DataNotFound, load
    try:
        return load("dsprites", download=False)
    except DataNotFound:
        if not quick:
            raise SystemExit("dSprites is not on disk: set VAE_COURSE_DATA to a folder that holds it, or fetch it with vae_course.data.load('dsprites')")
        return load("sprites")


def build(which, seed, chosen, examples):
    "The model called `which`, from the weights that `seed` gives all three."
    from vae_course import training
    config = {k: v for k, v in models[which].items() if k != "name"}
    if models[which]["name"] == "beta_tcvae":
        config["dataset_size"] = len(examples)
    torch.manual_seed(seed)
    return training.build(models[which]["name"], data_shape=list(examples.data_shape), latent_dim=chosen["latent_dim"], hidden=None, widths=list(chosen["widths"]), **config)


def evaluate(model, data, chosen, device, limit=None):
    "What is read of a trained model, once: scores on all pictures, terms on the test pictures."
    from vae_course.data import Batches, Examples
    from vae_course.engine import run_evaluation
    from vae_course.evaluation import factorvae_score, mig, per_example
    every = Examples(torch.cat([data.train.x, data.test.x]), torch.cat([data.train.y, data.test.y]))[:limit]
    both = per_example(lambda x: torch.stack([(q := model.encode(x)).mean, 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log())], 1), model, every, batch_size=512)
    codes, kl, factors = both[:, 0], both[:, 1].mean(0), data.factors(every.y)
    gap = mig(codes, factors, bins=chosen["bins"])
    terms = run_evaluation(model, Batches(data.test[:limit].to(device), 512), seed=0)
    return dict(mig=gap.mean, gaps=dict(zip(data.factors.names, gap.gaps.tolist())), factorvae_score=factorvae_score(codes, factors), kl_by_latent=kl.sort(descending=True).values.tolist(),
                neg_elbo=terms["neg_elbo"], kl=terms["kl"], reconstruction=terms["reconstruction"])


def one_run(which, seed, data, chosen, device, folder, quick=False):
    "Train and evaluate one model, or take its result from `folder`."
    from vae_course.data import Examples
    from vae_course.training import constant, fit
    stem = f"{ {'VAE': 'vae', 'β-VAE': 'beta_vae', 'β-TCVAE': 'beta_tcvae'}[which] }-{seed}"
    result = folder / f"{stem}.json"
    if result.exists():
        found = json.loads(result.read_text(encoding="utf-8"))
        if found["settings"] != json.loads(json.dumps(chosen | models[which])):
            raise SystemExit(f"{result} was made with other settings: give another folder with --runs, or delete it")
        return found
    train = data.train[:640] if quick else data.train
    rounds = math.ceil(len(train) / chosen["batch_size"])
    epochs = max(1, round(chosen["steps"] / rounds))
    start = time.perf_counter()
    model = build(which, seed, chosen, train)
    history = fit(model, train.to(device), epochs=epochs, batch_size=chosen["batch_size"], lr=constant(chosen["lr"]), seed=seed, device=str(device),
                  checkpoint=folder / f"{stem}.safetensors", progress=False)
    found = dict(model=which, seed=seed, settings=chosen | models[which], commit=common.commit(), steps=epochs * rounds, epochs=epochs, seconds=time.perf_counter() - start, training_seconds=sum(history["seconds"]),
                 switches=str(history.switches), **evaluate(model, data, chosen, device, 500 if quick else None))
    common.write(folder, stem, found)
    (folder / f"{stem}.safetensors").unlink(missing_ok=True)
    return found


def summarise(runs, measures=("mig", "factorvae_score", "neg_elbo", "kl")):
    "A row for each model, and the paired differences between any two."
    rows, differences = [], []
    by = {which: sorted((r for r in runs if r["model"] == which), key=lambda r: r["seed"]) for which in models}
    for which, mine in by.items():
        rows.append(dict(model=which, beta=models[which]["beta"], seeds=[r["seed"] for r in mine], **{m: common.summary([r[m] for r in mine]) for m in measures}))
    names = list(models)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            assert [r["seed"] for r in by[a]] == [r["seed"] for r in by[b]]
            differences.append(dict(less=a, more=b, **{m: paired([r[m] for r in by[a]], [r[m] for r in by[b]]) for m in measures}))
    return rows, differences


def main(words=None):
    parser = common.options(argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    parser.add_argument("--steps", type=int, default=settings["steps"], help="steps of training; part of the name of the file when it is not the default")
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no run after so many minutes")
    parser.add_argument("--runs", help="folder of the single runs")
    args = parser.parse_args(words)
    device, which_seeds = torch.device(args.device), seeds[:2] if args.quick else seeds
    chosen = settings | dict(steps=10 if args.quick else args.steps)
    length = "" if chosen["steps"] == settings["steps"] else f"-{chosen['steps']}-steps"
    out = common.output_folder(args, args.quick)
    folder = Path(args.runs) if args.runs else (Path(tempfile.mkdtemp(prefix="vae_course_runs_")) if args.quick else common.root / "bench" / "runs") / f"disentanglement-{common.slug(device)}{length}"
    folder.mkdir(parents=True, exist_ok=True)
    data = pictures(args.quick)
    words = protocol.format(pictures=f"{len(data.factors):,}", train=f"{len(data.train):,}", test=f"{len(data.test):,}", betas=", ".join(f"{k} {v['beta']:g}" for k, v in models.items()), **chosen)
    result = common.facts(device, words, seeds=which_seeds) | dict(bench="disentanglement", quick=args.quick, data=data.name, settings=chosen, models=models)
    begun, runs = time.perf_counter(), []
    for seed in which_seeds:
        for which in models:
            if time.perf_counter() - begun > 60 * args.minutes:
                print(f"{len(runs)} of {len(which_seeds) * len(models)} runs are done; call it again to go on", flush=True)
                return None
            run = one_run(which, seed, data, chosen, device, folder, args.quick)
            runs.append(run)
            print(f"{which:8} seed {seed}{run['seconds']:8.0f} s   −ELBO {run['neg_elbo']:7.2f}   KL {run['kl']:6.2f}", flush=True)     # the scores are read at the end, all at once
    rows, differences = summarise(runs)
    for row in rows:
        print(f"{row['model']:8} MIG " + " ".join(f"{v:.3f}" for v in row["mig"]["values"]) + "   FactorVAE " + " ".join(f"{v:.3f}" for v in row["factorvae_score"]["values"]))
    for d in differences:
        m = d["mig"]
        print(f"{d['more']} − {d['less']}: MIG {m['mean']:+.3f}, 95 % interval [{m['interval'][0]:+.3f}, {m['interval'][1]:+.3f}]: {'separated' if m['separated'] else 'not separated'}")
    name = f"disentanglement-{common.slug(device)}{length}"
    return common.write(out, name, result | dict(rows=rows, differences=differences, runs=runs, load_average_after=common.load_average()))


if __name__ == "__main__":
    main()
