#!/usr/bin/env python3
"""Writes manifests of speechocean762 (https://www.openslr.org/101).

Download and unpack it, then do the following:
> python recipes/SpeechOcean762/speechocean762_prepare.py FOLDER data/ocean
> python recipes/LibriSpeech/train.py hparams/lact_ctc.yaml \
    --train_manifest data/ocean/train.jsonl \
    --valid_manifest data/ocean/dev.jsonl \
    --test_manifest data/ocean/test.jsonl

What they hold says `speechbrain_lact.corpora.speechocean762`.

Authors
 * speechbrain_lact contributors 2026
"""

import argparse
import sys

from speechbrain_lact.corpora.speechocean762 import prepare_speechocean762


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="the unpacked corpus")
    parser.add_argument("manifest_folder", help="where the manifests go")
    arguments = vars(parser.parse_args())
    for path in prepare_speechocean762(**arguments).values():
        print(path)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"speechocean762_prepare.py: {error}")
