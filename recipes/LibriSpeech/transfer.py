#!/usr/bin/env python3
"""Transfer to another domain: WER over the seconds spent on it, of LaCT's
initial memory and carried state against fine-tuning.

> python recipes/LibriSpeech/transfer.py --models lact=FOLDER \
    conformer=FOLDER wav2vec2=FOLDER

A model is the `model` folder of train.py. All learn the same labelled
utterances in the same order. LaCT may also carry its state over the session,
which takes no training, or train its initial fast weights alone. The second
half of H6 in `docs/methodology.md` is judged. Run the same command again after
a kill: what is done is kept.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import copy
import csv
import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from adaptation import (
    FIRST,
    LAST,
    PLAIN,
    TUNED,
    Task,
    _digest_set,
    _interval,
    _speakers,
    _table,
    _targets,
    _words,
    _write,
    _yes,
    clock,
    count_errors,
    hear_memory,
    hear_plain,
    is_scored,
    load_models,
    read_set,
)
from matplotlib.figure import Figure
from tqdm import tqdm

from speechbrain_lact.corpora.conditions import Condition
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.corpora.mini_speech.grammar import GRAMMARS
from speechbrain_lact.corpora.mini_speech.plan import GRAMMAR_VOICES
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.evaluation.peers import ctc_step
from speechbrain_lact.evaluation.statistics import wer_interval
from speechbrain_lact.lobes.models.pretrained import PretrainedFrontEnd

VERSION = 1  # raise it when the same settings give other results
PARTS = ("train", "dev", "test")
CARRIED, INITIAL = "carried", "initial memory"
TRAINED = (INITIAL, TUNED)
BATCH = 8  # utterances a step
CLOSE = 1.02  # times a WER: as good
SHARE = 0.5  # of fine-tuning's time, what H6 asks for


@dataclass
class Job(Task):
    """One way to adapt one model to one domain: a file when it is done."""

    data: dict  # utterances of the domain's parts


def prepare(given):
    """Lists of utterances by domain and part; MiniSpeech's are made."""
    folder, domains = given.data_folder, list(dict.fromkeys(given.domains))
    if not Path(folder).exists():
        for name in domains:
            if name not in GRAMMARS:
                raise ValueError(
                    f"--domains {name}: neither --data_folder {folder} nor a "
                    f"domain of MiniSpeech ({', '.join(GRAMMARS)})"
                )
        # The training voices are those of MiniSpeech with other sizes, too.
        prepare_mini_speech(
            folder,
            train_voices=GRAMMAR_VOICES,
            test_voices=GRAMMAR_VOICES,
            accent_share=0.0,
            extra_splits=" ".join(f"{p}-{d}" for d in GRAMMARS for p in PARTS),
        )
    found = {}
    for name in domains:
        splits = [f"{part}-{name}" for part in PARTS]
        csvs = prepare_librispeech(folder, [], [], splits, given.output_folder)
        sets = [read_set(path, LAST)[0] for path in csvs["test"]]
        found[name] = dict(zip(PARTS, sets))
        found[name]["train"] = lessons(sets[0], given.seconds_of_audio)
    return found


def lessons(utterances, seconds):
    """What is learned: the first utterance of every session, then the second.

    Arguments
    ---------
    utterances : list of Utterance
        The training split's.
    seconds : float
        How much audio at most.

    Returns
    -------
    list of Utterance
    """
    order = sorted(utterances, key=lambda u: (u.position, u.session))
    ends = itertools.accumulate(u.seconds for u in order)
    chosen = [u for u, end in zip(order, ends) if end <= seconds]
    if not chosen:
        raise ValueError(
            f"--seconds_of_audio {seconds:g}: the first utterance has "
            f"{order[0].seconds:.1f} s"
        )
    return chosen


# --- Ways to adapt -------------------------------------------------------


def ways(model):
    """What can be done with a model."""
    return [PLAIN, CARRIED, *TRAINED] if model.mixers else [PLAIN, TUNED]


def audience(model, way, utterances):
    """Utterances that are played: with a state, also those before."""
    if model.mixers and way != PLAIN:
        return [u for u in utterances if u.position < LAST]
    return list(filter(is_scored, utterances))


