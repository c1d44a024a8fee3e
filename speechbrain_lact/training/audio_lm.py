"""Training and tests of a language model of audio tokens.

Authors
* speechbrain_lact contributors 2026
"""

import math
import random
from dataclasses import replace

import torch
import torch.nn.functional as F

import speechbrain as sb
from speechbrain.utils.logger import get_logger
from speechbrain_lact.processing.sessions import SessionStates
from speechbrain_lact.training.global_batches import GlobalBatches

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
