"""Word errors of a recogniser on audio that was to say a text.

Authors
* speechbrain_lact contributors 2026
"""

import torch
from torchaudio.functional import resample

from speechbrain_lact.evaluation.audio.inputs import check_wav
from speechbrain_lact.evaluation.wer import count_word_errors
from speechbrain_lact.processing.voices import MIN_SOUND


def word_errors(wav, text, rate, asr):
    """Word errors of a recogniser on audio that was to say a text; the sums of
    many go to `evaluation.statistics.wer_interval`.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    text : str
        What was to be said; letter case does not matter.
    rate : int
        Samples per second.
    asr : LaCTASR
        The recogniser.

    Returns
    -------
    errors, words : int
        Word errors, and words of the text.

    Example
    -------
    >>> asr = LaCTASR.from_hparams("model")  # doctest: +SKIP
    >>> word_errors(wav, "two words", 16000, asr)  # doctest: +SKIP
    (1, 2)
    """
    text = text.upper()
    if not text.split():
        raise ValueError(f"text: {text!r} has no words")
    wav = resample(check_wav(wav, rate, MIN_SOUND), rate, asr.sample_rate)
    hypotheses, _ = asr.transcribe_batch(wav[None], torch.ones(1))
    errors = count_word_errors(text, hypotheses[0].upper())
    return errors, len(text.split())
