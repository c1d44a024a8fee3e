"""The model in the box on real files: pieces, sessions and states that are
saved give the words of the whole recording.

`python test_asr.py STATE WAV` is the new process in which a stream goes on.
"""

import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from speechbrain.inference.ASR import EncoderASR
from speechbrain.lobes import features
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.session import fingerprint
from speechbrain_lact.lobes.features import Fbank
from speechbrain_lact.nnet.window_attention import Window
from speechbrain_lact.processing.cutting import cut_quietly, cut_segments
from speechbrain_lact.processing.diarization.segments import Segment

RATE = 16000
# Rounding in fp32, through Muon and many updates, of log-probabilities.
CLOSE = 5e-3


@pytest.fixture(scope="module")
def asr():
    """The model in the box."""
    return LaCTASR.from_hparams(MODEL_IN_THE_BOX)


@pytest.fixture(scope="module")
def recording(corpus):
    """A minute of speech, several voices one after the other."""
    paths = sorted(corpus.glob("*/*/*/*.flac"))
    audio = np.concatenate([soundfile.read(path)[0] for path in paths])
    return torch.from_numpy(audio[: 60 * RATE]).float()


@pytest.fixture(scope="module")
def whole(asr, recording):
    """Log-probabilities and words of the minute as one recording."""
    assert len(recording) == 60 * RATE
    with torch.no_grad():
        start = asr.encoder.initial_state(1)
        log_probs, state = asr.encoder(recording[None], state=start)
    assert state.encoder.updates >= 5
    words, _ = asr.transcribe_words(recording[None], torch.ones(1))
    assert len(words[0]) > 20
    return log_probs[0], words[0]


def cut(audio, seed, most=10 * RATE):
    """Pieces of 1 sample to 10 s, short ones as likely as long ones."""
    draw = random.Random(seed)
    pieces = []
    while len(audio):
        size = int(most ** draw.random()) if pieces else 1
        pieces.append(audio[:size])
        audio = audio[size:]
    return pieces


def listen(session, pieces):
    """All words of a session."""
    words = [word for piece in pieces for word in session.feed(piece).words]
    return words + session.finish().words


@pytest.mark.parametrize("seed", range(3))
def test_pieces_equal_the_whole(asr, recording, whole, seed):
    pieces = cut(recording, seed)
    assert len(pieces) > 20
    state, found = asr.encoder.initial_state(1), []
    with torch.no_grad():
        for i, piece in enumerate(pieces):
            out, state = asr.encoder(
                piece[None], state=state, final=i == len(pieces) - 1
            )
            found.append(out[0, : int(state.encoder.lengths)])
    torch.testing.assert_close(torch.cat(found), whole[0], atol=CLOSE, rtol=0)
    assert listen(asr.stream(), pieces) == whole[1]


def test_the_whole_without_a_state(asr, recording, whole):
    """SpeechBrain's own interface says the same."""
    wavs, lengths = recording[None], torch.ones(1)
    torch.testing.assert_close(
        asr.encode_batch(wavs, lengths)[0], whole[0], atol=CLOSE, rtol=0
    )
    theirs = EncoderASR.from_hparams(MODEL_IN_THE_BOX)
    said = [word.text for word in whole[1]]
    assert theirs.transcribe_batch(wavs, lengths)[0][0].split() == said
    assert asr.transcribe_batch(wavs, lengths)[0][0].split() == said


def test_features_equal_speechbrains(recording):
    """Frame for frame, and in pieces where there is no floor."""
    options = {"sample_rate": RATE, "n_fft": 512, "n_mels": 80}
    theirs = features.Fbank(**options)
    wavs = recording[None, : 5 * RATE + 17]
    ours, _ = Fbank(**options)(wavs)
    torch.testing.assert_close(ours, theirs(wavs), atol=1e-4, rtol=0)
    theirs.compute_fbanks.top_db = float("inf")
    fbank = Fbank(top_db=None, **options)
    state, found = fbank.initial_state(1), []
    pieces = cut(wavs[0], 0, RATE)
    for i, piece in enumerate(pieces):
        out, _, state = fbank(
            piece[None], state=state, final=i == len(pieces) - 1
        )
        found.append(out)
    torch.testing.assert_close(
        torch.cat(found, 1), theirs(wavs), atol=1e-4, rtol=0
    )


