"""Transcribes many recordings, several at a time.

Authors
* speechbrain_lact contributors 2026
"""

import sys

from speechbrain_lact.cli.inputs import shown

# Longer recordings are not put in batches [s].
MAX_SHORT = 60.0


# Files whose lengths are compared at a time, in batches.
WINDOW = 16


def recognise(asr, recordings, batch_size):
    """Transcribes recordings: short ones of similar length together.

    Arguments
    ---------
    asr : LaCTASR
        The model.
    recordings : list of Recording
        What to transcribe.
    batch_size : int
        Short ones done at a time.

    Yields
    ------
    Recording
        Each once, as soon as it is done, with words and seconds or an error.
    """
    from tqdm import tqdm

    alone = len(recordings) == 1
    bar = tqdm(total=len(recordings), unit="file", disable=alone or None)
    with bar:
        for window in _groups(recordings, WINDOW * batch_size):
            for recording in _recognise(asr, window, batch_size):
                yield recording
                bar.update()


def _recognise(asr, recordings, batch_size):
    """The same for so many that their headers are read at once."""
    from speechbrain_lact.dataio.audio import AudioFile

    short, long = [], []
    for recording in recordings:
        try:
            audio = AudioFile(
                recording.path,
                asr.sample_rate,
                *recording.span,
                name=shown(recording.name),
            )
        except ValueError as error:
            recording.error = str(error)
            yield recording
            continue
        recording.seconds = audio.seconds
        (short if audio.seconds <= MAX_SHORT else long).append(
            (recording, audio)
        )
    short.sort(key=lambda pair: pair[1].seconds)
    for batch in _groups(short, batch_size):
        yield from _recognise_batch(asr, batch)
    for recording, audio in long:
        progress = sys.stderr.isatty()
        try:
            recording.words = list(
                asr.transcribe_long(audio, progress=progress)
            )
        except ValueError as error:
            recording.error = str(error)
        yield recording


def _recognise_batch(asr, batch):
    """One step of the model."""
    from speechbrain_lact.dataio.audio import pad_waves

    wavs, good = [], []
    for recording, audio in batch:
        try:
            wavs.append(audio.read())
        except ValueError as error:
            recording.error = str(error)
            yield recording
        else:
            good.append(recording)
    if good:
        words, _ = asr.transcribe_words(*pad_waves(wavs))
        for recording, recording.words in zip(good, words):
            yield recording


def _groups(items, size):
    """A list in pieces."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
