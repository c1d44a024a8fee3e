"""Fast weights: a small SwiGLU network that learns the sequence it reads.

    f_W(x) = W1 [ silu(W0 x) * (W2 x) ]

A chunk of frames at a time, the network is trained on (key, value) pairs while
the model runs, and read with queries. `fast_weight_scan` is the reference
implementation that every other backend is tested against.

Source of the formulas: Test-Time Training Done Right,
https://arxiv.org/abs/2505.23884

Inside, the three matrices of a head are one tensor `[N, 3, h, d]` holding
W0, W2 and W1 transposed, so that one product serves two matrices and one
Newton-Schulz iteration serves all.

Authors
* speechbrain_lact contributors 2026
"""

import dataclasses
import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint as recompute

from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.fast_optim import OPTIMIZERS, adam, clip_norm, polar
from speechbrain_lact.nnet.state import (
    State,
    buffer,
    counter,
    padding_mask,
    slide,
    splice,
    zero_padding,
)

logger = logging.getLogger(__name__)

ORDERS = ("apply_update", "update_apply", "bidirectional")
WEIGHT_NORMS = ("post", "pre", "none")
INNER_LOSSES = ("dot_product", "mse")
NORM_EPS = 1e-5


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
        count = zeros(rows, dtype=torch.long)
        flag = torch.ones_like(count, dtype=torch.bool)
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
        norms = _row_norms(weights)
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


def fast_weight_apply(weights, x, dtype=None):
    """The fast network itself.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d].
    x : torch.Tensor
        Frames [N, L, d].
    dtype : torch.dtype, optional
        Type of the matrix products (default: that of `weights`).

    Returns
    -------
    torch.Tensor
        f_W(x) [N, L, d].

    Example
    -------
    >>> weights = torch.ones(1, 3, 2, 2)
    >>> fast_weight_apply(weights, torch.zeros(1, 5, 2)).abs().sum()
    tensor(0.)
    """
    gate, hidden = _in(weights, x, dtype)
    return _mm(F.silu(gate) * hidden, weights[:, 2], dtype)


def fast_weight_gradient(
    weights, k, v, lr, inner_loss="dot_product", dtype=None
):
    """Downhill direction of the inner loss of one chunk.

    The loss is `-sum_t lr_t <f_W(k_t), v_t>` for `dot_product` and
    `sum_t lr_t |f_W(k_t) - v_t|^2 / 2` for `mse`, with a learning rate for
    each of the three matrices.

    Arguments
    ---------
    weights : torch.Tensor
        W0, W2, W1' [N, 3, h, d].
    k, v : torch.Tensor
        Keys and values [N, L, d].
    lr : torch.Tensor
        Learning rates of W0, W1, W2 [N, L, 3]; 0 for padding.
    inner_loss : str
        `dot_product` or `mse`.
    dtype : torch.dtype, optional
        Type of the matrix products.

    Returns
    -------
    torch.Tensor
        [N, 3, h, d], to be added to the weights.
    """
    if inner_loss == "mse":
        v = v - fast_weight_apply(weights, k, dtype)
    return _Gradient.apply(weights, k, v, lr, dtype)


