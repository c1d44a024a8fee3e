"""The command line: transcribe files, listen to a stream, score a model.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import functools
import hashlib
import io
import json
import logging
import math
import os
import sys
import tempfile
import textwrap
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from speechbrain_lact.inference.transcripts import (
    Output,
    Recording,
    clock,
    printable,
)
from speechbrain_lact.utils.console import (
    STDIN,
    STDOUT,
    Lines,
    Stderr,
    check_new_file,
    check_new_folder,
    describe,
    end_output,
    hold_folder,
    need_stdout,
    refuse_existing,
    refuse_same,
    say,
    signals,
    standard_streams,
    whole,
)

# torch and SpeechBrain take seconds to import: only where they are needed.

MODEL = Path(__file__).parent / "inference" / "model"
MODEL_FILES = ("hyperparams.yaml", "model.safetensors", "tokenizer.model")
# What every exported model's YAML has.
ENCODERS = (
    "speechbrain_lact.lobes.models.pipeline.Encoder",
    "speechbrain_lact.inference.export.Encoder",  # before that
)

# Longer recordings are not put in batches [s].
SHORT = 60.0
# Files whose lengths are compared at a time, in batches.
WINDOW = 16
# Files of a folder that are named if they are no recordings.
SHOWN = 5
# What `evaluate` reads beside folders.
MANIFESTS = (".jsonl", ".json", ".tsv", ".csv")
# What `transcribe` writes.
KINDS = (".jsonl", ".txt", ".srt", ".vtt")
# What `evaluate` writes: numbers and alignments.
RESULTS = ("results.json", "wer.txt")

# Exit codes of a shell: 128 and the number of the signal. SIGPIPE: who reads
# standard output has gone away.
INTERRUPTED, UNREAD = 128 + 2, 128 + 13

# Since 0.29 typer brings a click of its own: the error of both.
UsageError = typer.BadParameter.__base__

app = typer.Typer(
    help="Speech recognition with LaCT models.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    Path,
    typer.Option(
        help="Folder that recipes/LibriSpeech/train.py has written.",
        show_default="the one that comes with the package",
    ),
]
Device = Annotated[
    Optional[str],
    typer.Option(help="cpu, cuda, cuda:1.", show_default="cuda if there is"),
]
Block = Annotated[
    Optional[int],
    typer.Option(
        min=0,
        help="Encoder frames that are seen at once: more of them give fewer "
        "errors, later. 0: a recording is seen whole.",
        show_default="the model's",
    ),
]
Embedder = Annotated[
    Optional[str],
    typer.Option(
        help="What tells voices apart: a folder, or a name on the Hugging "
        "Face hub (which is then fetched), such as "
        "speechbrain/spkrec-ecapa-voxceleb.",
        show_default="the one that comes with the package",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run whatever code the YAMLs of the model and of the embedder "
        "name: for folders of people you trust alone. Those that this package "
        "writes do not need it.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(min=1, help="Recordings of up to 60 s done at a time."),
]


@app.command()
def transcribe(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|-",
            help="A recording, a folder of recordings (at any depth), or - "
            "for one on standard input: WAV, or raw 16-bit PCM, one channel, "
            "at the model's rate.",
        ),
    ],
    model: Model = MODEL,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="File to write: .jsonl (text, words and their times), .txt, "
            "or subtitles of one recording, .srt or .vtt. One that exists is "
            "never overwritten. Of a folder, recordings of similar length "
            "are done together: lines come in that order.",
            show_default="standard output",
        ),
    ] = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    block: Block = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with --out: what is in it is kept and not done again; "
            "recordings that failed are tried again. Only with the model and "
            "--block that it was begun with.",
        ),
    ] = False,
    speakers: Annotated[
        bool,
        typer.Option(
            "--speakers",
            help="Tell who says what: a line a turn, with its times and the "
            "speaker. For one recording; --out is .txt or .jsonl.",
        ),
    ] = False,
    bank: Annotated[
        Optional[Path],
        typer.Option(
            help="With --speakers: folder of voices. Those it knows are "
            "called by name, and what is learned of every voice is kept there "
            "for the next time. See the command `voices`.",
        ),
    ] = None,
    rttm: Annotated[
        Optional[Path],
        typer.Option(help="With --speakers: RTTM file to write."),
    ] = None,
    number_of_speakers: Annotated[
        Optional[int],
        typer.Option(min=1, help="With --speakers: how many, if known."),
    ] = None,
    embedder: Embedder = None,
    trust: Trust = False,
):
    """Writes down recordings.

    Without --out a file's text is printed alone, those of a folder as lines of
    path, tab and text. Recordings that cannot be read are named, the others
    are done; the exit code is then 1.
    """
    told = {
        "--bank": bank,
        "--rttm": rttm,
        "--number-of-speakers": number_of_speakers,
        "--embedder": embedder,
    }
    for name, value in told.items():
        if value is not None and not speakers:
            raise UsageError(f"{name} is for --speakers")
    refuse_same(
        {"the recording": source, "--out": out, "--rttm": rttm, "--bank": bank}
    )
    if out is None:
        need_stdout()
    if speakers:
        if resume:
            raise UsageError("--resume: not with --speakers")
        return _transcribe_speakers(
            source,
            (model, device, block, trust),
            out,
            bank,
            rttm,
            number_of_speakers,
            functools.partial(load_voices, embedder, trust=trust),
        )
    if resume and out is None:
        raise UsageError("--resume needs --out, the file to go on with")
    if out is not None and out.suffix.lower() not in KINDS:
        raise UsageError(f"--out {out}: {', '.join(KINDS)} can be written")
    recordings, settings = list_recordings(source), {}
    if out is not None:
        settings = _settings(source, model, block)
    output = Output(out, recordings, os.path.isdir(source), resume, settings)
    failed = 0
    with contextlib.ExitStack() as stack:
        todo = stack.enter_context(output).todo
        if todo and is_pipe(source):
            incoming = standard_input(source=source)
        if todo:
            asr = _load(model, device, block, trust)
        if todo and is_pipe(source):
            todo[0].path = _keep(incoming, stack, asr.sample_rate)
        for recording in recognise(asr, todo, batch_size) if todo else ():
            if recording.error:
                failed += 1
                complain(_named(recording.error, recording.path, source))
            else:
                output.write(recording)
    _count(len(recordings), failed, "transcribed")


def _settings(source, model, block):
    """What the words of a file depend on."""
    digest = hashlib.sha256()
    for path in sorted(model.glob("*")):
        if path.suffix != ".md" and path.is_file():
            digest.update(path.name.encode("utf-8", "surrogateescape"))
            with open(path, "rb") as file:
                while data := file.read(1 << 20):
                    digest.update(data)
    kind = "a folder" if os.path.isdir(source) else "a recording"
    return {
        "source": STDIN if source == "-" else kind,
        "model": digest.hexdigest()[:16],
        "block": block,
    }


def _keep(incoming, stack, sample_rate):
    """Standard input as a file, for as long as it is needed."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    try:
        return incoming.save(folder, sample_rate)
    # Of libsndfile: the disk is full.
    except RuntimeError as error:
        raise OSError(
            f"{STDIN}: cannot be kept in {Path(folder).parent}: {error}"
        ) from error


