"""Whether a voice stays that of a prompt.

Authors
* speechbrain_lact contributors 2026
"""

import torch
from torchaudio.functional import resample

from speechbrain_lact.evaluation.audio.inputs import check_wav
from speechbrain_lact.processing.voices import MIN_SOUND, embed, sounding

# Windows that the embedder gets at a time.
BATCH = 16


def speaker_similarity(wav, prompt, rate, embedder, window=3.0, step=1.0):
    """Whether a voice stays that of the prompt.

    Arguments
    ---------
    wav, prompt : torch.Tensor
        Waveforms [S].
    rate : int
        Samples per second of both.
    embedder : EncoderClassifier
        As of `inference.speakers.load_embedder`.
    window, step : float
        Seconds that are compared, and from one to the next.

    Returns
    -------
    times : torch.Tensor
        Middle of each window in seconds [N].
    cosines : torch.Tensor
        Similarity to the prompt [N]; NaN where less than a third sounds.

    Raises
    ------
    ValueError
        For a recording shorter than the window, or a prompt without sound.

    Example
    -------
    >>> from speechbrain_lact.inference.speakers import load_embedder
    >>> wav = torch.randn(64000) / 10
    >>> times, cosines = speaker_similarity(
    ...     wav, wav, 16000, load_embedder("small")
    ... )
    >>> times
    tensor([1.5000, 2.5000])
    """
    if not (window > 0 and step > 0):
        raise ValueError(f"window, step: {window}, {step} s, must be above 0")
    wav = check_wav(wav, rate, window)
    prompt = check_wav(prompt, rate, MIN_SOUND, "prompt")
    if len(sounding(prompt, rate)) < MIN_SOUND * rate:
        raise ValueError(f"prompt: less than {MIN_SOUND} s of sound")
    normalizer = getattr(embedder, "audio_normalizer", None)
    wanted = getattr(normalizer, "sample_rate", rate)
    hop = round(step * rate)
    pieces = wav.unfold(0, round(window * rate), hop)
    voiced = [len(sounding(p, rate)) >= window * rate / 3 for p in pieces]
    times = torch.arange(len(pieces)) * hop / rate + window / 2
    cosines = torch.full((len(pieces),), torch.nan)
    (voice,) = embed(embedder, resample(prompt[None], rate, wanted))
    for places in torch.tensor(voiced).nonzero().flatten().split(BATCH):
        if len(places):
            voices = embed(embedder, resample(pieces[places], rate, wanted))
            cosines[places] = voices @ voice
    return times, cosines
