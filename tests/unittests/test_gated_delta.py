"""The gated delta rule against its published equations, written once more in
NumPy, frame by frame."""

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from speechbrain_lact.lobes.models.transformer.encoder import (
    ENCODERS,
    LaCTEncoderState,
)
from speechbrain_lact.nnet.gated_delta import GatedDelta, gated_delta_rule
from speechbrain_lact.nnet.plan import ChunkPlan

EXACT = 1e-9


def sigmoid(x):
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def published(layer, x):
    """What the layer answers to a row of frames, and its memory after it.

    Arguments
    ---------
    layer : GatedDelta
        Only its weights are read.
    x : np.ndarray
        [T, E]

    Returns
    -------
    out : np.ndarray
        [T, E]
    memory : np.ndarray
        [H, V, K]
    """
    weights = {name: w.detach().numpy() for name, w in layer.named_parameters()}
    heads, width = layer.nhead, layer.d_model
    value = weights["norm"].shape[0]
    d_k = width // heads
    projections = np.split(
        weights["in_proj.weight"],
        np.cumsum([width, width, heads * value]),
    )
    decays, strengths = np.split(weights["rate_proj.weight"], 2)
    memory = np.zeros((heads, value, d_k))
    outs = []
    for frame in x:
        q, k, v, gate = (matrix @ frame for matrix in projections)
        q, k, v = (y * sigmoid(y) for y in (q, k, v))
        answer = []
        for head in range(heads):
            keys = slice(head * d_k, (head + 1) * d_k)
            values = slice(head * value, (head + 1) * value)
            one, other = (
                y[keys] / np.sqrt(np.sum(y[keys] ** 2) + 1e-6) for y in (k, q)
            )
            rate = np.log1p(
                np.exp(decays[head] @ frame + weights["decay_bias"][head])
            )
            alpha = np.exp(-np.exp(weights["log_decay"][head]) * rate)
            beta = sigmoid(strengths[head] @ frame)
            forget = alpha * (np.eye(d_k) - beta * np.outer(one, one))
            memory[head] = memory[head] @ forget + beta * np.outer(
                v[values], one
            )
            out = memory[head] @ other
            out = out / np.sqrt(np.mean(out**2) + 1e-6) * weights["norm"]
            answer.append(out * gate[values] * sigmoid(gate[values]))
        outs.append(weights["out_proj.weight"] @ np.concatenate(answer))
    return np.array(outs), memory


def make(**options):
    """A layer whose memory matters."""
    torch.manual_seed(0)
    layer = GatedDelta(12, 3, **options).double()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    # Decays between a half and one, not nearly one all of them.
    layer.log_decay.data.uniform_(-1, 1)
    layer.decay_bias.data.uniform_(-1, 1)
    return layer


