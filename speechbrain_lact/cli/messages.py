"""What is said of errors: a line each.

Authors
* speechbrain_lact contributors 2026
"""

import sys
import textwrap

import typer

from speechbrain_lact.inference.transcripts import printable
from speechbrain_lact.utils.console import describe


def complain(message):
    """Prints an error in one line, above a progress bar if there is one.

    Arguments
    ---------
    message : str or Exception
        What is wrong.
    """
    from tqdm import tqdm

    line = printable(describe(message))
    tqdm.write(f"speechbrain-lact: {line}", file=sys.stderr)


def brief(error):
    """The beginning of a message that may list every parameter.

    Arguments
    ---------
    error : Exception

    Returns
    -------
    str

    Example
    -------
    >>> brief(ValueError("missing: " + "weight " * 50))[-17:]
    'weight weight ...'
    """
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def count(total, failed, what):
    """Says how many recordings failed, and ends the command.

    Arguments
    ---------
    total : int
        Recordings that there were.
    failed : int
        Those of them that failed.
    what : str
        What was done with the others.

    Raises
    ------
    typer.Exit
        If some failed.
    """
    if failed and total > 1:
        complain(f"{total - failed} of {total} {what}, {failed} failed")
    if failed:
        raise typer.Exit(1)
