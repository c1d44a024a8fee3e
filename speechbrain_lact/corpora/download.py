"""Downloads LibriSpeech and mini LibriSpeech (http://www.openslr.org/12,
http://www.openslr.org/31), and CMU's AN4.

Authors
 * speechbrain_lact contributors 2026
"""

import contextlib
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
# The copy that NVIDIA keeps for NeMo: that of CMU is not always there.
AN4_URL = "https://dldata-public.s3.us-east-2.amazonaws.com"
AN4_CHECKSUM = (
    "sha256:a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
)
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

    with _staging(data_folder) as staging:
        for split in missing:
            url = MINI_URL if split in MINI_SPLITS else LIBRISPEECH_URL
            _download(
                f"{url}/{split}.tar.gz",
                CHECKSUMS[split],
                staging,
                os.path.join("LibriSpeech", split),
                "unpack the split there by hand (openslr.org/12; mini "
                "LibriSpeech: openslr.org/31)",
            )


def download_an4(folder):
    """Fetches AN4 as it was published, to `an4` in a folder, unless it is
    there. It appears there whole or not at all.

    Arguments
    ---------
    folder : str or Path
        Made if it is not there.

    Raises
    ------
    ConnectionError
        If it cannot be fetched or unpacked, or is another file.
    """
    folder = os.path.abspath(os.path.expanduser(folder))
    if os.path.isdir(os.path.join(folder, "an4")):
        return
    with _staging(folder) as staging:
        _download(
            f"{AN4_URL}/an4_sphere.tar.gz",
            AN4_CHECKSUM,
            staging,
            "an4",
            "unpack an4_sphere.tar.gz there by hand "
            "(www.speech.cs.cmu.edu/databases/an4)",
        )


@contextlib.contextmanager
def _staging(data_folder):
    """A folder for what is fetched, removed if all has come; reading from
    the network ends when nothing comes."""
    staging = os.path.join(data_folder, ".download")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        os.makedirs(staging, exist_ok=True)
        yield staging
    finally:
        socket.setdefaulttimeout(timeout)
    shutil.rmtree(staging)


def _download(url, checksum, staging, wanted, advice):
    """Fetches an archive, unpacks it in `staging`, and moves what is wanted
    of it beside that."""
    data_folder = os.path.dirname(staging)
    archive = os.path.join(staging, url.rpartition("/")[2])
    top, name = wanted.split(os.sep)[0], os.path.basename(wanted)
    shutil.rmtree(os.path.join(staging, top), ignore_errors=True)
    logger.info("Downloading %s to %s", name, data_folder)
    try:
        if not os.path.isfile(archive):
            part = archive + ".part"
            download_file(url, part, replace_existing=True)
            os.replace(part, archive)
        check_digest(archive, checksum)
        unpack(archive, staging)
        os.replace(
            os.path.join(staging, wanted), os.path.join(data_folder, name)
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
            f"Could not download {name!r} to {data_folder!r}: "
            f"{type(error).__name__}: {error}. Check the network and the free "
            f"space on the disk and start again, or {advice}."
        ) from None
