"""Everything lies where its module lies: each part runs on a device that is not
the CPU, and no tensor is found elsewhere.

With `--device=cuda` the parts run there. Without, they run on a pretended
device (`pretended_device.py`) in a process of its own: this file.

`python test_devices.py FOLDER` is that process.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import soundfile
import torch
from torch import nn

from speechbrain.nnet.linear import Linear
from speechbrain.utils.dynamic_chunk_training import DynChunkTrainConfig
from speechbrain_lact.cli import main
from speechbrain_lact.decoders.seq2seq import LaCTTransformerBeamSearcher
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.AudioLM import AudioGenerator, load_tokenizer
from speechbrain_lact.inference.speakers import SpeakerBank
from speechbrain_lact.lobes.features import Fbank
from speechbrain_lact.lobes.models.convolution import (
    ConvolutionFrontEnd,
    WaveformFrontEnd,
)
from speechbrain_lact.lobes.models.initial_memory import InitialMemory
from speechbrain_lact.lobes.models.LaCTAudioLM import (
    LaCTAudioLM,
    TransformerAudioLM,
)
from speechbrain_lact.lobes.models.transformer.encoder import (
    ENCODERS,
    LaCTEncoderState,
)
from speechbrain_lact.lobes.models.transformer.TransformerASR import (
    TransformerASR,
)
from speechbrain_lact.lobes.models.whisper.encoder import StreamingWhisper
from speechbrain_lact.nnet.mixers import MIXERS
from speechbrain_lact.nnet.state import State
from speechbrain_lact.processing.boundaries import ChunkEnds
from speechbrain_lact.processing.sessions import SessionStates

ROOT = Path(__file__).parents[2]
RATE = 16000


def there(device, *found):
    """All tensors are on the device."""
    for one in found:
        if isinstance(one, State):
            one.map(lambda x: there(device, x))
        elif isinstance(one, torch.Tensor):
            where = one.device.type
            assert where == torch.device(device).type, (where, one.shape)
        elif isinstance(one, (list, tuple)):
            there(device, *one)


def noise(*shape, device="cpu", seed=0):
    """Random numbers, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return (0.1 * torch.randn(*shape, generator=generator)).to(device)


def pieces(module, x, device, **options):
    """What a module says to pieces, from its initial state."""
    state, out = module.initial_state(len(x)), []
    there(device, state)
    for i, part in enumerate(x.split(700 if x.ndim == 2 else 5, 1)):
        *found, state = module(part, state=state, final=i == 2, **options)
        out.append(found[0])
        there(device, found, state)
        if i == 2:
            break
    return out


def check_features(device, folder):
    """Samples become frames, whole and in pieces."""
    net = Fbank(n_mels=8, top_db=None).to(device)
    wav, lengths = noise(2, 2100, device=device), torch.tensor([1.0, 0.6])
    there(device, net(wav, lengths), net(wav, lengths.to(device)))
    pieces(net, wav, device)
    pieces(net, wav, device, wav_len=lengths)
    trained = Fbank(n_mels=8, requires_grad=True).to(device)
    there(device, trained(wav, lengths))


def check_front_ends(device, folder):
    """Frames become fewer."""
    for net, x in (
        (ConvolutionFrontEnd(8, stride=4), noise(2, 21, 8, device=device)),
        (WaveformFrontEnd([2, 2], 4), noise(2, 21, 1, device=device)),
    ):
        net = net.to(device)
        lengths = torch.tensor([0.5, 1.0])
        there(device, net(x, lengths))
        pieces(net, x, device, wav_len=lengths)


def check_whisper(device, folder):
    """Its encoder that streams, with pauses and without."""
    for pauses in (None, ChunkEnds("silence", least=2)):
        lact = {"block_window": [4, 4], "chunk_size": 4, "fast_heads": 2}
        net = StreamingWhisper(
            8, 2, 1, 8, lact=lact, pauses=pauses, least_segment=4, positions=9
        ).to(device)
        wav = noise(2, 2100, device=device)
        for out in pieces(net, wav, device, wav_lens=torch.tensor([1.0, 0.5])):
            there(device, out.frames, out.lengths, out.begins)


