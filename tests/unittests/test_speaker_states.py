"""Tests of the bank of speakers.

`python test_speaker_states.py read MODEL ECAPA FOLDER LOCKED OUT` is the new
process in which a bank is read; `... kill FOLDER` writes a bank in processes
that are killed.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from hypothesis import (
    HealthCheck,
    given,
    settings,
    strategies as st,
)
from safetensors.torch import save_file

from speechbrain_lact.inference.ASR import LaCTASR
from speechbrain_lact.inference.export import write_model
from speechbrain_lact.inference.session import SessionState
from speechbrain_lact.inference.speaker_files import SpeakerFiles, Voice
from speechbrain_lact.inference.speakers import SpeakerBank, load_embedder
from speechbrain_lact.nnet.state import Waiting
from speechbrain_lact.nnet.state_file import write_tensors

ROOT = Path(__file__).parents[2]
RATE = 16000
SIZES = {
    "d_model": 16,
    "num_encoder_layers": 1,
    "kernel_size": 3,
    "dropout": 0.0,
    "n_mels": 20,
    "cnn_channels": 4,
    "lact_chunk_size": 8,
    "left_context": 16,
    "nhead": 2,
    "lact_heads": 2,
}
ECAPA = """
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: 20
mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False
embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: 20
    channels: [16, 16, 16, 16, 48]
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
    attention_channels: 8
    lin_neurons: 16
classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: 16
    out_neurons: 3
modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        classifier: !ref <classifier>
"""


class Spectrum:
    """Recognises a voice by where its energy is: tones are voices."""

    identity = "spectrum"

    def encode_batch(self, wavs, wav_lens):
        """[B, 1, 100]"""
        power = torch.fft.rfft(wavs, RATE).abs().square()[:, : RATE // 2]
        return power.view(len(wavs), 1, 100, -1).sum(-1)


def counting(name="counting"):
    """A model that remembers how much it has heard, and has small states."""

    def initial_state():
        return SessionState(
            None,
            Waiting.empty(torch.zeros(1, 0, 2, dtype=torch.long)),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, dtype=torch.long),
        )

    return SimpleNamespace(
        identity={"model": name, "block": None},
        sample_rate=RATE,
        device="cpu",
        initial_state=initial_state,
    )


def counted(number):
    """The state of such a model, the same number everywhere."""
    said, one = torch.full((1, 1, 2), number), torch.tensor([number])
    return SessionState(None, Waiting(said, one), one, one)


def voice(pitch, seconds=1.5, seed=0):
    """A tone and a little noise; no two are the same."""
    torch.manual_seed(seed)
    time = torch.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * torch.sin(2 * torch.pi * pitch * time)
    return wave + 1e-3 * torch.randn(len(time))


def tensors(state):
    """All tensors of a state, by name."""
    return dict(state._named_tensors())


def same(one, other):
    """Whether two states are equal bit for bit."""
    one, other = tensors(one), tensors(other)
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def write_ecapa(folder, seed=0):
    """A folder as of the hub, untrained."""
    folder.mkdir()
    (folder / "hyperparams.yaml").write_text(ECAPA)
    torch.manual_seed(seed)
    hparams = load_hyperpyyaml(ECAPA)
    for name in ("embedding_model", "classifier"):
        torch.save(hparams[name].state_dict(), folder / f"{name}.ckpt")
    return folder


@pytest.fixture(scope="module")
def ecapa(tmp_path_factory):
    return write_ecapa(tmp_path_factory.mktemp("embedder") / "ecapa")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as the recipe writes it, every parameter drawn at random."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "words").write_text("ONE TWO THREE")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "words"),
        model_prefix=str(folder / "tokenizer"),
        model_type="char",
        vocab_size=40,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(folder / "tokenizer.model")
    )
    overrides = {
        "output_folder": str(folder / "out"),
        "output_neurons": tokenizer.vocab_size(),
        **SIZES,
    }
    with open(ROOT / "hparams" / "lact_streaming_ctc.yaml") as file:
        yaml = resolve_references(file, overrides).getvalue()
    (folder / "hyperparams.yaml").write_text(yaml)
    hparams = load_hyperpyyaml(yaml)
    torch.manual_seed(0)
    for parameter in hparams["model"].parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    features = hparams["compute_features"](voice(500)[None], torch.ones(1))
    hparams["normalize"](*features, epoch=0)
    write_model(
        folder / "model",
        folder / "hyperparams.yaml",
        hparams,
        SimpleNamespace(prefix_model_file=folder / "tokenizer"),
    )
    return folder / "model"


@pytest.fixture(scope="module")
def asr(model):
    return LaCTASR.from_hparams(str(model))


def read(model, ecapa, folder, locked, out):
    """Opens a bank in this process, and tries one that another has open."""
    asr = LaCTASR.from_hparams(model)
    embedder = load_embedder(ecapa)
    try:
        SpeakerBank(locked, asr, embedder)
        refused = ""
    except OSError as error:
        refused = str(error)
    with SpeakerBank(folder, asr, embedder) as bank:
        names, found = bank.names(), {}
        for i, name in enumerate(names):
            heard = bank.recognise(voice(300 + 400 * i))
            state = bank.state(name)
            scores = asr.encode_batch(voice(700)[None], torch.ones(1), state)
            kept = {key: t.clone() for key, t in tensors(state).items()}
            found[name] = heard, kept, scores
    torch.save({"names": names, "found": found, "refused": refused}, out)


def test_round_trip_in_a_new_process(asr, model, ecapa, tmp_path):
    """Voices, states, what follows from them; one process at a time."""
    embedder = load_embedder(ecapa)
    bank = SpeakerBank(tmp_path / "bank", asr, embedder, threshold=0.25)
    names = ["Ann/../../x", "Bo\n\0", "é" * 1000]
    states = [
        bank.enrol(name, voice(300 + 400 * i)) for i, name in enumerate(names)
    ]
    bank.close()
    locked = SpeakerBank(tmp_path / "locked", asr, embedder)
    paths = [model, ecapa, tmp_path / "bank", locked.folder, tmp_path / "out"]
    subprocess.run(
        [sys.executable, __file__, "read", *map(str, paths)], check=True
    )
    locked.close()
    out = torch.load(tmp_path / "out", weights_only=False)
    assert out["names"] == names
    assert "open already" in out["refused"]
    assert str(tmp_path / "locked") in out["refused"]
    initial = asr.encode_batch(voice(700)[None], torch.ones(1), None)
    for name, state in zip(names, states):
        (heard, similarity), found, scores = out["found"][name]
        assert heard == name and similarity > 0.999
        assert found.keys() == tensors(state).keys()
        for key, value in tensors(state).items():
            assert torch.equal(found[key], value), key
        with torch.no_grad():
            here = asr.encode_batch(voice(700)[None], torch.ones(1), state)
        assert torch.allclose(scores, here, atol=1e-5)
        assert (here - initial).abs().max() > 1e-3


def test_an_unknown_voice_begins_with_the_initial_memory(asr, tmp_path):
    with SpeakerBank(tmp_path, asr, Spectrum()) as bank:
        assert bank.recognise(voice(300)) == (None, -1.0)
        for pitch in (300, 900):
            bank.enrol(f"{pitch}", voice(pitch))
        name, similarity = bank.recognise(voice(1500))
        assert name is None and similarity < 0.1
        assert same(bank.state(name), asr.initial_state())
        name, similarity = bank.recognise(voice(900, seed=1))
        assert name == "900" and similarity > 0.9
        adapted = asr.adapt_to_speaker(voice(900))
        assert same(bank.state(name), adapted)
        assert not same(adapted, asr.initial_state())


def test_enrolment_and_update_from_files(asr, tmp_path):
    """Also of another rate; the state goes on from where it was."""
    paths = [tmp_path / f"{i}.wav" for i in range(2)]
    soundfile.write(paths[0], voice(500).numpy(), RATE)
    soundfile.write(paths[1], voice(500, seed=1)[::2].numpy(), RATE // 2)
    with SpeakerBank(tmp_path / "bank", asr, Spectrum()) as bank:
        first = bank.enrol("Ann", str(paths[0]))
        assert bank.recognise(paths[1])[0] == "Ann"
        second = bank.enrol("Ann", paths[1])
        assert same(second, asr.adapt_to_speaker(paths[1], first))
        assert same(bank.state("Ann"), second)
        bank.update("Ann", first)
        assert same(bank.state("Ann"), first)
        bank.update("Bo", second, voice(1500))
        assert bank.recognise(voice(1500, seed=2))[0] == "Bo"


def test_centroid_follows_the_voice(tmp_path):
    """The mean of the embeddings kept; the oldest make place."""
    mixed = voice(500) + voice(1500)
    with SpeakerBank(
        tmp_path, counting(), Spectrum(), max_embeddings=2
    ) as bank:
        bank.update("Ann", counted(1), voice(500))
        assert bank.recognise(mixed)[1] == pytest.approx(0.5**0.5, abs=0.01)
        bank.update("Ann", counted(1), voice(1500))
        assert bank.recognise(mixed)[1] == pytest.approx(1, abs=0.01)
        bank.update("Ann", counted(1), voice(1500, seed=1))
        assert bank.recognise(voice(500))[1] < 0.1
        # Without a recording, or with a silent one, the voice stays.
        bank.update("Ann", counted(2))
        bank.update("Ann", counted(3), torch.zeros(RATE))
        assert bank.recognise(voice(1500))[1] == pytest.approx(1, abs=0.01)
        assert same(bank.state("Ann"), counted(3))


# Pitch and seconds heard; each name has one pitch.
NAMES = {"Ann": 300, "Bo": 900, "Cy": 1500, "Di": 2100}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["enrol", "hear", "hear", "update", "state", "forget", "reopen"]
        ),
        st.sampled_from(list(NAMES)),
        st.integers(0, 1),
    ),
    max_size=14,
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(STEPS)
def test_a_voice_does_not_depend_on_others(asr, steps):
    """Any operations against a dict of what each one has said, in the order
    of use: states, transcripts, eviction of the one used longest ago."""
    said, states = {}, {}

    def learned(heard):
        """By the model alone, from all that a voice has said."""
        if heard not in states:
            states[heard] = (
                asr.adapt_to_speaker(voice(*heard[-1]), learned(heard[:-1]))
                if heard
                else asr.initial_state()
            )
        return states[heard]

    def make(folder):
        return SpeakerBank(folder, asr, Spectrum(), 0.5, None, 0.2, 3)

    with tempfile.TemporaryDirectory() as folder:
        bank = make(folder)
        for action, name, seed in steps:
            heard = said.get(name, ())
            new = (*heard, (NAMES[name], 0.3, seed))
            wav = voice(*new[-1])
            if action == "enrol":
                bank.enrol(name, wav)
                said.pop(name, None)
                said[name] = new
            elif action == "reopen":
                bank.close()
                bank = make(folder)
            elif action == "hear":  # as a user of the bank does
                found, _ = bank.recognise(wav)
                assert found == (name if name in said else None)
                words, state = asr.transcribe_words(
                    wav[None], torch.ones(1), bank.state(found)
                )
                alone = asr.transcribe_words(
                    wav[None], torch.ones(1), learned(heard)
                )
                assert words == alone[0] and same(state, alone[1])
                bank.update(name, state, wav)
                said.pop(name, None)
                said[name] = new
            elif name not in said:
                with pytest.raises(ValueError, match=name):
                    if action == "update":
                        bank.update(name, asr.initial_state())
                    else:
                        getattr(bank, action)(name)
            elif action == "forget":
                bank.forget(name)
                del said[name]
            else:
                if action == "update":
                    bank.update(name, learned(new))
                    heard = new
                assert same(bank.state(name), learned(heard))
                del said[name]
                said[name] = heard
            if len(said) > 3:
                del said[next(iter(said))]
            assert bank.names() == list(said)
        for name in bank.names():
            assert same(bank.state(name), learned(said[name]))
        bank.close()


def test_eviction_goes_on_in_the_next_process(tmp_path):
    """The order of use is on the disk, even if the clock is set back."""
    with SpeakerBank(tmp_path, counting(), Spectrum()) as bank:
        for i, name in enumerate("abcd"):
            bank.update(name, counted(i), voice(300 + 600 * i))
        bank.state("a")
    ahead = 2**62
    for path in tmp_path.iterdir():
        stamp = path.stat().st_mtime_ns % 10**15 + ahead
        os.utime(path, ns=(stamp, stamp))
    bank = SpeakerBank(tmp_path, counting(), Spectrum(), max_speakers=4)
    assert bank.names() == ["b", "c", "d", "a"]
    bank.state("b")
    bank.close()
    bank = SpeakerBank(tmp_path, counting(), Spectrum(), max_speakers=3)
    # Opening removes nobody.
    assert bank.names() == ["c", "d", "a", "b"]
    bank.update("e", counted(5), voice(4000))
    assert bank.names() == ["a", "b", "e"]
    assert len(list(tmp_path.iterdir())) == len(bank) == 3
    bank.close()


def test_forgotten_is_gone(asr, tmp_path):
    """No file holds the name, the embeddings or the state."""
    bank = SpeakerBank(tmp_path, asr, Spectrum())
    bank.enrol("Ann", voice(300))
    only = tensors(bank.enrol("Secret", voice(900)))
    bank.update("Secret", bank.state("Secret"), voice(900, seed=1))
    shared = tensors(bank.state("Ann")).values()
    traces = [b"Secret"]
    for wav in (voice(900), voice(900, seed=1)):
        embedding = Spectrum().encode_batch(wav[None], None)[0, 0]
        embedding = torch.nn.functional.normalize(embedding, dim=0)
        traces.append(embedding.numpy().tobytes())
    for tensor in only.values():
        if tensor.numel() > 8 and not any(
            torch.equal(tensor, other) for other in shared
        ):
            traces.append(tensor.numpy().tobytes())
    assert len(traces) > 4

    def disk():
        return [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]

    for trace in traces:
        assert sum(trace in content for content in disk()) == 1
    assert bank.recognise(voice(900))[0] == "Secret"
    bank.forget("Secret")
    for trace in traces:
        assert not any(trace in content for content in disk())
    assert bank.names() == ["Ann"] and "Secret" not in bank
    assert bank.recognise(voice(900))[0] is None
    with pytest.raises(ValueError, match="'Secret': no speaker"):
        bank.state("Secret")
    # The name is free again, and begins anew.
    assert same(
        bank.enrol("Secret", voice(2100)), asr.adapt_to_speaker(voice(2100))
    )
    bank.close()


def bad_recordings():
    """What, its samples, the error."""
    noisy = voice(500)
    noisy[100] = float("nan")
    loud = voice(500)
    loud[7] = float("inf")
    padded = torch.cat([voice(500, 0.2), torch.zeros(5 * RATE)])
    yield "short", voice(500, 0.2), "0.20 s of sound; at least 1 s"
    yield "mostly silent", padded, "0.20 s of sound; at least 1 s"
    yield "empty", torch.zeros(0), "silence"
    yield "zeros", torch.zeros(3 * RATE), "silence"
    yield "offset", torch.full((3 * RATE,), 0.2), "silence"
    yield "hiss", 1e-4 * torch.randn(3 * RATE), "silence"
    turns = [voice(500, 2), voice(1500, 2)]
    yield "two voices", torch.cat(turns), "more than one voice"
    turns = [voice(500, 1), voice(1500, 1)] * 3
    yield "in turns", torch.cat(turns), "more than one voice"
    turns = [voice(500, 6), voice(1500, 1)]
    yield "a word of another", torch.cat(turns), "more than one voice"
    yield "nan", noisy, "not finite"
    yield "inf", loud, "not finite"
    yield "stereo", torch.randn(2, RATE), r"\(2, 16000\)"
    yield "integers", torch.ones(RATE, dtype=torch.int16), "int16"


@pytest.mark.parametrize(
    "wav, words", [pytest.param(w, m, id=n) for n, w, m in bad_recordings()]
)
def test_recordings_that_are_refused(asr, tmp_path, wav, words):
    with SpeakerBank(tmp_path / "bank", asr, Spectrum()) as bank:
        with pytest.raises(ValueError, match=words) as error:
            bank.enrol("Ann", wav)
        assert "\n" not in str(error.value)
        assert bank.names() == [] and not list(bank.folder.iterdir())
        if wav.ndim == 1 and wav.is_floating_point():
            path = tmp_path / "bad.wav"
            soundfile.write(path, wav.numpy(), RATE, subtype="FLOAT")
            with pytest.raises(ValueError, match="bad.wav"):
                bank.enrol("Ann", path)


def test_one_voice_is_not_refused(asr, tmp_path):
    """Pauses and a change of level are no second voice."""
    wav = torch.cat(
        [voice(500, 2), torch.zeros(RATE), 0.1 * voice(500, 2, seed=1)]
    )
    with SpeakerBank(tmp_path, asr, Spectrum()) as bank:
        assert bank.likeness(wav) > 0.99
        bank.enrol("Ann", wav)
        # A bound of its own.
        strict = SpeakerBank(tmp_path / "s", asr, Spectrum(), one_voice=1.01)
        with pytest.raises(ValueError, match="at least 1.01"):
            strict.enrol("Ann", wav)


def test_silence_is_nobody(asr, tmp_path):
    with SpeakerBank(tmp_path, asr, Spectrum()) as bank:
        bank.enrol("Ann", voice(500))
        assert bank.recognise(torch.zeros(RATE)) == (None, -1.0)
        assert bank.recognise(voice(500, 0.1)) == (None, -1.0)
        assert bank.recognise(torch.zeros(0)) == (None, -1.0)
        with pytest.raises(ValueError, match="not finite"):
            bank.recognise(voice(500) / 0)
        with pytest.raises(ValueError, match="at least 0.2 s of sound"):
            bank.update("Bo", asr.initial_state(), torch.zeros(RATE))


NAMES_ALLOWED = [
    "a/b",
    "../../etc/passwd",
    "/",
    "a\nb\r\n",
    "\0",
    " ",
    ".",
    "\ud800",
    "CON",
    "x" * 1000,
    "日本 🎤",
    "None",
]


def test_names(tmp_path):
    """Any text is a name, and none is a path."""
    bank = SpeakerBank(tmp_path / "a" / "bank", counting(), Spectrum())
    for i, name in enumerate(NAMES_ALLOWED):
        bank.update(name, counted(i), voice(300 + 400 * i))
    for name in ("", None, 5, b"Ann", ["Ann"], "x" * 10_001):
        for call in (
            lambda: bank.update(name, counted(0), voice(300)),
            lambda: bank.enrol(name, voice(300)),
            lambda: bank.forget(name),
        ):
            with pytest.raises(ValueError) as error:
                call()
            assert "\n" not in str(error.value) and len(str(error.value)) < 300
    bank.close()
    files = {p.parent for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {bank.folder}
    bank = SpeakerBank(bank.folder, counting(), Spectrum())
    assert bank.names() == NAMES_ALLOWED
    for i, name in enumerate(NAMES_ALLOWED):
        assert same(bank.state(name), counted(i))
        assert bank.recognise(voice(300 + 400 * i))[0] == name
        bank.forget(name)
    assert not list(bank.folder.iterdir())
    bank.close()


def test_a_bank_of_another_model_is_refused(asr, ecapa, tmp_path):
    """Both are named, nothing is lost, and the folder is not held."""
    other = load_embedder(write_ecapa(tmp_path / "other", seed=1))
    embedder = load_embedder(ecapa)
    folder = tmp_path / "bank"
    with SpeakerBank(folder, asr, embedder) as bank:
        bank.enrol("Ann", voice(500))
        ours = bank.identity
    before = {p: p.read_bytes() for p in folder.iterdir()}
    for model, encoder in ((counting("x"), embedder), (asr, other)):
        with pytest.raises(ValueError, match=str(folder)) as error:
            SpeakerBank(folder, model, encoder)
        assert ours["embedder"] in str(error.value)
        assert ours["model"] in str(error.value)
        words = "model x" if model is not asr else "embedder"
        assert words in str(error.value)
    with SpeakerBank(folder, asr, embedder) as bank:
        assert bank.names() == ["Ann"]
        assert {p: p.read_bytes() for p in folder.iterdir()} == before
        # The look-ahead is part of what a state belongs to.
        block = asr.identity["block"]
        asr.set_block(block * 2)
        try:
            with pytest.raises(ValueError, match="has become"):
                bank.state("Ann")
            with pytest.raises(ValueError, match="has become"):
                bank.update("Ann", asr.initial_state())
        finally:
            asr.set_block(block)
        assert same(bank.state("Ann"), asr.adapt_to_speaker(voice(500)))


def test_states_that_do_not_fit(asr, tmp_path):
    with SpeakerBank(tmp_path, asr, Spectrum()) as bank:
        for state, words in (
            (asr.initial_state(2), "2 rows"),
            (counted(1), "no state of this model"),
            (None, "no state of this model"),
            (asr.initial_state().pipeline, "no state of this model"),
        ):
            with pytest.raises(ValueError, match=words):
                bank.update("Ann", state, voice(500))
        assert not list(tmp_path.iterdir())


def test_damaged_files(tmp_path):
    """Named, not removed; other files of the folder are not touched."""
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "x.safetensors.1.part").write_text("mine")
    with SpeakerBank(tmp_path, counting(), Spectrum()) as bank:
        for i in range(2):
            bank.update(str(i), counted(i), voice(300 + 600 * i))
    path, other = tmp_path.glob("?" * 64 + ".safetensors")
    content = path.read_bytes()
    swapped = other.read_bytes()  # the file of another name
    for bad in (b"", content[:10], content[:-1], b"{" * 99, swapped):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=f"{path.name}.*remove it"):
            SpeakerBank(tmp_path, counting(), Spectrum())
        assert path.read_bytes() == bad
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=f"{path.name}.*remove it"):
        SpeakerBank(tmp_path, counting(), Spectrum())
    path.unlink()
    with SpeakerBank(tmp_path, counting(), Spectrum()) as bank:
        assert len(bank) == 1
    assert len(list(tmp_path.iterdir())) == 3


@contextlib.contextmanager
def nobody():
    """Without the rights of root, who may write anywhere."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        folder = Path(folder) / "bank"
        bank = SpeakerBank(folder, counting(), Spectrum())
        bank.update("Ann", counted(1), voice(300))
        folder.chmod(0o555)
        try:
            with nobody():
                # Lost while the bank is open: it stays as it is.
                with pytest.raises(OSError, match="cannot be written"):
                    bank.update("Bo", counted(2), voice(900))
                assert bank.names() == ["Ann"]
                assert bank.recognise(voice(300))[0] == "Ann"
                bank.close()
                for path in (folder, folder / "in"):
                    with pytest.raises(OSError) as error:
                        SpeakerBank(path, counting(), Spectrum())
                    words = str(error.value)
                    assert words.startswith(f"{path}: ")
                    assert "Permission denied; name a folder" in words
        finally:
            folder.chmod(0o755)
        with SpeakerBank(folder, counting(), Spectrum()) as bank:
            assert same(bank.state("Ann"), counted(1))
        with pytest.raises(OSError, match="cannot be kept here"):
            SpeakerBank(next(folder.iterdir()), counting(), Spectrum())


