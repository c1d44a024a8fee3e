"""Tests of the conditions that are made from clean sessions.

Authors
* speechbrain_lact contributors 2026
"""

import math

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_lact.corpora.conditions import (
    CONDITIONS,
    NOISE,
    Condition,
    Utterance,
)

RATE = 16000
TONES = {"a": 500, "b": 1500, "c": 2500}  # Hz of each speaker
SESSIONS = 3  # of each


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    """Three tones that speak for a second, twice a session."""
    folder, found = tmp_path_factory.mktemp("tones"), []
    time = np.arange(RATE) / RATE
    for name, hertz in TONES.items():
        path = folder / f"{name}.wav"
        soundfile.write(path, 0.1 * np.sin(2 * math.pi * hertz * time), RATE)
        for session in (f"{name}-{i}" for i in range(SESSIONS)):
            for place in range(2):
                key = f"{session}-{place}"
                found.append(
                    Utterance(key, str(path), "", name, session, place, 1.0)
                )
    return found


def spectrum(wav):
    """Power at each Hz."""
    return torch.fft.rfft(wav[:RATE].double()).abs().square()


def test_every_run_hears_the_same(voices):
    for name in ("clean", *CONDITIONS):
        one, two = Condition(name, voices), Condition(name, voices)
        # Whatever was heard before.
        first = [one.wave(u) for u in voices]
        second = [two.wave(u) for u in reversed(voices)]
        for x, y in zip(first, reversed(second)):
            assert torch.equal(x, y) and x.dtype == torch.float32
            assert len(x) == RATE and bool(x.isfinite().all())


def test_noise_has_its_level(voices):
    clean = Condition("clean", voices)
    for name, snr in NOISE.items():
        condition, kinds = Condition(name, voices), set()
        share = 1 / (10 ** (snr / 20) + 1)  # as SpeechBrain mixes
        for utterance in voices:
            said = (1 - share) * clean.wave(utterance)
            noise = condition.wave(utterance) - said
            # SpeechBrain's amplitude is the root of the mean square.
            ratio = 10 * math.log10(
                said.square().mean() / noise.square().mean()
            )
            assert abs(ratio - snr) < 0.01
            kinds.add(condition.noise_of(utterance))
        assert kinds == {"white", "babble"}


def test_sessions_have_one_noise_and_other_voices(voices):
    condition, clean = Condition("noise-0", voices), Condition("", voices)
    for first, second in zip(voices[::2], voices[1::2]):
        kind = condition.noise_of(first)
        assert kind == condition.noise_of(second)
        noise = condition.wave(first) - 0.5 * clean.wave(first)
        again = condition.wave(second) - 0.5 * clean.wave(second)
        assert not torch.allclose(noise, again, atol=1e-3)
        power = spectrum(noise) / spectrum(noise).sum()
        if kind == "white":
            assert power.max() < 0.01
            continue
        for name, hertz in TONES.items():
            heard = float(power[hertz - 5 : hertz + 6].sum())
            assert (heard > 0.4) == (name != first.speaker)


def test_alone_nobody_babbles(voices):
    own = [u for u in voices if u.speaker == "a"]
    condition = Condition("noise-5", own)
    assert {condition.noise_of(u) for u in own} == {"white"}


def test_level_of_noise_changes_nothing_else(voices):
    """The same noise at every level: levels are paired."""
    clean = Condition("clean", voices)
    for utterance in voices:
        noises = []
        for name, snr in NOISE.items():
            said = (1 - 1 / (10 ** (snr / 20) + 1)) * clean.wave(utterance)
            noise = Condition(name, voices).wave(utterance) - said
            noises.append(noise / noise.norm())
        for noise in noises[1:]:
            assert torch.allclose(noise, noises[0], atol=1e-4)


def test_telephone_cuts_low_and_high(tmp_path):
    path = tmp_path / "white.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    utterance = Utterance("u", str(path), "", "a", "a-0", 0, 1.0)
    wav = Condition("telephone", [utterance]).wave(utterance)
    power = spectrum(wav)
    inside = power[500:3000].mean()
    assert power[:150].mean() < 1e-3 * inside
    assert power[4500:].mean() < 1e-3 * inside
    assert wav.square().mean().sqrt() == pytest.approx(0.1, rel=0.02)


def test_room_and_microphone_are_the_sessions_own(tmp_path):
    path = tmp_path / "click.wav"
    click = np.zeros(RATE)
    click[2000] = 0.5
    soundfile.write(path, click, RATE, subtype="FLOAT")
    voices = [
        Utterance(f"{s}-{i}", str(path), "", "a", s, i, 1.0)
        for s in ("one", "two")
        for i in range(2)
    ]
    for name in ("reverberation", "channel"):
        condition = Condition(name, voices)
        one, again, other, _ = (condition.wave(u) for u in voices)
        assert torch.equal(one, again) and not torch.allclose(one, other)
        power = float(np.mean(click**2))
        assert float(one.double().square().mean()) == pytest.approx(
            power, rel=0.05
        )
        # Reverberation rings for long.
        late = float(one[4000:].square().sum() / one.square().sum())
        assert (late > 1e-3) == (name == "reverberation")
