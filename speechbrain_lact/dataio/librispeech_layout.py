"""Writes corpora laid out as LibriSpeech is, whole or not at all.

A corpus is ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac`` (16-bit FLAC
at 16 kHz), with ``SPEAKER-CHAPTER.trans.txt`` beside the audio and
``SPEAKERS.TXT`` at the top. It is built in a sibling folder and renamed into
place, so a build that is killed leaves nothing that looks like a corpus.

Authors
 * speechbrain_lact contributors 2026
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import soundfile

try:
    import fcntl
except ImportError:  # Windows: builds are then not kept apart
    fcntl = None

SAMPLE_RATE = 16000
SETTINGS_FILE = "settings.json"


def write_chapter(subset_folder, speaker, chapter, utterances):
    """Writes one chapter: its FLAC files and its transcript.

    Arguments
    ---------
    subset_folder : str or Path
        The folder of the subset, e.g. ``.../train-clean-100``.
    speaker : int or str
        The speaker's number.
    chapter : int or str
        The chapter's number.
    utterances : list of (str, numpy.ndarray)
        Words and samples of each utterance; samples at 16 kHz, float in
        [-1, 1].

    Returns
    -------
    float
        The length of the chapter in seconds.

    Raises
    ------
    ValueError
        If an utterance would clip, is empty, or is not finite.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     seconds = write_chapter(
    ...         folder, 101, 1000, [("two six", np.zeros(8000))]
    ...     )
    ...     [(key, words, wav)] = read_chapter(f"{folder}/101/1000")
    >>> seconds, key, words, wav.shape
    (0.5, '101-1000-0000', 'TWO SIX', (8000,))
    """
    folder = Path(subset_folder) / str(speaker) / str(chapter)
    # Not `parents=True`: a worker that outlived its killed parent must not
    # bring a removed folder back.
    for path in (*reversed(folder.parents[:2]), folder):
        path.mkdir(exist_ok=True)
    lines, samples = [], 0
    for index, (words, wav) in enumerate(utterances):
        key = f"{speaker}-{chapter}-{index:04d}"
        peak = np.abs(wav).max() if len(wav) else np.nan
        if not peak <= 1.0:
            raise ValueError(
                f"{key} cannot be written as 16-bit audio: the largest sample "
                f"is {peak} (allowed: a finite value up to 1.0)."
            )
        pcm = np.round(np.asarray(wav) * 32767).astype(np.int16)
        # Not straight into the file: soundfile waits for the disk each time.
        flac = io.BytesIO()
        soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        (folder / f"{key}.flac").write_bytes(flac.getbuffer())
        lines.append(f"{key} {words.upper()}\n")
        samples += len(pcm)
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return samples / SAMPLE_RATE


def read_chapter(folder):
    """Reads back what `write_chapter` wrote.

    Arguments
    ---------
    folder : str or Path
        The folder of the chapter.

    Returns
    -------
    list of (str, str, numpy.ndarray)
        Key, words and samples (float32) of each utterance, in order.
    """
    folder = Path(folder)
    utterances = []
    for line in next(folder.glob("*.trans.txt")).read_text().splitlines():
        key, words = line.split(" ", 1)
        wav, _ = soundfile.read(folder / f"{key}.flac", dtype="float32")
        utterances.append((key, words, wav))
    return utterances


def write_speakers(folder, speakers, title):
    """Writes ``SPEAKERS.TXT`` in LibriSpeech's format.

    Arguments
    ---------
    folder : str or Path
        The folder of the corpus.
    speakers : list of (int, str, str, float, str)
        Number, sex ("M" or "F"), subset, minutes, name or description.
    title : str
        What the corpus is, for the comment at the top; may have several lines.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = (101, "M", "dev-clean", 1.5, "jackson (US)")
    ...     write_speakers(folder, [row], "Three digits")
    ...     print((Path(folder) / "SPEAKERS.TXT").read_text())
    ; Three digits
    ;ID  |SEX| SUBSET           |MINUTES| NAME
    101  | M | dev-clean        |  1.50 | jackson (US)
    """
    lines = [f"; {line}\n" for line in title.splitlines()]
    lines.append(";ID  |SEX| SUBSET           |MINUTES| NAME\n")
    for number, sex, subset, minutes, name in speakers:
        lines.append(
            f"{number:<4} | {sex} | {subset:<16} | {minutes:5.2f} | {name}\n"
        )
    (Path(folder) / "SPEAKERS.TXT").write_text("".join(lines))


def source_hash(*files):
    """Hash of source files: a changed preparation makes another corpus.

    Arguments
    ---------
    *files : str or Path
        The files whose content counts.

    Returns
    -------
    str
        A hexadecimal digest.
    """
    digest = hashlib.sha256()
    for file in (__file__, *files):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def build_folder(folder, corpus, settings, build):
    """Builds a folder, whole or not at all, unless it is there already.

    The work is done in a sibling folder, renamed into place at the end.
    What a killed build left behind is removed by the next one. Builds next
    to each other wait for one another.

    Arguments
    ---------
    folder : str or Path
        The folder to make.
    corpus : str
        The name of the corpus.
    settings : dict
        Everything the content depends on, as JSON. Kept in `settings.json`.
    build : callable
        Called with the folder to fill.

    Returns
    -------
    bool
        True if it was built, False if it was there with equal settings.

    Raises
    ------
    FileExistsError
        If the folder holds anything that an earlier build of this corpus did
        not put there: nothing of others is ever deleted.

    Example
    -------
    >>> import tempfile
    >>> def build(folder):
    ...     _ = (folder / "hello.txt").write_text("hello")
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     a = build_folder(f"{parent}/x", "Hello", {"seed": 1}, build)
    ...     b = build_folder(f"{parent}/x", "Hello", {"seed": 1}, build)
    ...     c = build_folder(f"{parent}/x", "Hello", {"seed": 2}, build)
    >>> a, b, c
    (True, False, True)
    """
    # A link is followed, so that what it points to is replaced, not the link.
    folder = Path(os.path.realpath(folder))
    record = json.loads(json.dumps({"corpus": corpus, "settings": settings}))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent):
        if _is_current(folder, record):
            return False
        _refuse_foreign(folder, corpus)
        _remove_stale(folder)
        temporary = folder.parent / f".{folder.name}.building-{os.getpid()}"
        temporary.mkdir()
        try:
            build(temporary)
            record["contents"] = sorted(p.name for p in temporary.iterdir())
            text = json.dumps(record, indent=2) + "\n"
            (temporary / SETTINGS_FILE).write_text(text)
            _replace(folder, temporary)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return True


@contextlib.contextmanager
def _locked(folder):
    """Holds the folder's lock; the system frees it when a process dies."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_record(folder):
    """What `build_folder` recorded, or an empty dict."""
    try:
        record = json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_current(folder, record):
    """Whether the folder was built with these settings, nothing missing."""
    found = _read_record(folder)
    contents = found.pop("contents", None)
    return found == record and all((folder / p).exists() for p in contents)


