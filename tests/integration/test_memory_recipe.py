"""Initial memories in the recipe and in the model that it leaves.

Authors
* speechbrain_lact contributors 2026
"""

import json

import pytest
import torch
from safetensors import safe_open
from test_recipe import hypotheses, refused, results, run, weights

from speechbrain_lact.inference.ASR import LaCTASR
from speechbrain_lact.inference.speakers import load_embedder

YAML_FILE = "hparams/lact_memory_ctc.yaml"
# Of training, in the order of their voices; of the tests.
TRAINED = ["speech", "music", "speech", None]
TESTED = ["music", "speech"]
FLAGS = (
    "--number_of_steps=2",
    # The plain part stays as it was drawn: training would teach the blank,
    # and then nothing is said. The memory is moved far.
    "--trainable=['^3[.]']",
    "--lr=0.5",
    "--test_memory=[reset, carried]",
)


def write_manifest(path, split, domains):
    """JSON lines of a split, a domain for each of its voices."""
    lines = []
    voices = sorted({text.parents[1] for text in split.glob("*/*/*.trans.txt")})
    for voice, domain in zip(voices, domains):
        for text in sorted(voice.glob("*/*.trans.txt")):
            for line in text.read_text().splitlines():
                key, words = line.split(maxsplit=1)
                entry = {
                    "audio_filepath": str(text.parent / f"{key}.flac"),
                    "text": words,
                    "speaker": voice.name,
                }
                if domain is not None:
                    entry["domain"] = domain
                lines.append(json.dumps(entry))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def manifests(corpus, tmp_path_factory):
    """Flags that name three manifests, and their folder."""
    folder, flags = tmp_path_factory.mktemp("manifests"), []
    for name, split, domains in (
        ("train", "train-clean-100", TRAINED),
        ("valid", "dev-clean", [None]),
        ("test", "test-clean", TESTED),
    ):
        path = folder / f"{name}.jsonl"
        write_manifest(path, corpus / split, domains)
        flags.append(f"--{name}_manifest={path}")
    return flags, folder


@pytest.fixture(scope="module")
def trained(corpus, manifests, tiny_ecapa, tmp_path_factory):
    """What to run, and the output folder of such a run."""
    out = tmp_path_factory.mktemp("out")
    flags = (*manifests[0], *FLAGS, f"--speaker_encoder={tiny_ecapa}")
    arguments = YAML_FILE, corpus, out, *flags
    run(*arguments)
    return arguments, out


def test_both_are_trained_and_nothing_else(trained):
    _, out = trained
    path = out / "model" / "model.safetensors"
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
    # Names in their order; 2 rows for 3 domains would not do.
    assert found["3.domain.out"].shape[0] == 2
    moved = found["3.domain.out"].flatten(1).abs().amax(1)
    assert bool((moved > 0.1).all())
    assert found["3.speaker.amount.weight"].abs().max() > 0.1
    assert found["3.speaker.hidden.weight"].shape == (64, 8)


def test_the_run_goes_on_from_what_was_saved(trained):
    """Without the memory in the checkpoint the words would be others."""
    arguments, out = trained
    before, words = weights(out), hypotheses(out / "wer_test_reset.txt")
    exported = (out / "model" / "model.safetensors").read_bytes()
    rows = results(out)
    run(*arguments)
    after = weights(out)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert hypotheses(out / "wer_test_reset.txt") == words
    assert (out / "model" / "model.safetensors").read_bytes() == exported
    for key, row in results(out).items():
        assert row["speakers"] == rows[key]["speakers"]


def test_the_exported_model_says_the_same(trained, corpus, tiny_ecapa):
    """From the memory of the same domain and voice; and, from others, not."""
    _, out = trained
    asr = LaCTASR.from_hparams(str(out / "model"))
    embedder = load_embedder(tiny_ecapa)
    wanted = hypotheses(out / "wer_test_reset.txt")
    assert len(wanted) == 6 and len(set(wanted.values())) > 1
    firsts, said = {}, {"same": [], "domain": [], "voice": [], "plain": []}
    voices = sorted({key.split("-")[0] for key in wanted})
    for key in sorted(wanted):
        path = next(corpus.glob(f"test-clean/*/*/{key}.flac"))
        voice = key.split("-")[0]
        first = firsts.setdefault(voice, asr.load_audio(path))
        domain = TESTED[voices.index(voice)]
        other = TESTED[1 - voices.index(voice)]
        embedding = embedder.encode_batch(first).flatten()
        for kind, options in {
            "same": (domain, embedding),
            "domain": (other, embedding),
            "voice": (domain, -embedding),
            "plain": (),
        }.items():
            start = asr.initial_state(1, *options)
            text = asr.transcribe_file(path, start)
            said[kind].append(" ".join(text.split()))
    assert said["same"] == [wanted[key] for key in sorted(wanted)]
    for kind in ("domain", "voice", "plain"):
        assert said[kind] != said["same"], kind
    with pytest.raises(ValueError, match="'car' is not one of music, speech"):
        asr.initial_state(domain="car")
    with pytest.raises(ValueError, match=r"\(1, 5\), not \(1, 8\)"):
        asr.initial_state(speaker_embedding=torch.ones(5))


def test_a_model_without_says_so():
    from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX

    asr = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
    with pytest.raises(ValueError, match="lact_memory_ctc.yaml"):
        asr.initial_state(domain="speech")


def test_unknown_domain_is_named_before_training(corpus, manifests, tmp_path):
    flags, folder = manifests
    path = write_manifest(
        tmp_path / "strange.jsonl", corpus / "test-clean", ["speech", "car"]
    )
    flags = [*flags[:2], f"--test_manifest={path}", "--number_of_steps=1"]
    line = refused(YAML_FILE, corpus, tmp_path, *flags)
    assert "strange.csv: domain 'car' is not one of music, speech" in line
    assert not list((tmp_path / "save").glob("CKPT*"))
