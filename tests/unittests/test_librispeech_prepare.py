"""Tests of how corpora and manifests become CSV files, on real small files."""

import copy
import csv
import hashlib
import json
import logging
import os
import pathlib
import shutil
import tarfile

import numpy as np
import pytest
import soundfile
from hypothesis import (
    example,
    given,
    settings,
    strategies as st,
)

from speechbrain_lact.corpora import csv_files, download
from speechbrain_lact.corpora.download import download_librispeech
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.manifests import prepare_manifests
from speechbrain_lact.dataio.archives import ArchiveError, unpack
from speechbrain_lact.dataio.audio import read_audio, read_row
from speechbrain_lact.dataio.manifests import CSV_VARIABLE, normalise_text

DIGITS = pathlib.Path(__file__).resolve().parents[3] / "shared/data/digits"


def write_audio(path, seconds=0.5, rate=16000, channels=1, subtype="PCM_16"):
    """A file of faint noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (round(seconds * rate), channels)
    noise = np.random.default_rng(0).normal(0, 0.01, shape)
    soundfile.write(str(path), noise, rate, subtype=subtype)


def write_chapter(split, speaker="1", chapter="2", count=3, ending=".flac"):
    """A chapter as LibriSpeech has it. Returns its folder."""
    folder = split / speaker / chapter
    lines = []
    for number in range(count):
        name = f"{speaker}-{chapter}-{number:04d}"
        write_audio(folder / (name + ending))
        lines.append(f"{name} word {number}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return folder


def add_line(folder, line):
    """Adds a line to the chapter's transcript."""
    with open(next(folder.glob("*.trans.txt")), "a") as file:
        file.write(line + "\n")


