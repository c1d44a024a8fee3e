"""How well generated audio hangs together, and how well it is predicted.

What is measured of one recording comes from `measure`, with what cannot be
measured and why; `compare` makes means and intervals of many. Waveforms are
[S], tokens [T, K] integers.

Authors
* speechbrain_lact contributors 2026
"""

import math
import warnings
from pathlib import Path

import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F
import torchaudio
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from speechbrain.utils.edit_distance import accumulatable_wer_stats
from speechbrain_lact.evaluation.statistics import wer_interval
from speechbrain_lact.processing.voices import (
    MIN_SOUND,
    RANGE,
    SILENCE,
    embed,
    sounding,
)

# Seconds from frame to frame, and of a frame of roll-off.
STEP, FRAME = 0.01, 0.032
# Pitch: lowest and highest in Hz; periods of the lowest in a frame; least
# autocorrelation of a voiced frame, and what an octave down must add to it
# (P. Boersma, "Accurate short-term analysis of the fundamental frequency and
# the harmonics-to-noise ratio of a sampled sound", 1993).
LOWEST, HIGHEST, PERIODS, VOICED, OCTAVE = 60.0, 400.0, 3, 0.45, 0.01
HARMONICS = 5  # of the highest pitch, up to which it is listened to
# Modulation: values of the envelope a second, all of the band in Hz, the part
# of it that is the rhythm of speech, and seconds of a spectrum.
ENVELOPE, BAND, RHYTHM, LONG = 100, (0.5, 20.0), (2.0, 8.0), 4.0
# Recordings handed to a model at a time, and frames to the autocorrelation.
BATCH, BLOCK = 16, 1000
# Samples per second of PESQ-WB and SQUIM, and seconds that PESQ gets at most.
RATE, SENTENCE = 16000, 20
SQUIM_FILE = "torchaudio/models/squim_subjective_bvcc_daps.pth"
# Decibels below the loudest that a spectrogram shows.
DEPTH = 80


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
        mean, low, high = _interval(bits[:, place], counts[:, place])
        start, end = (float(edges[p] / rate) for p in (place, place + 1))
        table.append(
            dict(start=start, end=end, bits=mean, low=low, high=high)
            | {"count": count}
        )
    return table


def _interval(sums, counts):
    """Mean and ends of its interval; recordings are drawn."""
    found = wer_interval(np.arange(len(sums)), sums, counts)
    return [None if value is None else value / 100 for value in found]


def speaker_similarity(wav, prompt, rate, embedder, window=3.0, step=1.0):
    """Whether a voice stays that of the prompt.

    Arguments
    ---------
    wav, prompt : torch.Tensor
        Waveforms [S].
    rate : int
        Samples per second of both.
    embedder : EncoderClassifier
        As of `inference.speakers.load_embedder`.
    window, step : float
        Seconds that are compared, and from one to the next.

    Returns
    -------
    times : torch.Tensor
        Middle of each window in seconds [N].
    cosines : torch.Tensor
        Similarity to the prompt [N]; NaN where less than a third sounds.

    Raises
    ------
    ValueError
        For a recording shorter than the window, or a prompt without sound.

    Example
    -------
    >>> from speechbrain_lact.inference.speakers import load_embedder
    >>> wav = torch.randn(64000) / 10
    >>> times, cosines = speaker_similarity(wav, wav, 16000, load_embedder())
    >>> times
    tensor([1.5000, 2.5000])
    """
    if not (window > 0 and step > 0):
        raise ValueError(f"window, step: {window}, {step} s, must be above 0")
    wav = _samples(wav, rate, window)
    prompt = _samples(prompt, rate, MIN_SOUND, "prompt")
    if len(sounding(prompt, rate)) < MIN_SOUND * rate:
        raise ValueError(f"prompt: less than {MIN_SOUND} s of sound")
    normalizer = getattr(embedder, "audio_normalizer", None)
    wanted = getattr(normalizer, "sample_rate", rate)
    hop = round(step * rate)
    pieces = wav.unfold(0, round(window * rate), hop)
    heard = [len(sounding(p, rate)) >= window * rate / 3 for p in pieces]
    times = torch.arange(len(pieces)) * hop / rate + window / 2
    cosines = torch.full((len(pieces),), torch.nan)
    (voice,) = embed(embedder, _resample(prompt[None], rate, wanted))
    for places in torch.tensor(heard).nonzero().flatten().split(BATCH):
        if len(places):
            voices = embed(embedder, _resample(pieces[places], rate, wanted))
            cosines[places] = voices @ voice
    return times, cosines


