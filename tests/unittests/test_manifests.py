"""Manifests of every kind, with what people's files have in them: one reader.

Authors
* speechbrain_lact contributors 2026
"""

import json
import os
import re

import pytest

from speechbrain_lact.dataio.manifests import Skipped, read_manifest, walk


def read(path, **options):
    """(words, name of the file, where it begins and ends) of each utterance,
    and complaints: what is left of 'file:line: '."""
    lines = []
    found = read_manifest(str(path), Skipped(lines.append), **options)
    for line in lines:
        assert line.startswith(f"{path}") and "\n" not in line
    rows = [
        (u.wrd, os.path.relpath(u.wav, path.parent), u.start, u.stop, u.unit)
        for u in found
    ]
    return rows, [line.removeprefix(f"{path}:") for line in lines]


@pytest.fixture
def folder(tmp_path):
    """A folder with three files that could be recordings."""
    for name in ("a.wav", "b.flac", "c d.mp3"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


WHOLE = (0, None, "s")
ROWS = [("ONE", "a.wav", *WHOLE), ("TWO É", "b.flac", *WHOLE)]
# The last letter is two: e and an accent.
TEXTS = {
    ".jsonl": '{"audio_filepath": "a.wav", "text": "one"}\n\n'
    '{"audio_filepath": "b.flac", "text": " two  e\u0301"}\n',
    ".tsv": "path\tsentence\na.wav\tone\n\nb.flac\ttwo e\u0301\n",
    ".csv": "ID,duration,wav,wrd\n1,1,$data_root/a.wav,one\n\n"
    '2,1,b.flac,"two e\u0301"\n',
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]
)
@pytest.mark.parametrize("kind", TEXTS)
def test_encodings_and_ends_of_lines(kind, coding, ends, folder):
    text = TEXTS[kind].replace("\n", ends)
    if coding.endswith("e"):
        text = "\ufeff" + text
    path = folder / f"m{kind}"
    path.write_bytes(text.encode(coding))
    assert read(path) == (ROWS, [])
    # Not from the folder that the reader is in.
    assert os.getcwd() != str(folder)


def json_lines(*lines):
    return "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n"
        for line in lines
    )


def line(**more):
    return {"audio_filepath": "a.wav", "text": "one", **more}


GOOD = line(text="good")


@pytest.mark.parametrize(
    "bad, why",
    [
        ("no JSON", "not a JSON object"),
        ("[1]", "not a JSON object"),
        (line(text=None), "'text' is missing or no text"),
        (line(text=5), "'text' is missing or no text"),
        ({"text": "one"}, "'audio_filepath' is missing"),
        (line(audio_filepath=""), "'audio_filepath' is empty"),
        (line(audio_filepath="gone.wav"), "no file "),
        (line(audio_filepath="a\0.wav"), "a zero byte"),
        (line(text=" "), "without words: 'text' is empty"),
        (line(speaker=[1]), "'speaker' is no text or number"),
        (line(offset="soon"), "'offset' is no number"),
        (line(offset=-1), "'offset' is -1"),
        (line(offset=float("nan")), "'offset' is nan"),
        (line(duration=0), "'duration' is 0"),
        (line(duration=True), "'duration' is True"),
    ],
)
def test_a_bad_line_costs_one_line(bad, why, folder):
    path = folder / "m.jsonl"
    path.write_text(json_lines(GOOD, bad, GOOD))
    rows, complaints = read(path)
    assert rows == [("GOOD", "a.wav", *WHOLE)] * 2
    (complaint,) = complaints
    assert complaint.startswith("2: ") and why in complaint


def test_a_line_in_another_encoding(folder):
    path = folder / "m.jsonl"
    good = json_lines(GOOD).encode()
    path.write_bytes(good + b'{"text": "\xe9"}\n' + good)
    rows, complaints = read(path)
    assert len(rows) == 2 and complaints == ["2: malformed: not UTF-8"]


