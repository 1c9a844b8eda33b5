"""Everything of the lesson on GPUs, and the two benches, on a machine with CUDA,
without Jupyter: one command, one file.

    # at most --budget seconds and the section then running; writes
    # bench/results/DEVICE.json, such as nvidia-h200.json
    VAE_COURSE_DATA=FOLDER python bench/gpu.py
    # one section anew; the others stay as they are in the file
    VAE_COURSE_DATA=FOLDER python bench/gpu.py --only speed
    # shows that it runs, with no GPU
    python bench/gpu.py --device cpu --quick

It needs torch 2.11, torchvision, numpy, tqdm, matplotlib, scikit-learn and safetensors,
and no network. `VAE_COURSE_DATA` names a folder that holds MNIST's four files, packed
or not, as `MNIST/raw/train-images-idx3-ubyte.gz` and so on; a folder inside the
checkout will do. Peers that are not installed are left out, and the file says so. The
file is written anew after every section, so that a run cut short keeps what it had;
each section carries its own date and commit. Sections that no longer fit into
`--budget` seconds are named under `left_out`: run them with `--only`."""
import argparse, json, os, subprocess, sys, time
from datetime import datetime, timezone

import torch

import common, peers, speed, time_to_quality
from vae_course.devices import synchronize

batch_sizes = (64, 256, 1024, 4096, 16384, 65536)


def configs_of(device, quick=False):
    "The ways to run a step that the sweeps measure, the quickest to prepare first."
    from vae_course.step import StepConfig
    if device.type != "cuda":
        return [StepConfig()] if quick else [StepConfig(), StepConfig(compile=True)]
    return [StepConfig(p, c, g)
            for c, g in ((False, False), (False, True), (True, True), (True, False))
            for p in ("fp32", "bf16")]


def models(quick=False):
    "The VAEs of the roofline."
    from vae_course.elbo import conv_vae, mlp_vae
    small = {"784-400-20": mlp_vae(latent_dim=20, hidden=(400,))}
    return small if quick else small | {
        "784-2000-50": mlp_vae(latent_dim=50, hidden=(2000,)),
        "convolutions 16, 32": conv_vae()}


def run_speed(device, args):
    return speed.measure(device, 1 if args.quick else args.repeats,
                         512 if args.quick else None, args.quick, args.contenders)


def run_time_to_quality(device, args):
    return time_to_quality.measure(device, time_to_quality.seeds[:1] if args.quick
                                           else time_to_quality.seeds, args.quick)


def run_lesson(device, args):
    "The measurements that the lesson shows, by name."
    from vae_course import gpu
    found = {}
    for name, measure in gpu.measurements.items():
        if args.quick and name != "widths":
            continue
        start = time.perf_counter()
        found[name] = measure(device)
        print(f"  {name:20}{time.perf_counter() - start:7.1f} s", flush=True)
    return found


def run_throughput(device, args):
    "Examples a second in training against the batch size, for every way to run a step."
    from vae_course.gpu import throughput
    model, rows, left_out = models(quick=True)["784-400-20"], [], []
    end = time.perf_counter() + args.share * args.budget
    for config in configs_of(device, args.quick):
        for size in (64, 128) if args.quick else batch_sizes:
            if time.perf_counter() > end:
                left_out.append(dict(name=f"{config}, batch {size}",
                                     why="out of the time for this section"))
                continue
            try:
                rows.append(
                    dict(step_config=str(config), batch_size=size,
                         examples_per_second=throughput(model, size, device=device,
                                                        config=config, repeats=3)))
            # out of memory, or a kernel that this device lacks
            except RuntimeError as e:
                left_out.append(
                    dict(name=f"{config}, batch {size}",
                         why=f"{type(e).__name__}: {e}".splitlines()[0][:200]))
    return dict(model="784-400-20", rows=rows, left_out=left_out)


