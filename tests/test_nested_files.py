"""Files that hold models inside models: configs nest, a user's models and parts have
names, and models, runs and detectors are of one format."""
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributions as D
from torch import nn

from vae_course.anomaly_detection import AnomalyDetector
from vae_course.callbacks import Callback
from vae_course.checkpoint import CheckpointError, load_checkpoint
from vae_course.cli import main
from vae_course.data import Batches, Examples
from vae_course.elbo import mlp_vae
from vae_course.generation import mlp_autoencoder
from vae_course.latent import StandardNormal
from vae_course.model import MixturePrior, with_configs
from vae_course.step import Trainable, evaluate
from vae_course.training import (
    build, builder_of, fit, load_model, parts, registry, save_model)
from vae_course.vq_vae import CodePrior

torch.set_num_threads(1)
files = Path(__file__).parent / "files"
MIXTURE = dict(name="mixture_prior", latent_dim=2, components=3)
BUILDERS = dict(vae=dict(hidden=[8]), conv_vae=dict(widths=[2]),
                beta_vae=dict(hidden=[8]), beta_tcvae=dict(hidden=[8], dataset_size=64))


def images(n=64):
    numbers = torch.Generator().manual_seed(0)
    return Examples(torch.rand(n, 1, 4, 4, generator=numbers), torch.zeros(n).long())


def small(name, **more):
    torch.manual_seed(0)
    config = dict(data_shape=[1, 4, 4], latent_dim=2) | BUILDERS[name] | more
    return build(name, **config)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def trained(model, **settings):
    common = dict(epochs=2, batch_size=32, device="cpu", progress=False)
    return fit(model, images(), **common | settings)


class Outer(Trainable):
    "A model around a model, and some parts in a list and in a dict."
    def __init__(self, inner, more=(), named=None, width=1):
        super().__init__()
        self.inner, self.more = inner, nn.ModuleList(more)
        self.named = nn.ModuleDict(named or {})
        self.scale = nn.Parameter(torch.full((width,), 1.0))
        self.config = dict(name="outer", inner=inner.config,
                           more=[part.config for part in more],
                           named={k: part.config for k, part in (named or {}).items()},
                           width=width)

    def losses(self, batch):
        loss = self.inner.losses(batch)["loss"] * self.scale.mean()
        return dict(loss=loss + sum(p.sum() for m in self.more for p in m.parameters()))


@pytest.fixture
def outer(monkeypatch):
    monkeypatch.setitem(registry, "outer", Outer)
    return Outer(small("vae", prior=MIXTURE), [MixturePrior(2, 4), StandardNormal(3)],
                 dict(p=MixturePrior(1, 2)), width=5)


# --- a model inside a model

def test_a_model_inside_a_model_is_built_saved_and_loaded(outer, tmp_path):
    trained(outer)
    again = load_model(save_model(outer, tmp_path / "model"))
    assert type(again) is Outer and type(again.inner.prior_net) is MixturePrior
    assert again.config == outer.config and same(again, outer)
    assert evaluate(again, Batches(images(), 32), seed=0) == evaluate(
        outer, Batches(images(), 32), seed=0)
    # its config is JSON all the way down
    assert json.loads(json.dumps(outer.config)) == outer.config


def test_a_run_of_it_goes_on_and_another_part_is_another_run(outer, tmp_path):
    class Stop(Callback):
        def on_epoch(self, run):
            if len(run.history) == 1: raise KeyboardInterrupt
    kept = dict(checkpoint=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt): trained(outer, callbacks=[Stop()], **kept)
    assert load_checkpoint(tmp_path / "run")["config"] == outer.config
    again = build(**outer.config)
    assert len(trained(again, **kept)) == 2
    assert same(load_model(tmp_path / "run"), again)
    other = build(**outer.config | dict(inner=outer.config["inner"] | dict(
        prior=MIXTURE | dict(components=5))))
    with pytest.raises(CheckpointError,
                       match="config.inner.prior.components was 3 and is 5"):
        trained(other, **kept)


def test_what_is_not_entered_is_a_setting_like_any_other(monkeypatch):
    seen = {}
    def note(**config):
        seen.update(config)
        return nn.Identity()
    monkeypatch.setitem(parts, "note", note)
    given = dict(a=dict(name="poisson", rate=3), b=[1, dict(name=4)], c=dict(x=1))
    build("note", **given)
    assert seen == given


# --- a prior inside a VAE

