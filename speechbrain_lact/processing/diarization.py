"""Who speaks when: offline by agglomerative clustering, online segment by
segment.

Speech is found by its energy, or by a VAD of SpeechBrain; windows of it are
embedded as voices. Long windows tell how many speakers there are (`cluster`),
short ones where each of them speaks.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage

from speechbrain.inference.VAD import VAD
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.processing.speaker_states import (
    default_threshold,
    embed,
    load_embedder,
)

# What cannot stand in a field of RTTM, or would be read as something else.
UNSAFE = re.compile(r"[\s%\x00-\x1f\x7f\ud800-\udfff]")

# Pauses within speech and stretches of it that are too short to count [s].
PAUSE, SHORTEST = 0.15, 0.1
# Speech from which a voice can be told [s].
LEAST_SPEECH = 0.25

# Windows that are given to speakers, and how far apart they begin [s].
WINDOW, HOP = 1.0, 0.25
# The same of those that are clustered.
LONG_WINDOW, LONG_HOP = 2.0, 0.5
BATCH = 32
# Root mean square of what is embedded: -26 dB of full scale.
LEVEL = 0.05
# Windows that are clustered; of longer recordings, so many evenly chosen ones.
MOST_WINDOWS = 2000
# How much the little that is said lowers what is asked of one voice [s ** 0.5]
# (see `least_similarity`): chosen on training voices of three corpora, with two
# embedders, where one person was one speaker in 26 of 30 recordings.
UNSURE = 1.5

# Two speak at once where a voice is between two speakers: less than so far
# from being more alike one than the other, for so long [s].
MARGIN, TOGETHER = 0.05, 0.75
# Pauses of a speaker that do not end a segment [s].
GAP = 0.5


@dataclass
class Segment:
    """A stretch of speech, in seconds, and whose it is."""

    start: float
    end: float
    speaker: str


class EnergyVAD(VAD):
    """SpeechBrain's VAD with loudness in place of a neural network.

    The quietest and the loudest frames of a recording are its 0 and its 1; a
    frame is as likely to be speech as its level lies between them. How loud
    the whole is does not matter, unless it hardly varies.

    Arguments
    ---------
    sample_rate : int
        Samples a second.

    Example
    -------
    >>> wave = torch.sin(torch.arange(3000.0))
    >>> wave[1000:2000] = 0
    >>> find_speech(wave, EnergyVAD(1000))
    [(0.0, 1.02), (1.98, 3.0)]
    """

    HPARAMS_NEEDED = MODULES_NEEDED = []

    # Seconds of a frame, and frames over which loudness is measured.
    FRAME, WIDTH = 0.02, 3
    # Quietest and loudest, in dB of full scale, where a recording varies by
    # less than 10 dB.
    QUIET, LOUD, LEAST_RANGE = -60.0, -20.0, 10.0
    # The quietest is at most so far below the loudest [dB]; what is never
    # louder than the silence of 16 bits [dB of full scale] holds no speech.
    MOST_RANGE, SILENCE = 40.0, -80.0

    def __init__(self, sample_rate):
        settings = {"sample_rate": sample_rate, "time_resolution": self.FRAME}
        super().__init__({}, settings, {"device": "cpu"})

    def get_speech_prob_chunk(self, wavs, wav_lens=None):
        """As SpeechBrain's.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : None
            Not used.

        Returns
        -------
        torch.Tensor
            [B, T, 1]
        """
        size = int(self.FRAME * self.sample_rate)
        frames = F.pad(wavs.cpu(), (0, -wavs.shape[1] % size)).unfold(
            1, size, size
        )
        power = F.avg_pool1d(
            frames.var(2, correction=0)[:, None],
            self.WIDTH,
            1,
            self.WIDTH // 2,
            count_include_pad=False,
        )[:, 0]
        level = 10 * power.clamp_min(1e-12).log10()
        shares = torch.tensor([0.05, 0.95])
        low, high = level.quantile(shares, dim=1)[..., None]
        low = torch.maximum(low, high - self.MOST_RANGE)
        steady = (high - low < self.LEAST_RANGE) | (high <= self.SILENCE)
        low = torch.where(steady, self.QUIET, low)
        high = torch.where(steady, self.LOUD, high)
        return ((level - low) / (high - low)).clamp(0, 1)[..., None]


def find_speech(wav, vad, activation=0.5, deactivation=0.25):
    """Where there is speech.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    vad : VAD
        SpeechBrain's, or `EnergyVAD`.
    activation : float
        What a stretch of speech has to reach.
    deactivation : float
        What it stays above.

    Returns
    -------
    list of tuple of float
        Start and end in seconds.
    """
    frame = vad.time_resolution
    with torch.no_grad():
        found = vad.get_speech_prob_chunk(wav[None]).cpu()
    if not bool((found >= activation).any()):
        return []
    # Without silence at its end, the last frame would be lost.
    found = F.pad(found, (0, 0, 0, 1))
    likely = found[0, :, 0]
    bounds = vad.get_boundaries((found >= deactivation).int()).cpu()
    bounds[:, 1] += frame
    rows = (bounds / frame).round().long()
    heard = [bool((likely[a:b] >= activation).any()) for a, b in rows]
    bounds = vad.merge_close_segments(bounds[torch.tensor(heard)], PAUSE)
    bounds = vad.remove_short_segments(bounds, SHORTEST).view(-1, 2)
    return [
        (round(start, 3), round(min(end, len(wav) / vad.sample_rate), 3))
        for start, end in bounds.tolist()
    ]


class Diarizer:
    """Finds who speaks when in a recording.

    Arguments
    ---------
    embedder : EncoderClassifier, optional
        What tells voices apart (see `load_embedder`); default: the bank's, or
        the one that comes with the package.
    bank : SpeakerBank, optional
        Speakers it knows are called by their names.
    vad : VAD, optional
        SpeechBrain's; default: `EnergyVAD`.
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
        self.vad = EnergyVAD(self.sample_rate) if vad is None else vad
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
        told = "the waveform" if isinstance(wav, torch.Tensor) else wav
        if not isinstance(wav, torch.Tensor):
            wav = AudioFile(wav, self.sample_rate).read()
        speech = find_speech(wav, self.vad)
        if sum(end - start for start, end in speech) < LEAST_SPEECH:
            raise ValueError(
                f"{told}: less than {LEAST_SPEECH} s of speech: nobody to tell "
                "from others"
            )
        centroids = self._speakers(wav, speech, number_of_speakers)
        if centroids is None:
            raise ValueError(
                f"{told}: {number_of_speakers} speakers in too little speech "
                "to tell them apart"
            )
        names = self._names(centroids, number_of_speakers)
        windows = [_windows(*bounds, WINDOW, HOP) for bounds in speech]
        alike = self.embed(wav, torch.cat(windows)) @ centroids.T
        if number_of_speakers:
            _hear_all(alike)
        segments, first = [], 0
        for bounds, rows in zip(speech, windows):
            scores = alike[first : first + len(rows)]
            segments += _decide(bounds, rows, scores)
            first += len(rows)
        segments = [Segment(a, b, names[who]) for a, b, who in segments]
        return self._call(merge(segments))

    def _speakers(self, wav, speech, number):
        """Centroids of the speakers [K, E]; none if they would be more than
        windows."""
        for size, hop in ((LONG_WINDOW, LONG_HOP), (WINDOW, HOP)):
            windows = [_windows(*bounds, size, hop) for bounds in speech]
            seconds = torch.cat(
                [(w.max() - w.min()).expand(len(w)) / len(w) for w in windows]
            )
            windows = torch.cat(windows)
            lengths = windows[:, 1] - windows[:, 0]
            # A short piece does not tell a voice well.
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
            # Those of one length: padding would be heard.
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

    # Seconds between two looks at the stream, of the past that says what is
    # quiet and what is loud, to wait for at first, and of a stretch at most.
    STEP, PAST, FIRST, LONGEST = 0.5, 10.0, 2.0, 2.0

    def __init__(self, diarizer=None):
        self.diarizer = diarizer or Diarizer()
        self.speakers = OnlineClusters(
            self.diarizer.threshold, self.diarizer.bank
        )
        self._wav = torch.zeros(0)
        # Seconds: begin of what is kept, end of what is given to speakers.
        self._begin = self._done = 0.0
        self._new = torch.zeros(0)

    def feed(self, samples):
        """Hears more of the stream.

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
            self._wav = torch.cat([self._wav, self._new[:size]])
            self._new = self._new[size:]
            found += self._look(final=False)
        return found

    def finish(self):
        """Ends the stream.

        Returns
        -------
        list of Segment
            The last ones.
        """
        self._wav = torch.cat([self._wav, self._new])
        self._new = self._new[:0]
        return self._look(final=True) if len(self._wav) else []

    def _look(self, final):
        """Segments of the speech that has ended or is long enough."""
        rate, found = self.diarizer.sample_rate, []
        now = self._begin + len(self._wav) / rate
        if now < self.FIRST and not final:
            return []
        for start, end in find_speech(self._wav, self.diarizer.vad):
            start, end = self._begin + start, self._begin + end
            start = max(start, self._done)
            ended = final or now - end > PAUSE
            while end - start >= self.LONGEST or (
                ended and end - start >= SHORTEST
            ):
                stop = min(start + self.LONGEST, end)
                found.append(self._segment(start, stop))
                start = self._done = stop
        surplus = len(self._wav) - round(self.PAST * rate)
        if surplus > 0:
            self._wav, self._begin = self._wav[surplus:], now - self.PAST
        return found

    def _segment(self, start, end):
        """Who says it."""
        window = torch.tensor([[start, end]]).double() - self._begin
        (voice,) = self.diarizer.embed(self._wav, window)
        name = self.speakers.assign(voice, end - start)
        return Segment(round(start, 3), round(end, 3), name)


class OnlineClusters:
    """Speakers so far: a voice is that of the nearest one, or a new one's.

    Arguments
    ---------
    threshold : float
        Least cosine similarity to a speaker.
    bank : SpeakerBank, optional
        Speakers that are known by name.

    Example
    -------
    >>> speakers, (ann, bo) = OnlineClusters(0.5), torch.eye(2)
    >>> [speakers.assign(voice, 2.0) for voice in (ann, bo, ann)]
    ['speaker1', 'speaker2', 'speaker1']
    """

    # Seconds from which a voice can be told to be a new one.
    LEAST = 0.75

    def __init__(self, threshold, bank=None):
        self.threshold, self.bank = threshold, bank
        self.sums, self.seconds = {}, {}
        self._free = new_names(() if bank is None else bank)

    def assign(self, voice, seconds):
        """Whose voice it is.

        Arguments
        ---------
        voice : torch.Tensor
            Embedding of length 1 [E].
        seconds : float
            What it is of. A short one is never a new speaker's, unless nobody
            has spoken before.

        Returns
        -------
        str
            Name in the bank, or speaker1, speaker2, ...
        """
        # How much more alike it is than one voice is at least.
        margins = {
            name: float(total @ voice) / self.seconds[name]
            - least_similarity(self.threshold, seconds, self.seconds[name])
            for name, total in self.sums.items()
        }
        if self.bank is not None:
            known, likeness = self.bank.nearest(voice)
            if known is not None:
                margin = likeness - self.threshold
                margins[known] = max(margin, margins.get(known, margin))
        nearest = max(margins, key=margins.get, default=None)
        if nearest is None or (margins[nearest] < 0 and seconds >= self.LEAST):
            nearest = next(self._free)
        elif margins[nearest] < 0:
            return nearest
        self.sums[nearest] = self.sums.get(nearest, 0) + seconds * voice
        self.seconds[nearest] = self.seconds.get(nearest, 0) + seconds
        return nearest


def new_names(taken):
    """Names for speakers who have none: speaker1, speaker2, ...

    Arguments
    ---------
    taken : container of str
        What others are called.

    Yields
    ------
    str

    Example
    -------
    >>> names = new_names({"speaker1", "Ann"})
    >>> next(names), next(names)
    ('speaker2', 'speaker3')
    """
    for number in itertools.count(1):
        if f"speaker{number}" not in taken:
            yield f"speaker{number}"


def least_similarity(threshold, *seconds):
    """Mean similarity of two groups of windows from which on they are one
    voice.

    Little speech says little about a voice, so the less there is, the less
    alike two groups of one voice may be. The allowance shrinks with the square
    root of the seconds, as the error of a mean does. It is a share of the
    threshold and of what lacks it to 1, so that other embedders need no other
    constant.

    Arguments
    ---------
    threshold : float
        That of the embedder, for long recordings.
    *seconds : float or numpy.ndarray
        How much speech there is in each of the two groups.

    Returns
    -------
    float or numpy.ndarray

    Example
    -------
    >>> [round(least_similarity(0.6, s, s), 2) for s in (2, 8, 32)]
    [0.24, 0.42, 0.51]
    """
    unsure = sum(1 / s for s in seconds) ** 0.5
    return threshold * (1 - UNSURE * (1 - threshold) * unsure)


def cluster(voices, seconds, threshold, number=None):
    """Speakers by agglomerative clustering with average linkage (SciPy's).

    A branch of the tree is split where its two parts are less alike than
    `least_similarity`, or where one of them is to be split. With a number, as
    many splits are made, those first that are clearest by the same measure.

    Arguments
    ---------
    voices : torch.Tensor
        Embeddings of length 1 [N, E].
    seconds : torch.Tensor
        Speech that each stands for [N].
    threshold : float
        Cosine similarity of two long recordings from which on they are one
        voice.
    number : int, optional
        Number of speakers, if it is known.

    Returns
    -------
    torch.Tensor
        Centroids of length 1 [K, E].

    Example
    -------
    >>> voices, seconds = torch.eye(3).repeat(8, 1), torch.ones(24)
    >>> cluster(voices, seconds, 0.5).shape
    torch.Size([3, 3])
    >>> cluster(voices[::3], seconds[::3], 0.5).shape
    torch.Size([1, 3])
    """
    share = max(len(voices) / MOST_WINDOWS, 1.0)
    rows = torch.linspace(0, len(voices) - 1, int(len(voices) / share)).long()
    voices, seconds = voices[rows], seconds[rows].double().numpy() * share
    if len(voices) == 1 or number == 1:
        return _centroids([voices])
    distances = (1 - voices @ voices.T).clamp_min(0).double().numpy()
    tree = linkage(distances[np.triu_indices(len(voices), 1)], "average")
    # For each branch, how much its parts, or those of a part of it, are less
    # alike than one voice; what is split first is above what is split next.
    speech, unlike = [*seconds], [-np.inf] * len(voices)
    for one, other, distance, _ in tree:
        one, other = int(one), int(other)
        lack = (
            distance
            - 1
            + least_similarity(threshold, speech[one], speech[other])
        )
        speech.append(speech[one] + speech[other])
        below = max(unlike[one], unlike[other])
        unlike.append(max(lack, np.nextafter(below, np.inf)))
    unlike = np.array(unlike[len(voices) :])
    most = 0.0
    if number is not None:
        most = np.sort(np.append(unlike, -np.inf))[-number]
    labels = fcluster(tree, most, "monocrit", monocrit=unlike)
    labels = torch.from_numpy(labels).long() - 1
    return _clearest(voices, labels)


def _clearest(voices, labels):
    """Centroids of the half of each group that is least like the others: some
    windows hold two voices."""
    groups = [voices[labels == label] for label in labels.unique()]
    centroids = _centroids(groups)
    if len(groups) == 1:
        return centroids
    chosen = []
    for who, group in enumerate(groups):
        alike = group @ centroids.T
        own = alike[:, who].clone()
        alike[:, who] = -1.0
        margins = own - alike.amax(1)
        chosen.append(group[margins >= margins.median()])
    return _centroids(chosen)


def _centroids(groups):
    return F.normalize(torch.stack([g.mean(0) for g in groups]), dim=1)


def _speechbrain():
    """SpeechBrain's module; importing it leaves NumPy's generator alone."""
    state = np.random.get_state()
    try:
        from speechbrain.integrations.alignment import diarization

        return diarization
    except ImportError as error:
        raise ImportError(
            "SpeechBrain's diarization needs scikit-learn: pip install "
            "scikit-learn"
        ) from error
    finally:
        np.random.set_state(state)


def _windows(start, end, size, hop):
    """Windows [N, 2] of a stretch of speech; the last ends where it does."""
    count = max(int(np.ceil((end - start - size) / hop - 1e-6)), 0) + 1
    starts = start + hop * torch.arange(count, dtype=torch.double)
    starts[-1] = max(end - size, start)
    return torch.stack([starts, (starts + size).clamp_max(end)], 1)


def _hear_all(alike):
    """Gives a speaker who is nearest to no window [N, K] the one that is least
    far from being his or hers: so many speakers are asked for."""
    for who in range(alike.shape[1]):
        if not (alike.argmax(1) == who).any():
            row = (alike[:, who] - alike.amax(1)).argmax()
            alike[row, who] = 2.0  # more than a cosine


def _decide(bounds, windows, scores):
    """Who speaks in a stretch of speech.

    Arguments
    ---------
    bounds : tuple of float
        Its start and end.
    windows : torch.Tensor
        Start and end of each [N, 2].
    scores : torch.Tensor
        How much each is like each speaker [N, K].

    Returns
    -------
    list of (start, end, speaker)
    """
    start, end = bounds
    cells = max(round((end - start) / HOP), 1)
    edges = torch.linspace(start, end, cells + 1, dtype=torch.double)
    centres = (edges[1:] + edges[:-1]) / 2
    # A window tells most of what is in its middle.
    middles, halves = windows.mean(1), (windows[:, 1] - windows[:, 0]) / 2
    near = 1 - (centres[:, None] - middles).abs() / halves
    weights = near.clamp_min(0) + 1e-6 * (near == near.amax(1, keepdim=True))
    scores = weights @ scores.double() / weights.sum(1, keepdim=True)
    best = scores.argmax(1)
    speaks = F.one_hot(best, scores.shape[1]).bool()
    if scores.shape[1] > 1:
        (first, second), pair = scores.topk(2, 1).values.T, scores.topk(2, 1)
        for a, b in _runs(first - second < MARGIN):
            if float(edges[b] - edges[a]) >= TOGETHER:
                speaks[a:b].scatter_(1, pair.indices[a:b], True)
    return [
        (float(edges[a]), float(edges[b]), who)
        for who in range(scores.shape[1])
        for a, b in _runs(speaks[:, who])
    ]


def _runs(flags):
    """Start and end of each run of true values."""
    steps = torch.diff(F.pad(flags.int(), (1, 1)))
    return list(zip(steps.eq(1).nonzero()[:, 0], steps.eq(-1).nonzero()[:, 0]))


def merge(segments, gap=GAP):
    """Segments in the order of time, joined where a speaker only pauses.

    Arguments
    ---------
    segments : list of Segment
    gap : float
        Pauses up to so long, in seconds, in which nobody else speaks.

    Returns
    -------
    list of Segment

    Example
    -------
    >>> a, b, c = (
    ...     Segment(0, 1, "Ann"),
    ...     Segment(1.2, 3, "Ann"),
    ...     Segment(3.1, 4, "Bo"),
    ... )
    >>> [(s.start, s.end, s.speaker) for s in merge([a, b, c])]
    [(0, 3, 'Ann'), (3.1, 4, 'Bo')]
    """
    found, last = [], {}
    for segment in sorted(segments, key=lambda s: (s.start, s.end)):
        before = last.get(segment.speaker)
        # The latest of every other speaker: nobody has begun since.
        others = [s.end for name, s in last.items() if s is not before]
        if before is not None and (
            segment.start <= before.end
            or segment.start <= before.end + gap
            and max(others, default=0) <= before.end
        ):
            before.end = max(before.end, segment.end)
        else:
            found.append(replace(segment))
            last[segment.speaker] = found[-1]
    return found


def write_rttm(segments, path, recording):
    """Writes segments as RTTM.

    Arguments
    ---------
    segments : list of Segment
        At least one.
    path : str or Path
        The file.
    recording : str
        What the recording is called in it.
    """
    rows = [
        [_field(recording), s.start, s.end, _field(s.speaker)] for s in segments
    ]
    if not rows:
        raise ValueError(f"{path}: nobody speaks: no segments to write")
    _speechbrain().write_rttm(rows, str(path))


def read_rttm(path):
    """Reads the segments of one recording.

    Arguments
    ---------
    path : str or Path
        A file that `write_rttm`, or another program, has written.

    Returns
    -------
    list of Segment
        In the order of time.

    Raises
    ------
    ValueError
        If the file is no RTTM, or of several recordings.
    """
    segments, recordings = [], set()
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, seconds = float(fields[3]), float(fields[4])
            speaker = unquote(fields[7], errors="surrogatepass")
            if not (0 <= start < np.inf and 0 <= seconds < np.inf):
                raise ValueError("a time is negative or infinite")
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{path}: line {number} is no RTTM: {error}"
            ) from error
        recordings.add(fields[1])
        segments.append(Segment(start, round(start + seconds, 4), speaker))
    if len(recordings) != 1:
        raise ValueError(
            f"{path}: segments of {len(recordings)} recordings; one is needed"
        )
    return sorted(segments, key=lambda s: (s.start, s.end))


def _field(text):
    """A text without white space, as RTTM has it; `unquote` undoes it."""

    def escape(match):
        return quote(match[0], safe="", errors="surrogatepass")

    return UNSAFE.sub(escape, str(text))


def error_rate(reference, found):
    """Diarization error rate and its parts, without a collar, overlaps scored.

    Arguments
    ---------
    reference, found : list of Segment

    Returns
    -------
    dict
        `der` (1 is 100 %), `miss`, `false_alarm`, `confusion` and `ref_length`
        in seconds, `speaker_mapping`: who of the found ones is who.

    Example
    -------
    >>> truth = [Segment(0.0, 3.0, "Ann"), Segment(3.0, 4.0, "Bo")]
    >>> error_rate(truth, [Segment(0.0, 4.0, "speaker1")])["der"]
    0.25
    """
    try:
        from simpleder import DER
    except ImportError as error:
        raise ImportError(
            "the diarization error rate needs simpleder: pip install simpleder"
        ) from error
    return DER(
        *(
            [(s.speaker, s.start, s.end) for s in segments]
            for segments in (reference, found)
        ),
        detailed=True,
    )
