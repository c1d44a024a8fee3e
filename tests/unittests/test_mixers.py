"""Every mixer in every encoder, by its name in `attention_type`."""

from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from torch import nn

from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.lobes.models.transformer.encoder import (
    ENCODERS,
    LaCTEncoderState,
)
from speechbrain_lact.lobes.models.transformer.layers import LaCTConformerLayer
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    LACT_OPTIONS,
    THEIR_TYPES,
    TransformerASR,
)
from speechbrain_lact.nnet.lact import LaCTState
from speechbrain_lact.nnet.mixer import Mixer, MixerState
from speechbrain_lact.nnet.mixers import MIXERS
from speechbrain_lact.nnet.state import State, Waiting, counter, nested

SIZES = {
    "tgt_vocab": 7,
    "input_size": 6,
    "d_model": 8,
    "nhead": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 0,
    "d_ffn": 12,
    "kernel_size": 5,
    "dropout": 0.0,
    "normalize_before": True,
}
# Options of LaCT for frames as few as here.
LACT = {"lact_chunk_size": 4, "lact_heads": 2}


def model(name, kind="conformer", causal=False, **options):
    """A small TransformerASR in double."""
    torch.manual_seed(0)
    given = LACT if name == "LaCT" else {}
    net = TransformerASR(
        **{**SIZES, **given, **options},
        encoder_module=kind,
        attention_type=name,
        causal=causal,
    )
    return net.double()


def frames(device, rows=2, time=19, width=6):
    """Random frames in double."""
    torch.manual_seed(1)
    return torch.randn(rows, time, width, dtype=torch.float64, device=device)


def close(got, expected):
    """Two tensors, the same to a part of the largest value."""
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("kind", list(ENCODERS))
@pytest.mark.parametrize("name", list(MIXERS))
def test_by_name(name, kind, device):
    """It is built, trained, and knows nothing of padding."""
    net = model(name, kind).to(device)
    assert net.carries_state
    for layer in net.encoder.layers:
        assert type(layer.mixer) is MIXERS[name]
    src, lengths = frames(device), torch.tensor([1.0, 11 / 19], device=device)
    out = net.encode(src, lengths)
    out.square().sum().backward()
    for name, parameter in net.encoder.named_parameters():
        assert bool(parameter.grad.isfinite().all()), name
    close(net.encode(src[1:, :11])[0], out[1, :11])
    # A state is no more than an option.
    again, state = net.encode(src, lengths, state=net.initial_state(2))
    close(again, out)
    assert state.lengths.tolist() == [19, 11]


@pytest.mark.parametrize("kind", ["transformer", "conformer"])
@pytest.mark.parametrize("name", list(MIXERS))
def test_causal_pieces(name, kind, device):
    """A causal encoder answers pieces as the whole."""
    net = model(name, kind, causal=True).to(device)
    src, state, outs = frames(device), net.initial_state(2), []
    for part in src.split([1, 7, 2, 9], 1):
        out, state = net.encode(part, state=state, final=False)
        outs.append(out)
    close(torch.cat(outs, 1), net.encode(src))
    with pytest.raises(ValueError, match="needs causal=False"):
        net.make_streaming_context(DynChunkTrainConfig(4, 2))


@pytest.mark.parametrize("name", list(MIXERS))
def test_dynamic_chunks(name, device):
    """A Conformer that is not causal streams in blocks."""
    own = {"lact_order": "apply_update"} if name == "LaCT" else {}
    net = model(name, **own).to(device)
    src, config = frames(device), DynChunkTrainConfig(4, 2)
    whole = net.encode(src, dynchunktrain_config=config)
    context = net.make_streaming_context(config)
    found = [net.encode_streaming(part, context) for part in src.split(4, 1)]
    close(torch.cat(found, 1), whole)
    # All of the past, of a whole utterance.
    net.encode(src, dynchunktrain_config=DynChunkTrainConfig(4, None))


