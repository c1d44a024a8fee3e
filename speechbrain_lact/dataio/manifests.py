"""Readers of recordings and their words: LibriSpeech's layout, JSON lines,
Common Voice's TSV, SpeechBrain's CSV.

A line that cannot be used costs that line: it is reported with its file and
number, and counted.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import dataclasses
import json
import os
import re
import unicodedata
from collections import Counter

import soundfile

from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_span

logger = get_logger(__name__)

# Where there are several files of an utterance, the first is taken. Raw audio
# does not say what it is.
AUDIO_ENDINGS = tuple(
    dict.fromkeys(
        [".flac", ".wav", ".wave", ".ogg", ".oga", ".opus", ".mp3", ".m4a"]
        + [".aac", ".mp4", ".webm", ".mka", ".mkv", ".mov", ".wma", ".amr"]
        + [".3gp", ".aif", ".aifc", ".snd", ".sph"]
        + [f".{name.lower()}" for name in soundfile.available_formats()]
    )
)
AUDIO_ENDINGS = tuple(name for name in AUDIO_ENDINGS if name != ".raw")
# What lies beside recordings and is none.
TEXT_ENDINGS = (
    (".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".srt", ".vtt", ".ass")
    + (".rttm", ".ctm", ".stm", ".lab", ".textgrid", ".eaf", ".trn", ".xml")
    + (".yaml", ".yml", ".log", ".html", ".pdf", ".docx")
)
TRANSCRIPT_ENDING = ".trans.txt"
OPTIONAL_COLUMNS = ["domain", "snr"]  # of manifests, where a line has them

# SpeechBrain's CSV reader takes this for a variable to be replaced.
CSV_VARIABLE = re.compile(r"\$(?=[\w.])")
# Lines that a quoted text of a CSV may go over.
CSV_LINES = 20


@dataclasses.dataclass
class Utterance:
    """A recording, or a part of one, and its words.

    Arguments
    ---------
    name : str
        Its name; that of the file, where the source gives none.
    source : str
        The split or manifest it comes from.
    spk_id : str
        Speaker.
    session : str
        Session: utterances that follow each other in one voice.
    order : list or int
        What utterances of one session are sorted by.
    wav : str
        Absolute path of the audio file.
    wrd : str
        Normalised text.
    where : str
        'file:line' the text comes from.
    label : str
        What the source calls the recording.
    extra : dict
        Values of optional columns.
    start, stop : int or float
        The part of the file, as `AudioFile` takes it.
    unit : str
        What they are in, "s" or "samples".
    duration : float
        Seconds, once the header has been read.
    """

    name: str
    source: str
    spk_id: str
    session: str
    order: object
    wav: str
    wrd: str
    where: str
    label: str = ""
    extra: dict = dataclasses.field(default_factory=dict)
    start: object = 0
    stop: object = None
    unit: str = "s"
    duration: float = 0.0


class Skipped:
    """Reports what is left out, one line each, and counts it by kind.

    Arguments
    ---------
    report : callable, optional
        Takes each line, instead of the log.

    Example
    -------
    >>> skipped = Skipped(print)
    >>> skipped.add("corrupt", "1-2-0003.flac", "Format not recognised.")
    1-2-0003.flac: corrupt: Format not recognised.
    >>> str(skipped)
    '1 skipped (1 corrupt)'
    """

    def __init__(self, report=None):
        self.added, self.report = [], report

    def add(self, kind, where, why):
        """Reports one thing that is skipped.

        Arguments
        ---------
        kind : str
            Short name under which it is counted.
        where : str
            The file (and line).
        why : str
            What is wrong, for a person to read.
        """
        self.added.append((kind, where, why))
        line = f"{where}: {kind}: {why}"
        if self.report is None:
            logger.warning("Skipped %s", line)
        else:
            self.report(line)

    def __str__(self):
        counts = Counter(kind for kind, _, _ in self.added)
        if not counts:
            return "0 skipped"
        kinds = ", ".join(f"{n} {kind}" for kind, n in counts.most_common())
        return f"{len(self.added)} skipped ({kinds})"


class _Unusable(Exception):
    """A line of a manifest: what kind of fault, and why."""


def normalise_text(text):
    """The form in which words are trained on and scored: Unicode NFC, upper
    case, single spaces. A dollar sign stands apart from what follows it, for
    SpeechBrain's CSV reader would take the two for a variable.

    Arguments
    ---------
    text : str
        Words as they stand in the corpus.

    Returns
    -------
    text : str
        The same words, normalised. Normalising it again changes nothing.

    Example
    -------
    >>> normalise_text("  It's  five\\to'clock ")
    "IT'S FIVE O'CLOCK"
    >>> normalise_text("for $5")
    'FOR $ 5'
    """
    text = unicodedata.normalize("NFC", text.upper())
    return " ".join(CSV_VARIABLE.sub("$ ", text).split())


def walk(folder, depth=None):
    """Files below a folder, links followed, each folder once.

    Arguments
    ---------
    folder : str
        Where to begin.
    depth : int, optional
        How many folders to go down at most.

    Yields
    ------
    path : str
        A folder.
    names : list of str
        Its files that are not hidden, sorted.

    Raises
    ------
    OSError
        If a folder cannot be read: it must not pass for an empty one.
    """
    seen, waiting = set(), [(str(folder), 0)]
    while waiting:
        path, level = waiting.pop(0)
        found = os.stat(path)
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        names, folders, links = [], [], []
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not entry.is_dir():
                    if not entry.name.startswith("."):
                        names.append(entry.name)
                elif depth is None or level < depth:
                    below = links if entry.is_symlink() else folders
                    below.append((entry.path, level + 1))
        yield path, names
        # What is there itself comes before what is linked.
        waiting = folders + waiting + links


def read_manifest(path, skipped, source=None, wordless=False):
    """Utterances of a manifest, whatever its kind.

    - a folder laid out as LibriSpeech is, at any depth;
    - `.csv`, SpeechBrain's: ID, wav, wrd and, if they are there, spk_id,
      session, start, stop; `$data_root` is the CSV's folder. As in
      SpeechBrain whole numbers in `start` and `stop` are samples; numbers
      with a point are seconds;
    - `.tsv`, Common Voice's: path, sentence and, if it is there, client_id;
      recordings are in the folder `clips` beside it, or beside it;
    - any other file: JSON lines with audio_filepath, text and, if they are
      there, offset, duration (seconds), speaker, session, domain, snr.

    Relative paths begin at the manifest's folder. Files are UTF-8 or, with a
    byte order mark, UTF-16. Of an utterance without session the speaker is
    the session; without speaker it is one of its own.

    Arguments
    ---------
    path : str
        The folder or file.
    skipped : Skipped
        Told of what cannot be used.
    source : str, optional
        What the manifest is called.
    wordless : bool
        Whether utterances without words are wanted, too.

    Returns
    -------
    list of Utterance

    Raises
    ------
    ValueError
        If the manifest lacks a column.
    OSError
        If it cannot be read.

    Example
    -------
    >>> folder = getfixture("tmpdir")
    >>> path, _ = folder / "m.jsonl", (folder / "a.wav").write("")
    >>> line = {"audio_filepath": "a.wav", "text": "one", "offset": 1.5}
    >>> _ = path.write(json.dumps(line))
    >>> [one] = read_manifest(path, Skipped())
    >>> one.wrd, one.start, one.stop, os.path.basename(one.where)
    ('ONE', 1.5, None, 'm.jsonl:1')
    """
    path = os.path.abspath(os.path.expanduser(path))
    source = source or os.path.splitext(os.path.basename(path))[0]
    if os.path.isdir(path):
        return read_layout(path, list_layout(path), skipped, wordless=wordless)
    readers = {".csv": _csv_rows, ".tsv": _tsv_rows}
    read = readers.get(os.path.splitext(path)[1].lower(), _json_rows)
    utterances = []
    for number, row in read(path):
        where = f"{path}:{number}"
        try:
            if isinstance(row, _Unusable):
                raise row
            utterances.append(
                _utterance(row, source, number, where, path, wordless)
            )
        except _Unusable as error:
            skipped.add(error.args[0], where, error.args[1])
    return utterances


def _utterance(row, source, number, where, manifest, wordless):
    """What a line says: keys as in a SpeechBrain CSV."""
    for key in ("wav", "wrd"):
        if not isinstance(row.get(key), str):
            shown = row["names"][key]
            raise _Unusable("malformed", f"{shown!r} is missing or no text")
    if not row["wav"].strip():
        raise _Unusable("malformed", f"{row['names']['wav']!r} is empty")
    words = normalise_text(row["wrd"])
    if not words and not wordless:
        shown = row["names"]["wrd"]
        raise _Unusable("without words", f"{shown!r} is empty")
    values = {}
    for key in ("spk_id", "session", *OPTIONAL_COLUMNS):
        value = row.get(key)
        if isinstance(value, (dict, list)):
            shown = row["names"].get(key, key)
            raise _Unusable("malformed", f"{shown!r} is no text or number")
        if value is not None and value != "":
            values[key] = str(value)
    folder = os.path.dirname(manifest)
    if "\0" in row["wav"]:
        raise _Unusable("malformed", "a zero byte in the path")
    # Names that were typed are composed, those that macOS writes are not.
    given = os.path.expanduser(row["wav"])
    forms = [given] + [unicodedata.normalize(f, given) for f in ("NFC", "NFD")]
    wavs = [
        os.path.abspath(os.path.join(folder, place, form))
        for place in row.get("places", [""])
        for form in forms
    ]
    wav = next(filter(os.path.lexists, wavs), wavs[0])
    if not os.path.lexists(wav):
        raise _Unusable("without audio", f"no file {wav}")
    start, stop, unit = row.get("span", (0, None, "s"))
    if isinstance(start, str):
        raise _Unusable("malformed", start)
    name = row.get("ID") or os.path.splitext(os.path.basename(wav))[0]
    speaker = values.get("spk_id")
    session = values.get("session", speaker)
    return Utterance(
        name=name,
        source=source,
        spk_id=speaker or session or f"{name}-{number}",
        session=session or f"{name}-{number}",
        order=number,
        wav=wav,
        wrd=words,
        where=where,
        label=row.get("ID") or row["wav"],
        extra={k: values[k] for k in OPTIONAL_COLUMNS if k in values},
        start=start,
        stop=stop,
        unit=unit,
    )


def text_lines(path):
    """Lines of a text in UTF-8 or, with a byte order mark, UTF-16.

    Arguments
    ---------
    path : str
        The file.

    Yields
    ------
    number : int
        From 1.
    line : str or None
        Without its end; None if it is not in that encoding.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        for number, line in enumerate(
            data.decode("utf-16", "replace").split("\n"), 1
        ):
            yield number, None if "\ufffd" in line else line.rstrip("\r")
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            yield number, line.decode("utf-8-sig").rstrip("\r")
        except UnicodeDecodeError:
            yield number, None


