"""The scan over chunks against its equations, written again here."""

import dataclasses
import logging

import pytest
import torch
import torch.nn.functional as F

from speechbrain_lact.nnet.fast_network import (
    INNER_LOSSES,
    fast_weight_apply,
    fast_weight_gradient,
)
from speechbrain_lact.nnet.fast_optim import adam, clip_norm, polar
from speechbrain_lact.nnet.fast_weight import fast_weight_scan
from speechbrain_lact.nnet.lact import LaCT

NAMES = ("w0", "w1", "w2", "q", "k", "v", "lr0", "lr1", "lr2")


def example(rows=2, length=11, width=4, hidden=6, seed=0, **kwargs):
    """Arguments of the scan, in double, that ask for gradients."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    made = {
        "w0": draw(rows, hidden, width),
        "w1": draw(rows, width, hidden),
        "w2": draw(rows, hidden, width),
    }
    for name in "qkv":
        made[name] = draw(rows, length, width)
    for name in ("lr0", "lr1", "lr2"):
        made[name] = 0.1 * draw(rows, length, 1).sigmoid()
    made["momentum"] = draw(rows, length, 1).sigmoid()
    return {name: x.to(**kwargs).requires_grad_() for name, x in made.items()}


# The inner losses of frames [*, d], written out.
LOSSES = {
    "dot_product": lambda value, v: -(value * v).sum(-1),
    "mse": lambda value, v: (value - v).square().sum(-1) / 2,
    "cosine": lambda value, v: (
        -(value * v).sum(-1) / (value.norm(dim=-1) * v.norm(dim=-1))
    ),
}


def scan(inputs, momentum=True, **options):
    """The scan with or without momentum."""
    options.setdefault("chunk_size", 4)
    if momentum:
        options["momentum"] = inputs["momentum"]
    return fast_weight_scan(*(inputs[name] for name in NAMES), **options)


def network(w0, w1, w2, x):
    """f_W(x) = W1 [silu(W0 x) * (W2 x)], frame by frame."""
    return torch.stack(
        [w1 @ (F.silu(w0 @ frame) * (w2 @ frame)) for frame in x]
    )


def newton_schulz(gradient):
    """The published iteration on one matrix."""
    x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    x = x / (x.pow(2).sum().sqrt() + 1e-7)
    for a, b, c in (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if gradient.shape[0] > gradient.shape[1] else x


def published(inputs, chunk, order, muon, momentum, norm, loss="dot_product"):
    """Outputs [N, L, d] by autograd of the inner loss, a row at a time."""
    outputs = []
    for row in range(len(inputs["q"])):
        one = {name: x[row] for name, x in inputs.items()}
        main = [one["w0"], one["w1"], one["w2"]]
        targets = [w.norm(dim=1, keepdim=True) for w in main]
        used, moments, answers = list(main), [0.0, 0.0, 0.0], []
        length = len(one["q"])
        for first in range(0, length, chunk):
            part = slice(first, min(first + chunk, length))
            real = part.stop - first
            q, k, v = (one[name][part] for name in "qkv")
            rates = [one[name][part] for name in ("lr0", "lr1", "lr2")]
            if order == "apply_update":
                answers.append(network(*used, q))

            steps = []
            for i in range(3):
                # A learning rate for each matrix: three losses.
                value = network(*used, k)
                inner = LOSSES[loss](value, v)[:, None]
                (slope,) = torch.autograd.grad(
                    (rates[i] * inner).sum(), used[i], create_graph=True
                )
                steps.append(-slope)
            if momentum:
                beta = one["momentum"][part].mean()
                steps = [s + beta * m for s, m in zip(steps, moments)]
                moments = steps
            if muon:
                steps = [newton_schulz(s) * real / chunk for s in steps]
            main = [w + s for w, s in zip(main, steps)]
            used = [
                w
                if norm == "none"
                else w / (w.norm(dim=1, keepdim=True) + 1e-5) * target
                for w, target in zip(main, targets)
            ]
            if norm == "post":
                main = used
            if order == "update_apply":
                answers.append(network(*used, q))
        if order == "bidirectional":
            answers.append(network(*used, one["q"]))
        outputs.append(torch.cat(answers))
    return torch.stack(outputs)


def close(got, expected, bound=1e-9):
    """Two tensors, the same to a part of the largest value."""
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= bound, f"{worst:.2e} > {bound:.0e}"


def gradients(out, inputs):
    """Gradients of a fixed random functional, flattened together."""
    generator = torch.Generator().manual_seed(9)
    weights = torch.randn(out.shape, generator=generator).to(out)
    found = torch.autograd.grad(
        (out * weights).sum(),
        list(inputs.values()),
        retain_graph=True,
        materialize_grads=True,
    )
    return torch.cat([x.flatten() for x in found])


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11, 16])
@pytest.mark.parametrize("norm", ["post", "pre", "none"])
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize(
    "order", ["apply_update", "update_apply", "bidirectional"]
)
def test_published_equations(length, norm, momentum, muon, order, device):
    """Outputs and gradients equal the equations, by autograd."""
    inputs = example(length=length, device=device)
    out, _ = scan(
        inputs,
        momentum,
        order=order,
        optimizer="muon" if muon else "sgd",
        weight_norm=norm,
        final=True,
    )
    expected = published(inputs, 4, order, muon, momentum, norm)
    close(out, expected)
    close(gradients(out, inputs), gradients(expected, inputs))


@pytest.mark.parametrize("muon", [False, True])
@pytest.mark.parametrize("loss", ["mse", "cosine"])
def test_other_losses(loss, muon, device):
    """The other inner losses."""
    inputs = example(device=device)
    optimizer = "muon" if muon else "sgd"
    out, _ = scan(inputs, optimizer=optimizer, inner_loss=loss, final=True)
    expected = published(inputs, 4, "apply_update", muon, True, "post", loss)
    close(out, expected)
    close(gradients(out, inputs), gradients(expected, inputs))


def test_all_losses_are_tested():
    """Each has its formula above."""
    assert set(INNER_LOSSES) == set(LOSSES)


def pseudo_huber(prediction, value):
    """A loss that nobody has: absolute errors, rounded at zero."""
    error = value - prediction
    return error / (1 + error.square()).sqrt()


def test_a_loss_is_one_line(monkeypatch, device):
    """A loss that is added to the table works from `LaCT` down, and is that
    of its formula."""
    monkeypatch.setitem(INNER_LOSSES, "pseudo_huber", pseudo_huber)
    monkeypatch.setitem(
        LOSSES,
        "pseudo_huber",
        lambda value, v: ((1 + (value - v).square()).sqrt() - 1).sum(-1),
    )
    inputs = example(device=device)
    out, _ = scan(
        inputs, optimizer="sgd", inner_loss="pseudo_huber", final=True
    )
    expected = published(
        inputs, 4, "apply_update", False, True, "post", "pseudo_huber"
    )
    close(out, expected)
    close(gradients(out, inputs), gradients(expected, inputs))
    torch.manual_seed(0)
    layer = LaCT(8, 2, chunk_size=4, fast_heads=2, inner_loss="pseudo_huber")
    layer = layer.to(device)
    x = torch.randn(2, 12, 8, device=device)
    got, _, state = layer(x, x, x, state=layer.initial_state(2))
    got.sum().backward()
    assert bool(got.isfinite().all()) and bool((state.updates == 3).all())
    assert layer.configuration()["inner_loss"] == "pseudo_huber"
    other = LaCT(8, 2, chunk_size=4, fast_heads=2, inner_loss="mse")
    other.load_state_dict(layer.state_dict())
    assert not torch.allclose(got, other.to(device)(x, x, x)[0])


@pytest.mark.parametrize("loss", list(LOSSES))
def test_inner_gradient(loss, device):
    """The gradient written by hand is that of autograd."""
    inputs = example(device=device)
    w0, w1, w2, k, v = (inputs[name] for name in ("w0", "w1", "w2", "k", "v"))
    lr = torch.cat([inputs["lr0"], inputs["lr1"], inputs["lr2"]], -1)
    weights = torch.stack([w0, w2, w1.transpose(1, 2)], 1)
    got = fast_weight_gradient(weights, k, v, lr, loss)
    hidden = F.silu(k @ w0.mT) * (k @ w2.mT)
    value = hidden @ w1.mT
    close(fast_weight_apply(weights, k), value)
    inner = LOSSES[loss](value, v)
    for i, (name, place) in enumerate((("w0", 0), ("w1", 2), ("w2", 1))):
        (slope,) = torch.autograd.grad(
            (lr[..., i] * inner).sum(), inputs[name], retain_graph=True
        )
        mine = got[:, place].mT if name == "w1" else got[:, place]
        close(mine, -slope)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize(
    "order", ["apply_update", "update_apply", "bidirectional"]
)
def test_gradcheck(order, optimizer, device):
    """Gradients through the inner updates, against differences."""
    inputs = example(1, 5, 2, 2, seed=3, device=device)
    momentum = optimizer != "adam"

    def function(*values):
        named = dict(zip(inputs, values))
        out, state = scan(
            named,
            momentum,
            chunk_size=2,
            order=order,
            optimizer=optimizer,
            final=True,
        )
        return out, state.weights

    assert torch.autograd.gradcheck(function, tuple(inputs.values()))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize(
    "order", ["apply_update", "update_apply", "bidirectional"]
)
def test_checkpoint(order, optimizer, device):
    """Recomputing a chunk changes neither values nor gradients."""
    results = []
    for checkpoint in (False, True):
        inputs = example(device=device)
        out, state = scan(
            inputs,
            optimizer != "adam",
            order=order,
            optimizer=optimizer,
            final=True,
            checkpoint=checkpoint,
        )
        joined = torch.cat([out.flatten(), state.weights.flatten()])
        results.append((joined, gradients(joined, inputs)))
    close(results[1][0], results[0][0])
    close(results[1][1], results[0][1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("order", ["apply_update", "update_apply"])
def test_rows_that_only_read(order, optimizer, device):
    """Chunks pass without update; the other rows learn as ever."""
    momentum = optimizer != "adam"
    options = {"order": order, "optimizer": optimizer}
    _, before = scan(example(length=5, device=device), momentum, **options)
    flags = torch.tensor([True, False], device=device)
    inputs = example(length=9, seed=1, device=device)
    out, state = scan(
        inputs,
        momentum,
        state=dataclasses.replace(before, learning=flags),
        **options,
    )
    wanted, learned = scan(inputs, momentum, state=before, **options)
    close(out[0], wanted[0])
    close(state.weights[0], learned.weights[0])
    assert torch.equal(
        state.steps - before.steps, torch.tensor([2, 0], device=device)
    )
    for name in ("weights", "moment", "square"):
        if getattr(state, name) is not None:
            old, new = (getattr(x, name)[1] for x in (before, state))
            assert torch.equal(new, old)
            assert not torch.equal(learned.weights[1], old)
    weights = [getattr(before, name)[1] for name in ("w0", "w1", "w2")]
    queries = inputs["q"][1]
    if order == "update_apply":
        first = example(length=5, device=device)["q"][1, 4:]
        queries = torch.cat([first, queries])[:8]
    close(out[1, : len(queries)], network(*weights, queries))
    assert torch.equal(state.pending, learned.pending)
    again = dataclasses.replace(state, learning=torch.ones_like(flags))
    _, last = scan(inputs, momentum, state=again, **options)
    assert torch.equal(
        last.steps - state.steps, torch.tensor([2, 2], device=device)
    )


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4)])
def test_polar(shape, device):
    """The polar factor's singular vectors; values near one."""
    torch.manual_seed(0)
    for scale in (1e-3, 1.0, 1e3):
        u, _, vh = torch.linalg.svd(
            torch.randn(*shape, dtype=torch.float64, device=device),
            full_matrices=False,
        )
        values = torch.linspace(0.3, 1.0, min(shape)).to(u)
        x = scale * (u * values) @ vh
        turned = u.mT @ polar(x[None])[0] @ vh.mT
        found = turned.diagonal()
        assert bool((found > 0.7).all()) and bool((found < 1.3).all())
        assert (turned - found.diag()).abs().max() < 1e-9
        # The nearest orthogonal matrix, as far as five steps reach.
        assert (polar(x[None])[0] - u @ vh).abs().max() < 0.3


