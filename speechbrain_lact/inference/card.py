"""The card of a trained model: a README that the Hugging Face hub reads.

It says what the run itself knows: the command, the results, and what the
training data are. A corpus is recognised by what lies in its folder, never by
the names of its splits, which any data may have; what is not recognised is
called unknown, unless the recipe's `data_licenses` says more.

Authors
* speechbrain_lact contributors 2026
"""

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ruamel.yaml import YAML

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.corpora.folder import SETTINGS_FILE

UNKNOWN = "unknown: not stated (set data_licenses)"

# The hub's names of licences; another one is `other` there.
HUB_LICENSES = (
    "apache-2.0 mit cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
    "cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0"
).split()


@dataclass(frozen=True)
class Corpus:
    """What is known of a corpus that this project makes or lays out.

    Arguments
    ---------
    name : str
        Its name; that of its record, where it has one.
    licence : str
        Its licence, short.
    about : str
        Where it comes from, and what the licence asks for.
    voices : str
        Who speaks and what.
    language : str
        ISO 639-1.
    hub : str
        Its name on the hub, or else its own.
    """

    name: str
    licence: str
    about: str
    voices: str
    language: str
    hub: str


MINI_SPEECH = Corpus(
    name="MiniSpeech",
    licence="text Apache-2.0 (ours), audio spoken by espeak-ng (GPL-3.0)",
    about="Made by `recipes/MiniSpeech/mini_speech_prepare.py`. The sentences "
    "come from speechbrain_lact's own grammar (Apache-2.0). The program "
    "espeak-ng, GPL-3.0 or later, speaks them. That licence is the program's; "
    "it covers what a program puts out only if that is itself a covered work "
    "(its section 2). No part of the program is in this folder, and we know "
    "of no other terms for the speech. This is our reading, not legal advice.",
    voices="synthetic voices only, no person; sentences of one small grammar",
    language="en",
    hub="MiniSpeech",
)
FSDD = Corpus(
    name="FSDD",
    licence="CC BY-SA 4.0",
    about="Free Spoken Digit Dataset, "
    "https://github.com/Jakobovski/free-spoken-digit-dataset, by its "
    "contributors, CC BY-SA 4.0. Changed: digits joined to utterances, levels "
    "set, pauses of faint noise added, resampled from 8 to 16 kHz. Whoever "
    "shares the audio, changed or not, does so under the same licence.",
    voices="a few men saying digits, recorded at 8 kHz",
    language="en",
    hub="FSDD",
)
LIBRISPEECH = Corpus(
    name="LibriSpeech",
    licence="CC BY 4.0",
    about="LibriSpeech, https://www.openslr.org/12 (mini LibriSpeech: "
    "https://www.openslr.org/31), V. Panayotov, G. Chen, D. Povey and "
    "S. Khudanpur, 2015, CC BY 4.0.",
    voices="volunteers reading books aloud",
    language="en",
    hub="openslr/librispeech_asr",
)
CORPORA = {corpus.name: corpus for corpus in (MINI_SPEECH, FSDD, LIBRISPEECH)}

# What a README or the head of SPEAKERS.TXT says of the audio.
DIGITS = re.compile(r"(^; |\bAudio: )Free Spoken Digit Dataset\b", re.MULTILINE)

# A chapter of each split of LibriSpeech, the first one of most.
CHAPTERS = {
    "train-clean-100": "103/1240",
    "train-clean-360": "100/121669",
    "train-other-500": "20/205",
    "dev-clean": "1272/128104",
    "dev-other": "116/288045",
    "test-clean": "1089/134686",
    "test-other": "1688/142285",
    "train-clean-5": "1088/134315",
    "dev-clean-2": "1272/135031",
}