def _shown(source):
    """What a recording is called in messages and results."""
    return STDIN if source == "-" else source


def _named(error, path, source):
    """A message that names a pipe, not what it is kept in."""
    return (
        str(error).replace(path, _shown(source)) if is_pipe(source) else error
    )


def _transcribe_speakers(source, model, out, bank, rttm, number, find):
    """A line for each turn of one recording."""
    if os.path.isdir(source):
        raise UsageError("--speakers is for one recording, not a folder")
    list_recordings(source)
    kind = ".txt" if out is None else out.suffix.lower()
    if kind not in (".txt", ".jsonl"):
        raise UsageError(f"--out {out}: .txt or .jsonl with --speakers")
    for path in filter(None, (out, rttm)):
        check_new_file(path)
        refuse_existing(path)
    if bank is not None:
        check_new_folder(bank)
    name = _shown(source)
    with contextlib.ExitStack() as stack:
        path, tell = source, say
        if out is not None:
            tell = stack.enter_context(Lines(out)).write
        incoming = standard_input(source=source) if is_pipe(source) else None
        asr = _load(*model)
        if incoming:
            path = _keep(incoming, stack, asr.sample_rate)
        from speechbrain_lact.processing.diarization import Diarizer, write_rttm

        voices = find(asr)
        if bank is not None:
            bank = stack.enter_context(open_bank(bank, asr, voices))
        try:
            segments = Diarizer(voices, bank).diarize(path, number)
            if rttm is not None:
                with whole(rttm) as part:
                    write_rttm(segments, part, Path(name).stem)
            for turn in asr.transcribe_speakers(path, bank, segments):
                tell(_turn(turn, name, kind))
        except ValueError as error:
            raise ValueError(_named(error, path, source)) from error


