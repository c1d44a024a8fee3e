"""Turns a trained SpeechBrain Transformer, Conformer or Branchformer into the
same network with LaCT.

The mixers take over the projections, biases, scale and positions of the
attention they replace. The gate of the fast weights starts at zero and the
window covers everything, so that no output changes; then the window can be
narrowed and the gate trained.

This holds for utterances without padding. In a padded batch the convolutions
of SpeechBrain's Conformer and Branchformer read padding and ours do not: our
outputs are those of each utterance alone.

What recipes/LibriSpeech has trained becomes what it can start from:
> python -m speechbrain_lact.convert results/conformer_ctc/3407 converted
> python recipes/LibriSpeech/train.py hparams/retrofit_ctc.yaml \
    --source converted

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import copy
import math
import re
import shutil
import sys
from pathlib import Path
from pickle import UnpicklingError

import torch
from ruamel.yaml import YAML

from speechbrain.lobes.models.transformer import TransformerASR as parent
from speechbrain.lobes.models.transformer.Transformer import PositionalEncoding
from speechbrain.utils.checkpoints import Checkpointer, average_checkpoints
from speechbrain_lact.inference.folder import Plain, plain, read_yaml
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)
from speechbrain_lact.nnet.lact import LaCT, like_host

# Parameters of each kind of attention that can become LaCT.
PARAMETERS = {
    "RoPEMHA": {"in_proj_weight", "out_proj.weight", "out_proj.bias"},
    "regularMHA": {
        "att.in_proj_weight",
        "att.in_proj_bias",
        "att.out_proj.weight",
        "att.out_proj.bias",
    },
}

# The parameters of a model: an encoder layer's attention, and one's own name.
ATTENTION = re.compile(
    r"((?:.*\.)?encoder\.layers\.\d+\.(?:self_att|mha_layer))\.(.+)"
)

# A part that only the layers of one encoder have.
PARTS = {
    "transformer": "pos_ffn",
    "conformer": "convolution_module",
    "branchformer": "convolution_branch",
}

# Settings of a recipe that its weights tell: end of a name, and dimension.
SIZES = {
    "d_ffn": (".ffn.0.weight", 0),
    "kernel_size": (".convolution_module.conv.weight", 2),
    "cnn_channels": (".blocks.0.conv.weight", 0),
}

# Settings that they do not tell and that the model depends on.
SETTINGS = (
    "sample_rate",
    "n_fft",
    "win_length",
    "hop_length",
    "n_mels",
    "normalization",
    "stride",
    "nhead",
    "output_neurons",
    "token_type",
    "blank_index",
)


def retrofit(net, chunk_size=512, window=None, **lact):
    """A trained network with LaCT in place of its encoder's attention.

    Arguments
    ---------
    net : speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
        With attention of type `RoPEMHA` or `regularMHA`. It stays as it is.
    chunk_size : int
        Frames per update of the fast weights.
    window : tuple or int, optional
        Frames seen to the left and right. Default: everything, and so the
        outputs of `net`.
    **lact : dict
        Other options of our TransformerASR, without their prefix: `heads`,
        `order`, `optimizer`, ...

    Returns
    -------
    speechbrain_lact.lobes.models.transformer.TransformerASR.TransformerASR
        With copies of all weights, on the same device and of the same type.

    Raises
    ------
    ValueError
        For attention that LaCT cannot reproduce.

    Example
    -------
    >>> host = parent.TransformerASR(
    ...     7, 12, 16, 2, 1, 1, 32, attention_type="RoPEMHA", causal=False
    ... ).eval()
    >>> net, src = retrofit(host), torch.randn(2, 20, 12)
    >>> torch.allclose(net.encode(src), host.encode(src), atol=1e-5)
    True
    """
    if not isinstance(net, parent.TransformerASR) or not hasattr(
        net, "encoder"
    ):
        raise ValueError(
            f"retrofit needs a TransformerASR of SpeechBrain with an encoder, "
            f"not {type(net).__name__}"
        )
    if getattr(net, "carries_state", False):
        raise ValueError("this network has a mixer of ours already")
    like_host(net.attention_type, 1)
    theirs = net.encoder.layers
    kind = next(k for k, part in PARTS.items() if hasattr(theirs[0], part))
    ours = _build(net, kind, chunk_size, window, lact)
    for name, module in net.named_children():
        if name != "encoder":
            setattr(ours, name, copy.deepcopy(module))
    ours.encoder.norm = copy.deepcopy(net.encoder.norm)
    for layer, host in zip(ours.encoder.layers, theirs):
        for name, module in host.named_children():
            if name in ("self_att", "mha_layer"):
                _take_over(layer.mixer, module.state_dict(), net.attention_type)
            else:
                setattr(layer, name, copy.deepcopy(module))
    like = next(net.parameters())
    return ours.to(like.device, like.dtype).train(net.training)


def _build(net, kind, chunk_size, window, lact):
    """A network like `net`; what is copied afterwards is kept small."""
    layer = net.encoder.layers[0]
    attention = layer.self_att if kind == "transformer" else layer.mha_layer
    attention = getattr(attention, "att", attention)
    if window is None:
        window = (math.inf, 0 if net.causal else math.inf)
    positions = [m for m in net.children() if isinstance(m, PositionalEncoding)]
    lact = {"chunk_size": chunk_size, "window": window, **lact}
    return TransformerASR(
        tgt_vocab=1,
        input_size=net.custom_src_module.layers[0].w.in_features,
        d_model=attention.embed_dim,
        nhead=attention.num_heads,
        num_encoder_layers=len(net.encoder.layers),
        num_decoder_layers=0,
        d_ffn=1,
        dropout=attention.dropout,
        positional_encoding=net.positional_encoding_type,
        normalize_before=getattr(layer, "normalize_before", True),
        kernel_size=1,
        encoder_module=kind,
        attention_type="LaCT",
        max_length=positions[0].max_len if positions else 1,
        causal=net.causal,
        csgu_linear_units=2,
        output_hidden_states=net.output_hidden_states,
        layerdrop_prob=net.layerdrop_prob,
        lact_host=net.attention_type,
        **{f"lact_{name}": value for name, value in lact.items()},
    )


def _take_over(mixer, weights, host):
    """Gives a mixer the projections of a host; nothing else is heard yet."""
    weights = {name.removeprefix("att."): w for name, w in weights.items()}
    if host == "RoPEMHA":
        # Its fused projection interleaves query, key and value per head.
        fused = weights["in_proj_weight"].unflatten(0, (mixer.nhead, 3, -1))
        weights["in_proj_weight"] = fused.transpose(0, 1).flatten(0, 2)
    mixer.load_state_dict(weights, strict=False)
    if mixer.fast:
        torch.nn.init.zeros_(mixer.gate_proj.weight)
        torch.nn.init.zeros_(mixer.gate_proj.bias)


def retrofit_weights(weights, nhead, **lact):
    """As `retrofit`, of a model's saved parameters.

    Arguments
    ---------
    weights : dict
        Parameters by name, of a TransformerASR or of a model that has one.
    nhead : int
        Heads of the attention, of which the parameters say nothing.
    **lact : dict
        Arguments of `LaCT` that its parameters depend on.

    Returns
    -------
    weights : dict
        Parameters of the same model with LaCT.
    settings : dict
        What the parameters say of the model, by the recipe's names.

    Example
    -------
    >>> host = parent.TransformerASR(
    ...     7, 12, 16, 2, 1, 1, 32, attention_type="RoPEMHA", causal=False
    ... )
    >>> weights, settings = retrofit_weights(host.state_dict(), nhead=2)
    >>> settings["lact_host"], weights["encoder.layers.0.self_att.w0"].shape
    ('RoPEMHA', torch.Size([4, 4, 4]))
    """
    mixers, others = {}, {}
    for name, value in weights.items():
        found = ATTENTION.fullmatch(name)
        if found:
            mixers.setdefault(found[1], {})[found[2]] = value
        else:
            others[name] = value
    if not mixers:
        raise ValueError(
            "no parameter is called ...encoder.layers.0.self_att... or "
            "...encoder.layers.0.mha_layer...: no encoder of SpeechBrain"
        )
    settings, made = None, dict(others)
    for prefix, theirs in mixers.items():
        found = _describe(prefix, theirs, others)
        settings = settings or found
        if found != settings:
            raise ValueError(f"{prefix}: {found}, but others have {settings}")
        width = settings["d_model"]
        if width % nhead:
            raise ValueError(f"{prefix}: nhead={nhead} does not divide {width}")
        host = settings["lact_host"]
        mixer = LaCT(width, nhead, **{**like_host(host, width), **lact})
        _take_over(mixer, theirs, host)
        for name, value in mixer.state_dict().items():
            made[f"{prefix}.{name}"] = value
        root = prefix.rsplit("encoder.layers.", 1)[0]
        table = others.get(f"{root}positional_encoding.pe")
        if table is not None:
            made.setdefault(f"{root}positional_encoding_decoder.pe", table)
    settings["num_encoder_layers"] = len(mixers)
    for name, (end, dimension) in SIZES.items():
        shapes = [w.shape for key, w in others.items() if key.endswith(end)]
        if shapes:
            settings[name] = shapes[0][dimension]
    return made, settings


def _describe(prefix, attention, others):
    """What an attention layer's parameters say of it."""
    if "linear_pos.weight" in attention:
        like_host("RelPosMHAXL", 1)
    names = set(attention)
    host = next((k for k, known in PARAMETERS.items() if known == names), None)
    if host is None:
        odd = min(names ^ PARAMETERS["RoPEMHA"])
        raise ValueError(
            f"{prefix}.{odd}: neither RoPEMHA nor regularMHA has parameters "
            f"{', '.join(sorted(names))}"
        )
    rows, width = next(
        w.shape for name, w in attention.items() if "in_proj_weight" in name
    )
    if rows != 3 * width:
        raise ValueError(
            f"{prefix}.in_proj_weight is [{rows}, {width}], not [3 * E, E]"
        )
    layer = prefix.rsplit(".", 1)[0]
    kind = [
        kind
        for kind, part in PARTS.items()
        if any(name.startswith(f"{layer}.{part}.") for name in others)
    ]
    if len(kind) != 1:
        raise ValueError(f"{layer}: a layer of {' and '.join(kind) or 'none'}")
    return {"encoder_module": kind[0], "lact_host": host, "d_model": width}


