"""Training and tests of a recogniser: CTC, or CTC and an attention decoder.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import json
import math
import re
import time
from pathlib import Path

import torch

import speechbrain as sb
from speechbrain.processing.features import (
    InputNormalization,
    combine_gaussian_statistics,
    combine_gaussian_statistics_distributed,
)
from speechbrain.utils.logger import get_logger
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.lobes.models.pipeline import Encoder, log_softmax
from speechbrain_lact.lobes.models.transformer.encoder import LaCTEncoderState
from speechbrain_lact.nnet.lact import LaCT, frozen_memory
from speechbrain_lact.processing.sessions import SessionStates
from speechbrain_lact.training.global_batches import GlobalBatches
from speechbrain_lact.training.plateau import plateau_message
from speechbrain_lact.training.results import plot_history
from speechbrain_lact.utils.processes import on_main, total

logger = get_logger(__name__)
NEVER = -1e4  # a bias with which nothing is chosen


class ASR(GlobalBatches, sb.Brain):
    """Trains with the memory carried over sessions, and tests with each kind
    of memory: carried, reset, of another speaker, frozen, none."""

    def prepare(self, tokenizer):
        """Sets what SpeechBrain's constructor does not know."""
        self.tokenizer = tokenizer
        self.has_decoder = hasattr(self.modules, "seq_lin")
        encoder = self.modules.Transformer
        self.has_memory = "none" not in self.hparams.test_memory
        if self.has_memory and not getattr(encoder, "carries_state", False):
            raise ValueError(
                "test_memory: [none] for encoders that carry no state"
            )
        self.memory = "carried" if self.has_memory else "none"
        self.bad_files, self.history, self.searcher = set(), [], None
        self.warned = False  # that nothing is learned
        if self.has_memory:
            self.states = SessionStates(encoder, LaCTEncoderState)
            self.checkpointer.add_recoverable("states", self.states)
        self.voices = {}
        self.gradient_span = getattr(self.hparams, "bptt_utterances", 1)
        if self.gradient_span > 1:
            if self.grad_accumulation_factor > 1:
                raise ValueError(
                    f"bptt_utterances: {self.gradient_span} needs "
                    "grad_accumulation_factor: 1"
                )
            self.grad_accumulation_factor = self.gradient_span

    def compute_forward(self, batch, stage):
        """Log-probabilities of CTC [B, T, V], lengths [B], output of the
        encoder [B, T, d_model] and scores of the attention decoder."""
        batch = batch.to(self.device)
        wavs, lengths = batch.sig
        train = stage == sb.Stage.TRAIN
        if train and self.hparams.speed_perturb is not None:
            wavs = self.hparams.speed_perturb(wavs)
        began = time.perf_counter()
        pipeline = self.pipeline(stage)
        inputs = pipeline.front(
            wavs,
            lengths,
            epoch=self.hparams.epoch_counter.current,
            augment=self.hparams.feature_augment if train else None,
        )
        encoded, decoded = self.encode(pipeline, inputs, batch, stage)
        log_probs = pipeline.log_probabilities(encoded)
        if self.has_decoder:
            decoded = log_softmax(self.modules.seq_lin(decoded))
        self.seconds += time.perf_counter() - began
        self.audio += float(batch.duration.sum())
        return log_probs, inputs.lengths, encoded, decoded

    def pipeline(self, stage):
        """The way from waveforms to log-probabilities, as the exported model
        has it; made of the modules as they are now, which may be wrapped."""
        sampler = getattr(self.hparams, "dynchunktrain_config_sampler", None)
        return Encoder(
            self.hparams.compute_features,
            self.modules.normalize,
            self.modules.CNN,
            self.modules.Transformer,
            self.modules.ctc_lin,
            sampler and functools.partial(sampler, stage),
            getattr(self.modules, "initial_memory", None),
            getattr(self.hparams, "boundaries", None),
            vocab_size=self.tokenizer.sp.vocab_size(),
        )

    def encode(self, pipeline, inputs, batch, stage):
        """Outputs of encoder and decoder under the kind of memory tried."""
        tokens = batch.tokens_bos[0] if self.has_decoder else None
        if self.memory == "none":
            return pipeline.encode(inputs, tokens=tokens)[:2]
        place = batch.session, [int(p) for p in batch.position]
        if self.memory in ("reset", "frozen"):
            state = self.states.module.initial_state(len(inputs.src))
        else:
            chance = 0.0
            if stage == sb.Stage.TRAIN:
                chance = self.hparams.reset_probability
            state = self.states.start(*place, reset_probability=chance)
        if pipeline.initial_memory is not None:
            state = pipeline.begin(state, **self.kinds(batch))
        *outputs, after = pipeline.encode(inputs, state, tokens=tokens)
        self.updates += (after.updates - state.updates).tolist()
        self.skipped += int((after.skipped - state.skipped).sum())
        ends = (
            stage != sb.Stage.TRAIN or self.boundary or self.gradient_span == 1
        )
        self.states.keep(*place, after, detach=ends)
        if self.memory == "other":
            state = self.other_voices(batch.spk_id, state)
            *outputs, _ = pipeline.encode(inputs, state, tokens=tokens)
        return outputs

    def kinds(self, batch):
        """Domain and voice of each row, as the model wants them."""
        kinds = {}
        if self.hparams.domains:
            kinds["domains"] = [name or None for name in batch.domain]
        if self.hparams.speaker_encoder is not None:
            voices = [self.voice(place) for place in batch.voice]
            kinds["embeddings"] = torch.stack(voices).to(self.device)
        return kinds

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
        """For each row the latest state of another speaker, from a batch
        before where there is one; as long as there is no other speaker, its
        own."""
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
        """With `bptt_utterances`, keeps the loss until there are so many, and
        then takes the gradients of all at once: they reach, through the
        memory, the utterances that it was made of."""
        if self.gradient_span == 1:
            super().learn(loss)
        else:
            self.losses.append(loss)

    def optimizers_step(self):
        """A step, on the losses that were kept."""
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
        self.losses = []  # whose gradients were not taken yet
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
        self.warn_of_plateau(stats["CER"])
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

    def warn_of_plateau(self, error_rate):
        """Says once that half of the steps have taught nothing."""
        if self.warned:
            return
        steps = self.hparams.number_of_steps
        message = plateau_message(
            self.optimizer_step, steps, error_rate, self.hparams.lr
        )
        if message:
            self.warned = True
            on_main(logger.warning, "%s", message)

    def check_updates(self, updates):
        """A memory that never updates is a static network."""
        sizes = [
            m.chunk_size for m in self.modules.modules() if isinstance(m, LaCT)
        ]
        if updates < 1 and sizes:  # other mixers make no updates
            raise ValueError(
                f"the fast weights made {updates:.2f} updates a sequence: "
                f"lower lact_chunk_size ({sizes[0]})"
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
            self.memory, played = memory, (data, options)
            if memory == "session":
                self.memory = "reset" if self.has_memory else "none"
                played = load(math.inf)
            bad = len(self.bad_files)
            with frozen_memory([self.modules] if memory == "frozen" else []):
                self.evaluate(
                    played[0], min_key="WER", test_loader_kwargs=played[1]
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
