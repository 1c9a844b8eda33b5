"""`vae_course encode`, `reconstruct` and `export` as a user meets them: what the files
hold is what the model gives, and every error is one line that leaves nothing behind."""
import csv, io, json, os, subprocess, sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from test_cli import SMALL, folder_of_images, one_thread, refused, said  # noqa: F401
from vae_course import use
from vae_course.cli import main
from vae_course.datasets import load
from vae_course.images import read_image
from vae_course.training import build, load_model, save_model


def kept(name="vae", folder="run", **settings):
    "An untrained model in the folder of a run."
    small = dict(vae=dict(hidden=[16], latent_dim=3), cvae=dict(hidden=[16]),
                 vq_vae=dict(widths=[4, 4], n_codes=8),
                 classifier=dict(data_shape=[1, 28, 28], classes=10))
    torch.manual_seed(0)
    model = build(name, **small[name] | settings).eval()
    save_model(model, f"{folder}/model.safetensors")
    return model


def table(path):
    with open(path, encoding="utf-8", newline="") as f: return list(csv.DictReader(f))


def numbers(rows, name, n):
    return torch.tensor([[float(row[f"{name}_{i}"]) for i in range(n)] for row in rows])


def pixels(path):
    a = np.array(Image.open(path))
    return torch.from_numpy(a[None] if a.ndim == 2 else a.transpose(2, 0, 1))


def files_in(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*")
                  if p.is_file())


# ---------------------------------------------------------------- encode

def test_the_table_of_a_trained_run_holds_what_its_model_gives(capsys):
    said(capsys, SMALL + ["--epochs", "1", "--out", "run"])
    out = said(capsys, "encode run --data digits --device cpu")
    assert ("1,000 images of digits (test), encoded by the trained model: "
            "run/latents.csv, mean (4), sigma (4) of each") in out
    rows, test = table("run/latents.csv"), load("digits").test
    with torch.no_grad(): q = load_model("run/model.safetensors").encode(test.floats())
    assert [row["index"] for row in rows] == [str(i) for i in range(1000)]
    assert [int(row["label"]) for row in rows] == test.y.tolist()
    assert all(row["class"] == row["label"] for row in rows)
    for name, want in dict(mean=q.mean, sigma=q.stddev).items():
        assert torch.allclose(numbers(rows, name, 4), want, rtol=1e-5, atol=1e-6)
    assert len(rows[0]) == 3 + 8


def test_arrays_hold_the_same_as_the_table_and_need_no_pickle(capsys):
    kept()
    said(capsys, "encode run --data digits --part train --out deep/er/a.npz")
    said(capsys, "encode run --data digits --part train --out a.csv --device cpu")
    arrays, rows = np.load("deep/er/a.npz", allow_pickle=False), table("a.csv")
    assert sorted(arrays) == ["classes", "label", "mean", "sigma"]
    assert arrays["mean"].shape == (4000, 3) and arrays["mean"].dtype == np.float32
    assert np.array_equal(arrays["mean"], numbers(rows, "mean", 3))
    assert arrays["label"].tolist() == [int(row["label"]) for row in rows]
    assert arrays["classes"].tolist() == list("0123456789")


def test_codes_are_whole_numbers_by_row_and_column(capsys):
    model = kept("vq_vae")
    said(capsys, "encode run --data digits --device cpu")
    said(capsys, "encode run --data digits --out codes.npz --device cpu")
    want = model.codes(load("digits").test.floats())
    row = table("run/latents.csv")[7]
    assert [int(row[f"codes_{i}_{j}"]) for i in range(7) for j in range(7)] == (
        want[7].flatten().tolist())
    codes = np.load("codes.npz")["codes"]
    assert codes.dtype == np.int64 and np.array_equal(codes, want)


def test_images_of_a_folder_stand_under_their_names_in_the_size_of_the_model(capsys):
    model = kept()
    folder_of_images(Path("mine"), "RGB")
    Image.open("mine/7/0.png").resize((40, 60)).save("mine/7/wide.jpg")
    out = said(capsys, "encode run --data folder:mine --device cpu")
    rows = table("run/latents.csv")
    assert "mine: 31 images of 3 classes" in out and "31 images of folder:mine" in out
    assert [row["file"] for row in rows[:3]] == ["0/0.png", "0/1.png", "0/2.png"]
    assert {row["file"]: row["class"] for row in rows}["7/wide.jpg"] == "7"
    x = torch.stack([read_image(Path("mine", row["file"]), 1, (28, 28))
                     for row in rows])
    with torch.no_grad(): q = model.encode(x / 255)
    assert torch.allclose(numbers(rows, "mean", 3), q.mean, atol=1e-5)


