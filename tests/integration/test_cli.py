"""The command line as its users meet it: processes, files and pipes.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.cli.model import load_model
from speechbrain_lact.cli.options import MODEL
from speechbrain_lact.dataio.audio import AudioFile, warn
from speechbrain_lact.dataio.pipe import Incoming
from speechbrain_lact.inference.subtitles import subtitles
from speechbrain_lact.inference.words import Word

ROOT = Path(__file__).parents[2]
DIGITS = ROOT.parent / "shared" / "data" / "digits" / "dev-clean" / "104"
COMMAND = [sys.executable, "-m", "speechbrain_lact.cli"]
RATE = 16000


def started(*args, **kwargs):
    """The command as a process, with pipes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(
        [*COMMAND, *map(str, args)], env=env, **pipes, **kwargs
    )


def ended(process, data=None):
    """Its exit code and what it has printed, in text."""
    out, err = (text.decode() for text in process.communicate(data))
    assert "Traceback" not in err, err
    return process.returncode, out, err


def rows(path):
    """What a .jsonl file holds, by the name of the file."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["file"] for row in found}) == len(found)
    return {Path(row["file"]).name: row for row in found}


def pcm(samples):
    """Bytes of raw audio, as exact as the file that it is from."""
    return np.round(np.asarray(samples) * 2**15).astype("<i2").tobytes()


@pytest.fixture(scope="module")
def speech(corpus):
    """Three utterances of a voice, one after the other."""
    files = sorted(corpus.glob("test-clean/*/*/*.flac"))[:3]
    return np.concatenate([soundfile.read(file)[0] for file in files])


@pytest.fixture(scope="module")
def kinds(speech, tmp_path_factory):
    """A folder with all that people have: the good and the bad."""
    folder = tmp_path_factory.mktemp("kinds")
    second, whole = speech[: 2 * RATE], folder / "whole.flac"
    (folder / "below" / "far").mkdir(parents=True)

    def write(name, samples, rate=RATE, **options):
        soundfile.write(folder / name, samples, rate, **options)

    write("whole.flac", speech)
    # Cut within a word, as the pipe is.
    write("cut.wav", speech[: len(speech) // 2])
    write("mono.wav", second, subtype="FLOAT")
    write("below/stereo.wav", np.stack([second] * 2, 1), subtype="FLOAT")
    write("below/far/six.wav", np.stack([second] * 6, 1), subtype="FLOAT")
    write("low.wav", second[::2], 8000)
    write("high.wav", np.repeat(second, 3), 48000)
    write("clipped.WAV", np.clip(100 * second, -1, 1))
    write("silent.ogg", np.zeros(RATE))
    write("lossy.mp3", second)
    if DIGITS.is_dir():
        shutil.copy(DIGITS / "1000" / "104-1000-0000.flac", folder)
    second = second.copy()
    second[100] = np.nan
    write("nan.wav", second, subtype="FLOAT")
    write("sample.wav", second[:1])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "random.mp3").write_bytes(b"ID3" + os.urandom(5000))
    half = whole.read_bytes()
    (folder / "half.flac").write_bytes(half[: len(half) // 2])
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "notes.txt").write_text("no recording\n")
    return folder


BAD = ["empty.wav", "gone.wav", "half.flac", "nan.wav", "random.mp3"]
BAD += ["sample.wav"]


@pytest.fixture(scope="module")
def transcripts(kinds, tmp_path_factory):
    """What a process makes of that folder."""
    here = tmp_path_factory.mktemp("here")
    out = tmp_path_factory.mktemp("out") / "all.jsonl"
    model = sorted(path.name for path in MODEL.iterdir())
    code, printed, err = ended(
        started("transcribe", kinds, "--out", out, "--batch-size=4", cwd=here)
    )
    assert list(here.iterdir()) == []
    assert sorted(path.name for path in MODEL.iterdir()) == model
    return code, printed, err, rows(out)


@pytest.mark.slow
def test_all_kinds_of_files(transcripts):
    code, printed, err, found = transcripts
    *errors, last = err.splitlines()
    total = len(found) + len(BAD)
    count = f"{len(found)} of {total} transcribed, {len(BAD)} failed"
    assert (code, printed, last) == (1, "", f"speechbrain-lact: {count}")
    # Each named in a line of its own, and nothing else on standard error.
    matches = [re.match(r"speechbrain-lact: (\S+): \w", e) for e in errors]
    names = sorted(Path(m[1]).name for m in matches)
    assert names == [*BAD, "silent.ogg"]
    assert "silent.ogg: near silence" in err
    assert found.keys() >= {"six.wav", "clipped.WAV", "lossy.mp3", "whole.flac"}
    assert not found.keys() & set(BAD)
    for row in found.values():
        assert row["text"] == " ".join(word["text"] for word in row["words"])
        times = [t for w in row["words"] for t in (w["start"], w["end"])]
        assert times == sorted(times)
        assert all(0 <= time <= row["seconds"] + 0.1 for time in times)
    mono, stereo, six = (
        found[name]["words"] for name in ("mono.wav", "stereo.wav", "six.wav")
    )
    assert mono and mono == stereo == six
    assert found["silent.ogg"]["text"] == ""
    assert found["high.wav"]["seconds"] == found["low.wav"]["seconds"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whole.flac", "104-1000-0000.flac"])
def test_stream_in_pieces_of_ten_milliseconds(name, kinds, transcripts):
    if not (kinds / name).is_file():
        pytest.skip("the digits are not there")
    data = pcm(soundfile.read(kinds / name)[0])
    process = started("stream", "--piece=0.01", cwd=kinds / "below" / "far")
    # A word that is not flushed would never come.
    clock = threading.Timer(300, process.kill)
    clock.start()
    for start in range(0, len(data), 320):
        process.stdin.write(data[start : start + 320])
        process.stdin.flush()
    first = process.stdout.read1(1).decode()
    code, rest, err = ended(process, b"")
    clock.cancel()
    assert (code, err) == (0, "")
    assert first + rest == transcripts[3][name]["text"] + "\n"
    assert [p.name for p in (kinds / "below" / "far").iterdir()] == ["six.wav"]


@pytest.mark.slow
def test_stream_that_stops_within_a_word(kinds, transcripts):
    data = wav_bytes(soundfile.read(kinds / "cut.wav", dtype="int16")[0])
    # The header promises more than comes; half a sample is too much.
    data = with_size(data, len(data) + 10**6) + b"x"
    code, printed, err = ended(started("stream"), data)
    assert (code, err) == (0, "")
    assert printed == transcripts[3]["cut.wav"]["text"] + "\n"


@pytest.mark.slow
def test_killed_and_resumed(speech, tmp_path):
    # The third error comes when the shorter half is done.
    folder, out = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()
    for i in range(97):
        seconds = 0.1 if i % 2 else 1.0
        samples = np.roll(speech, -100 * i)[: round(seconds * RATE)]
        soundfile.write(folder / f"{i:02}.wav", samples, RATE)
    bad = np.full(RATE // 2, np.nan)
    soundfile.write(folder / "nan.wav", bad, RATE, subtype="FLOAT")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "random.wav").write_bytes(os.urandom(1000))

    process = started("transcribe", folder, "--out", out)
    for name in ("empty", "random", "nan"):
        assert name in process.stderr.readline().decode()
    process.kill()
    process.communicate()
    assert process.returncode < 0
    *whole, last = out.read_text().splitlines(keepends=True)
    assert 40 < len(whole) < 96
    out.write_text("".join(whole) + last[:-30])

    code, _, err = ended(
        started("transcribe", folder, "--out", out, "--resume")
    )
    assert code == 1
    assert len(err.splitlines()) == 4
    assert err.endswith("97 of 100 transcribed, 3 failed\n")
    assert out.read_text().startswith("".join(whole))
    assert rows(out).keys() == {f"{i:02}.wav" for i in range(97)}


def test_text_is_resumed(kinds, call, tmp_path):
    folder, out = kinds / "below", tmp_path / "out.txt"
    assert call("transcribe", folder, "--out", out) == (0, "", "")
    lines = out.read_text().splitlines()
    names = [str(folder / "far" / "six.wav"), str(folder / "stereo.wav")]
    assert sorted(line.split("\t")[0] for line in lines) == names
    out.write_text(f"{lines[0]}\n{lines[1][:-5]}")
    assert call("transcribe", folder, "--out", out, "--resume")[0] == 0
    assert out.read_text().splitlines() == lines
    code, printed, err = call("transcribe", folder)
    assert (code, printed.splitlines(), err) == (0, lines, "")
    # Not without being told to, and no file of others.
    code, _, err = call("transcribe", folder, "--out", out)
    assert code == 1 and "--resume" in err
    out.write_text("my notes\nand more")
    code, _, err = call("transcribe", folder, "--out", out, "--resume")
    assert code == 1 and "line 1" in err
    assert out.read_text() == "my notes\nand more"


def test_long_recording_and_subtitles(speech, call, tmp_path, monkeypatch):
    long = np.resize(np.pad(speech, (0, RATE)), 61 * RATE)
    soundfile.write(tmp_path / "long.wav", long, RATE, subtype="FLOAT")
    code, text, err = call("transcribe", tmp_path / "long.wav")
    assert (code, err) == (0, "")
    for kind in ("srt", "vtt"):
        out = tmp_path / f"x.{kind}"
        with open(tmp_path / "long.wav", "rb") as source:
            monkeypatch.setattr(sys, "stdin", source)
            assert call("transcribe", "-", "--out", out)[0] == 0
        assert out.read_text().startswith("WEBVTT\n\n1\n" * (kind == "vtt"))
        blocks = re.findall(
            r"^\d+\n(\S+) --> (\S+)\n(.+)\n", out.read_text(), re.MULTILINE
        )
        assert len(blocks) > 10
        assert " ".join(block[2] for block in blocks) == text.strip()
        times = [time for block in blocks for time in block[:2]]
        assert times == sorted(times)
        mark = "[,]" if kind == "srt" else "[.]"
        assert all(re.fullmatch(rf"00:0\d:\d\d{mark}\d{{3}}", t) for t in times)
    assert {path.name for path in tmp_path.iterdir()} == {
        "long.wav",
        "x.srt",
        "x.srt.run.json",
        "x.vtt",
        "x.vtt.run.json",
    }


def test_block_is_that_of_the_class(kinds, call, tmp_path):
    """`--block` is `LaCTASR.set_block`: words come at other times."""
    path, said = kinds / "whole.flac", {}
    for block in (2, 16, 0):
        out = tmp_path / f"{block}.jsonl"
        options = ("--out", out, "--block", block)
        assert call("transcribe", path, *options)[0] == 0
        said[block] = rows(out)["whole.flac"]["words"]
        asr = load_model(MODEL)
        asr.set_block(block or None)
        wav = asr.load_audio(path)
        words, _ = asr.transcribe_words(wav[None], torch.ones(1))
        assert said[block] == [word.row() for word in words[0]]
    assert said[2] != said[16] != said[0]
    text = " ".join(word["text"] for word in said[2])
    assert call("transcribe", path)[1].strip() == text


def test_lines_of_subtitles():
    def cues(*words, kind=".srt"):
        text = subtitles([Word(*word) for word in words], kind)
        return [block.split("\n", 1)[1] for block in text.split("\n\n")]

    # A pause, a line that is too long, a line that takes too long.
    assert [c.split("\n")[1] for c in cues(("A", 0, 1), ("B", 1.8, 2))] == [
        "A",
        "B",
    ]
    long = [("WORDWORD", i / 4, i / 4 + 0.2) for i in range(6)]
    lines = [cue.split("\n")[1] for cue in cues(*long)]
    assert lines == ["WORDWORD WORDWORD WORDWORD WORDWORD", "WORDWORD WORDWORD"]
    slow = [("A", i / 2, i / 2 + 0.2) for i in range(12)]
    assert [cue.count("A") for cue in cues(*slow)] == [10, 2]
    # Long enough to be read, but not into the next.
    first, second = cues(("A", 3600, 3600.04), ("B", 3600.8, 3600.9))
    assert first.startswith("01:00:00,000 --> 01:00:00,800\n")
    assert second.startswith("01:00:00,800 --> 01:00:01,800\n")
    (_, cue) = subtitles([Word("A<B", 0, 1)], ".vtt").split("\n\n")
    assert cue == "1\n00:00:00.000 --> 00:00:01.000\nA&lt;B\n"
    assert subtitles([], ".srt") == ""


@pytest.mark.parametrize("kind", ["folder", "jsonl", "tsv", "csv"])
def test_evaluate(kind, corpus, call, tmp_path):
    lines = call("transcribe", corpus / "test-clean")[1].splitlines()
    said = {Path(p): text for p, text in (li.split("\t") for li in lines)}
    # Once with what the model says, once with two words more at each end.
    data = tmp_path / f"data.{kind}"
    scores = []
    for more in ("", " NEVER NEVER"):
        texts = {path: text + more for path, text in said.items()}
        if kind == "folder":
            data = tmp_path / f"folder{len(more)}"
            for path, text in texts.items():
                chapter = data / path.relative_to(corpus).parent
                chapter.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, chapter)
                with open(chapter / "x.trans.txt", "a") as file:
                    file.write(f"{path.stem} {text}\n")
        elif kind == "jsonl":
            lines = [
                {"audio_filepath": os.path.relpath(p, tmp_path), "text": t}
                for p, t in texts.items()
            ]
            data.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
        else:
            write_table(data, texts)
        out = tmp_path / f"results{len(more)}"
        code, printed, err = call("evaluate", "--manifest", data, "--out", out)
        assert (code, err) == (0, "")
        results = json.loads((out / "results.json").read_text())
        assert re.search(rf"^WER +{results['WER']}$", printed, re.MULTILINE)
        assert results["utterances"] == len(said) == 6
        assert results["bad_files"] == {}
        assert results["real_time_factor"] > 0
        alignments = (out / "wer.txt").read_text()
        assert alignments.startswith(f"%WER {results['WER']:.2f} ")
        scores.append((alignments, results["seconds"]))
    words = sum(len(text.split()) for text in said.values())
    assert words > 6
    for (text, _), wrong in zip(scores, (0, 12)):
        assert f"[ {wrong} / {words + wrong}, 0 ins, {wrong} del" in text
    assert scores[0][1] == pytest.approx(
        sum(soundfile.info(path).duration for path in said), abs=0.01
    )


def write_table(data, texts):
    """Common Voice's TSV or SpeechBrain's CSV, with lower case."""
    clips = data.parent / "clips"
    clips.mkdir(exist_ok=True)
    for path in texts:
        shutil.copy(path, clips)
    with open(data, "w", newline="") as file:
        if data.suffix == ".tsv":
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["client_id", "path", "sentence"])
            for path, text in texts.items():
                writer.writerow(["x", path.name, text.lower()])
            return
        writer = csv.writer(file)
        writer.writerow(["ID", "duration", "wav", "wrd"])
        for path, text in texts.items():
            wav = f"$data_root/clips/{path.name}"
            writer.writerow([path.stem, 1.0, wav, text.lower()])


def test_evaluate_names_bad_files(kinds, call, tmp_path):
    data = tmp_path / "data.jsonl"
    lines = [
        {"audio_filepath": str(kinds / name), "text": "one two"}
        for name in ("silent.ogg", "nan.wav")
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, printed, err = call(
        "evaluate", "--manifest", data, "--out", tmp_path / "out"
    )
    assert code == 1
    assert "nan.wav: has samples that are not finite" in err
    assert err.endswith("1 of 2 scored, 1 failed\n")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results["bad_files"]) == [str(kinds / "nan.wav")]
    assert (results["WER"], results["CER"]) == (100.0, 100.0)
    # What was measured is not written over.
    code, _, err = call(
        "evaluate", "--manifest", data, "--out", tmp_path / "out"
    )
    assert code == 1 and "results.json: exists" in err


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("x.jsonl", '{"audio_filepath": "x.wav"}\n', "'text' is missing"),
        ("x.jsonl", "no JSON\n", "x.jsonl:1: malformed: not a JSON object"),
        ("x.tsv", "client_id\tpath\nx\ty.mp3\n", "'sentence' is missing"),
        ("x.csv", "ID,duration,wav\nx,1,y.wav\n", "'wrd' is missing"),
        ("x.csv", "ID,duration,wav,wrd\n", "no recordings"),
        ("x.csv", "ID,duration,wav,wrd\nx,1,y.wav,\n", "no words"),
        ("x.xlsx", "", "neither"),
    ],
)
def test_data_that_cannot_be_evaluated(name, text, problem, call, tmp_path):
    (tmp_path / name).write_text(text)
    (tmp_path / "y.wav").touch()
    code, _, err = call("evaluate", "--manifest", tmp_path / name)
    assert code == 1
    assert err.startswith(f"speechbrain-lact: {tmp_path / name}: ")
    assert problem in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "args, data, code, problem",
    [
        (["stream"], b"", 1, "standard input: nothing has come in"),
        (["stream"], b"no audio at all\n" * 100, 1, "no audio but text"),
        (["transcribe", "-"], None, 1, "no audio but compressed or random"),
        (["stream"], b"fLaC" + bytes(2000), 1, "another format"),
        (["stream"], b"RIFF\0\0\0\0WAVEfmt ", 1, "within the header"),
        (["transcribe", "nothing.wav"], b"", 1, "nothing.wav: no such file"),
        (["transcribe", "."], b"", 1, ".: no recordings"),
        (["transcribe"], b"", 2, "Missing argument"),
        (["transcribe", ".", "--out", "x.mp3"], b"", 2, "x.mp3"),
        (["transcribe", ".", "--resume"], b"", 2, "--out"),
        (["sing"], b"", 2, "sing"),
    ],
)
def test_what_cannot_be_done(args, data, code, problem, tmp_path):
    if data is None:
        data = np.random.default_rng(0).bytes(3000)
    found, printed, err = ended(started(*args, cwd=tmp_path), data)
    assert (found, printed) == (code, "")
    assert err.startswith("speechbrain-lact: ") and problem in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_folder_that_holds_other_things(speech, call, tmp_path, monkeypatch):
    """Recordings by other names are done, links followed, what is left out is
    named in one line."""
    folder, real = tmp_path / "in", tmp_path / "real"
    folder.mkdir()
    real.mkdir()
    for name in ("a.wav", "b.m4a", "c.wave", "d.unknown", "e"):
        soundfile.write(real / name, speech[:RATE], RATE, format="WAV")
    (real / "cover.png").write_bytes(b"\x89PNG" + bytes(100))
    (real / "notes.txt").write_text("no recording\n")
    (real / "loop").symlink_to(folder)
    (folder / "link").symlink_to(real)
    code, printed, err = call("transcribe", folder)
    assert code == 0
    lines = [line.split("\t") for line in printed.splitlines()]
    names = [f"{folder}/link/{name}" for name in ("a.wav", "b.m4a", "c.wave")]
    names += [f"{folder}/link/d.unknown", f"{folder}/link/e"]
    assert sorted(line[0] for line in lines) == names
    assert len({line[1] for line in lines}) == 1
    assert "left out" in err and "link/cover.png" in err
    assert len(err.splitlines()) == 1 and "notes" not in err


def test_pipes_with_names(speech, call, tmp_path):
    soundfile.write(tmp_path / "a.wav", speech[: 2 * RATE], RATE)
    data = (tmp_path / "a.wav").read_bytes()
    expected = call("transcribe", tmp_path / "a.wav")[1]
    os.mkfifo(tmp_path / "pipe")
    source, sink = os.pipe()
    for path, target in (
        (tmp_path / "pipe", tmp_path / "pipe"),
        (f"/dev/fd/{source}", sink),
    ):

        def write(target=target):
            with open(target, "wb") as file:
                file.write(data)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert call("transcribe", path) == (0, expected, "")
        writer.join()
    os.close(source)


def test_evaluate_parts_of_a_recording(speech, call, tmp_path):
    """As their own files; a line that cannot be used is named and counted."""
    cuts = [0, 30000, 60000, len(speech)]
    soundfile.write(tmp_path / "all.flac", speech, RATE)
    lines, parts = [], []
    for number, (start, stop) in enumerate(zip(cuts, cuts[1:])):
        soundfile.write(tmp_path / f"{number}.flac", speech[start:stop], RATE)
        row = {"audio_filepath": f"{number}.flac", "text": "one two"}
        lines.append(row)
        span = {"offset": start / RATE, "duration": (stop - start) / RATE}
        parts.append({**row, "audio_filepath": "all.flac", **span})
    results = []
    for rows_of in (lines, parts, [*parts, {"audio_filepath": "all.flac"}]):
        data = tmp_path / "data.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows_of))
        out = tmp_path / f"out{len(results)}"
        code, _, err = call("evaluate", "--manifest", data, "--out", out)
        results.append(json.loads((out / "results.json").read_text()))
        assert code == (len(results) == 3)
    assert "data.jsonl:4: " in err and err.endswith("3 of 4 scored, 1 failed\n")
    assert list(results[2]["bad_files"]) == [f"{data}:4"]
    for key in ("WER", "CER", "utterances", "seconds"):
        assert results[0][key] == results[1][key] == results[2][key]
    # Longer than what is done in batches.
    long = np.tile(speech, 70 * RATE // len(speech) + 1)[: 70 * RATE]
    soundfile.write(tmp_path / "part.flac", long, RATE)
    soundfile.write(tmp_path / "all.flac", np.pad(long, 5000), RATE)
    found = []
    for row in (
        {"audio_filepath": "part.flac"},
        {"audio_filepath": "all.flac", "offset": 0.3125, "duration": 70},
    ):
        data.write_text(json.dumps({**row, "text": "one"}))
        found.append(call("evaluate", "--manifest", data)[1].splitlines()[:4])
    assert found[0] == found[1]


@pytest.fixture
def copy(tmp_path):
    """The model in another folder, to be damaged."""
    shutil.copytree(MODEL, tmp_path / "model")
    return tmp_path / "model"


def test_models_that_cannot_be_loaded(copy, kinds, call):
    def refused(*options):
        code, printed, err = call(
            "transcribe", kinds / "mono.wav", "--model", copy, *options
        )
        assert (code, printed, len(err.splitlines())) == (1, "", 1)
        assert len(err) < 600
        return err

    def changed(name, change):
        shutil.copy(MODEL / name, copy)
        (copy / name).write_bytes(change((MODEL / name).read_bytes()))

    assert "--device abacus" in refused("--device=abacus")
    changed("hyperparams.yaml", lambda b: b.replace(b"d_ffn: ", b"d_ffn: 1"))
    assert "model.safetensors: weights of another model" in refused()
    shutil.copy(MODEL / "hyperparams.yaml", copy)
    for name in ("model.safetensors", "tokenizer.model", "normalizer.ckpt"):
        changed(name, lambda data: data[: len(data) // 2])
        assert f"{copy}: the model cannot be loaded" in refused()
        shutil.copy(MODEL / name, copy)
    (copy / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused()
    changed("model.safetensors", lambda data: data)
    (copy / "hyperparams.yaml").write_text("modules: {}\n")
    assert "not a model that" in refused()
    (copy / "hyperparams.yaml").unlink()
    assert "hyperparams.yaml is missing" in refused()


@pytest.mark.slow
def test_a_stream_goes_on_from_its_state(kinds, transcripts, tmp_path):
    """Two processes say what one does; a state that is damaged is refused."""
    path, printed = tmp_path / "session", []
    data = pcm(soundfile.read(kinds / "whole.flac")[0])
    half = len(data) // 4 * 2
    for part in (data[:half], data[half:]):
        code, words, err = ended(started("stream", "--state", path), part)
        assert (code, err) == (0, "")
        printed += words.split()
    whole = transcripts[3]["whole.flac"]["text"].split()
    assert printed in (whole, whole[:-1])
    good = path.read_bytes()
    edited = bytearray(good)
    edited[-20] ^= 1
    for bad in (good[: len(good) // 2], bytes(edited)):
        path.write_bytes(bad)
        code, words, err = ended(started("stream", "--state", path), data)
        assert (code, words, len(err.splitlines())) == (1, "", 1)
        assert f"speechbrain-lact: {path}: " in err
        assert path.read_bytes() == bad


def test_a_lag_is_told(speech, call, tmp_path, monkeypatch):
    (tmp_path / "x.raw").write_bytes(pcm(speech[: 2 * RATE]))
    with open(tmp_path / "x.raw", "rb") as source:
        monkeypatch.setattr(sys, "stdin", source)
        code, printed, err = call("stream", "--max-lag=0", "--piece=0.001")
    assert code == 0 and printed.endswith("\n")
    assert "behind real time" in err


def wav_bytes(samples, rate=RATE, **options):
    """A WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", **options)
    return file.getvalue()


