"""`make test`: everything that must hold, one line each, and a closing line of counts.

    tools/check.py                  every step, in this order: lint, types, export,
                                    outputs, lessons, offline, pytest, site
    tools/check.py lint types       these steps
    tools/check.py lessons 04 17    the notebooks whose names begin so; `outputs` and
                                    `offline` take such words, too
    tools/check.py pytest test_cli test_data -k size
                                    these files of tests/; from the first option on,
                                    all words are pytest's own
    tools/check.py quick            the inner loop, in less than a minute: lint, types,
                                    export, fast tests, changed workshop notebooks

Where steps are named, a notebook that passed as it stands (`passed.py`) is left out;
never in CI, nor where REQUIRE_ALL is 1, nor when everything runs.

Environment: REQUIRE_ALL=1 makes every skip but "no GPU" a failure. VAE_COURSE_DATA
names a folder of data sets."""
import os, re, shutil, subprocess, sys, tempfile, time
import xml.etree.ElementTree as xml
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import passed
from lessons import notebooks, root, stale

limit = 120         # seconds that one notebook may take on an idle machine
# lessons that must also hold with no data set and no network
without_data = ("03", "04", "05", "07", "08", "09", "10", "11", "12", "13", "14", "15",
                "16", "17")
# what `make quick` runs: every model is built, trained, saved and asked; every check
quick_tests = ("tools", "names", "old_names", "workshop", "models", "training", "traps",
               "promises", "cvae", "exercises")
# files that take longest: they start first, so that none is left alone at the end
longest = ("planted_errors", "bench", "live", "encoding", "cli", "lab", "far_device",
           "wheel", "site", "processes", "portable", "data", "readme", "live_more",
           "live_deep")
quick_marks = "not slow and not browser and not processes"
bin_dir = Path(sys.executable).parent
results: list[tuple[str, str, str, str]] = []       # kind, name, outcome, detail


def record(kind: str, name: str, problem: str = "", skipped: bool = False) -> None:
    "Note and print one result; `problem` says why it failed or was skipped."
    outcome = "skipped" if skipped else "failed" if problem else "passed"
    results.append((kind, name, outcome, problem))
    print(f"{outcome:8}{kind}: {name}" + (f"\n        {problem}" if problem else ""),
          flush=True)


def run(command: Iterable[object], **environment: str) -> tuple[int, str, float]:
    "Run a command in the project's root: its exit status, its output and its seconds."
    start = time.perf_counter()
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(c) for c in command], cwd=root, encoding="utf-8",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"PATH": path} | environment)
    return done.returncode, done.stdout, time.perf_counter() - start


def check_lint() -> None:
    "The form of the code: `ruff.toml` says what is asked."
    status, output, _ = run([sys.executable, "-m", "ruff", "check",
                             "--output-format", "concise", "."])
    record("lint", "ruff", output[-6000:] if status else "")


def check_types() -> None:
    "The type hints are true: `mypy.ini` says where."
    status, output, _ = run([sys.executable, "-m", "mypy"])
    record("types", "mypy", output[-6000:] if status else "")


def files_of(folder: Path, pattern: str) -> dict[str, bytes]:
    "The files of a folder, each with what is in it."
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in folder.glob(pattern) if ".ipynb_checkpoints" not in p.parts}


def check_export() -> None:
    "`vae_course/` is what the notebooks export, and these are clean: shown on a copy."
    steps = (("vae_course", "**/*.py", "nbdev_export"),
             ("nbs", "*.ipynb", "nbdev_clean"))
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "copy"
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in ("nbs", "vae_course"):
            shutil.copytree(root / name, copy / name, ignore=ignore)
        for name in ("settings.ini", "setup.py", "README.md"):
            shutil.copy(root / name, copy / name)
        for _, _, command in steps:
            done = subprocess.run([bin_dir / command], cwd=copy, encoding="utf-8",
                                  capture_output=True)
            if done.returncode:
                return record("sync", command, done.stdout + done.stderr)
        for folder, pattern, command in steps:
            ours, made = (files_of(base / folder, pattern) for base in (root, copy))
            differing = sorted(n for n in {*ours, *made} if ours.get(n) != made.get(n))
            record("sync", folder, f"not in step: {', '.join(differing)}; run "
                                   f"`{command}` and commit" if differing else "")


