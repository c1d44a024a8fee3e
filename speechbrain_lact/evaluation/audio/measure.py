"""All measures of one recording, or of pieces of it.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.evaluation.audio.inputs import check_tokens, check_wav
from speechbrain_lact.evaluation.audio.modulation import modulation
from speechbrain_lact.evaluation.audio.pitch import (
    pitch_continuity,
    pitch_track,
)
from speechbrain_lact.evaluation.audio.quality import predicted_mos, quality
from speechbrain_lact.evaluation.audio.rolloff import (
    mean_rolloff,
    rolloff_variation,
)
from speechbrain_lact.evaluation.audio.similarity import speaker_similarity
from speechbrain_lact.evaluation.audio.skipped import add_measure
from speechbrain_lact.evaluation.audio.tokens import (
    repetition_rate,
    token_entropy,
)


def measure(
    wav,
    tokens,
    rate,
    size,
    prompt=None,
    embedder=None,
    span=None,
    reference=None,
):
    """All measures of one recording.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    tokens : torch.Tensor
        The same audio as tokens [T, K].
    rate : int
        Samples per second.
    size : int
        Tokens of a codebook.
    prompt : torch.Tensor, optional
        How the voice should sound [S'].
    embedder : EncoderClassifier, optional
        As of `speaker_similarity`, which needs both.
    span : float, optional
        Only the last so many seconds.
    reference : torch.Tensor, optional
        What the recording is a copy of [S], for `quality`.

    Returns
    -------
    dict
        `seconds`, `rolloff` (mean, Hz), `rolloff_variation`, `pitch_jump`
        (semitones), `voiced`, `modulation`, `token_entropy` (mean, bits),
        `token_entropies` (of each codebook), `repetition`,
        `speaker_similarity` (mean), `similarity_over_time` (seconds from the
        start of what is measured, and cosines), `stoi`, `pesq`, `mos`. What
        cannot be measured is None; `skipped` says why. It can be written as
        JSON.

    Raises
    ------
    ValueError
        For a recording that is empty, not finite or shorter than the span,
        and tokens that no codebook has.

    Example
    -------
    >>> import torch
    >>> wav, tokens = torch.randn(48000) / 10, torch.randint(9, (150, 2))
    >>> found = measure(wav, tokens, 16000, size=9, span=2.0)
    >>> found["seconds"], found["voiced"], found["skipped"]["pesq"]
    (2.0, 0.0, 'no reference')
    """
    wav, tokens = check_wav(wav, rate), check_tokens(tokens, size)
    if reference is not None and len(reference) != len(wav):
        raise ValueError(
            f"reference: {len(reference)} samples, wav: {len(wav)}; cut both "
            f"to the same length"
        )
    if span is not None:
        wav, tokens, reference = _last(wav, tokens, reference, rate, span)
    found = {"seconds": len(wav) / rate, "skipped": {}}
    add_measure(found, "rolloff", mean_rolloff, wav, rate)
    add_measure(found, "rolloff_variation", rolloff_variation, wav, rate)
    _add_pitch(found, wav, rate)
    add_measure(found, "modulation", modulation, wav, rate)
    entropies = token_entropy(tokens, size)
    found["token_entropy"] = float(entropies.mean())
    found["token_entropies"] = entropies.tolist()
    add_measure(found, "repetition", repetition_rate, tokens)
    _add_similarity(found, wav, prompt, rate, embedder)
    if reference is None:
        names = "stoi", "pesq"
        found |= dict.fromkeys(names)
        found["skipped"] |= dict.fromkeys(names, "no reference")
        add_measure(found, "mos", predicted_mos, wav, rate)
    else:
        judged = quality(reference, wav, rate)
        found["skipped"] |= judged.pop("skipped")
        found |= judged
    return found


def measure_pieces(
    wav, tokens, rate, size, ends, prompt=None, embedder=None, span=10.0
):
    """All measures of pieces of one recording.

    Arguments
    ---------
    wav, tokens, rate, size, prompt, embedder
        As of `measure`.
    ends : sequence of float
        Where the pieces end, in seconds.
    span : float
        Their length in seconds.

    Returns
    -------
    list of dict
        What `measure` returns for each.

    Raises
    ------
    ValueError
        For a piece that is not all in the recording, and as `measure`.

    Example
    -------
    >>> import torch
    >>> wav, tokens = torch.randn(96000) / 10, torch.randint(9, (300, 2))
    >>> found = measure_pieces(wav, tokens, 16000, 9, [4, 6], span=3.0)
    >>> [piece["seconds"] for piece in found]
    [3.0, 3.0]
    """
    seconds, found = len(wav) / rate, []
    for end in ends:
        if not span <= end <= seconds:
            raise ValueError(
                f"ends: a piece of {span:g} s that ends at {end:g} s, of a "
                f"recording of {seconds:.2f} s"
            )
        until = round(end / seconds * len(tokens))
        found.append(
            measure(
                wav[: round(end * rate)],
                tokens[:until],
                rate,
                size,
                prompt,
                embedder,
                span,
            )
        )
    return found


def _last(wav, tokens, reference, rate, span):
    """The last seconds of all three."""
    seconds = len(wav) / rate
    if not 0 < span <= seconds:
        raise ValueError(f"span: {span} s of a recording of {seconds:.2f} s")
    samples = max(1, round(span * rate))
    frames = max(1, round(span / seconds * len(tokens)))
    if reference is not None:
        reference = reference[-samples:]
    return wav[-samples:], tokens[-frames:], reference


def _add_pitch(found, wav, rate):
    """Steps and share of the voiced, or why there are none."""
    jump = voiced = None
    reason = "wav: no two voiced frames follow each other"
    try:
        jump, voiced = pitch_continuity(pitch_track(wav, rate))
    except ValueError as error:
        reason = found["skipped"]["voiced"] = str(error)
    found["pitch_jump"], found["voiced"] = jump, voiced
    if jump is None:
        found["skipped"]["pitch_jump"] = reason


def _add_similarity(found, wav, prompt, rate, embedder):
    """The voice over time and its mean, or why there is none."""
    found["speaker_similarity"] = found["similarity_over_time"] = None
    reason = "needs a prompt and an embedder"
    if prompt is not None and embedder is not None:
        try:
            pair = speaker_similarity(wav, prompt, rate, embedder)
            measured = ~pair[1].isnan()
            times, cosines = (values[measured].tolist() for values in pair)
            if times:
                found["speaker_similarity"] = sum(cosines) / len(cosines)
                found["similarity_over_time"] = [times, cosines]
                return
            reason = "wav: silence has no voice"
        except ValueError as error:
            reason = str(error)
    found["skipped"]["speaker_similarity"] = reason
