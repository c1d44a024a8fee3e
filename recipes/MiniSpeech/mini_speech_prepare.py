"""Makes MiniSpeech: a small corpus of English sessions, spoken by espeak-ng.

No download and no licence to sign: in well under a minute there are hours
of speech, laid out as LibriSpeech is, for demonstrations, for tests, and for
experiments about adapting to a session. A chapter is a session: one voice,
one channel, one topic, and a handful of rare words (names, a place, unusual
things) that come back again and again, so that what was heard earlier is worth
remembering. Some slots of the grammar hold words that only the sound tells
apart (ship and sheep, fifteen and fifty).

=================  =========================================================
train-clean-100    voices of five English accents; a fifth of the voices
                   are of other languages, reading English with an accent;
                   every fourth chapter has a room and a noise
dev-clean          unseen voices (no variant of espeak-ng in training)
test-clean         unseen voices
test-noisy         unseen voices; each chapter has one room and one noise or
                   babble, with 5 to 15 dB of signal-to-noise ratio
test-accent        unseen voices of other languages: half of accents that are
                   in training, half of accents that are not
=================  =========================================================

Asked for by name (``--extra_splits "train-channel test-channel"``), there are
more, which leave these as they are: ``train-``, ``dev-`` and ``test-`` of

=================  =========================================================
medical,           two other grammars (``grammars.yaml``), for transfer to
conversation       another domain; no more than 24 voices in training
channel, tract,    conditions in which a memory of the session must pay
shift, babble,     (``mini_speech_conditions.py``); the same sentences as in
hard               the splits above, so the two can be compared in pairs
words              24 single words a session, two thirds of them told apart
                   by their sound alone, in all these conditions but babble
=================  =========================================================

Their voices are those of ``train-clean-100``, ``dev-clean`` and
``test-clean``, under other numbers: do not tell voices apart in both.

espeak-ng (GPL-3) comes with ``pip install espeakng-loader``; it is needed to
make the corpus, not to use it.

Example
-------
``python recipes/MiniSpeech/mini_speech_prepare.py DATA_FOLDER``

Authors
 * speechbrain_lact contributors 2026
"""

import argparse
import contextlib
import ctypes
import functools
import logging
import multiprocessing
import multiprocessing.connection
import sys
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from tqdm import tqdm

from speechbrain_lact.dataio.librispeech_layout import (
    SAMPLE_RATE,
    build_folder,
    read_chapter,
    source_hash,
    write_chapter,
    write_speakers,
)

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
import mini_speech_conditions  # noqa: E402
from mini_speech_conditions import (  # noqa: E402
    CONDITIONS,
    draw,
    equalise,
    shift_vowels,
)

logger = logging.getLogger(__name__)

SPLITS = (
    "train-clean-100",
    "dev-clean",
    "test-clean",
    "test-noisy",
    "test-accent",
)

# --- The grammar ---------------------------------------------------------

# Words of a family fit the same slots: only their sound tells them apart.
THING_FAMILIES = (
    ("ship", "sheep"),
    ("pen", "pan", "pin"),
    ("cap", "cup"),
    ("bag", "bug"),
    ("cat", "cot"),
    ("hat", "hut"),
    ("net", "nut"),
    ("map", "mop"),
    ("pot", "pit"),
    ("stick", "stack"),
    ("rock", "rack"),
    ("lamp", "lump"),
    ("chick", "cheek"),
    ("pig", "peg"),
    ("desk", "disk"),
    ("fan", "van"),
    ("log", "leg"),
    ("sock", "sack"),
    ("tub", "tap"),
)
ADJECTIVES = (
    "red big hot wet black thin flat soft green long sweet damp fresh strong"
).split()
VERBS = "hid hit cut sent kept held got left lost lent bent met".split()
ANIMAL_ADJECTIVES = "big black thin".split()
ANIMALS = "dog fox hen".split()
ANIMAL_VERBS = "bit hit fed".split()
NUMBERS = "six seven ten eleven sixteen sixty fifteen fifty".split()
UNITS = "bricks cups pens tins".split()
TIMES = "seconds weeks".split()
DAYS = "monday sunday friday".split()
DAYTIMES = "morning evening".split()
ADVERBS = "today soon".split()
PREPOSITIONS = "under on behind near".split()
RELATIVES = "sister brother mother".split()
PEOPLE = "doctor farmer vet cook".split()
SCENE_ADJECTIVES = "hot wet green damp".split()

