"""Where there is speech in a stream, while it comes.

What is found does not depend on how the stream is cut in pieces, as long as
one looks at it at the same times.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F

from speechbrain_lact.processing.diarization.vad import (
    SileroVAD,
    find_speech,
    speech_of,
)
from speechbrain_lact.processing.speech import FRAME, SAMPLE_RATE, load_silero

# Seconds of the past that are looked at.
PAST = 10.0


def online_vad(vad):
    """What finds speech in a stream as a VAD does in a recording.

    Arguments
    ---------
    vad : VAD
        `SileroVAD`, which carries its state, or another one, which is asked
        about the last seconds each time.

    Returns
    -------
    SileroStream or RecentSpeech
    """
    return (
        SileroStream(vad) if isinstance(vad, SileroVAD) else RecentSpeech(vad)
    )


class RecentSpeech:
    """Asks a VAD about the last seconds of a stream.

    Arguments
    ---------
    vad : VAD
    """

    def __init__(self, vad):
        self.vad, self._wav, self._begin = vad, torch.zeros(0), 0.0

    def feed(self, samples, final=False):
        """Takes more of the stream.

        Arguments
        ---------
        samples : torch.Tensor
            [S]
        final : bool
            Whether the stream ends.

        Returns
        -------
        list of tuple of float
            Start and end of speech in the last seconds, from the start of the
            stream.
        """
        self._wav = torch.cat([self._wav, samples])
        found = find_speech(self._wav, self.vad) if len(self._wav) else []
        found = [(self._begin + a, self._begin + b) for a, b in found]
        surplus = len(self._wav) - round(PAST * self.vad.sample_rate)
        if surplus > 0:
            self._wav = self._wav[surplus:]
            self._begin += surplus / self.vad.sample_rate
        return found


class SileroStream:
    """Silero's VAD with its state carried: each frame is computed once.

    Arguments
    ---------
    vad : SileroVAD
    """

    def __init__(self, vad):
        # The network keeps its state in itself: a stream has one of its own.
        self.vad, self.net = vad, load_silero()
        self._rest, self._found = torch.zeros(0), torch.zeros(1, 0, 1)
        self._first = self._samples = 0

    @torch.no_grad()
    def feed(self, samples, final=False):
        """As `RecentSpeech.feed`."""
        self._samples += len(samples)
        rest = torch.cat([self._rest, samples.detach().cpu().float()])
        if final:
            rest = F.pad(rest, (0, -len(rest) % FRAME))
        frames = rest[: len(rest) // FRAME * FRAME].view(-1, 1, FRAME)
        self._rest = rest[len(frames) * FRAME :]
        new = [self.net(frame, SAMPLE_RATE)[None] for frame in frames]
        self._found = torch.cat([self._found, *new], 1)
        begin = self._first * FRAME / SAMPLE_RATE
        seconds = self._samples / SAMPLE_RATE - begin
        found = speech_of(self._found, self.vad, seconds)
        most = round(PAST * SAMPLE_RATE / FRAME)
        surplus = max(self._found.shape[1] - most, 0)
        self._first += surplus
        self._found = self._found[:, surplus:]
        return [(begin + start, begin + end) for start, end in found]