def load_whole(module, path):
    """Loads parameters, all of them or none; a hook for SpeechBrain's
    Pretrainer, whose own goes on with what happens to fit.

    Arguments
    ---------
    module : torch.nn.Module
        What to load them into.
    path : str
        File of parameters.

    Raises
    ------
    ValueError
        If a name or a size differs: file, name and what is expected.
    """
    weights, expected = read_weights(path), module.state_dict()
    for name in [*expected, *weights]:
        there, here = (
            list(x[name].shape) if name in x else "missing"
            for x in (weights, expected)
        )
        if there != here:
            raise ValueError(
                f"{path}: {name} is {there} in the file and {here} in the "
                f"model: give the sizes and options the file was made with"
            )
    module.load_state_dict(weights)


def read_weights(path):
    """Parameters of a file.

    Arguments
    ---------
    path : str
        A state_dict that torch has saved.

    Returns
    -------
    dict
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"{path}: not a file of parameters") from error
    if not isinstance(weights, dict) or not all(
        isinstance(w, torch.Tensor) for w in weights.values()
    ):
        raise ValueError(f"{path}: not a model's parameters by name")
    return weights


def read_settings(path):
    """Plain values of an experiment's YAML; no object is made.

    Arguments
    ---------
    path : str
        The YAML.

    Returns
    -------
    dict
    """
    try:
        return read_yaml(path, Plain)
    except ValueError as error:
        raise ValueError(f"{path}: not an experiment ({error})") from error


def read_converted(folder):
    """The settings of a folder that `convert` has written.

    Arguments
    ---------
    folder : str or Path

    Returns
    -------
    dict
        Numbers and words, and lists of them.

    Raises
    ------
    ValueError
        If something else is in it.
    """
    path = Path(folder) / "settings.yaml"
    return _check_settings(read_settings(path), path)


def _check_settings(settings, path):
    """Refuses what an experiment's YAML would read as more than a value."""
    for key, value in settings.items():
        values = value if isinstance(value, list) else [value]
        words = [item for item in values if isinstance(item, str)]
        if not all(map(plain, values)) or not all(
            re.fullmatch(r"[\w.-]+", word) for word in words
        ):
            raise ValueError(
                f"{path}: {key}: {value!r}, but it must be a number or a word"
            )
    return settings


