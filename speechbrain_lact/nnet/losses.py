"""Losses of training; those of the fast weights are in `fast_network`.

Authors
* speechbrain_lact contributors 2026
"""

import torch
from torchaudio.functional import rnnt_loss

REDUCTIONS = {"mean": "mean", "batchmean": "mean", "sum": "sum", "none": "none"}


def transducer_loss(
    logits,
    targets,
    input_lens,
    target_lens,
    blank_index,
    reduction="mean",
):
    """Transducer loss that needs neither numba nor a GPU.

    It is called as `speechbrain.nnet.losses.transducer_loss` is, and computes
    the same with `torchaudio.functional.rnnt_loss`, in float32.

    Arguments
    ---------
    logits : torch.Tensor
        Output of the joint network [batch, frames, labels + 1, vocabulary].
    targets : torch.Tensor
        Labels without blanks [batch, labels].
    input_lens : torch.Tensor
        Length of each utterance over `frames` [batch].
    target_lens : torch.Tensor
        Length of each target over `labels` [batch].
    blank_index : int
        The blank among the labels.
    reduction : str
        `mean` or `batchmean` over utterances, `sum`, or `none`.

    Returns
    -------
    torch.Tensor
        A scalar, or [batch] without reduction.

    Raises
    ------
    ValueError
        For another reduction, for logits that do not have one position more
        than `targets`, for a label that is not in the vocabulary, and for an
        utterance of no frames.

    Example
    -------
    >>> logits = torch.zeros(1, 2, 2, 4)  # uniform over four labels
    >>> whole = torch.ones(1)
    >>> loss = transducer_loss(logits, torch.tensor([[3]]), whole, whole, 0)
    >>> # Two paths, each of one label and two blanks.
    >>> loss.isclose(-torch.tensor(2 / 4**3).log())
    tensor(True)
    """
    if reduction not in REDUCTIONS:
        raise ValueError(
            f"reduction must be one of {', '.join(REDUCTIONS)}, "
            f"not {reduction!r}"
        )
    if logits.shape[2] != targets.shape[1] + 1:
        raise ValueError(
            f"logits [batch, frames, labels + 1, vocabulary] = "
            f"{list(logits.shape)} do not fit targets [batch, labels] = "
            f"{list(targets.shape)}"
        )
    frames = (input_lens * logits.shape[1]).round().int()
    labels = (target_lens * targets.shape[1]).round().int()
    if int(frames.min()) < 1:
        raise ValueError("an utterance of no frames has no transducer loss")
    # torchaudio wants tensors as long as their longest row.
    logits = logits[:, : frames.max(), : labels.max() + 1]
    targets = targets[:, : labels.max()]
    places = torch.arange(targets.shape[1], device=targets.device)
    wrong = (targets < 0) | (targets >= logits.shape[-1])
    wrong &= places < labels[:, None]
    if bool(wrong.any()):
        raise ValueError(
            f"label {int(targets[wrong][0])} is not in the vocabulary of "
            f"{logits.shape[-1]}"
        )
    return rnnt_loss(
        logits.float().contiguous(),
        targets.int().contiguous(),
        frames,
        labels,
        blank=blank_index,
        reduction=REDUCTIONS[reduction],
    )


class SpectralLoss(torch.nn.Module):
    """How far two signals are apart in magnitude spectrograms of several
    sizes: mean distance of the logarithms, and spectral convergence, as in
    Parallel WaveGAN (https://arxiv.org/abs/1910.11480).

    SpeechBrain's `MultiScaleSTFTLoss` calls `torch.stft` in a way that torch
    2.11 refuses.

    Arguments
    ---------
    n_ffts : list of int
        Sizes of the transforms; each has four frames a window.
    floor : float
        Least magnitude.

    Example
    -------
    >>> x = torch.randn(2, 4000)
    >>> SpectralLoss()(x, x)
    tensor(0.)
    """

    def __init__(self, n_ffts=(1024, 512, 256), floor=1e-4):
        super().__init__()
        self.n_ffts, self.floor = list(n_ffts), floor
        for size in self.n_ffts:
            window = torch.hann_window(size)
            self.register_buffer(f"window{size}", window, persistent=False)

    def forward(self, prediction, target):
        """Mean over sizes of both distances.

        Arguments
        ---------
        prediction, target : torch.Tensor
            Waveforms [B, S].

        Returns
        -------
        torch.Tensor
            A scalar.
        """
        total = 0.0
        for size in self.n_ffts:
            window = getattr(self, f"window{size}")
            one, two = (
                torch.stft(
                    x, size, size // 4, window=window, return_complex=True
                )
                .abs()
                .clamp(min=self.floor)
                for x in (prediction, target)
            )
            total = total + (one.log() - two.log()).abs().mean()
            total = total + (one - two).norm() / two.norm()
        return total / len(self.n_ffts)
