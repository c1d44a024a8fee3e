"""Long outputs: joints, loudness, defects, deadlines.

Authors
* speechbrain_lact contributors 2026
"""

import logging
import math

import pytest
import torch
import torchaudio
from hypothesis import (
    example,
    given,
    settings,
    strategies as st,
)

from speechbrain_lact.inference.enhancement import load_enhancer
from speechbrain_lact.nnet.cross_fade import cross_fade
from speechbrain_lact.processing.long_outputs import (
    Deadline,
    QualityEnhancement,
    TemporalCoherence,
    find_clicks,
    worst_span,
)

FEW = settings(max_examples=15, deadline=None, derandomize=True)
RATE = 8000


def speech(seconds, rate=RATE, seed=0):
    """Sharp pulses through two resonances, and hissing between them."""
    samples = int(seconds * rate)
    torch.manual_seed(seed)
    time = torch.arange(samples, dtype=torch.float64) / rate
    turns = (120 * time + 3 * torch.sin(4 * time)).floor()
    pulses = torch.diff(turns, prepend=turns[:1]).clamp(0, 1)
    loud = torch.sin(9 * time).clamp(min=0)
    hiss = torch.randn(samples, dtype=torch.float64)
    hiss = 0.02 * (torch.sin(9 * time) < -0.6) * hiss
    wav = 0.5 * loud * pulses
    for frequency, width in ((600, 90), (1700, 130)):
        r = math.exp(-math.pi * width / rate)
        a = torch.tensor(
            [1.0, -2 * r * math.cos(2 * math.pi * frequency / rate), r * r],
            dtype=torch.float64,
        )
        b = torch.tensor([a.sum(), 0, 0], dtype=torch.float64)
        wav = torchaudio.functional.lfilter(wav, a, b, clamp=False)
    return 2 * wav + hiss


def streamed(push, wav, sizes, overlap=0):
    """A signal handed over in pieces that share samples with the next."""
    state, out, start = None, [], 0
    for size in [*sizes, wav.shape[1]]:
        stop = min(start + size + overlap, wav.shape[1])
        final = stop == wav.shape[1]
        made, state = push(wav[:, start:stop], state, final)
        out.append(made)
        start = stop - overlap
        if final:
            return torch.cat(out, 1), state


# ---------------------------------------------------------------- coherence
@pytest.mark.parametrize("fade", [0, 1, 240])
def test_chunks_of_one_signal_are_that_signal(fade):
    wav = torch.stack([speech(2.9, seed=s) for s in (0, 1)])
    coherence = TemporalCoherence(RATE, fade)
    # Chunks as short as what they share, too
    out, _ = streamed(coherence.push, wav, [3000, 0, 10, 8000, 500], fade)
    assert torch.equal(out, wav)


def test_a_step_becomes_a_slope():
    coherence = TemporalCoherence(RATE, fade=100)
    low, high = torch.zeros(1, 500), torch.ones(1, 500)
    first, state = coherence.push(low)
    assert first.shape == (1, 400)
    second, _ = coherence.push(high, state, final=True)
    out = torch.cat([first, second], 1)[0]
    assert out.shape == (900,)
    assert out[:400].max() == 0 and out[500:].min() == 1
    assert torch.allclose(out.diff().max(), torch.tensor(0.01), atol=1e-6)
    assert bool((out.diff() >= 0).all())


def test_unrelated_signals_keep_their_power():
    torch.manual_seed(0)
    old, new = torch.randn(2, 400, 1000)
    power = cross_fade(old, new, "power").square().mean(0)
    assert (power - 1).abs().max() < 0.4  # 1000 estimates from 400 each
    assert abs(power.mean() - 1) < 0.01
    weak = cross_fade(old, new).square().mean(0)
    assert abs(weak[490:510].mean() - 0.5) < 0.05


@FEW
@given(
    sizes=st.lists(st.integers(0, 30000), max_size=6),
    fade=st.sampled_from([0, 37]),
)
@example(sizes=[41000, 123, 9000], fade=37)  # where the gain moves
def test_chunk_sizes_change_nothing(sizes, fade):
    wav = torch.stack([speech(9), speech(9, seed=1)])
    wav = wav * torch.linspace(1, 4, wav.shape[1])
    coherence = TemporalCoherence(RATE, fade)
    whole, state = coherence.push(wav, final=True)
    assert (whole - wav).abs().max() > 0.1  # there is something to change
    out, after = streamed(coherence.push, wav, sizes, fade)
    assert (out - whole).abs().max() < 1e-9
    assert torch.allclose(after.worst, state.worst)


