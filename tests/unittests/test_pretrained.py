"""LaCT layers on pretrained encoders, which are made here, without weights
from the hub.

Authors
* speechbrain_lact contributors 2026
"""

import re
import shutil
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml

from speechbrain_lact.lobes.models.pretrained import (
    GatedLaCT,
    NoNormalization,
    PretrainedFrontEnd,
)
from speechbrain_lact.lobes.models.transformer.encoder import LaCTEncoderState

ROOT = Path(__file__).parents[2]
HOSTS = [
    ("wav2vec2", "layer"),
    ("wav2vec2", "group"),
    ("wavlm", "layer"),
    ("wavlm", "group"),
    ("hubert", "layer"),
    ("hubert", "group"),
    ("whisper", "none"),
]
SAMPLES = [9000, 16123, 5000]
TINY = {"lact_hidden_size": 32, "nhead": 2, "lact_heads": 2}


@pytest.fixture(params=HOSTS, ids="-".join)
def front(request, tiny_host, device):
    """A front end of each kind."""
    net = PretrainedFrontEnd(tiny_host(*request.param), 32)
    # Whisper's spectrogram is float32.
    wide = torch.float32 if net.kind == "whisper" else torch.float64
    return net.to(device, wide)


def waves(front, samples=SAMPLES, padding=0.0):
    """A padded batch of noise, and its relative lengths."""
    torch.manual_seed(1)
    like = next(front.parameters())
    width = max(samples) + 700
    wav = torch.randn(len(samples), width, dtype=like.dtype, device=like.device)
    wav[2] *= 0.01  # a quiet row
    for row, n in zip(wav, samples):
        row[n:] = padding
    return wav, torch.tensor(samples, device=like.device).double() / width


def stack(width=32, order="update_apply", **options):
    """Two gated layers."""
    torch.manual_seed(0)
    lact = {"chunk_size": 8, "order": order, "fast_heads": 2, **options}
    net = GatedLaCT(
        width, 2, lact, nhead=2, d_ffn=48, normalize_before=True, causal=False
    )
    return net.double()


def opened(**options):
    """The same, its gate open."""
    net = stack(**options)
    torch.nn.init.normal_(net.gate)
    return net


def test_a_closed_gate_is_the_host_to_the_bit(front):
    frames, lengths = front(*waves(front))
    net = stack().to(frames.device, frames.dtype)
    out, _ = net(frames, None, wav_len=lengths)
    baseline, _ = GatedLaCT(32, 0)(frames, None, wav_len=lengths)
    assert torch.equal(baseline, frames)
    assert torch.equal(out.view(torch.uint8), frames.view(torch.uint8))
    state = net.initial_state(3)
    out, _, after = net(frames, None, wav_len=lengths, state=state)
    assert torch.equal(out.view(torch.uint8), frames.view(torch.uint8))
    assert bool((after.updates > 0).all())


def test_the_gate_learns_first(device):
    net = stack().to(device)
    x = torch.randn(2, 20, 32, dtype=torch.float64, device=device)
    net(x)[0].square().sum().backward()
    assert bool((net.gate.grad != 0).all())
    layers = [p for n, p in net.named_parameters() if n != "gate"]
    assert not any(bool(p.grad.any()) for p in layers if p.grad is not None)
    torch.optim.SGD(net.parameters(), 0.1).step()
    out = net(x)[0]
    assert not torch.equal(out, x)
    net.zero_grad()
    out.square().sum().backward()
    assert all(bool(p.grad.any()) for p in layers if p.grad is not None)


def test_padding_does_not_exist(front):
    bound = 1e-9 if next(front.parameters()).dtype == torch.float64 else 1e-5
    wav, lengths = waves(front, padding=float("nan"))
    frames, fractions = front(wav, lengths)
    counts = (fractions * frames.shape[1]).round().long()
    assert frames.shape[1] == int(counts.max())
    for row, n in enumerate(SAMPLES):
        alone, whole = front(wav[row : row + 1, :n])
        assert float(whole) == 1 and alone.shape[1] == int(counts[row])
        difference = frames[row, : counts[row]] - alone[0]
        assert difference.abs().max() <= bound * alone.abs().max()
        assert not frames[row, counts[row] :].any()


def test_a_row_alone_is_what_speechbrain_gives(front):
    wav, _ = waves(front, samples=[9000] * 3)
    one = wav[:1, :9000]
    frames, _ = front(one)
    front.host.normalize_wav = front.normalizes
    expected = front.host(one)[:, : frames.shape[1]]
    assert torch.equal(frames, expected)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 720, 1040, 5000])
