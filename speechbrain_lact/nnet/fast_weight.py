"""Fast weights: the memory of a sequence, and the scan that trains it.

A chunk of frames at a time, the network is trained on (key, value) pairs while
the model runs, and read with queries. `fast_weight_scan` is the reference
implementation that every other backend is tested against.

Source of the formulas: Test-Time Training Done Right,
https://arxiv.org/abs/2505.23884

The network and its gradient are in `fast_network`, what a chunk does to the
weights in `fast_optim`, and what the host knows of a call in `plan`.

Authors
* speechbrain_lact contributors 2026
"""

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint as recompute

from speechbrain_lact.nnet.backend import BACKENDS, choose
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import (
    count_tensor,
    host_values,
    known_values,
    remember,
)
from speechbrain_lact.nnet.fast_network import (
    INNER_LOSSES,
    apply_parts,
    parts,
    row_norms,
)
from speechbrain_lact.nnet.fast_optim import (
    LEARN,
    OPTIMIZERS,
    UpdateRule,
    update,
    used_weights,
)
from speechbrain_lact.nnet.frames import splice, zero_padding
from speechbrain_lact.nnet.plan import ChunkPlan, chunk_ends
from speechbrain_lact.nnet.state import State, buffer, core_type, counter

ORDERS = ("apply_update", "update_apply", "bidirectional")
WEIGHT_NORMS = ("post", "pre", "none")


@dataclass
class FastWeightState(State):
    """Memory of N fast networks between two calls of `fast_weight_scan`.

    Rows whose flag `fresh` is set have learned nothing: they start from the
    weights that the next call gives, whatever stands in the tensors here.
    """

    weights: torch.Tensor = None
    """W0, W2, W1' [N, 3, h, d]; for `pre` norm the unnormalised copy."""
    moment: torch.Tensor = None
    """Momentum, or Adam's first moment [N, 3, h, d]."""
    square: torch.Tensor = None
    """Adam's second moment [N, 3, h, d]."""
    targets: torch.Tensor = None
    """Row norms of the weights the state began with [N, 2h + d]."""
    fresh: torch.Tensor = None
    """True where nothing has been learned yet [N]."""
    learning: torch.Tensor = None
    """False where the memory is only read: chunks pass without update [N]."""
    steps: torch.Tensor = counter()
    """Number of updates made [N]."""
    skipped: torch.Tensor = counter()
    """Number of updates left out because they were not finite [N]."""
    keys: torch.Tensor = buffer("right", -2)
    """Frames of the unfinished chunk [N, P, d]."""
    values: torch.Tensor = buffer("right", -2)
    """As `keys`."""
    gates: torch.Tensor = buffer("right", -2)
    """Learning rates and momentum of these frames [N, P, 4]."""
    queries: torch.Tensor = buffer("right", -2)
    """Their queries, where they wait for an answer [N, P, d]."""
    pending: torch.Tensor = counter("keys", "values", "gates", "queries")
    """Number of frames of the unfinished chunk [N]."""
    lengths: torch.Tensor = counter()
    """Number of output frames of the call that made this state [N]."""

    @classmethod
    def start(cls, rows, hidden, width, *, optimizer, order, like):
        """State of rows that have seen nothing.

        Arguments
        ---------
        rows, hidden, width : int
            N, h and d.
        optimizer, order : str
            As `fast_weight_scan` has them.
        like : torch.Tensor
            Gives device and type.

        Returns
        -------
        FastWeightState
        """
        zeros = like.new_zeros
        weights = zeros(rows, 3, hidden, width)
        count = count_tensor([0] * rows, like.device)
        flag = remember(count == 0, (True,) * rows)
        frames = zeros(rows, 0, width)
        return cls(
            weights=weights,
            moment=weights,
            square=weights if optimizer == "adam" else None,
            targets=zeros(rows, 2 * hidden + width),
            fresh=flag,
            learning=flag,
            steps=count,
            skipped=count,
            keys=frames,
            values=frames,
            gates=zeros(rows, 0, 4),
            queries=frames if order == "update_apply" else None,
            pending=count,
            lengths=count,
        )

    def begin(self, rows, weights):
        """Lets rows start from weights of their own, which the next call then
        does not give.

        Arguments
        ---------
        rows : torch.Tensor
            Boolean [N]: R of them, which have learned nothing.
        weights : torch.Tensor
            W0, W2, W1' [R, 3, h, d]; gradients pass.

        Returns
        -------
        FastWeightState
        """
        norms = torch.cat([x.flatten(1) for x in row_norms(weights)], 1)
        return dataclasses.replace(
            self,
            weights=self.weights.index_put((rows,), weights),
            targets=self.targets.index_put((rows,), norms),
            fresh=self.fresh & ~rows,
        )

    @property
    def w0(self):
        """W0 [N, h, d]."""
        return self.weights[:, 0]

    @property
    def w1(self):
        """W1 [N, d, h]."""
        return self.weights[:, 2].transpose(1, 2)

    @property
    def w2(self):
        """W2 [N, h, d]."""
        return self.weights[:, 1]


