"""SpeechBrain's streaming contexts, with LaCT.

Authors
* speechbrain_lact contributors 2026
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import soundfile
import torch
import torch.nn.functional as F
from hyperpyyaml import load_hyperpyyaml, resolve_references

from speechbrain.decoders import ctc_greedy_decode
from speechbrain.inference.ASR import StreamingASR
from speechbrain.lobes.models.transformer import TransformerASR as parent
from speechbrain.tokenizers.SentencePiece import (
    SentencePieceDecoderStreamingContext,
)
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain.utils.streaming import split_fixed_chunks
from speechbrain_lact.convert import retrofit
from speechbrain_lact.decoders.streaming import (
    CTCStreamingContext,
    ctc_greedy_decode_streaming,
    spm_decode_streaming,
)
from speechbrain_lact.inference.export import write_model
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)

ROOT = Path(__file__).parents[2]
SIZES = {
    "tgt_vocab": 5,
    "input_size": 6,
    "d_model": 8,
    "nhead": 2,
    "num_encoder_layers": 2,
    "num_decoder_layers": 0,
    "d_ffn": 12,
    "kernel_size": 5,
    "csgu_linear_units": 12,
    "normalize_before": True,
}
# Options of the model, chunk size, left context.
CELLS = [
    ({"lact_order": "apply_update"}, 4, 1),
    ({"lact_order": "apply_update", "lact_optimizer": "sgd"}, 3, 2),
    ({"lact_order": "apply_update", "lact_optimizer": "adam"}, 6, 1),
    ({"lact_order": "apply_update", "lact_block_window": [6, 1]}, 4, 2),
    ({"lact_order": "update_apply"}, 4, 0),
    ({"lact_order": "update_apply", "lact_optimizer": "adam"}, 8, 1),
]
CONFIG = DynChunkTrainConfig(8, 4)


def model(kind="conformer", **options):
    """A small model in double, every parameter drawn at random."""
    torch.manual_seed(0)
    options = {"causal": False, "lact_chunk_size": 4, **options}
    net = TransformerASR(
        **SIZES,
        encoder_module=kind,
        attention_type="LaCT",
        lact_heads=2,
        lact_base_lr=0.1,
        **options,
    )
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.double().eval()


def frames(rows=2, time=23):
    """Features of several chunks and a piece of one."""
    torch.manual_seed(1)
    return torch.randn(rows, time, 6, dtype=torch.float64)


def close(got, expected, bound=1e-9):
    """The same, to a part of the largest value."""
    assert got.shape == expected.shape
    worst = (got - expected).abs().max() / expected.abs().max()
    assert worst <= bound, f"{worst:.2e}"


@torch.no_grad()
@pytest.mark.parametrize("options, size, left", CELLS)
def test_chunks_are_the_whole(options, size, left, device):
    """Chunk by chunk, the last one not full, as `encode` of the whole."""
    config = DynChunkTrainConfig(size, left)
    net, x = model(**options).to(device), frames().to(device)
    context = net.make_streaming_context(config)
    found = [
        net.encode_streaming(chunk, context)
        for chunk in split_fixed_chunks(x, size, dim=1)
    ]
    assert [y.shape[1] for y in found[:-1]] == [size] * (23 // size)
    close(torch.cat(found, 1), net.encode(x, dynchunktrain_config=config))
    state = context.encoder_context.state
    assert state.updates.tolist() == (state.frames // 4).tolist()
    assert int(state.updates.min()) >= 3
    # The chunks matter.
    other = net.encode(x, dynchunktrain_config=DynChunkTrainConfig(12, 1))
    assert (torch.cat(found, 1) - other).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("options, size, left", CELLS)
def test_every_frame_is_answered_at_once(options, size, left, device):
    """Whatever the pieces: as the end of what was heard so far."""
    config, end = DynChunkTrainConfig(size, left), 0
    net, x = model(**options).to(device), frames().to(device)
    context = net.make_streaming_context(config)
    assert net.encode_streaming(x[:, :0], context).shape == (2, 0, 8)
    for piece in x.split([4, 3, 4, 1, 9, 2], 1):
        start, end = end, end + piece.shape[1]
        heard = net.encode(x[:, :end], dynchunktrain_config=config)
        close(net.encode_streaming(piece, context), heard[:, start:])


@torch.no_grad()
def test_two_streams_do_not_meet():
    """Contexts made of one model; input of four dimensions."""
    net, x = model(lact_order="apply_update"), frames(time=16)
    config = DynChunkTrainConfig(4, 1)
    contexts = [net.make_streaming_context(config) for _ in range(2)]
    found = [[], []]
    for chunk in x.split(4, 1):
        for row in range(2):
            part = chunk[row : row + 1].unflatten(2, (2, 3))
            found[row].append(net.encode_streaming(part, contexts[row]))
    found = torch.cat([torch.cat(row, 1) for row in found])
    close(found, net.encode(x, dynchunktrain_config=config))


@torch.no_grad()
def test_stream_is_that_of_speechbrain():
    """With a silent memory: SpeechBrain's Conformer, chunk by chunk."""
    torch.manual_seed(0)
    host = parent.TransformerASR(
        **SIZES,
        encoder_module="conformer",
        attention_type="RoPEMHA",
        causal=False,
    )
    host = host.double().eval()
    ours = retrofit(host, chunk_size=4, order="apply_update", heads=2)
    config = DynChunkTrainConfig(4, 2)
    contexts = [x.make_streaming_context(config) for x in (host, ours)]
    for chunk in frames().split(4, 1):
        expected, got = (
            net.encode_streaming(chunk, context)
            for net, context in zip((host, ours), contexts)
        )
        close(got, expected)


