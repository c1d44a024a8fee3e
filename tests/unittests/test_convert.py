"""Tests of the retrofit: a SpeechBrain network, and the same with LaCT.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from torch import nn

from speechbrain.lobes.models.transformer.TransformerASR import (
    TransformerASR as Host,
)
from speechbrain.utils.checkpoints import Checkpointer
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain_lact.convert import (
    convert,
    load_whole,
    main,
    retrofit,
    retrofit_weights,
)
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)
from speechbrain_lact.nnet.lact import LaCT
from speechbrain_lact.training.asr import freeze

ROOT = Path(__file__).parents[2]
SIZES = {
    "tgt_vocab": 7,
    "input_size": 12,
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 1,
    "d_ffn": 24,
    "kernel_size": 5,
    "dropout": 0.2,
    "csgu_linear_units": 12,
    "max_length": 300,
    "causal": False,
}
CHUNK = 8

# Kind, attention, normalize_before, causal: all that SpeechBrain can build.
HOSTS = [
    *itertools.product(
        ["transformer"], ["RoPEMHA", "regularMHA"], [True, False], [False, True]
    ),
    *itertools.product(
        ["conformer"], ["RoPEMHA", "regularMHA"], [True], [False, True]
    ),
    ("branchformer", "regularMHA", True, False),
]


def host(kind, attention="RoPEMHA", before=True, causal=False, **options):
    """A network as if trained: no bias and no scale is what it began as."""
    torch.manual_seed(0)
    options = {**SIZES, "causal": causal, **options}
    net = Host(
        encoder_module=kind,
        attention_type=attention,
        normalize_before=before,
        **options,
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.double().eval()


def batch(dtype=torch.float64, time=150, rows=3):
    """Input, tokens and lengths without padding."""
    torch.manual_seed(1)
    src = torch.randn(rows, time, 12, dtype=dtype)
    return src, torch.randint(1, 7, (rows, 5)), torch.ones(rows)


def worst(got, expected):
    """Largest difference over the largest value."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    return float((got - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind, attention, before, causal", HOSTS)
@torch.no_grad()
def test_outputs_are_those_of_the_host(kind, attention, before, causal):
    """Encoder and decoder, in both types, a batch and one alone."""
    net = host(kind, attention, before, causal)
    for dtype, bound in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        ours = retrofit(net.to(dtype), chunk_size=CHUNK)
        assert isinstance(ours, TransformerASR) and ours.carries_state
        src, tgt, lengths = batch(dtype)
        for got, expected in zip(
            ours(src, tgt, lengths), net(src, tgt, lengths)
        ):
            assert worst(got, expected) < bound
        one = src[:1], lengths[:1]
        assert worst(ours.encode(*one), net.encode(*one)) < bound
    # SpeechBrain's own `decode` knows no float64.
    got, expected = (
        x.decode(tgt[:1], net.encode(*one))[0] for x in (ours, net)
    )
    assert worst(got, expected) < 1e-5


@pytest.mark.parametrize("kind", ["transformer", "conformer", "branchformer"])
@torch.no_grad()
def test_a_padded_row_is_that_row_alone(kind):
    """Where the host's convolutions read padding, ours still give what the
    host gives for the row by itself."""
    net = host(kind, "regularMHA")
    ours = retrofit(net, chunk_size=CHUNK)
    src, _, _ = batch(rows=2, time=40)
    out = ours.encode(src, torch.tensor([1.0, 0.6]))
    assert worst(out[:1], net.encode(src[:1])) < 1e-9
    assert worst(out[1:, :24], net.encode(src[1:, :24])) < 1e-9


@torch.no_grad()
def test_dynamic_chunks_are_those_of_the_host():
    config = DynChunkTrainConfig(8, 2)
    net = host("conformer", "regularMHA")
    src, _, lengths = batch()
    got = retrofit(net, chunk_size=CHUNK).encode(
        src, lengths, dynchunktrain_config=config
    )
    expected = net.encode(src, lengths, dynchunktrain_config=config)
    assert worst(got, expected) < 1e-9


@torch.no_grad()
def test_what_is_not_in_the_parameters_is_kept():
    """Activations with arguments, dropout, modes, hidden states."""

    def activation():
        return nn.LeakyReLU(0.3)

    net = host(
        "conformer",
        conformer_activation=activation,
        activation=activation,
        positional_encoding=None,
        output_hidden_states=True,
        layerdrop_prob=0.5,
        num_encoder_layers=3,
    )
    net.custom_src_module.layers[0].w.weight.requires_grad_(False)
    before = {name: x.clone() for name, x in net.state_dict().items()}
    ours = retrofit(net, chunk_size=CHUNK)
    src, tgt, lengths = batch()
    got, expected = ours(src, tgt, lengths), net(src, tgt, lengths)
    assert len(got[1]) == len(expected[1]) == 4
    pairs = [(got[0], expected[0]), (got[2], expected[2])]
    for mine, theirs in [*pairs, *zip(got[1], expected[1])]:
        assert worst(mine, theirs) < 1e-9
    assert ours.layerdrop_prob == ours.encoder.layerdrop_prob == 0.5
    assert ours.encoder.layers[2].mixer.dropout == 0.2
    assert not ours.custom_src_module.layers[0].w.weight.requires_grad
    assert not ours.training and retrofit(net.train()).training
    for parameter in ours.parameters():
        parameter.zero_()
    for name, x in net.state_dict().items():
        assert torch.equal(x, before[name])


