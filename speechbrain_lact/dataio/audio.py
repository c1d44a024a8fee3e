"""Recordings, whole or read piece by piece: one channel, at the model's rate.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import functools
from dataclasses import dataclass

import numpy as np
import soxr
import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.decode import open_audio

logger = get_logger(__name__)

# Shortest recording that has a frame of features.
LEAST_SECONDS = 0.025
# Shorter ones are decoded once and kept while they are read [s].
SHORT = 60.0
# What times in manifests are off by [s].
SLACK = 0.05
# Channels of which the others have no more than this part of its peak are
# taken alone.
EMPTY = 0.1
# A mean of channels is made louder if the loudest is so many times as loud.
DIFFERENT = 1.12
# An offset is taken away from this part of the sound's amplitude on.
OFFSET = 1 / 3
# Peaks: above the first, samples are numbers of another scale, one of these.
LOUD, SCALES = 4.0, (2**15, 2**23, 2**31)
# Below `QUIET` they are made as loud as is usual; those below `FAINT` are left
# as they are, and the user is warned.
QUIET, USUAL, FAINT = 0.05, 0.4, 1e-3


class AudioFile:
    """A recording of any length, format, channels and rate, or a part of one.

    Of several channels the mean is taken, at the level of the loudest of them;
    where they cancel each other, or there is nothing in the others, the
    loudest is taken alone. An offset
    (direct current) that is large beside the sound is taken away, sound that
    is very quiet is made louder, and numbers of another scale than 1 (floats
    that are 16-bit numbers) are scaled. All of this follows from the whole
    part, so that pieces of any length are pieces of the same samples.
    Ordinary recordings of one channel stay as they are to the bit.

    Arguments
    ---------
    path : str or Path
        The file, in a format that libsndfile or PyAV (FFmpeg) reads.
    sample_rate : int
        Rate of the samples that are handed out, in Hz.
    start, stop : int or float
        Where the part begins and ends; the end of the file if `stop` is None.
    unit : str
        What `start` and `stop` are in: "s", or "samples" of the file.
    name : str, optional
        What messages call it, if not by its path.

    Raises
    ------
    ValueError
        Here or while reading, naming the file: if it is missing, no audio,
        cut short, shorter than 25 ms, or has samples that are not finite; if
        there is no such part.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmpdir") / "tone.wav"
    >>> soundfile.write(path, 0.1 * np.ones((8000, 2)), 8000)
    >>> audio = AudioFile(path, 16000)
    >>> audio.seconds, sum(len(piece) for piece in audio.pieces(0.3))
    (1.0, 16000)
    >>> len(AudioFile(path, 16000, 0.25, 0.75).read())
    8000
    """

    def __init__(
        self, path, sample_rate, start=0, stop=None, unit="s", name=None
    ):
        self.path, self.sample_rate = str(path), sample_rate
        self.name = str(name or path)
        self._source = open_audio(self.path, self.name)
        self.rate, total = self._source.rate, self._source.frames
        scale = self.rate if unit == "s" else 1
        self.start = round(start * scale)
        self.stop = total if stop is None else round(stop * scale)
        # Times in manifests are rounded.
        if unit == "s" and abs(self.stop - total) <= SLACK * self.rate:
            self.stop = total
        if not total:
            raise ValueError(f"{self.name}: no samples")
        if not 0 <= self.start < self.stop <= total:
            end = "on" if stop is None else f"to {self.stop / self.rate:g} s"
            raise ValueError(
                f"{self.name}: no part from {self.start / self.rate:g} s "
                f"{end}: it is {total / self.rate:g} s long"
            )
        self.frames = self.stop - self.start
        if self.stop > total - self._source.missing:
            raise self._cut(total - self._source.missing, total)
        if self.seconds < LEAST_SECONDS:
            raise ValueError(
                f"{self.name}: {self.frames} samples at {self.rate} Hz; at "
                f"least {LEAST_SECONDS} s are needed"
            )

    @property
    def seconds(self):
        """Length of the recording, or of the part."""
        return self.frames / self.rate

    @property
    def whole(self):
        """Whether it is all of the file."""
        return self.frames == self._source.frames

    def pieces(self, seconds):
        """The recording in pieces of so many seconds; the last is shorter.

        Arguments
        ---------
        seconds : float
            Length of a piece.

        Yields
        ------
        torch.Tensor
            Samples [S] of one channel, between -1 and 1.
        """
        blocks, levels = self._blocks(), Levels()
        if self.seconds <= SHORT:
            blocks = list(blocks)
            for block in blocks:
                levels.add(block)
        else:
            # What is wrong in the middle is said when that is reached.
            with contextlib.suppress(ValueError):
                for block in self._blocks():
                    levels.add(block)
        mix = levels.mix()
        for note in filter(None, (self._source.note, mix.note)):
            warn(self.name, note)
        size = max(round(seconds * self.rate), 1)
        change, last = Resampler(self.rate, self.sample_rate), None
        for piece in _pieces(map(mix, blocks), size):
            if last is not None:
                yield change(last)
            last = piece
        yield change(last, True)

    def _blocks(self):
        """Samples as they are decoded [S, channels]."""
        done, why = 0, ""
        try:
            for block in self._source.blocks(self.start, self.stop):
                _check_finite(block, self.name)
                done += len(block)
                yield block
        except OSError as error:
            why = f" ({error.strerror or error})"
        if done < self.frames:
            raise self._cut(done, self.frames, why)

    def _cut(self, done, wanted, why=""):
        """The error for a file that ends too soon."""
        return ValueError(
            f"{self.name}: damaged or cut short: ends after {done} of {wanted} "
            f"samples{why}: copy it again"
        )

    def read(self):
        """All samples [S]."""
        return torch.cat(list(self.pieces(60.0)))


def _pieces(blocks, size):
    """Arrays of any length as arrays of one length; the last is shorter."""
    waiting, count = [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count >= size:
            whole = np.concatenate(waiting)
            end = count // size * size
            for begin in range(0, end, size):
                yield whole[begin : begin + size]
            waiting, count = [whole[end:]], count - end
    if count:
        yield np.concatenate(waiting)


class Levels:
    """How loud the channels of a recording are, and their mean.

    Example
    -------
    >>> levels = Levels()
    >>> voice = np.sin(np.arange(1000.0))
    >>> levels.add(np.stack([voice, -voice], 1))
    >>> levels.mix().note
    'its channels cancel each other: channel 1 alone is taken'
    """

    def __init__(self):
        self.count = 0
        # Of each channel and, behind them, of their mean.
        self.sums = self.squares = self.low = self.high = 0.0

    def add(self, samples):
        """Takes in more of the recording.

        Arguments
        ---------
        samples : numpy.ndarray
            [S, channels]
        """
        if samples.shape[1] > 1:
            mean = samples.mean(1, keepdims=True)
            samples = np.concatenate([samples, mean], 1)
        if not self.count:
            self.low = self.high = samples[0]
        self.count += len(samples)
        self.sums = self.sums + samples.sum(0, np.float64)
        self.squares = self.squares + np.square(samples, dtype=float).sum(0)
        self.low = np.minimum(self.low, samples.min(0))
        self.high = np.maximum(self.high, samples.max(0))

    def mix(self):
        """How these channels become one.

        Returns
        -------
        Mix
        """
        if not self.count:
            return Mix()
        means = self.sums / self.count
        powers = np.maximum(self.squares / self.count - means**2, 0)
        peaks = np.maximum(self.high - means, means - self.low)
        number = max(len(powers) - 1, 1)
        loudest = int(powers[:number].argmax())
        others = np.delete(peaks[:number], loudest)
        # What the mean of channels has that have nothing in common.
        expected = powers[:number].sum() / number**2
        place, gain, note = -1, 1.0, ""
        if len(others) and others.max() < EMPTY * peaks[loudest]:
            place = loudest
        elif powers[-1] < expected / 2:
            place = loudest
            note = (
                "its channels cancel each other: channel "
                f"{place + 1} alone is taken"
            )
        elif powers[loudest] > DIFFERENT**2 * powers[-1]:
            gain = float(np.sqrt(powers[loudest] / powers[-1]))
        offset = float(means[place])
        if abs(offset) <= OFFSET * np.sqrt(powers[place]):
            offset = 0.0
        peak = gain * max(
            float(self.high[place]) - offset, offset - float(self.low[place])
        )
        if peak > LOUD:
            note = note or f"samples up to {peak:.6g} instead of 1: scaled down"
            scale = next((s for s in SCALES if peak <= s), peak / USUAL)
            gain, peak = gain / scale, peak / scale
        if peak < FAINT:
            note = note or (
                f"near silence: no sample is above {peak:.1g} (of 1)"
            )
        elif peak < QUIET:
            gain *= USUAL / peak
        channel = None if place < 0 else place
        return Mix(channel, offset, gain, note)


@dataclass
class Mix:
    """Makes one channel of several, at a usual level."""

    channel: int = None
    """The one that is taken; None: their mean."""
    offset: float = 0.0
    """What is taken away from it."""
    gain: float = 1.0
    """What it is then multiplied by."""
    note: str = ""
    """What a user has to know of it."""

    def __call__(self, samples):
        """Samples [S, channels] as one channel [S]."""
        if self.channel is None:
            samples = samples.mean(1)
        else:
            samples = samples[:, self.channel]
        if self.offset or self.gain != 1:
            samples = (samples - np.float32(self.offset)) * self.gain
        return samples


@functools.lru_cache(maxsize=10000)
def warn(name, note):
    """Says once what is the matter with a recording.

    Arguments
    ---------
    name : str
        The recording.
    note : str
        What is the matter.
    """
    logger.warning("%s: %s", name.replace("\n", "\\n"), note)


class Resampler:
    """Changes the rate of a recording that comes in pieces.

    Arguments
    ---------
    source, target : int
        Rates in Hz.

    Example
    -------
    >>> change = Resampler(48000, 16000)
    >>> sum(len(change(np.zeros(4800), last)) for last in (False, True))
    3200
    """

    def __init__(self, source, target):
        self.stream = None
        if source != target:
            self.stream = soxr.ResampleStream(
                source, target, num_channels=1, dtype="float32"
            )

    def __call__(self, samples, last=False):
        """The next samples; all that are left if these are the last.

        Arguments
        ---------
        samples : numpy.ndarray
            [S]
        last : bool
            Whether the recording ends here.

        Returns
        -------
        torch.Tensor
            [S'], float32.
        """
        samples = np.ascontiguousarray(samples, dtype=np.float32)
        if self.stream is not None:
            samples = self.stream.resample_chunk(samples, last=last)
        return torch.from_numpy(samples)


def mono(samples, name):
    """The mean over the channels of samples that must be finite.

    Arguments
    ---------
    samples : numpy.ndarray
        [S, channels]
    name : str
        What an error message calls the recording.

    Returns
    -------
    numpy.ndarray
        [S]
    """
    _check_finite(samples, name)
    return samples.mean(1)


def _check_finite(samples, name):
    """Raises if there is a NaN or an infinity."""
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: has samples that are not finite")


def pad_waves(waves):
    """Recordings as a batch.

    Arguments
    ---------
    waves : list of torch.Tensor
        [S] each, of any lengths, also none.

    Returns
    -------
    wavs : torch.Tensor
        [B, S], zeros behind the shorter ones.
    wav_lens : torch.Tensor
        Length of each over S [B], exact (float64).

    Example
    -------
    >>> wavs, lengths = pad_waves([torch.ones(4), torch.ones(1)])
    >>> wavs[1], lengths.tolist()
    (tensor([1., 0., 0., 0.]), [1.0, 0.25])
    """
    wavs = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    lengths = torch.tensor([len(wave) for wave in waves]).double()
    return wavs, lengths / max(wavs.shape[1], 1)


def read_audio(path, sample_rate, start=None, stop=None):
    """Reads a recording, or says in one line why not.

    Arguments
    ---------
    path : str
        The file.
    sample_rate : int
        What the model needs.
    start, stop : str, optional
        Where a part of it begins and ends, as in a CSV (see `read_span`).

    Returns
    -------
    torch.Tensor
        Samples [S], or None for a file that cannot be used.
    """
    try:
        span = read_span(start, stop, path)
        return AudioFile(path, sample_rate, *span).read()
    except ValueError as error:
        logger.warning("skipped: %s", error)
        return None


def read_row(row, sample_rate):
    """Reads what a row of a CSV names, or says in one line why not.

    Arguments
    ---------
    row : dict
        With `wav` and, for a part of that file, `start` and `stop`.
    sample_rate : int
        What the model needs.

    Returns
    -------
    torch.Tensor
        Samples [S], or None for a file that cannot be used.
    """
    place = row.get("start"), row.get("stop")
    return read_audio(row["wav"], sample_rate, *place)


def read_span(start, stop, name="span"):
    """The part of a file that two columns of a CSV name.

    As in SpeechBrain whole numbers are samples of the file; numbers with a
    point are seconds.

    Arguments
    ---------
    start, stop : str or None
        The columns; empty for the beginning and the end.
    name : str
        What an error message calls the recording.

    Returns
    -------
    start : int or float
    stop : int or float or None
    unit : str
        As `AudioFile` takes them.

    Raises
    ------
    ValueError
        If they are not numbers.

    Example
    -------
    >>> read_span("16000", "48000"), read_span("0.5", "")
    ((16000, 48000, 'samples'), (0.5, None, 's'))
    """
    given = [str(x).strip() for x in (start, stop) if x not in (None, "")]
    try:
        unit = "samples" if all(map(str.isdecimal, given)) else "s"
        kind = int if unit == "samples" and given else float
        start, stop = (
            None if x is None or not str(x).strip() else kind(x)
            for x in (start, stop)
        )
    except ValueError:
        raise ValueError(
            f"{name}: 'start' and 'stop' are numbers, not {start!r} and "
            f"{stop!r}"
        ) from None
    return start or 0, stop, unit if given else "s"
