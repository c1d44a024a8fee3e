"""Frames of rows that differ in length: masks, gathering and splicing.

Lengths and places are integers that the host knows (`counts`), so that rows in
step are sliced and only others are gathered.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain_lact.nnet.counts import count_tensor, same_number


def length_mask(lengths, width):
    """Mask of the frames that exist.

    Arguments
    ---------
    lengths : torch.Tensor
        Number of frames of each row [B].
    width : int
        Number of columns.

    Returns
    -------
    torch.Tensor
        Boolean [B, width], True = real frame.

    Example
    -------
    >>> length_mask(torch.tensor([1, 2]), 2)
    tensor([[ True, False],
            [ True,  True]])
    """
    columns = torch.arange(width, device=lengths.device)
    return columns < lengths[:, None]


def padding_mask(lengths, width):
    """As `length_mask`, or None if all frames exist: then nothing needs to
    be masked."""
    if same_number(lengths) == width:
        return None
    return length_mask(lengths, width)


def mask_lengths(mask):
    """Number of frames of each row of a mask whose padding is on the right.

    Arguments
    ---------
    mask : torch.Tensor
        Boolean [B, T], True = real frame.

    Returns
    -------
    torch.Tensor
        Integers [B].

    Raises
    ------
    ValueError
        If a row has padding before a real frame.
    """
    device = mask.device
    # One look at the device for both questions.
    mask = mask.cpu()
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError("padding must stand after the last real frame")
    return count_tensor(mask.sum(1).tolist(), device)


def row_lengths(x, mask):
    """Number of real frames of each row.

    Arguments
    ---------
    x : torch.Tensor
        Frames [B, T, ...].
    mask : torch.Tensor
        Boolean [B, T], True = real frame, padding on the right; or None for
        none padded.

    Returns
    -------
    torch.Tensor
        Integers [B].
    """
    if mask is None:
        return count_tensor([x.shape[1]] * len(x), x.device)
    return mask_lengths(mask)


def zero_padding(x, mask):
    """Zeros in place of padded frames; NaN there reaches neither the values
    nor the gradients that follow.

    Arguments
    ---------
    x : torch.Tensor
        Frames [B, T, ...].
    mask : torch.Tensor
        Boolean [B, T], True = real frame, or None for none padded.

    Returns
    -------
    torch.Tensor
        As `x`.
    """
    if mask is None:
        return x
    mask = mask.view(*mask.shape, *[1] * (x.ndim - 2))
    if not x.is_floating_point():
        return x.masked_fill(~mask, 0)
    return _Keep.apply(x, mask)


# Integers of as many bytes.
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Keep(torch.autograd.Function):
    """`masked_fill` with zeros, of values and gradients, by their bits: on a
    CPU this takes a tenth of the time, and a layer does it often."""

    @staticmethod
    def forward(ctx, x, mask):
        """Zeros where the mask is False."""
        ctx.save_for_backward(mask)
        bits = -mask.to(_WORDS[x.element_size()])
        return (x.view(bits.dtype) & bits).view(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        """The same of the gradient."""
        return _Keep.apply(grad, *ctx.saved_tensors), None


def gather_frames(x, index):
    """Frames of each row at the given places.

    Arguments
    ---------
    x : torch.Tensor
        Frames [B, T, ...].
    index : torch.Tensor
        Integers [B, S]; places outside 0..T-1 give zeros.

    Returns
    -------
    torch.Tensor
        [B, S, ...]

    Example
    -------
    >>> x = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> gather_frames(x, torch.tensor([[-1, 0], [2, 3]]))
    tensor([[0, 1],
            [6, 0]])
    """
    return take_frames(x, frame_places(index, x.shape[1]))


def frame_places(index, time):
    """What `take_frames` needs of an index, once for several tensors.

    Arguments
    ---------
    index : torch.Tensor
        As `gather_frames`.
    time : int
        Number of frames there are.

    Returns
    -------
    tuple of torch.Tensor
    """
    rows = torch.arange(len(index), device=index.device)[:, None]
    inside = (index >= 0) & (index < time)
    return rows, index.clamp(0, max(time - 1, 0)), inside


def take_frames(x, places):
    """`gather_frames` of an index as `frame_places` gives it."""
    rows, index, inside = places
    if x.shape[1] == 0:
        return x.new_zeros(*index.shape, *x.shape[2:])
    return zero_padding(x[rows, index], inside)


def slide(x, start, width):
    """The same number of frames of each row, from a place of its own.

    Arguments
    ---------
    x : torch.Tensor
        Frames [B, T, ...].
    start : torch.Tensor or tuple
        First frame wanted of each row [B]; may be negative.
    width : int
        Number of frames.

    Returns
    -------
    torch.Tensor
        [B, width, ...], zeros where there is no frame.
    """
    first = same_number(start)
    if first is not None and 0 <= first <= x.shape[1] - width:
        return x[:, first : first + width]
    columns = torch.arange(width, device=x.device)
    return gather_frames(x, _on(start, x)[:, None] + columns)


def splice(waiting, counts, x):
    """Puts new frames directly behind those that wait.

    Arguments
    ---------
    waiting : torch.Tensor
        Frames aligned to the left [B, P, ...].
    counts : torch.Tensor or tuple
        How many wait in each row [B].
    x : torch.Tensor
        New frames aligned to the left [B, T, ...].

    Returns
    -------
    torch.Tensor
        [B, P + T, ...], aligned to the left.

    Example
    -------
    >>> waiting = torch.tensor([[1, 0], [1, 2]])
    >>> splice(waiting, torch.tensor([1, 2]), torch.tensor([[5], [6]]))
    tensor([[1, 5, 0],
            [1, 2, 6]])
    """
    width = waiting.shape[1]
    if width == 0:
        return x
    if same_number(counts) == width:
        return torch.cat([waiting, x.to(waiting.dtype)], 1)
    joined = torch.cat([waiting, x.to(waiting.dtype)], 1)
    columns = torch.arange(joined.shape[1], device=x.device).expand(
        x.shape[0], -1
    )
    counts = _on(counts, x)[:, None]
    index = torch.where(columns < counts, columns, columns + width - counts)
    return gather_frames(joined, index)


def _on(counts, x):
    """Counts as a tensor, where the frames lie."""
    if isinstance(counts, torch.Tensor):
        return counts
    return count_tensor(counts, x.device)
