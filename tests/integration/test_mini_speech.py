"""Tests of the corpora that are made here: MiniSpeech and FSDD.

Authors
 * speechbrain_lact contributors 2026
"""

import collections
import hashlib
import json
import multiprocessing
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechbrain_lact.corpora import fsdd as fsdd_prepare
from speechbrain_lact.corpora.folder import build_folder
from speechbrain_lact.corpora.fsdd import (
    DIGITS,
    SPEAKERS,
    make_sessions,
    prepare_fsdd,
)
from speechbrain_lact.corpora.layout import read_chapter, write_chapter
from speechbrain_lact.corpora.mini_speech import (
    build,
    plan as planning,
    prepare_mini_speech,
    workers,
)
from speechbrain_lact.corpora.mini_speech.conditions import shift_vowels
from speechbrain_lact.corpora.mini_speech.grammar import (
    GRAMMARS,
    read_grammar,
    vocabulary,
)
from speechbrain_lact.corpora.mini_speech.plan import SPLITS, make_plan
from speechbrain_lact.corpora.mini_speech.synthesizer import Synthesizer
from speechbrain_lact.corpora.mini_speech.voices import (
    ENGLISH,
    HELD_OUT_VARIANTS,
    TRAIN_VARIANTS,
)
from speechbrain_lact.corpora.mini_speech.words import THING_FAMILIES

ROOT = Path(__file__).parents[2]
MINIATURE = dict(
    train_voices=4,
    dev_voices=1,
    test_voices=2,
    train_chapters=1,
    test_chapters=1,
    utterances=3,
)


EXTRA = "test-channel test-tract test-babble"


def digest(folder):
    """Hash of every file's path and bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder):
    """Temporary folders next to a corpus."""
    return [p.name for p in folder.parent.iterdir() if p.name[0] == "."]


@pytest.fixture(scope="module")
def plan():
    """Who says what, at the default size."""
    return make_plan()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A miniature MiniSpeech; tests must leave it as it is."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("mini") / "corpus"
    assert prepare_mini_speech(folder, **MINIATURE)
    return folder


@pytest.fixture(scope="module")
def extra(tmp_path_factory):
    """The miniature with extra splits."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("extra") / "corpus"
    assert prepare_mini_speech(folder, **MINIATURE, extra_splits=EXTRA)
    return folder


def long_term(wav):
    """Mean power (dB) in bands of a quarter of an octave, 100 Hz to 8 kHz."""
    frames = np.lib.stride_tricks.sliding_window_view(wav, 1024)[::256]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(1024)))).mean(0)
    edges = np.geomspace(100, 8000, 26) * 1024 / 16000
    bins = np.searchsorted(edges, np.arange(513))
    bands = [power[bins == band].mean() for band in range(1, 26)]
    return 10 * np.log10(np.array(bands))


def sessions_of(folder, split):
    """The utterances' samples of each chapter."""
    return [
        [wav for _, _, wav in read_chapter(chapter)]
        for chapter in sorted(folder.glob(f"{split}/*/*"))
    ]


