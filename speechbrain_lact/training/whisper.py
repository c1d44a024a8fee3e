"""Training of what LaCT does in Whisper; Whisper's decoder stays as it is.

The streaming encoder learns to give what Whisper's own encoder gives on a full
30 s (no words needed), then also to make the decoder say the words. The gated
layers behind Whisper's own encoder learn the words alone.

Authors
* speechbrain_lact contributors 2026
"""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

import speechbrain as sb
from speechbrain.core import Stage
from speechbrain_lact.training.global_batches import GlobalBatches
from speechbrain_lact.training.whisper_data import FRAME

MOST_TOKENS = 400  # of a segment; Whisper's decoder has 448 positions


class WhisperBrain(GlobalBatches, sb.Brain):
    """What both trainings share: the words, the rate, the log."""

    def prepare(self, host):
        """Sets what SpeechBrain's constructor does not know.

        Arguments
        ---------
        host : speechbrain.integrations.huggingface.whisper.Whisper
            With the decoder.
        """
        self.host, self.bad_files, self.sums = host, set(), {}

    def tokens(self, text):
        """Token ids of a text, as the decoder reads and writes them."""
        tokenizer = self.host.tokenizer
        ids = tokenizer.encode(" " + text.strip(), add_special_tokens=False)
        ids = [*tokenizer.prefix_tokens, *ids[:MOST_TOKENS], self.host.eos]
        return torch.tensor(ids, device=self.device)

    def word_loss(self, segments, texts):
        """Cross entropy of the words of segments.

        Arguments
        ---------
        segments : list of torch.Tensor
            Frames of each [T, d_model].
        texts : list of str

        Returns
        -------
        torch.Tensor
        """
        decoder, scores, wanted = self.host.model.decoder, [], []
        skip = len(self.host.tokenizer.prefix_tokens) - 1
        for frames, text in zip(segments, texts, strict=True):
            ids = self.tokens(text)
            out = decoder(
                input_ids=ids[None, :-1],
                encoder_hidden_states=frames[None],
                use_cache=False,
            ).last_hidden_state[0, skip:]
            scores.append(out @ decoder.embed_tokens.weight.T)
            wanted.append(ids[skip + 1 :])
        loss = F.cross_entropy(torch.cat(scores), torch.cat(wanted))
        self.note("words", float(loss.detach()))
        return loss

    def note(self, name, value):
        """Adds to a mean that is logged at the end of the stage."""
        total, count = self.sums.get(name, (0.0, 0))
        self.sums[name] = total + value, count + 1

    def weight(self, batch):
        """Frames of a batch."""
        return sum(batch["lengths"])

    def on_fit_batch_end(self, batch, outputs, loss, should_step):
        """The rate of the next step."""
        if should_step:
            for group in self.optimizer.param_groups:
                group["lr"] = self.hparams.rate(self.optimizer_step)

    def on_stage_start(self, stage, epoch):
        """Means begin anew."""
        self.sums = {}

    def on_stage_end(self, stage, stage_loss, epoch):
        """Logs, and keeps a checkpoint."""
        stats = {name: a / b for name, (a, b) in self.sums.items()}
        if stage == Stage.TRAIN:
            self.train_stats = stats
        elif stage == Stage.VALID:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "step": self.optimizer_step},
                self.train_stats,
                stats,
            )
            self.checkpointer.save_and_keep_only(
                meta={"loss": stage_loss}, min_keys=["loss"]
            )


class StreamBrain(WhisperBrain):
    """Trains the streaming encoder: matches outputs, then words."""

    def compute_forward(self, batch, stage):
        """Frames of the streaming encoder [T, d_model]."""
        wav = batch["wav"].to(self.device)[None]
        if stage == Stage.TRAIN and self.hparams.augmentation is not None:
            # What Whisper made of the audio as it was stays what is wanted.
            wav, _ = self.hparams.augmentation(wav, wav.new_ones(1))
        ends = torch.zeros(1, wav.shape[1] // (FRAME // 2), dtype=torch.bool)
        stops = torch.tensor(batch["lengths"]).cumsum(0)
        ends[0, 2 * stops - 1] = True
        out, _ = self.modules.net(
            wav,
            ends=ends.to(self.device),
            blocks=self.hparams.block_sampler(stage),
        )
        return out.frames[0, : sum(batch["lengths"])]

    def compute_objectives(self, predictions, batch, stage):
        """Mean square over the variance of Whisper's frames, and the
        words."""
        wanted = batch["frames"].to(predictions)
        loss = F.mse_loss(predictions, wanted) / wanted.var()
        self.note("match", float(loss.detach()))
        begun = self.optimizer_step >= self.hparams.word_start
        if begun or stage != Stage.TRAIN:
            segments = predictions.split(batch["lengths"])
            words = self.word_loss(segments, batch["texts"])
            loss = loss + self.hparams.word_weight * words
        return loss


class GatedBrain(WhisperBrain):
    """Trains gated layers between Whisper's encoder and decoder."""

    def compute_forward(self, batch, stage):
        """Frames of each segment, with the layers [T, d_model]."""
        lengths = batch["lengths"]
        x = pad_sequence(
            list(batch["frames"].to(self.device).split(lengths)),
            batch_first=True,
        )
        counts = torch.tensor(lengths, device=self.device)
        out, *_ = self.modules.net(x, wav_len=counts.double() / x.shape[1])
        return [row[:count] for row, count in zip(out, lengths)]

    def compute_objectives(self, predictions, batch, stage):
        """Cross entropy of the words."""
        return self.word_loss(predictions, batch["texts"])


def straight_rate(peak, warmup, steps):
    """A rate that rises, then falls to zero in a straight line.

    Arguments
    ---------
    peak : float
    warmup, steps : int

    Returns
    -------
    callable
        Takes the number of the step.

    Example
    -------
    >>> rate = straight_rate(1.0, 2, 12)
    >>> rate(1), rate(7)
    (0.5, 0.5)
    """

    def rate(step):
        return peak * min(
            step / max(warmup, 1), max(0.0, (steps - step) / (steps - warmup))
        )

    return rate
