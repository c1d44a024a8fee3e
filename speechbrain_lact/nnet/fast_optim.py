"""Optimisers that run inside a LaCT layer: SGD, Adam, Muon and momentum.

They act on a stack of fast-weight gradients `[N, 3, h, d]`, all matrices and
heads at once, and are differentiable. `update` is the whole of what a chunk
does to the weights: a kernel would take its place.

Source of the Newton-Schulz form: https://arxiv.org/abs/2505.23884 and its
published code.

Authors
* speechbrain_lact contributors 2026
"""

import dataclasses

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint as recompute

from speechbrain_lact.nnet.fast_network import (
    NORM_EPS,
    gradient_parts,
    last_gradient,
    parts,
    scale_rows,
)

OPTIMIZERS = ("sgd", "adam", "muon")
# Which matrices learn: all, or the last one alone, at less cost.
LEARN = (("w0", "w1", "w2"), ("w1",))

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
    shape = x.shape
    x = x.to(dtype or gradient.dtype)
    if x.ndim != 3:
        x = x.reshape(-1, *shape[-2:])
    x = _NewtonSchulz.apply(x).view(shape).to(gradient.dtype)
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
    count = count.to(gradient.dtype).view(-1, *[1] * (gradient.ndim - 1))
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


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """How fast weights learn a chunk; the options of `fast_weight_scan`."""

    optimizer: str = "muon"
    weight_norm: str = "post"
    inner_loss: str = "dot_product"
    base_lr: float = 1e-2
    max_step_norm: float = None
    chunk_size: int = 1
    nhead: int = 1
    checkpoint: bool = False
    dtype: torch.dtype = None
    backend: str = "auto"
    # What takes the place of `update` and of reading: see `backend.choose`.
    kernels: object = None
    learn: tuple = LEARN[0]


def update(
    rule,
    weights,
    moment,
    square,
    targets,
    k,
    v,
    gates,
    counts=None,
    steps=None,
    step_scale=None,
):
    """Learns one chunk: a pure function of tensors.

    A row whose update is not finite, in any of its heads, keeps its weights
    and moments, and no gradient passes through that update.

    Arguments
    ---------
    rule : UpdateRule
        How.
    weights, moment : torch.Tensor
        W0, W2, W1' one above the other, and the momentum (or first moment)
        [N, 3h, d].
    square : torch.Tensor
        Second moment [N, 3h, d]; None unless `adam`.
    targets : tuple of torch.Tensor
        Row norms, as `row_norms` gives them.
    k, v : torch.Tensor
        Keys and values of the chunk [N, C, d].
    gates : torch.Tensor
        Learning rates of W0, W1, W2 and the decay of the momentum
        [N, C, 4]; zeros at padding.
    counts : torch.Tensor, optional
        Number of real frames [N, 1, 1]; None if all rows have a whole
        chunk.
    steps : torch.Tensor, optional
        Updates made before [N]; for `adam` and `pre` norm.
    step_scale : torch.Tensor, optional
        Factor of the steps [N, 1, 1].

    Returns
    -------
    weights, moment, square : torch.Tensor
        After the update.
    good : torch.Tensor
        Whether the update was finite [N, 1, 1].
    """
    if rule.kernels is not None:
        given = weights, moment, square, targets, k, v, gates
        return rule.kernels.update(rule, *given, counts, steps, step_scale)
    given = [weights, moment, square, *targets, step_scale, k, v, gates]

    def attempt(*tensors):
        """The update, recomputed in the backward pass if asked for."""
        tensors = *tensors, counts, steps
        if rule.checkpoint:
            return recompute(propose, rule, *tensors, use_reentrant=False)
        return propose(rule, *tensors)

    if not torch.is_grad_enabled():
        after = attempt(*given)
        good = finite(rule, after)
    elif torch.compiler.is_compiling():
        # No gradient may be selected behind a NaN, and what is traced cannot
        # look back: look first, without gradients.
        with torch.no_grad():
            good = finite(rule, attempt(*given))
        wrong = ~good
        after = attempt(
            *given[:-3], *(x.masked_fill(wrong, 0) for x in (k, v, gates))
        )
    else:
        found = []
        after = attempt(*Shield.apply(found, *given))
        good = finite(rule, after)
        found.append(good)
    after = [
        new if new is None else torch.where(good, new, old)
        for new, old in zip(after, (weights, moment, square))
    ]
    return (*after, good)


