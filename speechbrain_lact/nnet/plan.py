"""What a call knows on the host before it computes anything.

The lengths of the rows, and all that follows from them: masks, where chunks
end, which of them are whole, which frames wait. A plan is made once for a call
of an encoder and given to every layer, which then asks the device nothing.

Authors
* speechbrain_lact contributors 2026
"""

import logging

import torch

from speechbrain_lact.nnet.counts import count_tensor, host_values
from speechbrain_lact.nnet.frames import (
    frame_places,
    length_mask,
    row_lengths,
    take_frames,
)

logger = logging.getLogger(__name__)


class ChunkPlan:
    """The rows of a call.

    Arguments
    ---------
    lengths : iterable of int
        Number of real frames of each row.
    time : int
        Number of columns.
    device : torch.device
        Where the frames lie.
    ends : torch.Tensor, optional
        Boolean [B, T] on the host, True where a chunk may end after the frame.

    Example
    -------
    >>> plan = ChunkPlan([3, 1], 3, "cpu")
    >>> plan.mask
    tensor([[ True,  True,  True],
            [ True, False, False]])
    >>> plan.per_head(2).lengths
    (3, 3, 1, 1)
    """

    def __init__(self, lengths, time, device, ends=None):
        self.lengths, self.time = tuple(lengths), time
        self.device, self.ends = device, ends
        self._kept, self._skipped = {}, []

    @classmethod
    def of(cls, x, mask=None, ends=None):
        """The plan of frames with a mask; it is looked at once.

        Arguments
        ---------
        x : torch.Tensor
            Frames [B, T, ...].
        mask : torch.Tensor, optional
            Boolean [B, T], True = real frame, padding on the right.
        ends : torch.Tensor, optional
            As of the class, on any device.

        Returns
        -------
        ChunkPlan
        """
        lengths = [x.shape[1]] * len(x)
        if mask is not None:
            lengths = host_values(row_lengths(x, mask))
        return cls(
            lengths, x.shape[1], x.device, None if ends is None else ends.cpu()
        )

    @property
    def mask(self):
        """Boolean [B, T], True = real frame; None if all are."""
        return self.padding(self.lengths, self.time)

    @property
    def whole(self):
        """Whether no row has padding."""
        return all(length == self.time for length in self.lengths)

    def keep(self, key, make):
        """What was made for another layer, or is made now.

        Arguments
        ---------
        key : hashable
            What it depends on, beside the plan itself.
        make : callable
            Makes it.

        Returns
        -------
        object
        """
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def counts(self, values):
        """Integers of each row, on the device [B].

        Arguments
        ---------
        values : iterable of int
            One for each row.

        Returns
        -------
        torch.Tensor
        """
        values = tuple(values)
        return self.keep(
            ("counts", values), lambda: count_tensor(values, self.device)
        )

    def padding(self, lengths, width):
        """Mask of the frames that exist.

        Arguments
        ---------
        lengths : iterable of int
            Number of frames of each row.
        width : int
            Number of columns.

        Returns
        -------
        torch.Tensor
            Boolean [B, width], or None if all exist.
        """
        lengths = tuple(lengths)
        if all(length == width for length in lengths):
            return None
        return self.keep(
            ("mask", lengths, width),
            lambda: length_mask(self.counts(lengths), width),
        )

    def slide(self, x, starts, width):
        """The same number of frames of each row, from a place of its own.

        Arguments
        ---------
        x : torch.Tensor
            Frames [B, T, ...].
        starts : iterable of int
            First frame wanted of each row; may be negative.
        width : int
            Number of frames.

        Returns
        -------
        torch.Tensor
            [B, width, ...], zeros where there is no frame.
        """
        starts = tuple(starts)
        if len(set(starts)) == 1 and 0 <= starts[0] <= x.shape[1] - width:
            return x[:, starts[0] : starts[0] + width]

        def make():
            """Places in the frames."""
            columns = torch.arange(width, device=self.device)
            return frame_places(self.counts(starts)[:, None] + columns, time)

        time = x.shape[1]
        return take_frames(x, self.keep(("places", starts, width, time), make))

    def skip(self, updates):
        """Notes updates that were left out because they were not finite.

        Arguments
        ---------
        updates : torch.Tensor
            Their number in each row, on the device.
        """
        self._skipped.append(updates)

    def report(self):
        """Logs the updates left out. This looks at the device, once: who made
        the plan does it when the call is done."""
        if self._skipped and not torch.compiler.is_compiling():
            count = int(torch.cat(self._skipped).sum())
            if count:
                logger.warning(
                    "%d fast-weight updates were not finite and left out", count
                )

    def per_head(self, heads):
        """The plan of rows that are split into heads, those of a row side by
        side.

        Arguments
        ---------
        heads : int
            Heads of a row.

        Returns
        -------
        ChunkPlan
        """
        if heads == 1:
            return self

        def make():
            """Each row as often as it has heads."""
            ends = self.ends
            if ends is not None:
                ends = ends.repeat_interleave(heads, 0)
            lengths = repeat(self.lengths, heads)
            plan = ChunkPlan(lengths, self.time, self.device, ends)
            plan._skipped = self._skipped
            return plan

        return self.keep(("heads", heads), make)


def repeat(values, times):
    """Each value so many times, side by side.

    Arguments
    ---------
    values : iterable
        Values of rows.
    times : int
        How often.

    Returns
    -------
    tuple

    Example
    -------
    >>> repeat([1, 2], 2)
    (1, 1, 2, 2)
    """
    return tuple(value for value in values for _ in range(times))


def chunk_ends(may_end, lengths, pending, least, greatest):
    """Where chunks end: at the first place allowed that makes the chunk long
    enough, or when it is full.

    The rule looks back only, and no further than the beginning of the chunk:
    sequences in pieces have the same ends, if the length of the unfinished
    chunk is carried.

    Arguments
    ---------
    may_end : torch.Tensor
        [N, L], True where a chunk may end after the frame.
    lengths : torch.Tensor or tuple
        Number of real frames of each row [N].
    pending : torch.Tensor or tuple
        Frames of the unfinished chunk that came before.
    least, greatest : int
        Lengths of a chunk.

    Returns
    -------
    torch.Tensor
        Frames until the end of each chunk, pending ones counted too [N, J], on
        the host. Rows with fewer chunks repeat their last end (0 without one).

    Example
    -------
    >>> may_end = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 0, 1]]).bool()
    >>> chunk_ends(may_end, [9], [0], 2, 4)
    tensor([[3, 7, 9]])
    >>> chunk_ends(may_end, [9], [3], 2, 4)
    tensor([[ 4,  6, 10, 12]])
    """
    rows = []
    lengths, pending = host_values(lengths), host_values(pending)
    for row, length, waiting in zip(may_end.tolist(), lengths, pending):
        stops, size = [], waiting
        for place in range(length):
            size += 1
            if size == greatest or (row[place] and size >= least):
                stops.append(place + 1 + waiting)
                size = 0
        rows.append(stops)
    most = max(map(len, rows), default=0)
    rows = [row + [*row[-1:], 0][:1] * (most - len(row)) for row in rows]
    stops = torch.tensor(rows, dtype=torch.long, device="cpu")
    return stops.view(len(rows), most)
