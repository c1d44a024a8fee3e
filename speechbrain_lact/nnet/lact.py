"""LaCT: window attention for what is near, fast weights for all before it.

Source: Test-Time Training Done Right, https://arxiv.org/abs/2505.23884

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import math
import numbers
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain_lact.nnet.backend import choose
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import remember
from speechbrain_lact.nnet.fast_optim import LEARN, UpdateRule
from speechbrain_lact.nnet.fast_weight import (
    FastWeightState,
    check_options,
    scan_chunks,
)
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.lact_step import is_step, step
from speechbrain_lact.nnet.mixer import Mixer, MixerState
from speechbrain_lact.nnet.plan import chunk_ends, repeat
from speechbrain_lact.nnet.state import Waiting, core_type, counter, nested
from speechbrain_lact.nnet.window_attention import (
    Window,
    WindowState,
    window_attention,
)


@dataclass
class LaCTState(MixerState):
    """What a `LaCT` layer carries from one call to the next."""

    fast: FastWeightState = nested(FastWeightState)
    """The memory; each tensor is [batch, heads, ...]."""
    window: WindowState = nested(WindowState)
    """Keys and values that the window still sees."""
    waiting: Waiting = nested(Waiting)
    """Inputs that cannot be answered yet."""
    lengths: torch.Tensor = counter()
    """Number of output frames of the call that made this state [batch]."""

    def learn(self, rows, values=None):
        """As `MixerState.learn`: the flag of every head."""
        if self.fast is None:
            return self
        flags = rows[:, None].expand_as(self.fast.learning)
        if values is not None:
            # A tensor of its own, of which more is known.
            flags = remember(flags.clone(), repeat(values, flags.shape[1]))
        return replace(self, fast=replace(self.fast, learning=flags))

    @property
    def learning(self):
        """As `MixerState.learning`."""
        return self.fast and self.fast.learning.all(1)

    @property
    def updates(self):
        """As `MixerState.updates`."""
        return self.fast and self.fast.steps[:, 0]

    @property
    def skipped(self):
        """As `MixerState.skipped`."""
        return self.fast and self.fast.skipped[:, 0]


def remembering_layers(fast, count):
    """Which layers of a stack have fast weights.

    Arguments
    ---------
    fast : bool or list of int
        All, none, or their numbers from 0.
    count : int
        Number of layers.

    Returns
    -------
    list of int

    Raises
    ------
    ValueError
        For anything else.

    Example
    -------
    >>> remembering_layers(True, 2), remembering_layers([1], 2)
    ([0, 1], [1])
    """
    if isinstance(fast, bool):
        return list(range(count)) if fast else []
    if isinstance(fast, list) and all(n in range(count) for n in fast):
        return fast
    raise ValueError(
        f"lact_fast: True, False or numbers of layers below {count}, not {fast}"
    )


def like_host(attention_type, d_model):
    """Options with which the window attention of `LaCT` gives the scores of
    one of SpeechBrain's attention layers.

    Arguments
    ---------
    attention_type : str
        `RoPEMHA` or `regularMHA`, as SpeechBrain's TransformerASR names it.
    d_model : int
        Width of the layer.

    Returns
    -------
    dict
        Arguments of `LaCT`.

    Raises
    ------
    ValueError
        For attention that window attention cannot reproduce.

    Example
    -------
    >>> like_host("regularMHA", 16)
    {'bias': True, 'rotary': False}
    """
    hosts = {
        "RoPEMHA": {"scale": d_model**-0.5},
        "regularMHA": {"bias": True, "rotary": False},
    }
    if attention_type == "RelPosMHAXL":
        raise ValueError(
            "RelPosMHAXL cannot become LaCT: its scores contain position terms "
            "from a learned projection (linear_pos) and learned biases "
            "(pos_bias_u, pos_bias_v), which window attention with rotary "
            "positions cannot reproduce; train the encoder with RoPEMHA and "
            "retrofit that, or train with attention_type: LaCT from scratch"
        )
    if attention_type not in hosts:
        raise ValueError(
            f"attention_type must be one of {', '.join(hosts)} to become "
            f"LaCT, not {attention_type}"
        )
    return hosts[attention_type]


def _two(name, value):
    """Two numbers of an option."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value
    raise ValueError(f"{name}: two numbers, not {value!r}")