def hear(model, way, utterances, batch_size, bar):
    """Word errors of the scored utterances, by key.

    Arguments
    ---------
    model : Model
    way : str
        One of `ways`.
    utterances : list of Utterance
        A set.
    batch_size : int
        Sessions at a time.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    dict of int
    """
    played = audience(model, way, utterances)
    options = played, Condition(way, played).wave, batch_size, bar
    if model.mixers:
        system = "reset" if way == PLAIN else "carried"
        heard, _ = hear_memory(model, system, *options)
    else:
        heard = hear_plain(model, *options)
    return count_errors(list(filter(is_scored, utterances)), heard)


def error_rate(errors, utterances):
    """WER in percent and its interval, of errors by key."""
    told = [u for u in utterances if u.key in errors]
    counts = [errors[u.key] for u in told]
    return wer_interval(_speakers(told), counts, _words(told))


def learnable(model, way):
    """Parameters that a way trains; the others are frozen."""
    model.encoder.requires_grad_(way == TUNED)
    front = model.encoder.cnn
    if way == TUNED and isinstance(front, PretrainedFrontEnd):
        front.unfreeze()  # training may have left it as it was
    for mixer in model.mixers:
        for weight in (mixer.w0, mixer.w1, mixer.w2):
            weight.requires_grad_(True)
    return [p for p in model.encoder.parameters() if p.requires_grad]


def learn(model, batch, optimizer):
    """One step on samples and tokens; returns the loss before it."""
    batch = [
        part.to(model.asr.device) for x in zip(*batch) for part in pad_waves(x)
    ]
    return ctc_step(model.encoder, optimizer, batch, model.asr.blank).item()


def adapt(model, way, utterances, steps, rate, bar):
    """Trains a copy of a model.

    Arguments
    ---------
    model : Model
    way : str
        One of `TRAINED`.
    utterances : list of Utterance
        What is learned, again and again in this order.
    steps : list of int
        After which steps to show the copy, in ascending order.
    rate : float
        Adam's.
    bar : tqdm
        Counts utterances.

    Yields
    ------
    dict
        Steps that were made, their seconds and the last one's loss.
    Model
        The copy as it is then.
    """
    student = copy.copy(model)
    # Together, so that the mixers are those of the copy.
    together = copy.deepcopy((model.encoder, model.mixers))
    student.encoder, student.mixers = together
    optimizer = torch.optim.Adam(learnable(student, way), lr=rate)
    wave = Condition(way, utterances).wave
    read = itertools.cycle([(wave(u), _targets(model, u)) for u in utterances])
    seconds, loss = 0.0, None
    for step in range(steps[-1] + 1):
        if step:
            batch = list(itertools.islice(read, BATCH))
            began = clock(model)
            loss = learn(student, batch, optimizer)
            seconds += clock(model) - began
            bar.update(BATCH)
        if step in steps:
            yield {"steps": step, "seconds": seconds, "loss": loss}, student


# --- Runs that are kept --------------------------------------------------


def plan(given, models, domains):
    """All jobs, each with what its result and its time depend on."""
    for (name, data), model in itertools.product(domains.items(), models):
        for way in ways(model):
            settings = {"version": VERSION, "model": model.digest, "way": way}
            settings["data"] = [_digest_set(part) for part in data.values()]
            settings["device"] = given.device
            settings["threads"] = torch.get_num_threads()
            if way in TRAINED:
                rates = given.memory_rates if way == INITIAL else given.rates
                settings.update(steps=given.steps, rates=rates)
            yield Job(name, model, way, settings, data)


def do(job, given, bar):
    """Chooses the rate, trains, and hears the test set on the way.

    Arguments
    ---------
    job : Job
    given : argparse.Namespace
        The command line.
    bar : tqdm
        Counts utterances, learned and heard.

    Returns
    -------
    dict
        What its file holds; the choice's seconds apart from the others.
    """
    model, way, data = job.model, job.system, job.data
    result = {"settings": job.settings, "points": []}
    moments = [({"steps": 0, "seconds": 0.0, "loss": None}, model)]
    if way in TRAINED:
        began, found, last = clock(model), {}, given.steps[-1:]
        for rate in job.settings["rates"]:
            ((_, student),) = adapt(model, way, data["train"], last, rate, bar)
            errors = hear(student, way, data["dev"], given.batch_size, bar)
            found[rate] = error_rate(errors, data["dev"])[0]
        rate = min(found, key=found.get)
        result.update(rate=rate, dev=found, choice=clock(model) - began)
        moments = adapt(model, way, data["train"], given.steps, rate, bar)
    for point, student in moments:
        point["errors"] = hear(
            student, way, data["test"], given.batch_size, bar
        )
        result["points"].append(point)
    return result


