"""Window attention against plain attention with a time x time mask."""

import pytest
import torch
from torch import nn

from speechbrain.nnet.attention import RoPEMHA, _rope_rotate
from speechbrain_lact.nnet.lact import LaCT
from speechbrain_lact.nnet.rotary import rotate
from speechbrain_lact.nnet.window_attention import (
    Window,
    WindowState,
    window_attention,
)

WINDOWS = [
    Window(3),
    Window(0),
    Window(5, 2),
    Window(0, 4),
    Window(200, 200),
    Window(70, 3),
    Window(0, block=4),
    Window(2, block=4),
    Window(1, block=7),
    Window(50, block=3),
    Window(3, block=1),
]
LEFT = [window for window in WINDOWS if not window.right]


def plain(q, k, v, window, scale=None):
    """Softmax over all keys of one sequence [T, H, D], rotary positions by
    complex numbers, and a mask made pair by pair."""
    time, _, width = q.shape
    turns = 10000.0 ** (-torch.arange(0, width, 2).double() / width)
    angles = torch.arange(time).double()[:, None, None] * turns
    turn = torch.polar(torch.ones_like(angles), angles).to(q.device)
    q, k = (
        torch.view_as_real(
            torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn
        ).flatten(-2)
        for x in (q, k)
    )
    scores = torch.einsum("qhd,khd->hqk", q, k) * (scale or width**-0.5)
    for i in range(time):
        for j in range(time):
            if window.block is None:
                seen = i - window.left <= j <= i + window.right
            else:
                block = i // window.block
                seen = (
                    block - window.left <= j // window.block
                    and j // window.block <= block
                )
            if not seen:
                scores[:, i, j] = -torch.inf
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)


def heads(rows, time, seed=0, device="cpu"):
    """Random queries, keys, values [3, B, T, H, D] in double."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        3, rows, time, 2, 4, generator=generator, dtype=torch.float64
    ).to(device)


def close(got, expected, bound=1e-9):
    """Two tensors, the same to a part of the largest value."""
    assert got.shape == expected.shape
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= bound, f"{worst:.2e} > {bound:.0e}"


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("time", [1, 2, 63, 65, 140])
def test_equals_plain_attention(window, time, device):
    """Ragged rows, and gradients that reach nothing else."""
    lengths = torch.tensor([time, time // 2 + 1, 0], device=device)
    x = heads(3, time, device=device).requires_grad_()
    out, _ = window_attention(*x, window, lengths=lengths)
    assert bool(out.isfinite().all())
    total, expected = 0, 0
    for row, length in enumerate(lengths.tolist()[:2]):
        weights = torch.randn(length, 2, 4).to(out)
        one = plain(*x[:, row, :length], window)
        close(out[row, :length], one)
        total = total + (out[row, :length] * weights).sum()
        expected = expected + (one * weights).sum()
    (slope,) = torch.autograd.grad(total, x, retain_graph=True)
    (right,) = torch.autograd.grad(expected, x)
    close(slope, right)


@pytest.mark.parametrize("window", LEFT, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_pieces_with_a_cache(window, seed, device):
    """Ragged pieces (whole blocks) with the cache equal the whole."""
    torch.manual_seed(seed)
    block, rows = window.block or 1, 3
    x = heads(rows, 180, seed, device)
    state = WindowState.empty(x[1])
    found, done = [[] for _ in range(rows)], [0] * rows
    for i, most in enumerate((1, 30, 0, 3, 90, 7)):
        counts = torch.randint(0, most + 1, (rows,)) // block * block
        counts = counts.clamp(max=180 // 6 * 3).to(device)
        width = int(counts.max()) + i % 2
        piece = torch.zeros(3, rows, width, 2, 4).to(x)
        for row, n in enumerate(counts.tolist()):
            piece[:, row, :n] = x[:, row, done[row] : done[row] + n]
        out, state = window_attention(
            *piece, window, lengths=counts, state=state
        )
        for row, n in enumerate(counts.tolist()):
            found[row].append(out[row, :n])
            done[row] += n
            kept = min(done[row], window.frames_left)
            assert int(state.counts[row]) == kept
            last = x[1, row, done[row] - kept : done[row]]
            cached = state.keys[row]
            assert torch.equal(cached[len(cached) - kept :], last)
    for row in range(rows):
        if done[row]:
            expected = plain(*x[:, row, : done[row]], window)
            close(torch.cat(found[row]), expected)


def test_rotation_is_that_of_speechbrain(device):
    """The same pairs of channels, the same angles."""
    x = heads(2, 50, device=device)[0]
    close(rotate(x, 0), _rope_rotate(x), 1e-12)
    # Only differences count.
    y = heads(2, 50, 1, device=device)[0]
    scores = torch.einsum("bqhd,bkhd->bhqk", rotate(x, 0), rotate(y, 0))
    moved = torch.einsum("bqhd,bkhd->bhqk", rotate(x, -900), rotate(y, -900))
    close(moved, scores)


def test_rotation_stays_exact_in_float32(device):
    """The tables are made in double, whatever the position."""
    x = heads(1, 3, device=device)[0]
    far = rotate(x.float(), 10**6)
    close(far.double(), rotate(x, 10**6), 1e-6)


def test_rotation_after_inference_mode(device):
    """Tables made under inference_mode serve training too."""
    with torch.inference_mode():
        rotate(heads(1, 37, device=device)[0], 0)
    x = heads(1, 37, device=device)[0].requires_grad_()
    rotate(x, 0).sum().backward()
    assert bool(x.grad.isfinite().all())


def copied(d_model, nhead, device):
    """RoPEMHA, and a LaCT of the same weights that sees everything."""
    torch.manual_seed(0)
    host = RoPEMHA(d_model, nhead).to(device).double()
    layer = LaCT(d_model, nhead, fast=False, window=(500, 500))
    layer = layer.to(device).double()
    # The host's fused projection interleaves query, key, value per head.
    weight = host.in_proj_weight.detach().unflatten(0, (nhead, 3, -1))
    layer.in_proj_weight = nn.Parameter(weight.transpose(0, 1).flatten(0, 2))
    layer.out_proj.load_state_dict(host.out_proj.state_dict())
    layer.scale = host.scale
    return host, layer


def test_equals_ropemha(device):
    """SpeechBrain's layer with its weights, its scale and its padding."""
    host, layer = copied(16, 2, device)
    x = torch.randn(3, 90, 16, dtype=torch.float64, device=device)
    lengths = torch.tensor([90, 41, 1], device=device)
    padding = torch.arange(90, device=device) >= lengths[:, None]
    expected, _ = host(x, x, x, key_padding_mask=padding)
    out, attn = layer(x, x, x, key_padding_mask=padding)
    assert attn is None
    close(out[~padding], expected[~padding])
    assert bool((out[padding] == 0).all())
    only = layer(x, x, x, None, padding, False)
    close(only, out, 1e-12)


