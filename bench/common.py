"""What every bench does alike: the facts beside the numbers, results that are written
whole and read with today's keys, and a warning when the machine is busy."""
import json, os, platform, re, statistics, subprocess, sys, tempfile
from datetime import datetime, timezone
from pathlib import Path

import torch

from vae_course.checkpoint import write_atomic

root = Path(__file__).resolve().parent.parent
results = root / "bench" / "results"
sys.path[:0] = [str(root)] if str(root) not in sys.path else []


def commit():
    """The commit of the code, with `+` when its files differ from it;
    `VAE_COURSE_COMMIT` or `unknown` outside a checkout."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=root, capture_output=True,
                              encoding="utf-8")
    try:
        head = git("rev-parse", "--short", "HEAD")
        if head.returncode == 0:
            return (head.stdout.strip()
                    + ("+" if git("status", "--porcelain", "--", "nbs", "vae_course",
                                  "bench/*.py").stdout.strip() else ""))
    except OSError:
        pass
    return os.environ.get("VAE_COURSE_COMMIT", "unknown")


def cpu_flags():
    "The CPU's model name and its flags, as Linux gives them."
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    field = lambda name: next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
    return field("model name") or platform.machine(), field("flags").split()


def has_amx():
    "Whether this CPU multiplies matrices in bfloat16 by units of its own (AMX)."
    return "amx_bf16" in cpu_flags()[1]


def describe(device):
    "The device in words: what counts for speed."
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return (f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, "
                f"{properties.multi_processor_count} multiprocessors")
    name, flags = cpu_flags()
    units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
             if unit in flags]
    return (f"{name}, {os.cpu_count()} cores "
            f"({', '.join(units) or 'vector units unknown'})")


def slug(device):
    "The device as a part of a file name: `nvidia-h200`, `amd-epyc-2-cores`."
    name = (torch.cuda.get_device_name(device) if device.type == "cuda"
            else f"{cpu_flags()[0]} {os.cpu_count()} cores")
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def version(package):
    "The installed version of a package; None where there is none."
    from importlib.metadata import PackageNotFoundError, version
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def load_average():
    return [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None


def busy(threads):
    """A warning when something else computes on this machine: two busy threads on one
    core make every time meaningless. Empty when all is quiet."""
    load = load_average()
    free = (os.cpu_count() or 1) - threads
    if load and load[0] > free + 0.5:
        return (f"the load average was {load[0]} before {threads} threads started on "
                f"{os.cpu_count()} cores: these times are not those of a quiet machine")
    return ""


def facts(device, protocol, seeds=(), packages=(), threads=None):
    "What a number must carry to be compared with another."
    threads = threads or torch.get_num_threads()
    if warning := busy(threads if device.type == "cpu" else 0):
        print(f"warning: {warning}", flush=True)
    script, *words = sys.argv
    # where the file went is no part of what was measured
    for at in [i for i, word in enumerate(words) if word == "--out"]:
        del words[at:at + 2]
    versions = {name: v for name in ("torch", "torchvision", "numpy", *packages)
                if (v := version(name))}
    return dict(command=" ".join(["python", os.path.relpath(script, root), *words]),
                commit=commit(), device=describe(device), slug=slug(device),
                threads=threads, omp_num_threads=os.environ.get("OMP_NUM_THREADS"),
                load_average=load_average(), warning=warning,
                versions=dict(python=platform.python_version(), **versions),
                date=datetime.now(timezone.utc).isoformat(timespec="minutes"),
                seeds=list(seeds), protocol=protocol)


def summary(values):
    "Median and spread of `values`, and the values."
    return dict(median=statistics.median(values), min=min(values), max=max(values),
                values=list(values))


def compare(measured, target, at_least=True, judged=True):
    """A figure beside its target (None: there is none), and whether it was reached
    (None: not judged)."""
    reached = (None if target is None or not judged
               else bool(measured >= target if at_least else measured <= target))
    return dict(measured=measured, target=target, reached=reached,
                bound="at least" if at_least else "at most")


def rounded(tree, digits=6):
    "`tree` with its floats to `digits` significant digits: a file that can be read."
    if isinstance(tree, dict):
        return {k: rounded(v, digits) for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [rounded(v, digits) for v in tree]
    return float(f"{tree:.{digits}g}") if isinstance(tree, float) else tree


def output_folder(args, part):
    """Where results go: `--out`, or `bench/results`; a quick or partial run never
    writes there. Raises `SystemExit`."""
    if part and args.out and Path(args.out).resolve() == results:
        raise SystemExit("a quick or partial run shows that the bench runs; its "
                         f"numbers do not belong into {os.path.relpath(results)}: name "
                         "another folder, or none")
    return Path(args.out) if args.out else Path(
        tempfile.mkdtemp(prefix="vae_course_bench_")) if part else results


def write(folder, name, result):
    "Write `result` to `folder/NAME.json`: a run cut short leaves the old file whole."
    text = json.dumps(rounded(result), indent=1, ensure_ascii=False) + "\n"
    path = write_atomic(folder / f"{name}.json", text.encode())
    print(f"written: {path}", flush=True)
    return path


# old key → today's, for the results of version 0.1.0; `above.key` renames the key only
# right below `above`, which is given by its name of today
renamed = {
    "pictures": "images", "recipe": "settings", "settings.recipe": "detector",
    "switches": "step_config", "lesson.switches": "step_configs",
    "held_out": "validation", "settings.held_out": "validation_size",
    "least": "min", "most": "max", "asked": "target",
    "clock.asked": "asked",         # seconds, of lesson 17: no target
    "judge_epochs": "classifier_epochs",
    "in_use": "codebook_usage", "restart": "dead_code_threshold",
    "detection_mended": "detection_recalibrated",
    "false_alarm_mended": "false_alarm_recalibrated"}


def translate(result, above=""):
    "A result, or a part of one below the key `above`, with today's keys."
    if isinstance(result, list):
        return [translate(part, above) for part in result]
    if not isinstance(result, dict):
        return result
    keys = {key: renamed.get(f"{above}.{key}", renamed.get(key, key)) for key in result}
    return {keys[key]: translate(part, keys[key]) for key, part in result.items()}


def read_result(path):
    """The result in a file that a bench wrote, with today's keys, whichever version
    wrote it."""
    return translate(json.loads(Path(path).read_text(encoding="utf-8")))


def options(parser):
    "The options that every bench has."
    parser.add_argument(
        "--quick", action="store_true",
        help="a fraction of the work: shows that it runs; writes to a temporary folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--out", help="folder for the JSON (default: bench/results; "
                                      "with --quick a temporary folder)")
    return parser
