"""The fast network: a small SwiGLU network that is trained while it is used.

    f_W(x) = W1 [ silu(W0 x) * (W2 x) ]

Its three matrices are one tensor `[N, 3, h, d]` holding W0, W2 and W1
transposed, so that one product serves two matrices.

Source of the formulas: Test-Time Training Done Right,
https://arxiv.org/abs/2505.23884

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

NORM_EPS = 1e-5


def cosine_residual(prediction, value):
    """Of the loss `-cos(prediction, value)`."""
    sizes = [
        torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(NORM_EPS)
        for x in (prediction, value)
    ]
    prediction, value = prediction / sizes[0], value / sizes[1]
    cosine = (prediction * value).sum(-1, keepdim=True)
    return (value - cosine * prediction) / sizes[0]


# Inner losses: `residual(prediction, value)` is the direction in which the
# prediction lowers the loss of a frame, minus its gradient. None stands for
# the value itself, whatever was predicted. A loss that is added here is known
# everywhere by its name.
INNER_LOSSES = {
    # -<f(k), v>
    "dot_product": None,
    # |f(k) - v|^2 / 2
    "mse": lambda prediction, value: value - prediction,
    # -cos(f(k), v)
    "cosine": cosine_residual,
}


def fast_weight_apply(weights, x, dtype=None):
    """The fast network itself.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d].
    x : torch.Tensor
        Frames [N, L, d].
    dtype : torch.dtype, optional
        Type of the matrix products (default: that of `weights`).

    Returns
    -------
    torch.Tensor
        f_W(x) [N, L, d].

    Example
    -------
    >>> weights = torch.ones(1, 3, 2, 2)
    >>> fast_weight_apply(weights, torch.zeros(1, 5, 2)).abs().sum()
    tensor(0.)
    """
    into, out = halves(weights)
    gate, hidden = product(x, into.mT, dtype).chunk(2, -1)
    return product(F.silu(gate) * hidden, out, dtype)


def fast_weight_gradient(
    weights, k, v, lr, inner_loss="dot_product", dtype=None
):
    """Downhill direction of the inner loss of one chunk.

    The loss is a sum over frames, each weighted by its learning rate, with a
    learning rate for each of the three matrices: `-sum_t lr_t <f_W(k_t), v_t>`
    for `dot_product`.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d].
    k, v : torch.Tensor
        Keys and values [N, L, d].
    lr : torch.Tensor
        Learning rates of W0, W1, W2 [N, L, 3]; 0 for padding. Channels beyond
        them are not looked at.
    inner_loss : str
        One of `INNER_LOSSES`.
    dtype : torch.dtype, optional
        Type of the matrix products.

    Returns
    -------
    torch.Tensor
        [N, 3, h, d], to be added to the weights.
    """
    residual = INNER_LOSSES[inner_loss]
    if residual is not None:
        v = residual(fast_weight_apply(weights, k, dtype), v)
    return _Gradient.apply(weights, k, v, *lr.split(1, -1)[:3], dtype)


class _Gradient(torch.autograd.Function):
    """`fast_weight_gradient` of the dot product, with its own backward pass:
    a training step spends much of its time here, and autograd would take
    twice the passes over the frames.

    With a = W0 k, b = W2 k, r = W1' v and s = silu(a), the three matrices get
    sum lr0 (r b s'(a)) k', sum lr2 (r s) k' and sum lr1 v (s b)'.
    """

    @staticmethod
    def forward(ctx, weights, k, v, lr0, lr1, lr2, dtype):
        """The gradient [N, 3, h, d]."""
        inner, outer = halves(weights)
        both = product(k, inner.mT, dtype)
        a, b = both.chunk(2, -1)
        sigma = torch.sigmoid(a)
        r = product(v, outer.mT, dtype)
        s = a * sigma
        slope = torch.addcmul(sigma, s, 1 - sigma)
        d_in = torch.cat([r * b * slope * lr0, r * s * lr2], -1)
        out = torch.cat(
            [
                product(d_in.mT, k, dtype),
                product((s * b * lr1).mT, v, dtype),
            ],
            1,
        )
        ctx.save_for_backward(weights, k, v, lr0, lr1, lr2, both, sigma, r)
        ctx.dtype = dtype
        return out.view(weights.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradients of weights, keys, values and rates."""
        weights, k, v, lr0, lr1, lr2, both, sigma, r = ctx.saved_tensors
        dtype, width = ctx.dtype, sigma.shape[-1]
        inner, outer = halves(weights)
        a, b = both.chunk(2, -1)
        s, rest = a * sigma, 1 - sigma
        slope = torch.addcmul(sigma, s, rest)
        curve = sigma * rest * (2 + a - 2 * s)
        flat, last = halves(grad)
        # What the three factors beside k, k and v get.
        x0, x2 = product(k, flat.mT, dtype).chunk(2, -1)
        x1 = product(v, last.mT, dtype)
        rb, rs, sb = r * b, r * s, s * b
        d_rates = [
            x.sum(-1, keepdim=True) for x in (rb * slope * x0, sb * x1, rs * x2)
        ]
        x0, x1, x2 = x0 * lr0, x1 * lr1, x2 * lr2
        sx0 = slope * x0
        # Beside k stand the two factors of the forward pass, da and db;
        # beside v the third factor, and dr.
        by_k = both.new_empty(*both.shape[:2], 4, width)
        torch.mul(rb * slope, lr0, out=by_k[:, :, 0])
        torch.mul(rs, lr2, out=by_k[:, :, 1])
        d_a = torch.mul(rb * curve, x0, out=by_k[:, :, 2])
        d_a.addcmul_(slope, r * x2 + b * x1)
        torch.mul(r, sx0, out=by_k[:, :, 3]).addcmul_(s, x1)
        by_v = both.new_empty(*both.shape[:2], 2, width)
        torch.mul(sb, lr1, out=by_v[:, :, 0])
        torch.mul(b, sx0, out=by_v[:, :, 1]).addcmul_(s, x2)
        by_k, by_v = by_k.flatten(2), by_v.flatten(2)
        d_weights = torch.cat(
            [
                product(by_k[..., 2 * width :].mT, k, dtype),
                product(by_v[..., width:].mT, v, dtype),
            ],
            1,
        )
        d_k = product(by_k, torch.cat([flat, inner], 1), dtype)
        d_v = product(by_v, torch.cat([last, outer], 1), dtype)
        return d_weights.view(weights.shape), d_k, d_v, *d_rates, None


def halves(weights):
    """Of weights [N, 3, h, d]: W0 over W2 [N, 2h, d], and W1' [N, h, d]."""
    hidden = weights.shape[2]
    return weights.flatten(1, 2).split([2 * hidden, hidden], 1)


def product(a, b, dtype):
    """Batched matrix product in `dtype`, the result in the type of `a`."""
    if dtype is None or dtype == a.dtype:
        return torch.bmm(a, b)
    return torch.bmm(a.to(dtype), b.to(dtype)).to(a.dtype)


def row_norms(weights):
    """Norms of the rows of W0 and W2 [N, 2h, 1], and of W1 [N, 1, d]."""
    into, out = halves(weights)
    return (
        torch.linalg.vector_norm(into, dim=2, keepdim=True),
        torch.linalg.vector_norm(out, dim=1, keepdim=True),
    )


def scale_rows(weights, targets):
    """Rows of W0, W2 and W1 scaled to norms given.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d].
    targets : tuple of torch.Tensor
        As `row_norms` gives them.

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    scaled = [
        half
        * (
            target
            / (torch.linalg.vector_norm(half, dim=dim, keepdim=True) + NORM_EPS)
        )
        for half, target, dim in zip(halves(weights), targets, (2, 1))
    ]
    return torch.cat(scaled, 1).view(weights.shape)
