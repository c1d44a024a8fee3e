"""Picture of the word error rate over the seconds of training.

Authors
* speechbrain_lact contributors 2026
"""

import itertools

from matplotlib.figure import Figure

from speechbrain_lact.evaluation.adaptation.systems import PLAIN, TUNED
from speechbrain_lact.evaluation.transfer.methods import (
    CARRIED,
    INITIAL,
    TRAINED,
)


def plot(rows, path):
    """Draws WER over the seconds of training, a panel for each domain."""
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    styles = {PLAIN: ":", CARRIED: "--", INITIAL: "o-", TUNED: "s-."}
    size = max(5 * len(domains), 7), 5
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(domains), squeeze=False)
    for (domain, system, way), some in itertools.groupby(
        rows, key=lambda row: (row["domain"], row["system"], row["way"])
    ):
        axis, line = axes[0, domains.index(domain)], list(some)
        look = {"label": f"{system} {way}", "c": f"C{systems.index(system)}"}
        if way not in TRAINED:
            axis.axhline(line[0]["WER"], ls=styles[way], **look)
            continue
        # The logarithm has no place for 0 s: another way's line is there.
        places = [(r["seconds"], r["WER"]) for r in line if r["steps"]]
        axis.plot(*zip(*places), styles[way], ms=4, **look)
        axis.set(title=domain, xscale="log", ylim=(0, None))
    figure.supxlabel("seconds of training")
    figure.supylabel("WER (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)
