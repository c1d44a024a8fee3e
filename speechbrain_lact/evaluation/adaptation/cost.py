"""Seconds of compute per second of audio.

Authors
* speechbrain_lact contributors 2026
"""

import statistics
import time

import torch

from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.evaluation.adaptation.sessions import is_scored

# Utterances that are timed, and how often.
UTTERANCES, REPEATS = 24, 3


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
        The first of the scored ones are timed.
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
    chosen = list(filter(is_scored, utterances))[:UTTERANCES]
    wavs = [wave(u).to(model.asr.device) for u in chosen]
    ways = (True, False) if model.mixers else (None,)
    took = {way: [] for way in ways}
    for repeat in range(REPEATS + 1):  # the first warms up
        total = dict.fromkeys(ways, 0.0)
        for wav in wavs:
            for way in ways:
                began = clock(model)
                if way is None:
                    model.recognise_alone(wav)
                else:
                    state = model.encoder.initial_state(1)
                    rows = torch.tensor([way], device=wav.device)
                    state.encoder = state.encoder.learn(rows)
                    model.recognise([wav], state)
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