def convert(source, out, hparams=None, window=None, chunk_size=None, **lact):
    """Writes a folder from which hparams/retrofit_ctc.yaml can start.

    Arguments
    ---------
    source : str
        The output folder of a run of recipes/LibriSpeech, or a file of
        parameters.
    out : str
        The folder to write: `model.ckpt`, `settings.yaml` and, as far as the
        source has them, `normalizer.ckpt` and the tokenizer.
    hparams : str, optional
        The YAML of `source` (default: its `hyperparams.yaml`).
    window : tuple, optional
        Frames to see to the left and right (default: as the recipe's YAML
        says).
    chunk_size : int, optional
        Frames per update, likewise.
    **lact : dict
        Arguments of `LaCT` that its parameters depend on: `fast_heads`,
        `optimizer`.

    Returns
    -------
    dict
        The settings written.
    """
    source, out = Path(source), Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: exists; give another folder")
    if source.is_dir():
        hparams = hparams or source / "hyperparams.yaml"
    elif hparams is None:
        raise ValueError(f"{source}: a file of parameters needs --hparams")
    given = read_settings(hparams)
    nhead = next(iter(_values(given, "nhead")), None)
    if not isinstance(nhead, int):
        raise ValueError(f"{hparams}: no number under nhead, but {nhead!r}")
    weights, file = _read_source(source, given)
    try:
        weights, settings = retrofit_weights(weights, nhead, **lact)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    host, named = settings["lact_host"], set(_values(given, "attention_type"))
    if named and host not in named:
        raise ValueError(
            f"{hparams}: attention_type is {', '.join(map(str, named))}, but "
            f"{file} has parameters of {host}"
        )
    given = {key: given[key] for key in SETTINGS if key in given}
    settings.update(_check_settings(given, hparams))
    settings["nhead"] = nhead
    settings["lact_heads"] = lact.get("fast_heads", 4)
    settings["lact_optimizer"] = lact.get("optimizer", "muon")
    if window is not None:
        settings["lact_window"] = list(window)
    if chunk_size is not None:
        settings["lact_chunk_size"] = chunk_size
    out.mkdir(parents=True, exist_ok=True)
    torch.save(weights, out / "model.ckpt")
    beside = [file.with_name("normalizer.ckpt")] if file.is_file() else []
    if source.is_dir():
        beside = [file / "normalizer.ckpt", *source.glob("save/*.model")]
        beside += source.glob("save/*.vocab")
    for path in beside:
        if path.exists():
            shutil.copy(path, out)
    with open(out / "settings.yaml", "w", encoding="utf-8") as stream:
        YAML().dump(settings, stream)
    return settings


