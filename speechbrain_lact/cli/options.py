"""Options that several commands have.

Authors
* speechbrain_lact contributors 2026
"""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

import speechbrain_lact.inference

# The model that comes with the package: where nothing is imported for it.
MODEL = Path(speechbrain_lact.inference.__file__).parent / "model"
# Names of models, beside folders.
SMALL, WHISPER = "small", "whisper"

# Since 0.29 typer brings a click of its own: the error of both.
UsageError = typer.BadParameter.__base__


Model = Annotated[
    Optional[str],
    typer.Option(
        metavar="whisper|small|FOLDER",
        envvar="SPEECHBRAIN_LACT_MODEL",
        help="Whisper tiny.en (English), the small model that comes with the "
        "package, or a folder that a recipe's train.py has written.",
        show_default="whisper if its weights are installed, else small",
    ),
]


Device = Annotated[
    Optional[str],
    typer.Option(help="cpu, cuda, cuda:1.", show_default="cuda if there is"),
]


Block = Annotated[
    Optional[int],
    typer.Option(
        min=0,
        help="Encoder frames that are seen at once: more of them give fewer "
        "errors, later. 0: a recording is seen whole.",
        show_default="the model's",
    ),
]


Embedder = Annotated[
    Optional[str],
    typer.Option(
        metavar="resemblyzer|small|FOLDER|NAME",
        help="What tells voices apart: resemblyzer, the small one that comes "
        "with the package (for synthetic voices), a folder, or a name on the "
        "Hugging Face hub (which is then fetched), such as "
        "speechbrain/spkrec-ecapa-voxceleb.",
        show_default="resemblyzer if it is installed, else small",
    ),
]


Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run whatever code the YAMLs of the model and of the embedder "
        "name: for folders of people you trust alone. Those that this package "
        "writes do not need it.",
    ),
]


LanguageModel = Annotated[
    Optional[Path],
    typer.Option(
        "--lm",
        help="Language model, an ARPA file of words: for CTC models (not "
        "Whisper). `speechbrain-lact language-model` makes one of a text.",
    ),
]


LanguageModelWeight = Annotated[
    float,
    typer.Option("--lm-weight", min=0, help="Of --lm, beside the sound."),
]


HotWords = Annotated[
    Optional[Path],
    typer.Option(
        "--hotwords",
        help="Names and terms to prefer, a text file with one on each line: "
        "for CTC models (not Whisper).",
    ),
]


HotWordWeight = Annotated[
    float,
    typer.Option(
        "--hotword-weight",
        min=0,
        help="How much more likely each of --hotwords is: natural logarithm.",
    ),
]


def search_options(lm, lm_weight, hotwords, hotword_weight):
    """What a model is to search words with.

    Arguments
    ---------
    lm, hotwords : Path or None
        Files.
    lm_weight, hotword_weight : float
        Of each.

    Returns
    -------
    dict
        Arguments of `LaCTASR.set_search`; empty if there is neither file.
    """
    options = {}
    if lm is not None:
        options.update(lm=lm, lm_weight=lm_weight)
    if hotwords is not None:
        options.update(hotwords=hotwords, hotword_weight=hotword_weight)
    return options


class Case(str, Enum):
    """Letters of what is printed."""

    keep = "keep"
    lower = "lower"
    upper = "upper"


BatchSize = Annotated[
    int,
    typer.Option(min=1, help="Recordings of up to 60 s done at a time."),
]
