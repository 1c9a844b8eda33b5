"""Small errors that would hide in `anomaly_detection`: each of these was planted, and
no other test noticed it."""
import copy, io, math
import numpy as np, pytest, torch
from PIL import Image
import vae_course.anomaly_detection as room
from vae_course.anomaly_detection import (
    AnomalyDetector, Detection, Proportion, _default_epochs, _InputFormat,
    _sample_codes, anomaly_scores, auroc, auroc_interval, conformal_threshold,
    precision_from_rates, score_methods)
from vae_course.data import DataError, Examples, split
from vae_course.datasets import load
from vae_course.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from vae_course.latent import diagonal_gaussian
SMALL = dict(config=dict(hidden=[16], latent_dim=3), epochs=1, batch_size=64,
             false_alarm=0.1, device="cpu")


@pytest.fixture(scope="module")
def digits(): return load("digits")


@pytest.fixture(scope="module")
def X(digits): return digits.train.x[:300]


@pytest.fixture(scope="module")
def fitted(X): return AnomalyDetector(**SMALL).fit(X)


@pytest.fixture(scope="module")
def few(digits): return digits.test.floats()[:5]


def test_nan_among_normal_scores():
    with pytest.raises(ValueError, match="NaN"): auroc([math.nan, 0.0], [1.0])


def test_interval_agrees_with_delong():
    g = torch.Generator().manual_seed(0)
    n, a = torch.randn(1000, generator=g), torch.randn(1000, generator=g) + 1
    wins = (a[:, None] > n).double()
    # DeLong et al. 1988
    error = (wins.mean(0).var() / len(n) + wins.mean(1).var() / len(a)).sqrt()
    low, high = auroc_interval(n, a, repeats=1000)
    assert abs((high - low) / (2 * 1.96 * error) - 1) < 0.1


def test_codes_have_the_standard_deviation():
    q = diagonal_gaussian(torch.zeros(1, 2), torch.tensor([[0.0, -4.0]]))
    assert torch.allclose(_sample_codes(q, 10_000).std(0), q.stddev, rtol=0.05)


def test_reconstruction_error_is_a_sum(fitted, few):
    with torch.no_grad():
        assert torch.allclose(
            room.reconstruction_error(fitted.model_, few),
            ((few - fitted.model_.reconstruct(few))**2).sum((1, 2, 3)), rtol=1e-4)


def test_neg_elbo_adds_the_kl(fitted, few):
    with torch.no_grad():
        m = fitted.model_; q = m.encode(few)
        gap = room.neg_elbo(m, few, samples=500) - room.reconstruction_probability(
            m, few, samples=500)
        kl = torch.distributions.kl_divergence(
            torch.distributions.Normal(q.mean, q.stddev),
            torch.distributions.Normal(0.0, 1.0)).sum(1)
        assert torch.allclose(gap, kl, atol=0.02 * kl.max().item() + 0.02)


def test_neg_log_px_by_hand(fitted, few):
    with torch.no_grad():
        m = fitted.model_; q = m.encode(few); z = _sample_codes(q, 1)
        assert torch.allclose(room.neg_log_px(m, few, samples=1),
                              -(m.decode(z).log_prob(few) + m.prior().log_prob(z)
                                - q.log_prob(z))[0], atol=1e-2)


def test_regret_is_never_negative(fitted, few):
    with torch.no_grad():
        assert (room.likelihood_regret(fitted.model_, few, lr=10.0, steps=2).min() >= 0
                < room.likelihood_regret(fitted.model_, few, steps=5).max())


def test_complexity_is_in_nats(few):
    file = io.BytesIO()
    Image.fromarray((few[0, 0] * 255).round().byte().numpy()).save(
        file, "PNG", optimize=True)
    assert math.isclose(room.complexity(few)[0].item(),
                        len(file.getvalue()) * 8 * math.log(2), rel_tol=1e-6)


def test_corrected_counts_grey_levels(fitted, few):
    with torch.no_grad():
        assert torch.allclose(room.complexity_corrected(fitted.model_, few),
                              room.neg_log_px(fitted.model_, few) + 784 * math.log(256)
                              - room.complexity(few))


def test_a_rate_that_rounds():
    # 100 · 0.29 is 28.999… in floating point
    assert conformal_threshold(torch.arange(99), 0.29) == 70


