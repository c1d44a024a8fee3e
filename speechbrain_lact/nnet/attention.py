"""Attention without a memory, as mixers: to a window, or to the whole
sequence.

Both are LaCT without fast weights, so that they have its state, its rotary
positions and its cost: linear in the sequence for a window, quadratic for the
whole.

Authors
* speechbrain_lact contributors 2026
"""

import math

from speechbrain_lact.nnet.lact import LaCT


class WindowAttention(LaCT):
    """Window attention alone.

    Arguments
    ---------
    d_model : int
        Width of the layer.
    nhead : int
        Number of heads.
    dropout : float
        Dropout of the attention weights.
    causal : bool
        Whether no output may depend on later input.
    window : tuple or int, optional
        Frames seen to the left and right; one number for both, `math.inf` for
        as far as the sequence goes. Default: 64 to the left and, unless
        causal, to the right.
    block_window : tuple, optional
        Frames of a block, and number of blocks seen to the left, in place of
        `window`.
    bias, rotary, scale
        As in `LaCT`.

    Example
    -------
    >>> import torch
    >>> layer = WindowAttention(d_model=16, nhead=2, window=(4, 0), causal=True)
    >>> x = torch.randn(2, 20, 16)
    >>> out, _, state = layer(
    ...     x, x, x, state=layer.initial_state(2), final=False
    ... )
    >>> out.shape, state.window.keys.shape
    (torch.Size([2, 20, 16]), torch.Size([2, 4, 2, 8]))
    """

    def __init__(
        self,
        d_model,
        nhead,
        dropout=0.0,
        causal=False,
        window=None,
        block_window=None,
        bias=False,
        rotary=True,
        scale=None,
    ):
        if window is None and block_window is None:
            window = 64, 0 if causal else 64
        super().__init__(
            d_model,
            nhead,
            dropout,
            causal=causal,
            window=window,
            block_window=block_window,
            bias=bias,
            rotary=rotary,
            scale=scale,
            fast=False,
            # There are no chunks: every frame is answered as it comes.
            order="apply_update" if causal else "update_apply",
            chunk_size=1,
            fast_heads=1,
        )

    @classmethod
    def of_layer(cls, options, number, count):
        """As `Mixer.of_layer`: all layers are the same."""
        return options

    def configuration(self):
        """As `Mixer.configuration`."""
        names = "causal", "window", "window_heads", "rotary", "scale"
        known = super().configuration()
        return {name: known[name] for name in names}


class FullAttention(WindowAttention):
    """Attention to the whole sequence; if causal, to all of it so far. Its
    state grows with the sequence.

    Arguments
    ---------
    d_model, nhead, dropout, causal, bias, rotary, scale
        As `WindowAttention`.

    Example
    -------
    >>> import torch
    >>> layer = FullAttention(d_model=16, nhead=2)
    >>> x = torch.randn(2, 20, 16)
    >>> layer(x, x, x)[0].shape
    torch.Size([2, 20, 16])
    """

    def __init__(
        self,
        d_model,
        nhead,
        dropout=0.0,
        causal=False,
        bias=False,
        rotary=True,
        scale=None,
    ):
        super().__init__(
            d_model,
            nhead,
            dropout,
            causal,
            window=(math.inf, 0 if causal else math.inf),
            bias=bias,
            rotary=rotary,
            scale=scale,
        )
