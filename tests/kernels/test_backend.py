"""The law's row `backend`: the kernels answer, learn and pass gradients as the
torch reference does.

Authors
* speechbrain_lact contributors 2026
"""

import copy
import dataclasses
import math

import pytest
import torch

pytest.importorskip("triton", reason="pip install triton")

from speechbrain_lact.nnet import backend  # noqa: E402
from speechbrain_lact.nnet.fast_weight import fast_weight_scan  # noqa: E402
from speechbrain_lact.nnet.lact import LaCT  # noqa: E402

# float64, as the law has it.
EXACT = 1e-9
SCANS = {
    "muon": {"order": "apply_update"},
    "muon, pre norm, clipped": {
        "order": "update_apply",
        "weight_norm": "pre",
        "max_step_norm": 0.5,
        "inner_loss": "mse",
    },
    "sgd": {
        "order": "bidirectional",
        "optimizer": "sgd",
        "weight_norm": "none",
        "checkpoint": True,
    },
    "adam": {
        "order": "apply_update",
        "optimizer": "adam",
        "inner_loss": "cosine",
    },
}


def draw(*shape):
    """Numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64)


def same(got, want):
    """Whether tensors are equal but for rounding."""
    for a, b in zip(got, want, strict=True):
        error = (a - b).abs().max()
        assert error <= EXACT * b.abs().max(), (error, b.abs().max())


@pytest.fixture
def used(monkeypatch):
    """Names of the kernels that were called."""
    kernels, called = backend.kernels(), set()
    for name, function in vars(kernels).items():

        def call(*args, name=name, function=function):
            called.add(name)
            return function(*args)

        monkeypatch.setattr(kernels, name, call)
    return called


@pytest.mark.parametrize("name", SCANS)
def test_scan(name, device, used):
    """Ragged rows, of an update and a tail."""
    options = SCANS[name]
    weights = [draw(2, *size) / 2 for size in ((6, 5), (5, 6), (6, 5))]
    frames = [draw(2, 5, 5) / 2 for _ in range(3)]
    rates = [torch.rand(2, 5, 1, dtype=torch.float64) / 3 for _ in range(4)]
    leaves = [*weights, *frames, *rates, torch.rand(2, dtype=torch.float64)]
    leaves = [x.to(device).requires_grad_() for x in leaves]
    lengths = torch.tensor([5, 3], device=device)
    mask = torch.arange(5, device=device) < lengths[:, None]
    adam = options.get("optimizer") == "adam"
    found = []
    for which in ("torch", "triton"):
        out, state = fast_weight_scan(
            *leaves[:9],
            momentum=None if adam else leaves[9],
            step_scale=leaves[10],
            chunk_size=3,
            mask=mask,
            final=True,
            backend=which,
            base_lr=0.05,
            **options,
        )
        total = out.square().sum() + state.weights.sin().sum()
        grads = torch.autograd.grad(total, leaves, materialize_grads=True)
        found.append([out, state.weights, state.moment, *grads])
        assert state.steps.tolist() == [2, 1]
    same(*found)
    wanted = {"swiglu_apply", "swiglu_gradient", "update_norm", "finite_select"}
    if name.startswith("muon"):
        wanted.add("newton_schulz")
    assert used == wanted


def test_layer_in_pieces(device, used):
    """The layer, fed in two pieces; gradients of all its parameters."""
    layer = LaCT(
        4, 2, chunk_size=2, order="apply_update", causal=True, fast_heads=1
    )
    layers = layer.double().to(device), copy.deepcopy(layer).to(device)
    layers[0].rule = dataclasses.replace(layer.rule, backend="triton")
    x, found = draw(1, 5, 4).to(device), []
    for layer in layers:
        state, out = layer.initial_state(1), []
        for piece in x.split([3, 2], 1):
            answer, _, state = layer(piece, piece, piece, state=state)
            out.append(answer)
        out = torch.cat(out, 1)
        grads = torch.autograd.grad(
            out.square().sum(), layer.parameters(), materialize_grads=True
        )
        found.append([out, state.fast.weights, *grads])
    same(*found)
    assert "prologue" in used


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_enters_no_state(value, device):
    """A bad row keeps its weights in both heads, is counted, and no gradient
    is NaN."""
    weights = draw(4, 6, 5), draw(4, 5, 6), draw(4, 6, 5)
    weights = [x.to(device).requires_grad_() for x in weights]
    x, rates = draw(4, 2, 5).to(device), 0.1 * torch.ones(4, 2, 1).double()
    bad = x.clone()
    bad[1, 1, 2] = value
    rates = rates.to(device)
    _, state = fast_weight_scan(
        *weights,
        x,
        x,
        bad,
        rates,
        rates,
        rates,
        chunk_size=2,
        nhead=2,
        optimizer="sgd",
        backend="triton",
    )
    assert state.skipped.tolist() == [1, 1, 0, 0]
    assert state.steps.tolist() == [0, 0, 1, 1]
    assert torch.equal(state.w0[:2], weights[0][:2])
    assert (state.w0[2:] != weights[0][2:]).any()
    for grad in torch.autograd.grad(state.weights.sum(), weights):
        assert grad.isfinite().all()
