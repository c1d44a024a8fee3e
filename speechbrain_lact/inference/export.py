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
from dataclasses import dataclass
from pathlib import Path

import torch
from ruamel.yaml import YAML
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from speechbrain.processing.features import InputNormalization
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain_lact.lobes.models.convolution import FrontEndState
from speechbrain_lact.lobes.models.transformer.LaCT import LaCTEncoderState
from speechbrain_lact.nnet.state import State, Waiting, nested

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

BLOCKS = """  dynchunktrain_config: !new:speechbrain.utils.dynamic_chunk_training.DynChunkTrainConfig
    chunk_size: {block}
    left_context_size: {left}
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


@dataclass
class PipelineState(State):
    """What a model carries from waveforms to encoder output."""

    features: Waiting = nested(Waiting)
    """Samples that frames to come will see."""
    front: FrontEndState = nested(FrontEndState)
    """Feature frames of the front end."""
    encoder: LaCTEncoderState = nested(LaCTEncoderState)
    """Memory and windows."""


class Encoder(torch.nn.Module):
    """From waveforms to encoder output, or to log-probabilities of CTC.

    Arguments
    ---------
    compute_features, normalize, cnn, transformer : torch.nn.Module
        The parts of the recipe.
    head : torch.nn.Module, optional
        The output layer of CTC.
    dynchunktrain_config : DynChunkTrainConfig, optional
        Blocks of frames, for a model that streams.
    """

    def __init__(
        self,
        compute_features,
        normalize,
        cnn,
        transformer,
        head=None,
        dynchunktrain_config=None,
    ):
        super().__init__()
        self.compute_features, self.normalize = compute_features, normalize
        self.cnn, self.transformer = cnn, transformer
        self.head = head
        self.dynchunktrain_config = dynchunktrain_config

    @property
    def streams(self):
        """Whether a recording may come in pieces."""
        causal = getattr(self.transformer, "causal", False)
        return bool(causal) or self.dynchunktrain_config is not None

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        PipelineState
        """
        if not getattr(self.transformer, "has_lact", False):
            raise ValueError("a model without LaCT has no memory to carry")
        if not self.streams:
            encoder = self.transformer.initial_state(batch)
            return PipelineState(encoder=encoder)
        if getattr(self.normalize, "norm_type", "global") != "global":
            raise ValueError("a model that streams needs normalization: global")
        return PipelineState(
            self.compute_features.initial_state(batch),
            self.cnn.initial_state(batch),
            self.transformer.initial_state(batch),
        )

    def forward(self, wavs, wav_lens=None, state=None, final=True):
        """Encodes utterances, or pieces of them.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S]
        wav_lens : torch.Tensor, optional
            Length of each row over S [B].
        state : PipelineState, optional
            Where to go on.
        final : bool
            Whether the recordings end with these samples; with `state` alone.
            A model that does not stream takes whole ones.

        Returns
        -------
        out : torch.Tensor
            [B, T, d_model], or log-probabilities [B, T, tokens]. With a
            state, the frames that could be answered, `state.encoder.lengths`
            of them.
        state : PipelineState
            Only if a state was given.
        """
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs), device=wavs.device)
        if state is not None and not final and not self.streams:
            raise ValueError(
                "this model looks ahead and takes whole recordings; one that "
                "streams is trained with hparams/lact_streaming_ctc.yaml"
            )
        front, inner = [{}, {}], {}
        if state is not None and self.streams:
            front = [
                {"state": part, "final": final}
                for part in (state.features, state.front)
            ]
        feats, lengths, *features = self.compute_features(
            wavs, wav_lens, **front[0]
        )
        feats = self.normalize(feats, lengths)
        src, lengths, *front = self.cnn(feats, lengths, **front[1])
        if self.dynchunktrain_config is not None:
            inner["dynchunktrain_config"] = self.dynchunktrain_config
        if state is not None:
            inner.update(state=state.encoder, final=final)
        out = self.transformer.encode(src, lengths, **inner)
        if state is not None:
            out, encoder = out
            state = PipelineState(*features, *front, encoder)
            if not self.streams:
                state = PipelineState(encoder=encoder)
        if self.head is not None:
            out = self.head(out).log_softmax(-1)
        return out if state is None else (out, state)


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
    sampler = settings.get("dynchunktrain_config_sampler")
    if sampler is not None and sampler["test_block"] is not None:
        block, left = sampler["test_block"], sampler["left_context"]
        text += BLOCKS.format(block=block, left=-(-left // block))
    if "seq_lin" in kept:
        return text + DECODER.format(ctc_weight=settings["ctc_weight_decode"])
    return text + CTC.format(blank=settings["blank_index"])
