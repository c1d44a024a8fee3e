#!/usr/bin/env python3
"""Whisper alone, with gated LaCT layers, and with their memory carried through
the session, on the same recordings, clean and in noise.

> python recipes/Whisper/compare.py read=/path/to/read/test-clean \
    --output results/whisper_compare

Folders are laid out as LibriSpeech, or are manifests. A CSV file has a line for
each utterance of a corpus in a condition, a picture shows all WER. Differences
to Whisper have a 95 % interval from a bootstrap over speakers, all systems on
the same draw.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import itertools
import json
from pathlib import Path

import torch

from speechbrain_lact.dataio.manifests import Skipped, read_manifest
from speechbrain_lact.evaluation.experiments import interval
from speechbrain_lact.evaluation.paired_comparison import (
    by_speaker,
    paired_interval,
    write_csv,
)
from speechbrain_lact.evaluation.paired_plots import plot_conditions
from speechbrain_lact.evaluation.whisper import SYSTEMS, compare
from speechbrain_lact.inference.whisper import WhisperASR
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

CONDITIONS = {"clean": None, "10 dB": 10.0, "0 dB": 0.0}


def choose(folder, sessions, each):
    """The first utterances of sessions that are spread over a corpus, in
    order."""
    found = read_manifest(folder, Skipped())
    found.sort(key=lambda one: (one.session, one.order))
    groups = [
        list(group)[:each]
        for _, group in itertools.groupby(found, lambda one: one.session)
    ]
    step = max(len(groups) / sessions, 1)
    places = [int(i * step) for i in range(min(sessions, len(groups)))]
    return [one for place in places for one in groups[place]]


def lines(corpus, condition, scores):
    """Rows of the table: a system a row, with its difference to Whisper."""
    rows = []
    first = by_speaker(scores[0], "word")
    for name, one in zip(SYSTEMS, scores):
        counts = by_speaker(one, "word")
        errors, words, _ = map(sum, zip(*counts.values()))
        difference, low, high = paired_interval(first, counts)
        rows.append(
            {
                "corpus": corpus,
                "condition": condition,
                "system": name,
                "utterances": len(one),
                "speakers": len(counts),
                "words": words,
                "errors": errors,
                "wer": interval(counts),
                "difference": difference,
                "low": low,
                "high": high,
            }
        )
    return rows


def table(rows):
    """Markdown."""
    cells = []
    for row in rows:
        interval = ""
        if row["low"] is not None and row["system"] != SYSTEMS[0]:
            interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        cells.append(
            {
                "corpus": row["corpus"],
                "condition": row["condition"],
                "utterances, speakers": f"{row['utterances']}, {row['speakers']}",
                "system": row["system"],
                "WER (%)": f"{100 * row['errors'] / row['words']:.1f}",
                "difference": f"{row['difference']:+.1f}",
                "95 % interval": interval,
            }
        )
    return markdown_table(cells)


def main(arguments=None):
    """Compares on what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--model", help="output folder of train.py")
    parser.add_argument("--sessions", type=int, default=8, help="of a corpus")
    parser.add_argument("--each", type=int, default=6, help="utterances of one")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    asr, rows = WhisperASR.load(given.model), []
    given.output.mkdir(parents=True, exist_ok=True)
    for corpus in given.corpora:
        name, _, folder = corpus.partition("=")
        chosen = choose(folder, given.sessions, given.each)
        for condition, snr in CONDITIONS.items():
            scores = list(compare(asr, chosen, snr).values())
            file = f"{name}_{condition}.csv".replace(" ", "_")
            write_csv(given.output / file, SYSTEMS, scores)
            rows += lines(name, condition, scores)
            found = {"about": machine.about(), "rows": rows}
            path = given.output / "compare.json"
            path.write_text(json.dumps(found, indent=1) + "\n")
            (given.output / "compare.md").write_text(table(rows) + "\n")
    plot_conditions(given.output / "compare.png", rows)
    print(table(rows))


if __name__ == "__main__":
    main()
