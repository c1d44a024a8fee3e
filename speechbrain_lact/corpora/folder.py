"""Builds the folder of a corpus, whole or not at all.

It is built in a sibling folder and renamed into place, so a build that is
killed leaves nothing that looks like a corpus.

Authors
 * speechbrain_lact contributors 2026
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: builds are then not kept apart
    fcntl = None

SETTINGS_FILE = "settings.json"


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
