"""Who speaks when: offline by agglomerative clustering, online segment by
segment.

Speech is found by Silero's VAD if it is installed, else by its energy, or by
a VAD of SpeechBrain; windows of it are embedded as voices. Long windows say how many speakers there are, short ones
where each of them speaks.

Authors
* speechbrain_lact contributors 2026
"""

import functools

import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.inference.speakers import load_embedder
from speechbrain_lact.processing.diarization.assign import (
    HOP,
    WINDOW,
    assign,
    give_each_a_window,
    split_windows,
)
from speechbrain_lact.processing.diarization.cluster import cluster
from speechbrain_lact.processing.diarization.online import OnlineClusters
from speechbrain_lact.processing.diarization.online_vad import PAST, online_vad
from speechbrain_lact.processing.diarization.segments import (
    Segment,
    merge,
    new_names,
)
from speechbrain_lact.processing.diarization.vad import (
    MIN_SPEECH,
    PAUSE,
    EnergyVAD,
    SileroVAD,
    find_speech,
)
from speechbrain_lact.processing.speech import SAMPLE_RATE as SILERO_RATE
from speechbrain_lact.processing.voices import default_threshold, embed

logger = get_logger(__name__)

# Speech in a recording without which there is no speaker to be found [s].
MIN_TOTAL_SPEECH = 0.25


# The same of those that are clustered.
LONG_WINDOW, LONG_HOP = 2.0, 0.5


BATCH = 32


# Root mean square of what is embedded: -26 dB of full scale.
LEVEL = 0.05


# Largest sample of what Silero's VAD is asked about, and that of a recording
# which is not made louder any further.
PEAK, QUIETEST = 0.5, 0.004


def default_vad(sample_rate):
    """Silero's VAD, or where it cannot be had the one by energy, which is said
    once.

    Arguments
    ---------
    sample_rate : int
        Samples a second of what it is to be used on.

    Returns
    -------
    VAD
    """
    if sample_rate != SILERO_RATE:
        _warn_once(
            f"Silero's VAD takes {SILERO_RATE} Hz, not {sample_rate}: speech "
            "is found by its loudness"
        )
        return EnergyVAD(sample_rate)
    try:
        return SileroVAD()
    except ImportError as error:
        _warn_once(f"{error}; until then speech is found by its loudness")
        return EnergyVAD(sample_rate)


@functools.cache
def _warn_once(message):
    logger.warning(message)


