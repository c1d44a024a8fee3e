"""Sliding-window attention whose cost grows linearly with the sequence.

The window is a band of frames to the left and right of each query, or blocks:
the query's own block and some blocks to its left (SpeechBrain's dynamic
chunks, whose look-ahead does not add up over layers). Masks are built per
block of queries, never time x time. Positions are rotary (`rotary`).

Authors
* speechbrain_lact contributors 2026
"""

import math
import numbers
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from speechbrain_lact.nnet.checks import check_tensor
from speechbrain_lact.nnet.counts import count_tensor, host_values
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.rotary import rotate
from speechbrain_lact.nnet.state import State, buffer, counter

# Least number of queries that share one slice of keys.
LEAST_QUERIES = 64

# Up to so many slices one masked square is faster than copies of slices.
FEW_BLOCKS = 3


@dataclass(frozen=True)
class Window:
    """Which keys a query sees.

    Arguments
    ---------
    left : int
        Frames (band) or blocks (blocks) to the left.
    right : int
        Frames to the right of a band. A side of a band that is infinite
        (`math.inf`) reaches as far as the sequence.
    block : int, optional
        Frames of a block; None for a band.

    Example
    -------
    >>> Window(left=2, block=16).frames_left
    32
    """

    left: int
    right: int = 0
    block: int = None

    def __post_init__(self):
        band = self.block is None
        told = f"left={self.left!r}, right={self.right!r}"
        for side in (self.left, self.right):
            if not _is_whole(side) and not (band and side == math.inf):
                raise ValueError(
                    f"the sides of a window are integers (of a band, also "
                    f"infinite): {told}"
                )
        if self.left < 0 or self.right < 0:
            raise ValueError(f"a window has no negative sides: {told}")
        if not band and (
            not _is_whole(self.block) or self.block < 1 or self.right
        ):
            raise ValueError(
                f"a block window has block >= 1 and no right side: "
                f"block={self.block!r}, right={self.right}"
            )

    @property
    def frames_left(self):
        """Frames seen to the left, at least."""
        return self.left * (self.block or 1)

    def within(self, frames):
        """The same window of a sequence of so many frames, its sides finite.

        Arguments
        ---------
        frames : int
            Length of the sequence.

        Returns
        -------
        Window
        """
        sides = (
            frames if side == math.inf else side
            for side in (self.left, self.right)
        )
        return Window(*sides, self.block)


