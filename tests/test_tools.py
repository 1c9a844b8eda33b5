"The project's own tools: what `make test` calls slow, runs, and leaves out."
import json, os, subprocess, sys
from pathlib import Path

import nbformat, pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tools"))
import check, passed        # noqa: E402  (they are scripts, not a package)


# ---------------------------------------------------------------- words

@pytest.mark.parametrize("words, steps", [
    ("", {}),
    ("lint types", dict(lint=[], types=[])),
    ("lessons 04 17", dict(lessons=["04", "17"])),
    ("lessons 04 offline 04_training lessons index",
     dict(lessons=["04", "index"], offline=["04_training"])),
    ("pytest test_cli tests/test_data.py cli::test_x site",
     dict(pytest=["test_cli", "tests/test_data.py", "cli::test_x"], site=[])),
    ("lint pytest test_cli -k site -x lint",
     dict(lint=[], pytest=["test_cli", "-k", "site", "-x", "lint"])),
], ids=str)
def test_words_after_a_step_select_within_it(words, steps):
    assert check.understood(words.split()) == steps


@pytest.mark.parametrize("words, message", [
    ("lesson", "no step called lesson: the steps are lint, types, export"),
    ("lessons 66", "no step and no notebook called 66"),
    ("pytest nope", "no step and no file of tests/ called nope"),
    ("pytest plant", "no step and no file of tests/ called plant"),
    ("04", "no step called 04"), ("site -k x", "no step called -k"),
    ("lint quick", "no step called quick.*or quick alone")], ids=str)
def test_a_word_that_means_nothing_is_named(words, message):
    with pytest.raises(ValueError, match=message):
        check.understood(words.split())


@pytest.fixture
def asked(monkeypatch):
    "What `main` calls, in place of running it."
    calls = []
    for name in check.steps:
        def step(*words, name=name, **more):
            calls.append((name, *words, *more.items()))
        monkeypatch.setitem(check.steps, name, step)
    monkeypatch.setattr(check, "check_quick", lambda: calls.append("quick"))
    monkeypatch.setattr(check, "finish", lambda seconds: None)

    def ask(words):
        calls.clear()
        monkeypatch.setattr(sys, "argv", ["check.py", *words.split()])
        check.main()
        return list(calls)
    return ask


def test_no_words_run_everything_in_order_and_leave_nothing_out(asked):
    assert asked("") == [(name,) for name in (
        "lint", "types", "export", "outputs", "lessons", "offline", "pytest", "site")]


def test_named_steps_run_with_their_words_and_may_leave_out_lessons(asked):
    assert asked("pytest test_cli lessons 04 lint") == [
        ("lint",), ("lessons", ["04"], ("leave_out", True)), ("pytest", ["test_cli"])]
    assert asked("lessons") == [("lessons", ("leave_out", True))]
    assert asked("quick") == ["quick"]


def test_the_inner_loop_runs_files_that_are_there_and_no_slow_one(monkeypatch):
    assert all(check.test_file(name) for name in check.quick_tests)
    called = []
    for name in ("lint", "types", "export", "pytest", "lessons"):
        monkeypatch.setattr(check, f"check_{name}", lambda *words, name=name, **more:
                            called.append((name, *words, *more.items())))
    check.check_quick()
    assert called == [("lint",), ("types",), ("export",), (
        "pytest", [*check.quick_tests, "-m",
                   "not slow and not browser and not processes"]),
        ("lessons", ["7", "8", "9"], ("leave_out", True))]


def test_every_file_of_tests_runs_and_the_longest_first():
    files = {f"tests/{p.name}" for p in (root / "tests").glob("test_*.py")}
    order = check.in_order()
    assert len(order) == len(files) and set(order) == files and len(files) > 30
    assert order[:2] == ["tests/test_planted_errors.py", "tests/test_bench.py"]
    assert all(check.test_file(name) for name in check.longest)


