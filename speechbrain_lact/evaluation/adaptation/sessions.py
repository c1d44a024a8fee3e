"""Sessions of a test set, and which of their utterances are scored.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
from pathlib import Path

from tqdm import tqdm

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.corpora.conditions import Utterance
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.dataio.audio import read_audio

# The first and the last utterance of a session that are scored.
FIRST, LAST = 5, 10


def read_set(path, last):
    """Utterances of a test set that can be read, and those that cannot.

    Arguments
    ---------
    path : str
        CSV file.
    last : int
        The last utterance of a session that is scored.

    Returns
    -------
    list of Utterance
        In the order of sessions and positions.
    list of str
    """
    good, bad = [], []
    for key, row in tqdm(load_data_csv(path).items(), desc=Path(path).stem):
        if read_audio(row["wav"], SAMPLE_RATE) is None:
            bad.append(key)
            continue
        good.append(
            Utterance(
                key,
                row["wav"],
                row["wrd"],
                row["spk_id"],
                row["session"],
                int(row["position"]),
                float(row["duration"]),
                FIRST <= int(row["position"]) + 1 <= last,
            )
        )
    good.sort(key=lambda u: (u.session, u.position))
    if not any(is_scored(u) for u in good):
        raise ValueError(
            f"{path}: no session has a {FIRST}th utterance: nothing to score"
        )
    return good, bad


def is_scored(utterance):
    """Whether it counts: the earlier ones are only input."""
    return utterance.scored


def group(utterances, key):
    """Lists of utterances with the same key, in their order."""
    found = {}
    for utterance in utterances:
        found.setdefault(key(utterance), []).append(utterance)
    return found


def play_order(utterances):
    """Everybody's first session, then everybody's second, and so on."""
    rounds = {}
    for sessions in group(utterances, lambda u: u.speaker).values():
        names = dict.fromkeys(u.session for u in sessions)
        rounds.update({name: i for i, name in enumerate(names)})
    return sorted(
        utterances, key=lambda u: (rounds[u.session], u.session, u.position)
    )


def other_speakers(lanes):
    """For each session one of another speaker, the same in every run.

    Arguments
    ---------
    lanes : list of list of Utterance
        Sessions in `play_order`.

    Returns
    -------
    list of int
    """
    found = []
    for i, lane in enumerate(lanes):
        for j in itertools.chain(range(i + 1, len(lanes)), range(i)):
            if lanes[j][0].speaker != lane[0].speaker:
                found.append(j)
                break
    return found
