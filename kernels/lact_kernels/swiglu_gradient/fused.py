"""Gradients of the weights of SwiGLU networks, and its own backward pass.

With a = W0 k, b = W2 k, r = W1' v and s = silu(a), the three matrices get
sum lr0 (r b silu'(a)) k', sum lr2 (r s) k' and sum lr1 v (s b)'.

Up to 128 wide one kernel does it all: a program keeps some rows of the three
matrices and goes over the frames. Above, a kernel writes the factors beside k
and v, and cuBLAS multiplies them. The backward pass keeps only its inputs.

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

# The greatest width of which a program holds whole rows, by what it
# multiplies (see benchmarks/kernel_binaries.py).
ON_CHIP = {"half": 128, "tf32": 128, "ieee": 32}


@triton.jit
def swiglu_gradient_fwd_kernel(
    w,
    k,
    v,
    rates,
    out,
    length,
    hidden,
    width,
    stride_k,
    stride_v,
    stride_rn,
    stride_rl,
    BL: tl.constexpr,
    BH: tl.constexpr,
    BD: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """BH rows of the three matrices of one network a program."""
    i_n = tl.program_id(0).to(tl.int64)
    o_h = tl.program_id(1) * BH + tl.arange(0, BH)
    o_d = tl.arange(0, BD)
    m_w = (o_h[:, None] < hidden) & (o_d[None, :] < width)
    o_w = i_n * 3 * hidden * width + o_h[:, None] * width + o_d[None, :]
    part = hidden * width
    b_w0 = tl.load(w + o_w, mask=m_w, other=0).to(DOT)
    b_w2 = tl.load(w + o_w + part, mask=m_w, other=0).to(DOT)
    b_w1 = tl.load(w + o_w + 2 * part, mask=m_w, other=0).to(DOT)
    b_d0 = tl.zeros([BH, BD], dtype=ACC)
    b_d2 = tl.zeros([BH, BD], dtype=ACC)
    b_d1 = tl.zeros([BH, BD], dtype=ACC)
    for i_l in range(0, length, BL):
        o_l = i_l + tl.arange(0, BL)
        m_l = o_l < length
        m_x = m_l[:, None] & (o_d[None, :] < width)
        o_x = o_l[:, None] * width + o_d[None, :]
        b_k = tl.load(k + i_n * stride_k + o_x, mask=m_x, other=0).to(DOT)
        b_v = tl.load(v + i_n * stride_v + o_x, mask=m_x, other=0).to(DOT)
        p_r = rates + i_n * stride_rn + o_l * stride_rl
        b_l0 = tl.load(p_r, mask=m_l, other=0)[:, None]
        b_l1 = tl.load(p_r + 1, mask=m_l, other=0)[:, None]
        b_l2 = tl.load(p_r + 2, mask=m_l, other=0)[:, None]
        b_a = tl.dot(b_k, tl.trans(b_w0), out_dtype=ACC, input_precision=PREC)
        b_b = tl.dot(b_k, tl.trans(b_w2), out_dtype=ACC, input_precision=PREC)
        b_r = tl.dot(b_v, tl.trans(b_w1), out_dtype=ACC, input_precision=PREC)
        b_g = 1 / (1 + tl.exp(-b_a))
        b_s = b_a * b_g
        b_f0 = b_r * b_b * (b_g + b_s * (1 - b_g)) * b_l0
        b_f2 = b_r * b_s * b_l2
        b_f1 = b_s * b_b * b_l1
        b_d0 += tl.dot(
            tl.trans(b_f0.to(DOT)), b_k, out_dtype=ACC, input_precision=PREC
        )
        b_d2 += tl.dot(
            tl.trans(b_f2.to(DOT)), b_k, out_dtype=ACC, input_precision=PREC
        )
        b_d1 += tl.dot(
            tl.trans(b_f1.to(DOT)), b_v, out_dtype=ACC, input_precision=PREC
        )
    tl.store(out + o_w, b_d0, mask=m_w)
    tl.store(out + o_w + part, b_d2, mask=m_w)
    tl.store(out + o_w + 2 * part, b_d1, mask=m_w)


@triton.jit
def swiglu_factors_kernel(
    w,
    k,
    v,
    rates,
    grad,
    by_k,
    by_v,
    d_rates,
    length,
    hidden,
    width,
    stride_k,
    stride_v,
    stride_rn,
    stride_rl,
    VALUES: tl.constexpr,
    RATES: tl.constexpr,
    BACKWARD: tl.constexpr,
    BL: tl.constexpr,
    BH: tl.constexpr,
    BD: tl.constexpr,
    DOT: tl.constexpr,
    ACC: tl.constexpr,
    PREC: tl.constexpr,
):
    """What stands beside k and v in products over the frames; BL frames and BH
    hidden units a program.

    Without VALUES only s * b [N, L, h], to `by_v`. With it the factors of W0
    and W2 to `by_k` [N, L, 2h] and that of W1 to `by_v`. BACKWARD, for `grad`
    of the three gradients: the same and the gradients of a and b, to `by_k`
    [N, L, 4h], and of r, to `by_v` [N, L, 2h]; and the parts of those of the
    learning rates, to `d_rates` [N, programs, L, 3].
    """
    i_n = tl.program_id(0).to(tl.int64)
    i_h = tl.program_id(2)
    o_l = tl.program_id(1) * BL + tl.arange(0, BL)
    o_h = i_h * BH + tl.arange(0, BH)
    m_l, m_h = o_l < length, o_h < hidden
    part = hidden * width
    b_a = tl.zeros([BL, BH], dtype=ACC)
    b_b = tl.zeros([BL, BH], dtype=ACC)
    b_r = tl.zeros([BL, BH], dtype=ACC)
    b_x0 = tl.zeros([BL, BH], dtype=ACC)
    b_x2 = tl.zeros([BL, BH], dtype=ACC)
    b_x1 = tl.zeros([BL, BH], dtype=ACC)
    for i_d in range(0, width, BD):
        o_d = i_d + tl.arange(0, BD)
        m_d = o_d < width
        m_x = m_l[:, None] & m_d[None, :]
        o_x = o_l[:, None] * width + o_d[None, :]
        # Transposed: [BD, BH].
        m_w = m_d[:, None] & m_h[None, :]
        o_w = i_n * 3 * part + o_h[None, :] * width + o_d[:, None]
        b_k = tl.load(k + i_n * stride_k + o_x, mask=m_x, other=0).to(DOT)
        b_w = tl.load(w + o_w, mask=m_w, other=0).to(DOT)
        b_a += tl.dot(b_k, b_w, out_dtype=ACC, input_precision=PREC)
        b_w = tl.load(w + o_w + part, mask=m_w, other=0).to(DOT)
        b_b += tl.dot(b_k, b_w, out_dtype=ACC, input_precision=PREC)
        if VALUES:
            b_v = tl.load(v + i_n * stride_v + o_x, mask=m_x, other=0).to(DOT)
            b_w = tl.load(w + o_w + 2 * part, mask=m_w, other=0).to(DOT)
            b_r += tl.dot(b_v, b_w, out_dtype=ACC, input_precision=PREC)
        if BACKWARD:
            b_w = tl.load(grad + o_w, mask=m_w, other=0).to(DOT)
            b_x0 += tl.dot(b_k, b_w, out_dtype=ACC, input_precision=PREC)
            b_w = tl.load(grad + o_w + part, mask=m_w, other=0).to(DOT)
            b_x2 += tl.dot(b_k, b_w, out_dtype=ACC, input_precision=PREC)
            b_w = tl.load(grad + o_w + 2 * part, mask=m_w, other=0).to(DOT)
            b_x1 += tl.dot(b_v, b_w, out_dtype=ACC, input_precision=PREC)
    b_g = 1 / (1 + tl.exp(-b_a))
    b_s = b_a * b_g
    m_o = m_l[:, None] & m_h[None, :]
    if BACKWARD:
        row_k, row_v = 4 * hidden, 2 * hidden
    else:
        row_k, row_v = 2 * hidden, hidden
    o_o = i_n * length + o_l[:, None]
    p_k = by_k + o_o * row_k + o_h[None, :]
    p_v = by_v + o_o * row_v + o_h[None, :]
    if not VALUES:
        tl.store(p_v, b_s * b_b, mask=m_o)
    else:
        b_p = b_g + b_s * (1 - b_g)
        b_f0 = b_r * b_b * b_p
        b_f2 = b_r * b_s
        b_f1 = b_s * b_b
        if RATES:
            p_r = rates + i_n * stride_rn + o_l * stride_rl
            b_l0 = tl.load(p_r, mask=m_l, other=0)[:, None]
            b_l1 = tl.load(p_r + 1, mask=m_l, other=0)[:, None]
            b_l2 = tl.load(p_r + 2, mask=m_l, other=0)[:, None]
            if BACKWARD:
                i_p = i_n * tl.num_programs(2) + i_h
                p_d = d_rates + (i_p * length + o_l) * 3
                tl.store(p_d, tl.sum(b_f0 * b_x0, 1), mask=m_l)
                tl.store(p_d + 1, tl.sum(b_f1 * b_x1, 1), mask=m_l)
                tl.store(p_d + 2, tl.sum(b_f2 * b_x2, 1), mask=m_l)
                b_x0 *= b_l0
                b_x1 *= b_l1
                b_x2 *= b_l2
            b_f0 *= b_l0
            b_f1 *= b_l1
            b_f2 *= b_l2
        tl.store(p_k, b_f0, mask=m_o)
        tl.store(p_k + hidden, b_f2, mask=m_o)
        tl.store(p_v, b_f1, mask=m_o)
        if BACKWARD:
            b_c = b_g * (1 - b_g) * (2 + b_a - 2 * b_s)
            b_da = b_r * b_b * b_c * b_x0 + b_p * (b_r * b_x2 + b_b * b_x1)
            tl.store(p_k + 2 * hidden, b_da, mask=m_o)
            b_db = b_r * b_p * b_x0 + b_s * b_x1
            tl.store(p_k + 3 * hidden, b_db, mask=m_o)
            b_dr = b_b * b_p * b_x0 + b_s * b_x2
            tl.store(p_v + hidden, b_dr, mask=m_o)


def swiglu_factors(weights, k, v=None, rates=None, grad=None, dtype=None):
    """What stands beside keys and values in products over the frames.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    k, v : torch.Tensor
        Keys and values [N, L, d]; without values s * b alone is found.
    rates : torch.Tensor, optional
        Learning rates of W0, W1, W2 [N, L, 3].
    grad : torch.Tensor, optional
        Gradient of the result of `swiglu_gradient`.
    dtype : torch.dtype, optional
        Type of the factors.

    Returns
    -------
    by_k, by_v : torch.Tensor
        [N, L, 2h] and [N, L, h]; with `grad` [N, L, 4h] and [N, L, 2h].
    d_rates : torch.Tensor
        [N, L, 3], with `grad`.
    """
    count, length, width = k.shape
    hidden = weights.shape[1] // 3
    backward, values = grad is not None, v is not None
    tile = 32 if backward else 64
    high, wide = block(length, tile), block(hidden, tile)
    parts = triton.cdiv(hidden, wide)
    times = 2 if backward else 1
    like = k.new_empty(0, dtype=dtype or k.dtype)
    by_v = like.new_empty(count, length, times * hidden)
    by_k, d_rates = by_v, None
    if values:
        by_k = like.new_empty(count, length, 2 * times * hidden)
    if backward:
        d_rates = k.new_empty(count, parts, length, 3)
    if by_v.numel():
        swiglu_factors_kernel[count, triton.cdiv(length, high), parts](
            weights,
            k,
            v if values else k,
            rates if rates is not None else k,
            grad if backward else weights,
            by_k,
            by_v,
            d_rates if backward else by_v,
            length,
            hidden,
            width,
            k.stride(0),
            v.stride(0) if values else 0,
            rates.stride(0) if rates is not None else 0,
            rates.stride(1) if rates is not None else 0,
            VALUES=values,
            RATES=rates is not None,
            BACKWARD=backward,
            BL=high,
            BH=wide,
            BD=block(width, 32),
            num_warps=4,
            **product_options(k, dtype),
        )
    return by_k, by_v, d_rates.sum(1) if backward else None


def swiglu_gradient(weights, k, v, rates, dtype=None):
    """Downhill direction of the inner loss `-sum_t lr_t <f(k_t), v_t>`.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    k, v : torch.Tensor
        Keys and values [N, L, d].
    rates : torch.Tensor
        Learning rates of W0, W1, W2 [N, L, 3]; 0 for padding.
    dtype : torch.dtype, optional
        Type of the factors of matrix products (default: that of `weights`).

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    check_shape(v, k.shape, "v")
    check_shape(rates, (*k.shape[:2], 3), "rates")
    check_shape(weights, (len(k), weights.shape[1], k.shape[2]), "weights")
    return _SwigluGradient.apply(
        weights.contiguous(), frames(k), frames(v), rates, dtype
    )


