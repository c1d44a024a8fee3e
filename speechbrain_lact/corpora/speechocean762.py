"""Manifests of speechocean762 as it was published.

speechocean762 (https://www.openslr.org/101, free for any use as its README
says, CC BY 4.0 at OpenSLR) has 5,000 English sentences read by 250 people
with Mandarin as first language, half of them children. It has Kaldi's files:

===================  =======================================================
train/text           lines `UTTERANCE WORDS`
train/utt2spk        lines `UTTERANCE SPEAKER`
train/wav.scp        lines `UTTERANCE WAVE/SPEAKER0001/000010011.WAV`
test/...             the same
===================  =======================================================

A session is a speaker's utterances in order of their names. Every eighth
speaker of the training part is for validation. Nothing is copied: manifests
(JSON lines) name the recordings.

Authors
 * speechbrain_lact contributors 2026
"""

import json
import logging
import os
from pathlib import Path

from speechbrain_lact.corpora.csv_files import folder_content
from speechbrain_lact.dataio.manifests import normalise_text

logger = logging.getLogger(__name__)

DEV = 8  # of so many training voices one is for validation


def prepare_speechocean762(folder, manifest_folder):
    """Writes `train.jsonl`, `dev.jsonl` and `test.jsonl`.

    Arguments
    ---------
    folder : str or Path
        The corpus: the folder that has `train`, `test` and `WAVE` in it.
    manifest_folder : str or Path
        Where the manifests go; made if it is not there.

    Returns
    -------
    dict of str
        Path of each manifest.

    Raises
    ------
    FileNotFoundError
        If a file of the corpus is missing.
    ValueError
        If a line of it is not as published.

    Example
    -------
    >>> prepare_speechocean762("speechocean762", "data")  # doctest: +SKIP
    """
    folder = Path(folder).expanduser().resolve()
    lines = {part: _read_part(folder, part) for part in ("train", "test")}
    speakers = sorted({line["speaker"] for line in lines["train"]})
    dev = set(speakers[DEV - 1 :: DEV])
    lines["dev"] = [x for x in lines["train"] if x["speaker"] in dev]
    lines["train"] = [x for x in lines["train"] if x["speaker"] not in dev]
    written = {}
    Path(manifest_folder).mkdir(parents=True, exist_ok=True)
    for name, rows in lines.items():
        path = Path(manifest_folder) / f"{name}.jsonl"
        part = path.with_suffix(".part")
        text = "".join(json.dumps(row) + "\n" for row in rows)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
        written[name] = str(path)
        logger.info("%s: %d utterances", path, len(rows))
    return written


def _read_part(folder, part):
    """Lines of a manifest, of the official training or test part."""
    texts, speakers, paths = (
        _read_table(folder / part / name, folder)
        for name in ("text", "utt2spk", "wav.scp")
    )
    rows, missing = [], []
    for name in sorted(paths):
        if name not in speakers:
            raise ValueError(f"{folder / part / 'utt2spk'}: {name} is missing")
        words = normalise_text(texts.get(name, ""))
        if not words:
            logger.warning("Skipped %s of %s: no words", name, part)
            continue
        wav = folder / paths[name]
        if not wav.is_file():
            missing.append(wav)
        rows.append(
            {
                "audio_filepath": str(wav),
                "text": words,
                "speaker": speakers[name],
            }
        )
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} recordings of {folder / part / 'wav.scp'} are "
            f"missing, {missing[0]} is the first: unpack the corpus again"
        )
    return rows


def _read_table(path, folder):
    """Kaldi's table: a name and the rest of the line."""
    if not path.is_file():
        holds = folder_content(str(folder)) if folder.is_dir() else "no folder"
        raise FileNotFoundError(
            f"{path} is missing ({folder} holds: {holds}): expected are train, "
            "test and WAVE of speechocean762 (www.openslr.org/101)"
        )
    found = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        name, _, rest = line.strip().replace("\t", " ").partition(" ")
        if name in found:
            raise ValueError(f"{path}:{number}: {name} is there twice")
        if name:
            found[name] = rest.strip()
    return found
