#!/usr/bin/env python3
"""Language models of audio tokens on long audio: what they know, and what a
token costs.

- Bits per token over position, on recordings of unseen voices that are many
  times as long as what the models were trained on. The voices of a set take
  turns; each voice stands at each place of some recording.
- Milliseconds and bytes a token over the length of what was generated.
- Measures of coherence of generated audio, and of real audio beside it.

> python benchmarks/audio_lm.py --models lact=results/lact_audiolm/1234/model \
    transformer=results/transformer_audiolm/1234/model \
    window=results/window_audiolm/1234/model --data data/MiniSpeech/test-clean

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import machine
import soundfile
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from recipes.MiniSpeech.conversations import read_voices  # noqa: E402
from speechbrain_lact.evaluation.coherence import (  # noqa: E402
    compare,
    measure,
    nll_over_position,
    nll_table,
    plot_nll,
    plot_over_time,
)
from speechbrain_lact.evaluation.statistics import (  # noqa: E402
    compare as compare_paired,
)
from speechbrain_lact.inference.AudioLM import AudioGenerator  # noqa: E402
from speechbrain_lact.lobes.models.LaCTAudioLM import Sampling  # noqa: E402
from speechbrain_lact.processing.speaker_states import (  # noqa: E402
    load_embedder,
)

RESULTS = HERE / "results"
EDGES = (0, 5, 10, 20, 30, 60, 120, 180, 240, 300)  # seconds
LENGTHS = (10, 20, 40, 80, 150, 300)  # seconds of context
STEPS = 256  # timed at each of them: whole chunks of the memory
LAST = 10.0  # seconds at the end of what was generated
SAMPLING = {"temperature": 0.9, "top_p": 0.95, "may_end": False}


def recordings(folder, tokenizer, seconds):
    """Long recordings of a set whose voices take turns.

    Arguments
    ---------
    folder : str
        A split, laid out as LibriSpeech is.
    tokenizer : AudioTokenizer
    seconds : float
        Length of each.

    Returns
    -------
    list of torch.Tensor
        Tokens [T, K], one recording for each voice: it begins.
    """
    spoken = {}
    with torch.inference_mode():
        for voice, chapters in tqdm(read_voices(folder).items(), "tokens"):
            parts = []
            for path, _ in sum(chapters, []):
                wav, _ = soundfile.read(path, dtype="float32")
                parts.append(tokenizer.encode(torch.from_numpy(wav)[None])[0])
            spoken[voice] = torch.cat(parts)
    names, size = list(spoken), round(seconds * tokenizer.frame_rate)
    made = []
    for first in range(len(names)):
        order = names[first:] + names[:first]
        tokens = torch.cat([spoken[name] for name in order])
        if len(tokens) < size:
            raise ValueError(
                f"{folder}: {len(tokens) / tokenizer.frame_rate:.0f} s of "
                f"audio in all, but {seconds:.0f} s are needed"
            )
        made.append(tokens[:size])
    return made


@torch.inference_mode()
def likelihood(systems, tokens, rate):
    """Bits per token over position of each system.

    Returns
    -------
    tables : dict
        As `nll_table`, of each system.
    paired : dict
        Of each other system and bin, LaCT's relative difference with its
        95 % interval.
    """
    edges = [round(edge * rate) for edge in EDGES]
    tables, sums = {}, {}
    for name, generator in systems.items():
        net = generator.model
        rows = [
            torch.cat([net.begin_row(), net.audio_rows(t, end=False)])
            for t in tokens
        ]
        parts = [
            nll_over_position(net, [row], edges, segment=512)
            for row in tqdm(rows, f"likelihood {name}")
        ]
        bits, counts = (torch.cat(part) for part in zip(*parts))
        tables[name] = nll_table(bits, counts, edges, rate)
        sums[name] = bits
    first, paired = next(iter(systems)), {}
    speakers = [str(i) for i in range(len(tokens))]
    for name in list(systems)[1:]:
        paired[name] = []
        for place in range(len(edges) - 1):
            found = compare_paired(
                speakers,
                sums[first][:, place].numpy(),
                sums[name][:, place].numpy(),
            )
            paired[name].append([found.difference, found.low, found.high])
    return tables, paired


@torch.inference_mode()
def token_costs(generator, lengths):
    """Time and state of a token at each length of context.

    Rows are generated in between; learning is among the steps that are timed.
    """
    net, rate = generator.model, generator.tokenizer.frame_rate
    state, sampling = generator.begin(), Sampling(**SAMPLING)
    rows, made = [], 0
    for seconds in tqdm(lengths, "cost"):
        first = round(seconds * rate) - STEPS
        # The context is read at once, as a prompt would be.
        fill = torch.randint(
            net.codebook_size, (1, first - made, net.codebooks)
        )
        for part in fill.split(512, 1):
            _, model = net(part, state=state.model)
            read = state.made + part.shape[1]
            state = replace(state, model=model, made=read)
        times = []
        for _ in range(STEPS):
            began = time.perf_counter()
            _, _, state = net.step(state, sampling)
            times.append(time.perf_counter() - began)
        made = first + STEPS
        sizes = []
        state.map(lambda x: sizes.append(x.numel() * x.element_size()))
        rows.append(
            {
                "seconds": seconds,
                "ms_per_row": 1000 * statistics.mean(times),
                "median_ms_per_row": 1000 * statistics.median(times),
                "state_MiB": sum(sizes) / 2**20,
            }
        )
    return rows


def costs(systems, rounds):
    """Costs of each system, taken in turns; of each length the least."""
    found = {name: [] for name in systems}
    for _ in range(rounds):
        for name, generator in systems.items():
            found[name].append(token_costs(generator, LENGTHS))
    return {
        name: [
            min(same, key=lambda row: row["ms_per_row"])
            for same in zip(*tables)
        ]
        for name, tables in found.items()
    }


def coherence(systems, tokens, seconds, count, embedder):
    """Measures of the last seconds of generated and of real audio.

    Each system goes on from 3 s of an unseen voice; real audio goes on itself.
    """
    measures, tracks, first = {"real": []}, {}, None
    for name, generator in systems.items():
        tokenizer = generator.tokenizer
        rate, frames = tokenizer.sample_rate, round(3 * tokenizer.frame_rate)
        measures[name], tracks[name] = [], []
        for number in tqdm(range(count), f"generating {name}"):
            with torch.inference_mode():
                prompt = tokenizer.decode(tokens[number][None, :frames])[0]
            state = generator.begin(prompt=prompt, seed=number)
            began = time.perf_counter()
            wav, made, _ = generator.generate(state, seconds, **SAMPLING)
            took = time.perf_counter() - began
            size = generator.model.codebook_size
            row = measure(wav, made, rate, size, prompt, embedder, LAST)
            row["compute per second"] = took / seconds
            measures[name].append(row)
            whole = measure(wav, made, rate, size, prompt, embedder)
            tracks[name].append(whole["similarity_over_time"])
            if first is None:
                measures["real"].append(
                    _real(tokenizer, tokens[number], seconds, prompt, embedder)
                )
        first = name
    return measures, tracks


def _real(tokenizer, tokens, seconds, prompt, embedder):
    """Measures of real audio, through the tokenizer as well."""
    tokens = tokens[: round(seconds * tokenizer.frame_rate)]
    with torch.inference_mode():
        wav = tokenizer.decode(tokens[None])[0]
    size = tokenizer.codebook_sizes[0]
    rate = tokenizer.sample_rate
    return measure(wav, tokens, rate, size, prompt, embedder, LAST)


def crossing(one, other):
    """The length from which one system's token is cheaper, or None."""
    cheaper = [a["ms_per_row"] < b["ms_per_row"] for a, b in zip(one, other)]
    for place, row in enumerate(one):
        if all(cheaper[place:]):
            return row["seconds"]
    return None