class Diarizer:
    """Finds who speaks when in a recording.

    Arguments
    ---------
    embedder : EncoderClassifier, optional
        Encoder of voices (see `load_embedder`); default: the bank's, or
        that of `load_embedder`.
    bank : SpeakerBank, optional
        Speakers it knows are called by their names.
    vad : VAD, optional
        SpeechBrain's; default: `default_vad`.
    threshold : float, optional
        Cosine similarity of two voices from which on they are one; default:
        the bank's or the embedder's.

    Example
    -------
    >>> diarizer = Diarizer()  # doctest: +SKIP
    >>> for segment in diarizer.diarize("meeting.wav"):  # doctest: +SKIP
    ...     print(segment.start, segment.end, segment.speaker)
    """

    def __init__(self, embedder=None, bank=None, vad=None, threshold=None):
        self.bank = bank
        if embedder is None:
            embedder = load_embedder() if bank is None else bank.embedder
        self.embedder = embedder
        if threshold is None:
            threshold = (
                default_threshold(embedder) if bank is None else bank.threshold
            )
        self.threshold = threshold
        normalizer = getattr(embedder, "audio_normalizer", None)
        self.sample_rate = (normalizer or bank.asr).sample_rate
        self.vad = default_vad(self.sample_rate) if vad is None else vad
        if self.vad.sample_rate != self.sample_rate:
            raise ValueError(
                f"the VAD takes {self.vad.sample_rate} Hz, the embedder "
                f"{self.sample_rate} Hz"
            )

    def diarize(self, wav, number_of_speakers=None):
        """Who speaks when. Where two speak at once, segments overlap.

        Arguments
        ---------
        wav : torch.Tensor or str or Path
            Samples [S] at the embedder's rate, or a file.
        number_of_speakers : int, optional
            If it is known.

        Returns
        -------
        list of Segment
            In the order of time.

        Raises
        ------
        ValueError
            If there is no speech, or less than that of so many speakers.
        """
        if number_of_speakers is not None and number_of_speakers < 1:
            raise ValueError("number_of_speakers: at least 1")
        shown = "the waveform" if isinstance(wav, torch.Tensor) else wav
        if not isinstance(wav, torch.Tensor):
            wav = AudioFile(wav, self.sample_rate).read()
        speech = find_speech(self._levelled(wav), self.vad)
        if sum(end - start for start, end in speech) < MIN_TOTAL_SPEECH:
            raise ValueError(
                f"{shown}: less than {MIN_TOTAL_SPEECH} s of speech: nobody to tell "
                "from others"
            )
        centroids = self._speakers(wav, speech, number_of_speakers)
        if centroids is None:
            raise ValueError(
                f"{shown}: {number_of_speakers} speakers in too little speech "
                "to tell them apart"
            )
        names = self._names(centroids, number_of_speakers)
        windows = [split_windows(*bounds, WINDOW, HOP) for bounds in speech]
        alike = self.embed(wav, torch.cat(windows)) @ centroids.T
        if number_of_speakers:
            give_each_a_window(alike)
        segments, first = [], 0
        for bounds, rows in zip(speech, windows):
            scores = alike[first : first + len(rows)]
            segments += assign(bounds, rows, scores, self.threshold)
            first += len(rows)
        segments = [Segment(a, b, names[who]) for a, b, who in segments]
        return self._call(merge(segments))

    def _levelled(self, wav):
        """A recording as loud as Silero's VAD needs it; others ask for no
        level."""
        if not isinstance(self.vad, SileroVAD):
            return wav
        return PEAK / wav.abs().max().clamp_min(QUIETEST) * wav

    def _speakers(self, wav, speech, number):
        """Centroids of the speakers [K, E]; none if they would be more than
        windows."""
        for size, hop in ((LONG_WINDOW, LONG_HOP), (WINDOW, HOP)):
            windows = [split_windows(*bounds, size, hop) for bounds in speech]
            seconds = torch.cat(
                [(w.max() - w.min()).expand(len(w)) / len(w) for w in windows]
            )
            windows = torch.cat(windows)
            lengths = windows[:, 1] - windows[:, 0]
            # A short piece says little of a voice.
            long = lengths >= min(size / 2, float(lengths.max()) - 1e-6)
            if number is None or number <= int(long.sum()):
                voices = self.embed(wav, windows[long])
                return cluster(voices, seconds[long], self.threshold, number)
        return None

    def embed(self, wav, windows):
        """Embeddings of stretches of a recording.

        Arguments
        ---------
        wav : torch.Tensor
            [S]
        windows : torch.Tensor
            Start and end in seconds [N, 2].

        Returns
        -------
        torch.Tensor
            [N, E], of length 1.
        """
        starts, ends = (windows * self.sample_rate).round().long().T
        sizes = (ends - starts).clamp_max(len(wav))
        starts = torch.minimum(starts, len(wav) - sizes)
        found = [None] * len(windows)
        for size in sizes.unique().tolist():
            # Those of one length: padding would change the embedding.
            for rows in (sizes == size).nonzero()[:, 0].split(BATCH):
                parts = torch.stack(
                    [wav[s : s + size] for s in starts[rows].tolist()]
                )
                # How loud they are does not matter.
                power = parts.square().mean(1, keepdim=True)
                parts = LEVEL * parts / power.sqrt().clamp_min(1e-6)
                for row, voice in zip(rows, embed(self.embedder, parts)):
                    found[row] = voice
        return torch.stack(found)

    def _names(self, centroids, number):
        """A name for each speaker: of the bank, or a number if unknown."""
        if self.bank is None:
            return list(range(len(centroids)))
        found = [self.bank.nearest(centroid) for centroid in centroids]
        order = sorted(range(len(found)), key=lambda i: -found[i][1])
        names, taken = [None] * len(found), set()
        for i in order:
            name = found[i][0]
            # So many speakers are so many names.
            if name is None or (number and name in taken):
                name = i
            names[i] = name
            taken.add(name)
        return names

    def _call(self, segments):
        """Names unknown speakers: the first one to speak has the least
        number that nobody in the bank is called by."""
        free = new_names(self.bank or ())
        names = {}
        for segment in segments:
            if isinstance(segment.speaker, int):
                if segment.speaker not in names:
                    names[segment.speaker] = next(free)
                segment.speaker = names[segment.speaker]
        return segments