def _refuse_foreign(folder, corpus):
    """Raises if replacing the folder would delete what is not ours."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise FileExistsError(f"{folder} exists and is not a folder.")
    found = _read_record(folder)
    ours = {SETTINGS_FILE, *found.get("contents", [])}
    if found.get("corpus") != corpus:
        ours = set()
    foreign = sorted(p.name for p in folder.iterdir() if p.name not in ours)
    if foreign:
        raise FileExistsError(
            f"{folder} holds files that are not of a {corpus} built earlier "
            f"({', '.join(foreign[:3])}), and would be deleted. Name another "
            "folder, or empty this one yourself."
        )


def _remove_stale(folder):
    """Removes what dead builds left; we hold the lock, so all are dead."""
    trash = folder.parent / f".{folder.name}.trash-{os.getpid()}"
    for kind in ("trash", "building", "replaced"):
        for stale in folder.parent.glob(f".{folder.name}.{kind}-*"):
            # Renamed first: a worker that has not noticed yet that its build
            # was killed can then put nothing more into it.
            os.rename(stale, trash)
            shutil.rmtree(trash)


def _replace(folder, temporary):
    """Puts a finished folder in the place of the old one."""
    if not folder.exists():
        os.rename(temporary, folder)
        return
    replaced = folder.parent / f".{folder.name}.replaced-{os.getpid()}"
    os.rename(folder, replaced)
    os.rename(temporary, folder)
    shutil.rmtree(replaced)
