"""Transfer to another domain as a user measures it: a process, files, a
miniature corpus and miniature models.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import test_adaptation
import torch
from tqdm import tqdm

from speechbrain.utils.metric_stats import ErrorRateStats
from speechbrain_lact.corpora.layout import write_chapter
from speechbrain_lact.evaluation.transfer import jobs
from speechbrain_lact.evaluation.transfer.methods import (
    adapt,
    trainable_parameters,
)
from speechbrain_lact.evaluation.transfer.verdicts import judge
from speechbrain_lact.inference.ASR import LaCTASR
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.lobes.models.pretrained import PretrainedFrontEnd

SCRIPT = test_adaptation.SCRIPT.with_name("transfer.py")
UTTERANCES = 6  # of which two are scored
STEPS = [0, 1, 4, 8]

models = test_adaptation.models  # folders of LaCT and of a Conformer


@pytest.fixture(scope="module")
def data(models, tmp_path_factory):
    """Two voices in each part of a domain: vowels at a pitch of their own,
    and words that nobody said; in the test, those that LaCT hears with its
    state carried."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    time = np.arange(16000) / 16000
    for number, part in enumerate(("train", "dev", "test")):
        for voice, pitch in ((1, 100), (2, 180)):
            said = []
            for _ in range(UTTERANCES):
                phase = 2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time
                wav = sum(np.sin(k * phase) * rng.uniform() for k in range(20))
                wav *= rng.uniform(0.01, 0.02)
                wav += 1e-3 * rng.standard_normal(len(wav))
                words = " ".join(rng.choice(test_adaptation.WORDS, 4))
                said.append((words, wav))
            speaker = 10 * (number + 1) + voice
            write_chapter(folder / f"{part}-hum", speaker, speaker, said)
    asr = LaCTASR.from_hparams(str(models["lact"]), savedir=None)
    for path in folder.glob("test-hum/*/*/*.trans.txt"):
        state, lines = None, []
        for key in (line.split()[0] for line in path.open()):
            wav = asr.load_audio(path.with_name(f"{key}.flac"))[None]
            words, state = asr.transcribe_words(wav, torch.ones(1), state)
            text = " ".join(word.text for word in words[0])
            lines.append(f"{key} {text}\n")
        path.write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def transfer():
    """What the script defines."""
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def flags(data, models, output):
    """What is typed. Eight utterances are learned: one batch, every step."""
    return [
        f"--data_folder={data}",
        f"--output_folder={output}",
        "--models",
        *(f"{name}={folder}" for name, folder in models.items()),
        "--domains=hum",
        "--seconds_of_audio=8.5",
        "--steps",
        *map(str, STEPS),
        "--rates=0.003",
        "--memory_rates=0.003",
        "--threads=1",
    ]


