"""What was heard in recordings, as files: JSON lines, text, subtitles.

Authors
* speechbrain_lact contributors 2026
"""

import html
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

# Subtitles: characters of a line, seconds of a line at most and at least,
# seconds of silence that end one.
LINE, LONGEST, LEAST, PAUSE = 42, 5.0, 1.0, 0.7


@dataclass
class Recording:
    """A recording, and what was heard in it."""

    name: str
    path: str
    text: str = ""
    """What is said in it, if that is known."""
    words: list = None
    """Word by word what was heard."""
    seconds: float = 0.0
    error: str = ""
    """Why it cannot be transcribed."""
    span: tuple = (0, None, "s")
    """The part of the file, as `AudioFile` takes it."""

    @property
    def heard(self):
        """What was heard as text."""
        return " ".join(word.text for word in self.words)


class Output:
    """Where transcripts go: a file that grows line by line, or is written
    whole (subtitles), or standard output.

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

    Raises
    ------
    ValueError
        If the file cannot be written: it exists, or is not of this class.
    """

    def __init__(self, path, recordings, named, resume):
        self.path, self.named, self.file = path, named, None
        self.kind = ".txt" if path is None else path.suffix.lower()
        self.done = set()
        """Keys of the recordings that are in the file."""
        if self.whole and len(recordings) > 1:
            raise ValueError(
                f"{path}: subtitles are of one recording and there are "
                f"{len(recordings)}: name a .jsonl file"
            )
        if path is None:
            return
        if not path.parent.is_dir():
            raise ValueError(f"{path.parent}: no such folder")
        if not resume:
            refuse_existing(path, "go on with it by --resume, or name another")
        elif path.exists():
            self.done = {None} if self.whole else self._lines()
            # A file without names is of the one recording.
            if None in self.done:
                self.done = {key(recordings[0].name)}

    @property
    def whole(self):
        """Whether the file is written at once."""
        return self.kind in (".srt", ".vtt")

    def _lines(self):
        """Keys of the lines that are whole; another last line is cut off."""
        done, end = set(), 0
        with open(self.path, "rb+") as file:
            for number, line in enumerate(file, 1):
                text = line.decode("utf-8", "surrogateescape")
                if not text.endswith("\n"):
                    self._check(text, number)
                    break
                done.add(self._read(text, number))
                end += len(line)
            file.truncate(end)
        return done

    def _read(self, line, number):
        """Key of a line; None if it has no name."""
        try:
            if self.kind == ".jsonl":
                return key(json.loads(line)["file"])
            if not self.named:
                return None
            name, _ = line.split("\t")
            return key(name)
        except (ValueError, KeyError, TypeError):
            self._refuse(number)

    def _check(self, start, number):
        """Refuses what cannot be the beginning of a line."""
        begin = '{"file": "'
        if self.kind == ".jsonl" and start[: len(begin)] != begin[: len(start)]:
            self._refuse(number)

    def _refuse(self, number):
        """The file is not ours."""
        raise ValueError(
            f"{self.path}: line {number} was not written by this command: "
            "name another file"
        )

    def __enter__(self):
        if self.path is not None and not self.whole:
            errors = "surrogateescape"
            # What is not UTF-8 in a name becomes a JSON escape.
            if self.kind == ".jsonl":
                errors = "backslashreplace"
            self.file = open(self.path, "a", encoding="utf-8", errors=errors)
        return self

    def __exit__(self, *_):
        if self.file is not None:
            self.file.close()

    def write(self, recording):
        """Adds a transcript, at once.

        Arguments
        ---------
        recording : Recording
            With its words.
        """
        from tqdm import tqdm

        if self.whole:
            text = subtitles(recording.words, self.kind)
            part = Path(f"{self.path}.part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, self.path)
            return
        line = recording.heard
        if self.kind == ".jsonl":
            row = {"file": recording.name, "text": recording.heard}
            row["words"] = [asdict(word) for word in recording.words]
            row["seconds"] = round(recording.seconds, 3)
            line = json.dumps(row, ensure_ascii=False)
        elif self.named:
            line = f"{printable(recording.name)}\t{line}"
        file = self.file or sys.stdout
        tqdm.write(line, file=file)
        file.flush()


def subtitles(words, kind):
    """Words as subtitles.

    Arguments
    ---------
    words : list of Word
        Of one recording.
    kind : str
        .srt or .vtt

    Returns
    -------
    str

    Example
    -------
    >>> from speechbrain_lact.inference.ASR import Word
    >>> words = [Word("GOOD", 0.5, 0.9), Word("MORNING", 1.0, 1.8)]
    >>> print(subtitles(words, ".srt").rstrip())
    1
    00:00:00,500 --> 00:00:01,800
    GOOD MORNING
    """
    lines = []
    for word in words:
        line = lines[-1] if lines else []
        text = " ".join(w.text for w in [*line, word])
        if (
            not line
            or word.start - line[-1].end > PAUSE
            or word.end - line[0].start > LONGEST
            or len(text) > LINE
        ):
            lines.append([])
        lines[-1].append(word)
    blocks = ["WEBVTT\n"] if kind == ".vtt" else []
    for number, line in enumerate(lines, 1):
        start = line[0].start
        end = max(line[-1].end, start + LEAST)
        if number < len(lines):
            end = min(end, lines[number][0].start)
        text = " ".join(word.text for word in line)
        times = f"{_stamp(start)} --> {_stamp(end)}"
        if kind == ".vtt":
            times, text = times.replace(",", "."), html.escape(text, False)
        blocks.append(f"{number}\n{times}\n{text}\n")
    return "\n".join(blocks)


def _stamp(seconds):
    """Hours, minutes, seconds and milliseconds."""
    rest, milliseconds = divmod(round(seconds * 1000), 1000)
    rest, seconds = divmod(rest, 60)
    hours, minutes = divmod(rest, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{milliseconds:03}"


def refuse_existing(path, advice="name another one"):
    """Raises if there is a file of that name.

    Arguments
    ---------
    path : Path
        The name.
    advice : str
        What to do.
    """
    if path.exists():
        raise ValueError(f"{path}: exists: {advice}")


def printable(name):
    """A path without what would end a line or a column.

    Arguments
    ---------
    name : str
        The path.

    Returns
    -------
    str
    """
    return str(name).translate({9: "\\t", 10: "\\n", 13: "\\r"})


def key(name):
    """What tells recordings apart.

    Arguments
    ---------
    name : str
        A path.

    Returns
    -------
    str
    """
    return os.path.abspath(printable(name))
