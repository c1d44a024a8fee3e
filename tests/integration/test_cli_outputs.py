"""What the command line writes, and what ends it: outputs that are gone on
with, streams that are closed, signals.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import ctypes
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.cli import main, transcribe
from speechbrain_lact.cli.model import load_model
from speechbrain_lact.cli.options import MODEL
from speechbrain_lact.dataio.decode import SoundFile
from speechbrain_lact.inference.subtitles import subtitles
from speechbrain_lact.inference.transcripts import (
    Output,
    Recording,
    clock,
    printable,
)
from speechbrain_lact.inference.words import Word
from speechbrain_lact.utils.console import signals

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "speechbrain_lact.cli"]
RATE = 16000
NAMES = ["a.wav", "b é.wav", "c 😀.wav"]


def started(*args, shell="", env=(), **kwargs):
    """The command as a process with pipes; `shell` is what it is called with
    in a shell beyond its arguments."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    path = os.pathsep.join(filter(None, [dict(env).get("first"), str(ROOT)]))
    return subprocess.Popen(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *COMMAND, *map(str, args)],
        env={**os.environ, **dict(env), "PYTHONPATH": path},
        # Tests may be run with nohup.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        **{**pipes, **kwargs},
    )


@pytest.fixture(scope="module")
def speech(corpus):
    """Six seconds and more of a voice."""
    files = sorted(corpus.glob("test-clean/*/*/*.flac"))[:3]
    return np.concatenate([soundfile.read(file)[0] for file in files])


