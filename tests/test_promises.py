"""What `fit` promises besides a trained model: no trace, the model's own rate, β in the
file, NumPy scalars, small sets, fixed numerics."""
import inspect, random

import numpy as np
import pytest
import torch
from torch import nn

from vae_course.beta_vae import beta_vae
from vae_course.data import Examples
from vae_course.elbo import mlp_vae
from vae_course.acceleration import (
    Trial, _openmp, choose_step, flush_denormals, threads_flush)
from vae_course.checkpoint import load_checkpoint, save_checkpoint
from vae_course.run import Run
from vae_course.run_config import RunConfig
from vae_course.step import NonFiniteLoss, StepConfig, Trainable
from vae_course.training import (
    build, constant, fit, History, linear, load_model, registry, save_model)
from pretended import several_processes


def images(n=60, seed=0):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Examples(x, torch.arange(n) % 2)


def small(**kwargs):
    return mlp_vae(**dict(data_shape=(1, 8, 8), latent_dim=3, hidden=(16,)) | kwargs)


def briefly(model, train=None, **kwargs):
    return fit(model, images() if train is None else train,
               **dict(epochs=2, batch_size=20, device="cpu", progress=False) | kwargs)


# ---------------------------------------------------------------- no trace

def draws():
    "A number from each global source."
    return random.random(), np.random.rand(), torch.rand(()).item()


def fails(model):
    def after_step(): raise KeyboardInterrupt
    model.after_step = after_step
    return model


@pytest.mark.parametrize(
    "settings", [dict(), dict(valid=images(10), patience=1), dict(binarize=True),
                 dict(precision="auto", compile="auto", graphs="auto")], ids=str)
def test_random_numbers_go_on_as_if_nothing_had_been_drawn(settings, tmp_path):
    for seed in (0, 1):
        model = small()
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        wanted = draws()
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        briefly(model, seed=seed, checkpoint=tmp_path / f"{seed}.safetensors",
                **settings)
        assert draws() == wanted


def test_random_numbers_come_back_from_a_run_that_is_stopped_or_meets_nan():
    for broken, error in ((fails(small()), KeyboardInterrupt),
                          (small(), NonFiniteLoss)):
        if error is NonFiniteLoss:
            with torch.no_grad(): broken.decoder[0][0].weight[0, 0] = float("nan")
        torch.manual_seed(5)
        wanted = torch.rand(3)
        torch.manual_seed(5)
        with pytest.raises(error): briefly(broken)
        assert torch.equal(torch.rand(3), wanted)


def test_models_built_and_fitted_in_a_loop_differ():
    torch.manual_seed(0)
    first = []
    for _ in range(3):
        model = small()
        first.append(next(model.parameters()).detach().clone())
        briefly(model)
    assert not torch.equal(first[1], first[2]) and not torch.equal(first[0], first[1])


def test_training_in_steps_leaves_no_trace_either():
    from vae_course.vq_vae import train_steps, vq_vae
    model = vq_vae((1, 8, 8), n_codes=4, widths=(4, 8))
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    train_steps(model, images(), steps=2, batch_size=10)
    assert torch.equal(torch.rand(3), wanted)


def test_denormal_numbers_are_treated_as_before():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormals")
    try:
        if _openmp(): _openmp().omp_pause_resource_all(1)
        inside = []
        model = small()
        model.after_step = lambda: inside.append(threads_flush(torch.any))
        briefly(model)
        assert all(inside) and not threads_flush(torch.any)
        flush_denormals()
        briefly(small())
        assert threads_flush(torch.any)                 # who wanted it has it still
    finally:
        torch.set_flush_denormal(False)
        if _openmp(): _openmp().omp_pause_resource_all(1)


def test_denormals_are_treated_as_before_after_an_error_and_after_steps():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormals")
    from vae_course.vq_vae import train_steps, vq_vae
    try:
        if _openmp(): _openmp().omp_pause_resource_all(1)
        with pytest.raises(KeyboardInterrupt): briefly(fails(small()))
        assert not threads_flush(torch.any)
        train_steps(vq_vae((1, 8, 8), n_codes=4, widths=(4, 8)), images(), steps=1,
                    batch_size=10)
        assert not threads_flush(torch.any)
    finally:
        torch.set_flush_denormal(False)
        if _openmp(): _openmp().omp_pause_resource_all(1)


# ---------------------------------------------------------------- the learning rate

class Line(Trainable):
    "loss = w: the gradient is 1, so that plain descent moves w by the rate."
    def __init__(self, **group):
        super().__init__()
        self.w, self.v, self.group, self.places = (
            nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(())), group, [])
    def losses(self, batch): return dict(loss=self.w + self.v + 0 * batch[0].sum())
    def after_step(self): self.places.append((self.w.item(), self.v.item()))