NOT_TEXT = _Unusable("malformed", "not UTF-8")


def _json_rows(path):
    """Lines of NeMo's manifests: (number, row or what is wrong)."""
    names = {"wav": "audio_filepath", "wrd": "text", "spk_id": "speaker"}
    for number, line in text_lines(path):
        if line is None:
            yield number, NOT_TEXT
            continue
        if not line.strip():
            continue
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield (
                number,
                _Unusable("malformed", f"not a JSON object ({error})"),
            )
            continue
        if not isinstance(given, dict):
            yield number, _Unusable("malformed", "not a JSON object")
            continue
        row = {key: given.get(key) for key in ("session", *OPTIONAL_COLUMNS)}
        row.update({key: given.get(name) for key, name in names.items()})
        row["names"] = names
        row["span"] = _json_span(given)
        yield number, row


def _json_span(given):
    """The part of the file that offset and duration name; a text in the place
    of its start says what is wrong."""
    values = []
    for key in ("offset", "duration"):
        value = given.get(key)
        if value is None or value == "":
            values.append(None)
            continue
        try:
            value = float(value)
        except (TypeError, ValueError):
            return f"{key!r} is no number", None, "s"
        least = 0 if key == "offset" else 1e-9
        if isinstance(given[key], bool) or not least <= value < 1e9:
            return f"{key!r} is {given[key]!r}", None, "s"
        values.append(value)
    start, duration = values[0] or 0, values[1]
    return start, None if duration is None else start + duration, "s"


