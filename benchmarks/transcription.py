#!/usr/bin/env python3
"""Time and memory of a trained model at work.

- Long recordings: peak memory of `transcribe_long` for 3 h beside 5 min (a
  process each), and its speed over the recording.
- Files: speed of `transcribe_file`.
- Live streams: what a word waits for with pieces of 80 ms, part by part; and
  in the same run the same front end with SpeechBrain's Conformer of equal
  size, untrained, through its own `encode_streaming`.
- Sessions: 32 in one batch beside one.

> python benchmarks/transcription.py FOLDER [--hours 3] [--model MODEL]

FOLDER has the audio files that are joined, again and again, to a recording of
the length wanted.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
PIECE = 0.08
STEPS = 300


def load(model):
    """The model, or the one in the box."""
    from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR

    return LaCTASR.from_hparams(model or MODEL_IN_THE_BOX)


def join(folder, path, seconds, rate=16000):
    """Writes a FLAC of a length out of the audio files below a folder."""
    import soundfile

    paths = sorted(Path(folder).rglob("*.flac"))
    if not paths:
        raise ValueError(f"{folder}: no FLAC files below it")
    left = seconds * rate
    with soundfile.SoundFile(path, "w", rate, 1) as out:
        while left > 0:
            for one in paths:
                audio, found = soundfile.read(one, dtype="float32")
                if found != rate or audio.ndim > 1:
                    raise ValueError(f"{one}: not 16 kHz, one channel")
                out.write(audio[:left])
                left -= len(audio)
                if left <= 0:
                    break


def long_recording(model, path):
    """Peak memory, and the time when each minute was done."""
    asr = load(model)
    done, words, began = [], 0, time.perf_counter()
    for word in asr.transcribe_long(path):
        words += 1
        while word.end >= 60 * (len(done) + 1):
            done.append(time.perf_counter() - began)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_MiB": peak, "seconds": took, "minutes": done, "words": words}


def files(model, folder):
    """Speed of whole files, in audio seconds a second."""
    asr = load(model)
    paths = sorted(Path(folder).rglob("*.flac"))[:100]
    asr.transcribe_file(paths[0])
    audio = sum(len(asr.load_audio(path)) for path in paths)
    began = time.perf_counter()
    for path in paths:
        asr.transcribe_file(path)
    took = time.perf_counter() - began
    return {"files": len(paths), "speed": audio / asr.sample_rate / took}


def percentile(times, share):
    """The value below which this share of the times lies."""
    return sorted(times)[int(share * (len(times) - 1))]


def live(model, folder):
    """Time of each step of 80 ms: LaCT's session, and the Conformer."""
    import torch

    asr = load(model)
    rate = asr.sample_rate
    with tempfile.TemporaryDirectory() as aside:
        join(folder, f"{aside}/live.flac", int(STEPS * PIECE) + 1)
        audio = asr.load_audio(f"{aside}/live.flac")
    pieces = audio.split(round(PIECE * rate))[:STEPS]
    session, conformer = asr.stream(), streaming_conformer(asr)
    times = {"LaCT": [], "Conformer": []}
    for piece in pieces:
        for name, step in (("LaCT", session.feed), ("Conformer", conformer)):
            began = time.perf_counter()
            with torch.no_grad():
                step(piece)
            times[name].append(time.perf_counter() - began)
    config = asr.encoder.dynchunktrain_config
    filters = asr.encoder.compute_features.get_filter_properties()
    side = asr.encoder.compute_features.compute_STFT.n_fft // 2
    # The last frame of a group ends here, beyond the group's own samples.
    ahead = max(side - filters.stride, 0) / rate
    block = config.chunk_size * asr.frame_seconds
    return {
        name: {
            "median_ms": 1e3 * percentile(found[5:], 0.5),
            "p95_ms": 1e3 * percentile(found[5:], 0.95),
            "buffer_ms": 1e3 * block,
            "look_ahead_ms": 1e3 * ahead,
        }
        for name, found in times.items()
    }


def streaming_conformer(asr):
    """A step of SpeechBrain's Conformer behind the same front end."""
    import torch

    from speechbrain.lobes.models.transformer.TransformerASR import (
        TransformerASR,
    )

    ours, encoder = asr.encoder.transformer, asr.encoder
    layer = ours.encoder.layers[0]
    net = TransformerASR(
        tgt_vocab=asr.tokenizer.vocab_size(),
        input_size=encoder.cnn.output_size,
        d_model=layer.mixer.d_model,
        nhead=layer.mixer.nhead,
        num_encoder_layers=len(ours.encoder.layers),
        num_decoder_layers=0,
        d_ffn=layer.ffn_module1[1].ffn[0].out_features,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        kernel_size=layer.convolution_module.conv.kernel_size[0],
        activation=torch.nn.GELU,
        normalize_before=True,
        causal=False,
    ).eval()
    context = net.make_streaming_context(encoder.dynchunktrain_config)
    size = encoder.dynchunktrain_config.chunk_size
    held = {
        "features": encoder.compute_features.initial_state(1),
        "front": encoder.cnn.initial_state(1),
        "src": torch.zeros(1, 0, encoder.cnn.output_size),
    }

    def step(piece):
        """As many whole blocks as there are."""
        feats, lengths, held["features"] = encoder.compute_features(
            piece[None], torch.ones(1), held["features"], final=False
        )
        feats = encoder.normalize(feats, lengths)
        src, _, held["front"] = encoder.cnn(
            feats, lengths, held["front"], final=False
        )
        src = torch.cat([held["src"], src], 1)
        while src.shape[1] >= size:
            out = net.encode_streaming(src[:, :size], context)
            encoder.head(out).log_softmax(-1).argmax(-1)
            src = src[:, size:]
        held["src"] = src

    return step


