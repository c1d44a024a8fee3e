#!/usr/bin/env python3
"""Recipe for training a recogniser (CTC, or CTC and attention) on LibriSpeech
or data laid out like it, with a LaCT encoder or one of SpeechBrain's.

To run this recipe, do the following:
> python recipes/LibriSpeech/train.py hparams/lact_ctc.yaml \
    --data_folder /path/to/LibriSpeech

Without data it makes a small corpus (recipes/MiniSpeech) and trains on that.

Authors
* speechbrain_lact contributors 2026
"""

import json
import logging
import math
import random
import re
import resource
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import sentencepiece
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError

import speechbrain as sb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.decoders.scorer import (
    KenLMScorer,
    ScorerBuilder,
    TransformerLMScorer,
)
from speechbrain.processing.features import (
    InputNormalization,
    combine_gaussian_statistics,
    combine_gaussian_statistics_distributed,
)
from speechbrain.tokenizers.SentencePiece import SentencePiece
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.convert import read_converted
from speechbrain_lact.corpora.download import download_librispeech
from speechbrain_lact.corpora.librispeech import prepare_librispeech
from speechbrain_lact.corpora.manifests import prepare_manifests
from speechbrain_lact.corpora.mini_speech import prepare_mini_speech
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.dataio.batch import Batch
from speechbrain_lact.inference.card.recogniser import write_card
from speechbrain_lact.inference.card.sources import (
    count_hours,
    recorded_sources,
    training_sources,
)
from speechbrain_lact.inference.export import (
    check_repo,
    push_model,
    write_model,
)
from speechbrain_lact.inference.speakers import load_embedder
from speechbrain_lact.lobes.models.transformer.encoder import LaCTEncoderState
from speechbrain_lact.nnet.lact import LaCT, frozen_memory
from speechbrain_lact.processing.boundaries import greedy_labels
from speechbrain_lact.processing.sessions import (
    SessionBatchSampler,
    SessionStates,
)
from speechbrain_lact.utils.brain import GlobalBatches
from speechbrain_lact.utils.processes import on_main, total
from speechbrain_lact.utils.run_record import RunRecord, describe_run

HERE = Path(__file__).resolve().parent
MINI = HERE.parents[1] / "hparams" / "mini.yaml"
MINI_HOURS = 20
NEVER = -1e4  # a bias with which nothing is chosen
SESSION = 12  # utterances of a session, about, in a batch of whole ones
# Settings that are numbers, and the least that each may be.
COUNTS = {
    "number_of_steps": 1,
    "number_of_epochs": 1,
    "warmup_steps": 0,
    "batch_size": 1,
    "test_batch_size": 1,
    "grad_accumulation_factor": 1,
    "avg_checkpoints": 1,
    "bptt_utterances": 1,
    "join_utterances": 1,
    "segment": 1,
    "num_workers": 0,
    "output_neurons": 1,
}
RATES = ("lr", "matrix_lr", "max_grad_norm")
MEMORIES = ("carried", "reset", "other", "frozen", "none", "session")

logger = get_logger(__name__)


