"""Verdicts on the hypotheses of docs/methodology.md.

Authors
* speechbrain_lact contributors 2026
"""

NO_DIFFERENCE = 0.05  # relative differences below are called none
H1_GAIN = 0.10  # what H1 asks for
MARGIN = 0.05  # of H4 and H5
MAX_COST = 0.01  # s of learning per s of audio (H6)


def verdict(row):
    """What docs/methodology.md makes of a row of the hypotheses.

    Arguments
    ---------
    row : dict
        Of `Results.hypotheses`.

    Returns
    -------
    str
    """
    difference, high = row["difference"], row["difference_high"]
    low, decided = row["difference_low"], row["same_sign_in_all_seeds"]
    if difference is None or row["p"] is None:
        return "no claim"
    if row["hypothesis"] == "H4":
        return yes_or_no(high is not None and high < MARGIN)
    if row["hypothesis"] == "H5":
        return yes_or_no(low is not None and low > -MARGIN)
    if not decided:
        return "not decided"
    if abs(difference) < NO_DIFFERENCE:
        return "no difference"
    least = H1_GAIN if row["hypothesis"] == "H1" else NO_DIFFERENCE
    return yes_or_no(difference <= -least and row["p_corrected"] < 0.05)


def yes_or_no(holds):
    """What a report says of a hypothesis that holds, or does not."""
    return "holds" if holds else "does not hold"