def run_roofline(device, args):
    """What this machine can do at its best, and what share of it a training step of
    each VAE reaches."""
    from vae_course import gpu
    from vae_course.step import StepConfig
    large = device.type == "cuda"
    rates = {name: gpu.matmul_rate(device, dtype, n=(4096, 8192) if large else 512)
             for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
             if name == "fp32" or not peers.bfloat16_is_slow(device)}
    bandwidth = gpu.memory_bandwidth(device, 2048 if large else 64)
    rows = []
    for name, model in models(args.quick).items():
        for precision, rate in rates.items():
            for size in (128,) if args.quick else (128, 4096):
                cost = gpu.step_cost(model, size, size=2 if precision == "bf16" else 4)
                seconds = gpu.step_seconds(
                    model, size, device, StepConfig(precision, False, large), repeats=3)
                best = gpu.attainable(cost, rate, bandwidth)
                rows.append(dict(
                    model=name, precision=precision, batch_size=size, flops=cost.flops,
                    bytes=cost.bytes, intensity=gpu.arithmetic_intensity(cost),
                    seconds=seconds, rate=cost.flops / seconds, attainable=best,
                    share_of_roofline=cost.flops / seconds / best))
    return dict(rates=rates, bandwidth=bandwidth, rows=rows)


def run_agreement(device, args):
    """Largest difference in nats from the plain way on the CPU, over 20 steps on the
    same MNIST batches with the same ε, and the losses themselves.
    A recorded step draws its own noise: it is compared with the same step not recorded,
    from the same seed."""
    from dataclasses import replace
    from vae_course.data import Batches
    from vae_course.step import StepConfig
    from vae_course.gpu import losses_along, ready_step
    model, g = models(quick=True)["784-400-20"], torch.Generator().manual_seed(0)
    steps = 3 if args.quick else 20
    batches = list(Batches(peers.images(128 * steps)[1], 128))
    noise = [torch.randn(128, 20, generator=g) for _ in range(steps)]

    def seeded(config):
        step = ready_step(model, device, config, 128, lr=1e-3)
        torch.manual_seed(0)
        return [step((x.to(device), y.to(device)))["loss"].item() for x, y in batches]

    def row(name, first, losses):
        return dict(name=name,
                    largest_difference=max(abs(a - b) for a, b in zip(first, losses)),
                    losses=losses)
    plain = losses_along(model, batches, noise, "cpu", StepConfig()).tolist()
    rows = [row("cpu, the plain way", plain, plain)]
    for s in configs_of(device, args.quick):
        if s.graphs:
            rows.append(row(f"{device.type}, {s}, beside the same not captured",
                            seeded(replace(s, graphs=False)), seeded(s)))
        else:
            rows.append(row(f"{device.type}, {s}", plain,
                            losses_along(model, batches, noise, device, s).tolist()))
    return dict(steps=steps, rows=rows)


def run_profile(device, args):
    """Where a step's time goes: the longest kernels, and the share of the step in which
    the device has nothing to do."""
    from vae_course.gpu import group_profile, step_profile, step_seconds
    model, rows = models(quick=True)["784-400-20"], []
    from vae_course.step import StepConfig
    for config in (
            [StepConfig(), StepConfig(graphs=True), StepConfig("bf16", True, True)]
            if device.type == "cuda" else [StepConfig()]):
        kernels, seconds = (step_profile(model, device=device, config=config),
                            step_seconds(model, device=device, config=config))
        rows.append(dict(step_config=str(config), step_seconds=seconds,
                         busy_seconds=sum(kernels.values()),
                         idle_share=max(0.0, 1 - sum(kernels.values()) / seconds),
                         groups=group_profile(kernels),
                         top=[dict(kernel=k[:120], seconds=s)
                              for k, s in list(kernels.items())[:12]]))
    return dict(model="784-400-20", batch_size=128, rows=rows)


def run_scaling(device, args):
    """Examples a second over processes on one machine, one process a GPU (two processes
    on the CPU), 128 examples a process and step."""
    available = torch.cuda.device_count() if device.type == "cuda" else 2
    counts = [n for n in (1, 2, 4, 8, 16) if n <= available]
    rows = []
    for n in counts:
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone",
                 f"--nproc-per-node={n}", __file__, "--child", "--device", args.device]
        done = subprocess.run(words + ["--quick"] * args.quick, capture_output=True,
                              encoding="utf-8", timeout=300,
                              env={"OMP_NUM_THREADS": "1"} | os.environ)
        if done.returncode:
            raise RuntimeError(f"{n} processes: "
                               + (done.stderr.strip().splitlines() or ["no word"])[-1])
        rows.append(json.loads(
            next(line for line in done.stdout.splitlines() if line.startswith("{"))))
        rows[-1]["efficiency"] = (
            rows[-1]["examples_per_second"] / rows[0]["examples_per_second"] / n)
    return dict(rows=rows,
                note="one GPU here: nothing to scale to" if len(counts) == 1 else "")


