"""What a saboteur found: mistakes in training, the streams and the command line that no
other test would notice."""
import itertools, json, math

import numpy as np
import pytest, torch
from torch import nn

from vae_course import acceleration, cli, protocol, run, step
from vae_course.data import Batches, DataError, Examples
from vae_course.datasets import load
from vae_course.streams import as_batch, Stream
from vae_course.elbo import mlp_vae
from vae_course.acceleration import AcceleratedStep
from vae_course.devices import OutOfMemory
from vae_course.distributed import LossesModule, leave_processes, wrap_ddp
from vae_course.step import evaluate, make_optimizers, StepConfig, Trainable
from vae_course.training import fit
from pretended import several_processes

small = lambda **more: mlp_vae((1, 8, 8), **dict(latent_dim=4, hidden=(32,)) | more)


def images(n=100, side=8, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(n, 1, side, side, generator=numbers),
                    torch.zeros(n).long())


# ---------------------------------------------------------------- what one of several
# processes does, without the others

class Probe(Trainable):
    "Keeps the rows, the labels and a draw of noise of every step."

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.zeros(())), []

    def losses(self, batch):
        if self.training:
            self.seen.append(
                (batch[0].flatten().tolist(), batch[1].tolist(), torch.rand(()).item()))
        return dict(loss=self.w**2 + batch[0].mean())


@pytest.fixture
def as_one_of_two(monkeypatch):
    "`fit` as process `number` of two sees itself; nothing is sent."
    for room in (acceleration, run):
        monkeypatch.setattr(room, "wrap_ddp", lambda losses, device: losses)
    monkeypatch.setattr(step, "all_reduce_means", lambda rows, sizes: (rows, sizes))
    monkeypatch.setattr(run, "broadcast_object", lambda value: value)
    def train(number, **more):
        several_processes(monkeypatch, number, 2)
        model = Probe()
        data = more.pop("train", Examples(torch.arange(12.)[:, None], torch.arange(12)))
        history = fit(model, data,
                      **dict(epochs=3, batch_size=4, progress=False, device="cpu",
                             precision="fp32", compile=False, graphs=False) | more)
        return model.seen, history
    return train


def test_processes_share_an_order_and_not_the_noise(as_one_of_two):
    a, b = (as_one_of_two(number)[0] for number in (0, 1))
    orders = []
    for epoch in range(3):
        whole = [x + y for (x, *_), (y, *_) in zip(a[3*epoch:3*epoch + 3],
                                                   b[3*epoch:3*epoch + 3])]
        orders.append(sum(whole, []))
        # every example once
        assert (sorted(orders[-1]) == list(range(12))
                and all(len(batch) == 4 for batch in whole))
    # a new order in every epoch
    assert len(set(map(tuple, orders))) == 3
    # and its own label beside each
    assert all(x == y for x, y, _ in a + b)
    # and noise of their own
    assert len({noise for *_, noise in a + b}) == 18
    assert as_one_of_two(0)[0] == a and as_one_of_two(0, seed=1)[0] != a


def test_processes_share_a_stream(as_one_of_two):
    class Numbers(torch.utils.data.Dataset):
        def __len__(self): return 12
        def __getitem__(self, i):
            return torch.full((1, 1, 1), 20 * i, dtype=torch.uint8), i
    runs = [as_one_of_two(number, train=Numbers(), stream=True)[0] for number in (0, 1)]
    orders = []
    for epoch in range(3):
        parts = [run[3*epoch:3*epoch + 3] for run in runs]
        assert all(len(y) == 2 for part in parts for _, y, _ in part)
        assert sorted(i for part in parts for _, y, _ in part for i in y) == list(
            range(12))
        orders.append(str([[y for _, y, _ in part] for part in parts]))
    assert len(set(orders)) == 3


def test_noise_of_several_processes_follows_the_seed(as_one_of_two):
    first, second = ([noise for *_, noise in as_one_of_two(0, seed=seed)[0]]
                     for seed in (0, 1))
    assert not set(first) & set(second)


def test_a_stream_for_several_processes_may_end_in_a_small_batch(as_one_of_two):
    """The sampler gives an example twice, so that each process has one; batches in
    memory are parted, and one would go without."""
    data = [(torch.full((1, 1, 1), 0.5), i) for i in range(13)]
    assert len(as_one_of_two(0, train=data, stream=True)[1]) == 3
    with pytest.raises(ValueError,
                       match="leaves 1 examples in a batch for 2 processes"):
        as_one_of_two(0, train=Examples(torch.zeros(13, 1), torch.zeros(13).long()))


