"""A device that is not the CPU, for machines that have none.

`register()` makes the device `pretended` known to torch, for the rest of the
process. Its tensors hold real values, so that code may depend on them,
but are no tensors of the CPU: where CUDA refuses an operation on tensors of
two devices, this does too; to come back takes `cpu()`, `tolist()` or `item()`.
In inference mode torch takes no views of such tensors: it becomes `no_grad`.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
from functools import partial

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretended"


class Backend(_DummyBackendModule):
    """As `torch.cuda`: what autocast asks for."""

    def get_amp_supported_dtype(self):
        """Types of autocast."""
        return [torch.bfloat16]


def no_grad(mode=True):
    """In place of `torch.inference_mode`."""
    return torch.no_grad() if mode else contextlib.nullcontext()


aten = torch.ops.aten
# Places of an index may be told on the CPU.
INDEXING = (
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
)
COPIES = (aten.copy_.default, aten._to_copy.default)
# What torch cannot leave to the fallback: it makes tensors by itself, or
# changes the size of one that is empty.
OWN = (
    aten._to_copy.default,
    aten.copy_.default,
    aten.empty.memory_format,
    aten.empty_strided.default,
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.eye.default,
)


class Pretended(torch.Tensor):
    """A tensor whose values stand in a tensor of the CPU."""

    @staticmethod
    def __new__(cls, values):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=torch.device(NAME, 0),
        )
        made.values_ = values
        return made

    def __init__(self, values):
        pass

    def __repr__(self):
        return f"Pretended({self.values_!r})"

    def tolist(self):
        """As of every tensor."""
        return self.values_.tolist()

    def numpy(self, *_, **__):
        """Refused, as CUDA's."""
        raise TypeError(f"a tensor on {NAME} is no array: use cpu() first")

    __array__ = numpy
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return run(operation, *args, **(kwargs or {}))


def run(operation, *args, **kwargs):
    """Does an operation on the CPU, if the device could do it."""
    tensors = [
        x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)
    ]
    here = any(isinstance(x, Pretended) for x in tensors)
    if here and operation not in COPIES:
        places = args[1] if operation in INDEXING else []
        for x in tensors:
            told = any(x is place for place in places)
            if not isinstance(x, Pretended) and x.ndim and not told:
                raise RuntimeError(
                    f"{operation}: tensors on two devices, {NAME} and cpu "
                    f"({x.dtype} {list(x.shape)})"
                )
    if kwargs.get("device") is not None:
        here = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(x.values_): x for x in tensors if isinstance(x, Pretended)}

    def unwrap(x):
        """The values of a tensor."""
        return x.values_ if isinstance(x, Pretended) else x

    def wrap(x):
        """A tensor of the device; one that was changed in place is itself."""
        if not (here and isinstance(x, torch.Tensor)):
            return x
        return known[id(x)] if id(x) in known else Pretended(x)

    with torch.no_grad():
        args, kwargs = tree_map(unwrap, (args, kwargs))
        out = operation(*args, **kwargs)
    return tree_map(wrap, out)


def register():
    """Makes the device known to torch.

    Returns
    -------
    list
        What holds it: it goes when these do.
    """
    _setup_privateuseone_for_python_backend(NAME, Backend())
    torch.inference_mode = no_grad
    fallback = torch.library.Library("_", "IMPL", "PrivateUse1")
    fallback.fallback(run, "PrivateUse1")
    own = torch.library.Library("aten", "IMPL", "PrivateUse1")
    for operation in OWN:
        own.impl(operation, partial(run, operation))
    return [fallback, own]
