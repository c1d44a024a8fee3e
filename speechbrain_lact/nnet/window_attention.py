"""Sliding-window attention whose cost grows linearly with the sequence.

The window is a band of frames to the left and right of each query, or blocks:
the query's own block and some blocks to its left (SpeechBrain's dynamic
chunks, whose look-ahead does not add up over layers). Masks are built per
block of queries, never time x time. Positions are rotary
(https://arxiv.org/abs/2104.09864), in the pairing of SpeechBrain's RoPEMHA.

Authors
* speechbrain_lact contributors 2026
"""

import math
import numbers
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from speechbrain_lact.nnet.checks import check_tensor
from speechbrain_lact.nnet.state import (
    State,
    buffer,
    counter,
    length_mask,
    padding_mask,
    same_number,
    slide,
    zero_padding,
)

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
        counts = torch.zeros(
            keys.shape[0], dtype=torch.long, device=keys.device
        )
        return cls(none, none, counts)


def window_attention(
    q,
    k,
    v,
    window,
    *,
    lengths,
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
    lengths : torch.Tensor
        Number of real frames [B]; the others must be finite.
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
    check_tensor(lengths, (rows,), "lengths", "integers")
    if state is None:
        state = WindowState.empty(k)
    state.check_rows(rows)
    lengths = lengths.to(q.device)
    cached = state.keys.shape[1]
    window = window.within(cached + time)
    left = window.frames_left
    kept = left
    if keep is not None:
        kept = max(left, keep.within(cached + time).frames_left)
    keys, values = k, v
    if cached:
        keys = torch.cat([state.keys.to(k.dtype), k], 1)
        values = torch.cat([state.values.to(v.dtype), v], 1)
    new_state = WindowState.empty(k)
    if not final:
        total = state.counts + lengths
        new_state = WindowState(
            *(_last(x, cached + lengths, kept, total) for x in (keys, values)),
            total.clamp(max=kept),
        )
    if time == 0:
        return q, new_state
    if rotary:
        keys, q = rotate(keys, -cached), rotate(q, 0)
    if time == 1 and (
        same_number(state.counts) == cached and same_number(lengths) == 1
    ):
        # One frame sees what its window has of all that is kept, and itself.
        keys, values = (x[:, max(cached - left, 0) :] for x in (keys, values))
        out = F.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, keys, values)),
            dropout_p=dropout,
            scale=scale,
        )
        return out.transpose(1, 2), new_state
    seen = torch.cat(
        [
            length_mask(state.counts, cached).flip(1),
            length_mask(lengths, time),
        ],
        1,
    )

    # A frame of a band is a block of one.
    unit = window.block or 1
    size = max(left + window.right, LEAST_QUERIES)
    size = -(-size // unit) * unit
    blocks = -(-time // size)
    if blocks <= FEW_BLOCKS:
        size, blocks, before, after = time, 1, cached, 0
    else:
        before, after = left, window.right
    # Slices of keys begin `before` frames ahead of their queries.
    over = blocks * size - time
    pad = (before - cached, over + after)
    keys, values = (_pad(x, *pad) for x in (keys, values))
    seen = F.pad(seen, pad)
    span = before + size + after
    if blocks == 1:
        keys, values = (x.transpose(1, 2) for x in (keys, values))
    else:
        keys, values = (
            x.unfold(1, span, size).permute(0, 1, 2, 4, 3).flatten(0, 1)
            for x in (keys, values)
        )
    q = _pad(q, 0, over).view(rows * blocks, size, heads, width)
    allowed = seen.unfold(1, span, size).unsqueeze(2)
    places = torch.arange(span, device=q.device) - before
    steps = places // unit - (places[before : before + size] // unit)[:, None]
    allowed = allowed & (steps >= -window.left) & (steps <= window.right)
    # A padded query sees everything, so that its softmax is not empty.
    nothing = ~length_mask(lengths, blocks * size)
    allowed = allowed | nothing.view(rows, blocks, size, 1)
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        keys,
        values,
        attn_mask=allowed.flatten(0, 1).unsqueeze(1),
        dropout_p=dropout,
        scale=scale,
    )
    out = out.transpose(1, 2).reshape(rows, blocks * size, heads, width)
    return out[:, :time] if over else out, new_state


def rotate(x, start):
    """Rotary positions: pairs of channels turn with time.

    Arguments
    ---------
    x : torch.Tensor
        Heads [B, T, H, D], D even.
    start : int
        Position of the first frame. Only differences between the positions
        of queries and keys matter, and they stay within a window.

    Returns
    -------
    torch.Tensor
        As `x`.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    turns = _turns(x.shape[1], x.shape[3], start, x.device, exact)
    pairs = torch.view_as_complex(x.to(exact).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)


@lru_cache(maxsize=64)
def _turns(time, width, start, device, dtype):
    """Unit complex numbers [T, 1, D / 2], exact to rounding anywhere."""
    # What is kept must serve training too, whoever asks first.
    with torch.inference_mode(False):
        made = {"dtype": torch.float64, "device": device}
        places = torch.arange(start, start + time, **made)[:, None, None]
        angles = places * 10000 ** (-torch.arange(0, width, 2, **made) / width)
        turns = torch.polar(torch.ones_like(angles), angles)
        return turns.to(dtype.to_complex())


def _pad(x, before, after):
    """Zeros before and after in time [B, T, H, D]."""
    if before == after == 0:
        return x
    return F.pad(x, (0, 0, 0, 0, before, after))


def _last(x, ends, width, counts):
    """The last frames of each row, aligned to the right [B, width, ...]."""
    kept = slide(x, ends - width, width)
    mask = padding_mask(counts.clamp(max=width), width)
    return zero_padding(kept, mask if mask is None else mask.flip(1))
