"""Newton-Schulz of many small matrices.

Up to 128 a side a program keeps its matrix on chip for all five steps, forward
and backward. Above, products that are symmetric are computed as tiles on and
above the diagonal, and cuBLAS does the others.

Authors
* speechbrain_lact contributors 2026
"""

import functools

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from lact_kernels.common import block, on_device, product_kind, product_options
from lact_kernels.newton_schulz.naive import COEFFICIENTS, EPS

# The greatest side of a matrix that a program holds, forward and backward, by
# what it multiplies: beyond, shared memory or registers do not suffice (see
# benchmarks/kernel_binaries.py).
ON_CHIP = {"half": (128, 128), "tf32": (128, 64), "ieee": (32, 32)}
# Side of a tile of symmetric products.
TILE = 64


@triton.jit
def newton_schulz_fwd_kernel(
    x,
    out,
    kept,
    coefficients,
    rows,
    cols,
    stride_r,
    stride_c,
    EPS: tl.constexpr,
    KEEP: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """One matrix, of no more rows than columns, a program. With KEEP the
    matrices before each step are written to `kept` [N, 5, rows, cols], and
    nothing to `out`."""
    i_n = tl.program_id(0).to(tl.int64)
    o_r = tl.arange(0, BR)[:, None]
    o_c = tl.arange(0, BC)[None, :]
    m_x = (o_r < rows) & (o_c < cols)
    o_x = i_n * rows * cols + o_r * stride_r + o_c * stride_c
    b_x = tl.load(x + o_x, mask=m_x, other=0).to(ACC)
    b_x = b_x / (tl.sqrt(tl.sum(b_x * b_x)) + EPS)
    for i in range(5):
        if KEEP:
            o_k = (i_n * 5 + i) * rows * cols + o_r * cols + o_c
            tl.store(kept + o_k, b_x, mask=m_x)
        a = tl.load(coefficients + 3 * i)
        b = tl.load(coefficients + 3 * i + 1)
        c = tl.load(coefficients + 3 * i + 2)
        b_d = b_x.to(DOT)
        b_a = tl.dot(b_d, tl.trans(b_d), out_dtype=ACC, input_precision=PREC)
        b_ad = b_a.to(DOT)
        b_b = tl.dot(b_ad, b_ad, out_dtype=ACC, input_precision=PREC)
        b_b = b * b_a + c * b_b
        b_y = tl.dot(b_b.to(DOT), b_d, out_dtype=ACC, input_precision=PREC)
        b_x = a * b_x + b_y
    if not KEEP:
        tl.store(out + o_x, b_x, mask=m_x)


@triton.jit
def newton_schulz_bwd_kernel(
    x,
    kept,
    d_out,
    d_x,
    coefficients,
    rows,
    cols,
    stride_r,
    stride_c,
    EPS: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """Gradient of one matrix a program."""
    i_n = tl.program_id(0).to(tl.int64)
    o_r = tl.arange(0, BR)[:, None]
    o_c = tl.arange(0, BC)[None, :]
    m_x = (o_r < rows) & (o_c < cols)
    o_x = i_n * rows * cols + o_r * stride_r + o_c * stride_c
    b_g = tl.load(d_out + o_x, mask=m_x, other=0).to(ACC)
    for j in range(5):
        i = 4 - j
        o_k = (i_n * 5 + i) * rows * cols + o_r * cols + o_c
        b_x = tl.load(kept + o_k, mask=m_x, other=0).to(DOT)
        a = tl.load(coefficients + 3 * i)
        b = tl.load(coefficients + 3 * i + 1)
        c = tl.load(coefficients + 3 * i + 2)
        b_gd = b_g.to(DOT)
        b_a = tl.dot(b_x, tl.trans(b_x), out_dtype=ACC, input_precision=PREC)
        b_ad = b_a.to(DOT)
        # Of B = bA + cAA, and then of A, of which only even parts matter.
        b_s = tl.dot(b_gd, tl.trans(b_x), out_dtype=ACC, input_precision=PREC)
        b_s = b_s + tl.trans(b_s)
        b_p = tl.dot(b_s.to(DOT), b_ad, out_dtype=ACC, input_precision=PREC)
        b_p = b * b_s + c * (b_p + tl.trans(b_p))
        b_y = tl.dot(b_p.to(DOT), b_x, out_dtype=ACC, input_precision=PREC)
        b_b = tl.dot(b_ad, b_ad, out_dtype=ACC, input_precision=PREC)
        b_b = b * b_a + c * b_b
        b_y += tl.dot(b_b.to(DOT), b_gd, out_dtype=ACC, input_precision=PREC)
        b_g = a * b_g + b_y
    # Of the division by the norm; a matrix of zeros has no direction.
    b_x = tl.load(x + o_x, mask=m_x, other=0).to(ACC)
    norm = tl.sqrt(tl.sum(b_x * b_x))
    size = norm + EPS
    along = tl.sum(b_x * b_g) / (tl.where(norm > 0, norm, 1) * size * size)
    tl.store(d_x + o_x, b_g / size - b_x * along, mask=m_x)


@triton.jit
def symmetric_product_kernel(
    p,
    q,
    base,
    out,
    rows,
    cols,
    alpha,
    beta,
    TWO: tl.constexpr,
    BASE: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """`alpha * PP' + beta * base`, or with TWO `alpha * (PQ' + QP') + beta *
    base`, of [N, rows, cols]: a tile on or above the diagonal a program, which
    is also written below it."""
    i_n = tl.program_id(0).to(tl.int64)
    i_i, i_j = tl.program_id(1), tl.program_id(2)
    if i_j < i_i:
        return
    o_i = i_i * BR + tl.arange(0, BR)
    o_j = i_j * BR + tl.arange(0, BR)
    p += i_n * rows * cols
    q += i_n * rows * cols
    b_o = tl.zeros([BR, BR], dtype=ACC)
    for i_c in range(0, cols, BC):
        o_c = i_c + tl.arange(0, BC)
        o_ic = o_i[:, None] * cols + o_c[None, :]
        o_jc = o_j[:, None] * cols + o_c[None, :]
        m_ic = (o_i[:, None] < rows) & (o_c[None, :] < cols)
        m_jc = (o_j[:, None] < rows) & (o_c[None, :] < cols)
        b_pi = tl.load(p + o_ic, mask=m_ic, other=0).to(DOT)
        b_qj = tl.load(q + o_jc, mask=m_jc, other=0).to(DOT)
        b_o += tl.dot(b_pi, tl.trans(b_qj), out_dtype=ACC, input_precision=PREC)
        if TWO:
            b_qi = tl.load(q + o_ic, mask=m_ic, other=0).to(DOT)
            b_pj = tl.load(p + o_jc, mask=m_jc, other=0).to(DOT)
            b_o += tl.dot(
                b_qi, tl.trans(b_pj), out_dtype=ACC, input_precision=PREC
            )
    b_o = alpha * b_o
    above = i_n * rows * rows + o_i[:, None] * rows + o_j[None, :]
    m_o = (o_i[:, None] < rows) & (o_j[None, :] < rows)
    if BASE:
        b_o += beta * tl.load(base + above, mask=m_o, other=0).to(ACC)
    tl.store(out + above, b_o, mask=m_o)
    if i_i != i_j:
        below = i_n * rows * rows + o_j[:, None] * rows + o_i[None, :]
        m_o = (o_j[:, None] < rows) & (o_i[None, :] < rows)
        tl.store(out + below, tl.trans(b_o), mask=m_o)


def symmetric_product(p, q=None, base=None, alpha=1.0, beta=1.0):
    """A product that is symmetric, computed once.

    Arguments
    ---------
    p : torch.Tensor
        Matrices [N, r, c].
    q : torch.Tensor, optional
        As `p`.
    base : torch.Tensor, optional
        Symmetric matrices [N, r, r].
    alpha, beta : float
        Factors.

    Returns
    -------
    torch.Tensor
        `alpha * PP' + beta * base`, or with `q` `alpha * (PQ' + QP') + beta *
        base`, in the type of `p` [N, r, r].
    """
    count, rows, cols = p.shape
    out = p.new_empty(count, rows, rows)
    options = product_options(p.new_empty(0, dtype=_core(p)), p.dtype)
    side = triton.cdiv(rows, TILE)
    two = q is not None
    symmetric_product_kernel[count, side, side](
        p,
        q if two else p,
        base if base is not None else p,
        out,
        rows,
        cols,
        alpha,
        beta,
        TWO=two,
        BASE=base is not None,
        BR=TILE,
        BC=32,
        num_warps=4,
        **options,
    )
    return out


def newton_schulz(x, dtype=None):
    """Nearly the polar factor U V' of each matrix U S V'.

    Arguments
    ---------
    x : torch.Tensor
        Matrices [N, h, d].
    dtype : torch.dtype, optional
        Type of the factors of matrix products (default: that of `x`).

    Returns
    -------
    torch.Tensor
        As `x`; zero for a matrix of zeros.
    """
    return _NewtonSchulz.apply(x.contiguous(), dtype)


class _NewtonSchulz(torch.autograd.Function):
    """Keeps its input alone: the backward pass repeats the steps."""

    @staticmethod
    @on_device
    def forward(ctx, x, dtype):
        """Nearly the polar factor."""
        ctx.save_for_backward(x)
        ctx.dtype = dtype
        if max(x.shape[1:]) > most_on_chip(x, dtype)[0]:
            return _tiled_forward(x, dtype)
        out = torch.empty_like(x)
        if x.numel():
            newton_schulz_fwd_kernel[(len(x),)](
                x, out, out, KEEP=False, **_on_chip(x, dtype)
            )
        return out

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, grad):
        """Gradient of the matrices."""
        (x,) = ctx.saved_tensors
        grad = grad.contiguous()
        if max(x.shape[1:]) > most_on_chip(x, ctx.dtype)[1]:
            return _tiled_backward(x, grad, ctx.dtype), None
        d_x = torch.empty_like(x)
        if x.numel():
            options = _on_chip(x, ctx.dtype)
            kept = x.new_empty(len(x), 5, x[0].numel())
            launch = (len(x),)
            newton_schulz_fwd_kernel[launch](
                x, kept, kept, KEEP=True, **options
            )
            newton_schulz_bwd_kernel[launch](x, kept, grad, d_x, **options)
        return d_x, None


@functools.cache
def _coefficients(dtype, device):
    """The coefficients [5, 3]. A loop that knew them at compile time would be
    unrolled, which takes the compiler a minute."""
    return torch.tensor(COEFFICIENTS, dtype=dtype, device=device)


def most_on_chip(x, dtype=None):
    """The greatest side of a matrix that a program holds.

    Arguments
    ---------
    x : torch.Tensor
        The matrices.
    dtype : torch.dtype, optional
        Type of the factors of matrix products.

    Returns
    -------
    forward, backward : int
    """
    return ON_CHIP[product_kind(x, dtype)]


def _on_chip(x, dtype):
    """Arguments of the kernels that hold a matrix; a tall one is read as its
    transpose."""
    _, rows, cols = x.shape
    stride_r, stride_c = cols, 1
    if rows > cols:
        rows, cols, stride_r, stride_c = cols, rows, 1, cols
    wide, high = block(cols, 128), block(rows, 128)
    return {
        "rows": rows,
        "cols": cols,
        "stride_r": stride_r,
        "stride_c": stride_c,
        "coefficients": _coefficients(x.dtype, x.device),
        "EPS": EPS,
        "BR": high,
        "BC": wide,
        "num_stages": 1,
        "num_warps": 1 if wide <= 16 else 4 if wide <= 32 else 8,
        **product_options(x, dtype),
    }


def _core(x):
    """Type of sums."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _unit(x, dtype):
    """Wide matrices of norm 1 in the type of the products, and whether they
    were tall."""
    tall = x.shape[1] > x.shape[2]
    x = x.mT.contiguous() if tall else x
    norm = torch.linalg.matrix_norm(x, keepdim=True)
    return (x / (norm + EPS)).to(dtype or x.dtype), tall


def _factors(x, b, c):
    """A and B = bA + cAA."""
    outer = symmetric_product(x)
    return outer, symmetric_product(outer, base=outer, alpha=c, beta=b)


def _tiled_forward(x, dtype):
    """Steps of matrices that are too large to hold."""
    core = x.dtype
    x, tall = _unit(x, dtype)
    for a, b, c in COEFFICIENTS:
        x = torch.baddbmm(x, _factors(x, b, c)[1], x, beta=a)
    x = x.to(core)
    return x.mT.contiguous() if tall else x


def _tiled_backward(given, grad, dtype):
    """Their gradients."""
    x, tall = _unit(given, dtype)
    grad = (grad.mT.contiguous() if tall else grad).to(x.dtype)
    kept = []
    for a, b, c in COEFFICIENTS:
        kept.append(x)
        x = torch.baddbmm(x, _factors(x, b, c)[1], x, beta=a)
    for (a, b, c), x in zip(reversed(COEFFICIENTS), reversed(kept)):
        outer, inner = _factors(x, b, c)
        d_inner = symmetric_product(grad, x)
        d_outer = symmetric_product(
            d_inner, outer, base=d_inner, alpha=c, beta=b
        )
        grad = torch.baddbmm(grad, inner, grad, beta=a).baddbmm(d_outer, x)
    grad = grad.to(given.dtype)
    grad = grad.mT if tall else grad
    norm = torch.linalg.matrix_norm(given, keepdim=True)
    along = (given * grad).sum((1, 2), keepdim=True)
    along = along / (norm.masked_fill(norm == 0, 1) * (norm + EPS) ** 2)
    return torch.addcmul(grad / (norm + EPS), given, along, value=-1)
