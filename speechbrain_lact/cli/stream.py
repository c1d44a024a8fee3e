"""The command `stream`: standard input to text, while it comes.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import math
from pathlib import Path
from typing import Annotated, Optional

import typer

from speechbrain_lact.cli.inputs import standard_input
from speechbrain_lact.cli.model import choose_model, load_quietly
from speechbrain_lact.cli.options import (
    Block,
    Device,
    HotWords,
    LanguageModel,
    Model,
    Trust,
    UsageError,
)
from speechbrain_lact.utils.console import (
    check_new_file,
    need_stdout,
    say,
    signals,
)


def stream(
    model: Model = None,
    piece: Annotated[
        float,
        typer.Option(help="Seconds that the model hears at a time, at least."),
    ] = 0.1,
    rate: Annotated[
        Optional[int],
        typer.Option(
            min=1000,
            max=768000,
            help="Samples a second of raw audio.",
            show_default="the model's",
        ),
    ] = None,
    max_lag: Annotated[
        Optional[float],
        typer.Option(
            help="Seconds behind real time at which the memory is only read, "
            "until the model has caught up.",
        ),
    ] = None,
    state: Annotated[
        Optional[Path],
        typer.Option(
            help="File of the session: goes on from it if it is there, and "
            "leaves it there when the input ends. The last word may not be "
            "whole then: the run that goes on prints it.",
        ),
    ] = None,
    device: Device = None,
    block: Block = None,
    lm: LanguageModel = None,
    hotwords: HotWords = None,
    trust: Trust = False,
):
    """Writes down what comes in on standard input, while it comes.

    Takes WAV (any rate and channels) or raw 16-bit PCM (one channel, little
    endian). Each word is printed as soon as it is complete.
    """
    if lm is not None or hotwords is not None:
        raise UsageError(
            "--lm and --hotwords: not for a stream, whose words are final as "
            "soon as they are printed: `transcribe` takes whole recordings"
        )
    if not 0 < piece < math.inf:
        raise UsageError(f"--piece {piece}: a number of seconds above 0")
    if max_lag is not None and not 0 <= max_lag < math.inf:
        raise UsageError(f"--max-lag {max_lag}: a number of seconds, 0 or more")
    if state is None:
        need_stdout()
    else:
        check_new_file(state)
    model = choose_model(model)
    asr = before = None
    # A state that cannot be used is refused before anybody speaks.
    if state is not None and state.exists():
        asr = load_quietly(model, device, block, trust)
        before = asr.load_state(state, rows=1)
    incoming = standard_input(rate)
    asr = asr or load_quietly(model, device, block, trust)
    session, space = asr.stream(before, max_lag), ""

    def tell(words):
        """Prints words at once."""
        nonlocal space
        for word in words:
            # A mark that comes later belongs to the word before it.
            mark = not any(c.isalnum() for c in word.text)
            say(word.text if mark else space + word.text, "")
            space = " "

    try:
        # The one who speaks may end it by Ctrl-C, a service by SIGTERM.
        with contextlib.suppress(KeyboardInterrupt):
            for samples in incoming.pieces(piece, asr.sample_rate):
                # What was recognised is in the state, and was printed.
                with signals.hold():
                    tell(session.feed(samples).words)
    finally:
        kept = False
        try:
            if state is not None:
                _save(session, state)
                kept = True
        finally:
            # The last word is in the state, or is printed.
            tell([] if kept else session.finish().words)
            say("")


def _save(session, path):
    """Keeps a session; an error names the file."""
    try:
        session.save(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