def check_encoders(device, folder):
    """Orders, optimisers, windows and kinds of layers; training as well."""
    sizes = {"nhead": 2, "d_model": 8}
    more = {
        "transformer": {"d_ffn": 8, "normalize_before": True},
        "conformer": {"d_ffn": 8, "kernel_size": 3},
        "branchformer": {"csgu_linear_units": 8, "kernel_size": 3},
    }
    x = noise(2, 13, 8, device=device)
    padding = (torch.arange(13) >= torch.tensor([[13], [7]])).to(device)
    for kind, order, optimizer, window in (
        ("transformer", "apply_update", "muon", {"window": (5, 0)}),
        ("transformer", "update_apply", "adam", {"window": 3}),
        ("transformer", "bidirectional", "sgd", {"window": 3}),
        ("conformer", "apply_update", "adam", {"block_window": (4, 1)}),
        ("conformer", "update_apply", "muon", {"block_window": (4, 1)}),
        ("conformer", "update_apply", "sgd", {"fast": False, "window": 2}),
        ("branchformer", "update_apply", "muon", {"window": 3}),
    ):
        lact = {"order": order, "optimizer": optimizer, "chunk_size": 4}
        net = ENCODERS[kind](
            2, {**lact, "fast_heads": 2, **window}, **sizes, **more[kind]
        ).to(device)
        out = net(x, src_key_padding_mask=padding)[0]
        out.sum().backward()
        grads = [p.grad for p in net.parameters()]
        there(device, out, [grad for grad in grads if grad is not None])
        *out, state = net(
            x,
            src_key_padding_mask=padding,
            state=net.initial_state(2),
        )
        there(device, out, state, state.learn([False, True]), state.updates)
        there(device, LaCTEncoderState.cat([state, net.initial_state(1)]))
        there(device, state.reset(torch.tensor([True, False])))
        there(device, state.index(torch.tensor([1, 0])))


def check_other_mixers(device, folder):
    """Those without fast weights: training, rows, and a state that comes back
    from a file to where the model is."""
    x = noise(2, 13, 8, device=device)
    padding = (torch.arange(13) >= torch.tensor([[13], [7]])).to(device)
    for mixer in set(MIXERS) - {"LaCT"}:
        net = ENCODERS["conformer"](
            2, {}, mixer=mixer, nhead=2, d_model=8, d_ffn=8, kernel_size=3,
            causal=True,
        ).to(device)  # fmt: skip
        net(x, src_key_padding_mask=padding)[0].sum().backward()
        there(device, [p.grad for p in net.parameters()])
        state = net.initial_state(2)
        there(device, state)
        for part in x.split([5, 1, 7], 1):
            *out, state = net(part, state=state, final=False)
            there(device, out, state, state.learn([False, True]), state.updates)
        state = state.detach()
        there(device, LaCTEncoderState.cat([state, net.initial_state(1)]))
        there(device, state.reset(torch.tensor([True, False])))
        there(device, state.index(torch.tensor([1, 0])))
        path = str(Path(folder) / f"{mixer}.state")
        state.save(path, {})
        like = net.initial_state(1)
        loaded = LaCTEncoderState.load(path, {}, device, like)
        there(device, loaded)
        *out, state = net(x, state=loaded, final=False)
        there(device, out, state)


def check_steps(device, folder):
    """A causal encoder, frame by frame, with one window and another."""
    net = ENCODERS["transformer"](
        1,
        {"order": "apply_update", "chunk_size": 3, "window": (4, 0)},
        nhead=2,
        d_model=8,
        d_ffn=8,
        causal=True,
    ).to(device)
    state = net.initial_state(2)
    for frame in noise(2, 9, 8, device=device).split(1, 1):
        *out, state = net(frame, state=state, final=False)
        there(device, out, state)


def recogniser(device, **options):
    """A TransformerASR with a decoder that has LaCT, too."""
    return TransformerASR(
        tgt_vocab=7,
        input_size=8,
        d_model=16,
        nhead=2,
        num_encoder_layers=1,
        d_ffn=16,
        encoder_module="conformer",
        kernel_size=3,
        attention_type="LaCT",
        normalize_before=True,
        lact_chunk_size=4,
        **{"causal": False, "num_decoder_layers": 1, **options},
    ).to(device)


def check_decoder(device, folder):
    """Teacher forcing, token by token, and a beam search."""
    net = recogniser(device, lact_decoder_chunk_size=3).eval()
    src, share = noise(2, 9, 8, device=device), torch.tensor([1.0, 0.7])
    tokens = torch.tensor([[1, 3, 4, 5, 6], [1, 2, 0, 0, 0]]).to(device)
    there(device, net(src, tokens, share))
    encoded = net.encode(src, share)
    state = net.initial_decoder_state(2)
    for token in tokens.split(1, 1):
        *out, state = net.decode(
            token, encoded, torch.tensor([9, 6]), state=state
        )
        there(device, out, state)
    searcher = LaCTTransformerBeamSearcher(
        modules=[net, Linear(input_size=16, n_neurons=7).to(device)],
        bos_index=1,
        eos_index=2,
        min_decode_ratio=0.0,
        max_decode_ratio=0.5,
        beam_size=2,
    )
    searcher(encoded, share.to(device))


