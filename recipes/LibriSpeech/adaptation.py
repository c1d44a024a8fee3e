#!/usr/bin/env python3
"""Measures whether the memory helps: WER of a model with its state carried,
reset, of the true or the recognised speaker, of another one, and without
learning; against models without memory and other ways to adapt.

> python recipes/LibriSpeech/adaptation.py --models lact=FOLDER \
    window=FOLDER conformer=FOLDER --data_folder data/MiniSpeech

A model is the `model` folder of train.py; a name with several folders is one
system with as many training seeds. Without arguments it is the model in the
box on MiniSpeech. `docs/methodology.md` says what is measured and how it is
judged. Run the same command again after a kill: what is done is kept.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from speechbrain.dataio.dataio import load_data_csv
from speechbrain.utils.edit_distance import alignment, op_table
from speechbrain.utils.logger import get_logger
from speechbrain.utils.metric_stats import ErrorRateStats
from speechbrain_lact.corpora.conditions import (
    CONDITIONS,
    NOISE,
    SEED,
    Condition,
    Utterance,
)
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.dataio.audio import pad_waves, read_audio
from speechbrain_lact.evaluation.peers import Suta, fine_tune
from speechbrain_lact.evaluation.statistics import (
    compare,
    holm,
    wer_by_position,
    wer_interval,
)
from speechbrain_lact.inference.ASR import (
    MODEL_IN_THE_BOX,
    LaCTASR,
    fingerprint,
)
from speechbrain_lact.lobes.models.pipeline import PipelineState
from speechbrain_lact.nnet.lact import LaCT, frozen_memory
from speechbrain_lact.processing.speaker_states import (
    DEFAULT_EMBEDDER,
    SpeakerBank,
    load_embedder,
)

logger = get_logger(__name__)

VERSION = 1  # raise it when the same settings give other results
FIRST, LAST = 5, 10  # of a session's utterances that are scored
MEMORY = ("carried", "reset", "oracle", "detected", "other", "frozen")
PLAIN, SESSION, SUTA, TUNED = "as it is", "session", "SUTA", "fine-tuned"
SYSTEMS = (*MEMORY, PLAIN, SESSION, SUTA, TUNED)
POOLED = "noise"

TUNING_STEPS = 10
COST_UTTERANCES, COST_REPEATS = 24, 3
LEAST = 0.05  # relative differences below are called none
FEWER = 0.10  # what H1 asks for
MARGIN = 0.05  # of H4 and H5
MOST_COST = 0.01  # s of learning per s of audio (H6)


# --- Models --------------------------------------------------------------


class Model:
    """One trained model of a system.

    Arguments
    ---------
    name : str
        The system's.
    folder : str
        What train.py has exported.
    device : str
        Where to run it.
    """

    def __init__(self, name, folder, device):
        self.name, self.folder = name, str(folder)
        path = Path(folder) / "hyperparams.yaml"
        if not path.is_file():
            raise ValueError(
                f"--models {name}={folder}: no exported model "
                f"({path.name} is missing); give the model folder of train.py"
            )
        try:
            self.asr = LaCTASR.from_hparams(
                self.folder, savedir=None, run_opts={"device": device}
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(
                f"--models {name}={folder}: no recogniser with CTC: {error}"
            ) from error
        if self.asr.sample_rate != SAMPLE_RATE:
            raise ValueError(
                f"--models {name}={folder}: {self.asr.sample_rate} Hz; "
                f"{SAMPLE_RATE} are needed"
            )
        self.encoder = self.asr.encoder.eval().requires_grad_(False)
        self.tokens = self.asr.tokenizer.vocab_size()
        self.mixers = [
            module
            for module in self.encoder.modules()
            if isinstance(module, LaCT) and module.fast
        ]
        # Ours obey the law of batches; SpeechBrain's own read padding.
        self.ours = getattr(self.encoder.transformer, "has_lact", False)
        self.parameters = sum(p.numel() for p in self.encoder.parameters())
        text = path.read_text() + fingerprint(self.encoder)
        self.digest = _digest(text)

    def systems(self, tuned):
        """What can be measured of it.

        Arguments
        ---------
        tuned : list of int
            Numbers of utterances to fine-tune on.

        Returns
        -------
        list of str
        """
        if self.mixers:
            return list(MEMORY)
        if self.ours:
            return [PLAIN]
        return [PLAIN, SESSION, SUTA, *(f"{TUNED} {count}" for count in tuned)]

    def words(self, tokens):
        """The words of tokens."""
        return self.asr.tokenizer.decode_ids(tokens).split()

    def decode(self, log_probs, lengths):
        """Words of each row of log-probabilities [B, T, V]."""
        log_probs = log_probs[..., : self.tokens]
        share = lengths / log_probs.shape[1]
        rows = self.asr.decoding_function(log_probs, share)
        return [self.words(row) for row in rows]

    def hear(self, wavs, state=None):
        """Words of utterances, and the states after them; ours.

        Arguments
        ---------
        wavs : list of torch.Tensor
            Samples [S] of each.
        state : PipelineState, optional
            Of each.

        Returns
        -------
        list of list of str
        PipelineState
        """
        if state is None:
            state = self.encoder.initial_state(len(wavs))
        wavs, lengths = (x.to(self.asr.device) for x in pad_waves(wavs))
        log_probs, after = self.encoder(wavs, lengths, state=state)
        return self.decode(log_probs, after.encoder.lengths), after

    def hear_alone(self, wav, encoder=None):
        """Words of one utterance, by this or another encoder."""
        log_probs = (encoder or self.encoder)(wav[None].to(self.asr.device))
        return self.decode_whole(log_probs)

    def decode_whole(self, log_probs):
        """Words of one row without padding [1, T, V]."""
        frames = torch.tensor([log_probs.shape[1]], device=log_probs.device)
        return self.decode(log_probs, frames)[0]


# --- What is heard -------------------------------------------------------


def read_set(path, last):
    """Utterances of a test set that can be read, and those that cannot.

    Arguments
    ---------
    path : str
        CSV file.
    last : int
        The last utterance of a session that is scored.

    Returns
    -------
    list of Utterance
        In the order of sessions and positions.
    list of str
    """
    good, bad = [], []
    for key, row in tqdm(load_data_csv(path).items(), desc=Path(path).stem):
        if read_audio(row["wav"], SAMPLE_RATE) is None:
            bad.append(key)
            continue
        good.append(
            Utterance(
                key,
                row["wav"],
                row["wrd"],
                row["spk_id"],
                row["session"],
                int(row["position"]),
                float(row["duration"]),
                FIRST <= int(row["position"]) + 1 <= last,
            )
        )
    good.sort(key=lambda u: (u.session, u.position))
    if not any(is_scored(u) for u in good):
        raise ValueError(
            f"{path}: no session has a {FIRST}th utterance: nothing to score"
        )
    return good, bad


def is_scored(utterance):
    """Whether it counts: the earlier ones are only heard."""
    return utterance.scored


def group(utterances, key):
    """Lists of utterances with the same key, in their order."""
    found = {}
    for utterance in utterances:
        found.setdefault(key(utterance), []).append(utterance)
    return found


def play_order(utterances):
    """Everybody's first session, then everybody's second, and so on."""
    rounds = {}
    for sessions in group(utterances, lambda u: u.speaker).values():
        names = dict.fromkeys(u.session for u in sessions)
        rounds.update({name: i for i, name in enumerate(names)})
    return sorted(
        utterances, key=lambda u: (rounds[u.session], u.session, u.position)
    )


# --- Systems -------------------------------------------------------------


@torch.no_grad()
def play(model, lanes, wave, batch_size, bar, carry=True, sources=None):
    """Plays lanes of utterances, many at a time.

    Arguments
    ---------
    model : Model
    lanes : list of list of Utterance
        Each in order.
    wave : callable
        Samples [S] of an utterance.
    batch_size : int
        Lanes at a time.
    bar : tqdm
        Counts utterances.
    carry : bool
        Whether a lane's state goes on.
    sources : list of int, optional
        Lane whose state each lane reads in place of its own, as it was
        before the utterance.

    Returns
    -------
    dict of str
        What was heard, by key of the utterance.
    list of float
        Updates of the memory in each utterance.
    """
    heard, updates, states = {}, [], [None] * len(lanes)
    for step in range(max(map(len, lanes))):
        rows = [i for i, lane in enumerate(lanes) if step < len(lane)]
        # Those of about the same length together.
        rows.sort(key=lambda i: lanes[i][step].seconds)
        before = list(states)
        for first in range(0, len(rows), batch_size):
            part = rows[first : first + batch_size]
            wavs = [wave(lanes[i][step]) for i in part]
            state = None
            if carry and step:
                state = PipelineState.cat([before[i] for i in part])
            words, after = model.hear(wavs, state)
            if model.mixers:
                steps = after.encoder.updates
                if state is not None:
                    steps = steps - state.encoder.updates
                updates += steps.tolist()
            if sources and step:
                # What a lane that ended has left is still its state.
                state = [before[sources[i]] for i in part]
                words, _ = model.hear(wavs, PipelineState.cat(state))
            for row, i in enumerate(part):
                heard[lanes[i][step].key] = " ".join(words[row])
                if carry:
                    states[i] = after.index(slice(row, row + 1))
            bar.update(len(part))
    return heard, updates


def strangers(lanes):
    """For each session one of another speaker, the same in every run.

    Arguments
    ---------
    lanes : list of list of Utterance
        Sessions in `play_order`.

    Returns
    -------
    list of int
    """
    found = []
    for i, lane in enumerate(lanes):
        for j in itertools.chain(range(i + 1, len(lanes)), range(i)):
            if lanes[j][0].speaker != lane[0].speaker:
                found.append(j)
                break
    return found


def recognise_voices(asr, embedder, utterances, wave, bar):
    """Whose memory each utterance would be given by a bank of speakers.

    Arguments
    ---------
    asr : LaCTASR
        Any model with a memory: the bank needs one, voices do not.
    embedder : EncoderClassifier
        What a voice is recognised by.
    utterances : list of Utterance
        In the order they come.
    wave : callable
        Samples [S] of an utterance.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    dict of str
        Name of the memory, by key of the utterance: the key of the first
        utterance of the voice, as far as it was recognised.
    """
    threshold = getattr(embedder.hparams, "threshold", 0.25)
    names, state = {}, asr.initial_state()
    with (
        tempfile.TemporaryDirectory() as folder,
        SpeakerBank(
            folder,
            asr,
            embedder,
            threshold=threshold,
            max_speakers=len(utterances),
        ) as bank,
    ):
        for utterance in utterances:
            wav = wave(utterance)
            name = bank.recognise(wav)[0] or utterance.key
            try:
                bank.update(name, state, wav)
            except ValueError:  # too little sound for a voice
                logger.info("%s: not enough sound", utterance.key)
            names[utterance.key] = name
            bar.update()
    return names


def hear_memory(model, system, utterances, wave, batch_size, bar, names=None):
    """What a model with a memory hears.

    Arguments
    ---------
    model : Model
    system : str
        One of `MEMORY`.
    utterances, wave, batch_size, bar
        As `play` has them.
    names : dict of str, optional
        Of `recognise_voices`, for `detected`.

    Returns
    -------
    heard, updates
        As of `play`.
    """
    order = play_order(utterances)
    keys = {
        "oracle": lambda u: u.speaker,
        "detected": lambda u: names[u.key],
        "reset": lambda u: u.key,
        "frozen": lambda u: u.key,
    }
    key = keys.get(system, lambda u: u.session)
    lanes = list(group(order, key).values())
    sources = strangers(lanes) if system == "other" else None
    with frozen_memory(model.mixers if system == "frozen" else []):
        return play(model, lanes, wave, batch_size, bar, sources=sources)


@torch.no_grad()
def hear_plain(model, utterances, wave, batch_size, bar):
    """What a model without a memory hears."""
    if model.ours:
        lanes = [[utterance] for utterance in utterances]
        return play(model, lanes, wave, batch_size, bar, carry=False)[0]
    heard = {}
    for utterance in utterances:
        heard[utterance.key] = " ".join(model.hear_alone(wave(utterance)))
        bar.update()
    return heard


@torch.no_grad()
def hear_session(model, utterances, wave, bar):
    """What a model with full attention hears in each utterance, given the
    whole session at once: the most that any memory of it could tell.

    Its words are told apart by the fewest errors over the session: with all
    of it in sight, CTC says a word at any time.
    """
    heard = {}
    for session in group(utterances, lambda u: u.session).values():
        wav = torch.cat([wave(utterance) for utterance in session])
        words, told = model.hear_alone(wav), []
        owners = [u.key for u in session for _ in u.words.split()]
        for utterance in session:
            told += utterance.words.split()
        found, place = {utterance.key: [] for utterance in session}, 0
        for _, true, word in alignment(op_table(told, words)):
            place = place if true is None else true  # a word too many
            if word is not None:
                found[owners[place]].append(words[word])
        heard.update({key: " ".join(some) for key, some in found.items()})
        bar.update(len(session))
    return heard


def hear_suta(model, utterances, wave, lr, bar):
    """What a model hears that adapts to each scored utterance.

    Returns
    -------
    heard : dict of str
    learning : dict of float
        Seconds of learning, and of the audio that it was for.
    """
    suta = Suta(model.encoder, model.tokens, model.asr.blank, lr=lr)
    heard, seconds, audio = {}, 0.0, 0.0
    for utterance in filter(is_scored, utterances):
        wav = wave(utterance).to(model.asr.device)
        began = clock(model)
        log_probs = suta(wav)
        seconds += clock(model) - began
        audio += utterance.seconds
        heard[utterance.key] = " ".join(model.decode_whole(log_probs[None]))
        bar.update()
    return heard, {"seconds": seconds, "audio": audio}


def lessons(utterances, count):
    """What is learned with its words, and which scored utterances then follow.

    It is the speaker's first utterances. None is learned that is scored with
    the same model: in the first session, only those before the scored ones.

    Arguments
    ---------
    utterances : list of Utterance
        In `play_order`, one speaker's.
    count : int
        How many at most.

    Yields
    ------
    list of Utterance
        To learn.
    list of Utterance
        To score.
    """
    first = utterances[0].session
    own = [u for u in utterances if u.session == first]
    early = [u for u in own if u.position + 1 < FIRST]
    later = [u for u in utterances if u.session != first]
    for learned, rest in ((early, own), (own, later)):
        rest = [u for u in rest if is_scored(u)]
        if rest:
            yield learned[:count], rest


def hear_tuned(model, count, utterances, wave, lr, bar):
    """What a model hears that was trained on a few of the speaker's.

    Returns
    -------
    heard, learning
        As of `hear_suta`.
    """
    heard, seconds, audio = {}, 0.0, 0.0
    speakers = group(play_order(utterances), lambda u: u.speaker)
    for own in speakers.values():
        last, encoder = None, model.encoder
        for learned, rest in lessons(own, count):
            if learned and learned != last:
                wavs = [wave(u) for u in learned]
                began = clock(model)
                encoder = fine_tune(
                    model.encoder,
                    wavs,
                    [_targets(model, u) for u in learned],
                    model.asr.blank,
                    TUNING_STEPS,
                    lr,
                )
                seconds += clock(model) - began
                audio += sum(u.seconds for u in learned)
                last = learned
            with torch.no_grad():
                for utterance in rest:
                    words = model.hear_alone(wave(utterance), encoder)
                    heard[utterance.key] = " ".join(words)
                    bar.update()
    return heard, {"seconds": seconds, "audio": audio}


def _targets(model, utterance):
    """Tokens; 0 is both the unknown one and the blank."""
    ids = model.asr.tokenizer.encode_as_ids(utterance.words)
    return torch.tensor([i for i in ids if i])


def clock(model):
    """Seconds, once the device has done its work."""
    if str(model.asr.device).startswith("cuda"):
        torch.cuda.synchronize(model.asr.device)
    return time.perf_counter()


@torch.no_grad()
def measure_cost(model, utterances, wave, bar):
    """Seconds of compute per second of audio, one utterance at a time.

    Arguments
    ---------
    model : Model
    utterances : list of Utterance
        Some of the scored ones are played.
    wave : callable
        Samples [S] of an utterance.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    dict of float
        `recognising`, and with a memory `learning`: what is added by it.
        Medians over repeats, with and without learning in turn.
    """
    chosen = list(filter(is_scored, utterances))[:COST_UTTERANCES]
    wavs = [wave(u).to(model.asr.device) for u in chosen]
    ways = (True, False) if model.mixers else (None,)
    took = {way: [] for way in ways}
    for repeat in range(COST_REPEATS + 1):  # the first warms up
        total = dict.fromkeys(ways, 0.0)
        for wav in wavs:
            for way in ways:
                began = clock(model)
                if way is None:
                    model.hear_alone(wav)
                else:
                    state = model.encoder.initial_state(1)
                    rows = torch.tensor([way], device=wav.device)
                    state.encoder = state.encoder.learn(rows)
                    model.hear([wav], state)
                total[way] += clock(model) - began
            if repeat:
                bar.update()
        for way in ways:
            took[way] += [total[way]] if repeat else []
    audio = sum(len(wav) for wav in wavs) / SAMPLE_RATE
    took = {way: statistics.median(x) / audio for way, x in took.items()}
    if not model.mixers:
        return {"recognising": took[None]}
    return {"recognising": took[False], "learning": took[True] - took[False]}


# --- Runs that are kept --------------------------------------------------


@dataclass
class Task:
    """One system with one seed in one condition: a file when it is done."""

    condition: str
    model: Model
    system: str
    settings: dict

    def path(self, folder):
        """Its file; other settings have another one."""
        parts = (self.condition, self.model.name, self.system)
        name = "_".join(part.replace(" ", "-") for part in parts)
        digest = _digest(json.dumps(self.settings, sort_keys=True))
        return Path(folder) / "runs" / f"{name}_{digest}.json"

    def load(self, folder):
        """Its result, or None."""
        path = self.path(folder)
        return json.loads(path.read_text()) if path.is_file() else None


class Runner:
    """Does what is not done yet.

    Arguments
    ---------
    given : argparse.Namespace
        The command line.
    models : dict of list of Model
        Of each system's name, a model for each seed.
    sets : dict of list of Utterance
        The test sets' utterances, by condition.
    """

    def __init__(self, given, models, sets):
        self.given, self.models, self.sets = given, models, sets
        self.skipped, self.folder = {}, Path(given.output_folder)
        self.clean = next(iter(sets))
        embedder = given.embedder or (
            DEFAULT_EMBEDDER if Path(DEFAULT_EMBEDDER).is_dir() else None
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
            data = _digest_set(utterances)
            for name, seeds in self.models.items():
                for system in seeds[0].systems(self.given.fine_tune):
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
            settings["lr"] = self.given.suta_lr
        if system.startswith(TUNED):
            settings["lr"] = self.given.fine_tune_lr
            settings["steps"] = TUNING_STEPS
        return settings

    def wanted(self, task):
        """Whether the command line asks for it now."""
        kind = TUNED if task.system.startswith(TUNED) else task.system
        return kind in (self.given.systems or SYSTEMS) and task.condition in (
            self.given.conditions or [task.condition]
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
            _write(task.path(self.folder), result)

    def do(self, task, utterances, bar):
        """Plays a test set to a system.

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
        model, batch_size = task.model, self.given.batch_size
        result = {"settings": task.settings}
        if task.system in MEMORY:
            names = None
            if task.system == "detected":
                names = self.names(task, utterances, wave)
                result["voices"] = _count_voices(names, utterances)
            heard, updates = hear_memory(
                model, task.system, utterances, wave, batch_size, bar, names
            )
            result["updates"] = statistics.fmean(updates)
        elif task.system == PLAIN:
            heard = hear_plain(model, utterances, wave, batch_size, bar)
        elif task.system == SESSION:
            heard = hear_session(model, utterances, wave, bar)
        elif task.system == SUTA:
            heard, result["learning"] = hear_suta(
                model, utterances, wave, self.given.suta_lr, bar
            )
        else:
            heard, result["learning"] = hear_tuned(
                model,
                int(task.system.rpartition(" ")[2]),
                utterances,
                wave,
                self.given.fine_tune_lr,
                bar,
            )
        result["errors"] = count_errors(utterances, heard)
        result["heard"] = heard
        return result

    def names(self, task, utterances, wave):
        """Of `recognise_voices`: the same for all models."""
        digest = _digest(f"{self.voices} {task.settings['data']} {VERSION}")
        path = self.folder / "runs" / f"{task.condition}_voices_{digest}.json"
        if not path.is_file():
            order = play_order(utterances)
            desc = f"{task.condition}: voices"
            with tqdm(desc=desc, total=len(order)) as bar:
                names = recognise_voices(
                    task.model.asr, self.embedder, order, wave, bar
                )
            _write(path, names)
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
        digest = _digest(
            f"{model.digest} {model.asr.device} {torch.get_num_threads()} "
            f"{_digest_set(utterances)} {VERSION}"
        )
        path = self.folder / "runs" / f"cost_{model.name}_{digest}.json"
        if measure and not path.is_file():
            wave = Condition(self.clean, utterances).wave
            with tqdm(desc=f"cost of {model.name}") as bar:
                _write(path, measure_cost(model, utterances, wave, bar))
        return json.loads(path.read_text()) if path.is_file() else None


