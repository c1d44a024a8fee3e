"""Language models of audio tokens: one whose memory does not grow, and a
standard Transformer that does the same job.

Tokens of K codebooks stand in a delay pattern: row s has the token of frame
s - k in codebook k, so that a frame's codebooks are predicted one after the
other while a step makes one row (Copet et al., "Simple and controllable music
generation", 2023).

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from speechbrain.nnet.attention import PositionalwiseFeedForward
from speechbrain_lact.lobes.models.audio_tokenizers import PADDING
from speechbrain_lact.nnet.checks import check_number, check_tensor
from speechbrain_lact.nnet.counts import same_number
from speechbrain_lact.nnet.frames import (
    padding_mask,
    row_lengths,
    splice,
    zero_padding,
)
from speechbrain_lact.nnet.lact import LaCT, LaCTState, remembering_layers
from speechbrain_lact.nnet.state import (
    State,
    buffer,
    check_kind,
    counter,
    nested,
)


@dataclass
class AudioLMState(State):
    """Where a model stands in a sequence."""

    layers: list = nested(LaCTState, many=True)
    """One state a layer."""
    condition: torch.Tensor = None
    """What is added to every input: voice and domain [B, E]."""
    rows: torch.Tensor = None
    """Rows read since the start [B]."""
    logits: torch.Tensor = None
    """Scores of the row that comes next [B, K, C + 2]."""


@dataclass
class KVState(State):
    """What full attention keeps: everything."""

    keys: torch.Tensor = buffer("right")
    """Keys [B, T, H, D], turned by their positions."""
    values: torch.Tensor = buffer("right")
    """As `keys`."""
    counts: torch.Tensor = counter("keys", "values")
    """How many of them are real [B]."""


@dataclass
class TransformerAudioLMState(AudioLMState):
    """As `AudioLMState`, of full attention."""

    layers: list = nested(KVState, many=True)


@dataclass
class GenerationState(State):
    """Where a generation stands: it goes on from here as if it had never been
    interrupted."""

    model: AudioLMState = nested(AudioLMState)
    """What was read."""
    recent: torch.Tensor = None
    """The last K rows of audio [B, K, K]."""
    forced: torch.Tensor = None
    """Tokens of the next K rows that a prompt gives, or -1 [B, K, K]."""
    made: torch.Tensor = None
    """Rows of audio so far, those of the prompt among them [B]."""
    prompt: torch.Tensor = None
    """Frames of the prompt [B]."""
    ended: torch.Tensor = None
    """Frames when the first codebook said `end`, or -1 [B]."""
    seed: torch.Tensor = None
    """Seed of each row's choices [B]."""


@dataclass
class TransformerGenerationState(GenerationState):
    """As `GenerationState`, of full attention."""

    model: TransformerAudioLMState = nested(TransformerAudioLMState)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Arguments
    ---------
    temperature : float
        Scores are divided by it.
    top_k : int
        Only the best so many tokens (0: all).
    top_p : float
        Only the best tokens that have this share of the probability.
    greedy : bool
        Whether always the best token is taken.
    may_end : bool
        Whether the model may end the recording.

    Raises
    ------
    ValueError
        For values that leave nothing to choose from.

    Example
    -------
    >>> scores = torch.tensor([[1.0, 3.0, 2.0]])
    >>> Sampling(top_k=2).choose(scores, torch.tensor([0.9]))
    tensor([2])
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    greedy: bool = False
    may_end: bool = True

    def __post_init__(self):
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"temperature must be above 0, not {self.temperature}: for "
                f"the best token always, use greedy"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative: {self.top_k}")

    def choose(self, scores, chance):
        """Takes a token for each row.

        Arguments
        ---------
        scores : torch.Tensor
            [..., V]; -inf for what cannot be chosen.
        chance : torch.Tensor
            Uniform numbers in [0, 1) [...]; the same number takes the same
            token.

        Returns
        -------
        torch.Tensor
            Tokens [...].
        """
        if self.greedy:
            return scores.argmax(-1)
        shares = (scores.double() / self.temperature).softmax(-1)
        shares, order = shares.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            shares[..., self.top_k :] = 0
        if self.top_p < 1:
            # A token stays if those before it do not have the share yet.
            before = shares.cumsum(-1) - shares
            total = shares.sum(-1, keepdim=True)
            shares = shares.masked_fill(before >= self.top_p * total, 0)
        total = shares.cumsum(-1)
        place = (total <= chance[..., None] * total[..., -1:]).sum(-1)
        possible = (shares > 0).sum(-1)
        place = torch.minimum(place, possible - 1)[..., None]
        return order.gather(-1, place)[..., 0]


