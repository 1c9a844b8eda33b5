"""A model with a training step of its own: two optimizers that take turns, in every way
to run a step, in two processes, killed and resumed.

Run as a script it is a process of those tests: `pair OUT RANK PROCESSES`, or `killed
FILE`."""
import copy, inspect, json, os, signal, subprocess, sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vae_course.acceleration import AcceleratedStep
from vae_course.callbacks import Callback
from vae_course.checkpoint import CheckpointError, load_checkpoint
from vae_course.data import Batches, Examples
from vae_course.devices import seeded
from vae_course.distributed import leave_processes, rank_and_world_size
from vae_course.elbo import mlp_vae
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.own_steps import OwnStep, parts_to_compile
from vae_course.step import (AccumulatedStep, NonFiniteLoss, StepConfig, Trainable,
                             make_optimizers, train_epoch)
from vae_course.training import constant, fit, linear, load_model, registry, save_model

torch.set_num_threads(1)


# --- what a user writes: fifteen lines

class Pair(Trainable):
    def __init__(self):
        super().__init__()
        self.maker, self.judge = (nn.Sequential(nn.Linear(2, 16), nn.SiLU(),
                                                nn.Linear(16, out)) for out in (2, 1))
    def optimizers(self):
        return [torch.optim.Adam(self.maker.parameters(), 2e-3),
                torch.optim.SGD(self.judge.parameters(), .1, momentum=.5)]
    def training_step(self, batch, optimizers):
        x, made = batch[0], self.maker(torch.randn_like(batch[0]))
        d = (F.softplus(-self.judge(x)) + F.softplus(self.judge(made.detach()))).mean()
        optimizers[1].zero_grad(), d.backward(), optimizers[1].step()
        g = F.softplus(-self.judge(made)).mean()
        optimizers[0].zero_grad(), g.backward(), optimizers[0].step()
        return dict(loss=g, judge=d)


class Fuller(Pair):
    "With a buffer of its own in each step, a schedule, and something to watch."
    def __init__(self):
        super().__init__()
        self.norm, self.steps = nn.BatchNorm1d(2), 0
        self.register_buffer("weight", torch.tensor(1.0))

    def training_step(self, batch, optimizers):
        x = self.norm(batch[0])
        return super().training_step((self.weight * x, None), optimizers)

    def losses(self, batch): return dict(loss=F.softplus(-self.judge(batch[0])).mean())

    def after_step(self): self.steps += 1


def points(n=71, seed=0):
    x = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed))
    return Examples(x, torch.zeros(n).long())


def new(kind=Pair, seed=0):
    torch.manual_seed(seed)
    return kind()


def trained(model=None, n=71, **settings):
    model = model or new()
    common = dict(epochs=3, batch_size=16, device="cpu", progress=False)
    return model, fit(model, points(n), **common | settings)


def weights(model): return copy.deepcopy(model.state_dict())


def near(a, b, tolerance):
    return all(torch.allclose(x, y, atol=tolerance) for x, y in zip(a.values(),
                                                                    b.values()))


def same(a, b): return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


# --- by itself

def by_hand(model, batches, rates):
    "The same order of things, written as a loop."
    optimizers, rows = model.optimizers(), []
    for i, batch in enumerate(batches):
        for optimizer, rate in zip(optimizers, rates):
            optimizer.param_groups[0]["lr"] = rate(i)
        rows.append({k: v.item() for k, v in model.training_step(
            batch, optimizers).items()})
    return rows


def test_a_pair_takes_fifteen_lines():
    assert len(inspect.getsource(Pair).splitlines()) <= 15


def test_fit_does_what_the_loop_by_hand_does_with_a_rate_for_each_optimizer():
    schedules = [linear(0, 1e-2), constant(.05)]
    model = new()
    with seeded(0):
        seen = []
        class Seen(Callback):
            def on_step(self, run):
                seen.append({k: v.item() for k, v in run.terms.items()})
        fit(model, points(64), epochs=2, batch_size=16, lr=schedules, device="cpu",
            progress=False, callbacks=[Seen()])
    again = new()
    with seeded(0):
        batches = Batches(points(64), 16, shuffle=True)
        two_epochs = (batch for _ in range(2) for batch in batches)
        rates = [lambda i: schedules[0]((i + .5) / 8), lambda i: .05]
        rows = by_hand(again, two_epochs, rates)
    assert len(rows) == len(seen) == 8
    for a, b in zip(seen, rows):
        assert a == pytest.approx(b, rel=1e-5)
    assert near(weights(model), weights(again), 1e-5)


