"""Bits per token of given recordings, over the position in them.

Authors
* speechbrain_lact contributors 2026
"""

import math

import torch
import torch.nn.functional as F

from speechbrain_lact.evaluation.statistics import mean_interval


def nll_over_position(net, rows, edges, segment=512, states=None):
    """Negative log likelihood of recordings that are given, over position.

    A stream is fed in segments with the state carried. Tokens alone are
    counted, not `none`, `end` and text. On the same streams, columns of two
    systems can be given to `evaluation.statistics.compare`.

    Arguments
    ---------
    net : AudioLM
        In evaluation mode.
    rows : list of torch.Tensor
        Streams [L, K], the first row `net.begin_row()`.
    edges : sequence of int
        Where the bins begin, and where the last one ends: row i is in the bin
        from edges[b] up to, not including, edges[b + 1].
    segment : int
        Rows fed at a time.
    states : list of AudioLMState, optional
        What each stream begins with, one row each; for voices and domains.

    Returns
    -------
    bits : torch.Tensor
        Sum of each stream in each bin [N, bins], float64.
    counts : torch.Tensor
        Tokens that it is of [N, bins].

    Raises
    ------
    ValueError
        For a stream that is none of this model, edges that do not grow, or a
        model that is training or gives values that are not finite.

    Example
    -------
    >>> from speechbrain_lact.lobes.models.LaCTAudioLM import LaCTAudioLM
    >>> sizes = {"d_model": 16, "nhead": 2, "d_ffn": 32, "num_layers": 1}
    >>> net = LaCTAudioLM(2, 8, **sizes).eval()
    >>> tokens = torch.randint(8, (40, 2))
    >>> stream = torch.cat([net.begin_row(), net.audio_rows(tokens)])
    >>> bits, counts = nll_over_position(net, [stream], [0, 11, 42])
    >>> counts
    tensor([[19, 61]])
    """
    edges = torch.as_tensor(edges)
    if edges.ndim != 1 or len(edges) < 2 or bool((edges.diff() <= 0).any()):
        raise ValueError(f"edges: {edges.tolist()} is not two or more, growing")
    if net.training:
        raise ValueError("net: in training mode; call its eval() first")
    if segment < 1:
        raise ValueError(f"segment: {segment}, must be at least 1")
    bits = torch.zeros(len(rows), len(edges) - 1, dtype=torch.float64)
    counts = torch.zeros(bits.shape, dtype=torch.long)
    for place, stream in enumerate(rows):
        _check_stream(net, stream, place)
        state = None if states is None else states[place]
        for start, piece in _token_bits(net, stream, segment, state):
            at = torch.arange(start, start + len(piece))
            at = torch.bucketize(at, edges, right=True) - 1
            piece = piece[(at >= 0) & (at < bits.shape[1])]
            at = at[(at >= 0) & (at < bits.shape[1])]
            bits[place].index_add_(0, at, piece.nansum(1))
            counts[place].index_add_(0, at, (~piece.isnan()).sum(1))
    return bits, counts


def _token_bits(net, stream, segment, state):
    """Yields the row where each segment's targets begin, and their bits
    [rows, K], NaN for what is no token."""
    stream = stream.to(net.head.weight.device)
    for start in range(1, len(stream), segment):
        given = stream[start - 1 : start - 1 + segment][: len(stream) - start]
        targets = stream[start : start + segment]
        with torch.no_grad():
            logits, state = net(given[None], state=state)
        if not bool(logits.isfinite().all()):
            raise ValueError(
                f"net: its scores of rows {start} to "
                f"{start + len(targets) - 1} are not finite"
            )
        exact = torch.promote_types(logits.dtype, torch.float32)
        real = targets < net.none
        nats = F.cross_entropy(
            logits[0].flatten(0, 1).to(exact),
            targets.masked_fill(~real, 0).flatten(),
            reduction="none",
        )
        bits = nats.double().view_as(targets) / math.log(2)
        yield start, bits.masked_fill(~real, torch.nan).cpu()


def _check_stream(net, stream, place):
    """Raises unless it is a stream of this model."""
    if stream.ndim != 2 or stream.shape[1] != net.codebooks or len(stream) < 2:
        raise ValueError(
            f"stream {place}: {list(stream.shape)}, but this model takes "
            f"[2 rows or more, {net.codebooks}]"
        )
    most = torch.full((net.codebooks,), net.end)
    most[0] += len(net.characters)
    if bool(((stream.cpu() < 0) | (stream.cpu() > most)).any()):
        raise ValueError(
            f"stream {place}: from {int(stream.min())} to {int(stream.max())}, "
            f"but a codebook has 0 to {net.codebook_size - 1}"
        )
    if not torch.equal(stream[:1].cpu(), net.begin_row()):
        raise ValueError(
            f"stream {place}: begins with {stream[0].tolist()}, must with "
            f"net.begin_row()"
        )


def nll_table(bits, counts, edges, rate):
    """Bits per token over position, with 95 % intervals over recordings.

    Arguments
    ---------
    bits, counts : torch.Tensor
        As `nll_over_position` returns them [N, bins].
    edges : sequence of int
        Its bins.
    rate : float
        Rows per second.

    Returns
    -------
    list of dict
        Of each bin `start` and `end` in seconds, `bits` per token, `low` and
        `high` end of the interval (None with one recording), and `count` of
        tokens; bins without any are left out.

    Example
    -------
    >>> bits, counts = torch.tensor([[6.0], [6.0]]), torch.tensor([[2], [2]])
    >>> nll_table(bits, counts, [0, 50], rate=50)
    [{'start': 0.0, 'end': 1.0, 'bits': 3.0, 'low': 3.0, 'high': 3.0, 'count': 4}]
    """
    table = []
    for place in range(bits.shape[1]):
        count = int(counts[:, place].sum())
        if not count:
            continue
        mean, low, high = mean_interval(bits[:, place], counts[:, place])
        start, end = (float(edges[p] / rate) for p in (place, place + 1))
        table.append(
            dict(start=start, end=end, bits=mean, low=low, high=high)
            | {"count": count}
        )
    return table
