"""Tests of speechocean762: from a miniature of the original to CSV files.

Authors
* speechbrain_lact contributors 2026
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_lact.corpora.manifests import prepare_manifests
from speechbrain_lact.corpora.speechocean762 import prepare_speechocean762


@pytest.fixture
def original(tmp_path):
    """Eight voices to train, one to test, two utterances each."""
    root = tmp_path / "speechocean762"
    for part, voices in (("train", range(1, 9)), ("test", [9])):
        tables = {"text": "", "utt2spk": "", "wav.scp": ""}
        for voice in voices:
            for i in (2, 1):
                name = f"{voice:04d}{i}"
                path = f"WAVE/SPEAKER{voice:04d}/{name}.WAV"
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(root / path, np.zeros(4000), 16000, "PCM_16")
                tables["text"] += f"{name}\tWE CALL IT {'AB'[i - 1]}\n"
                tables["utt2spk"] += f"{name} {voice:04d}\n"
                tables["wav.scp"] += f"{name}\t{path}\n"
        (root / part).mkdir()
        for name, text in tables.items():
            (root / part / name).write_text(text)
    return root


def test_manifests(original, tmp_path):
    found = prepare_speechocean762(original, tmp_path / "made")
    files = prepare_manifests(
        found["train"], found["dev"], found["test"], tmp_path / "save"
    )
    with open(files["train"], newline="") as file:
        train = list(csv.DictReader(file))
    with open(files["valid"][0], newline="") as file:
        dev = list(csv.DictReader(file))
    assert len(train) == 14
    assert [row["spk_id"] for row in dev] == ["0008", "0008"]
    assert [row["wrd"] for row in dev] == ["WE CALL IT A", "WE CALL IT B"]
    assert [row["position"] for row in dev] == ["0", "1"]
    assert Path(files["test"][0]).read_text().count("0009,0009,") == 2


def test_what_is_not_as_published(original, tmp_path, caplog):
    out, text = tmp_path / "made", original / "train" / "text"
    with pytest.raises(FileNotFoundError, match="holds: SPEAKER0001, "):
        prepare_speechocean762(original / "WAVE", out)
    text.write_text(text.read_text().replace("WE CALL IT A", ""))
    prepare_speechocean762(original, out)
    assert caplog.text.count("no words") == 8
    kept = text.read_text()
    text.write_text(kept + "00011\tTWICE\n")
    with pytest.raises(ValueError, match=r"text:17: 00011 is there twice"):
        prepare_speechocean762(original, out)
    text.write_text(kept)
    next((original / "WAVE" / "SPEAKER0009").iterdir()).unlink()
    with pytest.raises(
        FileNotFoundError, match="^1 recordings of .*SPEAKER0009"
    ):
        prepare_speechocean762(original, out)
