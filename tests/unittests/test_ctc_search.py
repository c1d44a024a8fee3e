"""A language model and hot words beside CTC: a made-up ambiguous case, files
that cannot be used, and n-grams counted by hand.

Authors
* speechbrain_lact contributors 2026
"""

import importlib.util
import itertools
from types import SimpleNamespace

import pytest
import sentencepiece
import torch

from speechbrain_lact.decoders.ctc_search import make_search
from speechbrain_lact.decoders.hotwords import HotWords, read_hotwords
from speechbrain_lact.decoders.ngram import make_arpa, read_words
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX
from speechbrain_lact.training.beam_search import make_searcher

BLANK = 0
SENTENCES = ["THE SEA IS BLUE", "THE SEA IS DEEP", "I SEE THE SEA"]


@pytest.fixture(scope="module")
def letters():
    """The tokenizer of the model in the box: a token a letter."""
    return sentencepiece.SentencePieceProcessor(
        model_file=f"{MODEL_IN_THE_BOX}/tokenizer.model"
    )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A tokenizer of longer pieces, some of which begin words."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(SENTENCES * 10))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=18,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(
        model_file=str(folder / "tokenizer.model")
    )


@pytest.fixture(scope="module")
def sea(tmp_path_factory):
    """A language model that has read of the sea."""
    kenlm = pytest.importorskip("kenlm", reason="the package kenlm is absent")
    assert kenlm
    path = tmp_path_factory.mktemp("lm") / "sea.arpa"
    path.write_text(make_arpa(SENTENCES))
    return path


def frames(tokenizer, *heard):
    """Log-probabilities of texts that were heard at once, each with a
    probability, a frame a token and a blank after it [T, tokens]."""
    rows = [(tokenizer.encode_as_ids(text), p) for text, p in heard]
    count = max(len(tokens) for tokens, _ in rows)
    probs = torch.full((2 * count, tokenizer.vocab_size()), 1e-4)
    probs[1::2, BLANK] = 1.0
    for tokens, p in rows:
        for place in range(count):
            token = tokens[place] if place < len(tokens) else BLANK
            probs[2 * place, token] += p
    return (probs / probs.sum(-1, keepdim=True)).log()


def found(search, log_probs):
    """The words as a text."""
    return " ".join(word for word, *_ in search.words(log_probs))


@pytest.mark.parametrize("kind", ["letters", "pieces"])
def test_the_ambiguous_case(kind, sea, request):
    tokenizer = request.getfixturevalue(kind)
    log_probs = frames(tokenizer, ("THE SEE IS", 0.55), ("THE SEA IS", 0.45))
    expected = {
        # Nothing but the sound.
        "THE SEE IS": [{"hotwords": ["BLUE"]}],
        "THE SEA IS": [
            {"lm": sea},
            {"hotwords": ["SEA"]},
            {"hotwords": ["the sea"]},
            {"lm": sea, "hotwords": ["DEEP"]},
        ],
    }
    expected["THE SEE IS"].append({"lm": sea, "lm_weight": 0.0, "beta": 0.0})
    for text, options in expected.items():
        for given in options:
            search = make_search(tokenizer, BLANK, **given)
            assert found(search, log_probs) == text, given


def test_the_search_of_a_recipe(letters, sea):
    options = {"blank_index": BLANK, "beam_size": 20}
    options["kenlm_model_path"] = str(sea)
    tokenizer = SimpleNamespace(sp=letters)
    searcher = make_searcher({"beam_search": options}, tokenizer)
    log_probs = frames(letters, ("THE SEE IS", 0.55), ("THE SEA IS", 0.45))
    (row,) = searcher(log_probs[None], torch.ones(1))
    assert row[0].text == "THE SEA IS"
    options["kenlm_model_path"] = "no.arpa"
    with pytest.raises(ValueError, match="no.arpa: no such file"):
        make_searcher({"beam_search": options}, tokenizer)


def test_what_is_heard_clearly_stays(letters, sea):
    log_probs = frames(letters, ("THE SEE IS", 0.999), ("THE SEA IS", 0.001))
    for options in ({"lm": sea}, {"hotwords": ["SEA"], "hotword_weight": 3}):
        search = make_search(letters, BLANK, **options)
        assert found(search, log_probs) == "THE SEE IS", options


def test_a_hot_word_that_the_language_model_does_not_know(letters, sea):
    log_probs = frames(letters, ("I SEE ZOE", 0.5), ("I SEE THE", 0.5))
    assert found(make_search(letters, BLANK, sea), log_probs) == "I SEE THE"
    options = {"hotword_weight": 5.0, "beam_prune_logp": -7.0}
    search = make_search(letters, BLANK, sea, ["ZOE"], **options)
    assert found(search, log_probs) == "I SEE ZOE"


def test_a_part_of_a_hot_word_is_not_unknown(letters, sea):
    texts = ("I SEE ZOEBELLA", 0.5), ("I SEE THE SEAS", 0.5)
    log_probs = frames(letters, *texts)
    options = {"hotword_weight": 5.0, "beam_prune_logp": -7.0}
    search = make_search(letters, BLANK, sea, ["ZOEBELLA"], **options)
    assert found(search, log_probs) == "I SEE ZOEBELLA"


def test_a_phrase_that_does_not_go_on(letters):
    log_probs = frames(letters, ("SEA", 0.55), ("SEE", 0.45))
    search = make_search(letters, BLANK, hotwords=["SEE SAW"])
    assert found(search, log_probs) == "SEA"


