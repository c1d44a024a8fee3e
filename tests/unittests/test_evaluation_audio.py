"""Tests of the measures of audio on signals whose measures are known.

Authors
* speechbrain_lact contributors 2026
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from speechbrain_lact.evaluation.audio import plots
from speechbrain_lact.evaluation.audio.comparison import compare
from speechbrain_lact.evaluation.audio.likelihood import (
    nll_over_position,
    nll_table,
)
from speechbrain_lact.evaluation.audio.measure import measure, measure_pieces
from speechbrain_lact.evaluation.audio.modulation import modulation
from speechbrain_lact.evaluation.audio.pitch import (
    pitch_continuity,
    pitch_track,
)
from speechbrain_lact.evaluation.audio.plots import (
    plot_nll,
    plot_over_time,
    plot_spectrograms,
)
from speechbrain_lact.evaluation.audio.quality import predicted_mos, quality
from speechbrain_lact.evaluation.audio.rolloff import rolloff, rolloff_variation
from speechbrain_lact.evaluation.audio.similarity import speaker_similarity
from speechbrain_lact.evaluation.audio.tokens import (
    repetition_rate,
    token_entropy,
)
from speechbrain_lact.evaluation.audio.words import word_errors
from speechbrain_lact.inference.speakers import load_embedder
from speechbrain_lact.lobes.models.LaCTAudioLM import (
    LaCTAudioLM,
    TransformerAudioLM,
)

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
RATE = 16000
EDGES = [0, 1, 4, 5, 30, 48]
SIZES = dict(d_model=16, nhead=2, d_ffn=32, num_layers=2, speaker_size=3)


def times(seconds, rate=RATE):
    return torch.arange(round(seconds * rate), dtype=torch.float64) / rate


def tone(frequency, seconds, rate=RATE):
    angle = 2 * torch.pi * frequency * times(seconds, rate)
    return 0.5 * angle.sin().float()


def voice(pitch):
    """Ten harmonics of a pitch given for each sample [S], falling off."""
    angle = 2 * torch.pi * pitch.double().cumsum(0) / RATE
    wav = sum((k * angle).sin() / k for k in range(1, 11))
    return (0.1 * wav).float()


def noise(seconds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(round(seconds * RATE), generator=generator)


def model(kind):
    torch.manual_seed(0)
    if kind == "lact":
        net = LaCTAudioLM(3, 8, **SIZES, lact={"chunk_size": 4})
    else:
        net = TransformerAudioLM(3, 8, **SIZES)
    return net.double().eval()


def streams(net):
    """One with text before, one that is longer than all bins."""
    torch.manual_seed(1)
    audio = [net.audio_rows(torch.randint(8, (n, 3))) for n in (30, 47)]
    begin, text = net.begin_row(), net.text_rows("a word")
    return [torch.cat([begin, text, audio[0]]), torch.cat([begin, audio[1]])]


def surprises(net, stream, state=None):
    """Bits of every real token in one call [(row, bits)]."""
    scores = net(stream[None], state=state)[0][0].detach().log_softmax(-1)
    return [
        (row, -float(scores[row - 1, book, token]) / math.log(2))
        for row in range(1, len(stream))
        for book, token in enumerate(stream[row].tolist())
        if token < net.codebook_size
    ]


@pytest.mark.parametrize("segment", [1, 7, 500])
@pytest.mark.parametrize("kind", ["lact", "transformer"])
def test_likelihood_is_that_of_the_whole_stream(kind, segment):
    net = model(kind)
    rows = streams(net)
    speaker = torch.tensor([[1.0, -2.0, 0.5]]).double()
    states = [None, net.initial_state(1, speaker)]
    bits, counts = nll_over_position(net, rows, EDGES, segment, states)
    for place, stream in enumerate(rows):
        found = surprises(net, stream, states[place])
        for b, (low, high) in enumerate(zip(EDGES, EDGES[1:])):
            inside = [value for row, value in found if low <= row < high]
            assert counts[place, b] == len(inside)
            assert float(bits[place, b]) == pytest.approx(sum(inside), rel=1e-9)
    # Rows 1 to 7 of the first are text and the first codebook alone.
    assert counts[0].tolist()[:3] == [0, 0, 0]
    # All the tokens of the first stream are in some bin.
    assert int(counts[0].sum()) == 30 * 3


def test_likelihood_of_a_model_that_knows_one_token():
    net = model("lact")
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.zero_()
        net.head.bias[0] = math.log(11.0)  # token 0 of codebook 0: 11 of 20
    tokens = torch.tensor([[0, 5, 5]] * 10)
    stream = torch.cat([net.begin_row(), net.audio_rows(tokens)])
    bits, counts = nll_over_position(net, [stream] * 2, [1, 11, 13])
    (first, last) = nll_table(bits, counts, [1, 11, 13], rate=10)
    # 10, 9 and 8 of the codebooks' tokens, then 0, 1 and 2.
    known, other = math.log2(20 / 11), math.log2(10)
    assert first["bits"] == pytest.approx((10 * known + 17 * other) / 27)
    assert last["bits"] == pytest.approx(other)
    assert (first["start"], first["end"], last["end"]) == (0.1, 1.1, 1.3)
    assert first["low"] == pytest.approx(first["high"])


def test_interval_is_over_recordings():
    """Two recordings of other lengths: a draw has one of them, or both."""
    bits, counts = torch.tensor([[30.0], [10.0]]), torch.tensor([[10], [10]])
    (row,) = nll_table(bits, counts, [0, 5], 5)
    assert [row[k] for k in ("bits", "low", "high")] == [2.0, 1.0, 3.0]
    (row,) = nll_table(bits[:1], counts[:1], [0, 5], 5)
    assert (row["bits"], row["low"]) == (3.0, None)
    assert nll_table(bits, 0 * counts, [0, 5], 5) == []


def test_streams_that_cannot_be_scored():
    net = model("lact")
    good = streams(net)[1]
    wrong = good.clone()
    wrong[3, 1] = 10  # would be read from the next codebook's table
    for rows, message in (
        (good[1:], "begins with"),
        (wrong, "from 0 to 10, but a codebook has 0 to 7"),
        (good[:, :2], "takes"),
        (good[:1], "takes"),
    ):
        with pytest.raises(ValueError, match=f"stream 0: .*{message}"):
            nll_over_position(net, [rows], EDGES)
    with pytest.raises(ValueError, match="edges"):
        nll_over_position(net, [good], [0, 5, 5])
    with pytest.raises(ValueError, match="eval"):
        nll_over_position(net.train(), [good], EDGES)
    torch.nn.init.constant_(net.eval().head.bias, torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        nll_over_position(net, [good], EDGES)


@pytest.mark.parametrize("rate", [16000, 22050])
def test_rolloff(rate):
    """A sine: its frequency, to the window's blur; white noise: the share."""
    found = rolloff(tone(1000, 1.0, rate), rate)
    assert bool(((found - 1000).abs() < 2 / 0.032).all())
    white = rolloff(noise(2.0), RATE)
    assert float(white.mean()) == pytest.approx(0.85 * 8000, rel=0.02)
    half = rolloff(noise(2.0), RATE, share=0.5)
    assert float(half.mean()) == pytest.approx(0.5 * 8000, rel=0.02)


