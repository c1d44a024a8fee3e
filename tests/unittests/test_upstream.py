"""The contribution to SpeechBrain, written into a small checkout."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPE = "recipes/LibriSpeech/ASR/CTC"
ROWS = "tests/recipes/LibriSpeech.csv"
ASR = "speechbrain/lobes/models/transformer/TransformerASRLaCT.py"

FILES = {
    "speechbrain/version.txt": "1.1.0\n",
    "speechbrain/nnet/__init__.py": "",
    "pyproject.toml": """\
[tool.ruff]
line-length = 80

[tool.ruff.lint.isort]
known-first-party = ["speechbrain"]
split-on-trailing-comma = false
""",
    f"{RECIPE}/hparams/conformer_large.yaml": """\
# Encoder: Conformer Encoder
output_folder: !ref results/conformer_ctc/
attention_type: RelPosMHAXL
Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR # yamllint disable-line rule:line-length
    input_size: 6
    tgt_vocab: 5
    d_model: 16
    nhead: 2
    num_encoder_layers: 1
    num_decoder_layers: 0
    d_ffn: 16
    kernel_size: 3
    encoder_module: conformer
    attention_type: !ref <attention_type>
    normalize_before: True
    causal: False
""",
    f"{RECIPE}/README.md": """\
# How to run
or a Conformer CTC model with:

```
python train.py hparams/train_conformer.yaml
```
# Results
""",
    ROWS: f"""\
Script_file,Hparam_file,test_debug_flags,test_debug_checks
{RECIPE}/train.py,{RECIPE}/hparams/conformer_large.yaml,--a=1,"file_exists=[x,y]"
{RECIPE}/train.py,{RECIPE}/hparams/other.yaml,--b=1,
""",
}


def git(folder, *args):
    """What git says."""
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *args]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout


def commit(folder):
    """Commits everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")


def upstream(folder, root=ROOT, code=0):
    """Runs the tool; what it says."""
    run = subprocess.run(
        [sys.executable, str(root / "tools" / "upstream.py"), str(folder)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == code, run.stderr
    return run.stderr if code else run.stdout


def texts(folder):
    """Path and text of every file."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


@pytest.fixture
def checkout(tmp_path):
    """Enough of SpeechBrain for the tool."""
    folder = tmp_path / "checkout"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "init", "-q")
    commit(folder)
    return folder


# The installed SpeechBrain with the checkout's new files in its packages; the
# model of the new YAML must be the one of ours.
RUNS = """
import sys, torch
import speechbrain.lobes.models.transformer as transformer, speechbrain.nnet
from hyperpyyaml import load_hyperpyyaml
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)
for package in (transformer, speechbrain.nnet):
    name = package.__name__.replace(".", "/")
    package.__path__.append(f"{sys.argv[1]}/{name}")
torch.manual_seed(0)
with open(sys.argv[2]) as file:
    net = load_hyperpyyaml(file)["Transformer"].eval()
assert sys.modules[type(net).__module__].__file__.startswith(sys.argv[1])
mixer = net.encoder.layers[0].mixer
assert type(mixer).__module__ == "speechbrain.nnet.lact.lact"
torch.manual_seed(0)
ours = TransformerASR(
    5, 6, 16, 2, 1, 0, 16, kernel_size=3, encoder_module="conformer",
    attention_type="LaCT", normalize_before=True, causal=False,
).eval()
x = torch.randn(2, 40, 6)
assert torch.equal(net.encode(x), ours.encode(x))
assert (mixer.chunk_size, mixer.window.left) == (512, 64)
"""


def test_what_is_written_runs(checkout):
    """No import of ours is left, and the recipe's model is our model."""
    before = texts(checkout)
    said = upstream(checkout)
    after = texts(checkout)
    new = [path for path in after if path not in before]
    assert ASR in new and "speechbrain/nnet/lact/lact.py" in new
    assert "tests/unittests/test_lact_encoders.py" in new
    for path in new:
        assert f"written: {path}\n" in said
        if path.endswith(".py"):
            compile(after[path], path, "exec")
            for node in ast.walk(ast.parse(after[path])):
                if isinstance(node, ast.ImportFrom):
                    assert not node.module.startswith("speechbrain_lact")
                elif isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                    assert not any("_lact" in name for name in names)
    yaml = checkout / RECIPE / "hparams" / "lact_large.yaml"
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "-c", RUNS, str(checkout), str(yaml)],
        check=True,
        env={**os.environ, "PYTHONPATH": path.strip(os.pathsep)},
    )


def test_python_is_in_the_checkout_s_format(checkout):
    """Other names are of other lengths: imports and lines are set again."""
    upstream(checkout)
    for command in (["format", "--check"], ["check", "--select", "I"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "."],
            check=True,
            cwd=checkout,
        )


def test_files_of_speechbrain_gain_lines_only(checkout):
    """The test row and the README; nothing else changes."""
    upstream(checkout)
    changed = git(checkout, "diff", "--numstat").splitlines()
    assert sorted(changed) == [f"1\t0\t{ROWS}", f"7\t0\t{RECIPE}/README.md"]
    with open(checkout / ROWS) as file:
        host, row, other = csv.DictReader(file)
    assert (checkout / row.pop("Hparam_file")).is_file()
    del host["Hparam_file"]
    assert row == host != other


