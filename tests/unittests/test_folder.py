"""Loading a model runs no code of its folder: hostile folders at every door,
and honest ones, which load as SpeechBrain loads them.

Authors
* speechbrain_lact contributors 2026
"""

import importlib
import pickle
import random
import shutil
import sys
from pathlib import Path

import numpy
import pytest
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML

from speechbrain.utils.fetching import FetchConfig
from speechbrain_lact.cli import main
from speechbrain_lact.convert import convert, read_converted
from speechbrain_lact.inference import folder as reading
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.AudioLM import (
    DEFAULT_TOKENIZER,
    AudioGenerator,
    load_tokenizer,
)
from speechbrain_lact.inference.enhancement import load_enhancer
from speechbrain_lact.inference.export import dump_yaml, inference_yaml
from speechbrain_lact.inference.folder import Untrusted, load_yaml, read_yaml
from speechbrain_lact.inference.speakers import (
    SMALL_EMBEDDER,
    SpeakerBank,
    load_embedder,
)
from speechbrain_lact.utils.checkpoints import RandomState

ROOT = Path(__file__).parents[2]
HPARAMS = ROOT / "hparams"

# Lines added to an honest YAML, MARK a file that they try to make, HERE the
# folder; what the message names; whether HyperPyYAML makes the file (None: it
# does not, or later).
HOSTILE = {
    "a call": ("x: !apply:os.system ['touch MARK']", "!apply:os.system", True),
    "a call in block style": (
        "x: !apply:os.system\n  - touch MARK",
        "!apply:os.system",
        True,
    ),
    "an object": (
        "x: !new:subprocess.Popen [[touch, MARK]]",
        "!new:subprocess.Popen",
        None,
    ),
    "python's own tag": (
        "x: !!python/object/apply:os.system ['touch MARK']",
        "!!python/object/apply:os.system",
        True,
    ),
    "python's own object": (
        "x: !!python/object/new:subprocess.Popen [[touch, MARK]]",
        "!!python/object/new:subprocess.Popen",
        None,
    ),
    "a verbatim tag": (
        "x: !<!apply:os.system> ['touch MARK']",
        "!apply:os.system",
        True,
    ),
    "an encoded tag": (
        "x: !apply:os%2Esystem ['touch MARK']",
        "!apply:os.system",
        True,
    ),
    "within a list": (
        "x: [1, {y: [!apply:os.system ['touch MARK']]}]",
        "x[1].y[0]: !apply:os.system",
        True,
    ),
    "within a tuple": (
        "x: (!!python/object/apply:os.system ['touch MARK'],)",
        "!!python/object/apply:os.system in a tuple",
        True,
    ),
    "under two names": (
        "x: &y !apply:os.system ['touch MARK']\nz: *y",
        "x: !apply:os.system",
        True,
    ),
    "merged": (
        "x: &y {z: !apply:os.system ['touch MARK']}\nu: {<<: *y}",
        "x.z: !apply:os.system",
        True,
    ),
    "merged alone": (
        "u: {<<: {z: !apply:os.system ['touch MARK']}}",
        "!!merge",
        True,
    ),
    "referred to": (
        "y: !ref <x[z]>\nx: {z: !apply:os.system ['touch MARK']}",
        "!apply:os.system",
        True,
    ),
    "hidden": (
        "__x: !apply:os.system ['touch MARK']",
        "!apply:os.system",
        True,
    ),
    "a key": (
        "? !apply:os.system ['touch MARK']\n: 1",
        "a key !apply:os.system",
        None,
    ),
    "while references are followed": (
        "x: !applyref:os.system ['touch MARK']",
        "!applyref:os.system",
        True,
    ),
    "another file": ("x: !include:more.yaml {}", "!include:more.yaml", True),
    "a module that is imported": (
        "x: !module:imported_part",
        "!module:imported_part",
        True,
    ),
    "a name that is imported": (
        "x: !name:imported_part.Part",
        "!name:imported_part.Part",
        True,
    ),
    "a class that is imported": (
        "x: !new:imported_part.Part",
        "!new:imported_part.Part",
        True,
    ),
    "an own class": (
        "x: !new:own_part.Made [MARK]",
        "!new:own_part.Made",
        True,
    ),
    "a string that is run": (
        "x: !apply:eval [\"open('MARK', 'w')\"]",
        "!apply:eval",
        True,
    ),
    "a shell of SpeechBrain": (
        "x: !apply:speechbrain.utils.superpowers.run_shell ['touch MARK']",
        "!apply:speechbrain.utils.superpowers.run_shell",
        True,
    ),
    "an import of SpeechBrain": (
        "x: !apply:speechbrain.utils.superpowers.import_from_path"
        " [HERE/imported_part.py]",
        "!apply:speechbrain.utils.superpowers.import_from_path",
        True,
    ),
    "a pickle through SpeechBrain": (
        "x: !apply:speechbrain.dataio.dataio.load_pkl [HERE/hostile.pkl]",
        "!apply:speechbrain.dataio.dataio.load_pkl",
        True,
    ),
    "a pickle through torch": (
        "x: !apply:torch.load {f: HERE/hostile.pt, weights_only: False}",
        "!apply:torch.load",
        True,
    ),
    "through a module of ours": (
        "x: !apply:speechbrain_lact.inference.export.shutil.os.system"
        " ['touch MARK']",
        "!apply:speechbrain_lact.inference.export.shutil.os.system",
        True,
    ),
    "a class of another, through a module of ours": (
        "x: !new:speechbrain_lact.dataio.audio.Path.cwd [MARK]",
        "!new:speechbrain_lact.dataio.audio.Path.cwd",
        None,
    ),
    "a custom class of SpeechBrain": (
        "x: !apply:speechbrain.inference.interfaces.foreign_class"
        " {source: HERE, savedir: HERE/saved, hparams_file: more.yaml}",
        "!apply:speechbrain.inference.interfaces.foreign_class",
        True,
    ),
    "a class called by a list of layers": (
        "x: !new:speechbrain.nnet.containers.Sequential"
        " [!name:own_part.Made [MARK]]",
        "!new:speechbrain.nnet.containers.Sequential",
        None,
    ),
    "a hook": (
        "x: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
        "  loadables: {y: 1}\n"
        "  custom_hooks: {y: !name:imported_part.Part }",
        "!name:imported_part.Part",
        True,
    ),
    "control characters": (
        "x: !apply:os%1B%5B31m%0Asystem ['touch MARK']",
        "x: !apply:os [31m system is not",
        None,
    ),
    "a method": (
        "x: !apply:getattr [!new:torch.nn.GELU [], to]",
        "x: the attribute to",
        None,
    ),
    "a method, referred to": (
        "x: !ref <normalize.register_forward_hook>",
        "x: the attribute register_forward_hook",
        None,
    ),
    "a private attribute": (
        "x: !ref <normalize._version>",
        "x: the attribute _version",
        None,
    ),
    "other arguments of getattr": (
        "x: !apply:getattr {a: 1}",
        "x: !apply:getattr",
        None,
    ),
    "a tag that is renamed": (
        "%TAG !e! !apply:os.\n---\nx: !e!system ['touch MARK']",
        "!apply:os.system",
        None,
    ),
}

