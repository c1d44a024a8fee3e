"""Places where chunks of the memory may end: at silences, words or phones.

A chunk that is learned at once should not end in the middle of a word. The
functions here say after which encoder frames it may end; the encoder
(`lact_least_chunk`) takes the first such place that makes the chunk long
enough, or ends it when it has `lact_chunk_size` frames. That is a rule for
each row alone and looks back only: the same chunks come out of a batch, and of
a recording in pieces.

A frame is learned in one chunk and never again. What is to be read again
(overlapping pieces) goes through a state that only reads:
`state.learn(torch.zeros(batch, dtype=torch.bool))`; states are values, so the
other one goes on as if nothing had been.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F

from speechbrain_lact.lobes.models.pipeline import SilenceState
from speechbrain_lact.nnet.checks import check_number, row_counts
from speechbrain_lact.nnet.frames import (
    gather_frames,
    length_mask,
    zero_padding,
)

KINDS = ("fixed", "silence", "labels")

# Level of digital silence, in dB.
FLOOR = -100.0
# No softer than this under the loudest, in dB: digital silence between
# recordings is not the silence of a room.
RANGE = 40.0


def fixed_ends(lengths, time, size, before=None):
    """Chunks of one length, for comparison.

    Arguments
    ---------
    lengths : torch.Tensor
        Frames of each row [B].
    time : int
        Number of columns.
    size : int
        Frames of a chunk.
    before : torch.Tensor, optional
        Frames of each row that came before [B].

    Returns
    -------
    torch.Tensor
        Boolean [B, T], True where a chunk may end after the frame.

    Example
    -------
    >>> fixed_ends(torch.tensor([5, 2]), 5, 2).int()
    tensor([[0, 1, 0, 1, 0],
            [0, 1, 0, 0, 0]], dtype=torch.int32)
    """
    places = torch.arange(1, time + 1, device=lengths.device)
    if before is not None:
        places = places + before[:, None]
    return (places % size == 0) & length_mask(lengths, time)


def wave_levels(wavs, hop, lengths=None):
    """Levels of a waveform.

    Arguments
    ---------
    wavs : torch.Tensor
        [B, S]. Pieces are of whole frames, but for the last.
    hop : int
        Samples of a frame.
    lengths : torch.Tensor, optional
        Number of real samples [B].

    Returns
    -------
    torch.Tensor
        Levels in dB [B, ceil(S / hop)].

    Example
    -------
    >>> wave_levels(torch.tensor([[0.0, 0.0, 1.0, 1.0, 10.0]]), 2)
    tensor([[-100.,    0.,   20.]])
    """
    over = -wavs.shape[1] % hop
    if lengths is None:
        lengths = torch.full((len(wavs),), wavs.shape[1], device=wavs.device)
    real = length_mask(lengths, wavs.shape[1])
    wavs, real = (
        F.pad(x, (0, over)).unflatten(1, (-1, hop))
        for x in (zero_padding(wavs, real), real)
    )
    power = wavs.square().sum(2) / real.sum(2).clamp(min=1)
    return 10 * power.clamp(min=10 ** (FLOOR / 10)).log10()


def silence_ends(
    levels,
    lengths=None,
    stride=1,
    least=10,
    share=0.4,
    contrast=10.0,
    drift=0.03,
    state=None,
    final=True,
):
    """Encoder frames in silence.

    A frame is quiet if its level is near the softest that was heard, on the
    way from there to the loudest; both forget slowly. An encoder frame is in
    silence if enough quiet frames stand together up to its end. Nothing looks
    ahead.

    Arguments
    ---------
    levels : torch.Tensor
        Levels in dB [B, T], as `wave_levels` gives them, or log-mel features
        in dB [B, T, F] before normalisation: then their mean power.
    lengths : torch.Tensor, optional
        Number of real frames [B].
    stride : int
        Frames per encoder frame.
    least : int
        Quiet frames that make a silence.
    share : float
        How far from the softest (0) to the loudest (1) quiet ends.
    contrast : float
        dB between the two, at least; with less nothing is quiet.
    drift : float
        dB per frame by which the loudest falls and the softest rises until
        it is met again.
    state : SilenceState, optional
        Where to go on.
    final : bool
        Whether the recording ends with these frames; with `state` alone.

    Returns
    -------
    ends : torch.Tensor
        Boolean [B, ceil(T / stride)], True where a chunk may end after the
        encoder frame. With a state, those of the encoder frames that are
        complete: as many as a front end of this stride gives.
    state : SilenceState
        Only if a state was given.

    Example
    -------
    >>> levels = torch.tensor([[60.0] * 8 + [20.0] * 8 + [60.0] * 8])
    >>> silence_ends(levels, stride=4, least=5).int()
    tensor([[0, 0, 0, 1, 0, 0]], dtype=torch.int32)
    """
    if levels.ndim == 3:
        power = (10 ** (levels.double() / 10)).mean(2)
        levels = 10 * power.clamp(min=10 ** (FLOOR / 10)).log10()
    rows, time = levels.shape
    if lengths is None:
        lengths = torch.full((rows,), time, device=levels.device)
    known = state or SilenceState.start(rows, levels.device)
    real = length_mask(lengths, time)
    levels = zero_padding(levels.double(), real)
    loudest = _forgetful_peak(levels, known.loudest, known.fresh, drift)
    softest = -_forgetful_peak(-levels, -known.softest, known.fresh, drift)
    base = torch.maximum(softest, loudest - RANGE)
    quiet = (levels < base + share * (loudest - base)) & (
        loudest - base >= contrast
    )
    # The last frame that was not quiet, and how many followed.
    places = torch.arange(time, device=levels.device)
    loud = torch.where(quiet, -1 - known.quiet[:, None], places)
    run = places - loud.cummax(1).values if time else loud
    flags = (run >= least) & real
    waiting = known.waiting
    closes = final or state is None
    flags, counts, waiting = waiting.push(flags, lengths, stride, closes)
    groups = torch.arange(stride - 1, flags.shape[1] + stride - 1, stride)
    # The frame with which an encoder frame is complete.
    last = groups.to(counts.device).expand(rows, -1)
    last = torch.where(
        last - stride + 1 < counts[:, None],
        torch.minimum(last, counts[:, None] - 1),
        -1,
    )
    ends = gather_frames(flags, last)
    if state is None:
        return ends
    if final:
        return ends, SilenceState.start(rows, levels.device)
    at = (lengths - 1)[:, None]
    heard = lengths > 0

    def carry(now, before):
        """The value at the last real frame."""
        return torch.where(heard, gather_frames(now, at)[:, 0], before)

    return ends, SilenceState(
        carry(loudest, known.loudest),
        carry(softest, known.softest),
        known.fresh & ~heard,
        carry(run, known.quiet),
        waiting,
    )


def label_ends(labels, lengths=None, blank=0, begins=None, previous=None):
    """Frames at which the labels of CTC tell that a unit has ended.

    The labels come from a pass before, or run along with another recogniser.

    Arguments
    ---------
    labels : torch.Tensor
        Greedy label of each encoder frame [B, T].
    lengths : torch.Tensor, optional
        Number of real frames [B].
    blank : int
        The label that says nothing.
    begins : list of int, optional
        Labels with which a word begins, or that stand between words: chunks
        end at words. Without, at every label: phones or characters.
    previous : torch.Tensor, optional
        Label before the first frame [B]; `blank` at the start.

    Returns
    -------
    ends : torch.Tensor
        Boolean [B, T], True where a chunk may end after the frame: where a
        label stops, or a word's first label comes up after other labels.
    previous : torch.Tensor
        The last label of each row [B]; only if it was given.

    Example
    -------
    >>> labels = torch.tensor([[0, 3, 3, 0, 0, 4, 5, 0]])
    >>> label_ends(labels).int()
    tensor([[0, 0, 0, 1, 0, 0, 1, 1]], dtype=torch.int32)
    >>> label_ends(labels, begins=[5]).int()
    tensor([[0, 0, 0, 0, 0, 0, 1, 0]], dtype=torch.int32)
    """
    rows, time = labels.shape
    if lengths is None:
        lengths = torch.full((rows,), time, device=labels.device)
    last = previous
    if last is None:
        last = torch.full_like(lengths, blank)
    before = torch.cat([last[:, None], labels], 1)
    changed = before[:, 1:] != before[:, :-1]
    if begins is None:
        ends = changed & (before[:, :-1] != blank)
    else:
        starts = torch.as_tensor(begins, device=labels.device)
        ends = changed & torch.isin(labels, starts)
    ends = ends & length_mask(lengths, time)
    if previous is None:
        return ends
    return ends, before.gather(1, lengths[:, None])[:, 0]


def segment_ends(segments, time, frame_seconds):
    """Encoder frames outside of speech, from a detector of voice.

    Arguments
    ---------
    segments : list of torch.Tensor
        For each row, begin and end of its speech in seconds [S, 2], as
        SpeechBrain's `VAD.get_speech_segments` gives them.
    time : int
        Number of encoder frames.
    frame_seconds : float
        Seconds of an encoder frame.

    Returns
    -------
    torch.Tensor
        Boolean [B, T], True where a chunk may end after the frame: where no
        part of it is speech.

    Example
    -------
    >>> speech = torch.tensor([[0.1, 0.3], [0.5, 0.6]])
    >>> segment_ends([speech], 8, 0.1).int()
    tensor([[1, 0, 0, 1, 1, 0, 1, 1]], dtype=torch.int32)
    """
    rows = []
    # Times of a file are rounded to milliseconds or worse.
    edges = torch.arange(time + 1, dtype=torch.float64) * frame_seconds
    for row in segments:
        begin, end = row.double().cpu().reshape(-1, 2).unbind(1)
        spoken = (begin < edges[1:, None] - 1e-4) & (
            end > edges[:-1, None] + 1e-4
        )
        rows.append(~spoken.any(1))
    return torch.stack(rows)


class ChunkEnds:
    """Where the chunks of a recogniser may end, as its YAML says.

    Arguments
    ---------
    kind : str
        `fixed`: chunks of `lact_chunk_size` frames. `silence`: of the log-mel
        features. `labels`: of the recogniser itself, in a pass before whose
        chunks have `lact_chunk_size` frames and no memory of the session; for
        whole recordings.
    stride : int
        Feature frames per encoder frame.
    blank : int
        The label of CTC that says nothing.
    **options : dict
        Arguments of `silence_ends` or `label_ends`.

    Example
    -------
    >>> find = ChunkEnds("silence", stride=4, least=5)
    >>> feats = torch.full((1, 24, 80), 60.0)
    >>> feats[:, 8:16] = 20.0
    >>> find(feats, torch.ones(1)).int()
    tensor([[0, 0, 0, 1, 0, 0]], dtype=torch.int32)
    """

    def __init__(self, kind, stride=1, blank=0, **options):
        if kind not in KINDS:
            raise ValueError(
                f"lact_boundaries must be one of {', '.join(KINDS)}, not "
                f"{kind!r}"
            )
        check_number(stride, "stride", least=1, integer=True)
        self.kind, self.stride, self.blank = kind, stride, blank
        self.options = options

    def configuration(self):
        """What changes the places.

        Returns
        -------
        dict
        """
        return {
            "kind": self.kind,
            "stride": self.stride,
            "blank": self.blank,
            **self.options,
        }

    def initial_state(self, batch, device="cpu"):
        """State of recordings in pieces, or None."""
        if self.kind == "silence":
            return SilenceState.start(batch, device)
        return None

    def __call__(self, feats, wav_len, recognise=None, state=None, final=True):
        """Places for a batch.

        Arguments
        ---------
        feats : torch.Tensor
            Log-mel features before normalisation [B, T, F].
        wav_len : torch.Tensor
            Length of each row over T [B].
        recognise : callable, optional
            For `labels`: takes nothing and returns the greedy labels of each
            encoder frame [B, T'].
        state : SilenceState, optional
            Where to go on.
        final : bool
            Whether the recordings end here; with `state` alone.

        Returns
        -------
        ends : torch.Tensor
            Boolean [B, T'], or None for chunks of one length.
        state : SilenceState
            Only if a state was given.
        """
        if self.kind == "fixed":
            return None
        if self.kind == "labels":
            if not final:
                raise ValueError(
                    "lact_boundaries: labels takes whole recordings; silence "
                    "takes pieces"
                )
            return label_ends(recognise(), blank=self.blank, **self.options)
        if feats.shape[2] == 1:
            raise ValueError(
                "lact_boundaries: silence needs log-mel features, not waveforms"
            )
        return silence_ends(
            feats,
            row_counts(wav_len, feats, "wav_len"),
            self.stride,
            state=state,
            final=final,
            **self.options,
        )


def _forgetful_peak(x, before, fresh, drift):
    """Running maximum that falls by `drift` a frame [B, T]."""
    slope = drift * torch.arange(x.shape[1] + 1).to(x)
    start = before.masked_fill(fresh, -torch.inf)
    # Frame 0 is the one before.
    x = torch.cat([start[:, None], x], 1)
    return ((x + slope).cummax(1).values - slope)[:, 1:]
