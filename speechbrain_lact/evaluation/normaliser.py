"""Whisper's normaliser: how its word errors are counted everywhere.

Authors
* speechbrain_lact contributors 2026
"""

import functools


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
