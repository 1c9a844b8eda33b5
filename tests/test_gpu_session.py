"`make gpu`: notebooks cell by cell, jobs that end in time, and what is kept of both."
import argparse, json, subprocess, sys, time
from pathlib import Path

import nbformat, pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tools"))
import gpu_session      # noqa: E402  (a script, not a package)


def asked(tmp_path, **more):
    return argparse.Namespace(**dict(device="cpu", out=tmp_path, quick=False,
                                     notebooks=None) | more)


@pytest.mark.processes
def test_cells_run_in_order_and_go_on_after_one_that_fails(tmp_path):
    cells = ["order = ['first']", "#| eval: false\norder.append('never')",
             "order.append('second')\n1 / 0", "%time order.append('third')",
             "from IPython.display import display\ndisplay(order)",
             "assert order == ['first', 'second', 'third'], order",
             "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()",
             "assert False, 'the claim'"]
    path, report = tmp_path / "01_a.ipynb", tmp_path / "report.json"
    nbformat.write(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# A"),
               *map(nbformat.v4.new_code_cell, cells)]), path)
    done = subprocess.run([sys.executable, gpu_session.__file__, "--run", path, report],
                          capture_output=True, encoding="utf-8")
    found = json.loads(report.read_text(encoding="utf-8"))
    assert done.returncode == 1 and (found["cells"], found["done"]) == (7, 7)
    assert [(f["cell"], f["error"]) for f in found["failed"]] == [
        (3, "ZeroDivisionError: division by zero"), (8, "AssertionError: the claim")]
    assert "1 / 0" in found["failed"][0]["traceback"]


@pytest.mark.processes
@pytest.mark.parametrize("code, outcome", [("print('well')", "passed"),
                                           ("raise SystemExit(3)", "failed")], ids=str)
def test_a_job_says_what_became_of_it(code, outcome):
    job = gpu_session.run_job(dict(part="tests", name="a",
                                   command=[sys.executable, "-c", code]),
                              time.monotonic() + 60)
    assert job["outcome"] == outcome and "well" * (outcome == "passed") in job["output"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_late_job_is_ended_with_all_that_it_started(tmp_path):
    "The child of the job would write a file after its end."
    file = tmp_path / "written"
    child = f"import time; time.sleep(4); open({str(file)!r}, 'w')"
    code = ("import subprocess, sys, time\nprint('begun', flush=True)\n"
            f"subprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)")
    begun = time.monotonic()
    job = gpu_session.run_job(dict(part="tests", name="a",
                                   command=[sys.executable, "-c", code]), begun + 2)
    assert job["outcome"] == "late" and "begun" in job["output"]
    time.sleep(max(0, begun + 7 - time.monotonic()))
    assert not file.exists()


def test_no_job_begins_when_its_time_is_over():
    job = gpu_session.run_job(dict(part="long", name="a", command=["never"]), 0.0)
    assert job["outcome"] == "not begun"


def test_the_report_of_pytest_is_counted_and_told(tmp_path):
    (tmp_path / "r.xml").write_text(
        '<testsuite><testcase classname="a" name="well"/><testcase classname="a" '
        'name="bad"><failure message="AssertionError: 1">its end</failure></testcase>'
        '<testcase classname="a" name="left"><skipped message="no GPU"/></testcase>'
        '</testsuite>', encoding="utf-8")
    assert gpu_session.read_cases(tmp_path / "r.xml") == dict(
        count=dict(passed=1, failed=1, skipped=1),
        failed=[dict(test="a.bad", error="AssertionError: 1", traceback="its end")],
        skipped=["a.left: no GPU"])


def test_the_summary_is_written_after_every_job(tmp_path):
    jobs = []
    for outcome in ("passed", "failed"):
        jobs.append(dict(part="lessons", name=outcome, outcome=outcome, seconds=1.0,
                         command=["x"], output=f"what {outcome} said"))
        gpu_session.keep(tmp_path, dict(commit="abc"), jobs)
        found = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
        assert found["commit"] == "abc" and found["jobs"] == [
            dict(part="lessons", name=j["name"], outcome=j["outcome"], seconds=1.0)
            for j in jobs]
        assert f"what {outcome} said" in (tmp_path / "log.txt").read_text(
            encoding="utf-8")
    assert {p.name for p in tmp_path.iterdir()} == {"summary.json", "log.txt"}


def test_lessons_come_first_and_every_notebook_comes(tmp_path):
    names = [j["name"] for j in gpu_session.jobs_of("lessons", asked(tmp_path),
                                                    tmp_path, 60)]
    assert sorted(names) == sorted(p.stem for p in (root / "nbs").glob("*.ipynb"))
    assert names[0] == "01_latent" and names.index("index") < names.index("70_data")
    few = gpu_session.jobs_of("lessons", asked(tmp_path, notebooks=["03", "17"]),
                              tmp_path, 60)
    assert [j["name"] for j in few] == ["03_elbo", "17_gpu"]


def test_tests_that_need_a_gpu_are_marked_so():
    "Their files are found by the mark, and no other way leaves a test out."
    others = {*(root / "tests").glob("test_*.py")} - {Path(__file__)}
    texts = {p.name: p.read_text(encoding="utf-8") for p in others}
    assert sum("mark.gpu" in text for text in texts.values()) >= 2
    assert not [name for name, text in texts.items() if "skipif(not torch.cuda" in text]


@pytest.mark.slow
@pytest.mark.processes
def test_a_whole_run_without_a_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, gpu_session.__file__, "--device", "cpu", "--quick", "--out",
         tmp_path / "out", "--parts", "lessons", "--notebooks", "02"],
        capture_output=True, encoding="utf-8")
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert done.returncode == 0 and found["quick"] and found["versions"]["torch"]
    assert [(j["name"], j["outcome"]) for j in found["jobs"]] == [
        ("02_reparameterization", "passed")]
