"""Parts that the cards of all models have.

Authors
* speechbrain_lact contributors 2026
"""

import os
import re
import shlex
from pathlib import Path

from speechbrain_lact.inference.card.sources import split_source
from speechbrain_lact.utils.tables import markdown_table

# The hub's names of licences; another one is `other` there.
HUB_LICENSES = (
    "apache-2.0 mit cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
    "cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0"
).split()


def hub_data(sources):
    """Languages, names and licence of the data, for the head of a card. Who
    trained may choose another licence than theirs, if they have one.

    Arguments
    ---------
    sources : list of Source

    Returns
    -------
    dict
        Of `ModelCardData`.
    """
    corpora = [source.corpus for source in sources]
    known = list(dict.fromkeys(corpus for corpus in corpora if corpus))
    found = {
        "language": sorted({c.language for c in known})
        if all(corpora)
        else None,
        "datasets": [corpus.hub for corpus in known] or None,
    }
    slugs = {source.licence.lower().replace(" ", "-") for source in sources}
    if len(slugs) == 1 and slugs <= set(HUB_LICENSES):
        return {**found, "license": slugs.pop()}
    return {
        **found,
        "license": "other",
        "license_name": "see-training-data",
        "license_link": "README.md",
    }


def _scored_corpus(settings, test):
    """The corpus of a test set, if it is known."""
    if settings["train_manifest"]:
        return None
    folder = settings["data_folder"] or settings["mini_speech_folder"]
    return split_source(folder, test).corpus


def scored_set(settings, test):
    """A test set, as the hub wants it.

    Arguments
    ---------
    settings : dict
        The experiment.
    test : str
        Name of the set.

    Returns
    -------
    dict
        Of `EvalResult`.
    """
    corpus = _scored_corpus(settings, test)
    return {
        "dataset_type": corpus.hub if corpus else test,
        "dataset_name": scored_name(settings, test),
        "dataset_split": test,
    }


def scored_name(settings, test):
    """A test set with the name of its corpus, if that is known.

    Arguments
    ---------
    settings : dict
        The experiment.
    test : str
        Name of the set.

    Returns
    -------
    str
    """
    corpus = _scored_corpus(settings, test)
    return f"{corpus.name} {test}" if corpus else test


def title_of(run):
    """The name of a run's YAML.

    Arguments
    ---------
    run : RunRecord
        What it was begun with.

    Returns
    -------
    str
    """
    return Path(run.commands[0][1]).stem


def training_section(sources, run):
    """The commands and the data.

    Arguments
    ---------
    sources : list of Source
        What it was trained on.
    run : RunRecord
        What it was begun with.

    Returns
    -------
    str
        Markdown.
    """
    commands = "\n".join(map(public_command, run.commands))
    lines = ["## Training", f"```bash\n{commands}\n```"]
    if run.processes != [1]:
        counts = ", then ".join(map(str, run.processes))
        lines[1] += f"\n\nProcesses: {counts}."
    rows = []
    for source in sources:
        cells = [
            source.name,
            source.corpus.name if source.corpus else "",
            source.licence,
            source.known_from,
            source.hours,
        ]
        rows.append([" ".join(c.split()).replace("|", r"\|") for c in cells])
    head = ["data", "corpus", "licence", "known from", "hours"]
    lines.append(markdown_table(rows, head))
    abouts = [source.corpus.about for source in sources if source.corpus]
    lines += dict.fromkeys(abouts)
    lines.append(
        "The licence of the weights is for those who trained them to choose, "
        "within what the data allow."
    )
    return "\n\n".join(lines)


def public_command(command):
    """A command line without the paths of a machine.

    Arguments
    ---------
    command : list of str
        Program and arguments. Paths below the current folder become relative
        to it; of other absolute ones the last name is kept.

    Returns
    -------
    str

    Example
    -------
    >>> public_command(["train.py", "--data_folder=/home/me/LibriSpeech"])
    'python train.py --data_folder=/path/to/LibriSpeech'
    >>> public_command(["train.py", "--test_manifest", "[/a/b, c/d]"])
    "python train.py --test_manifest '[/path/to/b, c/d]'"
    """

    words = []
    for word in command:
        option, equals, value = word.partition("=")
        if not equals:
            option, value = "", word
        if value.startswith("/"):
            value = _public(value)
        else:  # a list or mapping of YAML
            value = re.sub(
                r"(?<=[\[{,\s\"'])/[^\s,\]}\"']+",
                lambda m: _public(m[0]),
                value,
            )
        words.append(option + equals + value)
    return shlex.join(["python", *words])


def _public(path):
    """An absolute path without what only one machine has."""
    inside = os.path.relpath(path)
    if not inside.startswith(os.pardir):
        return inside
    return f"/path/to/{os.path.basename(os.path.normpath(path))}"


def voices_of(sources):
    """Who speaks in the training data.

    Arguments
    ---------
    sources : list of Source

    Returns
    -------
    str
    """
    kinds = {}
    for source in sources:
        known = source.corpus
        kinds[known.voices if known else f"not known of {source.name}"] = None
    return "; ".join(kinds)