@pytest.mark.parametrize("name", BUILDERS)
def test_the_builders_take_a_prior_and_say_so_in_their_config(name, tmp_path):
    plain = small(name)
    assert "prior" not in plain.config and type(plain.prior_net) is StandardNormal
    model = small(name, prior=MIXTURE)
    assert model.config["prior"] == MIXTURE
    before = model.prior_net.mu.clone()
    history = trained(model, valid=images(), epochs=3)
    # the prior learns along, and −ELBO is that of the mixture
    assert not torch.equal(before, model.prior_net.mu)
    assert math.isclose(history["neg_elbo"][-1], history["reconstruction"][-1]
                        + history["kl"][-1], rel_tol=1e-5)
    again = load_model(save_model(model, tmp_path / "model"))
    assert same(again, model) and again.config == model.config
    assert again.sample(3).shape == (3, 1, 4, 4)


def test_a_prior_given_as_a_module_is_the_same():
    torch.manual_seed(0)
    model = mlp_vae((1, 4, 4), 2, (8,), prior=(prior := MixturePrior(2, 3)))
    assert model.prior_net is prior and model.config["prior"] == MIXTURE


def test_a_prior_without_a_config_makes_a_model_that_no_file_can_build(tmp_path):
    class Mine(nn.Module):
        def forward(self): return D.Independent(D.Laplace(torch.zeros(2), 1.0), 1)
    model = mlp_vae((1, 4, 4), 2, (8,), prior=Mine())
    assert model.config is None
    trained(model)
    path = save_model(model, tmp_path / "model")
    with pytest.raises(CheckpointError, match="weights and no config"): load_model(path)
    again = mlp_vae((1, 4, 4), 2, (8,), prior=Mine())
    assert same(load_model(path, model=again), model)


def test_a_prior_of_another_width_is_refused():
    with pytest.raises(ValueError, match="a prior of latent_dim=3 for a model of "
                                         "latent_dim=2"):
        mlp_vae((1, 4, 4), 2, (8,), prior=MixturePrior(3))


@pytest.mark.parametrize("dim, components", [(1, 1), (2, 3), (5, 20)])
def test_the_mixture_prior_is_the_mixture_by_hand(dim, components):
    torch.manual_seed(0)
    prior = MixturePrior(dim, components)
    with torch.no_grad():
        prior.logits.normal_(), prior.logvar.normal_()
    z, p = torch.randn(7, dim), prior()
    weights, sigma = prior.logits.softmax(0), prior.logvar.mul(.5).exp()
    by_hand = sum(w * D.Normal(m, s).log_prob(z).sum(-1).exp()
                  for w, m, s in zip(weights, prior.mu, sigma)).log()
    assert p.event_shape == (dim,) and torch.allclose(p.log_prob(z), by_hand, atol=1e-4)
    drawn = p.sample((40_000,))
    error = drawn.std(0) / 200
    assert ((drawn.mean(0) - p.mean).abs() < 5 * error).all()
    p.log_prob(z).sum().backward()
    assert all(q.grad is not None for q in prior.parameters())


def test_the_mixture_prior_ties_its_latents_together():
    "Its density is not the product of those of its latents."
    prior = MixturePrior(2, 2)
    with torch.no_grad():
        prior.mu.copy_(torch.tensor([[-3., -3.], [3., 3.]])), prior.logvar.zero_()
    together, apart = prior().log_prob(torch.tensor([[3., 3.], [3., -3.]])).tolist()
    assert together > apart + 15


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="components=0"): MixturePrior(2, 0)


def test_the_command_line_takes_a_prior_by_its_config(tmp_path, capsys):
    prior = json.dumps(dict(name="mixture_prior", latent_dim=2, components=3))
    command = ["train", "--model", "vae", "--data", "digits", "--epochs", "1", "--out",
               str(tmp_path / "run"), "--device", "cpu", "--set", "hidden=[4]", "--set",
               "latent_dim=2", "--set", f"prior={prior}"]
    main(command)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert type(model.prior_net) is MixturePrior and model.prior_net.mu.shape == (3, 2)
    main(["sample", str(tmp_path / "run"), "-n", "4"])
    # the same command goes on, another prior does not
    main(command)
    assert "finished already" in capsys.readouterr().out
    command[-1] = command[-1].replace("3}", "4}")
    with pytest.raises(SystemExit, match="components was 3 and is 4"): main(command)


# --- names of one's own

def test_a_function_or_a_class_of_one_s_own_is_found_by_its_name(monkeypatch, tmp_path):
    def make(width=3):
        model = Outer(small("vae"), width=width)
        model.config = dict(name="mine", width=width)
        return model
    monkeypatch.setitem(registry, "mine", make)
    assert builder_of("mine") is make and builder_of("vae") is mlp_vae
    model = build("mine", width=4)
    again = load_model(save_model(model, tmp_path / "m"))
    assert same(again, model) and again.scale.shape == (4,)
    monkeypatch.setitem(parts, "wide_mixture",
                        lambda latent_dim: MixturePrior(latent_dim, 50))
    wide = small("vae", prior=dict(name="wide_mixture", latent_dim=2))
    assert wide.prior_net.mu.shape == (50, 2)