def with_size(data, size):
    """The same WAV with another length of its audio in the header."""
    place = data.index(b"data") + 4
    return data[:place] + struct.pack("<I", size) + data[place + 4 :]


def heard(data, seconds=0.05, rate=None):
    """What comes out of a pipe that these bytes are put into."""
    source, sink = os.pipe()

    def write():
        with os.fdopen(sink, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(source, "rb") as file:
        try:
            return torch.cat(
                list(Incoming(file.fileno(), rate).pieces(seconds, RATE))
            )
        finally:
            file.read()
            writer.join()


@pytest.mark.parametrize("size", [None, 0, 0x7FFFF000, 0xFFFFFFFF])
@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW"]
)
def test_wav_from_a_pipe_is_as_from_a_file(subtype, size, tmp_path):
    # What the channels have in common is what a live stream can be mixed of.
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, (30000, 1))
    noise = noise * [1, 0.97, 0.94]
    for rate in (8000, 16000, 44100):
        data = wav_bytes(noise, rate, subtype=subtype)
        (tmp_path / "x.wav").write_bytes(data)
        expected = AudioFile(tmp_path / "x.wav", RATE).read()
        if size is not None:
            data = with_size(data, size)
        else:
            # What follows the audio is none.
            data += b"LIST\x04\0\0\0abcd"
        for seconds in (0.0001, 0.05, 10.0):
            found = heard(data, seconds)
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["W64", "RF64", "RIFX"])
def test_kin_of_wav_from_a_pipe(kind, tmp_path):
    """Read as from a file, also behind a chunk of 3 MB that is none."""
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, 30000)
    options = {"format": kind, "subtype": "PCM_16"}
    if kind == "RIFX":
        options.update(format="WAV", endian="BIG")
    soundfile.write(tmp_path / "x", noise, RATE, **options)
    expected = AudioFile(tmp_path / "x", RATE).read()
    data = (tmp_path / "x").read_bytes()
    torch.testing.assert_close(heard(data), expected, atol=0, rtol=0)
    size, place = 3 << 20, data.index(b"data")
    chunk = b"LIST" + struct.pack(">I" if kind == "RIFX" else "<I", size)
    if kind == "W64":
        chunk = b"LIST" + bytes(12) + struct.pack("<Q", size + 24)
    data = data[:place] + chunk + bytes(size) + data[place:]
    torch.testing.assert_close(heard(data), expected, atol=0, rtol=0)


