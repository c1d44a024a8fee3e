"""Adapters to the tokenizers of SpeechBrain.

Authors
* speechbrain_lact contributors 2026
"""

import importlib.util
import math
import os
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from speechbrain_lact.lobes.features import sample_counts
from speechbrain_lact.lobes.models.audio_tokenizers.base import (
    PADDING,
    AudioTokenizer,
)
from speechbrain_lact.nnet.checks import check_waves


class PretrainedAdapter(AudioTokenizer):
    """Base of the adapters to SpeechBrain's tokenizers.

    SpeechBrain's wrapper does the work; this makes it keep the promises of
    `AudioTokenizer`. The models do not promise that padding changes nothing:
    every row is encoded and decoded alone. They are never trained, and stay
    in evaluation mode.

    Audio must have the sample rate of the tokenizer: the caller resamples. A
    row shorter than the model can hear is filled up with silence. Tokens may
    be decoded from the first codebooks alone.

    `encode` and `decode` are exact, `decode_stream` is where the docstring of
    the class says so. Elsewhere it decodes a piece after `context` frames of
    what came before, and cross-fades it into the one before over `fade`
    samples: there are no clicks, and the more context, the nearer to what
    `decode` gives.

    Arguments
    ---------
    model : torch.nn.Module
        The wrapper.
    shortest : int
        The fewest samples that it can encode.
    **sizes : dict
        Arguments of `AudioTokenizer`.
    """

    def __init__(self, model, shortest=1, **sizes):
        super().__init__(**sizes)
        self.model, self.shortest = model.requires_grad_(False), shortest
        self.train(self.training)

    def train(self, mode=True):
        """The model stays in evaluation mode."""
        super().train(mode)
        self.model.eval()
        return self

    def _tokens(self, wav):
        """Tokens [1, T, K] of one row [1, S]."""
        raise NotImplementedError

    def _wave(self, tokens):
        """Audio of one row [1, T, K'], of about T * hop samples."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, wav, wav_len=None):
        """As `AudioTokenizer.encode`."""
        check_waves(wav, what="wav")
        wav = wav.to(next(self.model.parameters()).dtype)
        none = torch.zeros(0, len(self.codebook_sizes), dtype=torch.long)
        rows = []
        for row, n in zip(wav, sample_counts(wav, wav_len).tolist()):
            row = F.pad(row[:n], (0, max(0, self.shortest - n)))
            rows.append(
                self._tokens(row[None])[0] if n else none.to(wav.device)
            )
        return pad_sequence(rows, True, PADDING)

    @torch.no_grad()
    def decode(self, tokens):
        """As `AudioTokenizer.decode`."""
        self.check(tokens)
        like = next(self.model.parameters())
        wav = like.new_zeros(len(tokens), tokens.shape[1] * self.hop)
        for out, row in zip(wav, tokens):
            row = row[: int((row[:, 0] != PADDING).sum())]
            if bool((row == PADDING).any()):
                raise ValueError(
                    f"tokens: {PADDING} stands before a row's last frame"
                )
            if len(row):
                made = self._wave(row[None]).flatten()[: len(row) * self.hop]
                out[: len(made)] = made
        return wav


def _load(source, build):
    """What a function makes of a folder or a name on the hub."""
    try:
        return build()
    except ImportError as error:
        raise ImportError(
            f"{source}: a package is missing; for EnCodec, Mimi and SSL pip "
            f"install transformers ({error})"
        ) from error
    except Exception as error:  # each library on the way has its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        what = "cannot be used as a tokenizer of this kind"
        if not os.path.exists(source):
            what = (
                "is not a local folder and could not be fetched: check name "
                "and network, or give a local folder"
            )
        raise OSError(f"{source} {what} ({reason})") from error


def _must_be_trusted(source, trust, what):
    """Refuses a kind of file that is code, unless it is trusted."""
    if not trust:
        raise ValueError(
            f"{source}: {what} and could run any code: if you trust who made "
            f"it, load it with trust=True"
        )


def _in_place_of_download(module, source, **others):
    """A wrapper that knows names on the hub only, for a local folder: a copy
    of its module, so that all others keep theirs."""
    if not os.path.isdir(source):
        return module
    copy = importlib.util.module_from_spec(module.__spec__)
    module.__spec__.loader.exec_module(copy)
    vars(copy).update(others, snapshot_download=lambda **_: str(source))
    return copy


def _usual_fade(sample_rate, hop):
    """A fade of 5 ms, at most a frame."""
    return min(hop, sample_rate // 200)


class EncodecAdapter(PretrainedAdapter):
    """EnCodec (Defossez et al., "High fidelity neural audio compression",
    2022), for one channel and recordings of any length, as
    `facebook/encodec_24khz`.

    Its decoder has an LSTM: `decode_stream` is not exact.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a local folder.
    bandwidth : float
        In kbit/s; how many codebooks there are follows from it.
    save_path : str
        Where models from the hub are kept.
    context : int
        Frames that are decoded again before each piece.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If it is for stereo or for pieces of fixed length, or has no such
        bandwidth.

    Example
    -------
    >>> import transformers
    >>> folder = str(getfixture("tmpdir"))
    >>> config = transformers.EncodecConfig(
    ...     num_filters=2,
    ...     hidden_size=4,
    ...     codebook_dim=4,
    ...     codebook_size=4,
    ...     upsampling_ratios=[4, 2],
    ...     target_bandwidths=[12.0],
    ... )
    >>> transformers.EncodecModel(config).save_pretrained(folder)
    >>> tokenizer = EncodecAdapter(folder, bandwidth=12.0)
    >>> tokens = tokenizer.encode(torch.randn(1, 79))
    >>> tokens.shape, tokenizer.decode(tokens).shape
    (torch.Size([1, 10, 2]), torch.Size([1, 80]))
    """

    def __init__(self, source, bandwidth=6.0, save_path="", context=75):
        def build():
            from speechbrain.integrations.huggingface.encodec import Encodec

            return Encodec(
                source,
                save_path,
                bandwidth=bandwidth,
                renorm_embeddings=False,
            )

        model = _load(source, build)
        config = model.model.config
        if bandwidth not in config.target_bandwidths:
            raise ValueError(
                f"bandwidth: {bandwidth}, but {source} has "
                f"{list(config.target_bandwidths)}"
            )
        pieces = config.chunk_length_s is not None
        if pieces or config.normalize or config.audio_channels != 1:
            raise ValueError(
                f"{source} is for stereo, or for pieces whose loudness is kept "
                f"beside the tokens: use one as facebook/encodec_24khz"
            )
        super().__init__(
            model,
            sample_rate=config.sampling_rate,
            hop=int(config.hop_length),
            codebook_sizes=[config.codebook_size] * model.num_heads,
            context=context,
            look_ahead=0 if config.use_causal_conv else 10,
            fade=_usual_fade(config.sampling_rate, config.hop_length),
        )

    def _tokens(self, wav):
        return self.model.encode(wav, wav.new_ones(1))[0]

    def _wave(self, tokens):
        return self.model.decode(tokens)


class MimiAdapter(PretrainedAdapter):
    """Mimi (Defossez et al., "Moshi", 2024), as `kyutai/mimi`.

    Its decoder has attention over many seconds: `decode_stream` is not exact.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a local folder.
    num_codebooks : int
        How many to use, at least 2.
    save_path : str
        Where models from the hub are kept.
    context : int
        Frames that are decoded again before each piece.

    Raises
    ------
    OSError
        If there is no such model.
    ValueError
        If it has fewer codebooks.
    """

    def __init__(self, source, num_codebooks=8, save_path="", context=50):
        def build():
            from speechbrain.integrations.huggingface.mimi import Mimi

            return Mimi(source, save_path, num_codebooks=num_codebooks)

        model = _load(source, build)
        config = model.model.config
        if not 2 <= num_codebooks <= config.num_quantizers:
            raise ValueError(
                f"num_codebooks: {num_codebooks}, but {source} has from 2 to "
                f"{config.num_quantizers}"
            )
        hop = round(config.sampling_rate / config.frame_rate)
        super().__init__(
            model,
            sample_rate=config.sampling_rate,
            hop=hop,
            codebook_sizes=[config.codebook_size] * num_codebooks,
            context=context,
            look_ahead=0 if config.use_causal_conv else 10,
            fade=_usual_fade(config.sampling_rate, hop),
        )

    def _tokens(self, wav):
        table = self.model.embeddings
        if table is not None and table.device != wav.device:
            self.model.embeddings = None  # made again where it is needed
        return self.model.encode(wav, wav.new_ones(1))[0].transpose(1, 2)

    def _wave(self, tokens):
        return self.model.decode(tokens.transpose(1, 2))


class DACAdapter(PretrainedAdapter):
    """DAC (Kumar et al., "High-fidelity audio compression with improved
    RVQGAN", 2023).

    `decode_stream` is exact: its decoder is made of convolutions alone.

    Arguments
    ---------
    source : str
        `16khz`, `24khz` or `44khz`, which SpeechBrain fetches; or a local
        file of weights (`.pth`), or a folder with one.
    bitrate : str
        `8kbps`, or for `44khz` also `16kbps`.

    Raises
    ------
    OSError
        If there is no such model.

    Example
    -------
    >>> from speechbrain.lobes.models.discrete.dac import DAC
    >>> sizes = {"encoder_dim": 2, "encoder_rates": [2, 4], "decoder_dim": 8}
    >>> sizes = {**sizes, "decoder_rates": [4, 2], "sample_rate": 16000}
    >>> file = str(getfixture("tmpdir") / "weights.pth")
    >>> weights = DAC(**sizes).state_dict()
    >>> torch.save({"state_dict": weights, "metadata": {"kwargs": sizes}}, file)
    >>> tokenizer = DACAdapter(file)
    >>> tokens = tokenizer.encode(torch.randn(1, 79))
    >>> tokens.shape, tokenizer.decode(tokens).shape
    (torch.Size([1, 10, 9]), torch.Size([1, 80]))
    """

    def __init__(self, source, bitrate="8kbps"):
        def build():
            from speechbrain.lobes.models.discrete.dac import DAC

            where = {"model_type": source, "model_bitrate": bitrate}
            if os.path.exists(source):
                files = [Path(source)]
                if files[0].is_dir():
                    files = sorted(files[0].glob("*.pth"))
                if len(files) != 1:
                    raise FileNotFoundError(f"{len(files)} files *.pth in it")
                where = {"load_path": files[0]}
            return DAC(load_pretrained=True, strict=True, **where)

        model = _load(source, build)
        super().__init__(
            model,
            sample_rate=model.sample_rate,
            hop=math.prod(model.encoder_rates),
            codebook_sizes=[model.codebook_size] * model.n_codebooks,
            context=self._reach(model.decoder_rates),
            look_ahead=self._reach(model.decoder_rates),
        )

    @staticmethod
    def _reach(rates):
        """Frames on either side that the decoder sees: convolutions of 7,
        after each transposed one also of dilation 3 and 9."""
        reach, rate = 3.0, 1
        for stride in rates:
            reach += 2 / rate
            rate *= stride
            reach += 3 * (1 + 3 + 9) / rate
        return math.ceil(reach + 3 / rate)

    def _tokens(self, wav):
        return self.model(wav[:, None])[0].transpose(1, 2)

    def _wave(self, tokens):
        codes = self.model.quantizer.from_codes(tokens.transpose(1, 2))
        return self.model.decode(codes[0])


class SpeechTokenizerAdapter(PretrainedAdapter):
    """SpeechTokenizer (Zhang et al., 2024), as `fnlp/SpeechTokenizer`; needs
    the package `speechtokenizer`.

    Its decoder has an LSTM: `decode_stream` is not exact.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a local folder as there.
    save_path : str
        Where models from the hub are kept.
    context, look_ahead : int
        Frames that are decoded again before each piece, and waited for.

    Raises
    ------
    ImportError
        If the package is missing.
    OSError
        If there is no such model.
    """

    def __init__(self, source, save_path=None, context=50, look_ahead=10):
        def build():
            from speechbrain.integrations.audio_tokenizers import (
                speechtokenizer_interface as wrappers,
            )

            wrappers = _in_place_of_download(wrappers, source)
            return wrappers.SpeechTokenizer(source, save_path)

        model = _load(source, build)
        rate, most = model.model.sample_rate, model.model.n_q
        hop = _samples_of_a_frame(
            lambda n: model.decode(torch.zeros(most, 1, n, dtype=torch.long))
        )
        super().__init__(
            model,
            hop,
            sample_rate=rate,
            hop=hop,
            codebook_sizes=[model.model.quantizer.bins] * most,
            context=context,
            look_ahead=look_ahead,
            fade=_usual_fade(rate, hop),
        )

    def _tokens(self, wav):
        return self.model.encode(wav).movedim(0, -1)

    def _wave(self, tokens):
        return self.model.decode(tokens.movedim(-1, 0))


class WavTokenizerAdapter(PretrainedAdapter):
    """WavTokenizer (Ji et al., 2024), one codebook, as
    `novateur/WavTokenizer`; needs the package `wavtokenizer`.

    Its decoder has attention and norms over time: `decode_stream` is not
    exact.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a local folder as there.
    save_path : str, optional
        Where models from the hub are kept.
    context, look_ahead : int
        Frames that are decoded again before each piece, and waited for.
    trust : bool
        Whether whatever code its configuration names may run.
    **kwargs : dict
        `config` and `checkpoint`, the names of the files.

    Raises
    ------
    ImportError
        If the package is missing.
    OSError
        If there is no such model.
    ValueError
        If it is not trusted.
    """

    def __init__(
        self,
        source,
        save_path=None,
        context=100,
        look_ahead=40,
        trust=False,
        **kwargs,
    ):
        _must_be_trusted(source, trust, "its configuration names classes")

        def build():
            from speechbrain.integrations.audio_tokenizers import (
                wavtokenizer_interface as wrappers,
            )

            wrappers = _in_place_of_download(wrappers, source)
            return wrappers.WavTokenizer(source, save_path, **kwargs)

        model = _load(source, build)
        hop = _samples_of_a_frame(
            lambda n: model.decode(torch.zeros(1, 1, n, dtype=torch.long))
        )
        super().__init__(
            model,
            hop,
            sample_rate=model.sample_rate,
            hop=hop,
            codebook_sizes=[len(model.embeddings)],
            context=context,
            look_ahead=look_ahead,
            fade=_usual_fade(model.sample_rate, hop),
        )

    def _tokens(self, wav):
        return self.model.encode(wav)[0].transpose(1, 2)

    def _wave(self, tokens):
        return self.model.decode(tokens.transpose(1, 2))


@torch.no_grad()
def _samples_of_a_frame(decode):
    """What a frame more adds to the audio."""
    return decode(9).shape[-1] - decode(8).shape[-1]


class DiscreteSSLAdapter(PretrainedAdapter):
    """Clusters of the layers of a self-supervised encoder, and the vocoder
    trained on them, as `speechbrain/hifigan-wavlm-k1000-LibriTTS`.

    There are as many frames as the encoder has, a little less than the audio
    lasts. A local folder without a vocoder encodes only. `decode_stream` is
    not exact.

    Arguments
    ---------
    source : str
        Name on the Hugging Face hub, or a local folder, of the clusters
        (`kmeans/*.pt`) and the vocoder (`hyperparams.yaml` and its weights).
    ssl_model : torch.nn.Module
        SpeechBrain's `WavLM`, `HuBERT` or `Wav2Vec2` with
        `output_all_hiddens`.
    kmeans_dataset : str
        First part of the names of the cluster files.
    num_clusters : int or list of int
        Of each layer.
    layers : list of int, optional
        Which layers; default: all there are.
    save_path : str, optional
        Where models from the hub are kept.
    context, look_ahead : int
        Frames that are decoded again before each piece, and waited for.
    trust : bool
        Whether whatever code its files hold may run: the clusters are pickles.

    Raises
    ------
    OSError
        If there are no such models.
    ValueError
        If the encoder gives its last layer only, or if it is not trusted.
    """

    def __init__(
        self,
        source,
        ssl_model,
        kmeans_dataset="LibriSpeech960",
        num_clusters=1000,
        layers=None,
        save_path=None,
        context=40,
        look_ahead=20,
        trust=False,
    ):
        _must_be_trusted(source, trust, "its clusters are pickles")
        if not getattr(ssl_model, "output_all_hiddens", False):
            raise ValueError("ssl_model: build it with output_all_hiddens=True")
        folder = Path(source)
        vocoder = not folder.is_dir() or (folder / "hyperparams.yaml").exists()

        def build():
            from speechbrain.integrations.audio_tokenizers import (
                discrete_ssl as wrappers,
            )

            none = SimpleNamespace(from_hparams=lambda **_: SimpleNamespace())
            others = {} if vocoder else {"UnitHIFIGAN": none}
            wrappers = _in_place_of_download(wrappers, source, **others)
            return wrappers.DiscreteSSL(
                save_path,
                ssl_model,
                kmeans_dataset,
                str(source),
                num_clusters,
                layers,
            )

        model = _load(source, build)
        for means in model.kmeans_models:
            # What scikit-learn makes of the tensors it is asked about
            means.cluster_centers_ = means.cluster_centers_.astype("float64")
        convolutions = ssl_model.model.config
        strides, shortest = list(convolutions.conv_stride), 1
        for kernel, stride in zip(
            convolutions.conv_kernel[::-1], strides[::-1]
        ):
            shortest = (shortest - 1) * stride + kernel
        hop = math.prod(strides)
        super().__init__(
            model,
            shortest,
            sample_rate=model.sample_rate,
            hop=hop,
            codebook_sizes=model.num_clusters,
            context=context,
            look_ahead=look_ahead,
            fade=_usual_fade(model.sample_rate, hop),
        )
        self.source, self.vocoder = source, vocoder

    def _tokens(self, wav):
        return self.model.encode(wav, wav.new_ones(1))[0]

    def _wave(self, tokens):
        if not self.vocoder:
            raise ValueError(
                f"{self.source} has no vocoder, so these tokens cannot be "
                f"decoded: put its hyperparams.yaml and weights there, or "
                f"give a name as speechbrain/hifigan-wavlm-k1000-LibriTTS"
            )
        self.model.device = self.model.codec_vocoder.device = tokens.device
        time, layers = tokens.shape[1], self.model.ssl_layer_ids
        # The vocoder wants four frames.
        short = tokens[:, -1:].expand(-1, max(0, 4 - time), -1)
        tokens = torch.cat([tokens, short], 1)
        return self.model.decode(tokens, list(layers[: tokens.shape[2]]))
