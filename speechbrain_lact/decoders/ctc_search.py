"""Beam search over CTC with an n-gram language model of words and hot words:
SpeechBrain's, with checks of what it is given.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import importlib.util
import math

from speechbrain.decoders.ctc import CTCBeamSearcher
from speechbrain_lact.decoders.hotwords import HotWords, read_hotwords
from speechbrain_lact.decoders.ngram import SPACE, read_words

INSTALL = 'pip install "speechbrain_lact[lm]"'
# Of the words of a language model, those that the tokens must spell.
SPELLED = 0.5


class HotWordSearcher(CTCBeamSearcher):
    """SpeechBrain's beam search, in which hot words are preferred.

    Arguments
    ---------
    *args, **kwargs
        As CTCBeamSearcher.
    hotwords : dict, optional
        Weight of each word or phrase. One that the language model does not
        know is not punished for that.
    """

    def __init__(self, *args, hotwords=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.hotwords = None
        if hotwords:
            known = self.unigrams if self.lm is not None else None
            self.hotwords = HotWords(
                {
                    phrase: weight + self._punished(phrase, known)
                    for phrase, weight in hotwords.items()
                }
            )

    def _punished(self, phrase, known):
        """What the scorer takes off for words that it does not know."""
        if known is None:
            return 0.0
        unknown = sum(word not in known for word in phrase.split())
        return -unknown * self.alpha * self.unk_score_offset * math.log(10)

    def get_lm_beams(self, beams, cached_lm_scores, cached_parts, is_eos=False):
        """As CTCBeamSearcher, with hot words.

        Arguments
        ---------
        beams, cached_lm_scores, cached_parts, is_eos
            As CTCBeamSearcher.

        Returns
        -------
        list of LMCTCBeam
        """
        if self.hotwords and self.lm is not None:
            for beam in beams:
                part = beam.partial_word
                if part and part not in cached_parts and part in self.hotwords:
                    # Not unknown, whatever the language model says.
                    cached_parts[part] = 0.0
        beams = super().get_lm_beams(
            beams, cached_lm_scores, cached_parts, is_eos
        )
        if self.hotwords:
            for beam in beams:
                # At the end, nothing is begun.
                ends = beam.last_token is None
                part = None if ends else beam.partial_word
                beam.lm_score += self.hotwords.score(beam.text, part)
        return beams

    def words(self, log_probs):
        """The most likely words.

        Arguments
        ---------
        log_probs : torch.Tensor
            Of one row, without padding [T, tokens].

        Returns
        -------
        list of tuple
            Word, its first frame, and the frame after its last.
        """
        log_probs = log_probs[:, : len(self.vocab_list)].float().cpu().numpy()
        (best,) = self.decode_log_probs(log_probs, len(log_probs))[:1]
        return [(word, *span) for word, span in best.text_frames]


def make_search(
    tokenizer,
    blank,
    lm=None,
    hotwords=None,
    lm_weight=0.5,
    hotword_weight=10.0,
    **options,
):
    """A beam search over the tokens of a CTC model.

    Arguments
    ---------
    tokenizer : sentencepiece.SentencePieceProcessor
        Of the model.
    blank : int
        The token for nothing.
    lm : str or Path, optional
        ARPA file of words, in the letters that the model writes.
    hotwords : str or Path or list of str, optional
        A file with a word or phrase on each line, or the words.
    lm_weight : float
        Of the language model's log-probability, beside that of CTC.
    hotword_weight : float
        Natural logarithm of how much more likely a hot word is.
    **options
        Of SpeechBrain's CTCBeamSearcher, such as `beam_size` and `beta`, what
        each word adds beside a language model.

    Returns
    -------
    HotWordSearcher

    Raises
    ------
    ImportError
        If there is a language model and KenLM is not installed.
    ValueError
        If a file cannot be read or does not fit the model.
    """
    pieces = [tokenizer.id_to_piece(i) for i in range(tokenizer.vocab_size())]
    for i in range(len(pieces)):
        if tokenizer.is_control(i) or tokenizer.is_unknown(i):
            pieces[i] = ""
    options["vocab_list"] = pieces
    if not any(len(p) > 1 and p.startswith(SPACE) for p in pieces):
        # Of characters: a word begins after the space, not with it.
        options["vocab_list"] = [p.replace(SPACE, " ") for p in pieces]
    unigrams = None
    spells = functools.partial(_spells, tokenizer)
    if lm is not None:
        lm, unigrams = str(lm), _fitting_words(lm, spells)
    weights = None
    if hotwords is not None:
        weights = dict.fromkeys(_fitting(hotwords, spells), hotword_weight)
    try:
        return HotWordSearcher(
            blank,
            kenlm_model_path=lm,
            unigrams=unigrams,
            alpha=lm_weight,
            hotwords=weights,
            **options,
        )
    except OSError as error:
        why = str(error).partition("Exception. ")[2] or str(error)
        why = why.partition(" Byte")[0].rstrip(".")
        raise ValueError(
            f"{lm}: KenLM cannot read it: {why}: make it again, for example "
            "by `speechbrain-lact language-model`"
        ) from error


def _spells(tokenizer, text):
    """Whether a text can be made of the tokens."""
    return tokenizer.unk_id() not in tokenizer.encode_as_ids(text)


def _fitting_words(lm, spells):
    """Words of a language model, in the letters of the recogniser."""
    words = read_words(lm)
    for package in ("kenlm", "pygtrie"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"{lm}: a language model needs the package {package}: {INSTALL}"
            )
    if sum(map(spells, words)) < SPELLED * len(words):
        odd = min(word for word in words if not spells(word))
        other = odd.upper() if spells(odd.upper()) else odd.lower()
        hint = "make one of text in the letters that it writes"
        if spells(other):
            hint += f", here {other!r}"
        raise ValueError(
            f"{lm}: a language model of other units than this recogniser's "
            f"words: it cannot write {odd!r}: {hint}"
        )
    return words


def _fitting(hotwords, spells):
    """Hot words, in the letters of the recogniser."""
    where, found = "hot words", []
    if not isinstance(hotwords, (list, tuple)):
        where, hotwords = hotwords, read_hotwords(hotwords)
    for phrase in hotwords:
        forms = [phrase, phrase.upper(), phrase.lower()]
        fitting = next(filter(spells, forms), None)
        if fitting is None:
            odd = [c for c in phrase if not spells(c) and not spells(c.upper())]
            raise ValueError(
                f"{where}: this recogniser cannot write {phrase!r} "
                f"({' '.join(dict.fromkeys(odd))}): spell it in its letters, "
                "or leave it out"
            )
        found.append(fitting)
    return found
