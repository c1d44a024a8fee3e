"""Writes the report: JSON, CSV, Markdown and the picture.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
from pathlib import Path

import torch

from speechbrain_lact.evaluation.adaptation.sessions import FIRST, LAST
from speechbrain_lact.evaluation.adaptation.systems import PLAIN
from speechbrain_lact.evaluation.tables import interval_cell
from speechbrain_lact.evaluation.transfer.methods import BATCH
from speechbrain_lact.evaluation.transfer.plots import plot
from speechbrain_lact.evaluation.transfer.scoring import error_rate
from speechbrain_lact.evaluation.transfer.verdicts import CLOSE, judge
from speechbrain_lact.utils.tables import markdown_table


def write_report(jobs, settings):
    """Writes JSON, CSV, Markdown and the picture.

    Arguments
    ---------
    jobs : list of Job
        All done.
    settings : dict
        The command line: `output_folder`, `device`, `seconds_of_audio` and
        what else is to be noted.

    Returns
    -------
    str
        The Markdown.
    """
    folder = Path(settings["output_folder"])
    rows = collect_rows(jobs, folder)
    judged = judge(rows)
    threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    content = {
        "settings": {**settings, **threads, "scored": [FIRST, LAST]},
        "lessons": {
            job.condition: [u.key for u in job.data["train"]] for job in jobs
        },
        "rows": rows,
        "judged": judged,
        "runs": [job.path(folder).name for job in jobs],
    }
    (folder / "transfer.json").write_text(json.dumps(content, indent=1))
    with open(folder / "transfer.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    text = markdown(rows, judged, settings)
    (folder / "transfer.md").write_text(text)
    plot(rows, folder / "transfer.png")
    return text


def collect_rows(jobs, folder):
    """A row for each domain, system, way and number of steps.

    Arguments
    ---------
    jobs : list of Job
        All done.
    folder : Path
        Where their files are.

    Returns
    -------
    list of dict
    """
    rows = []
    for job in jobs:
        result = job.load(folder)
        for point in result["points"]:
            rate, low, high = error_rate(point["errors"], job.data["test"])
            row = {"domain": job.condition, "system": job.model.name}
            row.update(way=job.system, steps=point["steps"])
            row.update(seconds=point["seconds"], loss=point["loss"])
            row.update(WER=rate, WER_low=low, WER_high=high)
            row.update({k: result.get(k) for k in ("rate", "dev", "choice")})
            rows.append({**row, "memory": bool(job.model.mixers)})
    return rows


def markdown(rows, judged, settings):
    """The tables and what follows from them."""
    points, choices = [], []
    for row in rows:
        point = {k: row[k] for k in ("domain", "system", "way", "steps")}
        point["seconds"] = f"{row['seconds']:.2f}"
        point["WER"] = interval_cell(row, "WER")
        points.append(point)
        if row["rate"] and not row["steps"]:
            choice = {k: row[k] for k in ("domain", "system", "way", "rate")}
            dev = [f"{k}: {v:.1f}" for k, v in row["dev"].items()]
            choice["WER on dev"] = ", ".join(dev)
            choice["seconds"] = f"{row['choice']:.0f}"
            choices.append(choice)
    parts = [
        f"WER in percent of utterances {FIRST} to {LAST} of each session, with "
        "95 % intervals (bootstrap over speakers), and seconds of training "
        f"until then: {torch.get_num_threads()} thread(s) on {settings['device']}, "
        f"{BATCH} utterances a step, {settings['seconds_of_audio']:g} s in all. "
        f"LaCT carries its state over the session, but for `{PLAIN}`.",
        markdown_table(points),
        "Learning rates were chosen on dev; this time is not counted above.",
        markdown_table(choices),
        f"Seconds of training to the last WER of fine-tuning, within "
        f"{CLOSE - 1:.0%}. What is learned while a session is heard is no "
        "training (its cost: adaptation.py).",
        "\n".join(f"- {line}" for line in judged),
    ]
    return "\n\n".join(parts) + "\n"
