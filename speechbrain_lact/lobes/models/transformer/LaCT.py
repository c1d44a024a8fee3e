"""SpeechBrain's Transformer, Conformer and Branchformer encoders with LaCT in
place of attention, a state in and out, and no reading of padding.

The layers subclass SpeechBrain's and reuse their submodules; only `forward`
is new.

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from speechbrain.lobes.models.transformer.Branchformer import (
    BranchformerEncoder,
    BranchformerEncoderLayer,
)
from speechbrain.lobes.models.transformer.Conformer import (
    ConformerEncoder,
    ConformerEncoderLayer,
)
from speechbrain.lobes.models.transformer.Transformer import (
    TransformerEncoder,
    TransformerEncoderLayer,
)
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import host_values, known_values, remember
from speechbrain_lact.nnet.frames import length_mask, slide, zero_padding
from speechbrain_lact.nnet.lact import LaCT, LaCTState, remembering_layers
from speechbrain_lact.nnet.plan import ChunkPlan, repeat
from speechbrain_lact.nnet.state import (
    State,
    Waiting,
    check_kind,
    counter,
    nested,
)
from speechbrain_lact.nnet.window_attention import Window


@dataclass
class LaCTLayerState(State):
    """What one encoder layer carries."""

    mixer: LaCTState = nested(LaCTState)
    """Memory and window of the LaCT mixer."""
    conv: torch.Tensor = None
    """Last input frames of the convolution [B, K, C]."""


@dataclass
class LaCTEncoderState(State):
    """What an encoder carries."""

    layers: list = nested(LaCTLayerState, many=True)
    """One state a layer."""
    waiting: Waiting = nested(Waiting)
    """Input frames that cannot be answered yet."""
    lengths: torch.Tensor = counter()
    """Number of output frames of the call that made this state [B]."""
    frames: torch.Tensor = counter()
    """Number of output frames since the start [B]."""

    def learn(self, rows):
        """Says which rows learn from now on; the others only read.

        Arguments
        ---------
        rows : torch.Tensor or list of bool
            Booleans [B].

        Returns
        -------
        LaCTEncoderState
        """
        values = rows
        if isinstance(rows, torch.Tensor):
            values = known_values(rows)
            values = host_values(rows) if rows.is_cpu else values
        rows = torch.as_tensor(rows, device=self.frames.device)
        check_tensor(rows, (self.batch,), "rows that learn", "booleans")

        def visit(layer):
            """The flag of every head of a layer."""
            fast = layer.mixer.fast
            if fast is None:
                return layer
            flags = rows[:, None].expand_as(fast.learning)
            if values is not None:
                heads = flags.shape[1]
                # A tensor of its own, of which more is known.
                flags = remember(flags.clone(), repeat(values, heads))
            fast = replace(fast, learning=flags)
            return replace(layer, mixer=replace(layer.mixer, fast=fast))

        return replace(self, layers=[visit(layer) for layer in self.layers])

    @property
    def learning(self):
        """Which rows learn [B]; all, where there is nothing to learn."""
        for layer in self.layers:
            if layer.mixer.fast is not None:
                return layer.mixer.fast.learning.all(1)
        return torch.ones_like(self.frames, dtype=torch.bool)

    @property
    def updates(self):
        """Updates made, mean over layers [B]."""
        return self._mean("steps")

    @property
    def skipped(self):
        """Updates left out because they were not finite, mean over layers."""
        return self._mean("skipped")

    def _mean(self, name):
        counts = [
            getattr(layer.mixer.fast, name)[:, 0].double()
            for layer in self.layers
            if layer.mixer.fast is not None
        ]
        return torch.stack(counts).mean(0) if counts else self.frames * 0.0


@dataclass
class LaCTEncoderStreamingContext:
    """Streaming metadata and state for a LaCT encoder."""

    dynchunktrain_config: DynChunkTrainConfig
    """Chunk size and left context."""
    state: LaCTEncoderState = None
    """Where to go on; None before the first chunk, which tells the number of
    rows."""
    answered: int = 0
    """Of the frames that wait in `state`, those that were answered already:
    the last ones of an input that ended within a chunk."""


class _LaCTLayer:
    """What the three layers share: the mixer with its state."""

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
    """SpeechBrain's Transformer layer with LaCT.

    Arguments
    ---------
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout.
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

    def __init__(self, lact, **kwargs):
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.self_att = LaCT(
            kwargs["d_model"],
            kwargs["nhead"],
            kwargs.get("dropout", 0.0),
            causal=kwargs.get("causal", False),
            **lact,
        )

    @property
    def mixer(self):
        """The LaCT module."""
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
        """As SpeechBrain's layer, with a state; see `LaCT.forward`."""
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
    """SpeechBrain's Conformer layer with LaCT.

    Arguments
    ---------
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout.
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

    def __init__(self, lact, **kwargs):
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.mha_layer = LaCT(
            kwargs["d_model"],
            kwargs["nhead"],
            kwargs.get("dropout", 0.0),
            causal=kwargs.get("causal", False),
            **lact,
        )

    @property
    def mixer(self):
        """The LaCT module."""
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
        """As SpeechBrain's layer, with a state; see `LaCT.forward`."""
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
            tail = slide(frames.transpose(1, 2), plan.lengths, past)
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
    """SpeechBrain's Branchformer layer with LaCT.

    Its convolutional gate looks ahead and mirrors the sequence at its ends;
    here each row is mirrored at its own end. It takes whole sequences.

    Arguments
    ---------
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout.
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

    def __init__(self, lact, causal=False, **kwargs):
        if causal:
            raise ValueError("SpeechBrain's Branchformer cannot be causal")
        super().__init__(attention_type="RoPEMHA", **kwargs)
        self.mha_layer = LaCT(
            kwargs["d_model"],
            kwargs["nhead"],
            kwargs.get("dropout", 0.0),
            **lact,
        )

    @property
    def mixer(self):
        """The LaCT module."""
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
        """As SpeechBrain's layer, with a state; see `LaCT.forward`."""
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


