"""The ways to run a step agree: the same batches and the same noise give the same
losses, within a stated tolerance."""
import copy, itertools, json, os, subprocess, sys
from pathlib import Path

import pytest, torch
from torch import nn

from vae_course import acceleration, optimizers, run
from vae_course.data import Batches, Examples
from vae_course.elbo import conv_vae, mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.checkpoint import CheckpointError, locked
from vae_course.devices import OutOfMemory
from vae_course.noise import recorded_noise, replayed_noise
from vae_course.step import StepConfig, Trainable, make_optimizers, train_epoch
from vae_course.training import fit
from pretended import several_processes

here = Path(__file__).parent


def images(n=100, side=8, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(n, 1, side, side, generator=numbers),
                    torch.zeros(n).long())


class Normed(Trainable):
    """A model that writes to a buffer in its forward pass, has a weight that no loss
    uses, and counts its steps."""

    def __init__(self):
        super().__init__()
        self.inner = mlp_vae((1, 8, 8), latent_dim=4, hidden=(32,))
        self.norm, self.unused = nn.BatchNorm1d(64), nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(()))

    def losses(self, batch):
        x = torch.sigmoid(self.norm(batch[0].flatten(1))).unflatten(1, (1, 8, 8))
        return self.inner.losses((x, None))

    def after_step(self):
        self.count += 1


models = dict(mlp=lambda: mlp_vae((1, 8, 8), latent_dim=4, hidden=(32,)),
              conv=lambda: conv_vae((1, 8, 8), latent_dim=4, widths=(4, 8)),
              normed=Normed)


def steps_of(config, name, device="cpu", epochs=2, clip=None, noise=None):
    """Every step's terms on 100 images in batches of 16 (the last holds 4), in one
    order for all ways; and the model. Step i draws from seed i, or what is in `noise`:
    a list of one `Noise` for each step, to be filled when it is empty."""
    torch.manual_seed(0)
    model, device = models[name]().to(device), torch.device(device)
    optimizers = make_optimizers(model, device)
    optimizers[0].param_groups[0]["lr"].fill_(3e-3)
    batches = Batches(images().to(device), 16, shuffle=True,
                      generator=torch.Generator().manual_seed(1))
    stepper, rows = AcceleratedStep(model, optimizers, 16, clip, config), []
    handed = iter(noise or [])
    def step(batch):
        if noise is None: return stepper(batch)
        if kept := next(handed, None):
            with replayed_noise(kept): return stepper(batch)
        with recorded_noise() as new: terms = stepper(batch)
        noise.append(new)
        return terms
    model.train()
    for batch in (batch for _ in range(epochs) for batch in batches):
        torch.manual_seed(len(rows))
        rows.append(torch.stack(list(step(batch).values())).cpu())
    return torch.stack(rows), model


@pytest.mark.parametrize("name", models)
def test_compiled_steps_agree_with_eager_ones(name):
    eager, plain = steps_of(StepConfig(), name, clip=1.0)
    made, program = steps_of(StepConfig(compile=True), name, clip=1.0)
    # float32 sums in another order, over 14 steps
    assert (eager - made).abs().max() < 1e-3 * eager.abs().max()
    for a, b in zip(plain.state_dict().values(), program.state_dict().values()):
        assert torch.allclose(a, b, atol=2e-3)
    if name == "normed":
        assert plain.count == program.count == 14


@pytest.mark.parametrize("name", models)
def test_noise_that_is_handed_over_gives_the_same_steps(name):
    first, _ = steps_of(StepConfig(), name, noise=(noise := []), epochs=1)
    again, _ = steps_of(StepConfig(), name, noise=noise, epochs=1)
    assert len(noise) == 7 and torch.equal(first, again)
    with pytest.raises(RuntimeError, match="draws its own noise"):
        steps_of(StepConfig(compile=True), name, noise=noise)


@pytest.mark.parametrize("name", models)
def test_bfloat16_agrees_with_float32(name):
    full, _ = steps_of(StepConfig(), name)
    half, model = steps_of(StepConfig("bf16"), name)
    # bfloat16 keeps 8 bits: 0.4 % a number
    assert 0 < (full - half).abs().max() < 0.01 * full.abs().max()
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_the_program_draws_the_random_numbers_of_the_eager_step():
    def losses(config):
        torch.manual_seed(0)
        model = models["mlp"]()
        optimizers = make_optimizers(model, torch.device("cpu"))
        step = AcceleratedStep(model, optimizers, 16, config=config)
        return [step((images(16).x, None))["loss"].item() for _ in range(3)]

    assert losses(StepConfig()) == pytest.approx(
        losses(StepConfig(compile=True)), rel=1e-4)


