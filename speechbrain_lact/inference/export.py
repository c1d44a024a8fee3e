"""A trained model as a folder that SpeechBrain's interfaces load.

The folder holds `hyperparams.yaml`, the weights and the tokenizer, and may be
moved: `EncoderASR.from_hparams(source=folder)`, or `EncoderDecoderASR` for a
model with a decoder. `push_model` puts it on the Hugging Face hub.

`write_embedder` writes an encoder of voices for `EncoderClassifier` and
`SpeakerRecognition`.

Authors
* speechbrain_lact contributors 2026
"""

import io
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model

from speechbrain.core import Stage
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.logger import get_logger
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain_lact.inference.folder import Reader, Untrusted, check_weights

# Its name in the YAML of models that were exported before.
from speechbrain_lact.lobes.models.pipeline import Encoder  # noqa: F401
from speechbrain_lact.utils.dynamic_chunks import BlockSampler

logger = get_logger(__name__)

# Entries of a recipe's YAML that a trained model needs.
PARTS = ("compute_features", "normalize", "CNN", "Transformer", "ctc_lin")
DECODER_PARTS = ("seq_lin", "ctc_scorer", "test_search")
MEMORY_PART = "initial_memory"  # of those that have it

# The same of an encoder of voices.
EMBEDDER_PARTS = ("compute_features", "mean_var_norm", "embedding_model")

YAML_FILE = "hyperparams.yaml"
FILES = {
    "model": "model.safetensors",
    "normalizer": "normalizer.ckpt",
    "tokenizer": "tokenizer.model",
}

MADE = "made_by_the_constructor"  # in the header of the weights

COMMON = """
audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: {rate}

tokenizer: !new:sentencepiece.SentencePieceProcessor

pretrainer: !new:speechbrain_lact.inference.export.FolderPretrainer
  loadables:
    model: !ref <model>
    tokenizer: !ref <tokenizer>{normalizer}

encoder: !new:speechbrain_lact.lobes.models.pipeline.Encoder
  compute_features: !ref <compute_features>
  normalize: !ref <normalize>
  cnn: !ref <CNN>
  transformer: !ref <Transformer>
"""

MEMORY = """  initial_memory: !ref <initial_memory>
"""

BLOCKS = """  dynchunktrain_config: !new:speechbrain.utils.dynamic_chunk_training.DynChunkTrainConfig
    chunk_size: {chunk_size}
    left_context_size: {left_context_size}
"""

BOUNDARIES = """  boundaries: !ref <boundaries>
"""

CTC = """  head: !ref <ctc_lin>

decoding_function: !name:speechbrain.decoders.ctc_greedy_decode
  blank_id: {blank}

modules:
  encoder: !ref <encoder>
"""

DECODER = """
scorer: !new:speechbrain.decoders.scorer.ScorerBuilder
  full_scorers: [!ref <ctc_scorer>]
  weights: {{ctc: {ctc_weight}}}

modules:
  encoder: !ref <encoder>
  decoder: !ref <decoder>
"""

EMBEDDER = """
# Cosine similarity of one voice: above this.
threshold: {threshold}

audio_normalizer: !new:speechbrain.dataio.preprocess.AudioNormalizer
  sample_rate: {rate}

pretrainer: !new:speechbrain_lact.inference.export.FolderPretrainer
  loadables:
    model: !ref <embedding_model>

modules:
  compute_features: !ref <compute_features>
  mean_var_norm: !ref <mean_var_norm>
  embedding_model: !ref <embedding_model>
"""


class FolderPretrainer(Pretrainer):
    """SpeechBrain's Pretrainer for a folder with these files.

    Arguments
    ---------
    loadables : dict
        `model`, `tokenizer`, `normalizer`.
    """

    def __init__(self, loadables):
        unknown = sorted(set(map(str, loadables)) - FILES.keys())
        if unknown:
            raise ValueError(
                f"loadables: {unknown[0]!r}, but known are {', '.join(FILES)}"
            )
        hooks = {"model": load_weights, "normalizer": load_statistics}
        super().__init__(loadables=loadables, custom_hooks=hooks)

    def collect_files(self, default_source=None, **kwargs):
        """As SpeechBrain's, with the names that the files have."""
        for name in self.loadables:
            self.paths[name] = f"{default_source}/{FILES[name]}"
        return super().collect_files(default_source, **kwargs)


