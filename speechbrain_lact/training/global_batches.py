"""Training on the batches of all processes as on one.

Authors
* speechbrain_lact contributors 2026
"""

import math
import signal
import threading

import torch

from speechbrain.core import Stage
from speechbrain_lact.utils.processes import (
    count_processes,
    draw_apart,
    on_main,
    share_gradients,
    share_parameters,
    total,
    union,
)

STOPPED = "stopped by SIGTERM: run the same command again to go on"


class GlobalBatches:
    """For a Brain, before SpeechBrain's: a step of several processes is that
    of one process with all their utterances.

    The loss is the mean over all of them, however many each process has, and
    gradients are added up before the step. So a process may have nothing to
    learn from while others have: files that cannot be read, the end of its
    sessions. Such files are noted in `bad_files`, a set. A loss that is not
    finite is not learned from.

    SpeechBrain's wrappers for several processes are not used: they wait for a
    gradient of every parameter in every batch, and hide the modules'
    attributes.
    """

    before_training = None
    """Called by the main process before the first step, if one is made."""

    def unusable(self, batch):
        """Whether there is nothing to learn from in a batch."""
        return getattr(batch, "empty", False)

    def weight(self, batch):
        """How many things the mean of the loss was taken over."""
        return len(batch)

    def on_nothing(self):
        """Called in place of `compute_forward` if this process has nothing
        to learn from in a step, while others have."""

    def learn(self, loss):
        """Takes the gradients of a part of the step's loss."""
        self.scaler.scale(loss).backward()

    def _wrap_distributed(self):
        if not self.distributed_launch:
            super()._wrap_distributed()
            return
        share_parameters(self.modules)
        draw_apart()

    def fit(self, *args, **kwargs):
        """As SpeechBrain's; SIGTERM, which schedulers send, ends it with a
        checkpoint after the step that is being made.

        Raises
        ------
        InterruptedError
            If it was ended so.
        """
        self.asked_to_stop = self.ending = False
        ours = threading.current_thread() is threading.main_thread()
        before = ours and signal.signal(signal.SIGTERM, self._ask_to_stop)
        try:
            super().fit(*args, **kwargs)
        except RuntimeError as error:
            if not self.asked_to_stop:
                raise
            # A process that loads files got the signal, too.
            raise InterruptedError(STOPPED) from error
        finally:
            if ours:
                signal.signal(signal.SIGTERM, before)
        self.bad_files = union(self.bad_files)
        # It came too late for another step: the last checkpoint has all.
        asked = torch.tensor([float(self.asked_to_stop)], device=self.device)
        if total(asked):
            raise InterruptedError(STOPPED)

    def _ask_to_stop(self, *_):
        self.asked_to_stop = True

    def _save_intra_epoch_ckpt(self):
        super()._save_intra_epoch_ckpt()
        if self.ending:
            raise InterruptedError(STOPPED)

    def _fit_train(self, train_set, epoch, enable):
        self.loader, self.batches = train_set, None
        self.boundary, self.learned = True, False
        super()._fit_train(train_set, epoch, enable)

    def fit_batch(self, batch):
        """As SpeechBrain's; the batches that are left at the end of an epoch
        make a step, too.

        Arguments
        ---------
        batch : PaddedBatch
            Of this process.

        Returns
        -------
        torch.Tensor
            The loss of all processes; NaN if none had anything to learn from.
        """
        if self.before_training is not None:
            on_main(self.before_training)
            self.before_training = None
        if self.batches is None:  # it may differ between epochs
            self.batches = len(self.loader)
        self.bad_files.update(getattr(batch, "bad", ()))
        factor = self.grad_accumulation_factor
        place = (self.step - 1) % factor
        group = max(min(factor, self.batches - self.step + 1 + place), 1)
        self.boundary = place + 1 >= group
        self.on_fit_batch_start(batch, self.boundary)
        outputs, loss = self._fit_part(batch, group)
        stepped = self.boundary and self.learned
        if stepped:
            self.optimizers_step()
            self.learned = False
        self.on_fit_batch_end(batch, outputs, loss, stepped)
        return loss.cpu()

    def _fit_part(self, batch, group):
        """Gradients of a batch that is one of `group`; outputs and loss."""
        outputs, loss = None, torch.full((), math.nan, device=self.device)
        empty = self.unusable(batch)
        known = [0 if empty else len(batch), self.asked_to_stop]
        rows, self.ending = total(loss.new_tensor(known)).tolist()
        if not rows:
            return outputs, loss
        weight = 0
        if empty:
            self.on_nothing()
        else:
            with self.training_ctx:
                outputs = self.compute_forward(batch, Stage.TRAIN)
                loss = self.compute_objectives(outputs, batch, Stage.TRAIN)
            weight = self.weight(batch)
        part = loss.detach() * weight if weight else torch.zeros_like(loss)
        known = torch.stack([part, torch.full_like(part, weight)]).double()
        summed, weights = total(known)
        mean = summed / weights.clamp(min=1)
        self.check_loss_isfinite(mean)
        if torch.isfinite(mean):
            self.learned = True
            if weight:
                self.learn(loss * (weight / weights.item()) / group)
        return outputs, mean.to(loss.dtype)

    def optimizers_step(self):
        """As SpeechBrain's, with the gradients of all processes."""
        share_gradients(
            [
                parameter
                for optimizer in self.optimizers_dict.values()
                for group in optimizer.param_groups
                for parameter in group["params"]
            ]
        )
        self._share_statistics()
        super().optimizers_step()

    def _share_statistics(self):
        """The mean over processes of what batch norms have counted."""
        if count_processes() == 1:
            return
        for module in self.modules.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                for value in (module.running_mean, module.running_var):
                    value.copy_(total(value) / count_processes())

    def _should_save_intra_epoch_ckpt(self, *args):
        # Within a group gradients, and graphs, would be lost.
        if self.checkpointer is None or not self.boundary:
            return False
        return self.ending or super()._should_save_intra_epoch_ckpt(*args)

    def evaluate_batch(self, batch, stage):
        """As SpeechBrain's; NaN, which counts nowhere, if no file of the
        batch can be read."""
        self.bad_files.update(getattr(batch, "bad", ()))
        if getattr(batch, "empty", False):
            return torch.tensor(math.nan)
        return super().evaluate_batch(batch, stage)