def test_equals_ropemha_with_masks(device):
    """Causal and block masks are a window of ours."""
    host, layer = copied(16, 2, device)
    x = torch.randn(1, 40, 16, dtype=torch.float64, device=device)
    i, j = torch.arange(40)[:, None], torch.arange(40)[None]
    masks = {
        Window(500): j > i,
        Window(7): (j > i) | (j < i - 7),
        Window(1, block=6): (j // 6 > i // 6) | (j // 6 < i // 6 - 1),
    }
    for window, mask in masks.items():
        expected, _ = host(x, x, x, attn_mask=mask.to(device))
        out, _ = layer(x, x, x, window=window)
        close(out, expected)


def test_memory_grows_with_the_window_only(device):
    """20,000 frames: one mask or score table of time x time would be 400
    million entries; only windows of the size of a block appear."""
    x = torch.randn(3, 1, 20000, 1, 2, device=device)
    lengths = torch.tensor([20000], device=device)
    sizes = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    with Watch():
        out, _ = window_attention(*x, Window(16), lengths=lengths)
    assert max(sizes) < 20000 * 200
    part = x[:, 0, 19900:20000].double()
    expected = plain(*part, Window(16))
    assert (out[0, -50:].double() - expected[-50:]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "options,message",
    [
        ({"left": -1}, "no negative sides: left=-1, right=0"),
        ({"left": 1, "right": -2}, "no negative sides: left=1, right=-2"),
        ({"left": 1, "block": 0}, "block >= 1"),
        ({"left": 1, "right": 1, "block": 4}, "no right side"),
    ],
)
def test_bad_windows(options, message):
    """What was given and what is allowed."""
    with pytest.raises(ValueError, match=message):
        Window(**options)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_step_scale_is_a_factor_of_the_first_steps(optimizer, device):
    x = torch.randn(1, 4, 16, dtype=torch.float64, device=device)
    options = {"optimizer": optimizer, "weight_norm": "none", "chunk_size": 4}
    moved = []
    for scale in (1.0, 0.25):
        torch.manual_seed(0)
        layer = LaCT(16, 2, step_scale=scale, **options).to(x)
        _, _, state = layer(x, x, x, state=layer.initial_state(1))
        moved.append(state.fast.weights[0, :, 0] - layer.w0)
    assert moved[0].abs().max() > 1e-4
    close(moved[1], 0.25 * moved[0])


BAD = [
    ({"nhead": 3}, "nhead=3 must divide d_model=16 into even widths"),
    ({"nhead": 16}, "nhead=16 must divide"),
    ({"fast_heads": 5}, "fast_heads=5 must divide"),
    ({"causal": True}, "causal=True needs order apply_update"),
    ({"base_lr": -1.0}, "base_lr must not be negative"),
    ({"step_scale": 0.0}, "step_scale must be positive"),
    ({"window": 4, "block_window": (4, 1)}, "not both"),
    (
        {"order": "apply_update", "window": (7, 0), "chunk_size": 8},
        "a window of 7 frames to the left is shorter than the chunk of 8",
    ),
    (
        {"order": "apply_update", "block_window": (4, 1), "chunk_size": 8},
        "a window of 4 frames",
    ),
    (
        {"order": "apply_update", "causal": True, "window": (512, 1)},
        "without a right side",
    ),
    (
        {"order": "apply_update", "causal": True, "block_window": (512, 1)},
        "without a right side",
    ),
    ({"expansion": 0.01}, "leaves no hidden width"),
    # Before any data arrive.
    ({"order": "x"}, "order must be one of"),
    ({"optimizer": "x"}, "optimizer must be one of"),
    ({"weight_norm": "x"}, "weight_norm must be one of"),
    ({"inner_loss": "x"}, "inner_loss must be one of"),
    ({"chunk_size": 0}, "chunk_size must be at least 1"),
    ({"optimizer": "adam", "momentum": True}, "adam has decays of its own"),
]


@pytest.mark.parametrize("options,message", BAD)
def test_bad_options_of_lact(options, message):
    """What was given and what is allowed, when the layer is built."""
    with pytest.raises(ValueError, match=message):
        LaCT(**{"d_model": 16, "nhead": 2, **options})


def test_bad_calls_of_lact(device):
    """Self-attention without masks but padding behind."""
    layer = LaCT(16, 2, chunk_size=4).to(device)
    x = torch.randn(1, 8, 16, device=device)
    with pytest.raises(ValueError, match="self-attention"):
        layer(x, x.clone(), x)
    with pytest.raises(ValueError, match="no attn_mask"):
        layer(x, x, x, attn_mask=torch.zeros(8, 8, device=device))
    padding = torch.zeros(1, 8, dtype=torch.bool, device=device)
    padding[0, 2] = True
    with pytest.raises(ValueError, match="after the last real frame"):
        layer(x, x, x, key_padding_mask=padding)


def test_window_of_a_call_in_pieces(device):
    """A block window given for the call groups the frames of that call."""
    layer = LaCT(
        16, 2, chunk_size=4, order="apply_update", window=(8, 0), fast_heads=2
    )
    layer = layer.to(device).double()
    window = Window(2, block=5)
    x = torch.randn(1, 20, 16, dtype=torch.float64, device=device)
    whole, _ = layer(x, x, x, window=window)
    state, found = layer.initial_state(1), []
    for i, part in enumerate(x.split(3, 1)):
        out, _, state = layer(
            part, part, part, state=state, final=i == 6, window=window
        )
        found.append(out)
    close(torch.cat(found, 1), whole)


def test_frozen_memory_makes_no_update(device):
    """base_lr 0 freezes the fast weights whatever the optimiser."""
    for optimizer in ("sgd", "adam", "muon"):
        layer = LaCT(16, 2, chunk_size=4, optimizer=optimizer, base_lr=0.0).to(
            device
        )
        x = torch.randn(1, 12, 16, device=device)
        _, _, state = layer(x, x, x, state=layer.initial_state(1))
        close(state.fast.weights[0, :, 0], layer.w0, 1e-4)
        close(state.fast.weights[0, :, 2].mT, layer.w1, 1e-4)