def count_errors(utterances, heard):
    """Word errors of what was heard, by key.

    Arguments
    ---------
    utterances : list of Utterance
    heard : dict of str

    Returns
    -------
    dict of int
    """
    stats = ErrorRateStats()
    told = [u for u in utterances if u.key in heard]
    stats.append(
        [u.key for u in told],
        [heard[u.key].split() for u in told],
        [u.words.split() for u in told],
    )
    return {score["key"]: score["num_edits"] for score in stats.scores}


def _count_voices(names, utterances):
    """How well voices were recognised."""
    owner = {u.key: u.speaker for u in utterances}
    right = [owner[names[key]] == speaker for key, speaker in owner.items()]
    return {
        "speakers": len(set(owner.values())),
        "memories": len(set(names.values())),
        "utterances_in_a_memory_of_their_speaker": statistics.fmean(right),
    }


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _digest_set(utterances):
    """Changes with what is said, by whom and how long; not with the folder."""
    rows = [{**asdict(u), "wav": None} for u in utterances]
    return _digest(json.dumps(rows, sort_keys=True))


def _write(path, content):
    """A JSON file, whole or not at all."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    aside.write_text(json.dumps(content))
    os.replace(aside, path)


# --- What came out -------------------------------------------------------


class Report:
    """Tables and pictures of all runs that are done.

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
        return wer_interval(_speakers(chosen), errors, _words(chosen))

    def compare(self, pool, system, other):
        """`Comparison` of two systems."""
        chosen, errors = self.counts(pool, system)
        _, others = self.counts(pool, other)
        return compare(_speakers(chosen), errors, others)

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
                    "speakers": len(set(_speakers(chosen))),
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
                    _speakers(chosen),
                    errors,
                    _words(chosen),
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


