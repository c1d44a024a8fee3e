"""Rates and comparisons of all systems that are done.

Authors
* speechbrain_lact contributors 2026
"""

import itertools
import statistics
from dataclasses import asdict

import numpy as np

from speechbrain_lact.corpora.conditions import NOISE
from speechbrain_lact.evaluation.adaptation.hypotheses import verdict
from speechbrain_lact.evaluation.adaptation.scoring import speakers_of, words_of
from speechbrain_lact.evaluation.adaptation.sessions import is_scored
from speechbrain_lact.evaluation.adaptation.systems import PLAIN, SESSION, label
from speechbrain_lact.evaluation.statistics import (
    compare,
    holm,
    wer_by_position,
    wer_interval,
)

POOLED = "noise"  # all conditions with noise together
# Columns of a comparison, by its fields.
COMPARED = {
    "difference": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "p": "p",
    "decided": "same_sign_in_all_seeds",
}


class Results:
    """Rates and comparisons of all systems that are done.

    Arguments
    ---------
    runner : Runner
    """

    def __init__(self, runner):
        self.runner, self.references = runner, {}
        found = {}
        for task in runner.tasks:
            name = label(task.model.name, task.system)
            found.setdefault((task.condition, name), []).append(
                task.load(runner.folder)
            )
            base = "reset" if task.model.mixers else PLAIN
            if task.system != base:
                self.references[name] = label(task.model.name, base)
        # A system counts when all of its seeds are done.
        self.runs = {k: v for k, v in found.items() if all(v)}
        self.missing = [k for k, v in found.items() if not all(v)]
        conditions = dict.fromkeys(c for c, _ in self.runs)
        self.pools = {name: [name] for name in conditions}
        if all(name in self.pools for name in NOISE):
            self.pools[POOLED] = list(NOISE)

    def has(self, pool, *systems):
        """Whether these were run in all conditions of a pool."""
        places = itertools.product(self.pools.get(pool, [None]), systems)
        return all(place in self.runs for place in places)

    def systems(self, pool):
        """Those that were run in a pool."""
        names = dict.fromkeys(system for _, system in self.runs)
        return [name for name in names if self.has(pool, name)]

    def counts(self, pool, system, choose=is_scored):
        """Word errors of the utterances that were chosen.

        Arguments
        ---------
        pool, system : str
        choose : callable
            Whether an utterance counts.

        Returns
        -------
        list of Utterance
        numpy.ndarray
            Errors [seeds, N].
        """
        chosen, errors = [], []
        for condition in self.pools[pool]:
            part = list(filter(choose, self.runner.utterances(condition)))
            seeds = self.runs[condition, system]
            chosen += part
            errors.append([[r["errors"][u.key] for u in part] for r in seeds])
        return chosen, np.concatenate(errors, 1)

    def wer(self, pool, system, choose=is_scored):
        """Rate in percent and its interval."""
        chosen, errors = self.counts(pool, system, choose)
        return wer_interval(speakers_of(chosen), errors, words_of(chosen))

    def compare(self, pool, system, other):
        """`Comparison` of two systems."""
        chosen, errors = self.counts(pool, system)
        _, others = self.counts(pool, other)
        return compare(speakers_of(chosen), errors, others)

    def rows(self):
        """WER of each system in each condition, against its reference."""
        rows = []
        for pool in self.pools:
            for system in self.systems(pool):
                chosen, errors = self.counts(pool, system)
                rate, low, high = self.wer(pool, system)
                row = {
                    "condition": pool,
                    "system": system,
                    "seeds": len(errors),
                    "utterances": len(chosen),
                    "speakers": len(set(speakers_of(chosen))),
                    "WER": rate,
                    "WER_low": low,
                    "WER_high": high,
                    "against": None,
                }
                other = self.references.get(system)
                found = dict.fromkeys(COMPARED)
                if other and self.has(pool, other):
                    row["against"] = other
                    found = asdict(self.compare(pool, system, other))
                rows.append(
                    row | {name: found[key] for key, name in COMPARED.items()}
                )
        return rows

    def hypotheses(self):
        """H1 to H5, for each model with a memory in each set with claims:
        the test sets as they are, and noise pooled."""
        rows = []
        pools = [p for p in (*self.runner.sets, POOLED) if p in self.pools]
        models = self.runner.models
        plain = [name for name in models if not models[name][0].mixers]
        for name in models:
            pairs = [("H1", "carried", f"{name} reset")]
            pairs += [
                ("H2" if models[other][0].ours else "H3", "carried", other)
                for other in plain
            ]
            pairs += [("H4", "detected", f"{name} oracle")]
            pairs += [("H5", "other", f"{name} reset")]
            found = [
                (kind, pool, f"{name} {system}", other)
                for kind, system, other in pairs
                for pool in pools
                if self.has(pool, f"{name} {system}", other)
            ]
            rows += self._judge(found)
        return rows

    def headroom(self):
        """What full attention over the session gains over the utterance
        alone, what carrying a memory gains, and the share; in WER points."""
        rows = []
        models = self.runner.models
        memories = [name for name in models if models[name][0].mixers]
        plain = [name for name in models if not models[name][0].ours]
        for pool, peer in itertools.product(self.pools, plain):
            whole = label(peer, SESSION)
            if not self.has(pool, whole, peer):
                continue
            gain = self.wer(pool, peer)[0] - self.wer(pool, whole)[0]
            found = asdict(self.compare(pool, whole, peer))
            row = {"condition": pool, "full attention": peer, "headroom": gain}
            row |= {name: found[key] for key, name in COMPARED.items()}
            high = found["high"]
            for name in memories:
                if not self.has(pool, f"{name} carried", f"{name} reset"):
                    continue
                carried, reset = (
                    self.wer(pool, f"{name} {kind}")[0]
                    for kind in ("carried", "reset")
                )
                share = None
                if high is not None and high < 0:
                    share = (reset - carried) / gain
                mine = {"memory": name, "gain": reset - carried}
                rows.append({**row, **mine, "share": share})
        return rows

    def _judge(self, pairs):
        """Compares; H1 to H3 are one family."""
        rows, family = [], []
        for kind, pool, system, other in pairs:
            found = asdict(self.compare(pool, system, other))
            row = {"hypothesis": kind, "condition": pool}
            row.update(system=system, against=other)
            row |= {name: found[key] for key, name in COMPARED.items()}
            rows.append({**row, "p_corrected": None})
            if kind in ("H1", "H2", "H3") and found["p"] is not None:
                family.append(rows[-1])
        for row, p in zip(family, holm([row["p"] for row in family])):
            row["p_corrected"] = p
        for row in rows:
            row["verdict"] = verdict(row)
        return rows

    def costs(self):
        """Seconds of compute per second of audio; medians over seeds."""
        rows = []
        for name, seeds in self.runner.models.items():
            costs = [self.runner.cost(model) for model in seeds]
            row = {"system": name, "parameters": seeds[0].parameters}
            for key in ("recognising", "learning"):
                values = [c[key] for c in costs if key in c]
                row[key] = statistics.median(values) if values else None
            rows.append(row)
            for (condition, system), runs in self.runs.items():
                if condition != self.runner.clean or "learning" not in runs[0]:
                    continue
                if self.references[system] != name:
                    continue
                spent = [
                    r["learning"]["seconds"] / r["learning"]["audio"]
                    for r in runs
                ]
                again = {"system": system, "learning": statistics.median(spent)}
                rows.append({**row, **again})
        return rows

    def positions(self):
        """WER over the place in the session, by condition and system."""
        found = {}
        for pool in self.pools:
            for system in self.systems(pool):
                models = self.runner.models
                plain = system in models and not models[system][0].ours
                if not plain and not system.endswith((" carried", " reset")):
                    continue
                chosen, errors = self.counts(pool, system, lambda u: True)
                rates = wer_by_position(
                    [u.position + 1 for u in chosen],
                    speakers_of(chosen),
                    errors,
                    words_of(chosen),
                )
                found.setdefault(pool, {})[system] = rates
        return found

    def slices(self, slices):
        """WER of some speakers of a set; a row each.

        Arguments
        ---------
        slices : dict of dict
            Speakers of each slice, by condition.

        Returns
        -------
        list of dict
        """
        rows = []
        for pool, some in slices.items():
            for name, speakers in some.items():
                row = {"condition": pool, "slice": name}
                row["speakers"] = len(speakers)
                for system in self.systems(pool):
                    if self._main(system):
                        row[system] = self.wer(
                            pool,
                            system,
                            lambda u: is_scored(u) and u.speaker in speakers,
                        )
                rows.append(row)
        return rows

    def _main(self, system):
        """Whether it is as it is, or a memory carried or reset."""
        kinds = (" carried", " reset")
        return system in self.runner.models or system.endswith(kinds)

    def recognised(self):
        """How well voices were recognised, by condition."""
        return {
            condition: runs[0]["voices"]
            for (condition, _), runs in self.runs.items()
            if "voices" in runs[0]
        }
