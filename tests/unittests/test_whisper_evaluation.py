"""Whisper with and without gated layers on the same recordings."""

from types import SimpleNamespace

import pytest
import soundfile
import torch

from speechbrain_lact.dataio.manifests import Utterance
from speechbrain_lact.evaluation.whisper import (
    ALONE,
    CARRIED,
    RESET,
    add_noise,
    compare,
)
from speechbrain_lact.lobes.models.pretrained import GatedLaCT

pytest.importorskip("transformers")

WIDTH, FRAMES = 4, 16


class Recogniser:
    """Its frames are samples; what it says tells the frames it was given."""

    sample_rate = 16000

    def __init__(self):
        torch.manual_seed(0)
        lact = {"chunk_size": 8, "order": "apply_update", "window": [8, 0]}
        self.gated = GatedLaCT(
            WIDTH, 1, {**lact, "fast_heads": 1}, nhead=1, d_ffn=8, causal=True
        ).eval()
        torch.nn.init.normal_(self.gated.gate)
        self.tokenizer = SimpleNamespace(decode=str)
        self.mods = SimpleNamespace(searcher=self.search)

    def frames(self, wavs, wav_lens):
        """[1, FRAMES, WIDTH]"""
        x = wavs[:, : FRAMES * WIDTH].view(1, FRAMES, WIDTH)
        return 10 * x, torch.ones(1), [FRAMES]

    def search(self, frames, lengths):
        """The sum of the frames as a number."""
        return [round(1e4 * float(frames.abs().sum()))], None, None


@pytest.fixture
def session(tmp_path):
    """Two sessions of two utterances."""
    found, draw = [], torch.Generator().manual_seed(1)
    for number in range(4):
        path = tmp_path / f"{number}.wav"
        wav = 0.1 * torch.randn(1600, generator=draw)
        soundfile.write(path, wav.numpy(), 16000, "FLOAT")
        name = f"u{number}"
        found.append(
            Utterance(name, "", "s", "ab"[number // 2], [number], path, "X", "")
        )
    return found


def test_memory_goes_on_within_a_session(session):
    """As both sessions side by side; reset is all utterances side by side."""
    asr = Recogniser()
    found = compare(asr, session)
    wavs = [torch.from_numpy(soundfile.read(u.wav)[0]).float() for u in session]
    x = torch.cat([asr.frames(w[None], None)[0] for w in wavs])
    with torch.no_grad():
        reset = asr.gated.encode(x)
        first, state = asr.gated.encode(
            x[::2], state=asr.gated.initial_state(2)
        )
        second, _ = asr.gated.encode(x[1::2], state=state)
        carried = torch.stack([first, second], 1)
    for system, wanted in ((ALONE, x), (RESET, reset), (CARRIED, carried)):
        sums = 1e4 * wanted.reshape(4, -1).abs().sum(1)
        for one, total in zip(session, sums.tolist()):
            heard = int(found[system][one.name]["heard"].replace(" ", ""))
            assert abs(heard - total) <= 2, (system, one.name)
    heard = [[row["heard"] for row in found[s].values()] for s in found]
    assert heard[1][0] == heard[2][0] and heard[1][2] == heard[2][2]
    assert heard[1][1] != heard[2][1] and heard[0] != heard[1]


def test_errors_and_noise(session):
    """Counted against the words; noise is that of the recording."""
    asr = Recogniser()
    asr.tokenizer.decode = lambda token: "The cat, sat"
    session[0].wrd = "THE CAT SAT DOWN"
    row = compare(asr, session[:1], 0.0)[ALONE]["u0"]
    assert (row["words"], row["word_errors"]) == (4, 1)
    assert (row["characters"], row["character_errors"]) == (16, 5)
    assert row["speaker"] == "s" and row["duration"] == 0.1
    wav = torch.sin(torch.arange(16000.0))
    noise = add_noise(wav, 10.0, "a") - wav
    assert torch.equal(add_noise(wav, 10.0, "a") - wav, noise)
    assert not torch.equal(add_noise(wav, 10.0, "b") - wav, noise)
    power = wav.square().mean() / noise.square().mean()
    assert abs(10 * power.log10() - 10) < 0.1
