"""Words and sentence templates of MiniSpeech's own grammar.

Authors
 * speechbrain_lact contributors 2026
"""

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
