"""What one call of a LaCT layer costs beside its arithmetic: how often the host
waits for the device, tensor operations, and breaks of torch.compile's graph.

> python benchmarks/layer_calls.py

Each wait stalls a GPU. They are counted on the CPU, as questions to a tensor
(`item`, `tolist`, `bool`, `int`, `cpu`). Operations are those that PyTorch
dispatches, views among them. A layer is given the plan of its encoder's call,
and so are the ones counted here, by a second layer with the same plan.

Authors
* speechbrain_lact contributors 2026
"""

import torch
from tabulate import tabulate
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_lact.nnet.lact import LaCT
from speechbrain_lact.utils.machine import about

try:
    from speechbrain_lact.nnet.plan import ChunkPlan
except ImportError:  # before there were plans
    ChunkPlan = None

WAITS = (
    "item tolist cpu numpy nonzero __bool__ __int__ __float__ __index__ equal"
).split()


class Waits(TorchFunctionMode):
    """Counts questions of the host."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in WAITS
        return function(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    """Counts operations."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def cases(width=128, rows=2, time=1024):
    """Name, layer and arguments of each call."""
    x = torch.randn(rows, time, width)
    lengths = [time, time - 124][:rows]
    padding = torch.arange(time) >= torch.tensor(lengths)[:, None]
    whole = LaCT(width, 4, chunk_size=512)
    yield "1,024 frames, chunk 512", whole, x, {}, [time] * rows
    causal = LaCT(width, 4, chunk_size=32, order="apply_update", causal=True)
    state = causal.initial_state(rows)
    options = {"state": state, "final": False}
    masked = {**options, "key_padding_mask": padding}
    yield "causal, chunk 32, mask and state", causal, x, masked, lengths
    part = x[:, :70]
    options["state"] = causal(part, part, part, **options)[2]
    yield "a single frame", causal, x[:, :1], options, [1] * rows


def call(layer, x, options, lengths, plan=None):
    """One call; with a plan, as an encoder makes it."""
    if plan is not None:
        options = {k: v for k, v in options.items() if "padding" not in k}
        options["plan"] = plan
    return layer(x, x, x, **options)


def breaks(layer, x, options, lengths):
    """Breaks of the graph, when torch.compile traces the call."""
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch._dynamo.explain(call)(layer, x, options, lengths)
    return found.graph_break_count


def main():
    torch.manual_seed(0)
    rows = []
    for name, layer, x, options, lengths in cases():
        plan = ChunkPlan and ChunkPlan(lengths, x.shape[1], x.device)
        with torch.no_grad():
            call(layer, x, options, lengths, plan)
            with Waits() as waits:
                call(layer, x, options, lengths, plan)
            with Operations() as operations:
                call(layer, x, options, lengths, plan)
        rows.append(
            [
                name,
                waits.count,
                operations.count,
                breaks(layer, x, options, lengths),
            ]
        )
    print(about())
    titles = ["call", "waits", "operations", "graph breaks"]
    print(tabulate(rows, titles, tablefmt="github", intfmt=","))


if __name__ == "__main__":
    main()