CUSTOM = """
class Part:
    pass


class CustomInterface(Part):
    def __init__(self, **kwargs):
        pass
"""
OWN = """
class Made:
    def __init__(self, path):
        open(path, "w").close()


class Part:
    size = 3
"""


class Opens:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """Makes a copy of an honest folder hostile: the folder, the file that
    must not appear."""
    monkeypatch.syspath_prepend(str(tmp_path / "model"))

    def make(lines, honest=MODEL_IN_THE_BOX):
        folder, made = tmp_path / "model", tmp_path / "made"
        shutil.copytree(honest, folder, dirs_exist_ok=True)
        lines = lines.replace("MARK", str(made)).replace("HERE", str(folder))
        text = (folder / "hyperparams.yaml").read_text()
        # Directives come first.
        text = f"{lines}\n{text}"
        (folder / "hyperparams.yaml").write_text(text)
        call = f"x: !apply:os.system ['touch {made}']\n"
        (folder / "more.yaml").write_text(call)
        imported = f"open({str(made)!r}, 'w').close()\n{CUSTOM}"
        for name in ("imported_part.py", "custom.py"):
            (folder / name).write_text(imported)
        (folder / "own_part.py").write_text(OWN)
        (folder / "hostile.pkl").write_bytes(pickle.dumps(Opens(made)))
        torch.save(Opens(made), folder / "hostile.pt")
        importlib.invalidate_caches()
        for name in ("imported_part", "own_part"):
            sys.modules.pop(name, None)
        return folder, made

    yield make
    for name in ("imported_part", "own_part"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("lines, named, runs", HOSTILE.values(), ids=HOSTILE)
def test_nothing_runs(lines, named, runs, hostile):
    """At the door of recognisers, and HyperPyYAML does what is feared."""
    folder, made = hostile(lines)
    with pytest.raises(Untrusted) as refused:
        LaCTASR.from_hparams(folder)
    assert not made.exists()
    said = str(refused.value)
    assert said.startswith(f"{folder}/hyperparams.yaml, line ")
    assert named in said and "--trust" in said and "trust=True" in said
    assert "\n" not in said
    if runs:
        try:
            load_yaml(folder / "hyperparams.yaml", trust=True)
        except Exception:  # of what was made, too late
            pass
        assert made.exists()


# Lines that would take all memory or time, or mean nothing; what is said.
BROKEN = {
    "a power": ("a: 9\nb: !ref <a>**<a>**<a>", "powers are not computed"),
    "division by zero": ("a: 0\nb: !ref 1/<a>", "zero"),
    "aliases of aliases": (
        "a0: &a0 [1, 1]\n"
        + "".join(
            f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n"
            for n in range(1, 9)
        ),
        "more values than any model has",
    ),
    "copies of copies": (
        "a0: [1, 1]\n"
        + "".join(
            f"a{n}: [{', '.join([f'!copy <a{n - 1}>'] * 9)}]\n"
            for n in range(1, 9)
        ),
        "more values than any model has",
    ),
    "texts of texts": (
        "a0: long long text\n"
        + "".join(
            f"a{n}: !ref {f'<a{n - 1}>' * 9} more\n" for n in range(1, 12)
        ),
        "a very long text",
    ),
    "itself": ("a: &a [*a]", "a[0]: refers to itself"),
    "itself, by names": ("a: !ref <b>\nb: [!ref <a>]", "refers to itself"),
    "copies of itself": ("a: [!copy <a>]", "refers to itself"),
    "deep": ("a: " + "[" * 500 + "]" * 500, "too deep"),
    "nowhere": ("a: !ref <nowhere>", "line 1: a: <nowhere>: no such key"),
    "twice": ("a: 1\nb: {c: 1, c: 2}", "line 2: b.c: given twice"),
    "large": ("a: " + "1" * 2**17, "larger than any model's YAML"),
    "a list in a text": ("a: [1]\nb: !ref <a>/x", "no plain value"),
    "no number": ("a: !!int x", "line 1: a: x is no !!int"),
    "no truth": ("a: [!!bool x]", "line 1: a[0]: x is no !!bool"),
    "no date": ("2024-99-99: 1", "2024-99-99 is no !!timestamp"),
    "sizes": (
        "a: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN\n"
        "  input_size: 8\n  channels: [1, 2]",
        "line 1: a: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN: ",
    ),
    "no names": (
        "a: !new:torch.nn.GELU {1: 2}",
        "line 1: a: !new:torch.nn.GELU: ",
    ),
    "lines in a key": ('"a\\nb": !ref <c>', "a b: <c>: no such key"),
    "two documents": ("a: 1\n---\nb: 1", "no YAML of a model"),
    "a list": ("- 1", "no settings of a model"),
    "nothing": ("", "no settings of a model"),
    "zeros": ("\0" * 100, "no YAML of a model"),
    "arguments": (
        "a: !new:torch.nn.GELU {b: 1}",
        "line 1: a: !new:torch.nn.GELU: ",
    ),
}


@pytest.mark.parametrize("text, said", BROKEN.values(), ids=BROKEN)
def test_broken_and_endless(text, said, tmp_path):
    path = tmp_path / "hyperparams.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        read_yaml(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and said in message
    assert "\n" not in message and "--trust" not in message


CALL = HOSTILE["a call"][0]


def refused_by(door, folder, made, file="hyperparams.yaml", what="os.system"):
    """The door names the file and what is in it."""
    with pytest.raises(ValueError) as refused:
        door()
    assert not made.exists()
    said = str(refused.value)
    assert said.startswith(f"{folder}/{file}") and what in said
    assert "trust=True" in said and "\n" not in said


def test_other_doors_of_recognisers(hostile, tmp_path):
    folder, made = hostile(CALL)
    refused_by(
        lambda: LaCTASR.from_hparams(MODEL_IN_THE_BOX, savedir=folder),
        folder,
        made,
    )
    refused_by(
        lambda: LaCTASR.from_hparams(folder, "more.yaml"),
        folder,
        made,
        "more.yaml",
    )
    # By a link, and by a path that leaves the folder
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.yaml").symlink_to(folder / "more.yaml")
    for name in ("a.yaml", "../model/more.yaml"):
        refused_by(
            lambda: LaCTASR.from_hparams(tmp_path / "linked", name),
            tmp_path / "linked",
            made,
            name,
        )
    # What the caller puts in is not trusted more.
    refused_by(
        lambda: LaCTASR.from_hparams(
            MODEL_IN_THE_BOX,
            overrides={"normalize": {"norm_type": "global"}, "CNN": 1},
            savedir=folder,
        ),
        folder,
        made,
    )


def test_the_door_of_encoders_of_voices(hostile):
    folder, made = hostile(CALL, SMALL_EMBEDDER)
    refused_by(lambda: load_embedder(folder), folder, made)


def test_the_door_of_the_hub(hostile, tmp_path, monkeypatch):
    """A repository that has been fetched before."""
    folder, made = hostile(CALL, SMALL_EMBEDDER)
    cached = tmp_path / "hub" / "models--user--voices"
    commit = "0" * 40
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    options = {
        "fetch_config": FetchConfig(
            allow_network=False, huggingface_cache_dir=str(tmp_path / "hub")
        )
    }
    for door in (load_embedder, LaCTASR.from_hparams):
        refused_by(
            lambda: door("user/voices", **options),
            cached / "snapshots" / commit,
            made,
        )
    yaml = cached / "snapshots" / commit / "hyperparams.yaml"
    shutil.copy(Path(SMALL_EMBEDDER) / "hyperparams.yaml", yaml)
    for name in ("model.ckpt", "model.safetensors"):
        assert name == "model.ckpt" or (yaml.parent / name).exists()
    found = load_embedder("user/voices", **options)
    honest = load_embedder("small").state_dict()
    assert found.state_dict().keys() == honest.keys()
    assert all(torch.equal(w, honest[k]) for k, w in found.state_dict().items())


def test_the_doors_of_audio(hostile, tmp_path):
    folder, made = hostile(CALL, DEFAULT_TOKENIZER)
    refused_by(lambda: load_tokenizer(folder), folder, made)
    refused_by(lambda: AudioGenerator.from_hparams(folder), folder, made)
    refused_by(lambda: load_enhancer(str(folder)), folder, made)


def test_the_door_of_conversion(hostile, tmp_path):
    """No object is made of the experiment's YAML, whatever is in it."""
    folder, made = hostile(f"{CALL}\ny: !applyref:os.system ['touch MARK']")
    torch.save({}, tmp_path / "weights.ckpt")
    yaml = folder / "hyperparams.yaml"
    with pytest.raises(ValueError, match="no encoder of SpeechBrain"):
        convert(tmp_path / "weights.ckpt", tmp_path / "out", yaml)
    # What it has written becomes part of another YAML.
    for line in (
        f"nhead: !apply:os.system ['touch {made}']",
        f"nhead: \"(!!python/object/apply:os.system ['touch {made}'],)\"",
        f"nhead: [[!apply:os.system ['touch {made}']]]",
        "data_folder: /etc",
    ):
        (tmp_path / "settings.yaml").write_text(f"d_model: 8\n{line}\n")
        named = f"settings.yaml: {line.split(':')[0]}: .* a number or a word"
        with pytest.raises(ValueError, match=named):
            read_converted(tmp_path)
    assert not made.exists()


def test_the_door_of_banks(hostile, tmp_path):
    """A bank is tensors alone: nothing else in it is looked at."""
    folder, made = hostile(CALL)
    asr, embedder = (
        LaCTASR.from_hparams(MODEL_IN_THE_BOX),
        load_embedder("small"),
    )
    with SpeakerBank(folder, asr, embedder) as bank:
        assert bank.names() == []
    torch.save(Opens(made), folder / f"{'0' * 64}.safetensors")
    with pytest.raises(ValueError, match="0000.safetensors"):
        SpeakerBank(folder, asr, embedder)
    torch.save(Opens(made), tmp_path / "state")
    with pytest.raises(ValueError, match="state"):
        asr.load_state(tmp_path / "state")
    assert not made.exists()


def test_the_command_line(hostile, tmp_path, capfd):
    folder, made = hostile(CALL)
    (tmp_path / "a.wav").write_bytes(b"")
    audio = str(tmp_path / "a.wav")

    def said(*args):
        with pytest.raises(SystemExit) as stopped:
            main(list(args))
        assert stopped.value.code == 1
        return capfd.readouterr().err.splitlines()[-1]

    for command in (
        ["transcribe", audio, "--model", str(folder)],
        ["transcribe", audio, "--speakers", "--model", str(folder)],
        ["transcribe", audio, "--speakers", "--embedder", str(folder)],
        ["voices", str(tmp_path / "bank"), "--model", str(folder)],
        ["voices", str(tmp_path / "bank"), "--embedder", str(folder)],
    ):
        line = said(*command)
        assert line.startswith(f"speechbrain-lact: {folder}/hyperparams.yaml")
        assert "x: !apply:os.system" in line and "--trust" in line
        assert not made.exists()
    said("transcribe", audio, "--model", str(folder), "--trust")
    assert made.exists()


def test_what_is_trusted_loads(hostile):
    folder, made = hostile("x: !new:own_part.Part")
    with pytest.raises(Untrusted, match="x: !new:own_part.Part"):
        LaCTASR.from_hparams(folder)
    asr = LaCTASR.from_hparams(folder, trust=True)
    assert asr.hparams.x.size == 3 and not made.exists()
    folder, _ = hostile("x: !new:own_part.Part", SMALL_EMBEDDER)
    assert load_embedder(folder, trust=True).hparams.x.size == 3
    folder, _ = hostile("x: !new:own_part.Part", DEFAULT_TOKENIZER)
    assert load_tokenizer(folder, trust=True).codebook_sizes == [256] * 8


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("forced", [True, False])
def test_weights_that_are_code(zipped, forced, hostile, monkeypatch):
    """Also where torch is asked to load anything."""
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder, made = hostile("# honest")
    torch.save(
        {"glob_mean": Opens(made)},
        folder / "normalizer.ckpt",
        _use_new_zipfile_serialization=zipped,
    )
    refused_by(
        lambda: LaCTASR.from_hparams(folder),
        folder,
        made,
        "normalizer.ckpt",
        "open",
    )
    # As the hub has them
    yaml = folder / "hyperparams.yaml"
    yaml.write_text(
        (Path(SMALL_EMBEDDER) / "hyperparams.yaml")
        .read_text()
        .replace(
            "speechbrain_lact.inference.export.FolderPretrainer",
            "speechbrain.utils.parameter_transfer.Pretrainer",
        )
    )
    honest = load_embedder("small")
    weights = honest.mods.embedding_model.state_dict()
    torch.save(weights, folder / "model.ckpt")
    found = load_embedder(folder)
    samples = torch.randn(1, 16000)
    assert torch.equal(
        found.encode_batch(samples), honest.encode_batch(samples)
    )
    torch.save(
        {**weights, "more": Opens(made)},
        folder / "model.ckpt",
        _use_new_zipfile_serialization=zipped,
    )
    refused_by(
        lambda: load_embedder(folder), folder, made, "model.ckpt", "open"
    )


def test_files_that_leave_the_folder(hostile, tmp_path):
    """A pretrainer's names become files of `savedir`."""
    folder, made = hostile("# honest", SMALL_EMBEDDER)
    yaml = folder / "hyperparams.yaml"
    text = yaml.read_text().replace("    model:", "    ../../made:")
    yaml.write_text(text)
    with pytest.raises(ValueError, match="'../../made'"):
        load_embedder(folder, savedir=tmp_path / "a" / "b")
    text = text.replace(
        "speechbrain_lact.inference.export.FolderPretrainer",
        "speechbrain.utils.parameter_transfer.Pretrainer",
    )
    yaml.write_text(text)
    with pytest.raises(ValueError, match="'../../made' names no file"):
        load_embedder(folder, savedir=tmp_path / "a" / "b")
    assert not (tmp_path / "made.ckpt").exists()


def exported(path, folder, tiny_host):
    """The YAML that a run of an experiment exports, in small sizes."""
    keys = YAML().load(path.read_text())
    mini = YAML().load((HPARAMS / "mini.yaml").read_text())
    mini = {} if "audiolm" in path.stem else mini
    overrides = {k: v for k, v in mini.items() if k in keys}
    overrides["output_folder"] = str(folder)
    small = {
        "pretrained_source": "wav2vec2",
        "lact_hidden_size": 32,
        "lact_boundaries": "silence",
        "out_n_neurons": 2,
        "domains": ["speech"],
        "d_model": 32,
        "d_ffn": 32,
        "width": 32,
        "num_encoder_layers": 1,
    }
    overrides.update({k: v for k, v in small.items() if k in keys})
    if "pretrained_source" in keys:
        overrides["pretrained_source"] = tiny_host("wav2vec2")
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file, overrides).getvalue()
    if "ctc_lin" in keys:
        return inference_yaml(text)
    kept = ("compute_features", "mean_var_norm", "embedding_model", "model")
    kept = ("tokenizer",) if "tokenizer" in path.stem else kept
    settings = YAML().load(text)
    if "embedding_model" in settings:
        settings.pop("model", None)
    return dump_yaml({k: settings[k] for k in kept if k in settings})