def _turn(turn, source, kind):
    """A turn as a line."""
    if kind == ".jsonl":
        row = {"file": source, **asdict(turn), "text": turn.text}
        return json.dumps(row, ensure_ascii=False)
    times = f"{clock(turn.start)} - {clock(turn.end)}"
    return f"[{times}] {printable(turn.speaker)}: {turn.text}"


@app.command()
def voices(
    bank: Annotated[
        Path,
        typer.Argument(
            metavar="BANK", help="Folder of voices; made if need be."
        ),
    ],
    enrol: Annotated[
        Optional[tuple[str, str]],
        typer.Option(
            metavar="NAME FILE",
            help="Learn a voice from a recording in which nobody else speaks.",
        ),
    ] = None,
    rename: Annotated[
        Optional[tuple[str, str]],
        typer.Option(metavar="OLD NEW", help="Call a voice by another name."),
    ] = None,
    forget: Annotated[
        Optional[str],
        typer.Option(metavar="NAME", help="Remove a voice and all about it."),
    ] = None,
    model: Model = MODEL,
    embedder: Embedder = None,
    device: Device = None,
    block: Block = None,
    trust: Trust = False,
):
    """Keeps the voices that `transcribe --speakers --bank` knows.

    Prints their names, a line each, the one heard longest ago first. A bank
    belongs to the model and the embedder that it was made with.
    """
    check_new_folder(bank)
    asr = _load(model, device, block, trust)
    with open_bank(bank, asr, load_voices(embedder, asr, trust)) as found:
        if enrol:
            found.enrol(*enrol)
        if rename:
            found.rename(*rename)
        if forget:
            found.forget(forget)
        for name in found.names():
            say(printable(name))


def load_voices(embedder, asr, trust=False):
    """What tells voices apart.

    Arguments
    ---------
    embedder : str, optional
        A folder or a name on the hub.
    asr : LaCTASR
        The model, whose device it is put on.
    trust : bool
        Whether whatever its YAML names may run.

    Returns
    -------
    EncoderClassifier
    """
    from speechbrain_lact.processing.speaker_states import (
        DEFAULT_EMBEDDER,
        load_embedder,
    )

    return load_embedder(
        embedder or DEFAULT_EMBEDDER,
        trust,
        run_opts={"device": str(asr.device)},
    )


def open_bank(folder, asr, embedder):
    """A bank of voices.

    Arguments
    ---------
    folder : Path
    asr : LaCTASR
    embedder : EncoderClassifier

    Returns
    -------
    SpeakerBank
    """
    from speechbrain_lact.processing.speaker_states import SpeakerBank

    return SpeakerBank(folder, asr, embedder)