def _table(path, delimiter, needed):
    """Rows of a table with a header: (number, row or what is wrong)."""
    lines, header = list(text_lines(path))[::-1], None
    while lines:
        number, line = lines.pop()
        if line is None:
            yield number, NOT_TEXT
            continue
        if not line.strip():
            continue
        fields = line.split(delimiter)
        if delimiter == ",":
            fields = _csv_fields(line, lines)
        if isinstance(fields, _Unusable):
            yield number, fields
        elif header is None:
            header = [name.strip() for name in fields]
            for name in needed:
                if name not in header:
                    raise ValueError(
                        f"{path}: column {name!r} is missing (line {number})"
                    )
        elif len(fields) > len(header):
            why = f"{len(fields)} fields, but the header has {len(header)}"
            yield number, _Unusable("malformed", why)
        else:
            yield number, dict(zip(header, fields))
    if header is None:
        raise ValueError(f"{path}: column {needed[0]!r} is missing: no header")


def _csv_fields(line, lines):
    """Fields of a line of a CSV, or what is wrong. Where a quoted text goes
    over several lines, those are taken from the list of the others, of which
    the last is the next."""
    for used in range(min(CSV_LINES, len(lines) + 1)):
        if used:
            more = lines[-used][1]
            if more is None:
                break
            line = f"{line}\n{more}"
        try:
            (fields,) = csv.reader([line], strict=True, skipinitialspace=True)
        except csv.Error as error:
            if "unexpected end" in str(error):
                continue
            if used:
                break
            # As SpeechBrain reads quotes within a text.
            try:
                return next(csv.reader([line], skipinitialspace=True))
            except csv.Error:
                return _Unusable("malformed", str(error))
        del lines[len(lines) - used :]
        return fields
    return _Unusable("malformed", "a quote is not closed")


