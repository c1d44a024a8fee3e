"""Segments as RTTM files.

Authors
* speechbrain_lact contributors 2026
"""

import re
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np

from speechbrain_lact.processing.diarization.segments import Segment

# What cannot stand in a field of RTTM, or would be read as something else.
UNSAFE = re.compile(r"[\s%\x00-\x1f\x7f\ud800-\udfff]")


def write_rttm(segments, path, recording):
    """Writes segments as RTTM.

    Arguments
    ---------
    segments : list of Segment
        At least one.
    path : str or Path
        The file.
    recording : str
        What the recording is called in it.
    """
    rows = [
        [_field(recording), s.start, s.end, _field(s.speaker)] for s in segments
    ]
    if not rows:
        raise ValueError(f"{path}: nobody speaks: no segments to write")
    _speechbrain().write_rttm(rows, str(path))


def read_rttm(path):
    """Reads the segments of one recording.

    Arguments
    ---------
    path : str or Path
        A file that `write_rttm`, or another program, has written.

    Returns
    -------
    list of Segment
        In the order of time.

    Raises
    ------
    ValueError
        If the file is no RTTM, or of several recordings.
    """
    segments, recordings = [], set()
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, seconds = float(fields[3]), float(fields[4])
            speaker = unquote(fields[7], errors="surrogatepass")
            if not (0 <= start < np.inf and 0 <= seconds < np.inf):
                raise ValueError("a time is negative or infinite")
        except (IndexError, ValueError) as error:
            raise ValueError(
                f"{path}: line {number} is no RTTM: {error}"
            ) from error
        recordings.add(fields[1])
        segments.append(Segment(start, round(start + seconds, 4), speaker))
    if len(recordings) != 1:
        raise ValueError(
            f"{path}: segments of {len(recordings)} recordings; one is needed"
        )
    return sorted(segments, key=lambda s: (s.start, s.end))


def _field(text):
    """A text without white space, as RTTM has it; `unquote` undoes it."""

    def escape(match):
        return quote(match[0], safe="", errors="surrogatepass")

    return UNSAFE.sub(escape, str(text))


def _speechbrain():
    """SpeechBrain's module; importing it leaves NumPy's generator alone."""
    state = np.random.get_state()
    try:
        from speechbrain.integrations.alignment import diarization

        return diarization
    except ImportError as error:
        raise ImportError(
            "SpeechBrain's diarization needs scikit-learn: pip install "
            "scikit-learn"
        ) from error
    finally:
        np.random.set_state(state)
