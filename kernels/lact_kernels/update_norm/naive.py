"""A step added to fast weights in plain torch.

Authors
* speechbrain_lact contributors 2026
"""

import torch

NORM_EPS = 1e-5


def update_norm(weights, step, factor=None, targets=None):
    """Weights after a step, their rows scaled.

    Arguments
    ---------
    weights, step : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    factor : torch.Tensor, optional
        Of each step [N].
    targets : torch.Tensor, optional
        Norms of the rows of W0, W2 and of W1 [N, 2h + d].

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    hidden = weights.shape[1] // 3
    if factor is not None:
        step = step * factor[:, None, None]
    weights = weights + step
    if targets is None:
        return weights
    # Rows of W1 are columns of W1'.
    rows = weights[:, : 2 * hidden], weights[:, 2 * hidden :].mT
    rows = torch.cat([row.flatten(1) for row in rows], 1)
    sizes = [weights.shape[2]] * (2 * hidden) + [hidden] * weights.shape[2]
    scaled = [
        row / (row.norm(dim=1, keepdim=True) + NORM_EPS) * target[:, None]
        for row, target in zip(rows.split(sizes, 1), targets.unbind(1))
    ]
    into = torch.stack(scaled[: 2 * hidden], 1)
    return torch.cat([into, torch.stack(scaled[2 * hidden :], 2)], 1)


def finite_select(new, old, heads=1):
    """New tensors where all heads of a row are finite, else the old ones.

    Arguments
    ---------
    new, old : list of torch.Tensor
        [N, ...]; N are rows, of `heads` that stand together.
    heads : int

    Returns
    -------
    list of torch.Tensor
        As `new`.
    good : torch.Tensor
        Which rows are new [N].
    """
    good = torch.stack([x.flatten(1).isfinite().all(1) for x in new]).all(0)
    good = good.view(-1, heads).all(1).repeat_interleave(heads)
    kept = []
    for a, b in zip(new, old):
        flags = good.view(-1, *[1] * (a.ndim - 1))
        kept.append(torch.where(flags, a, b))
    return kept, good
