"""Integers that the host knows: lengths, positions, numbers of frames.

A count of each row is a tensor, so that it moves, is saved and is joined as
everything else in a state. Its values are also kept on the host, beside the
tensor: a call on a device then need not wait for the device to say how long
its rows are.

Authors
* speechbrain_lact contributors 2026
"""

import torch


def count_tensor(values, device):
    """Integers or booleans of each row on a device, known on the host.

    Arguments
    ---------
    values : iterable of int
        One for each row.
    device : torch.device
        Where the tensor lies.

    Returns
    -------
    torch.Tensor
        Integers or booleans [B].

    Example
    -------
    >>> made = count_tensor([3, 4], "cpu")
    >>> made, host_values(made)
    (tensor([3, 4]), (3, 4))
    """
    values = tuple(values)
    if len(set(values)) == 1:
        made = torch.full((len(values),), values[0], device=device)
    else:
        # Not made there: that would wait for the device.
        kind = (
            torch.bool if any(value is True for value in values) else torch.long
        )
        made = torch.tensor(values, dtype=kind, device="cpu")
        made = made.to(device, non_blocking=True)
    return remember(made, values)


def remember(tensor, values):
    """Keeps what a tensor of integers or booleans holds on the host.

    Arguments
    ---------
    tensor : torch.Tensor
        Integers or booleans of any shape.
    values : tuple
        Its values in order; None for unknown ones.

    Returns
    -------
    torch.Tensor
        `tensor`
    """
    if values is not None and not torch.compiler.is_compiling():
        tensor.on_host = _version(tensor), values
    return tensor


def known_values(tensor):
    """The values of a tensor, if the host knows them.

    Arguments
    ---------
    tensor : torch.Tensor
        Integers or booleans of any shape.

    Returns
    -------
    tuple or None
    """
    version, values = getattr(tensor, "on_host", (None, None))
    if values is None or torch.compiler.is_compiling():
        return values
    return values if version == _version(tensor) else None


def host_values(counts):
    """The values of counts; where the host does not know them, the device is
    asked, once.

    Arguments
    ---------
    counts : torch.Tensor or tuple
        Integers or booleans.

    Returns
    -------
    tuple
    """
    if not isinstance(counts, torch.Tensor):
        return tuple(counts)
    values = known_values(counts)
    if values is None:
        values = tuple(counts.flatten().tolist())
        remember(counts, values)
    return values


def same_number(counts):
    """The number that all rows have, or None: rows in step need no
    gathering.

    Arguments
    ---------
    counts : torch.Tensor or tuple
        Integers or booleans [B].

    Returns
    -------
    int or bool or None

    Example
    -------
    >>> same_number(torch.tensor([3, 3])), same_number((3, 4))
    (3, None)
    """
    found = set(host_values(counts))
    return found.pop() if len(found) == 1 else None


def _version(tensor):
    """Changes when a tensor is changed in place."""
    return 0 if tensor.is_inference() else tensor._version
