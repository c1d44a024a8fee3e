"""Hot words: names and terms that a search is to prefer.

Words are weighted as in https://github.com/kensho-technologies/pyctcdecode:
a hot word adds its weight to the score of a hypothesis, and a part of it what
share of its letters is there.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import re
import unicodedata
from pathlib import Path


def read_hotwords(path):
    """Words and phrases of a file, a line each.

    Arguments
    ---------
    path : str or Path
        Text in UTF-8.

    Returns
    -------
    list of str
        In Unicode NFC.

    Raises
    ------
    ValueError
        If it cannot be read or is empty.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8") from error
    lines = unicodedata.normalize("NFC", text).splitlines()
    phrases = [" ".join(line.split()) for line in lines]
    phrases = [phrase for phrase in phrases if phrase]
    if not phrases:
        raise ValueError(f"{path}: no hot words: write one on each line")
    return phrases


class HotWords:
    """What hot words add to the score of a hypothesis.

    Arguments
    ---------
    weights : dict
        Natural logarithm of how much more likely each word or phrase is.

    Example
    -------
    >>> hot = HotWords({"NEW YORK": 8.0, "ANNA": 4.0})
    >>> hot.score("ANNA IN NEW YORK"), hot.score("ANNAS")
    (12.0, 0)
    >>> hot.score("ANNA IN", "AN"), hot.score("NEW", "YORK")
    (6.0, 8.0)
    """

    def __init__(self, weights):
        self.weights = weights
        longest = sorted(map(re.escape, weights), key=len, reverse=True)
        self.pattern = re.compile(rf"(?<!\S)(?:{'|'.join(longest)})(?!\S)")
        self.most = max(phrase.count(" ") for phrase in weights)
        self.begun = {}
        for phrase, weight in weights.items():
            for size in range(1, len(phrase) + 1):
                begin = phrase[:size]
                share = weight * size / len(phrase)
                self.begun[begin] = max(share, self.begun.get(begin, share))
        words = {word for phrase in weights for word in phrase.split()}
        self.parts = {
            word[:i] for word in words for i in range(1, 1 + len(word))
        }
        self._whole = functools.lru_cache(4096)(self._sum)

    def __contains__(self, part):
        return part in self.parts

    def score(self, text, part=None):
        """What is added for a hypothesis.

        Arguments
        ---------
        text : str
            Its complete words.
        part : str, optional
            What there is of the next word; None at the end.

        Returns
        -------
        float
        """
        score = self._whole(text)
        if part is None:
            return score
        words = text.split()[-self.most :] if self.most else []
        for first in range(len(words) + 1):
            begun = self.begun.get(" ".join([*words[first:], part]))
            if begun is not None:
                return score + begun
        return score

    def _sum(self, text):
        """Of complete words."""
        return sum(self.weights[x] for x in self.pattern.findall(text))
