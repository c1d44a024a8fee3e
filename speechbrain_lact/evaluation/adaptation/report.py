"""Writes the report: JSON, CSV, Markdown and the picture.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import itertools
import json
import os
from pathlib import Path

import torch

from speechbrain_lact.corpora.conditions import Condition
from speechbrain_lact.evaluation.adaptation.baselines import TUNING_STEPS
from speechbrain_lact.evaluation.adaptation.hypotheses import (
    MAX_COST,
    yes_or_no,
)
from speechbrain_lact.evaluation.adaptation.plots import plot_positions
from speechbrain_lact.evaluation.adaptation.results import POOLED
from speechbrain_lact.evaluation.adaptation.sessions import FIRST
from speechbrain_lact.evaluation.adaptation.slices import speaker_slices
from speechbrain_lact.evaluation.tables import (
    cost_cell,
    difference_cell,
    interval_cell,
    p_cell,
    percent_cell,
    rate_cell,
)
from speechbrain_lact.utils.tables import markdown_table


def write_report(results, settings, bad):
    """Writes JSON, CSV, Markdown and the picture.

    Arguments
    ---------
    results : Results
    settings : dict
        The command line: `output_folder`, `data_folder`, `device`, `last` (the
        last scored utterance of a session) and what else is to be noted.
    bad : dict of list of str
        Utterances that could not be read, by condition.

    Returns
    -------
    str
        The tables in Markdown.
    """
    folder, runner = Path(settings["output_folder"]), results.runner
    rows, judged = results.rows(), results.hypotheses()
    costs, positions = results.costs(), results.positions()
    slices = results.slices(
        speaker_slices(settings["data_folder"], runner.sets)
    )
    content = {
        "settings": {
            **settings,
            "models": {
                name: [os.path.relpath(model.folder) for model in seeds]
                for name, seeds in runner.models.items()
            },
            "scored": [FIRST, settings["last"]],
            "tuning_steps": TUNING_STEPS,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "rows": rows,
        "hypotheses": judged,
        "headroom": results.headroom(),
        "costs": costs,
        "positions": positions,
        "slices": slices,
        "voices": results.recognised(),
        "skipped": runner.skipped,
        "bad_files": bad,
        "utterances": _utterances(runner),
        "errors": _errors(results),
    }
    (folder / "adaptation.json").write_text(
        json.dumps(content, indent=1, default=str)
    )
    with open(folder / "adaptation.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    text = markdown_report(content)
    (folder / "adaptation.md").write_text(text)
    scored = content["settings"]["scored"]
    plot_positions(positions, folder / "adaptation.png", scored)
    return text


def _utterances(runner):
    """What is known of each, by condition as it was recorded."""
    return {
        condition: {
            u.key: {
                "speaker": u.speaker,
                "session": u.session,
                "position": u.position + 1,
                "words": len(u.words.split()),
                "seconds": u.seconds,
                "noise": Condition(POOLED, utterances).noise_of(u),
            }
            for u in utterances
        }
        for condition, utterances in runner.sets.items()
    }


def _errors(results):
    """Word errors of each utterance, of each seed."""
    found = {}
    for (condition, system), runs in results.runs.items():
        errors = [run["errors"] for run in runs]
        found.setdefault(condition, {})[system] = errors
    return found


def markdown_report(content):
    """The tables of a report in Markdown.

    Arguments
    ---------
    content : dict
        What `write_report` writes as JSON.

    Returns
    -------
    str
    """
    parts = [
        *_rates(content["rows"], content["settings"]["scored"]),
        *_judged(content["hypotheses"]),
        *_headroom(content["headroom"]),
        *_costs(content["costs"], content["settings"]),
        *_slices(content["slices"]),
        *_voices(content["voices"]),
    ]
    parts += [f"Left out: {k}: {v}." for k, v in content["skipped"].items()]
    count = sum(map(len, content["bad_files"].values()))
    parts.append(f"Files that could not be read: {count}.")
    return "\n\n".join(parts) + "\n"


def _rates(rows, scored):
    """Rates of all systems."""
    first, last = scored
    yield (
        f"WER in percent of utterances {first} to {last} of each session, with "
        "95 % intervals (bootstrap over speakers). Differences are relative: "
        "below 0 are fewer errors; p is not corrected here."
    )
    yield markdown_table(
        [
            {
                "condition": row["condition"],
                "system": row["system"],
                "seeds": row["seeds"],
                "speakers": row["speakers"],
                "WER": interval_cell(row, "WER"),
                "against": row["against"],
                "difference %": difference_cell(row),
                "p": p_cell(row["p"]),
            }
            for row in rows
        ]
    )


def _judged(rows):
    """Hypotheses and verdicts."""
    if not rows:
        return
    yield (
        "Hypotheses of docs/methodology.md; p after Holm's correction of "
        "H1 to H3."
    )
    yield markdown_table(
        [
            {
                "": row["hypothesis"],
                "condition": row["condition"],
                "system": row["system"],
                "against": row["against"],
                "difference %": difference_cell(row),
                "p": p_cell(row["p_corrected"]),
                "verdict": row["verdict"],
            }
            for row in rows
        ]
    )


def _headroom(rows):
    """What a memory could gain, and what it gains."""
    if not rows:
        return
    yield (
        "Where a memory can help: headroom is what full attention over "
        "the whole session gains over the utterance alone (WER points), "
        "gain what carrying the memory gains over resets. No share where "
        "the headroom's interval holds 0."
    )
    yield markdown_table(
        [
            {
                "condition": row["condition"],
                "full attention": row["full attention"],
                "headroom": f"{row['headroom']:+.1f}",
                "difference %": difference_cell(row),
                "memory": row["memory"],
                "gain": f"{row['gain']:+.1f}",
                "share %": percent_cell(row["share"]),
            }
            for row in rows
        ]
    )


def _costs(rows, settings):
    """Compute, and the first half of H6."""
    yield (
        "Seconds of compute per second of audio: of what is recognised, and "
        f"of what is learned from, {settings['threads']} thread(s) on "
        f"{settings['device']}."
    )
    yield markdown_table(
        [
            {
                key: cost_cell(value) if isinstance(value, float) else value
                for key, value in row.items()
            }
            for row in rows
        ]
    )
    for row in rows:
        cost = row["learning"]
        if row["system"] in settings["models"] and cost is not None:
            yield (
                f"H6, its first half: learning of {row['system']} costs "
                f"{cost_cell(cost)} s per s of audio; below {MAX_COST} "
                f"{yes_or_no(cost < MAX_COST)}."
            )


def _slices(rows):
    """A table for each condition, which may have other systems."""
    if not rows:
        return
    yield "WER of some speakers."
    for _, some in itertools.groupby(rows, key=lambda row: row["condition"]):
        yield markdown_table(
            [
                {
                    k: rate_cell(v) if isinstance(v, (tuple, list)) else v
                    for k, v in row.items()
                }
                for row in some
            ]
        )


def _voices(voices):
    """How well voices were recognised."""
    for condition, found in voices.items():
        share = 100 * found["utterances_in_a_memory_of_their_speaker"]
        yield (
            f"{condition}: {found['memories']} memories for "
            f"{found['speakers']} speakers; {share:.1f} % of utterances in a "
            "memory of their speaker."
        )
