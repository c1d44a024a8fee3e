"""Tests of the experiments' YAMLs: they load, fit together, and say nothing
that is not used.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import inspect
import re
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML

from speechbrain.utils.run_opts import RunOptions
from speechbrain_lact.training.experiment import begin_run, prepare_data

ROOT = Path(__file__).parents[2]
MINI = ROOT / "hparams" / "mini.yaml"
SPEAKER = ROOT / "hparams" / "ecapa_speaker.yaml"
ALL = sorted(set((ROOT / "hparams").glob("*.yaml")) - {MINI})
TOKENIZER = ROOT / "hparams" / "audio_tokenizer.yaml"
AUDIO_LMS = sorted((ROOT / "hparams").glob("*_audiolm.yaml"))
WHISPERS = sorted((ROOT / "hparams").glob("whisper_*.yaml"))
OTHERS = {SPEAKER, TOKENIZER, *AUDIO_LMS, *WHISPERS}
YAMLS = [path for path in ALL if path not in OTHERS]  # of recognisers
# What reads a YAML: a recipe's script and modules of `training`.
ASR = ("asr", "beam_search", "data", "experiment", "settings", "tokenizer")
SCRIPTS = {
    SPEAKER: ("MiniSpeech/train_speaker.py", "speaker", "speaker_data"),
    TOKENIZER: (
        "AudioLM/train_tokenizer.py",
        "audio_tokenizer",
        "../evaluation/audio/tokenizer_quality",
    ),
    **dict.fromkeys(
        AUDIO_LMS, ("AudioLM/train.py", "audio_lm", "audio_lm_data")
    ),
    **dict.fromkeys(WHISPERS, ("Whisper/train.py", "whisper", "whisper_data")),
}
NAMES = [path.stem for path in ALL]


def load(path, tmp_path, overrides=()):
    """The experiment, its parameters without memory behind them."""
    # Not parameters, and they compute while they are made.
    keys = {"compute_features", "speed_perturb"}
    none = dict.fromkeys(keys & YAML().load(path.read_text()).keys())
    overrides = {"output_folder": str(tmp_path), **dict(overrides), **none}
    with open(path, encoding="utf-8") as file, torch.device("meta"):
        return load_hyperpyyaml(file, overrides)


def count(hparams, *names):
    """Number of parameters."""
    return sum(p.numel() for name in names for p in hparams[name].parameters())


def mini_for(path):
    """The part of mini.yaml that this YAML has, without data."""
    keys = YAML().load(path.read_text())
    mini = YAML().load(MINI.read_text())
    return {k: v for k, v in mini.items() if k in keys}


@pytest.mark.parametrize("path", ALL, ids=NAMES)
def test_every_key_is_used(path):
    script, *modules = SCRIPTS.get(path, ("LibriSpeech/train.py", *ASR))
    text, code = path.read_text(), (ROOT / "recipes" / script).read_text()
    for name in modules:
        place = ROOT / "speechbrain_lact" / "training" / f"{name}.py"
        code += place.read_text()
    if path in SCRIPTS:
        code += inspect.getsource(prepare_data) + inspect.getsource(begin_run)
    options = RunOptions().as_dict()
    unused = []
    for key in YAML().load(text):
        used = (
            re.search(rf"<{key}[>.\[]", text)
            or re.search(rf"""["']{key}["']|hparams\.{key}\b""", code)
            or key in options
            or key == "__set_seed"
        )
        if not used:
            unused.append(key)
    assert unused == []


def test_audio_language_models_have_equal_sizes(tmp_path):
    sizes = {}
    for path in AUDIO_LMS:
        hparams = load(path, tmp_path, {"domains": ["speech", "music"]})
        sizes[path.stem] = count(hparams, "model")
    for size in sizes.values():
        assert abs(size / sizes["lact_audiolm"] - 1) < 0.05, sizes


def test_every_key_of_mini_is_in_some_yaml():
    keys = {key for path in YAMLS for key in YAML().load(path.read_text())}
    mini = YAML().load(MINI.read_text())
    assert set(mini.pop("mini_speech")) | set(mini) <= keys


@pytest.mark.parametrize("small", [False, True])
def test_encoders_have_equal_sizes(tmp_path, small):
    sizes = {
        path.stem: count(
            load(path, tmp_path, mini_for(path) if small else {}),
            "Transformer",
        )
        for path in YAMLS
        # wav2vec2: sizes are the pretrained encoder's; see test_pretrained.py
        if "raw" not in path.stem and "wav2vec2" not in path.stem
    }
    for name, size in sizes.items():
        kind = name.split("_")[-1]
        assert abs(size / sizes[f"lact_{kind}"] - 1) < 0.05, (name, sizes)


@pytest.mark.parametrize(
    "width, layers, least, most",
    [
        (768, 12, 150e6, 200e6),
        (1024, 24, 550e6, 650e6),
        (1536, 24, 1.25e9, 1.4e9),
    ],
)
def test_large_sizes_build(tmp_path, width, layers, least, most):
    sizes = {"d_model": width, "num_encoder_layers": layers, "nhead": 16}
    hparams = load(ROOT / "hparams" / "lact_ctc.yaml", tmp_path, sizes)
    assert least < count(hparams, "Transformer") < most


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_stride_is_one_key(tmp_path, stride, device):
    overrides = {
        **mini_for(ROOT / "hparams" / "lact_ctc.yaml"),
        "output_folder": str(tmp_path),
        "stride": stride,
        "num_encoder_layers": 1,
    }
    with open(ROOT / "hparams" / "lact_ctc.yaml") as file:
        hparams = load_hyperpyyaml(file, overrides)
    hparams["model"].to(device)
    src, lengths = hparams["CNN"](torch.randn(1, 80, 80, device=device))
    out = hparams["Transformer"].encode(src, lengths)
    assert out.shape[1] == 80 // stride
    assert bool(out.isfinite().all())


def test_every_yaml_has_a_recipe_row():
    rows = []
    for path in (ROOT / "tests" / "recipes").glob("*.csv"):
        with open(path) as file:
            rows += csv.DictReader(file)
    for column in (
        "Script_file",
        "Hparam_file",
        "Data_prep_file",
        "Readme_file",
    ):
        for row in rows:
            assert (ROOT / row[column]).is_file(), row[column]
    assert {Path(row["Hparam_file"]).stem for row in rows} == set(NAMES)


def test_the_encoder_of_voices_is_small(tmp_path):
    # On the CPU: its constructor computes, and 4 bytes a parameter.
    hparams = {"output_folder": str(tmp_path), "out_n_neurons": 240}
    with open(SPEAKER, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, hparams)
    assert 4 * count(hparams, "embedding_model") < 2e6