@app.command()
def stream(
    model: Model = MODEL,
    piece: Annotated[
        float,
        typer.Option(help="Seconds that the model hears at a time, at least."),
    ] = 0.1,
    rate: Annotated[
        Optional[int],
        typer.Option(
            min=1000,
            max=768000,
            help="Samples a second of raw audio.",
            show_default="the model's",
        ),
    ] = None,
    max_lag: Annotated[
        Optional[float],
        typer.Option(
            help="Seconds behind real time at which the memory is only read, "
            "until the model has caught up.",
        ),
    ] = None,
    state: Annotated[
        Optional[Path],
        typer.Option(
            help="File of the session: goes on from it if it is there, and "
            "leaves it there when the input ends. The last word may not be "
            "whole then: the run that goes on prints it.",
        ),
    ] = None,
    device: Device = None,
    block: Block = None,
    trust: Trust = False,
):
    """Writes down what comes in on standard input, while it comes.

    Takes WAV (any rate and channels) or raw 16-bit PCM (one channel, little
    endian). Each word is printed as soon as it is complete.
    """
    if not 0 < piece < math.inf:
        raise UsageError(f"--piece {piece}: a number of seconds above 0")
    if max_lag is not None and not 0 <= max_lag < math.inf:
        raise UsageError(f"--max-lag {max_lag}: a number of seconds, 0 or more")
    if state is None:
        need_stdout()
    else:
        check_new_file(state)
    asr = before = None
    # A state that cannot be used is refused before anybody speaks.
    if state is not None and state.exists():
        asr = _load(model, device, block, trust)
        before = _one_session(asr.load_state(state), state)
    incoming = standard_input(rate)
    asr = asr or _load(model, device, block, trust)
    session, space = asr.stream(before, max_lag), ""

    def tell(words):
        """Prints words at once."""
        nonlocal space
        for word in words:
            say(space + word.text, "")
            space = " "

    try:
        # The one who speaks may end it by Ctrl-C, a service by SIGTERM.
        with contextlib.suppress(KeyboardInterrupt):
            for samples in incoming.pieces(piece, asr.sample_rate):
                # What was heard is in the state, and was printed.
                with signals.hold():
                    tell(session.feed(samples).words)
    finally:
        kept = False
        try:
            if state is not None:
                _save(session, state)
                kept = True
        finally:
            # The last word is in the state, or is printed.
            tell([] if kept else session.finish().words)
            say("")


def _one_session(state, path):
    """A state that a stream can go on from."""
    rows = len(state.last)
    if rows != 1:
        raise ValueError(
            f"{path}: a state of {rows} sessions: a stream goes on from one"
        )
    return state


