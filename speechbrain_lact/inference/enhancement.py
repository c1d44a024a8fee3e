"""Loads an enhancer of SpeechBrain, whichever kind a source holds.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain.inference.enhancement import (
    SpectralMaskEnhancement,
    WaveformEnhancement,
)
from speechbrain_lact.inference.folder import load_interface


def load_enhancer(source, trust=False):
    """Whichever of SpeechBrain's enhancers has its settings there.

    Arguments
    ---------
    source : str
        Name on the hub or folder of a `SpectralMaskEnhancement` or
        `WaveformEnhancement`.
    trust : bool
        As of `load_interface`.

    Returns
    -------
    speechbrain.inference.interfaces.Pretrained
    """
    try:
        return load_interface(SpectralMaskEnhancement, source, trust=trust)
    except ValueError as error:
        if "Need hparams" not in str(error):
            raise
        return load_interface(WaveformEnhancement, source, trust=trust)
