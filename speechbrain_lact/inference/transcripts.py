"""Transcripts as files: JSON lines, text, subtitles.

Authors
* speechbrain_lact contributors 2026
"""

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from speechbrain_lact.inference.subtitles import subtitles
from speechbrain_lact.utils.console import (
    Lines,
    check_new_file,
    lock,
    refuse_existing,
    say,
    whole,
    write_all,
)

# What stands behind the name in a line.
ENDS = {".jsonl": '", "text": ', ".txt": "\t"}
# What bytes that are not UTF-8 are read as.
BYTES = "".join(map(chr, range(0xDC80, 0xDD00)))
# What the file beside an output begins with.
MADE_BY = "speechbrain-lact transcribe"

# What would end a line or a column, or change a terminal.
CONTROLS = [*range(32), *range(127, 160), 0x2028, 0x2029]
ESCAPES = {code: repr(chr(code))[1:-1] for code in CONTROLS}


@dataclass
class Recording:
    """A recording, and what was recognised in it."""

    name: str
    path: str
    text: str = ""
    """What is said in it, if that is known."""
    words: list = None
    """Word by word what was recognised."""
    seconds: float = 0.0
    error: str = ""
    """Why it cannot be transcribed."""
    span: tuple = (0, None, "s")
    """The part of the file, as `AudioFile` takes it."""

    @property
    def hypothesis(self):
        """What was recognised, as text."""
        return " ".join(word.text for word in self.words)


