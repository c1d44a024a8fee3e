"""The recipe for encoders of voices as a user runs it, and what it leaves.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from speechbrain_lact.training.speaker import equal_error
from speechbrain_lact.training.speaker_data import load_experiment

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / "recipes" / "MiniSpeech" / "train_speaker.py"
with open(ROOT / "tests" / "recipes" / "MiniSpeech.csv") as file:
    (ROW,) = csv.DictReader(file)
FLAGS = ROW["test_debug_flags"].split()

# Python that is killed when it has fitted so many batches.
KILLED = """
import os, runpy, signal, sys
from speechbrain_lact.training.speaker import SpeakerBrain

def on_fit_batch_start(brain, *arguments):
    if brain.optimizer_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

SpeakerBrain.on_fit_batch_start = on_fit_batch_start
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# What loads the folder, anywhere, without a network.
EMBED = """
import json, os, socket, sys

def refuse(*arguments):
    raise OSError("no network here")

socket.socket.connect = socket.create_connection = refuse
import torch
from safetensors.torch import save_file
from speechbrain.inference.speaker import SpeakerRecognition
from speechbrain_lact.inference.speakers import load_embedder

folder, *paths = sys.argv[1:]
embedder = load_embedder(folder)
found = {}
for path in paths:
    key = os.path.basename(path).split(".")[0]
    found[key] = embedder.encode_batch(embedder.load_audio(path))[0, 0]
save_file(found, "found.safetensors")
verifier = SpeakerRecognition.from_hparams(source=folder)
alike = float(verifier.verify_files(*paths[:2])[0])
print(json.dumps([alike, verifier.hparams.threshold]))
"""


def arguments(data, output, *flags):
    """What is typed; later flags in place of earlier ones."""
    flags = [*FLAGS, f"--data_folder={data}", f"--output_folder={output}"] + [
        *flags
    ]
    options = {flag.split("=")[0]: flag for flag in flags}
    yaml = str(ROOT / ROW["Hparam_file"])
    return [yaml, "--device=cpu", "--noprogressbar", *options.values()]


def run(*given):
    """Runs the recipe to its end."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ROW["Script_file"]), *arguments(*given)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Output folder of the row's command."""
    folder = tmp_path_factory.mktemp("speaker") / "out"
    run(corpus, folder)
    return folder


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_recipe_row_runs(trained):
    wanted = re.search(r"file_exists=\[(.*?)\]", ROW["test_debug_checks"])[1]
    for name in wanted.split(","):
        assert (trained / name).stat().st_size > 0, name
    found = results(trained)
    names = [row["test"] for row in found["rows"]]
    assert names == ["test-noisy", "test-clean", "test-accent"]
    assert found["bad_files"] == []
    log = (trained / "train_log.txt").read_text()
    before, after = map(float, re.findall(r"train loss: ([\d.e+-]+)", log))
    assert after < before


def test_rates_are_those_of_the_embeddings(trained, corpus):
    """Scored once more, with loops."""
    found = results(trained)
    for row in found["rows"]:
        said = load_file(trained / f"embeddings_{row['test']}.safetensors")
        same, different = [], []
        for one in said:
            for two in said:
                if one < two:
                    alike = torch.cosine_similarity(said[one], said[two], dim=0)
                    voices = {key.split("-")[0] for key in (one, two)}
                    (same if len(voices) == 1 else different).append(alike)
        same, different = torch.stack(same), torch.stack(different)
        assert (len(same), len(different)) == (6, 9)
        rate, own = equal_error(same, different)
        assert row["EER"] == pytest.approx(100 * rate, abs=0.01)
        accepted = (different > found["threshold"]).double().mean()
        assert row["other voice accepted"] == round(100 * float(accepted), 2)
        if row is found["rows"][0]:
            assert found["threshold"] == pytest.approx(own, abs=1e-4)


