#!/usr/bin/env python3
"""How speech sounds that audio tokenizers have made again, and what it costs:
the small tokenizer of the box, and Lyra V2 at several bit rates.

PESQ (wide band) and STOI beside the original, and what DNSMOS predicts of each
alone (overall quality; also of the original); seconds of one thread for a
second of audio.

> python benchmarks/audio_tokenizers.py LibriSpeech/test-clean --lyra lyra

The first is a folder of voices laid out as LibriSpeech is; --lyra has Lyra's
weights (speechbrain_lact/lobes/models/audio_tokenizers/lyra.py says more).
Writes benchmarks/results/audio_tokenizers.json and .md.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from speechbrain_lact.dataio.audio import read_audio
from speechbrain_lact.evaluation.audio.quality import quality
from speechbrain_lact.inference.AudioLM import load_tokenizer
from speechbrain_lact.lobes.models.audio_tokenizers import LyraTokenizer
from speechbrain_lact.lobes.models.audio_tokenizers.lyra import LICENCE
from speechbrain_lact.utils import machine
from speechbrain_lact.utils.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
RATE, SUFFIXES = 16000, (".flac", ".wav")
CODES = (16, 30, 46)  # 3.2, 6.0 and 9.2 kbit/s


def recordings(folder, count):
    """As many of each voice, in the order of their names."""
    found = []
    for voice in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = (f for f in voice.rglob("*") if f.suffix in SUFFIXES)
        found += [(voice.name, file) for file in sorted(files)[:count]]
    if not found:
        raise ValueError(f"{folder}: no voices with recordings")
    return found


def dnsmos(wav):
    """Overall quality that DNSMOS predicts; None without speechmos."""
    try:
        from speechmos import dnsmos
    except ImportError:
        return None
    wav = wav.clamp(-1, 1).double().numpy()
    return float(dnsmos.run(wav, sr=RATE)["ovrl_mos"])


def tokenizers(lyra):
    """Name and tokenizer of each row of the table."""
    yield "small, of the box", load_tokenizer().eval()
    for codes in CODES if lyra else ():
        yield f"Lyra V2, {codes} codes", LyraTokenizer(lyra, codes)


@torch.inference_mode()
def measure(tokenizer, wavs):
    """Scores of each recording, and the real-time factors."""
    tokenizer.decode(tokenizer.encode(wavs[0][None]))
    scores, took = [], [0.0, 0.0]
    for wav in wavs:
        began = time.perf_counter()
        tokens = tokenizer.encode(wav[None])
        half = time.perf_counter()
        made = tokenizer.decode(tokens)[0, : len(wav)].float()
        took[0] += half - began
        took[1] += time.perf_counter() - half
        one = quality(wav, made, RATE)
        one["dnsmos"] = dnsmos(made)
        scores.append({k: one[k] for k in ("pesq", "stoi", "dnsmos")})
    seconds = sum(map(len, wavs)) / RATE
    return scores, [part / seconds for part in took]


def mean(scores, name, digits=2):
    """Of what there is."""
    values = [one[name] for one in scores if one[name] is not None]
    return f"{sum(values) / len(values):.{digits}f}" if values else None


def main(arguments):
    """Measures, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lyra", type=Path, help="folder of Lyra's weights")
    parser.add_argument("--count", type=int, default=5, help="of each voice")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = recordings(given.folder, given.count)
    wavs = [read_audio(str(file), RATE) for _, file in chosen]
    originals = [{"dnsmos": dnsmos(wav)} for wav in wavs]
    rows = [{"audio": "original", "DNSMOS": mean(originals, "dnsmos")}]
    details = {"original": originals}
    for name, tokenizer in tokenizers(given.lyra):
        scores, (encode, decode) = measure(tokenizer, wavs)
        details[name] = scores
        rows.append(
            {
                "audio": name,
                "kbit/s": f"{tokenizer.bits_per_second / 1000:.1f}",
                "PESQ": mean(scores, "pesq"),
                "STOI": mean(scores, "stoi", 3),
                "DNSMOS": mean(scores, "dnsmos"),
                "encode, real-time factor": f"{encode:.3f}",
                "decode, real-time factor": f"{decode:.3f}",
            }
        )
        print(rows[-1], file=sys.stderr)
    rows = [{key: row.get(key) for key in rows[-1]} for row in rows]
    about = {
        **machine.about(),
        "date": time.strftime("%Y-%m-%d"),
        "voices": len({voice for voice, _ in chosen}),
        "recordings": len(chosen),
        "seconds": round(sum(map(len, wavs)) / RATE, 1),
        "licence": LICENCE if given.lyra else None,
    }
    found = {"about": about, "rows": rows, "recordings": details}
    file = RESULTS / "audio_tokenizers.json"
    file.write_text(json.dumps(found, indent=1) + "\n")
    table = markdown_table(rows)
    (RESULTS / "audio_tokenizers.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
