"""Pictures of recognisers on one test set.

Authors
* speechbrain_lact contributors 2026
"""

import numpy
from matplotlib.figure import Figure

from speechbrain_lact.evaluation.experiments import interval
from speechbrain_lact.evaluation.paired_comparison import by_speaker


def plot_wer(path, names, scores):
    """WER of each utterance: one model against the other, and sorted."""
    wer = numpy.array(
        [
            [100 * r["word_errors"] / r["words"] for r in s.values()]
            for s in scores
        ]
    )
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    places, counts = numpy.unique(wer, axis=1, return_counts=True)
    left.scatter(*places, s=300 * counts / counts.max(), alpha=0.5)
    edge = max(wer.max(), 1)
    left.plot([0, edge], [0, edge], "k:", lw=1)
    left.set(
        xlabel=f"{names[0]}: WER of an utterance (%)",
        ylabel=f"{names[1]}: WER of an utterance (%)",
    )
    change = numpy.sort(wer[1] - wer[0])
    right.bar(range(len(change)), change, width=1)
    right.axhline(0, color="k", lw=0.5)
    right.set(
        xlabel="utterances, sorted",
        ylabel="difference of WER (%), below 0: the second is better",
    )
    save(figure, path)


def plot_time(path, names, scores):
    """Time of each utterance over its length."""
    figure = Figure(figsize=(5, 4))
    axes = figure.subplots()
    for name, s in zip(names, scores):
        axes.plot(
            [r["duration"] for r in s.values()],
            [r["seconds"] for r in s.values()],
            "o",
            alpha=0.5,
            label=name,
        )
    axes.set(xlabel="audio (s)", ylabel="encoder's time (s)", ylim=(0, None))
    axes.legend()
    save(figure, path)


def plot_summary(path, names, scores):
    """WER and CER with intervals over speakers."""
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots(1, 2)
    for axis, kind in zip(axes, ("word", "character")):
        for place, s in enumerate(scores):
            counts = by_speaker(s, kind)
            rate, low, high = interval(counts)
            error = [[max(0, rate - low)], [max(0, high - rate)]]
            axis.bar(place, rate, yerr=error if len(counts) > 1 else None)
        axis.set(xticks=[0, 1], ylabel=f"{kind} error rate (%)")
        axis.set_xticklabels(names)
    save(figure, path)


def plot_conditions(path, rows):
    """WER by condition with intervals, a panel for each corpus.

    Arguments
    ---------
    path : str or Path
        The picture.
    rows : list of dict
        `corpus`, `condition`, `system`, and `wer`: rate, lower and upper end
        in percent.
    """
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    figure = Figure(figsize=(3 * len(corpora) + 1, 3.5))
    panels = figure.subplots(1, len(corpora), squeeze=False)[0]
    for axis, corpus in zip(panels, corpora):
        for place, system in enumerate(systems):
            own = [
                row
                for row in rows
                if (row["corpus"], row["system"]) == (corpus, system)
            ]
            rate, low, high = numpy.array([row["wer"] for row in own]).T
            shift = 0.15 * (place - (len(systems) - 1) / 2)
            axis.errorbar(
                numpy.arange(len(own)) + shift,
                rate,
                [(rate - low).clip(0), (high - rate).clip(0)],
                fmt="o",
                label=system,
            )
        axis.set(title=corpus, xticks=range(len(own)), ylim=(0, None))
        axis.set_xticklabels([row["condition"] for row in own])
    panels[0].set_ylabel("word error rate (%)")
    panels[-1].legend(loc="upper left")
    save(figure, path)


def save(figure, path):
    """Writes a picture."""
    figure.tight_layout()
    figure.savefig(path)
