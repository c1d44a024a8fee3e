#!/usr/bin/env python3
"""Makes audio with a trained language model of audio tokens.

> python recipes/AudioLM/generate.py --model results/lact_audiolm/1234/model \
    --seconds 60

Writes `generated.wav`, `spectrogram.png` and `measures.json` to `--output`.

Authors
* speechbrain_lact contributors 2026
"""

import argparse
import json
import re
import time
from pathlib import Path

import soundfile
import torch

from speechbrain_lact.dataio.audio import AudioFile
from speechbrain_lact.evaluation.audio.measure import measure
from speechbrain_lact.evaluation.audio.plots import plot_spectrograms
from speechbrain_lact.evaluation.audio.words import word_errors
from speechbrain_lact.inference.ASR import MODEL_IN_THE_BOX, LaCTASR
from speechbrain_lact.inference.AudioLM import AudioGenerator
from speechbrain_lact.inference.speakers import SMALL_EMBEDDER, load_embedder
from speechbrain_lact.processing.long_outputs import (
    QualityEnhancement,
    TemporalCoherence,
)
from speechbrain_lact.utils.console import check_new_folder, script

LAST = 10.0  # seconds at the end that are measured on their own


def arguments_of(argv):
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="folder `model` of a training run")
    add("--seconds", type=float, default=60.0)
    add("--text", help="what is to be said; sentences end at . ! or ?")
    add("--prompt", help="audio file that is gone on from")
    add("--style", help="audio file of the voice to be taken")
    add("--domain", help="one of the model's")
    add("--reference", nargs="+", help="real audio, to be seen beside")
    add("--seed", type=int, default=0)
    add("--temperature", type=float, default=1.0)
    add("--top_k", type=int, default=0)
    add("--top_p", type=float, default=1.0)
    add("--greedy", action="store_true")
    add("--buffer", type=float, default=0.2, help="seconds made at a time")
    add("--deadline", action="store_true", help="keep up with real time")
    add("--enhance", action="store_true", help="remove clicks and DC")
    add("--embedder", default=str(SMALL_EMBEDDER))
    add(
        "--trust",
        action="store_true",
        help="run whatever code the YAMLs of model and embedder name",
    )
    add("--output", default="results/generated")
    return parser.parse_args(argv)


def make(generator, options, prompt, style):
    """The audio, sentence by sentence if there is a text.

    Arguments
    ---------
    generator : AudioGenerator
    options : argparse.Namespace
        The command line.
    prompt, style : torch.Tensor
        Samples [S], or None.

    Returns
    -------
    wav : torch.Tensor
        [S]
    seconds : float
        Until the first piece of audio was there.
    """
    texts = [None]
    if options.text is not None:
        texts = re.split(r"(?<=[.!?])\s+", options.text.strip())
    state, pieces, first = None, [], None
    began, left = time.perf_counter(), options.seconds
    for number, text in enumerate(texts):
        start = generator.begin(
            text,
            prompt if number == 0 else None,
            style,
            options.domain,
            options.seed + number,
            state,
        )
        stream = generator.generate_stream(
            start,
            left,
            options.buffer,
            options.deadline,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            greedy=options.greedy,
            may_end=text is not None,
        )
        for piece, now in stream:
            first = first or time.perf_counter() - began
            pieces.append(piece)
            state = now.model
        made = sum(map(len, pieces)) / generator.tokenizer.sample_rate
        left = options.seconds - made
        if left <= 0:
            break
    return torch.cat(pieces), first


def main(argv):
    """Makes audio and measures it."""
    options = arguments_of(argv)
    folder, trust = Path(options.output), options.trust
    check_new_folder(folder)
    embedder = load_embedder(options.embedder, trust)
    generator = AudioGenerator.from_hparams(options.model, embedder, trust)
    rate = generator.tokenizer.sample_rate
    prompt, style = (
        None if path is None else AudioFile(path, rate).read()
        for path in (options.prompt, options.style)
    )
    real = [AudioFile(path, rate).read() for path in options.reference or []]
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    wav, first = make(generator, options, prompt, style)
    took = time.perf_counter() - began
    seconds = len(wav) / rate
    (wav,), steady = TemporalCoherence(rate).push(wav[None], final=True)
    found = {"loudness_drift_dB": float(steady.worst)}
    if options.enhance:
        (wav,), report = QualityEnhancement(rate)(wav[None])
        found["enhancement"] = {
            when: {name: float(value) for name, value in row.items()}
            for when, row in report.items()
        }
    soundfile.write(folder / "generated.wav", wav.numpy(), rate)
    tokens = generator.encode(wav)
    size = generator.model.codebook_size
    voice = prompt if style is None else style
    found["seconds"] = seconds
    found["seconds_of_compute_per_second"] = took / seconds
    found["tokens_per_second"] = tokens.numel() / took
    found["first_audio_after_seconds"] = first
    found["whole"] = measure(wav, tokens, rate, size, voice, embedder)
    if seconds > LAST:
        found["last_10_s"] = measure(
            wav, tokens, rate, size, voice, embedder, LAST
        )
    if options.text is not None:
        asr = LaCTASR.from_hparams(MODEL_IN_THE_BOX)
        text = re.sub(r"[.!?,]", "", options.text)
        errors, words = word_errors(wav, text, rate, asr)
        found["word_errors"], found["words"] = errors, words
    (folder / "measures.json").write_text(json.dumps(found, indent=1))
    pictures = {"generated": wav}
    if real:
        pictures = {"real": torch.cat(real)[: len(wav)], **pictures}
    plot_spectrograms(pictures, rate, folder / "spectrogram.png")
    print(
        f"{seconds:.1f} s of audio in {took:.1f} s, the first after "
        f"{1000 * first:.0f} ms; {folder}/generated.wav, spectrogram.png, "
        f"measures.json"
    )


if __name__ == "__main__":
    script("generate.py", main)
