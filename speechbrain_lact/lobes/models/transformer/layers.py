"""SpeechBrain's Transformer, Conformer and Branchformer encoder layers around
a mixer of ours, with a state in and out and no reading of padding.

They subclass SpeechBrain's and reuse their submodules; only `forward` is new.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from speechbrain.lobes.models.transformer.Branchformer import (
    BranchformerEncoderLayer,
)
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.lobes.models.transformer.Transformer import (
    TransformerEncoderLayer,
)
from speechbrain_lact.nnet.frames import length_mask, zero_padding
from speechbrain_lact.nnet.lact import LaCTState
from speechbrain_lact.nnet.mixer import MixerState
from speechbrain_lact.nnet.mixers import mixer_class
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.state import State, nested


@dataclass
class LaCTLayerState(State):
    """What one encoder layer carries."""

    mixer: MixerState = nested(LaCTState)
    """What the mixer carries: of LaCT, or of another of `MIXERS`."""
    conv: torch.Tensor = None
    """Last input frames of the convolution [B, K, C]."""


# Arguments of a layer that its mixer takes as well.
MIXER_TAKES = ("d_model", "nhead", "dropout", "causal")


class _LaCTLayer:
    """What the three layers share: the mixer with its state."""

    @staticmethod
    def make_mixer(name, options, d_model, nhead, dropout=0.0, causal=False):
        """The mixer of a layer.

        Arguments
        ---------
        name : str
            One of `MIXERS`.
        options : dict
            Its arguments beyond those below.
        d_model, nhead, dropout, causal
            As `Mixer`.

        Returns
        -------
        Mixer
        """
        return mixer_class(name)(
            d_model, nhead, dropout, causal=causal, **options
        )

    def configuration(self):
        """What, beside the weights, changes the answers of the layer.

        Returns
        -------
        dict
        """
        conv = getattr(self, "convolution_module", None)
        return {
            "normalize_before": getattr(self, "normalize_before", None),
            "convolution": conv and [conv.causal, conv.padding, conv.dilation],
        }

    def _plan(self, x, padding, ends, window, plan):
        """The frames, with zeros at padding, and the plan of the call: that of
        the encoder, or for a layer alone one of its own."""
        if plan is not None:
            return x, plan
        mask = None if padding is None else ~padding
        x, ends = zero_padding(x, mask), self.mixer.check_ends(ends, x)
        if ends is not None:
            ends = self.mixer.at_blocks(ends.cpu(), window)
        return x, ChunkPlan.of(x, mask, ends)

    def _mix(self, x, plan, state, final, window):
        """Output of the mixer, and its state if there is one."""
        if state is None:
            return self.mixer(x, x, x, window=window, plan=plan)[0], None
        group = self.mixer.group_of(window)
        if not final and any(length % group for length in plan.lengths):
            raise ValueError(
                f"a layer takes multiples of {group} frames; the encoder "
                f"waits for them, call it instead"
            )
        out, _, new = self.mixer(
            x, x, x, state=state.mixer, final=final, window=window, plan=plan
        )
        return out, new

    def initial_state(self, batch):
        """State of rows that have seen nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTLayerState
        """
        return LaCTLayerState(self.mixer.initial_state(batch), None)


class LaCTTransformerLayer(_LaCTLayer, TransformerEncoderLayer):
    """SpeechBrain's Transformer layer with LaCT or another mixer.

    Arguments
    ---------
    lact : dict
        Arguments of the mixer beyond width, heads, dropout and `causal`.
    mixer : str
        One of `speechbrain_lact.nnet.mixers.MIXERS`.
    **kwargs : dict
        Arguments of SpeechBrain's `TransformerEncoderLayer`.

    Example
    -------
    >>> layer = LaCTTransformerLayer(
    ...     {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16
    ... )
    >>> x = torch.randn(2, 20, 16)
    >>> layer(x)[0].shape
    torch.Size([2, 20, 16])
    """

    def __init__(self, lact, mixer="LaCT", **kwargs):
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.self_att = self.make_mixer(
            mixer,
            lact,
            **{name: kwargs[name] for name in MIXER_TAKES if name in kwargs},
        )

    @property
    def mixer(self):
        """What stands in place of self-attention."""
        return self.self_att

    def forward(
        self,
        src,
        src_mask=None,
        src_key_padding_mask=None,
        pos_embs=None,
        state=None,
        final=True,
        window=None,
        ends=None,
        plan=None,
    ):
        """As SpeechBrain's layer, with a state; see `Mixer.forward`."""
        src, plan = self._plan(src, src_key_padding_mask, ends, window, plan)
        x = self.norm1(src) if self.normalize_before else src
        out, mixer = self._mix(x, plan, state, final, window)
        src = src + self.dropout1(out)
        if not self.normalize_before:
            src = self.norm1(src)
        x = self.norm2(src) if self.normalize_before else src
        out = src + self.dropout2(self.pos_ffn(x))
        if not self.normalize_before:
            out = self.norm2(out)
        if state is None:
            return out, None
        return out, None, LaCTLayerState(mixer, None)


class LaCTConformerLayer(_LaCTLayer, ConformerEncoderLayer):
    """SpeechBrain's Conformer layer with LaCT or another mixer.

    Arguments
    ---------
    lact : dict
        Arguments of the mixer beyond width, heads, dropout and `causal`.
    mixer : str
        One of `speechbrain_lact.nnet.mixers.MIXERS`.
    **kwargs : dict
        Arguments of SpeechBrain's `ConformerEncoderLayer`.

    Example
    -------
    >>> layer = LaCTConformerLayer(
    ...     {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16, kernel_size=3
    ... )
    >>> x = torch.randn(2, 20, 16)
    >>> layer(x)[0].shape
    torch.Size([2, 20, 16])
    """

    def __init__(self, lact, mixer="LaCT", **kwargs):
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.mha_layer = self.make_mixer(
            mixer,
            lact,
            **{name: kwargs[name] for name in MIXER_TAKES if name in kwargs},
        )

    @property
    def mixer(self):
        """What stands in place of self-attention."""
        return self.mha_layer

    def initial_state(self, batch):
        """As `_LaCTLayer.initial_state`, with the convolution's tail."""
        conv = self.convolution_module
        tail = conv.conv.weight.new_zeros(
            batch, conv.padding, conv.conv.in_channels
        )
        return LaCTLayerState(self.mixer.initial_state(batch), tail)

    def make_streaming_context(self, *args, **kwargs):
        """Refused: the context of a LaCT layer is part of the encoder's."""
        raise ValueError("a LaCT layer does not stream alone: use the encoder")

    def forward(
        self,
        x,
        src_mask=None,
        src_key_padding_mask=None,
        pos_embs=None,
        dynchunktrain_config=None,
        state=None,
        final=True,
        window=None,
        ends=None,
        plan=None,
    ):
        """As SpeechBrain's layer, with a state; see `Mixer.forward`."""
        x, plan = self._plan(x, src_key_padding_mask, ends, window, plan)
        x = x + 0.5 * self.ffn_module1(x)
        skip = x
        x, mixer = self._mix(self.norm1(x), plan, state, final, window)
        x = x + skip
        out, tail = self._convolve(
            x, plan, dynchunktrain_config, state and state.conv, final
        )
        x = x + out
        x = self.norm2(x + 0.5 * self.ffn_module2(x))
        if state is None:
            return x, None
        return x, None, LaCTLayerState(mixer, tail)

    def _convolve(self, x, plan, dynamic, tail, final):
        """SpeechBrain's convolution module without its reading of padding.

        Arguments
        ---------
        x : torch.Tensor
            [B, T, E]
        plan : ChunkPlan
            The rows.
        dynamic : DynChunkTrainConfig
            Dynamic chunks: no look-ahead over the end of a chunk.
        tail : torch.Tensor
            Frames before the first one [B, K, E], or None for zeros.
        final : bool
            Whether the sequence ends here.

        Returns
        -------
        out : torch.Tensor
            [B, T, E], zeros at padding.
        tail : torch.Tensor
            Frames before the next one, zeros if `final`.
        """
        module, size, mask = self.convolution_module, None, plan.mask
        if dynamic is not None:
            if module.causal:
                raise ValueError("dynamic chunks need causal=False")
            size = dynamic.chunk_size
        elif not module.causal and not final:
            raise ValueError(
                "the Conformer convolution looks ahead: use causal=True, "
                "dynamic chunks, or final=True"
            )
        past, time = module.padding, x.shape[1]
        if time == 0:
            if tail is None or final:
                tail = x.new_zeros(len(x), past, x.shape[2])
            return x, tail
        future = 0 if module.causal else past
        # Channels before time from here on, as convolutions want it.
        out = module.bottleneck(module.layer_norm(x).transpose(1, 2))
        out = zero_padding(out.transpose(1, 2), mask).transpose(1, 2)
        if tail is None:
            tail = x.new_zeros(len(x), past, out.shape[1])
        frames = torch.cat([tail.transpose(1, 2).to(out.dtype), out], 2)
        if final:
            tail = torch.zeros_like(tail)
        else:
            tail = plan.slide(frames.transpose(1, 2), plan.lengths, past)
        if size is None:
            frames = F.pad(frames, (0, future))
        else:
            chunks = -(-time // size)
            frames = F.pad(frames, (0, chunks * size - time))
            frames = frames.unfold(2, past + size, size).transpose(1, 2)
            frames = F.pad(frames, (0, future)).flatten(0, 1)
        conv = module.conv
        out = F.conv1d(
            frames,
            conv.weight,
            conv.bias,
            dilation=conv.dilation,
            groups=conv.groups,
        ).transpose(1, 2)
        if size is not None:
            out = out.reshape(len(x), -1, out.shape[-1])[:, :time]
        return zero_padding(module.after_conv(out), mask), tail


class LaCTBranchformerLayer(_LaCTLayer, BranchformerEncoderLayer):
    """SpeechBrain's Branchformer layer with LaCT or another mixer.

    Its convolutional gate looks ahead and mirrors the sequence at its ends;
    here each row is mirrored at its own end. It takes whole sequences.

    Arguments
    ---------
    lact : dict
        Arguments of the mixer beyond width, heads, dropout and `causal`.
    mixer : str
        One of `speechbrain_lact.nnet.mixers.MIXERS`.
    **kwargs : dict
        Arguments of SpeechBrain's `BranchformerEncoderLayer`.

    Example
    -------
    >>> layer = LaCTBranchformerLayer(
    ...     {"chunk_size": 8}, nhead=2, d_model=16, csgu_linear_units=32
    ... )
    >>> x = torch.randn(2, 20, 16)
    >>> layer(x)[0].shape
    torch.Size([2, 20, 16])
    """

    def __init__(self, lact, causal=False, mixer="LaCT", **kwargs):
        if causal:
            raise ValueError("SpeechBrain's Branchformer cannot be causal")
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.mha_layer = self.make_mixer(
            mixer,
            lact,
            **{name: kwargs[name] for name in MIXER_TAKES if name in kwargs},
        )

    @property
    def mixer(self):
        """What stands in place of self-attention."""
        return self.mha_layer

    def forward(
        self,
        x,
        src_mask=None,
        src_key_padding_mask=None,
        pos_embs=None,
        state=None,
        final=True,
        window=None,
        ends=None,
        plan=None,
    ):
        """As SpeechBrain's layer, with a state; see `Mixer.forward`."""
        if not final:
            raise ValueError(
                "the Branchformer looks ahead and takes whole sequences: "
                "use final=True"
            )
        x, plan = self._plan(x, src_key_padding_mask, ends, window, plan)
        near, mixer = self._mix(self.norm_mhsa(x), plan, state, final, window)
        local = self._convolve(self.norm_conv(x), plan)
        both = torch.cat([self.dropout(near), self.dropout(local)], -1)
        x = x + self.dropout(self.merge_proj(both))
        if state is None:
            return x, None
        return x, None, LaCTLayerState(mixer, None)

    def _convolve(self, x, plan):
        """SpeechBrain's convolution branch, each row mirrored at its end."""
        if x.shape[1] == 0:
            return x
        branch = self.convolution_branch
        unit = branch.csgu
        x = branch.activation(branch.pre_channel_proj(x))
        gate, out = x.chunk(2, dim=-1)
        out = unit.norm(out)
        conv = unit.conv.conv
        side = conv.kernel_size[0] // 2
        lengths = plan.counts(plan.lengths)
        places = torch.arange(-side, x.shape[1] + side, device=x.device).abs()
        last = lengths[:, None] - 1
        places = last - (last - places).abs()
        rows = torch.arange(len(x), device=x.device)[:, None]
        out = out[rows, places.clamp(0, x.shape[1] - 1)]
        beyond = length_mask(lengths + 2 * side, out.shape[1])
        out = zero_padding(out, beyond).transpose(1, 2)
        out = F.conv1d(out, conv.weight, conv.bias, groups=conv.groups)
        out = out.transpose(1, 2)
        if unit.use_linear_after_conv:
            out = unit.linear(out)
        out = unit.dropout(unit.activation(out) * gate)
        return zero_padding(branch.post_channel_proj(out), plan.mask)
