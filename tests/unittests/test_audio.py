"""Recordings of every kind, level and length of header: what is there is read,
in pieces of any length and in parts.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import os
import struct

import av
import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.dataio import audio as audio_module
from speechbrain_lact.dataio.audio import AudioFile, read_audio
from speechbrain_lact.dataio.decode import Av, open_audio

RATE = 16000


@functools.cache
def voice(seconds=2.0):
    """Something like speech: tones that come and go, at an ordinary level."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * (300 + 200 * np.sin(9 * time)) * time)
    return 0.3 * tone * np.sin(2 * np.pi * 1.5 * time) ** 2


def write(path, samples, subtype="FLOAT", rate=RATE, **options):
    """An audio file. Returns its path."""
    soundfile.write(path, samples, rate, subtype=subtype, **options)
    return str(path)


def changed(path, *changes):
    """Overwrites bytes: (text that is before them, how far on, bytes)."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for mark, offset, new in changes:
        place = data.index(mark) + offset
        data[place : place + len(new)] = new
    with open(path, "wb") as file:
        file.write(data)
    return path


def shorter(path, part=0.5):
    """Cuts a file as a copy that stopped."""
    os.truncate(path, round(part * os.path.getsize(path)))
    return path


def mp3_without_length(path, samples):
    """An MP3 of variable rate that does not begin with its length."""
    write(path, samples, None, bitrate_mode="VARIABLE", compression_level=0.3)
    with open(path, "rb") as file:
        data = file.read()
    tag = data.index(b"Xing")
    sync = data[data.index(b"\xff") :][:2]
    with open(path, "wb") as file:
        file.write(data[data.index(sync, tag) :])
    return path


def test_mp3_without_its_length_is_read_to_the_end(tmp_path):
    """libsndfile guesses from the first frames, and stops where it guesses."""
    speech, silence = voice(4.0), np.zeros(8 * RATE)
    for name, order in (
        ("ends", (speech, silence)),
        ("begins", (silence,) * 2),
    ):
        samples = np.concatenate([*order, speech])
        path = mp3_without_length(str(tmp_path / f"{name}.mp3"), samples)
        audio = AudioFile(path, RATE)
        found = audio.read().numpy()
        assert len(found) == audio.frames == round(audio.seconds * RATE)
        assert 0 <= len(found) - len(samples) < 3000
        # The last thing said is there.
        late = np.abs(found[-len(speech) :]).mean()
        assert late == pytest.approx(np.abs(speech).mean(), rel=0.2)
    whole = soundfile.info(path).frames
    assert whole != audio.frames


def test_mp3_is_as_long_as_it_says(tmp_path):
    path = write(tmp_path / "a.mp3", voice(), None)
    found = AudioFile(path, RATE).read().numpy()
    assert len(found) == len(voice())
    assert np.corrcoef(found, voice())[0, 1] > 0.99
    with pytest.raises(ValueError, match=r"a.mp3: .*cut short: ends after \d"):
        AudioFile(shorter(path), RATE)


# How each format says how many bytes of samples it has, and what stands there
# if that is not known.
FORMATS = {
    "WAV": [((b"data", 4, struct.pack("<I", n)),) for n in (0, 2**32 - 1)],
    "WAVEX": [((b"data", 4, struct.pack("<I", n)),) for n in (0, 2**31)],
    "RF64": [((b"ds64", 16, bytes(16)),)],
    "W64": [((b"data", 16, struct.pack("<Q", n)),) for n in (0, 24, 2**64 - 1)],
    "AIFF": [((b"COMM", 10, bytes(4)), (b"SSND", 4, b"\0\0\0\x08"))],
    "AU": [((b".snd", 8, n),) for n in (bytes(4), b"\xff" * 4)],
    "CAF": [((b"data", 4, b"\xff" * 8),)],
}


@pytest.mark.parametrize("kind", FORMATS)
def test_header_with_another_length(kind, tmp_path):
    """More than there is: cut short, and named. Not known: all is read."""
    path = tmp_path / "a"
    write(path, voice(), "PCM_16", format=kind)
    expected = AudioFile(path, RATE).read()
    for unknown in FORMATS[kind]:
        write(path, voice(), "PCM_16", format=kind)
        found = AudioFile(changed(path, *unknown), RATE)
        assert found.seconds == 2.0
        assert torch.equal(found.read(), expected)
    write(path, voice(), "PCM_16", format=kind)
    # A few samples are what headers are off by.
    assert len(AudioFile(shorter(path, 0.999), RATE).read()) > 31900
    with pytest.raises(ValueError, match=f"{path}: damaged or cut short"):
        AudioFile(shorter(path), RATE)
    # What is there of it can still be asked for.
    part = AudioFile(path, RATE, 0.25, 0.5).read()
    assert torch.equal(part, expected[4000:8000])


def test_what_libsndfile_does_not_read(tmp_path):
    flac = write(tmp_path / "a.flac", voice(), "PCM_16")
    expected = AudioFile(flac, RATE).read()
    # What an encoder writes into a pipe: no number of samples.
    with open(flac, "rb") as file:
        data = bytearray(file.read())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    (tmp_path / "b.flac").write_bytes(data)
    assert torch.equal(AudioFile(tmp_path / "b.flac", RATE).read(), expected)
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.float32(voice())[None], "fltp", "mono"
        )
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    found = AudioFile(tmp_path / "a.m4a", RATE).read().numpy()
    assert len(found) == pytest.approx(len(voice()), abs=2048)
    # An encoder may begin a frame or two late.
    late = (np.pad(voice(), (n, 2048 - n)) for n in (0, 1024, 2048))
    found = np.pad(found, (0, len(voice()) + 2048 - len(found)))
    assert max(np.corrcoef(found, x)[0, 1] for x in late) > 0.99
    # Without its last page.
    ogg = write(
        tmp_path / "a.opus", np.repeat(voice(4.0), 3), "OPUS", 48000,
        format="OGG",
    )  # fmt: skip
    with open(ogg, "rb") as file:
        data = file.read()
    (tmp_path / "b.opus").write_bytes(data[: data.rindex(b"OggS")])
    audio = AudioFile(tmp_path / "b.opus", RATE)
    assert len(audio.read()) == pytest.approx(RATE * audio.seconds, abs=1)
    assert 2 < audio.seconds <= 4


def test_no_list_of_addresses_is_a_recording(tmp_path):
    """FFmpeg would fetch what such a file names."""
    write(tmp_path / "other.wav", voice())
    for name, text in (
        ("a.wav", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nother.wav\n"),
        ("b.mp3", "ffconcat version 1.0\nfile other.wav\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=f"{name}: cannot be read"):
            AudioFile(tmp_path / name, RATE)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One of each kind that is read in another way."""
    folder = tmp_path_factory.mktemp("files")
    both = np.stack([voice(), -0.9 * np.roll(voice(), 3) + 0.5], 1)
    return [
        write(folder / "quiet.wav", 0.01 * voice() + 0.02),
        write(folder / "both.flac", 0.5 * both, "PCM_16"),
        write(folder / "whole.mp3", voice(), None),
        mp3_without_length(str(folder / "bare.mp3"), np.tile(voice(), 3)),
        changed(
            write(folder / "open.wav", 30000 * voice()),
            (b"data", 4, bytes(4)),
        ),
    ]


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_pieces_are_pieces_of_the_whole(files, rate, monkeypatch):
    """Of any length, kept in memory or decoded twice."""
    for path in files:
        whole = AudioFile(path, rate).read()
        for short in (60.0, 0.0):
            monkeypatch.setattr(audio_module, "SHORT", short)
            for seconds in (0.0371, 0.5, 100.0):
                pieces = AudioFile(path, rate).pieces(seconds)
                found = torch.cat(list(pieces))
                torch.testing.assert_close(found, whole, atol=1e-6, rtol=0)
                assert short or torch.equal(found, whole) or rate != RATE


