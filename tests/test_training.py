"""`fit`: killed and resumed, refused at the door, stopped early, seeded, and clear
about NaN.

Run as a script (`python test_training.py FOLDER WHEN`) it is the process that gets
killed."""
import copy, errno, math, os, signal, subprocess, sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from vae_course import callbacks
from vae_course.callbacks import Callback
from vae_course.data import Batches, DataError, Examples
from vae_course.datasets import load
from vae_course.elbo import VAE, mlp_vae
from vae_course.checkpoint import (
    CheckpointError, from_bytes, load_checkpoint, save_checkpoint)
from vae_course.step import (
    evaluate, make_optimizers, NonFiniteLoss, train_epoch, Trainable)
from vae_course.latent import diagonal_gaussian
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.training import (
    build, constant, fit, History, linear, load_model, save_model)

# here and in the killed process: the bits depend on the number of threads
torch.set_num_threads(1)


def new_model(seed=0, **kwargs):
    torch.manual_seed(seed)
    return mlp_vae((1, 28, 28), **dict(latent_dim=5, hidden=(32,)) | kwargs)


def training(folder, model=None, **kwargs):
    """The run that is killed: everything that a checkpoint must keep is in use. 5 steps
    an epoch, 4 epochs."""
    kept = load_file(Path(folder) / "digits.safetensors")
    examples = Examples(kept["x"], kept["y"])
    settings = dict(valid=examples[300:], epochs=4, batch_size=64, lr=5e-3,
                    binarize=True, schedules={"beta": linear(0, 1, until=.6)},
                    clip=50.0, patience=3, seed=3, device="cpu",
                    checkpoint=Path(folder) / "run.safetensors", progress=False)
    model = model or new_model()
    return model, fit(model, examples[:300], **settings | kwargs)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def be_killed(folder, when):
    """Train, and be killed within epoch 3, between epochs 2 and 3, or while the
    checkpoint of epoch 3 is being written."""
    model, steps = new_model(), []
    def after_step():
        steps.append(1)
        if when == "within" and len(steps) == 13: die()
    model.after_step = after_step
    save, replace = callbacks.save_checkpoint, os.replace
    def save_and_die(path, tree):
        save(path, tree)
        if when == "between" and len(tree["history"]) == 2: die()
    def die_before_renaming(*args):
        if when == "writing" and len(steps) == 15: die()
        return replace(*args)
    callbacks.save_checkpoint, os.replace = save_and_die, die_before_renaming
    training(folder, model)


if __name__ == "__main__":
    be_killed(*sys.argv[1:])
    sys.exit("was not killed")


@pytest.fixture(scope="session")
def digits():
    return load("digits").train[:400]


@pytest.fixture
def folder(tmp_path, digits):
    save_file(dict(x=digits.x.contiguous(), y=digits.y),
              tmp_path / "digits.safetensors")
    return tmp_path


@pytest.fixture(scope="session")
def uninterrupted(digits, tmp_path_factory):
    place = tmp_path_factory.mktemp("whole")
    save_file(dict(x=digits.x.contiguous(), y=digits.y), place / "digits.safetensors")
    model, history = training(place)
    return model, history, load_checkpoint(place / "run.safetensors")


