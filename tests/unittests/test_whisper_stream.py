"""Whisper's encoder with LaCT: against transformers' own, and under the law."""

import math

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from speechbrain_lact.lobes.models.whisper.encoder import (
    StreamingWhisper,
    StreamingWhisperState,
)
from speechbrain_lact.lobes.models.whisper.features import WhisperFeatures
from speechbrain_lact.processing.boundaries import ChunkEnds

transformers = pytest.importorskip("transformers")

SIZES = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_mel_bins": 80,
    "max_source_positions": 60,
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
EXACT = 1e-9


@pytest.fixture(scope="module")
def host():
    """A Whisper of random weights, biases and norms among them."""
    torch.manual_seed(0)
    net = transformers.WhisperModel(transformers.WhisperConfig(**SIZES))
    with torch.no_grad():
        for name, weight in net.encoder.named_parameters():
            weight.normal_(std=0.3, mean=float("norm.weight" in name))
    return net.eval().double()


@pytest.fixture(scope="module")
def net(host):
    """The same, streaming: blocks of 4 frames, chunks of 8."""
    torch.manual_seed(1)
    lact = {
        "block_window": [4, 3],
        "chunk_size": 8,
        "order": "apply_update",
        "fast_heads": 2,
        "fast": [1],
    }
    pauses = ChunkEnds("silence", least=10)
    net = StreamingWhisper.of_host(
        host, lact=lact, pauses=pauses, least_segment=20
    )
    return net.eval().double()


def recording(samples, seed=0):
    """Loud and quiet in turn, so that there are pauses."""
    draw = torch.Generator().manual_seed(seed)
    wav = torch.randn(samples, generator=draw, dtype=torch.float64)
    parts = torch.arange(samples) // 5000
    return wav * torch.where(parts % 2 == 1, 1e-4, 0.3)


def test_whole_and_closed_it_is_whispers_own_encoder(host):
    """The window open, the gate at zero, one segment; every weight counts."""
    lact = {"window": (math.inf, math.inf), "chunk_size": 8, "fast_heads": 2}
    ours = StreamingWhisper.of_host(host, lact=lact).eval().double()
    for layer in ours.encoder.layers:
        torch.nn.init.zeros_(layer.mixer.gate_proj.weight)
        torch.nn.init.zeros_(layer.mixer.gate_proj.bias)
    mel = torch.randn(2, 80, 120, dtype=torch.float64)
    mel[:, 0, 0] = 1.0  # the floor of ours is that of the loudest so far
    mel = mel.clamp(min=-0.9, max=1.0)
    state = ours.front.initial_state(2)
    x, _, counts, _ = ours.front(4 * mel.mT - 4, None, state)
    assert counts.tolist() == [60, 60]
    out = ours.encoder(x + ours.positions)[0]
    theirs = host.encoder(mel).last_hidden_state
    torch.testing.assert_close(out, theirs, rtol=0, atol=1e-10)


def test_features_are_whispers():
    """But for the first two frames, before which Whisper puts a mirror."""
    wav = recording(48000)
    extractor = transformers.WhisperFeatureExtractor()
    theirs = extractor(wav.float().numpy(), sampling_rate=16000)
    theirs = torch.as_tensor(theirs["input_features"][0]).T
    ours, _ = WhisperFeatures()(
        torch.nn.functional.pad(wav.float(), (0, 432000))[None]
    )
    ours = (torch.maximum(ours[0], ours.max() - 8) + 4) / 4
    difference = (ours[:3000] - theirs).abs().amax(1)
    assert difference[2:].max() < 1e-4


def run(net, wav, pieces, save=None):
    """Frames and beginnings of a recording in pieces."""
    state, at, out = net.initial_state(1), 0, []
    for size in [*pieces, None]:
        end = len(wav) if size is None else min(at + size, len(wav))
        new, state = net(wav[None, at:end], None, state, size is None)
        out.append(new)
        at = end
        if save is not None:
            state.save(str(save), {})
            state = StreamingWhisperState.load(str(save), {})
    return (
        torch.cat([new.frames[0] for new in out]),
        torch.cat([new.begins[0] for new in out]),
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 9000), max_size=6), st.integers(0, 26000))
def test_split(net, pieces, samples):
    """Pieces of any length give what the whole gives."""
    wav = recording(samples, samples)
    with torch.no_grad():
        frames, begins = run(net, wav, [])
        parts, starts = run(net, wav, pieces)
    torch.testing.assert_close(parts, frames, rtol=0, atol=EXACT)
    assert torch.equal(starts, begins)


