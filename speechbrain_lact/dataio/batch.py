"""Batches of which some files cannot be read.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain.dataio.batch import PaddedBatch


class Batch(PaddedBatch):
    """Padded batch of the utterances that could be read.

    Arguments
    ---------
    examples : list of dict
        With `id` and `sig`, which is None for a file that cannot be used.
    **kwargs : dict
        Of SpeechBrain's `PaddedBatch`.

    Example
    -------
    >>> good = {"id": "one", "sig": torch.zeros(3)}
    >>> batch = Batch([good, {"id": "other", "sig": None}])
    >>> batch.id, batch.bad, batch.empty
    (['one'], ['other'], False)
    """

    def __init__(self, examples, **kwargs):
        self.bad = [e["id"] for e in examples if e["sig"] is None]
        good = [e for e in examples if e["sig"] is not None]
        self.empty = not good
        if good:
            super().__init__(good, **kwargs)


class SkipBadFiles:
    """For a Brain, before SpeechBrain's: notes the files that could not be
    read in `bad_files`, a set, and skips batches that have no others."""

    def fit_batch(self, batch):
        """As SpeechBrain's; zero for a batch that is skipped."""
        self.bad_files.update(batch.bad)
        if batch.empty:
            return torch.zeros(())
        return super().fit_batch(batch)

    def evaluate_batch(self, batch, stage):
        """As `fit_batch`."""
        self.bad_files.update(batch.bad)
        if batch.empty:
            return torch.zeros(())
        return super().evaluate_batch(batch, stage)
