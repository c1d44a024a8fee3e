#!/usr/bin/env python3
"""Whisper tiny.en on files.

`padding`: word errors and time, by the seconds that the decoder sees behind
the audio. The encoder always takes 30 s, its time is the same.

> python benchmarks/whisper.py padding NAME=FOLDER ... [--limit 100]

A folder is laid out as LibriSpeech is; a manifest will do as well, such as
`benchmarks/speech.jsonl`. Texts are compared in Whisper's normaliser.
Utterances are done one at a time, in one thread; times are the processor's.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import time
from pathlib import Path

from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
PADDINGS = (30.0, 3.0, 1.0, 0.5, 0.0)


def utterances(folder, limit=None):
    """Paths and words, evenly spread over the folder.

    Arguments
    ---------
    folder : str
        As on the command line.
    limit : int, optional
        How many at most.

    Returns
    -------
    list of (str, str)
    """
    from speechbrain_lact.dataio.manifests import Skipped, read_manifest

    found = [(row.wav, row.wrd) for row in read_manifest(folder, Skipped())]
    step = max(len(found) / limit, 1) if limit else 1
    return [found[int(i * step)] for i in range(int(len(found) / step))]


def measure(asr, rows):
    """Errors and seconds of one corpus.

    Arguments
    ---------
    asr : WhisperASR
        With `padding` 30: the decoder's part is cut here.
    rows : list of (str, str)
        Paths and words.

    Returns
    -------
    dict
    """
    import torch
    from tqdm import tqdm

    from speechbrain_lact.evaluation.normaliser import english_normaliser
    from speechbrain_lact.evaluation.wer import count_word_errors

    normalise, one = english_normaliser(), torch.ones(1)
    found = {"utterances": len(rows), "words": 0, "audio": 0.0, "encoder": 0.0}
    errors = dict.fromkeys(PADDINGS, 0)
    decoder = dict.fromkeys(PADDINGS, 0.0)
    for path, text in tqdm(rows, disable=None):
        wav, reference = asr.load_audio(path), normalise(text)
        found["words"] += len(reference.split())
        found["audio"] += len(wav) / asr.sample_rate
        began = time.process_time()
        frames, _, (end,) = asr.encode_batch(wav[None], one)
        found["encoder"] += time.process_time() - began
        for padding in PADDINGS:
            seen = end + round(padding / asr.frame_seconds)
            began = time.process_time()
            (tokens,), _, _ = asr.mods.searcher(frames[:, :seen], one)
            decoder[padding] += time.process_time() - began
            said = normalise(asr.tokenizer.decode(tokens))
            errors[padding] += count_word_errors(reference, said)
    found["paddings"] = {
        padding: {"errors": errors[padding], "decoder": decoder[padding]}
        for padding in PADDINGS
    }
    return found


def table(found):
    """Markdown: a line for each corpus and padding."""
    rows = []
    for name, one in found.items():
        for padding, part in one["paddings"].items():
            took = one["encoder"] + part["decoder"]
            rows.append(
                [
                    name,
                    one["utterances"],
                    padding,
                    f"{100 * part['errors'] / one['words']:.1f} %",
                    f"{1e3 * part['decoder'] / one['audio']:.0f} ms",
                    f"{1e3 * took / one['audio']:.0f} ms",
                ]
            )
    head = ["corpus", "utterances", "seconds behind the audio", "WER"]
    head += ["decoder, a second of audio", "with the encoder"]
    return markdown_table(rows, head)


def padding(corpora, limit):
    """The table of paddings, printed and kept."""
    import torch

    from speechbrain_lact.inference.whisper import WhisperASR

    torch.set_num_threads(1)
    asr, found = WhisperASR.load(padding=30.0), {}
    for corpus in corpora:
        name, _, folder = corpus.partition("=")
        found[name] = measure(asr, utterances(folder, limit))
        about = {"about": machine.about(), "limit": limit, **found}
        path = RESULTS / "whisper_padding.json"
        path.write_text(json.dumps(about, indent=1) + "\n")
        path.with_suffix(".md").write_text(table(found) + "\n")
    print(about["about"], table(found), sep="\n")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["padding"])
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--limit", type=int, help="utterances of each corpus")
    options = parser.parse_args()
    padding(options.corpora, options.limit)


if __name__ == "__main__":
    main()