def test_interleaved_sessions_equal_each_alone(asr, recording):
    """Sessions join and leave at any time, in pieces of their own."""
    parts = [recording[: 9 * RATE], recording[5 * RATE : 20 * RATE]]
    parts.append(recording[30 * RATE : 36 * RATE])
    alone = [listen(asr.stream(), [part]) for part in parts]
    draw, live, found = random.Random(0), {}, [[], [], []]
    waiting = [cut(part, i, RATE) for i, part in enumerate(parts)]
    while any(waiting):
        for i, pieces in enumerate(waiting):
            if pieces and i not in live and draw.random() < 0.5:
                live[i] = asr.stream()
        now = [i for i in live if waiting[i] and draw.random() < 0.7]
        draw.shuffle(now)
        if not now:
            continue
        heard = asr.feed(
            [live[i] for i in now], [waiting[i].pop(0) for i in now]
        )
        for i, one in zip(now, heard):
            found[i] += one.words
            if not waiting[i]:
                found[i] += live.pop(i).finish().words
    assert found == alone


def test_thirty_two_sessions_are_one_call(asr, recording):
    calls = []
    hook = asr.encoder.transformer.encoder.register_forward_hook(
        lambda module, given, out: calls.append(len(given[0]))
    )
    sessions = [asr.stream() for _ in range(32)]
    for i, session in enumerate(sessions[:5]):
        session.feed(recording[: 1000 * i])
    calls.clear()
    asr.feed(sessions, [recording[: 100 * i] for i in range(32)])
    hook.remove()
    assert calls == [32]


def test_sessions_that_end_together(asr, recording):
    """All at once, without any more samples, as one after the other."""
    parts = [recording[: 5 * RATE], recording[20 * RATE : 23 * RATE]]
    alone = [listen(asr.stream(), [part]) for part in parts]
    sessions = [asr.stream() for _ in parts]
    begun = asr.feed(sessions, parts)
    ended = asr.feed(sessions, [torch.zeros(0)] * 2, final=True)
    found = [a.words + b.words for a, b in zip(begun, ended)]
    assert found == alone


