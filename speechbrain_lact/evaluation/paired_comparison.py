"""Two trained recognisers on one test set, utterance by utterance.

Both play the sessions of the test set one utterance at a time, memory carried
where there is one, and decode greedily. The difference of their error rates
has a 95 % interval from a bootstrap over speakers, both models on the same
draw.

Authors
* speechbrain_lact contributors 2026
"""

import csv
import json
import time
from pathlib import Path

import numpy
import torch

import speechbrain as sb
from speechbrain_lact.evaluation.experiments import RESAMPLES, interval
from speechbrain_lact.evaluation.statistics import resample
from speechbrain_lact.training.asr import ASR
from speechbrain_lact.training.data import make_dataset, session_loader
from speechbrain_lact.training.experiment import load_experiment
from speechbrain_lact.training.tokenizer import Tokenizer


class Scorer(ASR):
    """A recogniser that notes the time of each utterance."""

    def compute_forward(self, batch, stage):
        """As `ASR`'s; one utterance a batch."""
        began = self.clock()
        out = super().compute_forward(batch, stage)
        self.took[batch.id[0]] = self.clock() - began
        return out

    def clock(self):
        """Seconds, once the device has done its work."""
        if str(self.device).startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Loads the trained weights; a closed gate has none to compare."""
        super().on_evaluate_start(max_key, min_key)
        gate = getattr(self.modules.Transformer, "gate", None)
        if gate is not None and not bool(gate.any()):
            raise ValueError(
                f"{self.hparams.output_folder}: the gate of its LaCT layers "
                f"is still zero, so it is its baseline: train it longer"
            )


def load_run(folder, device, mini):
    """A trained model.

    Arguments
    ---------
    folder : Path
        Output folder of train.py.
    device : str
        Where to run it.
    mini : str or Path
        As `load_experiment`.

    Returns
    -------
    brain : Scorer
    csvs : dict of str
        Path of each test set's CSV file.
    """
    for name in ("hyperparams.yaml", "results.json"):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: no finished run of train.py ({name} is missing)"
            )
    save = folder / "save"
    given = {
        "output_folder": str(folder),
        "save_folder": str(save),
        "size": "full",  # the sizes it was trained with
        "checkpointer": {"checkpoints_dir": str(save)},
        "train_logger": None,
        "tensorboard_logger": None,
    }
    path = folder / "hyperparams.yaml"
    hparams, csvs = load_experiment(path, json.dumps(given), mini)
    tokenizer = Tokenizer(
        model_dir=str(save),
        vocab_size=hparams["output_neurons"],
        annotation_train=str(csvs["train"]),
        annotation_read="wrd",
        model_type=hparams["token_type"],
    )
    brain = Scorer(
        modules=hparams["modules"],
        hparams=hparams,
        run_opts={"device": device},
        checkpointer=hparams["checkpointer"],
    )
    brain.prepare(tokenizer)
    return brain, {Path(path).stem: path for path in csvs["test"]}


def check_pair(runs, test):
    """Refuses runs that cannot be compared.

    Arguments
    ---------
    runs : dict
        Of each folder, what `load_run` returns.
    test : str
        The test set.
    """
    for folder, (_, csvs) in runs.items():
        if test not in csvs:
            raise ValueError(
                f"--test_set {test}: {folder} has {', '.join(csvs)}"
            )
    pieces, texts = [], []
    for brain, csvs in runs.values():
        sp = brain.tokenizer.sp
        pieces.append([sp.id_to_piece(i) for i in range(sp.vocab_size())])
        rows = sb.dataio.dataio.load_data_csv(csvs[test])
        texts.append({key: row["wrd"] for key, row in rows.items()})
    both = " and ".join(map(str, runs))
    if pieces[0] != pieces[1]:
        raise ValueError(
            f"{both}: other tokens ({len(pieces[0])} and {len(pieces[1])}): "
            f"train both on the same text with the same token_type"
        )
    if texts[0] != texts[1]:
        keys = sorted({**texts[0], **texts[1]})
        key = next(k for k in keys if texts[0].get(k) != texts[1].get(k))
        raise ValueError(
            f"{both}: {test} is not the same in both (utterance {key}): "
            f"train both with the same data_folder or manifests"
        )


def score(brain, path):
    """Errors and time of each utterance.

    Arguments
    ---------
    brain : Scorer
        A trained model.
    path : str
        CSV file of the test set.

    Returns
    -------
    dict of dict
    """
    hparams = vars(brain.hparams)
    data = make_dataset(path, hparams, brain.tokenizer)
    brain.took = {}
    loader = session_loader(data, 1, hparams)
    brain.evaluate(data, min_key="WER", test_loader_kwargs=loader)
    chars = {s["key"]: s for s in brain.cer_metric.scores}
    return {
        s["key"]: {
            "said": " ".join(s["ref_tokens"]),
            "heard": " ".join(s["hyp_tokens"]),
            "words": s["num_ref_tokens"],
            "characters": chars[s["key"]]["num_ref_tokens"],
            "word_errors": s["num_edits"],
            "character_errors": chars[s["key"]]["num_edits"],
            "seconds": brain.took[s["key"]],
            "speaker": brain.speaker_of[s["key"]],
            "duration": float(data.data[s["key"]]["duration"]),
        }
        for s in brain.wer_metric.scores
    }


def by_speaker(scores, kind):
    """Errors, tokens and utterances of each speaker, as report.py has them."""
    counts = {}
    for row in scores.values():
        entry = counts.setdefault(row["speaker"], [0, 0, 0])
        entry[0] += row[f"{kind}_errors"]
        entry[1] += row[f"{kind}s"]
        entry[2] += 1
    return counts


def paired_interval(first, second):
    """Difference of error rates and its 95 % interval.

    Arguments
    ---------
    first, second : dict
        Errors, tokens and utterances of each speaker.

    Returns
    -------
    tuple of float
        Second minus first in percent, lower and upper bound; with one
        speaker there are no bounds (None).
    """
    counts = numpy.array(
        [[a[0], second[name][0], a[1]] for name, a in first.items()], float
    )
    one, two, tokens = counts.sum(0)
    difference = 100 * (two - one) / tokens
    if len(counts) == 1:
        return difference, None, None
    one, two, tokens = resample(counts, RESAMPLES).T
    rates = 100 * (two - one) / tokens
    return (difference, *map(float, numpy.percentile(rates, [2.5, 97.5])))


def summarise(names, scores):
    """Rows of the table: both models and their difference.

    Arguments
    ---------
    names : list of str
        The models.
    scores : list of dict
        What `score` returned for each.

    Returns
    -------
    list of dict
    """
    rows = []
    for kind, label in (("word", "WER (%)"), ("character", "CER (%)")):
        both = [by_speaker(s, kind) for s in scores]
        rates = [f"{interval(counts)[0]:.2f}" for counts in both]
        difference, low, high = paired_interval(*both)
        bounds = "one speaker" if low is None else f"[{low:+.2f}, {high:+.2f}]"
        rows.append((label, *rates, f"{difference:+.2f}", bounds))
    share = [
        numpy.median([r["seconds"] / r["duration"] for r in s.values()])
        for s in scores
    ]
    rows.append(
        (
            "time per audio (median)",
            *(f"{x:.4f}" for x in share),
            f"{share[1] - share[0]:+.4f}",
            "",
        )
    )
    keys = ("", *names, "difference", "95 % interval")
    return [dict(zip(keys, row)) for row in rows]


def write_csv(path, names, scores):
    """A line for each utterance.

    Arguments
    ---------
    path : Path
        The file.
    names, scores : list
        As `summarise` has them.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        own = ("WER", "CER", "seconds", "heard")
        columns = [f"{name} {key}" for name in names for key in own]
        writer.writerow(["id", "speaker", "duration", "said", *columns])
        for key, row in scores[0].items():
            line = [key, row["speaker"], row["duration"], row["said"]]
            for one in (s[key] for s in scores):
                line += [
                    round(100 * one["word_errors"] / one["words"], 2),
                    round(100 * one["character_errors"] / one["characters"], 2),
                    round(one["seconds"], 5),
                    one["heard"],
                ]
            writer.writerow(line)
