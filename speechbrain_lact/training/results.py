"""What a run has found: tables, files of numbers, pictures.

Authors
* speechbrain_lact contributors 2026
"""

import json
import logging
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from speechbrain_lact.utils.tables import markdown_table


def write_results(folder, rows, began, **facts):
    """Keeps what a run has found: results.json and results.md.

    Arguments
    ---------
    folder : str or Path
        Output folder of the run.
    rows : list of dict
        Of the table.
    began : float
        When the run began, as `time.time` has it.
    **facts : dict
        What else to keep in results.json.

    Returns
    -------
    str
        The table in Markdown.
    """
    # Errors by speaker are for other programs.
    table = markdown_table(
        [{k: v for k, v in row.items() if k != "speakers"} for row in rows]
    )
    (Path(folder) / "results.md").write_text(table + "\n")
    results = {
        "rows": rows,
        **facts,
        "minutes": round((time.time() - began) / 60, 1),
        "torch": torch.__version__,
    }
    text = json.dumps(results, indent=1)
    (Path(folder) / "results.json").write_text(text)
    return table


def count_parameters(model):
    """Number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def peak_memory():
    """Most memory that this process had, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def plot_history(history, path):
    """Draws loss and WER over epochs beside the file of numbers."""
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in history]
    figure = Figure(figsize=(9, 3.5))
    left, right = figure.subplots(1, 2)
    for key in ("train_loss", "valid_loss"):
        left.plot(steps, [e[key] for e in history], "o-", label=key)
    left.set(xlabel="step", ylabel="CTC loss", yscale="log")
    left.legend()
    right.plot(steps, [e["valid_WER"] for e in history], "o-")
    right.set(xlabel="step", ylabel="WER on the dev set (%)", ylim=(0, None))
    # Its search for fonts would fill the log.
    log = logging.getLogger("matplotlib.font_manager")
    with quiet(log):
        figure.tight_layout()
        figure.savefig(path.with_suffix(".png"))


@contextmanager
def quiet(log):
    """Nothing but warnings of a logger, meanwhile."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
