"`diagnose`: every disease named, the healthy left alone, every model taken, no trace."
import copy, math, random, sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from contract_models import CONTRACT, pictures, words
from test_models import SMALL, TEXT, small
from vae_course.arrays import from_arrays
from vae_course.beta_vae import beta_vae
from vae_course.cli import main
from vae_course.data import DataError, Examples
from vae_course.datasets import load
from vae_course.diagnosis import diagnose
from vae_course.diagnosis_data import leaked
from vae_course.diagnosis_measures import loss_weights
from vae_course.elbo import VAE, mlp_vae
from vae_course.model import LatentVariableModel, Unsupported
from vae_course.training import build, fit

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "bench"))


@pytest.fixture(scope="module")
def data(): return from_arrays(load_digits().images / 16, load_digits().target)


def make(seed=0, kind=mlp_vae, **settings):
    torch.manual_seed(seed)
    return kind((1, 8, 8), 6, hidden=[48], likelihood="gaussian_learned", **settings)


@pytest.fixture(scope="module")
def trained(data):
    "A healthy model and its history."
    model = make()
    history = fit(model, data.train, epochs=40, progress=False)
    return model, history


def diseases(report): return [f.disease for f in report.findings]


def test_the_bench_is_right_on_its_small_cases():
    import diagnose as bench
    result = bench.measure("quick")
    assert [r["name"] for r in result["rows"] if not r["right"]] == []
    assert len({r["disease"] for r in result["rows"]}) == 10


def test_the_splits_of_the_bench_share_nothing():
    import diagnose as bench
    tuning, judging = (list(bench.cases(s)) for s in ("tuning", "judging"))
    for what in (lambda c: c.seed, lambda c: c.data.removeprefix("small "),
                 lambda c: str({k: v for k, v in c.arch.items() if k in (
                     "kind", "latent_dim", "hidden", "widths", "width", "n_codes")})):
        assert not {what(c) for c in tuning} & {what(c) for c in judging}
    sick = [c for c in judging if c.disease]
    assert (len(sick), len(judging) - len(sick)) == (40, 20)
    for disease in {c.disease for c in sick}:
        own = [c for c in sick if c.disease == disease]
        assert len(own) >= 3 and len({str(c.arch) for c in own}) >= 3
        assert len({c.data for c in own}) >= 3
    assert len({c.disease for c in sick}) == 11
    assert any(c.disease is None and c.arch.get("beta") == 4.0 for c in judging)


def test_a_healthy_model_has_nothing_with_or_without_its_history(trained, data):
    model, history = trained
    for given in (None, history, history.rows):
        report = diagnose(model, data, given)
        assert report.findings == [] and "Nothing is wrong" in str(report)
    assert abs(report.measures["loss_beta"] - 1) < 0.01


def test_a_deliberate_beta_is_none_and_the_same_weight_by_accident_is_one(data):
    stated = make(kind=beta_vae, beta=4.0)
    history = fit(stated, data.train, epochs=60, progress=False)
    assert diseases(diagnose(stated, data, history)) == []

    class Slip(VAE):
        def losses(self, batch):
            terms = super().losses(batch)
            return terms | dict(loss=terms["reconstruction"] + 4 * terms["kl"])
    slip = make()
    slip.__class__ = Slip
    history = fit(slip, data.train, epochs=30, progress=False)
    found = diagnose(slip, data)
    assert diseases(found)[0] == "accidental β" and "4" in found.findings[0].evidence
    assert abs(found.measures["loss_beta"] / 4 - 1) < 0.01
    # the slip was in a loop of one's own: the history tells, and the encoder does
    slip.__class__ = VAE
    assert abs(diagnose(slip, data, history).measures["history_beta"] / 4 - 1) < 0.01
    assert diseases(diagnose(slip, data, history))[0] == "accidental β"
    means, spreads = diagnose(slip, data).measures["trained_beta"]
    assert 2.5 < means < 6 and 2.5 < spreads < 6
    assert diseases(diagnose(slip, data))[0] == "accidental β"


@pytest.mark.parametrize("a, b", [(1 / 64, 1), (1, 1 / 6), (128, 1), (2, 1), (1, 32)])
def test_the_weights_of_a_loss_are_found_to_one_percent(a, b, data):
    class Own(VAE):
        def losses(self, batch):
            terms = super().losses(batch)
            return dict(loss=a * terms["reconstruction"] + b * terms["kl"])
    model = make()
    model.__class__ = Own
    found = loss_weights(copy.deepcopy(model).eval(), data.train[:64])
    assert found.residual < 0.01
    assert abs(found.reconstruction / a - 1) < 0.01 and abs(found.kl / b - 1) < 0.01