def read_csv(path):
    """Rows of a CSV file."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def prepare_test(tmp_path, **kwargs):
    """Prepares one test split, `t`. Returns its rows."""
    kwargs = {"download": None, **kwargs}
    files = prepare_librispeech(
        tmp_path / "corpus", [], [], ["t"], tmp_path / "save", **kwargs
    )
    return read_csv(files["test"][0])


@pytest.fixture
def log(caplog):
    """Reads what was logged: `log("WARNING")` is a list of messages."""
    caplog.set_level(logging.INFO)

    def messages(level):
        return [
            record.getMessage()
            for record in caplog.records
            if record.levelname == level and ".corpora." in record.name
        ]

    return messages


def test_rows_of_a_split(tmp_path):
    split = tmp_path / "corpus" / "t"
    write_chapter(split, "20", "7", count=2)
    write_chapter(split, "3", "5", count=1, ending=".wav")
    rows = prepare_test(tmp_path)
    assert list(rows[0]) == csv_files.COLUMNS
    assert [
        (r["ID"], r["spk_id"], r["session"], r["position"]) for r in rows
    ] == [
        ("20-7-0000", "20", "20-7", "0"),
        ("20-7-0001", "20", "20-7", "1"),
        ("3-5-0000", "3", "3-5", "0"),
    ]
    assert [r["wrd"] for r in rows] == ["WORD 0", "WORD 1", "WORD 0"]
    assert all(float(r["duration"]) == 0.5 for r in rows)
    assert all(os.path.isabs(r["wav"]) for r in rows)
    assert all(os.path.isfile(r["wav"]) for r in rows)


def test_positions_follow_the_numbers_not_the_letters(tmp_path):
    folder = tmp_path / "corpus" / "t" / "a" / "b"
    for number in (10, 9, 1):
        write_audio(folder / f"a-b-{number}.flac")
    (folder / "a-b.trans.txt").write_text("a-b-10 X\na-b-9 X\na-b-1 X\n")
    ids = [row["ID"] for row in prepare_test(tmp_path)]
    assert ids == ["a-b-1", "a-b-9", "a-b-10"]


def test_speechbrain_reads_what_is_written(tmp_path):
    from speechbrain.dataio.dataio import load_data_csv, read_audio

    folder = write_chapter(tmp_path / "corpus" / "t", count=1)
    write_audio(folder / "1-2-0001.flac")
    add_line(folder, '1-2-0001 it costs $5, "he said"')
    prepare_test(tmp_path)
    data = load_data_csv(str(tmp_path / "save" / "t.csv"))
    assert data["1-2-0001"]["wrd"] == 'IT COSTS $ 5, "HE SAID"'
    assert read_audio(data["1-2-0001"]["wav"]).shape == (8000,)


def test_training_splits_are_merged_with_unique_ids(tmp_path):
    corpus = tmp_path / "corpus"
    write_chapter(corpus / "train-a", count=2)
    write_chapter(corpus / "train-b", count=2)  # the same names again
    write_chapter(corpus / "train-b", "9", "9", count=1)
    write_chapter(corpus / "dev", "4", "4", count=1)
    files = prepare_librispeech(
        str(corpus), ["train-a", "train-b"], "dev", ["dev"], str(tmp_path / "s")
    )
    assert files == {
        "train": str(tmp_path / "s" / "train.csv"),
        "valid": [str(tmp_path / "s" / "dev.csv")],
        "test": [str(tmp_path / "s" / "dev.csv")],
    }
    rows = read_csv(files["train"])
    assert len({row["ID"] for row in rows}) == 5
    assert [(row["session"], row["position"]) for row in rows] == [
        ("1-2", "0"),
        ("1-2", "1"),
        ("9-9", "0"),
        ("train-b-1-2", "0"),
        ("train-b-1-2", "1"),
    ]
    assert {row["wav"].split(os.sep)[-4] for row in rows[3:]} == {"train-b"}


def test_the_same_file_names_in_every_chapter(tmp_path):
    for chapter in ("x", "y"):
        folder = tmp_path / "corpus" / "t" / "s" / chapter
        write_audio(folder / "1.wav")
        (folder / "s.trans.txt").write_text("1 WORD\n")
    ids = [row["ID"] for row in prepare_test(tmp_path)]
    assert ids == ["1", "s-y-1"]


# Each makes one thing wrong in the chapter and returns the file to be named.


def without_audio(folder):
    add_line(folder, "1-2-0009 WORD")
    return "1-2.trans.txt:4"


def without_transcript(folder):
    write_audio(folder / "1-2-0009.flac")
    return "1-2-0009.flac"


def without_words(folder):
    write_audio(folder / "1-2-0009.flac")
    add_line(folder, "1-2-0009")
    return "1-2.trans.txt:4"


def with_bytes(folder, content):
    (folder / "1-2-0009.flac").write_bytes(content)
    add_line(folder, "1-2-0009 WORD")
    return "1-2-0009.flac"


def with_audio(folder, **kwargs):
    write_audio(folder / "1-2-0009.flac", **kwargs)
    add_line(folder, "1-2-0009 WORD")
    return "1-2-0009.flac"


def corrupt(folder):
    return with_bytes(folder, b"these are not samples" * 50)


def header_cut_short(folder):
    return with_bytes(folder, (folder / "1-2-0000.flac").read_bytes()[:20])


def cut_short(folder):
    write_audio(folder / "1-2-0009.wav")
    content = (folder / "1-2-0009.wav").read_bytes()
    (folder / "1-2-0009.wav").write_bytes(content[: len(content) // 2])
    add_line(folder, "1-2-0009 WORD")
    return "1-2-0009.wav"


def empty(folder):
    return with_bytes(folder, b"")


def no_samples(folder):
    write_audio(folder / "1-2-0009.wav", seconds=0)
    add_line(folder, "1-2-0009 WORD")
    return "1-2-0009.wav"


def too_short(folder):
    return with_audio(folder, seconds=0.05)


def misplaced(folder):
    write_audio(folder.parent / "1-2-0009.flac")
    return "1-2-0009.flac"


def both_endings(folder):
    write_audio(folder / "1-2-0001.wav")
    return "1-2-0001.wav"


def twice_in_transcript(folder):
    add_line(folder, "1-2-0001 OTHER WORDS")
    return "1-2.trans.txt:4"


def not_utf8(folder):
    with open(folder / "1-2.trans.txt", "ab") as file:
        file.write(b"1-2-0009 \xe9\n")
    return "1-2.trans.txt:4"


def zero_byte(folder):
    write_audio(folder / "1-2-0009.flac")
    add_line(folder, "1-2-0009 WO\0RD")
    return "1-2.trans.txt:4"


def dangling_link(folder):
    os.symlink("nowhere", folder / "1-2-0009.flac")
    add_line(folder, "1-2-0009 WORD")
    return "1-2-0009.flac"


@pytest.mark.parametrize(
    "spoil, kind, why",
    [
        (without_audio, "without audio", "1-2-0009 has no .flac or .wav"),
        (without_transcript, "without transcript", "begins with 1-2-0009"),
        (without_words, "without words", "1-2-0009 has no words"),
        (corrupt, "corrupt", "Format not recognised"),
        (header_cut_short, "corrupt", ""),
        (cut_short, "corrupt", "ends after 3989 of 8000 samples"),
        (empty, "empty", "0 bytes"),
        (no_samples, "empty", "no samples"),
        (too_short, "too short", "0.05 s, min_duration is 0.1 s"),
        (misplaced, "misplaced", "not in SPLIT/SPEAKER/CHAPTER"),
        (both_endings, "duplicate", "1-2-0001.flac is taken"),
        (twice_in_transcript, "duplicate", "1-2-0001 is there twice"),
        (not_utf8, "malformed", "not UTF-8"),
        (zero_byte, "malformed", "a zero byte in wrd"),
        (dangling_link, "unreadable", "a link to nothing"),
    ],
)
def test_one_bad_file_is_reported_and_skipped(tmp_path, log, spoil, kind, why):
    folder = write_chapter(tmp_path / "corpus" / "t")
    named = spoil(folder)
    rows = prepare_test(tmp_path)
    assert [row["position"] for row in rows] == ["0", "1", "2"]
    assert [row["wrd"] for row in rows] == ["WORD 0", "WORD 1", "WORD 2"]
    (warning,) = log("WARNING")
    assert "\n" not in warning
    assert named in warning and kind in warning and why in warning
    summary = f"t.csv: 3 utterances (0.00 h), 1 skipped (1 {kind})"
    assert log("INFO")[-1] == summary


def test_every_format_rate_and_number_of_channels(tmp_path):
    """What an encoder writes into a pipe has no length in its header."""
    folder = write_chapter(tmp_path / "corpus" / "t", count=1)
    content = bytearray((folder / "1-2-0000.flac").read_bytes())
    content[21] &= 0xF0  # total samples: 36 bits of the STREAMINFO block
    content[22:26] = bytes(4)
    (folder / "1-2-0001.FLAC").write_bytes(content)
    write_audio(folder / "1-2-0002.wav", rate=8000, channels=2)
    for number, ending in ((3, "ogg"), (4, "mp3")):
        write_audio(folder / f"1-2-000{number}.{ending}", subtype=None)
    write_audio(folder / "1-2-0005.AIFF")
    opus = np.random.default_rng(0).normal(0, 0.01, 24000)
    soundfile.write(
        folder / "1-2-0006.opus", opus, 48000, subtype="OPUS", format="OGG"
    )
    for number in range(1, 7):
        add_line(folder, f"1-2-000{number}\tword")
    rows = prepare_test(tmp_path)
    assert [row["ID"] for row in rows] == [f"1-2-000{i}" for i in range(7)]
    for row in rows:
        assert float(row["duration"]) == pytest.approx(0.5, abs=1e-3)
        audio = read_audio(row["wav"], 16000)
        assert len(audio) == pytest.approx(8000, abs=16)


def test_a_40_minute_utterance(tmp_path, log):
    folder = write_chapter(tmp_path / "corpus" / "t")
    silence = np.zeros(40 * 60 * 16000, dtype="int16")
    soundfile.write(str(folder / "1-2-0009.flac"), silence, 16000)
    add_line(folder, "1-2-0009 WORD")
    assert len(prepare_test(tmp_path)) == 3
    assert "2400 s, max_duration is 120 s" in log("WARNING")[0]
    assert len(prepare_test(tmp_path, max_duration=3600.0)) == 4


def test_a_gap_leaves_no_gap_in_the_positions(tmp_path):
    folder = write_chapter(tmp_path / "corpus" / "t")
    (folder / "1-2-0001.flac").write_bytes(b"")
    rows = prepare_test(tmp_path)
    assert [(row["ID"], row["position"]) for row in rows] == [
        ("1-2-0000", "0"),
        ("1-2-0002", "1"),
    ]


def test_nothing_good_in_a_split(tmp_path):
    folder = write_chapter(tmp_path / "corpus" / "t", count=2)
    for path in folder.glob("*.flac"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"'t' can be used: 2 sk.*\(2 empty\)"):
        prepare_test(tmp_path)
    assert not (tmp_path / "save").exists()
    (tmp_path / "corpus" / "u").mkdir()
    with pytest.raises(ValueError, match="'u' can be used: 0 skipped"):
        prepare_librispeech(
            tmp_path / "corpus", [], [], ["u"], tmp_path / "save"
        )


def test_no_data_folder(tmp_path):
    (tmp_path / "something").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        prepare_test(tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "corpus") in message
    assert "something" in message and "data_folder" in message
    assert "\n" not in message


def test_missing_splits_are_named_together(tmp_path):
    write_chapter(tmp_path / "corpus" / "train")
    with pytest.raises(FileNotFoundError) as caught:
        prepare_librispeech(
            tmp_path / "corpus", ["train"], ["dev"], ["test"], tmp_path / "s"
        )
    message = str(caught.value)
    assert "no split 'dev', 'test' (it holds: train)" in message
    assert "dev_splits" in message
    assert not (tmp_path / "s").exists()


def test_the_folder_above_librispeech(tmp_path):
    write_chapter(tmp_path / "corpus" / "LibriSpeech" / "t")
    with pytest.raises(FileNotFoundError, match="corpus/LibriSpeech', which"):
        prepare_test(tmp_path)


@pytest.mark.parametrize(
    "train, test, message",
    [
        ([], [], "No split is given"),
        (["a/b"], [], "'a/b' is not the name"),
        (["x"], ["train"], "cannot be called 'train'"),
    ],
)
def test_wrong_split_names(tmp_path, train, test, message):
    with pytest.raises(ValueError, match=message):
        prepare_librispeech(tmp_path, train, [], test, tmp_path / "s")


def test_wrong_durations(tmp_path):
    with pytest.raises(ValueError, match="not 3 and 2"):
        prepare_test(tmp_path, min_duration=3, max_duration=2)


def test_done_once(tmp_path, log):
    folder = write_chapter(tmp_path / "corpus" / "t")
    made = tmp_path / "save" / "t.csv"
    prepare_test(tmp_path)
    content = made.read_bytes()

    def made_anew(**kwargs):
        os.utime(made, (1, 1))
        prepare_test(tmp_path, **kwargs)
        return made.stat().st_mtime != 1

    assert not made_anew()
    assert log("INFO")[-1].startswith("t.csv is up to date: 3 utterances")
    assert made_anew(max_duration=60.0)
    assert made_anew()  # other arguments again
    assert not made_anew()
    write_audio(folder / "1-2-0003.flac")
    add_line(folder, "1-2-0003 WORD")
    assert made_anew()
    assert len(read_csv(made)) == 4
    os.utime(folder / "1-2-0000.flac", (2**32, 2**32))  # newer, same size
    assert made_anew()
    assert not made_anew()
    (folder / "1-2-0003.flac").unlink()
    assert made_anew()
    assert made.read_bytes() == content
    made.unlink()
    prepare_test(tmp_path)
    assert made.read_bytes() == content
    (tmp_path / "save" / csv_files.RECORD_FILE).write_text("[broken")
    assert made_anew()


def test_killed_while_writing(tmp_path, monkeypatch):
    write_chapter(tmp_path / "corpus" / "t")
    prepare_test(tmp_path)
    made = tmp_path / "save" / "t.csv"
    content = made.read_bytes()

    def full_disk(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv_files.os, "replace", full_disk)
        with pytest.raises(OSError, match="No space left on device.*t.csv"):
            prepare_test(tmp_path, max_duration=60.0)
    # The old file is whole, nothing half-made is left, and as it is not
    # known any more what the file was made from, it is made again.
    assert made.read_bytes() == content
    assert os.listdir(tmp_path / "save") == ["t.csv"]
    os.utime(made, (1, 1))
    prepare_test(tmp_path)
    assert made.stat().st_mtime != 1


def test_skip_prep_reads_nothing(tmp_path):
    files = prepare_librispeech(
        tmp_path / "none", "a", "b", [], str(tmp_path / "s"), skip_prep=True
    )
    assert files["train"] == str(tmp_path / "s" / "train.csv")
    assert files["valid"] == [str(tmp_path / "s" / "b.csv")]
    assert files["test"] == []
    assert not (tmp_path / "s").exists()


@settings(max_examples=200, deadline=None)
@example("\u0390")  # its upper case is three characters, not composed
@given(st.text())
def test_normalised_text_is_stable(text):
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert once == once.strip() and "  " not in once and "\n" not in once
    assert not CSV_VARIABLE.search(once)


# Manifests


def write_manifest(path, lines):
    """A file of JSON lines; a str is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [x if isinstance(x, str) else json.dumps(x) for x in lines]
    path.write_text("".join(line + "\n" for line in text))
    return str(path)


