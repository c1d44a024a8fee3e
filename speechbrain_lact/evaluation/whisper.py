"""Word errors of Whisper with trained parts, and without them.

Authors
* speechbrain_lact contributors 2026
"""

import time
import zlib

import jiwer
import torch

from speechbrain.dataio.dataio import load_data_csv
from speechbrain.utils.metric_stats import ErrorRateStats
from speechbrain_lact.corpora.csv_files import progress
from speechbrain_lact.dataio.audio import AudioFile, read_audio
from speechbrain_lact.evaluation.normaliser import normalise_english

# Whisper as it is; its frames through gated layers that begin anew with each
# utterance, or go on from one utterance of a speaker to the next.
ALONE, RESET, CARRIED = SYSTEMS = "Whisper", "LaCT, reset", "LaCT, carried"


def score(asr, csv, live):
    """Word errors of a trained Whisper on a test set.

    Arguments
    ---------
    asr : WhisperASR
    csv : str
        As `prepare_librispeech` writes it.
    live : bool
        Whether each recording is a live session; else they are files.

    Returns
    -------
    speechbrain.utils.metric_stats.ErrorRateStats
        In Whisper's normaliser.
    """
    metric = ErrorRateStats()
    for key, row in progress(load_data_csv(csv).items(), "Test", "recordings"):
        wav = read_audio(
            row["wav"], asr.sample_rate, row.get("start"), row.get("stop")
        )
        if wav is None:
            continue
        if live:
            session = asr.stream()
            words = session.feed(wav).words + session.finish().words
            said = " ".join(word.text for word in words)
        else:
            said = asr.transcribe_batch(wav[None], torch.ones(1))[0][0]
        pair = (normalise_english(text).split() for text in (said, row["wrd"]))
        metric.append([key], *([words] for words in pair))
    return metric


def add_noise(wav, snr, name):
    """White noise, the same for a name whatever else is done.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    snr : float or None
        Decibels of the recording over the noise; None: as it is.
    name : str
        Of the recording.

    Returns
    -------
    torch.Tensor
        [S]

    Example
    -------
    >>> wav = torch.ones(20000)
    >>> noise = add_noise(wav, 10, "a") - wav
    >>> round(float(noise.square().mean()), 2)
    0.1
    """
    if snr is None:
        return wav
    seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(len(wav), generator=seed)
    return wav + wav.square().mean().sqrt() * 10 ** (-snr / 20) * noise


@torch.no_grad()
def compare(asr, utterances, snr=None):
    """Whisper and Whisper with gated layers on the same recordings.

    Arguments
    ---------
    asr : WhisperASR
    utterances : list of speechbrain_lact.dataio.manifests.Utterance
        Those of a session in order, one after the other.
    snr : float, optional
        As in `add_noise`.

    Returns
    -------
    dict of dict
        For each of `SYSTEMS` and each utterance what
        `speechbrain_lact.evaluation.paired_comparison.summarise` takes.

    Raises
    ------
    ValueError
        If no gated layers were trained with this Whisper.
    """
    gated, session, state = asr.gated, None, None
    if gated is None:
        raise ValueError(
            "no gated layers were trained with this Whisper: train some with "
            "recipes/Whisper/train.py hparams/whisper_lact.yaml"
        )
    found = {system: {} for system in SYSTEMS}
    for one in progress(utterances, "Whisper", "recordings"):
        wav = AudioFile(
            one.wav, asr.sample_rate, one.start, one.stop, one.unit
        ).read()
        began = time.process_time()
        noisy = add_noise(wav, snr, one.name)
        frames, lengths, _ = asr.frames(noisy[None], torch.ones(1))
        encoding = time.process_time() - began
        if one.session != session:
            session, state = one.session, gated.initial_state(1)
        for system in SYSTEMS:
            began, seen = time.process_time(), frames
            if system == RESET:
                seen = gated.encode(frames, lengths)
            elif system == CARRIED:
                seen, state = gated.encode(frames, lengths, state)
            (tokens,), _, _ = asr.mods.searcher(seen, lengths)
            took = time.process_time() - began + encoding
            found[system][one.name] = {
                **_errors(one.wrd, asr.tokenizer.decode(tokens)),
                "seconds": took,
                "speaker": one.spk_id,
                "duration": len(wav) / asr.sample_rate,
            }
    return found


def _errors(said, heard):
    """Word and character errors of an utterance."""
    said, heard = normalise_english(said), normalise_english(heard)
    counts = {"said": said, "heard": heard}
    for kind, process in (
        ("word", jiwer.process_words),
        ("character", jiwer.process_characters),
    ):
        out = process(said, heard)
        edits = out.substitutions + out.deletions + out.insertions
        counts[f"{kind}s"] = out.hits + out.substitutions + out.deletions
        counts[f"{kind}_errors"] = edits
    return counts
