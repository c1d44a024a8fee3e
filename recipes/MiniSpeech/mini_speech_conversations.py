"""Joins the utterances of several voices into recordings of conversations.

The voices of a split (of MiniSpeech, or of anything laid out as LibriSpeech
is) take turns, with pauses, and some of them begin before the other has ended.
Each recording is a FLAC file; beside it are an RTTM file and a JSON file that
say who spoke when, and what. Where an utterance begins and ends is measured
in its audio.

Example
-------
``python recipes/MiniSpeech/mini_speech_conversations.py DATA_FOLDER
OUTPUT_FOLDER --split test-clean --overlap 0.1``

Authors
 * speechbrain_lact contributors 2026
"""

import argparse
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_lact.dataio.librispeech_layout import (
    SAMPLE_RATE,
    build_folder,
    read_chapter,
    source_hash,
)
from speechbrain_lact.processing.diarization import Segment, write_rttm

FRAME = SAMPLE_RATE // 100
QUIET_DB = -35.0  # below an utterance's loudest frame: not speech any more
MARGIN = 3  # frames around the speech
LEAST_OVERLAP = 0.25  # seconds: a shorter one is nothing to hear
MOST_OVERLAP = 0.8  # of an utterance: it must not vanish in another
FLOOR_DB = -70.0  # of the room in which they talk


@dataclass
class Utterance:
    """What a voice says, and when: `start` in samples of the recording."""

    speaker: str
    key: str
    words: str
    wav: np.ndarray
    start: int = 0

    @property
    def end(self):
        """The sample after its last."""
        return self.start + len(self.wav)