COMPARED = {
    "difference": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "p": "p",
    "decided": "same_sign_in_all_seeds",
}


def label(name, system):
    """What a system is called in the tables."""
    return name if system == PLAIN else f"{name} {system}"


def _speakers(utterances):
    return [u.speaker for u in utterances]


def _words(utterances):
    return [len(u.words.split()) for u in utterances]


def verdict(row):
    """What docs/methodology.md makes of a row of the hypotheses.

    Arguments
    ---------
    row : dict
        Of `Report.hypotheses`.

    Returns
    -------
    str
    """
    difference, high = row["difference"], row["difference_high"]
    low, decided = row["difference_low"], row["same_sign_in_all_seeds"]
    if difference is None or row["p"] is None:
        return "no claim"
    if row["hypothesis"] == "H4":
        return _yes(high is not None and high < MARGIN)
    if row["hypothesis"] == "H5":
        return _yes(low is not None and low > -MARGIN)
    if not decided:
        return "not decided"
    if abs(difference) < LEAST:
        return "no difference"
    least = FEWER if row["hypothesis"] == "H1" else LEAST
    return _yes(difference <= -least and row["p_corrected"] < 0.05)


def _yes(holds):
    return "holds" if holds else "does not hold"


def speaker_slices(data_folder, sets):
    """Speakers by what SPEAKERS.TXT tells of them.

    Values such as `rate=150` give thirds of the speakers; sex and accent give
    a slice each.

    Arguments
    ---------
    data_folder : Path
    sets : dict of list of Utterance

    Returns
    -------
    dict of dict of set
        By condition and name of the slice; empty without such a file.
    """
    path = Path(data_folder) / "SPEAKERS.TXT"
    if not path.is_file():
        return {}
    told = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith(";") or len(cells) < 5:
            continue
        told[cells[0]] = {"sex": cells[1]}
        told[cells[0]].update(re.findall(r"(\w+)=(.+?)(?= \w+=|$)", cells[4]))
    slices = {}
    for condition, utterances in sets.items():
        voices = {u.speaker: told.get(u.speaker, {}) for u in utterances}
        slices[condition] = found = {}
        for key in sorted(
            {key for values in voices.values() for key in values}
        ):
            values = {v: x[key] for v, x in voices.items() if key in x}
            found.update(_slices(key, values))
    return slices


