"""Where a language model of audio and a generation stand.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch

from speechbrain_lact.nnet.lact import LaCTState
from speechbrain_lact.nnet.state import State, buffer, counter, nested


@dataclass
class AudioLMState(State):
    """Where a model stands in a sequence."""

    layers: list = nested(LaCTState, many=True)
    """One state a layer."""
    condition: torch.Tensor = None
    """What is added to every input: voice and domain [B, E]."""
    rows: torch.Tensor = None
    """Rows read since the start [B]."""
    logits: torch.Tensor = None
    """Scores of the row that comes next [B, K, C + 2]."""


@dataclass
class KVState(State):
    """What full attention keeps: everything."""

    keys: torch.Tensor = buffer("right")
    """Keys [B, T, H, D], turned by their positions."""
    values: torch.Tensor = buffer("right")
    """As `keys`."""
    counts: torch.Tensor = counter("keys", "values")
    """How many of them are real [B]."""


@dataclass
class TransformerAudioLMState(AudioLMState):
    """As `AudioLMState`, of full attention."""

    layers: list = nested(KVState, many=True)


@dataclass
class GenerationState(State):
    """Where a generation stands: it goes on from here as if it had never been
    interrupted."""

    model: AudioLMState = nested(AudioLMState)
    """What was read."""
    recent: torch.Tensor = None
    """The last K rows of audio [B, K, K]."""
    forced: torch.Tensor = None
    """Tokens of the next K rows that a prompt gives, or -1 [B, K, K]."""
    made: torch.Tensor = None
    """Rows of audio so far, those of the prompt among them [B]."""
    prompt: torch.Tensor = None
    """Frames of the prompt [B]."""
    ended: torch.Tensor = None
    """Frames when the first codebook said `end`, or -1 [B]."""
    seed: torch.Tensor = None
    """Seed of each row's choices [B]."""


@dataclass
class TransformerGenerationState(GenerationState):
    """As `GenerationState`, of full attention."""

    model: TransformerAudioLMState = nested(TransformerAudioLMState)
