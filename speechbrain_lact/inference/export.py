"""A trained model as a folder that SpeechBrain's interfaces load.

The folder holds `hyperparams.yaml`, the weights and the tokenizer, and may be
moved: `EncoderASR.from_hparams(source=folder)`, or `EncoderDecoderASR` for a
model with a decoder. `push_model` puts it on the Hugging Face hub.

Authors
* speechbrain_lact contributors 2026
"""

import io
import re
import shutil
from pathlib import Path

import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model

from speechbrain.processing.features import InputNormalization
from speechbrain.utils.parameter_transfer import Pretrainer

# Entries of a recipe's YAML that a trained model needs.
PARTS = ("compute_features", "normalize", "CNN", "Transformer", "ctc_lin")
DECODER_PARTS = ("seq_lin", "ctc_scorer", "test_search")

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

encoder: !new:speechbrain_lact.inference.export.Encoder
  compute_features: !ref <compute_features>
  normalize: !ref <normalize>
  cnn: !ref <CNN>
  transformer: !ref <Transformer>
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


class Encoder(torch.nn.Module):
    """From waveforms to encoder output, or to log-probabilities of CTC.

    Arguments
    ---------
    compute_features, normalize, cnn, transformer : torch.nn.Module
        The parts of the recipe.
    head : torch.nn.Module, optional
        The output layer of CTC.
    """

    def __init__(
        self,
        compute_features,
        normalize,
        cnn,
        transformer,
        head=None,
    ):
        super().__init__()
        self.compute_features, self.normalize = compute_features, normalize
        self.cnn, self.transformer = cnn, transformer
        self.head = head

    def forward(self, wavs, wav_lens=None):
        """Encodes whole utterances.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        torch.Tensor
            [B, T, d_model], or log-probabilities [B, T, tokens].
        """
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs), device=wavs.device)
        feats, lengths = self.compute_features(wavs, wav_lens)
        feats = self.normalize(feats, lengths)
        src, lengths = self.cnn(feats, lengths)
        out = self.transformer.encode(src, lengths)
        if self.head is None:
            return out
        return self.head(out).log_softmax(-1)


class FolderPretrainer(Pretrainer):
    """SpeechBrain's Pretrainer for a folder with these files.

    Arguments
    ---------
    loadables : dict
        `model`, `tokenizer`, `normalizer`.
    """

    def __init__(self, loadables):
        super().__init__(
            loadables=loadables, custom_hooks={"model": load_weights}
        )

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
        fresh = load_hyperpyyaml(text)["model"].state_dict()
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
    yaml = folder / "hyperparams.yaml"
    yaml.write_text(text)
    made = made_again(hparams["model"], text)
    weights = folder / FILES["model"]
    learned = Learned(hparams["model"], made)
    save_model(learned, str(weights), metadata={MADE: " ".join(made)})
    if counted:
        normalize._save(folder / FILES["normalizer"])
    tokens = folder / FILES["tokenizer"]
    shutil.copyfile(f"{tokenizer.prefix_model_file}.model", tokens)
    # Safetensors keeps its files from others.
    shutil.copymode(yaml, weights)


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
    yaml = YAML()
    settings = yaml.load(experiment)
    names = [*PARTS, *DECODER_PARTS, "model"]
    kept = {name: settings[name] for name in names if name in settings}
    stream = io.StringIO()
    yaml.dump(kept, stream)
    text = re.sub(
        r"^test_search: (?:&\w+ )?!name:(\S+)$",
        r"decoder: !new:\1\n  scorer: !ref <scorer>",
        stream.getvalue(),
        flags=re.MULTILINE,
    )
    text += COMMON.format(
        rate=settings["sample_rate"],
        normalizer="\n    normalizer: !ref <normalize>" if normalizer else "",
    )
    if "seq_lin" in kept:
        return text + DECODER.format(ctc_weight=settings["ctc_weight_decode"])
    return text + CTC.format(blank=settings["blank_index"])
