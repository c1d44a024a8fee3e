"""The card of an encoder of voices.

Authors
* speechbrain_lact contributors 2026
"""

from pathlib import Path

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.inference.card.sections import (
    hub_data,
    scored_set,
    title_of,
    training_section,
    voices_of,
)

EMBEDDER_LOADING = """\
## Use

It needs the packages speechbrain and speechbrain_lact.

```python
from speechbrain.inference.speaker import SpeakerRecognition

model = SpeakerRecognition.from_hparams(source="path/to/this/folder")
similarity, _ = model.verify_files("one.wav", "other.wav")
print(float(similarity) > model.hparams.threshold)
```

`speechbrain_lact.inference.speakers.load_embedder` loads the same
folder for a bank of speakers."""


EMBEDDER_RESULTS = """\
In percent. EER: equal error rate of the cosine similarity of two utterances,
at a threshold of the test set's own. Acceptance of another voice and rejection
of the same one: at {}, the threshold of the first line, which is the
`threshold` of `hyperparams.yaml`. Pairs of one voice are of two sessions,
where a voice has more than one. No voice of the table was in training."""


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
    name = title_of(run)
    parts = [
        _embedder_front_matter(name, settings, sources, rows),
        f"# {name}",
        _embedder(settings),
        EMBEDDER_LOADING,
        training_section(sources, run),
        f"## Results\n\n{table}\n\n{EMBEDDER_RESULTS.format(threshold)}",
        _embedder_limits(settings, sources, csv),
        f"Made with {', '.join(run.packages)}.",
    ]
    (Path(folder) / "README.md").write_text("\n\n".join(parts) + "\n")


def _embedder_front_matter(name, settings, sources, rows):
    """YAML for the hub."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for row in rows[1:]:
        results.append(
            EvalResult(
                task_type="audio-classification",
                task_name="Speaker verification",
                **scored_set(settings, row["test"]),
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
        **hub_data(sources),
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
            f"- Voices: {voices_of(sources)}.",
            "- Nothing was measured but what the table says.",
        ]
    )
