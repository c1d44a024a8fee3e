#!/usr/bin/env python3
"""Recipe for training what LaCT does in Whisper tiny.en: an encoder that
streams (hparams/whisper_stream.yaml), or gated layers behind Whisper's own
encoder that adapt it to a corpus (hparams/whisper_lact.yaml).

To run this recipe, do the following:
> python recipes/Whisper/train.py hparams/whisper_stream.yaml \
    --data_folder /path/to/LibriSpeech

Authors
* speechbrain_lact contributors 2026
"""

import sys
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml

import speechbrain as sb
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.evaluation.whisper import score
from speechbrain_lact.inference.whisper import WhisperASR
from speechbrain_lact.inference.whisper_parts import (
    MAKE,
    PART,
    STREAM,
    read_part,
    write_part,
)
from speechbrain_lact.training.whisper_data import Teacher, read_rows
from speechbrain_lact.utils.processes import on_main


def main(arguments):
    """Runs the experiment that the command line asks for."""
    path, run_opts, overrides = sb.parse_arguments(arguments)
    with open(path) as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=path,
        overrides=overrides,
    )
    csvs = prepare_librispeech(
        hparams["data_folder"],
        hparams["train_splits"],
        hparams["dev_splits"],
        hparams["test_splits"],
        hparams["save_folder"],
        max_duration=hparams["max_duration"],
    )
    host, kind = hparams["host"], hparams["part"]
    if hparams["start"]:
        net = read_part(hparams["start"], kind, host.model)
    else:
        net = MAKE[kind](host.model, **hparams["part_options"])
    hparams["checkpointer"].add_recoverable("model", net)
    brain = hparams["brain_class"](
        modules={"net": net},
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    host.to(brain.device).eval()
    brain.prepare(host)
    searcher = hparams["searcher"] if hparams["whisper_text"] else None
    teacher = Teacher(hparams["teacher_folder"], host, searcher)
    cut = [hparams[k] for k in ("segment_seconds", "row_seconds", "seed")]
    train = read_rows(csvs["train"], teacher, *cut, hparams["speeds"])
    valid = read_rows(csvs["valid"][0], teacher, *cut)
    brain.optimizer_step_limit = hparams["number_of_steps"]
    options = {"batch_size": None, "num_workers": hparams["num_workers"]}
    brain.fit(
        hparams["epoch_counter"],
        train,
        valid,
        train_loader_kwargs={"shuffle": True, **options},
        valid_loader_kwargs=options,
    )
    hparams["checkpointer"].recover_if_possible(min_key="loss")
    on_main(finish, hparams, net, csvs["test"], brain.device)


def finish(hparams, net, tests, device):
    """Writes the part, and scores it on the test sets."""
    folder, kind = Path(hparams["output_folder"]), hparams["part"]
    options = hparams["part_options"], hparams["source"]
    write_part(folder / PART, kind, net, hparams["host"].model, *options)
    asr = WhisperASR.load(folder, str(device))
    for csv in tests:
        metric = score(asr, csv, kind == STREAM)
        path = folder / f"wer_{Path(csv).stem}.txt"
        with open(path, "w", encoding="utf-8") as file:
            metric.write_stats(file)
        hparams["train_logger"].log_stats(
            {"test": Path(csv).stem},
            test_stats={"WER": metric.summarize("error_rate")},
        )


if __name__ == "__main__":
    main(sys.argv[1:])