def fast_weight_scan(
    w0,
    w1,
    w2,
    q,
    k,
    v,
    lr0,
    lr1,
    lr2,
    *,
    chunk_size,
    order="apply_update",
    optimizer="muon",
    momentum=None,
    weight_norm="post",
    mask=None,
    ends=None,
    least_chunk=1,
    state=None,
    final=False,
    inner_loss="dot_product",
    base_lr=1e-2,
    step_scale=None,
    max_step_norm=None,
    nhead=1,
    checkpoint=False,
    backend="auto",
    learn=LEARN[0],
):
    """Learns a sequence chunk by chunk and reads the memory for each frame.

    Weights, moments and norms are kept in fp32 (float64 if `w0` is); under
    autocast the matrix products run in its type.

    Arguments
    ---------
    w0, w2 : torch.Tensor
        Initial weights [N, h, d] (N = batch * heads), or [heads, h, d] if
        they are the same for all batch items.
    w1 : torch.Tensor
        Initial weights [N, d, h] or [heads, d, h].
    q, k, v : torch.Tensor
        Queries, keys, values [N, L, d].
    lr0, lr1, lr2 : torch.Tensor
        Learning rate of each frame for each matrix [N, L, 1].
    chunk_size : int
        Frames per update; with `ends`, the most.
    order : str
        `apply_update`: a chunk reads the memory of earlier chunks, then is
        learned (causal). `update_apply`: a chunk is learned, then reads.
        `bidirectional`: all chunks are learned, then all read.
    optimizer : str
        `sgd`, `adam` or `muon`. With `adam` and `muon` a step has the same
        size whatever the rates: a tail's step is multiplied by the share of
        the chunk that is real.
    momentum : torch.Tensor, optional
        Decay of each frame [N, L, 1]; a chunk's decay is the mean over its
        real frames. Not with `adam`, which has decays of its own.
    weight_norm : str
        `post`: rows are scaled to their initial norm after each update.
        `pre`: what is used is scaled, an unnormalised copy is updated.
        `none`.
    mask : torch.Tensor, optional
        [N, L], True = real frame. Padding may stand anywhere.
    ends : torch.Tensor, optional
        [N, L], True where a chunk may end after the frame: see `chunk_ends`.
        A step of `adam` and `muon` is then multiplied by the share of the
        greatest chunk. Without, all chunks are of `chunk_size` frames.
    least_chunk : int
        Frames of a chunk that ends at a place of `ends`, at least.
    state : FastWeightState, optional
        Where to go on. None starts from `w0, w1, w2`.
    final : bool
        Whether the sequence ends here: the tail is then learned too.
        Otherwise it stays in the state; in `update_apply` order its frames
        are answered when their chunk is full.
    inner_loss : str
        One of `speechbrain_lact.nnet.fast_network.INNER_LOSSES`.
    base_lr : float
        Step size of `adam`.
    step_scale : torch.Tensor, optional
        Factor of each row's steps [N].
    max_step_norm : float, optional
        Largest Frobenius norm of a step of one matrix.
    nhead : int
        Heads of one batch item, which stand together in N: a non-finite
        update of one of them is left out for all.
    checkpoint : bool
        Whether to recompute each chunk in the backward pass.
    backend : str
        One of `speechbrain_lact.nnet.backend.BACKENDS`.
    learn : list of str
        Matrices that learn: `w0, w1, w2`, or `w1` alone, at less cost.

    Returns
    -------
    out : torch.Tensor
        [N, L, d], zeros at padding. In `update_apply` order with a state or
        without `final`: the frames that could be answered, aligned to the
        left, `state.lengths` of them.
    state : FastWeightState
        Where to go on.

    Example
    -------
    >>> w, x = torch.randn(1, 4, 4), torch.randn(1, 10, 4)
    >>> lr = torch.full((1, 10, 1), 0.1)
    >>> out, state = fast_weight_scan(
    ...     w, w, w, x, x, x, lr, lr, lr, chunk_size=4
    ... )
    >>> out.shape, state.steps, state.pending
    (torch.Size([1, 10, 4]), tensor([2]), tensor([2]))
    """
    check_options(
        order,
        optimizer,
        weight_norm,
        inner_loss,
        chunk_size,
        momentum is not None,
        least_chunk,
        base_lr,
        max_step_norm,
        backend,
        learn,
    )
    _check_inputs(
        (w0, w1, w2), (q, k, v), (lr0, lr1, lr2, momentum), mask, ends, state
    )
    core = core_type(w0.dtype)
    rows, length, _ = q.shape
    if momentum is None:
        momentum = torch.zeros_like(lr0)
    gates = torch.cat([lr0, lr1, lr2, momentum], -1)
    frames = [x.to(core) for x in (q, k, v, gates)]
    places = None
    if mask is not None:
        frames = [zero_padding(x, mask) for x in frames]
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            places = torch.argsort(~mask, dim=1, stable=True)
            frames = [_take(x, places) for x in frames]
            mask = mask.gather(1, places)
            ends = None if ends is None else ends.gather(1, places)
    plan = ChunkPlan.of(q, mask, ends)
    rule = UpdateRule(
        optimizer=optimizer,
        weight_norm=weight_norm,
        inner_loss=inner_loss,
        base_lr=base_lr,
        max_step_norm=max_step_norm,
        nhead=nhead,
        checkpoint=checkpoint,
        chunk_size=chunk_size,
        backend=backend,
        learn=tuple(learn),
    )
    out, state = scan_chunks(
        torch.stack([w0, w2, w1.mT], 1).to(core),
        *frames,
        rule=rule,
        order=order,
        plan=plan,
        least_chunk=least_chunk,
        state=state,
        final=final,
        step_scale=step_scale,
    )
    plan.report()
    out = zero_padding(
        out, plan.padding(host_values(state.lengths), out.shape[1])
    )
    if places is not None:
        if out.shape[1] != length:
            raise ValueError(
                "frames answered late need padding after the last real frame"
            )
        out = _take(out, torch.argsort(places, 1))
    return out.to(torch.promote_types(q.dtype, product_type(q, core))), state


