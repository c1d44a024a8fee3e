"""States as values: rows, files, and frames that wait."""

import json
import math
import os
import re
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from speechbrain_lact.lobes.models.transformer.encoder import (
    LaCTTransformerEncoder,
)
from speechbrain_lact.nnet.frames import (
    gather_frames,
    length_mask,
    mask_lengths,
    slide,
    splice,
    zero_padding,
)
from speechbrain_lact.nnet.lact import LaCT, LaCTState
from speechbrain_lact.nnet.state import Waiting
from speechbrain_lact.nnet.state_file import configuration, differences, digest


@pytest.fixture
def state(device):
    """A state in the middle of a chunk, rows in different phases."""
    torch.manual_seed(0)
    layer = LaCT(
        8, 2, chunk_size=4, order="apply_update", causal=True, fast_heads=2
    ).to(device)
    x = torch.randn(3, 11, 8, device=device)
    padding = ~length_mask(torch.tensor([11, 6, 1], device=device), 11)
    with torch.no_grad():
        _, _, made = layer(
            x,
            x,
            x,
            key_padding_mask=padding,
            state=layer.initial_state(3),
            final=False,
        )
    return made


def leaves(state):
    """All tensors in order."""
    found = []
    state.map(lambda x: found.append(x) or x)
    return found


def test_what_a_state_holds(state):
    """Counts of each row, and zeros where there is nothing."""
    assert state.fast.steps.tolist() == [[2, 2], [1, 1], [0, 0]]
    assert state.fast.pending.tolist() == [[3, 3], [2, 2], [1, 1]]
    assert state.fast.fresh.tolist() == [[False] * 2, [False] * 2, [True] * 2]
    assert state.window.counts.tolist() == [4, 4, 1]
    assert bool((state.window.keys[2, :3] == 0).all())
    assert bool((state.window.keys[2, 3] != 0).any())
    assert bool((state.fast.keys[1, :, 2:] == 0).all())
    assert state.lengths.tolist() == [11, 6, 1]


def test_index_and_cat(state):
    """Rows in any order; joined again they are what they were."""
    order = torch.tensor([2, 0, 0], device=state.lengths.device)
    for got, x in zip(leaves(state.index(order)), leaves(state)):
        assert torch.equal(got, x[order])
    parts = [state.index(slice(i, i + 1)) for i in range(3)]
    for got, x in zip(leaves(LaCTState.cat(parts)), leaves(state)):
        assert torch.equal(got, x)


def test_cat_of_different_widths(state, device):
    """What waits in one state and not in another is padded."""
    layer = LaCT(
        8, 2, chunk_size=4, order="apply_update", causal=True, fast_heads=2
    ).to(device)
    joined = LaCTState.cat([layer.initial_state(2), state])
    assert joined.fast.keys.shape == (5, 2, 3, 4)
    assert bool((joined.fast.keys[:2] == 0).all())
    assert torch.equal(joined.fast.keys[2:], state.fast.keys)
    assert torch.equal(joined.window.keys[2:], state.window.keys)
    assert joined.window.counts.tolist() == [0, 0, 4, 4, 1]
    assert joined.fast.fresh[:2].all()


def test_cat_of_other_configurations(state):
    """Only some have second moments."""
    other = LaCT(8, 2, chunk_size=4, optimizer="adam", fast_heads=2)
    with pytest.raises(ValueError, match="only some have 'square'"):
        LaCTState.cat([state, other.initial_state(1)])


def test_reset(state, device):
    """A row at the start is as an initial one; the others do not change."""
    rows = torch.tensor([True, False, False], device=device)
    for got, x in zip(leaves(state.reset(rows)), leaves(state)):
        assert torch.equal(got[1:], x[1:])
        assert bool((got[0] == (x.dtype == torch.bool)).all())


def test_detach_and_to(device):
    """Detached states belong to no graph."""
    layer = LaCT(8, 2, chunk_size=4, fast_heads=2).to(device)
    x = torch.randn(1, 8, 8, device=device)
    _, _, state = layer(x, x, x, state=layer.initial_state(1))
    assert state.fast.weights.requires_grad
    assert not state.detach().fast.weights.requires_grad
    assert torch.equal(state.detach().fast.weights, state.fast.weights)
    assert state.to("cpu").fast.weights.device.type == "cpu"


CONFIG = {"d_model": 8, "chunk_size": 4, "order": "apply_update"}


def test_save_and_load(state, tmp_path, device):
    """Bit for bit, with nothing left beside the file."""
    path = tmp_path / "a.state"
    state.save(path, CONFIG)
    assert os.listdir(tmp_path) == ["a.state"]
    loaded = LaCTState.load(path, CONFIG, device)
    for got, x in zip(leaves(loaded), leaves(state)):
        assert torch.equal(got, x) and got.dtype == x.dtype