def check_outputs(names: Iterable[str] = ()) -> None:
    "The stored outputs belong to the code beside them."
    wrong = [f"{p.name} {why}" for p in notebooks(names) if (why := stale(p))]
    record("outputs", "stored outputs belong to their code", "; ".join(wrong))


def run_notebook(path: Path, **environment: str) -> tuple[int, str, float]:
    "One notebook from top to bottom under nbdev_test."
    return run(["nbdev_test", "--path", path, "--n_workers", "0"],
               TQDM_DISABLE="1", **environment)


def check_lessons(names: Iterable[str] = (), leave_out: bool = False) -> None:
    """Every notebook, two at a time with one thread each; one that takes longer than
    `limit` so is run again, alone and with all cores. With `leave_out`, those that
    passed as they stand are skipped."""
    leave_out = leave_out and passed.may_leave_out()
    left, states = [], {}
    for path in notebooks(names):
        states[path] = passed.state(path)
        if leave_out and passed.known().get(path.name) == states[path]:
            record("lesson", path.stem, "unchanged since it passed", skipped=True)
        else:
            left.append(path)
    late = []
    with ThreadPoolExecutor(2) as two:
        runs = two.map(lambda path: run_notebook(path, OMP_NUM_THREADS="1"), left)
        for path, (status, output, seconds) in zip(left, runs):
            if seconds > limit and not status:
                late.append(path)
            else:
                lesson_ran(path, states[path], f"{seconds:.0f} s",
                           output[-3000:] if status else "")
    for path in late:
        status, output, seconds = run_notebook(path)
        slow = f"took {seconds:.0f} s alone; the limit is {limit} s"
        lesson_ran(path, states[path], f"{seconds:.0f} s, alone",
                   output[-3000:] if status else slow if seconds > limit else "")


def lesson_ran(path: Path, state: str, how: str, problem: str) -> None:
    "Note that a notebook has passed, as it stood when it started, or not."
    passed.note(path.name, None if problem else state)
    record("lesson", f"{path.stem} ({how})", problem)


def check_offline(names: Iterable[str] = ()) -> None:
    """Lessons as on a machine with neither data nor network; two at a time, one thread
    each, since nothing is asked of their time."""
    with tempfile.TemporaryDirectory() as empty, ThreadPoolExecutor(2) as two:
        there = {"VAE_COURSE_DATA": "", "XDG_CACHE_HOME": empty, "OMP_NUM_THREADS": "1"}
        there |= {name: "http://127.0.0.1:9" for name in
                  ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        there |= {name: "" for name in ("no_proxy", "NO_PROXY")}
        chosen = [p for p in notebooks(without_data) if p in notebooks(names)]
        runs = two.map(lambda path: run_notebook(path, **there), chosen)
        for path, (status, output, seconds) in zip(chosen, runs):
            record("lesson without data or network", f"{path.stem} ({seconds:.0f} s)",
                   output[-3000:] if status else "")


def in_order() -> list[str]:
    "Every file of tests, those that take longest first."
    names = [f"tests/{p.name}" for p in sorted((root / "tests").glob("test_*.py"))]
    first = [test_file(name) for name in longest]
    return [n for n in first if n] + [n for n in names if n not in first]


def check_pytest(words: Iterable[str] = ()) -> None:
    """The tests that a notebook cannot hold, each counted; two files at a time, one
    thread each. `words` are files of tests/ and then pytest's own options."""
    chosen = [test_file(w) if test_file(w) else w for w in words]
    where = [] if any(test_file(w) for w in words) else in_order()
    with tempfile.TemporaryDirectory() as tmp:
        report = Path(tmp) / "report.xml"
        status, output, seconds = run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile",
             "--no-loadscope-reorder", "--durations=10", f"--junitxml={report}",
             *where, *chosen],
            OMP_NUM_THREADS="1")
        counted = r"^(\d+ (passed|failed|skipped)).*$"
        print(re.sub(counted, "", output[-6000:], flags=re.M).rstrip())
        if not report.exists():
            return record("pytest", "start", output[-3000:])
        for case in xml.parse(report).iter("testcase"):
            skip = case.find("skipped")
            bad = [*case.findall("failure"), *case.findall("error")]
            name = f"{case.get('classname')}.{case.get('name')}"
            if skip is not None:
                why = skip.get("message") or "no reason given"
                record("pytest", name, why, skipped=True)
            elif bad:
                record("pytest", name, (bad[0].get("message") or "")[:500])
            else:
                results.append(("pytest", name, "passed", ""))
        failed = [n for kind, n, o, _ in results if (kind, o) == ("pytest", "failed")]
        if status and not failed:
            record("pytest", "end", output[-3000:])
        print(f"        pytest took {seconds:.0f} s")


