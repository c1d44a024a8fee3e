"""Words of a transcript and their times.

Authors
* speechbrain_lact contributors 2026
"""

import unicodedata
from dataclasses import dataclass, field, replace
from typing import Optional

# What a word begins with in sentencepiece.
SPACE = "\u2581"
# Punctuation of Unicode that is spoken.
SPOKEN = "%&@#"


@dataclass
class Word:
    """A word and when it was said, in seconds from the start."""

    text: str
    start: float
    end: float
    log_prob: Optional[float] = field(default=None, repr=False, compare=False)
    """Mean log-probability of what was recognised around it, if known."""

    def row(self):
        """What files of JSON hold of it.

        Returns
        -------
        dict
        """
        known = {"text": self.text, "start": self.start, "end": self.end}
        if self.log_prob is not None:
            known["log_prob"] = round(self.log_prob, 3)
        return known


def doubtful(words, least=-1.0):
    """Whether words are guesses rather than heard: in another language, or
    hardly to be understood.

    Arguments
    ---------
    words : list of Word
    least : float
        Mean log-probability, at least; Whisper's own threshold.

    Returns
    -------
    bool
        False where nothing is known.

    Example
    -------
    >>> doubtful([Word("um", 0.0, 0.3, -1.6), Word("so", 0.4, 0.5, -0.6)])
    True
    """
    known = [word.log_prob for word in words if word.log_prob is not None]
    return bool(known) and sum(known) / len(known) < least


@dataclass
class Hypothesis:
    """What a piece of a stream added to its transcript."""

    words: list = field(default_factory=list)
    """Words that are complete."""
    changing: str = ""
    """Beginning of the next one, which may still grow."""

    @property
    def stable(self):
        """The complete words as text."""
        return " ".join(word.text for word in self.words)


@dataclass
class Turn:
    """What a speaker said without a long pause."""

    speaker: str
    start: float
    end: float
    words: list

    @property
    def text(self):
        """The words as text."""
        return " ".join(word.text for word in self.words)


def collect_words(pairs, tokenizer, frame_seconds, seconds, final):
    """Joins tokens to words.

    Arguments
    ---------
    pairs : list of [token, frame]
        Tokens that were recognised, and the encoder frame of each.
    tokenizer : SentencePieceProcessor
        What the tokens are of.
    frame_seconds : float
        Length of a frame.
    seconds : float
        Length of the audio: no word ends later.
    final : bool
        Whether the last word is complete as well.

    Returns
    -------
    words : list of Word
        The complete ones.
    rest : list of [token, frame]
        What is left: the beginning of the next word.
    """
    groups = []
    for token, frame in pairs:
        begins = tokenizer.id_to_piece(token).startswith(SPACE)
        if begins or not groups:
            groups.append([])
        groups[-1].append([token, frame])
    rest = [] if final or not groups else groups.pop()
    words = []
    for group in groups:
        text = tokenizer.decode_ids([t for t, _ in group]).strip()
        frames = [
            frame
            for token, frame in group
            if tokenizer.id_to_piece(token) != SPACE
        ]
        if text:
            times = (frames[0], frames[-1] + 1)
            times = (round(t * frame_seconds, 3) for t in times)
            words.append(Word(text, *(min(t, seconds) for t in times)))
    return words, rest


def shift(words, seconds, first=0.0, last=float("inf")):
    """Moves words in time.

    Arguments
    ---------
    words : list of Word
        Of a piece of a recording, with times from its start.
    seconds : float
        Where the piece begins.
    first, last : float
        No word begins before, or ends after.

    Returns
    -------
    list of Word

    Example
    -------
    >>> shift([Word("GOOD", 0.5, 0.9)], 10.0, last=10.8)
    [Word(text='GOOD', start=10.5, end=10.8)]
    """

    def place(time):
        """In milliseconds, as all times."""
        return min(max(round(time + seconds, 3), first), last)

    return [
        replace(word, start=place(word.start), end=place(word.end))
        for word in words
    ]


def restyle(words, case="keep", punctuation=True):
    """Words in other letters, with or without punctuation.

    Arguments
    ---------
    words : list of Word
    case : str
        `keep`, `lower` or `upper`.
    punctuation : bool
        Whether to keep it. What stands within words stays (o'clock, 3.5).

    Returns
    -------
    list of Word
        Without those of which nothing is left.

    Example
    -------
    >>> restyle([Word("O'Clock,", 0, 1), Word("-", 1, 2)], "lower", False)
    [Word(text="o'clock", start=0, end=1)]
    """
    change = {"lower": str.lower, "upper": str.upper}.get(case, str)
    texts = [change(word.text) for word in words]
    if not punctuation:
        texts = map(bare, texts)
    return [replace(w, text=t) for w, t in zip(words, texts) if t]


def bare(text):
    """A word without the punctuation around it.

    Arguments
    ---------
    text : str

    Returns
    -------
    str

    Example
    -------
    >>> bare("(O'Clock,"), bare("-")
    ("O'Clock", '')
    """

    def spoken(i):
        kind = unicodedata.category(text[i])
        if text[i] in SPOKEN or not kind.startswith("P"):
            return True
        around = text[max(i - 1, 0)] + text[min(i + 1, len(text) - 1)]
        return around.isalnum() and len(text) > 2

    return "".join(text[i] for i in range(len(text)) if spoken(i))
