"""Writes LaCT into a SpeechBrain 1.1 checkout, as a contribution.

What goes: the encoders and all they import, without kernels, their tests, a
recipe YAML made from SpeechBrain's own, its test row and a line of the
recipe's README. Imports are rewritten, and everything is formatted with the
checkout's settings. docs/upstream.md is the text of the pull request.

usage: python tools/upstream.py CHECKOUT [--check]

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import ast
import csv
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "speechbrain_lact"
VERSION = "1.1"
# Stands in every module of ours, and in none of SpeechBrain's.
AUTHORS = "speechbrain_lact contributors"

# This module and all it imports are the contribution.
TOP = "lobes/models/transformer/TransformerASR.py"

# Where modules go. One that `TOP` comes to import and that is not named here
# goes beside the others of nnet, or keeps its path.
MODULES = {
    "nnet/fast_optim.py": "nnet/lact/fast_optim.py",
    "nnet/fast_weight.py": "nnet/lact/fast_weight.py",
    "nnet/lact.py": "nnet/lact/lact.py",
    "nnet/state.py": "nnet/lact/state.py",
    "nnet/window_attention.py": "nnet/lact/window_attention.py",
    "lobes/models/transformer/decoder.py": (
        "lobes/models/transformer/LaCTDecoder.py"
    ),
    "lobes/models/transformer/encoder.py": (
        "lobes/models/transformer/LaCTEncoder.py"
    ),
    "lobes/models/transformer/layers.py": (
        "lobes/models/transformer/LaCTLayers.py"
    ),
    # SpeechBrain's own file of that name stays as it is.
    TOP: "lobes/models/transformer/TransformerASRLaCT.py",
}

# What stays here, and why: modules, and folders for all that lies directly in
# them.
STAYS = {
    "cli": "a command of our own",
    "convert.py": "turns trained encoders into LaCT: a change of its own",
    "corpora": "SpeechBrain has its own preparation",
    "corpora/mini_speech": "a corpus of our own",
    "dataio": "the recipe uses SpeechBrain's readers",
    "decoders/seq2seq.py": "a faster search: a change of its own",
    "decoders/streaming.py": "greedy CTC for StreamingASR: a change of its own",
    "evaluation": "the recipe uses SpeechBrain's metrics",
    "evaluation/adaptation": "experiments of our own",
    "evaluation/audio": "measures of generated audio: a change of its own",
    "evaluation/transfer": "experiments of our own",
    "inference": "interfaces to models with a state: a change of their own",
    "inference/card": "writes what our own recipe has trained",
    "inference/export.py": "writes what our own recipe has trained",
    "lobes/features.py": "the recipe uses SpeechBrain's features",
    "lobes/models/LaCTAudioLM.py": "language models: a change of their own",
    "lobes/models/audio_lm": "language models: a change of their own",
    "lobes/models/audio_tokenizers": "for the language models",
    "lobes/models/convolution.py": "the recipe uses SpeechBrain's front end",
    "lobes/models/initial_memory.py": "a change of its own",
    "lobes/models/pipeline.py": "the recipe has these steps in its script",
    "lobes/models/pretrained.py": "would belong to speechbrain/integrations",
    "nnet/cross_fade.py": "for the audio tokenizers",
    "nnet/losses.py": "a transducer loss without numba: a change of its own",
    "processing": "the recipe's memory begins anew each utterance",
    "processing/diarization": "a change of its own",
    "training": "the recipe has a script of its own",
    "utils": "for our own commands and recipes",
    "utils/checkpoints.py": "the recipe uses SpeechBrain's checkpointer",
}

NEW = "new, in neither MODULES nor STAYS"

INIT = '"""Package containing LaCT: window attention and fast weights"""\n'

# The recipe: SpeechBrain's YAML, script, test row and README.
RECIPE = "recipes/LibriSpeech/ASR/CTC"
HOST = f"{RECIPE}/hparams/conformer_large.yaml"
YAML = f"{RECIPE}/hparams/lact_large.yaml"
ROWS = "tests/recipes/LibriSpeech.csv"
README = f"{RECIPE}/README.md"

# The YAML differs from its host in these places; each is there once.
CHANGES = [
    (
        "# Encoder: Conformer Encoder\n",
        "# Encoder: Conformer Encoder with LaCT in place of attention\n"
        "#          (https://arxiv.org/abs/2505.23884)\n",
    ),
    ("results/conformer_ctc/\n", "results/lact_ctc/\n"),
    (
        "attention_type: RelPosMHAXL\n",
        "attention_type: LaCT\n"
        "lact_chunk_size: 512 # Encoder frames per update of the memory\n"
        "lact_window: [64, 64] # Frames attention sees to the left and right\n",
    ),
    ("TransformerASR.TransformerASR ", "TransformerASRLaCT.TransformerASR "),
    (
        "    attention_type: !ref <attention_type>\n",
        "    attention_type: !ref <attention_type>\n"
        "    lact_chunk_size: !ref <lact_chunk_size>\n"
        "    lact_window: !ref <lact_window>\n",
    ),
]

USAGE = "```\npython train.py hparams/train_conformer.yaml\n```\n"
OUR_USAGE = """\
or a Conformer with [LaCT](https://arxiv.org/abs/2505.23884) in place of
attention, that is window attention and a memory that learns while the model
runs, with:

```
python train.py hparams/lact_large.yaml
```
"""


class Refused(Exception):
    """What is wrong with the checkout or the table, in one line."""


def dotted(path):
    """The dotted name of a module's path."""
    return path[: -len(".py")].replace("/", ".")


def read(path):
    """The text of a file."""
    return path.read_text(encoding="utf-8")


def write(folder, texts):
    """Writes texts to their paths in a folder."""
    for path, text in texts.items():
        there = Path(folder, path)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, encoding="utf-8")


