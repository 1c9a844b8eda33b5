"""Tables: what a DataFrame becomes, what is refused, what a gap costs and what an
encoder sees of it, and what is filled in, against what is known exactly."""
import ast
import datetime
import json
import math
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import scipy.stats as st
import torch

from vae_course.data import Batches, DataError, Examples
from vae_course.elbo import conv_vae, mlp_vae
from vae_course.evaluation import elbo, interval_coverage, nll, reliability
from vae_course.imputation import impute
from vae_course.step import train_epoch
from vae_course.tables import (
    TableData, TableInput, TableLikelihood, describe_column, from_table)
from vae_course.training import load_model, save_model

root = Path(__file__).resolve().parent.parent


def people(n=120, share=0.2, seed=0):
    "A table with a column of every kind, and gaps."
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 12, n)
    whole = pd.DataFrame(dict(
        age=age, children=rng.poisson(2, n),
        town=rng.choice(["Graz", "Linz", "Wels"], n),
        member=age + rng.normal(0, 5, n) > 40, height=rng.normal(1.7, 0.1, n)))
    whole["grade"] = pd.Categorical(rng.integers(1, 4, n), [1, 2, 3, 4])
    return whole, whole.mask(rng.random(whole.shape) < share)


@pytest.fixture(scope="module")
def gappy(): return people()[1]


@pytest.fixture(scope="module")
def data(gappy): return from_table(gappy)


def small(data, seed=0, **settings):
    torch.manual_seed(seed)
    return mlp_vae(data.data_shape, 2, (16,), data.likelihood, **settings)


# ---------------------------------------------------------------- what it becomes

def test_columns_get_their_kinds_and_gaps_stay_gaps(gappy, data):
    kinds = [c["kind"] for c in data.likelihood["columns"]]
    assert kinds == ["number", "number", "category", "boolean", "number", "category"]
    assert data.likelihood["columns"][2]["values"] == ["Graz", "Linz", "Wels"]
    assert data.likelihood["columns"][5]["values"] == [1, 2, 3, 4]     # as declared
    assert isinstance(data, TableData) and data.data_shape == (6,)
    assert [len(p) for p in (data.train, data.valid, data.test)] == [84, 12, 24]
    gaps = sum(p.x.isnan().sum(0) for p in (data.train, data.valid, data.test))
    assert gaps.tolist() == gappy.isna().sum().tolist()
    assert data.train.x.dtype == torch.float32
    assert json.loads(json.dumps(data.likelihood)) == data.likelihood


def test_a_table_comes_back_as_it_went_in(gappy, data):
    likelihood = TableLikelihood(data.likelihood["columns"])
    back = likelihood.to_frame(likelihood.to_tensor(gappy), gappy.index)
    assert (back.isna() == gappy.isna()).all().all()
    for name in gappy:
        known = gappy[name].notna()
        a, b = back[name][known].tolist(), gappy[name][known].tolist()
        assert (np.allclose(a, b, rtol=1e-6) if name in ("age", "children", "height")
                else a == b)


@pytest.mark.parametrize("values, kind", [
    ([1, 2, None], "number"), (pd.array([1, 2, None], dtype="Int64"), "number"),
    (np.array([1, 2, 3], dtype="float32"), "number"), ([2, 3.5, None], "number"),
    (pd.array([1, None, 2.5], dtype="Float32"), "number"),
    (np.array([1, 2.5, None], dtype=object), "number"),
    ([True, False, None], "boolean"), (np.array([True, False]), "boolean"),
    (pd.array([True, None, False], dtype="boolean"), "boolean"),
    (["a", "b", None], "category"), (pd.array(["a", "b"], dtype="string"), "category"),
    (pd.Categorical([3, 7, None]), "category")])
