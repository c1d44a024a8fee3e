"""Whisper's log-mel spectrogram and convolutions, for audio in pieces.

Whisper puts its floor 8 below the loudest value of 30 s. Here the loudest value
is that of the audio so far, so that nothing looks ahead, and what is before the
first sample is silence and not its mirror image.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchaudio
from torch import nn

from speechbrain.processing.features import STFT
from speechbrain_lact.lobes import features
from speechbrain_lact.nnet.checks import check_tensor, row_counts
from speechbrain_lact.nnet.frames import (
    length_mask,
    slide,
    splice,
    zero_padding,
)
from speechbrain_lact.nnet.state import State, Waiting, nested

RATE, N_FFT, FLOOR, RANGE = 16000, 400, -10.0, 8.0
# What the loudest value is taken to be at least: up to here digital silence
# is above the floor.
SOFT = FLOOR + RANGE

# Mel frames before and after the two that an encoder frame is centred on.
SIDE = 2


class LogMel(nn.Module):
    """Decimal logarithms of mel energies, as Whisper has them.

    Arguments
    ---------
    n_mels : int

    Example
    -------
    >>> LogMel(80)(torch.zeros(1, 3, 201))[0, 0, 0]
    tensor(-10.)
    """

    def __init__(self, n_mels):
        super().__init__()
        self.n_mels = n_mels
        filters = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, RATE / 2, n_mels, RATE, "slaney", "slaney"
        )
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, power):
        """[B, T, bins] to [B, T, n_mels]."""
        return (power @ self.filters).clamp(min=10**FLOOR).log10()


class WhisperFeatures(features.Fbank):
    """Whisper's log-mel spectrogram before its floor and scaling.

    Arguments
    ---------
    n_mels : int

    Example
    -------
    >>> feats, lengths = WhisperFeatures()(torch.randn(1, 1600))
    >>> feats.shape
    torch.Size([1, 11, 80])
    """

    def __init__(self, n_mels=80):
        super().__init__(top_db=None, sample_rate=RATE, n_mels=n_mels)
        self.compute_STFT = STFT(
            sample_rate=RATE,
            n_fft=N_FFT,
            win_length=25,
            hop_length=10,
            center=False,
            window_fn=torch.hann_window,
        )
        features.hold_constants(self.compute_STFT)
        self.compute_fbanks = LogMel(n_mels)

    def configuration(self):
        """What changes the features."""
        return {"whisper": self.compute_fbanks.n_mels}


@dataclass
class WhisperFrontEndState(State):
    """What the convolutions carry."""

    mel: Waiting = nested(Waiting)
    """Scaled frames that those to come will see [B, 2 + P, F + 1]; `counts`
    is how many more than the two before."""
    fresh: torch.Tensor = None
    """True where no frame was made yet [B]."""
    loudest: torch.Tensor = None
    """The loudest value so far above `SOFT` [B]."""


class WhisperFrontEnd(nn.Module):
    """Whisper's floor, scaling and two convolutions: 100 frames a second to
    50.

    Arguments
    ---------
    d_model : int
        Channels.
    n_mels : int
        Features of a frame.

    Example
    -------
    >>> net = WhisperFrontEnd(8, 80)
    >>> x = torch.randn(1, 11, 80)
    >>> out, flags, lengths, state = net(x, None, net.initial_state(1))
    >>> out.shape, lengths
    (torch.Size([1, 6, 8]), tensor([6]))
    """

    stride = 2

    def __init__(self, d_model, n_mels=80):
        super().__init__()
        self.n_mels = n_mels
        self.conv1 = nn.Conv1d(n_mels, d_model, 3)
        self.conv2 = nn.Conv1d(d_model, d_model, 3, stride=2)

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int

        Returns
        -------
        WhisperFrontEndState
        """
        weight = self.conv1.weight
        frames = weight.new_zeros(batch, SIDE, self.n_mels + 1)
        counts = torch.zeros(batch, dtype=torch.long, device=weight.device)
        return WhisperFrontEndState(
            Waiting(frames, counts),
            torch.ones_like(counts, dtype=torch.bool),
            weight.new_zeros(batch),
        )

    def forward(self, x, lengths, state, final=True, flags=None):
        """Frames for Whisper's encoder, without positions.

        Arguments
        ---------
        x : torch.Tensor
            Of `WhisperFeatures` [B, T, F].
        lengths : torch.Tensor
            Length of each row over T [B], or None.
        state : WhisperFrontEndState
            Where to go on.
        final : bool
            Whether the recording ends here.
        flags : torch.Tensor, optional
            Booleans [B, T], to be given back beside the frames.

        Returns
        -------
        out : torch.Tensor
            [B, T', d_model], zeros at padding.
        flags : torch.Tensor
            Of the later mel frame of each [B, T'].
        counts : torch.Tensor
            Frames of each row [B].
        state : WhisperFrontEndState
        """
        check_tensor(x, ("B", "T", self.n_mels), "x")
        weight = self.conv1.weight
        counts = row_counts(lengths, x)
        real = length_mask(counts, x.shape[1])
        x = x.masked_fill(~real[..., None], FLOOR)
        before = SOFT + state.loudest[:, None].to(x)
        peaks = torch.cat([before, x.amax(2)], 1)
        peaks = peaks.cummax(1).values[:, 1:]
        loudest = state.loudest
        if x.shape[1]:
            loudest = (peaks[:, -1] - SOFT).to(weight)
        x = (torch.maximum(x, peaks[..., None] - RANGE) + 4.0) / 4.0
        if flags is None:
            flags = torch.zeros_like(real)
        x = torch.cat([x, flags[..., None].to(x)], 2).to(weight)
        before = state.mel.counts + SIDE
        x = splice(state.mel.frames, before, zero_padding(x, real))
        counts = counts + before
        if final:
            x = F.pad(x, (0, 0, 0, SIDE))
            frames = (counts - SIDE + 1) // 2
        else:
            frames = ((counts - SIDE - 1) // 2).clamp(min=0)
        out = self._convolve(x[..., :-1], counts, state.fresh)
        time = int(frames.max()) if len(frames) else 0
        out = zero_padding(out[:, :time], length_mask(frames, time))
        # Of the last frame there may be the first half alone.
        flags = x[:, SIDE + 1 :: 2, -1][:, :time] > 0.5
        flags = flags & length_mask(frames, time)
        if final:
            return out, flags, frames, self.initial_state(len(x))
        rest = counts - SIDE - 2 * frames
        width = SIDE + int(rest.max())
        mel = slide(x, 2 * frames, width)
        mel = zero_padding(mel, length_mask(rest + SIDE, width))
        return (
            out,
            flags,
            frames,
            WhisperFrontEndState(
                Waiting(mel, rest), state.fresh & (frames == 0), loudest
            ),
        )

    def _convolve(self, x, counts, fresh):
        """Both convolutions; what is outside of the recording is zero before
        each."""
        if x.shape[1] < SIDE + 3:
            return x.new_zeros(len(x), 0, self.conv1.out_channels)
        x = F.gelu(self.conv1(x.transpose(1, 2)))
        inside = length_mask(counts - 1, x.shape[2])
        if inside.shape[1]:
            inside[:, 0] &= ~fresh
        x = x * inside[:, None]
        return F.gelu(self.conv2(x)).transpose(1, 2)
