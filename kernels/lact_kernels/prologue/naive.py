"""From a projection to queries, keys and values, in plain torch.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F

NORM_EPS = 1e-5


def prologue(projected, scale, offset, heads, silu_values=True):
    """Queries, keys and values of fast weights.

    Arguments
    ---------
    projected : torch.Tensor
        Queries, keys and values beside each other [B, T, 3E].
    scale, offset : torch.Tensor
        Of the channels of queries and keys [2, E].
    heads : int
        Fast networks of a row.
    silu_values : bool
        Whether values pass SiLU, as queries and keys do.

    Returns
    -------
    torch.Tensor
        The three [3, B * heads, T, E / heads]; queries and keys have length 1.
    """
    q, k, v = projected.chunk(3, -1)
    q, k = (
        F.silu(x * a + b).unflatten(-1, (heads, -1))
        for x, a, b in zip((q, k), scale, offset)
    )
    v = (F.silu(v) if silu_values else v).unflatten(-1, (heads, -1))
    q, k = (x / (x.norm(dim=-1, keepdim=True) + NORM_EPS) for x in (q, k))
    return torch.stack([x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)])