def test_every_way_to_hold_numbers_booleans_and_words(values, kind):
    column = pd.Series(values)
    found = describe_column("c", column)
    assert found["kind"] == kind
    table = TableLikelihood([found])
    x = table.to_tensor(column.to_frame("c"))
    assert x.isnan()[:, 0].tolist() == column.isna().tolist()
    table.check(x)
    back = table.to_frame(x)["c"]
    known = column.notna()
    a, b = back[known].astype(object).tolist(), column[known].tolist()
    assert np.allclose(a, b) if kind == "number" else a == b


def test_statistics_are_those_of_the_training_part_alone(gappy, data):
    order = torch.randperm(len(gappy), generator=torch.Generator().manual_seed(0))
    aside, changed = order[:36].numpy(), gappy.copy()      # test, and then valid
    changed.iloc[aside, 0] = 1e6
    again = from_table(changed)
    assert again.likelihood == data.likelihood
    assert torch.equal(again.train.x.nan_to_num(9), data.train.x.nan_to_num(9))
    assert again.test.x[:, 0].min() > 1e4
    for i in (0, 1, 4):
        known = data.train.x[:, i][~data.train.x[:, i].isnan()].double()
        assert abs(known.mean()) < 1e-6 and abs(known.std(correction=0) - 1) < 1e-5


def test_the_seed_and_the_shares_decide_who_is_where(gappy):
    a, b, c = (from_table(gappy, seed=s) for s in (1, 1, 2))
    assert torch.equal(a.test.x.nan_to_num(), b.test.x.nan_to_num())
    assert not torch.equal(a.test.x.nan_to_num(), c.test.x.nan_to_num())
    halves = from_table(gappy, test_share=0.25, valid_share=0.25)
    assert [len(p) for p in (halves.train, halves.valid, halves.test)] == [60, 30, 30]


# ---------------------------------------------------------------- what is refused

def with_column(values, n=40):
    frame = pd.DataFrame(dict(x=np.arange(float(n))))
    frame["c"] = values if not callable(values) else [values(i) for i in range(n)]
    return frame


@pytest.mark.parametrize("make, words", [
    (lambda: [[1, 2]], "got a list: give a pandas DataFrame"),
    (lambda: pd.DataFrame(), "got a table of 0 rows and 0 columns"),
    (lambda: pd.DataFrame(np.ones((5, 2))), "a column called 0: make names strings"),
    (lambda: pd.DataFrame(np.ones((5, 2)), columns=["a", "a"]),
     "two columns called 'a'"),
    (lambda: with_column(math.nan), "column 'c' holds nothing but gaps in the trai"),
    (lambda: with_column(None), "column 'c' holds nothing but gaps"),
    (lambda: with_column(pd.date_range("2026-01-01", periods=40)),
     r"column 'c' holds Timestamp.*turn times into numbers"),
    (lambda: with_column(pd.to_timedelta(range(40), unit="h")), "turn times into num"),
    (lambda: with_column(lambda i: datetime.date(2026, 1, 1 + i % 9)), "turn times in"),
    (lambda: with_column(4.0), "column 'c' is 4.0 wherever it is known in the training "
                               "part: leave out what never varies"),
    (lambda: with_column("a"), "column 'c' is 'a' wherever"),
    (lambda: with_column(True), "column 'c' is True wherever"),
    (lambda: with_column(lambda i: i % 3 or math.inf), "column 'c' holds infinity in "
                                                       "row .*: make it a gap"),
    (lambda: with_column(lambda i: ["a", 1][i % 2]), r"several types \('a', 1\)|"
                                                     r"several types \(1, 'a'\)"),
    (lambda: with_column(lambda i: [True, 1.5][i % 2]), "several types"),
    (lambda: with_column(lambda i: (1, 2)), r"column 'c' holds \(1, 2\) \(tuple\)"),
    (lambda: with_column(lambda i: 1j * i), "column 'c' holds .*complex"),
    (lambda: with_column(lambda i: f"person {i}"), "categories in 28 rows: leave out "
                                                   "names, or group them"),
    (lambda: with_column(lambda i: 1e308 * (-1)**i), "too little or too much"),
    (lambda: with_column(pd.Categorical(pd.date_range("2026", periods=40).repeat(20)[
        :40])), "has categories such as .*: give words or numbers"),
    (lambda: people(3)[1], "cannot set aside shares of 0.2 and 0.1 of 3 rows")])
