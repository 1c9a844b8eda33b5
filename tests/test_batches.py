"""Batches of any shape: trees of tensors, loaders and data sets of one's own, labelled
beside unlabelled; in memory and streamed alike."""
import json, math, os, subprocess, sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest, torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from pretended import several_processes
from vae_course.beta_vae import beta_tcvae
from vae_course.callbacks import Callback
from vae_course.checks import diagnose_nan
from vae_course.classifier import Classifier
from vae_course.cvae import mlp_cvae
from vae_course.data import (Batches, DataError, Examples, MixedBatch, binarized,
                             examples_in, shape_of, split)
from vae_course.elbo import Bernoulli, Gaussian, mlp_vae
from vae_course.evaluation import elbo, nll, per_example, posterior_mean_variance
from vae_course.latent import diagonal_gaussian
from vae_course.model import LatentVariableModel
from vae_course.step import NonFiniteLoss, Trainable, evaluate
from vae_course.loaders import GivenBatches, MixedBatches, fingerprint
from vae_course.streams import Stream, as_batch
from vae_course.training import fit
from vae_course.vq_vae import CodePrior
from two_processes import SemiSupervised, made

here = Path(__file__).resolve().parent


def numbers(seed=0): return torch.Generator().manual_seed(seed)


def images(n=40, side=6, seed=0):
    return Examples(torch.rand(n, 1, side, side, generator=numbers(seed)),
                    torch.arange(n) % 3)


def small(**more):
    torch.manual_seed(0)
    return mlp_vae((1, 6, 6), **dict(latent_dim=3, hidden=(16,)) | more)


def train(model, data, valid=None, **more):
    settings = dict(epochs=2, device="cpu", progress=False) | more
    return fit(model, data, valid, **settings)


class Words(LatentVariableModel):
    "Words of ten kinds, of which `lengths` count."
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(10, 4), nn.Linear(4, 10)

    def encode(self, x, c=None):
        tokens, lengths = x
        here = torch.arange(tokens.shape[1]) < lengths[:, None]
        mean = (self.embed(tokens) * here[..., None]).sum(1) / lengths[:, None]
        return diagonal_gaussian(mean, torch.zeros_like(mean))

    def decode(self, z, c=None): return MaskedWords(self.out(z))

    def prior(self, c=None): return diagonal_gaussian(torch.zeros(4), torch.zeros(4))


class MaskedWords:
    def __init__(self, logits): self.logits = logits

    def log_prob(self, x):
        tokens, lengths = x
        here = torch.arange(tokens.shape[1]) < lengths[:, None]
        each = self.logits.log_softmax(-1).gather(
            -1, tokens.expand(*self.logits.shape[:-1], -1))
        return (each * here).sum(-1)


def texts(n=24, width=5):
    tokens = torch.randint(10, (n, width), generator=numbers())
    return Examples((tokens, torch.randint(1, width + 1, (n,), generator=numbers(1))))


class Rows(Dataset):
    "A data set of whatever it is given."
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __getitem__(self, i): return self.rows[i]


# ---------------------------------------------------------------- trees in memory

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize("x, shape", [
    ((torch.zeros(6, 5).long(), torch.arange(6)), ((5,), ())),
    (dict(a=torch.rand(6, 2), b=(torch.rand(6, 1, 3), torch.zeros(6).bool())),
     dict(a=(2,), b=((1, 3), ()))),
    (Pair(torch.rand(6), torch.rand(6, 4).double()), Pair((), (4,))),
    (torch.rand(6, 7), (7,))])
def test_a_tree_is_cut_moved_split_and_dealt_leaf_by_leaf(x, shape):
    examples = Examples(x)
    assert (len(examples), examples.data_shape, examples.y.tolist()) == (
        6, shape, [-1] * 6)
    assert len(examples[2:5]) == 3 and len(examples[[0, 5]].to("cpu")) == 2
    assert type(examples[0][0]) is type(x) and shape_of([examples[:1].x]) == [shape]
    first, second = split(examples, 1 / 3)
    assert (len(first), len(second)) == (4, 2)
    batches = list(Batches(examples, 4))
    assert [examples_in(batch) for batch in batches] == [4, 2]
    assert type(batches[0][0]) is type(x)
    parts = [next(iter(Batches(examples, 5, shard=(i, 2)))) for i in (0, 1)]
    assert [examples_in(part) for part in parts] == [3, 2]
    assert examples_in(list(examples)[0][0:0] or ([torch.zeros(1)],)) == 1


def test_rows_of_a_tree_stay_together():
    n = torch.arange(20)
    examples = Examples(dict(a=n[:, None].float(), b=(n, n.view(20, 1, 1))), n)
    for part in split(examples, .3):
        for x, y in Batches(part, 3, shuffle=True):
            assert (x["a"].flatten().tolist() == x["b"][0].tolist() == y.tolist()
                    == x["b"][1].flatten().tolist())
    x, y = examples[7]
    assert x["a"].item() == x["b"][0].item() == y.item() == 7


