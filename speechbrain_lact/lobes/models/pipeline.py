"""The way from waveforms to log-probabilities, for training and for use.

waveforms [B, S] -> features [B, T, F] -> normalised -> front end [B, T', F']
-> encoder [B, T', d_model] -> log-probabilities [B, T', tokens].

`Encoder.forward` does it all. Training takes the same steps one by one:
`front`, `encode` and `log_probabilities`.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
from dataclasses import dataclass, field

import torch

from speechbrain_lact.lobes.models.convolution import FrontEndState
from speechbrain_lact.lobes.models.transformer.encoder import LaCTEncoderState
from speechbrain_lact.nnet.checks import check_number, check_tensor, check_waves
from speechbrain_lact.nnet.state import State, Waiting, counter, nested
from speechbrain_lact.nnet.state_file import digest

# What InputNormalization has counted.
STATISTICS = ("glob_mean", "glob_std")


@dataclass
class SilenceState(State):
    """What `processing.boundaries.silence_ends` carries."""

    loudest: torch.Tensor = None
    """Level of speech [B], dB, float64."""
    softest: torch.Tensor = None
    """Level of silence [B], dB, float64."""
    fresh: torch.Tensor = None
    """True where no frame came yet [B]."""
    quiet: torch.Tensor = counter()
    """Number of quiet frames up to now [B]."""
    waiting: Waiting = nested(Waiting)
    """Flags of the frames of an unfinished encoder frame [B, P]."""

    @classmethod
    def start(cls, batch, device="cpu"):
        """State before the first frame.

        Arguments
        ---------
        batch : int
            Number of rows.
        device : str
            Where to put the tensors.

        Returns
        -------
        SilenceState
        """
        zeros = torch.zeros(batch, dtype=torch.float64, device=device)
        flags = torch.ones(batch, dtype=torch.bool, device=device)
        waiting = Waiting.empty(flags[:, None])
        return cls(zeros, zeros, flags, waiting.counts, waiting)


@dataclass
class PipelineState(State):
    """What a model carries from waveforms to encoder output."""

    features: Waiting = nested(Waiting)
    """Samples that frames to come will see."""
    front: FrontEndState = nested(FrontEndState)
    """Feature frames of the front end."""
    encoder: LaCTEncoderState = nested(LaCTEncoderState)
    """Memory and windows."""
    ends: SilenceState = nested(SilenceState)
    """Levels, where chunks end at silences."""


@dataclass
class EncoderInput:
    """What `Encoder.front` makes of waveforms."""

    src: torch.Tensor
    """Input of the encoder [B, T, F]."""
    lengths: torch.Tensor
    """Length of each row over T [B]."""
    options: dict = field(default_factory=dict)
    """Keyword arguments of the encoder: `dynchunktrain_config`, `ends`."""
    carried: dict = field(default_factory=dict)
    """Fields of a `PipelineState` for the next piece of the recordings."""


class Encoder(torch.nn.Module):
    """From waveforms to encoder output, or to log-probabilities of CTC.

    Arguments
    ---------
    compute_features, normalize, cnn, transformer : torch.nn.Module
        The parts of the recipe.
    head : torch.nn.Module, optional
        The output layer of CTC.
    dynchunktrain_config : DynChunkTrainConfig or callable, optional
        Blocks of frames, for a model that streams; a callable draws them for
        each batch.
    initial_memory : InitialMemory, optional
        What the memory begins with, by domain and by voice.
    boundaries : ChunkEnds, optional
        Where chunks of the memory may end.
    vocab_size : int, optional
        How many outputs of `head` stand for tokens, if not all do: the others
        are no labels.

    Example
    -------
    >>> from speechbrain.processing.features import InputNormalization
    >>> from speechbrain_lact.lobes.features import Fbank
    >>> from speechbrain_lact.lobes.models.convolution import (
    ...     ConvolutionFrontEnd,
    ... )
    >>> from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    ...     TransformerASR,
    ... )
    >>> cnn = ConvolutionFrontEnd(8, stride=4, channels=2, out_channels=2)
    >>> net = TransformerASR(
    ...     tgt_vocab=5,
    ...     input_size=cnn.output_size,
    ...     d_model=8,
    ...     nhead=2,
    ...     num_encoder_layers=1,
    ...     num_decoder_layers=0,
    ...     d_ffn=8,
    ...     encoder_module="conformer",
    ...     attention_type="LaCT",
    ...     normalize_before=True,
    ...     causal=False,
    ... )
    >>> normalize = InputNormalization(norm_type="sentence")
    >>> encoder = Encoder(
    ...     Fbank(n_mels=8), normalize, cnn, net, torch.nn.Linear(8, 5)
    ... )
    >>> encoder(torch.randn(2, 16000), torch.ones(2)).shape
    torch.Size([2, 26, 5])
    """

    def __init__(
        self,
        compute_features,
        normalize,
        cnn,
        transformer,
        head=None,
        dynchunktrain_config=None,
        initial_memory=None,
        boundaries=None,
        vocab_size=None,
    ):
        super().__init__()
        self.compute_features, self.normalize = compute_features, normalize
        self.cnn, self.transformer = cnn, transformer
        self.head = head
        self.dynchunktrain_config = dynchunktrain_config
        self.initial_memory = initial_memory
        self.boundaries = boundaries
        self.vocab_size = vocab_size

    def _apply(self, function, recurse=True):
        """As of every module; the statistics of SpeechBrain's
        InputNormalization, which are no buffers, follow to a device."""
        super()._apply(function, recurse)
        for name in STATISTICS:
            value = getattr(self.normalize, name, None)
            if isinstance(value, torch.Tensor):
                # Not rounded: features are in fp32 at least.
                there = value.to(function(value).device)
                setattr(self.normalize, name, there)
                self.normalize.device = str(there.device)
        return self

    def configuration(self):
        """What, beside the weights, changes the answers.

        Returns
        -------
        dict
        """
        norm, blocks = self.normalize, self.dynchunktrain_config
        counted = {
            name: getattr(norm, name)
            for name in STATISTICS
            if isinstance(getattr(norm, name, None), torch.Tensor)
        }
        return {
            "statistics": digest(counted)[:16],
            "normalization": [
                getattr(norm, name, None)
                for name in ("norm_type", "std_norm", "epsilon")
            ],
            "left_blocks": blocks and blocks.left_context_size,
            "boundaries": self.boundaries and self.boundaries.configuration(),
        }

    @property
    def streams(self):
        """Whether a recording may come in pieces."""
        causal = getattr(self.transformer, "causal", False)
        return bool(causal) or self.dynchunktrain_config is not None

    def initial_state(self, batch, domain=None, speaker_embedding=None):
        """State of rows at the start of their recordings.

        Arguments
        ---------
        batch : int
            Number of rows.
        domain : str, optional
            Of all rows, for a model trained with domains.
        speaker_embedding : torch.Tensor, optional
            Of all rows [E] or of each [B, E], for a model trained with an
            encoder of voices.

        Returns
        -------
        PipelineState
        """
        if not getattr(self.transformer, "carries_state", False):
            raise ValueError(
                "this model carries no state: that takes an encoder with a "
                "mixer of ours, such as attention_type: LaCT"
            )
        check_number(batch, "batch", least=0, integer=True)
        encoder = self._begin(batch, domain, speaker_embedding)
        if not self.streams:
            return PipelineState(encoder=encoder)
        if getattr(self.normalize, "norm_type", "global") != "global":
            raise ValueError("a model that streams needs normalization: global")
        return PipelineState(
            self.compute_features.initial_state(batch),
            self.cnn.initial_state(batch),
            encoder,
            self.boundaries
            and self.boundaries.initial_state(
                batch, next(self.parameters()).device
            ),
        )

    def _begin(self, batch, domain, embedding):
        """The encoder's part of `initial_state`."""
        state, kinds = self.transformer.initial_state(batch), {}
        if domain is not None:
            kinds["domains"] = [domain] * batch
        if embedding is not None:
            one = isinstance(embedding, torch.Tensor) and embedding.ndim == 1
            shape = ("E",) if one else (batch, "E")
            check_tensor(embedding, shape, "speaker_embedding")
            kinds["embeddings"] = embedding.expand(batch, -1)
        if not kinds:
            return state
        if self.initial_memory is None:
            raise ValueError(
                "this model has no memories by domain or voice; one that has "
                "is trained with hparams/lact_memory_ctc.yaml"
            )
        return self.begin(state, **kinds)

    def begin(self, state, domains=None, embeddings=None):
        """Gives rows that begin the memory of their domain and voice.

        Arguments
        ---------
        state : LaCTEncoderState
            Rows that have begun stay as they are.
        domains : list of str or None, optional
            Of each row.
        embeddings : torch.Tensor, optional
            Of the voice of each row [B, E].

        Returns
        -------
        LaCTEncoderState
        """
        return self.initial_memory(self.transformer, state, domains, embeddings)

    def forward(self, wavs, wav_lens=None, state=None, final=True):
        """Encodes utterances, or pieces of them.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor, optional
            Length of each row over S [B].
        state : PipelineState, optional
            Where to go on.
        final : bool
            Whether the recordings end with these samples; with `state` alone.
            A model that does not stream takes whole ones.

        Returns
        -------
        out : torch.Tensor
            [B, T, d_model], or log-probabilities [B, T, tokens]. With a
            state, the frames that could be answered, `state.encoder.lengths`
            of them.
        state : PipelineState
            Only if a state was given.
        """
        check_waves(wavs, wav_lens)
        if state is not None:
            state.check(self.initial_state(0), len(wavs), contents=False)
        if state is not None and not final and not self.streams:
            raise ValueError(
                "this model looks ahead and takes whole recordings; one that "
                "streams is trained with hparams/lact_streaming_ctc.yaml"
            )
        inputs = self.front(wavs, wav_lens, state, final)
        inner = None if state is None else state.encoder
        out, _, inner = self.encode(inputs, inner, final)
        if self.head is not None:
            out = self.log_probabilities(out)
        if state is None:
            return out
        return out, PipelineState(encoder=inner, **inputs.carried)

    def front(
        self,
        wavs,
        wav_lens=None,
        state=None,
        final=True,
        epoch=None,
        augment=None,
    ):
        """The encoder's input.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor, optional
            Length of each row over S [B].
        state : PipelineState, optional
            Where recordings in pieces go on. Default: whole recordings.
        final : bool
            Whether the recordings end with these samples; with `state` alone.
        epoch : int, optional
            For training: the current one, by which `normalize` decides
            whether to update its statistics.
        augment : callable, optional
            For training: takes normalised features [B, T, F] and relative
            lengths [B], and returns both.

        Returns
        -------
        EncoderInput
        """
        streams = state is not None and state.features is not None
        pieces, counted = [{}, {}], {}
        if streams:
            pieces = [
                {"state": part, "final": final}
                for part in (state.features, state.front)
            ]
        if epoch is not None:
            counted["epoch"] = epoch
        raw, raw_lengths, *waiting = self.compute_features(
            wavs, wav_lens, **pieces[0]
        )
        feats, lengths = (
            self.normalize(raw, raw_lengths, **counted),
            raw_lengths,
        )
        if augment is not None:
            feats, lengths = augment(feats, lengths)
        src, lengths, *front = self.cnn(feats, lengths, **pieces[1])
        inputs = EncoderInput(src, lengths)
        blocks = self.dynchunktrain_config
        if callable(blocks):
            blocks = blocks()
        if blocks is not None:
            inputs.options["dynchunktrain_config"] = blocks
        ends = None
        if self.boundaries is not None:
            found, ends = self._ends(raw, raw_lengths, inputs, state, final)
            if found is not None:
                inputs.options["ends"] = found
        if streams:
            (waiting,), (front,) = waiting, front
            inputs.carried = {
                "features": waiting,
                "front": front,
                "ends": ends,
            }
        return inputs

    def encode(self, inputs, state=None, final=True, tokens=None):
        """Outputs of the encoder and, with tokens, of the attention decoder.

        Arguments
        ---------
        inputs : EncoderInput
            What `front` returned.
        state : LaCTEncoderState, optional
            Where the memory goes on.
        final : bool
            Whether the recordings end here; with `state` alone.
        tokens : torch.Tensor, optional
            What the decoder was given before [B, U].

        Returns
        -------
        out : torch.Tensor
            [B, T, d_model]
        decoded : torch.Tensor or None
            [B, U, d_model]
        state : LaCTEncoderState or None
        """
        options = dict(inputs.options)
        if state is not None:
            options.update(state=state, final=final)
        out, *rest = self.transformer(
            inputs.src, tokens, wav_len=inputs.lengths, **options
        )
        after = rest.pop() if state is not None else None
        return out, None if tokens is None else rest[-1], after

    def log_probabilities(self, out):
        """Of the tokens of CTC, in single precision at least.

        Arguments
        ---------
        out : torch.Tensor
            Output of the encoder [B, T, d_model].

        Returns
        -------
        torch.Tensor
            [B, T, tokens]
        """
        return log_softmax(self.head(out))

    def _ends(self, raw, raw_lengths, inputs, state, final):
        """Where chunks may end, and what is carried to find more."""

        def head(out):
            """Scores of the tokens that there are."""
            return self.head(out)[..., : self.vocab_size]

        def recognise():
            """Greedy labels of a pass before."""
            return greedy_labels(
                self.transformer,
                head,
                inputs.src,
                inputs.lengths,
                **inputs.options,
            )

        options = {"final": state is None or final}
        if state is not None and state.ends is not None:
            return self.boundaries(
                raw, raw_lengths, recognise, state=state.ends, **options
            )
        return self.boundaries(raw, raw_lengths, recognise, **options), None


