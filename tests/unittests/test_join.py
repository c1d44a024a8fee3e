"""Rows of several utterances, for models that stream."""

import random

from recipes.LibriSpeech.train import join_utterances


def make_rows():
    """Three sessions of 10, 1 and 4 utterances, shuffled."""
    rows = {}
    for session, number in (("a", 10), ("b", 1), ("c", 4)):
        for i in range(number):
            key = f"{session}-{i}"
            rows[key] = {
                "wav": f"/{key}.flac",
                "wrd": f"{key} SAID",
                "duration": str(1.0 + i),
                "session": session,
                "position": str(i),
            }
    keys = list(rows)
    random.Random(0).shuffle(keys)
    return {key: rows[key] for key in keys}


def test_every_utterance_once_and_in_order():
    rows = make_rows()
    joined = join_utterances(rows, 3, seed=1)
    assert 5 < len(joined) < 15
    for session, number in (("a", 10), ("b", 1), ("c", 4)):
        mine = [r for r in joined.values() if r["session"] == session]
        assert [int(r["position"]) for r in mine] == list(range(len(mine)))
        paths = [path for r in mine for path in r["wav"].split("\n")]
        assert paths == [f"/{session}-{i}.flac" for i in range(number)]
        words = " ".join(r["wrd"] for r in mine)
        assert words == " ".join(f"{session}-{i} SAID" for i in range(number))
        wanted = sum(1.0 + i for i in range(number))
        assert sum(float(r["duration"]) for r in mine) == wanted
        assert all(1 <= r["wav"].count("\n") + 1 <= 3 for r in mine)


def test_draws_follow_the_seed_and_leave_the_rows_alone():
    rows = make_rows()
    first = join_utterances(rows, 3, seed=1)
    assert rows == make_rows()
    assert first == join_utterances(make_rows(), 3, seed=1)
    assert list(first) != list(join_utterances(rows, 3, seed=2))
