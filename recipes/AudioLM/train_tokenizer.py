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

import json
import random
import sys
import time
from pathlib import Path

import torch

import speechbrain as sb
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_audio, read_row
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.evaluation.audio.quality import quality
from speechbrain_lact.inference.AudioLM import write_audio_model
from speechbrain_lact.utils.brain import GlobalBatches
from speechbrain_lact.utils.processes import on_main

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "LibriSpeech"))
from train import (  # noqa: E402
    begin_run,
    given_settings,
    load_yaml,
    markdown,
    plain_settings,
    prepare_data,
)

logger = get_logger(__name__)


class TokenizerBrain(GlobalBatches, sb.Brain):
    """Trains the vocoder on quantized frames."""

    def compute_forward(self, batch, stage):
        """Waveforms made of the tokens of waveforms [B, S]."""
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        tokenizer = self.modules.tokenizer
        with torch.no_grad():
            tokens = tokenizer.encode(wavs, lengths)
        books = tokens.shape[2]
        few = random.random() < self.hparams.fewer_codebooks
        if stage == sb.Stage.TRAIN and few:
            books = random.randint(1, books)
        return tokenizer.decode(tokens[..., :books])

    def compute_objectives(self, predictions, batch, stage):
        """Distance of mel frames and of spectrograms."""
        wavs, lengths = batch.sig
        tokenizer = self.modules.tokenizer
        made = predictions[:, : wavs.shape[1]]
        one, _ = tokenizer.features(made, lengths)
        two, _ = tokenizer.features(wavs, lengths)
        mels = ((one - two) * tokenizer.std).abs().mean()
        spectra = self.hparams.spectral_loss(made, wavs)
        return self.hparams.mel_weight * mels + spectra

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Next learning rate."""
        if should_step:
            self.hparams.lr_annealing(self.optimizer)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs and saves."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
        if stage == sb.Stage.VALID:
            self.hparams.train_logger.log_stats(
                stats_meta={"epoch": epoch, "step": self.optimizer_step},
                train_stats={"loss": self.train_loss},
                valid_stats={"loss": stage_loss},
            )
            self.checkpointer.save_and_keep_only(
                meta={"loss": stage_loss}, min_keys=["loss"]
            )


def make_dataset(csv, hparams, fixed=False):
    """Parts of the utterances of a CSV, `sentence_len` seconds each.

    Arguments
    ---------
    csv : str
    hparams : dict
        The experiment.
    fixed : bool
        Whether the same part is taken in every epoch.

    Returns
    -------
    DynamicItemDataset
    """
    rows = load_data_csv(csv)
    for row in rows.values():
        # Where none is a part of a file.
        row.setdefault("start", "")
        row.setdefault("stop", "")
    data = DynamicItemDataset(rows)
    rate = hparams["sample_rate"]
    size = round(rate * hparams["sentence_len"])

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def audio(key, *place):
        samples = read_audio(place[0], rate, *place[1:])
        if samples is None or len(samples) <= size:
            return samples
        epoch = 0 if fixed else hparams["epoch_counter"].current
        draw = random.Random(f"{hparams['seed']} {epoch} {key}")
        start = draw.randint(0, len(samples) - size)
        return samples[start : start + size]

    data.add_dynamic_item(audio)
    data.set_output_keys(["id", "sig"])
    return data


def learn_codebooks(hparams, csv):
    """Statistics of the frames, and codebooks of the normalised ones."""
    tokenizer, quantizer = hparams["tokenizer"], hparams["quantizer"]
    rows = load_data_csv(csv)
    keys = sorted(rows)
    random.Random(hparams["seed"]).shuffle(keys)
    frames, count = [], 0
    for key in keys:
        wav = read_row(rows[key], hparams["sample_rate"])
        if wav is not None:
            frames.append(tokenizer.features(wav[None])[0][0])
            count += len(frames[-1])
        if count >= hparams["quantizer_frames"]:
            break
    if not frames:
        raise ValueError(f"{csv}: none of the files could be read")
    frames = torch.cat(frames)
    tokenizer.mean.copy_(frames.mean(0))
    tokenizer.std.copy_(frames.std(0).clamp(min=1e-3))
    frames = (frames - tokenizer.mean) / tokenizer.std
    quantizer.train()
    for _ in range(hparams["quantizer_passes"]):
        order = torch.randperm(len(frames))
        for part in order.split(20000):
            quantized, _, _ = quantizer(frames[part][None])
    rest = (quantized[0] - frames[part]).square().mean()
    logger.info(
        "Codebooks learned from %d frames leave %.1f %% of the variance",
        len(frames),
        100 * float(rest),
    )
    tokenizer.codebooks.copy_(quantizer.codebooks)


@torch.inference_mode()
def test(name, csv, hparams):
    """STOI and PESQ of the tokenizer and of its parts.

    Arguments
    ---------
    name : str
        The test set.
    csv : str
        Its utterances.
    hparams : dict
        The experiment, trained.

    Returns
    -------
    list of dict
        A row for each way to make the audio.
    """
    tokenizer, rate = hparams["tokenizer"].eval(), hparams["sample_rate"]
    rows, scores = load_data_csv(csv), {}
    step = max(len(rows) // hparams["max_tested"], 1)
    for key in sorted(rows)[::step]:
        wav = read_row(rows[key], rate)
        if wav is None:
            continue
        feats = tokenizer.features(wav[None])[0]
        tokens = tokenizer.encode(wav[None])
        half = max(tokens.shape[2] // 2, 1)
        made = {
            "tokens": tokenizer.decode(tokens)[0],
            f"tokens, {half} codebooks": tokenizer.decode(tokens[..., :half])[
                0
            ],
            "mel, vocoder": tokenizer.vocoder(feats)[0],
            "mel, Griffin-Lim": tokenizer.griffin_lim(feats[0]),
        }
        for system, audio in made.items():
            found = quality(wav, audio[: len(wav)], rate)
            scores.setdefault(system, []).append(found)
    table = []
    for system, found in scores.items():
        row = {"test": name, "audio of": system, "utterances": len(found)}
        for metric in ("stoi", "pesq"):
            values = [f[metric] for f in found if f[metric] is not None]
            mean = sum(values) / len(values) if values else None
            row[metric] = mean if mean is None else round(mean, 3)
        table.append(row)
    return table


def load_experiment(path, overrides):
    """Prepares the data, then loads the YAML."""
    given = given_settings(overrides)
    settings = plain_settings(path, dict(given))
    Path(settings["save_folder"]).mkdir(parents=True, exist_ok=True)
    on_main(prepare_data, settings)
    csvs = prepare_data(settings, skip_prep=True)
    try:
        hparams = load_yaml(path, given)
    except ImportError as error:
        raise ValueError(
            f"{path}: {error}: pip install vector-quantize-pytorch"
        ) from error
    hparams["model"] = hparams["tokenizer"]
    return hparams, given, csvs


def main(arguments):
    """Runs the experiment that the command line asks for."""
    began = time.time()
    path, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, given, csvs = load_experiment(path, overrides)
    settings = plain_settings(path, dict(given))
    command = [str(Path(__file__).relative_to(HERE.parents[1])), *arguments]
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
    rows = []
    for csv in csvs["test"]:
        rows += test(Path(csv).stem, csv, hparams)
    if if_main_process():
        write_results(brain, rows, began)
        folder = Path(hparams["output_folder"])
        write_audio_model(
            folder / "model",
            folder / "hyperparams.yaml",
            "tokenizer",
            hparams["tokenizer"],
            settings=hparams,
            sources=sources,
            table=markdown(rows),
            run=run,
        )


def write_results(brain, rows, began):
    """Prints the table and keeps it as JSON and Markdown."""
    folder, tokenizer = (
        Path(brain.hparams.output_folder),
        brain.modules.tokenizer,
    )
    table = markdown(rows)
    (folder / "results.md").write_text(table + "\n")
    results = {
        "rows": rows,
        "bits_per_second": tokenizer.bits_per_second,
        "parameters": sum(p.numel() for p in tokenizer.parameters()),
        "bad_files": sorted(brain.bad_files),
        "minutes": round((time.time() - began) / 60, 1),
        "torch": torch.__version__,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    logger.info(
        "%d files could not be read; %.0f bits a second; results in %s:\n%s",
        len(brain.bad_files),
        tokenizer.bits_per_second,
        folder,
        table,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train_tokenizer.py: {' '.join(str(error).split())}")
