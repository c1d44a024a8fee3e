"""Lyra V2 as a tokenizer: SoundStream (N. Zeghidour et al., "SoundStream: an
end-to-end neural audio codec", 2021) as Google has released it for phones.

The weights are Lyra's, under the Apache License 2.0, and no part of this
package: https://github.com/google/lyra, folder `lyra/model_coeffs`. Who passes
them on does so with their licence.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.audio_tokenizers.base import (
    PADDING,
    AudioTokenizer,
)
from speechbrain_lact.nnet.checks import check_tensor, check_waves
from speechbrain_lact.nnet.counts import same_number
from speechbrain_lact.nnet.state import State, buffer, check_kind

INSTALL = 'pip install "speechbrain_lact[lyra]"'
LICENCE = "Lyra V2, Copyright Google LLC, Apache License 2.0"
FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
RATE, HOP, FEATURES = 16000, 320, 64
CODES, VALUES, BITS = 46, 16, 4
LEAST = 16  # of 3.2 kbit/s, the lowest that Lyra offers
# Frames to the left that a frame depends on: from 25 on nothing changes.
CONTEXT = 32
GROUPS = (1, 2, 4)


@dataclass
class EncodeState(State):
    """Where an encoding in pieces stands."""

    samples: torch.Tensor = buffer("left")
    """Those that frames to come may need [B, N]."""
    frames: torch.Tensor = None
    """Frames encoded so far [B]."""


class LyraTokenizer(AudioTokenizer):
    """Lyra V2: 16 kHz, 50 frames a second, up to 46 codes of 16 values.

    It runs on the CPU, rows one after the other, and is never trained.
    `encode_stream` and `decode_stream` are exact: what they give in pieces is
    what `encode` and `decode` give. Each piece costs a start of the codec (30
    ms) and 32 frames that are computed again: take pieces of half a second or
    more.

    Arguments
    ---------
    folder : str or Path
        Where the weights are: `soundstream_encoder.tflite`, `quantizer.tflite`
        and `lyragan.tflite`.
    num_codes : int
        How many codes of a frame to use, from 16 (3.2 kbit/s) to 46 (9.2).
    group : int
        How many codes make a token: 1, 2 or 4. There are num_codes / group
        codebooks of 16 ** group tokens.

    Raises
    ------
    ImportError
        If the package ai-edge-litert is not installed.
    ValueError
        If the files are not there or not Lyra's, or for other numbers.

    Example
    -------
    >>> lyra = LyraTokenizer("lyra", num_codes=16)  # doctest: +SKIP
    >>> tokens = lyra.encode(torch.randn(1, 16000))  # doctest: +SKIP
    >>> tokens.shape, lyra.bits_per_second  # doctest: +SKIP
    (torch.Size([1, 50, 8]), 3200.0)
    >>> lyra.decode(tokens).shape  # doctest: +SKIP
    torch.Size([1, 16000])
    """

    def __init__(self, folder, num_codes=LEAST, group=2):
        if group not in GROUPS:
            raise ValueError(f"group: 1, 2 or 4 codes a token, not {group}")
        if not LEAST <= num_codes <= CODES or num_codes % group:
            raise ValueError(
                f"num_codes: from {LEAST} to {CODES} in whole groups of "
                f"{group}, not {num_codes}"
            )
        super().__init__(
            RATE, HOP, [VALUES**group] * (num_codes // group), CONTEXT, 0
        )
        self.num_codes, self.group = num_codes, group
        self._encoder, quantizer, self._decoder = _read(Path(folder))
        self._quantize = quantizer.get_signature_runner("encode")
        self._restore = quantizer.get_signature_runner("decode")

    @torch.no_grad()
    def encode(self, wav, wav_len=None):
        """As `AudioTokenizer.encode`; a last frame that is not whole is filled
        up with silence."""
        check_waves(wav, what="wav")
        rows = []
        for row, n in zip(wav, sample_counts(wav, wav_len).tolist()):
            row = F.pad(row[:n].float().cpu(), (0, -n % HOP))
            frames = _run(self._encoder, row.view(-1, 1, HOP).numpy())
            codes = [self._codes(frame) for frame in frames]
            codes = np.array(codes, "int64").reshape(-1, self.num_codes)
            rows.append(self._join(torch.from_numpy(codes)).to(wav.device))
        return pad_sequence(rows, True, PADDING)

    @torch.no_grad()
    def decode(self, tokens):
        """As `AudioTokenizer.decode`."""
        self.check(tokens)
        wav = torch.zeros(len(tokens), tokens.shape[1] * HOP)
        for out, row in zip(wav, tokens.cpu()):
            codes = self._split(_whole_frames(row)).numpy().astype("int32")
            frames = [self._features(frame) for frame in codes]
            made = _run(self._decoder, frames)
            out[: made.size] = torch.from_numpy(made).flatten()
        return wav.to(tokens.device)

    def encode_stream(self, wav, state=None, final=False):
        """Encodes in pieces of any length; joined they are what `encode`
        gives.

        Arguments
        ---------
        wav : torch.Tensor
            What is new [B, S], the same number of samples of each row.
        state : EncodeState, optional
            Where to go on.
        final : bool
            Whether nothing follows: a last frame that is not whole is filled
            up with silence.

        Returns
        -------
        tokens : torch.Tensor
            Of the frames that are whole [B, T, K].
        state : EncodeState
        """
        check_tensor(wav, ("B", "S"), "wav")
        if state is None:
            none = torch.zeros(len(wav), dtype=torch.long, device=wav.device)
            state = EncodeState(wav[:, :0], none)
        check_kind(state, EncodeState)
        state.check_rows(len(wav))
        before = same_number(state.frames)
        if before is None:
            raise ValueError("rows encoded in pieces go in step")
        samples = torch.cat([state.samples, wav], 1)
        again, count = min(before, CONTEXT), samples.shape[1]
        frames = -(-count // HOP) if final else count // HOP
        tokens = state.frames.new_zeros(len(wav), 0, len(self.codebook_sizes))
        if frames > again:
            tokens = self.encode(samples[:, : frames * HOP])[:, again:]
        first = max(frames - CONTEXT, 0) * HOP
        after = state.frames + tokens.shape[1]
        return tokens, EncodeState(samples[:, first:], after)

    def to_bytes(self, tokens):
        """Tokens as a stream, four bits a code.

        Arguments
        ---------
        tokens : torch.Tensor
            Of one row [T, K].

        Returns
        -------
        bytes
            As many for each frame; codes in order, the first of two in the
            upper half of a byte.
        """
        self.check(tokens[None])
        codes = self._split(_whole_frames(tokens.cpu()))[:, : self.num_codes]
        if bool((codes == PADDING).any()):
            raise ValueError("tokens: all codebooks are needed in a stream")
        codes = F.pad(codes, (0, self.num_codes % 2)).to(torch.uint8)
        return (codes[:, ::2] * VALUES + codes[:, 1::2]).numpy().tobytes()

    def from_bytes(self, data):
        """Tokens of a stream.

        Arguments
        ---------
        data : bytes
            As `to_bytes` writes it.

        Returns
        -------
        torch.Tensor
            [T, K]

        Raises
        ------
        ValueError
            If it is cut short.
        """
        size = -(-self.num_codes // 2)
        frames, rest = divmod(len(data), size)
        if rest:
            raise ValueError(
                f"the stream is cut short: of frame {frames + 1} there are "
                f"{rest} of {size} bytes"
            )
        pairs = torch.tensor(list(data), dtype=torch.long)
        codes = torch.stack([pairs // VALUES, pairs % VALUES], -1)
        return self._join(codes.view(frames, 2 * size)[:, : self.num_codes])

    def _codes(self, frame):
        """Codes of the encoder's features."""
        number = np.array(self.num_codes, "int32")
        found = self._quantize(input_frames=frame, num_quantizers=number)
        return found["output_0"].ravel()[: self.num_codes]

    def _features(self, codes):
        """The decoder's input for the codes of a frame."""
        codes = codes.reshape(CODES, 1, 1)
        return self._restore(encoding_indices=codes)["output_0"]

    def _join(self, codes):
        """Codes [T, num_codes] as tokens [T, K]."""
        codes = codes.unflatten(-1, (-1, self.group))
        tokens = codes[..., 0]
        for code in codes.unbind(-1)[1:]:
            tokens = tokens * VALUES + code
        return tokens

    def _split(self, tokens):
        """Tokens [T, K'] as codes [T, 46], -1 for those that are not used."""
        parts = [
            tokens // VALUES**place % VALUES
            for place in reversed(range(self.group))
        ]
        codes = torch.stack(parts, -1).flatten(-2)
        return F.pad(codes, (0, CODES - codes.shape[-1]), value=PADDING)