def test_what_cannot_be_a_table_is_refused_in_one_sentence(make, words):
    with pytest.raises(DataError, match=words) as e: from_table(make())
    assert "\n" not in str(e.value) and ". " not in str(e.value)


def shuffled(frame): return frame[frame.columns[::-1]]


@pytest.mark.parametrize("change, words", [
    (lambda f: f.assign(town="Rom"), "column 'town' of this table holds 'Rom', but in "
                                     "the training part it held 'Graz', 'Linz', 'We"),
    (lambda f: f.assign(grade=7), "column 'grade' of this table holds 7"),
    (lambda f: f.assign(age="old"), "column 'age' .* held numbers: pd.to_numeric tu"),
    (lambda f: f.assign(age=True), "column 'age' of this table holds True"),
    (lambda f: f.assign(age=-math.inf), "column 'age' holds infinity in row 0"),
    (lambda f: f.assign(member=2), "column 'member' .* it held truth values"),
    (lambda f: f.assign(age=pd.Timestamp("2026-01-01")), "column 'age' of this table "
                                                         "holds"),
    (shuffled, "this table has another column order: give the columns that were "
               r"trained on, in their order, as frame\[model.likelihood.names\] does"),
    (lambda f: f.drop(columns="age"), "this table lacks 'age': give the columns"),
    (lambda f: f.assign(shoes=3), "this table also has 'shoes': give the columns"),
    (lambda f: f.rename(columns=dict(age="Age")), "lacks 'age' and also has 'Age'"),
    (lambda f: f.to_numpy(), "got a ndarray: give a pandas DataFrame"),
    (lambda f: f[:0], "got a table of 0 rows")])
def test_another_table_than_trained_on_is_refused_in_one_sentence(
        gappy, data, change, words):
    likelihood = TableLikelihood(data.likelihood["columns"])
    with pytest.raises(DataError, match=words) as e:
        likelihood.to_tensor(change(gappy.copy()))
    assert "\n" not in str(e.value) and ". " not in str(e.value)
    with pytest.raises(DataError, match=words):
        impute(small(data), change(gappy.copy()))


def test_a_category_of_the_test_part_alone_is_said_to_be_there(gappy):
    order = torch.randperm(len(gappy), generator=torch.Generator().manual_seed(0))
    frame = gappy.copy()
    frame.iloc[order[3].item(), 2] = "Rom"
    with pytest.raises(DataError, match="column 'town' of the test part holds 'Rom'.*"
                                        "CategoricalDtype"): from_table(frame)
    declared = pd.CategoricalDtype(["Graz", "Linz", "Wels", "Rom"])
    data = from_table(frame.assign(town=frame["town"].astype(declared)))
    assert data.test.x[3, 2] == 3


@pytest.mark.parametrize("i, value, words", [
    (0, math.inf, "train holds inf in the column 'age', which takes finite numbers"),
    (2, 3.0, "holds 3 in the column 'town', which takes whole numbers from 0 to 2"),
    (2, 0.5, "holds 0.5 in the column 'town'"), (3, 2.0, "holds 2 in the column 'memb"),
    (3, -1.0, "which takes whole numbers from 0 to 1, or NaN for gaps")])
def test_tensors_are_checked_column_by_column(data, i, value, words):
    likelihood = TableLikelihood(data.likelihood["columns"])
    x = data.train.x.clone()
    likelihood.check(x, "train")
    x[7, i] = value
    with pytest.raises(DataError, match=words): likelihood.check(x, "train")
    for other in (x.byte(), x[:, :3]):
        with pytest.raises(DataError, match="give float32 rows of 6 columns"):
            likelihood.check(other, "train")


