"""Results of the benches: those of version 0.1.0 are read with today's keys, by the
benches and by the page that shows them."""
import json
import sys
from pathlib import Path

import nbformat
import pytest

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "bench"))
import common     # noqa: E402  (a script, not a package)

files = sorted((root / "tests" / "files").glob("*-0.1.0.json"))
files = [f for f in files if f.name != "names-0.1.0.json"]           # not of a bench
shared = sorted((root.parent / "shared" / "results").glob("*.json"))
old = {key.rpartition(".")[2] for key in common.renamed}
asked_of_a_clock = {"clock": {"asked": 0.1, "done": 0.2}}            # of lesson 17


def keys(result):
    "Every key of a result, however deep."
    if isinstance(result, list):
        return set().union(*map(keys, result))
    if not isinstance(result, dict):
        return set()
    return set(result).union(*map(keys, result.values()))


def leaves(result):
    "Every value of a result that is no dict or list, in its order."
    if isinstance(result, (list, dict)):
        parts = result.values() if isinstance(result, dict) else result
        return [leaf for part in parts for leaf in leaves(part)]
    return [result]


def of_page():
    "The names that the page defines where it reads results."
    nb = nbformat.read(root / "nbs" / "results.ipynb", as_version=4)
    cell, = [c.source for c in nb.cells if "renamed = {" in c.source]
    names = dict(json=json, Path=Path)
    exec(cell, names)
    return names


@pytest.fixture(params=["bench", "page"])
def read_result(request):
    "How a bench reads a result, and how the page does."
    return common.read_result if request.param == "bench" else of_page()["read_result"]


def backwards(result, above=""):
    "A result of today as version 0.1.0 would have written it."
    names = {new: key for key, new in common.renamed.items() if "." not in key}
    below = {(key.rpartition(".")[0], new): key.rpartition(".")[2]
             for key, new in common.renamed.items() if "." in key}
    if isinstance(result, list):
        return [backwards(part, above) for part in result]
    if not isinstance(result, dict):
        return result
    return {below.get((above, k), names.get(k, k)): backwards(part, k)
            for k, part in result.items()}


def test_there_is_a_result_of_version_0_1_0_of_each_bench_that_has_one():
    benches = {json.loads(f.read_text(encoding="utf-8"))["bench"] for f in files}
    assert benches >= {
        "speed", "time_to_quality", "disentanglement", "disentanglement_ellipses",
        "cvae_labels", "cvae_quadrants", "vq", "generation", "anomaly"}


@pytest.mark.parametrize("path", files + shared, ids=lambda path: path.stem)
def test_a_result_of_version_0_1_0_is_read_with_the_keys_of_today(path, read_result):
    kept = json.loads(path.read_text(encoding="utf-8"))
    result = read_result(path)
    assert keys(kept) & old and not keys(result) & (old - {"asked"})
    assert leaves(result) == leaves(kept)                            # the values stay


@pytest.mark.parametrize("path", files, ids=lambda path: path.stem)
def test_it_has_the_keys_that_a_bench_of_today_writes(path):
    result = common.read_result(path)
    today = [r for r in map(common.read_result, common.results.glob("*.json"))
             if r["bench"] == result["bench"]]
    assert len(today) > 0 and keys(result) <= set().union(*map(keys, today))


def test_what_lies_in_bench_results_has_the_keys_of_today(read_result):
    paths = sorted(common.results.glob("*.json"))
    assert len(paths) >= 9
    for path in paths:
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert read_result(path) == kept, path.name


@pytest.mark.parametrize("path", shared, ids=lambda path: path.stem)
def test_a_result_of_another_machine_is_stored_with_its_values(path):
    stored = common.results / path.name
    if not stored.exists():
        pytest.skip("not taken over yet")
    kept = json.loads(stored.read_text(encoding="utf-8"))
    handed = json.loads(path.read_text(encoding="utf-8"))
    if kept["commit"] != handed["commit"]:
        pytest.skip("measured again since")
    assert leaves(kept) == leaves(handed)


def test_every_result_of_today_comes_back_from_the_keys_of_version_0_1_0():
    for path in sorted(common.results.glob("*.json")):
        kept = json.loads(path.read_text(encoding="utf-8"))
        assert common.translate(backwards(kept)) == kept, path.name


def test_keys_that_changed_under_another_key():
    kept = dict(recipe=dict(held_out=5000), runs=[dict(held_out=97.2, switches="fp32")],
                far=[dict(settings=dict(recipe=dict(lr=1)))],
                lesson=asked_of_a_clock | dict(switches={"fp32, eager": 0.1}))
    assert common.translate(kept) == dict(
        settings=dict(validation_size=5000),
        runs=[dict(validation=97.2, step_config="fp32")],
        far=[dict(settings=dict(detector=dict(lr=1)))],
        lesson=asked_of_a_clock | dict(step_configs={"fp32, eager": 0.1}))


def test_the_page_reads_by_the_same_table():
    assert of_page()["renamed"] == common.renamed


def test_a_new_run_of_one_section_keeps_an_old_file(tmp_path, monkeypatch):
    import gpu
    import torch
    slug = common.slug(torch.device("cpu"))
    kept = dict(bench="gpu", quick=True, sections=dict(throughput={}), left_out=[],
                throughput=dict(rows=[dict(switches="fp32, eager", batch_size=64)]))
    (tmp_path / f"{slug}.json").write_text(json.dumps(kept), encoding="utf-8")
    monkeypatch.setattr(gpu, "sections", dict(throughput=None, scaling=lambda *_: {}))
    monkeypatch.setattr(sys, "argv", ["bench/gpu.py", "--device", "cpu", "--quick",
                                      "--only", "scaling", "--out", str(tmp_path)])
    gpu.main()
    result = json.loads((tmp_path / f"{slug}.json").read_text(encoding="utf-8"))
    row = dict(step_config="fp32, eager", batch_size=64)
    assert result["throughput"]["rows"] == [row]
