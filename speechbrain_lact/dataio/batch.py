"""Batches of which some files cannot be read.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain.dataio.batch import PaddedBatch


class Batch(PaddedBatch):
    """Padded batch of the utterances that could be read.

    Arguments
    ---------
    examples : list of dict
        With `id` and `sig`, which is None for a file that cannot be used.
        There may be none at all.
    **kwargs : dict
        Of SpeechBrain's `PaddedBatch`.

    Example
    -------
    >>> import torch
    >>> good = {"id": "one", "sig": torch.zeros(3)}
    >>> batch = Batch([good, {"id": "other", "sig": None}])
    >>> batch.id, batch.bad, batch.empty
    (['one'], ['other'], False)
    """

    def __init__(self, examples, **kwargs):
        good = [e for e in examples if e.get("sig", e) is not None]
        self.bad = [e["id"] for e in examples if e.get("sig", e) is None]
        self.empty = not good
        if good:
            super().__init__(good, **kwargs)
