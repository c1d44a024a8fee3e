#!/usr/bin/env python3
"""Makes a conversation of voices that each have a folder of utterances.

To make one of three voices, 40 seconds long, do the following:
> python recipes/MiniSpeech/conversations.py data/MiniSpeech/test-clean meeting

It writes meeting.wav, meeting.rttm and meeting.jsonl (a turn a line). The data
are laid out as LibriSpeech is.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import random
from pathlib import Path

from speechbrain_lact.evaluation.conversations import (
    make_conversation,
    read_voices,
    write_conversation,
)
from speechbrain_lact.utils.console import check_new_file, script


def main(arguments):
    """Makes the conversation that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path, help="a split of LibriSpeech's kind")
    parser.add_argument("out", type=Path, help="name of the files to write")
    parser.add_argument("--voices", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--overlap", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chapter", type=int, default=0)
    given = parser.parse_args(arguments)
    check_new_file(Path(f"{given.out}.jsonl"))
    voices = read_voices(given.data)
    if not 1 <= given.voices <= len(voices):
        raise ValueError(f"{given.data}: has {len(voices)} voices")
    chosen = random.Random(given.seed).sample(sorted(voices), given.voices)
    write_conversation(
        given.out,
        *make_conversation(
            {name: voices[name] for name in chosen},
            given.seconds,
            given.overlap,
            given.seed,
            given.chapter,
        ),
    )


if __name__ == "__main__":
    script("conversations.py", main)