NAMES = (
    "tom tim ben dan sam jack fred nick kim meg linda emma martin robin oscar "
    "victor sandra nelson"
).split()
PLACES = "london boston madrid berlin milan dublin lisbon denver".split()
# The scene of a topic, and the unusual things that belong to it.
TOPICS = {
    "kitchen": "napkin blender muffin kettle",
    "garden": "tulip cactus hedgehog insect",
    "harbor": "lobster mast tanker dolphin",
    "market": "basket velvet lemon melon",
    "castle": "dragon goblin helmet bishop",
    "forest": "rabbit badger hunter timber",
    "studio": "trumpet banjo drumstick cornet",
    "camp": "lantern rucksack hammock blanket",
}

# Slots: name, place, rare and scene are the session's own few words; all the
# others are dealt from the lists above. thing and other are of one family,
# thing and spot of two.
TEMPLATES = (
    "{name} {verb} the {thing} near the {rare}",
    "the {rare} was {preposition} the {adjective} {thing}",
    "{name} sent the {adjective} {rare} to {name2} on {day}",
    "we went to {place} with {name} in the {daytime}",
    "did {name} see the {adjective} {rare} in the {scene}",
    "the {adjective} {rare} is from {place}",
    "{name} kept the {rare} and the {thing} {adverb}",
    "on {day} {name} {verb} the {adjective} {rare}",
    "it is a {adjective} {thing} from the {scene}",
    "{name} got {number} {unit} in {place}",
    "put the {thing} {preposition} the {rare}",
    "{name} and {name2} {verb} the {adjective} {thing}",
    "{place} is {number} {time} from the {scene}",
    "the man from {place} {verb} a {adjective} {thing}",
    "my {relative} {verb} the {adjective} {thing} {adverb}",
    "the {rare} has been in {place} for {number} {time}",
    "when did {name} get the {adjective} {rare}",
    "she {verb} the {thing} and it was {adjective}",
    "the {animal_adjective} {animal} {animal_verb} the {adjective} {thing}",
    "{name} can get the {adjective} {thing} not the {other}",
    "is it the {adjective} {thing} or the {other}",
    "in the {daytime} {name} {verb} the {rare} from {place}",
    "they will bring the {rare} to {place} on {day}",
    "i think the {thing} is {preposition} the {rare}",
    "tell the {person} that the {rare} is {adjective}",
    "can you see the {thing} {preposition} the {spot}",
    "he sent {number} {unit} for the {rare} {adverb}",
    "the {person} from {place} {verb} the {rare}",
    "{name} {verb} {number} {unit} near the {rare}",
    "the {animal} from {place} {animal_verb} the {adjective} {thing}",
    "we slept in {place} for {number} {time}",
    "{name} and my {relative} {verb} the {adjective} {rare}",
    "the {relative} of {name} {verb} the {thing} {adverb}",
    "{name} {verb} the {thing} in the {daytime}",
    "we met {name} at the {scene} on {day}",
    "the {adjective} {rare} is still in the {scene}",
    "{name} and {name2} went to the {scene} {adverb}",
    "the {scene} in {place} was {scene_adjective} in the {daytime}",
)

SLOT_WORDS = {
    "adjective": ADJECTIVES,
    "verb": VERBS,
    "animal_adjective": ANIMAL_ADJECTIVES,
    "animal": ANIMALS,
    "animal_verb": ANIMAL_VERBS,
    "number": NUMBERS,
    "unit": UNITS,
    "time": TIMES,
    "day": DAYS,
    "daytime": DAYTIMES,
    "adverb": ADVERBS,
    "preposition": PREPOSITIONS,
    "person": PEOPLE,
    "relative": RELATIVES,
    "scene_adjective": SCENE_ADJECTIVES,
    "thing": [word for family in THING_FAMILIES for word in family],
}


GRAMMARS_FILE = HERE / "grammars.yaml"
GRAMMARS = ("medical", "conversation")
GRAMMAR_VOICES = 24
WORDS = 24  # of a session of single words


