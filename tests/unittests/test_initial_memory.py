"""Tests of initial memories by domain and by voice.

Authors
* speechbrain_lact contributors 2026
"""

import copy
from types import SimpleNamespace

import pytest
import soundfile
import torch
import torch.nn.functional as F

from speechbrain_lact.lobes.models.initial_memory import InitialMemory
from speechbrain_lact.lobes.models.transformer.encoder import (
    ENCODERS,
    LaCTEncoderState,
)
from speechbrain_lact.nnet.lact import LaCT
from speechbrain_lact.training.asr import ASR
from speechbrain_lact.training.data import add_origins
from speechbrain_lact.training.experiment import check_domains
from speechbrain_lact.training.run_record import RunRecord

NAMES = ["speech", "music", "environment"]
SIZE = 5  # of an embedding
# Order, window, whether the order is causal, and whether pieces are possible.
LAYOUTS = {
    "causal": {"order": "apply_update", "window": (4, 0)},
    "utterance": {"order": "update_apply", "window": (4, 4)},
}
CELLS = [
    (layout, optimizer, norm)
    for layout in LAYOUTS
    for optimizer in ("sgd", "adam", "muon")
    for norm in ("post", "pre", "none")
]


def build(device, layout="utterance", optimizer="muon", norm="post"):
    """A small encoder and its initial memory, both kinds, not trained."""
    torch.manual_seed(0)
    lact = {"chunk_size": 4, "fast_heads": 2, "base_lr": 0.1}
    net = ENCODERS["conformer"](
        2,
        {
            **lact,
            **LAYOUTS[layout],
            "optimizer": optimizer,
            "weight_norm": norm,
        },
        causal=layout == "causal",
        d_model=8,
        d_ffn=8,
        nhead=2,
        kernel_size=3,
    )
    memory = InitialMemory(net, NAMES, SIZE, rank=2)
    return net.to(device), memory.to(device)


def train_by_chance(memory):
    """Any weights but those of the start."""
    generator = torch.Generator().manual_seed(1)
    for value in memory.parameters():
        draw = torch.randn(value.shape, generator=generator)
        value.data.copy_(0.5 * draw)