def imported(text):
    """All dotted names that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{a.name}" for a in node.names)
    return names


def modules_of(text):
    """Paths of the modules of ours that a module imports."""
    paths = {name.replace(".", "/") + ".py" for name in imported(text)}
    ours = {path.relative_to(PACKAGE).as_posix() for path in sources()}
    return {path for path in ours if f"{PACKAGE.name}/{path}" in paths}


def sources():
    """All modules of ours."""
    found = sorted(PACKAGE.rglob("*.py"))
    return [path for path in found if path.name != "__init__.py"]


def chosen():
    """What goes: path of ours -> path of theirs, both within the package."""
    found, waiting = set(), [TOP]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += modules_of(read(PACKAGE / path))
    return {
        path: MODULES.get(path, re.sub("^nnet/", "nnet/lact/", path))
        for path in sorted(found)
    }


def rewritten(path, places):
    """The text of a file of ours with the names that SpeechBrain has."""
    text = read(path)
    for ours, theirs in places.items():
        ours, theirs = f"{PACKAGE.name}/{ours}", f"speechbrain/{theirs}"
        # from package import module
        old, new = (dotted(x).rpartition(".") for x in (ours, theirs))
        line = f"from {new[0]} import {new[2]}"
        if new[2] != old[2]:
            line += f" as {old[2]}"
        text = re.sub(rf"from {old[0]} import {old[2]}\b", line, text)
        # package.module
        text = re.sub(rf"\b{re.escape(dotted(ours))}\b", dotted(theirs), text)
    left = re.search(rf"(from|import) {PACKAGE.name}.*", text)
    if left:
        raise Refused(
            f"{path.relative_to(ROOT)}: `{left[0]}` has no place in "
            f"SpeechBrain: see MODULES in {Path(__file__).name}"
        )
    return text


def tests(places):
    """Tests that import what goes and nothing else of ours.

    Arguments
    ---------
    places : dict
        What goes.

    Returns
    -------
    taken : list of pathlib.Path
    stay : dict
        Path of a test of what goes that stays: reason.
    """
    taken, stay = [], {}
    for path in sorted((ROOT / "tests" / "unittests").glob("test_*.py")):
        text = read(path)
        needs = modules_of(text)
        if not needs & set(places):
            continue
        if "hypothesis" in imported(text):
            stay[path] = "needs hypothesis"
        elif needs - set(places):
            stay[path] = f"needs {', '.join(sorted(needs - set(places)))}"
        else:
            taken.append(path)
    return taken, stay


class Checkout:
    """A SpeechBrain checkout.

    Arguments
    ---------
    folder : str
        Its root.
    """

    def __init__(self, folder):
        self.folder = Path(folder).resolve()
        version = self.folder / "speechbrain" / "version.txt"
        top = self.git("rev-parse", "--show-toplevel", check=False).strip()
        if not version.is_file() or Path(top) != self.folder:
            raise Refused(f"{folder}: not a git checkout of SpeechBrain")
        found = version.read_text().strip()
        if not f"{found}.".startswith(f"{VERSION}."):
            raise Refused(f"{folder}: SpeechBrain {found}, not {VERSION}")

    def git(self, *args, check=True):
        """What git says."""
        command = ["git", "-C", str(self.folder), *args]
        run = subprocess.run(command, capture_output=True, text=True)
        if check and run.returncode:
            raise Refused(f"{shlex.join(command)}: {run.stderr.strip()}")
        return run.stdout if run.returncode == 0 else ""

    def committed(self, path):
        """A file as committed, empty where there is none."""
        return self.git("show", f"HEAD:{path}", check=False)

    def formatted(self, texts):
        """Python as the checkout's ruff settings have it."""
        settings = ["--quiet", "--config", str(self.folder / "pyproject.toml")]
        with tempfile.TemporaryDirectory() as aside:
            write(aside, texts)
            for options in (["check", "--select", "I", "--fix"], ["format"]):
                run = subprocess.run(
                    [sys.executable, "-m", "ruff", *options, *settings, "."],
                    cwd=aside,
                    capture_output=True,
                    text=True,
                )
                if run.returncode:
                    raise Refused(f"ruff: {run.stdout}{run.stderr}".strip())
            return {path: read(Path(aside) / path) for path in texts}

    def replaced(self, path, text, pairs):
        """A text changed in places that it must have."""
        for old, new in pairs:
            if text.count(old) != 1:
                raise Refused(f"{path}: no longer has {old.strip()!r} once")
            text = text.replace(old, new)
        return text

    def inserted(self, path, after, new):
        """A committed file with a text after another one, if it lacks it."""
        text = self.committed(path)
        if new in text:
            return text
        return self.replaced(path, text, [(after, after + new)])

    def row(self):
        """The line of the recipe's tests, and its host's."""
        text = self.committed(ROWS)
        hosts = [x for x in text.splitlines(True) if f",{HOST}," in x]
        if len(hosts) != 1:
            raise Refused(f"{ROWS}: {len(hosts)} rows of {HOST}, not one")
        return hosts[0], hosts[0].replace(HOST, YAML)

    def contents(self, places, taken):
        """Everything the contribution writes.

        Arguments
        ---------
        places : dict
            Modules that go.
        taken : list
            Tests that go.

        Returns
        -------
        dict
            Path in the checkout: text.
        """
        python = {"speechbrain/nnet/lact/__init__.py": INIT}
        for ours, theirs in places.items():
            path = f"speechbrain/{theirs}"
            before = self.committed(path)
            if before and AUTHORS not in before:
                raise Refused(
                    f"{path}: a file of SpeechBrain's own; give {ours} "
                    f"another name in MODULES of {Path(__file__).name}"
                )
            python[path] = rewritten(PACKAGE / ours, places)
        for path in taken:
            name = path.name.replace("test_", "test_lact_", 1)
            name = name.replace("_lact_lact", "_lact")
            python[f"tests/unittests/{name}"] = rewritten(path, places)
        texts = self.formatted(python)
        texts[YAML] = self.replaced(HOST, self.committed(HOST), CHANGES)
        texts[ROWS] = self.inserted(ROWS, *self.row())
        texts[README] = self.inserted(README, USAGE, OUR_USAGE)
        return texts

    def write(self, texts):
        """Writes what differs, or nothing if that would lose a change."""
        status = self.git(
            "status", "--porcelain", "-z", "--untracked-files=all", "--", *texts
        )
        dirty = {line[3:] for line in status.split("\0") if line}
        differ = {}
        for path, text in texts.items():
            there = self.folder / path
            if not there.is_file() or read(there) != text:
                differ[path] = text
                if path in dirty:
                    raise Refused(
                        f"{path}: uncommitted changes would be lost; commit "
                        f"or remove them"
                    )
        write(self.folder, differ)
        return differ