@dataclass(frozen=True)
class GrammarTexts:
    """What a grammar says.

    Arguments
    ---------
    templates : list of str
        Sentences with slots. {name}, {name2} (only where {name} is), {place},
        {rare} and {scene} are the session's own few words; {thing} and
        {other} are of one family, {thing} and {spot} of two.
    slots : dict of str to list of str
        The words of all other slots, and of "thing".
    families : list of list of str
        Words that only their sound tells apart.
    names : list of str
        Words for {name}.
    places : list of str
        Words for {place}.
    topics : dict of str to str
        For each {scene}, the words for {rare}.
    questions : list of str
        Sentences that begin so end in a question mark.
    """

    templates: list
    slots: dict
    families: list
    names: list
    places: list
    topics: dict
    questions: list


DEFAULT_TEXTS = GrammarTexts(
    TEMPLATES,
    SLOT_WORDS,
    THING_FAMILIES,
    NAMES,
    PLACES,
    TOPICS,
    ["did", "where", "is", "can"],
)


def read_grammar(name):
    """Reads one of the other grammars.

    Arguments
    ---------
    name : str
        One of `GRAMMARS`.

    Returns
    -------
    GrammarTexts
        What it says.

    Example
    -------
    >>> "the" in vocabulary(read_grammar("medical"))
    True
    """
    texts = yaml.safe_load(GRAMMARS_FILE.read_text())[name]
    slots = {key: words.split() for key, words in texts["slots"].items()}
    slots["thing"] = [w for family in texts["families"] for w in family]
    return GrammarTexts(
        texts["templates"],
        slots,
        texts["families"],
        texts["names"].split(),
        texts["places"].split(),
        texts["topics"],
        texts["questions"].split(),
    )


# --- The voices ----------------------------------------------------------

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
# No variant of these is heard in training, in any language.
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


@dataclass
class Chapter:
    """One session of a voice.

    Arguments
    ---------
    number : int
        The chapter's number, unique in the corpus.
    scene : str
        The topic, a key of `TOPICS`.
    rare_words : list of str
        The session's own words.
    sentences : list of str
        What is said, in lower case.
    condition : dict
        Empty, or the session's room and noise: `rt60` (s), `noise` (the
        exponent of a coloured noise's spectrum, or "babble"), `snr` (dB).
    sound : dict
        What `mini_speech_conditions.draw` draws, in the extra splits.
    questions : list of str
        Sentences that begin so are asked.
    """

    number: int
    scene: str
    rare_words: list
    sentences: list
    condition: dict
    sound: dict = field(default_factory=dict)
    questions: list = field(default_factory=list)


class Deck:
    """Deals items at random, each as often as the others.

    Arguments
    ---------
    items : list
        What is dealt.
    rng : numpy.random.Generator
        Where the order comes from.

    Example
    -------
    >>> deck = Deck("abc", np.random.default_rng(0))
    >>> sorted(deck.deal() for _ in range(6))
    ['a', 'a', 'b', 'b', 'c', 'c']
    """

    def __init__(self, items, rng):
        self.items = list(items)
        self.rng = rng
        self.left = []

    def deal(self):
        """Returns the next item."""
        if not self.left:
            self.left = [
                self.items[i] for i in self.rng.permutation(len(self.items))
            ]
        return self.left.pop()

    def deal_different(self, count):
        """Returns the next items, no two of them equal."""
        dealt = []
        while len(dealt) < count:
            item = self.deal()
            if item in dealt:
                # Met only where one round ends and the next begins.
                self.left.insert(0, item)
            else:
                dealt.append(item)
        return dealt


def vocabulary(texts=DEFAULT_TEXTS):
    """Every word that a grammar can say.

    Arguments
    ---------
    texts : GrammarTexts
        The grammar.

    Returns
    -------
    set of str
        The words, in lower case.

    Example
    -------
    >>> {"ship", "sheep", "trumpet", "the"} <= vocabulary()
    True
    """
    words = {*texts.names, *texts.places, *texts.topics}
    for things in (*texts.slots.values(), *texts.families):
        words.update(things)
    for things in texts.topics.values():
        words.update(things.split())
    for template in texts.templates:
        words.update(w for w in template.split() if not w.startswith("{"))
    return words