class _Gradient(torch.autograd.Function):
    """`fast_weight_gradient` of the dot product, with its own backward pass:
    a training step spends much of its time here, and autograd would take
    twice the passes over the frames.

    With a = W0 k, b = W2 k, r = W1' v and s = silu(a), the three matrices get
    sum lr0 (r b s'(a)) k', sum lr2 (r s) k' and sum lr1 v (s b)'.
    """

    @staticmethod
    def forward(ctx, weights, k, v, lr, dtype):
        """The gradient [N, 3, h, d]."""
        lr0, lr1, lr2 = lr.split(1, dim=-1)
        both = _mm(k, weights[:, :2].flatten(1, 2).transpose(1, 2), dtype)
        a, b = both.chunk(2, -1)
        sigma = torch.sigmoid(a)
        r = _mm(v, weights[:, 2].transpose(1, 2), dtype)
        s = a * sigma
        slope = torch.addcmul(sigma, s, 1 - sigma)
        into = torch.empty_like(both)
        torch.mul(r * b * slope, lr0, out=into[..., : a.shape[-1]])
        torch.mul(r * s, lr2, out=into[..., a.shape[-1] :])
        out = torch.empty_like(weights)
        d_in = _mm(into.transpose(1, 2), k, dtype)
        out[:, :2] = d_in.view_as(out[:, :2])
        out[:, 2] = _mm((s * b * lr1).transpose(1, 2), v, dtype)
        ctx.save_for_backward(weights, k, v, lr, both, sigma, r)
        ctx.dtype = dtype
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        """Gradients of weights, keys, values and rates."""
        weights, k, v, lr, both, sigma, r = ctx.saved_tensors
        dtype, width = ctx.dtype, sigma.shape[-1]
        lr0, lr1, lr2 = lr.split(1, dim=-1)
        a, b = both.chunk(2, -1)
        s, rest = a * sigma, 1 - sigma
        slope = torch.addcmul(sigma, s, rest)
        curve = sigma * rest * (2 + a - 2 * s)
        flat = grad[:, :2].flatten(1, 2)
        # What the three factors beside k, k and v get.
        x0, x2 = _mm(k, flat.transpose(1, 2), dtype).chunk(2, -1)
        x1 = _mm(v, grad[:, 2].transpose(1, 2), dtype)
        rb, rs, sb = r * b, r * s, s * b
        d_lr = torch.stack(
            [
                (rb * slope * x0).sum(-1),
                (sb * x1).sum(-1),
                (rs * x2).sum(-1),
            ],
            -1,
        )
        x0, x1, x2 = x0 * lr0, x1 * lr1, x2 * lr2
        sx0 = slope * x0
        # Beside k stand the two factors of the forward pass, da and db;
        # beside v the third factor, and dr.
        by_k = both.new_empty(*both.shape[:2], 4, width)
        torch.mul(rb * slope, lr0, out=by_k[:, :, 0])
        torch.mul(rs, lr2, out=by_k[:, :, 1])
        d_a = torch.mul(rb * curve, x0, out=by_k[:, :, 2])
        d_a.addcmul_(slope, r * x2 + b * x1)
        torch.mul(r, sx0, out=by_k[:, :, 3]).addcmul_(s, x1)
        by_v = both.new_empty(*both.shape[:2], 2, width)
        torch.mul(sb, lr1, out=by_v[:, :, 0])
        torch.mul(b, sx0, out=by_v[:, :, 1]).addcmul_(s, x2)
        by_k, by_v = by_k.flatten(2), by_v.flatten(2)
        d_weights = torch.empty_like(weights)
        d_in = _mm(by_k[..., 2 * width :].transpose(1, 2), k, dtype)
        d_weights[:, :2] = d_in.view_as(d_weights[:, :2])
        d_weights[:, 2] = _mm(by_v[..., width:].transpose(1, 2), v, dtype)
        d_k = _mm(
            by_k, torch.cat([flat, weights[:, :2].flatten(1, 2)], 1), dtype
        )
        d_v = _mm(by_v, torch.cat([grad[:, 2], weights[:, 2]], 1), dtype)
        return d_weights, d_k, d_v, d_lr, None


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
        `dot_product` or `mse`.
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
    )
    _check_inputs(
        (w0, w1, w2), (q, k, v), (lr0, lr1, lr2, momentum), mask, ends, state
    )
    core = torch.promote_types(w0.dtype, torch.float32)
    device = q.device.type
    dtype = (
        torch.get_autocast_dtype(device)
        if torch.is_autocast_enabled(device) and core == torch.float32
        else core
    )
    rows, length, width = q.shape
    if momentum is None:
        momentum = torch.zeros_like(lr0)
    gates = torch.cat([lr0, lr1, lr2, momentum], -1)
    frames = [x.to(core) for x in (q, k, v, gates)]
    lengths = torch.full((rows,), length, device=q.device)
    places = None
    if mask is not None:
        lengths = mask.sum(1)
        frames = [zero_padding(x, mask) for x in frames]
        if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
            places = torch.argsort(~mask, dim=1, stable=True)
            frames = [_take(x, places) for x in frames]
            ends = None if ends is None else ends.gather(1, places)
    start = torch.stack([w0, w2, w1.transpose(1, 2)], 1).to(core)
    if state is None:
        state = FastWeightState.start(
            rows, *w0.shape[1:], optimizer=optimizer, order=order, like=start
        )
    learner = _Learner(
        optimizer=optimizer,
        weight_norm=weight_norm,
        inner_loss=inner_loss,
        base_lr=base_lr,
        step_scale=step_scale,
        max_step_norm=max_step_norm,
        nhead=nhead,
        checkpoint=checkpoint,
        chunk_size=chunk_size,
        dtype=dtype,
    )
    if ends is not None:
        ends = chunk_ends(ends, lengths, state.pending, least_chunk, chunk_size)
    with torch.autocast(device, enabled=False):
        out, state = _scan(
            learner, _begin(state, start), frames, lengths, order, final, ends
        )
    if places is not None:
        if out.shape[1] != length:
            raise ValueError(
                "frames answered late need padding after the last real frame"
            )
        out = _take(out, torch.argsort(places, 1))
    return out.to(torch.promote_types(q.dtype, dtype)), state


