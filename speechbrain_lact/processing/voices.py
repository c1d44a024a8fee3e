"""What a voice sounds like: embeddings, and recordings without pauses.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F

# What SpeechBrain's `SpeakerRecognition` takes for its ECAPA-TDNN of VoxCeleb.
THRESHOLD = 0.25


# Seconds over which power is measured; what is quieter than -60 dB of full
# scale, or 40 dB below the loudest, is silence.
BLOCK, SILENCE, RANGE = 0.1, 1e-6, 1e-4


# Seconds of sound without which there is no voice to embed.
MIN_SOUND = 0.2


def embed(embedder, wavs):
    """Voices of recordings of one length.

    Arguments
    ---------
    embedder : EncoderClassifier
        As of `SpeakerBank`.
    wavs : torch.Tensor
        [B, S]

    Returns
    -------
    torch.Tensor
        Embeddings of length 1 [B, E].
    """
    with torch.no_grad():
        found = embedder.encode_batch(wavs, torch.ones(len(wavs)))
    found = found.flatten(1).float().cpu()
    if not bool(found.isfinite().all()):
        raise ValueError("the embedder gave values that are not finite")
    return F.normalize(found, dim=1)


def default_threshold(embedder):
    """Cosine similarity from which on two voices are one.

    Arguments
    ---------
    embedder : EncoderClassifier
        As of `SpeakerBank`.

    Returns
    -------
    float
        That of the embedder's folder; 0.25, which is SpeechBrain's for its
        ECAPA-TDNN of VoxCeleb, if it names none.
    """
    hparams = getattr(embedder, "hparams", None)
    return float(getattr(hparams, "threshold", THRESHOLD))


def sounding(samples, sample_rate):
    """A recording without its silent tenths of a second.

    Arguments
    ---------
    samples : torch.Tensor
        [S]
    sample_rate : int
        Samples a second.

    Returns
    -------
    torch.Tensor
        [S'], a multiple of a tenth of a second.

    Example
    -------
    >>> wave = torch.sin(torch.arange(1000.0))
    >>> wave[200:700] = 0
    >>> len(sounding(wave, sample_rate=1000))
    500
    """
    size = int(BLOCK * sample_rate)
    blocks = F.pad(samples, (0, -len(samples) % size)).view(-1, size)
    if not len(blocks):
        return samples
    power = blocks.var(1, correction=0)
    return blocks[power > max(SILENCE, RANGE * float(power.max()))].flatten()


def likeness(parts):
    """How alike the parts of a recording are: low for two voices.

    They fall into two groups, around the two that are least alike.

    Arguments
    ---------
    parts : torch.Tensor
        Embeddings of length 1 [N, E].

    Returns
    -------
    float
        Cosine similarity of the groups' mean embeddings.

    Example
    -------
    >>> one, other = torch.eye(2)
    >>> likeness(torch.stack([one, one, one]))
    1.0
    >>> likeness(torch.stack([one, other, one]))
    0.0
    """
    alike = parts @ parts.T
    one, other = divmod(int(alike.argmin()), len(parts))
    near = alike[one] >= alike[other]
    if near.all() or not near.any():  # all the same
        return 1.0
    means = parts[near].mean(0), parts[~near].mean(0)
    return float(F.cosine_similarity(*means, dim=0))
