"""Makes the chapters of the corpus, in two processes.

Authors
 * speechbrain_lact contributors 2026
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import traceback

import numpy as np
from tqdm import tqdm

from speechbrain_lact.corpora.layout import write_chapter
from speechbrain_lact.corpora.mini_speech.channel import (
    channel_sections,
    record,
)
from speechbrain_lact.corpora.mini_speech.conditions import shift_vowels
from speechbrain_lact.corpora.mini_speech.plan import SPLITS
from speechbrain_lact.corpora.mini_speech.rooms import degrade
from speechbrain_lact.corpora.mini_speech.synthesizer import (
    Synthesizer,
    espeak_text,
)
from speechbrain_lact.corpora.mini_speech.voices import ENGLISH

# What a process sends when it has nothing more to say.
ALL_SAID = -1


def _say_chapters(voices, folder, seed):
    """Says all that some voices say; yields each chapter when it is written:
    its number, its length in seconds."""
    synthesizer = Synthesizer()
    for voice in voices:
        rng = np.random.default_rng([seed, voice.speaker])
        synthesizer.set_voice(voice)
        sections = channel_sections(voice.channel)
        for chapter in voice.chapters:
            sound = chapter.sound
            if "rate" in sound:
                synthesizer.set_voice(voice, sound["rate"] / sound["tract"])
            utterances = []
            for sentence in chapter.sentences:
                text = espeak_text(sentence, voice.language, chapter.questions)
                if "shift" in sound and voice.language in ENGLISH:
                    said = synthesizer.phonemes(text[:-1])
                    said = shift_vowels(said, sound["shift"])
                    text = f"[[{said}]]{text[-1]}"
                wav = record(
                    synthesizer.say(text),
                    synthesizer.sample_rate,
                    voice.channel,
                    sections,
                    rng,
                    sound,
                )
                utterances.append((sentence, wav))
            seconds = write_chapter(
                folder / voice.split,
                voice.speaker,
                chapter.number,
                utterances,
            )
            yield chapter.number, seconds


def _work(plan, talkers, index, folder, seed, connection):
    """One of the two processes: every other voice, then every other noise.

    Sends each chapter as it is written, ALL_SAID between the two and waits
    until the other has said all as well (a babble may be of its voices), or
    sends the text of an error. Ends when nobody listens any more.
    """
    try:
        for chapter in _say_chapters(plan[index::2], folder, seed):
            connection.send(chapter)
        connection.send((ALL_SAID, None))
        connection.recv()
        for chapter in _degrade_chapters(plan, talkers, index, folder, seed):
            connection.send(chapter)
    except (ConnectionError, EOFError):
        pass
    except Exception:
        with contextlib.suppress(ConnectionError):
            connection.send((None, traceback.format_exc()))
    finally:
        connection.close()


def make_chapters(plan, folder, seed):
    """Speaks and writes all chapters.

    Arguments
    ---------
    plan : list of Voice
        What `make_plan` returns.
    folder : Path
        The folder of the corpus.
    seed : int
        Everything random follows from it.

    Returns
    -------
    dict of int to float
        The length (s) of each chapter, by its number.
    """
    talkers = [
        folder / v.split / str(v.speaker) / str(c.number)
        for v in plan
        for c in v.chapters
        if v.split == "train-clean-100" and not c.condition
    ]
    # Each extra split in processes of its own: whatever else is made, and
    # whether it is made, the samples are the same.
    groups = {}
    for voice in plan:
        (folder / voice.split).mkdir(exist_ok=True)
        group = "MiniSpeech" if voice.split in SPLITS else voice.split
        groups.setdefault(group, []).append(voice)
    seconds = {}
    for group, voices in groups.items():
        seconds.update(_make_group(group, voices, talkers, folder, seed))
    return seconds


def _make_group(title, plan, talkers, folder, seed):
    """Writes the chapters of some voices, in two processes."""
    # Always two, each with the same voices: what a process says depends on
    # what it has said before. "spawn", for a synthesizer that has said nothing.
    context = multiprocessing.get_context("spawn")
    workers = []
    for index in range(2):
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=_work,
            args=(plan, talkers, index, folder, seed, theirs),
            daemon=True,
        )
        worker.start()
        theirs.close()
        workers.append((worker, ours))
    try:
        connections = [connection for _, connection in workers]
        return _follow(title, connections, plan)
    finally:
        for worker, connection in workers:
            # A finished one ends by itself when its pipe closes; any other is
            # stopped now.
            connection.close()
            worker.terminate()
            worker.join()


def _follow(title, connections, plan):
    """Shows the progress of the processes; returns the chapters' lengths."""
    chapters = [chapter for voice in plan for chapter in voice.chapters]
    total = len(chapters) + sum(bool(c.condition) for c in chapters)
    seconds, all_said, listening = {}, 0, list(connections)
    with tqdm(total=total, desc=title, unit="chapter") as progress:
        while progress.n < total:
            for connection in multiprocessing.connection.wait(listening):
                try:
                    number, result = connection.recv()
                except (EOFError, ConnectionError):
                    listening.remove(connection)
                    if listening and all_said == len(connections):
                        continue
                    raise RuntimeError(
                        f"espeak-ng ended after {progress.n} of {total} "
                        "chapters."
                    )
                if number is None:
                    raise RuntimeError(f"A voice failed:\n{result}")
                if number == ALL_SAID:
                    all_said += 1
                    if all_said == len(connections):
                        for other in connections:
                            with contextlib.suppress(ConnectionError):
                                other.send(None)
                    continue
                seconds[number] = result
                progress.update()
    return seconds


def _degrade_chapters(plan, talkers, index, folder, seed):
    """Puts every other chapter with a condition into its room and its noise;
    yields its number and its length in seconds."""
    noisy = [(v, c) for v in plan for c in v.chapters if c.condition]
    if not noisy:
        return
    import torch

    torch.set_num_threads(1)  # short signals: threads would only wait
    for voice, chapter in noisy[index::2]:
        subset = folder / voice.split
        path = subset / str(voice.speaker) / str(chapter.number)
        utterances = degrade(path, chapter, talkers, seed)
        seconds = write_chapter(
            subset, voice.speaker, chapter.number, utterances
        )
        yield chapter.number, seconds
