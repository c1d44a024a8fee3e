"""The network of a language model of audio tokens.

Authors
* speechbrain_lact contributors 2026
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from speechbrain.nnet.attention import PositionalwiseFeedForward
from speechbrain_lact.lobes.models.audio_lm.delay import delay
from speechbrain_lact.lobes.models.audio_lm.generation import Generation
from speechbrain_lact.lobes.models.audio_lm.state import (
    AudioLMState,
    GenerationState,
)
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.frames import padding_mask, row_lengths, zero_padding
from speechbrain_lact.nnet.state import check_kind


class AudioLMLayer(nn.Module):
    """A mixer of time and a feed-forward network, both behind a norm.

    Arguments
    ---------
    mixer : torch.nn.Module
        `LaCT` or `CachedAttention`.
    d_model, d_ffn : int
        Widths.
    dropout : float
        Dropout of both outputs.
    """

    def __init__(self, mixer, d_model, d_ffn, dropout):
        super().__init__()
        self.mixer = mixer
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.ffn = PositionalwiseFeedForward(
            d_ffn,
            input_size=d_model,
            dropout=dropout,
            activation=nn.GELU,
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask, state, final):
        """Frames [B, T, E] and the state after them."""
        y = self.norm1(x)
        padding = None if mask is None else ~mask
        y, _, state = self.mixer(
            y, y, y, key_padding_mask=padding, state=state, final=final
        )
        x = x + self.dropout(y)
        return x + self.dropout(self.ffn(self.norm2(x))), state


class AudioLM(Generation, nn.Module):
    """A language model of audio tokens; `LaCTAudioLM` and
    `TransformerAudioLM` say how it remembers.

    A sequence begins with a row of nothing (`none` in all codebooks). Text
    may follow, a character a row, and then audio in the delay pattern.

    Arguments
    ---------
    mixer : callable
        Makes the module that mixes time in a layer, given its number.
    codebooks : int
        Number of codebooks, K.
    codebook_size : int
        Tokens in each, C.
    d_model, d_ffn, num_layers : int
        Sizes of the network.
    dropout : float
        Dropout.
    characters : str
        What text is made of; others are left out.
    speaker_size : int
        Size of an embedding of a voice (0: none is taken).
    domains : list of str
        Names that may condition what is made.
    """

    state_class, generation_class = AudioLMState, GenerationState

    def __init__(
        self,
        mixer,
        codebooks,
        codebook_size,
        d_model,
        d_ffn,
        num_layers,
        dropout=0.0,
        characters=" 'abcdefghijklmnopqrstuvwxyz",
        speaker_size=0,
        domains=(),
    ):
        super().__init__()
        for name, number in (
            ("codebooks", codebooks),
            ("codebook_size", codebook_size),
            ("num_layers", num_layers),
        ):
            check_number(number, name, least=1, integer=True)
        self.codebooks, self.codebook_size = codebooks, codebook_size
        self.characters, self.domains = characters, list(domains)
        self.none, self.end = codebook_size, codebook_size + 1
        # The first codebook's table has the characters, too.
        sizes = [codebook_size + 2 + len(characters)]
        sizes += [codebook_size + 2] * (codebooks - 1)
        self.embedding = nn.Embedding(sum(sizes), d_model)
        nn.init.normal_(self.embedding.weight, std=codebooks**-0.5)
        first = torch.tensor([0, *np.cumsum(sizes)[:-1]])
        self.register_buffer("first", first, persistent=False)
        self.layers = nn.ModuleList(
            [
                AudioLMLayer(mixer(number), d_model, d_ffn, dropout)
                for number in range(num_layers)
            ]
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, codebooks * (codebook_size + 2))
        self.voice = self.domain = None
        if speaker_size:
            self.voice = nn.Linear(speaker_size, d_model)
        if self.domains:
            self.domain = nn.Embedding(len(self.domains), d_model)

    def condition(self, batch, speaker=None, domain=None):
        """What is added to every input.

        Arguments
        ---------
        batch : int
            Number of rows.
        speaker : torch.Tensor, optional
            Embeddings of voices [B, S].
        domain : list of str, optional
            A name, or None, for each row.

        Returns
        -------
        torch.Tensor
            [B, E], zeros for what is not said.

        Raises
        ------
        ValueError
            For an embedding of another size, or an unknown domain.
        """
        like = self.embedding.weight
        total = like.new_zeros(batch, like.shape[1])
        if speaker is not None:
            size = 0 if self.voice is None else self.voice.in_features
            if speaker.shape != (batch, size):
                raise ValueError(
                    f"speaker: {list(speaker.shape)}, but this model takes "
                    f"{[batch, size]}"
                )
            speaker = speaker.to(like.device)
            # Silence and the like have no voice: a row of zeros.
            known = speaker.abs().sum(1, keepdim=True) > 0
            unit = F.normalize(speaker.to(like), dim=1)
            total = total + self.voice(unit) * known
        if domain is not None and len(domain) != batch:
            raise ValueError(f"domain: {len(domain)} names for {batch} rows")
        for row, name in enumerate(domain or []):
            if name is None:
                continue
            if name not in self.domains:
                raise ValueError(
                    f"domain: {name!r} is not one of "
                    f"{', '.join(self.domains) or 'none'}"
                )
            index = torch.tensor(self.domains.index(name), device=like.device)
            where = F.one_hot(torch.tensor(row), batch).to(like)[:, None]
            total = total + where * self.domain(index)
        return total

    def initial_state(self, batch, speaker=None, domain=None):
        """State before the first row.

        Arguments
        ---------
        batch : int
            Number of rows.
        speaker, domain : optional
            As `condition`.

        Returns
        -------
        AudioLMState
        """
        layers = [layer.mixer.initial_state(batch) for layer in self.layers]
        like = self.head.weight
        rows = torch.zeros(batch, dtype=torch.long, device=like.device)
        logits = like.new_zeros(batch, self.codebooks, self.codebook_size + 2)
        condition = self.condition(batch, speaker, domain)
        return self.state_class(layers, condition, rows, logits)

    def text_rows(self, text):
        """Text as rows of this model.

        Arguments
        ---------
        text : str
            Letter case does not matter.

        Returns
        -------
        torch.Tensor
            [characters, K]
        """
        places = [self.characters.find(c) for c in text.lower()]
        ids = torch.tensor([p for p in places if p >= 0], dtype=torch.long)
        rows = torch.full((len(ids), self.codebooks), self.none)
        rows[:, 0] = self.codebook_size + 2 + ids
        return rows

    def begin_row(self):
        """The row with which a sequence begins [1, K]."""
        return torch.full((1, self.codebooks), self.none)

    def audio_rows(self, tokens, end=True):
        """A recording as rows of this model.

        Arguments
        ---------
        tokens : torch.Tensor
            [T, K]
        end : bool
            Whether the recording ends there.

        Returns
        -------
        torch.Tensor
            [T + K - 1, K] or one more.

        Raises
        ------
        ValueError
            For tokens that no codebook has, or another number of codebooks.
        """
        self.check(tokens)
        return delay(tokens, self.none, self.end if end else None)

    def check(self, tokens):
        """Refuses tokens [T, K] that no codebook has."""
        check_tensor(tokens, ("T", "K"), "tokens", "integers")
        if tokens.ndim != 2 or tokens.shape[1] != self.codebooks:
            raise ValueError(
                f"tokens: {list(tokens.shape)}, but this model takes "
                f"[frames, {self.codebooks}]"
            )
        if len(tokens) and not (
            0 <= int(tokens.min()) and int(tokens.max()) < self.codebook_size
        ):
            raise ValueError(
                f"tokens: from {int(tokens.min())} to {int(tokens.max())}, but "
                f"a codebook has 0 to {self.codebook_size - 1}"
            )

    def forward(self, rows, lengths=None, state=None, final=False):
        """Scores of each next row.

        Arguments
        ---------
        rows : torch.Tensor
            [B, L, K]
        lengths : torch.Tensor, optional
            How many rows are real [B].
        state : AudioLMState, optional
            Where to go on.
        final : bool
            Whether the sequences end here; their memory then learns all of
            them and can begin others.

        Returns
        -------
        logits : torch.Tensor
            [B, L, K, C + 2]: tokens, `none`, `end`.
        state : AudioLMState
        """
        check_tensor(rows, ("B", "L", self.codebooks), "rows", "integers")
        rows = rows.to(self.first.device)
        if state is None:
            state = self.initial_state(len(rows))
        check_kind(state, self.state_class)
        if len(state.layers) != len(self.layers):
            raise ValueError(
                f"state: of {len(state.layers)} layers for a model of "
                f"{len(self.layers)}"
            )
        state.check_rows(len(rows))
        mask = None
        if lengths is None:
            lengths = row_lengths(rows, None)
        else:
            check_tensor(lengths, (len(rows),), "lengths", "integers")
            lengths = lengths.to(rows.device)
            mask = padding_mask(lengths, rows.shape[1])
            rows = zero_padding(rows, mask)
        x = self.embedding(rows + self.first).sum(2)
        x = x + state.condition[:, None]
        layers = []
        for layer, carried in zip(self.layers, state.layers):
            x, carried = layer(x, mask, carried, final)
            layers.append(carried)
        logits = self.head(self.norm(x)).unflatten(2, (self.codebooks, -1))
        last = state.logits
        if rows.shape[1]:
            every = torch.arange(len(rows), device=rows.device)
            last = logits[every, (lengths - 1).clamp(min=0)]
            if mask is not None:
                last = torch.where(
                    (lengths > 0)[:, None, None], last, state.logits
                )
        read = state.rows + lengths
        return logits, self.state_class(layers, state.condition, read, last)
