"""SpeechBrain's CSV files from manifests: JSON lines, Common Voice's TSV,
SpeechBrain's CSV. What is in them is read by
`speechbrain_lact.dataio.manifests`.

Authors
 * speechbrain_lact contributors 2026
"""

import os

from speechbrain_lact.corpora.csv_files import (
    as_list,
    check_limits,
    csv_files_of,
    fingerprint,
    first_free,
    folder_content,
    write_csv_files,
)
from speechbrain_lact.dataio.manifests import Skipped, read_manifest


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
        [os.path.abspath(os.path.expanduser(path)) for path in as_list(given)]
        for given in (train_manifest, valid_manifest, test_manifest)
    )
    if not train + valid + test:
        raise ValueError(
            "No manifest is given: set train_manifest, valid_manifest or "
            "test_manifest to a file of JSON lines."
        )
    check_limits(min_duration, max_duration)
    names = _manifest_names(valid + test)
    plan = {"train": train} if train else {}
    plan.update({names[path]: [path] for path in valid + test})
    csv_files = csv_files_of(
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
        path: fingerprint(
            dict.fromkeys([path, *(u.wav for u in contents[path])])
        )
        for path in manifests
    }
    write_csv_files(plan, sources, save_folder, arguments, listing)
    return csv_files


def _manifest_names(paths):
    """A CSV name for each manifest that is not for training."""
    names = {}
    for path in dict.fromkeys(paths):
        folder, file_name = os.path.split(path)
        stem = os.path.splitext(file_name)[0]
        wanted = [stem, f"{os.path.basename(folder)}-{stem}"]
        names[path] = first_free(wanted, {"train", *names.values()})
    return names


def _check_manifests(paths):
    """Raises one error that names the missing manifests."""
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        folder = os.path.dirname(missing[0])
        raise FileNotFoundError(
            f"There is no manifest at {', '.join(map(repr, missing))} "
            f"({folder!r} holds: {folder_content(folder)}). Set "
            "train_manifest, valid_manifest and test_manifest to files of "
            "JSON lines."
        )
