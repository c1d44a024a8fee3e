#!/usr/bin/env python3
"""Measures whether the memory helps: WER of a model with its state carried,
reset, of the true or the recognised speaker, of another one, and without
learning; against models without memory and other ways to adapt.

> python recipes/LibriSpeech/adaptation.py --models lact=FOLDER \
    window=FOLDER conformer=FOLDER --data_folder data/MiniSpeech

A model is the `model` folder of train.py; a name with several folders is one
system with as many training seeds. Without arguments it is the model in the
box on MiniSpeech. `docs/methodology.md` says what is measured and how it is
judged. Run the same command again after a kill: what is done is kept.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from speechbrain.utils.logger import get_logger
from speechbrain_lact.corpora.conditions import CONDITIONS
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.evaluation.adaptation.models import load_models
from speechbrain_lact.evaluation.adaptation.report import write_report
from speechbrain_lact.evaluation.adaptation.results import POOLED, Results
from speechbrain_lact.evaluation.adaptation.runner import Options, Runner
from speechbrain_lact.evaluation.adaptation.sessions import LAST, read_set
from speechbrain_lact.evaluation.adaptation.systems import SYSTEMS
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX

logger = get_logger(__name__)


def prepare(given):
    """Test sets of the command line.

    Returns
    -------
    sets : dict of list of Utterance
        By condition.
    bad : dict of list of str
        Those that could not be read.
    """
    if given.data_folder is None:
        given.data_folder = "data/MiniSpeech"
        if not Path(given.data_folder).exists():
            prepare_mini_speech(given.data_folder)
    csvs = prepare_librispeech(
        given.data_folder, [], [], given.test_splits, given.output_folder
    )["test"]
    sets, bad = {}, {}
    for split, path in zip(given.test_splits, csvs):
        name = split.removeprefix("test-")
        if name in (*CONDITIONS, POOLED) or name in sets:
            raise ValueError(f"--test_splits {split}: {name} is taken")
        sets[name], bad[name] = read_set(path, given.last)
    known = (*sets, *CONDITIONS)
    for name in given.conditions or []:
        if name not in known:
            raise ValueError(
                f"--conditions {name}: one of {', '.join(known)} is allowed"
            )
    return sets, bad


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        metavar="NAME=FOLDER",
        default=[f"lact={MODEL_IN_THE_BOX}"],
        help="exported models; a name again is another training seed",
    )
    add("--data_folder", help="laid out as LibriSpeech; default: MiniSpeech")
    add(
        "--test_splits",
        nargs="+",
        default=["test-clean", "test-accent"],
        help="the conditions are made from the first",
    )
    add("--output_folder", default="results/adaptation", help=" ")
    add("--systems", nargs="+", choices=SYSTEMS, help="run only these now")
    add("--conditions", nargs="+", help="run only these now")
    add("--embedder", help="encoder of voices; default: the one in the box")
    add(
        "--fine_tune",
        nargs="+",
        type=int,
        default=[1, 4, 9],
        choices=range(1, 10),
        metavar="N",
        help="fine-tune on so many utterances",
    )
    add("--last", type=int, default=LAST, help="utterance that is scored")
    add("--fine_tune_lr", type=float, default=1e-4, help=" ")
    add("--suta_lr", type=float, default=1e-3, help=" ")
    add("--batch_size", type=int, default=24, help="sessions at a time")
    add("--device", default="cpu", help=" ")
    return parser.parse_args(arguments)


def options(given):
    """What the runner needs of the command line."""
    names = (field.name for field in fields(Options))
    return Options(**{name: getattr(given, name) for name in names})


def main(arguments):
    """Measures what the command line asks for."""
    given = parse(arguments)
    models = load_models(given.models, given.device)
    sets, bad = prepare(given)
    runner = Runner(models, sets, options(given))
    for system, reason in runner.skipped.items():
        logger.warning("%s: left out: %s", system, reason)
    runner.run()
    results = Results(runner)
    if not results.runs:
        raise ValueError("--systems, --conditions: nothing to run")
    if results.missing:
        logger.info("%d systems and conditions not done", len(results.missing))
    print(write_report(results, vars(given), bad))
    print(f"written to {given.output_folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"adaptation.py: {' '.join(str(error).split())}")
