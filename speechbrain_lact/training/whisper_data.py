"""Training data of the streaming Whisper: segments of whole utterances, with
what Whisper's own encoder makes of them and with their words.

Authors
* speechbrain_lact contributors 2026
"""

import difflib
import itertools
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchaudio.functional import resample

import speechbrain as sb
from speechbrain.utils.logger import get_logger
from speechbrain_lact.corpora.csv_files import progress
from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.utils.console import whole

logger = get_logger(__name__)

RATE, FRAME = 16000, 320  # samples a second, samples of an encoder frame
BATCH = 8  # segments that Whisper decodes at once


def make_segments(rows, seconds, seed):
    """Joins consecutive utterances of a session to segments.

    Arguments
    ---------
    rows : dict
        Rows of a CSV.
    seconds : tuple
        Shortest and longest segment: how long each is to be is drawn. An
        utterance is never cut.
    seed : int
        Seed of the draws.

    Returns
    -------
    list of dict
        `id`, `session`, `seconds`, and the `rows` of each.
    """
    segments = []
    order = sorted(
        rows, key=lambda i: (rows[i]["session"], int(rows[i]["position"]))
    )
    for session, keys in itertools.groupby(
        order, key=lambda i: rows[i]["session"]
    ):
        # The same whatever other data there is.
        draw, room = random.Random(f"{seed} {session}"), 0.0
        for key in keys:
            length = float(rows[key]["duration"])
            if length > room:
                room = draw.uniform(*seconds)
                segments.append(
                    {"id": key, "session": session, "seconds": 0.0, "rows": []}
                )
            segments[-1]["rows"].append({**rows[key], "id": key})
            segments[-1]["seconds"] += length
            room -= length
    return segments


def at_speed(segments, speed):
    """The same segments, spoken faster or slower: at another pitch, as by
    another voice.

    Arguments
    ---------
    segments : list of dict
        As `make_segments` gives them.
    speed : float

    Returns
    -------
    list of dict
    """
    return [
        {**s, "speed": speed, "seconds": s["seconds"] / speed} for s in segments
    ]


def join_segments(segments, seconds):
    """Consecutive segments of a session, up to a length: the rows of a batch.

    Arguments
    ---------
    segments : list of dict
        As `make_segments` gives them.
    seconds : float
        Longest row, unless a segment alone is longer.

    Returns
    -------
    list of list of dict
    """
    rows = []
    for segment in segments:
        last = rows[-1] if rows else None
        if (
            last is None
            or last[0]["session"] != segment["session"]
            or sum(s["seconds"] for s in last) + segment["seconds"] > seconds
        ):
            rows.append([])
        rows[-1].append(segment)
    return rows


def read_segment(segment):
    """Samples of a segment, silence up to a whole number of frames.

    Arguments
    ---------
    segment : dict
        As `make_segments` gives them.

    Returns
    -------
    torch.Tensor or None
        [S]; None if a file could not be read.
    """
    parts = [
        read_audio(row["wav"], RATE, row.get("start"), row.get("stop"))
        for row in segment["rows"]
    ]
    if any(part is None for part in parts):
        return None
    wav, speed = torch.cat(parts), segment.get("speed", 1.0)
    if speed != 1.0:
        wav = resample(wav, round(RATE * speed), RATE)
    return F.pad(wav, (0, -len(wav) % FRAME))


def sentence(words):
    """Words as a sentence is written, as far as they tell.

    Arguments
    ---------
    words : str

    Returns
    -------
    str

    Example
    -------
    >>> sentence("WHAT I MEAN")
    'What I mean.'
    """
    plain = ["I" if word == "i" else word for word in words.lower().split()]
    text = " ".join(plain)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def correct(text, words):
    """What Whisper wrote, with the words that were really said: its casing and
    punctuation where it is right.

    Arguments
    ---------
    text : str
        What Whisper wrote.
    words : str
        What was said; nothing, if that is not known.

    Returns
    -------
    str

    Example
    -------
    >>> correct(
    ...     "Hello, Mr. Smith. What's now?", "HELLO MISTER SMITH WHAT'S NEW"
    ... )
    "Hello, mister Smith. What's new"
    """
    said, written = words.lower().split(), text.split()
    if not said:
        return text.strip()
    plain = [
        "".join(c for c in word.lower() if c.isalnum() or c == "'")
        for word in written
    ]
    matcher = difflib.SequenceMatcher(None, plain, said, autojunk=False)
    out = []
    for kind, first, last, begin, end in matcher.get_opcodes():
        if kind == "equal":
            out += written[first:last]
        else:
            for word in said[begin:end]:
                new = not out or out[-1][-1] in ".?!"
                out.append(word.capitalize() if new or word == "i" else word)
    return " ".join(out)