def test_manifests(tmp_path):
    for name in ("a", "b", "c"):
        write_audio(tmp_path / "audio" / f"{name}.wav")
    manifest = write_manifest(
        tmp_path / "m.jsonl",
        [
            {
                "audio_filepath": "audio/b.wav",
                "text": "one",
                "speaker": 7,
                "session": "s",
                "domain": "car",
                "snr": 5,
            },
            "",
            {"audio_filepath": "audio/a.wav", "text": "two", "session": "s"},
            {
                "audio_filepath": str(tmp_path / "audio" / "c.wav"),
                "text": " Three ",
                "speaker": "spk",
            },
            {"audio_filepath": "audio/a.wav", "text": "four"},
        ],
    )
    files = prepare_manifests(None, None, manifest, str(tmp_path / "save"))
    rows = read_csv(files["test"][0])
    assert list(rows[0]) == csv_files.COLUMNS + ["domain", "snr"]
    keys = ("ID", "spk_id", "session", "position", "wrd", "domain", "snr")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("a-5-a", "a-5", "a-5", "0", "FOUR", "", ""),
        ("b", "7", "s", "0", "ONE", "car", "5"),
        ("a", "s", "s", "1", "TWO", "", ""),
        ("c", "spk", "spk", "0", "THREE", "", ""),
    ]
    assert rows[1]["wav"] == str(tmp_path / "audio" / "b.wav")


