"""Whisper's normaliser: how its word errors are counted everywhere.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import re


def normalise_english(text):
    """A text as it is scored: in Whisper's normaliser, and digits a word each.
    (It makes one number of "one five two", and "one 5 2" of "1, 5, 2".)

    Arguments
    ---------
    text : str

    Returns
    -------
    str

    Example
    -------
    >>> normalise_english("Dial one, five: two!"), normalise_english("152")
    ('dial 1 5 2', '1 5 2')
    """
    text = re.sub(r"\bone\b", "1", english_normaliser()(text))
    return " ".join(re.sub(r"(\d)", r" \1 ", text).split())


@functools.cache
def english_normaliser():
    """Whisper's normaliser for English texts, by transformers.

    It takes away punctuation, brackets and case, writes numbers in digits and
    contractions out. Its list of British spellings is not part of
    transformers: these stay as they are.

    Returns
    -------
    callable
        Takes a text and returns one.

    Example
    -------
    >>> english_normaliser()("I can't, Mr. Smith: twenty-one!")
    'i can not mister smith 21'
    """
    from transformers.models.whisper.english_normalizer import (
        EnglishTextNormalizer,
    )

    return EnglishTextNormalizer({})
