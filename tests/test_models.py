"Every model of the registry: one contract, one checkpoint, one command line."
import math
from itertools import product

import pytest
import torch

from contract_models import words
from vae_course.cli import main
from vae_course.data import Batches, DataError, Examples
from vae_course.datasets import load
from vae_course.devices import seeded
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.step import evaluate, make_optimizers
from vae_course.training import build, fit, load_model, registry, save_model

# settings that make each of them small; a model that enters the registry must enter
# here, too
SMALL = dict(
    vae=dict(hidden=[32], latent_dim=4), conv_vae=dict(widths=[4, 8], latent_dim=4),
    beta_vae=dict(hidden=[32], latent_dim=4, data_shape=[1, 28, 28]),
    beta_tcvae=dict(hidden=[32], latent_dim=4, data_shape=[1, 28, 28],
                    dataset_size=256),
    cvae=dict(hidden=[32], latent_dim=4),
    m2=dict(hidden=[32], latent_dim=4, width=16),
    vq_vae=dict(n_codes=16, widths=[4, 8]),
    text_vae=dict(alphabet="abcde", longest=4, latent_dim=4, width=12, embedding=6),
    # 784 places are many for attention: it sees a small part of an image
    code_prior=dict(n_codes=2, shape=[1, 28, 28], width=4, depth=1, heads=1),
    speech_vq_vae=dict(data_shape=[1, 28, 28], n_codes=16, dim=4, width=8),
    flexible_vae=dict(hidden=[32], latent_dim=4, prior="vamp", components=5,
                      posterior="flow", couplings=2, width=8, k=2),
    two_layer_vae=dict(hidden=[32], latent_dims=[4, 3], between=16),
    autoencoder=dict(hidden=[32], latent_dim=4),
    sigma_vae=dict(widths=[4, 8], latent_dim=4),
    perceptual_vae=dict(widths=[4, 8], latent_dim=4, classifier=dict(
        name="classifier", data_shape=[1, 28, 28], classes=10, widths=[4, 8],
        features=16, dropout=0.2)),
    vae_gan=dict(widths=[4, 8], latent_dim=4),
    classifier=dict(data_shape=[1, 28, 28], classes=10, widths=[4, 8], features=16))
TEXT = ("text_vae",)                                    # models of lines
makes_images = [name for name in SMALL if name != "classifier"]
# they log −ELBO
HAS_A_BOUND = [n for n in makes_images if n not in ("autoencoder", "code_prior")]
DRAWS = [name for name in HAS_A_BOUND if "vq_vae" not in name]              # z from q


def small(name, seed=0):
    torch.manual_seed(seed)
    return build(name, **SMALL[name])


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def lines(n, seed=0):
    "Made-up lines for the small model of text."
    return Examples(words(n, seed=seed))


@pytest.fixture
def batch(digits, name):
    if name in TEXT: return lines(32).x, torch.full((32,), -1)
    return digits.train.floats()[:32], digits.train.y[:32]


def parts(name, digits):
    "Examples to train on, and others, of what the model called `name` takes."
    if name in TEXT: return lines(256), lines(200, seed=1)
    return digits.train[:256], digits.test[:200]


def test_the_table_above_is_complete():
    assert SMALL.keys() == registry.keys()