def test_manifests_of_the_same_name(tmp_path):
    paths = []
    for folder in ("clean", "noisy"):
        write_audio(tmp_path / folder / "1.flac")
        line = {"audio_filepath": "1.flac", "text": folder, "session": "s"}
        paths.append(write_manifest(tmp_path / folder / "test.json", [line]))
    files = prepare_manifests(paths, paths[0], paths, str(tmp_path / "save"))
    rows = read_csv(files["train"])
    assert list(rows[0]) == csv_files.COLUMNS
    assert [(r["ID"], r["session"], r["position"]) for r in rows] == [
        ("noisy-test-s-1", "noisy-test-s", "0"),
        ("1", "s", "0"),
    ]
    names = [os.path.basename(path) for path in files["test"]]
    assert names == ["test.csv", "noisy-test.csv"]
    assert files["valid"] == files["test"][:1]
    assert [read_csv(path)[0]["wrd"] for path in files["test"]] == [
        "CLEAN",
        "NOISY",
    ]


@pytest.mark.parametrize(
    "line, kind, why",
    [
        ('{"audio_filepath": "1.flac", "text"', "malformed", "JSON"),
        ("[1, 2]", "malformed", "not a JSON object"),
        ({"text": "x"}, "malformed", "'audio_filepath' is missing"),
        ({"audio_filepath": "1.flac"}, "malformed", "'text' is missing"),
        ({"audio_filepath": "1.flac", "text": 5}, "malformed", "'text'"),
        ({"audio_filepath": "1.flac", "text": " "}, "without words", "empty"),
        (
            {"audio_filepath": "no.flac", "text": "x"},
            "without audio",
            "no.flac",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "offset": 2.5},
            "beyond the end",
            "no part from 2.5 s on: it is 0.5 s long",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "duration": 0.6},
            "beyond the end",
            "no part from 0 s to 0.6 s",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "offset": -1},
            "malformed",
            "'offset' is -1",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "duration": "long"},
            "malformed",
            "'duration' is no number",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "speaker": ["a"]},
            "malformed",
            "'speaker'",
        ),
        (
            {"audio_filepath": "1.flac", "text": "\ud800"},
            "malformed",
            "characters in wrd",
        ),
        (
            {"audio_filepath": "1.flac", "text": "x", "speaker": "$a"},
            "malformed",
            "dollar",
        ),
    ],
)
def test_a_bad_line_of_a_manifest(tmp_path, log, line, kind, why):
    write_audio(tmp_path / "1.flac")
    good = {"audio_filepath": "1.flac", "text": "good"}
    manifest = write_manifest(tmp_path / "m.jsonl", [good, line])
    files = prepare_manifests(None, None, [manifest], tmp_path / "save")
    assert [row["wrd"] for row in read_csv(files["test"][0])] == ["GOOD"]
    (warning,) = log("WARNING")
    assert kind in warning and why in warning
    assert f"{manifest}:2" in warning