def test_polar_of_tall_wide_and_zero(device):
    """A tall matrix is a wide one transposed; zero gives zero."""
    x = torch.randn(3, 2, 5, 3, dtype=torch.float64, device=device)
    assert torch.equal(polar(x.mT), polar(x).mT)
    zero = torch.zeros(2, 3, 4, 4, device=device, requires_grad=True)
    out = polar(zero)
    assert bool((out == 0).all())
    (slope,) = torch.autograd.grad(out.sum(), zero)
    assert bool(slope.isfinite().all())
    # One step for all matrices together is one step for each.
    one = torch.stack([polar(y[None])[0] for y in x.flatten(0, 1)])
    close(polar(x).flatten(0, 1), one, 1e-12)


def test_muon_adds_to_the_weights(device):
    """A known mistake in public code overwrites them."""
    inputs = example(length=4, device=device)
    _, state = scan(inputs, False, weight_norm="none", final=True)
    w0, w1, w2 = (inputs[name] for name in ("w0", "w1", "w2"))
    start = torch.stack([w0, w2, w1.mT], 1)
    lr = torch.cat([inputs["lr0"], inputs["lr1"], inputs["lr2"]], -1)
    step = polar(fast_weight_gradient(start, inputs["k"], inputs["v"], lr))
    close(state.weights, start + step)
    close(state.weights - step, start)