def product_type(x, core):
    """The type of matrix products: that of autocast, if it is on."""
    device = x.device.type
    if core == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return core


def scan_chunks(
    start,
    queries,
    keys,
    values,
    gates,
    *,
    rule,
    order,
    plan,
    least_chunk=1,
    state=None,
    final=False,
    step_scale=None,
):
    """`fast_weight_scan` of a call whose rows the host knows.

    Arguments
    ---------
    start : torch.Tensor
        Initial W0, W2, W1' [N, 3, h, d], or of each head [heads, 3, h, d].
    queries, keys, values : torch.Tensor
        Frames in the type of the weights [N, L, d]; what pads is finite.
    gates : torch.Tensor
        Learning rates of W0, W1, W2 and the decay of the momentum [N, L, 4],
        zeros at padding.
    rule : UpdateRule
        How chunks are learned.
    order : str
        As `fast_weight_scan`.
    plan : ChunkPlan
        The rows.
    least_chunk, state, final, step_scale
        As `fast_weight_scan`.

    Returns
    -------
    out : torch.Tensor
        As `fast_weight_scan`, but finite at padding.
    state : FastWeightState
    """
    device = queries.device.type
    rule = dataclasses.replace(
        rule,
        dtype=product_type(queries, queries.dtype),
        kernels=choose(rule.backend, queries, rule.learn),
    )
    rows = len(queries)
    pending, fresh, learning = (0,) * rows, (True,) * rows, (True,) * rows
    if state is None:
        state = FastWeightState.start(
            rows,
            *start.shape[2:],
            optimizer=rule.optimizer,
            order=order,
            like=start,
        )
    else:
        pending = host_values(state.pending)
        fresh, learning = map(known_values, (state.fresh, state.learning))
    spans = plan.keep(
        ("spans", pending, rule.chunk_size, least_chunk, final),
        lambda: _Spans(plan, pending, least_chunk, rule.chunk_size, final),
    )
    with torch.autocast(device, enabled=False):
        state = _begin(state, fresh, start)
        memory = _Memory(rule, step_scale, state, plan, fresh, learning)
        frames = queries, keys, values, gates
        return _scan(memory, frames, spans, order, final)


