"""Writes chapters laid out as LibriSpeech is.

A corpus is ``SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-0000.flac`` (16-bit FLAC
at 16 kHz), with ``SPEAKER-CHAPTER.trans.txt`` beside the audio and
``SPEAKERS.TXT`` at the top.

Authors
 * speechbrain_lact contributors 2026
"""

import io
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16000


def write_chapter(subset_folder, speaker, chapter, utterances):
    """Writes one chapter: its FLAC files and its transcript.

    Arguments
    ---------
    subset_folder : str or Path
        The folder of the subset, e.g. ``.../train-clean-100``.
    speaker : int or str
        The speaker's number.
    chapter : int or str
        The chapter's number.
    utterances : list of (str, numpy.ndarray)
        Words and samples of each utterance; samples at 16 kHz, float in
        [-1, 1].

    Returns
    -------
    float
        The length of the chapter in seconds.

    Raises
    ------
    ValueError
        If an utterance would clip, is empty, or is not finite.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     seconds = write_chapter(
    ...         folder, 101, 1000, [("two six", np.zeros(8000))]
    ...     )
    ...     [(key, words, wav)] = read_chapter(f"{folder}/101/1000")
    >>> seconds, key, words, wav.shape
    (0.5, '101-1000-0000', 'TWO SIX', (8000,))
    """
    folder = Path(subset_folder) / str(speaker) / str(chapter)
    # Not `parents=True`: a worker that outlived its killed parent must not
    # bring a removed folder back.
    for path in (*reversed(folder.parents[:2]), folder):
        path.mkdir(exist_ok=True)
    lines, samples = [], 0
    for index, (words, wav) in enumerate(utterances):
        key = f"{speaker}-{chapter}-{index:04d}"
        peak = np.abs(wav).max() if len(wav) else np.nan
        if not peak <= 1.0:
            raise ValueError(
                f"{key} cannot be written as 16-bit audio: the largest sample "
                f"is {peak} (allowed: a finite value up to 1.0)."
            )
        pcm = np.round(np.asarray(wav) * 32767).astype(np.int16)
        # Not straight into the file: soundfile waits for the disk each time.
        flac = io.BytesIO()
        soundfile.write(flac, pcm, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        (folder / f"{key}.flac").write_bytes(flac.getbuffer())
        lines.append(f"{key} {words.upper()}\n")
        samples += len(pcm)
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return samples / SAMPLE_RATE


def read_chapter(folder):
    """Reads back what `write_chapter` wrote.

    Arguments
    ---------
    folder : str or Path
        The folder of the chapter.

    Returns
    -------
    list of (str, str, numpy.ndarray)
        Key, words and samples (float32) of each utterance, in order.
    """
    # Here, not above: it imports torch, and not every worker needs it.
    from speechbrain_lact.dataio.manifests import Skipped, read_manifest

    return [
        (u.name, u.wrd, soundfile.read(u.wav, dtype="float32")[0])
        for u in read_manifest(str(folder), Skipped())
    ]


def write_speakers(folder, speakers, title):
    """Writes ``SPEAKERS.TXT`` in LibriSpeech's format.

    Arguments
    ---------
    folder : str or Path
        The folder of the corpus.
    speakers : list of (int, str, str, float, str)
        Number, sex ("M" or "F"), subset, minutes, name or description.
    title : str
        What the corpus is, for the comment at the top; may have several lines.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     row = (101, "M", "dev-clean", 1.5, "jackson (US)")
    ...     write_speakers(folder, [row], "Three digits")
    ...     print((Path(folder) / "SPEAKERS.TXT").read_text())
    ; Three digits
    ;ID  |SEX| SUBSET           |MINUTES| NAME
    101  | M | dev-clean        |  1.50 | jackson (US)
    """
    lines = [f"; {line}\n" for line in title.splitlines()]
    lines.append(";ID  |SEX| SUBSET           |MINUTES| NAME\n")
    for number, sex, subset, minutes, name in speakers:
        lines.append(
            f"{number:<4} | {sex} | {subset:<16} | {minutes:5.2f} | {name}\n"
        )
    (Path(folder) / "SPEAKERS.TXT").write_text("".join(lines))