def test_bytes_are_an_image_and_every_other_type_is_itself():
    kinds = [torch.uint8, torch.int64, torch.float32, torch.float64, torch.bool]
    x = tuple(torch.full((4, 2), 1).to(kind) for kind in kinds)
    (found, _), = Batches(Examples(x), 4)
    assert [t.dtype for t in found] == [torch.float32, *kinds[1:]]
    assert found[0].max().item() == pytest.approx(1 / 255) and (found[1] == 1).all()


@pytest.mark.parametrize("x, message", [
    ((torch.zeros(3, 2), torch.zeros(2)), "inputs of 3 and 2 rows"),
    ((torch.zeros(3, 2), "words"), "inputs of type str"),
    (dict(), "holds no tensor"), (dict(a=torch.tensor(1.)), "a single number"),
    ((torch.zeros(3, 2), torch.zeros(3, 0)), "hold no numbers")])
def test_a_tree_without_a_row_for_each_example_is_refused(x, message):
    with pytest.raises(DataError, match=message): Examples(x)


def test_only_grey_values_can_be_drawn():
    for x in (torch.zeros(3, 2).long(), (torch.rand(3, 2), torch.rand(3))):
        for draw in (binarized, lambda e: Batches(e, 2, binarize=True),
                     lambda e: MixedBatches(e, e, (1, 1), binarize=True)):
            with pytest.raises(DataError, match="shall be drawn as 0 or 1"):
                draw(Examples(x))


def test_one_tensor_is_looked_up_as_ever(monkeypatch):
    "By `index_select`, several times faster than by indexing."
    calls, real = [], torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select",
                        lambda *a: (calls.append(1), real(*a))[1])
    monkeypatch.setattr(torch.Tensor, "__getitem__", lambda *a: pytest.fail("indexed"))
    assert len(list(Batches(images(), 20))) == 2 and len(calls) == 4


# ---------------------------------------------------------------- any range, in memory
# and streamed

def sound(): return torch.rand(40, 1, 8, generator=numbers()) * 2 - 1
def table(): return torch.randn(40, 1, 8, generator=numbers()) * 30


@pytest.mark.parametrize("x", [sound(), table()], ids=["sound", "table"])
def test_numbers_of_any_range_train_in_memory_and_streamed_alike(x):
    def model(likelihood):
        torch.manual_seed(0)
        return mlp_vae((1, 8), latent_dim=2, hidden=(8,), likelihood=likelihood)
    settings = dict(batch_size=10, lr=1e-3)
    data, rows = Examples(x), Rows([row.numpy() for row in x])
    memory = train(model("gaussian"), data, data, **settings)
    streamed = train(model("gaussian"), rows, rows, stream=True, **settings)
    loaded = train(model("gaussian"), DataLoader(data, 10, shuffle=True),
                   DataLoader(data, 40), lr=1e-3)
    for other in (streamed, loaded):
        for name in ("valid_neg_elbo", "loss"):
            assert other[name] == pytest.approx(memory[name], rel=.2)
    for given, more in ((data, {}), (rows, dict(stream=True)), ([(x, None)], {})):
        with pytest.raises(DataError, match="reaches from .* takes .*0 to 1"):
            train(model("bernoulli"), given, **more)


def test_words_train_in_memory_and_streamed_alike():
    def model():
        torch.manual_seed(0)
        return Words()
    data = texts()
    rows = Rows([((t.tolist(), n.item()), None) for t, n in zip(*data.x)])
    # as they are: (tokens, length) is the input, without a label
    rows = Rows([((np.array(t), n), -1) for (t, n), _ in rows])
    for given, more in ((data, dict(batch_size=8)),
                        (rows, dict(batch_size=8, stream=True)),
                        (list(Batches(data, 8)), {}), (DataLoader(data, 8), {})):
        history = train(model(), given, data, epochs=20, lr=1e-1, **more)
        assert history["neg_elbo"][-1] < history["neg_elbo"][0] - 1
    trained = model()
    train(trained, data, epochs=2, batch_size=8)
    everywhere = (data, Batches(data, 7), DataLoader(data, 24), rows)
    for given in everywhere:
        assert len(elbo(trained, given).values) == 24
        assert len(nll(trained, given, 3).values) == 24
        torch.testing.assert_close(
            per_example(lambda x: trained.encode(x).mean, trained, given),
            per_example(lambda x: trained.encode(x).mean, trained, data))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_wherever_it_comes_from(value):
    data = images()
    data.x[17, 0, 0, 0] = value
    everywhere = ((data, dict(batch_size=10)), (DataLoader(data, 10), {}),
                  (Rows(list(data)), dict(stream=True)))
    for given, more in everywhere:
        for model in (small(), small(likelihood="gaussian"), Toy()):
            with pytest.raises(DataError, match="holds NaN or infinity in 1"):
                train(model, given, **more)
            with pytest.raises(DataError, match="a batch of valid|valid holds"):
                train(model, images(), given, batch_size=10, **{
                    k: v for k, v in more.items() if k != "batch_size"})


