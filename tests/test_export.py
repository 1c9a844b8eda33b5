"""Encoder and decoder as programs of their own: what `torch.export` and ONNX Runtime
make of them is what torch gives, for every registered model, every likelihood, every
kind of condition and any number of images."""
import copy, json, re, subprocess, sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx, onnxruntime
import pytest
import torch
import torch.distributions as D
from torch import nn

from test_models import SMALL
from vae_course import elbo, export
from vae_course.elbo import VAE, DiagonalGaussian, mlp_vae
from vae_course.export import (
    MissingExtra, distribution_parameters, export_onnx, export_programs, model_parts)
from vae_course.latent import StandardNormal
from vae_course.model import LatentVariableModel, Unsupported
from vae_course.step import Trainable
from vae_course.training import build, registry

ODD = [1, 30, 31]       # height and width are multiples of nothing
CONDITIONS = dict(label={"labels": 10}, number={"number": [-30, 30]},
                  two=[{"labels": 3}, {"number": [0, 20]}],
                  part={"quadrants": ["upper left"]})
CLOSE = dict(rtol=1e-4, atol=1e-5)


def small(name, **more):
    torch.manual_seed(0)
    how = SMALL.get(name, {}) | dict(data_shape=ODD) | more
    if "classifier" in how:                              # one of the same images
        how["classifier"] = how["classifier"] | dict(data_shape=how["data_shape"])
    return build(name, **how).eval()


# x of the one are codes, of the other lines
# a program has one tensor as z
NO_PROGRAM = "code_prior", "text_vae", "two_layer_vae"
IMAGES = [name for name in registry if name not in NO_PROGRAM]
MODELS = {name: lambda name=name: small(name) for name in IMAGES}
MODELS |= {f"cvae on {kind}": lambda spec=spec: small(
    "cvae", condition=spec, sees=["encoder", "decoder", "prior"])
    for kind, spec in CONDITIONS.items()}
MODELS |= {"cvae at 7": lambda: small("cvae").at(7),
           "in colour": lambda: small("conv_vae", data_shape=[3, 9, 7]),
           "with dropout": lambda: small("vae", dropout=0.5)}


def rows(inputs, n, seed=0):
    "`n` rows of what goes into a part: values as its example has them, but random."
    g = torch.Generator().manual_seed(seed)
    def draw(name, t):
        shape = (n, *t.shape[1:])
        if t.dtype == torch.int64: return torch.randint(0, 3, shape, generator=g)
        if name == "z": return torch.randn(shape, generator=g)
        return torch.rand(shape, generator=g)
    return {name: draw(name, t) for name, t in inputs.items()}


def by_torch(model, part, given):
    "What the model itself says: the distribution, and its point."
    with torch.no_grad():
        if part == "classifier": return (
            model.classify(given["x"]).logits if hasattr(model, "classify")
            else model(given["x"]))
        first, c = next(iter(given.values())), given.get("c")
        return (model.encode if part == "encoder" else model.decode)(first, c)


def agree(found, q):
    """Whether the named arrays are the parameters of `q`. Of them the distribution can
    be made again, so nothing is missing."""
    found = {k: torch.as_tensor(v) for k, v in found.items()}
    if isinstance(q, torch.Tensor): return torch.allclose(found["logits"], q, **CLOSE)
    if not isinstance(q, D.Distribution): return torch.equal(found["codes"], q.mode)
    base = q.base_dist
    if isinstance(base, D.Normal):
        want = dict(mean=base.loc, sigma=base.scale)
    elif isinstance(base, D.Bernoulli):
        want = dict(mean=base.probs, logits=base.logits)
    else: want = distribution_parameters(q)
    return found.keys() == want.keys() and all(
        found[k].shape == v.shape and torch.allclose(found[k], v, **CLOSE)
        for k, v in want.items())


# ---------------------------------------------------------------- torch.export

@cache
def programs_of(name): return export_programs(MODELS[name]())


def test_every_registered_model_of_images_is_here():
    assert set(IMAGES) | {*NO_PROGRAM} == registry.keys()