def rolloff(wav, rate, share=0.85):
    """Frequency below which most of a frame's spectrum lies.

    Source: G. Tzanetakis and P. Cook, "Musical genre classification of audio
    signals", 2002.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    share : float
        Of the sum of the magnitudes.

    Returns
    -------
    torch.Tensor
        In Hz, of each hundredth of a second [T]; NaN for silence.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)
    >>> rolloff(wav, 16000).median()
    tensor(1031.2500)
    """
    if not 0 < share < 1:
        raise ValueError(f"share: {share}, must be between 0 and 1")
    frames = _frames(wav, rate, FRAME)
    window = torch.hann_window(frames.shape[1])
    sizes = torch.fft.rfft(frames * window).abs().cumsum(1)
    place = (sizes < share * sizes[:, -1:]).sum(1)
    found = place * rate / frames.shape[1]
    return found.masked_fill(~_loud(frames), torch.nan)


def rolloff_variation(wav, rate, share=0.85, window=1.0):
    """How much the roll-off wanders: 0 for a spectrum that stays.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    share : float
        As of `rolloff`.
    window : float
        Seconds over which it is averaged.

    Returns
    -------
    float
        Standard deviation of the windows' means, relative to their mean.

    Raises
    ------
    ValueError
        For less than two windows with sound.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 1000 * torch.arange(48000) / 16000)
    >>> rolloff_variation(wav, 16000)
    0.0
    """
    size = max(1, round(window / STEP))
    # The last frames begin too late for a whole window's hundredths.
    means = [part.nanmean() for part in rolloff(wav, rate, share).split(size)]
    means = torch.stack(means)[: max(1, int(len(wav) / rate / window))]
    means = means[~means.isnan()]
    if len(means) < 2:
        raise ValueError(
            f"wav: sound in {len(means)} windows of {window} s; the roll-off "
            f"is compared between two or more"
        )
    return float(means.std() / means.mean())


def pitch_track(wav, rate, low=LOWEST, high=HIGHEST):
    """Fundamental frequency by normalised autocorrelation, each frame for
    itself (`torchaudio`'s says not what is voiced, and smooths over 0.3 s,
    which would hide jumps).

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    rate : int
        Samples per second.
    low, high : float
        Between which it is looked for, in Hz.

    Returns
    -------
    torch.Tensor
        In Hz, of each hundredth of a second [T]; NaN where there is no voice.

    Example
    -------
    >>> wav = torch.sin(2 * torch.pi * 150 * torch.arange(8000) / 16000)
    >>> pitch_track(wav, 16000).median().round()
    tensor(150.)
    """
    if not 0 < low < high < rate / 2 / HARMONICS:
        raise ValueError(
            f"low, high: {low}, {high} Hz at {rate} Hz; must be 0 < low < "
            f"high < rate / {2 * HARMONICS}"
        )
    wav = _samples(wav, rate, PERIODS / low)
    # Else a period that is no whole number of samples may look like two.
    smooth = scipy.signal.butter(2, HARMONICS * high, fs=rate, output="sos")
    wav = scipy.signal.sosfiltfilt(smooth, wav.numpy()).astype(np.float32)
    frames = _frames(wav, rate, PERIODS / low)
    first, last = int(rate / high), math.ceil(rate / low)
    found = [_pitch(part, rate, first, last) for part in frames.split(BLOCK)]
    return torch.cat(found).masked_fill(~_loud(frames), torch.nan)


