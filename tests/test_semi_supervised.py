"""Few labels: the sum over y against Pyro, label spreading against scikit-learn, the
transformer's conventions, and what is refused, in Python and on the command line."""
import csv, json, math, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading
from sklearn.utils.estimator_checks import check_estimator

from vae_course import semi_supervised as room
from vae_course.cli import main
from vae_course.data import DataError, Examples, MixedBatch
from vae_course.datasets import load
from vae_course.loaders import MixedBatches
from vae_course.partly_labelled import label_folder, read_labels
from vae_course.semi_supervised import (
    LatentFeatures, draw_labels, m2, mixed_batches, neighbour_graph, spread_labels,
    summed_out)
from vae_course.training import fit, load_model

shares = [0.5, 0.3, 0.2]


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def tiny(**settings):
    torch.manual_seed(0)
    return m2((1, 2, 2), **dict(classes=3, latent_dim=2, hidden=[8], width=8,
                                shares=shares) | settings).eval()


def four():
    torch.manual_seed(1)
    return (torch.rand(4, 1, 2, 2) < 0.5).float(), torch.tensor([0, 1, 2, 1])


# ---------------------------------------------------------------- the sum over y

def elbo_of_pyro(model, x, y=None, particles=4000):
    """−ELBO of one image by Pyro's enumeration of y; with y, of the labelled pair."""
    pyro = pytest.importorskip("pyro")
    import pyro.distributions as dist
    from pyro.infer import TraceEnum_ELBO, Trace_ELBO, config_enumerate

    def parts(kind, labels, more):
        one_hot = F.one_hot(labels, 3).float()
        shape = one_hot.shape[:-1]
        flat = one_hot.reshape(-1, 3)
        q = (model.encode(x.expand(len(flat), *x.shape[1:]), flat) if kind == "q"
             else model.decode(more.expand(*shape, 2).reshape(-1, 2), flat))
        return q, shape

    def generative():
        with pyro.plate("images", 1):
            label = pyro.sample("y", dist.Categorical(torch.tensor(shares)), obs=y)
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1).to_event(1))
            # y may have a dimension more than z, one for each label
            shape = torch.broadcast_shapes(label.shape, z.shape[:-1])
            p, _ = parts("p", label.expand(shape), z.expand(*shape, 2))
            logits = p.base_dist.logits.reshape(*shape, 4)
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1),
                        obs=x.flatten(1))

    def guide():
        with pyro.plate("images", 1):
            label = y if y is not None else pyro.sample(
                "y", dist.Categorical(logits=model.classify(x).logits))
            q, shape = parts("q", label, None)
            mean = q.mean.reshape(*shape, 2)
            pyro.sample("z", dist.Normal(mean, q.stddev.reshape(*shape, 2)).to_event(1))

    kind = TraceEnum_ELBO if y is None else Trace_ELBO
    made = kind(max_plate_nesting=1)
    guide = config_enumerate(guide, "parallel") if y is None else guide
    with torch.no_grad():
        found = torch.tensor([made.loss(generative, guide) for _ in range(particles)])
    return found.mean().item(), found.std().item() / particles**0.5


@pytest.mark.parametrize("row", [0, 1])
def test_the_sum_over_labels_is_that_of_pyro(row):
    model, (x, _) = tiny(), four()
    x = x[row:row + 1]
    torch.manual_seed(2)
    theirs, error = elbo_of_pyro(model, x)
    with torch.no_grad():
        torch.manual_seed(3)
        many = x.expand(20_000, -1, -1, -1)
        ours = torch.stack(summed_out(model.classify(many).probs,
                                      *model.every_label(many), model.log_share)).sum(0)
    slack = 5 * (error**2 + ours.var().item() / len(ours))**0.5
    assert abs(ours.mean().item() - theirs) < slack and slack < 0.1


def test_a_labelled_pair_costs_what_it_costs_in_pyro():
    model, (x, y) = tiny(), four()
    torch.manual_seed(2)
    theirs, error = elbo_of_pyro(model, x[:1], y[:1])
    with torch.no_grad():
        torch.manual_seed(3)
        many = x[:1].expand(20_000, -1, -1, -1), y[:1].expand(20_000)
        ours = torch.stack(model.given_label(*many)).sum(0) - model.log_share[y[0]]
    slack = 5 * (error**2 + ours.var().item() / len(ours))**0.5
    assert abs(ours.mean().item() - theirs) < slack and slack < 0.1


