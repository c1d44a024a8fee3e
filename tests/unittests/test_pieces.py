"""Padding, pieces, rows and files through whole models: one example of each
property that test_law.py draws many of."""

import math

import pytest
import torch

from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.lobes.models.transformer.decoder import LaCTDecoderState
from speechbrain_lact.lobes.models.transformer.encoder import LaCTEncoderState
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)

LENGTHS = (23, 14, 9)
# What a frame sees; `dynamic` are the Conformer's dynamic chunks.
LAYOUTS = {
    "causal": {"causal": True},
    "chunks": {"causal": False, "lact_block_window": [4, 1]},
    "whole": {"causal": False, "lact_window": [5, 2]},
}
CELLS = [
    ("transformer", "causal", "muon"),
    ("transformer", "chunks", "adam"),
    ("transformer", "whole", "sgd"),
    ("conformer", "causal", "sgd"),
    ("conformer", "chunks", "muon"),
    ("conformer", "whole", "adam"),
    ("branchformer", "whole", "muon"),
]
IN_PIECES = [cell for cell in CELLS if cell[1] != "whole"]


def model(kind, layout, optimizer, device, **decoder):
    """A small model in double, every parameter drawn at random, and the
    arguments of its calls."""
    torch.manual_seed(0)
    net = TransformerASR(
        tgt_vocab=5,
        input_size=6,
        d_model=8,
        nhead=2,
        num_encoder_layers=2,
        num_decoder_layers=2 if decoder else 0,
        d_ffn=12,
        kernel_size=5,
        csgu_linear_units=12,
        encoder_module=kind,
        attention_type="LaCT",
        normalize_before=True,
        lact_chunk_size=4,
        lact_heads=2,
        lact_optimizer=optimizer,
        lact_base_lr=0.1,
        **LAYOUTS[layout],
        **decoder,
    )
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    options = {}
    if kind == "conformer" and layout == "chunks":
        options["dynchunktrain_config"] = DynChunkTrainConfig(4, 1)
    return net.to(device).double().eval(), options


def ragged(device):
    """Three rows with NaN where they have ended."""
    x = torch.randn(3, max(LENGTHS), 6, dtype=torch.float64, device=device)
    for row, length in enumerate(LENGTHS):
        x[row, length:] = math.nan
    return x


def close(got, expected):
    """Two tensors, the same to a part of the largest value."""
    assert got.shape == expected.shape
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= 1e-9, f"{worst:.2e}"


@pytest.mark.parametrize("kind,layout,optimizer", CELLS)
def test_padding_does_not_exist(kind, layout, optimizer, device):
    """A row of a padded batch is that row alone, and so is its gradient."""
    net, options = model(kind, layout, optimizer, device)
    x = ragged(device).requires_grad_()
    wav_len = torch.tensor(LENGTHS, device=device) / max(LENGTHS)
    out = net.encode(x, wav_len, **options)
    for row, length in enumerate(LENGTHS):
        alone = x.detach()[row : row + 1, :length].requires_grad_()
        expected = net.encode(alone, **options)
        close(out[row : row + 1, :length], expected)
        (slope,) = torch.autograd.grad(
            out[row, :length].square().sum(), x, retain_graph=True
        )
        (right,) = torch.autograd.grad(expected.square().sum(), alone)
        close(slope[row : row + 1, :length], right)
        others = [i for i in range(len(LENGTHS)) if i != row]
        assert bool((slope[others] == 0).all())


@torch.no_grad()
@pytest.mark.parametrize("kind,layout,optimizer", IN_PIECES)
def test_pieces_rows_and_files(kind, layout, optimizer, device, tmp_path):
    """Ragged pieces give the outputs of the whole, though in between the rows
    change places and the state is read from a file."""
    net, options = model(kind, layout, optimizer, device)
    x, path = ragged(device), tmp_path / "state"
    state, places = net.initial_state(3), [0, 1, 2]
    found, done = [[], [], []], [0, 0, 0]
    for counts in ((5, 1, 0), (3, 3, 7), (14, 2, 2), (1, 8, 0)):
        width = max(counts)
        piece = torch.full((3, width, 6), math.nan).to(x)
        for i, row in enumerate(places):
            end = done[row] + counts[row]
            piece[i, : counts[row]] = x[row, done[row] : end]
            done[row] = end
        wav_len = torch.tensor([counts[row] / width for row in places])
        out, state = net.encode(
            piece,
            wav_len.double().to(device),
            state=state,
            final=done == list(LENGTHS),
            **options,
        )
        for i, row in enumerate(places):
            found[row].append(out[i, : state.lengths[i]])
        state = state.index(torch.tensor([2, 0, 1], device=device))
        places = [places[i] for i in (2, 0, 1)]
        state.save(path, {})
        state = LaCTEncoderState.load(path, {}, device)
    assert done == list(LENGTHS)
    for row, length in enumerate(LENGTHS):
        whole = net.encode(x[row : row + 1, :length], **options)
        close(torch.cat(found[row]), whole[0])
        assert int(state.frames[places.index(row)]) == length


@torch.no_grad()
@pytest.mark.parametrize("kind,layout,optimizer", CELLS)
def test_reset_and_carry(kind, layout, optimizer, device):
    """The memory of one utterance serves the next; a row that is reset starts
    from the learned initial weights, beside one that goes on."""
    net, options = model(kind, layout, optimizer, device)
    torch.manual_seed(1)
    first, second = torch.randn(2, 2, 11, 6, dtype=torch.float64).to(device)
    _, state = net.encode(first, state=net.initial_state(2), **options)
    fresh = net.encode(second, **options)
    carried, _ = net.encode(second, state=state, **options)
    assert (carried - fresh).abs().max() > 1e-3 * fresh.abs().max()
    rows = torch.tensor([True, False], device=device)
    out, new = net.encode(second, state=state.reset(rows), **options)
    close(out[0], fresh[0])
    close(out[1], carried[1])
    assert new.updates.tolist() == [3, 6]


@torch.no_grad()
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_token_by_token(optimizer, device, tmp_path):
    """A decoder gives the same with all tokens at once and one at a time,
    though the rows change places and the state is read from a file."""
    net, _ = model(
        "transformer", "whole", optimizer, device, lact_decoder_chunk_size=3
    )
    torch.manual_seed(1)
    src = torch.randn(3, 12, 6, dtype=torch.float64, device=device)
    tgt = torch.randint(1, 5, (3, 11), device=device)
    encoded, whole = net(src, tgt)
    state, order = net.initial_decoder_state(3), torch.arange(3, device=device)
    turn, path = torch.tensor([2, 0, 1], device=device), tmp_path / "state"
    for i in range(tgt.shape[1]):
        one = tgt[order, i : i + 1]
        out, _, state = net.decode(one, encoded[order], state=state)
        close(out[:, 0], whole[order, i])
        order, state = order[turn], state.index(turn)
        state.save(path, {})
        state = LaCTDecoderState.load(path, {}, device)