class Teacher:
    """What Whisper makes of segments, kept in a folder.

    Arguments
    ---------
    folder : str or Path
        Where it is kept: 140 MB an hour. What is there is taken as it is.
    host : speechbrain.integrations.huggingface.whisper.Whisper
    searcher : callable, optional
        SpeechBrain's, for casing and punctuation; without, those of simple
        sentences.
    """

    def __init__(self, folder, host, searcher=None):
        self.folder, self.host, self.searcher = Path(folder), host, searcher

    def path(self, segment):
        """File of a segment."""
        name = f"{segment['id']}-{len(segment['rows'])}".replace("/", "_")
        if segment.get("speed", 1.0) != 1.0:
            name = f"{name}-{segment['speed']}"
        return self.folder / f"{name}.safetensors"

    def prepare(self, segments):
        """Makes what is missing.

        Arguments
        ---------
        segments : list of dict

        Returns
        -------
        list of dict
            Those that could be read.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        missing = [s for s in segments if not self.path(s).is_file()]
        # Of one length together, for the decoder.
        missing.sort(key=lambda segment: segment["seconds"])
        batches = [
            missing[i : i + BATCH] for i in range(0, len(missing), BATCH)
        ]
        for batch in progress(batches, "Whisper's outputs", f"x {BATCH}"):
            self._make(batch)
        good = [s for s in segments if self.path(s).is_file()]
        if len(good) < len(segments):
            logger.warning(
                "%d of %d segments could not be read",
                len(segments) - len(good),
                len(segments),
            )
        return good

    @torch.no_grad()
    def _make(self, segments):
        pairs = [(segment, read_segment(segment)) for segment in segments]
        pairs = [(segment, wav) for segment, wav in pairs if wav is not None]
        if not pairs:
            return
        device = next(self.host.parameters()).device
        # The floor of a spectrogram is that of its batch: one by one.
        mel = [self.host._get_mel(wav[None].to(device)) for _, wav in pairs]
        out = self.host.forward_encoder(torch.cat(mel))
        texts = self._texts([segment for segment, _ in pairs], out)
        for (segment, wav), frames, text in zip(pairs, out, texts):
            kept = {
                "frames": frames[: len(wav) // FRAME].half().cpu().contiguous(),
                "text": torch.tensor(list(text.encode()), dtype=torch.uint8),
            }
            with whole(self.path(segment)) as part:
                save_file(kept, part)

    def _texts(self, segments, frames):
        """The words of segments."""
        known = [self.path({**segment, "speed": 1.0}) for segment in segments]
        if all(path.is_file() for path in known):
            # They are the same at any speed.
            return [self._read(path)[1] for path in known]
        if self.searcher is None:
            return [
                " ".join(sentence(row["wrd"]) for row in segment["rows"])
                for segment in segments
            ]
        lengths = torch.ones(len(segments), device=frames.device)
        written, *_ = self.searcher(frames, lengths)
        decode = self.host.tokenizer.decode
        return [
            correct(
                decode(tokens, skip_special_tokens=True),
                " ".join(row["wrd"] for row in segment["rows"]),
            )
            for segment, tokens in zip(segments, written)
        ]

    def read(self, segment):
        """What was kept.

        Arguments
        ---------
        segment : dict

        Returns
        -------
        frames : torch.Tensor
            Output of Whisper's encoder [T, d_model].
        text : str
            The words.
        """
        return self._read(self.path(segment))

    @staticmethod
    def _read(path):
        """The same of a file."""
        kept = load_file(path)
        text = bytes(kept["text"].tolist()).decode()
        return kept["frames"].float(), text


class Rows(torch.utils.data.Dataset):
    """Rows of consecutive segments.

    Arguments
    ---------
    rows : list of list of dict
        As `join_segments` gives them.
    teacher : Teacher
    """

    def __init__(self, rows, teacher):
        self.rows, self.teacher = rows, teacher

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        """`wav` [S], `lengths` of its segments in frames, Whisper's `frames`
        [T, d_model] and the `texts`."""
        wavs = [read_segment(segment) for segment in self.rows[number]]
        kept = [self.teacher.read(segment) for segment in self.rows[number]]
        return {
            "wav": torch.cat(wavs),
            "lengths": [len(wav) // FRAME for wav in wavs],
            "frames": torch.cat([frames for frames, _ in kept]),
            "texts": [text for _, text in kept],
        }


def read_rows(csv, teacher, seconds, row_seconds, seed, speeds=(1.0,)):
    """The data of a CSV.

    Arguments
    ---------
    csv : str
        As `prepare_librispeech` writes it.
    teacher : Teacher
    seconds : tuple
        As in `make_segments`.
    row_seconds : float
        As in `join_segments`.
    seed : int
    speeds : list of float
        Each row once at each of them.

    Returns
    -------
    Rows
    """
    segments = make_segments(sb.dataio.dataio.load_data_csv(csv), seconds, seed)
    rows = []
    # The words are made at speed 1.
    for speed in sorted(speeds, key=lambda speed: speed != 1.0):
        good = teacher.prepare(at_speed(segments, speed))
        rows += join_segments(good, row_seconds)
    return Rows(rows, teacher)
