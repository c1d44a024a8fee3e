"""What all tokenizers of audio have: one interface, and decoding in pieces.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch
from torch import nn

from speechbrain_lact.nnet.checks import describe
from speechbrain_lact.nnet.counts import same_number
from speechbrain_lact.nnet.cross_fade import cross_fade
from speechbrain_lact.nnet.state import State, buffer, check_kind

PADDING = -1  # stands after a row's last token


@dataclass
class DecodeState(State):
    """Where a decoding in pieces stands."""

    tokens: torch.Tensor = buffer("left")
    """The last frames [B, F, K], as many as frames to come may need."""
    frames: torch.Tensor = None
    """Frames heard so far [B]."""
    tail: torch.Tensor = buffer("left")
    """Samples [B, N] that fade into the next ones."""


class AudioTokenizer(nn.Module):
    """What all tokenizers have.

    Arguments
    ---------
    sample_rate : int
        Of the audio, in Hz.
    hop : int
        Samples of a frame of tokens.
    codebook_sizes : list of int
        Number of tokens of each codebook.
    context, look_ahead : int
        Frames to the left and right that a frame's samples depend on.
    fade : int
        Samples over which pieces decoded one after the other are cross-faded:
        for decoders that depend on more than that. 0 where they do not.
    """

    def __init__(
        self, sample_rate, hop, codebook_sizes, context, look_ahead, fade=0
    ):
        super().__init__()
        self.sample_rate, self.hop, self.fade = sample_rate, hop, fade
        self.codebook_sizes = list(codebook_sizes)
        # What fades lies behind what is certain.
        self.context, self.look_ahead = context, look_ahead + -(-fade // hop)

    @property
    def frame_rate(self):
        """Frames per second."""
        return self.sample_rate / self.hop

    @property
    def bits_per_second(self):
        """What the tokens cost."""
        sizes = torch.tensor(self.codebook_sizes, dtype=torch.float64)
        return float(sizes.log2().sum() * self.frame_rate)

    def encode(self, wav, wav_len=None):
        """Tokens of a batch of waveforms.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        torch.Tensor
            [B, T, K], `PADDING` after a row's last frame.
        """
        raise NotImplementedError

    def decode(self, tokens):
        """Audio of tokens.

        Arguments
        ---------
        tokens : torch.Tensor
            [B, T, K'], `PADDING` after a row's last frame; of the first K'
            codebooks.

        Returns
        -------
        torch.Tensor
            [B, T * hop], zeros after a row's end.
        """
        raise NotImplementedError

    def check(self, tokens):
        """Refuses tokens that no codebook has.

        Arguments
        ---------
        tokens : torch.Tensor
            [B, T, K']

        Raises
        ------
        ValueError
            For another shape or type, or tokens out of range.
        """
        most = len(self.codebook_sizes)
        if not isinstance(tokens, torch.Tensor) or tokens.dtype == torch.bool:
            raise ValueError(f"tokens: integers, not {describe(tokens)}")
        if tokens.is_floating_point():
            raise ValueError(f"tokens: {tokens.dtype}, but tokens are integers")
        if tokens.ndim != 3 or not 1 <= tokens.shape[2] <= most:
            raise ValueError(
                f"tokens: {list(tokens.shape)}, but this tokenizer has "
                f"[batch, frames, {most} codebooks or fewer]"
            )
        sizes = self.codebook_sizes[: tokens.shape[2]]
        sizes = torch.tensor(sizes, device=tokens.device)
        wrong = (tokens < PADDING) | (tokens >= sizes)
        if bool(wrong.any()):
            raise ValueError(
                f"tokens: {int(tokens[wrong][0])} is in none of the codebooks "
                f"of {self.codebook_sizes} tokens"
            )

    def decode_stream(self, tokens, state=None, final=False):
        """Decodes in pieces of any length; joined they are what `decode`
        gives, or near it where the tokenizer has a `fade`.

        Arguments
        ---------
        tokens : torch.Tensor
            What is new [B, T, K], the same number of frames of each row.
        state : DecodeState, optional
            Where to go on.
        final : bool
            Whether nothing follows.

        Returns
        -------
        wav : torch.Tensor
            Samples that what follows cannot change [B, S].
        state : DecodeState
        """
        self.check(tokens)
        if state is None:
            state = DecodeState(
                tokens[:, :0],
                tokens.new_zeros(len(tokens), dtype=torch.long),
                tokens.new_zeros(len(tokens), 0, dtype=torch.float32),
            )
        check_kind(state, DecodeState)
        state.check_rows(len(tokens))
        before = same_number(state.frames)
        if before is None:
            raise ValueError("rows decoded in pieces go in step")
        frames = torch.cat([state.tokens, tokens], 1)
        after = before + tokens.shape[1]
        # Frames whose samples were, and are now, certain.
        done = max(before - self.look_ahead, 0)
        sure = after if final else max(after - self.look_ahead, done)
        first = after - frames.shape[1]
        # What the first frame to come out next depends on
        kept = self.context + self.look_ahead
        kept = frames[:, max(0, frames.shape[1] - kept) :]
        wav, tail = state.tail[:, :0], state.tail
        if sure > done:
            begin, end = ((x - first) * self.hop for x in (done, sure))
            fade = 0 if final else self.fade
            wav = self.decode(frames)[:, begin : end + fade]
            old, new = tail, wav[:, : tail.shape[1]]
            wav = torch.cat([cross_fade(old, new), wav[:, tail.shape[1] :]], 1)
            wav, tail = wav[:, : end - begin], wav[:, end - begin :]
        after = torch.full_like(state.frames, after)
        return wav, DecodeState(kept, after, tail)
