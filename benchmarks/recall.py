#!/usr/bin/env python3
"""What a memory can hold, without speech: frames that each hold a key and a
value, and later the keys alone, for which the values are to be said.

The pairs come first, a frame each; then `distance` frames that hold nothing;
then the keys in random order. Keys and values are learned embeddings, a pair
is their sum. With `noise` a key asked for is not the key stored: Gaussian noise
is added to it, so many times as large as keys are. With `overwritten` that
share of the keys was stored before with another value, and the latest counts.

A causal layer of each mixer is trained from fresh random sequences at each
step, and tested on others, also further away than in training. Chance is 1 in
64.

> python benchmarks/recall.py [--only rates capacity state]
> python benchmarks/recall.py --report

Each training is kept in benchmarks/results/recall.json as soon as it has
ended; one that is there with the same settings is not run again.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from speechbrain_lact.nnet.mixers import mixer_class
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
SYMBOLS = 64  # keys, and as many values
WIDTH, LAYERS, HEADS = 64, 1, 2
CHUNK = 16  # frames; the window is as long
ENOUGH = 0.995  # of the answers: training ends
CHANCE, HOPELESS = 0.035, 150  # below it after so many steps: training ends
# What a trained model is tested at, the rest as in `EASY`.
EXAM = {
    "pairs": (4, 8, 16, 32, 64),
    "distance": (0, 16, 64, 128, 256, 1024),
    "noise": (0.0, 0.25, 0.5, 1.0),
    "overwritten": (0.0, 0.5, 1.0),
}


@dataclass(frozen=True)
class Task:
    """What is stored and asked for. Several numbers: one is drawn for each
    batch of training."""

    pairs: tuple = (8,)
    distance: int = 64
    noise: float = 0.0
    overwritten: tuple = (0.0,)

    def one(self, generator):
        """A task with one number of each."""
        pairs, overwritten = (
            x[int(torch.randint(len(x), (1,), generator=generator))]
            for x in (self.pairs, self.overwritten)
        )
        return replace(self, pairs=pairs, overwritten=overwritten)

    def draw(self, rows, generator):
        """Sequences of a task with one number of each.

        Arguments
        ---------
        rows : int
            How many.
        generator : torch.Generator

        Returns
        -------
        keys, values : torch.Tensor
            Of each frame, 0 for none [rows, T].
        answers : torch.Tensor
            What is to be said of the last frames [rows, pairs].
        """
        again = round(self.pairs * self.overwritten)
        order = torch.rand(rows, SYMBOLS, generator=generator).argsort(1)
        keys = order[:, : self.pairs] + 1
        values = torch.randint(
            1, SYMBOLS + 1, (rows, again + self.pairs), generator=generator
        )
        stored = torch.cat([keys[:, :again], keys], 1)
        places = torch.rand(keys.shape, generator=generator).argsort(1)
        nothing = keys.new_zeros(rows, self.distance)
        asked = keys.gather(1, places)
        answers = values[:, again:].gather(1, places)
        return (
            torch.cat([stored, nothing, asked], 1),
            torch.cat([values, nothing, torch.zeros_like(asked)], 1),
            answers - 1,
        )


EASY = Task(pairs=8, overwritten=0.0)
MIXED = Task(pairs=(4, 8, 16, 32, 64), overwritten=(0.0, 0.0, 0.5))


class LinearAttention(nn.Module):
    """A sum of outer products of keys and values, read with queries:
    https://arxiv.org/abs/2006.16236. For comparison, whole sequences only."""

    def __init__(self, d_model, nhead, causal=True):
        super().__init__()
        self.nhead = nhead
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(self, x, *_):
        """As a mixer without a state."""
        q, k, v = (
            y.unflatten(-1, (self.nhead, -1)).transpose(1, 2)
            for y in self.in_proj(x).chunk(3, -1)
        )
        q, k = F.elu(q) + 1, F.elu(k) + 1
        scores = (q @ k.mT).tril()
        out = scores @ v / (scores.sum(-1, keepdim=True) + 1e-6)
        return self.out_proj(out.transpose(1, 2).flatten(2)), None


class Block(nn.Module):
    """A mixer and a feed-forward network, each beside what comes in."""

    def __init__(self, mixer):
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(WIDTH), mixer
        self.network = nn.Sequential(
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 2 * WIDTH),
            nn.GELU(),
            nn.Linear(2 * WIDTH, WIDTH),
        )

    def forward(self, x):
        """[B, T, E] in and out."""
        y = self.norm(x)
        x = x + self.mixer(y, y, y)[0]
        return x + self.network(x)


class Model(nn.Module):
    """Embeddings, a block and an output of values."""

    def __init__(self, mixer, options):
        super().__init__()
        self.keys = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.values = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.blocks = nn.Sequential(
            *(Block(make_mixer(mixer, options)) for _ in range(LAYERS))
        )
        self.out = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, SYMBOLS))

    def forward(self, keys, values, asked, noise, generator):
        """Scores of the values for the last frames [B, asked, SYMBOLS]."""
        x = self.keys(keys)
        if noise:
            more = torch.randn(x[:, -asked:].shape, generator=generator)
            x = torch.cat([x[:, :-asked], x[:, -asked:] + noise * more], 1)
        x = self.blocks(x + self.values(values))
        return self.out(x[:, -asked:])