def test_parts_of_a_file(tmp_path):
    """Rows of parts have the samples where they begin and end; a length that
    is the file's own, but for rounding, is the whole."""
    ramp = np.arange(16000) * (-1) ** np.arange(16000) / 2**15
    soundfile.write(tmp_path / "a.wav", ramp, 8000, subtype="PCM_16")
    parts = [(0, 0.5), (0.5, 0.25), (1.5, None), (0, 1.99), (None, None)]
    lines = [
        {"audio_filepath": "a.wav", "text": f"{i}", "offset": a, "duration": b}
        for i, (a, b) in enumerate(parts)
    ]
    manifest = write_manifest(tmp_path / "m.jsonl", lines)
    files = prepare_manifests(None, None, manifest, tmp_path / "save")
    rows = {row["wrd"]: row for row in read_csv(files["test"][0])}
    assert list(rows["0"])[-2:] == ["start", "stop"]
    expected = [("0", "4000"), ("4000", "6000"), ("12000", "16000")]
    found = [(rows[key]["start"], rows[key]["stop"]) for key in "01234"]
    assert found == expected + [("", "")] * 2
    durations = [float(rows[key]["duration"]) for key in "01234"]
    assert durations == [0.5, 0.25, 0.5, 2, 2]
    for key, (start, stop) in zip("012", expected):
        wanted = ramp[int(start) : int(stop)].astype("float32")
        assert read_row(rows[key], 8000).numpy().tolist() == wanted.tolist()
    # Read again as a manifest of SpeechBrain's, the same rows come out.
    again = prepare_manifests(None, None, files["test"], tmp_path / "again")
    assert read_csv(again["test"][0]) == read_csv(files["test"][0])