@dataclass
class Source:
    """Something that a model was trained on, or started from.

    Arguments
    ---------
    name : str
        Split, manifest, or model that it started from.
    licence : str
        Its licence, or that it is unknown.
    known_from : str
        Where that is known from.
    corpus : Corpus, optional
        If it was recognised.
    folder : str, optional
        Of a split: where its audio files are.
    hours : str
        How many of them are in the training data, where that is known.
    """

    name: str
    licence: str = UNKNOWN
    known_from: str = ""
    corpus: Optional[Corpus] = None
    folder: Optional[str] = None
    hours: str = ""


def find_corpus(split):
    """Recognises the corpus of a split by what lies beside or in it.

    Arguments
    ---------
    split : str or Path
        The folder of the split; links are followed.

    Returns
    -------
    corpus : Corpus or None
    known_from : str
        The file that says so.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> find_corpus(folder / "train-clean-100")
    (None, '')
    >>> _ = (folder / "settings.json").write_text('{"corpus": "MiniSpeech"}')
    >>> corpus, known_from = find_corpus(folder / "train-clean-100")
    >>> corpus.name, known_from
    ('MiniSpeech', 'settings.json')
    """
    split = Path(os.path.realpath(split))
    try:
        record = json.loads(_read(split.parent / SETTINGS_FILE))
        return CORPORA[record["corpus"]], SETTINGS_FILE
    except (KeyError, TypeError, ValueError):
        pass
    for name in ("SPEAKERS.TXT", "README.md"):
        if DIGITS.search(_read(split.parent / name)):
            return FSDD, name
    chapter = CHAPTERS.get(split.name, "-/-")
    text = f"{chapter}/{chapter.replace('/', '-')}.trans.txt"
    if (split / text).is_file():
        return LIBRISPEECH, text
    return None, ""


