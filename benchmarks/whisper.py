#!/usr/bin/env python3
"""Whisper tiny.en on files and live.

`padding`: word errors and time, by the seconds that the decoder sees behind
the audio, with the gated layers and without. The encoder always takes 30 s, its
time is the same.
`live`: word errors, lag and speed by the frames of a block; the lag of a word
is from its end in the audio to when it is given as final, computing time
among it.

> python benchmarks/whisper.py padding NAME=FOLDER ... [--limit 100]
> python benchmarks/whisper.py live NAME=FOLDER ... [--limit 100]

A folder is laid out as LibriSpeech is; a manifest will do as well. Texts are compared in Whisper's normaliser.
Utterances are done one at a time, in one thread; times are the processor's.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import re
import time
from pathlib import Path

from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
# Whether the gated layers take part, and seconds behind the audio.
VARIANTS = [(False, 30.0), (False, 3.0), (False, 0.5), (False, 0.0)]
VARIANTS += [(True, 3.0), (True, 0.5), (True, 0.0)]
BLOCKS = (8, 16, 32)


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


def plain(text):
    """The text in Whisper's normaliser; digits are a word each: it makes one
    number of "one five two", and "one 5 2" of "1, 5, 2"."""
    from speechbrain_lact.evaluation.normaliser import english_normaliser

    text = re.sub(r"\bone\b", "1", english_normaliser()(text))
    return re.sub(r"(\d)", r" \1 ", text)


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

    from speechbrain_lact.evaluation.wer import count_word_errors

    one = torch.ones(1)
    found = {"utterances": len(rows), "words": 0, "audio": 0.0, "encoder": 0.0}
    gated, asr.gated = asr.gated, None
    errors = dict.fromkeys(VARIANTS, 0)
    decoder = dict.fromkeys(VARIANTS, 0.0)
    for path, text in tqdm(rows, disable=None):
        wav, reference = asr.load_audio(path), plain(text)
        found["words"] += len(reference.split())
        found["audio"] += len(wav) / asr.sample_rate
        began = time.process_time()
        frames, _, (end,) = asr.encode_batch(wav[None], one)
        found["encoder"] += time.process_time() - began
        for lact, padding in VARIANTS:
            seen = end + round(padding / asr.frame_seconds)
            began = time.process_time()
            x = frames[:, :seen]
            if lact:
                with torch.no_grad():
                    x = gated.encode(x, one)
            (tokens,), _, _ = asr.mods.searcher(x, one)
            decoder[lact, padding] += time.process_time() - began
            said = plain(asr.tokenizer.decode(tokens))
            errors[lact, padding] += count_word_errors(reference, said)
    asr.gated = gated
    found["variants"] = [
        {
            "lact": lact,
            "padding": padding,
            "errors": errors[lact, padding],
            "decoder": decoder[lact, padding],
        }
        for lact, padding in VARIANTS
    ]
    return found


def table(found):
    """Markdown: a line for each corpus and padding."""
    rows = []
    for name, one in found.items():
        for part in one["variants"]:
            took = one["encoder"] + part["decoder"]
            rows.append(
                [
                    name,
                    one["utterances"],
                    "with LaCT" if part["lact"] else "Whisper",
                    part["padding"],
                    f"{100 * part['errors'] / one['words']:.1f} %",
                    f"{1e3 * part['decoder'] / one['audio']:.0f} ms",
                    f"{1e3 * took / one['audio']:.0f} ms",
                ]
            )
    head = ["corpus", "utterances", "model", "seconds behind the audio"]
    head += ["WER", "decoder, a second of audio", "with the encoder"]
    return markdown_table(rows, head)


def run(what, corpora, limit, jobs, table):
    """Measures corpora, one after the other, and keeps the results beside
    those of other corpora.

    Arguments
    ---------
    what : str
        Name of the results.
    corpora : list of str
        NAME=FOLDER of each.
    limit : int, optional
        Utterances of each, at most.
    jobs : callable
        Takes the utterances of a corpus and yields the end of a name, and
        what was measured.
    table : callable
        Takes all results and returns Markdown.
    """
    import torch

    torch.set_num_threads(1)
    path = RESULTS / f"whisper_{what}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for corpus in corpora:
        name, _, folder = corpus.partition("=")
        for end, measured in jobs(utterances(folder, limit)):
            about = {"about": machine.about(), "limit": limit}
            found[name + end] = {**about, **measured}
            path.write_text(json.dumps(found, indent=1) + "\n")
            path.with_suffix(".md").write_text(table(found) + "\n")
    print(table(found))


def padding(corpora, limit):
    """The table of paddings, printed and kept."""
    from speechbrain_lact.inference.whisper import WhisperASR

    asr = WhisperASR.load(padding=30.0)

    def jobs(rows):
        """One for each corpus."""
        yield "", measure(asr, rows)

    run("padding", corpora, limit, jobs, table)


def live(corpora, limit):
    """The table of blocks, printed and kept."""
    from speechbrain_lact.inference.whisper import WhisperASR

    asr = WhisperASR.load()

    def jobs(rows):
        """One for each block."""
        for block in BLOCKS:
            asr.set_block(block)
            yield f" {block}", measure_live(asr, rows, block)

    run("live", corpora, limit, jobs, live_table)


def measure_live(asr, rows, block):
    """Errors, lag and speed of one corpus, a session an utterance.

    Arguments
    ---------
    asr : WhisperASR
    rows : list of (str, str)
        Paths and words.
    block : int
        Frames of a block: the audio comes in pieces of that.

    Returns
    -------
    dict
    """
    import torch
    from tqdm import tqdm

    from speechbrain_lact.evaluation.wer import count_word_errors

    errors = words = 0
    audio, took, lags = 0.0, 0.0, []
    for path, text in tqdm(rows, disable=None):
        wav, session, said = asr.load_audio(path), asr.stream(), []
        heard = 0
        for piece in [*wav.split(320 * block), torch.zeros(0)]:
            heard += len(piece)
            began = time.perf_counter()
            last = len(piece) == 0
            new = session.finish() if last else session.feed(piece)
            spent = time.perf_counter() - began
            took += spent
            said += [word.text for word in new.words]
            now = heard / asr.sample_rate + spent
            lags += [now - word.end for word in new.words]
        reference = plain(text)
        words += len(reference.split())
        errors += count_word_errors(reference, plain(" ".join(said)))
        audio += len(wav) / asr.sample_rate
    return {
        "utterances": len(rows),
        "words": words,
        "errors": errors,
        "audio": audio,
        "seconds": took,
        "lag": sum(lags) / max(len(lags), 1),
    }


def live_table(found):
    """Markdown: a line for each corpus and block."""
    rows = []
    for name, one in found.items():
        corpus, block = name.rsplit(" ", 1)
        rows.append(
            [
                corpus,
                one["utterances"],
                f"{20 * int(block)} ms",
                f"{100 * one['errors'] / one['words']:.1f} %",
                f"{one['lag']:.2f} s",
                f"{one['audio'] / one['seconds']:.1f}",
            ]
        )
    head = ["corpus", "utterances", "block", "WER", "mean lag"]
    return markdown_table(rows, [*head, "times real time, one core"])


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["padding", "live"])
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--limit", type=int, help="utterances of each corpus")
    options = parser.parse_args()
    what = {"padding": padding, "live": live}[options.what]
    what(options.corpora, options.limit)


if __name__ == "__main__":
    main()