def test_save_an_initial_state(tmp_path):
    """A state that has heard nothing, of an encoder of twelve layers."""
    net = LaCTTransformerEncoder(
        12,
        {"chunk_size": 4, "fast_heads": 2, "optimizer": "adam"},
        nhead=2,
        d_model=8,
        d_ffn=8,
    )
    state = net.initial_state(2)
    path = tmp_path / "a.state"
    state.save(path, CONFIG)
    loaded = type(state).load(path, CONFIG)
    assert len(loaded.layers) == 12
    for got, x in zip(leaves(loaded), leaves(state)):
        assert torch.equal(got, x)


def test_files_that_are_refused(state, tmp_path):
    """The message names the file and what is wrong with it."""
    path = str(tmp_path / "a.state")
    state.save(path, CONFIG)
    with pytest.raises(ValueError, match="d_model is 8, not 16"):
        LaCTState.load(path, {**CONFIG, "d_model": 16})
    with pytest.raises(ValueError, match="extra is None, not 1"):
        LaCTState.load(path, {**CONFIG, "extra": 1})
    with pytest.raises(ValueError, match="format is 'LaCTState'"):
        Waiting.load(path, CONFIG)
    one = {"a": torch.zeros(1)}
    old = {"format": "LaCTState", "version": "0", "config": json.dumps(CONFIG)}
    save_file(one, path, metadata=old)
    with pytest.raises(ValueError, match="version is '0'"):
        LaCTState.load(path, CONFIG)
    save_file(one, path)
    with pytest.raises(ValueError, match="format is None"):
        LaCTState.load(path, CONFIG)
    with open(path, "r+b") as file:
        file.truncate(20)
    with pytest.raises(ValueError, match="a.state: not a state file"):
        LaCTState.load(path, CONFIG)


FAULTS = {
    "fast.weights: torch.float32 [3, 2, 3, 4, 4] is wanted, not "
    "torch.float64 [3, 2, 3, 4, 4]": lambda s: s.fast.weights.double(),
    "fast.moment: torch.float32 [3, 2, 3, 4, 4] is wanted, not "
    "torch.float32 [3, 2, 3, 4, 5]": lambda s: torch.zeros(3, 2, 3, 4, 5),
    "fast.steps: torch.int64 [3, 2] is wanted, not torch.int64 [2, 2]": (
        lambda s: s.fast.steps[:2]
    ),
    "fast.targets: torch.float32 [3, 2, 12] is wanted, not NoneType": (
        lambda s: None
    ),
    "fast.square: nothing is wanted, not torch.float32 [3]": (
        lambda s: torch.zeros(3)
    ),
    "window.keys: not all values are finite": (
        lambda s: s.window.keys.log() * torch.nan
    ),
    "fast.weights: not all values are finite": (
        lambda s: s.fast.weights.masked_fill(s.fast.weights > 0, torch.inf)
    ),
    "window.counts: more than 4 frames": lambda s: s.window.counts + 1,
    "fast.pending: less than 0": lambda s: s.fast.pending - 4,
    "fast.pending: of buffers of different widths": (
        lambda s: s.fast.keys[:, :, :2]
    ),
}


@pytest.mark.parametrize("message", FAULTS)
def test_contents_that_are_refused(state, message, device, tmp_path):
    """Field, what was given and what is wanted, in memory and in a file."""
    layer = LaCT(
        8, 2, chunk_size=4, order="apply_update", causal=True, fast_heads=2
    ).to(device)
    like = layer.initial_state(1)
    assert state.check(like) is state
    part, name = message.split(":")[0].split(".")
    field = "keys" if "different widths" in message else name
    value = FAULTS[message](state)
    inner = replace(getattr(state, part), **{field: value})
    wrong = replace(state, **{part: inner})
    with pytest.raises(ValueError, match=re.escape(message)):
        wrong.check(like, 3)
    path = str(tmp_path / "a.state")
    wrong.save(path, {})
    with pytest.raises(ValueError, match=re.escape(f"a.state.{message}")):
        LaCTState.load(path, {}, device, like)


