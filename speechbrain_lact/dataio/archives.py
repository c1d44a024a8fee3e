"""Archives of recordings: checked, then unpacked into one folder alone.

Authors
* speechbrain_lact contributors 2026
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from pathlib import PurePosixPath

# What an archive may hold, beyond so many times its size: bytes.
MOST, TIMES = 2**26, 4


class ArchiveError(ValueError):
    """An archive is not what it should be."""


def check_digest(path, expected):
    """Compares a file with its published checksum.

    Arguments
    ---------
    path : str or Path
        The file.
    expected : str
        `md5:` or `sha256:` and the digits.

    Raises
    ------
    ArchiveError
        If it is another file.

    Example
    -------
    >>> path = getfixture("tmpdir") / "file"
    >>> path.write(b"hello")
    >>> check_digest(path, "md5:5d41402abc4b2a76b9719d911017c592")
    """
    kind, _, digits = expected.partition(":")
    digest = hashlib.new(kind)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    if digest.hexdigest() != digits:
        raise ArchiveError(
            f"{path}: not the published file: its {kind} is "
            f"{digest.hexdigest()}, not {digits}"
        )


def unpack(path, folder):
    """Unpacks a .tar.gz of files and folders, and of nothing else.

    Arguments
    ---------
    path : str or Path
        The archive.
    folder : str or Path
        Where to.

    Raises
    ------
    ArchiveError
        If it is no such archive, or something in it would be written
        elsewhere, is a link or a device, or is much larger than the archive.
    """
    filtered = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    try:
        with gzip.open(path) as plain:
            limited = _Limited(plain, path)
            with tarfile.open(fileobj=limited, mode="r|") as tar:
                for member in tar:
                    _check_member(member, path)
                    tar.extract(member, folder, **filtered)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ArchiveError(f"{path}: no whole .tar.gz: {error}") from error


def _check_member(member, path):
    """Refuses what is neither a file nor a folder below the archive's own."""
    name = PurePosixPath(member.name)
    kinds = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        what = "would be written outside of its folder"
    elif member.type not in kinds or member.issparse():
        what = "is neither a file nor a folder"
    else:
        return
    raise ArchiveError(f"{path}: {member.name!r} {what}: it is not unpacked")


class _Limited:
    """A stream that ends with an error when an archive is a bomb."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.left = MOST + TIMES * os.path.getsize(path)

    def read(self, size):
        """Bytes."""
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ArchiveError(
                f"{self.path}: holds much more than its size allows: it is "
                f"not unpacked"
            )
        return data
