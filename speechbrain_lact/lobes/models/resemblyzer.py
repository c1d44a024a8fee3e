"""The encoder of voices of the package resemblyzer (Apache-2.0), an LSTM that
was trained on some thousand people (L. Wan et al., "Generalized End-to-End
Loss for Speaker Verification", 2018).

The weights come with that package. It is not imported: it needs a voice
activity detector in C and librosa, for what is not used here. Features are
torchaudio's, equal to librosa's.

Authors
* speechbrain_lact contributors 2026
"""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torchaudio.transforms import MelSpectrogram

from speechbrain_lact.lobes.features import sample_counts

INSTALL = "pip install 'speechbrain_lact[speakers]'"

# Samples a second, and of a frame and from one to the next.
SAMPLE_RATE, FRAME, HOP = 16000, 400, 160
MELS, WIDTH, LAYERS = 40, 256, 3
# Frames of a part, and from one part to the next: the package's own.
PART, PART_HOP = 160, 77
# Root mean square that the network was trained on: -30 dB of full scale.
LEVEL = 10 ** (-30 / 20)


def weights_file():
    """Where the weights are.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None:
        raise ImportError(f"resemblyzer is not installed: {INSTALL}")
    return Path(spec.origin).parent / "pretrained.pt"


class Resemblyzer(torch.nn.Module):
    """Embeds voices, as SpeechBrain's `EncoderClassifier` does.

    A recording is made equally loud and cut into parts of 1.6 s that overlap;
    its embedding is the mean of theirs.

    Arguments
    ---------
    threshold : float
        Cosine similarity from which on two voices are one.
    device : str or torch.device
        Where it runs.

    Raises
    ------
    ImportError
        If the package resemblyzer is not installed.

    Example
    -------
    >>> voices = Resemblyzer(threshold=0.8)  # doctest: +SKIP
    >>> voices.encode_batch(torch.randn(2, 32000)).shape  # doctest: +SKIP
    torch.Size([2, 1, 256])
    """

    def __init__(self, threshold, device="cpu"):
        super().__init__()
        self.hparams = SimpleNamespace(threshold=threshold)
        self.audio_normalizer = SimpleNamespace(sample_rate=SAMPLE_RATE)
        self.features = MelSpectrogram(
            SAMPLE_RATE,
            n_fft=FRAME,
            hop_length=HOP,
            n_mels=MELS,
            norm="slaney",
            mel_scale="slaney",
            pad_mode="constant",
        )
        self.lstm = torch.nn.LSTM(MELS, WIDTH, LAYERS, batch_first=True)
        self.linear = torch.nn.Linear(WIDTH, WIDTH)
        kept = torch.load(weights_file(), "cpu", weights_only=True)
        weights = {
            name: value
            for name, value in kept["model_state"].items()
            if name.startswith(("lstm.", "linear."))
        }
        missing = self.load_state_dict(weights, strict=False).missing_keys
        if not all(name.startswith("features.") for name in missing):
            raise ValueError(f"{weights_file()}: other weights than expected")
        self.to(device).eval().requires_grad_(False)

    @property
    def device(self):
        """Where it runs."""
        return self.linear.weight.device

    @torch.no_grad()
    def encode_batch(self, wavs, wav_lens=None):
        """Embeds voices.

        Arguments
        ---------
        wavs : torch.Tensor
            [B, S], 16,000 samples a second.
        wav_lens : torch.Tensor, optional
            Length of each row over S [B]; what stands behind is not read.

        Returns
        -------
        torch.Tensor
            Of length 1 [B, 1, 256].
        """
        if wav_lens is None:
            wav_lens = torch.ones(len(wavs))
        counts = sample_counts(wavs, wav_lens).cpu()
        wavs = wavs.to(self.device).float()
        found = wavs.new_empty(len(wavs), 1, WIDTH)
        # Those of one length at a time: no row depends on another one's.
        for count in counts.unique().tolist():
            rows = (counts == count).nonzero()[:, 0].to(self.device)
            found[rows, 0] = self._embed(wavs[rows, :count])
        return found

    def _embed(self, wavs):
        power = wavs.square().mean(1, keepdim=True)
        wavs = LEVEL * wavs / power.sqrt().clamp_min(1e-6)
        feats = self.features(wavs).mT
        # The last part ends where the recording does.
        last = max(feats.shape[1] - PART, 0)
        begins = [*range(0, last, PART_HOP), last]
        parts = torch.cat([feats[:, b : b + PART] for b in begins])
        _, (hidden, _) = self.lstm(parts)
        voices = F.normalize(self.linear(hidden[-1]).relu(), dim=1)
        return F.normalize(voices.view(len(begins), len(wavs), -1).mean(0))