def test_what_is_before_the_audio_is_not_kept():
    """A header of 64 MB is passed over as it comes."""
    data = wav_bytes(np.full(4000, 0.25))
    size, place = 64 << 20, data.index(b"data")
    source, sink = os.pipe()

    def write():
        with os.fdopen(sink, "wb") as file:
            file.write(data[:place] + b"LIST" + struct.pack("<I", size))
            for _ in range(64):
                file.write(bytes(1 << 20))
            file.write(data[place:])

    writer = threading.Thread(target=write)
    writer.start()
    tracemalloc.start()
    with os.fdopen(source, "rb") as file:
        incoming = Incoming(file.fileno())
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        samples = torch.cat(list(incoming.pieces(0.05, RATE)))
    writer.join()
    assert most < 8 << 20
    assert samples.unique().tolist() == [0.25] and len(samples) == 4000


@pytest.mark.parametrize(
    "rate, channels, bits",
    [(1, 1, 16), (2**32 - 1, 1, 16), (RATE, 65535, 16), (RATE, 1, 0)],
)
def test_headers_that_cannot_be(rate, channels, bits):
    data = bytearray(wav_bytes(np.zeros(4000)))
    data[22:28] = struct.pack("<HI", channels, rate)
    data[34:36] = struct.pack("<H", bits)
    with pytest.raises(ValueError, match="^standard input: ") as caught:
        heard(bytes(data))
    assert str(bits if not bits else channels) in str(caught.value)
    for kind in (b"FORM", b"caff", b".snd", b"\x1aE\xdf\xa3"):
        with pytest.raises(ValueError, match="another format"):
            heard(kind + os.urandom(2000))


