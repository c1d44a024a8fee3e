"""Several processes that train together, and what one must not do alone.

Authors
* speechbrain_lact contributors 2026
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import speechbrain as sb
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.processing.sessions import SessionBatchSampler
from speechbrain_lact.training.global_batches import GlobalBatches
from speechbrain_lact.utils.checkpoints import WholeCheckpointer

ROOT = Path(__file__).parents[2]
BEGIN = """
import json, os, sys, time
import torch
rank = int(os.environ["RANK"])
torch.distributed.init_process_group("gloo")
from test_processes import *
from speechbrain_lact.utils.checkpoints import RandomState
"""
LIMIT = 90  # seconds, after which they stand still


def together(script, *arguments, processes=2):
    """Runs a script in processes of one group; what each has printed last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
        place.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        # For `test_processes`; the package is in the current folder.
        path = [Path(__file__).parent, os.environ.get("PYTHONPATH", ROOT)]
        place["PYTHONPATH"] = os.pathsep.join(map(str, path))
        env = {**os.environ, **{k: str(v) for k, v in place.items()}}
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", BEGIN + script, *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=env,
                cwd=ROOT,
            )
        )
    try:
        found = [process.communicate(timeout=LIMIT) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(running, found):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in found]


class Full:
    """Something whose saving fails in one process."""

    per_process = True

    def __init__(self, fails):
        self.fails = fails

    def _save(self, path):
        with open("/dev/full" if self.fails else path, "w") as file:
            file.write("something")


SCRIPT = """
real = os.replace

def late(*names):
    time.sleep(1)
    real(*names)

os.replace = late  # where a checkpoint gets its name
saver = WholeCheckpointer(sys.argv[1], {"net": torch.nn.Linear(2, 2)})
saver.add_recoverable("random", RandomState())
torch.manual_seed(rank)
seen = []
for _ in range(3):
    saver.save_and_keep_only(num_to_keep=1)
    seen.append([str(c.path) for c in saver.list_checkpoints()])
drawn = torch.rand(3).tolist()
saver.recover_if_possible()
again = torch.rand(3).tolist()
failed = []
for bad in range(2):  # the main process, the other
    full = Full(rank == bad)
    hooks = {"custom_save_hooks": {"full": lambda obj, path: obj._save(path)}}
    saver = WholeCheckpointer(sys.argv[1], {"full": full}, **hooks)
    try:
        saver.save_checkpoint()
    except OSError as error:
        failed.append(str(error))
left = [str(c.path) for c in saver.list_checkpoints()]
learned = [train(rank, 2, factor=factor) for factor in (1, 3)]
print(json.dumps([[seen, drawn, again, failed, left], learned]))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes have seen of their checkpoints, and learned."""
    return together(SCRIPT, tmp_path_factory.mktemp("save"))


def test_checkpoints_are_the_same_in_all_processes(found):
    """However late the main process gives them their name; what is drawn is
    each one's own; a full disk ends all."""
    (one, _), (two, _) = found
    assert one[0] == two[0]
    assert [len(paths) for paths in one[0]] == [1, 1, 1]
    assert len({paths[0] for paths in one[0]}) == 3
    assert one[1] == one[2] and two[1] == two[2] and one[1] != two[1]
    for _, _, _, failed, left in (one, two):
        assert len(failed) == 2 and left == one[0][-1]
        for line in failed:
            assert "no checkpoint could be written" in line
            assert "No space left on device" in line


class Net(GlobalBatches, sb.Brain):
    """Squares of what a linear layer makes of a waveform."""

    def compute_forward(self, batch, stage):
        wavs = batch.sig.data
        out, loud = self.modules.net(wavs), wavs.abs().amax(1) > 5
        # A process without a loud row does not use these parameters.
        if loud.any():
            out = torch.where(loud[:, None], self.modules.rare(out), out)
        return out

    def compute_objectives(self, predictions, batch, stage):
        return predictions.square().mean()

    def fit_batch(self, batch):
        if self.step == self.hparams.stop:
            raise InterruptedError("killed")
        if self.step == self.hparams.asked:
            signal.raise_signal(signal.SIGTERM)
        loss = super().fit_batch(batch)
        self.losses.append(float(loss))
        return loss


# Utterances of each batch. 8 and 9 cannot be read; 10 is not finite.
BATCHES = [
    [0, 1, 2],
    [3, 8, 4],
    [8, 9],
    [5, 9],
    [6, 10, 7],
    [11, 0],
    [2, 3, 4, 5],
]