def levels(wav):
    """Loudness of each three seconds."""
    parts = wav.unfold(0, 3 * RATE, 3 * RATE)[:, None]
    return torchaudio.functional.loudness(parts, RATE)


def test_drift_is_bounded():
    wav = speech(3).repeat(20)
    time = torch.arange(len(wav)) / RATE
    louder = wav * 10 ** (0.3 * (time - 6).clamp(0, 20) / 20)  # 6 dB in 20 s
    out, state = TemporalCoherence(RATE).push(louder[None], final=True)
    assert levels(louder)[-1] - levels(wav)[0] > 5.5
    assert (levels(out[0]) - levels(wav)[0]).abs().max() < 2.0
    _, loud = TemporalCoherence(RATE).push(9 * louder[None], final=True)
    assert loud.worst.item() == pytest.approx(state.worst.item(), abs=0.05)
    # What is left at the end is the tolerance.
    assert abs(levels(out[0])[-1] - levels(wav)[0]) < 1.2
    assert 5.5 < float(state.worst) < 7
    assert float(state.drift) == pytest.approx(float(state.worst), abs=1)


def test_gain_is_slow_and_bounded():
    wav = 0.2 * torch.sin(torch.arange(30 * RATE).double() / 3)
    wav[6 * RATE :] *= 0.1  # 20 dB less
    out, state = TemporalCoherence(RATE, max_gain=4, speed=0.5).push(wav[None])
    gain = 20 * (out[0] / wav)[wav.abs() > 1e-3].log10()
    assert gain.max() == pytest.approx(4, abs=1e-6)
    assert state.gain.tolist() == [[4.0, 4.0]]
    second = out[0, 9 * RATE : 10 * RATE] / wav[9 * RATE : 10 * RATE]
    moved = 20 * (second[-2] / second[1]).log10()
    assert float(moved) == pytest.approx(0.5, abs=1e-3)
    assert float(state.worst) == pytest.approx(-20, abs=0.1)


def test_silence_is_no_drift():
    wav = torch.zeros(1, 20 * RATE, dtype=torch.float64)
    wav[:, 5 * RATE : 12 * RATE] = speech(7)  # begins and ends in silence
    out, state = TemporalCoherence(RATE).push(wav, final=True)
    assert torch.equal(out, wav)
    assert abs(float(state.worst)) < 1


def test_rows_have_gains_of_their_own():
    wav = torch.stack([speech(12), speech(12)])
    wav[1, 4 * RATE :] *= 3
    out, state = TemporalCoherence(RATE).push(wav)
    assert torch.equal(out[0], wav[0])
    alone, _ = TemporalCoherence(RATE).push(wav[1:])
    assert (out[1] - alone[0]).abs().max() < 1e-9
    assert out[1, -RATE:].abs().max() < 0.8 * wav[1, -RATE:].abs().max()


def test_bad_chunks_and_options():
    coherence = TemporalCoherence(RATE, fade=100)
    with pytest.raises(ValueError, match="chunk: 99 samples, .* share 100"):
        coherence.push(torch.zeros(1, 99))
    with pytest.raises(ValueError, match="fade: -1"):
        TemporalCoherence(RATE, fade=-1)
    with pytest.raises(ValueError, match="window: 0.5"):
        TemporalCoherence(RATE, window=0.5)
    with pytest.raises(ValueError, match="'cubic'"):
        TemporalCoherence(RATE, curve="cubic")


# -------------------------------------------------------------- worst span
def test_worst_span_of_known_numbers():
    nan = float("nan")
    scores = torch.tensor(
        [
            [-1.0, -1.0, -9.0, -1.0, -5.0, -5.0],
            [-1.0, -2.0, -4.0, nan, nan, nan],
            [-3.0, nan, nan, nan, nan, nan],
            [8.0, 5.0, 3.0, nan, nan, nan],  # densities may exceed 1
        ]
    )
    lengths = torch.tensor([6, 3, 1, 3])
    start, mean = worst_span(scores, 2, lengths)
    # A single bad frame is less than two of middling ones.
    assert start.tolist() == [1, 1, 0, 1]
    assert mean.tolist() == [-5.0, -3.0, -3.0, 4.0]
    assert worst_span(scores, 1, lengths)[0].tolist() == [2, 2, 0, 2]
    start, mean = worst_span(scores, 3, lengths)
    assert start.tolist() == [2, 0, 0, 0]
    assert mean[0] == -5 and mean[1] == pytest.approx(-7 / 3)
    assert worst_span(scores, 9, lengths)[0].tolist() == [0] * 4
    with pytest.raises(ValueError, match="span: 0"):
        worst_span(scores, 0)


