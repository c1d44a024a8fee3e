"""Writes sessions: sentences of a topic in which a few rare words return.

Authors
 * speechbrain_lact contributors 2026
"""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from speechbrain_lact.corpora.mini_speech.deck import Deck
from speechbrain_lact.corpora.mini_speech.words import (
    NAMES,
    PLACES,
    SLOT_WORDS,
    TEMPLATES,
    THING_FAMILIES,
    TOPICS,
)

GRAMMARS_FILE = Path(__file__).with_name("grammars.yaml")
GRAMMARS = ("medical", "conversation")


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


@dataclass
class Chapter:
    """One session of a voice.

    Arguments
    ---------
    number : int
        The chapter's number, unique in the corpus.
    scene : str
        The topic, a key of the grammar's topics.
    rare_words : list of str
        The session's own words.
    sentences : list of str
        What is said, in lower case.
    condition : dict
        Empty, or the session's room and noise: `rt60` (s), `noise` (the
        exponent of a coloured noise's spectrum, or "babble"), `snr` (dB).
    sound : dict
        What `conditions.draw` draws, in the extra splits.
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
