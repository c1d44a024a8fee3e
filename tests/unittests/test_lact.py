"""The whole layer against its equations, written again in NumPy.

The oracle goes from the input to the output frame by frame and matrix by
matrix, and shares nothing with the package: the gradient of the inner loss
is taken by complex steps from the loss itself. Sources: arXiv:2505.23884 for
the memory, arXiv:2104.09864 for rotary positions (neighbouring channels form
a pair, as in SpeechBrain's RoPEMHA).

Authors
* speechbrain_lact contributors 2026
"""

import math

import numpy as np
import pytest
import torch

from speechbrain_lact.nnet.lact import LaCT

QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def network(w0, w1, w2, x):
    """f_W(x) for one frame."""
    return w1 @ (silu(w0 @ x) * (w2 @ x))


def loss(w0, w1, w2, k, v, kind):
    """Inner loss of one frame with rate 1."""
    value = network(w0, w1, w2, k)
    if kind == "mse":
        return ((value - v) ** 2).sum() / 2
    return -(value * v).sum()


def downhill(weights, which, k, v, kind):
    """Minus the gradient of the loss of one frame by one matrix: the
    imaginary part of the loss after an imaginary step is exact to rounding."""
    out = np.zeros(weights[which].shape)
    for place in np.ndindex(out.shape):
        moved = [w.astype(complex) for w in weights]
        moved[which][place] += 1e-30j
        out[place] = -loss(*moved, k, v, kind).imag / 1e-30
    return out


def polar(x):
    """Five Newton-Schulz steps."""
    if x.shape[0] > x.shape[1]:
        return polar(x.T).T
    x = x / (math.sqrt((x * x).sum()) + 1e-7)
    for a, b, c in QUINTIC:
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x


def rows_scaled(w, target):
    """Each row with its target norm."""
    norms = np.sqrt((w * w).sum(1, keepdims=True))
    return w / (norms + 1e-5) * target


