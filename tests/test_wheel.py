"""The package as a user gets it: built into a wheel, installed in an environment of its
own."""
import os, re, shutil, subprocess, sys, venv, zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

root = Path(__file__).resolve().parent.parent


def sh(*command, **options):
    done = subprocess.run([str(c) for c in command], encoding="utf-8",
                          capture_output=True, **options)
    assert done.returncode == 0, (
        f"{command} gave {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    # a copy: building in place would leave and reuse a build folder
    source = out / "source"
    shutil.copytree(root, source, ignore=shutil.ignore_patterns(
        ".venv*", ".git", "build", "_docs", "_proc", "*.egg-info", "__pycache__"))
    # no isolation: the build needs setuptools alone, which the environment has
    sh(sys.executable, "-m", "pip", "wheel", source, "--no-deps",
       "--no-build-isolation", "--wheel-dir", out, cwd=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that has the wheel and sees the torch that is already installed,
    but no checkout."""
    home = tmp_path_factory.mktemp("env")
    venv.create(home, with_pip=True)
    site = next(home.glob("lib/python*/site-packages"))
    (site / "already_installed.pth").write_text(
        next(p for p in sys.path if p.endswith("site-packages")) + "\n",
        encoding="utf-8")
    sh(home / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index",
       "--ignore-installed", wheel)
    return home


def test_the_wheel_has_every_lesson_and_module(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    lessons, modules = ([*(root / "nbs").glob("*.ipynb")],
                        [*(root / "vae_course").rglob("*.py")])
    assert len(lessons) > 10 and len(modules) > 10
    for lesson in lessons: assert f"vae_course/notebooks/{lesson.name}" in names
    for module in modules: assert module.relative_to(root).as_posix() in names
    assert "vae_course/notebooks/assets/live.js" in names   # what a live page runs
    for lesson in lessons:              # and all that a lesson names beside itself
        for name in {*re.findall(r"assets/[\w/.-]+\w", lesson.read_text("utf-8"))}:
            if (root / "nbs" / name).is_file():
                assert f"vae_course/notebooks/{name}" in names, (lesson.name, name)
    for part in (root / "nbs" / "assets" / "live").iterdir():
        assert f"vae_course/notebooks/assets/live/{part.name}" in names


def test_the_installed_package_is_the_wheel_and_trains(installed, tmp_path):
    code = """
import vae_course, torch
print(vae_course.__file__)
from vae_course.data import Batches
from vae_course.datasets import load
from vae_course.elbo import mlp_vae
from vae_course.training import fit, save_model, load_model
data = load('digits')
model = mlp_vae(hidden=(64,), latent_dim=8)
history = fit(model, data.train, epochs=2, binarize=True, device='cpu', progress=False)
assert history.rows[1]['loss'] < history.rows[0]['loss']
save_model(model, 'model.safetensors')
assert load_model('model.safetensors').sample(3).shape == (3, 1, 28, 28)
"""
    out = sh(installed / "bin" / "python", "-c", code, cwd=tmp_path,
             env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert str(installed) in out.splitlines()[0]


def test_notebooks_are_copied_and_changed_ones_are_kept(installed, tmp_path):
    command = installed / "bin" / "vae_course"
    out = sh(command, "notebooks", "mine", cwd=tmp_path)
    assert "jupyter lab" in out and (tmp_path / "mine" / "03_elbo.ipynb").is_file()
    for name in ("diagrams/03.svg", "live/plane.json", "live/plane.png", "live.js"):
        assert (tmp_path / "mine" / "assets" / name).is_file()
    (tmp_path / "mine" / "01_latent.ipynb").write_text("my notes", encoding="utf-8")
    out = sh(command, "notebooks", "mine", cwd=tmp_path)
    assert ("01_latent.ipynb" in out
            and (tmp_path / "mine" / "01_latent.ipynb").read_text(encoding="utf-8")
                == "my notes")


def test_core_rooms_need_neither_workshop_tools_nor_a_network(tmp_path):
    """The core imports where ipywidgets, nbdev, fastcore, mlxtend and the extras are
    absent, and opens no socket."""
    rooms = sorted(p.stem for p in (root / "vae_course").glob("[a-z]*.py")
                   if p.stem != "widgets")
    assert {"data", "elbo", "training", "cli"} <= {*rooms}
    code = f"""
import sys, socket, importlib
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('ipywidgets', 'nbdev', 'fastcore', 'execnb',
                                  'mlxtend', 'anywidget', 'pandas', 'IPython',
                                  'onnx', 'onnxscript', 'onnxruntime'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
def refuse(*a, **k): raise AssertionError('an import opened a socket')
socket.socket.connect = refuse
for room in {rooms!r}: importlib.import_module('vae_course.' + room)
"""
    sh(sys.executable, "-c", code, cwd=tmp_path,
       env=os.environ | {"PYTHONPATH": str(root)})


def test_only_the_command_line_reads_words(tmp_path):
    "The rooms beside it do not import jsonargparse."
    of_the_command_line = {"cli", "model_settings", "use", "partly_labelled",
                           "speech_files", "named_data", "samples", "diagnosis_run",
                           "live_files"}
    rooms = sorted(p.stem for p in (root / "vae_course").glob("[a-z]*.py")
                   if p.stem not in of_the_command_line)
    assert {"data", "elbo", "training", "protocol", "run_folder", "widgets"} <= {*rooms}
    code = f"""
import sys, importlib
for room in {rooms!r}: importlib.import_module('vae_course.' + room)
assert 'jsonargparse' not in sys.modules
import vae_course.cli
assert 'jsonargparse' in sys.modules
"""
    sh(sys.executable, "-c", code, cwd=tmp_path, env=os.environ | {
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])})
