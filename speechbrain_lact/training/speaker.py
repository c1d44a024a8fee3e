"""Training and tests of an encoder of voices.

Authors
* speechbrain_lact contributors 2026
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import speechbrain as sb
from speechbrain.utils.distributed import if_main_process
from speechbrain.utils.logger import get_logger
from speechbrain_lact.training.global_batches import GlobalBatches

logger = get_logger(__name__)


class SpeakerBrain(GlobalBatches, sb.Brain):
    """Learns to tell the training voices from each other; is tested on pairs
    of utterances of other voices."""

    def unusable(self, batch):
        """One utterance alone, too: a batch of it has no variance."""
        return batch.empty or len(batch) == 1

    def compute_forward(self, batch, stage):
        """Cosines to the training voices [B, 1, N], or when not training the
        embeddings [B, 1, E]."""
        batch = batch.to(self.device)
        wavs, lens = batch.sig
        train = stage == sb.Stage.TRAIN
        if train:
            wavs, lens = self.hparams.wav_augment(wavs, lens)
        feats = self.modules.compute_features(wavs)
        feats = self.modules.mean_var_norm(feats, lens)
        embeddings = self.modules.embedding_model(feats, lens)
        return self.modules.classifier(embeddings) if train else embeddings

    def compute_objectives(self, predictions, batch, stage):
        """Loss of the training voices; embeddings of the others are kept for
        `score`."""
        if stage == sb.Stage.TRAIN:
            spkid = batch.spk_id_encoded.data
            spkid = self.hparams.wav_augment.replicate_labels(spkid)
            return self.hparams.compute_cost(predictions, spkid)
        for row, key in enumerate(batch.id):
            self.scored[key] = {
                "spk_id": batch.spk_id[row],
                "session": batch.session[row],
                "embedding": predictions[row, 0].float().cpu(),
            }
        return torch.zeros(())

    def on_stage_start(self, stage, epoch=None):
        """No utterance was scored yet."""
        if stage != sb.Stage.TRAIN:
            self.scored = {}

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs and saves; the best is that of the lowest EER."""
        if stage == sb.Stage.TRAIN:
            self.train_stats = {"loss": stage_loss}
            return
        self.same, self.different = self.score()
        if stage == sb.Stage.TEST:
            return
        eer, threshold = equal_error(self.same, self.different)
        stats = {"EER": 100 * eer, "threshold": threshold}
        old_lr, new_lr = self.hparams.lr_annealing(epoch)
        sb.nnet.schedulers.update_learning_rate(self.optimizer, new_lr)
        self.hparams.train_logger.log_stats(
            stats_meta={"epoch": epoch, "lr": old_lr},
            train_stats=self.train_stats,
            valid_stats=stats,
        )
        self.checkpointer.save_and_keep_only(
            meta={"EER": stats["EER"]}, min_keys=["EER"]
        )

    def score(self):
        """Cosines of pairs of one voice [P] and of two [P']."""
        keys = sorted(self.scored)
        trials = draw_trials(
            [self.scored[key]["spk_id"] for key in keys],
            [self.scored[key]["session"] for key in keys],
            self.hparams.max_trials,
            self.hparams.seed,
        )
        voices = torch.stack([self.scored[key]["embedding"] for key in keys])
        voices = F.normalize(voices, dim=1)
        return [(voices[one] * voices[two]).sum(1) for one, two in trials]

    def test(self, name, data, loader, threshold=None):
        """Scores the pairs of a test set with the best checkpoint.

        Arguments
        ---------
        name : str
            The test set.
        data : DynamicItemDataset
            Its utterances.
        loader : dict
            For the data loader.
        threshold : float, optional
            Cosine above which two utterances are of one voice. Default: that
            of this set's own equal error rate.

        Returns
        -------
        row : dict
            The results, rates in percent.
        threshold : float
            The one used.
        """
        self.evaluate(data, min_key="EER", test_loader_kwargs=loader)
        eer, own = equal_error(self.same, self.different)
        if threshold is None:
            threshold = round(own, 4)
        accepted = float((self.different > threshold).double().mean())
        rejected = float((self.same <= threshold).double().mean())
        if if_main_process():
            folder = Path(self.hparams.output_folder)
            save_file(
                {key: row["embedding"] for key, row in self.scored.items()},
                folder / f"embeddings_{name}.safetensors",
            )
        row = {
            "test": name,
            "voices": len({row["spk_id"] for row in self.scored.values()}),
            "utterances": len(self.scored),
            "pairs of one voice": len(self.same),
            "pairs of two": len(self.different),
            "EER": round(100 * eer, 2),
            "other voice accepted": round(100 * accepted, 2),
            "same voice rejected": round(100 * rejected, 2),
            "bad_files": len(data) - len(self.scored),
        }
        return row, threshold


def equal_error(same, different):
    """SpeechBrain's equal error rate and its threshold.

    Arguments
    ---------
    same : torch.Tensor
        Scores of pairs of one voice [P].
    different : torch.Tensor
        Scores of pairs of two [P'].

    Returns
    -------
    rate : float
        0 to 1.
    threshold : float
        Midway between the two kinds, if they do not overlap.
    """
    # Here, for what it imports sets variables of the environment.
    from speechbrain.utils.metric_stats import EER

    rate, threshold = EER(same, different)
    least, most = float(same.min()), float(different.max())
    return rate, (least + most) / 2 if most < least else threshold


def draw_trials(speakers, sessions, most, seed):
    """Pairs of utterances to compare.

    Arguments
    ---------
    speakers : list of str
        Who says each utterance.
    sessions : list of str
        Where it was said. Pairs of one voice are of two sessions if a voice
        has more than one: within one, the microphone is the same, too.
    most : int
        More pairs of one voice, or of two, are not taken.
    seed : int
        Which then are.

    Returns
    -------
    same, different : torch.Tensor
        Indices of the utterances [2, P].
    """
    one, two = torch.combinations(torch.arange(len(speakers))).T
    numbers = []
    for names in (speakers, sessions):
        known = {name: i for i, name in enumerate(dict.fromkeys(names))}
        numbers.append(torch.tensor([known[name] for name in names]))
    same, near = [number[one] == number[two] for number in numbers]
    different, apart = ~same, same & ~near
    same = apart if bool(apart.any()) else same
    if not (bool(same.any()) and bool(different.any())):
        raise ValueError(
            f"{len(speakers)} utterances of {len(set(speakers))} voices; two "
            f"of one voice and another voice are needed at least"
        )
    draw, trials = torch.Generator().manual_seed(seed), []
    for chosen in (same, different):
        chosen = chosen.nonzero()[:, 0]
        chosen = chosen[torch.randperm(len(chosen), generator=draw)[:most]]
        trials.append(torch.stack([one[chosen], two[chosen]]))
    return trials