def _is_whole(value):
    """Whether it is an integer."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


@dataclass
class WindowState(State):
    """The last keys and values that later queries still see."""

    keys: torch.Tensor = buffer("left")
    """Keys before rotation [B, W, H, D], aligned to the right."""
    values: torch.Tensor = buffer("left")
    """As `keys`."""
    counts: torch.Tensor = counter("keys", "values")
    """How many of them are real [B]."""

    @classmethod
    def empty(cls, keys):
        """Nothing seen; shaped like `keys` [B, T, H, D]."""
        none = keys.new_zeros(keys.shape[0], 0, *keys.shape[2:])
        return cls(none, none, count_tensor([0] * len(keys), keys.device))


def window_attention(
    q,
    k,
    v,
    window,
    *,
    lengths=None,
    plan=None,
    state=None,
    scale=None,
    dropout=0.0,
    rotary=True,
    final=False,
    keep=None,
):
    """Attention of each frame to the frames in its window.

    Arguments
    ---------
    q, k, v : torch.Tensor
        Heads [B, T, H, D], before rotation.
    window : Window
        Which keys a query sees.
    lengths : torch.Tensor, optional
        Number of real frames [B], all by default; the others must be finite.
    plan : ChunkPlan, optional
        In place of `lengths`, that of the call.
    state : WindowState, optional
        Earlier keys. With blocks, rows must stand at the start of a block.
    scale : float, optional
        Factor of the scores (default: 1 / sqrt(D)).
    dropout : float
        Dropout of the attention weights.
    rotary : bool
        Whether queries and keys turn with their positions; without, the
        scores know no positions.
    final : bool
        Whether no query follows.
    keep : Window, optional
        A window that later queries may have; of this and `window` the one
        that reaches further back says what is kept.

    Returns
    -------
    out : torch.Tensor
        [B, T, H, D]
    state : WindowState
        What later queries still see; nothing if `final`.

    Example
    -------
    >>> x = torch.randn(1, 10, 2, 4)
    >>> out, state = window_attention(
    ...     x, x, x, Window(left=3), lengths=torch.tensor([10])
    ... )
    >>> out.shape, state.keys.shape
    (torch.Size([1, 10, 2, 4]), torch.Size([1, 3, 2, 4]))
    """
    rows, time, heads, width = q.shape
    for name, x in (("q", q), ("k", k), ("v", v)):
        check_tensor(x, ("B", "T", "H", "D"), name)
    if plan is None:
        counts = [time] * rows
        if lengths is not None:
            check_tensor(lengths, (rows,), "lengths", "integers")
            counts = host_values(lengths)
        plan = ChunkPlan(counts, time, q.device)
    known, cached = (0,) * rows, 0
    if state is not None:
        state.check_rows(rows)
        known, cached = host_values(state.counts), state.keys.shape[1]
    # Of an infinite side: what the longest row has.
    longest = max([0, *(a + b for a, b in zip(known, plan.lengths))])
    kept = max(
        each.within(longest).frames_left for each in (window, keep or window)
    )
    window = window.within(cached + time)
    keys, values = k, v
    if cached:
        keys = torch.cat([state.keys.to(k.dtype), k], 1)
        values = torch.cat([state.values.to(v.dtype), v], 1)
    if final:
        new_state = WindowState.empty(k)
    else:
        new_state = _keep_last(plan, keys, values, known, cached, kept)
    if time == 0:
        return q, new_state
    if rotary:
        keys, q = rotate(keys, -cached), rotate(q, 0)
    view = plan.keep(
        ("window", known, cached, window.left, window.right, window.block),
        lambda: _View(plan, known, cached, window),
    )
    keys, values = (view.slices(x) for x in (keys, values))
    over = view.blocks * view.size - time
    q = _pad(q, 0, over).view(rows * view.blocks, view.size, heads, width)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        keys,
        values,
        attn_mask=view.mask(q.dtype),
        dropout_p=dropout,
        scale=scale,
    )
    out = out.transpose(1, 2).reshape(
        rows, view.blocks * view.size, heads, width
    )
    return out[:, :time] if over else out, new_state


def _keep_last(plan, keys, values, known, cached, width):
    """The last keys and values of each row, aligned to the right."""
    total = [a + b for a, b in zip(known, plan.lengths)]
    counts = tuple(min(count, width) for count in total)
    starts = tuple(cached + count - width for count in plan.lengths)
    mask = plan.padding(counts, width)
    mask = mask if mask is None else mask.flip(1)
    kept = (
        zero_padding(plan.slide(x, starts, width), mask) for x in (keys, values)
    )
    return WindowState(*kept, plan.counts(counts))


class _View:
    """Slices of keys, and which of them a query sees.

    Arguments
    ---------
    plan : ChunkPlan
        The rows.
    known : tuple of int
        Earlier keys of each row.
    cached : int
        Columns of earlier keys, aligned to the right.
    window : Window
        With finite sides.
    """

    def __init__(self, plan, known, cached, window):
        time, rows = plan.time, len(plan.lengths)
        left = window.frames_left
        # A frame of a band is a block of one.
        unit = window.block or 1
        size = max(left + window.right, LEAST_QUERIES)
        size = -(-size // unit) * unit
        self.size, self.blocks = size, -(-time // size)
        before, after = left, window.right
        if self.blocks <= FEW_BLOCKS:
            self.size, self.blocks, before, after = time, 1, cached, 0
        # Slices of keys begin `before` frames ahead of their queries.
        over = self.blocks * self.size - time
        self.pad = before - cached, over + after
        self.span = before + self.size + after
        self.allowed, self._masks = None, {}
        if time == 1 and plan.whole and all(count == cached for count in known):
            # One frame sees what its window has of all that is kept.
            first = max(cached - left, 0)
            self.pad, self.span = (-first, 0), cached + 1 - first
            return
        self.allowed = self._allowed(plan, known, cached, window, before, rows)

    def _allowed(self, plan, known, cached, window, before, rows):
        """Boolean [rows * blocks, 1, size, span]."""
        size, span, unit = self.size, self.span, window.block or 1
        device = plan.device
        columns = torch.arange(cached, device=device)
        earlier = cached - plan.counts(known)[:, None]
        lengths = plan.counts(plan.lengths)[:, None]
        seen = torch.cat(
            [
                columns >= earlier,
                torch.arange(plan.time, device=device) < lengths,
            ],
            1,
        )
        seen = F.pad(seen, self.pad).unfold(1, span, size).unsqueeze(2)
        places = torch.arange(span, device=device) - before
        steps = places // unit
        steps = steps - steps[before : before + size, None]
        allowed = seen & (steps >= -window.left) & (steps <= window.right)
        # A padded query sees everything, so that its softmax is not empty.
        queries = torch.arange(self.blocks * size, device=device)
        nothing = (queries >= lengths).view(rows, self.blocks, size, 1)
        return (allowed | nothing).flatten(0, 1).unsqueeze(1)

    def mask(self, dtype):
        """What is added to the scores; made once for all layers."""
        if self.allowed is None or dtype in self._masks:
            return self._masks.get(dtype)
        mask = torch.zeros_like(self.allowed, dtype=dtype)
        self._masks[dtype] = mask.masked_fill_(~self.allowed, -math.inf)
        return mask

    def slices(self, x):
        """Keys or values as the queries of each block see them."""
        x = _pad(x, *self.pad)
        if self.blocks == 1:
            return x.transpose(1, 2)
        x = x.unfold(1, self.span, self.size)
        return x.permute(0, 1, 2, 4, 3).flatten(0, 1)


def _pad(x, before, after):
    """Zeros before and after in time [B, T, H, D]."""
    if before == after == 0:
        return x
    return F.pad(x, (0, 0, 0, 0, before, after))
