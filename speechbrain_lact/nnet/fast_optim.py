"""Optimisers that run inside a LaCT layer: SGD, Adam, Muon and momentum.

They act on a stack of fast-weight gradients `[N, 3, h, d]`, all matrices and
heads at once, and are differentiable.

Source of the Newton-Schulz form: https://arxiv.org/abs/2505.23884 and its
published code.

Authors
* speechbrain_lact contributors 2026
"""

import torch
from torch.autograd.function import once_differentiable

OPTIMIZERS = ("sgd", "adam", "muon")

# Coefficients (a, b, c) of five steps X <- aX + (bA + cAA)X, A = XX'.
NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)

ADAM_DECAYS = (0.9, 0.99)
ADAM_EPS = 1e-6


def polar(gradient, dtype=None):
    """Nearly the polar factor U V' of each matrix U S V', by Newton-Schulz.

    Arguments
    ---------
    gradient : torch.Tensor
        Matrices [..., h, d]. A zero matrix gives zero.
    dtype : torch.dtype, optional
        Type of the matrix products (default: that of `gradient`).

    Returns
    -------
    torch.Tensor
        As `gradient`; its singular values lie between about 0.7 and 1.2.

    Example
    -------
    >>> x = polar(torch.diag(torch.tensor([4.0, 1.0])))
    >>> bool((x - torch.eye(2)).abs().max() < 0.3)
    True
    """
    tall = gradient.shape[-2] > gradient.shape[-1]
    x = gradient.transpose(-2, -1) if tall else gradient
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    x = x.to(dtype or gradient.dtype).reshape(-1, *x.shape[-2:])
    x = _NewtonSchulz.apply(x)
    x = x.view(gradient.shape[:-2] + x.shape[-2:]).to(gradient.dtype)
    return x.transpose(-2, -1) if tall else x


class _NewtonSchulz(torch.autograd.Function):
    """The five steps of matrices [N, h, d]. The factors A and B = bA + cAA
    are symmetric, which saves its backward pass a third of the products."""

    @staticmethod
    def forward(ctx, x):
        """Nearly the polar factor."""
        kept = []
        for a, b, c in NEWTON_SCHULZ:
            outer = torch.bmm(x, x.transpose(1, 2))
            inner = torch.baddbmm(outer, outer, outer, beta=b, alpha=c)
            kept += [x, outer, inner]
            x = torch.baddbmm(x, inner, x, beta=a)
        ctx.save_for_backward(*kept)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradient of the matrices."""
        kept = ctx.saved_tensors
        for step in reversed(range(len(NEWTON_SCHULZ))):
            a, b, c = NEWTON_SCHULZ[step]
            x, outer, inner = kept[3 * step : 3 * step + 3]
            d_inner = torch.bmm(grad, x.transpose(1, 2))
            d_inner = d_inner + d_inner.transpose(1, 2)
            # Of A: d_outer, and as A is symmetric, twice its even part.
            product = torch.bmm(d_inner, outer)
            d_outer = torch.add(product, product.transpose(1, 2)).mul_(c)
            d_outer.add_(d_inner, alpha=b)
            grad = torch.baddbmm(grad, inner, grad, beta=a)
            grad = torch.baddbmm(grad, d_outer, x)
        return grad


def adam(gradient, first, second, count, base_lr):
    """One step of Adam with fixed decays.

    The step's size is `base_lr` whatever the size of the gradient, so that
    learning rates per frame only weigh frames against each other.

    Arguments
    ---------
    gradient, first, second : torch.Tensor
        Gradient and the two moments [N, 3, h, d].
    count : torch.Tensor
        Number of this step, from 1 [N].
    base_lr : float
        Step size.

    Returns
    -------
    step, first, second : torch.Tensor
        What is added to the weights, and the new moments.
    """
    decay1, decay2 = ADAM_DECAYS
    first = decay1 * first + (1 - decay1) * gradient
    second = decay2 * second + (1 - decay2) * gradient.square()
    count = count.to(gradient.dtype).view(-1, 1, 1, 1)
    mean = first / (1 - decay1**count)
    square = second / (1 - decay2**count)
    # eps inside the root: at zero the root alone has no finite gradient.
    return base_lr * mean / (square + ADAM_EPS**2).sqrt(), first, second


def clip_norm(step, maximum):
    """Shrinks matrices whose Frobenius norm is above a maximum.

    Arguments
    ---------
    step : torch.Tensor
        Matrices [..., h, d].
    maximum : float
        Largest norm allowed.

    Returns
    -------
    torch.Tensor
        As `step`.

    Example
    -------
    >>> clip_norm(torch.tensor([[3.0, 4.0]]), 1.0)
    tensor([[0.6000, 0.8000]])
    """
    norm = torch.linalg.matrix_norm(step, keepdim=True)
    return step * (maximum / norm.clamp(min=maximum))
