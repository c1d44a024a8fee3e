"""Two runs on a pretrained encoder, compared by the recipe's script.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import re
import runpy
import shutil
import subprocess
import sys

import pytest
import torch
from ruamel.yaml import YAML
from test_recipe import ROOT, refused, run

from speechbrain_lact.evaluation.paired_comparison import paired_interval

SCRIPT = ROOT / "recipes" / "LibriSpeech" / "compare.py"
main = runpy.run_path(str(SCRIPT))["main"]  # in this process
YAMLS = ("wav2vec2_ctc", "wav2vec2_lact_ctc")


@pytest.fixture(scope="module")
def runs(corpus, tiny_host, tmp_path_factory):
    """A baseline and its LaCT model after a few steps."""
    folders = []
    for name in YAMLS:
        folders.append(tmp_path_factory.mktemp("results") / name / "1")
        run(
            f"hparams/{name}.yaml",
            corpus,
            folders[-1],
            "--number_of_steps=4",
            "--test_memory=" + ("[none]" if name == YAMLS[0] else "[carried]"),
            f"--pretrained_source={tiny_host('wav2vec2')}",
        )
    return folders


def started(*arguments):
    """The script as a process."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def changed(folder, to, **values):
    """A copy of a run with other settings."""
    shutil.copytree(folder, to)
    path = to / "hyperparams.yaml"
    lines = path.read_text().splitlines()
    for key, value in values.items():
        (i,) = [i for i, x in enumerate(lines) if x.startswith(f"{key}:")]
        lines[i] = f"{key}: {value}"
    path.write_text("\n".join(lines) + "\n")
    return to


def test_table_csv_and_pictures(runs, tmp_path):
    done = started(*runs, "--output", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "6 utterances, speakers: 2" in done.stdout
    with open(tmp_path / "test-clean.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == 6
    for name, folder in zip(YAMLS, runs):
        (whole,) = json.loads((folder / "results.json").read_text())["rows"]
        # The same model on the same data: the rate that the recipe printed.
        words = [len(row["said"].split()) for row in rows]
        errors = [float(row[f"{name} WER"]) * n for row, n in zip(rows, words)]
        assert abs(sum(errors) / sum(words) - whole["WER"]) < 0.01
        letters = [len(row["said"]) for row in rows]
        errors = [
            float(row[f"{name} CER"]) * n for row, n in zip(rows, letters)
        ]
        assert abs(sum(errors) / sum(letters) - whole["CER"]) < 0.01
        assert f"{whole['CER']:.2f}" in done.stdout
        assert all(float(row[f"{name} seconds"]) > 0 for row in rows)
    for kind in ("wer", "time", "summary"):
        picture = (tmp_path / f"test-clean_{kind}.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    table = (tmp_path / "test-clean.md").read_text()
    assert table.strip() in done.stdout and "95 % interval" in table


def test_settings_that_ran_are_kept(runs):
    """Those of hparams/mini.yaml among them: compare.py relies on it."""
    settings = (runs[1] / "hyperparams.yaml").read_text()
    mini = YAML().load((ROOT / "hparams" / "mini.yaml").read_text())
    found = re.findall(r"chunk_size: (\d+)", settings)
    assert found == [str(mini["lact_chunk_size"])] * 2


def test_a_gate_that_is_still_zero_is_refused(runs, tmp_path):
    lact = tmp_path / "lact"
    shutil.copytree(runs[1], lact)
    (path,) = (lact / "save").glob("CKPT*/model.ckpt")
    saved = torch.load(path)
    (gate,) = [name for name in saved if name.endswith("gate")]
    assert bool(saved[gate].any())  # trained
    torch.save({**saved, gate: torch.zeros_like(saved[gate])}, path)
    done = started(runs[0], lact)
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert line.startswith("compare.py:") and "gate" in line
    assert str(lact) in line and not (lact / "compare").exists()


def test_runs_that_do_not_match_are_refused(runs, corpus, tmp_path):
    first, second = runs
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    text = sorted((data / "test-clean").glob("*/*/*.trans.txt"))[0]
    text.write_text(text.read_text().replace(" THE ", " A "))
    others = {
        "no finished run": tmp_path,
        "twice the same run": first,
        "other tokens": changed(second, tmp_path / "1", token_type="unigram"),
        "test-clean is not the same": changed(
            second, tmp_path / "2", data_folder=data
        ),
        "has test-noisy": changed(
            second, tmp_path / "3", test_splits="[test-noisy]"
        ),
    }
    for message, other in others.items():
        with pytest.raises(ValueError, match=message):
            main([str(first), str(other)])
    with pytest.raises(ValueError, match="test-other"):
        main([*map(str, runs), "--test_set=test-other"])


def test_difference_is_paired():
    """Both models fail on the same speakers: the difference is certain."""
    first = {"a": [1, 10, 1], "b": [9, 10, 1], "c": [5, 10, 1]}
    second = {k: [e - 1, n, u] for k, (e, n, u) in first.items()}
    assert paired_interval(first, second) == (-10, -10, -10)
    second = {"a": [3, 10, 1], "c": [5, 10, 1], "b": [9, 10, 1]}
    middle, low, high = paired_interval(first, second)
    assert (low, high) == (0, 20) and abs(middle - 20 / 3) < 1e-9
    one = {"a": [1, 10, 1]}
    assert paired_interval(one, one) == (0, None, None)


def test_no_network_is_said_in_one_line(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = refused("hparams/wav2vec2_ctc.yaml", corpus, tmp_path)
    assert "pretrained_source: facebook/wav2vec2-base" in line
    assert "give a local folder" in line
