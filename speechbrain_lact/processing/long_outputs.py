"""Audio that is generated for minutes: pieces joined without clicks, loudness
that does not drift, defects removed, deadlines kept.

All of it works on a stream. What is carried from piece to piece is a value;
the sizes of the pieces do not change the output.

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torchaudio
from scipy.interpolate import CubicSpline
from scipy.ndimage import percentile_filter
from scipy.signal import butter, sosfilt, sosfilt_zi

from speechbrain.utils.logger import get_logger
from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.nnet.counts import same_number
from speechbrain_lact.nnet.cross_fade import cross_fade
from speechbrain_lact.nnet.frames import length_mask, zero_padding
from speechbrain_lact.nnet.state import State, buffer

logger = get_logger(__name__)

# A click stands out of the second differences about it: of 25 ms, at most the
# largest 3 % belong to clicks. In 1100 s of clean speech (made and recorded) a
# factor of 8 finds none; of clicks of one sample and 0.3 put into it, nine in
# ten, and what is left of those is 0.001 in the median.
CLICK_WINDOW = 0.025  # seconds
CLICK_PERCENTILE = 97
CLICK_FLOOR = 1e-3  # least second difference that speech is said to have
CLICK_GAP = 8  # flagged samples this near belong to one click
CLICK_LENGTH = 16  # samples; what is longer is no click
CLICK_SIDE = 4  # samples on either side that fill it in


@dataclass
class CoherenceState(State):
    """Where a stream through `TemporalCoherence` stands."""

    tail: torch.Tensor = buffer("left")
    """Samples [B, N] that fade into the next chunk."""
    recent: torch.Tensor = buffer("left")
    """The last samples [B, N], as they came, a window at most."""
    samples: torch.Tensor = None
    """Samples put out so far [B]."""
    reference: torch.Tensor = None
    """Loudness of the beginning [B], LUFS; NaN while not known."""
    drift: torch.Tensor = None
    """Loudness of the last window over that of the beginning [B], dB."""
    worst: torch.Tensor = None
    """The drift that was farthest from 0 [B], dB."""
    gain: torch.Tensor = None
    """Gain at the start and end of this step [B, 2], dB."""


class TemporalCoherence:
    """Joins chunks of audio by overlap-add, and keeps their loudness near that
    of the beginning.

    Loudness is that of ITU-R BS.1770 over a sliding window, measured once a
    second before any gain. Drift beyond the tolerance is taken back by a gain
    that moves slowly and in a line from second to second; it follows what was
    heard, so nothing is delayed. Silence says nothing about loudness: the gain
    stays.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    fade : int
        Samples that the end of a chunk and the start of the next have in
        common.
    curve : str
        As of `cross_fade`.
    window : int
        Seconds over which loudness is measured, and that the beginning has.
    tolerance : float
        Drift in dB that is let be.
    max_gain : float
        Most that the gain may raise or lower, in dB.
    speed : float
        Most that the gain may move in a second, in dB.

    Example
    -------
    >>> coherence = TemporalCoherence(8000, fade=100)
    >>> wav = torch.sin(torch.arange(3000) / 10)[None]
    >>> first, state = coherence.push(wav[:, :2000])
    >>> last, state = coherence.push(wav[:, 1900:], state, final=True)
    >>> torch.allclose(torch.cat([first, last], 1), wav)
    True
    """

    def __init__(
        self,
        sample_rate,
        fade=0,
        curve="linear",
        window=3,
        tolerance=1.0,
        max_gain=6.0,
        speed=1.0,
    ):
        for name, value in {
            "fade": fade,
            "tolerance": tolerance,
            "max_gain": max_gain,
            "speed": speed,
        }.items():
            if not value >= 0:
                raise ValueError(f"{name}: {value}, but it must be at least 0")
        if int(window) != window or window < 1:
            raise ValueError(f"window: {window}, but it is in whole seconds")
        cross_fade(torch.zeros(1), torch.zeros(1), curve)
        self.sample_rate, self.fade, self.curve = sample_rate, fade, curve
        self.window = int(window) * sample_rate
        self.tolerance, self.max_gain, self.speed = tolerance, max_gain, speed

    def initial_state(self, like):
        """State of a stream that has not begun.

        Arguments
        ---------
        like : torch.Tensor
            A chunk [B, S].

        Returns
        -------
        CoherenceState
        """
        zero = like.new_zeros(len(like), dtype=torch.float64)
        return CoherenceState(
            tail=like[:, :0],
            recent=like[:, :0],
            samples=zero.long(),
            reference=zero + math.nan,
            drift=zero,
            worst=zero,
            gain=zero.new_zeros(len(like), 2),
        )

    def push(self, chunk, state=None, final=False):
        """Takes a chunk and gives the samples that are certain.

        Arguments
        ---------
        chunk : torch.Tensor
            [B, S]; its first `fade` samples are the last ones of the chunk
            before, made once more.
        state : CoherenceState, optional
            Where to go on.
        final : bool
            Whether nothing follows.

        Returns
        -------
        wav : torch.Tensor
            [B, S'], S' = S - fade, at the end S.
        state : CoherenceState
            With `drift` and `worst`, what was measured, and `gain`, what was
            done about it.

        Raises
        ------
        ValueError
            If a chunk is shorter than what it shares with its neighbours.
        """
        if state is None:
            state = self.initial_state(chunk)
        samples = same_number(state.samples)
        if samples is None:
            raise ValueError("rows joined in chunks go in step")
        shared = state.tail.shape[1]
        if chunk.shape[1] < max(shared, 0 if final else self.fade):
            raise ValueError(
                f"chunk: {chunk.shape[1]} samples, but neighbours share "
                f"{self.fade}"
            )
        head = cross_fade(state.tail, chunk[:, :shared], self.curve)
        joined = torch.cat([head, chunk[:, shared:]], 1)
        end = joined.shape[1] - (0 if final else self.fade)
        wav, tail = joined[:, :end], joined[:, end:]
        state = CoherenceState(**{**vars(state), "tail": tail})
        out = []
        while wav.shape[1]:
            piece = wav[:, : self.sample_rate - samples % self.sample_rate]
            wav, samples = wav[:, piece.shape[1] :], samples + piece.shape[1]
            made, state = self._step(piece, state)
            out.append(made)
        return torch.cat(out or [joined[:, :0]], 1), state

    def _step(self, piece, state):
        """Samples that lie within one second of the stream."""
        before = int(state.samples[0])
        place = before % self.sample_rate + torch.arange(piece.shape[1])
        place = (place / self.sample_rate).to(piece.device, torch.float64)
        start, end = state.gain.split(1, 1)
        gain = 10 ** ((start + (end - start) * place) / 20)
        state = CoherenceState(**vars(state))
        recent = torch.cat([state.recent, piece], 1)
        state.recent = recent[:, -self.window :]
        state.samples = state.samples + piece.shape[1]
        if not int(state.samples[0]) % self.sample_rate:
            self._measure(state)
        return piece * gain.to(piece.dtype), state

    def _measure(self, state):
        """Loudness at the end of a second, and the gain of the next one."""
        start = state.gain[:, 1]
        state.gain = torch.stack([start, start], 1)
        if state.recent.shape[1] < self.window:
            return
        level = _loudness(state.recent, self.sample_rate)
        heard = level.isfinite()
        state.reference = torch.where(
            state.reference.isnan() & heard, level, state.reference
        )
        heard = heard & state.reference.isfinite()
        drift = torch.where(heard, level - state.reference, state.drift)
        state.drift = drift
        state.worst = torch.where(
            drift.abs() > state.worst.abs(), drift, state.worst
        )
        beyond = drift - drift.clamp(-self.tolerance, self.tolerance)
        goal = (-beyond).clamp(-self.max_gain, self.max_gain)
        step = (goal - start).clamp(-self.speed, self.speed)
        end = torch.where(heard, start + step, start)
        state.gain = torch.stack([start, end], 1)


def _loudness(wav, sample_rate):
    """LUFS of each row; not finite for silence."""
    wav = wav.double()
    # torchaudio's filters clip at 1.
    small = 0.5 / wav.abs().amax(1, keepdim=True).clamp(min=0.5)
    level = torchaudio.functional.loudness((wav * small)[:, None], sample_rate)
    return level - 20 * small[:, 0].log10()


def worst_span(scores, span, lengths=None):
    """Where a language model was least sure: what to sample again.

    Arguments
    ---------
    scores : torch.Tensor
        Log-likelihood of each frame [B, T].
    span : int
        Frames of a span.
    lengths : torch.Tensor, optional
        Frames of each row [B].

    Returns
    -------
    start : torch.Tensor
        First frame of the span of least mean [B]; 0 for rows that are
        shorter than a span.
    mean : torch.Tensor
        Its mean [B]; NaN for rows without frames.

    Raises
    ------
    ValueError
        If `span` is less than 1.

    Example
    -------
    >>> worst_span(torch.tensor([[0.0, -3.0, -1.0, -4.0, 0.0]]), 2)
    (tensor([2]), tensor([-2.5000]))
    """
    if span < 1:
        raise ValueError(f"span: {span}, but it must be at least 1")
    batch, time = scores.shape
    if lengths is None:
        lengths = torch.full((batch,), time, device=scores.device)
    scores = zero_padding(scores, length_mask(lengths, time))
    if time < span:
        return lengths * 0, scores.sum(1) / lengths
    means = scores.unfold(1, span, 1).mean(2)
    whole = length_mask((lengths - span + 1).clamp(min=1), means.shape[1])
    worst, start = means.masked_fill(~whole, math.inf).min(1)
    short = lengths < span
    return start, torch.where(short, scores.sum(1) / lengths, worst)


def find_clicks(wav, sample_rate, factor=8.0):
    """Clicks: a few samples that no neighbour explains.

    Arguments
    ---------
    wav : numpy.ndarray
        [S]
    sample_rate : int
        In Hz.
    factor : float
        How far a second difference must stand out.

    Returns
    -------
    list of tuple
        First and last sample of each click.

    Example
    -------
    >>> wav = np.sin(np.arange(1000) / 10)
    >>> wav[500] += 0.5
    >>> find_clicks(wav, 16000)
    [(499, 501)]
    """
    if len(wav) < 3:
        return []
    bend = np.pad(np.abs(np.diff(wav, 2)), 1)
    size = int(CLICK_WINDOW * sample_rate) | 1
    usual = percentile_filter(bend, CLICK_PERCENTILE, size)
    at = np.flatnonzero(bend > factor * np.maximum(usual, CLICK_FLOOR))
    if not len(at):
        return []
    runs = np.split(at, np.flatnonzero(np.diff(at) > CLICK_GAP) + 1)
    runs = [(int(run[0]), int(run[-1])) for run in runs]
    return [(a, z) for a, z in runs if z - a < CLICK_LENGTH]


def fill_in(wav, clicks):
    """A copy without clicks: a spline through the samples on either side.

    Arguments
    ---------
    wav : numpy.ndarray
        [S]
    clicks : list of tuple
        As of `find_clicks`.

    Returns
    -------
    numpy.ndarray
        [S]
    """
    wav = wav.copy()
    for first, last in clicks:
        left = np.arange(max(0, first - CLICK_SIDE), first)
        right = np.arange(last + 1, min(len(wav), last + 1 + CLICK_SIDE))
        known = np.concatenate([left, right])
        spline = CubicSpline(known, wav[known])
        wav[first : last + 1] = spline(np.arange(first, last + 1))
    return wav


@dataclass
class EnhancementState(State):
    """Where a stream through `QualityEnhancement` stands."""

    recent: torch.Tensor = buffer("left")
    """The last samples [B, N], as they came: float64."""
    heard: torch.Tensor = None
    """Samples heard so far [B]."""
    clicks: torch.Tensor = None
    """Clicks removed so far [B]."""
    filter: torch.Tensor = None
    """State of the high-pass [B, sections, 2]."""


class QualityEnhancement:
    """Removes clicks and what is below hearing (a DC offset among it), or
    hands the audio to an enhancer of SpeechBrain; measured before and after.

    Arguments
    ---------
    sample_rate : int
        In Hz.
    cutoff : float
        Of the high-pass, in Hz.
    factor : float
        As of `find_clicks`.
    enhancer : object, optional
        A `SpectralMaskEnhancement` or `WaveformEnhancement`, which does the
        work instead (see `inference.enhancement.load_enhancer`).

    Example
    -------
    >>> wav = 0.1 + torch.sin(torch.arange(16000) / 10)[None]
    >>> wav[0, 8000] += 0.5
    >>> out, report = QualityEnhancement(16000)(wav)
    >>> [row["clicks"].item() for row in report.values()]
    [1, 0]
    >>> [round(row["dc"].item(), 2) for row in report.values()]
    [0.1, 0.0]
    """

    def __init__(self, sample_rate, cutoff=20.0, factor=8.0, enhancer=None):
        if not 0 < cutoff < sample_rate / 2:
            raise ValueError(
                f"cutoff: {cutoff}, but it must be between 0 and half of "
                f"{sample_rate} Hz"
            )
        self.sample_rate, self.factor = sample_rate, factor
        self.sections = butter(2, cutoff, "highpass", False, "sos", sample_rate)
        # Samples on either side that say what becomes of a sample
        window = int(CLICK_WINDOW * sample_rate) // 2
        self.reach = window + 2 * (CLICK_LENGTH + CLICK_GAP + CLICK_SIDE)
        self.enhancer = enhancer

    def measure(self, wav, wav_len=None):
        """Defects of a batch.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        dict
            `clicks`, how many there are, and `dc`, the mean, of each row.
        """
        rows = _rows(wav, wav_len)
        return {
            "clicks": torch.tensor(
                [len(self._clicks(row.numpy())) for row in rows]
            ),
            "dc": torch.stack([row.sum() / max(len(row), 1) for row in rows]),
        }

    def __call__(self, wav, wav_len=None):
        """Enhances whole recordings.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        wav : torch.Tensor
            [B, S], zeros after a row's end.
        report : dict
            What `measure` says, `before` and `after`.
        """
        out = torch.zeros_like(wav)
        for made, row in zip(out, _rows(wav, wav_len)):
            if len(row):
                made[: len(row)] = self._enhance(row[None].to(wav.dtype))[0]
        report = {
            "before": self.measure(wav, wav_len),
            "after": self.measure(out, wav_len),
        }
        return out, report

    def _enhance(self, wav):
        if self.enhancer is None:
            return self.push(wav, final=True)[0]
        made = self.enhancer.enhance_batch(wav.float(), torch.ones(1))
        # Some give whole frames only.
        made = made[:, : wav.shape[1]].cpu()
        rest = wav.shape[1] - made.shape[1]
        return torch.nn.functional.pad(made, (0, rest))

    def push(self, wav, state=None, final=False):
        """Enhances a stream.

        Arguments
        ---------
        wav : torch.Tensor
            What is new [B, S].
        state : EnhancementState, optional
            Where to go on.
        final : bool
            Whether nothing follows.

        Returns
        -------
        wav : torch.Tensor
            Samples that what follows cannot change [B, S'].
        state : EnhancementState
            With `clicks`, how many were removed.

        Raises
        ------
        ValueError
            If there is an enhancer: it hears whole recordings.
        """
        if self.enhancer is not None:
            raise ValueError("an enhancer hears whole recordings: call it")
        new = wav.detach().cpu().double()
        if state is None:
            none = torch.zeros(len(wav), dtype=torch.long)
            state = EnhancementState(new[:, :0], none, none, None)
        before = same_number(state.heard)
        if before is None:
            raise ValueError("rows enhanced in pieces go in step")
        recent = torch.cat([state.recent, new], 1)
        after, done = before + new.shape[1], max(before - self.reach, 0)
        sure = after if final else max(after - self.reach, done)
        first = after - recent.shape[1]
        span = slice(done - first, sure - first)
        out, found = [], []
        for row in recent.numpy():
            clicks = self._clicks(row)
            out.append(fill_in(row, clicks)[span])
            inside = [span.start <= a < span.stop for a, _ in clicks]
            found.append(sum(inside))
        out, memory = np.stack(out), state.filter
        if out.shape[1]:
            if memory is None:
                # As if the first sample had always been there
                rest = sosfilt_zi(self.sections)[None]
                memory = torch.from_numpy(rest * out[:, :1, None])
            memory = memory.numpy().swapaxes(0, 1)
            out, memory = sosfilt(self.sections, out, zi=memory)
            memory = torch.from_numpy(memory.swapaxes(0, 1))
        return torch.from_numpy(out).to(wav), EnhancementState(
            recent[:, max(0, recent.shape[1] - 2 * self.reach) :],
            torch.full_like(state.heard, after),
            state.clicks + torch.tensor(found),
            memory,
        )

    def _clicks(self, row):
        return find_clicks(row, self.sample_rate, self.factor)


def _rows(wav, wav_len):
    """Rows without padding, float64."""
    counts = sample_counts(wav, wav_len).tolist()
    wav = wav.detach().cpu().double()
    return [row[:n] for row, n in zip(wav, counts)]


class Deadline:
    """How many codebooks to compute, so that audio is made as fast as it is
    played.

    Playing starts with the first buffer. When a buffer was not there in time,
    fewer codebooks are computed, as many fewer as it was late; when well
    ahead, one more, if the last buffer says that this is quick enough. Each
    change is said in the log.

    Time is told, never measured here.

    Arguments
    ---------
    num_codebooks : int
        The most there are.
    ahead : float
        Seconds of audio beyond the last buffer that count as well ahead.

    Example
    -------
    >>> deadline = Deadline(8)
    >>> deadline.told(took=0.5, lasts=1.0)
    8
    >>> deadline.told(took=2.0, lasts=1.0)
    4
    """

    def __init__(self, num_codebooks, ahead=1.0):
        if num_codebooks < 1:
            raise ValueError(
                f"num_codebooks: {num_codebooks}, but it must be at least 1"
            )
        self.most = self.codebooks = num_codebooks
        self.ahead, self.ready, self.missed = ahead, None, 0

    def told(self, took, lasts):
        """After each buffer.

        Arguments
        ---------
        took, lasts : float
            Seconds it took to make the buffer, and that it plays.

        Returns
        -------
        int
            Codebooks to compute next.
        """
        if not (took >= 0 and lasts > 0):
            raise ValueError(
                f"a buffer of {lasts} s that took {took} s: durations are "
                f"positive"
            )
        left = 0.0 if self.ready is None else self.ready - took
        self.ready = min(max(left, 0.0), self.ahead) + lasts
        if left < 0:
            self.missed += 1
            fewer = int(self.codebooks * lasts / took)
            self._use(min(fewer, self.codebooks - 1), took, lasts)
        elif left >= self.ahead:
            more = self.codebooks + 1
            if took * more <= lasts * self.codebooks:
                self._use(more, took, lasts)
        return self.codebooks

    def _use(self, number, took, lasts):
        number = min(max(number, 1), self.most)
        if number != self.codebooks:
            logger.warning(
                f"a buffer of {lasts:.2f} s took {took:.2f} s: "
                f"{number} codebooks instead of {self.codebooks}"
            )
            self.codebooks = number
