"""Statistics of word errors: intervals and paired tests over speakers.

Utterances of one speaker are alike, so what is drawn is a speaker with all
utterances, of all training seeds (Bisani and Ney, "Bootstrap estimates for
confidence intervals in ASR performance evaluation", ICASSP 2004). All systems
are compared on the same draws. `docs/methodology.md` has the rules.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np

DRAWS, SEED = 10_000, 0
BOUNDS = 2.5, 97.5


@dataclass
class Comparison:
    """Word errors of a system against those of another."""

    difference: Optional[float]
    """Share of the other's errors that is added (below 0: fewer errors); None
    if the other makes none."""
    low: Optional[float]
    """Lower end of its 95 % interval; None with one speaker."""
    high: Optional[float]
    """Upper end."""
    p: Optional[float]
    """Two-sided, not corrected; None with one speaker."""
    decided: bool
    """Whether the sign is the same for all seeds."""


def wer_interval(speakers, errors, words, draws=DRAWS, seed=SEED):
    """Word error rate and its 95 % interval.

    Arguments
    ---------
    speakers : sequence of str
        Who said each utterance [N].
    errors : array_like
        Word errors of each utterance [N], or of each seed [seeds, N].
    words : array_like
        Words of each utterance [N].
    draws : int
        How many samples of the bootstrap.
    seed : int
        Seed of the draws.

    Returns
    -------
    tuple of float
        Rate, lower and upper end, in percent. With one speaker there are no
        ends (None), without words no rate.

    Example
    -------
    >>> wer_interval(["a", "a", "b"], [1, 0, 1], [5, 5, 10])
    (10.0, 10.0, 10.0)
    """
    errors = _by_seed(errors)
    sums, count = _by_speaker(
        speakers, errors.sum(0), len(errors) * np.asarray(words)
    )
    return _rate(sums, _weights(count, draws, seed))


def mean_interval(sums, counts):
    """Mean of recordings and its 95 % interval; recordings are drawn.

    Arguments
    ---------
    sums : array_like
        Sum of each recording's values [N].
    counts : array_like
        How many values each recording has [N].

    Returns
    -------
    list of float
        Mean, lower and upper end; with one recording there are no ends
        (None).

    Example
    -------
    >>> mean_interval([6.0, 3.0], [2, 1])
    [3.0, 3.0, 3.0]
    """
    found = wer_interval(np.arange(len(sums)), sums, counts)
    return [None if value is None else value / 100 for value in found]


def wer_by_position(positions, speakers, errors, words, draws=DRAWS, seed=SEED):
    """Word error rate over the place in the session, with intervals.

    Arguments
    ---------
    positions : sequence of int
        Place of each utterance in its session [N].
    speakers, errors, words, draws, seed
        As of `wer_interval`.

    Returns
    -------
    dict of tuple
        What `wer_interval` returns, by place.

    Example
    -------
    >>> wer_by_position([0, 1], ["a", "a"], [[3, 1]], [10, 10])
    {0: (30.0, None, None), 1: (10.0, None, None)}
    """
    positions, errors = np.asarray(positions), _by_seed(errors)
    places = np.unique(positions)
    # Columns: errors, then words, at each place.
    at = positions[:, None] == places
    words = len(errors) * np.asarray(words)
    table = np.hstack([at * errors.sum(0)[:, None], at * words[:, None]])
    sums, count = _by_speaker(speakers, *table.T)
    weights = _weights(count, draws, seed)
    pairs = np.arange(len(places))[:, None] + [0, len(places)]
    return {
        int(place): _rate(sums[:, pair], weights)
        for place, pair in zip(places, pairs)
    }


def compare(speakers, errors, others, draws=DRAWS, seed=SEED):
    """Paired bootstrap over speakers: fewer errors than another system?

    Arguments
    ---------
    speakers : sequence of str
        Who said each utterance [N].
    errors : array_like
        Word errors of each utterance [N], or of each seed [seeds, N].
    others : array_like
        The other system's, on the same utterances, with as many seeds.
    draws : int
        How many samples of the bootstrap.
    seed : int
        Seed of the draws.

    Returns
    -------
    Comparison
        Errors are summed over the seeds. Draws without a difference count for
        both sides of p, so that equal systems have p = 1.

    Raises
    ------
    ValueError
        If there are not the same utterances and seeds.

    Example
    -------
    >>> compare(["a", "b"], [8, 4], [10, 5])
    Comparison(difference=-0.2, low=-0.2, high=-0.2, p=0.0, decided=True)
    """
    errors, others = _by_seed(errors), _by_seed(others)
    if errors.shape != others.shape or errors.shape[1] != len(speakers):
        raise ValueError(
            f"systems of {errors.shape} and {others.shape} seeds and "
            f"utterances, {len(speakers)} speakers: not paired"
        )
    sums, count = _by_speaker(speakers, errors.sum(0), others.sum(0))
    signs = np.sign((errors - others).sum(1))
    decided = not (signs.min() < 0 < signs.max())
    (whole,) = _relative(sums.sum(0)[None])
    drawn = resample(sums, draws, seed)
    change = drawn[:, 0] - drawn[:, 1]
    low = high = p = None
    if count > 1:
        low, high = _bounds(_relative(drawn))
        sides = (change <= 0).mean(), (change >= 0).mean()
        p = min(1.0, 2 * float(min(sides)))
    return Comparison(_finite(whole), low, high, p, decided)


def resample(sums, draws=DRAWS, seed=SEED):
    """Bootstrap: sums over as many speakers as there are, drawn at random,
    each as often as it comes.

    Arguments
    ---------
    sums : array_like
        Sums of each speaker, such as errors and words [S, columns].
    draws : int
        How many samples of the bootstrap.
    seed : int
        Seed of the draws.

    Returns
    -------
    numpy.ndarray
        [draws, columns]

    Example
    -------
    >>> resample([[1, 10], [1, 10]], draws=3)
    array([[ 2, 20],
           [ 2, 20],
           [ 2, 20]])
    """
    return _weights(len(sums), draws, seed) @ np.asarray(sums)


def holm(values):
    """Holm's correction of a family of p values.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6, 1979.

    Arguments
    ---------
    values : sequence of float
        One of each test.

    Returns
    -------
    list of float
        Corrected, in the same order: below 0.05 is significant.

    Example
    -------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    # Here, for it takes seconds to load, and only reports need it.
    from statsmodels.stats.multitest import multipletests

    return multipletests(values, method="holm")[1].tolist()