@pytest.fixture
def folder(speech, tmp_path):
    """Three recordings whose names are in no alphabet of old."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i, name in enumerate(NAMES):
        soundfile.write(folder / name, speech[i * RATE :][: RATE // 2], RATE)
    return folder


def state_of(folder):
    """All that a folder holds, by name."""
    return {
        path.relative_to(folder): path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_resumed_from_anywhere(kind, folder, call, tmp_path, monkeypatch):
    """Other folders and other spellings: nothing is done twice."""
    out, other = tmp_path / f"out.{kind}", tmp_path / "other"
    other.mkdir()
    (other / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    assert call("transcribe", ".", "--out", f"../out.{kind}") == (0, "", "")
    full = out.read_bytes()
    *lines, last = full.splitlines(keepends=True)
    monkeypatch.chdir(other)
    spellings = ("../in", folder, "link", tmp_path / "other" / ".." / "in")
    for i, source in enumerate(spellings):
        # Once whole, then without its end, within a line or after one.
        out.write_bytes(b"".join(lines) + (last, last[:-9], b"", last[:50])[i])
        done = call("transcribe", source, "--out", out, "--resume")
        assert done == (0, "", "")
        assert out.read_bytes().startswith(b"".join(lines))
        found = out.read_text().splitlines()
        split = (
            lambda li: json.loads(li)["file"],
            lambda li: li.split("\t")[0],
        )
        names = [split[kind == "txt"](line) for line in found]
        assert len(names) == 3
        # Whoever reads the file finds them all from where it was begun.
        paths = {os.path.realpath(folder / name) for name in names}
        assert paths == {str(folder / name) for name in NAMES}


def test_recordings_that_are_links_are_not_taken_for_each_other(
    folder, call, tmp_path
):
    (folder / "d.wav").symlink_to(folder / "a.wav")
    out = tmp_path / "out.txt"
    assert call("transcribe", folder, "--out", out)[0] == 0
    lines = out.read_text().splitlines(keepends=True)
    out.write_text("".join(li for li in lines if "d.wav" not in li))
    assert call("transcribe", folder, "--out", out, "--resume")[0] == 0
    assert sorted(out.read_text().splitlines(keepends=True)) == sorted(lines)


def test_only_what_was_begun_alike_is_gone_on_with(folder, call, tmp_path):
    out, one = tmp_path / "out.jsonl", tmp_path / "one.srt"
    assert call("transcribe", folder, "--out", out, "--block", 4)[0] == 0
    assert call("transcribe", folder / "a.wav", "--out", one)[0] == 0
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    # Refused before it is loaded: then it would be damaged.
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:1000])
    before = state_of(tmp_path)
    refused = {
        "block 4, not 8": (folder, "--block=8"),
        "block 4, not the default": (folder,),
        "source a folder, not a recording": (folder / "a.wav", "--block=4"),
        "made with model": (folder, "--block=4", f"--model={copy}"),
    }
    for problem, args in refused.items():
        code, _, err = call("transcribe", *args, "--out", out, "--resume")
        assert (code, problem in err, len(err.splitlines())) == (1, True, 1)
    for args in ((folder / NAMES[1],), (folder / "a.wav", "--block=8")):
        code, _, err = call("transcribe", *args, "--out", one, "--resume")
        assert (code, "was made with" in err) == (1, True)
    assert state_of(tmp_path) == before
    for path, args in (
        (out, (folder, "--block=4")),
        (one, (folder / "a.wav",)),
    ):
        done = call("transcribe", *args, "--out", path, "--resume")
        assert done == (0, "", "")
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    "text", ["one line, no end", "a\tb", '{"file": "x"}\n']
)
@pytest.mark.parametrize("name", ["notes.txt", "notes.jsonl", "notes.srt"])
def test_what_others_wrote_stays(name, text, folder, call, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    before = state_of(tmp_path)
    source = folder / "a.wav" if name.endswith("srt") else folder
    for option in ((), ("--resume",)):
        code, _, err = call("transcribe", source, "--out", path, *option)
        assert (code, len(err.splitlines())) == (1, 1)
    assert state_of(tmp_path) == before
    # Neither is what has the name of the file beside it.
    path.rename(f"{path}.run.json")
    before = state_of(tmp_path)
    code, _, err = call("transcribe", source, "--out", path)
    assert (code, "was not written by this command" in err) == (1, True)
    assert state_of(tmp_path) == before


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_last_line_of_others_stays(kind, folder, call, tmp_path):
    out = tmp_path / f"out.{kind}"
    assert call("transcribe", folder, "--out", out)[0] == 0
    for more in ("mine", '{"file": "mine', "mine\tmine", "{"):
        with open(out, "a") as file:
            file.write(more)
        before = state_of(tmp_path)
        code, _, err = call("transcribe", folder, "--out", out, "--resume")
        if (kind, more) == ("jsonl", "{"):
            # This may be ours.
            assert (code, err) == (0, "")
            continue
        assert (code, "line 4 was not" in err) == (1, True)
        assert state_of(tmp_path) == before
        out.write_bytes(before[Path(out.name)][: -len(more)])


def test_two_runs_do_not_write_one_file(folder, call, tmp_path):
    out = tmp_path / "out.jsonl"
    settings = transcribe.settings_of(str(folder), MODEL, None)
    with Output(out, [Recording("x", "x")], True, False, settings) as first:
        for option in ((), ("--resume",)):
            code, _, err = call("transcribe", folder, "--out", out, *option)
            assert (code, "another run is writing it" in err) == (1, True)
        first.write(Recording("x", "x", words=[]))
    # The first one has ended, however it did.
    assert call("transcribe", folder, "--out", out, "--resume")[0] == 0
    assert len(out.read_text().splitlines()) == 4


def test_a_run_that_made_nothing_leaves_nothing(folder, call, tmp_path):
    before = state_of(tmp_path)
    for kind in (".jsonl", ".txt"):
        args = ("--out", tmp_path / f"x{kind}", "--device=abacus")
        assert call("transcribe", folder, *args)[0] == 1
        args = ("--speakers", *args)
        assert call("transcribe", folder / "a.wav", *args)[0] == 1
    assert state_of(tmp_path) == before


def test_one_file_is_not_two_outputs(folder, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wav = folder / "a.wav"
    (tmp_path / "link.txt").symlink_to("x.txt")
    for args in (
        ("--out=x.txt", "--rttm=./x.txt"),
        ("--out=x.txt", f"--rttm={tmp_path}/in/../x.txt"),
        ("--out=x.txt", "--rttm=link.txt"),
        ("--out=x.txt", "--bank=x.txt"),
        ("--bank=x", "--rttm=x"),
        (f"--out={wav}",),
        (f"--rttm={wav}",),
        (f"--bank={wav}",),
    ):
        before = state_of(tmp_path)
        code, _, err = call("transcribe", wav, "--speakers", *args)
        assert (code, "name two files" in err) == (1, True), args
        assert state_of(tmp_path) == before
    (tmp_path / "m.jsonl").write_text(
        json.dumps({"audio_filepath": str(wav), "text": "one"})
    )
    code, _, err = call("evaluate", "--manifest=m.jsonl", "--out=./m.jsonl")
    assert (code, "name two files" in err) == (1, True)


def test_paths_are_tried_before_the_work(folder, call, tmp_path):
    """With a model that is not there: nobody has come that far."""
    wav = folder / "a.wav"
    manifest = tmp_path / "m.jsonl"
    row = {"audio_filepath": str(wav), "text": "one"}
    manifest.write_text(json.dumps(row))
    (tmp_path / "folder.txt").mkdir()
    for path, problem in (
        (tmp_path / "folder.txt", "is a folder"),
        (tmp_path / "none" / "x.txt", "none: no such folder"),
        (wav / "x.txt", "no such folder"),
        (tmp_path / ("x" * 250 + ".txt"), "too long"),
        (Path("/proc/x.txt"), "/proc: nothing can be written there"),
    ):
        for args in (
            ("transcribe", wav, "--out", path),
            ("transcribe", wav, "--speakers", "--out", path),
            ("transcribe", wav, "--speakers", "--rttm", path),
            ("stream", "--state", path),
        ):
            code, printed, err = call(*args, "--model", tmp_path / "no")
            assert (code, printed) == (1, ""), args
            assert problem in err and len(err.splitlines()) == 1
    for path in (wav, wav / "x", Path("/proc/x")):
        for args in (
            ("transcribe", wav, "--speakers", "--bank", path),
            ("evaluate", "--manifest", manifest, "--out", path),
            ("voices", path),
        ):
            code, _, err = call(*args, "--model", tmp_path / "no")
            assert (code, "no model" in err, len(err.splitlines())) == (
                1,
                False,
                1,
            ), args


def test_results_are_whole_and_never_written_over(
    folder, call, tmp_path, monkeypatch
):
    manifest, out = tmp_path / "m.jsonl", tmp_path / "out"
    row = {"audio_filepath": str(folder / NAMES[2]), "text": "zoë 😀"}
    manifest.write_text(json.dumps(row))
    out.mkdir()
    (out / "wer.txt").write_text("mine")
    code, _, err = call("evaluate", "--manifest", manifest, "--out", out)
    assert (code, "wer.txt: exists" in err) == (1, True)
    assert state_of(out) == {Path("wer.txt"): b"mine"}
    (out / "wer.txt").unlink()
    # What was measured is kept, though nobody can read it now.
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        code, _, err = call("evaluate", "--manifest", manifest, "--out", out)
        monkeypatch.undo()
    assert (code, "standard output: No space" in err) == (1, True)
    assert sorted(p.name for p in out.iterdir()) == ["results.json", "wer.txt"]
    assert "ZOË" in (out / "wer.txt").read_text()


@contextlib.contextmanager
def room_for(size):
    """No file may become larger: the system takes a part of a line."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_whole_lines(folder, call, tmp_path):
    out = tmp_path / "out.jsonl"
    assert call("transcribe", folder, "--out", out)[0] == 0
    before = state_of(tmp_path)
    lines = out.read_bytes().splitlines(keepends=True)
    out.unlink()
    # Room for a part of the last line.
    with room_for(len(b"".join(lines[:2])) + 20):
        code, _, err = call("transcribe", folder, "--out", out)
    assert (code, f"{out}: File too large" in err) == (1, True)
    assert out.read_bytes() == b"".join(lines[:2])
    assert call("transcribe", folder, "--out", out, "--resume")[0] == 0
    assert state_of(tmp_path) == before


