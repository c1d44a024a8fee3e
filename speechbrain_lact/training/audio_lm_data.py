"""Recordings as rows of audio tokens, and the experiment on them.

Authors
* speechbrain_lact contributors 2026
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_row
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.inference.AudioLM import DEFAULT_TOKENIZER, load_tokenizer
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.inference.speakers import SMALL_EMBEDDER
from speechbrain_lact.processing.sessions import SessionBatchSampler
from speechbrain_lact.training.experiment import load_voices, prepare_data
from speechbrain_lact.training.settings import (
    given_settings,
    load_yaml,
    plain_settings,
)
from speechbrain_lact.utils.processes import count_processes, on_main

logger = get_logger(__name__)


def load_experiment(path, overrides):
    """Prepares the data and loads the YAML in the sizes of its tokenizer."""
    given = given_settings(overrides)
    settings = plain_settings(path, dict(given))
    Path(settings["save_folder"]).mkdir(parents=True, exist_ok=True)
    on_main(prepare_data, settings)
    csvs = prepare_data(settings, skip_prep=True)
    source = settings["tokenizer"] or DEFAULT_TOKENIZER
    tokenizer = load_tokenizer(source)
    embedder, speaker_size = load_voices(
        {
            "speaker_encoder": settings["speaker_encoder"] or SMALL_EMBEDDER,
            "sample_rate": tokenizer.sample_rate,
        }
    )
    sizes = set(tokenizer.codebook_sizes)
    if len(sizes) > 1:
        raise ValueError(f"tokenizer: {source} has codebooks of several sizes")
    given.update(
        num_codebooks=len(tokenizer.codebook_sizes),
        codebook_size=sizes.pop(),
        sample_rate=tokenizer.sample_rate,
        speaker_size=speaker_size,
    )
    hparams = load_yaml(path, given)
    hparams["tokenizer"], hparams["embedder"] = tokenizer, embedder
    hparams["tokenizer_source"] = source
    return hparams, given, csvs


def encode_corpus(csv, tokenizer, embedder, rate, cache):
    """Tokens of all utterances, and the voice of each session.

    Arguments
    ---------
    csv : str
        The utterances.
    tokenizer : AudioTokenizer
    embedder : EncoderClassifier
    rate : int
        Their sample rate.
    cache : Path
        File to keep them in; what is there is not computed again.

    Returns
    -------
    dict
        Tokens [T, K] by utterance, and embeddings [S] by `voice/session`.
    """
    if cache.exists():
        return load_file(cache)
    rows, kept, bad = load_data_csv(csv), {}, 0
    with torch.inference_mode():
        for key, row in tqdm(sorted(rows.items()), desc=f"tokens {cache.stem}"):
            wav = read_row(row, rate)
            if wav is None:
                bad += 1
                continue
            kept[key] = tokenizer.encode(wav[None])[0].short()
            voice = f"voice/{row['session']}"
            if voice not in kept:
                found = embedder.encode_batch(wav[None]).flatten()
                kept[voice] = found.contiguous()
    if not kept:
        raise ValueError(f"{csv}: none of the files could be read")
    logger.info("%s: %d files could not be read", csv, bad)
    part = cache.with_suffix(".part")
    save_file({key: x.clone() for key, x in kept.items()}, part)
    part.replace(cache)
    return kept


def read_tokens(csv, hparams):
    """Tokens and voices of a CSV; made by the main process if need be.

    Arguments
    ---------
    csv : str
    hparams : dict
        The experiment.

    Returns
    -------
    dict
        As `encode_corpus`.
    """
    parts = hparams["tokenizer"], hparams["embedder"]
    made_by = "_".join(map(fingerprint, parts))
    cache = f"{Path(csv).stem}_{made_by}.safetensors"
    cache = Path(hparams["save_folder"]) / cache
    arguments = csv, *parts, hparams["sample_rate"], cache
    on_main(lambda: encode_corpus(*arguments) and None)
    return encode_corpus(*arguments)


def streams(csv, kept, model, with_text):
    """Sessions as rows of tokens.

    Arguments
    ---------
    csv : str
    kept : dict
        As `encode_corpus` returns.
    model : AudioLM
    with_text : bool
        Whether each utterance has its text before it; else a session is one
        long recording.

    Returns
    -------
    dict
        Rows [L, K] by session, the row of a beginning first; and the domain.
    """
    rows, found = load_data_csv(csv), {}
    order = sorted(
        rows, key=lambda i: (rows[i]["session"], int(rows[i]["position"]))
    )
    for key in order:
        if key in kept:
            row = rows[key]
            domain = row.get("domain", "")
            parts = found.setdefault(row["session"], ([], domain))[0]
            parts.append((row["wrd"], kept[key].long()))
    made = {}
    for session, (parts, domain) in found.items():
        if with_text:
            pieces = []
            for text, tokens in parts:
                pieces += [model.begin_row(), model.text_rows(text)]
                pieces.append(model.audio_rows(tokens))
        else:
            tokens = torch.cat([tokens for _, tokens in parts])
            pieces = [model.begin_row(), model.audio_rows(tokens)]
        made[session] = torch.cat(pieces), domain
    return made


def make_dataset(csv, kept, hparams, kinds=(False, True)):
    """Segments of sessions, as long recordings and with text.

    Arguments
    ---------
    csv : str
    kept : dict
        As `encode_corpus` returns.
    hparams : dict
        The experiment.
    kinds : tuple of bool
        Without text, with text, or both.

    Returns
    -------
    DynamicItemDataset
    """
    size, items = hparams["segment"], {}
    for with_text in kinds:
        found = streams(csv, kept, hparams["model"], with_text)
        for session, (rows, domain) in found.items():
            name = f"{session}/{'text' if with_text else 'long'}"
            # Each row but the first is predicted once.
            for place, first in enumerate(range(0, len(rows) - 1, size)):
                part = rows[first : first + size + 1].short()
                items[f"{name}/{place}"] = {
                    "rows": part,
                    "size": len(part),
                    "session": name,
                    "position": place,
                    "voice": kept[f"voice/{session}"],
                    "domain": domain,
                }
    data = DynamicItemDataset(items)
    data.set_output_keys(
        ["id", "rows", "size", "session", "position", "voice", "domain"]
    )
    return data


def segment_loader(data, hparams, brain=None):
    """Options of a data loader that plays recordings in order; for the
    training of a brain shuffled, and shared among its processes."""
    rows = [data.data[i] for i in data.data_ids]
    share = {}
    if brain is not None and brain.distributed_launch:
        share["rank"], share["world_size"] = brain.rank, count_processes()
    sampler = SessionBatchSampler(
        [row["session"] for row in rows],
        [row["position"] for row in rows],
        hparams["batch_size"],
        shuffle=brain is not None,
        seed=hparams["seed"],
        **share,
    )
    return {
        "batch_sampler": sampler,
        "num_workers": hparams["num_workers"],
        "collate_fn": lambda rows: Batch(
            rows, padded_keys=["rows"], padding_kwargs={"mode": "constant"}
        ),
        # Its own, so that loading leaves the global one alone.
        "generator": torch.Generator(),
    }
