"""Chunks that end where speech does: the law of the house with ragged ends,
and where ends are found.

The properties are those of test_law.py, of modules whose input says where
chunks may end.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import test_law as law
import torch
from hypothesis import (
    given,
    settings,
    strategies as st,
)

from speechbrain.core import Stage
from speechbrain.inference.VAD import VAD
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.lobes.features import Fbank
from speechbrain_lact.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain_lact.lobes.models.pipeline import (
    Encoder as Encoding,
    SilenceState,
    greedy_labels,
)
from speechbrain_lact.lobes.models.transformer.encoder import ENCODERS
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)
from speechbrain_lact.nnet.fast_weight import fast_weight_scan
from speechbrain_lact.nnet.lact import LaCT, frozen_memory
from speechbrain_lact.nnet.plan import chunk_ends
from speechbrain_lact.nnet.state import State, nested
from speechbrain_lact.processing.boundaries import (
    ChunkEnds,
    fixed_ends,
    label_ends,
    segment_ends,
    silence_ends,
    wave_levels,
)
from speechbrain_lact.training.asr import ASR
from speechbrain_lact.utils.dynamic_chunks import BlockSampler

EXAMPLES = settings(max_examples=8, deadline=None, derandomize=True)
MANY = settings(max_examples=25, deadline=None, derandomize=True)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RATE, STRIDE = 16000, 4


class Ragged(law.Subject):
    """What the subjects below share: the last channel of the input is
    positive where a chunk may end."""

    def inputs(self, rows, time, generator):
        x = super().inputs(rows, time, generator)
        ends = torch.randn(rows, time, 1, generator=generator)
        return torch.cat([x, ends + self.shift], -1)

    def forward(self, x, lengths, state=None, final=True):
        self.ends = {"ends": x[..., -1] > 0}
        return super().forward(x[..., :-1], lengths, state, final)


class Scan(Ragged, law.Scan):
    """`fast_weight_scan`."""

    def __init__(self, layout, chunk, least_chunk, **options):
        super().__init__(layout, chunk, **options)
        self.options["least_chunk"] = least_chunk

    def forward(self, x, lengths, state=None, final=True):
        self.options["ends"] = x[..., -1] > 0
        return law.Scan.forward(self, x[..., :-1], lengths, state, final)


class Caller(torch.nn.Module):
    """Gives a network one argument more."""

    def __init__(self, net, subject):
        super().__init__()
        self.net, self.subject = net, [subject]

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs, **self.subject[0].ends)

    def initial_state(self, batch):
        return self.net.initial_state(batch)


class Mixer(Ragged, law.Mixer):
    """`LaCT`."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.net = Caller(self.net, self)


class Encoder(Ragged, law.Encoder):
    """An encoder of two layers."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.net = Caller(self.net, self)


@dataclass
class SpokenState(State):
    """State of levels, front end and encoder."""

    levels: SilenceState = nested(SilenceState)
    whole: law.WholeState = nested(law.WholeState)


class Spoken(law.Whole):
    """From features to the encoder, chunks that end at silences of them."""

    state_class = SpokenState
    find = functools.partial(silence_ends, stride=2, least=2, contrast=2.0)

    def inputs(self, rows, time, generator):
        x = super().inputs(rows, time, generator)
        # Loud and soft in turn.
        turns = torch.randn(rows, time // 5 + 1, generator=generator)
        loud = turns.repeat_interleave(5, 1)[:, :time]
        return x + 3 * loud.sign()[..., None]

    def initial_state(self, batch):
        start = SilenceState.start(batch)
        return SpokenState(start, super().initial_state(batch))

    def forward(self, x, lengths, state=None, final=True):
        options = {"dynchunktrain_config": self.dynamic}
        fractions = lengths / max(x.shape[1], 1)
        if state is None:
            ends = self.find(x, lengths)
            x, fractions = self.front(x, fractions)
            out = self.net.encode(x, fractions, ends=ends, **options)
            return out, (fractions * out.shape[1]).round().long(), None
        ends, levels = self.find(x, lengths, state=state.levels, final=final)
        x, fractions, front = self.front(x, fractions, state.whole.front, final)
        out, encoder = self.net.encode(
            x,
            fractions,
            state=state.whole.encoder,
            final=final,
            ends=ends,
            **options,
        )
        whole = law.WholeState(front, encoder)
        return out, encoder.lengths, SpokenState(levels, whole)


@functools.cache
def build(kind, layout, shift=-0.5, **options):
    """A module whose parameters are all drawn at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind in ENCODERS:
            subject = Encoder(kind, layout, **options)
        else:
            classes = {"scan": Scan, "mixer": Mixer, "spoken": Spoken}
            subject = classes[kind](layout, **options)
        for parameter in subject.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    subject.shift = shift
    return subject.eval().double()


