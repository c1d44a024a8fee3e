"""The command `evaluate`: errors and speed of a model.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from speechbrain_lact.cli.batches import recognise
from speechbrain_lact.cli.messages import complain, count
from speechbrain_lact.cli.model import choose_model, is_whisper, load_quietly
from speechbrain_lact.cli.options import (
    BatchSize,
    Block,
    Device,
    HotWords,
    HotWordWeight,
    LanguageModel,
    LanguageModelWeight,
    Model,
    Trust,
    search_options,
)
from speechbrain_lact.inference.transcripts import Recording
from speechbrain_lact.utils.console import (
    check_new_folder,
    hold_folder,
    need_stdout,
    refuse_existing,
    refuse_same,
    say,
    whole,
)

# What `evaluate` reads beside folders.
MANIFESTS = (".jsonl", ".json", ".tsv", ".csv")


# What `evaluate` writes: numbers and alignments.
RESULTS = ("results.json", "wer.txt")


def evaluate(
    manifest: Annotated[
        Path,
        typer.Option(
            help="Recordings and their words: a folder laid out as LibriSpeech "
            "is, a manifest .jsonl (audio_filepath, text, offset, duration), "
            "Common Voice's .tsv (path, sentence; recordings in the folder "
            "clips beside it), or SpeechBrain's .csv (ID, wav, wrd, start, "
            "stop; $data_root is the CSV's folder).",
        ),
    ],
    model: Model = None,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder for results.json and wer.txt (alignments). Results "
            "that are there are never overwritten."
        ),
    ] = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    block: Block = None,
    lm: LanguageModel = None,
    lm_weight: LanguageModelWeight = 0.5,
    hotwords: HotWords = None,
    hotword_weight: HotWordWeight = 10.0,
    trust: Trust = False,
):
    """Scores a model: word and character errors, speed.

    Both texts are put in upper case and Unicode NFC and split at white space;
    with Whisper both go into its normaliser first (no punctuation, numbers in
    digits, contractions written out).
    Lines and recordings that cannot be read are named and left out; the exit
    code is then 1.
    """
    recordings, skipped = read_data(manifest)
    if not any(recording.text for recording in recordings):
        raise ValueError(f"{manifest}: no words to compare with")
    folder = choose_model(model, *["--block"] * (block is not None))
    if out is None:
        need_stdout()
    else:
        refuse_same({"--manifest": manifest, "--model": folder, "--out": out})
        check_new_folder(out)
        _refuse_results(out)
    search = search_options(lm, lm_weight, hotwords, hotword_weight)
    asr = load_quietly(folder, device, block, trust, search)
    normalise = _normaliser(folder)
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(hold_folder(out))
            _refuse_results(out)
        bad = {place: f"{kind}: {why}" for kind, place, why in skipped.added}
        wer, results = _score(asr, recordings, batch_size, bad, normalise)
        if not results["utterances"]:
            raise ValueError(f"{manifest}: no recording with words can be read")
        results.update((name, str(value)) for name, value in search.items())
        try:
            if out is not None:
                _write_results(out, wer, results)
        finally:
            for name, value in results.items():
                say(f"{name:16} {len(value) if name == 'bad_files' else value}")
    total = len(recordings) + len(skipped.added)
    count(total, len(results["bad_files"]), "scored")


def _normaliser(folder):
    """What both texts go into before they are compared."""
    from speechbrain_lact.dataio.manifests import normalise_text
    from speechbrain_lact.evaluation.normaliser import normalise_english

    if not is_whisper(folder):
        return normalise_text
    return lambda text: normalise_text(normalise_english(text))


def _score(asr, recordings, batch_size, bad, normalise):
    """Errors word by word, and what there is to say of them; `bad` takes in
    what cannot be scored."""
    from speechbrain.utils.metric_stats import ErrorRateStats

    wer, cer = ErrorRateStats(), ErrorRateStats(split_tokens=True)
    seconds, began = 0.0, time.perf_counter()
    for recording in recognise(asr, recordings, batch_size):
        if recording.error:
            bad[recording.name] = recording.error
            complain(recording.error)
            continue
        seconds += recording.seconds
        for metric in (wer, cer):
            metric.append(
                [recording.name],
                [normalise(recording.hypothesis).split()],
                [normalise(recording.text).split()],
            )
    took = time.perf_counter() - began
    if not any(score["num_ref_tokens"] for score in wer.scores):
        return wer, {"utterances": 0}
    return wer, {
        "WER": round(wer.summarize("error_rate"), 2),
        "CER": round(cer.summarize("error_rate"), 2),
        "utterances": len(wer.scores),
        "seconds": round(seconds, 3),
        "real_time_factor": round(took / seconds, 4),
        "bad_files": bad,
    }


def _refuse_results(folder):
    """Raises if there are results already."""
    for name in RESULTS:
        refuse_existing(folder / name, "name another folder")


def _write_results(folder, wer, results):
    """Both files, each whole; the numbers last."""
    alignments = io.StringIO()
    wer.write_stats(alignments)
    texts = json.dumps(results, indent=1) + "\n", alignments.getvalue()
    for name, text in reversed(list(zip(RESULTS, texts))):
        data = text.encode("utf-8", "backslashreplace")
        with whole(folder / name) as part:
            Path(part).write_bytes(data)


def read_data(path, report=None):
    """Recordings and their words.

    Arguments
    ---------
    path : Path
        As `evaluate` takes it.
    report : callable, optional
        Takes a line about each recording that is left out; `complain` if
        there is none.

    Returns
    -------
    recordings : list of Recording
        With normalised text.
    skipped : Skipped
        What was left out.
    """
    from speechbrain_lact.dataio.manifests import Skipped, read_manifest

    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir() and path.suffix.lower() not in MANIFESTS:
        raise ValueError(f"{path}: neither a folder nor .jsonl, .tsv or .csv")
    skipped, lines = Skipped(lambda line: lines.append(line)), []
    found = read_manifest(path, skipped, wordless=True)
    if not found:
        first = f": {len(lines)} left out: {lines[0]}" if lines else ""
        raise ValueError(f"{path}: no recordings with words in it{first}")
    for line in lines:
        (report or complain)(line)
    rows, names = [], set()
    for one in found:
        name = one.label
        # Several parts of a file, or an ID that is there twice.
        if name in names:
            name = f"{name} ({one.where.rpartition(':')[2]})"
        names.add(name)
        span = one.start, one.stop, one.unit
        rows.append(Recording(name, one.wav, one.wrd, span=span))
    return rows, skipped