def chunk_ends(may_end, lengths, pending, least, greatest):
    """Where chunks end: at the first place allowed that makes the chunk long
    enough, or when it is full.

    The rule looks back only, and no further than the beginning of the chunk:
    sequences in pieces have the same ends, if the length of the unfinished
    chunk is carried.

    Arguments
    ---------
    may_end : torch.Tensor
        [N, L], True where a chunk may end after the frame.
    lengths : torch.Tensor
        Number of real frames [N].
    pending : torch.Tensor
        Frames of the unfinished chunk that came before [N].
    least, greatest : int
        Lengths of a chunk.

    Returns
    -------
    torch.Tensor
        Frames until the end of each chunk, pending ones counted too [N, J].
        Rows with fewer chunks repeat their last end (0 without one).

    Example
    -------
    >>> may_end = torch.tensor([[1, 0, 1, 1, 0, 0, 0, 0, 1]]).bool()
    >>> chunk_ends(may_end, torch.tensor([9]), torch.tensor([0]), 2, 4)
    tensor([[3, 7, 9]])
    >>> chunk_ends(may_end, torch.tensor([9]), torch.tensor([3]), 2, 4)
    tensor([[ 4,  6, 10, 12]])
    """
    time = may_end.shape[1]
    places = torch.arange(1, time + 1, device=may_end.device)
    never = time + greatest
    # For each frame, the first end allowed from there on.
    following = torch.where(may_end, places, never)
    following = following.flip(1).cummin(1).values.flip(1)
    following = F.pad(following, (0, 1), value=never)
    found, stop = [], -pending
    while True:
        first = (stop + least - 1).clamp(0, time)[:, None]
        allowed = following.gather(1, first)[:, 0]
        end = torch.minimum(allowed, stop + greatest)
        end = torch.where(end > lengths, stop, end)
        if not bool((end > stop).any()):
            break
        found.append(end)
        stop = end
    if not found:
        return lengths.new_zeros(len(lengths), 0)
    return torch.stack(found, 1) + pending[:, None]


