"""Pairs of voices, their equal error rate, and what they are trained on.

Authors
* speechbrain_lact contributors 2026
"""

import random

import numpy as np
import pytest
import soundfile
import torch

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.training.speaker import draw_trials, equal_error
from speechbrain_lact.training.speaker_data import prepare_rirs, stretch

SPEAKERS = ["ann", "ann", "ann", "bob", "bob", "eve"]
SESSIONS = ["a1", "a1", "a2", "b1", "b1", "e1"]


def pairs(trials):
    """Pairs of utterances as sets."""
    return [{tuple(pair) for pair in part.T.tolist()} for part in trials]


def test_equal_error_by_hand():
    same = torch.tensor([0.9, 0.8, 0.7, 0.4])
    # One of four is above the least of the same voice.
    rate, threshold = equal_error(same, torch.tensor([0.1, 0.2, 0.3, 0.5]))
    assert rate == 0.25 and 0.4 <= threshold < 0.5
    rate, _ = equal_error(same, same)
    assert rate == 0.5
    rate, _ = equal_error(same, same + 1)
    assert rate == 1.0


def test_threshold_is_midway_between_voices_told_apart():
    same, different = torch.tensor([0.75, 1.0]), torch.tensor([-1.0, 0.25])
    assert equal_error(same, different) == (0.0, 0.5)


def test_one_voice_is_compared_over_sessions():
    same, different = pairs(draw_trials(SPEAKERS, SESSIONS, 100, 0))
    assert same == {(0, 2), (1, 2)}
    assert different == {
        (one, two)
        for one in range(6)
        for two in range(one + 1, 6)
        if SPEAKERS[one] != SPEAKERS[two]
    }


def test_one_voice_is_compared_within_its_only_session():
    same, _ = pairs(draw_trials(SPEAKERS, SPEAKERS, 100, 0))
    assert same == {(0, 1), (0, 2), (1, 2), (3, 4)}


def test_pairs_are_limited_and_follow_the_seed():
    speakers = [str(i % 5) for i in range(50)]
    sessions = [str(i) for i in range(50)]
    every = pairs(draw_trials(speakers, sessions, 10_000, 0))
    some = [draw_trials(speakers, sessions, 20, seed) for seed in (0, 0, 1)]
    first, again, other = map(pairs, some)
    assert first == again != other
    for chosen, whole in zip(first, every):
        assert len(chosen) == 20 and chosen < whole


@pytest.mark.parametrize("speakers", [["a", "a"], ["a", "b"], ["a"], []])
def test_too_few_voices_are_refused(speakers):
    with pytest.raises(ValueError, match="two of one voice and another"):
        draw_trials(speakers, speakers, 10, 0)


def test_parts_of_utterances():
    samples = torch.arange(10.0)
    parts = {
        tuple(stretch(samples, 7, random.Random(i)).tolist()) for i in range(99)
    }
    assert parts == {tuple(range(i, i + 7)) for i in range(4)}
    whole = stretch(samples, 25, random.Random(0))
    assert torch.equal(whole, (whole[0] + torch.arange(25.0)) % 10)


def test_rooms_and_microphones_differ(tmp_path):
    listed = tmp_path / "save" / "rir.csv"
    prepare_rirs(listed, 3, seed=1)
    rows = load_data_csv(listed)
    rooms = [soundfile.read(row["wav"])[0] for row in rows.values()]
    assert len(rooms) == 3
    # What a microphone does to low and high tones: by the direct sound.
    tilts = [np.abs(np.fft.rfft(room[:40], 320))[[1, 150]] for room in rooms]
    tilts = [low / high for low, high in tilts]
    assert len(set(np.round(tilts, 3))) == 3
    for row, room in zip(rows.values(), rooms):
        assert float(row["duration"]) == len(room) / 16000
        assert np.abs(room).argmax() < 10 and np.isfinite(room).all()
    before = listed.stat().st_mtime_ns
    prepare_rirs(listed, 3, seed=1)
    assert listed.stat().st_mtime_ns == before