def test_a_full_disk_leaves_no_half_of_a_whole_file(tmp_path):
    path = tmp_path / "x.srt"
    recording = Recording("x", "x", words=[Word("A", 0.0, 0.1)], seconds=1.0)
    for size in (3, 120):
        with pytest.raises(OSError, match="File too large"):
            with room_for(size), Output(path, [recording], False, False) as out:
                recording.words = [Word("A" * 200, 0.0, 0.1)]
                out.write(recording)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_name_stops_the_job(encoding, folder, call, monkeypatch):
    soundfile.write(os.fsencode(folder) + b"/\xff.wav", np.zeros(RATE), RATE)
    printed = io.BytesIO()
    stdout = io.TextIOWrapper(printed, encoding)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert call("transcribe", folder)[0] == 0
    assert stdout.errors == "strict"
    lines = printed.getvalue().split(b"\n")[:-1]
    found = {line.split(b"\t")[0].rsplit(b"/", 1)[1] for line in lines}
    wanted = {n.encode(encoding, "backslashreplace") for n in NAMES}
    assert found == wanted | {b"\xff.wav"}


def test_names_do_not_end_lines_or_change_the_terminal():
    assert printable("a\tb\nc\x1b[2Jd\x85\u2028é\udcff") == (
        "a\\tb\\nc\\x1b[2Jd\\x85\\u2028é\udcff"
    )


