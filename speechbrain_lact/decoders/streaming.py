"""Words from CTC a chunk at a time, as SpeechBrain's StreamingASR asks for
them.

SpeechBrain's `ctc_greedy_decode` takes whole utterances: called on chunks, it
would say a token twice that lasts from one chunk into the next.

Authors
* speechbrain_lact contributors 2026
"""

from dataclasses import dataclass


@dataclass
class CTCStreamingContext:
    """Mutable streaming context of greedy decoding."""

    last: list = None
    """What each row's last frame said, a token or the blank; None before the
    first chunk."""


def ctc_greedy_decode_streaming(probabilities, context, blank_id=0):
    """Greedy decoding of a chunk, after the chunks before it.

    Arguments
    ---------
    probabilities : torch.Tensor
        Probabilities, log-probabilities or scores [B, T, tokens].
    context : CTCStreamingContext
        Mutable streaming context; the same object should be passed across
        calls.
    blank_id : int
        The blank; negative numbers count from the end.

    Returns
    -------
    list
        New tokens of each row, a list of lists.

    Example
    -------
    >>> import torch
    >>> frames = torch.eye(3)[torch.tensor([[1, 1, 0, 1, 2, 2]])]
    >>> context = CTCStreamingContext()
    >>> [
    ...     ctc_greedy_decode_streaming(x, context)
    ...     for x in frames.split([1, 4, 1], 1)
    ... ]
    [[[1]], [[1, 2]], [[]]]
    """
    blank_id %= probabilities.shape[-1]
    rows = probabilities.argmax(-1).tolist()
    last = context.last or [blank_id] * len(rows)
    found = [collapse(row, x, blank_id) for row, x in zip(rows, last)]
    context.last = [x for _, x in found]
    return [[token for token, _ in spoken] for spoken, _ in found]


def collapse(tokens, last, blank):
    """Greedy CTC: what a run of frames says.

    Arguments
    ---------
    tokens : list of int
        Best token of each frame.
    last : int
        That of the frame before.
    blank : int
        The token for nothing.

    Returns
    -------
    spoken : list of tuple
        Token and frame of each that is said.
    last : int
        Token of the last frame.

    Example
    -------
    >>> collapse([5, 5, 0, 5, 7], last=5, blank=0)
    ([(5, 3), (7, 4)], 7)
    """
    spoken = []
    for frame, token in enumerate(tokens):
        if token != last and token != blank:
            spoken.append((token, frame))
        last = token
    return spoken, last


def spm_decode_streaming(tokenizer, hyps, context):
    """Text of a chunk's tokens, after the chunks before it.

    As SpeechBrain's `spm_decode_preserve_leading_space`, which asks for a
    type of output that sentencepiece 0.2.2 has no more.

    Arguments
    ---------
    tokenizer : sentencepiece.SentencePieceProcessor
        The tokenizer.
    hyps : list of int
        The tokens.
    context : SentencePieceDecoderStreamingContext
        Mutable streaming context; the same object should be passed across
        calls.

    Returns
    -------
    str
        A space before its first word is kept, but for the first one of all.
    """
    text = tokenizer.decode(hyps)
    first = tokenizer.id_to_piece(hyps[0]) if hyps else ""
    if context.emitted_symbol_count and first.startswith("\u2581"):
        text = " " + text
    context.emitted_symbol_count += len(hyps)
    return text
