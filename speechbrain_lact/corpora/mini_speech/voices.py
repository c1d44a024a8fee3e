"""The voices: accents, variants of espeak-ng, and what a speaker is.

Authors
 * speechbrain_lact contributors 2026
"""

from dataclasses import dataclass

ENGLISH = "en en-us en-gb-scotland en-gb-x-rp en-gb-x-gbclan".split()
# Languages that read every word of ours as a word: none is spelled out, and
# next to none is handed to an English voice (as French does with half of them).
TRAIN_ACCENTS = "de es it sv pl ro".split()
HELD_OUT_ACCENTS = "nl pt fi cy id sw".split()
# Words that a language would spell out, written the way it would say them.
RESPELLED = {"es": {"two": "tu"}}

TRAIN_VARIANTS = (
    "m1 m3 m4 m5 m7 m8 f1 f3 f5 Alex Alicia Andy Diogo Gene2 Henrique Hugo "
    "Jacky Lee Mario Nguyen Reed adam anika antonio aunty benjamin boris "
    "david ed edward2 grandma gustave ian john kaukovalta "
    "marcelo max michel mike2 norbert paul rob sandro steph travis"
).split()
# No variant of these is used in training, in any language.
HELD_OUT_VARIANTS = (
    "m2 m6 f2 f4 Andrea Annie Denis Gene Mike belinda edward grandpa "
    "linda miguel pablo pedro quincy robert shelby steph3 victor"
).split()
FEMALE = set(
    "f1 f2 f3 f4 f5 Alicia Andrea Annie anika aunty belinda grandma linda "
    "shelby steph steph3".split()
)


@dataclass
class Voice:
    """One speaker of the corpus, with all that is said.

    Arguments
    ---------
    speaker : int
        The speaker's number.
    split : str
        The subset the voice belongs to; no voice is in two.
    language : str
        espeak-ng's language.
    variant : str
        espeak-ng's voice variant.
    accent : str
        "" for a native voice; else "in training" or "held-out".
    rate : int
        Words per minute.
    pitch : int
        espeak-ng's pitch, 0 to 99.
    pitch_range : int
        espeak-ng's pitch range, 0 to 99.
    channel : dict
        The microphone: level and noise floor (dBFS), equaliser (Hz, dB).
    chapters : list of Chapter
        What is said.
    """

    speaker: int
    split: str
    language: str
    variant: str
    accent: str
    rate: int
    pitch: int
    pitch_range: int
    channel: dict
    chapters: list

    @property
    def sex(self):
        """F or M, from espeak-ng's variant."""
        return "F" if self.variant in FEMALE else "M"

    @property
    def name(self):
        """A description, for SPEAKERS.TXT."""
        words = (
            f"{self.language}+{self.variant} rate={self.rate} "
            f"pitch={self.pitch} range={self.pitch_range}"
        )
        if self.accent:
            words += f" accent={self.language} {self.accent}"
        return words
