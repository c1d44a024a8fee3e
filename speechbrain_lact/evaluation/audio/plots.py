"""Pictures: likelihood over position, measures over time, spectrograms.

Authors
* speechbrain_lact contributors 2026
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from speechbrain_lact.evaluation.audio.inputs import STEP, check_wav
from speechbrain_lact.evaluation.audio.rolloff import FRAME

# Decibels below the loudest that a spectrogram shows.
DEPTH = 80


def plot_nll(table_by_system, path, trained=None):
    """Draws bits per token over position, intervals shaded.

    Arguments
    ---------
    table_by_system : dict of list of dict
        What `nll_table` returns for each system.
    path : str or Path
        The picture.
    trained : float, optional
        Seconds of the longest recordings in training.
    """
    figure, axes = _figure(table_by_system, (7, 4))
    for system, table in table_by_system.items():
        places = [(row["start"] + row["end"]) / 2 for row in table]
        _curve(axes, places, table, "bits", system)
    if trained is not None:
        axes.axvline(trained, color="k", ls=":", label="training length")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="position (s)", ylabel="bits per token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def plot_over_time(rows, labels, path, reference=None):
    """Draws measures over time, a picture each: means of systems, intervals
    shaded, and the reference as a band from end to end.

    Arguments
    ---------
    rows : list of dict
        As `compare` returns them, each with `seconds`, in their order.
    labels : dict
        The measures to draw, and what to call them.
    path : str or Path
        The picture.
    reference : str, optional
        The system that does not change over time.
    """
    columns = min(2, len(labels))
    lines = -(-len(labels) // 2)
    figure, axes = _figure(labels, (9, 0.8 + 2.7 * lines), lines, columns)
    times = sorted({row["seconds"] for row in rows})
    systems = dict.fromkeys(row["system"] for row in rows)
    for axis, (measure_name, label) in zip(np.ravel(axes), labels.items()):
        for system in systems:
            same = [
                row
                for row in rows
                if (row["system"], row["measure"]) == (system, measure_name)
            ]
            if system != reference:
                places = [row["seconds"] for row in same]
                _curve(axis, places, same, "mean", system)
            elif same and same[0]["mean"] is not None:
                _band(axis, same[0], system)
        axis.set(xscale="log", ylabel=label, xticks=times)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in np.atleast_2d(axes)[-1]:
        axis.set_xlabel("time (s)")
    handles = np.ravel(axes)[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(systems))
    figure.savefig(path, dpi=150)


def _curve(axes, places, rows, name, label):
    """Means at places, their intervals shaded; gaps for what is None."""
    mean, low, high = (
        [np.nan if row[key] is None else row[key] for row in rows]
        for key in (name, "low", "high")
    )
    (line,) = axes.plot(places, mean, "o-", ms=4, label=label)
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2)


def _band(axes, row, label):
    """A mean and its interval from end to end."""
    axes.axhline(row["mean"], color="k", ls="--", label=label)
    if row["low"] is not None:
        axes.axhspan(row["low"], row["high"], color="k", alpha=0.1)


def plot_spectrograms(wavs_by_name, rate, path):
    """Draws spectrograms under each other, on one scale of time and loudness.

    Arguments
    ---------
    wavs_by_name : dict of torch.Tensor
        Waveforms [S], such as real and generated ones.
    rate : int
        Samples per second.
    path : str or Path
        The picture.
    """
    size = round(FRAME * rate)
    wavs = {
        name: check_wav(wav, rate, FRAME, name)
        for name, wav in wavs_by_name.items()
    }
    longest = max((len(wav) for wav in wavs.values()), default=0)
    # A column a pixel or so.
    hop = max(round(STEP * rate), longest // 1500)
    window = torch.hann_window(size)
    figure, axes = _figure(wavs, (10, 0.8 + 2.2 * len(wavs)), len(wavs))
    levels = {
        name: torch.fft.rfft(wav.unfold(0, size, hop) * window).abs()
        for name, wav in wavs.items()
    }
    loudest = max(float(level.max()) for level in levels.values())
    floor = 10 ** (-DEPTH / 20)
    for axis, (name, level) in zip(np.atleast_1d(axes), levels.items()):
        level = 20 * (level / max(loudest, 1e-9)).clamp(min=floor).log10()
        image = axis.imshow(
            level.T.numpy(),
            origin="lower",
            aspect="auto",
            extent=(0, len(wavs[name]) / rate, 0, rate / 2000),
            vmin=-DEPTH,
            vmax=0,
            cmap="magma",
        )
        axis.set(title=name, ylabel="kHz", xlim=(0, longest / rate))
    axis.set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label="dB below the loudest of all")
    figure.savefig(path, dpi=150)


def _figure(contents, size, rows=1, columns=1):
    """A figure and its axes, for something to draw."""
    if not contents:
        raise ValueError("nothing to draw")
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=True)