def trim(wav):
    """Cuts off what is not speech before and after an utterance.

    Arguments
    ---------
    wav : numpy.ndarray
        Samples at 16 kHz.

    Returns
    -------
    numpy.ndarray
        From the first to the last frame that is not quiet, with a margin.

    Example
    -------
    >>> wav = np.zeros(16000)
    >>> wav[4800:8000] = 0.1
    >>> len(trim(wav))
    4160
    """
    frames = wav[: len(wav) // FRAME * FRAME].reshape(-1, FRAME)
    power = np.mean(np.square(frames, dtype=float), 1)
    loud = np.flatnonzero(power > power.max() * 10 ** (QUIET_DB / 10))
    if not len(loud):
        return wav
    return wav[
        max(0, loud[0] - MARGIN) * FRAME : (loud[-1] + 1 + MARGIN) * FRAME
    ]


def take_turns(voices, rng):
    """Decides who speaks after whom.

    Arguments
    ---------
    voices : list of list of Utterance
        What each voice says, in order.
    rng : numpy.random.Generator
        Where the choices come from.

    Returns
    -------
    list of Utterance
        In turns of one or two utterances; nobody follows on their own turn
        while another has something to say.
    """
    left = [list(voice) for voice in voices]
    order, last = [], None
    while any(left):
        others = [v for v in left if v and v is not last] or [last]
        last = others[rng.integers(len(others))]
        for _ in range(rng.integers(1, 3)):
            if last:
                order.append(last.pop(0))
    return order


def place(order, overlap, rng):
    """Decides when each utterance starts; sets `start`.

    A turn starts in the other's last utterance when, until its end, less than
    the share asked for has been spoken by two; never in the one before that,
    so there are no more than two. Else there is a pause.

    Arguments
    ---------
    order : list of Utterance
        One after the other.
    overlap : float
        The share of all speech that is of two voices.
    rng : numpy.random.Generator
        Where the pauses come from.

    Returns
    -------
    float
        The share reached.
    """
    spoken, together, end = 0, 0, SAMPLE_RATE // 2
    free = 0  # before this, somebody other than the last speaker talks
    last = None
    for now in order:
        length, early = len(now.wav), 0
        if last is not None and last.speaker != now.speaker:
            early = (overlap * (spoken + length) - together) / (1 + overlap)
            room = min(length, end - max(free, last.start))
            early = int(min(early, MOST_OVERLAP * room))
        if early >= LEAST_OVERLAP * SAMPLE_RATE:
            now.start = end - early
            free = end
        else:
            early = 0
            same = last is not None and last.speaker == now.speaker
            pause = rng.uniform(0.1, 0.4) if same else rng.uniform(0.2, 1.0)
            now.start = end + int(pause * SAMPLE_RATE)
        spoken += length - early
        together += early
        end, last = now.end, now
    return together / spoken


def mix(order, rng):
    """Adds up what is said, in a room with a faint noise.

    Arguments
    ---------
    order : list of Utterance
        With their starts.
    rng : numpy.random.Generator
        Where the noise comes from.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz, at most 0.95.
    """
    samples = max(u.end for u in order) + SAMPLE_RATE // 2
    wav = 10 ** (FLOOR_DB / 20) * rng.standard_normal(samples)
    for utterance in order:
        wav[utterance.start : utterance.end] += utterance.wav
    return wav * min(1.0, 0.95 / np.abs(wav).max())


def make_conversations(
    data_folder,
    output_folder,
    split="test-clean",
    conversations=9,
    least_voices=2,
    most_voices=4,
    utterances=6,
    overlap=0.1,
    seed=2026,
):
    """Makes the conversations, unless they are there with these settings.

    Arguments
    ---------
    data_folder : str
        A corpus laid out as LibriSpeech is.
    output_folder : str
        Where to put them. Replaced if it holds conversations of other
        settings; a folder of anything else is refused.
    split : str
        The split whose voices talk.
    conversations : int
        How many recordings.
    least_voices : int
        How many voices are in the first; each has one more than the one
        before, up to `most_voices`, and then from `least_voices` on again.
    most_voices : int
        How many voices at most.
    utterances : int
        How much each voice says at most, all of one chapter.
    overlap : float
        The share of all speech that is of two voices, 0 to 0.3.
    seed : int
        Everything follows from it.

    Returns
    -------
    bool
        True if they were made, False if they were there.

    Raises
    ------
    FileExistsError
        If the output folder holds anything else.
    ValueError
        If there is no such split, it has too few voices, or a value is not
        possible.
    """
    _check(conversations, least_voices, most_voices, utterances, overlap)
    speakers = _speakers(Path(data_folder) / split, most_voices)
    settings = dict(
        split=split,
        conversations=conversations,
        least_voices=least_voices,
        most_voices=most_voices,
        utterances=utterances,
        overlap=overlap,
        seed=seed,
        data=_digest(Path(data_folder) / split),
        code=source_hash(__file__),
    )

    def build(folder):
        counts = range(least_voices, most_voices + 1)
        for index in range(conversations):
            rng = np.random.default_rng([seed, index])
            chosen = rng.choice(
                len(speakers), counts[index % len(counts)], replace=False
            )
            voices = [_read_voice(speakers[i], utterances, rng) for i in chosen]
            order = take_turns(voices, rng)
            share = place(order, overlap, rng)
            name = f"{split}-{index:03d}"
            _write(folder, name, order, mix(order, rng), share)

    return build_folder(
        output_folder, "MiniSpeech conversations", settings, build
    )


def _check(conversations, least_voices, most_voices, utterances, overlap):
    """Raises a ValueError for what is not possible."""
    for key, value in (
        ("conversations", conversations),
        ("utterances", utterances),
    ):
        if value < 1:
            raise ValueError(f"{key} is {value}; it must be at least 1.")
    if not 2 <= least_voices <= most_voices:
        raise ValueError(
            f"least_voices is {least_voices}, most_voices {most_voices}; "
            "allowed: 2 or more, the least not above the most."
        )
    if not 0 <= overlap <= 0.3:
        raise ValueError(f"overlap is {overlap}; allowed: 0 to 0.3.")


def _speakers(folder, least):
    """The folders of a split's voices, in order."""
    speakers = [p for p in folder.glob("*") if any(p.glob("*/*.trans.txt"))]
    if len(speakers) < least:
        raise ValueError(
            f"{folder} has {len(speakers)} voices, but {least} are to talk. "
            "Name a split with more, or fewer voices."
        )
    return sorted(speakers)


def _digest(folder):
    """Hash of what a split holds."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*/*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _read_voice(speaker, utterances, rng):
    """What a voice says: the first utterances of one of its chapters."""
    chapters = sorted(p.parent for p in speaker.glob("*/*.trans.txt"))
    chapter = chapters[rng.integers(len(chapters))]
    return [
        Utterance(speaker.name, key, words, trim(wav))
        for key, words, wav in read_chapter(chapter)[:utterances]
    ]


def _write(folder, name, order, wav, share):
    """Writes a recording, and who spoke when."""
    pcm = np.round(wav * 32767).astype(np.int16)
    soundfile.write(folder / f"{name}.flac", pcm, SAMPLE_RATE)
    turns = [
        {
            "speaker": utterance.speaker,
            "start": utterance.start / SAMPLE_RATE,
            "end": utterance.end / SAMPLE_RATE,
            "words": utterance.words,
            "utterance": utterance.key,
        }
        for utterance in sorted(order, key=lambda u: u.start)
    ]
    segments = [Segment(t["start"], t["end"], t["speaker"]) for t in turns]
    write_rttm(segments, folder / f"{name}.rttm", name)
    content = {
        "recording": name,
        "seconds": len(pcm) / SAMPLE_RATE,
        "overlap": round(share, 4),
        "turns": turns,
    }
    text = json.dumps(content, indent=2) + "\n"
    (folder / f"{name}.json").write_text(text)


def main():
    """Command line: one option for each argument of `make_conversations`."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data_folder", help="a corpus, laid out as LibriSpeech")
    parser.add_argument("output_folder", help="where to put the recordings")
    parameters = inspect.signature(make_conversations).parameters
    for key, parameter in list(parameters.items())[2:]:
        default = parameter.default
        parser.add_argument(
            f"--{key}", type=type(default), default=default, help=" "
        )
    arguments = vars(parser.parse_args())
    made = make_conversations(**arguments)
    print(arguments["output_folder"], "made" if made else "is there already")


if __name__ == "__main__":
    main()
