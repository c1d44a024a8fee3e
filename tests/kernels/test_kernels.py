"""Every kernel against its definition in float64, outputs and gradients.

Inputs are views into tensors of NaN, and what a kernel does not write is NaN
(conftest.py): a read or a write beyond the ends is seen.

Authors
* speechbrain_lact contributors 2026
"""

import math

import pytest
import torch

pytest.importorskip("triton", reason="pip install triton")

from lact_kernels.newton_schulz import (  # noqa: E402
    fused as ns,
    naive as ns_naive,
)
from lact_kernels.prologue import (  # noqa: E402
    fused as prologue,
    naive as prologue_naive,
)
from lact_kernels.swiglu_apply import (  # noqa: E402
    fused as apply,
    naive as apply_naive,
)
from lact_kernels.swiglu_gradient import (  # noqa: E402
    fused as gradient,
    naive as gradient_naive,
)
from lact_kernels.update_norm import (  # noqa: E402
    fused as update,
    naive as update_naive,
)

# Largest error of outputs and of gradients over the largest value, by type of
# the products. Gradients of Newton-Schulz pass five steps of slope 4.
BOUNDS = {
    "float64": 1e-12,
    "float32": 1e-5,
    "tf32": 5e-3,
    "float16": 5e-3,
    "bfloat16": 4e-2,
}
# The interpreter multiplies bfloat16 wrongly, and knows no TF32.
INTERPRETED = ("float64", "float32", "float16")

products = pytest.mark.parametrize("kind", BOUNDS)


def types(kind, device):
    """Type of the tensors, and that of the products."""
    if device == "cpu" and kind not in INTERPRETED:
        pytest.skip(f"the interpreter has no {kind}")
    if kind == "tf32":
        torch.set_float32_matmul_precision("high")
        return torch.float32, None
    dtype = getattr(torch, kind)
    if kind in ("float64", "float32"):
        return dtype, None
    return torch.float32, dtype


def inside(x):
    """The same numbers, with NaN before, behind and between them."""
    if x.ndim < 3:
        return x
    around = x.new_full((len(x), x.shape[1] + 3, *x.shape[2:]), math.nan)
    around[:, 1:-2] = x
    return around[:, 1:-2]


def draw(*shape, scale=1.0):
    """Numbers in float64."""
    return scale * torch.randn(*shape, dtype=torch.float64)


def compare(kernel, naive, inputs, core, device, bound):
    """Outputs and all gradients of both."""
    found = []
    for function, dtype, place in (
        (naive, torch.float64, "cpu"),
        (kernel, core, device),
    ):
        leaves = [x.to(place, dtype).requires_grad_() for x in inputs]
        given = [inside(x) for x in leaves] if function is kernel else leaves
        out = function(*given)
        generator = torch.Generator().manual_seed(1)
        weight = torch.randn(
            out.shape, generator=generator, dtype=torch.float64
        )
        grads = torch.autograd.grad(out, leaves, weight.to(out))
        found.append([out.detach(), *grads])
    for want, got in zip(*found):
        assert got.dtype == core
        error = (got.to("cpu", torch.float64) - want).abs().max()
        # A NaN is not below a bound.
        assert error <= bound * want.abs().max(), (error, want.abs().max())


