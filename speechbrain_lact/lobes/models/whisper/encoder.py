"""Whisper's encoder with LaCT in place of its self-attention: it streams.

A frame sees its own block of frames and a window to the left; what is older is
in the fast weights. Positions start again with every segment: a segment ends
at a pause, or when Whisper's positions end, so that a recording has no end.

With the window open, the gate of the fast weights at zero and one segment it is
Whisper's own encoder.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch
from torch import nn

from speechbrain_lact.lobes.models.pipeline import SilenceState
from speechbrain_lact.lobes.models.transformer.encoder import (
    LaCTEncoderState,
    LaCTTransformerEncoder,
)
from speechbrain_lact.lobes.models.whisper.features import (
    WhisperFeatures,
    WhisperFrontEnd,
    WhisperFrontEndState,
)
from speechbrain_lact.nnet.checks import check_number, check_waves
from speechbrain_lact.nnet.counts import host_values
from speechbrain_lact.nnet.frames import length_mask, padding_mask, zero_padding
from speechbrain_lact.nnet.plan import chunk_ends
from speechbrain_lact.nnet.state import State, Waiting, counter, nested

FRAMES_PER_SECOND = 50


@dataclass
class StreamingWhisperState(State):
    """What the encoder carries."""

    features: Waiting = nested(Waiting)
    """Samples that frames to come will see."""
    front: WhisperFrontEndState = nested(WhisperFrontEndState)
    """Mel frames of the convolutions."""
    silence: SilenceState = nested(SilenceState)
    """Levels, by which pauses are found; None without `pauses`."""
    position: torch.Tensor = counter()
    """Frames of the unfinished segment that came before [B]."""
    begins: Waiting = nested(Waiting)
    """Which of the frames that wait in `encoder` begin a segment [B, P]."""
    encoder: LaCTEncoderState = nested(LaCTEncoderState)
    """Memory and windows."""


@dataclass
class StreamingWhisperOutput:
    """Frames that were answered."""

    frames: torch.Tensor
    """[B, T, d_model], zeros at padding."""
    lengths: torch.Tensor
    """Number of frames of each row [B]."""
    begins: torch.Tensor
    """True where a frame begins a segment [B, T]."""


class StreamingWhisper(nn.Module):
    """Whisper's encoder as an encoder of ours: waveforms in, frames out, with
    a state.

    Arguments
    ---------
    d_model, nhead, num_layers, d_ffn, n_mels : int
        Sizes of Whisper's encoder.
    positions : int
        Number of its positions, and the most frames of a segment.
    lact : dict, optional
        Arguments of `speechbrain_lact.nnet.lact.LaCT` beyond width and heads.
    least_segment : int
        Frames of a segment that a pause may end, at least.
    pauses : callable, optional
        Finds pauses, as `speechbrain_lact.processing.boundaries.ChunkEnds`
        of kind `silence` and stride 1 does. Without, segments are as long as
        `positions` allows.

    Example
    -------
    >>> lact = {"block_window": [4, 4], "order": "apply_update"}
    >>> net = StreamingWhisper(16, 2, 1, 32, lact={**lact, "chunk_size": 16})
    >>> state = net.initial_state(1)
    >>> out, state = net(torch.randn(1, 16000), None, state, final=False)
    >>> out.frames.shape, out.begins.sum()
    (torch.Size([1, 48, 16]), tensor(1))
    """

    def __init__(
        self,
        d_model,
        nhead,
        num_layers,
        d_ffn,
        n_mels=80,
        positions=1500,
        lact=None,
        least_segment=750,
        pauses=None,
    ):
        super().__init__()
        check_number(positions, "positions", least=1, integer=True)
        self.compute_features = WhisperFeatures(n_mels)
        self.front = WhisperFrontEnd(d_model, n_mels)
        self.register_buffer("positions", torch.zeros(positions, d_model))
        options = {"bias": True, "rotary": False, **(lact or {})}
        self.encoder = LaCTTransformerEncoder(
            num_layers,
            options,
            nhead=nhead,
            d_ffn=d_ffn,
            d_model=d_model,
            activation=nn.GELU,
            normalize_before=True,
        )
        for part in self.encoder.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = 1e-5
        self.least_segment, self.pauses = least_segment, pauses

    @classmethod
    def of_host(cls, host, **options):
        """The same of a Whisper, with its weights.

        Arguments
        ---------
        host : transformers.WhisperModel
        **options : dict
            `lact`, `least_segment`, `pauses`.

        Returns
        -------
        StreamingWhisper
        """
        config = host.config
        net = cls(
            config.d_model,
            config.encoder_attention_heads,
            config.encoder_layers,
            config.encoder_ffn_dim,
            config.num_mel_bins,
            config.max_source_positions,
            **options,
        )
        net.take_over(host.encoder.state_dict())
        return net

    def take_over(self, weights):
        """Takes the weights of Whisper's encoder; the gate of the fast weights
        is left as it is.

        Arguments
        ---------
        weights : dict
            `state_dict` of the encoder of transformers.
        """

        def part(prefix):
            """Tensors under a name."""
            found = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
            return found

        self.front.conv1.load_state_dict(part("conv1."))
        self.front.conv2.load_state_dict(part("conv2."))
        self.positions.copy_(weights["embed_positions.weight"])
        self.encoder.norm.norm.load_state_dict(part("layer_norm."))
        for number, layer in enumerate(self.encoder.layers):
            theirs = part(f"layers.{number}.")
            pairs = {
                "norm1.norm": "self_attn_layer_norm",
                "norm2.norm": "final_layer_norm",
                "pos_ffn.ffn.0": "fc1",
                "pos_ffn.ffn.3": "fc2",
            }
            for ours, name in pairs.items():
                layer.get_submodule(ours).load_state_dict(
                    {key: theirs[f"{name}.{key}"] for key in ("weight", "bias")}
                )
            mixer = layer.mixer
            query, value = (
                theirs[f"self_attn.{name}_proj.bias"] for name in "qv"
            )
            fused = {
                "in_proj_weight": torch.cat(
                    [theirs[f"self_attn.{name}_proj.weight"] for name in "qkv"]
                ),
                "in_proj_bias": torch.cat(
                    [query, torch.zeros_like(query), value]
                ),
                "out_proj.weight": theirs["self_attn.out_proj.weight"],
                "out_proj.bias": theirs["self_attn.out_proj.bias"],
            }
            mixer.load_state_dict(fused, strict=False)

    def configuration(self):
        """What, beside the weights, changes the answers.

        Returns
        -------
        dict
        """
        return {
            "least_segment": self.least_segment,
            "pauses": self.pauses and self.pauses.configuration(),
        }

    @property
    def group(self):
        """Frames that are answered together."""
        return self.encoder.group

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int

        Returns
        -------
        StreamingWhisperState
        """
        device = self.positions.device
        zeros = torch.zeros(batch, dtype=torch.long, device=device)
        flags = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        return StreamingWhisperState(
            self.compute_features.initial_state(batch),
            self.front.initial_state(batch),
            self.pauses and self.pauses.initial_state(batch, device),
            zeros,
            Waiting.empty(flags),
            self.encoder.initial_state(batch),
        )

    def forward(
        self,
        wavs,
        wav_lens=None,
        state=None,
        final=True,
        blocks=None,
        ends=None,
    ):
        """Frames of recordings, or of pieces of them.

        Arguments
        ---------
        wavs : torch.Tensor
            Floats [B, S], 16 kHz.
        wav_lens : torch.Tensor, optional
            Length of each row over S [B].
        state : StreamingWhisperState, optional
            Where to go on. Default: from the start.
        final : bool
            Whether the recordings end here.
        blocks : DynChunkTrainConfig, optional
            Blocks and left context of this call.
        ends : torch.Tensor, optional
            Booleans [B, T], True where a segment ends with the mel frame (100
            a second), in place of pauses; for whole recordings.

        Returns
        -------
        out : StreamingWhisperOutput
        state : StreamingWhisperState
        """
        check_waves(wavs, wav_lens)
        if state is None:
            state = self.initial_state(len(wavs))
        state.check(self.initial_state(0), len(wavs), contents=False)
        mel, lengths, features = self.compute_features(
            wavs, wav_lens, state.features, final
        )
        flags, silence = None, state.silence
        if ends is not None:
            flags = torch.nn.functional.pad(
                ends, (0, mel.shape[1] - ends.shape[1])
            )
        elif self.pauses is not None:
            flags, silence = self.pauses(
                10 * mel, lengths, state=silence, final=final
            )
        x, flags, counts, front = self.front(
            mel, lengths, state.front, final, flags
        )
        place, begins, position = self.places(
            flags,
            counts,
            state.position,
            self.least_segment if ends is None else 1,
        )
        x = x + self.positions.to(x)[place]
        inner = state.encoder
        x, _, inner = self.encoder(
            x,
            src_key_padding_mask=~length_mask(counts, x.shape[1]),
            dynchunktrain_config=blocks,
            state=inner,
            final=final,
        )
        begins, _, waiting = state.begins.push(
            begins,
            counts,
            1,
            final,
            lambda _, total: [
                known - left
                for known, left in zip(total, host_values(inner.waiting.counts))
            ],
        )
        x = zero_padding(x, padding_mask(inner.lengths, x.shape[1]))
        out = StreamingWhisperOutput(x, inner.lengths, begins)
        if final:
            position = torch.zeros_like(position)
        return out, StreamingWhisperState(
            features, front, silence, position, waiting, inner
        )

    def places(self, flags, counts, before, least):
        """Position of each frame in its segment.

        Arguments
        ---------
        flags : torch.Tensor
            True where a segment may end after the frame [B, T].
        counts : torch.Tensor
            Number of real frames [B].
        before : torch.Tensor
            Frames of the unfinished segment [B].
        least : int
            Frames of a segment, at least.

        Returns
        -------
        place : torch.Tensor
            Integers [B, T], 0 at padding.
        begins : torch.Tensor
            True where a segment begins [B, T].
        position : torch.Tensor
            Frames of the segment that is unfinished now [B].
        """
        most = len(self.positions)
        stops = chunk_ends(flags, counts, before, min(least, most), most)
        stops = stops.to(flags.device)
        columns = torch.arange(flags.shape[1], device=flags.device)
        at = columns + before[:, None]
        # The last stop at or before each frame.
        last = torch.zeros_like(at)
        for stop in stops.unbind(1):
            last = torch.where(at >= stop[:, None], stop[:, None], last)
        real = length_mask(counts, flags.shape[1])
        place = ((at - last) * real).clamp(max=most - 1)
        position = counts + before - stops[:, -1:].sum(1)
        return place, (place == 0) & real, position