def test_a_part_is_as_a_file_of_its_own(files, tmp_path):
    """Seeking in a file gives what decoding all of it gives."""
    path = str(tmp_path / "long.mp3")
    files = [*files, mp3_without_length(path, np.tile(voice(), 6))]
    for path in files:
        source = open_audio(path)
        samples = np.concatenate(list(source.blocks()))
        for start, stop in (
            (0, 0.3),
            (0.517, 1.0),
            (-1.1, -0.2),
            (-0.5, None),
        ):
            length = source.frames / source.rate
            start, stop = start % length, stop and stop % length
            first = round(start * source.rate)
            last = None if stop is None else round(stop * source.rate)
            alone = write(
                tmp_path / "a.wav", samples[first:last], rate=source.rate
            )
            part = AudioFile(path, 8000, start, stop)
            whole = AudioFile(alone, 8000)
            assert part.frames == whole.frames
            assert torch.equal(part.read(), whole.read())
            same = AudioFile(path, 8000, first, last, "samples")
            assert torch.equal(same.read(), whole.read())
    source = open_audio(files[-1])
    assert isinstance(source, Av) and source.began is not None


def test_many_parts_of_one_mp3_decode_it_once(tmp_path, monkeypatch):
    from speechbrain_lact.dataio import decode

    path = mp3_without_length(str(tmp_path / "a.mp3"), np.tile(voice(), 15))
    count, samples = [0], decode._samples

    def counted(frame):
        count[0] += frame.samples
        return samples(frame)

    monkeypatch.setattr(decode, "_samples", counted)
    for start in range(29):
        AudioFile(path, RATE, start, start + 1).read()
    # Each with a second or two ahead of it.
    assert 29 * RATE < count[0] < 29 * 3.2 * RATE


