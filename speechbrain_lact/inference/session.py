"""What a session of transcription carries, its file, and a live session.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import time
from dataclasses import dataclass, replace

import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.lobes.models.pipeline import PipelineState
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


def learn(state, rows):
    """Chooses which rows of a state learn.

    Arguments
    ---------
    state : SessionState
    rows : torch.Tensor
        Whether each row does [B].

    Returns
    -------
    SessionState
    """
    encoder = state.pipeline.encoder.learn(rows)
    return replace(state, pipeline=replace(state.pipeline, encoder=encoder))
