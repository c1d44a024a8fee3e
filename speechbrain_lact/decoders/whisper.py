"""Greedy search with Whisper's decoder: no words where there is no speech, no
loops, and the frames of each word.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import functools

import torch

from speechbrain.decoders.seq2seq import S2SWhisperGreedySearcher

# Whisper's own rule for what is not speech: above the first (probability of
# the token <|nospeech|>) and below the second (mean log-probability).
NO_SPEECH, LOG_PROB = 0.6, -1.0
# A loop: the same tokens at least so many times, and so many tokens in all.
REPEATS, LOOPED = 3, 10
# What a token begins with that begins a word (a space, in byte-level BPE).
SPACE = "\u0120"


class WhisperSearcher(S2SWhisperGreedySearcher):
    """SpeechBrain's greedy searcher for Whisper, for audio of any length.

    A row alone gives what it gives in a batch: the decoder attends to the
    frames of its own row. A loop (the same tokens again and again) is cut
    after its first occurrence and ends the search of its row. What is not
    speech gives no tokens.

    Arguments
    ---------
    model : speechbrain.integrations.huggingface.whisper.Whisper
        Encoder and decoder, with tokenizer.
    alignment_heads : list of [int, int], optional
        Layer and head of the cross attentions that follow the audio; needed
        for `align`.
    no_speech_threshold : float
        A row is not speech if the probability of Whisper's token for that is
        above this,
    log_prob_threshold : float
        and the mean log-probability of its tokens below this.
    **kwargs : dict
        As SpeechBrain's.

    Example
    -------
    >>> from speechbrain.integrations.huggingface.whisper import Whisper
    >>> whisper = Whisper("openai/whisper-tiny.en", ".")  # doctest: +SKIP
    >>> searcher = WhisperSearcher(whisper)  # doctest: +SKIP
    >>> frames = whisper.forward_encoder(mel)  # doctest: +SKIP
    >>> tokens, _, _ = searcher(frames, torch.ones(1))  # doctest: +SKIP
    """

    def __init__(
        self,
        model,
        alignment_heads=None,
        no_speech_threshold=NO_SPEECH,
        log_prob_threshold=LOG_PROB,
        **kwargs,
    ):
        kwargs = {"min_decode_ratio": 0.0, "max_decode_ratio": 1.0, **kwargs}
        super().__init__(model, **kwargs)
        self.alignment_heads = alignment_heads
        self.no_speech_threshold = no_speech_threshold
        self.log_prob_threshold = log_prob_threshold

    @functools.cached_property
    def get_tokens_to_suppress(self):
        """SpeechBrain's, and all times and marks but the end of the text."""
        tokens = set(super().get_tokens_to_suppress)
        marks = range(self.eos_index + 1, self.model.config.vocab_size)
        return tuple(sorted(tokens.union(marks)))

    @torch.no_grad()
    def forward(self, enc_states, wav_len):
        """Searches; SpeechBrain's keeps the probabilities of all tokens at all
        steps (200 kB a token), this one those of the tokens that are taken.

        Arguments
        ---------
        enc_states : torch.Tensor
            Encoder frames [B, T, C].
        wav_len : torch.Tensor
            Length of each row over T [B]; the decoder sees no more.

        Returns
        -------
        hyps : list of list of int
            Tokens of each row, without the end of the text.
        log_probs : torch.Tensor
            Mean log-probability of the tokens of each row and its end [B].
        no_speech : torch.Tensor
            Probability that there is no speech [B].
        """
        with attending(
            self.model.model.decoder, enc_states, wav_len
        ) as enc_states:
            rows, scores = self._search(enc_states)
        self.kv_cache = None
        means = [sum(row) / max(len(row), 1) for row in scores]
        log_probs = torch.tensor(means)
        no_speech = torch.tensor(self.no_speech_probs)
        silent = (no_speech > self.no_speech_threshold) & (
            log_probs < self.log_prob_threshold
        )
        rows = [[] if s else row for row, s in zip(rows, silent.tolist())]
        return rows, log_probs, no_speech

    def _search(self, enc_states):
        """Tokens and log-probabilities of each row, step by step."""
        size = len(enc_states)
        memory = self.reset_mem(size, enc_states.device)
        rows, scores = [[] for _ in range(size)], [[] for _ in range(size)]
        last = memory.new_full((size,), self.bos_index, dtype=torch.long)
        going = set(range(size))
        for _ in range(self.sample_len):
            logits, memory, _ = self.forward_step(
                last, memory, enc_states, None
            )
            best, last = logits.log_softmax(-1).max(-1)
            for row, token, score in zip(
                range(size), last.tolist(), best.tolist()
            ):
                if row not in going:
                    continue
                scores[row].append(score)
                if token == self.eos_index:
                    going.remove(row)
                    continue
                rows[row].append(token)
                once = loop_end(rows[row])
                if once is not None:
                    del rows[row][once:], scores[row][once:]
                    going.remove(row)
            if not going or self._check_end_condition(memory):
                break
        return rows, scores

    @torch.no_grad()
    def align(self, enc_states, wav_len, hyps, ends):
        """Where each word is said: the path of the decoder's attention.

        Arguments
        ---------
        enc_states : torch.Tensor
            Encoder frames [B, T, C].
        wav_len : torch.Tensor
            Length of each row over T [B], as in the search.
        hyps : list of list of int
            What the search has found.
        ends : list of int
            Frames of the audio of each row, without what is behind it.

        Returns
        -------
        list of list of (str, int, int)
            Of each row, words with their first frame and the one behind their
            last one.
        """
        start = len(self.initial_tokens)
        longest = max(map(len, hyps))
        if not longest:
            return [[] for _ in hyps]
        tokens = torch.full((len(hyps), start + longest), self.eos_index)
        tokens[:, :start] = torch.tensor(self.initial_tokens)
        for row, hyp in zip(tokens, hyps):
            row[start : start + len(hyp)] = torch.tensor(hyp)
        weights = self._attention(
            tokens.to(enc_states.device), enc_states, wav_len
        )
        words = []
        for row, hyp, end in zip(weights, hyps, ends):
            # The mark before the text predicts its first token.
            row = row[:, start - 1 : start + len(hyp), :end]
            words.append(self._place(row, hyp, end) if hyp else [])
        return words

    def _attention(self, tokens, enc_states, wav_len):
        """Of the alignment heads, given all tokens [B, heads, L, T]."""
        decoder = self.model.model.decoder
        with (
            attending(decoder, enc_states, wav_len) as enc_states,
            eager_attention(decoder),
        ):
            found = decoder(
                input_ids=tokens,
                encoder_hidden_states=enc_states,
                output_attentions=True,
                use_cache=False,
            ).cross_attentions
        heads = [found[layer][:, head] for layer, head in self.alignment_heads]
        return torch.stack(heads, 1).float().cpu()

    def _place(self, weights, hyp, end):
        """Words of one row, from attention [heads, tokens + 1, frames]."""
        starts = token_starts(weights)
        groups = word_groups(hyp, self.model.tokenizer)
        words = []
        for first, last in groups:
            text = self.model.tokenizer.decode(hyp[first:last]).strip()
            if text:
                words.append((text, starts[first], min(starts[last], end)))
        return words