def _read(path):
    """The text of a file, or none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def training_sources(settings, licences):
    """What a run trains on, and what it starts from.

    Arguments
    ---------
    settings : dict
        The experiment.
    licences : dict
        Licences of sources, by the name of the split, manifest, corpus or
        model that is started from.

    Returns
    -------
    list of Source

    Raises
    ------
    ValueError
        If `licences` is no mapping to texts, or names what there is not.

    Example
    -------
    >>> settings = {"train_manifest": "a/train.jsonl"}
    >>> licences = {"train.jsonl": "CC BY 4.0"}
    >>> [source] = training_sources(settings, licences)
    >>> source.name, source.licence
    ('train.jsonl', 'CC BY 4.0')
    """
    if settings["train_manifest"]:
        sources = [Source(Path(m).name) for m in _manifests(settings)]
    else:
        folder = settings["data_folder"] or settings["mini_speech_folder"]
        sources = [_split(folder, name) for name in settings["train_splits"]]
    for key in ("source", "pretrained_source"):
        if settings.get(key):
            sources.append(Source(_start(settings[key])))
    _state_licences(sources, licences)
    return sources


def recorded_sources(entries, licences):
    """The sources of a run's record, with the licences of today.

    Arguments
    ---------
    entries : list of dict
        The fields of each.
    licences : dict
        As `training_sources` has them.

    Returns
    -------
    list of Source
    """
    sources = []
    for entry in entries:
        corpus = entry["corpus"] and Corpus(**entry["corpus"])
        sources.append(Source(**{**entry, "corpus": corpus}))
    _state_licences(sources, licences)
    return sources


def _state_licences(sources, licences):
    """Sets the licences that are given by name."""
    given = licences or {}
    if not isinstance(given, dict) or not all(
        isinstance(licence, str) for licence in given.values()
    ):
        raise ValueError(f"data_licenses: {{name: licence}}, not {given!r}")
    names = {source.name for source in sources}
    names |= {source.corpus.name for source in sources if source.corpus}
    for name in given:
        if name not in names:
            raise ValueError(
                f"data_licenses: {name} is not one of {', '.join(sorted(names))}"
            )
    for source in sources:
        for name in (source.name, getattr(source.corpus, "name", None)):
            if name in given:
                source.licence = given[name]
                source.known_from = "data_licenses"
                break


def count_hours(sources, csv):
    """Notes how much of each source is in the training data.

    Arguments
    ---------
    sources : list of Source
        They are changed.
    csv : str
        The CSV file of the training data.
    """
    utterances = load_data_csv(csv).values()
    for source in sources:
        source.hours = _hours(source, sources, utterances)


def _manifests(settings):
    given = settings["train_manifest"]
    return [given] if isinstance(given, (str, os.PathLike)) else given


def _split(folder, name):
    """A split of a folder laid out as LibriSpeech is."""
    path = os.path.join(os.path.abspath(os.path.expanduser(folder)), name)
    corpus, known_from = find_corpus(path)
    licence = corpus.licence if corpus else UNKNOWN
    return Source(name, licence, known_from, corpus, path)


def _start(source):
    """The name of a model on the hub or in a folder."""
    return Path(source).name if os.path.isdir(source) else str(source)


def write_card(folder, settings, sources, csvs, rows, table, run):
    """Writes the card into the folder of a trained model.

    Arguments
    ---------
    folder : str or Path
        Where `write_model` has put it.
    settings : dict
        The experiment.
    sources : list of Source
        What it was trained on (`recorded_sources`).
    csvs : dict
        Paths of the CSV files: `train`, and the list `test`.
    rows : list of dict
        The results: `test`, `memory`, `WER`, `CER`, ...
    table : str
        The same in Markdown.
    run : RunRecord
        What it was begun with.
    """
    folder = Path(folder)
    name = Path(settings["push_to_hub"] or _title(run)).name
    net = YAML().load((folder / "hyperparams.yaml").read_text())["Transformer"]
    lact = getattr(settings["Transformer"], "has_lact", False)
    memory = lact and net.get("lact_fast", True)
    parts = [
        _front_matter(name, settings, sources, rows, memory),
        f"# {name}",
        _what(net, settings, lact, memory),
        _loading(settings, memory),
        _training(sources, run),
        _results(settings, rows, table),
        _limits(settings, sources, csvs["train"]),
        f"Made with {', '.join(run.packages)}.",
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def _front_matter(name, settings, sources, rows, has_memory):
    """YAML for the hub."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for row in rows:
        for metric in ("WER", "CER"):
            memory = row["memory"]
            suffix = "" if memory == "none" else f", memory {memory}"
            results.append(
                EvalResult(
                    task_type="automatic-speech-recognition",
                    task_name="Speech recognition",
                    **_test_set(settings, row["test"]),
                    metric_type=metric.lower(),
                    metric_name=metric + suffix,
                    metric_value=row[metric],
                )
            )
    tags = ["speechbrain", "pytorch", "automatic-speech-recognition", "CTC"]
    if has_memory:
        tags.append("LaCT")
    start = settings.get("pretrained_source")
    data = ModelCardData(
        model_name=name,
        library_name="speechbrain",
        pipeline_tag="automatic-speech-recognition",
        tags=tags,
        metrics=["wer", "cer"],
        base_model=start if start and not os.path.isdir(start) else None,
        eval_results=results,
        **_hub_data(sources),
    )
    return f"---\n{data.to_yaml()}\n---"


def _hub_data(sources):
    """Languages, names and licence of the data; who trained may choose
    another licence than theirs, if they have one."""
    corpora = [source.corpus for source in sources]
    known = list(dict.fromkeys(corpus for corpus in corpora if corpus))
    found = {
        "language": sorted({c.language for c in known})
        if all(corpora)
        else None,
        "datasets": [corpus.hub for corpus in known] or None,
    }
    slugs = {source.licence.lower().replace(" ", "-") for source in sources}
    if len(slugs) == 1 and slugs <= set(HUB_LICENSES):
        return {**found, "license": slugs.pop()}
    return {
        **found,
        "license": "other",
        "license_name": "see-training-data",
        "license_link": "README.md",
    }


def _test_corpus(settings, test):
    """The corpus of a test set, if it is known."""
    if settings["train_manifest"]:
        return None
    folder = settings["data_folder"] or settings["mini_speech_folder"]
    return _split(folder, test).corpus


