"""What the kernels share: types of products, sizes of blocks.

Authors
* speechbrain_lact contributors 2026
"""

import functools

import torch
import triton
import triton.language as tl

from lact_kernels.interpreter import mend_interpreter

mend_interpreter()

TYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


def on_device(function):
    """Lets a forward or backward pass launch its kernels where its tensors
    lie, whatever the current GPU is.

    Arguments
    ---------
    function : callable
        Of a context, and of what has a tensor among it.

    Returns
    -------
    callable
    """

    @functools.wraps(function)
    def guarded(ctx, *args):
        tensors = (x for x in args if isinstance(x, torch.Tensor))
        with torch.cuda.device_of(next(tensors)):
            return function(ctx, *args)

    return guarded


def product_options(x, dtype=None):
    """How a kernel multiplies.

    Arguments
    ---------
    x : torch.Tensor
        float32 or float64: sums are kept in its type.
    dtype : torch.dtype, optional
        Type of the factors of matrix products (default: that of `x`).
        float32 is float32, or TF32 where torch is allowed to
        (`torch.set_float32_matmul_precision`).

    Returns
    -------
    dict
        Constants of a kernel: `DOT`, `ACC` and `PREC`.

    Raises
    ------
    TypeError
        For a tensor of another type.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"weights and frames must be float32 or float64, not {x.dtype}; "
            f"give dtype={x.dtype} for products in that type"
        )
    exact = torch.get_float32_matmul_precision() == "highest"
    return {
        "DOT": TYPES[dtype or x.dtype],
        "ACC": TYPES[x.dtype],
        "PREC": "ieee" if exact else "tf32",
    }


def product_kind(x, dtype=None):
    """What multiplies.

    Arguments
    ---------
    x, dtype
        As `product_options`.

    Returns
    -------
    str
        `half`, `tf32`, or `ieee`: float32 and float64, which no tensor core
        multiplies as they are.
    """
    options = product_options(x, dtype)
    if options["DOT"] in (tl.float16, tl.bfloat16):
        return "half"
    return "ieee" if options["DOT"] == tl.float64 else options["PREC"]


def block(size, most):
    """Power of two that holds a size, from 16 (the least that tensor cores
    take) up to a most.

    Arguments
    ---------
    size, most : int

    Returns
    -------
    int

    Example
    -------
    >>> block(5, 64), block(33, 64), block(100, 64)
    (16, 64, 64)
    """
    return min(most, max(16, triton.next_power_of_2(size)))


def check_shape(x, shape, name):
    """Refuses a tensor of another shape.

    Arguments
    ---------
    x : torch.Tensor
    shape : tuple of int
    name : str

    Raises
    ------
    ValueError
    """
    if tuple(x.shape) != tuple(shape):
        raise ValueError(f"{name} must be {list(shape)}, not {list(x.shape)}")


def frames(x):
    """Frames whose rows are not apart; a chunk of a sequence is not copied.

    Arguments
    ---------
    x : torch.Tensor
        [N, L, d].

    Returns
    -------
    torch.Tensor
    """
    return (
        x
        if x.stride(2) == 1 and x.stride(1) == x.shape[2]
        else (x.contiguous())
    )


def product(a, b, dtype=None):
    """Batched matrix product by cuBLAS.

    Arguments
    ---------
    a, b : torch.Tensor
        [N, i, k] and [N, k, j].
    dtype : torch.dtype, optional
        Type of the factors (default: that of `b`).

    Returns
    -------
    torch.Tensor
        [N, i, j], in the type of `b`.
    """
    kept = b.dtype
    dtype = dtype or kept
    return torch.bmm(a.to(dtype), b.to(dtype)).to(kept)
