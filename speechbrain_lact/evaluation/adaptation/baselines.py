"""Hypotheses of models without memory, as they are and adapted.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain.utils.edit_distance import alignment, op_table
from speechbrain_lact.evaluation.adaptation.cost import clock
from speechbrain_lact.evaluation.adaptation.memory import recognise_lanes
from speechbrain_lact.evaluation.adaptation.sessions import (
    FIRST,
    group,
    is_scored,
    play_order,
)
from speechbrain_lact.evaluation.peers import Suta, fine_tune

TUNING_STEPS = 10


@torch.no_grad()
def recognise_plain(model, utterances, wave, batch_size, bar):
    """Hypotheses of a model without memory, each utterance alone.

    Arguments
    ---------
    model : Model
    utterances : list of Utterance
    wave : callable
        Samples [S] of an utterance.
    batch_size : int
        Utterances at a time, where padding does not matter to the model.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    dict of str
        By key of the utterance.
    """
    if model.ours:
        lanes = [[utterance] for utterance in utterances]
        return recognise_lanes(
            model, lanes, wave, batch_size, bar, carry=False
        )[0]
    hypotheses = {}
    for utterance in utterances:
        hypotheses[utterance.key] = " ".join(
            model.recognise_alone(wave(utterance))
        )
        bar.update()
    return hypotheses


@torch.no_grad()
def recognise_whole_sessions(model, utterances, wave, bar):
    """Hypotheses of a model with full attention that has the whole session as
    one input: an upper bound of what a memory could give it.

    Words are assigned to utterances by the alignment with the fewest errors
    over the session, for CTC with full attention may emit a word at any time.

    Arguments
    ---------
    model : Model
    utterances : list of Utterance
    wave : callable
        Samples [S] of an utterance.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    dict of str
        By key of the utterance.
    """
    hypotheses = {}
    for session in group(utterances, lambda u: u.session).values():
        wav = torch.cat([wave(utterance) for utterance in session])
        words, reference = model.recognise_alone(wav), []
        owners = [u.key for u in session for _ in u.words.split()]
        for utterance in session:
            reference += utterance.words.split()
        found, place = {utterance.key: [] for utterance in session}, 0
        # SpeechBrain's alignment: of those with as few errors, jiwer chooses
        # another, and words would move between utterances.
        for _, true, word in alignment(op_table(reference, words)):
            place = place if true is None else true  # a word too many
            if word is not None:
                found[owners[place]].append(words[word])
        hypotheses.update({key: " ".join(some) for key, some in found.items()})
        bar.update(len(session))
    return hypotheses


def recognise_with_suta(model, utterances, wave, lr, bar):
    """Hypotheses of a model that adapts to each scored utterance.

    Arguments
    ---------
    model : Model
    utterances : list of Utterance
    wave : callable
        Samples [S] of an utterance.
    lr : float
        Learning rate of `peers.Suta`.
    bar : tqdm
        Counts utterances.

    Returns
    -------
    hypotheses : dict of str
    learning : dict of float
        Seconds of learning, and of the audio that it was for.
    """
    suta = Suta(model.encoder, model.tokens, model.asr.blank, lr=lr)
    hypotheses, seconds, audio = {}, 0.0, 0.0
    for utterance in filter(is_scored, utterances):
        wav = wave(utterance).to(model.asr.device)
        began = clock(model)
        log_probs = suta(wav)
        seconds += clock(model) - began
        audio += utterance.seconds
        hypotheses[utterance.key] = " ".join(
            model.decode_whole(log_probs[None])
        )
        bar.update()
    return hypotheses, {"seconds": seconds, "audio": audio}


def tuning_sets(utterances, count):
    """Utterances to fine-tune on, and the scored ones that then follow.

    They are the speaker's first. None is learned that is scored with the same
    model: in the first session, only those before the scored ones.

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


def recognise_fine_tuned(model, count, utterances, wave, lr, bar):
    """Hypotheses of a model that was trained on a few of the speaker's
    utterances.

    Arguments
    ---------
    model : Model
    count : int
        On how many utterances, at most.
    utterances, wave, bar
        As of `recognise_with_suta`.
    lr : float
        Learning rate.

    Returns
    -------
    hypotheses, learning
        As of `recognise_with_suta`.
    """
    hypotheses, seconds, audio = {}, 0.0, 0.0
    speakers = group(play_order(utterances), lambda u: u.speaker)
    for own in speakers.values():
        last, encoder = None, model.encoder
        for learned, rest in tuning_sets(own, count):
            if learned and learned != last:
                wavs = [wave(u) for u in learned]
                began = clock(model)
                encoder = fine_tune(
                    model.encoder,
                    wavs,
                    [targets(model, u) for u in learned],
                    model.asr.blank,
                    TUNING_STEPS,
                    lr,
                )
                seconds += clock(model) - began
                audio += sum(u.seconds for u in learned)
                last = learned
            with torch.no_grad():
                for utterance in rest:
                    words = model.recognise_alone(wave(utterance), encoder)
                    hypotheses[utterance.key] = " ".join(words)
                    bar.update()
    return hypotheses, {"seconds": seconds, "audio": audio}


def targets(model, utterance):
    """Tokens of an utterance's words for the CTC loss [L], without the unknown
    one: 0 is the blank, too."""
    ids = model.asr.tokenizer.encode_as_ids(utterance.words)
    return torch.tensor([i for i in ids if i])