@torch.no_grad()
def test_other_attention_streams_as_before():
    """Bit for bit."""
    results = []
    for cls in (parent.TransformerASR, TransformerASR):
        torch.manual_seed(0)
        net = cls(
            **SIZES,
            encoder_module="conformer",
            attention_type="RelPosMHAXL",
            causal=False,
        )
        net.eval()
        context = net.make_streaming_context(
            dynchunktrain_config=CONFIG, encoder_kwargs={}
        )
        chunks = frames().float().split(8, 1)
        results.append([net.encode_streaming(x, context) for x in chunks])
    for ours, theirs in zip(*results):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    "options, size, left, words",
    [
        ({"kind": "branchformer"}, 4, 1, "encoder_module: conformer"),
        ({"causal": True}, 4, 1, "needs causal=False"),
        ({}, 4, None, "set left_context_size"),
        ({}, 6, 1, "chunk_size=6.*when 4 are.*lact_order: apply_update"),
        ({"lact_order": "apply_update"}, 2, 1, "shorter than the chunk of 4"),
        ({"lact_order": "bidirectional"}, 4, 1, "takes whole sequences"),
        ({"lact_host": "regularMHA"}, 4, 1, "positions of regularMHA"),
    ],
)
def test_what_cannot_stream_is_refused(options, size, left, words):
    """When the context is made, in one line."""
    net = model(**options)
    with pytest.raises(ValueError, match=words) as error:
        net.make_streaming_context(DynChunkTrainConfig(size, left))
    assert "\n" not in str(error.value)


def test_what_does_not_belong_is_refused():
    """Rows that come or go, and layers without their encoder."""
    net, x = model(), frames()
    with pytest.raises(ValueError, match="use the encoder"):
        net.encoder.layers[0].make_streaming_context(4)
    context = net.make_streaming_context(DynChunkTrainConfig(4, 1))
    net.encode_streaming(x[:, :4], context)
    with pytest.raises(ValueError, match="1 rows .* context of 2"):
        net.encode_streaming(x[:1, 4:8], context)


def test_tokens_in_chunks():
    """A token that lasts from one chunk into the next is said once."""
    torch.manual_seed(0)
    scores = torch.randn(3, 400, 3)
    whole = ctc_greedy_decode(scores, torch.ones(3), blank_id=2)
    for size in (1, 3, 400):
        context, found = CTCStreamingContext(), [[], [], []]
        for chunk in scores.split(size, 1):
            rows = ctc_greedy_decode_streaming(chunk, context, blank_id=-1)
            found = [old + new for old, new in zip(found, rows)]
        assert found == whole


