"""Decoder with LaCT: token by token equals teacher forcing, under beam search
too, and a search computes one position a step."""

import pytest
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from speechbrain.decoders import S2STransformerBeamSearcher
from speechbrain.decoders.scorer import CoverageScorer, CTCScorer, ScorerBuilder
from speechbrain.nnet.linear import Linear
from speechbrain_lact.decoders.seq2seq import LaCTTransformerBeamSearcher
from speechbrain_lact.lobes.models.transformer.decoder import LaCTDecoderState
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)

VOCAB, WIDTH, CHUNK, EXACT = 12, 16, 4, 1e-9


def make_net(seed=0, **options):
    """A small model in double precision, with memories that matter."""
    torch.manual_seed(seed)
    sizes = {
        "tgt_vocab": VOCAB,
        "input_size": 8,
        "d_model": WIDTH,
        "nhead": 2,
        "num_encoder_layers": 1,
        "num_decoder_layers": 2,
        "d_ffn": 32,
        "dropout": 0.0,
        "encoder_module": "conformer",
        "attention_type": "LaCT",
        "normalize_before": True,
        "causal": False,
        "lact_chunk_size": 8,
        "lact_heads": 2,
        "lact_decoder_chunk_size": CHUNK,
    }
    return TransformerASR(**{**sizes, **options}).double().eval()


def largest(x):
    """Largest absolute value."""
    return float(x.detach().abs().max()) if x.numel() else 0.0


