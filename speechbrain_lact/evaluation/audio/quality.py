"""How good a copy sounds beside its original: STOI, PESQ and predicted MOS.

Authors
* speechbrain_lact contributors 2026
"""

import warnings

import numpy as np
import torch
from torchaudio.functional import resample

from speechbrain_lact.evaluation.audio.inputs import check_wav
from speechbrain_lact.evaluation.audio.skipped import add_measure
from speechbrain_lact.processing.voices import MIN_SOUND, SILENCE, sounding

INSTALL = "pip install 'speechbrain_lact[metrics]'"

# Samples per second of PESQ-WB and DNSMOS, and seconds that PESQ gets at most.
RATE, SENTENCE = 16000, 20


def quality(reference, wav, rate):
    """How good a copy sounds, by what is installed.

    Arguments
    ---------
    reference, wav : torch.Tensor
        The original and the copy [S], of the same length.
    rate : int
        Samples per second of both.

    Returns
    -------
    dict
        `stoi`, `pesq` (wide band, mean over pieces of 20 s at most) and `mos`
        (of the copy alone): a float, or None if it cannot be had; `skipped`
        says why.

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
    add_measure(found, "mos", predicted_mos, wav, rate)
    return found


def _stoi(reference, wav, rate):
    try:
        from pystoi import stoi
    except ImportError:
        raise ValueError(f"needs pystoi: {INSTALL}")
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
        raise ValueError(f"needs pesq: {INSTALL}")
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


def predicted_mos(wav, rate):
    """Mean opinion score as DNSMOS predicts it, of a recording alone (C. Reddy
    et al., "DNSMOS P.835", 2022: the overall one), by the package speechmos
    (MIT).

    Arguments
    ---------
    wav : torch.Tensor
        [S], a second or more. Beyond -1 and 1 it is clipped, as in a file.
    rate : int
        Samples per second.

    Returns
    -------
    float
        From 1 to 5.

    Raises
    ------
    ValueError
        If the package is not installed, or there is too little sound.
    """
    wav = resample(check_wav(wav, rate, 1.0), rate, RATE)
    if len(sounding(wav, RATE)) < MIN_SOUND * RATE:
        raise ValueError(f"wav: less than {MIN_SOUND} s of sound")
    try:
        from speechmos import dnsmos
    except ImportError as error:
        raise ValueError(f"needs {error.name}: {INSTALL}")
    return dnsmos.run(wav.clamp(-1, 1).numpy(), RATE)["ovrl_mos"]
