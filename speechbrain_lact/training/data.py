"""Utterances of a CSV for a recogniser: audio, tokens, batches of sessions.

Authors
* speechbrain_lact contributors 2026
"""

import math
import random

import torch

import speechbrain as sb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.processing.sessions import SessionBatchSampler

logger = get_logger(__name__)


def make_dataset(path, hparams, tokenizer, most=1):
    """Utterances of a CSV with their audio and tokens, up to `most` joined."""
    rows = sb.dataio.dataio.load_data_csv(path)
    add_origins(rows)
    if most > 1:
        rows = join_utterances(rows, most, hparams["seed"])
    data = DynamicItemDataset(rows)

    @sb.utils.data_pipeline.takes("wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def audio(*columns):
        rate = hparams["sample_rate"]
        places = zip(*(column.split("\n") for column in columns))
        parts = [read_audio(path, rate, *span) for path, *span in places]
        if any(part is None for part in parts):
            return None
        return torch.cat(parts)

    @sb.utils.data_pipeline.takes("wrd")
    @sb.utils.data_pipeline.provides("tokens", "tokens_bos", "tokens_eos")
    def tokens(wrd):
        # 0 is both the unknown token and the blank: it is no target.
        ids = [i for i in tokenizer.sp.encode_as_ids(wrd) if i]
        begin, end = hparams.get("bos_index", 0), hparams.get("eos_index", 0)
        for item in (ids, [begin, *ids], [*ids, end]):
            yield torch.tensor(item, dtype=torch.long)

    @sb.utils.data_pipeline.takes("duration")
    @sb.utils.data_pipeline.provides("seconds")
    def seconds(duration):
        return float(duration)

    for item in (audio, tokens, seconds):
        data.add_dynamic_item(item)
    data.set_output_keys(
        {
            "id": "id",
            "sig": "sig",
            "wrd": "wrd",
            "tokens": "tokens",
            "tokens_bos": "tokens_bos",
            "tokens_eos": "tokens_eos",
            "spk_id": "spk_id",
            "session": "session",
            "position": "position",
            "duration": "seconds",
            "domain": "domain",
            "voice": "voice",
        }
    )
    return data


def join_utterances(rows, most, seed):
    """Consecutive utterances of a session as one, 1 to `most` at a time.

    Arguments
    ---------
    rows : dict
        Rows of a CSV.
    most : int or float
        How many at most; how many is drawn for each. `math.inf`: all.
    seed : int
        Seed of the draws.

    Returns
    -------
    dict
        Rows whose `wav`, and `start` and `stop` where a CSV has them, are one
        a line.
    """
    draw, joined, last, room = random.Random(seed), {}, None, 0
    order = sorted(
        rows, key=lambda i: (rows[i]["session"], int(rows[i]["position"]))
    )
    for key in order:
        row = rows[key]
        if room == 0 or last["session"] != row["session"]:
            last = {**row}
            room = most if most == math.inf else draw.randint(1, most)
            joined[key] = last
        else:
            for name in ("wav", "start", "stop"):
                if name in row:
                    last[name] += "\n" + row[name]
            last["wrd"] += " " + row["wrd"]
            seconds = float(last["duration"]) + float(row["duration"])
            last["duration"] = str(seconds)
        room -= 1
    places = {}
    for row in joined.values():
        row["position"] = places.setdefault(row["session"], 0)
        places[row["session"]] += 1
    return joined


def add_origins(rows):
    """Adds to the rows of a CSV what it may lack, and what an initial memory
    follows from.

    `start`, `stop`: empty for those that are whole files. `domain`: empty for
    those that have none. `voice`: the speaker's first recording (its path
    or, for a part, path, start and stop, a line each), so that a voice has one embedding however often a
    run is resumed.
    """
    voices = {}
    for row in sorted(
        rows.values(), key=lambda row: (row["session"], int(row["position"]))
    ):
        for name in ("start", "stop", "domain"):
            row.setdefault(name, "")
        place = row["wav"]
        if row["start"] or row["stop"]:
            place = "\n".join((place, row["start"], row["stop"]))
        row["voice"] = voices.setdefault(row["spk_id"], place)


def report_unknown(path, tokenizer):
    """One line on characters that no training text has."""
    rows = sb.dataio.dataio.load_data_csv(path)
    unknown = {
        key: row["wrd"]
        for key, row in rows.items()
        if 0 in tokenizer.sp.encode_as_ids(row["wrd"])
    }
    if unknown:
        key, text = next(iter(unknown.items()))
        seen = [c for c in text if 0 in tokenizer.sp.encode_as_ids(c)]
        logger.warning(
            "%s: %d transcripts have characters that the training text lacks "
            "(%s has %r); they count as errors",
            path,
            len(unknown),
            key,
            "".join(sorted(set(seen))),
        )


def session_loader(data, batch_size, hparams, brain=None):
    """Arguments of a data loader that plays sessions.

    Arguments
    ---------
    data : DynamicItemDataset
        Utterances with `session` and `position`.
    batch_size : int
        Sessions at a time.
    hparams : dict
        The experiment.
    brain : ASR, optional
        For training: shuffled, and shared among its processes.

    Returns
    -------
    dict
    """
    places = [data.data[i] for i in data.data_ids]
    share = {}
    if brain is not None and brain.distributed_launch:
        share["rank"] = brain.rank
        share["world_size"] = torch.distributed.get_world_size()
    if brain is not None:
        share["durations"] = [float(place["duration"]) for place in places]
        share["sorted_epochs"] = hparams.get("sorted_epochs", 0)
    sampler = SessionBatchSampler(
        [place["session"] for place in places],
        [int(place["position"]) for place in places],
        batch_size,
        shuffle=brain is not None,
        seed=hparams["seed"],
        **share,
    )
    return {
        "batch_sampler": sampler,
        "collate_fn": Batch,
        "num_workers": hparams["num_workers"],
        # Its own, so that loading leaves the global one alone.
        "generator": torch.Generator(),
    }