class ASR(GlobalBatches, sb.Brain):
    """Trains with the memory carried over sessions and tests what it does."""

    def prepare(self, tokenizer):
        """Sets what SpeechBrain's constructor does not know."""
        self.tokenizer = tokenizer
        self.has_decoder = hasattr(self.modules, "seq_lin")
        encoder = self.modules.Transformer
        self.has_memory = "none" not in self.hparams.test_memory
        if self.has_memory and not getattr(encoder, "has_lact", False):
            raise ValueError("test_memory: [none] for encoders without LaCT")
        self.memory = "carried" if self.has_memory else "none"
        self.bad_files, self.history, self.searcher = set(), [], None
        if self.has_memory:
            self.states = SessionStates(encoder, LaCTEncoderState)
            self.checkpointer.add_recoverable("states", self.states)
        self.voices = {}
        self.through = getattr(self.hparams, "bptt_utterances", 1)
        if self.through > 1:
            if self.grad_accumulation_factor > 1:
                raise ValueError(
                    f"bptt_utterances: {self.through} needs "
                    "grad_accumulation_factor: 1"
                )
            self.grad_accumulation_factor = self.through

    def compute_forward(self, batch, stage):
        """Log-probabilities of the tokens [B, T, V], lengths [B], and what
        the attention decoder needs: encoder output and its own scores."""
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        train = stage == sb.Stage.TRAIN
        if train and self.hparams.speed_perturb is not None:
            wavs = self.hparams.speed_perturb(wavs)
        began = time.perf_counter()
        feats, lengths = self.hparams.compute_features(wavs, lengths)
        heard = feats, lengths
        feats = self.modules.normalize(
            feats, lengths, epoch=self.hparams.epoch_counter.current
        )
        if train and self.hparams.feature_augment is not None:
            feats, lengths = self.hparams.feature_augment(feats, lengths)
        src, lengths = self.modules.CNN(feats, lengths)
        tokens = batch.tokens_bos[0] if self.has_decoder else None
        options = self.chunks(stage)
        options["ends"] = self.chunk_ends(heard, src, lengths, options)
        encoded, decoded = self.encode(
            src, tokens, lengths, batch, stage, **options
        )
        log_probs = self.modules.ctc_lin(encoded).float().log_softmax(-1)
        if self.has_decoder:
            decoded = self.modules.seq_lin(decoded).float().log_softmax(-1)
        self.seconds += time.perf_counter() - began
        self.audio += float(batch.duration.sum())
        return log_probs, lengths, encoded, decoded

    def chunks(self, stage):
        """Blocks of a batch, for encoders that stream."""
        sampler = getattr(self.hparams, "dynchunktrain_config_sampler", None)
        if sampler is None:
            return {}
        return {"dynchunktrain_config": sampler(stage)}

    def chunk_ends(self, heard, src, lengths, options):
        """Where chunks of the memory may end, if not at a fixed length.

        The same as in the exported model: what the encoder is given, a pass
        before is given, too.
        """
        find = getattr(self.hparams, "boundaries", None)
        if find is None:
            return None

        def head(encoded):
            """Scores of the tokens that there are."""
            size = self.tokenizer.sp.vocab_size()
            return self.modules.ctc_lin(encoded)[..., :size]

        def recognise():
            """Greedy labels of the model as it is."""
            encoder = self.modules.Transformer
            return greedy_labels(encoder, head, src, lengths, **options)

        return find(*heard, recognise)

    def encode(self, src, tokens, lengths, batch, stage, **options):
        """Outputs of encoder and decoder under the kind of memory tried."""
        encoder = self.modules.Transformer
        options["wav_len"] = lengths
        if options["ends"] is None:  # not all encoders know them
            del options["ends"]
        if self.memory == "none":
            return encoder(src, tokens, **options)
        place = batch.session, [int(p) for p in batch.position]
        if self.memory in ("reset", "frozen"):
            state = self.states.module.initial_state(len(src))
        else:
            chance = 0.0
            if stage == sb.Stage.TRAIN:
                chance = self.hparams.reset_probability
            state = self.states.start(*place, reset_probability=chance)
        if hasattr(self.modules, "initial_memory"):
            state = self.begin(state, batch)
        *outputs, after = encoder(src, tokens, state=state, **options)
        self.updates += (after.updates - state.updates).tolist()
        self.skipped += int((after.skipped - state.skipped).sum())
        ends = stage != sb.Stage.TRAIN or self.boundary or self.through == 1
        self.states.keep(*place, after, detach=ends)
        if self.memory == "other":
            state = self.other_voices(batch.spk_id, state)
            *outputs, _ = encoder(src, tokens, state=state, **options)
        return outputs

    def begin(self, state, batch):
        """Rows that begin take the memory of their domain and voice."""
        kinds = {}
        if self.hparams.domains:
            kinds["domains"] = [name or None for name in batch.domain]
        if self.hparams.speaker_encoder is not None:
            voices = [self.voice(place) for place in batch.voice]
            kinds["embeddings"] = torch.stack(voices).to(self.device)
        return self.modules.initial_memory(self.states.module, state, **kinds)

    def voice(self, place):
        """Embedding of a recording, made once; zeros if it cannot be read."""
        if place not in self.voices:
            path, *span = place.split("\n")
            wav = read_audio(path, self.hparams.sample_rate, *span)
            found = torch.zeros(self.hparams.embedding_size)
            if wav is not None:
                found = self.hparams.embedder.encode_batch(wav).flatten().cpu()
            self.voices[place] = found
        return self.voices[place]

    def other_voices(self, speakers, state):
        """For each row the latest state of another speaker.

        A voice met for the first time reads a memory of the batches before;
        with nobody else heard yet, its own.
        """
        for row, speaker in enumerate(speakers):
            self.bank[speaker] = state.index([row])
        rows = []
        for row, speaker in enumerate(speakers):
            others = [s for s in self.bank if s != speaker]
            known = [s for s in others if int(self.bank[s].updates) > 0]
            rows.append(
                self.bank[known[row % len(known)]]
                if known
                else state.index([row])
            )
        return LaCTEncoderState.cat(rows)

    def compute_objectives(self, predictions, batch, stage):
        """Loss; errors when not training."""
        log_probs, lengths, encoded, decoded = predictions
        tokens, token_lengths = batch.tokens
        loss = self.hparams.ctc_cost(log_probs, tokens, lengths, token_lengths)
        if self.has_decoder:
            weight = self.hparams.ctc_weight
            seq = self.hparams.seq_cost(decoded, *batch.tokens_eos)
            loss = weight * loss + (1 - weight) * seq
        if stage != sb.Stage.TRAIN:
            words = self.decode(log_probs, encoded, lengths, stage)
            truth = [text.split() for text in batch.wrd]
            self.wer_metric.append(batch.id, words, truth)
            self.cer_metric.append(batch.id, words, truth)
            self.speaker_of.update(zip(batch.id, batch.spk_id))
        return loss

    def on_nothing(self):
        """Takes part in the statistics that others make of their features."""
        normalize = self.modules.normalize
        if not isinstance(normalize, InputNormalization):
            return
        epoch = self.hparams.epoch_counter.current
        if normalize.norm_type == "global" and normalize._should_update(epoch):
            second = torch.zeros(1, self.hparams.sample_rate)
            feats, _ = self.hparams.compute_features(
                second.to(self.device), torch.ones(1, device=self.device)
            )
            none = torch.zeros_like(feats[0, 0])
            found = combine_gaussian_statistics_distributed((0, none, none))
            if normalize.count:
                known = normalize.glob_mean, normalize.glob_std.square()
                known = normalize.count, *(x.to(none) for x in known)
                found = combine_gaussian_statistics(known, found)
            normalize.count, normalize.glob_mean, variance = found
            normalize.glob_std = variance.sqrt()

    def learn(self, loss):
        """With `bptt_utterances`, nothing is learned until so many utterances
        were heard, and then from all of them at once: gradients go through
        the memory to what it was made of."""
        if self.through == 1:
            super().learn(loss)
        else:
            self.losses.append(loss)

    def optimizers_step(self):
        """A step; with `bptt_utterances`, with the gradients of all."""
        if self.losses:
            losses, self.losses = self.losses, []
            super().learn(sum(losses))
        super().optimizers_step()

    def decode(self, log_probs, encoded, lengths, stage):
        """Words of each row: CTC greedy while training."""
        searching = stage == sb.Stage.TEST and self.searcher is not None
        log_probs = log_probs[..., : self.tokenizer.sp.vocab_size()]
        if searching and not self.has_decoder:
            beams = self.searcher(log_probs, lengths)
            return [beam[0].text.split() for beam in beams]
        if searching:
            tokens = self.searcher(encoded, lengths)[0]
        else:
            tokens = sb.decoders.ctc_greedy_decode(
                log_probs, lengths, blank_id=self.hparams.blank_index
            )
        return [self.tokenizer.sp.decode_ids(row).split() for row in tokens]

    def on_stage_start(self, stage, epoch):
        """Empty metrics; sessions begin anew unless resumed midway."""
        self.seconds, self.audio = 0.0, 0.0
        self.updates, self.skipped, self.bank = [], 0, {}
        self.losses = []  # that nothing was learned from yet
        if self.has_memory and not (stage == sb.Stage.TRAIN and self.step):
            self.states.clear()
        if stage != sb.Stage.TRAIN:
            self.wer_metric = self.hparams.wer_computer()
            self.cer_metric = self.hparams.cer_computer()
            self.speaker_of = {}

    def on_stage_end(self, stage, stage_loss, epoch):
        """Logs, saves and checks that the memory learns at all."""
        stats = {"loss": stage_loss}
        counts = [sum(self.updates), len(self.updates), self.skipped]
        if stage == sb.Stage.TRAIN:  # the others: the same in all processes
            counts = torch.tensor(counts, dtype=torch.double)
            counts = total(counts.to(self.device)).tolist()
        updates, sequences, skipped = counts
        if sequences:
            stats["updates"] = updates / sequences
            stats["skipped_updates"] = int(skipped)
            self.check_updates(stats["updates"])
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
            return
        if not self.wer_metric.scores:
            raise ValueError(f"{stage.name}: none of the files could be read")
        stats["WER"] = self.wer_metric.summarize("error_rate")
        stats["CER"] = self.cer_metric.summarize("error_rate")
        if stage == sb.Stage.TEST:
            self.test_stats = stats
            return
        meta = {
            "epoch": epoch,
            "step": self.optimizer_step,
            "lr": self.hparams.lr_annealing.current_lr,
        }
        self.history.append(
            {
                **meta,
                "train_loss": self.train_stats["loss"],
                "valid_loss": stats["loss"],
                "valid_WER": stats["WER"],
            }
        )
        on_main(self.log, meta, stats)
        self.checkpointer.save_and_keep_only(
            meta={"WER": stats["WER"], "epoch": epoch},
            min_keys=["WER"],
            num_to_keep=self.hparams.avg_checkpoints,
        )

    def log(self, meta, stats):
        """Writes what an epoch has come to."""
        loggers = (self.hparams.train_logger, self.hparams.tensorboard_logger)
        for log in loggers:
            log.log_stats(meta, self.train_stats, stats)
        self.save_history()

    def check_updates(self, updates):
        """A memory that never updates is a static network."""
        if updates < 1:
            size = _lact_modules(self.modules)[0].chunk_size
            raise ValueError(
                f"the fast weights made {updates:.2f} updates a sequence: "
                f"lower lact_chunk_size ({size})"
            )

    def save_history(self):
        """Loss and WER so far, as numbers and as a picture."""
        path = Path(self.hparams.output_folder) / "history.jsonl"
        lines = {}
        if path.exists():
            for line in path.read_text().splitlines():
                lines[json.loads(line)["epoch"]] = line
        for entry in self.history:
            lines[entry["epoch"]] = json.dumps(entry)
        path.write_text("\n".join(lines[e] for e in sorted(lines)) + "\n")
        plot_history([json.loads(line) for line in lines.values()], path)

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """Next learning rate; gradients end where a group of batches does,
        whether or not its last batch could be read."""
        if self.boundary and self.has_memory and self.states.state is not None:
            self.states.state = self.states.state.detach()
        if should_step:
            self.hparams.lr_annealing(self.optimizer)

    def on_evaluate_start(self, max_key=None, min_key=None):
        """Averages the best checkpoints."""
        super().on_evaluate_start(max_key, min_key)
        checkpoints = self.checkpointer.find_checkpoints(
            min_key=min_key, max_num_checkpoints=self.hparams.avg_checkpoints
        )
        average = sb.utils.checkpoints.average_checkpoints(
            checkpoints, recoverable_name="model"
        )
        self.hparams.model.load_state_dict(average)
        # Outputs beyond the tokens were never trained: none is said.
        for name in ("ctc_lin", "seq_lin"):
            if hasattr(self.hparams, name):
                bias = getattr(self.hparams, name).w.bias.data
                bias[self.tokenizer.sp.vocab_size() :] = NEVER

    def test(self, name, load):
        """Scores a test set under each kind of memory.

        Arguments
        ---------
        name : str
            The test set.
        load : callable
            Takes how many utterances of a session are one at most; returns
            the data set and arguments of its loader.

        Returns
        -------
        list of dict
            One row of results for each kind of memory.
        """
        rows = []
        data, options = load(1)
        speakers = {data.data[i]["spk_id"] for i in data.data_ids}
        for memory in self.hparams.test_memory:
            if memory == "other" and len(speakers) == 1:
                logger.info("%s: one speaker, so no other's memory", name)
                continue
            self.memory, heard = memory, (data, options)
            if memory == "session":
                self.memory = "reset" if self.has_memory else "none"
                heard = load(math.inf)
            bad = len(self.bad_files)
            with frozen_memory([self.modules] if memory == "frozen" else []):
                self.evaluate(
                    heard[0], min_key="WER", test_loader_kwargs=heard[1]
                )
            suffix = "" if len(self.hparams.test_memory) == 1 else f"_{memory}"
            on_main(self.write_stats, f"wer_{name}{suffix}.txt")
            rows.append(self.result(name, memory, len(self.bad_files) - bad))
        return rows

    def write_stats(self, name):
        """Keeps the alignments of a pass over a test set."""
        path = Path(self.hparams.output_folder) / name
        with open(path, "w", encoding="utf-8") as file:
            self.wer_metric.write_stats(file)

    def result(self, name, memory, bad):
        """What is known of one pass over a test set."""
        speakers = {}
        for score in self.wer_metric.scores:
            counts = speakers.setdefault(
                self.speaker_of[score["key"]], [0, 0, 0]
            )
            for i, key in enumerate(("num_edits", "num_ref_tokens")):
                counts[i] += score[key]
            counts[2] += 1
        updates = self.test_stats.get("updates")
        return {
            "test": name,
            "memory": memory,
            "WER": round(self.test_stats["WER"], 2),
            "CER": round(self.test_stats["CER"], 2),
            "utterances": len(self.wer_metric.scores),
            "bad_files": bad,
            "updates": None if updates is None else round(updates, 2),
            "audio_seconds_per_second": round(self.audio / self.seconds, 1),
            "speakers": speakers,
        }