def draw(device, *shape, seed=2, dtype=torch.float32):
    """Random numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(device, dtype)


def tensors(state):
    """All tensors of a state, by name."""
    return dict(state._named_tensors())


def hear(net, state, *inputs):
    """Outputs of utterances one after the other, and the state after them."""
    found = []
    for x in inputs:
        out, *_, state = net(x, state=state)
        found.append(out)
    return found, state


def close(got, expected, bound=1e-9):
    """The same to a part of the largest value."""
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= bound, f"{worst:.2e}"


@pytest.mark.parametrize("layout, optimizer, norm", CELLS)
def test_zero_start_is_the_plain_model(layout, optimizer, norm, device):
    """Bit for bit, at first and when the plain part has been trained."""
    net, memory = build(device, layout, optimizer, norm)
    xs = draw(device, 2, 3, 10, 8).unbind()
    embeddings = draw(device, 3, SIZE)
    optim = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(2):
        plain, state = hear(net, net.initial_state(3), *xs)
        start = memory(net, net.initial_state(3), NAMES, embeddings)
        assert not start.layers[0].mixer.fast.fresh.any()
        moved, other = hear(net, start, *xs)
        assert state.updates.min() >= 5
        assert all(torch.equal(a, b) for a, b in zip(moved, plain))
        state, other = tensors(state), tensors(other)
        assert all(torch.equal(other[name], state[name]) for name in state)
        optim.zero_grad()
        moved[1].square().mean().backward()
        optim.step()


@pytest.mark.parametrize("layout, optimizer, norm", CELLS)
def test_a_move_is_a_model_of_other_initial_weights(
    layout, optimizer, norm, device
):
    """Output, state, row norms and gradients are those of the plain model
    whose own initial weights stand where the move leads."""
    net, memory = (m.double() for m in build(device, layout, optimizer, norm))
    train_by_chance(memory)
    x = draw(device, 2, 10, 8, dtype=torch.float64)
    embeddings = draw(device, 1, SIZE, dtype=torch.float64).expand(2, -1)
    start = memory(net, net.initial_state(2), ["music"] * 2, embeddings)
    other = copy.deepcopy(net)
    mixers = [m for m in other.modules() if isinstance(m, LaCT)]
    assert len(mixers) == 2
    for mixer, layer in zip(mixers, start.layers):
        fast = layer.mixer.fast
        for name, w in zip(("w0", "w2", "w1"), fast.weights[0].unbind(1)):
            w = w.transpose(1, 2) if name == "w1" else w
            assert (getattr(mixer, name) - w).abs().max() > 0.1
            getattr(mixer, name).data.copy_(w)
        norms = [w.norm(dim=-1) for w in (mixer.w0, mixer.w2, mixer.w1)]
        close(fast.targets[1], torch.cat(norms, 1))
    (out,), after = hear(net, start, x)
    (wanted,), expected = hear(other, other.initial_state(2), x)
    close(out, wanted)
    after, expected = tensors(after), tensors(expected)
    assert all(
        torch.allclose(after[n].double(), expected[n].double(), 1e-9, 1e-9)
        for n in expected
    )
    # A move is added: its gradient is that of what it is added to.
    where = draw(device, *out.shape, seed=3, dtype=torch.float64)
    for one, y in ((net, out), (other, wanted)):
        (y * where).sum().backward()
    for layer, mixer in zip(net.layers, mixers):
        for name in ("w0", "w1", "w2"):
            got = getattr(layer.mixer, name).grad
            close(got, getattr(mixer, name).grad, 1e-7)


def test_gradients_reach_what_was_chosen(device):
    """At the zero start what was drawn gets none; later all does."""
    net, memory = build(device)
    x, embeddings = draw(device, 2, 10, 8), draw(device, 2, SIZE)
    for trained in (False, True):
        if trained:
            train_by_chance(memory)
        memory.zero_grad()
        start = memory(net, net.initial_state(2), ["music", None], embeddings)
        net(x, state=start)[0].square().sum().backward()
        table, mover = memory.domain, memory.speaker
        for gradient in (table.out.grad, table.into.grad):
            chosen = gradient.flatten(1).abs().amax(1) > 0
            expected = [False, trained or gradient is table.out.grad, False]
            assert chosen.tolist() == expected
        assert mover.amount.weight.grad.abs().max() > 0
        for value in (mover.hidden.weight, mover.out, mover.into):
            assert bool(value.grad.any()) == trained
        assert net.layers[0].mixer.w0.grad.abs().max() > 0


def test_every_layer_head_and_matrix_is_moved(device):
    """Each by its own product of two factors, of rank 2."""
    net, memory = build(device)
    train_by_chance(memory)
    embedding = draw(device, 1, SIZE)
    table = memory.domain.out[1] @ memory.domain.into[1]
    network = memory.speaker(embedding)[0]
    for kinds, expected in (
        ((["music"], None), table),
        ((None, embedding), network),
        ((["music"], embedding), table + network),
    ):
        moved = memory(net, net.initial_state(1), *kinds)
        for layer, own, move in zip(moved.layers, net.layers, expected):
            own = own.mixer
            own = torch.stack([own.w0, own.w2, own.w1.transpose(1, 2)], 1)
            close(layer.mixer.fast.weights[0] - own, move, 1e-5)
    for move in (table, network):
        assert move.flatten(3).norm(dim=-1).min() > 0.1
        assert bool((torch.linalg.matrix_rank(move, atol=1e-4) == 2).all())


def test_a_row_of_one_kind_is_not_moved_by_the_other(device):
    net, memory = build(device)
    train_by_chance(memory)
    nobody = torch.zeros(1, SIZE, device=device)
    one = memory(net, net.initial_state(1), ["music"])
    both = memory(net, net.initial_state(1), ["music"], nobody)
    assert all(
        torch.equal(value, tensors(both)[name])
        for name, value in tensors(one).items()
    )


def test_rows_that_have_no_kind_or_have_begun_stay(device):
    net, memory = build(device)
    train_by_chance(memory)
    x = draw(device, 3, 10, 8)
    plain = net.initial_state(3)
    embeddings = torch.zeros(3, SIZE, device=device)
    known = embeddings.clone()
    known[2] = 1.0
    for kinds in ((), ([None] * 3,), (None, embeddings), ([None] * 3, known)):
        start = memory(net, plain, *kinds)
        before, after = tensors(plain), tensors(start)
        for name, value in before.items():
            assert torch.equal(after[name][:2], value[:2]), name
        moved = not torch.equal(net(x, state=start)[0], net(x, state=plain)[0])
        assert moved == (len(kinds) > 1 and kinds[1] is known)
    _, state = hear(net, plain, x)
    again = memory(net, state, NAMES, known)
    before, after = tensors(state), tensors(again)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
def test_law(layout, optimizer, tmp_path, device):
    """Batch, rows and save: a row that is reset takes its own moved start, and
    no other row knows; a state from a file goes on as if nothing had been."""
    net, memory = (m.double() for m in build(device, layout, optimizer, "pre"))
    train_by_chance(memory)
    first, second = draw(device, 2, 3, 10, 8, dtype=torch.float64).unbind()
    # Ragged, in different phases of a chunk; pieces where they are possible.
    lengths = torch.tensor([10, 3, 6], device=device)
    padding = torch.arange(10, device=device) >= lengths[:, None]
    first = first.masked_fill(padding[..., None], float("nan"))
    final = layout != "causal"
    embeddings = draw(device, 3, SIZE, dtype=torch.float64)
    embeddings[2] = 0

    def begin(state, rows):
        names = [[*NAMES[:2], None][row] for row in rows]
        return memory(net, state, names, embeddings[rows])

    with torch.no_grad():
        start = begin(net.initial_state(3), [0, 1, 2])
        *_, state = net(
            first, src_key_padding_mask=padding, state=start, final=final
        )
        for row in range(3):
            alone = begin(net.initial_state(1), [row])
            *_, alone = net(
                first[row : row + 1, : lengths[row]], state=alone, final=final
            )
            out, *_ = net(second[row : row + 1], state=alone)
            wanted, *_, after = net(second, state=state)
            count = int(after.lengths[row])
            close(wanted[row, :count], out[0, :count])
        again = torch.tensor([False, True, False], device=device)
        reset = begin(state.reset(again), [0, 1, 2])
        out, *_, after = net(second, state=reset)
        for row in (0, 2):
            count = int(after.lengths[row])
            assert torch.equal(out[row, :count], wanted[row, :count])
        alone, *_ = net(second[1:2], state=begin(net.initial_state(1), [1]))
        close(out[1, :10], alone[0, :10])
        other, *_ = net(second[1:2], state=begin(net.initial_state(1), [0]))
        assert (other - alone).abs().max() > 1e-3
        for value in (start, reset):
            value.save(str(tmp_path / "state"), {})
            loaded = LaCTEncoderState.load(str(tmp_path / "state"), {}, device)
            before = net(second, state=value)[0]
            assert torch.equal(net(second, state=loaded)[0], before)


def test_fit_of_domains_that_contradict_each_other(device):
    """The same audio, other labels: a plain model is at chance; with a table
    or a mover it learns which is which."""
    x = draw(device, 1, 8, 8).expand(2, -1, -1)
    labels = torch.tensor([0, 1], device=device)
    given = {
        "plain": {},
        "domain": {"domains": NAMES[:2]},
        "speaker": {"embeddings": draw(device, 2, SIZE)},
    }
    losses = {}
    for kind, kinds in given.items():
        net, memory = build(device, optimizer="sgd")
        model = torch.nn.ModuleList([net, memory, torch.nn.Linear(8, 2)])
        optim = torch.optim.Adam(model.to(device).parameters(), 0.02)
        for _ in range(25):
            start = memory(net, net.initial_state(2), **kinds)
            out, *_ = net(x, state=start)
            loss = F.cross_entropy(model[2](out.mean(1)), labels)
            optim.zero_grad()
            loss.backward()
            optim.step()
        losses[kind] = loss.item()
    assert losses["plain"] >= 0.693
    assert losses["domain"] < 0.1 and losses["speaker"] < 0.1


@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_keeps_the_memory_in_float32(autocast, device):
    net, memory = build(device)
    train_by_chance(memory)
    kinds = NAMES[:1], draw(device, 1, SIZE)
    exact = memory(net, net.initial_state(1), *kinds)
    if not autocast:
        memory.bfloat16()
    with torch.autocast(torch.device(device).type, torch.bfloat16, autocast):
        half = memory(net, net.initial_state(1), *kinds)
    for a, b in zip(half.layers, exact.layers):
        a, b = a.mixer.fast, b.mixer.fast
        assert a.weights.dtype == a.targets.dtype == torch.float32
        worst = (a.weights - b.weights).abs().max()
        assert worst == 0 if autocast else worst < 0.2


def test_a_process_without_rows_that_begin_has_the_same_graph(device):
    """Data-parallel training waits for the gradient of every parameter."""
    net, memory = build(device)
    x = draw(device, 1, 10, 8)
    _, state = hear(net, net.initial_state(1), x)
    state = memory(net, state.detach(), NAMES[:1], draw(device, 1, SIZE))
    net(x, state=state)[0].sum().backward()
    for name, value in memory.named_parameters():
        assert value.grad is not None and not value.grad.any(), name


@pytest.mark.parametrize(
    "kinds, message",
    [
        ((["car"], None), "'car' is not one of speech, music, environment"),
        ((None, torch.ones(1, 4)), r"\(1, 4\), not \(1, 5\)"),
        ((None, torch.ones(SIZE)), r"\(5,\), not \(1, 5\)"),
        ((None, torch.full((1, SIZE), float("nan"))), "not all are finite"),
    ],
)
def test_wrong_kinds_are_named(kinds, message, device):
    net, memory = build(device)
    with pytest.raises(ValueError, match=message):
        memory(net, net.initial_state(1), *kinds)


def test_wrong_settings_are_named(device):
    net, _ = build(device)
    for plain in (
        torch.nn.Linear(2, 2),
        ENCODERS["transformer"](
            1, {"fast": False}, d_model=8, d_ffn=8, nhead=2
        ),
    ):
        with pytest.raises(ValueError, match="an encoder with fast weights"):
            InitialMemory(plain, NAMES)
    with pytest.raises(ValueError, match="rank must be at least 1, not 0"):
        InitialMemory(net, NAMES, rank=0)
    with pytest.raises(ValueError, match="a list of names, not 'speech'"):
        InitialMemory(net, "speech")
    with pytest.raises(ValueError, match="each once"):
        InitialMemory(net, ["speech", "speech"])
    table = InitialMemory(net, NAMES)
    with pytest.raises(ValueError, match="embeddings given, but the model"):
        table(net, net.initial_state(1), None, torch.ones(1, SIZE))
    with pytest.raises(ValueError, match="domains given, but the model"):
        mover = InitialMemory(net, embedding_size=SIZE)
        mover(net, net.initial_state(1), NAMES[:1])


def test_a_voice_is_that_of_the_speakers_first_recording():
    rows = {
        key: {"spk_id": key[0], "session": key[:2], "position": n, "wav": key}
        for key, n in (("a21", "0"), ("a13", "10"), ("a12", "9"), ("b11", "0"))
    }
    rows["b11"]["domain"] = "car"
    add_origins(rows)
    voices = {key: row["voice"] for key, row in rows.items()}
    assert voices == {"a21": "a12", "a13": "a12", "a12": "a12", "b11": "b11"}
    assert [row["domain"] for row in rows.values()] == ["", "", "", "car"]


def test_a_voice_is_heard_once_and_unknown_if_it_cannot_be_read(tmp_path):
    heard = []

    def encode_batch(wav):
        heard.append(len(wav))
        return torch.ones(1, 1, SIZE)

    embedder = SimpleNamespace(encode_batch=encode_batch)
    hparams = SimpleNamespace(
        sample_rate=8000, embedding_size=SIZE, embedder=embedder
    )
    brain = SimpleNamespace(hparams=hparams, voices={})
    good, bad = str(tmp_path / "good.wav"), str(tmp_path / "bad.wav")
    soundfile.write(good, [0.0] * 500, 8000)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    for _ in range(2):
        assert ASR.voice(brain, good).tolist() == [1.0] * SIZE
        assert ASR.voice(brain, bad).tolist() == [0.0] * SIZE
    assert heard == [500]


def test_settings_that_do_not_fit_are_refused(tmp_path):
    nothing = {"domains": [], "speaker_encoder": None}
    with pytest.raises(ValueError, match="use manifests with `domain`, or set"):
        check_domains(nothing, {})
    begun = {"domains": ["car", "room"], "sizes": {"0": [2, 3]}}
    for _ in range(2):
        RunRecord.open(tmp_path, begun, [], ["train.py"])
    begun = {**begun, "domains": ["room", "car"]}
    with pytest.raises(ValueError, match=r"domains: \['car', 'room'\] there"):
        RunRecord.open(tmp_path, begun, [], ["train.py"])