class OwnRates(Line):
    def optimizers(self):
        return [torch.optim.SGD([dict(params=[self.w], **self.group)], lr=0.5),
                torch.optim.SGD([self.v], lr=0.125)]


def moves(model):
    places = torch.tensor([(0.0, 0.0)] + model.places)
    return -(places[1:] - places[:-1])


def test_a_models_own_rates_are_kept(tmp_path):
    model = OwnRates()
    history = briefly(model, checkpoint=tmp_path / "run")
    assert (torch.equal(moves(model), torch.tensor([[0.5, 0.125]]).expand(6, 2))
            and history["lr"] == [0.5, 0.5])
    again = OwnRates()
    # the same run, finished
    assert len(briefly(again, checkpoint=tmp_path / "run")) == 2 and not again.places


def test_groups_of_one_optimizer_keep_rates_of_their_own(tmp_path):
    class Groups(Line):
        rates = 0.5, 0.125
        def optimizers(self):
            return torch.optim.SGD([dict(params=[self.w], lr=self.rates[0]),
                                    dict(params=[self.v], lr=self.rates[1])])
    model, other = Groups(), Groups()
    briefly(model, checkpoint=tmp_path / "run")
    assert torch.equal(moves(model), torch.tensor([[0.5, 0.125]]).expand(6, 2))
    other.rates = 0.5, 0.25
    with pytest.raises(RuntimeError,
                       match=r"lr was \[0.5, 0.125\] and is \[0.5, 0.25\]"):
        briefly(other, checkpoint=tmp_path / "run")


def test_a_rate_of_0_is_a_rate():
    for model in (small(), OwnRates()):
        before = [p.detach().clone() for p in model.parameters()]
        assert briefly(model, lr=0)["lr"] == [0, 0]
        assert all(map(torch.equal, before, model.parameters()))


def test_a_rate_that_is_asked_for_moves_every_optimizer():
    model = OwnRates(lr_scale=0.5)
    briefly(model, lr=constant(0.25))
    assert torch.equal(moves(model), torch.tensor([[0.125, 0.25]]).expand(6, 2))


def test_a_scale_without_a_rate_is_refused():
    class Second(Line):
        def optimizers(self):
            return [torch.optim.SGD([self.w], lr=0.5),
                    torch.optim.SGD([dict(params=[self.v], lr_scale=0.5)], lr=0.5)]
    for model in (OwnRates(lr_scale=0.5), Second()):
        with pytest.raises(ValueError, match="lr_scale.*give `fit` an `lr`"):
            briefly(model)


def test_without_own_optimizers_the_rate_is_that_of_the_documentation():
    assert briefly(small(), epochs=1, seed=1)["loss"] == briefly_like(3e-3)


def briefly_like(lr):
    torch.manual_seed(0)
    return briefly(small(), epochs=1, seed=1, lr=lr)["loss"]


@pytest.fixture(autouse=True)
def same_first_weights():
    torch.manual_seed(0)


# ---------------------------------------------------------------- β and its kind

@pytest.mark.parametrize("make, buffer", [
    (small, "beta"), (lambda: beta_vae((1, 8, 8), 3, hidden=(16,)), "beta"),
    (lambda: beta_vae((1, 8, 8), 3, hidden=(16,)), "capacity")])
def test_what_a_schedule_moved_comes_back_from_the_file(make, buffer, tmp_path):
    model = make()
    briefly(model, schedules={buffer: linear(0, 8)}, checkpoint=tmp_path / "run")
    moved = model.get_buffer(buffer).item()
    assert moved > 4
    for path in (save_model(model, tmp_path / "model"), tmp_path / "run"):
        assert load_model(path).get_buffer(buffer).item() == moved


def test_every_registered_model_keeps_its_0_d_buffers(tmp_path):
    from test_models import SMALL, small as registered
    for name in SMALL:
        model = registered(name)
        moved = {k: b for k, b in model.named_buffers()
                 if b.dim() == 0 and b.is_floating_point()}
        for i, b in enumerate(moved.values()): b.fill_(2.5 + i)
        again = load_model(save_model(model, tmp_path / name))
        assert {k: again.get_buffer(k).item() for k in moved} == {
            k: 2.5 + i for i, k in enumerate(moved)}, name
    assert registry.keys() == SMALL.keys()


