"""Measuring adaptation as a user does: processes, files, a miniature corpus.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import sentencepiece
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML

from speechbrain_lact.corpora.conditions import Utterance
from speechbrain_lact.corpora.layout import write_chapter, write_speakers
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.evaluation.adaptation.baselines import (
    recognise_plain,
    recognise_whole_sessions,
    tuning_sets,
)
from speechbrain_lact.evaluation.adaptation.hypotheses import verdict
from speechbrain_lact.evaluation.adaptation.models import load_models
from speechbrain_lact.evaluation.adaptation.results import COMPARED
from speechbrain_lact.evaluation.adaptation.runner import Runner
from speechbrain_lact.evaluation.adaptation.scoring import count_errors
from speechbrain_lact.evaluation.adaptation.sessions import (
    group,
    is_scored,
    play_order,
)
from speechbrain_lact.evaluation.statistics import compare, wer_interval
from speechbrain_lact.inference.ASR import LaCTASR
from speechbrain_lact.inference.export import write_embedder, write_model
from speechbrain_lact.inference.speakers import SpeakerBank, load_embedder

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes" / "LibriSpeech" / "adaptation.py"
CONDITIONS = ("clean", "noise-0")
UTTERANCES = 6
WORDS = "THE CAT SAW A SHIP IN PLACE OF SHEEP".split()
SIZES = {
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 1,
    "kernel_size": 3,
    "cnn_channels": 2,
    "output_neurons": 30,
    "lact_chunk_size": 32,
    "lact_heads": 2,
}
ECAPA = """
sample_rate: 16000
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 20
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 20
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    lin_neurons: 16
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two voices, two sessions each: vowels at a pitch of their own, and
    words that nobody said. One file cannot be read."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    time, speakers = np.arange(16000) / 16000, []
    for voice, pitch in ((3001, 100), (3002, 180)):
        for chapter in (f"{voice}00", f"{voice}01"):
            said = []
            for _ in range(UTTERANCES):
                phase = 2 * np.pi * pitch * rng.uniform(0.9, 1.1) * time
                wav = sum(np.sin(k * phase) * rng.uniform() for k in range(20))
                wav *= rng.uniform(0.01, 0.02)
                wav += 1e-3 * rng.standard_normal(len(wav))
                said.append((" ".join(rng.choice(WORDS, 4)), wav))
            write_chapter(folder / "test-clean", voice, chapter, said)
        name = f"en rate={pitch} accent=en"
        speakers.append((voice, "F", "test-clean", 0.2, name))
    write_speakers(folder, speakers, "Vowels")
    path = sorted(folder.glob("test-clean/*/*/*.flac"))[1]
    audio, rate = soundfile.read(path)
    audio[100] = np.nan
    path.unlink()
    soundfile.write(path.with_suffix(".wav"), audio, rate, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of LaCT and of a Conformer, every parameter drawn at random."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "words").write_text("ABCDE FGHIJ KLMNO PQRST UVWXYZ")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "words"),
        model_prefix=str(folder / "tokenizer"),
        model_type="char",
        vocab_size=40,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    tokenizer = SimpleNamespace(prefix_model_file=folder / "tokenizer")
    for name in ("lact", "conformer"):
        with open(ROOT / "hparams" / f"{name}_ctc.yaml") as file:
            keys = YAML().load(file)
        sizes = {k: v for k, v in SIZES.items() if k in keys}
        sizes["output_folder"] = str(folder / "out")
        with open(ROOT / "hparams" / f"{name}_ctc.yaml") as file:
            yaml = resolve_references(file, sizes).getvalue()
        (folder / "all.yaml").write_text(yaml)
        hparams = load_hyperpyyaml(yaml)
        torch.manual_seed(0)
        for parameter in hparams["model"].parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        noise = torch.randn(1, 16000)
        feats = hparams["compute_features"](noise, torch.ones(1))
        feats = feats[0] if isinstance(feats, tuple) else feats
        hparams["normalize"](feats, torch.ones(1), epoch=0)
        write_model(folder / name, folder / "all.yaml", hparams, tokenizer)
    return {name: folder / name for name in ("lact", "conformer")}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    """Folder of an encoder of voices, untrained."""
    folder = tmp_path_factory.mktemp("embedder")
    (folder / "all.yaml").write_text(ECAPA)
    torch.manual_seed(0)
    model = load_hyperpyyaml(ECAPA)["embedding_model"]
    write_embedder(folder / "model", folder / "all.yaml", model, 0.99)
    return folder / "model"


@pytest.fixture(scope="module")
def adaptation():
    """What the script defines."""
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def flags(data, models, embedder, output):
    """What is typed."""
    return [
        f"--data_folder={data}",
        f"--output_folder={output}",
        "--models",
        *(f"{name}={folder}" for name, folder in models.items()),
        f"--embedder={embedder}",
        "--test_splits=test-clean",
        "--conditions",
        *CONDITIONS,
        "--fine_tune",
        "9",
        "--suta_lr=0.01",
        "--fine_tune_lr=0.01",
        "--batch_size=3",
    ]


def with_folders(given, folders):
    """Arguments in which names in capitals are replaced by folders."""
    for name, folder in folders.items():
        given = [text.replace(name.upper(), str(folder)) for text in given]
    return given


def command(*arguments):
    """The script as a process."""
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


@pytest.fixture(scope="module")
def whole(data, models, embedder, tmp_path_factory):
    """Output folder of a run that was killed and started again; what it had
    done before, and what it printed."""
    out = tmp_path_factory.mktemp("out")
    call = command(*flags(data, models, embedder, out))
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(call, cwd=ROOT, **pipes)
    done = []
    while len(done) < 5 and process.poll() is None:
        done = list(out.glob("runs/*_lact_*.json"))
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "adaptation.json").exists()
    before = {p: p.stat().st_mtime_ns for p in done}
    again = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-3000:]
    return out, before, again


