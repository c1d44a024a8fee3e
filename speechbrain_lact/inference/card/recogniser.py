"""The card of a speech recogniser.

Authors
* speechbrain_lact contributors 2026
"""

import os
from pathlib import Path

from ruamel.yaml import YAML

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.inference.card.sections import (
    hub_data,
    scored_name,
    scored_set,
    title_of,
    training_section,
    voices_of,
)
from speechbrain_lact.inference.card.sources import start_name

LOADING = """\
## Use

It needs the packages speechbrain and speechbrain_lact.

```python
from speechbrain.inference.ASR import {interface}

model = {interface}.from_hparams(source="{source}")
print(model.transcribe_file("speech.wav"))
```
"""


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
    name = Path(settings["push_to_hub"] or title_of(run)).name
    net = YAML().load((folder / "hyperparams.yaml").read_text())["Transformer"]
    ours = getattr(settings["Transformer"], "carries_state", False)
    mixer = net.get("attention_type", "LaCT")
    memory = ours and mixer == "LaCT" and net.get("lact_fast", True)
    parts = [
        _front_matter(name, settings, sources, rows, memory),
        f"# {name}",
        _what(net, settings, ours, memory),
        _loading(settings, memory),
        training_section(sources, run),
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
                    **scored_set(settings, row["test"]),
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
        **hub_data(sources),
    )
    return f"---\n{data.to_yaml()}\n---"


def _what(net, settings, ours, has_memory):
    """What it is."""
    kind = "CTC and attention" if "seq_lin" in settings else "CTC"
    words = [f"{kind} over {settings['token_type']} tokens"]
    if settings.get("pretrained_source"):
        words.append(
            f"pretrained encoder {start_name(settings['pretrained_source'])}"
        )
    if net.get("encoder_module"):
        words.append(f"{net['encoder_module']} encoder")
    if has_memory:
        words.append("attention LaCT (arXiv:2505.23884)")
    elif ours and net.get("attention_type", "LaCT") == "LaCT":
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


def _results(settings, rows, table):
    """This run's results."""
    tests = dict.fromkeys(row["test"] for row in rows)
    speakers = {row["test"]: len(row["speakers"]) for row in rows}
    names = [f"{scored_name(settings, t)}: {speakers[t]}" for t in tests]
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
            f"- Voices: {voices_of(sources)}.",
            f"- It writes these characters: `{letters}` and the space.",
            "- Nothing was measured but what the table says.",
        ]
    )
