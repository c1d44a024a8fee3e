"""What a memory begins with, by domain and by voice.

A LaCT layer learns initial fast weights for all the audio there is. Here they
are moved before anything is heard: by a learned amount for each domain, by a
network of the speaker's embedding, or by both. A move is of low rank and zero
at the start of training, so that the model is at first the plain one.

Authors
* speechbrain_lact contributors 2026
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn


class InitialMemory(nn.Module):
    """Gives sessions that begin the memory of their domain and voice.

    Arguments
    ---------
    encoder : torch.nn.Module
        The encoder with LaCT: `TransformerASR`, `GatedLaCT` or one of
        `lobes.models.transformer.encoder`. Only its sizes are read.
    domains : list of str, optional
        Names of domains, for a `DomainMemory`.
    embedding_size : int, optional
        Numbers in the embedding of a speaker, for a `SpeakerMemory`; none or
        0 for no such.
    rank : int
        Of the moves.

    Example
    -------
    >>> from speechbrain_lact.lobes.models.transformer.encoder import (
    ...     LaCTConformerEncoder,
    ... )
    >>> net = LaCTConformerEncoder(
    ...     2, {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16, kernel_size=3
    ... )
    >>> memory = InitialMemory(net, domains=["speech", "music"])
    >>> start = memory(net, net.initial_state(2), ["music", None])
    >>> out, _, state = net(torch.randn(2, 20, 16), state=start)
    >>> out.shape
    torch.Size([2, 20, 16])
    """

    def __init__(self, encoder, domains=None, embedding_size=None, rank=4):
        super().__init__()
        self.domain = self.speaker = None
        if domains:
            self.domain = DomainMemory(encoder, domains, rank)
        if embedding_size:
            self.speaker = SpeakerMemory(encoder, embedding_size, rank)

    def configuration(self):
        """What, beside the weights, changes what a memory begins with.

        Returns
        -------
        dict
        """
        return {"domains": self.domain and self.domain.names}

    def forward(self, encoder, state, domains=None, embeddings=None):
        """Moves the memory of the rows that have learned nothing.

        Arguments
        ---------
        encoder : torch.nn.Module
            The encoder, whose own initial weights are moved.
        state : LaCTEncoderState
            From its `initial_state`, or carried, some rows of it reset.
        domains : list of str, optional
            Domain of each row; None for a row without.
        embeddings : torch.Tensor, optional
            Embedding of each row's speaker [B, E]; zeros for an unknown one.

        Returns
        -------
        LaCTEncoderState
            Rows with neither are as they were.

        Raises
        ------
        ValueError
            For a domain that is not known, embeddings of another size or not
            finite, or what there is no part for.
        """
        mixers = _mixers(encoder)
        known = torch.zeros_like(state.frames, dtype=torch.bool)
        if domains is not None:
            places = self._part("domain", "domains").places(domains)
            if len(places) != len(known):
                raise ValueError(
                    f"{len(places)} domains for a state of {len(known)} rows"
                )
            places = places.to(known.device)
            known = known | (places >= 0)
        if embeddings is not None:
            part = self._part("speaker", "embeddings")
            embeddings = part.check(embeddings, len(known)).to(known.device)
            known = known | embeddings.any(1)
        fresh = [layer.mixer.fast.fresh.all(1) for layer in state.layers]
        rows = torch.stack([known, *fresh]).all(0)
        # No row: all the same, so that every process has the same graph.
        with torch.autocast(known.device.type, enabled=False):
            moves = []
            if domains is not None:
                moves.append(self.domain(places[rows]))
            if embeddings is not None:
                moves.append(self.speaker(embeddings[rows]))
            if not moves:
                return state
            layers = [
                _begin(mixer, layer, rows, move)
                for mixer, layer, move in zip(
                    mixers, state.layers, sum(moves).unbind(1)
                )
            ]
        return replace(state, layers=layers)

    def _part(self, name, what):
        part = getattr(self, name)
        if part is None:
            raise ValueError(
                f"{what} given, but the model was trained without a memory "
                f"for them"
            )
        return part


class DomainMemory(nn.Module):
    """A table of moves of the initial fast weights, one for each domain.

    Arguments
    ---------
    encoder : torch.nn.Module
        As `InitialMemory` has it.
    names : list of str
        The domains.
    rank : int
        Of the moves.

    Example
    -------
    >>> from speechbrain_lact.lobes.models.transformer.encoder import (
    ...     LaCTTransformerEncoder,
    ... )
    >>> net = LaCTTransformerEncoder(
    ...     2, {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16
    ... )
    >>> table = DomainMemory(net, ["speech", "music"])
    >>> table(table.places(["music", None, "speech"])).shape
    torch.Size([3, 2, 4, 3, 4, 4])
    """

    def __init__(self, encoder, names, rank=4):
        super().__init__()
        if isinstance(names, str):
            raise ValueError(f"domains: a list of names, not {names!r}")
        self.names = [str(name) for name in names]
        if "" in self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"domains: names, each once, not {', '.join(self.names)!r}"
            )
        *sizes, hidden, width = _sizes(encoder, rank)
        sizes = len(self.names), *sizes
        self.out = nn.Parameter(torch.zeros(*sizes, hidden, rank))
        self.into = nn.Parameter(torch.empty(*sizes, rank, width))
        nn.init.normal_(self.into, std=width**-0.5)

    def places(self, names):
        """Numbers of domains.

        Arguments
        ---------
        names : list of str
            None stands for no domain.

        Returns
        -------
        torch.Tensor
            Integers [B]; -1 for none.
        """
        for name in names:
            if name is not None and name not in self.names:
                raise ValueError(
                    f"domain {name!r} is not one of {', '.join(self.names)}"
                )
        places = [-1 if n is None else self.names.index(n) for n in names]
        return torch.tensor(places, dtype=torch.long)

    def forward(self, places):
        """Moves of the initial weights.

        Arguments
        ---------
        places : torch.Tensor
            As `places` has them [B].

        Returns
        -------
        torch.Tensor
            For each layer and head, of W0, W2, W1' [B, layers, heads, 3, h, d].
        """
        rows = places.clamp(min=0)
        move = _core(self.out)[rows] @ _core(self.into)[rows]
        return move.masked_fill((places < 0).view(-1, 1, 1, 1, 1, 1), 0)


class SpeakerMemory(nn.Module):
    """A small network from the embedding of a speaker to a move of the initial
    fast weights.

    The network says how far to go in each of `rank` directions, which are
    learned, too. It has no bias: an embedding of zeros moves nothing.

    Arguments
    ---------
    encoder : torch.nn.Module
        As `InitialMemory` has it.
    embedding_size : int
        Numbers in an embedding. Its length does not matter.
    rank : int
        Directions of each matrix.
    hidden_size : int
        Width of the network.

    Example
    -------
    >>> from speechbrain_lact.lobes.models.transformer.encoder import (
    ...     LaCTTransformerEncoder,
    ... )
    >>> net = LaCTTransformerEncoder(
    ...     2, {"chunk_size": 8}, d_ffn=32, nhead=2, d_model=16
    ... )
    >>> SpeakerMemory(net, embedding_size=5)(torch.randn(3, 5)).shape
    torch.Size([3, 2, 4, 3, 4, 4])
    """

    def __init__(self, encoder, embedding_size, rank=4, hidden_size=64):
        super().__init__()
        *sizes, hidden, width = _sizes(encoder, rank)
        self.embedding_size, self.sizes = embedding_size, (*sizes, 1, rank)
        self.hidden = nn.Linear(embedding_size, hidden_size, bias=False)
        self.amount = nn.Linear(hidden_size, math.prod(self.sizes), bias=False)
        nn.init.zeros_(self.amount.weight)
        self.out = nn.Parameter(torch.empty(*sizes, hidden, rank))
        self.into = nn.Parameter(torch.empty(*sizes, rank, width))
        nn.init.normal_(self.out, std=rank**-0.5)
        nn.init.normal_(self.into, std=width**-0.5)

    def check(self, embeddings, rows):
        """The embeddings, if they can be used.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, E]
        rows : int
            How many there must be.

        Returns
        -------
        torch.Tensor
        """
        size = self.embedding_size
        if embeddings.shape != (rows, size):
            raise ValueError(
                f"embeddings {tuple(embeddings.shape)}, not ({rows}, {size}): "
                f"of another encoder of voices?"
            )
        if not bool(embeddings.isfinite().all()):
            raise ValueError("embeddings: not all are finite")
        return embeddings

    def forward(self, embeddings):
        """Moves of the initial weights.

        Arguments
        ---------
        embeddings : torch.Tensor
            [B, E]

        Returns
        -------
        torch.Tensor
            For each layer and head, of W0, W2, W1' [B, layers, heads, 3, h, d].
        """
        # Numbers around 1, as the layers expect.
        x = F.normalize(embeddings.to(self.hidden.weight), dim=1)
        x = F.gelu(self.hidden(x * math.sqrt(self.embedding_size)))
        amount = _core(self.amount(x)).view(-1, *self.sizes)
        return (_core(self.out) * amount) @ _core(self.into)


def _mixers(encoder):
    """The LaCT modules of an encoder, layer by layer."""
    layers = getattr(getattr(encoder, "encoder", encoder), "layers", [])
    mixers = [getattr(layer, "mixer", None) for layer in layers]
    if not mixers or not all(getattr(m, "fast", False) for m in mixers):
        raise ValueError(
            "an initial memory needs an encoder with fast weights in all layers"
        )
    return mixers


def _sizes(encoder, rank):
    """Number of layers and heads, 3, h and d."""
    if rank < 1:
        raise ValueError(f"rank must be at least 1, not {rank}")
    mixers = _mixers(encoder)
    heads, hidden, width = mixers[0].w0.shape
    return len(mixers), heads, 3, hidden, width


def _core(tensor):
    """In the type of fast weights."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _begin(mixer, layer, rows, move):
    """The state of a layer whose rows [B] begin with moved weights."""
    own = torch.stack([mixer.w0, mixer.w2, mixer.w1.transpose(1, 2)], 1)
    fast = layer.mixer.fast.map(lambda x: x.flatten(0, 1))
    fast = fast.begin(
        rows.repeat_interleave(mixer.fast_heads),
        (_core(own) + move).flatten(0, 1),
    )
    fast = fast.map(lambda x: x.unflatten(0, (-1, mixer.fast_heads)))
    return replace(layer, mixer=replace(layer.mixer, fast=fast))