def test_a_run_says_what_it_chose_and_the_trial_leaves_no_trace(monkeypatch):
    clock = itertools.count()
    # a second for everything: worth a trial
    monkeypatch.setattr(acceleration.time, "perf_counter", lambda: float(next(clock)))
    def trained(**options):
        torch.manual_seed(0)
        model = models["normed"]()
        history = fit(model, images(640), epochs=31, batch_size=64, progress=False,
                      **options)
        return history, model

    tried, a = trained(precision="auto", compile=False)
    asked, b = trained(precision=str(tried.step_config).split(",")[0], compile=False)
    assert (tried.trial == {"fp32, eager": 1.0, "bf16, eager": 1.0}
            and tried.step_config == StepConfig())
    assert asked.trial == {} and str(tried.step_config) in repr(tried)
    for x, y in zip(a.state_dict().values(), b.state_dict().values()):
        assert torch.equal(x, y)
    assert len(tried) == 31 and tried["loss"] == asked["loss"]


def test_the_trial_takes_what_is_faster(monkeypatch):
    "A switch that halves the time is taken; one that does not work is left."
    seconds = {"fp32, eager": 1.0, "bf16, eager": 0.5, "bf16, compiled": None}

    def measure(self, config, limit=None):
        self.steps[config] = self.run.accelerated(config)
        self.seconds[config] = seconds[str(config)] or float("inf")

    monkeypatch.setattr(acceleration.Trial, "measure", measure)
    history = fit(models["mlp"](), images(320), epochs=1, batch_size=1, progress=False,
                  precision="auto", compile="auto", graphs="auto")
    assert (str(history.step_config) == "bf16, eager"
            and set(history.trial) == set(seconds))


def test_a_resumed_run_keeps_the_step_config_it_had(tmp_path):
    def stop(self, terms):
        end(self, terms)
        raise KeyboardInterrupt

    end = run.Run.end_epoch
    model, again = models["mlp"](), models["mlp"]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.Run, "end_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(model, images(), epochs=2, batch_size=16, checkpoint=tmp_path / "run",
                precision="bf16", progress=False)
    with pytest.raises(CheckpointError, match="precision was bf16 and is fp32. Give "
                                              "precision='bf16' to go on"):
        fit(again, images(), epochs=2, batch_size=16, checkpoint=tmp_path / "run",
            progress=False)
    history = fit(again, images(), epochs=2, batch_size=16, checkpoint=tmp_path / "run",
                  progress=False, precision="auto", compile="auto", graphs="auto")
    assert len(history) == 2 and history.step_config == StepConfig("bf16")
    # a finished one is only given back
    assert len(fit(again, images(), epochs=2, batch_size=16,
                   checkpoint=tmp_path / "run", progress=False)) == 2


def test_options_that_do_not_exist_are_named():
    for switch, words in (dict(precision="fp8"), "fp32 and bf16, and auto"), (
            dict(compile="on"), "True or False"), (dict(graphs=True), "CUDA device"):
        if words == "CUDA device" and torch.cuda.is_available():
            continue
        with pytest.raises(ValueError, match=words):
            fit(models["mlp"](), images(), epochs=1, device="cpu", batch_size=16,
                progress=False, **switch)


def test_without_a_compiler_the_error_says_so(monkeypatch):
    import torch._dynamo

    def no_compiler(*args, **kwargs):
        raise RuntimeError("no C++ compiler")

    torch._dynamo.reset()
    monkeypatch.setattr(acceleration, "compiled",
                        lambda f: torch.compile(f, backend=no_compiler))
    step = AcceleratedStep(model := models["mlp"](),
                           make_optimizers(model, torch.device("cpu")), 16,
                           config=StepConfig(compile=True))
    with pytest.raises(RuntimeError, match="train with compile=False"):
        step((images(16).x, None))


# ---------------------------------------------------------------- Adam

def adam_run(make, quick, disturb=None, steps=6):
    """Weights and optimizer state after some steps with gradients of one seed; the
    third weight has none before step 3. `disturb` gets the optimizer before step 4."""
    numbers = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(n, 3, generator=numbers)) for n in (5, 1, 2)]
    optimizer = make(weights)
    stepper = optimizers.QuickAdam(optimizer) if quick else optimizer
    for i in range(steps):
        if i == 4 and disturb:
            disturb(optimizer)
        for k, p in enumerate(weights):
            g = torch.randn(p.shape, generator=numbers)
            p.grad = None if k == 2 and i < 3 else g
        stepper.step()
    return weights, optimizer, stepper