def test_one_process_writes_and_none_tries(as_one_of_two, tmp_path, monkeypatch):
    monkeypatch.setattr(acceleration.Trial, "measure", lambda *a: pytest.fail(
        "a trial, which may end differently in every process"))
    as_one_of_two(1, checkpoint=tmp_path / "run", epochs=200, precision="auto",
                  compile="auto", graphs="auto")
    assert not (tmp_path / "run").exists()
    as_one_of_two(0, checkpoint=tmp_path / "run")
    assert (tmp_path / "run").exists()


def test_processes_stop_by_what_the_first_one_saw(as_one_of_two, monkeypatch):
    monkeypatch.setattr(run, "broadcast_object", lambda terms: {"valid_loss": 5.0})
    _, history = as_one_of_two(1,
                               valid=Examples(torch.zeros(2, 1), torch.zeros(2).long()),
                               epochs=9, patience=2)
    assert history["valid_loss"] == [5.0] * 3


# ---------------------------------------------------------------- streams

class Grey(torch.utils.data.Dataset):
    def __init__(self, n=40, top=1.0):
        self.x, self.top = torch.full((n, 1, 4, 4), 0.5), top
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i] * self.top, i


def test_a_stream_shuffles_anew_keeps_labels_draws_pixels_and_checks():
    def order(stream): return torch.cat([y for _, y in stream]).tolist()
    assert order(Stream(Grey(), 16)) == list(range(40))
    stream = Stream(Grey(), 16, shuffle=True)
    first, second = order(stream), order(stream)
    assert (sorted(first) == sorted(second) == list(range(40))
            and first != second != list(range(40)))
    drawn, again = (torch.cat([x for x, _ in Stream(Grey(), 16, binarize=True)])
                    for _ in range(2))
    assert drawn.unique().tolist() == [0, 1] and not torch.equal(drawn, again)
    parts = [order(Stream(Grey(), 16, shard=(number, 2))) for number in (0, 1)]
    assert (sorted(parts[0] + parts[1]) == list(range(40))
            and [len(y) for _, y in Stream(Grey(), 16, shard=(1, 2))] == [8, 8, 4])
    model = mlp_vae((1, 4, 4), latent_dim=2, hidden=(8,))
    for top, message in ((9.0, "from 4.5 to 4.5, and this model takes .*0 to 1"),
                         (math.nan, "NaN")):
        with pytest.raises(DataError, match=f"a batch of train .*{message}"):
            fit(model, Grey(top=top), epochs=1, batch_size=16, stream=True,
                device="cpu", progress=False)


def test_what_is_said_about_a_stream_reaches_it(monkeypatch):
    "Processes that read, drawn pixels, and the order."
    given = []
    real = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", lambda self, *args, **more: (
        given.append(more), real(self, *args, **more | dict(workers=0)))[1])
    model = Probe()
    fit(model, Grey(), epochs=2, batch_size=16, binarize=True, stream=True, workers=3,
        device="cpu", progress=False)
    assert (
        given[-1]["workers"] == 3 and {v for x, *_ in model.seen for v in x} == {0, 1})
    orders = [sum((y for _, y, _ in model.seen[first:first + 3]), [])
              for first in (0, 3)]
    assert (orders[0] != orders[1] != list(range(40)) != orders[0]
            and sorted(orders[0]) == sorted(orders[1]) == list(range(40)))


def test_beside_a_stream_the_validation_set_is_looked_through_as_ever():
    valid = images(20, side=4)
    valid.x[17, 0, 0, 0] = math.nan
    with pytest.raises(DataError, match="valid holds NaN or infinity in 1 of its 20 "
                                        "examples, first in number 17"):
        fit(mlp_vae((1, 4, 4), latent_dim=2, hidden=(8,)), Grey(), valid, epochs=1,
            batch_size=16, stream=True, device="cpu", progress=False)


def test_pictures_of_several_shapes_in_one_batch_are_refused():
    with pytest.raises(DataError,
                       match=r"shape \(1, 4, 4\) and \(1, 5, 4\) in one batch"):
        as_batch([(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 4, 4), 0),
                  (torch.zeros(1, 5, 4), 0)])


