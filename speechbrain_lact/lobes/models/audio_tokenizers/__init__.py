"""Audio as tokens and back, behind one interface."""

from speechbrain_lact.lobes.models.audio_tokenizers.adapters import (
    DACAdapter,
    DiscreteSSLAdapter,
    EncodecAdapter,
    MimiAdapter,
    PretrainedAdapter,
    SpeechTokenizerAdapter,
    WavTokenizerAdapter,
)
from speechbrain_lact.lobes.models.audio_tokenizers.base import (
    PADDING,
    AudioTokenizer,
    DecodeState,
)
from speechbrain_lact.lobes.models.audio_tokenizers.lyra import (
    EncodeState,
    LyraTokenizer,
)
from speechbrain_lact.lobes.models.audio_tokenizers.mel import (
    FLOOR,
    CausalBlock,
    CausalVocoder,
    MelTokenizer,
)

__all__ = [
    "PADDING",
    "FLOOR",
    "DecodeState",
    "AudioTokenizer",
    "CausalBlock",
    "CausalVocoder",
    "MelTokenizer",
    "EncodeState",
    "LyraTokenizer",
    "PretrainedAdapter",
    "EncodecAdapter",
    "MimiAdapter",
    "DACAdapter",
    "SpeechTokenizerAdapter",
    "WavTokenizerAdapter",
    "DiscreteSSLAdapter",
]
