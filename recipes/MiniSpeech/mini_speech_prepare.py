#!/usr/bin/env python3
"""Makes MiniSpeech: a small corpus of English sessions, spoken by espeak-ng.

To make it, do the following:
> python recipes/MiniSpeech/mini_speech_prepare.py data/MiniSpeech

What is in it says `speechbrain_lact.corpora.mini_speech`.

Authors
 * speechbrain_lact contributors 2026
"""

import argparse
import inspect

from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.corpora.mini_speech.plan import make_plan


def main():
    """Command line: one option for each argument of `make_plan`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data_folder", help="where to put the corpus")
    for key, parameter in inspect.signature(make_plan).parameters.items():
        default = parameter.default
        parser.add_argument(
            f"--{key}", type=type(default), default=default, help=" "
        )
    arguments = vars(parser.parse_args())
    built = prepare_mini_speech(**arguments)
    print(arguments["data_folder"], "made" if built else "is there already")


if __name__ == "__main__":
    main()
