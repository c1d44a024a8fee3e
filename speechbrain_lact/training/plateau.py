"""What to say of a CTC model that does not leave its plateau: at the start it
learns how often each token occurs, and that most frames are blank; a small
model on little data may stay there (docs/an4.md).

Authors
* speechbrain_lact contributors 2026
"""

HARDLY_ANY = 90.0  # CER from which nothing has been learned of the sounds


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
