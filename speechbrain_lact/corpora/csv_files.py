"""Writes SpeechBrain's CSV files of what was read of a corpus.

Every utterance knows its session and its position there, so that a recipe can
carry a state from one utterance to the next.

A file that cannot be used is reported on one line, skipped and counted. A
source of which nothing is left is an error.

Authors
 * speechbrain_lact contributors 2026
"""

import csv
import dataclasses
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.dataio.manifests import (
    CSV_VARIABLE,
    OPTIONAL_COLUMNS,
    Skipped,
)

logger = get_logger(__name__)


SAMPLE_RATE = 16000
COLUMNS = ["ID", "duration", "wav", "spk_id", "session", "position", "wrd"]
OF_THE_LINE = ("malformed", "beyond the end")  # faults not of the file


RECORD_FILE = "librispeech_prepare.json"
RECORD_VERSION = 2  # raise it when the same input gives other CSV files


def as_list(value):
    """None, one name or several, as a list in which each stands once.

    Arguments
    ---------
    value : str, path, list of them or None
        What a user gave.

    Returns
    -------
    list of str

    Example
    -------
    >>> as_list(None), as_list("a"), as_list(["a", "b", "a"])
    ([], ['a'], ['a', 'b'])
    """
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike)):
        value = [value]
    return list(dict.fromkeys(str(item) for item in value))


def check_limits(min_duration, max_duration):
    """Checks the limits of an utterance's duration.

    Arguments
    ---------
    min_duration, max_duration : float
        Seconds.

    Raises
    ------
    ValueError
        If they are not 0 <= min_duration < max_duration.
    """
    if not 0 <= min_duration < max_duration:
        raise ValueError(
            "min_duration and max_duration must be seconds with 0 <= "
            f"min_duration < max_duration, not {min_duration} and "
            f"{max_duration}."
        )


def csv_files_of(save_folder, train, valid, test):
    """Paths of the CSV files, as the `prepare_*` functions return them.

    Arguments
    ---------
    save_folder : str
        Where they are.
    train : list
        Sources for training: all go into one file.
    valid, test : list of str
        Names of the other files.

    Returns
    -------
    dict
        `train` (str or None), `valid` and `test` (lists of str).
    """

    def path(name):
        return os.path.join(save_folder, name + ".csv")

    return {
        "train": path("train") if train else None,
        "valid": [path(name) for name in valid],
        "test": [path(name) for name in test],
    }


def first_free(names, taken):
    """The first name that is not taken, or the last one with a number.

    Arguments
    ---------
    names : list of str
        Names that are wanted, the best one first.
    taken : container of str
        Names that are not free.

    Returns
    -------
    str

    Example
    -------
    >>> first_free(["a", "b"], {"a"}), first_free(["a"], {"a"})
    ('b', 'a-2')
    """
    for name in names:
        if name not in taken:
            return name
    number = 2
    while f"{names[-1]}-{number}" in taken:
        number += 1
    return f"{names[-1]}-{number}"


def folder_content(folder, at_most=12):
    """The first entries of a folder, to be named in a message.

    Arguments
    ---------
    folder : str
        A folder that may not be readable.
    at_most : int
        How many are named.

    Returns
    -------
    str
    """
    try:
        names = sorted(n for n in os.listdir(folder) if n[0] != ".")
    except OSError as error:
        return f"not readable: {error.strerror}"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) + more) or "nothing"


def write_csv_files(plan, sources, save_folder, arguments, listing):
    """Makes the CSV files, unless they were made from the same before.

    Arguments
    ---------
    plan : dict
        For each CSV file (without `.csv`) the sources that go in.
    sources : dict
        For each source a function that takes a `Skipped` and returns its
        utterances.
    save_folder : str
        Where the CSV files go.
    arguments : dict
        What the user asked for (JSON).
    listing : dict
        Fingerprint of the files of each source (JSON).
    """
    record = {
        "version": RECORD_VERSION,
        "arguments": arguments,
        "listing": listing,
    }
    record_file = os.path.join(save_folder, RECORD_FILE)
    old = _read_record(record_file)
    paths = {name: os.path.join(save_folder, name + ".csv") for name in plan}
    if {key: old.get(key) for key in record} == record and all(
        map(os.path.isfile, paths.values())
    ):
        for name, summary in old["summary"].items():
            logger.info("%s.csv is up to date: %s", name, summary)
        return

    limits = arguments["min_duration"], arguments["max_duration"]
    read = {}  # a source can go into two files
    tables, record["summary"] = {}, {}
    for name, parts in plan.items():
        total = Skipped()
        utterances = []
        for part in parts:
            if part not in read:
                read[part] = _usable(part, sources[part], limits)
            good, skipped = read[part]
            utterances += [dataclasses.replace(u) for u in good]
            total.added += skipped.added
        tables[name] = _rows(utterances)
        hours = sum(u.duration for u in utterances) / 3600
        summary = f"{len(utterances)} utterances ({hours:.2f} h), {total}"
        record["summary"][name] = summary

    os.makedirs(save_folder, exist_ok=True)
    if os.path.exists(record_file):
        os.remove(record_file)  # a kill from here on: made anew the next time
    for name, rows in tables.items():
        _write(paths[name], lambda f, rows=rows: csv.writer(f).writerows(rows))
        logger.info("%s.csv: %s", name, record["summary"][name])
    _write(record_file, lambda file: json.dump(record, file, indent=1))