class Toy(Trainable):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
    def losses(self, batch): return dict(loss=(self.w - batch[0].mean())**2)


def test_each_model_says_which_values_it_takes():
    codes = Examples(torch.full((4, 2, 2), 5))
    CodePrior(6, (2, 2)).check_examples(codes)
    for data, message in ((codes, "reaches from 5 to 5, and this model takes 0 to 4"),
                          (Examples(codes.x.byte()), "holds uint8.*int64")):
        with pytest.raises(DataError, match=message):
            CodePrior(5, (2, 2)).check_examples(data)
    assert len(train(CodePrior(6, (2, 2), 8, 1, 2), codes, batch_size=2)) == 2
    loud = Examples(torch.full((4, 1, 8, 8), 7.), torch.zeros(4).long())
    for model in (Classifier((1, 8, 8), 2), mlp_cvae((1, 8, 8)), mlp_vae((1, 8, 8)),
                  beta_tcvae((1, 8, 8), 2, dataset_size=4)):
        with pytest.raises(DataError, match="takes .*0 to 1"):
            model.check_examples(loud)
    with pytest.raises(DataError, match="this model computes in torch.float32"):
        train(small(), Examples(images().x.double()), batch_size=10)
    with pytest.raises(DataError, match="takes .*0 to 1"):
        Bernoulli().check(torch.tensor([[1.1]]), "x")
    Bernoulli().check(torch.tensor([[1 + 1e-7]]), "x")
    Gaussian().check(torch.tensor([[1e9]]), "x")


def test_measures_ask_the_likelihood_too():
    with pytest.raises(DataError, match="the data set reaches from"):
        nll(small(), Examples(images().x.round() * 2))


def test_the_watch_for_nan_names_what_the_likelihood_refuses():
    x = images().x
    assert "takes numbers from 0 to 1" in diagnose_nan(small(), (x - 3, None), [], .1)
    x[3] = math.nan
    assert "the batch holds NaN" in diagnose_nan(small(), (x, None), [], .1)
    words, _ = next(iter(Batches(texts(), 24)))
    assert "none of the usual" in diagnose_nan(Words(), (words, None), [], .1)
    assert diagnose_nan(Toy(), torch.ones(3, 1), [], .1)


# ---------------------------------------------------------------- loaders

def test_a_loader_and_a_list_train_as_examples_do():
    "Without shuffling, step by step: the same batches, the same losses."
    data = images()
    batches = Batches(data, 16)
    results = []
    # without a generator of its own, a loader takes a number from the global one
    for given in (batches, list(batches), DataLoader(data, 16, generator=numbers())):
        results.append(train(small(), given, data, lr=1e-2).rows)
    for rows in results[1:]:
        for a, b in zip(results[0], rows):
            assert a | dict(seconds=0) == pytest.approx(b | dict(seconds=0), rel=1e-5)


def test_a_dict_and_a_lone_tensor_are_batches():
    x = images().x
    for batch in (x, [x], (x, None), dict(image=x, label=torch.zeros(40).long(), id=x)):
        assert len(train(small(), [batch] * 3, [batch])) == 2
        assert evaluate(small(), [batch])["loss"] > 0


def test_what_belongs_to_examples_is_refused_for_batches():
    loader = DataLoader(images(), 10)
    for setting in (dict(batch_size=10), dict(binarize=True), dict(collate=list)):
        with pytest.raises(DataError, match=f"{list(setting)[0]} was given, and train "
                                            "is a DataLoader"):
            train(small(), loader, **setting)
    with pytest.raises(DataError, match="binarize was given, and valid is a Data"):
        train(small(), images(), loader, binarize=True)


class Changing(list):
    "One batch fewer than it says, from the second time on."
    times = 0
    def __iter__(self):
        self.times += 1
        return iter([self[0]] * (3 if self.times < 4 else 2))
    def __len__(self): return 3


class Once:
    def __init__(self): self.it = iter([(images().x, None)] * 2)
    def __len__(self): return 2
    def __iter__(self): return self.it


