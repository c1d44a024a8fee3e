"""The command `language-model`: a text becomes a language model.

Authors
* speechbrain_lact contributors 2026
"""

from pathlib import Path
from typing import Annotated

import typer

from speechbrain_lact.cli.evaluate import MANIFESTS, read_data
from speechbrain_lact.utils.console import (
    check_new_file,
    refuse_existing,
    refuse_same,
    say,
    whole,
)


def language_model(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="TEXT|DATA",
            help="A text file with a sentence on each line, or recordings and "
            "their words as `evaluate --manifest` takes them (those of the "
            "training data, not of the test).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="ARPA file to write.")],
    order: Annotated[
        int, typer.Option(min=2, max=6, help="Words of an n-gram.")
    ] = 3,
):
    """Makes a language model for `transcribe --lm` and `evaluate --lm`.

    The text is put in upper case and Unicode NFC, as transcripts are; marks
    of punctuation at the ends of words are left out.
    """
    refuse_same({"the text": source, "--out": out})
    check_new_file(out)
    refuse_existing(out)
    from speechbrain_lact.decoders.ngram import make_arpa

    sentences = _sentences(source)
    try:
        arpa = make_arpa(sentences, order)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    with whole(out) as part:
        Path(part).write_text(arpa, "utf-8")
    words = arpa.splitlines()[1].rpartition("=")[2]
    say(f"{len(sentences)} sentences, {int(words) - 3} different words")


def _sentences(source):
    """Sentences of a text or of recordings, normalised."""
    from speechbrain_lact.dataio.manifests import normalise_text, text_lines
    from speechbrain_lact.inference.words import bare

    if source.is_dir() or source.suffix.lower() in MANIFESTS:
        texts = [recording.text for recording in read_data(source)[0]]
    else:
        if not source.is_file():
            raise ValueError(f"{source}: no such file or folder")
        texts = []
        for number, line in text_lines(source):
            if line is None:
                raise ValueError(f"{source}:{number}: not text in UTF-8")
            texts.append(normalise_text(line))
    texts = [" ".join(filter(None, map(bare, t.split()))) for t in texts]
    return [text for text in texts if text]