def plot_costs(tables, path):
    """Time and memory of a token over the length of context."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, rows in tables.items():
        seconds = [row["seconds"] for row in rows]
        left.plot(seconds, [r["ms_per_row"] for r in rows], "o-", label=name)
        right.plot(seconds, [r["state_MiB"] for r in rows], "o-", label=name)
    for axis, label in ((left, "ms a row of tokens"), (right, "state (MiB)")):
        axis.set(xscale="log", xlabel="context (s)", ylabel=label)
        axis.set_ylim(0, None)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=150)


def report(found):
    """All tables as Markdown."""
    names = list(found["sizes"])
    lines = [
        "Parameters: " + ", ".join(f"{n} {found['sizes'][n]}" for n in names)
    ]
    if "likelihood" in found:
        lines += ["", "Bits per token, 95 % intervals over recordings:", ""]
        lines += [f"| position (s) | {' | '.join(names)} |"]
        lines += ["| --- " * (len(names) + 1) + "|"]
        for same in zip(*found["likelihood"].values()):
            cells = [
                f"{r['bits']:.4f} [{r['low']:.4f}, {r['high']:.4f}]"
                for r in same
            ]
            place = f"{same[0]['start']:.0f} to {same[0]['end']:.0f}"
            lines.append(f"| {place} | {' | '.join(cells)} |")
    if "costs" in found:
        lines += [
            "",
            "A row of tokens (a frame), mean ms / state in MiB:",
            "",
        ]
        lines += [f"| context (s) | {' | '.join(names)} |"]
        lines += ["| --- " * (len(names) + 1) + "|"]
        for same in zip(*found["costs"].values()):
            cells = [
                f"{r['ms_per_row']:.2f} / {r['state_MiB']:.2f}" for r in same
            ]
            lines.append(f"| {same[0]['seconds']} | {' | '.join(cells)} |")
    if "coherence" in found:
        lines += ["", "Last 10 s of what was generated, 95 % intervals:", ""]
        lines += ["| measure | system | mean | relative to real |"]
        lines += ["| --- " * 4 + "|"]
        for row in found["coherence"]:
            if row["mean"] is None:
                continue
            low, high = row["low"], row["high"]
            interval = "" if low is None else f" [{low:.3g}, {high:.3g}]"
            change = row["change"]
            change = "" if change is None else f"{100 * change:+.0f} %"
            lines.append(
                f"| {row['measure']} | {row['system']} | "
                f"{row['mean']:.3g}{interval} | {change} |"
            )
    return "\n".join(lines)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    add("--data", default="data/MiniSpeech/test-clean")
    add("--rounds", type=int, default=2, help="of timing")
    add("--seconds", type=float, default=60.0, help="to generate")
    add("--count", type=int, default=8, help="recordings to generate")
    add("--only", nargs="+", choices=["likelihood", "costs", "coherence"])
    options = parser.parse_args()
    parts = options.only or ["likelihood", "costs", "coherence"]
    folders = dict(item.split("=", 1) for item in options.models)
    embedder = load_embedder()
    systems = {
        name: AudioGenerator.from_hparams(folder, embedder)
        for name, folder in folders.items()
    }
    tokenizer = next(iter(systems.values())).tokenizer
    rate = tokenizer.frame_rate
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "audio_lm.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found["sizes"] = {
        name: sum(p.numel() for p in generator.model.parameters())
        for name, generator in systems.items()
    }
    # First, while nothing else was computed.
    if "costs" in parts:
        found["costs"] = costs(systems, options.rounds)
        plot_costs(found["costs"], RESULTS / "audio_lm_costs.png")
    tokens = recordings(options.data, tokenizer, EDGES[-1])
    if "likelihood" in parts:
        tables, paired = likelihood(systems, tokens, rate)
        found["likelihood"], found["paired"] = tables, paired
        plot_nll(tables, RESULTS / "audio_lm_nll.png", trained=512 / rate)
    if "coherence" in parts:
        measures, tracks = coherence(
            systems, tokens, options.seconds, options.count, embedder
        )
        found["coherence"] = compare(measures, "real")
        plot_over_time(
            {
                name: (many[0][0], [values for _, values in many])
                for name, many in tracks.items()
            },
            RESULTS / "audio_lm_voice.png",
        )
    found["about"] = machine.about()
    path.write_text(json.dumps(found, indent=1))
    path.with_suffix(".md").write_text(report(found) + "\n")
    print(found["about"], report(found), sep="\n")
    if "transformer" in systems and "costs" in found:
        names = list(systems)
        place = crossing(
            found["costs"][names[0]], found["costs"]["transformer"]
        )
        print(f"{names[0]} is cheaper than the transformer from {place} s on")


if __name__ == "__main__":
    main()
