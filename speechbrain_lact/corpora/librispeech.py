"""SpeechBrain's CSV files from LibriSpeech, or from anything laid out as
LibriSpeech is. A session is one chapter read by one speaker.

Download: http://www.openslr.org/12 (LibriSpeech) and
http://www.openslr.org/31 (mini LibriSpeech)

Authors
 * speechbrain_lact contributors 2026
"""

import os

from speechbrain_lact.corpora.csv_files import (
    as_list,
    check_limits,
    csv_files_of,
    fingerprint,
    folder_content,
    progress,
    write_csv_files,
)
from speechbrain_lact.corpora.download import download_librispeech
from speechbrain_lact.dataio.manifests import list_layout, read_layout

DEPTH = 2  # of chapters below a split: SPEAKER/CHAPTER


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
    the utterances of a session that can be used. Where two training splits
    have a session of the same name, the later one's is prefixed with its
    split. Nothing is done where the CSV files were made from the same
    arguments and the same files.

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
    train, dev, test = map(as_list, (train_splits, dev_splits, test_splits))
    _check_split_names(train, dev, test)
    check_limits(min_duration, max_duration)
    plan = {"train": train} if train else {}
    plan.update({split: [split] for split in dev + test})
    csv_files = csv_files_of(save_folder, train, dev, test)
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
            progress(listings[split], f"Reading {split}", "chapters"),
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
    listing = {split: _listing_fingerprint(listings[split]) for split in splits}
    write_csv_files(plan, sources, save_folder, arguments, listing)
    return csv_files


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


def _check_folders(data_folder, splits):
    """Raises one error that says which folder is missing and what is there."""
    if not os.path.isdir(data_folder):
        parent = os.path.dirname(data_folder)
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        raise FileNotFoundError(
            f"There is no data folder at {data_folder!r} ({parent!r} holds: "
            f"{folder_content(parent)}). Set data_folder to the folder that "
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
        f"{folder_content(data_folder)}). {advice}"
    )


def _listing_fingerprint(listing):
    """Fingerprint of what `list_layout` returned."""
    return fingerprint(
        [os.path.join(path, name) for path, names in listing for name in names]
    )
