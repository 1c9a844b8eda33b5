"""One epoch of the same VAE on the same images: this course beside three peers and
beside the machine's own limit, in one run.

    # five repeats; writes bench/results/speed-DEVICE.json
    OMP_NUM_THREADS=2 python bench/speed.py
    # the same on a GPU (bench/gpu.py does this and more)
    python bench/speed.py --device cuda
    # a fraction of the images, once: shows that it runs
    python bench/speed.py --quick

The peers come with `pip install -e ".[bench]"`; one that is not installed is left out,
and the result says so. Take a quiet machine: with other work on the cores, two threads
wait for each other and every time is wrong. MNIST is looked for in
`VAE_COURSE_DATA`."""
import argparse
from functools import partial

import torch

import common, peers, race

protocol = ("Model 784-400-20 with ReLU, cross-entropy on grey pixels, Adam at 1e-3, "
            "batches of 128, the same {images} images of {data}, in an order drawn "
            "anew every epoch. One epoch with its data pipeline, in seconds; {repeats} "
            "repeats after one epoch to warm up. Each contender is a process of its "
            "own that stays alive; they take turns, one epoch each, within every "
            "repeat. Peers run in fp32 through their public interfaces. The matrix "
            "products alone are a limit of this machine. The full limit is the sum of "
            "a step's parts, each timed alone by the best of its repeats and by the "
            "faster of eager and compiled, times the steps: matrix products, Adam, "
            "cross-entropy with its gradient, look-up of a batch, activations, draw "
            "of z. A ratio is the median of the other (of the full limit the best) "
            "divided by the median of ours. Warm-up runs from the start of the "
            "process to the end of its first epoch.")

targets = {
    # how many times as fast as each; of the full limit, the share
    "fp32": {"PyTorch examples": 4.5, "Lightning": 4.5, "full limit, fp32": 0.75},
    "bf16": {"PyTorch examples": 5.5, "Lightning": 6.0, "full limit, bf16": 0.75}}
# where the CPU multiplies matrices in bfloat16 by units of its own
targets_with_amx = {"fp32": {"pythae": 2.5, "full limit, fp32": 0.80},
                    "bf16": {"pythae": 3.4, "full limit, bf16": 0.80}}
targets_on_gpu = {"PyTorch examples": 50.0}
epoch_on_gpu = 0.040    # seconds
no_units = "not judged: this machine has no bfloat16 units"


def contenders(device, count=None, quick=False, only=None):
    """`(contenders, left out)`: what `race` takes, and the peers that are not
    installed. `only` keeps those whose name holds one of its words."""
    from vae_course.step import StepConfig
    wanted = lambda name: not only or any(word.lower() in name.lower() for word in only)
    lane = lambda name, kind, **kwargs: (
        name, partial(race.Lane, kind, str(device), count=count, **kwargs))
    few = dict(steps=3 if quick else 20) if peers.bfloat16_is_slow(device) else {}
    settings = [("fp32", False, False), ("bf16", False, False)] if quick else [
        ("fp32", True, False), ("fp32", False, False), ("bf16", True, False)]
    if device.type == "cuda" and not quick:
        settings = [("fp32", False, False), ("fp32", False, True), ("fp32", True, True),
                    ("bf16", True, True)]
    every = [lane(f"vae_course, {StepConfig(*s)}", peers.Ours, precision=s[0],
                  compile=s[1], graphs=s[2], **(few if s[0] == "bf16" else {}))
             for s in settings]
    left_out = []
    for package, peer in (("torchvision", peers.Examples), ("pythae", peers.Pythae),
                          ("lightning", peers.Lightning)):
        if not wanted(peer.name):
            continue
        if why := peers.missing(package):
            print(f"left out  {peer.name}: {why}", flush=True)
            left_out.append(dict(name=peer.name, why=why))
        else:
            every.append(lane(peer.name, peer))
    every.append(lane("matrix products alone, fp32", peers.MatrixProducts))
    every.append(lane("matrix products alone, bf16", peers.MatrixProducts,
                      dtype="bfloat16", **few))
    if device.type == "cpu":
        fewer = dict(compile=False, blocks=1, calls=2) if quick else {}
        slow = dict(compile=False, blocks=1, calls=2) if few else {}
        every += [lane("full limit, fp32", peers.StepParts, **fewer),
                  lane("full limit, bf16", peers.StepParts, dtype="bfloat16",
                       **fewer | slow)]
    return [c for c in every if wanted(c[0])], left_out


