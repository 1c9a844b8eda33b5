"What a mark of pytest.ini does beside being a word to select by."
import pytest, torch


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no GPU: needs a CUDA device")
