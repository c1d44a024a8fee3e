"""Data preparation: SpeechBrain CSV files from LibriSpeech, from anything laid
out as LibriSpeech is, or from manifests (JSON lines, Common Voice's TSV,
SpeechBrain's CSV). What is in them is read by
`speechbrain_lact.dataio.manifests`.

Every utterance knows its session (in LibriSpeech: one chapter read by one
speaker) and its position there, so that a recipe can carry a state from one
utterance to the next.

A file that cannot be used is reported on one line, skipped and counted. A
split of which nothing is left is an error.

Download: http://www.openslr.org/12 (LibriSpeech) and
http://www.openslr.org/31 (mini LibriSpeech)

Authors
 * speechbrain_lact contributors 2026
"""

import csv
import dataclasses
import http.client
import json
import os
import shutil
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from speechbrain.utils.data_utils import download_file
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.archives import ArchiveError, check_digest, unpack
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.dataio.manifests import (
    CSV_VARIABLE,
    OPTIONAL_COLUMNS,
    Skipped,
    list_layout,
    normalise_text,  # noqa: F401
    read_layout,
    read_manifest,
)

logger = get_logger(__name__)

SAMPLE_RATE = 16000
COLUMNS = ["ID", "duration", "wav", "spk_id", "session", "position", "wrd"]
OF_THE_LINE = ("malformed", "beyond the end")  # faults not of the file
DEPTH = 2  # of chapters below a split: SPEAKER/CHAPTER

RECORD_FILE = "librispeech_prepare.json"
RECORD_VERSION = 2  # raise it when the same input gives other CSV files

LIBRISPEECH_SPLITS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
LIBRISPEECH_URL = "https://www.openslr.org/resources/12"
MINI_SPLITS = ("train-clean-5", "dev-clean-2")
MINI_URL = "https://www.openslr.org/resources/31"
# LibriSpeech: as in torchaudio; mini LibriSpeech: as openslr.org has published
CHECKSUMS = {
    "dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e"
    "0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e13519"
    "3bfb1811584f11f569dd12645aa84365",
    "test-clean": "sha256:39fde525e59672dc6d1551919b1478f7"
    "24438a95aa55f874b576be21967e6c23",
    "test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11"
    "a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43"
    "278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "sha256:146a56496217e96c14334a160df97fff"
    "edd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "sha256:ddb22f27f96ec163645d53215559df6a"
    "a36515f26e01dd70798188350adcb6d2",
    "train-clean-5": "md5:5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "md5:6d7ab67ac6a1d2c993d050e16d61080d",
}
DOWNLOAD_TIMEOUT = 60.0  # seconds without a byte


def prepare_librispeech(
    data_folder,
    train_splits,
    dev_splits,
    test_splits,
    save_folder,
    min_duration=0.1,
    max_duration=120.0,
    skip_prep=False,
    download=None,
):
    """Prepares the CSV files of a corpus laid out as LibriSpeech is:
    `SPLIT/SPEAKER/CHAPTER/` with recordings (.flac, .wav and what else
    `AudioFile` reads, of any rate and number of channels) and `*.trans.txt`
    files of lines `UTTERANCE WORDS ...`.

    The training splits are merged in `train.csv`; each other split gets a file
    of its name. Lines are sorted by session and position, and positions count
    the utterances of a session that can be used. Where two training splits have a session of the same name, the
    later one's is prefixed with its split. Nothing is done where the CSV files
    were made from the same arguments and the same files.

    Arguments
    ---------
    data_folder : str
        The folder with the splits.
    train_splits : list
        Names of the training splits, e.g. ['train-clean-100'].
    dev_splits : list
        Names of the validation splits.
    test_splits : list
        Names of the test splits.
    save_folder : str
        Where the CSV files go.
    min_duration : float
        Shorter utterances are skipped (seconds).
    max_duration : float
        Longer utterances are skipped (seconds).
    skip_prep : bool
        If True, nothing is read or written: only the paths are returned.
    download : bool, optional
        If True, splits that are not there are fetched first
        (see `download_librispeech`).

    Returns
    -------
    csv_files : dict
        Paths of the CSV files: `train` (str, None without training splits),
        `valid` and `test` (lists of str, in the order of the splits).

    Raises
    ------
    FileNotFoundError
        If the folder or a split is missing.
    ValueError
        If an argument is wrong, or nothing in a split can be used.

    Example
    -------
    >>> files = prepare_librispeech(
    ...     "datasets/LibriSpeech",
    ...     train_splits=["train-clean-100", "train-clean-360"],
    ...     dev_splits=["dev-clean"],
    ...     test_splits=["test-clean", "test-other"],
    ...     save_folder="results",
    ...     skip_prep=True,
    ... )
    >>> [os.path.basename(path) for path in files["test"]]
    ['test-clean.csv', 'test-other.csv']
    """
    train, dev, test = map(_as_list, (train_splits, dev_splits, test_splits))
    _check_split_names(train, dev, test)
    _check_limits(min_duration, max_duration)
    plan = {"train": train} if train else {}
    plan.update({split: [split] for split in dev + test})
    csv_files = _csv_files(save_folder, train, dev, test)
    if skip_prep:
        return csv_files

    splits = list(dict.fromkeys(train + dev + test))
    data_folder = os.path.abspath(os.path.expanduser(data_folder))
    if download:
        download_librispeech(data_folder, splits)
    _check_folders(data_folder, splits)

    listings = {
        split: list_layout(os.path.join(data_folder, split), DEPTH)
        for split in splits
    }
    sources = {
        split: lambda skipped, split=split: read_layout(
            os.path.join(data_folder, split),
            _progress(listings[split], f"Reading {split}", "chapters"),
            skipped,
            DEPTH,
        )
        for split in splits
    }
    arguments = {
        "data_folder": data_folder,
        "plan": plan,
        "min_duration": min_duration,
        "max_duration": max_duration,
    }
    listing = {split: _fingerprint(listings[split]) for split in splits}
    _prepare(plan, sources, save_folder, arguments, listing)
    return csv_files