# ----------------------------------------------------------------- quality
def test_clicks_in_a_sine():
    clean = 0.5 * torch.sin(torch.arange(16000).double() / 20)[None]
    wav = clean.clone()
    wav[0, [1000, 5000, 5001, 9003]] += torch.tensor([0.4, -0.5, -0.5, 0.1])
    wav[0, 12000:12006] = 0.9  # a burst
    quality = QualityEnhancement(16000)
    out, report = quality(wav)
    assert report["before"]["clicks"].tolist() == [4]
    assert report["after"]["clicks"].tolist() == [0]
    # What the high-pass does to the sine is not at issue.
    expected, _ = quality(clean)
    assert (out - expected).abs().max() < 2e-3
    assert (wav - clean).abs().max() > 0.3


def test_a_rattle_is_no_click():
    wav = 0.5 * torch.sin(torch.arange(16000).double() / 20)
    wav[5000:5030:8] += 0.4  # four, each a gap away from the next
    assert find_clicks(wav.numpy(), 16000) == []


@pytest.mark.parametrize("rate", [8000, 16000])
def test_speech_is_left_alone(rate):
    wav = speech(8, rate)[None]
    # A plosive: silence, then a burst
    wav[0, rate : rate + 400] = 0
    wav[0, rate + 400 : rate + 560] = 0.3 * torch.randn(160)
    out, report = QualityEnhancement(rate, cutoff=1e-3)(wav)
    assert report["before"]["clicks"].tolist() == [0]
    assert (out - wav).abs().max() < 0.02 * wav.abs().max()


def test_clicks_in_speech():
    clean = speech(8, 16000)
    wav, found = clean.clone(), torch.arange(3000, len(clean), 4001)
    wav[found] += 0.5 * clean.abs().max()
    quality = QualityEnhancement(16000, cutoff=1e-3)
    out, state = quality.push(wav[None], final=True)
    assert 0.6 * len(found) <= int(state.clicks) <= len(found)
    error = (out[0] - clean).abs() / clean.abs().max()
    assert error[found].median() < 0.01
    touched = torch.nn.functional.max_pool1d(
        torch.zeros(len(clean)).index_fill(0, found, 1.0)[None], 9, 1, 4
    )[0]
    assert error[touched == 0].max() < 0.02  # the high-pass alone


@FEW
@given(sizes=st.lists(st.integers(0, 9000), max_size=8))
@example(sizes=[5228, 40, 40, 40])
@example(sizes=[5150] + [1] * 150)
def test_pieces_are_enhanced_as_the_whole(sizes):
    wav = torch.stack([speech(3), speech(3, seed=1)]) + 0.2
    wav[0, 700::1501] += 2 * wav.max()
    # After the one at 5203, so many that they are what is usual
    wav[0, 5233:5333:9] += 2 * wav.max()
    wav[1, [0, 1, 2, 4000, 4007, 4014, 23998]] -= 2 * wav.max()
    quality = QualityEnhancement(RATE)
    whole, after = quality.push(wav, final=True)
    assert int(after.clicks[0]) >= 10 and int(after.clicks[1]) >= 2
    out, state = streamed(quality.push, wav, sizes)
    assert (out - whole).abs().max() < 1e-9
    assert torch.equal(state.clicks, after.clicks)


def test_offsets_go_and_sound_stays():
    wav = torch.stack([speech(4)] * 2).float()
    wav[1] += 0.3
    quality = QualityEnhancement(RATE)
    out, report = quality(wav)
    assert out.dtype == torch.float32
    assert float(report["before"]["dc"][1]) == pytest.approx(0.3, abs=0.01)
    assert report["after"]["dc"].abs().max() < 1e-3
    assert (out[0] - out[1]).abs().max() < 1e-5
    assert out[1, 0].abs() < 0.01  # no thump at the start
    tone = torch.sin(torch.arange(2 * RATE) * (2 * math.pi * 100 / RATE))
    kept, _ = quality(tone[None])
    assert kept[0, RATE:].square().mean() > 0.99 * tone.square().mean()


def test_quality_ignores_padding():
    wav = torch.full((3, 3 * RATE), float("nan"), dtype=torch.float64)
    wav[0, :20000] = speech(2.5) + 0.1
    wav[0, 9000] += 0.7
    wav[1, :1] = 0.5
    lengths = torch.tensor([20000, 1, 0]).double() / (3 * RATE)
    quality = QualityEnhancement(RATE)
    out, report = quality(wav, lengths)
    alone, single = quality(wav[:1, :20000])
    assert torch.equal(out[:1, :20000], alone)
    assert not out[0, 20000:].any() and not out[2].any()
    assert report["before"]["clicks"].tolist() == [1, 0, 0]
    assert report["before"]["dc"][0] == single["before"]["dc"][0]
    assert report["before"]["dc"][1:].tolist() == [0.5, 0.0]


