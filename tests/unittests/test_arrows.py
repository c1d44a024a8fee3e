"""Which part of the project may import which, read from the imports.

Imports within functions count, and those in Python that a test hands to
another process as a text.

Authors
* speechbrain_lact contributors 2026
"""

import ast
import contextlib
import functools
import graphlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "speechbrain_lact"

# What the parts of the package may import, beside themselves and `utils`. Of
# those after a colon they may import all that these may.
ARROWS = {
    "utils": "",
    "nnet": "",
    "lobes": "nnet",
    "dataio": "",
    "corpora": "dataio",
    "processing": "nnet lobes dataio",
    "decoders": "nnet",
    "inference": "nnet lobes dataio corpora processing decoders",
    "training": ": inference convert",
    "serving": ": inference",
    "evaluation": ": training",
    "convert": ": inference",
    "cli": ": evaluation serving",
}
# Libraries that the layers need: they can then move to any other project.
LIBRARIES = {
    "nnet": {
        "torch",
        "torchaudio",
        "safetensors",
        "speechbrain.nnet",
        "lact_kernels",
    }
}

# Programs: they import the package, and nothing imports them.
PROGRAMS = ("recipes", "benchmarks", "tools")
READ = (PACKAGE, *PROGRAMS, "tests", "conftest.py", "setup.py")

# How Python is taught to find more modules.
PATH_CHANGE = re.compile(r"\bsys\s*\.\s*path\b|\baddsitedir\b")

# Files that are still wrong: none may be added.
STILL_WRONG = []


def files():
    """All Python of the project, by path from the root."""
    for name in READ:
        path = ROOT / name
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        for file in found:
            if file != Path(__file__):
                yield file.relative_to(ROOT), file.read_text("utf-8")


@functools.cache
def imports(text):
    """Pairs of a module that a Python program imports, and a name of it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: import by full name"
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"^\s*(import|from) ", node.value, re.MULTILINE):
                # Most are no program.
                with contextlib.suppress(SyntaxError):
                    found += imports(node.value)
    return found


def imported(text, modules):
    """Modules that a Python program imports; `modules`: those of ours."""
    for module, name in imports(text):
        inner = f"{module}.{name}"
        yield inner if inner in modules else module


def module_name(path):
    """What a file of the package is imported as."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    """The part of the package that a module belongs to."""
    return (module.split(".") + [""])[1]


def allowed(part):
    """Parts of the package that one of them may import."""
    one, _, more = ARROWS[part].partition(":")
    found = {part, "utils", *one.split(), *more.split()}
    return found.union(*(allowed(other) for other in more.split()))


def library_is_allowed(part, module):
    """Whether a part may import a module that is not of this project."""
    known = LIBRARIES.get(part)
    top = module.split(".")[0]
    if known is None or top in sys.stdlib_module_names:
        return True
    return any(f"{module}.".startswith(f"{name}.") for name in known)


def wrong_imports(found):
    """Pairs of a file and what it must not import; `found`: texts by path."""
    modules = {module_name(path) for path in found if path.parts[0] == PACKAGE}
    # A script finds the others of its folder by their bare names.
    scripts = {p.stem for p in found if p.parts[0] in PROGRAMS} | {*PROGRAMS}
    for path, text in found.items():
        for module in imported(text, modules):
            top = module.split(".")[0]
            if top in scripts:
                yield path.as_posix(), module
            if path.parts[0] != PACKAGE or path.parts[1:] == ("__init__.py",):
                continue
            part = part_of(module_name(path))
            if top == PACKAGE and part_of(module):
                if part not in ARROWS or part_of(module) not in allowed(part):
                    yield path.as_posix(), module
            elif top != PACKAGE and not library_is_allowed(part, module):
                yield path.as_posix(), module


def path_changes(found):
    """Pairs of a file that changes where modules are found, and "path"."""
    for path, text in found.items():
        if PATH_CHANGE.search(text):
            yield path.as_posix(), "path"


def circle(found):
    """Modules of the package that import each other in a circle, or none."""
    found = {
        module_name(path): text
        for path, text in found.items()
        if path.parts[0] == PACKAGE
    }
    graph = {
        module: {m for m in imported(text, found) if m in found} - {module}
        for module, text in found.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def new(pairs):
    """Those of files that are not known to be wrong."""
    return sorted({pair for pair in pairs if pair[0] not in STILL_WRONG})


@pytest.fixture(scope="module")
def project():
    return dict(files())


def test_every_arrow_is_allowed(project):
    assert new(wrong_imports(project)) == []


def test_kernels_import_torch_and_triton_alone():
    """They can then move to any other project."""
    found = sorted((ROOT / "kernels").rglob("*.py"))
    assert found
    for path in found:
        for module, _ in imports(path.read_text("utf-8")):
            top = module.split(".")[0]
            ours = {"torch", "triton", "lact_kernels"}
            assert top in ours or top in sys.stdlib_module_names, path


def test_no_circle(project):
    assert circle(project) == []


def test_modules_are_found_where_they_are_installed(project):
    assert new(path_changes(project)) == []


@pytest.mark.parametrize(
    "path, line, module",
    [
        ("nnet/x.py", "from speechbrain_lact.lobes import features", "lobes"),
        ("nnet/x.py", "import speechbrain.lobes.features", "speechbrain"),
        ("lobes/x.py", "import speechbrain_lact.dataio.audio", "dataio"),
        ("processing/x.py", "import speechbrain_lact.inference", "inference"),
        ("utils/x.py", "from speechbrain_lact.nnet.lact import LaCT", "nnet"),
        ("inference/x.py", "import speechbrain_lact.cli", "cli"),
        ("inference/x.py", "from recipes.LibriSpeech import train", "recipes"),
        ("new/x.py", "from speechbrain_lact.nnet.lact import LaCT", "nnet"),
        ("cli/x.py", "from train import main", "train"),
    ],
)
def test_an_arrow_put_in_by_hand_is_seen(path, line, module, project):
    path, before = Path(PACKAGE, path), {*wrong_imports(project)}
    for text in (line, f"def f():\n    {line}", f'RUN = """\n{line}\n"""'):
        found = {*wrong_imports({**project, path: text})} - before
        assert len(found) == 1 and module in found.pop()[1]


def test_a_circle_put_in_by_hand_is_seen():
    one, other = Path(PACKAGE, "nnet/one.py"), Path(PACKAGE, "nnet/other.py")
    texts = {
        one: "def f():\n    from speechbrain_lact.nnet import other",
        other: "from speechbrain_lact.nnet.one import f",
    }
    assert "speechbrain_lact.nnet.one" in circle(texts)


@pytest.mark.parametrize(
    "text", ["import sys\nsys{}path.append('.')", "RUN = 'sys{}path[:0] = []'"]
)
def test_a_change_of_the_path_put_in_by_hand_is_seen(text):
    path = Path("tests/x.py")
    assert {*path_changes({path: text.format(".")})} == {("tests/x.py", "path")}
