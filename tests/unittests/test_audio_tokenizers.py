"""Tokenizers: one interface, for our own and for SpeechBrain's, which are made
here, without weights from the hub.

Authors
* speechbrain_lact contributors 2026
"""

import json
import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import joblib
import pytest
import torch
import transformers
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from sklearn.cluster import KMeans, MiniBatchKMeans

from speechbrain.integrations.huggingface.wavlm import WavLM
from speechbrain.lobes.models.discrete.dac import DAC
from speechbrain.lobes.models.HifiGAN import UnitHifiganGenerator
from speechbrain_lact.lobes.models.audio_tokenizers import (
    PADDING,
    DACAdapter,
    DiscreteSSLAdapter,
    EncodecAdapter,
    MelTokenizer,
    MimiAdapter,
    SpeechTokenizerAdapter,
    WavTokenizerAdapter,
)

MANY = settings(max_examples=25, deadline=None, derandomize=True)
FEW = settings(max_examples=6, deadline=None, derandomize=True)
PIECES = st.lists(st.integers(0, 17), min_size=1, max_size=8)
SAMPLES = [701, 0, 64, 1, 330]


def speech(samples, rate=16000, seed=0):
    """Voiced sounds of a wandering pitch, each with a noise before it."""
    noise = torch.Generator().manual_seed(seed)
    time = torch.arange(samples, dtype=torch.float64) / rate
    pitch = 140 + 40 * torch.sin(5 * time) + 25 * torch.sin(17 * time)
    phase = (2 * torch.pi * pitch / rate).cumsum(0)
    tone = sum(
        torch.sin(n * phase) * torch.exp(-abs(n - 8 - 6 * torch.sin(9 * time)))
        for n in range(1, 24)
    )
    hiss = torch.randn(samples, generator=noise, dtype=torch.float64)
    loud = torch.sin(12 * time).clamp(min=0)
    return 0.3 * loud * tone + 0.05 * (1 - loud) ** 4 * hiss


def batch(samples, width=None, dtype=torch.float32, seed=1):
    """Rows of these lengths, NaN after them, and their relative lengths."""
    width = width or max(samples) + 37
    torch.manual_seed(seed)
    wav = torch.randn(len(samples), width, dtype=dtype)
    for row, n in zip(wav, samples):
        row[n:] = float("nan")
    return wav, torch.tensor(samples).double() / width


def joined(tokenizer, tokens, sizes):
    """Decoded in pieces; what is left over comes last."""
    sizes = [*sizes, tokens.shape[1]]
    state, out, start = None, [], 0
    for n in sizes:
        piece = tokens[:, start : start + n]
        start += piece.shape[1]
        final = start == tokens.shape[1]
        wav, state = tokenizer.decode_stream(piece, state, final)
        out.append(wav)
        if final:
            return torch.cat(out, 1)


# ---------------------------------------------------------------- our own
@pytest.fixture(scope="module")
def mel():
    """A tokenizer whose codebooks fit `speech`; its vocoder is untrained."""
    torch.manual_seed(0)
    tokenizer = MelTokenizer(
        hop=80,
        n_fft=320,
        n_mels=20,
        num_codebooks=4,
        codebook_size=16,
        width=12,
        num_blocks=2,
        kernel_size=3,
    ).double()
    feats, _ = tokenizer.features(speech(32000)[None])
    tokenizer.mean.copy_(feats.mean((0, 1)))
    tokenizer.std.copy_(feats.std((0, 1)))
    rest, _ = tokenizer.features(speech(32000)[None])
    rest = rest[0]
    for codes in tokenizer.codebooks:
        means = KMeans(16, n_init=1, random_state=0).fit(rest.numpy())
        codes.copy_(torch.from_numpy(means.cluster_centers_))
        rest = rest - codes[torch.from_numpy(means.labels_).long()]
    return tokenizer.requires_grad_(False)