class Grammar:
    """Writes the sessions of one split.

    Arguments
    ---------
    rng : numpy.random.Generator
        Where the choices come from.
    taken : set of str
        Sentences that may not be said; those made are added to `made`.
    texts : GrammarTexts
        What can be said.
    """

    def __init__(self, rng, taken=(), texts=DEFAULT_TEXTS):
        self.rng = rng
        self.taken = taken
        self.texts = texts
        self.made = set()
        self.decks = {
            key: Deck(words, rng) for key, words in texts.slots.items()
        }
        self.names, self.places = (
            Deck(texts.names, rng),
            Deck(texts.places, rng),
        )
        self.scenes = Deck(texts.topics, rng)
        self.rares = {s: Deck(w.split(), rng) for s, w in texts.topics.items()}

    def chapter(self, number, utterances):
        """Writes one session.

        Arguments
        ---------
        number : int
            The chapter's number.
        utterances : int
            How many sentences.

        Returns
        -------
        Chapter
            The session, without a condition.
        """
        scene = self.scenes.deal()
        names = self.names.deal_different(2)
        place = self.places.deal()
        rares = self.rares[scene].deal_different(3)
        own = {"name": Deck(names, self.rng), "rare": Deck(rares, self.rng)}
        sentences = []
        for template in self._templates(utterances):
            words = {"place": place, "scene": scene}
            words.update(self._deal(own, template))
            if "name" in words:
                words["name2"] = names[1 - names.index(words["name"])]
            sentences.append(self._new_sentence(template, words))
        self.made.update(sentences)
        rare_words = [*names, place, *rares, scene]
        questions = self.texts.questions
        return Chapter(
            number, scene, rare_words, sentences, {}, questions=questions
        )

    def _new_sentence(self, template, words):
        """Fills a template, or one with the same words of the session, so
        that nobody in training says the same."""

        def own(text):
            keys = ("name", "name2", "place", "rare", "scene")
            return [key for key in keys if "{" + key + "}" in text]

        same = [t for t in self.texts.templates if own(t) == own(template)]
        while True:
            for _ in range(20):
                sentence = self._fill(template, words)
                if sentence not in self.taken:
                    return sentence
            template = self.rng.choice(same)

    def _templates(self, count):
        """Templates of a session: its own words must come back."""
        while True:
            chosen = []
            while len(chosen) < count:
                chosen += list(self.rng.permutation(self.texts.templates))
            chosen = chosen[:count]
            text = " ".join(chosen)
            often = (
                text.count("{rare}") >= 6
                and text.count("{name}") >= 4
                and text.count("{place}") >= 2
                and text.count("{scene}") >= 2
            )
            if often or count < 12:
                return chosen

    @staticmethod
    def _deal(decks, template):
        """Deals what is said, and no more: so all is said equally often."""
        return {
            key: deck.deal()
            for key, deck in decks.items()
            if "{" + key + "}" in template
        }

    def _fill(self, template, session_words):
        """Fills the slots of a template."""
        words = {**session_words, **self._deal(self.decks, template)}
        if "thing" in words:
            families = self.texts.families
            (family,) = [f for f in families if words["thing"] in f]
            words["other"] = self.rng.choice(
                [word for word in family if word != words["thing"]]
            )
            words["spot"] = self.rng.choice(
                [w for w in self.texts.slots["thing"] if w not in family]
            )
        return template.format(**words)


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
                    channel=_draw_channel(rng),
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


def _draw_channel(rng):
    """A microphone: mild equaliser, level, noise floor."""
    return {
        "level": float(rng.uniform(-30, -21)),
        "floor": float(rng.uniform(-76, -64)),
        "low_cut": float(rng.uniform(50, 160)),
        "peak": [
            float(np.exp(rng.uniform(5.7, 8.2))),
            float(rng.uniform(-5, 5)),
        ],
        "shelf": [float(rng.uniform(2000, 4500)), float(rng.uniform(-6, 4))],
    }


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


# --- The sound -----------------------------------------------------------


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


# What a process sends when it has nothing more to say.
ALL_SAID = -1