def checks(folder, texts):
    """The checks of SpeechBrain's pre-commit and CI, as shell commands."""
    python = [path for path in texts if path.endswith(".py")]
    new = [path for path in python if path.startswith("tests/")]
    modules = [path for path in python if path.startswith("speechbrain/")]
    known = [
        f"tests/unittests/{path.name}"
        for name in (
            "conformer",
            "transformer*",
            "attention",
            "streaming",
            "dyn*",
        )
        for path in sorted((folder / "tests/unittests").glob(f"test_{name}.py"))
    ]
    words = ["--ignore-words=.dict-speechbrain.txt"]
    here = (
        "import os, speechbrain as s; assert s.__file__.startswith(os.getcwd())"
    )
    test = ["python", "-m", "pytest", "-q"]
    return [
        ["python", "-c", here],
        ["ruff", "format", "--check", *python],
        ["ruff", "check", *python],
        ["yamllint", YAML],
        ["codespell", *words, *(path for path in texts if path != ROWS)],
        [*test, "tests/consistency"],
        [*test, *new],
        [*test, "--doctest-modules", *modules],
        [*test, *known],
        *recipe(texts[ROWS]),
    ]


def recipe(rows):
    """What SpeechBrain's recipe test of our YAML does."""
    found = [x for x in csv.DictReader(rows.splitlines()) if YAML in x.values()]
    flags = shlex.split(found[0]["test_debug_flags"])
    files = found[0]["test_debug_checks"].partition("[")[2].split("]")[0]
    out = "tests/tmp/lact_large"
    debug = ["--debug", "--debug_persistently", "--device=cpu"]
    train = ["python", f"{RECIPE}/train.py", YAML, *flags, *debug]
    return [
        ["rm", "-rf", out],
        [*train, f"--output_folder={out}"],
        ["ls", *(f"{out}/{file}" for file in files.split(","))],
    ]


