"""Reads a model's folder without running code that is in it.

In SpeechBrain's YAML (HyperPyYAML) a tag can call any function of Python:
whoever has written it decides what runs. Here a YAML is read as a tree first,
and only what a trained model is made of is built from it: the classes and
functions listed below. Files of weights may hold tensors and plain values
only. All else is refused by name, unless the caller trusts the folder.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import importlib
import io
import re
import textwrap
from pathlib import Path
from pickle import UnpicklingError

import torch
from hyperpyyaml import load_hyperpyyaml
from hyperpyyaml.core import parse_arithmetic, recursive_update
from ruamel.yaml import (
    YAML,
    MappingNode,
    SafeLoader,
    ScalarNode,
    SequenceNode,
    YAMLError,
)

from speechbrain.inference.interfaces import pretrained_from_hparams
from speechbrain.utils.fetching import FetchConfig, LocalStrategy, fetch
from speechbrain.utils.parameter_transfer import Pretrainer

# Classes that a YAML may make objects of, and functions that it may name.
CLASSES = """
sentencepiece.SentencePieceProcessor
speechbrain.dataio.encoder.CategoricalEncoder
speechbrain.dataio.preprocess.AudioNormalizer
speechbrain.decoders.S2STransformerBeamSearcher
speechbrain.decoders.scorer.CTCScorer
speechbrain.decoders.scorer.ScorerBuilder
speechbrain.decoders.seq2seq.S2STransformerBeamSearcher
speechbrain.lobes.features.Fbank
speechbrain.lobes.models.ECAPA_TDNN.Classifier
speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
speechbrain.lobes.models.EnhanceResnet.EnhanceResnet
speechbrain.lobes.models.MetricGAN.EnhancementGenerator
speechbrain.lobes.models.ResNet.Classifier
speechbrain.lobes.models.ResNet.ResNet
speechbrain.lobes.models.Xvector.Classifier
speechbrain.lobes.models.Xvector.Xvector
speechbrain.lobes.models.convolution.ConvolutionFrontEnd
speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
speechbrain.nnet.activations.Swish
speechbrain.nnet.linear.Linear
speechbrain.nnet.normalization.BatchNorm1d
speechbrain.nnet.normalization.LayerNorm
speechbrain.processing.features.ISTFT
speechbrain.processing.features.InputNormalization
speechbrain.processing.features.STFT
speechbrain.utils.dynamic_chunk_training.DynChunkTrainConfig
speechbrain.utils.parameter_transfer.Pretrainer
speechbrain_lact.decoders.seq2seq.LaCTTransformerBeamSearcher
speechbrain_lact.inference.export.Encoder
speechbrain_lact.inference.export.FolderPretrainer
speechbrain_lact.lobes.features.Fbank
speechbrain_lact.lobes.features.Waveform
speechbrain_lact.lobes.models.LaCTAudioLM.LaCTAudioLM
speechbrain_lact.lobes.models.LaCTAudioLM.TransformerAudioLM
speechbrain_lact.lobes.models.audio_tokenizers.MelTokenizer
speechbrain_lact.lobes.models.convolution.ConvolutionFrontEnd
speechbrain_lact.lobes.models.convolution.WaveformFrontEnd
speechbrain_lact.lobes.models.initial_memory.InitialMemory
speechbrain_lact.lobes.models.pipeline.Encoder
speechbrain_lact.lobes.models.pretrained.GatedLaCT
speechbrain_lact.lobes.models.pretrained.NoNormalization
speechbrain_lact.lobes.models.pretrained.PretrainedFrontEnd
speechbrain_lact.lobes.models.transformer.TransformerASR.TransformerASR
speechbrain_lact.processing.boundaries.ChunkEnds
torch.nn.BatchNorm1d
torch.nn.ELU
torch.nn.GELU
torch.nn.Identity
torch.nn.LayerNorm
torch.nn.LeakyReLU
torch.nn.ModuleDict
torch.nn.ModuleList
torch.nn.ReLU
torch.nn.SiLU
torch.nn.Sigmoid
torch.nn.Softplus
torch.nn.Tanh
""".split()
FUNCTIONS = """
speechbrain.decoders.ctc_greedy_decode
speechbrain.processing.features.spectral_magnitude
speechbrain.processing.signal_processing.resynthesize
torch.hamming_window
torch.hann_window
""".split()

# What a value is without a tag.
STANDARD = "tag:yaml.org,2002:"
SCALARS = {
    STANDARD + kind
    for kind in ("null", "bool", "int", "float", "str", "timestamp")
}

# A YAML beyond these is no model's: bytes; values, those that are referred to
# counted each time; characters of a text with references, before and after.
MOST_BYTES, MOST_VALUES, MOST_CHARACTERS = 2**17, 100_000, 1000

REFERENCE = re.compile(r"<[^<>]*>")
ARITHMETIC = re.compile(r"[\d.eE\s()+*/%-]+")

UNFINISHED = object()  # in place of a value that is being built

HOW_TO_TRUST = (
    "if you trust who made it, load it with --trust (in Python: trust=True)"
)


class Untrusted(ValueError):
    """A folder holds what could run code."""


class Loader(SafeLoader):
    """SafeLoader that knows HyperPyYAML's tuples, (1, 2)."""


