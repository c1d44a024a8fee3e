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
from speechbrain.processing.features import Filterbank
from speechbrain.utils.filter_analysis import FilterProperties
from speechbrain_lact.nnet.checks import check_waves, row_counts
from speechbrain_lact.nnet.frames import (
    length_mask,
    padding_mask,
    slide,
    splice,
    zero_padding,
)
from speechbrain_lact.nnet.state import Waiting
from speechbrain_lact.nnet.state_file import digest


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
    return row_counts(wav_len, wav)


class _Filters(Filterbank):
    """SpeechBrain's filters, on the device and in the type of the module.

    SpeechBrain makes their matrix on the CPU and in part in the default type
    of the moment.
    """

    def _create_fbank_matrix(self, f_central_mat, band_mat):
        self.device_inp = band_mat.device
        matrix = super()._create_fbank_matrix(f_central_mat, band_mat)
        return matrix.to(band_mat.dtype)


class Fbank(features.Fbank):
    """SpeechBrain's Fbank that ignores padding and returns exact lengths.

    Features are computed in fp32 (float64 after `double()`), also after
    `half()` and `bfloat16()`.

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
        bank = self.compute_fbanks
        self.compute_fbanks = _Filters(
            **{
                name: getattr(bank, name)
                for name in (
                    "n_mels",
                    "filter_shape",
                    "f_min",
                    "f_max",
                    "n_fft",
                    "sample_rate",
                    "param_change_factor",
                    "param_rand_factor",
                    "freeze",
                )
            }
        )
        hold_constants(self)
        self.top_db = top_db
        self.compute_fbanks.top_db = float("inf") if top_db is None else top_db
        # What a centred STFT sees beyond the ends are zeros of ours.
        self.compute_STFT.center = False
        self.side = self.compute_STFT.n_fft // 2

    def _apply(self, function, recurse=True):
        """As of every module, but nothing is rounded below fp32."""

        def exact(tensor):
            moved = function(tensor)
            if moved.dtype in (torch.float16, torch.bfloat16):
                return tensor.to(moved.device)
            return moved

        return super()._apply(exact, recurse)

    def configuration(self):
        """What changes the features.

        Returns
        -------
        dict
        """
        stft, bank = self.compute_STFT, self.compute_fbanks
        names = {
            stft: ("sample_rate", "n_fft", "hop_length", "normalized_stft"),
            bank: ("n_mels", "f_min", "f_max", "filter_shape", "log_mel"),
        }
        return {
            **{
                name: getattr(part, name)
                for part, told in names.items()
                for name in told
            },
            "window": digest({"window": stft.window.float()})[:16],
            "amin": bank.amin,
            "ref_value": bank.ref_value,
            "power": bank.power_spectrogram,
            "top_db": self.top_db,
        }

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
        return Waiting(zeros, torch.zeros_like(zeros[:, 0], dtype=torch.long))

    def forward(self, wav, wav_len=None, state=None, final=True):
        """Features of a batch of waveforms.

        Arguments
        ---------
        wav : torch.Tensor
            Floats [B, S].
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
        check_waves(wav, what="wav")
        wav = wav.to(self.compute_STFT.window.dtype)
        counts = sample_counts(wav, wav_len)
        wav = zero_padding(wav, padding_mask(counts, wav.shape[1]))
        if state is not None:
            state.check(self.initial_state(0), len(wav), contents=False)
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
            return feats, lengths, self.initial_state(len(wav))
        rest = counts - frames * hop
        width = int(rest.max())
        waiting = zero_padding(
            slide(wav, frames * hop, width), length_mask(rest, width)
        )
        return feats, lengths, Waiting(waiting, rest - self.side)


def hold_constants(module):
    """Tensors that SpeechBrain's modules keep as attributes become buffers,
    which follow the module to a device; a checkpoint does not hold them."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, torch.Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)


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
        check_waves(wav, what="wav")
        samples = sample_counts(wav, wav_len)
        wav = zero_padding(wav, length_mask(samples, wav.shape[1]))
        return wav.unsqueeze(-1), samples.double() / max(wav.shape[1], 1)
