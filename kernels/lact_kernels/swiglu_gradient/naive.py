"""The gradient of the inner loss, by autograd.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from lact_kernels.swiglu_apply.naive import swiglu_apply


def swiglu_gradient(weights, k, v, rates):
    """Downhill direction of `-sum_t lr_t <f(k_t), v_t>`.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    k, v : torch.Tensor
        Keys and values [N, L, d].
    rates : torch.Tensor
        Learning rates of W0, W1, W2 [N, L, 3].

    Returns
    -------
    torch.Tensor
        As `weights`.
    """
    if not weights.requires_grad:
        weights = weights.detach().requires_grad_()
    hidden = weights.shape[1] // 3
    found = []
    with torch.enable_grad():
        agreement = (swiglu_apply(weights, k) * v).sum(-1)
        for channel, part in ((0, 0), (2, 1), (1, 2)):
            (full,) = torch.autograd.grad(
                (rates[..., channel] * agreement).sum(),
                weights,
                create_graph=True,
            )
            found.append(full[:, part * hidden : (part + 1) * hidden])
    return torch.cat(found, 1)