def test_a_loss_with_other_terms_is_not_judged_and_that_is_said(data):
    model = make(kind=beta_vae, beta=4.0, free_bits=0.2)
    fit(model, data.train, epochs=10, progress=False)
    report = diagnose(model, data)
    assert "free_bits" in report.unjudged["weights of the loss"]
    assert "accidental β" not in diseases(report)


def state_of(model):
    return ({k: v.clone() for k, v in model.state_dict().items()},
            [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()],
            [p.grad for p in model.parameters()])


@pytest.mark.parametrize("mode", [True, False])
def test_it_leaves_no_trace(trained, data, mode):
    model = copy.deepcopy(trained[0]).train(mode)
    random.seed(1)
    np.random.seed(1)
    before, rng = state_of(model), torch.get_rng_state()
    others = random.getstate(), np.random.get_state()[1].tolist()
    first = diagnose(model, data, trained[1])
    after = state_of(model)
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values()))
    assert before[1:] == after[1:] and torch.equal(rng, torch.get_rng_state())
    assert others == (random.getstate(), np.random.get_state()[1].tolist())
    # and what it says does not depend on what was drawn before
    torch.manual_seed(99)
    assert str(diagnose(model, data, trained[1])) == str(first)


def of_kind(name):
    "Train and test that the small model called `name` takes."
    if name in TEXT:
        return Examples(words(120, seed=0)), Examples(words(80, seed=1))
    digits = load("digits")
    return digits.train[:160], digits.test[:80]


@pytest.mark.parametrize("name", SMALL)
def test_every_registered_model_is_diagnosed_or_refused_in_a_sentence(name):
    model = small(name).eval()
    try: report = diagnose(model, of_kind(name))
    except (Unsupported, DataError) as e:
        assert name in ("code_prior", "autoencoder", "classifier")
        assert "`diagnose` needs" in str(e) and "\n" not in str(e)
        return
    # nothing was trained
    assert report.measures["neg_elbo_test"] and str(report) and report.findings
    plt.close(report.plot())


@pytest.mark.parametrize("name", CONTRACT)
def test_every_model_of_the_contract_is_diagnosed(name):
    torch.manual_seed(0)
    model = CONTRACT[name]().eval()
    parts = ((Examples(words(120)), Examples(words(80, seed=1))) if name == "words" else
             (Examples(pictures(120)), Examples(pictures(80, seed=1))))
    report = diagnose(model, parts)
    assert math.isfinite(report.measures["kl"]) and "Measured" in str(report)
    if "flow" in name or name == "two layers":
        assert "Gaussian" in report.unjudged["amortisation gap"]


class Unopened(LatentVariableModel):
    "A model without an encoder."
    def decode(self, z, c=None): ...
    def prior(self, c=None): ...


@pytest.mark.parametrize("model, parts, error, said", [
    (lambda: Unopened(), lambda d: d, Unsupported, "no `encode`"),
    (lambda: torch.nn.Linear(2, 2), lambda d: d, Unsupported, "no `encode`"),
    (make, lambda d: (d.train[:10], d.test), DataError, "got 10 train examples"),
    (make, lambda d: (d.train, d.test[:10]), DataError, "got 10 test examples"),
    (make, lambda d: d.train, DataError, "train and test"),
    (make, lambda d: d.train.x, DataError, "train and test"),
    (lambda: mlp_vae((1, 9, 9), 3, [8]), lambda d: d, DataError, "(1, 8, 8)"),
    (lambda: build("text_vae", **SMALL["text_vae"]), lambda d: d, DataError, "lines"),
    (lambda: mlp_vae((1, 8, 8), 3, [8]),
     lambda d: (Examples(d.train.floats() * 9), d.test), DataError, "0 to 1")])
def test_what_it_was_not_built_for_is_refused_in_a_sentence(model, parts, error, said,
                                                            data):
    with pytest.raises(error) as e: diagnose(model(), parts(data))
    assert said in str(e.value) and "\n" not in str(e.value)


def test_an_untrained_model_is_said(data):
    assert diseases(diagnose(make().eval(), data))[0] == "untrained"
    bits = (Examples((data.train.floats() > 0.5).float()),
            Examples((data.test.floats() > 0.5).float()))
    fresh = mlp_vae((1, 8, 8), 6, [48]).eval()
    assert diseases(diagnose(fresh, bits))[0] == "untrained"