def _slices(key, values):
    """Thirds by number, or groups by name."""
    if all(re.fullmatch(r"-?\d+(\.\d+)?", value) for value in values.values()):
        order = sorted(values, key=lambda voice: float(values[voice]))
        for third in np.array_split(np.array(order, object), 3):
            if len(third):
                ends = values[third[0]], values[third[-1]]
                yield f"{key} {' to '.join(ends)}", set(third)
        return
    for value in sorted(set(values.values())):
        yield f"{key} {value}", {v for v, x in values.items() if x == value}


def write_report(report, given, bad):
    """Writes JSON, CSV, Markdown and the picture.

    Arguments
    ---------
    report : Report
    given : argparse.Namespace
        The command line.
    bad : dict of list of str
        Utterances that could not be read, by condition.

    Returns
    -------
    str
        The tables in Markdown.
    """
    folder, runner = Path(given.output_folder), report.runner
    rows, judged = report.rows(), report.hypotheses()
    costs, positions = report.costs(), report.positions()
    slices = report.slices(speaker_slices(given.data_folder, runner.sets))
    content = {
        "settings": {
            **vars(given),
            "models": {
                name: [os.path.relpath(model.folder) for model in seeds]
                for name, seeds in runner.models.items()
            },
            "scored": [FIRST, given.last],
            "tuning_steps": TUNING_STEPS,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
        "rows": rows,
        "hypotheses": judged,
        "headroom": report.headroom(),
        "costs": costs,
        "positions": positions,
        "slices": slices,
        "voices": report.recognised(),
        "skipped": runner.skipped,
        "bad_files": bad,
        "utterances": _utterances(runner),
        "errors": _errors(report),
    }
    (folder / "adaptation.json").write_text(
        json.dumps(content, indent=1, default=str)
    )
    with open(folder / "adaptation.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    text = markdown_report(content)
    (folder / "adaptation.md").write_text(text)
    scored = content["settings"]["scored"]
    plot_positions(positions, folder / "adaptation.png", scored)
    return text


def _utterances(runner):
    """What is known of each, by condition as it was recorded."""
    return {
        condition: {
            u.key: {
                "speaker": u.speaker,
                "session": u.session,
                "position": u.position + 1,
                "words": len(u.words.split()),
                "seconds": u.seconds,
                "noise": Condition(POOLED, utterances).noise_of(u),
            }
            for u in utterances
        }
        for condition, utterances in runner.sets.items()
    }


def _errors(report):
    """Word errors of each utterance, of each seed."""
    found = {}
    for (condition, system), runs in report.runs.items():
        errors = [run["errors"] for run in runs]
        found.setdefault(condition, {})[system] = errors
    return found


def markdown_report(content):
    """The tables of a report in Markdown."""
    parts = [
        "WER in percent of utterances {} to {} of each session, with ".format(
            *content["settings"]["scored"]
        )
        + "95 % intervals (bootstrap over speakers). Differences are relative: "
        "below 0 are fewer errors; p is not corrected here.",
        _table(
            [
                {
                    "condition": row["condition"],
                    "system": row["system"],
                    "seeds": row["seeds"],
                    "speakers": row["speakers"],
                    "WER": _interval(row, "WER", "{:.1f}"),
                    "against": row["against"],
                    "difference %": _difference(row),
                    "p": _p(row["p"]),
                }
                for row in content["rows"]
            ]
        ),
    ]
    if content["hypotheses"]:
        parts += [
            "Hypotheses of docs/methodology.md; p after Holm's correction of "
            "H1 to H3.",
            _table(
                [
                    {
                        "": row["hypothesis"],
                        "condition": row["condition"],
                        "system": row["system"],
                        "against": row["against"],
                        "difference %": _difference(row),
                        "p": _p(row["p_corrected"]),
                        "verdict": row["verdict"],
                    }
                    for row in content["hypotheses"]
                ]
            ),
        ]
    if content["headroom"]:
        parts += [
            "Where a memory can help: headroom is what full attention over "
            "the whole session gains over the utterance alone (WER points), "
            "gain what carrying the memory gains over resets. No share where "
            "the headroom's interval holds 0.",
            _table(
                [
                    {
                        "condition": row["condition"],
                        "full attention": row["full attention"],
                        "headroom": f"{row['headroom']:+.1f}",
                        "difference %": _difference(row),
                        "memory": row["memory"],
                        "gain": f"{row['gain']:+.1f}",
                        "share %": _percent(row["share"]),
                    }
                    for row in content["headroom"]
                ]
            ),
        ]
    parts += [
        "Seconds of compute per second of audio: of what is recognised, and "
        "of what is learned from, "
        f"{content['settings']['threads']} thread(s) on "
        f"{content['settings']['device']}.",
        _table(
            [
                {
                    key: _cost(value) if isinstance(value, float) else value
                    for key, value in row.items()
                }
                for row in content["costs"]
            ]
        ),
    ]
    parts += [
        f"H6, its first half: learning of {row['system']} costs "
        f"{_cost(row['learning'])} s per s of audio; below {MOST_COST} "
        f"{_yes(row['learning'] < MOST_COST)}."
        for row in content["costs"]
        if row["system"] in content["settings"]["models"]
        and row["learning"] is not None
    ]
    if content["slices"]:
        parts += ["WER of some speakers.", *_slice_tables(content["slices"])]
    for condition, found in content["voices"].items():
        share = 100 * found["utterances_in_a_memory_of_their_speaker"]
        parts.append(
            f"{condition}: {found['memories']} memories for "
            f"{found['speakers']} speakers; {share:.1f} % of utterances in a "
            "memory of their speaker."
        )
    parts += [f"Left out: {k}: {v}." for k, v in content["skipped"].items()]
    count = sum(map(len, content["bad_files"].values()))
    parts.append(f"Files that could not be read: {count}.")
    return "\n\n".join(parts) + "\n"


def _slice_tables(rows):
    """A table a condition, which may have other systems."""
    for _, some in itertools.groupby(rows, key=lambda row: row["condition"]):
        yield _table(
            [
                {
                    k: _three(v) if isinstance(v, (tuple, list)) else v
                    for k, v in row.items()
                }
                for row in some
            ]
        )


def _table(rows):
    """Markdown of dictionaries with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [["" if v is None else str(v) for v in r.values()] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _three(rate, form="{:.1f}"):
    """A value and its interval, if there are any."""
    middle, low, high = rate
    if middle is None:
        return None
    text = form.format(middle)
    if low is None or high is None:
        return text
    return f"{text} [{form.format(low)}, {form.format(high)}]"


def _interval(row, key, form):
    return _three((row[key], row[f"{key}_low"], row[f"{key}_high"]), form)


def _difference(row):
    keys = ("difference", "difference_low", "difference_high")
    percent = [None if row[k] is None else 100 * row[k] for k in keys]
    text = _three(percent, "{:+.1f}")
    if row["same_sign_in_all_seeds"] is False:
        text = f"{text} (signs differ)"
    return text


def _percent(value):
    return None if value is None else f"{100 * value:.0f}"


def _p(value):
    if value is None:
        return None
    return "< 0.0002" if value < 0.0002 else f"{value:.4f}"


def _cost(value):
    return f"{value:.4f}"


def plot_positions(positions, path, scored):
    """Draws WER over the place in the session, a panel for each condition.

    Arguments
    ---------
    positions : dict
        Of `Report.positions`.
    scored : tuple of int
        Of a session's utterances, the first and the last that count.
    path : Path
        The picture.
    """
    columns = min(len(positions), 4)
    lines = -(-len(positions) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    names = dict.fromkeys(s for found in positions.values() for s in found)
    colours = {name: f"C{i}" for i, name in enumerate(names)}
    for axis, (pool, found) in zip(axes.flat, positions.items()):
        for name, rates in found.items():
            places = sorted(rates)
            middle, low, high = zip(*(rates[place] for place in places))
            axis.plot(
                places, middle, "o-", ms=3, label=name, color=colours[name]
            )
            if None not in (*low, *high):
                axis.fill_between(
                    places, low, high, alpha=0.15, color=colours[name], lw=0
                )
        axis.axvspan(
            scored[0] - 0.5, scored[1] + 0.5, color="k", alpha=0.05, lw=0
        )
        axis.set(title=pool, ylim=(0, None))
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in list(axes.flat)[len(positions) :]:
        axis.axis("off")
    figure.supxlabel("utterance of the session (grey: scored)")
    figure.supylabel("WER (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    ncols = min(4, 2 * columns)
    figure.legend(handles, labels, loc="outside upper center", ncols=ncols)
    figure.savefig(path, dpi=120, bbox_inches="tight")


# --- The command ---------------------------------------------------------


def prepare(given):
    """Test sets of the command line.

    Returns
    -------
    sets : dict of list of Utterance
        By condition.
    bad : dict of list of str
        Those that could not be read.
    """
    if given.data_folder is None:
        given.data_folder = "data/MiniSpeech"
        if not Path(given.data_folder).exists():
            prepare_mini_speech(given.data_folder)
    csvs = prepare_librispeech(
        given.data_folder, [], [], given.test_splits, given.output_folder
    )["test"]
    sets, bad = {}, {}
    for split, path in zip(given.test_splits, csvs):
        name = split.removeprefix("test-")
        if name in (*CONDITIONS, POOLED) or name in sets:
            raise ValueError(f"--test_splits {split}: {name} is taken")
        sets[name], bad[name] = read_set(path, given.last)
    known = (*sets, *CONDITIONS)
    for name in given.conditions or []:
        if name not in known:
            raise ValueError(
                f"--conditions {name}: one of {', '.join(known)} is allowed"
            )
    return sets, bad


def load_models(given):
    """Models of the command line: of each name, one a seed."""
    models = {}
    for entry in given.models:
        name, found, folder = entry.partition("=")
        if not found or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"--models {entry}: give NAME=FOLDER")
        model = Model(name, folder, given.device)
        models.setdefault(name, []).append(model)
    counts = {name: len(seeds) for name, seeds in models.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"--models: as many folders of each name, for the seeds are summed "
            f"({', '.join(f'{n}: {c}' for n, c in counts.items())})"
        )
    for name, seeds in models.items():
        if len({(bool(m.mixers), m.ours) for m in seeds}) > 1:
            raise ValueError(f"--models {name}: models of different kinds")
        if len({m.digest for m in seeds}) < len(seeds):
            raise ValueError(f"--models {name}: twice the same model")
    return models


def parse(arguments):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--models",
        nargs="+",
        metavar="NAME=FOLDER",
        default=[f"lact={MODEL_IN_THE_BOX}"],
        help="exported models; a name again is another training seed",
    )
    add("--data_folder", help="laid out as LibriSpeech; default: MiniSpeech")
    add(
        "--test_splits",
        nargs="+",
        default=["test-clean", "test-accent"],
        help="the conditions are made from the first",
    )
    add("--output_folder", default="results/adaptation", help=" ")
    add("--systems", nargs="+", choices=SYSTEMS, help="run only these now")
    add("--conditions", nargs="+", help="run only these now")
    add("--embedder", help="encoder of voices; default: the one in the box")
    add(
        "--fine_tune",
        nargs="+",
        type=int,
        default=[1, 4, 9],
        choices=range(1, 10),
        metavar="N",
        help="fine-tune on so many utterances",
    )
    add("--last", type=int, default=LAST, help="utterance that is scored")
    add("--fine_tune_lr", type=float, default=1e-4, help=" ")
    add("--suta_lr", type=float, default=1e-3, help=" ")
    add("--batch_size", type=int, default=24, help="sessions at a time")
    add("--device", default="cpu", help=" ")
    return parser.parse_args(arguments)


def main(arguments):
    """Measures what the command line asks for."""
    given = parse(arguments)
    models = load_models(given)
    sets, bad = prepare(given)
    runner = Runner(given, models, sets)
    for system, reason in runner.skipped.items():
        logger.warning("%s: left out: %s", system, reason)
    runner.run()
    report = Report(runner)
    if not report.runs:
        raise ValueError("--systems, --conditions: nothing to run")
    if report.missing:
        logger.info("%d systems and conditions not done", len(report.missing))
    print(write_report(report, given, bad))
    print(f"written to {given.output_folder}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"adaptation.py: {' '.join(str(error).split())}")
