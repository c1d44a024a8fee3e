"""A language model and hot words with the model in the box, in Python and on
the command line.

Authors
* speechbrain_lact contributors 2026
"""

import json

import pytest
import soundfile
import torch

from speechbrain_lact.cli.evaluate import read_data
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.decoders.ngram import make_arpa
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR

pytest.importorskip("kenlm", reason="the package kenlm is absent")


@pytest.fixture(scope="module")
def asr():
    """The model in the box."""
    return LaCTASR.from_hparams(MODEL_IN_THE_BOX)


@pytest.fixture(scope="module")
def wavs(corpus):
    """Utterances of the test, of different lengths."""
    paths = sorted(corpus.glob("test-clean/*/*/*.flac"))
    audio = [soundfile.read(path, dtype="float32")[0] for path in paths]
    return [torch.from_numpy(samples) for samples in audio]


@pytest.fixture(scope="module")
def arpa(corpus, tmp_path_factory):
    """A language model that knows what is said: it must help."""
    path = tmp_path_factory.mktemp("lm") / "test.arpa"
    rows, _ = read_data(corpus / "test-clean")
    path.write_text(make_arpa([row.text for row in rows]))
    return path


@pytest.fixture
def search(asr):
    """Chooses a search for one test."""
    yield asr.set_search
    asr.set_search()


def leaves(state):
    """Its tensors."""
    found = []
    state.map(lambda tensor: found.append(tensor) or tensor)
    return found


def texts(words):
    """Words of rows as texts."""
    return [" ".join(word.text for word in row) for row in words]


def test_without_a_preference_the_search_is_nearly_greedy(asr, wavs, search):
    batch = pad_waves(wavs)
    greedy, state = asr.transcribe_words(*batch)
    search(hotwords=["ZZZZZZ"], hotword_weight=0.0)
    found, after = asr.transcribe_words(*batch)
    # The memory is what it would have been.
    assert leaves(state), "no tensors"
    assert all(map(torch.equal, leaves(state), leaves(after)))
    same = 0
    for one, other, wav in zip(greedy, found, wavs):
        assert all(0 <= w.start < w.end for w in other)
        assert other[-1].end <= len(wav) / asr.sample_rate + 1e-3
        if [w.text for w in one] == [w.text for w in other]:
            same += 1
            for a, b in zip(one, other):
                assert abs(a.start - b.start) <= 2 * asr.frame_seconds
                assert abs(a.end - b.end) <= 4 * asr.frame_seconds
    assert same >= len(wavs) / 2


def test_a_row_alone_is_that_of_a_batch(asr, wavs, search, arpa):
    search(arpa)
    found, _ = asr.transcribe_words(*pad_waves(wavs))
    batch, tokens = asr.transcribe_batch(*pad_waves(wavs))
    assert batch == texts(found)
    assert asr.tokenizer.decode_ids(tokens[0]) == batch[0]
    for wav, words in zip(wavs, found):
        alone, _ = asr.transcribe_words(wav[None], torch.ones(1))
        assert alone == [words]


def test_fewer_errors(corpus, call, arpa, tmp_path):
    results = []
    for number, more in enumerate([[], ["--lm", arpa]]):
        out = tmp_path / str(number)
        data = ["--manifest", corpus / "test-clean"]
        code, *_ = call("evaluate", *data, "--out", out, *more)
        assert code == 0
        results.append(json.loads((out / "results.json").read_text()))
    greedy, searched = results
    assert searched["WER"] < greedy["WER"]
    assert searched["lm"] == str(arpa)
    assert "lm" not in greedy


def test_what_needs_whole_recordings(asr, wavs, search, corpus, arpa):
    session = asr.stream()
    for piece in wavs[0][: 2 * asr.sample_rate].split(1600):
        session.feed(piece)
        if session.state.said.counts.any():
            break
    search(arpa)
    with pytest.raises(ValueError, match="cannot be used in a stream"):
        asr.stream()
    with pytest.raises(ValueError, match="stopped within a word"):
        asr.transcribe_words(wavs[0][None], torch.ones(1), session.state)
    path = min(corpus.glob("test-clean/*/*/*.flac"))
    words, _ = asr.transcribe_words(wavs[0][None], torch.ones(1))
    assert list(asr.transcribe_long(path)) == words[0]
    assert asr.transcribe_file(path) == texts(words)[0]
    search()
    assert asr.stream().finish().words == []


