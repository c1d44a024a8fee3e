"""Means and intervals of the measures of many recordings.

Authors
* speechbrain_lact contributors 2026
"""

import numpy as np

from speechbrain_lact.evaluation.statistics import mean_interval


def compare(measures_by_system, reference=None):
    """Means and 95 % bootstrap intervals over recordings.

    Arguments
    ---------
    measures_by_system : dict of list of dict
        What `measure` returns for each recording of each system; numbers are
        compared, what is None or a list is not.
    reference : str, optional
        The system, such as real speech, that the others should be like.

    Returns
    -------
    list of dict
        `system`, `measure`, `mean`, `low` and `high` end of its interval
        (None with one recording), `count` of recordings that have it, and
        `change`: the mean relative to the reference's, less 1. A measure that
        no recording of any system has is left out.

    Raises
    ------
    ValueError
        For a system without recordings, or an unknown reference.

    Example
    -------
    >>> measures = {"real": [{"voiced": 0.5}], "made": [{"voiced": 0.6}]}
    >>> for row in compare(measures, "real"):
    ...     print(row["system"], row["mean"], round(row["change"], 2))
    real 0.5 0.0
    made 0.6 0.2
    """
    if reference not in (None, *measures_by_system):
        raise ValueError(
            f"reference: {reference!r} is none of "
            f"{', '.join(measures_by_system)}"
        )
    empty = [name for name, many in measures_by_system.items() if not many]
    if empty:
        raise ValueError(f"no recordings of {', '.join(empty)}")
    names = {
        name: None
        for many in measures_by_system.values()
        for one in many
        for name, value in one.items()
        if isinstance(value, (int, float))
    }
    rows = [
        _summary(system, name, measures_by_system[system])
        for name in names
        for system in measures_by_system
    ]
    means = {
        row["measure"]: row["mean"]
        for row in rows
        if row["system"] == reference
    }
    for row in rows:
        base = means.get(row["measure"])
        row["change"] = None
        if base and row["mean"] is not None:
            row["change"] = row["mean"] / base - 1
    return rows


def _summary(system, name, measures):
    """One measure of one system."""
    values = [one.get(name) for one in measures]
    values = [value for value in values if value is not None]
    mean = low = high = None
    if values:
        mean, low, high = mean_interval(values, np.ones(len(values)))
    return {
        "system": system,
        "measure": name,
        "mean": mean,
        "low": low,
        "high": high,
        "count": len(values),
    }