def test_one_bank_a_folder(tmp_path):
    bank = SpeakerBank(tmp_path, counting(), Spectrum())
    with pytest.raises(OSError, match="open already"):
        SpeakerBank(tmp_path, counting(), Spectrum())
    bank.close()
    for call in (
        lambda: bank.update("Ann", counted(1), voice(300)),
        lambda: SpeakerBank(tmp_path, counting(), object()),
        lambda: SpeakerBank(tmp_path, counting(), Spectrum(), max_speakers=0),
        lambda: SpeakerBank(
            tmp_path,
            counting(),
            SimpleNamespace(
                identity="", audio_normalizer=SimpleNamespace(sample_rate=8000)
            ),
        ),
    ):
        with pytest.raises(ValueError, match="closed|identity|least 1|8000"):
            call()
    # One that is no longer used does not hold the folder either.
    SpeakerBank(tmp_path, counting(), Spectrum())
    SpeakerBank(tmp_path, counting(), Spectrum()).close()


def test_no_such_embedder(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in (tmp_path, tmp_path / "none", "nobody/nothing"):
        with pytest.raises(ValueError, match=f"{source}: no encoder") as error:
            load_embedder(source)
        assert "\n" not in str(error.value)


def test_ten_thousand_speakers(tmp_path):
    """Opened, recognised, used and evicted; memory holds no states."""
    torch.manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(10_000, 64), dim=1)
    with SpeakerBank(tmp_path, counting(), Spectrum()) as bank:
        for i, embedding in enumerate(embeddings):
            # As `update` writes them, without its checks.
            kept = Voice(embedding.view(1, 1, -1), counted(i))
            kept.save(str(bank.files.path(f"{i}")), bank.files.config(f"{i}"))
            os.utime(bank.files.path(f"{i}"), ns=(i, i))
    bank = SpeakerBank(
        tmp_path, counting(), Spectrum(), 0.9, max_speakers=10_000
    )
    assert bank.names() == [f"{i}" for i in range(10_000)]
    for i in range(0, 10_000, 100):
        name, similarity = bank.nearest(3 * embeddings[i])
        assert name == f"{i}" and similarity == pytest.approx(1, abs=1e-5)
        assert bank.nearest(-embeddings[i])[0] is None
    assert same(bank.state("0"), counted(0))
    bank.update("2", counted(-2))
    for i in range(3):
        assert bank.nearest(embeddings[i])[0] == f"{i}"
    bank._embed = lambda wavs: torch.randn(len(wavs), 64)
    bank.update("new", counted(7), voice(300))
    assert len(bank) == 10_000 and "1" not in bank
    assert bank.names()[0] == "3" and bank.names()[-3:] == ["0", "2", "new"]
    assert bank.nearest(embeddings[1])[0] is None
    bank.close()


