"""Recordings, whole or read piece by piece: one channel, at the model's rate.

Authors
* speechbrain_lact contributors 2026
"""

import os

import numpy as np
import soundfile
import soxr
import torch

from speechbrain.dataio import audio_io
from speechbrain.utils.logger import get_logger

logger = get_logger(__name__)

# Shortest recording that has a frame of features.
LEAST_SECONDS = 0.025


class AudioFile:
    """A recording of any length, channels and rate.

    Arguments
    ---------
    path : str or Path
        The file, in a format that libsndfile reads.
    sample_rate : int
        Rate of the samples that are handed out, in Hz.

    Raises
    ------
    ValueError
        Here or while reading, naming the file: if it is missing, no audio,
        cut short, shorter than 25 ms, or has samples that are not finite.

    Example
    -------
    >>> path = getfixture("tmpdir") / "tone.wav"
    >>> soundfile.write(path, np.zeros((8000, 2)), 8000)
    >>> audio = AudioFile(path, 16000)
    >>> audio.seconds, sum(len(piece) for piece in audio.pieces(0.3))
    (1.0, 16000)
    """

    def __init__(self, path, sample_rate):
        self.path, self.sample_rate = str(path), sample_rate
        if not os.path.isfile(self.path):
            raise ValueError(f"{path}: no such file")
        try:
            with self._open() as file:
                self.frames, self.rate = file.frames, file.samplerate
        # TypeError: raw samples, which do not say what they are.
        except (soundfile.LibsndfileError, OSError, TypeError) as error:
            raise self._error(error) from error
        if self.seconds < LEAST_SECONDS:
            raise ValueError(
                f"{path}: {self.frames} samples at {self.rate} Hz; at least "
                f"{LEAST_SECONDS} s are needed"
            )

    def _open(self):
        """The file, whatever its name is written in."""
        return soundfile.SoundFile(os.fsencode(self.path))

    def _error(self, error):
        """What the library says, once with the file's name."""
        reason = getattr(error, "error_string", error)
        return ValueError(f"{self.path}: cannot be read: {reason}")

    @property
    def seconds(self):
        """Length of the recording."""
        return self.frames / self.rate

    def pieces(self, seconds):
        """The recording in pieces of so many seconds; the last is shorter.

        Arguments
        ---------
        seconds : float
            Length of a piece.

        Yields
        ------
        torch.Tensor
            Samples [S] between -1 and 1, the mean over the channels.
        """
        size = max(round(seconds * self.rate), 1)
        change = Resampler(self.rate, self.sample_rate)
        done = 0
        try:
            with self._open() as file:
                while done < self.frames:
                    block = file.read(size, dtype="float32", always_2d=True)
                    if not len(block):
                        break
                    done += len(block)
                    yield change(mono(block, self.path), done >= self.frames)
        except (soundfile.LibsndfileError, OSError) as error:
            raise self._error(error) from error
        if done < self.frames:
            raise ValueError(
                f"{self.path}: ends after {done} of {self.frames} samples"
            )

    def read(self):
        """All samples [S]."""
        return torch.cat(list(self.pieces(60.0)))


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
    if not np.isfinite(samples).all():
        raise ValueError(f"{name}: has samples that are not finite")
    return samples.mean(1)


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


def read_audio(path, sample_rate):
    """Reads a recording, or says in one line why not.

    Arguments
    ---------
    path : str
        The file.
    sample_rate : int
        What the model needs.

    Returns
    -------
    torch.Tensor
        Samples [S], or None for a file that cannot be used.
    """
    try:
        audio, rate = audio_io.load(path)
    except Exception as error:  # whatever the decoder throws, go on
        logger.warning("%s: skipped, cannot be read: %s", path, error)
        return None
    audio = audio.mean(0) if audio.ndim > 1 else audio
    reason = None
    if rate != sample_rate:
        reason = f"is at {rate} Hz, not {sample_rate}"
    elif not len(audio):
        reason = "is empty"
    elif not bool(audio.isfinite().all()):
        reason = "has samples that are not finite"
    if reason:
        logger.warning("%s: skipped, %s", path, reason)
        return None
    return audio
