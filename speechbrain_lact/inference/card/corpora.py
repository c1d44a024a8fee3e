"""What is known of the corpora that this project makes or lays out.

A corpus is recognised by what lies in its folder, never by the names of its
splits, which any data may have.

Authors
* speechbrain_lact contributors 2026
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from speechbrain_lact.corpora.folder import SETTINGS_FILE


@dataclass(frozen=True)
class Corpus:
    """What is known of a corpus that this project makes or lays out.

    Arguments
    ---------
    name : str
        Its name; that of its record, where it has one.
    licence : str
        Its licence, short.
    about : str
        Where it comes from, and what the licence asks for.
    voices : str
        Who speaks and what.
    language : str
        ISO 639-1.
    hub : str
        Its name on the hub, or else its own.
    """

    name: str
    licence: str
    about: str
    voices: str
    language: str
    hub: str


MINI_SPEECH = Corpus(
    name="MiniSpeech",
    licence="text Apache-2.0 (ours), audio spoken by espeak-ng (GPL-3.0)",
    about="Made by `recipes/MiniSpeech/mini_speech_prepare.py`. The sentences "
    "come from speechbrain_lact's own grammar (Apache-2.0). The program "
    "espeak-ng, GPL-3.0 or later, speaks them. That licence is the program's; "
    "it covers what a program puts out only if that is itself a covered work "
    "(its section 2). No part of the program is in this folder, and we know "
    "of no other terms for the speech. This is our reading, not legal advice.",
    voices="synthetic voices only, no person; sentences of one small grammar",
    language="en",
    hub="MiniSpeech",
)


FSDD = Corpus(
    name="FSDD",
    licence="CC BY-SA 4.0",
    about="Free Spoken Digit Dataset, "
    "https://github.com/Jakobovski/free-spoken-digit-dataset, by its "
    "contributors, CC BY-SA 4.0. Changed: digits joined to utterances, levels "
    "set, pauses of faint noise added, resampled from 8 to 16 kHz. Whoever "
    "shares the audio, changed or not, does so under the same licence.",
    voices="a few men saying digits, recorded at 8 kHz",
    language="en",
    hub="FSDD",
)


LIBRISPEECH = Corpus(
    name="LibriSpeech",
    licence="CC BY 4.0",
    about="LibriSpeech, https://www.openslr.org/12 (mini LibriSpeech: "
    "https://www.openslr.org/31), V. Panayotov, G. Chen, D. Povey and "
    "S. Khudanpur, 2015, CC BY 4.0.",
    voices="volunteers reading books aloud",
    language="en",
    hub="openslr/librispeech_asr",
)


AN4 = Corpus(
    name="AN4",
    licence="BSD-style, free for any use",
    about="CMU AN4 (census), http://www.speech.cs.cmu.edu/databases/an4, "
    "Copyright (c) 1991-2005 Carnegie Mellon University, free for use for "
    "any purpose under the conditions of its LICENSE. Changed: NIST SPHERE "
    "to FLAC; every eighth training voice set aside for validation.",
    voices="people saying names, numbers, spelled words and commands into a "
    "close microphone, 1991",
    language="en",
    hub="espnet/an4",
)


CORPORA = {
    corpus.name: corpus for corpus in (MINI_SPEECH, FSDD, LIBRISPEECH, AN4)
}


# What a README or the head of SPEAKERS.TXT says of the audio.
DIGITS = re.compile(r"(^; |\bAudio: )Free Spoken Digit Dataset\b", re.MULTILINE)


# A chapter of each split of LibriSpeech, the first one of most.
CHAPTERS = {
    "train-clean-100": "103/1240",
    "train-clean-360": "100/121669",
    "train-other-500": "20/205",
    "dev-clean": "1272/128104",
    "dev-other": "116/288045",
    "test-clean": "1089/134686",
    "test-other": "1688/142285",
    "train-clean-5": "1088/134315",
    "dev-clean-2": "1272/135031",
}


def find_corpus(split):
    """Recognises the corpus of a split by what lies beside or in it.

    Arguments
    ---------
    split : str or Path
        The folder of the split; links are followed.

    Returns
    -------
    corpus : Corpus or None
    known_from : str
        The file that says so.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> find_corpus(folder / "train-clean-100")
    (None, '')
    >>> _ = (folder / "settings.json").write_text('{"corpus": "MiniSpeech"}')
    >>> corpus, known_from = find_corpus(folder / "train-clean-100")
    >>> corpus.name, known_from
    ('MiniSpeech', 'settings.json')
    """
    split = Path(os.path.realpath(split))
    try:
        record = json.loads(_read(split.parent / SETTINGS_FILE))
        return CORPORA[record["corpus"]], SETTINGS_FILE
    except (KeyError, TypeError, ValueError):
        pass
    for name in ("SPEAKERS.TXT", "README.md"):
        if DIGITS.search(_read(split.parent / name)):
            return FSDD, name
    chapter = CHAPTERS.get(split.name, "-/-")
    text = f"{chapter}/{chapter.replace('/', '-')}.trans.txt"
    if (split / text).is_file():
        return LIBRISPEECH, text
    return None, ""


def _read(path):
    """The text of a file, or none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