def test_bad_manifests(tmp_path):
    with pytest.raises(ValueError, match="No manifest is given"):
        prepare_manifests(None, None, [], tmp_path / "save")
    (tmp_path / "there.jsonl").write_text("not JSON\n")
    with pytest.raises(FileNotFoundError, match="m.jsonl.*there.jsonl"):
        prepare_manifests(tmp_path / "m.jsonl", None, None, tmp_path / "save")
    with pytest.raises(ValueError, match="there.jsonl.*1 malformed"):
        prepare_manifests(None, None, tmp_path / "there.jsonl", tmp_path / "s")


def test_manifests_are_done_once(tmp_path, log):
    write_audio(tmp_path / "1.flac")
    line = {"audio_filepath": "1.flac", "text": "x"}
    manifest = write_manifest(tmp_path / "m.jsonl", [line])

    def run():
        prepare_manifests(manifest, None, None, str(tmp_path / "save"))
        return log("INFO")[-1]

    assert run() == "train.csv: 1 utterances (0.00 h), 0 skipped"
    assert run().startswith("train.csv is up to date")
    write_audio(tmp_path / "1.flac", seconds=0.7)
    assert not run().startswith("train.csv is up to date")


# Downloads, without a network


def serve(monkeypatch, folder, corpus, split):
    """A server's folder with an archive as openslr.org has them, and its
    published checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{split}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(corpus, "LibriSpeech")
    monkeypatch.setattr(download, "MINI_URL", str(folder))
    monkeypatch.setattr(download, "LIBRISPEECH_URL", str(folder))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(download.CHECKSUMS, split, f"sha256:{digest}")
    return archive


@pytest.mark.parametrize("split", ["dev-clean-2", "dev-clean"])
def test_download(split, tmp_path, monkeypatch):
    write_chapter(tmp_path / "source" / split)
    serve(monkeypatch, tmp_path / "server", tmp_path / "source", split)
    files = prepare_librispeech(
        tmp_path / "new" / "corpus",
        [],
        [],
        [split],
        tmp_path / "save",
        download=True,
    )
    assert len(read_csv(files["test"][0])) == 3
    assert os.listdir(tmp_path / "new" / "corpus") == [split]
    for name in ("MINI_URL", "LIBRISPEECH_URL"):
        monkeypatch.setattr(download, name, "gone")
    download_librispeech(tmp_path / "new" / "corpus", [split])


def test_a_broken_archive_is_fetched_again(tmp_path, monkeypatch):
    write_chapter(tmp_path / "source" / "dev-clean-2")
    archive = serve(
        monkeypatch, tmp_path / "server", tmp_path / "source", "dev-clean-2"
    )
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConnectionError, match="dev-clean-2"):
        download_librispeech(tmp_path / "corpus", "dev-clean-2")
    assert os.listdir(tmp_path / "corpus") == [".download"]
    archive.write_bytes(whole)
    download_librispeech(tmp_path / "corpus", "dev-clean-2")
    assert os.listdir(tmp_path / "corpus") == ["dev-clean-2"]


def test_an_archive_with_another_checksum(tmp_path, monkeypatch):
    """Whole, but not the published one: nothing of it is unpacked, and one
    that was fetched before is checked too."""
    write_chapter(tmp_path / "source" / "dev-clean")
    archive = serve(
        monkeypatch, tmp_path / "server", tmp_path / "source", "dev-clean"
    )
    good, staging = archive.read_bytes(), tmp_path / "corpus" / ".download"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "source", "LibriSpeech")
        tar.add(tmp_path / "source", "LibriSpeech/other")
    staging.mkdir(parents=True)
    shutil.copy(archive, staging)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="its sha256 is") as caught:
            download_librispeech(tmp_path / "corpus", ["dev-clean"])
        assert "dev-clean.tar.gz" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert os.listdir(staging) == []
    archive.write_bytes(good)
    download_librispeech(tmp_path / "corpus", ["dev-clean"])
    assert os.listdir(tmp_path / "corpus") == ["dev-clean"]


def test_checksums_are_those_of_torchaudio():
    from torchaudio.datasets import librispeech

    known = {
        url.rpartition("/")[2].removesuffix(".tar.gz"): f"sha256:{digest}"
        for url, digest in librispeech._CHECKSUMS.items()
    }
    mini = {"dev-clean-2", "train-clean-5"}
    assert download.CHECKSUMS.keys() == known.keys() | mini
    assert known.items() <= download.CHECKSUMS.items()


def test_no_network(tmp_path, monkeypatch):
    # Port 9 of this machine: nobody listens, no name is looked up.
    monkeypatch.setenv("no_proxy", "*")
    for name, split in (
        ("MINI_URL", "train-clean-5"),
        ("LIBRISPEECH_URL", "dev-clean"),
    ):
        monkeypatch.setattr(download, name, "http://127.0.0.1:9")
        with pytest.raises(ConnectionError) as caught:
            download_librispeech(tmp_path, split)
        assert f"'{split}'" in str(caught.value)
        assert "\n" not in str(caught.value)


def member(name, kind=tarfile.REGTYPE, **options):
    """What a hostile archive holds."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in options.items():
        setattr(info, key, value)
    return info


