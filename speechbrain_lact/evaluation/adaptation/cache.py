"""A file for each result: what is done is kept.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass
class Task:
    """One system with one seed in one condition: a file when it is done."""

    condition: str
    model: Any
    """A `models.Model`."""
    system: str
    settings: dict
    """All that the result depends on."""

    def path(self, folder):
        """Its file; other settings have another one."""
        parts = (self.condition, self.model.name, self.system)
        name = "_".join(part.replace(" ", "-") for part in parts)
        key = digest(json.dumps(self.settings, sort_keys=True))
        return Path(folder) / "runs" / f"{name}_{key}.json"

    def load(self, folder):
        """Its result, or None."""
        path = self.path(folder)
        return json.loads(path.read_text()) if path.is_file() else None


def digest(text):
    """Ten hexadecimal digits that change with a text.

    Arguments
    ---------
    text : str

    Returns
    -------
    str

    Example
    -------
    >>> digest("settings")
    'cde0fb0dec'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def digest_set(utterances):
    """Changes with what is said, by whom and how long; not with the folder.

    Arguments
    ---------
    utterances : list of Utterance

    Returns
    -------
    str
    """
    rows = [{**asdict(u), "wav": None} for u in utterances]
    return digest(json.dumps(rows, sort_keys=True))


def write_json(path, content):
    """Writes a JSON file, whole or not at all.

    Arguments
    ---------
    path : Path
    content : object
        What `json` can write.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)