def _pitch(frames, rate, first, last):
    """Pitch [T] of frames [T, N], from the lags `first` to `last`."""
    window = torch.hann_window(frames.shape[1])
    alike = _autocorrelation(frames * window) / _autocorrelation(window)
    lags = torch.arange(first, last + 1)
    left, here, right = (alike[:, lags + side] for side in (-1, 0, 1))
    peak = (here > left) & (here >= right) & (here > VOICED)
    scores = here - OCTAVE * lags.log2()
    best = scores.masked_fill(~peak, -torch.inf).argmax(1, keepdim=True)
    left, here, right = (x.gather(1, best)[:, 0] for x in (left, here, right))
    # Top of the parabola through the peak and its neighbours.
    shift = 0.5 * (left - right) / (left - 2 * here + right)
    return (rate / (lags[best[:, 0]] + shift)).masked_fill(
        ~peak.any(1), torch.nan
    )


def _autocorrelation(x):
    """Of [..., N], 1 at lag 0 [..., N]; 0 of what is 0."""
    size = x.shape[-1]
    power = torch.fft.rfft(x, 2 * size).abs().square()
    sums = torch.fft.irfft(power)[..., :size]
    return sums / sums[..., :1].clamp(min=torch.finfo(x.dtype).tiny)


def pitch_continuity(track):
    """Whether a pitch glides or jumps.

    Arguments
    ---------
    track : torch.Tensor
        As `pitch_track` returns it [T].

    Returns
    -------
    jump : float or None
        Median size of the steps between neighbours that both are voiced, in
        semitones; None if there are none.
    voiced : float
        Share of frames.

    Example
    -------
    >>> pitch_continuity(torch.tensor([100.0, 200.0, 100.0, torch.nan]))
    (12.0, 0.75)
    """
    if not len(track):
        raise ValueError("track: no frames")
    steps = 12 * track.log2().diff().abs()
    steps = steps[~steps.isnan()]
    jump = float(steps.median()) if len(steps) else None
    return jump, float((~track.isnan()).double().mean())


def modulation(wav, rate):
    """Rhythm: how much of the energy's rise and fall is as fast as syllables.

    Source: T. Houtgast and H. Steeneken, "A review of the MTF concept in room
    acoustics and its use for estimating speech intelligibility", 1985.

    Arguments
    ---------
    wav : torch.Tensor
        [S], 2 s or more.
    rate : int
        Samples per second.

    Returns
    -------
    float
        Share of the power spectrum of the energy from 0.5 to 20 Hz that is
        from 2 to 8 Hz.

    Raises
    ------
    ValueError
        For less than 2 s, or silence.

    Example
    -------
    >>> times = torch.arange(64000) / 16000
    >>> beats = 1 + torch.sin(2 * torch.pi * 4 * times)
    >>> round(modulation(beats * torch.randn(64000), 16000), 1)
    1.0
    """
    wav = _samples(wav, rate, 1 / BAND[0])
    if float(wav.var(correction=0)) <= SILENCE:
        raise ValueError("wav: silence has no rhythm")
    energy = (wav - wav.mean()).double().square().numpy()
    energy = scipy.signal.resample_poly(energy, ENVELOPE, rate)
    size = min(len(energy), round(LONG * ENVELOPE))
    rates, power = scipy.signal.welch(energy, ENVELOPE, nperseg=size)
    whole, part = (
        power[(rates >= band[0]) & (rates <= band[1])].sum()
        for band in (BAND, RHYTHM)
    )
    return float(part / whole)


def token_entropy(tokens, size):
    """Variety of tokens. Few tokens have less of it: compare what is of the
    same length.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]
    size : int
        Tokens of a codebook.

    Returns
    -------
    torch.Tensor
        Entropy of each codebook's counts in bits [K].

    Example
    -------
    >>> token_entropy(torch.tensor([[0, 1], [1, 1], [2, 1], [3, 1]]), 4)
    tensor([2., 0.], dtype=torch.float64)
    """
    tokens = _tokens(tokens, size)
    shares = F.one_hot(tokens, size).double().mean(0)
    return torch.special.entr(shares).sum(1) / math.log(2)


