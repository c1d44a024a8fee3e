"""Language models of audio tokens: one whose memory does not grow, and a
standard Transformer that does the same job.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.lobes.models.audio_lm.attention import CachedAttention
from speechbrain_lact.lobes.models.audio_lm.model import AudioLM
from speechbrain_lact.lobes.models.audio_lm.state import (
    TransformerAudioLMState,
    TransformerGenerationState,
)
from speechbrain_lact.nnet.lact import LaCT, remembering_layers


class LaCTAudioLM(AudioLM):
    """Remembers the last rows by window attention, all others in fast weights.

    Arguments
    ---------
    codebooks, codebook_size, num_layers, **kwargs
        As `AudioLM`.
    d_model, nhead, d_ffn : int
        Sizes.
    lact : dict
        Arguments of `LaCT` beyond width, heads, dropout and order. `fast` may
        also be the numbers of the layers that have fast weights, from 0.

    Example
    -------
    >>> import torch
    >>> net = LaCTAudioLM(2, 8, d_model=16, nhead=2, d_ffn=32, num_layers=1)
    >>> rows = net.audio_rows(torch.randint(8, (5, 2)))
    >>> logits, state = net(torch.cat([net.begin_row(), rows])[None])
    >>> logits.shape
    torch.Size([1, 7, 2, 10])
    """

    def __init__(
        self,
        codebooks,
        codebook_size,
        d_model,
        nhead,
        d_ffn,
        num_layers,
        lact=None,
        dropout=0.0,
        **kwargs,
    ):
        options = {"chunk_size": 64, **(lact or {})}
        fast = remembering_layers(options.pop("fast", True), num_layers)
        super().__init__(
            lambda number: LaCT(
                d_model,
                nhead,
                dropout,
                order="apply_update",
                causal=True,
                fast=number in fast,
                **options,
            ),
            codebooks,
            codebook_size,
            d_model,
            d_ffn,
            num_layers,
            dropout,
            **kwargs,
        )


class TransformerAudioLM(AudioLM):
    """Full attention with a cache of all keys and values; all else is the
    same.

    Arguments
    ---------
    codebooks, codebook_size, num_layers, **kwargs
        As `AudioLM`.
    d_model, nhead, d_ffn : int
        Sizes.

    Example
    -------
    >>> net = TransformerAudioLM(
    ...     2, 8, d_model=16, nhead=2, d_ffn=32, num_layers=1
    ... )
    >>> net(net.begin_row()[None])[0].shape
    torch.Size([1, 1, 2, 10])
    """

    state_class = TransformerAudioLMState
    generation_class = TransformerGenerationState

    def __init__(
        self,
        codebooks,
        codebook_size,
        d_model,
        nhead,
        d_ffn,
        num_layers,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(
            lambda _: CachedAttention(d_model, nhead, dropout),
            codebooks,
            codebook_size,
            d_model,
            d_ffn,
            num_layers,
            dropout,
            **kwargs,
        )
