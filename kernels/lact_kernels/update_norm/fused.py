"""A step added to fast weights, their rows scaled; and a choice between new
and old weights without a question to the device.

Momentum is one pass of `torch.addcmul` already.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from lact_kernels.common import TYPES, block, check_shape, on_device
from lact_kernels.update_norm.naive import NORM_EPS

# Rows of a program, and numbers of a row that it takes at a time.
ROWS, COLUMNS = 16, 64
# Numbers of a program that selects.
NUMBERS = 1024


@triton.jit
def scale_fwd(
    w,
    s,
    t,
    out,
    b_f,
    o_r,
    rows,
    cols,
    stride_r,
    stride_c,
    EPS: tl.constexpr,
    BC: tl.constexpr,
    ACC: tl.constexpr,
):
    """Rows `o_r` of `w + b_f * s`, scaled to norms `t`; a row is `cols`
    numbers that are `stride_c` apart."""
    m_r = (o_r < rows)[:, None]
    b_n = tl.zeros([o_r.shape[0]], dtype=ACC)
    for i_c in range(0, cols, BC):
        o_c = i_c + tl.arange(0, BC)
        o_w = o_r[:, None] * stride_r + o_c[None, :] * stride_c
        m_w = m_r & (o_c < cols)[None, :]
        b_w = tl.load(w + o_w, mask=m_w, other=0)
        b_w += b_f * tl.load(s + o_w, mask=m_w, other=0)
        b_n += tl.sum(b_w * b_w, 1)
    b_t = tl.load(t + o_r, mask=o_r < rows, other=0)
    b_t = (b_t / (tl.sqrt(b_n) + EPS))[:, None]
    for i_c in range(0, cols, BC):
        o_c = i_c + tl.arange(0, BC)
        o_w = o_r[:, None] * stride_r + o_c[None, :] * stride_c
        m_w = m_r & (o_c < cols)[None, :]
        b_w = tl.load(w + o_w, mask=m_w, other=0)
        b_w += b_f * tl.load(s + o_w, mask=m_w, other=0)
        tl.store(out + o_w, b_w * b_t, mask=m_w)


@triton.jit
def scale_bwd(
    w,
    s,
    t,
    g,
    d_w,
    d_t,
    b_f,
    o_r,
    rows,
    cols,
    stride_r,
    stride_c,
    EPS: tl.constexpr,
    BC: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients of these rows and norms. Returns the sum of the products of
    the rows' gradients with the step: the factor's part."""
    m_r = (o_r < rows)[:, None]
    b_n = tl.zeros([o_r.shape[0]], dtype=ACC)
    b_p = tl.zeros([o_r.shape[0]], dtype=ACC)
    for i_c in range(0, cols, BC):
        o_c = i_c + tl.arange(0, BC)
        o_w = o_r[:, None] * stride_r + o_c[None, :] * stride_c
        m_w = m_r & (o_c < cols)[None, :]
        b_w = tl.load(w + o_w, mask=m_w, other=0)
        b_w += b_f * tl.load(s + o_w, mask=m_w, other=0)
        b_n += tl.sum(b_w * b_w, 1)
        b_p += tl.sum(b_w * tl.load(g + o_w, mask=m_w, other=0), 1)
    b_n = tl.sqrt(b_n)
    b_t = tl.load(t + o_r, mask=o_r < rows, other=0)
    tl.store(d_t + o_r, b_p / (b_n + EPS), mask=o_r < rows)
    size = b_n + EPS
    # A row of zeros has no direction.
    along = b_t * b_p / (tl.where(b_n > 0, b_n, 1) * size * size)
    scale = b_t / size
    b_d = tl.zeros([o_r.shape[0]], dtype=ACC)
    for i_c in range(0, cols, BC):
        o_c = i_c + tl.arange(0, BC)
        o_w = o_r[:, None] * stride_r + o_c[None, :] * stride_c
        m_w = m_r & (o_c < cols)[None, :]
        b_s = tl.load(s + o_w, mask=m_w, other=0)
        b_w = tl.load(w + o_w, mask=m_w, other=0) + b_f * b_s
        b_g = tl.load(g + o_w, mask=m_w, other=0)
        b_g = b_g * scale[:, None] - b_w * along[:, None]
        tl.store(d_w + o_w, b_g, mask=m_w)
        b_d += tl.sum(b_g * b_s, 1)
    return tl.sum(b_d)


