"""Tests of word errors.

Authors
* speechbrain_lact contributors 2026
"""

import random

import pytest

from speechbrain.utils.metric_stats import ErrorRateStats
from speechbrain_lact.evaluation.wer import count_word_errors


@pytest.mark.parametrize(
    "reference, hypothesis, errors",
    [
        ("the cat sat", "the cat sat", 0),
        ("the cat sat", "a cat", 2),
        ("the cat", "the big fat cat", 2),
        ("", "two words", 2),
        ("two words", "", 2),
        ("", "", 0),
        (" two\twords  here ", "two words\nhere", 0),
    ],
)
def test_word_errors(reference, hypothesis, errors):
    assert count_word_errors(reference, hypothesis) == errors


def test_word_errors_are_those_of_speechbrain():
    random.seed(0)
    for _ in range(300):
        reference, hypothesis = (
            random.choices("ABCD", k=random.randrange(8)) for _ in range(2)
        )
        stats = ErrorRateStats()
        stats.append(["key"], [hypothesis], [reference])
        (score,) = stats.scores
        found = count_word_errors(" ".join(reference), " ".join(hypothesis))
        assert found == score["num_edits"]
