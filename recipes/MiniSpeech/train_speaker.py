#!/usr/bin/env python3
"""Recipe for training a small encoder of voices (ECAPA-TDNN) on MiniSpeech, or
on data laid out as LibriSpeech is.

To run this recipe, do the following:
> python recipes/MiniSpeech/train_speaker.py hparams/ecapa_speaker.yaml

It learns to tell the training voices from each other, as SpeechBrain's recipe
for VoxCeleb does, and is tested on pairs of utterances of voices that were not
in training.

Authors
* speechbrain_lact contributors 2026
"""

import sys
import time
from pathlib import Path

import torch

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.inference.card.embedder import write_embedder_card
from speechbrain_lact.inference.export import write_embedder
from speechbrain_lact.training.experiment import begin_run
from speechbrain_lact.training.results import count_parameters, write_results
from speechbrain_lact.training.settings import plain_settings
from speechbrain_lact.training.speaker import SpeakerBrain
from speechbrain_lact.training.speaker_data import (
    load_experiment,
    make_dataset,
    number_voices,
    prepare_rirs,
)
from speechbrain_lact.utils.processes import on_main

ROOT = Path(__file__).resolve().parents[2]

logger = get_logger(__name__)


def main(arguments):
    """Runs the experiment that the command line asks for."""
    began = time.time()
    path, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, given, csvs = load_experiment(path, overrides)
    settings = plain_settings(path, dict(given))
    command = [str(Path(__file__).relative_to(ROOT)), *arguments]
    run, sources = begin_run(settings, run_opts, hparams, csvs, command)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=path,
        overrides=given,
    )
    on_main(lambda: number_voices(hparams, csvs["train"]) and None)
    labels = number_voices(hparams, csvs["train"])
    on_main(
        prepare_rirs,
        hparams["rir_annotation"],
        hparams["number_of_rirs"],
        hparams["seed"],
    )
    brain = SpeakerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.bad_files = set()
    brain.before_training = lambda: run.note(command)
    rows, threshold = train_and_test(brain, hparams, csvs, labels)
    if not if_main_process():
        return
    model, folder = hparams["embedding_model"], Path(hparams["output_folder"])
    bad = sorted(brain.bad_files)
    table = write_results(
        folder,
        rows,
        began,
        threshold=threshold,
        parameters=count_parameters(model),
        bad_files=bad,
    )
    logger.info(
        "%d files could not be read; threshold %g; results in %s:\n%s",
        len(bad),
        threshold,
        folder,
        table,
    )
    folder, yaml = folder / "model", folder / "hyperparams.yaml"
    write_embedder(folder, yaml, model, threshold)
    write_embedder_card(
        folder, hparams, sources, csvs["train"], rows, table, threshold, run
    )


def train_and_test(brain, hparams, csvs, labels):
    """Rows of results, and the threshold found on the valid set."""
    loader = {"num_workers": hparams["num_workers"], "collate_fn": Batch}
    # One at a time: the convolutions would read padding.
    alone = {**loader, "batch_size": 1}
    valid = make_dataset(csvs["valid"][0], hparams)
    brain.fit(
        hparams["epoch_counter"],
        make_dataset(csvs["train"], hparams, labels),
        valid,
        train_loader_kwargs={
            **loader,
            "batch_size": hparams["batch_size"],
            "shuffle": True,
            # Its own, so that loading leaves the global one alone.
            "generator": torch.Generator(),
        },
        valid_loader_kwargs={**alone, "generator": torch.Generator()},
    )
    name = Path(csvs["valid"][0]).stem
    row, threshold = brain.test(name, valid, dict(alone))
    rows = [row]
    for csv in csvs["test"]:
        data = make_dataset(csv, hparams)
        rows.append(brain.test(Path(csv).stem, data, dict(alone), threshold)[0])
    return rows, threshold


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train_speaker.py: {' '.join(str(error).split())}")
