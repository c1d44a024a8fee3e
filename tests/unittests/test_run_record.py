"""What an output folder knows of its run.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from speechbrain_lact.training.run_record import (
    MAY_CHANGE,
    RunRecord,
    compared_settings,
    describe_data,
    digest_file,
)

COMMAND = ["train.py", "some.yaml", "--lr=1"]


def write_csv(path, folder, words=("ONE", "TWO"), **columns):
    """Utterances whose files lie in a folder; made if they are not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        keys = ["ID", "duration", "wav", "spk_id", "wrd", *columns]
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        for i, word in enumerate(words):
            wav = folder / f"{i}.wav"
            if not wav.exists():
                wav.write_bytes(b"audio %d" % i)
            row = {"ID": f"{folder.name}-{i}", "duration": 1.5, "wav": wav}
            writer.writerow({**row, "spk_id": "a", "wrd": word, **columns})
    return describe_data(path)


def test_data_are_known_by_what_they_hold(tmp_path):
    path = tmp_path / "train.csv"
    before = write_csv(path, tmp_path / "here")
    assert before.startswith("2 utterances, 0.001 h, digest ")
    assert write_csv(path, tmp_path / "there") == before
    # A column without values says nothing.
    assert write_csv(path, tmp_path / "here", domain="") == before
    other = {
        write_csv(path, tmp_path / "here", words=("ONE", "TEN")),
        write_csv(path, tmp_path / "here", words=("TWO", "ONE")),
        write_csv(path, tmp_path / "here", start="0.5"),
        write_csv(path, tmp_path / "here", domain="car"),
    }
    (tmp_path / "here" / "1.wav").write_bytes(b"other audio")
    other.add(write_csv(path, tmp_path / "here"))
    assert len(other) == 5 and before not in other
    (tmp_path / "here" / "1.wav").unlink()
    assert describe_data(path) not in other  # and is no error


SETTINGS = """
output_folder: results/one
save_folder: results/one/save
seed: 1
lr: 0.1
number_of_steps: 10
test_splits: [a]
tokenizer: {tokenizer}
window: [4, 4]
net: !new:torch.nn.Linear
    in_features: 4
    name: results/one/save/net  # a place within
opt: !name:torch.optim.Adam
    lr: 0.1
"""


def settings(folder, **changes):
    """Settings as a YAML gives them."""
    found = YAML().load(SETTINGS.format(tokenizer=folder))
    return compared_settings({**found, **changes})


def test_settings_that_change_the_model_are_compared(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "model.bin").write_bytes(b"weights")
    before = settings(here)
    json.dumps(before)
    assert settings(there) == before
    free = {"number_of_steps": 99, "test_splits": ["b", "c"]}
    assert settings(here, **free) == before
    moved = SETTINGS.replace("results/one", "/elsewhere/two")
    moved = YAML().load(moved.format(tokenizer=here))
    assert compared_settings(moved) == before
    for key, value in {"lr": 0.2, "seed": 2, "window": [4, 0]}.items():
        assert settings(here, **{key: value}) != before, key
    inner = SETTINGS.replace("in_features: 4", "in_features: 5")
    assert (
        compared_settings(YAML().load(inner.format(tokenizer=here))) != before
    )
    other = SETTINGS.replace("torch.optim.Adam", "torch.optim.SGD")
    assert (
        compared_settings(YAML().load(other.format(tokenizer=here))) != before
    )
    given = {"precision": "bf16", "device": "cpu"}
    found = compared_settings(YAML().load(SETTINGS), given)
    assert found["precision"] == "bf16" and "device" not in found
    (there / "model.bin").write_bytes(b"weightz")
    assert settings(there) != before


def test_another_run_is_refused_and_the_same_goes_on(tmp_path):
    begun = {"lr": 0.1, "seed": 1, "sizes": {"w": [2]}}
    record = RunRecord.open(tmp_path, begun, [{"name": "data"}], COMMAND)
    assert record.commands == []  # nothing was trained yet
    for words in (COMMAND, COMMAND, [*COMMAND, "--number_of_steps=2"]):
        record.note(words)
    again = RunRecord.open(tmp_path, dict(begun), [], ["other"])
    assert again.commands == [COMMAND, [*COMMAND, "--number_of_steps=2"]]
    assert again.content["sources"] == [{"name": "data"}]
    assert any(name.startswith("torch ") for name in again.packages)
    assert again.processes == [1]
    for change, told in (
        ({"lr": 0.2}, r"another run \(lr: 0.1 there; 0.2 here\)"),
        ({"more": 1}, r"another run \(more: None there; 1 here\)"),
        ({"sizes": {"w": [3]}}, r"other sizes \(w: \[2\] there; \[3\] here\)"),
    ):
        with pytest.raises(ValueError, match=told) as caught:
            RunRecord.open(tmp_path, {**begun, **change}, [], COMMAND)
        assert "--output_folder" in str(caught.value)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match="run.json: not the record of a run"):
        RunRecord.open(tmp_path, begun, [], COMMAND)


def test_a_tokenizer_that_was_replaced_is_refused(tmp_path):
    record = RunRecord.open(tmp_path, {"sizes": {}}, [], COMMAND)
    path = tmp_path / "40_char.model"
    path.write_bytes(b"one")
    for _ in range(2):
        record.check_tokenizer(path)
        record = RunRecord.open(tmp_path, {"sizes": {}}, [], COMMAND)
    assert record.content["tokenizer"] == digest_file(path)
    path.write_bytes(b"two")
    with pytest.raises(ValueError, match="tokenizer 40_char.model: digest"):
        record.check_tokenizer(path)


def test_a_folder_from_before_there_were_records(tmp_path):
    old = {"w": [2], "domains": ["car"]}
    (tmp_path / "sizes.json").write_text(json.dumps(old))
    begun = {"lr": 0.1, "domains": ["car"], "sizes": {"w": [3]}}
    with pytest.raises(ValueError, match="a model of other sizes"):
        RunRecord.open(tmp_path, begun, [], COMMAND)
    begun["sizes"] = {"w": [2]}
    assert RunRecord.open(tmp_path, begun, [], COMMAND).commands == [COMMAND]
    with pytest.raises(ValueError, match="lr: 0.1 there"):
        RunRecord.open(tmp_path, {**begun, "lr": 1}, [], COMMAND)


def test_what_may_change_is_a_setting_of_some_experiment():
    known = set()
    for path in (Path(__file__).parents[2] / "hparams").glob("*.yaml"):
        known |= YAML().load(path.read_text()).keys()
    assert {n for names in MAY_CHANGE.values() for n in names} <= known
