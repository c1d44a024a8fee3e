"""Speech recognition with a trained LaCT model: files, hours, live streams.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import time
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from speechbrain.inference.ASR import EncoderASR
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.decoders.ctc_search import make_search
from speechbrain_lact.decoders.streaming import collapse
from speechbrain_lact.inference.diarization import Diarizer
from speechbrain_lact.inference.folder import load_interface
from speechbrain_lact.inference.session import (
    LiveSessions,
    SessionState,
    fingerprint,
    fingerprint_of_tokens,
)
from speechbrain_lact.inference.words import (
    Hypothesis,
    Turn,
    Word,
    collect_words,
    shift,
)
from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.nnet.checks import check_tensor, check_waves
from speechbrain_lact.nnet.state import Waiting, check_kind
from speechbrain_lact.nnet.state_file import configuration
from speechbrain_lact.processing.cutting import (
    cut_quietly,
    cut_segments,
    milliseconds,
)
from speechbrain_lact.utils.dynamic_chunks import BlockSampler

MODEL_IN_THE_BOX = str(Path(__file__).parent / "model")

# Seconds read at a time from a long recording.
READ_SECONDS = 10.0


class LaCTASR(LiveSessions, EncoderASR):
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
        self.searcher = None
        hop = self.encoder.compute_features.get_filter_properties().stride
        self.frame_seconds = hop * self.encoder.cnn.stride / self.sample_rate

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
        """What files of states belong to: the model's weights and all else
        that changes its output."""
        weights, tokens = self._fingerprints
        config = self.encoder.dynchunktrain_config
        block = None if config is None else config.chunk_size
        return {
            "model": weights,
            "block": block,
            "blank": self.blank,
            "sample_rate": self.sample_rate,
            "tokenizer": tokens,
            **configuration(self.encoder),
        }

    @functools.cached_property
    def _fingerprints(self):
        return fingerprint(self.encoder), fingerprint_of_tokens(self.tokenizer)

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

    def set_search(self, lm=None, hotwords=None, **options):
        """Chooses how words are found in recordings: with a language model
        or hot words by beam search, without both greedily, as at first.

        Arguments
        ---------
        lm : str or Path, optional
            ARPA file of words.
        hotwords : str or Path or list of str, optional
            A file with a word or phrase on each line, or the words.
        **options
            As `decoders.ctc_search.make_search`.

        Raises
        ------
        ImportError
            If there is a language model and KenLM is not installed.
        ValueError
            If a file cannot be read or does not fit the model.
        """
        self.searcher = None
        if lm is not None or hotwords is not None:
            self.searcher = make_search(
                self.tokenizer, self.blank, lm, hotwords, **options
            )

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
        """State at the beginning of sessions.

        Arguments
        ---------
        batch : int
            Number of rows.
        domain : str, optional
            Of the audio, for a model trained with domains: one of theirs.
        speaker_embedding : torch.Tensor, optional
            Of who speaks [E], or [B, E] with one for each row, for a model
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
        state.check_tokens(self.tokenizer.vocab_size(), what)
        return state.to(self.device)

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
        if self.searcher is not None:
            words, _ = self.transcribe_words(wavs, wav_lens, state)
            texts = [" ".join(word.text for word in row) for row in words]
            return texts, [self.tokenizer.encode_as_ids(x) for x in texts]
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
        if self.searcher is not None:
            return self._search(state, wavs, wav_lens)
        found, state = self.step(state, wavs, wav_lens, True)
        return [row.words for row in found], state

    def adapt_to_speaker(self, wav, state=None):
        """Adapts the memory to a voice.

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
        # A search needs its part of the recording whole.
        streams = self.encoder.streams and self.searcher is None
        transcribe = self._pieces_as_stream if streams else self._pieces_cut
        with bar:
            for words, seconds in transcribe(audio, state):
                yield from words
                bar.update(min(round(seconds), bar.total) - bar.n)

    def _pieces_as_stream(self, audio, state):
        """Pieces as they come, for a model that streams."""
        session, seconds = self.stream(state), 0.0
        for piece in audio.pieces(READ_SECONDS):
            seconds += len(piece) / self.sample_rate
            yield session.feed(piece).words, seconds
        yield session.finish().words, seconds

    def _pieces_cut(self, audio, state):
        """Cut where it is quiet, memory carried, for other models."""
        state, first = state or self.initial_state(), 0
        for piece in cut_quietly(audio.pieces(READ_SECONDS), self.sample_rate):
            words, state = self.transcribe_words(
                piece[None], torch.ones(1), state
            )
            start, first = first / self.sample_rate, first + len(piece)
            end = milliseconds(first, self.sample_rate)
            yield shift(words[0], start, last=end), end

    def transcribe_speakers(
        self, path, bank=None, segments=None, number_of_speakers=None
    ):
        """Who said what in a recording of several speakers.

        Each speaker has a memory of its own, which begins with what
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
        if segments is None:
            segments = Diarizer(bank=bank).diarize(path, number_of_speakers)
        wav, states = self.load_audio(path), {}
        for segment, start, part in cut_segments(
            wav, segments, self.sample_rate
        ):
            name = segment.speaker
            if name not in states:
                known = bank is not None and name in bank
                states[name] = (
                    bank.state(name) if known else self.initial_state()
                )
            words, states[name] = self.transcribe_words(
                part[None], torch.ones(1), states[name]
            )
            if words[0]:
                begin, end = segment.start, segment.end
                yield Turn(name, begin, end, shift(words[0], start, begin, end))
        if bank is not None:
            bank.keep(states, wav, segments)

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
        if self.searcher is not None:
            raise ValueError(
                "a language model and hot words take whole recordings, and "
                "cannot be used in a stream: transcribe without them here"
            )
        if not self.encoder.streams:
            raise ValueError(
                "this model looks ahead and cannot stream; train one with "
                "hparams/lact_streaming_ctc.yaml"
            )
        return super().stream(state, max_lag, clock)

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

    def _encode(self, state, wavs, wav_lens, final):
        """Log-probabilities, and the memory after them."""
        with torch.no_grad():
            return self.encoder(
                wavs.to(self.device),
                wav_lens.to(self.device),
                state=state.pipeline,
                final=final,
            )

    def _search(self, state, wavs, wav_lens):
        """Words of whole recordings by beam search, and the state after."""
        if bool(state.said.counts.any()):
            raise ValueError(
                "state: of a session that stopped within a word: a language "
                "model and hot words need whole recordings"
            )
        ends = self._ends(state, wavs, wav_lens)
        log_probs, pipeline = self._encode(state, wavs, wav_lens, True)
        counts, found = pipeline.encoder.lengths.tolist(), []
        for row, count, end in zip(log_probs, counts, ends):
            words = []
            for text, *span in self.searcher.words(row[:count]):
                span = [round(t * self.frame_seconds, 3) for t in span]
                words.append(Word(text, *(min(t, end) for t in span)))
            found.append(words)
        after = self.initial_state(len(found))
        return found, replace(after, pipeline=pipeline)

    def step(self, state, wavs, wav_lens, final):
        """What samples add, and the state after them."""
        log_probs, pipeline = self._encode(state, wavs, wav_lens, final)
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
        found, waiting, last = [], [], []
        for tokens, count, before, first, said, number, most in rows:
            spoken, end = collapse(tokens[:count], before, self.blank)
            pairs = said[:number] + [[t, first + i] for t, i in spoken]
            words, rest = collect_words(
                pairs, self.tokenizer, self.frame_seconds, most, final
            )
            text = self.tokenizer.decode_ids([t for t, _ in rest])
            found.append(Hypothesis(words, text.strip()))
            waiting.append(torch.tensor(rest, dtype=torch.long).view(-1, 2))
            last.append(self.blank if final else end)
        there = {"dtype": torch.long, "device": self.device}
        left = torch.nn.utils.rnn.pad_sequence(waiting, batch_first=True)
        numbers = torch.tensor([len(rest) for rest in waiting], **there)
        return found, SessionState(
            pipeline,
            Waiting(left.to(self.device), numbers),
            torch.tensor(last, **there),
            torch.zeros_like(counts) if final else state.frames + counts,
        )

    def _ends(self, state, wavs, wav_lens):
        """Seconds of each row so far, with these samples."""
        counts = sample_counts(wavs, wav_lens).cpu()
        before, front = state.pipeline, self.encoder.compute_features
        # A model that does not stream takes whole recordings.
        if before.features is not None:
            frames = state.frames.cpu() + before.encoder.waiting.counts.cpu()
            frames = frames * self.encoder.cnn.stride
            frames = frames + before.front.waiting.counts.cpu()
            hop = front.get_filter_properties().stride
            counts = counts + frames * hop + before.features.counts.cpu()
        return [milliseconds(n, self.sample_rate) for n in counts.tolist()]
