"""The benches run, say what they did, compute their ratios from their values, and never
write over results. No time is judged here."""
import argparse, html, importlib.util, json, os, re, subprocess, sys
from pathlib import Path

import nbformat, pytest, torch
from nbclient import NotebookClient

from vae_course.checkpoint import CheckpointError

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "bench"))
# they are scripts, not a package
import common, gpu, peers, race, speed, time_to_quality     # noqa: E402

pytestmark = pytest.mark.slow

facts = {"command", "commit", "device", "threads", "omp_num_threads", "load_average",
         "versions", "date", "seeds", "protocol", "bench", "quick"}


def results():
    "The results that are there, each file with its bytes."
    return {p.name: p.read_bytes() for p in common.results.glob("*")}


def run(script, *words, **environment):
    "A bench run as a user would run it, one thread; its output."
    done = subprocess.run([sys.executable, f"bench/{script}.py", *words], cwd=root,
                          capture_output=True, encoding="utf-8", timeout=200,
                          env=os.environ | dict(OMP_NUM_THREADS="1") | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def quick(script, folder, *words, **environment):
    "The one JSON file of a quick run; nothing else appears, and no result changes."
    before = results()
    output = run(script, "--quick", "--out", str(folder), *words, **environment)
    assert results() == before
    path, = folder.iterdir()
    return json.loads(path.read_text(encoding="utf-8")), output


def check_seconds(s, n):
    assert (len(s["values"]) == n and s["min"] == min(s["values"]) <= s["median"]
                                      <= s["max"] == max(s["values"]))


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    return quick("speed", tmp_path_factory.mktemp("speed"), "--only", "fp32", "--only",
                 "examples")


def test_speed_states_its_facts(raced):
    result, output = raced
    assert (facts <= set(result) and result["quick"] and result["bench"] == "speed"
            and result["threads"] == 1 and result["omp_num_threads"] == "1")
    assert (result["command"].startswith("python bench/speed.py --quick")
            and {"python", "torch", "torchvision"} <= set(result["versions"]))
    assert "784-400-20" in result["protocol"] and "512 images" in result["protocol"]
    assert [r["name"] for r in result["rows"]] == [
        "vae_course, fp32, eager", "PyTorch examples", "matrix products alone, fp32",
        "full limit, fp32"]
    for row in result["rows"]:
        check_seconds(row["seconds"], 1)
        assert row["warm_up"] >= row["first_epoch"] * row["share_run"] > 0
        assert ("scaled" in row["note"]) == (row["share_run"] < 1)
        assert row["name"] in output


def test_speed_computes_its_ratios_from_the_values(raced):
    result, output = raced
    seconds = {row["name"]: row["seconds"] for row in result["rows"]}
    limit, = (row["limit"] for row in result["rows"] if "limit" in row)
    assert len(result["ratios"]) == 3 and result["amx"] == common.has_amx()
    for r in result["ratios"]:
        other = limit if r["other"] == "full limit, fp32" else (
            seconds[r["other"]]["median"])
        assert r["measured"] == pytest.approx(other / seconds[r["ours"]]["median"],
                                              rel=1e-4)
        assert r["target"] == speed.target_of("fp32", r["other"], torch.device("cpu"),
                                              result["amx"])
        assert r["reached"] == (r["target"] and r["measured"] >= r["target"])


def test_speed_states_the_full_limit_part_by_part(raced):
    result, output = raced
    row, = (row for row in result["rows"] if row["name"] == "full limit, fp32")
    assert set(row["parts"]) == {"matrix products", "Adam", "cross-entropy", "look-up",
                                 "activations", "draw"}
    fastest = [min(ways.values()) for ways in row["parts"].values()]
    assert min(fastest) > 0
    assert row["limit"] == pytest.approx(result["steps"] * sum(fastest), rel=1e-4)
    # best of the first epoch, to warm up, and of the repeats
    assert row["limit"] <= row["seconds"]["min"] * (1 + 1e-4)
    assert "full limit, fp32: " in output and "look-up eager" in output


def test_the_full_limit_takes_each_part_by_its_fastest_way_and_best_repeat(monkeypatch):
    limit = peers.StepParts("cpu", 300, compile=False, blocks=1, calls=1)
    limit.ways = {"a": dict(eager=int, compiled=float), "b": dict(eager=str)}
    seconds = iter([3.0, 2.0, 5.0, 4.0, 6.0, 1.0])
    monkeypatch.setattr(limit, "seconds", lambda f: next(seconds))
    assert limit.steps == 3                            # 300 images, a last batch of 44
    assert limit.epoch() == 3 * (2 + 5) and limit.epoch() == 3 * (4 + 1)
    assert limit.details() == dict(
        limit=3 * (2 + 1),
        parts=dict(a=dict(eager=3.0, compiled=2.0), b=dict(eager=1.0)))


def test_parts_of_the_full_limit_compute_what_a_step_needs():
    torch.manual_seed(0)
    logits, x = torch.randn(16, 784, requires_grad=True), torch.rand(16, 784)
    for a, b in zip(peers.cross_entropy(logits, x),
                    peers.cross_entropy_at_once(logits.detach(), x)):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
    w = torch.nn.Parameter(torch.randn(5, 3))
    mine, m, v, t = w.detach().clone(), *(torch.zeros(5, 3) for _ in range(2)), (
        torch.zeros(()))
    optimizer = torch.optim.Adam([w], lr=peers.lr, fused=True)
    for _ in range(3):
        w.grad = torch.randn_like(w)
        peers.adam([(mine, w.grad, m, v)], t)
        optimizer.step()
    assert torch.allclose(w, mine, atol=1e-6) and t == 3
    h, g = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    (out, back), = peers.activations([(h.detach(), g)])
    h.relu().backward(g)
    assert torch.equal(out, h.relu()) and torch.equal(back, h.grad)
    mu, logvar = (torch.randn(4, 6, requires_grad=True) for _ in range(2))
    torch.manual_seed(1)
    with torch.no_grad():
        z, *found = peers.draw(mu, logvar, g)
    torch.manual_seed(1)
    wanted = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
    wanted.backward(g)
    assert torch.allclose(z, wanted) and all(
        torch.allclose(a, p.grad) for a, p in zip(found, (mu, logvar)))
    examples = peers.images(20)[1]
    rows = torch.tensor([3, 1, 7])
    assert torch.equal(peers.look_up(examples.x, rows), examples.floats()[rows])


def test_parts_of_the_full_limit_can_be_compiled():
    limit = peers.StepParts("cpu", 128, blocks=1, calls=1)
    ways = {part: ways for part, ways in limit.ways.items() if part in (
        "activations", "look-up")}
    limit.ways = ways
    assert limit.epoch() > 0
    assert all(set(seconds) == {"eager", "compiled"}
               for seconds in limit.details()["parts"].values())


def test_more_is_wanted_of_a_machine_with_amx(monkeypatch):
    for flags, amx in (["avx2", "amx_bf16", "amx_tile"], True), (["avx512f"], False):
        monkeypatch.setattr(common, "cpu_flags", lambda: ("a name", flags))
        assert common.has_amx() == amx
        assert time_to_quality.target_on(torch.device("cpu")) == (6 if amx else 7)
    assert time_to_quality.target_on(torch.device("cuda")) == 1
    wanted = lambda *args: speed.target_of(*args[:2], torch.device("cpu"), *args[2:])
    for precision, pythae in dict(fp32=2.5, bf16=3.4).items():
        assert wanted(precision, f"full limit, {precision}", False) == 0.75
        assert wanted(precision, f"full limit, {precision}", True) == 0.80
        assert wanted(precision, "pythae", False) is None
        assert wanted(precision, "pythae", True) == pythae
        for amx in (True, False):
            assert wanted(precision, "PyTorch examples", amx) >= 4.5
    assert speed.target_of("fp32", "pythae", torch.device("cuda"), True) is None


def test_ratios_of_made_up_seconds():
    rows = [dict(name=name, seconds=common.summary(values)) for name, values in {
        "vae_course, fp32, compiled": [1.0, 2.0, 1.5],
        "vae_course, bf16, compiled": [1.0, 1.0, 1.0],
        "PyTorch examples": [7.0, 5.0, 6.0],
        "matrix products alone, fp32": [0.9, 0.9, 0.9],
        "matrix products alone, bf16": [0.5, 0.5, 0.5]}.items()]
    rows.append(dict(name="full limit, fp32", limit=1.2,
                     seconds=common.summary([1.3] * 3)))
    found = {(r["ours"][12:16], r["other"]): r
             for r in speed.ratios(rows, torch.device("cpu"))}
    assert len(found) == 5
    # the best of the limit beside the median of ours
    full = found["fp32", "full limit, fp32"]
    assert (full["measured"] == pytest.approx(0.8) and full["reached"]
            and full["target"] == 0.75 and full["what"] == "share of the full limit")
    r = found["fp32", "PyTorch examples"]
    assert (r["measured"] == 4.0 and not r["reached"] and r["values"] == [7.0, 2.5, 4.0]
            and (r["min"], r["max"]) == (2.5, 7.0))
    assert found["fp32", "matrix products alone, fp32"] | dict(values=0) == dict(
        ours="vae_course, fp32, compiled", other="matrix products alone, fp32",
        what="share of the limit", measured=pytest.approx(0.6), target=None,
        reached=None, bound="at least", note="", min=pytest.approx(0.45),
        max=pytest.approx(0.9), values=0)
    assert (found["bf16", "matrix products alone, bf16"]["measured"] == 0.5
            and found["bf16", "PyTorch examples"]["reached"])
    slow = {(r["ours"][12:16], r["other"]): r
            for r in speed.ratios(rows, torch.device("cpu"), slow=True)}
    assert (slow["bf16", "PyTorch examples"]["reached"] is None
            and "not judged" in slow["bf16", "PyTorch examples"]["note"])
    assert slow["fp32", "full limit, fp32"]["reached"]


@pytest.mark.parametrize("package, name",
                         [("pythae", "pythae"), ("lightning", "Lightning")])
def test_peer_trains_an_epoch(package, name, tmp_path):
    pytest.importorskip(package,
                        reason=f'{package} is not installed: pip install -e ".[bench]"')
    result, _ = quick("speed", tmp_path, "--only", name)
    row, = result["rows"]
    check_seconds(row["seconds"], 1)
    assert (row["name"] == name and result["versions"][package]
            and result["left_out"] == [])


def test_every_contender_learns():
    "The race is between trainings: the loss of each falls."
    device, count = "cpu", 1024
    x = peers.images(count)[1].floats()

    def loss(net):
        with torch.no_grad():
            return (
                peers.summed_loss(net(x.view(-1, 784)), x.view(-1, 784)).item() / count)
    examples = peers.Examples(device, count)
    before = loss(examples.net)
    examples.epoch()
    assert loss(examples.net) < before - 50
    ours = peers.Ours(device, count, precision="fp32", compile=False, graphs=False)
    before = ours.run.model.losses((x, None))["loss"].item()
    ours.epoch()
    assert ours.run.model.losses((x, None))["loss"].item() < before - 50
    ours.close()
    assert sum(p.numel() for p in ours.run.model.parameters()) == sum(
        p.numel() for p in examples.net.parameters())


def test_peers_get_the_same_images(tmp_path):
    examples = peers.images(300)[1]
    mnist = peers.torchvision_mnist(examples, tmp_path)
    assert (len(mnist) == 300 and torch.equal(mnist.data, examples.x[:, 0])
            and torch.equal(mnist.targets, examples.y))
    assert torch.equal(mnist[7][0], examples.floats()[7])


def test_missing_peer_is_named(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec",
        lambda name: None if name in ("pythae", "lightning") else there(name))
    every, left_out = speed.contenders(torch.device("cpu"), quick=True)
    assert ([r["name"] for r in left_out] == ["pythae", "Lightning"]
            and all('".[bench]"' in r["why"] for r in left_out))
    assert (not {"pythae", "Lightning"} & {name for name, _ in every}
            and "PyTorch examples" in dict(every))


class Breaks:
    "A contender whose epoch fails."
    name = "breaks"
    def epoch(self): raise ValueError("no luck")


def test_contender_that_fails_is_named_and_the_race_goes_on():
    makers = [("breaks", lambda: race.Lane(Breaks)),
              ("products", lambda: race.Lane(peers.MatrixProducts, "cpu", count=128))]
    rows, left_out = race.race(makers, 2)
    assert left_out == [dict(name="breaks", why="ValueError: no luck")]
    assert ([r["name"] for r in rows] == ["matrix products alone, fp32"]
            and len(rows[0]["seconds"]["values"]) == 2)


def test_time_to_quality(tmp_path):
    result, output = quick("time_to_quality", tmp_path)
    assert (facts <= set(result) and result["quick"]
            and result["bench"] == "time_to_quality" and result["bound"] == 100)
    row, = result["rows"]
    assert (row["seeds"] == result["seeds"] == [0]
            and row["target"] == result["target"] == (6 if common.has_amx() else 7))
    check_seconds(row["fit_seconds"], 1)
    check_seconds(row["neg_elbo"], 1)
    # one epoch on 1,024 pictures
    assert (not row["all_under"] and row["reached"] is None
            and row["neg_elbo"]["max"] > 100 and "not judged" in output)
    assert row["runs"][0]["fit_seconds"] >= sum(row["runs"][0]["epoch_seconds"]) > 0
    assert {"python", "torch"} <= set(result["versions"])


@pytest.mark.parametrize("script, bench, rows", [
    ("disentanglement", ["disentanglement", "disentanglement_ellipses"], 4),
    ("cvae_labels", ["cvae_labels"], 10), ("cvae_quadrants", ["cvae_quadrants"], 6),
    ("vq", ["vq"], 2), ("generation", ["generation"], 9), ("anomaly", ["anomaly"], 2),
    ("semi_supervised", ["semi_supervised"], 21),
    ("balance", ["balance"], 6),
    ("diagnose", ["diagnose"], 11),
    ("density", ["density"], 10),
    ("sharpness", ["sharpness"], 9)])
def test_quality_benches_state_their_facts(script, bench, rows, tmp_path):
    before = results()
    run(script, "--quick", "--out", str(tmp_path))
    assert results() == before
    found = {f["bench"]: f for f in (json.loads(p.read_text(encoding="utf-8"))
                                     for p in tmp_path.glob("*.json"))}
    assert sorted(found) == sorted(bench)
    for result in found.values():
        assert facts <= set(result) and result["quick"] and len(result["rows"]) == rows
        assert (result["command"].startswith(f"python bench/{script}.py --quick")
                and {"python", "torch"} <= set(result["versions"]))
        # a quick run judges nothing
        assert all(v["reached"] is None for v in (*result.get("verdicts", []),
                                                  *result.get("aims", {}).values()))


def test_a_seed_over_the_bound_is_a_miss():
    def runs(nats, seconds):
        return [dict(seed=i, fit_seconds=s, epoch_seconds=[s - 1],
                     step_config="fp32, eager", neg_elbo=n)
                for i, (n, s) in enumerate(zip(nats, seconds))]
    good, over, late = (time_to_quality.row_of(runs(*r), "cold", 7.0) for r in (
        ([99, 99.5, 100], [5, 6, 7]), ([99, 99.5, 100.1], [5, 6, 7]),
        ([99, 99, 99], [5, 6, 7.5])))
    assert good["all_under"] and good["reached"] and good["reached_in_training"]
    assert (not over["all_under"] and not over["reached"]
            and not over["reached_in_training"])
    assert late["all_under"] and not late["reached"] and late["reached_in_training"]
    alone = time_to_quality.row_of(runs([99], [5]), "cold", 7.0)
    assert (alone["all_under"] and alone["reached"] is None
            and alone["reached_in_training"] is None)


def test_every_seed_runs_cold_then_warm(monkeypatch):
    """The warm run finds what the cold run of the same seed left, and each seed begins
    with an empty cache."""
    asked_for = []

    def run(seed, device, step_config, cache, quick):
        asked_for.append((seed, step_config["compile"], cache, os.listdir(cache)))
        Path(cache, "compiled").touch()
        return dict(seed=seed, fit_seconds=6.0, epoch_seconds=[1.0, 1.0],
                    step_config=str(step_config["compile"]), neg_elbo=99.0 + seed / 10)
    monkeypatch.setattr(time_to_quality, "fresh_process", run)
    monkeypatch.setattr(peers, "bfloat16_is_slow", lambda device: True)
    result = time_to_quality.measure(torch.device("cpu"))
    assert [(r["step_config"], r["cache"], r["seeds"]) for r in result["rows"]] == [
        ("False", "no compilation", [0, 1, 2]), ("True", "cold", [0, 1, 2]),
        ("True", "warm", [0, 1, 2])]
    assert ([bool(there) for _, compiled, _, there in asked_for if compiled]
            == [False, True] * 3)
    assert (all(r["reached"] and r["neg_elbo"]["values"] == [99.0, 99.1, 99.2]
                for r in result["rows"])
            and str(time_to_quality.settings["epochs"]) in result["protocol"])


def test_gpu_bench_runs_on_the_cpu(tmp_path):
    result, output = quick("gpu", tmp_path, "--device", "cpu", "--only",
                           "lesson,roofline,profile,agreement,throughput")
    assert facts <= set(result) and result["quick"] and result["left_out"] == [], output
    assert set(result["sections"]) == {"lesson", "roofline", "profile", "agreement",
                                       "throughput"}
    assert result["agreement"]["rows"][0]["largest_difference"] == 0 and all(
        r["largest_difference"] < 0.05 for r in result["agreement"]["rows"])
    assert (
        len(result["roofline"]["rows"]) > 0 and len(result["throughput"]["rows"]) > 0
        and len(result["agreement"]["rows"]) > 1)
    for row in result["roofline"]["rows"]:
        assert (row["rate"] == pytest.approx(row["flops"] / row["seconds"], rel=1e-4)
                and row["share_of_roofline"] == pytest.approx(
                    row["rate"] / row["attainable"], rel=1e-4))
    assert all(r["examples_per_second"] > 0 for r in result["throughput"]["rows"])
    assert (result["profile"]["rows"][0]["top"]
            and 0 <= result["profile"]["rows"][0]["idle_share"] < 1)


def test_gpu_bench_over_two_processes():
    rows = gpu.run_scaling(torch.device("cpu"),
                           argparse.Namespace(device="cpu", quick=True))["rows"]
    assert ([(r["processes"], r["batch_size"]) for r in rows] == [(1, 128), (2, 256)]
            and rows[0]["efficiency"] == 1)
    assert rows[1]["efficiency"] == pytest.approx(
        rows[1]["examples_per_second"] / rows[0]["examples_per_second"] / 2)


def test_gpu_bench_without_a_gpu_says_so():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = subprocess.run([sys.executable, "bench/gpu.py"], cwd=root,
                          capture_output=True, encoding="utf-8")
    assert done.returncode and "no CUDA device" in done.stderr


def test_gpu_bench_names_a_section_that_fails(tmp_path, monkeypatch):
    def fails(device, args): raise RuntimeError("out of luck")
    monkeypatch.setattr(gpu, "sections", dict(agreement=fails))
    monkeypatch.setattr(sys, "argv", ["bench/gpu.py", "--device", "cpu", "--quick",
                                      "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as e:
        gpu.main()
    assert e.value.code
    path, = tmp_path.iterdir()
    assert json.loads(path.read_text(encoding="utf-8"))["left_out"] == [
        dict(name="agreement", why="RuntimeError: out of luck")]


@pytest.mark.parametrize("script", ["speed", "time_to_quality", "gpu"])
def test_quick_never_writes_over_results(script):
    done = subprocess.run([sys.executable, f"bench/{script}.py", "--quick", "--device",
                           "cpu", "--out", str(common.results)],
                          cwd=root, capture_output=True, encoding="utf-8")
    assert done.returncode and "name another folder" in done.stderr


def test_a_run_cut_short_leaves_the_old_file(tmp_path, monkeypatch):
    common.write(tmp_path, "speed", dict(a=1))

    def fails(*args): raise OSError("no space")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(CheckpointError, match="no space"):
        common.write(tmp_path, "speed", dict(a=2))
    assert (
        json.loads((tmp_path / "speed.json").read_text(encoding="utf-8")) == dict(a=1))


# the benches that were run in full, of which bench/results holds a file each, with what
# the page calls a row
MEASURED = dict(speed="name", time_to_quality="step_config", generation="images",
                disentanglement="model", disentanglement_ellipses="model",
                cvae_labels="way", cvae_quadrants="kind", vq=None, anomaly=None,
                semi_supervised="name", text="way", speech="way", sharpness="way",
                balance="beta", density="way", diagnose=None)


@pytest.fixture(scope="module")
def stored():
    "What lies in bench/results, each result with its file's name."
    return {p.name: json.loads(p.read_text(encoding="utf-8"))
            for p in sorted(common.results.glob("*.json"))}


@pytest.fixture(scope="module")
def page():
    "What the page of results shows as it is stored."
    nb = nbformat.read(root / "nbs" / "results.ipynb", as_version=4)
    return "".join("".join(o.get("data", {}).get("text/html", "")) for c in nb.cells
                   if c.cell_type == "code" for o in c.outputs)


def incomplete(result):
    "What a stored result lacks: facts, a full run, a known commit, rows, versions."
    if lacks := facts - set(result):
        return f"lacks {sorted(lacks)}"
    if result["quick"] is not False:
        return "of a quick run"
    if result["commit"].endswith("unknown"):
        return "of an unknown commit"
    rows = result["rows"] if "rows" in result else result.get("sections")
    return "" if rows and result["protocol"] and result["versions"] else "holds nothing"


def not_shown(result, page):
    "What of a stored result the page does not show."
    made = f'{result["date"][:10]}, commit <code>{result["commit"]}</code>'
    column = MEASURED.get(result["bench"])
    names = ({html.escape(row[column], quote=False) for row in result["rows"]} if column
             else ())
    return [words for words in (made, *sorted(names)) if words not in page]


def test_every_bench_that_is_quoted_has_a_stored_result(stored):
    assert {result["bench"] for result in stored.values()} >= set(MEASURED)


def test_stored_results_are_whole(stored):
    "What is in bench/results came from full runs and carries its facts."
    assert {name: why for name, result in stored.items()
            if (why := incomplete(result))} == {}


@pytest.mark.parametrize(
    "change, words",
    [(dict(quick=True), "quick"), (dict(commit="unknown"), "unknown commit"),
     (dict(rows=[]), "nothing"), (dict(versions={}), "nothing"),
     (None, "lacks ['date']")], ids=["quick", "commit", "rows", "versions", "date"])
def test_a_stored_result_that_is_not_whole_is_noticed(stored, change, words):
    for result in stored.values():
        spoiled = ({k: v for k, v in result.items() if k != "date"} if change is None
                   else result | change)
        assert words in incomplete(spoiled)


def test_stored_page_shows_the_stored_results(stored, page):
    """A result that came after the page was run last is not on it: run
    `make outputs ARGS=results`."""
    shown = {name: result for name, result in stored.items()
             if result["bench"] in MEASURED}
    assert len(shown) >= len(MEASURED)
    assert {name: words for name, result in shown.items()
            if (words := not_shown(result, page))} == {}


def test_a_result_that_the_page_does_not_show_is_noticed(stored, page):
    for result in stored.values():
        assert not_shown(result | dict(commit="0000000"), page)
        if column := MEASURED.get(result["bench"]):
            assert (not_shown(result | dict(rows=[*result["rows"],
                                                  {column: "a new row"}]), page)
                    == ["a new row"])


def shown(folder):
    "What the page `results` shows when it is run in `folder/nbs`."
    nb = nbformat.read(root / "nbs" / "results.ipynb", as_version=4)
    (folder / "nbs").mkdir(parents=True)
    NotebookClient(nb, timeout=120, kernel_name="python3",
                   resources={"metadata": {"path": str(folder / "nbs")}}).execute()
    return "\n".join(str(o.get("data", {}).get("text/html", ""))
                     for c in nb.cells if c.cell_type == "code" for o in c.outputs)


@pytest.fixture
def importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(root))


def test_page_without_results(tmp_path, importable):
    page = shown(tmp_path)
    # fourteen benches
    assert (page.count("Not measured yet") == 21 and "bench/speed.py" in page
            and "bench/gpu.py" in page)


def test_page_shows_what_was_measured(tmp_path, importable, raced):
    made = tmp_path / "bench" / "results"
    made.mkdir(parents=True)
    result = json.loads(json.dumps(raced[0]))
    (made / "quick.json").write_text(json.dumps(result), encoding="utf-8")
    assert result["rows"].pop()["name"] == "full limit, fp32"
    parts = dict(draw=dict(eager=.002, compiled=.001))
    result["rows"].append(dict(name="full limit, fp32", note="", warm_up=1.0, limit=1.0,
                               parts=parts))
    for row, seconds in zip(result["rows"], (1.5, 6.0, 0.9, 1.1), strict=True):
        row["seconds"] = common.summary([seconds] * 3)
    result |= dict(
        quick=False, ratios=speed.ratios(result["rows"], torch.device("cpu"), amx=True),
        device="a <fast> machine", left_out=[dict(name="pythae", why="not here")])
    (made / "speed-fast.json").write_text(json.dumps(result), encoding="utf-8")
    page = shown(tmp_path)
    assert (
        page.count("Not measured yet") == 20
        and page.count("a &lt;fast&gt; machine") == 1 and "pythae: not here" in page)
    # 4 times the examples; 67 % of the full limit, and its parts
    assert ("≥ 4.5" in page and "≥ 0.8" in page and "<strong>missed</strong>" in page
            and column(page, "eager, milliseconds") == [dict(draw="2.00")])
    assert ('alt="seconds an epoch, the median of each: matrix products alone, fp32 '
            '0.900; full limit, fp32 1.10; vae_course, fp32, eager 1.50; PyTorch '
            'examples 6.00."' in page)


def column(page, title):
    """Of each column under `title`, in any table of the page: `{row: what stands
    there}`. One machine may have several."""
    found = []
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
                for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]
        found += [{row[0]: row[i] for row in rows[1:]}
                  for i, head in enumerate(rows[0]) if head == title]
    return found


def test_page_shows_machines_side_by_side(tmp_path, importable):
    "Each number, aim and commit in the column of its machine; a dash for no row."
    made = tmp_path / "bench" / "results"
    made.mkdir(parents=True)
    ratio = common.compare(6.0, 4.5) | dict(ours="vae_course, fp32, eager", note="",
                                            other="PyTorch examples", what="times")
    row = lambda name, s: dict(name=name, seconds=common.summary([s]), warm_up=1.0,
                               note="")
    one = dict(bench="speed", device="one", commit="aaaaaaa", date="2026-01-02T03:04",
               protocol="of <old>", threads=2, versions=dict(torch="9.8"),
               rows=[row("vae_course, fp32, eager", 1.5), row("Lightning", 7.0)],
               ratios=[ratio])
    two = one | dict(device="two", commit="bbbbbbb", protocol="of new", rows=[
        row("vae_course, fp32, eager", 2.5), row("pythae", 8.0)],
        ratios=[ratio | common.compare(3.0, 4.5)])
    for name, result in dict(one=one, two=two).items():
        (made / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    page = shown(tmp_path)
    (a,), (b,) = column(page, "one"), column(page, "two")
    ours = "vae_course, fp32, eager, seconds"
    assert list(a) == list(b) and (a[ours], b[ours]) == ("1.50", "2.50")
    assert (a["Lightning, seconds"], b["Lightning, seconds"]) == ("7.00", "–")
    assert (a["pythae, seconds"], b["pythae, seconds"]) == ("–", "8.00")
    ratio, = (key for key in a if "beside" in key)
    assert a[ratio] == "6.00 (≥ 4.5 reached)" and a["commit"] == "<code>aaaaaaa</code>"
    assert (b[ratio] == "3.00 (≥ 4.5 <strong>missed</strong>)"
            and b["commit"] == "<code>bbbbbbb</code>")
    assert (a["protocol"], b["protocol"]) == ("1", "2") and "of &lt;old&gt;" in page


def test_page_of_one_machine_has_no_table_of_machines(tmp_path, importable):
    made = tmp_path / "bench" / "results"
    made.mkdir(parents=True)
    path = common.results / "speed-amd-epyc-2-cores.json"
    (made / path.name).write_bytes(path.read_bytes())
    page = shown(tmp_path)
    device = json.loads(path.read_text(encoding="utf-8"))["device"]
    assert not column(page, device) and device in page


def test_stored_machines_stand_side_by_side(stored, page):
    """Where two machines ran speed or time to quality, the stored page has a column for
    each; after a new machine, run `make outputs ARGS=results`."""
    for bench in ("speed", "time_to_quality"):
        machines = [r for r in stored.values() if r["bench"] == bench]
        for result in machines if len(machines) > 1 else ():
            assert any(c["commit"] == f'<code>{result["commit"]}</code>'
                       for c in column(page, result["device"]))


def test_speech_measures_what_the_lesson_shows(tmp_path):
    result, _ = quick("speech", tmp_path / "speech", VAE_COURSE_DATA="",
                      VAE_COURSE_OFFLINE="1", XDG_CACHE_HOME=str(tmp_path))
    assert facts <= set(result) and result["data"] == "voice"
    assert all(v["reached"] is None for v in result["verdicts"])     # nothing is judged
    row, = [r for r in result["rows"] if r["way"] == "128 codes, jitter 0.1"]
    run, = row["runs"]
    low, high = run["made_interval"]
    assert low <= run["made"] <= high and row["made"]["mean"] == run["made"]
    assert 0 < run["bits"] and run["uniform_bits"] == 175
    assert len(result["mfcc"]["left_out"]) == 6