class Learned(torch.nn.Module):
    """A model whose state has no buffers that its constructor makes.

    Arguments
    ---------
    model : torch.nn.Module
    made : list of str
        Names of those buffers.
    """

    def __init__(self, model, made):
        super().__init__()
        self.model, self.made = model, set(made)

    def state_dict(self, *args, **kwargs):
        """The model's own, without them."""
        state = self.model.state_dict(*args, **kwargs)
        for name in self.made:
            del state[name]
        return state


def made_again(model, text):
    """Buffers that need no saving: the model's constructor makes them again.

    Scalars stay: they cost nothing, and some are there to be compared.

    Arguments
    ---------
    model : torch.nn.Module
        The trained model.
    text : str
        Its YAML (`inference_yaml`).

    Returns
    -------
    list of str
        Their names.
    """
    with torch.random.fork_rng():
        try:
            fresh = Reader(text, YAML_FILE).load()
        except Untrusted as error:
            logger.warning("To load this model, trust it: %s", error)
            fresh = load_hyperpyyaml(text)
    fresh = fresh["model"].state_dict()
    buffers, state = dict(model.named_buffers()), model.state_dict()
    return [
        name
        for name in sorted(buffers.keys() & state.keys() & fresh.keys())
        if state[name].dim()
        and state[name].dtype == fresh[name].dtype
        and torch.equal(state[name].cpu(), fresh[name].cpu())
    ]


def load_weights(model, path):
    """Reads a safetensors file into a model.

    Arguments
    ---------
    model : torch.nn.Module
    path : str or Path

    Raises
    ------
    ValueError
        If a weight is missing or of another size, or one is too many.
        Buffers that the file's header leaves to the constructor may be
        missing.
    """
    try:
        with safe_open(path, "pt") as file:
            made = (file.metadata() or {}).get(MADE, "").split()
        missing, unexpected = load_model(model, path, strict=False)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: weights of another model: {error}") from None
    buffers = dict(model.named_buffers())
    missing = set(missing) - (set(made) & buffers.keys())
    for names, what in ((missing, "is missing"), (unexpected, "is too many")):
        if names:
            raise ValueError(
                f"{path}: weights of another model: {min(names)} {what}"
            )


def load_statistics(normalize, path):
    """Reads statistics of features; plain values and tensors only.

    Arguments
    ---------
    normalize : InputNormalization
    path : str or Path
    """
    check_weights(path)
    normalize._load(path)


def write_model(folder, experiment, hparams, tokenizer):
    """Writes a trained model to a folder.

    Arguments
    ---------
    folder : str or Path
        Where to; made if need be.
    experiment : str or Path
        The run's YAML, all values in it (`hyperparams.yaml` of its output
        folder).
    hparams : dict
        The same, loaded and trained.
    tokenizer : speechbrain.tokenizers.SentencePiece.SentencePiece
        The run's tokenizer.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # A pretrained encoder needs no statistics.
    normalize = hparams["normalize"]
    counted = isinstance(normalize, InputNormalization)
    text = inference_yaml(Path(experiment).read_text(), counted)
    (folder / YAML_FILE).write_text(text)
    made = made_again(hparams["model"], text)
    learned = Learned(hparams["model"], made)
    _save_weights(learned, folder, {MADE: " ".join(made)})
    if counted:
        normalize._save(folder / FILES["normalizer"])
    tokens = folder / FILES["tokenizer"]
    shutil.copyfile(f"{tokenizer.prefix_model_file}.model", tokens)


def write_embedder(folder, experiment, model, threshold):
    """Writes a trained encoder of voices to a folder.

    Arguments
    ---------
    folder : str or Path
        Where to; made if need be.
    experiment : str or Path
        The run's YAML, all values in it (`hyperparams.yaml` of its output
        folder).
    model : torch.nn.Module
        Its `embedding_model`, trained.
    threshold : float
        Cosine similarity above which two embeddings are of one voice.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = YAML().load(Path(experiment).read_text())
    (folder / YAML_FILE).write_text(
        dump_yaml({name: settings[name] for name in EMBEDDER_PARTS})
        + EMBEDDER.format(threshold=threshold, rate=settings["sample_rate"])
    )
    _save_weights(model, folder)