class OnlineDiarizer:
    """Finds who speaks in a stream, while it comes.

    A stretch of speech is given to a speaker when it ends, or is two seconds
    long: to the nearest of those who have spoken and of the bank, or to a new
    one. What was given is not taken back, and nobody speaks at once with
    another. The segments do not depend on how the stream is cut in pieces.

    Arguments
    ---------
    diarizer : Diarizer, optional
        Its embedder, bank, VAD and threshold.

    Example
    -------
    >>> online = OnlineDiarizer()  # doctest: +SKIP
    >>> for piece in pieces:  # doctest: +SKIP
    ...     print(online.feed(piece))
    >>> print(online.finish())  # doctest: +SKIP
    """

    # Seconds between two looks at the stream, to wait for at first, and of a
    # stretch at most.
    STEP, FIRST, LONGEST = 0.5, 2.0, 2.0

    def __init__(self, diarizer=None):
        self.diarizer = diarizer or Diarizer()
        self.speakers = OnlineClusters(
            self.diarizer.threshold, self.diarizer.bank
        )
        self._vad = online_vad(self.diarizer.vad)
        self._wav = torch.zeros(0)
        # Seconds: begin of what is kept, end of what is given to speakers.
        self._begin = self._done = 0.0
        self._new = torch.zeros(0)

    def feed(self, samples):
        """Takes more of the stream.

        Arguments
        ---------
        samples : torch.Tensor
            [S] at the embedder's rate, any number of them.

        Returns
        -------
        list of Segment
            What can be said now.
        """
        self._new = torch.cat([self._new, samples])
        size, found = round(self.STEP * self.diarizer.sample_rate), []
        while len(self._new) >= size:
            new, self._new = self._new[:size], self._new[size:]
            found += self._look(new, final=False)
        return found

    def finish(self):
        """Ends the stream.

        Returns
        -------
        list of Segment
            The last ones.
        """
        new, self._new = self._new, self._new[:0]
        return self._look(new, final=True)

    def _look(self, new, final):
        """Segments of the speech that has ended or is long enough."""
        self._wav = torch.cat([self._wav, new])
        speech = self._vad.feed(new, final)
        rate, found = self.diarizer.sample_rate, []
        now = self._begin + len(self._wav) / rate
        if now < self.FIRST and not final:
            return []
        for start, end in speech:
            start = max(start, self._done)
            ended = final or now - end > PAUSE
            while end - start >= self.LONGEST or (
                ended and end - start >= MIN_SPEECH
            ):
                stop = min(start + self.LONGEST, end)
                found.append(self._segment(start, stop))
                start = self._done = stop
        surplus = len(self._wav) - round(PAST * rate)
        if surplus > 0:
            self._wav, self._begin = self._wav[surplus:], now - PAST
        return found

    def _segment(self, start, end):
        """Who says it."""
        window = torch.tensor([[start, end]]).double() - self._begin
        (voice,) = self.diarizer.embed(self._wav, window)
        name = self.speakers.assign(voice, end - start)
        return Segment(round(start, 3), round(end, 3), name)
