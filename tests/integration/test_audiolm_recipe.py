"""The recipes for audio language models as a user runs them.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import importlib.util
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.evaluation.audio.likelihood import nll_over_position
from speechbrain_lact.inference.AudioLM import AudioGenerator, load_tokenizer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "AudioLM"
with open(ROOT / "tests" / "recipes" / "AudioLM.csv") as table:
    ROWS = {Path(row["Hparam_file"]).stem: row for row in csv.DictReader(table)}

# Python that is killed when it has fitted so many batches.
KILLED = """
import os, runpy, signal, sys
from speechbrain_lact.training.audio_lm import AudioLMBrain

def on_fit_batch_start(brain, *arguments):
    if brain.optimizer_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

AudioLMBrain.on_fit_batch_start = on_fit_batch_start
sys.argv[:1] = []
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def command(name, data, output, *flags):
    """What is typed to train; later flags in place of earlier ones."""
    given = [*ROWS[name]["test_debug_flags"].split()]
    given += [f"--data_folder={data}", f"--output_folder={output}", *flags]
    options = {flag.split("=")[0]: flag for flag in given}
    yaml = str(ROOT / ROWS[name]["Hparam_file"])
    return [yaml, "--device=cpu", "--noprogressbar", *options.values()]


def run(script, *given):
    """Runs a script of the recipe; its output if it ended well."""
    done = subprocess.run(
        [sys.executable, str(RECIPES / script), *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """Folders of a trained tokenizer and of a language model on it."""
    folder = tmp_path_factory.mktemp("audiolm")
    run(
        "train_tokenizer.py",
        *command("audio_tokenizer", corpus, folder / "tokenizer"),
    )
    tokenizer = folder / "tokenizer" / "model"
    run(
        "train.py",
        *command(
            "lact_audiolm", corpus, folder / "lm", f"--tokenizer={tokenizer}"
        ),
    )
    return folder


def test_tokenizer_recipe_leaves_a_tokenizer(trained, corpus):
    results = json.loads((trained / "tokenizer" / "results.json").read_text())
    # 3 codebooks of 16 tokens, 50 frames a second.
    assert results["bits_per_second"] == pytest.approx(600)
    kinds = [row["audio of"] for row in results["rows"]]
    assert kinds[0] == "tokens" and "mel, Griffin-Lim" in kinds
    assert "kbit" not in (trained / "tokenizer" / "results.md").read_text()
    tokenizer = load_tokenizer(trained / "tokenizer" / "model")
    path = sorted(corpus.glob("test-clean/*/*/*.flac"))[0]
    wav = read_audio(str(path), 16000)
    tokens = tokenizer.encode(wav[None])
    # Codebooks were learned from such frames: many codes are in use, and
    # frames are nearer to their codes than to the mean.
    assert len(tokens[..., 0].unique()) > 5
    feats = tokenizer.features(wav[None])[0]
    rest = (feats - tokenizer.dequantize(tokens)).square().mean()
    assert rest < 0.6 * feats.square().mean()


def test_language_model_knows_what_its_results_say(trained, corpus):
    """The exported model, on streams made anew, has the bits per token of the
    table."""
    results = json.loads((trained / "lm" / "results.json").read_text())
    generator = AudioGenerator.from_hparams(trained / "lm" / "model")
    net, bits, count = generator.model, 0.0, 0
    assert net.voice is not None
    chapters = {}
    for path in sorted(corpus.glob("test-clean/*/*/*.flac")):
        wav = read_audio(str(path), 16000)
        chapters.setdefault(path.parent, []).append(generator.encode(wav))
    for tokens in chapters.values():
        rows = torch.cat([net.begin_row(), net.audio_rows(torch.cat(tokens))])
        found = nll_over_position(net, [rows], [0, len(rows)], segment=50)
        bits, count = bits + float(found[0].sum()), count + int(found[1].sum())
    # Without the voice, and without `end`: near, not equal.
    (row,) = [r for r in results["rows"] if r["state"] == "carried"]
    assert bits / count == pytest.approx(row["bits per token"], rel=0.02)
    assert row["tokens"] == count + len(chapters)


def test_killed_run_goes_on_where_it_was(trained, corpus, tmp_path):
    tokenizer = f"--tokenizer={trained / 'tokenizer' / 'model'}"
    flags = [
        tokenizer,
        "--ckpt_interval_minutes=0",
        "--ckpt_interval_steps=1",
    ]
    given = command("lact_audiolm", corpus, tmp_path / "lm", *flags)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(RECIPES / "train.py"),
            *given,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr[-3000:]
    run("train.py", *given)
    one, other = (
        json.loads((folder / "results.json").read_text())["rows"]
        for folder in (trained / "lm", tmp_path / "lm")
    )
    assert one == other


def test_two_optimizers_share_the_weights(trained):
    """Attention and feed-forward have matrices of their own optimizer; both
    rates have fallen to nothing at the end."""
    (folder,) = (trained / "lm" / "save").glob("CKPT*")
    saved = [
        torch.load(folder / f"{name}.ckpt")
        for name in ("optimizer", "matrix_optimizer")
    ]
    model = torch.load(folder / "model.ckpt")
    assert len(saved[1]["state"]) == 4
    assert sum(len(part["state"]) for part in saved) == len(model)
    for part in saved:
        (group,) = part["param_groups"]
        assert group["lr"] == pytest.approx(0, abs=1e-9)


def test_another_tokenizer_is_another_run(trained, corpus, tmp_path):
    """What was learned of the tokens before is not taken for them."""
    shutil.copytree(trained / "lm", tmp_path / "lm")
    shutil.copytree(trained / "tokenizer" / "model", tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.safetensors"
    weights = load_file(path)
    weights["codebooks"] = weights["codebooks"].flip(1).contiguous()
    save_file(weights, path)
    flags = [f"--tokenizer={tmp_path / 'other'}"]
    with pytest.raises(AssertionError) as caught:
        run(
            "train.py",
            *command("lact_audiolm", corpus, tmp_path / "lm", *flags),
        )
    line = str(caught.value)
    assert "holds another run (tokenizer: " in line
    assert "another --output_folder" in line and "Traceback" not in line


@pytest.mark.parametrize("name", ["window_audiolm", "transformer_audiolm"])
def test_peers_train(trained, corpus, tmp_path, name):
    tokenizer = f"--tokenizer={trained / 'tokenizer' / 'model'}"
    run("train.py", *command(name, corpus, tmp_path, tokenizer))
    results = json.loads((tmp_path / "results.json").read_text())
    assert 0 < results["rows"][0]["bits per token"] < 5
    generator = AudioGenerator.from_hparams(tmp_path / "model")
    wav, _, _ = generator.generate(generator.begin(), 0.5, may_end=False)
    assert len(wav) == 8000 and bool(wav.isfinite().all())


def test_generate_writes_what_it_says(trained, corpus, tmp_path):
    prompt = sorted(corpus.glob("test-clean/*/*/*.flac"))[0]
    model = trained / "lm" / "model"
    given = ["--model", model, "--seconds", 1.5, "--prompt", prompt]
    given += ["--reference", prompt, "--enhance", "--seed", 4]
    out = run("generate.py", *given, "--output", tmp_path / "one")
    assert "1.5 s of audio" in out
    wav, rate = soundfile.read(tmp_path / "one" / "generated.wav")
    assert rate == 16000 and len(wav) == 24000
    found = json.loads((tmp_path / "one" / "measures.json").read_text())
    assert found["seconds"] == 1.5
    assert found["whole"]["token_entropy"] > 0
    assert found["enhancement"]["after"]["clicks"] == 0
    assert (tmp_path / "one" / "spectrogram.png").stat().st_size > 5000
    # The same seed makes the same audio, with whatever buffer.
    run("generate.py", *given, "--buffer", 0.06, "--output", tmp_path / "two")
    again, _ = soundfile.read(tmp_path / "two" / "generated.wav")
    assert abs(wav - again).max() < 1e-3


def test_generate_says_text_and_scores_it(trained, tmp_path):
    model = trained / "lm" / "model"
    given = ["--model", model, "--seconds", 2, "--text", "One two. Three."]
    run("generate.py", *given, "--output", tmp_path)
    found = json.loads((tmp_path / "measures.json").read_text())
    assert found["words"] == 3 and found["seconds"] <= 2


@pytest.mark.parametrize(
    "given, named",
    [
        (["--top_p", "0"], "top_p"),
        (["--temperature", "-1"], "temperature"),
        (["--text", "123"], "text"),
        (["--prompt", "missing.wav"], "missing.wav"),
        (["--domain", "music"], "music"),
    ],
)
def test_generate_names_what_is_wrong(trained, tmp_path, given, named):
    model = ["--model", str(trained / "lm" / "model")]
    main = runpy.run_path(str(RECIPES / "generate.py"))["main"]
    with pytest.raises((ValueError, OSError), match=named):
        main([*model, "--output", str(tmp_path), *given])


def test_generate_refuses_in_one_line(trained, tmp_path):
    given = ["--model", trained / "lm" / "model", "--seconds", 0]
    done = subprocess.run(
        [sys.executable, str(RECIPES / "generate.py"), *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("generate.py: seconds")


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """The benchmark, for seconds of audio instead of minutes."""
    path = ROOT / "benchmarks" / "audio_lm.py"
    spec = importlib.util.spec_from_file_location("audio_lm", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "PROMPT", 1.0)
    monkeypatch.setattr(module, "PIECE", 3.0)
    monkeypatch.setattr(module, "ENDS", (3, 4, 100))
    return module


def test_benchmark_keeps_what_it_has(
    trained, corpus, tmp_path, monkeypatch, benchmark
):
    """It ends at the second model, which goes on alone later."""
    model, make = trained / "lm" / "model", benchmark.generate
    given = f"--data={corpus}/test-clean --count=2 --sentences=2 --seconds=5"
    command = [*given.split(), "--only", "coherence", "text", "--models"]

    def stops(generator, prompts, seconds, name):
        if name == "second":
            raise KeyboardInterrupt
        return make(generator, prompts, seconds, name)

    monkeypatch.setattr(benchmark, "generate", stops)
    with pytest.raises(KeyboardInterrupt):
        benchmark.main([*command, f"first={model}", f"second={model}"])
    monkeypatch.setattr(benchmark, "generate", make)
    kept = json.loads((tmp_path / "audio_lm.json").read_text())["pieces"]
    assert list(kept["systems"]) == ["real", "first"]
    benchmark.main([*command, f"second={model}"])
    found = json.loads((tmp_path / "audio_lm.json").read_text())
    pieces = found["pieces"]["systems"]
    assert found["pieces"]["settings"]["ends"] == [3, 4]
    assert pieces["first"] == kept["systems"]["first"] == pieces["second"]
    ((one, two),) = pieces["real"]
    # Over both voices: of one alone chance may decide.
    made = pieces["first"][0][0], pieces["first"][1][1]
    real, made = (
        sum(piece["speaker_similarity"] for piece in pair)
        for pair in ((one, two), made)
    )
    assert real > made
    # The recogniser understands a voice, and nothing of an untrained model.
    words = found["text"]["systems"]
    assert list(words) == ["real", "tokenizer", "second"]
    (errors, count), (other, _) = (
        map(sum, zip(*words[n])) for n in ("real", "second")
    )
    assert errors < 0.6 * count and other > 0.8 * count
    table = (tmp_path / "audio_lm.md").read_text()
    rows = [[c.strip() for c in r.split("|")] for r in table.splitlines()]
    assert sum("first" in row for row in rows) == 2
    assert any(row[1:3] == ["real", "any"] for row in rows)
    assert (tmp_path / "audio_lm_coherence.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "given, named",
    [
        ("--count=3", "--count: 3, .* 2"),
        ("--sentences=7", "--sentences: 7, .* 6"),
    ],
)
def test_benchmark_names_what_is_too_much(
    trained, corpus, benchmark, given, named
):
    command = [f"--data={corpus}/test-clean", given, "--only"]
    command += ["coherence" if "count" in given else "text"]
    with pytest.raises(ValueError, match=named):
        benchmark.main([*command, f"--models=a={trained / 'lm' / 'model'}"])


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="no folder of a trained model"):
        AudioGenerator.from_hparams(tmp_path)