HOSTILE = {
    "above": ([member("../made")], "outside"),
    "deep above": ([member("LibriSpeech/a/../../../made")], "outside"),
    "absolute": ([member("{folder}/made")], "outside"),
    "another system's": ([member("..\\made")], "outside"),
    "a link out": (
        [
            member("LibriSpeech", tarfile.SYMTYPE, linkname="{folder}"),
            member("LibriSpeech/made"),
        ],
        "neither a file nor a folder",
    ),
    "a hard link": (
        [member("LibriSpeech", tarfile.LNKTYPE, linkname="../secret")],
        "neither a file nor a folder",
    ),
    "a device": (
        [member("LibriSpeech", tarfile.CHRTYPE, devmajor=1, devminor=5)],
        "neither a file nor a folder",
    ),
    "a pipe": (
        [member("LibriSpeech", tarfile.FIFOTYPE)],
        "neither a file nor a folder",
    ),
    "a bomb": ([member("LibriSpeech/a", size=2**27)], "much more"),
    "a header that is a bomb": (
        [member("x", tarfile.XHDTYPE, size=2**27)],
        "much more",
    ),
    "a large file of holes": (
        [
            member(
                "LibriSpeech/a",
                pax_headers={
                    "GNU.sparse.map": "0,0",
                    "GNU.sparse.size": str(2**40),
                },
            )
        ],
        "neither a file nor a folder",
    ),
    "a file with holes": (
        [member("LibriSpeech/a", tarfile.GNUTYPE_SPARSE)],
        "neither a file nor a folder",
    ),
}