def prepare_manifests(
    train_manifest,
    valid_manifest,
    test_manifest,
    save_folder,
    min_duration=0.1,
    max_duration=120.0,
    skip_prep=False,
):
    """Prepares the same CSV files from manifests: JSON lines (one object a
    line), Common Voice's `.tsv` or SpeechBrain's `.csv` (see
    `speechbrain_lact.dataio.manifests.read_manifest`). In JSON lines:

    - `audio_filepath`: absolute, or relative to the manifest;
    - `text`: the words;
    - `offset`, `duration`: seconds, where the utterance is a part of the file;
    - `speaker`, `session`, `domain`, `snr`: optional.

    Where a line names a part of a file, the CSV file has `start` and `stop`:
    samples of the file, empty for whole ones.

    Utterances of a session follow each other in the order of the lines.
    Without a session it is the speaker; without a speaker either, every
    utterance is a session of its own. `domain` and `snr` become columns if a
    line of the manifest has them.

    The training manifests are merged in `train.csv`; each other one gets a
    file of its name, preceded by its folder's where two have the same name.

    Arguments
    ---------
    train_manifest : str or list
        Manifest (or manifests) for training.
    valid_manifest : str or list
        Manifest (or manifests) for validation.
    test_manifest : str or list
        Manifest (or manifests) for testing.
    save_folder : str
        Where the CSV files go.
    min_duration : float
        Shorter utterances are skipped (seconds).
    max_duration : float
        Longer utterances are skipped (seconds).
    skip_prep : bool
        If True, nothing is read or written: only the paths are returned.

    Returns
    -------
    csv_files : dict
        As of `prepare_librispeech`.

    Raises
    ------
    FileNotFoundError
        If a manifest is missing.
    ValueError
        If no manifest is given, or nothing in one can be used.

    Example
    -------
    >>> files = prepare_manifests(
    ...     "train.jsonl",
    ...     "valid.jsonl",
    ...     ["clean/test.jsonl", "noisy/test.jsonl"],
    ...     save_folder="results",
    ...     skip_prep=True,
    ... )
    >>> [os.path.basename(path) for path in files["test"]]
    ['test.csv', 'noisy-test.csv']
    """
    train, valid, test = (
        [os.path.abspath(os.path.expanduser(path)) for path in _as_list(given)]
        for given in (train_manifest, valid_manifest, test_manifest)
    )
    if not train + valid + test:
        raise ValueError(
            "No manifest is given: set train_manifest, valid_manifest or "
            "test_manifest to a file of JSON lines."
        )
    _check_limits(min_duration, max_duration)
    names = _manifest_names(valid + test)
    plan = {"train": train} if train else {}
    plan.update({names[path]: [path] for path in valid + test})
    csv_files = _csv_files(
        save_folder,
        train,
        *([names[p] for p in part] for part in (valid, test)),
    )
    if skip_prep:
        return csv_files

    manifests = list(dict.fromkeys(train + valid + test))
    _check_manifests(manifests)
    labels = _manifest_names(manifests)
    contents, sources = {}, {}
    for path in manifests:
        found = Skipped(report=lambda _: None)
        contents[path] = read_manifest(path, found, labels[path])

        def read(skipped, path=path, found=found):
            """What was read, and what was skipped."""
            for item in found.added:
                skipped.add(*item)
            return contents[path]

        sources[path] = read
    arguments = {
        "plan": plan,
        "min_duration": min_duration,
        "max_duration": max_duration,
    }
    listing = {
        path: _fingerprint_of(
            dict.fromkeys([path, *(u.wav for u in contents[path])])
        )
        for path in manifests
    }
    _prepare(plan, sources, save_folder, arguments, listing)
    return csv_files


