"""Inputs on which the package once failed, one test for each folder of
`../shared/cases`: what each folder's README expects.

All of them: `pytest -n 0 -v tests/integration/test_cases.py`.

Authors
* speechbrain_lact contributors 2026
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.inference import diarization
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.processing.diarization.vad import EnergyVAD

ROOT = Path(__file__).parents[2]
CASES = ROOT.parent / "shared" / "cases"
DIGITS = CASES.parent / "data" / "digits"
COMMAND = [sys.executable, "-m", "speechbrain_lact.cli"]
TRAIN = [
    "recipes/LibriSpeech/train.py",
    "hparams/lact_ctc.yaml",
    "--device=cpu",
    "--noprogressbar",
    f"--data_folder={DIGITS}",
    "--train_splits=[dev-clean]",
    "--dev_splits=[dev-clean]",
    "--test_splits=[test-clean]",
    "--warmup_steps=2",
    "--test_memory=[reset]",
]

pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"the cases are not at {CASES}"
)


def case(number):
    """Folder of a case."""
    return next(CASES.glob(f"{number:02}-*"))


def sh(script, *args, **options):
    """A shell script with the command as `asr`."""
    command = " ".join(COMMAND)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        **options.pop("env", {}),
    }
    return subprocess.run(
        ["bash", "-c", f'asr() {{ {command} "$@"; }}\n{script}', "sh", *args],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment,
        timeout=300,
        **options,
    )


@pytest.fixture(scope="module")
def asr():
    """The model in the box."""
    return LaCTASR.from_hparams(MODEL_IN_THE_BOX, savedir=None)


def one_line(err):
    """Standard error, which is one sentence of this command."""
    assert re.fullmatch(r"speechbrain-lact: .+\n", err), err
    return err


def train(*flags):
    """The recipe as a process."""
    return subprocess.run(
        [sys.executable, *TRAIN, *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )


@pytest.mark.slow
def test_00_two_processes_end(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nproc_per_node=2", f"--master_port={port}"),
        *TRAIN,
        "--distributed_backend=gloo",
        "--number_of_steps=12",
        "--batch_size=2",
        f"--output_folder={tmp_path}",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "results.json").is_file()


@pytest.mark.parametrize(
    "name, seconds",
    [
        ("mp3_noxing.mp3", 8.1),
        ("vbr_speech_then_silence_noxing.mp3", 28.1),
    ],
)
def test_01_mp3_is_heard_to_its_end(name, seconds):
    audio = AudioFile(case(1) / name, 16000)
    assert audio.seconds == pytest.approx(seconds, abs=0.1)
    assert len(audio.read()) / 16000 == pytest.approx(audio.seconds, abs=0.01)


def test_02_spans_are_scored(call):
    def score(manifest):
        code, out, err = call("evaluate", "--manifest", case(2) / manifest)
        assert (code, err) == (0, "")
        return dict(line.split() for line in out.splitlines())

    files, spans = score("plain.jsonl"), score("offset.jsonl")
    assert files["WER"] == spans["WER"] == "52.78"
    seconds = float(files["seconds"])
    assert float(spans["seconds"]) == pytest.approx(seconds, abs=0.01)
    one = score("duration_only.jsonl")
    assert float(one["seconds"]) == pytest.approx(3.795, abs=0.001)


@pytest.mark.parametrize(
    "name",
    ["bom.jsonl", "bom.tsv", "sb_bom.csv", "ls_flac_bom", "ls_upper"]
    + ["ls_wav", "link"],
)
def test_03_one_reader(name, call, tmp_path):
    path = case(3) / name
    if name == "link":
        path = tmp_path / name
        path.symlink_to(case(3) / "ls_wav", target_is_directory=True)
    code, out, err = call("evaluate", "--manifest", path)
    assert (code, err) == (0, "")
    assert re.search(r"^utterances +4$", out, re.MULTILINE)


def test_03_a_null_text_costs_its_line(call):
    path = case(3) / "null_text.jsonl"
    code, out, err = call("evaluate", "--manifest", path)
    assert code == 1 and "null_text.jsonl:3" in err
    assert re.search(r"^utterances +2$", out, re.MULTILINE)


def test_04_a_waveform_without_batch(asr):
    with pytest.raises(ValueError, match=r"\[B, S\]"):
        asr.transcribe_words(torch.zeros(128000), torch.ones(1))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_05_any_output_encoding(encoding):
    done = sh(
        f'asr transcribe "{case(5)}/folder"', env={"PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_06_closed_streams(tmp_path):
    wav = case(5) / "folder" / "a.wav"
    whole = sh(f'asr transcribe "{wav}"')
    closed = sh(f'asr transcribe "{wav}" 2>&-')
    assert (closed.returncode, closed.stdout) == (0, whole.stdout)
    out = tmp_path / "o.txt"
    closed = sh(f'asr transcribe "{wav}" --out "{out}" >&-')
    assert closed.returncode == 0 and out.read_text() == whole.stdout


def test_07_a_state_that_cannot_be_kept():
    process = subprocess.Popen(
        [*COMMAND, "stream", "--state", "/nonexistent/x.state"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # It does not wait for anybody to speak.
    assert process.wait(60) == 1
    assert "/nonexistent" in one_line(process.stderr.read().decode())


def test_08_sigterm_removes_what_is_temporary(tmp_path):
    wav = case(16) / "base.wav"
    process = subprocess.Popen(
        [*COMMAND, "transcribe", "-"],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
    )
    process.stdin.write(wav.read_bytes()[:200000])
    process.stdin.flush()
    while not list(tmp_path.rglob("*.w64")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    process.stdin.close()
    assert list(tmp_path.iterdir()) == []


def test_09_no_sixtieth_second(call, monkeypatch):
    # Other detectors begin a little before the sound.
    monkeypatch.setattr(diarization, "default_vad", EnergyVAD)
    path = case(9) / "at59.98.wav"
    code, out, _ = call("transcribe", path, "--speakers")
    assert code == 0 and ":60" not in out
    assert "0:01:00.0" in out


def test_10_no_word_after_the_audio(call, tmp_path):
    out = tmp_path / "h.srt"
    assert call("transcribe", case(10) / "half.wav", "--out", out)[0] == 0
    ends = re.findall(r"--> 00:00:(\d\d),(\d+)", out.read_text())
    assert all(float(f"{s}.{ms}") <= 0.701 for s, ms in ends)
    clipped = case(10) / "clipped.wav"
    for options in ([], ["--speakers"]):
        out = tmp_path / f"{len(options)}.jsonl"
        assert call("transcribe", clipped, "--out", out, *options)[0] == 0
        for line in out.read_text().splitlines():
            row = json.loads(line)
            for word in row["words"]:
                last = row.get("end", 8.0)
                assert row.get("start", 0) <= word["start"] <= word["end"]
                assert word["end"] <= last <= 8.0
                assert round(word["end"], 3) == word["end"]


def test_11_nothing_is_left_out_in_silence(call, tmp_path):
    code, out, err = call("transcribe", case(11) / "mx")
    names = {Path(line.split("\t")[0]).name for line in out.splitlines()}
    left = {"a.wav", "b.m4a", "c.wave"} - names
    assert code == 0 and all(name in err for name in left)
    (tmp_path / "data").symlink_to(case(11) / "mx", target_is_directory=True)
    assert "a.wav" in call("transcribe", tmp_path)[1]


def test_12_resume_does_not_mix(call, tmp_path, monkeypatch):
    folder, out = tmp_path / "folder", tmp_path / "o.jsonl"
    shutil.copytree(case(5) / "folder", folder)
    monkeypatch.chdir(folder)
    assert call("transcribe", ".", "--out", out)[0] == 0
    before = out.read_bytes()
    monkeypatch.chdir(tmp_path)
    resume = ("transcribe", "folder", "--out", out, "--resume")
    assert call(*resume)[0] == 0 and out.read_bytes() == before
    code, _, err = call(*resume, "--block", 0)
    assert code == 1 and "block" in one_line(err)
    assert out.read_bytes() == before


def test_13_one_file_for_two_outputs(call, tmp_path):
    same = tmp_path / "same.txt"
    code, _, err = call(
        *("transcribe", case(10) / "clipped.wav", "--speakers"),
        *("--out", same, "--rttm", same),
    )
    assert code and "same.txt" in one_line(err) and not same.exists()


def test_14_a_wav_that_is_cut_short(call, asr):
    code, _, err = call("transcribe", case(14) / "trunc.wav")
    assert code == 1 and "trunc.wav" in one_line(err)
    audio = AudioFile(case(14) / "hdr_0.wav", 16000)
    whole, _ = soundfile.read(case(16) / "base.wav")
    assert audio.seconds == pytest.approx(8.0) == len(whole) / 16000
    assert np.allclose(audio.read().numpy(), whole, atol=1e-4)


@pytest.mark.parametrize("name", ["flac_unknown_len.flac", "opus_noeos.opus"])
def test_15_files_of_unknown_length(name):
    audio = AudioFile(case(15) / name, 16000)
    assert audio.seconds == pytest.approx(8.0, abs=0.02)
    assert len(audio.read()) == pytest.approx(128000, abs=400)


def test_16_an_offset_is_taken_away():
    base = AudioFile(case(16) / "base.wav", 16000).read()
    offset = AudioFile(case(16) / "dc_small.wav", 16000).read()
    assert torch.allclose(offset, base - base.mean(), atol=1e-6)


@pytest.mark.parametrize(
    "name", ["antiphase", "silent_right", "quiet40", "loud32768"]
)
def test_16_channels_and_level(name, call):
    def heard(file):
        code, out, err = call("transcribe", case(16) / f"{file}.wav")
        assert code == 0
        return out.split(), err

    (wanted, _), (words, err) = heard("base"), heard(name)
    different = sum(a != b for a, b in zip(wanted, words))
    assert abs(len(words) - len(wanted)) <= 1 and different <= 2, err


def test_17_headers_in_a_pipe():
    big = case(17) / "biglist.wav"
    named, piped = sh(f'asr transcribe "{big}"'), sh(f'asr stream < "{big}"')
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.split() == named.stdout.split()
    w64 = case(17) / "w64.w64"
    named, piped = sh(f'asr transcribe "{w64}"'), sh(f'asr stream < "{w64}"')
    if piped.returncode == 0:
        assert piped.stdout.split() == named.stdout.split()
    else:
        assert "format" in one_line(piped.stderr)


def test_18_special_files(call, tmp_path):
    wav = case(16) / "base.wav"
    whole = sh(f'asr transcribe "{wav}"').stdout
    done = sh(f'asr transcribe <(cat "{wav}")')
    assert done.stdout == whole or "use -" in one_line(done.stderr)
    done = sh(f'cat "{wav}" | asr transcribe /dev/stdin')
    assert done.stdout == whole or "use -" in one_line(done.stderr)
    done = sh(f'asr stream --state "{tmp_path}" < "{wav}"')
    assert done.returncode and "no such file" not in one_line(done.stderr)


def test_19_another_default_type():
    done = subprocess.run(
        [sys.executable, case(19) / "case.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["ch65535", "rate1", "rate4g"])
def test_20_impossible_headers(name, call):
    path = case(20) / f"{name}.wav"
    code, _, err = call("transcribe", path)
    assert code == 1 and name in one_line(err)
    done = sh(f'asr stream < "{path}"')
    assert done.returncode == 1
    assert "report this" not in one_line(done.stderr)


def test_20_small_messages(call, asr, tmp_path):
    done = sh(f'asr stream --piece inf < "{case(16) / "base.wav"}"')
    assert done.returncode and "piece" in one_line(done.stderr)
    session, other = asr.stream(), asr.stream()
    for sessions, count in (([session], 2), ([session, other], 1), ([], 0)):
        if sessions:
            with pytest.raises(ValueError, match="session"):
                asr.feed(sessions, [torch.zeros(1600)] * count)
    asr.save_state(asr.initial_state(2), tmp_path / "two.state")
    done = sh(
        f'asr stream --state "{tmp_path}/two.state" < "{case(16) / "base.wav"}"'
    )
    assert done.returncode and "2" in one_line(done.stderr)
    assert "Sizes of tensors" not in done.stderr
    shutil.copy(case(16) / "base.wav", tmp_path / "a.wav")
    (tmp_path / "d.csv").write_text(
        "ID,duration,wav,wrd\na,8,a.wav,GIVE $FIVE\n"
    )
    code, out, err = call("evaluate", "--manifest", tmp_path / "d.csv")
    assert (code, err) == (0, "")
    gone = tmp_path / "gone"
    gone.mkdir()
    done = sh(f'cd "{gone}"; rmdir "{gone}"; asr transcribe "{tmp_path}/a.wav"')
    assert done.stdout or one_line(done.stderr)


@pytest.mark.slow
def test_21_22_a_folder_of_another_run(tmp_path):
    flags = ["--number_of_steps=30", "--batch_size=4"]
    flags += [f"--output_folder={tmp_path}"]
    done = train(*flags)
    assert done.returncode == 0, done.stderr[-3000:]
    before = {
        path: path.read_bytes() for path in (tmp_path / "model").iterdir()
    }
    speech = CASES.parent / "data" / "speech"
    lines = [
        json.dumps(
            {"audio_filepath": str(speech / row["wav"]), "text": row["wrd"]}
        )
        for row in json.loads(
            (speech / "transcripts.json").read_text()
        ).values()
    ]
    manifest = tmp_path / "speech.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    names = ("train_manifest", "valid_manifest", "test_manifest")
    others = [["--token_type=unigram"]]
    others += [[f"--{name}={manifest}" for name in names]]
    for other in others:
        done = train(*flags, *other)
        assert done.returncode, done.stdout[-3000:]
        last = done.stderr.strip().splitlines()[-1]
        assert "output_folder" in last and "Traceback" not in done.stderr
        for path, content in before.items():
            assert path.read_bytes() == content, path