@pytest.fixture(scope="module")
def whole(data, models, tmp_path_factory):
    """Output folder and what was printed."""
    out = tmp_path_factory.mktemp("out")
    call = [sys.executable, str(SCRIPT), *flags(data, models, out)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


@pytest.fixture(scope="module")
def content(whole):
    """`transfer.json`, its rows by system and way, and the files of runs."""
    out, _ = whole
    found = json.loads((out / "transfer.json").read_text())
    paths, runs = {}, {}
    for row in found["rows"]:
        paths.setdefault((row["system"], row["way"]), []).append(row)
    for key, name in zip(paths, found.pop("runs")):
        runs[key] = json.loads((out / "runs" / name).read_text())
    return SimpleNamespace(**found, paths=paths, runs=runs)


def test_all_ways_are_measured(whole, content):
    out, printed = whole
    lact = ["as it is", "carried", "initial memory", "fine-tuned"]
    wanted = [("lact", way) for way in lact]
    wanted += [("conformer", way) for way in ("as it is", "fine-tuned")]
    assert list(content.paths) == wanted
    for (_, way), path in content.paths.items():
        trained = way in ("initial memory", "fine-tuned")
        assert [r["steps"] for r in path] == (STEPS if trained else [0])
        seconds = [r["seconds"] for r in path]
        assert seconds[0] == 0 and sorted(set(seconds)) == seconds
    scored = {
        f"{speaker}-{speaker}-{i:04d}" for speaker in (31, 32) for i in (4, 5)
    }
    for run in content.runs.values():
        assert all(set(point["errors"]) == scored for point in run["points"])
    assert len(content.lessons["hum"]) == 8
    table = (out / "transfer.md").read_text()
    assert table in printed
    assert all(f"- {line}\n" in table for line in content.judged)
    with open(out / "transfer.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(content.rows)
    assert (out / "transfer.png").read_bytes().startswith(b"\x89PNG")


def test_before_the_first_step_it_is_the_model(content, data, models):
    """WER, with the calls that a user makes."""
    rates = {}
    for name, folder in models.items():
        told, heard = [], []
        asr = LaCTASR.from_hparams(str(folder), savedir=None)
        for path in sorted(data.glob("test-hum/*/*/*.trans.txt")):
            for line in path.read_text().splitlines()[4:]:
                key, words = line.split(" ", 1)
                wav = asr.load_audio(path.with_name(f"{key}.flac"))[None]
                texts, _ = asr.transcribe_batch(wav, torch.ones(1))
                told.append(words.split())
                heard.append(texts[0].split())
        stats = ErrorRateStats()
        stats.append(list(map(str, range(len(told)))), heard, told)
        rates[name] = pytest.approx(stats.summarize("error_rate"))
    for (system, way), path in content.paths.items():
        wanted = rates[system]
        if system == "lact" and way != "as it is":
            wanted = 0  # the words are those
        assert path[0]["WER"] == wanted, (system, way)
    assert content.paths["lact", "as it is"][0]["WER"] > 10


def test_training_lowers_the_loss(content, data, models, transfer):
    for (_, way), run in content.runs.items():
        losses = [point["loss"] for point in run["points"]][1:]
        if losses:
            assert sorted(set(losses), reverse=True) == losses, way
    # All begin with the same loss, which is that of the model.
    first = {
        key: path[1]["loss"]
        for key, path in content.paths.items()
        if len(path) > 1
    }
    assert first["lact", "initial memory"] == first["lact", "fine-tuned"]
    asr = LaCTASR.from_hparams(str(models["conformer"]), savedir=None)
    lines = {}
    for path in data.glob("train-hum/*/*/*.trans.txt"):
        for line in path.read_text().splitlines():
            key, words = line.split(" ", 1)
            ids = asr.tokenizer.encode_as_ids(words)
            wav = asr.load_audio(path.with_name(f"{key}.flac"))
            lines[key] = wav, torch.tensor([i for i in ids if i])
    wavs, targets = zip(*(lines[key] for key in content.lessons["hum"]))
    sizes = torch.tensor([len(target) for target in targets])
    with torch.no_grad():
        log_probs = asr.encoder.eval()(torch.stack(wavs))
    frames = torch.full_like(sizes, log_probs.shape[1])
    loss = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat(targets),
        frames,
        sizes,
        zero_infinity=True,
    )
    assert first["conformer", "fine-tuned"] == pytest.approx(loss.item(), 1e-4)


def adapted(transfer, data, folder, way, output):
    """A model of a folder, and the copy after two steps."""
    given = transfer.parse(flags(data, {"x": folder}, output))
    (model,) = transfer.load_one_each(given)
    utterances = transfer.prepare(given)["hum"]["train"]
    before = fingerprint(model.encoder)
    with tqdm(disable=True) as bar:
        ((point, student),) = adapt(model, way, utterances, [2], 0.003, bar)
    assert point["steps"] == 2 and fingerprint(model.encoder) == before
    return model, student


def changed(model, student):
    """Names of what the copy has otherwise."""
    old = dict(model.encoder.named_parameters())
    old.update(model.encoder.named_buffers())
    new = dict(student.encoder.named_parameters())
    new.update(student.encoder.named_buffers())
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_initial_memory_is_all_that_changes(data, models, transfer, tmp_path):
    part = data, models["lact"]
    pair = adapted(transfer, *part, "initial memory", tmp_path)
    kinds = {name.rpartition(".")[2] for name in changed(*pair)}
    assert kinds == {"w0", "w1", "w2"}
    names = changed(*adapted(transfer, *part, "fine-tuned", tmp_path))
    assert {name.split(".")[0] for name in names} >= {
        "cnn",
        "transformer",
        "head",
    }


def test_pretrained_encoder_is_tuned_too(tiny_host):
    """One that was frozen when the model was trained."""
    front = PretrainedFrontEnd(tiny_host("wav2vec2"), 32)
    encoder = torch.nn.Module()
    encoder.cnn = front
    model = SimpleNamespace(encoder=encoder, mixers=[])
    learned = trainable_parameters(model, "fine-tuned")
    front(torch.randn(1, 8000))[0].square().sum().backward()
    moved = [value for value in learned if value.grad is not None]
    assert len(moved) > 0.9 * len(list(front.host.parameters()))


def test_what_is_done_is_kept(whole, data, models, transfer, monkeypatch):
    out, _ = whole
    before = (out / "transfer.json").read_bytes()
    arguments = flags(data, models, out)
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "do", None)  # nothing is left to do
        transfer.main(arguments)
    assert (out / "transfer.json").read_bytes() == before

    def paths(*more):
        given = transfer.parse([*arguments, *more])
        loaded = transfer.load_one_each(given)
        domains = transfer.prepare(given)
        planned = jobs.plan(transfer.options(given), loaded, domains)
        return {(j.model.name, j.system): j.path(out).name for j in planned}

    first = paths()
    for option, ways in (
        ("--seconds_of_audio=3.5", {way for _, way in first}),
        ("--memory_rates=0.01", {"initial memory"}),
        ("--steps=3", {"initial memory", "fine-tuned"}),
    ):
        other = paths(option)
        differ = {way for _, way in first if first[_, way] != other[_, way]}
        assert differ == ways, option