def test_a_file_without_buffers_loads_as_before(tmp_path):
    model = small()
    save_model(model, tmp_path / "new")
    state = load_checkpoint(tmp_path / "new")
    del state["buffers"]
    save_checkpoint(tmp_path / "old", state)
    assert load_model(tmp_path / "old").beta == 1


def test_another_beta_is_another_run(tmp_path):
    briefly(small(), checkpoint=tmp_path / "run")
    model = small()
    model.beta.fill_(4)
    with pytest.raises(RuntimeError, match=r"buffers.beta was 1.0 and is 4.0"):
        briefly(model, checkpoint=tmp_path / "run")


class Counting(Line):
    """Counts its steps in a buffer that `state_dict` leaves out, and in one that it
    holds."""
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.tensor(0), persistent=False)
        self.register_buffer("held", torch.tensor(0))
    def after_step(self):
        self.steps += 1
        self.held += 1
        if self.steps == self.group.get("stop"): raise KeyboardInterrupt


def test_whole_numbers_among_the_buffers_are_kept_and_a_run_goes_on_with_them(tmp_path):
    model, again = Counting(), Counting()
    # in the second of two epochs of three steps
    model.group["stop"] = 5
    with pytest.raises(KeyboardInterrupt): briefly(model, checkpoint=tmp_path / "run")
    briefly(again, checkpoint=tmp_path / "run")
    assert (again.steps, again.held) == (6, 6)
    loaded = load_model(save_model(again, tmp_path / "model"), model=Counting())
    assert (loaded.steps, loaded.held) == (6, 6)


def test_a_buffer_that_the_state_holds_does_not_make_another_run(tmp_path):
    briefly(Counting(), checkpoint=tmp_path / "run")
    moved = Counting()
    moved.held += 4
    assert len(briefly(moved, checkpoint=tmp_path / "run")) == 2 and moved.held == 6


def test_after_nan_the_buffers_are_those_before_the_epoch_too():
    model = small()
    with pytest.raises(NonFiniteLoss, match="back at its weights before epoch 2"):
        briefly(model, schedules={"beta": lambda t: 4.0 if t < .5 else float("inf")})
    assert model.beta == 4


# ---------------------------------------------------------------- small sets, and
# numbers from NumPy

@pytest.mark.parametrize("n", [1, 3, 60, 127, 128])
def test_a_batch_larger_than_the_data_is_cut_and_said(n, capsys):
    model, sizes = small(), []
    losses = model.losses
    def noted(batch, **kwargs):
        if model.training: sizes.append(len(batch[0]))
        return losses(batch, **kwargs)
    model.losses = noted
    # the batch size that stands in the signature
    fit(model, images(n), epochs=2, device="cpu", progress=False)
    said = (f"batch_size=128 is more than the {n} training examples: every batch holds "
            "all of them.\n" if n < 128 else "")
    assert sizes == [n, n] and capsys.readouterr().out == said


def test_a_batch_larger_than_a_stream_is_cut_and_said_too(capsys):
    images_one_by_one = [(x, 0) for x in images(12).x]
    settings = dict(epochs=2, batch_size=20, valid=images(10), stream=True,
                    device="cpu", progress=False)
    assert len(fit(small(), images_one_by_one, **settings)) == 2
    assert (capsys.readouterr().out == "batch_size=20 is more than the 12 training "
                                       "examples: every batch holds all of them.\n")


def test_one_of_several_processes_says_it(capsys):
    run = Run(small(), images(60), None, History(), RunConfig(1, 128, constant(1e-3)),
              torch.device("cpu"))
    capsys.readouterr()
    for run.rank in (0, 1, 2):
        assert run.batch_size_for(images(60), None) == 60
        assert ("every batch holds all" in capsys.readouterr().out) == (run.rank == 0)


def test_a_run_on_a_small_set_is_resumed(tmp_path):
    for _ in range(2):
        assert len(fit(small(), images(30), epochs=2, device="cpu", progress=False,
                       checkpoint=tmp_path / "run")) == 2


def test_numpy_scalars_are_numbers_in_every_setting(tmp_path):
    plain = dict(epochs=2, batch_size=20, lr=1e-2, clip=5.0, patience=3, seed=4)
    from_numpy = dict(epochs=np.int64(2), batch_size=np.int32(20), lr=np.float64(1e-2),
                      clip=np.float64(5), patience=np.uint8(3), seed=np.int64(4))
    found = []
    for settings in (plain, from_numpy):
        torch.manual_seed(0)
        model = small()
        found.append(briefly(model, valid=images(10), schedules={"beta": np.float32(2)},
                             checkpoint=tmp_path / "run", **settings).rows)
    # the second goes on with the file of the first
    assert found[0] == found[1]