def repetition_rate(tokens, n=4):
    """Loops: how much of a recording has been there before.

    Arguments
    ---------
    tokens : torch.Tensor
        [T, K]; the first codebook is looked at.
    n : int
        Frames that are taken together.

    Returns
    -------
    float
        Share of the n-grams that occurred before.

    Example
    -------
    >>> repetition_rate(torch.tensor([1, 2, 1, 2, 1, 2])[:, None], n=2)
    0.6
    """
    first = _tokens(tokens)[:, 0]
    if not 1 <= n <= len(first):
        raise ValueError(f"tokens: {len(first)} frames, but n-grams of {n}")
    grams = first.unfold(0, n, 1)
    return 1 - len(grams.unique(dim=0)) / len(grams)


def quality(reference, wav, rate, download=False):
    """How good a copy sounds, by what is installed.

    Arguments
    ---------
    reference, wav : torch.Tensor
        The original and the copy [S], of the same length.
    rate : int
        Samples per second of both.
    download : bool
        As of `predicted_mos`.

    Returns
    -------
    dict
        `stoi`, `pesq` (wide band, mean over pieces of 20 s at most) and `mos`:
        a float, or None if it cannot be had; `skipped` says why.

    Example
    -------
    >>> wav = torch.sin(torch.arange(16000.0).square() / 9000)
    >>> found = quality(wav, wav, 16000)
    >>> sorted(found)
    ['mos', 'pesq', 'skipped', 'stoi']
    """
    reference = _samples(reference, rate, name="reference")
    wav = _samples(wav, rate)
    if len(reference) != len(wav):
        raise ValueError(
            f"reference: {len(reference)} samples, wav: {len(wav)}; cut both "
            f"to the same length"
        )
    found = {"skipped": {}}
    _try(found, "stoi", _stoi, reference, wav, rate)
    _try(found, "pesq", _pesq, reference, wav, rate)
    _try(found, "mos", predicted_mos, wav, reference, rate, download)
    return found


def _stoi(reference, wav, rate):
    try:
        from pystoi import stoi
    except ImportError:
        raise ValueError("needs: pip install pystoi")
    if float(reference.var(correction=0)) <= SILENCE:
        raise ValueError("reference: less than 0.4 s of sound")
    with warnings.catch_warnings():
        # It warns, and gives 1e-5, if there are too few frames with sound.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return stoi(reference.numpy(), wav.numpy(), rate)
        except RuntimeWarning:
            raise ValueError("reference: less than 0.4 s of sound")