def test_wilson_interval():
    "Its ends are the proportions from which the count lies 1.96 standard errors away."
    for count, n in ((1, 20), (5, 20), (19, 20), (3, 200)):
        found = Proportion([True] * count + [False] * (n - count))
        assert found.low < found.value == count / n < found.high
        for p in (found.low, found.high):
            assert math.isclose(abs(count / n - p),
                                1.959964 * math.sqrt(p * (1 - p) / n), rel_tol=1e-5)


def test_precision_has_its_prevalence():
    found = Detection(torch.arange(100), torch.arange(50, 150), 89, prevalence=0.5)
    assert math.isclose(found.precision, 60 / 70)


def test_just_enough_held_out(X):
    # just enough for 0.1
    assert len(AnomalyDetector(**SMALL | dict(batch_size=16))
               .fit(X[:45]).calibration_scores_) == 9
    with pytest.raises(DataError, match="takes at least 9 held out; give more, raise "
                                        "calibration_fraction, or promise less"):
        AnomalyDetector(**SMALL | dict(batch_size=16)).fit(X[:42])


def test_a_file_that_does_not_fit(fitted, tmp_path):
    fitted.save(tmp_path / "d.safetensors")
    state = load_checkpoint(tmp_path / "d.safetensors")
    state["config"]["hidden"] = [17]
    save_checkpoint(tmp_path / "e.safetensors", state)
    with pytest.raises(CheckpointError, match="does not fit"):
        AnomalyDetector.load(tmp_path / "e.safetensors")


def test_infinite_scores_are_refused(fitted, X, monkeypatch):
    monkeypatch.setitem(score_methods, "reconstruction_error",
                        lambda model, x: 1 / x.sum((1, 2, 3)))
    dark = X[:5].clone(); dark[1] = 0
    with pytest.raises(DataError, match="1 of 5 scores are not finite"):
        fitted.anomaly_score(dark)


def test_the_part_that_is_held_out_has_its_seed(X):
    d = AnomalyDetector(**SMALL, seed=1).fit(X)
    held = split(Examples(X, torch.zeros(len(X)).long()), 0.2, 1)[1]
    assert np.allclose(d.anomaly_score(held), d.calibration_scores_, rtol=1e-4)


def test_seed_and_rate_reach_the_training(X, monkeypatch):
    seen, train = [], room.fit
    monkeypatch.setattr(room, "fit", lambda model, examples, **more: (
        seen.append((next(model.parameters()).detach().clone(), more)),
        train(model, examples, **more))[1])
    for seed in (0, 1): AnomalyDetector(**SMALL, seed=seed, lr=0.01).fit(X)
    assert [(m["seed"], m["lr"], m["batch_size"], m["epochs"]) for _, m in seen] == [
        (0, 0.01, 64, 1), (1, 0.01, 64, 1)] and not torch.equal(seen[0][0], seen[1][0])


def test_a_new_threshold_at_another_rate(fitted, X):
    d = copy.deepcopy(fitted).set_threshold(X[:100], 0.3)
    assert (d.threshold_ == conformal_threshold(d.anomaly_score(X[:100]), 0.3)
            == -d.offset_ != conformal_threshold(d.anomaly_score(X[:100]), 0.1))


def test_settings_reach_the_score(fitted, X):
    d = copy.deepcopy(fitted).set_params(score_method="neg_elbo",
                                         settings={"samples": 1, "seed": 5})
    assert np.allclose(
        d.anomaly_score(X[:5]),
        anomaly_scores(d.model_, _InputFormat(d.data_shape_, d.unit_).examples(X[:5]),
                       "neg_elbo", samples=1, seed=5), rtol=1e-6)
    assert not np.allclose(
        d.anomaly_score(X[:5]),
        anomaly_scores(d.model_, _InputFormat(d.data_shape_, d.unit_).examples(X[:5]),
                       "neg_elbo"), rtol=1e-6)


def test_detection_has_its_prevalence(fitted, X):
    found = fitted.detection(X, 255 - X, prevalence=0.5)
    assert 0 < found.false_alarm.value and math.isclose(
        found.precision,
        precision_from_rates(found.detection.value, found.false_alarm.value, 0.5))


def test_the_default_number_of_epochs_makes_1500_steps():
    assert [_default_epochs(n, 128) for n in (200, 5000, 60_000)] == [200, 38, 3]


@pytest.mark.parametrize("model, config", [
    ("cvae", None), ("vq_vae", None), ("classifier", None), ("vae", dict(depth=3))])
def test_models_without_a_likelihood_of_their_own_are_refused_before_training(
        model, config, X):
    with pytest.raises(ValueError, match="needs a VAE without conditions"):
        AnomalyDetector(model=model, config=config, device="cpu").fit(X)
