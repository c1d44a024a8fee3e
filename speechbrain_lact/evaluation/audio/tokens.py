"""Variety and loops of tokens.

Authors
* speechbrain_lact contributors 2026
"""

import math

import torch
import torch.nn.functional as F

from speechbrain_lact.evaluation.audio.inputs import check_tokens


def token_entropy(tokens, size):
    """Variety of tokens. Few tokens have less of it: compare what is of the
    same length.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]
    size : int
        Tokens of a codebook.

    Returns
    -------
    torch.Tensor
        Entropy of each codebook's counts in bits [K].

    Example
    -------
    >>> token_entropy(torch.tensor([[0, 1], [1, 1], [2, 1], [3, 1]]), 4)
    tensor([2., 0.], dtype=torch.float64)
    """
    tokens = check_tokens(tokens, size)
    shares = F.one_hot(tokens, size).double().mean(0)
    return torch.special.entr(shares).sum(1) / math.log(2)


def repetition_rate(tokens, n=4):
    """Loops: how much of a recording has been there before.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]; the first codebook is looked at.
    n : int
        Frames that are taken together.

    Returns
    -------
    float
        Share of the n-grams that occurred before.

    Example
    -------
    >>> repetition_rate(torch.tensor([1, 2, 1, 2, 1, 2])[:, None], n=2)
    0.6
    """
    first = check_tokens(tokens)[:, 0]
    if not 1 <= n <= len(first):
        raise ValueError(f"tokens: {len(first)} frames, but n-grams of {n}")
    grams = first.unfold(0, n, 1)
    return 1 - len(grams.unique(dim=0)) / len(grams)
