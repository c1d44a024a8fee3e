"""The second half of H6: seconds of training until a model is as good.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
import math

from speechbrain_lact.evaluation.adaptation.hypotheses import yes_or_no
from speechbrain_lact.evaluation.adaptation.systems import TUNED
from speechbrain_lact.evaluation.transfer.methods import CARRIED, INITIAL

CLOSE = 1.02  # times a WER: as good
SHARE = 0.5  # of fine-tuning's time, what H6 asks for


def judge(rows):
    """The second half of H6: time to the WER that fine-tuning ends with.

    That is fine-tuning of the first model without fast weights; and, for each
    model with them, of itself.

    Arguments
    ---------
    rows : list of dict
        Of `collect_rows`.

    Returns
    -------
    list of str
        Sentences.
    """
    lines = []
    for _, some in itertools.groupby(rows, key=lambda row: row["domain"]):
        some = list(some)
        memory = {row["system"]: row["memory"] for row in some}
        plain = [name for name in memory if not memory[name]][:1]
        for goal in (*plain, *filter(memory.get, memory)):
            part = [r for r in some if goal in (*plain, r["system"])]
            lines += _judge(goal, part)
    return lines


def _judge(goal, rows):
    """Sentences on one domain and goal."""
    paths = {}
    for row in rows:
        paths.setdefault((row["system"], row["way"]), []).append(row)
    target = paths[goal, TUNED][-1]["WER"]
    needed = {
        key: min(
            (r["seconds"] for r in path if r["WER"] <= CLOSE * target),
            default=math.inf,
        )
        for key, path in paths.items()
    }
    whole = needed[goal, TUNED]
    where = f"{rows[0]['domain']}, {goal} {TUNED} ({target:.1f} %)"
    lines, fastest = [], {}
    for (system, way), seconds in needed.items():
        text = f"{seconds:.1f} s"
        if seconds == math.inf:
            least = min(row["WER"] for row in paths[system, way])
            text = f"not reached (best: {least:.1f} %)"
        elif whole:
            text += f", {seconds / whole:.0%} of its {whole:.1f} s"
        lines.append(f"{where}: {system} {way}: {text}.")
        if way in (CARRIED, INITIAL):
            fastest[system] = min(seconds, fastest.get(system, seconds))
    for system, seconds in fastest.items():
        verdict = yes_or_no(seconds < SHARE * whole)
        if not whole:
            verdict = "no claim, for fine-tuning gained nothing"
        lines.append(f"H6, its second half, {where}: {system}: {verdict}.")
    return lines
