"""Loads the model of a command.

Authors
* speechbrain_lact contributors 2026
"""

import os

from speechbrain_lact.cli.messages import brief

MODEL_FILES = ("hyperparams.yaml", "model.safetensors", "tokenizer.model")


# What every exported model's YAML has one of.
ENCODERS = (
    "speechbrain_lact.lobes.models.pipeline.Encoder",
    "speechbrain_lact.inference.export.Encoder",  # before that
)


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


def load_model(folder, device=None, block=None, trust=False):
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

    Returns
    -------
    LaCTASR

    Raises
    ------
    ValueError
        If it cannot be loaded.
    """
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
    import torch

    from speechbrain.utils.fetching import FetchConfig
    from speechbrain_lact.inference.ASR import LaCTASR
    from speechbrain_lact.inference.folder import Untrusted

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"--device {device}: {brief(error)}: take cpu, or cuda where "
            "there is one"
        ) from error
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
        raise ValueError(
            f"{folder}: the model cannot be loaded: {brief(error)}: copy it "
            "again, or name another one with --model"
        ) from error
    return asr
