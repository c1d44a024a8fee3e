"""Downloads LibriSpeech and mini LibriSpeech: http://www.openslr.org/12 and
http://www.openslr.org/31.

Authors
 * speechbrain_lact contributors 2026
"""

import http.client
import os
import shutil
import socket

from speechbrain.utils.data_utils import download_file
from speechbrain.utils.logger import get_logger
from speechbrain_lact.corpora.csv_files import as_list
from speechbrain_lact.dataio.archives import ArchiveError, check_digest, unpack

logger = get_logger(__name__)


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
        for split in dict.fromkeys(as_list(splits))
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
