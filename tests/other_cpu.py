"""Another processor, pretended: what is added up from several numbers comes out with
its last digit moved, by a pattern that depends on the shape alone.

Another instruction set, another number of threads or a GPU adds the same numbers in
another order, and chooses the order by the shape. So here the same computation made
twice stays equal bit by bit, and one made in a batch of another size does not. A result
without rounding (whole numbers, few digits) is the same on every machine, and is left
alone. In a test: `with OtherCPU(): …`. A notebook from top to bottom, in a process of
its own:

    python tests/other_cpu.py nbs/05_evaluation.ipynb

which names each cell that fails; exit status 1 if there is one."""
import argparse, contextlib, io, os, re, sys, time
from functools import lru_cache
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
products = [aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot,
            aten.convolution, aten.convolution_backward, aten._cdist_forward,
            aten._euclidean_dist]
reductions = [aten.sum, aten.mean, aten.logsumexp, aten.var, aten.std,
              aten.linalg_vector_norm, aten.cumsum, aten._softmax, aten._log_softmax]
# numbers in a result up to which each is compared with the result in double precision
small = 10_000


@lru_cache(maxsize=256)
def upwards(shape, salt):
    """Whether each number of a result of this shape is moved up; the others are moved
    down."""
    seed = (sum(n * 31**k for k, n in enumerate(shape)) + 7919 * len(shape)
            + 104_729 * salt) % 2**31
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed),
                         dtype=torch.bool)


def widened(value):
    "`value` with every float32 tensor in it as float64."
    if isinstance(value, (tuple, list)):
        return type(value)(widened(v) for v in value)
    return (value.double() if isinstance(value, torch.Tensor)
                              and value.dtype == torch.float32
            else torch.float64 if value is torch.float32 else value)


class OtherCPU(TorchDispatchMode):
    """A mode under which float32 and float64 results of products and reductions on the
    CPU have their last digit moved; `salt` chooses another processor."""
    def __init__(self, salt=0):
        super().__init__()
        self.salt = salt

    def moved(self, out, exact):
        "`out` with each number that is not `exact` replaced by its neighbour."
        there = torch.where(upwards(tuple(out.shape), self.salt), float("inf"),
                            float("-inf")).to(out.dtype)
        return torch.where(exact, out, torch.nextafter(out, there))

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket not in self.operators or "out" in func._overloadname:
            return out
        several = isinstance(out, (tuple, list))
        outs, wide = list(out) if several else [out], None
        for i, value in enumerate(outs):
            if (not isinstance(value, torch.Tensor) or value.device.type != "cpu"
                    or not value.numel()):
                continue
            if value.dtype not in (torch.float32, torch.float64):
                continue
            if value.dtype == torch.float64:
                # few digits: no rounding
                exact = (1024 * value).round() == 1024 * value
            else:
                exact = value.round() == value
                if value.numel() <= small:
                    if wide is None:
                        wide = func(*widened(args), **{
                            k: widened(v) for k, v in (kwargs or {}).items()})
                    exact = exact | ((wide[i] if several else wide) == value.double())
            outs[i] = self.moved(value, exact | ~value.isfinite())
        return type(out)(outs) if several else outs[0]

    operators = frozenset(products + reductions)


def run_notebook(path, salt=0):
    """Run a notebook from top to bottom under `OtherCPU`; print each cell that fails,
    and return how many did."""
    from execnb.nbio import read_nb
    from execnb.shell import CaptureShell
    path, failed = Path(path).resolve(), 0
    os.chdir(path.parent)
    shell = CaptureShell(path)
    with OtherCPU(salt):
        for i, cell in enumerate(read_nb(path).cells):
            if cell.cell_type != "code" or re.search(
                    r"^#\|\s*(eval:\s*false|slow|gpu)\b", cell.source, re.M):
                continue
            # what it shows is not asked for
            with contextlib.redirect_stdout(io.StringIO()):
                shell.run(cell.source)
            if shell.exc:
                failed += 1
                print(f"{path.stem}, cell {i}: {type(shell.exc).__name__}: "
                      f"{str(shell.exc)[:300]}")
                print(f"    {cell.source.strip().splitlines()[-1][:150]}", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--salt", type=int, default=0,
                        help="a whole number for each pretended processor")
    asked = parser.parse_args()
    start = time.perf_counter()
    failed = run_notebook(asked.notebook, asked.salt)
    found = (
        f"{failed} cell{'s' * (failed > 1)} failed" if failed else "every cell holds")
    print(f"{asked.notebook.stem}: {found} on another processor "
          f"({time.perf_counter() - start:.0f} s)")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