def test_rolloff_of_silence_and_offset():
    wav = torch.cat([tone(3000, 1.0), torch.zeros(RATE)]) + 0.2
    found = rolloff(wav, RATE)
    assert bool(found[105:].isnan().all())
    assert float((found[:95] - 3000).abs().max()) < 2 / 0.032


def test_rolloff_that_wanders():
    """Seconds of 1000 and 3000 Hz: mean 2000, deviation 2000 / sqrt(2)."""
    wav = torch.cat([tone(1000, 1.0), tone(3000, 1.0)])
    assert rolloff_variation(wav, RATE) == pytest.approx(2**-0.5, rel=0.05)
    assert rolloff_variation(tone(1000, 3.5), RATE) == pytest.approx(0)
    with pytest.raises(ValueError, match="in 1 windows"):
        rolloff_variation(torch.cat([wav[:RATE], 0 * wav]), RATE)


def test_pitch_of_pulses():
    """150 Hz with all harmonics; no octave up or down, in any frame."""
    wav = torch.zeros(RATE)
    wav[(torch.arange(150) * RATE / 150).long()] = 1.0
    track = pitch_track(wav, RATE)
    assert float((track - 150).abs().max()) < 1.0
    jump, voiced = pitch_continuity(track)
    assert jump < 0.1 and voiced == 1.0


def test_pitch_of_a_glide():
    """An octave in two seconds: 0.06 semitones from frame to frame."""
    pitch = 100 * 2 ** (times(2.0) / 2)
    track = pitch_track(voice(pitch), RATE)
    middle = (torch.arange(len(track)) * 160 + 400).clamp(max=2 * RATE - 1)
    assert float((track / pitch[middle] - 1).abs().max()) < 0.01
    jump, voiced = pitch_continuity(track)
    assert jump == pytest.approx(0.06, abs=0.01) and voiced == 1.0


