"""The settings of an experiment: a YAML and what the command line overrides.

Authors
* speechbrain_lact contributors 2026
"""

import math

from hyperpyyaml import load_hyperpyyaml, resolve_references
from ruamel.yaml import YAML, YAMLError

# Settings that are numbers, and the least that each may be.
COUNTS = {
    "number_of_steps": 1,
    "number_of_epochs": 1,
    "warmup_steps": 0,
    "batch_size": 1,
    "test_batch_size": 1,
    "grad_accumulation_factor": 1,
    "avg_checkpoints": 1,
    "bptt_utterances": 1,
    "join_utterances": 1,
    "segment": 1,
    "num_workers": 0,
    "output_neurons": 1,
}
RATES = ("lr", "matrix_lr", "max_grad_norm")


def plain_settings(path, overrides):
    """The YAML's plain values, before any object is made."""
    with open(path, encoding="utf-8") as file:
        text = resolve_references(file, overrides, overrides_must_match=False)
    settings = YAML().load(text)
    check_numbers(settings)
    return settings


def check_numbers(settings):
    """Refuses counts and rates with which nothing can be trained."""
    for key, least in COUNTS.items():
        value = settings.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{key}: a whole number, not {value!r}")
        if value < least:
            raise ValueError(f"{key}: a number from {least}, not {value}")
    for key in RATES:
        value = settings.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key}: a number, not {value!r}")
        if not 0 < value < math.inf:
            raise ValueError(f"{key}: a number above 0, not {value}")


def given_settings(overrides):
    """What the command line says, YAML as text, as a dictionary."""
    try:
        return dict(YAML().load(overrides) or {}) if overrides else {}
    except YAMLError as error:
        raise ValueError(f"command line: {error}") from error


def load_yaml(path, overrides):
    """The YAML with all its objects; what is wrong in it is named."""
    try:
        with open(path, encoding="utf-8") as file:
            return load_hyperpyyaml(file, dict(overrides))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error