def turned(x, place):
    """A head [D] with rotary positions at a place."""
    out = np.empty_like(x)
    for pair in range(len(x) // 2):
        angle = place * 10000 ** (-2 * pair / len(x))
        a, b = x[2 * pair], x[2 * pair + 1]
        out[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def attention(q, k, v, sees):
    """One head [T, D] of window attention."""
    out = np.zeros_like(v)
    for t in range(len(q)):
        near = [s for s in range(len(q)) if sees(t, s)]
        scores = np.array([turned(q[t], t) @ turned(k[s], s) for s in near])
        scores = np.exp(scores / math.sqrt(q.shape[1]))
        out[t] = (scores[:, None] * v[near]).sum(0) / scores.sum()
    return out


def remember(q, k, v, rates, decays, weights, scale, options):
    """Outputs of one fast network [T, d]: what is read at each frame."""
    chunk, order = options["chunk_size"], options["order"]
    optimizer, norm = options["optimizer"], options["weight_norm"]
    kind = options["inner_loss"]
    master = [w.copy() for w in weights]
    targets = [np.sqrt((w * w).sum(1, keepdims=True)) for w in weights]
    used, out = list(master), np.zeros_like(v)
    moments = [np.zeros_like(w) for w in weights]
    squares = [np.zeros_like(w) for w in weights]
    count = 0
    for first in range(0, len(q), chunk):
        frames = range(first, min(first + chunk, len(q)))
        if order == "apply_update":
            for t in frames:
                out[t] = network(*used, q[t])
        count += 1
        share = len(frames) / chunk
        steps = []
        for i in range(3):
            gradient = sum(
                rates[t, i] * downhill(used, i, k[t], v[t], kind)
                for t in frames
            )
            if optimizer == "adam":
                moments[i] = 0.9 * moments[i] + 0.1 * gradient
                squares[i] = 0.99 * squares[i] + 0.01 * gradient**2
                mean = moments[i] / (1 - 0.9**count)
                square = squares[i] / (1 - 0.99**count)
                step = options["base_lr"] * mean / np.sqrt(square + 1e-12)
            else:
                beta = np.mean([decays[t] for t in frames])
                moments[i] = gradient + beta * moments[i]
                step = moments[i]
            if optimizer == "muon":
                step = polar(step)
            if optimizer != "sgd":
                step = step * share
            steps.append(scale * step)
        master = [w + step for w, step in zip(master, steps)]
        used = master
        if norm != "none":
            used = [rows_scaled(w, t) for w, t in zip(master, targets)]
        if norm == "post":
            master = used
        if order == "update_apply":
            for t in frames:
                out[t] = network(*used, q[t])
    if order == "bidirectional":
        for t in range(len(q)):
            out[t] = network(*used, q[t])
    return out


def oracle(layer, x, sees, options):
    """Output of a layer [T, E] for one sequence."""
    p = {
        name: value.detach().numpy()
        for name, value in layer.state_dict().items()
    }
    length, width = x.shape
    qkv = x @ p["in_proj_weight"].T
    if "in_proj_bias" in p:
        qkv = qkv + p["in_proj_bias"]
    q, k, v = qkv[:, :width], qkv[:, width : 2 * width], qkv[:, 2 * width :]
    total = np.zeros((length, width))
    size = width // options["nhead"]
    for head in range(options["nhead"]):
        part = slice(head * size, (head + 1) * size)
        total[:, part] += attention(q[:, part], k[:, part], v[:, part], sees)
    heads = options["fast_heads"]
    size = width // heads
    low = x @ p["lr_proj.weight"].T + p["lr_proj.bias"]
    start = math.log(math.exp(options["base_lr"]) - 1)
    rates = np.log1p(np.exp(low + start))
    gates = silu(x @ p["gate_proj.weight"].T + p["gate_proj.bias"])
    decays = np.zeros((length, heads))
    if "momentum_proj.weight" in p:
        decays = sigmoid(
            x @ p["momentum_proj.weight"].T + p["momentum_proj.bias"]
        )
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        fast_q = q * p["qk_scale"][0] + p["qk_offset"][0]
        fast_k = k * p["qk_scale"][1] + p["qk_offset"][1]
        fast_q, fast_k = silu(fast_q[:, part]), silu(fast_k[:, part])
        for y in (fast_q, fast_k):
            y /= np.sqrt((y * y).sum(1, keepdims=True)) + 1e-5
        fast_v = v[:, part]
        if options["silu_values"]:
            fast_v = silu(fast_v)
        read = remember(
            fast_q,
            fast_k,
            fast_v,
            # Of each head: the rates of W0, W1, W2.
            rates[:, 3 * head : 3 * head + 3],
            decays[:, head],
            [p[name][head] for name in ("w0", "w1", "w2")],
            p["step_scale"][head],
            options,
        )
        mean = (read * read).mean(1, keepdims=True)
        read = read / np.sqrt(mean + 1e-5) * p["fast_norm"]
        total[:, part] += gates[:, head : head + 1] * read
    return total @ p["out_proj.weight"].T + p["out_proj.bias"]


def make(seed=0, **options):
    """A layer whose parameters are all drawn, none at a special value."""
    given = {
        "chunk_size": 4,
        "order": "update_apply",
        "optimizer": "muon",
        "weight_norm": "post",
        "inner_loss": "dot_product",
        "base_lr": 0.1,
        "silu_values": True,
        "nhead": 2,
        "fast_heads": 2,
        **options,
    }
    layer = LaCT(8, **given).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in layer.named_parameters():
            drawn = torch.randn(value.shape, generator=draw).double()
            around = 1 if name in ("qk_scale", "fast_norm", "step_scale") else 0
            value.copy_(around + 0.5 * drawn)
    return layer, given


def check(layer, options, sees, length=11, seed=1):
    """The layer gives what the oracle gives."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(1, length, 8, generator=draw).double()
    with torch.no_grad():
        out, _ = layer(x, x, x)
    expected = oracle(layer, x[0].numpy(), sees, options)
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize(
    "order", ["apply_update", "update_apply", "bidirectional"]
)
def test_orders_and_optimizers(order, optimizer):
    window = (5, 2)
    layer, options = make(order=order, optimizer=optimizer, window=window)
    check(layer, options, lambda t, s: t - 5 <= s <= t + 2)


@pytest.mark.parametrize(
    "option",
    [
        {"weight_norm": "pre"},
        {"weight_norm": "none"},
        {"inner_loss": "mse"},
        {"silu_values": False},
        {"bias": True},
        {"expansion": 1.5},
        {"expansion": 0.5},
        {"momentum": False},
        {"fast_heads": 1},
        {"fast_heads": 4},
        {"nhead": 4},
        {"chunk_size": 1},
        {"chunk_size": 11},
        {"chunk_size": 20},
    ],
    ids=str,
)
def test_options(option):
    layer, options = make(window=(3, 3), **option)
    check(layer, options, lambda t, s: abs(t - s) <= 3)


def test_causal():
    layer, options = make(order="apply_update", causal=True, window=(4, 0))
    check(layer, options, lambda t, s: t - 4 <= s <= t)


def test_block_window():
    layer, options = make(order="apply_update", block_window=(3, 2))
    check(layer, options, lambda t, s: t // 3 - 2 <= s // 3 <= t // 3)


@pytest.mark.parametrize("length", [1, 3, 4, 5])
def test_lengths_about_a_chunk(length):
    layer, options = make(window=(2, 2))
    check(layer, options, lambda t, s: abs(t - s) <= 2, length)


def test_a_utterance_after_another():
    """The memory goes on: what was learned is what the next one begins with,
    window and places begin anew."""
    layer, options = make(order="update_apply", window=(2, 2))
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(1, 12, 8, generator=draw).double()
    state = layer.initial_state(1)
    parts = []
    with torch.no_grad():
        # Two whole chunks, then one: chunks as in one sequence.
        for part in x.split([8, 4], 1):
            out, _, state = layer(part, part, part, state=state)
            parts.append(out[0].numpy())
    expected = oracle(
        layer,
        x[0].numpy(),
        lambda t, s: abs(t - s) <= 2 and (t < 8) == (s < 8),
        options,
    )
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-9)
