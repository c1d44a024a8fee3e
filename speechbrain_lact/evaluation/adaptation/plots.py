"""Picture of the word error rate over the place in the session.

Authors
* speechbrain_lact contributors 2026
"""

from matplotlib.figure import Figure


def plot_positions(positions, path, scored):
    """Draws WER over the place in the session, a panel for each condition.

    Arguments
    ---------
    positions : dict
        Of `Results.positions`.
    scored : tuple of int
        Of a session's utterances, the first and the last that count.
    path : Path
        The picture.
    """
    columns = min(len(positions), 4)
    lines = -(-len(positions) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    names = dict.fromkeys(s for found in positions.values() for s in found)
    colours = {name: f"C{i}" for i, name in enumerate(names)}
    for axis, (pool, found) in zip(axes.flat, positions.items()):
        for name, rates in found.items():
            places = sorted(rates)
            middle, low, high = zip(*(rates[place] for place in places))
            axis.plot(
                places, middle, "o-", ms=3, label=name, color=colours[name]
            )
            if None not in (*low, *high):
                axis.fill_between(
                    places, low, high, alpha=0.15, color=colours[name], lw=0
                )
        axis.axvspan(
            scored[0] - 0.5, scored[1] + 0.5, color="k", alpha=0.05, lw=0
        )
        axis.set(title=pool, ylim=(0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in list(axes.flat)[len(positions) :]:
        axis.axis("off")
    figure.supxlabel("utterance of the session (grey: scored)")
    figure.supylabel("WER (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    ncols = min(4, 2 * columns)
    figure.legend(handles, labels, loc="outside upper center", ncols=ncols)
    figure.savefig(path, dpi=120, bbox_inches="tight")
