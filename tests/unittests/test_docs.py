"""What the documentation names exists: modules, files, packages, arrows; and
its sketch of a mixer runs.

Authors
* speechbrain_lact contributors 2026
"""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "speechbrain_lact"
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "recipes").glob("*/README.md")),
]
HOUSE = ROOT / "docs" / "house.md"
FOLDERS = ("recipes", "hparams", "benchmarks", "tools", "docs", "tests")
# A file that is named without its folder may lie in any of ours.
FILES = {
    path.name
    for folder in (PACKAGE, *(ROOT / name for name in FOLDERS))
    for path in folder.rglob("*.*")
}
# Pages of which most paths are of a SpeechBrain checkout: those of ours begin
# at the root.
OF_SPEECHBRAIN = {"docs/upstream.md", "docs/swap.md"}
# Written by a run, or made by a command on the same page.
MADE = re.compile(
    r"(adaptation|transfer|results|measures|config|run|preprocessor_config)"
    r"\.(md|json|csv)|(hyperparams|settings|streaming)\.yaml|data/.*"
)

NAME = re.compile(r"\bspeechbrain_lact(?:\.\w+)+")
PATH = re.compile(r"`(\.?[\w.*{},-]*/[\w./*{},-]+|[\w-]+\.\w+)`")
SUFFIXES = {".py", ".yaml", ".md", ".json", ".csv", ".patch"}
LINK = re.compile(r"\]\((?![a-z]+://|#)([^)#\s]+)")
IN_COMMAND = re.compile(
    r"\b((?:recipes|benchmarks|tools|hparams|tests)/[\w./-]+\.(?:py|yaml|csv))"
)


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError as error:
            # A library that is not installed says nothing of our names.
            if not (error.name or "").startswith(PACKAGE.name):
                return True
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def named_paths(text):
    """Paths of files and folders in backticks."""
    for path in PATH.findall(text):
        if not path.startswith("/") and (
            "/" in path or Path(path).suffix in SUFFIXES
        ):
            yield path


def missing_paths(text, page):
    """Paths in backticks, links and commands that do not exist."""
    folder = page.parent
    bases = ROOT, PACKAGE, folder
    theirs = page.relative_to(ROOT).as_posix() in OF_SPEECHBRAIN
    for path in named_paths(text):
        if MADE.fullmatch(path.rpartition("/")[2]) or MADE.fullmatch(path):
            continue
        if theirs and not path.startswith(f"{PACKAGE.name}/"):
            continue
        if path in FILES:
            continue
        if not any(any(base.glob(path)) for base in bases):
            yield path
    for path in LINK.findall(text):
        if not (folder / path).exists():
            yield path
    if not theirs:
        for path in IN_COMMAND.findall(text):
            # hparams/X_ctc.yaml: of any encoder X
            if not any(ROOT.glob(path.replace("/X_", "/*_"))):
                yield path


def page_id(page):
    """The page's path from the root."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_names_and_paths_exist(page):
    text = page.read_text("utf-8")
    assert [name for name in NAME.findall(text) if not exists(name)] == []
    assert list(missing_paths(text, page)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`speechbrain_lact/nnet/nothing.py`",
        "`nnet/nothing.py`",
        "`nothing_ctc.yaml`",
        "[a page](nothing.md)",
        "python recipes/LibriSpeech/nothing.py",
    ],
)
def test_a_path_put_in_by_hand_is_seen(text):
    assert len(list(missing_paths(text, HOUSE))) == 1


def test_a_name_put_in_by_hand_is_seen():
    assert exists("speechbrain_lact.nnet.lact.LaCT.forward")
    assert not exists("speechbrain_lact.nnet.nothing")
    assert not exists("speechbrain_lact.nnet.lact.Nothing")


def test_every_package_is_in_the_map():
    tree = re.search(r"```text\n(.*?)```", HOUSE.read_text("utf-8"), re.S)[1]
    folders = {
        path.parent.name
        for path in PACKAGE.rglob("__init__.py")
        if any(path.parent.glob("[!_]*.py"))
    }
    assert {name for name in folders if f"{name}/" not in tree} == set()


def test_the_arrows_are_those_of_the_test():
    """The table of docs/house.md, read back."""
    text = (ROOT / "tests/unittests/test_arrows.py").read_text("utf-8")
    arrows = {}
    exec(re.search(r"^ARROWS = \{.*?^\}", text, re.M | re.S)[0], {}, arrows)
    expected = {}
    for part, more in arrows["ARROWS"].items():
        one, _, theirs = more.partition(":")
        cell = ", ".join(f"`{name}`" for name in (one + theirs).split())
        expected[part] = cell + " and theirs" * bool(theirs) or "nothing"
    text = HOUSE.read_text("utf-8")
    table = text.partition("| package | may import |")[2].partition("\n\n")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.M)) == expected


def test_the_sketch_of_a_mixer_runs():
    (program,) = [
        block
        for block in re.findall(
            r"```python\n(.*?)```", HOUSE.read_text("utf-8"), re.S
        )
        if "(Mixer)" in block
    ]
    exec(program, {"__name__": "sketch"})