def test_adam(device):
    """Against torch.optim.Adam with the same decays, three steps."""
    torch.manual_seed(0)
    gradient = torch.randn(3, 2, 3, 4, 5, dtype=torch.float64, device=device)
    weight = torch.zeros_like(gradient[0], requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1, betas=(0.9, 0.99), eps=1e-9)
    mine = torch.zeros_like(weight)
    first = second = torch.zeros_like(mine)
    for i in range(3):
        count = torch.full((2,), i + 1, device=device)
        step, first, second = adam(gradient[i], first, second, count, 0.1)
        mine = mine + step
        weight.grad = -gradient[i]
        optimizer.step()
    # Only the place of eps differs.
    close(mine, weight.detach(), 1e-6)


def test_adam_counts_its_steps(device):
    """Each row has a count of its own, kept in the state."""
    inputs = example(length=8, device=device)
    mask = torch.ones(2, 8, dtype=torch.bool, device=device)
    mask[1, 3:] = False
    _, state = scan(
        inputs,
        False,
        optimizer="adam",
        mask=mask,
        weight_norm="none",
        base_lr=0.1,
        final=True,
    )
    assert state.steps.tolist() == [2, 1]
    # The first step is the sign of the gradient, times rate and share.
    start = torch.stack([inputs["w0"], inputs["w2"], inputs["w1"].mT], 1)
    moved = (state.weights - start)[1].abs()
    close(moved, torch.full_like(moved, 0.1 * 3 / 4), 1e-3)
    lr = torch.cat([inputs["lr0"], inputs["lr1"], inputs["lr2"]], -1)
    slope = fast_weight_gradient(
        start[1:], inputs["k"][1:, :3], inputs["v"][1:, :3], lr[1:, :3]
    )
    close(state.moment[1:], 0.1 * slope)
    close(state.square[1:], 0.01 * slope.square())


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("order", ["apply_update", "update_apply"])
def test_tail(order, optimizer, device):
    """`final` learns the tail with its share; otherwise its frames wait."""
    inputs = example(length=6, device=device)
    options = {
        "order": order,
        "optimizer": optimizer,
        "weight_norm": "none",
        "momentum": False,
    }
    _, waits = scan(inputs, final=False, **options)
    assert waits.steps.tolist() == [1, 1]
    assert waits.pending.tolist() == [2, 2]
    assert torch.equal(waits.keys, inputs["k"][:, 4:])
    assert torch.equal(waits.values, inputs["v"][:, 4:])
    if order == "update_apply":
        assert waits.lengths.tolist() == [4, 4]
        assert torch.equal(waits.queries, inputs["q"][:, 4:])
    else:
        assert waits.lengths.tolist() == [6, 6]
    out, ended = scan(inputs, final=True, **options)
    assert ended.steps.tolist() == [2, 2]
    assert ended.pending.tolist() == [0, 0]
    assert out.shape[1] == 6
    lr = torch.cat([inputs["lr0"], inputs["lr1"], inputs["lr2"]], -1)
    slope = fast_weight_gradient(
        waits.weights, inputs["k"][:, 4:], inputs["v"][:, 4:], lr[:, 4:]
    )
    if optimizer == "adam":
        count = torch.full((2,), 2, device=device)
        slope, _, _ = adam(slope, waits.moment, waits.square, count, 1e-2)
    elif optimizer == "muon":
        slope = polar(slope)
    share = 1 if optimizer == "sgd" else 0.5
    close(ended.weights, waits.weights + share * slope)
    # The next utterance reads what this one has left.
    after, _ = scan(inputs, state=ended, final=True, **options)
    if order == "apply_update":
        first = fast_weight_apply(ended.weights, inputs["q"][:, :4])
        close(after[:, :4], first)