def close(got, expected):
    """The same to a part of the largest value."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= EXACT * np.abs(expected).max()


@pytest.mark.parametrize("expand_v", [1.0, 1.5])
@pytest.mark.parametrize("time", [1, 5, 64, 150])
def test_published_equations(time, expand_v, device):
    """Of a block, and of more; the memory too."""
    layer = make(expand_v=expand_v)
    x = torch.randn(2, time, 12, dtype=torch.float64)
    expected = [published(layer, row.numpy()) for row in x]
    layer, x = layer.to(device), x.to(device)
    out, _, state = layer(x, x, x, state=layer.initial_state(2))
    for row, (answer, memory) in enumerate(expected):
        close(out[row].detach().cpu().numpy(), answer)
        close(state.memory[row].detach().cpu().numpy(), memory)


def test_initial_decays():
    """As in the paper's code: A of 1 to 16, times of 0.001 to 0.1."""
    torch.manual_seed(0)
    layer = GatedDelta(64, 32)
    factor = layer.log_decay.exp()
    time = torch.nn.functional.softplus(layer.decay_bias)
    assert 1 <= factor.min() < 4 and 12 < factor.max() <= 16
    assert 9e-4 < time.min() < 4e-3 and 0.04 < time.max() < 0.101


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_blocks_change_nothing(block, device):
    """Nor do strong decays, whose quotients would overflow."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 40, 4, dtype=torch.float64, device=device)
    q, k = (torch.nn.functional.normalize(y, dim=-1) for y in (q, k))
    decay = -100 * torch.rand(2, 40, dtype=torch.float64, device=device)
    decay = decay.requires_grad_()
    strength = torch.rand(2, 40, dtype=torch.float64, device=device)
    start = torch.randn(2, 4, 4, dtype=torch.float64, device=device)
    found = []
    for size in (block, 40):
        out, memory = gated_delta_rule(
            q, k, v, decay, strength, start, block=size
        )
        (slope,) = torch.autograd.grad(out.square().sum(), decay)
        found.append((out, memory, slope))
    for got, expected in zip(*found):
        assert bool(got.isfinite().all())
        assert torch.allclose(got, expected, rtol=1e-9, atol=1e-11)


def test_padding_neither_forgets_nor_writes(device):
    """NaN there reaches neither the memory nor a gradient."""
    layer = make().to(device)
    x = torch.randn(1, 9, 12, dtype=torch.float64, device=device)
    padded = torch.nn.functional.pad(x, (0, 0, 0, 4), value=torch.nan)
    padded = padded.requires_grad_()
    mask = torch.arange(13, device=device)[None] >= 9
    start = layer.initial_state(1)
    _, _, short = layer(x, x, x, state=start)
    out, _, long = layer(
        padded, padded, padded, key_padding_mask=mask, state=start
    )
    assert torch.allclose(long.memory, short.memory, rtol=1e-12)
    assert bool((out[:, 9:] == 0).all())
    out.sum().backward()
    assert bool((padded.grad[:, 9:] == 0).all())


def test_empty_call(device):
    """No frames: the state is the same."""
    layer = make().to(device)
    x = torch.randn(2, 4, 12, dtype=torch.float64, device=device)
    _, _, state = layer(x, x, x, state=layer.initial_state(2), final=False)
    none = x[:, :0]
    out, _, after = layer(none, none, none, state=state, final=False)
    assert out.shape == (2, 0, 12)
    assert torch.equal(after.memory, state.memory)


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_encoders(kind, tmp_path, device):
    """In each encoder: it trains, and its state is saved, checked, and has
    nothing that could be kept from learning."""
    sizes = {
        "transformer": {"d_ffn": 12, "causal": True},
        "conformer": {"d_ffn": 12, "kernel_size": 5, "causal": True},
        "branchformer": {"csgu_linear_units": 12, "kernel_size": 5},
    }[kind]
    net = ENCODERS[kind](
        2, {}, mixer="gated_delta", nhead=2, d_model=8, **sizes
    ).to(device)
    x = torch.randn(2, 7, 8, device=device)
    out, _, state = net(x, state=net.initial_state(2))
    out.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(
            parameter.grad.isfinite().all()
        ), name
    state = state.detach()
    assert state.learn([True, False]).learning.tolist() == [True, True]
    assert state.updates.tolist() == state.skipped.tolist() == [0, 0]
    path = str(tmp_path / "state")
    state.save(path, {})
    like = net.initial_state(1)
    loaded = LaCTEncoderState.load(path, {}, device, like)
    memory = loaded.layers[1].mixer.memory
    assert torch.equal(memory, state.layers[1].mixer.memory)
    other = ENCODERS[kind](
        2,
        {"fast_heads": 2, "order": "apply_update"},
        nhead=2,
        d_model=8,
        **sizes,
    ).initial_state(1)
    with pytest.raises(ValueError, match="LaCTState is wanted, not GatedDelta"):
        LaCTEncoderState.load(path, {}, device, other)


class Waits(TorchDispatchMode):
    """Refuses copies between the host and a device."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default:
            free = (kwargs or {}).get("non_blocking", False)
            assert out.device.type == args[0].device.type or free
        if function is torch.ops.aten.copy_.default:
            assert args[0].device.type == args[1].device.type
        return out


def test_the_host_never_waits():
    """With a plan a call asks nothing of the device: PyTorch's fake tensors
    have no values, and raise when they are asked for one."""
    with FakeTensorMode():
        with torch.device("cuda"):
            layer = GatedDelta(8, 2)
            x = torch.randn(2, 130, 8)
        state = layer.initial_state(2)
        with Waits():
            assert layer(x, x, x)[0].shape == x.shape
            for lengths in ([130, 130], [130, 70]):
                plan = ChunkPlan(lengths, 130, x.device)
                options = {"plan": plan, "state": state, "final": False}
                out, _, state = layer(x, x, x, **options)
            assert out.device.type == state.memory.device.type == "cuda"


def test_refused():
    """What was given and what is allowed."""
    for options, message in (
        ({"d_model": 10, "nhead": 4}, "nhead=4 must divide d_model=10"),
        ({"d_model": 8, "nhead": 0}, "nhead"),
        ({"d_model": 8, "nhead": 2, "expand_v": 0}, "expand_v"),
        ({"d_model": 8, "nhead": 2, "expand_v": 0.1}, "leaves no values"),
    ):
        with pytest.raises(ValueError, match=message):
            GatedDelta(**options)
    layer, x = GatedDelta(8, 2), torch.randn(1, 3, 8)
    with pytest.raises(ValueError, match="ends: only with least_chunk"):
        layer(x, x, x, ends=torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="GatedDelta is self-attention"):
        layer(x, x.clone(), x)
    with pytest.raises(ValueError, match="GatedDeltaState is wanted"):
        layer(x, x, x, state=ENCODERS)