def draw_case(data, kind, layout):
    """A module and a ragged batch of several chunks."""
    optimizer = data.draw(st.sampled_from(law.OPTIMIZERS))
    # In update_apply order a chunk is a number of blocks; in apply_update
    # order the window of blocks reaches as far as a chunk.
    sizes = {"chunks": [4, 8], "blocks": [3, 4]}.get(layout, [3, 6])
    chunk = data.draw(st.sampled_from(sizes))
    subject = build(
        kind,
        layout,
        chunk=chunk,
        least_chunk=data.draw(st.sampled_from([1, 2, 3])),
        optimizer=optimizer,
        weight_norm=data.draw(st.sampled_from(["post", "pre"])),
        momentum=optimizer != "adam" and data.draw(st.booleans()),
    )
    rows = data.draw(st.integers(2, 3))
    near = [1, chunk - 1, chunk, chunk + 1, 2 * chunk]
    one = st.sampled_from(near) | st.integers(1, 3 * chunk)
    lengths = data.draw(st.lists(one, min_size=rows - 1, max_size=rows - 1))
    lengths = [subject.times(n, 0) for n in [2 * chunk + 3, *lengths]]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    time = max(lengths) + data.draw(st.integers(0, 2))
    x = subject.inputs(rows, time, generator).double()
    lengths = torch.tensor(lengths)
    return law.Case(subject, law.poison(x, lengths), lengths, generator)


CELLS = [
    ("scan", "causal"),
    ("scan", "chunks"),
    ("scan", "offline"),
    ("mixer", "causal"),
    ("mixer", "blocks"),
    ("mixer", "chunks"),
    ("mixer", "utterance"),
    ("transformer", "causal"),
    ("transformer", "chunks"),
    ("conformer", "causal"),
    ("conformer", "blocks"),
    ("conformer", "chunks"),
    ("conformer", "offline"),
    ("branchformer", "utterance"),
    ("spoken", "causal"),
    ("spoken", "blocks"),
    ("spoken", "chunks"),
]


# Of whole models, where rows and files are only moved.
MOVED = [c for c in CELLS if c[0] in ("scan", "mixer", "spoken")]


def cells(found):
    """Runs a test over these modules."""
    return pytest.mark.parametrize("kind,layout", found)


@cells(CELLS)
@EXAMPLES
@given(data=st.data())
def test_batch(kind, layout, data):
    """A row alone equals that row in a batch whose rows have other ends,
    with its gradients."""
    case = draw_case(data, kind, layout)
    law.check_batch(case, data.draw(st.integers(0, len(case.lengths) - 1)))


@cells([c for c in CELLS if c[1] not in law.WHOLE])
@EXAMPLES
@given(data=st.data())
def test_split(kind, layout, data):
    """Pieces of any length equal the whole, with gradients and state."""
    case = draw_case(data, kind, layout)
    pieces = law.pieces_of(data, case.lengths)
    law.check_split(case, pieces, data.draw(st.booleans()))


@cells(MOVED)
@EXAMPLES
@given(data=st.data())
def test_rows(kind, layout, data):
    """Sessions that join, leave, are reordered or reset change no others."""
    case = draw_case(data, kind, layout)
    law.change_rows(data, case, layout in law.WHOLE or data.draw(st.booleans()))