def delay(tokens, none, end=None):
    """Puts the tokens of whole sequences into the delay pattern.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]
    none : int
        What stands where a codebook has no token.
    end : int, optional
        What the first codebook says after its last token.

    Returns
    -------
    torch.Tensor
        [T + K - 1, K]; with `end` at least T + 1 rows.

    Example
    -------
    >>> delay(torch.tensor([[1, 2], [3, 4]]), 9, end=8)
    tensor([[1, 9],
            [3, 2],
            [8, 4]])
    """
    frames, books = tokens.shape
    size = max(frames + books - 1, frames + (end is not None))
    rows = tokens.new_full((size, books), none)
    for k in range(books):
        rows[k : k + frames, k] = tokens[:, k]
    if end is not None:
        rows[frames, 0] = end
    return rows


def undelay(rows):
    """Undoes `delay`: the frames all of whose codebooks are there.

    Arguments
    ---------
    rows : torch.Tensor
        [T + K - 1, K]

    Returns
    -------
    torch.Tensor
        [T, K]

    Example
    -------
    >>> undelay(torch.tensor([[1, 9], [3, 2], [8, 4]]))
    tensor([[1, 2],
            [3, 4]])
    """
    frames = len(rows) - rows.shape[1] + 1
    columns = [rows[k : k + frames, k] for k in range(rows.shape[1])]
    return torch.stack(columns, 1)


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


