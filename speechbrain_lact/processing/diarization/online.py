"""Speakers of a stream, one segment after the other.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.processing.diarization.cluster import least_similarity
from speechbrain_lact.processing.diarization.segments import new_names


class OnlineClusters:
    """Speakers so far: a voice is that of the nearest one, or a new one's.

    Arguments
    ---------
    threshold : float
        Least cosine similarity to a speaker.
    bank : SpeakerBank, optional
        Speakers that are known by name.

    Example
    -------
    >>> import torch
    >>> speakers, (ann, bo) = OnlineClusters(0.5), torch.eye(2)
    >>> [speakers.assign(voice, 2.0) for voice in (ann, bo, ann)]
    ['speaker1', 'speaker2', 'speaker1']
    """

    # Seconds of speech in which a new speaker can be recognised as new.
    MIN_SECONDS = 0.75

    def __init__(self, threshold, bank=None):
        self.threshold, self.bank = threshold, bank
        self.sums, self.seconds = {}, {}
        self._free = new_names(() if bank is None else bank)

    def assign(self, voice, seconds):
        """Whose voice it is.

        Arguments
        ---------
        voice : torch.Tensor
            Embedding of length 1 [E].
        seconds : float
            What it is of. A short one is never a new speaker's, unless nobody
            has spoken before.

        Returns
        -------
        str
            Name in the bank, or speaker1, speaker2, ...
        """
        # How much more alike it is than one voice is at least.
        margins = {
            name: float(total @ voice) / self.seconds[name]
            - least_similarity(self.threshold, seconds, self.seconds[name])
            for name, total in self.sums.items()
        }
        if self.bank is not None:
            known, likeness = self.bank.nearest(voice)
            if known is not None:
                margin = likeness - self.threshold
                margins[known] = max(margin, margins.get(known, margin))
        nearest = max(margins, key=margins.get, default=None)
        if nearest is None or (
            margins[nearest] < 0 and seconds >= self.MIN_SECONDS
        ):
            nearest = next(self._free)
        elif margins[nearest] < 0:
            return nearest
        self.sums[nearest] = self.sums.get(nearest, 0) + seconds * voice
        self.seconds[nearest] = self.seconds.get(nearest, 0) + seconds
        return nearest