def test_momentum_mean_excludes_padding(device):
    """beta is the mean over the real frames of a chunk."""
    inputs = example(rows=1, length=8, device=device)
    mask = torch.ones(1, 8, dtype=torch.bool, device=device)
    mask[0, 6:] = False
    options = {"optimizer": "sgd", "weight_norm": "none"}
    _, first = scan(inputs, mask=mask, **options)
    _, state = scan(inputs, mask=mask, final=True, **options)
    lr = torch.cat([inputs["lr0"], inputs["lr1"], inputs["lr2"]], -1)
    slope = fast_weight_gradient(
        first.weights, inputs["k"][:, 4:6], inputs["v"][:, 4:6], lr[:, 4:6]
    )
    beta = inputs["momentum"][0, 4:6].mean()
    close(state.moment, slope + beta * first.moment)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("order", ["apply_update", "bidirectional"])
def test_holes_in_the_mask(order, optimizer, device):
    """Padding may stand anywhere; the frames around it move together."""
    inputs = example(rows=1, length=13, device=device)
    mask = torch.ones(1, 13, dtype=torch.bool, device=device)
    mask[0, [0, 3, 4, 9, 12]] = False
    momentum = optimizer != "adam"
    options = {"order": order, "optimizer": optimizer, "final": True}
    hole = {
        name: x.detach().masked_fill(~mask[..., None], torch.nan)
        if x.shape[1] == 13
        else x.detach()
        for name, x in inputs.items()
    }
    out, state = scan(hole, momentum, mask=mask, **options)
    kept = {
        name: x[:, mask[0]] if x.shape[1] == 13 else x
        for name, x in inputs.items()
    }
    packed, state2 = scan(kept, momentum, **options)
    close(out[:, mask[0]], packed)
    assert bool((out[:, ~mask[0]] == 0).all())
    close(state.weights, state2.weights)
    assert state.steps.tolist() == state2.steps.tolist() == [2]


