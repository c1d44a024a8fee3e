"""SpeechBrain's Transformer decoder with LaCT in place of self-attention.

The memory is causal and a value: a call with a state takes new tokens only,
so that a search computes one position a step.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

import torch

from speechbrain.lobes.models.transformer.Transformer import (
    TransformerDecoder,
    TransformerDecoderLayer,
)
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import host_values
from speechbrain_lact.nnet.frames import zero_padding
from speechbrain_lact.nnet.lact import LaCT, LaCTState
from speechbrain_lact.nnet.plan import ChunkPlan
from speechbrain_lact.nnet.state import State, check_kind, counter, nested


@dataclass
class LaCTDecoderState(State):
    """What a decoder carries from token to token."""

    layers: list = nested(LaCTState, many=True)
    """Memory and window of each layer."""
    tokens: torch.Tensor = counter()
    """Number of tokens since the start [B]."""


class LaCTTransformerDecoderLayer(TransformerDecoderLayer):
    """SpeechBrain's decoder layer with causal LaCT.

    Arguments
    ---------
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout.
    **kwargs : dict
        Arguments of SpeechBrain's `TransformerDecoderLayer`.

    Example
    -------
    >>> layer = LaCTTransformerDecoderLayer(
    ...     {"chunk_size": 4}, d_ffn=32, nhead=2, d_model=16
    ... )
    >>> layer(torch.randn(2, 9, 16), torch.randn(2, 20, 16))[0].shape
    torch.Size([2, 9, 16])
    """

    def __init__(self, lact, **kwargs):
        super().__init__(**kwargs)
        self.self_attn = LaCT(
            kwargs["d_model"],
            kwargs["nhead"],
            kwargs.get("dropout", 0.0),
            order="apply_update",
            causal=True,
            **lact,
        )

    def forward(
        self,
        tgt,
        memory,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        pos_embs_tgt=None,
        pos_embs_src=None,
        state=None,
        plan=None,
    ):
        """As SpeechBrain's layer, with a state.

        Arguments
        ---------
        tgt : torch.Tensor
            [B, U, E]; with a state, only what is new.
        memory : torch.Tensor
            Encoder output [B, T, E].
        tgt_mask : torch.Tensor, optional
            Not used: the layer is causal.
        memory_mask : torch.Tensor, optional
            As SpeechBrain's.
        tgt_key_padding_mask : torch.Tensor, optional
            [B, U], True = padding, after the last real token.
        memory_key_padding_mask : torch.Tensor, optional
            [B, T], True = padding.
        pos_embs_tgt, pos_embs_src : torch.Tensor, optional
            Not used.
        state : LaCTState, optional
            Where to go on.
        plan : ChunkPlan, optional
            In place of `tgt_key_padding_mask`, as in `LaCT.forward`.

        Returns
        -------
        tgt : torch.Tensor
            [B, U, E]
        self_attn : None
            LaCT has no attention weights.
        multihead_attn : torch.Tensor
            Attention to the encoder output [B, U, T].
        state : LaCTState
            Only if a state was given.
        """
        x = self.norm1(tgt) if self.normalize_before else tgt
        out, _, *rest = self.self_attn(
            x,
            x,
            x,
            key_padding_mask=tgt_key_padding_mask,
            state=state,
            final=state is None,
            plan=plan,
        )
        tgt = tgt + self.dropout1(out)
        if not self.normalize_before:
            tgt = self.norm1(tgt)
        x = self.norm2(tgt) if self.normalize_before else tgt
        out, attention = self.multihead_attn(
            query=x,
            key=memory,
            value=memory,
            attn_mask=memory_mask,
            key_padding_mask=memory_key_padding_mask,
        )
        tgt = tgt + self.dropout2(out)
        if not self.normalize_before:
            tgt = self.norm2(tgt)
        x = self.norm3(tgt) if self.normalize_before else tgt
        tgt = tgt + self.dropout3(self.pos_ffn(x))
        if not self.normalize_before:
            tgt = self.norm3(tgt)
        return (tgt, None, attention, *rest)


class LaCTTransformerDecoder(TransformerDecoder):
    """SpeechBrain's decoder with LaCT layers.

    Arguments
    ---------
    num_layers : int
        Number of layers.
    lact : dict
        Arguments of `LaCT` beyond width, heads and dropout.
    **kwargs : dict
        Arguments of SpeechBrain's `TransformerDecoder`.

    Example
    -------
    >>> net = LaCTTransformerDecoder(
    ...     2, {"chunk_size": 4}, nhead=2, d_ffn=32, d_model=16
    ... )
    >>> tokens, memory = torch.randn(2, 9, 16), torch.randn(2, 20, 16)
    >>> whole = net(tokens, memory)[0]
    >>> state = net.initial_state(2)
    >>> for token in tokens.split(1, dim=1):
    ...     last, _, _, state = net(token, memory, state=state)
    >>> bool((last - whole[:, -1:]).abs().max() < 1e-4)
    True
    """

    def __init__(self, num_layers, lact, nhead, d_ffn, **kwargs):
        # The host without layers; then layers of ours.
        check_number(num_layers, "num_layers", least=1, integer=True)
        super().__init__(num_layers=0, nhead=nhead, d_ffn=d_ffn, **kwargs)
        self.layers = torch.nn.ModuleList(
            [
                LaCTTransformerDecoderLayer(
                    lact, d_ffn=d_ffn, nhead=nhead, **kwargs
                )
                for _ in range(num_layers)
            ]
        )

    def initial_state(self, batch):
        """State of rows without tokens.

        Arguments
        ---------
        batch : int
            Number of rows.

        Returns
        -------
        LaCTDecoderState
        """
        states = [layer.self_attn.initial_state(batch) for layer in self.layers]
        return LaCTDecoderState(states, states[0].lengths)

    def forward(
        self, tgt, memory, tgt_key_padding_mask=None, state=None, **kwargs
    ):
        """As SpeechBrain's decoder, with a state.

        Arguments
        ---------
        tgt : torch.Tensor
            [B, U, E]; with a state, only what is new.
        memory : torch.Tensor
            Encoder output [B, T, E].
        tgt_key_padding_mask : torch.Tensor, optional
            [B, U], True = padding, after the last real token.
        state : LaCTDecoderState, optional
            Where to go on.
        **kwargs : dict
            As `LaCTTransformerDecoderLayer.forward`.

        Returns
        -------
        output : torch.Tensor
            [B, U, E], U that of the longest row.
        self_attns : list
            One None a layer.
        multihead_attns : list
            Attention to the encoder output [B, U, T], one a layer.
        state : LaCTDecoderState
            Only if a state was given.
        """
        width = self.layers[0].self_attn.d_model
        check_tensor(tgt, ("B", "U", width), "tgt")
        check_tensor(memory, (len(tgt), "T", width), "memory")
        if state is not None:
            check_kind(state, LaCTDecoderState)
            state.check_rows(len(tgt))
        mask = None if tgt_key_padding_mask is None else ~tgt_key_padding_mask
        plan = ChunkPlan.of(tgt, mask)
        if mask is not None:
            # No column of padding alone: a state's answers have none.
            tgt = zero_padding(tgt, mask)[:, : max(plan.lengths, default=0)]
            plan = ChunkPlan(plan.lengths, tgt.shape[1], tgt.device)
        attns, multihead_attns, states = [], [], []
        for i, layer in enumerate(self.layers):
            tgt, attn, multihead_attn, *new = layer(
                tgt,
                memory,
                plan=plan,
                state=None if state is None else state.layers[i],
                **kwargs,
            )
            attns.append(attn)
            multihead_attns.append(multihead_attn)
            states += new
        plan.report()
        out = self.norm(tgt), attns, multihead_attns
        if state is None:
            return out
        tokens = plan.counts(
            a + b for a, b in zip(host_values(state.tokens), plan.lengths)
        )
        return (*out, LaCTDecoderState(states, tokens))
