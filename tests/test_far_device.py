"""On a GPU: models take inputs from any device, measures give floats and CPU tensors,
and no cell of a lesson mixes devices. Checked on a pretended one, each time in a
process of its own."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest, torch
from torch import nn

import far_checks
from vae_course import anomaly_detection, classifier, evaluation, generation
from vae_course.training import build, registry

pytestmark = pytest.mark.slow

here = Path(__file__).resolve().parent
LESSONS = ["index",
           *sorted(p.stem for p in (here.parent / "nbs").glob("[0-1][0-9]_*.ipynb"))]
# lesson → {what a statement says: why the pretended device cannot run it}
ALLOWED = {}


def run(*words, limit):
    done = subprocess.run(
        [sys.executable, here / "far_checks.py", *words], cwd=here, capture_output=True,
        text=True, encoding="utf-8", timeout=limit,
        env=os.environ | dict(OMP_NUM_THREADS="1", TQDM_DISABLE="1", MPLBACKEND="Agg",
                              PYTHONPATH=os.pathsep.join([
                                  str(here.parent), os.environ.get("PYTHONPATH", "")])))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module", params=["mps", "cuda"])
def outcomes(request):
    return run(request.param, limit=600)


@pytest.mark.parametrize("name", far_checks.NAMES)
def test_models_take_inputs_from_any_device_and_measures_give_cpu_tensors_or_floats(
        name, outcomes):
    assert outcomes[name] is None, outcomes[name]


@pytest.mark.parametrize("lesson", LESSONS)
def test_no_statement_of_a_lesson_mixes_devices_or_asks_for_float64_on_the_gpu(lesson):
    found = run("lesson", lesson, limit=600)
    refused = [words for words in found["refused"]
               if not any(known in words for known in ALLOWED.get(lesson, ()))]
    assert not refused, "\n".join(refused)
    # so that what was not run does not hide much
    assert found["ran"] >= 0.9 * found["statements"], "\n".join(found["others"])


def test_every_registered_model_and_every_public_method_of_it_is_asked():
    assert far_checks.SMALL.keys() == registry.keys()
    for name, (kind, config) in far_checks.MODELS.items():
        model = build(kind, **config)
        public = ({m for m in dir(type(model))
                   if not m.startswith("_") and m not in dir(nn.Module)}
                  | ({"forward"} if "forward" in type(model).__dict__ else set()))
        public -= {m for m in public
                   if not (callable(getattr(type(model), m))
                           or isinstance(getattr(type(model), m), property))}
        public -= far_checks.NOT_ASKED | far_checks.NOT_ASKED_OF.get(name, set())
        assert public <= far_checks.METHODS[name].keys(), name


@pytest.mark.parametrize("room", [evaluation, generation, anomaly_detection,
                                  classifier], ids=lambda room: room.__name__)
def test_every_measure_is_asked(room):
    name = room.__name__.split(".")[-1]
    assert set(room.__all__) == far_checks.MEASURES[name].keys() | set(
        far_checks.NO_MEASURE[name].split())


@pytest.mark.parametrize("name", far_checks.MODELS)
def test_moving_inputs_breaks_no_compiled_graph(name):
    kind, config = far_checks.MODELS[name]
    torch.manual_seed(0)
    model, examples = build(kind, **config).eval(), far_checks.examples_of(name, 8)
    batch = (examples.x, examples.y if name == "cvae_quadrants"
                         else far_checks.conditions(name, examples))
    torch._dynamo.reset()
    program = torch.compile(lambda x, y: model.losses((x, y))["loss"], backend="eager",
                            fullgraph=True)
    # a GRU is left out of a graph unless one asks for it
    with torch._dynamo.config.patch(allow_rnn=True):
        assert program(*batch).isfinite()


WRONG = dict(mixes="model.reconstruct(x) - x", float64="model.encode(x).mean.double()",
             numpy="model.encode(x).mean.detach().numpy()",
             index="x[model.encode(x).mean.argmax(1)]",
             generator="torch.randn_like(model.encode(x).mean, generator=None) + "
                       "torch.randn(3, device=model.device, "
                       "generator=torch.Generator())",
             stack="torch.stack([model.encode(x).mean[0], x[0, 0, 0, :4]])")
RIGHT = dict(cpu="model.reconstruct(x).cpu() - x",
             float64="model.encode(x).mean.cpu().double()",
             numpy="model.encode(x).mean.detach().cpu().numpy()",
             index="model.encode(x).mean[torch.tensor([0, 1])]",
             scalar="model.encode(x).mean * torch.tensor(2.0)",
             item="model.encode(x).mean.sum().item()",
             gradient="model.losses((x.to(model.device), None))['loss'].backward()",
             list_of_numbers="torch.tensor([v for v in model.encode(x).mean[0]])",
             back="model.decode(model.encode(x).mean.cpu()).mean")


def test_the_pretended_device_refuses_what_a_gpu_refuses_and_nothing_else():
    program = """
import json, sys, torch
import far_device
from vae_course.elbo import mlp_vae
far_device.begin('mps')
model = mlp_vae(latent_dim=4, hidden=(8,)).to(far_device.device)
x, found = torch.rand(2, 1, 28, 28), {}
for name, code in json.loads(sys.argv[1]).items():
    try: eval(code); found[name] = None
    except Exception as e: found[name] = str(e)
print(json.dumps(found))"""
    asked = {f"wrong {k}": v for k, v in WRONG.items()} | {
        f"right {k}": v for k, v in RIGHT.items()}
    done = subprocess.run([sys.executable, "-c", program, json.dumps(asked)], cwd=here,
                          capture_output=True, text=True, timeout=300,
                          env=os.environ | dict(PYTHONPATH=os.pathsep.join(
                              [str(here), str(here.parent),
                               os.environ.get("PYTHONPATH", "")])), encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    refusals = re.compile("same device|support float64|to numpy|indices should "
                          "be|device type for generator")
    for name, message in json.loads(done.stdout).items():
        assert ((message is None) == name.startswith("right")
                and (message is None or refusals.search(message))), (name, message)
