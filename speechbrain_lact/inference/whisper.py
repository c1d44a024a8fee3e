"""Whisper for recordings: files, batches, hours.

Authors
* speechbrain_lact contributors 2026
"""

import functools
from pathlib import Path

import torch
from tqdm import tqdm

from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.inference.interfaces import Pretrained
from speechbrain_lact.dataio.audio import AudioFile, pad_waves
from speechbrain_lact.decoders.aligned import AlignedDecoder
from speechbrain_lact.decoders.whisper import WhisperSearcher
from speechbrain_lact.inference.diarization import Diarizer
from speechbrain_lact.inference.whisper_live import LiveWhisper
from speechbrain_lact.inference.whisper_parts import (
    GATED,
    PART,
    STREAM,
    find_part,
    read_header,
    read_part,
)
from speechbrain_lact.inference.words import Turn, Word, shift
from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.whisper.weights import whisper_folder
from speechbrain_lact.nnet.checks import check_number, check_waves
from speechbrain_lact.processing import speech
from speechbrain_lact.processing.cutting import (
    cut_quietly,
    cut_segments,
    milliseconds,
)

# Seconds of a window of a long recording, and that are quiet around a cut.
LEAST, MOST, QUIET = 14.0, 28.0, 0.3
# Seconds that the decoder sees behind the audio.
PADDING = 3.0
# Windows that are encoded at a time.
WINDOWS = 8
# Seconds read at a time from a long recording.
READ_SECONDS = 10.0
# Samples of an encoder frame: two hops of 10 ms.
FRAME = 320
# Words are kept where the detector finds so many seconds of speech, or where
# Whisper is sure: probability of no speech at most, mean log-probability of
# the tokens at least.
SPOKEN, SURE = 0.2, (0.5, -0.7)


