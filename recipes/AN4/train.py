#!/usr/bin/env python3
"""Recipe for training a recogniser on CMU's AN4: recipes/LibriSpeech/train.py
with AN4's splits.

To run this recipe, do the following:
> python recipes/AN4/train.py hparams/lact_ctc.yaml --data_folder AN4_FOLDER

AN4_FOLDER is AN4 as it was published or laid out as LibriSpeech is; with
`--download True` it need not be there. All options are those of
recipes/LibriSpeech/train.py.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import os
import sys
from pathlib import Path

from speechbrain_lact.corpora.an4 import SPLITS, an4_splits

TRAIN = Path(__file__).resolve().parents[1] / "LibriSpeech" / "train.py"
KEYS = ("train_splits", "dev_splits", "test_splits")


def main(arguments):
    """Lays out the data where they are not, and trains on them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_folder", required=True)
    parser.add_argument("--layout_folder", default="data/AN4")
    parser.add_argument("--download", default="False")
    known, others = parser.parse_known_args(arguments)
    folder = an4_splits(
        known.data_folder,
        known.layout_folder,
        known.download.lower() in ("true", "1", "yes"),
    )
    splits = [f"--{key}=[{name}]" for key, name in zip(KEYS, SPLITS)]
    splits = [option for option in splits if not given(others, option)]
    command = [sys.executable, str(TRAIN), *others, f"--data_folder={folder}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *splits])  # signals reach it


def given(arguments, option):
    """Whether a user has set what an option sets."""
    name = option.split("=")[0]
    return any(a == name or a.startswith(name + "=") for a in arguments)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"train.py: {' '.join(str(error).split())}")