def check_blocks(device, folder):
    """Dynamic chunks, the streaming context, ends of chunks."""
    net = recogniser(device, lact_order="apply_update", num_decoder_layers=0)
    config = DynChunkTrainConfig(2, 2)
    src = noise(2, 8, 8, device=device)
    context = net.make_streaming_context(config)
    for part in src.split(2, 1):
        there(device, net.encode_streaming(part, context))
    there(device, context.encoder_context.state)
    find = ChunkEnds("silence", stride=2, least=2)
    feats = noise(2, 16, 8, device=device)
    state = find.initial_state(2, device)
    ends, state = find(feats, torch.ones(2), state=state, final=False)
    there(device, ends, state)
    net = recogniser(device, lact_least_chunk=2, num_decoder_layers=0)
    there(device, net.encode(src, ends=torch.ones(2, 8).bool()))


def check_initial_memory(device, folder):
    """Domains and voices."""
    net = recogniser(device, num_decoder_layers=0)
    memory = InitialMemory(net, ["a", "b"], 5).to(device)
    state = memory(net, net.initial_state(2), ["b", None], noise(2, 5))
    there(device, state, net.encode(noise(2, 9, 8, device=device), state=state))


def check_sessions_of_training(device, folder):
    """States that are kept between batches and in checkpoints."""
    net = recogniser(device, num_decoder_layers=0)
    states = SessionStates(net, LaCTEncoderState)
    x = noise(2, 9, 8, device=device)
    for position in range(2):
        place = ["a", "b"], [position] * 2
        _, state = net.encode(x, state=states.start(*place, 0.5))
        states.keep(*place, state)
    states._save(folder / "states")
    states._load(folder / "states", False)
    there(device, states.start(["b", "c"], [2, 0]))


def check_audio_lm(device, folder):
    """Tokens of a recording, what follows them, and its sound."""
    tokenizer = load_tokenizer().to(device)
    books, size = len(tokenizer.codebook_sizes), tokenizer.codebook_sizes[0]
    sizes = {"d_model": 16, "nhead": 2, "d_ffn": 16, "num_layers": 1}
    options = {"speaker_size": 3, "domains": ["x"], **sizes}
    wav = noise(4000)
    for kind, lact in (
        (LaCTAudioLM, {"lact": {"chunk_size": 4}}),
        (TransformerAudioLM, {}),
    ):
        made = AudioGenerator(
            kind(books, size, **options, **lact).to(device), tokenizer
        )
        state = made.begin("ab", wav, domain="x", seed=3)
        there(device, state)
        sound, tokens, after = made.generate(state, 0.2, may_end=False)
        there(device, sound, tokens, after)
        there(device, made.refine(state, tokens, 0.1, tries=1)[0])
        for sound, state in made.generate_stream(after, 0.1):
            there(device, sound, state)
        heard = made.adapt_to_style(wav, "x")
        there(device, heard, made.begin("b", state=heard))
        voice = made.model.begin(["a"], speaker=noise(1, 3), domain=["x"])
        there(device, voice)
        there(device, made.model.score(tokens.cpu(), voice))
        voice = made.model.force(voice, tokens.cpu())
        there(device, made.model.generate(voice, 3, greedy=True))


def check_recogniser(device, folder):
    """Every way to transcribe, and states in files."""
    asr = LaCTASR.from_hparams(
        MODEL_IN_THE_BOX, savedir=None, run_opts={"device": device}
    )
    wav, start = noise(RATE), asr.initial_state(2)
    there(device, start, *asr.encoder.buffers(), asr.encoder.normalize.glob_std)
    wavs, lengths = wav.repeat(2, 1), torch.tensor([1.0, 0.5])
    there(device, asr.encode_batch(wavs, lengths))
    there(device, asr.encode_batch(wavs, lengths, start))
    asr.transcribe_batch(wavs.to(device), lengths.to(device), start)
    there(device, asr.transcribe_words(wavs, lengths)[1])
    memory = asr.adapt_to_speaker(wav)
    asr.save_state(memory, folder / "memory")
    memory = asr.load_state(folder / "memory")
    there(device, memory)
    first, second = asr.stream(memory), asr.stream(max_lag=1.0)
    asr.feed([first, second], [wav[:7000], wav[:10].to(device)])
    first.save(folder / "session")
    first = asr.stream(asr.load_state(folder / "session"))
    first.feed(wav[7000:])
    asr.feed([second, first], [wav[:0]] * 2, final=True)
    there(device, first.state, second.state)
    soundfile.write(folder / "long.wav", wav.numpy(), RATE)
    list(asr.transcribe_long(folder / "long.wav", memory))
    list(asr.transcribe_long(folder / "long.wav", memory.to("cpu")))
    asr.transcribe_file(folder / "long.wav", memory)
    asr.set_block(None)
    list(asr.transcribe_long(folder / "long.wav"))