def _test_set(settings, test):
    """A test set, as the hub wants it."""
    corpus = _test_corpus(settings, test)
    return {
        "dataset_type": corpus.hub if corpus else test,
        "dataset_name": _test_name(settings, test),
        "dataset_split": test,
    }


def _test_name(settings, test):
    corpus = _test_corpus(settings, test)
    return f"{corpus.name} {test}" if corpus else test


def _what(net, settings, has_lact, has_memory):
    """What it is."""
    kind = "CTC and attention" if "seq_lin" in settings else "CTC"
    words = [f"{kind} over {settings['token_type']} tokens"]
    if settings.get("pretrained_source"):
        words.append(
            f"pretrained encoder {_start(settings['pretrained_source'])}"
        )
    if net.get("encoder_module"):
        words.append(f"{net['encoder_module']} encoder")
    if has_memory:
        words.append("attention LaCT (arXiv:2505.23884)")
    elif has_lact:
        words.append("window attention")
    elif net.get("attention_type"):
        words.append(f"attention {net['attention_type']}")
    learned = [p for p in settings["model"].parameters()]
    count = sum(p.numel() for p in learned)
    trained = sum(p.numel() for p in learned if p.requires_grad)
    words.append(f"{count:,} parameters")
    if trained < count:
        words.append(f"of which {trained:,} were trained")
    text = f"A speech recogniser for SpeechBrain: {', '.join(words)}."
    if settings.get("freeze_pretrained"):
        text += (
            " The weights of the pretrained encoder were left as they are and "
            "are not in this folder: `hyperparams.yaml` names it."
        )
    return text


LOADING = """\
## Use

It needs the packages speechbrain and speechbrain_lact.

```python
from speechbrain.inference.ASR import {interface}

model = {interface}.from_hparams(source="{source}")
print(model.transcribe_file("speech.wav"))
```
"""


def _loading(settings, has_memory):
    """How to load it."""
    decoder = "seq_lin" in settings
    text = LOADING.format(
        interface="EncoderDecoderASR" if decoder else "EncoderASR",
        source=settings["push_to_hub"] or "path/to/this/folder",
    )
    if not has_memory:
        return text.rstrip()
    text += "\nHere each utterance begins with the learned memory (`reset`)."
    if not decoder:
        text += (
            " `speechbrain_lact.inference.ASR.LaCTASR.from_hparams` loads the "
            "same folder and can carry the memory on."
        )
    return text


def _title(run):
    """The name of the YAML."""
    return Path(run.commands[0][1]).stem


def _training(sources, run):
    """The commands and the data."""
    commands = "\n".join(map(public_command, run.commands))
    lines = ["## Training", f"```bash\n{commands}\n```"]
    if run.processes != [1]:
        counts = ", then ".join(map(str, run.processes))
        lines[1] += f"\n\nProcesses: {counts}."
    table = [
        "| data | corpus | licence | known from | hours |",
        "| --- | --- | --- | --- | --- |",
    ]
    for source in sources:
        cells = [
            source.name,
            source.corpus.name if source.corpus else "",
            source.licence,
            source.known_from,
            source.hours,
        ]
        cells = [" ".join(c.split()).replace("|", r"\|") for c in cells]
        table.append(f"| {' | '.join(cells)} |")
    lines.append("\n".join(table))
    abouts = [source.corpus.about for source in sources if source.corpus]
    lines += dict.fromkeys(abouts)
    lines.append(
        "The licence of the weights is for those who trained them to choose, "
        "within what the data allow."
    )
    return "\n\n".join(lines)


def _hours(source, sources, utterances):
    """Hours of a source that were used, where that is known."""
    if source.folder:
        prefix = os.path.join(source.folder, "")
        utterances = [u for u in utterances if u["wav"].startswith(prefix)]
    elif len(sources) > 1:
        return ""
    return f"{sum(float(u['duration']) for u in utterances) / 3600:.2f}"


