"""Conditions of the extra splits, in which a memory of the session must help.

Each is the same for a whole session or a whole voice and unknown beforehand,
so earlier utterances help to recognise later ones:

==========  =================================================================
channel     a random equaliser of up to 15 dB each way, 100 Hz to 8 kHz, for
            each session
tract       another length of the vocal tract for each voice, another rate of
            speaking for each session
shift       voices whose vowels have moved together, each to the place of
            another: one voice's "pen" is another's "pan"
babble      people talking in every session
hard        the first three at once, with babble in every second session
words       the first three at once, in single words: too short to say much
            of the channel and the voice themselves
==========  =================================================================

Authors
 * speechbrain_lact contributors 2026
"""

import functools
import re

import numpy as np

SAMPLE_RATE = 16000
CONDITIONS = {
    "channel": ("equaliser",),
    "tract": ("tract", "rate"),
    "shift": ("shift",),
    "babble": (),
    "hard": ("equaliser", "tract", "rate", "shift"),
    "words": ("equaliser", "tract", "rate", "shift"),
}

EQUALISER_HZ = np.geomspace(100, 8000, 7)  # about an octave apart
EQUALISER_DB = 15.0
TAPS = 1025

# espeak-ng's vowels of heed, hid, head, had, hod, hud, and where they go in
# chain shifts as English accents have them: the places are taken by others.
SHIFTS = {
    "none": {},
    "raised": {"a": "E", "E": "I", "I": "i:", "i:": "eI"},
    "lowered": {"i:": "I", "I": "E", "E": "a", "a": "0", "0": "O:"},
    "northern": {"0": "a", "a": "E", "E": "V", "V": "0"},
    "backed": {"E": "a", "a": "V", "V": "0", "0": "O:"},
}
# A stressed vowel that is not the beginning of a longer one.
STRESSED_VOWEL = re.compile(r"(?<=')(i:|[IEa0V](?![@:#aAeEiIoOuU0-9]))")


def draw(kinds, voices, seed):
    """Draws the conditions of all sessions of some voices.

    Arguments
    ---------
    kinds : tuple of str
        Which: "equaliser" and "rate" (words per minute) of each session,
        "tract" and "shift" of each voice.
    voices : list of int
        How many sessions each voice has.
    seed : list of int
        Where the choices come from.

    Returns
    -------
    list of list of dict
        For each voice and session, a value for each kind.

    Example
    -------
    >>> [[first, second]] = draw(("tract", "rate"), [2], [0])
    >>> first["tract"] == second["tract"], first["rate"] == second["rate"]
    (True, False)
    """
    rng = np.random.default_rng(seed)
    shifts = list(SHIFTS)
    drawn = []
    for index, sessions in enumerate(voices):
        if index % len(shifts) == 0:  # each shift as often as the others
            order = rng.permutation(len(shifts))
        everything = []
        tract = int(rng.integers(85, 116)) / 100
        for _ in range(sessions):
            gains = rng.uniform(-EQUALISER_DB, EQUALISER_DB, len(EQUALISER_HZ))
            values = {
                "equaliser": [round(float(gain), 1) for gain in gains],
                "tract": tract,
                "rate": int(rng.integers(95, 221)),
                "shift": shifts[order[index % len(shifts)]],
            }
            everything.append({kind: values[kind] for kind in kinds})
        drawn.append(everything)
    return drawn


def equalise(wav, gains):
    """Puts a signal through a session's channel.

    Arguments
    ---------
    wav : numpy.ndarray
        Samples at 16 kHz.
    gains : list of float
        The gain (dB) at each of `EQUALISER_HZ`; smooth in between, over the
        logarithm of the frequency.

    Returns
    -------
    numpy.ndarray
        As many samples, not delayed.

    Example
    -------
    >>> equalise(np.ones(4000), [6.0] * 7)[2000].round(3)
    np.float64(1.995)
    """
    from scipy.signal import oaconvolve

    return oaconvolve(wav, _equaliser_taps(tuple(gains)), mode="same")


@functools.lru_cache(maxsize=4)
def _equaliser_taps(gains):
    """The linear-phase filter of these gains."""
    from scipy.interpolate import PchipInterpolator
    from scipy.signal import firwin2

    hz = np.linspace(0, SAMPLE_RATE / 2, TAPS)
    curve = PchipInterpolator(np.log(EQUALISER_HZ), gains)
    db = curve(np.log(np.clip(hz, EQUALISER_HZ[0], EQUALISER_HZ[-1])))
    return firwin2(TAPS, hz, 10 ** (db / 20), fs=SAMPLE_RATE)


def shift_vowels(phonemes, shift):
    """Moves the stressed vowels of a voice, all at once.

    Arguments
    ---------
    phonemes : str
        espeak-ng's names of the phonemes of a sentence.
    shift : str
        A key of `SHIFTS`.

    Returns
    -------
    str
        The phonemes with the vowels where this accent has them.

    Example
    -------
    >>> shift_vowels("p'En p'an t@d'eI S'i:p", "raised")
    "p'In p'En t@d'eI S'eIp"
    """
    moved = SHIFTS[shift]
    return STRESSED_VOWEL.sub(lambda m: moved.get(m[0], m[0]), phonemes)