def reloaded(optimizer):
    kept = copy.deepcopy(optimizer.state_dict())
    for moments in kept["state"].values():
        moments["exp_avg"] *= 0.5
    optimizer.load_state_dict(kept)


adams = dict(
    adam=lambda ws: torch.optim.Adam(ws, torch.tensor(0.1), fused=True),
    betas=lambda ws: torch.optim.Adam(ws, 0.1, betas=(0.5, 0.7), eps=1e-3, fused=True),
    decay=lambda ws: torch.optim.Adam(ws, 0.1, weight_decay=0.1, fused=True),
    adamw=lambda ws: torch.optim.AdamW(ws, 0.1, weight_decay=0.1, fused=True),
    groups=lambda ws: torch.optim.Adam([dict(params=ws[:1], lr=0.3), dict(
        params=ws[1:])], 0.1, fused=True),
    amsgrad=lambda ws: torch.optim.Adam(ws, 0.1, amsgrad=True, fused=True),
    foreach=lambda ws: torch.optim.Adam(ws, 0.1), sgd=lambda ws: torch.optim.SGD(
        ws, 0.1, momentum=0.9))
disturbances = dict(
    none=None, reloaded=reloaded,
    rate=lambda o: o.param_groups[0].update(lr=0.5),
    other_betas=lambda o: o.param_groups[0].update(betas=(0.1, 0.2)),
    maximize=lambda o: o.param_groups[0].update(maximize=True),
    new_group=lambda o: o.add_param_group(dict(params=[nn.Parameter(torch.ones(2))])))


# SGD has neither betas nor moments with these names
@pytest.mark.parametrize("name, disturb", [
    (name, disturb) for name in adams for disturb in disturbances
    if name != "sgd" or disturb not in ("other_betas", "reloaded")])
def test_quick_steps_are_those_of_the_optimizer(name, disturb):
    (a, one, _), (b, two, _) = (adam_run(adams[name], quick, disturbances[disturb])
                                for quick in (False, True))
    assert all(torch.allclose(p, q, rtol=1e-5, atol=1e-6) for p, q in zip(a, b))
    one, two = one.state_dict(), two.state_dict()
    assert repr(one["param_groups"]) == repr(two["param_groups"])
    assert list(one["state"]) == list(two["state"])
    for kept, new in zip(one["state"].values(), two["state"].values()):
        assert list(kept) == list(new)
        for x, y in zip(kept.values(), new.values()):
            assert torch.allclose(x, y, rtol=1e-5, atol=1e-6) if torch.is_tensor(
                x) else x == y


@pytest.mark.parametrize("name", adams)
def test_only_a_fused_adam_is_quick(name):
    _, _, stepper = adam_run(adams[name], True)
    assert bool(stepper.known) == (name not in ("amsgrad", "foreach", "sgd"))


def test_hooks_schedulers_and_own_steps_are_called_by_quick_steps():
    seen = []
    def hooked(ws):
        optimizer = adams["adam"](ws)
        optimizer.register_step_post_hook(lambda *_: seen.append("hook"))
        return optimizer

    class Mine(torch.optim.Adam):
        def step(self, closure=None):
            seen.append("mine")
            return super().step(closure)

    adam_run(hooked, True)
    adam_run(lambda ws: Mine(ws, 0.1, fused=True), True)
    adam_run(adams["adam"], True, lambda o: o.register_step_pre_hook(
        lambda *_: seen.append("late")))
    assert (seen.count("hook"), seen.count("mine"), seen.count("late")) == (6, 6, 2)
    step = lambda: seen.append("patched")
    adam_run(adams["adam"], True, lambda o: setattr(o, "step", step))
    assert seen.count("patched") == 2


# ---------------------------------------------------------------- torch's compiler

