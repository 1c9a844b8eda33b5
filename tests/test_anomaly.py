"""Anomaly detection: scores, the promise of the threshold, the signs of scikit-learn,
files, and a reader's own folder."""
import copy, json, math, os, pickle, re, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from vae_course.anomaly_detection import (
    AnomalyDetector, Detection, Proportion, anomaly_scores, auroc, auroc_interval,
    conformal_threshold, precision_from_rates, read_image_folder, score_methods)
from vae_course.data import DataError, Examples
from vae_course.datasets import load
from vae_course.checkpoint import CheckpointError
from vae_course.training import save_model

root = Path(__file__).resolve().parent.parent
SMALL = dict(config=dict(hidden=[16], latent_dim=3), epochs=1, batch_size=64,
             false_alarm=0.1, device="cpu")
numbers = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def X(digits):
    return digits.train.x[:300]


@pytest.fixture(scope="module")
def fitted(X):
    return AnomalyDetector(**SMALL).fit(X)


@given(numbers, numbers)
@settings(max_examples=100, deadline=None)
def test_auroc_is_that_of_scikit_learn(normal, anomalous):
    ours = auroc(torch.tensor(normal), torch.tensor(anomalous))
    assert math.isclose(ours, roc_auc_score([0] * len(normal) + [1] * len(anomalous),
                                            normal + anomalous), abs_tol=1e-12)
    # the sign
    assert math.isclose(ours + auroc([-v for v in normal], [-v for v in anomalous]), 1,
                        abs_tol=1e-12)


def test_auroc_interval_shrinks_and_holds_the_value():
    g = torch.Generator().manual_seed(0)
    few, many = ((torch.randn(n, generator=g), torch.randn(n, generator=g) + 1)
                 for n in (50, 5000))
    (a, b), (c, d) = auroc_interval(*few), auroc_interval(*many)
    assert a < auroc(*few) < b and c < auroc(*many) < d and d - c < (b - a) / 5


@given(st.integers(1, 200), st.floats(0.005, 0.5))
@settings(max_examples=200, deadline=None)
def test_threshold_keeps_its_promise_and_is_the_least_that_does(n, rate):
    "Of n + 1 exchangeable scores, all different, each is the new one equally often."
    if (n + 1) * rate < 1 - 1e-9:
        with pytest.raises(ValueError, match="takes at least"):
            conformal_threshold(torch.arange(n), rate)
        return
    above = sum(new > conformal_threshold(
        torch.tensor([v for v in range(n + 1) if v != new]), rate)
                for new in range(max(0, n - 120), n + 1))
    assert above <= (n + 1) * rate + 1e-6 and above + 1 > (n + 1) * rate - 1e-6


def test_proportions_and_precision():
    assert (Proportion([True, False]).value, Proportion([False] * 10).low,
            Proportion([True] * 10).high) == (0.5, 0.0, 1.0)
    assert Proportion([False] * 10).high > 0.2
    assert math.isclose(precision_from_rates(0.9, 0.05, 0.01), 90 / 585)


def test_signs_and_verdicts(fitted, X, digits):
    new = digits.test.x[:200]
    s, d, p = (fitted.score_samples(new), fitted.decision_function(new),
               fitted.predict(new))
    assert ((s == -fitted.anomaly_score(new)).all() and (d == s - fitted.offset_).all()
            and ((p == 1) == (d >= 0)).all() and set(p) <= {1, -1})
    assert is_outlier_detector(fitted) and fitted.n_features_in_ == 784
    noise = np.random.default_rng(0).integers(0, 256, (50, 1, 28, 28), dtype=np.uint8)
    # higher is more anomalous
    assert (fitted.anomaly_score(noise).min() > np.median(fitted.anomaly_score(new))
            and (fitted.predict(noise) == -1).all())
    assert auroc(fitted.anomaly_score(new), fitted.anomaly_score(noise)) > 0.99


def test_a_score_that_equals_the_threshold_is_no_alarm(fitted, digits):
    new = digits.test.x[:50]
    moved = copy.copy(fitted)
    moved.threshold_ = float(fitted.anomaly_score(new)[7])
    moved.offset_ = -moved.threshold_
    assert moved.decision_function(new)[7] == 0 and moved.predict(new)[7] == 1


