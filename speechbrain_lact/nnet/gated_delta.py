"""The gated delta rule: a linear memory that forgets, and that replaces what it
holds under a key.

    S_t = alpha_t S_(t-1) (I - beta_t k_t k_t') + beta_t v_t k_t'
    o_t = S_t q_t

of each head, with keys and queries of length one, a decay
`alpha_t = exp(-exp(A) softplus(a_t + b))` and a strength
`beta_t = sigmoid(b_t)` of each frame. The output has an RMS norm and a gate.
The short convolutions that the paper puts before queries, keys and values are
left out: the Conformer has a convolution of its own.

Source of the formulas: Gated Delta Networks: Improving Mamba2 with Delta Rule,
https://arxiv.org/abs/2412.06464

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain_lact.nnet.checks import check_number
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.mixer import Mixer, MixerState
from speechbrain_lact.nnet.state import Waiting, core_type, counter, nested

NORM_EPS = 1e-6


@dataclass
class GatedDeltaState(MixerState):
    """What a `GatedDelta` layer carries from one call to the next."""

    memory: torch.Tensor = None
    """S [batch, heads, value width, key width]."""
    waiting: Waiting = nested(Waiting)
    """Inputs that cannot be answered yet."""
    lengths: torch.Tensor = counter()
    """Number of output frames of the call that made this state [batch]."""


def gated_delta_rule(q, k, v, log_decay, strength, memory, block=64):
    """Reads and writes the memory, frame after frame.

    Frames are taken in blocks. Within a block that starts from S, with the
    decays g_t = alpha_1 ... alpha_t and g_ti = g_t / g_i, a frame writes

        u_t = beta_t (v_t - g_t S k_t - sum_(i<t) g_ti <k_i, k_t> u_i)

    under its key, a triangular system, and reads

        o_t = g_t S q_t + sum_(i<=t) g_ti <k_i, q_t> u_i

    Arguments
    ---------
    q, k : torch.Tensor
        Queries and keys of length one [..., T, K].
    v : torch.Tensor
        Values [..., T, V].
    log_decay : torch.Tensor
        Logarithms of alpha [..., T]; 0 at padding.
    strength : torch.Tensor
        beta [..., T]; 0 at padding.
    memory : torch.Tensor
        S before the first frame [..., V, K].
    block : int
        Frames of a block; of no influence but for speed and rounding.

    Returns
    -------
    out : torch.Tensor
        [..., T, V]
    memory : torch.Tensor
        S after the last frame.

    Example
    -------
    >>> k, v = torch.eye(2), torch.tensor([[1.0], [2.0]])
    >>> out, memory = gated_delta_rule(
    ...     k, k, v, torch.zeros(2), torch.ones(2), torch.zeros(1, 2)
    ... )
    >>> out.flatten(), memory
    (tensor([1., 2.]), tensor([[1., 2.]]))
    """
    if q.shape[-2] == 0:
        return v, memory
    outs = []
    for part in zip(
        *(x.split(block, -2) for x in (q, k, v)),
        *(x.split(block, -1) for x in (log_decay, strength)),
    ):
        out, memory = _block(*part, memory)
        outs.append(out)
    return torch.cat(outs, -2), memory


def _block(q, k, v, log_decay, strength, memory):
    """As `gated_delta_rule`, of one block."""
    total, strength = log_decay.cumsum(-1), strength.unsqueeze(-1)
    time = torch.arange(k.shape[-2], device=k.device)
    between = total.unsqueeze(-1) - total.unsqueeze(-2)
    between = between.masked_fill(time > time[:, None], -math.inf).exp()
    past = total.exp().unsqueeze(-1)
    system = (k @ k.mT * between * strength).tril(-1)
    written = torch.linalg.solve_triangular(
        system,
        strength * (v - past * (k @ memory.mT)),
        upper=False,
        unitriangular=True,
    )
    out = past * (q @ memory.mT) + (q @ k.mT * between) @ written
    until_end = between[..., -1:, :].mT
    memory = past[..., -1:, :] * memory + written.mT @ (until_end * k)
    return out, memory


class GatedDelta(Mixer):
    """The gated delta rule in place of self-attention. It is causal, and
    answers each frame as it comes; the windows of dynamic chunks have nothing
    to hide from it.

    Arguments
    ---------
    d_model : int
        Width of the layer.
    nhead : int
        Number of heads, each with a memory.
    dropout : float
        Not used: there are no attention weights.
    causal : bool
        Whether the encoder is causal; this layer always is.
    expand_v : float
        Width of the values over that of the keys.

    Raises
    ------
    ValueError
        For sizes that do not divide.

    Example
    -------
    >>> layer = GatedDelta(d_model=16, nhead=2)
    >>> x = torch.randn(2, 20, 16)
    >>> whole, _ = layer(x, x, x)
    >>> state, outs = layer.initial_state(2), []
    >>> for part in x.split(5, 1):
    ...     out, _, state = layer(part, part, part, state=state, final=False)
    ...     outs.append(out)
    >>> torch.allclose(torch.cat(outs, 1), whole, atol=1e-5)
    True
    >>> state.memory.shape
    torch.Size([2, 2, 8, 8])
    """

    state_class = GatedDeltaState

    block = 64
    """Frames that are taken together; of no influence but for speed and
    rounding."""

    def __init__(self, d_model, nhead, dropout=0.0, causal=False, expand_v=1.0):
        super().__init__(d_model, nhead, dropout, causal)
        for name, value in (("d_model", d_model), ("nhead", nhead)):
            check_number(value, name, least=1, integer=True)
        if d_model % nhead:
            raise ValueError(f"nhead={nhead} must divide d_model={d_model}")
        check_number(expand_v, "expand_v", positive=True)
        self.key_width = d_model // nhead
        self.value_width = round(self.key_width * expand_v)
        if self.value_width < 1:
            raise ValueError(f"expand_v={expand_v} leaves no values")
        values = nhead * self.value_width
        # Queries, keys, values and the gate of the output.
        self.sizes = d_model, d_model, values, values
        self.in_proj = nn.Linear(d_model, sum(self.sizes), bias=False)
        # The decay and the strength of each head.
        self.rate_proj = nn.Linear(d_model, 2 * nhead, bias=False)
        self.log_decay = nn.Parameter(torch.empty(nhead))
        self.decay_bias = nn.Parameter(torch.empty(nhead))
        self.norm = nn.Parameter(torch.empty(self.value_width))
        self.out_proj = nn.Linear(values, d_model, bias=False)
        self.reset_parameters()

    def reset_parameters(self):
        """Draws the initial weights; decays as the paper's code does."""
        for linear in (self.in_proj, self.rate_proj, self.out_proj):
            nn.init.xavier_uniform_(linear.weight)
        nn.init.ones_(self.norm)
        with torch.no_grad():
            # A factor of 1 to 16, and times of 0.001 to 0.1.
            self.log_decay.uniform_(1, 16).log_()
            step = self.decay_bias.uniform_(
                math.log(1e-3), math.log(0.1)
            ).exp_()
            step.copy_(step.expm1().log())

    def configuration(self):
        """As `Mixer.configuration`."""
        return {"heads": self.nhead, "value_width": self.value_width}

    def initial_state(self, batch):
        """As `Mixer.initial_state`.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        GatedDeltaState
        """
        like = self.log_decay
        memory = like.new_zeros(
            (batch, self.nhead, self.value_width, self.key_width),
            dtype=core_type(like.dtype),
        )
        waiting = self.nothing_waits(batch)
        return GatedDeltaState(memory, waiting, waiting.counts)

    def mix(self, x, plan, state, final, window):
        """As `Mixer.mix`. The memory goes on after the end of a sequence
        (`final`)."""
        memory = (state or self.initial_state(len(x))).memory
        out, memory = self._remember(x, plan.mask, memory)
        return out, GatedDeltaState(memory)

    def _remember(self, x, mask, memory):
        """Reads and writes the memory; [B, T, E] in and out."""
        core = core_type(self.log_decay.dtype)

        def heads(y):
            """[B, T, H * D] to [B, H, T, D]."""
            return y.unflatten(-1, (self.nhead, -1)).transpose(1, 2)

        q, k, v, gate = self.in_proj(x).to(core).split(self.sizes, -1)
        q, k = (_unit(heads(F.silu(y))) for y in (q, k))
        v, gate = heads(F.silu(v)), heads(F.silu(gate))
        decay, strength = self.rate_proj(x).to(core).chunk(2, -1)
        decay = -self.log_decay.exp() * F.softplus(decay + self.decay_bias)
        strength = strength.sigmoid()
        # Padding neither forgets nor writes.
        decay, strength = (
            zero_padding(y, mask).transpose(1, 2) for y in (decay, strength)
        )
        with torch.autocast(x.device.type, enabled=False):
            out, memory = gated_delta_rule(
                q, k, v, decay, strength, memory, self.block
            )
            size = (out.square().mean(-1, keepdim=True) + NORM_EPS).rsqrt()
            out = out * size * self.norm * gate
        return self.out_proj(out.transpose(1, 2).flatten(2).to(x.dtype)), memory


def _unit(x):
    """Vectors of length one."""
    return x * (x.square().sum(-1, keepdim=True) + NORM_EPS).rsqrt()