def test_without_standard_streams(folder, tmp_path, call, monkeypatch):
    out = tmp_path / "x.jsonl"
    process = started(
        "transcribe", folder / "a.wav", "--out", out, shell="<&- >&- 2>&-"
    )
    assert process.communicate() == (b"", b"")
    assert process.returncode == 0
    text = json.loads(out.read_text())["text"]
    # In this process only what Python sees of it.
    monkeypatch.setattr(sys, "stderr", None)
    assert call("transcribe", folder / "a.wav")[:2] == (0, f"{text}\n")
    assert sys.stderr is None
    monkeypatch.setattr(sys, "stdin", None)
    assert call("stream")[0] == 1
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", None)
    code, _, err = call("transcribe", folder / "a.wav")
    assert (code, "standard output is closed" in err) == (1, True)


def test_output_that_nobody_takes(folder, call, monkeypatch):
    problem = "speechbrain-lact: standard output: No space left"
    for args in (("transcribe", folder), ("transcribe", "--help")):
        source, sink = os.pipe()
        os.close(source)
        for path, code in ((sink, 141), ("/dev/full", 1)):
            with open(path, "w") as stdout:
                monkeypatch.setattr(sys, "stdout", stdout)
                found, _, err = call(*args)
                monkeypatch.undo()
            assert found == code, args
            assert len(err.splitlines()) == (code == 1)
            if code == 1 and args[-1] != "--help":
                assert err.startswith(problem)


def pcm(samples):
    """Bytes of raw audio."""
    return np.round(np.asarray(samples) * 2**15).astype("<i2").tobytes()


def test_a_signal_keeps_the_session(speech, tmp_path):
    """What was printed and what goes on are the words of the whole."""
    data, path = pcm(speech), tmp_path / "session"
    half = len(data) // 4 * 2
    process = started("stream", "--state", path, "--piece=0.01")
    process.stdin.write(data[:half])
    process.stdin.flush()
    first = process.stdout.read1(1)
    process.terminate()
    rest, err = process.communicate()
    assert (process.returncode, err) == (143, b"")
    words = (first + rest).decode().split()
    asr = load_model(MODEL)
    state = asr.load_state(path)
    heard = asr._ends(state, torch.zeros(1, 0), torch.ones(1))[0]
    # Of what it has heard, the words are as those of the whole.
    samples = torch.from_numpy(np.frombuffer(data, "<i2") / np.float32(2**15))
    session = asr.stream()
    alone = session.feed(samples[: round(heard * RATE)]).words
    assert 0 < heard <= half / 2 / RATE
    assert words == [word.text for word in alone]
    assert [p.name for p in tmp_path.iterdir()] == ["session"]


