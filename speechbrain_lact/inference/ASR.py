"""Speech recognition with a trained LaCT model: files, hours, live streams.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from tqdm import tqdm

from speechbrain.inference.ASR import EncoderASR
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import LEAST_SECONDS, AudioFile, pad_waves
from speechbrain_lact.decoders.streaming import collapse
from speechbrain_lact.inference.folder import load_interface
from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.pipeline import PipelineState
from speechbrain_lact.nnet.checks import check_number, check_tensor, check_waves
from speechbrain_lact.nnet.state import (
    State,
    Waiting,
    check_kind,
    configuration,
    counter,
    nested,
)
from speechbrain_lact.utils.dynamic_chunks import BlockSampler

logger = get_logger(__name__)

MODEL_IN_THE_BOX = str(Path(__file__).parent / "model")

# What a word begins with in sentencepiece.
SPACE = "\u2581"

# Seconds before and after a turn that are heard with it.
EDGE = 0.15
# Seconds read at a time from a long recording.
PIECE = 10.0
# A model that looks ahead gets a long recording in pieces of so many seconds,
# cut where it is quietest.
SHORTEST, LONGEST = 10.0, 20.0


@dataclass
class Word:
    """A word and when it was said, in seconds from the start."""

    text: str
    start: float
    end: float


@dataclass
class Heard:
    """What a piece of audio added to a transcript."""

    words: list = field(default_factory=list)
    """Words that are complete."""
    changing: str = ""
    """Beginning of the next one, which may still grow."""

    @property
    def stable(self):
        """The complete words as text."""
        return " ".join(word.text for word in self.words)


@dataclass
class Turn:
    """What a speaker said without a long pause."""

    speaker: str
    start: float
    end: float
    words: list

    @property
    def text(self):
        """The words as text."""
        return " ".join(word.text for word in self.words)


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


class LaCTASR(EncoderASR):
    """SpeechBrain's EncoderASR with a memory: it adapts, streams and
    transcribes recordings of any length.

    The model is a folder written by `recipes/LibriSpeech/train.py` (its
    `model` folder). One trained with `hparams/lact_streaming_ctc.yaml` streams,
    and gives the same words in pieces as in one; others take whole utterances.

    Arguments
    ---------
    *args, **kwargs
        As SpeechBrain's EncoderASR.

    Example
    -------
    >>> asr = LaCTASR.from_hparams("model", savedir=None)  # doctest: +SKIP
    >>> asr.transcribe_file("speech.wav")  # doctest: +SKIP
    >>> for word in asr.transcribe_long("meeting.flac"):  # doctest: +SKIP
    ...     print(word.start, word.text)
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.encoder = self.mods.encoder
        if not hasattr(self.encoder, "initial_state"):
            raise ValueError(
                "not a model that recipes/LibriSpeech/train.py has written"
            )
        if not isinstance(self.decoding_function, functools.partial):
            raise ValueError("decoding_function: greedy CTC, with blank_id")
        self.sample_rate = self.hparams.audio_normalizer.sample_rate
        self.blank = self.decoding_function.keywords["blank_id"]
        hop = self.encoder.compute_features.get_filter_properties().stride
        self.frame_seconds = hop * self.encoder.cnn.stride / self.sample_rate
        self._digest = None

    @classmethod
    def from_hparams(cls, source, *args, trust=False, **kwargs):
        """Loads a model; no code that is in its folder is run.

        Arguments
        ---------
        source : str or Path
            Its folder, or its name on the Hugging Face hub.
        *args, **kwargs
            As SpeechBrain's: `savedir`, `overrides`, `run_opts`.
        trust : bool
            Whether whatever its YAML names may run.

        Returns
        -------
        LaCTASR

        Raises
        ------
        ValueError
            If the folder holds what could run code and is not trusted: the
            file, the line and the name.
        """
        return load_interface(cls, source, *args, trust=trust, **kwargs)

    @property
    def identity(self):
        """What tells this model from others, for files of states: its weights
        and all else that changes what it answers."""
        if self._digest is None:
            self._digest = fingerprint(self.encoder)
            self._tokens = _fingerprint_of_tokens(self.tokenizer)
        config = self.encoder.dynchunktrain_config
        block = None if config is None else config.chunk_size
        return {
            "model": self._digest,
            "block": block,
            "blank": self.blank,
            "sample_rate": self.sample_rate,
            "tokenizer": self._tokens,
            **configuration(self.encoder),
        }

    def set_block(self, block):
        """Chooses the look-ahead: an encoder frame sees its own block.

        Arguments
        ---------
        block : int or None
            Frames of `frame_seconds`; longer ones give fewer errors, later.
            None: recordings are seen whole, and cannot be streamed.
        """
        layers = self.encoder.transformer.encoder.layers
        reach = max(layer.mixer.window.frames_left for layer in layers)
        sampler = BlockSampler([block], reach)
        self.encoder.dynchunktrain_config = sampler.config(block)

    def load_audio(self, path, savedir=None):
        """Reads a local recording: one channel, at the model's rate.

        Arguments
        ---------
        path : str or Path
            The file.
        savedir : None
            Not used.

        Returns
        -------
        torch.Tensor
            Samples [S].
        """
        return AudioFile(path, self.sample_rate).read().to(self.device)

    def initial_state(self, batch=1, domain=None, speaker_embedding=None):
        """State of sessions that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.
        domain : str, optional
            What is heard, for a model trained with domains: one of theirs.
        speaker_embedding : torch.Tensor, optional
            Who is heard [E], or [B, E] with one for each row, for a model
            trained with an encoder of voices: from that encoder.

        Returns
        -------
        SessionState
        """
        with torch.no_grad():
            pipeline = self.encoder.initial_state(
                batch, domain, speaker_embedding
            )
        there = {"dtype": torch.long, "device": self.device}
        said = Waiting.empty(torch.zeros(batch, 0, 2, **there))
        last = torch.full_like(said.counts, self.blank)
        return SessionState(pipeline, said, last, said.counts)

    def check_state(self, state, rows=None, what="state"):
        """Refuses a state that is none of this model, or damaged.

        Arguments
        ---------
        state : SessionState
            What was given.
        rows : int, optional
            How many rows it must have.
        what : str
            What it is called in messages.

        Returns
        -------
        SessionState
            The state, on the model's device.

        Raises
        ------
        ValueError
            Naming the field, with what was given and what is wanted.
        """
        check_kind(state, SessionState, what)
        state.check(self.initial_state(0), rows, what)
        most = self.tokenizer.vocab_size()
        tokens = [state.last.flatten(), state.said.frames[..., :1].flatten()]
        if bool((torch.cat(tokens) >= most).any()):
            raise ValueError(f"{what}: tokens beyond the {most} of this model")
        if bool((state.said.frames < 0).any()):
            raise ValueError(f"{what}.said: tokens or frames below 0")
        return state.to(self.device)

    def save_state(self, state, path):
        """Writes a state to a file, whole or not at all.

        Arguments
        ---------
        state : SessionState
            Of a session or from `adapt_to_speaker`.
        path : str or Path
            The file.
        """
        self.check_state(state).save(str(path), self.identity)

    def load_state(self, path):
        """Reads what `save_state` has written.

        Arguments
        ---------
        path : str or Path
            The file.

        Returns
        -------
        SessionState

        Raises
        ------
        ValueError
            If the file is missing, damaged, or of another model or version.
        """
        if not Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        state = SessionState.load(str(path), self.identity)
        return self.check_state(state, what=str(path))

    def encode_batch(self, wavs, wav_lens, state=None):
        """As SpeechBrain's, from a state.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].
        state : SessionState, optional
            The memory to begin with, one row or B.

        Returns
        -------
        torch.Tensor
            Log-probabilities [B, T, tokens].
        """
        check_waves(wavs, wav_lens)
        if state is None:
            return super().encode_batch(wavs, wav_lens)
        state = self._rows(state, wavs).pipeline
        wavs, wav_lens = wavs.to(self.device), wav_lens.to(self.device)
        return self.encoder(wavs, wav_lens, state=state)[0]

    def transcribe_file(self, path, state=None, **kwargs):
        """As SpeechBrain's, from a state.

        Arguments
        ---------
        path : str or Path
            The recording.
        state : SessionState, optional
            The memory to begin with.
        **kwargs : dict
            Arguments of `load_audio`.

        Returns
        -------
        str
        """
        wav = self.load_audio(path, **kwargs)
        words, _ = self.transcribe_batch(wav[None], torch.ones(1), state)
        return str(words[0])

    def transcribe_batch(self, wavs, wav_lens, state=None):
        """As SpeechBrain's, from a state.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].
        state : SessionState, optional
            The memory to begin with, one row or B.

        Returns
        -------
        list of str
            The words of each row.
        list
            The tokens of each row.
        """
        check_waves(wavs, wav_lens)
        with torch.no_grad():
            log_probs = self.encode_batch(wavs, wav_lens, state)
        tokens = self.decoding_function(log_probs, wav_lens.to(self.device))
        return [self.tokenizer.decode_ids(row) for row in tokens], tokens

    def transcribe_words(self, wavs, wav_lens, state=None):
        """Words with their times, of whole recordings.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].
        state : SessionState, optional
            The memory to begin with, one row or B.

        Returns
        -------
        words : list of list of Word
            Of each row.
        state : SessionState
            The memory after them.
        """
        check_waves(wavs, wav_lens)
        if state is None:
            state = self.initial_state(len(wavs))
        state = self._rows(state, wavs)
        heard, state = self._step(state, wavs, wav_lens, True)
        return [row.words for row in heard], state

    def adapt_to_speaker(self, wav, state=None):
        """Lets the memory hear a voice.

        Arguments
        ---------
        wav : torch.Tensor or str or Path
            Samples [S] at the model's rate, or a file.
        state : SessionState, optional
            The memory to begin with.

        Returns
        -------
        SessionState
            To be given to other calls.
        """
        if not isinstance(wav, torch.Tensor):
            wav = self.load_audio(wav)
        check_tensor(wav, ("S",), "wav")
        return self.transcribe_words(wav[None], torch.ones(1), state)[1]

    def transcribe_long(self, path, state=None, progress=False):
        """Words of a recording of any length, in constant memory.

        Arguments
        ---------
        path : str or Path or AudioFile
            The recording.
        state : SessionState, optional
            The memory to begin with.
        progress : bool
            Whether to show a progress bar.

        Yields
        ------
        Word
            As soon as it is complete.
        """
        audio = path
        if not isinstance(path, AudioFile):
            audio = AudioFile(path, self.sample_rate)
        bar = tqdm(
            total=round(audio.seconds),
            unit="s",
            desc=Path(audio.name).name,
            disable=not progress,
        )
        hear = self._hear_stream if self.encoder.streams else self._hear_cut
        with bar:
            for words, seconds in hear(audio, state):
                yield from words
                bar.update(min(round(seconds), bar.total) - bar.n)

    def _hear_stream(self, audio, state):
        """Pieces as they come, for a model that streams."""
        session, seconds = self.stream(state), 0.0
        for piece in audio.pieces(PIECE):
            seconds += len(piece) / self.sample_rate
            yield session.feed(piece).words, seconds
        yield session.finish().words, seconds

    def _hear_cut(self, audio, state):
        """Cut where it is quiet, memory carried, for other models."""
        state, first = state or self.initial_state(), 0
        for piece in cut_quietly(audio.pieces(PIECE), self.sample_rate):
            words, state = self.transcribe_words(
                piece[None], torch.ones(1), state
            )
            start, first = first / self.sample_rate, first + len(piece)
            end = self._milliseconds(first)
            yield _shift(words[0], start, last=end), end

    def transcribe_speakers(
        self, path, bank=None, segments=None, number_of_speakers=None
    ):
        """Who said what in a recording of several speakers.

        Each speaker is heard with a memory of its own, which begins with what
        the bank has of that voice, or with the model's own initial memory.
        What others say does not enter it, but where they speak at the same
        time.

        Arguments
        ---------
        path : str or Path
            The recording. It is held in memory: 230 MB an hour.
        bank : SpeakerBank, optional
            Voices that are known. What was learned of each, and new voices
            that speak for long enough, are kept there, when the last turn was
            taken.
        segments : list of Segment, optional
            Who speaks when. Default: what a `Diarizer` with this bank finds.
        number_of_speakers : int, optional
            If it is known.

        Yields
        ------
        Turn
            In the order of time; stretches without words are left out.

        Raises
        ------
        ValueError
            If nobody speaks, or the recording cannot be read.
        """
        from speechbrain_lact.processing.diarization import Diarizer

        if segments is None:
            segments = Diarizer(bank=bank).diarize(path, number_of_speakers)
        wav, states = self.load_audio(path), {}
        for turn, start, part in self._cut_turns(wav, segments):
            name = turn.speaker
            if name not in states:
                known = bank is not None and name in bank
                states[name] = (
                    bank.state(name) if known else self.initial_state()
                )
            words, states[name] = self.transcribe_words(
                part[None], torch.ones(1), states[name]
            )
            if words[0]:
                words = _shift(words[0], start, turn.start, turn.end)
                yield replace(turn, words=words)
        if bank is not None:
            bank.keep(states, wav, segments)

    def _cut_turns(self, wav, segments):
        """Turns without words, with start and samples of what is heard: a
        little more than a turn where nobody speaks; long turns in pieces."""
        rate, turns = self.sample_rate, []
        for one in segments:
            before, after = 0.0, len(wav) / rate
            for other in segments:
                if other is not one and other.start < one.end:
                    before = max(before, min(other.end, one.start))
                if other is not one and other.end > one.start:
                    after = min(after, max(other.start, one.end))
            first = round(max(one.start - EDGE, before) * rate)
            last = round(min(one.end + EDGE, after) * rate)
            for part in cut_quietly([wav[first:last].cpu()], rate):
                start = first / rate
                first += len(part)
                begin = round(max(start, one.start), 3)
                end = min(round(one.end, 3), self._milliseconds(first))
                # Not a part that lies before or behind the turn.
                if len(part) >= LEAST_SECONDS * rate and begin < end:
                    turns.append(
                        (Turn(one.speaker, begin, end, []), start, part)
                    )
        return sorted(turns, key=lambda turn: turn[0].start)

    def stream(self, state=None, max_lag=None, clock=time.monotonic):
        """Begins a live session.

        Arguments
        ---------
        state : SessionState, optional
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
        if not self.encoder.streams:
            raise ValueError(
                "this model looks ahead and cannot stream; train one with "
                "hparams/lact_streaming_ctc.yaml"
            )
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
        list of Heard
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
        state = SessionState.cat([session.state for session in sessions])
        # A memory that is not to learn does not, late or not.
        wanted = state.pipeline.encoder.learning
        late = [session.behind for session in sessions]
        late = torch.tensor(late, device=wanted.device)
        state = _learn(state, wanted & ~late)
        wavs, lengths = pad_waves(pieces)
        heard, state = self._step(state, wavs, lengths, final)
        state = _learn(state, wanted)
        for row, (session, begin) in enumerate(zip(sessions, begins)):
            session.state = state.index(slice(row, row + 1))
            session.closed = final
            took = session.clock() - begin
            session.advance(len(pieces[row]) / self.sample_rate, took)
        return heard

    def _rows(self, state, wavs):
        """The state with a row for each recording."""
        check_kind(state, SessionState)
        rows = len(state.last)
        if rows not in (1, len(wavs)):
            raise ValueError(
                f"a state of {rows} rows for {len(wavs)} recordings"
            )
        state = self.check_state(state, rows)
        if rows == len(wavs):
            return state
        return state.index(torch.zeros(len(wavs), dtype=torch.long))

    def _step(self, state, wavs, wav_lens, final):
        """What samples add, and the state after them."""
        with torch.no_grad():
            log_probs, pipeline = self.encoder(
                wavs.to(self.device),
                wav_lens.to(self.device),
                state=state.pipeline,
                final=final,
            )
        counts = pipeline.encoder.lengths
        ends = self._ends(state, wavs, wav_lens)
        known = self.tokenizer.vocab_size()
        rows = zip(
            log_probs[..., :known].argmax(-1).tolist(),
            counts.tolist(),
            state.last.tolist(),
            state.frames.tolist(),
            state.said.frames.tolist(),
            state.said.counts.tolist(),
            ends,
        )
        heard, waiting, last = [], [], []
        for tokens, count, before, first, said, number, most in rows:
            spoken, end = collapse(tokens[:count], before, self.blank)
            pairs = said[:number] + [[t, first + i] for t, i in spoken]
            words, rest = self._words(pairs, final, most)
            text = self.tokenizer.decode_ids([t for t, _ in rest])
            heard.append(Heard(words, text.strip()))
            waiting.append(torch.tensor(rest, dtype=torch.long).view(-1, 2))
            last.append(self.blank if final else end)
        there = {"dtype": torch.long, "device": self.device}
        left = torch.nn.utils.rnn.pad_sequence(waiting, batch_first=True)
        numbers = torch.tensor([len(rest) for rest in waiting], **there)
        return heard, SessionState(
            pipeline,
            Waiting(left.to(self.device), numbers),
            torch.tensor(last, **there),
            torch.zeros_like(counts) if final else state.frames + counts,
        )

    def _ends(self, state, wavs, wav_lens):
        """Seconds that each row has heard with these samples."""
        counts = sample_counts(wavs, wav_lens).cpu()
        before, front = state.pipeline, self.encoder.compute_features
        # A model that does not stream hears whole recordings.
        if before.features is not None:
            frames = state.frames.cpu() + before.encoder.waiting.counts.cpu()
            frames = frames * self.encoder.cnn.stride
            frames = frames + before.front.waiting.counts.cpu()
            hop = front.get_filter_properties().stride
            counts = counts + frames * hop + before.features.counts.cpu()
        return [self._milliseconds(count) for count in counts.tolist()]

    def _milliseconds(self, samples):
        """Seconds of so many samples, rounded down: no time is after them."""
        return samples * 1000 // self.sample_rate / 1000

    def _words(self, pairs, final, most):
        """Complete words of tokens and frames, none after so many seconds,
        and what is left of these."""
        groups = []
        for token, frame in pairs:
            begins = self.tokenizer.id_to_piece(token).startswith(SPACE)
            if begins or not groups:
                groups.append([])
            groups[-1].append([token, frame])
        rest = [] if final or not groups else groups.pop()
        words = []
        for group in groups:
            text = self.tokenizer.decode_ids([t for t, _ in group]).strip()
            spoken = [
                frame
                for token, frame in group
                if self.tokenizer.id_to_piece(token) != SPACE
            ]
            if text:
                times = (spoken[0], spoken[-1] + 1)
                times = (round(t * self.frame_seconds, 3) for t in times)
                words.append(Word(text, *(min(t, most) for t in times)))
        return words, rest


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
        Heard
        """
        return self.asr.feed([self], [samples])[0]

    def finish(self):
        """Ends the session.

        Returns
        -------
        Heard
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
    """What tells the weights of a module from others.

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