def test_segments_end_at_pauses_and_with_the_positions(net):
    """And positions begin anew; a segment's frames depend on its own place
    alone where memory and window are the same."""
    wav = recording(40000)
    with torch.no_grad():
        _, begins = run(net, wav, [])
    found = begins.nonzero().flatten().tolist()
    # Quiet from sample 5,000, mel frame 32: ten such frames with mel frame 41,
    # the later one of frame 20. No segment is shorter or longer than allowed.
    assert found[:2] == [0, 21]
    sizes = [b - a for a, b in zip(found, found[1:])]
    assert all(20 <= size <= 60 for size in sizes)
    loud = torch.randn(1, 60000, dtype=torch.float64)
    with torch.no_grad():
        out, _ = net(loud)
    assert out.begins[0].nonzero().flatten().tolist() == [0, 60, 120, 180]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 20000), min_size=2, max_size=3))
def test_batch(net, lengths):
    """A row alone gives what it gives in a padded batch, whatever stands in
    the padding; so do its gradients."""
    time = max(*lengths, 1)
    rows = torch.full((len(lengths), time), float("nan"), dtype=torch.float64)
    for row, length in enumerate(lengths):
        rows[row, :length] = recording(length, length)
    relative = torch.tensor(lengths, dtype=torch.float64) / time
    net.zero_grad()
    out, _ = net(rows, relative)
    out.frames.square().sum().backward()
    together = net.front.conv1.weight.grad.clone()
    net.zero_grad()
    for row, length in enumerate(lengths):
        alone, _ = net(rows[row : row + 1, :length])
        alone.frames.square().sum().backward()
        count = int(out.lengths[row])
        assert count == alone.frames.shape[1] == -(-(length // 160 + 1) // 2)
        torch.testing.assert_close(
            out.frames[row, :count], alone.frames[0], rtol=0, atol=EXACT
        )
        assert torch.equal(out.begins[row, :count], alone.begins[0])
        assert not out.frames[row, count:].any()
    torch.testing.assert_close(
        together, net.front.conv1.weight.grad, rtol=1e-8, atol=1e-8
    )
    net.zero_grad()


def test_save(net, tmp_path):
    """A session goes on from its file, in another batch as well."""
    wav = recording(30000)
    pieces = [7000, 1, 160, 9000]
    with torch.no_grad():
        frames, begins = run(net, wav, pieces)
        saved, starts = run(net, wav, pieces, tmp_path / "state")
    assert torch.equal(saved, frames) and torch.equal(starts, begins)


def test_rows(net):
    """Sessions of different ages advance together."""
    a, b = recording(21000, 1), recording(16000, 2)
    with torch.no_grad():
        wanted = [run(net, wav, [])[0] for wav in (a, b)]
        old, first = net(a[None, :8000], None, net.initial_state(1), False)
        both = StreamingWhisperState.cat([first, net.initial_state(1)])
        rest = torch.zeros(2, 16000, dtype=torch.float64)
        rest[0, :13000], rest[1] = a[8000:], b
        new, _ = net(rest, torch.tensor([13 / 16, 1.0]).double(), both, True)
    ours = torch.cat([old.frames[0], new.frames[0, : new.lengths[0]]])
    torch.testing.assert_close(ours, wanted[0], rtol=0, atol=EXACT)
    torch.testing.assert_close(
        new.frames[1, : new.lengths[1]], wanted[1], rtol=0, atol=EXACT
    )


def test_given_ends(net):
    """Segments whose ends are given have whole lengths, pauses or none."""
    wav, ends = recording(16000), torch.zeros(1, 100, dtype=torch.bool)
    ends[0, [11, 59]] = True
    with torch.no_grad():
        out, _ = net(wav[None], ends=ends)
    assert out.begins[0].nonzero().flatten().tolist() == [0, 6, 30]
