#!/usr/bin/env python3
"""Word errors of a CTC model with and without a language model and hot words.

For each pair of training and test data: greedy decoding, beam search, beam
search with a language model made of the training transcripts alone, and beam
search with hot words (all different words of the test: a closed list, as that
of the names of a company).

> python benchmarks/language_model.py data/MiniSpeech:train-clean-100:test-clean

Each argument is a folder laid out as LibriSpeech is, and names of two folders
in it. Writes benchmarks/results/language_model.json and .md.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from speechbrain_lact.cli.evaluate import read_data
from speechbrain_lact.dataio.audio import pad_waves, read_audio
from speechbrain_lact.decoders.ngram import make_arpa
from speechbrain_lact.evaluation.wer import count_word_errors
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
ORDER, BATCH = 3, 8
WEIGHTS = (0.25, 0.5, 1.0)


def searches(lm, words):
    """Ways to decode: what the table says, and arguments of `set_search`."""
    yield "greedy", {}
    # No word is preferred: the search alone.
    yield "beam", {"hotwords": words[:1], "hotword_weight": 0.0}
    for weight in WEIGHTS:
        name = f"beam, language model, weight {weight}"
        yield name, {"lm": lm, "lm_weight": weight}
    yield f"beam, {len(words)} hot words", {"hotwords": words}
    both = "beam, language model, weight 0.5, hot words"
    yield both, {"lm": lm, "hotwords": words}


def score(asr, rows):
    """Errors in per cent, and seconds for a second of audio."""
    errors = words = 0
    seconds = took = 0.0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        wavs = [read_audio(row.path, asr.sample_rate) for row in batch]
        seconds += sum(map(len, wavs)) / asr.sample_rate
        began = time.perf_counter()
        found, _ = asr.transcribe_words(*pad_waves(wavs))
        took += time.perf_counter() - began
        for row, said in zip(batch, found):
            text = " ".join(word.text for word in said)
            errors += count_word_errors(row.text, text)
            words += len(row.text.split())
    return {
        "words": words,
        "WER": f"{100 * errors / words:.2f}",
        "real-time factor": f"{took / seconds:.3f}",
    }


def measure(asr, data):
    """A row for each way to decode one test set."""
    folder, train, test = data.split(":")
    train, _ = read_data(Path(folder) / train)
    rows, _ = read_data(Path(folder) / test)
    rows.sort(key=lambda row: len(row.text))
    words = {word for row in rows for word in row.text.split()}
    known = {word for row in train for word in row.text.split()}
    name, table = f"{Path(folder).name} {test}", []
    with tempfile.TemporaryDirectory() as aside:
        lm = Path(aside) / "train.arpa"
        lm.write_text(make_arpa([row.text for row in train], ORDER))
        # A word with other letters than the model's would be refused.
        unknown, encode = asr.tokenizer.unk_id(), asr.tokenizer.encode_as_ids
        spelled = [w for w in sorted(words) if unknown not in encode(w)]
        for how, options in searches(lm, spelled):
            asr.set_search(**options)
            table.append({"test": name, "decoding": how, **score(asr, rows)})
            print(table[-1], file=sys.stderr)
    about = {
        "test": name,
        "sentences of the language model": len(train),
        "its words": len(known),
        "words of the test not among them": len(words - known),
    }
    return about, table


def main(arguments):
    """Measures, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", metavar="FOLDER:TRAIN:TEST")
    parser.add_argument("--model", default=MODEL_IN_THE_BOX)
    given = parser.parse_args(arguments)
    asr = LaCTASR.from_hparams(given.model)
    abouts, rows = zip(*(measure(asr, data) for data in given.data))
    rows = [row for table in rows for row in table]
    found = {"about": machine.about(), "models": abouts, "rows": rows}
    found["about"]["date"] = time.strftime("%Y-%m-%d")
    tables = [markdown_table(list(abouts)), markdown_table(rows)]
    text = "\n\n".join(tables) + "\n"
    (RESULTS / "language_model.md").write_text(text)
    file = RESULTS / "language_model.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
