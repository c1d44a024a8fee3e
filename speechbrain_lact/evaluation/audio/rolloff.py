"""Spectral roll-off: where most of the spectrum lies, and its wandering.

Authors
* speechbrain_lact contributors 2026
"""

import math

import torch

from speechbrain_lact.evaluation.audio.inputs import (
    STEP,
    cut_frames,
    sounding_frames,
)

# Seconds of a frame.
FRAME = 0.032


def rolloff(wav, rate, share=0.85):
    """Frequency below which most of a frame's spectrum lies.

    Source: G. Tzanetakis and P. Cook, "Musical genre classification of audio
    signals", 2002.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    share : float
        Of the sum of the magnitudes.

    Returns
    -------
    torch.Tensor
        In Hz, of each hundredth of a second [T]; NaN for silence.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)
    >>> rolloff(wav, 16000).median()
    tensor(1031.2500)
    """
    if not 0 < share < 1:
        raise ValueError(f"share: {share}, must be between 0 and 1")
    frames = cut_frames(wav, rate, FRAME)
    window = torch.hann_window(frames.shape[1])
    sizes = torch.fft.rfft(frames * window).abs().cumsum(1)
    place = (sizes < share * sizes[:, -1:]).sum(1)
    found = place * rate / frames.shape[1]
    return found.masked_fill(~sounding_frames(frames), torch.nan)


def rolloff_variation(wav, rate, share=0.85, window=1.0):
    """How much the roll-off wanders: 0 for a spectrum that stays.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    share : float
        As of `rolloff`.
    window : float
        Seconds over which it is averaged.

    Returns
    -------
    float
        Standard deviation of the windows' means, relative to their mean.

    Raises
    ------
    ValueError
        For less than two windows with sound.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 1000 * torch.arange(48000) / 16000)
    >>> rolloff_variation(wav, 16000)
    0.0
    """
    size = max(1, round(window / STEP))
    # The last frames begin too late for a whole window's hundredths.
    means = [part.nanmean() for part in rolloff(wav, rate, share).split(size)]
    means = torch.stack(means)[: max(1, int(len(wav) / rate / window))]
    means = means[~means.isnan()]
    if len(means) < 2:
        raise ValueError(
            f"wav: sound in {len(means)} windows of {window} s; the roll-off "
            f"is compared between two or more"
        )
    return float(means.std() / means.mean())


def mean_rolloff(wav, rate):
    """Mean of `rolloff` over the frames that are no silence.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.

    Returns
    -------
    float
        In Hz.

    Raises
    ------
    ValueError
        For silence.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)
    >>> mean_rolloff(wav, 16000)
    1031.25
    """
    value = float(rolloff(wav, rate).nanmean())
    if math.isnan(value):
        raise ValueError("wav: silence has no roll-off")
    return value