@pytest.mark.parametrize(
    "start, stop, unit, why",
    [
        (2.5, None, "s", "no part from 2.5 s on: it is 2 s long"),
        (0, 2.2, "s", "no part from 0 s to 2.2 s"),
        (1, 1, "s", "no part"),
        (-1, 1, "s", "no part"),
        (0, 32001, "samples", "no part"),
        (0, 160, "samples", "160 samples at 16000 Hz; at least 0.025 s"),
    ],
)
def test_parts_that_are_not_there(start, stop, unit, why, tmp_path):
    path = write(tmp_path / "a.wav", voice())
    with pytest.raises(ValueError, match=f"a.wav: {why}"):
        AudioFile(path, RATE, start, stop, unit)
    assert len(AudioFile(path, RATE, 0, 2.04).read()) == 2 * RATE


# Channels and level


NOISE = np.random.default_rng(0).normal(0, 1, 32000)
SAME = {
    "ordinary": voice(),
    "offset that is small": voice() + 0.02,
    "twice": np.stack([voice(), voice()], 1),
    "right silent": np.stack([voice(), 0 * voice()], 1),
    "right is noise": np.stack([voice(), 0.005 * NOISE], 1),
    "opposite": np.stack([voice(), -voice()], 1),
    "nearly opposite": np.stack([voice(), -0.8 * voice()], 1),
    "centre of six": np.stack([0 * voice()] * 2 + [voice()] + [0 * voice()] * 3, 1),
    "offsets": np.stack([voice() + 0.4, voice() - 0.4], 1),
    "16-bit numbers": 2**15 * voice(),
    "24-bit numbers": 2**23 * voice(),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_channels_and_scale(name, tmp_path):
    """One ordinary channel comes out, to the bit if it was one."""
    path = write(tmp_path / "a.wav", SAME[name], "FLOAT")
    found = AudioFile(path, RATE).read().numpy()
    kept = name == "offset that is small"
    expected = np.float32(SAME[name] if kept else voice())
    exact = name in ("ordinary", "offset that is small", "twice")
    np.testing.assert_allclose(found, expected, atol=0 if exact else 1e-6)


def test_offset_and_level(tmp_path):
    ordinary = np.float32(voice())
    peak = np.abs(ordinary).max()
    for decibels in (-30, -40):
        quiet = voice() * 10 ** (decibels / 20)
        path = write(tmp_path / "a.wav", quiet + 5 * quiet.max())
        found = AudioFile(path, RATE).read().numpy()
        assert np.abs(found).max() == pytest.approx(0.4, rel=0.02)
        scaled = found / np.abs(found).max() * peak
        np.testing.assert_allclose(scaled, ordinary, atol=0.01)
    # Of hiss no voice is made.
    hiss = np.float32(voice() * 10 ** (-60 / 20))
    found = AudioFile(write(tmp_path / "c.wav", hiss), RATE).read().numpy()
    np.testing.assert_array_equal(found, hiss)
    found = AudioFile(write(tmp_path / "b.wav", voice() - 0.5), RATE).read()
    assert abs(float(found.mean())) < 1e-6


def test_two_who_speak_in_turn_keep_their_level(tmp_path):
    """Each in a channel of its own: the mean alone would halve both."""
    half = len(voice()) // 2
    both = np.stack([voice(), voice()], 1)
    both[:half, 0] = both[half:, 1] = 0
    found = AudioFile(write(tmp_path / "a.wav", both), RATE).read().numpy()
    for part in (found[:half], found[half:]):
        level = np.sqrt(np.mean(part**2) / np.mean(voice() ** 2))
        assert 0.65 < level < 1


@pytest.mark.parametrize(
    "samples, why",
    [
        (0 * voice(), "near silence"),
        (3e-5 * voice(), "near silence"),
        (np.stack([voice(), -voice()], 1), "channels cancel"),
        (2**15 * voice(), "samples up to"),
        (voice(), None),
        (0.01 * voice(), None),
    ],
)
def test_what_is_said_of_a_level(samples, why, tmp_path, caplog):
    path = write(tmp_path / "a.wav", samples)
    for _ in range(2):
        AudioFile(path, RATE).read()
    found = [record.getMessage() for record in caplog.records]
    assert len(found) == (why is not None)
    if why:
        assert found[0].startswith(f"{path}: ") and why in found[0]


# What is no recording


def test_special_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text.wav").write_text("no samples\n" * 100)
    for name, why in (
        ("pipe", "is a pipe"),
        ("link", "is a link to nothing"),
        ("nothing", "no such file"),
        ("empty", "is empty"),
        ("text.wav", "cannot be read: "),
        (".", "is a folder"),
        ("/dev/null", "is a device"),
    ):
        with pytest.raises(ValueError, match=f"{name}: {why}") as caught:
            AudioFile(tmp_path / name, RATE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rate, channels", [(1, 1), (0, 1), (2**32 - 1, 1), (RATE, 65535), (RATE, 0)]
)
def test_headers_that_cannot_be(rate, channels, tmp_path, caplog):
    path = write(tmp_path / "a.wav", voice(), "PCM_16")
    changed(path, (b"fmt ", 10, struct.pack("<HI", channels, rate)))
    with pytest.raises(ValueError, match=f"{channels} channels at {rate} Hz"):
        AudioFile(path, RATE)
    assert read_audio(path, RATE) is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert path in line
