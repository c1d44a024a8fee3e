"""Cuts recordings: where they are quiet, and by who speaks.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain_lact.dataio.audio import LEAST_SECONDS
from speechbrain_lact.processing.diarization.segments import Segment

# Seconds of a piece of a recording, at least and at most.
MIN_PIECE, MAX_PIECE = 10.0, 20.0
# Seconds that are quiet around a cut.
QUIET = 0.1
# Seconds before and after a segment that are recognised with it.
EDGE = 0.15


def cut_quietly(
    pieces, sample_rate, least=MIN_PIECE, most=MAX_PIECE, quiet=QUIET
):
    """Joins pieces of a recording and cuts them again where it is quiet.

    Arguments
    ---------
    pieces : iterable of torch.Tensor
        Samples [S].
    sample_rate : int
        Samples a second.
    least, most : float
        Seconds of a piece.
    quiet : float
        Seconds that are quiet around a cut.

    Yields
    ------
    torch.Tensor
        Pieces of `least` to `most` seconds, cut in the middle of the quietest
        stretch; the last may be shorter.

    Example
    -------
    >>> audio = torch.ones(25 * 100)
    >>> audio[1200:1220] = 0
    >>> [len(piece) for piece in cut_quietly([audio], sample_rate=100)]
    [1205, 1295]
    """
    least, most = (int(s * sample_rate) for s in (least, most))
    width, kept = int(quiet * sample_rate), None
    for piece in pieces:
        kept = piece if kept is None else torch.cat([kept, piece])
        while len(kept) >= most:
            power = kept[least:most].square()
            power = power[: len(power) // width * width].view(-1, width)
            cut = least + int(power.mean(1).argmin()) * width + width // 2
            yield kept[:cut]
            kept = kept[cut:]
    if kept is not None and len(kept):
        yield kept


def cut_segments(wav, segments, sample_rate):
    """Samples of each segment and a little more, where nobody speaks; those
    of long ones in pieces.

    Arguments
    ---------
    wav : torch.Tensor
        Samples [S].
    segments : list of Segment
        Who speaks when.
    sample_rate : int
        Samples a second.

    Returns
    -------
    list of (Segment, float, torch.Tensor)
        Segment or part of one, with start and samples of what is recognised,
        in the order of time.

    Example
    -------
    >>> segments = [Segment(1.0, 2.0, "Ann"), Segment(2.1, 3.0, "Bo")]
    >>> for segment, start, part in cut_segments(
    ...     torch.zeros(500), segments, sample_rate=100
    ... ):
    ...     print(segment.start, segment.end, start, len(part))
    1.0 2.0 0.85 125
    2.1 3.0 2.0 115
    """
    cut = []
    for one in segments:
        before, after = 0.0, len(wav) / sample_rate
        for other in segments:
            if other is not one and other.start < one.end:
                before = max(before, min(other.end, one.start))
            if other is not one and other.end > one.start:
                after = min(after, max(other.start, one.end))
        first = round(max(one.start - EDGE, before) * sample_rate)
        last = round(min(one.end + EDGE, after) * sample_rate)
        for part in cut_quietly([wav[first:last].cpu()], sample_rate):
            start = first / sample_rate
            first += len(part)
            begin = round(max(start, one.start), 3)
            end = min(round(one.end, 3), milliseconds(first, sample_rate))
            # Not a part that lies before or behind the segment.
            if len(part) >= LEAST_SECONDS * sample_rate and begin < end:
                found = Segment(begin, end, one.speaker)
                cut.append((found, start, part))
    return sorted(cut, key=lambda found: found[0].start)


def milliseconds(samples, sample_rate):
    """Seconds of so many samples, rounded down to milliseconds: no time is
    after them.

    Arguments
    ---------
    samples : int
    sample_rate : int

    Returns
    -------
    float

    Example
    -------
    >>> milliseconds(31999, 16000)
    1.999
    """
    return samples * 1000 // sample_rate / 1000
