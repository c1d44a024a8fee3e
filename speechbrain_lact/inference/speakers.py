"""Who is speaking: a bank of speakers, how they sound and their LaCT states.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import importlib.util
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.utils.distributed import infer_device
from speechbrain.utils.logger import get_logger
from speechbrain_lact.inference.folder import Untrusted, load_interface
from speechbrain_lact.inference.session import SessionState, fingerprint
from speechbrain_lact.inference.speaker_files import SpeakerFiles, Voice
from speechbrain_lact.lobes.models.resemblyzer import INSTALL, Resemblyzer
from speechbrain_lact.nnet.state import check_kind
from speechbrain_lact.processing.diarization.segments import alone
from speechbrain_lact.processing.voices import (
    MIN_SOUND,
    default_threshold,
    embed,
    likeness,
    sounding,
)

logger = get_logger(__name__)

# The encoder of voices that comes with the package, which was trained on
# synthetic voices only.
SMALL_EMBEDDER = str(Path(__file__).parent / "speaker_model")

# Names of encoders, beside folders and those of the hub.
SMALL, RESEMBLYZER = "small", "resemblyzer"
# Cosine similarity of two long recordings of one voice, at least: chosen on
# training voices of three corpora (docs/speakers.md).
RESEMBLYZER_THRESHOLD = 0.8

# Seconds of the parts of a recording that are compared with each other.
PART_SECONDS = 1.0
# Seconds of a voice are less alike than its utterances: by about this factor
# of the similarity.
SECONDS_FACTOR = 0.6
# Seconds of a recording that a voice is known by.
MAX_SECONDS = 60.0


class SpeakerBank:
    """Speakers, how they sound, and what the model has learned of each.

    The bank is a folder (`SpeakerFiles`). Every change is on the disk when the
    method that made it returns; a process killed at any moment leaves each
    speaker as before or as after.
    States are read when asked for; memory holds one embedding a speaker.

    Arguments
    ---------
    folder : str or Path
        Where the speakers are; made if need be. One bank at a time can have
        it open.
    asr : LaCTASR
        The model whose states are kept.
    embedder : EncoderClassifier, optional
        What a voice is recognised by (see `load_embedder`), or any object with
        `encode_batch(wavs, wav_lens)` [B, 1, E] that is a torch module or has
        an `identity` (str). Default: that of `load_embedder`.
    threshold : float, optional
        Least cosine similarity of two embeddings of one voice. It depends on
        the embedder; default: `default_threshold`.
    one_voice : float, optional
        Least `likeness` of a recording for enrolment; default: `SECONDS_FACTOR` of the
        threshold.
    least_seconds : float
        Least sound in a recording for enrolment, pauses not counted.
    max_speakers : int
        When there are more, those used longest ago are removed. Enrolling,
        updating and asking for the state are use. The order is kept in the
        files' times.
    max_embeddings : int
        Recordings whose embeddings are kept of a speaker; the oldest go
        first. Their mean is what a voice is compared with.

    Raises
    ------
    ValueError
        If the folder holds the bank of another model or embedder, or a file
        that is damaged.
    OSError
        If the folder cannot be written, or the bank is open elsewhere.

    Example
    -------
    >>> asr = LaCTASR.from_hparams("model")  # doctest: +SKIP
    >>> bank = SpeakerBank(
    ...     "voices", asr, load_embedder("ecapa")
    ... )  # doctest: +SKIP
    >>> _ = bank.enrol("Ann", "ann.wav")  # doctest: +SKIP
    >>> name, _ = bank.recognise("call.wav")  # doctest: +SKIP
    >>> asr.transcribe_file("call.wav", bank.state(name))  # doctest: +SKIP
    """

    def __init__(
        self,
        folder,
        asr,
        embedder=None,
        threshold=None,
        one_voice=None,
        least_seconds=1.0,
        max_speakers=1000,
        max_embeddings=10,
    ):
        if max_speakers < 1 or max_embeddings < 1:
            raise ValueError("max_speakers and max_embeddings: at least 1")
        embedder = load_embedder() if embedder is None else embedder
        if threshold is None:
            threshold = default_threshold(embedder)
        rate = getattr(embedder, "audio_normalizer", asr).sample_rate
        if rate != asr.sample_rate:
            raise ValueError(
                f"the embedder takes {rate} Hz, the model {asr.sample_rate} Hz"
            )
        self.folder, self.asr, self.embedder = Path(folder), asr, embedder
        self.threshold = threshold
        self.one_voice = (
            SECONDS_FACTOR * threshold if one_voice is None else one_voice
        )
        self.least_seconds = max(least_seconds, MIN_SOUND)
        self.max_speakers = max_speakers
        self.max_embeddings = max_embeddings
        self.identity = {**asr.identity, "embedder": _identity(embedder)}
        # Centroids by name, in the order of use.
        self._centroids, self._table = {}, None
        self.files = SpeakerFiles(
            self.folder, self.identity, lambda: asr.identity
        )
        try:
            for name, embeddings in self.files.read():
                self._centroids[name] = _centroid(embeddings)
        except BaseException:
            self.close()
            raise

    def __len__(self):
        return len(self._centroids)

    def __contains__(self, name):
        return name in self._centroids

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Lets others open the folder. All is on the disk already."""
        self.files.close()

    def names(self):
        """The speakers, the one used longest ago first.

        Returns
        -------
        list of str
        """
        return list(self._centroids)

    def enrol(self, name, wav):
        """Learns a voice from a recording. One that is known is learned
        further; `forget` it first to begin anew.

        Arguments
        ---------
        name : str
            Any 1 to 10,000 characters; it never becomes part of a path.
        wav : torch.Tensor or str or Path
            Samples [S] at the model's rate, or a file.

        Returns
        -------
        SessionState
            What the model has learned of the voice.

        Raises
        ------
        ValueError
            If the recording is silent, too short, not finite, or holds more
            than one voice.
        """
        _check_name(name)
        samples = self._samples(wav)
        shown = "the waveform" if samples is wav else wav
        seconds = len(self._sound(samples)) / self.asr.sample_rate
        if seconds == 0:
            raise ValueError(f"{shown}: silence, no voice to learn")
        # The last block is counted whole.
        seconds = min(seconds, len(samples) / self.asr.sample_rate)
        if seconds < self.least_seconds:
            raise ValueError(
                f"{shown}: {seconds:.2f} s of sound; at least "
                f"{self.least_seconds:g} s are needed to learn a voice"
            )
        likeness = self.likeness(samples)
        if likeness < self.one_voice:
            raise ValueError(
                f"{shown}: more than one voice: its parts are alike by "
                f"{likeness:.2f} only, one voice by at least "
                f"{self.one_voice:g}; enrol each from a file of its own"
            )
        begin = self.state(name if name in self else None)
        state = self.asr.adapt_to_speaker(samples, begin)
        self.update(name, state, samples)
        return state

    def recognise(self, wav):
        """Whose voice it is.

        Arguments
        ---------
        wav : torch.Tensor or str or Path
            Samples [S] at the model's rate, or a file.

        Returns
        -------
        name : str or None
            None if no speaker is similar enough, or less than 0.2 s sound.
        similarity : float
            Cosine to the most similar speaker; -1 if there is none.
        """
        embedding = self._voice(self._samples(wav))
        return (None, -1.0) if embedding is None else self.nearest(embedding)

    def nearest(self, embedding):
        """As `recognise`, for an embedding.

        Arguments
        ---------
        embedding : torch.Tensor
            [E]

        Returns
        -------
        name : str or None
        similarity : float
        """
        if not self._centroids:
            return None, -1.0
        if self._table is None:
            centroids = torch.stack(list(self._centroids.values()))
            self._table = list(self._centroids), centroids
        names, centroids = self._table
        embedding = F.normalize(embedding.float().cpu(), dim=0)
        similarity, row = (centroids @ embedding).max(0)
        known = float(similarity) >= self.threshold
        return names[row] if known else None, float(similarity)

    def state(self, name):
        """The memory to begin with.

        Arguments
        ---------
        name : str or None
            A speaker of the bank. None, an unknown voice: the model's own
            initial memory.

        Returns
        -------
        SessionState
        """
        if name is None:
            return self.asr.initial_state()
        state = self._load(name).state
        self._use(name)
        return state

    def update(self, name, state, wav=None):
        """Keeps what the model has learned of a voice since.

        Arguments
        ---------
        name : str
            A speaker of the bank; a new one if there is a recording.
        state : SessionState
            One row.
        wav : torch.Tensor or str or Path, optional
            What was said, to recognise the voice by. Less than 0.2 s of sound
            adds nothing to a known speaker.
        """
        _check_name(name)
        self._check_state(state)
        new = None if wav is None else self._voice(self._samples(wav))
        if name in self:
            known = self._load(name).embeddings[0]
        elif new is None:
            raise ValueError(
                f"{_shown(name)}: not in the bank; a new speaker needs a "
                f"recording with at least {MIN_SOUND} s of sound"
            )
        else:
            known = new.new_zeros(0, len(new))
        if new is not None:
            known = torch.cat([known, new[None]])[-self.max_embeddings :]
        self._write(name, Voice(known[None], state))
        while len(self) > self.max_speakers:
            oldest = next(iter(self._centroids))
            logger.info("%s is forgotten: the bank is full", _shown(oldest))
            self.forget(oldest)

    def keep(self, states, wav, segments):
        """Updates all who speak in a recording. Of new voices those are kept
        that speak alone for `least_seconds`.

        Arguments
        ---------
        states : dict of SessionState
            What the model has learned of each speaker.
        wav : torch.Tensor
            Samples [S] at the model's rate.
        segments : list of Segment
            Who speaks when.
        """
        for name, state in states.items():
            parts = [
                wav[slice(*(round(t * self.asr.sample_rate) for t in part))]
                for part in alone(name, segments)
            ]
            sound = self._sound(torch.cat([wav[:0], *parts]))
            if name in self or (
                len(sound) >= self.least_seconds * self.asr.sample_rate
            ):
                sound = sound[: round(MAX_SECONDS * self.asr.sample_rate)]
                self.update(name, state, sound if len(sound) else None)
            else:
                logger.warning(
                    "%s speaks alone for less than %g s and is not kept",
                    _shown(name),
                    self.least_seconds,
                )

    def rename(self, name, new):
        """Calls a speaker by another name. A process killed in between leaves
        the speaker under both.

        Arguments
        ---------
        name : str
            A speaker of the bank.
        new : str
            A name that nobody in the bank has.
        """
        _check_name(new)
        voice = self._load(name)
        if new in self:
            raise ValueError(f"{_shown(new)}: is in the bank already")
        self._write(new, voice)
        self.forget(name)

    def forget(self, name):
        """Removes a speaker: the voice, the state and the name.

        Arguments
        ---------
        name : str
            A speaker of the bank.
        """
        self._check_known(name)
        self.files.remove(name)
        del self._centroids[name]
        self._table = None

    def likeness(self, wav):
        """How alike the parts of a recording are: low for two voices.

        Its sounding seconds fall into two groups, around the two that are
        least alike.

        Arguments
        ---------
        wav : torch.Tensor or str or Path
            Samples [S] at the model's rate, or a file.

        Returns
        -------
        float
            Cosine similarity of the groups' mean embeddings; 1 if less than
            two seconds sound, which are not compared.
        """
        sound = self._sound(self._samples(wav))
        size = round(PART_SECONDS * self.asr.sample_rate)
        count = len(sound) // size
        if count < 2:
            return 1.0
        return likeness(self._embed(sound[: count * size].view(count, size)))

    def _load(self, name):
        """A speaker of the bank."""
        self._check_known(name)
        voice = self.files.load(name)
        size = len(self._centroids[name])
        known = self._centroids[name].new_zeros(1, 0, size)
        like = Voice(known, self.asr.initial_state())
        # Counts are looked at where the state is used.
        voice.check(like, 1, str(self.files.path(name)), counts=False)
        return replace(voice, state=voice.state.to(self.asr.device))

    def _write(self, name, voice):
        """Makes it what the bank has of a speaker."""
        self.files.write(name, voice)
        self._centroids[name] = _centroid(voice.embeddings[0])
        self._table = None
        self._use(name)

    def _use(self, name):
        """Makes a speaker the one used last."""
        self._centroids[name] = self._centroids.pop(name)
        self.files.use(name)

    def _check_known(self, name):
        if not isinstance(name, str) or name not in self:
            raise ValueError(f"{_shown(name)}: no speaker in {self.folder}")

    def _check_state(self, state):
        """Raises unless it is one row of this kind of model."""
        try:
            check_kind(state, SessionState)
            # Counts are looked at where the state is used.
            state.check(self.asr.initial_state(), counts=False)
        except ValueError as error:
            raise ValueError(f"no state of this model: {error}") from error
        if state.batch != 1:
            raise ValueError(
                f"the states of {state.batch} rows; one is kept of a voice"
            )

    def _samples(self, wav):
        """A recording that can be used [S]."""
        if not isinstance(wav, torch.Tensor):
            return self.asr.load_audio(wav)
        if wav.ndim != 1 or not wav.is_floating_point():
            raise ValueError(
                f"the waveform: one channel of floats between -1 and 1, not "
                f"{wav.dtype} {tuple(wav.shape)}"
            )
        if not bool(wav.isfinite().all()):
            raise ValueError("the waveform: has samples that are not finite")
        return wav

    def _sound(self, samples):
        return sounding(samples, self.asr.sample_rate)

    def _voice(self, samples):
        """Embedding [E], or None if there is too little sound."""
        if len(self._sound(samples)) < MIN_SOUND * self.asr.sample_rate:
            return None
        return self._embed(samples[None])[0]

    def _embed(self, wavs):
        return embed(self.embedder, wavs)