@triton.jit
def update_norm_fwd_kernel(
    weights,
    step,
    factor,
    targets,
    out,
    hidden,
    width,
    into,
    EPS: tl.constexpr,
    FACTOR: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    ACC: tl.constexpr,
):
    """BR rows of W0 and W2 a program; after the first `into` programs, rows of
    W1, which are columns here."""
    i_n, i_p = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_w = i_n * 3 * hidden * width
    targets += i_n * (2 * hidden + width)
    b_f = tl.full((), 1, ACC)
    if FACTOR:
        b_f = tl.load(factor + i_n)
    if i_p < into:
        scale_fwd(
            weights + o_w,
            step + o_w,
            targets,
            out + o_w,
            b_f,
            i_p * BR + tl.arange(0, BR),
            2 * hidden,
            width,
            width,
            1,
            EPS,
            BC,
            ACC,
        )
    else:
        o_w += 2 * hidden * width
        scale_fwd(
            weights + o_w,
            step + o_w,
            targets + 2 * hidden,
            out + o_w,
            b_f,
            (i_p - into) * BR + tl.arange(0, BR),
            width,
            hidden,
            1,
            width,
            EPS,
            BC,
            ACC,
        )


@triton.jit
def update_norm_bwd_kernel(
    weights,
    step,
    factor,
    targets,
    grad,
    d_weights,
    d_targets,
    d_factor,
    hidden,
    width,
    into,
    EPS: tl.constexpr,
    FACTOR: tl.constexpr,
    BR: tl.constexpr,
    BC: tl.constexpr,
    ACC: tl.constexpr,
):
    """As the forward pass; the factor's gradient in parts [N, programs]."""
    i_n, i_p = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_w = i_n * 3 * hidden * width
    o_t = i_n * (2 * hidden + width)
    b_f = tl.full((), 1, ACC)
    if FACTOR:
        b_f = tl.load(factor + i_n)
    b_d = tl.full((), 0, ACC)
    if i_p < into:
        b_d = scale_bwd(
            weights + o_w,
            step + o_w,
            targets + o_t,
            grad + o_w,
            d_weights + o_w,
            d_targets + o_t,
            b_f,
            i_p * BR + tl.arange(0, BR),
            2 * hidden,
            width,
            width,
            1,
            EPS,
            BC,
            ACC,
        )
    else:
        o_w += 2 * hidden * width
        o_t += 2 * hidden
        b_d = scale_bwd(
            weights + o_w,
            step + o_w,
            targets + o_t,
            grad + o_w,
            d_weights + o_w,
            d_targets + o_t,
            b_f,
            (i_p - into) * BR + tl.arange(0, BR),
            width,
            hidden,
            1,
            width,
            EPS,
            BC,
            ACC,
        )
    tl.store(d_factor + i_n * tl.num_programs(1) + i_p, b_d)


@triton.jit
def finite_kernel(x, bad, numbers, start, stride, BN: tl.constexpr):
    """How many of BN numbers of a row are not finite, to `bad` [N, stride] from
    place `start` on."""
    i_n, i_p = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_x = i_p * BN + tl.arange(0, BN)
    b_x = tl.load(x + i_n * numbers + o_x, mask=o_x < numbers, other=0)
    b_b = tl.where(tl.abs(b_x) < float("inf"), 0.0, 1.0)
    tl.store(bad + i_n * stride + start + i_p, tl.sum(b_b))


@triton.jit
def select_kernel(
    new,
    old,
    bad,
    out,
    numbers,
    heads,
    stride,
    BN: tl.constexpr,
    BP: tl.constexpr,
):
    """BN numbers of a row: the old ones if anything of its heads is bad."""
    i_n, i_p = tl.program_id(0).to(tl.int64), tl.program_id(1)
    o_b = tl.arange(0, BP)
    first = i_n // heads * heads * stride
    b_b = tl.zeros([BP], dtype=tl.float32)
    for i_b in range(0, heads * stride, BP):
        m_b = i_b + o_b < heads * stride
        b_b += tl.load(bad + first + i_b + o_b, mask=m_b, other=0)
    good = tl.sum(b_b) == 0
    o_x = i_p * BN + tl.arange(0, BN)
    m_x = o_x < numbers
    b_new = tl.load(new + i_n * numbers + o_x, mask=m_x, other=0)
    b_old = tl.load(old + i_n * numbers + o_x, mask=m_x, other=0)
    tl.store(out + i_n * numbers + o_x, tl.where(good, b_new, b_old), mask=m_x)