class Tokenizer(SentencePiece):
    """SpeechBrain's tokenizer, with as many tokens as a small text has."""

    def _train_BPE(self):
        self._csv2text()
        sentencepiece.SentencePieceTrainer.train(
            input=self.text_file,
            model_prefix=self.prefix_model_file,
            model_type=self.model_type,
            vocab_size=int(self.vocab_size),
            hard_vocab_limit=False,
            character_coverage=1.0,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            unk_id=0,
            minloglevel=2,
        )


def make_tokenizer(folder, csv, hparams):
    """The tokenizer of a folder; made by the main process if there is none."""

    def load():
        """Makes what is not there, and loads it."""
        return Tokenizer(
            model_dir=folder,
            vocab_size=hparams["output_neurons"],
            annotation_train=str(csv),
            annotation_read="wrd",
            model_type=hparams["token_type"],
            bos_id=hparams.get("bos_index", -1),
            eos_id=hparams.get("eos_index", -1),
        )

    # SpeechBrain's waits for the others only where there was none yet.
    on_main(lambda: load() and None)
    return load()


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


def _lact_modules(modules):
    return [m for m in modules.modules() if isinstance(m, LaCT)]


def plot_history(history, path):
    """Draws loss and WER over epochs beside the file of numbers."""
    from matplotlib.figure import Figure

    steps = [entry["step"] for entry in history]
    figure = Figure(figsize=(9, 3.5))
    left, right = figure.subplots(1, 2)
    for key in ("train_loss", "valid_loss"):
        left.plot(steps, [e[key] for e in history], "o-", label=key)
    left.set(xlabel="step", ylabel="CTC loss", yscale="log")
    left.legend()
    right.plot(steps, [e["valid_WER"] for e in history], "o-")
    right.set(xlabel="step", ylabel="WER on the dev set (%)", ylim=(0, None))
    # Its search for fonts would fill the log.
    log = logging.getLogger("matplotlib.font_manager")
    with quiet(log):
        figure.tight_layout()
        figure.savefig(path.with_suffix(".png"))


