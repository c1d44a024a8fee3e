"""recipes/Whisper as a user runs it, on a Whisper of random weights."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file

from speechbrain_lact.cli.model import is_whisper
from speechbrain_lact.evaluation.whisper import score
from speechbrain_lact.inference.whisper import WhisperASR
from speechbrain_lact.inference.whisper_parts import (
    GATED,
    STREAM,
    read_part,
    write_part,
)
from tests.unittests.test_whisper import (
    TINY,
    ctranslate2_variables,
    write_ctranslate2,
    write_tokenizer,
)

transformers = pytest.importorskip("transformers")

ROOT = Path(__file__).parents[2]
with open(ROOT / "tests" / "recipes" / "Whisper.csv") as table:
    ROWS = {Path(row["Hparam_file"]).stem: row for row in csv.DictReader(table)}
KINDS = {"whisper_stream": STREAM, "whisper_lact": GATED}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two sessions of four utterances, one to validate with, one to test."""
    folder, draw = tmp_path_factory.mktemp("corpus"), torch.Generator()
    splits = ("train-clean-100", 2), ("dev-clean", 1), ("test-clean", 1)
    for split, sessions in splits:
        for session in range(sessions):
            chapter = folder / split / f"{session}" / "1"
            chapter.mkdir(parents=True)
            lines = []
            for number in range(4):
                name = f"{session}-1-{number:04d}"
                wav = 0.1 * torch.randn(16000 + 999 * number, generator=draw)
                soundfile.write(chapter / f"{name}.flac", wav.numpy(), 16000)
                lines.append(f"{name} WORD {number}")
            text = "\n".join(lines) + "\n"
            (chapter / f"{session}-1.trans.txt").write_text(text)
    return folder


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """Folder of a Whisper of random weights."""
    from speechbrain_lact.lobes.models.whisper.weights import write_folder

    torch.manual_seed(0)
    net = transformers.WhisperModel(transformers.WhisperConfig(**TINY))
    model = tmp_path_factory.mktemp("ctranslate2")
    write_ctranslate2(model / "model.bin", ctranslate2_variables(net))
    write_tokenizer(model / "tokenizer.json")
    (model / "config.json").write_text(
        '{"alignment_heads": [[0, 1]], "suppress_ids": [],'
        ' "suppress_ids_begin": []}'
    )
    folder = tmp_path_factory.mktemp("whisper")
    write_folder(model, folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_trains_and_goes_on(name, data, host, tmp_path):
    """What it leaves is read; a second run makes no outputs of Whisper again
    and goes on from the first one's part."""

    def train(folder, *flags):
        """Runs the recipe."""
        given = [*ROWS[name]["test_debug_flags"].split(), *flags]
        done = subprocess.run(
            [
                *(sys.executable, ROOT / "recipes" / "Whisper" / "train.py"),
                ROOT / ROWS[name]["Hparam_file"],
                *("--device=cpu", "--noprogressbar", f"--source={host}"),
                *(f"--data_folder={data}", f"--output_folder={folder}"),
                f"--teacher_folder={tmp_path / 'teacher'}",
                "--segment_seconds=[1.0, 3.0]",
                *given,
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return folder / "part.safetensors"

    first = train(tmp_path / "first")
    kept = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "teacher").iterdir()
    }
    assert kept
    whisper = transformers.WhisperModel.from_pretrained(host)
    net = read_part(first, KINDS[name], whisper)
    assert all(p.isfinite().all() for p in net.parameters())
    second = train(tmp_path / "second", f"--start={first}")
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    before, after = load_file(first), load_file(second)
    assert before.keys() == after.keys()
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert changed
    # Three small steps from where the first run ended, and not anew.
    for key in before:
        moved = (after[key].float() - before[key].float()).abs().max()
        assert moved < 0.02, key
    log = (tmp_path / "second" / "train_log.txt").read_text()
    assert "words" in log and "nan" not in log
    check_model(tmp_path / "second", name, log)
    if KINDS[name] == GATED:
        check_comparison(tmp_path / "second", data)
        # The part is that of the lowest loss, not of the last checkpoint.
        better = make_better(tmp_path / "second" / "save")
        third = load_file(train(tmp_path / "second"))
        for key, value in third.items():
            assert torch.equal(value, better[key].half()), key


def make_better(folder):
    """Adds an older checkpoint with other weights and a lower loss."""
    (last,) = folder.glob("CKPT*")
    better = shutil.copytree(last, folder / "CKPT+better")
    meta = yaml.safe_load((better / "CKPT.yaml").read_text())
    meta.update(loss=meta["loss"] - 1, unixtime=meta["unixtime"] - 9)
    (better / "CKPT.yaml").write_text(yaml.safe_dump(meta))
    weights = torch.load(better / "model.ckpt")
    weights = {k: v + v.is_floating_point() for k, v in weights.items()}
    torch.save(weights, better / "model.ckpt")
    return weights


def check_model(folder, name, log):
    """The output folder is a model, which was scored on the test set."""
    asr = WhisperASR.load(folder, "cpu")
    kind = KINDS[name]
    part = asr.gated if kind == GATED else asr.live.encoder
    for key, value in load_file(folder / "part.safetensors").items():
        assert torch.equal(part.state_dict()[key], value.float()), key
    other = STREAM if kind == GATED else GATED
    assert other not in asr.parts and is_whisper(folder)
    metric = score(asr, folder / "save" / "test-clean.csv", kind == STREAM)
    assert len(metric.scores) == 4
    rate = metric.summarize("error_rate")
    assert "test: test-clean - test WER" in log
    assert f"%WER {rate:.2f}" in (folder / "wer_test-clean.txt").read_text()


def check_comparison(folder, data):
    """A line for each utterance, whose errors are those of the table."""
    out = folder / "compare"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "recipes" / "Whisper" / "compare.py"),
            *(f"tiny={data / 'test-clean'}", f"--model={folder}"),
            *(f"--output={out}", "--sessions=1", "--each=2"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((out / "compare.json").read_text())["rows"]
    assert len(rows) == 9  # three systems, clean and in noise
    assert {row["words"] for row in rows} == {4}  # WORD 0, WORD 1
    assert (out / "compare.png").is_file()
    for condition in ("clean", "10_dB", "0_dB"):
        with open(out / f"tiny_{condition}.csv") as file:
            lines = list(csv.DictReader(file))
        assert [line["said"] for line in lines] == ["word 0", "word 1"]
        for row in rows:
            if row["condition"].replace(" ", "_") == condition:
                rates = [float(one[f"{row['system']} WER"]) for one in lines]
                assert row["errors"] == pytest.approx(sum(rates) * 2 / 100)


def test_parts_that_do_not_belong_are_refused(host, tmp_path):
    """By what is wrong with them."""
    whisper = transformers.WhisperModel.from_pretrained(host)
    options = {
        "lact": {"block_window": [4, 4], "chunk_size": 8, "fast_heads": 2}
    }
    from speechbrain_lact.inference.whisper_parts import MAKE

    path = tmp_path / "part"
    net = MAKE[STREAM](whisper, **options)
    with torch.no_grad():
        net.encoder.norm.norm.bias.fill_(0.5)
    write_part(path, STREAM, net, whisper, options)
    read = read_part(path, STREAM, whisper)
    for name, value in net.state_dict().items():
        wanted = value.half().float() if "front" not in name else value
        if "positions" not in name and "features" not in name:
            assert torch.equal(read.state_dict()[name], wanted), name
    with pytest.raises(ValueError, match="not 'gated layers'"):
        read_part(path, GATED, whisper)
    other = transformers.WhisperModel(
        transformers.WhisperConfig(**{**TINY, "d_model": 8})
    )
    with pytest.raises(ValueError, match="width 16, and this one has 8"):
        read_part(path, STREAM, other)
    with torch.no_grad():
        whisper.decoder.layer_norm.bias += 1.0
    with pytest.raises(ValueError, match="other weights than this"):
        read_part(path, STREAM, whisper)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read"):
        read_part(path, STREAM, whisper)
