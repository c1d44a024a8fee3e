"""Rhythm of speech: how fast the energy rises and falls.

Authors
* speechbrain_lact contributors 2026
"""

import scipy.signal

from speechbrain_lact.evaluation.audio.inputs import check_wav
from speechbrain_lact.processing.voices import SILENCE

# Values of the envelope a second, all of the band in Hz, the part of it that is
# the rhythm of speech, and seconds of a spectrum.
ENVELOPE, BAND, RHYTHM, LONG = 100, (0.5, 20.0), (2.0, 8.0), 4.0


def modulation(wav, rate):
    """Rhythm: how much of the energy's rise and fall is as fast as syllables.

    Source: T. Houtgast and H. Steeneken, "A review of the MTF concept in room
    acoustics and its use for estimating speech intelligibility", 1985.

    Arguments
    ---------
    wav : torch.Tensor
        [S], 2 s or more.
    rate : int
        Samples per second.

    Returns
    -------
    float
        Share of the power spectrum of the energy from 0.5 to 20 Hz that is
        from 2 to 8 Hz.

    Raises
    ------
    ValueError
        For less than 2 s, or silence.

    Example
    -------
    >>> import torch
    >>> times = torch.arange(64000) / 16000
    >>> beats = 1 + torch.sin(2 * torch.pi * 4 * times)
    >>> round(modulation(beats * torch.randn(64000), 16000), 1)
    1.0
    """
    wav = check_wav(wav, rate, 1 / BAND[0])
    if float(wav.var(correction=0)) <= SILENCE:
        raise ValueError("wav: silence has no rhythm")
    energy = (wav - wav.mean()).double().square().numpy()
    energy = scipy.signal.resample_poly(energy, ENVELOPE, rate)
    size = min(len(energy), round(LONG * ENVELOPE))
    rates, power = scipy.signal.welch(energy, ENVELOPE, nperseg=size)
    whole, part = (
        power[(rates >= band[0]) & (rates <= band[1])].sum()
        for band in (BAND, RHYTHM)
    )
    return float(part / whole)
