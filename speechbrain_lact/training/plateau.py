"""The plateau of CTC: how to leave it, and what to say of a run that has not.

At the start a CTC model learns how often each token occurs, and that most
frames are blank. With the blank in nearly every frame, the gradients of all
other tokens are small, and a small model on little data may stay there. A
penalty on the blank while the loss is computed spreads the tokens over the
frames, as the states of a hidden Markov model after a flat start: each frame
then has a token to learn (label priors: Huang et al., arXiv:2406.02560).
Whether it helps beside a lower learning rate is open (docs/an4.md).

Authors
* speechbrain_lact contributors 2026
"""

import torch

HARDLY_ANY = 90.0  # CER from which nothing has been learned of the sounds


def lower_blank(log_probs, blank_index, penalty, share):
    """Log-probabilities for the CTC loss with less weight on the blank.

    They are not normalised again: the model cannot learn to undo the penalty.

    Arguments
    ---------
    log_probs : torch.Tensor
        [B, T, V]
    blank_index : int
        Which token the blank is.
    penalty : float
        What is taken from the log-probability of the blank at the start.
    share : float
        How far the penalty has gone: from 0 (all of it) to 1 (none).

    Returns
    -------
    torch.Tensor
        [B, T, V]

    Example
    -------
    >>> lower_blank(torch.zeros(1, 1, 3), 0, 4.0, 0.25)
    tensor([[[-3.,  0.,  0.]]])
    """
    left = penalty * max(0.0, 1.0 - share)
    if left == 0.0:
        return log_probs
    lowered = torch.zeros_like(log_probs[0, 0])
    lowered[blank_index] = left
    return log_probs - lowered


def plateau_message(step, steps, error_rate, lr):
    """What to say of a run that has learned nothing by half of its steps.

    Arguments
    ---------
    step, steps : int
        Optimiser steps so far, and all of them.
    error_rate : float
        Character error rate of the validation data (per cent).
    lr : float
        The highest learning rate.

    Returns
    -------
    str or None
        One line; None where there is nothing to say.

    Example
    -------
    >>> plateau_message(40, 100, 99.0, 0.001)
    >>> plateau_message(60, 100, 35.0, 0.001)
    >>> plateau_message(60, 100, 99.0, 0.001)[:44]
    'still on the CTC plateau at step 60 of 100: '
    """
    if 2 * step < steps or error_rate < HARDLY_ANY:
        return None
    return (
        f"still on the CTC plateau at step {step} of {steps}: "
        f"{error_rate:.1f} % of the characters are wrong. Stop and start "
        f"again with lr: {lr / 2:g} or more number_of_steps, and check that "
        "the transcripts are those of the audio"
    )
