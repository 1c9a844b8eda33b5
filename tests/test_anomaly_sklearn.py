"""The detector among scikit-learn's tools: tables, pipelines, searches, settings,
columns, and files of the version before."""
import inspect, math, re, warnings
from functools import cache
from pathlib import Path
import numpy as np, pandas as pd, pytest, scipy.sparse, torch
from sklearn.base import (BaseEstimator, ClassifierMixin, OutlierMixin, RegressorMixin,
                          TransformerMixin, clone)
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
import vae_course.anomaly_detection as room
from vae_course.anomaly_detection import (
    AnomalyDetector, conformal_threshold, score_methods)
from vae_course.data import DataError, as_floats
from vae_course.checkpoint import load_checkpoint

here = Path(__file__).resolve().parent
TINY = dict(config=dict(hidden=[16], latent_dim=2), epochs=20, batch_size=16, lr=1e-2,
            false_alarm=0.1, device="cpu")
# of a score alone and among others, in float32
ALIKE = dict(rtol=1e-4, atol=1e-4)


def table(n, seed=0):
    "Rows of four columns around 50, of which the last is the sum of the others."
    free = np.random.default_rng(seed).normal(50, 10, (n, 3))
    return np.column_stack([free, free.sum(1)])


def images(n, seed=0):
    "Grey ramps `(n, 6, 5)`, uint8."
    random = np.random.default_rng(seed)
    up, across = np.mgrid[:6, :5] / 6
    return (255 * (0.7 * up + random.uniform(0, 0.3, (n, 1, 1)) * across
                   + random.normal(0, 0.05, (n, 6, 5))).clip(0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def columns():
    return make_pipeline(StandardScaler(), AnomalyDetector(**TINY)).fit(table(300))


@pytest.fixture(scope="module")
def ramps(): return AnomalyDetector(**TINY).fit(images(200))


@pytest.fixture
def untrained(monkeypatch):
    "A test that fails when anything is trained."
    def fit(*_, **__): raise AssertionError("it was trained")
    monkeypatch.setattr(room, "fit", fit)


def test_standardised_columns_are_data_and_an_outlier_gets_a_score(columns):
    new = table(50, seed=1)
    normal = columns.score_samples(new)
    new[7, 0] = 1e9
    found = columns.score_samples(new)
    assert (np.isfinite(found).all() and found.argmin() == 7
            and columns.predict(new)[7] == -1 and found[7] < 1e6 * normal.min())
    # the others keep theirs
    assert np.allclose(np.delete(found, 7), np.delete(normal, 7), **ALIKE)
    assert (((columns.decision_function(new) >= 0) == (columns.predict(new) == 1)).all()
            and columns.predict(table(300, seed=2)).mean() > 0.6)


@pytest.mark.parametrize("how",
                         [h for h in score_methods if h != "complexity_corrected"])
def test_an_outlier_beyond_float32_gets_its_score_in_float64(columns, how):
    detector = clone(columns[-1]).set_params(score_method=how, epochs=2).fit(
        columns[0].transform(table(200)))
    sizes = ([0, 1e3, 1e6, 1e9, 1e12]
             + ([1e14] if how == "likelihood_regret" else [1e25, 1e38]))
    far = detector.anomaly_score([[0, -size, 0, 0] for size in sizes])
    assert np.isfinite(far).all() and (np.diff(far) > 10 * abs(far[:-1])).all() and (
        detector.predict([[0, -size, 0, 0] for size in sizes[1:]]) == -1).all()
    # beyond, rounding would hide it
    if how == "likelihood_regret":
        with pytest.raises(DataError, match="row 1, counted from 0, holds -1e[+]16, .* "
                                            "another score_method"):
            detector.predict([[0, 0, 0, 0], [0, -1e16, 0, 0]])
    with pytest.raises(DataError, match="row 1, counted from 0, holds NaN, infinity or "
                                        "a number too large"):
        detector.predict([[0.0] * 4, [1e200] * 4])


@pytest.mark.parametrize("model, config",
                         [("vae", dict(hidden=[8])), ("conv_vae", dict(widths=[4])),
                          ("beta_vae", dict(hidden=[8]))])
def test_bernoulli_keeps_zero_to_one_and_names_the_row(
        model, config, untrained, monkeypatch):
    x = images(100) / 255
    # a rounding
    x[3, 2, 2] = 1 + 1e-7
    x[41, 0, 0], x[60, 0, 0] = -0.5, 7
    detector = AnomalyDetector(**TINY | dict(
        model=model, config=config | dict(latent_dim=2, likelihood="bernoulli"),
        epochs=1))
    with pytest.raises(DataError, match=r"row 41, counted from 0, holds -0.5, and a "
                                        r"Bernoulli likelihood with "
                                        r"reconstruction_error takes \[0, 1\] alone"):
        detector.fit(x)
    monkeypatch.undo()
    x[41], x[60] = x[0], x[0]
    detector.fit(x)
    with pytest.raises(DataError, match="row 2, counted from 0, holds 1.5"):
        detector.predict(np.stack([x[0], x[3], x[0] * 0 + 1.5]))
    assert np.isfinite(detector.score_samples(x)).all()


def test_grey_levels_are_counted_only_from_zero_to_one(ramps):
    grey = clone(ramps).set_params(score_method="complexity_corrected", epochs=1).fit(
        images(100))
    with pytest.raises(DataError,
                       match=r"row 1, counted from 0, holds 2, and this Gaussian model "
                             r"with complexity_corrected takes \[0, 1\] alone: .* "
                             r"another score_method"):
        grey.predict(np.stack([np.zeros((6, 5)), np.full((6, 5), 2.0)]))


@pytest.mark.parametrize("how", ["neg_log_px", "complexity_corrected"])
def test_grey_pixels_under_bernoulli_are_refused_before_training(how, untrained):
    x = images(100)
    x[:90] = np.where(x[:90] > 60, 255, 0)          # grey only towards the end
    with pytest.raises(DataError, match="binarize first"):
        AnomalyDetector(**TINY | dict(config=dict(hidden=[8], likelihood="bernoulli")),
                        score_method=how).fit(x)


def test_floats_outside_the_scale_of_uint8_are_scored_with_a_warning(ramps):
    x = images(5) / 255
    with pytest.warns(UserWarning, match="learned from whole numbers read as"):
        assert (ramps.predict(x * 255) == -1).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ramps.predict(x + 0.2)


def test_no_parameter_has_the_name_of_a_method():
    bases = (BaseEstimator, OutlierMixin, ClassifierMixin, RegressorMixin,
             TransformerMixin)
    taken = {name for c in bases for name in dir(c)} | {
        "fit", "predict", "predict_proba", "score", "score_samples",
        "decision_function", "transform", "inverse_transform", "partial_fit"}
    parameters = list(inspect.signature(AnomalyDetector.__init__).parameters)[1:]
    assert (not taken & set(parameters)
            and not [name for name in parameters if hasattr(AnomalyDetector, name)])


@pytest.mark.parametrize("scoring", [
    None, lambda detector, X, y: roc_auc_score(y == -1, detector.anomaly_score(X))])
def test_a_search_gives_numbers(scoring):
    X, y = table(120), np.ones(120)
    X[::10, 3] += 60
    y[::10] = -1
    search = GridSearchCV(
        AnomalyDetector(**TINY),
        dict(epochs=[1, 10], score_method=["reconstruction_error", "neg_elbo"]),
        scoring=scoring, cv=2, error_score="raise").fit(X / 100, y)
    found = search.cv_results_["mean_test_score"]
    assert (np.isfinite(found).all() and len(set(found.round(6))) > 1
            and search.best_estimator_.predict(X / 100).shape == (120,))


def test_score_is_the_mean_of_score_samples(ramps):
    new = images(50, seed=1)
    assert math.isclose(ramps.score(new), ramps.score_samples(new).mean(),
                        rel_tol=1e-12) and ramps.score(255 - new) < ramps.score(new)


def test_settings_are_kept_as_they_came():
    given = dict(data_shape=[6, 5], model="vae", config=dict(latent_dim=np.int64(2)),
                 score_method="neg_elbo", settings=dict(samples=3),
                 false_alarm=np.float32(0.1), calibration_fraction=0.3,
                 epochs=np.int64(2), batch_size=8, lr=1e-3, seed=4,
                 device=torch.device("cpu"))
    detector = AnomalyDetector(**given)
    assert (all(v is given[k] for k, v in detector.get_params(deep=False).items())
            and set(given) == set(detector.get_params()))
    assert (clone(detector).get_params() == detector.get_params()
            == AnomalyDetector().set_params(**given).get_params())
    assert all(v is given[k]
               for k, v in detector.fit(images(100)).get_params(deep=False).items())


def test_a_file_of_the_version_before_still_loads():
    """Made by version 0.1.0, where `score_method` was called `score` and
    `calibration_fraction` was `held_out`; what it said of these images then."""
    detector = AnomalyDetector.load(here / "files" / "detector-0.1.0.safetensors")
    i, scale = np.arange(30).reshape(6, 5), np.arange(1, 6)[:, None, None]
    noisy, ramp = (((37 * np.arange(150)) % 256).reshape(5, 6, 5).astype(np.uint8),
                   (8 * i * scale // 5).astype(np.uint8))
    assert (detector.score_method == "neg_elbo" and detector.settings == dict(samples=3)
            and math.isclose(detector.threshold_, 2.4411399, rel_tol=1e-6))
    assert (detector.calibration_fraction == 0.2
            and detector.threshold_ == conformal_threshold(
                detector.calibration_scores_, 0.1) == -detector.offset_)
    assert np.allclose(detector.anomaly_score(noisy),
                       [15.824594, 18.840498, 29.939850, 16.239660, 19.406864],
                       rtol=1e-4, atol=1e-3)
    assert np.allclose(detector.anomaly_score(ramp),
                       [2.852942, -1.056340, -1.552450, 1.292772, 7.559462], rtol=1e-4,
                       atol=1e-3)
    assert (detector.predict(ramp).tolist() == [-1, 1, 1, 1, -1]
            and detector.predict(ramp.astype(int)).tolist() == [-1, 1, 1, 1, -1])
    with pytest.warns(UserWarning, match="learned from whole numbers"):
        assert np.isfinite(detector.anomaly_score(ramp * 3.0)).all()


def test_a_file_of_the_version_before_is_saved_with_the_names_of_now(tmp_path):
    old = AnomalyDetector.load(here / "files" / "detector-0.1.0.safetensors")
    state = load_checkpoint(old.save(tmp_path / "d.safetensors"))
    assert (state["settings"].keys() == old.get_params().keys() == AnomalyDetector()
                                                                   .get_params().keys()
            and not room._RENAMED.keys() & (state.keys() | state["settings"].keys()))
    again = AnomalyDetector.load(tmp_path / "d.safetensors")
    assert (again.get_params() == old.get_params()
            and (again.calibration_scores_ == old.calibration_scores_).all())


def test_the_detector_is_one_estimator_and_not_cut_in_mixins():
    assert AnomalyDetector.__bases__ == (OutlierMixin, BaseEstimator)


BAD = [(dict(epochs=0), "whole number of at least 1"),
       (dict(epochs=-1), "whole number"), (dict(epochs=2.5), "whole number"),
       (dict(epochs=True), "whole number"), (dict(epochs="3"), "whole number"),
       *((dict(false_alarm=v), "a share between 0 and 1")
         for v in (0, 5, 1, -0.1, False, True, math.nan, "5 %", None)),
       *((dict(calibration_fraction=v),
          "got calibration_fraction=.*a share between 0 and 1")
         for v in (0, 1, 1.5, -0.2, math.nan, True, "half", None, 30)),
       *((dict(batch_size=v), "whole number") for v in (0, -1, 16.0, None, "16")),
       *((dict(lr=v), "a positive number")
         for v in (0, -1e-3, math.nan, math.inf, "fast", None, True)),
       *((dict(seed=v), "whole number") for v in (-1, 0.5, None, "a", 2**63)),
       *((dict(data_shape=v), "shape of one example")
         for v in ((), "wide", (0, 5), (6.0, 5), 30, (6, -5))),
       (dict(score_method="oddness"), "there are reconstruction_error"),
       (dict(score_method="neg_elbo", settings=dict(sampels=3)),
        "neg_elbo takes samples, seed"),
       (dict(settings=dict(samples=3)), "reconstruction_error takes none"),
       (dict(score_method="neg_elbo", settings=dict(samples=0)), "samples=0"),
       (dict(score_method="likelihood_regret", settings=dict(steps=1.5)), "steps=1.5"),
       (dict(score_method="likelihood_regret", settings=dict(lr=-1)), "lr=-1"),
       (dict(settings=[3]), "give a dict"), (dict(config=[16]), "give a dict"),
       (dict(model="no_such"), "no model called"),
       (dict(config=dict(latent_dim=-1)), "a detector needs a VAE"),
       (dict(device="abacus"), "no device 'abacus'"),
       (dict(lr=lambda t: 1e-3), "a positive number"),
       (dict(config=dict(hidden=[8], activation=torch.nn.ReLU)),
        "cannot store settings.config.activation"),
       (dict(model=object()), "cannot store settings.model")]


@pytest.mark.parametrize("bad, words", BAD,
                         ids=lambda v: re.sub(r" at 0x.*", "", str(v))[:40])
def test_a_setting_that_cannot_work_or_be_saved_is_refused_before_training(
        bad, words, untrained):
    detector = AnomalyDetector(**TINY | bad)
    with pytest.raises(ValueError, match=words): detector.fit(images(100))
    with pytest.raises(NotFittedError, match="call `fit`"): detector.predict(images(2))


@pytest.mark.parametrize("rate", [0, 5, False, math.nan, "5 %"])
def test_a_rate_that_is_no_share_is_refused_wherever_it_is_given(rate, ramps):
    with pytest.raises(ValueError, match="share between 0 and 1"):
        conformal_threshold(torch.arange(100), rate)
    with pytest.raises(ValueError, match="share between 0 and 1"):
        ramps.set_threshold(images(50, seed=1), rate)


def test_numbers_of_numpy_work_and_can_be_saved(tmp_path):
    settings = dict(config=dict(hidden=np.array([16]), latent_dim=np.int64(2)),
                    score_method=np.str_("neg_elbo"),
                    settings=dict(samples=np.int64(3)), false_alarm=np.float32(0.1),
                    calibration_fraction=np.float64(0.2), epochs=np.int64(3),
                    batch_size=np.int32(16), lr=np.float32(0.01), seed=np.uint8(7),
                    data_shape=(np.int64(6), np.int64(5)), device=torch.device("cpu"))
    detector = AnomalyDetector(**settings).fit(images(100))
    detector.save(tmp_path / "d.safetensors")
    again = AnomalyDetector.load(tmp_path / "d.safetensors")
    own = AnomalyDetector(**room._as_python(settings)).fit(images(100))
    new = images(20, seed=1)
    assert ((again.decision_function(new) == detector.decision_function(new)).all()
            and np.allclose(own.decision_function(new), detector.decision_function(new),
                            **ALIKE))
    assert ((again.epochs, again.seed, again.data_shape) == (3, 7, (6, 5))
            and len(detector.history_) == 3)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused_with_its_row(number, columns, untrained):
    x = table(120)
    x[17, 2] = x[90, 0] = number
    for call in (clone(columns[-1]).fit, columns[-1].predict, columns[-1].score_samples,
                 columns[-1].set_threshold):
        with pytest.raises(DataError, match="row 17, counted from 0, holds NaN, "
                                            "infinity .* 2 of 120 rows"):
            call(x)


def test_columns_are_those_of_the_training(tmp_path):
    frame = pd.DataFrame(table(200), columns=list("abcd"))
    detector = AnomalyDetector(**TINY).fit(frame / 100)
    detector.save(tmp_path / "d.safetensors")
    for d in (detector, AnomalyDetector.load(tmp_path / "d.safetensors")):
        assert d.feature_names_in_.tolist() == list("abcd") and d.n_features_in_ == 4
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.isfinite(d.score_samples(frame / 100)).all()
        for bad, words in [
                (frame[list("bacd")], "must be in the same order"),
                (frame[list("abc")],
                 "Feature names seen at fit time, yet now missing:\n- d"),
                (frame.assign(e=1.0), "Feature names unseen at fit time:\n- e"),
                (frame.rename(columns=dict(a="A")), "unseen")]:
            for call in (d.predict, d.score_samples, d.decision_function,
                         d.set_threshold):
                with pytest.raises(ValueError, match=words): call(bad)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            d.predict(frame.to_numpy() / 100)
    detector.fit(frame.to_numpy() / 100)
    assert not hasattr(detector, "feature_names_in_")
    with pytest.raises(DataError, match="X has 3 features, but AnomalyDetector is "
                                        "expecting 4 features as input"):
        detector.predict(table(5)[:, :3])


def test_a_fit_that_is_refused_leaves_the_fitted_detector_as_it_was():
    frame = pd.DataFrame(table(200) / 100, columns=list("abcd"))
    detector = AnomalyDetector(**TINY).fit(frame)
    before = detector.score_samples(frame)
    with pytest.raises(DataError, match="holds NaN"):
        detector.fit(frame.rename(columns=dict(a="A")) * np.nan)
    assert ((detector.score_samples(frame) == before).all()
            and detector.feature_names_in_.tolist() == list("abcd"))


def test_a_column_may_have_any_name():
    frame = pd.DataFrame(table(100) / 100, columns=["layout", "toarray", "_mask", "x"])
    assert np.isfinite(AnomalyDetector(**TINY).fit(frame).score_samples(frame)).all()


def of_kind(kind, x):
    "uint8 images as another type."
    return {"uint8": lambda: x, "floats": lambda: x / 255,
            "int64": lambda: x.astype(np.int64),
            "uint16": lambda: x.astype(np.uint16) * 257, "bool": lambda: x > 100,
            "list": lambda: x.tolist(), "tensor": lambda: torch.from_numpy(x),
            "half": lambda: torch.from_numpy(x / 255).half(),
            "big endian": lambda: (x / 255).astype(">f8")}[kind]()


@cache
def taught(kind):
    "A detector of images of one kind, trained once."
    return AnomalyDetector(**TINY | dict(epochs=3)).fit(of_kind(kind, images(200)))


@pytest.mark.parametrize("learned", ["uint8", "uint16", "floats", "int64", "bool"])
@pytest.mark.parametrize(
    "kind", ["uint8", "floats", "int64", "uint16", "bool", "list", "tensor"])
def test_a_score_never_depends_on_the_neighbours(learned, kind):
    detector = taught(learned)
    new = images(50, seed=1)
    # whole numbers of which 1 is the largest
    new[5] = new[5] > 100
    new[6] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = detector.anomaly_score(of_kind(kind, new))
        for i in (0, 5, 6, 49):
            assert np.allclose(detector.anomaly_score(of_kind(kind, new[i:i + 1])),
                               together[i], **ALIKE)


@pytest.mark.parametrize(
    "kind", ["floats", "int64", "uint16", "list", "tensor", "half", "big endian"])
def test_one_picture_has_one_score_whatever_the_type(kind, ramps):
    new = images(50, seed=1)
    loose = dict(rtol=0.02, atol=0.02) if kind == "half" else ALIKE
    assert np.allclose(ramps.anomaly_score(of_kind(kind, new)),
                       ramps.anomaly_score(new), **loose)


@pytest.mark.parametrize("learned, unit", [
    ("uint8", 255), ("uint16", 65535), ("int64", 1), ("floats", None), ("bool", None)])
def test_what_stands_for_one_follows_from_the_type(learned, unit):
    x = np.array([[0, 1, 200]])
    for kind, own in [("uint8", 255), ("uint16", 65535), ("int64", 1), ("uint32", 1)]:
        # rows that are images
        found, own_ = room._read_numbers(x.astype(kind), (1, 1, 3), unit)
        right = unit if unit == 1 or (own == 1 and unit) else own
        assert own_ == own and torch.allclose(
            as_floats(found) if own == right == 255 else found,
            torch.from_numpy(x) / right, rtol=1e-6), (kind, learned)
    assert (room._read_numbers(x * 1.5, learned=unit)[0].tolist() == (x * 1.5).tolist()
            and room._read_numbers(x > 0, learned=unit)[0].tolist() == [[0, 1, 1]])


def test_whole_numbers_of_a_table_are_numbers(tmp_path):
    x = np.random.default_rng(0).integers(0, 400, (200, 4))
    detector = AnomalyDetector(**TINY | dict(epochs=3)).fit(x)
    assert np.allclose(detector.anomaly_score(x[:20]),
                       detector.anomaly_score(x[:20].astype(float)), **ALIKE)
    small = x[:20] % 200
    assert np.allclose(detector.anomaly_score(small.astype(np.uint8)),
                       detector.anomaly_score(small), **ALIKE)
    detector.save(tmp_path / "d.safetensors")
    assert np.allclose(AnomalyDetector.load(tmp_path / "d.safetensors")
                       .anomaly_score(small.astype(np.uint8)),
                       detector.anomaly_score(small), **ALIKE)


@pytest.mark.parametrize("data_shape", [(6, 5), [6, 5], (1, 6, 5), None])
def test_images_with_and_without_a_channel(data_shape, ramps):
    x = images(200)
    detector = AnomalyDetector(**TINY, data_shape=data_shape).fit(x)
    assert detector.data_shape_ == (1, 6, 5) and detector.n_features_in_ == 30
    for same in (x, x[:, None], x.reshape(200, 30)):
        assert np.allclose(detector.anomaly_score(same), ramps.anomaly_score(x),
                           **ALIKE)


@pytest.mark.parametrize("data_shape", [(6, 5), [6, 5], (1, 6, 5)])
def test_rows_are_images_where_data_shape_says_so(data_shape, ramps):
    x = images(200)
    assert np.allclose(AnomalyDetector(**TINY, data_shape=data_shape)
                       .fit(x.reshape(200, 30)).anomaly_score(x),
                       ramps.anomaly_score(x), **ALIKE)


def test_channels_last_are_moved_where_data_shape_says_so(untrained, monkeypatch):
    # (N, 3, 6, 5)
    x = np.stack([images(100, seed) for seed in range(3)], 1)
    last = np.moveaxis(x, 1, -1)
    with pytest.raises(DataError, match=r"say which with data_shape=\(C, H, W\)"):
        AnomalyDetector(**TINY).fit(last)
    monkeypatch.undo()
    detector = AnomalyDetector(**TINY | dict(epochs=1), data_shape=(3, 6, 5)).fit(last)
    assert np.allclose(detector.anomaly_score(last), detector.anomaly_score(x), **ALIKE)


@pytest.mark.parametrize(
    "bad, words",
    [(pd.DataFrame(dict(a=[0.1] * 100, b=["red"] * 100)), "got text, such as 'red'"),
     (np.array([["a", "b"]] * 100), "got text, such as 'a'"),
     (np.array([["1.5", "2"]] * 100), "got text"),
     (pd.DataFrame(dict(a=pd.to_datetime(["2020-01-01"] * 100))),
      "got data of type datetime64"),
     (scipy.sparse.csr_matrix(table(100)), "got sparse data"),
     (scipy.sparse.coo_array(table(100)), "got sparse data"),
     (torch.from_numpy(table(100)).to_sparse(), "got sparse data"),
     (table(100) * 1j, "Complex data not supported: got complex128"),
     (torch.from_numpy(table(100) * 1j), "Complex data not supported"),
     (table(100)[:, 0], "Reshape your data"), (np.array(3.0), "Reshape your data"),
     (np.zeros((0, 4)), "got no examples"), (np.zeros((100, 0)), r"0 feature\(s\)"),
     (np.zeros((100, 0, 5)), r"0 feature\(s\)"),
     ([[1.0, 2.0], [1.0]], "all its rows of one shape"), (None, "Reshape your data"),
     (dict(a=1), "cannot read the data as numbers"),
     (np.array([[None, 1.0, 2, 3]] * 100), "row 0, counted from 0, holds NaN"),
     (np.ma.masked_less(table(100), 40), "got masked numbers"),
     (pd.DataFrame(table(100)).convert_dtypes().mask(table(100) < 20), "holds NaN")],
    ids=lambda v: str(v)[:20] if isinstance(v, str) else type(v).__name__)
@pytest.mark.filterwarnings("ignore:X has feature names")
def test_what_is_no_table_of_numbers_is_refused_in_one_sentence(
        bad, words, columns, untrained):
    for call in (AnomalyDetector(**TINY).fit, columns[-1].predict):
        with pytest.raises(DataError, match=words) as e: call(bad)
        assert "\n" not in str(e.value)


def test_fitting_twice_is_fitting_once(ramps):
    again = clone(ramps).fit(images(100, seed=3)).fit(images(200))
    assert (np.allclose(again.calibration_scores_, ramps.calibration_scores_, **ALIKE)
            and math.isclose(again.threshold_, ramps.threshold_, rel_tol=1e-4)
            and len(again.history_) == len(ramps.history_))


def test_what_stands_around_the_training_draws_no_global_random_numbers(monkeypatch):
    monkeypatch.setattr(room, "fit", lambda model, *_, **__: model.eval() and None)
    numpys, torchs = np.random.get_state()[1].copy(), torch.get_rng_state()
    for how in score_methods:
        AnomalyDetector(**TINY, score_method=how).fit(images(100)).predict(
            images(10, seed=1))
    assert ((np.random.get_state()[1] == numpys).all()
            and torch.equal(torch.get_rng_state(), torchs))


def test_scikit_learns_own_checks():
    """All but three: other objects among the numbers are a `DataError` here, no
    `TypeError`; and float32 cannot agree to 1e-7 between a row alone and a table, nor
    on every processor to 1e-9 between two orders."""
    detector = AnomalyDetector(config=dict(hidden=[8], latent_dim=2), false_alarm=0.3,
                               calibration_fraction=0.4, epochs=1, batch_size=2,
                               device="cpu")
    float32 = (
        "equal to a relative 1e-4, see test_a_score_never_depends_on_the_neighbours")
    known = dict(check_dtype_object="DataError is a ValueError",
                 check_methods_subset_invariance=float32,
                 check_methods_sample_order_invariance=float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(detector, expected_failed_checks=known, on_fail=None,
                                on_skip=None)
    assert (
        not {f["check_name"]: f["exception"] for f in found if f["status"] == "failed"}
        and len([f for f in found if f["status"] == "passed"]) > 35)


@pytest.mark.parametrize("learned",
                         ["uint8", "uint16", "int64", "float32", "float64", "bool"])
def test_the_numbers_of_a_table_are_themselves_whatever_their_type(learned):
    rng = np.random.default_rng(0)
    high = 2 if learned == "bool" else 200
    X = rng.integers(0, high, (150, 6))
    detector = AnomalyDetector(config=dict(latent_dim=2, hidden=[8]), epochs=2,
                               device="cpu").fit(X.astype(learned))
    scores = detector.score_samples(X[:20].astype(learned))
    for kind in ("uint8", "uint16", "int64", "float32", "float64"):
        assert np.allclose(detector.score_samples(X[:20].astype(kind)), scores,
                           rtol=1e-4), (learned, kind)


def test_images_in_floats_beyond_one_keep_their_scale_when_asked_in_whole_numbers(
        tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (150, 4, 4))
    detector = AnomalyDetector(config=dict(latent_dim=2, hidden=[8]), epochs=2,
                               device="cpu").fit(x.astype("float32"))
    detector.save(tmp_path / "d.safetensors")
    for d in (detector, AnomalyDetector.load(tmp_path / "d.safetensors")):
        assert np.allclose(d.score_samples(x[:20].astype("uint8")),
                           d.score_samples(x[:20].astype("float32")), rtol=1e-4)


def test_dates_are_no_numbers():
    table = pd.DataFrame(dict(t=pd.date_range("2020", periods=120), a=np.arange(120.0)))
    for X in (table, table.assign(t=table.t - table.t[0])):
        with pytest.raises(DataError, match="dates or times, such as"):
            AnomalyDetector().fit(X)
