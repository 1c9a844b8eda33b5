"""`make gpu`: everything that needs a GPU, in one bounded run that leaves JSON behind.

    python tools/gpu_session.py --out DIR --minutes 9
    python tools/gpu_session.py --out DIR --parts tests lessons --notebooks 03 17
    python tools/gpu_session.py --out DIR --device cpu --quick      # shows that it runs

Parts: `tests` (those marked `gpu`) beside `lessons` (every notebook, a process each);
then `bench` (bench/gpu.py, alone); then `long` (dSprites for 300,000 steps, a process a
seed) beside `suite` (all other tests). Each has until a share of the time is over. DIR
holds `summary.json`, written anew after every job, `log.txt` with the end of what each
printed, and the files of the benches, which are copied to bench/results at the end.
`runs.tar` holds the runs that `long` finished: unpacked in the root, the next call goes
on with them. It needs the requirements and pytest, no network and no nbdev;
VAE_COURSE_DATA names the data."""
import argparse, json, os, re, shutil, signal, subprocess, sys, tarfile, tempfile, time
import traceback, xml.etree.ElementTree as xml
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

root = Path(__file__).resolve().parent.parent
# until which share of the time the jobs of a part may run
share = dict(tests=0.4, lessons=0.4, bench=0.85, long=1.0, suite=1.0)
cores = os.cpu_count() or 1
Job = dict[str, Any]        # part, name, command, and then what became of it


def code_cells(path: Path) -> list[tuple[int, str]]:
    "Number and source of the cells that run: not those marked `#| eval: false`."
    cells = enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"])
    code = [(i, "".join(c["source"])) for i, c in cells if c["cell_type"] == "code"]
    return [(i, s) for i, s in code if not re.search(r"^#\|\s*eval:\s*false", s, re.M)]