def _save(session, path):
    """Keeps a session; an error names the file."""
    try:
        session.save(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@app.command()
def evaluate(
    manifest: Annotated[
        Path,
        typer.Option(
            help="Recordings and their words: a folder laid out as LibriSpeech "
            "is, a manifest .jsonl (audio_filepath, text, offset, duration), "
            "Common Voice's .tsv (path, sentence; recordings in the folder "
            "clips beside it), or SpeechBrain's .csv (ID, wav, wrd, start, "
            "stop; $data_root is the CSV's folder).",
        ),
    ],
    model: Model = MODEL,
    out: Annotated[
        Optional[Path],
        typer.Option(
            help="Folder for results.json and wer.txt (alignments). Results "
            "that are there are never overwritten."
        ),
    ] = None,
    batch_size: BatchSize = 8,
    device: Device = None,
    block: Block = None,
    trust: Trust = False,
):
    """Scores a model: word and character errors, speed.

    Both texts are put in upper case and Unicode NFC and split at white space.
    Lines and recordings that cannot be read are named and left out; the exit
    code is then 1.
    """
    recordings, skipped = read_data(manifest)
    if not any(recording.text for recording in recordings):
        raise ValueError(f"{manifest}: no words to compare with")
    if out is None:
        need_stdout()
    else:
        refuse_same({"--manifest": manifest, "--model": model, "--out": out})
        check_new_folder(out)
        _refuse_results(out)
    asr = _load(model, device, block, trust)
    with contextlib.ExitStack() as stack:
        if out is not None:
            stack.enter_context(hold_folder(out))
            _refuse_results(out)
        bad = {place: f"{kind}: {why}" for kind, place, why in skipped.added}
        wer, results = _score(asr, recordings, batch_size, bad)
        if not results["utterances"]:
            raise ValueError(f"{manifest}: no recording with words can be read")
        try:
            if out is not None:
                _write_results(out, wer, results)
        finally:
            for name, value in results.items():
                say(f"{name:16} {len(value) if name == 'bad_files' else value}")
    total = len(recordings) + len(skipped.added)
    _count(total, len(results["bad_files"]), "scored")


def _score(asr, recordings, batch_size, bad):
    """Errors word by word, and what there is to say of them; `bad` takes in
    what cannot be scored."""
    from speechbrain.utils.metric_stats import ErrorRateStats
    from speechbrain_lact.dataio.manifests import normalise_text

    wer, cer = ErrorRateStats(), ErrorRateStats(split_tokens=True)
    seconds, began = 0.0, time.perf_counter()
    for recording in recognise(asr, recordings, batch_size):
        if recording.error:
            bad[recording.name] = recording.error
            complain(recording.error)
            continue
        seconds += recording.seconds
        for metric in (wer, cer):
            metric.append(
                [recording.name],
                [normalise_text(recording.heard).split()],
                [recording.text.split()],
            )
    took = time.perf_counter() - began
    if not any(score["num_ref_tokens"] for score in wer.scores):
        return wer, {"utterances": 0}
    return wer, {
        "WER": round(wer.summarize("error_rate"), 2),
        "CER": round(cer.summarize("error_rate"), 2),
        "utterances": len(wer.scores),
        "seconds": round(seconds, 3),
        "real_time_factor": round(took / seconds, 4),
        "bad_files": bad,
    }


def _refuse_results(folder):
    """Raises if there are results already."""
    for name in RESULTS:
        refuse_existing(folder / name, "name another folder")


def _write_results(folder, wer, results):
    """Both files, each whole; the numbers last."""
    alignments = io.StringIO()
    wer.write_stats(alignments)
    texts = json.dumps(results, indent=1) + "\n", alignments.getvalue()
    for name, text in reversed(list(zip(RESULTS, texts))):
        data = text.encode("utf-8", "backslashreplace")
        with whole(folder / name) as part:
            Path(part).write_bytes(data)


def _load(*options):
    """As `load_model`. What libraries in C print is hidden from then on: if
    they end the process while they are imported, that is all one learns."""
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
            f"--device {device}: {_brief(error)}: take cpu, or cuda where "
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
            f"{folder}: the model cannot be loaded: {_brief(error)}: copy it "
            "again, or name another one with --model"
        ) from error
    return asr


def is_pipe(source):
    """Whether a recording can be read once only, as it comes.

    Arguments
    ---------
    source : str
        As `transcribe` takes it.

    Returns
    -------
    bool
        True for - and for the paths of pipes, such as those of bash's <(...).
    """
    return source == "-" or Path(source).is_fifo()


def standard_input(rate=None, source="-"):
    """Audio that is piped in.

    Arguments
    ---------
    rate : int, optional
        Of raw audio in Hz; that of the model if it is not given.
    source : str
        -, or the path of a pipe.

    Returns
    -------
    Incoming
        When the first bytes are there.
    """
    from speechbrain_lact.dataio.pipe import Incoming

    if source != "-":
        return Incoming(os.open(source, os.O_RDONLY), rate, source)
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe audio into it")
    return Incoming(sys.stdin.fileno(), rate)


