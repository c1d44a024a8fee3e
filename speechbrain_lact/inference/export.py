"""A trained model as a folder that SpeechBrain's interfaces load.

The folder holds `hyperparams.yaml`, the weights and the tokenizer, and may be
moved: `EncoderASR.from_hparams(source=folder)`, or `EncoderDecoderASR` for a
model with a decoder.

Authors
* speechbrain_lact contributors 2026
"""

import io
import re
import shutil
from pathlib import Path

import torch
from ruamel.yaml import YAML
from safetensors import SafetensorError
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


def load_weights(model, path):
    """Reads a safetensors file into a model.

    Arguments
    ---------
    model : torch.nn.Module
    path : str or Path
    """
    try:
        load_model(model, path)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path}: weights of another model: {error}") from None


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
    save_model(hparams["model"], str(folder / FILES["model"]))
    if counted:
        normalize._save(folder / FILES["normalizer"])
    shutil.copy(
        f"{tokenizer.prefix_model_file}.model", folder / FILES["tokenizer"]
    )
    (folder / "hyperparams.yaml").write_text(text)


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