@contextmanager
def quiet(log):
    """Nothing but warnings of a logger, meanwhile."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def prepare_data(settings, skip_prep=False):
    """CSV files of whatever data the settings name.

    Arguments
    ---------
    settings : dict
        The experiment's plain values.
    skip_prep : bool
        Whether only to say where they are.

    Returns
    -------
    dict
        CSV paths: `train`, and lists `valid` and `test`.
    """
    folder = settings["save_folder"]
    options = {
        "max_duration": settings["max_duration"],
        "skip_prep": skip_prep,
    }
    if settings["train_manifest"]:
        return prepare_manifests(
            settings["train_manifest"],
            settings["valid_manifest"],
            settings["test_manifest"],
            folder,
            **options,
        )
    names = ("train_splits", "dev_splits", "test_splits")
    splits = [settings[name] for name in names]
    data = settings["data_folder"] or settings["mini_speech_folder"]
    if skip_prep:
        pass
    elif settings["data_folder"] is None:
        logger.info(
            "No data_folder and no manifests: running on MiniSpeech, made in "
            "%s, with the sizes of hparams/mini.yaml",
            settings["mini_speech_folder"],
        )
        prepare_mini_speech(data)
    elif settings["download"]:
        download_librispeech(data, sum(splits, []))
    return prepare_librispeech(data, *splits, folder, **options)


def plain_settings(path, overrides):
    """The YAML's plain values, before any object is made."""
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file, overrides, overrides_must_match=False)
    settings = YAML().load(text)
    check_numbers(settings)
    return settings