def download_librispeech(data_folder, splits):
    """Fetches splits of LibriSpeech or mini LibriSpeech (`train-clean-5`,
    `dev-clean-2`) that are not in the folder yet, and compares them with their
    published checksums. A split appears there whole or not at all.

    Arguments
    ---------
    data_folder : str
        Where the splits go; made if it is not there.
    splits : list
        Names of the splits.

    Raises
    ------
    ValueError
        If a split is neither there nor one of the two corpora's.
    ConnectionError
        If a split cannot be fetched or unpacked, or is another file.

    Example
    -------
    >>> download_librispeech("datasets", ["train-clean-7"])
    Traceback (most recent call last):
    ...
    ValueError: Cannot download the split 'train-clean-7': known are ...
    """
    data_folder = os.path.abspath(os.path.expanduser(data_folder))
    missing = [
        split
        for split in dict.fromkeys(_as_list(splits))
        if not os.path.isdir(os.path.join(data_folder, split))
    ]
    known = LIBRISPEECH_SPLITS + MINI_SPLITS
    for split in missing:
        if split not in known:
            raise ValueError(
                f"Cannot download the split {split!r}: known are "
                f"{', '.join(known)}."
            )
    if not missing:
        return

    staging = os.path.join(data_folder, ".download")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        os.makedirs(staging, exist_ok=True)
        for split in missing:
            _download_split(split, staging, data_folder)
    finally:
        socket.setdefaulttimeout(timeout)
    shutil.rmtree(staging)


def _download_split(split, staging, data_folder):
    """Fetches and unpacks one split in `staging`, then moves it in place."""
    archive = os.path.join(staging, split + ".tar.gz")
    unpacked = os.path.join(staging, "LibriSpeech")
    shutil.rmtree(unpacked, ignore_errors=True)  # of a killed run
    logger.info("Downloading %s to %s", split, data_folder)
    try:
        if not os.path.isfile(archive):
            part = archive + ".part"
            url = MINI_URL if split in MINI_SPLITS else LIBRISPEECH_URL
            url = f"{url}/{split}.tar.gz"
            download_file(url, part, replace_existing=True)
            os.replace(part, archive)
        check_digest(archive, CHECKSUMS[split])
        unpack(archive, staging)
        os.replace(
            os.path.join(unpacked, split), os.path.join(data_folder, split)
        )
        os.remove(archive)
    except (
        OSError,
        RuntimeError,
        http.client.HTTPException,
        ArchiveError,
    ) as error:
        if isinstance(error, ArchiveError):
            os.remove(archive)  # the next run fetches it again
        raise ConnectionError(
            f"Could not download the split {split!r} to {data_folder!r}: "
            f"{type(error).__name__}: {error}. Check the network and the free "
            "space on the disk and start again, or unpack the split there by "
            "hand (openslr.org/12; mini LibriSpeech: openslr.org/31)."
        ) from None


# Arguments


def _as_list(value):
    """None, one name or several: always a list, each name once."""
    if value is None:
        return []
    if isinstance(value, (str, os.PathLike)):
        value = [value]
    return list(dict.fromkeys(str(item) for item in value))


def _check_limits(min_duration, max_duration):
    """Limits of the duration in seconds."""
    if not 0 <= min_duration < max_duration:
        raise ValueError(
            "min_duration and max_duration must be seconds with 0 <= "
            f"min_duration < max_duration, not {min_duration} and "
            f"{max_duration}."
        )