class _Learner:
    """One update of the fast weights, and one reading."""

    def __init__(self, **options):
        self.__dict__.update(options)

    def used(self, state):
        """The weights that are read: `pre` norm scales them."""
        if self.weight_norm != "pre":
            return state.weights
        scaled = _scale_rows(state.weights, state.targets)
        # Norms do not round initial weights, given or the state's own.
        return _where(state.steps == 0, state.weights, scaled)

    def read(self, weights, queries):
        """What the fast network answers."""
        if self.checkpoint:
            return recompute(
                fast_weight_apply,
                weights,
                queries,
                self.dtype,
                use_reentrant=False,
            )
        return fast_weight_apply(weights, queries, self.dtype)

    def learn(self, state, keys, values, gates, counts):
        """The state after one chunk.

        Arguments
        ---------
        state : FastWeightState
        keys, values, gates : torch.Tensor
            Frames of the chunk, zeros where `counts` ends.
        counts : torch.Tensor
            Number of real frames [N]; rows with none stay as they are.

        Returns
        -------
        FastWeightState
        """
        learned = (counts > 0) & state.learning
        if not bool(learned.any()):
            return state
        proposal = self.propose(state, keys, values, gates, counts)
        good = self.finite(proposal)
        bad = learned & ~good
        if bool(bad.any()):
            # Select before computing: a NaN behind torch.where would still
            # reach the gradients.
            frames = [
                x.masked_fill(bad[:, None, None], 0)
                for x in (keys, values, gates)
            ]
            proposal = self.propose(state, *frames, counts)
            logger.warning(
                "%d of %d fast-weight updates were not finite and left out",
                int(bad.sum()),
                int(learned.sum()),
            )
            state = dataclasses.replace(state, skipped=state.skipped + bad)
            learned = learned & ~bad
        if not bool(learned.all()):
            before = (state.weights, state.moment, state.square)
            proposal = [
                old if new is None else _where(learned, new, old)
                for new, old in zip(proposal, before)
            ]
        weights, moment, square = proposal
        return dataclasses.replace(
            state,
            weights=weights,
            moment=moment,
            square=square,
            fresh=state.fresh & ~learned,
            steps=state.steps + learned,
        )

    def propose(self, *args):
        """As `update`, recomputed in the backward pass if asked for."""
        if self.checkpoint:
            return recompute(self.update, *args, use_reentrant=False)
        return self.update(*args)

    def finite(self, tensors):
        """Whether all heads of a batch item are finite [N]."""
        # One pass: a sum with NaN or infinity in it is not finite.
        sums = [x.detach().sum((1, 2, 3)) for x in tensors if x is not None]
        good = torch.stack(sums).isfinite().all(0)
        good = good.view(-1, self.nhead).all(1)
        return good.repeat_interleave(self.nhead)

    def update(self, state, keys, values, gates, counts):
        """New weights and moments of one chunk."""
        gradient = fast_weight_gradient(
            self.used(state),
            keys,
            values,
            gates[..., :3],
            self.inner_loss,
            self.dtype,
        )
        square = None
        # Not counts / size: integers divide in the default type.
        share = counts.to(gradient.dtype) / self.chunk_size
        if self.optimizer == "adam":
            step, moment, square = adam(
                gradient,
                state.moment,
                state.square,
                state.steps + 1,
                self.base_lr,
            )
        else:
            decay = gates[..., 3].sum(1) / counts.clamp(min=1)
            moment = gradient + decay.view(-1, 1, 1, 1) * state.moment
            step = moment
            if self.optimizer == "muon":
                step = polar(moment, self.dtype)
        if self.optimizer != "sgd":
            step = step * share.view(-1, 1, 1, 1)
        if self.step_scale is not None:
            step = step * self.step_scale.view(-1, 1, 1, 1)
        if self.max_step_norm is not None:
            step = clip_norm(step, self.max_step_norm)
        weights = state.weights + step
        if self.weight_norm == "post":
            weights = _scale_rows(weights, state.targets)
        return weights, moment, square


