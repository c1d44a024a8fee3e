"""N-gram language models of words: making ARPA files, and checking them.

Interpolated Witten-Bell smoothing, as in: S. Chen and J. Goodman, "An
empirical study of smoothing techniques for language modeling", 1999.

Authors
* speechbrain_lact contributors 2026
"""

import math
from collections import Counter
from itertools import islice

from speechbrain.lm.counting import ngrams, pad_ends

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
RESERVED = {BEGIN, END, UNKNOWN}
NEVER = -99.0  # log10 of 0
# What a piece of a word begins with in sentencepiece.
SPACE = "\u2581"


def make_arpa(sentences, order=3):
    """An n-gram language model of words.

    The probability of a word after a history h is
    (c(h, w) + n(h) p(w | h')) / (c(h) + n(h)), where c counts, n(h) is how
    many different words follow h, and h' is h without its first word.

    Arguments
    ---------
    sentences : iterable of str
        Words with spaces between them, in the letters of the recogniser.
    order : int
        Words of an n-gram, at least 2.

    Returns
    -------
    str
        In the ARPA format.

    Raises
    ------
    ValueError
        If there are no words, or words that the format keeps for itself.

    Example
    -------
    >>> lines = make_arpa(["GO ON"], 2).splitlines()
    >>> lines[1:3], lines[9].split("\\t")
    (['ngram 1=5', 'ngram 2=3'], ['-0.535113', 'ON', '-0.301030'])
    """
    if order < 2:
        raise ValueError(f"order {order}: at least 2")
    counts = count_ngrams(sentences, order)
    if (END,) not in counts[0]:
        raise ValueError("no words to make a language model of")
    lines = ["\\data\\"]
    lines += [f"ngram {n}={len(count)}" for n, count in enumerate(counts, 1)]
    probabilities = {(): 1 / (len(counts[0]) - 1)}  # <s> is never predicted
    followed, kinds = Counter(), Counter()
    for count in counts:
        for ngram, number in count.items():
            followed[ngram[:-1]] += number
            kinds[ngram[:-1]] += bool(number)
    for n, count in enumerate(counts, 1):
        lines += ["", f"\\{n}-grams:"]
        for ngram, number in sorted(count.items()):
            history = ngram[:-1]
            p = probabilities[ngram[1:]] * kinds[history] + number
            p /= followed[history] + kinds[history]
            probabilities[ngram] = p
            begins = ngram == (BEGIN,)
            line = [f"{NEVER if begins else math.log10(p):.6f}"]
            line.append(" ".join(ngram))
            if kinds[ngram]:
                rest = kinds[ngram] / (followed[ngram] + kinds[ngram])
                line.append(f"{math.log10(rest):.6f}")
            lines.append("\t".join(line))
    return "\n".join([*lines, "", "\\end\\", ""])


def count_ngrams(sentences, order):
    """How often each n-gram is there.

    Arguments
    ---------
    sentences : iterable of str
        Words with spaces between them.
    order : int
        Words of the longest.

    Returns
    -------
    list of Counter
        By tuples of n words, for n from 1 to `order`. Those of one word hold
        the reserved ones too: `<s>` and `<unk>`, never there.
    """
    counts = [Counter() for _ in range(order)]
    counts[0].update({(BEGIN,): 0, (UNKNOWN,): 0})
    for sentence in sentences:
        words = sentence.split()
        for word in words:
            if word.lower() in RESERVED:
                raise ValueError(f"{word}: no word, ARPA files reserve it")
        if not words:
            continue
        padded = list(pad_ends(words))
        counts[0].update((word,) for word in padded[1:])
        for n in range(2, order + 1):
            counts[n - 1].update(map(tuple, ngrams(padded, n)))
    return counts


def read_words(path):
    """The words that an ARPA file knows.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    set of str

    Raises
    ------
    ValueError
        If it is no ARPA file of words.
    """
    try:
        with open(path, encoding="utf-8") as file:
            words = _words(file)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not an ARPA file, which is text in UTF-8 (a binary file "
            "of KenLM lacks the list of words: take the ARPA file that it was "
            "made from)"
        ) from error
    if words is None:
        raise ValueError(
            f"{path}: not an ARPA file: \\data\\ and \\1-grams: are missing; "
            "`speechbrain-lact language-model` makes one of a text"
        )
    words = {word for word in words if word.lower() not in RESERVED}
    if not words:
        raise ValueError(f"{path}: a language model without words")
    kind = None
    if any(word.startswith(SPACE) for word in words):
        kind = "tokens"
    elif max(map(len, words)) == 1:
        kind = "characters"
    if kind is not None:
        raise ValueError(
            f"{path}: a language model of {kind}, such as "
            f"{max(words)!r}: one of words is wanted"
        )
    return words


def _words(lines):
    """Second column of the section of single words; None without one."""
    lines = map(str.strip, lines)
    if not any(line == "\\data\\" for line in islice(lines, 1000)):
        return None
    if not any(line == "\\1-grams:" for line in islice(lines, 1000)):
        return None
    words = set()
    for line in lines:
        if line.startswith("\\"):
            break
        words.update(line.split()[1:2])
    return words