def run_notebook(path: Path, report: Path) -> bool:
    """Run the cells in order in IPython and go on after one that fails; `report` says
    after each what is known. Whether all held."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config
    os.chdir(path.parent)
    settings = Config()
    settings.HistoryManager.enabled = False     # many processes, one file
    no_gui = dict(enable_gui=lambda self, gui=None: None)       # it needs a kernel
    Shell: Any = type("Shell", (InteractiveShell,), no_gui)
    shell = Shell.instance(config=settings)
    shell.enable_matplotlib("inline")
    found: dict[str, Any] = dict(cells=len(code_cells(path)), done=0, failed=[])
    for i, source in code_cells(path):
        report.write_text(json.dumps(found | dict(cell=i)), encoding="utf-8")
        print(f"cell {i}", flush=True)
        result = shell.run_cell(source)
        found["done"] += 1
        if e := result.error_before_exec or result.error_in_exec:
            found["failed"].append(dict(
                cell=i, error=f"{type(e).__name__}: {e}"[:500],
                traceback="".join(traceback.format_exception(e))[-2500:]))
    report.write_text(json.dumps(found), encoding="utf-8")
    return not found["failed"]


def read_cases(path: Path) -> dict[str, Any]:
    "Counts of a pytest report, and why each failed or skipped test did so."
    count, failed, skipped = dict(passed=0, failed=0, skipped=0), [], []
    for case in xml.parse(path).iter("testcase"):
        bad = [*case.findall("failure"), *case.findall("error")]
        skip, name = case.findall("skipped"), f"{case.get('classname')}."
        name += case.get("name") or ""
        count["failed" if bad else "skipped" if skip else "passed"] += 1
        failed += [dict(test=name, error=(e.get("message") or "")[:500],
                        traceback=(e.text or "")[-2500:]) for e in bad[:1]]
        skipped += [f"{name}: {e.get('message')}" for e in skip[:1]]
    return dict(count=count, failed=failed, skipped=skipped)


def jobs_of(part: str, args: argparse.Namespace, tmp: Path, left: float) -> list[Job]:
    "What a part runs; `left` are the seconds that it has."
    python = lambda *words: [sys.executable, *map(str, words)]
    quick = ["--quick"] if args.quick else []
    if part in ("tests", "suite"):
        marked = [p for p in (root / "tests").glob("test_*.py")
                  if "mark.gpu" in p.read_text(encoding="utf-8")]
        which = (["-m", "gpu", *marked] if part == "tests" else
                 ["-m", "not gpu and not browser", "-v", "-n", max(1, cores - 6),
                  "--dist", "loadfile"])
        return [dict(part=part, name=part, report=tmp / f"{part}.xml", command=python(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", *which,
            "--continue-on-collection-errors", f"--junitxml={tmp / part}.xml"))]
    if part == "lessons":
        starts = tuple(args.notebooks or [""])
        paths = [p for p in (root / "nbs").glob("*.ipynb") if p.name.startswith(starts)]
        first = lambda p: (not re.match("0|1|index", p.name), p.name)
        return [dict(part=part, name=p.stem, report=tmp / f"{p.stem}.json",
                     command=python(__file__, "--run", p, tmp / f"{p.stem}.json"))
                for p in sorted(paths, key=first)]
    if part == "bench":
        return [dict(part=part, name="gpu", command=python(
            "bench/gpu.py", "--device", args.device, "--out", args.out, "--repeats", 3,
            "--budget", round(0.8 * left), "--share", 0.1, *quick))]
    return [dict(part=part, name=f"seed {seed}", command=python(
        "bench/disentanglement.py", "--device", args.device, "--world", "dsprites",
        "--full", "--out", args.out, "--seeds", seed, *quick))
        for seed in range(1 if args.quick else 5)]


def run_job(job: Job, limit: float, **environment: str) -> Job:
    """Run the command of `job` until the time `limit` and end all that it started; with
    what became of it: passed, failed, late, or not begun."""
    start = time.monotonic()
    if start >= limit:
        return job | dict(outcome="not begun", seconds=0.0)
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            job["command"], cwd=root, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env=os.environ | environment, process_group=0)
        try:
            outcome = "failed" if process.wait(limit - start) else "passed"
        except subprocess.TimeoutExpired:
            outcome = "late"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        job |= dict(outcome=outcome, output=out.read().decode(errors="replace"),
                    seconds=time.monotonic() - start)
    with suppress(KeyError, OSError, ValueError, xml.ParseError):   # none, or not whole
        report = job["report"]
        job["found"] = (read_cases(report) if report.suffix == ".xml" else
                        json.loads(report.read_text(encoding="utf-8")))
    return job


def keep(out: Path, facts: dict[str, Any], jobs: list[Job]) -> None:
    "Write the summary whole, and add the last job to the log."
    keys = "part", "name", "outcome", "seconds", "found"
    shown, last = [{k: j[k] for k in keys if k in j} for j in jobs], jobs[-1]
    part = out / "summary.part"
    part.write_text(json.dumps(facts | dict(jobs=shown), indent=1, ensure_ascii=False),
                    encoding="utf-8")
    os.replace(part, out / "summary.json")
    what = f"{last['outcome']:10}{last['part']}: {last['name']}"
    print(f"{what} ({last['seconds']:.0f} s)", flush=True)
    for bad in last.get("found", {}).get("failed", [])[:5]:
        print(f"{'':10}{bad.get('test') or bad['cell']}: {bad['error'][:200]}")
    said = last.get("output", "")[-1500 if last["outcome"] == "passed" else -200_000:]
    with open(out / "log.txt", "a", encoding="utf-8") as f:
        f.write(f"\n== {what}\n{said}\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=root / "bench" / "runs" / "gpu")
    parser.add_argument("--minutes", type=float, default=9, help="for all of it")
    parser.add_argument("--parts", nargs="+", choices=list(share), default=list(share))
    parser.add_argument("--notebooks", nargs="+", help="beginnings of file names")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu")
    parser.add_argument("--workers", type=int, default=max(1, cores - 2))
    parser.add_argument("--quick", action="store_true", help="a fraction of the work")
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        sys.exit(not run_notebook(*args.run))
    begun, args.out = time.monotonic(), args.out.resolve()
    sys.path[:0] = [str(root), str(root / "bench")]
    import common, torch
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit("no CUDA device here: --device cpu --quick shows that it runs")
    args.out.mkdir(parents=True, exist_ok=True)
    facts = common.facts(torch.device(args.device), "") | dict(quick=args.quick)
    there = dict(TQDM_DISABLE="1", PYTHONPATH=os.pathsep.join(
        [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]))
    there |= dict(CUDA_VISIBLE_DEVICES="") if args.device == "cpu" else {}
    whole = max(share[p] for p in args.parts)
    limit = lambda part: begun + 60 * args.minutes * share[part] / whole
    results: list[Job] = []
    with tempfile.TemporaryDirectory() as tmp:
        for beside in (("tests", "lessons"), ("bench",), ("long", "suite")):
            parts = [p for p in beside if p in args.parts]
            jobs = [j for p in parts for j in
                    jobs_of(p, args, Path(tmp), max(0.0, limit(p) - time.monotonic()))]
            few = str(max(1, cores // max(1, len(jobs))))
            more = there | ({} if beside == ("bench",) else dict(
                OMP_NUM_THREADS=few, TORCHINDUCTOR_COMPILE_THREADS=few))
            with ThreadPoolExecutor(args.workers) as pool:
                begin = lambda j: pool.submit(run_job, j, limit(j["part"]), **more)
                for done in as_completed([*map(begin, jobs)]):
                    results.append(done.result())
                    keep(args.out, facts, results)
    with tarfile.open(args.out / "runs.tar", "w") as tar:
        for path in sorted((root / "bench" / "runs").glob("disent*-full/*.json")):
            tar.add(path, path.relative_to(root))
    if not args.quick:
        for path in args.out.glob(f"*{facts['slug']}*.json"):
            shutil.copy(path, common.results)
    count = Counter(job["outcome"] for job in results)
    print(", ".join(f"{n} {outcome}" for outcome, n in count.items()))
    sys.exit(count["passed"] < len(results))


if __name__ == "__main__":
    main()