def list_recordings(source):
    """What `transcribe` has to do. What is left out of a folder is said.

    Arguments
    ---------
    source : str
        A file, a folder, or - for standard input.

    Returns
    -------
    list of Recording
    """
    if is_pipe(source):
        return [Recording(source, source)]
    if not os.path.lexists(source):
        raise ValueError(f"{source}: no such file or folder")
    if not os.path.isdir(source):
        return [Recording(source, source)]
    from speechbrain_lact.dataio.manifests import (
        AUDIO_ENDINGS,
        TEXT_ENDINGS,
        walk,
    )

    paths, left = [], []
    for folder, names in walk(source):
        for name in names:
            path, kind = os.path.join(folder, name), Path(name).suffix.lower()
            if kind in AUDIO_ENDINGS or _is_audio(path):
                paths.append(path)
            elif kind not in TEXT_ENDINGS:
                left.append(os.path.relpath(path, source))
    if left:
        names = ", ".join(left[:SHOWN]) + ", ..." * (len(left) > SHOWN)
        complain(f"{source}: left out, no recordings: {len(left)} ({names})")
    if not paths:
        raise ValueError(f"{source}: no recordings in this folder")
    return [Recording(path, path) for path in sorted(paths)]


def _is_audio(path):
    """Whether a file of another ending holds audio."""
    from speechbrain_lact.dataio.decode import open_audio

    try:
        open_audio(path)
    except ValueError:
        return False
    return True


def recognise(asr, recordings, batch_size):
    """Transcribes recordings: short ones of similar length together.

    Arguments
    ---------
    asr : LaCTASR
        The model.
    recordings : list of Recording
        What to transcribe.
    batch_size : int
        Short ones done at a time.

    Yields
    ------
    Recording
        Each once, as soon as it is done, with words and seconds or an error.
    """
    from tqdm import tqdm

    alone = len(recordings) == 1
    bar = tqdm(total=len(recordings), unit="file", disable=alone or None)
    with bar:
        for window in _groups(recordings, WINDOW * batch_size):
            for recording in _recognise(asr, window, batch_size):
                yield recording
                bar.update()


def _recognise(asr, recordings, batch_size):
    """The same for so many that their headers are read at once."""
    from speechbrain_lact.dataio.audio import AudioFile

    short, long = [], []
    for recording in recordings:
        try:
            audio = AudioFile(
                recording.path,
                asr.sample_rate,
                *recording.span,
                name=_shown(recording.name),
            )
        except ValueError as error:
            recording.error = str(error)
            yield recording
            continue
        recording.seconds = audio.seconds
        (short if audio.seconds <= SHORT else long).append((recording, audio))
    short.sort(key=lambda pair: pair[1].seconds)
    for batch in _groups(short, batch_size):
        yield from _recognise_batch(asr, batch)
    for recording, audio in long:
        progress = sys.stderr.isatty()
        try:
            recording.words = list(
                asr.transcribe_long(audio, progress=progress)
            )
        except ValueError as error:
            recording.error = str(error)
        yield recording


def _recognise_batch(asr, batch):
    """One step of the model."""
    from speechbrain_lact.dataio.audio import pad_waves

    wavs, good = [], []
    for recording, audio in batch:
        try:
            wavs.append(audio.read())
        except ValueError as error:
            recording.error = str(error)
            yield recording
        else:
            good.append(recording)
    if good:
        words, _ = asr.transcribe_words(*pad_waves(wavs))
        for recording, recording.words in zip(good, words):
            yield recording