def test_the_gradient_is_finite_where_the_classifier_is_certain():
    model, (x, _) = tiny().train(), four()
    with torch.no_grad():
        model.classifier[-1].weight.zero_()
        model.classifier[-1].bias.copy_(torch.tensor([500.0, 0.0, 0.0]))
    model.losses((x, None))["loss"].backward()
    model.losses(MixedBatch((x, torch.tensor([0, 0, 0, 0])), (x, None)))[
        "loss"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_plain_batches_may_hold_both_kinds():
    "−1 is no label: a row with one counts as labelled, the others are summed out."
    model, (x, y) = tiny(dropout=0.0).train(), four()
    some = torch.tensor([0, -1, 2, -1])
    def terms(labels):
        torch.manual_seed(0)
        with torch.no_grad(): return model.losses((x, labels))
    found = terms(some)
    torch.manual_seed(0)
    with torch.no_grad():
        q, table = model.classify(x), model.every_label(x)
        w = torch.where((some >= 0)[:, None], F.one_hot(some.clamp(min=0), 3), q.probs)
        whole = torch.stack(summed_out(w, *table, model.log_share)).sum(0).mean()
        nll = F.cross_entropy(q.logits[[0, 2]], some[[0, 2]])
    assert torch.allclose(found["label_nll"], nll)
    assert torch.allclose(found["loss"], whole + model.alpha * nll)
    assert terms(0 * y - 1)["label_nll"] == 0


def test_m2_learns_from_few_labels_what_alpha_0_does_not(digits):
    train = digits.train[:1500]
    y = torch.full_like(train.y, -1)
    rows = draw_labels(train.y, 100, 10)
    y[rows] = train.y[rows]
    wrong = {}
    for alpha in (0.0, 10.0):
        torch.manual_seed(0)
        model = m2(hidden=[64], latent_dim=8, width=64, alpha=alpha)
        fit(model, mixed_batches(Examples(train.x, y), 10), epochs=8, device="cpu",
            progress=False)
        guess = model.classify(digits.test.floats()).probs.argmax(1)
        wrong[alpha] = (guess != digits.test.y).float().mean()
    assert wrong[10.0] < 0.4 < 0.6 < wrong[0.0]


def test_saved_and_loaded_alpha_shares_and_answers_are_the_same(tmp_path):
    from vae_course.training import save_model
    model, (x, _) = tiny(alpha=3.0), four()
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.alpha == 3 and torch.equal(again.log_share, model.log_share)
    assert torch.equal(again.classify(x).probs, model.classify(x).probs)


def test_a_missing_label_is_read_off_the_image():
    model, (x, y) = tiny(), four()
    guess = model.classify(x).probs.argmax(1)
    found = model.inputs((x, torch.tensor([2, -1, 0, -1])))[1]
    assert found.tolist() == [2, guess[1], 0, guess[3]]
    assert torch.equal(model.inputs((x, None))[1], guess)
    assert torch.equal(model.inputs(MixedBatch((x[:1], y[:1]), (x, y)))[1], guess)


def test_the_labelled_part_must_have_labels():
    x, y = four()
    with pytest.raises(DataError, match="2 of the 4 labelled examples have no label"):
        MixedBatches(Examples(x, torch.tensor([0, -1, 1, -1])), Examples(x))


def test_samples_without_a_label_follow_p_of_y():
    model = tiny(shares=[0.98, 0.01, 0.01])
    asked = []
    prior = model.prior
    model.prior = lambda c: asked.append(c) or prior(c)
    torch.manual_seed(0)
    model.sample(500)
    assert (asked[0] == 0).float().mean() > 0.9


# ---------------------------------------------------------------- the graph

def test_spreading_is_that_of_scikit_learn(digits):
    x, y = digits.train.floats()[:600].flatten(1).numpy(), digits.train.y[:600]
    graph, rows = neighbour_graph(x), draw_labels(y, 50, 10).numpy()
    known = np.full(600, -1)
    known[rows] = y[rows]
    theirs = LabelSpreading(kernel=lambda a, b=None: graph, alpha=0.99,
                            max_iter=50_000, tol=1e-12).fit(x, known)
    S = np.diag(graph.sum(1)**-0.5) @ graph.toarray() @ np.diag(graph.sum(1)**-0.5)
    Y = np.zeros((600, 10))
    Y[rows, y[rows]] = 1
    exact = np.linalg.solve(np.eye(600) - 0.99 * S, Y)
    assert np.allclose(exact / exact.sum(1, keepdims=True),
                       theirs.label_distributions_, atol=1e-4)
    exact = exact / exact.sum(0)
    ours = spread_labels(graph, rows, y[rows], 10)
    assert np.allclose(ours, exact / exact.sum(1, keepdims=True), atol=1e-3)


def test_an_island_without_a_label_stays_undecided():
    far = np.concatenate([np.random.default_rng(0).normal(0, 1, (20, 2)) + shift
                          for shift in (0, 100, 10_000)])
    p = spread_labels(neighbour_graph(far, 3), [0, 20], [0, 1], 2)
    assert (p[:20].argmax(1) == 0).all() and (p[20:40].argmax(1) == 1).all()
    assert np.allclose(p[40:], 0.5)


def test_copies_of_one_image_do_not_divide_by_zero():
    graph = neighbour_graph(np.concatenate([np.zeros((20, 3)), np.ones((20, 3))]), 5)
    p = spread_labels(graph, [0, 20], [0, 1], 2)
    assert np.isfinite(p).all() and p[0].argmax() == 0 and p[20].argmax() == 1


@pytest.mark.parametrize("rows, labels, words", [
    ([], [], "no example has a label"), ([0, 1], [0, 0], "class 1 has no label"),
    ([0, 1], [0, 2], "got labels from 0 to 2"), ([0], [-1], "got labels from -1"),
    (range(12), [0, 1] * 6, "all 12 examples have labels")])
def test_labels_that_cannot_be_spread(rows, labels, words):
    graph = neighbour_graph(np.random.default_rng(0).normal(size=(12, 2)), 3)
    with pytest.raises(DataError, match=words):
        spread_labels(graph, list(rows), labels, 2)


# ---------------------------------------------------------------- the transformer

SMALL = dict(latent_dim=2, hidden=[8], epochs=2, device="cpu")


def test_the_transformer_keeps_the_conventions_of_scikit_learn():
    found = check_estimator(LatentFeatures(**SMALL), on_fail=None, on_skip=None)
    assert not {f["check_name"]: f["exception"] for f in found
                if f["status"] == "failed"}
    assert len([f for f in found if f["status"] == "passed"]) > 40


def test_codes_help_a_classifier_with_few_labels(digits):
    x, y = digits.train.floats()[:2000].flatten(1).numpy(), digits.train.y[:2000]
    test = digits.test.floats().flatten(1).numpy()
    codes = LatentFeatures(10, [100], epochs=20, device="cpu").fit(x)
    known = draw_labels(y, 100, 10).numpy()
    score = lambda a, b: LogisticRegression(max_iter=500).fit(
        a[known], y[known]).score(b, digits.test.y)
    assert score(codes.transform(x), codes.transform(test)) > 0.6


def test_images_tables_and_frames_are_taken():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 4), dtype=np.uint8)
    a = LatentFeatures(**SMALL).fit(images)
    assert a.model_.likelihood.is_density is False
    assert np.allclose(a.transform(images),
                       a.transform(images.reshape(30, 16) / 255), atol=1e-4)
    with pytest.raises(ValueError, match="give uint8 again"):
        a.transform(images.astype(int))
    frame = pd.DataFrame(rng.normal(50, 10, (30, 3)), columns=list("abc"))
    b = LatentFeatures(**SMALL).fit(frame)
    assert b.model_.likelihood.is_density and b.transform(frame).shape == (30, 2)
    with pytest.raises(ValueError, match="feature names"):
        b.transform(frame[["c", "b", "a"]])
    assert list(b.get_feature_names_out()) == ["latentfeatures0", "latentfeatures1"]


