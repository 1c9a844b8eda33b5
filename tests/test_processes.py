"""Processes that train together leave in order, whatever is still referenced and
whatever was raised."""
import os, socket, subprocess, sys
from pathlib import Path

import pytest
import torch

from vae_course import acceleration, distributed
from vae_course.elbo import mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.distributed import join_processes, LossesModule, wrap_ddp
from vae_course.step import make_optimizers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import processes

pytestmark = pytest.mark.processes


@pytest.fixture
def as_torchrun(monkeypatch):
    """The environment of the only process that `torchrun` started; gives what is done
    on leaving, in order, and what averages gradients then."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    for name, value in dict(TORCHELASTIC_RUN_ID="test", RANK=0, WORLD_SIZE=1,
                            LOCAL_RANK=0, LOCAL_WORLD_SIZE=1, MASTER_ADDR="127.0.0.1",
                            MASTER_PORT=port).items():
        monkeypatch.setenv(name, str(value))
    done = []
    for name in ("monitored_barrier", "destroy_process_group"):
        def spy(*args, real=getattr(torch.distributed, name), name=name, **more):
            import gc
            done.append(
                (name, [type(o).__name__ for o in gc.get_objects()
                        if isinstance(o, torch.nn.parallel.DistributedDataParallel)
                           and "reducer" in o.__dict__]))
            return real(*args, **more)
        monkeypatch.setattr(torch.distributed, name, spy)
    yield done
    if torch.distributed.is_initialized(): torch.distributed.destroy_process_group()


def averaged():
    return wrap_ddp(LossesModule(mlp_vae((1, 6, 6), latent_dim=3, hidden=(8,))),
                    torch.device("cpu"))


def gradient(module):
    "Of its first weight, for one batch."
    torch.manual_seed(0)
    module.zero_grad()
    module((torch.full((4, 1, 6, 6), 0.5), torch.zeros(4).long()))["loss"].backward()
    return next(module.parameters()).grad.clone()


def test_the_group_ends_after_a_barrier_and_with_nothing_left_that_uses_it(as_torchrun):
    held = []
    with join_processes("cpu"):
        held += [averaged(), averaged()]
        before = [gradient(module) for module in held]
        # a graph that was never walked back
        held.append(held[0]((torch.zeros(2, 1, 6, 6), torch.zeros(2).long())))
    assert (as_torchrun == [("monitored_barrier", []), ("destroy_process_group", [])]
            and not torch.distributed.is_initialized())
    # it is the module alone now
    for module, old in zip(held, before):
        torch.testing.assert_close(gradient(module), old)
    assert not distributed._wrapped


def of_gloo():
    "Names of the threads of this process that serve a group."
    return [name for t in Path("/proc/self/task").iterdir()
            if "gloo" in (name := (t / "comm").read_text(encoding="utf-8").strip())]


LEAVING = """
import os, sys, torch
os.environ |= dict(TORCHELASTIC_RUN_ID="test", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0",
                   LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
from vae_course import acceleration, distributed, step
from test_processes import averaged, gradient, of_gloo
try:
    with distributed.join_processes("cpu"):
        held = averaged()
        gradient(held)
        batch = torch.zeros(2, 1, 6, 6), torch.zeros(2).long()
        terms = held(batch)
        if sys.argv[1] == "compiled":
            model = averaged().module.model
            acceleration.rank_and_world_size = lambda: (0, 2)
            optimizers = step.make_optimizers(model, torch.device("cpu"))
            config = step.StepConfig(compile=True)
            acceleration.AcceleratedStep(model, optimizers, config=config)(batch)
        inside = of_gloo()
        if sys.argv[1] == "error": raise ZeroDivisionError
except ZeroDivisionError: pass
print(len(inside), of_gloo())
"""


@pytest.mark.skipif(sys.platform != "linux",
                    reason="threads have names to look at on Linux alone")
@pytest.mark.parametrize("ending", ["well", "error", "compiled"])
def test_no_thread_of_the_group_is_left_when_python_ends(ending):
    """Such a thread is what aborted a process now and then: the group must be gone
    while the module, its terms and the model are still there."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", LEAVING, ending], encoding="utf-8", capture_output=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"})
    number, left = done.stdout.split(maxsplit=1)
    assert int(number) > 0 and left.strip() == "[]", done.stderr[-2000:]


def test_an_error_is_not_waited_with(as_torchrun):
    with pytest.raises(ZeroDivisionError), join_processes("cpu"):
        held = averaged()
        gradient(held)
        1 / 0
    assert (as_torchrun == [("destroy_process_group", [])]
            and not torch.distributed.is_initialized())


def test_a_barrier_that_fails_is_no_error_of_this_process(as_torchrun, monkeypatch):
    def gone(*args, **more): raise RuntimeError("[gloo] Connection closed by peer")
    monkeypatch.setattr(torch.distributed, "monitored_barrier", gone)
    with join_processes("cpu"): held = averaged()
    assert ([name for name, _ in as_torchrun] == ["destroy_process_group"]
            and gradient(held) is not None)


def test_a_stepper_that_outlives_its_group_trains_alone(as_torchrun, monkeypatch):
    model = mlp_vae((1, 6, 6), latent_dim=3, hidden=(8,))
    batch = torch.full((4, 1, 6, 6), 0.5), torch.zeros(4).long()
    with join_processes("cpu"):
        with monkeypatch.context() as patch:
            patch.setattr(acceleration, "rank_and_world_size", lambda: (0, 2))
            step = AcceleratedStep(model, make_optimizers(model, torch.device("cpu")))
        first = step(batch)["loss"]
    assert step(batch)["loss"].isfinite() and first.isfinite()


@pytest.mark.parametrize("ending", processes.endings)
def test_two_processes_of_torchrun_leave(ending):
    "Once here; `make processes` does it a hundred times under load."
    assert not processes.problem(ending)
