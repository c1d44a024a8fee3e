"""Lyra V2 behind the interface of all tokenizers: pieces, batches, streams
that are cut short; with the weights of `../shared/data/lyra`.

Authors
* speechbrain_lact contributors 2026
"""

import random
import shutil
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from speechbrain_lact.lobes.models.audio_tokenizers import (
    PADDING,
    LyraTokenizer,
)
from speechbrain_lact.lobes.models.audio_tokenizers.lyra import FILES

DATA = Path(__file__).parents[3] / "shared" / "data"
WEIGHTS = DATA / "lyra"
HOP = 320


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Skips without the package or the weights."""
    pytest.importorskip(
        "ai_edge_litert", reason="the package ai-edge-litert is absent"
    )
    if not WEIGHTS.is_dir():
        pytest.skip(f"Lyra's weights are not in {WEIGHTS}")


@pytest.fixture(scope="module")
def lyra():
    """3.2 kbit/s in eight codebooks of 256 tokens."""
    return LyraTokenizer(WEIGHTS)


@pytest.fixture(scope="module")
def speech():
    """Two seconds of somebody who reads."""
    path = min((DATA / "speech").rglob("*.wav"))
    audio, rate = soundfile.read(path, dtype="float32", frames=32123)
    assert rate == 16000
    return torch.from_numpy(audio)


def cut(length, seed):
    """Sizes of pieces, one of them nothing."""
    draw, sizes = random.Random(seed), [0]
    while sum(sizes) < length:
        most = min(draw.choice([3, 40, 400, 20000]), length - sum(sizes))
        sizes.append(draw.randint(1, most))
    return sizes


def pieces(function, whole, sizes):
    """All that a function of pieces gives, the last one with `final`."""
    state, made = None, []
    parts = whole.split(sizes, 1)
    for number, part in enumerate(parts, 1):
        out, state = function(part, state, number == len(parts))
        # A state is a value: what is done with it changes nothing.
        made.append(out)
    return torch.cat(made, 1)


@pytest.mark.parametrize("seed", range(2))
def test_encoded_in_pieces_is_encoded_whole(lyra, speech, seed):
    wav = torch.stack([speech, speech.flip(0)])
    whole = lyra.encode(wav)
    assert whole.shape == (2, -(-len(speech) // HOP), 8)
    sizes = [320, 319, 2, *cut(len(speech) - 641, seed)]
    assert len(sizes) > 4
    assert torch.equal(pieces(lyra.encode_stream, wav, sizes), whole)


@pytest.mark.parametrize("seed", range(2))
def test_decoded_in_pieces_is_decoded_whole(lyra, speech, seed):
    tokens = lyra.encode(speech[None])
    whole = lyra.decode(tokens)
    draw, sizes = random.Random(seed), [0, 1]
    while sum(sizes) < tokens.shape[1]:
        sizes.append(draw.randint(1, 30))
    sizes[-1] -= sum(sizes) - tokens.shape[1]
    assert torch.equal(pieces(lyra.decode_stream, tokens, sizes), whole)


def test_a_state_can_be_used_twice(lyra, speech):
    wav = speech[None, : 50 * HOP]
    _, state = lyra.encode_stream(wav[:, : 40 * HOP + 7])
    once, _ = lyra.encode_stream(wav[:, 40 * HOP + 7 :], state, True)
    lyra.encode_stream(torch.randn(1, 4000), state)
    twice, _ = lyra.encode_stream(wav[:, 40 * HOP + 7 :], state, True)
    assert torch.equal(once, twice)
    assert torch.equal(once, lyra.encode(wav)[:, 40:])


def test_padding_does_not_exist(lyra, speech):
    counts = [5000, 0, 320, 321]
    wav = torch.full((4, 6000), float("nan"))
    for row, n in zip(wav, counts):
        row[:n] = speech[1000 : 1000 + n]
    tokens = lyra.encode(wav, torch.tensor(counts) / 6000)
    audio = lyra.decode(tokens)
    assert tokens.shape == (4, 16, 8)
    assert audio.shape == (4, 16 * HOP)
    for row, n in enumerate(counts):
        frames = -(-n // HOP)
        assert bool((tokens[row, frames:] == PADDING).all())
        assert not bool(audio[row, frames * HOP :].any())
        if n:
            alone = lyra.encode(wav[row : row + 1, :n])
            assert torch.equal(alone[0], tokens[row, :frames])
            made = lyra.decode(alone)[0]
            assert torch.equal(made, audio[row, : frames * HOP])


def test_it_is_the_speech_and_more_codes_are_better(speech):
    def distance(num_codes, group=2, used=None):
        """Of magnitudes of the spectrum, relative."""
        lyra = LyraTokenizer(WEIGHTS, num_codes, group)
        tokens = lyra.encode(speech[None])
        assert tokens.shape[2] == num_codes // group
        assert int(tokens.max()) < 16**group
        wav = lyra.decode(tokens[..., :used])[0, : len(speech)]
        a, b = (
            torch.stft(
                x, 512, 320, window=torch.hann_window(512), return_complex=True
            ).abs()
            for x in (speech, wav)
        )
        return float((a - b).norm() / a.norm())

    best, low = distance(46), distance(16)
    assert best < low < 0.7
    # Groups change tokens, not audio; fewer codebooks cost quality.
    assert distance(16, 1) == distance(16, 4) == low
    assert distance(46, used=8) == low
    assert low < distance(16, used=1)


def test_what_it_costs():
    for codes, bits in ((16, 3200), (30, 6000), (46, 9200)):
        lyra = LyraTokenizer(WEIGHTS, codes)
        assert lyra.bits_per_second == bits
        assert (lyra.sample_rate, lyra.frame_rate) == (16000, 50)


@pytest.mark.parametrize("codes, group", [(16, 2), (16, 4), (17, 1), (46, 2)])
def test_streams_of_bytes(codes, group):
    lyra = LyraTokenizer(WEIGHTS, codes, group)
    tokens = torch.randint(16**group, (7, codes // group))
    data = lyra.to_bytes(tokens)
    assert len(data) == 7 * -(-codes // 2)
    assert torch.equal(lyra.from_bytes(data), tokens)
    assert lyra.from_bytes(b"").shape == (0, codes // group)
    size = len(data) // 7
    with pytest.raises(ValueError, match=f"frame 7 there are 3 of {size} byt"):
        lyra.from_bytes(data[: 6 * size + 3])


def test_tokens_that_are_cut_short(lyra):
    tokens = torch.randint(256, (2, 6, 8))
    tokens[1, 4:] = PADDING
    assert lyra.decode(tokens).shape == (2, 6 * HOP)
    tokens[1, 3, 5:] = PADDING
    for use in (lyra.decode, lambda x: lyra.to_bytes(x[1])):
        with pytest.raises(ValueError, match="frame 4 has 5 of 8 codebooks"):
            use(tokens)
    tokens[1, 3] = PADDING
    tokens[1, 2] = PADDING
    tokens[1, 4] = 0
    with pytest.raises(ValueError, match="cut short: frame 3 has 0 of 8"):
        lyra.decode(tokens)
    with pytest.raises(ValueError, match="all codebooks"):
        lyra.to_bytes(tokens[0, :, :3])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"num_codes": 15}, "num_codes: from 16 to 46 .* not 15"),
        ({"num_codes": 48}, "not 48"),
        ({"num_codes": 17}, "groups of 2, not 17"),
        ({"group": 3}, "group: 1, 2 or 4"),
    ],
)
def test_numbers_that_cannot_be(options, problem):
    with pytest.raises(ValueError, match=problem):
        LyraTokenizer(WEIGHTS, **options)


@pytest.mark.parametrize("name", FILES)
def test_weights_that_cannot_be_used(name, tmp_path):
    for file in FILES:
        shutil.copy(WEIGHTS / file, tmp_path)
    path = tmp_path / name
    path.chmod(0o600)
    half = path.read_bytes()
    half = half[: len(half) // 2]
    for data in (half, b"", b"no weights" * 100):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="damaged or no TFLite") as error:
            LyraTokenizer(tmp_path)
        assert str(error.value).startswith(f"{path}: ")
    other = FILES[FILES.index(name) - 1]
    shutil.copyfile(WEIGHTS / other, path)
    with pytest.raises(ValueError, match=f"{name}: not Lyra V2: from"):
        LyraTokenizer(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        LyraTokenizer(tmp_path)


def test_the_package_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r"ai-edge-litert: pip .*\[lyra\]"):
        LyraTokenizer(WEIGHTS)