class AudioLM(nn.Module):
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

    def begin(self, text=None, prompt=None, seed=0, state=None, **condition):
        """State from which audio is made.

        Arguments
        ---------
        text : list of str, optional
            What is to be said, a text (or None) for each row.
        prompt : list of torch.Tensor, optional
            Tokens [T, K] (or None) of each row that the audio goes on from.
        seed : int or list of int
            Seed of the choices; of a number, row i takes seed + i.
        state : AudioLMState, optional
            A memory to begin with, as of `adapt_to_style`.
        **condition : dict
            `speaker` and `domain`, as `condition`; only without a state.

        Returns
        -------
        GenerationState

        Raises
        ------
        ValueError
            For an empty prompt, tokens out of range, or a text without any
            known character.
        """
        if state is not None:
            check_kind(state, self.state_class)
            state.check(self.initial_state(1))
        batch = len(text or prompt or [None]) if state is None else None
        batch = batch or len(state.rows)
        texts, prompts = text or [None] * batch, prompt or [None] * batch
        if len(texts) != batch or len(prompts) != batch:
            raise ValueError(
                f"{len(texts)} texts and {len(prompts)} prompts for {batch} "
                f"rows"
            )
        rows, books = [], self.codebooks
        forced = torch.full((batch, books, books), PADDING)
        recent = torch.full((batch, books, books), self.none)
        frames = torch.zeros(batch, dtype=torch.long)
        for i, (words, tokens) in enumerate(zip(texts, prompts)):
            parts = [self.begin_row()]
            if words is not None:
                parts.append(self.text_rows(words))
                if not len(parts[-1]):
                    raise ValueError(
                        f"text: {words[:40]!r} has no character of "
                        f"{self.characters!r}"
                    )
            if tokens is not None:
                if not len(tokens):
                    raise ValueError("prompt: it has no frames")
                audio = self.audio_rows(tokens.cpu(), end=False)
                # The last frames' later codebooks stand in rows to come.
                audio, ahead = audio.split([len(tokens), books - 1])
                parts.append(audio)
                frames[i] = len(tokens)
                forced[i, : books - 1] = ahead
                recent[i, -len(audio) :] = audio[-books:]
            rows.append(torch.cat(parts))
        forced[forced == self.none] = PADDING
        device = self.head.weight.device
        lengths = torch.tensor([len(r) for r in rows], device=device)
        rows = nn.utils.rnn.pad_sequence(rows, True, self.none).to(device)
        if state is None:
            state = self.initial_state(batch, **condition)
        with torch.inference_mode():
            _, state = self(rows, lengths, state)
        seeds = seed
        if isinstance(seed, int):
            seeds = [seed + i for i in range(batch)]
        return self.generation_class(
            state,
            recent.to(device),
            forced.to(device),
            frames.to(device),
            frames.to(device),
            torch.full_like(frames, -1).to(device),
            torch.tensor(seeds, device=device),
        )

    def adapt_to_style(self, references, state=None, **condition):
        """Reads recordings into the memory; what is generated from the state
        that comes back has heard them.

        Arguments
        ---------
        references : list of torch.Tensor
            Tokens [T, K] of each row.
        state : AudioLMState, optional
            What was read before.
        **condition : dict
            As `condition`; only without a state.

        Returns
        -------
        AudioLMState
        """
        if state is None:
            state = self.initial_state(len(references), **condition)
        check_kind(state, self.state_class)
        state.check(self.initial_state(1), len(references))
        rows = []
        for tokens in references:
            if not len(tokens):
                raise ValueError("reference: it has no frames")
            audio = self.audio_rows(tokens.cpu())
            rows.append(torch.cat([self.begin_row(), audio]))
        device = self.head.weight.device
        lengths = torch.tensor([len(r) for r in rows], device=device)
        rows = nn.utils.rnn.pad_sequence(rows, True, self.none).to(device)
        with torch.inference_mode():
            return self(rows, lengths, state)[1]

    def force(self, state, tokens):
        """Says what the next frames are.

        Arguments
        ---------
        state : GenerationState
            Of one row.
        tokens : torch.Tensor
            [T, K]

        Returns
        -------
        GenerationState
            `generate` makes these frames first.
        """
        self.check(tokens)
        rows = delay(tokens.to(self.first.device), PADDING)
        forced = rows.new_full((len(rows) + self.codebooks, len(rows[0])), -1)
        forced[: len(rows)] = rows
        before = forced[: self.codebooks]
        # The later codebooks of a prompt's last frames.
        forced[: self.codebooks] = torch.where(
            before < 0, state.forced[0, : self.codebooks], before
        )
        return replace(state, forced=forced[None])

    def score(self, tokens, state):
        """Log-likelihood of audio that follows a state.

        Arguments
        ---------
        tokens : torch.Tensor
            [T, K]
        state : GenerationState
            Of one row.

        Returns
        -------
        torch.Tensor
            Of each frame, all its codebooks together, natural logarithm [T].
        """
        # A row may have later codebooks of a prompt's last frames.
        self.check(tokens)
        rows = delay(tokens.to(self.first.device), self.none)
        known = state.forced[0, : len(rows)]
        head = rows[: len(known)]
        rows[: len(known)] = torch.where(known >= 0, known, head)
        with torch.inference_mode():
            logits, _ = self(rows[None, :-1], state=state.model)
        logits = torch.cat([state.model.logits[:, None], logits], 1)[0].float()
        found = logits.log_softmax(-1).gather(-1, rows[..., None])[..., 0]
        return undelay(found).sum(1)

    def _choose(self, state, sampling, active):
        """The next row of audio of each row [B, K]."""
        scores = state.model.logits[:, :active].float().clone()
        scores[..., self.none :] = -torch.inf
        if sampling.may_end:
            # An end before the first frame would be nothing at all.
            last = state.model.logits[:, 0, self.end].float()
            going = (state.made > 0) & (state.ended < 0)
            scores[:, 0, self.end] = last.masked_fill(~going, -torch.inf)
        chance = torch.zeros(scores.shape[:2], dtype=torch.float32)
        if not sampling.greedy:
            read = state.model.rows.tolist()
            for row, seed in enumerate(state.seed.tolist()):
                bits = np.random.Philox(key=seed, counter=read[row])
                drawn = np.random.Generator(bits).random(self.codebooks)
                chance[row] = torch.from_numpy(drawn[:active])
        row = scores.new_full(
            (len(scores), self.codebooks), self.none, dtype=torch.long
        )
        row[:, :active] = sampling.choose(scores, chance.to(scores.device))
        # A codebook has tokens of frames from the first to the last alone.
        frame = state.made[:, None] - torch.arange(self.codebooks).to(row)
        ended = state.ended[:, None]
        outside = (frame < 0) | ((ended >= 0) & (frame >= ended))
        row = row.masked_fill(outside, self.none)
        return torch.where(state.forced[:, 0] >= 0, state.forced[:, 0], row)

    def step(self, state, sampling, active=None):
        """Makes one row.

        Arguments
        ---------
        state : GenerationState
            Where to go on.
        sampling : Sampling
            How tokens are chosen.
        active : int, optional
            Codebooks that are computed (default: all); the others have
            nothing.

        Returns
        -------
        frame : torch.Tensor
            The frame that is complete with this row [B, K].
        new : torch.Tensor
            Whether it is one of the recording to be made [B]; not at first,
            when later codebooks are behind, and not after the end.
        state : GenerationState
        """
        row = self._choose(state, sampling, active or self.codebooks)
        ends = (row[:, 0] == self.end) & (state.ended < 0)
        ended = torch.where(ends, state.made, state.ended)
        recent = torch.cat([state.recent[:, 1:], row[:, None]], 1)
        made = state.made + 1
        books = torch.arange(self.codebooks, device=row.device)
        frame = recent[:, books, books]
        place = made - self.codebooks
        new = (place >= state.prompt) & ((ended < 0) | (place < ended))
        forced = F.pad(state.forced[:, 1:], (0, 0, 0, 1), value=PADDING)
        with torch.inference_mode():
            _, model = self(row[:, None], state=state.model)
        state = self.generation_class(
            model, recent, forced, made, state.prompt, ended, state.seed
        )
        return frame, new, state

    def finished(self, state):
        """Rows whose recording is complete [B]."""
        return (state.ended >= 0) & (
            state.made >= state.ended + self.codebooks - 1
        )

    def generate(self, state, max_length, **sampling):
        """Makes audio.

        Arguments
        ---------
        state : GenerationState
            As `begin` returns, or as an earlier call left it.
        max_length : int
            Frames to make at most.
        **sampling : dict
            As `Sampling`.

        Returns
        -------
        tokens : torch.Tensor
            [B, T, K], `PADDING` after a row's end.
        state : GenerationState
            Where each row can go on.
        """
        check_number(max_length, "max_length", least=1, integer=True)
        check_kind(state, self.generation_class)
        state.model.check(self.initial_state(1), len(state.made))
        sampling = Sampling(**sampling)
        batch = len(state.made)
        frames, left = [[] for _ in range(batch)], [None] * batch
        rows = list(range(batch))
        while rows:
            done = self.finished(state).tolist()
            done = [
                end or len(frames[row]) == max_length
                for row, end in zip(rows, done)
            ]
            if any(done):
                for i, row in enumerate(rows):
                    if done[i]:
                        left[row] = state.index([i])
                stay = [i for i, end in enumerate(done) if not end]
                rows = [rows[i] for i in stay]
                if not rows:
                    break
                state = state.index(stay)
            frame, new, state = self.step(state, sampling)
            for i, row in enumerate(rows):
                if new[i]:
                    frames[row].append(frame[i])
        empty = state.recent.new_zeros(0, self.codebooks)
        made = [torch.stack(f) if f else empty for f in frames]
        tokens = nn.utils.rnn.pad_sequence(made, True, PADDING)
        return tokens, self.generation_class.cat(left)


