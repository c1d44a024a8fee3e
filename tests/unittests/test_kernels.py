"""The Triton kernels: their tests run in a process of their own, and which
backend is taken.

Authors
* speechbrain_lact contributors 2026
"""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from speechbrain_lact.nnet import backend, fast_optim
from speechbrain_lact.nnet.fast_weight import fast_weight_scan
from speechbrain_lact.nnet.lact import LaCT

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)
def test_kernels(device):
    """All tests of the folder: Triton's interpreter must be switched on before
    Triton is imported, which others of this process may have done."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-q", "tests/kernels"]
        + [f"--device={device}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout


def test_nothing_imports_triton():
    """Neither the layers nor the package of kernels."""
    code = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "import lact_kernels, lact_kernels.newton_schulz.naive\n"
        "import speechbrain_lact.nnet.lact\n"
        "assert ('triton' in sys.modules) == before, 'triton'\n"
        "fused = [name for name in sys.modules if '.fused' in name]\n"
        "assert not [n for n in fused if n.startswith('lact_kernels')]\n"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture
def log(caplog, monkeypatch):
    """What is logged; nothing was said before."""
    backend.say_once.cache_clear()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    caplog.set_level(logging.WARNING, backend.__name__)
    return caplog


def test_the_reason_of_a_fallback_is_said_once(log):
    """Two layers on the CPU, one line."""
    x = torch.zeros(1, 4, 8)
    for _ in range(2):
        layer = LaCT(8, 2, chunk_size=2, backend="triton")
        layer(x, x, x)
    assert backend.choose("triton", x) is None
    (record,) = log.records
    assert record.getMessage() == (
        "backend triton: torch, not triton: the tensors lie on cpu, not on a "
        "GPU"
    )


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_the_reference_says_nothing(name, log):
    assert backend.choose(name, torch.zeros(1)) is None
    assert not log.records


def test_reasons(log, monkeypatch):
    """Tensors without numbers, packages that are not there."""
    with FakeTensorMode():
        fake = torch.zeros(1, device="cuda")
        assert "hold no numbers" in backend.why_no_triton(fake)
    for name in ("triton", "lact_kernels"):

        def find(wanted, name=name):
            return None if wanted == name else object()

        monkeypatch.setattr(importlib.util, "find_spec", find)
        reason = backend.why_no_triton(torch.zeros(1))
        assert reason == f"{name} is not installed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend.choose("triton", torch.zeros(1)) is backend.TRITON


def test_w1_alone_is_for_the_reference(log, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend.choose("triton", torch.zeros(1), ("w1",)) is None
    assert "not triton: its kernels update all matrices" in log.text


def test_no_compiler(log, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert backend.choose("compile", torch.zeros(1)) is None
    assert "not compile: there is no C++ compiler" in log.text


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_what_is_compiled_is_the_reference(optimizer, monkeypatch):
    """All but the compilation: a row that is not finite keeps its weights,
    outputs and gradients are equal."""
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(backend, "_compiled", lambda: fast_optim.propose)
    weights = [torch.randn(2, 4, 4).double() / 2 for _ in range(3)]
    frames = [torch.randn(4, 7, 4).double() for _ in range(3)]
    frames[2][1, 2] = float("nan")
    rates = [torch.rand(4, 7, 1).double() / 5 for _ in range(3)]
    found = []
    for name in ("torch", "compile"):
        leaves = [
            x.clone().requires_grad_() for x in (*weights, *frames, *rates)
        ]
        out, state = fast_weight_scan(
            *leaves,
            chunk_size=3,
            optimizer=optimizer,
            nhead=2,
            backend=name,
            base_lr=0.1,
        )
        grads = torch.autograd.grad(out.square().sum(), leaves)
        found.append([out, state.weights, state.skipped, *grads])
    for got, want in zip(*found):
        assert torch.allclose(got, want, rtol=1e-9)
    assert state.skipped.tolist() == [1, 1, 0, 0]


def test_a_backend_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="auto, torch, compile, triton"):
        LaCT(8, 2, chunk_size=2, backend="cuda")