def test_clone_set_params_pipeline_and_seeds(fitted, X):
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params() and not hasattr(fresh, "model_")
    with pytest.raises(NotFittedError, match="call `fit`"):
        fresh.predict(X[:2])
    with pytest.raises(NotFittedError, match="call `fit`"):
        fresh.save("nowhere")
    assert fresh.set_params(false_alarm=0.2).false_alarm == 0.2
    rows = X.flatten(1).numpy() / 255
    pipe = make_pipeline(FunctionTransformer(),
                         AnomalyDetector(**SMALL, data_shape=(1, 28, 28))).fit(rows)
    # one seed, one detector
    assert np.allclose(pipe.decision_function(rows[:20]),
                       fitted.decision_function(X[:20]), atol=1e-3)
    # a fitted one knows its shape
    assert np.allclose(fitted.decision_function(rows[:20]),
                       fitted.decision_function(X[:20]), atol=1e-3)


@pytest.mark.parametrize("how", score_methods)
def test_every_score_is_one_of_the_image_alone(how, fitted, digits):
    examples = digits.test[:30]
    whole, apart = (anomaly_scores(fitted.model_, examples, how, batch_size=30),
                    anomaly_scores(fitted.model_, examples, how, batch_size=7))
    assert (whole.shape == (30,) and whole.dtype == torch.float64
            and whole.isfinite().all())
    assert torch.allclose(whole, apart, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("how", [how for how in score_methods if how not in (
    "complexity_corrected", "likelihood_regret")])
def test_noise_scores_higher_than_digits(how, fitted, digits):
    """Not where the compressor pays for noise, too, nor by the regret of a model that
    was hardly trained, which no q helps."""
    examples = digits.test[:30]
    noise = Examples(torch.rand(30, 1, 28, 28,
                                generator=torch.Generator().manual_seed(0)), examples.y)
    assert auroc(anomaly_scores(fitted.model_, examples, how),
                 anomaly_scores(fitted.model_, noise, how)) > 0.9


def test_training_state_is_left_alone(fitted, digits):
    weights = {k: v.clone() for k, v in fitted.model_.state_dict().items()}
    before = torch.get_rng_state()
    anomaly_scores(fitted.model_, digits.test[:10], "likelihood_regret")
    assert torch.equal(before, torch.get_rng_state()) and all(
        torch.equal(v, fitted.model_.state_dict()[k]) for k, v in weights.items())
    assert not fitted.model_.training


@pytest.mark.parametrize("kind, config",
                         [("conv_vae", dict(widths=[4, 8], latent_dim=3)),
                          ("beta_vae", dict(hidden=[16], latent_dim=3))])
def test_other_models(kind, config, X, tmp_path):
    detector = AnomalyDetector(**SMALL | dict(model=kind, config=config)).fit(X)
    detector.save(tmp_path / "d.safetensors")
    assert (AnomalyDetector.load(tmp_path / "d.safetensors").score_samples(X[:20])
            == detector.score_samples(X[:20])).all()


@pytest.mark.processes
def test_saved_and_loaded_in_another_process(fitted, digits, tmp_path):
    path = tmp_path / "detector.safetensors"
    fitted.save(path)
    code = ("import sys, json; from vae_course.anomaly_detection import "
            "AnomalyDetector; from vae_course.datasets import load\nd = "
            "AnomalyDetector.load(sys.argv[1]); x = load('digits').test.x[:40]\n"
            "print(json.dumps([d.decision_function(x).tolist(), d.predict(x).tolist(), "
            "d.threshold_, d.false_alarm, len(d.calibration_scores_)]))")
    done = subprocess.run(
        [sys.executable, "-c", code, path], encoding="utf-8", capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root),
                          "OMP_NUM_THREADS": str(torch.get_num_threads())})
    assert done.returncode == 0, done.stderr
    decision, verdicts, threshold, rate, held = json.loads(done.stdout)
    x = digits.test.x[:40]
    assert (np.allclose(decision, fitted.decision_function(x), atol=1e-3)
            and verdicts == fitted.predict(x).tolist())
    assert (threshold, rate, held) == (fitted.threshold_, fitted.false_alarm,
                                       len(fitted.calibration_scores_))


