"""Rows of several utterances, for models that stream."""

import json
import random
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from speechbrain_lact.corpora.manifests import prepare_manifests
from speechbrain_lact.training.data import join_utterances, make_dataset


def make_rows():
    """Three sessions of 10, 1 and 4 utterances, shuffled."""
    rows = {}
    for session, number in (("a", 10), ("b", 1), ("c", 4)):
        for i in range(number):
            key = f"{session}-{i}"
            rows[key] = {
                "wav": f"/{key}.flac",
                "wrd": f"{key} SAID",
                "duration": str(1.0 + i),
                "session": session,
                "position": str(i),
            }
    keys = list(rows)
    random.Random(0).shuffle(keys)
    return {key: rows[key] for key in keys}


def test_every_utterance_once_and_in_order():
    rows = make_rows()
    joined = join_utterances(rows, 3, seed=1)
    assert 5 < len(joined) < 15
    for session, number in (("a", 10), ("b", 1), ("c", 4)):
        mine = [r for r in joined.values() if r["session"] == session]
        assert [int(r["position"]) for r in mine] == list(range(len(mine)))
        paths = [path for r in mine for path in r["wav"].split("\n")]
        assert paths == [f"/{session}-{i}.flac" for i in range(number)]
        words = " ".join(r["wrd"] for r in mine)
        assert words == " ".join(f"{session}-{i} SAID" for i in range(number))
        wanted = sum(1.0 + i for i in range(number))
        assert sum(float(r["duration"]) for r in mine) == wanted
        assert all(1 <= r["wav"].count("\n") + 1 <= 3 for r in mine)


def test_draws_follow_the_seed_and_leave_the_rows_alone():
    rows = make_rows()
    first = join_utterances(rows, 3, seed=1)
    assert rows == make_rows()
    assert first == join_utterances(make_rows(), 3, seed=1)
    assert list(first) != list(join_utterances(rows, 3, seed=2))


@pytest.mark.parametrize("most", [1, 3])
def test_parts_of_a_file_are_joined_as_parts(most, tmp_path):
    """What a row hears are its parts of the file, whole files beside them."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 8000)
    noise = np.float32(np.round(noise * 2**15) / 2**15)
    soundfile.write(tmp_path / "a.wav", noise, 8000, subtype="PCM_16")
    soundfile.write(tmp_path / "b.wav", -noise, 8000, subtype="PCM_16")
    parts = [("a", 0.5, 0.25), ("b", 0, None), ("a", 0, 0.125)]
    lines = [
        {
            "audio_filepath": f"{name}.wav",
            "text": name,
            "offset": offset,
            "duration": duration,
            "session": "s",
        }
        for name, offset, duration in parts
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = prepare_manifests(manifest, None, None, str(tmp_path))
    tokenizer = SimpleNamespace(sp=SimpleNamespace(encode_as_ids=list))
    hparams = {"sample_rate": 8000, "seed": 4}
    with make_dataset(files["train"], hparams, tokenizer, most).output_keys_as(
        ["sig", "duration", "wrd", "voice"]
    ) as data:
        rows = [data[i] for i in range(len(data))]
    heard = [noise[4000:6000], -noise, noise[:1000]]
    assert len(rows) == 3 if most == 1 else len(rows) < 3
    assert np.array_equal(
        np.concatenate([row["sig"].numpy() for row in rows]),
        np.concatenate(heard),
    )
    assert [len(row["sig"]) / 8000 for row in rows] == [
        pytest.approx(float(row["duration"])) for row in rows
    ]
    assert " ".join(row["wrd"] for row in rows) == "A B A"
    # The speaker's first part, not the first file.
    path, start, stop = rows[0]["voice"].split("\n")
    assert (path, start, stop) == (str(tmp_path / "a.wav"), "4000", "6000")