def test_max_step_norm(device):
    """Steps above the maximum shrink to it, others stay."""
    inputs = example(length=4, device=device)
    start = torch.stack([inputs["w0"], inputs["w2"], inputs["w1"].mT], 1)
    for maximum in (0.05, 100.0):
        _, state = scan(
            inputs,
            False,
            weight_norm="none",
            max_step_norm=maximum,
            optimizer="sgd",
        )
        _, free = scan(inputs, False, weight_norm="none", optimizer="sgd")
        norm = torch.linalg.matrix_norm(state.weights - start)
        free_norm = torch.linalg.matrix_norm(free.weights - start)
        close(norm, free_norm.clamp(max=maximum))
    assert free_norm.min() > 0.05
    step = torch.tensor([[[3.0, 4.0]], [[0.3, 0.4]]], device=device)
    expected = torch.tensor([[[0.6, 0.8]], [[0.3, 0.4]]], device=device)
    close(clip_norm(step, 1.0), expected, 1e-6)


def test_step_scale(device):
    """The learned factor multiplies the step of its row."""
    inputs = example(length=4, device=device)
    start = torch.stack([inputs["w0"], inputs["w2"], inputs["w1"].mT], 1)
    scale = torch.tensor([0.5, 2.0], dtype=torch.float64, device=device)
    options = {"momentum": False, "weight_norm": "none"}
    _, plain = scan(inputs, **options)
    _, scaled = scan(inputs, step_scale=scale, **options)
    step = plain.weights - start
    close(scaled.weights, start + scale.view(2, 1, 1, 1) * step)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_row_norms(norm, device):
    """What is read has the row norms of the weights it began with, in every
    utterance."""
    inputs = example(length=12, device=device)
    options = {"weight_norm": norm, "final": True, "optimizer": "sgd"}
    _, state = scan(inputs, **options)
    _, state = scan(inputs, state=state, **options)
    used = [state.w0, state.w1, state.w2]
    for name, w in zip(("w0", "w1", "w2"), used):
        target = inputs[name].norm(dim=-1)
        if norm == "post":
            close(w.norm(dim=-1), target, 1e-4)
        else:
            assert (w.norm(dim=-1) - target).abs().max() > 1e-2
    if norm == "pre":
        used = [
            w / (w.norm(dim=-1, keepdim=True) + 1e-5)
            * inputs[name].norm(dim=-1, keepdim=True)
            for name, w in zip(("w0", "w1", "w2"), used)
        ]  # fmt: skip
    out, _ = scan(inputs, state=state, chunk_size=12, weight_norm=norm)
    hidden = F.silu(inputs["q"] @ used[0].mT) * (inputs["q"] @ used[2].mT)
    close(out, hidden @ used[1].mT)


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["k", "v", "lr1"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_no_poison(optimizer, where, poison, device, caplog):
    """A non-finite update of one head leaves out its batch item: the memory
    keeps its last good values, the event is counted and logged, and the other
    rows and all gradients stay as they are."""
    momentum = optimizer != "adam"
    options = {"optimizer": optimizer, "final": True, "nhead": 2}
    clean = example(rows=4, length=12, device=device)
    bad = example(rows=4, length=12, device=device)
    # Second chunk, first head of the second batch item.
    with torch.no_grad():
        bad[where][2, 5] = poison
    with caplog.at_level(logging.WARNING):
        out, state = scan(bad, momentum, **options)
    assert state.skipped.tolist() == [0, 0, 1, 1]
    assert state.steps.tolist() == [3, 3, 2, 2]
    assert any("not finite" in r.getMessage() for r in caplog.records)
    clean_out, clean_state = scan(clean, momentum, **options)
    assert torch.equal(out[:2], clean_out[:2])
    assert torch.equal(state.weights[:2], clean_state.weights[:2])

    # The item's memory is that of a sequence without the second chunk.
    kept = [0, 1, 2, 3, 8, 9, 10, 11]
    short = {
        name: x[:, kept] if x.shape[1] == 12 else x for name, x in bad.items()
    }
    short_out, short_state = scan(short, momentum, **options)
    for name in ("weights", "moment", "square"):
        got = getattr(state, name)
        if got is not None:
            close(got[2:], getattr(short_state, name)[2:])
    close(out[2:, kept], short_out[2:])
    assert bool(out.isfinite().all())

    slopes = gradients(out, bad)
    assert bool(slopes.isfinite().all())
    # Gradients of the other rows are those of the clean sequence.
    weights = torch.randn(2, 12, 4).to(out)
    for name in NAMES:
        pair = [
            torch.autograd.grad(
                (y[:2] * weights).sum(), x[name], retain_graph=True
            )[0]
            for y, x in ((out, bad), (clean_out, clean))
        ]
        close(pair[0][:2], pair[1][:2])
        assert bool((pair[0][2:] == 0).all())


def test_no_poison_with_checkpoint(device):
    """As above, when chunks are computed again in the backward pass."""
    results = []
    for checkpoint in (False, True):
        inputs = example(rows=2, length=12, device=device)
        with torch.no_grad():
            inputs["v"][1, 5] = torch.nan
        out, state = scan(inputs, final=True, checkpoint=checkpoint)
        assert state.skipped.tolist() == [0, 1]
        results.append((out, gradients(out, inputs)))
    close(results[1][0], results[0][0])
    close(results[1][1], results[0][1])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_autocast_keeps_an_fp32_core(optimizer, device):
    """Only matrix products drop to bf16."""
    kind = torch.device(device).type
    inputs = example(length=12, device=device, dtype=torch.float32)
    momentum = optimizer != "adam"
    options = {"optimizer": optimizer, "final": True}
    expected, full = scan(inputs, momentum, **options)
    half = {
        name: x.bfloat16() if name in "qkv" else x for name, x in inputs.items()
    }
    with torch.autocast(kind, torch.bfloat16):
        out, state = scan(half, momentum, **options)
    for name in ("weights", "moment", "targets"):
        assert getattr(state, name).dtype == torch.float32
    # The start is exact, and so are the norms.
    assert torch.equal(state.targets, full.targets)
    close(out.float(), expected, 0.1)
    close(state.weights, full.weights, 0.1)
    assert not torch.equal(out.float(), expected)
    # Without autocast, bf16 frames do not lower the core.
    _, state = scan(half, momentum, **options)
    close(state.weights, full.weights, 0.05)
    assert state.weights.dtype == torch.float32


@pytest.mark.parametrize(
    "options,message",
    [
        ({"order": "x"}, "order must be one of apply_update, update_apply"),
        ({"optimizer": "x"}, "optimizer must be one of sgd, adam, muon"),
        ({"weight_norm": "x"}, "weight_norm must be one of post, pre, none"),
        ({"inner_loss": "x"}, "inner_loss must be one of dot_product, mse"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
        ({"optimizer": "adam"}, "adam has decays of its own"),
        ({"order": "bidirectional"}, "bidirectional order takes whole"),
    ],
)
def test_bad_options(options, message):
    """What was given and what is allowed."""
    with pytest.raises(ValueError, match=message):
        scan(example(), **options)


def test_late_answers_need_padding_behind(device):
    """A hole cannot be put back before its frame is answered."""
    inputs = example(device=device)
    mask = torch.ones(2, 11, dtype=torch.bool, device=device)
    mask[0, 4] = False
    with pytest.raises(ValueError, match="padding after the last real frame"):
        scan(inputs, order="update_apply", mask=mask)


def test_inputs_stay_as_they_are(device):
    """Neither inputs nor the state given are written to."""
    inputs = example(length=12, device=device)
    _, state = scan(inputs)
    copies = [x.clone() for x in (state.weights, state.moment, state.steps)]
    before = {name: x.detach().clone() for name, x in inputs.items()}
    scan(inputs, state=state, final=True)
    for name, x in inputs.items():
        assert torch.equal(x, before[name])
    for x, y in zip((state.weights, state.moment, state.steps), copies):
        assert torch.equal(x, y)


def test_initial_weights_have_a_gradient_in_every_step():
    """Zeros where no row begins anew: without one, Adam's momentum stands
    still, and processes that train together wait for it."""
    layer = LaCT(16, 2, chunk_size=8, fast_heads=2)
    x = torch.randn(2, 20, 16)
    with torch.no_grad():
        _, _, state = layer(x, x, x, state=layer.initial_state(2))
    layer(x, x, x, state=state)[0].sum().backward()
    for weights in (layer.w0, layer.w1, layer.w2):
        assert weights.grad is not None and not weights.grad.any()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("inner_loss", sorted(INNER_LOSSES))
def test_last_matrix_alone_learns(optimizer, inner_loss, device):
    """As with rates of zero for the others, gradients too."""
    inputs = example(device=device)
    options = {
        "optimizer": optimizer,
        "momentum": optimizer != "adam",
        "inner_loss": inner_loss,
        "weight_norm": "none",
        "max_step_norm": 0.5,
    }
    zero = torch.zeros_like(inputs["lr0"])
    expected, after = scan({**inputs, "lr0": zero, "lr2": zero}, **options)
    out, state = scan(inputs, learn=["w1"], **options)
    torch.testing.assert_close(out, expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(state.weights, after.weights)
    assert torch.equal(state.w0, inputs["w0"])
    assert not torch.equal(state.w1, inputs["w1"])
    names = "w1", "q", "k", "v", "lr1"
    found, wanted = (
        torch.autograd.grad(
            y.square().sum(), [inputs[n] for n in names], retain_graph=True
        )
        for y in (out, expected)
    )
    for got, want in zip(found, wanted):
        torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


def test_what_does_not_learn_keeps_its_norms(device):
    """Scaling rows is for what has learned; the last has its old norms."""
    inputs = example(device=device)
    _, state = scan(inputs, learn=["w1"], weight_norm="post")
    assert torch.equal(state.w2, inputs["w2"])
    norms = [w.norm(dim=-1) for w in (state.w1, inputs["w1"])]
    torch.testing.assert_close(*norms, atol=1e-3, rtol=0)


@pytest.mark.parametrize("learn", [["w0"], [], "w1", None, ["w1", "w0"]])
def test_what_learns_is_all_or_the_last(learn):
    with pytest.raises(ValueError, match=r"learn: \[w0, w1, w2\] or \[w1\]"):
        LaCT(8, 2, learn=learn)