def public_command(command):
    """A command line without the paths of a machine.

    Arguments
    ---------
    command : list of str
        Program and arguments. Paths below the current folder become relative
        to it; of other absolute ones the last name is kept.

    Returns
    -------
    str

    Example
    -------
    >>> public_command(["train.py", "--data_folder=/home/me/LibriSpeech"])
    'python train.py --data_folder=/path/to/LibriSpeech'
    >>> public_command(["train.py", "--test_manifest", "[/a/b, c/d]"])
    "python train.py --test_manifest '[/path/to/b, c/d]'"
    """

    words = []
    for word in command:
        option, equals, value = word.partition("=")
        if not equals:
            option, value = "", word
        if value.startswith("/"):
            value = _public(value)
        else:  # a list or mapping of YAML
            value = re.sub(
                r"(?<=[\[{,\s\"'])/[^\s,\]}\"']+",
                lambda m: _public(m[0]),
                value,
            )
        words.append(option + equals + value)
    return shlex.join(["python", *words])


def _public(path):
    """An absolute path without what only one machine has."""
    inside = os.path.relpath(path)
    if not inside.startswith(os.pardir):
        return inside
    return f"/path/to/{os.path.basename(os.path.normpath(path))}"


def _results(settings, rows, table):
    """This run's results."""
    tests = dict.fromkeys(row["test"] for row in rows)
    speakers = {row["test"]: len(row["speakers"]) for row in rows}
    names = [f"{_test_name(settings, t)}: {speakers[t]}" for t in tests]
    return (
        f"## Results\n\n{table}\n\nWER and CER in percent, decoding: "
        f"{settings['test_decoding']}. Speakers of each test set: "
        f"{', '.join(names)}."
    )


def _limits(settings, sources, csv):
    """What the training data say of where it may fail."""
    rows = list(load_data_csv(csv).values())
    seconds = [float(row["duration"]) for row in rows]
    words = {word for row in rows for word in row["wrd"].split()}
    letters = "".join(sorted(set("".join(words))))
    languages = {
        source.corpus.language
        if source.corpus
        else f"not known of {source.name}"
        for source in sources
    }
    return "\n".join(
        [
            "## Limits",
            "",
            f"- Language: {', '.join(sorted(languages))}.",
            f"- Audio: {settings['sample_rate']} Hz, one channel (SpeechBrain's interface "
            "converts other files).",
            f"- Training audio: {sum(seconds) / 3600:.2f} h, "
            f"{len(rows):,} utterances of {min(seconds):.1f} to "
            f"{max(seconds):.1f} s, {len({r['spk_id'] for r in rows}):,} "
            f"speakers, {len(words):,} different words.",
            f"- Voices: {_voices(sources)}.",
            f"- It writes these characters: `{letters}` and the space.",
            "- Nothing was measured but what the table says.",
        ]
    )


def _voices(sources):
    """Who speaks."""
    kinds = {}
    for source in sources:
        known = source.corpus
        kinds[known.voices if known else f"not known of {source.name}"] = None
    return "; ".join(kinds)


def write_embedder_card(
    folder, settings, sources, csv, rows, table, threshold, run
):
    """Writes the card into the folder of a trained encoder of voices.

    Arguments
    ---------
    folder : str or Path
        Where `write_embedder` has put it.
    settings : dict
        The experiment.
    sources : list of Source
        What it was trained on (`recorded_sources`).
    csv : str
        Path of the CSV file of the training data.
    rows : list of dict
        The results: `test`, `EER`, ...; the first of the dev set.
    table : str
        The same in Markdown.
    threshold : float
        Cosine similarity above which two embeddings are of one voice.
    run : RunRecord
        What it was begun with.
    """
    name = _title(run)
    parts = [
        _embedder_front_matter(name, settings, sources, rows),
        f"# {name}",
        _embedder(settings),
        EMBEDDER_LOADING,
        _training(sources, run),
        f"## Results\n\n{table}\n\n{EMBEDDER_RESULTS.format(threshold)}",
        _embedder_limits(settings, sources, csv),
        f"Made with {', '.join(run.packages)}.",
    ]
    (Path(folder) / "README.md").write_text("\n\n".join(parts) + "\n")


