"""What a session of transcription carries, its file, and a live session.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.lobes.models.pipeline import PipelineState
from speechbrain_lact.nnet.checks import check_number
from speechbrain_lact.nnet.state import State, Waiting, counter, nested

logger = get_logger(__name__)


@dataclass
class SessionState(State):
    """All that a session carries: a value that can be saved and loaded."""

    pipeline: PipelineState = nested(PipelineState)
    """Memory, windows and samples."""
    said: Waiting = nested(Waiting)
    """Token and frame of what was said of the unfinished word [B, W, 2]."""
    last: torch.Tensor = counter()
    """Token of the last frame [B]."""
    frames: torch.Tensor = counter()
    """Encoder frames so far [B]."""

    @property
    def learning(self):
        """Which rows learn [B]."""
        return self.pipeline.encoder.learning

    def learn(self, rows):
        """Chooses which rows learn.

        Arguments
        ---------
        rows : torch.Tensor
            Whether each row does [B].

        Returns
        -------
        SessionState
        """
        encoder = self.pipeline.encoder.learn(rows)
        return replace(self, pipeline=replace(self.pipeline, encoder=encoder))

    def check_tokens(self, count, what="state"):
        """Refuses tokens and frames that no session can have.

        Arguments
        ---------
        count : int
            Tokens of the model.
        what : str
            What the state is called in messages.
        """
        tokens = [self.last.flatten(), self.said.frames[..., :1].flatten()]
        if bool((torch.cat(tokens) >= count).any()):
            raise ValueError(f"{what}: tokens beyond the {count} of this model")
        if bool((self.said.frames < 0).any()):
            raise ValueError(f"{what}.said: tokens or frames below 0")


class Session:
    """A live transcription, made by `LaCTASR.stream`.

    Arguments
    ---------
    asr : LaCTASR
        The model.
    state : SessionState
        Where to go on. All that the session knows of the audio is in it.
    max_lag : float, optional
        As `LaCTASR.stream`.
    clock : callable
        As `LaCTASR.stream`.
    """

    def __init__(self, asr, state, max_lag=None, clock=time.monotonic):
        self.asr, self.state, self.clock = asr, state, clock
        self.max_lag, self.lag = max_lag, 0.0
        self.behind = self.closed = False

    def feed(self, samples):
        """Transcribes the next samples.

        Arguments
        ---------
        samples : torch.Tensor
            [S] at the model's rate, any number of them.

        Returns
        -------
        Hypothesis
        """
        return self.asr.feed([self], [samples])[0]

    def finish(self):
        """Ends the session.

        Returns
        -------
        Hypothesis
            The last words.
        """
        return self.asr.feed([self], [torch.zeros(0)], final=True)[0]

    def save(self, path):
        """Writes the state, for `LaCTASR.load_state`.

        Arguments
        ---------
        path : str or Path
            The file.
        """
        self.asr.save_state(self.state, path)

    def check(self, samples):
        """The samples, if they can be used.

        Arguments
        ---------
        samples : torch.Tensor
            [S]

        Returns
        -------
        torch.Tensor
        """
        if self.closed:
            raise ValueError("the session is finished: begin another one")
        samples = torch.as_tensor(samples).to(self.asr.device)
        if samples.ndim != 1 or not samples.is_floating_point():
            raise ValueError(
                f"samples: one channel of floats between -1 and 1, not "
                f"{samples.dtype} {tuple(samples.shape)}"
            )
        if not bool(samples.isfinite().all()):
            raise ValueError("samples: not all are finite")
        return samples

    def advance(self, seconds, took):
        """Counts how far the session is behind real time.

        Arguments
        ---------
        seconds : float
            Length of a piece of audio.
        took : float
            Seconds spent on it.
        """
        self.lag = max(self.lag + took - seconds, 0.0)
        late = self.max_lag is not None and self.lag > self.max_lag
        if late and not self.behind:
            logger.warning(
                "%.1f s behind real time: reading the memory without learning",
                self.lag,
            )
        if self.behind and self.lag == 0:
            logger.warning("caught up with real time: learning again")
        self.behind = late or (self.behind and self.lag > 0)


class LiveSessions:
    """Sessions of a recogniser, live and in files.

    A subclass has `state_class` (with `learning` and `learn`), `sample_rate`,
    `device`, `identity`, `initial_state`, `check_state` and
    `step(state, wavs, wav_lens, final)`, which returns a hypothesis a row and
    the state after them.
    """

    state_class = SessionState

    def save_state(self, state, path):
        """Writes a state to a file, whole or not at all.

        Arguments
        ---------
        state : State
            Of a session or from `adapt_to_speaker`.
        path : str or Path
            The file.
        """
        self.check_state(state).save(str(path), self.identity)

    def load_state(self, path, rows=None):
        """Reads what `save_state` has written.

        Arguments
        ---------
        path : str or Path
            The file.
        rows : int, optional
            How many rows it must have.

        Returns
        -------
        State

        Raises
        ------
        ValueError
            If the file is missing, damaged, or of another model or version.
        """
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        state = self.state_class.load(str(path), self.identity)
        return self.check_state(state, rows, str(path))

    def stream(self, state=None, max_lag=None, clock=time.monotonic):
        """Begins a live session.

        Arguments
        ---------
        state : State, optional
            Where to go on, or the memory to begin with.
        max_lag : float, optional
            Seconds behind real time at which the session stops learning, and
            only reads its memory until it has caught up.
        clock : callable
            Seconds, to measure the lag with.

        Returns
        -------
        Session
        """
        if max_lag is not None:
            check_number(max_lag, "max_lag", least=0)
        if state is None:
            state = self.initial_state()
        state = self.check_state(state, rows=1)
        return Session(self, state, max_lag, clock)

    def feed(self, sessions, pieces, final=False):
        """Advances many sessions in one step of the model.

        Arguments
        ---------
        sessions : list of Session
            Each once; of whatever age.
        pieces : list of torch.Tensor
            New samples of each [S], any number.
        final : bool
            Whether these are the last ones.

        Returns
        -------
        list of Hypothesis
            What each piece added.
        """
        if not sessions or len(sessions) != len(pieces):
            raise ValueError(
                f"{len(sessions)} sessions, but {len(pieces)} pieces: at least "
                f"one session, and a piece for each"
            )
        if len({id(session) for session in sessions}) != len(sessions):
            raise ValueError("a session cannot be fed twice in one step")
        pieces = [
            session.check(piece) for session, piece in zip(sessions, pieces)
        ]
        begins = [session.clock() for session in sessions]
        state = self.state_class.cat([session.state for session in sessions])
        # A memory that is not to learn does not, late or not.
        wanted = state.learning
        late = [session.behind for session in sessions]
        late = torch.tensor(late, device=wanted.device)
        state = state.learn(wanted & ~late)
        wavs, lengths = pad_waves(pieces)
        found, state = self.step(state, wavs, lengths, final)
        state = state.learn(wanted)
        for row, (session, begin) in enumerate(zip(sessions, begins)):
            session.state = state.index(slice(row, row + 1))
            session.closed = final
            took = session.clock() - begin
            session.advance(len(pieces[row]) / self.sample_rate, took)
        return found


def fingerprint(module):
    """What identifies the weights of a module.

    Arguments
    ---------
    module : torch.nn.Module

    Returns
    -------
    str

    Example
    -------
    >>> a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    >>> fingerprint(a) == fingerprint(a), fingerprint(a) == fingerprint(b)
    (True, False)
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        # By its bytes: NumPy has no bfloat16.
        value = value.cpu().flatten().view(torch.uint8)
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:16]


def fingerprint_of_tokens(tokenizer):
    """What identifies the tokens of a tokenizer.

    Arguments
    ---------
    tokenizer : SentencePieceProcessor

    Returns
    -------
    str
    """
    model = getattr(tokenizer, "serialized_model_proto", bytes)()
    return hashlib.sha256(model).hexdigest()[:16]