def _tsv_rows(path):
    """Lines of Common Voice's tables."""
    names = {"wav": "path", "wrd": "sentence", "spk_id": "client_id"}
    for number, row in _table(path, "\t", ("path", "sentence")):
        if not isinstance(row, _Unusable):
            row = {key: row.get(name) for key, name in names.items()}
            row.update(names=names, places=["clips", ""])
        yield number, row


def _csv_rows(path):
    """Lines of SpeechBrain's tables."""
    folder = os.path.dirname(path)
    for number, row in _table(path, ",", ("ID", "wav", "wrd")):
        if not isinstance(row, _Unusable):
            row["names"] = {key: key for key in ("ID", "wav", "wrd")}
            if isinstance(row.get("wav"), str):
                row["wav"] = re.sub(
                    r"\$(data_root\b|\{data_root\})",
                    lambda _: folder,
                    row["wav"],
                )
            try:
                row["span"] = read_span(row.get("start"), row.get("stop"))
            except ValueError as error:
                row = _Unusable("malformed", str(error).partition(": ")[2])
        yield number, row


# LibriSpeech's layout


def list_layout(folder, depth=None):
    """Recordings and transcripts, by folder.

    Arguments
    ---------
    folder : str
        Where they are.
    depth : int, optional
        How many folders to go down at most.

    Returns
    -------
    list of (str, list of str)
        Folders and the sorted names of such files in them.
    """
    endings = AUDIO_ENDINGS + (TRANSCRIPT_ENDING,)
    listing = []
    for path, names in walk(folder, depth):
        names = [name for name in names if name.lower().endswith(endings)]
        if names:
            listing.append((path, names))
    return listing


