"""pytest settings shared by all tests.

A test that takes a `device` gets the value of `--device` (default: cpu).
"""

import os
import random

import numpy as np
import pytest
import torch

from speechbrain.utils.importutils import LazyModule

# Tests are small, and run in several processes at a time.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# hypothesis asks every module in sys.modules for its `__file__`. SpeechBrain's
# lazy modules answer by importing what they stand for, which fails where an
# optional package is missing (k2 among others): answer for them.
LazyModule.__file__ = None


def pytest_addoption(parser):
    """Adds `--device`, e.g. `pytest --device=cuda`."""
    parser.addoption("--device", action="store", default="cpu")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every test and doctest, its fixtures included, draws the same numbers
    whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_generate_tests(metafunc):
    """Hands `--device` to every test with an argument of that name."""
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", [metafunc.config.option.device])
