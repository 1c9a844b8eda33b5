"""`tools/portable.py` on a tiny course: what passes is not run again, what fails is
named, what changes is run again."""
import json, re, shutil, sys
from pathlib import Path

import nbformat
import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tools"))
portable = pytest.importorskip("portable")

pytestmark = pytest.mark.slow


@pytest.fixture()
def course(tmp_path):
    """A folder with a lesson and a test that hold, a lesson and a test that do not, and
    a test that is skipped."""
    for name in ("nbs", "tests", "vae_course"): (tmp_path / name).mkdir()
    shutil.copy(root / "settings.ini", tmp_path)
    (tmp_path / "vae_course" / "__init__.py").write_text("", encoding="utf-8")
    lessons = {"01_good": "import os\nassert os.environ['OMP_NUM_THREADS'] in '12'",
               "02_bad": "assert 1 == 2, 'one is not two'"}
    for name, code in lessons.items():
        write_lesson(tmp_path / "nbs" / f"{name}.ipynb", code)
    tests = {"good": "def test(): pass", "bad": "def test(): assert 3 == 4",
             "skipped": "import pytest\n@pytest.mark.skip('no GPU')\ndef test(): pass"}
    for name, code in tests.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(code, encoding="utf-8")
    return tmp_path


def write_lesson(path, code):
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]),
                   path)


def lines(text):
    "The lines of results, without their seconds."
    return [re.sub(r" +\(\d+ s\)", "", line) for line in text.splitlines()
            if line[:8].strip() in ("passed", "failed", "skipped")]


def test_a_run_names_what_fell_and_goes_on_where_it_was(course, capsys):
    count, fell = portable.hold_all(["threads"], course)
    assert (count == dict(passed=2, failed=2, skipped=1)
            and fell == ["threads: 02_bad", "threads: test_bad"])
    said = capsys.readouterr().out
    assert lines(said) == ["passed  threads: 01_good", "failed  threads: 02_bad",
                           "failed  threads: test_bad", "passed  threads: test_good",
                           "skipped threads: test_skipped"]
    assert "one is not two" in said and "one is not two" in (
        course / ".portable" / "threads-02_bad.txt").read_text(encoding="utf-8")
    assert set(json.loads((course / ".portable" / "results.json").read_text(
        encoding="utf-8"))) == {"threads: 01_good", "threads: test_good"}

    # mended, only what failed or changed runs again
    ran = []
    write_lesson(course / "nbs" / "02_bad.ipynb", "assert 1 == 1")
    hold, portable.hold = portable.hold, lambda *a: ran.append(a[1].stem) or hold(*a)
    try: count, fell = portable.hold_all(["threads", "01", "02"], course)
    finally: portable.hold = hold
    assert (
        ran == ["02_bad"] and count == dict(passed=2, failed=0, skipped=0) and not fell)
    assert (lines(capsys.readouterr().out) == ["passed  threads: 01_good (before)",
                                               "passed  threads: 02_bad"]
            and not (course / ".portable" / "threads-02_bad.txt").exists())


def test_the_key_follows_the_code_that_a_unit_reaches(course):
    good, test = course / "nbs" / "01_good.ipynb", course / "tests" / "test_good.py"
    keys = lambda: (portable.key("plain", good, course),
                    portable.key("plain", test, course))
    before = keys()
    nb = nbformat.read(good, 4)
    nb.cells.append(nbformat.v4.new_markdown_cell("Prose alone."))
    nbformat.write(nb, good)
    assert keys() == before and portable.key("avx2", good, course) != before[0]
    write_lesson(course / "nbs" / "02_bad.ipynb", "assert 2 == 2")
    # a test may read any notebook
    assert keys()[0] == before[0] and keys()[1] != before[1]
    between = keys()
    (course / "vae_course" / "__init__.py").write_text("x = 1", encoding="utf-8")
    assert all(a != b for a, b in zip(keys(), between))


def test_names_choose(course):
    every = portable.units(course)
    assert len(every) == 3 * 5 + 2 and {s for s, _ in every} == set(portable.SETTINGS)
    assert ([(s, p.stem) for s, p in portable.chosen(every, ["avx2", "test_g", "01"])]
            == [("avx2", "01_good"), ("avx2", "test_good")])
    with pytest.raises(ValueError, match="no setting and begins no name.*plain, avx2, "
                                         "threads, pretended"):
        portable.chosen(every, ["sse"])


def test_a_claim_across_batch_sizes_falls_on_the_pretended_processor(course):
    claim = ("import torch\nnetwork, x = torch.nn.Linear(20, 3), torch.rand(50, "
             "20)\nassert {}")
    path = course / "nbs" / "01_good.ipynb"
    write_lesson(path, claim.format("torch.equal(network(x[:5]), network(x)[:5])"))
    ok, output = portable.run_lesson_on_other_cpu(path)
    assert not ok and "01_good, cell 0: AssertionError" in output
    write_lesson(path, claim.format(
        "torch.allclose(network(x[:5]), network(x)[:5], rtol=1e-4, atol=1e-6)"))
    ok, output = portable.run_lesson_on_other_cpu(path)
    assert ok and "every cell holds" in output, output


def test_there_are_three_settings_beside_the_pretended_one():
    assert len(portable.SETTINGS) >= 4 and len(
        {json.dumps(e) for e in portable.SETTINGS.values()}) == len(portable.SETTINGS)
    assert (".portable/" in (root / ".gitignore").read_text(encoding="utf-8")
            and "tools/portable.py" in (root / "Makefile").read_text(encoding="utf-8"))