def test_without_lr_the_rates_are_the_model_s_own_also_one_of_two():
    def rates(lr):
        found = []
        class Rates(Callback):
            def on_step(self, run):
                found.append([g["lr"].item() for g in run.groups()])
        trained(lr=lr, epochs=1, callbacks=[Rates()])
        return torch.tensor(found).T
    assert torch.allclose(rates(None), torch.tensor([[2e-3], [.1]]))
    mixed = rates([None, linear(1, 0)])
    assert torch.allclose(mixed[0], torch.tensor(2e-3))
    assert torch.allclose(mixed[1], 1 - (torch.arange(5) + .5) / 5)
    both = rates(constant(.3))
    assert torch.allclose(both, torch.tensor(.3))


@pytest.mark.parametrize("lr", [[1e-3], [1e-3] * 3])
def test_a_list_of_rates_of_another_length_is_refused(lr):
    words = f"lr has {len(lr)} entries, and this model has 2 optimizers"
    with pytest.raises(ValueError, match=words):
        trained(lr=lr)


def test_the_last_smaller_batch_counts_by_its_examples():
    class Mean(Pair):
        def training_step(self, batch, optimizers): return batch[0].mean()
    _, history = trained(Mean(), epochs=1)
    assert history["loss"][0] == pytest.approx(points().x.mean().item(), rel=1e-5)


def test_an_optimizer_that_is_never_stepped_is_no_error():
    class Lazy(Pair):
        def training_step(self, batch, optimizers):
            loss = self.judge(batch[0]).square().mean()
            optimizers[1].zero_grad(), loss.backward(), optimizers[1].step()
            return dict(loss=loss.item(), nats=1)
    model = new(Lazy)
    before = weights(model.maker)
    _, history = trained(model, clip=1.0)
    assert same(before, weights(model.maker)) and history["nats"] == [1, 1, 1]


def test_clip_bounds_the_gradient_of_each_optimizer_by_itself():
    norms = []
    class Noted(Pair):
        def optimizers(self):
            def note(optimizer, args, kwargs):
                gradients = [p.grad for p in optimizer.param_groups[0]["params"]]
                norms.append(torch.cat([g.flatten() for g in gradients]).norm().item())
            many = super().optimizers()
            for o in many:
                o.register_step_post_hook(note)
            return many
    trained(new(Noted), epochs=1)
    free, most = norms[:], .5 * min(norms)
    norms.clear()
    trained(new(Noted), epochs=1, clip=most)
    assert min(free) > most and len(norms) == 10
    assert norms == pytest.approx([most] * 10, rel=1e-3)


def test_after_step_schedules_validation_and_early_stopping_work_as_ever():
    model = new(Fuller)
    _, history = trained(model, valid=points(30, seed=1), epochs=50, patience=2,
                         schedules=dict(weight=linear(0, 1)), lr=[constant(.0)] * 2)
    # nothing moves, so nothing gets better
    assert len(history) == 3 and len(set(history["valid_loss"])) == 1
    assert model.steps == 3 * 5
    # as it was after the first epoch, the best
    assert model.weight == pytest.approx(4.5 / 250)


def test_after_step_is_called_once_where_the_usual_step_is_extended():
    class Extended(Trainable):
        def __init__(self):
            super().__init__()
            self.w, self.steps = nn.Parameter(torch.ones(())), 0
        def losses(self, batch): return self.w**2
        def training_step(self, batch, optimizers):
            return super().training_step(batch, optimizers) | dict(twice=2)
        def after_step(self): self.steps += 1
    model, history = trained(Extended(), epochs=2)
    assert model.steps == 10 and history["twice"] == [2, 2] and model.w < 1


@pytest.mark.parametrize("given, words", [
    (None, "training_step\\(\\) of this model gave None"),
    (dict(judge=torch.tensor(1.)), "gave judge: it must give a dict .* `loss`"),
    (dict(loss=torch.ones(2)), "a tensor of shape \\(2,\\) as `loss`"),
    ("loss", "gave 'loss'")])
def test_a_step_that_returns_no_loss_is_refused_in_one_sentence(given, words):
    class Wrong(Pair):
        def training_step(self, batch, optimizers): return given
    with pytest.raises(ValueError, match=words): trained(Wrong())


