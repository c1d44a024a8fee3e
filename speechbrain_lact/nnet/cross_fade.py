"""Going over from one signal to another without a click.

Authors
* speechbrain_lact contributors 2026
"""

import math

import torch


def cross_fade(old, new, curve="linear"):
    """Goes over from one signal to another.

    Arguments
    ---------
    old, new : torch.Tensor
        [..., N]
    curve : str
        `linear` for two versions of one signal, whose amplitudes add;
        `power` for signals that have nothing to do with each other, whose
        powers add.

    Returns
    -------
    torch.Tensor
        [..., N]

    Raises
    ------
    ValueError
        If the curve is unknown.

    Example
    -------
    >>> cross_fade(torch.zeros(4), torch.ones(4))
    tensor([0.1250, 0.3750, 0.6250, 0.8750])
    """
    size = new.shape[-1]
    rise = (torch.arange(size, dtype=new.dtype, device=new.device) + 0.5) / size
    if curve == "linear":
        return old + rise * (new - old)
    if curve == "power":
        angle = rise * (math.pi / 2)
        return angle.cos() * old + angle.sin() * new
    raise ValueError(f"curve: {curve!r}, but it must be linear or power")
