"""Makes MiniSpeech: a small corpus of English sessions, spoken by espeak-ng.

No download and no licence to sign: in well under a minute there are hours
of speech, laid out as LibriSpeech is, for demonstrations, for tests, and for
experiments about adapting to a session. A chapter is a session: one voice,
one channel, one topic, and a handful of rare words (names, a place, unusual
things) that come back again and again, so that a memory of earlier
sentences helps. Some slots of the grammar hold words that only the sound tells
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
shift, babble,     (``conditions.py``); the same sentences as in
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
>>> prepare_mini_speech("data/MiniSpeech")  # doctest: +SKIP
True

Authors
 * speechbrain_lact contributors 2026
"""

from speechbrain_lact.corpora.mini_speech.build import prepare_mini_speech

__all__ = ["prepare_mini_speech"]