class WhisperASR(Pretrained):
    """Whisper as it is: the whole encoder on 30 s, and its own decoder.

    Longer recordings are cut where they are quiet.

    Arguments
    ---------
    padding : float
        Seconds that the decoder sees behind the audio, at most up to 30 s.
        Fewer are faster, and give more errors.
    parts : dict
        Files of trained parts, by kind, in place of those in the box.
    **kwargs : dict
        As SpeechBrain's `Pretrained`: the modules `whisper` and `searcher`.

    Example
    -------
    >>> asr = WhisperASR.load()  # doctest: +SKIP
    >>> asr.transcribe_file("speech.wav")  # doctest: +SKIP
    >>> for word in asr.transcribe_long("meeting.flac"):  # doctest: +SKIP
    ...     print(word.start, word.text)
    """

    MODULES_NEEDED = ["whisper", "searcher"]

    def __init__(self, padding=PADDING, parts=(), **kwargs):
        super().__init__(**{"hparams": {}, **kwargs})
        self.parts = dict(parts)
        check_number(padding, "padding", least=0)
        self.padding = padding
        self.sample_rate = self.mods.whisper.sampling_rate
        self.audio_normalizer = AudioNormalizer(self.sample_rate)
        self.tokenizer = self.mods.whisper.tokenizer
        self.frame_seconds = FRAME / self.sample_rate
        self.detector = speech.SpeechDetector()

    @classmethod
    def load(cls, source=None, device=None, padding=PADDING):
        """Loads Whisper.

        Arguments
        ---------
        source : str or Path, optional
            A folder or a name on the Hugging Face hub, or the output folder of
            recipes/Whisper. Default: Whisper tiny.en of the installed package.
        device : str, optional
            Where to; a GPU if there is one.
        padding : float
            Seconds that the decoder sees behind the audio.

        Returns
        -------
        WhisperASR

        Raises
        ------
        ImportError
            If there is no source and the package is not installed.
        ValueError
            If its file is not the one that is known, or `padding` no number
            of seconds.
        """
        parts, path = {}, Path(source or ".") / PART
        if source is not None and path.is_file():
            known = read_header(path)
            parts[known.get("part")] = path
            source = known.get("source") or None
        folder = whisper_folder(source)
        from transformers import GenerationConfig

        from speechbrain.integrations.huggingface.whisper import Whisper

        whisper = Whisper(folder, "", freeze=True)
        heads = GenerationConfig.from_pretrained(folder).alignment_heads
        searcher = WhisperSearcher(whisper, alignment_heads=heads)
        return cls(
            padding,
            parts,
            modules={"whisper": whisper, "searcher": searcher},
            run_opts={"device": device} if device else None,
        )

    @functools.cached_property
    def gated(self):
        """The gated layers that were trained with this Whisper, or None."""
        return self._part(GATED)

    def _part(self, kind):
        """A trained part, or None."""
        host = self.mods.whisper.model
        if kind in self.parts:
            part = read_part(self.parts[kind], kind, host)
        else:
            part = find_part(kind, host)
        return part and part.requires_grad_(False)

    def adapter(self, frames, lengths):
        """What stands between encoder and decoder: gated layers, where some
        were trained with this Whisper.

        Arguments
        ---------
        frames : torch.Tensor
            Encoder frames [B, T, C].
        lengths : torch.Tensor
            Length of each row over T [B].

        Returns
        -------
        torch.Tensor
            [B, T, C]
        """
        if self.gated is None:
            return frames
        return self.gated.encode(frames, lengths)

    @torch.no_grad()
    def frames(self, wavs, wav_lens):
        """Frames of Whisper's own encoder, without what stands behind it.

        Arguments and returns as of `encode_batch`.
        """
        check_waves(wavs, wav_lens)
        counts = sample_counts(wavs, wav_lens).tolist()
        whisper = self.mods.whisper
        # Features are scaled to the loudest of the row, not of the batch.
        rows = [wav[:n] for wav, n in zip(wavs.to(self.device), counts)]
        mels = torch.cat([whisper._get_mel(row[None]) for row in rows])
        frames = whisper.forward_encoder(mels)
        total = frames.shape[1]
        ends = [min(max(n // FRAME, 1), total) for n in counts]
        behind = round(self.padding / self.frame_seconds)
        seen = torch.tensor([min(end + behind, total) for end in ends])
        frames = frames[:, : int(seen.max())]
        return frames, seen.double() / frames.shape[1], ends

    @functools.cached_property
    def live(self):
        """Live sessions with the streaming encoder that was trained with this
        Whisper; `set_block` chooses how much it hears at a time.

        Raises
        ------
        ValueError
            If none was trained with it.
        """
        whisper, searcher = self.mods.whisper, self.mods.searcher
        encoder = self._part(STREAM)
        if encoder is None:
            raise ValueError(
                "no streaming encoder was trained with this Whisper: train "
                "one with recipes/Whisper/train.py hparams/whisper_stream.yaml"
            )
        decoder = AlignedDecoder(whisper, searcher.alignment_heads)
        return LiveWhisper(encoder, decoder)

    def set_block(self, block):
        """Chooses the look-ahead of live sessions.

        Arguments
        ---------
        block : int
            Frames of 20 ms that are heard at a time; more give fewer errors,
            later.
        """
        self.live.set_block(block)

    def stream(self, state=None, max_lag=None, **kwargs):
        """Begins a live session.

        Arguments
        ---------
        state : LiveWhisperState, optional
            Where to go on.
        max_lag : float, optional
            Seconds behind real time at which the session stops learning, and
            only reads its memory until it has caught up.
        **kwargs : dict
            As `LiveWhisper.stream`.

        Returns
        -------
        Session
        """
        return self.live.stream(state, max_lag, **kwargs)

    def load_state(self, path, rows=None):
        """As `LiveWhisper.load_state`."""
        return self.live.load_state(path, rows)

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

    def encode_batch(self, wavs, wav_lens):
        """Encoder frames of recordings of at most 30 s.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].

        Returns
        -------
        frames : torch.Tensor
            What the decoder is to see [B, T, C].
        lengths : torch.Tensor
            Length of each row over T [B].
        ends : list of int
            Frames of the audio of each row, without the padding.
        """
        frames, lengths, ends = self.frames(wavs, wav_lens)
        with torch.no_grad():
            return self.adapter(frames, lengths), lengths, ends

    def transcribe_file(self, path, **kwargs):
        """The text of a recording of any length.

        Arguments
        ---------
        path : str or Path
            The recording.
        **kwargs : dict
            Arguments of `load_audio`.

        Returns
        -------
        str
        """
        wav = self.load_audio(path, **kwargs)
        return self.transcribe_batch(wav[None], torch.ones(1))[0][0]

    def transcribe_batch(self, wavs, wav_lens):
        """Texts of recordings of any length.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].

        Returns
        -------
        list of str
            The text of each row.
        list of list of int
            The tokens of each row.
        """
        rows = [[] for _ in wavs]
        for row, _, tokens, _ in self._windows_of(wavs, wav_lens, False):
            rows[row].append(tokens)
        decode = self.tokenizer.decode
        texts = [[decode(t).strip() for t in row] for row in rows]
        texts = [" ".join(filter(None, row)) for row in texts]
        return texts, [sum(row, []) for row in rows]

    def transcribe_words(self, wavs, wav_lens):
        """Words with their times, of whole recordings of any length.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor
            Length of each row over S [B].

        Returns
        -------
        words : list of list of Word
            Of each row.
        state : None
            Whisper carries no memory from one recording to the next.
        """
        rows = [[] for _ in wavs]
        for row, start, _, words in self._windows_of(wavs, wav_lens, True):
            rows[row] += shift(words, start)
        return rows, None

    def transcribe_long(self, path, progress=False):
        """Words of a recording of any length, in constant memory.

        Arguments
        ---------
        path : str or Path or AudioFile
            The recording.
        progress : bool
            Whether to show a progress bar.

        Yields
        ------
        Word
            As soon as its window is done.
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
        first = 0
        with bar:
            for windows in _batches(self._cut(audio.pieces(READ_SECONDS))):
                for window, (_, words) in zip(
                    windows, self._windows(windows, True)
                ):
                    start, first = first, first + len(window)
                    yield from shift(words, start / self.sample_rate)
                seconds = round(first / self.sample_rate)
                bar.update(min(seconds, bar.total) - bar.n)

    def transcribe_speakers(self, path, segments=None, number_of_speakers=None):
        """Who said what in a recording of several speakers.

        Arguments
        ---------
        path : str or Path
            The recording. It is held in memory: 230 MB an hour.
        segments : list of Segment, optional
            Who speaks when. Default: what a `Diarizer` finds.
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
            segments = Diarizer().diarize(path, number_of_speakers)
        wav, rate = self.load_audio(path), self.sample_rate
        for batch in _batches(cut_segments(wav, segments, rate)):
            found = self._windows([part for *_, part in batch], True)
            for (segment, start, _), (_, words) in zip(batch, found):
                begin, end = segment.start, segment.end
                words = shift(words, start, begin, end)
                if words:
                    yield Turn(segment.speaker, begin, end, words)

    def _cut(self, pieces):
        """A recording as windows that the encoder takes."""
        return cut_quietly(pieces, self.sample_rate, LEAST, MOST, QUIET)

    def _windows_of(self, wavs, wav_lens, timed):
        """All windows of all rows: (row, start in seconds, tokens, words)."""
        check_waves(wavs, wav_lens)
        counts, cut = sample_counts(wavs, wav_lens).tolist(), []
        for row, (wav, count) in enumerate(zip(wavs, counts)):
            first = 0
            for window in self._cut([wav[:count]]):
                cut.append((row, first / self.sample_rate, window))
                first += len(window)
        for batch in _batches(cut):
            found = self._windows([window for _, _, window in batch], timed)
            for (row, start, _), (tokens, words) in zip(batch, found):
                yield row, start, tokens, words

    def _windows(self, windows, timed):
        """Tokens of each window, and words if `timed`, in one step."""
        wavs, wav_lens = pad_waves(windows)
        frames, lengths, ends = self.encode_batch(wavs, wav_lens)
        searcher = self.mods.searcher
        spoken = self.detector(wavs, wav_lens)
        tokens, log_probs, no_speech = searcher(frames, lengths)
        tokens = self._spoken(spoken, tokens, log_probs, no_speech)
        words = [[] for _ in windows]
        if timed:
            words = searcher.align(frames, lengths, tokens, ends)
        seconds = [milliseconds(len(w), self.sample_rate) for w in windows]
        rows = zip(words, spoken, seconds, log_probs.tolist())
        return [
            (found, [self._word(word, *others) for word in row])
            for found, (row, *others) in zip(tokens, rows)
        ]

    @staticmethod
    def _spoken(spoken, tokens, log_probs, no_speech):
        """Tokens of the rows in which somebody speaks, none of the others."""
        most, least = SURE
        sure = (no_speech <= most) & (log_probs >= least)
        least = SPOKEN * speech.SAMPLE_RATE / speech.FRAME
        rows = zip(tokens, spoken, sure.tolist())
        return [row if s.sum() >= least or k else [] for row, s, k in rows]

    def _word(self, word, spoken, seconds, log_prob):
        """A word with times in seconds, inside the audio; pauses before and
        behind it are not part of it."""
        text, *frames = word
        times = (round(f * self.frame_seconds, 3) for f in frames)
        times = speech.speech_between(spoken, *times)
        return Word(text, *(min(t, seconds) for t in times), log_prob)


def _batches(items, size=WINDOWS):
    """Items in lists of so many."""
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