def _fingerprint_of_tokens(tokenizer):
    """What tells the tokens of a tokenizer from others."""
    model = getattr(tokenizer, "serialized_model_proto", bytes)()
    return hashlib.sha256(model).hexdigest()[:16]


def _learn(state, rows):
    """The state, of which these rows learn."""
    encoder = state.pipeline.encoder.learn(rows)
    return replace(state, pipeline=replace(state.pipeline, encoder=encoder))


def cut_quietly(pieces, sample_rate):
    """Joins pieces of a recording and cuts them again where it is quiet.

    Arguments
    ---------
    pieces : iterable of torch.Tensor
        Samples [S].
    sample_rate : int
        Samples a second.

    Yields
    ------
    torch.Tensor
        Pieces of 10 to 20 seconds, cut in the middle of the quietest tenth of
        a second; the last may be shorter.

    Example
    -------
    >>> audio = torch.ones(25 * 100)
    >>> audio[1200:1220] = 0
    >>> [len(piece) for piece in cut_quietly([audio], sample_rate=100)]
    [1205, 1295]
    """
    least, most = (int(s * sample_rate) for s in (SHORTEST, LONGEST))
    width, kept = sample_rate // 10, None
    for piece in pieces:
        kept = piece if kept is None else torch.cat([kept, piece])
        while len(kept) >= most:
            power = kept[least:most].square()
            power = power[: len(power) // width * width].view(-1, width)
            cut = least + int(power.mean(1).argmin()) * width + width // 2
            yield kept[:cut]
            kept = kept[cut:]
    if kept is not None and len(kept):
        yield kept


def _shift(words, seconds, first=0.0, last=float("inf")):
    """Words of a piece that begins so late, none before or after a time."""

    def place(time):
        """In milliseconds, as all times."""
        return min(max(round(time + seconds, 3), first), last)

    return [
        replace(word, start=place(word.start), end=place(word.end))
        for word in words
    ]
