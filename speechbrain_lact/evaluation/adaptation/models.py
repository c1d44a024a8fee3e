"""Exported models that are measured.

Authors
* speechbrain_lact contributors 2026
"""

import re
from pathlib import Path

import torch

from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.dataio.audio import pad_waves
from speechbrain_lact.evaluation.adaptation.cache import digest
from speechbrain_lact.evaluation.adaptation.systems import (
    MEMORY,
    PLAIN,
    SESSION,
    SUTA,
    TUNED,
)
from speechbrain_lact.inference.ASR import LaCTASR
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.nnet.lact import LaCT


class Model:
    """One trained model of a system.

    Arguments
    ---------
    name : str
        The system's.
    folder : str
        What train.py has exported.
    device : str
        Where to run it.
    """

    def __init__(self, name, folder, device):
        self.name, self.folder = name, str(folder)
        path = Path(folder) / "hyperparams.yaml"
        if not path.is_file():
            raise ValueError(
                f"--models {name}={folder}: no exported model "
                f"({path.name} is missing); give the model folder of train.py"
            )
        try:
            self.asr = LaCTASR.from_hparams(
                self.folder, savedir=None, run_opts={"device": device}
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(
                f"--models {name}={folder}: no recogniser with CTC: {error}"
            ) from error
        if self.asr.sample_rate != SAMPLE_RATE:
            raise ValueError(
                f"--models {name}={folder}: {self.asr.sample_rate} Hz; "
                f"{SAMPLE_RATE} are needed"
            )
        self.encoder = self.asr.encoder.eval().requires_grad_(False)
        self.tokens = self.asr.tokenizer.vocab_size()
        self.mixers = [
            module
            for module in self.encoder.modules()
            if isinstance(module, LaCT) and module.fast
        ]
        # Ours obey the law of batches; SpeechBrain's own read padding.
        self.ours = getattr(self.encoder.transformer, "carries_state", False)
        self.parameters = sum(p.numel() for p in self.encoder.parameters())
        text = path.read_text() + fingerprint(self.encoder)
        self.digest = digest(text)

    def systems(self, tuned):
        """What can be measured of it.

        Arguments
        ---------
        tuned : list of int
            Numbers of utterances to fine-tune on.

        Returns
        -------
        list of str
        """
        if self.mixers:
            return list(MEMORY)
        if self.ours:
            return [PLAIN]
        return [PLAIN, SESSION, SUTA, *(f"{TUNED} {count}" for count in tuned)]

    def words(self, tokens):
        """The words of tokens."""
        return self.asr.tokenizer.decode_ids(tokens).split()

    def decode(self, log_probs, lengths):
        """Words of each row of log-probabilities [B, T, V]."""
        log_probs = log_probs[..., : self.tokens]
        share = lengths / log_probs.shape[1]
        rows = self.asr.decoding_function(log_probs, share)
        return [self.words(row) for row in rows]

    def recognise(self, wavs, state=None):
        """Words of utterances, and the states after them, of our encoders.

        Arguments
        ---------
        wavs : list of torch.Tensor
            Samples [S] of each.
        state : PipelineState, optional
            Of each.

        Returns
        -------
        list of list of str
        PipelineState
        """
        if state is None:
            state = self.encoder.initial_state(len(wavs))
        wavs, lengths = (x.to(self.asr.device) for x in pad_waves(wavs))
        log_probs, after = self.encoder(wavs, lengths, state=state)
        return self.decode(log_probs, after.encoder.lengths), after

    def recognise_alone(self, wav, encoder=None):
        """Words of one utterance, by this or another encoder."""
        log_probs = (encoder or self.encoder)(wav[None].to(self.asr.device))
        return self.decode_whole(log_probs)

    def decode_whole(self, log_probs):
        """Words of one row without padding [1, T, V]."""
        frames = torch.tensor([log_probs.shape[1]], device=log_probs.device)
        return self.decode(log_probs, frames)[0]


def load_models(entries, device):
    """Models of the command line.

    Arguments
    ---------
    entries : list of str
        NAME=FOLDER of each; a name again is another training seed.
    device : str
        Where to run them.

    Returns
    -------
    dict of list of Model
        Of each name, one a seed.

    Raises
    ------
    ValueError
        If there is no such model, or names and seeds do not fit.
    """
    models = {}
    for entry in entries:
        name, found, folder = entry.partition("=")
        if not found or not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"--models {entry}: give NAME=FOLDER")
        model = Model(name, folder, device)
        models.setdefault(name, []).append(model)
    counts = {name: len(seeds) for name, seeds in models.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"--models: as many folders of each name, for the seeds are summed "
            f"({', '.join(f'{n}: {c}' for n, c in counts.items())})"
        )
    for name, seeds in models.items():
        if len({(bool(m.mixers), m.ours) for m in seeds}) > 1:
            raise ValueError(f"--models {name}: models of different kinds")
        if len({m.digest for m in seeds}) < len(seeds):
            raise ValueError(f"--models {name}: twice the same model")
    return models