def test_a_hot_word_on_the_command_line(corpus, call, tmp_path):
    path = min(corpus.glob("test-clean/*/*/*.flac"))
    names = tmp_path / "names.txt"
    code, before, _ = call("transcribe", path)
    assert code == 0
    # The first two words in one, though a space was heard.
    first, second, *others = before.split()
    names.write_text(f"{first}{second}\n".lower())
    options = ["--hotwords", names, "--hotword-weight", 60]
    code, after, _ = call("transcribe", path, *options)
    assert code == 0
    assert after.split() == [first + second, *others]


def test_a_file_goes_on_with_its_own_language_model(
    corpus, call, arpa, tmp_path
):
    folder, out = min(corpus.glob("test-clean/*/*")), tmp_path / "out.jsonl"
    options = ["transcribe", folder, "--out", out, "--lm", arpa]
    assert call(*options)[0] == 0
    text = out.read_text()
    assert call(*options, "--resume")[0] == 0
    assert out.read_text() == text
    for other in (options[:-2], [*options, "--lm-weight", 0.7]):
        code, _, err = call(*other, "--resume")
        assert code == 1
        assert "lm" in err


@pytest.mark.parametrize("option", ["--lm", "--hotwords"])
@pytest.mark.parametrize("command", ["transcribe", "evaluate", "stream"])
def test_what_is_for_recordings_and_ctc_alone(
    command, option, corpus, call, arpa, tmp_path
):
    (tmp_path / "config.json").write_text('{"model_type": "whisper"}')
    path = min(corpus.glob("test-clean/*/*/*.flac"))
    source = {
        "transcribe": [path],
        "evaluate": ["--manifest", corpus / "test-clean"],
        "stream": [],
    }
    args = [command, *source[command], "--model", tmp_path, option, arpa]
    code, out, err = call(*args)
    problem = "for CTC models" if source[command] else "not for a stream"
    assert (code, out) == (1 if source[command] else 2, "")
    assert problem in err
    assert err.count("\n") == 1


def test_files_are_named(corpus, call, tmp_path):
    path, bad = min(corpus.glob("test-clean/*/*/*.flac")), tmp_path / "no"
    for option in ("--lm", "--hotwords"):
        code, out, err = call("transcribe", path, option, bad)
        message = f"speechbrain-lact: {bad}: no such file\n"
        assert (code, out, err) == (1, "", message)


def test_a_text_becomes_a_language_model(corpus, call, tmp_path):
    text, out = tmp_path / "text.txt", tmp_path / "lm.arpa"
    text.write_text("The sea, the sea!\n\n- It's blue. -\n", "utf-8")
    code, printed, _ = call("language-model", text, "--out", out, "--order", 2)
    assert (code, printed) == (0, "2 sentences, 4 different words\n")
    sentences = ["THE SEA THE SEA", "IT'S BLUE"]
    assert out.read_text() == make_arpa(sentences, 2)
    code, _, err = call("language-model", text, "--out", out)
    assert (code, "exists" in err) == (1, True)
    more = tmp_path / "more.arpa"
    data = corpus / "train-clean-100"
    assert call("language-model", data, "--out", more)[0] == 0
    assert len(more.read_text().splitlines()) > 20


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "no such file or folder"),
        (b"\n - \n", "no words to make a language model of"),
        (b"THE SEA\n\xff\n", ":2: not text in UTF-8"),
        (b"<s> THE SEA </s>\n", "no word, ARPA files reserve it"),
    ],
)
def test_texts_that_cannot_be_read(data, problem, call, tmp_path):
    text = tmp_path / "text.txt"
    if data is not None:
        text.write_bytes(data)
    out = tmp_path / "lm.arpa"
    code, _, err = call("language-model", text, "--out", out)
    assert code == 1
    assert err.startswith(f"speechbrain-lact: {text}")
    assert problem in err
    assert not out.exists()