@pytest.mark.parametrize("given, message", [
    (lambda: (b for b in Batches(images(), 10)), "train is a generator.*list"),
    (lambda: iter([1]), "train is a list_iterator.*only once"),
    (lambda: Once(), "has a length of 2 but gave [01] batches this time"),
    (lambda: [], "train holds no batches"),
    (lambda: DataLoader(Rows([]), 2), "train holds no batches"),
    (lambda: Changing([(images().x, None)]), "a length of 3 but gave 2 batches"),
    (lambda: ["words", "more"], "a str, which has no rows"),
    (lambda: [("a", "b")], "a tuple of 2, which has no rows"),
    (lambda: [(torch.tensor(1.), None)], "no rows"),
    (lambda: [(images().x, None), images().x],
     r"batch 2 of train is a tensor \(40, 1, 6, 6\), unlike those before it"),
    (lambda: [dict(x=images().x), dict(x=images().x, z=images().x)],
     "batch 2 of train is a dict with x, z"),
    (lambda: [(images().x.byte(), None)], "got images as torch.uint8: give float32"),
    (lambda: [(images(side=5).x, None)], r"\(1, 5, 5\), and this model was built for"),
    (lambda: [(texts().x, None)], "cannot take examples.*tuple"),
    (lambda: [dict(a=images().x)], "a dict with a: this model takes x"),
    (lambda: Rows(list(images())), "is a Rows, and .* stream=True"),
    (lambda: (images().x, images().y), "is a tuple, and .* wrap tensors as Examples"),
    (lambda: images().x.numpy(), "is a ndarray.*from_arrays")])
def test_what_cannot_be_trained_on_is_refused_in_one_sentence(given, message):
    with pytest.raises(DataError, match=message) as e: train(small(), given(), epochs=3)
    assert "\n" not in str(e.value) and str(e.value).count(". ") == 0


def test_the_same_faults_are_refused_in_valid():
    for given, message in ((iter([1]), "valid is a list_iterator"),
                           ([], "valid holds no batches"),
                           (Rows(list(images())), "valid is a Rows.*stream=True"),
                           ([(images(side=5).x, None)], "valid holds examples of")):
        with pytest.raises(DataError, match=message):
            train(small(), images(), given, batch_size=10)


def test_no_batches_give_no_measure():
    for measure in (evaluate, elbo, posterior_mean_variance):
        with pytest.raises(DataError, match="no batches"): measure(small(), [])


@pytest.mark.parametrize("measure", [
    lambda m, d: per_example(lambda x: m.encode(x).mean, m, d),
    lambda m, d: torch.tensor(evaluate(m, d, seed=0)["kl"]),
    posterior_mean_variance])
def test_measures_take_examples_batches_loaders_data_sets_and_dicts(measure):
    data, model = images(), small()
    results = [measure(model, given) for given in (
        data, Batches(data, 40), DataLoader(data, 40), Rows(list(data)),
        [dict(image=data.x, label=data.y)], (b for b in Batches(data, 40)))]
    for other in results[1:]: torch.testing.assert_close(other, results[0])


# ---------------------------------------------------------------- checkpoints, NaN

class Ends(Callback):
    "A power cut after so many epochs."
    def __init__(self, epochs): self.epochs = epochs
    def on_epoch(self, run):
        if len(run.history) == self.epochs: raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["global", "own generator", "own sampler", "batches"])
