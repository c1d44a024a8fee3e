"""Ways to adapt a model to a domain.

Authors
* speechbrain_lact contributors 2026
"""

import copy
import itertools

import torch

from speechbrain_lact.corpora.conditions import Condition
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.evaluation.adaptation.baselines import targets
from speechbrain_lact.evaluation.adaptation.cost import clock
from speechbrain_lact.evaluation.adaptation.systems import PLAIN, TUNED
from speechbrain_lact.evaluation.peers import ctc_step
from speechbrain_lact.lobes.models.pretrained import PretrainedFrontEnd

# The state carried over the session, without training; and in addition the
# initial fast weights trained.
CARRIED, INITIAL = "carried", "initial memory"
TRAINED = (INITIAL, TUNED)
BATCH = 8  # utterances a step


def ways_of(model):
    """The ways that a model can be adapted.

    Arguments
    ---------
    model : Model

    Returns
    -------
    list of str
    """
    return [PLAIN, CARRIED, *TRAINED] if model.mixers else [PLAIN, TUNED]


def training_set(utterances, seconds):
    """Utterances to train on: the first of every session, then the second, and
    so on.

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


def trainable_parameters(model, way):
    """Parameters that a way trains; the others are frozen."""
    model.encoder.requires_grad_(way == TUNED)
    front = model.encoder.cnn
    if way == TUNED and isinstance(front, PretrainedFrontEnd):
        front.unfreeze()  # training may have left it as it was
    for mixer in model.mixers:
        for weight in (mixer.w0, mixer.w1, mixer.w2):
            weight.requires_grad_(True)
    return [p for p in model.encoder.parameters() if p.requires_grad]


def train_step(model, batch, optimizer):
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
    optimizer = torch.optim.Adam(trainable_parameters(student, way), lr=rate)
    wave = Condition(way, utterances).wave
    read = itertools.cycle([(wave(u), targets(model, u)) for u in utterances])
    seconds, loss = 0.0, None
    for step in range(steps[-1] + 1):
        if step:
            batch = list(itertools.islice(read, BATCH))
            began = clock(model)
            loss = train_step(student, batch, optimizer)
            seconds += clock(model) - began
            bar.update(BATCH)
        if step in steps:
            yield {"steps": step, "seconds": seconds, "loss": loss}, student