def scaling_child(args):
    """In every process of a group: an epoch to warm up, then the median of three; rank
    0 prints."""
    from vae_course.elbo import mlp_vae
    from vae_course.distributed import join_processes
    from vae_course.run import training_run
    from vae_course.run_config import RunConfig
    from vae_course.step import train_epoch
    from vae_course.training import History
    with join_processes(args.device) as (rank, world, device):
        _, examples = peers.images(2048 if args.quick else None)
        torch.manual_seed(0)
        config = RunConfig(epochs=100, batch_size=128 * world, lr=lambda t: 1e-3)
        model, seconds = mlp_vae(latent_dim=20, hidden=(400,)), []
        with training_run(model, examples, None, History(), config, device, None,
                          False) as run:
            for _ in range(2 if args.quick else 4):
                synchronize(device)
                start = time.perf_counter()
                run.begin_epoch()
                terms = train_epoch(model, run.batches, run.optimizers, run.before_step,
                                    run.after_step, step=run.take_step)
                run.end_epoch(terms)
                synchronize(device)
                seconds.append(time.perf_counter() - start)
        if rank == 0:
            s = common.summary(seconds[1:])
            print(json.dumps(dict(processes=world, batch_size=128 * world,
                                  epoch_seconds=s,
                                  examples_per_second=len(examples) / s["median"])),
                  flush=True)


sections = dict(speed=run_speed, time_to_quality=run_time_to_quality,
                roofline=run_roofline, profile=run_profile, lesson=run_lesson,
                throughput=run_throughput, agreement=run_agreement, scaling=run_scaling)


def main():
    parser = common.options(
        argparse.ArgumentParser(description=__doc__.split("\n\n")[0]))
    parser.set_defaults(device="cuda")
    parser.add_argument(
        "--only", help=f"sections to run, with commas between: {', '.join(sections)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--contenders", action="append", metavar="WORD",
        help="speed: only those whose name holds WORD (may be repeated)")
    parser.add_argument("--budget", type=float, default=480,
                        help="seconds after which no section is begun")
    parser.add_argument("--share", type=float, default=0.2,
                        help="of the budget, for the throughput sweep")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return scaling_child(args)
    wanted = args.only.split(",") if args.only else list(sections)
    if unknown := [name for name in wanted if name not in sections]:
        raise SystemExit(f"no section {unknown[0]!r}: there are {', '.join(sections)}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("no CUDA device on this machine: nothing was measured "
                         "(--device cpu --quick shows that the script runs)")
    folder, device, begun = (
        common.output_folder(args, args.quick or bool(args.contenders)),
        torch.device(args.device), time.perf_counter())
    result = common.facts(device,
                          "Each section states its own protocol, date and commit.",
                          seeds=time_to_quality.seeds, packages=("pythae", "lightning"))
    result |= dict(bench="gpu", quick=args.quick, device_name=common.slug(device),
                   sections={}, left_out=[])
    path = folder / f"{result['slug']}.json"
    if args.only and path.is_file():
        kept = common.read_result(path)
        result |= {name: kept[name] for name in sections if name in kept} | dict(
            sections=kept["sections"],
            left_out=[r for r in kept["left_out"] if r["name"] not in wanted])
    for name in wanted:
        start = time.perf_counter()
        if start - begun > args.budget:
            result["left_out"].append(
                dict(name=name,
                     why=f"{args.budget:g} s were over: run it with --only {name}"))
            print(f"{name}: left out, the time was over", flush=True)
            continue
        print(f"{name} …", flush=True)
        try:
            result[name] = sections[name](device, args)
        # one section that fails leaves the others their chance; the file names it
        except Exception as e:
            result["left_out"].append(dict(name=name, why=f"{type(e).__name__}: {e}"))
            print(f"{name} FAILED: {type(e).__name__}: {e}", flush=True)
        result["sections"][name] = dict(
            seconds=time.perf_counter() - start,
            date=datetime.now(timezone.utc).isoformat(timespec="minutes"),
            commit=result["commit"])
        common.write(folder, result["slug"], result)
    for row in result["left_out"]:
        print(f"left out: {row['name']}: {row['why']}")
    for name, show in (("speed", speed.show),
                       ("time_to_quality", time_to_quality.show)):
        if name in wanted and name in result:
            show(result[name])
    if any("Error" in row["why"] for row in result["left_out"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