class TestPlan:
    """What is said by whom, without any sound."""

    def test_no_voice_is_shared(self, plan):
        splits = collections.defaultdict(set)
        for voice in plan:
            splits[voice.language, voice.variant].add(voice.speaker)
        assert all(len(speakers) == 1 for speakers in splits.values())
        assert len({voice.speaker for voice in plan}) == len(plan)

        def variants(training):
            return {
                v.variant
                for v in plan
                if (v.split == "train-clean-100") == training
            }

        assert not variants(True) & variants(False)
        assert not set(TRAIN_VARIANTS) & set(HELD_OUT_VARIANTS)

    def test_sizes(self, plan):
        voices = collections.Counter(voice.split for voice in plan)
        assert list(voices) == list(SPLITS)
        assert list(voices.values()) == [240, 12, 12, 12, 12]
        accents = collections.Counter((v.split, v.accent) for v in plan)
        assert accents["train-clean-100", "in training"] == 48
        assert accents["test-accent", "in training"] == 6
        assert accents["test-accent", "held-out"] == 6

    def test_held_out_accents(self, plan):
        trained = {v.language for v in plan if v.split == "train-clean-100"}
        for voice in plan:
            if voice.split == "test-accent":
                assert (voice.language in trained) == (
                    voice.accent == "in training"
                )
            elif voice.split != "train-clean-100":
                assert voice.language in ENGLISH and not voice.accent

    def test_every_word_is_trained(self, plan):
        voices = collections.defaultdict(set)
        counts = collections.Counter()
        for voice in plan:
            said = [s for c in voice.chapters for s in c.sentences]
            words = [word for s in said for word in s.split()]
            if voice.split == "train-clean-100":
                counts.update(words)
                for word in words:
                    voices[word].add(voice.speaker)
            else:
                assert set(words) <= set(voices)
        assert set(counts) == vocabulary()
        assert 200 <= len(counts) <= 400
        assert min(len(speakers) for speakers in voices.values()) >= 8
        assert min(counts.values()) >= 16

    def test_rare_words_come_back(self, plan):
        for voice in plan:
            for chapter in voice.chapters:
                said = collections.Counter(" ".join(chapter.sentences).split())
                assert len(set(chapter.rare_words)) == 7
                assert min(said[word] for word in chapter.rare_words) >= 2

    def test_sentences(self, plan):
        trained, other = set(), set()
        for voice in plan:
            for chapter in voice.chapters:
                lengths = [len(s.split()) for s in chapter.sentences]
                assert 4 <= min(lengths) and max(lengths) <= 9
                training = voice.split == "train-clean-100"
                (trained if training else other).update(chapter.sentences)
        assert not trained & other

    def test_one_condition_a_session(self, plan):
        for voice in plan:
            for chapter in voice.chapters:
                training = voice.split == "train-clean-100"
                if not training:
                    noisy = voice.split == "test-noisy"
                    assert bool(chapter.condition) == noisy
                if chapter.condition:
                    quietest = 20 if training else 15
                    assert 5 <= chapter.condition["snr"] <= quietest

    def test_every_fourth_session_of_training_is_noisy(self, plan):
        sessions = [
            bool(chapter.condition)
            for voice in plan
            if voice.split == "train-clean-100"
            for chapter in voice.chapters
        ]
        assert sum(sessions) == len(sessions) // 4

    def test_more_training_leaves_the_tests_voices(self, plan):
        small = make_plan(train_voices=8)
        assert [v.name for v in small if v.speaker > 2000] == [
            v.name for v in plan if v.speaker > 2000
        ]

    @pytest.mark.parametrize(
        "sizes, message",
        [
            ({"utterances": 0}, "utterances is 0"),
            ({"accent_share": 1.5}, "accent_share is 1.5"),
            ({"train_voices": 5000}, "only .* different ones are left"),
        ],
    )
    def test_impossible_sizes(self, sizes, message):
        with pytest.raises(ValueError, match=message):
            make_plan(**sizes)