def _read_record(path):
    """What is known of the CSV files there: {} if nothing."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _usable(name, read, limits):
    """The utterances of a source that can be used, and what was skipped."""
    skipped = Skipped(lambda line: logger.warning("Skipped %s", line))
    utterances = read(skipped)
    good = []
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        try:
            checks = pool.map(lambda u: _check(u, *limits), utterances)
            checks = progress(
                checks, f"Headers of {name}", "files", len(utterances)
            )
            for problem, utterance in zip(checks, utterances):
                if problem is None:
                    good.append(utterance)
                else:
                    kind, why = problem
                    place = "where" if kind in OF_THE_LINE else "wav"
                    place = _printable(getattr(utterance, place))
                    skipped.add(kind, place, why)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if not good:
        raise ValueError(
            f"Nothing in {name!r} can be used: {skipped}. Expected are "
            "recordings with their words, in SPLIT/SPEAKER/CHAPTER beside a "
            "*.trans.txt or named by the lines of a manifest."
        )
    return good, skipped


def _check(utterance, min_duration, max_duration):
    """Reads the header, sets the duration, returns None or (kind, why)."""
    u = utterance
    try:
        audio = AudioFile(u.wav, SAMPLE_RATE, u.start, u.stop, u.unit)
    except ValueError as error:
        why = str(error).removeprefix(f"{u.wav}: ")
        return _kind(u.wav, why), why
    u.duration, u.unit = audio.seconds, "samples"
    u.start, u.stop = audio.start, None if audio.whole else audio.stop
    if utterance.duration < min_duration:
        return (
            "too short",
            f"{utterance.duration:g} s, min_duration is {min_duration:g} s",
        )
    if utterance.duration > max_duration:
        return (
            "too long",
            f"{utterance.duration:g} s, max_duration is {max_duration:g} s",
        )
    return _unwritable(utterance)


def _kind(path, why):
    """Under what an unreadable file is counted."""
    try:
        empty = not os.path.getsize(path)
    except (OSError, ValueError):
        return "unreadable"
    if empty or why == "no samples":
        return "empty"
    if "no part from" in why:
        return "beyond the end"
    return "too short" if "are needed" in why else "corrupt"


def _unwritable(utterance):
    """What a CSV file that SpeechBrain can read cannot hold."""
    u = utterance
    values = {"wav": u.wav, "spk_id": u.spk_id, "session": u.session}
    for key, value in {**values, "wrd": u.wrd, **u.extra}.items():
        if "\0" in value:
            return "malformed", f"a zero byte in {key}"
        if CSV_VARIABLE.search(value):
            return "malformed", f"a dollar sign in {key}"
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return "malformed", f"characters in {key} that are not UTF-8"
    return None


def _printable(path):
    """A path as text, whatever bytes are in it."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _rows(utterances):
    """The lines of a CSV file, header first."""
    owner, names = {}, {}
    for u in utterances:
        # Two merged splits may use the same name for different sessions.
        if owner.setdefault(u.session, u.source) != u.source:
            u.session = f"{u.source}-{u.session}"
            owner[u.session] = u.source
        name = first_free([u.name, f"{u.session}-{u.name}"], names)
        names[name] = u

    present = {column for u in utterances for column in u.extra}
    extra = [column for column in OPTIONAL_COLUMNS if column in present]
    position = Counter()
    parts = any(u.stop is not None for u in utterances)
    rows = [COLUMNS + extra + ["start", "stop"] * parts]
    for name, u in sorted(
        names.items(), key=lambda item: (item[1].session, item[1].order)
    ):
        rows.append(
            [name, f"{u.duration:.6f}", u.wav, u.spk_id, u.session]
            + [position[u.session], u.wrd]
            + [u.extra.get(column, "") for column in extra]
            + ["" if u.stop is None else x for x in (u.start, u.stop)] * parts
        )
        position[u.session] += 1
    return rows


def _write(path, write):
    """Writes a file whole or not at all."""
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "w", newline="", encoding="utf-8") as file:
            write(file)
        os.replace(part, path)
    except OSError as error:
        raise OSError(
            error.errno, f"Cannot write: {error.strerror}", path
        ) from None
    finally:
        if os.path.exists(part):
            os.remove(part)


def fingerprint(paths):
    """A cheap mark of a set of files: how many, how large, how new.

    Arguments
    ---------
    paths : iterable of str
        The files; those that are not there count as empty.

    Returns
    -------
    dict of str to int
        `files`, `bytes` and `newest` (ns), as JSON.
    """
    count = size = newest = 0
    for path in progress(paths, "Looking at the files", "files"):
        count += 1
        try:
            stat = os.stat(path)
        except OSError:
            continue
        size += stat.st_size
        newest = max(newest, stat.st_mtime_ns)
    return {"files": count, "bytes": size, "newest": newest}


def progress(iterable, what, unit, total=None):
    """A progress bar that shows itself when the work takes a while.

    Arguments
    ---------
    iterable : iterable
        What is worked on.
    what, unit : str
        What is done, with how many of what.
    total : int, optional
        How many there are.

    Returns
    -------
    iterable
    """
    return tqdm(
        iterable,
        desc=what,
        total=total,
        unit=f" {unit}",
        delay=2,
        mininterval=1,
        leave=False,
    )