@torch.no_grad()
def test_narrow_window_changes_what_lies_beyond_it():
    """One transformer layer: a frame's output is the host's for as long as
    the window holds all there is, and no other frame is heard."""
    net = host("transformer", num_encoder_layers=1)
    ours = retrofit(net, chunk_size=CHUNK, window=(6, 3))
    src, _, _ = batch(rows=1)
    whole, narrow = net.encode(src), ours.encode(src)
    assert (narrow - whole).abs().amax(2).min() > 1e-6
    assert worst(ours.encode(src[:, :4]), net.encode(src[:, :4])) < 1e-9
    # What frame 50 hears is 44 to 53: rotary positions are differences.
    for place in (6, 50, 146):
        alone = net.encode(src[:, place - 6 : place + 4])[:, 6]
        assert worst(narrow[:, place], alone) < 1e-9
    src[:, 54:] += 1
    src[:, :44] -= 1
    assert torch.equal(ours.encode(src)[:, 50], narrow[:, 50])


def test_training_the_gate_moves_the_gate_alone():
    """All else stays to the bit, and then the memory is heard."""
    ours = retrofit(host("conformer"), chunk_size=CHUNK).float()
    freeze(ours, [r"\.gate_proj\."])
    before = {name: x.clone() for name, x in ours.state_dict().items()}
    src, _, lengths = batch(torch.float32)
    with torch.no_grad():
        silent, _ = ours.encode(src, state=ours.initial_state(3))
    optimizer = torch.optim.AdamW(ours.parameters(), lr=0.1)
    ours.encode(src, lengths).square().mean().backward()
    optimizer.step()
    moved = {
        name
        for name, x in ours.state_dict().items()
        if not torch.equal(x, before[name])
    }
    assert moved == {name for name in before if ".gate_proj." in name}
    assert len(moved) == 4
    with torch.no_grad():
        heard, state = ours.encode(src, state=ours.initial_state(3))
        # What was heard before is heard now, and was not while silent.
        after, _ = ours.encode(src, state=state)
    assert worst(heard, silent) > 1e-4
    assert worst(after, heard) > 1e-4


def test_the_recipe_trains_the_fast_weights_and_nothing_else():
    """`trainable` of the YAML; the gate opens the way to all of them."""
    yaml = YAML().load((ROOT / "hparams" / "retrofit_ctc.yaml").read_text())
    ours = retrofit(host("conformer"), chunk_size=CHUNK)
    freeze(ours, yaml["trainable"])
    trained = {n for n, p in ours.named_parameters() if p.requires_grad}
    known = {n for n, _ in host("conformer").named_parameters()}
    new = {n for n, _ in ours.named_parameters()} - known
    assert trained == new and len(trained) == 2 * 13
    src, _, lengths = batch()
    for step in range(2):
        ours.zero_grad()
        ours.encode(src, lengths).square().mean().backward()
        heard = {
            n
            for n, p in ours.named_parameters()
            if p.grad is not None and p.grad.abs().max() > 0
        }
        if step == 0:
            assert all(".gate_proj." in name for name in heard)
        with torch.no_grad():
            for layer in ours.encoder.layers:
                layer.mixer.gate_proj.bias.fill_(0.5)
    assert heard == trained


def test_fast_weights_begin_as_usual():
    """All but the gate is drawn as in a new layer."""
    ours = retrofit(host("transformer"), chunk_size=CHUNK, heads=2, order=None)
    for layer in ours.encoder.layers:
        mixer = layer.mixer
        assert mixer.fast_heads == 2 and mixer.order == "update_apply"
        for name in ("step_scale", "qk_scale", "fast_norm"):
            assert bool((getattr(mixer, name) == 1).all())
        square = float(mixer.w0.detach().square().mean() * 8)
        assert 0.6 < square < 1.5
        assert float(mixer.lr_proj.weight.detach().abs().max()) > 0
        assert not mixer.gate_proj.weight.any()
        assert not mixer.gate_proj.bias.any()


