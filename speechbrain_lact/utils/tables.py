"""Tables in Markdown.

It is here, not in `evaluation`, because cards of exported models and training
write tables, too.

Authors
* speechbrain_lact contributors 2026
"""

from tabulate import tabulate


def markdown_table(rows, head="keys"):
    """A table as Markdown; every cell as `str` has it.

    Arguments
    ---------
    rows : list of dict, or list of list
        Dictionaries with the same keys, or cells; what is None is left empty.
    head : list of str
        Of the columns; default: the keys of the dictionaries.

    Returns
    -------
    str

    Example
    -------
    >>> print(markdown_table([{"system": "LaCT", "WER": "24.50"}]))
    | system   | WER   |
    |----------|-------|
    | LaCT     | 24.50 |
    """
    return tabulate(
        rows, head, tablefmt="github", disable_numparse=True, missingval=""
    )