def fresh(program):
    "What `program` prints in a process of its own, which has imported nothing."
    head = """import sys, torch
from torch.optim import SGD, Adam, AdamW, Optimizer
from vae_course.data import Examples
from vae_course.elbo import VAE, mlp_vae
from vae_course.training import fit
from vae_course.optimizers import without_compiler
numbers = torch.Generator().manual_seed(0)
x = Examples(torch.rand(64, 1, 8, 8, generator=numbers), torch.zeros(64).long())
there = lambda: "torch._dynamo" in sys.modules
def train(own=None, **options):
    torch.manual_seed(0)
    model = mlp_vae((1, 8, 8), latent_dim=4, hidden=(32,))
    if own:
        model.__class__ = type("Own", (VAE,), dict(optimizers=own))
    return fit(model, x, epochs=2, batch_size=16, progress=False, device="cpu",
               **options)["loss"]
"""
    done = subprocess.run([sys.executable, "-c", head + program], cwd=here.parent,
                          env=os.environ | dict(PYTHONPATH=str(here.parent)),
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.processes
def test_an_eager_fit_does_not_import_the_compiler_and_compiling_afterwards_works():
    first, second, before, made, again, after = fresh("""
first, second, before = train(), train(), there()
made = train(compile=True)
import json; print(json.dumps([first, second, before, made, train(), there()]))""")
    assert not before and after
    assert first == second == again and made == pytest.approx(first, rel=1e-4)


@pytest.mark.processes
def test_no_option_and_no_optimizer_of_torch_imports_the_compiler(tmp_path):
    names = fresh(f"""
class Mine(Adam): pass
ways = dict(default={{}}, bf16=dict(precision="bf16"), decay=dict(weight_decay=.1),
            watched=dict(valid=x, patience=2, clip=1.0), sums=dict(accumulate=2),
            file=dict(checkpoint={str(tmp_path / "run")!r}),
            adamw=dict(own=lambda self: AdamW(self.parameters(), 1e-3)),
            sgd=dict(own=lambda self: SGD(self.parameters(), 1e-3, momentum=.9)),
            mine=dict(own=lambda self: [Mine(self.encoder.parameters(), 1e-3),
                                        Adam(self.decoder.parameters(), 1e-3)]))
guilty = [name for name, way in ways.items() if there() or train(**way) and there()]
import json; print(json.dumps(guilty))""")
    assert names == []


@pytest.mark.processes
def test_after_an_eager_fit_the_optimizers_of_torch_are_as_before():
    """Their marks, their hooks, and what the compiler makes of them; also of a class
    that was first made within `fit`."""
    assert fresh("""
class Mine(AdamW): pass
marked = [f for f in vars(Optimizer).values() if hasattr(f, "__wrapped__")]
kept = [dict(vars(f.__wrapped__)) for f in marked]
bare = Adam.step
train(own=lambda self: [Mine(self.encoder.parameters(), 1e-3),
                        Adam(self.decoder.parameters(), 1e-3)])
same = kept == [dict(vars(f.__wrapped__)) for f in marked]
same = same and Adam.step.__wrapped__ is bare and not there()
found, seen = [], []
for kind in (Adam, Mine):
    w = torch.ones(3, requires_grad=True)
    optimizer = kind([w], lr=torch.tensor(.5), weight_decay=0)
    optimizer.register_step_post_hook(lambda *_: seen.append(kind.__name__))
    w.grad = torch.ones(3)
    optimizer.step()
    torch.compile(optimizer.step)()
    found += w.tolist()
same = same and there() and all(abs(v) < 1e-5 for v in found) and len(seen) >= 2
import json; print(json.dumps([same, found, seen]))""")[0]


@pytest.mark.processes
def test_what_is_compiled_within_an_eager_fit_brings_the_compiler():
    "Marks that were left out are made up for; the losses stay."
    first, then, calls = fresh("""
from vae_course.callbacks import Callback
class Late(Callback):
    calls = 0
    def on_step(self, run):
        self.calls += 1
        if self.calls == 3: torch.compile(torch.sin, backend="eager")(torch.ones(2))
first = train()
assert not there()
then = train(callbacks=[late := Late()])
assert there() and "__dynamo_disable" in vars(Optimizer.zero_grad.__wrapped__)
assert torch._dynamo.config is sys.modules["torch._dynamo.config"]
import json; print(json.dumps([first, then, late.calls]))""")
    assert first == then and calls == 8


@pytest.mark.processes
def test_a_torch_that_marks_in_another_way_pays_as_before():
    assert fresh("""
del torch._compile
first = train()
import json; print(json.dumps([there(), first[1] < first[0]]))""") == [True, True]


# ---------------------------------------------------------------- several processes

def processes(tmp_path, number, config, kind="memory"):
    env = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(here.parent))
    out = tmp_path / f"{number}.json"
    every = [subprocess.Popen([sys.executable, str(here / "two_processes.py"), str(out),
                               json.dumps(config), str(i), str(number), kind],
                              env=env, encoding="utf-8", stderr=subprocess.PIPE)
             for i in range(number)]
    try:
        errors = [process.communicate(timeout=300)[1] for process in every]
    finally:
        for process in every:
            process.kill()
    assert not any(process.returncode for process in every), "\n".join(errors)[-3000:]
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.processes
@pytest.mark.parametrize("config, kind", [
    (dict(), "memory"), (dict(precision="bf16"), "memory"),
    (dict(compile=True), "memory"), (dict(), "loader"), (dict(), "mixed"),
    (dict(), "m2"), (dict(), "text_vae"), (dict(), "speech_vq_vae"),
    (dict(), "flexible_vae"), (dict(), "two_layer_vae")], ids=str)
