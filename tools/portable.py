"""`make portable`: every lesson and every test file under other instruction sets, other
numbers of threads and a pretended processor.

    python tools/portable.py [SETTING …] [NAME …]

A name is the beginning of a lesson's or a test file's, such as 03 or test_vq; --list
shows the settings.

Takes hours. What has passed is written down in `.portable/` with a hash of its code,
and runs again only when that changes; stopped in the middle, the same command goes on
where it was. What has failed leaves its output beside it."""
import argparse, hashlib, json, os, re, subprocess, sys, time
from importlib.metadata import version
from pathlib import Path

from lessons import code_hash, nbformat

root = Path(__file__).resolve().parent.parent
other_cpu = root / "tests" / "other_cpu.py"
bin_dir = Path(sys.executable).parent
limit = 7200                                  # seconds after which a unit has failed

# what the libraries under the course read:
# https://pytorch.org/docs/stable/threading_environment_variables.html, oneMKL's and
# oneDNN's guides
SETTINGS = {
    "plain": dict(ATEN_CPU_CAPABILITY="default", MKL_ENABLE_INSTRUCTIONS="SSE4_2",
                  OMP_NUM_THREADS="1"),
    "avx2": dict(ATEN_CPU_CAPABILITY="avx2", MKL_CBWR="COMPATIBLE",
                 ONEDNN_MAX_CPU_ISA="AVX2", OMP_NUM_THREADS="1"),
    "threads": dict(OMP_NUM_THREADS="2", MKL_NUM_THREADS="2"),
    "pretended": dict(OMP_NUM_THREADS="1"),  # lessons only, under tests/other_cpu.py
}


