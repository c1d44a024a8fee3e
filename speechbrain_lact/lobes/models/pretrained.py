"""Pretrained speech encoders (wav2vec 2.0, WavLM, HuBERT, Whisper) with LaCT
layers on top.

The encoders are SpeechBrain's wrappers of Hugging Face models. The LaCT layers
enter through a gate that starts at zero: before training, the model is the
pretrained encoder to the bit.

Authors
* speechbrain_lact contributors 2026
"""

import math
import os

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.transformer.encoder import ENCODERS
from speechbrain_lact.nnet.checks import (
    check_number,
    check_tensor,
    check_waves,
    row_counts,
)
from speechbrain_lact.nnet.counts import host_values
from speechbrain_lact.nnet.frames import length_mask, padding_mask, zero_padding
from speechbrain_lact.nnet.plan import ChunkPlan

# SpeechBrain's wrapper of each `model_type` of a Hugging Face configuration.
WRAPPERS = {
    "wav2vec2": "Wav2Vec2",
    "wavlm": "WavLM",
    "hubert": "HuBERT",
    "whisper": "Whisper",
}
WHISPER_STRIDE = 320  # samples per frame: hop 160, then a convolution's 2


class PretrainedFrontEnd(nn.Module):
    """A pretrained encoder as a front end: waveform in, frames out.

    A row gives the same frames alone and in a padded batch. The hosts do not
    promise that, so padding is kept from them:

    - Samples of the padding are zeroed, and a waveform that the host wants
      normalised is normalised over its real samples. (SpeechBrain's wrappers
      normalise over the padded row.)
    - wav2vec 2.0, WavLM and HuBERT get the lengths, build their attention
      mask from them, and zero padded frames before their positional
      convolution. This is enough for models with `feat_extract_norm: layer`
      (most large ones). A model with `feat_extract_norm: group` (most base
      ones) has a norm over time that no mask reaches, as have adapters: rows
      of different lengths are encoded one by one.
    - Whisper has no mask. It hears 30 s, the rest of which is silence, and
      clamps the spectrogram by the loudest value of the batch: spectrograms
      are made row by row; a longer row is cut into pieces of 30 s.

    A row shorter than the host's first frame is filled up with silence.

    Frozen, the host stays in evaluation mode, and checkpoints hold a checksum
    of its weights instead of the weights.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a folder with `config.json`,
        `preprocessor_config.json` and the weights.
    lact_hidden_size : int
        Width of the pretrained encoder.
    save_path : str
        Where models from the hub are kept.
    freeze : bool
        Whether the pretrained encoder stays as it is.

    Raises
    ------
    ImportError
        If transformers is not installed.
    OSError
        If there is no model under this name.
    ValueError
        If it is of another kind or width, or other weights than those of a
        checkpoint.

    Example
    -------
    >>> import transformers
    >>> folder = str(getfixture("tmpdir"))
    >>> config = transformers.HubertConfig(
    ...     hidden_size=8,
    ...     num_hidden_layers=1,
    ...     num_attention_heads=2,
    ...     intermediate_size=8,
    ...     conv_dim=[4] * 7,
    ...     num_conv_pos_embedding_groups=2,
    ... )
    >>> transformers.HubertModel(config).save_pretrained(folder)
    >>> extractor = transformers.Wav2Vec2FeatureExtractor()
    >>> _ = extractor.save_pretrained(folder)
    >>> net = PretrainedFrontEnd(folder, lact_hidden_size=8)
    >>> frames, lengths = net(torch.randn(2, 4000), torch.tensor([1.0, 0.5]))
    >>> frames.shape, lengths * 12
    (torch.Size([2, 12, 8]), tensor([12.,  6.], dtype=torch.float64))
    """

    def __init__(self, source, lact_hidden_size, save_path="", freeze=True):
        super().__init__()
        self.freeze, self.output_size = freeze, lact_hidden_size
        config = _fetch(source, _read_config, source, save_path)
        self.kind = config.model_type
        _check_config(config, source, lact_hidden_size)
        self.host = _fetch(source, _build, self.kind, source, save_path, freeze)
        # Saved in half precision, it comes in half precision.
        self.host.float()
        self.normalizes = self.kind != "whisper" and self.host.normalize_wav
        self.host.normalize_wav = False
        # Norms and adapters over time that read what no mask reaches
        group = getattr(config, "feat_extract_norm", "") == "group"
        self.alone = group or getattr(config, "add_adapter", False)
        self.train(self.training)
        if freeze:
            self.source = source
            total = sum(p.double().abs().sum() for p in self.host.parameters())
            self.register_buffer("checksum", total)
            self.register_state_dict_post_hook(_leave_out_host)
            self.register_load_state_dict_pre_hook(_put_in_host)

    def _apply(self, function, recurse=True):
        """As of every module; the checksum is of the weights as they were
        read, and not rounded."""
        before = self._buffers.get("checksum")
        super()._apply(function, recurse)
        if before is not None:
            self.checksum = before.to(self.checksum.device)
        return self

    def configuration(self):
        """What, beside the weights, changes the frames.

        Returns
        -------
        dict
        """
        return {"kind": self.kind, "normalizes": self.normalizes}

    def train(self, mode=True):
        """A frozen host stays in evaluation mode."""
        super().train(mode)
        if self.freeze:
            self.host.eval()
        return self

    def unfreeze(self):
        """Lets gradients into the host. It is still not saved with a model
        that was made with a frozen one."""
        self.freeze = self.host.freeze = False
        self.requires_grad_(True)

    @property
    def stride(self):
        """Samples per frame."""
        if self.kind == "whisper":
            return WHISPER_STRIDE
        return math.prod(self.host.model.config.conv_stride)

    def frames(self, samples):
        """Number of frames.

        Arguments
        ---------
        samples : torch.Tensor
            Numbers of samples [B].

        Returns
        -------
        torch.Tensor
            Integers [B], at least 1.
        """
        if self.kind == "whisper":
            return -(-samples.clamp(min=1) // WHISPER_STRIDE)
        lengths = self.host.model._get_feat_extract_output_lengths(samples)
        return lengths.clamp(min=1)

    def forward(self, wav, wav_len=None):
        """Frames of a batch of waveforms.

        Arguments
        ---------
        wav : torch.Tensor
            [B, S] or [B, S, 1]
        wav_len : torch.Tensor, optional
            Length of each row over S [B].

        Returns
        -------
        frames : torch.Tensor
            [B, T, lact_hidden_size], zeros at padding.
        lengths : torch.Tensor
            Frames of each row over T [B], float64.
        """
        if isinstance(wav, torch.Tensor) and wav.ndim == 3:
            wav = check_tensor(wav, ("B", "S", 1), "wav").flatten(1)
        check_waves(wav, what="wav")
        wav = wav.to(next(self.host.parameters()).dtype)
        samples = sample_counts(wav, wav_len)
        rows = [row[:n] for row, n in zip(wav, samples.tolist())]
        encode = self._pieces if self.kind == "whisper" else self._convolve
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and not self.freeze
        ):
            out = encode(rows)
        counts = self.frames(samples)
        out = zero_padding(out, padding_mask(counts, out.shape[1]))
        return out, counts.double() / out.shape[1]

    def _convolve(self, rows):
        """wav2vec 2.0 and its kin: convolutions, then a masked encoder."""
        if self.normalizes:
            rows = [F.layer_norm(row, row.shape) for row in rows]
        short = self._first_frame()
        rows = [F.pad(row, (0, max(0, short - len(row)))) for row in rows]
        if len({len(row) for row in rows}) == 1:
            return self.host(torch.stack(rows))
        if self.alone:
            out = [self.host(row[None])[0] for row in rows]
            return pad_sequence(out, batch_first=True)
        wav = pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=wav.device)
        return self.host(wav, lengths.double() / wav.shape[1])

    def _first_frame(self):
        """Samples that one frame takes."""
        config, samples = self.host.model.config, 1
        layers = list(zip(config.conv_kernel, config.conv_stride))
        for kernel, stride in reversed(layers):
            samples = (samples - 1) * stride + kernel
        return samples

    def _pieces(self, rows):
        """Whisper: pieces of 30 s, joined again."""
        from speechbrain.integrations.huggingface.whisper import N_SAMPLES

        types = {rows[0].dtype, torch.get_default_dtype()}
        if types != {torch.float32}:
            raise ValueError(
                "the spectrogram of Whisper is made in float32 alone: take "
                "autocast in place of half() and the like, and leave the "
                "default type as it is"
            )
        cut = [row.split(N_SAMPLES) for row in rows]
        mel = [self.host._get_mel(p[None]) for pieces in cut for p in pieces]
        out = self.host.forward_encoder(torch.cat(mel))
        out = out.split([len(pieces) for pieces in cut])
        out = pad_sequence([x.flatten(0, 1) for x in out], batch_first=True)
        longest = max(len(row) for row in rows)
        return out[:, : max(1, -(-longest // WHISPER_STRIDE))]


def _read_config(source, save_path):
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(
        source, cache_dir=save_path or None, trust_remote_code=False
    )


def _build(kind, source, save_path, freeze):
    from speechbrain.integrations import huggingface

    options = {"encoder_only": True} if kind == "whisper" else {}
    wrapper = getattr(huggingface, WRAPPERS[kind])
    return wrapper(source, save_path, freeze=freeze, **options)


def _fetch(source, function, *args):
    """Result of a function that reads from a folder or the hub."""
    try:
        return function(*args)
    except ImportError as error:
        raise ImportError(
            f"pretrained encoders: pip install transformers ({error})"
        ) from error
    except Exception as error:  # each library on the way has its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if os.path.isdir(source):
            raise OSError(
                f"pretrained_source: the folder {source} cannot be used; it "
                f"needs config.json, preprocessor_config.json and weights "
                f"({reason})"
            ) from error
        raise OSError(
            f"pretrained_source: {source} is not a folder and could not be "
            f"fetched from the Hugging Face hub: check name and network, or "
            f"give a local folder with config.json, preprocessor_config.json "
            f"and weights ({reason})"
        ) from error


def _check_config(config, source, width):
    if config.model_type not in WRAPPERS:
        raise ValueError(
            f"pretrained_source: {source} is of type {config.model_type}, not "
            f"one of {', '.join(WRAPPERS)}"
        )
    real = config.hidden_size
    if getattr(config, "add_adapter", False):
        real = config.output_hidden_size
    if width != real:
        raise ValueError(
            f"lact_hidden_size: {width}, but {source} is {real} wide: set "
            f"lact_hidden_size to {real}"
        )


def _leave_out_host(module, state_dict, prefix, metadata):
    for name in list(state_dict):
        if name.startswith(f"{prefix}host."):
            del state_dict[name]


def _put_in_host(module, state_dict, prefix, *_):
    known = state_dict.get(f"{prefix}checksum", module.checksum)
    if not math.isclose(known.item(), module.checksum.item(), rel_tol=1e-5):
        raise ValueError(
            f"pretrained_source: the weights of {module.source} are not those "
            f"that the checkpoint was trained with"
        )
    for name, value in module.host.state_dict().items():
        state_dict.setdefault(f"{prefix}host.{name}", value)


class NoNormalization(nn.Module):
    """In place of SpeechBrain's InputNormalization: the input as it is.

    Example
    -------
    >>> NoNormalization()(torch.ones(1, 2), torch.ones(1), epoch=1)
    tensor([[1., 1.]])
    """

    def forward(self, x, lengths=None, epoch=None):
        """`x` itself."""
        return x


class GatedLaCT(nn.Module):
    """LaCT layers on frames of another model: `x + gate * layers(x)`.

    The gate has a value per channel and starts at zero: the output is the
    input to the bit, and the gate gets a gradient at once (the layers, from
    the second step on).

    Arguments
    ---------
    d_model : int
        Width of the frames.
    num_layers : int
        Number of layers; without any, the input is returned.
    lact : dict, optional
        Arguments of `speechbrain_lact.nnet.lact.LaCT` beyond width, heads and
        dropout.
    encoder_module : str
        `transformer`, `conformer` or `branchformer`.
    **kwargs : dict
        Arguments of that encoder: `nhead`, `d_ffn`, `dropout`, ...

    Raises
    ------
    ValueError
        If `encoder_module` is unknown.

    Example
    -------
    >>> net = GatedLaCT(16, 2, {"chunk_size": 8}, nhead=2, d_ffn=32)
    >>> x = torch.randn(2, 20, 16)
    >>> out, _, state = net(x, None, state=net.initial_state(2))
    >>> torch.equal(out, x), state.updates
    (True, tensor([3., 3.], dtype=torch.float64))
    """

    def __init__(
        self,
        d_model,
        num_layers=2,
        lact=None,
        encoder_module="transformer",
        **kwargs,
    ):
        super().__init__()
        if encoder_module not in ENCODERS:
            raise ValueError(
                f"encoder_module must be one of {', '.join(ENCODERS)}, "
                f"not {encoder_module!r}"
            )
        check_number(num_layers, "num_layers", least=0, integer=True)
        self.d_model, self.carries_state = d_model, num_layers > 0
        if self.carries_state:
            self.encoder = ENCODERS[encoder_module](
                num_layers, lact or {}, d_model=d_model, **kwargs
            )
            self.gate = nn.Parameter(torch.zeros(d_model))

    def initial_state(self, batch):
        """State of rows that have heard nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTEncoderState
        """
        return self.encoder.initial_state(batch)

    def forward(
        self, src, tgt=None, wav_len=None, pad_idx=0, state=None, final=True
    ):
        """As `TransformerASR.forward` without targets.

        Arguments
        ---------
        src : torch.Tensor
            [B, T, d_model]
        tgt : None
            Not used.
        wav_len : torch.Tensor, optional
            Length of each row over T [B].
        pad_idx : int
            Not used.
        state : LaCTEncoderState, optional
            Where to go on.
        final : bool
            Whether the sequence ends with this input; with `state` alone.

        Returns
        -------
        out : torch.Tensor
            [B, T, d_model]. With a state, the frames that could be answered,
            `state.lengths` of them.
        attention : list
            One None a layer.
        state : LaCTEncoderState
            Only if a state was given.
        """
        check_tensor(src, ("B", "T", self.d_model), "src")
        if state is not None and not self.carries_state:
            raise ValueError("state: without layers there is no memory")
        counts = row_counts(wav_len, src, "wav_len")
        plan = ChunkPlan(host_values(counts), src.shape[1], src.device)
        x = zero_padding(src, plan.mask)
        if not self.carries_state:
            return x, []
        out, *rest = self.encoder(x, plan=plan, state=state, final=final)
        if state is not None:
            lengths = plan.counts(plan.lengths)
            # What the encoder answered: what had waited comes first.
            x, lengths, _ = state.waiting.push(
                x, lengths, self.encoder.group, final
            )
            x = zero_padding(x, length_mask(lengths, x.shape[1]))
        return x + self.gate * out, *rest

    def encode(self, src, wav_len=None, state=None, final=True):
        """As `forward`, without the attention; as `TransformerASR.encode`."""
        out, _, *state = self(src, None, wav_len, 0, state, final)
        return (out, *state) if state else out