def test_a_run_on_a_loader_is_gone_on_with_exactly(kind, tmp_path):
    def loader():
        data = images()
        if kind == "batches": return Batches(data, 16, True, generator=numbers(3))
        if kind == "own sampler":
            sampler = torch.utils.data.RandomSampler(data, generator=numbers(3))
            return DataLoader(data, 16, sampler=sampler)
        own = numbers(3) if kind == "own generator" else None
        return DataLoader(data, 16, shuffle=True, generator=own)
    whole = small()
    one = train(whole, loader(), epochs=4)
    settings = dict(epochs=4, checkpoint=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(small(), loader(), callbacks=[Ends(2)], **settings)
    again = small()
    two = train(again, loader(), **settings)
    assert one["loss"] == two["loss"]
    for a, b in zip(whole.parameters(), again.parameters()): assert torch.equal(a, b)
    for other in (DataLoader(images(seed=1), 16), Batches(images(seed=1), 16)):
        with pytest.raises(RuntimeError, match="train.content|train.kind"):
            train(small(), other, **settings)


@pytest.mark.parametrize("where", ["loader", "sampler"])
def test_a_look_at_the_first_batch_moves_no_order(where):
    def given():
        data = Examples(torch.rand(40, 1), torch.arange(40))
        own = numbers(3)
        if where == "loader":
            return GivenBatches(DataLoader(data, 8, shuffle=True, generator=own))
        sampler = torch.utils.data.RandomSampler(data, generator=own)
        return GivenBatches(DataLoader(data, 8, sampler=sampler))
    def order(batches): return torch.cat([y for _, y in batches]).tolist()
    looked_at = given()
    first = looked_at.first()[1].tolist()
    assert order(looked_at) == order(given()) and order(given())[:8] == first


def test_fingerprints_tell_data_apart_and_leave_no_trace():
    data, other = images(), images(seed=1)
    def all_of(d):
        return [d, Batches(d, 8), MixedBatches(d, d, (4, 4)), DataLoader(d, 8),
                list(Batches(d, 8)), Rows(list(d)), Examples((d.x, d.x)),
                DataLoader(Rows([dict(x=x, y=y) for x, y in d]), 8)]
    state = torch.get_rng_state()
    for a, b, again in zip(*map(all_of, (data, other, images()))):
        assert fingerprint(a) == fingerprint(again) != fingerprint(b), a
        json.dumps(fingerprint(a))
    assert torch.equal(state, torch.get_rng_state())


def test_a_fingerprint_tells_other_labels_and_another_last_batch_apart():
    data = images()
    other = Examples(data.x, (data.y + 1) % 10)
    last = [*list(Batches(data, 8))[:-1], list(Batches(images(seed=1), 8))[-1]]
    for make in (lambda d: d, lambda d: Batches(d, 8), lambda d: list(Batches(d, 8)),
                 lambda d: MixedBatches(d, data, (4, 4)),
                 lambda d: MixedBatches(data, d, (4, 4)), lambda d: Rows(list(d))):
        assert fingerprint(make(data)) != fingerprint(make(other))
    assert fingerprint(list(Batches(data, 8))) != fingerprint(last)


class TurnsBad(Toy):
    "NaN at the seventh step of its life."
    seen = 0
    def losses(self, batch):
        self.seen += self.training
        loss = super().losses(batch)["loss"]
        return dict(loss=loss / 0 * 0 if self.training and self.seen == 7 else loss)


def test_a_cause_that_is_not_met_again_is_said_to_be_unknown():
    message = ("at step 3 of 4 in epoch 2. Likely cause: not found, for the epoch was "
               "repeated and all went well")
    with pytest.raises(NonFiniteLoss, match=message):
        train(TurnsBad(), DataLoader(images(), 10, shuffle=True))


def test_a_bad_batch_of_a_loader_is_found_again():
    class Breaks(Toy):
        def losses(self, batch):
            if (batch[1] == 33).any(): return dict(loss=self.w / 0)
            return super().losses(batch)
    data = Examples(images().x, torch.arange(40))
    message = "`loss` became .* of 4 in epoch 1. Likely cause: none of the usual"
    with pytest.raises(NonFiniteLoss, match=message):
        train(Breaks(), DataLoader(data, 10, shuffle=True))


def test_the_size_of_the_data_set_counts_for_a_loader_too():
    def model(n): return beta_tcvae((1, 6, 6), 2, dataset_size=n, hidden=(8,))
    with pytest.raises(DataError, match="train holds 40 examples and this model was"):
        train(model(30), DataLoader(images(), 10))
    assert len(train(model(40), DataLoader(images(), 10))) == 2
    assert len(train(model(40), list(Batches(images(), 10)))) == 2


def test_loaders_train_compiled():
    data = Examples((images().x, images().x), images().y)
    class First(Toy):
        def losses(self, batch): return super().losses(batch[0])
    history = train(First(), DataLoader(data, 10), compile=True)
    eager = train(First(), DataLoader(data, 10))
    assert history["loss"] == pytest.approx(eager["loss"], rel=1e-4)


# ---------------------------------------------------------------- data sets of rows

def picture(value): return Image.new("L", (6, 6), value)


ROWS = {
    "pairs": [(picture(10 * i), i % 3) for i in range(12)],
    "pictures": [picture(10 * i) for i in range(12)],
    "dicts": [dict(image=picture(10 * i), label=i % 3) for i in range(12)],
    "arrays": [dict(image=np.full((6, 6), 10 * i, np.uint8), label=i % 3)
               for i in range(12)],
    "floats": [dict(x=np.full((1, 6, 6), 10 * i / 255), y=None) for i in range(12)],
    "lists": [dict(x=[[[10 * i / 255] * 6] * 6], y=i % 3, weight=1) for i in range(12)]}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_set_of_any_rows_is_streamed(kind, workers):
    if workers and kind != "dicts": return
    rows = Rows(ROWS[kind])
    x = torch.arange(12.)[:, None, None, None].expand(12, 1, 6, 6) * 10 / 255
    found = [small().inputs(batch)[0] for batch in Stream(rows, 5, workers=workers)]
    torch.testing.assert_close(torch.cat(found), x)
    history = train(small(), rows, rows, batch_size=5, stream=True, workers=workers)
    expected = train(small(), rows, Examples(x), batch_size=5, stream=True,
                     workers=workers)
    assert history["valid_kl"] == pytest.approx(expected["valid_kl"], rel=1e-5)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["pairs", "dicts"])