def test_a_model_of_one_s_own_is_trained_by_the_command_line(monkeypatch, tmp_path,
                                                             capsys):
    def mine(
        data_shape=(1, 28, 28), # of one example
        width: int = 3,         # of nothing much
    ):
        model = Outer(mlp_vae(data_shape, 2, (4,)), width=width)
        model.config = dict(name="mine", data_shape=list(data_shape), width=width)
        return model
    monkeypatch.setitem(registry, "mine", mine)
    main(["train", "--model", "mine", "--data", "digits", "--epochs", "1", "--out",
          str(tmp_path / "run"), "--device", "cpu", "--set", "width=2"])
    assert "test loss" in capsys.readouterr().out
    assert load_model(tmp_path / "run" / "model.safetensors").scale.shape == (2,)


@pytest.mark.parametrize("name", [None, 3, "gan"])
def test_a_name_that_there_is_not_is_said_with_those_that_there_are(name):
    with pytest.raises(ValueError, match="there are vae, conv_vae.*mixture_prior.*"
                                         "registry\\["):
        build(name)


def test_a_file_that_names_what_is_not_entered_says_what_to_do(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(registry, "outer", Outer)
        patch.setitem(parts, "mine", lambda latent_dim: MixturePrior(latent_dim, 3))
        model = small("vae", prior=MIXTURE)
        model.config["prior"] = dict(name="mine", latent_dim=2)
        inside = save_model(model, tmp_path / "inside")
        whole = save_model(Outer(model), tmp_path / "whole")
        assert same(load_model(inside), model)
    for path, name in ((inside, "'mine'"), (whole, "'outer' and 'mine'")):
        with pytest.raises(CheckpointError,
                           match=f"It names {name}: .* enter it in `registry` or "
                                 "`parts` before you load the file"):
            load_model(path)


def test_a_part_is_no_model_on_the_command_line(tmp_path):
    with pytest.raises(SystemExit, match="no model called 'mixture_prior'"):
        main(["train", "--model", "mixture_prior", "--data", "digits", "--out",
              str(tmp_path / "run")])


# --- every trainable model has a name, a config and a file

@pytest.mark.parametrize("make", [
    lambda: mlp_autoencoder((1, 4, 4), 2, (8,), "gaussian"),
    lambda: CodePrior(3, (2, 2), width=4, depth=1, heads=2)],
    ids=["autoencoder", "code_prior"])
def test_the_autoencoder_and_the_prior_over_codes_are_built_by_their_config(
        make, tmp_path):
    model = make()
    again = load_model(save_model(model, tmp_path / "model"))
    assert type(again) is type(model) and again.config == model.config
    assert same(again, model) and model.config["name"] in registry


def test_every_part_is_built_by_its_config():
    for name, config in dict(standard_normal=dict(latent_dim=3),
                             mixture_prior=dict(latent_dim=3, components=2)).items():
        part = build(name, **config)
        assert part.config == dict(name=name, **config)
        assert part().sample((5,)).shape == (5, 3)
    assert with_configs(dict(a=1), prior=part)["prior"] == part.config


# --- one format

def test_models_runs_and_detectors_hold_their_model_in_one_way(tmp_path):
    model = small("vae", prior=MIXTURE, likelihood="gaussian_learned")
    trained(model, checkpoint=tmp_path / "run")
    save_model(model, tmp_path / "model")
    detector = AnomalyDetector(model="vae", epochs=1, device="cpu", config=dict(
        latent_dim=2, hidden=[8], prior=MIXTURE)).fit(images(200).x.numpy())
    detector.save(tmp_path / "detector")
    found = {kind: load_checkpoint(tmp_path / kind)
             for kind in ("run", "model", "detector")}
    for state in found.values():
        assert {"kind", "config", "model", "buffers"} <= state.keys()
        assert state["config"]["prior"] == MIXTURE
        assert build(**state["config"]).load_state_dict(state["model"])
    again = AnomalyDetector.load(tmp_path / "detector")
    x = images(8).x.numpy()
    assert type(again.model_.prior_net) is MixturePrior
    assert again.anomaly_score(x) == pytest.approx(detector.anomaly_score(x))


def test_files_of_the_first_version_load_as_ever(tmp_path):
    assert type(load_model(files / "model-0.1.0.safetensors")).__name__ == "BetaVAE"
    path = shutil.copy(files / "run-0.1.0.safetensors", tmp_path / "run")
    assert load_model(path).config == dict(
        name="vae", data_shape=[1, 8, 8], latent_dim=3, hidden=[8],
        likelihood="bernoulli", dropout=0.0)
