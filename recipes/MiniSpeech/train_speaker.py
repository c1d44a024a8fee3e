#!/usr/bin/env python3
"""Recipe for training a small encoder of voices (ECAPA-TDNN) on MiniSpeech, or
on data laid out as LibriSpeech is.

To run this recipe, do the following:
> python recipes/MiniSpeech/train_speaker.py hparams/ecapa_speaker.yaml

It learns to tell the training voices from each other, as SpeechBrain's recipe
for VoxCeleb does, and is tested on pairs of utterances of voices that it has
never heard.

Authors
* speechbrain_lact contributors 2026
"""

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.signal import sosfilt

import speechbrain as sb
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain.utils.metric_stats import EER
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.corpora.mini_speech.channel import (
    channel_sections,
    draw_channel,
)
from speechbrain_lact.corpora.mini_speech.rooms import make_room
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.inference.card.embedder import write_embedder_card
from speechbrain_lact.inference.export import write_embedder
from speechbrain_lact.utils.brain import GlobalBatches
from speechbrain_lact.utils.processes import on_main

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "LibriSpeech")]
from train import (  # noqa: E402
    begin_run,
    given_settings,
    load_yaml,
    markdown,
    plain_settings,
    prepare_data,
)

logger = get_logger(__name__)


class SpeakerBrain(GlobalBatches, sb.Brain):
    """Learns voices; is tested on pairs of utterances of other ones."""

    def unusable(self, batch):
        """One utterance alone, too: a batch of it has no variance."""
        return batch.empty or len(batch) == 1

    def compute_forward(self, batch, stage):
        """Cosines to the training voices [B, 1, N], or when not training the
        embeddings [B, 1, E]."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        train = stage == sb.Stage.TRAIN
        if train:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats, lens)
        return self.modules.classifier(embeddings) if train else embeddings

    def compute_objectives(self, predictions, batch, stage):
        """Loss of the training voices; others are kept for `verify`."""
        if stage == sb.Stage.TRAIN:
            spkid = batch.spk_id_encoded.data
            spkid = self.hparams.wav_augment.replicate_labels(spkid)
            return self.hparams.compute_cost(predictions, spkid)
        for row, key in enumerate(batch.id):
            self.heard[key] = {
                "spk_id": batch.spk_id[row],
                "session": batch.session[row],
                "embedding": predictions[row, 0].float().cpu(),
            }
        return torch.zeros(())

    def on_stage_start(self, stage, epoch=None):
        """Nobody was heard yet."""
        if stage != sb.Stage.TRAIN:
            self.heard = {}

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs and saves; the best is that of the lowest EER."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            return
        self.same, self.different = self.score()
        if stage == sb.Stage.TEST:
            return
        eer, threshold = equal_error(self.same, self.different)
        stats = {"EER": 100 * eer, "threshold": threshold}
        old_lr, new_lr = self.hparams.lr_annealing(epoch)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": old_lr},
            train_stats=self.train_stats,
            valid_stats=stats,
        )
        self.checkpointer.save_and_keep_only(
            meta={"EER": stats["EER"]}, min_keys=["EER"]
        )

    def score(self):
        """Cosines of pairs of one voice [P] and of two [P']."""
        keys = sorted(self.heard)
        trials = draw_trials(
            [self.heard[key]["spk_id"] for key in keys],
            [self.heard[key]["session"] for key in keys],
            self.hparams.max_trials,
            self.hparams.seed,
        )
        voices = torch.stack([self.heard[key]["embedding"] for key in keys])
        voices = F.normalize(voices, dim=1)
        return [(voices[one] * voices[two]).sum(1) for one, two in trials]

    def test(self, name, data, loader, threshold=None):
        """Scores the pairs of a test set with the best checkpoint.

        Arguments
        ---------
        name : str
            The test set.
        data : DynamicItemDataset
            Its utterances.
        loader : dict
            For the data loader.
        threshold : float, optional
            Cosine above which two utterances are of one voice. Default: that
            of this set's own equal error rate.

        Returns
        -------
        row : dict
            The results, rates in percent.
        threshold : float
            The one used.
        """
        self.evaluate(data, min_key="EER", test_loader_kwargs=loader)
        eer, own = equal_error(self.same, self.different)
        if threshold is None:
            threshold = round(own, 4)
        accepted = float((self.different > threshold).double().mean())
        rejected = float((self.same <= threshold).double().mean())
        if if_main_process():
            folder = Path(self.hparams.output_folder)
            save_file(
                {key: said["embedding"] for key, said in self.heard.items()},
                folder / f"embeddings_{name}.safetensors",
            )
        row = {
            "test": name,
            "voices": len({said["spk_id"] for said in self.heard.values()}),
            "utterances": len(self.heard),
            "pairs of one voice": len(self.same),
            "pairs of two": len(self.different),
            "EER": round(100 * eer, 2),
            "other voice accepted": round(100 * accepted, 2),
            "same voice rejected": round(100 * rejected, 2),
            "bad_files": len(data) - len(self.heard),
        }
        return row, threshold


def equal_error(same, different):
    """SpeechBrain's equal error rate and its threshold.

    Arguments
    ---------
    same : torch.Tensor
        Scores of pairs of one voice [P].
    different : torch.Tensor
        Scores of pairs of two [P'].

    Returns
    -------
    rate : float
        0 to 1.
    threshold : float
        Where the voices are told apart without error, midway.
    """
    rate, threshold = EER(same, different)
    least, most = float(same.min()), float(different.max())
    return rate, (least + most) / 2 if most < least else threshold


def draw_trials(speakers, sessions, most, seed):
    """Pairs of utterances to compare.

    Arguments
    ---------
    speakers : list of str
        Who says each utterance.
    sessions : list of str
        Where it was said. Pairs of one voice are of two sessions if a voice
        has more than one: within one, the microphone is the same, too.
    most : int
        More pairs of one voice, or of two, are not taken.
    seed : int
        Which then are.

    Returns
    -------
    same, different : torch.Tensor
        Indices of the utterances [2, P].
    """
    one, two = torch.combinations(torch.arange(len(speakers))).T
    numbers = []
    for names in (speakers, sessions):
        known = {name: i for i, name in enumerate(dict.fromkeys(names))}
        numbers.append(torch.tensor([known[name] for name in names]))
    same, near = [number[one] == number[two] for number in numbers]
    different, apart = ~same, same & ~near
    same = apart if bool(apart.any()) else same
    if not (bool(same.any()) and bool(different.any())):
        raise ValueError(
            f"{len(speakers)} utterances of {len(set(speakers))} voices; two "
            f"of one voice and another voice are needed at least"
        )
    draw, trials = torch.Generator().manual_seed(seed), []
    for chosen in (same, different):
        chosen = chosen.nonzero()[:, 0]
        chosen = chosen[torch.randperm(len(chosen), generator=draw)[:most]]
        trials.append(torch.stack([one[chosen], two[chosen]]))
    return trials


def stretch(samples, size, draw):
    """A part of an utterance, repeated first if it is shorter.

    Arguments
    ---------
    samples : torch.Tensor
        [S]
    size : int
        Samples of the part.
    draw : random.Random
        Says where it begins.

    Returns
    -------
    torch.Tensor
        [size]
    """
    samples = samples.repeat(-(-size // len(samples)))
    start = draw.randint(0, len(samples) - size)
    return samples[start : start + size]


def prepare_rirs(csv_file, count, seed):
    """Makes impulse responses, each of a room and a microphone.

    Arguments
    ---------
    csv_file : str or Path
        Their list; nothing is done if it is there.
    count : int
        How many.
    seed : int
        All follows from it.
    """
    csv_file = Path(csv_file)
    if csv_file.exists():
        return
    folder = csv_file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["ID,duration,wav,wav_format,wav_opts"]
    for number in range(count):
        draw = np.random.default_rng([seed, number])
        room = make_room(draw.uniform(0.05, 0.5), draw)
        room = sosfilt(channel_sections(draw_channel(draw)), room)
        path = folder / f"{number}.wav"
        soundfile.write(path, room, SAMPLE_RATE, subtype="FLOAT")
        lines.append(f"{number},{len(room) / SAMPLE_RATE},{path},wav,")
    csv_file.write_text("\n".join(lines) + "\n")


def make_dataset(path, hparams, labels=None):
    """Utterances of a CSV: whole ones, or for training parts of them.

    Arguments
    ---------
    path : str
        The CSV.
    hparams : dict
        The experiment.
    labels : CategoricalEncoder, optional
        For training: numbers of the voices.

    Returns
    -------
    DynamicItemDataset
    """
    rows = load_data_csv(path)
    for row in rows.values():
        # Where none is a part of a file.
        row.setdefault("start", "")
        row.setdefault("stop", "")
    data = DynamicItemDataset(rows)
    rate, keys = hparams["sample_rate"], ["id", "sig", "spk_id", "session"]

    @sb.utils.data_pipeline.takes("id", "wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def audio(key, *place):
        samples = read_audio(place[0], rate, *place[1:])
        if labels is None or samples is None:
            return samples
        # The same after a kill, and in whatever process.
        epoch = hparams["epoch_counter"].current
        draw = random.Random(f"{hparams['seed']} {epoch} {key}")
        return stretch(samples, round(rate * hparams["sentence_len"]), draw)

    data.add_dynamic_item(audio)
    if labels is not None:

        @sb.utils.data_pipeline.takes("spk_id")
        @sb.utils.data_pipeline.provides("spk_id_encoded")
        def label(spk_id):
            return labels.encode_sequence_torch([spk_id])

        data.add_dynamic_item(label)
        keys.append("spk_id_encoded")
    data.set_output_keys(keys)
    return data


def voices_of(csv):
    """Who speaks each utterance of a CSV, and in which session."""
    rows = load_data_csv(csv).values()
    return [[row[key] for row in rows] for key in ("spk_id", "session")]


def load_experiment(path, overrides):
    """Prepares the data, then loads the YAML with as many voices as it has.

    Arguments
    ---------
    path : str
        The YAML.
    overrides : str
        YAML of the command line.

    Returns
    -------
    hparams : dict
        The experiment.
    given : dict
        What the YAML was overridden with.
    csvs : dict
        As `prepare_data`.
    """
    given = given_settings(overrides)
    settings = plain_settings(path, dict(given))
    Path(settings["save_folder"]).mkdir(parents=True, exist_ok=True)
    on_main(prepare_data, settings)
    csvs = prepare_data(settings, skip_prep=True)
    known = set(voices_of(csvs["train"])[0])
    if len(known) < 2:
        raise ValueError(f"{csvs['train']}: one voice only, none to tell from")
    for csv in (csvs["valid"][0], *csvs["test"]):
        speakers, sessions = voices_of(csv)
        both = sorted(known & set(speakers))
        if both:
            raise ValueError(f"{csv}: voice {both[0]} is in the training data")
        try:
            draw_trials(speakers, sessions, 1, 0)
        except ValueError as error:
            raise ValueError(f"{csv}: {error}") from error
    given["out_n_neurons"] = len(known)
    return load_yaml(path, given), given, csvs


def number_voices(hparams, csv):
    """Numbers of the training voices, the same as before if there are."""
    labels = sb.dataio.encoder.CategoricalEncoder()
    path = Path(hparams["save_folder"]) / "label_encoder.txt"
    speakers = sorted(set(voices_of(csv)[0]))
    labels.load_or_create(path, from_iterables=[speakers])
    labels.expect_len(len(speakers))
    if set(labels.lab2ind) != set(speakers):
        raise ValueError(
            f"{path.parent} holds a model of other voices: use another "
            f"output_folder"
        )
    return labels


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
    loader = {"num_workers": hparams["num_workers"], "collate_fn": Batch}
    # One at a time: the convolutions would hear padding.
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
    write_results(brain, rows, threshold, began)
    if if_main_process():
        folder = Path(hparams["output_folder"]) / "model"
        yaml = folder.parent / "hyperparams.yaml"
        write_embedder(folder, yaml, hparams["embedding_model"], threshold)
        write_embedder_card(
            folder,
            hparams,
            sources,
            csvs["train"],
            rows,
            markdown(rows),
            threshold,
            run,
        )


def write_results(brain, rows, threshold, began):
    """Prints the table and keeps it as JSON and Markdown."""
    if not if_main_process():
        return
    folder = Path(brain.hparams.output_folder)
    model, table = brain.hparams.embedding_model, markdown(rows)
    (folder / "results.md").write_text(table + "\n")
    results = {
        "rows": rows,
        "threshold": threshold,
        "parameters": sum(p.numel() for p in model.parameters()),
        "bad_files": sorted(brain.bad_files),
        "minutes": round((time.time() - began) / 60, 1),
        "torch": torch.__version__,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    logger.info(
        "%d files could not be read; threshold %g; results in %s:\n%s",
        len(brain.bad_files),
        threshold,
        folder,
        table,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train_speaker.py: {' '.join(str(error).split())}")