class Shield(torch.autograd.Function):
    """Tensors as they are; rows that turn out not to be good get no gradient.
    Behind a NaN even a gradient of zero is NaN."""

    @staticmethod
    def forward(ctx, found, *tensors):
        """`found` gets the good rows [N] once they are known."""
        ctx.found = found
        return tuple(x if x is None else x.view_as(x) for x in tensors)

    @staticmethod
    def backward(ctx, *grads):
        """Selects the gradients."""
        (good,) = ctx.found
        return None, *(
            grad
            if grad is None
            else grad.masked_fill(~good.view(-1, *[1] * (grad.ndim - 1)), 0)
            for grad in grads
        )


def propose(
    rule,
    weights,
    moment,
    square,
    row_targets,
    column_targets,
    scale,
    k,
    v,
    gates,
    counts,
    steps,
):
    """New weights and moments, finite or not."""
    targets = row_targets, column_targets
    *rates, decay = gates.split(1, -1)
    used = used_weights(rule, weights, targets, steps)
    how, fixed = (rule.inner_loss, rule.dtype), None
    if len(rule.learn) == 1:
        gradient = last_gradient(parts(used), k, v, rates[1], *how)
        fixed, weights, moment, square = _last(weights, moment, square)
    else:
        gradient = gradient_parts(parts(used), k, v, rates, *how)
    if rule.optimizer == "adam":
        step, moment, square = adam(
            gradient, moment, square, steps + 1, rule.base_lr
        )
    else:
        if counts is None:
            decay = decay.mean(1, keepdim=True)
        else:
            decay = decay.sum(1, keepdim=True) / counts.clamp(min=1)
        step = moment = torch.addcmul(gradient, decay, moment)
        if rule.optimizer == "muon":
            rows, width = moment.shape[0], moment.shape[2]
            matrices = moment.view(len(rule.learn) * rows, -1, width)
            step = polar(matrices, rule.dtype).reshape(rows, -1, width)
    if rule.optimizer != "sgd" and counts is not None:
        # Not counts / size: integers divide in the default type.
        step = step * (counts.to(gradient.dtype) / rule.chunk_size)
    if rule.max_step_norm is not None:
        step = step if scale is None else step * scale
        matrices = step.view(len(rule.learn) * len(step), -1, step.shape[2])
        step = clip_norm(matrices, rule.max_step_norm).view(step.shape)
        scale = None
    if scale is None:
        weights = weights + step
    else:
        weights = torch.addcmul(weights, step, scale)
    if fixed is not None:
        return _with_last(rule, fixed, weights, moment, square, column_targets)
    if rule.weight_norm == "post":
        weights = scale_rows(weights, targets)
    return weights, moment, square


def _last(weights, moment, square):
    """W0 and W2, which stay; W1' and its moments [N, h, d]."""
    hidden = weights.shape[1] // 3
    fixed, last = weights.split([2 * hidden, hidden], 1)
    moment, square = (
        x if x is None else x[:, 2 * hidden :] for x in (moment, square)
    )
    return fixed, last, moment, square


def _with_last(rule, fixed, last, moment, square, targets):
    """All matrices again, and moments, of `_last` after an update."""
    if rule.weight_norm == "post":
        norm = torch.linalg.vector_norm(last, dim=1, keepdim=True)
        last = last * (targets / (norm + NORM_EPS))
    moment, square = (
        x if x is None else torch.cat([torch.zeros_like(fixed), x], 1)
        for x in (moment, square)
    )
    return torch.cat([fixed, last], 1), moment, square


def used_weights(rule, weights, targets, steps):
    """The weights that are read: `pre` norm scales them.

    Arguments
    ---------
    rule, weights, targets, steps
        As `update`.

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    if rule.weight_norm != "pre":
        return weights
    # Norms do not round initial weights, given or the state's own.
    first = (steps == 0).view(-1, 1, 1)
    return torch.where(first, weights, scale_rows(weights, targets))


def finite(rule, after):
    """Whether all heads of a row are finite [N, 1, 1]. Weights are not where
    the moment is not; Adam's second moment may be so alone."""
    weights, _, square = (
        x if x is None or not x.requires_grad else x.detach() for x in after
    )
    total = weights.sum((1, 2), keepdim=True)
    if square is not None:
        total = total + square.sum((1, 2), keepdim=True)
    # Zero, or NaN: one pass, and no question to the device.
    total = total * 0
    if rule.nhead > 1:
        rows = total.view(-1, rule.nhead)
        rows = rows.sum(1, keepdim=True).expand_as(rows)
        return (rows == 0).view(total.shape)
    return total == 0
