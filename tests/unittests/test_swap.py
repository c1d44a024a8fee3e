"""The patches of SpeechBrain's YAMLs: LaCT needs two lines of each, and the
names in them exist.

Authors
* speechbrain_lact contributors 2026
"""

import re
from pathlib import Path
from pydoc import locate

import pytest

from speechbrain_lact.lobes.models.transformer.encoder import (
    LaCTConformerEncoder,
)
from speechbrain_lact.nnet.losses import transducer_loss

SWAP = Path(__file__).parents[2] / "docs" / "swap"
YAMLS = [
    "CTC/hparams/conformer_large.yaml",
    "transducer/hparams/conformer_transducer.yaml",
    "transformer/hparams/conformer_small.yaml",
]
NAME = r"!(?:new|name):(\S+)"


def changes(name):
    """Lines removed from and added to each YAML, and the numbers of the
    lines removed."""
    files = {}
    for part in (SWAP / name).read_text().split("diff --git ")[1:]:
        path = re.search(r"^\+\+\+ b/recipes/LibriSpeech/ASR/(.*)$", part, re.M)
        removed, added = {}, []
        for hunk in re.split(r"^@@ -", part, flags=re.M)[1:]:
            number = int(hunk.split(",")[0])
            for line in hunk.splitlines()[1:]:
                if line.startswith("+"):
                    added.append(line[1:])
                    continue
                if line.startswith("-"):
                    removed[number] = line[1:]
                number += 1
        files[path[1]] = removed, added
    return files


def test_lact_needs_two_lines():
    """The prefix of one class, and its attention type."""
    files = changes("lact.patch")
    assert sorted(files) == YAMLS
    for removed, added in files.values():
        assert len(removed) == len(added) == 2
        for before, after in zip(removed.values(), added):
            key = before.split(":")[0].strip()
            if key == "Transformer":
                assert before.count("!new:speechbrain.") == 1
                expected = before.replace(
                    "!new:speechbrain.", "!new:speechbrain_lact."
                )
            else:
                assert key == "attention_type"
                expected = re.sub("RelPosMHAXL|RoPEMHA", "LaCT", before)
            assert after == expected != before


def test_the_other_changes_are_elsewhere():
    """What the data needs touches no line that LaCT needs, and names no
    LaCT: the two patches stand alone."""
    lact, digits = changes("lact.patch"), changes("digits.patch")
    assert sorted(digits) == YAMLS
    for path, (removed, added) in digits.items():
        assert not removed.keys() & lact[path][0].keys()
        assert not any("LaCT" in line for line in added)


@pytest.mark.parametrize("path", YAMLS)
def test_the_class_takes_what_the_yaml_gives(path):
    """With the arguments that SpeechBrain's YAMLs give their encoder."""
    _, added = changes("lact.patch")[path]
    values = dict(re.match(r" *(\w+): (\S+)", line).groups() for line in added)
    cls = locate(re.match(NAME, values["Transformer"])[1])
    net = cls(
        input_size=640,
        tgt_vocab=29,
        d_model=32,
        nhead=4,
        num_encoder_layers=2,
        num_decoder_layers=0,
        d_ffn=64,
        dropout=0.1,
        activation=locate("torch.nn.GELU"),
        encoder_module="conformer",
        attention_type=values["attention_type"],
        normalize_before=True,
        causal=False,
    )
    assert isinstance(net.encoder, LaCTConformerEncoder)


def test_the_loss_is_that_of_the_patch():
    """The one name of ours that a CPU needs with any encoder."""
    names = {
        name
        for _, added in changes("digits.patch").values()
        for name in re.findall(NAME, "\n".join(added))
    }
    (name,) = (name for name in names if name.startswith("speechbrain_lact."))
    assert locate(name) is transducer_loss