def test_two_processes_give_the_losses_of_one(tmp_path, config, kind):
    """Batches of 16 and a last one of 7, parted as 4 and 3; the terms of three epochs
    and the weights after them. In memory, of a loader that deals itself, labelled
    beside unlabelled, and models of lessons 11 to 13 and 16."""
    one, two = (processes(tmp_path, n, config, kind) for n in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    tolerance = 2e-3 if config.get("precision") == "bf16" else 1e-4
    assert len(one["history"]) == 3 and one["weights"]
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a == pytest.approx(b, rel=tolerance)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        assert a == pytest.approx(b, abs=10 * tolerance)


def test_more_processes_than_examples_in_a_batch_is_refused(monkeypatch):
    several_processes(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="for 3 processes"):
        fit(models["mlp"](), images(32 + 2), epochs=1, batch_size=16, progress=False,
            device="cpu")


# ---------------------------------------------------------------- faults

@pytest.mark.processes
def test_two_runs_do_not_write_one_file(tmp_path):
    program = ("import sys, time; from vae_course.checkpoint import locked\nwith "
               "locked(sys.argv[1]): print('held', flush=True); time.sleep(60)")
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "run")],
                             stdout=subprocess.PIPE, encoding="utf-8", cwd=here.parent)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match="another run is writing"):
            fit(models["mlp"](), images(), epochs=1, batch_size=16,
                checkpoint=tmp_path / "run", progress=False)
    finally:
        other.kill()
        other.wait()
    # the lock died with its process
    fit(models["mlp"](), images(), epochs=1, batch_size=16, checkpoint=tmp_path / "run",
        progress=False)
    with locked(tmp_path / "run"):
        pass


def test_out_of_memory_names_the_batch_size():
    class Hungry(Trainable):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def losses(self, batch):
            if self.training:
                torch.empty(10**16)
            return dict(loss=self.w**2)

    with pytest.raises(OutOfMemory, match="batch_size=64: try batch_size=32"):
        fit(Hungry(), images(), epochs=1, batch_size=64, progress=False, device="cpu")


def test_a_stream_trains_as_tensors_do(tmp_path):
    from torchvision.datasets import FakeData
    from torchvision.transforms.functional import pil_to_tensor
    torch.manual_seed(0)
    data = FakeData(96, (1, 8, 8))
    model = models["mlp"]()
    history = fit(model, data, images(), epochs=2, batch_size=32, stream=True,
                  workers=1, checkpoint=tmp_path / "run", progress=False)
    x = torch.stack([pil_to_tensor(p) for p, _ in data])
    torch.manual_seed(0)
    tensors = fit(models["mlp"](), Examples(x, torch.zeros(96).long()), images(),
                  epochs=2, batch_size=32, progress=False)
    assert history["loss"][-1] == pytest.approx(tensors["loss"][-1], rel=0.05)
    again = fit(model, data, images(), epochs=2, batch_size=32, stream=True,
                checkpoint=tmp_path / "run", progress=False)
    assert again["loss"] == history["loss"]
    with pytest.raises(ValueError, match="cannot take examples|built for"):
        fit(models["mlp"](), FakeData(96, (1, 9, 9)), epochs=1, batch_size=32,
            stream=True, progress=False)


@pytest.mark.processes
def test_denormals_are_flushed_in_every_thread():
    """In threads that lived before the setting was made, too: torch's own switch
    reaches the calling thread alone."""
    program = ("import torch; x = torch.full((500_000,), 1e-20); x * x; from "
               "vae_course.acceleration import flush_denormals, threads_flush\n"
               "torch.set_flush_denormal(True); before = threads_flush(); "
               "print(before, flush_denormals(), (x * x).count_nonzero().item())")
    done = subprocess.run([sys.executable, "-c", program],
                          env=os.environ | dict(OMP_NUM_THREADS="2"),
                          capture_output=True, encoding="utf-8", cwd=here.parent)
    before, after, left = done.stdout.split()
    if after == "False":
        pytest.skip("this processor cannot flush denormal numbers, or its OpenMP "
                    "cannot end its threads")
    assert left == "0"
    if sys.platform == "linux":
        assert before == "False"        # else the function would be idle