def make_mixer(name, options):
    """A causal mixer by its name."""
    if name == "linear":
        return LinearAttention(WIDTH, HEADS)
    if name == "LaCT":
        options = {
            "chunk_size": CHUNK,
            "order": "apply_update",
            "window": (CHUNK, 0),
            "fast_heads": 2,
            **options,
        }
    elif name == "window":
        options = {"window": (CHUNK, 0), **options}
    return mixer_class(name)(WIDTH, HEADS, causal=True, **options)


def state_numbers(model, frames):
    """Numbers that a sequence of so many frames leaves behind in the memories
    (without optimiser moments, which are as large), from the sizes."""
    total = 0
    for block in model.blocks:
        mixer = block.mixer
        kind = type(mixer).__name__
        if kind == "LinearAttention":
            total += WIDTH * (WIDTH // HEADS + 1)
        elif kind == "GatedDelta":
            total += HEADS * mixer.value_width * mixer.key_width
        else:
            seen = min(mixer.window.left, frames)
            total += 2 * WIDTH * int(seen)
            if mixer.fast:
                total += 3 * mixer.w0.numel()
    return total


def train(task, mixer, options, steps, rate=4e-3, batch=16, seed=0, show=None):
    """Trains a model and tests it.

    Arguments
    ---------
    task : Task
    mixer : str
        `linear`, or as `mixer_class` has it.
    options : dict
        Arguments of the mixer.
    steps : int
        At most: at 8 pairs alone training ends when nearly all answers are
        right, or at step `HOPELESS` if they are by chance.
    rate : float
        Learning rate of AdamW, after 20 steps of warm-up.
    batch, seed : int
        Sequences of a step; seed of weights and sequences.
    show : callable, optional
        Is given step and accuracy.

    Returns
    -------
    dict
        `steps`, `curve` of accuracies at 8 pairs while training, `seconds` of
        the processor, numbers in the `state` of a sequence, and what `exam`
        finds.
    """
    torch.manual_seed(seed)
    model = Model(mixer, options)
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    curve, began = [], time.process_time()
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = rate * min(step / 20, 1)
        loss, _ = answer(model, task.one(generator), batch, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == steps:
            curve.append([step, test(model, EASY, 64)])
            if show:
                show(*curve[-1])
            if not math.isfinite(float(loss.detach())):
                break
            if curve[-1][1] >= ENOUGH and task == Task():
                break
            if step == HOPELESS and curve[-1][1] < CHANCE and task == Task():
                break
    return {
        "steps": step,
        "curve": curve,
        "seconds": round(time.process_time() - began, 1),
        "state": state_numbers(model, EASY.distance + 2 * EASY.pairs),
        **exam(model, task),
    }


def answer(model, task, rows, generator):
    """Loss and share of right answers."""
    keys, values, answers = task.draw(rows, generator)
    scores = model(keys, values, task.pairs, task.noise, generator)
    loss = F.cross_entropy(scores.flatten(0, 1), answers.flatten())
    return loss, float((scores.argmax(-1) == answers).float().mean())


def test(model, task, rows, seed=1000):
    """Accuracy on sequences of its own."""
    with torch.no_grad():
        own = torch.Generator().manual_seed(seed)
        return round(answer(model, task, rows, own)[1], 4)


def exam(model, task):
    """Accuracy of a trained model at 8 pairs; and, of one that was trained
    with several numbers of pairs, over what is in `EXAM`."""
    found = {"accuracy": test(model, EASY, 256)}
    if len(task.pairs) > 1:
        for name, values in EXAM.items():
            found[name] = [
                [x, test(model, replace(EASY, **{name: x}), 64)] for x in values
            ]
    return found


# Inner optimisers and their rates, at 8 pairs: the grid.
RATES = {
    "muon": [{"base_lr": 0.01}],
    "sgd": [
        *({"base_lr": rate} for rate in (0.01, 1.0, 10.0)),
        {"base_lr": 1.0, "inner_loss": "mse"},
        *(
            {"base_lr": rate, "max_step_norm": norm}
            for rate, norm in ((100.0, 3.0), (1.0, 3.0), (100.0, 6.0))
        ),
    ],
    "adam": [
        *({"base_lr": rate} for rate in (0.02, 0.1)),
        *({"base_lr": rate, "max_step_norm": 3.0} for rate in (0.1, 1.0)),
    ],
}
OTHERS = ("full", "gated_delta", "linear", "window")
STEPS, MIXED_STEPS = 200, 300


def cells(best):
    """All trainings by section.

    Arguments
    ---------
    best : callable
        Gives the options of an optimiser that were best in the grid.

    Yields
    ------
    section : str
    cell : dict
        Arguments of `train`.
    """
    for optimizer, grid in RATES.items():
        for options in grid:
            options = {"optimizer": optimizer, **options}
            yield "rates", cell("LaCT", options)
    muon, sgd, adam = (("LaCT", best(optimizer)) for optimizer in RATES)
    others = [(name, {}) for name in OTHERS]
    for name, options in (muon, sgd, *others, adam):
        yield "capacity", cell(name, options, MIXED, MIXED_STEPS)
    for more in ({"learn": ["w1"]}, {"fast_heads": 1}, {"fast_heads": 4}):
        options = {**muon[1], **more}
        yield "state", cell("LaCT", options, MIXED, MIXED_STEPS)


def cell(mixer, options=None, task=Task(), steps=STEPS):
    """Arguments of a training, as JSON gives them back."""
    found = {
        "task": asdict(task),
        "mixer": mixer,
        "options": options or {},
        "steps": steps,
    }
    return json.loads(json.dumps(found))


class Results:
    """What is known, in a file."""

    def __init__(self, path):
        self.path, self.rows = path, []
        if path.exists():
            self.rows = json.loads(path.read_text())["rows"]

    def find(self, wanted):
        """The row of a training, or None."""
        for row in self.rows:
            if row["cell"] == wanted:
                return row
        return None

    def best(self, optimizer):
        """Options of an optimiser with which most is right at 8 pairs."""
        found = [
            row
            for row in self.rows
            for options in RATES[optimizer]
            if row["cell"] == cell("LaCT", {"optimizer": optimizer, **options})
        ]
        if not found:
            return {"optimizer": optimizer, **RATES[optimizer][0]}
        # Of those that end early the one that needed fewest steps.
        found.sort(key=lambda r: (r["accuracy"], -r["steps"]))
        return found[-1]["cell"]["options"]

    def add(self, wanted, found):
        """Keeps a row, whatever happens to the next."""
        about = machine.about()
        self.rows.append({"cell": wanted, **found, "commit": about["commit"]})
        self.path.parent.mkdir(exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(
            json.dumps({"about": about, "rows": self.rows}, indent=1)
        )
        part.replace(self.path)


def name_of(row):
    """How a system is called in tables and plots."""
    mixer, options = row["cell"]["mixer"], row["cell"]["options"]
    if mixer != "LaCT":
        return mixer
    more = [
        f"{k} {options[k]}" for k in ("learn", "fast_heads") if k in options
    ]
    return ", ".join(["LaCT", options["optimizer"], *more])


def task_of(wanted):
    """The task of a cell."""
    return Task(
        **{
            name: tuple(x) if isinstance(x, list) else x
            for name, x in wanted["task"].items()
        }
    )


def run(results, only=None):
    """All trainings that are not there yet."""
    for section, wanted in cells(results.best):
        if only and section not in only:
            continue
        if results.find(wanted):
            continue
        text = json.dumps(wanted["options"])
        print(section, wanted["mixer"], text, flush=True)

        def show(step, accuracy):
            """Progress in place."""
            print(
                f"\r  step {step}: {100 * accuracy:.1f} %", end="", flush=True
            )

        found = train(
            task_of(wanted),
            *(wanted[key] for key in ("mixer", "options", "steps")),
            show=show,
        )
        print(f"\r  {100 * found['accuracy']:.1f} %, {found['seconds']} s")
        results.add(wanted, found)


def percent(x):
    """A share as text."""
    return f"{100 * x:.1f}"


def tables(results):
    """Markdown: the grid of rates, and what each system holds."""
    grid, held = [], {name: [] for name in EXAM}
    for row in results.rows:
        wanted = row["cell"]
        options = ", ".join(f"{k} {v}" for k, v in wanted["options"].items())
        if task_of(wanted) == Task():
            shown = percent(row["accuracy"]), row["steps"], row["seconds"]
            grid.append([wanted["mixer"], options, *shown])
            continue
        for name in EXAM:
            cells = [percent(x) for _, x in row[name]]
            held[name].append([wanted["mixer"], options, row["state"], *cells])
    head = ["mixer", "options"]
    titles = [*head, "right, %", "steps", "processor s"]
    parts = ["## Rates, 8 pairs", markdown_table(grid, titles)]
    for name, rows in held.items():
        titles = [*head, "numbers", *(f"{name} {x}" for x in EXAM[name])]
        parts += [f"## Over {name}", markdown_table(rows, titles)]
    return "\n\n".join(parts) + "\n"


def plot(results, path):
    """Accuracy over pairs and over distance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2), ("pairs", "distance")):
        for row in results.rows:
            if name in row:
                x, y = zip(*row[name])
                axis.plot(x, [100 * v for v in y], "o-", label=name_of(row))
        axis.set(xlabel=name, ylabel="right answers (%)", ylim=(0, 101))
        axis.set_xscale("symlog", base=2, linthresh=4)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=130)


def report(results):
    """Tables and a picture beside the numbers."""
    text = tables(results)
    results.path.with_suffix(".md").write_text(text)
    plot(results, results.path.with_suffix(".png"))
    print(text)


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = ("rates", "capacity", "state")
    parser.add_argument("--only", nargs="+", choices=sections)
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = Results(RESULTS / "recall.json")
    if not options.report:
        run(results, options.only)
    report(results)


if __name__ == "__main__":
    main()
