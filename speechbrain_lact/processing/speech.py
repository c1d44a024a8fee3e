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


class SpeechDetector:
    """Seconds of speech in recordings: none in silence, noise and music.

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
    >>> detector(torch.randn(1, 16000), torch.ones(1))  # doctest: +SKIP
    [0.0]
    """

    def __init__(self, threshold=SPEECH):
        threads = torch.get_num_threads()
        try:
            from silero_vad import load_silero_vad
        finally:
            # Silero's import sets it to 1.
            torch.set_num_threads(threads)
        self.net, self.threshold = load_silero_vad(), threshold

    @torch.no_grad()
    def __call__(self, wavs, wav_lens):
        """Seconds of speech of each row.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S], 16,000 samples a second.
        wav_lens : torch.Tensor
            Length of each row over S [B].

        Returns
        -------
        list of float
        """
        check_waves(wavs, wav_lens)
        counts = sample_counts(wavs, wav_lens)
        wavs = wavs.detach().float().cpu()
        # A copy, and no less than a frame.
        wavs = torch.nn.functional.pad(wavs, (0, FRAME))
        for row, count in zip(wavs, counts.tolist()):
            row[count:] = 0
        found = self.net.audio_forward(wavs, sr=SAMPLE_RATE) >= self.threshold
        frames = torch.arange(found.shape[1]) * FRAME
        found &= frames < counts.cpu()[:, None]
        return [n * FRAME / SAMPLE_RATE for n in found.sum(1).tolist()]
