#!/usr/bin/env python3
"""Time and memory of a whole encoder over the length of the audio.

LaCT against SpeechBrain's Conformer with RelPosMHAXL and with RoPEMHA: equal
width, depth and front end, forward pass and training step, in one run. Each
measurement is a process of its own (its peak resident size is the encoder's)
and the models take turns, so that a busy machine is busy for all.

> python benchmarks/encoder_scaling.py [--seconds 5 10 30 60 300] [--repeat 3] \
>     [--device cuda --backend triton --name encoder_scaling_triton]

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
MODELS = ("LaCT", "RelPosMHAXL", "RoPEMHA")
MODES = ("forward", "training step")
FRAMES_PER_SECOND = 100


def build(model, backend="auto"):
    """Front end and encoder: two layers of width 256."""
    import torch

    from speechbrain_lact.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain_lact.lobes.models.transformer.TransformerASR import (
        TransformerASR,
    )

    torch.manual_seed(0)
    front = ConvolutionFrontEnd(input_size=80, stride=4, channels=64)
    lact = {}
    if model == "LaCT":
        lact = {"lact_chunk_size": 512, "lact_window": (32, 32)}
        lact["lact_backend"] = backend
    encoder = TransformerASR(
        tgt_vocab=1000,
        input_size=front.output_size,
        d_model=256,
        nhead=4,
        num_encoder_layers=2,
        num_decoder_layers=0,
        d_ffn=1024,
        dropout=0.0,
        encoder_module="conformer",
        attention_type=model,
        normalize_before=True,
        causal=False,
        **lact,
    )
    return front, encoder


def measure(model, mode, seconds, repeat, device="cpu", backend="auto"):
    """Least time of a pass and peak memory of this process, or of the GPU."""
    import torch

    front, encoder = (net.to(device) for net in build(model, backend))
    feats = torch.randn(1, seconds * FRAMES_PER_SECOND, 80, device=device)
    lengths = torch.ones(1, device=device)
    parameters = [*front.parameters(), *encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters)

    def forward():
        src, src_lengths = front(feats, lengths)
        return encoder(src, None, wav_len=src_lengths)[0]

    def run():
        if mode == "forward":
            with torch.no_grad():
                return forward()
        optimizer.zero_grad()
        forward().square().mean().backward()
        return optimizer.step()

    def wait():
        """Until the device is done."""
        if device == "cuda":
            torch.cuda.synchronize()

    def peak():
        """MiB."""
        if device == "cuda":
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak()
    run()
    times = []
    for _ in range(repeat):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return {
        "seconds": min(times),
        "peak_MiB": peak() - before,
        "parameters": sum(p.numel() for p in parameters),
    }


def measure_apart(model, mode, seconds, repeat, options):
    """`measure` in a process of its own; None if it ran out of memory."""
    call = [sys.executable, __file__, "--one", model, mode, str(seconds)]
    done = subprocess.run(
        [*call, "--repeat", str(repeat), *options],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(done.stderr[-500:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def run_all(durations, repeat, rounds, options):
    """All measurements; the best of some rounds in which models take turns."""
    best = {}
    for mode in MODES:
        for seconds in durations:
            for _ in range(rounds):
                for model in MODELS:
                    found = measure_apart(model, mode, seconds, repeat, options)
                    key = (model, mode, seconds)
                    if found is None:
                        continue
                    if key in best and (
                        best[key]["seconds"] < found["seconds"]
                    ):
                        continue
                    best[key] = found
            print(mode, seconds, "s done", file=sys.stderr, flush=True)
    keys = ("model", "mode", "audio_seconds")
    return [{**dict(zip(keys, k)), **v} for k, v in best.items()]


def table(rows):
    """Markdown: times, LaCT's speed over each peer's, and memory."""
    found = {(r["model"], r["mode"], r["audio_seconds"]): r for r in rows}
    head = [
        "pass",
        "audio",
        *(f"{m} s" for m in MODELS),
        *(f"LaCT speed / {m}" for m in MODELS[1:]),
        *(f"{m} MiB" for m in MODELS),
    ]
    lines = []
    for mode in MODES:
        for seconds in sorted({r["audio_seconds"] for r in rows}):
            three = [found.get((m, mode, seconds)) for m in MODELS]
            times = [f"{r['seconds']:.3f}" if r else "-" for r in three]
            ratios = [
                f"{r['seconds'] / three[0]['seconds']:.2f}" if r else "-"
                for r in three[1:]
            ]
            memory = [f"{r['peak_MiB']:.0f}" if r else "-" for r in three]
            lines.append([mode, f"{seconds} s", *times, *ratios, *memory])
    return markdown_table(lines, head)


def plot(rows, path, device):
    """Time and memory over audio length, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
    shown = (("seconds", "seconds per step"), ("peak_MiB", "peak MiB"))
    for axis, (key, label) in zip(axes, shown):
        for model in MODELS:
            points = sorted(
                (r["audio_seconds"], r[key])
                for r in rows
                if r["model"] == model and r["mode"] == MODES[1]
            )
            axis.plot(*zip(*points), "o-", label=model)
        axis.set(xlabel="audio (s)", ylabel=label, xscale="log", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    where = "2 CPU cores" if device == "cpu" else "one GPU"
    figure.suptitle(f"Training step of a whole encoder, equal size, {where}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=int, nargs="+", default=[5, 10, 30, 60, 300]
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--backend", default="auto", help="of LaCT")
    parser.add_argument("--name", default="encoder_scaling", help="of results")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        model, mode, seconds = options.one
        given = model, mode, int(seconds), options.repeat
        found = measure(*given, options.device, options.backend)
        print(json.dumps(found))
        return
    where = ["--device", options.device, "--backend", options.backend]
    rows = run_all(options.seconds, options.repeat, options.rounds, where)
    RESULTS.mkdir(exist_ok=True)
    about = machine.about()
    path = RESULTS / f"{options.name}.json"
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    path.with_suffix(".md").write_text(table(rows) + "\n")
    plot(rows, path.with_suffix(".png"), options.device)
    print(about, table(rows), sep="\n")


if __name__ == "__main__":
    main()
