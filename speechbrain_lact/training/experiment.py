"""An experiment: its data, the YAML with its objects, the record of the run.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import asdict
from pathlib import Path

import torch
from ruamel.yaml import YAML

import speechbrain as sb
from speechbrain.utils.logger import get_logger
from speechbrain_lact.convert import read_converted
from speechbrain_lact.corpora.download import download_librispeech
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.manifests import prepare_manifests
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.inference.card.sources import (
    count_hours,
    recorded_sources,
    training_sources,
)
from speechbrain_lact.inference.speakers import load_embedder
from speechbrain_lact.training.run_record import RunRecord, describe_run
from speechbrain_lact.training.settings import (
    check_numbers,
    given_settings,
    load_yaml,
    plain_settings,
)
from speechbrain_lact.utils.processes import on_main

logger = get_logger(__name__)

MINI_HOURS = 20  # less training audio is little
# With what a test set may be tried.
MEMORIES = ("carried", "reset", "other", "frozen", "none", "session")


def prepare_data(settings, skip_prep=False):
    """CSV files of whatever data the settings name.

    Arguments
    ---------
    settings : dict
        The experiment's plain values.
    skip_prep : bool
        Whether only to say where they are.

    Returns
    -------
    dict
        CSV paths: `train`, and lists `valid` and `test`.
    """
    folder = settings["save_folder"]
    options = {
        "max_duration": settings["max_duration"],
        "skip_prep": skip_prep,
    }
    if settings["train_manifest"]:
        return prepare_manifests(
            settings["train_manifest"],
            settings["valid_manifest"],
            settings["test_manifest"],
            folder,
            **options,
        )
    names = ("train_splits", "dev_splits", "test_splits")
    splits = [settings[name] for name in names]
    data = settings["data_folder"] or settings["mini_speech_folder"]
    if skip_prep:
        pass
    elif settings["data_folder"] is None:
        logger.info(
            "No data_folder and no manifests: running on MiniSpeech, made in "
            "%s, with the sizes of hparams/mini.yaml",
            settings["mini_speech_folder"],
        )
        prepare_mini_speech(data)
    elif settings["download"]:
        download_librispeech(data, sum(splits, []))
    return prepare_librispeech(data, *splits, folder, **options)


def load_experiment(path, overrides, mini):
    """Prepares the data, then loads the YAML in the size that fits it.

    Arguments
    ---------
    path : str
        The YAML.
    overrides : str
        YAML of the command line.
    mini : str or Path
        YAML with the sizes for little data.

    Returns
    -------
    hparams : dict
        The experiment.
    csvs : dict
        As `prepare_data`.
    """
    given = given_settings(overrides)
    settings = plain_settings(path, dict(given))
    if "source" in settings:
        given = {**source_settings(settings), **given}
    mini, bare = YAML().load(Path(mini).read_text()), is_bare(settings)
    ours = mini.pop("mini_speech")
    if bare:
        mini.update(ours)
    mini = {k: v for k, v in mini.items() if k in settings and k not in given}
    splits = {k: mini.pop(k) for k in list(mini) if k.endswith("_splits")}
    given.update(splits)
    settings = plain_settings(path, dict(given))
    if settings["size"] not in ("auto", "full", "mini"):
        raise ValueError(f"size: auto, full or mini, not {settings['size']!r}")
    Path(settings["save_folder"]).mkdir(parents=True, exist_ok=True)
    on_main(prepare_data, settings)
    csvs = prepare_data(settings, skip_prep=True)
    small = bare or is_small(settings["size"], csvs["train"])
    overrides, embedder = {**(mini if small else {}), **given}, None
    if "initial_memory" in settings:
        if settings["domains"] is None:
            overrides["domains"] = read_domains(csvs["train"])
        if settings["speaker_encoder"] is not None:
            embedder, overrides["embedding_size"] = load_voices(settings)
    hparams = load_yaml(path, overrides)
    hparams["overrides"], hparams["embedder"] = overrides, embedder
    if "initial_memory" in hparams:
        check_domains(hparams, csvs)
    check_experiment(hparams)
    return hparams, csvs


def is_bare(settings):
    """Whether no data are named: then it is MiniSpeech."""
    return settings["data_folder"] is None and not settings["train_manifest"]


def is_small(size, csv):
    """Whether the sizes are those for little data.

    Arguments
    ---------
    size : str
        `full`, `mini`, or `auto`: by the hours of audio.
    csv : str
        The training data.

    Returns
    -------
    bool
    """
    if size != "auto":
        return size == "mini"
    rows = sb.dataio.dataio.load_data_csv(csv)
    hours = sum(float(row["duration"]) for row in rows.values()) / 3600
    if hours < MINI_HOURS:
        logger.info(
            "%.1f h of training audio: sizes of hparams/mini.yaml "
            "(size: full keeps the YAML's own)",
            hours,
        )
    return hours < MINI_HOURS


def check_experiment(hparams):
    """Refuses steps, kinds of memory and a decoding that there are not."""
    steps, warmup = hparams["number_of_steps"], hparams["warmup_steps"]
    if warmup >= steps:
        raise ValueError(
            f"warmup_steps: {warmup}, but number_of_steps: {steps}"
        )
    tried = hparams["test_memory"]
    if not isinstance(tried, list) or not tried or set(tried) - set(MEMORIES):
        raise ValueError(
            f"test_memory: a list of {', '.join(MEMORIES)}, not {tried!r}"
        )
    if hparams["test_decoding"] not in ("greedy", "beam"):
        raise ValueError(
            f"test_decoding: greedy or beam, not {hparams['test_decoding']!r}"
        )
    lm = hparams.get("kenlm_model_path")
    if lm is not None and hparams["test_decoding"] == "greedy":
        raise ValueError(
            f"kenlm_model_path: {lm} is used with test_decoding: beam only"
        )


def source_settings(settings):
    """Those settings that follow from what a model is to start from."""
    if settings["source"] is None:
        raise ValueError(
            "source: a folder made by python -m speechbrain_lact.convert"
        )
    found = read_converted(settings["source"])
    return {key: value for key, value in found.items() if key in settings}


def load_voices(settings):
    """The encoder of voices that the settings name, and the size of its
    embeddings."""
    source, rate = settings["speaker_encoder"], settings["sample_rate"]
    embedder = load_embedder(source)
    if embedder.audio_normalizer.sample_rate != rate:
        raise ValueError(
            f"speaker_encoder: {source} takes "
            f"{embedder.audio_normalizer.sample_rate} Hz, not {rate}"
        )
    return embedder, embedder.encode_batch(torch.ones(1, rate)).numel()


def read_domains(csv):
    """Names of the domains in a CSV."""
    rows = sb.dataio.dataio.load_data_csv(csv)
    return sorted({row.get("domain", "") for row in rows.values()} - {""})


def check_domains(hparams, csvs):
    """Refuses data of domains that have no place in the table, and a memory
    by domain and voice that follows from neither."""
    names = [str(name) for name in hparams["domains"]]
    if not names and hparams["speaker_encoder"] is None:
        raise ValueError(
            "an initial memory follows from a domain or a voice: use "
            "manifests with `domain`, or set speaker_encoder"
        )
    paths = [csvs["train"], *csvs["valid"], *csvs["test"]] if names else []
    for path in paths:
        for name in read_domains(path):
            if name not in names:
                raise ValueError(
                    f"{path}: domain {name!r} is not one of "
                    f"{', '.join(names)}: add it to domains before training, "
                    f"or leave `domain` out of these lines"
                )


def begin_run(settings, run_opts, hparams, csvs, command):
    """The record of the run; refuses an output folder of another one.

    Arguments
    ---------
    settings : dict
        The YAML's plain values.
    run_opts : dict
        SpeechBrain's options.
    hparams : dict
        The experiment.
    csvs : dict
        As `prepare_data`.
    command : list of str
        What was typed.

    Returns
    -------
    record : RunRecord
    sources : list of Source
        What the run was begun with.
    """
    check_numbers(run_opts)
    licences = hparams["data_licenses"]

    def begin():
        """Compares, or writes."""
        sources = training_sources(hparams, licences)
        count_hours(sources, csvs["train"])
        begun = describe_run(settings, run_opts, hparams, csvs)
        entries = list(map(asdict, sources))
        return RunRecord.open(hparams["save_folder"], begun, entries, command)

    record = on_main(begin)
    return record, recorded_sources(record.content["sources"], licences)
