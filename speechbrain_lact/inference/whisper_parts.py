"""Trained parts of Whisper: files of what LaCT does in it.

A file holds the weights that were trained, in half precision, and in its header
what they were trained with: the options of the part, and a digest of Whisper's
own weights, which are not in it.

Authors
* speechbrain_lact contributors 2026
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from speechbrain_lact.lobes.models.pretrained import GatedLaCT
from speechbrain_lact.lobes.models.whisper.encoder import StreamingWhisper
from speechbrain_lact.processing.boundaries import ChunkEnds
from speechbrain_lact.utils.console import whole

STREAM, GATED = "streaming encoder", "gated layers"

# In the output folder of recipes/Whisper, which is a model like others.
PART = "part.safetensors"
# In the box: trained with Whisper tiny.en.
FOLDER = Path(__file__).parent / "whisper_model"
FILES = {
    STREAM: FOLDER / "stream.safetensors",
    GATED: FOLDER / "lact.safetensors",
}


def host_digest(host):
    """What identifies the weights of a Whisper, wherever they came from.

    Arguments
    ---------
    host : transformers.WhisperModel

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    for name, value in sorted(host.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.half().cpu().numpy().tobytes())
    return digest.hexdigest()


def make_stream(host, lact, least_segment=750, silence=30):
    """The streaming encoder of a Whisper.

    Arguments
    ---------
    host : transformers.WhisperModel
    lact : dict
        Arguments of `LaCT`.
    least_segment : int
        Frames of a segment, at least, of 20 ms.
    silence : int
        Quiet frames of 10 ms at which a segment may end.

    Returns
    -------
    StreamingWhisper
    """
    pauses = ChunkEnds("silence", least=silence)
    net = StreamingWhisper.of_host(
        host, lact=lact, least_segment=least_segment, pauses=pauses
    )
    # They read nothing but their own few frames.
    net.front.requires_grad_(False)
    return net


def make_gated(host, **options):
    """Gated layers between the encoder and the decoder of a Whisper.

    Arguments
    ---------
    host : transformers.WhisperModel
    **options : dict
        Of `GatedLaCT`, beyond the width.

    Returns
    -------
    GatedLaCT
    """
    return GatedLaCT(
        host.config.d_model,
        normalize_before=True,
        activation=torch.nn.GELU,
        **options,
    )


MAKE = {STREAM: make_stream, GATED: make_gated}


def write_part(path, kind, net, host, options, source=None):
    """Writes a trained part.

    Arguments
    ---------
    path : str or Path
        The file.
    kind : str
        `STREAM` or `GATED`.
    net : torch.nn.Module
        What `MAKE[kind]` made, trained.
    host : transformers.WhisperModel
        What it was trained with.
    options : dict
        What it was made with.
    source : str, optional
        Where that Whisper came from, if not from the installed package.
    """
    weights = {
        name: value.detach().half().cpu().contiguous()
        for name, value in net.named_parameters()
        if value.requires_grad
    }
    if source and Path(source).is_dir():
        source = Path(source).resolve()
    metadata = {
        "part": kind,
        "options": json.dumps(options, sort_keys=True),
        "width": str(host.config.d_model),
        "host": host_digest(host),
        "source": str(source or ""),
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        save_file(weights, part, metadata)


def read_part(path, kind, host):
    """Reads what `write_part` has written.

    Arguments
    ---------
    path : str or Path
        The file.
    kind : str
        What it must hold.
    host : transformers.WhisperModel
        The Whisper that it belongs to.

    Returns
    -------
    torch.nn.Module
        On the device of the Whisper, to be used (`eval`) or trained on.

    Raises
    ------
    ValueError
        If it is damaged, of another kind, or of another Whisper.
    """
    known, weights = _read(path)
    if known.get("part") != kind:
        raise ValueError(f"{path}: {known.get('part')!r}, not {kind!r}")
    if known["width"] != str(host.config.d_model):
        raise ValueError(
            f"{path}: trained with a Whisper of width {known['width']}, and "
            f"this one has {host.config.d_model}"
        )
    if known["host"] != host_digest(host):
        raise ValueError(
            f"{path}: trained with other weights than this Whisper's"
        )
    net = MAKE[kind](host, **json.loads(known["options"]))
    wanted = {n for n, p in net.named_parameters() if p.requires_grad}
    if wanted != weights.keys():
        odd = min(wanted ^ weights.keys())
        raise ValueError(f"{path}: {odd} is missing or too many")
    try:
        net.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from None
    device = next(host.parameters()).device
    return net.to(device).eval()


def find_part(kind, host):
    """The part in the box.

    Arguments
    ---------
    kind : str
        `STREAM` or `GATED`.
    host : transformers.WhisperModel

    Returns
    -------
    torch.nn.Module
        None, if it was trained with another Whisper.
    """
    path = FILES[kind]
    if read_header(path).get("host") != host_digest(host):
        return None
    return read_part(path, kind, host)


def read_header(path):
    """What a part was trained with.

    Arguments
    ---------
    path : str or Path
        The file.

    Returns
    -------
    dict of str

    Raises
    ------
    ValueError
        If it is damaged.
    """
    return _read(path, False)[0]


def _read(path, weights=True):
    """Header and tensors of a file."""
    try:
        with safe_open(path, "pt") as file:
            names = file.keys() if weights else ()
            tensors = {name: file.get_tensor(name) for name in names}
            return file.metadata() or {}, tensors
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