Loader.add_implicit_resolver("!tuple", re.compile(r"^\(.*\)$"), ["("])


class Reader:
    """Builds what a YAML describes, out of what is listed above.

    Arguments
    ---------
    text : str
        The YAML.
    name : str or Path
        Its file, for messages.

    Raises
    ------
    ValueError
        If it is no YAML.

    Example
    -------
    >>> text = "size: 2\\nnet: !new:torch.nn.LayerNorm [!ref <size> * 3]"
    >>> Reader(text, "model.yaml").load()["net"].normalized_shape
    (6,)
    >>> Reader("net: !new:subprocess.Popen [ls]", "model.yaml").load()
    Traceback (most recent call last):
    ...
    speechbrain_lact.inference.folder.Untrusted: model.yaml, line 1: net: ...
    """

    def __init__(self, text, name):
        self.name = name
        if re.search(r"^%YAML", text, re.MULTILINE):
            raise ValueError(f"{name}: a version of YAML (%YAML) is not read")
        self.loader = Loader(text)
        self.root = self.loader.get_single_node()
        if not isinstance(self.root, MappingNode):
            raise ValueError(f"{name}: no settings of a model")
        self.made, self.sizes, self.values = {}, {}, 0

    def load(self):
        """All entries by name, but for those that begin with `__`.

        Returns
        -------
        dict

        Raises
        ------
        Untrusted
            If something in it is not listed: the line, the key and the tag.
        ValueError
            If something in it is wrong.
        """
        entries = self._mapping(self.root, "", self.made)
        return {
            key: value
            for key, value in entries.items()
            if not str(key).startswith("__")
        }

    def refuse(self, node, key, what):
        """The error about what could run code."""
        return Untrusted(
            f"{self._place(node, key)}: {printable(what)} is not what a "
            f"trained model needs and could run any code: {HOW_TO_TRUST}"
        )

    def wrong(self, node, key, what):
        """The error about all else."""
        return ValueError(f"{self._place(node, key)}: {printable(what)}")

    def _place(self, node, key):
        line = node.start_mark.line + 1
        return f"{self.name}, line {line}: {printable(key or 'its key')}"

    def build(self, node, key, made):
        """The value of a node: the same object each time it is asked for.

        Arguments
        ---------
        node : ruamel.yaml.Node
        key : str
            Where it stands, for messages.
        made : dict
            Values there are already, by node.
        """
        begin, known = self.values, id(node) in made
        self.values += self.sizes.get(id(node), 1) if known else 1
        if self.values > MOST_VALUES:
            raise self.wrong(node, key, "more values than any model has")
        if not known:
            made[id(node)] = UNFINISHED
            made[id(node)] = self._make(node, key, made)
            self.sizes[id(node)] = self.values - begin
        if made[id(node)] is UNFINISHED:
            raise self.wrong(node, key, "refers to itself")
        return made[id(node)]

    def _make(self, node, key, made):
        if isinstance(node, ScalarNode):
            if node.tag in SCALARS:
                return self._scalar(node, key)
            if node.tag == "!tuple":
                return self._tuple(node, key)
            if node.tag in ("!ref", "!copy"):
                return self._reference(node, key, made)
        elif node.tag in (STANDARD + "map", STANDARD + "seq"):
            return self._contents(node, key, made)
        return self._tagged(node, key, made)

    def _scalar(self, node, key):
        try:
            return self.loader.construct_object(node)
        except (ValueError, KeyError, AttributeError) as error:
            what = f"{node.value} is no {shown(node.tag)}"
            raise self.wrong(node, key, what) from error

    def _contents(self, node, key, made):
        """What stands under a tag: a dictionary, a list, or nothing."""
        if isinstance(node, MappingNode):
            return self._mapping(node, key, made)
        if isinstance(node, SequenceNode):
            return [
                self.build(item, f"{key}[{number}]", made)
                for number, item in enumerate(node.value)
            ]
        return None

    def _mapping(self, node, key, made):
        out = {}
        for name, value in node.value:
            if not isinstance(name, ScalarNode) or name.tag not in SCALARS:
                raise self.refuse(name, key, f"a key {shown(name.tag)}")
            here = f"{key}.{name.value}" if key else name.value
            name = self._scalar(name, here)
            if name in out:
                raise self.wrong(value, here, "given twice")
            out[name] = self.build(value, here, made)
        return out

    def _tagged(self, node, key, made):
        kind, _, name = str(node.tag).partition(":")
        listed = {"!new": CLASSES, "!name": CLASSES + FUNCTIONS}
        if node.tag == "!apply:getattr":
            arguments = self._contents(node, key, made)
            if isinstance(arguments, list) and len(arguments) == 2:
                return self._attribute(*arguments, node, key)
        if name not in listed.get(kind, ()):
            raise self.refuse(node, key, shown(node.tag))
        module, _, name = name.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        given = self._contents(node, key, made) or []
        args, kwargs = ([], given) if isinstance(given, dict) else (given, {})
        if kind == "!name":
            partial = functools.partial(found, *args, **kwargs)
            return partial if given else found
        try:
            return found(*args, **kwargs)
        except (ImportError, OSError, ValueError):
            raise
        except Exception as error:  # each class has its own
            what = f"{node.tag}: {type(error).__name__}: {error}"
            raise self.wrong(node, key, what) from error

    def _tuple(self, node, key):
        """(1, 2), of plain values."""
        inner = Loader(f"[{node.value[1:-1]}]").get_single_node()
        for item in inner.value:
            if not isinstance(item, ScalarNode) or item.tag not in SCALARS:
                raise self.refuse(node, key, f"{shown(item.tag)} in a tuple")
        return tuple(self._scalar(item, key) for item in inner.value)

    def _reference(self, node, key, made):
        """!ref <key>, or a text with references and arithmetic in it."""
        text = node.value
        made = {} if node.tag == "!copy" else made
        if REFERENCE.fullmatch(text):
            return self._follow(text, node, key, made)
        if len(text) > MOST_CHARACTERS:
            raise self.wrong(node, key, "a very long reference")
        parts = [
            self._follow(found, node, key, made)
            for found in REFERENCE.findall(text)
        ]
        if not parts:
            return text
        if not all(plain(part) for part in parts):
            raise self.wrong(
                node, key, f"{text}: within a text, no plain value"
            )
        parts = iter(parts)
        text = REFERENCE.sub(lambda _: str(next(parts)), text)
        if len(text) > MOST_CHARACTERS:
            raise self.wrong(node, key, "a very long text")
        if not ARITHMETIC.fullmatch(text):
            return text
        if "**" in text:
            raise self.wrong(node, key, f"{text}: powers are not computed")
        try:
            return parse_arithmetic(text)
        except (ValueError, ArithmeticError) as error:
            raise self.wrong(node, key, f"{text}: {error}") from error

    def _follow(self, reference, node, key, made):
        """The value of `<key>`, `<key[inner]>` or `<key.attribute>`."""
        path, _, attribute = reference[1:-1].partition(".")
        target = self.root
        for part in path.split("["):
            inner = target.value if isinstance(target, MappingNode) else []
            part = part.strip("]")
            target = next((v for k, v in inner if k.value == part), None)
        if target is None:
            raise self.wrong(node, key, f"{reference}: no such key")
        value = self.build(target, path, made)
        if attribute:
            return self._attribute(value, attribute, node, key)
        return value

    def _attribute(self, value, name, node, key):
        """A plain value that an object has, such as a size."""
        if re.fullmatch(r"[A-Za-z]\w*", str(name)):
            found = getattr(value, name, self)
            if plain(found):
                return found
        raise self.refuse(node, key, f"the attribute {name}")


