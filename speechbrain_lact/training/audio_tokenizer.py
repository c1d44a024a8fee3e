"""Training of an audio tokenizer: codebooks, then the vocoder.

Authors
* speechbrain_lact contributors 2026
"""

import random
from pathlib import Path

import torch

import speechbrain as sb
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_audio, read_row
from speechbrain_lact.training.experiment import prepare_data
from speechbrain_lact.training.global_batches import GlobalBatches
from speechbrain_lact.training.settings import (
    given_settings,
    load_yaml,
    plain_settings,
)
from speechbrain_lact.utils.processes import on_main

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
