"""Tests of other ways to adapt.

Authors
* speechbrain_lact contributors 2026
"""

import copy

import pytest
import torch

from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.processing.features import InputNormalization
from speechbrain_lact.evaluation.peers import (
    Suta,
    class_confusion,
    entropy,
    fine_tune,
)
from speechbrain_lact.lobes.features import Fbank
from speechbrain_lact.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain_lact.lobes.models.pipeline import Encoder
from speechbrain_lact.lobes.models.pretrained import PretrainedFrontEnd

TOKENS, UNUSED = 6, 2


@pytest.fixture
def encoder():
    """A Conformer as it is exported, untrained."""
    torch.manual_seed(0)
    cnn = ConvolutionFrontEnd(input_size=20, stride=4, channels=2)
    transformer = TransformerASR(
        tgt_vocab=TOKENS,
        input_size=cnn.output_size,
        d_model=16,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=0,
        d_ffn=32,
        kernel_size=3,
        encoder_module="conformer",
        attention_type="RoPEMHA",
        normalize_before=True,
        causal=False,
    )
    head = Linear(input_size=16, n_neurons=TOKENS + UNUSED)
    head.w.weight.data *= 5
    head.w.bias.data[TOKENS:] = -1e4
    normalize = InputNormalization(norm_type="sentence")
    parts = Fbank(n_mels=20), normalize, cnn, transformer, head
    return Encoder(*parts).eval().requires_grad_(False)


@pytest.fixture
def wavs():
    return list(torch.randn(3, 4000) * torch.tensor([[0.1], [0.2], [0.3]]))


def bits(module):
    """A copy of all weights."""
    return copy.deepcopy(module.state_dict())


def same(module, before):
    """Whether all weights are those, bit for bit."""
    after = module.state_dict()
    return after.keys() == before.keys() and all(
        torch.equal(after[key], before[key]) for key in before
    )


def test_suta_lowers_entropy_and_restores(encoder, wavs):
    suta, before = Suta(encoder, TOKENS, lr=1e-2), bits(encoder)
    source = [encoder(wav[None])[0, :, :TOKENS] for wav in wavs]
    first = [suta(wav) for wav in wavs[:2]]
    for old, new in zip(source, first):
        assert new.shape == old.shape and bool(new.isfinite().all())
        assert not new.requires_grad
        assert suta.loss(new) < 0.9 * suta.loss(old)
        assert entropy(new).mean() < entropy(old).mean()
    # As it was, and nothing goes on to the next utterance.
    assert same(suta.encoder, before) and same(encoder, before)
    assert all(p.grad is None for p in suta.encoder.parameters())
    again = [suta(wav) for wav in reversed(wavs[:2])]
    assert all(torch.equal(x, y) for x, y in zip(first, reversed(again)))


def test_suta_restores_after_an_error(encoder, wavs):
    suta, before = Suta(encoder, TOKENS, lr=1e-2), bits(encoder)
    calls = []

    def interrupt(*_):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    suta.encoder.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        suta(wavs[0])
    assert same(suta.encoder, before)


def test_suta_changes_front_end_and_layer_norms_alone(encoder, wavs):
    suta, before = Suta(encoder, TOKENS, lr=1e-2), bits(encoder)
    suta._restore = lambda: None
    suta(wavs[0])
    after = suta.encoder.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert any(key.startswith("cnn.") for key in changed)
    assert any(key.startswith("transformer.") for key in changed)
    norms = {
        f"{name}.{kind}"
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
        for kind in ("weight", "bias")
    }
    assert changed <= norms | {k for k in before if k.startswith("cnn.")}


def test_suta_without_steps_is_the_model(encoder, wavs):
    out = Suta(encoder, TOKENS, steps=0)(wavs[0])
    assert torch.equal(out, encoder(wavs[0][None])[0, :, :TOKENS])


def test_suta_loss_on_a_worked_example():
    """Two frames of two tokens, one blank; temperature 1."""
    suta = Suta.__new__(Suta)
    suta.blank, suta.weight, suta.temperature = 0, 0.3, 1.0
    probs = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    spoken = -(0.2 * torch.tensor(0.2).log() + 0.8 * torch.tensor(0.8).log())
    # P'P is [[0.40, 0.40], [0.40, 0.80]]; rows are made to sum to 1.
    confusion = (0.5 + 1 / 3) / 2
    assert class_confusion(probs.log()) == pytest.approx(confusion)
    wanted = 0.3 * float(spoken) + 0.7 * confusion
    assert float(suta.loss(probs.log())) == pytest.approx(wanted)


def test_fine_tuning_learns_and_leaves_the_model(encoder, wavs):
    before = bits(encoder)
    targets = [torch.tensor(x) for x in ([1, 2, 3], [4], [5, 1])]
    tuned = fine_tune(encoder, wavs, targets, steps=20, lr=1e-2)
    assert same(encoder, before) and not same(tuned, before)
    assert not any(p.requires_grad for p in encoder.parameters())

    def loss(model):
        total = 0.0
        for wav, target in zip(wavs, targets):
            out, one = model(wav[None]), torch.ones(1)
            total += float(ctc_loss(out, target[None], one, one, 0))
        return total

    assert loss(tuned) < 0.5 * loss(encoder)
    again = fine_tune(encoder, wavs, targets, steps=20, lr=1e-2)
    assert same(again, bits(tuned))


@pytest.mark.parametrize("way", ["fine-tuned", "SUTA"])
def test_a_frozen_host_is_adapted_too(tiny_host, wavs, way):
    """Also what training left as it was; the model's own host stays."""
    front = PretrainedFrontEnd(tiny_host("wav2vec2"), 32)
    head = Linear(input_size=32, n_neurons=TOKENS)
    encoder = _OnWaves(front, head).eval().requires_grad_(False)
    name = "feature_projection.projection.weight"
    host = front.host.model.get_parameter(name).clone()
    if way == "SUTA":
        suta = Suta(encoder, TOKENS, lr=1e-2)
        assert not torch.allclose(suta(wavs[0]), encoder(wavs[0][None])[0])
    else:
        tuned = fine_tune(encoder, wavs, [torch.tensor([1, 2])] * 3, lr=1e-2)
        assert not torch.equal(tuned.cnn.host.model.get_parameter(name), host)
    assert torch.equal(front.host.model.get_parameter(name), host)


class _OnWaves(torch.nn.Module):
    """A pretrained front end and a linear layer."""

    def __init__(self, cnn, head):
        super().__init__()
        self.cnn, self.head = cnn, head

    def forward(self, wavs, lengths=None):
        frames, _ = self.cnn(wavs, lengths)
        return self.head(frames).log_softmax(-1)