def log_softmax(scores):
    """Log-probabilities, in single precision at least.

    Arguments
    ---------
    scores : torch.Tensor
        [..., tokens]

    Returns
    -------
    torch.Tensor

    Example
    -------
    >>> log_softmax(torch.zeros(2, dtype=torch.bfloat16))
    tensor([-0.6931, -0.6931])
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    return scores.log_softmax(-1)


@torch.no_grad()
def greedy_labels(encoder, head, src, wav_len, **options):
    """Labels of a pass before, for `processing.boundaries.ChunkEnds`.

    Arguments
    ---------
    encoder : TransformerASR
        With `lact_least_chunk`.
    head : callable
        The output layer of CTC.
    src : torch.Tensor
        Input of the encoder [B, T, F].
    wav_len : torch.Tensor
        Length of each row over T [B].
    **options : dict
        More arguments of `encoder.encode`.

    Returns
    -------
    torch.Tensor
        [B, T]
    """
    nowhere = torch.zeros(src.shape[:2], dtype=torch.bool, device=src.device)
    with evaluating(encoder):
        out = encoder.encode(src, wav_len, ends=nowhere, **options)
    return head(out).argmax(-1)


@contextlib.contextmanager
def evaluating(model):
    """A model in evaluation mode; then each part is as it was.

    Arguments
    ---------
    model : torch.nn.Module
        Some of its parts may be in evaluation mode already.

    Yields
    ------
    None

    Example
    -------
    >>> net = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1))
    >>> _ = net[1].eval()
    >>> with evaluating(net):
    ...     net[0].training
    False
    >>> net.training, net[0].training, net[1].training
    (True, True, False)
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