# A new speaker in a full bank, one that is heard again, one forgotten: what
# the bank holds before and after each step.
MOMENTS = [
    {"Ann": 1, "Bo": 1, "Cy": 1},
    {"Ann": 1, "Bo": 1, "Cy": 1, "Di": 2},
    {"Bo": 1, "Cy": 1, "Di": 2},
    {"Bo": 3, "Cy": 1, "Di": 2},
    {"Bo": 3, "Di": 2},
]


def change(bank, wavs):
    """Goes through these moments."""
    bank.update("Di", counted(2), wavs["Di"])
    bank.update("Bo", counted(3), wavs["Bo"])
    bank.forget("Cy")


def killed(folder, prepare):
    """Changes a bank in a process that is killed.

    Returns the signal, the moment that is found, and the sizes of unfinished
    files that were there before the bank was opened again.
    """
    wavs = {name: voice(pitch, 0.2) for name, pitch in NAMES.items()}
    for path in folder.iterdir():
        path.unlink()
    with SpeakerBank(folder, counting(), Spectrum()) as bank:
        for name, number in MOMENTS[0].items():
            bank.update(name, counted(number), wavs[name])
    child = os.fork()
    if child == 0:
        try:
            bank = SpeakerBank(folder, counting(), Spectrum(), max_speakers=3)
            prepare()
            change(bank, wavs)
            os._exit(0)
        except BaseException:
            sys.settrace(None)
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    left = [path.stat().st_size for path in folder.glob("*.part")]
    # The lock is free, the bank opens, each speaker is whole.
    with SpeakerBank(folder, counting(), Spectrum()) as bank:
        found = {}
        for name in sorted(bank.names()):
            found[name] = int(bank.state(name).frames)
            assert same(bank.state(name), counted(found[name]))
            assert bank.recognise(wavs[name])[0] == name
    assert found in MOMENTS, found
    assert len(list(folder.iterdir())) == len(found)
    return status, MOMENTS.index(found), left


