"""Where somebody speaks: Silero's detector (MIT), by its own package.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.nnet.checks import check_waves

# What the detector takes: samples a second, and of a frame.
SAMPLE_RATE, FRAME = 16000, 512
# From this probability on a frame is speech.
SPEECH = 0.5


INSTALL = "pip install 'speechbrain_lact[speakers]'"


def load_silero():
    """Silero's network, which runs on the CPU.

    Returns
    -------
    torch.jit.ScriptModule

    Raises
    ------
    ImportError
        If the package silero-vad is not installed.
    """
    threads = torch.get_num_threads()
    try:
        from silero_vad import load_silero_vad
    except ImportError as error:
        raise ImportError(f"silero-vad is not installed: {INSTALL}") from error
    finally:
        # Silero's import sets it to 1.
        torch.set_num_threads(threads)
    return load_silero_vad()


class SpeechDetector:
    """Frames of speech in recordings: none in silence, noise and music.

    It runs on the CPU, a frame of 32 ms after the other.

    Arguments
    ---------
    threshold : float
        Probability from which on a frame is speech.

    Raises
    ------
    ImportError
        If the package silero-vad is not installed.

    Example
    -------
    >>> detector = SpeechDetector()  # doctest: +SKIP
    >>> (speech,) = detector(torch.randn(1, 16000), torch.ones(1))
    ... # doctest: +SKIP
    >>> len(speech), int(speech.sum())  # doctest: +SKIP
    (32, 0)
    """

    def __init__(self, threshold=SPEECH):
        self.net, self.threshold = load_silero(), threshold

    @torch.no_grad()
    def __call__(self, wavs, wav_lens):
        """Whether there is speech in each frame of `FRAME` samples.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S], 16,000 samples a second.
        wav_lens : torch.Tensor
            Length of each row over S [B].

        Returns
        -------
        list of torch.Tensor
            Booleans of each row; its last frame may not be whole.
        """
        check_waves(wavs, wav_lens)
        counts = sample_counts(wavs, wav_lens).tolist()
        wavs = wavs.detach().float().cpu()
        # A copy, and no less than a frame.
        wavs = torch.nn.functional.pad(wavs, (0, FRAME))
        for row, count in zip(wavs, counts):
            row[count:] = 0
        found = self.net.audio_forward(wavs, sr=SAMPLE_RATE) >= self.threshold
        return [row[: -(-n // FRAME)] for row, n in zip(found, counts)]


def speech_between(speech, start, end):
    """A stretch without what is no speech at its ends.

    Arguments
    ---------
    speech : torch.Tensor
        Of a row, as `SpeechDetector` gives it.
    start, end : float
        Seconds.

    Returns
    -------
    start, end : float
        In milliseconds' precision; the same if there is no speech between.

    Example
    -------
    >>> speech_between(torch.arange(100) < 50, 0.5, 3.0)
    (0.5, 1.6)
    """
    frame = FRAME / SAMPLE_RATE
    first, last = int(start / frame), -int(-end // frame)
    inside = speech[first:last].nonzero()[:, 0]
    if not len(inside):
        return start, end
    begin = round((first + inside[0].item()) * frame, 3)
    stop = round((first + inside[-1].item() + 1) * frame, 3)
    return max(start, begin), min(end, stop)
