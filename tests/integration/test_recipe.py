"""The recipe as a user runs it: processes, files, a miniature corpus.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from ruamel.yaml import YAML

from speechbrain_lact.convert import convert
from speechbrain_lact.inference.ASR import LaCTASR

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes" / "LibriSpeech" / "train.py"
main = runpy.run_path(str(TRAIN))["main"]  # in this process
SIZES = {
    "d_model": 32,
    "lact_hidden_size": 32,
    "nhead": 2,
    "num_encoder_layers": 1,
    "kernel_size": 5,
    "cnn_channels": 4,
    "batch_size": 2,
    "test_batch_size": 2,
    "warmup_steps": 0,
    "sorted_epochs": 0,
    "train_splits": "[train-clean-100]",
    "dev_splits": "[dev-clean]",
    "test_splits": "[test-clean]",
}
ROWS = list(
    csv.DictReader((ROOT / "tests" / "recipes" / "LibriSpeech.csv").open())
)


def command(yaml, corpus, output, *flags):
    """What to type; later flags in place of earlier ones."""
    keys = YAML().load((ROOT / yaml).read_text())
    sizes = [f"--{k}={v}" for k, v in SIZES.items() if k in keys]
    sizes += [f"--data_folder={corpus}", f"--output_folder={output}", *flags]
    options = {flag.split("=")[0]: flag for flag in sizes}
    call = [sys.executable, str(TRAIN), str(ROOT / yaml), "--device=cpu"]
    return [*call, "--noprogressbar", *options.values()]


def run(*arguments):
    """Runs the recipe to its end."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def converted(corpus, folder):
    """A small Conformer, trained for a step, ready for LaCT."""
    source, out = folder / "source", folder / "converted"
    run("hparams/conformer_ctc.yaml", corpus, source, "--number_of_steps=1")
    convert(source, out)
    return out


def refused(*arguments):
    """Runs the recipe, which must give up; its last line."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stderr.strip().splitlines()[-1]


def results(folder):
    """WER of each kind of memory."""
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return {(row["test"], row["memory"]): row for row in rows}


def weights(folder):
    """Parameters in the newest checkpoint."""
    newest = max(
        (folder / "save").glob("CKPT*"), key=lambda p: p.stat().st_mtime
    )
    return torch.load(newest / "model.ckpt")


@pytest.mark.parametrize(
    "row", ROWS, ids=[Path(r["Hparam_file"]).stem for r in ROWS]
)
def test_recipe_rows_run(row, corpus, tmp_path, tiny_host, tiny_ecapa):
    flags = row["test_debug_flags"].replace("TINY_ECAPA", tiny_ecapa)
    if "TINY_WAV2VEC2" in flags:
        flags = flags.replace("TINY_WAV2VEC2", tiny_host("wav2vec2"))
    flags = flags.split()
    if "source" in YAML().load((ROOT / row["Hparam_file"]).read_text()):
        flags.append(f"--source={converted(corpus, tmp_path)}")
    run(row["Hparam_file"], corpus, tmp_path, *flags)
    wanted = re.search(r"file_exists=\[(.*?)\]", row["test_debug_checks"])[1]
    for name in wanted.split(","):
        assert (tmp_path / name).stat().st_size > 0, name
    for result in results(tmp_path).values():
        assert result["utterances"] == 6
        assert result["WER"] > 0
        if result["memory"] in ("carried", "reset", "other", "frozen"):
            assert result["updates"] >= 1.0
    if "_ctc" in row["Hparam_file"]:
        asr = LaCTASR.from_hparams(tmp_path / "model", savedir=None)
        path = next(corpus.glob("test-clean/*/*/*.flac"))
        log_probs = asr.encoder(asr.load_audio(path)[None])
        assert log_probs.isfinite().all()
        frames = soundfile.info(path).duration * 25
        assert frames * 0.45 < log_probs.shape[1] < frames * 2.1


TRANSCRIBE = """
import json, socket, sys