def test_without_pandas_one_sentence_says_how_to_get_it(monkeypatch, data):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for ask in (lambda: from_table([1]),
                lambda: TableLikelihood(data.likelihood["columns"]).to_frame(
                    data.test.x)):
        with pytest.raises(ImportError, match=r'^tables need pandas, which is not '
                                              r'installed: pip install "vae_course\[t'):
            ask()
    settings = (root / "settings.ini").read_text(encoding="utf-8")
    assert "table_requirements = pandas>=" in settings
    assert '"table": table' in (root / "setup.py").read_text(encoding="utf-8")


def test_models_that_no_table_fits_are_refused(data):
    with pytest.raises(ValueError, match=r"a table of 6 columns has \(6,\)"):
        mlp_vae((7,), likelihood=data.likelihood)
    with pytest.raises(ValueError, match="convolutions need"):
        conv_vae((6,), likelihood=data.likelihood)
    with pytest.raises(ValueError, match="needs 'columns'"): mlp_vae(likelihood="table")
    for columns, floor in (([], 0.05), (data.likelihood["columns"], 0)):
        with pytest.raises(ValueError, match="give one column at least, and a posit"):
            TableLikelihood(columns, floor)
    with pytest.raises(ValueError, match="a Bernoulli likelihood: give one built with"):
        impute(mlp_vae((6,), 2, (4,)), people()[1])


# ---------------------------------------------------------------- what a gap costs

def test_log_p_is_that_of_each_column(data):
    likelihood = TableLikelihood(data.likelihood["columns"]).double()
    with torch.no_grad(): likelihood.raw.copy_(torch.tensor([0.1, -1.0, 2.0]))
    out, sigma = torch.randn(5, 11, dtype=torch.double), likelihood.sigma.detach()
    x = torch.tensor([0.3, -1.0, 2.0, 1.0, 0.7, 3.0]).double()
    ours = likelihood(out).log_prob(x).detach().numpy()
    o = out.numpy()
    def softmax(a): return np.exp(a) / np.exp(a).sum(-1, keepdims=True)
    expected = [st.norm.logpdf(0.3, o[:, 0], sigma[0]),
                st.norm.logpdf(-1, o[:, 1], sigma[1]), np.log(softmax(o[:, 2:5])[:, 2]),
                st.bernoulli.logpmf(1, 1 / (1 + np.exp(-o[:, 5]))),
                st.norm.logpdf(0.7, o[:, 6], sigma[2]),
                np.log(softmax(o[:, 7:])[:, 3])]
    assert likelihood.output_shape((6,)) == (11,)
    assert np.allclose(ours, np.stack(expected, 1), atol=1e-6)


def test_a_gap_costs_nothing_whatever_it_hides(data):
    likelihood = TableLikelihood(data.likelihood["columns"])
    out = torch.randn(84, 11, requires_grad=True)
    each = likelihood(out).log_prob(data.train.x)
    gap = data.train.x.isnan()
    assert (each[gap] == 0).all() and (each[~gap] != 0).all() and each.isfinite().all()
    each.sum().backward()
    assert out.grad.isfinite().all()
    column = gap[:, 0]
    assert (out.grad[column, 0] == 0).all() and (out.grad[~column, 0] != 0).all()
    assert likelihood.raw.grad.isfinite().all()


def test_each_column_is_normalised(data):
    likelihood = TableLikelihood(data.likelihood["columns"])
    out = torch.randn(4, 11)
    for i, k in ((2, 3), (3, 2), (5, 4)):
        x = torch.full((k, 1, 6), math.nan)
        x[:, 0, i] = torch.arange(float(k))
        assert torch.allclose(likelihood(out).log_prob(x)[..., i].exp().sum(0),
                              torch.ones(4))
    grid = torch.linspace(-40, 40, 40_001)
    x = torch.full((len(grid), 1, 6), math.nan)
    x[:, 0, 4] = grid
    density = likelihood(out).log_prob(x)[..., 4].exp()
    assert torch.allclose(torch.trapezoid(density, grid, dim=0), torch.ones(4))


