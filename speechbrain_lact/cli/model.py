"""Loads the model of a command.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import importlib.util
import json
import os
from pathlib import Path

from speechbrain_lact.cli.messages import brief, complain
from speechbrain_lact.cli.options import MODEL, SMALL, WHISPER, UsageError

MODEL_FILES = ("hyperparams.yaml", "model.safetensors", "tokenizer.model")


# What every exported model's YAML has one of.
ENCODERS = (
    "speechbrain_lact.lobes.models.pipeline.Encoder",
    "speechbrain_lact.inference.export.Encoder",  # before that
)


WITHOUT_CTC = (
    "--lm and --hotwords are for CTC models, such as --model small, and "
    "Whisper is none: leave them out, or name another model"
)


def choose_model(name=None, *beyond):
    """The folder of the model that a command is to take.

    Arguments
    ---------
    name : str, optional
        `whisper`, `small`, or a folder. Default: Whisper if its weights are
        installed and it can do what is asked for, else the small model, which
        is then said.
    *beyond : str
        What is asked for that Whisper cannot do, such as `--block`.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        If Whisper is named for what it cannot do.
    ImportError
        If it is named and its weights are not installed.
    ValueError
        If they are others than those that are known.
    """
    if name == SMALL:
        return MODEL
    if name not in (None, WHISPER):
        folder = Path(name)
        if not beyond or not is_whisper(folder):
            return folder
    if beyond and name is not None:
        raise UsageError(
            f"--model {name}: Whisper cannot do {beyond[0]} yet: take another "
            "model, such as --model small"
        )
    if beyond:
        complain(f"{beyond[0]}: not with Whisper yet: taking --model small")
        return MODEL
    from speechbrain_lact.lobes.models.whisper.weights import (
        INSTALL,
        whisper_folder,
    )

    _silence()
    try:
        if importlib.util.find_spec("silero_vad") is None:
            raise ImportError(f"silero-vad is not installed: {INSTALL}")
        return Path(whisper_folder())
    except ImportError as error:
        if name is not None:
            raise
        complain(f"{error}; taking --model small until then")
        return MODEL


def is_whisper(folder):
    """Whether a folder holds a Whisper in the format of Hugging Face, or what
    recipes/Whisper has trained.

    Arguments
    ---------
    folder : Path

    Returns
    -------
    bool
    """
    if (folder / "part.safetensors").is_file():
        return True
    try:
        config = json.loads((folder / "config.json").read_text())
        return config["model_type"] == "whisper"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_quietly(*options):
    """As `load_model`. What libraries in C print is hidden from then on: if
    they end the process while they are imported, that is all one learns.

    Arguments
    ---------
    *options
        Of `load_model`.

    Returns
    -------
    LaCTASR
    """
    import torch  # noqa: F401

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    return load_model(*options)


def load_model(folder, device=None, block=None, trust=False, search=None):
    """Loads a model; nothing is fetched or written.

    Arguments
    ---------
    folder : Path
        Its folder.
    device : str, optional
        Where to; a GPU if there is one.
    block : int, optional
        Frames that are seen at once, 0 for all.
    trust : bool
        Whether whatever its YAML names may run.
    search : dict, optional
        Arguments of `LaCTASR.set_search`.

    Returns
    -------
    LaCTASR or WhisperASR

    Raises
    ------
    ValueError
        If it cannot be loaded.
    """
    if is_whisper(folder):
        if search:
            raise ValueError(WITHOUT_CTC)
        return _load_whisper(folder, device, block)
    for name in MODEL_FILES:
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: no model: {name} is missing; name a folder that "
                "has one with --model"
            )
    text = (folder / "hyperparams.yaml").read_text(errors="replace")
    if not any(name in text for name in ENCODERS):
        raise ValueError(
            f"{folder}: not a model that recipes/LibriSpeech/train.py has "
            "written; name another one with --model"
        )
    from speechbrain.utils.fetching import FetchConfig
    from speechbrain_lact.inference.ASR import LaCTASR
    from speechbrain_lact.inference.folder import Untrusted

    _check_device(device)
    try:
        asr = LaCTASR.from_hparams(
            str(folder),
            savedir=None,
            run_opts={"device": device} if device else None,
            fetch_config=FetchConfig(allow_network=False),
            trust=trust,
        )
        asr.initial_state()
        if block is not None:
            asr.set_block(block or None)
    except Untrusted:
        raise
    # A damaged file can fail in as many ways as there are readers.
    except Exception as error:
        raise _damaged(folder, error) from error
    if search:
        asr.set_search(**search)
    return asr


def _load_whisper(folder, device, block):
    """Whisper with its own encoder."""
    _check_device(device)
    from speechbrain_lact.inference.whisper import WhisperASR

    _silence()
    try:
        asr = WhisperASR.load(folder, device)
    except Exception as error:
        raise _damaged(folder, error) from error
    if block is not None:
        asr.set_block(block)
    return asr


def _silence():
    """Lets transformers print nothing but errors, no progress bars either."""
    with contextlib.suppress(ImportError):
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _check_device(device):
    """Raises if nothing can be put there."""
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {device}: {brief(error)}: take cpu, or cuda where "
            "there is one"
        ) from error


def _damaged(folder, error):
    """The error for a model that cannot be loaded."""
    return ValueError(
        f"{folder}: the model cannot be loaded: {brief(error)}: copy it "
        "again, or name another one with --model"
    )
