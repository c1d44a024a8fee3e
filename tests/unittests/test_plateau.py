"""Tests of what helps CTC to leave its plateau, and is said if it does not.

Authors
* speechbrain_lact contributors 2026
"""

import pytest

from speechbrain_lact.processing.sessions import SessionBatchSampler
from speechbrain_lact.training.experiment import load_experiment
from speechbrain_lact.training.plateau import plateau_message

ROOT = __file__.rpartition("/tests/")[0]


def test_message_from_half_of_the_steps():
    assert plateau_message(49, 100, 100.0, 0.001) is None
    assert plateau_message(100, 100, 60.0, 0.001) is None
    said = plateau_message(50, 100, 97.0, 0.001)
    assert "step 50 of 100" in said and "lr: 0.0005" in said
    assert "\n" not in said


SIZES = [5, 1, 3, 2, 7, 1, 1]
NAMES = [f"s{i}" for i, size in enumerate(SIZES) for _ in range(size)]
PLACES = [place for size in SIZES for place in range(size)]
SECONDS = [(7 * i) % 20 + 1 for i in range(len(NAMES))]


def sampler(epoch, *share, batch=2, **options):
    """Batches of an epoch, of which the first two are sorted."""
    options = {"durations": SECONDS, "sorted_epochs": 2, **options}
    found = SessionBatchSampler(
        NAMES, PLACES, batch, True, 1, *share, **options
    )
    found.set_epoch(epoch)
    assert len(found) == len(list(found))
    return list(found)


@pytest.mark.parametrize("epoch", [1, 2])
def test_first_epochs_have_utterances_of_like_duration(epoch):
    batches = sampler(epoch)
    assert sorted(sum(batches, [])) == list(range(len(NAMES)))
    assert all(len(batch) == 2 for batch in batches)
    # Durations are 1 to 20, each once, and all in one pool.
    assert all(SECONDS[a] + 1 == SECONDS[b] for a, b in batches)
    assert batches != sorted(batches, key=lambda b: SECONDS[b[0]])
    assert sampler(1) != sampler(2)


def test_later_epochs_are_those_of_sessions():
    plain = sampler(3, durations=None, sorted_epochs=0)
    assert sampler(3) == plain != sampler(2)
    with pytest.raises(ValueError, match="durations"):
        sampler(1, durations=None)


def test_processes_share_the_batches_of_one():
    whole = sampler(1, batch=4)
    shares = [sampler(1, rank, 2) for rank in range(2)]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for batch, *parts in zip(whole, *shares):
        assert sorted(batch) == sorted(sum(parts, []))


def test_mini_speech_has_settings_of_its_own(tmp_path, monkeypatch):
    """Those of little real speech are not for the corpus that is made."""
    monkeypatch.setattr(
        "speechbrain_lact.training.experiment.prepare_data",
        lambda settings, skip_prep=False: {"train": "none.csv"},
    )
    mini = f"{ROOT}/hparams/mini.yaml"
    found = {}
    for data in ("null", str(tmp_path)):
        given = (
            f"{{output_folder: {tmp_path}, size: mini, data_folder: {data}}}"
        )
        hparams, _ = load_experiment(
            f"{ROOT}/hparams/conformer_ctc.yaml", given, mini
        )
        names = ("lr", "sorted_epochs", "train_splits")
        found[data] = [hparams[name] for name in names]
        assert hparams["d_model"] == 128
    assert found["null"] == [0.003, 0, ["train-clean-100"]]
    assert found[str(tmp_path)][:2] == [0.001, 4]
    assert len(found[str(tmp_path)][2]) == 3
