"What a mark of pytest.ini does beside being a word to select by."
import os
from functools import partial

import pytest, torch

os.environ.setdefault("VAE_COURSE_PROGRESS", "off")     # nobody's own progress


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU: needs a CUDA device")


def pytest_make_parametrize_id(config, val, argname):
    "A function is called as its argument: its address differs between processes."
    if getattr(val, "__name__", "") == "<lambda>" or isinstance(val, partial):
        return argname
    return None