@pytest.mark.parametrize("name", MODELS)
def test_a_program_gives_what_the_model_gives_for_any_number_of_images(name, tmp_path):
    model = MODELS[name]()
    programs, parts = programs_of(name), model_parts(model)
    assert programs.keys() == parts.keys()
    for part, program in programs.items():
        torch.export.save(program, tmp_path / "part.pt2")
        run = torch.export.load(tmp_path / "part.pt2").module()
        for n in (1, 2, 5):
            given = rows(parts[part].inputs, n)
            assert agree(run(*given.values()), by_torch(model, part, given)), part


@pytest.mark.parametrize("name", MODELS)
def test_a_program_holds_the_weights_that_it_uses_and_the_two_hold_all(name):
    model = MODELS[name]()
    held = {part: {k.removeprefix("model.") for k in program.state_dict}
            for part, program in programs_of(name).items()}
    if len(held) == 2:
        shared = held["encoder"] & held["decoder"]
        assert {k for k in shared if "coder." in k} == set()
    trained = {k for k, _ in model.named_parameters()}
    # what only a loss needs is in neither
    left = {k for k in trained - set().union(*held.values())
            if "prior" not in k and not k.startswith(("discriminator.", "classifier."))}
    assert left == set()


def test_exporting_leaves_the_model_as_it_was():
    model = small("vae", dropout=0.5).train()
    before = copy.deepcopy(model.state_dict())
    export_programs(model)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# ---------------------------------------------------------------- ONNX