def test_mel_padding_does_not_exist(mel):
    wav, lengths = batch(SAMPLES, dtype=torch.float64)
    tokens = mel.encode(wav, lengths)
    audio = mel.decode(tokens)
    assert audio.dtype == torch.float64
    for row, n in enumerate(SAMPLES):
        alone = mel.encode(wav[row : row + 1, :n])
        time = -(-n // 80)
        assert alone.shape == (1, time, 4)
        assert torch.equal(tokens[row, :time], alone[0])
        assert bool((tokens[row, time:] == PADDING).all())
        single = mel.decode(alone)[0]
        assert (audio[row, : 80 * time] - single).abs().sum() < 1e-9
        assert not audio[row, 80 * time :].any()


@MANY
@given(sizes=PIECES, seed=st.integers(0, 99))
def test_mel_pieces_joined_are_the_whole(mel, sizes, seed):
    torch.manual_seed(seed)
    tokens = torch.randint(0, 16, (3, 60, 4))
    for row, n in zip(tokens, [60, 23, 0]):
        row[n:] = PADDING
    whole = mel.decode(tokens)
    assert (joined(mel, tokens, sizes) - whole).abs().max() < 1e-9


def test_mel_first_audio_comes_after_the_look_ahead(mel):
    tokens = torch.randint(0, 16, (1, mel.look_ahead + 1, 4))
    wav, state = mel.decode_stream(tokens[:, :-1])
    assert wav.shape == (1, 0)
    wav, _ = mel.decode_stream(tokens[:, -1:], state)
    assert wav.shape == (1, 80)


def test_more_codebooks_are_nearer(mel):
    wav = speech(16000, seed=5)[None]
    feats, _ = mel.features(wav)
    tokens = mel.encode(wav)
    frames, audio = [], []
    for k in (1, 2, 4):
        said = mel.dequantize(tokens[..., :k])
        frames.append(float((said - feats).square().mean()))
        torch.manual_seed(0)
        heard, _ = mel.features(mel.griffin_lim(said[0])[None])
        audio.append(float((heard - feats).square().mean()))
    assert frames[0] > 1.2 * frames[1] > 1.44 * frames[2]
    assert audio[0] > 1.1 * audio[2]
    # Nearest in each codebook: no other token is nearer to what is left.
    left = feats - mel.dequantize(tokens[..., :1])
    others = (left[..., None, :] - mel.codebooks[1]).square().sum(-1)
    assert torch.equal(others.argmin(-1), tokens[..., 1])


def test_mel_decodes_the_first_codebooks(mel):
    tokens = torch.randint(0, 16, (2, 9, 4))
    without = tokens.clone()
    without[..., 2:] = PADDING
    assert torch.equal(mel.decode(tokens[..., :2]), mel.decode(without))
    assert (mel.decode(tokens[..., :2]) - mel.decode(tokens)).abs().max() > 1e-3


@pytest.mark.parametrize("samples", [0, 1])
def test_mel_of_hardly_anything(mel, samples):
    wav = torch.full((2, samples), 0.5, dtype=torch.float64)
    tokens = mel.encode(wav)
    assert tokens.shape == (2, samples, 4) and tokens.dtype == torch.long
    audio = mel.decode(tokens)
    assert audio.shape == (2, 80 * samples) and bool(audio.isfinite().all())
    wav, state = mel.decode_stream(tokens[:, :0])
    rest, _ = mel.decode_stream(tokens, state, final=True)
    assert torch.equal(torch.cat([wav, rest], 1), audio)


def test_mel_bits(mel):
    assert mel.frame_rate == 200 and mel.bits_per_second == 4 * 4 * 200


def test_windows_that_cannot_be_centred():
    with pytest.raises(ValueError, match="n_fft: 401"):
        MelTokenizer(hop=80, n_fft=401)


# ---------------------------------------------------------- SpeechBrain's
def make_encodec(folder, **options):
    """An untrained EnCodec: 4 codebooks of 16, frames of 8 samples."""
    torch.manual_seed(0)
    config = transformers.EncodecConfig(
        num_filters=4,
        hidden_size=16,
        codebook_dim=16,
        codebook_size=16,
        upsampling_ratios=[4, 2],
        num_lstm_layers=1,
        target_bandwidths=[12.0, 24.0, 48.0],
        **options,
    )
    model = transformers.EncodecModel(config).eval()
    for layer in model.quantizer.layers:
        layer.codebook.embed.normal_(std=0.05)
    model.save_pretrained(folder)
    return model


def make_mimi(folder):
    """An untrained Mimi: 4 codebooks of 16, frames of 16 samples."""
    torch.manual_seed(0)
    config = transformers.MimiConfig(
        num_filters=4,
        hidden_size=16,
        codebook_size=16,
        codebook_dim=8,
        vector_quantization_hidden_dimension=8,
        upsampling_ratios=[4, 2],
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=16,
        head_dim=8,
        sampling_rate=16000,
        frame_rate=1000.0,
        num_quantizers=4,
        upsample_groups=16,
        sliding_window=8,
    )
    model = transformers.MimiModel(config).eval()
    for name, value in model.named_buffers():
        if name.endswith("embed_sum"):
            value.normal_(std=0.3)
        if name.endswith("cluster_usage"):
            value.fill_(1.0)
    model.save_pretrained(folder)
    return model


DAC_SIZES = {
    "encoder_dim": 4,
    "encoder_rates": [2, 5],
    "decoder_dim": 16,
    "decoder_rates": [5, 2],
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sample_rate": 16000,
}


def make_dac(folder):
    """An untrained DAC: 3 codebooks of 16, frames of 10 samples."""
    torch.manual_seed(0)
    model = DAC(**DAC_SIZES).eval()
    saved = {
        "state_dict": model.state_dict(),
        "metadata": {"kwargs": DAC_SIZES},
    }
    torch.save(saved, folder / "weights.pth")
    return model


class Encodec:
    """How transformers' EnCodec is asked."""

    @staticmethod
    def adapter(folder):
        """Model and adapter."""
        return make_encodec(folder), EncodecAdapter(str(folder), 48.0)

    @staticmethod
    def encode(model, wav):
        """[1, T, K]"""
        codes = model.encode(wav[:, None], bandwidth=48.0).audio_codes
        return codes[0].transpose(1, 2)

    @staticmethod
    def decode(model, tokens):
        """[1, S]"""
        codes = tokens.transpose(1, 2)[None]
        return model.decode(codes, [None]).audio_values[:, 0]


class Mimi:
    """How transformers' Mimi is asked."""

    @staticmethod
    def adapter(folder):
        """Model and adapter."""
        return make_mimi(folder), MimiAdapter(str(folder), 3)

    @staticmethod
    def encode(model, wav):
        """[1, T, K]"""
        codes = model.encode(wav[:, None], num_quantizers=3).audio_codes
        return codes.transpose(1, 2)

    @staticmethod
    def decode(model, tokens):
        """[1, S]"""
        return model.decode(tokens.transpose(1, 2)).audio_values[:, 0]


class Dac:
    """How SpeechBrain's DAC is asked."""

    @staticmethod
    def adapter(folder):
        """Model and adapter."""
        return make_dac(folder), DACAdapter(str(folder))

    @staticmethod
    def encode(model, wav):
        """[1, T, K]"""
        wav = torch.nn.functional.pad(wav, (0, -wav.shape[1] % 10))
        return model.encode(wav[:, None])[1].transpose(1, 2)

    @staticmethod
    def decode(model, tokens):
        """[1, S]"""
        latent, _, _ = model.quantizer.from_codes(tokens.transpose(1, 2))
        return model.decode(latent)[:, 0]


@pytest.fixture(
    scope="module", params=[Encodec, Mimi, Dac], ids=["encodec", "mimi", "dac"]
)
def codec(request, tmp_path_factory):
    """The model itself, its adapter, and how the model is asked."""
    folder = tmp_path_factory.mktemp("codec")
    model, adapter = request.param.adapter(folder)
    return model.requires_grad_(False), adapter, request.param


def test_a_row_is_what_the_model_gives(codec):
    model, adapter, ask = codec
    wav = 0.5 * torch.randn(1, 1003)
    tokens = adapter.encode(wav)
    assert tokens.shape[1] == -(-1003 // adapter.hop)
    assert torch.equal(tokens, ask.encode(model, wav))
    assert len(tokens.unique()) > 4  # or the rest says nothing
    for k in (1, 2, len(adapter.codebook_sizes)):
        expected = ask.decode(model, tokens[..., :k])
        audio = adapter.decode(tokens[..., :k])
        size = tokens.shape[1] * adapter.hop
        assert audio.shape == (1, size) and audio.any()
        # DAC with an odd rate gives a little less.
        assert size - 2 <= expected.shape[1] <= size
        near = audio[:, : expected.shape[1]]
        assert torch.allclose(near, expected, atol=1e-6)


def test_codec_padding_does_not_exist(codec):
    _, adapter, _ = codec
    wav, lengths = batch(SAMPLES)
    tokens = adapter.encode(wav, lengths)
    audio = adapter.decode(tokens)
    assert audio.shape == (5, tokens.shape[1] * adapter.hop)
    for row, n in enumerate(SAMPLES):
        alone = adapter.encode(wav[row : row + 1, :n])
        time = alone.shape[1]
        assert time == -(-n // adapter.hop)
        assert torch.equal(tokens[row, :time], alone[0])
        assert bool((tokens[row, time:] == PADDING).all())
        size = time * adapter.hop
        assert torch.equal(audio[row, :size], adapter.decode(alone)[0])
        assert not audio[row, size:].any()


@FEW
@given(sizes=PIECES)
def test_codec_with_all_the_context(codec, sizes):
    _, adapter, _ = codec
    torch.manual_seed(0)
    tokens = torch.randint(0, 16, (2, 70, len(adapter.codebook_sizes)))
    tokens[1, 31:] = PADDING
    kept, adapter.context = adapter.context, 70
    out = joined(adapter, tokens, sizes)
    adapter.context = kept
    assert torch.allclose(out, adapter.decode(tokens), atol=1e-6)


def test_codec_after_its_usual_context(codec):
    _, adapter, ask = codec
    torch.manual_seed(0)
    tokens = torch.randint(0, 16, (1, 400, len(adapter.codebook_sizes)))
    whole = adapter.decode(tokens)
    error = joined(adapter, tokens, [40] * 9) - whole
    assert adapter.fade == 0 if ask is Dac else adapter.fade > 0
    assert error.abs().max() < 1e-5 * whole.abs().max()


@MANY
@given(sizes=PIECES)
def test_dac_pieces_joined_are_the_whole(tmp_path_factory, sizes):
    _, adapter = Dac.adapter(tmp_path_factory.mktemp("dac"))
    adapter = adapter.double()
    torch.manual_seed(0)
    tokens = torch.randint(0, 16, (2, 90, 3))
    tokens[1, 31:] = PADDING
    whole = adapter.decode(tokens)
    assert whole.dtype == torch.float64
    assert (joined(adapter, tokens, sizes) - whole).abs().max() < 1e-9


def test_pieces_fade_into_each_other(tmp_path):
    _, adapter = Encodec.adapter(tmp_path)
    torch.manual_seed(0)
    tokens = torch.randint(0, 16, (1, 40, 4))
    whole = adapter.decode(tokens)[0]
    adapter.context = 0  # the second piece knows hardly of the first
    faded = joined(adapter, tokens, [20])[0] - whole
    adapter.fade = 0
    cut = joined(adapter, tokens, [20])[0] - whole
    seam = 19 * 8  # a frame waits
    assert not faded[:seam].abs().max() > 1e-6
    assert cut[seam].abs() > 1e-4
    # From a sixteenth of it over a frame to all of it
    part = (torch.arange(8) + 0.5) / 8
    assert torch.allclose(
        faded[seam : seam + 8], part * cut[seam : seam + 8], atol=1e-6
    )
    assert torch.allclose(faded[seam + 8 :], cut[seam + 8 :], atol=1e-6)


@pytest.mark.parametrize("wrong", [16, -2])
def test_tokens_out_of_range(codec, mel, wrong):
    _, adapter, _ = codec
    for tokenizer in (adapter, mel):
        tokens = torch.zeros(1, 5, 2, dtype=torch.long)
        tokens[0, 3, 1] = wrong
        with pytest.raises(ValueError, match=f"{wrong} is in none"):
            tokenizer.decode(tokens)
        with pytest.raises(ValueError, match=f"{wrong} is in none"):
            tokenizer.decode_stream(tokens, final=True)


def test_tokens_of_another_form(codec, mel):
    _, adapter, _ = codec
    for tokenizer in (adapter, mel):
        with pytest.raises(ValueError, match=r"tokens: \[1, 5, 9\]"):
            tokenizer.decode(torch.zeros(1, 5, 9, dtype=torch.long))
        with pytest.raises(ValueError, match="float32, but tokens are int"):
            tokenizer.decode(torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match="-1 stands before a row's last"):
        adapter.decode(torch.tensor([[[1, 1], [2, PADDING], [3, 3]]]))


def test_codecs_stay_as_they_are(codec):
    _, adapter, _ = codec
    wav, _ = batch([500])
    tokens = adapter.encode(wav[:, :500])
    adapter.train()
    assert torch.equal(adapter.encode(wav[:, :500]), tokens)
    assert not any(module.training for module in adapter.model.modules())
    assert not any(p.requires_grad for p in adapter.parameters())


def test_what_encodec_cannot_be(tmp_path):
    make_encodec(tmp_path)
    with pytest.raises(ValueError, match=r"bandwidth: 6.0, .*\[12.0, 24.0"):
        EncodecAdapter(str(tmp_path), bandwidth=6.0)
    make_encodec(tmp_path, audio_channels=2)
    with pytest.raises(ValueError, match="is for stereo"):
        EncodecAdapter(str(tmp_path), bandwidth=12.0)
    make_encodec(tmp_path, chunk_length_s=1.0, overlap=0.01)
    with pytest.raises(ValueError, match="is for stereo, or for pieces"):
        EncodecAdapter(str(tmp_path), bandwidth=12.0)


def test_codebooks_that_mimi_lacks(tmp_path):
    make_mimi(tmp_path)
    with pytest.raises(ValueError, match="num_codebooks: 9, .* from 2 to 4"):
        MimiAdapter(str(tmp_path), num_codebooks=9)


@pytest.mark.parametrize("kind", [EncodecAdapter, MimiAdapter, DACAdapter])
def test_folders_without_a_codec(kind, tmp_path):
    with pytest.raises(OSError, match=f"{tmp_path} cannot be used"):
        kind(str(tmp_path))
    with pytest.raises(OSError, match="/no/such is not a local folder"):
        kind("/no/such")


@pytest.mark.parametrize(
    "kind, package",
    [
        (SpeechTokenizerAdapter, "speechtokenizer"),
        (partial(WavTokenizerAdapter, trust=True), "WavTokenizer"),
    ],
)
def test_packages_that_are_missing(kind, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package.lower(), None)
    with pytest.raises(ImportError, match=f"pip install .*{package}"):
        kind(str(tmp_path))


class Levels(torch.nn.Module):
    """Stands for a codec of a package that tests do not have: the mean of 4
    samples in digits of base 3."""

    def __init__(self, digits):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.sample_rate, self.n_q = 16000, digits
        self.quantizer = SimpleNamespace(bins=3)

    def encode(self, x):
        """[B, 1, S] to [K, B, T]."""
        x = torch.nn.functional.pad(x[:, 0], (0, -x.shape[2] % 4))
        level = x.unflatten(1, (-1, 4)).mean(2).round().long()
        powers = [3**k for k in reversed(range(self.n_q))]
        return torch.stack([level // p % 3 for p in powers])

    def decode(self, codes):
        """[K, B, T] to [B, 1, S]."""
        level = 0
        for digit in codes:
            level = 3 * level + digit
        return level.repeat_interleave(4, 1)[:, None] * self.scale


def test_speech_tokenizer(tmp_path, monkeypatch):
    def load(config, weights):
        with open(config, encoding="utf-8") as file:
            assert weights.endswith("SpeechTokenizer.pt")
            return Levels(json.load(file)["n_q"])

    package = ModuleType("speechtokenizer")
    package.SpeechTokenizer = SimpleNamespace(load_from_checkpoint=load)
    monkeypatch.setitem(sys.modules, "speechtokenizer", package)
    folder = tmp_path / "speechtokenizer_hubert_avg"
    folder.mkdir()
    (folder / "config.json").write_text('{"n_q": 2}')
    tokenizer = SpeechTokenizerAdapter(str(tmp_path))
    assert tokenizer.hop == 4 and tokenizer.codebook_sizes == [3, 3]
    wav = torch.tensor([[5.0] * 4 + [7.0] * 5, [1.0] * 4 + [2.0] * 5])
    tokens = tokenizer.encode(wav, torch.tensor([1.0, 4 / 9]))
    none = [PADDING, PADDING]
    assert tokens.tolist() == [
        [[1, 2], [2, 1], [0, 2]],
        [[0, 1], none, none],
    ]
    audio = tokenizer.decode(tokens)
    assert audio[0].tolist() == [5.0] * 4 + [7.0] * 4 + [2.0] * 4
    assert audio[1].tolist() == [1.0] * 4 + [0.0] * 8
    assert tokenizer.decode(tokens[..., :1])[0, 4] == 2
    assert torch.equal(joined(tokenizer, tokens, [1, 1]), audio)


class OneBook(Levels):
    """The same with the methods of WavTokenizer."""

    def __init__(self):
        super().__init__(1)
        book = SimpleNamespace(codebook=torch.randn(3, 5))
        quantizer = SimpleNamespace(vq=SimpleNamespace(layers=[book]))
        self.feature_extractor = SimpleNamespace(
            encodec=SimpleNamespace(quantizer=quantizer)
        )

    def encode(self, x, bandwidth_id):
        """[B, S] to features [B, C, T] and codes [1, B, T]."""
        codes = super().encode(x[:, None])
        return self.codes_to_features(codes), codes

    def codes_to_features(self, codes):
        """[1, B, T] to [B, C, T]."""
        return codes.movedim(0, 1).float()

    def decode(self, features, bandwidth_id):
        """[B, C, T] to [B, S]."""
        return super().decode(features.movedim(1, 0))[:, 0]


def test_wav_tokenizer(tmp_path, monkeypatch):
    package = ModuleType("wavtokenizer")
    package.WavTokenizer = SimpleNamespace(
        from_pretrained0802=lambda config, weights: OneBook()
    )
    monkeypatch.setitem(sys.modules, "wavtokenizer", package)
    with pytest.raises(ValueError, match="names classes.*trust=True"):
        WavTokenizerAdapter(str(tmp_path))
    tokenizer = WavTokenizerAdapter(str(tmp_path), trust=True)
    assert tokenizer.hop == 4 and tokenizer.codebook_sizes == [3]
    wav = torch.tensor([[2.0] * 4 + [1.0] * 4])
    tokens = tokenizer.encode(wav)
    assert tokens.tolist() == [[[2], [1]]]
    assert torch.equal(tokenizer.decode(tokens), wav)


# ------------------------------------------------------------ discrete SSL
VOCODER = {
    "in_channels": 8,
    "out_channels": 1,
    "resblock_type": "1",
    "resblock_dilation_sizes": [[1, 3, 5]],
    "resblock_kernel_sizes": [3],
    "upsample_kernel_sizes": [11, 8, 8, 4, 4],
    "upsample_initial_channel": 32,
    "upsample_factors": [5, 4, 4, 2, 2],
    "vocab_size": 9,
    "embedding_dim": 8,
    "attn_dim": 4,
}


@pytest.fixture(scope="module")
def ssl(tiny_host):
    """An untrained WavLM."""
    return WavLM(tiny_host("wavlm"), "", output_all_hiddens=True, freeze=True)


@pytest.fixture
def clusters(ssl, tmp_path):
    """The folder of four clusters of each of two layers, and the means."""
    torch.manual_seed(0)
    (tmp_path / "kmeans").mkdir()
    feats = ssl.extract_features(torch.randn(1, 32000), torch.ones(1))
    means = []
    for layer in (1, 2):
        model = MiniBatchKMeans(4, n_init=1, random_state=0)
        means.append(model.fit(feats[layer, 0].numpy()))
        name = f"LibriSpeech960_wavlm_k4_L{layer}.pt"
        joblib.dump(means[-1], tmp_path / "kmeans" / name)
    return tmp_path, means


def test_clusters_of_layers(ssl, clusters):
    folder, means = clusters
    tokenizer = DiscreteSSLAdapter(str(folder), ssl, num_clusters=4, trust=True)
    samples = [9000, 399, 401, 0]
    wav, lengths = batch(samples)
    tokens = tokenizer.encode(wav, lengths)
    assert tokenizer.hop == 320 and tokenizer.codebook_sizes == [4, 4]
    feats = ssl.extract_features(wav[:1, :9000], torch.ones(1))
    for k, model in enumerate(means):
        expected = model.predict(feats[k + 1, 0].numpy())
        assert tokens[0, :, k].tolist() == expected.tolist()
    assert len(tokens[0].unique()) > 2
    assert (tokens[..., 0] != PADDING).sum(1).tolist() == [27, 1, 1, 0]
    for row, n in enumerate(samples):
        alone = tokenizer.encode(wav[row : row + 1, :n])[0]
        assert torch.equal(tokens[row, : len(alone)], alone)
    with pytest.raises(ValueError, match=f"{folder} has no vocoder"):
        tokenizer.decode(tokens)
    assert not tokenizer.decode(tokens[3:]).any()  # no frames, no need


def test_clusters_are_decoded(ssl, clusters):
    folder, _ = clusters
    torch.manual_seed(0)
    generator = UnitHifiganGenerator(**VOCODER).eval()
    torch.save(generator.state_dict(), folder / "generator.ckpt")
    sizes = "".join(f"    {k}: {json.dumps(v)}\n" for k, v in VOCODER.items())
    (folder / "hyperparams.yaml").write_text(
        "generator: !new:speechbrain.lobes.models.HifiGAN."
        f"UnitHifiganGenerator\n{sizes}"
        "modules:\n    generator: !ref <generator>\n"
        "pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer\n"
        "    loadables:\n        generator: !ref <generator>\n"
    )
    tokenizer = DiscreteSSLAdapter(
        str(folder),
        ssl,
        num_clusters=4,
        save_path=str(folder / "saved"),
        trust=True,
    )
    tokens = torch.randint(0, 4, (2, 60, 2))
    tokens[1, 1:] = PADDING
    audio = tokenizer.decode(tokens)
    assert audio.shape == (2, 60 * 320) and not audio[1, 320:].any()
    generator.remove_weight_norm()
    units = tokens[:1] + torch.tensor([1, 5])
    with torch.no_grad():
        expected = generator.inference(units)[:, 0]
    assert torch.allclose(audio[:1], expected, atol=1e-6)
    first = tokenizer.decode(tokens[:, :, :1])
    assert (first - audio).abs().max() > 1e-4
    stream = joined(tokenizer, tokens, [13, 5, 20])
    assert torch.allclose(stream, audio, atol=1e-5)


def test_an_encoder_that_gives_one_layer(ssl, clusters, monkeypatch):
    monkeypatch.setattr(ssl, "output_all_hiddens", False)
    with pytest.raises(ValueError, match="output_all_hiddens=True"):
        DiscreteSSLAdapter(str(clusters[0]), ssl, trust=True)


class Opens:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_clusters_that_are_code(ssl, clusters):
    folder, _ = clusters
    joblib.dump(
        Opens(folder / "ran"),
        folder / "kmeans" / "LibriSpeech960_wavlm_k4_L1.pt",
    )
    with pytest.raises(ValueError, match="clusters are pickles.*trust=True"):
        DiscreteSSLAdapter(str(folder), ssl, num_clusters=4)
    assert not (folder / "ran").exists()
