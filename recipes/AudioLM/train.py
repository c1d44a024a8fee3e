#!/usr/bin/env python3
"""Recipe for training a language model of audio tokens, with LaCT or with full
attention.

To run this recipe, do the following:
> python recipes/AudioLM/train.py hparams/lact_audiolm.yaml

Without data it makes a small corpus (recipes/MiniSpeech) and trains on that.
Each session is heard twice: as one long recording, and utterance by utterance
with its text before it.

Authors
* speechbrain_lact contributors 2026
"""

import json
import math
import random
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tqdm import tqdm

import speechbrain as sb
from speechbrain.dataio.dataio import load_data_csv
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_row
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.inference.AudioLM import (
    DEFAULT_TOKENIZER,
    TOKENIZER,
    load_tokenizer,
    write_audio_model,
)
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.inference.speakers import DEFAULT_EMBEDDER
from speechbrain_lact.processing.sessions import (
    SessionBatchSampler,
    SessionStates,
)
from speechbrain_lact.utils.brain import GlobalBatches
from speechbrain_lact.utils.processes import count_processes, on_main

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "LibriSpeech"))
from train import (  # noqa: E402
    begin_run,
    given_settings,
    load_voices,
    load_yaml,
    markdown,
    plain_settings,
    prepare_data,
)

logger = get_logger(__name__)


class AudioLMBrain(GlobalBatches, sb.Brain):
    """Next-row prediction over segments of long recordings."""

    def prepare(self):
        """Sets what SpeechBrain's constructor does not know."""
        model = self.modules.model
        self.states = SessionStates(model, model.state_class)
        if self.hparams.carry_state:
            self.checkpointer.add_recoverable("states", self.states)
        self.carry = self.hparams.carry_state
        self.bad_files = set()

    def init_optimizers(self):
        """`matrix_opt_class` for what maps all features of a layer to as many
        or more, `opt_class` for all else."""
        model, width = self.modules.model, self.hparams.d_model
        matrices = [
            p
            for p in model.layers.parameters()
            if p.ndim == 2 and min(p.shape) >= width
        ]
        chosen = set(map(id, matrices))
        others = [p for p in model.parameters() if id(p) not in chosen]
        self.optimizer = self.opt_class(others)
        self.matrix_optimizer = self.hparams.matrix_opt_class(matrices)
        self.optimizers_dict = {
            "opt_class": self.optimizer,
            "matrix_opt_class": self.matrix_optimizer,
        }
        self.checkpointer.add_recoverable("optimizer", self.optimizer)
        self.checkpointer.add_recoverable(
            "matrix_optimizer", self.matrix_optimizer
        )

    def compute_forward(self, batch, stage):
        """Scores of each next row [B, L, K, C + 2]."""
        batch = batch.to(self.device)
        model, rows = self.modules.model, self.prune(batch, stage)
        inputs = rows[:, :-1]
        place = batch.session, batch.position.tolist()
        state = model.initial_state(len(rows))
        if self.carry:
            state = self.states.start(*place)
        voices = batch.voice
        if stage == sb.Stage.TRAIN:
            known = torch.rand(len(voices), 1) >= self.hparams.no_voice
            voices = voices * known.to(voices)
        condition = model.condition(
            len(rows), voices, [name or None for name in batch.domain]
        )
        state = replace(state, condition=condition)
        lengths = batch.size.to(self.device) - 1
        logits, state = model(inputs, lengths, state)
        if self.carry:
            self.states.keep(*place, state)
        return logits, rows[:, 1:], lengths

    def prune(self, batch, stage):
        """Rows of the batch [B, L + 1, K], of some only the first
        codebooks."""
        rows, model = batch.rows.data.long(), self.modules.model
        if stage == sb.Stage.TRAIN and model.codebooks > 1:
            for i in range(len(rows)):
                if random.random() < self.hparams.fewer_codebooks:
                    books = random.randint(1, model.codebooks - 1)
                    rows[i, :, books:] = model.none
        return rows

    def compute_objectives(self, predictions, batch, stage):
        """Mean over all tokens of their cross entropy, in bits."""
        logits, targets, lengths = predictions
        model = self.modules.model
        real = (targets < model.codebook_size) | (targets == model.end)
        inside = torch.arange(targets.shape[1], device=targets.device)
        real &= (inside < lengths[:, None])[..., None]
        bits = F.cross_entropy(
            logits[real].float(), targets[real], reduction="sum"
        ) / math.log(2)
        self.count = count = int(real.sum())
        if stage != sb.Stage.TRAIN:
            self.bits += float(bits)
            self.tokens += count
        return bits / max(count, 1)

    def weight(self, batch):
        """Tokens that the mean was taken over."""
        return self.count

    def on_stage_start(self, stage, epoch=None):
        """Recordings begin anew unless resumed midway."""
        self.bits, self.tokens = 0.0, 0
        if not (stage == sb.Stage.TRAIN and self.step):
            self.states.clear()

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Next learning rates."""
        if should_step:
            steps, hparams = self.optimizer_step, self.hparams
            hparams.lr_annealing(self.optimizer, steps)
            hparams.matrix_lr_annealing(self.matrix_optimizer, steps)

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs and saves."""
        if stage == sb.Stage.TRAIN:
            self.train_loss = stage_loss
            return
        bits = self.bits / max(self.tokens, 1)
        if stage == sb.Stage.TEST:
            self.test_bits = bits
            return
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "step": self.optimizer_step},
            train_stats={"bits": self.train_loss},
            valid_stats={"bits": bits},
        )
        self.checkpointer.save_and_keep_only(
            meta={"bits": bits}, min_keys=["bits"]
        )

    def test(self, name, data, loader):
        """Bits per token with the state carried and not.

        Arguments
        ---------
        name : str
            The test set.
        data : DynamicItemDataset
            Its segments.
        loader : dict
            For the data loader.

        Returns
        -------
        list of dict
        """
        rows = []
        for carry in dict.fromkeys((self.hparams.carry_state, False)):
            self.carry = carry
            self.evaluate(data, min_key="bits", test_loader_kwargs=loader)
            rows.append(
                {
                    "test": name,
                    "state": "carried" if carry else "new each segment",
                    "bits per token": round(self.test_bits, 4),
                    "tokens": self.tokens,
                }
            )
        self.carry = self.hparams.carry_state
        return rows


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
                heard = embedder.encode_batch(wav[None]).flatten()
                kept[voice] = heard.contiguous()
    if not kept:
        raise ValueError(f"{csv}: none of the files could be read")
    logger.info("%s: %d files could not be read", csv, bad)
    part = cache.with_suffix(".part")
    save_file({key: x.clone() for key, x in kept.items()}, part)
    part.replace(cache)
    return kept


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
            "speaker_encoder": settings["speaker_encoder"] or DEFAULT_EMBEDDER,
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


