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


# Inner losses: `residual(prediction, value)`, all [N, L, d], is the negative
# gradient of the loss of each frame by its prediction, and autograd passes
# through it. None stands for the value itself, whatever was predicted. A loss
# that is added here is known everywhere by its name.
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
    return apply_parts(parts(weights), x, dtype)


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
    rates = lr.split(1, -1)[:3]
    found = gradient_parts(parts(weights), k, v, rates, inner_loss, dtype)
    return found.view(weights.shape)


def parts(weights):
    """The matrices as the products need them.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d], or one above the other [N, 3h, d].

    Returns
    -------
    into, out : torch.Tensor
        W0 beside W2, transposed [N, d, 2h], and W1' [N, h, d].
    """
    into, out = _halves(weights)
    return into.mT, out


def _halves(weights):
    """W0 above W2 [N, 2h, d], and W1' [N, h, d]."""
    if weights.ndim == 4:
        weights = weights.flatten(1, 2)
    hidden = weights.shape[1] // 3
    return weights.split([2 * hidden, hidden], 1)


def apply_parts(weights, x, dtype):
    """`fast_weight_apply` of `parts`."""
    into, out = weights
    gate, hidden = product(x, into, dtype).chunk(2, -1)
    return product(F.silu(gate) * hidden, out, dtype)


def gradient_parts(weights, k, v, rates, inner_loss, dtype):
    """`fast_weight_gradient` of `parts`, with learning rates of W0, W1 and W2
    [N, L, 1] each; one matrix above the other [N, 3h, d]."""
    residual = INNER_LOSSES[inner_loss]
    if residual is not None:
        v = residual(apply_parts(weights, k, dtype), v)
    return _Gradient.apply(*weights, k, v, *rates, dtype)


def last_gradient(weights, k, v, rates, inner_loss, dtype):
    """The part of `gradient_parts` that is for W1, with its learning rates
    [N, L, 1]; transposed [N, h, d]."""
    into, out = weights
    gate, hidden = product(k, into, dtype).chunk(2, -1)
    hidden, residual = F.silu(gate) * hidden, INNER_LOSSES[inner_loss]
    if residual is not None:
        v = residual(product(hidden, out, dtype), v)
    return product((hidden * rates).mT, v, dtype)


class _Gradient(torch.autograd.Function):
    """`fast_weight_gradient` of the dot product, with its own backward pass:
    a training step spends much of its time here, and autograd would take
    twice the passes over the frames.

    With a = W0 k, b = W2 k, r = W1' v and s = silu(a), the three matrices get
    sum lr0 (r b s'(a)) k', sum lr2 (r s) k' and sum lr1 v (s b)'.
    """

    @staticmethod
    def forward(ctx, into, out, k, v, lr0, lr1, lr2, dtype):
        """The gradient [N, 3h, d]."""
        both = product(k, into, dtype)
        a, b = both.chunk(2, -1)
        r = product(v, out.mT, dtype)
        s = F.silu(a)
        d_a = torch.ops.aten.silu_backward(r * b * lr0, a)
        d_in = torch.cat([d_a, r * s * lr2], -1)
        ctx.save_for_backward(into, out, k, v, lr0, lr1, lr2, both, r)
        ctx.dtype = dtype
        return torch.cat(
            [
                product(d_in.mT, k, dtype),
                product((s * b * lr1).mT, v, dtype),
            ],
            1,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradients of weights, keys, values and rates."""
        into, out, k, v, lr0, lr1, lr2, both, r = ctx.saved_tensors
        dtype, width = ctx.dtype, r.shape[-1]
        a, b = both.chunk(2, -1)
        sigma = torch.sigmoid(a)
        s, rest = a * sigma, 1 - sigma
        slope = torch.addcmul(sigma, s, rest)
        curve = sigma * rest * (2 + a - 2 * s)
        flat, last = _halves(grad)
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
        d_a = torch.addcmul(rb * curve * x0, slope, r * x2 + b * x1)
        d_b = torch.addcmul(r * sx0, s, x1)
        by_k = torch.cat([rb * slope * lr0, rs * lr2, d_a, d_b], -1)
        by_v = torch.cat([sb * lr1, torch.addcmul(b * sx0, s, x2)], -1)
        d_into = product(by_k[..., 2 * width :].mT, k, dtype).mT
        d_out = product(by_v[..., width:].mT, v, dtype)
        d_k = product(by_k, torch.cat([flat, into.mT], 1), dtype)
        d_v = product(by_v, torch.cat([last, out], 1), dtype)
        return d_into, d_out, d_k, d_v, *d_rates, None


def product(a, b, dtype):
    """Batched matrix product in `dtype`, the result in the type of `a`."""
    if dtype is None or dtype == a.dtype:
        return torch.bmm(a, b)
    return torch.bmm(a.to(dtype), b.to(dtype)).to(a.dtype)


def row_norms(weights):
    """Norms of the rows of W0 and W2 [N, 2h, 1], and of W1 [N, 1, d]."""
    return [
        torch.linalg.vector_norm(part, dim=dim, keepdim=True)
        for part, dim in zip(_halves(weights), (2, 1))
    ]


def scale_rows(weights, targets):
    """Rows of W0, W2 and W1 scaled to norms given.

    Arguments
    ---------
    weights : torch.Tensor
        As of `parts`.
    targets : list of torch.Tensor
        As `row_norms` gives them.

    Returns
    -------
    torch.Tensor
        One above the other [N, 3h, d].
    """
    scaled = []
    for part, target, dim in zip(_halves(weights), targets, (2, 1)):
        norm = torch.linalg.vector_norm(part, dim=dim, keepdim=True)
        scaled.append(part * (target / (norm + NORM_EPS)))
    return torch.cat(scaled, 1)