def _groups(items, size):
    """A list in pieces."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def read_data(path, report=None):
    """Recordings and their words.

    Arguments
    ---------
    path : Path
        As `evaluate` takes it.
    report : callable, optional
        Takes a line about each recording that is left out; `complain` if
        there is none.

    Returns
    -------
    recordings : list of Recording
        With normalised text.
    skipped : Skipped
        What was left out.
    """
    from speechbrain_lact.dataio.manifests import Skipped, read_manifest

    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir() and path.suffix.lower() not in MANIFESTS:
        raise ValueError(f"{path}: neither a folder nor .jsonl, .tsv or .csv")
    skipped, lines = Skipped(lambda line: lines.append(line)), []
    found = read_manifest(path, skipped, wordless=True)
    if not found:
        first = f": {len(lines)} left out: {lines[0]}" if lines else ""
        raise ValueError(f"{path}: no recordings with words in it{first}")
    for line in lines:
        (report or complain)(line)
    rows, names = [], set()
    for one in found:
        name = one.label
        # Several parts of a file, or an ID that is there twice.
        if name in names:
            name = f"{name} ({one.where.rpartition(':')[2]})"
        names.add(name)
        span = one.start, one.stop, one.unit
        rows.append(Recording(name, one.wav, one.wrd, span=span))
    return rows, skipped


def complain(message):
    """Prints an error in one line, above a progress bar if there is one.

    Arguments
    ---------
    message : str or Exception
        What is wrong.
    """
    from tqdm import tqdm

    line = printable(describe(message))
    tqdm.write(f"speechbrain-lact: {line}", file=sys.stderr)


def _brief(error):
    """The beginning of a message that may list every parameter."""
    return textwrap.shorten(str(error), 200, placeholder=" ...")


def _count(total, failed, what):
    """Says how many recordings failed, and ends the command."""
    if failed and total > 1:
        complain(f"{total - failed} of {total} {what}, {failed} failed")
    if failed:
        raise typer.Exit(1)


@contextlib.contextmanager
def _quiet():
    """Nothing but this package's own warnings on standard error."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # Libraries in C write to file descriptor 2: see `_load`.
    native, stderr = os.dup(2), sys.stderr
    sys.stderr = Stderr(native, getattr(stderr, "encoding", None))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("speechbrain-lact: %(message)s"))
    handler.setLevel(logging.WARNING)
    handler.addFilter(logging.Filter("speechbrain_lact"))
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger().removeHandler(handler)
        os.dup2(native, 2)
        sys.stderr.close()
        sys.stderr = stderr


def _run(args):
    """Does what the command line asks for; the exit code."""
    try:
        os.getcwd()
    except OSError:
        complain("the current folder has been deleted: go to another one")
        return 1
    try:
        command = typer.main.get_command(app)
        with command.make_context("speechbrain-lact", args) as context:
            command.invoke(context)
            return 0
    except typer.Exit as stop:
        return stop.exit_code
    except UsageError as error:
        complain(f"{error.format_message()} (see --help)")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return UNREAD
    except Exception as error:
        # Libraries may make another error of a signal.
        if signals.received is None:
            _report(error)
        return 1


def _report(error):
    """Says what went wrong, and where if that was not foreseen."""
    ordinary = isinstance(
        error, (OSError, ValueError, ImportError, MemoryError)
    )
    # torch has no class of its own for a CPU without memory.
    if ordinary or "memory" in str(error):
        return complain(error if str(error) else type(error).__name__)
    complain(f"please report this: {type(error).__name__}: {error}")
    traceback.print_exception(type(error), error, error.__traceback__)


def main(args=None):
    """The command `speechbrain-lact`.

    Arguments
    ---------
    args : list of str, optional
        In place of those of the process.
    """
    args = list(args or sys.argv[1:] or ["--help"])
    with standard_streams(), signals, _quiet():
        code = _run(args)
        error = end_output()
        if error is not None and code == 0:
            code = UNREAD if isinstance(error, BrokenPipeError) else 1
            if code != UNREAD:
                complain(f"{STDOUT}: {error.strerror}")
    sys.exit(signals.exit_code(code))


if __name__ == "__main__":
    main()
