"""A batch of SwiGLU networks, each with frames of its own.

Up to 128 wide the hidden units never leave the chip. Above, one kernel writes
them and cuBLAS does the last product.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from lact_kernels.common import (
    block,
    check_shape,
    frames,
    on_device,
    product,
    product_kind,
    product_options,
)
from lact_kernels.swiglu_gradient.fused import swiglu_factors

# The greatest width of which a program holds whole frames, by what it
# multiplies (see benchmarks/kernel_binaries.py).
ON_CHIP = {"half": 128, "tf32": 128, "ieee": 32}


@triton.jit
def swiglu_apply_fwd_kernel(
    w,
    x,
    out,
    length,
    hidden,
    width,
    stride_x,
    BL: tl.constexpr,
    BH: tl.constexpr,
    BD: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """BL frames of one network a program."""
    i_n = tl.program_id(0).to(tl.int64)
    o_l = tl.program_id(1) * BL + tl.arange(0, BL)
    o_d = tl.arange(0, BD)
    m_x = (o_l[:, None] < length) & (o_d[None, :] < width)
    o_x = o_l[:, None] * width + o_d[None, :]
    b_x = tl.load(x + i_n * stride_x + o_x, mask=m_x, other=0).to(DOT)
    b_o = tl.zeros([BL, BD], dtype=ACC)
    part = hidden * width
    for i_h in range(0, hidden, BH):
        o_h = i_h + tl.arange(0, BH)
        m_w = (o_h[:, None] < hidden) & (o_d[None, :] < width)
        p_w = w + i_n * 3 * part + o_h[:, None] * width + o_d[None, :]
        b_w0 = tl.load(p_w, mask=m_w, other=0).to(DOT)
        b_w2 = tl.load(p_w + part, mask=m_w, other=0).to(DOT)
        b_w1 = tl.load(p_w + 2 * part, mask=m_w, other=0).to(DOT)
        b_a = tl.dot(b_x, tl.trans(b_w0), out_dtype=ACC, input_precision=PREC)
        b_b = tl.dot(b_x, tl.trans(b_w2), out_dtype=ACC, input_precision=PREC)
        b_h = b_a / (1 + tl.exp(-b_a)) * b_b
        b_o += tl.dot(b_h.to(DOT), b_w1, out_dtype=ACC, input_precision=PREC)
    o_o = i_n * length * width + o_x
    tl.store(out + o_o, b_o, mask=m_x)


def swiglu_apply(weights, x, dtype=None):
    """W1 [silu(W0 x) * (W2 x)].

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    x : torch.Tensor
        Frames [N, L, d].
    dtype : torch.dtype, optional
        Type of the factors of matrix products (default: that of `weights`).

    Returns
    -------
    torch.Tensor
        As `x`.
    """
    check_shape(weights, (len(x), weights.shape[1], x.shape[2]), "weights")
    return _SwigluApply.apply(weights.contiguous(), frames(x), dtype)


class _SwigluApply(torch.autograd.Function):
    """Keeps its inputs alone."""

    @staticmethod
    @on_device
    def forward(ctx, weights, x, dtype):
        """The answers."""
        ctx.save_for_backward(weights, x)
        ctx.dtype = dtype
        count, length, width = x.shape
        hidden = weights.shape[1] // 3
        if width > ON_CHIP[product_kind(x, dtype)]:
            _, by_v, _ = swiglu_factors(weights, x, dtype=dtype)
            return product(by_v, weights[:, 2 * hidden :], dtype)
        out = x.new_empty(x.shape)
        if out.numel():
            high = block(length, 64)
            swiglu_apply_fwd_kernel[count, triton.cdiv(length, high)](
                weights,
                x,
                out,
                length,
                hidden,
                width,
                x.stride(0),
                BL=high,
                BH=block(hidden, 32),
                BD=block(width, 128),
                num_warps=4,
                num_stages=2,
                **product_options(x, dtype),
            )
        return out

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, grad):
        """Gradients of weights and frames."""
        weights, x = ctx.saved_tensors
        dtype, hidden = ctx.dtype, weights.shape[1] // 3
        grad = frames(grad)
        by_x, by_grad, _ = swiglu_factors(weights, x, grad, dtype=dtype)
        d_weights = torch.cat(
            [product(by_x.mT, x, dtype), product(by_grad.mT, grad, dtype)], 1
        )
        return d_weights, product(by_x, weights[:, : 2 * hidden], dtype), None
