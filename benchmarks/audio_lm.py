#!/usr/bin/env python3
"""Language models of audio tokens on long audio: what they know, and what a
token costs.

- Bits per token over position, on recordings of unseen voices that are many
  times as long as what the models were trained on. The voices of a set take
  turns; each voice stands at each place of some recording.
- Milliseconds and bytes a token over the length of what was generated.
- Measures of pieces of audio that was generated for minutes, and of real
  speech of the same voices beside them.
- Word errors of a recogniser on text that was to be said, and on real speech.

Results are written after each part and each model; parts and models that are
not asked for keep what they had, if it was measured with the same settings.

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

import soundfile
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from speechbrain_lact.evaluation.audio.comparison import compare
from speechbrain_lact.evaluation.audio.likelihood import (
    nll_over_position,
    nll_table,
)
from speechbrain_lact.evaluation.audio.measure import measure_pieces
from speechbrain_lact.evaluation.audio.plots import plot_nll, plot_over_time
from speechbrain_lact.evaluation.audio.words import word_errors
from speechbrain_lact.evaluation.conversations import read_voices
from speechbrain_lact.evaluation.statistics import (
    compare as compare_paired,
    wer_interval,
)
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.AudioLM import AudioGenerator
from speechbrain_lact.inference.speakers import load_embedder
from speechbrain_lact.lobes.models.audio_lm.generation import Sampling
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).resolve().parent / "results"
EDGES = (0, 5, 10, 20, 30, 60, 120, 180, 240, 300)  # seconds
LENGTHS = (10, 20, 40, 80, 150, 300)  # seconds of context
STEPS = 256  # timed at each of them: whole chunks of the memory
PROMPT = 3.0  # seconds that generated audio goes on from
ENDS = (30, 60, 120, 300)  # seconds where a piece that is measured ends
PIECE = 10.0  # seconds of it
SAMPLING = {"temperature": 1.0, "top_p": 1.0}
MEASURES = {
    "speaker_similarity": "voice likeness",
    "rolloff_variation": "roll-off variation",
    "pitch_jump": "pitch jump (semitones)",
    "voiced": "voiced",
    "modulation": "modulation, 2 to 8 Hz",
    "token_entropy": "token entropy (bits)",
    "repetition": "repetition",
    "mos": "predicted MOS",
}
DRAWN = "speaker_similarity", "modulation", "token_entropy", "repetition"


def read(path):
    """Samples [S] of a file."""
    return torch.from_numpy(soundfile.read(path, dtype="float32")[0])


@torch.inference_mode()
def spoken_by(folder, tokenizer):
    """Tokens of all that each voice of a set says.

    Arguments
    ---------
    folder : str
        A split, laid out as LibriSpeech is.
    tokenizer : AudioTokenizer

    Returns
    -------
    dict of torch.Tensor
        [T, K] of each voice.
    """
    spoken = {}
    for voice, chapters in tqdm(read_voices(folder).items(), "tokens"):
        paths = [path for path, _ in sum(chapters, [])]
        parts = [tokenizer.encode(read(path)[None])[0] for path in paths]
        spoken[voice] = torch.cat(parts)
    return spoken


def recordings(spoken, rate, seconds):
    """Long recordings whose voices take turns.

    Arguments
    ---------
    spoken : dict of torch.Tensor
        As `spoken_by` returns.
    rate : float
        Frames per second.
    seconds : float
        Length of each.

    Returns
    -------
    list of torch.Tensor
        Tokens [T, K], one recording for each voice: it begins.
    """
    names, size = list(spoken), round(seconds * rate)
    made = []
    for first in range(len(names)):
        order = names[first:] + names[:first]
        tokens = torch.cat([spoken[name] for name in order])
        if len(tokens) < size:
            raise ValueError(
                f"{len(tokens) / rate:.0f} s of audio in all, but "
                f"{seconds:.0f} s are needed"
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
    state = generator.begin()
    sampling = Sampling(**SAMPLING, may_end=False)
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


def pieces(systems, spoken, ends, count, takes, embedder):
    """Measures of pieces of audio that goes on from the same voices.

    Arguments
    ---------
    systems : dict of AudioGenerator
    spoken : dict of torch.Tensor
        As `spoken_by` returns.
    ends : list of int
        Seconds where the pieces end.
    count : int
        Voices that are taken.
    takes : int
        Recordings that go on from each; a voice has the mean of its own.
    embedder : EncoderClassifier

    Yields
    ------
    name : str
        `real`, then each system.
    found : list of list of dict
        As `mean_of`, of each end and voice; real speech has one end, of all
        its pieces together.
    """
    if not 0 < count <= len(spoken):
        raise ValueError(
            f"--count: {count}, but there are {len(spoken)} voices"
        )
    tokenizer = next(iter(systems.values())).tokenizer
    frames = round(PROMPT * tokenizer.frame_rate)
    rate, size = tokenizer.sample_rate, tokenizer.codebook_sizes[0]
    chosen = dict(list(spoken.items())[:count])
    prompts = [tokens[:frames] for tokens in chosen.values()]

    def measured(tokens, ends, prompt):
        with torch.inference_mode():
            wav, voice = (
                tokenizer.decode(t[None])[0] for t in (tokens, prompt)
            )
        found = measure_pieces(
            wav, tokens, rate, size, ends, voice, embedder, PIECE
        )
        return [mean_of([piece]) for piece in found]

    real = []
    for (voice, tokens), prompt in zip(chosen.items(), prompts):
        rest = tokens[frames:]
        many = int(len(rest) / tokenizer.frame_rate / PIECE)
        if not many:
            raise ValueError(
                f"{voice}: {len(tokens) / tokenizer.frame_rate:.1f} s of "
                f"speech, but {PROMPT + PIECE:g} s are needed"
            )
        places = [PIECE * (place + 1) for place in range(many)]
        real.append(mean_of(measured(rest, places, prompt)))
    yield "real", [real]
    for name, generator in systems.items():
        heard = prompts * takes
        made = generate(generator, heard, ends[-1], name)
        rows = [measured(t, ends, prompt) for t, prompt in zip(made, heard)]
        # Of each end: a mean for each voice.
        yield (
            name,
            [
                [mean_of(same[voice::count]) for voice in range(count)]
                for same in zip(*rows)
            ],
        )


def mean_of(found):
    """What is reported of pieces, as of one: means, or why there are none."""
    reasons = found[0]["skipped"]
    row = {"skipped": {n: reasons[n] for n in MEASURES if n in reasons}}
    for name in MEASURES:
        values = [one[name] for one in found if one[name] is not None]
        row[name] = statistics.mean(values) if values else None
    return row


@torch.inference_mode()
def generate(generator, prompts, seconds, name):
    """Audio that goes on from prompts [T', K], all at once [B, T, K]."""
    net, tokenizer = generator.model, generator.tokenizer
    speaker = None
    if net.voice is not None:
        wavs = [tokenizer.decode(prompt[None])[0] for prompt in prompts]
        speaker = torch.cat([generator.voice(wav) for wav in wavs])
    state, made = net.begin(None, prompts, speaker=speaker), []
    most = generator.frames(seconds)
    for first in tqdm(range(0, most, STEPS), f"generating {name}"):
        size = min(STEPS, most - first)
        tokens, state = net.generate(state, size, may_end=False, **SAMPLING)
        made.append(tokens)
    return torch.cat(made, 1)


def sentences(folder, count):
    """Sentences of a set, one of each voice, then the next of each
    [(path, text)]."""
    voices = [sum(chapters, []) for chapters in read_voices(folder).values()]
    found = [pair for same in zip(*voices) for pair in same]
    if not 0 < count <= len(found):
        raise ValueError(f"--sentences: {count}, but {folder} has {len(found)}")
    return found[:count]


@torch.inference_mode()
def said(systems, pairs, asr):
    """Word errors on sentences that were to be said.

    Arguments
    ---------
    systems : dict of AudioGenerator
    pairs : list of tuple
        As `sentences` returns them.
    asr : LaCTASR
        The recogniser.

    Yields
    ------
    name : str
        `real`: the recordings; `tokenizer`: they as tokens and back; then
        each system, which is given the text alone and may speak for twice as
        long as the recording.
    found : list of list of int
        Errors and words of each sentence.
    """
    tokenizer = next(iter(systems.values())).tokenizer
    rate = tokenizer.sample_rate
    wavs = [read(path) for path, _ in pairs]

    def heard(wavs):
        # Half a second more: the recogniser needs some audio.
        wavs = [torch.nn.functional.pad(wav, (0, rate // 2)) for wav in wavs]
        return [
            word_errors(wav, text, rate, asr)
            for wav, (_, text) in zip(wavs, pairs)
        ]

    yield "real", heard(wavs)
    both = [tokenizer.decode(tokenizer.encode(w[None]))[0] for w in wavs]
    yield "tokenizer", heard(both)
    for name, generator in systems.items():
        made = []
        for seed, (_, text) in enumerate(tqdm(pairs, f"saying {name}")):
            state = generator.begin(text, seed=seed)
            most = 2 * len(wavs[seed]) / rate
            made.append(generator.generate(state, most, **SAMPLING)[0])
        yield name, heard(made)


def part_of(found, name, settings):
    """Results of a part with these settings: those that are there, or none
    yet."""
    if found.get(name, {}).get("settings") != settings:
        found[name] = {"settings": settings, "systems": {}}
    return found[name]


def compared(part):
    """Means of measures of each system and end, beside real speech."""
    systems, rows = dict(part["systems"]), []
    (real,) = systems.pop("real")
    for place, end in enumerate(part["settings"]["ends"]):
        now = {name: many[place] for name, many in systems.items()}
        for row in compare({"real": real, **now}, "real"):
            rows.append({"seconds": end, **row})
    return rows


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


def table(head, rows):
    """Lines of Markdown."""
    return markdown_table(rows, head).splitlines()


def likelihood_table(tables, paired):
    """Bits per token, and the first system's differences to the others, as
    lines of Markdown."""
    first, rows = next(iter(tables)), []
    for place, same in enumerate(zip(*tables.values())):
        cells = [f"{same[0]['start']:.0f} to {same[0]['end']:.0f}"]
        for r in same:
            cells.append(f"{r['bits']:.4f} [{r['low']:.4f}, {r['high']:.4f}]")
        for found in paired.values():
            share, low, high = (100 * x for x in found[place])
            cells.append(f"{share:+.2f} % [{low:+.2f}, {high:+.2f}]")
        rows.append(cells)
    against = [f"{first} against {name}" for name in paired]
    return table(["position (s)", *tables, *against], rows)


def costs_table(tables):
    """Time and state, as lines of Markdown."""
    rows = [
        [same[0]["seconds"]]
        + [f"{r['ms_per_row']:.2f} / {r['state_MiB']:.2f}" for r in same]
        for same in zip(*tables.values())
    ]
    return table(["context (s)", *tables], rows)


def coherence_lines(part):
    """Measures of pieces, with a table, as lines of Markdown."""
    rows, settings = compared(part), part["settings"]
    ends, count = settings["ends"], settings["count"]
    found = {(r["system"], r["seconds"], r["measure"]): r for r in rows}
    names = [name for name in MEASURES if any(name in key for key in found)]
    lines = []
    for system in part["systems"]:
        for end in ends[:1] if system == "real" else ends:
            cells = [cell(found.get((system, end, n)), count) for n in names]
            lines.append([system, "any" if system == "real" else end, *cells])
    title = (
        f"Pieces of {PIECE:g} s, by where they end, of what {count} voices "
        f"were gone on with after {PROMPT:g} s (takes of each: "
        f"{settings['takes']}). Means, 95 % intervals over voices, difference "
        f"to real speech of the same voices:"
    )
    head = ["system", "end (s)", *(MEASURES[name] for name in names)]
    lines = [title, "", *table(head, lines)]
    for name, reason in part["systems"]["real"][0][0]["skipped"].items():
        lines += ["", f"{MEASURES[name]}: skipped. {reason}"]
    return lines


def cell(row, count):
    """A mean, its interval, the difference to real speech, and of how many
    recordings it is if some do not have it."""
    if row is None or row["mean"] is None:
        return "-"
    text, notes = f"{row['mean']:.2f}", []
    if row["low"] is not None:
        text += f" [{row['low']:.2f}, {row['high']:.2f}]"
    if row["system"] != "real" and row["change"] is not None:
        notes.append(f"{100 * row['change']:+.0f} %")
    if row["count"] < count:
        notes.append(f"{row['count']} of {count}")
    return f"{text} ({', '.join(notes)})" if notes else text


def text_lines(part):
    """Word errors, with a table, as lines of Markdown."""
    lines = []
    for system, pairs in part["systems"].items():
        errors, words = zip(*pairs)
        rate, low, high = wer_interval(range(len(pairs)), errors, words)
        interval = "" if low is None else f" [{low:.1f}, {high:.1f}]"
        lines.append([system, f"{rate:.1f}{interval}", sum(words)])
    title = (
        f"Word errors in % of the recogniser in the box, on "
        f"{part['settings']['sentences']} sentences of held-out voices that "
        f"were to be said, 95 % intervals over sentences; `tokenizer`: the "
        f"real ones as tokens and back:"
    )
    return [title, "", *table(["system", "WER", "words"], lines)]


def report(found):
    """All tables as Markdown."""
    sizes = ", ".join(f"{n} {size}" for n, size in found["sizes"].items())
    lines = [f"Parameters: {sizes}"]
    if "likelihood" in found:
        lines += ["", "Bits per token, 95 % intervals over recordings:", ""]
        lines += likelihood_table(found["likelihood"], found["paired"])
    if "costs" in found:
        lines += ["", "A row of tokens (a frame), mean ms / state in MiB:", ""]
        lines += costs_table(found["costs"])
    if "pieces" in found:
        lines += ["", *coherence_lines(found["pieces"])]
    if "text" in found:
        lines += ["", *text_lines(found["text"])]
    return "\n".join(lines)


def write(found):
    """Keeps what was measured so far."""
    path = RESULTS / "audio_lm.json"
    # A kill leaves the old file or the new one.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1))
    part.replace(path)
    path.with_suffix(".md").write_text(report(found) + "\n")


def main(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    parts = ["costs", "likelihood", "coherence", "text"]
    add("--models", nargs="+", required=True, metavar="NAME=FOLDER")
    add("--data", default="data/MiniSpeech/test-clean")
    add("--rounds", type=int, default=2, help="of timing")
    add("--seconds", type=float, default=300.0, help="to generate")
    add("--count", type=int, default=8, help="voices to go on from")
    add("--takes", type=int, default=1, help="recordings from each voice")
    add("--sentences", type=int, default=6, help="to be said")
    add("--only", nargs="+", choices=parts, default=parts)
    options = parser.parse_args(argv)
    ends = [end for end in ENDS if end <= options.seconds]
    if not ends:
        parser.error(f"--seconds: {options.seconds:g}, at least {ENDS[0]}")
    folders = dict(item.split("=", 1) for item in options.models)
    embedder = load_embedder("small")
    systems = {
        name: AudioGenerator.from_hparams(folder, embedder)
        for name, folder in folders.items()
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "audio_lm.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    found["about"] = machine.about()
    found.setdefault("sizes", {}).update(
        {
            name: sum(p.numel() for p in generator.model.parameters())
            for name, generator in systems.items()
        }
    )
    # First, while nothing else was computed.
    if "costs" in options.only:
        found["costs"] = costs(systems, options.rounds)
        plot_costs(found["costs"], RESULTS / "audio_lm_costs.png")
        write(found)
    tokenizer = next(iter(systems.values())).tokenizer
    rate = tokenizer.frame_rate
    if {"likelihood", "coherence"} & {*options.only}:
        spoken = spoken_by(options.data, tokenizer)
    if "likelihood" in options.only:
        tokens = recordings(spoken, rate, EDGES[-1])
        tables, paired = likelihood(systems, tokens, rate)
        found["likelihood"], found["paired"] = tables, paired
        plot_nll(tables, RESULTS / "audio_lm_nll.png", trained=512 / rate)
        write(found)
    if "coherence" in options.only:
        count, takes = options.count, options.takes
        settings = {"data": options.data, "ends": ends, "count": count}
        settings = {**settings, "takes": takes, **SAMPLING}
        part = part_of(found, "pieces", settings)
        for name, rows in pieces(systems, spoken, ends, count, takes, embedder):
            part["systems"][name] = rows
            write(found)
        labels = {name: MEASURES[name] for name in DRAWN}
        plot_over_time(
            compared(part), labels, RESULTS / "audio_lm_coherence.png", "real"
        )
    if "text" in options.only:
        settings = {"data": options.data, "sentences": options.sentences}
        part = part_of(found, "text", {**settings, **SAMPLING})
        pairs = sentences(options.data, options.sentences)
        asr = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
        for name, errors in said(systems, pairs, asr):
            part["systems"][name] = errors
            write(found)
    print(found["about"], report(found), sep="\n")
    if "transformer" in systems and "costs" in found:
        names = list(systems)
        place = crossing(
            found["costs"][names[0]], found["costs"]["transformer"]
        )
        print(f"{names[0]} is cheaper than the transformer from {place} s on")


if __name__ == "__main__":
    main(sys.argv[1:])
