"""One table of several experiments, from what train.py left behind.

WER in percent with a 95 % interval from a bootstrap over speakers: few
speakers make wide intervals, whatever the number of utterances.

Authors
* speechbrain_lact contributors 2026
"""

import json
from pathlib import Path

import numpy

from speechbrain_lact.evaluation.statistics import resample
from speechbrain_lact.utils.tables import markdown_table

RESAMPLES = 2000


def interval(speakers):
    """WER and its 95 % interval.

    Arguments
    ---------
    speakers : dict
        Errors, words and utterances of each speaker.

    Returns
    -------
    tuple of float
        WER, lower and upper bound, in percent.

    Example
    -------
    >>> interval({"a": [1, 10, 2], "b": [1, 10, 2]})
    (10.0, 10.0, 10.0)
    """
    counts = numpy.array([[e, w] for e, w, _ in speakers.values()], float)
    errors, words = resample(counts, RESAMPLES).T
    low, high = numpy.percentile(100 * errors / words, [2.5, 97.5])
    total = counts.sum(0)
    return float(100 * total[0] / total[1]), float(low), float(high)


def _cell(wer, speakers):
    """One speaker has no spread of speakers."""
    form = "{:.1f}" if len(speakers) == 1 else "{:.1f} [{:.1f}, {:.1f}]"
    return form.format(*wer)


def table(folders):
    """Markdown: a row for each experiment and kind of memory.

    Arguments
    ---------
    folders : list of str
        Output folders of train.py.

    Returns
    -------
    str
    """
    found, tests = {}, []
    for folder in map(Path, folders):
        result = json.loads((folder / "results.json").read_text())
        # results/<experiment>/<seed>, or any folder
        named = folder.parent if folder.name.isdigit() else folder
        name = named.name.removesuffix("_ctc")
        for row in result["rows"]:
            tests += [row["test"]] if row["test"] not in tests else []
            key = (name, row["memory"])
            found.setdefault(key, dict(row))
            found[key][row["test"]] = interval(row["speakers"])
    head = ["encoder", "memory", *tests, "parameters"]
    lines = []
    for (name, memory), row in found.items():
        cells = [
            _cell(row[test], row["speakers"]) if test in row else ""
            for test in tests
        ]
        lines.append(
            [
                name,
                memory,
                *cells,
                f"{row['parameters'] / 1e6:.2f} M",
            ]
        )
    return markdown_table(lines, head)