def feed(net, tokens, encoded, sizes, state=None):
    """Predictions of tokens that come in pieces, and the state."""
    if state is None:
        state = net.initial_decoder_state(len(tokens))
    outs = []
    for piece in tokens.split(sizes, dim=1):
        out, _, state = net.decode(piece, encoded, state=state)
        outs.append(out)
    return torch.cat(outs, 1), state


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 6 * CHUNK),
    optimizer=st.sampled_from(["sgd", "adam", "muon"]),
    before=st.booleans(),
    data=st.data(),
)
def test_pieces_equal_teacher_forcing(seed, count, optimizer, before, data):
    """Any split of the tokens, one by one among them."""
    net = make_net(
        seed,
        lact_optimizer=optimizer,
        normalize_before=before,
        encoder_module="transformer",
    )
    tokens = torch.randint(1, VOCAB, (2, count))
    src = torch.randn(2, 11, 8).double()
    lengths = torch.tensor([1.0, 7 / 11], dtype=torch.float64)
    encoded, whole = net(src, tokens, lengths, pad_idx=0)
    frames = torch.tensor([11, 7])
    state, outs = net.initial_decoder_state(2), []
    while tokens.shape[1] > sum(out.shape[1] for out in outs):
        done = sum(out.shape[1] for out in outs)
        size = data.draw(st.integers(1, count - done))
        piece = tokens[:, done : done + size]
        out, _, state = net.decode(piece, encoded, frames, state=state)
        outs.append(out)
    assert largest(torch.cat(outs, 1) - whole) < EXACT
    updates = state.layers[0].fast.steps
    assert bool((updates == count // CHUNK).all())


def test_rows_of_different_ages():
    """Rows join a batch at different places and change no other row."""
    net = make_net()
    tokens = torch.randint(1, VOCAB, (3, 30))
    encoded = torch.randn(3, 9, WIDTH).double()
    whole, _ = feed(net, tokens, encoded, [30])
    ages = [3, 10, 17]
    states = [
        feed(net, tokens[i : i + 1, :age], encoded[i : i + 1], [age])[1]
        for i, age in enumerate(ages)
    ]
    state = LaCTDecoderState.cat(states)
    for step in range(12):
        places = torch.tensor(ages) + step
        new = tokens.gather(1, places[:, None])
        out, _, state = net.decode(new, encoded, state=state)
        wanted = whole[torch.arange(3), places]
        assert largest(out[:, 0] - wanted) < EXACT


def test_state_survives_a_file(tmp_path):
    """Saved in the middle of a chunk, loaded, continued."""
    net = make_net()
    tokens = torch.randint(1, VOCAB, (2, 15))
    encoded = torch.randn(2, 9, WIDTH).double()
    whole, _ = feed(net, tokens, encoded, [15])
    _, state = feed(net, tokens[:, :6], encoded, [6])
    state.save(tmp_path / "state.safetensors", {"chunk": CHUNK})
    state = LaCTDecoderState.load(
        tmp_path / "state.safetensors", {"chunk": CHUNK}
    )
    rest, _ = feed(net, tokens[:, 6:], encoded, [1] * 9, state)
    assert largest(rest - whole[:, 6:]) < EXACT


def test_later_tokens_have_no_gradient():
    """Output t does not depend on tokens after t."""
    net = make_net()
    embedded = torch.randn(1, 14, WIDTH).double().requires_grad_()
    encoded = torch.randn(1, 9, WIDTH).double()
    out = net.decoder(embedded, encoded)[0]
    # Weighted: the plain sum of a normalised frame does not depend on it.
    loss = (out[:, 6] * torch.arange(WIDTH)).sum()
    (gradient,) = torch.autograd.grad(loss, embedded)
    assert largest(gradient[:, 7:]) == 0
    assert largest(gradient[:, 1]) > 0


def test_padding_of_targets():
    """A row alone equals that row in a padded batch; a padding token before
    the end is a token."""
    net = make_net()
    src = torch.randn(2, 11, 8).double()
    tokens = torch.randint(1, VOCAB, (2, 13))
    tokens[1, 3] = 0
    tokens[1, 9:] = 0
    _, both = net(src, tokens, pad_idx=0)
    _, alone = net(src[1:], tokens[1:, :9], pad_idx=0)
    assert largest(both[1:, :9] - alone) < EXACT


def search(cls, net, encoded, lengths, scorers, **options):
    """Hypotheses and the positions that the decoder computed."""
    torch.manual_seed(1)
    made = {"input_size": WIDTH, "n_neurons": VOCAB, "bias": True}
    out, ctc = (Linear(**made).double() for _ in range(2))
    # Flat scores make beams change places often.
    weights = dict.fromkeys(scorers, 0.3)
    known = {
        "ctc": lambda: CTCScorer(ctc_fc=ctc, blank_index=0, eos_index=2),
        "coverage": lambda: CoverageScorer(vocab_size=VOCAB),
    }
    scorer = ScorerBuilder(
        full_scorers=[known[name]() for name in scorers], weights=weights
    )
    searcher = cls(
        modules=[net, out],
        bos_index=1,
        eos_index=2,
        min_decode_ratio=0.5,
        max_decode_ratio=1.0,
        beam_size=5,
        using_eos_threshold=False,
        scorer=scorer if scorers else None,
        **options,
    )
    computed, swaps = [], []
    hook = net.decoder.register_forward_pre_hook(
        lambda module, args: computed.append(args[0].shape[1])
    )
    permute = searcher.permute_mem
    searcher.permute_mem = lambda memory, index: (
        swaps.append(index.tolist()) or permute(memory, index)
    )
    with torch.no_grad():
        hyps, _, scores, _ = searcher(encoded, lengths)
    hook.remove()
    reordered = sum(index != sorted(index) for index in swaps)
    return hyps, scores, computed, reordered


@pytest.mark.parametrize("scorers", [[], ["ctc"], ["coverage"]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beam_search_equals_recomputation(scorers, seed):
    """The same hypotheses as SpeechBrain's searcher, which computes every
    token again; beams change places and the memory is updated several times."""
    net = make_net(seed)
    encoded = 3 * torch.randn(3, 4 * CHUNK + 3, WIDTH).double()
    lengths = torch.tensor([1.0, 0.8, 0.9])
    ours = search(LaCTTransformerBeamSearcher, net, encoded, lengths, scorers)
    full = search(S2STransformerBeamSearcher, net, encoded, lengths, scorers)
    assert ours[0] == full[0]
    assert largest(ours[1] - full[1]) < 1e-4
    steps = len(ours[2])
    assert steps > 2 * CHUNK and ours[3] > 0
    assert ours[2] == [1] * steps
    assert full[2] == list(range(1, steps + 1))


def test_searcher_needs_a_decoder_with_state():
    """The message says which option is missing."""
    net = make_net(lact_decoder_chunk_size=None)
    with pytest.raises(ValueError, match="lact_decoder_chunk_size"):
        LaCTTransformerBeamSearcher(
            modules=[net, None],
            bos_index=1,
            eos_index=2,
            min_decode_ratio=0.0,
            max_decode_ratio=1.0,
            beam_size=2,
        )


def test_options_that_are_refused():
    """Each message names the option."""
    with pytest.raises(
        ValueError, match="lact_decoder_chunk_size: there is no"
    ):
        make_net(num_decoder_layers=0)
    with pytest.raises(ValueError, match="positional_encoding: ignored"):
        make_net(
            num_decoder_layers=0,
            lact_decoder_chunk_size=None,
            positional_encoding="fixed_abs_sine",
        )
    net = make_net(max_length=10)
    with pytest.raises(ValueError, match="11 tokens: max_length is 10"):
        net.decode(torch.ones(1, 11).long(), torch.randn(1, 4, WIDTH).double())