def run(jobs, given):
    """Does all jobs that are not done."""
    folder = Path(given.output_folder)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if not job.path(folder).is_file()]
    for number, job in enumerate(todo, 1):
        sizes = {
            part: len(audience(job.model, job.system, utterances))
            for part, utterances in job.data.items()
        }
        total = sizes["test"]
        if job.system in TRAINED:
            learned = given.steps[-1] * BATCH
            total = len(given.steps) * total + learned
            total += len(job.settings["rates"]) * (learned + sizes["dev"])
        label = f"{job.condition}: {job.model.name} {job.system}"
        with tqdm(desc=f"{number}/{len(todo)} {label}", total=total) as bar:
            _write(job.path(folder), do(job, given, bar))


# --- What came out -------------------------------------------------------


def tabulate(jobs, folder):
    """A dictionary for each domain, system, way and number of steps."""
    rows = []
    for job in jobs:
        result = job.load(folder)
        for point in result["points"]:
            rate, low, high = error_rate(point["errors"], job.data["test"])
            row = {"domain": job.condition, "system": job.model.name}
            row.update(way=job.system, steps=point["steps"])
            row.update(seconds=point["seconds"], loss=point["loss"])
            row.update(WER=rate, WER_low=low, WER_high=high)
            row.update({k: result.get(k) for k in ("rate", "dev", "choice")})
            rows.append({**row, "memory": bool(job.model.mixers)})
    return rows


def judge(rows):
    """The second half of H6: time to the WER that fine-tuning ends with.

    That is fine-tuning of the first model without fast weights; and, for each
    model with them, of itself.

    Arguments
    ---------
    rows : list of dict
        Of `tabulate`.

    Returns
    -------
    list of str
        Sentences.
    """
    lines = []
    for _, some in itertools.groupby(rows, key=lambda row: row["domain"]):
        some = list(some)
        memory = {row["system"]: row["memory"] for row in some}
        plain = [name for name in memory if not memory[name]][:1]
        for goal in (*plain, *filter(memory.get, memory)):
            part = [r for r in some if goal in (*plain, r["system"])]
            lines += _judge(goal, part)
    return lines


def _judge(goal, rows):
    """Sentences on one domain and goal."""
    paths = {}
    for row in rows:
        paths.setdefault((row["system"], row["way"]), []).append(row)
    target = paths[goal, TUNED][-1]["WER"]
    needed = {
        key: min(
            (r["seconds"] for r in path if r["WER"] <= CLOSE * target),
            default=math.inf,
        )
        for key, path in paths.items()
    }
    whole = needed[goal, TUNED]
    where = f"{rows[0]['domain']}, {goal} {TUNED} ({target:.1f} %)"
    lines, fastest = [], {}
    for (system, way), seconds in needed.items():
        text = f"{seconds:.1f} s"
        if seconds == math.inf:
            least = min(row["WER"] for row in paths[system, way])
            text = f"not reached (best: {least:.1f} %)"
        elif whole:
            text += f", {seconds / whole:.0%} of its {whole:.1f} s"
        lines.append(f"{where}: {system} {way}: {text}.")
        if way in (CARRIED, INITIAL):
            fastest[system] = min(seconds, fastest.get(system, seconds))
    for system, seconds in fastest.items():
        verdict = _yes(seconds < SHARE * whole)
        if not whole:
            verdict = "no claim, for fine-tuning gained nothing"
        lines.append(f"H6, its second half, {where}: {system}: {verdict}.")
    return lines


def markdown(rows, judged, given):
    """The tables and what follows from them."""
    points, choices = [], []
    for row in rows:
        point = {k: row[k] for k in ("domain", "system", "way", "steps")}
        point["seconds"] = f"{row['seconds']:.2f}"
        point["WER"] = _interval(row, "WER", "{:.1f}")
        points.append(point)
        if row["rate"] and not row["steps"]:
            choice = {k: row[k] for k in ("domain", "system", "way", "rate")}
            dev = [f"{k}: {v:.1f}" for k, v in row["dev"].items()]
            choice["WER on dev"] = ", ".join(dev)
            choice["seconds"] = f"{row['choice']:.0f}"
            choices.append(choice)
    parts = [
        f"WER in percent of utterances {FIRST} to {LAST} of each session, with "
        "95 % intervals (bootstrap over speakers), and seconds of training "
        f"until then: {torch.get_num_threads()} thread(s) on {given.device}, "
        f"{BATCH} utterances a step, {given.seconds_of_audio:g} s in all. "
        f"LaCT carries its state over the session, but for `{PLAIN}`.",
        _table(points),
        "Learning rates were chosen on dev; this time is not counted above.",
        _table(choices),
        f"Seconds of training to the last WER of fine-tuning, within "
        f"{CLOSE - 1:.0%}. What is learned while a session is heard is no "
        "training (its cost: adaptation.py).",
        "\n".join(f"- {line}" for line in judged),
    ]
    return "\n\n".join(parts) + "\n"


