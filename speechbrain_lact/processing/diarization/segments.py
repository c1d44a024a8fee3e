"""Stretches of speech and whose they are.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
from dataclasses import dataclass, replace

# Pauses of a speaker that do not end a segment [s].
GAP = 0.5


@dataclass
class Segment:
    """A stretch of speech, in seconds, and whose it is."""

    start: float
    end: float
    speaker: str


def merge(segments, gap=GAP):
    """Segments in the order of time, joined where a speaker only pauses.

    Arguments
    ---------
    segments : list of Segment
    gap : float
        Pauses up to so long, in seconds, in which nobody else speaks.

    Returns
    -------
    list of Segment

    Example
    -------
    >>> a, b, c = (
    ...     Segment(0, 1, "Ann"),
    ...     Segment(1.2, 3, "Ann"),
    ...     Segment(3.1, 4, "Bo"),
    ... )
    >>> [(s.start, s.end, s.speaker) for s in merge([a, b, c])]
    [(0, 3, 'Ann'), (3.1, 4, 'Bo')]
    """
    found, last = [], {}
    for segment in sorted(segments, key=lambda s: (s.start, s.end)):
        before = last.get(segment.speaker)
        # The latest of every other speaker: nobody has begun since.
        others = [s.end for name, s in last.items() if s is not before]
        if before is not None and (
            segment.start <= before.end
            or segment.start <= before.end + gap
            and max(others, default=0) <= before.end
        ):
            before.end = max(before.end, segment.end)
        else:
            found.append(replace(segment))
            last[segment.speaker] = found[-1]
    return found


def new_names(taken):
    """Names for speakers who have none: speaker1, speaker2, ...

    Arguments
    ---------
    taken : container of str
        What others are called.

    Yields
    ------
    str

    Example
    -------
    >>> names = new_names({"speaker1", "Ann"})
    >>> next(names), next(names)
    ('speaker2', 'speaker3')
    """
    for number in itertools.count(1):
        if f"speaker{number}" not in taken:
            yield f"speaker{number}"


def alone(name, segments):
    """Where one speaks alone.

    Arguments
    ---------
    name : str
        Of the speaker.
    segments : list of Segment
        Of all speakers.

    Returns
    -------
    list of tuple of float
        Start and end of each stretch.

    Example
    -------
    >>> alone("Ann", [Segment(0, 3, "Ann"), Segment(2, 4, "Bo")])
    [(0, 2)]
    """
    found = []
    for segment in segments:
        if segment.speaker != name:
            continue
        start = segment.start
        for other in sorted(segments, key=lambda s: s.start):
            if other.speaker != name and other.end > start:
                found.append((start, min(other.start, segment.end)))
                start = max(start, other.end)
        found.append((start, segment.end))
    return [(start, end) for start, end in found if start < end]