class _LaCTEncoder:
    """What the three encoders share: the loop over layers with states.

    Arguments
    ---------
    num_layers : int
        Number of layers.
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout. `fast` may also
        be the numbers of the layers that have fast weights, from 0.
    layerdrop_prob : float
        Probability to leave out a layer in training.
    output_hidden_states : bool
        Whether to return the output of every layer.
    causal : bool
        Whether no output may depend on later input.
    **kwargs : dict
        Arguments of SpeechBrain's encoder and of its layer.
    """

    layer_class = None

    def __init__(
        self,
        num_layers,
        lact,
        layerdrop_prob=0.0,
        output_hidden_states=False,
        causal=False,
        **kwargs,
    ):
        check_number(num_layers, "num_layers", least=1, integer=True)
        remember = remembering_layers(lact.get("fast", True), num_layers)
        # The host without layers; then layers of ours.
        super().__init__(
            num_layers=0,
            layerdrop_prob=layerdrop_prob,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        self.layers = torch.nn.ModuleList(
            [
                self.layer_class(
                    {**lact, "fast": number in remember},
                    causal=causal,
                    **kwargs,
                )
                for number in range(num_layers)
            ]
        )

    @property
    def group(self):
        """Frames that are answered together when they come in pieces."""
        return math.lcm(*(layer.mixer.group for layer in self.layers))

    def initial_state(self, batch):
        """State of rows that have seen nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTEncoderState
        """
        waiting = self.layers[0].mixer.nothing_waits(batch)
        return LaCTEncoderState(
            [layer.initial_state(batch) for layer in self.layers],
            waiting,
            waiting.counts,
            waiting.counts,
        )

    def forward(
        self,
        src,
        src_mask=None,
        src_key_padding_mask=None,
        pos_embs=None,
        dynchunktrain_config=None,
        state=None,
        final=True,
        ends=None,
        plan=None,
    ):
        """As SpeechBrain's encoder, with a state.

        Arguments
        ---------
        src : torch.Tensor
            [B, T, E]
        src_mask : torch.Tensor, optional
            Not used: the layers' window and order say what a frame sees.
        src_key_padding_mask : torch.Tensor, optional
            [B, T], True = padding, after the last real frame.
        pos_embs : torch.Tensor, optional
            Not used.
        dynchunktrain_config : DynChunkTrainConfig, optional
            Dynamic chunks: a block window for this call (Conformer).
        state : LaCTEncoderState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone.
        ends : torch.Tensor, optional
            Boolean [B, T], True where a chunk of the memory may end after the
            frame; with `least_chunk`, and only then.
        plan : ChunkPlan, optional
            In place of `src_key_padding_mask`, if the host knows the lengths;
            padding is then finite.

        Returns
        -------
        output : torch.Tensor
            [B, T, E]. With a state, the frames that could be answered,
            `state.lengths` of them.
        attention_lst : list
            One None a layer.
        hidden_state_lst : list
            Only with `output_hidden_states`.
        state : LaCTEncoderState
            Only if a state was given.
        """
        mixer = self.layers[0].mixer
        check_tensor(src, ("B", "T", mixer.d_model), "src")
        mask = None
        if src_key_padding_mask is not None:
            mask = ~check_tensor(
                src_key_padding_mask,
                src.shape[:2],
                "src_key_padding_mask",
                "booleans",
            )
        if state is not None:
            check_kind(state, LaCTEncoderState)
            if len(state.layers) != len(self.layers):
                raise ValueError(
                    f"state: of {len(state.layers)} layers for an encoder of "
                    f"{len(self.layers)}"
                )
            state.check_rows(len(src))
        x = src
        if plan is None:
            x = zero_padding(src, mask)
            plan = ChunkPlan.of(x, mask)
        options, group = self._dynamic(
            dynchunktrain_config, x.shape[1], state is None or final
        )
        window = options.get("window")
        ends = mixer.check_ends(ends, x)
        if state is not None:
            x, lengths, waiting, ends = mixer.push(
                state.waiting,
                x,
                plan.counts(plan.lengths),
                ends,
                math.lcm(group, self.group),
                final,
                window,
            )
            plan = ChunkPlan(host_values(lengths), x.shape[1], x.device)
        if ends is not None:
            plan.ends = mixer.at_blocks(ends.cpu(), window)
        dropping = self.training and self.layerdrop_prob > 0.0
        keep = torch.rand(len(self.layers)) if dropping else None
        states, attention, hidden = [], [], [x]
        for i, layer in enumerate(self.layers):
            inner = None if state is None else state.layers[i]
            if keep is None or keep[i] > self.layerdrop_prob:
                x, attn, *inner = layer(
                    x, state=inner, final=final, plan=plan, **options
                )
                inner = inner[0] if inner else None
                attention.append(attn)
                hidden.append(x)
            states.append(inner)
        plan.report()
        out = [self.norm(x), attention]
        if self.output_hidden_states:
            out.append(hidden)
        if state is not None:
            frames = plan.counts(
                a + b for a, b in zip(host_values(state.frames), plan.lengths)
            )
            out.append(LaCTEncoderState(states, waiting, lengths, frames))
        return tuple(out)

    def make_streaming_context(self, dynchunktrain_config):
        """Creates a blank streaming context for the encoder.

        Arguments
        ---------
        dynchunktrain_config : DynChunkTrainConfig
            Chunk size and left context; these are finite.

        Returns
        -------
        LaCTEncoderStreamingContext

        Raises
        ------
        ValueError
            If the encoder cannot answer such chunks as they come.
        """
        size = dynchunktrain_config.chunk_size
        for layer in self.layers:
            ahead = layer.mixer.chunk_size
            if layer.mixer.causal:
                raise ValueError(
                    "a streaming context needs causal=False; a causal encoder "
                    "streams with encode(src, state=..., final=False)"
                )
            if layer.mixer.order == "update_apply" and size % ahead:
                raise ValueError(
                    f"chunk_size={size}: in update_apply order frames are "
                    f"answered when {ahead} are complete; stream in multiples "
                    f"of lact_chunk_size, or use lact_order: apply_update"
                )
        # No frames: all that checks a chunk, and nothing computed.
        like = next(self.parameters())
        self(
            like.new_zeros(1, 0, self.layers[0].mixer.d_model),
            dynchunktrain_config=dynchunktrain_config,
            state=self.initial_state(1),
            final=False,
        )
        return LaCTEncoderStreamingContext(dynchunktrain_config)

    def forward_streaming(self, src, context, pos_embs=None):
        """Streaming forward, of one chunk after the other.

        Every frame is answered at once. Those after the last full chunk see
        what there is of theirs, as at the end of a sequence; if more comes
        all the same, the chunks go on as if the input had not been cut.

        Arguments
        ---------
        src : torch.Tensor
            [B, T, E]; T is `chunk_size`, but for the last chunk.
        context : LaCTEncoderStreamingContext
            Mutable streaming context; the same object should be passed across
            calls.
        pos_embs : torch.Tensor, optional
            Not used.

        Returns
        -------
        output : torch.Tensor
            [B, T, E]
        attention_lst : list
            One None a layer.
        """
        state, before = context.state, context.answered
        if state is None:
            state = self.initial_state(len(src))
        elif len(src) != len(state.frames):
            raise ValueError(
                f"a chunk of {len(src)} rows for a streaming context of "
                f"{len(state.frames)}"
            )
        options = {"dynchunktrain_config": context.dynchunktrain_config}
        output, attention, *_, state = self(
            src, state=state, final=False, **options
        )
        context.state = state
        context.answered = state.waiting.frames.shape[1]
        if context.answered:
            # As if the sequence ended here; that state is not kept.
            tail, *_ = self(src[:, :0], state=state, **options)
            output = torch.cat([output, tail], 1)
        return output[:, before:], attention

    def _dynamic(self, config, time, whole):
        """Arguments of the layers, and frames of a block, under dynamic
        chunks."""
        if config is None:
            return {}, 1
        if not isinstance(self, ConformerEncoder):
            raise ValueError("dynamic chunks need encoder_module: conformer")
        left = config.left_context_size
        if config.is_infinite_left_context():
            if not whole:
                raise ValueError(
                    "pieces need a limited left context: set left_context_size"
                )
            reach = max(time, *(x.mixer.chunk_size for x in self.layers))
            left = -(-reach // config.chunk_size)
        window = Window(left=left, block=config.chunk_size)
        options = {"window": window, "dynchunktrain_config": config}
        return options, config.chunk_size


class LaCTTransformerEncoder(_LaCTEncoder, TransformerEncoder):
    """SpeechBrain's Transformer encoder with LaCT layers.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, **kwargs
        As `_LaCTEncoder`.

    Example
    -------
    >>> net = LaCTTransformerEncoder(
    ...     2, {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16
    ... )
    >>> out, _, state = net(torch.randn(2, 20, 16), state=net.initial_state(2))
    >>> out.shape, state.lengths
    (torch.Size([2, 20, 16]), tensor([20, 20]))
    """

    layer_class = LaCTTransformerLayer


class LaCTConformerEncoder(_LaCTEncoder, ConformerEncoder):
    """SpeechBrain's Conformer encoder with LaCT layers.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, **kwargs
        As `_LaCTEncoder`.

    Example
    -------
    >>> net = LaCTConformerEncoder(
    ...     2, {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16, kernel_size=3
    ... )
    >>> net(torch.randn(2, 20, 16))[0].shape
    torch.Size([2, 20, 16])
    """

    layer_class = LaCTConformerLayer


class LaCTBranchformerEncoder(_LaCTEncoder, BranchformerEncoder):
    """SpeechBrain's Branchformer encoder with LaCT layers.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, **kwargs
        As `_LaCTEncoder`.

    Example
    -------
    >>> net = LaCTBranchformerEncoder(
    ...     2, {"chunk_size": 8}, nhead=2, d_model=16, csgu_linear_units=32
    ... )
    >>> net(torch.randn(2, 20, 16))[0].shape
    torch.Size([2, 20, 16])
    """

    layer_class = LaCTBranchformerLayer


ENCODERS = {
    "transformer": LaCTTransformerEncoder,
    "conformer": LaCTConformerEncoder,
    "branchformer": LaCTBranchformerEncoder,
}
