"""Features whose lengths are counted from samples, once.

SpeechBrain passes lengths as fractions of the padded batch and rounds them at
every use. Here the number of frames follows from the number of samples, as
for a recording alone, and the fraction returned is exact (float64). A recording
may come in pieces of any length.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain.lobes import features
from speechbrain.utils.filter_analysis import FilterProperties
from speechbrain_lact.nnet.state import (
    Waiting,
    length_mask,
    padding_mask,
    slide,
    splice,
    zero_padding,
)


def sample_counts(wav, wav_len=None):
    """Number of samples of each row.

    Arguments
    ---------
    wav : torch.Tensor
        Waveforms [B, S].
    wav_len : torch.Tensor, optional
        Length of each row over S [B].

    Returns
    -------
    torch.Tensor
        Integers [B].

    Example
    -------
    >>> sample_counts(torch.zeros(2, 10), torch.tensor([0.7, 1.0]))
    tensor([ 7, 10])
    """
    size = wav.shape[1]
    if wav_len is None:
        return torch.full((len(wav),), size, device=wav.device)
    return torch.round(wav_len.double() * size).long()


class Fbank(features.Fbank):
    """SpeechBrain's Fbank that ignores padding and returns exact lengths.

    Arguments
    ---------
    top_db : float, optional
        Floor below the loudest value of a recording; None for no floor, so
        that a recording in pieces gives the same features.
    **kwargs : dict
        As SpeechBrain's Fbank.

    Example
    -------
    >>> feats, lengths = Fbank(n_mels=8)(
    ...     torch.randn(2, 1600), torch.tensor([0.5, 1.0])
    ... )
    >>> feats.shape, (lengths * 11).round()
    (torch.Size([2, 11, 8]), tensor([ 6., 11.], dtype=torch.float64))
    """

    def __init__(self, top_db=80.0, **kwargs):
        super().__init__(**kwargs)
        if self.deltas or self.context:
            raise ValueError("deltas and context would read padding")
        if 2 * self.compute_STFT.hop_length > self.compute_STFT.n_fft:
            raise ValueError("hop_length: at most half of n_fft")
        self.top_db = top_db
        self.compute_fbanks.top_db = float("inf") if top_db is None else top_db
        # What a centred STFT sees beyond the ends are zeros of ours.
        self.compute_STFT.center = False
        self.side = self.compute_STFT.n_fft // 2

    def get_filter_properties(self):
        """As SpeechBrain's: of a centred STFT."""
        stft = self.compute_STFT
        return FilterProperties(
            window_size=stft.win_length, stride=stft.hop_length
        )

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        Waiting
            Samples that frames to come will see; `counts` is how many more
            than the zeros before the first one.
        """
        zeros = self.compute_STFT.window.new_zeros(batch, self.side)
        return Waiting(zeros, torch.zeros(batch, dtype=torch.long))

    def forward(self, wav, wav_len=None, state=None, final=True):
        """Features of a batch of waveforms.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].
        state : Waiting, optional
            Where to go on.
        final : bool
            Whether the recording ends with this piece; with `state` alone.

        Returns
        -------
        feats : torch.Tensor
            [B, T, F], T = S // hop + 1; with a state, the frames that are
            complete.
        lengths : torch.Tensor
            Frames of each row over T [B], float64.
        state : Waiting
            Only if a state was given.
        """
        counts = sample_counts(wav, wav_len)
        wav = zero_padding(wav, padding_mask(counts, wav.shape[1]))
        if state is None:
            wav, counts = F.pad(wav, (self.side, 0)), counts + self.side
        elif self.top_db is not None:
            raise ValueError(
                "a floor below the loudest value needs the whole recording: "
                "set top_db to None"
            )
        else:
            before = state.counts + self.side
            wav = splice(state.frames, before, wav)
            counts = counts + before
        if state is None or final:
            wav, counts = F.pad(wav, (0, self.side)), counts + self.side
        size, hop = self.compute_STFT.n_fft, self.compute_STFT.hop_length
        frames = ((counts - size) // hop + 1).clamp(min=0)
        if wav.shape[1] < size:
            feats = wav.new_zeros(len(wav), 0, self.compute_fbanks.n_mels)
        else:
            feats = super().forward(wav)[:, : int(frames.max())]
        lengths = frames.double() / max(feats.shape[1], 1)
        if state is None:
            return feats, lengths
        if final:
            return feats, lengths, self.initial_state(len(wav)).to(wav.device)
        rest = counts - frames * hop
        width = int(rest.max())
        waiting = zero_padding(
            slide(wav, frames * hop, width), length_mask(rest, width)
        )
        return feats, lengths, Waiting(waiting, rest - self.side)


class Waveform(nn.Module):
    """The waveform itself as features of width 1, for a raw front end.

    Example
    -------
    >>> Waveform()(torch.randn(2, 100))[0].shape
    torch.Size([2, 100, 1])
    """

    def get_filter_properties(self):
        """A frame is a sample."""
        return FilterProperties(window_size=1)

    def forward(self, wav, wav_len=None):
        """As `Fbank.forward`, one frame a sample."""
        samples = sample_counts(wav, wav_len)
        wav = zero_padding(wav, length_mask(samples, wav.shape[1]))
        return wav.unsqueeze(-1), samples.double() / wav.shape[1]