@contextlib.contextmanager
def attending(decoder, frames, lengths):
    """Within it a Whisper decoder of transformers attends to no frame beyond
    the length of its row: its `forward` takes no mask for that.

    Arguments
    ---------
    decoder : transformers.models.whisper.modeling_whisper.WhisperDecoder
    frames : torch.Tensor
        Encoder frames [B, T, C].
    lengths : torch.Tensor
        Length of each row over T [B]; a row has at least one frame.

    Yields
    ------
    torch.Tensor
        The frames, with zeros beyond the lengths.
    """
    counts = torch.round(frames.shape[1] * lengths.double()).clamp(min=1)
    beyond = torch.arange(frames.shape[1], device=frames.device)
    beyond = beyond >= counts[:, None].to(frames.device)
    mask = frames.new_zeros(beyond.shape).masked_fill(beyond, -torch.inf)
    mask = mask[:, None, None]

    def add(_, args, kwargs):
        return args, {**kwargs, "attention_mask": mask}

    with contextlib.ExitStack() as stack:
        if bool(beyond.any()):
            for layer in decoder.layers:
                hook = layer.encoder_attn.register_forward_pre_hook(
                    add, with_kwargs=True
                )
                stack.callback(hook.remove)
        yield frames.masked_fill(beyond[..., None], 0)


@contextlib.contextmanager
def eager_attention(net):
    """Within it a net of transformers can give its attention weights.

    Arguments
    ---------
    net : transformers.PreTrainedModel

    Yields
    ------
    None
    """
    before = net.config._attn_implementation
    net.set_attn_implementation("eager")
    try:
        yield
    finally:
        net.set_attn_implementation(before)


def loop_end(tokens):
    """Where a loop at the end of a text has been said once.

    Arguments
    ---------
    tokens : list of int
        So far.

    Returns
    -------
    int or None
        How many tokens there are with its first occurrence; None if there is
        no loop.

    Example
    -------
    >>> loop_end([7, 1, 2, 3, 1, 2, 3, 1, 2, 3])
    >>> loop_end([7] + 4 * [1, 2, 3])
    4
    """
    for width in range(1, len(tokens) // REPEATS + 1):
        times = max(REPEATS, -(-LOOPED // width))
        if width * times > len(tokens):
            continue
        tail = tokens[-width * times :]
        if tail[width:] == tail[:-width]:
            return len(tokens) - width * (times - 1)
    return None


def token_starts(weights):
    """Dynamic time warping of attention, as Whisper's own.

    Arguments
    ---------
    weights : torch.Tensor
        [heads, tokens, frames]

    Returns
    -------
    list of int
        The frame at which each token begins, never falling.
    """
    from transformers.models.whisper.generation_whisper import (
        _dynamic_time_warping,
        _median_filter,
    )

    std, mean = torch.std_mean(weights, dim=-2, keepdim=True, correction=0)
    # Frames that no token attends to would divide by 0.
    weights = (weights - mean) / std.clamp(min=1e-9)
    weights = _median_filter(weights, 7).mean(0)
    rows, frames = _dynamic_time_warping(-weights.double().numpy())
    first = {}
    for row, frame in zip(rows.tolist(), frames.tolist()):
        first.setdefault(row, frame)
    return [first[row] for row in range(len(weights))]


def word_groups(tokens, tokenizer):
    """Which tokens make up each word.

    Arguments
    ---------
    tokens : list of int
        Of a text.
    tokenizer : transformers.PreTrainedTokenizerBase
        Byte-level BPE.

    Returns
    -------
    list of (int, int)
        The first of each word, and the one behind its last.
    """
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    begins = [i for i, p in enumerate(pieces) if p.startswith(SPACE) or not i]
    return list(zip(begins, [*begins[1:], len(tokens)]))