MASK = """
generator: !new:speechbrain.lobes.models.MetricGAN.EnhancementGenerator
    input_size: 257
    hidden_size: 200
    num_layers: 1
    dropout: 0.0
modules:
    enhance_model: !ref <generator>
compute_stft: !new:speechbrain.processing.features.STFT
    sample_rate: 16000
    win_length: 32
    hop_length: 16
    n_fft: 512
    window_fn: !name:torch.hamming_window
spectral_magnitude: !name:speechbrain.processing.features.spectral_magnitude
    power: 0.5
resynth: !name:speechbrain.processing.signal_processing.resynthesize
    stft: !ref <compute_stft>
    istft: !new:speechbrain.processing.features.ISTFT
        sample_rate: 16000
        win_length: 32
        hop_length: 16
        window_fn: !name:torch.hamming_window
    normalize_wavs: False
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
"""


def test_an_enhancer_by_its_folder(tmp_path):
    (tmp_path / "hyperparams.yaml").write_text(MASK)
    quality = QualityEnhancement(16000, enhancer=load_enhancer(str(tmp_path)))
    wav = torch.stack([speech(1, 16000)] * 2).float()
    wav[0] += 0.1
    wav[1, 9000:] = float("nan")
    out, report = quality(wav, torch.tensor([1.0, 9000 / 16000]))
    asked = quality.enhancer.enhance_batch(wav[:1], torch.ones(1))
    assert torch.equal(out[:1, : asked.shape[1]], asked)
    assert 0.01 < (out[0] - wav[0]).abs().max()
    alone, _ = quality(wav[1:, :9000])
    assert alone.any()
    assert torch.equal(out[1, :9000], alone[0]) and not out[1, 9000:].any()
    assert 0 < report["after"]["dc"][0] < report["before"]["dc"][0]
    with pytest.raises(ValueError, match="hears whole recordings"):
        quality.push(wav)


def test_bad_cutoffs():
    with pytest.raises(ValueError, match="cutoff: 4000"):
        QualityEnhancement(RATE, cutoff=4000)


# ---------------------------------------------------------------- deadlines
class Machine:
    """Takes as long as it has codebooks to make."""

    def __init__(self, codebooks, cost):
        self.deadline, self.cost = Deadline(codebooks), cost

    def run(self, buffers):
        """Codebooks after each buffer of half a second."""
        out = []
        for _ in range(buffers):
            took = self.cost * self.deadline.codebooks
            out.append(self.deadline.told(took, 0.5))
        return out


def test_codebooks_go_down_and_up_again(caplog):
    caplog.set_level(logging.WARNING)
    machine = Machine(8, cost=0.05)
    assert machine.run(9) == [8] * 9 and not caplog.records
    machine.cost = 0.15  # 8 codebooks take more than twice as long
    assert machine.run(9)[-1] == 3 and machine.deadline.missed == 1
    assert machine.run(30) == [3] * 30  # what is in time stays
    machine.cost = 0.05
    went = machine.run(30)
    assert went == sorted(went) and went[-1] == 8
    assert max(b - a for a, b in zip([3, *went], went)) == 1
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 + 5  # each change once
    assert lines[0].endswith("s: 3 codebooks instead of 8")
    assert "a buffer of 0.50 s took" in lines[0]


def test_what_was_made_ahead_is_used_up_first():
    deadline = Deadline(8, ahead=2.0)
    for _ in range(10):
        deadline.told(0.1, 1.0)
    assert [deadline.told(1.9, 1.0) for _ in range(4)] == [8, 8, 4, 2]


def test_more_only_if_it_would_be_in_time():
    deadline = Deadline(4)
    deadline.told(0.5, 1.0)
    assert deadline.told(1.9, 1.0) == 2
    assert [deadline.told(0.7, 1.0) for _ in range(20)] == [2] * 20
    assert deadline.told(0.6, 1.0) == 3


def test_at_least_one_codebook():
    deadline = Deadline(2)
    deadline.told(1.0, 0.1)
    assert [deadline.told(9.0, 0.1) for _ in range(3)] == [1, 1, 1]
    with pytest.raises(ValueError, match="num_codebooks: 0"):
        Deadline(0)
    with pytest.raises(ValueError, match="0.0 s that took 1.0 s"):
        deadline.told(1.0, 0.0)