def same(a, b):
    """Whether two trees of tensors and values are equal in every bit; seconds are not
    looked at."""
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict):
        return (
            a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds"))
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


def weights(model):
    return copy.deepcopy(model.state_dict())


# --- killed and resumed

@pytest.mark.processes
@pytest.mark.parametrize("when, epochs",
                         [("within", 2), ("between", 2), ("writing", 2)])
def test_killed_and_resumed(folder, uninterrupted, when, epochs):
    env = os.environ | dict(OMP_NUM_THREADS="1",
                            PYTHONPATH=str(Path(callbacks.__file__).parents[1]))
    done = subprocess.run([sys.executable, __file__, str(folder), when], env=env,
                          capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path = folder / "run.safetensors"
    assert len(load_checkpoint(path)["history"]) == epochs
    assert (folder / ".run.safetensors.part").exists() == (when == "writing")

    # other first weights: the file's count
    model, history = training(folder, new_model(seed=99))
    whole, whole_history, whole_state = uninterrupted
    assert same(weights(model), weights(whole))
    assert same(history.rows, whole_history.rows)
    # moments, best weights, random numbers and all
    assert same(load_checkpoint(path), whole_state)
    # the lock is free again
    assert sorted(p.name for p in folder.iterdir()) == [
        ".run.safetensors.lock", "digits.safetensors", "run.safetensors"]


def test_interrupted_in_the_first_epoch_starts_anew(folder, uninterrupted):
    model, count = new_model(), []
    def after_step():
        count.append(1)
        if len(count) == 3: raise KeyboardInterrupt
    model.after_step = after_step
    with pytest.raises(KeyboardInterrupt): training(folder, model)
    assert not (folder / "run.safetensors").exists()
    assert same(weights(training(folder)[0]), weights(uninterrupted[0]))


def test_a_finished_run_is_returned_at_once(folder, uninterrupted, monkeypatch):
    training(folder)
    monkeypatch.setattr("vae_course.training.train_epoch",
                        lambda *a, **k: pytest.fail("trained again"))
    model, history = training(folder, new_model(seed=1))
    assert same(weights(model), weights(uninterrupted[0])) and len(history) == 4


def test_nothing_but_the_state_decides(folder, uninterrupted):
    """The checkpoint is taken up in a process whose random numbers stand elsewhere, and
    without a checkpoint the result is the same."""
    torch.rand(1000)
    assert same(weights(training(folder, checkpoint=None)[0]),
                weights(uninterrupted[0]))


# --- refused

def flipped(examples):
    x = examples.x.clone()
    x[7, 0, 3, 3] ^= 1
    return Examples(x, examples.y)


@pytest.mark.parametrize("change, named", [
    (dict(batch_size=50), "batch_size was 64 and is 50"),
    (dict(epochs=9), "epochs was 4 and is 9"), (dict(lr=1e-2), "lr was"),
    (dict(seed=4), "seed was 3 and is 4"),
    (dict(binarize=False), "binarize was True and is False"),
    (dict(clip=None), "clip was 50.0 and is None"),
    (dict(patience=2), "patience was 3 and is 2"),
    (dict(schedules={"beta": linear(0, 1, until=.5)}), "schedules.beta was"),
    (dict(schedules=None), "schedules.beta was"),
    (dict(valid="half"), "valid.examples was 100 and is 50"),
    (dict(model=lambda: new_model(latent_dim=6)), "config.latent_dim was 5 and is 6"),
    (dict(model=lambda: new_model(likelihood="gaussian")),
     "config.likelihood was bernoulli and is gaussian")])
def test_resume_with_another_setting_is_refused(folder, change, named):
    training(folder, epochs=4)
    before = (folder / "run.safetensors").read_bytes()
    kept = load_file(folder / "digits.safetensors")
    if change.get("valid") == "half":
        change = dict(valid=Examples(kept["x"], kept["y"])[350:])
    model = change["model"]() if "model" in change else None
    with pytest.raises(CheckpointError) as e:
        training(folder, model, **{k: v for k, v in change.items() if k != "model"})
    assert named in str(e.value) and "run.safetensors" in str(e.value)
    assert (folder / "run.safetensors").read_bytes() == before


def test_resume_with_other_data_is_refused(folder, digits):
    training(folder)
    settings = dict(valid=digits[300:], epochs=4, batch_size=64, lr=5e-3, binarize=True,
                    schedules={"beta": linear(0, 1, until=.6)}, clip=50.0, patience=3,
                    seed=3, device="cpu", checkpoint=folder / "run.safetensors",
                    progress=False)
    with pytest.raises(CheckpointError, match="train.content"):
        fit(new_model(), flipped(digits[:300]), **settings)
    with pytest.raises(CheckpointError, match="train.examples was 300 and is 200"):
        fit(new_model(), digits[:200], **settings)
    weighted = new_model()
    weighted.beta.fill_(4)
    with pytest.raises(CheckpointError, match="buffers.beta was None and is 4"):
        fit(weighted, digits[:300], **settings | dict(schedules=None))
    assert len(fit(new_model(), digits[:300], **settings)) == 4


@pytest.mark.parametrize("spoil, named",
                         [(lambda raw: b"", "empty"), (lambda raw: raw[:30], "cut off"),
                          (lambda raw: raw[:-7], "cut off"),
                          (lambda raw: raw[:-1] + bytes([raw[-1] ^ 4]), "checksum"),
                          (lambda raw: b"not a checkpoint at all", "safetensors")])
def test_a_spoiled_checkpoint_is_refused_and_left_alone(folder, spoil, named):
    training(folder, epochs=1)
    path = folder / "run.safetensors"
    spoiled = spoil(path.read_bytes())
    path.write_bytes(spoiled)
    model = new_model()
    before = weights(model)
    with pytest.raises(CheckpointError, match=named): training(folder, model, epochs=1)
    assert path.read_bytes() == spoiled and same(weights(model), before)


def test_a_model_file_is_no_run(folder):
    save_model(new_model(), folder / "run.safetensors")
    with pytest.raises(CheckpointError, match="no training run"): training(folder)


def test_a_full_disk_leaves_the_last_epoch(folder, monkeypatch):
    training(folder, new_model(), epochs=4, patience=None)
    whole = (folder / "run.safetensors").read_bytes()
    (folder / "run.safetensors").unlink()
    sync, calls = os.fsync, []
    def full(handle):
        calls.append(1)
        if len(calls) == 3: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sync(handle)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left.*is whole"):
        training(folder, patience=None)
    assert len(load_checkpoint(folder / "run.safetensors")["history"]) == 2
    assert not list(folder.glob(".*.part"))
    # space was made: it goes on
    training(folder, patience=None)
    again, first = load_checkpoint(folder / "run.safetensors"), from_bytes(whole)
    assert same(again, first)


# --- history, schedules, means, seeds

class Mean(Trainable):
    """Loss: the mean of x, and a weight that follows its gradient. Records what the
    schedules say."""
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.register_buffer("beta", torch.tensor(1.0))
        self.seen = []

    def losses(self, batch):
        self.seen.append(self.beta.item())
        value = batch[0].mean()
        return dict(loss=value + self.w - self.w.detach(), value=value)


def numbers(n=7):
    x = torch.arange(float(n))[:, None] ** 2
    return Examples(x, torch.zeros(n, dtype=torch.long))


def test_the_last_partial_batch_is_weighted_exactly():
    # batches of 3, 3 and 1
    history = fit(Mean(), numbers(), numbers(5), epochs=2, batch_size=3, progress=False,
                  device="cpu")
    assert (history["value"] == pytest.approx([13.0, 13.0], rel=1e-5)
            and history["valid_value"] == pytest.approx([6.0, 6.0], rel=1e-5))


def test_schedules_move_the_buffer_and_the_rate():
    model, rates = Mean(), []
    model.optimizers = lambda: [
        torch.optim.SGD([dict(params=[model.w], lr_scale=0.5)], lr=9.0)]
    before = model.beta
    model.after_step = lambda: rates.append(model.w.item())
    fit(model, numbers(6), epochs=2, batch_size=2, lr=lambda t: 8 * t,
        schedules={"beta": lambda t: 10 * t}, progress=False, device="cpu")
    middles = [(i + .5) / 6 for i in range(6)]
    # moved in place
    assert (model.seen[-6:] == pytest.approx([10 * t for t in middles])
            and model.beta is before)
    steps = [-b + a for a, b in zip([0] + rates, rates)]
    assert steps == pytest.approx([4 * t for t in middles], rel=1e-5)


def test_a_number_is_a_schedule_and_an_unknown_buffer_is_named():
    model = Mean()
    fit(model, numbers(6), epochs=1, batch_size=2, schedules={"beta": 3.0},
        progress=False, device="cpu")
    assert model.beta == 3
    with pytest.raises(ValueError, match="no buffer 'gamma'.*it has beta"):
        fit(Mean(), numbers(), batch_size=2, schedules={"gamma": 1.0}, progress=False)


def test_several_optimizers_and_after_step():
    class Two(Mean):
        def __init__(self):
            super().__init__()
            self.v, self.steps = nn.Parameter(torch.zeros(())), 0
        def losses(self, batch): return dict(loss=(self.w - 1)**2 + (self.v + 1)**2)
        def optimizers(self):
            return torch.optim.SGD([self.w], lr=.1), torch.optim.Adam([self.v], lr=.1)
        def after_step(self): self.steps += 1
    model = Two()
    history = fit(model, numbers(6), numbers(6), epochs=20, batch_size=2,
                  lr=constant(.1), progress=False, device="cpu")
    assert model.steps == 60 and abs(model.w - 1) < 1e-3 and abs(model.v + 1) < .1
    assert history.monitor == "valid_loss" and history["valid_loss"][-1] < 1e-2


def test_seeds(digits):
    def trained(seed, **kwargs):
        model = new_model()
        fit(model, digits[:200], epochs=2, batch_size=64, binarize=True, seed=seed,
            device="cpu", progress=False, **kwargs)
        return weights(model)
    assert same(trained(0), trained(0))
    assert not same(trained(0), trained(1))
    # watching changes nothing
    assert same(trained(0), trained(0, valid=digits[200:300]))
    model = new_model()
    quick(model, digits[:64])
    # ready to be looked at
    assert not model.training


def test_validation_reports_neg_elbo_at_beta_1_with_the_same_noise(digits):
    model = new_model()
    history = fit(model, digits[:200], digits[200:], epochs=3, batch_size=64,
                  lr=constant(0.0), binarize=True, schedules={"beta": linear(0, 5)},
                  device="cpu", progress=False)
    assert len(set(history["valid_neg_elbo"])) == 1 and not history["valid_loss"]
    row = history.rows[0]
    assert row["valid_neg_elbo"] == pytest.approx(
        row["valid_reconstruction"] + row["valid_kl"], rel=1e-5)
    assert row["loss"] < row["neg_elbo"]


def test_early_stopping_gives_the_best_weights_back(digits):
    model = new_model(hidden=(100,))
    history = fit(model, digits[:60], digits[100:300], epochs=300, batch_size=30,
                  lr=constant(2e-2), patience=4, device="cpu", progress=False)
    assert history.epochs_since_best() == 4 and len(history) < 300
    assert (evaluate(model, Batches(digits[100:300], 1000), seed=0)["neg_elbo"]
            == history.best()["valid_neg_elbo"] < history["valid_neg_elbo"][-1])


def test_load_model_takes_the_best_weights(folder, digits):
    model, history = training(folder, lr=constant(.05), patience=1, epochs=30)
    loaded = load_model(folder / "run.safetensors")
    assert same(weights(loaded), weights(model)) and not loaded.training
    save_model(model, folder / "model.safetensors")
    assert same(weights(load_model(folder / "model.safetensors")), weights(model))


def test_load_model_says_what_does_not_fit(tmp_path):
    bare = new_model()
    bare.config = None
    save_model(bare, tmp_path / "bare.safetensors")
    with pytest.raises(CheckpointError, match="no config"):
        load_model(tmp_path / "bare.safetensors")
    assert same(weights(load_model(tmp_path / "bare.safetensors",
                                   model=new_model(seed=1))), weights(bare))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_model(tmp_path / "bare.safetensors", model=new_model(latent_dim=9))
    save_checkpoint(tmp_path / "other.safetensors",
                    dict(kind="model", config=dict(name="gan"), model={}))
    with pytest.raises(CheckpointError, match="no model called 'gan'"):
        load_model(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="there are vae"): build("gan")


# --- NaN

def quick(model, train, **kwargs):
    return fit(model, train,
               **dict(epochs=2, batch_size=64, device="cpu", progress=False) | kwargs)


def test_nan_in_a_weight(digits):
    model = new_model()
    with torch.no_grad(): model.decoder[0][0].weight[3, 1] = math.nan
    with pytest.raises(NonFiniteLoss,
                       match=r"`reconstruction` became NaN at step 1 of 5 in epoch "
                             r"1.*`decoder.0.0.weight` were not finite"):
        quick(model, digits[:300])


def test_a_rate_that_is_too_high(digits):
    model = new_model()
    model.optimizers = lambda: torch.optim.SGD(model.parameters(), lr=1.0)
    first = weights(model)
    with pytest.raises(NonFiniteLoss, match=r"at step [2-9]\d? of 10 in epoch "
                                            r"1.*learning rate of 0.5 is too high"):
        quick(model, digits[:300], batch_size=32, lr=constant(.5))
    assert same(weights(model), first)


def test_an_unbounded_logvar(digits):
    class Unbounded(VAE):
        def encode(self, x, c=None):
            return diagonal_gaussian(*self.encoder(x).chunk(2, -1))
    m = new_model()
    # the second half is logvar
    with torch.no_grad(): m.encoder[-1][-1].bias[5:] = 1000.0
    with pytest.raises(NonFiniteLoss, match="`kl` became infinite at step 1 "
                                            ".*bound_logvar|`reconstruction` became .* "
                                            "at step 1 .*bound_logvar"):
        quick(Unbounded(m.encoder, m.decoder, m.prior_net, m.likelihood), digits[:300])


def test_the_epoch_before_is_kept(folder):
    def breaks(t): return 1.0 if t < .5 else math.inf
    model = new_model()
    with pytest.raises(NonFiniteLoss,
                       match="`loss` became infinite at step 1 of 5 in epoch 3"):
        training(folder, model, schedules={"beta": breaks})
    kept = load_checkpoint(folder / "run.safetensors")
    assert len(kept["history"]) == 2 and same(weights(model), kept["model"])


def test_a_gradient_that_is_not_finite():
    class Root(Mean):
        def losses(self, batch): # its slope at 0 is 0/0
            return dict(loss=(self.w**2).sqrt() + batch[0].mean())
    model = Root()
    with pytest.raises(NonFiniteLoss, match="gradient of `w` became NaN or infinite at "
                                            "step 1 of 3 in epoch 1"):
        quick(model, numbers(6), batch_size=2)
    assert model.w == 0


def test_a_gradient_that_is_not_finite_in_the_very_last_step():
    class Late(Mean):
        def losses(self, batch): # the slope of √ at 0 is infinite
            return dict(loss=(self.w - self.w.detach() + (self.beta < 5)).sqrt()
                             + batch[0].mean())
    with pytest.raises(NonFiniteLoss, match="gradient of `w` became NaN or infinite at "
                                            "step 3 of 3 in epoch 2"):
        quick(Late(), numbers(6), batch_size=2,
              schedules={"beta": lambda t: 10.0 if t > .9 else 0.0})


def test_nan_in_validation_only():
    class Shy(Mean):
        def losses(self, batch):
            bad = 0.0 if self.training or self.beta < 5 else math.nan
            return dict(loss=self.w**2 + batch[0].mean() * 0 + bad, size=self.w * 0)
    with pytest.raises(NonFiniteLoss,
                       match="`loss` became NaN at validation batch 1 of 1 in epoch 2"):
        quick(Shy(), numbers(6), valid=numbers(6), batch_size=2,
              schedules={"beta": lambda t: 10.0 if t > .9 else 0.0})


# --- at the door

def examples(x):
    return Examples(x, torch.zeros(len(x), dtype=torch.long))


def with_value(value):
    x = torch.rand(70, 1, 28, 28)
    x[17, 0, 4, 4] = value
    return examples(x)


@pytest.mark.parametrize("train, named", [
    (lambda: with_value(math.nan),
     "train holds NaN or infinity in 1 of its 70 examples, first in number 17"),
    (lambda: with_value(math.inf), "first in number 17"),
    (lambda: with_value(200.0), "reaches from .* to 200.*divide by 255"),
    (lambda: with_value(-1.0), "from -1 to .*rescale"),
    (lambda: examples(torch.ones(70, 1, 28, 28).long()), "torch.int64: give float32"),
    (lambda: examples(torch.rand(70, 1, 32, 32)),
     r"\(1, 32, 32\), and this model was built for \(1, 28, 28\)"),
    (lambda: examples(torch.rand(70, 28, 28)),
     r"\(28, 28\), and this model was built for"),
    (lambda: torch.rand(70, 1, 28, 28), "train is a Tensor.*Examples"),
    (lambda: examples(torch.rand(0, 1, 28, 28)), "no examples"),
    (lambda: None, "train is a NoneType")])
def test_bad_data_is_refused(train, named):
    model = new_model()
    first = weights(model)
    with pytest.raises(DataError, match=named): quick(model, train())
    assert same(weights(model), first)


def test_bad_validation_data_is_refused(digits):
    with pytest.raises(DataError, match="valid holds NaN"):
        quick(new_model(), digits, valid=with_value(math.nan))
    with pytest.raises(DataError, match=r"valid holds examples of shape \(1, 32, 32\)"):
        quick(new_model(), digits, valid=examples(torch.rand(70, 1, 32, 32)))


def test_a_model_may_take_another_range():
    # without a likelihood, everything that is finite
    fit(Mean(), numbers(), batch_size=7, epochs=1, progress=False, device="cpu")
    with pytest.raises(DataError, match="takes 0 to 1"):
        quick(Mean(), numbers(), batch_size=7, binarize=True)
    with pytest.raises(DataError, match="NaN"):
        quick(Mean(), examples(torch.full((70, 1), math.nan)))


@pytest.mark.parametrize("settings, named", [
    (dict(epochs=0), "epochs=0"), (dict(batch_size=0), "batch_size=0"),
    (dict(batch_size=2.5), "batch_size=2.5"), (dict(lr=-1.0), "not negative"),
    (dict(lr=math.nan), "finite"), (dict(clip=0), "clip=0"),
    (dict(patience=2), "needs `valid`"), (dict(device="tpu"), "no device 'tpu'"),
    (dict(device="cuda:77"), "it has")])
def test_bad_settings_are_refused(digits, settings, named):
    with pytest.raises(ValueError, match=named): quick(new_model(), digits, **settings)


# --- the seams

def test_an_epoch_does_not_wait_for_the_device(digits):
    """The number of times that a value is fetched to the host does not grow with the
    number of steps."""
    class Count(TorchDispatchMode):
        n = 0
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += "_local_scalar_dense" in str(func) or "aten._to_copy" in str(
                func) and (kwargs or {}).get("device") is not None
            return func(*args, **kwargs or {})
    def fetched(batch_size):
        model = new_model()
        optimizers = make_optimizers(model, torch.device("cpu"))
        batches = Batches(digits[:256], batch_size, shuffle=True)
        with Count() as count:
            train_epoch(model, batches, optimizers, clip=1.0,
                        before_step=lambda step:
                                        optimizers[0].param_groups[0]["lr"].fill_(1e-3))
        return count.n
    assert fetched(64) == fetched(16)


def test_the_noise_can_be_handed_in(digits):
    def trained(own_noise, noise):
        model = new_model()
        optimizers = make_optimizers(model, torch.device("cpu"))
        optimizers[0].param_groups[0]["lr"].fill_(1e-3)
        torch.manual_seed(own_noise)
        with noise as kept:
            terms = train_epoch(model, Batches(digits[:256], 64), optimizers)
        return (weights(model), terms), kept
    first, kept = trained(1, recorded_noise())
    assert same(first, trained(2, replayed_noise(kept))[0])
    assert not same(first, trained(2, recorded_noise())[0])


def test_progress(digits, capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    quick(new_model(), digits[:128], progress=True)
    assert "4/4" in capfd.readouterr().err
    quick(new_model(), digits[:128], progress=False)
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    quick(new_model(), digits[:128], progress=True)
    assert capfd.readouterr().err == ""


def test_an_empty_history_says_so():
    assert repr(History()) == "History of 0 epochs"


# --- callbacks

class Notes(Callback):
    "Writes down what it is told, and ends the run after so many epochs."

    def __init__(self, enough=99):
        self.told, self.enough, self.finite = [], enough, True

    def on_start(self, run): self.told.append("start")

    def on_step(self, run):
        self.told.append("step")
        self.finite &= bool(run.terms["loss"].isfinite())

    def on_epoch(self, run): self.told.append(f"epoch {run.history['epoch'][-1]}")
    def on_end(self, run): self.told.append("end")
    def on_error(self, run, error): self.told.append(type(error).__name__)
    def done(self, run): return len(run.history) >= self.enough


def test_a_callback_is_told_of_everything_in_order(digits):
    notes = Notes()
    quick(new_model(), digits[:128], epochs=2, batch_size=64, callbacks=[notes])
    assert notes.told == ["start", "step", "step", "epoch 1", "step", "step", "epoch 2",
                          "end"]
    assert notes.finite


def test_a_callback_may_end_the_run(digits):
    notes = Notes(enough=1)
    history = quick(new_model(), digits[:128], epochs=5, callbacks=[notes])
    assert history["epoch"] == [1] and notes.told[-1] == "end"


def test_every_callback_is_told_of_an_error_and_the_better_error_is_raised(digits):
    """The watch for NaN raises an error that names the cause; those after it are told
    all the same."""
    model, notes = new_model(), Notes()
    model.optimizers = lambda: torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(NonFiniteLoss, match="Likely cause"):
        quick(model, digits[:256], epochs=3, batch_size=64, callbacks=[notes])
    assert notes.told[-1] == "NonFiniteLoss" and "end" not in notes.told


def test_a_run_that_an_error_ends_is_not_told_to_be_at_its_end(digits):
    "Also where nobody has a better error."
    class Stops(Notes):
        def on_epoch(self, run):
            super().on_epoch(run)
            raise KeyError("mine")
    notes = Stops()
    with pytest.raises(KeyError, match="mine"):
        quick(new_model(), digits[:128], epochs=2, batch_size=64, callbacks=[notes])
    assert notes.told == ["start", "step", "step", "epoch 1", "KeyError"]


def test_the_bar_is_closed_when_the_run_breaks_off(digits, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    closed, model = [], new_model()
    real = callbacks.ProgressBar.on_error
    monkeypatch.setattr(callbacks.ProgressBar, "on_error", lambda self, run, error: (
        real(self, run, error), closed.append(self.bar.disable)))
    model.optimizers = lambda: torch.optim.SGD(model.parameters(), lr=1e30)
    with pytest.raises(NonFiniteLoss):
        quick(model, digits[:256], epochs=3, batch_size=64, progress=True)
    assert closed == [True]                         # a closed bar is a disabled one