def test_a_constant_column_and_one_seed():
    x = np.random.default_rng(0).normal(size=(40, 3))
    x[:, 1] = 7
    found = [clone(LatentFeatures(**SMALL)).fit(x).transform(x) for _ in range(2)]
    assert np.isfinite(found[0]).all() and np.array_equal(*found)
    with pytest.raises(ValueError, match="NaN"):
        LatentFeatures(**SMALL).fit(np.where(x == 7, np.nan, x))


def test_random_numbers_are_left_as_they_were():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    make_pipeline(LatentFeatures(**SMALL), LogisticRegression()).fit(
        np.random.default_rng(0).random((30, 4)), np.arange(30) % 2)
    room.moved_copies(torch.rand(1, 1, 8, 8, generator=torch.Generator()), 2)
    assert torch.equal(before, torch.get_rng_state())


# ---------------------------------------------------------------- the command line

@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    "120 images in one folder, and a table of three labels of each of two classes."
    path = tmp_path_factory.mktemp("images")
    rows = (digits.train.y < 2).nonzero().flatten()[:120]
    for i, row in enumerate(rows):
        Image.fromarray(digits.train.x[row, 0].numpy()).save(path / f"{i:03d}.png")
    kinds = [int(k) for k in digits.train.y[rows]]
    known = [i for k in (0, 1) for i in [i for i in range(120) if kinds[i] == k][:3]]
    return path, kinds, [(f"{i:03d}.png", ("zero", "one")[kinds[i]]) for i in known]