class Zeros:
    """As many as are asked for."""

    def read(self, size):
        """Zeros."""
        return bytes(size)


@pytest.mark.parametrize("members, said", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archives(members, said, tmp_path):
    folder, archive = tmp_path / "deep" / "folder", tmp_path / "x.tar.gz"
    folder.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for info in members:
            info = copy.copy(info)
            for key in ("name", "linkname"):
                text = getattr(info, key).replace("{folder}", str(tmp_path))
                setattr(info, key, text)
            tar.addfile(info, Zeros())
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ArchiveError, match=said) as caught:
        unpack(archive, folder)
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    after = set(tmp_path.rglob("*")) - before
    assert {path for path in after if folder not in path.parents} == set()
    assert sum(path.stat().st_size for path in after) < 2**27


def test_download_of_an_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="'my-split': known are train-clean"):
        download_librispeech(tmp_path, ["my-split"])


@pytest.mark.skipif(
    not DIGITS.is_dir(), reason="the digits are not beside the project"
)
def test_digits(tmp_path):
    files = prepare_librispeech(
        DIGITS, ["train-clean-100"], ["dev-clean"], ["test-clean"], tmp_path
    )
    rows = [read_csv(files[key]) for key in ("train",)]
    rows += [read_csv(files[key][0]) for key in ("valid", "test")]
    assert [len(part) for part in rows] == [634, 33, 68]
    assert [{row["spk_id"] for row in part} for part in rows] == [
        {"101", "103", "105"},
        {"104"},
        {"104"},
    ]
    for part in rows:
        assert part == sorted(
            part, key=lambda row: (row["session"], int(row["position"]))
        )