def path_of(system, way, memory, rates):
    """Rows of `collect_rows`: a step takes a second."""
    return [
        {
            "domain": "hum",
            "system": system,
            "way": way,
            "memory": memory,
            "seconds": float(i),
            "WER": rate,
        }
        for i, rate in enumerate(rates)
    ]


@pytest.mark.parametrize(
    "initial, tuned, of_initial, verdict",
    [
        ([60, 50], [60, 55, 52, 50], "1.0 s, 33% of its 3.0 s", "holds"),
        ([60, 51], [60, 55, 52, 50], "1.0 s, 33% of its 3.0 s", "holds"),
        ([60, 60, 50], [60, 55, 52, 50], "67% of its 3.0 s", "does not hold"),
        # Tuning was as good after its first step.
        ([60, 50], [60, 51, 52, 50], "100% of its 1.0 s", "does not hold"),
        ([60, 52], [60, 55, 52, 50], "not reached (best: 52.0 %)", "not hold"),
        ([60, 50], [50, 55, 52, 50], "1.0 s", "no claim"),
    ],
)
def test_verdicts(initial, tuned, of_initial, verdict):
    rows = path_of("a", "carried", True, [60])
    rows += path_of("a", "initial memory", True, initial)
    rows += path_of("a", "fine-tuned", True, [60, 40])
    rows += path_of("b", "fine-tuned", False, tuned)
    rows += path_of("c", "fine-tuned", False, [60, 20])
    goal, own = "hum, b fine-tuned (50.0 %): ", "hum, a fine-tuned (40.0 %): "
    lines = judge(rows)
    (line,) = (x for x in lines if x.startswith(f"{goal}a initial memory: "))
    assert line.endswith(f"{of_initial}.")
    (line,) = (x for x in lines if f"half, {goal}a: " in x)
    assert verdict in line.removesuffix(".").rpartition(": ")[2]
    assert f"{goal}a fine-tuned: 1.0 s" in "\n".join(lines)
    # The same start to the bit; and nobody else is judged by it.
    assert f"H6, its second half, {own}a: does not hold." in lines
    assert not any(x.startswith(f"{own}b") or "hum, c" in x for x in lines)


@pytest.mark.parametrize(
    "given, message",
    [
        (["--models", "a=/no/such"], "a=/no/such: no exported model"),
        (["--models", "a=VOICES"], "a=.*: no recogniser with CTC"),
        (["--models", "a=LACT", "a=CONFORMER"], "--models"),
        (["--domains", "law"], "train-law"),
        (["--data_folder", "/no/such"], "--domains hum: neither --data_folder"),
        (["--seconds_of_audio", "0.5"], "--seconds_of_audio 0.5: the first"),
        (["--steps", "0"], "--steps 0: at least 1"),
        (["--rates", "0"], "--rates 0.0: at least"),
    ],
)
def test_wrong_input_is_one_line(
    data, models, transfer, tiny_ecapa, tmp_path, given, message
):
    folders = {**models, "voices": tiny_ecapa}
    given = test_adaptation.with_folders(given, folders)
    arguments = flags(data, {"lact": models["lact"]}, tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        transfer.main([*arguments, *given])