@pytest.mark.parametrize("kind", ["char", "word"])
def test_text_in_chunks(kind, tmp_path):
    """Spaces stay where they are, wherever the tokens are cut."""
    words = "ONE TWO TWO ONE"
    tokenizer = make_tokenizer(tmp_path, words, kind)
    tokens = torch.tensor(tokenizer.encode(words))
    for size in (1, 2, 3):
        context, found = SentencePieceDecoderStreamingContext(), ""
        for chunk in (tokens[:0], *tokens.split(size)):
            found += spm_decode_streaming(tokenizer, chunk.tolist(), context)
        assert found == words


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    """A folder as the recipe writes it, of a model that knows one recording,
    with the lines of docs/streaming.md; the recording and its words."""
    with open(next(corpus.glob("**/*.trans.txt")), encoding="utf-8") as file:
        rows = [line.strip().split(" ", 1) for line in file]
    name, words = min(rows, key=lambda row: len(row[1]))
    path = next(corpus.glob(f"**/{name}.flac"))
    folder = tmp_path_factory.mktemp("streaming")
    tokenizer = make_tokenizer(folder, words)
    size = tokenizer.vocab_size()
    overrides = {
        "output_folder": str(folder / "out"),
        "d_model": 32,
        "num_encoder_layers": 2,
        "kernel_size": 7,
        "dropout": 0.0,
        "n_mels": 40,
        "cnn_channels": 8,
        "left_context": 16,
        "nhead": 2,
        "lact_heads": 2,
        "output_neurons": size,
    }
    with open(ROOT / "hparams" / "lact_streaming_ctc.yaml") as file:
        yaml = resolve_references(file, overrides).getvalue()
    hparams = load_hyperpyyaml(yaml)
    learn(hparams, path, tokenizer.encode(words))
    (folder / "hyperparams.yaml").write_text(yaml)
    write_model(
        folder / "model",
        folder / "hyperparams.yaml",
        hparams,
        SimpleNamespace(prefix_model_file=folder / "tokenizer"),
    )
    text = (folder / "model" / "hyperparams.yaml").read_text()
    text = text[: text.index("\nencoder:")]
    docs = (ROOT / "docs" / "streaming.md").read_text()
    lines = re.search(r"```yaml\n(.*?)```", docs, re.DOTALL)[1]
    (folder / "model" / "streaming.yaml").write_text(f"{text}\n{lines}")
    return folder / "model", path, words


def make_tokenizer(folder, words, kind="char"):
    """Of these words; characters, as the recipe has them."""
    (folder / "words").write_text(words)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "words"),
        model_prefix=str(folder / "tokenizer"),
        model_type=kind,
        vocab_size=40,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(
        model_file=str(folder / "tokenizer.model")
    )


def learn(hparams, path, tokens):
    """By heart, the recording standing anywhere on the grid of frames."""
    torch.manual_seed(0)
    wav = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
    model, normalize = hparams["model"], hparams["normalize"]
    normalize.train()
    normalize(hparams["compute_features"](wav)[0])
    normalize.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.005)
    for _ in range(130):
        sides = torch.randint(0, 4000, (2,)).tolist()
        feats, _ = hparams["compute_features"](F.pad(wav, sides))
        src, _ = hparams["CNN"](normalize(feats))
        out = hparams["Transformer"].encode(src, dynchunktrain_config=CONFIG)
        scores = hparams["ctc_lin"](out).log_softmax(-1)
        one = torch.ones(1)
        loss = hparams["ctc_cost"](scores, torch.tensor([tokens]), one, one)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()


def test_streaming_asr_hears_words(trained):
    """SpeechBrain's StreamingASR reads a recording, in chunks."""
    folder, path, words = trained
    asr = StreamingASR.from_hparams(
        source=str(folder), hparams_file="streaming.yaml"
    )
    said = asr.transcribe_file(
        str(path), CONFIG, use_torchaudio_streaming=False
    )
    assert said.strip() == words


@torch.no_grad()
def test_streaming_asr_encodes_what_it_hears(trained):
    """What its encoder says of a chunk is `encode` of the features so far,
    and its tokens are those of all frames."""
    folder, path, words = trained
    asr = StreamingASR.from_hparams(
        source=str(folder), hparams_file="streaming.yaml"
    )
    wav = asr.load_audio(str(path))[None]
    size = asr.get_chunk_size_frames(CONFIG)
    assert wav.shape[1] % size
    chunks = [*split_fixed_chunks(wav, size), torch.zeros(1, size)]
    extract, context = (
        asr.hparams.fea_streaming_extractor,
        asr.make_streaming_context(CONFIG),
    )
    listener = extract.make_streaming_context()
    feats, found, text, tokens = [], [], "", []
    for chunk in chunks:
        feats.append(extract(chunk, context=listener))
        found.append(asr.encode_chunk(context, chunk))
        said, new = asr.decode_chunk(context, found[-1])
        text, tokens = text + said[0], tokens + new[0]
        heard = asr.mods.enc(torch.cat(feats, 1), dynchunktrain_config=CONFIG)
        last = heard[:, -feats[-1].shape[1] :]
        close(found[-1], asr.mods.proj_enc(last), 2e-4)
    found = torch.cat(found, 1)
    state = context.encoder_context.encoder_context.state
    assert int(state.updates) == int(state.frames) // 16 >= 4
    assert [tokens] == ctc_greedy_decode(found, torch.ones(1), blank_id=0)
    assert text == asr.hparams.tokenizer.decode(tokens)
    assert text.strip() == words
