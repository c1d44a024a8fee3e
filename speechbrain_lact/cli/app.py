"""The command `speechbrain-lact`: its parts, errors and exit codes.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import logging
import os
import sys
import traceback
import warnings

import typer

from speechbrain_lact.cli.evaluate import evaluate
from speechbrain_lact.cli.language_model import language_model
from speechbrain_lact.cli.messages import complain
from speechbrain_lact.cli.options import UsageError
from speechbrain_lact.cli.stream import stream
from speechbrain_lact.cli.transcribe import transcribe
from speechbrain_lact.cli.voices import voices
from speechbrain_lact.utils.console import (
    STDOUT,
    Stderr,
    end_output,
    signals,
    standard_streams,
)

# torch and SpeechBrain take seconds to import: the commands import them where
# they are needed.

# Exit codes of a shell: 128 and the number of the signal. SIGPIPE: who reads
# standard output has gone away.
INTERRUPTED, UNREAD = 128 + 2, 128 + 13


app = typer.Typer(
    help="Speech recognition with LaCT models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


for command in (transcribe, voices, stream, evaluate, language_model):
    app.command()(command)


@contextlib.contextmanager
def _quiet():
    """Nothing but this package's own warnings on standard error."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # Libraries in C write to file descriptor 2: see `_load`.
    native, stderr = os.dup(2), sys.stderr
    sys.stderr = Stderr(native, getattr(stderr, "encoding", None))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("speechbrain-lact: %(message)s"))
    handler.setLevel(logging.WARNING)
    handler.addFilter(logging.Filter("speechbrain_lact"))
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)
        os.dup2(native, 2)
        sys.stderr.close()
        sys.stderr = stderr


def _run(args):
    """Does what the command line asks for; the exit code."""
    try:
        os.getcwd()
    except OSError:
        complain("the current folder has been deleted: go to another one")
        return 1
    try:
        command = typer.main.get_command(app)
        with command.make_context("speechbrain-lact", args) as context:
            command.invoke(context)
            return 0
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        complain(f"{error.format_message()} (see --help)")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except Exception as error:
        # Libraries may make another error of a signal.
        if signals.received is None:
            _report(error)
        return 1


def _report(error):
    """Says what went wrong, and where if that was not foreseen."""
    ordinary = isinstance(
        error, (OSError, ValueError, ImportError, MemoryError)
    )
    # torch has no class of its own for a CPU without memory.
    if ordinary or "memory" in str(error):
        return complain(error if str(error) else type(error).__name__)
    complain(f"please report this: {type(error).__name__}: {error}")
    traceback.print_exception(type(error), error, error.__traceback__)


def main(args=None):
    """The command `speechbrain-lact`.

    Arguments
    ---------
    args : list of str, optional
        In place of those of the process.
    """
    args = list(args or sys.argv[1:] or ["--help"])
    with standard_streams(), signals, _quiet():
        code = _run(args)
        error = end_output()
        if error is not None and code == 0:
            code = UNREAD if isinstance(error, BrokenPipeError) else 1
            if code != UNREAD:
                complain(f"{STDOUT}: {error.strerror}")
    sys.exit(signals.exit_code(code))