def test_changing_words_become_stable(asr, recording):
    """What is changing is the beginning of the next word."""
    session, before = asr.stream(), ""
    grew = 0
    for piece in recording[: 10 * RATE].split(RATE // 10):
        heard = session.feed(piece)
        now = heard.words[0].text if heard.words else heard.changing
        assert now.startswith(before)
        grew += bool(before)
        before = heard.changing
    assert grew > 20


def test_a_stream_goes_on_in_another_process(asr, recording, tmp_path):
    first, second = recording[: 20 * RATE + 123], recording[20 * RATE + 123 :]
    second = second[: 15 * RATE]
    session = asr.stream()
    begun = session.feed(first).words
    session.save(tmp_path / "state")
    soundfile.write(tmp_path / "rest.wav", second.numpy(), RATE, "FLOAT")
    done = subprocess.run(
        [sys.executable, __file__, tmp_path / "state", tmp_path / "rest.wav"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rest = json.loads(done.stdout.splitlines()[-1])
    unbroken = listen(asr.stream(), [first, second])
    wanted = [[w.text, w.start, w.end] for w in unbroken]
    assert [[w.text, w.start, w.end] for w in begun] + rest == wanted


def test_foreign_and_damaged_states_are_refused(asr, tmp_path):
    path = tmp_path / "state"
    asr.save_state(asr.initial_state(), path)
    data = path.read_bytes()
    other = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
    with torch.no_grad():
        next(iter(other.encoder.parameters())).add_(1e-3)
    with pytest.raises(ValueError, match="state of another model"):
        other.load_state(path)
    edited = bytearray(data)
    edited[-20] ^= 1
    for damaged in (data[: len(data) // 2], data[:5], b"", b"x" * 100, edited):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=str(path)):
            asr.load_state(path)
    with pytest.raises(ValueError, match="no such file"):
        asr.load_state(tmp_path / "none")


def test_late_sessions_read_without_learning(asr, recording, caplog):
    """No audio is lost; the memory learns again when the session is on time."""
    now = [0.0]
    late = asr.stream(max_lag=1.0, clock=lambda: now[0])

    def slow(took):
        """Feeds 2 s of audio, which takes so long by the clock."""
        hook = asr.encoder.register_forward_hook(
            lambda *_: now.__setitem__(0, now[0] + took)
        )
        session, used = late, slow.used
        slow.used += 2 * RATE
        updates = session.state.pipeline.encoder.updates
        session.feed(recording[used : slow.used])
        hook.remove()
        frames.append(int(session.state.frames))
        return float(session.state.pipeline.encoder.updates - updates)

    slow.used, frames = 0, []
    learned = [slow(0.1), slow(3.5), slow(2.2)]
    assert late.behind and late.lag == pytest.approx(1.7)
    assert sum(learned[:2]) > 0 and learned[2] == 0
    memory = late.state.pipeline.encoder.layers[0].mixer.fast.weights
    assert slow(1.9) == slow(1.9) == 0
    after = late.state.pipeline.encoder.layers[0].mixer.fast.weights
    assert torch.equal(memory, after)
    slow(0.0)
    assert not late.behind
    assert sum([slow(0.1), slow(0.1), slow(0.1)]) > 0
    assert frames[-1] * asr.frame_seconds == pytest.approx(18, abs=0.2)
    told = [r.message for r in caplog.records]
    assert sum("without learning" in line for line in told) == 1
    assert sum("learning again" in line for line in told) == 1


def test_a_voice_that_was_heard_before(asr, recording, tmp_path):
    """The memory of `adapt_to_speaker` serves every way to transcribe."""
    voice, speech = recording[: 10 * RATE], recording[12 * RATE : 20 * RATE]
    soundfile.write(tmp_path / "voice.wav", voice.numpy(), RATE, "FLOAT")
    soundfile.write(tmp_path / "speech.wav", speech.numpy(), RATE, "FLOAT")
    memory = asr.adapt_to_speaker(tmp_path / "voice.wav")
    asr.save_state(memory, tmp_path / "memory")
    memory = asr.load_state(tmp_path / "memory")
    assert memory.pipeline.encoder.updates > 1
    wavs, lengths = speech[None], torch.ones(1)
    adapted = asr.encode_batch(wavs, lengths, memory)
    plain = asr.encode_batch(wavs, lengths)
    assert (adapted - plain).abs().max() > 0.01
    words, _ = asr.transcribe_words(wavs, lengths, memory)
    said = [word.text for word in words[0]]
    both = asr.transcribe_batch(wavs.repeat(2, 1), torch.ones(2), memory)[0]
    assert both[0].split() == both[1].split() == said
    path = tmp_path / "speech.wav"
    assert asr.transcribe_file(path, memory).split() == said
    assert list(asr.transcribe_long(path, memory)) == words[0]
    assert listen(asr.stream(memory), [speech]) == words[0]
    with pytest.raises(ValueError, match="2 rows for 3"):
        rows = memory.index(torch.tensor([0, 0]))
        asr.transcribe_batch(wavs.repeat(3, 1), torch.ones(3), rows)


def test_a_model_that_looks_ahead(asr, recording, tmp_path):
    """Without blocks the model takes whole utterances: long recordings are
    cut where it is quiet, and the memory goes on."""
    blind = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
    blind.set_block(None)
    with pytest.raises(ValueError, match="cannot stream"):
        blind.stream()
    with pytest.raises(ValueError, match="lact_streaming_ctc.yaml"):
        blind.encoder(
            recording[None], state=blind.encoder.initial_state(1), final=False
        )
    path = tmp_path / "minute.wav"
    soundfile.write(path, recording.numpy(), RATE, "FLOAT")
    pieces = list(cut_quietly(recording.split(RATE), RATE))
    assert torch.equal(torch.cat(pieces), recording)
    assert all(10 * RATE <= len(piece) <= 20 * RATE for piece in pieces[:-1])
    wanted, state, start = [], blind.initial_state(), 0.0
    for piece in pieces:
        words, state = blind.transcribe_words(piece[None], torch.ones(1), state)
        for word in words[0]:
            times = (round(start + t, 3) for t in (word.start, word.end))
            wanted.append((word.text, *times))
        start += len(piece) / RATE
    found = [(w.text, w.start, w.end) for w in blind.transcribe_long(path)]
    assert found == wanted


def test_blocks_are_chosen_when_the_model_is_used(asr, recording, tmp_path):
    """Longer blocks see more of what follows; pieces equal the whole."""
    other = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
    other.set_block(8)
    speech = recording[: 12 * RATE]
    words, _ = other.transcribe_words(speech[None], torch.ones(1))
    assert listen(other.stream(), cut(speech, 3)) == words[0]
    before = asr.transcribe_words(speech[None], torch.ones(1))[0]
    assert words[0] != before[0]
    other.save_state(other.initial_state(), tmp_path / "state")
    with pytest.raises(ValueError, match="block is 8, not 2"):
        asr.load_state(tmp_path / "state")
    other.set_block(2)
    assert other.transcribe_words(speech[None], torch.ones(1))[0] == before
    with pytest.raises(ValueError, match="at least 1"):
        other.set_block(0)


@pytest.mark.parametrize("block", [2, None])
def test_no_word_ends_after_the_audio(recording, block, tmp_path):
    """Whatever its length: frames are longer than what is left."""
    model, late = LaCTASR.from_hparams(MODEL_IN_THE_BOX), 0
    model.set_block(block)
    for samples in range(RATE, 3 * RATE, 1907):
        part = recording[RATE : RATE + samples]
        (words,), _ = model.transcribe_words(part[None], torch.ones(1))
        times = [t for word in words for t in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 <= time <= samples / RATE for time in times)
        assert times == [round(time, 3) for time in times]
        if not words:
            continue
        last = samples * 1000 // RATE / 1000
        late += times[-1] == last
        # Also where the length is known bit by bit only.
        if block is not None and late % 3 == 1:
            assert listen(model.stream(), cut(part, samples)) == words
    assert late > 1
    # The same of each row of a batch.
    wavs = recording[: 3 * RATE].repeat(2, 1)
    rows, _ = model.transcribe_words(wavs, torch.tensor([1.0, 0.61]))
    assert rows[1] and rows[1][-1].end <= 0.61 * 3


def test_no_word_leaves_its_turn(asr, recording, tmp_path):
    path = tmp_path / "minute.wav"
    speech = recording[: 45 * RATE + 7]
    soundfile.write(path, speech.numpy(), RATE, "FLOAT")
    seconds = len(speech) / RATE
    segments = [
        # Within words; one so long that it is cut; one beyond the audio.
        Segment(1.23456, 3.3333, "a"),
        Segment(3.5, 23.49999, "b"),
        Segment(23.5, 23.9, "a"),
        Segment(24.0, seconds + 1.0, "b"),
        Segment(seconds + 0.1, seconds + 2.0, "c"),
    ]
    # Of a turn behind the end only the edge before it is there.
    behind = [Segment(seconds + 0.05, seconds + 2.0, "c")]
    assert cut_segments(speech, behind, RATE) == []
    turns = list(asr.transcribe_speakers(path, segments=segments))
    assert len(turns) > 4 and {turn.speaker for turn in turns} == {"a", "b"}
    for turn in turns:
        times = [t for word in turn.words for t in (word.start, word.end)]
        times = [turn.start, *times, turn.end]
        assert times == sorted(times) and times[-1] <= seconds
        assert times == [round(time, 3) for time in times]
        assert any(
            s.speaker == turn.speaker
            and round(s.start, 3) <= turn.start < turn.end <= round(s.end, 3)
            for s in segments
        )


def test_samples_that_cannot_be_used(asr):
    session = asr.stream()
    bad = {
        "finite": torch.tensor([0.0, float("nan")]),
        "one channel": torch.zeros(2, 10),
        "floats": torch.zeros(10, dtype=torch.int16),
    }
    for message, samples in bad.items():
        with pytest.raises(ValueError, match=message):
            session.feed(samples)
    with pytest.raises(ValueError, match="twice"):
        asr.feed([session, session], [torch.zeros(9)] * 2)
    session.finish()
    with pytest.raises(ValueError, match="finished"):
        session.feed(torch.zeros(10))


def updates(session):
    """How many the session has made."""
    return float(session.state.pipeline.encoder.updates)


def reading(state):
    """A state whose memory is only read."""
    encoder = state.pipeline.encoder.learn([False])
    return replace(state, pipeline=replace(state.pipeline, encoder=encoder))


def test_a_memory_that_is_not_to_learn(asr, recording, tmp_path):
    """It does not: in a session, late or not, from a file, beside one that
    learns, in whole recordings, and when there is a voice to adapt to."""
    state, now = reading(asr.initial_state()), [0.0]
    asr.save_state(state, tmp_path / "state")
    still = asr.stream(asr.load_state(tmp_path / "state"))
    late = asr.stream(state, max_lag=1.0, clock=lambda: now[0])
    learns = asr.stream()
    hook = asr.encoder.register_forward_hook(
        lambda *_: now.__setitem__(0, now[0] + 9)
    )
    asr.feed([still, late, learns], [recording[: 6 * RATE]] * 3)
    hook.remove()
    assert late.behind
    for _ in range(3):
        late.advance(5, 0)
    assert not late.behind
    asr.feed([still, late, learns], [recording[: 6 * RATE]] * 3)
    assert updates(still) == updates(late) == 0 < updates(learns)
    for session in (still, late):
        assert not session.state.pipeline.encoder.learning.any()
    assert learns.state.pipeline.encoder.learning.all()
    wav = recording[: 6 * RATE]
    _, after = asr.transcribe_words(wav[None], torch.ones(1), state)
    assert after.pipeline.encoder.updates == 0
    assert asr.adapt_to_speaker(wav, state).pipeline.encoder.updates == 0


def test_a_state_of_another_configuration(asr, tmp_path):
    """With the same weights: chunk, optimiser, window, features, statistics,
    tokens that mean something else."""
    path = tmp_path / "state"
    asr.save_state(asr.initial_state(), path)
    changes = {
        "LaCT.chunk_size": lambda other, mixer: setattr(
            mixer, "chunk_size", 32
        ),
        "LaCT.optimizer": lambda other, mixer: setattr(
            mixer, "rule", replace(mixer.rule, optimizer="sgd")
        ),
        "LaCT.base_lr": lambda other, mixer: setattr(
            mixer, "rule", replace(mixer.rule, base_lr=1.0)
        ),
        "LaCT.window": lambda other, mixer: setattr(
            mixer, "window", Window(99, 99)
        ),
        "Fbank.top_db": lambda other, mixer: setattr(
            other.encoder.compute_features, "top_db", 80.0
        ),
        "Encoder.statistics": lambda other, mixer: (
            other.encoder.normalize.glob_mean.add_(1)
        ),
        "blank": lambda other, mixer: setattr(other, "blank", 3),
    }
    for name, change in changes.items():
        other = LaCTASR.from_hparams(MODEL_IN_THE_BOX, savedir=None)
        asr.load_state(path)
        change(other, other.encoder.transformer.encoder.layers[-1].mixer)
        with pytest.raises(ValueError, match=f"another model: {name} is"):
            other.load_state(path)


def test_what_cannot_be_transcribed(asr):
    """Shapes, types, lengths and states, at every door: what was given and
    what is wanted."""
    good, one = torch.zeros(2, 800), torch.ones(1)
    for wavs, told in (
        (torch.zeros(4000), r"\[B, S\].* not .*\[4000\]"),
        (torch.zeros(1, 800, 2), r"\[1, 800, 2\]"),
        (torch.zeros(1, 800).short(), "floats .* not torch.int16"),
        (torch.zeros(0, 800), "at least one row"),
        ([[0.0]], "not list"),
    ):
        for door in (
            asr.transcribe_words,
            asr.transcribe_batch,
            asr.encode_batch,
            asr.encoder,
        ):
            with pytest.raises(ValueError, match=told):
                door(wavs, one)
    for shares, told in (
        ([1.0, 0.5, 0.5], r"\[2\] are wanted, not torch.float32 \[3\]"),
        ([1.0, 1.5], r"from 0 to 1.* not \[1.0, 1.5\]"),
        ([1.0, float("nan")], "from 0 to 1"),
        ([1.0, -0.1], "from 0 to 1"),
    ):
        for door in (asr.transcribe_words, asr.encode_batch, asr.encoder):
            with pytest.raises(ValueError, match=told):
                door(good, torch.tensor(shares))
    words, state = asr.transcribe_words(good, torch.tensor([1.0, 0.0]))
    assert words == [[], []]
    with pytest.raises(ValueError, match="a state of 2 rows for 1"):
        asr.adapt_to_speaker(good[0], state)
    for wav in (good, good[0].int()):
        with pytest.raises(ValueError, match=r"wav: floats \[S\]"):
            asr.adapt_to_speaker(wav)
    with pytest.raises(ValueError, match="of 2 rows, but 1 are wanted"):
        asr.stream(state)
    with pytest.raises(ValueError, match="SessionState is wanted, not dict"):
        asr.stream({})
    poisoned = asr.initial_state()
    poisoned.pipeline.encoder.layers[1].mixer.fast.weights[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layers.1.mixer.fast.weights: not"):
        asr.transcribe_words(good[:1], one, poisoned)
    strange = replace(asr.initial_state(), last=torch.tensor([10_000]))
    with pytest.raises(ValueError, match="tokens beyond"):
        asr.stream(strange)
    first, second = asr.stream(), asr.stream()
    for sessions, parts in (
        ([first], [good[0], good[0]]),
        ([first, second], [good[0]]),
        ([], []),
    ):
        with pytest.raises(ValueError, match="a piece for each"):
            asr.feed(sessions, parts)


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_other_types(asr, recording, kind):
    """The model in another type says much the same; its memory is not
    rounded, and it has a fingerprint."""
    other = LaCTASR.from_hparams(MODEL_IN_THE_BOX, savedir=None)
    getattr(other.encoder, kind)()
    wavs = recording[None, : 4 * RATE]
    assert fingerprint(other.encoder) != fingerprint(asr.encoder)
    ours, theirs = (
        one.encode_batch(wavs, torch.ones(1)).double().exp()
        for one in (asr, other)
    )
    bound = {"half": 0.02, "bfloat16": 0.2, "double": CLOSE}[kind]
    assert (ours - theirs).abs().sum(-1).mean() < bound
    session = other.stream()
    session.feed(wavs[0])
    memory = session.state.pipeline.encoder.layers[0].mixer.fast
    exact = torch.float64 if kind == "double" else torch.float32
    assert memory.weights.dtype == memory.gates.dtype == exact


def test_another_default_type(asr, recording):
    """Set after the model was loaded, it changes nothing."""
    wavs = recording[None, : 2 * RATE]
    before = asr.transcribe_words(wavs, torch.ones(1))[0]
    torch.set_default_dtype(torch.float64)
    try:
        assert asr.transcribe_words(wavs, torch.ones(1))[0] == before
        assert listen(asr.stream(), [wavs[0]]) == before[0]
    finally:
        torch.set_default_dtype(torch.float32)


def test_memory_of_a_padded_batch(asr, recording):
    """Rows of a batch leave the state that each alone leaves."""
    parts = [recording[: 9 * RATE], recording[9 * RATE : 13 * RATE]]
    wavs = torch.full((2, 9 * RATE), float("nan"))
    for row, part in zip(wavs, parts):
        row[: len(part)] = part
    lengths = torch.tensor([1.0, 4 / 9])
    words, state = asr.transcribe_words(wavs, lengths)
    for row, part in enumerate(parts):
        alone, memory = asr.transcribe_words(part[None], torch.ones(1))
        assert words[row] == alone[0]
        torch.testing.assert_close(
            state.pipeline.encoder.layers[-1].mixer.fast.weights[row],
            memory.pipeline.encoder.layers[-1].mixer.fast.weights[0],
            atol=CLOSE,
            rtol=0,
        )


if __name__ == "__main__":
    model = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
    samples = torch.from_numpy(soundfile.read(sys.argv[2], dtype="float32")[0])
    spoken = listen(model.stream(model.load_state(sys.argv[1])), [samples])
    print(json.dumps([[w.text, w.start, w.end] for w in spoken]))