def check_numbers(settings):
    """Refuses counts and rates with which nothing can be trained."""
    for key, least in COUNTS.items():
        value = settings.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key}: a whole number, not {value!r}")
        if value < least:
            raise ValueError(f"{key}: a number from {least}, not {value}")
    for key in RATES:
        value = settings.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key}: a number, not {value!r}")
        if not 0 < value < math.inf:
            raise ValueError(f"{key}: a number above 0, not {value}")


def given_settings(overrides):
    """What the command line says, YAML as text, as a dictionary."""
    try:
        return dict(YAML().load(overrides) or {}) if overrides else {}
    except YAMLError as error:
        raise ValueError(f"command line: {error}") from error


def load_yaml(path, overrides):
    """The YAML with all its objects; what is wrong in it is named."""
    try:
        with open(path, encoding="utf-8") as file:
            return load_hyperpyyaml(file, dict(overrides))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error


def source_settings(settings):
    """Those settings that follow from what a model is to start from."""
    if settings["source"] is None:
        raise ValueError(
            "source: a folder made by python -m speechbrain_lact.convert"
        )
    found = read_converted(settings["source"])
    return {key: value for key, value in found.items() if key in settings}


def load_voices(settings):
    """The encoder of voices that the settings name, and the size of its
    embeddings."""
    source, rate = settings["speaker_encoder"], settings["sample_rate"]
    embedder = load_embedder(source)
    if embedder.audio_normalizer.sample_rate != rate:
        raise ValueError(
            f"speaker_encoder: {source} takes "
            f"{embedder.audio_normalizer.sample_rate} Hz, not {rate}"
        )
    return embedder, embedder.encode_batch(torch.ones(1, rate)).numel()


