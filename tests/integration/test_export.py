"""The exported folder: small, movable, read and never written, and its card.

Authors
* speechbrain_lact contributors 2026
"""

import base64
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from safetensors import safe_open
from safetensors.torch import save_file
from test_recipe import ROOT, hypotheses, refused, run

from speechbrain_lact.corpora.fsdd import SPEAKERS, prepare_fsdd
from speechbrain_lact.inference.card.corpora import find_corpus
from speechbrain_lact.inference.card.sources import UNKNOWN, training_sources
from speechbrain_lact.inference.export import load_weights, made_again

YAML_FILE = "hparams/lact_ctc.yaml"
REPO = "user/name"
SPLITS = ("train-clean-100", "train-digits", "train-own", "train-found")


class Hub(http.server.BaseHTTPRequestHandler):
    """The hub's answers to an upload of small files, and to a download."""

    files = {}

    def do_POST(self):
        """Takes a commit; refuses a card without metadata."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer hf_test":
            self.answer(401, {"error": "no token"})
        elif self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.answer(200, {"url": f"{self.url()}/{name}"})
        elif self.path == "/api/validate-yaml":
            front = json.loads(body)["content"].split("---\n")[1]
            assert "license" in YAML(typ="safe").load(front)
            self.answer(200, {})
        elif self.path == f"/api/models/{REPO}/preupload/main":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer(200, {"files": [{"path": p, **mode} for p in wanted]})
        elif self.path == f"/api/models/{REPO}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.files[line["value"]["path"]] = content
            url = f"{self.url()}/{REPO}/commit/{'0' * 40}"
            self.answer(200, {"commitUrl": url, "commitOid": "0" * 40})
        else:
            self.answer(404, {"error": self.path})

    def do_GET(self):
        """A file of the repository."""
        name = self.path.rpartition(f"/{REPO}/resolve/main/")[2]
        if name not in self.files:
            return self.answer(404, {"error": self.path})
        content = self.files[name]
        headers = {"X-Repo-Commit": "0" * 40, "ETag": f'"{name}"'}
        self.answer(200, content, **headers)

    do_HEAD = do_GET

    def url(self):
        """Its own address."""
        return "http://{}:{}".format(*self.server.server_address)

    def answer(self, code, content, **headers):
        """Sends JSON or bytes."""
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments):
        """Silent."""


@pytest.fixture(scope="module")
def hub():
    """Address of a server on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield "http://{}:{}".format(*server.server_address)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def environment(hub, tmp_path_factory):
    """Of a user who is logged in there, and has a home of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub)
        patch.setenv("HF_TOKEN", "hf_test")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        yield patch


@pytest.fixture(scope="module")
def data(corpus, tmp_path_factory):
    """Links to splits of four corpora: two of ours, two that nobody knows."""
    folder = tmp_path_factory.mktemp("data")
    recordings = folder / "fsdd" / "recordings"
    recordings.mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0, 0.1, 2000)
    for name in SPEAKERS:
        for digit, take in ((3, 0), (4, 0), (3, 1), (4, 1)):
            path = recordings / f"{digit}_{name}_{take}.wav"
            soundfile.write(path, noise, 8000)
    prepare_fsdd(folder / "fsdd", folder / "laid-out")
    voices = sorted((corpus / "train-clean-100").iterdir())
    links = folder / "links"
    links.mkdir()
    for name, voice in zip(SPLITS[2:], voices):
        shutil.copytree(voice, folder / name / "train-clean-100" / voice.name)
        (links / name).symlink_to(folder / name / "train-clean-100")
    digits = folder / "laid-out" / "train-clean-100"
    (links / "train-digits").symlink_to(digits)
    for name in ("train-clean-100", "dev-clean", "test-clean"):
        (links / name).symlink_to(corpus / name)
    return links


@pytest.fixture(scope="module")
def trained(data, environment, tmp_path_factory):
    """Output folder of a run that went to the hub."""
    out = tmp_path_factory.mktemp("out")
    run(
        YAML_FILE,
        data,
        out,
        # Hardly any training would teach the blank: at first all is likely.
        "--number_of_steps=1",
        "--lr=0.000001",
        "--test_memory=[reset, carried]",
        f"--train_splits=[{', '.join(SPLITS)}]",
        "--data_licenses={train-own: CC0-1.0}",
        f"--push_to_hub={REPO}",
    )
    return out


def table(text, first):
    """Rows of the table in Markdown whose first column has this name."""
    begin = re.search(rf"^\| {first} +\|", text, re.M).start()
    lines = text[begin:].split("\n\n")[0].splitlines()
    cells = [[c.strip() for c in line[1:-1].split("|")] for line in lines]
    return [dict(zip(cells[0], row)) for row in cells[2:]]


def test_card_says_what_the_run_found(trained):
    from huggingface_hub import ModelCard

    card = ModelCard.load(trained / "model" / "README.md")
    rows = json.loads((trained / "results.json").read_text())["rows"]
    assert [(row["test"], row["memory"]) for row in rows] == [
        ("test-clean", "reset"),
        ("test-clean", "carried"),
    ]
    found = {
        (result.metric_name, result.metric_value)
        for result in card.data.eval_results
    }
    assert found == {
        (f"{metric}, memory {row['memory']}", row[metric])
        for row in rows
        for metric in ("WER", "CER")
    }
    names = {result.dataset_name for result in card.data.eval_results}
    assert names == {"MiniSpeech test-clean"}
    for shown, row in zip(table(card.text, "test"), rows):
        del row["speakers"]
        assert shown == {key: str(value) for key, value in row.items()}
    assert f"{rows[0]['parameters']:,} parameters" in card.text
    assert card.data.library_name == "speechbrain"
    assert card.data.license == "other"
    assert "MiniSpeech test-clean: 2" in card.text


def test_card_names_every_source_and_its_licence(trained):
    text = (trained / "model" / "README.md").read_text()
    rows = {row["data"]: row for row in table(text, "data")}
    assert tuple(rows) == SPLITS
    found = {
        name: (row["corpus"], row["known from"]) for name, row in rows.items()
    }
    assert found == {
        "train-clean-100": ("MiniSpeech", "settings.json"),
        "train-digits": ("FSDD", "settings.json"),
        "train-own": ("", "data_licenses"),
        "train-found": ("", ""),
    }
    assert "espeak-ng (GPL-3.0)" in rows["train-clean-100"]["licence"]
    assert rows["train-digits"]["licence"] == "CC BY-SA 4.0"
    assert rows["train-own"]["licence"] == "CC0-1.0"
    assert rows["train-found"]["licence"] == UNKNOWN
    assert "not known of train-found" in text
    hours = sum(float(row["hours"]) for row in rows.values())
    total = float(re.search(r"Training audio: ([\d.]+) h", text)[1])
    assert abs(hours - total) < 0.03 and total > 0


def test_card_has_the_command_and_no_place_of_this_machine(trained, data):
    files = [p for p in (trained / "model").iterdir() if p.suffix != ".model"]
    for path in files:
        content = path.read_bytes()
        for place in (trained, data, ROOT):
            assert str(place).encode() not in content, path
    text = (trained / "model" / "README.md").read_text()
    command = re.search(r"```bash\n(.*?)\n```", text, re.DOTALL)[1]
    assert command.startswith(
        f"python recipes/LibriSpeech/train.py {YAML_FILE} "
    )
    for flag in ("--d_model=32", "--data_folder=/path/to/links", "--lr=0.00"):
        assert flag in command


def test_weights_are_all_there_is_and_anyone_may_read_them(trained, tmp_path):
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    folder = trained / "model"
    assert {path.stat().st_mode for path in folder.iterdir()} == {mode}
    model = load_hyperpyyaml((folder / "hyperparams.yaml").read_text())["model"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(dict(model.named_parameters()))
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]
    numbers = sum(np.prod(shape) for shape in shapes)
    assert (folder / "model.safetensors").stat().st_size < 4 * numbers + 20_000


def test_statistics_of_training_are_kept():
    text = "model: !new:torch.nn.BatchNorm1d\n  num_features: 2\n"
    model = torch.nn.BatchNorm1d(2)
    assert made_again(model, text) == ["running_mean", "running_var"]
    model(torch.randn(4, 2))
    assert made_again(model, text) == []


def test_wrong_weights_are_named(trained, tmp_path):
    folder = trained / "model"
    model = load_hyperpyyaml((folder / "hyperparams.yaml").read_text())["model"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}
        header = file.metadata()
    path, name = tmp_path / "model.safetensors", "2.w.weight"
    less = {key: value for key, value in state.items() if key != name}
    # Not even a header can leave a learned weight to the constructor.
    key = next(iter(header))
    for made in (header[key], f"{header[key]} {name}"):
        save_file(less, path, {key: made})
        with pytest.raises(ValueError, match=f"{name} is missing"):
            load_weights(model, path)
    save_file(state, path)
    with pytest.raises(ValueError, match=r"positional_encoding.*is missing"):
        load_weights(model, path)
    save_file({**state, "9.w": torch.ones(1)}, path, header)
    with pytest.raises(ValueError, match="9.w is too many"):
        load_weights(model, path)
    save_file({**state, name: torch.ones(2, 2)}, path, header)
    with pytest.raises(ValueError, match=name):
        load_weights(model, path)


TRANSCRIBE = """
import json, os, sys