class _Spans:
    """Where the chunks of a call lie, in integers that the host knows.

    Frames of the unfinished chunk, `pending`, come before those of the call.

    Arguments
    ---------
    plan : ChunkPlan
        The rows [N].
    pending : tuple of int
        Frames of the unfinished chunk of each row.
    least, size : int
        Frames of a chunk, at least and at most.
    final : bool
        Whether the tail is learned, too.
    """

    def __init__(self, plan, pending, least, size, final):
        self.plan, self.pending, self.size = plan, pending, size
        self.total = [a + b for a, b in zip(pending, plan.lengths)]
        self.stops = None
        if plan.ends is None or not pending:
            self.ends = [
                count if final else count // size * size for count in self.total
            ]
            return
        stops = chunk_ends(plan.ends, plan.lengths, pending, least, size)
        stops = F.pad(stops, (1, 0))
        self.ends = self.total if final else stops[:, -1].tolist()
        # The last chunk is the unfinished one.
        self.stops = torch.cat([stops[:, 1:], _host(self.total)[:, None]], 1)

    def chunk(self, first):
        """Real frames of the chunk of one length that begins at `first`."""
        return tuple(min(max(end - first, 0), self.size) for end in self.ends)


class _Memory:
    """The fast weights while a call goes on."""

    def __init__(self, rule, step_scale, state, plan, fresh, learning):
        self.rule, self.plan, self.state = rule, plan, state
        # What the host knows of these flags of the state, or None.
        self.fresh, self.learning = fresh, learning
        self.scale = None
        if step_scale is not None:
            self.scale = step_scale.view(-1, 1, 1)
        hidden, rows = state.weights.shape[2], state.targets
        self.targets = rows[:, : 2 * hidden, None], rows[:, None, 2 * hidden :]
        # The matrices of a row one above the other.
        self.tensors = tuple(
            x if x is None else x.flatten(1, 2)
            for x in (state.weights, state.moment, state.square)
        )
        self.steps = state.steps
        # Whether to count at once: some rules ask how often was learned.
        self.counts = rule.optimizer == "adam" or rule.weight_norm == "pre"
        self.tried, self.learned, self.parts = [], [], None

    def read(self, queries):
        """What the fast network answers."""
        rule = self.rule
        if self.parts is None:
            used = used_weights(rule, self.tensors[0], self.targets, self.steps)
            self.parts = used if rule.kernels is not None else parts(used)
        if rule.kernels is not None:
            return rule.kernels.read(rule, self.parts, queries)
        if rule.checkpoint:
            return recompute(
                apply_parts,
                self.parts,
                queries,
                rule.dtype,
                use_reentrant=False,
            )
        return apply_parts(self.parts, queries, rule.dtype)

    def learn(self, keys, values, gates, counts):
        """Learns one chunk.

        Arguments
        ---------
        keys, values, gates : torch.Tensor
            Frames of the chunk, zeros where `counts` ends.
        counts : tuple of int
            Number of real frames of each row; rows with none stay as they
            are.
        """
        allowed = self.learning
        active = tuple(count > 0 for count in counts)
        if allowed is not None:
            active = tuple(a and b for a, b in zip(active, allowed))
        if not any(active):
            return
        lengths = None
        if any(count != self.rule.chunk_size for count in counts):
            lengths = self.plan.counts(counts).view(-1, 1, 1)
        before = self.tensors
        *after, good = update(
            self.rule,
            *before,
            self.targets,
            keys,
            values,
            gates,
            lengths,
            self.steps,
            self.scale,
        )
        rows = self._rows(active)
        if rows is not None:
            rows = rows.view(-1, 1, 1)
            after = [
                new if new is None else torch.where(rows, new, old)
                for new, old in zip(after, before)
            ]
            good = good & rows
        self.tensors, self.parts = tuple(after), None
        self.tried.append(active)
        self.learned.append(good)
        if self.counts:
            self.steps = self.steps + good.view(-1)

    def _rows(self, active):
        """Rows that learn, on the device [N]; None for all."""
        rows = None
        if not all(active):
            rows = self.plan.keep(
                ("rows", active), lambda: count_tensor(active, self.plan.device)
            )
        if self.learning is not None:
            return rows
        flags = self.state.learning
        return flags if rows is None else rows & flags

    def after(self, **fields):
        """The state after the call."""
        state = self.state
        if self.tried:
            fields.update(self._counted())
            names = "weights", "moment", "square"
            for name, tensor in zip(names, self.tensors):
                if tensor is not None:
                    shape = getattr(state, name).shape
                    fields[name] = tensor.view(shape)
        return dataclasses.replace(state, **fields)

    def _counted(self):
        """Numbers of updates, and who has still learned nothing."""
        state, plan = self.state, self.plan
        learned = torch.cat(self.learned, 1).sum((1, 2))
        tried = tuple(sum(rows) for rows in zip(*self.tried))
        skipped = plan.counts(tried) - learned
        known, allowed = self.fresh, self.learning
        if allowed is None:
            # Those that were not to learn were not left out.
            skipped = skipped * state.learning
        plan.skip(skipped)
        asked = tuple(count > 0 for count in tried)
        if all(asked) and allowed is not None:
            fresh = remember(
                torch.zeros_like(state.fresh), (False,) * len(asked)
            )
        else:
            fresh = state.fresh & ~self._rows(asked)
            if known is not None and allowed is not None:
                left = tuple(a and not b for a, b in zip(known, asked))
                remember(fresh, left)
        return {
            "steps": state.steps + learned,
            "skipped": state.skipped + skipped,
            "fresh": fresh,
        }


