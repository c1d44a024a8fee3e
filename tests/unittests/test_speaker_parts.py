"""Tests of the installed parts that tell speakers apart, resemblyzer and
Silero's VAD, on real voices, and of what is said where they are not installed.

Authors
* speechbrain_lact contributors 2026
"""

import importlib
import importlib.util
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.inference import diarization, speakers
from speechbrain_lact.inference.diarization import (
    Diarizer,
    OnlineDiarizer,
    default_vad,
)
from speechbrain_lact.inference.speakers import default_embedder, load_embedder
from speechbrain_lact.lobes.models import resemblyzer
from speechbrain_lact.lobes.models.resemblyzer import Resemblyzer
from speechbrain_lact.processing.diarization.online_vad import online_vad
from speechbrain_lact.processing.diarization.vad import (
    EnergyVAD,
    SileroVAD,
    find_speech,
)
from speechbrain_lact.processing.voices import embed

RATE = 16000
SPEECH = Path(__file__).resolve().parents[3] / "shared" / "data" / "speech"


@pytest.fixture(scope="module")
def sentences():
    """Three of each of two speakers [S]."""
    if not SPEECH.is_dir():
        pytest.skip("needs real voices, ../shared/data/speech")
    return {
        who: [
            torch.from_numpy(
                soundfile.read(SPEECH / f"{who}_snt{i}.wav", dtype="float32")[0]
            )
            for i in (1, 2, 3)
        ]
        for who in ("spk1", "spk2")
    }


@pytest.fixture(scope="module")
def conversation(sentences):
    """They take turns, with pauses [S], and who speaks from when to when."""
    torch.manual_seed(0)
    pieces, spoken, end = [], [], 0
    for pair in zip(*sentences.values()):
        for who, wav in zip(sentences, pair):
            pause = torch.zeros(RATE)
            spoken.append((who, end + len(pause), end + len(pause) + len(wav)))
            pieces += [pause, wav]
            end = spoken[-1][2]
    wav = torch.cat(pieces)
    return wav + 1e-4 * torch.randn(len(wav)), spoken


@pytest.fixture(scope="module")
def voices():
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("needs resemblyzer")
    return load_embedder("resemblyzer", run_opts={"device": "cpu"})


@pytest.fixture(scope="module")
def vad():
    pytest.importorskip("silero_vad")
    return SileroVAD()


def hide(monkeypatch, package):
    """As if it were not installed."""
    monkeypatch.setitem(sys.modules, package, None)
    diarization._warn_once.cache_clear()
    speakers._warn_once.cache_clear()


def test_voices_are_those_of_the_package(voices, monkeypatch, sentences):
    """Its own code, whose detector in C is not needed for it."""
    pytest.importorskip("librosa")
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    try:
        encoder = importlib.import_module("resemblyzer").VoiceEncoder
    except ImportError as error:
        pytest.skip(f"resemblyzer cannot be imported: {error}")
    finally:
        for name in [n for n in sys.modules if n.startswith("resemblyzer")]:
            monkeypatch.delitem(sys.modules, name)
    encoder = encoder("cpu", verbose=False)
    wav = sentences["spk1"][0][: RATE * 2]
    wav = resemblyzer.LEVEL * wav / wav.square().mean().sqrt()
    # One part, as neither places its parts where the other does.
    part = wav[: (resemblyzer.PART - 1) * resemblyzer.HOP]
    expected = encoder.embed_utterance(part.numpy())
    level = float(part.square().mean().sqrt())
    found = voices._embed(part[None] * (resemblyzer.LEVEL / level))[0].numpy()
    exact = voices.features(part).mT[None]
    _, (hidden, _) = voices.lstm(exact)
    exact = voices.linear(hidden[-1]).relu()[0].detach().numpy()
    np.testing.assert_allclose(
        exact / np.linalg.norm(exact), expected, atol=1e-4
    )
    assert float(found @ expected) > 0.95


def test_one_voice_is_more_alike_than_two(voices, sentences):
    """Each pair of sentences of one is more alike than each of two. The small
    encoder, of synthetic voices, cannot do it."""

    def margin(embedder):
        found = {
            who: torch.cat([embed(embedder, wav[None]) for wav in wavs])
            for who, wavs in sentences.items()
        }
        one, other = found.values()
        same = [
            (a @ a.T)[~torch.eye(3, dtype=bool)].min() for a in (one, other)
        ]
        return float(min(same) - (one @ other.T).max())

    assert margin(voices) > 0.05
    assert margin(load_embedder("small")) < margin(voices)
    torch.manual_seed(0)
    untrained = Resemblyzer(0.7)
    for value in untrained.lstm.parameters():
        torch.nn.init.uniform_(value, -0.06, 0.06)
    assert margin(untrained) < 0.05


def test_what_stands_in_the_padding_does_not_matter(voices, sentences):
    """A row alone is that row in a batch, at any level, and as short as it
    may be."""
    sizes, rows = [40000, 12345, 40000, 500], sentences["spk1"][2]
    wavs = torch.full((4, 40000), torch.nan)
    for row, size in enumerate(sizes):
        wavs[row, :size] = rows[1000 * row : 1000 * row + size]
    found = voices.encode_batch(wavs, torch.tensor(sizes) / 40000)
    assert found.shape == (4, 1, 256) and bool(found.isfinite().all())
    for row, size in enumerate(sizes):
        alone = voices.encode_batch(wavs[row : row + 1, :size])
        torch.testing.assert_close(found[row], alone[0], atol=1e-5, rtol=0)
        loud = voices.encode_batch(7 * wavs[row : row + 1, :size])
        torch.testing.assert_close(loud, alone, atol=1e-4, rtol=0)