FOLDER = os.path.realpath(sys.argv[1])
CHANGES = ("os.symlink", "os.link", "os.mkdir", "os.rename", "os.remove",
           "os.chmod", "os.truncate", "os.utime", "shutil.copyfile")

def refuse(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        raise RuntimeError(f"network: {event}")
    paths = [os.path.realpath(p) for p in arguments if isinstance(p, str)]
    here = [p for p in paths if p.startswith((FOLDER, os.getcwd()))]
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if here and (writes or event in CHANGES):
        raise RuntimeError(f"written: {event} {here}")

sys.addaudithook(refuse)
from speechbrain.inference.ASR import EncoderASR
from speechbrain_lact.inference.ASR import LaCTASR

words = []
for interface in (EncoderASR, LaCTASR):
    model = interface.from_hparams(source=sys.argv[1])
    words.append([model.transcribe_file(path) for path in sys.argv[2:]])
print(json.dumps(words))
"""


def tree(folder):
    """Everything in a folder, with its kind, size and time of change."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_size,
            path.lstat().st_mtime_ns,
        )
        for path in [folder, *folder.rglob("*")]
    }


def python(script, *arguments, cwd):
    """Last line that a script prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def heard(trained, corpus):
    """What the recipe's test has heard, and the files."""
    wanted = hypotheses(trained / "wer_test-clean_reset.txt")
    assert len(wanted) == 6 and len(set(wanted.values())) > 1
    paths = [next(corpus.glob(f"test-clean/*/*/{key}.flac")) for key in wanted]
    return list(wanted.values()), paths