def train(
    rank=0,
    world=1,
    folder=None,
    stop=None,
    asked=None,
    factor=1,
    epochs=2,
    batches=BATCHES,
):
    """Learns from every `world`-th utterance of each batch."""
    draw = torch.Generator().manual_seed(0)
    rows = {i: {"sig": torch.randn(4, generator=draw)} for i in range(12)}
    rows[8]["sig"] = rows[9]["sig"] = None
    rows[10]["sig"][1] = math.nan
    rows[11]["sig"] *= 9
    data = DynamicItemDataset(rows, output_keys=["id", "sig"])
    batches = [batch[rank::world] for batch in batches]
    torch.manual_seed(rank)  # other weights, until they are shared
    modules = {"net": torch.nn.Linear(4, 4), "rare": torch.nn.Linear(4, 4)}
    counter = sb.utils.epoch_loop.EpochCounter(epochs)
    saver = None
    if folder is not None:
        saver = WholeCheckpointer(folder, {"counter": counter})
        saver.add_recoverable("net", modules["net"])
        saver.add_recoverable("rare", modules["rare"])
    brain = Net(
        modules,
        lambda parameters: torch.optim.AdamW(parameters, 0.01),
        hparams={"stop": stop, "asked": asked},
        run_opts={
            "device": "cpu",
            "distributed_launch": world > 1,
            "distributed_backend": "gloo",
            "grad_accumulation_factor": factor,
            "ckpt_interval_steps": int(asked is None),
            "noprogressbar": True,
        },
        checkpointer=saver,
    )
    brain.losses, brain.bad_files = [], set()
    loader = make_dataloader(data, batch_sampler=batches, collate_fn=Batch)
    if saver is not None:
        saver.add_recoverable("loader", loader)
    try:
        brain.fit(counter, loader)
    except InterruptedError:
        pass
    return {
        "losses": brain.losses,
        "steps": brain.optimizer_step,
        "weights": [p.flatten().tolist() for p in brain.modules.parameters()],
        "bad": sorted(map(int, brain.bad_files)),
    }


def test_two_processes_learn_as_one_with_their_batches(found):
    """Of different sizes; without anything to learn from in one of them, or
    in both; with a parameter that one of them does not use."""
    (_, left), (_, right) = found
    for factor, one, two in zip((1, 3), left, right):
        alone = train(factor=factor)
        # 7 batches, of which 2 have nothing: 5 steps; or 3 groups of 3, 3, 1
        assert alone["steps"] == (2 * 5 if factor == 1 else 2 * 3)
        for both in (one, two):
            assert both["steps"] == alone["steps"]
            for name in ("losses", "weights"):
                for here, there in zip(both[name], alone[name]):
                    assert here == pytest.approx(there, 1e-5, 1e-6, nan_ok=True)
        assert sorted({*one["bad"], *two["bad"]}) == alone["bad"] == [8, 9]


@pytest.mark.parametrize("stop", range(2, 8))
def test_a_kill_within_a_step_of_several_batches_loses_nothing(tmp_path, stop):
    whole = train(factor=3)
    train(folder=tmp_path, stop=stop, factor=3)
    resumed = train(folder=tmp_path, factor=3)
    assert resumed["weights"] == whole["weights"]
    assert resumed["steps"] == whole["steps"]


@pytest.mark.parametrize("asked", (2, 7))
def test_sigterm_ends_with_a_checkpoint_after_the_step(tmp_path, asked):
    """And what a signal does is as before."""
    before = signal.getsignal(signal.SIGTERM)
    whole = train(factor=3)
    first = train(folder=tmp_path, asked=asked, factor=3)
    assert signal.getsignal(signal.SIGTERM) == before
    assert first["steps"] == (1 if asked == 2 else 3)
    resumed = train(folder=tmp_path, factor=3)
    assert resumed["weights"] == whole["weights"]


def test_what_is_left_at_the_end_of_an_epoch_is_learned():
    """As one step, of the mean over the batches that are left."""
    found = train(factor=3, epochs=1, batches=[[0], [2], [4], [6], [7]])
    one = train(factor=1, epochs=1, batches=[[0, 2, 4], [6, 7]])
    assert found["steps"] == one["steps"] == 2
    for here, there in zip(found["weights"], one["weights"]):
        assert here == pytest.approx(there, rel=1e-5, abs=1e-6)


def test_processes_share_the_sessions_of_one():
    """Sessions of any length: each is played by one process, in order; none
    is left out; together the batches are those of one process."""
    sizes = [5, 1, 3, 2, 7, 1, 1]
    names = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    places = [place for size in sizes for place in range(size)]
    whole = list(SessionBatchSampler(names, places, 4, seed=1))
    shares = [
        list(SessionBatchSampler(names, places, 2, True, 1, rank, 2))
        for rank in range(2)
    ]
    assert len(whole) == len(shares[0]) == len(shares[1])
    for batch, *parts in zip(whole, *shares):
        assert sorted(batch) == sorted(sum(parts, []))
    heard = [{names[i] for b in share for i in b} for share in shares]
    assert not heard[0] & heard[1] and heard[0] | heard[1] == set(names)
    assert sorted(sum(shares[0] + shares[1], [])) == list(range(len(names)))
