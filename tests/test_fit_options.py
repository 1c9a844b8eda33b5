"""Options of `fit`: weight decay, accumulation, a number of steps, validation now and
then, the watch for NaN switched off, losses that are tensors and terms that are
numbers."""
import copy
import gc
import math
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from vae_course import callbacks
from vae_course.acceleration import AcceleratedStep
from vae_course.callbacks import Callback
from vae_course.checkpoint import CheckpointError, load_checkpoint
from vae_course.data import Batches, Examples
from vae_course.distributed import LossesModule, leave_processes, wrap_ddp
from vae_course.elbo import mlp_vae
from vae_course.plots import plot_history
from vae_course.step import (AccumulatedStep, NonFiniteLoss, StepConfig, Trainable,
                             evaluate, make_optimizers, training_step)
from vae_course.training import History, constant, fit, linear

torch.set_num_threads(1)
files = Path(__file__).parent / "files"


def images(n=100, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(n, 1, 4, 4, generator=numbers), torch.zeros(n).long())


def new():
    torch.manual_seed(0)
    return mlp_vae((1, 4, 4), 2, (16,))


class Line(Trainable):
    "It draws nothing: its gradients are those of the rows alone."
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(),
                                 nn.Linear(8, 1))
        self.register_buffer("beta", torch.tensor(1.0))
        self.moved = 0

    def losses(self, batch):
        loss = (self.net(batch[0]).squeeze(1) - batch[0].flatten(1).sum(1)).square()
        return dict(loss=self.beta * loss.mean(), neg_elbo=loss.mean())

    def after_step(self): self.moved += 1


def trained(model=None, n=100, **settings):
    model = new() if model is None else model
    common = dict(epochs=4, batch_size=16, device="cpu", progress=False)
    return model, fit(model, images(n), **common | settings)


def weights(model): return {k: v.clone() for k, v in model.state_dict().items()}


def near(a, b, tolerance=1e-6):
    return all(torch.allclose(a[k], b[k], atol=tolerance) for k in a)


class Rates(Callback):
    "The rate, a buffer and a term of every step."
    def __init__(self): self.lr, self.beta, self.loss = [], [], []

    def on_step(self, run):
        self.lr.append(run.learning_rate)
        self.beta.append(run.model.beta.item())
        self.loss.append(run.terms["loss"].item())


# --- weight decay

def test_weight_decay_is_that_of_adamw():
    class Own(Line):
        def optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=.3)
    ours, _ = trained(Line(), lr=constant(1e-2), weight_decay=.3)
    theirs, _ = trained(Own())
    none, _ = trained(Line(), lr=constant(1e-2))
    assert near(weights(ours), weights(theirs))
    assert not near(weights(ours), weights(none), 1e-2)


def test_weight_decay_beside_own_optimizers_is_refused():
    class Own(Line):
        def optimizers(self): return torch.optim.SGD(self.parameters(), lr=.1)
    words = "weight_decay=0.1 is for the optimizer of `fit`, and this model brings its"
    with pytest.raises(ValueError, match=words):
        trained(Own(), weight_decay=.1)


# --- accumulation

@pytest.mark.parametrize("config", [StepConfig(), StepConfig("bf16"),
                                    StepConfig(compile=True)], ids=str)
@pytest.mark.parametrize("n, every", [(96, 2), (100, 3), (70, 4)])
def test_accumulated_batches_equal_one_that_is_larger(config, n, every):
    """Two epochs in one order, a last group of fewer batches and a last batch of fewer
    examples among them."""
    def steps(size, every):
        model = Line()
        optimizers = make_optimizers(model, torch.device("cpu"))
        optimizers[0].param_groups[0]["lr"].fill_(1e-2)
        batches = Batches(images(n), size)
        step = AccumulatedStep(lambda move: AcceleratedStep(
            model, optimizers, size, .5, config, move=move), every, len(batches))
        for _ in range(2):
            step.restart()
            for batch in batches: step(batch)
        return model
    many, one = steps(8, every), steps(8 * every, 1)
    assert many.moved == one.moved == 2 * math.ceil(n / 8 / every)
    tolerance = 2e-3 if config.precision == "bf16" else 1e-5
    assert near(weights(many), weights(one), tolerance)
    assert not near(weights(many), weights(Line()), 1e-2)


