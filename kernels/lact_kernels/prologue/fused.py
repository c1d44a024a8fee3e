"""From a projection to queries, keys and values in one pass.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from lact_kernels.common import TYPES, check_shape, on_device
from lact_kernels.prologue.naive import NORM_EPS

# Frames of a program.
FRAMES = 16


@triton.jit
def prologue_fwd_kernel(
    x,
    scale,
    offset,
    out,
    time,
    width,
    heads,
    total,
    SILU: tl.constexpr,
    EPS: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    ACC: tl.constexpr,
):
    """BT frames of one head of queries, keys or values a program."""
    i_b, i_h = tl.program_id(0).to(tl.int64), tl.program_id(1) % heads
    i_x = tl.program_id(1) // heads
    o_t = tl.program_id(2) * BT + tl.arange(0, BT)
    o_d = tl.arange(0, BD)
    m_d = o_d < width
    m_x = (o_t < time)[:, None] & m_d[None, :]
    channel = i_h * width + o_d
    row = heads * width
    o_x = (i_b * time + o_t[:, None]) * 3 * row + i_x * row + channel[None, :]
    b_x = tl.load(x + o_x, mask=m_x, other=0).to(ACC)
    b_n = tl.full([BT], 1, ACC)
    if i_x < 2:
        b_a = tl.load(scale + i_x * row + channel, mask=m_d, other=0)
        b_b = tl.load(offset + i_x * row + channel, mask=m_d, other=0)
        b_x = b_x * b_a[None, :].to(ACC) + b_b[None, :].to(ACC)
        b_x = b_x / (1 + tl.exp(-b_x))
        b_n = tl.sqrt(tl.sum(b_x * b_x, 1)) + EPS
    elif SILU:
        b_x = b_x / (1 + tl.exp(-b_x))
    o_o = i_x * total + ((i_b * heads + i_h) * time + o_t[:, None]) * width
    tl.store(out + o_o + o_d[None, :], b_x / b_n[:, None], mask=m_x)


@triton.jit
def prologue_bwd_kernel(
    x,
    scale,
    offset,
    grad,
    d_x,
    d_scale,
    d_offset,
    time,
    width,
    heads,
    total,
    SILU: tl.constexpr,
    EPS: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    ACC: tl.constexpr,
):
    """Gradients; of scale and offset in parts [B, programs, 2, E]."""
    i_b, i_h = tl.program_id(0).to(tl.int64), tl.program_id(1) % heads
    i_x, i_t = tl.program_id(1) // heads, tl.program_id(2)
    o_t = i_t * BT + tl.arange(0, BT)
    o_d = tl.arange(0, BD)
    m_d = o_d < width
    m_x = (o_t < time)[:, None] & m_d[None, :]
    channel = i_h * width + o_d
    row = heads * width
    o_x = (i_b * time + o_t[:, None]) * 3 * row + i_x * row + channel[None, :]
    o_g = i_x * total + ((i_b * heads + i_h) * time + o_t[:, None]) * width
    b_x = tl.load(x + o_x, mask=m_x, other=0).to(ACC)
    b_g = tl.load(grad + o_g + o_d[None, :], mask=m_x, other=0)
    if i_x < 2:
        b_a = tl.load(scale + i_x * row + channel, mask=m_d, other=0)
        b_b = tl.load(offset + i_x * row + channel, mask=m_d, other=0)
        b_a = b_a[None, :].to(ACC)
        b_y = b_x * b_a + b_b[None, :].to(ACC)
        b_sig = 1 / (1 + tl.exp(-b_y))
        b_s = b_y * b_sig
        b_n = tl.sqrt(tl.sum(b_s * b_s, 1))
        size = b_n + EPS
        along = tl.sum(b_s * b_g, 1)
        along = along / (tl.where(b_n > 0, b_n, 1) * size * size)
        b_g = b_g / size[:, None] - b_s * along[:, None]
        b_g = b_g * (b_sig + b_s * (1 - b_sig))
        parts = (i_b * tl.num_programs(2) + i_t) * 2 * row + i_x * row
        # What lies behind the last frame has a gradient of zero.
        tl.store(d_offset + parts + channel, tl.sum(b_g, 0), mask=m_d)
        tl.store(d_scale + parts + channel, tl.sum(b_g * b_x, 0), mask=m_d)
        b_g = b_g * b_a
    elif SILU:
        b_sig = 1 / (1 + tl.exp(-b_x))
        b_g = b_g * (b_sig + b_x * b_sig * (1 - b_sig))
    tl.store(d_x + o_x, b_g, mask=m_x)


def prologue(projected, scale, offset, heads, silu_values=True):
    """Queries, keys and values of fast weights.

    Arguments
    ---------
    projected : torch.Tensor
        Queries, keys and values beside each other [B, T, 3E], of any floating
        type.
    scale, offset : torch.Tensor
        Of the channels of queries and keys [2, E]; the result has their type.
    heads : int
        Fast networks of a row.
    silu_values : bool
        Whether values pass SiLU, as queries and keys do.

    Returns
    -------
    torch.Tensor
        The three [3, B * heads, T, E / heads]; queries and keys have length 1.
    """
    check_shape(scale, (2, projected.shape[2] // 3), "scale")
    check_shape(offset, scale.shape, "offset")
    return _Prologue.apply(
        projected.contiguous(),
        scale.contiguous(),
        offset.contiguous(),
        heads,
        silu_values,
    )


class _Prologue(torch.autograd.Function):
    """Keeps its inputs alone."""

    @staticmethod
    @on_device
    def forward(ctx, projected, scale, offset, heads, silu):
        """The three, one after the other."""
        ctx.save_for_backward(projected, scale, offset)
        ctx.options = heads, silu
        rows, time, _ = projected.shape
        width = scale.shape[1] // heads
        out = scale.new_empty(3, rows * heads, time, width)
        if out.numel():
            launch, options = _programs(projected, scale, heads, silu)
            prologue_fwd_kernel[launch](
                projected, scale, offset, out, **options
            )
        return out

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, grad):
        """Gradients of projection, scale and offset."""
        projected, scale, offset = ctx.saved_tensors
        launch, options = _programs(projected, scale, *ctx.options)
        d_x = torch.empty_like(projected)
        parts = [
            scale.new_empty(launch[0], launch[2], *scale.shape)
            for _ in range(2)
        ]
        if d_x.numel():
            prologue_bwd_kernel[launch](
                projected,
                scale,
                offset,
                grad.contiguous(),
                d_x,
                *parts,
                **options,
            )
        return d_x, *(part.sum((0, 1)) for part in parts), None, None


def _programs(projected, scale, heads, silu):
    """Shape and arguments of a launch."""
    rows, time, _ = projected.shape
    width = scale.shape[1] // heads
    return (rows, 3 * heads, triton.cdiv(time, FRAMES)), {
        "time": time,
        "width": width,
        "heads": heads,
        "total": rows * heads * time * width,
        "SILU": silu,
        "EPS": NORM_EPS,
        "BT": FRAMES,
        "BD": triton.next_power_of_2(width),
        "ACC": TYPES[scale.dtype],
        "num_warps": 4,
    }
