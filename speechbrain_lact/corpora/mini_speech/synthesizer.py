"""Speaks a text with espeak-ng.

Authors
 * speechbrain_lact contributors 2026
"""

import ctypes

import numpy as np

from speechbrain_lact.corpora.mini_speech.grammar import DEFAULT_TEXTS
from speechbrain_lact.corpora.mini_speech.voices import RESPELLED


class Synthesizer:
    """espeak-ng through ctypes: text in, samples out.

    There is one per process: the library has one global state. Its output
    depends on all that the process has said before, so a corpus is made in
    processes of its own.

    Raises
    ------
    ImportError
        If espeakng-loader is not installed.
    """

    # From espeak-ng's speak_lib.h.
    AUDIO_OUTPUT_SYNCHRONOUS = 2
    CHARS_UTF8, PHONEMES = 1, 0x100
    RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4
    SEED = 1

    def __init__(self):
        loader = import_espeakng_loader()
        self.library = ctypes.CDLL(loader.get_library_path())
        self.sample_rate = self.library.espeak_Initialize(
            self.AUDIO_OUTPUT_SYNCHRONOUS,
            0,
            loader.get_data_path().encode(),
            0,
        )
        if self.sample_rate <= 0:
            raise RuntimeError("espeak-ng did not start: reinstall it.")
        # The library seeds its generator from the clock.
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(self.SEED))
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.pieces = []
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int,
            ctypes.POINTER(ctypes.c_short),
            ctypes.c_int,
            ctypes.c_void_p,
        )
        self.callback = callback(self._receive)  # or it is collected
        self.library.espeak_SetSynthCallback(self.callback)

    def _receive(self, samples, count, events):
        """Called by the library with each piece of audio."""
        if samples and count > 0:
            size = count * ctypes.sizeof(ctypes.c_short)
            self.pieces.append(ctypes.string_at(samples, size))
        return 0

    def set_voice(self, voice, rate=None):
        """Chooses the voice of what is said next.

        Arguments
        ---------
        voice : Voice
            Language, variant, rate, pitch and range are used.
        rate : float
            Words per minute, if not the voice's own.

        Raises
        ------
        RuntimeError
            If espeak-ng has no such voice.
        """
        name = f"{voice.language}+{voice.variant}"
        if self.library.espeak_SetVoiceByName(name.encode()) != 0:
            raise RuntimeError(f"espeak-ng has no voice {name}.")
        for parameter, value in (
            (self.RATE, round(rate or voice.rate)),
            (self.VOLUME, 40),  # far from clipping for every variant
            (self.PITCH, voice.pitch),
            (self.RANGE, voice.pitch_range),
        ):
            self.library.espeak_SetParameter(parameter, value, 0)

    def phonemes(self, text):
        """How the voice would say a text.

        Arguments
        ---------
        text : str
            A sentence.

        Returns
        -------
        str
            espeak-ng's names of the phonemes.
        """
        left, said = ctypes.c_char_p(text.encode()), []
        while left.value:
            clause = self.library.espeak_TextToPhonemes(
                ctypes.byref(left), self.CHARS_UTF8, 0
            )
            said.append(clause.decode())
        return " ".join(said)

    def say(self, text):
        """Says a sentence.

        Arguments
        ---------
        text : str
            What is said; phonemes stand in double square brackets.

        Returns
        -------
        numpy.ndarray
            Samples at `sample_rate`, float32 in [-1, 1].
        """
        self.pieces.clear()
        data = text.encode()
        error = self.library.espeak_Synth(
            data,
            len(data) + 1,
            0,
            0,
            0,
            self.CHARS_UTF8 | (self.PHONEMES if "[[" in text else 0),
            None,
            None,
        )
        if error != 0 or not self.pieces:
            raise RuntimeError(f"espeak-ng could not say {text!r}.")
        samples = np.frombuffer(b"".join(self.pieces), np.short)
        return samples.astype(np.float32) / 32768


def import_espeakng_loader():
    """Imports espeakng-loader, or says how to install it.

    Returns
    -------
    module
        `espeakng_loader`.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise ImportError(
            "MiniSpeech is spoken by espeak-ng, which is missing. Install it "
            "with `pip install espeakng-loader`, or with the demonstrations: "
            '`pip install -e ".[demo]"`.'
        )
    return espeakng_loader


def espeak_text(sentence, language, questions=DEFAULT_TEXTS.questions):
    """A sentence as the synthesizer gets it: punctuated, and respelled where
    the language would spell a word out.

    Arguments
    ---------
    sentence : str
        Words in lower case.
    language : str
        espeak-ng's language.
    questions : list of str
        Sentences that begin so end in a question mark.

    Returns
    -------
    str
        The text to speak.

    Example
    -------
    >>> espeak_text("is it two", "es")
    'is it tu?'
    """
    respelled = RESPELLED.get(language, {})
    text = " ".join(respelled.get(w, w) for w in sentence.split())
    first = sentence.split()[0]
    return text + ("?" if first in questions else ".")
