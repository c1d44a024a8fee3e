"""Cells of tables: rates with their intervals, differences, p values.

Authors
* speechbrain_lact contributors 2026
"""


def rate_cell(rate, form="{:.1f}"):
    """A value and its interval, if there are any.

    Arguments
    ---------
    rate : tuple of float
        Value, lower and upper end; each may be None.
    form : str
        Format of a number.

    Returns
    -------
    str, optional

    Example
    -------
    >>> rate_cell((12.34, 10, None)), rate_cell((12.34, 10, 15))
    ('12.3', '12.3 [10.0, 15.0]')
    """
    middle, low, high = rate
    if middle is None:
        return None
    text = form.format(middle)
    if low is None or high is None:
        return text
    return f"{text} [{form.format(low)}, {form.format(high)}]"


def interval_cell(row, key):
    """A rate and its interval.

    Arguments
    ---------
    row : dict
        With `key`, `key_low` and `key_high`.
    key : str

    Returns
    -------
    str, optional

    Example
    -------
    >>> interval_cell({"WER": 5.0, "WER_low": 4.0, "WER_high": 6.0}, "WER")
    '5.0 [4.0, 6.0]'
    """
    return rate_cell((row[key], row[f"{key}_low"], row[f"{key}_high"]))


def difference_cell(row):
    """A relative difference and its interval, in percent.

    Arguments
    ---------
    row : dict
        With `difference`, `difference_low`, `difference_high` and
        `same_sign_in_all_seeds`.

    Returns
    -------
    str, optional

    Example
    -------
    >>> row = {"difference": -0.25, "difference_low": None}
    >>> row |= {"difference_high": None, "same_sign_in_all_seeds": False}
    >>> difference_cell(row)
    '-25.0 (signs differ)'
    """
    keys = ("difference", "difference_low", "difference_high")
    percent = [None if row[k] is None else 100 * row[k] for k in keys]
    text = rate_cell(percent, "{:+.1f}")
    if row["same_sign_in_all_seeds"] is False:
        text = f"{text} (signs differ)"
    return text


def percent_cell(value):
    """A share in percent, if there is one.

    Arguments
    ---------
    value : float, optional

    Returns
    -------
    str, optional

    Example
    -------
    >>> percent_cell(0.25)
    '25'
    """
    return None if value is None else f"{100 * value:.0f}"


def p_cell(value):
    """A p value, if there is one.

    Arguments
    ---------
    value : float, optional

    Returns
    -------
    str, optional

    Example
    -------
    >>> p_cell(0.03), p_cell(0.0001)
    ('0.0300', '< 0.0002')
    """
    if value is None:
        return None
    return "< 0.0002" if value < 0.0002 else f"{value:.4f}"


def cost_cell(value):
    """Seconds of compute per second of audio.

    Arguments
    ---------
    value : float

    Returns
    -------
    str

    Example
    -------
    >>> cost_cell(0.00123)
    '0.0012'
    """
    return f"{value:.4f}"
