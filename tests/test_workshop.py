"""Files, devices, random numbers, means: what comes back is what was written, or a
`CheckpointError` says why not."""
import errno, json, os, pickle, random, resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vae_course import checkpoint
from vae_course.data import Batches, Examples
from vae_course.checkpoint import (
    CheckpointError, differences, load_checkpoint, save_checkpoint)
from vae_course.devices import (available_devices, pick_device, random_state,
                                seed_everything, seeded, set_random_state)
from vae_course.step import NonFiniteLoss, Trainable, evaluate, mean_terms

tree = dict(
    kind="model", weights={"a.b": torch.randn(3, 4), "a": {"b": torch.arange(5)}},
    mixed=[1, 2.5, None, True, "wörd\n", (torch.ones(()), {7: "int key"})],
    kinds=[torch.zeros(0), torch.ones(2, dtype=torch.bfloat16),
           torch.tensor([True, False]), torch.randint(0, 255, (6,), dtype=torch.uint8)],
    big=2**70, tiny=5e-324)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b): return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def saved(tmp_path):
    return save_checkpoint(tmp_path / "deep" / "state.safetensors", tree)


# --- what is written comes back

def test_round_trip(saved):
    assert same(load_checkpoint(saved), tree)
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_views_and_shared_tensors(tmp_path):
    x = torch.arange(12.).view(3, 4)
    back = load_checkpoint(
        save_checkpoint(tmp_path / "f", dict(x=x, turned=x.T, part=x[:, 1:3], same=x)))
    assert (torch.equal(back["turned"], x.T) and torch.equal(back["part"], x[:, 1:3])
            and torch.equal(back["same"], x))


def test_any_program_can_read_the_tensors(saved):
    assert torch.equal(load_file(saved)["state.weights.a.b"], tree["weights"]["a.b"])
    header = saved.read_bytes()
    assert json.loads(header[8:8 + int.from_bytes(
        header[:8], "little")])["__metadata__"]["format"] == "vae_course"


def test_what_cannot_be_stored_is_named_and_nothing_is_written(saved):
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=r"state\.optimizer\.1: got a function"):
        save_checkpoint(saved, dict(optimizer=[1, lambda: 0]))
    assert saved.read_bytes() == before


# --- spoiled files

def refuse(path, *words):
    "Loading says `CheckpointError` with the file's name, and leaves the file as it is."
    before = path.read_bytes()
    with pytest.raises(CheckpointError) as e: load_checkpoint(path)
    assert path.name in str(e.value) and path.read_bytes() == before
    for word in words: assert word in str(e.value), str(e.value)


def test_cut_off_at_any_length(saved):
    whole = saved.read_bytes()
    for n in sorted({*range(0, 40), *range(40, len(whole), 97), len(whole) - 1}):
        saved.write_bytes(whole[:n])
        refuse(saved, "empty" if n == 0 else "")


def test_any_flipped_bit(saved):
    whole = saved.read_bytes()
    places = {*range(0, 120), *random.Random(0).sample(range(len(whole)), 300),
              len(whole) - 1}
    for i in sorted(places):
        spoiled = bytearray(whole)
        spoiled[i] ^= 1 << (i % 8)
        saved.write_bytes(spoiled)
        refuse(saved)


def test_bytes_added_or_exchanged(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole + b"more")
    refuse(saved)
    i = whole.index(b"kind")
    # a valid header that says something else
    saved.write_bytes(whole[:i] + whole[i:].replace(b"model", b"modal", 1))
    refuse(saved, "checksum")


class Evil:
    def __reduce__(self): return os.mkdir, (str(Evil.target),)


def test_pickles_are_never_opened(tmp_path):
    Evil.target = tmp_path / "was here"
    for i, write in enumerate(
            [lambda p: torch.save({"w": Evil()}, p),
             lambda p: p.write_bytes(pickle.dumps(Evil())), lambda p: torch.save(
                 {"w": Evil()}, p, _use_new_zipfile_serialization=False)]):
        path = tmp_path / f"model{i}.pt"
        write(path)
        refuse(path, "pickle")
    assert not Evil.target.exists()


def test_foreign_files(tmp_path):
    path = tmp_path / "thing"
    for raw in (b"hello", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(1000), b"{}",
                (2).to_bytes(8, "little") + b"[]", (2).to_bytes(8, "little") + b"{}",
                (4).to_bytes(8, "little") + b"null", b"\xff" * 50):
        path.write_bytes(raw)
        refuse(path, "not a whole checkpoint")
    save_file({"w": torch.ones(2)}, path)
    refuse(path, "no checkpoint of this course", "load_file")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path)


def test_a_later_version_asks_for_an_upgrade(saved):
    whole = saved.read_bytes()
    saved.write_bytes(whole.replace(b'"version":"2"', b'"version":"3"'))
    refuse(saved, "version 3", "upgrade")


# --- a disk that is full

