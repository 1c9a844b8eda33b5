"""`make test`: everything that must hold, one line each, and a closing line of real counts.

Environment: REQUIRE_ALL=1 makes every skip but "no GPU" a failure. VAE_COURSE_DATA names a folder of data sets."""
import os, re, shutil, subprocess, sys, tempfile, time
import xml.etree.ElementTree as xml
from pathlib import Path

from lessons import notebooks, root, stale

limit = 120                                   # seconds that one notebook may take on an idle machine
without_data = ("03", "04", "05", "07", "08", "09", "10", "17")             # lessons that must also hold with no data set and no network
bin_dir = Path(sys.executable).parent
results = []                                  # (kind, name, outcome, detail)


def record(kind, name, problem="", skipped=False):
    "Note and print one result; `problem` says why it failed or was skipped."
    outcome = "skipped" if skipped else "failed" if problem else "passed"
    results.append((kind, name, outcome, problem))
    print(f"{outcome:8}{kind}: {name}" + (f"\n        {problem}" if problem else ""), flush=True)


def run(command, **environment):
    "Run a command in the project's root; return its exit status, its output and its seconds."
    start = time.perf_counter()
    done = subprocess.run([str(c) for c in command], cwd=root, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=os.environ | {"PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"} | environment)
    return done.returncode, done.stdout, time.perf_counter() - start


def processor_seconds():
    "Seconds that all processors together have worked, and those that this process's finished children have: `(all, ours)`; where that is not told (outside Linux), `(0, 0)`."
    try:
        user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:])
    except (OSError, ValueError):
        return 0.0, 0.0
    t = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), t.children_user + t.children_system


def too_slow(seconds, others):
    "What is wrong with a notebook that took so many seconds while the processors worked so many for `others`; nothing when they had much other work, since then nobody can tell."
    return f"took {seconds:.0f} s on an idle machine; the limit is {limit} s" if seconds > limit and others < 0.1 * seconds else ""


def check_export():
    "`vae_course/` is what the notebooks export, and the notebooks are clean: shown on a copy."
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "copy"
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in ("nbs", "vae_course"):
            shutil.copytree(root / name, copy / name, ignore=ignore)
        for name in ("settings.ini", "setup.py", "README.md"):
            shutil.copy(root / name, copy / name)
        for command in ("nbdev_export", "nbdev_clean"):
            done = subprocess.run([bin_dir / command], cwd=copy, encoding="utf-8", capture_output=True)
            if done.returncode:
                return record("sync", command, done.stdout + done.stderr)
        for folder, pattern, cure in (("vae_course", "**/*.py", "run `nbdev_export`"), ("nbs", "*.ipynb", "run `nbdev_clean`")):
            names = {p.relative_to(base / folder).as_posix() for base in (root, copy) for p in (base / folder).glob(pattern)}
            differing = sorted(n for n in names if not (root / folder / n).exists() or not (copy / folder / n).exists()
                               or (root / folder / n).read_bytes() != (copy / folder / n).read_bytes())
            record("sync", folder, f"not in step: {', '.join(differing)}; {cure} and commit" if differing else "")


def check_outputs():
    "The stored outputs belong to the code beside them."
    wrong = [f"{p.name} {why}" for p in notebooks() if (why := stale(p))]
    record("outputs", "stored outputs belong to their code", "; ".join(wrong))


def check_lesson(path, kind, **environment):
    "One notebook from top to bottom under nbdev_test."
    before = processor_seconds()
    status, output, seconds = run(["nbdev_test", "--path", path, "--n_workers", "0"], TQDM_DISABLE="1", **environment)
    (everything, ours) = (b - a for a, b in zip(before, processor_seconds()))
    others = everything - ours
    busy = f", beside {others:.0f} s of other work" if others > 0.1 * seconds else ""
    record(kind, f"{path.stem} ({seconds:.0f} s{busy})", output[-3000:] if status else too_slow(seconds, others))


def check_lessons():
    "Every notebook, one after another with all cores as a reader runs it; and some again as on a machine with neither data nor network."
    for path in notebooks():
        check_lesson(path, "lesson")
    with tempfile.TemporaryDirectory() as empty:
        nowhere = {"VAE_COURSE_DATA": "", "XDG_CACHE_HOME": empty}
        nowhere |= {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
        nowhere |= {name: "" for name in ("no_proxy", "NO_PROXY")}
        for path in notebooks(without_data):
            check_lesson(path, "lesson without data or network", **nowhere)


def check_pytest():
    "The tests that a notebook cannot hold, each counted; two files at a time, one thread each."
    with tempfile.TemporaryDirectory() as tmp:
        report = Path(tmp) / "report.xml"
        status, output, seconds = run([sys.executable, "-m", "pytest", "tests", "-q", "-n", "2", "--dist", "loadfile", "--durations=10", f"--junitxml={report}"], OMP_NUM_THREADS="1")
        print(re.sub(r"^(\d+ (passed|failed|skipped)).*$", "", output[-6000:], flags=re.M).rstrip())
        if not report.exists():
            return record("pytest", "start", output[-3000:])
        for case in xml.parse(report).iter("testcase"):
            skip, bad = case.find("skipped"), [*case.findall("failure"), *case.findall("error")]
            name = f"{case.get('classname')}.{case.get('name')}"
            if skip is not None:
                record("pytest", name, skip.get("message") or "no reason given", skipped=True)
            elif bad:
                record("pytest", name, (bad[0].get("message") or "")[:500])
            else:
                results.append(("pytest", name, "passed", ""))
        print(f"        pytest took {seconds:.0f} s")


def check_site():
    "The site builds, and no link in it is broken."
    with tempfile.TemporaryDirectory() as tmp:
        status, output, seconds = run([sys.executable, root / "tools" / "site.py", "--out", tmp])
        record("site", f"builds with no broken link ({seconds:.0f} s)", output[-3000:] if status else "")


def main():
    start = time.perf_counter()
    steps = dict(export=check_export, outputs=check_outputs, lessons=check_lessons, pytest=check_pytest, site=check_site)
    unknown = [name for name in sys.argv[1:] if name not in steps]
    if unknown:
        sys.exit(f"no step called {', '.join(unknown)}: there are {', '.join(steps)}")
    for name, step in steps.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            step()
    if os.environ.get("REQUIRE_ALL") == "1":
        results[:] = [(k, n, "failed" if o == "skipped" and "no GPU" not in why else o, why) for k, n, o, why in results]
    count = {o: sum(r[2] == o for r in results) for o in ("passed", "failed", "skipped")}
    print()
    for outcome in ("skipped", "failed"):
        for kind, name, got, why in results:
            if got == outcome:
                print(f"{outcome}: {kind}: {name}: {why.strip().splitlines()[-1] if why.strip() else 'no reason given'}")
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    print(", ".join(f"{n} {o}" for o, n in count.items()))
    sys.exit(bool(count["failed"]) or not count["passed"])


if __name__ == "__main__":
    main()