def target_of(precision, other, device, amx):
    "The target of a ratio of ours in `precision` to `other`; None where there is none."
    if device.type == "cuda":
        return targets_on_gpu.get(other)
    more = targets_with_amx[precision] if amx else {}
    return (targets[precision] | more).get(other)


def ratios(rows, device, slow=False, amx=False):
    """Ours beside every other, with its target: from the medians; and, from each
    repeat, the ratio of that repeat. More is wanted of a CPU that has `amx`.
    Where bfloat16 is `slow`, its figures are kept and not judged: a share of a limit
    twenty times too low says nothing."""
    found = []
    for ours in (row for row in rows if row["name"].startswith("vae_course")):
        precision = "bf16" if "bf16" in ours["name"] else "fp32"
        for other in (row for row in rows if not row["name"].startswith("vae_course")):
            full = other["name"].startswith("full limit")
            limit = full or other["name"].startswith("matrix")
            if limit and precision not in other["name"]:
                continue
            wanted = target_of(precision, other["name"], device, amx)
            note = no_units if precision == "bf16" and slow else ""
            each = [b / a for a, b in zip(ours["seconds"]["values"],
                                          other["seconds"]["values"])]
            found.append(dict(
                ours=ours["name"], other=other["name"],
                what=("share of the full limit" if full else "share of the limit"
                      if limit else "times as fast"),
                **common.compare(other.get("limit", other["seconds"]["median"])
                                 / ours["seconds"]["median"], wanted, judged=not note),
                note=note, min=min(each), max=max(each), values=each))
    return found


def measure(device, repeats, count=None, quick=False, only=None):
    "The result of the bench on `device`, as written to the file."
    data, examples = peers.images(count)
    every, left_out = contenders(device, count, quick, only)
    result = common.facts(device, protocol.format(images=f"{len(examples):,}",
                                                  data=data, repeats=repeats),
                          packages=("pythae", "lightning"))
    result |= dict(bench="speed", quick=quick, images=len(examples),
                   steps=-(-len(examples) // peers.batch_size), repeats=repeats)
    rows, failed = race.race(every, repeats)
    result |= dict(rows=rows,
                   amx=common.has_amx(),
                   ratios=ratios(rows, device, peers.bfloat16_is_slow(device),
                                 common.has_amx()),
                   left_out=left_out + failed, load_average_after=common.load_average())
    if device.type == "cuda" and (best := min((row["seconds"]["median"] for row in rows
                                               if row["name"].startswith("vae_course")),
                                              default=None)):
        result["epoch_seconds"] = common.compare(best, epoch_on_gpu, at_least=False)
    return result


def show(result):
    "The table of the result, for the terminal."
    print(f"\n{'':42}{'median':>9}{'min':>9}{'max':>9}{'warm-up':>9}   seconds an "
          f"epoch, {result['device']}, {result['threads']} threads")
    for row in result["rows"]:
        s = row["seconds"]
        print(f"{row['name']:42}{s['median']:9.3f}{s['min']:9.3f}{s['max']:9.3f}"
              f"{row['warm_up']:9.2f}   {row['note']}")
    for row in (row for row in result["rows"] if "parts" in row):
        print(f"\n{row['name']}: {row['limit']:.3f} s an epoch; milliseconds a step: "
              + "; ".join(f"{part} " + ", ".join(f"{way} {1e3 * s:.3f}"
                                                 for way, s in ways.items())
                          for part, ways in row["parts"].items()))
    for r in result["ratios"]:
        verdict = ("" if r["target"] is None
                   else f"target {r['target']:g}: "
                        f"{r['note'] or ('reached' if r['reached'] else 'MISSED')}")
        print(f"{r['ours']:30}{r['measured']:8.2f}  "
              f"{r['what']:26}{r['other']:30}{verdict}")
    for r in result["left_out"]:
        print(f"left out: {r['name']}: {r['why']}")


def main():
    parser = common.options(
        argparse.ArgumentParser(description=__doc__.split("\n\n")[0]))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", action="append", metavar="WORD",
                        help="contenders whose name holds WORD (may be repeated); such "
                             "a run is written like a quick one")
    args = parser.parse_args()
    folder, device = (common.output_folder(args, args.quick or bool(args.only)),
                      torch.device(args.device))
    result = measure(device, 1 if args.quick else args.repeats,
                     512 if args.quick else None, args.quick, args.only)
    show(result)
    common.write(folder, f"speed-{result['slug']}", result)


if __name__ == "__main__":
    main()