def test_folder_gives_the_same_embeddings_elsewhere(trained, corpus, tmp_path):
    """In another process, moved, read-only, without a network."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(trained / "model", elsewhere)
    assert not any(path.is_symlink() for path in elsewhere.iterdir())
    elsewhere.chmod(0o555)
    wanted = load_file(trained / "embeddings_test-clean.safetensors")
    keys = sorted(wanted)
    paths = [next(corpus.glob(f"test-clean/*/*/{key}.flac")) for key in keys]
    done = subprocess.run(
        [sys.executable, "-c", EMBED, elsewhere, *paths],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = load_file(tmp_path / "found.safetensors")
    assert len(wanted) == 6
    for key in wanted:
        assert torch.allclose(found[key], wanted[key], rtol=1e-5, atol=1e-5)
    alike, threshold = json.loads(done.stdout.splitlines()[-1])
    one, two = (wanted[key] for key in keys[:2])
    wanted = float(torch.cosine_similarity(one, two, dim=0))
    assert alike == pytest.approx(wanted, abs=1e-5)
    assert threshold == results(trained)["threshold"]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"elsewhere", "found.safetensors"}


def test_card_says_what_was_done(trained):
    text = (trained / "model" / "README.md").read_text()
    front = YAML(typ="safe").load(text.split("---\n")[1])
    assert front["datasets"] == ["MiniSpeech"]
    (model,) = front["model-index"]
    rates = {
        result["dataset"]["split"]: result["metrics"][0]["value"]
        for result in model["results"]
    }
    rows = results(trained)["rows"]
    assert rates == {row["test"]: row["EER"] for row in rows[1:]}
    assert (trained / "results.md").read_text() in text
    assert f"at {results(trained)['threshold']}, the threshold" in text
    assert "4 voices" in text and "--number_of_epochs=2" in text
    assert str(trained.parent) not in text


def test_killed_run_resumes_as_if_unbroken(trained, corpus, tmp_path):
    """Killed in the second epoch; one room, which has no order to remember."""
    flags = ("--ckpt_interval_steps=1", "--ckpt_interval_minutes=0")
    out = tmp_path / "out"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, TRAIN] + arguments(corpus, out, *flags),
        capture_output=True,
        cwd=ROOT,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]
    assert not (out / "results.json").exists()
    printed = run(corpus, out, *flags)
    assert "Going into epoch 2" in printed
    assert "Going into epoch 1" not in printed
    assert results(out)["rows"] == results(trained)["rows"]
    one, two = (
        load_file(f / "model/model.safetensors") for f in (trained, out)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_bad_files_are_named_and_skipped(corpus, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(corpus, data)
    bad = []
    for split in ("train-clean-100", "test-noisy", "test-clean"):
        bad.append(sorted((data / split).glob("*/*/*.flac"))[0])
        whole = bad[-1].read_bytes()
        bad[-1].write_bytes(whole[: len(whole) // 2])  # its header is good
    printed = run(data, tmp_path / "out", "--number_of_epochs=1")
    for path in bad:
        lines = [line for line in printed.splitlines() if path.stem in line]
        assert any("skipped" in line for line in lines), path
    found = results(tmp_path / "out")
    assert found["bad_files"] == sorted(path.stem for path in bad)
    counts = [(row["utterances"], row["bad_files"]) for row in found["rows"]]
    assert counts == [(5, 1), (5, 1), (6, 0)]


def refused(corpus, tmp_path, **flags):
    """The message of an experiment that cannot be."""
    flags = {
        "data_folder": str(corpus),
        "output_folder": str(tmp_path / "out"),
        **flags,
    }
    with pytest.raises(ValueError) as error:
        load_experiment(str(ROOT / ROW["Hparam_file"]), json.dumps(flags))
    return str(error.value)


def test_one_voice_is_no_test(corpus, tmp_path):
    message = refused(corpus, tmp_path, dev_splits=["dev-clean"])
    assert "dev-clean.csv: 3 utterances of 1 voices" in message


def test_voices_of_the_training_data_are_no_test(corpus, tmp_path):
    for split in ("train-clean-100", "test-clean", "test-noisy"):
        shutil.copytree(corpus / split, tmp_path / "data" / split)
    voice = sorted((corpus / "train-clean-100").iterdir())[0]
    shutil.copytree(voice, tmp_path / "data" / "test-noisy" / voice.name)
    message = refused(
        tmp_path / "data",
        tmp_path,
        dev_splits=["test-noisy"],
        test_splits=["test-clean"],
    )
    assert "test-noisy.csv" in message and voice.name in message