def test_frames_are_counted_from_samples(front, samples):
    wav, lengths = waves(front, samples=[samples, 6000, 6000])
    frames, fractions = front(wav, lengths)
    assert fractions.dtype == torch.float64
    if front.kind == "whisper":
        expected = max(1, -(-samples // 320))
    else:
        expected = max(1, (samples - 400) // 320 + 1)  # kernel 400, stride 320
    assert float(fractions[0] * frames.shape[1]) == pytest.approx(expected)
    real = frames[0, :expected].abs().sum(-1) > 0
    # Untrained hosts give zeros for silence.
    assert bool(real.all()) or samples < 400
    assert not frames[0, expected:].any()


def test_longer_than_whisper_hears(tiny_host, device):
    net = PretrainedFrontEnd(tiny_host("whisper"), 32).to(device)
    wav, _ = waves(net, samples=[500_000, 480_000, 1000])
    frames, lengths = net(wav[:2, :500_000], torch.tensor([1.0, 0.96]))
    assert (lengths * frames.shape[1]).round().tolist() == [1563, 1500]
    tail, _ = net(wav[:1, 480_000:500_000])
    assert torch.allclose(frames[0, 1500:], tail[0], atol=1e-5)


def test_adapters_read_no_padding(tiny_host, device):
    folder = tiny_host(
        "wav2vec2",
        add_adapter=True,
        num_adapter_layers=1,
        output_hidden_size=16,
    )
    net = PretrainedFrontEnd(folder, 16).to(device).double()
    wav, lengths = waves(net)
    frames, fractions = net(wav, lengths)
    for row, n in enumerate(SAMPLES):
        alone, _ = net(wav[row : row + 1, :n])
        count = round(float(fractions[row] * frames.shape[1]))
        assert alone.shape[1] == count
        assert torch.allclose(frames[row, :count], alone[0], atol=1e-9)


def test_a_frozen_host_stays_as_it_is(front):
    front.train()
    batch = waves(front)
    frames, _ = front(*batch)
    assert torch.equal(frames, front(*batch)[0])  # no dropout
    assert not frames.requires_grad
    assert not any(p.requires_grad for p in front.parameters())
    assert list(front.state_dict()) == ["checksum"]


def test_a_host_can_be_trained(tiny_host, device):
    net = PretrainedFrontEnd(tiny_host("wavlm"), 32, freeze=False).to(device)
    net.train()
    batch = waves(net)
    frames, _ = net(*batch)
    assert not torch.equal(frames, net(*batch)[0])  # dropout
    frames.sum().backward()
    trained = dict(net.named_parameters())
    assert bool(
        trained["host.model.feature_projection.projection.weight"].grad.any()
    )
    assert set(trained) <= set(net.state_dict())


def test_checkpoints_know_their_host(tiny_host, device):
    net = torch.nn.ModuleList([PretrainedFrontEnd(tiny_host("hubert"), 32)])
    saved = net.state_dict()
    net.load_state_dict(saved)
    other = tiny_host("hubert", seed=1)
    another = torch.nn.ModuleList([PretrainedFrontEnd(other, 32)])
    with pytest.raises(ValueError, match=re.escape(other)):
        another.load_state_dict(saved)
    with pytest.raises(RuntimeError, match="surplus"):
        net.load_state_dict({**saved, "surplus": torch.zeros(1)})


@pytest.mark.parametrize(
    "kind,norm", [("hubert", "layer"), ("whisper", "none")]
)
def test_a_host_in_half_precision(tiny_host, tmp_path, device, kind, norm):
    """Saved in fp16, it is computed in fp32; `half()` and the like work, or
    say what to do, and the checksum is not rounded."""
    transformers = pytest.importorskip("transformers")
    source = tiny_host(kind, norm)
    model = transformers.AutoModel.from_pretrained(source)
    shutil.copytree(source, tmp_path / "half")
    model.half().save_pretrained(tmp_path / "half")
    rounded = PretrainedFrontEnd(str(tmp_path / "half"), 32).to(device)
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    wav, lengths = waves(rounded)
    exact, _ = PretrainedFrontEnd(source, 32).to(device)(wav, lengths)
    frames, _ = rounded(wav, lengths)
    assert frames.dtype == torch.float32
    assert (frames - exact).abs().max() < 0.05
    checksum = rounded.checksum.item()
    for name in ("bfloat16", "half"):
        getattr(rounded, name)()
        assert rounded.checksum.item() == checksum
        if kind == "whisper":
            with pytest.raises(
                ValueError, match="float32 alone: take autocast"
            ):
                rounded(wav, lengths)
        else:
            out, _ = rounded(wav, lengths)
            assert out.dtype == next(rounded.parameters()).dtype
            assert (out.float() - exact).abs().mean() < 0.2
    again = PretrainedFrontEnd(str(tmp_path / "half"), 32)
    again.load_state_dict(rounded.state_dict())


@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_another_width_is_refused(tiny_host, kind):
    with pytest.raises(ValueError, match="lact_hidden_size: 768, .* 32 wide"):
        PretrainedFrontEnd(tiny_host(kind), 768)


def test_folders_without_a_model(tmp_path, tiny_host):
    with pytest.raises(OSError, match=f"{tmp_path} cannot be used"):
        PretrainedFrontEnd(str(tmp_path), 32)
    with pytest.raises(OSError, match="/no/such is not a folder"):
        PretrainedFrontEnd("/no/such", 32)
    text = (Path(tiny_host("wavlm")) / "config.json").read_text()
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(OSError, match=f"{tmp_path} cannot be used"):
        PretrainedFrontEnd(str(tmp_path), 32)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="of type bert, not one of wav2vec2"):
        PretrainedFrontEnd(str(tmp_path), 32)


def test_unknown_encoder_module():
    with pytest.raises(ValueError, match="not 'rnn'"):
        GatedLaCT(32, 2, encoder_module="rnn")


def test_a_carried_state_is_not_a_fresh_one(device):
    net = opened().to(device)
    x = torch.randn(2, 2, 20, 32, dtype=torch.float64, device=device)
    fresh = net.initial_state(2)
    _, _, carried = net(x[0], None, state=fresh)
    after, _, _ = net(x[1], None, state=carried)
    reset, _, _ = net(x[1], None, state=fresh)
    alone, _ = net(x[1])
    assert torch.allclose(reset, alone, atol=1e-12)
    assert (after - reset).abs().max() > 1e-3
    first = torch.tensor([True, False], device=device)
    third, _, _ = net(x[1], None, state=carried.reset(first))
    assert torch.allclose(third[0], reset[0], atol=1e-12)
    assert torch.allclose(third[1], after[1], atol=1e-12)


LAYOUTS = {
    "past": {"order": "apply_update", "window": (10, 0)},
    "blocks": {"order": "update_apply", "block_window": (4, 2)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 5, 8, 21])
def test_pieces_equal_the_whole(layout, piece, device):
    net = opened(**LAYOUTS[layout]).to(device)
    torch.manual_seed(2)
    x = torch.randn(2, 43, 32, dtype=torch.float64, device=device)
    counts = torch.tensor([43, 30], device=device)
    whole, _, last = net(x, None, counts / 43, state=net.initial_state(2))
    state, found = net.initial_state(2), [[], []]
    for start in range(0, 43, piece):
        part = x[:, start : start + piece].clone()
        here = (counts - start).clamp(0, part.shape[1])
        for row in range(2):
            part[row, here[row] :] = float("nan")
        out, _, state = net(
            part,
            None,
            here.double() / part.shape[1],
            state=state,
            final=start + piece >= 43,
        )
        for row in range(2):
            found[row].append(out[row, : state.lengths[row]])
    for row, count in enumerate(counts.tolist()):
        joined = torch.cat(found[row])
        assert len(joined) == count
        assert (joined - whole[row, :count]).abs().max() < 1e-9
    assert torch.equal(state.updates, last.updates)
    assert isinstance(state, LaCTEncoderState)


def test_rows_do_not_see_each_other(device):
    net = opened().to(device)
    x = torch.randn(2, 20, 32, dtype=torch.float64, device=device)
    x[1, 13:] = float("nan")
    lengths = torch.tensor([1.0, 13 / 20], dtype=torch.float64, device=device)
    both, _ = net(x, None, wav_len=lengths)
    alone, _ = net(x[1:, :13])
    assert torch.allclose(both[1, :13], alone[0], atol=1e-9)


def load(name, source, tmp_path, **more):
    """One of the two experiments, 32 wide."""
    text = (ROOT / "hparams" / f"{name}.yaml").read_text()
    keys = {k: v for k, v in TINY.items() if re.search(f"^{k}:", text, re.M)}
    overrides = {**keys, "pretrained_source": source, **more}
    overrides["output_folder"] = str(tmp_path / name)
    return load_hyperpyyaml(text, overrides)


def test_both_experiments_begin_alike(tiny_host, tmp_path, device):
    torch.manual_seed(1)
    wav = torch.randn(2, 40_000)
    lengths, said = torch.tensor([1.0, 0.7]), []
    for name in ("wav2vec2_ctc", "wav2vec2_lact_ctc"):
        hparams = load(name, tiny_host("wav2vec2"), tmp_path)
        hparams["model"].to(device).train()
        feats, fractions = hparams["compute_features"](wav, lengths)
        feats = hparams["normalize"](feats, fractions, epoch=1)
        src, fractions = hparams["CNN"](feats.to(device), fractions.to(device))
        encoded = hparams["Transformer"](src, None, wav_len=fractions)[0]
        said.append(hparams["ctc_lin"](encoded))
    assert hparams["Transformer"].carries_state
    assert isinstance(hparams["normalize"], NoNormalization)
    assert torch.equal(*said)


def test_experiments_refuse_another_width(tiny_host, tmp_path):
    for name in ("wav2vec2_ctc", "wav2vec2_lact_ctc"):
        with pytest.raises(
            ValueError, match="lact_hidden_size: 64, .* 32 wide"
        ):
            load(name, tiny_host("hubert"), tmp_path, lact_hidden_size=64)