def test_a_step_that_returns_other_terms_than_before_is_refused():
    class Changing(Pair):
        def training_step(self, batch, optimizers):
            terms = super().training_step(batch, optimizers)
            self.i = getattr(self, "i", 0) + 1
            return terms if self.i == 1 else dict(loss=terms["loss"])
    with pytest.raises(ValueError, match="the same terms in every step"):
        trained(Changing())


@pytest.mark.parametrize("settings, words", [
    (dict(accumulate=2), "accumulate=2 .* a training_step of its own"),
    (dict(graphs=True), "graphs=True .* a training_step of its own"),
    (dict(weight_decay=.1), "weight_decay=0.1 .* brings its own"),
    (dict(valid=points(9)), "`valid` is watched by a method `losses`")])
def test_what_a_step_of_its_own_does_not_do_is_refused_before_the_first_step(
        settings, words):
    model = new()
    before = weights(model)
    with pytest.raises(ValueError, match=words): trained(model, **settings)
    assert same(before, weights(model))


def test_a_closure_is_refused_where_its_gradient_would_be_clipped():
    class Closed(Pair):
        def optimizers(self): return torch.optim.LBFGS(self.judge.parameters())
        def training_step(self, batch, optimizers):
            def closure():
                optimizers[0].zero_grad()
                loss = self.judge(batch[0]).square().mean()
                loss.backward()
                return loss
            return optimizers[0].step(closure).detach()
    _, history = trained(new(Closed))
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(ValueError, match="a closure"): trained(new(Closed), clip=1.0)


def test_nan_is_explained_and_the_model_is_back():
    class Bad(Fuller):
        def training_step(self, batch, optimizers):
            terms = super().training_step(batch, optimizers)
            if self.steps % 5 == 3 and self.training:
                with torch.no_grad(): self.judge[0].bias.fill_(torch.nan)
            return terms
        def after_step(self): self.steps += 1
    model = new(Bad)
    before = weights(model)
    with pytest.raises(NonFiniteLoss, match="judge.0.bias` became NaN"): trained(model)
    assert same(before, weights(model))


def test_a_pair_is_saved_and_loaded_by_its_name(tmp_path, monkeypatch):
    class Named(Pair):
        def __init__(self):
            super().__init__()
            self.config = dict(name="pair")
    monkeypatch.setitem(registry, "pair", Named)
    model, _ = trained(new(Named))
    again = load_model(save_model(model, tmp_path / "pair"))
    assert same(weights(again), weights(model))


# --- in other ways

@pytest.mark.parametrize("kind", [Pair, Fuller])
@pytest.mark.parametrize("lr", [None, [constant(1e-3), constant(.05)]],
                         ids=["own", "lr"])
def test_compiled_steps_agree_with_eager_ones(kind, lr):
    eager, rows = trained(new(kind), lr=lr, clip=1.0)
    model = new(kind)
    program, history = trained(model, lr=lr, clip=1.0, compile=True)
    assert str(history.step_config) == "fp32, compiled"
    for name in ("loss", "judge"):
        assert history[name] == pytest.approx(rows[name], rel=1e-4)
    assert near(weights(eager), weights(program), 1e-4)
    assert not any("forward" in part.__dict__ for part in model.modules())


def test_the_networks_are_compiled_and_a_smaller_batch_is_not():
    import torch._dynamo
    torch._dynamo.reset()
    counts = torch._dynamo.utils.counters
    counts.clear()
    trained(epochs=1, compile=True)
    # the maker; the judge with and without a gradient to its input
    assert counts["stats"]["unique_graphs"] == 3 and not counts["graph_break"]


def test_a_model_inside_is_compiled_part_by_part():
    class Outer(Trainable):
        def __init__(self):
            super().__init__()
            self.vae, self.more = mlp_vae((1, 2, 2), 2, (4,)), nn.ModuleList(
                [nn.Linear(2, 2), nn.Sequential(nn.SiLU())])
    model = Outer()
    assert list(parts_to_compile(model)) == [model.vae.encoder, model.vae.decoder,
                                             model.more[0]]


def test_bfloat16_agrees_with_float32():
    full, rows = trained(new(Fuller))
    half, history = trained(new(Fuller), precision="bf16")
    assert rows["loss"] != history["loss"]
    for name in ("loss", "judge"):
        assert history[name] == pytest.approx(rows[name], rel=.02)
    assert all(p.dtype == torch.float32 for p in half.parameters())


