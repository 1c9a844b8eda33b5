"""The pretended processor of `other_cpu.py`: it moves what another machine may move,
and nothing else."""
import subprocess, sys
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F

from other_cpu import OtherCPU, products, reductions

pytestmark = pytest.mark.slow

here = Path(__file__).resolve().parent
g = torch.Generator().manual_seed(0)
x, W, b = (torch.randn(*shape, generator=g) for shape in ((50, 33), (7, 33), (7,)))
images, kernel = (torch.randn(6, 2, 9, 9, generator=g),
                  torch.randn(4, 2, 3, 3, generator=g))

RESULTS = {"linear": lambda x: F.linear(x, W, b), "matrix product": lambda x: x @ W.T,
           "matrix by vector": lambda x: x @ W[0], "sum": lambda x: x.sum(1),
           "mean": lambda x: x.mean(1), "logsumexp": lambda x: x.logsumexp(1),
           "variance": lambda x: x.var(1), "norm": lambda x: x.norm(dim=1),
           "softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(1),
           "running sum": lambda x: x.cumsum(1),
           "distances": lambda x: torch.cdist(x, W),
           "convolution": lambda x: F.conv2d(x[:,  :32].reshape(-1, 2, 4, 4), kernel)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", RESULTS)
def test_the_same_twice_is_equal_and_another_batch_size_is_not(
        name, dtype, monkeypatch):
    for weight in ("W", "b", "kernel"):
        monkeypatch.setitem(globals(), weight, globals()[weight].to(dtype))
    f, rows = RESULTS[name], x.to(dtype)
    plain = f(rows)
    with OtherCPU():
        once, again, part = f(rows), f(rows), f(rows[:5])
    assert torch.equal(once, again)
    assert not torch.equal(once[:5], part)
    assert not torch.equal(once, plain)
    # one digit, the last
    assert torch.allclose(once, plain, rtol=10 * torch.finfo(dtype).eps, atol=0)


def test_salts_are_different_processors():
    with OtherCPU(1): first = x @ W.T
    with OtherCPU(2): second = x @ W.T
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_has_no_rounding_stays(dtype):
    whole, halves = (torch.arange(12).view(3, 4).to(dtype),
                     torch.tensor([[0.5, 0.25], [1.5, -2.0]], dtype=dtype))
    with OtherCPU():
        assert (
            (whole @ whole.T).tolist() == [[14, 38, 62], [38, 126, 214], [62, 214, 366]]
            and whole.sum().item() == 66)
        assert ((halves @ halves).tolist() == [[0.625, -0.375], [-2.25, 4.375]]
                and halves.mean().item() == 0.0625)
        assert (torch.cdist(whole, whole).diag().eq(0).all()
                and F.one_hot(torch.arange(3)).to(dtype).sum(1).tolist() == [1, 1, 1])
        assert torch.full((2,), float("inf")).to(dtype).sum().item() == float("inf")


def test_elementwise_results_and_whole_numbers_stay():
    f = lambda: (x.exp(), x * x, torch.arange(10).sum(), x.argmin(1),
                 x.to(torch.bfloat16) @ W.T.to(torch.bfloat16))
    plain = f()
    with OtherCPU():
        assert all(torch.equal(a, c) for a, c in zip(plain, f()))


def test_gradients_are_moved_too():
    def gradient():
        w = W.clone().requires_grad_()
        k = kernel.clone().requires_grad_()
        (F.linear(x, w).tanh().sum() + F.conv2d(images, k).tanh().sum()).backward()
        return w.grad, k.grad
    plain = gradient()
    with OtherCPU():
        once, again = gradient(), gradient()
    for p, a, c in zip(plain, once, again):
        assert (torch.equal(a, c) and not torch.equal(p, a)
                and torch.allclose(p, a, rtol=1e-4, atol=1e-5))


def test_the_operators_are_those_that_torch_calls():
    called = set()
    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.add(func.overloadpacket)
            return func(*args, **(kwargs or {}))
    with Watch():
        for f in RESULTS.values(): f(x)
        (torch.cdist(x[:5], W), x[0] @ x[0], x.std(0), torch.bmm(x[None], W.T[None]),
         torch.baddbmm(b, x[None], W.T[None]), torch.addmv(x[:, 0], x, W[0]))
        F.conv2d(images, kernel.clone().requires_grad_()).sum().backward()
    assert set(products + reductions) <= called, (
        f"never called: {sorted(map(str, set(products + reductions) - called))}")


CELLS = dict(
    held="network = torch.nn.Linear(20, 3)\nx = torch.randn(50, 20, "
         "generator=torch.Generator().manual_seed(0))\nwhole = network(x)",
    twice="assert torch.equal(whole, network(x))",
    relative="assert torch.allclose(network(x[:1]), whole[:1], rtol=1e-4, atol=1e-6)",
    planted="assert torch.equal(network(x[:1]), whole[:1])      # a batch of "
            "one, bit by bit", left_out="#| eval: false\nassert False")


@pytest.mark.parametrize("names,holds", [(("held", "twice", "relative", "left_out"),
                                          True), (("held", "planted", "twice"), False)])
def test_a_notebook_is_held_to_it(names, holds, tmp_path):
    cells = [nbformat.v4.new_code_cell("import torch")] + [
        nbformat.v4.new_code_cell(CELLS[name]) for name in names]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "99_made.ipynb")
    done = subprocess.run(
        [sys.executable, here / "other_cpu.py", tmp_path / "99_made.ipynb"],
        capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode == 0) == holds, done.stdout + done.stderr
    assert (("bit by bit" in done.stdout) == (not holds)
            and done.stdout.count("99_made, cell") == (not holds))