@pytest.mark.parametrize("resize", ["pad", "crop", "stretch"])
def test_images_are_brought_to_the_size_as_in_the_training(capsys, resize):
    Path("mine").mkdir()
    for i in range(10):
        values = np.random.default_rng(i).integers(0, 256, (20, 30), dtype=np.uint8)
        Image.fromarray(values).save(f"mine/{i}.png")
    main("train --data folder:mine --size 8 --epochs 1 --set hidden=[4] --set "
         f"latent_dim=3 --resize {resize} --device cpu --out run".split())
    run = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert run["settings"].get("resize", "pad") == resize
    tables = {}
    for way in ("", "pad", "crop", "stretch"):
        said(capsys, f"encode run --data folder:mine --out a{way}.csv --device cpu "
                     + (f"--resize {way}" if way else ""))
        tables[way] = Path(f"a{way}.csv").read_text(encoding="utf-8")
    same = [way for way in tables if way and tables[way] == tables[""]]
    assert same == [resize]


@pytest.mark.skipif(sys.platform == "win32", reason="names there are Unicode")
def test_a_name_that_is_not_utf_8_stays_as_it_is(capsys):
    kept()
    os.mkdir("mine")
    for name in ("Übung, neu.png".encode(), b"\xff\xfe.png"):
        try: Image.new("L", (28, 28)).save(os.path.join(b"mine", name).decode(
            "utf-8", "surrogateescape"))
        except OSError: pytest.skip("this disk takes UTF-8 alone")
    said(capsys, "encode run --data folder:mine --device cpu")
    said(capsys, "encode run --data folder:mine --out a.npz --device cpu")
    said(capsys, "reconstruct run --data folder:mine --out again --device cpu")
    blob = Path("run/latents.csv").read_bytes()
    assert b"\n\xff\xfe.png,0,mine" in blob and '"Übung, neu.png"'.encode() in blob
    assert set(os.listdir(b"again")) == {b"\xff\xfe.png", "Übung, neu.png".encode()}
    assert "Übung, neu.png" in np.load("a.npz")["files"]


# ---------------------------------------------------------------- conditions

def test_a_conditional_model_takes_the_labels_or_what_it_is_told(capsys):
    model = kept("cvae")
    test = load("digits").test
    said(capsys, "encode run --data digits --device cpu")
    said(capsys, "encode run --data digits --condition 7 3 --out told.csv --device cpu")
    told = torch.tensor([7, 3] * 500)
    for path, c in {"run/latents.csv": test.y, "told.csv": told}.items():
        with torch.no_grad(): q = model.encode(test.floats(), c)
        assert torch.allclose(numbers(table(path), "mean", 20), q.mean, atol=1e-5)
    said(capsys, "reconstruct run --data digits --condition 7 --device cpu")
    want = model.reconstruct(test.floats()[:1], torch.tensor([7]))
    found = pixels("run/reconstructions/00000.png")
    assert (found - 255 * want[0]).abs().max() <= 0.51


def test_the_labels_of_a_folder_count_when_it_has_the_classes_of_the_model(capsys):
    model = kept("cvae", condition={"labels": 3})
    kept("cvae", "ten")
    folder_of_images(Path("mine"))
    said(capsys, "encode run --data folder:mine --device cpu")
    rows = table("run/latents.csv")
    x = torch.stack([read_image(Path("mine", row["file"])) for row in rows]) / 255
    with torch.no_grad(): q = model.encode(x, torch.arange(3).repeat_interleave(10))
    assert torch.allclose(numbers(rows, "mean", 20), q.mean, atol=1e-5)
    assert "folder:mine has 3 classes but this model was trained on 10" in refused(
        "encode ten --data folder:mine --device cpu")
    said(capsys, "encode ten --data folder:mine --condition 7 --device cpu")


def test_a_completed_image_keeps_the_part_that_was_given(capsys):
    kept("cvae", condition={"quadrants": ["upper left"]})
    folder_of_images(Path("mine"))
    said(capsys, "reconstruct run --data folder:mine --device cpu")
    for name in files_in("mine"):
        a, b = pixels(f"run/reconstructions/{name}"), pixels(f"mine/{name}")
        assert torch.equal(a[:, :14, :14], b[:, :14, :14]) and not torch.equal(a, b)


# ---------------------------------------------------------------- reconstruct

