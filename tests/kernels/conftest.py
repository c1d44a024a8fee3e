"""Kernels run in a pytest process of their own: without a GPU under Triton's
interpreter, which must be switched on before Triton is imported.

> python -m pytest -n 0 tests/kernels [--device=cuda]

tests/unittests/test_kernels.py does so as a part of the whole suite, which
does not collect the tests of this folder itself.

Authors
* speechbrain_lact contributors 2026
"""

import math
import os
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def asked_for(config):
    """Whether this process was started for this folder alone."""
    paths = [Path(str(arg).split("::")[0]).resolve() for arg in config.args]
    return bool(paths) and all(
        path == HERE or HERE in path.parents for path in paths
    )


def pytest_configure(config):
    """Switches the interpreter on."""
    if not asked_for(config) or config.option.device != "cpu":
        return
    if os.environ.get("TRITON_INTERPRET") == "1":
        return
    if "triton" in sys.modules:
        pytest.exit("Triton was imported before TRITON_INTERPRET was set", 1)
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_ignore_collect(collection_path, config):
    """Leaves the folder to a process of its own."""
    return None if asked_for(config) else True


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nobody has written holds NaN."""

    def poison(make):
        def filled(*args, **kwargs):
            out = make(*args, **kwargs)
            wanted = out.is_floating_point() and not out.requires_grad
            return out.fill_(math.nan) if wanted else out

        return filled

    for owner, name in (
        (torch, "empty"),
        (torch, "empty_like"),
        (torch.Tensor, "new_empty"),
    ):
        monkeypatch.setattr(owner, name, poison(getattr(owner, name)))


@pytest.fixture
def exact():
    """Products in float32 that are not TF32, whatever ran before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)