def test_in_bfloat16_a_network_that_has_moved_is_seen_by_the_next_pass():
    """Autocast may keep the weights in half precision for a whole region: the second
    pass of a step would see those from before the optimizer moved them."""
    class Twice(Trainable):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 1, bias=False)
        def optimizers(self): return torch.optim.SGD(self.parameters(), 1.0)
        def training_step(self, batch, optimizers):
            before = self.net(torch.ones(1, 1)).mean()
            optimizers[0].zero_grad(), before.backward(), optimizers[0].step()
            after = self.net(torch.ones(1, 1)).mean()
            return dict(loss=after, apart=before - after)
    _, history = trained(new(Twice), epochs=1, precision="bf16")
    assert history["apart"][0] == pytest.approx(1, rel=.01)


@pytest.mark.parametrize("config", [StepConfig(), StepConfig("bf16")], ids=str)
def test_the_same_noise_gives_the_same_step(config):
    batch = points(16).x, None
    def step():
        model = new()
        optimizers = make_optimizers(model, torch.device("cpu"))
        return OwnStep(model, optimizers, config=config)
    one, two, three = (step() for _ in range(3))
    with recorded_noise() as noise: first = one(batch)
    with replayed_noise(noise): again = two(batch)
    other = three(batch)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert same(weights(one.model), weights(two.model)) and first.keys() == other.keys()
    assert not same(weights(one.model), weights(three.model))


def test_noise_that_a_program_does_not_see_is_refused():
    model = new()
    step = OwnStep(model, make_optimizers(model, torch.device("cpu")),
                   config=StepConfig(compile=True))
    with recorded_noise(), pytest.raises(RuntimeError, match="draws its own noise"):
        step((points(16).x, None))


def test_auto_tries_what_there_is_and_records_nothing(monkeypatch):
    from vae_course import acceleration
    tried = []
    def measure(self, config, limit=None):
        tried.append(str(config))
        self.steps[config] = self.run.accelerated(config)
        self.seconds[config] = .5 if config.precision == "bf16" else 1.0
    monkeypatch.setattr(acceleration.Trial, "measure", measure)
    _, history = trained(epochs=1, n=320, batch_size=1, precision="auto",
                         compile="auto", graphs="auto")
    assert tried[:2] == ["fp32, eager", "bf16, eager"]
    assert history.step_config == StepConfig("bf16")


# --- killed and resumed

RESUMED = dict(lr=[linear(1e-2, 0), None], schedules=dict(weight=linear(1, 2)),
               valid=points(20, seed=1), epochs=4, clip=1.0)


def be_killed(path):
    model, count = new(Fuller), []
    def after_step():
        count.append(1)
        if len(count) == 13: os.kill(os.getpid(), signal.SIGKILL)
    model.after_step = after_step
    trained(model, checkpoint=path, **RESUMED)


@pytest.mark.processes
def test_killed_and_resumed_equals_unbroken(tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS="1",
                            PYTHONPATH=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, __file__, "killed", str(tmp_path / "run")],
                          env=env, capture_output=True, encoding="utf-8", timeout=200)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = load_checkpoint(tmp_path / "run")
    assert len(kept["history"]) == 2 and len(kept["optimizers"]) == 2
    again = new(Fuller, seed=9)
    model, history = trained(again, checkpoint=tmp_path / "run", **RESUMED)
    whole, rows = trained(new(Fuller), **RESUMED)
    assert same(weights(model), weights(whole))
    assert history["loss"] == rows["loss"] and history["lr"] == rows["lr"]


def test_a_run_goes_on_with_the_same_rates_alone(tmp_path):
    lr = [constant(1e-2), None]
    trained(checkpoint=tmp_path / "run", lr=lr)
    with pytest.raises(CheckpointError, match="lr was"):
        trained(checkpoint=tmp_path / "run", lr=[constant(1e-2), constant(.1)])
    with pytest.raises(CheckpointError, match="lr was"):
        trained(checkpoint=tmp_path / "run", lr=None)
    _, again = trained(checkpoint=tmp_path / "run", lr=lr)
    assert len(again) == 3


# --- several processes