def _by_seed(errors):
    """Errors [seeds, N]."""
    return np.atleast_2d(np.asarray(errors))


def _by_speaker(speakers, *columns):
    """Sums of each speaker [S, columns], and S."""
    names, rows = np.unique(np.asarray(speakers), return_inverse=True)
    sums = [np.bincount(rows, column, len(names)) for column in columns]
    return np.stack(sums, 1), len(names)


def _weights(count, draws, seed):
    """How often each draw has each speaker [draws, count]."""
    drawn = np.random.default_rng(seed).integers(count, size=(draws, count))
    places = drawn + count * np.arange(draws)[:, None]
    found = np.bincount(places.ravel(), minlength=draws * count)
    return found.reshape(draws, count)


def _rate(sums, weights):
    """Rate and bounds in percent of errors and words of speakers [S, 2]."""
    errors, words = sums.sum(0)
    if not words:
        return None, None, None
    rate = float(100 * errors / words)
    if np.count_nonzero(sums[:, 1]) < 2:
        return rate, None, None
    errors, words = (weights @ sums).T
    # A draw may have none of the few who came so far.
    return rate, *_bounds(100 * errors[words > 0] / words[words > 0])


def _relative(pairs):
    """Change from the second to the first, relative to the second."""
    first, second = pairs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (first - second) / second
    return np.where(first == second, 0.0, change)


def _bounds(values):
    """Percentiles; of values, so that infinite ones need no sums."""
    low, high = np.percentile(values, BOUNDS, method="nearest")
    return _finite(low), _finite(high)


def _finite(value):
    return float(value) if np.isfinite(value) else None