def sessions(model, folder):
    """Time of a step of 80 ms of one session, and of 32 of different ages."""
    import torch

    asr = load(model)
    with tempfile.TemporaryDirectory() as aside:
        join(folder, f"{aside}/live.flac", 60)
        audio = asr.load_audio(f"{aside}/live.flac")
    size = round(PIECE * asr.sample_rate)
    times = {}
    for number in (1, 32):
        live = [asr.stream() for _ in range(number)]
        for i, session in enumerate(live):
            session.feed(audio[: size * 3 * i + 1])
        found = []
        for step in range(100):
            piece = audio[size * step : size * (step + 1)]
            began = time.perf_counter()
            asr.feed(live, [piece] * number)
            found.append(time.perf_counter() - began)
        times[number] = sum(found) / len(found)
    threads = torch.get_num_threads()
    return {
        "one_ms": 1e3 * times[1],
        "thirty_two_ms": 1e3 * times[32],
        "ratio": times[32] / times[1],
        "threads": threads,
    }


def apart(*arguments):
    """A measurement in a process of its own."""
    call = [sys.executable, __file__, "--one", *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder, model, hours):
    """All of it."""
    found = {}
    with tempfile.TemporaryDirectory() as aside:
        for name, seconds in (("short", 300), ("long", round(hours * 3600))):
            path = f"{aside}/{name}.flac"
            join(folder, path, seconds)
            found[name] = apart("long_recording", model, path)
            found[name]["audio_seconds"] = seconds
            print(name, "done", file=sys.stderr, flush=True)
    for name in ("files", "live", "sessions"):
        found[name] = apart(name, model, folder)
        print(name, "done", file=sys.stderr, flush=True)
    return found


def speed_over_time(minutes, size):
    """Speed of each so many minutes of a recording."""
    ends = [0.0, *minutes]
    return [
        60 * size / (ends[i + size] - ends[i])
        for i in range(0, len(minutes) - size + 1, size)
    ]


def table(found):
    """Markdown."""
    short, long = found["short"], found["long"]
    minutes = long["minutes"]
    thirds = speed_over_time(minutes, max(len(minutes) // 3, 1))
    fives = speed_over_time(minutes, min(5, len(minutes)))
    hours = long["audio_seconds"] / 3600
    files, sessions = found["files"], found["sessions"]
    figures = {
        "peak memory, 5 min": f"{short['peak_MiB']:.0f} MiB",
        f"peak memory, {hours:g} h": f"{long['peak_MiB']:.0f} MiB",
        f"{hours:g} h over 5 min": f"{long['peak_MiB'] / short['peak_MiB']:.3f}",
        "speed, 5 min": f"{300 / short['seconds']:.1f} x real time",
        f"speed, {hours:g} h": f"{long['audio_seconds'] / long['seconds']:.1f} "
        "x real time",
        "each third of it": ", ".join(f"{s:.1f}" for s in thirds),
        "its slowest and fastest 5 minutes": f"{min(fives):.1f}, "
        f"{max(fives):.1f}",
        f"`transcribe_file`, {files['files']} files": f"{files['speed']:.1f} "
        "x real time",
        "a step of 80 ms, one session": f"{sessions['one_ms']:.1f} ms",
        "the same, 32 sessions": f"{sessions['thirty_two_ms']:.1f} ms",
        "32 sessions over one": f"{sessions['ratio']:.1f}",
    }
    live = []
    for name, row in found["live"].items():
        parts = [row["buffer_ms"], row["look_ahead_ms"]]
        whole = sum(parts) + row["p95_ms"]
        cells = [*parts, row["median_ms"], row["p95_ms"], whole]
        live.append([name, *(f"{cell:.1f} ms" for cell in cells)])
    head = ["live, pieces of 80 ms", "buffer", "front end's look-ahead"]
    head += ["compute, median", "compute, 95th percentile", "sum"]
    tables = [
        markdown_table(figures.items(), ["what", "figure"]),
        markdown_table(live, head),
    ]
    return "\n\n".join(tables)


def plot(found, path):
    """Speed over the recording."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    speeds = speed_over_time(found["long"]["minutes"], 5)
    figure, axis = plt.subplots(figsize=(6, 3))
    axis.plot([5 * i + 2.5 for i in range(len(speeds))], speeds, "o-")
    axis.set(
        xlabel="minute of the recording",
        ylabel="times real time",
        ylim=(0, None),
    )
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--model", default="")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, model, path = options.one
        print(json.dumps(globals()[name](model, path)))
        return
    found = measure(options.folder, options.model, options.hours)
    found["about"] = machine.about()
    path = RESULTS / "transcription.json"
    path.write_text(json.dumps(found, indent=1))
    path.with_suffix(".md").write_text(table(found) + "\n")
    plot(found, path.with_suffix(".png"))
    print(found["about"], table(found), sep="\n")


if __name__ == "__main__":
    main()