def test_refused_networks():
    """What cannot become LaCT, and what to do."""
    net = host("conformer", "RelPosMHAXL")
    with pytest.raises(
        ValueError, match="learned projection.*learned biases.*train.*RoPEMHA"
    ):
        retrofit(net)
    with pytest.raises(ValueError, match="not hypermixing"):
        retrofit(host("conformer", "hypermixing"))
    with pytest.raises(ValueError, match="not Linear"):
        retrofit(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="has a mixer of ours already"):
        retrofit(retrofit(host("conformer")))
    with pytest.raises(ValueError, match="needs positional_encoding"):
        net = host("conformer", "regularMHA", positional_encoding=None)
        retrofit(net)
    with pytest.raises(ValueError, match="shorter than the chunk"):
        retrofit(host("conformer", causal=True), window=(4, 0))
    ours = retrofit(host("transformer", "regularMHA", causal=True))
    src, _, _ = batch()
    with pytest.raises(ValueError, match="whole ones"):
        ours.encode(src, state=ours.initial_state(3), final=False)
    with pytest.raises(ValueError, match="301 frames.*max_length"):
        ours.encode(torch.randn(1, 301, 12, dtype=torch.float64))


@torch.no_grad()
def test_an_endless_window_in_pieces():
    """A causal host piece by piece: the state keeps all keys, no more."""
    net = host("transformer", causal=True)
    ours = retrofit(net, chunk_size=CHUNK)
    src, _, lengths = batch()
    state, found = ours.initial_state(3), []
    for i, piece in enumerate(src.split(50, 1)):
        out, state = ours.encode(piece, state=state, final=i == 2)
        found.append(out)
        kept = state.layers[0].mixer.window.keys.shape[1]
        assert kept == (50 * (i + 1) if i < 2 else 0)
    assert worst(torch.cat(found, 1), net.encode(src, lengths)) < 1e-9


# Saved parameters


@pytest.fixture
def run_folder(tmp_path):
    """A finished run with two checkpoints, and the network it had tested."""
    return make_run(tmp_path / "run", host("conformer").float())


def make_run(folder, net, attention="RoPEMHA"):
    """The files of a run of the recipe whose parts are these."""
    (folder / "save").mkdir(parents=True)
    model = nn.ModuleList([nn.Linear(3, 4), net])
    normalizer = nn.Linear(1, 1)
    saver = Checkpointer(
        folder / "save", {"model": model, "normalizer": normalizer}
    )
    sums = {}
    for wer in (30.0, 10.0, 12.0):
        if wer < 30:
            for name, x in net.state_dict().items():
                sums[name] = sums.get(name, 0) + x / 2
        saver.save_checkpoint(meta={"WER": wer})
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.01)
    saver.save_checkpoint(meta={"unfinished": True})
    net.load_state_dict(sums)
    (folder / "save" / "40_char.model").write_text("tokens")
    (folder / "hyperparams.yaml").write_text(
        "d_model: 16\nnhead: 2\navg_checkpoints: 2\nstride: 4\n"
        "Transformer: !new:TransformerASR\n"
        f"    attention_type: {attention}\n"
    )
    return folder, net


def rebuild(folder, **options):
    """The converted model as a YAML makes it: sizes from settings.yaml."""
    settings = YAML().load((folder / "settings.yaml").read_text())
    keys = ("d_model", "nhead", "num_encoder_layers", "d_ffn", "kernel_size")
    keys += ("encoder_module", "lact_host", "lact_heads", "lact_optimizer")
    sizes = {key: settings[key] for key in keys if key in settings}
    sizes = {**SIZES, **sizes, **options}
    net = TransformerASR(attention_type="LaCT", normalize_before=True, **sizes)
    return nn.ModuleList([nn.Linear(3, 4), net]), settings


def pretrain(model, folder):
    """Loads as the recipe does."""
    pretrainer = Pretrainer(
        loadables={"model": model},
        paths={"model": f"{folder}/model.ckpt"},
        custom_hooks={"model": load_whole},
    )
    pretrainer.collect_files()
    pretrainer.load_collected()


@pytest.mark.parametrize(
    "kind, attention",
    [
        ("transformer", "regularMHA"),
        ("conformer", "RoPEMHA"),
        ("conformer", "regularMHA"),
        ("branchformer", "regularMHA"),
    ],
)
@torch.no_grad()
def test_a_run_is_converted(kind, attention, tmp_path, capsys):
    """The average of the best checkpoints, as a recipe loads it."""
    folder, net = make_run(
        tmp_path / "run", host(kind, attention).float(), attention
    )
    out = tmp_path / "deep" / "out"
    main(
        [str(folder), str(out), "--window", "inf", "4"]
        + ["--chunk_size", "8", "--fast_heads", "2"]
    )
    assert f"--source {out}" in capsys.readouterr().out
    names = {p.name for p in out.iterdir()}
    assert names == {
        "model.ckpt",
        "normalizer.ckpt",
        "settings.yaml",
        "40_char.model",
    }
    model, settings = rebuild(out, lact_window=(math.inf, math.inf))
    assert settings["lact_window"] == [math.inf, 4]
    assert settings["lact_chunk_size"] == 8
    assert (settings["lact_heads"], settings["stride"]) == (2, 4)
    pretrain(model, out)
    src, tgt, lengths = batch(torch.float32)
    net, ours = net.eval(), model[1].eval()
    for got, expected in zip(ours(src, tgt, lengths), net(src, tgt, lengths)):
        assert worst(got, expected) < 1e-5