def _pesq(reference, wav, rate):
    try:
        from pesq import PesqError, pesq
    except ImportError:
        raise ValueError("needs: pip install pesq")
    pair = torch.stack([_resample(x, rate, RATE) for x in (reference, wav)])
    # It is meant for sentences, and five minutes crash it.
    pieces = pair.tensor_split(-(-pair.shape[1] // (SENTENCE * RATE)), 1)
    scores = []
    for piece in pieces:
        if not bool(piece.any(1).all()):  # it divides by the loudest
            continue
        try:
            scores.append(pesq(RATE, *piece.numpy(), "wb"))
        except PesqError:  # too short, or no speech
            pass
    if not scores:
        raise ValueError("no speech of 0.25 s or more for PESQ")
    return np.mean(scores)


def predicted_mos(wav, clean, rate, download=False):
    """Mean opinion score as SQUIM predicts it (A. Kumar et al.,
    "Torchaudio-SQUIM", 2023).

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    clean : torch.Tensor
        Good speech that it is held against [S']; it may say something else.
    rate : int
        Samples per second of both.
    download : bool
        Whether torchaudio may load the weights (360 MB, CC BY-NC 4.0) if they
        are not among those of `torch.hub`.

    Returns
    -------
    float
        From 1 to 5.

    Raises
    ------
    ValueError
        If the weights cannot be had.
    """
    path = Path(torch.hub.get_dir()) / SQUIM_FILE
    if not (download or path.exists()):
        raise ValueError(
            "SQUIM's weights are not in torch.hub's folder; they are loaded "
            "(360 MB, CC BY-NC 4.0) with download=True"
        )
    try:
        model = torchaudio.pipelines.SQUIM_SUBJECTIVE.get_model()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"SQUIM's weights cannot be loaded: {error}")
    wavs = [
        _resample(_samples(x, rate, 1.0, name), rate, RATE)[None]
        for x, name in ((wav, "wav"), (clean, "clean"))
    ]
    with torch.no_grad():
        return float(model(*wavs))


def word_errors(wav, text, rate, asr):
    """What a recogniser makes of audio that was to say a text; the sums of
    many go to `evaluation.statistics.wer_interval`.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    text : str
        What was to be said; letter case does not matter.
    rate : int
        Samples per second.
    asr : LaCTASR
        The recogniser.

    Returns
    -------
    errors, words : int
        Word errors, and words of the text.

    Example
    -------
    >>> asr = LaCTASR.from_hparams("model")  # doctest: +SKIP
    >>> word_errors(wav, "two words", 16000, asr)  # doctest: +SKIP
    (1, 2)
    """
    words = text.upper().split()
    if not words:
        raise ValueError(f"text: {text!r} has no words")
    wav = _resample(_samples(wav, rate, MIN_SOUND), rate, asr.sample_rate)
    heard, _ = asr.transcribe_batch(wav[None], torch.ones(1))
    found = accumulatable_wer_stats([words], [heard[0].upper().split()])
    kinds = "insertions", "deletions", "substitutions"
    return sum(found[kind] for kind in kinds), len(words)


def measure(
    wav,
    tokens,
    rate,
    size,
    prompt=None,
    embedder=None,
    span=None,
    reference=None,
    download=False,
):
    """All measures of one recording.

    Arguments
    ---------
    wav : torch.Tensor
        [S]
    tokens : torch.Tensor
        The same audio as tokens [T, K].
    rate : int
        Samples per second.
    size : int
        Tokens of a codebook.
    prompt : torch.Tensor, optional
        How the voice should sound [S'].
    embedder : EncoderClassifier, optional
        As of `speaker_similarity`, which needs both.
    span : float, optional
        Only the last so many seconds.
    reference : torch.Tensor, optional
        What the recording is a copy of [S], for `quality`.
    download : bool
        As of `predicted_mos`.

    Returns
    -------
    dict
        `seconds`, `rolloff` (mean, Hz), `rolloff_variation`, `pitch_jump`
        (semitones), `voiced`, `modulation`, `token_entropy` (mean, bits),
        `token_entropies` (of each codebook), `repetition`,
        `speaker_similarity` (mean), `similarity_over_time` (seconds from the
        start of what is measured, and cosines), `stoi`, `pesq`, `mos`. What
        cannot be measured is None; `skipped` says why. It can be written as
        JSON.

    Raises
    ------
    ValueError
        For a recording that is empty, not finite or shorter than the span,
        and tokens that no codebook has.

    Example
    -------
    >>> wav, tokens = torch.randn(48000) / 10, torch.randint(9, (150, 2))
    >>> found = measure(wav, tokens, 16000, size=9, span=2.0)
    >>> found["seconds"], found["voiced"], found["skipped"]["pesq"]
    (2.0, 0.0, 'no reference')
    """
    wav, tokens = _samples(wav, rate), _tokens(tokens, size)
    if reference is not None and len(reference) != len(wav):
        raise ValueError(
            f"reference: {len(reference)} samples, wav: {len(wav)}; cut both "
            f"to the same length"
        )
    if span is not None:
        wav, tokens, reference = _last(wav, tokens, reference, rate, span)
    found = {"seconds": len(wav) / rate, "skipped": {}}
    _try(found, "rolloff", _mean_rolloff, wav, rate)
    _try(found, "rolloff_variation", rolloff_variation, wav, rate)
    _add_pitch(found, wav, rate)
    _try(found, "modulation", modulation, wav, rate)
    entropies = token_entropy(tokens, size)
    found["token_entropy"] = float(entropies.mean())
    found["token_entropies"] = entropies.tolist()
    _try(found, "repetition", repetition_rate, tokens)
    _add_similarity(found, wav, prompt, rate, embedder)
    names = "stoi", "pesq", "mos"
    if reference is None:
        found |= dict.fromkeys(names)
        found["skipped"] |= dict.fromkeys(names, "no reference")
    else:
        judged = quality(reference, wav, rate, download)
        found["skipped"] |= judged.pop("skipped")
        found |= judged
    if reference is None and prompt is not None:
        found["skipped"].pop("mos")
        _try(found, "mos", predicted_mos, wav, prompt, rate, download)
    return found


def measure_pieces(
    wav, tokens, rate, size, ends, prompt=None, embedder=None, span=10.0
):
    """All measures of pieces of one recording.

    Arguments
    ---------
    wav, tokens, rate, size, prompt, embedder
        As of `measure`.
    ends : sequence of float
        Where the pieces end, in seconds.
    span : float
        Their length in seconds.

    Returns
    -------
    list of dict
        What `measure` returns for each.

    Raises
    ------
    ValueError
        For a piece that is not all in the recording, and as `measure`.

    Example
    -------
    >>> wav, tokens = torch.randn(96000) / 10, torch.randint(9, (300, 2))
    >>> found = measure_pieces(wav, tokens, 16000, 9, [4, 6], span=3.0)
    >>> [piece["seconds"] for piece in found]
    [3.0, 3.0]
    """
    seconds, found = len(wav) / rate, []
    for end in ends:
        if not span <= end <= seconds:
            raise ValueError(
                f"ends: a piece of {span:g} s that ends at {end:g} s, of a "
                f"recording of {seconds:.2f} s"
            )
        until = round(end / seconds * len(tokens))
        found.append(
            measure(
                wav[: round(end * rate)],
                tokens[:until],
                rate,
                size,
                prompt,
                embedder,
                span,
            )
        )
    return found


def _try(found, name, function, *arguments):
    """Adds a measure, or why there is none."""
    try:
        found[name] = float(function(*arguments))
    except ValueError as error:
        found[name], found["skipped"][name] = None, str(error)


def _last(wav, tokens, reference, rate, span):
    """The last seconds of all three."""
    seconds = len(wav) / rate
    if not 0 < span <= seconds:
        raise ValueError(f"span: {span} s of a recording of {seconds:.2f} s")
    samples = max(1, round(span * rate))
    frames = max(1, round(span / seconds * len(tokens)))
    if reference is not None:
        reference = reference[-samples:]
    return wav[-samples:], tokens[-frames:], reference


def _mean_rolloff(wav, rate):
    value = float(rolloff(wav, rate).nanmean())
    if math.isnan(value):
        raise ValueError("wav: silence has no roll-off")
    return value


def _add_pitch(found, wav, rate):
    """Steps and share of the voiced, or why there are none."""
    jump = voiced = None
    reason = "wav: no two voiced frames follow each other"
    try:
        jump, voiced = pitch_continuity(pitch_track(wav, rate))
    except ValueError as error:
        reason = found["skipped"]["voiced"] = str(error)
    found["pitch_jump"], found["voiced"] = jump, voiced
    if jump is None:
        found["skipped"]["pitch_jump"] = reason


def _add_similarity(found, wav, prompt, rate, embedder):
    """The voice over time and its mean, or why there is none."""
    found["speaker_similarity"] = found["similarity_over_time"] = None
    reason = "needs a prompt and an embedder"
    if prompt is not None and embedder is not None:
        try:
            pair = speaker_similarity(wav, prompt, rate, embedder)
            heard = ~pair[1].isnan()
            times, cosines = (values[heard].tolist() for values in pair)
            if times:
                found["speaker_similarity"] = sum(cosines) / len(cosines)
                found["similarity_over_time"] = [times, cosines]
                return
            reason = "wav: silence has no voice"
        except ValueError as error:
            reason = str(error)
    found["skipped"]["speaker_similarity"] = reason


def compare(measures_by_system, reference=None):
    """Means and 95 % bootstrap intervals over recordings.

    Arguments
    ---------
    measures_by_system : dict of list of dict
        What `measure` returns for each recording of each system; numbers are
        compared, what is None or a list is not.
    reference : str, optional
        The system, such as real speech, that the others should be like.

    Returns
    -------
    list of dict
        `system`, `measure`, `mean`, `low` and `high` end of its interval
        (None with one recording), `count` of recordings that have it, and
        `change`: the mean relative to the reference's, less 1. A measure that
        no recording of any system has is left out.

    Raises
    ------
    ValueError
        For a system without recordings, or an unknown reference.

    Example
    -------
    >>> measures = {"real": [{"voiced": 0.5}], "made": [{"voiced": 0.6}]}
    >>> for row in compare(measures, "real"):
    ...     print(row["system"], row["mean"], round(row["change"], 2))
    real 0.5 0.0
    made 0.6 0.2
    """
    if reference not in (None, *measures_by_system):
        raise ValueError(
            f"reference: {reference!r} is none of "
            f"{', '.join(measures_by_system)}"
        )
    empty = [name for name, many in measures_by_system.items() if not many]
    if empty:
        raise ValueError(f"no recordings of {', '.join(empty)}")
    names = {
        name: None
        for many in measures_by_system.values()
        for one in many
        for name, value in one.items()
        if isinstance(value, (int, float))
    }
    rows = [
        _summary(system, name, measures_by_system[system])
        for name in names
        for system in measures_by_system
    ]
    means = {
        row["measure"]: row["mean"]
        for row in rows
        if row["system"] == reference
    }
    for row in rows:
        base = means.get(row["measure"])
        row["change"] = None
        if base and row["mean"] is not None:
            row["change"] = row["mean"] / base - 1
    return rows


def _summary(system, name, measures):
    """One measure of one system."""
    values = [one.get(name) for one in measures]
    values = [value for value in values if value is not None]
    mean = low = high = None
    if values:
        mean, low, high = _interval(values, np.ones(len(values)))
    return {
        "system": system,
        "measure": name,
        "mean": mean,
        "low": low,
        "high": high,
        "count": len(values),
    }


def plot_nll(table_by_system, path, trained=None):
    """Draws bits per token over position, intervals shaded.

    Arguments
    ---------
    table_by_system : dict of list of dict
        What `nll_table` returns for each system.
    path : str or Path
        The picture.
    trained : float, optional
        Seconds of the longest recordings in training.
    """
    figure, axes = _figure(table_by_system, (7, 4))
    for system, table in table_by_system.items():
        places = [(row["start"] + row["end"]) / 2 for row in table]
        _curve(axes, places, table, "bits", system)
    if trained is not None:
        axes.axvline(trained, color="k", ls=":", label="training length")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="position (s)", ylabel="bits per token")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def plot_over_time(rows, labels, path, reference=None):
    """Draws measures over time, a picture each: means of systems, intervals
    shaded, and the reference as a band from end to end.

    Arguments
    ---------
    rows : list of dict
        As `compare` returns them, each with `seconds`, in their order.
    labels : dict
        The measures to draw, and what to call them.
    path : str or Path
        The picture.
    reference : str, optional
        The system that does not change over time.
    """
    columns = min(2, len(labels))
    lines = -(-len(labels) // 2)
    figure, axes = _figure(labels, (9, 0.8 + 2.7 * lines), lines, columns)
    times = sorted({row["seconds"] for row in rows})
    systems = dict.fromkeys(row["system"] for row in rows)
    for axis, (measure_name, label) in zip(np.ravel(axes), labels.items()):
        for system in systems:
            same = [
                row
                for row in rows
                if (row["system"], row["measure"]) == (system, measure_name)
            ]
            if system != reference:
                places = [row["seconds"] for row in same]
                _curve(axis, places, same, "mean", system)
            elif same and same[0]["mean"] is not None:
                _band(axis, same[0], system)
        axis.set(xscale="log", ylabel=label, xticks=times)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in np.atleast_2d(axes)[-1]:
        axis.set_xlabel("time (s)")
    handles = np.ravel(axes)[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(systems))
    figure.savefig(path, dpi=150)


def _curve(axes, places, rows, name, label):
    """Means at places, their intervals shaded; gaps for what is None."""
    mean, low, high = (
        [np.nan if row[key] is None else row[key] for row in rows]
        for key in (name, "low", "high")
    )
    (line,) = axes.plot(places, mean, "o-", ms=4, label=label)
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2)


