"""Encoders and TransformerASR against SpeechBrain's own."""

import pytest
import torch
from torch import nn

from speechbrain.lobes.models.transformer import TransformerASR as parent
from speechbrain.lobes.models.transformer.Branchformer import (
    BranchformerEncoderLayer,
)
from speechbrain.lobes.models.transformer.Conformer import (
    ConformerEncoder,
    ConformerEncoderLayer,
)
from speechbrain.lobes.models.transformer.Transformer import (
    TransformerEncoderLayer,
)
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.lobes.models.transformer.encoder import (
    ENCODERS,
    LaCTConformerEncoder,
)
from speechbrain_lact.lobes.models.transformer.layers import (
    LaCTBranchformerLayer,
    LaCTConformerLayer,
    LaCTTransformerLayer,
)
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    EncoderWrapper,
    TransformerASR,
)
from speechbrain_lact.nnet.plan import ChunkPlan

WIDE = {"fast": False, "window": (500, 500), "order": "update_apply"}
PAST = {"fast": False, "window": (600, 0), "order": "apply_update"}
KINDS = list(ENCODERS)


def close(got, expected, bound=1e-9):
    """Two tensors, the same to a part of the largest value."""
    assert got.shape == expected.shape
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= bound, f"{worst:.2e} > {bound:.0e}"


def copy_host(host, layer, name, nhead=2):
    """Gives our layer the weights and the scale of a host with RoPEMHA."""
    weights = host.state_dict()
    fused = f"{name}.in_proj_weight"
    # The fused projection interleaves query, key and value per head.
    weight = weights[fused].unflatten(0, (nhead, 3, -1))
    weights[fused] = weight.transpose(0, 1).flatten(0, 2)
    layer.load_state_dict(weights)
    getattr(layer, name).scale = getattr(host, name).scale


def conformers(device, causal=False):
    """SpeechBrain's Conformer layer and ours with the same weights."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ffn": 24, "nhead": 2, "kernel_size": 5}
    host = ConformerEncoderLayer(
        attention_type="RoPEMHA", causal=causal, **sizes
    )
    lact = PAST if causal else WIDE
    layer = LaCTConformerLayer(lact, causal=causal, **sizes)
    copy_host(host, layer, "mha_layer")
    return (m.to(device).double().eval() for m in (host, layer))


def frames(device, rows=1, time=23, width=16):
    """Random frames in double."""
    torch.manual_seed(1)
    return torch.randn(rows, time, width, dtype=torch.float64, device=device)


@pytest.mark.parametrize("causal", [False, True])
def test_conformer_layer_equals_its_host(causal, device):
    """The same output for an utterance without padding."""
    host, layer = conformers(device, causal)
    x = frames(device)
    mask = None
    if causal:
        mask = torch.ones(23, 23, dtype=torch.bool, device=device).triu(1)
    expected, _ = host(x, src_mask=mask)
    out, attn = layer(x)
    assert attn is None
    close(out, expected)


@pytest.mark.parametrize("left", [0, 1, 2, None])
@pytest.mark.parametrize("size", [1, 4, 6, 30])
def test_dynamic_chunks_equal_the_host(left, size, device):
    """Mask and convolution of dynamic chunks, also of an encoder."""
    config = DynChunkTrainConfig(size, left)
    x = frames(device)
    mask = parent.make_transformer_src_mask(x, dynchunktrain_config=config)
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ffn": 24, "nhead": 2, "kernel_size": 5}
    host = ConformerEncoder(2, attention_type="RoPEMHA", **sizes).double()
    net = LaCTConformerEncoder(2, WIDE, **sizes).double()
    host, net = host.to(device).eval(), net.to(device).eval()
    for ours, theirs in zip(net.layers, host.layers):
        copy_host(theirs, ours, "mha_layer")
    expected, _ = host(x, src_mask=mask, dynchunktrain_config=config)
    out, _ = net(x, dynchunktrain_config=config)
    close(out, expected)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kernel", [3, 7])
def test_branchformer_layer_equals_its_host(linear, kernel, device):
    """The convolution branch with its mirrored ends; then the whole layer,
    the mixer's output replaced."""
    torch.manual_seed(0)
    sizes = {
        "d_model": 16,
        "nhead": 2,
        "kernel_size": kernel,
        "csgu_linear_units": 12,
        "gate_activation": nn.GELU,
        "use_linear_after_conv": linear,
    }
    host = BranchformerEncoderLayer(attention_type="regularMHA", **sizes)
    layer = LaCTBranchformerLayer(WIDE, **sizes)
    host, layer = (m.to(device).double().eval() for m in (host, layer))
    weights = {
        name: torch.randn_like(x) if "csgu.linear" in name else x
        for name, x in host.state_dict().items()
        if "mha_layer" not in name
    }
    host.load_state_dict(weights, strict=False)
    layer.load_state_dict(weights, strict=False)
    x = frames(device, rows=2)
    plan = ChunkPlan.of(x)
    close(layer._convolve(x, plan), host.convolution_branch(x))

    def mixer(q, *args, **kwargs):
        return q.flip(1) * 2, None

    host.mha_layer.forward = layer.mha_layer.forward = mixer
    close(layer(x)[0], host(x)[0])