def test_parts_and_paths_of_json_lines(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    path = folder / "m.jsonl"
    path.write_text(
        json_lines(
            line(offset=1.5, duration=2),
            line(offset="1.5", duration=None),
            line(offset=0, duration=0.25),
            line(audio_filepath="~/c d.mp3", speaker=7, domain="car"),
            line(audio_filepath=str(folder / "b.flac")),
        )
    )
    rows, complaints = read(path)
    assert complaints == []
    assert [row[2:] for row in rows] == [
        (1.5, 3.5, "s"),
        (1.5, None, "s"),
        (0, 0.25, "s"),
        WHOLE,
        WHOLE,
    ]
    assert [row[1] for row in rows[3:]] == ["c d.mp3", "b.flac"]
    found = read_manifest(str(path), Skipped())[3]
    assert (found.spk_id, found.session) == ("7", "7")
    assert found.extra == {"domain": "car"}


def test_tables_of_speechbrain(folder):
    path = folder / "m.csv"
    rows = [
        "ID,duration,wav,start,stop,wrd,spk_id",
        "1,1,a.wav,16000,32000,samples,x",
        "1,1,${data_root}/a.wav,1.0,2.5,seconds,x",
        "2,1,a.wav,,,costs $FIVE and $data_root,x",
        "3,1,a.wav,,,too, many,x",
        "4,1,a.wav,soon,,words,x",
        '5,1,a.wav,,,"never closed,x',
        '6,1,a.wav,,,he said "no" twice,x',
        '7,1,a.wav,,,"a, b and ""c""",x',
        '8,1,a.wav,,,"over two',
        'lines",x',
        '9,1,a.wav,,,"open',
        "10,1,a.wav,,,last,x",
        "11,1,a.wav",
    ]
    path.write_text("\n".join(rows))
    found, complaints = read(path)
    assert [(row[0], *row[2:]) for row in found] == [
        ("SAMPLES", 16000, 32000, "samples"),
        ("SECONDS", 1.0, 2.5, "s"),
        ("COSTS $ FIVE AND $ DATA_ROOT", *WHOLE),
        ('HE SAID "NO" TWICE', *WHOLE),
        ('A, B AND "C"', *WHOLE),
        ("OVER TWO LINES", *WHOLE),
        ("LAST", *WHOLE),
    ]
    assert {row[1] for row in found} == {"a.wav"}
    expected = ["5: .*8 fields", "6: .*'start' and", "7: .*quote is not closed"]
    expected += ["12: .*quote is not closed", "14: .*'wrd' is missing"]
    for complaint, why in zip(complaints, expected, strict=True):
        assert re.match(why, complaint), complaint


def test_tables_of_common_voice(folder):
    (folder / "clips").mkdir()
    (folder / "clips" / "a.wav").write_bytes(b"x")
    path = folder / "m.tsv"
    path.write_text(
        "client_id\tpath\tsentence\n"
        'me\ta.wav\tsaid "one\n'
        "me\tb.flac\ttwo\n"
        "me\ta.wav\n"
        "me\ta.wav\ta\tb\n"
    )
    rows, complaints = read(path)
    assert [row[:2] for row in rows] == [
        ('SAID "ONE', "clips/a.wav"),
        ("TWO", "b.flac"),
    ]
    assert complaints == [
        "4: malformed: 'sentence' is missing or no text",
        "5: malformed: 4 fields, but the header has 3",
    ]
    assert read_manifest(str(path), Skipped())[0].spk_id == "me"


@pytest.mark.parametrize(
    "name, text, missing",
    [
        ("m.tsv", "path\twords\na.wav\tone\n", "'sentence'"),
        ("m.csv", "ID,wav\n1,a.wav\n", "'wrd'"),
        ("m.csv", "", "'ID'"),
    ],
)
def test_a_column_that_is_missing(name, text, missing, folder):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}.*column {missing}"):
        read(folder / name)


def test_layout_of_librispeech(tmp_path):
    """Any ending in any case, tabs, byte order marks, links; at any depth."""
    chapter = tmp_path / "ls" / "1" / "2"
    chapter.mkdir(parents=True)
    names = ["a.flac", "b.FLAC", "c.wav", "d.Opus", "e.m4a", "caf\u00e9.wav"]
    for name in names:
        (chapter / name).write_bytes(b"x")
    (chapter / "x.trans.txt").write_bytes(
        "\ufeffa one\r\nb\ttwo\r\nc  three\r\n\r\nd four\r\ne five\r\n"
        "cafe\u0301 six\r\ng gone\r\nh".encode()
    )
    (tmp_path / "link").symlink_to("ls/1")
    (chapter / "loop").symlink_to(tmp_path / "ls")
    for path in (tmp_path / "ls", tmp_path / "link", chapter):
        lines = []
        found = read_manifest(path, Skipped(lines.append))
        words = sorted(u.wrd for u in found)
        assert words == ["FIVE", "FOUR", "ONE", "SIX", "THREE", "TWO"]
        assert len(lines) == 2 and all("without audio" in x for x in lines)
        assert "x.trans.txt:8: " in lines[0] and ":9: " in lines[1]


def test_folders_are_walked_once(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.wav").write_bytes(b"x")
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "0").symlink_to("b")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "y.wav").write_bytes(b"y")
    (tmp_path / "a" / "b" / "out").symlink_to(tmp_path / "out")
    found = {
        os.path.relpath(os.path.join(path, name), tmp_path)
        for path, names in walk(tmp_path / "a")
        for name in names
    }
    assert found == {"a/b/x.wav", "a/b/out/y.wav"}