def check_quick() -> None:
    "The inner loop: form, hints, export, fast tests, changed workshop notebooks."
    check_lint()
    check_types()
    check_export()
    check_pytest([*quick_tests, "-m", quick_marks])
    check_lessons(["7", "8", "9"], leave_out=True)


def check_site() -> None:
    "The site builds, and no link in it is broken."
    with tempfile.TemporaryDirectory() as tmp:
        site = root / "tools" / "site.py"
        status, output, seconds = run([sys.executable, site, "--out", tmp])
        record("site", f"builds with no broken link ({seconds:.0f} s)",
               output[-3000:] if status else "")


steps = dict(lint=check_lint, types=check_types, export=check_export,
             outputs=check_outputs, lessons=check_lessons, offline=check_offline,
             pytest=check_pytest, site=check_site)
take_notebooks = ("outputs", "lessons", "offline")


def test_file(word: str) -> str:
    "The file of tests/ that a word names, such as `test_cli` or `cli`; or nothing."
    if word.startswith("-") or not word:
        return ""
    name, *rest = word.split("::")
    stem = Path(name).name.removesuffix(".py")
    there = [f"tests/{s}.py" for s in (stem, f"test_{stem}")
             if (root / "tests" / f"{s}.py").is_file() and s.startswith("test_")]
    return "::".join([there[0], *rest]) if there else ""


def understood(words: Iterable[str]) -> dict[str, list[str]]:
    """The steps that words ask for, each with the words that select within it. Raises
    `ValueError` naming a word that is no step and selects nothing."""
    found: dict[str, list[str]] = {}
    step, options = "", False
    for word in words:
        options = options or (step == "pytest" and word.startswith("-"))
        if options:
            found[step].append(word)
        elif word in steps:
            step = word
            found.setdefault(step, [])
        elif step in take_notebooks and notebooks([word]):
            found[step].append(word)
        elif step == "pytest" and test_file(word):
            found[step].append(word)
        else:
            kind = ("step and no notebook" if step in take_notebooks else
                    "step and no file of tests/" if step == "pytest" else "step")
            raise ValueError(f"no {kind} called {word}: the steps are "
                             f"{', '.join(steps)}, or quick alone")
    return found


def main() -> None:
    start = time.perf_counter()
    words = sys.argv[1:]
    try:
        asked = understood([] if words == ["quick"] else words)
    except ValueError as e:
        sys.exit(str(e))
    if words == ["quick"]:
        check_quick()
    for name, step in steps.items():
        if not words or name in asked:
            more = dict(leave_out=True) if words and name == "lessons" else {}
            step(*([asked[name]] if asked.get(name) else []), **more)
    finish(time.perf_counter() - start)


def finish(seconds: float) -> None:
    "Name what failed and what was skipped, count, and exit with what that means."
    if os.environ.get("REQUIRE_ALL") == "1":
        results[:] = [(k, n, "failed" if o == "skipped" and "no GPU" not in why else o,
                       why) for k, n, o, why in results]
    count = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for _, _, outcome, _ in results:
        count[outcome] += 1
    print()
    for outcome in ("skipped", "failed"):
        for kind, name, got, why in results:
            if got == outcome:
                last = (why.strip().splitlines() or ["no reason given"])[-1]
                print(f"{outcome}: {kind}: {name}: {last}")
    print(f"\n{seconds:.0f} s in all")
    print(", ".join(f"{n} {o}" for o, n in count.items()))
    unchanged = any(why == "unchanged since it passed" for *_, why in results)
    sys.exit(bool(count["failed"]) or not (count["passed"] or unchanged))


if __name__ == "__main__":
    main()
