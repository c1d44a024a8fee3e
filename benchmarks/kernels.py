#!/usr/bin/env python3
"""Time of each kernel against torch, eager and compiled.

Inputs and sums in float32, products in the type given. A call is timed as the
median of several, after warming up; the torch side is what runs without the
kernels (`speechbrain_lact.nnet`). Without a GPU the kernels run under Triton's
interpreter: then it is only seen that this program works.

> python benchmarks/kernels.py [--dry-run] [--out FILE.json]

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import os
from pathlib import Path

import torch

from speechbrain_lact.nnet.fast_network import (
    apply_parts,
    fast_weight_gradient,
    parts,
    scale_rows,
)
from speechbrain_lact.nnet.fast_optim import polar
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

TYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def cases(rows, width, length, dtype, device):
    """Of each kernel's name: the kernel, the same in torch, and their inputs,
    for networks as wide as they are high."""
    # Imported late: the interpreter is switched on first.
    from lact_kernels.newton_schulz.fused import newton_schulz
    from lact_kernels.prologue.fused import prologue
    from lact_kernels.prologue.naive import prologue as plain_prologue
    from lact_kernels.swiglu_apply.fused import swiglu_apply
    from lact_kernels.swiglu_gradient.fused import swiglu_gradient
    from lact_kernels.update_norm.fused import update_norm

    def draw(*shape):
        return torch.randn(*shape, device=device, requires_grad=True)

    weights, step = draw(rows, 3 * width, width), draw(rows, 3 * width, width)
    x, v = draw(rows, length, width), draw(rows, length, width)
    rates, norms = draw(rows, length, 3), draw(rows, 3 * width)
    shape = rows, 3, width, width
    projected, channels = draw(rows, length, 3 * width), draw(2, width)

    def plain_update(w, s, t):
        into, out = t[:, : 2 * width, None], t[:, None, 2 * width :]
        return scale_rows(w + s, (into, out))

    return {
        "newton_schulz": (
            lambda m: newton_schulz(m, dtype),
            lambda m: polar(m, dtype),
            [draw(3 * rows, width, width)],
        ),
        "swiglu_apply": (
            lambda w, a: swiglu_apply(w, a, dtype),
            lambda w, a: apply_parts(parts(w), a, dtype),
            [weights, x],
        ),
        "swiglu_gradient": (
            lambda w, a, b, r: swiglu_gradient(w, a, b, r, dtype),
            lambda w, a, b, r: fast_weight_gradient(
                w.view(shape), a, b, r, dtype=dtype
            ).flatten(1, 2),
            [weights, x, v, rates],
        ),
        "update_norm": (
            lambda w, s, t: update_norm(w, s, None, t),
            plain_update,
            [weights, step, norms],
        ),
        "prologue": (
            lambda p, a, b: prologue(p, a, b, 1),
            lambda p, a, b: plain_prologue(p, a, b, 1),
            [projected, channels, channels],
        ),
    }


def milliseconds(call, device, repeat):
    """Median time of a call."""
    if device == "cpu":
        call()
        return float("nan")  # The interpreter's time says nothing.
    from triton.testing import do_bench

    return do_bench(call, rep=repeat, return_mode="median")


def measure(function, inputs, device, repeat):
    """Times of a forward pass, and of forward and backward pass."""
    with torch.no_grad():
        forward = milliseconds(lambda: function(*inputs), device, repeat)
    grad = torch.ones_like(function(*inputs))

    def both():
        torch.autograd.grad(function(*inputs), inputs, grad)

    return forward, milliseconds(both, device, repeat)


def agree(kernel, plain, inputs):
    """Largest difference over the largest value."""
    with torch.no_grad():
        want = plain(*inputs)
        error = (kernel(*inputs) - want).abs().max() / want.abs().max()
    return float(error)


def main():
    """Prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rows", type=int, default=64, help="networks: batch x heads")
    add("--widths", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    add("--length", type=int, default=512, help="frames of a chunk")
    add("--products", nargs="+", default=["bfloat16", "float32"], choices=TYPES)
    add("--repeat", type=int, default=100, help="milliseconds of each timing")
    add("--compiled", action="store_true", help="torch.compile beside eager")
    add("--out", type=Path, help="JSON file to write")
    add("--dry-run", action="store_true", help="one tiny size")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        if not args.dry_run:
            parser.error("there is no GPU: --dry-run alone")
        os.environ["TRITON_INTERPRET"] = "1"
    if args.dry_run:
        args.rows, args.widths, args.length = 1, [12], 7
        args.products = ["float32"]
    found = []
    for kind in args.products:
        for width in args.widths:
            given = args.rows, width, args.length, TYPES[kind], device
            for name, (kernel, plain, inputs) in cases(*given).items():
                ways = {"triton": kernel, "torch": plain}
                if args.compiled:
                    ways["compiled"] = torch.compile(plain)
                row = {"kernel": name, "products": kind, "width": width}
                for way, function in ways.items():
                    times = measure(function, inputs, device, args.repeat)
                    row[f"{way} forward"] = round(times[0], 4)
                    row[f"{way} step"] = round(times[1], 4)
                row["difference"] = f"{agree(kernel, plain, inputs):.1e}"
                found.append(row)
                print(row, flush=True)
    print()
    print(markdown_table(found))
    if args.out is not None:
        name = torch.cuda.get_device_name() if device == "cuda" else device
        facts = {"device": name, "machine": machine.about(), "rows": found}
        args.out.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
