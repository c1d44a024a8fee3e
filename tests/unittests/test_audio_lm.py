"""Tests of the language models of audio tokens.

Authors
* speechbrain_lact contributors 2026
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import (
    given,
    settings,
    strategies as st,
)
from scipy.stats import chisquare

from speechbrain_lact.inference.AudioLM import AudioGenerator
from speechbrain_lact.lobes.models.audio_lm.delay import delay, undelay
from speechbrain_lact.lobes.models.audio_lm.generation import Sampling
from speechbrain_lact.lobes.models.audio_tokenizers import PADDING, MelTokenizer
from speechbrain_lact.lobes.models.LaCTAudioLM import (
    LaCTAudioLM,
    TransformerAudioLM,
)

SIZES = {"d_model": 16, "nhead": 2, "d_ffn": 24, "num_layers": 2}
BOOKS, CODES = 3, 12
FAST = {"lact": True, "some": [1], "window": False}


def make(kind, **options):
    """A small model of a kind, in double precision."""
    torch.manual_seed(0)
    options = {**SIZES, **options}
    if kind == "transformer":
        net = TransformerAudioLM(BOOKS, CODES, **options)
    else:
        lact = {"chunk_size": 4, "fast_heads": 2, "fast": FAST[kind]}
        net = LaCTAudioLM(BOOKS, CODES, lact=lact, **options)
    return net.double().eval()


KINDS = ("lact", "some", "window", "transformer")


def rows_of(net, frames, seed, text=None):
    """A recording of random tokens as rows of a model."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(CODES, (frames, BOOKS), generator=draw)
    parts = [net.begin_row(), net.audio_rows(tokens)]
    if text is not None:
        parts.insert(1, net.text_rows(text))
    return torch.cat(parts)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_steps_are_teacher_forcing(kind, data):
    """Pieces of any length of ragged rows give the scores, and gradients, of
    one call on each row alone; what stands in the padding does not matter."""
    net = make(kind)
    sizes = data.draw(st.lists(st.integers(1, 14), min_size=1, max_size=3))
    streams = [rows_of(net, n, i, "a b"[: i + 1]) for i, n in enumerate(sizes)]
    probe = [torch.randn(len(s), 1, 1, dtype=torch.float64) for s in streams]

    def gradient(outputs):
        """Of a weight that all layers' outputs come from."""
        total = sum((o * p).sum() for o, p in zip(outputs, probe))
        return torch.autograd.grad(total, net.embedding.weight)[0]

    alone = [net(s[None])[0][0] for s in streams]
    state, heard = net.initial_state(len(streams)), [0] * len(streams)
    pieces = [[] for _ in streams]
    while any(h < len(s) for h, s in zip(heard, streams)):
        counts = [
            data.draw(st.integers(0, min(6, len(s) - h)))
            for h, s in zip(heard, streams)
        ]
        if not any(counts):
            counts = [min(1, len(s) - h) for h, s in zip(heard, streams)]
        # Beyond a row's end stands a token that no codebook has.
        batch = torch.full((len(streams), max(counts), BOOKS), 999)
        for i, (h, n) in enumerate(zip(heard, counts)):
            batch[i, :n] = streams[i][h : h + n]
        logits, state = net(batch, torch.tensor(counts), state)
        for i, n in enumerate(counts):
            pieces[i].append(logits[i, :n])
            heard[i] += n
    joined = [torch.cat(p) for p in pieces]
    for one, other in zip(alone, joined):
        assert (one - other).abs().max() < 1e-9
    for i, one in enumerate(alone):
        assert (state.logits[i] - one[-1]).abs().max() < 1e-9
    assert state.rows.tolist() == [len(s) for s in streams]
    assert (gradient(alone) - gradient(joined)).abs().max() < 1e-7


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_seen_before_its_time(kind):
    net = make(kind)
    rows = rows_of(net, 20, 0)[None]
    later = rows.clone()
    later[:, 11:] = (later[:, 11:] + 1) % CODES
    with torch.no_grad():
        one, other = net(rows)[0], net(later)[0]
    assert torch.equal(one[:, :11], other[:, :11])
    assert not torch.equal(one[:, 11:], other[:, 11:])