EMBEDDER_LOADING = """\
## Use

It needs the packages speechbrain and speechbrain_lact.

```python
from speechbrain.inference.speaker import SpeakerRecognition

model = SpeakerRecognition.from_hparams(source="path/to/this/folder")
similarity, _ = model.verify_files("one.wav", "other.wav")
print(float(similarity) > model.hparams.threshold)
```

`speechbrain_lact.processing.speaker_states.load_embedder` loads the same
folder for a bank of speakers."""

EMBEDDER_RESULTS = """\
In percent. EER: equal error rate of the cosine similarity of two utterances,
at a threshold of the test set's own. Acceptance of another voice and rejection
of the same one: at {}, the threshold of the first line, which is the
`threshold` of `hyperparams.yaml`. Pairs of one voice are of two sessions,
where a voice has more than one. No voice of the table was in training."""


def _embedder_front_matter(name, settings, sources, rows):
    """YAML for the hub."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for row in rows[1:]:
        results.append(
            EvalResult(
                task_type="audio-classification",
                task_name="Speaker verification",
                **_test_set(settings, row["test"]),
                metric_type="eer",
                metric_name="Equal error rate",
                metric_value=row["EER"],
            )
        )
    data = ModelCardData(
        model_name=name,
        library_name="speechbrain",
        tags=["speechbrain", "pytorch", "embeddings", "Speaker", "ECAPA-TDNN"],
        metrics=["eer"],
        eval_results=results,
        **_hub_data(sources),
    )
    return f"---\n{data.to_yaml()}\n---"


def _embedder(settings):
    """What it is."""
    model = settings["embedding_model"]
    count = sum(p.numel() for p in model.parameters())
    return (
        f"An encoder of voices for SpeechBrain: "
        f"{type(model).__name__.replace('_', '-')}, {count:,} parameters, "
        f"{settings['emb_dim']} values a voice. It was trained to tell "
        f"{settings['out_n_neurons']:,} voices from each other; what named "
        f"them is not in this folder."
    )


def _embedder_limits(settings, sources, csv):
    """What the training data say of where it may fail."""
    rows = list(load_data_csv(csv).values())
    seconds = [float(row["duration"]) for row in rows]
    return "\n".join(
        [
            "## Limits",
            "",
            f"- Audio: {settings['sample_rate']} Hz, one channel (SpeechBrain's "
            "interface converts other files).",
            f"- Training audio: {sum(seconds) / 3600:.2f} h, {len(rows):,} "
            f"utterances, of which {settings['sentence_len']:g} s at a time "
            f"were heard, {len({r['session'] for r in rows}):,} sessions, "
            f"{len({r['spk_id'] for r in rows}):,} speakers.",
            f"- Voices: {_voices(sources)}.",
            "- Nothing was measured but what the table says.",
        ]
    )


def audio_card(name, settings, sources, table, run):
    """The card of an audio tokenizer or an audio language model.

    Arguments
    ---------
    name : str
        Name of the model in its folder.
    settings : dict
        The experiment.
    sources : list of Source
        What it was trained on (`recorded_sources`).
    table : str
        Its results, in Markdown.
    run : RunRecord
        What it was begun with.

    Returns
    -------
    str
        Markdown.
    """
    title, model = _title(run), settings[name]
    size = sum(p.numel() for p in model.parameters()) / 1e6
    what = (model.__doc__ or "").split("\n\n")[0]
    what = " ".join(what.split())
    load = "load_tokenizer" if name == "tokenizer" else "AudioGenerator"
    parts = [
        f"# {title}",
        f"`{type(model).__name__}`, {size:.2f} M parameters, for audio of "
        f"{settings['sample_rate']} Hz. {what}",
        f"`speechbrain_lact.inference.AudioLM.{load}` loads this folder.",
        _training(sources, run),
        f"## Results\n\n{table}",
        f"Made with {', '.join(run.packages)}.",
    ]
    return "\n\n".join(parts) + "\n"