def table(path, rows, head=("file", "label")):
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows([head, *rows])
    return path


def train(folder, few, out, *more):
    main(["train", "--model", "m2", "--data", f"folder:{folder}", "--labels", str(few),
          "--out", str(out), "--epochs", "12", "--device", "cpu", "--set",
          "hidden=[32]", "--set", "latent_dim=4", "--batch-size", "32", *more])


def test_train_and_predict_from_a_table_of_few_labels(folder, tmp_path, capsys):
    path, kinds, known = folder
    few, run = table(tmp_path / "few.csv", known), tmp_path / "run"
    train(path, few, run)
    main(["predict", str(run), "--data", f"folder:{path}", "--out",
          str(tmp_path / "labels.csv"), "--device", "cpu"])
    rows = list(csv.DictReader(open(tmp_path / "labels.csv", encoding="utf-8")))
    assert list(rows[0]) == ["file", "label", "probability"] and len(rows) == 120
    right = [r["label"] == ("zero", "one")[kinds[int(r["file"][:3])]] for r in rows]
    assert np.mean(right) > 0.9
    assert all(0.5 <= float(r["probability"]) <= 1 for r in rows)
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert kept["settings"]["classes"] == [
        "one", "zero"]
    assert "an upper bound on -log p(x)," in capsys.readouterr().out
    # without a condition, any class
    main(["sample", str(run), "-n", "4"])
    main(["sample", str(run), "-n", "2", "--condition", "1"])
    main(["encode", str(run), "--data", f"folder:{path}"])
    with pytest.raises(SystemExit, match="is there already"):
        main(["predict", str(run), "--data", f"folder:{path}", "--out",
              str(tmp_path / "labels.csv")])


def test_it_goes_on_where_it_stopped_and_refuses_other_labels(folder, tmp_path, capsys):
    path, _, known = folder
    few, run = table(tmp_path / "few.csv", known), tmp_path / "run"
    whole = tmp_path / "whole"
    train(path, few, whole, "--epochs", "4")
    code = ("import sys; from vae_course import run, cli\n"
            "end = run.Run.end_epoch\n"
            "def stop(self, *a):\n"
            "    end(self, *a)\n"
            "    if len(self.history) == 2: raise KeyboardInterrupt\n"
            "run.Run.end_epoch = stop\n"
            "cli.main(sys.argv[1:])")
    words = ["train", "--model", "m2", "--data", f"folder:{path}", "--labels", str(few),
             "--device", "cpu", "--set", "hidden=[32]", "--set", "latent_dim=4",
             "--batch-size", "32", "--epochs", "4", "--out", str(run)]
    subprocess.run([sys.executable, "-c", code, *words], capture_output=True)
    assert not (run / "model.safetensors").exists()
    main(words)
    assert "goes on after epoch" in capsys.readouterr().out
    a, b = (load_model(p / "model.safetensors").state_dict() for p in (whole, run))
    assert all(torch.equal(a[k], b[k]) for k in a)
    table(few, [*known[:-1], (known[-1][0], known[0][1])])
    with pytest.raises(SystemExit):
        main(words)