def read_layout(folder, listing, skipped, depth=None, wordless=False):
    """The utterances of a folder, audio and transcripts matched.

    Arguments
    ---------
    folder : str
        E.g. a split of LibriSpeech.
    listing : list
        What `list_layout` returns; may be an iterator.
    skipped : Skipped
        Told of what cannot be used.
    depth : int, optional
        How deep chapters lie; elsewhere they are misplaced.
    wordless : bool
        Whether utterances without words are wanted, too.

    Returns
    -------
    list of Utterance
    """
    utterances = []
    for chapter, names in listing:
        parts = os.path.relpath(chapter, folder).split(os.sep)
        if parts == ["."]:
            parts = [os.path.basename(folder)]
        if depth is not None and len(parts) != depth:
            for name in names:
                skipped.add(
                    "misplaced",
                    os.path.join(chapter, name),
                    "not in SPLIT/SPEAKER/CHAPTER",
                )
            continue
        audio = _chapter_audio(chapter, names, skipped)
        texts = _chapter_texts(chapter, names, skipped)
        for name in sorted(audio.keys() - texts.keys()):
            skipped.add(
                "without transcript",
                audio[name],
                f"no line of a *{TRANSCRIPT_ENDING} beside it begins with "
                f"{name}",
            )
        for name, (text, where) in texts.items():
            if name not in audio:
                skipped.add(
                    "without audio", where, f"{name} has no .flac or .wav"
                )
            elif not text and not wordless:
                skipped.add("without words", where, f"{name} has no words")
            else:
                utterances.append(
                    Utterance(
                        name=name,
                        source=os.path.basename(folder),
                        spk_id=parts[-2] if len(parts) > 1 else parts[-1],
                        session="-".join(parts),
                        order=_natural(name),
                        wav=audio[name],
                        wrd=text,
                        where=where,
                        label=name,
                    )
                )
    return utterances


def _chapter_audio(chapter, names, skipped):
    """{utterance: path of its audio}."""
    audio = {}
    for ending in AUDIO_ENDINGS:
        for name in names:
            stem, found = os.path.splitext(name)
            if found.lower() != ending:
                continue
            stem = unicodedata.normalize("NFC", stem)
            path = os.path.join(chapter, name)
            if stem in audio:
                skipped.add(
                    "duplicate",
                    path,
                    f"{os.path.basename(audio[stem])} is taken",
                )
            else:
                audio[stem] = path
    return audio


def _chapter_texts(chapter, names, skipped):
    """{utterance: (normalised text, 'file:line')}."""
    texts = {}
    for name in names:
        if not name.lower().endswith(TRANSCRIPT_ENDING):
            continue
        path = os.path.join(chapter, name)
        try:
            lines = list(text_lines(path))
        except OSError as error:
            skipped.add("unreadable", path, error.strerror)
            continue
        for number, line in lines:
            where = f"{path}:{number}"
            if line is None:
                skipped.add(NOT_TEXT.args[0], where, NOT_TEXT.args[1])
                continue
            utterance, *text = line.split(None, 1) or [""]
            utterance = unicodedata.normalize("NFC", utterance)
            if not utterance:
                continue
            if utterance in texts:
                skipped.add("duplicate", where, f"{utterance} is there twice")
            else:
                texts[utterance] = (normalise_text("".join(text)), where)
    return texts


def _natural(name):
    """A sort key that puts 1-2-10 behind 1-2-9."""
    parts = re.split(r"([0-9]+)", name)
    return [int(p) if i % 2 else p for i, p in enumerate(parts)]