def as_numpy(value):
    "Numbers and lists of them as NumPy has them."
    if isinstance(value, dict): return {k: as_numpy(v) for k, v in value.items()}
    if isinstance(value, list): return [as_numpy(v) for v in value]
    return (
        np.array([value])[0]
        if isinstance(value, (int, float)) and not isinstance(value, bool) else value)


def plain(value):
    "Whether no NumPy number is left in a JSON value."
    if isinstance(value, dict): return all(map(plain, value.values()))
    return (all(map(plain, value)) if isinstance(value, list)
            else not isinstance(value, np.generic))


def test_models_are_built_from_numpy_numbers_and_saved(tmp_path):
    from test_models import SMALL
    for name, config in SMALL.items():
        model = build(name, **{k: as_numpy(v) for k, v in config.items()})
        again = load_model(save_model(model, tmp_path / name))
        assert (
            plain(again.config) and again.config == build(name, **config).config), name


@pytest.mark.parametrize(
    "number, as_python",
    [(np.float32(0.5), 0.5), (np.float16(0.25), 0.25), (np.bool_(True), True),
     (np.int8(3), 3), (np.array(2.5, np.float32), 2.5), (np.str_("a"), "a")], ids=repr)
def test_every_numpy_scalar_is_stored_as_a_value_and_as_a_key(
        number, as_python, tmp_path):
    keys = {} if isinstance(number, np.ndarray) else {number: 1}
    back = load_checkpoint(
        save_checkpoint(tmp_path / "file", dict(value=number, keys=keys)))
    assert back["value"] == as_python and type(back["value"]) is type(as_python)
    assert ([(k, type(k)) for k in back["keys"]]
            == [(as_python, type(as_python))] * len(keys))


def test_numbers_of_torch_and_large_and_negative_seeds_are_settings():
    for settings in (dict(lr=torch.tensor(1e-2), clip=torch.tensor(5.0)), dict(seed=-1),
                     dict(seed=2**64 + 7)):
        assert len(briefly(small(), **settings)) == 2


def test_what_no_file_can_hold_is_said_before_the_first_step(tmp_path):
    model = small()
    model.config["latent_dim"] = lambda: 3
    steps = []
    model.after_step = lambda: steps.append(1)
    with pytest.raises(TypeError,
                       match="cannot store .*config.latent_dim: got a function"):
        briefly(model, checkpoint=tmp_path / "run")
    assert not steps


@pytest.mark.parametrize(
    "wrong, words",
    [(dict(epochs=0), "epochs=0: give a whole number of at least 1"),
     (dict(epochs=2.5), "epochs=2.5"), (dict(epochs=True), "epochs=True"),
     (dict(batch_size=0), "batch_size=0"), (dict(batch_size="64"), "batch_size='64'"),
     (dict(patience=0, valid=images(5)), "patience=0"), (dict(seed=1.5), "seed=1.5"),
     (dict(lr="fast"), "lr='fast'"), (dict(lr=float("nan")), "finite and not negative"),
     (dict(lr=-1), "finite and not negative"), (dict(clip="1"), "clip='1'"),
     (dict(clip=0), "positive norm"),
     (dict(schedules={"beta": "high"}), "schedules\\['beta'\\]='high'")], ids=str)
def test_a_setting_that_cannot_work_is_refused_before_the_first_step(wrong, words):
    model, steps = small(), []
    model.after_step = lambda: steps.append(1)
    with pytest.raises(ValueError, match=words): briefly(model, **wrong)
    assert not steps


# ---------------------------------------------------------------- fixed numerics

def test_nothing_about_numerics_is_chosen_by_a_stopwatch_unless_asked(monkeypatch):
    def never(*args): raise AssertionError("a trial was run")
    monkeypatch.setattr(Trial, "fastest", never)
    assert briefly(small(), epochs=200).step_config == StepConfig()
    defaults = {k: inspect.signature(fit).parameters[k].default
                for k in ("precision", "compile", "graphs")}
    assert defaults == dict(precision="fp32", compile=False, graphs=False)
    with pytest.raises(AssertionError, match="a trial was run"):
        briefly(small(), epochs=200, precision="auto")


def test_a_run_that_goes_on_takes_from_the_file_what_is_left_open_and_no_more():
    run = Run(small(), images(60), None, History(), RunConfig(1, 30, constant(1e-3)),
              torch.device("cpu"))
    run.resumed_config = dict(precision="fp32", compile=True, graphs=False)
    assert choose_step(run, "fp32", False, False)[0] == StepConfig()
    config, step = choose_step(run, "fp32", "auto", False)
    assert config == step.config == StepConfig(compile=True)