def test_weights_and_networks_become_the_same():
    """Two ways, one result, but for the fast weights that are drawn."""
    for kind, attention, before, causal in HOSTS:
        net = host(kind, attention, before, causal)
        expected = retrofit(net).state_dict()
        found, _ = retrofit_weights(net.state_dict(), nhead=2)
        assert set(found) == set(expected)
        for name, x in found.items():
            drawn = re.search(r"\.(w[012]|lr_proj|momentum_proj)\b", name)
            assert drawn or torch.equal(x.double(), expected[name]), name


def test_wrong_sources_give_one_line(run_folder, tmp_path):
    """The file, the key, what is wrong."""
    folder, net = run_folder
    yaml, out = folder / "hyperparams.yaml", tmp_path / "out"

    def refused(source=folder, **options):
        with pytest.raises((ValueError, OSError)) as error:
            convert(source, out, **options)
        assert not out.exists()
        return str(error.value)

    def saved(weights):
        torch.save(weights, tmp_path / "weights.ckpt")
        return refused(tmp_path / "weights.ckpt", hparams=yaml)

    said = saved(host("conformer", "RelPosMHAXL").state_dict())
    assert "weights.ckpt: RelPosMHAXL cannot" in said and "pos_bias_u" in said
    said = saved(host("conformer", "regularMHA").state_dict())
    assert "attention_type is RoPEMHA" in said and "regularMHA" in said
    said = saved(retrofit(net).state_dict())
    assert "encoder.layers.0.mha_layer." in said and "neither" in said
    assert "no encoder of SpeechBrain" in saved(nn.Linear(2, 2).state_dict())
    assert "weights.ckpt: not a model's" in saved({"epoch": 3})
    weights = net.state_dict()
    name = "encoder.layers.1.mha_layer.in_proj_weight"
    weights[name] = weights[name][:32]
    assert f"{name} is [32, 16], not [3 * E, E]" in saved(weights)
    (tmp_path / "weights.ckpt").write_text("hello")
    assert "not a file of parameters" in refused(
        tmp_path / "weights.ckpt", hparams=yaml
    )
    assert "--hparams" in refused(tmp_path / "weights.ckpt")
    assert "no/such.yaml" in refused(hparams="no/such.yaml")
    text = yaml.read_text()
    yaml.write_text(text.replace("nhead: 2", "nhead: 3"))
    assert "nhead=3 does not divide 16" in refused()
    yaml.write_text(text.replace("nhead: 2", "heads: 2"))
    assert "hyperparams.yaml: no number under nhead" in refused()
    yaml.write_text(text.replace("type: RoPEMHA", "type: LaCT"))
    assert "attention_type is LaCT" in refused()
    yaml.write_text("nhead: [")
    assert "hyperparams.yaml: not an experiment" in refused()
    yaml.write_text(text)
    (tmp_path / "empty").mkdir()
    assert "no checkpoint" in refused(tmp_path / "empty", hparams=yaml)
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(OSError, match="out: exists"):
        convert(folder, out)


def test_the_command_fails_in_one_line(run_folder, tmp_path):
    """As a user types it."""
    call = [sys.executable, "-m", "speechbrain_lact.convert", run_folder[0]]
    done = subprocess.run(
        [*call, run_folder[0]], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line == f"convert: {run_folder[0]}: exists; give another folder"


def test_other_sizes_are_not_loaded(run_folder, tmp_path):
    """All or nothing: SpeechBrain's own hook would go on with a warning."""
    out = tmp_path / "out"
    convert(run_folder[0], out)
    model, _ = rebuild(out, lact_heads=2)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"model.ckpt: 1.*w0 is \[4.*\[2"):
        pretrain(model, out)
    for name, x in model.state_dict().items():
        assert torch.equal(x, before[name])
    model, _ = rebuild(out, num_decoder_layers=0)
    with pytest.raises(ValueError, match="missing in the model"):
        pretrain(model, out)
    with pytest.raises(ValueError, match="missing in the file"):
        model, _ = rebuild(out, num_encoder_layers=3)
        pretrain(model, out)


def test_default_layer_has_no_option_of_a_host():
    """The options are off unless asked for."""
    mixer = LaCT(16, 2)
    assert mixer.in_proj_bias is None and mixer.rotary
    assert mixer.scale == 8**-0.5