def read_domains(csv):
    """Names of the domains in a CSV."""
    rows = sb.dataio.dataio.load_data_csv(csv)
    return sorted({row.get("domain", "") for row in rows.values()} - {""})


def check_domains(hparams, csvs):
    """Refuses data of domains that have no place in the table, and a memory
    by domain and voice that follows from neither."""
    names = [str(name) for name in hparams["domains"]]
    if not names and hparams["speaker_encoder"] is None:
        raise ValueError(
            "an initial memory follows from a domain or a voice: use "
            "manifests with `domain`, or set speaker_encoder"
        )
    paths = [csvs["train"], *csvs["valid"], *csvs["test"]] if names else []
    for path in paths:
        for name in read_domains(path):
            if name not in names:
                raise ValueError(
                    f"{path}: domain {name!r} is not one of "
                    f"{', '.join(names)}: add it to domains before training, "
                    f"or leave `domain` out of these lines"
                )


def load_experiment(path, overrides):
    """Prepares the data, then loads the YAML in the size that fits it.

    Arguments
    ---------
    path : str
        The YAML.
    overrides : str
        YAML of the command line.

    Returns
    -------
    hparams : dict
        The experiment.
    csvs : dict
        As `prepare_data`.
    """
    given = given_settings(overrides)
    settings = plain_settings(path, dict(given))
    if "source" in settings:
        given = {**source_settings(settings), **given}
    mini = YAML().load(MINI.read_text())
    mini = {k: v for k, v in mini.items() if k in settings and k not in given}
    splits = {k: mini.pop(k) for k in list(mini) if k.endswith("_splits")}
    bare = settings["data_folder"] is None and not settings["train_manifest"]
    if bare:
        given.update(splits)
    settings = plain_settings(path, dict(given))
    if settings["size"] not in ("auto", "full", "mini"):
        raise ValueError(f"size: auto, full or mini, not {settings['size']!r}")
    Path(settings["save_folder"]).mkdir(parents=True, exist_ok=True)
    on_main(prepare_data, settings)
    csvs = prepare_data(settings, skip_prep=True)
    small = settings["size"] == "mini" or bare
    if settings["size"] == "auto" and not small:
        rows = sb.dataio.dataio.load_data_csv(csvs["train"])
        hours = sum(float(row["duration"]) for row in rows.values()) / 3600
        small = hours < MINI_HOURS
        if small:
            logger.info(
                "%.1f h of training audio: sizes of hparams/mini.yaml "
                "(size: full keeps the YAML's own)",
                hours,
            )
    overrides, embedder = {**(mini if small else {}), **given}, None
    if "initial_memory" in settings:
        if settings["domains"] is None:
            overrides["domains"] = read_domains(csvs["train"])
        if settings["speaker_encoder"] is not None:
            embedder, overrides["embedding_size"] = load_voices(settings)
    hparams = load_yaml(path, overrides)
    hparams["overrides"], hparams["embedder"] = overrides, embedder
    if "initial_memory" in hparams:
        check_domains(hparams, csvs)
    steps, warmup = hparams["number_of_steps"], hparams["warmup_steps"]
    if warmup >= steps:
        raise ValueError(
            f"warmup_steps: {warmup}, but number_of_steps: {steps}"
        )
    tried = hparams["test_memory"]
    if not isinstance(tried, list) or not tried or set(tried) - set(MEMORIES):
        raise ValueError(
            f"test_memory: a list of {', '.join(MEMORIES)}, not {tried!r}"
        )
    if hparams["test_decoding"] not in ("greedy", "beam"):
        raise ValueError(
            f"test_decoding: greedy or beam, not {hparams['test_decoding']!r}"
        )
    return hparams, csvs


