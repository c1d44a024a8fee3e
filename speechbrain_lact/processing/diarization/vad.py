"""Where there is speech: by Silero's VAD, by its energy, or by a VAD of
SpeechBrain.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F

from speechbrain.inference.VAD import VAD
from speechbrain_lact.processing.speech import FRAME, SAMPLE_RATE, load_silero

# Pauses within speech and stretches of it that are too short to count [s].
PAUSE, MIN_SPEECH = 0.15, 0.1
# Probability that a stretch of speech reaches, and that it stays above.
ACTIVATION, DEACTIVATION = 0.5, 0.25


class EnergyVAD(VAD):
    """SpeechBrain's VAD with loudness in place of a neural network.

    The quietest and the loudest frames of a recording are its 0 and its 1; a
    frame is as likely to be speech as its level lies between them. How loud
    the whole is does not matter, unless it hardly varies.

    Arguments
    ---------
    sample_rate : int
        Samples a second.

    Example
    -------
    >>> wave = torch.sin(torch.arange(3000.0))
    >>> wave[1000:2000] = 0
    >>> find_speech(wave, EnergyVAD(1000))
    [(0.0, 1.02), (1.98, 3.0)]
    """

    HPARAMS_NEEDED = MODULES_NEEDED = []

    # Seconds of a frame, and frames over which loudness is measured.
    FRAME, WIDTH = 0.02, 3
    # Quietest and loudest, in dB of full scale, where a recording varies by
    # less than 10 dB.
    QUIET, LOUD, MIN_RANGE = -60.0, -20.0, 10.0
    # The quietest is at most so far below the loudest [dB]; what is never
    # louder than the silence of 16 bits [dB of full scale] holds no speech.
    MAX_RANGE, SILENCE = 40.0, -80.0

    def __init__(self, sample_rate):
        settings = {"sample_rate": sample_rate, "time_resolution": self.FRAME}
        super().__init__({}, settings, {"device": "cpu"})

    def get_speech_prob_chunk(self, wavs, wav_lens=None):
        """As SpeechBrain's.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : None
            Not used.

        Returns
        -------
        torch.Tensor
            [B, T, 1]
        """
        size = int(self.FRAME * self.sample_rate)
        frames = F.pad(wavs.cpu(), (0, -wavs.shape[1] % size)).unfold(
            1, size, size
        )
        power = F.avg_pool1d(
            frames.var(2, correction=0)[:, None],
            self.WIDTH,
            1,
            self.WIDTH // 2,
            count_include_pad=False,
        )[:, 0]
        level = 10 * power.clamp_min(1e-12).log10()
        shares = torch.tensor([0.05, 0.95])
        low, high = level.quantile(shares, dim=1)[..., None]
        low = torch.maximum(low, high - self.MAX_RANGE)
        steady = (high - low < self.MIN_RANGE) | (high <= self.SILENCE)
        low = torch.where(steady, self.QUIET, low)
        high = torch.where(steady, self.LOUD, high)
        return ((level - low) / (high - low)).clamp(0, 1)[..., None]


class SileroVAD(VAD):
    """SpeechBrain's VAD with Silero's network (MIT), on the CPU.

    Raises
    ------
    ImportError
        If the package silero-vad is not installed.

    Example
    -------
    >>> find_speech(torch.randn(32000), SileroVAD())  # doctest: +SKIP
    []
    """

    HPARAMS_NEEDED = MODULES_NEEDED = []

    # Seconds before and after it that count as speech: chosen on training
    # voices of three corpora (docs/speakers.md).
    PAD = 0.2

    def __init__(self):
        settings = {
            "sample_rate": SAMPLE_RATE,
            "time_resolution": FRAME / SAMPLE_RATE,
        }
        super().__init__({}, settings, {"device": "cpu"})
        self.net = load_silero()

    def get_speech_prob_chunk(self, wavs, wav_lens=None):
        """As SpeechBrain's.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : None
            Not used.

        Returns
        -------
        torch.Tensor
            [B, T, 1]
        """
        wavs = wavs.detach().cpu().float()
        return self.net.audio_forward(wavs, sr=SAMPLE_RATE)[..., None]


def find_speech(wav, vad):
    """Where there is speech.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    vad : VAD
        SpeechBrain's, `SileroVAD` or `EnergyVAD`.

    Returns
    -------
    list of tuple of float
        Start and end in seconds.
    """
    with torch.no_grad():
        found = vad.get_speech_prob_chunk(wav[None]).cpu()
    return speech_of(found, vad, len(wav) / vad.sample_rate)


def speech_of(found, vad, seconds):
    """As `find_speech`, of the probabilities of frames.

    Arguments
    ---------
    found : torch.Tensor
        [1, T, 1]
    vad : VAD
        Whose probabilities they are.
    seconds : float
        Of the recording; the last frame may not be whole.

    Returns
    -------
    list of tuple of float
        Start and end in seconds.
    """
    frame = vad.time_resolution
    if not bool((found >= ACTIVATION).any()):
        return []
    # Without silence at its end, the last frame would be lost.
    found = F.pad(found, (0, 0, 0, 1))
    likely = found[0, :, 0]
    bounds = vad.get_boundaries((found >= DEACTIVATION).int()).cpu()
    bounds[:, 1] += frame
    rows = (bounds / frame).round().long()
    speech = [bool((likely[a:b] >= ACTIVATION).any()) for a, b in rows]
    bounds = vad.merge_close_segments(bounds[torch.tensor(speech)], PAUSE)
    bounds = vad.remove_short_segments(bounds, MIN_SPEECH).view(-1, 2)
    pad = getattr(vad, "PAD", 0.0)
    stretches = []
    for start, end in bounds.tolist():
        start = round(max(start - pad, 0.0), 3)
        end = round(min(end + pad, seconds), 3)
        if pad and stretches and start <= stretches[-1][1]:
            start = stretches.pop()[0]
        stretches.append((start, end))
    return stretches