def main(arguments):
    """Runs the experiment that the command line asks for."""
    began = time.time()
    path, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, given, csvs = load_experiment(path, overrides)
    settings = plain_settings(path, dict(given))
    command = [str(Path(__file__).relative_to(HERE.parents[1])), *arguments]
    run, sources = begin_run(settings, run_opts, hparams, csvs, command)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=path,
        overrides=given,
    )

    def read(csv):
        """Tokens and voices of a CSV."""
        parts = hparams["tokenizer"], hparams["embedder"]
        made_by = "_".join(map(fingerprint, parts))
        cache = f"{Path(csv).stem}_{made_by}.safetensors"
        cache = Path(hparams["save_folder"]) / cache
        arguments = csv, *parts, hparams["sample_rate"], cache
        on_main(lambda: encode_corpus(*arguments) and None)
        return encode_corpus(*arguments)

    brain = AudioLMBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.prepare()
    train = make_dataset(csvs["train"], read(csvs["train"]), hparams)
    valid = csvs["valid"][0]
    valid = make_dataset(valid, read(valid), hparams, kinds=(False,))
    loader = segment_loader(train, hparams, brain)
    brain.train_sampler = loader["batch_sampler"]
    steps = hparams["number_of_steps"]
    hparams["epoch_counter"].limit = math.ceil(steps / len(brain.train_sampler))
    brain.before_training = lambda: run.note(command)
    brain.optimizer_step_limit = steps
    train_loader = sb.dataio.dataloader.make_dataloader(train, **loader)
    brain.checkpointer.add_recoverable("dataloader-TRAIN", train_loader)
    brain.fit(
        hparams["epoch_counter"],
        train_loader,
        valid,
        valid_loader_kwargs=segment_loader(valid, hparams),
    )
    rows = []
    for csv in csvs["test"]:
        data = make_dataset(csv, read(csv), hparams, kinds=(False,))
        loader = segment_loader(data, hparams)
        rows += brain.test(Path(csv).stem, data, loader)
    if if_main_process():
        write_results(brain, rows, began)
        folder = Path(hparams["output_folder"])
        write_audio_model(
            folder / "model",
            folder / "hyperparams.yaml",
            "model",
            hparams["model"],
            settings=hparams,
            sources=sources,
            table=markdown(rows),
            run=run,
        )
        shutil.copytree(
            hparams["tokenizer_source"],
            folder / "model" / TOKENIZER,
            dirs_exist_ok=True,
        )


def write_results(brain, rows, began):
    """Prints the table and keeps it as JSON and Markdown."""
    folder, model = Path(brain.hparams.output_folder), brain.modules.model
    table = markdown(rows)
    (folder / "results.md").write_text(table + "\n")
    results = {
        "rows": rows,
        "parameters": sum(p.numel() for p in model.parameters()),
        "minutes": round((time.time() - began) / 60, 1),
        "torch": torch.__version__,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1))
    logger.info("results in %s:\n%s", folder, table)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train.py: {' '.join(str(error).split())}")
