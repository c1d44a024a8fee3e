"""Segments of whole utterances, and Whisper's outputs kept for them."""

from types import SimpleNamespace

import pytest
import soundfile
import torch

from speechbrain.core import Stage
from speechbrain_lact.training.whisper import StreamBrain
from speechbrain_lact.training.whisper_data import (
    FRAME,
    Rows,
    Teacher,
    at_speed,
    correct,
    join_segments,
    make_segments,
    read_segment,
)


@pytest.fixture
def rows(tmp_path):
    """Two sessions of eight utterances of 1 to 3 s."""
    found, draw = {}, torch.Generator().manual_seed(0)
    for number in range(16):
        seconds = 1 + number % 3
        samples = 16000 * seconds + number
        path = tmp_path / f"{number}.wav"
        wav = 0.1 * torch.randn(samples, generator=draw)
        soundfile.write(path, wav.numpy(), 16000)
        found[f"u{number}"] = {
            "wav": str(path),
            "wrd": f"WORD {number}",
            "session": "ab"[number // 8],
            "position": str(number % 8),
            "duration": str(samples / 16000),
        }
    return found


def test_utterances_stay_whole_and_in_order(rows):
    """All of them, once; segments within a session, none too long."""
    segments = make_segments(rows, (2.0, 6.0), 1)
    keys = [row["id"] for segment in segments for row in segment["rows"]]
    assert keys == [f"u{number}" for number in range(16)]
    for segment in segments:
        assert {r["session"] for r in segment["rows"]} == {segment["session"]}
        assert segment["seconds"] <= 6.0
    assert max(len(segment["rows"]) for segment in segments) > 1
    # Other data changes nothing of a session.
    alone = {key: row for key, row in rows.items() if row["session"] == "b"}
    assert make_segments(alone, (2.0, 6.0), 1) == [
        segment for segment in segments if segment["session"] == "b"
    ]


def test_rows_hold_what_fits(rows):
    """Consecutive segments of one session."""
    segments = make_segments(rows, (2.0, 6.0), 1)
    joined = join_segments(segments, 9.0)
    assert sum(joined, []) == segments
    for row in joined:
        assert len({segment["session"] for segment in row}) == 1
        assert sum(segment["seconds"] for segment in row) <= 9.0


@pytest.mark.parametrize(
    "text, words, wanted",
    [
        ("Hello, world.", "HELLO WORLD", "Hello, world."),
        ("Hello, word.", "HELLO WORLD", "Hello, world"),
        ("I see. So it is", "I SEE NO IT IS", "I see. No it is"),
        ("Made up", "", "Made up"),
        ("", "I MEAN IT", "I mean it"),
        ("It's 5 o'clock", "IT'S FIVE O'CLOCK", "It's five o'clock"),
    ],
)
def test_the_words_that_were_said_in_whispers_writing(text, words, wanted):
    """Casing and punctuation where Whisper is right."""
    assert correct(text, words) == wanted


class Host(torch.nn.Module):
    """Stands for Whisper: its frames tell which sample they are of."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.calls = 0

    def _get_mel(self, wav):
        return torch.nn.functional.pad(wav, (0, 480000 - wav.shape[1]))

    def forward_encoder(self, mel):
        """The first sample of each frame."""
        self.calls += 1
        return mel[:, ::FRAME, None].repeat(1, 1, 2)


def test_outputs_are_kept_and_made_once(rows, tmp_path):
    """A second run makes nothing; a file that cannot be read is left out."""
    broken = tmp_path / "3.wav"
    broken.write_bytes(b"nothing")
    segments = make_segments(rows, (2.0, 6.0), 1)
    host = Host()
    good = Teacher(tmp_path / "kept", host).prepare(segments)
    bad = [s for s in segments if "u3" in [row["id"] for row in s["rows"]]]
    assert good == [s for s in segments if s not in bad] and len(bad) == 1
    calls = host.calls
    teacher = Teacher(tmp_path / "kept", host)
    assert teacher.prepare(good) == good and host.calls == calls
    data = Rows(join_segments(good, 9.0), teacher)
    item = data[0]
    assert sum(item["lengths"]) == len(item["frames"])
    assert len(item["wav"]) == FRAME * len(item["frames"])
    wanted = item["wav"][::FRAME, None].half().float().expand(-1, 2)
    assert torch.equal(item["frames"], wanted)
    count = len(data.rows[0][0]["rows"])
    assert item["texts"][0] == " ".join(f"Word {n}." for n in range(count))


def test_at_another_speed_the_pitch_moves_and_the_words_stay(tmp_path):
    """A second at 440 Hz is 0.8 s at 550 Hz; its words are not made again."""
    path, searched = tmp_path / "tone.wav", []
    wav = 0.1 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000)
    soundfile.write(path, wav.numpy(), 16000)
    row = {"id": "tone", "wav": str(path), "wrd": "A TONE"}
    plain = [{"id": "tone", "session": "a", "seconds": 1.0, "rows": [row]}]
    fast = at_speed(plain, 1.25)
    assert fast[0]["seconds"] == 0.8
    wav = read_segment(fast[0])
    assert len(wav) == 12800
    assert int(torch.fft.rfft(wav).abs().argmax()) == 550 * 12800 // 16000

    def search(frames, lengths):
        """What Whisper would say."""
        searched.append(len(frames))
        return [[1, 2]], None, None, None

    host = Host()
    host.tokenizer = SimpleNamespace(decode=lambda *_, **__: "A tone!")
    teacher = Teacher(tmp_path / "kept", host, search)
    assert teacher.prepare(plain) and teacher.prepare(fast) == fast
    assert searched == [1] and host.calls == 2
    frames, text = teacher.read(fast[0])
    assert text == "A tone!" and len(frames) == 40


def test_only_training_hears_augmented_audio():
    """The audio as it was is what it is judged by."""
    heard = []

    def net(wav, ends, blocks):
        """Keeps what it hears."""
        heard.append(wav)
        return SimpleNamespace(frames=torch.zeros(1, 2, 4)), None

    brain = SimpleNamespace(
        device="cpu",
        hparams=SimpleNamespace(
            augmentation=lambda wav, lengths: (-wav, lengths),
            block_sampler=lambda stage: None,
        ),
        modules=SimpleNamespace(net=net),
    )
    batch = {"wav": torch.ones(2 * FRAME), "lengths": [2]}
    for stage in (Stage.TRAIN, Stage.VALID):
        StreamBrain.compute_forward(brain, batch, stage)
    assert torch.equal(heard[0], -batch["wav"][None])
    assert torch.equal(heard[1], batch["wav"][None])