def test_a_signal_removes_what_is_kept_for_a_while(speech, tmp_path):
    """A pipe holds 64 KiB: when more is gone, it stands in a file."""
    out = tmp_path / "out.txt"
    (tmp_path / "tmp").mkdir()
    env = {"TMPDIR": str(tmp_path / "tmp")}
    process = started("transcribe", "-", "--out", out, env=env)
    process.stdin.write(pcm(np.resize(speech, 200_000)))
    process.stdin.flush()
    assert len(list((tmp_path / "tmp").glob("*/*"))) == 1
    process.send_signal(signal.SIGHUP)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 128 + signal.SIGHUP
    assert {p.name for p in tmp_path.rglob("*")} == {"tmp"}


def test_handlers_of_others_stay():
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(kind) for kind in kinds]
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            done = []
            with pytest.raises(KeyboardInterrupt):
                with signals.hold():
                    os.kill(os.getpid(), signal.SIGTERM)
                    done.append(True)
            # A second one does not disturb the clearing up.
            os.kill(os.getpid(), signal.SIGTERM)
            assert done and signals.exit_code(0) == 143
    finally:
        signal.signal(signal.SIGHUP, ignored)
    assert [signal.getsignal(kind) for kind in kinds] == before


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_not_lost_in_a_callback(kind, capfd, request):
    """What C calls cannot raise."""
    # A shell lets what it starts in the background ignore SIGINT.
    before = signal.signal(kind, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(kind, before))

    @ctypes.CFUNCTYPE(None)
    def callback():
        if signals.received is None:
            os.kill(os.getpid(), kind)

    with signals:
        with pytest.raises(KeyboardInterrupt):
            for _ in range(10_000_000):
                callback()
        assert signals.exit_code(0) == 128 + kind
    assert capfd.readouterr().err == ""


def test_a_signal_comes_after_what_is_whole(capfd):
    """A file-like object of libsndfile's is called by C."""

    class Slow(io.BytesIO):
        def seek(self, *args):
            if signals.received is None:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().seek(*args)

    raw = {"samplerate": RATE, "channels": 1, "subtype": "PCM_16"}
    whole = []
    with signals, pytest.raises(KeyboardInterrupt):
        with signals.hold():
            with signals.hold():
                read = soundfile.read(Slow(bytes(64)), format="RAW", **raw)
            whole.append(read)
    assert len(whole[0][0]) == 32
    assert capfd.readouterr().err == ""


def test_a_signal_while_a_file_is_closed(tmp_path, monkeypatch):
    """libsndfile frees it once: twice ends the process."""
    soundfile.write(tmp_path / "a.wav", np.zeros(160), RATE)
    file = SoundFile(tmp_path / "a.wav")
    closed, true = [], soundfile._snd

    class Sndfile:
        def sf_close(self, pointer):
            closed.append(pointer)
            os.kill(os.getpid(), signal.SIGTERM)
            return true.sf_close(pointer)

        def __getattr__(self, name):
            return getattr(true, name)

    monkeypatch.setattr(soundfile, "_snd", Sndfile())
    with signals, pytest.raises(KeyboardInterrupt):
        file.close()
    file.close()
    assert len(closed) == 1


def test_what_cannot_be_foreseen_is_shown(folder, call, monkeypatch, capfd):
    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr(transcribe, "recognise", broken)
    with pytest.raises(SystemExit, match="1"):
        main(["transcribe", str(folder)])
    first, second, *rest = capfd.readouterr().err.splitlines()
    assert first == "speechbrain-lact: please report this: KeyError: 'x'"
    assert second.startswith("Traceback") and "in broken" in "".join(rest)