def run(command, folder=root, **environment):
    "Run a command; return its exit status (None past the limit) and its output."
    environment = os.environ | {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
                                "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"} | environment
    try:
        done = subprocess.run([str(c) for c in command], cwd=folder, env=environment,
                              timeout=limit, text=True, encoding="utf-8",
                              errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired as e:
        said = e.stdout or b""
        return (None,
                (f"{said if isinstance(said, str) else said.decode(errors='replace')}\n"
                 f"stopped after {limit} s"))
    return done.returncode, done.stdout


def run_lesson(path, folder=root, **environment):
    "A notebook from top to bottom: whether it held, and its output."
    status, output = run(["nbdev_test", "--path", path, "--n_workers", "0"], folder,
                         **environment)
    return status == 0, output


def run_lesson_on_other_cpu(path, salt=0, folder=root, **environment):
    """A notebook from top to bottom under the pretended processor number `salt`:
    whether it held, and its output."""
    status, output = run([sys.executable, other_cpu, path, "--salt", salt], folder,
                         **SETTINGS["pretended"] | environment)
    return status == 0, output


def run_tests(path, folder=root, **environment):
    "A test file: whether it held (None: every test in it was skipped), and its output."
    status, output = run([sys.executable, "-m", "pytest", path, "-q", "-p",
                          "no:cacheprovider"], folder, **environment)
    counts = re.findall(r"\b(\d+) (passed|failed|error|skipped)",
                        output.strip().splitlines()[-1] if output.strip() else "")
    if status == 5 or (status == 0 and counts
                       and {kind for _, kind in counts} == {"skipped"}):
        return None, output
    return status == 0, output


def units(folder=root):
    """`(setting, path)` of everything that can be run, the lessons of a setting before
    its tests."""
    lessons, tests = (sorted((folder / name).glob(pattern))
                      for name, pattern in (("nbs", "*.ipynb"), ("tests", "test_*.py")))
    return [(setting, path) for setting in SETTINGS
            for path in lessons + (tests if setting != "pretended" else [])]


def chosen(every, names):
    """Those of `units` that `names` ask for: settings, and beginnings of file names.
    Raises `ValueError` for a name that is neither."""
    settings = [name for name in names if name in SETTINGS]
    files = [name for name in names if name not in SETTINGS]
    for name in files:
        if not any(path.name.startswith(name) for _, path in every):
            raise ValueError(f"{name!r} is no setting and begins no name of a lesson "
                             f"or test: the settings are {', '.join(SETTINGS)}")
    return [(s, path) for s, path in every if (not settings or s in settings) and (
        not files or path.name.startswith(tuple(files)))]


def key(setting, path, folder=root):
    """A hash of the setting, of the versions, and of the code that a unit can reach:
    for a test also the notebooks, the tools and all tests."""
    code = sorted((folder / "vae_course").rglob("*.py"))
    if path.suffix == ".py":
        code += sorted(p for name in ("tests", "tools", "bench")
                       for p in (folder / name).rglob("*.py"))
    elif setting == "pretended":
        code.append(other_cpu)
    books = sorted((folder / "nbs").glob("*.ipynb")) if path.suffix == ".py" else [path]
    text = [sys.version, version("torch"), version("numpy"),
            json.dumps(SETTINGS[setting], sort_keys=True), path.name]
    text += [hashlib.sha256(p.read_bytes()).hexdigest() for p in code] + [
        code_hash(nbformat.read(p, 4)) for p in books]
    return hashlib.sha256("\0".join(text).encode()).hexdigest()[:16]


def hold(setting, path, folder=root):
    "Run one unit: whether it held (None: skipped), and its output."
    if path.suffix == ".py":
        return run_tests(path, folder, **SETTINGS[setting])
    if setting == "pretended":
        return run_lesson_on_other_cpu(path, folder=folder)
    return run_lesson(path, folder, **SETTINGS[setting])


def hold_all(names=(), folder=root):
    """Run what is asked for and has not passed before, a line each; return the counts
    and the names of what failed."""
    kept = folder / ".portable"
    kept.mkdir(exist_ok=True)
    results = kept / "results.json"
    passed = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    count, fell = dict(passed=0, failed=0, skipped=0), []
    for setting, path in chosen(units(folder), names):
        name, code, log = (f"{setting}: {path.stem}", key(setting, path, folder),
                           kept / f"{setting}-{path.stem}.txt")
        if passed.get(name) == code:
            count["passed"] += 1
            print(f"passed  {name} (before)", flush=True)
            continue
        start = time.perf_counter()
        ok, output = hold(setting, path, folder)
        outcome = "skipped" if ok is None else "passed" if ok else "failed"
        count[outcome] += 1
        print(f"{outcome:8}{name} ({time.perf_counter() - start:.0f} s)", flush=True)
        log.unlink(missing_ok=True)
        if outcome == "failed":
            fell.append(name)
            log.write_text(output, encoding="utf-8")
            print("\n".join(f"        {line}"
                            for line in output.strip().splitlines()[-12:]), flush=True)
        if outcome == "passed":
            passed[name] = code
            part = results.with_suffix(".part")
            part.write_text(json.dumps(passed, indent=1), encoding="utf-8")
            os.replace(part, results)
    return count, fell


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*",
                        help="settings, and beginnings of the names of lessons and "
                             "test files; everything when none is given")
    parser.add_argument("--list", action="store_true",
                        help="show the settings and stop")
    asked = parser.parse_args()
    if asked.list:
        for name, environment in SETTINGS.items():
            more = " (lessons, under tests/other_cpu.py)" if name == "pretended" else ""
            values = " ".join(f"{k}={v}" for k, v in environment.items())
            print(f"{name:12}{values}{more}")
        return
    try:
        count, fell = hold_all(asked.names)
    except ValueError as e:
        parser.error(str(e))
    print("".join(f"\nfailed: {name} (.portable/{name.replace(': ', '-')}.txt)"
                  for name in fell))
    print(", ".join(f"{n} {outcome}" for outcome, n in count.items()))
    sys.exit(bool(fell) or not count["passed"])


if __name__ == "__main__":
    main()