def _read(folder):
    """Encoder and decoder as bytes, and the quantizer."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ImportError(
            f"Lyra needs the package ai-edge-litert: {INSTALL} ({error})"
        ) from error
    read, shapes = [], []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"{folder}: {name} is missing: copy Lyra's model_coeffs there"
            )
        read.append(path.read_bytes())
        try:
            net = Interpreter(model_content=read[-1], num_threads=1)
        except ValueError as error:
            raise ValueError(
                f"{path}: damaged or no TFLite file ({error}): copy it again"
            ) from error
        shapes.append(
            [
                tuple(map(int, details[0]["shape"]))
                for details in (
                    net.get_input_details(),
                    net.get_output_details(),
                )
            ]
        )
        if name == "quantizer.tflite":
            read[-1] = net
    frame, codes = (1, 1, FEATURES), (CODES, 1, 1)
    wanted = [[(1, HOP), frame], [codes, frame], [frame, (1, HOP)]]
    for name, found, right in zip(FILES, shapes, wanted):
        if found != right:
            raise ValueError(
                f"{folder / name}: not Lyra V2: from {found[0]} to {found[1]}"
            )
    return read


def _run(model, frames):
    """What a network with a memory makes of frames, from its beginning.

    Setting its memory back is not enough: it is then zero, where a new one
    begins with what zero is in 8 bits.
    """
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=model, num_threads=1)
    net.allocate_tensors()
    (source,), (target,) = net.get_input_details(), net.get_output_details()
    made = []
    for frame in frames:
        net.set_tensor(source["index"], frame)
        net.invoke()
        made.append(net.get_tensor(target["index"]))
    return np.array(made, "float32")


def _whole_frames(row):
    """Frames of a row [T, K] without the padding after them."""
    there = row != PADDING
    count = int(there.any(-1).sum())
    inside = there[:count]
    if not bool(inside.all()):
        frame = int((~inside.all(-1)).nonzero()[0])
        raise ValueError(
            f"tokens: the stream is cut short: frame {frame + 1} has "
            f"{int(there[frame].sum())} of {row.shape[1]} codebooks"
        )
    return row[:count]
