"""Test conditions made from clean sessions: noise, rooms, telephones and
uncommon microphones, one draw a session, the same in every run.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from scipy.signal import butter, fftconvolve, sosfilt

from speechbrain.augment.time_domain import AddNoise
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.corpora.mini_speech.channel import channel_sections
from speechbrain_lact.corpora.mini_speech.rooms import make_room
from speechbrain_lact.dataio.audio import read_audio

SEED = 2026
NOISE = {f"noise-{snr}": snr for snr in (20, 10, 5, 0)}
CONDITIONS = (*NOISE, "reverberation", "telephone", "channel")

TALKERS, TALK = 5, 20  # voices in a babble, seconds of each before it repeats
RT60 = 0.3, 0.8
TELEPHONE = 300, 3400  # Hz
FILTERS = 3  # of an uncommon microphone, one after the other
LEVEL = 1e-8  # mean power below which there is nothing to scale


@dataclass(frozen=True)
class Utterance:
    """One utterance of a test set."""

    key: str
    wav: str
    words: str
    speaker: str
    session: str
    position: int
    seconds: float
    scored: bool = True
    """Whether it counts; the others are only input."""


class Condition:
    """The signals of a test set in one condition.

    Arguments
    ---------
    name : str
        One of `CONDITIONS`, or anything else for the recordings as they are.
    utterances : list of Utterance
        All of the set, of which babble is mixed.
    """

    def __init__(self, name, utterances):
        self.name = name
        self.voices = {}
        for utterance in utterances:
            self.voices.setdefault(utterance.speaker, []).append(utterance)
        # That of the current session, and a few more.
        self.babble = functools.lru_cache(32)(self._babble)

    def wave(self, utterance):
        """An utterance in this condition.

        Arguments
        ---------
        utterance : Utterance

        Returns
        -------
        torch.Tensor
            Samples [S].
        """
        wav = read_audio(utterance.wav, SAMPLE_RATE)
        if self.name in NOISE:
            return self._noisy(wav, utterance)
        rng = _generator(self.name, utterance.session)
        if self.name == "reverberation":
            room = make_room(rng.uniform(*RT60), rng)
            return _as_loud(fftconvolve(wav.numpy(), room)[: len(wav)], wav)
        if self.name == "telephone":
            return _as_loud(sosfilt(_telephone(), wav.numpy()), wav)
        if self.name == "channel":
            filters = [
                channel_sections(draw_channel(rng)) for _ in range(FILTERS)
            ]
            sections = np.concatenate(filters)
            return _as_loud(sosfilt(sections, wav.numpy()), wav)
        return wav

    def noise_of(self, utterance):
        """What the noise of an utterance's session is, at any level.

        Arguments
        ---------
        utterance : Utterance

        Returns
        -------
        str
            `white` or `babble`: half of the sessions each; `white` where
            nobody else is there to babble.
        """
        babble = _generator("noise", utterance.session).random() < 0.5
        return "babble" if babble and len(self.voices) > 1 else "white"

    def _noisy(self, wav, utterance):
        """SpeechBrain's mixing, with a piece of the session's noise."""
        place = f"{utterance.session} {utterance.position}"
        rng = _generator("noise", place)
        if self.noise_of(utterance) == "white":
            noise = rng.standard_normal(len(wav))
        else:
            babble = self.babble(utterance.session, utterance.speaker)
            noise = np.roll(babble, rng.integers(len(babble)))
            noise = np.resize(noise, len(wav))
        noise = torch.from_numpy(noise).float()[None]
        snr = NOISE[self.name]
        mix = AddNoise(
            snr_low=snr, snr_high=snr, noise_funct=lambda _: noise.clone()
        )
        return mix(wav[None], torch.ones(1))[0]

    def _babble(self, session, speaker):
        """Other voices at a time."""
        rng = _generator("babble", session)
        others = [name for name in sorted(self.voices) if name != speaker]
        count = min(TALKERS, len(others))
        samples = TALK * SAMPLE_RATE
        babble = np.zeros(samples)
        for name in rng.choice(others, count, replace=False):
            talk, said = [], 0
            for utterance in self.voices[name]:
                talk.append(read_audio(utterance.wav, SAMPLE_RATE).numpy())
                said += len(talk[-1])
                if said >= samples:
                    break
            talk = np.concatenate(talk)
            power = max(np.mean(talk**2), LEVEL)
            talk = np.roll(talk / np.sqrt(power), rng.integers(len(talk)))
            babble += np.resize(talk, samples)
        return babble


def draw_channel(rng):
    """A filter: thin or dull, with a strong resonance or hole.

    Arguments
    ---------
    rng : numpy.random.Generator
        Where it comes from.

    Returns
    -------
    dict
        Frequencies (Hz) and gains (dB), as MiniSpeech has its mild ones.
    """
    return {
        "low_cut": float(rng.uniform(50, 400)),
        "peak": [
            float(np.exp(rng.uniform(5.7, 8.2))),
            float(rng.uniform(-15, 15)),
        ],
        "shelf": [float(rng.uniform(1500, 4500)), float(rng.uniform(-18, 12))],
    }


@functools.cache
def _telephone():
    return butter(6, TELEPHONE, "bandpass", fs=SAMPLE_RATE, output="sos")


def _as_loud(samples, wav):
    """What became of a recording, as loud as it was."""
    level = np.sqrt(wav.double().square().mean().item())
    power = max(np.mean(samples**2), LEVEL)
    return torch.from_numpy(samples * (level / np.sqrt(power))).float()


def _generator(what, session):
    """Random numbers of a session: the same in every run."""
    return np.random.default_rng(
        [SEED, zlib.crc32(f"{what} {session}".encode())]
    )