def test_the_pixels_of_streams_are_drawn(kind):
    batch = next(iter(Stream(Rows(ROWS[kind]), 12, binarize=True)))
    x, _ = small().inputs(batch)
    assert x.unique().tolist() == [0, 1]
    history = train(small(), Rows(ROWS[kind]), Rows(ROWS[kind]), batch_size=4,
                    stream=True, binarize=True, lr=1e-9)
    # drawn anew to learn from; to watch, the same in each epoch
    assert history["loss"][0] != history["loss"][1]
    assert history["valid_loss" if history["valid_loss"] else "valid_neg_elbo"][0] == (
        pytest.approx(history["valid_neg_elbo"][1], rel=1e-6))


def lists(*lengths): return Rows([dict(input_ids=[1] * n, label=0) for n in lengths])


@pytest.mark.parametrize("rows, message", [
    (lists(3, 5), r"column 'input_ids': got rows of shape \(3,\) and \(5,\).*pad them "
                  "to one length.*`collate`"),
    (Rows([[1, 2, 3], [1, 2]]), r"rows of shape \(3,\) and \(2,\).*`collate`"),
    (Rows([dict(x=[1.], text="cat")] * 2), r"column 'text'.*remove_columns\('text'\)"),
    (Rows([dict(x=[1.], more=None)] * 2), "column 'more'.*leave"),
    (Rows([dict(x=[1.]), dict(y=1)]), "rows with x, and others with something else"),
    (Rows([((np.ones(2), 1), 0), (np.ones(2), 0)]), "the same parts for each example"),
    (Rows([dict(image=picture(1)), dict(image=Image.new("L", (6, 5)))]), "one size")])
def test_rows_that_make_no_batch_are_refused_in_one_sentence(rows, message):
    with pytest.raises(DataError, match=message) as e: next(iter(Stream(rows, 2)))
    assert "\n" not in str(e.value)


def padded(rows):
    tokens = [torch.tensor(row["input_ids"]) for row in rows]
    return ((nn.utils.rnn.pad_sequence(tokens, batch_first=True),
             torch.tensor([len(t) for t in tokens])), None)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_collate_pads_rows_of_several_lengths(workers, tmp_path):
    rows = lists(3, 5, 2, 4, 1, 5, 2)
    settings = dict(batch_size=2, stream=True, collate=padded, workers=workers,
                    checkpoint=tmp_path / "run")
    history = train(Words(), rows, rows, **settings)
    assert len(history) == 2 and len(train(Words(), rows, rows, **settings)) == 2
    with pytest.raises(RuntimeError, match="train.content was"):
        train(Words(), lists(3, 5, 2, 4, 1, 5, 1), rows, **settings)


def test_whole_numbers_and_floats_of_rows_are_themselves():
    x, y = as_batch([([5, 7], 1), ([700, 0], 2)])
    assert x.dtype == torch.int64 and x.tolist() == [[5, 7], [700, 0]]
    x, y = as_batch([(np.array([-9., .5]), 1)] * 2)
    assert x.dtype == torch.float32 and x.tolist() == [[-9, .5]] * 2
    (a, b), y = as_batch([((np.zeros((1, 2, 2), np.uint8), 3), None)] * 2)
    assert a.dtype == torch.uint8 and b.tolist() == [3, 3] and y.tolist() == [-1, -1]


# ---------------------------------------------------------------- Hugging Face

@pytest.fixture(scope="module")
def hub():
    import datasets
    return datasets