class Full:
    "A file that takes half of what it is given."
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *args): self.file.close()
    def write(self, blob):
        self.file.write(blob[:len(blob) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_no_space_left(tmp_path, monkeypatch, where, existing):
    path = tmp_path / "state.safetensors"
    if existing: save_checkpoint(path, tree)
    before = path.read_bytes() if existing else None
    def full(*args): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        if where == "write":
            m.setattr(checkpoint, "open", lambda *a: Full(open(*a)), raising=False)
        else: m.setattr(os, where, full)
        with pytest.raises(CheckpointError,
                           match="state.safetensors.*No space left.*"
                                 + ("is whole" if existing else "nothing was kept")):
            save_checkpoint(path, dict(tree, kind="other"))
    assert ([p.name for p in tmp_path.iterdir()]
            == (["state.safetensors"] if existing else []))
    if existing:
        assert path.read_bytes() == before and same(load_checkpoint(path), tree)
    # and later it works again
    save_checkpoint(path, tree)


def test_a_limit_of_the_system(tmp_path):
    """The same with a failure that comes from the kernel: files may not grow beyond a
    size."""
    path = save_checkpoint(tmp_path / "state.safetensors", dict(w=torch.zeros(10)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            save_checkpoint(path, dict(w=torch.zeros(100_000)))
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(load_checkpoint(path)["w"]) == 10 and len(list(tmp_path.iterdir())) == 1


def test_a_part_left_by_a_killed_process_is_no_obstacle(saved):
    beside = saved.with_name(f".{saved.name}.part")
    beside.write_bytes(b"half")
    save_checkpoint(saved, dict(n=1))
    assert load_checkpoint(saved) == dict(n=1) and not beside.exists()


# --- devices and random numbers

def test_devices():
    assert (pick_device().type == available_devices()[0]
            and available_devices()[-1] == "cpu")
    for name in ("cuda:63", "nonsense", "cpu:one", "meta"):
        with pytest.raises(ValueError, match="on this machine: it has .*cpu"):
            pick_device(name)


def test_random_state_goes_through_a_file(tmp_path):
    def draws():
        return (random.random(), np.random.rand(), np.random.randn(),
                torch.rand(1).item(), torch.randn(1).item())
    seed_everything(5)
    # leaves half of a pair behind, which counts too
    np.random.randn()
    path = save_checkpoint(tmp_path / "random", random_state())
    first = draws()
    set_random_state(load_checkpoint(path))
    assert draws() == first != draws()
    seed_everything(2**40 + 1)


def test_seeded_leaves_no_trace():
    torch.manual_seed(1)
    a = torch.rand(3)
    torch.manual_seed(1)
    with pytest.raises(KeyError), seeded(0): raise KeyError
    with seeded(None): pass
    assert torch.equal(torch.rand(3), a)


# --- means

class Square(Trainable):
    "Loss: the mean of x², with noise when asked."
    def __init__(self, noise=0.0):
        super().__init__()
        self.w, self.noise = torch.nn.Parameter(torch.zeros(())), noise
    def losses(self, batch):
        return dict(
            loss=((batch[0] + self.noise * torch.randn_like(batch[0]))**2).mean()
                 + self.w, training=torch.tensor(float(self.training)))


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 100])
def test_evaluation_is_exact_for_any_batch_size(batch_size):
    x = torch.arange(7.)[:, None]
    model = Square().train()
    means = evaluate(model, Batches(Examples(x, torch.zeros(7).long()), batch_size))
    assert (means["loss"] == pytest.approx((x**2).mean().item(), rel=1e-5)
            and means["training"] == 0 and model.training)


def test_evaluation_with_a_seed_repeats_itself_and_leaves_the_random_numbers():
    batches = Batches(Examples(torch.ones(50, 1), torch.zeros(50).long()), 20)
    torch.manual_seed(3)
    a, after = evaluate(Square(1.0), batches, seed=0), torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), after)
    assert evaluate(Square(1.0), batches, seed=0) == a != evaluate(
        Square(1.0), batches, seed=1)


def test_the_first_bad_term_is_named():
    rows = torch.tensor(
        [[1., 1, 1], [float("nan"), 1, float("nan")], [float("inf")] * 3])
    with pytest.raises(NonFiniteLoss, match="`kl` became NaN at step 2 of 3") as e:
        mean_terms(["loss", "reconstruction", "kl"], rows, [1, 1, 1])
    assert e.value.step == 1


def test_evaluation_puts_the_mode_back_after_an_error():
    def batches():
        yield torch.ones(1), None
        raise RuntimeError("no more")
    model = Square().train()
    with pytest.raises(RuntimeError, match="no more"): evaluate(model, batches())
    assert model.training


def test_differences():
    assert differences(dict(a=dict(b=1, c=2)), dict(a=dict(b=1, c=3))) == [
        "a.c was 2 and is 3"]
    assert (
        differences(dict(a=None), dict(a=dict(b=1))) == ["a was None and is {'b': 1}"])