def begin_run(settings, run_opts, hparams, csvs, command):
    """The record of the run; refuses an output folder of another one.

    Arguments
    ---------
    settings : dict
        The YAML's plain values.
    run_opts : dict
        SpeechBrain's options.
    hparams : dict
        The experiment.
    csvs : dict
        As `prepare_data`.
    command : list of str
        What was typed.

    Returns
    -------
    record : RunRecord
    sources : list of Source
        What the run was begun with.
    """
    check_numbers(run_opts)
    licences = hparams["data_licenses"]

    def begin():
        """Compares, or writes."""
        sources = training_sources(hparams, licences)
        count_hours(sources, csvs["train"])
        begun = describe_run(settings, run_opts, hparams, csvs)
        entries = list(map(asdict, sources))
        return RunRecord.open(hparams["save_folder"], begun, entries, command)

    record = on_main(begin)
    return record, recorded_sources(record.content["sources"], licences)


def make_searcher(hparams, tokenizer):
    """The beam search of the tests: over CTC, or over the decoder's scores
    with CTC and, if there are, language models."""
    size = tokenizer.sp.vocab_size()
    pieces = [tokenizer.sp.id_to_piece(i) for i in range(size)]
    if "seq_lin" not in hparams:
        from speechbrain.decoders.ctc import CTCBeamSearcher

        return CTCBeamSearcher(**hparams["beam_search"], vocab_list=pieces)
    scorers = [hparams["ctc_scorer"]]
    weights = {"ctc": hparams["ctc_weight_decode"]}
    if hparams["language_model"] is not None:
        scorers.append(TransformerLMScorer(hparams["language_model"]))
        weights["transformerlm"] = hparams["lm_weight"]
    if hparams["kenlm_model_path"] is not None:
        pieces += [""] * (hparams["output_neurons"] - size)
        scorers.append(
            KenLMScorer(hparams["kenlm_model_path"], len(pieces), pieces)
        )
        weights["kenlm"] = hparams["lm_weight"]
    return hparams["test_search"](
        scorer=ScorerBuilder(full_scorers=scorers, weights=weights)
    )


def freeze(model, patterns):
    """Keeps fixed what is not to be trained.

    Arguments
    ---------
    model : torch.nn.Module
    patterns : list of str, optional
        Regular expressions: a parameter is trained if one is found in its
        name. Default: all are.
    """
    if patterns is None:
        return
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        if not any(re.search(pattern, name) for name in parameters):
            raise ValueError(f"trainable: no parameter matches {pattern!r}")
    for name, parameter in parameters.items():
        found = any(re.search(pattern, name) for pattern in patterns)
        parameter.requires_grad_(found)