def test_sub_folders_do_not_tell_the_labels(folder, tmp_path):
    path, kinds, _ = folder
    for i, k in enumerate(kinds):
        place = tmp_path / "sorted" / ("zero", "one")[k]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes((path / f"{i:03d}.png").read_bytes())
    names = {k: next(f"{('zero', 'one')[k]}/{i}.png" for i in range(120)
                     if kinds[i] == k) for k in (0, 1)}
    few = table(tmp_path / "few.csv", [(names[0], "zero"), (names[1], "one")])
    data = label_folder(tmp_path / "sorted", few)
    assert (data.train.y >= 0).sum() == 2 and (data.test.y == -1).all()
    assert (data.valid.y == -1).all() and len(data.train) + len(data.valid) + len(
        data.test) == 120
    few = table(tmp_path / "few.csv", [(names[0], "zero")])
    with pytest.raises(DataError, match="class one has no label among the 1"):
        label_folder(tmp_path / "sorted", few)


BAD = [
    ([("nothing.png", "one")], "labels of 1 files that are not there [(]nothing.png"),
    ([], "names no image"), ([("000.png", "")], "row 1 of .* lacks its label"),
    ([("", "one")], "row 1 of .* lacks its file"),
    ([("000.png", "one"), ("./000.png", "zero")], "gives ./000.png two labels")]


@pytest.mark.parametrize("rows, words", BAD)
def test_a_table_that_cannot_be_used_is_refused_in_a_line(rows, words, folder,
                                                          tmp_path):
    few = table(tmp_path / "few.csv", rows)
    with pytest.raises(SystemExit, match=words):
        train(folder[0], few, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_all_labelled_none_hidden_and_other_columns(folder, tmp_path):
    path, kinds, known = folder
    everything = [(f"{i:03d}.png", str(k)) for i, k in enumerate(kinds)]
    with pytest.raises(SystemExit, match="all 120 examples have labels"):
        train(path, table(tmp_path / "a.csv", everything), tmp_path / "run")
    with pytest.raises(SystemExit, match="2 of the 120 images have no label: at least"):
        train(path, table(tmp_path / "a.csv", everything[:118]), tmp_path / "run")
    with pytest.raises(SystemExit, match="has the columns image, class: its first"):
        train(path, table(tmp_path / "a.csv", known, ("image", "class")),
              tmp_path / "run")
    (tmp_path / "b.csv").write_bytes("file,label\né.png,x\n".encode("latin-1"))
    with pytest.raises(SystemExit, match="is not UTF-8 text"):
        train(path, tmp_path / "b.csv", tmp_path / "run")
    with pytest.raises(SystemExit, match="no table can be read there"):
        train(path, tmp_path / "c.csv", tmp_path / "run")
    with pytest.raises(SystemExit, match="take --model m2"):
        main(["train", "--model", "vae", "--data", f"folder:{path}", "--labels",
              str(table(tmp_path / "a.csv", known)), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="a table is for folder:PATH"):
        main(["train", "--model", "m2", "--data", "digits", "--labels",
              str(tmp_path / "a.csv"), "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="give a multiple of 10"):
        main(["train", "--model", "m2", "--data", "digits", "--labels", "7", "--out",
              str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_predict_needs_a_model_with_a_classifier(tmp_path, digits):
    main(["train", "--data", "digits", "--max-steps", "1", "--epochs", "1", "--device",
          "cpu", "--set", "hidden=[8]", "--out", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match="needs a model with a classifier"):
        main(["predict", str(tmp_path / "run"), "--data", "digits"])
    with pytest.raises(SystemExit, match="end the name in .csv"):
        main(["predict", str(tmp_path / "run"), "--data", "digits", "--out", "x.txt"])


def test_a_number_keeps_so_many_labels_of_a_named_set(tmp_path):
    main(["train", "--model", "m2", "--data", "digits", "--labels", "50", "--epochs",
          "1", "--max-steps", "3", "--device", "cpu", "--set", "hidden=[8]", "--out",
          str(tmp_path / "run")])
    main(["predict", str(tmp_path / "run"), "--data", "digits", "--device", "cpu"])
    rows = list(csv.DictReader(open(tmp_path / "run" / "labels.csv", encoding="utf-8")))
    assert list(rows[0]) == ["index", "label", "probability"] and len(rows) == 1000


def test_labels_are_read_whatever_the_order_and_the_mark(tmp_path):
    path = tmp_path / "few.csv"
    path.write_bytes("\ufefflabel,note,file\r\n10,x,b.png\r\n2,y,a.png\r\n".encode())
    y, classes = read_labels(path, [Path("a.png"), Path("b.png"), Path("c.png")])
    assert (y.tolist(), classes) == ([0, 1, -1], ["2", "10"])
    assert math.isclose(float(y.sum()), 0)
