"""Lesson 14 beyond its claims: the command line on a folder of the reader's own, files
that come back, runs that were cut short, bfloat16, two processes, and bad input.

Run as a script it is a process of these tests: `OUT RANK PROCESSES`."""
import json, os, subprocess, sys
from pathlib import Path

import pytest, torch
from PIL import Image
from torch import nn

from vae_course.callbacks import Callback
from vae_course.classifier import Classifier
from vae_course.cli import main
from vae_course.data import Batches, Examples
from vae_course.distributed import leave_processes
from vae_course.elbo import Gaussian, VAE, conv_vae
from vae_course.latent import StandardNormal
from vae_course.model import Unsupported
from vae_course.sharpness import (
    GAN, SigmaVAE, VAEGAN, adaptive_weight, average_images, conv_discriminator,
    laplacian_energy, perceptual_vae, sharpness, sigma_vae, vae_gan)
from vae_course.step import evaluate, make_optimizers
from vae_course.training import fit, load_model, save_model

torch.set_num_threads(1)
shape, cpu = (1, 12, 12), torch.device("cpu")
small = dict(data_shape=shape, latent_dim=3, widths=[4, 8])
KINDS = dict(sigma_vae=lambda: sigma_vae(**small), vae_gan=lambda: vae_gan(**small),
             gan=lambda: GAN(**small),
             perceptual_vae=lambda: perceptual_vae(**small, classifier=judge()))


def judge(data_shape=shape):
    torch.manual_seed(9)
    return Classifier(data_shape, 2, widths=(4, 8), features=8)


def images(n=96, seed=0):
    "Bright squares at two places, and which of them."
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=g)
    x = 0.1 * torch.rand(n, *shape, generator=g)
    for i, k in enumerate(y.tolist()): x[i, :, 2 + 4*k:6 + 4*k, 2 + 4*k:6 + 4*k] += 0.8
    return Examples(x, y)


def new(kind):
    torch.manual_seed(0)
    return KINDS[kind]()