class Voices(nn.Module):
    """In place of a trained encoder of voices."""

    def encode_batch(self, wavs, wav_lens):
        """The loudness of tenths [B, 1, 10]."""
        return wavs[:, :1000].view(len(wavs), 1, 10, 100).std(-1)


def check_speakers(device, folder):
    """A bank of voices, and who said what."""
    asr = LaCTASR.from_hparams(
        MODEL_IN_THE_BOX, savedir=None, run_opts={"device": device}
    )
    wav = noise(3 * RATE)
    soundfile.write(folder / "two.wav", wav.numpy(), RATE)
    turns = [
        SimpleNamespace(speaker=name, start=start, end=start + 1.2)
        for name, start in (("Ann", 0.0), ("Ben", 1.5))
    ]
    with SpeakerBank(folder / "bank", asr, Voices(), 0.5, -1) as bank:
        there(device, bank.enrol("Ann", wav))
        there(device, bank.enrol("Ann", wav))
        bank.recognise(wav.to(device))
        list(asr.transcribe_speakers(folder / "two.wav", bank, turns))
        there(device, bank.state("Ann"))


def check_command_line(device, folder):
    """transcribe, stream and evaluate with --device."""
    data = folder / "data"
    data.mkdir()
    for name in ("a", "b"):
        soundfile.write(data / f"{name}.wav", noise(RATE).numpy(), RATE)
    rows = [{"audio_filepath": f"{n}.wav", "text": "x"} for n in ("a", "b")]
    lines = "\n".join(json.dumps(row) for row in rows)
    (data / "all.jsonl").write_text(lines + "\n")
    called(device, "transcribe", data, "--out", folder / "out.jsonl")
    called(device, "transcribe", data / "a.wav")
    called(device, "evaluate", "--manifest", data / "all.jsonl")
    state = folder / "state"
    for _ in range(2):
        with open(data / "a.wav") as sound:
            called(device, "stream", "--state", state, stdin=sound)


def called(device, *args, stdin=None):
    """The command in this process, which knows the device."""
    with mock.patch.object(sys, "stdin", stdin or sys.stdin):
        try:
            main([*map(str, args), "--device", str(device)])
        except SystemExit as ended:
            assert not ended.code, f"{args[0]}: exit code {ended.code}"


def check_that_a_stray_is_found(device, folder):
    """A state that is made on the CPU by hand does not go through."""
    begin = Fbank.initial_state
    for field in ("frames", "counts"):

        def stray(self, batch, field=field):
            """As the true one, but for one tensor."""
            state = begin(self, batch)
            setattr(state, field, getattr(state, field).cpu())
            return state

        with mock.patch.object(Fbank, "initial_state", stray):
            for check in (check_features, check_recogniser):
                try:
                    check(device, folder)
                except (AssertionError, RuntimeError) as error:
                    assert "cpu" in str(error)
                else:
                    raise AssertionError(f"{field} on the CPU: not found")


CHECKS = {
    name[len("check_") :]: function
    for name, function in list(globals().items())
    if name.startswith("check_")
}


def run_all(device, folder):
    """What went wrong in each part, or None."""
    found = {}
    for name, check in CHECKS.items():
        place = Path(tempfile.mkdtemp(dir=folder))
        try:
            check(device, place)
            found[name] = None
        except Exception:  # all of them are wanted
            found[name] = traceback.format_exc()
    return found


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """Of all parts, run once."""
    device = request.config.option.device
    folder = tmp_path_factory.mktemp("devices")
    if device != "cpu":
        return run_all(device, folder)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path.strip(os.pathsep)},
    )
    file = folder / "results.json"
    assert file.exists(), done.stderr[-3000:]
    return json.loads(file.read_text())


@pytest.mark.parametrize("name", CHECKS)
def test_on_another_device(name, results):
    """No tensor is elsewhere, and nothing needs the test's help."""
    assert results[name] is None, results[name]


if __name__ == "__main__":
    from pretended_device import NAME, register

    libraries = register()
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run_all(NAME, sys.argv[1])
    Path(sys.argv[1], "results.json").write_text(json.dumps(outcome))