def _check_split_names(train, dev, test):
    """A split's name is a folder's and a CSV file's; `train` is taken."""
    if not train + dev + test:
        raise ValueError(
            "No split is given: name at least one in train_splits, "
            "dev_splits or test_splits."
        )
    for split in train + dev + test:
        if os.path.basename(split) != split or split in ("", ".", ".."):
            raise ValueError(
                f"The split {split!r} is not the name of a folder in "
                "data_folder (a plain name, e.g. 'dev-clean')."
            )
    if train and "train" in dev + test:
        raise ValueError(
            "A dev or test split cannot be called 'train' beside training "
            "splits: those are merged in train.csv. Rename its folder."
        )


def _csv_files(save_folder, train, valid, test):
    """What the `prepare_*` functions return."""

    def path(name):
        return os.path.join(save_folder, name + ".csv")

    return {
        "train": path("train") if train else None,
        "valid": [path(name) for name in valid],
        "test": [path(name) for name in test],
    }


def _manifest_names(paths):
    """A CSV name for each manifest that is not for training."""
    names = {}
    for path in dict.fromkeys(paths):
        folder, file_name = os.path.split(path)
        stem = os.path.splitext(file_name)[0]
        wanted = [stem, f"{os.path.basename(folder)}-{stem}"]
        names[path] = _first_free(wanted, {"train", *names.values()})
    return names


def _first_free(names, taken):
    """The first name not taken, the last one numbered if all are."""
    for name in names:
        if name not in taken:
            return name
    number = 2
    while f"{names[-1]}-{number}" in taken:
        number += 1
    return f"{names[-1]}-{number}"


def _folder_content(folder, at_most=12):
    """The first entries of a folder, to be named in a message."""
    try:
        names = sorted(n for n in os.listdir(folder) if n[0] != ".")
    except OSError as error:
        return f"not readable: {error.strerror}"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return (", ".join(names[:at_most]) + more) or "nothing"


def _check_folders(data_folder, splits):
    """Raises one error that says which folder is missing and what is there."""
    if not os.path.isdir(data_folder):
        parent = os.path.dirname(data_folder)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        raise FileNotFoundError(
            f"There is no data folder at {data_folder!r} ({parent!r} holds: "
            f"{_folder_content(parent)}). Set data_folder to the folder that "
            f"holds {', '.join(splits)}, or download LibriSpeech (download: "
            "True)."
        )
    missing = [
        split
        for split in splits
        if not os.path.isdir(os.path.join(data_folder, split))
    ]
    if not missing:
        return
    inner = os.path.join(data_folder, "LibriSpeech")
    if all(os.path.isdir(os.path.join(inner, split)) for split in splits):
        advice = f"Set data_folder to {inner!r}, which has them."
    else:
        advice = (
            "Name splits that are there (train_splits, dev_splits, "
            "test_splits), or download those of LibriSpeech (download: True)."
        )
    raise FileNotFoundError(
        f"The data folder {data_folder!r} has no split "
        f"{', '.join(map(repr, missing))} (it holds: "
        f"{_folder_content(data_folder)}). {advice}"
    )


def _check_manifests(paths):
    """Raises one error that names the missing manifests."""
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        folder = os.path.dirname(missing[0])
        raise FileNotFoundError(
            f"There is no manifest at {', '.join(map(repr, missing))} "
            f"({folder!r} holds: {_folder_content(folder)}). Set "
            "train_manifest, valid_manifest and test_manifest to files of "
            "JSON lines."
        )


# From utterances to CSV files


def _prepare(plan, sources, save_folder, arguments, listing):
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
            checks = _progress(
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
        name = _first_free([u.name, f"{u.session}-{u.name}"], names)
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


def _fingerprint(listing):
    """Fingerprint of what `list_layout` returned."""
    return _fingerprint_of(
        [os.path.join(path, name) for path, names in listing for name in names]
    )


def _fingerprint_of(paths):
    """A cheap mark of a set of files: how many, how large, how new."""
    count = size = newest = 0
    for path in _progress(paths, "Looking at the files", "files"):
        count += 1
        try:
            stat = os.stat(path)
        except OSError:
            continue
        size += stat.st_size
        newest = max(newest, stat.st_mtime_ns)
    return {"files": count, "bytes": size, "newest": newest}


def _progress(iterable, what, unit, total=None):
    """A progress bar that shows itself when the work takes a while."""
    return tqdm(
        iterable,
        desc=what,
        total=total,
        unit=f" {unit}",
        delay=2,
        mininterval=1,
        leave=False,
    )