def test_pitch_of_a_low_voice_in_noise():
    """Half of the power is the voice; the window's fall is made up for."""
    wav = voice(torch.full((2 * RATE,), 70.0))
    wav = wav + wav.std() * 10 * noise(2.0)
    track = pitch_track(wav, RATE)
    _, voiced = pitch_continuity(track)
    assert voiced > 0.95
    assert float(track.nanmedian()) == pytest.approx(70, abs=1)


def test_pitch_that_is_not_there():
    wav = torch.cat([voice(torch.full((RATE,), 120.0)), noise(1.0)])
    jump, voiced = pitch_continuity(pitch_track(wav, RATE))
    assert voiced == pytest.approx(0.5, abs=0.05) and jump < 0.05
    silence = pitch_track(1e-4 * voice(torch.full((RATE,), 120.0)), RATE)
    assert pitch_continuity(silence) == (None, 0.0)


def test_jumps_of_pitch_are_seen():
    """From 100 to 150 Hz and back each frame, as a track of its own."""
    track = torch.tensor([100.0, 150.0] * 5 + [torch.nan, 300.0])
    jump, voiced = pitch_continuity(track)
    assert jump == pytest.approx(12 * math.log2(1.5), abs=1e-4)
    assert voiced == pytest.approx(11 / 12)


def test_modulation_tells_syllables_from_flutter():
    """Noise of 4 kHz, its amplitude beating at 4 or at 12 Hz."""
    share = {}
    for beat in (1, 4, 12):
        angle = 2 * torch.pi * beat * times(10.0)
        wav = noise(10.0) * (1 + 0.5 * angle.sin()).float()
        share[beat] = modulation(wav, RATE)
    assert share[4] > 0.95
    assert share[12] < 0.05
    # Energy: 1 + sin + sin^2 / 4, of which the square has an eighth at 2 Hz.
    assert share[1] == pytest.approx(1 / 65, abs=0.005)
    # The energy of white noise has no rhythm: a share as the band's, 6/19.5.
    flat = np.mean([modulation(noise(10.0, seed), RATE) for seed in range(9)])
    assert flat == pytest.approx(6 / 19.5, abs=0.06)


def test_entropy():
    every = torch.arange(256).repeat(3)
    tokens = torch.stack([every, 0 * every, every % 2], 1)
    assert token_entropy(tokens, 256).tolist() == pytest.approx([8, 0, 1])
    skewed = torch.tensor([0, 0, 0, 1])[:, None]
    expected = 0.75 * math.log2(4 / 3) + 0.25 * 2
    assert float(token_entropy(skewed, 2)) == pytest.approx(expected)


def test_repetition():
    """A loop of 10 has 10 tetragrams that are new, of 97."""
    loop = torch.arange(10).repeat(10)[:, None]
    assert repetition_rate(loop) == pytest.approx(1 - 10 / 97)
    assert repetition_rate(torch.arange(100)[:, None]) == 0
    # Other codebooks do not matter.
    both = torch.cat([loop, torch.arange(100)[:, None]], 1)
    assert repetition_rate(both) == pytest.approx(1 - 10 / 97)
    assert repetition_rate(loop, n=100) == 0


class PitchEmbedder:
    """Says the direction (cos, sin) of the crossings of zero."""

    identity = "crossings"

    def encode_batch(self, wavs, wav_lens):
        assert wavs.shape[1] == 2 * RATE or len(wavs) == 1
        rate = (wavs.sign().diff(dim=1) != 0).double().mean(1) * RATE / 2
        angle = rate / 1000 * torch.pi / 2
        return torch.stack([angle.cos(), angle.sin()], 1)[:, None]


def test_similarity_over_time():
    """1 s of silence is bridged; from 5 s on another voice, at a right angle
    to the prompt's; then silence."""
    prompt = tone(10, 1.0)
    wav = torch.cat(
        [tone(10, 2.5), torch.zeros(RATE), tone(10, 1.5), tone(1010, 5.0)]
        + [torch.zeros(3 * RATE)]
    )
    middle, alike = speaker_similarity(
        wav, prompt, RATE, PitchEmbedder(), window=2.0, step=1.0
    )
    assert middle.tolist() == list(range(1, 13))
    assert alike[:3].tolist() == pytest.approx([1.0] * 3, abs=0.01)
    assert alike[5:9].tolist() == pytest.approx([0.0] * 4, abs=0.05)
    assert alike.isnan().tolist() == [False] * 10 + [True] * 2