@pytest.mark.parametrize("clip", [None, 3.])
def test_a_group_moves_the_weights_by_its_mean_gradient_clipped_once(clip):
    """With SGD, for which the length of a gradient counts: Adam is blind to a gradient
    of the wrong length in every step."""
    class Plain(Line):
        def optimizers(self): return torch.optim.SGD(self.parameters(), lr=1e-3)
    def steps(size, every):
        model, batches = Plain(), Batches(images(), size)    # of 8: the last has 4
        optimizers = make_optimizers(model, torch.device("cpu"))
        step = AccumulatedStep(lambda move: partial(
            training_step, model, optimizers=optimizers, clip=clip, move=move),
            every, len(batches))
        for batch in batches: step(batch)
        return torch.cat([p.detach().flatten() for p in model.parameters()])
    start = torch.cat([p.detach().flatten() for p in Plain().parameters()])
    many, one = steps(8, 4) - start, steps(32, 1) - start
    assert (many - one).norm() < 1e-4 * one.norm()
    if clip: assert one.norm() <= 4 * 1e-3 * clip * 1.0001       # four steps


def test_a_run_with_accumulation_counts_steps_of_the_optimizers():
    model, seen = Line(), Rates()
    # 7 batches make 3 steps an epoch
    _, history = trained(model, lr=linear(1e-2, 0), accumulate=3, callbacks=[seen],
                         schedules=dict(beta=linear(0, 1)))
    middles = [(i + .5) / 12 for i in range(12)]
    assert model.moved == 12 and seen.beta == pytest.approx(middles)
    assert seen.lr == pytest.approx([1e-2 * (1 - t) for t in middles])
    assert len(history) == 4


def test_the_terms_of_a_step_are_means_over_its_examples():
    class Means(Line):
        def losses(self, batch): return batch[0].mean() + 0 * self.net[1].weight.sum()
    seen, x = Rates(), images(100).x
    trained(Means(), epochs=1, accumulate=7, callbacks=[seen])
    assert seen.loss == pytest.approx([x.mean().item()], rel=1e-5)


def test_a_run_with_accumulation_equals_one_with_larger_batches():
    "Of one order: a batch is a part of the larger one."
    both = [trained(Line(), n=96, lr=1e-2, **sizes)
            for sizes in (dict(batch_size=8, accumulate=4), dict(batch_size=32))]
    (a, small), (b, large) = both
    assert near(weights(a), weights(b), 1e-5)
    assert small["lr"] == large["lr"]


def test_accumulation_and_a_recorded_step_exclude_each_other():
    with pytest.raises(ValueError, match="graphs=True .* accumulate=2"):
        trained(accumulate=2, graphs=True)


def test_the_codebook_of_a_vq_vae_moves_once_a_step():
    from vae_course.vq_vae import vq_vae
    moves = []
    class Moves(Callback):
        def on_start(self, run):
            real = run.model.quantizer.after_step
            run.model.quantizer.after_step = lambda: (moves.append(1), real())
    trained(vq_vae((1, 4, 4), 4, 2, (4,)), epochs=1, accumulate=2, callbacks=[Moves()])
    assert len(moves) == 4


def test_nan_within_a_group_is_explained():
    class Bad(Line):
        def losses(self, batch):
            terms = super().losses(batch)
            return terms | dict(kl=terms["loss"] * (math.nan if self.moved == 2 else 1))
    with pytest.raises(NonFiniteLoss, match="`kl` became NaN at step 7 of 7"):
        trained(Bad(), accumulate=3)


# --- a number of steps

def test_max_steps_ends_within_an_epoch_and_the_schedule_spans_them():
    model, seen = Line(), Rates()
    _, history = trained(model, lr=linear(1, 0), max_steps=10, callbacks=[seen],
                         schedules=dict(beta=linear(0, 1)), valid=images(20))
    assert model.moved == 10 and seen.beta == pytest.approx(
        [(i + .5) / 10 for i in range(10)])
    # 7 steps, and a row for the 3 of the second epoch
    assert history["epoch"] == [1, 2] and len(history["valid_neg_elbo"]) == 2
    assert history["loss"][1] == pytest.approx(
        sum(seen.loss[7:]) / 3, rel=1e-5)


@pytest.mark.parametrize("most, epochs", [(14, 2), (15, 3), (1000, 4)])
def test_max_steps_is_the_most_that_there_are(most, epochs):
    model, history = trained(Line(), max_steps=most)
    assert model.moved == min(most, 28) and len(history) == epochs


def test_max_steps_counts_steps_of_several_batches():
    model, history = trained(Line(), max_steps=4, accumulate=3)
    assert model.moved == 4 and len(history) == 2


@pytest.mark.parametrize("settings", [
    dict(max_steps=17), dict(accumulate=3), dict(valid_every=3), dict(weight_decay=.1),
    dict(max_steps=9, accumulate=2, valid_every=2, weight_decay=.1)], ids=str)