def default_embedder():
    """The name of the encoder of voices that is taken if none is named.

    Returns
    -------
    str
        `resemblyzer` if that package is installed, else `small`, which is said
        once.
    """
    if importlib.util.find_spec("resemblyzer") is not None:
        return RESEMBLYZER
    _warn_once(
        f"resemblyzer is not installed: {INSTALL}; until then voices are told "
        "apart by the small encoder, which knows synthetic voices only"
    )
    return SMALL


@functools.cache
def _warn_once(message):
    logger.warning(message)


def load_embedder(source=None, trust=False, **options):
    """An encoder of voices; no code that is in its folder is run.

    Arguments
    ---------
    source : str or Path, optional
        `resemblyzer`, which was trained on people and is a package of its own;
        `small`, which was trained on MiniSpeech and comes with this package; a
        folder, or a name on the Hugging Face hub such as
        `speechbrain/spkrec-ecapa-voxceleb`. Default: `default_embedder`.
    trust : bool
        Whether whatever its YAML names may run.
    **options : dict
        Of SpeechBrain's `from_hparams`: `savedir`, `run_opts`.

    Returns
    -------
    EncoderClassifier or Resemblyzer

    Raises
    ------
    ValueError
        If there is none, or what could run code.
    ImportError
        If it is `resemblyzer` and not installed.
    """
    source = default_embedder() if source is None else source
    if source == RESEMBLYZER:
        device = (options.get("run_opts") or {}).get("device")
        return Resemblyzer(RESEMBLYZER_THRESHOLD, device or infer_device())
    if source == SMALL:
        source = SMALL_EMBEDDER
    try:
        return load_interface(
            EncoderClassifier, str(source), trust=trust, **options
        )
    except Untrusted:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{source}: no encoder of voices: neither a folder with a "
            f"hyperparams.yaml nor a name on the hub that can be reached "
            f"({' '.join(str(error).split())})"
        ) from error


def _centroid(embeddings):
    """Direction of the mean [E] of embeddings [K, E]."""
    return F.normalize(embeddings.mean(0), dim=0).cpu()


def _identity(embedder):
    """What identifies this embedder."""
    own = getattr(embedder, "identity", None)
    if own is not None:
        return str(own)
    if not isinstance(embedder, torch.nn.Module):
        raise ValueError("the embedder: neither a module nor has an identity")
    return fingerprint(embedder)


def _check_name(name):
    if not isinstance(name, str) or not 1 <= len(name) <= 10_000:
        raise ValueError(
            f"{_shown(name)}: the name of a speaker is 1 to 10,000 characters"
        )


def _shown(name):
    """A name within a message, on one line."""
    text = repr(name)
    return text if len(text) <= 60 else f"{text[:60]}..."
