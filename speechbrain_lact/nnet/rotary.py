"""Rotary positions: pairs of channels turn with time.

Source: https://arxiv.org/abs/2104.09864, in the pairing of SpeechBrain's
RoPEMHA.

Authors
* speechbrain_lact contributors 2026
"""

from functools import lru_cache

import torch


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
    exact = torch.float64 if x.dtype == torch.float64 else torch.float32
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
        wide = dtype == torch.float64
        return turns.to(torch.complex128 if wide else torch.complex64)