def _band(axes, row, label):
    """A mean and its interval from end to end."""
    axes.axhline(row["mean"], color="k", ls="--", label=label)
    if row["low"] is not None:
        axes.axhspan(row["low"], row["high"], color="k", alpha=0.1)


def plot_spectrograms(wavs_by_name, rate, path):
    """Draws spectrograms under each other, on one scale of time and loudness.

    Arguments
    ---------
    wavs_by_name : dict of torch.Tensor
        Waveforms [S], such as real and generated ones.
    rate : int
        Samples per second.
    path : str or Path
        The picture.
    """
    size = round(FRAME * rate)
    wavs = {
        name: _samples(wav, rate, FRAME, name)
        for name, wav in wavs_by_name.items()
    }
    longest = max((len(wav) for wav in wavs.values()), default=0)
    # A column a pixel or so.
    hop = max(round(STEP * rate), longest // 1500)
    window = torch.hann_window(size)
    figure, axes = _figure(wavs, (10, 0.8 + 2.2 * len(wavs)), len(wavs))
    levels = {
        name: torch.fft.rfft(wav.unfold(0, size, hop) * window).abs()
        for name, wav in wavs.items()
    }
    loudest = max(float(level.max()) for level in levels.values())
    floor = 10 ** (-DEPTH / 20)
    for axis, (name, level) in zip(np.atleast_1d(axes), levels.items()):
        level = 20 * (level / max(loudest, 1e-9)).clamp(min=floor).log10()
        image = axis.imshow(
            level.T.numpy(),
            origin="lower",
            aspect="auto",
            extent=(0, len(wavs[name]) / rate, 0, rate / 2000),
            vmin=-DEPTH,
            vmax=0,
            cmap="magma",
        )
        axis.set(title=name, ylabel="kHz", xlim=(0, longest / rate))
    axis.set_xlabel("time (s)")
    figure.colorbar(image, ax=axes, label="dB below the loudest of all")
    figure.savefig(path, dpi=150)


def _figure(contents, size, rows=1, columns=1):
    """A figure and its axes, for something to draw."""
    if not contents:
        raise ValueError("nothing to draw")
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=True)