def test_other_files_are_refused(fitted, tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(dict(kind="anomaly_detector")))
    with pytest.raises(CheckpointError, match="pickle"):
        AnomalyDetector.load(tmp_path / "a.pkl")
    save_model(fitted.model_, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="holds no anomaly detector"):
        AnomalyDetector.load(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        AnomalyDetector.load(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("bad, words", [
    (lambda X: X[:1].repeat(200, 1, 1, 1), "are the same"),
    (lambda X: X[:30], "takes at least 9 held out"),
    (lambda X: torch.full((100, 1, 28, 28), math.nan),
     "row 0, counted from 0, holds NaN"), (lambda X: X[:0], "no examples")])
def test_bad_training_data_and_no_half_fitted_detector(bad, words, X):
    detector = AnomalyDetector(**SMALL)
    with pytest.raises(DataError, match=words):
        detector.fit(bad(X))
    with pytest.raises(NotFittedError, match="call `fit`"):
        detector.predict(X[:2])


def test_bad_new_data(fitted, X):
    gone = X[:3].float() / 255
    gone[1, 0, 5, 5] = math.nan
    for bad, words in [(gone, "row 1, counted from 0, holds NaN"),
                       (torch.rand(2, 1, 32, 32), "or rows of 784"),
                       (torch.rand(2, 700), "or rows of 784")]:
        with pytest.raises(DataError, match=words):
            fitted.predict(bad)
    with pytest.raises(ValueError, match="there are reconstruction_error"):
        AnomalyDetector(score_method="oddness").fit(X)


def test_threshold_comes_from_pictures_that_were_not_trained_on(X, monkeypatch):
    import vae_course.anomaly_detection as room
    seen = []
    train = room.fit
    monkeypatch.setattr(room, "fit", lambda model, examples, **more: (
        seen.append(examples), train(model, examples, **more))[1])
    detector = AnomalyDetector(**SMALL).fit(X)
    assert len(seen[0]) + len(detector.calibration_scores_) == len(X)
    trained = {bytes(x.numpy().tobytes()) for x in seen[0].x}
    rest = torch.stack([x for x in X if x.numpy().tobytes() not in trained])
    assert np.allclose(np.sort(detector.anomaly_score(rest)),
                       np.sort(detector.calibration_scores_), atol=1e-3)


def test_what_was_learned_ends_with_an_underscore(fitted):
    learned = {"model_", "history_", "data_shape_", "unit_", "n_features_in_",
               "calibration_scores_", "threshold_", "offset_"}
    assert (vars(fitted).keys() - fitted.get_params().keys() == learned
            and not vars(clone(fitted)).keys() - fitted.get_params().keys())


def test_constant_scores_give_no_alarm():
    found = Detection(torch.zeros(50), torch.zeros(50),
                      conformal_threshold(torch.zeros(50), 0.1))
    assert (found.auroc == 0.5 and found.detection.value == found.false_alarm.value == 0
            and math.isnan(found.precision))


@pytest.mark.slow
def test_the_code_for_own_pictures_runs(tmp_path):
    "As README.md has it."
    random = np.random.default_rng(0)
    def image(path, bright):
        path.parent.mkdir(exist_ok=True)
        up, across = np.mgrid[:40, :36] / 40
        Image.fromarray((255 * (bright * up + random.uniform(0, 0.3) * across).clip(
            0, 1)).astype(np.uint8)).save(path)
    for i in range(200):
        image(tmp_path / "my_normal_images" / f"{i}.png", 0.7)
    for i in range(10):
        image(tmp_path / "my_new_images" / f"good{i}.png", 0.7)
    Image.fromarray(random.integers(0, 256, (36, 40, 3), dtype=np.uint8)).save(
        tmp_path / "my_new_images" / "broken.png")
    code, = [c for c in re.findall(
        r"```python\n(.*?)```", (root / "README.md").read_text(encoding="utf-8"), re.S)
             if "AnomalyDetector" in c]
    code += ("\nassert 'broken.png' in [f.name for f in strange] and len(strange) "
             "< 6, strange\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, encoding="utf-8",
        capture_output=True,
        env=os.environ
            | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "my_detector.safetensors").is_file()


def test_read_image_folder_keeps_names_and_colours(tmp_path):
    for name in ("b", "a"):
        Image.fromarray(np.full((8, 9, 3), 100, np.uint8)).save(
            tmp_path / f"{name}.png")
    x, files = read_image_folder(tmp_path, channels=3)
    assert x.shape == (2, 3, 8, 9) and [f.name for f in files] == ["a.png", "b.png"]
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match="size=64"):
        read_image_folder(tmp_path)
