"""Audio from a language model: how tokens are chosen, and row after row made.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from speechbrain_lact.lobes.models.audio_lm.delay import delay, undelay
from speechbrain_lact.lobes.models.audio_tokenizers.base import PADDING
from speechbrain_lact.nnet.checks import check_number
from speechbrain_lact.nnet.state import check_kind


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


class Generation:
    """How an `AudioLM` makes audio; the part of it that is no network."""

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
