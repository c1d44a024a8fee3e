"""Fixtures for unit and integration tests.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import os
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references

from speechbrain_lact.cli import main
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.inference.export import write_embedder

# What the command line takes if a test names no model, in other processes too:
# the small one is there on every machine, and streams.
os.environ["SPEECHBRAIN_LACT_MODEL"] = "small"

CONVOLUTIONS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.3,
}
WHISPER = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "num_mel_bins": 8,
    "vocab_size": 10,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "decoder_start_token_id": 1,
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Names that are not UTF-8 cannot be sent from one process to another."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


@pytest.fixture
def call(capfd):
    """The command line in this process, which has imported torch already: exit
    code and what it printed; all that it complains of is one line."""

    def run(*args):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        for line in err.splitlines():
            assert line.startswith("speechbrain-lact: "), err
        return stopped.value.code, out, err

    return run


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Four voices of training, one of dev, two of test; three sentences."""
    folder = tmp_path_factory.mktemp("corpus") / "MiniSpeech"
    prepare_mini_speech(
        folder,
        train_voices=4,
        dev_voices=1,
        test_voices=2,
        train_chapters=1,
        test_chapters=1,
        utterances=3,
    )
    return folder


@pytest.fixture(scope="session")
def tiny_ecapa(tmp_path_factory):
    """The folder of an untrained encoder of voices: 8 numbers a voice."""
    folder = tmp_path_factory.mktemp("ecapa")
    yaml = Path(__file__).parents[1] / "hparams" / "ecapa_speaker.yaml"
    overrides = {"output_folder": str(folder), "out_n_neurons": 2, "emb_dim": 8}
    with open(yaml, encoding="utf-8") as file:
        text = resolve_references(file, overrides).getvalue()
    (folder / "experiment.yaml").write_text(text)
    model = load_hyperpyyaml(text)["embedding_model"]
    write_embedder(folder / "model", folder / "experiment.yaml", model, 0.5)
    return str(folder / "model")


@pytest.fixture(scope="session")
def tiny_host(tmp_path_factory):
    """Makes the folder of an untrained pretrained encoder, 32 wide."""

    @functools.cache
    def make(kind, norm="layer", seed=0, **options):
        import transformers

        torch.manual_seed(seed)
        if kind == "whisper":
            config = transformers.WhisperConfig(**WHISPER)
            extractor = transformers.WhisperFeatureExtractor(feature_size=8)
        else:
            config = transformers.AutoConfig.for_model(
                kind,
                feat_extract_norm=norm,
                do_stable_layer_norm=norm == "layer",
                **CONVOLUTIONS,
                **options,
            )
            extractor = transformers.Wav2Vec2FeatureExtractor(
                do_normalize=norm == "layer"
            )
        folder = tmp_path_factory.mktemp(f"{kind}-{norm}")
        transformers.AutoModel.from_config(config).save_pretrained(folder)
        extractor.save_pretrained(folder)
        return str(folder)

    return make