@pytest.mark.parametrize(
    "path",
    # Of Whisper, parts without a YAML are written (test_whisper_recipe.py).
    sorted(
        set(HPARAMS.glob("*.yaml"))
        - {HPARAMS / "mini.yaml", *HPARAMS.glob("whisper_*.yaml")}
    ),
    ids=lambda path: path.stem,
)
def test_what_is_exported_loads(path, tmp_path, tiny_host):
    """The same objects, with the same weights, as HyperPyYAML makes."""
    text = exported(path, tmp_path, tiny_host)
    yaml = tmp_path / "hyperparams.yaml"
    yaml.write_text(text)
    torch.manual_seed(0)
    found = load_yaml(yaml)
    torch.manual_seed(0)
    expected = load_hyperpyyaml(text)
    assert list(found) == list(expected)
    modules = 0
    for name, value in expected.items():
        assert type(found[name]) is type(value), name
        if isinstance(value, torch.nn.Module):
            modules += 1
            weights = value.state_dict()
            assert found[name].state_dict().keys() == weights.keys()
            assert repr(found[name]) == repr(value)
            for key, weight in found[name].state_dict().items():
                assert torch.equal(weight, weights[key]), key
    assert modules
    if "encoder" in found:
        assert found["encoder"].transformer is found["Transformer"]
        assert found["pretrainer"].loadables["model"] is found["model"]