def update_norm(weights, step, factor=None, targets=None):
    """Weights after a step, their rows scaled.

    Arguments
    ---------
    weights, step : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    factor : torch.Tensor, optional
        Of each step [N].
    targets : torch.Tensor, optional
        Norms of the rows of W0, W2 and of W1 [N, 2h + d].

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    check_shape(step, weights.shape, "step")
    count, rows, width = weights.shape
    if factor is not None:
        check_shape(factor, (count,), "factor")
    if targets is None:
        # One pass already.
        if factor is None:
            return weights + step
        return torch.addcmul(weights, step, factor[:, None, None])
    check_shape(targets, (count, rows // 3 * 2 + width), "targets")
    return _UpdateNorm.apply(
        weights.contiguous(), step.contiguous(), factor, targets.contiguous()
    )


class _UpdateNorm(torch.autograd.Function):
    """Keeps its inputs alone."""

    @staticmethod
    @on_device
    def forward(ctx, weights, step, factor, targets):
        """The new weights."""
        if factor is not None:
            factor = factor.contiguous()
        ctx.save_for_backward(weights, step, factor, targets)
        out = torch.empty_like(weights)
        if out.numel():
            launch, options = _programs(weights, factor)
            update_norm_fwd_kernel[launch](
                weights,
                step,
                weights if factor is None else factor,
                targets,
                out,
                **options,
            )
        return out

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, grad):
        """Gradients of weights, step, factor and norms."""
        weights, step, factor, targets = ctx.saved_tensors
        d_weights, d_targets = map(torch.empty_like, (weights, targets))
        launch, options = _programs(weights, factor)
        d_factor = weights.new_empty(launch)
        if weights.numel():
            update_norm_bwd_kernel[launch](
                weights,
                step,
                weights if factor is None else factor,
                targets,
                grad.contiguous(),
                d_weights,
                d_targets,
                d_factor,
                **options,
            )
        if factor is None:
            return d_weights, d_weights, None, d_targets
        d_step = d_weights * factor[:, None, None]
        return d_weights, d_step, d_factor.sum(1), d_targets


def _programs(weights, factor):
    """Shape and arguments of a launch."""
    count, rows, width = weights.shape
    hidden = rows // 3
    into = triton.cdiv(2 * hidden, ROWS)
    return (count, into + triton.cdiv(width, ROWS)), {
        "hidden": hidden,
        "width": width,
        "into": into,
        "EPS": NORM_EPS,
        "FACTOR": factor is not None,
        "BR": ROWS,
        "BC": block(max(hidden, width), COLUMNS),
        "ACC": TYPES[weights.dtype],
        "num_warps": 4,
    }


def finite_select(new, old, heads=1):
    """New tensors where all heads of a row are finite, else the old ones.

    Arguments
    ---------
    new, old : list of torch.Tensor
        [N, ...]; N are rows, of `heads` that stand together.
    heads : int

    Returns
    -------
    list of torch.Tensor
        As `new`.
    good : torch.Tensor
        Which rows are new [N].
    """
    *kept, good = _FiniteSelect.apply(heads, *new, *old)
    return kept, good


class _FiniteSelect(torch.autograd.Function):
    """A row that is not finite passes no gradient to what made it."""

    @staticmethod
    @on_device
    def forward(ctx, heads, *tensors):
        """The tensors that are kept, and which rows are new."""
        tensors = [x.contiguous() for x in tensors]
        half = len(tensors) // 2
        new, old = tensors[:half], tensors[half:]
        count = len(new[0])
        sizes = [x[0].numel() if count else 0 for x in new]
        programs = [triton.cdiv(size, NUMBERS) for size in sizes]
        total = sum(programs)
        bad = new[0].new_empty(count, total, dtype=torch.float32)
        start, out = 0, [torch.empty_like(x) for x in new]
        if bad.numel():
            for x, size, program in zip(new, sizes, programs):
                finite_kernel[count, program](
                    x, bad, size, start, total, BN=NUMBERS
                )
                start += program
            for a, b, c, size, program in zip(new, old, out, sizes, programs):
                select_kernel[count, program](
                    a, b, bad, c, size, heads, total, BN=NUMBERS, BP=64
                )
        flags = bad.sum(1).view(-1, heads).sum(1, keepdim=True) == 0
        good = flags.expand(-1, heads).reshape(-1)
        ctx.save_for_backward(good)
        ctx.mark_non_differentiable(good)
        return (*out, good)

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, *grads):
        """Gradients of the new and old tensors."""
        (good,) = ctx.saved_tensors
        flags = [good.view(-1, *[1] * (g.ndim - 1)) for g in grads[:-1]]
        return (
            None,
            *(g.masked_fill(~f, 0) for g, f in zip(grads, flags)),
            *(g.masked_fill(f, 0) for g, f in zip(grads, flags)),
        )
