"""SwiGLU networks in plain torch.

Authors
* speechbrain_lact contributors 2026
"""


def swiglu_apply(weights, x):
    """W1 [silu(W0 x) * (W2 x)].

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' one above the other [N, 3h, d].
    x : torch.Tensor
        Frames [N, L, d].

    Returns
    -------
    torch.Tensor
        As `x`.
    """
    w0, w2, w1 = weights.chunk(3, 1)
    a, b = x @ w0.mT, x @ w2.mT
    return (a * a.sigmoid() * b) @ w1
