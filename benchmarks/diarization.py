#!/usr/bin/env python3
"""How well voices are told apart, and who said what.

- Pairs of windows and of whole utterances: cosine similarity of one voice (in
  two sessions, where it has more than one) and of two.
- Recordings of one voice and of two, for enrolment: how alike their parts are.
- Conversations of 2 to 4 voices: diarization error rate, with and without the
  number of speakers, and online; word error rate of what each speaker says,
  with the segments found and with the true ones; names in a second recording.

> python benchmarks/diarization.py data/MiniSpeech/test-clean [--conversations 18]

With --data, how many speakers are found, and the diarization error rate, in
any folders: of recordings with an .rttm (one for each, or one for all), or
laid out as LibriSpeech is, of whose voices conversations of 1 to 6 are made.

> python benchmarks/diarization.py --data meetings LibriSpeech/test-clean

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
from pathlib import Path

import soundfile
import torch

from speechbrain.utils.metric_stats import EER, ErrorRateStats
from speechbrain_lact.corpora.layout import SAMPLE_RATE
from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.evaluation.conversations import (
    make_conversation,
    read_voices,
    trim,
)
from speechbrain_lact.evaluation.diarization import error_rate
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.diarization import Diarizer, OnlineDiarizer
from speechbrain_lact.inference.speakers import SpeakerBank, load_embedder
from speechbrain_lact.processing.diarization.segments import Segment
from speechbrain_lact.processing.diarization.vad import EnergyVAD, SileroVAD
from speechbrain_lact.processing.voices import embed

# Windows that are compared; none: whole utterances [s].
WINDOWS = (0.5, 1.0, 1.5, 2.0, None)
OVERLAPS = (0.0, 0.2, 0.4)
SECONDS = 40.0


def quantiles(values):
    """5, 50 and 95 %."""
    shares = torch.tensor([0.05, 0.5, 0.95], dtype=values.dtype)
    return [round(v, 3) for v in values.quantile(shares).tolist()]


def similarities(voices, embedder, threshold, seed=0):
    """Cosines of pairs of windows, one window an utterance."""
    draw, rows = random.Random(seed), []
    for window in WINDOWS:
        found, who, where = [], [], []
        for name, chapters in voices.items():
            for number, chapter in enumerate(chapters):
                for path, _ in chapter:
                    wav = trim(soundfile.read(path, dtype="float32")[0])
                    size = len(wav) if window is None else window * SAMPLE_RATE
                    if len(wav) < size:
                        continue
                    first = draw.randint(0, len(wav) - int(size))
                    part = torch.from_numpy(wav[first : first + int(size)])
                    found.append(embed(embedder, part[None])[0])
                    who.append(name)
                    where.append(number)
        if len(found) < 2:
            continue
        found = torch.stack(found)
        numbers = {name: i for i, name in enumerate(voices)}
        who = torch.tensor([numbers[name] for name in who])
        where = torch.tensor(where)
        above = torch.ones(len(found), len(found)).triu(1).bool()
        same = (who[:, None] == who) & above
        apart = same & (where[:, None] != where)
        alike = found @ found.T
        one = alike[apart if apart.any() else same]
        two = alike[(who[:, None] != who) & above]
        rate, equal = EER(one, two)
        rows.append(
            {
                "window": window or "utterance",
                "same": quantiles(one[:1_000_000]),
                "different": quantiles(two[:1_000_000]),
                "EER": round(100 * rate, 2),
                "at": round(equal, 3),
                "same below threshold": round(
                    100 * float((one < threshold).float().mean()), 2
                ),
                "different above": round(
                    100 * float((two >= threshold).float().mean()), 2
                ),
            }
        )
    return rows


def likenesses(voices, bank):
    """Of recordings of one voice, and of two."""
    read = {
        name: [
            torch.from_numpy(trim(soundfile.read(path, dtype="float32")[0]))
            for path, _ in chapters[0]
        ]
        for name, chapters in voices.items()
    }
    one = [bank.likeness(wav) for wavs in read.values() for wav in wavs]
    long = [bank.likeness(torch.cat(wavs[:6])) for wavs in read.values()]
    two = [
        bank.likeness(torch.cat([*read[a][:2], *read[b][:2]]))
        for a, b in itertools.combinations(read, 2)
    ]
    return {
        "an utterance": quantiles(torch.tensor(one)),
        "six utterances": quantiles(torch.tensor(long)),
        "two voices, two utterances each": quantiles(torch.tensor(two)),
    }


def words(turns):
    """All that each says."""
    said = {}
    for turn in turns:
        said.setdefault(turn.speaker, []).extend(turn.text.split())
    return said


class Errors:
    """Sums over conversations of diarization and word errors."""

    def __init__(self):
        self.sums, self.right, self.count = {}, 0, 0
        self.words = ErrorRateStats()

    def add(self, truth, found, said=None, texts=()):
        """One conversation."""
        rates = error_rate(truth, found)
        for key in ("miss", "false_alarm", "confusion", "ref_length"):
            self.sums[key] = self.sums.get(key, 0.0) + rates[key]
        speakers = [{s.speaker for s in part} for part in (truth, found)]
        self.right += len(speakers[0]) == len(speakers[1])
        self.count += 1
        if said is None:
            return
        wanted = {}
        for segment, text in zip(truth, texts):
            wanted.setdefault(segment.speaker, []).extend(text.split())
        who = rates["speaker_mapping"]
        for name, spoken in wanted.items():
            heard = said.get(who.get(name), [])
            self.words.append([f"{self.count}-{name}"], [heard], [spoken])

    def row(self):
        """Rates in percent of the speech there is."""
        total = self.sums.pop("ref_length")
        row = {k: round(100 * v / total, 1) for k, v in self.sums.items()}
        row["DER"] = round(sum(100 * v / total for v in self.sums.values()), 1)
        row["number right"] = f"{self.right} of {self.count}"
        if self.words.scores:
            row["WER"] = round(self.words.summarize("error_rate"), 1)
        return row


def converse(voices, asr, embedder, count):
    """Errors of conversations, by overlap and way."""
    diarizer, results = Diarizer(embedder), {}
    for overlap, i in itertools.product(OVERLAPS, range(count)):
        number = 2 + i % 3
        names = random.Random(i).sample(sorted(voices), number)
        chosen = {name: voices[name] for name in names}
        wav, truth, texts = make_conversation(chosen, SECONDS, overlap, i)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "wav.wav"
            soundfile.write(path, wav, SAMPLE_RATE, subtype="FLOAT")
            online = OnlineDiarizer(diarizer)
            wav = asr.load_audio(path).cpu()
            ways = {
                "true segments": truth,
                "number known": diarizer.diarize(path, number),
                "number unknown": diarizer.diarize(path),
                "online": online.feed(wav) + online.finish(),
            }
            for way, found in ways.items():
                said = None
                if way != "online":
                    turns = asr.transcribe_speakers(path, segments=found)
                    said = words(turns)
                errors = results.setdefault((overlap, way), Errors())
                errors.add(truth, found, said, texts)
    return [
        {"overlap": overlap, "segments": way, **errors.row()}
        for (overlap, way), errors in results.items()
    ]


def meet_again(voices, asr, embedder, count):
    """Speakers of a second recording who get the names of the first."""
    right = total = new = 0
    for i in range(count):
        number = 2 + i % 3
        names = random.Random(i).sample(sorted(voices), number)
        chosen = {name: voices[name] for name in names}
        called = []
        with tempfile.TemporaryDirectory() as folder:
            with SpeakerBank(folder, asr, embedder) as bank:
                for chapter in (0, 1):
                    wav, truth, _ = make_conversation(
                        chosen, SECONDS, 0.0, i, chapter
                    )
                    wav = torch.from_numpy(wav)
                    found = Diarizer(bank=bank).diarize(wav, number)
                    who = error_rate(truth, found)["speaker_mapping"]
                    called.append(who)
                    states = dict.fromkeys(who.values(), asr.initial_state())
                    bank.keep(states, wav, found)
        for name in names:
            right += called[0].get(name) == called[1].get(name)
            new += called[1].get(name) not in called[0].values()
            total += 1
    return {"speakers": total, "same name": right, "taken for new": new}


def recordings(folder):
    """Those of a folder with .rttm: samples and who speaks when."""
    spoken = {}
    for path in sorted(folder.rglob("*.rttm")):
        for line in path.read_text(encoding="utf-8").splitlines():
            _, name, _, start, seconds, *_, who = line.split()[:8]
            start = float(start)
            segment = Segment(start, start + float(seconds), who)
            spoken.setdefault((path, name), []).append(segment)
    audio = {path.stem: path for path in folder.rglob("*.flac")}
    for (path, name), truth in spoken.items():
        # A file of one recording may call it otherwise.
        file = audio[name if name in audio else path.stem]
        wav = AudioFile(file, SAMPLE_RATE).read()
        yield wav, sorted(truth, key=lambda s: (s.start, s.end))


def made(folder, count):
    """Conversations of 1 to 6 voices, twelve seconds for each."""
    voices = read_voices(folder)
    for number, i in itertools.product(range(1, 7), range(count)):
        if number > len(voices):
            break
        names = random.Random(1000 * number + i).sample(sorted(voices), number)
        chosen = {name: voices[name] for name in names}
        wav, truth, _ = make_conversation(chosen, 12.0 * number, 0.1, i)
        yield torch.from_numpy(wav), truth


class OneRecording(Diarizer):
    """Embeds each window of one recording once.

    Arguments
    ---------
    diarizer : Diarizer
        Its parts.
    """

    def __init__(self, diarizer):
        super().__init__(
            diarizer.embedder, None, diarizer.vad, diarizer.threshold
        )
        self.known = {}

    def embed(self, wav, windows):
        """As `Diarizer.embed`."""
        key = windows.numpy().tobytes()
        if key not in self.known:
            self.known[key] = super().embed(wav, windows)
        return self.known[key]


def count_speakers(folder, diarizer, count):
    """Errors in a folder, for each number of speakers and for all."""
    with_truth = any(folder.rglob("*.rttm"))
    found = {}
    for wav, truth in recordings(folder) if with_truth else made(folder, count):
        whole, online = OneRecording(diarizer), OnlineDiarizer(diarizer)
        number = len({segment.speaker for segment in truth})
        ways = {
            "number unknown": [],
            "number known": [],
            "online": online.feed(wav) + online.finish(),
        }
        # Where too little speech is found for so many, all of it is missed.
        for way, asked in (("number unknown", None), ("number known", number)):
            with contextlib.suppress(ValueError):
                ways[way] = whole.diarize(wav, asked)
        for way, segments in ways.items():
            heard = len({segment.speaker for segment in segments})
            rates = error_rate(truth, segments)
            for key in (number, "all"):
                found.setdefault((way, key), []).append(
                    (heard == number, abs(heard - number), rates)
                )
    rows = []
    for (way, number), results in found.items():
        rights, offs, rates = zip(*results)
        total = sum(rate["ref_length"] for rate in rates)
        rows.append(
            {
                "data": "/".join(folder.parts[-2:]),
                "way": way,
                "speakers": number,
                "recordings": len(results),
                "number right": sum(rights),
                "mean error": round(sum(offs) / len(offs), 2),
                "DER": round(
                    100
                    * sum(r["der"] * r["ref_length"] for r in rates)
                    / total,
                    1,
                ),
            }
        )
    return rows


def main(arguments):
    """Measures, prints, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "split", type=Path, nargs="?", help="a split of LibriSpeech's kind"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", help="count speakers in these folders"
    )
    parser.add_argument("--conversations", type=int, default=9)
    parser.add_argument("--embedder", help="default: what is installed")
    parser.add_argument(
        "--vad",
        choices=("silero", "energy"),
        help="with --data; default: what is installed",
    )
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--only-pairs", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args(arguments)
    if (given.split is None) == (given.data is None):
        parser.error("name a split, or --data with folders")
    embedder = load_embedder(*filter(None, [given.embedder]))
    if given.data is not None:
        vad = {"silero": SileroVAD, "energy": lambda: EnergyVAD(SAMPLE_RATE)}
        vad, rows = vad[given.vad]() if given.vad else None, []
        diarizer = Diarizer(embedder, None, vad, given.threshold)
        for folder in given.data:
            rows += count_speakers(folder, diarizer, given.conversations)
        report({"speakers": rows}, given.out)
        return
    voices = read_voices(given.split)
    asr = LaCTASR.from_hparams(MODEL_IN_THE_BOX, savedir=None)
    with tempfile.TemporaryDirectory() as folder:
        with SpeakerBank(folder, asr, embedder, given.threshold) as bank:
            results = {
                "voices": len(voices),
                "threshold": bank.threshold,
                "one_voice": bank.one_voice,
                "pairs": similarities(voices, embedder, bank.threshold),
                "parts": likenesses(voices, bank),
            }
    if not given.only_pairs:
        results["conversations"] = converse(
            voices, asr, embedder, given.conversations
        )
        if all(len(chapters) > 1 for chapters in voices.values()):
            results["second recording"] = meet_again(
                voices, asr, embedder, given.conversations
            )
    report(results, given.out)


def report(results, out):
    """Prints what was found; writes it as JSON."""
    for key, value in results.items():
        for row in value if isinstance(value, list) else [value]:
            print(f"{key}: {row}")
    if out is not None:
        out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