def test_similarity_at_another_rate(monkeypatch):
    """The embedder in the box hears 16 kHz whatever the rate of the audio."""
    embedder, heard = load_embedder("small"), []
    encode = embedder.encode_batch

    def listen(wavs, wav_lens):
        heard.append(wavs)
        return encode(wavs, wav_lens)

    monkeypatch.setattr(embedder, "encode_batch", listen)
    wav = tone(200, 3.0, 12000)
    _, alike = speaker_similarity(wav, wav, 12000, embedder)
    assert float(alike) == pytest.approx(1.0, abs=1e-5)
    for wavs in heard:
        inside = wavs[0, 1000:-1000] - tone(200, 3.0)[1000:-1000]
        assert float(inside.abs().max()) < 0.01


def test_quality_falls_with_noise():
    pytest.importorskip("pystoi")
    pytest.importorskip("pesq")
    beats = (1 + (2 * torch.pi * 3 * times(25.0)).sin()).float()
    clean = voice(150 + 30 * (3 * times(25.0)).sin()) * beats
    same = quality(clean, clean, RATE)
    little, much = (
        quality(clean, clean + size * noise(25.0), RATE) for size in (0.1, 3.0)
    )
    assert same["stoi"] == pytest.approx(1.0) and same["pesq"] > 4.5
    for name in ("stoi", "pesq"):
        assert same[name] > little[name] > much[name]
    silent = quality(0 * clean, clean, RATE)
    assert silent["stoi"] is None and silent["pesq"] is None
    assert "sound" in silent["skipped"]["stoi"]
    assert "no speech" in silent["skipped"]["pesq"]
    short = quality(clean[:3000], clean[:3000], RATE)
    assert short["stoi"] is None and "0.4 s" in short["skipped"]["stoi"]


def test_what_is_not_installed_is_named(monkeypatch):
    """With the extra that installs it."""
    names = {"stoi": "pystoi", "pesq": "pesq", "mos": "speechmos"}
    for name in names.values():
        monkeypatch.setitem(sys.modules, name, None)
    found = quality(noise(1.0), noise(1.0), RATE)
    for measure_name, package in names.items():
        assert found[measure_name] is None
        reason = f"needs {package}: pip install 'speechbrain_lact[metrics]'"
        assert found["skipped"][measure_name] == reason