def trained(model, **settings):
    common = dict(epochs=2, batch_size=32, device="cpu", progress=False)
    return fit(model, images(), **common | settings)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def folder(tmp_path):
    for i, (x, k) in enumerate(zip(*(lambda e: (e.x, e.y))(images(60)))):
        place = tmp_path / "mine" / "ab"[int(k)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((x[0].clamp(0, 1) * 255).byte().numpy()).save(
            place / f"{i}.png")
    return tmp_path


def train(folder, name, *words):
    main(["train", "--model", name, "--data", f"folder:{folder / 'mine'}", "--epochs",
          "1", "--batch-size", "16", "--out", str(folder / name), "--device", "cpu",
          *words])


# --- the command line, on a folder of the reader's own

@pytest.mark.parametrize("name", ["sigma_vae", "vae_gan"])
def test_it_trains_on_a_folder_and_draws(name, folder, capsys):
    train(folder, name, "--set", "latent_dim=3", "--set", "widths=[4, 8]")
    assert "test -ELBO" in capsys.readouterr().out
    main(["sample", str(folder / name), "-n", "4"])
    assert (folder / name / "samples.png").exists()


@pytest.mark.parametrize("sigma", ["optimal", "learned", "per_pixel", "0.5"])
def test_the_kind_of_sigma_is_a_setting(sigma, folder):
    train(folder, "sigma_vae", "--set", f"sigma={sigma}", "--set", "widths=[4, 8]")
    settings = json.loads((folder / "sigma_vae" / "run.json").read_text(
        encoding="utf-8"))["settings"]
    kind = load_model(folder / "sigma_vae" / "model.safetensors").likelihood
    assert settings["set"].get("sigma", "optimal") == (
        0.5 if sigma == "0.5" else sigma)
    assert kind.sigma.shape == (shape if sigma == "per_pixel" else ())


def test_a_perceptual_vae_takes_the_classifier_of_a_run_of_its_own(folder, capsys):
    train(folder, "classifier", "--set", "widths=[4, 8]")
    file = folder / "classifier" / "model.safetensors"
    train(folder, "perceptual_vae", "--set", f"judge={file}", "--set", "widths=[4, 8]")
    assert "perceptual" in capsys.readouterr().out
    model = load_model(folder / "perceptual_vae" / "model.safetensors")
    own = load_model(file)
    assert same(model.classifier, own)                    # the file holds it, trained
    os.remove(file)
    main(["sample", str(folder / "perceptual_vae"), "-n", "4"])


def test_without_a_classifier_it_says_how_to_get_one(folder):
    with pytest.raises(SystemExit, match="vae_course train --model classifier"):
        train(folder, "perceptual_vae")
    assert not (folder / "perceptual_vae").exists()


def test_a_floor_of_0_is_refused_by_the_command_line(folder):
    with pytest.raises(SystemExit, match="a σ that may reach 0"):
        train(folder, "sigma_vae", "--set", "floor=0")
    assert not (folder / "sigma_vae").exists()


def test_a_file_of_another_model_is_no_classifier(tmp_path):
    path = save_model(conv_vae(shape, 3, [4, 8]), tmp_path / "vae")
    with pytest.raises(ValueError, match="holds a VAE: a perceptual term needs"):
        perceptual_vae(**small, judge=str(path))


# --- training in other ways

@pytest.mark.parametrize("kind", KINDS)
def test_a_run_cut_short_goes_on_as_if_it_had_not_been(kind, tmp_path):
    class Stop(Callback):
        def on_epoch(self, run, terms=None): raise KeyboardInterrupt
    whole, cut = new(kind), new(kind)
    trained(whole)
    with pytest.raises(KeyboardInterrupt):
        trained(cut, checkpoint=tmp_path / "run", callbacks=[Stop()])
    again = new(kind)
    trained(again, checkpoint=tmp_path / "run")
    assert same(whole, again)


@pytest.mark.parametrize("kind", ["sigma_vae", "perceptual_vae", "vae_gan"])
def test_saved_and_loaded_it_is_the_same(kind, tmp_path):
    model = new(kind)
    trained(model)
    again = load_model(save_model(model, tmp_path / "file"))
    assert same(model, again) and type(again) is type(model)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_trains_near_float32(kind):
    full, half = new(kind), new(kind)
    a, b = trained(full), trained(half, precision="bf16")
    assert a["loss"] != b["loss"]
    assert b["loss"][-1] == pytest.approx(a["loss"][-1], rel=.1, abs=5.0)


@pytest.mark.parametrize("kind", KINDS)
def test_validation_reports_a_bound_where_there_is_one(kind):
    if kind == "gan":
        with pytest.raises(ValueError, match="a method `losses`"):
            trained(new(kind), valid=images(20, 1))
    else: assert trained(new(kind), valid=images(20, 1))["valid_neg_elbo"]


def test_sigma_stays_while_evaluating_and_moves_in_training():
    model = new("sigma_vae")
    trained(model)
    sigma = model.likelihood.sigma.item()
    evaluate(model, Batches(images(40, 1), 20), seed=0)
    assert model.likelihood.sigma.item() == sigma
    model.train().losses((images(40, 1).x, None))
    assert model.likelihood.sigma.item() != sigma


def test_the_kept_sigma_is_the_root_mean_square_error_of_training():
    model = new("sigma_vae")
    trained(model, epochs=8)
    x = images().x
    with torch.no_grad(): f = model.decode(model.encode(x).sample()).mean
    assert model.likelihood.sigma.item() == pytest.approx(
        (x - f).square().mean().sqrt().item(), rel=.25)


def test_two_processes_end_with_the_same_weights(tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS="1", TQDM_DISABLE="1")
    every = [subprocess.Popen([sys.executable, __file__, str(tmp_path / "out"), str(i),
                               "2"], env=env, stderr=subprocess.PIPE, encoding="utf-8")
             for i in range(2)]
    for p in every: assert p.wait(300) == 0, p.stderr.read()
    a, b = (torch.load(f"{tmp_path / 'out'}{i}", weights_only=True) for i in range(2))
    assert a.keys() == b.keys()
    for name in a: assert torch.allclose(a[name], b[name], atol=1e-6), name


# --- bad input

@pytest.mark.parametrize("ask, words", [
    (lambda: sigma_vae(shape, floor=0), "a σ that may reach 0"),
    (lambda: sigma_vae(shape, sigma="learned", floor=-1.), "give a positive number"),
    (lambda: sigma_vae(shape, sigma="per_pixel", floor=float("nan")), "floor=nan"),
    (lambda: sigma_vae(shape, sigma="best"), "give optimal, learned, per_pixel"),
    (lambda: sigma_vae(shape, sigma=True), "give optimal, learned, per_pixel"),
    (lambda: SigmaVAE(nn.Identity(), nn.Identity(), StandardNormal(2), shape, 2, 0.),
     "a σ that may reach 0"),
    (lambda: perceptual_vae(**small), "got no classifier"),
    (lambda: perceptual_vae(**small, classifier=judge((1, 28, 28))),
     "train one on images of this shape"),
    (lambda: sharpness(torch.zeros(2, 9), torch.zeros(2, 9)), "sharpness is of images"),
    (lambda: laplacian_energy(torch.zeros(1, 1, 2, 9)), "3 × 3 pixels or more")])
def test_what_cannot_be_is_said_in_one_sentence(ask, words):
    with pytest.raises(ValueError, match=words) as e: ask()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("other, words", [
    (conv_discriminator((1, 28, 28)), "of images of another shape"),
    (conv_discriminator((3, 12, 12)), "of images of another shape"),
    (nn.Flatten(), "one logit for each")])
def test_a_discriminator_for_another_shape_is_refused(other, words):
    vae = conv_vae(shape, 3, [4, 8], "gaussian_learned")
    with pytest.raises(ValueError, match=words):
        VAEGAN(vae.encoder, vae.decoder, vae.prior_net, vae.likelihood, other, shape, 3)


def test_a_gan_says_what_it_does_not_have():
    gan = new("gan")
    for ask in (lambda: gan.encode(images().x), lambda: average_images(
            gan, torch.zeros(1, 3), images().x)):
        with pytest.raises(Unsupported, match="a GAN has no encoder"): ask()
    assert gan.sample(5).shape == (5, *shape)


def test_sigma_is_in_the_optimizer_of_every_kind():
    for model in (new("vae_gan"), sigma_vae(**small, sigma="learned"),
                  sigma_vae(**small, sigma="per_pixel")):
        held = {id(p) for o in make_optimizers(model, cpu) for g in o.param_groups
                for p in g["params"]}
        assert {id(p) for p in model.parameters()} == held


def test_the_adaptive_weight_is_bounded_where_the_adversary_has_no_gradient():
    w = nn.Parameter(torch.ones(3))
    assert adaptive_weight(1e9 * w.sum(), 0 * w.sum(), w) == 1e4


def test_images_that_share_no_code_are_not_averaged():
    class Same(VAE):
        def encode(self, x, c=None):
            mu = x.mean((1, 2, 3))[:, None]
            return torch.distributions.Independent(
                torch.distributions.Normal(mu, 0.01 + 0 * mu), 1)
    model = Same(nn.Identity(), nn.Linear(1, 1), StandardNormal(1), Gaussian())
    x = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, *shape)
    found, count = average_images(model, torch.linspace(0, 1, 5)[:, None], x)
    assert torch.allclose(found, x) and torch.allclose(count, torch.ones(5))


if __name__ == "__main__":
    out, number, count = sys.argv[1:]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{out}.meeting", rank=int(number),
        world_size=int(count))
    model = new("vae_gan")
    trained(model)
    torch.save(model.state_dict(), f"{out}{number}")
    Path(f"{out}{number}.done").touch()
    leave_processes()