def _spoken(sentence, language, questions=DEFAULT_TEXTS.questions):
    """What the synthesizer is given: punctuation, and spelling if needed."""
    respelled = RESPELLED.get(language, {})
    text = " ".join(respelled.get(w, w) for w in sentence.split())
    first = sentence.split()[0]
    return text + ("?" if first in questions else ".")


def _equaliser(channel):
    """Second-order sections of a voice's channel (R. Bristow-Johnson's
    "Cookbook formulae for audio equalizer biquad filter coefficients")."""
    sections = []

    def angles(frequency, quality):
        w = 2 * np.pi * frequency / SAMPLE_RATE
        return np.cos(w), np.sin(w) / (2 * quality)

    cos, alpha = angles(channel["low_cut"], 0.7071)
    b = [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2]
    sections.append([*b, 1 + alpha, -2 * cos, 1 - alpha])

    frequency, gain = channel["peak"]
    cos, alpha = angles(frequency, 0.8)
    a = 10 ** (gain / 40)
    b = [1 + alpha * a, -2 * cos, 1 - alpha * a]
    sections.append([*b, 1 + alpha / a, -2 * cos, 1 - alpha / a])

    frequency, gain = channel["shelf"]
    cos, alpha = angles(frequency, 0.7071)
    a = 10 ** (gain / 40)
    s = 2 * np.sqrt(a) * alpha
    b = [
        a * (a + 1 + (a - 1) * cos + s),
        -2 * a * (a - 1 + (a + 1) * cos),
        a * (a + 1 + (a - 1) * cos - s),
    ]
    sections.append(
        [
            *b,
            a + 1 - (a - 1) * cos + s,
            2 * (a - 1 - (a + 1) * cos),
            a + 1 - (a - 1) * cos - s,
        ]
    )
    sections = np.array(sections)
    return sections / sections[:, 3:4]


@functools.lru_cache
def _resampling_filter(up, down):
    """The low-pass that `resample_poly` would design at every call."""
    from scipy.signal import firwin

    rate = max(up, down)
    taps = firwin(20 * rate + 1, 1 / rate, window=("kaiser", 5.0))
    return taps.astype(np.float32)