def test_an_encoder_sees_what_is_there_and_where_nothing_is():
    front = TableInput([1, 3, 1])
    x = torch.tensor([[2.0, 1.0, 0.0], [math.nan, math.nan, math.nan]])
    assert front(x).tolist() == [[2, 0, 0, 0, 0, 0, 1, 0], [0, 0, 1, 1, 1, 0, 0, 0]]
    assert front.width == 8 and front(x).isfinite().all()
    zero = torch.tensor([[0.0, 1.0, 0.0]])
    assert not torch.equal(front(zero), front(zero.masked_fill(zero == 0, math.nan)))


def test_sizes_that_a_decoder_might_give_leave_no_nan(data):
    likelihood = TableLikelihood(data.likelihood["columns"])
    for size in (0.0, 1e5, -1e5):
        out = torch.full((84, 11), size, requires_grad=True)
        likelihood(out).log_prob(data.train.x).sum().backward()
        assert out.grad.isfinite().all() and likelihood.raw.grad.isfinite().all()


def test_it_trains_with_gaps_and_in_half_precision_and_is_measured(data):
    model = small(data)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    batches = Batches(data.train, 28)
    losses = [train_epoch(model, batches, optimizer)["loss"] for _ in range(30)]
    first, last = losses[0], losses[-1]
    assert math.isfinite(last) and last < first - 0.5
    with torch.autocast("cpu", torch.bfloat16):
        assert all(t.dtype == torch.float32 and t.isfinite()
                   for t in model.losses((data.train.x, None)).values())
    assert math.isfinite(elbo(model, data.test).mean)
    assert math.isfinite(nll(model, data.test, samples=10).mean)
    with pytest.raises(ValueError, match="TableDistribution likelihood: it has no qu"):
        interval_coverage(model, data.test)
    with pytest.raises(ValueError, match="reliability is of Bernoulli"):
        reliability(model, data.test)
    p = model.decode(torch.randn(3, 2))
    with pytest.raises(NotImplementedError, match="classes have no mean"): p.mean
    model.likelihood.check(model.sample(20))
    model.likelihood.check(p.base_dist.mode)


def test_a_table_without_categories_has_a_mean():
    data = from_table(people()[1][["age", "member"]])
    model = small(data)
    assert model.sample(5).shape == (5, 2) and model.reconstruct(data.test.x).shape == (
        24, 2)