def test_only_fast_weights_and_full_attention_reach_back():
    """What stood before all windows changes what follows, but not without
    fast weights."""
    reached = {}
    for kind in KINDS:
        net = make(kind)
        rows = rows_of(net, 40, 0)[None]
        other = rows.clone()
        other[:, 1] = (other[:, 1] + 1) % CODES
        with torch.no_grad():
            change = net(rows)[0][:, 30:] - net(other)[0][:, 30:]
        reached[kind] = float(change.abs().max()) > 0
    assert reached == {kind: kind != "window" for kind in KINDS}


OPTIONS = {"temperature": 1.4, "top_k": 9, "top_p": 0.95}


def begin(net, rows=(0, 1, 2), state=None):
    """Generations with and without text and prompt."""
    draw = torch.Generator().manual_seed(7)
    long = torch.randint(CODES, (9, BOOKS), generator=draw)
    texts, prompts = ["hello", None, "to be"], [long, long[:2], None]
    return net.begin(
        [texts[i] for i in rows],
        [prompts[i] for i in rows],
        [5 + i for i in rows],
        state,
    )


def real(tokens):
    """A row's frames."""
    return tokens[tokens[:, 0] >= 0]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_change_each_other(kind):
    net = make(kind)
    together, _ = net.generate(begin(net), 30, **OPTIONS)
    sizes = set()
    for i in range(3):
        alone, _ = net.generate(begin(net, [i]), 30, **OPTIONS)
        assert torch.equal(alone[0], real(together[i]))
        sizes.add(len(alone[0]))
    assert len(sizes) > 1  # rows ended at different times


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_saved_and_loaded(kind, tmp_path):
    net = make(kind)
    whole, _ = net.generate(begin(net), 30, **OPTIONS)
    state, parts = begin(net), [[], [], []]
    for size in (1, 2, 7, 20):
        tokens, state = net.generate(state, size, **OPTIONS)
        state.save(tmp_path / "state", {"kind": kind})
        state = net.generation_class.load(tmp_path / "state", {"kind": kind})
        for part, row in zip(parts, tokens):
            part.append(real(row))
    for part, row in zip(parts, whole):
        assert torch.equal(torch.cat(part), real(row))


@pytest.mark.parametrize("kind", KINDS)
def test_generated_tokens_are_the_likely_ones(kind):
    """Greedy tokens are those of a call on all rows, codebook by codebook."""
    net = make(kind)
    tokens, _ = net.generate(begin(net, [0]), 12, greedy=True, may_end=False)
    prompt = begin(net, [0])
    draw = torch.Generator().manual_seed(7)
    long = torch.randint(CODES, (9, BOOKS), generator=draw)
    rows = delay(torch.cat([long, tokens[0]]), net.none)
    rows = torch.cat([net.begin_row(), net.text_rows("hello"), rows])
    assert int(prompt.made[0]) == len(long)
    with torch.no_grad():
        logits, _ = net(rows[None])
    best = logits[0, 5:-1, :, :CODES].argmax(-1)  # what follows "hello"
    # The last frames' rows had further frames beside them.
    size = len(tokens[0]) - BOOKS + 1
    assert torch.equal(undelay(best)[len(long) :][:size], tokens[0][:size])


def test_choices_follow_the_distribution():
    """Chi-square over a fixed vector of scores; temperature, top-k and top-p
    as defined."""
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5, -torch.inf])
    chance = torch.rand(20000, generator=torch.Generator().manual_seed(1))
    many = scores.expand(len(chance), -1)
    shares = scores.double().softmax(0)
    kept = {
        Sampling(): shares,
        Sampling(temperature=0.5): (scores.double() / 0.5).softmax(0),
        Sampling(top_k=2): shares * torch.tensor([1, 1, 0, 0, 0, 0]),
        # 0.57, 0.21, 0.13, ...: three tokens reach 0.8.
        Sampling(top_p=0.8): shares * torch.tensor([1, 1, 0, 0, 1, 0]),
    }
    for sampling, expected in kept.items():
        expected = expected / expected.sum()
        counts = sampling.choose(many, chance).bincount(minlength=6)
        assert bool((counts[expected == 0] == 0).all())
        there = expected > 0
        found = chisquare(counts[there], expected[there] * len(chance))
        assert found.pvalue > 0.001
    assert set(Sampling(greedy=True).choose(many, chance).tolist()) == {0}


