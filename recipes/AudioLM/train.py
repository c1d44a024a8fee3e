#!/usr/bin/env python3
"""Recipe for training a language model of audio tokens, with LaCT or with full
attention.

To run this recipe, do the following:
> python recipes/AudioLM/train.py hparams/lact_audiolm.yaml

Without data it makes a small corpus (recipes/MiniSpeech) and trains on that.
Each session comes twice: as one long recording, and utterance by utterance
with its text before it.

Authors
* speechbrain_lact contributors 2026
"""

import math
import shutil
import sys
import time
from pathlib import Path

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.inference.AudioLM import TOKENIZER, write_audio_model
from speechbrain_lact.training.audio_lm import AudioLMBrain
from speechbrain_lact.training.audio_lm_data import (
    load_experiment,
    make_dataset,
    read_tokens,
    segment_loader,
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
    brain = AudioLMBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.prepare()
    brain.before_training = lambda: run.note(command)
    train(brain, hparams, csvs)
    rows = []
    for csv in csvs["test"]:
        tokens = read_tokens(csv, hparams)
        data = make_dataset(csv, tokens, hparams, kinds=(False,))
        loader = segment_loader(data, hparams)
        rows += brain.test(Path(csv).stem, data, loader)
    if not if_main_process():
        return
    folder, model = Path(hparams["output_folder"]), hparams["model"]
    table = write_results(
        folder, rows, began, parameters=count_parameters(model)
    )
    logger.info("results in %s:\n%s", folder, table)
    write_audio_model(
        folder / "model",
        folder / "hyperparams.yaml",
        "model",
        model,
        settings=hparams,
        sources=sources,
        table=table,
        run=run,
    )
    shutil.copytree(
        hparams["tokenizer_source"],
        folder / "model" / TOKENIZER,
        dirs_exist_ok=True,
    )


def train(brain, hparams, csvs):
    """Trains for `number_of_steps`, or what is left of them."""
    train, valid = csvs["train"], csvs["valid"][0]
    train = make_dataset(train, read_tokens(train, hparams), hparams)
    valid = make_dataset(
        valid, read_tokens(valid, hparams), hparams, kinds=(False,)
    )
    loader = segment_loader(train, hparams, brain)
    brain.train_sampler = loader["batch_sampler"]
    steps = hparams["number_of_steps"]
    hparams["epoch_counter"].limit = math.ceil(steps / len(brain.train_sampler))
    brain.optimizer_step_limit = steps
    train_loader = sb.dataio.dataloader.make_dataloader(train, **loader)
    brain.checkpointer.add_recoverable("dataloader-TRAIN", train_loader)
    brain.fit(
        hparams["epoch_counter"],
        train_loader,
        valid,
        valid_loader_kwargs=segment_loader(valid, hparams),
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train.py: {' '.join(str(error).split())}")
