"""SpeechBrain's TransformerASR with `attention_type: LaCT`, or another mixer
of ours.

Authors
* speechbrain_lact contributors 2026
"""

import inspect

import torch

from speechbrain.lobes.models.transformer import TransformerASR as parent
from speechbrain.lobes.models.transformer.Transformer import (
    get_key_padding_mask,
    get_lookahead_mask,
)
from speechbrain_lact.lobes.models.transformer.decoder import (
    LaCTTransformerDecoder,
)
from speechbrain_lact.lobes.models.transformer.encoder import ENCODERS
from speechbrain_lact.nnet.checks import check_tensor, row_counts
from speechbrain_lact.nnet.counts import host_values
from speechbrain_lact.nnet.frames import length_mask, padding_mask, zero_padding
from speechbrain_lact.nnet.lact import like_host
from speechbrain_lact.nnet.mixer import Mixer
from speechbrain_lact.nnet.mixers import MIXERS
from speechbrain_lact.nnet.plan import ChunkPlan

EncoderWrapper = parent.EncoderWrapper

# Arguments of TransformerASR that an encoder of each kind takes, under the
# encoder's name.
_SHARED = {"d_model": "d_model", "nhead": "nhead", "dropout": "dropout"}
_TAKES = {
    "transformer": {
        **_SHARED,
        "d_ffn": "d_ffn",
        "activation": "activation",
        "normalize_before": "normalize_before",
        "causal": "causal",
    },
    "conformer": {
        **_SHARED,
        "d_ffn": "d_ffn",
        "conformer_activation": "activation",
        "kernel_size": "kernel_size",
        "bias": "bias",
        "causal": "causal",
    },
    "branchformer": {
        **_SHARED,
        "branchformer_activation": "activation",
        "kernel_size": "kernel_size",
        "causal": "causal",
        "csgu_linear_units": "csgu_linear_units",
        "gate_activation": "gate_activation",
        "use_linear_after_conv": "use_linear_after_conv",
    },
}

# Keywords of TransformerASR, and the arguments of `LaCT` that they are.
LACT_OPTIONS = {
    "lact_chunk_size": "chunk_size",
    "lact_window": "window",
    "lact_block_window": "block_window",
    "lact_order": "order",
    "lact_heads": "fast_heads",
    "lact_expansion": "expansion",
    "lact_optimizer": "optimizer",
    "lact_momentum": "momentum",
    "lact_weight_norm": "weight_norm",
    "lact_inner_loss": "inner_loss",
    "lact_base_lr": "base_lr",
    "lact_step_scale": "step_scale",
    "lact_max_step_norm": "max_step_norm",
    "lact_silu_values": "silu_values",
    "lact_checkpoint": "checkpoint",
    "lact_fast": "fast",
    "lact_least_chunk": "least_chunk",
    "lact_backend": "backend",
    "lact_learn": "learn",
}
# SpeechBrain's own attention types.
THEIR_TYPES = ("regularMHA", "RelPosMHAXL", "RoPEMHA", "hypermixing")

# Those that say more than an argument.
_LACT_KEYWORDS = (*LACT_OPTIONS, "lact_host", "lact_decoder_chunk_size")

_DECODER_TAKES = (
    "nhead",
    "d_ffn",
    "d_model",
    "dropout",
    "activation",
    "normalize_before",
)