def test_whole_numbers_of_any_kind_are_labels_and_nothing_else_is():
    def label(y): return as_batch([(torch.zeros(1, 2, 2), y)])[1].tolist()
    for y in (3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3),
              torch.tensor([3]), 3.0, torch.tensor(3.0)):
        assert label(y) == [3]
    assert label(None) == [-1]
    # 0.7 is no class
    for y in (0.7, torch.tensor(0.7), "cat", (1, 2), math.nan):
        with pytest.raises(DataError, match="whole number|one label|labels"): label(y)


# ---------------------------------------------------------------- compiled steps

def first_loss(config, change=lambda model: None, **more):
    torch.manual_seed(0)
    model = small(**more)
    change(model)
    step = AcceleratedStep(model.train(), make_optimizers(model, torch.device("cpu")),
                           16, config=config)
    torch.manual_seed(1)
    return step((images(16).x, torch.zeros(16).long()))["loss"].item()


def test_every_model_has_a_program_of_its_own():
    """The same classes, other activations, dropout and widths: none may be run by the
    program of another."""
    def relu(model): model.encoder[2][1], model.decoder[0][1] = nn.ReLU(), nn.ReLU()
    for more in (dict(), dict(change=relu), dict(dropout=0.5), dict(hidden=(24,)),
                 dict(hidden=(32, 32))):
        assert first_loss(StepConfig(compile=True), **more) == pytest.approx(
            first_loss(StepConfig(), **more), rel=1e-4), more


@pytest.mark.parametrize("compile", [False, True])
def test_a_weight_that_no_loss_uses_is_left_alone(compile):
    "With weight decay, too: a gradient of 0 is not the same as none."
    model = small()
    model.unused = nn.Linear(3, 3)
    kept, used = model.unused.weight.clone(), model.encoder[2][0].weight.clone()
    step = AcceleratedStep(
        model, [torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)], 16,
        config=StepConfig(compile=compile))
    step((images(16).x, torch.zeros(16).long()))
    assert (torch.equal(model.unused.weight, kept)
            and not torch.equal(model.encoder[2][0].weight, used))


def test_several_processes_take_a_weight_that_no_loss_uses(tmp_path):
    "A group of one process is enough to meet the complaint."
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group",
                                         rank=0, world_size=1)
    try:
        model = small()
        model.unused = nn.Linear(3, 3)
        losses = wrap_ddp(LossesModule(model), torch.device("cpu"))
        for _ in range(3):
            losses((images(16).x, torch.zeros(16).long()))["loss"].backward()
        assert model.unused.weight.grad is None or not model.unused.weight.grad.any()
        assert (all(p.grad is not None for p in model.decoder.parameters())
                and model.encoder[2][0].weight.grad.any())
    finally: leave_processes()


# ---------------------------------------------------------------- the trial, precision,
# memory

def test_a_switch_must_be_worth_a_tenth_and_one_that_fails_is_left(monkeypatch):
    def measure(self, config, limit=None):
        self.steps[config] = self.run.accelerated(config)
        self.seconds[config] = 0.95 if config.precision == "bf16" else 1.0
    with monkeypatch.context() as patch:
        patch.setattr(acceleration.Trial, "measure", measure)
        assert (fit(small(), images(320), epochs=1, batch_size=1, precision="auto",
                    compile=False, progress=False, device="cpu").step_config
                == StepConfig())
    real = run.Run.accelerated
    def accelerated(self, config):
        def breaks(*args, **more): raise RuntimeError("not here")
        breaks.forget = lambda: None
        return breaks if config.precision == "bf16" else real(self, config)
    monkeypatch.setattr(run.Run, "accelerated", accelerated)
    clock = itertools.count()
    # a second for everything: worth a trial
    monkeypatch.setattr(acceleration.time, "perf_counter", lambda: float(next(clock)))
    history = fit(small(), images(320), epochs=1, batch_size=1, precision="auto",
                  compile=False, progress=False, device="cpu")
    assert (history.step_config == StepConfig()
            and history.trial["bf16, eager"] == math.inf)


