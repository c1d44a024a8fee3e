#!/usr/bin/env python3
"""Lays out the Free Spoken Digit Dataset as LibriSpeech is.

Clone it first, then do the following:
> python recipes/FSDD/fsdd_prepare.py FSDD_FOLDER DATA_FOLDER

What comes out says `speechbrain_lact.corpora.fsdd`.

Authors
 * speechbrain_lact contributors 2026
"""

import argparse

from speechbrain_lact.corpora.fsdd import prepare_fsdd


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fsdd_folder", help="the cloned dataset")
    parser.add_argument("data_folder", help="where to put the corpus")
    parser.add_argument("--seed", type=int, default=2026)
    arguments = vars(parser.parse_args())
    built = prepare_fsdd(**arguments)
    print(arguments["data_folder"], "made" if built else "is there already")


if __name__ == "__main__":
    main()