def test_what_torch_says_last_is_shown(tmp_path):
    """It may end the process by itself."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os\nos.write(2, b'cannot load\\n')\nos._exit(3)\n"
    )
    wav = tmp_path / "x.wav"
    soundfile.write(wav, np.zeros(RATE), RATE)
    process = started("transcribe", wav, env={"first": str(tmp_path)})
    assert process.communicate()[1] == b"cannot load\n"
    assert process.returncode == 3


def test_a_folder_that_is_gone(folder, tmp_path):
    (tmp_path / "gone").mkdir()
    process = subprocess.Popen(
        ["sh", "-c", 'rmdir ../gone; exec "$@"', "sh", *COMMAND]
        + ["transcribe", str(folder)],
        cwd=tmp_path / "gone",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    err = process.communicate()[1].decode()
    assert process.returncode == 1
    assert err == (
        "speechbrain-lact: the current folder has been deleted: go to another "
        "one\n"
    )


@pytest.mark.parametrize(
    "option",
    ["--piece=inf", "--piece=nan", "--piece=0", "--piece=-1", "--max-lag=nan"]
    + ["--max-lag=-1", "--max-lag=inf", "--rate=0", "--piece=x"],
)
def test_numbers_that_mean_nothing(option, call):
    code, printed, err = call("stream", option)
    assert (code, printed, len(err.splitlines())) == (2, "", 1)
    assert option.split("=")[0] in err


def test_states_that_a_stream_cannot_go_on_from(call, tmp_path, monkeypatch):
    """Refused before anybody speaks: nothing is read."""
    asr, path = load_model(MODEL), tmp_path / "state"
    asr.save_state(asr.initial_state(2), path)
    source, sink = os.pipe()
    os.write(sink, bytes(9000))
    monkeypatch.setattr(sys, "stdin", os.fdopen(source))
    code, _, err = call("stream", "--state", path)
    assert (code, "of 2 rows, but 1" in err, len(err.splitlines())) == (
        1,
        True,
        1,
    )
    code, _, err = call("stream", "--state", path, "--block=4")
    assert (code, "block is 2, not 4" in err) == (1, True)
    assert len(os.read(source, 10000)) == 9000
    os.close(sink)


def test_standard_input_is_called_so(call, speech, tmp_path, monkeypatch):
    """Not by the file that it is kept in."""
    data = {"short": pcm(speech[:RATE])[:6000], "long": pcm(speech)}
    for name, audio in data.items():
        (tmp_path / name).write_bytes(audio)
    out, rttm = tmp_path / "x.jsonl", tmp_path / "x.rttm"
    options = ("--speakers", "--out", out, "--rttm", rttm)
    with open(tmp_path / "short") as source:
        monkeypatch.setattr(sys, "stdin", source)
        code, _, err = call("transcribe", "-", *options)
    assert code == 1 and err.startswith("speechbrain-lact: standard input: ")
    with open(tmp_path / "long") as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert call("transcribe", "-", *options) == (0, "", "")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["file"] for row in rows} == {"standard input"}
    assert {li.split()[1] for li in rttm.read_text().splitlines()} == {
        "standard%20input"
    }
    for row in rows:
        times = [t for w in row["words"] for t in (w["start"], w["end"])]
        times = [row["start"], *times, row["end"]]
        assert times == sorted(times)
        assert times == [round(t, 3) for t in times]


def test_times_are_rounded_once():
    found = [clock(t) for t in (0, 59.94, 59.96, 3599.94, 3599.96, 36000)]
    assert found == [
        "0:00:00.0",
        "0:00:59.9",
        "0:01:00.0",
        "0:59:59.9",
        "1:00:00.0",
        "10:00:00.0",
    ]


def test_subtitles_end_with_the_recording():
    words = [Word("A", 0.2, 0.3), Word("B", 3.4, 3.461)]
    text = subtitles(words, ".srt", 3.4619)
    assert "00:00:00,200 --> 00:00:01,200" in text
    assert "00:00:03,400 --> 00:00:03,46" in text
    assert "03,463" not in text
