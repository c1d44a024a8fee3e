"""The command `transcribe`: recordings to text.

Authors
* speechbrain_lact contributors 2026
"""

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Optional

import typer

from speechbrain_lact.cli.batches import recognise
from speechbrain_lact.cli.inputs import (
    is_pipe,
    keep,
    list_recordings,
    named,
    shown,
    standard_input,
)
from speechbrain_lact.cli.messages import complain, count
from speechbrain_lact.cli.model import choose_model, load_quietly
from speechbrain_lact.cli.options import (
    BatchSize,
    Block,
    Case,
    Device,
    Embedder,
    HotWords,
    HotWordWeight,
    LanguageModel,
    LanguageModelWeight,
    Model,
    Trust,
    UsageError,
    search_options,
)
from speechbrain_lact.cli.voices import load_voices, open_bank
from speechbrain_lact.inference.transcripts import Output, clock, printable
from speechbrain_lact.inference.words import doubtful, restyle
from speechbrain_lact.utils.console import (
    STDIN,
    Lines,
    check_new_file,
    check_new_folder,
    need_stdout,
    refuse_existing,
    refuse_same,
    say,
    whole,
)

# What `transcribe` writes.
KINDS = (".jsonl", ".txt", ".srt", ".vtt")


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
    model: Model = None,
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
    lm: LanguageModel = None,
    lm_weight: LanguageModelWeight = 0.5,
    hotwords: HotWords = None,
    hotword_weight: HotWordWeight = 10.0,
    case: Annotated[
        Case, typer.Option(help="Letters: as the model has them, or all alike.")
    ] = Case.keep,
    punctuation: Annotated[
        bool, typer.Option(help="Keep the punctuation of the model.")
    ] = True,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with --out: what is in it is kept and not done again; "
            "recordings that failed are tried again. Only with the model and "
            "the options that it was begun with.",
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
    given = {
        "--bank": bank,
        "--rttm": rttm,
        "--number-of-speakers": number_of_speakers,
        "--embedder": embedder,
    }
    for name, value in given.items():
        if value is not None and not speakers:
            raise UsageError(f"{name} is for --speakers")
    refuse_same(
        {"the recording": source, "--out": out, "--rttm": rttm, "--bank": bank}
    )
    if out is None:
        need_stdout()
    style = functools.partial(restyle, case=case.value, punctuation=punctuation)
    if speakers and resume:
        raise UsageError("--resume: not with --speakers")
    asked = {"--bank": bank is not None, "--block": block is not None}
    model = choose_model(model, *(name for name in asked if asked[name]))
    search = search_options(lm, lm_weight, hotwords, hotword_weight)
    if speakers:
        return _transcribe_speakers(
            source,
            (model, device, block, trust, search),
            out,
            bank,
            rttm,
            number_of_speakers,
            functools.partial(load_voices, embedder, trust=trust),
            style,
        )
    if resume and out is None:
        raise UsageError("--resume needs --out, the file to go on with")
    if out is not None and out.suffix.lower() not in KINDS:
        raise UsageError(f"--out {out}: {', '.join(KINDS)} can be written")
    recordings, settings = list_recordings(source), {}
    if out is not None:
        settings = settings_of(source, model, block)
        settings["case"] = None if case == Case.keep else case.value
        settings["punctuation"] = None if punctuation else "none"
        settings.update(_settings_of_search(search))
    output = Output(out, recordings, os.path.isdir(source), resume, settings)
    failed = 0
    with contextlib.ExitStack() as stack:
        todo = stack.enter_context(output).todo
        if todo and is_pipe(source):
            incoming = standard_input(source=source)
        if todo:
            asr = load_quietly(model, device, block, trust, search)
        if todo and is_pipe(source):
            todo[0].path = keep(incoming, stack, asr.sample_rate)
        for recording in recognise(asr, todo, batch_size) if todo else ():
            if recording.error:
                failed += 1
                complain(named(recording.error, recording.path, source))
            else:
                if doubtful(recording.words):
                    complain(
                        f"{shown(recording.name)}: hardly understood, so the "
                        "words are guesses: is it English?"
                    )
                recording.words = style(recording.words)
                output.write(recording)
    count(len(recordings), failed, "transcribed")


def settings_of(source, model, block):
    """What the words of a file depend on.

    Arguments
    ---------
    source : str
        As `transcribe` takes it.
    model : Path
        Folder of the model.
    block : int, optional
        Frames that are seen at once.

    Returns
    -------
    dict
    """
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


def _settings_of_search(search):
    """What of a search the words of a file depend on."""
    names = "lm", "lm_weight", "hotwords", "hotword_weight"
    settings = {name: search.get(name) for name in names}
    for name in ("lm", "hotwords"):
        value = search.get(name)
        if value is not None:
            try:
                value = hashlib.sha256(value.read_bytes()).hexdigest()[:16]
            except FileNotFoundError as error:
                raise ValueError(f"{value}: no such file") from error
            settings[name] = value
    return settings


def _transcribe_speakers(source, model, out, bank, rttm, number, find, style):
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
    name = shown(source)
    with contextlib.ExitStack() as stack:
        path, tell = source, say
        if out is not None:
            tell = stack.enter_context(Lines(out)).write
        incoming = standard_input(source=source) if is_pipe(source) else None
        asr = load_quietly(*model)
        if incoming:
            path = keep(incoming, stack, asr.sample_rate)
        from speechbrain_lact.inference.diarization import Diarizer
        from speechbrain_lact.processing.diarization.rttm import write_rttm

        voices = find(asr)
        if bank is not None:
            bank = stack.enter_context(open_bank(bank, asr, voices))
        try:
            segments = Diarizer(voices, bank).diarize(path, number)
            if rttm is not None:
                with whole(rttm) as part:
                    write_rttm(segments, part, Path(name).stem)
            options = {} if bank is None else {"bank": bank}
            for turn in asr.transcribe_speakers(
                path, segments=segments, **options
            ):
                turn.words = style(turn.words)
                tell(_turn(turn, name, kind))
        except ValueError as error:
            raise ValueError(named(error, path, source)) from error


def _turn(turn, source, kind):
    """A turn as a line."""
    if kind == ".jsonl":
        row = {"file": source, **vars(turn), "text": turn.text}
        row["words"] = [word.row() for word in turn.words]
        return json.dumps(row, ensure_ascii=False)
    times = f"{clock(turn.start)} - {clock(turn.end)}"
    return f"[{times}] {printable(turn.speaker)}: {turn.text}"