def _record(wav, sample_rate, channel, sections, rng, sound):
    """Puts a voice through its channel: 16 kHz, level, pauses, noise floor."""
    # Here, not above: it takes a second, and only the workers need it.
    from scipy.signal import resample_poly, sosfilt

    # Played faster, a voice comes from a shorter vocal tract.
    sample_rate = round(sample_rate * sound.get("tract", 1))
    factor = np.gcd(SAMPLE_RATE, sample_rate)
    ratio = int(SAMPLE_RATE // factor), int(sample_rate // factor)
    wav = resample_poly(wav, *ratio, window=_resampling_filter(*ratio))
    wav = sosfilt(sections, wav)
    if "equaliser" in sound:
        wav = equalise(wav, sound["equaliser"])
    level = np.abs(wav)
    heard = np.flatnonzero(level > 0.02 * level.max())
    wav = wav[max(0, heard[0] - 160) : heard[-1] + 480]
    wav *= 10 ** (channel["level"] / 20) / np.sqrt(np.mean(wav**2))
    wav *= min(1.0, 0.9 / np.abs(wav).max())
    pauses = rng.integers(SAMPLE_RATE // 10, SAMPLE_RATE // 5, 2)
    wav = np.pad(wav, pauses)
    return wav + 10 ** (channel["floor"] / 20) * rng.standard_normal(len(wav))


def _say_chapters(voices, folder, seed):
    """Says all that some voices say; yields each chapter when it is written:
    its number, its length in seconds."""
    synthesizer = Synthesizer()
    for voice in voices:
        rng = np.random.default_rng([seed, voice.speaker])
        synthesizer.set_voice(voice)
        sections = _equaliser(voice.channel)
        for chapter in voice.chapters:
            sound = chapter.sound
            if "rate" in sound:
                synthesizer.set_voice(voice, sound["rate"] / sound["tract"])
            utterances = []
            for sentence in chapter.sentences:
                text = _spoken(sentence, voice.language, chapter.questions)
                if "shift" in sound and voice.language in ENGLISH:
                    said = synthesizer.phonemes(text[:-1])
                    said = shift_vowels(said, sound["shift"])
                    text = f"[[{said}]]{text[-1]}"
                wav = _record(
                    synthesizer.say(text),
                    synthesizer.sample_rate,
                    voice.channel,
                    sections,
                    rng,
                    sound,
                )
                utterances.append((sentence, wav))
            seconds = write_chapter(
                folder / voice.split,
                voice.speaker,
                chapter.number,
                utterances,
            )
            yield chapter.number, seconds


def _work(plan, talkers, index, folder, seed, connection):
    """One of the two processes: every other voice, then every other noise.

    Sends each chapter as it is written, ALL_SAID between the two and waits
    until the other has said all as well (a babble may be of its voices), or
    sends the text of an error. Ends when nobody listens any more.
    """
    try:
        for chapter in _say_chapters(plan[index::2], folder, seed):
            connection.send(chapter)
        connection.send((ALL_SAID, None))
        connection.recv()
        for chapter in _degrade_chapters(plan, talkers, index, folder, seed):
            connection.send(chapter)
    except (ConnectionError, EOFError):
        pass
    except Exception:
        with contextlib.suppress(ConnectionError):
            connection.send((None, traceback.format_exc()))
    finally:
        connection.close()


def _make_chapters(plan, folder, seed):
    """Writes all chapters; returns their lengths (s)."""
    talkers = [
        folder / v.split / str(v.speaker) / str(c.number)
        for v in plan
        for c in v.chapters
        if v.split == "train-clean-100" and not c.condition
    ]
    # Each extra split in processes of its own: whatever else is made, and
    # whether it is made, the samples are the same.
    groups = {}
    for voice in plan:
        (folder / voice.split).mkdir(exist_ok=True)
        group = "MiniSpeech" if voice.split in SPLITS else voice.split
        groups.setdefault(group, []).append(voice)
    seconds = {}
    for group, voices in groups.items():
        seconds.update(_make_group(group, voices, talkers, folder, seed))
    return seconds


def _make_group(title, plan, talkers, folder, seed):
    """Writes the chapters of some voices, in two processes."""
    # Always two, each with the same voices: what a process says depends on
    # what it has said before. "spawn", for a synthesizer that has said nothing.
    context = multiprocessing.get_context("spawn")
    workers = []
    for index in range(2):
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=_work,
            args=(plan, talkers, index, folder, seed, theirs),
            daemon=True,
        )
        worker.start()
        theirs.close()
        workers.append((worker, ours))
    try:
        connections = [connection for _, connection in workers]
        return _follow(title, connections, plan)
    finally:
        for worker, connection in workers:
            # One that is through ends when nobody listens; any other, now.
            connection.close()
            worker.terminate()
            worker.join()


def _follow(title, connections, plan):
    """Shows the progress of the processes; returns the chapters' lengths."""
    chapters = [chapter for voice in plan for chapter in voice.chapters]
    total = len(chapters) + sum(bool(c.condition) for c in chapters)
    seconds, all_said, listening = {}, 0, list(connections)
    with tqdm(total=total, desc=title, unit="chapter") as progress:
        while progress.n < total:
            for connection in multiprocessing.connection.wait(listening):
                try:
                    number, result = connection.recv()
                except (EOFError, ConnectionError):
                    listening.remove(connection)
                    if listening and all_said == len(connections):
                        continue
                    raise RuntimeError(
                        f"espeak-ng ended after {progress.n} of {total} "
                        "chapters."
                    )
                if number is None:
                    raise RuntimeError(f"A voice failed:\n{result}")
                if number == ALL_SAID:
                    all_said += 1
                    if all_said == len(connections):
                        for other in connections:
                            with contextlib.suppress(ConnectionError):
                                other.send(None)
                    continue
                seconds[number] = result
                progress.update()
    return seconds


# --- Rooms and noises ----------------------------------------------------


def make_room(rt60, rng):
    """The impulse response of a room: a direct sound and a decaying noise.

    Arguments
    ---------
    rt60 : float
        Reverberation time (s): when the response is 60 dB down.
    rng : numpy.random.Generator
        Where the reflections come from.

    Returns
    -------
    numpy.ndarray
        The impulse response at 16 kHz; the direct sound is its first sample
        and its largest. Direct and reverberant energy are equal.

    Example
    -------
    >>> rir = make_room(0.3, np.random.default_rng(0))
    >>> rir.shape, int(np.abs(rir).argmax())
    ((4800,), 0)
    """
    time = np.arange(int(rt60 * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail[: SAMPLE_RATE // 400] = 0.0  # the first wall is a metre away
    tail *= 1 / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def make_noise(exponent, seconds, rng):
    """Noise whose power falls with frequency.

    Arguments
    ---------
    exponent : float
        Power goes with 1 / frequency ** exponent: 0 white, 1 pink, 2 brown.
    seconds : float
        The length.
    rng : numpy.random.Generator
        Where the noise comes from.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz, with a peak of 0.9.

    Example
    -------
    >>> make_noise(1.0, 0.5, np.random.default_rng(0)).shape
    (8000,)
    """
    samples = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 50.0) ** (-exponent / 2)
    noise = np.fft.irfft(spectrum, samples)
    return 0.9 * noise / np.abs(noise).max()


def make_babble(chapters, seconds, rng, talkers=5):
    """Several people talking at once.

    Arguments
    ---------
    chapters : list of Path
        Folders of chapters to take the talkers from.
    seconds : float
        The length.
    rng : numpy.random.Generator
        Chooses the talkers.
    talkers : int
        How many.

    Returns
    -------
    numpy.ndarray
        Samples at 16 kHz, with a peak of 0.9.
    """
    samples = int(seconds * SAMPLE_RATE)
    babble = np.zeros(samples)
    count = min(talkers, len(chapters))
    for index in rng.choice(len(chapters), count, replace=False):
        talk = np.concatenate([w for _, _, w in read_chapter(chapters[index])])
        talk = np.roll(talk, rng.integers(len(talk)))
        babble += np.resize(talk / np.sqrt(np.mean(talk**2)), samples)
    return 0.9 * babble / np.abs(babble).max()


def _degrade_chapters(plan, talkers, index, folder, seed):
    """Puts every other chapter with a condition into its room and its noise;
    yields its number and its length in seconds."""
    noisy = [(v, c) for v in plan for c in v.chapters if c.condition]
    if not noisy:
        return
    import torch

    torch.set_num_threads(1)  # short signals: threads would only wait
    for voice, chapter in noisy[index::2]:
        subset = folder / voice.split
        path = subset / str(voice.speaker) / str(chapter.number)
        utterances = _degrade(path, chapter, talkers, seed)
        seconds = write_chapter(
            subset, voice.speaker, chapter.number, utterances
        )
        yield chapter.number, seconds


def _degrade(path, chapter, talkers, seed):
    """The utterances of a chapter in its room and its noise."""
    import torch

    from speechbrain.augment.time_domain import AddNoise, AddReverb

    condition = chapter.condition
    rng = np.random.default_rng([seed, chapter.number])
    torch.manual_seed(seed + chapter.number)
    if condition["noise"] == "babble":
        noise = make_babble(talkers, 20.0, rng)
    else:
        noise = make_noise(condition["noise"], 20.0, rng)
    room = make_room(condition["rt60"], rng)
    # Both would read a list of files, anew for each utterance: they are given
    # what they read, and a first reading that is at its end.
    snr = condition["snr"]
    reverb = AddReverb("room")
    reverb.data_loader, reverb.rir_data = _Signal(room), iter(())
    add_noise = AddNoise("noise", snr_low=snr, snr_high=snr)
    add_noise.data_loader, add_noise.noise_data = _Signal(noise), iter(())
    utterances = []
    for _, words, wav in read_chapter(path):
        level = np.sqrt(np.mean(wav**2))
        wav = reverb(torch.from_numpy(wav)[None])
        wav = add_noise(wav, torch.ones(1))[0].double().numpy()
        wav *= level / np.sqrt(np.mean(wav**2))
        wav *= min(1.0, 0.95 / np.abs(wav).max())
        utterances.append((words, wav))
    return utterances


class _Signal:
    """What SpeechBrain's data loader makes of a list of one file: an iterator
    over one batch of one signal."""

    def __init__(self, wav):
        import torch

        self.batch = torch.from_numpy(wav)[None].float(), torch.ones(1)

    def __iter__(self):
        import torch

        # As a data loader does: the noise's starts depend on it.
        torch.empty((), dtype=torch.int64).random_()
        yield self

    def at_position(self, index):
        """The signal and its relative length."""
        wav, length = self.batch
        return wav.clone(), length


# --- The corpus ----------------------------------------------------------


def _write_chapters(folder, plan, seconds):
    """Writes CHAPTERS.TXT: topic, rare words and condition of each session."""
    lines = [";ID    |READER|MINUTES| SUBSET           | TITLE\n"]
    for voice in plan:
        for chapter in voice.chapters:
            title = f"{chapter.scene}: {' '.join(chapter.rare_words)}"
            if chapter.condition:
                noise = chapter.condition["noise"]
                if noise != "babble":
                    noise = f"1/f^{noise:g}"
                title += (
                    f" (rt60={chapter.condition['rt60']:.2f} noise={noise} "
                    f"snr={chapter.condition['snr']:.1f})"
                )
            if chapter.sound:
                said = " ".join(f"{k}={v}" for k, v in chapter.sound.items())
                title += f" ({said})"
            lines.append(
                f"{chapter.number} | {voice.speaker} | "
                f"{seconds[chapter.number] / 60:5.2f} | {voice.split:<16} | "
                f"{title}\n"
            )
    (folder / "CHAPTERS.TXT").write_text("".join(lines))


def prepare_mini_speech(
    data_folder,
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
    """Makes the corpus, unless it is there with these settings.

    Arguments
    ---------
    data_folder : str
        Where to put it. Replaced if it is a MiniSpeech of other settings;
        a folder of anything else is refused.
    seed : int
        Everything follows from it: the same settings give the same bytes on
        the same machine.
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
        Sentences of each session.
    accent_share : float
        The share of training voices that are of other languages.
    extra_splits : str
        Names of extra splits, with spaces between them: see the head of this
        file. The splits above are the same with and without them.

    Returns
    -------
    bool
        True if it was made, False if it was there.

    Raises
    ------
    FileExistsError
        If the folder holds anything else.
    ImportError
        If espeakng-loader is not installed.
    ValueError
        If a size is not possible.

    Example
    -------
    >>> prepare_mini_speech("data/MiniSpeech")  # doctest: +SKIP
    True
    """
    settings = dict(
        seed=seed,
        train_voices=train_voices,
        dev_voices=dev_voices,
        test_voices=test_voices,
        train_chapters=train_chapters,
        dev_chapters=dev_chapters,
        test_chapters=test_chapters,
        utterances=utterances,
        accent_share=accent_share,
        extra_splits=extra_splits,
    )
    plan = make_plan(**settings)

    def build(folder):
        import_espeakng_loader()
        seconds = _make_chapters(plan, folder, seed)
        speakers = [
            (
                voice.speaker,
                voice.sex,
                voice.split,
                sum(seconds[c.number] for c in voice.chapters) / 60,
                voice.name,
            )
            for voice in plan
        ]
        title = "MiniSpeech: English sessions spoken by espeak-ng"
        write_speakers(folder, speakers, title)
        _write_chapters(folder, plan, seconds)

    files = [__file__]
    if extra_splits:
        files += [mini_speech_conditions.__file__, GRAMMARS_FILE]
    settings["code"] = source_hash(*files)
    built = build_folder(data_folder, "MiniSpeech", settings, build)
    logger.info("%s: %s", data_folder, "made" if built else "is there already")
    return built


def main():
    """Command line: one option for each argument of `make_plan`."""
    import inspect

    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data_folder", help="where to put the corpus")
    for key, parameter in inspect.signature(make_plan).parameters.items():
        default = parameter.default
        parser.add_argument(
            f"--{key}", type=type(default), default=default, help=" "
        )
    arguments = vars(parser.parse_args())
    built = prepare_mini_speech(**arguments)
    print(arguments["data_folder"], "made" if built else "is there already")


if __name__ == "__main__":
    main()
