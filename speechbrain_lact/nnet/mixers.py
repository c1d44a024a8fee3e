"""The mixers by name: what `attention_type` may be, beside SpeechBrain's own.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.nnet.attention import FullAttention, WindowAttention
from speechbrain_lact.nnet.gated_delta import GatedDelta
from speechbrain_lact.nnet.lact import LaCT

# A mixer that is added here is known everywhere by its name.
MIXERS = {
    "LaCT": LaCT,
    "window": WindowAttention,
    "full": FullAttention,
    "gated_delta": GatedDelta,
}


def mixer_class(name):
    """The class of a mixer.

    Arguments
    ---------
    name : str
        One of `MIXERS`.

    Returns
    -------
    type

    Raises
    ------
    ValueError
        For another name.

    Example
    -------
    >>> mixer_class("window").__name__
    'WindowAttention'
    >>> mixer_class("other")
    Traceback (most recent call last):
    ...
    ValueError: a mixer is one of LaCT, window, ..., not 'other'
    """
    if name not in MIXERS:
        raise ValueError(f"a mixer is one of {', '.join(MIXERS)}, not {name!r}")
    return MIXERS[name]