def test_interrupted_and_resumed_it_equals_one_that_was_not(tmp_path, settings):
    class Stop(Callback):
        def on_step(self, run):
            if len(run.history) == 2: raise KeyboardInterrupt
    settings = settings | dict(valid=images(20), lr=1e-2, patience=3)
    kept = dict(checkpoint=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        trained(callbacks=[Stop()], **kept, **settings)
    model, history = trained(**kept, **settings)
    whole, rows = trained(**settings)
    assert near(weights(model), weights(whole), 0) and history["loss"] == rows["loss"]
    # at its end it is given back
    assert len(trained(**kept, **settings)[1]) == len(rows)


# --- validation now and then

def test_validation_every_few_epochs_and_in_the_last():
    _, history = trained(epochs=8, valid=images(20), valid_every=3)
    validated = [row["epoch"] for row in history.rows if "valid_neg_elbo" in row]
    assert validated == [3, 6, 8]


def test_the_last_epoch_is_validated_where_max_steps_ends_it():
    _, history = trained(valid=images(20), valid_every=5, max_steps=10)
    assert "valid_neg_elbo" not in history.rows[0]
    assert "valid_neg_elbo" in history.rows[1]


def test_patience_counts_validations_and_the_best_weights_come_back():
    model = Line()
    # the rate is 0: nothing gets better after the first look, in epoch 2
    class Spoil(Callback):
        def on_epoch(self, run):
            with torch.no_grad(): run.model.net[3].bias.sub_(len(run.history))
    _, history = trained(model, epochs=50, valid=images(20), valid_every=2, patience=2,
                         lr=constant(0.), callbacks=[Spoil()])
    assert history["epoch"][-1] == 6 and history.validations_since_best() == 2
    best = history.best()
    assert best["epoch"] == 2 and history.epochs_since_best() == 4
    now = evaluate(model, Batches(images(20), 20), seed=0)
    assert now["neg_elbo"] == pytest.approx(best["valid_neg_elbo"])


def test_a_history_copes_with_epochs_that_were_not_validated():
    history = History([dict(epoch=1, neg_elbo=3.),
                       dict(epoch=2, neg_elbo=2., valid_neg_elbo=5.),
                       dict(epoch=3, neg_elbo=1.)])
    assert history.monitor == "valid_neg_elbo" and history.best()["epoch"] == 2
    assert history.epochs_since_best() == 1 and history.validations_since_best() == 0
    assert "least valid_neg_elbo 5.00 in epoch 2" in repr(history)
    line, = [line for line in plot_history(history).axes[0].lines
             if "valid" in str(line.get_label())]
    assert list(line.get_xdata()) == [2]
    plot_history(history, ["valid_neg_elbo"])
    first = History(history.rows[:1])
    assert first.validations_since_best() == 0 and "1 epochs" in repr(first)
    with pytest.raises(ValueError, match="no epoch of this history has valid_loss"):
        first.best()


# --- the watch for NaN

class Nan(Line):
    "Its loss is NaN from some step on."
    def losses(self, batch):
        factor = math.nan if self.moved >= 3 else 1.0
        return {k: v * factor for k, v in super().losses(batch).items()}


def test_without_the_watch_no_copy_is_made(monkeypatch):
    copies = []
    class Copy:
        @staticmethod
        def deepcopy(what):
            copies.append(1)
            return copy.deepcopy(what)
    monkeypatch.setattr(callbacks, "copy", Copy)
    trained(Line(), watch_nan=False)
    assert copies == []
    trained(Line())
    assert len(copies) == 5                    # at the start, and after each epoch


def test_without_the_watch_less_memory_is_held():
    def held(watch):
        found = []
        class Weigh(Callback):
            def on_epoch(self, run):
                gc.collect()
                kinds = torch.Tensor, nn.Parameter
                held = {}
                for t in (t for t in gc.get_objects() if type(t) in kinds):
                    try: held[t.data_ptr()] = t.nbytes
                    except RuntimeError: pass       # a stand-in that has no storage
                found.append(sum(held.values()))
        model = mlp_vae((1, 4, 4), 2, (2000,))
        trained(model, epochs=1, watch_nan=watch, callbacks=[Weigh()])
        return found[0], sum(p.nbytes for p in model.parameters())
    (with_copy, size), (without, _) = held(True), held(False)
    # the weights and two moments of each
    assert with_copy - without == pytest.approx(3 * size, rel=.05)


def test_without_the_watch_nan_is_noticed_and_not_explained():
    with pytest.raises(NonFiniteLoss, match="became NaN at step 4 of 7 in epoch 1. For "
                                            "its likely cause, train with "
                                            "watch_nan=True"):
        trained(Nan(), watch_nan=False)
    with pytest.raises(NonFiniteLoss, match="Likely cause"): trained(Nan())


# --- what a loss may be

class Lone(Line):
    def losses(self, batch): return super().losses(batch)["loss"]


class Numbers(Line):
    def losses(self, batch): return super().losses(batch) | dict(rows=16, half=.5)


@pytest.mark.parametrize("how", [dict(), dict(precision="bf16"), dict(compile=True)],
                         ids=str)
def test_a_loss_may_be_a_tensor_and_a_term_a_number(how):
    plain, rows = trained(Line(), **how)
    lone, history = trained(Lone(), valid=images(20), **how)
    assert near(weights(plain), weights(lone)) and history["loss"] == rows["loss"]
    assert len(history["valid_loss"]) == 4
    counted, history = trained(Numbers(), valid=images(20), **how)
    assert near(weights(plain), weights(counted))
    assert history["rows"] == history["valid_rows"] == [16.] * 4
    assert history["half"] == [.5] * 4


@pytest.mark.processes
@pytest.mark.parametrize("kind", [Lone, Numbers])
def test_several_processes_take_them_too(tmp_path, kind):
    "Through the module that averages gradients; of one process it is the plain step."
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        device, found = torch.device("cpu"), []
        for wrapped in (False, True):
            model = kind()
            losses = wrap_ddp(LossesModule(model), device) if wrapped else None
            optimizers = make_optimizers(model, device)
            optimizers[0].param_groups[0]["lr"].fill_(1e-2)
            for batch in Batches(images(), 16):
                terms = training_step(model, batch, optimizers, losses=losses)
            found.append((weights(model), terms))
    finally:
        leave_processes()
    assert near(found[0][0], found[1][0]) and found[0][1] == found[1][1]


# --- facts and settings

@pytest.mark.parametrize("name, first, second", [
    ("weight_decay", .1, .2), ("accumulate", 2, 1), ("max_steps", 10, None),
    ("valid_every", 2, 1)])
def test_they_are_facts_of_a_run(tmp_path, name, first, second):
    kept = dict(checkpoint=tmp_path / "run", valid=images(20))
    trained(**{name: first}, **kept)
    with pytest.raises(CheckpointError, match=f"{name} was {first} and is {second}"):
        trained(**{name: second}, **kept)
    trained(**{name: first}, **kept)


def test_a_file_that_does_not_tell_them_is_of_a_run_without(tmp_path):
    path = shutil.copy(files / "run-0.1.0.safetensors", tmp_path / "run.safetensors")
    assert "accumulate" not in load_checkpoint(path)["facts"]
    examples = Examples(torch.rand(40, 1, 8, 8,
                                   generator=torch.Generator().manual_seed(0)),
                        torch.zeros(40).long())
    def go_on(**options):
        model = mlp_vae((1, 8, 8), 3, (8,))
        model.beta.fill_(4.0)
        return fit(model, examples, examples[:10], epochs=3, batch_size=20, patience=2,
                   device="cpu", progress=False, checkpoint=path, **options)
    with pytest.raises(CheckpointError, match="accumulate was 1 and is 2"):
        go_on(accumulate=2)
    with pytest.raises(CheckpointError, match="weight_decay was 0.0 and is 0.1"):
        go_on(weight_decay=.1)
    assert len(go_on()) == 3


def test_the_watch_may_be_switched_off_on_the_way(tmp_path):
    trained(checkpoint=tmp_path / "run")
    assert len(trained(checkpoint=tmp_path / "run", watch_nan=False)[1]) == 4


@pytest.mark.parametrize("wrong", [
    dict(weight_decay=-1.0), dict(weight_decay=math.inf), dict(weight_decay="a"),
    dict(accumulate=0), dict(accumulate=1.5), dict(max_steps=0), dict(max_steps=True),
    dict(valid_every=0), dict(valid_every="two")], ids=str)
def test_a_setting_that_cannot_work_is_named(wrong):
    (name, value), = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}: give"): trained(**wrong)


def test_a_callback_of_one_s_own():
    class Note(Callback):
        def __init__(self): self.told = []
        def on_start(self, run): self.told.append(("start", run.total_steps))
        def on_step(self, run): self.told.append(float(run.terms["loss"]))
        def on_epoch(self, run): self.told.append(run.history.rows[-1]["epoch"])
        def on_end(self, run): self.told.append("end")
    note = Note()
    trained(epochs=2, callbacks=[note])
    assert note.told[0] == ("start", 14) and note.told[-1] == "end"
    assert note.told[8] == 1 and note.told[16] == 2 and len(note.told) == 18
