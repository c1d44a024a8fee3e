"""Hypotheses of a model with a memory.

Authors
* speechbrain_lact contributors 2026
"""

import tempfile

import torch

from speechbrain.utils.logger import get_logger
from speechbrain_lact.evaluation.adaptation.sessions import (
    group,
    other_speakers,
    play_order,
)
from speechbrain_lact.inference.speakers import SpeakerBank
from speechbrain_lact.lobes.models.pipeline import PipelineState
from speechbrain_lact.nnet.lact import frozen_memory

logger = get_logger(__name__)


def recognise_with_memory(
    model, system, utterances, wave, batch_size, bar, names=None
):
    """Hypotheses of a model with a memory.

    Arguments
    ---------
    model : Model
    system : str
        One of `MEMORY`.
    utterances, wave, batch_size, bar
        As `recognise_lanes` has them.
    names : dict of str, optional
        Of `recognise_voices`, for `detected`.

    Returns
    -------
    hypotheses, updates
        As of `recognise_lanes`.
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
    sources = other_speakers(lanes) if system == "other" else None
    with frozen_memory(model.mixers if system == "frozen" else []):
        return recognise_lanes(
            model, lanes, wave, batch_size, bar, sources=sources
        )


@torch.no_grad()
def recognise_lanes(
    model, lanes, wave, batch_size, bar, carry=True, sources=None
):
    """Recognises lanes of utterances, many lanes at a time.

    A lane is a sequence of utterances with one state, such as a session.

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
        Hypotheses, by key of the utterance.
    list of float
        Updates of the memory in each utterance.
    """
    hypotheses, updates, states = {}, [], [None] * len(lanes)
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
            words, after = model.recognise(wavs, state)
            if model.mixers:
                steps = after.encoder.updates
                if state is not None:
                    steps = steps - state.encoder.updates
                updates += steps.tolist()
            if sources and step:
                # What a lane that ended has left is still its state.
                state = [before[sources[i]] for i in part]
                words, _ = model.recognise(wavs, PipelineState.cat(state))
            for row, i in enumerate(part):
                hypotheses[lanes[i][step].key] = " ".join(words[row])
                if carry:
                    states[i] = after.index(slice(row, row + 1))
            bar.update(len(part))
    return hypotheses, updates


def recognise_voices(asr, embedder, utterances, wave, bar):
    """The memory that a bank of speakers would choose for each utterance.

    Arguments
    ---------
    asr : LaCTASR
        Any model with a memory: the bank needs one, voices do not.
    embedder : EncoderClassifier
        As of `load_embedder`.
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
