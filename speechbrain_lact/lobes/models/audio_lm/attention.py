"""Full attention with a cache that grows.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain_lact.lobes.models.audio_lm.state import KVState
from speechbrain_lact.nnet.counts import same_number
from speechbrain_lact.nnet.frames import (
    padding_mask,
    row_lengths,
    splice,
    zero_padding,
)


class CachedAttention(nn.Module):
    """Causal attention to everything before, with rotary positions and a
    cache of keys and values that grows.

    Arguments
    ---------
    d_model : int
        Width of the layer.
    nhead : int
        Number of heads.
    dropout : float
        Dropout of the attention weights.

    Example
    -------
    >>> layer, x = CachedAttention(16, 2), torch.randn(2, 5, 16)
    >>> whole, _, _ = layer(x, x, x, state=layer.initial_state(2))
    >>> state = layer.initial_state(2)
    >>> for frame in x.split(1, 1):
    ...     last, _, state = layer(frame, frame, frame, state=state)
    >>> torch.allclose(whole[:, -1:], last, atol=1e-6)
    True
    """

    def __init__(self, d_model, nhead, dropout=0.0):
        super().__init__()
        self.nhead, self.dropout = nhead, dropout
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def initial_state(self, batch):
        """State of rows that have seen nothing.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        KVState
        """
        like = self.out_proj.weight
        none = like.new_zeros(batch, 0, self.nhead, len(like) // self.nhead)
        counts = torch.zeros(batch, dtype=torch.long, device=like.device)
        return KVState(none, none, counts)

    def _turn(self, x, places):
        """Rotary positions of heads [B, T, H, D] at places [B, T]."""
        # Not a buffer: half() would round the angles.
        width = x.shape[3]
        steps = torch.arange(0, width, 2, device=x.device, dtype=torch.float32)
        rates = (10000 ** (-steps / width)).double()
        angles = (places[..., None] * rates)[:, :, None]
        turns = torch.polar(torch.ones_like(angles), angles)
        exact = torch.promote_types(x.dtype, torch.float32)
        pairs = torch.view_as_complex(x.to(exact).unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * turns.to(pairs.dtype))
        return turned.flatten(-2).to(x.dtype)

    def forward(
        self,
        query,
        key,
        value,
        key_padding_mask=None,
        state=None,
        final=False,
    ):
        """Self-attention, called as `LaCT` is.

        Arguments
        ---------
        query, key, value : torch.Tensor
            The same input [B, T, E].
        key_padding_mask : torch.Tensor, optional
            [B, T], True = padding, after the last real frame.
        state : KVState
            Where to go on.
        final : bool
            Not used: full attention has nothing to learn at the end.

        Returns
        -------
        out : torch.Tensor
            [B, T, E]
        attn : None
            As of `LaCT`.
        state : KVState
        """
        mask = None if key_padding_mask is None else ~key_padding_mask
        x, time = zero_padding(query, mask), query.shape[1]
        lengths, before = row_lengths(x, mask), state.counts
        heads = self.in_proj(x).unflatten(-1, (3, self.nhead, -1))
        q, k, v = heads.unbind(2)
        columns = torch.arange(time, device=x.device)
        places = before[:, None] + columns
        q, k = self._turn(q, places), self._turn(k, places)
        whole = mask is None and same_number(before) == state.keys.shape[1]
        if whole:
            keys = torch.cat([state.keys, k], 1)
            values = torch.cat([state.values, v], 1)
        else:
            keys = splice(state.keys, before, k)
            values = splice(state.values, before, v)
        counts = before + lengths
        allowed = None
        if not whole or time > 1:
            every = torch.arange(keys.shape[1], device=x.device)
            allowed = (every <= places[..., None])[:, None]
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        width = int(counts.max())
        there = padding_mask(counts, width)
        kept = (zero_padding(x[:, :width], there) for x in (keys, values))
        return zero_padding(out, mask), None, KVState(*kept, counts)