def test_reconstructions_are_numbered_or_named_as_the_images(capsys):
    model = kept()
    folder_of_images(Path("mine"))
    Image.open("mine/0/0.png").save("mine/0/0.bmp")
    out = said(capsys, "reconstruct run --data digits --out numbered --device cpu")
    assert "numbered, PNG files of 1 x 28 x 28 (channels x height x width)" in out
    said(capsys, "reconstruct run --data folder:mine --device cpu")
    assert files_in("numbered") == [f"{i:05d}.png" for i in range(1000)]
    names = {name.replace(".bmp", ".bmp.png") for name in files_in("mine")}
    assert set(files_in("run/reconstructions")) == names
    x = load("digits").test.floats()
    for i in (0, 999):
        found = pixels(f"numbered/{i:05d}.png")
        assert (found - 255 * model.reconstruct(x[i:i + 1])[0]).abs().max() <= 0.51
    x = read_image("mine/7/3.png")[None] / 255
    found = pixels("run/reconstructions/7/3.png")
    assert (found - 255 * model.reconstruct(x)[0]).abs().max() <= 0.51


def test_a_model_of_colours_writes_colours(capsys):
    kept(data_shape=[3, 9, 7])
    folder_of_images(Path("mine"))
    said(capsys, "reconstruct run --data folder:mine --device cpu")
    image = Image.open("run/reconstructions/0/0.png")
    assert (image.mode, image.size) == ("RGB", (7, 9))


def test_an_empty_folder_is_filled_and_of_an_interrupted_one_nothing_stays(
        capsys, monkeypatch):
    kept()
    Path("there").mkdir()
    said(capsys, "reconstruct run --data digits --out there --device cpu")
    assert len(files_in("there")) == 1000
    saved = []
    def save(self, path, **more):
        saved.append(path)
        if len(saved) == 3: raise KeyboardInterrupt
    monkeypatch.setattr(Image.Image, "save", save)
    assert refused("reconstruct run --data digits --device cpu").endswith("stopped")
    assert [p.name for p in Path("run").iterdir()] == ["model.safetensors"]


# ---------------------------------------------------------------- export

def test_an_exported_run_runs_in_onnx_runtime(capsys):
    said(capsys, SMALL + ["--epochs", "1", "--out", "run"])
    out = said(capsys, "export run --onnx deep/er/my")
    assert ("the trained model as ONNX: deep/er/my-encoder.onnx and "
            "deep/er/my-decoder.onnx") in out
    model, x = load_model("run/model.safetensors"), load("digits").test.floats()[:5]
    mean, = onnxruntime.InferenceSession("deep/er/my-encoder.onnx").run(
        ["mean"], dict(x=x.numpy()))
    image, = onnxruntime.InferenceSession("deep/er/my-decoder.onnx").run(
        ["mean"], dict(z=mean))
    assert np.allclose(image, model.reconstruct(x), rtol=1e-4, atol=1e-5)
    Path("run/model.safetensors").unlink()
    assert "an unfinished run, after epoch 1 of 1 as ONNX" in said(
        capsys, "export run --onnx other")


def test_a_classifier_is_exported_and_has_no_latents(capsys):
    kept("classifier")
    assert "my-classifier.onnx" in said(capsys, "export run --onnx my")
    assert files_in(".") == ["my-classifier.onnx", "run/model.safetensors"]
    assert "needs a distribution q(z|x), and a Classifier has no" in refused(
        "encode run --data digits --device cpu")
    assert "a Classifier has no `encode`" in refused(
        "reconstruct run --data digits --device cpu")


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("words, answer", [
    ("encode nowhere --data digits", "no model in nowhere"),
    ("reconstruct nowhere --data digits", "no model in nowhere"),
    ("export nowhere --onnx x", "no model in nowhere"),
    ("encode half --data digits", "not a whole checkpoint"),
    ("export half --onnx x", "not a whole checkpoint"),
    ("encode run --data mnits", "there are mnist"),
    ("encode run --data folder:/no/such/place", "is no folder"),
    ("encode run --data folder:empty", "holds no image"),
    ("encode run --data folder:", "folder:PATH"),
    ("encode run --data sprites", "the images of sprites are 1 x 32 x 32 (channels x "
                                  "height x width), and this model was trained on 1 x "
                                  "28 x 28"),
    ("reconstruct colour --data digits", "this model was trained on 3 x 28 x 28"),
    ("encode row --data digits", "a VAE of examples of shape (784,) has none"),
    ("encode run --data digits --part valid", "digits has no part valid"),
    ("encode run --data folder:mine --part test", "folder:mine/test"),
    ("encode run --data digits --resize crop", "--resize is for folder:PATH"),
    ("encode run --data digits --condition 7", "has no condition"),
    ("encode cvae --data digits --condition 10", "labels from 10 to 10"),
    ("encode cvae --data digits --condition seven", "give a number"),
    ("encode run --data digits --out there.csv", "there.csv is there already"),
    ("encode run --data digits --out mine", "end the name in .csv"),
    ("encode run --data digits --out folder.csv", "folder.csv is a folder"),
    ("encode run --data digits --out a.txt", "end the name in .csv"),
    ("encode run --data digits --out there.csv/a.csv", "could not write"),
    ("reconstruct run --data digits --out mine", "mine is there already"),
    ("reconstruct run --data digits --out there.csv", "there.csv is there already"),
    ("export run --onnx there", "there-decoder.onnx is there already"),
    ("export run --onnx .", "give a name"),
    ("encode run --data digits --device tpu", "it has"),
])
def test_errors_are_one_line_and_leave_nothing(words, answer):
    kept(), kept("cvae", "cvae"), kept(folder="colour", data_shape=[3, 28, 28])
    kept(folder="row", data_shape=[784])
    folder_of_images(Path("mine"))
    for folder in ("half", "empty", "folder.csv"): Path(folder).mkdir()
    Path("half/model.safetensors").write_bytes(b"half a file")
    for file in ("there.csv", "there-decoder.onnx"): Path(file).touch()
    before = files_in(".")
    assert answer in refused(words)
    assert files_in(".") == before


