"""Random choice in which everything comes equally often.

Authors
 * speechbrain_lact contributors 2026
"""


class Deck:
    """Deals items at random, each as often as the others.

    Arguments
    ---------
    items : list
        What is dealt.
    rng : numpy.random.Generator
        Where the order comes from.

    Example
    -------
    >>> import numpy as np
    >>> deck = Deck("abc", np.random.default_rng(0))
    >>> sorted(deck.deal() for _ in range(6))
    ['a', 'a', 'b', 'b', 'c', 'c']
    """

    def __init__(self, items, rng):
        self.items = list(items)
        self.rng = rng
        self.left = []

    def deal(self):
        """Returns the next item."""
        if not self.left:
            self.left = [
                self.items[i] for i in self.rng.permutation(len(self.items))
            ]
        return self.left.pop()

    def deal_different(self, count):
        """Returns the next items, no two of them equal."""
        dealt = []
        while len(dealt) < count:
            item = self.deal()
            if item in dealt:
                # Met only where one round ends and the next begins.
                self.left.insert(0, item)
            else:
                dealt.append(item)
        return dealt