@pytest.mark.parametrize("name", list(MIXERS))
def test_saved(name, tmp_path, device):
    """Its state comes back from a file, and fits no other mixer."""
    net, path = model(name).to(device), str(tmp_path / "state")
    src = frames(device)
    with torch.no_grad():
        _, state = net.encode(src, state=net.initial_state(2))
        state.save(path, {})
        loaded = LaCTEncoderState.load(path, {}, device, net.initial_state(1))
        expected, _ = net.encode(src, state=state)
        got, _ = net.encode(src, state=loaded)
    assert torch.equal(got, expected)
    own = MIXERS[name].state_class is not LaCTState
    other = "LaCT" if own else "gated_delta"
    like = model(other).to(device).initial_state(1)
    with pytest.raises(ValueError, match="State is wanted, not"):
        LaCTEncoderState.load(path, {}, device, like)
    with safe_open(path, "pt") as file:
        named = file.metadata().get("parts", "")
    # A file without names holds LaCT's, as those of older versions do.
    assert own == bool(named)


def test_window_is_lact_without_fast_weights(device):
    """With the same parameters, the same answers."""
    for causal in (False, True):
        window = (5, 0 if causal else 3)
        ours = model("window", causal=causal, mixer={"window": window})
        lact = model("LaCT", causal=causal, lact_fast=False, lact_window=window)
        lact.load_state_dict(ours.state_dict())
        ours, lact = ours.to(device), lact.to(device)
        src = frames(device)
        assert torch.equal(ours.encode(src), lact.encode(src))


