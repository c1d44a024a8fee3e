"""Where each of the speakers speaks: short windows of a stretch of speech.

Authors
* speechbrain_lact contributors 2026
"""

import math

import torch
import torch.nn.functional as F

# Windows that are given to speakers, and how far apart they begin [s].
WINDOW, HOP = 1.0, 0.25


# Two speak at once where a voice is between two speakers: less than so far
# from being more alike one than the other, for so long [s]. It is a share of
# what the embedder's threshold lacks to 1.
MARGIN, TOGETHER = 0.136, 0.75


def split_windows(start, end, size, hop):
    """Windows of a stretch of speech; the last ends where it does.

    Arguments
    ---------
    start, end : float
        Of the stretch.
    size : float
        Of a window, if the stretch is not shorter.
    hop : float
        From the start of a window to the next one's, but the last.

    Returns
    -------
    torch.Tensor
        Start and end of each, in seconds [N, 2].

    Example
    -------
    >>> split_windows(1.0, 2.25, size=1.0, hop=0.5).tolist()
    [[1.0, 2.0], [1.25, 2.25]]
    """
    count = max(int(math.ceil((end - start - size) / hop - 1e-6)), 0) + 1
    starts = start + hop * torch.arange(count, dtype=torch.double)
    starts[-1] = max(end - size, start)
    return torch.stack([starts, (starts + size).clamp_max(end)], 1)


def give_each_a_window(alike):
    """Gives a speaker who is nearest to no window the one that is least far
    from being his or hers: so many speakers are asked for.

    Arguments
    ---------
    alike : torch.Tensor
        How much each window is like each speaker [N, K]; it is changed.

    Example
    -------
    >>> alike = torch.tensor([[0.9, 0.1], [0.8, 0.7]])
    >>> give_each_a_window(alike)
    >>> alike.argmax(1).tolist()
    [0, 1]
    """
    for who in range(alike.shape[1]):
        if not (alike.argmax(1) == who).any():
            row = (alike[:, who] - alike.amax(1)).argmax()
            alike[row, who] = 2.0  # more than a cosine


def assign(bounds, windows, scores, threshold):
    """Who speaks in a stretch of speech.

    Arguments
    ---------
    bounds : tuple of float
        Its start and end.
    windows : torch.Tensor
        Start and end of each [N, 2].
    scores : torch.Tensor
        How much each is like each speaker [N, K].
    threshold : float
        Cosine similarity from which on two voices are one.

    Returns
    -------
    list of (start, end, speaker)

    Example
    -------
    >>> windows = split_windows(0.0, 2.0, WINDOW, HOP)
    >>> scores = torch.tensor([[0.9, 0.0]] * 2 + [[0.0, 0.9]] * 3)
    >>> assign((0.0, 2.0), windows, scores, threshold=0.6)
    [(0.0, 1.0, 0), (1.0, 2.0, 1)]
    """
    start, end = bounds
    cells = max(round((end - start) / HOP), 1)
    edges = torch.linspace(start, end, cells + 1, dtype=torch.double)
    centres = (edges[1:] + edges[:-1]) / 2
    # A window says most of what is in its middle.
    middles, halves = windows.mean(1), (windows[:, 1] - windows[:, 0]) / 2
    near = 1 - (centres[:, None] - middles).abs() / halves
    weights = near.clamp_min(0) + 1e-6 * (near == near.amax(1, keepdim=True))
    scores = weights @ scores.double() / weights.sum(1, keepdim=True)
    best = scores.argmax(1)
    speaks = F.one_hot(best, scores.shape[1]).bool()
    if scores.shape[1] > 1:
        (first, second), pair = scores.topk(2, 1).values.T, scores.topk(2, 1)
        margin = MARGIN * (1 - threshold)
        for a, b in _runs(first - second < margin):
            if float(edges[b] - edges[a]) >= TOGETHER:
                speaks[a:b].scatter_(1, pair.indices[a:b], True)
    return [
        (float(edges[a]), float(edges[b]), who)
        for who in range(scores.shape[1])
        for a, b in _runs(speaks[:, who])
    ]


def _runs(flags):
    """Start and end of each run of true values."""
    steps = torch.diff(F.pad(flags.int(), (1, 1)))
    return list(zip(steps.eq(1).nonzero()[:, 0], steps.eq(-1).nonzero()[:, 0]))
