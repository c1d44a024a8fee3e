"""Greedy decoding of Whisper while its frames still come.

A token is final when the decoder's attention stays clear of the newest frames:
what it looked at will not change any more (AlignAtt, arXiv:2305.11408, which
is done with Whisper in arXiv:2506.17077). What was given as final stays.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass, field

import torch

from speechbrain_lact.decoders.whisper import eager_attention, loop_end

# Frames that attention may go back; further, it is a loop. The first frames of
# a segment do not count: heads with nothing to look at rest there.
BACK, REST = 25, 2
# Frames that must follow a word, where the decoder says that nothing does.
SETTLED = 15
# Tokens of a second of speech, at most, and of any segment.
TOKENS_PER_SECOND, TOKENS = 12, 10
FRAMES_PER_SECOND = 50
# Whisper's own threshold for `no speech`.
NO_SPEECH = 0.6
# Mean log-probability of the first tokens of a segment: noise, for which words
# are made up, has less. (Of noises and sounds at most -1.24, but for a dog; of
# speech at least -0.73.)
SURE, FIRST = -1.2, 4


@dataclass
class Aligned:
    """What the frames of a segment say."""

    tokens: list = field(default_factory=list)
    """[token, frame] of each that is final."""
    changing: list = field(default_factory=list)
    """The same of those that may still change."""


class AlignedDecoder:
    """Decodes the frames of a segment, of which more may come.

    Arguments
    ---------
    host : speechbrain.integrations.huggingface.whisper.Whisper
        With the decoder, whose attention weights are read.
    heads : list of [layer, head]
        Whose attention follows the audio (`alignment_heads` of Whisper's
        `generation_config.json`).
    hold : int
        Newest frames that a final token's attention is clear of.
    """

    def __init__(self, host, heads, hold=25):
        self.host, self.heads, self.hold = host, heads, hold
        tokenizer = host.tokenizer
        self.prefix = list(tokenizer.prefix_tokens)
        suppressed = [
            t for t in host.non_speech_tokens if t < tokenizer.vocab_size
        ]
        table = host.model.decoder.embed_tokens.weight
        special = range(host.eos + 1, len(table))
        self.never = table.new_zeros(len(table))
        self.never[[*suppressed, *special]] = -torch.inf
        self.blank = tokenizer.encode(" ", add_special_tokens=False)
        self.pieces = {}

    def piece(self, token):
        """Text of a token."""
        if token not in self.pieces:
            self.pieces[token] = self.host.tokenizer.decode([token])
        return self.pieces[token]

    def begins(self, token):
        """Whether a word begins with a token."""
        return self.piece(token).startswith(" ")

    @torch.no_grad()
    def keys(self, frames, before=None):
        """What the cross attention of each layer takes from frames.

        Arguments
        ---------
        frames : torch.Tensor
            Of the segment so far [T, d_model].
        before : list of (torch.Tensor, torch.Tensor), optional
            Keys and values of the first of them, made earlier.

        Returns
        -------
        list of (torch.Tensor, torch.Tensor)
            Of each layer [1, heads, T, width].
        """
        known = before[0][0].shape[2] if before else 0
        new, found = frames[None, known:], []
        for number, layer in enumerate(self.host.model.decoder.layers):
            attention = layer.encoder_attn
            pair = tuple(
                part(new).unflatten(-1, (attention.num_heads, -1))
                for part in (attention.k_proj, attention.v_proj)
            )
            pair = tuple(x.transpose(1, 2) for x in pair)
            if before:
                pair = tuple(
                    torch.cat(both, 2) for both in zip(before[number], pair)
                )
            found.append(pair)
        return found

    @torch.no_grad()
    def __call__(self, frames, said=(), closed=False, keys=None):
        """Goes on from the tokens that are final.

        Arguments
        ---------
        frames : torch.Tensor
            Of the segment so far [T, d_model].
        said : list of [token, frame]
            Final tokens of the segment.
        closed : bool
            Whether the segment ends with these frames.
        keys : list of (torch.Tensor, torch.Tensor), optional
            As the method `keys` gives them.

        Returns
        -------
        Aligned
            What is new.
        """
        with eager_attention(self.host.model.decoder):
            return self._decode(frames, said, closed, keys)

    def _decode(self, frames, said, closed, keys):
        """The same."""
        time = len(frames)
        found, edge = [], time if closed else time - self.hold
        last = said[-1][1] if said else 0
        most = TOKENS + time * TOKENS_PER_SECOND // FRAMES_PER_SECOND
        before = [*self.prefix, *(token for token, _ in said)]
        out = self._step(before, frames, keys and self._cache(keys))
        if not said and self._silent(out):
            return Aligned()
        following, scores = None, []
        while len(said) + len(found) < most:
            frame = self._place(out, last)
            if not found and (frame is None or frame >= edge):
                break  # whatever the token is
            token, score = self._choose(out, not said and not found)
            following = token
            scores.append(score)
            if token == self.host.eos or frame is None or frame >= edge:
                break
            if loop_end([t for t, _ in [*said, *found]] + [token]):
                break
            last, following = max(last, frame), None
            found.append([token, last])
            out = self._step([token], frames, out.cache)
        first = scores[:FIRST]
        if not said and sum(first) < SURE * len(first):
            return Aligned()
        return self._final(found, following, closed, edge)

    def _final(self, found, following, closed, edge):
        """Whole words are final; marks at their end wait for the next one."""
        keep = len(found)
        if not closed:
            complete = following is None or self.begins(following)
            if following == self.host.eos:
                # The audio may end within the word.
                complete = bool(found) and found[-1][1] < edge - SETTLED
            while keep and not complete:
                keep -= 1
                complete = self.begins(found[keep][0])
            while keep and not any(
                c.isalnum() for c in self.piece(found[keep - 1][0])
            ):
                keep -= 1
        return Aligned(found[:keep], found[keep:])

    def _cache(self, keys):
        """A cache of no tokens yet."""
        from transformers import DynamicCache, EncoderDecoderCache

        cross = DynamicCache()
        for number, pair in enumerate(keys):
            cross.update(*pair, number)
        return EncoderDecoderCache(DynamicCache(), cross)

    def _step(self, tokens, frames, cache):
        """Output of the decoder for more tokens."""
        ids = torch.tensor([tokens], device=frames.device)
        return self.host.model.decoder(
            input_ids=ids,
            encoder_hidden_states=frames[None],
            cache=cache,
            use_cache=True,
            output_attentions=True,
        )

    def _silent(self, out):
        """Whether the first frames are taken for no speech."""
        table = self.host.model.decoder.embed_tokens.weight
        scores = out.last_hidden_state[0, 0] @ table.T
        return float(scores.softmax(0)[self.host.no_speech]) > NO_SPEECH

    def _choose(self, out, first):
        """The next token, and its log-probability."""
        table = self.host.model.decoder.embed_tokens.weight
        scores = out.last_hidden_state[0, -1] @ table.T
        scores = scores + self.never.to(scores.device)
        if first:
            scores[self.blank] = -torch.inf
        score, token = scores.log_softmax(0).max(0)
        return int(token), float(score)

    def _place(self, out, last):
        """The frame that the next token is read from; None if that was read
        long ago. Some heads look aside at times; half of them do not."""
        heads = torch.stack(
            [out.cross_attentions[n][0, h, -1] for n, h in self.heads]
        )
        heads[:, :REST] = 0
        first = max(last - BACK, 0)
        if int(heads.argmax(-1).median()) < first:
            return None
        return first + int(heads[:, first:].argmax(-1).median())