def refuse(*arguments):
    raise OSError("no network here")

socket.socket.connect = socket.create_connection = refuse
from speechbrain.inference import ASR

model = getattr(ASR, sys.argv[1]).from_hparams(source=sys.argv[2])
words = [model.transcribe_file(path) for path in sys.argv[3:]]
print(json.dumps(words))
"""


def hypotheses(path):
    """Words of each utterance in a file of alignments."""
    lines = path.read_text().splitlines()
    found = {}
    for i, line in enumerate(lines):
        if ", %WER" in line:
            words = [w.strip() for w in lines[i + 3].split(";")]
            words = [w for w in words if w and w != "<eps>"]
            found[line.split(",")[0]] = " ".join(words)
    return found


@pytest.mark.parametrize(
    "yaml, interface",
    [("lact_ctc", "EncoderASR"), ("lact_s2s", "EncoderDecoderASR")],
)
def test_exported_model_says_the_same(corpus, tmp_path, yaml, interface):
    """SpeechBrain's own interface, elsewhere on disk, without a network."""
    out = tmp_path / "out"
    # Hardly any training would teach the blank: at first all is likely.
    flags = ("--number_of_steps=1", "--test_memory=[reset]", "--lr=0.000001")
    run(f"hparams/{yaml}.yaml", corpus, out, *flags)
    wanted = hypotheses(out / "wer_test-clean.txt")
    assert len(wanted) == 6 and len(set(wanted.values())) > 1
    elsewhere = tmp_path / "elsewhere"
    shutil.move(out / "model", elsewhere)
    shutil.rmtree(out)
    elsewhere.chmod(0o555)
    paths = [next(corpus.glob(f"test-clean/*/*/{key}.flac")) for key in wanted]
    done = subprocess.run(
        [sys.executable, "-c", TRANSCRIBE, interface, elsewhere, *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    words = json.loads(done.stdout.splitlines()[-1])
    words = [" ".join(text.split()) for text in words]
    assert words == list(wanted.values())


def test_killed_run_resumes_as_if_unbroken(corpus, tmp_path):
    # Two batches a step: between them nothing is saved.
    flags = ("--number_of_steps=13", "--bptt_utterances=2")
    flags += ("--ckpt_interval_steps=1",)
    flags += ("--ckpt_interval_minutes=0", "--dropout=0.1")
    yaml = "hparams/lact_ctc.yaml"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(yaml, corpus, whole, *flags)
    process = subprocess.Popen(
        command(yaml, corpus, broken, *flags),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    log = broken / "train_log.txt"
    until = time.monotonic() + 120
    # Kill it in the midst of an epoch, once one epoch is done.
    while time.monotonic() < until and process.poll() is None:
        marks = list((broken / "save").glob("CKPT*/CKPT.yaml"))
        midway = any(
            "end-of-epoch: false" in m.read_text() for m in marks if m.exists()
        )
        if log.exists() and midway:
            break
        time.sleep(0.01)
    assert process.poll() is None, "ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (broken / "results.json").exists()
    run(yaml, corpus, broken, *flags)
    one, two = weights(whole), weights(broken)
    assert all(torch.equal(one[key], two[key]) for key in one)
    before, after = results(whole), results(broken)
    for key, row in before.items():
        assert after[key]["speakers"] == row["speakers"]


def test_a_run_on_the_plateau_says_so(corpus, tmp_path):
    """In one line, once, with what to do; one that is not yet at half of its
    steps says nothing."""
    flags = "--number_of_steps=4", "--batch_size=8", "--lr=0.000001"
    said = run("hparams/conformer_ctc.yaml", corpus, tmp_path, *flags)
    lines = [line for line in said.splitlines() if "CTC plateau" in line]
    assert len(lines) == 1
    assert "at step 3 of 4" in lines[0] and "lr: 5e-07" in lines[0]


def test_gradients_go_through_the_memory(corpus, tmp_path):
    """Through utterances that are in one step; where no memory goes on, that
    is gradient accumulation. The last one of each session cannot be read."""
    data, found = tmp_path / "data", {}
    shutil.copytree(corpus, data)
    for path in (data / "train-clean-100").glob("*/*/*-0002.flac"):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])  # its header is good
    for reset in (0, 1):
        for key in ("bptt_utterances", "grad_accumulation_factor"):
            folder = tmp_path / f"{key}{reset}"
            flags = [f"--{key}=3", f"--reset_probability={reset}"]
            flags += ["--number_of_steps=2", "--num_workers=0"]
            flags += ["--batch_size=1", "--dropout=0"]
            flags += ["--test_memory=[carried,session]"]
            run("hparams/lact_ctc.yaml", data, folder, *flags)
            found[key, reset] = weights(folder)
    for reset in (0, 1):
        through = found["bptt_utterances", reset]
        detached = found["grad_accumulation_factor", reset]
        apart = max(
            float((through[k] - detached[k]).abs().max()) for k in through
        )
        assert (apart < 1e-4) == bool(reset), apart
    assert len(json.loads((folder / "results.json").read_text())["bad_files"])
    # A session as one utterance: fewer of them, all of their words.
    rows = results(folder)
    whole = rows["test-clean", "session"]["speakers"]
    single = rows["test-clean", "carried"]["speakers"]
    assert list(whole) == list(single)
    for speaker, (_, words, utterances) in single.items():
        assert whole[speaker][1] == words and whole[speaker][2] < utterances


def test_bad_files_are_named_and_skipped(corpus, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    chapter = next((data / "train-clean-100").glob("*/*"))
    first, second, third = sorted(chapter.glob("*.flac"))
    audio, rate = soundfile.read(first)
    whole = first.read_bytes()
    first.write_bytes(whole[: len(whole) // 2])  # its header is good
    audio[100] = np.nan
    soundfile.write(second.with_suffix(".wav"), audio, rate, subtype="FLOAT")
    second.unlink()
    third.write_bytes(b"")
    out = tmp_path / "out"
    printed = run("hparams/lact_ctc.yaml", data, out, "--number_of_steps=6")
    for path in (first, second.with_suffix(".wav"), third):
        lines = [x for x in printed.splitlines() if path.stem in x]
        assert any("skipped" in line.lower() for line in lines), path
    bad = json.loads((out / "results.json").read_text())["bad_files"]
    assert set(bad) == {first.stem, second.stem}


def test_manifests(corpus, tmp_path):
    manifests = {}
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        lines = []
        for text in sorted((corpus / split).glob("*/*/*.trans.txt")):
            for line in text.read_text().splitlines():
                key, words = line.split(maxsplit=1)
                path = text.parent / f"{key}.flac"
                entry = {"audio_filepath": str(path), "text": words.lower()}
                entry["speaker"] = key.split("-")[0]
                lines.append(json.dumps(entry))
        manifests[split] = tmp_path / f"{split}.jsonl"
        manifests[split].write_text("\n".join(lines) + "\n")
    train, valid, test = manifests.values()
    run(
        "hparams/conformer_ctc.yaml",
        corpus,
        tmp_path / "out",
        "--number_of_steps=2",
        f"--train_manifest={train}",
        f"--valid_manifest={valid}",
        f"--test_manifest={test}",
    )
    (row,) = results(tmp_path / "out").values()
    assert row["test"] == "test-clean" and row["utterances"] == 6
    assert len(row["speakers"]) == 2


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--data_folder=/no/such/folder"], "/no/such/folder"),
        (["--train_splits=[train-clean-360]"], "train-clean-360"),
        (["--lact_order=sideways"], "sideways"),
        (["--lact_optimiser=muon"], "lact_optimiser"),
        (["--size=tiny"], "size"),
        (["--warmup_steps=9", "--number_of_steps=9"], "warmup_steps"),
        (["--test_memory=[borrowed]"], "borrowed"),
        (["--bptt_utterances=0"], "bptt_utterances"),
        (["--number_of_steps=0"], "number_of_steps: a number from 1, not 0"),
        (["--batch_size=many"], "batch_size: a whole number, not 'many'"),
        (["--grad_accumulation_factor=0"], "grad_accumulation_factor"),
        (["--lr=-1"], "lr: a number above 0, not -1"),
        (["--test_memory=[]"], "test_memory: a list of carried"),
        (["--test_decoding=best"], "test_decoding: greedy or beam"),
        (["--kenlm_model_path=no.arpa"], "with test_decoding: beam only"),
        (["--bptt_utterances=2", "--grad_accumulation_factor=2"], "bptt_utt"),
        (["--stride=3"], "stride must be 2, 4 or 8"),
        (["--lact_order=apply_update"], "shorter than the chunk"),
    ],
)
def test_wrong_settings_give_one_line(corpus, tmp_path, flags, message):
    yaml = "hparams/lact_ctc.yaml"
    with pytest.raises((OSError, ValueError)) as caught:
        main(command(yaml, corpus, tmp_path, *flags)[2:])
    assert message in str(caught.value)


def test_an_output_folder_is_that_of_one_run(corpus, tmp_path):
    """Another model, tokenizer or corpus is refused before anything is
    written; the same data elsewhere and other tests are not, and the card
    goes on telling what trained the model."""
    yaml, out = "hparams/conformer_ctc.yaml", tmp_path / "out"
    steps = "--number_of_steps=1"
    run(yaml, corpus, out, steps)

    def written():
        """All but the lists of utterances, which every start makes anew."""
        files = [path for path in out.rglob("*") if path.is_file()]
        lists = (".csv", "librispeech_prepare.json")
        return {
            path: path.read_bytes()
            for path in files
            if not path.name.endswith(lists)
        }

    before = written()
    for flag, told in (
        ("--d_model=16", "a model of other sizes (d_model: 32 there; 16 here)"),
        ("--token_type=unigram", "(token_type: char there; unigram here)"),
        ("--train_splits=[test-clean]", "(training data: 12 utterances, "),
    ):
        arguments = command(yaml, corpus, out, steps, flag)[2:]
        with pytest.raises(ValueError) as caught:
            main(arguments)
        line = str(caught.value)
        assert told in line and "another --output_folder" in line
        assert str(out) in line
    after = written()
    assert {path: after[path] for path in before} == before
    moved = tmp_path / "moved"
    shutil.copytree(corpus, moved)
    run(yaml, moved, out, steps, "--test_splits=[test-clean, dev-clean]")
    assert {test for test, _ in results(out)} == {"test-clean", "dev-clean"}
    card = (out / "model" / "README.md").read_text()
    assert "--test_splits=[test-clean]'" in card  # what was typed to train it
    assert "test_splits=[test-clean, dev-clean]" not in card
    for test in ("test-clean", "dev-clean"):
        assert re.search(rf"\| {test} +\| none +\|", card)
    assert "12 utterances of" in card


def test_full_disk_keeps_what_was_saved(corpus, tmp_path):
    yaml = "hparams/conformer_ctc.yaml"
    run(yaml, corpus, tmp_path, "--number_of_steps=2", "--d_model=128")
    saved = sorted(p.name for p in (tmp_path / "save").glob("CKPT*"))
    flags = ("--number_of_steps=8", "--d_model=128")
    done = subprocess.run(
        command(yaml, corpus, tmp_path, *flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        # No file may grow beyond 2 MB, less than a checkpoint has.
        preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)
        ),
    )
    assert done.returncode != 0
    line = done.stderr.strip().splitlines()[-1]
    assert "no checkpoint could be written" in line and str(tmp_path) in line
    marks = (tmp_path / "save").glob("CKPT*/CKPT.yaml")
    assert sorted(p.parent.name for p in marks) == saved
    run(yaml, corpus, tmp_path, *flags)