@cells(MOVED)
@EXAMPLES
@given(data=st.data())
def test_save(tmp_path_factory, kind, layout, data):
    """A state from a file goes on as if nothing had been."""
    case = draw_case(data, kind, layout)
    subject, (x, lengths) = case.subject, (case.x, case.lengths)
    final = layout in law.WHOLE or data.draw(st.booleans())
    path = str(tmp_path_factory.getbasetemp() / "ragged.safetensors")
    with torch.no_grad():
        start = subject.initial_state(len(x))
        _, _, state = subject(x, lengths, start, final)
        state.save(path, {})
        loaded = subject.state_class.load(path, {})
        out, count, _ = subject(x, lengths, state, True)
        out2, count2, _ = subject(x, lengths, loaded, True)
    assert torch.equal(count, count2)
    law.close(law.real(out2, count2), law.real(out, count))


def steps_of(flags, pending, least, greatest):
    """Frame by frame: where chunks end, and the length of the last one."""
    found = []
    for place, may_end in enumerate(flags):
        pending += 1
        if pending == greatest or (may_end and pending >= least):
            found.append(place + 1)
            pending = 0
    return found, pending


@MANY
@given(
    flags=st.lists(
        st.lists(st.booleans(), min_size=14, max_size=14),
        min_size=1,
        max_size=3,
    ),
    least=st.integers(1, 4),
    over=st.integers(0, 4),
    data=st.data(),
)
def test_ends_are_those_of_a_frame_by_frame_count(flags, least, over, data):
    """The rule, and that pieces have the same ends: each frame is in exactly
    one chunk."""
    greatest, cut = least + over, data.draw(st.integers(0, 14))
    lengths = [data.draw(st.integers(cut, 14)) for _ in flags]
    pending = [data.draw(st.integers(0, greatest - 1)) for _ in flags]
    rows, lengths = torch.tensor(flags), torch.tensor(lengths)
    before = torch.tensor(pending)
    got = chunk_ends(rows, lengths, before, least, greatest)
    expected = []
    for row, length, count in zip(flags, lengths.tolist(), pending):
        places, _ = steps_of(row[:length], count, least, greatest)
        expected.append([place + count for place in places])
    assert [sorted(set(row.tolist()) - {0}) for row in got] == expected
    # In two pieces.
    one = torch.full_like(lengths, cut)
    first = chunk_ends(rows[:, :cut], one, before, least, greatest)
    last = torch.nn.functional.pad(first, (1, 0)).amax(1)
    second = chunk_ends(
        rows[:, cut:], lengths - cut, before + cut - last, least, greatest
    )
    for a, b, start, row in zip(first, second, last, expected):
        found = set(a.tolist()) | {x + int(start) for x in b.tolist() if x}
        assert sorted(found - {0}) == row


@pytest.mark.parametrize("order", ["apply_update", "update_apply"])
@MANY
@given(data=st.data())
def test_ragged_is_chunk_by_chunk(order, data):
    """Each row alone, chunk after chunk, each the tail of a sequence of fixed
    chunks: the same outputs, gradients and memory. So each frame is learned
    once, and a step has its share of the greatest chunk."""
    layout = "causal" if order == "apply_update" else "chunks"
    case = draw_case(data, "scan", layout)
    subject, lengths = case.subject, case.lengths
    x = case.x.clone().requires_grad_()
    final = data.draw(st.booleans())
    start = subject.initial_state(len(x))
    out, count, state = subject(x, lengths, start, final)
    got = law.real(out, count)
    least, size = subject.options["least_chunk"], subject.chunk
    plain = law.Scan(
        layout,
        size,
        subject.options["optimizer"],
        subject.options["weight_norm"],
        subject.momentum,
    ).double()
    plain.load_state_dict(subject.state_dict())
    y = case.x.clone().requires_grad_()
    expected, steps = [], []
    for row, length in enumerate(lengths.tolist()):
        flags = (case.x[row, :length, -1] > 0).tolist()
        stops, rest = steps_of(flags, 0, least, size)
        memory, answers, begin = plain.initial_state(1), [y[row, :0, :5]], 0
        for stop in stops + [length] * bool(rest):
            known = final or stop in stops
            piece = y[row : row + 1, begin:stop, :-1]
            n = torch.tensor([stop - begin])
            one, n, memory = plain(piece, n, memory, known)
            answers.append(one[0, : int(n)])
            begin = stop
        expected.append(torch.cat(answers))
        steps.append(memory.steps)
    law.close(got, expected)
    assert torch.equal(state.steps, torch.cat(steps))
    dx, dp = law.gradients(subject, got, x)
    dy, dq = law.gradients(plain, expected, y)
    law.close([dx, *dp], [dy, *dq], law.DEEP_GRADIENT)


