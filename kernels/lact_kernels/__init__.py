"""Triton kernels of LaCT layers.

Each folder is one operation: `naive.py` is its definition in plain torch, and
`fused.py` holds kernels, host function and backward pass. `fused` modules
import triton, this package does not.

    from lact_kernels.newton_schulz.fused import newton_schulz

Mathematics, FLOPs and bytes: kernels/README.md.

Authors
* speechbrain_lact contributors 2026
"""