def test_moved_and_read_only_it_says_the_same(trained, corpus, tmp_path):
    """Without network; a write there or in the current folder would raise,
    and be seen afterwards (root may write whatever the mode)."""
    wanted, paths = heard(trained, corpus)
    folder, here = tmp_path / "moved" / "model", tmp_path / "here"
    shutil.copytree(trained / "model", folder)
    here.mkdir()
    subprocess.run(["chmod", "-R", "a-w", folder], check=True)
    before = tree(folder), tree(here)
    for words in python(TRANSCRIBE, folder, *paths, cwd=here):
        assert [" ".join(text.split()) for text in words] == wanted
    assert (tree(folder), tree(here)) == before


def test_hub_has_the_folder_and_gives_it_back(trained, corpus, tmp_path):
    """The card's own lines, on what was uploaded."""
    folder = trained / "model"
    assert Hub.files == {p.name: p.read_bytes() for p in folder.iterdir()}
    wanted, paths = heard(trained, corpus)
    card = (folder / "README.md").read_text()
    script = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert f'source="{REPO}"' in script
    script = script.replace('"speech.wav"', repr(str(paths[0])))
    script = script.replace("print(", "import json; print(json.dumps(")
    script = script.rstrip() + ")\n"
    text = python(script, cwd=tmp_path)
    assert " ".join(text.split()) == wanted[0]
    assert list(tmp_path.iterdir()) == []


