#!/usr/bin/env python3
"""Two trained models on one test set, sample by sample.

> python recipes/LibriSpeech/compare.py results/wav2vec2_ctc/3407 \
    results/wav2vec2_lact_ctc/3407 --test_set test-clean

Both play the sessions of the test set one utterance at a time, memory carried
where there is one, and decode greedily. A CSV file has a line per utterance;
pictures show WER, time and the summary. The difference has a 95 % interval
from a bootstrap over speakers, both models on the same draw.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import sys
from pathlib import Path

from speechbrain_lact.evaluation.paired_comparison import (
    check_pair,
    load_run,
    score,
    summarise,
    write_csv,
)
from speechbrain_lact.evaluation.paired_plots import (
    plot_summary,
    plot_time,
    plot_wer,
)
from speechbrain_lact.utils.tables import markdown_table

MINI = Path(__file__).resolve().parents[2] / "hparams" / "mini.yaml"


def main(arguments):
    """Compares the two runs that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("baseline", type=Path, help="output folder of train.py")
    parser.add_argument("lact", type=Path, help="another")
    parser.add_argument("--test_set", help="default: the first of the baseline")
    parser.add_argument("--output", type=Path, help="default: LACT/compare")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)
    if given.baseline.resolve() == given.lact.resolve():
        raise ValueError(f"{given.lact}: twice the same run")
    runs = {
        folder: load_run(folder, given.device, MINI)
        for folder in (given.baseline, given.lact)
    }
    test = given.test_set or next(iter(runs[given.baseline][1]))
    check_pair(runs, test)
    # The one that can be refused comes first.
    scores = {f: score(b, c[test]) for f, (b, c) in reversed(runs.items())}
    scores = [scores[folder] for folder in runs]
    # results/<experiment>/<seed>, or any folder
    names = [f.parent.name if f.name.isdigit() else f.name for f in runs]
    if names[0] == names[1]:
        names = [str(folder) for folder in runs]
    output = given.output or given.lact / "compare"
    output.mkdir(parents=True, exist_ok=True)
    write_csv(output / f"{test}.csv", names, scores)
    plot_wer(output / f"{test}_wer.png", names, scores)
    plot_time(output / f"{test}_time.png", names, scores)
    plot_summary(output / f"{test}_summary.png", names, scores)
    speakers = len({row["speaker"] for row in scores[0].values()})
    table = (
        f"{test}: {len(scores[0])} utterances, speakers: {speakers}\n\n"
        f"{markdown_table(summarise(names, scores))}"
    )
    (output / f"{test}.md").write_text(table + "\n")
    print(f"{table}\n\nwritten to {output}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"compare.py: {' '.join(str(error).split())}")
