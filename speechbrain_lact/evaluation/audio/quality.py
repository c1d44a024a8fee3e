"""How good a copy sounds beside its original: STOI, PESQ and predicted MOS.

Authors
* speechbrain_lact contributors 2026
"""

import warnings
from pathlib import Path

import numpy as np
import torch
import torchaudio
from torchaudio.functional import resample

from speechbrain_lact.evaluation.audio.inputs import check_wav
from speechbrain_lact.evaluation.audio.skipped import add_measure
from speechbrain_lact.processing.voices import SILENCE

# Samples per second of PESQ-WB and SQUIM, and seconds that PESQ gets at most.
RATE, SENTENCE = 16000, 20
SQUIM_FILE = "torchaudio/models/squim_subjective_bvcc_daps.pth"


def quality(reference, wav, rate, download=False):
    """How good a copy sounds, by what is installed.

    Arguments
    ---------
    reference, wav : torch.Tensor
        The original and the copy [S], of the same length.
    rate : int
        Samples per second of both.
    download : bool
        As of `predicted_mos`.

    Returns
    -------
    dict
        `stoi`, `pesq` (wide band, mean over pieces of 20 s at most) and `mos`:
        a float, or None if it cannot be had; `skipped` says why.

    Example
    -------
    >>> wav = torch.sin(torch.arange(16000.0).square() / 9000)
    >>> found = quality(wav, wav, 16000)
    >>> sorted(found)
    ['mos', 'pesq', 'skipped', 'stoi']
    """
    reference = check_wav(reference, rate, name="reference")
    wav = check_wav(wav, rate)
    if len(reference) != len(wav):
        raise ValueError(
            f"reference: {len(reference)} samples, wav: {len(wav)}; cut both "
            f"to the same length"
        )
    found = {"skipped": {}}
    add_measure(found, "stoi", _stoi, reference, wav, rate)
    add_measure(found, "pesq", _pesq, reference, wav, rate)
    add_measure(found, "mos", predicted_mos, wav, reference, rate, download)
    return found


def _stoi(reference, wav, rate):
    try:
        from pystoi import stoi
    except ImportError:
        raise ValueError("needs: pip install pystoi")
    if float(reference.var(correction=0)) <= SILENCE:
        raise ValueError("reference: less than 0.4 s of sound")
    with warnings.catch_warnings():
        # It warns, and gives 1e-5, if there are too few frames with sound.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return stoi(reference.numpy(), wav.numpy(), rate)
        except RuntimeWarning:
            raise ValueError("reference: less than 0.4 s of sound")


def _pesq(reference, wav, rate):
    try:
        from pesq import PesqError, pesq
    except ImportError:
        raise ValueError("needs: pip install pesq")
    pair = torch.stack([resample(x, rate, RATE) for x in (reference, wav)])
    # It is meant for sentences, and five minutes crash it.
    pieces = pair.tensor_split(-(-pair.shape[1] // (SENTENCE * RATE)), 1)
    scores = []
    for piece in pieces:
        if not bool(piece.any(1).all()):  # it divides by the loudest
            continue
        try:
            scores.append(pesq(RATE, *piece.numpy(), "wb"))
        except PesqError:  # too short, or no speech
            pass
    if not scores:
        raise ValueError("no speech of 0.25 s or more for PESQ")
    return np.mean(scores)


def predicted_mos(wav, clean, rate, download=False):
    """Mean opinion score as SQUIM predicts it (A. Kumar et al.,
    "Torchaudio-SQUIM", 2023).

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    clean : torch.Tensor
        Good speech that it is held against [S']; it may say something else.
    rate : int
        Samples per second of both.
    download : bool
        Whether torchaudio may load the weights (360 MB, CC BY-NC 4.0) if they
        are not among those of `torch.hub`.

    Returns
    -------
    float
        From 1 to 5.

    Raises
    ------
    ValueError
        If the weights cannot be had.
    """
    path = Path(torch.hub.get_dir()) / SQUIM_FILE
    if not (download or path.exists()):
        raise ValueError(
            "SQUIM's weights are not in torch.hub's folder; they are loaded "
            "(360 MB, CC BY-NC 4.0) with download=True"
        )
    try:
        model = torchaudio.pipelines.SQUIM_SUBJECTIVE.get_model()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"SQUIM's weights cannot be loaded: {error}")
    wavs = [
        resample(check_wav(x, rate, 1.0, name), rate, RATE)[None]
        for x, name in ((wav, "wav"), (clean, "clean"))
    ]
    with torch.no_grad():
        return float(model(*wavs))