@pytest.mark.parametrize(
    "kind,layout",
    [("scan", "causal"), ("mixer", "blocks"), ("conformer", "chunks")],
)
@pytest.mark.parametrize("ends", ["none", "all"])
@EXAMPLES
@given(data=st.data())
def test_equal_to_fixed_chunks(kind, layout, ends, data):
    """With ends that are those of fixed chunks nothing changes."""
    options = {"optimizer": "muon", "weight_norm": "post", "momentum": True}
    ragged = build(kind, layout, chunk=4, least_chunk=4, **options)
    fixed = law.build(kind, layout, chunk=4, **options)
    weights = {
        name.replace("net.net.", "net."): value
        for name, value in ragged.state_dict().items()
    }
    fixed.load_state_dict(weights)
    lengths = torch.tensor([17, data.draw(st.integers(1, 12))])
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = ragged.inputs(2, 17, generator).double()
    # Every frame may be an end, but the least length is the greatest; or none.
    x[..., -1] = 1.0 if ends == "all" else -1.0
    final, found, states = data.draw(st.booleans()), [], []
    for subject, width in ((ragged, None), (fixed, -1)):
        y = x[..., :width].clone().requires_grad_()
        start = subject.initial_state(2)
        out, count, state = subject(y, lengths, start, final)
        out = law.real(out, count)
        dx, dp = law.gradients(subject, out, y)
        found.append([*out, dx[..., : fixed_width(fixed, x)], *dp])
        states.append(state)
    law.close(found[0], found[1])
    assert torch.equal(*(memory(state).steps for state in states))
    assert torch.equal(*(memory(state).pending for state in states))


def fixed_width(subject, x):
    """Channels without the flag."""
    return x.shape[-1] - 1


def memory(state):
    """The fast weights in a state."""
    if hasattr(state, "layers"):
        return state.layers[-1].mixer.fast
    return getattr(state, "fast", state)


def test_other_sizes_than_the_greatest():
    """Fixed chunks of 4 by their ends, where 9 is the most (sgd, whose steps
    know no share)."""
    options = {"weight_norm": "post", "optimizer": "sgd", "momentum": True}
    ragged = build("scan", "causal", chunk=9, least_chunk=1, **options)
    fixed = law.build("scan", "causal", chunk=4, **options)
    fixed.load_state_dict(ragged.state_dict())
    generator = torch.Generator().manual_seed(0)
    x = ragged.inputs(2, 15, generator).double()
    lengths = torch.tensor([15, 9])
    x[..., -1] = fixed_ends(lengths, 15, 4).double()
    out, _, _ = ragged(x, lengths)
    other, _, _ = fixed(x[..., :-1], lengths)
    law.close([out], [other])


def test_a_step_has_its_share_of_the_greatest_chunk():
    """Three frames of at most six: half the step of a full chunk of three."""
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    weights = [torch.randn(1, 4, 4, dtype=torch.float64) for _ in range(3)]
    rates = [torch.full((1, 3, 1), 0.1, dtype=torch.float64)] * 3
    ends, moves = torch.tensor([[False, False, True]]), []
    for options in ({"chunk_size": 3}, {"chunk_size": 6, "ends": ends}):
        _, state = fast_weight_scan(
            *weights, x, x, x, *rates, weight_norm="none", **options
        )
        assert state.steps.tolist() == [1]
        moves.append(state.w0 - weights[0])
    law.close([2 * moves[1]], [moves[0]])