def _read_source(source, given):
    """Parameters, and the file or checkpoint that they are from."""
    if not source.is_dir():
        return read_weights(source), source
    # As the recipe has tested them: the best, averaged.
    best = Checkpointer(source / "save").find_checkpoints(
        min_key="WER", max_num_checkpoints=given.get("avg_checkpoints", 1)
    )
    best = [c for c in best if "model" in c.paramfiles]
    if not best:
        raise ValueError(f"{source / 'save'}: no checkpoint of a whole epoch")
    weights = average_checkpoints(
        best, "model", lambda path, **_: read_weights(path)
    )
    return weights, best[0].path


def _values(node, key):
    """All values under a key, wherever it is."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _values(inner, key)


def main(arguments):
    """Converts what the command line names."""
    parser = argparse.ArgumentParser(
        prog="speechbrain_lact.convert",
        description="Gives a trained SpeechBrain encoder LaCT.",
    )
    add = parser.add_argument
    add("source", help="output folder of a run, or file of parameters")
    add("out", help="folder to write")
    add("--hparams", help="YAML of the source, if it is a file")
    add(
        "--window",
        type=_frames,
        nargs=2,
        metavar=("LEFT", "RIGHT"),
        help="frames to see; inf inf: all, so that nothing changes "
        "(default: as in the YAML of the training)",
    )
    add("--chunk_size", type=int, help="frames per update, likewise")
    add("--fast_heads", type=int, default=4, help="number of fast networks")
    add("--optimizer", default="muon", help="muon, sgd or adam")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)  # the same fast weights each time
    settings = convert(**vars(options))
    print(
        f"{options.out}: {settings['num_encoder_layers']} "
        f"{settings['encoder_module']} layers with {settings['lact_host']} of "
        f"width {settings['d_model']} are ready for LaCT. Go on with\n"
        f"python recipes/LibriSpeech/train.py hparams/retrofit_ctc.yaml "
        f"--source {options.out}"
    )


def _frames(text):
    """A number of frames, or inf."""
    return math.inf if text == "inf" else int(text)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"convert: {' '.join(str(error).split())}")