class TransformerASR(parent.TransformerASR):
    """SpeechBrain's TransformerASR that also knows `attention_type: LaCT`, and
    the other mixers of `speechbrain_lact.nnet.mixers`.

    With one of SpeechBrain's attention types it is SpeechBrain's class
    unchanged.

    Arguments
    ---------
    *args : tuple
        As SpeechBrain's TransformerASR: `tgt_vocab`, `input_size`, ...
    attention_type : str
        One of `speechbrain_lact.nnet.mixers.MIXERS` (`LaCT`, ...), or of
        SpeechBrain's.
    mixer : dict, optional
        Arguments of the mixer beyond width, heads, dropout and `causal`, of
        any but `LaCT`.
    lact_chunk_size, lact_window, lact_block_window, lact_expansion, \
    lact_optimizer, lact_momentum, lact_weight_norm, lact_inner_loss, \
    lact_base_lr, lact_step_scale, lact_max_step_norm, lact_silu_values, \
    lact_checkpoint, lact_backend, lact_learn : optional
        Arguments of `speechbrain_lact.nnet.lact.LaCT`, with its defaults.
        `lact_inner_loss` is one of
        `speechbrain_lact.nnet.fast_network.INNER_LOSSES`.
    lact_fast : bool or list of int, optional
        Its `fast`; or the encoder layers that have fast weights, from 0: the
        others have window attention alone, and the decoder all.
    lact_heads : int, optional
        Its `fast_heads`.
    lact_least_chunk : int, optional
        Its `least_chunk`: every call then says where chunks may end, at
        silences, words or phones (`speechbrain_lact.processing.boundaries`).
        A chunk has this many frames at least and `lact_chunk_size` at most.
    lact_order : str, optional
        Its `order` (default: `apply_update` if causal, else `update_apply`).
    lact_host : str, optional
        `RoPEMHA` or `regularMHA`: scores, biases and positions are those of
        this attention of SpeechBrain's, so that a model trained with it can
        go on (`speechbrain_lact.convert`).
    lact_decoder_chunk_size : int, optional
        Tokens per update of the decoder. Given, the decoder's self-attention
        is causal LaCT too, with the options of the encoder's but windows and
        order; not given, it is SpeechBrain's.
    **kwargs : dict
        As SpeechBrain's TransformerASR.

    Raises
    ------
    ValueError
        If a `lact_` option is given with another attention type, or an
        option contradicts another.

    Example
    -------
    >>> net = TransformerASR(
    ...     tgt_vocab=30,
    ...     input_size=20,
    ...     d_model=16,
    ...     nhead=2,
    ...     num_encoder_layers=1,
    ...     num_decoder_layers=0,
    ...     d_ffn=32,
    ...     encoder_module="conformer",
    ...     attention_type="LaCT",
    ...     normalize_before=True,
    ...     causal=False,
    ...     lact_chunk_size=8,
    ... )
    >>> net.encode(torch.randn(2, 20, 20)).shape
    torch.Size([2, 20, 16])
    """

    def __init__(
        self,
        *args,
        attention_type="regularMHA",
        mixer=None,
        **kwargs,
    ):
        if attention_type not in (*MIXERS, *THEIR_TYPES):
            raise ValueError(
                f"attention_type is one of {', '.join(MIXERS)}, or of "
                f"SpeechBrain's {', '.join(THEIR_TYPES)}, not "
                f"{attention_type!r}"
            )
        given = {
            name: kwargs.pop(name) for name in _LACT_KEYWORDS if name in kwargs
        }
        given = {k: value for k, value in given.items() if value is not None}
        if attention_type != "LaCT" and given:
            raise ValueError(
                f"{', '.join(given)}: only with attention_type: LaCT, "
                f"not {attention_type}"
            )
        if mixer is not None and attention_type not in set(MIXERS) - {"LaCT"}:
            raise ValueError(
                f"mixer: not with attention_type: {attention_type}"
                + (": use lact_..." if attention_type == "LaCT" else "")
            )
        if attention_type not in MIXERS:
            super().__init__(*args, attention_type=attention_type, **kwargs)
            self.carries_state = False
            return
        host = given.pop("lact_host", None)
        decoder_chunk = given.pop("lact_decoder_chunk_size", None)
        options = self._options(args, kwargs, attention_type, host)
        layers = options["num_encoder_layers"]
        decoder_layers = options["num_decoder_layers"]
        if decoder_chunk is not None and decoder_layers == 0:
            raise ValueError("lact_decoder_chunk_size: there is no decoder")
        kind = options["encoder_module"]
        if kind not in ENCODERS:
            raise ValueError(
                f"encoder_module must be one of {', '.join(ENCODERS)}, "
                f"not {kind!r}"
            )
        if kind == "conformer" and not options["normalize_before"]:
            raise ValueError("normalize_before must be True for the conformer")
        # The parent builds its encoder at once: let it be a small one.
        own_decoder = decoder_chunk is not None
        small = {
            "num_encoder_layers": min(layers, 1),
            "num_decoder_layers": 1 if own_decoder else decoder_layers,
            "attention_type": "RoPEMHA",
        }
        super().__init__(**{**options, **small})
        self.carries_state, self.d_model = True, options["d_model"]
        self.input_size = options["input_size"]
        self.adds_positions = host == "regularMHA"
        if self.adds_positions and self.positional_encoding_type is None:
            raise ValueError("lact_host: regularMHA needs positional_encoding")
        lact = {LACT_OPTIONS[name]: value for name, value in given.items()}
        if host is not None:
            lact.update(like_host(host, options["d_model"]))
        options["causal"] = self.causal
        if layers:
            own = mixer or {}
            if attention_type == "LaCT":
                order = "apply_update" if self.causal else "update_apply"
                own = {"order": order, **lact}
            self.encoder = ENCODERS[kind](
                layers,
                own,
                mixer=attention_type,
                layerdrop_prob=self.layerdrop_prob,
                output_hidden_states=self.output_hidden_states,
                **{to: options[name] for name, to in _TAKES[kind].items()},
            )
        if own_decoder:
            self.decoder = LaCTTransformerDecoder(
                decoder_layers,
                _of_decoder(lact, decoder_chunk),
                **{name: options[name] for name in _DECODER_TAKES},
            )
        self._init_params()
        for module in self.modules():
            if isinstance(module, Mixer):
                module.reset_parameters()

    @staticmethod
    def _options(args, kwargs, attention_type, host):
        """The parent's arguments by name, with its defaults.

        Those that say how positions enter an encoder are refused: a mixer has
        its own, and without a decoder nothing else would read them.
        """
        signature = inspect.signature(parent.TransformerASR.__init__)
        bound = signature.bind(None, *args, **kwargs)
        given = set(bound.arguments)
        bound.apply_defaults()
        options = dict(bound.arguments)
        options.pop("self")
        ignored = sorted(given & {"positional_encoding", "max_length"})
        used = options["num_decoder_layers"] > 0 or host is not None
        if ignored and not used:
            raise ValueError(
                f"{', '.join(ignored)}: ignored with attention_type: "
                f"{attention_type} and no decoder; leave it out"
            )
        return options

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTEncoderState
        """
        if not self.carries_state:
            self._without_memory(batch)
        return self.encoder.initial_state(batch)

    @staticmethod
    def _without_memory(*given):
        """Refuses what an encoder of SpeechBrain's has no place for."""
        if any(value is not None for value in given):
            raise ValueError(
                f"state, ends: an encoder with SpeechBrain's attention carries "
                f"no state; leave them out, or use attention_type: "
                f"{' or '.join(MIXERS)}"
            )

    def configuration(self):
        """What, beside the weights, changes the answers.

        Returns
        -------
        dict
        """
        return {
            "positions": getattr(self, "adds_positions", None),
            "causal": self.causal,
        }

    def initial_decoder_state(self, batch):
        """State of rows without tokens, for a decoder with LaCT.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTDecoderState
        """
        decoder = getattr(self, "decoder", None)
        if not isinstance(decoder, LaCTTransformerDecoder):
            raise ValueError(
                "the decoder keeps no state: set lact_decoder_chunk_size"
            )
        return decoder.initial_state(batch)

    def encode(
        self,
        src,
        wav_len=None,
        pad_idx=0,
        dynchunktrain_config=None,
        state=None,
        final=True,
        ends=None,
    ):
        """Encoder forward pass.

        Arguments
        ---------
        src : torch.Tensor
            [B, T, F] or [B, T, F, C].
        wav_len : torch.Tensor, optional
            Length of each row over T [B].
        pad_idx : int
            Not used by an encoder.
        dynchunktrain_config : DynChunkTrainConfig, optional
            Dynamic chunks.
        state : LaCTEncoderState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone.
        ends : torch.Tensor, optional
            Boolean [B, T], True where a chunk of the memory may end after the
            frame; with `lact_least_chunk`, and only then.

        Returns
        -------
        encoder_out : torch.Tensor
            [B, T, d_model]
        hidden_states : list
            Only with `output_hidden_states`.
        state : LaCTEncoderState
            Only if a state was given.
        """
        if not self.carries_state:
            self._without_memory(state, ends)
            return super().encode(src, wav_len, pad_idx, dynchunktrain_config)
        out, _, *rest = self._encode(
            src, wav_len, dynchunktrain_config, state, final, ends
        )
        return (out, *rest) if rest else out

    def forward(
        self,
        src,
        tgt,
        wav_len=None,
        pad_idx=0,
        state=None,
        final=True,
        dynchunktrain_config=None,
        ends=None,
    ):
        """Encoder and, if there are targets, decoder.

        Arguments
        ---------
        src : torch.Tensor
            [B, T, F] or [B, T, F, C].
        tgt : torch.Tensor
            Tokens [B, U], or None.
        wav_len : torch.Tensor, optional
            Length of each row over T [B].
        pad_idx : int
            The token that pads `tgt`.
        state : LaCTEncoderState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone.
        dynchunktrain_config : DynChunkTrainConfig, optional
            Dynamic chunks.
        ends : torch.Tensor, optional
            As `encode`.

        Returns
        -------
        tuple
            As SpeechBrain's: (encoder_out, attention list[, hidden states])
            without targets, else (encoder_out, [hidden states,] decoder_out);
            the state comes last if one was given.
        """
        if not self.carries_state:
            self._without_memory(state, ends)
            if dynchunktrain_config is None:
                return super().forward(src, tgt, wav_len, pad_idx)
            if tgt is not None:
                raise ValueError(
                    "SpeechBrain's decoder takes no dynamic chunks"
                )
            config = dynchunktrain_config
            return self.encode(src, wav_len, pad_idx, config), None
        if tgt is not None:
            check_tensor(tgt, (len(src), "U"), "tgt", "numbers")
        outputs = self._encode(
            src, wav_len, dynchunktrain_config, state, final, ends
        )
        if tgt is None:
            return outputs
        encoded, _, *rest = outputs
        state = rest.pop() if state is not None else None
        mask = None
        if state is not None:
            mask = padding_mask(state.lengths, encoded.shape[1])
        elif wav_len is not None:
            mask = self._mask(wav_len, encoded)
        decoded, _, _ = self.decoder(
            tgt=self._embed(tgt),
            memory=encoded,
            memory_key_padding_mask=None if mask is None else ~mask,
            **self._target_masks(tgt, pad_idx),
        )
        rest = [*rest, decoded] if state is None else [*rest, decoded, state]
        return (encoded, *rest)

    @torch.no_grad()
    def decode(self, tgt, encoder_out, enc_len=None, state=None):
        """A step of decoding.

        Arguments
        ---------
        tgt : torch.Tensor
            Tokens so far [B, U]; with a state, only the new ones.
        encoder_out : torch.Tensor
            [B, T, d_model]
        enc_len : torch.Tensor, optional
            Number of frames of each row [B].
        state : LaCTDecoderState, optional
            Where to go on, for a decoder with LaCT.

        Returns
        -------
        prediction : torch.Tensor
            [B, U, d_model]
        attention : torch.Tensor
            The last layer's, to the encoder output [B, U, T].
        state : LaCTDecoderState
            Only if a state was given.
        """
        check_tensor(tgt, ("B", "U"), "tgt", "numbers")
        width = self.d_model if self.carries_state else "E"
        check_tensor(encoder_out, (len(tgt), "T", width), "encoder_out")
        if enc_len is not None:
            enc_len = enc_len.to(encoder_out.device)
        if state is not None:
            like = self.initial_decoder_state(0)
            state.check(like, len(tgt), contents=False)
        if not self.carries_state:
            return super().decode(tgt, encoder_out, enc_len)
        options = {}
        if state is not None:
            options["state"] = state
        else:
            options.update(self._target_masks(tgt, None))
        if enc_len is not None:
            real = length_mask(enc_len, encoder_out.shape[1])
            options["memory_key_padding_mask"] = ~real
        start = None if state is None else state.tokens
        out, _, attention, *rest = self.decoder(
            self._embed(tgt, start), encoder_out, **options
        )
        return (out, attention[-1], *rest)

    def _embed(self, tgt, start=None):
        """Tokens with their positions [B, U, d_model]."""
        places = torch.arange(tgt.shape[1], device=tgt.device)[None]
        if start is not None:
            places = places + start[:, None]
        table = self.positional_encoding_decoder.pe[0]
        if tgt.shape[1] and int(places.max()) >= len(table):
            raise ValueError(
                f"{int(places.max()) + 1} tokens: max_length is {len(table)}"
            )
        return self.custom_tgt_module(tgt) + table[places]

    def _target_masks(self, tgt, pad_idx):
        """Masks of the decoder's self-attention, of the kind it takes."""
        if not isinstance(self.decoder, LaCTTransformerDecoder):
            masks = {"tgt_mask": get_lookahead_mask(tgt)}
            if pad_idx is not None:
                masks["tgt_key_padding_mask"] = get_key_padding_mask(
                    tgt, pad_idx=pad_idx
                )
            return masks
        if pad_idx is None:
            return {}
        # A padding token before the last real one is a token: SpeechBrain's
        # recipes give the unknown token the same number.
        places = torch.arange(1, tgt.shape[1] + 1, device=tgt.device)
        lengths = (places * (tgt != pad_idx)).amax(1)
        return {"tgt_key_padding_mask": ~length_mask(lengths, tgt.shape[1])}

    def encode_streaming(self, src, context):
        """Streaming encoder forward pass.

        Arguments
        ---------
        src : torch.Tensor
            The sequence (chunk) to the encoder [B, T, F] or [B, T, F, C]. T
            is the chunk size of the context; a shorter chunk, the last, is
            answered at once as well.
        context : TransformerASRStreamingContext
            Mutable reference to the streaming context. This holds the state
            needed to persist across chunk inferences and can be built using
            `make_streaming_context`. This will get mutated by this function.

        Returns
        -------
        Encoder output for this chunk [B, T, d_model].

        Example
        -------
        >>> from speechbrain.utils.dynamic_chunk_training import (
        ...     DynChunkTrainConfig,
        ... )
        >>> net = TransformerASR(
        ...     tgt_vocab=30,
        ...     input_size=20,
        ...     d_model=16,
        ...     nhead=2,
        ...     num_encoder_layers=1,
        ...     num_decoder_layers=0,
        ...     d_ffn=32,
        ...     encoder_module="conformer",
        ...     attention_type="LaCT",
        ...     normalize_before=True,
        ...     causal=False,
        ...     lact_chunk_size=8,
        ...     lact_order="apply_update",
        ... )
        >>> ctx = net.make_streaming_context(DynChunkTrainConfig(4, 2))
        >>> src = torch.randn(3, 10, 20)
        >>> [net.encode_streaming(x, ctx).shape[1] for x in src.split(4, 1)]
        [4, 4, 2]
        >>> ctx.encoder_context.state.updates
        tensor([1., 1., 1.], dtype=torch.float64)
        """
        if not self.carries_state:
            return super().encode_streaming(src, context)
        if src.ndim == 4:
            src = src.flatten(2)
        output, _ = self.encoder.forward_streaming(
            self.custom_src_module(src), context.encoder_context
        )
        return output

    def make_streaming_context(self, dynchunktrain_config, encoder_kwargs={}):
        """Creates a blank streaming context for this transformer and its
        encoder.

        Arguments
        ---------
        dynchunktrain_config : DynChunkTrainConfig
            Runtime chunkwise attention configuration.
        encoder_kwargs : dict
            Parameters to be forwarded to the encoder's
            `make_streaming_context`. The encoder with LaCT takes none.

        Returns
        -------
        TransformerASRStreamingContext

        Raises
        ------
        ValueError
            If the encoder is no Conformer, is causal, has positions from the
            start of an utterance, or cannot answer such chunks: their left
            context is infinite or, in `apply_update` order, shorter than
            `lact_chunk_size`; in `update_apply` order, they are no multiple
            of it.
        """
        if self.carries_state and self.adds_positions:
            self._positions(None, final=False)
        return super().make_streaming_context(
            dynchunktrain_config, encoder_kwargs
        )

    def _encode(self, src, wav_len, dynchunktrain_config, state, final, ends):
        if isinstance(src, torch.Tensor) and src.ndim == 4:
            src = src.flatten(2)
        check_tensor(src, ("B", "T", self.input_size), "src")
        plan = None
        if wav_len is not None:
            counts = host_values(row_counts(wav_len, src, "wav_len"))
            plan = ChunkPlan(counts, src.shape[1], src.device)
            src = zero_padding(src, plan.mask)
        src = self.custom_src_module(src)
        if self.adds_positions:
            src = src + self._positions(src, final)
        return self.encoder(
            src,
            plan=plan,
            dynchunktrain_config=dynchunktrain_config,
            state=state,
            final=final,
            ends=ends,
        )

    def _positions(self, src, final):
        """Absolute positions, where the host has them [1, T, E]."""
        if not final:
            raise ValueError(
                "the positions of regularMHA count from the start of an "
                "utterance: give whole ones, with final=True"
            )
        most = self.positional_encoding.max_len
        if src.shape[1] > most:
            raise ValueError(
                f"{src.shape[1]} frames, but positions of {most}: raise "
                f"max_length"
            )
        return self.positional_encoding(src)

    @staticmethod
    def _mask(wav_len, x):
        """True at real frames [B, T] of `x`, None if all are."""
        return padding_mask(row_counts(wav_len, x, "wav_len"), x.shape[1])


def _of_decoder(lact, chunk_size):
    """Arguments of the decoder's `LaCT`, of those of the encoder's."""
    of_encoder = "window", "block_window", "order", "least_chunk"
    of_encoder += "bias", "rotary", "scale"
    lact = {name: lact[name] for name in lact if name not in of_encoder}
    # An encoder may have fast weights in some layers only.
    lact["fast"] = lact.get("fast", True) is not False
    return {**lact, "chunk_size": chunk_size}
