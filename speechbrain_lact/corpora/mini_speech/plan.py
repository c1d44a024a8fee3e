"""Decides which voice says what, and where: everything but the sound.

Authors
 * speechbrain_lact contributors 2026
"""

from dataclasses import replace

import numpy as np

from speechbrain_lact.corpora.mini_speech.channel import draw_channel
from speechbrain_lact.corpora.mini_speech.conditions import CONDITIONS, draw
from speechbrain_lact.corpora.mini_speech.deck import Deck
from speechbrain_lact.corpora.mini_speech.grammar import (
    GRAMMARS,
    Grammar,
    read_grammar,
)
from speechbrain_lact.corpora.mini_speech.voices import (
    ENGLISH,
    HELD_OUT_ACCENTS,
    HELD_OUT_VARIANTS,
    TRAIN_ACCENTS,
    TRAIN_VARIANTS,
    Voice,
)
from speechbrain_lact.corpora.mini_speech.words import (
    NAMES,
    PLACES,
    THING_FAMILIES,
    TOPICS,
)

SPLITS = (
    "train-clean-100",
    "dev-clean",
    "test-clean",
    "test-noisy",
    "test-accent",
)


GRAMMAR_VOICES = 24
WORDS = 24  # of a session of single words


def make_plan(
    seed=2026,
    train_voices=240,
    dev_voices=12,
    test_voices=12,
    train_chapters=2,
    dev_chapters=1,
    test_chapters=2,
    utterances=12,
    accent_share=0.2,
    extra_splits="",
):
    """Decides who says what, where: everything but the sound.

    Arguments
    ---------
    seed : int
        Everything follows from it.
    train_voices : int
        How many voices in training, accents included.
    dev_voices : int
        How many voices in dev-clean.
    test_voices : int
        How many voices in each of the three test splits.
    train_chapters : int
        Sessions of each voice in training.
    dev_chapters : int
        Sessions of each voice in dev-clean.
    test_chapters : int
        Sessions of each voice in each test split.
    utterances : int
        Sentences of each session. With 12 or more, every rare word of a
        session is said at least twice.
    accent_share : float
        The share of training voices that are of other languages.
    extra_splits : str
        Names of extra splits, with spaces between them.

    Returns
    -------
    list of Voice
        All voices of all splits.

    Raises
    ------
    ValueError
        If a size is not positive, the share is not in [0, 1], espeak-ng has
        not that many different voices, or an extra split is unknown.

    Example
    -------
    >>> plan = make_plan(train_voices=4, dev_voices=1, test_voices=2)
    >>> [voice.speaker for voice in plan]
    [1001, 1002, 1003, 1004, 2001, 3001, 3002, 4001, 4002, 5001, 5002]
    >>> plan[0].split, len(plan[0].chapters)
    ('train-clean-100', 2)
    """
    sizes = dict(
        train_voices=train_voices,
        dev_voices=dev_voices,
        test_voices=test_voices,
        train_chapters=train_chapters,
        dev_chapters=dev_chapters,
        test_chapters=test_chapters,
        utterances=utterances,
    )
    for key, value in sizes.items():
        if value < 1:
            raise ValueError(f"{key} is {value}; it must be at least 1.")
    if not 0 <= accent_share <= 1:
        raise ValueError(f"accent_share is {accent_share}; allowed: 0 to 1.")
    accents = round(train_voices * accent_share)
    half = test_voices // 2
    known, new = "in training", "held-out"
    casts = {
        "train-clean-100": [
            (ENGLISH, "", train_voices - accents),
            (TRAIN_ACCENTS, known, accents),
        ],
        "dev-clean": [(ENGLISH, "", dev_voices)],
        "test-clean": [(ENGLISH, "", test_voices)],
        "test-noisy": [(ENGLISH, "", test_voices)],
        "test-accent": [
            (TRAIN_ACCENTS, known, test_voices - half),
            (HELD_OUT_ACCENTS, new, half),
        ],
    }
    chapters = dict.fromkeys(SPLITS, test_chapters)
    chapters["train-clean-100"] = train_chapters
    chapters["dev-clean"] = dev_chapters

    used, taken, plan = set(), set(), []
    for index, split in enumerate(SPLITS):
        # Generators per split: a larger training set leaves tests alone.
        rng = np.random.default_rng([seed, index, 0])
        training = split == "train-clean-100"
        variants = Deck(TRAIN_VARIANTS if training else HELD_OUT_VARIANTS, rng)
        grammar = Grammar(np.random.default_rng([seed, index, 1]), taken)
        speaker = 1000 * (index + 1)
        for languages, accent, count in casts[split]:
            room = len(languages) * len(variants.items)
            room -= sum(
                (x, y) in used for x in languages for y in variants.items
            )
            if count > room:
                raise ValueError(
                    f"{split} needs {count} voices of {' '.join(languages)}, "
                    f"but only {room} different ones are left."
                )
            deck = Deck(languages, rng)
            for _ in range(count):
                language, variant = _unused(deck, variants, used)
                used.add((language, variant))
                speaker += 1
                voice = Voice(
                    speaker=speaker,
                    split=split,
                    language=language,
                    variant=variant,
                    accent=accent,
                    rate=int(rng.integers(115, 181)),
                    pitch=int(rng.integers(30, 71)),
                    pitch_range=int(rng.integers(30, 81)),
                    channel=draw_channel(rng),
                    chapters=[
                        grammar.chapter(100 * speaker + i, utterances)
                        for i in range(chapters[split])
                    ],
                )
                plan.append(voice)
        if training:
            taken = grammar.made
    _draw_conditions(plan, np.random.default_rng([seed, len(SPLITS), 0]))
    extra = [
        _plan_extra(split, plan, seed)
        for split in _check_extra_splits(extra_splits)
    ]
    return sum(extra, plan)