def _begin(state, start):
    """Fresh rows take the initial weights and their row norms."""
    # In training weights that no row takes have a gradient of zeros: their
    # optimizer and processes that train together count on one in every step.
    if not (start.requires_grad or bool(state.fresh.any())):
        return state
    norms, copies = _row_norms(start), len(state.fresh) // len(start)
    if copies > 1:
        start, norms = start.repeat(copies, 1, 1, 1), norms.repeat(copies, 1)
    return dataclasses.replace(
        state,
        weights=_where(state.fresh, start, state.weights),
        targets=_where(state.fresh, norms, state.targets),
    )


def _scan(learner, state, frames, lengths, order, final, stops=None):
    """The scan over chunks, after types, padding and initial weights."""
    queries, *learned = frames
    size, before, length = learner.chunk_size, state.pending, queries.shape[1]
    waited = state.keys.shape[1]
    if order == "bidirectional" and (waited or not final):
        raise ValueError(
            "bidirectional order takes whole sequences: set final=True"
        )
    buffers = (state.keys, state.values, state.gates)
    learned = [splice(b, before, x) for b, x in zip(buffers, learned)]
    if order == "update_apply":
        queries = splice(state.queries, before, queries)
        before = torch.zeros_like(before)
    total = state.pending + lengths
    if stops is None or not len(total):
        ends = total if final else total // size * size
        out, state = _scan_equal(
            learner, state, queries, learned, before, ends, order
        )
    else:
        # The last chunk is the unfinished one.
        stops = F.pad(stops, (1, 0))
        ends = total if final else stops[:, -1]
        stops = torch.cat([stops[:, 1:], total[:, None]], 1)
        out, state = _scan_ragged(
            learner, state, queries, learned, before, ends, order, stops
        )

    answered = ends if order == "update_apply" else lengths
    width = int(answered.max()) if len(answered) else 0
    if order != "update_apply" or (final and not waited):
        width = length
    out = _cut(out, 0, width)
    if out.shape[1] < width:
        out = F.pad(out, (0, 0, 0, width - out.shape[1]))
    out = zero_padding(out, padding_mask(answered, width))
    rest = total - ends
    wide = int(rest.max()) if len(rest) else 0

    def stay(x):
        """Frames of the unfinished chunk."""
        if wide == 0:
            return x[:, :0]
        return zero_padding(slide(x, ends, wide), padding_mask(rest, wide))

    keys, values, gates = map(stay, learned)
    waiting = stay(queries) if order == "update_apply" else None
    return out, dataclasses.replace(
        state,
        keys=keys,
        values=values,
        gates=gates,
        queries=waiting,
        pending=rest,
        lengths=answered,
    )


def _scan_equal(learner, state, queries, learned, before, ends, order):
    """Chunks of one length: those of all rows stand in the same columns.

    `queries` lack the first `before` frames of `learned`, and frames beyond
    `ends` are not learned.
    """
    size, length = learner.chunk_size, queries.shape[1]
    # Queries stand where their frame stands in its chunk.
    together = bool((before == before[:1]).all())
    offset = int(before[0]) if together and len(before) else 0
    aligned = queries
    if not together:
        aligned = slide(queries, -before, learned[0].shape[1])

    def learn(state, first):
        """The state after the chunk that begins at `first`."""
        # Beyond the end of a row stand zeros, or its chunk is not learned.
        chunk = [_cut(x, first, first + size) for x in learned]
        return learner.learn(state, *chunk, (ends - first).clamp(0, size))

    def read(state, first):
        """Answers to the chunk that begins at `first`."""
        begin, end = (max(first + x - offset, 0) for x in (0, size))
        return learner.read(learner.used(state), _cut(aligned, begin, end))

    pieces, stop = [], int(ends.max()) if len(ends) else 0
    if order == "bidirectional":
        for first in range(0, stop, size):
            state = learn(state, first)
        pieces.append(learner.read(learner.used(state), aligned))
    elif order == "update_apply":
        for first in range(0, stop, size):
            state = learn(state, first)
            pieces.append(read(state, first))
    else:
        for first in range(0, offset + aligned.shape[1], size):
            pieces.append(read(state, first))
            if first < stop:
                state = learn(state, first)
    if len(pieces) == 1:
        out = pieces[0]
    else:
        out = torch.cat(pieces, 1) if pieces else queries[:, :0]
    return out if together else slide(out, before, length), state