def test_values_are_those_of_hyperpyyaml(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(
        "a: 1e-5\nb: [0x10, 010, 1_000, .inf, ~, yes, true, 2024-01-01]\n"
        "c: (1, 2.5, x)\nd: !ref <a>\ne: !ref <f[g]> * 2 + 1\n"
        "f: {g: 3, h: 'no'}\ni: !ref <f[h]>/<f[g]>.ckpt\nj: !copy <f>\n"
        "k: &k [1, {l: 2}]\n" + "n: *k\no: !ref -<f[g]>\n"
        "p: !name:torch.nn.GELU\nq: !new:torch.nn.LayerNorm \n- !ref <f[g]>\n"
        "r: !ref <q.eps>\ns: plain <text>\nt: !ref <f[g]> // 2\nu: ''\n"
    )
    found, expected = load_yaml(path), load_yaml(path, trust=True)
    for values in (found, expected):
        values["q"] = repr(values["q"])
    assert found == expected
    assert [type(v) for v in found.values()] == [
        type(v) for v in expected.values()
    ]
    assert found["n"] is found["k"] and found["j"] is not found["f"]
    overrides = {"a": 2, "f": {"g": 5}}
    found = load_yaml(path, overrides)
    assert (found["d"], found["e"], found["f"]["h"]) == (2, 11, "no")
    assert load_yaml(path, "a: 3")["d"] == 3
    with pytest.raises(KeyError, match="z"):
        load_yaml(path, {"z": 1})
    assert load_yaml(path, {"z": 1}, False)["z"] == 1


def test_what_is_listed_is_what_it_says():
    """Classes and functions, under names of the packages that have them."""
    for name in reading.CLASSES + reading.FUNCTIONS:
        module, _, attribute = name.rpartition(".")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, type) == (name in reading.CLASSES), name
        if found.__module__ != "torch":
            assert found.__module__.split(".")[0] == name.split(".")[0]


def test_random_state_is_tensors_and_numbers(tmp_path):
    path = tmp_path / "random.ckpt"
    RandomState()._save(path)
    torch.load(path, weights_only=True)
    drawn = [random.random(), numpy.random.rand(), float(torch.rand(()))]
    old = torch.load(path, weights_only=True)
    kind, words, *rest = old["numpy"]
    old["numpy"] = (kind, words.numpy().astype("uint32"), *rest)
    torch.save(old, tmp_path / "old.ckpt")
    for name in ("random.ckpt", "old.ckpt"):
        RandomState()._load(tmp_path / name, end_of_epoch=False)
        again = [random.random(), numpy.random.rand(), float(torch.rand(()))]
        assert again == drawn
    torch.save({"torch": Opens(tmp_path / "made")}, path)
    with pytest.raises(pickle.UnpicklingError):
        RandomState()._load(path, end_of_epoch=False)
    assert not (tmp_path / "made").exists()