def test_steps_choose_independently():
    """A model without preference takes all tokens equally often, whatever it
    took before."""
    net = make("lact", num_layers=1)
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    tokens, _ = net.generate(net.begin([None] * 4), 300, may_end=False)
    counts = tokens.flatten().bincount(minlength=CODES)
    assert chisquare(counts).pvalue > 0.001
    pairs = tokens[:, 1:] * CODES + tokens[:, :-1]
    counts = pairs.flatten().bincount(minlength=CODES**2)
    assert chisquare(counts).pvalue > 0.001


def test_the_end_is_said_and_obeyed():
    net = make("lact")
    with torch.no_grad():
        net.head.bias.view(BOOKS, -1)[0, net.end] = 4.0
    tokens, state = net.generate(net.begin([None] * 8), 50)
    lengths = (tokens[..., 0] >= 0).sum(1)
    assert int(lengths.min()) >= 1 and int(lengths.max()) < 50
    for row, size in zip(tokens, lengths):
        assert bool((row[:size] >= 0).all())
        assert bool((row[size:] == PADDING).all())
    assert bool(net.finished(state).all())
    more, _ = net.generate(state, 5)
    assert more.numel() == 0
    tokens, _ = net.generate(net.begin([None]), 50, may_end=False)
    assert len(tokens[0]) == 50


@pytest.mark.parametrize("kind", ["lact", "transformer"])
def test_one_utterance_is_learned_by_heart(kind):
    """Greedy generation of text and voice that were overfitted gives the
    tokens of the utterance."""
    net = make(kind, speaker_size=4, domains=["speech"]).float()
    draw = torch.Generator().manual_seed(3)
    tokens = torch.randint(CODES, (18, BOOKS), generator=draw)
    rows = [net.begin_row(), net.text_rows("so"), net.audio_rows(tokens)]
    rows, voice = torch.cat(rows)[None], torch.randn(1, 4)
    condition = {"speaker": voice, "domain": ["speech"]}
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    targets = rows[:, 1:]
    real = (targets < CODES) | (targets == net.end)
    for _ in range(150):
        logits, _ = net(rows[:, :-1], state=net.initial_state(1, **condition))
        loss = F.cross_entropy(logits[real], targets[real])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    state = net.begin(["so"], **condition)
    made, _ = net.generate(state, 40, greedy=True)
    assert torch.equal(made[0], tokens)


def test_voice_domain_and_style_are_heard():
    net = make("lact", speaker_size=4, domains=["speech", "music"])
    voice, other = torch.randn(2, 1, 4).double()
    tokens = torch.randint(CODES, (12, BOOKS))
    states = [
        net.begin([None]),
        net.begin([None], speaker=voice),
        net.begin([None], speaker=other),
        net.begin([None], domain=["music"]),
        net.begin([None], state=net.adapt_to_style([tokens])),
        net.begin([None], state=net.adapt_to_style([tokens.flip(0)])),
    ]
    for i, one in enumerate(states):
        for two in states[:i]:
            assert not torch.allclose(one.model.logits, two.model.logits)
    quiet = net.begin([None], speaker=torch.zeros(1, 4).double())
    assert torch.equal(quiet.model.logits, states[0].model.logits)


def test_fewer_codebooks_leave_the_first_ones():
    net = make("lact")
    state, sampling = net.begin([None]), Sampling(greedy=True, may_end=False)
    for _ in range(8):
        frame, new, state = net.step(state, sampling, active=1)
    assert bool(new[0]) and frame[0, 0] < CODES
    assert frame[0, 1:].tolist() == [net.none] * (BOOKS - 1)


def small_generator(**options):
    """A generator of audio: an untrained model and tokenizer."""
    torch.manual_seed(0)
    tokenizer = MelTokenizer(
        num_codebooks=BOOKS, codebook_size=CODES, width=8, num_blocks=2
    )
    return AudioGenerator(make("lact").float(), tokenizer.eval(), **options)


@pytest.mark.parametrize("size", [0.02, 0.1, 0.34, 5.0])
def test_stream_is_what_generate_makes(size):
    made = small_generator()
    options = {"temperature": 1.2, "may_end": False}
    wav, _, _ = made.generate(made.begin(text="hi", seed=3), 0.9, **options)
    stream = made.generate_stream(
        made.begin(text="hi", seed=3), 0.9, buffer_seconds=size, **options
    )
    pieces = [piece for piece, _ in stream]
    assert torch.cat(pieces).shape == wav.shape
    assert (torch.cat(pieces) - wav).abs().max() < 1e-5
    assert len(pieces) >= 0.9 / size


