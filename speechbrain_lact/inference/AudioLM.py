"""Trained audio tokenizers and language models, and what a user does with
them.

Authors
* speechbrain_lact contributors 2026
"""

import math
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file

from speechbrain.utils.logger import get_logger
from speechbrain_lact.inference.card.audio import audio_card
from speechbrain_lact.inference.export import YAML_FILE, dump_yaml
from speechbrain_lact.inference.folder import load_yaml
from speechbrain_lact.lobes.models.audio_lm.generation import Sampling
from speechbrain_lact.nnet.checks import check_number, describe
from speechbrain_lact.processing.long_outputs import Deadline, worst_span

DEFAULT_TOKENIZER = Path(__file__).with_name("audio_tokenizer")
TOKENIZER = "tokenizer"  # folder of a language model's tokenizer
SUFFIX = ".safetensors"

logger = get_logger(__name__)


def write_audio_model(folder, experiment, name, model, **card):
    """Writes a trained tokenizer or language model to a folder.

    Arguments
    ---------
    folder : str or Path
        Where to; made if need be.
    experiment : str or Path
        The run's YAML, all values in it (`hyperparams.yaml` of its output
        folder).
    name : str
        Name of the model in it, and of the file with the weights.
    model : torch.nn.Module
        Trained. Weights are kept in half precision.
    **card : dict
        For the model card: `settings`, `sources`, `table`, `run`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = YAML().load(Path(experiment).read_text())
    yaml = folder / YAML_FILE
    lines = dump_yaml({name: settings[name]}).splitlines()
    # Without the headings of the experiment.
    lines = [line for line in lines if line and not line.startswith("#")]
    yaml.write_text("\n".join(lines) + "\n")
    weights = {
        key: (x.half() if x.is_floating_point() else x).contiguous().cpu()
        for key, x in model.state_dict().items()
    }
    save_file(weights, folder / f"{name}{SUFFIX}")
    # Safetensors keeps its files from others.
    shutil.copymode(yaml, folder / f"{name}{SUFFIX}")
    (folder / "README.md").write_text(audio_card(name, **card))


def load_audio_model(source, name, trust=False):
    """What `write_audio_model` has written.

    Arguments
    ---------
    source : str or Path
        The folder.
    name : str
        Name of the model in it.
    trust : bool
        Whether whatever its YAML names may run.

    Returns
    -------
    torch.nn.Module
        Ready for use.

    Raises
    ------
    ValueError
        If there is no such model in the folder, or what could run code.
    """
    folder = Path(source)
    try:
        model = load_yaml(folder / YAML_FILE, trust=trust)[name]
        model.load_state_dict(load_file(folder / f"{name}{SUFFIX}"))
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{source}: no folder of a trained {name} "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    return model.eval()


def load_tokenizer(source=None, trust=False):
    """A tokenizer of audio.

    Arguments
    ---------
    source : str or Path, optional
        A folder that `recipes/AudioLM/train_tokenizer.py` has written.
        Default: the small one in the box, for speech of 16 kHz.
    trust : bool
        Whether whatever its YAML names may run.

    Returns
    -------
    AudioTokenizer

    Example
    -------
    >>> tokenizer = load_tokenizer()
    >>> tokenizer.encode(torch.randn(1, 16000)).shape
    torch.Size([1, 50, 8])
    """
    source = DEFAULT_TOKENIZER if source is None else source
    return load_audio_model(source, "tokenizer", trust)


class AudioGenerator:
    """Makes audio with a language model of audio tokens.

    Arguments
    ---------
    model : AudioLM
        The language model.
    tokenizer : AudioTokenizer
        Of its tokens.
    embedder : EncoderClassifier, optional
        Encoder of voices, if the model is conditioned on them.
    """

    def __init__(self, model, tokenizer, embedder=None):
        sizes = [model.codebook_size] * model.codebooks
        if tokenizer.codebook_sizes != sizes:
            raise ValueError(
                f"the model has codebooks of {sizes} tokens, the tokenizer of "
                f"{tokenizer.codebook_sizes}: take the tokenizer it was "
                f"trained with"
            )
        self.model, self.tokenizer = model.eval(), tokenizer.eval()
        self.embedder = embedder

    @classmethod
    def from_hparams(cls, source, embedder=None, trust=False):
        """Loads what `recipes/AudioLM/train.py` has written.

        Arguments
        ---------
        source : str or Path
            The folder `model` of a run.
        embedder : EncoderClassifier, optional
            Encoder of voices.
        trust : bool
            Whether whatever its YAMLs name may run.

        Returns
        -------
        AudioGenerator
        """
        source = Path(source)
        model = load_audio_model(source, "model", trust)
        tokenizer = load_tokenizer(source / TOKENIZER, trust)
        return cls(model, tokenizer, embedder)

    def frames(self, seconds):
        """Frames of so many seconds, at least one."""
        if isinstance(seconds, float) and math.isinf(seconds):
            check_number(seconds, "seconds")
        if not seconds > 0:
            raise ValueError(f"seconds must be above 0, not {seconds}")
        return max(round(seconds * self.tokenizer.frame_rate), 1)

    def encode(self, wav, what="prompt"):
        """Tokens of a recording [S] at the tokenizer's rate [T, K]."""
        if not isinstance(wav, torch.Tensor) or not wav.is_floating_point():
            raise ValueError(
                f"{what}: floats between -1 and 1 [S], not {describe(wav)}"
            )
        if wav.ndim != 1 or not len(wav):
            raise ValueError(
                f"{what}: samples {list(wav.shape)}, but one channel of at "
                f"least one sample is needed"
            )
        if not bool(wav.isfinite().all()):
            raise ValueError(f"{what}: samples that are not finite")
        with torch.inference_mode():
            # A tokenizer without weights has buffers.
            like = [*self.tokenizer.parameters(), *self.tokenizer.buffers()][0]
            return self.tokenizer.encode(wav[None].to(like.device))[0]

    def voice(self, wav):
        """Embedding of the voice in a recording [S], or None without an
        encoder of voices."""
        if self.embedder is None or self.model.voice is None:
            return None
        if not float(wav.abs().max()) > 1e-4:
            raise ValueError("style: nothing but silence")
        with torch.inference_mode():
            return self.embedder.encode_batch(wav[None]).flatten(1)

    def adapt_to_style(self, reference, domain=None):
        """A state that has heard a recording: its voice, by embedding if
        there is an encoder of voices, and all else by the memory.

        Arguments
        ---------
        reference : torch.Tensor
            Samples [S] at the tokenizer's rate.
        domain : str, optional
            One of the model's.

        Returns
        -------
        AudioLMState
        """
        tokens = self.encode(reference, "style")
        return self.model.adapt_to_style(
            [tokens], speaker=self.voice(reference), domain=[domain]
        )

    def begin(
        self,
        text=None,
        prompt=None,
        style=None,
        domain=None,
        seed=0,
        state=None,
    ):
        """State from which audio is made.

        Arguments
        ---------
        text : str, optional
            What is to be said.
        prompt : torch.Tensor, optional
            Samples [S] that the audio goes on from.
        style : torch.Tensor, optional
            Samples [S] of the voice to be taken; default: of the prompt.
        domain : str, optional
            One of the model's.
        seed : int
            Of the choices.
        state : AudioLMState, optional
            A memory to begin with, as of `adapt_to_style`.

        Returns
        -------
        GenerationState
        """
        tokens = None if prompt is None else [self.encode(prompt)]
        condition = {}
        if state is None:
            voice = prompt if style is None else style
            if voice is not None:
                condition["speaker"] = self.voice(voice)
            condition["domain"] = [domain]
        return self.model.begin(
            None if text is None else [text],
            tokens,
            seed,
            state,
            **condition,
        )

    def generate(self, state, seconds, **sampling):
        """Makes audio.

        Arguments
        ---------
        state : GenerationState
            As `begin` returns, or an earlier call.
        seconds : float
            At most.
        **sampling : dict
            As `Sampling`.

        Returns
        -------
        wav : torch.Tensor
            [S]
        tokens : torch.Tensor
            [T, K]
        state : GenerationState
            Where it can go on.
        """
        most = self.frames(seconds)
        tokens, state = self.model.generate(state, most, **sampling)
        with torch.inference_mode():
            return self.tokenizer.decode(tokens)[0], tokens[0], state

    def refine(self, state, tokens, seconds=1.0, tries=4, seed=1, **sampling):
        """Makes the least likely span of a recording anew, and keeps the
        likeliest of the tries, the old one among them.

        Arguments
        ---------
        state : GenerationState
            What `generate` was called with.
        tokens : torch.Tensor
            What it made [T, K].
        seconds : float
            Length of the span.
        tries : int
            How often it is made anew.
        seed : int
            Of the first try; the next has the next.
        **sampling : dict
            As `Sampling`.

        Returns
        -------
        tokens : torch.Tensor
            [T, K], the same outside the span.
        start : int
            First frame of the span.
        """
        span = min(self.frames(seconds), len(tokens))
        likelihood = self.model.score(tokens, state)
        start = int(worst_span(likelihood[None], span)[0])
        end = start + span
        if start:
            state_there = self.model.force(state, tokens[:start])
            _, state_there = self.model.generate(state_there, start)
        else:
            state_there = state
        made, sampling = [tokens], {**sampling, "may_end": False}
        for number in range(seed, seed + tries):
            there = torch.full_like(state_there.seed, number)
            there = replace(state_there, seed=there)
            new, _ = self.model.generate(there, span, **sampling)
            made.append(torch.cat([tokens[:start], new[0], tokens[end:]]))
        # What follows must fit, too.
        scores = [
            float(self.model.score(x, state)[start : end + span].sum())
            for x in made
        ]
        return made[scores.index(max(scores))], start

    def generate_stream(
        self, state, seconds, buffer_seconds=0.2, deadline=False, **sampling
    ):
        """Makes audio and gives it out while it is made.

        Arguments
        ---------
        state : GenerationState
            As `begin` returns.
        seconds : float
            At most.
        buffer_seconds : float
            Audio of each piece.
        deadline : bool
            Whether to keep up with real time: when pieces take longer to make
            than to play, fewer codebooks are computed, which is logged.
        **sampling : dict
            As `Sampling`.

        Yields
        ------
        wav : torch.Tensor
            Samples that were not given out yet [S]. Joined they are what
            `generate` makes.
        state : GenerationState
            Where it can go on. A generator that is closed keeps nothing.
        """
        most, size = self.frames(seconds), self.frames(buffer_seconds)
        sampling, books = Sampling(**sampling), self.model.codebooks
        control = Deadline(books) if deadline else None
        decoding, made, waiting = None, 0, []
        began = time.perf_counter()
        while True:
            ended = made == most or bool(self.model.finished(state)[0])
            if len(waiting) == size or ended:
                tokens = state.recent[:, :0]
                if waiting:
                    tokens = torch.stack(waiting, 1)
                with torch.inference_mode():
                    wav, decoding = self.tokenizer.decode_stream(
                        tokens.masked_fill(tokens == self.model.none, -1),
                        decoding,
                        final=ended,
                    )
                yield wav[0], state
                if control is not None and waiting:
                    books = control.told(
                        time.perf_counter() - began,
                        len(waiting) / self.tokenizer.frame_rate,
                    )
                    began = time.perf_counter()
                waiting = []
                if ended:
                    return
            frame, new, state = self.model.step(state, sampling, books)
            if bool(new[0]):
                waiting.append(frame)
                made += 1
