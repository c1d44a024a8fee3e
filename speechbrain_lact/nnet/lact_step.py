"""One frame of every row: what a LaCT layer does while it generates.

No chunk ends with such a frame, so that nothing is learned, and all rows stand
at the same place: a third of the operations of `LaCT.forward`.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import replace

import torch
import torch.nn.functional as F

from speechbrain_lact.nnet.counts import remember, same_number
from speechbrain_lact.nnet.fast_network import fast_weight_apply
from speechbrain_lact.nnet.rotary import rotate
from speechbrain_lact.nnet.window_attention import WindowState


def is_step(layer, x, state, window, plan):
    """Whether this is one frame of every row, no row ends its chunk with it,
    and all rows stand at the same place of it.

    Arguments
    ---------
    layer : LaCT
        The layer.
    x : torch.Tensor
        Frames [B, T, E].
    state : LaCTState
        Where the call goes on, or None.
    window : Window
        That of the call.
    plan : ChunkPlan
        That of the call.

    Returns
    -------
    bool
    """
    if state is None or x.shape[1] != 1 or not plan.whole:
        return False
    if layer.order != "apply_update" or window.block or layer.least_chunk:
        return False
    if torch.is_autocast_enabled(x.device.type) or (
        layer.training and layer.dropout or layer.rule.checkpoint
    ):
        return False
    if same_number(state.window.counts) != state.window.keys.shape[1]:
        return False
    if not layer.fast:
        return True
    pending = same_number(state.fast.pending)
    return (
        # Rows taken out of a batch may have wider buffers.
        pending == state.fast.keys.shape[-2]
        and 0 < pending < layer.chunk_size - 1
        and layer.rule.weight_norm != "pre"
    )


def step(layer, x, projected, state, window, plan):
    """What the layer answers to the frame, and its state after it.

    Arguments
    ---------
    layer, x, state, window, plan
        As `is_step`.
    projected : torch.Tensor
        Queries, keys and values [B, 1, 3 E].

    Returns
    -------
    out : torch.Tensor
        [B, 1, E]
    state : LaCTState
    """
    rows, left = len(x), window.frames_left
    kept = max(left, layer.window.frames_left)
    heads = projected.view(rows, 1, 3, layer.nhead, -1)
    query, key, value = heads.unbind(2)
    keys = torch.cat([state.window.keys, key], 1)
    values = torch.cat([state.window.values, value], 1)
    # What the window has of all that is kept, and the frame itself.
    first = max(keys.shape[1] - 1 - left, 0)
    turned = keys[:, first:] if first else keys
    seen = values[:, first:] if first else values
    if layer.rotary:
        turned = rotate(turned, 1 - turned.shape[1])
    out = F.scaled_dot_product_attention(
        *(y.transpose(1, 2) for y in (query, turned, seen)),
        scale=layer.scale,
    ).view(rows, 1, -1)
    if keys.shape[1] > kept:
        # Of a window without a left side nothing is kept.
        first = keys.shape[1] - kept
        keys, values = keys[:, first:], values[:, first:]
    counts = plan.counts([keys.shape[1]] * rows)
    memory = None
    if layer.fast:
        read, memory = _remember(layer, x, projected, state.fast, plan)
        out = out + read.to(out.dtype)
    state = replace(
        state,
        fast=memory,
        window=WindowState(keys, values, counts),
    )
    return layer.out_proj(out), state


def _remember(layer, x, projected, fast, plan):
    """Reads the fast weights, which do not learn yet; [B, 1, E] in and out."""
    rows, heads, core = len(x), layer.fast_heads, fast.weights.dtype
    qkv = projected.to(core).view(rows, 3, heads, -1)
    qk, v = qkv.split([2, 1], 1)
    wide = (2, heads, qkv.shape[-1])
    qk = torch.addcmul(
        layer.qk_offset.view(wide), qk, layer.qk_scale.view(wide)
    )
    qk = F.silu(qk)
    qk = qk / (torch.linalg.vector_norm(qk, dim=-1, keepdim=True) + 1e-5)
    q, k = qk.unbind(1)
    v = v.squeeze(1)
    v = F.silu(v) if layer.silu_values else v
    gates, gate = layer.gates(x[:, 0], core)
    read = fast_weight_apply(
        fast.weights.flatten(0, 1), q.reshape(-1, 1, q.shape[-1])
    ).view(q.shape)
    norm = torch.linalg.vector_norm(read, dim=-1, keepdim=True)
    size = (norm.square() / read.shape[-1] + 1e-5).rsqrt()
    read = read * (size * gate) * layer.fast_norm
    keys, values, gates = (
        torch.cat([old, new[:, :, None]], 2)
        for old, new in zip((fast.keys, fast.values, fast.gates), (k, v, gates))
    )
    fast = replace(
        fast,
        keys=keys,
        values=values,
        gates=gates,
        pending=_by_head(plan, keys.shape[2], rows, heads),
        lengths=_by_head(plan, 1, rows, heads),
    )
    return read.view(rows, 1, -1), fast


def _by_head(plan, count, rows, heads):
    """One count of all rows and heads [B, H]."""
    values = (count,) * (rows * heads)
    return plan.keep(
        ("heads of", values, heads),
        lambda: remember(plan.counts(values).view(rows, heads), values),
    )