def test_times_are_those_of_the_letters(letters):
    log_probs = frames(letters, ("THE SEA", 1.0))
    search = make_search(letters, BLANK, hotwords=["SEA"])
    # A space before each word, and two frames a token: T at 2, E at 6.
    assert search.words(log_probs) == [("THE", 2, 7), ("SEA", 10, 15)]
    assert search.words(log_probs[:0]) == []


def test_a_phrase_that_was_begun_counts_for_nothing():
    hot = HotWords({"NEW YORK": 8.0, "YORKSHIRE": 9.0})
    assert hot.score("NEW", "YORK") == 8.0
    assert hot.score("NEW YORK") == 8.0
    assert hot.score("NEW YORK", "YOR") == 8.0 + 9.0 * 3 / 9
    assert hot.score("OLD", "YORK") == 9.0 * 4 / 9
    # At the end, and where it goes on as something else.
    assert hot.score("NEW") == hot.score("NEW YORKER") == 0.0
    assert hot.score("ANEW YORK") == hot.score("NEW", "YORKX") == 0.0


@pytest.mark.parametrize("order", [2, 3, 4])
def test_probabilities_sum_to_one(order, tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="the package kenlm is absent")
    path = tmp_path / "lm.arpa"
    path.write_text(make_arpa([*SENTENCES, "", "BLUE"], order))
    model, words = kenlm.Model(str(path)), read_words(path)
    assert model.order == order
    assert words == {"THE", "SEA", "IS", "BLUE", "DEEP", "I", "SEE"}
    for begin in itertools.product(["THE", "SEA", "DEEP", "NEW"], repeat=2):
        state, after = kenlm.State(), kenlm.State()
        model.BeginSentenceWrite(state)
        for word in begin:
            model.BaseScore(state, word, after)
            state, after = after, kenlm.State()
        total = sum(
            10 ** model.BaseScore(state, word, after)
            for word in [*words, "</s>", "<unk>"]
        )
        assert total == pytest.approx(1.0, abs=1e-5)


def test_probabilities_by_hand(tmp_path):
    kenlm = pytest.importorskip("kenlm", reason="the package kenlm is absent")
    path = tmp_path / "lm.arpa"
    path.write_text(make_arpa(["A B", "A A"], 2))
    model = kenlm.Model(str(path))
    # Four words to choose from (A, B, the end, unknown); seen six times A, A,
    # A, B and two ends: three kinds. After A: B, A and the end, once each.
    a = (3 + 3 / 4) / (6 + 3)
    for text, p in {
        "A": (2 + a) / (2 + 1),
        "A A": (1 + 3 * a) / (3 + 3),
    }.items():
        before = text.rpartition(" ")[0]
        score = model.score(text, eos=False)
        score -= model.score(before, eos=False) if before else 0
        assert 10**score == pytest.approx(p, rel=1e-5)


ARPA = "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-9\t<s>\t0\n-1\t</s>\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no such file"),
        ("", "not an ARPA file"),
        ("the sea is blue\n", "not an ARPA file"),
        (b"mmap lm\xff\xfe\x00", "not text|binary file of KenLM"),
        (ARPA, "without words"),
        (ARPA + "-1\tA\n-1\tB\n", "of characters, such as 'B'"),
        (ARPA + "-1\t\u2581THE\n-1\tSE\n", "of tokens, such as"),
        (ARPA + "-1\tsea\n-1\tblue\n", "cannot write 'blue'.* here 'BLUE'"),
        (ARPA + "-1\tm\u00f6we\n-1\tT1\n", "cannot write 'T1'"),
        (ARPA + "-1\tSEA\n", "KenLM cannot read it: .*make it again"),
    ],
)
def test_language_models_that_cannot_be_used(text, problem, letters, tmp_path):
    pytest.importorskip("kenlm", reason="the package kenlm is absent")
    path = tmp_path / "bad.arpa"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=problem) as error:
        make_search(letters, BLANK, path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no such file"),
        ("\n \n", "no hot words: write one on each line"),
        (b"\xff\xfe\xfa", "not text in UTF-8"),
        ("ANNA\n\u0141\u00f3d\u017a\n", "cannot write '\u0141\u00f3d\u017a'"),
        ("R2D2\n", r"cannot write 'R2D2' \(2\): spell it"),
    ],
)
def test_hot_words_that_cannot_be_used(text, problem, letters, tmp_path):
    path = tmp_path / "names.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=problem) as error:
        make_search(letters, BLANK, hotwords=path)
    assert str(error.value).startswith(f"{path}: ")


def test_hot_words_of_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\ufeffNew  York\n\nZoe\u0308\n", "utf-8")
    assert read_hotwords(path) == ["New York", "Zo\u00eb"]


@pytest.mark.parametrize("package", ["kenlm", "pygtrie"])
def test_kenlm_is_absent(package, letters, tmp_path, monkeypatch):
    path = tmp_path / "sea.arpa"
    path.write_text(make_arpa(SENTENCES))
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == package else True,
    )
    with pytest.raises(ImportError, match=rf"{package}: pip install .*\[lm\]"):
        make_search(letters, BLANK, path)
    # Hot words need nothing.
    log_probs = frames(letters, ("SEE", 0.55), ("SEA", 0.45))
    search = make_search(letters, BLANK, hotwords=["SEA"])
    assert found(search, log_probs) == "SEA"


@pytest.mark.parametrize("texts", [[], ["", " "], ["A <s> B"]])
def test_texts_that_give_no_language_model(texts):
    with pytest.raises(ValueError, match="no words|reserve"):
        make_arpa(texts)