def _begin(state, known, start):
    """Fresh rows take the initial weights and their row norms; `known` says
    which rows are, if the host knows."""
    # In training weights that no row takes have a gradient of zeros: their
    # optimizer and processes that train together count on one in every step.
    if not start.requires_grad and known is not None and not any(known):
        return state
    norms = torch.cat([x.flatten(1) for x in row_norms(start)], 1)
    copies = len(state.fresh) // len(start)
    if copies > 1:
        start, norms = start.repeat(copies, 1, 1, 1), norms.repeat(copies, 1)
    if known is not None and all(known):
        weights, targets = start, norms
    else:
        fresh = state.fresh
        weights = torch.where(fresh.view(-1, 1, 1, 1), start, state.weights)
        targets = torch.where(fresh.view(-1, 1), norms, state.targets)
    return dataclasses.replace(state, weights=weights, targets=targets)


def _scan(memory, frames, spans, order, final):
    """The scan over chunks, after types, padding and initial weights."""
    queries, *learned = frames
    state, plan, length = memory.state, spans.plan, queries.shape[1]
    before, waited = spans.pending, state.keys.shape[1]
    if order == "bidirectional" and (waited or not final):
        raise ValueError(
            "bidirectional order takes whole sequences: set final=True"
        )
    buffers = (state.keys, state.values, state.gates)
    learned = [splice(b, before, x) for b, x in zip(buffers, learned)]
    if order == "update_apply":
        queries = splice(state.queries, before, queries)
        before = (0,) * len(before)
    scan = _scan_equal if spans.stops is None else _scan_ragged
    out = scan(memory, spans, queries, learned, before, order)

    answered = spans.ends if order == "update_apply" else plan.lengths
    width = max(answered, default=0)
    if order != "update_apply" or (final and not waited):
        width = length
    out = _cut(out, 0, width)
    if out.shape[1] < width:
        out = F.pad(out, (0, 0, 0, width - out.shape[1]))
    rest = tuple(a - b for a, b in zip(spans.total, spans.ends))
    wide = max(rest, default=0)

    def stay(x, buffer):
        """Frames of the unfinished chunk."""
        if wide == 0:
            return buffer if waited == 0 else buffer[:, :0]
        kept = plan.slide(x, spans.ends, wide)
        return zero_padding(kept, plan.padding(rest, wide))

    keys, values, gates = map(stay, learned, buffers)
    waiting = None
    if order == "update_apply":
        waiting = stay(queries, state.queries)
    return out, memory.after(
        keys=keys,
        values=values,
        gates=gates,
        queries=waiting,
        pending=plan.counts(rest),
        lengths=plan.counts(answered),
    )