def heard(out, condition, system):
    """What a system heard."""
    (path,) = out.glob(f"runs/{condition}_{system}_*.json")
    return json.loads(path.read_text())


def test_a_kill_loses_nothing_that_was_done(whole):
    out, before, _ = whole
    assert len(before) >= 5
    for path, changed in before.items():
        assert path.stat().st_mtime_ns == changed, path.name
    assert not list(out.glob("runs/*.part"))


def test_tables_come_from_the_errors(whole, data):
    out, _, again = whole
    content = json.loads((out / "adaptation.json").read_text())
    told, errors = content["utterances"], content["errors"]
    systems = [f"lact {kind}" for kind in ("carried", "reset", "oracle")]
    systems += [f"lact {kind}" for kind in ("detected", "other", "frozen")]
    systems += ["conformer", "conformer session"]
    systems += ["conformer SUTA", "conformer fine-tuned 9"]
    assert list(errors) == list(CONDITIONS)
    rows = {(r["condition"], r["system"]): r for r in content["rows"]}
    assert len(rows) == len(content["rows"]) == 2 * len(systems)
    for (condition, system), row in rows.items():
        everyone = told["clean"]
        scored = [k for k, u in everyone.items() if u["position"] >= 5]
        assert len(scored) == row["utterances"] == 2 * 2 * 2
        (seed,) = errors[condition][system]
        some = system.endswith((" SUTA", " 9"))
        assert set(seed) == set(scored if some else everyone)
        speakers = [everyone[k]["speaker"] for k in scored]
        found = wer_interval(
            speakers,
            [seed[k] for k in scored],
            [everyone[k]["words"] for k in scored],
        )
        assert (row["WER"], row["WER_low"], row["WER_high"]) == found
        if row["against"]:
            (other,) = errors[condition][row["against"]]
            pair = [[x[k] for k in scored] for x in (seed, other)]
            found = compare(speakers, *pair)
            assert (row["difference"], row["p"]) == (found.difference, found.p)
    assert list(dict.fromkeys(system for _, system in rows)) == systems
    judged = {(r["hypothesis"], r["condition"]) for r in content["hypotheses"]}
    assert {h for h, _ in judged} == {"H1", "H3", "H4", "H5"}
    wer = {name: row["WER"] for name, row in rows.items()}
    for row in content["headroom"]:
        place = row["condition"]
        gain = wer[place, "conformer"] - wer[place, "conformer session"]
        mine = wer[place, "lact reset"] - wer[place, "lact carried"]
        assert (row["headroom"], row["gain"]) == (gain, mine)
        certain = row["difference_high"] < 0
        assert row["share"] == (mine / gain if certain else None)
    assert len(content["headroom"]) == len(CONDITIONS)
    with open(out / "adaptation.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    table = (out / "adaptation.md").read_text()
    assert table in again.stdout and "95 % intervals" in table
    assert re.search(r"\| clean +\| rate ", table)  # of SPEAKERS.TXT
    for system in systems:
        assert re.search(rf"\| {system} +\|", table)
    picture = (out / "adaptation.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    for row in content["costs"]:
        assert row["recognising"] > 0
        tuned = row["system"].endswith((" SUTA", " 9"))
        assert ("learning" in row and row["learning"] is not None) == (
            tuned or row["system"] == "lact"
        )


def test_bad_file_is_left_out_for_all(whole, data):
    out, _, again = whole
    (bad,) = data.glob("test-clean/*/*/*.wav")
    content = json.loads((out / "adaptation.json").read_text())
    assert content["bad_files"] == {"clean": [bad.stem]}
    assert "could not be read: 1" in again.stdout
    assert bad.stem in again.stdout + again.stderr
    assert bad.stem not in content["utterances"]["clean"]
    assert len(content["utterances"]["clean"]) == 2 * 2 * UTTERANCES - 1
    for systems in content["errors"].values():
        assert not any(bad.stem in seed for (seed,) in systems.values())


def test_session_of_one_utterance_is_the_utterance(
    whole, data, models, embedder, adaptation
):
    out, *_ = whole
    given = adaptation.parse(flags(data, models, embedder, out))
    given.models = [f"conformer={models['conformer']}"]
    ((model,),) = load_models(given.models, given.device).values()
    sets, _ = adaptation.prepare(given)
    bar, some = mock.Mock(), sets["clean"][:6]

    def wave(utterance):
        return read_audio(utterance.wav, 16000)

    alone = recognise_plain(model, some, wave, 1, bar)
    single = [replace(u, session=u.key) for u in some]
    assert recognise_whole_sessions(model, single, wave, bar) == alone


@pytest.mark.parametrize(
    "told, words, parts",
    [
        (["A B", "C"], "A B C", ["A B", "C"]),
        (["A B", "C"], "X B D", ["X B", "D"]),
        (["A B", "C", "D"], "A D", ["A", "", "D"]),
        (["A", "B"], "X Y A Z Z B", ["X Y A Z Z", "B"]),
    ],
)
def test_each_utterance_has_its_words_of_the_session(told, words, parts):
    """With no more errors in all than the session has."""
    model = SimpleNamespace(recognise_alone=lambda wav: words.split())
    some = [
        Utterance(f"u{i}", "", text, "a", "s", i, 1.0)
        for i, text in enumerate(told)
    ]
    bar = mock.Mock()
    heard = recognise_whole_sessions(model, some, lambda u: torch.ones(5), bar)
    assert list(heard.values()) == parts
    errors = count_errors(some, heard)
    whole = [Utterance("s", "", " ".join(told), "a", "s", 0, 1.0)]
    (fewest,) = count_errors(whole, {"s": words}).values()
    assert sum(errors.values()) == fewest


def test_many_at_a_time_is_one_after_the_other(
    whole, data, models, embedder, adaptation
):
    """What was heard in batches, with the calls that a user makes."""
    out, *_ = whole
    asr = LaCTASR.from_hparams(str(models["lact"]), savedir=None)
    given = adaptation.parse(flags(data, models, embedder, out))
    sets, _ = adaptation.prepare(given)
    order = play_order(sets["clean"])
    sessions = list(dict.fromkeys(u.session for u in order))
    assert [s[:4] for s in sessions] == ["3001", "3002", "3001", "3002"]
    states, found = {}, {}
    for utterance in order:
        wav = asr.load_audio(utterance.wav)[None]
        place = (
            utterance.session,
            sum(
                u.session == utterance.session
                and u.position < utterance.position
                for u in order
            ),
        )
        for kind, name in (
            ("carried", utterance.session),
            ("oracle", utterance.speaker),
            ("reset", None),
        ):
            state = states.get(name)
            if kind == "carried":
                states[place] = state
            (words,), state = asr.transcribe_words(wav, torch.ones(1), state)
            text = " ".join(word.text for word in words)
            found.setdefault(kind, {})[utterance.key] = text
            if name:
                states[name] = state
    # The next session is of the other speaker.
    for utterance in order:
        i = sessions.index(utterance.session)
        step = [u for u in order if u.session == utterance.session].index(
            utterance
        )
        stranger = sessions[(i + 1) % len(sessions)]
        wav = asr.load_audio(utterance.wav)[None]
        state = states.get((stranger, step), states[stranger])
        words = asr.transcribe_words(wav, torch.ones(1), state)[0][0]
        found.setdefault("other", {})[utterance.key] = " ".join(
            word.text for word in words
        )
    for kind, texts in found.items():
        wanted = heard(out, "clean", f"lact_{kind}")["heard"]
        assert {k: " ".join(t.split()) for k, t in texts.items()} == wanted
    assert len({json.dumps(texts) for texts in found.values()}) == 4
    frozen = heard(out, "clean", "lact_frozen")
    assert frozen["heard"] != found["reset"]
    assert heard(out, "clean", "lact_carried")["updates"] >= 1


def test_detected_is_a_bank_of_speakers(
    whole, data, models, embedder, adaptation, tmp_path
):
    """The bank itself, one utterance after the other, states and all."""
    out, *_ = whole
    asr = LaCTASR.from_hparams(str(models["lact"]), savedir=None)
    given = adaptation.parse(flags(data, models, embedder, out))
    sets, _ = adaptation.prepare(given)
    found, encoder = {}, load_embedder(embedder)
    with SpeakerBank(tmp_path / "bank", asr, encoder, threshold=0.99) as bank:
        for utterance in play_order(sets["clean"]):
            wav = asr.load_audio(utterance.wav)
            name, _ = bank.recognise(wav)
            (words,), state = asr.transcribe_words(
                wav[None], torch.ones(1), bank.state(name)
            )
            bank.update(name or utterance.key, state, wav)
            found[utterance.key] = " ".join(word.text for word in words)
        memories = len(bank)
    run = heard(out, "clean", "lact_detected")
    assert run["heard"] == found
    assert run["voices"]["memories"] == memories > 1


def test_peers_learn_and_nothing_scored_is_learned(
    whole, data, models, embedder, adaptation
):
    out, *_ = whole
    plain = heard(out, "clean", "conformer_as-it-is")["heard"]
    for system in ("SUTA", "fine-tuned-9"):
        run = heard(out, "clean", f"conformer_{system}")
        assert run["learning"]["seconds"] > 0 and run["learning"]["audio"] > 0
        assert any(plain[k] != text for k, text in run["heard"].items())
    sets, _ = adaptation.prepare(
        adaptation.parse(flags(data, models, embedder, out))
    )
    voices = group(play_order(sets["clean"]), lambda u: u.speaker)
    for own in voices.values():
        early = sum(u.position < 4 for u in own[:5])
        whole = early + 2
        for count, sizes in (
            (1, (1, 1)),
            (3, (3, 3)),
            (9, (early, whole)),
        ):
            parts = list(tuning_sets(own, count))
            assert tuple(len(learned) for learned, _ in parts) == sizes
            rest = [u for _, rest in parts for u in rest]
            assert rest == [u for u in own if is_scored(u)]
            for learned, rest in parts:
                assert not set(learned) & set(rest)


def test_other_settings_are_other_runs(
    whole, data, models, embedder, adaptation, tmp_path
):
    """What is kept belongs to one model, one corpus and one way to learn."""
    out, *_ = whole
    arguments = flags(data, models, embedder, out)

    def paths(*more, folder=data):
        given = adaptation.parse([*arguments, *more])
        given.data_folder = str(folder)
        loaded = load_models(given.models, given.device)
        sets, _ = adaptation.prepare(given)
        runner = Runner(loaded, sets, adaptation.options(given))
        return {
            (task.condition, task.model.name, task.system): task.path(out).name
            for task in runner.tasks
        }

    def changed(other):
        return {key for key in first if first[key] != other[key]}

    first = paths()
    assert not changed(paths())
    assert {s for _, _, s in changed(paths("--suta_lr=0.02"))} == {"SUTA"}
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    text = sorted(folder.glob("test-clean/*/*/*.trans.txt"))[0]
    text.write_text(text.read_text().replace("CAT", "COT"))
    other = changed(paths(folder=folder))
    assert other == set(first)
    swapped = {name: tmp_path / name for name in models}
    for name, path in swapped.items():
        shutil.copytree(models[name], path)
    yaml = swapped["lact"] / "hyperparams.yaml"
    yaml.write_text(yaml.read_text().replace("chunk_size: 32", "chunk_size: 8"))
    pairs = (f"{name}={path}" for name, path in swapped.items())
    other = changed(paths("--models", *pairs))
    assert {name for _, name, _ in other} == {"lact"}


@pytest.mark.parametrize(
    "given, message",
    [
        (["--models", "lact"], "NAME=FOLDER"),
        (["--models", "lact=/no/such"], "lact=/no/such: no exported model"),
        (["--models", "a=LACT", "a=LACT"], "twice the same model"),
        (["--models", "a=LACT", "a=CONFORMER"], "different kinds"),
        (
            ["--models", "a=LACT", "b=CONFORMER", "b=LACT"],
            "as many folders of each name",
        ),
        (["--conditions", "fog"], "--conditions fog: one of clean, noise-20"),
        (["--test_splits", "test-quiet"], "test-quiet"),
        (["--data_folder", "/no/such"], "/no/such"),
        (["--embedder", "/no/such"], "/no/such: no encoder of voices"),
    ],
)
def test_wrong_input_is_one_line(
    data, models, adaptation, tmp_path, monkeypatch, given, message
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arguments = [f"--data_folder={data}", f"--output_folder={tmp_path}"]
    arguments.append("--test_splits=test-clean")
    with pytest.raises((ValueError, OSError), match=message):
        adaptation.main([*arguments, *with_folders(given, models)])


def test_short_sessions_are_refused(data, adaptation, tmp_path):
    chapter = sorted(data.glob("test-clean/*/*"))[-1]
    folder = tmp_path / "data" / "test-clean" / chapter.parent.name
    shutil.copytree(chapter, folder / chapter.name)
    (text,) = folder.glob("*/*.trans.txt")
    text.write_text("\n".join(text.read_text().splitlines()[:4]))
    arguments = [f"--data_folder={tmp_path / 'data'}"]
    arguments += [f"--output_folder={tmp_path / 'out'}", "--test_splits"]
    with pytest.raises(ValueError, match="test-clean.csv: no session has"):
        adaptation.main([*arguments, "test-clean"])


@pytest.mark.parametrize(
    "kind, numbers, wanted",
    [
        # difference, low, high, p, the same sign in all seeds
        ("H1", (-0.12, -0.2, -0.05, 0.01, True), "holds"),
        ("H1", (-0.08, -0.1, -0.05, 0.01, True), "does not hold"),
        ("H2", (-0.08, -0.1, -0.05, 0.01, True), "holds"),
        ("H2", (-0.08, -0.2, 0.05, 0.2, True), "does not hold"),
        ("H3", (0.2, 0.1, 0.3, 0.0, True), "does not hold"),
        ("H3", (-0.04, -0.05, -0.03, 0.0, True), "no difference"),
        ("H3", (-0.2, -0.3, -0.1, 0.0, False), "not decided"),
        ("H3", (-0.2, None, None, None, True), "no claim"),
        ("H4", (0.02, -0.02, 0.04, 0.3, True), "holds"),
        ("H4", (0.02, -0.02, 0.06, 0.3, True), "does not hold"),
        ("H5", (0.0, -0.04, 0.1, 0.9, True), "holds"),
        ("H5", (-0.1, -0.2, 0.0, 0.04, True), "does not hold"),
    ],
)
def test_verdicts(kind, numbers, wanted):
    row = dict(zip(COMPARED.values(), numbers))
    row.update(hypothesis=kind, p_corrected=row["p"])
    assert verdict(row) == wanted