def test_nan_is_found_wherever_it_stands(trained, data):
    model, history = trained
    x = data.train.floats().clone()
    x[7, 0, 3, 3] = math.nan
    found = diagnose(model, (Examples(x), data.test)).findings
    assert found[0].disease == "nan" and "1 of" in found[0].evidence
    broken = copy.deepcopy(model)
    with torch.no_grad(): next(broken.decoder.parameters()).fill_(math.inf)
    found = diagnose(broken, data)
    assert diseases(found) == ["nan"] and "decoder" in found.findings[0].evidence
    assert "weights" in found.unjudged["all else"]
    rows = [dict(epoch=1, loss=3.0), dict(epoch=2, loss=math.nan)]
    assert "epoch 2" in diagnose(model, data, rows).findings[0].evidence


def test_training_mode_is_a_finding_only_where_it_changes_anything(trained, data):
    model = copy.deepcopy(trained[0]).train()
    assert diseases(diagnose(model, data)) == []
    noisy = make(dropout=0.3)
    fit(noisy, data.train, epochs=30, progress=False)
    assert diseases(diagnose(noisy, data)) == []
    assert diseases(diagnose(noisy.train(), data))[0] == "training mode"
    # one module that was left behind
    noisy.eval()
    noisy.encoder.train()
    assert diseases(diagnose(noisy, data))[0] == "training mode"


@pytest.mark.parametrize("scale", [1, 255])
def test_copies_are_counted_whatever_the_type_of_the_pixels(scale):
    rng = torch.Generator().manual_seed(0)
    train, test = (torch.rand(n, 1, 8, 8, generator=rng) for n in (400, 100))
    if scale == 255: train, test = (t.mul(255).byte() for t in (train, test))
    found = leaked(Examples(train), Examples(test))
    assert (found.exact, found.near, found.usual) == (0, 0, 0)
    test[10:30] = train[:20]
    found = leaked(Examples(train), Examples(test))
    assert (found.exact, found.near, found.share) == (20, 0, 0.2)


def test_a_set_that_repeats_itself_does_not_leak_by_that():
    tokens = torch.randint(4, (600, 2), generator=torch.Generator().manual_seed(0))
    lines = tokens, torch.full((600,), 2)
    train, test = (Examples(tuple(t[rows] for t in lines)) for rows in (
        slice(0, 500), slice(500, 600)))
    found = leaked(train, test)
    assert found.share > 0.9 and found.usual > 0.9


def test_images_of_which_most_are_copies_do_not_leak_by_that():
    rng = torch.Generator().manual_seed(0)
    few = (torch.rand(40, 1, 4, 4, generator=rng) < 0.5).float()
    train, test = (Examples(few[torch.randint(40, (n,), generator=rng)])
                   for n in (800, 200))
    found = leaked(train, test)
    assert found.share > 0.9 and found.usual > 0.9


def test_the_command_line_diagnoses_a_run(tmp_path, capsys):
    run = tmp_path / "run"
    main(["train", "--data", "digits", "--epochs", "2", "--out", str(run), "--device",
          "cpu", "--set", "hidden=[32]", "--set", "latent_dim=4"])
    capsys.readouterr()
    main(["diagnose", str(run), "--out", str(tmp_path / "shown.png"), "--device",
          "cpu"])
    out = capsys.readouterr().out
    assert "Measured" in out and "-ELBO, test examples" in out
    assert "beta" not in out.partition("Measured")[0] or "cure" in out
    assert (tmp_path / "shown.png").stat().st_size > 5000
    with pytest.raises(SystemExit, match="no model in"):
        main(["diagnose", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="no data set called"):
        main(["diagnose", str(run), "--data", "nothing"])


def test_where_a_folder_lies_must_be_said(tmp_path):
    from PIL import Image
    for i in range(300):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8),
                        "L").save(tmp_path / f"{i:03}.png")
    run = tmp_path.parent / f"{tmp_path.name}_run"
    main(["train", "--data", f"folder:{tmp_path}", "--epochs", "1", "--out", str(run),
          "--device", "cpu", "--set", "hidden=[8]", "--set", "latent_dim=2"])
    with pytest.raises(SystemExit, match="--data folder:PATH"):
        main(["diagnose", str(run)])
    main(["diagnose", str(run), "--data", f"folder:{tmp_path}"])
