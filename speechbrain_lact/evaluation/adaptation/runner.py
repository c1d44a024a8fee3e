"""Measures what is not done yet.

Authors
* speechbrain_lact contributors 2026
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
from tqdm import tqdm

from speechbrain_lact.corpora.conditions import CONDITIONS, SEED, Condition
from speechbrain_lact.evaluation.adaptation.baselines import (
    TUNING_STEPS,
    recognise_fine_tuned,
    recognise_plain,
    recognise_whole_sessions,
    recognise_with_suta,
)
from speechbrain_lact.evaluation.adaptation.cache import (
    Task,
    digest,
    digest_set,
    write_json,
)
from speechbrain_lact.evaluation.adaptation.cost import measure_cost
from speechbrain_lact.evaluation.adaptation.memory import (
    recognise_voices,
    recognise_with_memory,
)
from speechbrain_lact.evaluation.adaptation.scoring import (
    count_errors,
    count_voices,
)
from speechbrain_lact.evaluation.adaptation.sessions import (
    is_scored,
    play_order,
)
from speechbrain_lact.evaluation.adaptation.systems import (
    MEMORY,
    PLAIN,
    SESSION,
    SUTA,
    SYSTEMS,
    TUNED,
)
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.inference.speakers import SMALL_EMBEDDER, load_embedder

VERSION = 1  # raise it when the same settings give other results


@dataclass
class Options:
    """What is measured, and how."""

    output_folder: str
    embedder: Optional[str] = None
    """Folder of an encoder of voices; default: the one in the box."""
    systems: Optional[list] = None
    """Those of `SYSTEMS` that are measured now; default: all."""
    conditions: Optional[list] = None
    """Those that are measured now; default: all."""
    fine_tune: Sequence[int] = (1, 4, 9)
    """Numbers of utterances to fine-tune on."""
    fine_tune_lr: float = 1e-4
    suta_lr: float = 1e-3
    batch_size: int = 24
    """Sessions at a time."""


class Runner:
    """Measures what is not done yet.

    Arguments
    ---------
    models : dict of list of Model
        Of each system's name, a model for each seed.
    sets : dict of list of Utterance
        The test sets' utterances, by condition.
    options : Options
    """

    def __init__(self, models, sets, options):
        self.models, self.sets, self.options = models, sets, options
        self.skipped, self.folder = {}, Path(options.output_folder)
        self.clean = next(iter(sets))
        embedder = options.embedder or (
            SMALL_EMBEDDER if Path(SMALL_EMBEDDER).is_dir() else None
        )
        self.embedder = self.voices = None
        if embedder and any(m[0].mixers for m in models.values()):
            self.embedder = load_embedder(embedder, savedir=None)
            self.voices = fingerprint(self.embedder)
        self.tasks = list(self._plan())

    def utterances(self, condition):
        """Of a condition's test set."""
        return self.sets.get(condition) or self.sets[self.clean]

    def _plan(self):
        """All tasks, of the clean set first."""
        made = [name for name in CONDITIONS if name not in self.sets]
        for condition in (*self.sets, *made):
            utterances = self.utterances(condition)
            speakers = {u.speaker for u in utterances}
            data = digest_set(utterances)
            for name, seeds in self.models.items():
                for system in seeds[0].systems(self.options.fine_tune):
                    reason = None
                    if system == "other" and len(speakers) == 1:
                        reason = f"{condition} has one speaker"
                    elif system == "detected" and self.voices is None:
                        reason = "no --embedder, and none in the box"
                    if reason:
                        self.skipped[f"{name} {system}"] = reason
                        continue
                    for model in seeds:
                        settings = self._settings(model, system)
                        settings.update(data=data, condition=condition)
                        yield Task(condition, model, system, settings)

    def _settings(self, model, system):
        """All that a result depends on."""
        settings = {
            "version": VERSION,
            "seed": SEED,
            "model": model.digest,
            "system": system,
        }
        if system == "detected":
            settings["embedder"] = self.voices
        if system == SUTA:
            settings["lr"] = self.options.suta_lr
        if system.startswith(TUNED):
            settings["lr"] = self.options.fine_tune_lr
            settings["steps"] = TUNING_STEPS
        return settings

    def wanted(self, task):
        """Whether it is measured now."""
        kind = TUNED if task.system.startswith(TUNED) else task.system
        return kind in (self.options.systems or SYSTEMS) and task.condition in (
            self.options.conditions or [task.condition]
        )

    def run(self):
        """Does all tasks that are wanted and not done."""
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        for seeds in self.models.values():
            for model in seeds:
                self.cost(model, measure=True)
        todo = [
            task
            for task in self.tasks
            if self.wanted(task) and not task.path(self.folder).is_file()
        ]
        for number, task in enumerate(todo, 1):
            label = f"{number}/{len(todo)} {task.condition}: {task.model.name}"
            utterances = self.utterances(task.condition)
            some = task.system.startswith((SUTA, TUNED))
            total = sum(map(is_scored, utterances)) if some else None
            with tqdm(
                desc=f"{label} {task.system}", total=total or len(utterances)
            ) as bar:
                result = self.do(task, utterances, bar)
            write_json(task.path(self.folder), result)

    def do(self, task, utterances, bar):
        """Measures a system on a test set.

        Arguments
        ---------
        task : Task
        utterances : list of Utterance
        bar : tqdm

        Returns
        -------
        dict
            What its file holds.
        """
        wave = Condition(task.condition, utterances).wave
        model, batch_size = task.model, self.options.batch_size
        result = {"settings": task.settings}
        if task.system in MEMORY:
            names = None
            if task.system == "detected":
                names = self.names(task, utterances, wave)
                result["voices"] = count_voices(names, utterances)
            hypotheses, updates = recognise_with_memory(
                model, task.system, utterances, wave, batch_size, bar, names
            )
            result["updates"] = statistics.fmean(updates)
        elif task.system == PLAIN:
            hypotheses = recognise_plain(
                model, utterances, wave, batch_size, bar
            )
        elif task.system == SESSION:
            hypotheses = recognise_whole_sessions(model, utterances, wave, bar)
        elif task.system == SUTA:
            hypotheses, result["learning"] = recognise_with_suta(
                model, utterances, wave, self.options.suta_lr, bar
            )
        else:
            hypotheses, result["learning"] = recognise_fine_tuned(
                model,
                int(task.system.rpartition(" ")[2]),
                utterances,
                wave,
                self.options.fine_tune_lr,
                bar,
            )
        result["errors"] = count_errors(utterances, hypotheses)
        result["heard"] = hypotheses
        return result

    def names(self, task, utterances, wave):
        """Of `recognise_voices`: the same for all models."""
        key = digest(f"{self.voices} {task.settings['data']} {VERSION}")
        path = self.folder / "runs" / f"{task.condition}_voices_{key}.json"
        if not path.is_file():
            order = play_order(utterances)
            desc = f"{task.condition}: voices"
            with tqdm(desc=desc, total=len(order)) as bar:
                names = recognise_voices(
                    task.model.asr, self.embedder, order, wave, bar
                )
            write_json(path, names)
        return json.loads(path.read_text())

    def cost(self, model, measure=False):
        """Of `measure_cost`, on the clean set.

        Arguments
        ---------
        model : Model
        measure : bool
            Whether to measure what is not known yet.

        Returns
        -------
        dict of float, optional
        """
        utterances = self.sets[self.clean]
        key = digest(
            f"{model.digest} {model.asr.device} {torch.get_num_threads()} "
            f"{digest_set(utterances)} {VERSION}"
        )
        path = self.folder / "runs" / f"cost_{model.name}_{key}.json"
        if measure and not path.is_file():
            wave = Condition(self.clean, utterances).wave
            with tqdm(desc=f"cost of {model.name}") as bar:
                write_json(path, measure_cost(model, utterances, wave, bar))
        return json.loads(path.read_text()) if path.is_file() else None
