"Loggers: what they wrote, read by other programs, also after a run was killed."
import csv, sys
from itertools import count

import pandas as pd
import pytest
import torch

from vae_course.callbacks import Callback
from vae_course.data import Examples
from vae_course.elbo import mlp_vae
from vae_course.loggers import CSVLogger, TensorBoardLogger
from vae_course.training import fit


def images(n=70, seed=0):
    numbers = torch.Generator().manual_seed(seed)
    return Examples(torch.rand(n, 1, 4, 4, generator=numbers), torch.zeros(n).long())


def trained(*loggers, **settings):
    torch.manual_seed(0)
    common = dict(valid=images(20, 1), epochs=4, batch_size=16, device="cpu",
                  progress=False)
    return fit(mlp_vae((1, 4, 4), 2, (8,)), images(), callbacks=loggers,
               **common | settings)


class Killed(Exception):
    pass


class Stop(Callback):
    "Ends a run after so many steps."
    def __init__(self, steps): self.left = count(steps - 1, -1)

    def on_step(self, run):
        if next(self.left) == 0: raise Killed


def interrupted(logger, tmp_path, steps=13, **settings):
    "A run that breaks off in the middle of its third epoch, and goes on; its history."
    kept = dict(checkpoint=tmp_path / "run") | settings
    with pytest.raises(Killed): trained(logger(), Stop(steps), **kept)
    return trained(logger(), **kept)


# --- CSV

def table(path):
    "The rows, as another program reads them."
    return pd.read_csv(path).to_dict("records")


def test_the_table_holds_the_history(tmp_path):
    history = trained(CSVLogger(tmp_path / "new folder" / "löss.csv"))
    found = table(tmp_path / "new folder" / "löss.csv")
    assert list(found[0]) == list(history.rows[0])
    assert found == [pytest.approx(row, rel=1e-12) for row in history.rows]


def test_after_going_on_each_epoch_stands_in_it_once(tmp_path):
    history = interrupted(lambda: CSVLogger(tmp_path / "log.csv"), tmp_path)
    found = table(tmp_path / "log.csv")
    assert found == [pytest.approx(row, rel=1e-12) for row in history.rows]
    assert history["epoch"] == [1, 2, 3, 4]
    # a finished run is not written again
    trained(CSVLogger(tmp_path / "log.csv"), checkpoint=tmp_path / "run")
    assert len(table(tmp_path / "log.csv")) == 4


def test_a_column_that_comes_later_is_empty_before(tmp_path):
    history = trained(CSVLogger(tmp_path / "log.csv"), valid_every=3)
    with open(tmp_path / "log.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    values = [row["valid_neg_elbo"] for row in rows]
    assert values[:2] == ["", ""] and [float(v) for v in values[2:]] == history[
        "valid_neg_elbo"]


def test_the_table_is_whole_after_every_epoch(tmp_path):
    lengths = []
    class Look(Callback):
        def on_epoch(self, run): lengths.append(len(table(tmp_path / "log.csv")))
    trained(CSVLogger(tmp_path / "log.csv"), Look())
    assert lengths == [1, 2, 3, 4]


# --- TensorBoard

def events(folder):
    "`{name: [(step, value)]}`, as TensorBoard shows it."
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    found = EventAccumulator(str(folder), size_guidance=dict(scalars=0)).Reload()
    return {name: [(e.step, e.value) for e in found.Scalars(name)]
            for name in found.Tags()["scalars"]}


def test_tensorboard_reads_the_history(tmp_path):
    history = trained(TensorBoardLogger(tmp_path / "board"))
    found = events(tmp_path / "board")
    assert found.keys() == history.rows[0].keys() - {"epoch"}
    for name, values in found.items():
        assert [step for step, _ in values] == [5, 10, 15, 20]
        assert [v for _, v in values] == pytest.approx(history[name], rel=1e-6)


def test_tensorboard_reads_the_steps_too(tmp_path):
    seen = []
    class Seen(Callback):
        def on_step(self, run): seen.append(run.terms["loss"].item())
    trained(TensorBoardLogger(tmp_path / "board", every=3), Seen())
    found = events(tmp_path / "board")["step/loss"]
    assert [step for step, _ in found] == [3, 6, 9, 12, 15, 18]
    assert [v for _, v in found] == pytest.approx(seen[2::3], rel=1e-6)


def test_after_going_on_tensorboard_shows_each_step_once(tmp_path):
    history = interrupted(lambda: TensorBoardLogger(tmp_path / "board", every=1),
                          tmp_path)
    found = events(tmp_path / "board")
    assert [step for step, _ in found["loss"]] == [5, 10, 15, 20]
    assert [v for _, v in found["loss"]] == pytest.approx(history["loss"], rel=1e-6)
    # steps 11 to 13 were made twice
    assert [step for step, _ in found["step/loss"]] == list(range(1, 21))


def test_steps_are_those_of_the_optimizers(tmp_path):
    trained(TensorBoardLogger(tmp_path / "board", every=1), accumulate=2, max_steps=8)
    found = events(tmp_path / "board")
    assert [step for step, _ in found["step/loss"]] == list(range(1, 9))
    assert [step for step, _ in found["loss"]] == [3, 6, 8]


def test_without_tensorboard_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match='pip install "vae_course\\[tensorboard\\]"'):
        TensorBoardLogger(tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_of_several_processes_writes(tmp_path, rank, monkeypatch):
    class Run:
        terms, steps_done = dict(loss=torch.tensor(1.)), 0
        class history: rows = [dict(epoch=1, loss=1.)]
    Run.rank = rank
    for logger in (CSVLogger(tmp_path / "log.csv"),
                   TensorBoardLogger(tmp_path / "board", every=1)):
        for told in ("on_start", "on_step", "on_epoch", "on_end"):
            getattr(logger, told)(Run)
    assert len(list(tmp_path.iterdir())) == (2 if rank == 0 else 0)