def by_singular_values(x):
    """Newton-Schulz by its effect on singular values."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / (s.square().sum(-1, keepdim=True).sqrt() + 1e-7)
    for a, b, c in (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ):
        s = a * s + b * s**3 + c * s**5
    return (u * s[:, None]) @ v


@products
@pytest.mark.parametrize(
    "shape", [(2, 7, 9), (2, 31, 17), (1, 1, 20), (1, 127, 128)]
)
def test_newton_schulz(kind, shape, device, exact):
    """Wide, tall and single rows."""
    if device == "cpu" and kind != "float16" and max(shape) > 100:
        pytest.skip("too large a matrix for a program")
    core, dtype = types(kind, device)
    compare(
        lambda y: ns.newton_schulz(y, dtype),
        ns_naive.newton_schulz,
        [draw(*shape)],
        core,
        device,
        10 * BOUNDS[kind],
    )


def test_newton_schulz_by_singular_values(device):
    """The definition itself."""
    x = draw(2, 6, 9)
    assert torch.allclose(ns_naive.newton_schulz(x), by_singular_values(x))


@products
def test_newton_schulz_in_tiles(kind, device, exact, monkeypatch):
    """Tall; three tiles of symmetric products, of which two are not full."""
    if device == "cpu":
        if kind in ("float32", "float16"):
            pytest.skip("slow under the interpreter: float64 alone")
        monkeypatch.setattr(ns, "TILE", 32)
    core, dtype = types(kind, device)
    shape = (1, 41, 37) if device == "cpu" else (2, 201, 137)
    compare(
        lambda y: ns.newton_schulz(y, dtype),
        ns_naive.newton_schulz,
        [draw(*shape)],
        core,
        device,
        10 * BOUNDS[kind],
    )


def test_newton_schulz_of_zeros(device):
    """Zero gives zero, and its gradient is that of the reference."""
    x = draw(2, 3, 5)
    x[1] = 0
    compare(
        ns.newton_schulz,
        ns_naive.newton_schulz,
        [x],
        torch.float64,
        device,
        1e-12,
    )


@products
def test_symmetric_product(kind, device, exact, monkeypatch):
    """One and two matrices, tiles beside the diagonal."""
    core, dtype = types(kind, device)
    monkeypatch.setattr(ns, "TILE", 16)
    p, q = draw(2, 35, 37), draw(2, 35, 37)
    base = draw(2, 35, 35)
    base = base + base.mT
    want = 0.5 * (p @ q.mT + q @ p.mT) - 2 * base
    want_one = 3 * p @ p.mT
    p, q, base = (x.to(device, dtype or core) for x in (p, q, base))
    got = ns.symmetric_product(p, q, base, 0.5, -2.0)
    one = ns.symmetric_product(p, alpha=3.0)
    for a, b in ((got, want), (one, want_one)):
        error = (a.cpu().double() - b).abs().max()
        assert error <= BOUNDS[kind] * b.abs().max()


@products
@pytest.mark.parametrize("chip", [128, 8])
@pytest.mark.parametrize("n,length,h,d", [(2, 7, 5, 9), (1, 63, 37, 33)])
def test_swiglu_apply(kind, chip, n, length, h, d, device, exact, monkeypatch):
    """Hidden units that stay on chip, and that do not."""
    core, dtype = types(kind, device)
    chips = dict.fromkeys(apply.ON_CHIP, chip)
    monkeypatch.setattr(apply, "ON_CHIP", chips)
    compare(
        lambda w, x: apply.swiglu_apply(w, x, dtype),
        apply_naive.swiglu_apply,
        [draw(n, 3 * h, d, scale=d**-0.5), draw(n, length, d)],
        core,
        device,
        BOUNDS[kind],
    )


@products
@pytest.mark.parametrize("chip", [128, 8])
@pytest.mark.parametrize("n,length,h,d", [(2, 7, 5, 9), (1, 100, 37, 33)])
def test_swiglu_gradient(
    kind, chip, n, length, h, d, device, exact, monkeypatch
):
    """The oracle is autograd's gradient of the inner loss. More frames than
    fit a program, hidden units of several programs."""
    core, dtype = types(kind, device)
    chips = dict.fromkeys(gradient.ON_CHIP, chip)
    monkeypatch.setattr(gradient, "ON_CHIP", chips)
    rates = torch.rand(n, length, 3, dtype=torch.float64)
    rates[:, -3:] = 0
    compare(
        lambda *x: gradient.swiglu_gradient(*x, dtype),
        gradient_naive.swiglu_gradient,
        [
            draw(n, 3 * h, d, scale=d**-0.5),
            draw(n, length, d),
            draw(n, length, d),
            rates,
        ],
        core,
        device,
        BOUNDS[kind],
    )


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("factor", [True, False])
@pytest.mark.parametrize("n,h,d", [(2, 5, 9), (1, 17, 70), (1, 70, 17)])
def test_update_norm(kind, factor, n, h, d, device):
    """Rows longer than a block; a row of zeros."""
    core, _ = types(kind, device)
    weights, step = draw(n, 3 * h, d), draw(n, 3 * h, d)
    weights[0, 1], step[0, 1] = 0, 0
    inputs = [weights, step, draw(n), draw(n, 2 * h + d).abs()]

    def without(function):
        return lambda w, s, t: function(w, s, None, t)

    pair = update.update_norm, update_naive.update_norm
    if not factor:
        inputs.pop(2)
        pair = map(without, pair)
    compare(*pair, inputs, core, device, BOUNDS[kind])


def test_update_without_norms(device):
    """Rows as they come."""
    compare(
        update.update_norm,
        update_naive.update_norm,
        [draw(2, 6, 5), draw(2, 6, 5), draw(2)],
        torch.float64,
        device,
        1e-12,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_finite_select(value, device):
    """A number that is not finite, in the last place of the last block and in
    one head, keeps both heads as they were; no NaN reaches a gradient."""
    new = [draw(6, 15, 9), draw(6, 3, 700)]
    old = [draw(6, 15, 9), draw(6, 3, 700)]
    new[0][1, 14, 8], new[1][4, 2, 699] = value, value
    want, flags = update_naive.finite_select(new, old, 2)
    assert flags.tolist() == [False, False, True, True, False, False]
    leaves = [x.to(device).requires_grad_() for x in (*new, *old)]
    got, good = update.finite_select(leaves[:2], leaves[2:], 2)
    assert good.tolist() == flags.tolist()
    for a, b in zip(got, want):
        assert torch.equal(a.cpu(), b)
    grads = torch.autograd.grad(sum(x.sum() for x in got), leaves)
    for i, grad in enumerate(grads):
        taken = flags if i < 2 else ~flags
        want = taken[:, None, None].double().expand_as(leaves[i])
        assert torch.equal(grad.cpu(), want)


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize(
    "rows,time,heads,width", [(2, 7, 2, 5), (1, 37, 3, 17)]
)
def test_prologue(kind, silu, rows, time, heads, width, device):
    """Lengths that end within a block."""
    core, _ = types(kind, device)
    channels = heads * width
    compare(
        lambda *x: prologue.prologue(*x, heads, silu),
        lambda *x: prologue_naive.prologue(*x, heads, silu),
        [draw(rows, time, 3 * channels), draw(2, channels), draw(2, channels)],
        core,
        device,
        BOUNDS[kind],
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_prologue_under_autocast(dtype, device):
    """A projection in half precision gives float32, and its gradient has its
    type."""
    x, scale, offset = draw(1, 5, 18), draw(2, 6), draw(2, 6)
    x = x.to(dtype)
    want = prologue_naive.prologue(x.double(), scale, offset, 2)
    given = x.to(device).requires_grad_()
    out = prologue.prologue(
        given, scale.to(device).float(), offset.to(device).float(), 2
    )
    assert out.dtype == torch.float32
    assert (out.cpu() - want).abs().max() < 1e-5
    (grad,) = torch.autograd.grad(out.sum(), given)
    assert grad.dtype == dtype and grad.isfinite().all()


@pytest.mark.parametrize("empty", ["rows", "frames"])
def test_nothing(empty, device):
    """No rows, no frames: nothing to compute, and a gradient of zero."""
    n, length = (0, 4) if empty == "rows" else (2, 0)
    weights = torch.ones(n, 6, 3, device=device, requires_grad=True)
    x = torch.ones(n, length, 3, device=device, requires_grad=True)
    out = apply.swiglu_apply(weights, x)
    found = gradient.swiglu_gradient(weights, x, x, x)
    assert out.shape == x.shape and (found == 0).all()
    assert ns.newton_schulz(weights[:0]).shape == (0, 6, 3)
    total = out.sum() + found.sum()
    for grad in torch.autograd.grad(total, (weights, x)):
        assert (grad == 0).all()


def test_refusals(device):
    """Shapes that do not fit, and weights in half precision."""
    w, x = torch.zeros(2, 6, 3), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match=r"rates must be \[2, 4, 3\]"):
        gradient.swiglu_gradient(w, x, x, x[:, :2])
    with pytest.raises(ValueError, match="weights must be"):
        apply.swiglu_apply(w[:1], x)
    with pytest.raises(TypeError, match="float32 or float64"):
        apply.swiglu_apply(w.half(), x.half())