def test_twice_is_once(checkout):
    """Before the commit and after it."""
    upstream(checkout)
    first = texts(checkout)
    assert "written" not in upstream(checkout)
    assert texts(checkout) == first
    commit(checkout)
    upstream(checkout)
    assert git(checkout, "status", "--porcelain") == ""


def test_an_earlier_version_is_replaced(checkout):
    """Once committed, modules of ours give way to newer ones."""
    upstream(checkout)
    path = checkout / ASR
    newest = path.read_text()
    path.write_text(newest + "# old\n")
    commit(checkout)
    assert f"written: {ASR}" in upstream(checkout)
    assert path.read_text() == newest


@pytest.mark.parametrize(
    "name", [f"{RECIPE}/README.md", f"{RECIPE}/hparams/lact_large.yaml"]
)
def test_uncommitted_changes_are_kept(checkout, name):
    """Tracked or not: the file is named, and nothing at all is written."""
    path = checkout / name
    path.write_text("mine\n")
    before = texts(checkout)
    assert f"{name}: uncommitted changes" in upstream(checkout, code=1)
    assert texts(checkout) == before


def test_a_file_of_speechbrain_is_kept(checkout):
    """A module that they have under the name of one of ours."""
    path = checkout / ASR
    path.parent.mkdir(parents=True)
    path.write_text('"""Theirs."""\n')
    commit(checkout)
    assert f"{ASR}: a file of SpeechBrain's own" in upstream(checkout, code=1)
    assert path.read_text() == '"""Theirs."""\n'


def test_other_folders_are_refused(checkout, tmp_path):
    """No checkout, a part of one, another version, a recipe of another shape."""
    assert "not a git checkout" in upstream(tmp_path, code=1)
    assert "not a git checkout" in upstream(checkout / "recipes", code=1)
    shutil.copytree(checkout / "speechbrain", tmp_path / "speechbrain")
    assert "not a git checkout" in upstream(tmp_path, code=1)
    version = checkout / "speechbrain" / "version.txt"
    for other in ("1.10.0", "1.0.3", "2.1.1"):
        version.write_text(other)
        assert f"SpeechBrain {other}" in upstream(checkout, code=1)
    version.write_text("1.1.2")
    host = checkout / RECIPE / "hparams" / "conformer_large.yaml"
    host.write_text(host.read_text().replace("RelPosMHAXL", "RoPEMHA"))
    commit(checkout)
    before = texts(checkout)
    said = upstream(checkout, code=1)
    assert "no longer has 'attention_type: RelPosMHAXL' once" in said
    assert texts(checkout) == before


def test_new_modules_are_told(checkout, tmp_path):
    """One that is imported goes along; one that is not is reported."""
    for name in ("tools", "speechbrain_lact", "tests/unittests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    package = tmp_path / "speechbrain_lact"
    for name in ("needed", "also", "alone"):
        (package / "nnet" / f"{name}.py").write_text(
            '"""New.\n\nAuthors\n* speechbrain_lact contributors 2026\n"""\n\nX = 1\n'
        )
    with open(package / "nnet" / "state.py", "a") as file:
        file.write("\nfrom speechbrain_lact.nnet.needed import X  # noqa\n")
        file.write("from speechbrain_lact.nnet import also  # noqa\n")
    (tmp_path / "tests" / "unittests" / "test_drawn.py").write_text(
        "from hypothesis import given\nimport speechbrain_lact.nnet.state\n"
    )
    said = upstream(checkout, tmp_path)
    assert "test_drawn.py: needs hypothesis" in said
    assert "nnet/needed.py -> nnet/lact/needed.py" in said
    assert "nnet/alone.py: new, in neither" in said
    there = checkout / "speechbrain" / "nnet" / "lact"
    assert (there / "needed.py").is_file()
    state = (there / "state.py").read_text()
    assert "from speechbrain.nnet.lact.needed import X" in state
    assert "from speechbrain.nnet.lact import also" in state
    with open(package / "nnet" / "state.py", "a") as file:
        file.write("\nimport speechbrain_lact  # noqa\n")
    commit(checkout)
    said = upstream(checkout, tmp_path, code=1)
    assert "nnet/state.py: `import speechbrain_lact" in said


def test_results_are_those_of_the_documentation():
    """Tables of the pull request's text stand in docs/results.md."""
    text = (ROOT / "docs" / "upstream.md").read_text()
    results = text.partition("## Results")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|.*\d.*\|$", results, re.M)
    assert rows
    known = (ROOT / "docs" / "results.md").read_text().splitlines()
    assert [row for row in rows if row not in known] == []


def test_the_files_of_the_text_are_written(checkout):
    """The table of the pull request's text names no file that is gone."""
    text = (ROOT / "docs" / "upstream.md").read_text()
    table = text.partition("| file | what it is |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.M)
    named = {Path(name) for name in re.findall(r"`(.*?)`", " ".join(cells))}
    written = re.findall(r"^written: (.*)$", upstream(checkout), re.M)
    assert len(named) > 10
    for path in named:
        assert any(Path(new).match(str(path)) for new in written), path