@pytest.mark.parametrize("name", SMALL)
def test_losses_are_0_d_and_finite_and_the_gradient_reaches_every_weight(name, batch):
    model = small(name)
    terms = model.losses(batch)
    assert (
        "loss" in terms and all(t.shape == () and t.isfinite() for t in terms.values()))
    terms["loss"].backward()
    if model.overrides("training_step"):            # with losses of its own
        terms = model.training_step(batch, make_optimizers(model, torch.device("cpu")))
    assert [k for k, p in model.named_parameters()
            if p.requires_grad and p.grad is None] == []
    assert ("neg_elbo" in terms) == (name in HAS_A_BOUND)
    if name in HAS_A_BOUND:
        assert math.isclose(terms["neg_elbo"].item(),
                            (terms["reconstruction"] + terms["kl"]).item(),
                            rel_tol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_noise_gives_the_same_losses(name, batch):
    model = small(name).eval()
    with torch.no_grad(), seeded(1), recorded_noise() as noise:
        a = model.losses(batch)
    with torch.no_grad(), seeded(2):
        other = model.losses(batch)
        with replayed_noise(noise):
            b = model.losses(batch)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    # those that draw nothing are the same whatever the noise
    assert bool(len(noise)) == (name in DRAWS)
    assert torch.equal(a["loss"], other["loss"]) == (name not in DRAWS)


@pytest.mark.parametrize("name", SMALL)
def test_saved_and_loaded_it_is_the_same_model(name, batch, digits, tmp_path):
    model = small(name)
    # to a prior over codes, pixels are codes when they are drawn as 0 or 1
    train, examples = parts(name, digits)
    fit(model, train, epochs=2, batch_size=64, progress=False,
        binarize=name == "code_prior")
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert type(again) is type(model) and again.config == model.config
    assert evaluate(model, Batches(examples, 100), seed=0) == evaluate(
        again, Batches(examples, 100), seed=0)


@pytest.mark.parametrize("name", SMALL)
def test_bf16_is_near_fp32(name, batch):
    model = small(name).eval()
    with torch.no_grad():
        with recorded_noise() as noise:
            exact = model.losses(batch)
        with replayed_noise(noise), torch.autocast("cpu", torch.bfloat16):
            rounded = model.losses(batch)
    assert all(t.dtype == torch.float32 for t in rounded.values())
    assert abs(rounded["loss"] - exact["loss"]) < 0.01 * abs(exact["loss"])


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_leaves_no_trace(name, digits):
    model = small(name)
    before = {k: v.clone()
              for k, v in (*model.named_parameters(), *model.named_buffers())}
    evaluate(model, Batches(parts(name, digits)[1][:100], 50), seed=0)
    assert all(torch.equal(v, before[k])
               for k, v in (*model.named_parameters(), *model.named_buffers()))


def settings_in_words(name):
    return [w for k, v in SMALL[name].items()
            if k not in ("data_shape", "shape", "classes", "dataset_size", "alphabet",
                         "longest")
            for w in ("--set", f"{k}={v}".replace("'", '"'))]


@pytest.mark.parametrize("name", SMALL)
def test_the_command_line_trains_it(name, tmp_path, capsys):
    (tmp_path / "lines.txt").write_text("\n".join(
        "".join(w) for w in product("abc", repeat=3)), encoding="utf-8")
    speaks = name == "speech_vq_vae"
    data = (f"lines:{tmp_path / 'lines.txt'}" if name in TEXT else
            "voice" if speaks else "digits")
    main(["train", "--model", name, "--data", data, "--epochs", "1", "--out",
          str(tmp_path / "run"), "--device", "cpu", *settings_in_words(name),
          *(["--binarize"] if name == "code_prior" else [])])
    out = capsys.readouterr().out
    assert (f"test {'-ELBO' if name in HAS_A_BOUND else 'loss'} " in out
            and (tmp_path / "run" / "model.safetensors").exists())
    if name not in HAS_A_BOUND:
        assert "bound" not in out and "one z" not in out
    ask = ["--condition", "7", "3"] if name in ("cvae", "m2") else []
    if name in TEXT:
        main(["sample", str(tmp_path / "run"), "-n", "4"])
        assert len(capsys.readouterr().out.splitlines()) == 4
    elif name in makes_images:
        main(["sample", str(tmp_path / "run"), "-n", "4", *ask])
        made = tmp_path / "run" / ("samples" if speaks else "samples.png")
        assert made.is_dir() == speaks and made.exists()
    else:
        with pytest.raises(SystemExit, match="cannot draw samples"):
            main(["sample", str(tmp_path / "run")])


@pytest.mark.parametrize("name, wrong",
                         [("cvae", 10), ("classifier", 10), ("cvae", -1)])
def test_a_label_out_of_range_is_said_before_the_first_step(name, wrong, digits):
    y = digits.train.y[:64].clone()
    y[5] = wrong
    model = small(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(DataError, match="train has labels from"):
        fit(model, Examples(digits.train.x[:64], y), epochs=1, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