class TestExtraSplits:
    """More splits, which change nothing of the others."""

    def test_the_default_plan_is_what_it_was(self, plan):
        said = [
            [v.speaker, v.split, v.name, [c.sentences for c in v.chapters]]
            for v in plan
        ]
        text = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        assert text[:16] == "d0e46f6a72fd25e9"

    def test_the_default_corpus_is_what_it_is(self, corpus, extra):
        def splits(folder):
            return {
                path: content
                for path, content in digest(folder).items()
                if path.split("/")[0] in SPLITS
            }

        assert len(splits(corpus)) == 44
        assert splits(corpus) == splits(extra)

    def test_alone_or_with_others(self, extra, tmp_path):
        plan = make_plan(**MINIATURE, extra_splits="test-channel")
        alone = [voice for voice in plan if voice.split == "test-channel"]
        workers.make_chapters(alone, tmp_path, 2026)
        assert digest(tmp_path / "test-channel") == digest(
            extra / "test-channel"
        )

    @pytest.mark.parametrize("name", GRAMMARS)
    def test_grammar(self, plan, name):
        """Words of its own, all of them trained, none of them elsewhere."""
        splits = f"train-{name} dev-{name} test-{name}"
        voices = make_plan(extra_splits=splits)[len(plan) :]
        texts = read_grammar(name)
        words, sentences = vocabulary(texts), collections.defaultdict(list)
        for voice in voices:
            for chapter in voice.chapters:
                sentences[voice.split] += chapter.sentences
                said = " ".join(chapter.sentences).split()
                assert min(said.count(w) for w in chapter.rare_words) >= 2
                assert set(said) <= words
        assert set(" ".join(sentences[f"train-{name}"]).split()) == words
        assert not set(sentences[f"train-{name}"]) & {
            *sentences[f"dev-{name}"],
            *sentences[f"test-{name}"],
        }
        assert 100 <= len(words) <= 200
        own = words - vocabulary()
        assert len(own) > 0.8 * len(words)
        default = {
            word
            for voice in plan
            for chapter in voice.chapters
            for word in " ".join(chapter.sentences).split()
        }
        assert not default & own
        # Else a sentence that is taken would be looked for without end.
        session = {"name", "name2", "place", "rare", "scene"}
        for template in texts.templates:
            slots = set(re.findall(r"{(\w+)}", template))
            assert slots - session
            assert "name2" not in slots or "name" in slots

    def test_plan(self, plan):
        """The same voices and words as in the split it is compared with."""
        voices = make_plan(extra_splits="train-channel test-hard")
        assert voices[: len(plan)] == plan
        pairs = {"train-channel": "train-clean-100", "test-hard": "test-clean"}
        for split, base in pairs.items():
            ours = [v for v in voices if v.split == split]
            bases = [v for v in plan if v.split == base]
            assert len(ours) == len(bases)
            for a, b in zip(ours, bases):
                assert a.name == b.name and a.speaker % 10000 == b.speaker
                for x, y in zip(a.chapters, b.chapters):
                    assert x.sentences == y.sentences and not y.sound
        numbers = [c.number for v in voices for c in v.chapters]
        assert len(set(numbers)) == len(numbers)
        shifts = collections.Counter(
            v.chapters[0].sound["shift"]
            for v in voices
            if v.split == "test-hard"
        )
        assert len(shifts) == 5 and set(shifts.values()) <= {2, 3}

    def test_words(self, plan):
        """Single words: all equally often, most of them of a family."""
        voices = make_plan(extra_splits="dev-words")[len(plan) :]
        chapters = [chapter for voice in voices for chapter in voice.chapters]
        alike = {word for family in THING_FAMILIES for word in family}
        counts = collections.Counter()
        for chapter in chapters:
            assert len(set(chapter.sentences)) == 24
            assert sum(word in alike for word in chapter.sentences) == 16
            assert set(chapter.sound) == {"equaliser", "tract", "rate", "shift"}
            counts.update(chapter.sentences)
        assert set(counts) <= vocabulary() and len(chapters) == 12
        of_alike = [counts[word] for word in alike]
        assert max(of_alike) - min(of_alike) <= 2

    def test_unknown_split(self):
        with pytest.raises(ValueError, match="no test-chanel; allowed: .*-ch"):
            make_plan(extra_splits="test-chanel test-tract")

    def test_channel_is_of_the_session(self, extra):
        """Against the same words without it, in the audio's spectra."""
        curves = []
        clean = sessions_of(extra, "test-clean")
        for ours, theirs in zip(sessions_of(extra, "test-channel"), clean):
            curves.append(
                [long_term(a) - long_term(b) for a, b in zip(ours, theirs)]
            )
        curves = np.array(curves)
        curves -= curves.mean(2, keepdims=True)
        means = curves.mean(1)
        within = np.sqrt(np.mean((curves - means[:, None]) ** 2))
        between = np.sqrt(np.mean((means[0] - means[1]) ** 2))
        assert within < 2 and between > 6
        assert np.ptp(means, axis=1).min() > 12

    def test_vocal_tract_is_of_the_voice(self, extra):
        """How far the spectra are moved along the frequencies."""
        factors = np.linspace(0.8, 1.25, 91)
        rows = (extra / "CHAPTERS.TXT").read_text().splitlines()
        drawn = [
            float(re.search(r"tract=([\d.]+)", row)[1])
            for row in rows
            if "test-tract" in row
        ]
        clean = sessions_of(extra, "test-clean")
        assert len(set(drawn)) == 2
        for ours, theirs, tract in zip(
            sessions_of(extra, "test-tract"), clean, drawn
        ):
            ours, theirs = np.concatenate(ours), np.concatenate(theirs)
            hz = np.geomspace(300, 5000, 200)

            def curve(wav, factor):
                spectrum = np.square(np.abs(np.fft.rfft(wav[:48000], 48000)))
                smooth = np.convolve(spectrum, np.ones(600), "same")
                return np.log(smooth[(hz * factor * 3).astype(int)])

            fits = [
                np.corrcoef(curve(ours, f), curve(theirs, 1))[0, 1]
                for f in factors
            ]
            assert abs(factors[np.argmax(fits)] - tract) < 0.05

    def test_vowels_are_those_of_other_words(self):
        """A shifted "pen" sounds as "pin" does, not as "pen"."""
        pytest.importorskip("espeakng_loader")
        (voice, *_) = make_plan(train_voices=1, test_voices=1)
        synthesizer = Synthesizer()
        synthesizer.set_voice(voice)

        def spectrum(word, shift):
            said = shift_vowels(synthesizer.phonemes(word), shift)
            wav = synthesizer.say(f"[[{said}]].")
            return long_term(wav)

        shifted = spectrum("pen", "raised")
        assert np.std(shifted - spectrum("pin", "none")) < 0.3 * np.std(
            shifted - spectrum("pen", "none")
        )

    def test_babble_in_every_session(self, extra):
        for ours, clean in zip(
            sessions_of(extra, "test-babble"), sessions_of(extra, "test-clean")
        ):
            for wav, without in zip(ours, clean):
                assert wav[:800].std() > 5 * without[:800].std()


