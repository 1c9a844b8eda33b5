"""Which cure of posterior collapse does what? Lesson 12's text VAE on first names of 29
languages, with each cure, beside a language model of the same width.

    # writes bench/results/text-DEVICE.json, after each model
    OMP_NUM_THREADS=1 python bench/text.py
    # a fraction of the work: shows that it runs
    python bench/text.py --quick
    # trains only what a stored file lacks, and writes it after each model
    OMP_NUM_THREADS=1 python bench/text.py --add FILE
    # other lines, such as those of a file, one a line; not compared with the lesson
    python bench/text.py --data lines:names.txt --out FOLDER

The names come with Faker: nothing is downloaded."""
import argparse, time
from pathlib import Path

import torch

import common

seeds = 0, 1, 2
settings = dict(epochs=6, lr=1e-2, latent_dim=8, width=64, embedding=24, samples=50,
                measured=1000)
protocol = ("{data}: {lines:,} training lines of at most {longest} characters out of "
            "{letters}. GRUs of width {width} as encoder and decoder, z at every step, "
            "{latent_dim} latents, Adam at {lr:g} at most (warm-up and cosine), "
            "batches of 256, gradients clipped at 5, {epochs} epochs; `ways` says what "
            "differs. "
            "Measured on {measured} test lines, all different, none of which is in the "
            "training set: −log p(x) by {samples} importance samples, −ELBO at β = 1, "
            "KL and reconstruction from one draw, information of a code about its line "
            "(at most log {measured}), active units (variance of the posterior mean "
            "over 0.01). Nats per line. Nothing was chosen on the test lines. CPU "
            "seconds are of training, on a machine that is not quiet.")
columns = ("nll", "neg_elbo", "kl", "information", "active", "reconstruction",
           "cpu_seconds")


def distinct(examples, data, n):
    "The first n lines that differ from each other."
    first = {}
    for i, line in enumerate(data.lines(examples)):
        first.setdefault(line, i)
    return examples[torch.tensor(list(first.values())[:n])]


def one_run(way, seed, data, quick):
    "Train one model, and measure it."
    from vae_course.text import text_scores, train_text
    chosen = {k: settings[k] for k in ("latent_dim", "width", "embedding")}
    if way == "language model":
        del chosen["latent_dim"]
    cpu = time.process_time()
    model = train_text(way, data, epochs=1 if quick else settings["epochs"], seed=seed,
                       lr=settings["lr"], **chosen)
    cpu = time.process_time() - cpu
    few = distinct(data.test, data, 100 if quick else settings["measured"])
    scores = text_scores(model, few, 5 if quick else settings["samples"])
    return dict(way=way, seed=seed, **scores, cpu_seconds=cpu,
                parameters=sum(p.numel() for p in model.decoder.parameters()))


def row_of(way, runs):
    "One row: what the seeds of one way gave."
    return dict(way=way, **{k: common.summary([r[k] for r in runs]) for k in columns},
                runs=runs)


def measure(quick=False, old=None, limit=None, data="names",
            wrote=lambda result: None):
    """The result of the bench, as written to the file. Runs in `old`, a result with the
    same settings, are taken over; at most `limit` models are trained; `wrote` gets the
    result after each. Raises `SystemExit`."""
    from vae_course.lines import load_lines
    from vae_course.text import cures
    lines = load_lines(data)
    if lines is None:
        raise SystemExit(f"--data {data}: give names, shakespeare or lines:FILE")
    if old and (old["settings"], old["data"]) != (settings, data):
        raise SystemExit("the stored file has other settings: run without --add")
    shown = settings | (dict(epochs=1, measured=100, samples=5) if quick else {})
    words = protocol.format(data=lines.name, lines=len(lines.train),
                            longest=lines.longest, letters=len(lines.alphabet), **shown)
    device = torch.device("cpu")
    ways = {way: repr(how) if callable(how) else {
        k: str(v) for k, v in how.items() if k != "schedules"} | (
            {"schedule of β": [round(f(i / 8) if callable(f) else f, 3)
                               for i in range(9)]
             for f in how.get("schedules", {}).values()}) for way, how in cures.items()}
    result = common.facts(device, words, seeds=seeds, packages=("faker",)) | dict(
        bench="text", quick=quick, data=data, settings=settings, ways=ways)
    place = {name: result[name] for name in ("commit", "device")}
    if old:                         # its machine and its day; a new run names its own
        result |= {k: v for k, v in old.items() if k not in ("protocol", "ways")}
    runs = [{k: old[k] for k in place} | r for row in old["rows"]
            for r in row["runs"]] if old else []

    def so_far():
        rows = [row_of(way, mine) for way in cures
                if (mine := sorted((r for r in runs if r["way"] == way),
                                   key=lambda r: r["seed"]))]
        return result | dict(rows=rows, load_average_after=common.load_average())

    done = {(r["way"], r["seed"]) for r in runs}
    lacking = [(way, seed) for seed in seeds[:1 if quick else None] for way in cures
               if (way, seed) not in done]
    for way, seed in lacking[:limit]:
        run = one_run(way, seed, lines, quick)
        runs.append(place | run)
        print(f"{way:20} seed {seed}" + "".join(
            f"   {name} {run[name]:.2f}" for name in columns), flush=True)
        wrote(so_far())
    return so_far()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--add", type=Path, metavar="FILE",
                        help="train only what this stored file lacks")
    parser.add_argument("--limit", type=int, help="at most so many models")
    parser.add_argument("--data", default="names",
                        help="names, shakespeare, lines:FILE")
    args = common.options(parser).parse_args()
    if args.device != "cpu":
        raise SystemExit(f"--device {args.device}: this bench trains models of the "
                         "size of a lesson, on the CPU alone")
    if args.add:
        measure(args.quick, common.read_result(args.add), args.limit, args.data,
                lambda result: common.write(args.add.parent, args.add.stem, result))
        return
    folder = common.output_folder(args, args.quick or args.data != "names")
    name = f"text-{common.slug(torch.device('cpu'))}"
    measure(args.quick, limit=args.limit, data=args.data,
            wrote=lambda result: common.write(folder, name, result))
    print(folder / f"{name}.json")


if __name__ == "__main__":
    main()
