#!/usr/bin/env python3
"""Lays out CMU's AN4 as LibriSpeech is.

To run it, do the following (with --download, AN4_FOLDER need not be there):
> python recipes/AN4/an4_prepare.py AN4_FOLDER DATA_FOLDER

What comes out says `speechbrain_lact.corpora.an4`.

Authors
 * speechbrain_lact contributors 2026
"""

import argparse
import sys

from speechbrain_lact.corpora.an4 import prepare_an4
from speechbrain_lact.corpora.download import download_an4


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("an4_folder", help="the folder of an4_sphere.tar.gz")
    parser.add_argument("data_folder", help="where to put the corpus")
    parser.add_argument(
        "--download", action="store_true", help="fetch it to an4_folder first"
    )
    arguments = parser.parse_args()
    if arguments.download:
        download_an4(arguments.an4_folder)
    built = prepare_an4(arguments.an4_folder, arguments.data_folder)
    print(arguments.data_folder, "made" if built else "is there already")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"an4_prepare.py: {error}")