def _save_weights(model, folder, metadata=None):
    """Writes the weights, for all who may read the YAML beside them."""
    path = folder / FILES["model"]
    save_model(model, str(path), metadata=metadata)
    # Safetensors keeps its files from others.
    shutil.copymode(folder / YAML_FILE, path)


def check_repo(repo):
    """Refuses what cannot be the name of a repository on the hub.

    Arguments
    ---------
    repo : str, optional
        `user/name`

    Raises
    ------
    ValueError
        If it is no such name.

    Example
    -------
    >>> check_repo("user/name")
    >>> check_repo("a/b/c")
    Traceback (most recent call last):
    ...
    ValueError: push_to_hub: user/name, not 'a/b/c'
    """
    if repo is None:
        return
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise ValueError(f"push_to_hub: user/name, not {repo!r}") from None


def push_model(folder, repo):
    """Puts the folder of a trained model on the Hugging Face hub.

    The repository is made if there is none. Log in first: `hf auth login`.

    Arguments
    ---------
    folder : str or Path
        What `write_model` has written.
    repo : str
        `user/name`

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    OSError
        If it could not be uploaded.
    """
    from huggingface_hub import HfApi, get_token

    check_repo(repo)
    try:
        if get_token() is None:
            raise PermissionError("not logged in")
        api = HfApi()
        repo = api.create_repo(repo, exist_ok=True).repo_id
        return api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            commit_message="A model trained by speechbrain_lact",
        ).commit_url
    except Exception as error:  # each library on the way has its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise OSError(
            f"push_to_hub: {folder} is complete, but could not be uploaded to "
            f"{repo} ({reason}). Log in with `hf auth login`, check name and "
            f"network, then: python -c 'from speechbrain_lact.inference.export "
            f'import push_model; push_model("{folder}", "{repo}")\''
        ) from error


def inference_yaml(experiment, normalizer=True):
    """The YAML of a trained model.

    Arguments
    ---------
    experiment : str
        The run's YAML, all values in it.
    normalizer : bool
        Whether there are statistics of the features.

    Returns
    -------
    str
    """
    settings = YAML().load(experiment)
    names = [*PARTS, *DECODER_PARTS, MEMORY_PART, "model"]
    ragged = settings.get("lact_boundaries", "fixed") != "fixed"
    if ragged:
        names.append("boundaries")
    kept = {name: settings[name] for name in names if name in settings}
    text = re.sub(
        r"^test_search: (?:&\w+ )?!name:(\S+)$",
        r"decoder: !new:\1\n  scorer: !ref <scorer>",
        dump_yaml(kept),
        flags=re.MULTILINE,
    )
    text += COMMON.format(
        rate=settings["sample_rate"],
        normalizer="\n    normalizer: !ref <normalize>" if normalizer else "",
    )
    if MEMORY_PART in kept:
        text += MEMORY
    sampler = settings.get("dynchunktrain_config_sampler")
    if sampler is not None and sampler["test_block"] is not None:
        config = BlockSampler(**sampler)(Stage.TEST)
        text += BLOCKS.format(**asdict(config))
    if ragged:
        text += BOUNDARIES
    if "seq_lin" in kept:
        return text + DECODER.format(ctc_weight=settings["ctc_weight_decode"])
    return text + CTC.format(blank=settings["blank_index"])


def dump_yaml(settings):
    """Settings as YAML."""
    stream = io.StringIO()
    YAML().dump(settings, stream)
    return stream.getvalue()