@pytest.mark.parametrize("causal", [False, True])
def test_full_is_attention(causal, device):
    """To the whole sequence: SpeechBrain's layer with the same weights."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ffn": 24, "nhead": 2, "kernel_size": 5}
    host = ConformerEncoderLayer(
        attention_type="RoPEMHA", causal=causal, **sizes
    ).eval()
    layer = LaCTConformerLayer({}, mixer="full", causal=causal, **sizes).eval()
    weights = host.state_dict()
    fused = weights["mha_layer.in_proj_weight"]
    # The fused projection interleaves query, key and value per head.
    fused = fused.unflatten(0, (2, 3, -1)).transpose(0, 1).flatten(0, 2)
    layer.load_state_dict({**weights, "mha_layer.in_proj_weight": fused})
    layer.mixer.scale = host.mha_layer.scale
    host, layer = host.double().to(device), layer.double().to(device)
    x, mask = frames(device, 1, 150, 16), None
    if causal:
        mask = torch.ones(150, 150, dtype=torch.bool, device=device).triu(1)
    close(layer(x)[0], host(x, src_mask=mask)[0])


def test_every_lact_keyword_is_an_argument():
    """The table of keywords names arguments of LaCT that there are, each
    once."""
    given = {
        "lact_chunk_size": 3,
        "lact_window": (4, 2),
        "lact_order": "apply_update",
        "lact_expansion": 1.5,
        "lact_optimizer": "sgd",
        "lact_momentum": False,
        "lact_weight_norm": "pre",
        "lact_inner_loss": "cosine",
        "lact_base_lr": 0.5,
        "lact_step_scale": 2.0,
        "lact_max_step_norm": 3.0,
        "lact_silu_values": False,
        "lact_checkpoint": True,
        "lact_least_chunk": 2,
        "lact_heads": 4,
        "lact_fast": [0],
        "lact_backend": "torch",
        "lact_learn": ["w1"],
    }
    assert set(LACT_OPTIONS) == {*given, "lact_block_window"}
    assert len(set(LACT_OPTIONS.values())) == len(LACT_OPTIONS)
    net = model("LaCT", d_model=16, **given)
    first, second = (layer.mixer for layer in net.encoder.layers)
    assert (first.fast, second.fast) == (True, False)
    assert first.least_chunk == 2 and first.momentum_proj is None
    assert (first.window.left, first.window.right) == (4, 2)
    assert first.silu_values is False and first.first_step_scale == 2.0
    assert first.w0.shape == (4, 6, 4)
    wanted = {
        "chunk_size": 3,
        "order": "apply_update",
        "optimizer": "sgd",
        "weight_norm": "pre",
        "inner_loss": "cosine",
        "base_lr": 0.5,
        "max_step_norm": 3.0,
        "nhead": 4,
        "checkpoint": True,
        "backend": "torch",
        "learn": ["w1"],
    }
    known = {
        **first.configuration(),
        "backend": first.rule.backend,
        "checkpoint": first.rule.checkpoint,
    }
    assert {name: known[name] for name in wanted} == wanted


def test_names_of_attention():
    """SpeechBrain's are as it knows them, and a name that nobody knows is
    answered with those that there are."""
    for name in THEIR_TYPES:
        kind = "transformer" if name == "RoPEMHA" else "conformer"
        assert not model(name, kind).carries_state
    for name in ("lact", "RopeMHA", None):
        with pytest.raises(ValueError) as error:
            model(name, lact_chunk_size=4)
        for known in (*MIXERS, *THEIR_TYPES, repr(name)):
            assert known in str(error.value)


def test_refused():
    """What was given and what is allowed."""
    for options, message in (
        ({"lact_heads": 2}, "lact_heads: only with attention_type: LaCT, not"),
        ({"positional_encoding": None}, "attention_type: gated_delta and no"),
    ):
        with pytest.raises(ValueError, match=message):
            model("gated_delta", **options)
    for name in ("LaCT", "RoPEMHA"):
        with pytest.raises(ValueError, match=f"mixer: not with .*: {name}"):
            model(name, mixer={"expand_v": 1.0})
    with pytest.raises(TypeError, match="expand"):
        model("window", mixer={"expand": 2})
    with pytest.raises(TypeError, match="lact_size"):
        model("LaCT", lact_size=2)
    with pytest.raises(
        ValueError, match="a mixer is one of LaCT, window, full"
    ):
        ENCODERS["transformer"](1, {}, mixer="x", nhead=2, d_model=8, d_ffn=8)


@dataclass
class MeanState(MixerState):
    """Sum and number of all frames so far."""

    total: torch.Tensor = None
    count: torch.Tensor = counter()
    waiting: Waiting = nested(Waiting)
    lengths: torch.Tensor = counter()


class Mean(Mixer):
    """The mean of all frames so far: a mixer as small as they come."""

    state_class = MeanState

    def __init__(self, d_model, nhead, dropout=0.0, causal=False):
        super().__init__(d_model, nhead, dropout, causal)
        self.proj = nn.Linear(d_model, d_model)

    def reset_parameters(self):
        self.proj.reset_parameters()

    def initial_state(self, batch):
        waiting = self.nothing_waits(batch)
        total = self.proj.weight.new_zeros(batch, self.d_model)
        return MeanState(total, waiting.counts, waiting, waiting.counts)

    def mix(self, x, plan, state, final, window):
        state = state or self.initial_state(len(x))
        mask = torch.ones_like(x[..., :1])
        if plan.mask is not None:
            mask = plan.mask.unsqueeze(-1).to(x)
        total = state.total[:, None] + (x * mask).cumsum(1)
        count = state.count[:, None, None] + mask.cumsum(1)
        after = state.count + plan.counts(plan.lengths)
        new = MeanState(state.total + (x * mask).sum(1), after)
        return self.proj(total / count), new


def test_a_mixer_is_one_line(monkeypatch, tmp_path, device):
    """One that is added to the table works in an encoder, with its state."""
    monkeypatch.setitem(MIXERS, "mean", Mean)
    test_by_name("mean", "transformer", device)
    test_causal_pieces("mean", "conformer", device)
    test_dynamic_chunks("mean", device)
    net, path = model("mean").to(device), str(tmp_path / "state")
    _, state = net.encode(frames(device), state=net.initial_state(2))
    state.save(path, {})
    loaded = LaCTEncoderState.load(path, {}, device, net.initial_state(1))
    assert type(loaded.layers[0].mixer) is MeanState


def test_a_state_of_an_unknown_mixer_is_refused(tmp_path):
    """With a sentence, where the class is not there."""

    @dataclass
    class GoneState(MixerState):
        total: torch.Tensor = None

    @dataclass
    class Outer(State):
        inner: State = nested(MixerState)

    path = str(tmp_path / "state")
    Outer(GoneState(torch.zeros(1, 2))).save(path, {})
    assert type(Outer.load(path, {}).inner) is GoneState
    GoneState.__name__ = "Other"
    with pytest.raises(ValueError, match="holds a GoneState, which is"):
        Outer.load(path, {})
