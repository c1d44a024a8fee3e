"""Word errors of hypotheses, and how well voices were recognised.

Authors
* speechbrain_lact contributors 2026
"""

import statistics

from speechbrain_lact.evaluation.wer import count_word_errors


def count_errors(utterances, hypotheses):
    """Word errors of hypotheses, by key.

    Arguments
    ---------
    utterances : list of Utterance
        Those without a hypothesis do not count.
    hypotheses : dict of str
        By key of the utterance.

    Returns
    -------
    dict of int
    """
    return {
        u.key: count_word_errors(u.words, hypotheses[u.key])
        for u in utterances
        if u.key in hypotheses
    }


def count_voices(names, utterances):
    """How well voices were recognised.

    Arguments
    ---------
    names : dict of str
        Of `memory.recognise_voices`.
    utterances : list of Utterance

    Returns
    -------
    dict
        `speakers`, `memories`, and the share
        `utterances_in_a_memory_of_their_speaker`.
    """
    owner = {u.key: u.speaker for u in utterances}
    right = [owner[names[key]] == speaker for key, speaker in owner.items()]
    return {
        "speakers": len(set(owner.values())),
        "memories": len(set(names.values())),
        "utterances_in_a_memory_of_their_speaker": statistics.fmean(right),
    }


def speakers_of(utterances):
    """The speaker of each utterance."""
    return [u.speaker for u in utterances]


def words_of(utterances):
    """The number of words of each utterance."""
    return [len(u.words.split()) for u in utterances]