def test_what_a_live_stream_cannot_mend(caplog):
    tone = 0.3 * np.sin(np.arange(8000) / 9)
    for samples, why in (
        (np.stack([tone, -tone], 1), "channels cancel"),
        (tone * 1e-5, "near silence"),
        (tone + 0.5, "usual level"),
        (tone, None),
    ):
        caplog.clear()
        warn.cache_clear()
        heard(wav_bytes(samples, subtype="FLOAT"))
        found = [record.getMessage() for record in caplog.records]
        assert len(found) == (why is not None)
        assert why is None or why in found[0]


def test_raw_audio_from_a_pipe():
    tone = 0.5 * np.sin(np.arange(4000) / 20)
    data = pcm(tone)
    expected = torch.from_numpy(np.frombuffer(data, "<i2") / np.float32(2**15))
    for seconds in (0.0001, 0.05, 10.0):
        torch.testing.assert_close(
            heard(data, seconds), expected, atol=0, rtol=0
        )
    torch.testing.assert_close(heard(data + b"x"), expected, atol=0, rtol=0)
    assert len(heard(data, rate=8000)) == 8000
    assert heard(bytes(2000)).abs().max() == 0
    with pytest.raises(ValueError, match="100 samples at 16000 Hz"):
        heard(data[:200])
    bad = wav_bytes(np.full(4000, np.inf), subtype="FLOAT")
    with pytest.raises(ValueError, match="standard input: .* not finite"):
        heard(bad)
