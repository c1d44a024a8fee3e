"""What is looked at before a tensor is used: kind, shape and lengths.

Every public call of this package that takes tensors checks them here, so that
a wrong one is refused in one sentence that says what was given and what is
wanted, before memory is taken for it.

Authors
* speechbrain_lact contributors 2026
"""

import math
import numbers

import torch

from speechbrain_lact.nnet.counts import count_tensor

KINDS = {
    "floats": lambda x: x.is_floating_point(),
    "integers": lambda x: (
        not x.is_floating_point()
        and not x.is_complex()
        and x.dtype != torch.bool
    ),
    "booleans": lambda x: x.dtype == torch.bool,
    # SpeechBrain's searchers have tokens as floats.
    "numbers": lambda x: not x.is_complex() and x.dtype != torch.bool,
}


def check_tensor(x, shape, what, kind="floats"):
    """Refuses what is no tensor of this kind and shape.

    Arguments
    ---------
    x : torch.Tensor
        What was given.
    shape : tuple
        A number for a dimension of that size, a name for one of any size.
    what : str
        Name of the argument, for the message.
    kind : str
        `floats`, `integers`, `booleans` or `numbers`.

    Returns
    -------
    torch.Tensor
        `x`

    Raises
    ------
    ValueError
        Saying what was given and what is wanted.

    Example
    -------
    >>> check_tensor(torch.zeros(8), ("B", "S"), "wavs")
    Traceback (most recent call last):
    ...
    ValueError: wavs: floats [B, S] are wanted, not torch.float32 [8]
    """
    fits = (
        isinstance(x, torch.Tensor)
        and KINDS[kind](x)
        and x.ndim == len(shape)
        and all(
            isinstance(wanted, str) or size == wanted
            for size, wanted in zip(x.shape, shape)
        )
    )
    if not fits:
        wanted = ", ".join(str(size) for size in shape)
        raise ValueError(
            f"{what}: {kind} [{wanted}] are wanted, not {describe(x)}"
        )
    return x


def check_waves(wavs, wav_lens=None, what="wavs"):
    """Refuses what is no batch of waveforms of one channel.

    Arguments
    ---------
    wavs : torch.Tensor
        Floats [B, S], B at least 1.
    wav_lens : torch.Tensor, optional
        Length of each row over S [B].
    what : str
        Name of the argument.

    Raises
    ------
    ValueError
        As `check_tensor` and `row_counts`.
    """
    check_tensor(wavs, ("B", "S"), what)
    if not len(wavs):
        raise ValueError(f"{what}: a batch has at least one row")
    if wav_lens is not None:
        row_counts(wav_lens, wavs)


def row_counts(fractions, x, what="wav_lens"):
    """Number of frames or samples of each row, from its share of the batch.

    Arguments
    ---------
    fractions : torch.Tensor
        Length of each row over T, from 0 to 1 [B]; on any device. None: all
        rows are whole.
    x : torch.Tensor
        The batch [B, T, ...].
    what : str
        Name of the fractions.

    Returns
    -------
    torch.Tensor
        Integers [B], on the device of `x`.

    Raises
    ------
    ValueError
        For another number of rows, or shares that are not from 0 to 1.

    Example
    -------
    >>> row_counts(torch.tensor([0.7, 1.0]), torch.zeros(2, 10))
    tensor([ 7, 10])
    """
    rows, time = x.shape[:2]
    if fractions is None:
        return count_tensor([time] * rows, x.device)
    check_tensor(fractions, (rows,), what, "numbers")
    shares = fractions.double().tolist()
    # NaN is neither. Without frames any share gives none.
    known = [
        share >= 0 and math.isfinite(share) and round(share * time) <= time
        for share in shares
    ]
    if not all(known):
        raise ValueError(
            f"{what}: shares of the longest row, from 0 to 1, are wanted, not "
            f"{[round(share, 4) for share in fractions.tolist()]}"
        )
    return count_tensor([round(share * time) for share in shares], x.device)


def check_number(
    value, what, least=None, most=None, integer=False, positive=False
):
    """Refuses what is no finite number in its range.

    Arguments
    ---------
    value : float or int
        What was given.
    what : str
        Name of the argument.
    least, most : float, optional
        The range; ends belong to it.
    integer : bool
        Whether it must be whole.
    positive : bool
        Whether it must be above 0.

    Raises
    ------
    ValueError
        Saying what was given and what is wanted.

    Example
    -------
    >>> check_number(0, "chunk_size", least=1, integer=True)
    Traceback (most recent call last):
    ...
    ValueError: chunk_size must be at least 1, not 0
    """
    kind = numbers.Integral if integer else numbers.Real
    known = isinstance(value, kind) and not isinstance(value, bool)
    wanted = None
    if not known or not math.isfinite(value):
        wanted = "be an integer" if integer else "be a finite number"
    elif positive and value <= 0:
        wanted = "be positive"
    elif least is not None and value < least:
        wanted = f"be at least {least}" if least else "not be negative"
    elif most is not None and value > most:
        wanted = f"be at most {most}"
    if wanted == "not be negative":
        raise ValueError(f"{what} must {wanted}: {value!r}")
    if wanted:
        raise ValueError(f"{what} must {wanted}, not {value!r}")


def describe(x):
    """Type and shape of what was given, for messages.

    Example
    -------
    >>> describe(torch.zeros(2, 3)), describe([1])
    ('torch.float32 [2, 3]', 'list')
    """
    if isinstance(x, torch.Tensor):
        return f"{x.dtype} {list(x.shape)}"
    return type(x).__name__
