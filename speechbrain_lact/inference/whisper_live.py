"""Live transcription with Whisper: its encoder streams with a state, its
decoder says what is final.

Authors
* speechbrain_lact contributors 2026
"""

import functools
from dataclasses import dataclass, replace

import torch

from speechbrain_lact.inference.session import LiveSessions, fingerprint
from speechbrain_lact.inference.words import Hypothesis, Word
from speechbrain_lact.lobes.models.whisper.encoder import (
    FRAMES_PER_SECOND,
    StreamingWhisperState,
)
from speechbrain_lact.nnet.checks import check_number
from speechbrain_lact.nnet.counts import count_tensor
from speechbrain_lact.nnet.state import (
    State,
    Waiting,
    check_kind,
    counter,
    nested,
)
from speechbrain_lact.utils.dynamic_chunks import BlockSampler

# Frames of a segment before anything is decoded while it is open, and at all.
FIRST, LEAST = 50, 16


@dataclass
class LiveWhisperState(State):
    """All that a session carries: a value that can be saved and loaded."""

    encoder: StreamingWhisperState = nested(StreamingWhisperState)
    """Samples, windows and memory."""
    frames: Waiting = nested(Waiting)
    """Encoder frames of the segment so far [B, T, d_model]."""
    said: Waiting = nested(Waiting)
    """Its final tokens, and the frame of each [B, U, 2]."""
    begin: torch.Tensor = counter()
    """Frames before the segment [B]."""

    @property
    def learning(self):
        """Which rows learn [B]."""
        return self.encoder.encoder.learning

    def learn(self, rows):
        """Chooses which rows learn.

        Arguments
        ---------
        rows : torch.Tensor
            Booleans [B].

        Returns
        -------
        LiveWhisperState
        """
        inner = self.encoder
        return replace(
            self, encoder=replace(inner, encoder=inner.encoder.learn(rows))
        )


