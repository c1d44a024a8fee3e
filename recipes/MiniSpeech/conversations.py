#!/usr/bin/env python3
"""Conversations of voices that each have a folder of utterances, with what
there is to know: who speaks when, and what is said.

To make one of three voices, 40 seconds long, do the following:
> python recipes/MiniSpeech/conversations.py data/MiniSpeech/test-clean meeting

It writes meeting.wav, meeting.rttm and meeting.jsonl (a turn a line). The data
are laid out as LibriSpeech is.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_lact.processing.diarization.rttm import write_rttm
from speechbrain_lact.processing.diarization.segments import Segment
from speechbrain_lact.utils.console import check_new_file, script

SAMPLE_RATE = 16000
# Seconds between turns, and seconds that two voices speak at once.
GAP, TOGETHER = (0.1, 0.6), (0.5, 1.5)
# Power of the noise that is there all the time, in dB of full scale.
FLOOR = -65


def read_voices(folder):
    """Utterances of each voice, chapter by chapter.

    Arguments
    ---------
    folder : str or Path
        A split, laid out as LibriSpeech is.

    Returns
    -------
    dict
        Of each voice a list of chapters, each of them a list of
        (path, text).
    """
    voices = {}
    for file in sorted(Path(folder).glob("*/*/*.trans.txt")):
        lines = file.read_text(encoding="utf-8").splitlines()
        pairs = [line.split(" ", 1) for line in lines]
        # FLAC, or what else the corpus is stored as.
        audio = {path.stem: path for path in file.parent.glob("*.*")}
        chapter = [(audio[key], text) for key, text in pairs]
        voices.setdefault(file.parts[-3], []).append(chapter)
    if not voices:
        raise ValueError(f"{folder}: no chapters below it")
    return voices


def trim(wav):
    """An utterance without the pauses before and after.

    Arguments
    ---------
    wav : numpy.ndarray
        [S]

    Returns
    -------
    numpy.ndarray
    """
    heard = np.flatnonzero(np.abs(wav) > 0.02 * np.abs(wav).max())
    return wav[heard[0] : heard[-1] + 1]


def make_conversation(voices, seconds=40.0, overlap=0.2, seed=0, chapter=0):
    """Voices that take turns; some begin before the other has ended.

    Arguments
    ---------
    voices : dict
        Of each voice its chapters, as `read_voices` gives them.
    seconds : float
        Length, at least; the last turn is whole.
    overlap : float
        Share of the turns that begin 0.5 to 1.5 s before the last one ends.
    seed : int
        All follows from it.
    chapter : int
        Which chapter of each voice is heard.

    Returns
    -------
    wav : numpy.ndarray
        [S]
    segments : list of Segment
        Who speaks when, in the order of time.
    texts : list of str
        What is said in each.
    """
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    names, left = sorted(voices), {}
    segments, texts, placed = [], [], []
    last, end, before = None, draw.uniform(*GAP), 0.0
    while end < seconds:
        # Each speaks before any speaks again; then anybody but the last.
        others = [n for n in names if n != last] or names
        name = draw.choice([n for n in names if n not in left] or others)
        if not left.get(name):
            left[name] = list(voices[name][chapter % len(voices[name])])
        path, text = left[name].pop(0)
        wav = trim(soundfile.read(path)[0])
        start = end + draw.uniform(*GAP)
        if segments and last != name and draw.random() < overlap:
            # Never three at once.
            start = max(end - draw.uniform(*TOGETHER), before)
        placed.append((round(start * SAMPLE_RATE), wav))
        stop = start + len(wav) / SAMPLE_RATE
        segments.append(Segment(start, stop, name))
        texts.append(text)
        before, last, end = end, name, max(stop, end)
    mix = np.zeros(max(start + len(wav) for start, wav in placed) + SAMPLE_RATE)
    for start, wav in placed:
        mix[start : start + len(wav)] += wav
    mix *= min(1.0, 0.9 / np.abs(mix).max())
    mix += 10 ** (FLOOR / 20) * noise.standard_normal(len(mix))
    return mix.astype(np.float32), segments, texts


def write_conversation(path, wav, segments, texts):
    """Writes a conversation as three files.

    Arguments
    ---------
    path : Path
        Their name without an ending: .wav, .rttm and .jsonl are added.
    wav, segments, texts
        Of `make_conversation`.
    """
    soundfile.write(f"{path}.wav", wav, SAMPLE_RATE)
    write_rttm(segments, f"{path}.rttm", path.name)
    with open(f"{path}.jsonl", "w", encoding="utf-8") as file:
        for segment, text in zip(segments, texts):
            file.write(json.dumps({**asdict(segment), "text": text}) + "\n")


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
