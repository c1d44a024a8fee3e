#!/usr/bin/env python3
"""Recipe for training a recogniser (CTC, or CTC and attention) on LibriSpeech
or data laid out like it, with a LaCT encoder or one of SpeechBrain's.

To run this recipe, do the following:
> python recipes/LibriSpeech/train.py hparams/lact_ctc.yaml \
    --data_folder /path/to/LibriSpeech

Without data it makes a small corpus (recipes/MiniSpeech) and trains on that.

Authors
* speechbrain_lact contributors 2026
"""

import math
import sys
import time
from pathlib import Path

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.inference.card.recogniser import write_card
from speechbrain_lact.inference.export import (
    check_repo,
    push_model,
    write_model,
)
from speechbrain_lact.training.asr import ASR, freeze
from speechbrain_lact.training.beam_search import make_searcher
from speechbrain_lact.training.data import (
    make_dataset,
    report_unknown,
    session_loader,
)
from speechbrain_lact.training.experiment import begin_run, load_experiment
from speechbrain_lact.training.results import (
    count_parameters,
    peak_memory,
    write_results,
)
from speechbrain_lact.training.settings import plain_settings
from speechbrain_lact.training.tokenizer import make_tokenizer
from speechbrain_lact.utils.processes import on_main

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "hparams" / "mini.yaml"
SESSION = 12  # utterances of a session, about, in a batch of whole ones

logger = get_logger(__name__)


def main(arguments):
    """Runs the experiment that the command line asks for."""
    began = time.time()
    path, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, csvs = load_experiment(path, overrides, MINI)
    check_repo(hparams["push_to_hub"])
    settings = plain_settings(path, dict(hparams["overrides"]))
    command = [str(Path(__file__).relative_to(ROOT)), *arguments]
    run, sources = begin_run(settings, run_opts, hparams, csvs, command)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=path,
        overrides=hparams["overrides"],  # mini.yaml's among them
    )
    brain = make_brain(hparams, csvs, run_opts, run)
    brain.before_training = lambda: run.note(command)
    train(brain, hparams, csvs)
    rows = test(brain, hparams, csvs)
    if not if_main_process():
        return
    parameters, peak = count_parameters(hparams["model"]), peak_memory()
    for row in rows:
        row.update(parameters=parameters, peak_memory_MiB=peak)
    bad, folder = sorted(brain.bad_files), Path(hparams["output_folder"])
    table = write_results(folder, rows, began, bad_files=bad)
    logger.info(
        "%d files could not be read; results in %s:\n%s",
        len(bad),
        folder,
        table,
    )
    folder, yaml = folder / "model", folder / "hyperparams.yaml"
    write_model(folder, yaml, hparams, brain.tokenizer)
    write_card(folder, hparams, sources, csvs, rows, table, run)
    if hparams["push_to_hub"]:
        logger.info("%s", push_model(folder, hparams["push_to_hub"]))


def make_brain(hparams, csvs, run_opts, run):
    """The model with what it starts from, and its tokenizer."""
    if "pretrainer" in hparams:
        on_main(hparams["pretrainer"].collect_files)
        hparams["pretrainer"].load_collected()
    freeze(hparams["model"], hparams.get("trainable"))
    folder = hparams.get("tokenizer_folder", hparams["save_folder"])
    if "tokenizer_folder" in hparams and not list(Path(folder).glob("*.model")):
        raise ValueError(f"tokenizer_folder: {folder} has no tokenizer")
    tokenizer = make_tokenizer(folder, csvs["train"], hparams)
    on_main(run.check_tokenizer, f"{tokenizer.prefix_model_file}.model")
    brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.prepare(tokenizer)
    return brain


def train(brain, hparams, csvs):
    """Trains for `number_of_steps`, or what is left of them."""
    most = hparams.get("join_utterances", 1)
    train = make_dataset(csvs["train"], hparams, brain.tokenizer, most)
    valid = make_dataset(csvs["valid"][0], hparams, brain.tokenizer)
    loader = session_loader(train, hparams["batch_size"], hparams, brain)
    sampler = loader["batch_sampler"]
    brain.train_sampler = sampler
    steps = hparams["number_of_steps"] * brain.grad_accumulation_factor
    # At most: epochs of sessions have more batches; the steps end it.
    epochs = math.ceil(steps / math.ceil(len(train) / sampler.rows))
    hparams["epoch_counter"].limit = epochs
    sampler.sorted_epochs = min(sampler.sorted_epochs, epochs // 2)
    brain.optimizer_step_limit = hparams["number_of_steps"]
    train_loader = sb.dataio.dataloader.make_dataloader(train, **loader)
    brain.checkpointer.add_recoverable("dataloader-TRAIN", train_loader)
    brain.fit(
        hparams["epoch_counter"],
        train_loader,
        valid,
        valid_loader_kwargs=session_loader(
            valid, hparams["test_batch_size"], hparams
        ),
    )


def test(brain, hparams, csvs):
    """Rows of results, of each test set and each kind of memory."""
    if hparams["test_decoding"] == "beam":
        brain.searcher = make_searcher(hparams, brain.tokenizer)
    rows, test_size = [], hparams["test_batch_size"]
    for csv in csvs["test"]:
        report_unknown(csv, brain.tokenizer)

        def load(most, csv=csv):
            """Utterances, up to `most` of a session joined, and options."""
            data = make_dataset(csv, hparams, brain.tokenizer, most)
            size = test_size if most == 1 else max(1, test_size // SESSION)
            return data, session_loader(data, size, hparams)

        rows += brain.test(Path(csv).stem, load)
    return rows


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train.py: {' '.join(str(error).split())}")