def test_a_saved_model_reads_tables_by_itself(gappy, data, tmp_path):
    model = small(data)
    save_model(model, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert again.likelihood.columns == model.likelihood.columns
    a, b = (impute(m, gappy, draws=5, samples=20) for m in (model, again))
    assert torch.equal(a.draws, b.draws) and a.frame.equals(b.frame)


# ---------------------------------------------------------------- what is filled in

def linear_model(weight, sigma):
    "x = W z + noise, z ~ N(0, I), and q(z|x) the prior: everything is known exactly."
    d, k = weight.shape
    columns = [dict(name=f"c{i}", kind="number", mean=0.0, std=1.0) for i in range(d)]
    model = mlp_vae((d,), k, (), dict(name="table", columns=columns))
    with torch.no_grad():
        for p in model.parameters(): p.zero_()
        model.decoder[0][0].weight.copy_(weight)
        excess = sigma - model.likelihood.floor
        model.likelihood.raw.copy_(torch.log(torch.expm1(excess)))
    return model


def test_draws_have_the_mean_and_the_spread_of_what_is_missing():
    """Against the exact p(missing | known) of a linear model. q is the prior, far from
    p(z | known): only the weights can make up for it."""
    torch.manual_seed(0)
    weight = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-0.5, 1.0], [0.2, -0.9]])
    sigma = torch.tensor([0.4, 0.5, 0.6, 0.3])
    model = linear_model(weight, sigma)
    frame = pd.DataFrame([[1.2, None, None, -0.7], [None, None, None, None],
                          [None, 0.5, -0.3, None]], columns=model.likelihood.names)
    got = impute(model, frame.astype(float), draws=4000, samples=20_000, rows=2)
    cov = weight @ weight.T + torch.diag(sigma**2)
    for row, known in enumerate(([0, 3], [], [1, 2])):
        gone = [i for i in range(4) if i not in known]
        x = torch.tensor(frame.iloc[row, known].to_numpy(dtype=float)).float()
        gain = cov[gone][:, known] @ torch.linalg.inv(cov[known][:, known])
        mean, spread = gain @ x, cov[gone][:, gone] - gain @ cov[known][:, gone]
        drawn = got.draws[:, row, gone]
        n = 1 / (1 / 4000 + 1 / got.effective[row].item())
        assert n > 300
        error = (spread.diagonal() / n).sqrt()
        assert ((drawn.mean(0) - mean).abs() < 5 * error).all()
        assert ((drawn.var(0) / spread.diagonal() - 1).abs() < 5 * (2 / n)**0.5).all()
        apart = drawn.T.cov() - spread
        assert (apart.abs() < 5 * spread.diagonal().max() * (2 / n)**0.5).all()
    assert got.effective[1] > 19_999                      # nothing known: q is right


def test_the_effective_sample_size_is_that_of_the_weights():
    "(Σw)²/Σw², against its expectation by a fine grid: q is N(0, 1), w is p(x|z)."
    model = linear_model(torch.tensor([[1.0], [1.0]]), torch.tensor([0.5, 0.5]))
    known = [0.0, 0.7, -1.5]
    frame = pd.DataFrame(dict(c0=known, c1=[math.nan] * 3))
    got = impute(model, frame, draws=2, samples=20_000)
    z = torch.linspace(-8, 8, 16_001).double()
    p = torch.softmax(-z**2 / 2, 0)
    for x, n in zip(known, got.effective):
        w = torch.exp(-(x - z)**2 / (2 * 0.5**2))
        share = (p * w).sum()**2 / (p * w**2).sum()
        assert n.item() / 20_000 == pytest.approx(share.item(), rel=0.05)