def plot(rows, path):
    """Draws WER over the seconds of training, a panel for each domain."""
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    systems = list(dict.fromkeys(row["system"] for row in rows))
    styles = {PLAIN: ":", CARRIED: "--", INITIAL: "o-", TUNED: "s-."}
    size = max(5 * len(domains), 7), 5
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(domains), squeeze=False)
    for (domain, system, way), some in itertools.groupby(
        rows, key=lambda row: (row["domain"], row["system"], row["way"])
    ):
        axis, line = axes[0, domains.index(domain)], list(some)
        look = {"label": f"{system} {way}", "c": f"C{systems.index(system)}"}
        if way not in TRAINED:
            axis.axhline(line[0]["WER"], ls=styles[way], **look)
            continue
        # The logarithm has no place for 0 s: another way's line is there.
        places = [(r["seconds"], r["WER"]) for r in line if r["steps"]]
        axis.plot(*zip(*places), styles[way], ms=4, **look)
        axis.set(title=domain, xscale="log", ylim=(0, None))
    figure.supxlabel("seconds of training")
    figure.supylabel("WER (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=120)


def write_report(jobs, given):
    """Writes JSON, CSV, Markdown and the picture; returns the Markdown."""
    folder = Path(given.output_folder)
    rows = tabulate(jobs, folder)
    judged = judge(rows)
    threads = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    content = {
        "settings": {**vars(given), **threads, "scored": [FIRST, LAST]},
        "lessons": {
            job.condition: [u.key for u in job.data["train"]] for job in jobs
        },
        "rows": rows,
        "judged": judged,
        "runs": [job.path(folder).name for job in jobs],
    }
    (folder / "transfer.json").write_text(json.dumps(content, indent=1))
    with open(folder / "transfer.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    text = markdown(rows, judged, given)
    (folder / "transfer.md").write_text(text)
    plot(rows, folder / "transfer.png")
    return text


# --- The command ---------------------------------------------------------


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=" ".join(__doc__.split("\n\n")[0].split()),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, several = parser.add_argument, {"nargs": "+", "help": " "}
    add("--models", **several, metavar="NAME=FOLDER", required=True)
    add("--data_folder", default="data/MiniSpeechDomains", help=" ")
    add("--domains", **several, default=list(GRAMMARS))
    add("--output_folder", default="results/transfer", help=" ")
    add("--seconds_of_audio", type=float, default=120, help="to learn from")
    steps = [0, 1, 2, 5, 10, 20, 40, 80]
    add("--steps", **several, type=int, default=steps)
    add("--rates", **several, type=float, default=[1e-4, 3e-4, 1e-3])
    memory_rates = [3e-3, 1e-2, 3e-2]
    add("--memory_rates", **several, type=float, default=memory_rates)
    add("--threads", type=int, default=torch.get_num_threads(), help=" ")
    add("--batch_size", type=int, default=24, help="sessions heard at a time")
    add("--device", default="cpu", help=" ")
    given = parser.parse_args(arguments)
    given.steps = sorted({0, *given.steps})
    for name, value, least in (
        ("steps", given.steps[0], 0),
        ("steps", given.steps[-1], 1),
        ("rates", min(given.rates), 1e-9),
        ("memory_rates", min(given.memory_rates), 1e-9),
        ("threads", given.threads, 1),
        ("batch_size", given.batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"--{name} {value}: at least {least} is needed")
    return given


def main(arguments):
    """Measures what the command line asks for."""
    given = parse(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(given.threads)
    try:
        measure(given)
    finally:
        torch.set_num_threads(before)


def measure(given):
    """Does what `main` was asked for."""
    models = load_models(given)
    for name, seeds in models.items():
        if len(seeds) > 1:
            raise ValueError(f"--models {name}: one folder of each name")
    models = [model for (model,) in models.values()]
    jobs = list(plan(given, models, prepare(given)))
    run(jobs, given)
    print(write_report(jobs, given))
    print(f"written to {given.output_folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"transfer.py: {' '.join(str(error).split())}")