# ---------------------------------------------------------------- on a GPU

@pytest.mark.gpu
@pytest.mark.parametrize("config",
                         [StepConfig(), StepConfig("bf16"), StepConfig(compile=True),
                          StepConfig("bf16", compile=True)], ids=str)
@pytest.mark.parametrize("name", models)
def test_a_gpu_agrees_with_the_cpu(name, config):
    """With the draws of the CPU; a program draws its own, as the eager steps of its
    device do."""
    if config.compile:
        first, _ = steps_of(StepConfig(), name, "cuda")
        gpu, _ = steps_of(config, name, "cuda")
    else:
        first, _ = steps_of(StepConfig(), name, noise=(noise := []))
        gpu, _ = steps_of(config, name, "cuda", noise=noise)
    assert ((first - gpu).abs().max()
            < (0.01 if config.precision == "bf16" else 2e-3) * first.abs().max())


@pytest.mark.gpu
@pytest.mark.parametrize("config",
                         [StepConfig(graphs=True), StepConfig("bf16", graphs=True),
                          StepConfig(compile=True, graphs=True)], ids=str)
def test_captured_steps_agree_with_launched_ones(config):
    """The recording draws its own noise, so this model has none: the same batches, the
    same losses, the last partial batch too."""
    class Plain(Trainable):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.SiLU(),
                                     nn.Linear(32, 64))

        def losses(self, batch):
            x = batch[0]
            return dict(loss=((self.net(x).float() - x.flatten(1))**2).sum(1).mean())

    def losses(config):
        torch.manual_seed(0)
        model, device = Plain().cuda(), torch.device("cuda")
        optimizers = make_optimizers(model, device)
        optimizers[0].param_groups[0]["lr"].fill_(3e-3)
        step = AcceleratedStep(model, optimizers, 16, config=config)
        batches = Batches(images().to(device), 16, shuffle=True,
                          generator=torch.Generator().manual_seed(1))
        return torch.tensor([train_epoch(model, batches, optimizers, step=step)["loss"]
                             for _ in range(4)])

    assert torch.allclose(losses(StepConfig(config.precision)), losses(config),
                          rtol=1e-2 if config.precision == "bf16" else 1e-4)


@pytest.mark.gpu
def test_captured_steps_draw_new_noise_and_follow_the_schedule():
    torch.manual_seed(0)
    model, device = models["mlp"]().cuda(), torch.device("cuda")
    optimizers = make_optimizers(model, device)
    step, batch = (
        AcceleratedStep(model, optimizers, 16, config=StepConfig(graphs=True)),
        (images(16).x.cuda(), torch.zeros(16).long().cuda()))
    model.train()
    seen = [step(batch)["loss"].item() for _ in range(8)]
    # the rate is 0: the noise alone differs
    assert len(set(seen)) == 8
    kept = [p.clone() for p in model.parameters()]
    optimizers[0].param_groups[0]["lr"].fill_(1e-2)
    model.beta.fill_(0.0)
    terms = step(batch)
    assert terms["loss"].item() == pytest.approx(terms["reconstruction"].item())
    assert any(not torch.equal(a, b) for a, b in zip(kept, model.parameters()))


@pytest.mark.gpu
def test_a_run_with_graphs_trains_and_resumes(tmp_path):
    torch.manual_seed(0)
    plain = fit(models["mlp"](), images(640), epochs=4, batch_size=16, lr=3e-3,
                graphs=False, compile=False, precision="fp32", progress=False)
    torch.manual_seed(0)
    graphs = fit(models["mlp"](), images(640), epochs=4, batch_size=16, lr=3e-3,
                 graphs=True, compile=False, precision="fp32", progress=False,
                 checkpoint=tmp_path / "run")
    assert graphs["loss"][-1] == pytest.approx(plain["loss"][-1], rel=0.02)
    again = fit(models["mlp"](), images(640), epochs=4, batch_size=16, lr=3e-3,
                graphs=True, compile=False, precision="fp32", progress=False,
                checkpoint=tmp_path / "run")
    assert again["loss"] == graphs["loss"]
