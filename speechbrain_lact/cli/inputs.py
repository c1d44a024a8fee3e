"""Recordings of a command: files, folders, pipes.

Authors
* speechbrain_lact contributors 2026
"""

import os
import sys
import tempfile
from pathlib import Path

from speechbrain_lact.cli.messages import complain
from speechbrain_lact.cli.options import UsageError
from speechbrain_lact.inference.transcripts import Recording
from speechbrain_lact.utils.console import STDIN

# Files of a folder that are named if they are no recordings.
MAX_NAMED = 5


def is_pipe(source):
    """Whether a recording can be read once only, as it comes.

    Arguments
    ---------
    source : str
        As `transcribe` takes it.

    Returns
    -------
    bool
        True for - and for the paths of pipes, such as those of bash's <(...).
    """
    return source == "-" or Path(source).is_fifo()


def standard_input(rate=None, source="-"):
    """Audio that is piped in.

    Arguments
    ---------
    rate : int, optional
        Of raw audio in Hz; that of the model if it is not given.
    source : str
        -, or the path of a pipe.

    Returns
    -------
    Incoming
        When the first bytes are there.
    """
    from speechbrain_lact.dataio.pipe import Incoming

    if source != "-":
        return Incoming(os.open(source, os.O_RDONLY), rate, source)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe audio into it")
    return Incoming(sys.stdin.fileno(), rate)


def keep(incoming, stack, sample_rate):
    """Standard input as a file, for as long as it is needed.

    Arguments
    ---------
    incoming : Incoming
        As of `standard_input`.
    stack : contextlib.ExitStack
        The file is removed when it is left.
    sample_rate : int
        Of raw audio, if that is not known.

    Returns
    -------
    str
        The file.
    """
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    try:
        return incoming.save(folder, sample_rate)
    # Of libsndfile: the disk is full.
    except RuntimeError as error:
        raise OSError(
            f"{STDIN}: cannot be kept in {Path(folder).parent}: {error}"
        ) from error


def shown(source):
    """What a recording is called in messages and results.

    Arguments
    ---------
    source : str
        As `transcribe` takes it.

    Returns
    -------
    str

    Example
    -------
    >>> shown("-"), shown("a.wav")
    ('standard input', 'a.wav')
    """
    return STDIN if source == "-" else source


def named(error, path, source):
    """A message that names a pipe, not what it is kept in.

    Arguments
    ---------
    error : Exception or str
        The message.
    path : str
        The file that a pipe is kept in.
    source : str
        As `transcribe` takes it.

    Returns
    -------
    Exception or str
    """
    return str(error).replace(path, shown(source)) if is_pipe(source) else error


def list_recordings(source):
    """What `transcribe` has to do. What is left out of a folder is said.

    Arguments
    ---------
    source : str
        A file, a folder, or - for standard input.

    Returns
    -------
    list of Recording
    """
    if is_pipe(source):
        return [Recording(source, source)]
    if not os.path.lexists(source):
        raise ValueError(f"{source}: no such file or folder")
    if not os.path.isdir(source):
        return [Recording(source, source)]
    from speechbrain_lact.dataio.manifests import (
        AUDIO_ENDINGS,
        TEXT_ENDINGS,
        walk,
    )

    paths, left = [], []
    for folder, names in walk(source):
        for name in names:
            path, kind = os.path.join(folder, name), Path(name).suffix.lower()
            if kind in AUDIO_ENDINGS or _is_audio(path):
                paths.append(path)
            elif kind not in TEXT_ENDINGS:
                left.append(os.path.relpath(path, source))
    if left:
        names = ", ".join(left[:MAX_NAMED]) + ", ..." * (len(left) > MAX_NAMED)
        complain(f"{source}: left out, no recordings: {len(left)} ({names})")
    if not paths:
        raise ValueError(f"{source}: no recordings in this folder")
    return [Recording(path, path) for path in sorted(paths)]


def _is_audio(path):
    """Whether a file of another ending holds audio."""
    from speechbrain_lact.dataio.decode import open_audio

    try:
        open_audio(path)
    except ValueError:
        return False
    return True
