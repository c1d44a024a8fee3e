"""Other ways to adapt a CTC recogniser: the peers of a memory.

`Suta` is single-utterance test-time adaptation (SUTA, G.-T. Lin et al.,
"Listen, Adapt, Better WER: Source-free Single-utterance Test-time Adaptation
for Automatic Speech Recognition", https://arxiv.org/abs/2203.14222);
`fine_tune` learns a few utterances with their words.

Authors
* speechbrain_lact contributors 2026
"""

import copy

import torch

from speechbrain.nnet.losses import ctc_loss
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.lobes.models.pretrained import PretrainedFrontEnd


class Suta:
    """Makes a recogniser surer of each utterance before it is decoded.

    Entropy of the frames that are not blank, and confusion of classes, are
    minimised over the front end and the scales and offsets of the layer norms;
    then these are as before. Works on a copy of the model.

    Arguments
    ---------
    encoder : torch.nn.Module
        From waveforms [B, S] to log-probabilities [B, T, V]; its front end is
        `cnn`.
    tokens : int
        How many of the V outputs are in use.
    blank : int
        The blank's.
    steps : int
        Of AdamW.
    lr : float
        Its learning rate. The paper has 2e-5, for a model of 95 M parameters.
    weight : float
        Of the entropy; the rest is that of the class confusion.
    temperature : float
        Of the softmax in both.

    Example
    -------
    >>> class Encoder(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.cnn = torch.nn.Linear(4, 6)
    ...
    ...     def forward(self, wavs):
    ...         return self.cnn(wavs.unfold(1, 4, 4)).log_softmax(-1)
    >>> adapted = Suta(Encoder(), tokens=5)(torch.randn(80))
    >>> adapted.shape
    torch.Size([20, 5])
    """

    def __init__(
        self,
        encoder,
        tokens,
        blank=0,
        steps=10,
        lr=2e-5,
        weight=0.3,
        temperature=2.5,
    ):
        self.encoder = _copy(encoder).requires_grad_(False)
        self.tokens, self.blank = tokens, blank
        self.steps, self.lr = steps, lr
        self.weight, self.temperature = weight, temperature
        self.adapted = list(self.encoder.cnn.parameters())
        for module in self.encoder.modules():
            if isinstance(module, torch.nn.LayerNorm):
                self.adapted += module.parameters()
        self.adapted = list(dict.fromkeys(self.adapted))
        self.source = [value.clone() for value in self.adapted]

    def __call__(self, wav):
        """What the adapted model makes of an utterance.

        Arguments
        ---------
        wav : torch.Tensor
            Samples [S].

        Returns
        -------
        torch.Tensor
            Log-probabilities [T, tokens].
        """
        try:
            for value in self.adapted:
                value.requires_grad_(True)
            optimizer = torch.optim.AdamW(
                self.adapted, lr=self.lr, weight_decay=0.0
            )
            with torch.enable_grad():
                for _ in range(self.steps):
                    optimizer.zero_grad()
                    self.loss(self._outputs(wav)).backward()
                    optimizer.step()
            with torch.no_grad():
                return self._outputs(wav)
        finally:
            self._restore()

    def loss(self, log_probs):
        """What is minimised.

        Arguments
        ---------
        log_probs : torch.Tensor
            [T, tokens]

        Returns
        -------
        torch.Tensor
            Scalar.
        """
        soft = (log_probs / self.temperature).log_softmax(-1)
        spoken = log_probs.argmax(-1) != self.blank
        uncertain = entropy(soft)[spoken].sum() / spoken.sum().clamp(min=1)
        return self.weight * uncertain + (1 - self.weight) * class_confusion(
            soft
        )

    def _outputs(self, wav):
        return self.encoder(wav[None])[0, :, : self.tokens]

    def _restore(self):
        with torch.no_grad():
            for value, source in zip(self.adapted, self.source):
                value.copy_(source)
                value.grad = None
                value.requires_grad_(False)


def entropy(log_probs):
    """Entropy of each frame.

    Arguments
    ---------
    log_probs : torch.Tensor
        [..., V]

    Returns
    -------
    torch.Tensor
        [...]

    Example
    -------
    >>> entropy(torch.zeros(1, 8).log_softmax(-1)).exp()
    tensor([8.0000])
    """
    return -(log_probs.exp() * log_probs).sum(-1)


def class_confusion(log_probs):
    """Minimum class confusion (Jin et al., https://arxiv.org/abs/1912.03699):
    how often frames that may be one token may be another one, too.

    Arguments
    ---------
    log_probs : torch.Tensor
        [T, V]

    Returns
    -------
    torch.Tensor
        Scalar: 0 if every frame is certain.

    Example
    -------
    >>> class_confusion(torch.zeros(3, 4).log_softmax(-1))
    tensor(0.7500)
    """
    probs = log_probs.exp()
    together = probs.T @ probs
    shares = together / together.sum(1, keepdim=True).clamp(min=1e-12)
    return (shares.sum() - shares.trace()) / len(shares)


def fine_tune(encoder, wavs, targets, blank=0, steps=10, lr=1e-4):
    """Trains all of a recogniser on a few utterances with their words.

    Dropout is off and all utterances are in every step, so that nothing is
    random.

    Arguments
    ---------
    encoder : torch.nn.Module
        From waveforms [B, S] and relative lengths [B] to log-probabilities
        [B, T, V]; it stays as it is.
    wavs : list of torch.Tensor
        Samples [S] of each.
    targets : list of torch.Tensor
        Tokens of each.
    blank : int
        The blank.
    steps : int
        Of Adam.
    lr : float
        Its learning rate.

    Returns
    -------
    torch.nn.Module
        A trained copy.
    """
    model = _copy(encoder).requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    device = next(model.parameters()).device
    batch = [
        part.to(device) for part in (*pad_waves(wavs), *pad_waves(targets))
    ]
    with torch.enable_grad():
        for _ in range(steps):
            ctc_step(model, optimizer, batch, blank)
    return model.requires_grad_(False)


def ctc_step(encoder, optimizer, batch, blank=0):
    """One step of training on a batch.

    Arguments
    ---------
    encoder : torch.nn.Module
        As `fine_tune` has it; what is frozen stays.
    optimizer : torch.optim.Optimizer
        Of its parameters.
    batch : list of torch.Tensor
        Samples [B, S], relative lengths [B], tokens [B, L], relative lengths
        [B].
    blank : int
        The blank.

    Returns
    -------
    torch.Tensor
        The loss before the step.
    """
    wavs, lengths, tokens, token_lengths = batch
    optimizer.zero_grad()
    log_probs = encoder(wavs, lengths)
    loss = ctc_loss(log_probs, tokens, lengths, token_lengths, blank)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
    optimizer.step()
    return loss.detach()


def _copy(encoder):
    """All of it can be adapted, also what was frozen in training."""
    model = copy.deepcopy(encoder).eval()
    for part in model.modules():
        if isinstance(part, PretrainedFrontEnd):
            part.unfreeze()
    return model