def transformer(**options):
    """A small model."""
    torch.manual_seed(0)
    options = {
        "input_size": 6,
        "lact_chunk_size": 8,
        "lact_least_chunk": 2,
        **options,
    }
    return TransformerASR(
        tgt_vocab=5,
        d_model=8,
        nhead=2,
        num_encoder_layers=1,
        num_decoder_layers=0,
        d_ffn=12,
        kernel_size=5,
        encoder_module="conformer",
        attention_type="LaCT",
        normalize_before=True,
        causal=False,
        lact_heads=2,
        **options,
    ).eval()


def test_refusals():
    """One line says what does not fit."""
    net, x = transformer(), torch.randn(1, 12, 6)
    ends = torch.zeros(1, 12, dtype=torch.bool)
    with pytest.raises(ValueError, match="say where chunks may end"):
        net.encode(x)
    with pytest.raises(ValueError, match="only with least_chunk"):
        transformer(lact_least_chunk=None).encode(x, ends=ends)
    with pytest.raises(ValueError, match=r"booleans \[1, 12\]"):
        net.encode(x, ends=ends[:, :-1])
    with pytest.raises(ValueError, match="booleans"):
        net.encode(x, ends=ends.float())
    with pytest.raises(ValueError, match="least_chunk must be 1 to"):
        transformer(lact_least_chunk=9)
    with pytest.raises(ValueError, match="blocks of 3 frames do not fit"):
        config = DynChunkTrainConfig(3, 1)
        net.encode(x, dynchunktrain_config=config, ends=ends)
    with pytest.raises(ValueError, match="say where chunks may end"):
        net.make_streaming_context(DynChunkTrainConfig(8, 1))


def test_chunks_end_where_the_ends_are():
    """The memory makes an update where it is told to."""
    net, x = transformer(lact_window=[4, 4]), torch.randn(2, 12, 6)
    ends = torch.zeros(2, 12, dtype=torch.bool)
    ends[0, [2, 5, 8]] = True
    _, state = net.encode(x, state=net.initial_state(2), ends=ends)
    # 3 + 3 + 3 + 3 frames; 8 + 4.
    assert state.updates.tolist() == [4, 2]


def test_reading_again_learns_nothing():
    """Overlapping frames go through a state that only reads; the other one is
    as before."""
    net, x = transformer(lact_window=[4, 4]), torch.randn(1, 12, 6)
    ends = torch.zeros(1, 12, dtype=torch.bool)
    _, state = net.encode(x, state=net.initial_state(1), ends=ends)
    reader = state.learn(torch.tensor([False]))
    again, after = net.encode(x[:, 6:], state=reader, ends=ends[:, 6:])
    assert again.shape[1] == 6
    kept, now = memory(state.layers and state), memory(after)
    assert torch.equal(now.weights, kept.weights)
    assert torch.equal(now.steps, kept.steps)


@EXAMPLES
@given(data=st.data())
def test_labels_in_batches_and_pieces(data):
    """A row alone and pieces with the carried label have the same ends."""
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    labels = torch.randint(0, 4, (2, 12), generator=generator)
    lengths = torch.tensor([12, data.draw(st.integers(0, 12))])
    begins = data.draw(st.sampled_from([None, [2], [1, 3]]))
    whole = label_ends(labels, lengths, begins=begins)
    row = label_ends(labels[1:, : int(lengths[1])], begins=begins)
    assert torch.equal(whole[1, : int(lengths[1])], row[0])
    assert not bool(whole[1, int(lengths[1]) :].any())
    cut, last = data.draw(st.integers(0, 12)), torch.zeros(2).long()
    first, last = label_ends(
        labels[:, :cut], lengths.clamp(max=cut), 0, begins, last
    )
    second, _ = label_ends(
        labels[:, cut:], (lengths - cut).clamp(min=0), 0, begins, last
    )
    assert torch.equal(torch.cat([first, second], 1), whole)


