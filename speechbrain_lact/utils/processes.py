"""Several processes that do one thing together, or fail together.

SpeechBrain's `run_on_main` leaves the other processes waiting if the main one
fails. Here every process learns of it, and all end with the same sentence.

Authors
* speechbrain_lact contributors 2026
"""

import random

import numpy
import torch

from speechbrain.utils.distributed import (
    MainProcessContext,
    ddp_all_reduce,
    ddp_broadcast,
    ddp_prevent_block,
    get_rank,
    if_main_process,
    is_distributed_initialized,
)


def count_processes():
    """Number of processes that train together."""
    if not is_distributed_initialized():
        return 1
    return torch.distributed.get_world_size()


def agree(function, *args, **kwargs):
    """Calls a function in every process; if one fails, all do.

    Arguments
    ---------
    function : callable
        What to call. It must not wait for the other processes.
    *args, **kwargs
        Its arguments.

    Returns
    -------
    object
        What it returns in this process.

    Raises
    ------
    OSError, ValueError or RuntimeError
        If it failed in any process.

    Example
    -------
    >>> agree(max, 1, 2)
    2
    """
    result = error = None
    try:
        result = function(*args, **kwargs)
    except Exception as failure:
        error = failure
    found = [None]
    if not ddp_prevent_block():
        found = [None] * count_processes()
        torch.distributed.all_gather_object(found, _described(error))
    if error is not None:
        raise error
    for failure in filter(None, found):
        kind, text = failure
        raise kind(text)
    return result


def _described(error):
    """Type and text of an exception, to send to others."""
    if error is None:
        return None
    for kind in (OSError, ValueError):
        if isinstance(error, kind):
            return kind, str(error)
    return RuntimeError, f"{type(error).__name__}: {error}"


def on_main(function, *args, **kwargs):
    """Calls a function in the main process only; if it fails, all do.

    Arguments
    ---------
    function : callable
        What to call.
    *args, **kwargs
        Its arguments.

    Returns
    -------
    object
        What it returned, in every process.

    Example
    -------
    >>> on_main(max, 1, 2)
    2
    """

    def alone():
        """Nothing in here waits for the other processes."""
        with MainProcessContext():
            return function(*args, **kwargs) if if_main_process() else None

    return ddp_broadcast(agree(alone))


def total(values):
    """The sum of a tensor over all processes.

    Arguments
    ---------
    values : torch.Tensor
        Of the same shape in each.

    Returns
    -------
    torch.Tensor

    Example
    -------
    >>> total(torch.ones(2))
    tensor([1., 1.])
    """
    return ddp_all_reduce(values.clone(), torch.distributed.ReduceOp.SUM)


def union(values):
    """The sets of all processes as one.

    Arguments
    ---------
    values : set
        Of this process.

    Returns
    -------
    set

    Example
    -------
    >>> union({1})
    {1}
    """
    found = [values]
    if not ddp_prevent_block():
        found = [None] * count_processes()
        torch.distributed.all_gather_object(found, values)
    return set().union(*found)


def share_parameters(module):
    """Gives every process the parameters and buffers of the first one.

    Arguments
    ---------
    module : torch.nn.Module
        The same in each, but for the values.
    """
    if count_processes() > 1:
        for value in (*module.parameters(), *module.buffers()):
            torch.distributed.broadcast(value.detach(), 0)


def draw_apart():
    """Gives each process but the first random numbers of its own.

    With the seed that all have, all would drop and draw the same.
    """
    if not if_main_process():
        seed = torch.initial_seed() + get_rank()
        torch.manual_seed(seed)
        numpy.random.seed(seed % 2**32)
        random.seed(seed)


@torch.no_grad()
def share_gradients(parameters):
    """Adds up the gradients of all processes, in each of them.

    A parameter without a gradient in any process stays without one.

    Arguments
    ---------
    parameters : list of torch.nn.Parameter
        The same in each process, in the same order.
    """
    if count_processes() == 1 or not parameters:
        return
    device = parameters[0].device
    known = [float(p.grad is not None) for p in parameters]
    known = total(torch.tensor(known, device=device)).tolist()
    kinds = {}
    for parameter, count in zip(parameters, known):
        if count:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            kinds.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in kinds.values():
        # One message: many small ones would take longer.
        sums = total(torch.cat([g.flatten() for g in gradients]))
        sizes = [g.numel() for g in gradients]
        for gradient, part in zip(gradients, sums.split(sizes)):
            gradient.copy_(part.view_as(gradient))
