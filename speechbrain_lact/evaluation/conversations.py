"""Conversations mixed of a corpus laid out as LibriSpeech is, with the
reference: who speaks when, and what is said.

Authors
* speechbrain_lact contributors 2026
"""

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.dataio.manifests import Skipped, list_layout, read_layout
from speechbrain_lact.processing.diarization.rttm import write_rttm
from speechbrain_lact.processing.diarization.segments import Segment

DEPTH = 2  # of chapters below a split: SPEAKER/CHAPTER
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
    folder, chapters = str(folder), {}
    for u in read_layout(folder, list_layout(folder, DEPTH), Skipped(), DEPTH):
        chapter = chapters.setdefault((u.spk_id, u.session), [])
        chapter.append((Path(u.wav), u.wrd))
    voices = {}
    for (speaker, _), chapter in chapters.items():
        voices.setdefault(speaker, []).append(chapter)
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
    active = np.flatnonzero(np.abs(wav) > 0.02 * np.abs(wav).max())
    return wav[active[0] : active[-1] + 1]


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
        Which chapter of each voice is used.

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
