"""Tests of AN4: from a miniature of the original to CSV files.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import os
import runpy
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_lact.corpora import download
from speechbrain_lact.corpora.an4 import an4_splits, prepare_an4
from speechbrain_lact.corpora.layout import read_chapter
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.inference.card.corpora import find_corpus

TRAIN = Path(__file__).parents[2] / "recipes" / "AN4" / "train.py"
VOICES = [f"f{chr(97 + i)}aa" for i in range(8)]  # faaa, fbaa, ...


def write_sphere(path, seed):
    """A recording as AN4 has them: big-endian, a header of 1,024 bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = np.random.default_rng(seed).integers(-99, 99, 8000, dtype=np.int16)
    wav[:2] = -32768, 32767
    soundfile.write(path, wav, 16000, "PCM_16", "BIG", "NIST")
    return wav


@pytest.fixture
def original(tmp_path):
    """Eight voices to train, one to test, two utterances each."""
    root = tmp_path / "source" / "an4"
    lines = {"train": [], "test": []}
    for voice in VOICES:
        for i, name in enumerate((f"an9-{voice}-b", f"cen2-{voice}-b")):
            path = root / "wav" / "an4_clstk" / voice / f"{name}.sph"
            write_sphere(path, i)
            lines["train"].append(f"<s> Enter {'AB'[i]} </s> ({name})\n")
    for name in ("cen8-mzzz-b", "an1-mzzz-b"):
        path = root / "wav" / "an4test_clstk" / "mzzz" / f"{name}.sph"
        write_sphere(path, 3)
        lines["test"].append(f"RUBOUT {name[0]} ({name})\n")
    (root / "etc").mkdir()
    for part, text in lines.items():
        path = root / "etc" / f"an4_{part}.transcription"
        path.write_text("".join(text))
    return root


def test_layout(original, tmp_path):
    out = tmp_path / "AN4"
    assert prepare_an4(original.parent, out)
    assert not prepare_an4(original, out)  # it is there
    voices = {
        p.name: sorted(os.listdir(p)) for p in out.iterdir() if p.is_dir()
    }
    train = [str(2001 + i) for i in range(8) if i != 6]
    assert voices["train-clean-100"] == train
    assert voices["dev-clean"] == ["2007"]
    assert voices["test-clean"] == ["2101"]
    # A session: in the order of the transcription, the same samples.
    chapter = read_chapter(out / "test-clean" / "2101" / "1")
    assert [words for _, words, _ in chapter] == ["RUBOUT C", "RUBOUT A"]
    chapter = read_chapter(out / "dev-clean" / "2007" / "1")
    wav = write_sphere(tmp_path / "same.sph", 0)
    found = np.round(chapter[0][2] * 32768).astype(int)
    assert (found[1:] == wav[1:]).all() and found[0] == -32767
    assert find_corpus(out / "dev-clean")[0].name == "AN4"
    files = prepare_librispeech(
        out, ["train-clean-100"], ["dev-clean"], ["test-clean"], tmp_path / "s"
    )
    assert Path(files["train"]).read_text().count("ENTER") == 14
    assert an4_splits(out) == out
    assert an4_splits(original, tmp_path / "AN4") == out


def change(path, old, new):
    """Another text in a file."""
    path.write_text(path.read_text().replace(old, new))


def test_what_is_not_as_published(original, tmp_path, caplog):
    text = original / "etc" / "an4_train.transcription"
    out, kept = tmp_path / "out", text.read_text()
    with pytest.raises(FileNotFoundError, match="no AN4 .it holds: an4"):
        prepare_an4(original / "wav", out)
    with pytest.raises(FileNotFoundError, match="it holds: no folder"):
        an4_splits(tmp_path / "nothing", out)
    change(text, "(an9-faaa-b)", "an9-faaa-b")
    with pytest.raises(ValueError, match=r"transcription:1: expected is '<s>"):
        prepare_an4(original, out)
    text.write_text(kept.replace("Enter A", ""))
    prepare_an4(original, out)  # without words: skipped, and said
    assert caplog.text.count("no words") == 8
    assert len(read_chapter(out / "train-clean-100" / "2001" / "1")) == 1
    text.write_text(kept.replace("Enter A", "Привет мир"))
    prepare_an4(original, out)
    chapter = read_chapter(out / "train-clean-100" / "2001" / "1")
    assert chapter[0][1] == "ПРИВЕТ МИР"
    wav = next((original / "wav" / "an4test_clstk").rglob("*.sph"))
    whole = wav.read_bytes()
    wav.write_bytes(b"no audio")
    with pytest.raises(ValueError, match=wav.name):
        prepare_an4(original, out)
    wav.write_bytes(whole)
    shutil.rmtree(original / "wav" / "an4_clstk" / VOICES[2])
    with pytest.raises(FileNotFoundError, match="^2 recordings of .*fcaa"):
        prepare_an4(original, out)


def test_download(original, tmp_path, monkeypatch):
    server, home = tmp_path / "server", tmp_path / "home"
    server.mkdir()
    archive = server / "an4_sphere.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(original, "an4")
    monkeypatch.setattr(download, "AN4_URL", str(server))
    with pytest.raises(ConnectionError, match="its sha256 is"):
        an4_splits(home, tmp_path / "out", download=True)
    assert os.listdir(home) == [".download"]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(download, "AN4_CHECKSUM", f"sha256:{digest}")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])  # cut short
    with pytest.raises(ConnectionError, match="an4_sphere.tar.gz"):
        an4_splits(home, tmp_path / "out", download=True)
    archive.write_bytes(whole)
    an4_splits(home, tmp_path / "out", download=True)
    assert os.listdir(home) == ["an4"]
    assert (tmp_path / "out" / "test-clean" / "2101").is_dir()


def test_recipe_names_the_splits(original, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(
        os, "execv", lambda path, command: called.append(command)
    )
    main = runpy.run_path(str(TRAIN))["main"]
    data = [f"--data_folder={original}", f"--layout_folder={tmp_path / 'out'}"]
    main(
        [
            "hparams/lact_ctc.yaml",
            "--seed=2",
            *data,
            "--dev_splits=[test-clean]",
        ]
    )
    python, script, *options = called[0]
    assert python == sys.executable
    assert Path(script).parts[-2:] == ("LibriSpeech", "train.py")
    assert options == [
        "hparams/lact_ctc.yaml",
        "--seed=2",
        "--dev_splits=[test-clean]",
        f"--data_folder={tmp_path / 'out'}",
        "--train_splits=[train-clean-100]",
        "--test_splits=[test-clean]",
    ]