def test_pictures_of_hugging_face_train(hub):
    columns = dict(image=[picture(10 * i) for i in range(12)],
                   label=[i % 3 for i in range(12)])
    features = hub.Features(image=hub.Image(), label=hub.ClassLabel(num_classes=3))
    data = hub.Dataset.from_dict(columns, features=features)
    history = train(small(), data, data, batch_size=5, stream=True)
    expected = train(small(), Rows(ROWS["pairs"]), Rows(ROWS["pairs"]), batch_size=5,
                     stream=True)
    assert history["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert history["valid_kl"] == pytest.approx(expected["valid_kl"], rel=1e-5)
    conditional = mlp_cvae((1, 6, 6), latent_dim=2, hidden=(8,),
                           condition=dict(labels=3))
    assert len(train(conditional, data, data, batch_size=5, stream=True)) == 2
    x, _ = small().inputs(next(iter(Stream(data, 12))))
    torch.testing.assert_close(per_example(lambda x: x, small(), data).float(), x)
    with pytest.raises(DataError, match="train is a Dataset.*stream=True"):
        train(small(), data)
    parts = hub.DatasetDict(train=data, test=data)
    for stream in (False, True):
        with pytest.raises(DataError, match=r"a DatasetDict.* give data\['train'\]"):
            train(small(), parts, stream=stream)
        with pytest.raises(DataError, match="DataLoader with a|a data set with a"):
            train(small(), data.to_iterable_dataset(), stream=stream)


@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_tables_and_words_of_hugging_face_train(hub, form):
    rows = torch.randn(12, 1, 36, generator=numbers()).tolist()
    data = hub.Dataset.from_dict(dict(x=rows, label=list(range(12)))).with_format(form)
    model = mlp_vae((1, 36), latent_dim=2, hidden=(8,), likelihood="gaussian")
    assert len(train(model, data, data, batch_size=5, stream=True)) == 2
    words = hub.Dataset.from_dict(dict(input_ids=[[1, 2], [3], [4, 5, 6]])).with_format(
        form)
    with pytest.raises(DataError, match="column 'input_ids'.*pad them"):
        train(Words(), words, batch_size=2, stream=True)
    def collate(rows): return padded([dict(input_ids=list(map(int, r["input_ids"])))
                                      for r in rows])
    assert len(train(Words(), words, words, batch_size=2, stream=True,
                     collate=collate)) == 2
    loader = DataLoader(words, 2, collate_fn=collate, shuffle=True)
    assert len(train(Words(), loader, loader)) == 2


# ---------------------------------------------------------------- labelled beside
# unlabelled

def labelled_and_not():
    x = torch.rand(40, 1, 6, 6, generator=numbers())
    return Examples(x[:6], torch.arange(6) % 2), Examples(x[6:])


def test_mixed_batches_are_full_and_the_smaller_part_begins_anew():
    few, many = labelled_and_not()
    few, many = Examples(few.x, torch.arange(6)), Examples(many.x, torch.arange(34))
    batches = MixedBatches(few, many, (4, 12))
    assert len(batches) == 3 and batches.size(0) == 16
    seen = [list(batches) for _ in range(2)]
    for epoch in seen:
        assert [tuple(len(y) for _, y in batch) for batch in epoch] == [(4, 12)] * 3
        y, u = (torch.cat([b[i][1] for b in epoch]) for i in (0, 1))
        assert sorted(y[:6].tolist()) == sorted(y[6:].tolist()) == list(range(6))
        assert y[:6].tolist() != y[6:].tolist()
        # every one of the larger part, and two of them again
        assert sorted(u[:34].tolist()) == list(range(34)) and len(u) == 36
    assert not torch.equal(seen[0][0].unlabelled[1], seen[1][0].unlabelled[1])
    assert isinstance(seen[0][0], MixedBatch) and examples_in(seen[0][0]) == 16
    assert len(MixedBatches(many, few, (2, 3))) == 17
    # also where one batch wants more than there are
    assert [len(b[0][1]) for b in MixedBatches(few[:2], many, (5, 17))] == [5, 5]


@pytest.mark.parametrize("sizes, processes, message", [
    ((3, 12), 2, "an equal share"), ((4, 12), 3, "for 3 processes"),
    ((0, 4), 1, "least"), ((4.0, 4), 1, "whole numbers"), ((4, 4, 4), 1, "two")])
def test_mixed_batches_that_cannot_be_dealt_are_refused(sizes, processes, message):
    few, many = labelled_and_not()
    with pytest.raises(DataError, match=message):
        MixedBatches(few, many, sizes, shard=(0, processes))
    with pytest.raises(DataError, match="a Tensor as one of the parts"):
        MixedBatches(few.x, many)


def test_mixed_batches_are_dealt_part_by_part():
    few, many = labelled_and_not()
    whole, *parts = (list(MixedBatches(few, many, (4, 12), binarize=True, shard=shard,
                                       generator=numbers(2)))
                     for shard in ((0, 1), (0, 2), (1, 2)))
    for one, a, b in zip(whole, *parts):
        for i in (0, 1):
            assert len(a[i][0]) == len(b[i][0]) == len(one[i][0]) / 2
            for j in (0, 1):
                assert torch.equal(torch.cat([a[i][j], b[i][j]]), one[i][j])


def test_the_pixels_of_both_parts_are_drawn_anew_in_every_epoch():
    few, many = (Examples(torch.full((40, 36), .3), torch.zeros(40).long())
                 for _ in range(2))
    mixed = MixedBatches(few, many, (10, 10), binarize=True, generator=numbers())
    epochs = [[torch.cat([batch[i][0] for batch in mixed]) for i in (0, 1)]
              for _ in range(2)]
    for first, second in zip(*epochs):
        assert set(first.unique().tolist()) == {0, 1} and not first.equal(second)
        # 1440 pixels, five standard errors
        assert first.mean().item() == pytest.approx(.3, abs=.06)


def test_each_part_is_averaged_over_its_own_size():
    "A model of two means: a part with three times the examples counts the same."
    class Two(Toy):
        def losses(self, batch):
            (x, _), (u, _) = batch
            return dict(loss=self.w**2, few=x.mean(), many=u.mean())
    few, many = Examples(torch.ones(4, 1)), Examples(torch.arange(24.)[:, None])
    history = train(Two(), MixedBatches(few, many, (4, 12)))
    assert history["few"] == [1, 1] and history["many"] == [11.5, 11.5]


def test_labelled_beside_unlabelled_trains_and_is_gone_on_with(tmp_path):
    few, many = labelled_and_not()
    def run(**more):
        torch.manual_seed(0)
        model = made(SemiSupervised)
        mixed = MixedBatches(few, many, (4, 12), binarize=True)
        watched = MixedBatches(few, many, (6, 34), shuffle=False)
        return train(model, mixed, watched, epochs=8, lr=1e-2, **more)
    whole = run()
    assert whole["loss"][-1] < whole["loss"][0] and whole["valid_error"]
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "run", callbacks=[Ends(3)])
    assert run(checkpoint=tmp_path / "run")["loss"] == whole["loss"]
    few.x[0] = 7
    with pytest.raises(DataError, match="the labelled part of train reaches"): run()