def test_not_logged_in_loses_nothing(trained, data, environment, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(trained, out)
    shutil.rmtree(out / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_TOKEN")
        line = refused(
            YAML_FILE,
            data,
            out,
            "--number_of_steps=1",
            "--lr=0.000001",  # as it was trained
            "--test_memory=[reset]",
            f"--train_splits=[{', '.join(SPLITS)}]",
            f"--push_to_hub={REPO}",
        )
    assert "push_to_hub" in line and "not logged in" in line
    assert "hf auth login" in line and str(out / "model") in line
    names = {path.name for path in (trained / "model").iterdir()}
    assert {path.name for path in (out / "model").iterdir()} == names


PUSH = """
import json, sys
from speechbrain_lact.inference.export import push_model
try:
    push_model(*sys.argv[1:])
except OSError as error:
    print(json.dumps(str(error)))
"""


def test_no_network_is_one_line(trained, environment, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        line = python(PUSH, trained / "model", REPO, cwd=tmp_path)
    assert line.startswith(f"push_to_hub: {trained / 'model'} is complete")
    assert "Connection refused" in line and "\n" not in line


def test_wrong_licences_stop_before_training(corpus, tmp_path):
    line = refused(
        YAML_FILE, corpus, tmp_path, "--data_licenses={train: CC0-1.0}"
    )
    assert "data_licenses: train is not one of MiniSpeech, train" in line
    assert not list((tmp_path / "save").glob("CKPT*"))
    settings = {"train_manifest": "train.jsonl"}
    for wrong in (["CC0-1.0"], {"train.jsonl": 1}):
        with pytest.raises(ValueError, match="data_licenses"):
            training_sources(settings, wrong)


def test_corpora_are_recognised_by_what_they_hold(tmp_path):
    split = tmp_path / "train-clean-100"
    chapter = split / "103" / "1240"
    chapter.mkdir(parents=True)
    readme = tmp_path / "README.md"
    readme.write_text("Laid out as LibriSpeech, compared with FSDD.")
    assert find_corpus(split) == (None, "")
    (chapter / "103-1240.trans.txt").touch()
    corpus, known_from = find_corpus(split)
    assert (corpus.name, corpus.licence) == ("LibriSpeech", "CC BY 4.0")
    assert known_from == "103/1240/103-1240.trans.txt"
    readme.write_text("LibriSpeech layout.\nAudio: Free Spoken Digit Dataset.")
    assert find_corpus(split)[0].name == "FSDD"
    readme.unlink()
    record = json.dumps({"corpus": "MiniSpeech", "settings": {}})
    (tmp_path / "settings.json").write_text(record)
    link = tmp_path / "elsewhere"
    link.symlink_to(split)
    assert find_corpus(link)[0].name == "MiniSpeech"


def test_digits_beside_the_project_are_recognised():
    folder = ROOT.parent / "shared" / "data" / "digits"
    if not folder.is_dir():
        pytest.skip("no ../shared/data/digits")
    corpus, known_from = find_corpus(folder / "train-clean-100")
    assert (corpus.name, known_from) == ("FSDD", "README.md")
