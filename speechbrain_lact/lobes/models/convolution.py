"""Convolutional front ends that do not read padding and can be cut in pieces.

A convolution of stride s has kernel 2s - 1 and s - 1 zeros on both sides: an
output frame waits for nothing beyond its own group of s input frames.
SpeechBrain's `ConvolutionFrontEnd` mirrors the batch at its end instead, so
that a row's last frames depend on the other rows.

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain.utils.filter_analysis import (
    FilterProperties,
    stack_filter_properties,
)
from speechbrain_lact.nnet.checks import check_number, check_tensor, row_counts
from speechbrain_lact.nnet.frames import (
    length_mask,
    padding_mask,
    slide,
    zero_padding,
)
from speechbrain_lact.nnet.state import State, Waiting, buffer, counter, nested


@dataclass
class FrontEndState(State):
    """What a front end carries."""

    waiting: Waiting = nested(Waiting)
    """Input frames of the unfinished group."""
    past: torch.Tensor = buffer("left")
    """Input frames before them [B, P, F], aligned to the right."""
    counts: torch.Tensor = counter("past")
    """How many of `past` are real [B]."""


class _FrontEnd(nn.Module):
    """A stack of strided convolutions, each blind to padding.

    `self.blocks` are applied to [B, T, F] or [B, T, F, C] and divide T by
    `self.strides`.
    """

    @property
    def stride(self):
        """Input frames per output frame."""
        return math.prod(self.strides)

    def configuration(self):
        """What, beside the weights, changes the output.

        Returns
        -------
        dict
        """
        return {"strides": list(self.strides)}

    def get_filter_properties(self):
        """As SpeechBrain's: what an output frame depends on."""
        return stack_filter_properties(
            FilterProperties(window_size=2 * stride - 1, stride=stride)
            for stride in self.strides
        )

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        FrontEndState
        """
        like = next(self.parameters())
        frames = like.new_zeros(batch, 0, self.input_size)
        waiting = Waiting.empty(frames)
        return FrontEndState(waiting, frames, waiting.counts)

    def forward(self, x, wav_len=None, state=None, final=True):
        """Fewer and wider frames.

        Arguments
        ---------
        x : torch.Tensor
            [B, T, F]
        wav_len : torch.Tensor, optional
            Length of each row over T [B].
        state : FrontEndState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone.

        Returns
        -------
        out : torch.Tensor
            [B, ceil(T / stride), output_size]. With a state, the frames that
            could be answered.
        lengths : torch.Tensor
            Output frames of each row over the padded number [B], float64.
        state : FrontEndState
            Only if a state was given.
        """
        check_tensor(x, ("B", "T", self.input_size), "x")
        counts = row_counts(wav_len, x)
        x = x.to(next(self.parameters()).dtype)
        if state is None:
            out = self._convolve(x, padding_mask(counts, x.shape[1]))
            return out, self._fractions(counts, out)
        state.check(self.initial_state(0), len(x), contents=False)
        x = zero_padding(x, padding_mask(counts, x.shape[1]))
        x, counts, waiting = state.waiting.push(x, counts, self.stride, final)
        width = state.past.shape[1]
        real = [
            length_mask(state.counts, width).flip(1),
            length_mask(counts, x.shape[1]),
        ]
        x = torch.cat([state.past.to(x.dtype), x], 1)
        out = self._convolve(x, torch.cat(real, 1))[:, width // self.stride :]
        if final:
            state = FrontEndState(waiting, x[:, :0], torch.zeros_like(counts))
        else:
            seen = (state.counts + counts).clamp(max=self.stride)
            past = slide(x, width + counts - self.stride, self.stride)
            real = length_mask(seen, self.stride).flip(1)
            state = FrontEndState(waiting, zero_padding(past, real), seen)
        return out, self._fractions(counts, out), state

    def _fractions(self, counts, out):
        frames = -(-counts // self.stride)
        return frames.double() / max(out.shape[1], 1)

    def _convolve(self, x, mask):
        if x.shape[1] == 0:
            return x.new_zeros(len(x), 0, self.output_size)
        for block, stride in zip(self.blocks, self.strides):
            x = block(zero_padding(x, mask))
            mask = mask if mask is None else mask[:, ::stride]
        return zero_padding(x.flatten(2), mask)


class _Block(nn.Module):
    """Convolution, normalisation of each frame, activation and dropout."""

    def __init__(self, conv, norm, dropout):
        super().__init__()
        self.conv, self.norm = conv, norm
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        """[B, T, ..., C] in and out."""
        x = self.conv(x.movedim(-1, 1)).movedim(1, -1)
        return self.dropout(F.leaky_relu(self.norm(x)))


class ConvolutionFrontEnd(_FrontEnd):
    """Convolutions over time and frequency, each of stride 2 in both.

    Arguments
    ---------
    input_size : int
        Features of a frame.
    stride : int
        2, 4 or 8: input frames per output frame.
    channels : int
        Channels of the convolutions but the last.
    out_channels : int
        Channels of the last convolution.
    dropout : float
        Dropout after each.

    Example
    -------
    >>> net = ConvolutionFrontEnd(input_size=80, stride=4)
    >>> out, lengths = net(torch.randn(2, 101, 80))
    >>> out.shape, net.output_size
    (torch.Size([2, 26, 640]), 640)
    """

    def __init__(
        self, input_size, stride=4, channels=64, out_channels=32, dropout=0.0
    ):
        super().__init__()
        if stride not in (2, 4, 8):
            raise ValueError(f"stride must be 2, 4 or 8, not {stride}")
        number = stride.bit_length() - 1
        self.input_size, self.strides = input_size, (2,) * number
        self.blocks = nn.ModuleList()
        before, width = 1, input_size
        for i in range(number):
            after = out_channels if i == number - 1 else channels
            width = -(-width // 2)
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
            norm = nn.LayerNorm([width, after])
            self.blocks.append(_Block(conv, norm, dropout))
            before = after
        self.output_size = width * out_channels

    def _convolve(self, x, mask):
        return super()._convolve(x.unsqueeze(-1), mask)


class WaveformFrontEnd(_FrontEnd):
    """Convolutions over the raw waveform.

    Arguments
    ---------
    strides : list of int
        One a convolution; their product is the number of samples per output
        frame.
    channels : int
        Channels of every convolution.
    dropout : float
        Dropout after each.

    Example
    -------
    >>> net = WaveformFrontEnd(strides=[10, 8, 8], channels=32)
    >>> net(torch.randn(2, 16000, 1))[0].shape
    torch.Size([2, 25, 32])
    """

    def __init__(self, strides=(10, 8, 8), channels=256, dropout=0.0):
        super().__init__()
        self.input_size, self.output_size = 1, channels
        self.strides = tuple(strides)
        for stride in self.strides:
            check_number(stride, "strides", least=1, integer=True)
        self.blocks = nn.ModuleList(
            _Block(
                nn.Conv1d(
                    channels if i else 1,
                    channels,
                    2 * stride - 1,
                    stride=stride,
                    padding=stride - 1,
                ),
                nn.LayerNorm(channels),
                dropout,
            )
            for i, stride in enumerate(self.strides)
        )