def _check_extra_splits(names):
    """The extra splits asked for, once each and in their own order."""
    allowed = [
        f"{part}-{kind}"
        for kind in (*GRAMMARS, *CONDITIONS)
        for part in ("train", "dev", "test")
    ]
    unknown = set(names.split()) - set(allowed)
    if unknown:
        raise ValueError(
            f"extra_splits: there is no {' '.join(sorted(unknown))}; allowed: "
            f"{' '.join(allowed)}."
        )
    return [split for split in allowed if split in names.split()]


def _plan_extra(split, plan, seed):
    """The voices of an extra split: those of a split of `plan`, numbered
    anew. Depends on nothing that other extra splits do."""
    part, kind = split.split("-")
    index = 1 + (*GRAMMARS, *CONDITIONS).index(kind)
    bases = {"train": "train-clean-100", "dev": "dev-clean"}
    base = bases.get(part, "test-clean")
    voices = [
        replace(
            voice,
            speaker=10000 * index + voice.speaker,
            split=split,
            chapters=[
                replace(c, number=1000000 * index + c.number)
                for c in voice.chapters
            ],
        )
        for voice in plan
        if voice.split == base
    ]
    number = list(bases).index(part) if part in bases else len(bases)
    if kind in GRAMMARS:
        voices, taken = voices[:GRAMMAR_VOICES], set()
        if part != "train":
            for voice in _plan_extra(f"train-{kind}", plan, seed):
                taken.update(s for c in voice.chapters for s in c.sentences)
        rng = np.random.default_rng([seed, 100 + index, number])
        grammar = Grammar(rng, taken, read_grammar(kind))
        for voice in voices:
            voice.chapters = [
                grammar.chapter(chapter.number, len(chapter.sentences))
                for chapter in voice.chapters
            ]
        return voices
    sounds = draw(
        CONDITIONS[kind],
        [len(voice.chapters) for voice in voices],
        [seed, 100 + index, number],
    )
    for voice, drawn in zip(voices, sounds):
        for chapter, sound in zip(voice.chapters, drawn):
            chapter.sound = sound
    if kind == "words":
        _say_words(voices, np.random.default_rng([seed, 100 + index, number]))
    rng = np.random.default_rng([seed, 100 + index, number, 1])
    chapters = [chapter for voice in voices for chapter in voice.chapters]
    for chapter in {"babble": chapters, "hard": chapters[1::2]}.get(kind, []):
        chapter.condition = {
            "rt60": float(rng.uniform(0.15, 0.5)),
            "noise": "babble",
            "snr": float(rng.uniform(0, 15)),
        }
    return voices


def _say_words(voices, rng):
    """Puts single words in place of sentences, all equally often."""
    alike = Deck([word for words in THING_FAMILIES for word in words], rng)
    others = [*NAMES, *PLACES, *" ".join(TOPICS.values()).split()]
    others = Deck(dict.fromkeys(others), rng)
    for voice in voices:
        for chapter in voice.chapters:
            words = alike.deal_different(WORDS - WORDS // 3)
            words += others.deal_different(WORDS // 3)
            chapter.sentences = [words[i] for i in rng.permutation(WORDS)]
            chapter.rare_words = []


def _unused(languages, variants, used):
    """A language and a variant that are not a voice yet."""
    for _ in range(10 * len(languages.items)):
        language = languages.deal()
        for _ in range(2 * len(variants.items)):
            variant = variants.deal()
            if (language, variant) not in used:
                return language, variant
    raise ValueError("no voice left.")


def _draw_conditions(plan, rng):
    """Gives each chapter of test-noisy, and every fourth in training, its
    room and its noise."""
    noises = Deck([0.0, 1.0, 2.0, "babble", "babble"], rng)
    training = [
        c for v in plan if v.split == "train-clean-100" for c in v.chapters
    ]
    testing = [c for v in plan if v.split == "test-noisy" for c in v.chapters]
    for chapters, quietest in ((testing, 15), (training[3::4], 20)):
        for chapter in chapters:
            chapter.condition = {
                "rt60": float(rng.uniform(0.15, 0.5)),
                "noise": noises.deal(),
                "snr": float(rng.uniform(5, quietest)),
            }
