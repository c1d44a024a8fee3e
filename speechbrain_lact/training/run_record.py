"""What a run was begun with, kept in its output folder.

An output folder belongs to one run. Whatever changes the trained model is
compared when the folder is used again: other data, another tokenizer or
another setting make another run, which is refused. The model card is written
from the record, not from what was typed last.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import hashlib
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.utils.processes import count_processes

RECORD = "run.json"
OLD_RECORD = "sizes.json"  # of a folder from before there was a record

# Settings that may differ when the same output folder is used again.
MAY_CHANGE = {
    "places: what is found there is compared": (
        "output_folder save_folder data_folder train_splits dev_splits "
        "train_manifest valid_manifest mini_speech_folder download "
        "max_duration tokenizer_folder rir_annotation pretrained_folder "
        "checkpointer train_logger tensorboard_logger"
    ).split(),
    "how long: training may go on (the learning rates keep their slope)": (
        "number_of_steps number_of_epochs lr_annealing matrix_lr_annealing "
        "epoch_counter"
    ).split(),
    "batches: training may go on with others, and the card has each command": (
        "batch_size join_utterances grad_accumulation_factor bptt_utterances "
        "sorted_epochs"
    ).split(),
    "tests: done with the trained model": (
        "test_splits test_manifest test_memory test_batch_size test_decoding "
        "beam_size beam_search kenlm_model_path language_model lm_weight "
        "ctc_weight_decode ctc_scorer test_search max_tested"
    ).split(),
    "speed: the same numbers, sooner or later": (
        "num_workers ckpt_interval_minutes"
    ).split(),
    "what is said of the model, and where it goes": (
        "data_licenses push_to_hub"
    ).split(),
    "a name for sizes that are compared themselves": ["size"],
}
# Folders, or names on the hub, that a model starts from or is made for.
FOLDERS = ("source", "pretrained_source", "tokenizer", "speaker_encoder")
# Options of SpeechBrain's that stand in place of a YAML's.
OPTIONS = ("precision", "max_grad_norm")
SAMPLES = 16  # files of which a part is read
PART = 1 << 16  # bytes

logger = get_logger(__name__)


def packages():
    """Packages and their versions, of those that are installed."""
    for name in ("torch", "speechbrain", "speechbrain_lact"):
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield name


def describe_data(path):
    """What a CSV file says, wherever the audio lies.

    Arguments
    ---------
    path : str
        The CSV.

    Returns
    -------
    str
        Number of utterances, hours, and a digest of the columns (but for
        paths and names of utterances) and of parts of some files.
    """
    digest, hours, wavs = hashlib.sha256(), 0.0, []
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            hours += float(row["duration"]) / 3600
            wavs.append(row.pop("wav"))
            row.pop("ID")
            kept = {key: value for key, value in row.items() if value}
            digest.update(json.dumps(kept, sort_keys=True).encode())
    for wav in wavs[:: max(len(wavs) // SAMPLES, 1)]:
        digest.update(_beginning(wav))
    short = digest.hexdigest()[:16]
    return f"{len(wavs)} utterances, {hours:.3f} h, digest {short}"


def _beginning(path):
    """The first bytes of a file, or none."""
    try:
        with open(path, "rb") as file:
            return file.read(PART)
    except OSError:
        return b""


def digest_file(path):
    """A digest of a file, or of the beginnings of a folder's files."""
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(x for x in path.rglob("*") if x.is_file()):
            digest.update(str(file.relative_to(path)).encode())
            digest.update(f" {file.stat().st_size} ".encode())
            digest.update(_beginning(file))
    else:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compared_settings(settings, options=None):
    """The settings that make a run what it is.

    Arguments
    ---------
    settings : dict
        The YAML's plain values, nothing made of them.
    options : dict, optional
        SpeechBrain's options of the command line.

    Returns
    -------
    dict

    Example
    -------
    >>> compared_settings({"lr": 0.1, "test_splits": ["a"]})
    {'lr': 0.1}
    """
    free = {name for names in MAY_CHANGE.values() for name in names}
    given = {k: v for k, v in (options or {}).items() if k in OPTIONS}
    settings = {**settings, **given}
    found = {k: _plain(v) for k, v in settings.items() if k not in free}
    # Objects name the folders, too.
    places = {
        settings[key]: f"<{key}>"
        for key in (*FOLDERS, *free)
        if isinstance(settings.get(key), str) and os.sep in settings[key]
    }
    text = json.dumps(found)
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(json.dumps(place)[1:-1], places[place])
    found = json.loads(text)
    for key in FOLDERS:
        if isinstance(settings.get(key), str):
            here = os.path.exists(settings[key])
            found[key] = digest_file(settings[key]) if here else settings[key]
    return found


def _plain(node):
    """A node of YAML as JSON has it, with its tag."""
    tag = str(getattr(getattr(node, "tag", None), "value", None) or "")
    if isinstance(node, dict):
        value = {str(key): _plain(item) for key, item in node.items()}
    elif isinstance(node, (list, tuple)):
        value = [_plain(item) for item in node]
    elif isinstance(node, bool) or node is None:
        value = node
    elif isinstance(node, (int, float)):
        value = float(node) if isinstance(node, float) else int(node)
    else:
        value = str(getattr(node, "value", node))
    return {tag: value} if tag.startswith("!") else value