class LaCT(Mixer):
    """Large-chunk test-time training layer, a drop-in for SpeechBrain's
    self-attention layers.

    One projection gives queries, keys and values to both memories. Their
    outputs are added before the output projection; with the fast-weight gate
    at zero the layer is exactly its window attention.

    Arguments
    ---------
    d_model : int
        Width of the layer.
    nhead : int
        Heads of the window attention.
    dropout : float
        Dropout of the attention weights.
    chunk_size : int
        Frames per update of the fast weights.
    least_chunk : int, optional
        Given, every call says where chunks may end (`ends`); a chunk then has
        at least so many frames and at most `chunk_size`.
    order : str
        `apply_update` (causal), `update_apply` (a chunk sees itself) or
        `bidirectional` (all is learned, then all is read).
    window : tuple or int, optional
        Frames seen to the left and right; one number for both, `math.inf` for
        as far as the sequence goes. Default: the
        chunk to the left and, unless causal, 64 to the right in
        `apply_update` order; (64, 64) in the others.
    block_window : tuple, optional
        Frames of a block, and number of blocks seen to the left, in place of
        `window`.
    causal : bool
        Whether no output may depend on later input.
    fast_heads : int
        Number of fast networks; each has width `d_model / fast_heads`.
    expansion : float
        Hidden width of the fast network over its width.
    optimizer : str
        `sgd`, `adam` or `muon`.
    momentum : bool, optional
        Whether updates have momentum (default: unless `adam`).
    weight_norm, inner_loss, max_step_norm, checkpoint, backend, learn
        As in `fast_weight_scan`.
    base_lr : float
        Learning rate of a frame at the start of training; with 0 nothing is
        learned from the audio.
    step_scale : float
        Factor of the steps at the start of training; at 1, a step of `muon`
        is about as large as the weights themselves.
    silu_values : bool
        Whether values pass SiLU, as queries and keys do.
    fast : bool
        Whether there are fast weights at all (False: window attention alone).
    bias : bool
        Whether queries, keys and values have a bias.
    rotary : bool
        Whether the window attention has rotary positions; without, positions
        are for the input to tell.
    scale : float, optional
        Factor of the window attention's scores (default: 1 / sqrt(width of a
        head)).

    Raises
    ------
    ValueError
        For sizes that do not divide, unknown names, an order that contradicts
        `causal`, or a window shorter than the chunk in `apply_update` order:
        a frame that left the window would be in no memory until its chunk is
        learned.

    Example
    -------
    >>> layer = LaCT(d_model=16, nhead=2, chunk_size=8, fast_heads=2)
    >>> x = torch.randn(2, 20, 16)
    >>> out, _ = layer(x, x, x)
    >>> out.shape
    torch.Size([2, 20, 16])
    >>> out, _, state = layer(x, x, x, state=layer.initial_state(2))
    >>> state.fast.steps[:, 0]
    tensor([3, 3])
    """

    state_class = LaCTState

    def __init__(
        self,
        d_model,
        nhead,
        dropout=0.0,
        chunk_size=512,
        order="update_apply",
        window=None,
        block_window=None,
        causal=False,
        fast_heads=4,
        expansion=1.0,
        optimizer="muon",
        momentum=None,
        weight_norm="post",
        inner_loss="dot_product",
        base_lr=1e-2,
        step_scale=1.0,
        max_step_norm=None,
        silu_values=True,
        checkpoint=False,
        fast=True,
        bias=False,
        rotary=True,
        scale=None,
        least_chunk=None,
        backend="auto",
        learn=LEARN[0],
    ):
        super().__init__(d_model, nhead, dropout, causal)
        check_number(d_model, "d_model", least=1, integer=True)
        for name, heads in (("nhead", nhead), ("fast_heads", fast_heads)):
            check_number(heads, name, least=1, integer=True)
            if d_model % heads or d_model // heads % 2:
                raise ValueError(
                    f"{name}={heads} must divide d_model={d_model} into even "
                    f"widths"
                )
        if causal and order != "apply_update":
            raise ValueError(
                f"causal=True needs order apply_update, not {order}"
            )
        if momentum is None:
            momentum = optimizer != "adam"
        check_options(
            order,
            optimizer,
            weight_norm,
            inner_loss,
            chunk_size,
            momentum,
            1 if least_chunk is None else least_chunk,
            base_lr,
            max_step_norm,
            backend,
            learn,
        )
        check_number(step_scale, "step_scale", positive=True)
        check_number(expansion, "expansion", positive=True)
        check_number(dropout, "dropout", least=0, most=1)
        if scale is not None:
            check_number(scale, "scale", positive=True)
        self.order = order
        self.chunk_size, self.fast_heads = chunk_size, fast_heads
        self.least_chunk = least_chunk
        self.window = self._make_window(window, block_window)
        self.scale = (d_model // nhead) ** -0.5 if scale is None else scale
        self.rotary = rotary
        self.base_lr, self.silu_values, self.fast = base_lr, silu_values, fast
        self.rule = UpdateRule(
            optimizer=optimizer,
            weight_norm=weight_norm,
            inner_loss=inner_loss,
            base_lr=base_lr,
            max_step_norm=max_step_norm,
            nhead=fast_heads,
            checkpoint=checkpoint,
            chunk_size=chunk_size,
            backend=backend,
            learn=tuple(learn),
        )
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d_model, d_model))
        self.in_proj_bias = None
        if bias:
            self.in_proj_bias = nn.Parameter(torch.empty(3 * d_model))
        self.out_proj = nn.Linear(d_model, d_model)
        if fast:
            self._make_fast(d_model // fast_heads, expansion, momentum)
        self.first_step_scale = step_scale
        self.reset_parameters()

    @classmethod
    def of_layer(cls, options, number, count):
        """As `Mixer.of_layer`: `fast` may also be the numbers of the layers
        that have fast weights, from 0."""
        fast = remembering_layers(options.get("fast", True), count)
        return {**options, "fast": number in fast}

    def _make_window(self, window, block_window):
        if window is not None and block_window is not None:
            raise ValueError("give window or block_window, not both")
        if block_window is not None:
            block, left = _two("block_window", block_window)
            window = Window(left=left, block=block)
        elif window is None:
            near = self.order == "apply_update"
            window = Window(
                left=self.chunk_size if near else 64,
                right=0 if self.causal else 64,
            )
        else:
            if isinstance(window, numbers.Number):
                window = window, window
            left, right = _two("window", window)
            window = Window(left=left, right=right)
        return self.check_window(window)

    def check_window(self, window):
        """As `Mixer.check_window`."""
        if self.order == "apply_update" and (
            window.frames_left < self.chunk_size
        ):
            raise ValueError(
                f"a window of {window.frames_left} frames to the left is "
                f"shorter than the chunk of {self.chunk_size}: in apply_update "
                f"order frames would be in neither memory; use a window of at "
                f"least the chunk, or a smaller chunk"
            )
        if self.causal and (window.right or window.block):
            raise ValueError("causal=True needs a window without a right side")
        return window

    def _make_fast(self, width, expansion, momentum):
        heads, hidden = self.fast_heads, round(width * expansion)
        if hidden < 1:
            raise ValueError(f"expansion={expansion} leaves no hidden width")
        self.w0 = nn.Parameter(torch.empty(heads, hidden, width))
        self.w1 = nn.Parameter(torch.empty(heads, width, hidden))
        self.w2 = nn.Parameter(torch.empty(heads, hidden, width))
        self.step_scale = nn.Parameter(torch.empty(heads))
        self.qk_scale = nn.Parameter(torch.empty(2, self.d_model))
        self.qk_offset = nn.Parameter(torch.empty(2, self.d_model))
        self.lr_proj = nn.Linear(self.d_model, 3 * heads)
        self.gate_proj = nn.Linear(self.d_model, heads)
        self.momentum_proj = None
        if momentum:
            self.momentum_proj = nn.Linear(self.d_model, heads)
        self.fast_norm = nn.Parameter(torch.empty(width))

    def reset_parameters(self):
        """Draws the initial weights."""
        nn.init.xavier_uniform_(self.in_proj_weight)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
        self.out_proj.reset_parameters()
        if not self.fast:
            return
        for weight in (self.w0, self.w1, self.w2):
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
        nn.init.constant_(self.step_scale, self.first_step_scale)
        for ones in (self.qk_scale, self.fast_norm):
            nn.init.ones_(ones)
        nn.init.zeros_(self.qk_offset)
        for linear in (self.lr_proj, self.gate_proj, self.momentum_proj):
            if linear is not None:
                linear.reset_parameters()

    def configuration(self):
        """What, beside the weights, changes the answers of the layer.

        Returns
        -------
        dict
        """
        rule, sides = self.rule, self.window
        sides = sides.left, sides.right, sides.block
        # Named where it is not the default: older states have it not.
        part = {} if rule.learn == LEARN[0] else {"learn": list(rule.learn)}
        return {
            **part,
            "chunk_size": self.chunk_size,
            "order": self.order,
            "optimizer": rule.optimizer,
            "weight_norm": rule.weight_norm,
            "inner_loss": rule.inner_loss,
            "base_lr": rule.base_lr,
            "max_step_norm": rule.max_step_norm,
            "nhead": self.fast_heads,
            "least_chunk": self.least_chunk,
            "causal": self.causal,
            # Infinity has no place in JSON.
            "window": [str(x) if x == math.inf else x for x in sides],
            "window_heads": self.nhead,
            "silu_values": self.silu_values,
            "rotary": self.rotary,
            "scale": self.scale,
        }

    def group_of(self, window):
        """As `Mixer.group_of`; in `update_apply` order a chunk is answered
        together."""
        group = super().group_of(window)
        if self.order == "update_apply" and self.least_chunk is None:
            group = math.lcm(group, self.chunk_size)
        return group

    def check_streaming(self, size):
        """As `Mixer.check_streaming`."""
        super().check_streaming(size)
        if self.order == "update_apply" and size % self.chunk_size:
            raise ValueError(
                f"chunk_size={size}: in update_apply order frames are "
                f"answered when {self.chunk_size} are complete; stream in "
                f"multiples of lact_chunk_size, or use lact_order: "
                f"apply_update"
            )

    def check_ends(self, ends, x):
        """Refuses places where chunks may end that do not fit.

        Arguments
        ---------
        ends : torch.Tensor
            Boolean [B, T], True where a chunk may end after the frame; None
            for chunks of one length.
        x : torch.Tensor
            The input [B, T, E].

        Returns
        -------
        torch.Tensor
            `ends`, on the device of the input.

        Raises
        ------
        ValueError
            If `ends` and `least_chunk` are not given together, or for another
            shape or type.
        """
        if (ends is None) != (self.least_chunk is None):
            raise ValueError(
                "least_chunk is set: say where chunks may end, with ends=..."
                if ends is None
                else "ends: only with least_chunk (lact_least_chunk) set"
            )
        if ends is not None:
            check_tensor(ends, x.shape[:2], "ends", "booleans")
            ends = ends.to(x.device)
        return ends

    def push(self, waiting, x, lengths, ends, group, final, window=None):
        """Adds frames to those that wait and takes out what can be answered.

        Arguments
        ---------
        waiting : Waiting
            Frames [B, P, E]; with `ends`, [B, P, E + 1]: the last channel is
            1 where a chunk may end.
        x, lengths : torch.Tensor
            New frames and their number, as `Waiting.push`.
        ends : torch.Tensor
            As `check_ends`.
        group : int
            Frames that are answered together, but in `update_apply` order
            with `ends`: there it is chunk by chunk.
        final : bool
            Whether the sequence ends here.
        window : Window, optional
            A window for this call.

        Returns
        -------
        ready, lengths, waiting
            As `Waiting.push`.
        ends : torch.Tensor
            Of the frames to answer.
        """
        if ends is None:
            return *waiting.push(x, lengths, group, final), None

        def ready(stream, total):
            """Frames of the chunks that are complete."""
            stops = chunk_ends(
                self.at_blocks((stream[..., -1] > 0).cpu(), window),
                total,
                [0] * len(total),
                self.least_chunk,
                self.chunk_size,
            )
            return F.pad(stops, (1, 0))[:, -1].tolist()

        x = torch.cat([x, ends[..., None].to(x.dtype)], -1)
        late = self.order == "update_apply"
        x, lengths, waiting = waiting.push(
            x, lengths, group, final, ready if late else None
        )
        return x[..., :-1], lengths, waiting, x[..., -1] > 0

    def at_blocks(self, ends, window):
        """Where chunks can end, of the places where they may.

        In `update_apply` order frames are answered chunk by chunk, and with a
        block window block by block: an end within a block is one at the end of
        the block.

        Arguments
        ---------
        ends : torch.Tensor
            Boolean [B, T], or None.
        window : Window, optional
            A window for this call.

        Returns
        -------
        torch.Tensor
            As `ends`.
        """
        block = (window or self.window).block
        if ends is None or self.order != "update_apply" or block is None:
            return ends
        if self.chunk_size % block:
            raise ValueError(
                f"blocks of {block} frames do not fit into chunks of at most "
                f"{self.chunk_size}: in update_apply order use a multiple"
            )
        time = ends.shape[1]
        blocks = F.pad(ends, (0, -time % block)).unflatten(1, (-1, block))
        last = torch.arange(block, device=ends.device) == block - 1
        return (blocks.any(2, keepdim=True) & last).flatten(1)[:, :time]

    def initial_state(self, batch):
        """State of rows that have seen nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTState
        """
        like = self.in_proj_weight
        heads = like.new_zeros(batch, 0, self.nhead, self.d_model // self.nhead)
        fast = None
        if self.fast:
            fast = FastWeightState.start(
                batch * self.fast_heads,
                *self.w0.shape[1:],
                optimizer=self.rule.optimizer,
                order=self.order,
                like=self.w0.to(core_type(like.dtype)),
            ).map(self._by_row, _same)
        waiting = self.nothing_waits(batch)
        return LaCTState(
            fast, WindowState.empty(heads), waiting, waiting.counts
        )

    def nothing_waits(self, batch):
        """No input frames, as `push` takes them."""
        width = self.d_model + (self.least_chunk is not None)
        return Waiting.empty(self.in_proj_weight.new_zeros(batch, 0, width))

    def _by_row(self, tensor):
        return tensor.unflatten(0, (-1, self.fast_heads))

    def mix(self, x, plan, state, final, window):
        """As `Mixer.mix`. At the end of a sequence (`final`) its tail is
        learned and the window is emptied; only the memory goes on."""
        if state is not None and not final and window.right:
            raise ValueError(
                "a window with a right side takes whole sequences: use "
                "final=True, or a causal or block window"
            )
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        if not final and is_step(self, x, state, window, plan):
            return step(self, x, projected, state, window, plan)
        heads = projected.unflatten(-1, (3, self.nhead, -1)).unbind(2)
        out, near = window_attention(
            *heads,
            window,
            plan=plan,
            state=state and state.window,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
            rotary=self.rotary,
            final=final or state is None,
            keep=self.window,
        )
        out, memory = out.flatten(2), None
        if self.fast:
            read, memory = self._remember(x, projected, plan, state, final)
            out = out + read.to(out.dtype)
        return self.out_proj(out), LaCTState(memory, near)

    def _remember(self, x, projected, plan, state, final):
        """Reads and updates the fast weights; [B, T, E] in and out."""
        heads = self.fast_heads
        core = core_type(self.w0.dtype)

        q, k, v = self._qkv(projected, core)
        gates, gate = (
            y.transpose(1, 2).flatten(0, 1) for y in self.gates(x, core)
        )
        heads_plan = plan.per_head(heads)
        # Without a state nobody reads what the causal order learns last.
        learns_tail = final if state else self.order != "apply_update"
        out, memory = scan_chunks(
            torch.stack([self.w0, self.w2, self.w1.mT], 1).to(core),
            q,
            k,
            v,
            zero_padding(gates, heads_plan.mask),
            rule=self.rule,
            order=self.order,
            plan=heads_plan,
            least_chunk=self.least_chunk or 1,
            state=state and state.fast.map(lambda y: y.flatten(0, 1), _same),
            final=learns_tail,
            step_scale=self.step_scale.repeat(len(x)),
        )
        # RMS norm and gate are one factor of each frame.
        norm = torch.linalg.vector_norm(out.to(core), dim=-1, keepdim=True)
        size = (norm.square() / out.shape[-1] + 1e-5).rsqrt()
        size = size * gate
        out = self._by_row(out * size).transpose(1, 2) * self.fast_norm
        return out.flatten(2), memory.map(self._by_row, _same)

    def _qkv(self, projected, core):
        """Queries, keys and values of the fast weights [B * heads, T, d]."""
        heads = self.fast_heads
        kernels = choose(self.rule.backend, projected)
        if kernels is not None and kernels.prologue is not None:
            scale, offset = self.qk_scale.to(core), self.qk_offset.to(core)
            return kernels.prologue(
                projected, scale, offset, heads, self.silu_values
            )

        def by_head(parameter):
            """Channels of a parameter, to stand beside those of q and k."""
            return parameter.view(2, 1, heads, 1, -1)

        qkv = projected.to(core).unflatten(-1, (3, heads, -1))
        qkv = qkv.permute(2, 0, 3, 1, 4)
        qk, v = qkv.split([2, 1])
        qk = torch.addcmul(by_head(self.qk_offset), qk, by_head(self.qk_scale))
        qk = F.silu(qk).flatten(1, 2)
        q, k = qk / (torch.linalg.vector_norm(qk, dim=-1)[..., None] + 1e-5)
        v = v.flatten(0, 2)
        return q, k, F.silu(v) if self.silu_values else v

    def gates(self, x, core):
        """What is said of each frame beside its key and value.

        Arguments
        ---------
        x : torch.Tensor
            Frames [..., E].
        core : torch.dtype
            Type of the fast weights.

        Returns
        -------
        gates : torch.Tensor
            Of each head the learning rates of W0, W1, W2 and the decay of the
            momentum [..., heads, 4].
        gate : torch.Tensor
            Factor of the memory's answer [..., heads, 1].
        """
        heads = self.fast_heads
        layers = [self.lr_proj, self.gate_proj, self.momentum_proj]
        layers = [layer for layer in layers if layer is not None]
        # Three narrow products cost more than their sum.
        out = F.linear(
            x,
            torch.cat([layer.weight for layer in layers]),
            torch.cat([layer.bias for layer in layers]),
        ).to(core)
        rates, gate, *decay = out.split(
            [layer.out_features for layer in layers], -1
        )
        gate = gate.unsqueeze(-1)
        decay = [torch.sigmoid(x).unsqueeze(-1) for x in decay]
        if self.base_lr == 0:
            rates = torch.zeros_like(rates)
        else:
            start = math.log(math.expm1(self.base_lr))
            rates = F.softplus(rates + start)
        rates = rates.unflatten(-1, (heads, 3))
        decay = decay or [torch.zeros_like(gate)]
        return torch.cat([rates, *decay], -1), F.silu(gate)


def _same(known, _):
    """What the host knows of tensors that only change their shape."""
    return known


@contextlib.contextmanager
def frozen_memory(modules):
    """Memories that read but do not learn, meanwhile.

    Arguments
    ---------
    modules : iterable of torch.nn.Module
        Layers, or models with such layers.

    Yields
    ------
    None

    Example
    -------
    >>> layer = LaCT(8, 2, chunk_size=4)
    >>> with frozen_memory([layer]):
    ...     layer.base_lr
    0.0
    >>> layer.base_lr
    0.01
    """
    layers = {
        layer: layer.base_lr
        for module in modules
        for layer in module.modules()
        if isinstance(layer, LaCT)
    }
    try:
        for layer in layers:
            layer.base_lr = 0.0
        yield
    finally:
        for layer, rate in layers.items():
            layer.base_lr = rate