# ---------------------------------------------------------------- the order of the
# examples

def orders(**kwargs):
    "The order of 60 examples in each epoch, as the model sees them."
    model, seen = small(), []
    losses = model.losses
    def noted(batch, **noise):
        if model.training: seen.append(batch[1])
        return losses(batch, **noise)
    model.losses = noted
    examples = images()
    briefly(model, Examples(examples.x, torch.arange(60)), epochs=3, **kwargs)
    return torch.cat(seen).view(3, 60)


def test_every_epoch_has_an_order_of_its_own_and_every_seed_too():
    by_seed = [orders(seed=seed) for seed in (0, 1)]
    rows = torch.cat(by_seed)
    assert torch.equal(rows.sort(1).values, torch.arange(60).expand(6, 60))
    same = (rows[:, None] == rows).float().mean(-1).fill_diagonal_(0)
    # 1/60 by luck, with a standard deviation of 1/60
    assert same.max() < 0.2
    assert torch.equal(orders(seed=0), by_seed[0])


# ---------------------------------------------------------------- another run is not
# gone on with

def test_a_stream_of_other_data_is_another_run(tmp_path):
    from torch.utils.data import TensorDataset
    settings = dict(stream=True, epochs=2, batch_size=8, checkpoint=tmp_path / "run",
                    device="cpu", progress=False)
    sets = [TensorDataset(torch.full((20, 1, 8, 8), v, dtype=torch.uint8))
            for v in (250, 10)]
    fit(small(), sets[0], **settings)
    with pytest.raises(RuntimeError, match="train.content was"):
        fit(small(), sets[1], **settings)
    assert len(fit(small(), sets[0], **settings)) == 2


def test_other_settings_of_an_own_optimizer_are_another_run(tmp_path):
    def model(weight_decay):
        made = small()
        made.optimizers = lambda: torch.optim.AdamW(
            made.parameters(), lr=1e-3, weight_decay=weight_decay)
        return made
    briefly(model(0.0), checkpoint=tmp_path / "run")
    with pytest.raises(RuntimeError, match="optimizer_settings was"):
        briefly(model(50.0), checkpoint=tmp_path / "run")
    assert len(briefly(model(0.0), checkpoint=tmp_path / "run")) == 2


@pytest.mark.parametrize("given", [[], None, "adam"])
def test_optimizers_that_are_none_are_refused(given):
    model = small()
    model.optimizers = lambda: given
    with pytest.raises(ValueError, match="it must give a torch optimizer"):
        briefly(model)


def test_schedules_must_be_named():
    with pytest.raises(ValueError, match="give a dict of buffers and schedules"):
        briefly(small(), schedules=linear(0, 1))


def test_what_an_optimizer_carries_and_no_file_can_hold_is_said_before_the_first_step(
        tmp_path):
    model, steps = small(), []
    model.optimizers = lambda: torch.optim.SGD(
        [dict(params=list(model.parameters()), note=lambda: 0)], lr=0.1)
    model.after_step = lambda: steps.append(1)
    with pytest.raises(TypeError, match="cannot store"):
        briefly(model, checkpoint=tmp_path / "run")
    assert not steps


def test_a_key_that_a_file_would_not_give_back_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"got the key \(1, 2\)"):
        save_checkpoint(tmp_path / "file", {(1, 2): 3})


def test_numpy_truth_values_and_0_d_arrays_are_settings():
    rows = briefly(small(), compile=np.False_, graphs=np.False_, lr=np.array(0.01),
                   clip=np.array(5.0)).rows
    assert len(rows) == 2


def test_a_stream_for_several_processes_follows_the_seed(monkeypatch):
    from torch.utils.data import TensorDataset
    several_processes(monkeypatch, 0, 2)
    orders = []
    for seed in (0, 1):
        config = RunConfig(1, 8, constant(1e-3), seed=seed, stream=True)
        run = Run(small(), TensorDataset(torch.rand(40, 1, 8, 8)), None, History(),
                  config, torch.device("cpu"))
        orders.append(list(run.batches.sampler))
    assert orders[0] != orders[1] and sorted(orders[0]) != list(range(20))


def test_a_model_that_is_not_trainable_is_refused_in_one_sentence():
    class Net(nn.Module):
        def losses(self, batch): return dict(loss=batch[0].mean())
    words = r"got a model of type Net: .*write class Net\(Trainable\)"
    with pytest.raises(TypeError, match=words): briefly(Net())


def test_the_help_of_fit_says_what_each_parameter_is():
    names = inspect.signature(fit).parameters
    assert [name for name in names if f"`{name}`" not in fit.__doc__] == []
