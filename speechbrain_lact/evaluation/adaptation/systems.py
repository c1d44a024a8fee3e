"""Names of what is measured.

Authors
* speechbrain_lact contributors 2026
"""

# A model with a memory: its state carried over the session, reset for each
# utterance, carried over all sessions of the speaker, of the speaker as
# recognised by voice, of another speaker, and never updated.
MEMORY = ("carried", "reset", "oracle", "detected", "other", "frozen")
# A model without memory: each utterance alone, the whole session at once, and
# adapted to each utterance or to a few of the speaker's.
PLAIN, SESSION, SUTA, TUNED = "as it is", "session", "SUTA", "fine-tuned"
SYSTEMS = (*MEMORY, PLAIN, SESSION, SUTA, TUNED)


def label(name, system):
    """What a system is called in the tables."""
    return name if system == PLAIN else f"{name} {system}"