class Plain(Reader):
    """The plain values of a YAML: no object is made, whatever it describes."""

    def _tagged(self, node, key, made):
        return self._contents(node, key, made)

    def _attribute(self, value, name, node, key):
        return None


def plain(value):
    """Whether a value is a number, a text, a truth value or nothing."""
    return value is None or isinstance(value, (bool, int, float, str))


def printable(text):
    """The beginning of a text, on one line, without control characters."""
    text = "".join(c if c.isprintable() else " " for c in str(text)[:1000])
    return textwrap.shorten(text, 200, placeholder=" ...")


def shown(tag):
    """A tag as it is written."""
    return str(tag).replace(STANDARD, "!!")


def read_yaml(path, reader=Reader, overrides=None, overrides_must_match=True):
    """Reads a YAML, and builds nothing that is not listed.

    Arguments
    ---------
    path : str or Path
        The file.
    reader : type
        `Reader`, or `Plain` for its plain values alone.
    overrides : dict or str, optional
        What to put in place of values of the file.
    overrides_must_match : bool
        Whether there must be such values.

    Returns
    -------
    dict

    Raises
    ------
    OSError
        If there is no such file.
    Untrusted
        If something in it is not listed.
    ValueError
        If something in it is wrong.
    """
    with open(path, "rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"{path}: larger than any model's YAML")
    try:
        text = text.decode("utf-8-sig")
        if overrides:
            text = _override(text, overrides, overrides_must_match)
        return reader(text, path).load()
    except (YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no YAML of a model: {reason}") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: refers to itself, or too deep") from error


def _override(text, overrides, must_match):
    """As HyperPyYAML does it; no object is made."""
    yaml, stream = YAML(), io.StringIO()
    tree = yaml.load(text)
    if isinstance(overrides, str):
        overrides = yaml.load(overrides)
    recursive_update(tree, overrides, must_match=must_match)
    yaml.dump(tree, stream)
    return stream.getvalue()


def load_yaml(path, overrides=None, overrides_must_match=True, trust=False):
    """The YAML of a model with all its objects.

    Arguments
    ---------
    path : str or Path
        The file.
    overrides : dict or str, optional
        What to put in place of values of the file.
    overrides_must_match : bool
        Whether there must be such values.
    trust : bool
        Whether whatever it names may run.

    Returns
    -------
    dict

    Raises
    ------
    OSError
        If there is no such file.
    Untrusted
        If something in it is not listed and it is not trusted.
    ValueError
        If something in it is wrong.
    """
    if not trust:
        return read_yaml(path, Reader, overrides, overrides_must_match)
    with open(path, encoding="utf-8") as file:
        return load_hyperpyyaml(file, overrides, overrides_must_match)


def check_weights(path):
    """Refuses a file that torch cannot load without running code.

    Arguments
    ---------
    path : str or Path
        What `torch.save` has written.

    Raises
    ------
    Untrusted
        If it holds more than tensors and plain values.
    ValueError
        If it cannot be read.
    """
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        if name is None:
            raise ValueError(f"{path}: no file of weights") from error
        raise Untrusted(
            f"{path}: {name[1]} is no tensor and no plain value and could run "
            f"any code: {HOW_TO_TRUST}"
        ) from None


def load_interface(
    cls,
    source,
    hparams_file="hyperparams.yaml",
    overrides=None,
    overrides_must_match=True,
    savedir=None,
    download_only=False,
    local_strategy=LocalStrategy.SYMLINK,
    fetch_config=FetchConfig(),
    trust=False,
    **kwargs,
):
    """SpeechBrain's `from_hparams` that builds nothing that is not listed.

    Arguments
    ---------
    cls : type
        One of SpeechBrain's interfaces, as EncoderClassifier.
    source : str or Path
        A folder, or a name on the Hugging Face hub.
    hparams_file : str
        Name of the YAML in it.
    overrides : dict or str, optional
        What to put in place of values of the YAML.
    overrides_must_match : bool
        Whether there must be such values.
    savedir : str or Path, optional
        Where what is fetched is kept.
    download_only : bool
        Whether to fetch it only.
    local_strategy : LocalStrategy
        How it is kept there.
    fetch_config : FetchConfig
        How it is fetched.
    trust : bool
        Whether whatever the YAML names may run.
    **kwargs : dict
        Arguments of the interface, as `run_opts`.

    Returns
    -------
    Instance of cls, or None if it was to be fetched only

    Raises
    ------
    Untrusted
        If the folder holds what could run code and is not trusted.
    ValueError
        If it holds no such model.
    """
    source = str(source) if isinstance(source, Path) else source
    options = {
        "savedir": savedir,
        "local_strategy": local_strategy,
        "fetch_config": fetch_config,
    }
    if trust:
        return pretrained_from_hparams(
            cls,
            source,
            hparams_file,
            overrides or {},
            overrides_must_match,
            download_only=download_only,
            **options,
            **kwargs,
        )
    path = fetch(hparams_file, source, **options)
    hparams = read_yaml(path, Reader, overrides, overrides_must_match)
    hparams["savedir"] = savedir
    modules, pretrainer = hparams.get("modules"), hparams.get("pretrainer")
    if not isinstance(modules, dict) or not isinstance(pretrainer, Pretrainer):
        raise ValueError(f"{path}: no modules or no pretrainer in it")
    for name in pretrainer.loadables:
        if not re.fullmatch(r"\w+", str(name)):
            raise ValueError(f"{path}: pretrainer: {name!r} names no file")
    pretrainer.set_collect_in(savedir)
    options["default_source"] = source
    del options["savedir"]
    pretrainer.collect_files(**options)
    if download_only:
        return None
    for name, module in pretrainer.loadables.items():
        hooked = name in pretrainer.custom_hooks
        if isinstance(module, torch.nn.Module) and not hooked:
            check_weights(pretrainer.paths[name])
    pretrainer.load_collected()
    return cls(modules=modules, hparams=hparams, **kwargs)
