"""Newton-Schulz in plain torch.

Source: https://arxiv.org/abs/2505.23884 and its published code.

Authors
* speechbrain_lact contributors 2026
"""

# Coefficients (a, b, c) of five steps X <- aX + (bA + cAA)X, A = XX'.
COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
EPS = 1e-7


def newton_schulz(x):
    """Nearly the polar factor of each matrix.

    Arguments
    ---------
    x : torch.Tensor
        Matrices [N, h, d].

    Returns
    -------
    torch.Tensor
        As `x`; zero for a matrix of zeros.
    """
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)
    for a, b, c in COEFFICIENTS:
        outer = x @ x.mT
        x = a * x + (b * outer + c * outer @ outer) @ x
    return x.mT if tall else x