def session(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def run(made, given):
    "What ONNX Runtime gives, by name."
    names = [o.name for o in made.get_outputs()]
    return dict(zip(names, made.run(names, {k: v.numpy() for k, v in given.items()})))


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_gives_what_torch_gives_for_any_number_of_images(name, tmp_path):
    model = MODELS[name]()
    parts, paths = model_parts(model), export_onnx(model, tmp_path / "my")
    assert sorted(tmp_path.iterdir()) == sorted(paths)      # weights are inside
    assert [p.name for p in paths] == [f"my-{part}.onnx" for part in parts]
    for (part, made), path in zip(parts.items(), paths):
        onnx.checker.check_model(path, full_check=True)
        program = session(path)
        assert [i.name for i in program.get_inputs()] == list(made.inputs)
        for n in (1, 2, 7):
            given = rows(made.inputs, n, seed=n)
            assert agree(run(program, given), by_torch(model, part, given)), (part, n)


COLUMNS = [dict(name="a", kind="number", mean=0.0, std=1.0),
           dict(name="b", kind="category", values=["x", "y", "z"]),
           dict(name="c", kind="boolean"),
           dict(name="d", kind="number", mean=0.0, std=1.0)]


@pytest.mark.parametrize("likelihood", elbo.likelihoods)
def test_every_likelihood_is_exported_by_the_names_of_its_parameters(
        likelihood, tmp_path):
    more = dict(categorical=dict(classes=3), table=dict(columns=COLUMNS))
    shape = [4] if likelihood == "table" else ODD
    model = small("vae", data_shape=shape, likelihood=dict(
        name=likelihood, **more.get(likelihood, {})))
    parts, paths = model_parts(model), export_onnx(model, tmp_path / "my")
    program, given = session(paths[1]), rows(parts["decoder"].inputs, 3)
    found, q = run(program, given), by_torch(model, "decoder", given)
    assert agree(found, q)
    first = next(iter(found))
    if likelihood == "table":
        assert list(found) == ["mode", "loc_0_3", "sigma_0_3", "logits_2", "logits_1"]
    point = q.base_dist.mode if first == "mode" else q.mean
    assert first in ("mean", "mode")
    assert torch.allclose(torch.as_tensor(found[first]), point, **CLOSE)
    x = rows(parts["encoder"].inputs, 3)
    assert agree(run(session(paths[0]), x), by_torch(model, "encoder", x))


def test_codes_are_equal_off_ties_on_many_images(tmp_path):
    model = small("vq_vae", n_codes=64, widths=[8, 8])
    with torch.no_grad():       # entries as near to each other as after training
        v = model.vectors(torch.rand(64, *ODD))
        entries = v.movedim(1, -1).flatten(0, 2)[:64]
        model.quantizer.codebook.copy_(entries + 1e-3 * torch.randn_like(entries))
    path, _ = export_onnx(model, tmp_path / "my")
    x = torch.rand(200, *ODD)
    found = torch.from_numpy(session(path).run(["codes"], dict(x=x.numpy()))[0])
    with torch.no_grad(): v, codes = model.vectors(x), model.codes(x)
    d = torch.cdist(v.movedim(1, -1).flatten(0, 2), model.quantizer.codebook)
    two = d.square().topk(2, largest=False).values
    clear = (two[:, 1] - two[:, 0] > 1e-5).view(codes.shape)
    assert found.dtype == torch.int64 and codes.unique().numel() > 16
    assert clear.float().mean() > 0.95 and torch.equal(found[clear], codes[clear])


@pytest.mark.parametrize("name", ["vae", "cvae on two", "vq_vae", "classifier"])
def test_a_file_says_what_goes_in_what_comes_out_and_how_it_was_built(name, tmp_path):
    model = MODELS[name]()
    for path in export_onnx(model, tmp_path / "my"):
        program = session(path)
        about = program.get_modelmeta().custom_metadata_map
        assert json.loads(about["config"]) == model.config
        assert about["part"] in path.name and about["gives"][1] == "("
        kinds = {"float32": "tensor(float)", "int64": "tensor(int64)"}
        for key, ports in dict(inputs=program.get_inputs(),
                               outputs=program.get_outputs()).items():
            said = json.loads(about[key])
            assert {p.name: [p.shape, p.type] for p in ports} == {
                k: [v["shape"], kinds[v["dtype"]]] for k, v in said.items()}
            assert all(v["shape"][0] == "batch" for v in said.values())
        for key, port in json.loads(about["inputs"]).items():
            gaussian = name == "vq_vae"                 # which takes any number
            words = dict(x="finite numbers" if gaussian else "numbers from 0 to 1",
                         z="finite numbers",
                         codes="whole numbers from 0",
                         c="column 0: whole numbers from 0 to 2; column 1: numbers "
                           "from 0 to 20")
            assert words[key] in port["values"]


def test_a_file_says_nothing_of_the_disk_where_it_was_made(tmp_path):
    path, _ = export_onnx(small("conv_vae"), tmp_path / "my")
    said = path.read_bytes()
    for word in (tmp_path, Path(export.__file__).parent, Path(torch.__file__).parent):
        assert str(word).encode() not in said
    assert b"stack_trace" not in said


def test_fifteen_lines_of_a_user_write_and_run_an_onnx_file(tmp_path):
    "The notebook shows this code; it stands in one cell there."
    cells = json.loads((Path(__file__).parent.parent / "nbs" / "89_export.ipynb")
                       .read_text(encoding="utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells]
    example, = (s for s in sources if "onnxruntime.InferenceSession(" in s)
    lines = example.splitlines()
    assert len(lines) <= 13             # beside two imports
    space = dict(model=small("cvae"), tmp=tmp_path, np=np, onnxruntime=onnxruntime,
                 export_onnx=export_onnx)
    exec(example, space)
    assert space["mean"].shape == (2, 1, 30, 31)


# ---------------------------------------------------------------- other models

class Toy(LatentVariableModel):
    "A model that does not say what it takes."
    conditional = True
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)
    def inputs(self, batch): return batch
    def encode(self, x, c=None):
        assert len(c) == len(x)
        return D.Independent(D.Normal(self.net(x) + c, 1.0), 1)
    def decode(self, z, c=None):
        return D.Independent(D.Laplace(z @ self.net.weight + len(z), 0.5), 1)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_a_batch_tells_what_a_model_of_ones_own_takes(n, tmp_path):
    model, batch = Toy().eval(), (torch.randn(n, 3), torch.randn(n, 1))
    with pytest.raises(Unsupported, match="give example="): model_parts(model)
    for part, path in zip(("encoder", "decoder"),
                          export_onnx(model, tmp_path / "my", batch)):
        given = rows(model_parts(model, batch)[part].inputs, 4)
        assert len(given) == 2 or part == "decoder"
        program = session(path)
        given = {i.name: given[i.name] for i in program.get_inputs()}
        assert agree(run(program, given), by_torch(model, part, given))


class Flow(nn.Module):
    "q(z|x) of a VAE: a Gaussian, bent."
    def __init__(self):
        super().__init__()
        self.base = DiagonalGaussian()
    def forward(self, out):
        return D.TransformedDistribution(self.base(out), [D.TanhTransform()])


def test_an_encoder_that_ends_in_a_flow_gives_its_center(tmp_path):
    vae = mlp_vae((1, 5, 5), 2, (8,))
    model = VAE(vae.encoder, vae.decoder, StandardNormal(2), vae.likelihood, (1, 5, 5),
                2, Flow()).eval()
    path, _ = export_onnx(model, tmp_path / "my")
    x = torch.rand(3, 1, 5, 5)
    center, = session(path).run(["center"], dict(x=x.numpy()))
    with torch.no_grad(): q = model.encode(x)
    assert torch.allclose(torch.from_numpy(center), q.base_dist.mean.tanh(), **CLOSE)


class Layers(Toy):
    "Two layers of latents."
    conditional, data_shape = False, (3,)
    def inputs(self, batch): return batch, None
    def encode(self, x, c=None):
        q = D.Normal(self.net(x), 1.0)
        class Joint: mean = (q.mean, q.mean)
        return Joint()


@pytest.mark.parametrize("model, words", [
    (Trainable(), "a Trainable has neither encoder and decoder nor classes"),
    (nn.Linear(1, 1), "a Linear has neither"),
    (build("code_prior"), "a CodePrior has neither"),
    (build("two_layer_vae", **SMALL["two_layer_vae"]), "a TwoLayerVAE has a tuple"),
    (Layers(), "one tensor as x, as z and as c, but a Layers has a tuple there")],
    ids=lambda v: type(v).__name__)
def test_a_model_that_cannot_be_exported_is_refused_in_a_sentence(
        model, words, tmp_path):
    for make in (export_programs, lambda m: export_onnx(m, tmp_path / "my")):
        with pytest.raises(Unsupported, match=words): make(model)
    assert not list(tmp_path.iterdir())


def test_when_torch_cannot_trace_a_part_nothing_is_written(tmp_path):
    model = small("vae")
    class Broken(type(model)):
        def decode(self, z, c=None):
            if torch.compiler.is_compiling(): raise RuntimeError("no way")
            return super().decode(z, c)
    model.__class__ = Broken
    with pytest.raises(Unsupported, match="torch cannot export the decoder"):
        export_onnx(model, tmp_path / "my")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the extra

def test_without_the_extra_one_sentence_says_how_to_get_it(monkeypatch, tmp_path):
    for package in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(MissingExtra, match=rf"here {package} is missing: pip "
                                                   r'install "vae_course\[onnx\]"'):
                export_onnx(small("vae"), tmp_path / "my")
    assert not list(tmp_path.iterdir())


@pytest.mark.processes
def test_nothing_imports_onnx_before_it_is_asked_for():
    code = ("import sys, vae_course.export, vae_course.cli\n"
            "print([m for m in sys.modules if m.startswith('onnx')])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_extra_is_declared_and_part_of_what_tests_need():
    root = Path(__file__).parent.parent
    settings = (root / "settings.ini").read_text(encoding="utf-8")
    line, = (s for s in settings.splitlines() if s.startswith("onnx_requirements"))
    assert all(f" {p}" in line for p in ("onnx>", "onnxscript=", "onnxruntime>"))
    setup = (root / "setup.py").read_text(encoding="utf-8")
    assert '"onnx": onnx' in setup and re.search(r'"dev": [^,]*\bonnx\b', setup)


def test_a_model_of_lines_is_refused():
    model = build("text_vae", **SMALL["text_vae"]).eval()
    with pytest.raises(Unsupported, match="has one tensor as x|shape of an example"):
        model_parts(model)