def test_files_with_more_and_less(state, tmp_path):
    """A field that is missing or too many, a layer less, another kind."""
    config = {"x": 1}
    path = tmp_path / "a.state"
    state.save(path, config)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}

    def write(tensors, **changes):
        """Such a file, its own digest right."""
        found = {**header, "digest": digest(tensors), **changes}
        save_file(tensors, path, metadata=found)

    write({**tensors, "fast.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="a.state: holds fast.extra"):
        LaCTState.load(path, config)
    write({})
    with pytest.raises(ValueError, match="a.state: holds nothing at all"):
        LaCTState.load(path, config)
    few = {k: v for k, v in tensors.items() if k != "fast.keys"}
    write(few)
    with pytest.raises(ValueError, match="fast.keys: .* not NoneType"):
        LaCTState.load(path, config, like=state)
    write(tensors, version="2")
    with pytest.raises(ValueError, match="version is '2'.*make it anew"):
        LaCTState.load(path, config)
    for text in ("{", "[]"):
        write(tensors, config=text)
        with pytest.raises(ValueError, match="which model"):
            LaCTState.load(path, config)
    net = LaCTTransformerEncoder(
        2, {"chunk_size": 4, "fast_heads": 2}, nhead=2, d_model=8, d_ffn=8
    )
    made = net.initial_state(2)
    with pytest.raises(ValueError, match="layers: 2 are wanted, not 1"):
        replace(made, layers=made.layers[:1]).check(net.initial_state(1))
    with pytest.raises(ValueError, match="LaCTEncoderState is wanted, not"):
        state.check(made)


def test_rows_that_do_not_fit(state, device):
    """A state of three rows, an input of two; types that differ in `cat`."""
    layer = LaCT(
        8, 2, chunk_size=4, order="apply_update", causal=True, fast_heads=2
    ).to(device)
    x = torch.randn(2, 5, 8, device=device)
    with pytest.raises(ValueError, match="3 rows for an input of 2"):
        layer(x, x, x, state=state)
    with pytest.raises(ValueError, match="LaCTState is wanted, not dict"):
        layer(x, x, x, state={})
    with pytest.raises(ValueError, match="'weights' is .*float64"):
        LaCTState.cat([state, layer.double().initial_state(1)])
    other = LaCT(
        8, 2, chunk_size=4, order="apply_update", causal=True, fast_heads=1
    )
    with pytest.raises(ValueError, match="different configurations"):
        LaCTState.cat([state, other.to(device).initial_state(1)])
    with pytest.raises(ValueError, match="at least one, not none"):
        LaCTState.cat([])


OPTIONS = {
    "chunk_size": 3,
    "order": "update_apply",
    "optimizer": "sgd",
    "weight_norm": "pre",
    "inner_loss": "mse",
    "base_lr": 0.02,
    "max_step_norm": 1.0,
    "silu_values": False,
    "window": (5, 0),
    "rotary": False,
    "scale": 0.1,
    "least_chunk": 2,
    "nhead": 1,
}


@pytest.mark.parametrize("name", OPTIONS)
def test_configuration(name):
    """Whatever changes an answer is in it, at any depth; dropout is not."""
    options = {"nhead": 2, "chunk_size": 4, "order": "apply_update"}
    options = {"d_model": 8, "fast_heads": 2, "window": (4, 0), **options}

    def known(**changes):
        """That of a stack of two layers, the second one changed."""
        layers = [LaCT(**options), LaCT(**{**options, **changes})]
        return configuration(torch.nn.Sequential(*layers))

    assert known() == known(dropout=0.5, checkpoint=True)
    told = differences(known(**{name: OPTIONS[name]}), known())
    # Another number of heads has another scale.
    assert told.count(" is ") == 1 + (name == "nhead")
    assert {"nhead": "window_heads"}.get(name, name) in told
    assert json.loads(json.dumps(known(window=(math.inf, 0)))) != known()


def test_frames(device):
    """The small functions on ragged frames."""
    x = torch.arange(1, 11, device=device).view(2, 5)
    starts = torch.tensor([-1, 3], device=device)
    assert slide(x, starts, 4).tolist() == [[0, 1, 2, 3], [9, 10, 0, 0]]
    assert slide(x[:, :0], starts, 2).tolist() == [[0, 0], [0, 0]]
    index = torch.tensor([[4, 0], [-1, 5]], device=device)
    assert gather_frames(x, index).tolist() == [[5, 1], [0, 0]]
    counts = torch.tensor([2, 0], device=device)
    joined = splice(x[:, :2], counts, x[:, 3:])
    assert joined.tolist() == [[1, 2, 4, 5], [9, 10, 0, 0]]
    mask = length_mask(counts, 3)
    assert mask.tolist() == [[True, True, False], [False] * 3]
    assert mask_lengths(mask).tolist() == [2, 0]
    with pytest.raises(ValueError, match="after the last real frame"):
        mask_lengths(~mask)
    poisoned = torch.full((2, 3, 2), torch.nan, device=device)
    poisoned[:, :2] = 1
    poisoned.requires_grad_()
    clean = zero_padding(poisoned, mask)
    assert clean[..., 0].tolist() == [[1, 1, 0], [0, 0, 0]]
    clean.square().sum().backward()
    assert poisoned.grad[..., 0].tolist() == [[2, 2, 0], [0, 0, 0]]


def test_waiting(device):
    """Rows in different phases give up what is complete."""
    waiting = Waiting.empty(torch.zeros(2, 0, device=device))
    x = torch.arange(1.0, 11.0, device=device).view(2, 5)
    lengths = torch.tensor([5, 2], device=device)
    ready, count, waiting = waiting.push(x, lengths, 3, False)
    assert count.tolist() == [3, 0]
    assert ready[0].tolist() == [1, 2, 3]
    assert waiting.frames.tolist() == [[4, 5], [6, 7]]
    ready, count, waiting = waiting.push(
        x[:, :1], torch.tensor([0, 1], device=device), 3, False
    )
    assert count.tolist() == [0, 3]
    assert ready[1].tolist() == [6, 7, 6]
    ready, count, waiting = waiting.push(
        x[:, :1], torch.tensor([1, 0], device=device), 3, True
    )
    assert count.tolist() == [3, 0]
    assert ready[0].tolist() == [4, 5, 1]
    assert waiting.frames.shape[1] == 0