def _scan_ragged(learner, state, queries, learned, before, ends, order, stops):
    """As `_scan_equal`, for chunks that end at `stops` [N, J]; the last of
    them is the end of each row."""
    begins = F.pad(stops[:, :-1], (1, 0))
    known = torch.minimum(stops, ends[:, None])
    places, spans = _spread(begins, known)
    learned = [_gather(x, places) for x in learned]
    heard = known if order == "update_apply" else stops
    reads, answers = _spread(
        *((x - before[:, None]).clamp(min=0) for x in (begins, heard))
    )
    aligned, pieces = _gather(queries, reads), []
    counts = (known - begins).unbind(1)
    for span, answer, count in zip(spans, answers, counts):
        if order == "apply_update":
            pieces.append(learner.read(learner.used(state), aligned[:, answer]))
        if span.start < span.stop:
            state = learner.learn(state, *(x[:, span] for x in learned), count)
        if order == "update_apply":
            pieces.append(learner.read(learner.used(state), aligned[:, answer]))
    if order == "bidirectional":
        return learner.read(learner.used(state), queries), state
    # Back to the order of time; what fills up goes to a column of its own.
    out = torch.cat(pieces, 1)
    length = queries.shape[1]
    places = torch.where(reads < 0, length, reads)[..., None].expand_as(out)
    back = out.new_zeros(len(out), length + 1, out.shape[2])
    return back.scatter(1, places, out)[:, :length], state


def _spread(begins, stops):
    """Columns for spans of different lengths.

    Arguments
    ---------
    begins, stops : torch.Tensor
        Frames of span j of each row [N, J].

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
    within = torch.arange(len(span), device=span.device) - (last - widths)[span]
    places = torch.where(within < counts[:, span], begins[:, span] + within, -1)
    edges = [0, *last.tolist()]
    return places, [slice(a, b) for a, b in zip(edges, edges[1:])]


def _gather(x, places):
    """Frames at the places given, zeros at -1."""
    if places.shape[1] == 0:
        return x[:, :0]
    return zero_padding(_take(x, places.clamp(min=0)), places >= 0)


def _cut(x, begin, end):
    """Frames from one place to another; all of them cost nothing, whereas a
    slice costs a copy in the backward pass."""
    return x if begin <= 0 and end >= x.shape[1] else x[:, begin:end]


def _in(weights, x, dtype):
    """W0 x and W2 x in one product."""
    both = weights[:, :2].flatten(1, 2).transpose(1, 2)
    return _mm(x, both, dtype).chunk(2, -1)


def _mm(a, b, dtype):
    """Batched product in `dtype`, result in the type of `a`."""
    if dtype is None or dtype == a.dtype:
        return torch.bmm(a, b)
    return torch.bmm(a.to(dtype), b.to(dtype)).to(a.dtype)


def _row_norms(weights):
    """Norms of the rows of W0, W2 and W1 [N, 2h + d]."""
    rows = torch.linalg.vector_norm(weights[:, :2], dim=-1).flatten(1)
    return torch.cat([rows, torch.linalg.vector_norm(weights[:, 2], dim=-2)], 1)


def _scale_rows(weights, targets):
    """Rows of W0, W2 and W1 scaled to the target norms."""
    scale = targets / (_row_norms(weights) + NORM_EPS)
    hidden, width = weights.shape[2:]
    rows = scale[:, : 2 * hidden].view(-1, 2, hidden, 1)
    columns = scale[:, 2 * hidden :].view(-1, 1, 1, width)
    return torch.cat([weights[:, :2] * rows, weights[:, 2:] * columns], 1)


def _where(rows, new, old):
    """Row by row one or the other."""
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)


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
):
    """Refuses what no scan can do."""
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