class _SwigluGradient(torch.autograd.Function):
    """Keeps its inputs alone."""

    @staticmethod
    @on_device
    def forward(ctx, weights, k, v, rates, dtype):
        """The gradient."""
        ctx.save_for_backward(weights, k, v, rates)
        ctx.dtype = dtype
        rates = rates if rates.stride(2) == 1 else rates.contiguous()
        count, length, width = k.shape
        hidden = weights.shape[1] // 3
        if width > ON_CHIP[product_kind(k, dtype)]:
            by_k, by_v, _ = swiglu_factors(weights, k, v, rates, dtype=dtype)
            parts = product(by_k.mT, k, dtype), product(by_v.mT, v, dtype)
            return torch.cat(parts, 1)
        out = torch.empty_like(weights)
        if out.numel():
            wide = block(width, 128)
            # Three sums of BH rows stay on chip.
            high = block(hidden, 32 if wide <= 64 else 16)
            swiglu_gradient_fwd_kernel[count, triton.cdiv(hidden, high)](
                weights,
                k,
                v,
                rates,
                out,
                length,
                hidden,
                width,
                k.stride(0),
                v.stride(0),
                rates.stride(0),
                rates.stride(1),
                BL=block(length, 64),
                BH=high,
                BD=wide,
                num_warps=4 if wide <= 64 else 8,
                num_stages=2,
                **product_options(k, dtype),
            )
        return out

    @staticmethod
    @once_differentiable
    @on_device
    def backward(ctx, grad):
        """Gradients of weights, keys, values and rates."""
        weights, k, v, rates = ctx.saved_tensors
        rates = rates if rates.stride(2) == 1 else rates.contiguous()
        dtype, hidden = ctx.dtype, weights.shape[1] // 3
        grad = grad.contiguous()
        by_k, by_v, d_rates = swiglu_factors(weights, k, v, rates, grad, dtype)
        into, out = weights.split([2 * hidden, hidden], 1)
        d_into, d_out = grad.split([2 * hidden, hidden], 1)
        d_k = product(by_k, torch.cat([d_into, into], 1), dtype)
        d_v = product(by_v, torch.cat([d_out, out], 1), dtype)
        d_weights = torch.cat(
            [
                product(by_k[..., 2 * hidden :].mT, k, dtype),
                product(by_v[..., hidden:].mT, v, dtype),
            ],
            1,
        )
        return d_weights, d_k, d_v, d_rates, None
