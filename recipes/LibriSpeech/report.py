#!/usr/bin/env python3
"""One table of several experiments, from what train.py left behind.

> python recipes/LibriSpeech/report.py results/*/3407

WER in percent with a 95 % interval from a bootstrap over speakers: few
speakers make wide intervals, whatever the number of utterances.

Authors
* speechbrain_lact contributors 2026
"""

import argparse

from speechbrain_lact.evaluation.experiments import table
from speechbrain_lact.utils.console import script


def main(arguments):
    """Prints the table that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="output folders of train.py")
    print(table(parser.parse_args(arguments).folders))


if __name__ == "__main__":
    script("report.py", main)