def test_opinion_score_falls_with_noise():
    """Real speech, at another rate and level, clipped, and none at all."""
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    path = DATA / "speech" / "spk1_snt1.wav"
    if not path.is_file():
        pytest.skip("needs ../shared/data/speech")
    clean = torch.from_numpy(soundfile.read(path, dtype="float32")[0])
    good = predicted_mos(clean, RATE)
    power = clean.square().mean().sqrt()
    hiss = torch.randn(len(clean), generator=torch.manual_seed(0))
    bad = predicted_mos(clean + power * hiss, RATE)
    assert 2.0 < bad + 1.0 < good < 5.0
    half = torchaudio.functional.resample(clean, RATE, RATE // 2)
    assert bad < predicted_mos(half, RATE // 2) < 5.0
    loud = predicted_mos(50 * clean / clean.abs().max(), RATE)
    assert 1.0 < loud < good
    assert quality(clean, clean, RATE)["mos"] == pytest.approx(good)
    tokens = torch.zeros(50, 1, dtype=torch.long)
    assert measure(clean, tokens, RATE, 4)["mos"] == pytest.approx(good)
    for wav, message in (
        (0 * clean, "0.2 s of sound"),
        (clean[:9000], "at least 1 s"),
    ):
        with pytest.raises(ValueError, match=message):
            predicted_mos(wav, RATE)


def test_words_that_were_heard():
    class Recogniser:
        sample_rate = 8000

        def transcribe_batch(self, wavs, wav_lens):
            assert wavs.shape == (1, 8000)
            return ["one two too four"], None

    found = word_errors(noise(1.0), "One two three", RATE, Recogniser())
    assert found == (2, 3)
    with pytest.raises(ValueError, match="no words"):
        word_errors(noise(1.0), " ", RATE, Recogniser())


def test_all_measures_of_the_last_seconds():
    """Ten seconds of noise and zeros, then five of a voice and a loop."""
    wav = torch.cat([noise(10.0), voice(torch.full((5 * RATE,), 120.0))])
    tokens = torch.zeros(750, 2, dtype=torch.long)
    tokens[500:] = torch.arange(250)[:, None] % 4
    whole = measure(wav, tokens, RATE, 4)
    last = measure(wav, tokens, RATE, 4, span=5.0, reference=wav)
    assert (whole["seconds"], last["seconds"]) == (15.0, 5.0)
    assert whole["voiced"] < 0.5 and last["voiced"] == 1.0
    assert whole["rolloff"] > 2000 > last["rolloff"]
    assert last["token_entropy"] == pytest.approx(2.0, abs=1e-3)
    assert whole["token_entropy"] < 1.5
    assert last["repetition"] == pytest.approx(1 - 4 / 247)
    assert whole["skipped"]["stoi"] == "no reference"
    assert whole["speaker_similarity"] is None
    assert "embedder" in whole["skipped"]["speaker_similarity"]
    assert json.loads(json.dumps(last)) == last


def test_pieces_of_a_recording():
    """A voice, noise, the voice again; tokens that stay, loop and change."""
    beats = (1 + (2 * torch.pi * 3 * times(8.0)).sin()).float()
    said = beats * voice(120 + 20 * (5 * times(8.0)).sin())
    wav = torch.cat([said[: 4 * RATE], noise(4.0), said[4 * RATE :]])
    counts = torch.arange(200)
    tokens = torch.cat([0 * counts, counts % 4, counts])[:, None]
    first, middle, last, mixed = measure_pieces(
        wav, tokens, RATE, 200, [4, 8, 12, 6], said, load_embedder("small"), 4.0
    )
    for piece in (first, last):
        assert piece["voiced"] > 0.9 and piece["speaker_similarity"] > 0.9
        assert piece["modulation"] > 0.9
    assert middle["voiced"] < 0.1 and middle["speaker_similarity"] < 0.6
    assert middle["modulation"] < 0.6
    assert 0.4 < mixed["voiced"] < 0.6
    entropies = [p["token_entropy"] for p in (first, middle, last)]
    assert entropies == pytest.approx([0, 2, math.log2(200)])
    assert (first["repetition"], last["repetition"]) == (1 - 1 / 197, 0)
    for end in (3.9, 12.1):
        with pytest.raises(ValueError, match=f"ends at {end} s, .* 12.00 s"):
            measure_pieces(wav, tokens, RATE, 200, [end], span=4.0)


def test_what_cannot_be_measured_has_a_reason():
    """Silence, and a recording shorter than all windows."""
    prompt = tone(200, 1.0)
    tokens = torch.zeros(2, 1, dtype=torch.long)
    names = "rolloff", "rolloff_variation", "pitch_jump", "modulation"
    names += "repetition", "speaker_similarity", "mos"
    for wav in (torch.zeros(4 * RATE), noise(0.02)):
        found = measure(wav, tokens, RATE, 4, prompt, PitchEmbedder())
        for name in names:
            assert found[name] is None and found["skipped"][name]
        assert found["token_entropy"] == 0.0
    silent = measure(torch.zeros(4 * RATE), tokens, RATE, 4)
    assert silent["voiced"] == 0.0 and silent["pitch_jump"] is None


def test_bad_recordings():
    tokens = torch.zeros(50, 1, dtype=torch.long)
    wav = noise(1.0)
    bad = wav.clone()
    bad[7] = torch.nan
    for value, message in (
        (wav[:0], "empty"),
        (bad, "not finite"),
        (wav[None], "one channel"),
        (wav.int(), "one channel"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(value, tokens, RATE, 4)
    for value in (tokens - 1, tokens + 4, tokens[:0], tokens[:, 0], bad[None]):
        with pytest.raises(ValueError, match="tokens: "):
            measure(wav, value, RATE, 4)
    for span in (0.0, 1.5):
        with pytest.raises(ValueError, match="span"):
            measure(wav, tokens, RATE, 4, span=span)
    with pytest.raises(ValueError, match="same length"):
        measure(wav, tokens, RATE, 4, reference=wav[1:])
    with pytest.raises(ValueError, match="0.500 s; at least 2 s"):
        modulation(noise(0.5), RATE)
    with pytest.raises(ValueError, match="prompt: .*sound"):
        speaker_similarity(noise(3.0), 0 * wav, RATE, PitchEmbedder())


def test_systems_side_by_side():
    measures = {
        "real": [{"voiced": 0.0, "mos": None}, {"voiced": 1.0, "mos": None}],
        "lact": [{"voiced": 0.6, "list": [1.0]}, {"voiced": None}],
    }
    real, lact, *_ = compare(measures, reference="real")
    ends = [real[k] for k in ("mean", "low", "high", "count")]
    assert ends == pytest.approx([0.5, 0.0, 1.0, 2])
    assert lact["count"] == 1 and lact["low"] is None
    assert lact["change"] == pytest.approx(0.2)
    assert {row["measure"] for row in compare(measures)} == {"voiced"}
    assert compare(measures)[1]["change"] is None
    with pytest.raises(ValueError, match="none of real, lact"):
        compare(measures, reference="live")
    with pytest.raises(ValueError, match="no recordings of lact"):
        compare({"lact": []})


@pytest.fixture
def figures(monkeypatch):
    """The axes of all figures that are drawn."""
    drawn, make = [], plots._figure

    def keep(*arguments):
        figure, axes = make(*arguments)
        drawn.append(axes)
        return figure, axes

    monkeypatch.setattr(plots, "_figure", keep)
    return drawn


def test_spectrograms_share_time_and_loudness(tmp_path, figures):
    """A sine of 4 kHz, and one that is 40 dB lower and half as long."""
    loud = tone(4000, 2.0)
    path = tmp_path / "two.png"
    plot_spectrograms({"real": loud, "made": 0.01 * loud[:RATE]}, RATE, path)
    for axes, level, end in zip(figures[0], (0, -40), (2.0, 1.0)):
        (image,) = axes.get_images()
        bands = image.get_array()
        assert np.allclose(bands.max(0), level, atol=0.1)
        assert image.get_clim() == (-80, 0) and axes.get_xlim() == (0, 2.0)
        left, right, low, high = image.get_extent()
        assert (left, right) == (0, end)
        place = (bands.argmax(0)[0] + 0.5) / len(bands)
        assert low + place * (high - low) == pytest.approx(4.0, abs=0.05)
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_spectrograms({}, RATE, path)


def test_curves_are_drawn(tmp_path, figures):
    """What is on the axes, at what places."""
    table = [
        dict(start=0.0, end=2.0, bits=5.0, low=4.0, high=6.0, count=9),
        dict(start=2.0, end=8.0, bits=4.0, low=None, high=None, count=9),
    ]
    plot_nll({"LaCT": table}, tmp_path / "nll.png", trained=3.0)
    axes = figures[-1]
    assert axes.get_xscale() == "log"
    curve, mark = axes.get_lines()
    assert curve.get_xydata().tolist() == [[1.0, 5.0], [5.0, 4.0]]
    assert set(mark.get_xdata()) == {3.0}
    assert (tmp_path / "nll.png").exists()


def test_measures_are_drawn_over_time(tmp_path, figures):
    """Systems as curves with gaps, what they should be like as a band."""
    row = {"system": "LaCT", "measure": "voiced"}
    none = {"mean": None, "low": None, "high": None}
    rows = [
        {**row, "seconds": 30, "mean": 0.5, "low": 0.0, "high": 1.0},
        {**row, "seconds": 60, **none},
        {**row, "seconds": 120, "mean": 0.25, "low": None, "high": None},
    ]
    rows += [
        {**rows[0], "system": "real", "mean": 0.7, "low": 0.6, "high": 0.8},
        {**rows[0], "measure": "other", "mean": 9.0},
    ]
    labels = {"voiced": "share", "other": "another"}
    plot_over_time(rows, labels, tmp_path / "time.png", "real")
    left, right = figures[-1]
    curve, across = left.get_lines()
    assert list(curve.get_xdata()) == [30, 60, 120]
    assert list(curve.get_ydata()) == pytest.approx(
        [0.5, math.nan, 0.25], nan_ok=True
    )
    assert set(across.get_ydata()) == {0.7}
    assert list(across.get_xdata()) == [0, 1]  # of the picture's width
    (band,) = left.patches
    assert (band.get_y(), band.get_height()) == pytest.approx((0.6, 0.2))
    (shade,) = left.collections
    assert shade.get_paths()[0].get_extents().height == pytest.approx(1.0)
    assert left.get_ylabel() == "share" and right.get_ylabel() == "another"
    assert right.get_lines()[0].get_xydata().tolist() == [[30.0, 9.0]]
    assert (tmp_path / "time.png").exists()
