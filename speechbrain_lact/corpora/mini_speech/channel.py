"""The microphone of a voice: an equaliser, a level, a noise floor.

Authors
 * speechbrain_lact contributors 2026
"""

import functools

import numpy as np

from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.corpora.mini_speech.conditions import equalise


def draw_channel(rng):
    """Draws a microphone: a mild equaliser, a level, a noise floor.

    Arguments
    ---------
    rng : numpy.random.Generator
        Where it comes from.

    Returns
    -------
    dict
        Level and noise floor (dBFS); low cut (Hz), peak and shelf (Hz, dB).
    """
    return {
        "level": float(rng.uniform(-30, -21)),
        "floor": float(rng.uniform(-76, -64)),
        "low_cut": float(rng.uniform(50, 160)),
        "peak": [
            float(np.exp(rng.uniform(5.7, 8.2))),
            float(rng.uniform(-5, 5)),
        ],
        "shelf": [float(rng.uniform(2000, 4500)), float(rng.uniform(-6, 4))],
    }


def channel_sections(channel):
    """The equaliser of a channel: a high-pass, a peak and a high shelf
    (R. Bristow-Johnson's "Cookbook formulae for audio equalizer biquad filter
    coefficients").

    Arguments
    ---------
    channel : dict
        As of `draw_channel`; low_cut, peak and shelf are used.

    Returns
    -------
    numpy.ndarray
        Second-order sections at 16 kHz [3, 6], as `scipy.signal.sosfilt`
        takes them.

    Example
    -------
    >>> channel_sections(draw_channel(np.random.default_rng(0))).shape
    (3, 6)
    """
    sections = []

    def angles(frequency, quality):
        w = 2 * np.pi * frequency / SAMPLE_RATE
        return np.cos(w), np.sin(w) / (2 * quality)

    cos, alpha = angles(channel["low_cut"], 0.7071)
    b = [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2]
    sections.append([*b, 1 + alpha, -2 * cos, 1 - alpha])

    frequency, gain = channel["peak"]
    cos, alpha = angles(frequency, 0.8)
    a = 10 ** (gain / 40)
    b = [1 + alpha * a, -2 * cos, 1 - alpha * a]
    sections.append([*b, 1 + alpha / a, -2 * cos, 1 - alpha / a])

    frequency, gain = channel["shelf"]
    cos, alpha = angles(frequency, 0.7071)
    a = 10 ** (gain / 40)
    s = 2 * np.sqrt(a) * alpha
    b = [
        a * (a + 1 + (a - 1) * cos + s),
        -2 * a * (a - 1 + (a + 1) * cos),
        a * (a + 1 + (a - 1) * cos - s),
    ]
    sections.append(
        [
            *b,
            a + 1 - (a - 1) * cos + s,
            2 * (a - 1 - (a + 1) * cos),
            a + 1 - (a - 1) * cos - s,
        ]
    )
    sections = np.array(sections)
    return sections / sections[:, 3:4]


@functools.lru_cache
def _resampling_filter(up, down):
    """The low-pass that `resample_poly` would design at every call."""
    from scipy.signal import firwin

    rate = max(up, down)
    taps = firwin(20 * rate + 1, 1 / rate, window=("kaiser", 5.0))
    return taps.astype(np.float32)


def record(wav, sample_rate, channel, sections, rng, sound):
    """Records a sentence: its channel, 16 kHz, level, pauses, noise floor.

    Arguments
    ---------
    wav : numpy.ndarray
        What the synthesizer says.
    sample_rate : int
        Its rate (Hz).
    channel : dict
        As of `draw_channel`.
    sections : numpy.ndarray
        `channel_sections` of it, made once for all sentences.
    rng : numpy.random.Generator
        Where pauses and noise come from.
    sound : dict
        The session's conditions, as `conditions.draw` draws them; "tract" and
        "equaliser" are used.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz.
    """
    # Here, not above: it takes a second, and only the workers need it.
    from scipy.signal import resample_poly, sosfilt

    # Played faster, a voice comes from a shorter vocal tract.
    sample_rate = round(sample_rate * sound.get("tract", 1))
    factor = np.gcd(SAMPLE_RATE, sample_rate)
    ratio = int(SAMPLE_RATE // factor), int(sample_rate // factor)
    wav = resample_poly(wav, *ratio, window=_resampling_filter(*ratio))
    wav = sosfilt(sections, wav)
    if "equaliser" in sound:
        wav = equalise(wav, sound["equaliser"])
    level = np.abs(wav)
    active = np.flatnonzero(level > 0.02 * level.max())
    wav = wav[max(0, active[0] - 160) : active[-1] + 480]
    wav *= 10 ** (channel["level"] / 20) / np.sqrt(np.mean(wav**2))
    wav *= min(1.0, 0.9 / np.abs(wav).max())
    pauses = rng.integers(SAMPLE_RATE // 10, SAMPLE_RATE // 5, 2)
    wav = np.pad(wav, pauses)
    return wav + 10 ** (channel["floor"] / 20) * rng.standard_normal(len(wav))
