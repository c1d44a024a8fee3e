"""Tests of the statistics against cases that are known.

Authors
* speechbrain_lact contributors 2026
"""

import numpy as np
import pytest

from speechbrain_lact.evaluation.statistics import (
    compare,
    holm,
    wer_by_position,
    wer_interval,
)

SPEAKERS, UTTERANCES, WORDS = 30, 6, 8


def experiment(rng, change):
    """Errors of two systems: speakers differ, and in what the second changes
    for them, by `change` on the average."""
    rates = rng.beta(2, 8, SPEAKERS)
    factor = 1 + change + rng.choice([-0.3, 0.3], SPEAKERS)
    draw = [
        rng.binomial(WORDS, r[:, None], (SPEAKERS, UTTERANCES)).ravel()
        for r in (rates * factor, rates)
    ]
    speakers = np.repeat(np.arange(SPEAKERS), UTTERANCES).astype(str)
    return speakers, *draw


def test_interval_holds_the_truth_as_often_as_it_says():
    """The rate 0.2 and its change by -20 %, in 400 made experiments; drawing
    utterances in place of speakers would hold the rate in 67 % of them."""
    rng = np.random.default_rng(1)
    rate = change = 0
    for _ in range(400):
        speakers, errors, others = experiment(rng, -0.2)
        words = np.full(len(errors), WORDS)
        _, low, high = wer_interval(speakers, others, words, draws=500)
        rate += low <= 20 <= high
        found = compare(speakers, errors, others, draws=500)
        change += found.low <= -0.2 <= found.high
    assert 0.90 < rate / 400 < 0.98
    assert 0.90 < change / 400 < 0.98


def test_p_is_right_where_there_is_nothing():
    rng = np.random.default_rng(2)
    found = [compare(*experiment(rng, 0.0), draws=500).p for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09
    assert 0.4 < np.mean(np.array(found) < 0.5) < 0.6


def test_p_finds_what_there_is():
    rng = np.random.default_rng(3)
    found = compare(*experiment(rng, -0.5))
    assert found.p < 0.001 and found.decided
    assert found.low < found.difference < found.high < 0


def test_equal_systems():
    rng = np.random.default_rng(4)
    speakers, errors, _ = experiment(rng, 0.0)
    found = compare(speakers, errors, errors)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.p == 1 and found.decided
    # Others on the same utterances, as many of each speaker.
    swapped = errors.reshape(SPEAKERS, -1)[:, ::-1].ravel()
    assert compare(speakers, swapped, errors).p == 1


def test_seeds_are_summed_and_must_agree():
    speakers = ["a", "b", "c"]
    errors = [[1, 2, 3], [5, 5, 5]]
    others = [[2, 2, 3], [4, 4, 6]]
    found = compare(speakers, errors, others)
    whole = compare(speakers, np.sum(errors, 0), np.sum(others, 0))
    assert not found.decided and whole.decided
    assert abs(found.difference) < 1e-12 and found.p == whole.p
    assert (found.low, found.high) == (whole.low, whole.high)
    # No difference in one seed contradicts nobody.
    assert compare(speakers, errors, [[2, 2, 3], [5, 5, 5]]).decided
    rate, _, _ = wer_interval(speakers, errors, [10, 10, 10])
    assert rate == 100 * 21 / 60


def test_all_utterances_of_a_speaker_are_drawn_together():
    """Two speakers: one makes errors, one none. A draw has both, or one."""
    speakers = ["a"] * 50 + ["b"] * 50
    errors = [1] * 50 + [0] * 50
    assert wer_interval(speakers, errors, [10] * 100) == (5, 0, 10)


def test_few_speakers_and_few_errors():
    one = compare(["a", "a"], [1, 2], [2, 2])
    assert (one.difference, one.low, one.high, one.p) == (-0.25, *[None] * 3)
    assert wer_interval(["a"], [1], [4]) == (25, None, None)
    assert wer_interval(["a"], [1], [0]) == (None, None, None)
    # Where the other makes no errors there is no share of them.
    none = compare(["a", "b"], [1, 0], [0, 0])
    assert none.difference is None and abs(none.p - 0.5) < 0.05
    some = compare(["a", "b"], [1, 1], [2, 0])
    assert (some.difference, some.low, some.high) == (0, -0.5, None)
    assert some.p == 1


def test_positions_have_the_draws_of_all():
    rng = np.random.default_rng(5)
    speakers, errors, others = experiment(rng, 0.0)
    seeds = np.stack([errors, others])
    words = rng.integers(3, 9, len(errors))
    places = np.tile(np.arange(UTTERANCES), SPEAKERS)
    found = wer_by_position(places, speakers, seeds, words)
    assert list(found) == list(range(UTTERANCES))
    for place, rate in found.items():
        here = places == place
        assert rate == wer_interval(speakers[here], seeds[:, here], words[here])


def test_position_that_few_reach():
    """A draw without any of them has no rate, and does not count."""
    found = wer_by_position(
        [1, 1, 1, 1, 2, 2],
        ["a", "b", "c", "d", "a", "b"],
        [0, 0, 0, 0, 1, 3],
        [4, 4, 4, 4, 4, 4],
    )
    assert found == {1: (0, 0, 0), 2: (50, 25, 75)}


def test_holm_on_a_worked_example():
    """4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04, which may not be less."""
    found = holm([0.01, 0.04, 0.03, 0.005])
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1] and holm([]) == []


@pytest.mark.parametrize(
    "errors, others", [([1, 2], [1]), ([[1, 2]] * 2, [[1, 2]]), ([1], [1])]
)
def test_what_is_not_paired_is_refused(errors, others):
    with pytest.raises(ValueError, match="not paired"):
        compare(["a", "b"], errors, others)