def pipeline(kind, **options):
    """A small recogniser that streams, from waveforms to log-probabilities."""
    torch.manual_seed(0)
    normalize = InputNormalization(norm_type="global")
    normalize(30 * torch.randn(2, 50, 6) + 10, torch.ones(2), epoch=0)
    cnn = ConvolutionFrontEnd(6, stride=STRIDE, channels=2, out_channels=2)
    net = transformer(
        input_size=cnn.output_size,
        lact_order="apply_update",
        lact_block_window=[2, 4],
        **options,
    )
    encoder = Encoding(
        Fbank(n_mels=6, n_fft=400, top_db=None),
        normalize,
        cnn,
        net,
        torch.nn.Linear(8, 5),
        DynChunkTrainConfig(2, 4),
        boundaries=ChunkEnds(kind, stride=STRIDE),
    )
    return encoder.eval()


def loud_and_soft():
    """Two rows of one to two seconds."""
    generator = torch.Generator().manual_seed(0)
    wav = torch.randn(2, 2 * RATE, generator=generator)
    turns = torch.arange(2 * RATE) // 3000 % 2
    return wav * 10.0 ** -(2.0 * turns), torch.tensor([2 * RATE, RATE + 999])


@torch.no_grad()
def test_pipeline_in_pieces(tmp_path):
    """Waveforms in pieces, saved on the way: the same as in one, and chunks
    end at silences."""
    encoder, (wav, lengths) = pipeline("silence"), loud_and_soft()
    out, state = encoder(wav, lengths / wav.shape[1], encoder.initial_state(2))
    count = state.encoder.lengths
    greatest = -(-count // 8)
    assert bool((state.encoder.updates > greatest).all())
    found, pieces, before = [[], []], encoder.initial_state(2), 0
    for end in (5000, 5001, 20000, 2 * RATE):
        known = (lengths.clamp(max=end) - before).clamp(min=0)
        part = wav[:, before:end]
        y, pieces = encoder(
            part, known / part.shape[1], pieces, end == 2 * RATE
        )
        for row, frames in enumerate(law.real(y, pieces.encoder.lengths)):
            found[row].append(frames)
        pieces.save(f"{tmp_path}/state", {})
        pieces = type(pieces).load(f"{tmp_path}/state", {})
        before = end
    got = [torch.cat(frames) for frames in found]
    law.close(got, law.real(out, count), 1e-4)
    assert torch.equal(pieces.encoder.updates, state.encoder.updates)


@torch.no_grad()
def test_pipeline_with_labels_of_a_pass_before():
    """The second pass learns chunks that end where the first one's labels
    change; pieces are refused."""
    encoder, (wav, lengths) = pipeline("labels"), loud_and_soft()
    # Labels that change.
    torch.nn.init.normal_(encoder.head.weight)
    torch.nn.init.zeros_(encoder.head.bias)
    start, fractions = encoder.initial_state(2), lengths / wav.shape[1]
    out, state = encoder(wav, fractions, start)
    encoder.boundaries.options["begins"] = []
    never, other = encoder(wav, fractions, start)
    assert bool((state.encoder.updates > other.encoder.updates).all())
    assert (
        other.encoder.updates.tolist()
        == (-(-other.encoder.lengths // 8)).tolist()
    )
    seen = law.real(out, state.encoder.lengths)
    assert not torch.allclose(seen[0], never[0, : len(seen[0])])
    with pytest.raises(ValueError, match="whole recordings"):
        encoder(wav, fractions, start, False)
    with pytest.raises(ValueError, match="fixed, silence, labels, not 'word'"):
        ChunkEnds("word")
    with pytest.raises(ValueError, match="log-mel features"):
        ChunkEnds("silence")(wav[..., None], torch.ones(2))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Real sentences with pauses of faint noise between them: path, samples
    and the pauses in seconds."""
    paths = sorted((DATA / "speech").glob("*.wav"))
    if not paths:
        pytest.skip("no ../shared/data/speech")
    generator = torch.Generator().manual_seed(0)
    found = []
    for speaker in ("spk1", "spk2"):
        parts, pauses, time = [], [], 0.0
        for path in (p for p in paths if p.name.startswith(speaker)):
            sound = torch.tensor(soundfile.read(path, dtype="float32")[0])
            quiet = 3e-4 * torch.randn(RATE // 2, generator=generator)
            parts += [sound, quiet]
            time += len(sound) / RATE
            pauses.append((time, time + 0.5))
            time += 0.5
        wav = torch.cat(parts)
        path = tmp_path_factory.mktemp(speaker) / "all.wav"
        soundfile.write(path, wav.numpy(), RATE)
        found.append((str(path), wav, pauses))
    return found


def share_in_silence(ends, wav):
    """Share of the frames that end in silence, of those given and of all:
    from the samples of the last 0.1 s, 15 dB below loud speech anywhere in
    the recording."""
    frame, reach = STRIDE * RATE // 100, RATE // 10
    wav = torch.cat([torch.zeros(reach), wav, torch.zeros(frame)]).double()
    slices = wav.unfold(0, reach, frame)[1 : len(ends) + 1]
    levels = 10 * (slices.square().mean(1) + 1e-12).log10()
    silent = levels < levels.quantile(0.9) - 15
    return float(silent[ends].double().mean()), float(silent.double().mean())


@pytest.mark.parametrize("source", ["features", "waveform"])
def test_ends_lie_in_silences_of_real_speech(recordings, source):
    """The samples say so, and no pause is missed."""
    seconds = 0.01 * STRIDE
    for _, wav, pauses in recordings:
        levels = wave_levels(wav[None], RATE // 100)
        if source == "features":
            levels, _ = Fbank(n_mels=80)(wav[None], torch.ones(1))
        ends = silence_ends(levels, stride=STRIDE)[0]
        right, by_chance = share_in_silence(ends, wav)
        assert right > 0.95 > 2 * by_chance, (right, by_chance)
        times = (ends.nonzero()[:, 0] + 0.5) * seconds
        for begin, end in pauses:
            inside = (times > begin) & (times < end)
            assert bool(inside.any()), f"no end from {begin} to {end} s"
        # And the chunks of an encoder end there: at least 0.64 s long, none
        # cut at the greatest length.
        count = torch.tensor([len(ends)])
        stops = chunk_ends(ends[None], count, 0 * count, 16, 128)[0]
        assert len(stops) >= len(pauses)
        assert bool(ends[stops - 1].all())
        lengths = torch.diff(stops, prepend=torch.zeros(1).long())
        assert int(lengths.min()) >= 16


def test_ends_of_a_detector_of_voice(recordings):
    """Outside the segments of SpeechBrain's VAD, whose energy part needs no
    trained network, there is silence."""
    modules = {
        "compute_features": Fbank(),
        "mean_var_norm": torch.nn.Identity(),
        "model": torch.nn.Linear(40, 1),
    }
    hparams = {"sample_rate": RATE, "time_resolution": 0.01, "device": "cpu"}
    vad = VAD(modules, hparams)
    for path, wav, _ in recordings:
        whole = torch.tensor([[0.0, len(wav) / RATE]])
        speech = vad.energy_VAD(path, whole)
        time = -(-len(wav) // (STRIDE * RATE // 100))
        ends = segment_ends([speech], time, 0.01 * STRIDE)[0]
        assert int(ends.sum()) > 20
        right, by_chance = share_in_silence(ends, wav)
        assert right > 0.9 > 2 * by_chance, (right, by_chance)


def test_silence_of_the_waveform_in_batches():
    """Padding is no silence, and a row's levels do not depend on others."""
    generator = torch.Generator().manual_seed(0)
    wav = torch.randn(2, 1003, generator=generator)
    lengths = torch.tensor([1003, 517])
    levels = wave_levels(law.poison(wav, lengths), 10, lengths)
    alone = wave_levels(wav[1:, :517], 10)
    assert torch.equal(levels[1, :52], alone[0])
    ends = silence_ends(levels, torch.tensor([101, 52]), least=1, contrast=0.1)
    assert not bool(ends[1, 52:].any()) and bool(ends.any())


def test_silences_on_the_spot():
    """Known levels: where silences begin, and none without contrast."""
    levels = torch.full((2, 60), 50.0)
    levels[0, 20:40] = 10.0
    levels[1, 20:40] = 45.0
    ends = silence_ends(levels, stride=1, least=5)
    assert ends[0].nonzero()[:, 0].tolist() == list(range(24, 40))
    assert not bool(ends[1].any())
    # Digital silence between: the room's own noise is a silence, too.
    levels[0, 50:] = -100.0
    levels[0, 40:50] = 20.0
    assert bool(silence_ends(levels, least=5)[0, 45:].all())


@torch.no_grad()
def test_labels_in_training_are_those_in_use():
    """The recipe gives the pass before what the encoder is given: blocks. Its
    outputs that stand for no token are no labels."""
    encoder, (wav, lengths) = pipeline("labels"), loud_and_soft()
    torch.nn.init.normal_(encoder.head.weight)
    encoder.head.bias.data[4] = 1e4
    sampler = BlockSampler([3], left_context=8, test_block=2)
    assert sampler(Stage.TEST) == encoder.dynchunktrain_config
    brain = SimpleNamespace(
        modules=SimpleNamespace(
            normalize=encoder.normalize,
            CNN=encoder.cnn,
            Transformer=encoder.transformer,
            ctc_lin=encoder.head,
        ),
        hparams=SimpleNamespace(
            compute_features=encoder.compute_features,
            boundaries=encoder.boundaries,
            dynchunktrain_config_sampler=sampler,
        ),
        tokenizer=SimpleNamespace(sp=SimpleNamespace(vocab_size=lambda: 4)),
    )
    given = wav, lengths / wav.shape[1]

    def found(stage):
        """Where the recipe lets chunks end."""
        return ASR.pipeline(brain, stage).front(*given).options["ends"]

    ends = found(Stage.TEST)
    encoder.head.bias.data[4] = -1e4  # as the recipe's tests and export have it
    wanted = encoder.front(*given).options["ends"]
    assert torch.equal(ends, wanted) and bool(wanted.any())
    assert not torch.equal(found(Stage.TRAIN), wanted)


def test_a_pass_before_leaves_each_part_in_its_mode():
    net = transformer().train()
    net.encoder.layers[0].eval()
    modes = [module.training for module in net.modules()]
    assert len(set(modes)) == 2
    src, counts = torch.randn(1, 9, 6), torch.ones(1)

    def head(out):
        """No pass has a gradient."""
        assert not out.requires_grad
        return out

    greedy_labels(net, head, src, counts)
    assert [module.training for module in net.modules()] == modes
    with pytest.raises(ValueError, match="src"):
        greedy_labels(net, head, src[..., :5], counts)
    assert [module.training for module in net.modules()] == modes


@torch.no_grad()
def test_frozen_memories_learn_again_after_an_exception():
    net = transformer(lact_base_lr=0.02, lact_least_chunk=None)
    mixers = [m for m in net.modules() if isinstance(m, LaCT)]
    src, found = torch.randn(1, 32, 6), [net.initial_state(1)]
    with pytest.raises(InterruptedError), frozen_memory([net]):
        for _ in range(2):
            found.append(net.encode(src, state=found[-1])[1])
        raise InterruptedError
    assert [mixer.base_lr for mixer in mixers] == [0.02]
    found.append(net.encode(src, state=found[-1])[1])
    first, second, third = (
        state.layers[0].mixer.fast.weights for state in found[1:]
    )
    assert torch.allclose(first, second, atol=1e-4)
    assert not torch.allclose(second, third, atol=1e-2)
