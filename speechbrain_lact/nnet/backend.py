"""Which implementation of the fast weights runs, and why.

`torch` is the reference. `triton` are the kernels of `lact_kernels`, which are
imported when they are first used. `compile` is the reference through
`torch.compile`, which needs a C++ compiler on a CPU. `auto` is the reference
until the kernels have been timed on a GPU: then `AUTO` names them.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import importlib.util
import logging
import os
import shutil
from types import SimpleNamespace

import torch
from torch._subclasses import FakeTensor
from torch.utils.checkpoint import checkpoint as recompute

from speechbrain_lact.nnet import fast_optim
from speechbrain_lact.nnet.fast_network import INNER_LOSSES, fast_weight_apply

BACKENDS = ("auto", "torch", "compile", "triton")
# What `auto` takes for CUDA tensors. Nothing was timed on a GPU yet: see
# kernels/README.md and benchmarks/gpu_day.sh.
AUTO = "torch"

# Bytes of a block that the largest kernel takes (benchmarks/kernel_binaries.py).
SHARED_MEMORY = 163840

logger = logging.getLogger(__name__)


def choose(backend, x, learn=fast_optim.LEARN[0]):
    """The implementation for a tensor.

    Arguments
    ---------
    backend : str
        One of `BACKENDS`.
    x : torch.Tensor
        Frames, in the type of the fast weights.
    learn : tuple of str
        Matrices that learn.

    Returns
    -------
    Backend
        None for the reference. If another backend was asked for, the log says
        once why it is not taken.

    Example
    -------
    >>> choose("auto", torch.zeros(1)) is None
    True
    """
    if torch.compiler.is_compiling():
        return None  # What is traced is the reference.
    name = AUTO if backend == "auto" else backend
    reason = REASONS[name](x)
    if name == "triton" and learn != fast_optim.LEARN[0]:
        reason = "its kernels update all matrices, not W1 alone"
    if reason is not None:
        say_once(f"backend {backend}: torch, not {name}: {reason}")
        name = "torch"
    return {"torch": None, "triton": TRITON, "compile": COMPILE}[name]


def why_no_triton(x):
    """Why the kernels cannot take a tensor.

    Arguments
    ---------
    x : torch.Tensor

    Returns
    -------
    str
        None if they can.

    Example
    -------
    >>> why_no_triton(torch.zeros(1, device="meta"))
    'the tensors hold no numbers'
    """
    if isinstance(x, FakeTensor) or x.device.type == "meta":
        return "the tensors hold no numbers"
    for name in ("triton", "lact_kernels"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None  # Triton's interpreter computes on the CPU.
    if not x.is_cuda:
        return f"the tensors lie on {x.device.type}, not on a GPU"
    device = torch.cuda.get_device_properties(x.device)
    if device.shared_memory_per_block_optin < SHARED_MEMORY:
        return f"a GPU needs {SHARED_MEMORY >> 10} KiB of shared memory"
    return None


def why_no_compile(x):
    """Why `torch.compile` cannot be had for a tensor.

    Arguments
    ---------
    x : torch.Tensor

    Returns
    -------
    str
        None if it can.
    """
    if x.device.type == "cpu" and not any(
        shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")
    ):
        return "there is no C++ compiler"
    return None


# Why an implementation cannot be taken.
REASONS = {
    "torch": lambda _: None,
    "compile": why_no_compile,
    "triton": why_no_triton,
}


@functools.cache
def say_once(text):
    """Logs a line, the first time."""
    logger.warning(text)


class Backend:
    """Takes the place of functions of `fast_optim` and `fast_weight`.

    Arguments
    ---------
    propose : callable
        New weights and moments, finite or not; as `fast_optim.propose`.
    select : callable
        `select(rule, new, old)`: of lists of tensors the new ones where all
        heads of a row are finite, and which rows are [N, 1, 1].
    read : callable
        `read(weights, queries, dtype)`: the fast network's answers.
    prologue : callable, optional
        As `lact_kernels.prologue.naive`.
    """

    def __init__(self, propose, select, read, prologue=None):
        self._propose, self._select = propose, select
        self._read, self.prologue = read, prologue

    def update(
        self,
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
        """As `fast_optim.update`."""
        given = [weights, moment, square, *targets, step_scale, k, v, gates]
        found = []
        if torch.is_grad_enabled():
            given = fast_optim.Shield.apply(found, *given)
        if rule.checkpoint and torch.is_grad_enabled():
            after = recompute(
                self._propose, rule, *given, counts, steps, use_reentrant=False
            )
        else:
            after = self._propose(rule, *given, counts, steps)
        places = [i for i, x in enumerate(after) if x is not None]
        before = [(weights, moment, square)[i] for i in places]
        kept, good = self._select(rule, [after[i] for i in places], before)
        found.append(good)
        after = [None] * 3
        for place, tensor in zip(places, kept):
            after[place] = tensor
        return (*after, good)

    def read(self, rule, weights, queries):
        """The fast network's answers [N, L, d] with weights [N, 3h, d]."""
        if rule.checkpoint and torch.is_grad_enabled():
            return recompute(
                self._read, weights, queries, rule.dtype, use_reentrant=False
            )
        return self._read(weights, queries, rule.dtype)


