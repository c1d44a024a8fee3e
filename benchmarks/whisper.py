#!/usr/bin/env python3
"""Whisper tiny.en on files and live.

`padding`: word errors and time, by the seconds that the decoder sees behind
the audio, with the gated layers and without. The encoder always takes 30 s, its
time is the same.
`live`: word errors, lag and speed by the frames of a block; the lag of a word
is from its end in the audio to when it is given as final, computing time
among it.
`windows`: the same in blocks of 320 ms by the window to the left, and how far
the frames are from those of Whisper's own encoder on 30 s; for each of `--model`
(output folders of recipes/Whisper) beside the part in the box.
`hour`: an hour of the recordings of all folders one after the other, as a file
or live: word errors, speed, and memory after ten minutes and at the end.

> python benchmarks/whisper.py padding NAME=FOLDER ... [--limit 100]
> python benchmarks/whisper.py live NAME=FOLDER ... [--limit 100]
> python benchmarks/whisper.py windows NAME=FOLDER ... --model OTHER=FOLDER
> python benchmarks/whisper.py hour_files|hour_live NAME=FOLDER ...

A folder is laid out as LibriSpeech is; a manifest will do as well. Texts are compared in Whisper's normaliser.
Utterances are done one at a time, in one thread; times are the processor's.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import resource
import time
from pathlib import Path

from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
# Whether the gated layers take part, and seconds behind the audio.
VARIANTS = [(False, 30.0), (False, 3.0), (False, 0.5), (False, 0.0)]
VARIANTS += [(True, 3.0), (True, 0.5), (True, 0.0)]
BLOCKS = (8, 16, 32)
# Frames to the left of a block; no fewer than a chunk of the fast weights.
WINDOWS = (64, 128, 256)
HOUR, FIRST = 3600.0, 600.0  # seconds


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

    from speechbrain_lact.evaluation.normaliser import normalise_english
    from speechbrain_lact.evaluation.wer import count_word_errors

    one = torch.ones(1)
    found = {"utterances": len(rows), "words": 0, "audio": 0.0, "encoder": 0.0}
    gated, asr.gated = asr.gated, None
    errors = dict.fromkeys(VARIANTS, 0)
    decoder = dict.fromkeys(VARIANTS, 0.0)
    for path, text in tqdm(rows, disable=None):
        wav, reference = asr.load_audio(path), normalise_english(text)
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
            said = normalise_english(asr.tokenizer.decode(tokens))
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

    from speechbrain_lact.evaluation.normaliser import normalise_english
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
        reference = normalise_english(text)
        words += len(reference.split())
        errors += count_word_errors(
            reference, normalise_english(" ".join(said))
        )
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


def windows(corpora, limit, models):
    """The table of windows to the left, printed and kept."""
    from speechbrain_lact.inference.whisper import WhisperASR
    from speechbrain_lact.inference.whisper_live import LiveWhisper

    named = [name.partition("=")[::2] for name in models]
    loaded = {"in the box": WhisperASR.load()}
    loaded.update((name, WhisperASR.load(folder)) for name, folder in named)

    def jobs(rows):
        """One for each model and window."""
        for name, asr in loaded.items():
            encoder, decoder = asr.live.encoder, asr.live.decoder
            for left in WINDOWS:
                asr.live = LiveWhisper(encoder, decoder, 16, left)
                found = measure_live(asr, rows, 16)
                yield f" {name} {left}", found | match(asr, rows)

    run("windows", corpora, limit, jobs, windows_table)


def match(asr, rows):
    """How far the frames of the streaming encoder are from Whisper's own, and
    what they cost.

    Arguments
    ---------
    asr : WhisperASR
    rows : list of (str, str)
        Paths and words.

    Returns
    -------
    dict
    """
    import torch

    net, live, found, own = asr.live.encoder, asr.live, [], []
    one, seconds = torch.ones(1), 0.0
    for path, _ in rows:
        wav = asr.load_audio(path)[None]
        frames, _, (end,) = asr.frames(wav, one)
        began = time.process_time()
        with torch.no_grad():
            out, _ = net(wav, blocks=live.blocks)
        seconds += time.process_time() - began
        end = min(end, out.frames.shape[1])
        found.append(out.frames[0, :end])
        own.append(frames[0, :end])
    found, own = torch.cat(found), torch.cat(own)
    mixers = [layer.mixer for layer in net.encoder.layers]
    return {
        "match": float((found - own).square().mean() / own.var()),
        "encoder": seconds,
        "fast_layers": sum(mixer.fast for mixer in mixers),
    }


def windows_table(found):
    """Markdown: a line for each corpus, model and window."""
    rows = []
    for name, one in found.items():
        corpus, model = name.split(" ", 1)
        model, left = model.rsplit(" ", 1)
        rows.append(
            [
                *(corpus, one["utterances"], model, one["fast_layers"]),
                f"{20 * int(left) / 1000:.2f} s",
                f"{one['match']:.3f}",
                f"{100 * one['errors'] / one['words']:.1f} %",
                f"{1e3 * one['encoder'] / one['audio']:.1f} ms",
            ]
        )
    head = ["corpus", "utterances", "model", "layers with fast weights"]
    head += ["window", "mean square to Whisper's frames", "WER, live"]
    return markdown_table(rows, [*head, "encoder, a second of audio"])


def hour(corpora, how):
    """An hour of recordings as one: printed and kept."""
    import tempfile

    import soundfile
    import torch

    from speechbrain_lact.dataio.audio import AudioFile
    from speechbrain_lact.evaluation.normaliser import normalise_english
    from speechbrain_lact.evaluation.wer import count_word_errors
    from speechbrain_lact.inference.whisper import WhisperASR

    torch.set_num_threads(1)
    asr, texts, total = WhisperASR.load(), [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/hour.flac"
        with soundfile.SoundFile(path, "w", asr.sample_rate, 1) as file:
            for corpus in corpora:
                for one, text in utterances(corpus.partition("=")[2]):
                    if total < HOUR:
                        wav = AudioFile(one, asr.sample_rate).read()
                        wav = torch.cat([wav, wav.new_zeros(8000)])
                        file.write(wav.numpy())
                        texts.append(text)
                        total += len(wav) / asr.sample_rate
        began, said, early = time.perf_counter(), [], None
        for at, words in hear(asr, path, how):
            said += [word.text for word in words]
            if early is None and at >= FIRST:
                early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = time.perf_counter() - began
    late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reference = normalise_english(" ".join(texts))
    found = {
        "about": machine.about(),
        "seconds": total,
        "took": took,
        "words": len(reference.split()),
        "errors": count_word_errors(
            reference, normalise_english(" ".join(said))
        ),
        "peak_after_ten_minutes": early / 1024,
        "peak": late / 1024,
    }
    path = RESULTS / "whisper_hour.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[how] = found
    path.write_text(json.dumps(known, indent=1) + "\n")
    path.with_suffix(".md").write_text(hour_table(known) + "\n")
    print(hour_table(known))


def hear(asr, path, how):
    """Yields the place in seconds and words."""
    from tqdm import tqdm

    from speechbrain_lact.dataio.audio import AudioFile

    if how == "files":
        for word in asr.transcribe_long(path, progress=True):
            yield word.end, [word]
        return
    session, audio = asr.stream(), AudioFile(path, asr.sample_rate)
    heard = 0
    pieces = tqdm(audio.pieces(0.32), total=int(audio.seconds / 0.32))
    for piece in pieces:
        heard += len(piece)
        yield heard / asr.sample_rate, session.feed(piece).words
    yield heard / asr.sample_rate, session.finish().words


def hour_table(found):
    """Markdown: a line for each way."""
    rows = [
        [
            how,
            f"{one['seconds'] / 60:.1f} min",
            f"{100 * one['errors'] / one['words']:.1f} %",
            f"{one['seconds'] / one['took']:.1f}",
            f"{one['peak_after_ten_minutes']:.0f} MiB",
            f"{one['peak']:.0f} MiB",
        ]
        for how, one in found.items()
    ]
    head = ["", "audio", "WER", "times real time, one core"]
    return markdown_table(rows, [*head, "peak, ten minutes", "peak, the end"])


def main():
    """Command line."""
    ways = {"hour_files": "files", "hour_live": "live"}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["padding", "live", "windows", *ways])
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--limit", type=int, help="utterances of each corpus")
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=FOLDER"
    )
    options = parser.parse_args()
    if options.what in ways:
        hour(options.corpora, ways[options.what])
    elif options.what == "windows":
        windows(options.corpora, options.limit, options.model)
    else:
        what = {"padding": padding, "live": live}[options.what]
        what(options.corpora, options.limit)


if __name__ == "__main__":
    main()