class TestMiniSpeech:
    """The sound, and what is on the disk."""

    def test_same_settings_same_bytes(self, corpus, tmp_path):
        assert prepare_mini_speech(tmp_path / "again", **MINIATURE)
        assert digest(tmp_path / "again") == digest(corpus)

    def test_the_clock_is_not_heard(self):
        """espeak-ng seeds itself from the clock; some variants show it."""
        pytest.importorskip("espeakng_loader")
        program = (
            "import hashlib\n"
            "from speechbrain_lact.corpora.mini_speech.plan import *\n"
            "from speechbrain_lact.corpora.mini_speech.synthesizer import *\n"
            "voice = make_plan(train_voices=1, dev_voices=1, test_voices=1)[0]\n"
            "voice.language, voice.variant = 'en-us', 'f3'\n"
            "synthesizer = Synthesizer()\n"
            "synthesizer.set_voice(voice)\n"
            "wav = synthesizer.say('please put the cello behind the sheep')\n"
            "print(hashlib.sha256(wav.tobytes()).hexdigest())\n"
        )
        said = set()
        for _ in range(2):
            said.add(
                subprocess.check_output(
                    [sys.executable, "-c", program], cwd=ROOT
                )
            )
            time.sleep(1)  # the clock counts seconds
        assert len(said) == 1

    def test_audio_and_transcripts(self, corpus):
        chapters = sorted(corpus.glob("*/*/*"))
        plan = make_plan(**MINIATURE)
        assert len(chapters) == len(plan)
        for folder in chapters:
            (voice,) = [v for v in plan if str(v.speaker) == folder.parts[-2]]
            assert voice.split == folder.parts[-3]
            utterances = read_chapter(folder)
            assert [words.lower() for _, words, _ in utterances] == (
                voice.chapters[0].sentences
            )
            for index, (key, words, wav) in enumerate(utterances):
                assert key == "-".join([*folder.parts[-2:], f"{index:04d}"])
                assert words == words.upper()
                assert 1.0 < len(wav) / 16000 < 8.0
                assert 0.05 < np.abs(wav).max() < 0.96
                info = soundfile.info(folder / f"{key}.flac")
                assert (info.samplerate, info.subtype) == (16000, "PCM_16")
                if voice.split != "test-noisy":
                    loud = np.abs(wav) > 0.1 * np.abs(wav).max()
                    assert loud.argmax() < 0.4 * 16000

    def test_noisy_is_noisy(self, corpus):
        def floor(split):
            return np.mean(
                [
                    np.abs(wav[:800]).mean() / np.abs(wav).mean()
                    for folder in corpus.glob(f"{split}/*/*")
                    for _, _, wav in read_chapter(folder)
                ]
            )

        assert floor("test-noisy") > 5 * floor("test-clean")

    def test_speakers(self, corpus):
        rows = [
            [field.strip() for field in line.split("|", 4)]
            for line in (corpus / "SPEAKERS.TXT").read_text().splitlines()
            if not line.startswith(";")
        ]
        folders = {path.name: path for path in corpus.glob("*/*")}
        assert len(rows) == len(folders) == 11
        for speaker, sex, split, minutes, _ in rows:
            assert folders[speaker].parent.name == split
            assert sex in "MF" and float(minutes) > 0
        assert {row[4].split()[-1] for row in rows[-2:]} == {
            "training",
            "held-out",
        }

    def test_not_made_twice(self, corpus, monkeypatch):
        monkeypatch.setattr(
            build, "make_chapters", None
        )  # to be made is to fail
        before = digest(corpus)
        assert not prepare_mini_speech(corpus, **MINIATURE)
        assert digest(corpus) == before

    def test_missing_espeak(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
        with pytest.raises(ImportError, match="pip install espeakng-loader"):
            prepare_mini_speech(tmp_path / "corpus", **MINIATURE)
        assert not list(tmp_path.iterdir())

    def test_killed_in_the_middle(self, tmp_path):
        pytest.importorskip("espeakng_loader")
        folder = tmp_path / "corpus"
        sizes = {**MINIATURE, "train_voices": 60, "utterances": 12}
        options = [f"--{key}={value}" for key, value in sizes.items()]
        process = subprocess.Popen(
            [sys.executable, "-m", "recipes.MiniSpeech.mini_speech_prepare"]
            + [str(folder), *options],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not list(tmp_path.rglob("*.flac")):
                assert process.poll() is None, "it ended before it was killed"
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not folder.exists()
        assert leftovers(folder)
        assert prepare_mini_speech(folder, **MINIATURE)
        assert not leftovers(folder)
        assert len(list(folder.glob("*/*/*/*.flac"))) == 33

    @pytest.mark.parametrize("index", [0, 1])
    def test_a_process_dies(self, tmp_path, monkeypatch, index):
        """The other does not wait for it for ever."""
        pytest.importorskip("espeakng_loader")
        follow = workers._follow

        def kill_one(*arguments):
            workers = multiprocessing.active_children()
            assert len(workers) == 2
            workers[index].kill()
            return follow(*arguments)

        monkeypatch.setattr(workers, "_follow", kill_one)
        with pytest.raises(RuntimeError, match="ended after . of 14 chapters"):
            prepare_mini_speech(tmp_path / "corpus", **MINIATURE)
        assert not list(tmp_path.iterdir())
        assert not multiprocessing.active_children()

    def test_failing_voice(self, tmp_path, monkeypatch):
        pytest.importorskip("espeakng_loader")
        monkeypatch.setattr(planning, "ENGLISH", ["no-such-language"])
        with pytest.raises(RuntimeError, match="no voice no-such-language"):
            prepare_mini_speech(tmp_path / "corpus", **MINIATURE)
        assert not list(tmp_path.iterdir())


class TestBuildFolder:
    """Whole or not at all, and nothing of others is deleted."""

    @staticmethod
    def build(folder):
        (folder / "train").mkdir()
        (folder / "train" / "a.txt").write_text("a")

    def test_made_again_when_settings_change(self, tmp_path):
        folder = tmp_path / "x"
        assert build_folder(folder, "X", {"seed": 1}, self.build)
        assert not build_folder(folder, "X", {"seed": 1}, self.build)
        assert build_folder(folder, "X", {"seed": 2}, self.build)
        assert not leftovers(folder)

    def test_made_again_when_incomplete(self, tmp_path):
        folder = tmp_path / "x"
        assert build_folder(folder, "X", {}, self.build)
        (folder / "train").rename(tmp_path / "gone")
        assert build_folder(folder, "X", {}, self.build)
        assert (folder / "train" / "a.txt").exists()

    def test_failure_keeps_the_old_one(self, tmp_path):
        def fail(folder):
            self.build(folder)
            raise KeyboardInterrupt

        folder = tmp_path / "x"
        assert build_folder(folder, "X", {"seed": 1}, self.build)
        with pytest.raises(KeyboardInterrupt):
            build_folder(folder, "X", {"seed": 2}, fail)
        assert not leftovers(folder)
        assert not build_folder(folder, "X", {"seed": 1}, self.build)

    def test_foreign_folder_is_refused(self, tmp_path):
        folder = tmp_path / "thesis"
        folder.mkdir()
        (folder / "thesis.tex").write_text("years of work")
        with pytest.raises(FileExistsError, match="thesis.*thesis.tex"):
            build_folder(folder, "X", {}, self.build)
        assert (folder / "thesis.tex").read_text() == "years of work"
        assert not leftovers(folder)

    def test_foreign_files_in_ours_are_refused(self, tmp_path):
        folder = tmp_path / "x"
        assert build_folder(folder, "X", {"seed": 1}, self.build)
        (folder / "results").mkdir()
        assert not build_folder(folder, "X", {"seed": 1}, self.build)
        with pytest.raises(FileExistsError, match="results"):
            build_folder(folder, "X", {"seed": 2}, self.build)
        assert (folder / "results").exists()

    def test_other_corpus_and_file_are_refused(self, tmp_path):
        assert build_folder(tmp_path / "x", "X", {}, self.build)
        with pytest.raises(FileExistsError, match="not of a Y"):
            build_folder(tmp_path / "x", "Y", {}, self.build)
        (tmp_path / "file").write_text("")
        with pytest.raises(FileExistsError, match="not a folder"):
            build_folder(tmp_path / "file", "X", {}, self.build)

    def test_empty_folder_is_taken(self, tmp_path):
        (tmp_path / "x").mkdir()
        assert build_folder(tmp_path / "x", "X", {}, self.build)

    @pytest.mark.parametrize("wav", [[], [1.5], [np.nan]])
    def test_bad_audio_is_refused(self, tmp_path, wav):
        with pytest.raises(ValueError, match="1-2-0000"):
            write_chapter(tmp_path, 1, 2, [("a", np.array(wav))])


@pytest.fixture
def fsdd(tmp_path):
    """A dataset of tones: each digit has a pitch, each take a length."""
    folder = tmp_path / "fsdd" / "recordings"
    folder.mkdir(parents=True)
    for name in (*SPEAKERS, "nicolas"):
        for digit in range(10):
            for take in range(4):
                time = np.arange(800 + 80 * take) / 8000
                wav = 0.02 * np.sin(2 * np.pi * (200 + 100 * digit) * time)
                path = folder / f"{digit}_{name}_{take}.wav"
                soundfile.write(path, wav, 8000)
    return folder.parent


class TestFSDD:
    """Digits in LibriSpeech's layout."""

    def test_layout(self, fsdd, tmp_path):
        folder = tmp_path / "digits"
        assert prepare_fsdd(fsdd, folder, seed=1)
        assert not prepare_fsdd(fsdd, folder, seed=1)
        counts = collections.defaultdict(collections.Counter)
        for chapter in folder.glob("*/*/*"):
            for _, words, wav in read_chapter(chapter):
                key = chapter.parts[-3], chapter.parts[-2]
                counts[key].update(words.lower().split())
                assert 4 <= len(words.split()) <= 10
                seconds = 0.1 * len(words.split())
                assert seconds < len(wav) / 16000 < 4.5 * seconds + 0.3
                assert 0.05 < np.abs(wav).max() < 0.1
        times = {
            ("train-clean-100", "101"): 12,
            ("train-clean-100", "103"): 12,
            ("train-clean-100", "105"): 12,
            ("dev-clean", "104"): 2,
            ("test-clean", "104"): 4,
        }
        assert counts == {k: dict.fromkeys(DIGITS, n) for k, n in times.items()}
        assert "yweweler" in (folder / "SPEAKERS.TXT").read_text()

    def test_words_are_what_is_heard(self, fsdd, tmp_path):
        prepare_fsdd(fsdd, tmp_path / "digits")
        chapter = tmp_path / "digits" / "dev-clean" / "104" / "1000"
        for _, words, wav in read_chapter(chapter):
            frames = wav[: len(wav) // 160 * 160].reshape(-1, 160)
            loud = np.pad(np.sqrt((frames**2).mean(1)) > 0.01, 1)
            starts, ends = (
                np.diff(loud.astype(int)).nonzero()[0].reshape(-1, 2).T
            )
            heard = []
            for start, end in zip(starts * 160, ends * 160):
                spectrum = np.abs(np.fft.rfft(wav[start:end], 16000))
                heard.append(DIGITS[round((spectrum.argmax() - 200) / 100)])
            assert heard == words.lower().split()

    def test_deterministic(self, fsdd, tmp_path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            prepare_fsdd(fsdd, tmp_path / name, seed=seed)
        assert digest(tmp_path / "a") == digest(tmp_path / "b")
        assert digest(tmp_path / "a") != digest(tmp_path / "c")

    def test_dev_and_test_share_no_recording(self, fsdd, tmp_path, monkeypatch):
        used = []
        join = fsdd_prepare._join
        monkeypatch.setattr(
            fsdd_prepare, "_join", lambda p, rng: used.extend(p) or join(p, rng)
        )
        prepare_fsdd(fsdd, tmp_path / "digits")
        counts = collections.Counter(path.stem for path in used)
        for stem, count in counts.items():
            _, name, take = stem.split("_")
            expected = 3 if name != "yweweler" else 1 + int(take) % 2
            assert count == expected, stem
        assert len(counts) == 160

    def test_sessions(self):
        for count in range(4, 60):
            chapters = make_sessions(
                range(count), 1, np.random.default_rng(count)
            )
            assert all(len(chapter) == 10 for chapter in chapters[:-1])
            lengths = [len(said) for chapter in chapters for said in chapter]
            assert 4 <= min(lengths) and max(lengths) <= 10
            assert sum(lengths) == count

    def test_missing_dataset(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="git clone"):
            prepare_fsdd(tmp_path, tmp_path / "digits")
        assert not list(tmp_path.iterdir())