def test_branchformer_shorter_than_its_kernel(device):
    """SpeechBrain cannot mirror such a row; ours is the same in any batch."""
    torch.manual_seed(0)
    layer = LaCTBranchformerLayer(
        WIDE, d_model=16, nhead=2, kernel_size=9, csgu_linear_units=12
    )
    layer = layer.to(device).double().eval()
    x = frames(device, time=12)
    for length in (1, 2, 3):
        padding = torch.arange(12, device=device)[None] >= length
        both, _ = layer(x, src_key_padding_mask=padding)
        alone, _ = layer(x[:, :length])
        close(both[:, :length], alone)


@pytest.mark.parametrize("before", [True, False])
def test_transformer_layer_equals_its_host(before, device):
    """Norms before and after."""
    torch.manual_seed(0)
    sizes = {
        "d_model": 16,
        "d_ffn": 24,
        "nhead": 2,
        "normalize_before": before,
    }
    host = TransformerEncoderLayer(attention_type="RoPEMHA", **sizes)
    layer = LaCTTransformerLayer(WIDE, **sizes)
    copy_host(host, layer, "self_att")
    host, layer = (m.to(device).double().eval() for m in (host, layer))
    x = frames(device)
    close(layer(x)[0], host(x)[0])


def test_conformer_layer_with_a_state_and_no_mask(device):
    """A layer alone goes on without a padding mask, too."""
    torch.manual_seed(0)
    layer = LaCTConformerLayer(
        {"chunk_size": 4, "order": "apply_update", "fast_heads": 2},
        d_model=16,
        d_ffn=24,
        nhead=2,
        kernel_size=5,
        causal=True,
    )
    layer = layer.to(device).double().eval()
    x = frames(device)
    whole, _ = layer(x)
    state, found = layer.initial_state(1), []
    for part in x.split(7, 1):
        out, _, state = layer(part, state=state, final=False)
        found.append(out)
    close(torch.cat(found, 1), whole)


SIZES = {
    "tgt_vocab": 7,
    "input_size": 12,
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
    "d_ffn": 24,
    "kernel_size": 5,
    "csgu_linear_units": 12,
    "normalize_before": True,
}


def model(kind, device, causal=False, **options):
    """A small TransformerASR with LaCT, in double."""
    torch.manual_seed(0)
    net = TransformerASR(
        **SIZES,
        encoder_module=kind,
        attention_type="LaCT",
        causal=causal,
        lact_chunk_size=4,
        lact_heads=2,
        **options,
    )
    return net.to(device).double().eval()