def test_stream_goes_on_where_its_reader_stopped():
    """A consumer that stops reading closes the generator; the state it had
    last makes the same audio that would have followed."""
    made = small_generator()
    whole, tokens, _ = made.generate(made.begin(seed=1), 1.0, may_end=False)
    stream = made.generate_stream(
        made.begin(seed=1), 1.0, buffer_seconds=0.2, may_end=False
    )
    for _ in range(2):
        _, state = next(stream)
    stream.close()
    assert list(stream) == []
    rest, _ = made.model.generate(state, 30, may_end=False)
    assert torch.equal(rest[0], tokens[20:])


@pytest.mark.parametrize("prompt", [False, True])
def test_score_is_the_likelihood_of_each_frame(prompt):
    """By definition: the product over codebooks of what each step gave."""
    net = make("lact")
    state = begin(net, [0 if prompt else 2])
    tokens, _ = net.generate(state, 6, may_end=False)
    found, log = net.score(tokens[0], state), torch.zeros(6).double()
    for row in range(6 + BOOKS - 1):
        for k in range(BOOKS):
            if 0 <= row - k < 6:
                shares = state.model.logits[0, k].log_softmax(0)
                log[row - k] += shares[tokens[0, row - k, k]]
        if row == 0:
            state = net.force(state, tokens[0])
        _, _, state = net.step(state, Sampling(may_end=False))
    # Frames whose rows all had nothing but known tokens beside them.
    sure = 6 - BOOKS + 1
    assert (found[:sure].double() - log[:sure]).abs().max() < 1e-4


def test_refining_keeps_the_rest_and_is_no_less_likely():
    made = small_generator()
    state = made.begin(text="hi", seed=3)
    _, tokens, _ = made.generate(state, 1.2, temperature=2.0, may_end=False)
    before = made.model.score(tokens, state)
    better, start = made.refine(state, tokens, 0.2, tries=6, temperature=0.3)
    after = made.model.score(better, state)
    span = made.frames(0.2)
    assert before[start : start + span].mean() <= before.mean()
    assert not torch.equal(better, tokens)
    assert torch.equal(better[:start], tokens[:start])
    assert torch.equal(better[start + span :], tokens[start + span :])
    assert after[start : start + 2 * span].sum() > (
        before[start : start + 2 * span].sum()
    )


@pytest.mark.parametrize(
    "options, named",
    [
        ({"top_p": 0.0}, "top_p"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"max_length": 0}, "max_length"),
    ],
)
def test_values_that_make_no_sense(options, named):
    net = make("lact")
    with pytest.raises(ValueError, match=named):
        net.generate(net.begin([None]), **{"max_length": 3, **options})


def test_bad_prompts_and_texts():
    net, made = make("lact"), small_generator()
    with pytest.raises(ValueError, match="prompt: it has no frames"):
        net.begin(prompt=[torch.zeros(0, BOOKS, dtype=torch.long)])
    with pytest.raises(ValueError, match="from 0 to 12"):
        net.begin(prompt=[torch.tensor([[0, 1, CODES]])])
    with pytest.raises(ValueError, match="this model takes"):
        net.begin(prompt=[torch.zeros(4, BOOKS + 1, dtype=torch.long)])
    with pytest.raises(ValueError, match="no character"):
        net.begin(["12ß"])
    # Unknown characters are left out, case does not matter.
    assert torch.equal(net.text_rows("Ab3"), net.text_rows("ab"))
    with pytest.raises(ValueError, match="music"):
        net.begin([None], domain=["music"])
    with pytest.raises(ValueError, match="speaker"):
        net.begin([None], speaker=torch.ones(1, 5))
    for wav in (torch.zeros(0), torch.zeros(2, 100)):
        with pytest.raises(ValueError, match="prompt: samples"):
            made.begin(prompt=wav)
    with pytest.raises(ValueError, match="not finite"):
        made.begin(prompt=torch.full((100,), float("nan")))
    with pytest.raises(ValueError, match="seconds"):
        made.generate(made.begin(), 0)


def test_tokenizer_of_another_model_is_refused():
    tokenizer = MelTokenizer(num_codebooks=2, codebook_size=CODES, width=8)
    with pytest.raises(ValueError, match="tokenizer"):
        AudioGenerator(make("lact"), tokenizer)