def test_silero_hears_speech_and_nothing_else(vad, conversation):
    """Where it is, and none in noise and in a hum that begin and end, which
    the detector by energy takes for speech."""
    wav, spoken = conversation
    found = torch.zeros(len(wav))
    for start, end in find_speech(wav, vad):
        found[round(start * RATE) : round(end * RATE)] = 1
    for _, start, end in spoken:
        assert float(found[start:end].mean()) > 0.7
        assert not bool(found[start - RATE // 2 : start - RATE // 4].any())
    torch.manual_seed(0)
    other = 1e-4 * torch.randn(4 * RATE)
    time = torch.arange(RATE) / RATE
    other[RATE // 2 : RATE // 2 + RATE] += 0.1 * torch.randn(RATE)
    other[2 * RATE : 3 * RATE] += 0.2 * torch.sin(2 * torch.pi * 440 * time)
    assert find_speech(other, vad) == []
    assert len(find_speech(other, EnergyVAD(RATE))) == 2


@pytest.mark.parametrize("piece", [1, 3 * 512, 7777])
def test_silero_in_a_stream_is_silero_of_the_whole(vad, conversation, piece):
    """Frame by frame with the state carried; two streams do not meet."""
    wav = conversation[0][: (20 if piece == 1 else 9) * 8000 // 2]
    piece = piece if piece > 1 else 511
    one, other, found = online_vad(vad), online_vad(vad), []
    for samples in wav.split(piece):
        found = one.feed(samples)
        other.feed(torch.flip(samples, [0]))
    assert one.feed(wav[:0], final=True) == find_speech(wav, vad)
    assert len(found) >= 1


def test_a_stream_does_not_depend_on_its_pieces(voices, vad, conversation):
    """With the installed parts; and it finds the two who speak."""
    wav, spoken = conversation
    wav = wav[: spoken[3][2]]
    diarizer, found = Diarizer(voices, vad=vad), []
    for size in (len(wav), 3001):
        online, segments = OnlineDiarizer(diarizer), []
        for samples in wav.split(size):
            segments += online.feed(samples)
        found.append(segments + online.finish())
    assert found[0] == found[1]
    assert len({segment.speaker for segment in found[0]}) == 2


def test_two_people_are_two(voices, vad, conversation):
    """Each turn has one speaker, and every second turn the same one."""
    wav, spoken = conversation
    segments = Diarizer(voices, vad=vad).diarize(wav)
    names = {}
    for who, start, end in spoken:
        middle = (start + end) / 2 / RATE
        (name,) = {s.speaker for s in segments if s.start < middle < s.end}
        names.setdefault(who, set()).add(name)
    assert [len(found) for found in names.values()] == [1, 1]
    assert set.union(*names.values()) == {"speaker1", "speaker2"}
    assert {s.speaker for s in segments} == {"speaker1", "speaker2"}


def test_what_is_installed_is_taken(voices, vad):
    assert default_embedder() == "resemblyzer"
    assert isinstance(load_embedder(), Resemblyzer)
    assert isinstance(default_vad(RATE), SileroVAD)


def test_what_is_not_installed_is_named_once(monkeypatch, caplog):
    """With the extra; the parts in the box are taken."""
    for package in ("resemblyzer", "silero_vad"):
        hide(monkeypatch, package)
    extra = "pip install 'speechbrain_lact[speakers]'"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert default_embedder() == "small"
            assert isinstance(default_vad(RATE), EnergyVAD)
        assert isinstance(default_vad(8000), EnergyVAD)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and "8000" in lines[2]
    for line, package in zip(lines, ("resemblyzer", "silero-vad")):
        assert line.startswith(f"{package} is not installed: {extra}; until")
        assert "\n" not in line
    with pytest.raises(ImportError, match="speechbrain_lact.speakers"):
        load_embedder("resemblyzer")
    with pytest.raises(ImportError, match="speechbrain_lact.speakers"):
        SileroVAD()


def test_a_bank_of_another_embedder_is_refused(voices, vad, call, tmp_path):
    """In a sentence; what is there stays, and is known again by its own."""
    wav, bank = SPEECH / "spk1_snt1.wav", tmp_path / "bank"
    if not wav.is_file():
        pytest.skip("needs real voices, ../shared/data/speech")
    enrol = ("voices", bank, "--enrol", "Ann", wav)
    assert call(*enrol, "--embedder=small") == (0, "Ann\n", "")
    before = {path: path.read_bytes() for path in bank.iterdir()}
    code, out, err = call("voices", bank)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "another model or embedder" in err and "new folder" in err
    assert {path: path.read_bytes() for path in bank.iterdir()} == before
    assert call("voices", bank, "--embedder=small") == (0, "Ann\n", "")
    # The one by resemblyzer knows her again, in another sentence.
    bank = tmp_path / "other"
    assert call(*enrol[:1], bank, *enrol[2:]) == (0, "Ann\n", "")
    args = (
        "transcribe",
        SPEECH / "spk1_snt2.wav",
        "--speakers",
        "--bank",
        bank,
    )
    code, out, err = call(*args)
    assert (code, err) == (0, "") and out.count("Ann:") == out.count("\n") > 0