def _samples(wav, rate, least=0.0, name="wav"):
    """A waveform that can be measured, on the CPU."""
    wav = torch.as_tensor(wav)
    if wav.ndim != 1 or not wav.is_floating_point():
        raise ValueError(
            f"{name}: one channel of floats [S], not {wav.dtype} "
            f"{list(wav.shape)}"
        )
    if not len(wav) or len(wav) < round(least * rate):
        raise ValueError(
            f"{name}: {len(wav) / rate:.3f} s; at least {least:g} s are needed"
            if len(wav)
            else f"{name}: it is empty"
        )
    if not bool(wav.isfinite().all()):
        raise ValueError(f"{name}: has samples that are not finite")
    return wav.detach().cpu().float()


def _tokens(tokens, size=None):
    """Tokens that can be measured, on the CPU."""
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point() or not tokens.numel():
        raise ValueError(
            f"tokens: integers [frames, codebooks], not {tokens.dtype} "
            f"{list(tokens.shape)}"
        )
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or (size is not None and high >= size):
        raise ValueError(
            f"tokens: from {low} to {high}, but a codebook has 0 to "
            f"{'...' if size is None else size - 1}"
        )
    return tokens.detach().cpu().long()


def _frames(wav, rate, seconds):
    """Frames [T, N] of a waveform, without their means."""
    wav = _samples(wav, rate, seconds)
    frames = wav.unfold(0, round(seconds * rate), round(STEP * rate))
    return frames - frames.mean(1, keepdim=True)


def _loud(frames):
    """Frames that are no silence [T]."""
    power = frames.square().mean(1)
    return power > max(SILENCE, RANGE * float(power.max()))


def _resample(wav, rate, wanted):
    return torchaudio.functional.resample(wav, rate, wanted)
