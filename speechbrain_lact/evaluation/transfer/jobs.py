"""Measures what is not done yet.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from speechbrain_lact.evaluation.adaptation.cache import (
    Task,
    digest_set,
    write_json,
)
from speechbrain_lact.evaluation.adaptation.cost import clock
from speechbrain_lact.evaluation.transfer.methods import (
    BATCH,
    INITIAL,
    TRAINED,
    adapt,
    ways_of,
)
from speechbrain_lact.evaluation.transfer.scoring import (
    error_rate,
    measure_errors,
    needed_utterances,
)

VERSION = 1  # raise it when the same settings give other results


@dataclass
class Job(Task):
    """One way to adapt one model to one domain: a file when it is done."""

    data: dict  # utterances of the domain's parts


@dataclass
class Options:
    """How models are adapted and measured."""

    output_folder: str
    steps: Sequence[int]
    """After which steps to measure, in ascending order, the first 0."""
    rates: Sequence[float]
    """Learning rates of fine-tuning to choose from."""
    memory_rates: Sequence[float]
    """Learning rates of the initial memory to choose from."""
    batch_size: int = 24
    """Sessions that are recognised at a time."""
    device: str = "cpu"


def plan(options, models, domains):
    """All jobs, each with what its result and its time depend on.

    Arguments
    ---------
    options : Options
    models : list of Model
    domains : dict of dict of list of Utterance
        The parts `train`, `dev` and `test` of each domain.

    Yields
    ------
    Job
    """
    for (name, data), model in itertools.product(domains.items(), models):
        for way in ways_of(model):
            settings = {"version": VERSION, "model": model.digest, "way": way}
            settings["data"] = [digest_set(part) for part in data.values()]
            settings["device"] = options.device
            settings["threads"] = torch.get_num_threads()
            if way in TRAINED:
                rates = (
                    options.memory_rates if way == INITIAL else options.rates
                )
                settings.update(steps=options.steps, rates=rates)
            yield Job(name, model, way, settings, data)


def do(job, options, bar):
    """Chooses the rate, trains, and measures the test set on the way.

    Arguments
    ---------
    job : Job
    options : Options
    bar : tqdm
        Counts utterances, trained on and recognised.

    Returns
    -------
    dict
        What its file holds; the choice's seconds apart from the others.
    """
    model, way, data = job.model, job.system, job.data
    result = {"settings": job.settings, "points": []}
    moments = [({"steps": 0, "seconds": 0.0, "loss": None}, model)]
    if way in TRAINED:
        began, found, last = clock(model), {}, options.steps[-1:]
        for rate in job.settings["rates"]:
            ((_, student),) = adapt(model, way, data["train"], last, rate, bar)
            errors = measure_errors(
                student, way, data["dev"], options.batch_size, bar
            )
            found[rate] = error_rate(errors, data["dev"])[0]
        rate = min(found, key=found.get)
        result.update(rate=rate, dev=found, choice=clock(model) - began)
        moments = adapt(model, way, data["train"], options.steps, rate, bar)
    for point, student in moments:
        point["errors"] = measure_errors(
            student, way, data["test"], options.batch_size, bar
        )
        result["points"].append(point)
    return result


def run(jobs, options):
    """Does all jobs that are not done.

    Arguments
    ---------
    jobs : list of Job
    options : Options
    """
    folder = Path(options.output_folder)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if not job.path(folder).is_file()]
    for number, job in enumerate(todo, 1):
        sizes = {
            part: len(needed_utterances(job.model, job.system, utterances))
            for part, utterances in job.data.items()
        }
        total = sizes["test"]
        if job.system in TRAINED:
            learned = options.steps[-1] * BATCH
            total = len(options.steps) * total + learned
            total += len(job.settings["rates"]) * (learned + sizes["dev"])
        label = f"{job.condition}: {job.model.name} {job.system}"
        with tqdm(desc=f"{number}/{len(todo)} {label}", total=total) as bar:
            write_json(job.path(folder), do(job, options, bar))