def test_an_error_of_the_grammar_ends_with_2(capsys):
    for words, answer in {
            "encode": "required", "encode run": "data", "export run": "onnx",
            "reconstruct --data digits": "required",
            "encode run --data digits --part half": "part",
            "encode run --data digits --resize zoom": "resize"}.items():
        with pytest.raises(SystemExit) as end: main(words.split())
        assert (end.value.code == 2
                and answer in capsys.readouterr().err.split("error:")[1]), words


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch):
    kept()
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(use, "load_trained", lambda *a: pytest.fail("too late"))
    assert 'pip install "vae_course[onnx]"' in refused("export run --onnx my")


def test_what_cannot_be_written_is_met_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(use, "load_trained", lambda *a: pytest.fail("too late"))
    Path("there.csv").touch()
    for words in ("encode run --data digits --out there.csv",
                  "encode run --data digits --out a.xls",
                  "reconstruct run --data digits --out there.csv",
                  "export run --onnx /"):
        refused(words)


def test_examples_without_a_label_have_an_empty_place_in_the_table():
    images = use.NamedImages(torch.zeros(2, 1, 1, 1), torch.tensor([-1, 1]),
                             ["a", "b"], None, "x")
    rows = list(csv.DictReader(io.StringIO(
        use.latents_as_csv(images, dict(mean=torch.zeros(2, 1))).decode())))
    assert [(row["label"], row["class"]) for row in rows] == [("", ""), ("1", "b")]


# ---------------------------------------------------------------- devices

def test_on_another_device_files_hold_the_same():
    """The pretended one of `far_device`, which refuses what a GPU refuses; the labels
    and what is read from `--condition` start on the CPU."""
    program = """
import json, sys, torch
import far_device
from test_use import kept, use
from vae_course.export import model_parts
far_device.begin('mps')
asked = dict(vae=('vae', {}, []), vq_vae=('vq_vae', {}, []), labels=('cvae', {}, []),
             told=('cvae', {}, ['7']), part=('cvae', dict(
                 condition={'quadrants': ['upper left']}), []))
found = {}
for name, (kind, settings, words) in asked.items():
    made = []
    for device in ('cpu', far_device.device):
        model = kept(kind, **settings).to(device)
        images, c = use._images_and_conditions(use.Path('run'), model, 'digits', None,
                                               None, words)
        images = images._replace(x=images.x[:50], y=images.y[:50])
        c = None if c is None else c[:50]
        parts = [*use.encode_images(model, images, c).values(),
                 use.reconstruct_images(model, images, c).float()]
        made.append(parts)
        assert all(t.device.type == 'cpu' for t in parts)
        assert str(model.device) == str(torch.device(device)), name
        for part in model_parts(model).values(): part.net(*part.inputs.values())
    found[name] = [float((a - b).abs().max()) for a, b in zip(*made)]
print(json.dumps(found))"""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8",
        env=os.environ
            | dict(PYTHONPATH=os.pathsep.join([str(here), str(here.parent)])))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"vae", "vq_vae", "labels", "told", "part"}
    assert all(difference <= 1e-5 for row in found.values() for difference in row[:-1])
    assert all(row[-1] <= 1 for row in found.values()), found   # of 255
