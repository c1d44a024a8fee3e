"""Word errors of one hypothesis.

Training and the command line have SpeechBrain's own metric, which also writes
alignments.

Authors
* speechbrain_lact contributors 2026
"""

import jiwer


def count_word_errors(reference, hypothesis):
    """Fewest insertions, deletions and substitutions between two texts.

    Arguments
    ---------
    reference, hypothesis : str
        Words with white space between them.

    Returns
    -------
    int

    Example
    -------
    >>> count_word_errors("the cat sat", "the hat sat down")
    2
    """
    texts = (" ".join(text.split()) for text in (reference, hypothesis))
    found = jiwer.process_words(*texts)
    return found.insertions + found.deletions + found.substitutions