class LaCTAudioLM(AudioLM):
    """Remembers the last rows by window attention, all others in fast weights.

    Arguments
    ---------
    codebooks, codebook_size, num_layers, **kwargs
        As `AudioLM`.
    d_model, nhead, d_ffn : int
        Sizes.
    lact : dict
        Arguments of `LaCT` beyond width, heads, dropout and order. `fast` may
        also be the numbers of the layers that have fast weights, from 0.

    Example
    -------
    >>> net = LaCTAudioLM(2, 8, d_model=16, nhead=2, d_ffn=32, num_layers=1)
    >>> rows = net.audio_rows(torch.randint(8, (5, 2)))
    >>> logits, state = net(torch.cat([net.begin_row(), rows])[None])
    >>> logits.shape
    torch.Size([1, 7, 2, 10])
    """

    def __init__(
        self,
        codebooks,
        codebook_size,
        d_model,
        nhead,
        d_ffn,
        num_layers,
        lact=None,
        dropout=0.0,
        **kwargs,
    ):
        options = {"chunk_size": 64, **(lact or {})}
        fast = remembering_layers(options.pop("fast", True), num_layers)
        super().__init__(
            lambda number: LaCT(
                d_model,
                nhead,
                dropout,
                order="apply_update",
                causal=True,
                fast=number in fast,
                **options,
            ),
            codebooks,
            codebook_size,
            d_model,
            d_ffn,
            num_layers,
            dropout,
            **kwargs,
        )


class TransformerAudioLM(AudioLM):
    """Full attention with a cache of all keys and values; all else is the
    same.

    Arguments
    ---------
    codebooks, codebook_size, num_layers, **kwargs
        As `AudioLM`.
    d_model, nhead, d_ffn : int
        Sizes.

    Example
    -------
    >>> net = TransformerAudioLM(
    ...     2, 8, d_model=16, nhead=2, d_ffn=32, num_layers=1
    ... )
    >>> net(net.begin_row()[None])[0].shape
    torch.Size([1, 1, 2, 10])
    """

    state_class = TransformerAudioLMState
    generation_class = TransformerGenerationState

    def __init__(
        self,
        codebooks,
        codebook_size,
        d_model,
        nhead,
        d_ffn,
        num_layers,
        dropout=0.0,
        **kwargs,
    ):
        super().__init__(
            lambda _: CachedAttention(d_model, nhead, dropout),
            codebooks,
            codebook_size,
            d_model,
            d_ffn,
            num_layers,
            dropout,
            **kwargs,
        )
