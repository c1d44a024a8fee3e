"""Groups of a test set's speakers: by sex, accent, speed and the like.

Authors
* speechbrain_lact contributors 2026
"""

import re
from pathlib import Path

import numpy as np


def speaker_slices(data_folder, sets):
    """Speakers by what SPEAKERS.TXT says of them.

    Values such as `rate=150` give thirds of the speakers; sex and accent give
    a slice each.

    Arguments
    ---------
    data_folder : Path
    sets : dict of list of Utterance

    Returns
    -------
    dict of dict of set
        By condition and name of the slice; empty without such a file.
    """
    path = Path(data_folder) / "SPEAKERS.TXT"
    if not path.is_file():
        return {}
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith(";") or len(cells) < 5:
            continue
        known[cells[0]] = {"sex": cells[1]}
        known[cells[0]].update(re.findall(r"(\w+)=(.+?)(?= \w+=|$)", cells[4]))
    slices = {}
    for condition, utterances in sets.items():
        voices = {u.speaker: known.get(u.speaker, {}) for u in utterances}
        slices[condition] = found = {}
        for key in sorted(
            {key for values in voices.values() for key in values}
        ):
            values = {v: x[key] for v, x in voices.items() if key in x}
            found.update(_slices(key, values))
    return slices


def _slices(key, values):
    """Thirds by number, or groups by name."""
    if all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values.values()):
        order = sorted(values, key=lambda voice: float(values[voice]))
        for third in np.array_split(np.array(order, object), 3):
            if len(third):
                ends = values[third[0]], values[third[-1]]
                yield f"{key} {' to '.join(ends)}", set(third)
        return
    for value in sorted(set(values.values())):
        yield f"{key} {value}", {v for v, x in values.items() if x == value}
