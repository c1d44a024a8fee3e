"""A measure, or the reason why there is none.

Authors
* speechbrain_lact contributors 2026
"""


def add_measure(found, name, function, *arguments):
    """Adds a measure, or why there is none.

    Arguments
    ---------
    found : dict
        Gets the measure, or None and the reason under `skipped`.
    name : str
        The measure's.
    function : callable
        Computes it, or raises a ValueError that says why it cannot.
    *arguments
        The function's.

    Example
    -------
    >>> found = {"skipped": {}}
    >>> add_measure(found, "number", float, "none")
    >>> found["number"], found["skipped"]
    (None, {'number': "could not convert string to float: 'none'"})
    """
    try:
        found[name] = float(function(*arguments))
    except ValueError as error:
        found[name], found["skipped"][name] = None, str(error)
