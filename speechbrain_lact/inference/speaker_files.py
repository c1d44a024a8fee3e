"""The files of a bank of speakers: one each, whole whatever ends the process.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import json
import os
import re
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from speechbrain_lact.inference.session import SessionState
from speechbrain_lact.nnet.state import State, buffer, nested
from speechbrain_lact.nnet.state_file import STATE_VERSION, differences

try:
    import fcntl
except ImportError:  # Windows: nothing keeps a second process out
    fcntl = None

# Parts of an identity that messages name.
SHOWN_KEYS = ("model", "block", "embedder")

SPEAKER_FILE = re.compile(r"[0-9a-f]{64}\.safetensors")
UNFINISHED_FILE = re.compile(SPEAKER_FILE.pattern + r"\.\d+\.part")


@dataclass
class Voice(State):
    """What the bank keeps of a speaker: one file."""

    embeddings: torch.Tensor = buffer("left")
    """Of the last recordings, the newest at the end [1, K, E]."""
    state: SessionState = nested(SessionState)
    """What the model has learned of the voice."""


class SpeakerFiles:
    """A folder with a file for each speaker. One process at a time has it
    open, until it is closed or nobody refers to it.

    A file is written aside and then renamed: a speaker is as before or as
    after. The order of use is kept in the files' times.

    Arguments
    ---------
    folder : str or Path
        Made if need be.
    identity : dict
        Of the model and the embedder that the speakers belong to.
    model_identity : callable
        Gives that of the model as it is now.

    Raises
    ------
    OSError
        If the folder cannot be written, or is open elsewhere.
    """

    def __init__(self, folder, identity, model_identity):
        self.folder, self.identity = Path(folder), identity
        self.model_identity, self._stamp = model_identity, 0
        self._lock = weakref.finalize(self, os.close, _hold(self.folder))

    def close(self):
        """Lets others open the folder."""
        self._lock()

    def read(self):
        """Reads how the speakers sound; removes what a kill has left.

        Yields
        ------
        name : str
            The one used longest ago comes first.
        embeddings : torch.Tensor
            [K, E]

        Raises
        ------
        ValueError
            If a file is damaged, or of another model or embedder.
        """
        found = []
        for path in self.folder.iterdir():
            if UNFINISHED_FILE.fullmatch(path.name):
                path.unlink()
            elif SPEAKER_FILE.fullmatch(path.name):
                found.append((path.stat().st_mtime_ns, path))
        for self._stamp, path in sorted(found):
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata()
                    embeddings = file.get_tensor("embeddings")[0]
                config = json.loads(metadata["config"])
                name = config.pop("name")
                whole = self.path(name) == path
            except (
                SafetensorError,
                AttributeError,
                LookupError,
                TypeError,
                ValueError,
            ):
                whole = False
            if not whole:
                raise ValueError(f"{path}: no speaker, or damaged; remove it")
            if metadata.get("version") != str(STATE_VERSION):
                raise ValueError(
                    f"{self.folder}: bank of another version of this package: "
                    f"enrol the speakers again, in a new folder"
                )
            if config != self.identity:
                raise ValueError(
                    f"{self.folder}: bank of another model or embedder: "
                    f"{_compare(config, self.identity)}; name those that it "
                    f"was made with, or take a new folder"
                )
            yield name, embeddings

    def path(self, name):
        """The file of a speaker.

        Arguments
        ---------
        name : str

        Returns
        -------
        Path
        """
        if not self._lock.alive:
            raise ValueError(f"{self.folder}: this bank is closed")
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass"))
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def config(self, name):
        """What a speaker's file belongs to.

        Arguments
        ---------
        name : str

        Returns
        -------
        dict
        """
        now = {**self.identity, **self.model_identity()}
        if now != self.identity:  # another look-ahead was chosen
            raise ValueError(
                f"{self.folder}: the model of this bank has become another "
                f"one: {_compare(self.identity, now)}"
            )
        return {**now, "name": name}

    def load(self, name):
        """A speaker.

        Arguments
        ---------
        name : str

        Returns
        -------
        Voice
        """
        return Voice.load(str(self.path(name)), self.config(name))

    def write(self, name, voice):
        """Makes it what is kept of a speaker.

        Arguments
        ---------
        name : str
        voice : Voice
        """
        path = self.path(name)
        try:
            voice.save(str(path), self.config(name))
        except OSError as error:
            raise OSError(f"{path}: cannot be written: {error}") from error

    def use(self, name):
        """Makes a speaker the one used last, also for the next process.

        Arguments
        ---------
        name : str
        """
        self._stamp = max(time.time_ns(), self._stamp + 1)
        os.utime(self.path(name), ns=(self._stamp, self._stamp))

    def remove(self, name):
        """Removes a speaker.

        Arguments
        ---------
        name : str
        """
        self.path(name).unlink(missing_ok=True)


def _hold(folder):
    """Makes the folder; a descriptor that keeps others out while open."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        # A folder cannot be opened where there is no fcntl.
        descriptor = os.open(folder if fcntl else os.devnull, os.O_RDONLY)
    except OSError as error:
        raise OSError(
            f"{folder}: a bank of speakers cannot be kept here: "
            f"{error.strerror}; name a folder that can be written"
        ) from error
    try:
        if fcntl:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise OSError(
            f"{folder}: this bank is open already, here or in another "
            "process; close it there first"
        ) from None
    return descriptor


def _compare(given, wanted):
    """What two models or embedders are, in words."""
    names = [
        ", ".join(f"{key} {one.get(key)}" for key in SHOWN_KEYS)
        for one in (given, wanted)
    ]
    if names[0] != names[1]:
        return f"{names[0]}, not {names[1]}"
    return differences(given, wanted)
