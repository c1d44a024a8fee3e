"""How audio sounds that a trained audio tokenizer has made again.

Authors
* speechbrain_lact contributors 2026
"""

import torch

from speechbrain.dataio.dataio import load_data_csv
from speechbrain_lact.dataio.audio import read_row
from speechbrain_lact.evaluation.audio.quality import quality


@torch.inference_mode()
def score_tokenizer(name, csv, hparams):
    """STOI, PESQ and predicted MOS of the tokenizer and of its parts.

    Arguments
    ---------
    name : str
        The test set.
    csv : str
        Its utterances.
    hparams : dict
        The experiment, trained.

    Returns
    -------
    list of dict
        A row for each way to make the audio.
    """
    tokenizer, rate = hparams["tokenizer"].eval(), hparams["sample_rate"]
    rows, scores = load_data_csv(csv), {}
    step = max(len(rows) // hparams["max_tested"], 1)
    for key in sorted(rows)[::step]:
        wav = read_row(rows[key], rate)
        if wav is None:
            continue
        feats = tokenizer.features(wav[None])[0]
        tokens = tokenizer.encode(wav[None])
        half = max(tokens.shape[2] // 2, 1)
        made = {
            "tokens": tokenizer.decode(tokens)[0],
            f"tokens, {half} codebooks": tokenizer.decode(tokens[..., :half])[
                0
            ],
            "mel, vocoder": tokenizer.vocoder(feats)[0],
            "mel, Griffin-Lim": tokenizer.griffin_lim(feats[0]),
        }
        for system, audio in made.items():
            found = quality(wav, audio[: len(wav)], rate)
            scores.setdefault(system, []).append(found)
    table = []
    for system, found in scores.items():
        row = {"test": name, "audio of": system, "utterances": len(found)}
        for metric in ("stoi", "pesq", "mos"):
            values = [f[metric] for f in found if f[metric] is not None]
            mean = sum(values) / len(values) if values else None
            row[metric] = mean if mean is None else round(mean, 3)
        table.append(row)
    return table
