"""How many speakers there are: agglomerative clustering of embeddings.

Authors
* speechbrain_lact contributors 2026
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.hierarchy import fcluster, linkage

# Windows that are clustered; of longer recordings, so many evenly chosen ones.
MAX_WINDOWS = 2000


# How much the little that is said lowers what is asked of one voice [s ** 0.5]
# (see `least_similarity`): chosen on training voices of three corpora, with two
# embedders, where one person was one speaker in 26 of 30 recordings.
UNSURE = 1.5


def least_similarity(threshold, *seconds):
    """Mean similarity of two groups of windows from which on they are one
    voice.

    Little speech says little about a voice, so the less there is, the less
    alike two groups of one voice may be. The allowance shrinks with the square
    root of the seconds, as the error of a mean does. It is a share of the
    threshold and of what lacks it to 1, so that other embedders need no other
    constant.

    Arguments
    ---------
    threshold : float
        That of the embedder, for long recordings.
    *seconds : float or numpy.ndarray
        How much speech there is in each of the two groups.

    Returns
    -------
    float or numpy.ndarray

    Example
    -------
    >>> [round(least_similarity(0.6, s, s), 2) for s in (2, 8, 32)]
    [0.24, 0.42, 0.51]
    """
    unsure = sum(1 / s for s in seconds) ** 0.5
    return threshold * (1 - UNSURE * (1 - threshold) * unsure)


def cluster(voices, seconds, threshold, number=None):
    """Speakers by agglomerative clustering with average linkage (SciPy's).

    A branch of the tree is split where its two parts are less alike than
    `least_similarity`, or where one of them is to be split. With a number, as
    many splits are made, those first that are clearest by the same measure.

    Arguments
    ---------
    voices : torch.Tensor
        Embeddings of length 1 [N, E].
    seconds : torch.Tensor
        Speech that each stands for [N].
    threshold : float
        Cosine similarity of two long recordings from which on they are one
        voice.
    number : int, optional
        Number of speakers, if it is known.

    Returns
    -------
    torch.Tensor
        Centroids of length 1 [K, E].

    Example
    -------
    >>> voices, seconds = torch.eye(3).repeat(8, 1), torch.ones(24)
    >>> cluster(voices, seconds, 0.5).shape
    torch.Size([3, 3])
    >>> cluster(voices[::3], seconds[::3], 0.5).shape
    torch.Size([1, 3])
    """
    share = max(len(voices) / MAX_WINDOWS, 1.0)
    rows = torch.linspace(0, len(voices) - 1, int(len(voices) / share)).long()
    voices, seconds = voices[rows], seconds[rows].double().numpy() * share
    if len(voices) == 1 or number == 1:
        return _centroids([voices])
    distances = (1 - voices @ voices.T).clamp_min(0).double().numpy()
    tree = linkage(distances[np.triu_indices(len(voices), 1)], "average")
    # For each branch, how much its parts, or those of a part of it, are less
    # alike than one voice; what is split first is above what is split next.
    speech, unlike = [*seconds], [-np.inf] * len(voices)
    for one, other, distance, _ in tree:
        one, other = int(one), int(other)
        lack = (
            distance
            - 1
            + least_similarity(threshold, speech[one], speech[other])
        )
        speech.append(speech[one] + speech[other])
        below = max(unlike[one], unlike[other])
        unlike.append(max(lack, np.nextafter(below, np.inf)))
    unlike = np.array(unlike[len(voices) :])
    most = 0.0
    if number is not None:
        most = np.sort(np.append(unlike, -np.inf))[-number]
    labels = fcluster(tree, most, "monocrit", monocrit=unlike)
    labels = torch.from_numpy(labels).long() - 1
    return _clearest(voices, labels)


def _clearest(voices, labels):
    """Centroids of the half of each group that is least like the others: some
    windows hold two voices."""
    groups = [voices[labels == label] for label in labels.unique()]
    centroids = _centroids(groups)
    if len(groups) == 1:
        return centroids
    chosen = []
    for who, group in enumerate(groups):
        alike = group @ centroids.T
        own = alike[:, who].clone()
        alike[:, who] = -1.0
        margins = own - alike.amax(1)
        chosen.append(group[margins >= margins.median()])
    return _centroids(chosen)


def _centroids(groups):
    return F.normalize(torch.stack([g.mean(0) for g in groups]), dim=1)
