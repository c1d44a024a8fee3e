"""What the host knows of a call: counts, plans, and calls that ask a device
nothing.

A device that is not there is pretended by PyTorch's fake tensors, which have
no values: whatever asks for one raises.
"""

import pytest
import torch
from hypothesis import (
    given,
    strategies as st,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_lact.lobes.models.transformer.encoder import ENCODERS
from speechbrain_lact.nnet.counts import count_tensor, host_values, known_values
from speechbrain_lact.nnet.fast_network import row_norms
from speechbrain_lact.nnet.fast_optim import UpdateRule, update
from speechbrain_lact.nnet.lact import LaCT
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.rotary import _turns

ORDERS = ("apply_update", "update_apply", "bidirectional")


class Waits(TorchDispatchMode):
    """Refuses what waits for the device: copies between it and the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        options = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            source, free = args[0], options.get("non_blocking", False)
            moved = out.device.type != source.device.type
            assert not moved or (free and source.device.type == "cpu")
        if function is torch.ops.aten.copy_.default:
            assert args[0].device.type == args[1].device.type
        return out


@pytest.fixture
def no_turns():
    """No rotary turns are kept: a pretended device's fit no other."""
    _turns.cache_clear()
    yield
    _turns.cache_clear()


def lact(order, **options):
    """A layer with chunks of 16 frames."""
    window = (16, 0) if order != "bidirectional" else (16, 16)
    options = {"chunk_size": 16, "window": window, **options}
    return LaCT(32, 4, order=order, **options)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("grad", [True, False])
def test_a_layer_asks_nothing(order, optimizer, grad, no_turns):
    """Padded or not, with a state or without, in pieces and frame by frame."""
    with FakeTensorMode(), torch.device("cuda"), torch.set_grad_enabled(grad):
        layer = lact(order, optimizer=optimizer)
        x = torch.randn(2, 50, 32)
        with Waits():
            assert layer(x, x, x)[0].device.type == "cuda"
            for lengths in ([50, 50], [50, 31]):
                plan = ChunkPlan(lengths, 50, x.device)
                assert layer(x, x, x, plan=plan)[0].shape == x.shape
            if order == "bidirectional":
                return
            # In `update_apply` order frames come in whole chunks.
            state = layer.initial_state(2)
            for lengths in ([48, 32], [16, 16], [32, 0]):
                y = x[:, : max(lengths)]
                plan = ChunkPlan(lengths, y.shape[1], x.device)
                options = {"plan": plan, "state": state, "final": False}
                state = layer(y, y, y, **options)[2]
            state = state.detach().index([1, 0, 1]).to("cuda")
            for width in (5, 1, 1) if order == "apply_update" else ():
                y = torch.randn(3, width, 32)
                plan = ChunkPlan([width] * 3, width, x.device)
                options = {"plan": plan, "state": state, "final": False}
                out, _, state = layer(y, y, y, **options)
                assert host_values(state.lengths) == (width,) * 3


@pytest.mark.parametrize("kind", ["transformer", "conformer"])
def test_an_encoder_asks_nothing_of_what_it_is_given(kind, no_turns):
    """All its layers have the one plan; then it asks once, how many updates
    were left out, which no fake tensor knows."""
    options = {"d_ffn": 32, "nhead": 2, "d_model": 16}
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        net = ENCODERS[kind](3, {"chunk_size": 16}, **options)
        x = torch.randn(2, 50, 16)
        plan, asked = ChunkPlan([50, 31], 50, x.device), []
        plan.report = lambda: asked.append(True)
        with Waits():
            out = net(x, plan=plan)[0]
    assert out.shape == x.shape and asked == [True]


@pytest.mark.parametrize("order", ORDERS)
def test_compiled_whole(order, device):
    """One graph, the same outputs and gradients."""
    torch.manual_seed(1)
    layer = lact(order).double().to(device)
    x = torch.randn(2, 50, 32, dtype=torch.float64, device=device)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    found = []
    for call in (layer, compiled):
        out = call(x, x, x)[0]
        slopes = torch.autograd.grad(out.square().sum(), layer.parameters())
        found.append([out, *slopes])
    for got, wanted in zip(*found):
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_poison_when_compiled(optimizer, device):
    """Of a row that is not finite nothing is learned, and no gradient comes
    from it, as without torch.compile."""
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "device": device}
    weights, moment, square = torch.rand(3, 2, 12, 5, **options)
    k, v = torch.randn(2, 2, 7, 5, **options)
    k[1, 3, 2] = torch.nan
    given = [weights, moment, square, k, v, torch.rand(2, 7, 4, **options)]
    rule = UpdateRule(optimizer, chunk_size=7)
    steps = torch.ones(2, dtype=torch.long, device=device)

    def learn(weights, moment, square, k, v, gates):
        square = square if optimizer == "adam" else None
        targets = row_norms(weights)
        return update(
            rule, weights, moment, square, targets, k, v, gates, steps=steps
        )

    found = []
    for call in (learn, torch.compile(learn, fullgraph=True, backend="eager")):
        inputs = [x.clone().requires_grad_() for x in given]
        weights, moment, _, good = call(*inputs)
        assert good.flatten().tolist() == [True, False]
        assert torch.equal(weights[1], inputs[0][1])
        total = weights.sum() + moment.square().sum()
        slopes = torch.autograd.grad(total, inputs, materialize_grads=True)
        found.append([weights, moment, *slopes])
    for got, wanted in zip(*found):
        assert bool(got.isfinite().all())
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-12)


# Before layers had plans they were 461, 4,747 and 101, as
# `benchmarks/layer_calls.py` counts them.
@pytest.mark.parametrize(
    "case,most", [("whole", 320), ("chunks", 3000), ("frame", 85)]
)
def test_number_of_operations(case, most):
    """Each is a launch on a device."""

    class Count(TorchDispatchMode):
        """Counts operations, views among them."""

        number = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.number += 1
            return function(*args, **(kwargs or {}))

    x = torch.randn(2, 1024, 128)
    layer, options, lengths = LaCT(128, 4, chunk_size=512), {}, [1024, 1024]
    if case != "whole":
        causal = {"order": "apply_update", "causal": True, "chunk_size": 32}
        layer, lengths = LaCT(128, 4, **causal), [1024, 900]
        options = {"state": layer.initial_state(2), "final": False}
    with torch.no_grad():
        if case == "frame":
            options["state"] = layer(*(x[:, :70],) * 3, **options)[2]
            x, lengths = x[:, :1], [1, 1]
        plan, count = ChunkPlan(lengths, x.shape[1], x.device), Count()
        layer(x, x, x, plan=plan, **options)
        with count:
            layer(x, x, x, plan=plan, **options)
    assert count.number <= most


@given(st.lists(st.integers(-3, 9), min_size=1, max_size=4))
def test_counts_are_known(values):
    made = count_tensor(values, "cpu")
    assert made.tolist() == values and known_values(made) == tuple(values)
    # What is changed in place is not known any more.
    made += 1
    assert known_values(made) is None
    assert host_values(made) == tuple(value + 1 for value in values)