def markdown(rows):
    """A Markdown table of dictionaries with the same keys."""
    keys = [key for key in rows[0] if key != "speakers"]
    lines = [keys, ["---"] * len(keys)]
    lines += [["" if r[k] is None else str(r[k]) for k in keys] for r in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments):
    """Runs the experiment that the command line asks for."""
    began = time.time()
    path, run_opts, overrides = sb.parse_arguments(arguments)
    sb.utils.distributed.ddp_init_group(run_opts)
    hparams, csvs = load_experiment(path, overrides)
    check_repo(hparams["push_to_hub"])
    settings = plain_settings(path, dict(hparams["overrides"]))
    command = [str(Path(__file__).relative_to(HERE.parents[1])), *arguments]
    run, sources = begin_run(settings, run_opts, hparams, csvs, command)
    sb.create_experiment_directory(
        experiment_directory=hparams["output_folder"],
        hyperparams_to_save=path,
        overrides=hparams["overrides"],  # mini.yaml's among them
    )
    if "pretrainer" in hparams:
        on_main(hparams["pretrainer"].collect_files)
        hparams["pretrainer"].load_collected()
    freeze(hparams["model"], hparams.get("trainable"))
    folder = hparams.get("tokenizer_folder", hparams["save_folder"])
    if "tokenizer_folder" in hparams and not list(Path(folder).glob("*.model")):
        raise ValueError(f"tokenizer_folder: {folder} has no tokenizer")
    tokenizer = make_tokenizer(folder, csvs["train"], hparams)
    on_main(run.check_tokenizer, f"{tokenizer.prefix_model_file}.model")
    brain = ASR(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.prepare(tokenizer)
    brain.before_training = lambda: run.note(command)
    most = hparams.get("join_utterances", 1)
    train = make_dataset(csvs["train"], hparams, tokenizer, most)
    valid = make_dataset(csvs["valid"][0], hparams, tokenizer)
    loader = session_loader(train, hparams["batch_size"], hparams, brain)
    sampler = loader["batch_sampler"]
    brain.train_sampler = sampler
    steps = hparams["number_of_steps"] * brain.grad_accumulation_factor
    hparams["epoch_counter"].limit = math.ceil(steps / len(sampler))
    brain.optimizer_step_limit = hparams["number_of_steps"]
    train_loader = sb.dataio.dataloader.make_dataloader(train, **loader)
    brain.checkpointer.add_recoverable("dataloader-TRAIN", train_loader)
    test_size = hparams["test_batch_size"]
    brain.fit(
        hparams["epoch_counter"],
        train_loader,
        valid,
        valid_loader_kwargs=session_loader(valid, test_size, hparams),
    )
    if hparams["test_decoding"] == "beam":
        brain.searcher = make_searcher(hparams, tokenizer)
    rows = []
    for csv in csvs["test"]:
        report_unknown(csv, tokenizer)

        def load(most, csv=csv):
            data = make_dataset(csv, hparams, tokenizer, most)
            size = test_size if most == 1 else max(1, test_size // SESSION)
            return data, session_loader(data, size, hparams)

        rows += brain.test(Path(csv).stem, load)
    write_results(brain, rows, hparams, began)
    if if_main_process():
        folder = Path(hparams["output_folder"]) / "model"
        yaml = folder.parent / "hyperparams.yaml"
        write_model(folder, yaml, hparams, tokenizer)
        write_card(folder, hparams, sources, csvs, rows, markdown(rows), run)
        if hparams["push_to_hub"]:
            logger.info("%s", push_model(folder, hparams["push_to_hub"]))


def write_results(brain, rows, hparams, began):
    """Prints the table and keeps it as JSON and Markdown."""
    if not if_main_process():
        return
    parameters = sum(p.numel() for p in hparams["model"].parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for row in rows:
        row["parameters"] = parameters
        row["peak_memory_MiB"] = round(peak)
    folder = Path(hparams["output_folder"])
    table = markdown(rows)
    (folder / "results.md").write_text(table + "\n")
    (folder / "results.json").write_text(
        json.dumps(
            {
                "rows": rows,
                "bad_files": sorted(brain.bad_files),
                "minutes": round((time.time() - began) / 60, 1),
                "torch": torch.__version__,
            },
            indent=1,
        )
    )
    logger.info(
        "%d files could not be read; results in %s:\n%s",
        len(brain.bad_files),
        folder,
        table,
    )


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, ValueError) as error:
        # What went wrong in one line; where, in the log of the experiment.
        logger.debug("stopped", exc_info=True)
        sys.exit(f"train.py: {' '.join(str(error).split())}")