def kill(folder):
    """Kills a process at each line that touches files, and while a file is
    written, after any number of bytes."""
    folder, line, status, reached, left = Path(folder), 0, 1, set(), []
    codes = {
        function.__code__
        for function in (
            SpeakerBank.update,
            SpeakerBank.forget,
            SpeakerBank._write,
            SpeakerBank._use,
            SpeakerFiles.write,
            SpeakerFiles.use,
            SpeakerFiles.remove,
            Voice.save,
            write_tensors,
        )
    }

    def stop_at(line):
        """SIGKILL before this line is run."""
        count = 0

        def trace(frame, event, _):
            nonlocal count
            if frame.f_code not in codes:
                return None
            if event == "line":
                count += 1
                if count > line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)

    while status != 0:
        status, moment, sizes = killed(folder, lambda: stop_at(line))
        assert status in (0, signal.SIGKILL), status
        reached.add(moment)
        left += sizes
        line += 1
    assert line > 50 and len(left) >= 4 and 0 in left
    assert reached == set(range(len(MOMENTS)))
    whole = min(size for size in left if size)

    def stop_after(size):
        """The system ends the process when a file gets larger."""
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    for size in (*range(0, whole - 1, whole // 10), whole - 1):
        status, moment, sizes = killed(folder, lambda: stop_after(size))
        assert status == signal.SIGXFSZ, status
        assert moment == 0 and sizes == [size]


def test_killed_at_any_moment(tmp_path):
    """Every speaker is as before or as after; nothing else is left; the lock
    is free."""
    subprocess.run(
        [sys.executable, __file__, "kill", str(tmp_path)], check=True
    )


if __name__ == "__main__":
    {"read": read, "kill": kill}[sys.argv[1]](*sys.argv[2:])