def _scan_equal(memory, spans, queries, learned, before, order):
    """Chunks of one length: those of all rows stand in the same columns.

    `queries` lack the first `before` frames of `learned`, and frames beyond
    the ends are not learned.
    """
    size, length = spans.size, queries.shape[1]
    stop = max(spans.ends, default=0)
    # Queries stand where their frame stands in its chunk.
    together = len(set(before)) <= 1
    offset = before[0] if together and before else 0
    aligned = queries
    if not together:
        negative = [-count for count in before]
        aligned = spans.plan.slide(queries, negative, learned[0].shape[1])
    chunks = list(zip(*(x.split(size, 1) for x in learned)))

    def learn(first):
        """Learns the chunk that begins at `first`."""
        # Beyond the end of a row stand zeros, or its chunk is not learned.
        memory.learn(*chunks[first // size], spans.chunk(first))

    if order == "bidirectional":
        for first in range(0, stop, size):
            learn(first)
        out = memory.read(aligned)
        return out if together else spans.plan.slide(out, before, length)
    pieces = []
    last = stop if order == "update_apply" else offset + aligned.shape[1]
    for first in range(0, last, size):
        begin, end = (max(first + x - offset, 0) for x in (0, size))
        questions = _cut(aligned, begin, end)
        if order == "update_apply":
            learn(first)
            pieces.append(memory.read(questions))
        else:
            pieces.append(memory.read(questions))
            if first < stop:
                learn(first)
    if len(pieces) == 1:
        out = pieces[0]
    else:
        out = torch.cat(pieces, 1) if pieces else queries[:, :0]
    return out if together else spans.plan.slide(out, before, length)


def _scan_ragged(memory, spans, queries, learned, before, order):
    """As `_scan_equal`, for chunks that end at `spans.stops` [N, J]; the last
    of them is the end of each row."""
    device, length = queries.device, queries.shape[1]
    begins, known, places, columns, reads, answers = spans.plan.keep(
        ("ragged", spans.pending, tuple(before), order),
        lambda: _columns(spans, before, order, device),
    )
    learned = [_gather(x, places) for x in learned]
    aligned, pieces = _gather(queries, reads), []
    counts = (known - begins).T.tolist()
    for span, answer, count in zip(columns, answers, counts):
        if order == "apply_update":
            pieces.append(memory.read(aligned[:, answer]))
        if span.start < span.stop:
            memory.learn(*(x[:, span] for x in learned), tuple(count))
        if order == "update_apply":
            pieces.append(memory.read(aligned[:, answer]))
    if order == "bidirectional":
        return memory.read(queries)
    # Back to the order of time. Columns without a frame go behind the last
    # one, which is cut off.
    out = torch.cat(pieces, 1)
    places = torch.where(reads < 0, length, reads)[..., None].expand_as(out)
    back = out.new_zeros(len(out), length + 1, out.shape[2])
    return back.scatter(1, places, out)[:, :length]


def _columns(spans, before, order, device):
    """Columns of the chunks: of what is learned, and of what is read."""
    stops, ends = spans.stops, _host(spans.ends)
    begins = F.pad(stops[:, :-1], (1, 0))
    known = torch.minimum(stops, ends[:, None])
    places, columns = _spread(begins, known)
    answered = known if order == "update_apply" else stops
    offset = _host(before)[:, None]
    reads, answers = _spread(
        *((x - offset).clamp(min=0) for x in (begins, answered))
    )
    places, reads = (x.to(device, non_blocking=True) for x in (places, reads))
    return begins, known, places, columns, reads, answers


def _spread(begins, stops):
    """Columns for spans of different lengths.

    Arguments
    ---------
    begins, stops : torch.Tensor
        Frames of span j of each row [N, J], on the host.

    Returns
    -------
    places : torch.Tensor
        For each column the frame that stands there, or -1 [N, S].
    columns : list of slice
        Those of span j.
    """
    counts = (stops - begins).clamp(min=0)
    widths = counts.amax(0)
    span = torch.repeat_interleave(widths)
    last = widths.cumsum(0)
    within = torch.arange(len(span), device="cpu") - (last - widths)[span]
    places = torch.where(within < counts[:, span], begins[:, span] + within, -1)
    edges = [0, *last.tolist()]
    return places, [slice(a, b) for a, b in zip(edges, edges[1:])]


def _host(values):
    """Integers on the host, whatever the default device is."""
    return torch.tensor(values, dtype=torch.long, device="cpu")


def _gather(x, places):
    """Frames at the places given, zeros at -1."""
    if places.shape[1] == 0:
        return x[:, :0]
    return zero_padding(_take(x, places.clamp(min=0)), places >= 0)


def _cut(x, begin, end):
    """Frames from one place to another; all of them cost nothing, whereas a
    slice costs a copy in the backward pass."""
    return x if begin <= 0 and end >= x.shape[1] else x[:, begin:end]


def _take(x, places):
    """Frames of each row in another order."""
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def _check_inputs(weights, frames, gates, mask, ends, state):
    """Refuses tensors of `fast_weight_scan` that do not fit together."""
    q = check_tensor(frames[0], ("N", "L", "d"), "q")
    (rows, length, width), w0 = q.shape, weights[0]
    for name, x in zip("kv", frames[1:]):
        check_tensor(x, (rows, length, width), name)
    check_tensor(w0, ("N", "h", width), "w0")
    copies, hidden = w0.shape[:2]
    check_tensor(weights[1], (copies, width, hidden), "w1")
    check_tensor(weights[2], (copies, hidden, width), "w2")
    if not copies or rows % copies:
        raise ValueError(
            f"w0, w1, w2: {copies} of them do not fit {rows} rows of frames"
        )
    for name, x in zip(("lr0", "lr1", "lr2", "momentum"), gates):
        if x is not None:
            check_tensor(x, (rows, length, 1), name)
    for name, x in (("mask", mask), ("ends", ends)):
        if x is not None:
            check_tensor(x, (rows, length), name, "booleans")
    if state is not None:
        state.check_rows(rows)


def _check(name, value, allowed):
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(allowed)}, not {value!r}"
        )


