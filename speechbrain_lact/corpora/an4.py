"""Lays out CMU's AN4 ("census") as LibriSpeech is.

AN4 (http://www.speech.cs.cmu.edu/databases/an4, free for any use as its
licence says) has 948 utterances of 74 people to train and 130 of 10 others to
test: names, numbers, spelled words and commands, 16 kHz. The original is
`an4_sphere.tar.gz`:

=====================================  =====================================
etc/an4_train.transcription            lines `<s> WORDS </s> (an251-fash-b)`
etc/an4_test.transcription             the same, or without `<s>` and `</s>`
wav/an4_clstk/fash/an251-fash-b.sph    NIST SPHERE, a folder for each person
wav/an4test_clstk/...                  those of the test
=====================================  =====================================

Here a person is a speaker with one session, all utterances in the order of
the transcription. `test-clean` is the official test. Every eighth person of
the official training part goes to `dev-clean`, the others to
`train-clean-100`.

Authors
 * speechbrain_lact contributors 2026
"""

import logging
import re
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from speechbrain_lact.corpora import layout
from speechbrain_lact.corpora.csv_files import folder_content
from speechbrain_lact.corpora.download import download_an4
from speechbrain_lact.corpora.folder import build_folder, source_hash
from speechbrain_lact.corpora.layout import (
    SAMPLE_RATE,
    write_chapter,
    write_speakers,
)
from speechbrain_lact.dataio.manifests import normalise_text

logger = logging.getLogger(__name__)

SPLITS = ("train-clean-100", "dev-clean", "test-clean")
# Part of the original: folder of its recordings, number of the first speaker.
PARTS = {"train": ("an4_clstk", 2001), "test": ("an4test_clstk", 2101)}
DEV = 8  # of so many training voices one is for validation
LINE = re.compile(
    r"^\s*(?:<s>)?\s*(?P<words>.*?)\s*(?:</s>)?\s*"
    r"\((?P<name>[^-()\s]+-(?P<voice>[^-()\s]+)-[^-()\s]+)\)\s*$"
)


def an4_splits(data_folder, layout_folder="data/AN4", download=False):
    """The folder with AN4 laid out as LibriSpeech is.

    Arguments
    ---------
    data_folder : str or Path
        AN4 as it was published (the folder that has `etc` and `wav` in it, or
        the one above), or laid out already.
    layout_folder : str or Path
        Where it is laid out, if it is not.
    download : bool
        Whether to fetch it to `data_folder` if nothing of it is there.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        If the folder holds neither.
    """
    folder = Path(data_folder).expanduser()
    if all((folder / split).is_dir() for split in SPLITS):
        return folder
    if download and not (folder / "an4").exists():
        download_an4(folder)
    prepare_an4(folder, layout_folder)
    return Path(layout_folder)


def prepare_an4(an4_folder, data_folder):
    """Lays out AN4, unless it is there.

    Arguments
    ---------
    an4_folder : str or Path
        The original: the folder with `etc` and `wav`, or the one above.
    data_folder : str or Path
        Where to put the corpus; a folder of anything else is refused.

    Returns
    -------
    bool
        True if it was made, False if it was there.

    Raises
    ------
    FileExistsError
        If the data folder holds anything else.
    FileNotFoundError
        If something of the original is missing.
    ValueError
        If a transcription or a recording is not as published.

    Example
    -------
    >>> prepare_an4("an4", "data/AN4")  # doctest: +SKIP
    True
    """
    root = _find_root(Path(an4_folder).expanduser())
    voices = {part: _read_part(root, part) for part in PARTS}

    def build(folder):
        speakers = []
        for part, (_, first) in PARTS.items():
            names = sorted(voices[part])
            for place, name in enumerate(tqdm(names, desc=part)):
                split = _split(part, place)
                (folder / split).mkdir(exist_ok=True)
                utterances = [
                    (words, _read(p)) for words, p in voices[part][name]
                ]
                number = first + place
                seconds = write_chapter(folder / split, number, 1, utterances)
                sex = name[0].upper()
                speakers.append((number, sex, split, seconds / 60, name))
        for split in SPLITS:  # of few voices
            (folder / split).mkdir(exist_ok=True)
        title = (
            "CMU AN4 (census)\n"
            "www.speech.cs.cmu.edu/databases/an4, free for any use;\n"
            "Copyright (c) 1991-2005 Carnegie Mellon University"
        )
        write_speakers(folder, speakers, title)

    files = [
        [path.name, path.stat().st_size, words]
        for part in voices.values()
        for utterances in part.values()
        for words, path in utterances
    ]
    settings = dict(files=files, code=source_hash(layout.__file__, __file__))
    built = build_folder(data_folder, "AN4", settings, build)
    logger.info("%s: %s", data_folder, "made" if built else "is there already")
    return built


def _split(part, place):
    """Where the voice of a place in the sorted list goes."""
    if part == "test":
        return SPLITS[2]
    return SPLITS[place % DEV == DEV - 2]


def _find_root(folder):
    """The folder that has `etc` and `wav`."""
    for root in (folder, folder / "an4"):
        if (root / "etc" / "an4_train.transcription").is_file():
            return root
    holds = folder_content(str(folder)) if folder.is_dir() else "no folder"
    raise FileNotFoundError(
        f"{folder} has no AN4 (it holds: {holds}): expected are "
        "etc/an4_train.transcription and wav/an4_clstk as in "
        f"an4_sphere.tar.gz, or {', '.join(SPLITS)} laid out as LibriSpeech "
        "is. Name the right folder, or add --download True."
    )


def _read_part(root, part):
    """For each person a list of (words, recording), in order."""
    path = root / "etc" / f"an4_{part}.transcription"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: unpack AN4 again")
    recordings, found, missing = root / "wav" / PARTS[part][0], {}, []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = LINE.match(line)
        if match is None:
            raise ValueError(
                f"{path}:{number}: expected is '<s> WORDS </s> "
                f"(an251-fash-b)', not {line[:60]!r}"
            )
        words = normalise_text(match["words"])
        if not words:
            logger.warning("Skipped %s:%d: no words", path, number)
            continue
        wav = recordings / match["voice"] / f"{match['name']}.sph"
        if not wav.is_file():
            missing.append(wav)
        found.setdefault(match["voice"], []).append((words, wav))
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} recordings of {path} are missing, {missing[0]} "
            "is the first: unpack an4_sphere.tar.gz again"
        )
    if not found:
        raise ValueError(f"{path} names no recordings")
    return found


def _read(path):
    """Samples of a recording, such that writing them changes none."""
    try:
        wav, rate = soundfile.read(path, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: {error}") from None
    if wav.ndim != 1 or rate != SAMPLE_RATE:
        raise ValueError(
            f"{path}: one channel of {SAMPLE_RATE} Hz is expected, not "
            f"{1 if wav.ndim == 1 else wav.shape[1]} of {rate} Hz"
        )
    return np.maximum(wav, -32767) / 32767
