"""Features whose lengths are counted from samples, once.

SpeechBrain passes lengths as fractions of the padded batch and rounds them at
every use. Here the number of frames follows from the number of samples, as
for a recording alone, and the fraction returned is exact (float64).

Authors
* speechbrain_lact contributors 2026
"""

import torch
from torch import nn

from speechbrain.lobes import features
from speechbrain_lact.nnet.state import length_mask, zero_padding


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
        self.compute_fbanks.top_db = float("inf") if top_db is None else top_db

    def forward(self, wav, wav_len=None):
        """Features of a batch of waveforms.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        feats : torch.Tensor
            [B, T, F], T = S // hop + 1
        lengths : torch.Tensor
            Frames of each row over T [B], float64.
        """
        samples = sample_counts(wav, wav_len)
        wav = zero_padding(wav, length_mask(samples, wav.shape[1]))
        feats = super().forward(wav)
        frames = samples // self.compute_STFT.hop_length + 1
        return feats, frames.double() / feats.shape[1]


class Waveform(nn.Module):
    """The waveform itself as features of width 1, for a raw front end.

    Example
    -------
    >>> Waveform()(torch.randn(2, 100))[0].shape
    torch.Size([2, 100, 1])
    """

    def forward(self, wav, wav_len=None):
        """As `Fbank.forward`, one frame a sample."""
        samples = sample_counts(wav, wav_len)
        wav = zero_padding(wav, length_mask(samples, wav.shape[1]))
        return wav.unsqueeze(-1), samples.double() / wav.shape[1]
