"""Fundamental frequency by autocorrelation: does it glide or jump?

Authors
* speechbrain_lact contributors 2026
"""

import math

import numpy as np
import scipy.signal
import torch

from speechbrain_lact.evaluation.audio.inputs import (
    check_wav,
    cut_frames,
    sounding_frames,
)

# Range of the pitch in Hz, and periods of the lowest pitch in a frame.
LOWEST, HIGHEST, PERIODS = 60.0, 400.0, 3
# Least autocorrelation of a voiced frame, and what a lag twice as long must
# add to it to be chosen (P. Boersma, "Accurate short-term analysis of the
# fundamental frequency and the harmonics-to-noise ratio of a sampled sound",
# 1993).
VOICED, OCTAVE = 0.45, 0.01
# Harmonics of the highest pitch that the low-pass filter lets pass.
HARMONICS = 5
# Frames handed to the autocorrelation at a time.
BLOCK = 1000


def pitch_track(wav, rate, low=LOWEST, high=HIGHEST):
    """Fundamental frequency by normalised autocorrelation, each frame for
    itself.

    `torchaudio.functional.detect_pitch_frequency` does not say which frames
    are voiced and smooths over 0.3 s, which would hide jumps; `librosa.pyin`
    smooths along the recording, too.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    low, high : float
        Between which it is looked for, in Hz.

    Returns
    -------
    torch.Tensor
        In Hz, of each hundredth of a second [T]; NaN where there is no voice.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 150 * torch.arange(8000) / 16000)
    >>> pitch_track(wav, 16000).median().round()
    tensor(150.)
    """
    if not 0 < low < high < rate / 2 / HARMONICS:
        raise ValueError(
            f"low, high: {low}, {high} Hz at {rate} Hz; must be 0 < low < "
            f"high < rate / {2 * HARMONICS}"
        )
    wav = check_wav(wav, rate, PERIODS / low)
    # Else a period that is no whole number of samples may look like two.
    smooth = scipy.signal.butter(2, HARMONICS * high, fs=rate, output="sos")
    wav = scipy.signal.sosfiltfilt(smooth, wav.numpy()).astype(np.float32)
    frames = cut_frames(wav, rate, PERIODS / low)
    first, last = int(rate / high), math.ceil(rate / low)
    found = [_pitch(part, rate, first, last) for part in frames.split(BLOCK)]
    return torch.cat(found).masked_fill(~sounding_frames(frames), torch.nan)


def _pitch(frames, rate, first, last):
    """Pitch [T] of frames [T, N], from the lags `first` to `last`."""
    window = torch.hann_window(frames.shape[1])
    alike = _autocorrelation(frames * window) / _autocorrelation(window)
    lags = torch.arange(first, last + 1)
    left, here, right = (alike[:, lags + side] for side in (-1, 0, 1))
    peak = (here > left) & (here >= right) & (here > VOICED)
    scores = here - OCTAVE * lags.log2()
    best = scores.masked_fill(~peak, -torch.inf).argmax(1, keepdim=True)
    left, here, right = (x.gather(1, best)[:, 0] for x in (left, here, right))
    # Top of the parabola through the peak and its neighbours.
    shift = 0.5 * (left - right) / (left - 2 * here + right)
    return (rate / (lags[best[:, 0]] + shift)).masked_fill(
        ~peak.any(1), torch.nan
    )


def _autocorrelation(x):
    """Of [..., N], 1 at lag 0 [..., N]; 0 of what is 0."""
    size = x.shape[-1]
    power = torch.fft.rfft(x, 2 * size).abs().square()
    sums = torch.fft.irfft(power)[..., :size]
    return sums / sums[..., :1].clamp(min=torch.finfo(x.dtype).tiny)


def pitch_continuity(track):
    """Whether a pitch glides or jumps.

    Arguments
    ---------
    track : torch.Tensor
        As `pitch_track` returns it [T].

    Returns
    -------
    jump : float or None
        Median size of the steps between neighbours that both are voiced, in
        semitones; None if there are none.
    voiced : float
        Share of frames.

    Example
    -------
    >>> pitch_continuity(torch.tensor([100.0, 200.0, 100.0, torch.nan]))
    (12.0, 0.75)
    """
    if not len(track):
        raise ValueError("track: no frames")
    steps = 12 * track.log2().diff().abs()
    steps = steps[~steps.isnan()]
    jump = float(steps.median()) if len(steps) else None
    return jump, float((~track.isnan()).double().mean())
