"""Word errors of an adapted model.

Authors
* speechbrain_lact contributors 2026
"""

from speechbrain_lact.corpora.conditions import Condition
from speechbrain_lact.evaluation.adaptation.baselines import recognise_plain
from speechbrain_lact.evaluation.adaptation.memory import recognise_with_memory
from speechbrain_lact.evaluation.adaptation.scoring import (
    count_errors,
    speakers_of,
    words_of,
)
from speechbrain_lact.evaluation.adaptation.sessions import LAST, is_scored
from speechbrain_lact.evaluation.adaptation.systems import PLAIN
from speechbrain_lact.evaluation.statistics import wer_interval


def needed_utterances(model, way, utterances):
    """Utterances that must be recognised: with a state, also those before the
    scored ones."""
    if model.mixers and way != PLAIN:
        return [u for u in utterances if u.position < LAST]
    return list(filter(is_scored, utterances))


def measure_errors(model, way, utterances, batch_size, bar):
    """Word errors of the scored utterances, by key.

    Arguments
    ---------
    model : Model
    way : str
        One of `ways_of`.
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
    played = needed_utterances(model, way, utterances)
    options = played, Condition(way, played).wave, batch_size, bar
    if model.mixers:
        system = "reset" if way == PLAIN else "carried"
        hypotheses, _ = recognise_with_memory(model, system, *options)
    else:
        hypotheses = recognise_plain(model, *options)
    return count_errors(list(filter(is_scored, utterances)), hypotheses)


def error_rate(errors, utterances):
    """WER in percent and its interval, of errors by key."""
    scored = [u for u in utterances if u.key in errors]
    counts = [errors[u.key] for u in scored]
    return wer_interval(speakers_of(scored), counts, words_of(scored))
