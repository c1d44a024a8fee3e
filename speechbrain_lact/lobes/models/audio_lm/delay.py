"""The delay pattern: row s has the token of frame s - k in codebook k, so that
a frame's codebooks are predicted one after the other while a step makes one
row (Copet et al., "Simple and controllable music generation", 2023).

Authors
* speechbrain_lact contributors 2026
"""

import torch


def delay(tokens, none, end=None):
    """Puts the tokens of whole sequences into the delay pattern.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]
    none : int
        What stands where a codebook has no token.
    end : int, optional
        What the first codebook says after its last token.

    Returns
    -------
    torch.Tensor
        [T + K - 1, K]; with `end` at least T + 1 rows.

    Example
    -------
    >>> delay(torch.tensor([[1, 2], [3, 4]]), 9, end=8)
    tensor([[1, 9],
            [3, 2],
            [8, 4]])
    """
    frames, books = tokens.shape
    size = max(frames + books - 1, frames + (end is not None))
    rows = tokens.new_full((size, books), none)
    for k in range(books):
        rows[k : k + frames, k] = tokens[:, k]
    if end is not None:
        rows[frames, 0] = end
    return rows


def undelay(rows):
    """Undoes `delay`: the frames all of whose codebooks are there.

    Arguments
    ---------
    rows : torch.Tensor
        [T + K - 1, K]

    Returns
    -------
    torch.Tensor
        [T, K]

    Example
    -------
    >>> undelay(torch.tensor([[1, 9], [3, 2], [8, 4]]))
    tensor([[1, 2],
            [3, 4]])
    """
    frames = len(rows) - rows.shape[1] + 1
    columns = [rows[k : k + frames, k] for k in range(rows.shape[1])]
    return torch.stack(columns, 1)