@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_encode(kind, device):
    """With targets and without; three and four dimensions; wav_len."""
    net = model(kind, device)
    src = frames(device, 3, 20, 12)
    tgt = torch.randint(1, 7, (3, 5), device=device)
    wav_len = torch.tensor([1.0, 0.6, 0.05], device=device)
    out = net.encode(src, wav_len)
    encoded, decoded = net(src, tgt, wav_len)
    only, attention = net(src, None, wav_len)
    close(encoded, out)
    close(only, out)
    assert attention == [None, None]
    close(net.encode(src.view(3, 20, 4, 3), wav_len), out)
    close(EncoderWrapper(net)(src, wav_len), out)
    # Each row as if it were alone, its targets too.
    for row, length in enumerate((20, 12, 1)):
        one = slice(row, row + 1)
        alone, token = net(src[one, :length], tgt[one])
        close(encoded[one, :length], alone)
        close(decoded[one], token)
    # The decoder is causal, and `decode` (fp32 only) is the same decoder.
    lengths = torch.tensor([20, 12, 1], device=device)
    for end in (1, 3, 5):
        prediction, _ = net.float().decode(
            tgt[:, :end], encoded.float(), lengths
        )
        close(prediction.double(), decoded[:, :end], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_output_hidden_states(kind, device):
    """Input of the first layer and output of all, in the parent's order."""
    net = model(kind, device, output_hidden_states=True)
    src = frames(device, 2, 20, 12)
    tgt = torch.randint(1, 7, (2, 5), device=device)
    out, hidden = net.encode(src)
    assert len(hidden) == 3
    close(hidden[0], net.custom_src_module(src))
    close(hidden[1], net.encoder.layers[0](hidden[0])[0])
    close(net.encoder.norm(hidden[2]), out)
    encoded, hidden2, decoded = net(src, tgt)
    close(encoded, out)
    close(hidden2[1], hidden[1])
    encoded, _, hidden3 = net(src, None)
    close(hidden3[2], hidden[2])
    close(decoded, model(kind, device)(src, tgt)[1])
    state = net.initial_state(2)
    *_, decoded2, new = net(src, tgt, state=state)
    close(decoded2, decoded)
    assert new.lengths.tolist() == [20, 20]


@pytest.mark.parametrize("kind", KINDS)
def test_layerdrop(kind, device):
    """In training layers are left out, each as SpeechBrain draws; never in
    evaluation."""
    net = model(kind, device, layerdrop_prob=0.5, dropout=0.0)
    src = frames(device, 2, 20, 12)
    whole = model(kind, device).encode(src)
    close(net.encode(src), whole)
    net.train()
    first, second = net.encoder.layers
    seen = set()
    for seed in range(12):
        torch.manual_seed(seed)
        keep = torch.rand(2) > 0.5
        torch.manual_seed(seed)
        out = net.encode(src)
        expected = net.custom_src_module(src)
        for layer, kept in zip((first, second), keep.tolist()):
            expected = layer(expected)[0] if kept else expected
        close(out, net.encoder.norm(expected))
        seen.add(tuple(keep.tolist()))
    assert len(seen) == 4


@pytest.mark.parametrize("kind", ["transformer", "conformer"])
def test_causal(kind, device):
    """Causal means apply_update and a window to the left, in all layers."""
    net = model(kind, device, causal=True)
    src = frames(device, 1, 20, 12).requires_grad_()
    out = net.encode(src)
    (slope,) = torch.autograd.grad(out[0, 9].square().sum(), src)
    assert bool((slope[:, 10:] == 0).all())
    assert bool((slope[:, 0] != 0).any())


def test_unspecified_causal_is_that_of_the_parent(device):
    """SpeechBrain warns and takes True."""
    net = model("conformer", device, causal=None)
    assert net.causal
    assert net.encoder.layers[0].mixer.order == "apply_update"
    assert net.encoder.layers[0].convolution_module.causal


@pytest.mark.parametrize("kind", KINDS)
def test_options_reach_the_layers(kind, device):
    """Each lact_ option, and each option of the host."""
    net = model(
        kind,
        device,
        lact_order="apply_update",
        lact_window=[9, 3],
        lact_expansion=1.5,
        lact_optimizer="adam",
        lact_weight_norm="pre",
        lact_inner_loss="mse",
        lact_base_lr=0.125,
        lact_max_step_norm=2.0,
        lact_silu_values=False,
        lact_checkpoint=True,
        dropout=0.25,
    )
    assert len(net.encoder.layers) == 2
    for layer in net.encoder.layers:
        mixer = layer.mixer
        assert (mixer.window.left, mixer.window.right) == (9, 3)
        wanted = {
            "chunk_size": 4,
            "order": "apply_update",
            "optimizer": "adam",
            "weight_norm": "pre",
            "inner_loss": "mse",
            "base_lr": 0.125,
            "max_step_norm": 2.0,
            "nhead": 2,
            "checkpoint": True,
        }
        known = {
            **mixer.configuration(),
            "checkpoint": mixer.rule.checkpoint,
        }
        assert {name: known[name] for name in wanted} == wanted
        assert mixer.w0.shape == (2, 12, 8)
        assert mixer.silu_values is False and mixer.dropout == 0.25
        assert mixer.momentum_proj is None
    net = model(kind, device, lact_momentum=False, lact_block_window=[5, 1])
    assert net.encoder.layers[0].mixer.momentum_proj is None
    assert net.encoder.layers[0].mixer.window.block == 5
    net = model(kind, device, lact_fast=False)
    assert not hasattr(net.encoder.layers[0].mixer, "w0")


@pytest.mark.parametrize("kind", KINDS)
def test_fast_weights_in_some_layers(kind, device):
    """Only these layers remember what came before; the others do not learn."""
    x = frames(device, time=16, width=12)

    def heard(fast, forget=None):
        """Output of the second half; a layer may forget the first."""
        net = model(kind, device, lact_fast=fast)
        start = net.initial_state(1)
        _, state = net.encode(x[:, :8], state=start)
        if forget is not None:
            state.layers[forget] = start.layers[forget]
        return net.encode(x[:, 8:], state=state)[0]

    for fast in ([0], [1]):
        (remembers,), (other,) = fast, {0, 1} - set(fast)
        whole = heard(fast)
        assert torch.equal(whole, heard(fast, forget=other))
        assert not torch.allclose(whole, heard(fast, forget=remembers))
    assert torch.equal(heard([0, 1]), heard(True))


def test_a_list_of_layers_leaves_the_decoder_alone(device):
    """It names layers of the encoder; all of the decoder's remember."""
    net = model("conformer", device, lact_decoder_chunk_size=4, lact_fast=[])
    assert not any(layer.mixer.fast for layer in net.encoder.layers)
    assert all(layer.self_attn.fast is True for layer in net.decoder.layers)


def test_initial_weights_are_those_of_lact(device):
    """The parent re-initialises matrices; fast weights are drawn again."""
    net = model("conformer", device)
    for layer in net.encoder.layers:
        mixer = layer.mixer
        assert bool((mixer.step_scale == 1).all())
        assert bool((mixer.qk_scale == 1).all())
        assert bool((mixer.qk_offset == 0).all())
        # randn / sqrt(fan-in): the mean square is 1 / fan-in.
        for w in (mixer.w0, mixer.w1, mixer.w2):
            square = float(w.detach().square().mean() * w.shape[-1])
            assert 0.6 < square < 1.5
    first, second = (layer.mixer.w0 for layer in net.encoder.layers)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_number_of_layers(kind, layers, device):
    """None leaves a model without encoder layers, as in the parent."""
    sizes = {**SIZES, "num_encoder_layers": layers}
    net = TransformerASR(
        **sizes,
        encoder_module=kind,
        attention_type="LaCT",
        causal=False,
        lact_chunk_size=4,
    )
    if layers:
        assert len(net.encoder.layers) == layers
    host = parent.TransformerASR(
        **sizes, encoder_module="conformer", attention_type="RoPEMHA",
        causal=False,
    )  # fmt: skip
    assert hasattr(net, "encoder") == hasattr(host, "encoder")


def test_refused_options():
    """What was given and what is allowed."""

    def build(**options):
        given = {
            **SIZES,
            "encoder_module": "conformer",
            "attention_type": "LaCT",
            "causal": False,
            **options,
        }
        return TransformerASR(**given)

    with pytest.raises(ValueError, match="lact_heads, lact_fast: only with"):
        build(attention_type="RoPEMHA", lact_heads=2, lact_fast=False)
    with pytest.raises(ValueError, match="one of transformer, conformer"):
        build(encoder_module="x")
    with pytest.raises(ValueError, match="normalize_before must be True"):
        build(normalize_before=False)
    with pytest.raises(ValueError, match="shorter than the chunk of 512"):
        build(causal=True, lact_window=(100, 0))
    with pytest.raises(ValueError, match="cannot be causal"):
        build(encoder_module="branchformer", causal=True)
    with pytest.raises(ValueError, match="order must be one of"):
        build(lact_order="backwards")
    with pytest.raises(ValueError, match="needs order apply_update"):
        build(causal=True, lact_order="update_apply")
    with pytest.raises(ValueError, match="optimizer must be one of"):
        build(lact_optimizer="sdg")
    for fast in ([0, 2], [-1], 1, "all"):
        with pytest.raises(ValueError, match="lact_fast: True, False or num"):
            build(lact_fast=fast)


def test_dynamic_chunks_of_a_causal_conformer(device):
    """Refused with a ValueError rather than an assertion."""
    net = model("conformer", device, causal=True)
    with pytest.raises(ValueError, match="causal"):
        net.encode(
            frames(device, 1, 20, 12),
            dynchunktrain_config=DynChunkTrainConfig(4, 2),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_counted(kind, device):
    """A state counts the frames since its start."""
    net = model(kind, device)
    src = frames(device, 2, 20, 12)
    wav_len = torch.tensor([1.0, 0.5], device=device)
    _, state = net.encode(src, wav_len, state=net.initial_state(2))
    assert state.lengths.tolist() == [20, 10]
    assert [int(n) for n in state.layers[1].mixer.fast.steps[:, 0]] == [5, 3]
    assert state.frames.tolist() == [20, 10]


@pytest.mark.parametrize("attention", ["RoPEMHA", "RelPosMHAXL", "regularMHA"])
@pytest.mark.parametrize("kind", ["transformer", "conformer"])
def test_other_attention_is_that_of_speechbrain(kind, attention, device):
    """Bit for bit under the same seed."""
    results = []
    for cls in (parent.TransformerASR, TransformerASR):
        torch.manual_seed(0)
        net = cls(
            **SIZES,
            encoder_module=kind,
            attention_type=attention,
            causal=False,
        )
        net = net.to(device).eval()
        torch.manual_seed(1)
        src = torch.randn(2, 20, 12, device=device)
        tgt = torch.randint(1, 7, (2, 5), device=device)
        wav_len = torch.tensor([1.0, 0.6], device=device)
        results.append([*net(src, tgt, wav_len), net.encode(src, wav_len)])
    for ours, theirs in zip(*results):
        assert torch.equal(ours, theirs)


def test_compiled_equals_eager(device):
    """What torch.compile traces is the same computation."""
    torch.manual_seed(0)
    net = model("conformer", device)
    src = frames(device, 2, 20, 12)
    wav_len = torch.tensor([1.0, 0.5], device=device)
    compiled = torch.compile(net.encode, backend="aot_eager")
    out, state = compiled(src, wav_len, state=net.initial_state(2))
    expected, kept = net.encode(src, wav_len, state=net.initial_state(2))
    assert torch.allclose(out, expected, atol=1e-9)
    after, before = state.layers[0].mixer.fast, kept.layers[0].mixer.fast
    assert torch.allclose(after.weights, before.weights, atol=1e-9)
