"""SpeechBrain's Transformer, Conformer and Branchformer encoders with layers
of ours: a state in and out, and no reading of padding.

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import dataclass, replace

import torch

from speechbrain.lobes.models.transformer.Branchformer import (
    BranchformerEncoder,
)
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoder
from speechbrain.lobes.models.transformer.Transformer import TransformerEncoder
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.lobes.models.transformer.layers import (
    LaCTBranchformerLayer,
    LaCTConformerLayer,
    LaCTLayerState,
    LaCTTransformerLayer,
)
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import host_values, known_values
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.mixers import mixer_class
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.state import (
    State,
    Waiting,
    check_kind,
    counter,
    nested,
)
from speechbrain_lact.nnet.window_attention import Window


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

        layers = [
            replace(layer, mixer=layer.mixer.learn(rows, values))
            for layer in self.layers
        ]
        return replace(self, layers=layers)

    @property
    def learning(self):
        """Which rows learn [B]; all, where there is nothing to learn."""
        for layer in self.layers:
            if layer.mixer.learning is not None:
                return layer.mixer.learning
        return torch.ones_like(self.frames, dtype=torch.bool)

    @property
    def updates(self):
        """Updates made, mean over layers [B]."""
        return self._mean("updates")

    @property
    def skipped(self):
        """Updates left out because they were not finite, mean over layers."""
        return self._mean("skipped")

    def _mean(self, name):
        counts = [getattr(layer.mixer, name) for layer in self.layers]
        counts = [count.double() for count in counts if count is not None]
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


class _LaCTEncoder:
    """What the three encoders share: the loop over layers with states.

    Arguments
    ---------
    num_layers : int
        Number of layers.
    lact : dict
        Arguments of the mixer beyond width, heads, dropout and `causal`.
        `fast` of `LaCT` may also be the numbers of the layers that have fast
        weights, from 0.
    layerdrop_prob : float
        Probability to leave out a layer in training.
    output_hidden_states : bool
        Whether to return the output of every layer.
    causal : bool
        Whether no output may depend on later input.
    mixer : str
        One of `speechbrain_lact.nnet.mixers.MIXERS`.
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
        mixer="LaCT",
        **kwargs,
    ):
        check_number(num_layers, "num_layers", least=1, integer=True)
        of_layer = mixer_class(mixer).of_layer
        each = [of_layer(lact, n, num_layers) for n in range(num_layers)]
        # The host without layers; then layers of ours.
        super().__init__(
            num_layers=0,
            layerdrop_prob=layerdrop_prob,
            output_hidden_states=output_hidden_states,
            **kwargs,
        )
        self.layers = torch.nn.ModuleList(
            [
                self.layer_class(own, causal=causal, mixer=mixer, **kwargs)
                for own in each
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
            Dynamic chunks: a block window for this call (Conformer,
            Transformer).
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
            layer.mixer.check_streaming(size)
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
        if isinstance(self, BranchformerEncoder):
            raise ValueError(
                "dynamic chunks need encoder_module: conformer or transformer"
            )
        left = config.left_context_size
        if config.is_infinite_left_context():
            if not whole:
                raise ValueError(
                    "pieces need a limited left context: set left_context_size"
                )
            reach = max(time, *(x.mixer.chunk_size for x in self.layers))
            left = -(-reach // config.chunk_size)
        window = Window(left=left, block=config.chunk_size)
        options = {"window": window}
        if isinstance(self, ConformerEncoder):
            options["dynchunktrain_config"] = config
        return options, config.chunk_size


class LaCTTransformerEncoder(_LaCTEncoder, TransformerEncoder):
    """SpeechBrain's Transformer encoder with layers of ours.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, mixer, \
    **kwargs
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
    """SpeechBrain's Conformer encoder with layers of ours.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, mixer, \
    **kwargs
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
    """SpeechBrain's Branchformer encoder with layers of ours.

    Arguments
    ---------
    num_layers, lact, layerdrop_prob, output_hidden_states, causal, mixer, \
    **kwargs
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
