"""Files of states, and what they belong to.

A state file holds named tensors (safetensors), and in its header the kind of
the state, the version of the format, the configuration of the model that the
state belongs to, and a digest.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import json
import os

import torch

STATE_VERSION = 3


def write_tensors(path, tensors, kind, config, parts=None):
    """Writes a file beside its target name, then renames it.

    Arguments
    ---------
    path : str
        The file to write.
    tensors : dict
        Tensors by name.
    kind : str
        Name of the state's class.
    config : dict
        What the state belongs to (sizes and options of the module).
    parts : dict, optional
        Class names of states within, by the name of their field, where they
        are not those that the class of the whole says.
    """
    # Only here and below: SpeechBrain does not depend on it.
    from safetensors.torch import save

    aside = f"{path}.{os.getpid()}.part"
    # Copies: fields of a new state may share memory.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    metadata = {
        "format": kind,
        "version": str(STATE_VERSION),
        "config": json.dumps(config, sort_keys=True),
        "digest": digest(tensors),
    }
    if parts:
        metadata["parts"] = json.dumps(parts, sort_keys=True)
    try:
        # Not `save_file`: killed, it leaves a file of a name of its own.
        with open(aside, "wb") as file:
            file.write(save(tensors, metadata))
        os.replace(aside, path)
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def read_tensors(path, kind, config):
    """Reads a file that `write_tensors` wrote.

    Arguments
    ---------
    path : str
        The file to read.
    kind : str
        Name of the state's class.
    config : dict
        What the state must belong to.

    Returns
    -------
    tensors : dict
        Tensors by name, on the CPU.
    parts : dict
        As `write_tensors`.

    Raises
    ------
    ValueError
        If the file is no state, is damaged, or is of another kind, version or
        configuration.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: not a state file ({error})") from error
    check_header(path, metadata, kind)
    found = differences(json.loads(metadata["config"]), config)
    if found:
        raise ValueError(f"{path}: state of another model: {found}")
    if metadata.get("digest") != digest(tensors):
        raise ValueError(f"{path}: damaged: not what was written to it")
    return tensors, json.loads(metadata.get("parts", "{}"))


def check_header(path, metadata, kind):
    """Refuses a file that holds no state of this kind and version.

    Arguments
    ---------
    path : str or Path
        The file.
    metadata : dict
        Its header.
    kind : str
        Name of the state's class.

    Raises
    ------
    ValueError
    """
    for key, wanted in (("format", kind), ("version", str(STATE_VERSION))):
        if metadata.get(key) != wanted:
            raise ValueError(
                f"{path}: {key} is {metadata.get(key)!r}, this model needs "
                f"{wanted!r}" + (": make it anew" if key == "version" else "")
            )
    try:
        whole = isinstance(json.loads(metadata["config"]), dict)
    except (LookupError, ValueError):
        whole = False
    if not whole:
        raise ValueError(f"{path}: does not say which model it belongs to")


def differences(given, wanted):
    """What tells one configuration from another, in words.

    Arguments
    ---------
    given, wanted : dict
        The configurations.

    Returns
    -------
    str
        Empty if they are the same.

    Example
    -------
    >>> differences({"chunk": 4, "order": "a"}, {"chunk": 8, "order": "a"})
    'chunk is 4, not 8'
    """
    wanted = json.loads(json.dumps(wanted))
    return ", ".join(
        f"{key} is {given.get(key)!r}, not {wanted.get(key)!r}"
        for key in sorted(set(given) | set(wanted))
        if given.get(key) != wanted.get(key)
    )


def configuration(module):
    """Everything beside the weights that changes what a module answers.

    Collected from the modules themselves: those that have options say them in
    a method `configuration`.

    Arguments
    ---------
    module : torch.nn.Module
        A layer, an encoder or a whole model.

    Returns
    -------
    dict
        `Class.option`: value, or a list where modules of the class differ.
        With `modules`, what tells their kinds and order from others.

    Example
    -------
    >>> from speechbrain_lact.nnet.lact import LaCT
    >>> known = configuration(LaCT(8, 2, chunk_size=4))
    >>> known["LaCT.chunk_size"], known["LaCT.optimizer"]
    (4, 'muon')
    """
    found, kinds = {}, hashlib.sha256()
    for name, part in module.named_modules():
        kind = type(part).__name__
        kinds.update(f"{name} {kind} ".encode())
        own = getattr(part, "configuration", dict)()
        for key, value in own.items():
            found.setdefault(f"{kind}.{key}", []).append(value)
    same = {
        key: values[0] if all(v == values[0] for v in values) else values
        for key, values in found.items()
    }
    found = {"modules": kinds.hexdigest()[:16], **same}
    # As it comes back from a file.
    return json.loads(json.dumps(found, default=str))


def digest(tensors):
    """What changes when a bit of any of these named tensors does.

    Arguments
    ---------
    tensors : dict
        Tensors of any type, on any device, by name.

    Returns
    -------
    str
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