# ---------------------------------------------------------------- several processes

def test_loaders_of_one_of_several_processes(monkeypatch):
    several_processes(monkeypatch, 0, 2)
    message = "train is a DataLoader that gives all .* of 2 .*DistributedSampler"
    with pytest.raises(DataError, match=message):
        train(small(), DataLoader(images(), 4))
    dealt = DataLoader(images(), 4, sampler=DistributedSampler(images(), 2, 0))
    many = DataLoader(images(), 4, sampler=DistributedSampler(images(), 4, 0))
    with pytest.raises(DataError, match="among 4 processes, but 2 train here"):
        train(small(), many)
    with pytest.raises(DataError, match="valid is a DataLoader that deals.*leave out"):
        train(small(), images(), dealt, batch_size=4)
    with pytest.raises(DataError, match="an equal share"):
        train(made(SemiSupervised), MixedBatches(*labelled_and_not(), (3, 12)))


IN_EACH = """
import sys, torch, json
from torch.utils.data import DataLoader, DistributedSampler
sys.path.insert(0, sys.argv[1])
rank, meeting = int(sys.argv[2]), sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank,
                                     world_size=2)
from test_batches import *
from vae_course.distributed import leave_processes
data, said = images(), []
def refused(*given, **more):
    try: train(small(), *given, **more)
    except DataError as e: said.append(str(e))
refused(DataLoader(data, 4))
class Own(list):
    def set_epoch(self, epoch): said.append(epoch)
refused(Own(list(Batches(data, 4))[:5 + rank]))
sampler = DistributedSampler(data, 2, rank, seed=3)
orders = []
class Seen(Callback):
    def on_epoch(self, run): orders.append(list(sampler))
model = small()
history = train(model, DataLoader(data, 4, sampler=sampler), DataLoader(data, 40),
                callbacks=[Seen()])
mixed = train(made(SemiSupervised), MixedBatches(*labelled_and_not(), (4, 12)))
own = Own([(data.x[:3 + rank], None)] * 3)        # 3 examples here, and 4 there
class Mean(Toy):
    def losses(self, batch):
        return dict(loss=self.w * (rank + 1), rank=self.w * 0 + rank)
unequal = Mean()
unequal.optimizers = lambda: torch.optim.SGD(unequal.parameters(), lr=1.0)
terms = train(unequal, own, epochs=1)
weights = [p.sum().item() for p in model.parameters()]
rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in h.rows]
        for h in (history, mixed)]
print(json.dumps(dict(said=said, orders=orders, rows=rows, weights=weights,
                      mean=terms["rank"], w=unequal.w.item())))
leave_processes()
"""


@pytest.mark.processes
def test_two_processes_train_on_loaders_of_their_own(tmp_path):
    env = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=f"{here.parent}")
    every = [subprocess.Popen(
        [sys.executable, "-c", IN_EACH, str(here), str(i), str(tmp_path / "meeting")],
        env=env, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in (0, 1)]
    try: outputs = [process.communicate(timeout=300) for process in every]
    finally:
        for process in every: process.kill()
    assert not any(p.returncode for p in every), "".join(e[-3000:] for _, e in outputs)
    a, b = (json.loads(out.splitlines()[-1]) for out, _ in outputs)
    assert "DistributedSampler" in a["said"][0]
    assert "train has 5 and 6 batches in the 2 processes" in a["said"][1]
    assert a["rows"] == b["rows"] and a["weights"] == pytest.approx(b["weights"])
    for first, second in zip(a["orders"], b["orders"], strict=True):
        assert sorted(first + second) == list(range(40))
    assert a["orders"][0] != a["orders"][1]
    # weighted by 3 and 4 examples
    assert a["mean"] == b["mean"] == pytest.approx([4 / 7])
    assert a["w"] == b["w"] == pytest.approx(-3 * (3 * 1 + 4 * 2) / 7)