def check_options(
    order,
    optimizer,
    weight_norm,
    inner_loss,
    chunk_size,
    momentum,
    least_chunk=1,
    base_lr=1e-2,
    max_step_norm=None,
    backend="auto",
    learn=LEARN[0],
):
    """Refuses what no scan can do."""
    if not isinstance(learn, (list, tuple)) or tuple(learn) not in LEARN:
        raise ValueError(f"learn: [w0, w1, w2] or [w1], not {learn!r}")
    _check("backend", backend, BACKENDS)
    _check("order", order, ORDERS)
    _check("optimizer", optimizer, OPTIMIZERS)
    _check("weight_norm", weight_norm, WEIGHT_NORMS)
    _check("inner_loss", inner_loss, INNER_LOSSES)
    check_number(chunk_size, "chunk_size", least=1, integer=True)
    check_number(least_chunk, "least_chunk", integer=True)
    check_number(base_lr, "base_lr", least=0)
    if max_step_norm is not None:
        check_number(max_step_norm, "max_step_norm", positive=True)
    if not 1 <= least_chunk <= chunk_size:
        raise ValueError(
            f"least_chunk must be 1 to chunk_size={chunk_size}, not "
            f"{least_chunk}"
        )
    if optimizer == "adam" and momentum:
        raise ValueError("adam has decays of its own: leave momentum out")
