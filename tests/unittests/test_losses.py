"""The transducer loss against a sum over all alignments.

Authors
* speechbrain_lact contributors 2026
"""

import inspect
from itertools import combinations

import pytest
import torch

from speechbrain.nnet import losses as parent
from speechbrain_lact.nnet.losses import transducer_loss

BLANK = 2
FRAMES, LABELS = [5, 3, 4], [3, 2, 0]
TARGETS = torch.tensor([[1, 3, 3], [4, 0, 0], [0, 0, 0]])


def by_alignments(logits, targets, frames, labels):
    """Loss of one utterance: every way to place its labels among its blanks,
    one by one."""
    log_probs = logits.log_softmax(-1)
    paths = []
    # The last step is a blank: it leaves the last frame.
    for places in combinations(range(frames + labels - 1), labels):
        t = u = 0
        path = 0.0
        for step in range(frames + labels):
            emits = step in places
            label = int(targets[u]) if emits else BLANK
            path = path + log_probs[t, u, label]
            t, u = (t, u + 1) if emits else (t + 1, u)
        paths.append(path)
    return -torch.stack(paths).logsumexp(0)


def batch(device):
    """Logits with a gradient, and relative lengths."""
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 4, 5, device=device, requires_grad=True)
    # A length counts samples: in frames it is not a whole number.
    lengths = torch.tensor([4.6, 2.7, 4.3], device=device) / 5
    target_lengths = torch.tensor(LABELS, device=device) / 3
    return logits, TARGETS.to(device), lengths, target_lengths


@pytest.mark.parametrize("reduction", ["mean", "batchmean", "sum", "none"])
def test_it_is_the_sum_over_alignments(reduction, device):
    logits, targets, *lengths = batch(device)
    got = transducer_loss(logits, targets, *lengths, BLANK, reduction)
    rows = torch.stack(
        [
            by_alignments(*row)
            for row in zip(logits.double(), targets, FRAMES, LABELS)
        ]
    )
    expected = {"sum": rows.sum(), "none": rows}.get(reduction, rows.mean())
    assert got.shape == expected.shape
    assert torch.allclose(got.double(), expected, atol=1e-5)
    (grad,) = torch.autograd.grad(got.sum(), logits, retain_graph=True)
    (right,) = torch.autograd.grad(expected.sum(), logits)
    assert torch.allclose(grad, right, atol=1e-6)


def test_padding_is_not_read(device):
    logits, targets, *lengths = batch(device)
    loss = transducer_loss(logits, targets, *lengths, BLANK, "none")
    (grad,) = torch.autograd.grad(loss.sum(), logits)
    # Longer, with NaN and labels out of range in the padding.
    wide = logits.new_full((3, 10, 7, 5), float("nan"))
    labels = targets.new_full((3, 6), -7)
    for i, (t, u) in enumerate(zip(FRAMES, LABELS)):
        wide[i, :t, : u + 1] = logits.detach()[i, :t, : u + 1]
        labels[i, :u] = targets[i, :u]
    wide.requires_grad_()
    half = [length / 2 for length in lengths]
    again = transducer_loss(wide, labels, *half, BLANK, "none")
    assert torch.equal(again, loss)
    (wide_grad,) = torch.autograd.grad(again.sum(), wide)
    assert torch.equal(wide_grad[:, :5, :4], grad)
    assert not wide_grad[:, 5:].any() and not wide_grad[:, :, 4:].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_float_is_computed_in_float32(dtype, device):
    logits, targets, *lengths = batch(device)
    logits = logits.to(dtype)
    got = transducer_loss(logits, targets, *lengths, BLANK)
    expected = transducer_loss(logits.float(), targets, *lengths, BLANK)
    assert got.dtype == torch.float32 and torch.equal(got, expected)


def test_it_is_called_as_speechbrains():
    ours, theirs = map(
        inspect.signature, (transducer_loss, parent.transducer_loss)
    )
    assert ours == theirs


def test_bad_input_is_named(device):
    logits, targets, *lengths = batch(device)
    with pytest.raises(ValueError, match="batchmean.*'median'"):
        transducer_loss(logits, targets, *lengths, BLANK, "median")
    with pytest.raises(ValueError, match=r"\[3, 5, 3, 5\].*\[3, 3\]"):
        transducer_loss(logits[:, :, 1:], targets, *lengths, BLANK)
    with pytest.raises(ValueError, match="label 5 .* vocabulary of 5"):
        transducer_loss(logits, targets + 2, *lengths, BLANK)
    with pytest.raises(ValueError, match="no frames"):
        transducer_loss(logits, targets, lengths[0] * 0, lengths[1], BLANK)
