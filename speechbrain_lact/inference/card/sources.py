"""What a model was trained on: splits, manifests, other models, their licences.

A corpus that is not recognised is called unknown, unless the recipe's
`data_licenses` says more.

Authors
* speechbrain_lact contributors 2026
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.inference.card.corpora import Corpus, find_corpus

UNKNOWN = "unknown: not stated (set data_licenses)"


@dataclass
class Source:
    """Something that a model was trained on, or started from.

    Arguments
    ---------
    name : str
        Split, manifest, or model that it started from.
    licence : str
        Its licence, or that it is unknown.
    known_from : str
        Where that is known from.
    corpus : Corpus, optional
        If it was recognised.
    folder : str, optional
        Of a split: where its audio files are.
    hours : str
        How many of them are in the training data, where that is known.
    """

    name: str
    licence: str = UNKNOWN
    known_from: str = ""
    corpus: Optional[Corpus] = None
    folder: Optional[str] = None
    hours: str = ""


def training_sources(settings, licences):
    """What a run trains on, and what it starts from.

    Arguments
    ---------
    settings : dict
        The experiment.
    licences : dict
        Licences of sources, by the name of the split, manifest, corpus or
        model that is started from.

    Returns
    -------
    list of Source

    Raises
    ------
    ValueError
        If `licences` is no mapping to texts, or names what there is not.

    Example
    -------
    >>> settings = {"train_manifest": "a/train.jsonl"}
    >>> licences = {"train.jsonl": "CC BY 4.0"}
    >>> [source] = training_sources(settings, licences)
    >>> source.name, source.licence
    ('train.jsonl', 'CC BY 4.0')
    """
    if settings["train_manifest"]:
        sources = [Source(Path(m).name) for m in _manifests(settings)]
    else:
        folder = settings["data_folder"] or settings["mini_speech_folder"]
        sources = [
            split_source(folder, name) for name in settings["train_splits"]
        ]
    for key in ("source", "pretrained_source"):
        if settings.get(key):
            sources.append(Source(start_name(settings[key])))
    _state_licences(sources, licences)
    return sources


def recorded_sources(entries, licences):
    """The sources of a run's record, with the licences of today.

    Arguments
    ---------
    entries : list of dict
        The fields of each.
    licences : dict
        As `training_sources` has them.

    Returns
    -------
    list of Source
    """
    sources = []
    for entry in entries:
        corpus = entry["corpus"] and Corpus(**entry["corpus"])
        sources.append(Source(**{**entry, "corpus": corpus}))
    _state_licences(sources, licences)
    return sources


def count_hours(sources, csv):
    """Notes how much of each source is in the training data.

    Arguments
    ---------
    sources : list of Source
        They are changed.
    csv : str
        The CSV file of the training data.
    """
    utterances = load_data_csv(csv).values()
    for source in sources:
        source.hours = _hours(source, sources, utterances)


def _state_licences(sources, licences):
    """Sets the licences that are given by name."""
    given = licences or {}
    if not isinstance(given, dict) or not all(
        isinstance(licence, str) for licence in given.values()
    ):
        raise ValueError(f"data_licenses: {{name: licence}}, not {given!r}")
    names = {source.name for source in sources}
    names |= {source.corpus.name for source in sources if source.corpus}
    for name in given:
        if name not in names:
            raise ValueError(
                f"data_licenses: {name} is not one of {', '.join(sorted(names))}"
            )
    for source in sources:
        for name in (source.name, getattr(source.corpus, "name", None)):
            if name in given:
                source.licence = given[name]
                source.known_from = "data_licenses"
                break


def _hours(source, sources, utterances):
    """Hours of a source that were used, where that is known."""
    if source.folder:
        prefix = os.path.join(source.folder, "")
        utterances = [u for u in utterances if u["wav"].startswith(prefix)]
    elif len(sources) > 1:
        return ""
    return f"{sum(float(u['duration']) for u in utterances) / 3600:.2f}"


def _manifests(settings):
    given = settings["train_manifest"]
    return [given] if isinstance(given, (str, os.PathLike)) else given


def split_source(folder, name):
    """A split of a folder laid out as LibriSpeech is.

    Arguments
    ---------
    folder : str
    name : str

    Returns
    -------
    Source
    """
    path = os.path.join(os.path.abspath(os.path.expanduser(folder)), name)
    corpus, known_from = find_corpus(path)
    licence = corpus.licence if corpus else UNKNOWN
    return Source(name, licence, known_from, corpus, path)


def start_name(source):
    """The name of a model on the hub or in a folder.

    Arguments
    ---------
    source : str

    Returns
    -------
    str
    """
    return Path(source).name if os.path.isdir(source) else str(source)