class Handed(Fuller):
    "Its noise is a function of its data, so that the parts of a batch have it, too."
    def training_step(self, batch, optimizers):
        x = self.weight * self.norm(batch[0])
        made = self.maker(torch.sin(37 * batch[0]))
        d = (F.softplus(-self.judge(x)) + F.softplus(self.judge(made.detach()))).mean()
        optimizers[1].zero_grad(), d.backward(), optimizers[1].step()
        g = F.softplus(-self.judge(made)).mean()
        optimizers[0].zero_grad(), g.backward(), optimizers[0].step()
        return dict(loss=g, judge=d)


def of_processes(config):
    number, processes = rank_and_world_size()
    # weights of its own for each process: the first one's must win; and so do buffers
    model = new(Handed, seed=number)
    model.weight.fill_(1 + number)
    # batch normalization sees its own part alone, so it only moves what is given to it
    model.norm.eval()
    model.norm.running_mean.fill_(.1 * number)
    model.train = lambda mode=True: model
    # a buffer that would drift away from that of the first process
    model.after_step = lambda: model.weight.add_(.2 * number)
    optimizers = make_optimizers(model, torch.device("cpu"))
    step = OwnStep(model, optimizers, 16, clip=.05, config=StepConfig(**config))
    # batches of 16 and a last one of 7: parts of 4 and 3
    batches = Batches(points(), 16, shuffle=True, shard=(number, processes),
                      generator=torch.Generator().manual_seed(7))
    history = [train_epoch(model, batches, optimizers, step=step) for _ in range(3)]
    return dict(processes=processes, history=history,
                weights=[p.detach().flatten().tolist() for p in model.parameters()])


class Line(Trainable):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 1)

    def losses(self, batch):
        return (self.net(batch[0]).squeeze(1) - batch[0].sum(1)).square().mean()


def accumulated(config):
    "The usual step of the usual model, three batches at a time."
    number, count = rank_and_world_size()
    model = new(Line, seed=number)
    optimizers = make_optimizers(model, torch.device("cpu"))
    optimizers[0].param_groups[0]["lr"].fill_(1e-2)
    batches = Batches(points(), 16, shuffle=True, shard=(number, count),
                      generator=torch.Generator().manual_seed(7))
    step = AccumulatedStep(lambda move: AcceleratedStep(
        model, optimizers, 16, .5, StepConfig(), move=move), 3, len(batches))
    history = []
    for _ in range(3):
        step.restart()
        history.append(train_epoch(model, batches, optimizers, step=step))
    return dict(processes=count, history=history,
                weights=[p.detach().flatten().tolist() for p in model.parameters()])


def processes(tmp_path, number, config):
    env = os.environ | dict(OMP_NUM_THREADS="1",
                            PYTHONPATH=str(Path(__file__).parents[1]))
    out = tmp_path / f"{number}.json"
    every = [subprocess.Popen([sys.executable, __file__, "pair", str(out),
                               json.dumps(config), str(i), str(number)],
                              env=env, encoding="utf-8", stderr=subprocess.PIPE)
             for i in range(number)]
    try: errors = [process.communicate(timeout=300)[1] for process in every]
    finally:
        for process in every: process.kill()
    assert not any(process.returncode for process in every), "\n".join(errors)[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.processes
@pytest.mark.parametrize("config", [dict(), dict(precision="bf16"), dict(compile=True),
                                    dict(accumulate=True)], ids=str)
def test_two_processes_equal_one(tmp_path, config):
    one, two = (processes(tmp_path, n, config) for n in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    tolerance = 5e-3 if config.get("precision") else 1e-4
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a == pytest.approx(b, rel=tolerance)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        assert a == pytest.approx(b, abs=10 * tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("how", [dict(), dict(precision="bf16"), dict(compile=True)],
                         ids=str)
def test_a_gpu_agrees_with_the_cpu(how):
    settings = dict(clip=1.0, lr=[linear(1e-2, 0), None])
    _, first = trained(new(Handed), **settings)
    model, history = trained(new(Handed), device="cuda", **settings | how)
    assert next(model.parameters()).device.type == "cuda"
    for name in ("loss", "judge"):
        tolerance = .02 if "precision" in how else 1e-3
        assert history[name] == pytest.approx(first[name], rel=tolerance)


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        be_killed(sys.argv[2])
        sys.exit("was not killed")
    out, config, number, count = sys.argv[2:]
    if count != "1":
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{out}.meeting", rank=int(number),
            world_size=int(count))
    config = json.loads(config)
    result = accumulated(config) if "accumulate" in config else of_processes(config)
    if number == "0":
        Path(out).write_text(json.dumps(result), encoding="utf-8")
    if count != "1":
        leave_processes()