class Output:
    """Where transcripts go: a file that grows line by line, or is written
    whole (subtitles, the text of one recording), or standard output.

    Beside a file, as `FILE.run.json`, is kept what it was made with. A run
    goes on with a file only if that says the same, and keeps others away.

    Arguments
    ---------
    path : Path, optional
        The file.
    recordings : list of Recording
        All that it is for.
    named : bool
        Whether lines of text begin with the name of the recording.
    resume : bool
        Whether to go on with a file that is there. What it holds is kept, but
        for a last line that is not whole.
    settings : dict, optional
        What the words depend on, by name: numbers and texts. `model` is what
        tells it from others.

    Raises
    ------
    ValueError
        At the beginning of the `with` statement, if the file cannot be
        written: it exists, was not made by this class or with other settings,
        or another run is writing it.
    """

    def __init__(self, path, recordings, named, resume, settings=None):
        self.path, self.named, self.resume = path, named, resume
        self.recordings, self.todo = recordings, recordings
        """All of them, and those that are not in the file."""
        self.kind = ".txt" if path is None else path.suffix.lower()
        self.folder, self.lines, self.lock = os.getcwd(), None, None
        self.settings = dict(settings or {})
        if self.kind in (".srt", ".vtt") and len(recordings) > 1:
            raise ValueError(
                f"{path}: subtitles are of one recording and there are "
                f"{len(recordings)}: name a .jsonl file"
            )
        if self.whole:
            place = _place(recordings[0].name, self.folder)
            self.settings["recording"] = os.path.realpath(place)

    @property
    def whole(self):
        """Whether the file is written at once."""
        if self.path is None or self.kind == ".jsonl":
            return False
        return self.kind != ".txt" or not self.named

    @property
    def beside(self):
        """The file that says what this one was made with."""
        return Path(f"{self.path}.run.json")

    def __enter__(self):
        if self.path is not None:
            check_new_file(self.path)
            try:
                self._open()
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(self, *error):
        if self.lines is not None:
            self.lines.__exit__(*error)
        if self.lock is not None:
            if not os.path.lexists(self.path):
                self.beside.unlink(missing_ok=True)
            self.lock.close()

    def _open(self):
        """All that is done before there is anything to write."""
        exists = os.path.lexists(self.path)
        if exists and not self.resume:
            if self.beside.is_file():
                with open(self.beside, "rb") as file:
                    lock(file.fileno(), self.path)
            refuse_existing(
                self.path, "go on with it by --resume, or name another"
            )
        if exists and not self.beside.is_file():
            raise ValueError(
                f"{self.path}: was not written by this command: there is no "
                f"{self.beside.name} beside it: name another file"
            )
        self._hold()
        written = self._settings()
        if exists:
            self._compare(written)
            self._go_on()
        else:
            self._begin()
        if not self.whole:
            errors = "surrogateescape"
            # What is not UTF-8 in a name becomes a JSON escape.
            if self.kind == ".jsonl":
                errors = "backslashreplace"
            self.lines = Lines(self.path, not exists, errors)

    def _hold(self):
        """Keeps other runs away, by a lock that ends with the process."""
        while self.lock is None:
            file = open(self.beside, "ab+", buffering=0)
            try:
                lock(file.fileno(), self.path)
                # Another run may have removed it just now.
                if os.path.exists(self.beside) and os.path.samestat(
                    os.fstat(file.fileno()), os.stat(self.beside)
                ):
                    self.lock = file
            finally:
                if self.lock is None:
                    file.close()

    def _settings(self):
        """What stands beside the file; nothing if that is empty."""
        self.lock.seek(0)
        text = self.lock.read()
        try:
            written = json.loads(text) if text else {}
            if not text or written["made by"] == MADE_BY:
                return written
        except (ValueError, KeyError, TypeError):
            pass
        # Not ours: nor is it to be removed.
        name = self.beside.name
        self.lock.close()
        self.lock = None
        raise ValueError(
            f"{self.path}: {name} beside it was not written by this command: "
            "name another file"
        )

    def _compare(self, written):
        """Refuses to mix the words of two models."""
        for name, value in self.settings.items():
            old = written.get(name)
            if old != value:
                old, value = (
                    "the default" if v is None else v for v in (old, value)
                )
                raise ValueError(
                    f"{self.path}: was made with {name} {old}, not {value}: "
                    "go on with that, or name another file"
                )
        self.folder = written.get("folder", self.folder)

    def _begin(self):
        """Says beside a new file what it is made with."""
        said = {"made by": MADE_BY, "folder": self.folder, **self.settings}
        text = json.dumps(said, indent=1) + "\n"
        try:
            self.lock.truncate(0)
            write_all(self.lock, text.encode())
        except OSError as error:
            raise OSError(
                error.errno, error.strerror, str(self.beside)
            ) from error

    def _go_on(self):
        """Finds what is to be done."""
        if self.whole:
            self.todo = []
            return
        there = {_place(name, self.folder) for name in self._names()}
        here = [_place(r.name, os.getcwd()) for r in self.recordings]
        # One that is called otherwise now.
        others = {os.path.realpath(place) for place in there - set(here)}
        self.todo = [
            recording
            for place, recording in zip(here, self.recordings)
            if place not in there and os.path.realpath(place) not in others
        ]

    def _names(self):
        """What the lines begin with; another last line is cut off."""
        names, end = [], 0
        with open(self.path, "rb+") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if not self._begins(line):
                        self._refuse(number)
                    file.truncate(end)
                    break
                names.append(self._read(line, number))
                end += len(line)
        return names

    def _read(self, line, number):
        """Name in a line."""
        text = line.decode("utf-8", "surrogateescape")
        try:
            if self.kind == ".jsonl":
                return str(json.loads(text)["file"])
            name, _ = text.split("\t")
            return name
        except (ValueError, KeyError, TypeError):
            self._refuse(number)

    def _begins(self, part):
        """Whether these bytes are the beginning of a line of ours."""
        # It may end within a letter.
        text = part.decode("utf-8", "surrogateescape").rstrip(BYTES)
        start = ""
        if self.kind == ".jsonl":
            start = '{"file": "'
            if start.startswith(text):
                return True
        if not text.startswith(start):
            return False
        # The name may not be whole either.
        name, end, _ = text[len(start) :].partition(ENDS[self.kind])
        if end and start:
            try:
                name = json.loads(f'"{name}"')
            except ValueError:
                return False
        place = os.path.realpath(_place(name, self.folder))
        here = (_place(r.name, os.getcwd()) for r in self.recordings)
        here = map(os.path.realpath, here)
        return any(p == place if end else p.startswith(place) for p in here)

    def _refuse(self, number):
        """The file is not ours."""
        raise ValueError(
            f"{self.path}: line {number} was not written by this command: "
            "name another file"
        )

    def _name(self, recording):
        """What a recording is called: the lines of a file that was begun in
        another folder are read from there."""
        name = recording.name
        if name == "-" or os.path.isabs(name) or os.getcwd() == self.folder:
            return name
        return os.path.relpath(name, self.folder)

    def write(self, recording):
        """Adds a transcript, at once.

        Arguments
        ---------
        recording : Recording
            With its words.
        """
        line = recording.hypothesis
        if self.kind == ".jsonl":
            row = {"file": self._name(recording), "text": recording.hypothesis}
            row["words"] = [word.row() for word in recording.words]
            row["seconds"] = round(recording.seconds, 3)
            line = json.dumps(row, ensure_ascii=False)
        elif self.kind != ".txt":
            seconds = math.floor(1000 * recording.seconds + 1e-6) / 1000
            line = subtitles(recording.words, self.kind, seconds)
        elif self.named:
            line = f"{printable(self._name(recording))}\t{line}"
        if self.lines is not None:
            self.lines.write(line)
        elif self.path is None:
            say(line)
        else:
            refuse_existing(self.path)
            end = "\n" if self.kind == ".txt" else ""
            with whole(self.path) as part:
                Path(part).write_text(line + end, encoding="utf-8")


def printable(name):
    """A path without what would end a line or a column.

    Arguments
    ---------
    name : str
        The path.

    Returns
    -------
    str

    Example
    -------
    >>> print(printable("two\\nlines"))
    two\\nlines
    """
    return str(name).translate(ESCAPES)


def clock(seconds):
    """A time as hours, minutes, seconds and tenths.

    Arguments
    ---------
    seconds : float
        Since the start.

    Returns
    -------
    str

    Example
    -------
    >>> clock(59.94), clock(59.98), clock(3599.96)
    ('0:00:59.9', '0:01:00.0', '1:00:00.0')
    """
    rest, tenths = divmod(round(seconds * 10), 10)
    rest, seconds = divmod(rest, 60)
    hours, minutes = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}.{tenths}"


def _place(name, folder):
    """Where a recording is: a path that is read in a folder."""
    if name == "-":
        return name
    return os.path.abspath(os.path.join(folder, printable(name)))
