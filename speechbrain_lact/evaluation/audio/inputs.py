"""What can be measured: waveforms [S], tokens [T, K], frames [T, N].

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain_lact.processing.voices import RANGE, SILENCE

# Seconds from frame to frame.
STEP = 0.01


def check_wav(wav, rate, least=0.0, name="wav"):
    """A waveform that can be measured, on the CPU.

    Arguments
    ---------
    wav : array_like
        [S]
    rate : int
        Samples per second.
    least : float
        Seconds that are needed.
    name : str
        What messages call it.

    Returns
    -------
    torch.Tensor
        float32 [S].

    Raises
    ------
    ValueError
        For what is no waveform, empty, too short or not finite.

    Example
    -------
    >>> check_wav([0.5, 1.0], 16000)
    tensor([0.5000, 1.0000])
    """
    wav = torch.as_tensor(wav)
    if wav.ndim != 1 or not wav.is_floating_point():
        raise ValueError(
            f"{name}: one channel of floats [S], not {wav.dtype} "
            f"{list(wav.shape)}"
        )
    if not len(wav) or len(wav) < round(least * rate):
        raise ValueError(
            f"{name}: {len(wav) / rate:.3f} s; at least {least:g} s are needed"
            if len(wav)
            else f"{name}: it is empty"
        )
    if not bool(wav.isfinite().all()):
        raise ValueError(f"{name}: has samples that are not finite")
    return wav.detach().cpu().float()


def check_tokens(tokens, size=None):
    """Tokens that can be measured, on the CPU.

    Arguments
    ---------
    tokens : array_like
        [T, K]
    size : int, optional
        Tokens of a codebook.

    Returns
    -------
    torch.Tensor
        int64 [T, K].

    Raises
    ------
    ValueError
        For what are no tokens, or tokens that no codebook has.

    Example
    -------
    >>> check_tokens([[0, 3]], size=4)
    tensor([[0, 3]])
    """
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        raise ValueError(
            f"tokens: integers [frames, codebooks], not {tokens.dtype} "
            f"{list(tokens.shape)}"
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (size is not None and high >= size):
        raise ValueError(
            f"tokens: from {low} to {high}, but a codebook has 0 to "
            f"{'...' if size is None else size - 1}"
        )
    return tokens.detach().cpu().long()


def cut_frames(wav, rate, seconds):
    """Frames of a waveform without their means, a hundredth of a second apart.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    seconds : float
        Of a frame.

    Returns
    -------
    torch.Tensor
        [T, N]

    Example
    -------
    >>> cut_frames(torch.zeros(16000), 16000, 0.032).shape
    torch.Size([97, 512])
    """
    wav = check_wav(wav, rate, seconds)
    frames = wav.unfold(0, round(seconds * rate), round(STEP * rate))
    return frames - frames.mean(1, keepdim=True)


def sounding_frames(frames):
    """Which frames are no silence.

    Arguments
    ---------
    frames : torch.Tensor
        Of `cut_frames` [T, N].

    Returns
    -------
    torch.Tensor
        Boolean [T].

    Example
    -------
    >>> sounding_frames(torch.tensor([[0.1, -0.1], [0.0, 0.0]]))
    tensor([ True, False])
    """
    power = frames.square().mean(1)
    return power > max(SILENCE, RANGE * float(power.max()))