def test_validation_stays_in_float32():
    model = small()
    history = fit(model, images(64), images(64, seed=1), epochs=1, batch_size=16,
                  precision="bf16", progress=False, device="cpu")
    assert (history["valid_neg_elbo"][-1]
            == evaluate(model, Batches(images(64, seed=1), 1000), seed=0)["neg_elbo"])


def test_other_errors_are_not_called_a_lack_of_memory():
    class Broken(Probe):
        def losses(self, batch):
            if self.training:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return super().losses(batch)
    with pytest.raises(RuntimeError, match="mat1") as e:
        fit(Broken(), images(32), epochs=1, batch_size=16, precision="fp32",
            compile=False, progress=False, device="cpu")
    assert not isinstance(e.value, OutOfMemory)


def test_a_copy_of_the_weights_may_need_too_much_memory(monkeypatch):
    """`WatchNaN` copies weights and moments before each epoch: on a full device that is
    where memory ends."""
    def full(self): raise torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(run.Run, "state", full)
    with pytest.raises(OutOfMemory, match="batch_size=16"):
        fit(small(), images(32), epochs=1, batch_size=16, precision="fp32",
            compile=False, progress=False, device="cpu")


def test_training_flushes_denormals(monkeypatch):
    asked = []
    monkeypatch.setattr(acceleration, "flush_denormals", lambda: asked.append(1))
    fit(small(), images(32), epochs=1, batch_size=16, precision="fp32", compile=False,
        progress=False, device="cpu")
    assert asked


def test_a_recording_is_not_taken_up_by_several_processes(monkeypatch):
    """The checkpoint of one process on a GPU, gone on with by two, everything at
    `auto`: what the run of `fit` chooses where it thinks itself there."""
    choose, chosen = acceleration.choose_step, {}
    def choose_there(self, *asked):
        here, real = (self.device, self.world_size), self.accelerated
        self.resumed_config, self.accelerated = (
            dict(precision="fp32", compile=False, graphs=True), lambda config: None)
        for there in (("cuda", 2), ("cuda", 1), ("cpu", 1)):
            self.device, self.world_size = torch.device(there[0]), there[1]
            chosen[there] = choose(self, *asked)[0]
        (self.device, self.world_size), self.accelerated = here, real
        return choose(self, *asked)
    monkeypatch.setattr(acceleration, "choose_step", choose_there)
    fit(small(), images(32), epochs=1, batch_size=16, precision="auto", compile="auto",
        graphs="auto", progress=False, device="cpu")
    assert chosen == {("cuda", 2): StepConfig(), ("cuda", 1): StepConfig(graphs=True),
                      ("cpu", 1): StepConfig()}


# ---------------------------------------------------------------- the command line

def test_what_is_validated_on_is_neither_trained_nor_tested_on():
    train, valid, test = ({bytes(x.numpy().tobytes()) for x in part.x}
                          for part in protocol.split_parts(load("digits")))
    assert (not train & valid and not valid & test and not train & test
            and (len(valid), len(test)) == (400, 1000))


def test_every_word_of_the_command_reaches_fit(monkeypatch, tmp_path):
    given = {}
    def stop(*args, **kwargs):
        given.update(kwargs)
        raise ValueError("far enough")
    monkeypatch.setattr(cli, "fit", stop)
    with pytest.raises(SystemExit):
        cli.main("train --data digits --epochs 7 --batch-size 50 --lr 0.02 --seed "
                 "9 --precision bf16 --compile off --device cpu --out "
                 f"{tmp_path}/run".split())
    wanted = dict(epochs=7, batch_size=50, lr=0.02, seed=9, precision="bf16",
                  compile=False, binarize=True,
                  checkpoint=tmp_path / "run" / "run.safetensors")
    assert {k: given[k] for k in wanted} == wanted and str(given["device"]) == "cpu"


def test_a_finished_run_keeps_what_it_says_about_its_training(tmp_path):
    """The same command again tests again; how the model was trained does not change by
    that."""
    command = ("train --data digits --device cpu --precision fp32 --compile off "
               "--batch-size 500 --set latent_dim=2 --set hidden=[8] --epochs 1 --out "
               f"{tmp_path}/run".split())
    cli.main(command)
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text(encoding="utf-8")) | dict(
        device="cuda", processes=2, trial={"fp32, eager": 0.5})
    path.write_text(json.dumps(run), encoding="utf-8")
    cli.main(command)
    assert json.loads(path.read_text(encoding="utf-8")) == run