def run(folder, commands):
    """Runs the checks; the number of those that fail."""
    bin_folder = os.path.dirname(sys.executable)
    env = {**os.environ, "PYTHONPATH": str(folder)}
    env["PATH"] = os.pathsep.join([bin_folder, env["PATH"]])
    failed = 0
    for command in commands:
        print(f"+ {shlex.join(command)}", flush=True)
        made = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True
        )
        lines = (made.stdout + made.stderr).strip().splitlines() or [""]
        print("\n".join(lines[-40:] if made.returncode else lines[-1:]))
        print("FAILED" if made.returncode else "passed", flush=True)
        failed += made.returncode != 0
    return failed


def main(argv=None):
    """Writes, says what it wrote and what stays, and checks if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", help="a clean SpeechBrain 1.1 checkout")
    parser.add_argument("--check", action="store_true", help="run the checks")
    args = parser.parse_args(argv)
    try:
        checkout, places = Checkout(args.checkout), chosen()
        taken, stay = tests(places)
        texts = checkout.contents(places, taken)
        differ = checkout.write(texts)
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    for path in texts:
        print(f"{'written' if path in differ else 'as it was'}: {path}")
    for path in [p.relative_to(PACKAGE).as_posix() for p in sources()]:
        if path in places and path not in MODULES:
            print(f"new, taken as it is imported: {path} -> {places[path]}")
        elif path not in places:
            folder = Path(path).parent.as_posix()
            reason = STAYS.get(path) or STAYS.get(folder, NEW)
            print(f"stays: {path}: {reason}")
    for path, reason in stay.items():
        print(f"stays: {path.relative_to(ROOT).as_posix()}: {reason}")
    for folder in ("speechbrain", "tests/unittests"):
        found = [x for path, x in texts.items() if path.startswith(folder)]
        lines = sum(text.count("\n") for text in found)
        print(f"{folder}: {len(found)} new files, {lines} lines")
    commands = checks(checkout.folder, texts)
    if args.check:
        return 1 if run(checkout.folder, commands) else 0
    print("checks, in the checkout:\nexport PYTHONPATH=$PWD")
    print("\n".join(shlex.join(command) for command in commands))
    return 0


if __name__ == "__main__":
    sys.exit(main())