def test_a_category_gets_the_probability_that_it_has():
    "A category that z decides and a number shows: p(category | number) by a fine grid."
    columns = [dict(name="x", kind="number", mean=0.0, std=1.0),
               dict(name="c", kind="category", values=["a", "b", "c"])]
    model = mlp_vae((2,), 1, (), dict(name="table", columns=columns))
    with torch.no_grad():
        for p in model.parameters(): p.zero_()
        model.decoder[0][0].weight.copy_(torch.tensor([[1.0], [2.0], [0.0], [-2.0]]))
        model.likelihood.raw.fill_(math.log(math.expm1(0.45)))
    frame = pd.DataFrame(dict(x=[0.9], c=[None]))
    got = impute(model, frame, draws=4000, samples=20_000)
    z = torch.linspace(-8, 8, 16_001)[:, None]
    post = torch.exp(-z**2 / 2 - (0.9 - z)**2 / (2 * 0.5**2))
    each = torch.softmax(z * torch.tensor([2.0, 0.0, -2.0]), 1)
    p = (post * each).sum(0) / post.sum()
    n = 1 / (1 / 4000 + 1 / got.effective.item())
    found = torch.tensor(got.probabilities("c").to_numpy()[0])
    assert list(got.probabilities("c")) == ["a", "b", "c"]
    assert ((found - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
    assert got.frame["c"].tolist() == ["a"]


def test_what_is_known_stays_as_it_is(gappy, data):
    frame = gappy.assign(children=gappy["children"].astype("Int64")).set_index(
        pd.Index([f"row {i}" for i in range(len(gappy))]))
    got = impute(small(data), frame, draws=7, samples=20)
    tables = [got.frame, *got]
    assert len(got) == 7 and len(tables) == 8
    for table in tables:
        assert not table.isna().any().any() and list(table) == list(frame)
        assert table.index.equals(frame.index)
        for name in frame:
            known = frame[name].notna()
            assert table[name][known].tolist() == frame[name][known].tolist()
        assert set(table["town"]) <= {"Graz", "Linz", "Wels"}
        assert set(table["member"]) <= {True, False}
        assert table["grade"].dtype == frame["grade"].dtype
    assert got.frame["children"].dtype == "float64"       # a mean of whole numbers
    whole = people(share=0)[0]
    assert impute(small(data), whole, draws=2, samples=5).frame["children"].equals(
        whole["children"])


def test_intervals_hold_the_draws_and_probabilities_sum_to_1(gappy, data):
    got = impute(small(data), gappy, draws=40, samples=50)
    low, high = got.interval(0.5)
    assert list(low) == ["age", "children", "height"] and (low <= high).all().all()
    known = gappy[list(low)].notna().to_numpy()
    assert np.allclose(low.to_numpy()[known], high.to_numpy()[known])
    wider = got.interval(0.9)
    assert (wider[0] <= low + 1e-9).all().all()
    assert (high <= wider[1] + 1e-9).all().all()
    ages = np.stack([t["age"].to_numpy(float) for t in got])
    inside = ((low["age"].to_numpy() <= ages) & (ages <= high["age"].to_numpy()))
    gap = gappy["age"].isna().to_numpy()
    assert abs(inside[:, gap].mean() - 0.5) < 0.02
    for name, values in (("member", [False, True]), ("grade", [1, 2, 3, 4])):
        shares = got.probabilities(name)
        assert list(shares) == [str(v) for v in values]
        assert np.allclose(shares.sum(axis=1), 1)
    with pytest.raises(ValueError, match="got 'age': give a column of booleans or cat"):
        got.probabilities("age")
    with pytest.raises(ValueError, match="level=1.5: it must lie between 0 and 1"):
        got.interval(1.5)


def test_draws_leave_no_trace_and_come_again_with_the_seed(gappy, data):
    model = small(data).train()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a, b, c = (impute(model, gappy, draws=3, samples=10, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected) and model.training
    assert torch.equal(a.draws, b.draws) and not torch.equal(a.draws, c.draws)
    for wrong in (dict(draws=0), dict(samples=0)):
        with pytest.raises(ValueError, match="give at least 1"):
            impute(model, gappy, **wrong)


# ---------------------------------------------------------------- as it is shown

def test_the_example_of_the_workshop_takes_at_most_15_lines_and_holds():
    "From a DataFrame with gaps to one without, imports included."
    nb = nbformat.read(root / "nbs" / "78a_imputation.ipynb", 4)
    cells = [c.source for c in nb.cells if c.cell_type == "code"]
    shown, = (c for c in cells if "filled = impute(model, frame)" in c)
    imports, = (c for c in cells if "from vae_course.tables import from_table" in c
                and "load_breast_cancer" in c)
    needed = [line for line in imports.splitlines() if "vae_course" in line]
    lines = [*needed, "from vae_course.imputation import impute", *shown.splitlines()]
    assert len(lines) <= 15
    code = "\n".join(lines).replace("epochs=200", "epochs=2")
    space = dict(torch=torch, frame=people()[1].rename(columns=str))
    exec(compile(ast.parse(code.replace(".iloc[:3, [0, 1, 2, 30]]", "")), "shown",
                 "exec"), space)
    assert not space["filled"].frame.isna().any().any()
    assert len(Examples(space["data"].train.x, space["data"].train.y)) == 84
