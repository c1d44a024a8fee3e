"""A tokenizer of our own: quantized log-mel frames and a causal vocoder.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F
import torchaudio
from torch import nn

from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.audio_tokenizers.base import (
    PADDING,
    AudioTokenizer,
)
from speechbrain_lact.nnet.checks import check_waves
from speechbrain_lact.nnet.frames import length_mask, padding_mask, zero_padding

FLOOR = 1e-5  # least value of a mel band, about -100 dB


class CausalBlock(nn.Module):
    """A ConvNeXt block that sees the past alone (Siuzdak, "Vocos", 2023)."""

    def __init__(self, width, kernel_size, scale):
        super().__init__()
        self.left = kernel_size - 1
        self.conv = nn.Conv1d(width, width, kernel_size, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 3 * width)
        self.shrink = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x):
        """[B, T, W] in and out."""
        y = F.pad(x, (0, 0, self.left, 0)).transpose(1, 2)
        y = self.norm(self.conv(y).transpose(1, 2))
        return x + self.scale * self.shrink(F.gelu(self.expand(y)))


class CausalVocoder(nn.Module):
    """Waveform of mel frames: a causal network says magnitude and phase of
    each frame, an inverse Fourier transform does the rest.

    Arguments
    ---------
    input_size : int
        Mel bands.
    hop, n_fft : int
        Samples from frame to frame, and of the transform.
    width, num_blocks, kernel_size : int
        Sizes of the network.
    look_ahead : int
        Frames to come that it may see.

    Example
    -------
    >>> vocoder = CausalVocoder(8, hop=16, n_fft=32, width=12, num_blocks=1)
    >>> vocoder(torch.randn(2, 5, 8)).shape
    torch.Size([2, 80])
    """

    def __init__(
        self,
        input_size,
        hop,
        n_fft,
        width=256,
        num_blocks=6,
        kernel_size=7,
        look_ahead=2,
    ):
        super().__init__()
        self.hop, self.n_fft, self.look_ahead = hop, n_fft, look_ahead
        self.left = kernel_size - 1
        self.conv = nn.Conv1d(input_size, width, kernel_size)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            CausalBlock(width, kernel_size, 1 / num_blocks)
            for _ in range(num_blocks)
        )
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, n_fft + 2)
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window, persistent=False)

    @property
    def context(self):
        """Frames to the left that a sample depends on."""
        return self.left * (1 + len(self.blocks)) + self.overlap

    @property
    def overlap(self):
        """Frames on either side whose windows reach into a frame."""
        return -(-(self.n_fft - self.hop) // (2 * self.hop))

    def forward(self, x, mask=None):
        """Audio of mel frames.

        Arguments
        ---------
        x : torch.Tensor
            [B, T, F]
        mask : torch.Tensor, optional
            [B, T], True = real frame.

        Returns
        -------
        torch.Tensor
            [B, T * hop]
        """
        x = zero_padding(x, mask)
        x = F.pad(x, (0, 0, self.left, self.look_ahead)).transpose(1, 2)
        x = self.norm_in(self.conv(x).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        x = self.head(self.norm_out(x[:, self.look_ahead :]))
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        size, phase = x.chunk(2, -1)
        spectrum = torch.polar(size.clamp(max=7.0).exp(), phase)
        frames = torch.fft.irfft(spectrum) * self.window
        there = self.window.square().expand(1, x.shape[1], -1)
        if mask is not None:
            frames = zero_padding(frames, mask)
            there = there * mask[..., None]
        wav = self._add(frames) / self._add(there).clamp(min=1e-3)
        if mask is None:
            return wav
        return zero_padding(wav, mask.repeat_interleave(self.hop, 1))

    def _add(self, frames):
        """Overlapping frames [B, T, N] summed [B, T * hop]."""
        time = frames.shape[1]
        size = (time - 1) * self.hop + self.n_fft
        total = F.fold(
            frames.transpose(1, 2),
            (1, size),
            (1, self.n_fft),
            stride=(1, self.hop),
        )[:, 0, 0]
        side = (self.n_fft - self.hop) // 2
        return total[:, side : side + time * self.hop]


class MelTokenizer(AudioTokenizer):
    """Residual vector quantization of log-mel frames, and a small causal
    vocoder.

    Arguments
    ---------
    sample_rate, hop, n_fft, n_mels : int
        Of the frames.
    num_codebooks, codebook_size : int
        Of the quantizer.
    **kwargs : dict
        Sizes of the `CausalVocoder`.

    Raises
    ------
    ValueError
        If windows of `n_fft` cannot be centred on frames of `hop`.

    Example
    -------
    >>> tokenizer = MelTokenizer(num_codebooks=2, codebook_size=8, width=8)
    >>> tokens = tokenizer.encode(torch.randn(1, 1000))
    >>> tokens.shape, tokenizer.decode(tokens).shape
    (torch.Size([1, 4, 2]), torch.Size([1, 1280]))
    """

    def __init__(
        self,
        sample_rate=16000,
        hop=320,
        n_fft=1024,
        n_mels=80,
        num_codebooks=8,
        codebook_size=256,
        **kwargs,
    ):
        if n_fft < hop or (n_fft - hop) % 2:
            raise ValueError(
                f"n_fft: {n_fft}, but it must exceed hop ({hop}) by an even "
                f"number"
            )
        vocoder = CausalVocoder(n_mels, hop, n_fft, **kwargs)
        super().__init__(
            sample_rate,
            hop,
            [codebook_size] * num_codebooks,
            vocoder.context,
            vocoder.look_ahead + vocoder.overlap,
        )
        self.n_fft, self.vocoder = n_fft, vocoder
        shape = (num_codebooks, codebook_size, n_mels)
        self.register_buffer("codebooks", torch.randn(shape))
        self.register_buffer("mean", torch.zeros(n_mels))
        self.register_buffer("std", torch.ones(n_mels))
        mels = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1,
            0.0,
            sample_rate / 2,
            n_mels,
            sample_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        self.register_buffer("mels", mels, persistent=False)

    def features(self, wav, wav_len=None):
        """Log-mel frames, normalised.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        feats : torch.Tensor
            [B, T, F]
        lengths : torch.Tensor
            Frames of each row [B]; the last one may be in part zeros.
        """
        check_waves(wav, what="wav")
        # A Fourier transform wants fp32 at least.
        core = torch.promote_types(self.mean.dtype, torch.float32)
        wav = wav.to(core)
        counts = sample_counts(wav, wav_len)
        wav = zero_padding(wav, padding_mask(counts, wav.shape[1]))
        lengths = -(-counts // self.hop)
        time = int(lengths.max()) if len(lengths) else 0
        wav = wav[:, : time * self.hop]
        if not time:
            return wav.new_zeros(len(wav), 0, len(self.mean)), lengths
        side = (self.n_fft - self.hop) // 2
        rest = time * self.hop - wav.shape[1]
        frames = F.pad(wav, (side, side + rest)).unfold(1, self.n_fft, self.hop)
        size = torch.fft.rfft(frames * self.vocoder.window).abs()
        feats = (size @ self.mels.to(core)).clamp(min=FLOOR).log()
        return (feats - self.mean) / self.std, lengths

    def quantize(self, feats):
        """Nearest code of each codebook, one after the other.

        Arguments
        ---------
        feats : torch.Tensor
            [..., F]

        Returns
        -------
        torch.Tensor
            [..., K]
        """
        rest, tokens = feats.flatten(0, -2), []
        for codes in self.codebooks.to(feats.dtype):
            near = codes.square().sum(1) - 2 * rest @ codes.T
            tokens.append(near.argmin(1))
            rest = rest - codes[tokens[-1]]
        return torch.stack(tokens, 1).unflatten(0, feats.shape[:-1])

    def dequantize(self, tokens):
        """Frames of tokens [..., K'], of the first K' codebooks [..., F];
        a token that is not there (`PADDING`) adds nothing."""
        total = self.codebooks.new_zeros(*tokens.shape[:-1], len(self.mean))
        for codes, column in zip(self.codebooks, tokens.unbind(-1)):
            said = codes[column.clamp(min=0)]
            total = total + said * (column >= 0)[..., None]
        return total

    def encode(self, wav, wav_len=None):
        """As `AudioTokenizer.encode`."""
        feats, lengths = self.features(wav, wav_len)
        tokens = self.quantize(feats)
        there = length_mask(lengths, tokens.shape[1])
        return tokens.masked_fill(~there[..., None], PADDING)

    def decode(self, tokens):
        """As `AudioTokenizer.decode`."""
        self.check(tokens)
        tokens = tokens.to(self.mean.device)
        if not tokens.shape[1]:
            return self.mean.new_zeros(len(tokens), 0)
        lengths = (tokens[..., 0] >= 0).sum(1)
        mask = padding_mask(lengths, tokens.shape[1])
        return self.vocoder(self.dequantize(tokens), mask)

    def griffin_lim(self, feats, iterations=32):
        """Audio of mel frames without the vocoder.

        Arguments
        ---------
        feats : torch.Tensor
            [T, F], as of `features` or `dequantize`.
        iterations : int
            How often the phase is made more consistent.

        Returns
        -------
        torch.Tensor
            [T * hop]
        """
        mels = (feats * self.std + self.mean).exp()
        size = (mels @ torch.linalg.pinv(self.mels)).clamp(min=FLOOR)
        wav = torchaudio.functional.griffinlim(
            size.T,
            self.vocoder.window,
            self.n_fft,
            self.hop,
            self.n_fft,
            1.0,
            iterations,
            0.99,
            None,
            False,
        )
        # Its first frame is centred on sample 0, ours half a hop later.
        return F.pad(wav, (self.hop // 2, len(feats) * self.hop - len(wav)))[
            : len(feats) * self.hop
        ]
