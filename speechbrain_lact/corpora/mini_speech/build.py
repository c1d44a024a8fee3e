"""Builds the corpus: the plan is spoken, degraded and described.

Authors
 * speechbrain_lact contributors 2026
"""

import logging
from pathlib import Path

from speechbrain_lact.corpora import layout
from speechbrain_lact.corpora.folder import build_folder, source_hash
from speechbrain_lact.corpora.mini_speech import conditions
from speechbrain_lact.corpora.mini_speech.grammar import GRAMMARS_FILE
from speechbrain_lact.corpora.mini_speech.plan import make_plan
from speechbrain_lact.corpora.mini_speech.synthesizer import (
    import_espeakng_loader,
)
from speechbrain_lact.corpora.mini_speech.workers import make_chapters

logger = logging.getLogger(__name__)


def _code_hash(extra_splits):
    """Hash of all code and grammars that the corpus depends on."""
    files = {layout.__file__, *map(str, Path(__file__).parent.glob("*.py"))}
    if extra_splits:
        files.add(str(GRAMMARS_FILE))
    else:
        files.remove(conditions.__file__)
    return source_hash(*sorted(files))


def _write_chapters(folder, plan, seconds):
    """Writes CHAPTERS.TXT: topic, rare words and condition of each session."""
    lines = [";ID    |READER|MINUTES| SUBSET           | TITLE\n"]
    for voice in plan:
        for chapter in voice.chapters:
            title = f"{chapter.scene}: {' '.join(chapter.rare_words)}"
            if chapter.condition:
                noise = chapter.condition["noise"]
                if noise != "babble":
                    noise = f"1/f^{noise:g}"
                title += (
                    f" (rt60={chapter.condition['rt60']:.2f} noise={noise} "
                    f"snr={chapter.condition['snr']:.1f})"
                )
            if chapter.sound:
                said = " ".join(f"{k}={v}" for k, v in chapter.sound.items())
                title += f" ({said})"
            lines.append(
                f"{chapter.number} | {voice.speaker} | "
                f"{seconds[chapter.number] / 60:5.2f} | {voice.split:<16} | "
                f"{title}\n"
            )
    (folder / "CHAPTERS.TXT").write_text("".join(lines))


def prepare_mini_speech(
    data_folder,
    seed=2026,
    train_voices=240,
    dev_voices=12,
    test_voices=12,
    train_chapters=2,
    dev_chapters=1,
    test_chapters=2,
    utterances=12,
    accent_share=0.2,
    extra_splits="",
):
    """Makes the corpus, unless it is there with these settings.

    Arguments
    ---------
    data_folder : str
        Where to put it. Replaced if it is a MiniSpeech of other settings;
        a folder of anything else is refused.
    seed : int
        Everything follows from it: the same settings give the same bytes on
        the same machine.
    train_voices : int
        How many voices in training, accents included.
    dev_voices : int
        How many voices in dev-clean.
    test_voices : int
        How many voices in each of the three test splits.
    train_chapters : int
        Sessions of each voice in training.
    dev_chapters : int
        Sessions of each voice in dev-clean.
    test_chapters : int
        Sessions of each voice in each test split.
    utterances : int
        Sentences of each session.
    accent_share : float
        The share of training voices that are of other languages.
    extra_splits : str
        Names of extra splits, with spaces between them: see
        `speechbrain_lact.corpora.mini_speech`. The splits above are the same with and without them.

    Returns
    -------
    bool
        True if it was made, False if it was there.

    Raises
    ------
    FileExistsError
        If the folder holds anything else.
    ImportError
        If espeakng-loader is not installed.
    ValueError
        If a size is not possible.

    Example
    -------
    >>> prepare_mini_speech("data/MiniSpeech")  # doctest: +SKIP
    True
    """
    settings = dict(
        seed=seed,
        train_voices=train_voices,
        dev_voices=dev_voices,
        test_voices=test_voices,
        train_chapters=train_chapters,
        dev_chapters=dev_chapters,
        test_chapters=test_chapters,
        utterances=utterances,
        accent_share=accent_share,
        extra_splits=extra_splits,
    )
    plan = make_plan(**settings)

    def build(folder):
        import_espeakng_loader()
        seconds = make_chapters(plan, folder, seed)
        speakers = [
            (
                voice.speaker,
                voice.sex,
                voice.split,
                sum(seconds[c.number] for c in voice.chapters) / 60,
                voice.name,
            )
            for voice in plan
        ]
        title = "MiniSpeech: English sessions spoken by espeak-ng"
        layout.write_speakers(folder, speakers, title)
        _write_chapters(folder, plan, seconds)

    settings["code"] = _code_hash(extra_splits)
    built = build_folder(data_folder, "MiniSpeech", settings, build)
    logger.info("%s: %s", data_folder, "made" if built else "is there already")
    return built