@functools.cache
def kernels():
    """The kernels; imports Triton."""
    from lact_kernels.newton_schulz.fused import newton_schulz
    from lact_kernels.prologue.fused import prologue
    from lact_kernels.swiglu_apply.fused import swiglu_apply
    from lact_kernels.swiglu_gradient.fused import swiglu_gradient
    from lact_kernels.update_norm.fused import finite_select, update_norm

    return SimpleNamespace(
        newton_schulz=newton_schulz,
        prologue=prologue,
        swiglu_apply=swiglu_apply,
        swiglu_gradient=swiglu_gradient,
        finite_select=finite_select,
        update_norm=update_norm,
    )


def _propose_by_kernels(
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
    """`fast_optim.propose` by kernels."""
    use = kernels()
    targets = row_targets, column_targets
    used = fast_optim.used_weights(rule, weights, targets, steps)
    residual = INNER_LOSSES[rule.inner_loss]
    if residual is not None:
        v = residual(use.swiglu_apply(used, k, rule.dtype), v)
    gradient = use.swiglu_gradient(used, k, v, gates[..., :3], rule.dtype)
    if rule.optimizer == "adam":
        step, moment, square = fast_optim.adam(
            gradient, moment, square, steps + 1, rule.base_lr
        )
    else:
        length = rule.chunk_size if counts is None else counts.clamp(min=1)
        decay = gates[..., 3:].sum(1, keepdim=True) / length
        step = moment = torch.addcmul(gradient, decay, moment)
        if rule.optimizer == "muon":
            matrices = moment.unflatten(1, (3, -1)).flatten(0, 1)
            step = use.newton_schulz(matrices, rule.dtype).view(moment.shape)
    factor = scale
    if rule.optimizer != "sgd" and counts is not None:
        share = counts.to(gradient.dtype) / rule.chunk_size
        factor = share if factor is None else factor * share
    if rule.max_step_norm is not None:
        step = step if factor is None else step * factor
        matrices = step.unflatten(1, (3, -1))
        step = fast_optim.clip_norm(matrices, rule.max_step_norm).flatten(1, 2)
        factor = None
    norms = None
    if rule.weight_norm == "post":
        norms = torch.cat([x.flatten(1) for x in targets], 1)
    factor = factor if factor is None else factor.flatten()
    weights = use.update_norm(weights, step, factor, norms)
    return weights, moment, square


def _select_by_kernels(rule, new, old):
    """As `fast_optim.select`."""
    kept, good = kernels().finite_select(new, old, rule.nhead)
    return kept, good.view(-1, 1, 1)


TRITON = Backend(
    _propose_by_kernels,
    _select_by_kernels,
    lambda *args: kernels().swiglu_apply(*args),
    lambda *args: kernels().prologue(*args),
)


@functools.cache
def _compiled():
    """The reference, compiled when it is first used."""
    return torch.compile(fast_optim.propose)


def _select(rule, new, old):
    """As `_select_by_kernels`, in torch."""
    after = list(new) + [None] * (3 - len(new))
    good = fast_optim.finite(rule, after)
    return [torch.where(good, a, b) for a, b in zip(new, old)], good


COMPILE = Backend(
    lambda *args: _compiled()(*args),
    _select,
    lambda weights, x, dtype: fast_weight_apply(
        weights.unflatten(1, (3, -1)), x, dtype
    ),
)