def describe_run(settings, options, hparams, csvs):
    """All that is compared when an output folder is used again.

    Arguments
    ---------
    settings, options : dict
        As `compared_settings` has them.
    hparams : dict
        The experiment, loaded.
    csvs : dict
        CSV paths: `train`, and the list `valid`.

    Returns
    -------
    dict
    """
    named = [p for p in packages() if p.startswith("speechbrain_lact")]
    shapes = hparams["model"].state_dict().items()
    return {
        "package": named[0],
        **compared_settings(settings, options),
        "training data": describe_data(csvs["train"]),
        "validation data": describe_data(csvs["valid"][0]),
        "sizes": {
            name: list(value.shape)
            for name, value in shapes
            if isinstance(value, torch.Tensor)
        },
    }


class RunRecord:
    """What a run was begun with, and what was typed to train it.

    Made by the main process; see `open`.

    Arguments
    ---------
    path : Path
        Its file.
    content : dict
        `begun`, `sources`, `trained` and `tokenizer`.
    """

    def __init__(self, path, content):
        self.path, self.content = path, content

    @classmethod
    def open(cls, folder, begun, sources, command):
        """The record of a folder; begun if there is none.

        Arguments
        ---------
        folder : str or Path
            Where checkpoints are kept.
        begun : dict
            As `describe_run` has it.
        sources : list of dict
            What it is trained on, for the card.
        command : list of str
            What was typed; taken for what has trained a folder from before
            there were records.

        Returns
        -------
        RunRecord

        Raises
        ------
        ValueError
            If the folder holds another run.
        """
        folder = Path(folder)
        path = folder / RECORD
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                before = content["begun"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}: not the record of a run ({error}): use another "
                    f"--output_folder"
                ) from error
            _refuse_other(folder, before, begun)
            return cls(path, content)
        content = {
            "begun": begun,
            "sources": sources,
            "trained": [],
            "tokenizer": None,
        }
        record, old = cls(path, content), folder / OLD_RECORD
        if old.exists():
            sizes = json.loads(old.read_text(encoding="utf-8"))
            before = {k: sizes.pop(k) for k in ("domains",) if k in sizes}
            before["sizes"] = sizes
            _refuse_other(folder, before, {k: begun.get(k) for k in before})
            logger.warning(
                "%s was begun before such folders had a record: its data and "
                "settings are taken to be those of today",
                folder,
            )
            record.note(command)
        record.save()
        return record

    def save(self):
        """Writes it; the file is there whole or not at all."""
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.content, indent=1), encoding="utf-8")
        os.replace(part, self.path)

    def check_tokenizer(self, path):
        """Keeps a digest of the tokenizer's file, or compares it.

        Arguments
        ---------
        path : str or Path
            The file.

        Raises
        ------
        ValueError
            If it is not the one that the run was begun with.
        """
        found, before = digest_file(path), self.content["tokenizer"]
        if before is None:
            self.content["tokenizer"] = found
            self.save()
        else:
            _refuse_other(
                self.path.parent,
                {f"tokenizer {Path(path).name}": f"digest {before}"},
                {f"tokenizer {Path(path).name}": f"digest {found}"},
            )

    def note(self, command):
        """Adds what was typed, when steps are about to be made.

        Arguments
        ---------
        command : list of str
            Program and arguments.
        """
        entry = {
            "command": list(command),
            "processes": count_processes(),
            "packages": list(packages()),
        }
        if entry not in self.content["trained"]:
            self.content["trained"].append(entry)
            self.save()

    @property
    def commands(self):
        """What was typed to train it: lists of words, in their order."""
        found = [entry["command"] for entry in self.content["trained"]]
        return [c for i, c in enumerate(found) if c not in found[:i]]

    @property
    def packages(self):
        """Packages and versions that have trained it."""
        found = [entry["packages"] for entry in self.content["trained"]]
        return list(dict.fromkeys(name for names in found for name in names))

    @property
    def processes(self):
        """How many have trained it together, at each time."""
        found = [entry["processes"] for entry in self.content["trained"]]
        return list(dict.fromkeys(found))


def _refuse_other(folder, before, now):
    """Raises ValueError if a run is not the one that was begun."""
    names = list(dict.fromkeys((*before, *now)))
    other = [name for name in names if before.get(name) != now.get(name)]
    if not other:
        return
    kind = "a model of other sizes" if "sizes" in other else "another run"
    name = other[0]
    there, here = before.get(name), now.get(name)
    if name == "sizes":
        keys = [k for k in {**there, **here} if there.get(k) != here.get(k)]
        name, there, here = keys[0], there.get(keys[0]), here.get(keys[0])
    raise ValueError(
        f"{folder} holds {kind} ({name}: {_short(there)} there; "
        f"{_short(here)} here): use another --output_folder, or what it was "
        f"begun with"
    )


def _short(value):
    text = str(value)
    return text if len(text) < 100 else text[:100] + "..."
