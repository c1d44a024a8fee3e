"""Voices to learn and to test on: utterances, rooms, the experiment.

Authors
* speechbrain_lact contributors 2026
"""

import random
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import sosfilt

import speechbrain as sb
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.corpora.mini_speech.channel import (
    channel_sections,
    draw_channel,
)
from speechbrain_lact.corpora.mini_speech.rooms import make_room
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.training.experiment import prepare_data
from speechbrain_lact.training.settings import (
    given_settings,
    load_yaml,
    plain_settings,
)
from speechbrain_lact.training.speaker import draw_trials
from speechbrain_lact.utils.processes import on_main


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


def voices_of(csv):
    """Who speaks each utterance of a CSV, and in which session."""
    rows = load_data_csv(csv).values()
    return [[row[key] for row in rows] for key in ("spk_id", "session")]


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