class LiveWhisper(LiveSessions):
    """Live sessions, with what `speechbrain_lact.inference.session.Session`
    asks of a model.

    Arguments
    ---------
    encoder : StreamingWhisper
    decoder : AlignedDecoder
    block : int
        Frames of 20 ms that are answered together.
    left_context : int
        Frames before a block that the window holds.
    """

    sample_rate, state_class = 16000, LiveWhisperState

    def __init__(self, encoder, decoder, block=16, left_context=256):
        self.encoder, self.decoder = encoder, decoder
        self.left_context = left_context
        self.set_block(block)

    def set_block(self, block):
        """Chooses the look-ahead: a frame sees its own block.

        Arguments
        ---------
        block : int
            Frames of 20 ms; longer ones give fewer errors, later.
        """
        check_number(block, "block", least=1, integer=True)
        self.block = block
        self.blocks = BlockSampler([block], self.left_context).config(block)

    @property
    def device(self):
        """Where the model lies."""
        return self.encoder.positions.device

    @functools.cached_property
    def _fingerprint(self):
        return fingerprint(self.encoder)

    @property
    def identity(self):
        """What files of states belong to."""
        layers = self.encoder.encoder.layers
        return {
            "model": self._fingerprint,
            "block": self.block,
            "left_blocks": self.blocks.left_context_size,
            "hold": self.decoder.hold,
            **self.encoder.configuration(),
            "layers": [layer.mixer.configuration() for layer in layers],
        }

    def initial_state(self, batch=1):
        """State of sessions that have heard nothing.

        Arguments
        ---------
        batch : int

        Returns
        -------
        LiveWhisperState
        """
        like = self.encoder.positions
        zeros = torch.zeros(batch, dtype=torch.long, device=like.device)
        return LiveWhisperState(
            self.encoder.initial_state(batch),
            Waiting.empty(like.new_zeros(batch, 0, like.shape[1])),
            Waiting.empty(zeros.new_zeros(batch, 0, 2)),
            zeros,
        )

    def check_state(self, state, rows=None, what="state"):
        """Refuses a state that is not of this model.

        Arguments
        ---------
        state : LiveWhisperState
        rows : int, optional
            How many rows it must have.
        what : str
            What it is called in messages.

        Returns
        -------
        LiveWhisperState
            On the model's device.
        """
        check_kind(state, LiveWhisperState, what)
        state.check(self.initial_state(0), rows, what)
        return state.to(self.device)

    @torch.no_grad()
    def step(self, state, wavs, wav_lens, final):
        """What samples add, and the state after them.

        Arguments
        ---------
        state : LiveWhisperState
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].
        final : bool
            Whether the recordings end with these samples.

        Returns
        -------
        list of Hypothesis
        LiveWhisperState
        """
        out, encoder = self.encoder(
            wavs, wav_lens, state.encoder, final, blocks=self.blocks
        )
        found, frames, said, begin, keys = [], [], [], [], []
        known = _known_keys(state.frames.frames)
        for row in range(len(wavs)):
            segment = _Segment(
                state.frames.frames[row, : int(state.frames.counts[row])],
                state.said.frames[row, : int(state.said.counts[row])].tolist(),
                int(state.begin[row]),
                known and known[row],
            )
            count = int(out.lengths[row])
            hypothesis = self._decode(
                segment, out.frames[row, :count], out.begins[row, :count], final
            )
            found.append(hypothesis)
            frames.append(segment.frames)
            said.append(
                torch.tensor(segment.said, dtype=torch.long).view(-1, 2)
            )
            begin.append(segment.begin)
            keys.append(segment.keys)
        frames = _stack(frames, self.device)
        frames.frames.cross_keys = frames.frames._version, keys
        return found, LiveWhisperState(
            encoder,
            frames,
            _stack(said, self.device),
            count_tensor(begin, self.device),
        )

    def _decode(self, segment, frames, begins, final):
        """What new frames of a row add; `segment` goes on."""
        hypothesis = Hypothesis()
        for part, starts in zip(
            frames.split(self.block), begins.split(self.block)
        ):
            at = 0
            for place in starts.nonzero().flatten().tolist():
                segment.add(part[at:place])
                at = place
                if len(segment.frames):
                    self._close(segment, hypothesis)
            segment.add(part[at:])
            if len(segment.frames) >= FIRST:
                new = segment.decode(self.decoder)
                segment.say(new.tokens, self.decoder, hypothesis)
                hypothesis.changing = "".join(
                    self.decoder.piece(t) for t, _ in new.changing
                ).strip()
        if final:
            self._close(segment, hypothesis)
            segment.begin = 0
        return hypothesis

    def _close(self, segment, hypothesis):
        """The last words of a segment."""
        if len(segment.frames) >= LEAST:
            new = segment.decode(self.decoder, closed=True)
            segment.say(new.tokens, self.decoder, hypothesis)
        hypothesis.changing = ""
        segment.begin += len(segment.frames)
        segment.frames, segment.said, segment.keys = (
            segment.frames[:0],
            [],
            None,
        )


class _Segment:
    """Frames and final tokens of the segment that is open."""

    def __init__(self, frames, said, begin, keys):
        self.frames, self.said, self.begin = frames, said, begin
        self.keys = keys

    def decode(self, decoder, closed=False):
        """What the frames say; keys and values of the decoder's cross
        attention are kept."""
        self.keys = decoder.keys(self.frames, self.keys)
        return decoder(self.frames, self.said, closed, self.keys)

    def add(self, frames):
        """More frames."""
        self.frames = torch.cat([self.frames, frames])

    def say(self, tokens, decoder, hypothesis):
        """More final tokens, as words; marks that come after their word are
        words of their own."""
        last = None
        for token, frame in tokens:
            seconds = (self.begin + frame) / FRAMES_PER_SECOND
            text = decoder.piece(token)
            if last is None or text.startswith(" "):
                last = Word("", round(seconds, 3), 0.0)
                hypothesis.words.append(last)
            last.text += text.strip()
            last.end = round(seconds + 1 / FRAMES_PER_SECOND, 3)
        self.said = self.said + [list(pair) for pair in tokens]


def _known_keys(frames):
    """Of each row what the decoder's cross attention takes from its frames,
    or None: a state that was loaded, joined or changed has frames only."""
    version, keys = getattr(frames, "cross_keys", (None, None))
    return keys if version == frames._version else None


def _stack(rows, device):
    """Rows of different lengths as a `Waiting`."""
    frames = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    counts = count_tensor([len(row) for row in rows], device)
    return Waiting(frames.to(device), counts)