def test_every_marker_that_the_inner_loop_leaves_out_is_registered_and_used():
    registered = (root / "pytest.ini").read_text(encoding="utf-8")
    tests = "".join(p.read_text(encoding="utf-8") for p in
                    (root / "tests").glob("test_*.py") if p.name != Path(__file__).name)
    for marker in check.quick_marks.replace("not ", "").split(" and "):
        assert f"    {marker}: " in registered and f"pytest.mark.{marker}" in tests


def test_ci_runs_everything():
    ci = (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert ci[-1] == "make test" and any("REQUIRE_ALL=1" in line for line in ci)


@pytest.mark.parametrize("found, code", [
    ([], 1), ([("a", "b", "passed", "")], 0),
    ([("a", "b", "passed", ""), ("a", "c", "failed", "why")], 1),
    ([("a", "b", "skipped", "no data")], 1),
    ([("lesson", "b", "skipped", "unchanged since it passed")], 0)], ids=str)
def test_the_exit_status_says_whether_all_holds(monkeypatch, capsys, found, code):
    monkeypatch.delenv("REQUIRE_ALL", raising=False)
    monkeypatch.setattr(check, "results", found)
    with pytest.raises(SystemExit) as e:
        check.finish(1.0)
    assert e.value.code == code
    assert f"{sum(r[2] == 'failed' for r in found)} failed" in capsys.readouterr().out


@pytest.mark.parametrize("why, code", [("no GPU: needs one", 0), ("no data", 1)])
def test_where_all_is_required_only_a_missing_gpu_is_excused(monkeypatch, why, code):
    monkeypatch.setenv("REQUIRE_ALL", "1")
    monkeypatch.setattr(check, "results", [("a", "b", "passed", ""),
                                           ("a", "c", "skipped", why)])
    with pytest.raises(SystemExit) as e:
        check.finish(1.0)
    assert e.value.code == code


# ---------------------------------------------------------------- what is left out

def notebook(path, *cells):
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbformat.write(nb, path)
    return path


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A made-up project: a notebook, a room that it imports, one behind it, one apart."
    for name, source in dict(
            __init__="", near="from .far import f\n", far="def f(): return 1\n",
            apart="x = 1\n", late="y = 1\n").items():
        (tmp_path / "vae_course").mkdir(exist_ok=True)
        (tmp_path / "vae_course" / f"{name}.py").write_text(source, encoding="utf-8")
    (tmp_path / "settings.ini").write_text("version = 1\n", encoding="utf-8")
    notebook(tmp_path / "01_a.ipynb", "from vae_course.near import f", "%time f()",
             "def g():\n    from vae_course import late\n    return late.y")
    return tmp_path


def state(project):
    return passed.state(project / "01_a.ipynb", project)


def test_what_a_notebook_imports_is_followed_to_its_end(project):
    names = passed.imports(passed.code(project / "01_a.ipynb"))
    assert set(passed.closure(names, project)) == {
        "vae_course", "vae_course.near", "vae_course.far", "vae_course.late"}


@pytest.mark.parametrize("source, module, names", [
    ("from ..latent import x", "vae_course.exercises.elbo", "vae_course.latent"),
    ("from . import latent", "vae_course.elbo", "vae_course.latent"),
    ("from .verdict import x", "vae_course.exercises", "vae_course.exercises.verdict"),
    ("import vae_course.cli as c", "", "vae_course.cli"),
    ("run('python -m vae_course.cli train')", "", "vae_course.cli")], ids=str)
def test_every_way_to_import_is_seen(source, module, names):
    assert names in passed.imports(source, module, module.endswith("exercises"))


def test_prose_outputs_and_other_rooms_may_change(project):
    before = state(project)
    nb = nbformat.read(project / "01_a.ipynb", 4)
    nb.cells.append(nbformat.v4.new_markdown_cell("A word."))
    nb.cells[0].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(nb, project / "01_a.ipynb")
    (project / "vae_course" / "apart.py").write_text("x = 2\n", encoding="utf-8")
    assert state(project) == before


@pytest.mark.parametrize("what", ["vae_course/near.py", "vae_course/far.py",
                                  "vae_course/late.py", "settings.ini"])
def test_what_a_notebook_rests_on_may_not(project, what):
    before = state(project)
    with open(project / what, "a", encoding="utf-8") as f:
        f.write("# changed\n")
    assert state(project) != before


def test_nor_its_code_nor_versions_nor_the_environment(project, monkeypatch):
    before = state(project)
    monkeypatch.setenv("VAE_COURSE_DATA", "/elsewhere")
    other_data = state(project)
    monkeypatch.setattr(passed, "versions", lambda: "torch==9")
    other_torch = state(project)
    first, *rest = (c.source for c in nbformat.read(project / "01_a.ipynb", 4).cells)
    notebook(project / "01_a.ipynb", first, *rest, "f() + 1")
    assert len({before, other_data, other_torch, state(project)}) == 4


def test_a_notebook_of_ipython_s_own_words_rests_on_everything(project):
    notebook(project / "01_a.ipynb", "files = !ls")
    before = state(project)
    (project / "vae_course" / "apart.py").write_text("x = 2\n", encoding="utf-8")
    assert state(project) != before


def test_results_of_benches_count_where_they_are_read(project):
    (project / "bench").mkdir()
    kept = project / "bench" / "speed.json"
    kept.write_text("1", encoding="utf-8")
    before = state(project)
    kept.write_text("2", encoding="utf-8")
    assert state(project) == before
    notebook(project / "01_a.ipynb", "open('../bench/results/speed.json')")
    before = state(project)
    kept.write_text("3", encoding="utf-8")
    assert state(project) != before


def test_what_passed_is_kept_whole_and_a_spoiled_file_is_no_error(
        tmp_path, monkeypatch):
    file = tmp_path / "cache" / "passed.json"
    assert passed.known(file) == {}
    passed.note("a", "1", file)
    passed.note("b", "2", file)
    assert passed.known(file) == dict(a="1", b="2")
    passed.note("a", None, file)
    assert passed.known(file) == dict(b="2")

    def full(*args): raise OSError("no space")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(os, "replace", full)
        passed.note("c", "3", file)
    assert passed.known(file) == dict(b="2")
    file.write_text("[1", encoding="utf-8")
    assert passed.known(file) == {}
    file.write_text("[1]", encoding="utf-8")
    assert passed.known(file) == {}


@pytest.fixture
def lessons(project, monkeypatch):
    "`check_lessons` on the made-up project: the outcomes, and how often it ran."
    for name in ("CI", "REQUIRE_ALL"):
        monkeypatch.delenv(name, raising=False)
    ran, status, seconds, real = [], [0], [1, 1], passed.state
    kept = project / "cache" / "passed.json"
    known, note = passed.known, passed.note
    monkeypatch.setattr(check, "notebooks", lambda names=(): [project / "01_a.ipynb"])
    monkeypatch.setattr(passed, "state", lambda path: real(path, project))
    monkeypatch.setattr(passed, "known", lambda file=kept: known(file))
    monkeypatch.setattr(passed, "note", lambda name, value: note(name, value, kept))

    def run(path, **environment):
        ran.append(environment)
        return status[0], "output", seconds[len(ran) - 1]
    monkeypatch.setattr(check, "run_notebook", run)

    def go(leave_out=True, fails=False, takes=(1, 1)):
        monkeypatch.setattr(check, "results", [])
        status[0], seconds[:] = int(fails), takes
        ran.clear()
        check.check_lessons(leave_out=leave_out)
        return check.results[0][2], len(ran)
    go.ran = ran
    return go


def test_a_lesson_has_two_minutes_and_is_judged_alone(lessons):
    """Beside another, with one thread; only one that is too slow so is run again, with
    all cores, and that time counts."""
    assert check.limit == 120 and lessons(takes=(119, 0)) == ("passed", 1)
    assert lessons.ran == [dict(OMP_NUM_THREADS="1")]
    assert lessons(False, takes=(121, 90)) == ("passed", 2)
    assert lessons.ran == [dict(OMP_NUM_THREADS="1"), {}]
    assert lessons(False, takes=(150, 121)) == ("failed", 2)
    assert check.results[0][3] == "took 121 s alone; the limit is 120 s"
    assert lessons(False, fails=True, takes=(150, 150)) == ("failed", 1)


def test_an_unchanged_lesson_is_left_out_once_it_passed(lessons, project):
    assert lessons() == ("passed", 1) and lessons() == ("skipped", 0)
    assert check.results[0][3] == "unchanged since it passed"
    with open(project / "vae_course" / "far.py", "a", encoding="utf-8") as f:
        f.write("# changed\n")
    assert lessons() == ("passed", 1) and lessons() == ("skipped", 0)


def test_a_lesson_that_failed_is_run_again(lessons):
    assert lessons(fails=True) == ("failed", 1) == lessons(fails=True)
    assert lessons() == ("passed", 1)
    assert lessons(leave_out=False, fails=True) == ("failed", 1)
    assert lessons() == ("passed", 1)       # what it once did counts no longer


@pytest.mark.parametrize("name, value", [("CI", "true"), ("REQUIRE_ALL", "1")])
def test_nothing_is_left_out_in_ci_nor_by_a_whole_run(
        lessons, monkeypatch, name, value):
    assert lessons() == ("passed", 1)
    assert lessons(leave_out=False) == ("passed", 1)
    monkeypatch.setenv(name, value)
    assert lessons() == ("passed", 1)


def test_the_cache_is_not_in_the_repository():
    ignored = (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".cache/" in ignored and passed.file.parent == root / ".cache"


# ---------------------------------------------------------------- configuration

def test_versions_of_the_tools_that_judge_are_pinned_alike():
    "Another version finds other faults; so one is named, in both places."
    pins = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    settings = (root / "settings.ini").read_text(encoding="utf-8")
    wanted = next(line for line in settings.splitlines()
                  if line.startswith("dev_requirements")).split()
    for tool in ("ruff", "mypy"):
        pin, = (p for p in wanted if p.startswith(f"{tool}=="))
        assert pin in pins


@pytest.mark.parametrize("source, rule", [
    ("import os\n", "F401"), ("x = undefined\n", "F821"), ("x = 1 \n", "W291"),
    ("def f(x=[]): return x\n", "B006"), (f"x = '{'a' * 90}'\n", "E501"),
    ("def f():\n    x = 1\n", "F841"), ("x = 1\nif x is 1: x\n", "F632")], ids=str)
def test_lint_finds_real_faults(source, rule):
    ruff = [sys.executable, "-m", "ruff", "check", "--output-format", "json",
            "--no-cache", "--stdin-filename", "tools/made_up.py", "-"]
    done = subprocess.run(ruff, cwd=root, input=source, capture_output=True,
                          encoding="utf-8")
    assert rule in {fault["code"] for fault in json.loads(done.stdout)}, done.stderr


def test_lint_reads_notebooks_and_types_read_package_and_tools():
    lint = (root / "ruff.toml").read_text(encoding="utf-8")
    assert '"nbs/*.ipynb"' in lint and '"vae_course/**/*.py"' in lint
    types = (root / "mypy.ini").read_text(encoding="utf-8").splitlines()
    assert "files = vae_course, tools" in types


def test_a_wrong_hint_is_found(tmp_path):
    made = tmp_path / "made.py"
    made.write_text("def f(x: int) -> str:\n    return x\n", encoding="utf-8")
    mypy = [sys.executable, "-m", "mypy", "--config-file", root / "mypy.ini",
            "--cache-dir", tmp_path / "cache", made]
    done = subprocess.run(mypy, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "got \"int\", expected \"str\"" in done.stdout
