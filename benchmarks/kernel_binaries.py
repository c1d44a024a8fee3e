#!/usr/bin/env python3
"""What the kernels need of a GPU that need not be there.

Every kernel is compiled as the host functions would launch it, by Triton and
its own ptxas: registers, spilled bytes and shared memory of a program. Nothing
is run, and no speed is measured.

> python benchmarks/kernel_binaries.py [--capability 90] [--widths 32 64 128]

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import contextlib
import re
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import torch
import triton
from lact_kernels.newton_schulz import fused as newton_schulz
from lact_kernels.prologue import fused as prologue
from lact_kernels.swiglu_apply import fused as swiglu_apply
from lact_kernels.swiglu_gradient import fused as swiglu_gradient
from lact_kernels.update_norm import fused as update_norm
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from speechbrain_lact.utils.tables import markdown_table

MODULES = newton_schulz, prologue, swiglu_apply, swiglu_gradient, update_norm
POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
}
PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
# Factors of the products: type, and torch's precision of float32.
PRODUCTS = {
    "bfloat16": (torch.bfloat16, "highest"),
    "tf32": (None, "high"),
    "float32": (None, "highest"),
}


class Recorder:
    """Takes a kernel's place and keeps how it was launched."""

    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        def launch(*args, **options):
            names = self.kernel.arg_names
            given = {**dict(zip(names, args)), **options}
            self.launches.append((self.kernel, given))

        return launch


@contextlib.contextmanager
def recorded(launches):
    """No kernel runs meanwhile."""
    with contextlib.ExitStack() as stack:
        for module in MODULES:
            for name in dir(module):
                if name.endswith("_kernel"):
                    recorder = Recorder(getattr(module, name), launches)
                    stack.enter_context(
                        mock.patch.object(module, name, recorder)
                    )
        yield


def launches(width, dtype):
    """How the kernels are launched, forward and backward, for networks of this
    width and chunks of 512 frames."""
    found = []
    with recorded(found):
        w = torch.zeros(2, 3 * width, width, requires_grad=True)
        x = torch.zeros(2, 512, width, requires_grad=True)
        rates = torch.zeros(2, 512, 3, requires_grad=True)
        norms = torch.zeros(2, 3 * width, requires_grad=True)
        scale = torch.zeros(2, 2 * width, requires_grad=True)
        for out in (
            newton_schulz.newton_schulz(w[:, :width], dtype),
            swiglu_apply.swiglu_apply(w, x, dtype),
            swiglu_gradient.swiglu_gradient(w, x, x, rates, dtype),
            update_norm.update_norm(w, w, rates[:, 0, 0], norms),
            update_norm.finite_select([w], [w])[0][0],
            prologue.prologue(torch.zeros(2, 512, 6 * width), scale, scale, 2),
        ):
            out.sum().backward()
    return found


def compiled(kernel, given, capability):
    """Shared memory, registers and spilled bytes of a launch."""
    signature, constants, hints = {}, {}, {}
    for i, (name, param) in enumerate(zip(kernel.arg_names, kernel.params)):
        value = given[name]
        if param.is_constexpr or (type(value) is int and value == 1):
            # Triton makes a constant of a 1, too.
            signature[name], constants[i,] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = POINTERS[value.dtype]
            hints[i,] = [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % 16 == 0:
                hints[i,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    options = {
        name: given[name]
        for name in ("num_warps", "num_stages")
        if name in given
    }
    binary = triton.compile(
        ASTSource(kernel, signature, constants, hints),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(binary.asm["ptx"])
        file.flush()
        suffix = "a" if capability >= 90 else ""
        said = subprocess.run(
            [PTXAS, "-v", f"-arch=sm_{capability}{suffix}", file.name]
            + ["-o", "/dev/null"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    registers = int(re.search(r"Used (\d+) registers", said)[1])
    spilled = int(re.search(r"(\d+) bytes spill stores", said)[1])
    return binary.metadata.shared, registers, spilled


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--capability", type=int, default=90, help="90: H100; 80: A100")
    add("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    add("--products", nargs="+", default=list(PRODUCTS), choices=PRODUCTS)
    args = parser.parse_args()
    rows, seen = [], set()
    for kind in args.products:
        dtype, precision = PRODUCTS[kind]
        torch.set_float32_matmul_precision(precision)
        for width in args.widths:
            for kernel, given in launches(width, dtype):
                name = kernel.__name__.removesuffix("_kernel")
                sizes = {k: v for k, v in given.items() if k.isupper()}
                key = name, str(sizes), given.get("num_warps")
                if key in seen:
                    continue
                seen.add(key)
                needs = compiled(kernel, given, args.capability)
                warps = given.get("num_warps", 4)
                rows.append([name, kind, width, warps, *needs])
                print(*rows[-1], flush=True)
    head = ["kernel", "products", "width", "warps"]
    head += ["shared bytes", "registers", "spilled bytes"]
    print(f"\nsm_{args.capability}, Triton {triton.__version__}\n")
    print(markdown_table(rows, head))


if __name__ == "__main__":
    main()
