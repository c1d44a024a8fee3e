#!/usr/bin/env python3
"""Transfer to another domain: WER over the seconds spent on it, of LaCT's
initial memory and carried state against fine-tuning.

> python recipes/LibriSpeech/transfer.py --models lact=FOLDER \
    conformer=FOLDER wav2vec2=FOLDER

A model is the `model` folder of train.py. All learn the same labelled
utterances in the same order. LaCT may also carry its state over the session,
which takes no training, or train its initial fast weights alone. The second
half of H6 in `docs/methodology.md` is judged. Run the same command again after
a kill: what is done is kept.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch

from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.corpora.mini_speech.grammar import GRAMMARS
from speechbrain_lact.corpora.mini_speech.plan import GRAMMAR_VOICES
from speechbrain_lact.evaluation.adaptation.models import load_models
from speechbrain_lact.evaluation.adaptation.sessions import LAST, read_set
from speechbrain_lact.evaluation.transfer.jobs import Options, plan, run
from speechbrain_lact.evaluation.transfer.methods import training_set
from speechbrain_lact.evaluation.transfer.report import write_report

PARTS = ("train", "dev", "test")


def prepare(given):
    """Lists of utterances by domain and part; MiniSpeech's are made."""
    folder, domains = given.data_folder, list(dict.fromkeys(given.domains))
    if not Path(folder).exists():
        for name in domains:
            if name not in GRAMMARS:
                raise ValueError(
                    f"--domains {name}: neither --data_folder {folder} nor a "
                    f"domain of MiniSpeech ({', '.join(GRAMMARS)})"
                )
        # The training voices are those of MiniSpeech with other sizes, too.
        prepare_mini_speech(
            folder,
            train_voices=GRAMMAR_VOICES,
            test_voices=GRAMMAR_VOICES,
            accent_share=0.0,
            extra_splits=" ".join(f"{p}-{d}" for d in GRAMMARS for p in PARTS),
        )
    found = {}
    for name in domains:
        splits = [f"{part}-{name}" for part in PARTS]
        csvs = prepare_librispeech(folder, [], [], splits, given.output_folder)
        sets = [read_set(path, LAST)[0] for path in csvs["test"]]
        found[name] = dict(zip(PARTS, sets))
        found[name]["train"] = training_set(sets[0], given.seconds_of_audio)
    return found


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=" ".join(__doc__.split("\n\n")[0].split()),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, several = parser.add_argument, {"nargs": "+", "help": " "}
    add("--models", **several, metavar="NAME=FOLDER", required=True)
    add("--data_folder", default="data/MiniSpeechDomains", help=" ")
    add("--domains", **several, default=list(GRAMMARS))
    add("--output_folder", default="results/transfer", help=" ")
    add("--seconds_of_audio", type=float, default=120, help="to learn from")
    steps = [0, 1, 2, 5, 10, 20, 40, 80]
    add("--steps", **several, type=int, default=steps)
    add("--rates", **several, type=float, default=[1e-4, 3e-4, 1e-3])
    memory_rates = [3e-3, 1e-2, 3e-2]
    add("--memory_rates", **several, type=float, default=memory_rates)
    add("--threads", type=int, default=torch.get_num_threads(), help=" ")
    add("--batch_size", type=int, default=24, help="sessions heard at a time")
    add("--device", default="cpu", help=" ")
    given = parser.parse_args(arguments)
    given.steps = sorted({0, *given.steps})
    for name, value, least in (
        ("steps", given.steps[0], 0),
        ("steps", given.steps[-1], 1),
        ("rates", min(given.rates), 1e-9),
        ("memory_rates", min(given.memory_rates), 1e-9),
        ("threads", given.threads, 1),
        ("batch_size", given.batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"--{name} {value}: at least {least} is needed")
    return given


def main(arguments):
    """Measures what the command line asks for."""
    given = parse(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(given.threads)
    try:
        measure(given)
    finally:
        torch.set_num_threads(before)


def options(given):
    """What adaptation needs of the command line."""
    names = (field.name for field in fields(Options))
    return Options(**{name: getattr(given, name) for name in names})


def load_one_each(given):
    """A model of each name; training seeds are refused."""
    models = load_models(given.models, given.device)
    for name, seeds in models.items():
        if len(seeds) > 1:
            raise ValueError(f"--models {name}: one folder of each name")
    return [model for (model,) in models.values()]


def measure(given):
    """Does what `main` was asked for."""
    models, wanted = load_one_each(given), options(given)
    jobs = list(plan(wanted, models, prepare(given)))
    run(jobs, wanted)
    print(write_report(jobs, vars(given)))
    print(f"written to {given.output_folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"transfer.py: {' '.join(str(error).split())}")
