"""The command `voices`: the bank of speakers.

Authors
* speechbrain_lact contributors 2026
"""

from pathlib import Path
from typing import Annotated, Optional

import typer

from speechbrain_lact.cli.model import choose_model, load_quietly
from speechbrain_lact.cli.options import Block, Device, Embedder, Model, Trust
from speechbrain_lact.inference.transcripts import printable
from speechbrain_lact.utils.console import check_new_folder, say


def voices(
    bank: Annotated[
        Path,
        typer.Argument(
            metavar="BANK", help="Folder of voices; made if need be."
        ),
    ],
    enrol: Annotated[
        Optional[tuple[str, str]],
        typer.Option(
            metavar="NAME FILE",
            help="Learn a voice from a recording in which nobody else speaks.",
        ),
    ] = None,
    rename: Annotated[
        Optional[tuple[str, str]],
        typer.Option(metavar="OLD NEW", help="Call a voice by another name."),
    ] = None,
    forget: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="Remove a voice and all about it."),
    ] = None,
    model: Model = None,
    embedder: Embedder = None,
    device: Device = None,
    block: Block = None,
    trust: Trust = False,
):
    """Keeps the voices that `transcribe --speakers --bank` knows.

    Prints their names, a line each, the one heard longest ago first. A bank
    belongs to the model and the embedder that it was made with.
    """
    check_new_folder(bank)
    folder = choose_model(model, "voices")
    asr = load_quietly(folder, device, block, trust)
    with open_bank(bank, asr, load_voices(embedder, asr, trust)) as found:
        if enrol:
            found.enrol(*enrol)
        if rename:
            found.rename(*rename)
        if forget:
            found.forget(forget)
        for name in found.names():
            say(printable(name))


def load_voices(embedder, asr, trust=False):
    """What tells voices apart.

    Arguments
    ---------
    embedder : str, optional
        `resemblyzer`, `small`, a folder or a name on the hub.
    asr : LaCTASR
        The model, whose device it is put on.
    trust : bool
        Whether whatever its YAML names may run.

    Returns
    -------
    EncoderClassifier
    """
    from speechbrain_lact.inference.speakers import load_embedder

    options = {"device": str(asr.device)}
    return load_embedder(embedder, trust, run_opts=options)


def open_bank(folder, asr, embedder):
    """A bank of voices.

    Arguments
    ---------
    folder : Path
    asr : LaCTASR
    embedder : EncoderClassifier

    Returns
    -------
    SpeakerBank
    """
    from speechbrain_lact.inference.speakers import SpeakerBank

    return SpeakerBank(folder, asr, embedder)
