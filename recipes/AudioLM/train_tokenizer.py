#!/usr/bin/env python3
"""Recipe for training a small tokenizer of speech: residual vector
quantization of log-mel frames, and a causal vocoder.

To run this recipe, do the following:
> python recipes/AudioLM/train_tokenizer.py hparams/audio_tokenizer.yaml

It is tested on voices that were not in training, beside Griffin-Lim on mel
frames that were not quantized.

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
from speechbrain_lact.evaluation.audio.tokenizer_quality import score_tokenizer
from speechbrain_lact.inference.AudioLM import write_audio_model
from speechbrain_lact.training.audio_tokenizer import (
    TokenizerBrain,
    learn_codebooks,
    load_experiment,
    make_dataset,
)
from speechbrain_lact.training.experiment import begin_run
from speechbrain_lact.training.results import count_parameters, write_results
from speechbrain_lact.training.settings import plain_settings

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
    if not hparams["checkpointer"].list_checkpoints():
        learn_codebooks(hparams, csvs["train"])
    brain = TokenizerBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.bad_files = set()
    brain.before_training = lambda: run.note(command)
    train(brain, hparams, csvs)
    rows = []
    for csv in csvs["test"]:
        rows += score_tokenizer(Path(csv).stem, csv, hparams)
    if not if_main_process():
        return
    folder, tokenizer = Path(hparams["output_folder"]), hparams["tokenizer"]
    bad = sorted(brain.bad_files)
    table = write_results(
        folder,
        rows,
        began,
        bits_per_second=tokenizer.bits_per_second,
        parameters=count_parameters(tokenizer),
        bad_files=bad,
    )
    logger.info(
        "%d files could not be read; %.0f bits a second; results in %s:\n%s",
        len(bad),
        tokenizer.bits_per_second,
        folder,
        table,
    )
    write_audio_model(
        folder / "model",
        folder / "hyperparams.yaml",
        "tokenizer",
        tokenizer,
        settings=hparams,
        sources=sources,
        table=table,
        run=run,
    )


def train(brain, hparams, csvs):
    """Trains the vocoder, and takes the best checkpoint."""
    brain.optimizer_step_limit = hparams["number_of_steps"]
    loader = {
        "num_workers": hparams["num_workers"],
        "batch_size": hparams["batch_size"],
        "collate_fn": Batch,
    }
    brain.fit(
        hparams["epoch_counter"],
        make_dataset(csvs["train"], hparams),
        make_dataset(csvs["valid"][0], hparams, fixed=True),
        train_loader_kwargs={
            **loader,
            "shuffle": True,
            "generator": torch.Generator(),
        },
        valid_loader_kwargs={**loader, "generator": torch.Generator()},
    )
    brain.checkpointer.recover_if_possible(min_key="loss")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train_tokenizer.py: {' '.join(str(error).split())}")
