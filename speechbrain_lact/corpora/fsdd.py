"""Lays out the Free Spoken Digit Dataset as LibriSpeech is.

The dataset (https://github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA
4.0) has single digits at 8 kHz, ``recordings/DIGIT_SPEAKER_TAKE.wav``. Here
they become sessions: chapters of ten utterances of one voice, each of four to
ten digits with short pauses of faint noise, at 16 kHz. Clone it first; nothing
is downloaded.

=================  =========================================================
train-clean-100    101 jackson, 103 theo, 105 george; each recording three
                   times
dev-clean          104 yweweler, even takes, each once
test-clean         104 yweweler, odd takes, each twice
=================  =========================================================

Authors
 * speechbrain_lact contributors 2026
"""

import logging
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly
from tqdm import tqdm

from speechbrain_lact.corpora import layout
from speechbrain_lact.corpora.folder import build_folder, source_hash
from speechbrain_lact.corpora.layout import (
    SAMPLE_RATE,
    write_chapter,
    write_speakers,
)

logger = logging.getLogger(__name__)

DIGITS = "zero one two three four five six seven eight nine".split()
# Number, sex and description of the voices that are used.
SPEAKERS = {
    "jackson": (101, "M", "jackson (US)"),
    "theo": (103, "M", "theo (US)"),
    "yweweler": (104, "M", "yweweler (German accent)"),
    "george": (105, "M", "george (Greek accent)"),
}
# Subset, voices, takes (even, odd or all), how often each recording is used.
SPLITS = (
    ("train-clean-100", ("jackson", "theo", "george"), (0, 1), 3),
    ("dev-clean", ("yweweler",), (0,), 1),
    ("test-clean", ("yweweler",), (1,), 2),
)
UTTERANCES = 10  # of a chapter
LENGTHS = (4, 10)  # of an utterance, in digits
LEVEL = -26.0  # of every digit (dBFS)
FLOOR = -80.0  # of the pauses (dBFS)


def find_recordings(fsdd_folder):
    """Lists the recordings of the voices that are used.

    Arguments
    ---------
    fsdd_folder : str
        The dataset: the folder that has `recordings` in it.

    Returns
    -------
    dict
        For each speaker's name, a sorted list of (digit, take, path).

    Raises
    ------
    FileNotFoundError
        If the folder has no recordings of one of the voices.
    """
    folder = Path(fsdd_folder) / "recordings"
    found = {name: [] for name in SPEAKERS}
    for path in sorted(folder.glob("*.wav")):
        digit, name, take = path.stem.split("_")
        if name in found:
            found[name].append((int(digit), int(take), path))
    missing = [name for name, recordings in found.items() if not recordings]
    if missing:
        raise FileNotFoundError(
            f"{folder} has no recordings DIGIT_SPEAKER_TAKE.wav of "
            f"{', '.join(missing)}. Get the dataset with `git clone "
            "https://github.com/Jakobovski/free-spoken-digit-dataset` and "
            "name its folder."
        )
    return {name: sorted(recordings) for name, recordings in found.items()}


def make_sessions(recordings, times, rng):
    """Deals recordings into utterances and utterances into chapters.

    Arguments
    ---------
    recordings : list
        What is dealt.
    times : int
        How often each recording is used; each of these rounds has an order
        of its own.
    rng : numpy.random.Generator
        Where the orders and lengths come from.

    Returns
    -------
    list of list of list
        Chapters of utterances of recordings. The last utterance takes what is
        left, so that every recording is used.

    Example
    -------
    >>> chapters = make_sessions(range(200), 1, np.random.default_rng(0))
    >>> sorted(r for c in chapters for u in c for r in u) == list(range(200))
    True
    """
    dealt = []
    for _ in range(times):
        dealt += [recordings[i] for i in rng.permutation(len(recordings))]
    low, high = LENGTHS
    utterances = []
    while dealt:
        count = int(rng.integers(low, high + 1))
        # Leave none, or enough for another utterance.
        if low <= len(dealt) <= high:
            count = len(dealt)
        elif len(dealt) - count < low:
            count = max(low, len(dealt) - low)
        utterances.append(dealt[:count])
        dealt = dealt[count:]
    return [
        utterances[i : i + UTTERANCES]
        for i in range(0, len(utterances), UTTERANCES)
    ]


def _join(paths, rng):
    """Digits at one level, between pauses, over faint noise, at 16 kHz."""

    def pause():
        return np.zeros(int(rng.uniform(0.1, 0.3) * SAMPLE_RATE))

    pieces = [pause()]
    for path in paths:
        wav, rate = soundfile.read(path)
        if wav.ndim != 1:
            raise ValueError(f"{path} has {wav.shape[1]} channels; allowed: 1.")
        factor = np.gcd(SAMPLE_RATE, rate)
        wav = resample_poly(wav, SAMPLE_RATE // factor, rate // factor)
        wav *= 10 ** (LEVEL / 20) / (np.sqrt(np.mean(wav**2)) + 1e-9)
        wav *= min(1.0, 0.9 / (np.abs(wav).max() + 1e-9))
        pieces += [wav, pause()]
    wav = np.concatenate(pieces)
    return wav + 10 ** (FLOOR / 20) * rng.standard_normal(len(wav))


def prepare_fsdd(fsdd_folder, data_folder, seed=2026):
    """Lays out the dataset, unless it is there with this seed.

    Arguments
    ---------
    fsdd_folder : str
        The dataset: the folder that has `recordings` in it.
    data_folder : str
        Where to put the corpus. Replaced if it is one of other settings; a
        folder of anything else is refused.
    seed : int
        Which digits come together follows from it.

    Returns
    -------
    bool
        True if it was made, False if it was there.

    Raises
    ------
    FileExistsError
        If the data folder holds anything else.
    FileNotFoundError
        If there are no recordings.

    Example
    -------
    >>> prepare_fsdd("fsdd", "data/FSDD")  # doctest: +SKIP
    True
    """
    found = find_recordings(fsdd_folder)

    def build(folder):
        speakers = []
        for index, (split, names, parities, times) in enumerate(SPLITS):
            (folder / split).mkdir()
            for name in names:
                number, sex, description = SPEAKERS[name]
                rng = np.random.default_rng([seed, index, number])
                recordings = [r for r in found[name] if r[1] % 2 in parities]
                chapters = make_sessions(recordings, times, rng)
                seconds = 0.0
                for i, chapter in enumerate(tqdm(chapters, desc=name)):
                    utterances = [
                        (
                            " ".join(DIGITS[digit] for digit, _, _ in said),
                            _join([path for _, _, path in said], rng),
                        )
                        for said in chapter
                    ]
                    seconds += write_chapter(
                        folder / split, number, 1000 + i, utterances
                    )
                speakers.append((number, sex, split, seconds / 60, description))
        title = (
            "Free Spoken Digit Dataset, in sessions\n"
            "github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0;\n"
            "levels set, pauses of faint noise added, resampled to 16 kHz"
        )
        write_speakers(folder, speakers, title)

    # Which recordings there are counts too: the dataset grows.
    files = [[p.name, p.stat().st_size] for r in found.values() for *_, p in r]
    settings = dict(
        seed=seed, files=files, code=source_hash(layout.__file__, __file__)
    )
    built = build_folder(data_folder, "FSDD", settings, build)
    logger.info("%s: %s", data_folder, "made" if built else "is there already")
    return built
