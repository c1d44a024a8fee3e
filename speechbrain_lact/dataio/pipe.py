"""Audio that comes in through a pipe: WAV or raw samples, of any length.

Authors
* speechbrain_lact contributors 2026
"""

import codecs
import io
import os
import struct

import numpy as np
import soundfile

from speechbrain_lact.dataio.audio import (
    LEAST_SECONDS,
    Levels,
    Resampler,
    mono,
    warn,
)
from speechbrain_lact.dataio.decode import SoundFile, check_layout, walk_chunks
from speechbrain_lact.utils.console import STDIN, signals

# Seconds of a pipe read at a time, to be saved.
READ_SECONDS = 10.0

# What a WAV header calls a format (tag, bits), and what soundfile does.
SUBTYPES = {
    (1, 8): "PCM_U8",
    (1, 16): "PCM_16",
    (1, 24): "PCM_24",
    (1, 32): "PCM_32",
    (3, 32): "FLOAT",
    (3, 64): "DOUBLE",
    (6, 8): "ALAW",
    (7, 8): "ULAW",
}
EXTENSIBLE = 0xFFFE
# WAV and its kin: what they begin with, and where it says that they are sound.
WAVES = {
    b"RIFF": (8, b"WAVE"),
    b"RIFX": (8, b"WAVE"),
    b"RF64": (8, b"WAVE"),
    b"riff": (24, b"wave"),
}
# Bytes of raw audio that are looked at before it is believed to be some.
HEAD = 1024
FOREIGN = (
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b"caff",
    b".snd",
    b"\x1aE\xdf\xa3",
    b"#!AMR",
    b"NIST_1A",
    b"Creative",
    b" paf",
    b"fap ",
    b"2BIT",
    b"PVF1",
    b"\x64\xa3",  # IRCAM
    b"wvpk",
    b"MAC ",
    b"TTA1",
    b"MPCK",
    b"\x30\x26\xb2\x75",  # Windows Media
)


class Incoming:
    """Audio from a pipe: WAV (also RF64, RIFX, Wave64), or 16-bit PCM of one
    channel.

    Arguments
    ---------
    source : int
        File descriptor; what is there is read, and waited for.
    rate : int, optional
        Of raw audio in Hz; that of the model if it is not given.
    name : str
        What messages call it.

    Raises
    ------
    ValueError
        Here or while reading: if nothing comes, or no audio.

    Example
    -------
    >>> source, pipe = os.pipe()
    >>> os.write(pipe, bytes(3201))
    3201
    >>> os.close(pipe)
    >>> [len(piece) for piece in Incoming(source).pieces(0.05, 16000)]
    [1600]
    >>> os.close(source)
    """

    def __init__(self, source, rate=None, name=STDIN):
        self.source, self.rate, self.name = source, rate, name
        self.channels, self.subtype, self.endian = 1, "PCM_16", "LITTLE"
        self.kept, self.left, self.ended = b"", float("inf"), False
        self._read(HEAD)
        if not self.kept:
            raise ValueError(f"{name}: nothing has come in")
        if self.kept[:4] in WAVES:
            self._header()
        else:
            self._refuse_foreign()
        # Without the bytes that follow the audio of a WAV.
        self.kept = self.kept[: min(self.left, len(self.kept))]
        self.left -= len(self.kept)

    def _read(self, count):
        """Waits until so many bytes are there, or all."""
        while len(self.kept) < count and not self.ended:
            data = os.read(self.source, 1 << 16) if self.left else b""
            data = data[: min(self.left, len(data))]
            self.left -= len(data)
            self.kept += data
            self.ended = not data

    def _take(self, count):
        """Exactly so many bytes of the header."""
        self._read(count)
        if len(self.kept) < count:
            raise ValueError("it ends within the header of a WAV")
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def _skip(self, count):
        """Passes over so many bytes without keeping them."""
        while count > 0:
            count -= len(self._take(min(count, 1 << 16)))

    def _header(self):
        """Reads a WAV header up to the samples."""
        kind = self.kept[:4]
        place, form = WAVES[kind]
        if self.kept[place : place + 4] not in (form, b""):
            raise ValueError(f"{self.name}: {kind.decode()}, but no WAV")
        try:
            chunks, size = walk_chunks(self._take, self._skip)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        layout = chunks.get(b"fmt ", b"")
        if len(layout) < 16:
            raise ValueError(f"{self.name}: the header of the WAV is damaged")
        order = ">" if kind == b"RIFX" else "<"
        tag, channels, rate = struct.unpack(f"{order}HHI", layout[:8])
        (bits,) = struct.unpack(f"{order}H", layout[14:16])
        if tag == EXTENSIBLE and len(layout) >= 26:
            (tag,) = struct.unpack(f"{order}H", layout[24:26])
        check_layout(self.name, rate, channels)
        self.subtype = SUBTYPES.get((tag, bits))
        if self.subtype is None:
            raise ValueError(
                f"{self.name}: a WAV of format {tag} with {bits} bits cannot "
                "be read: send 16-bit PCM"
            )
        self.rate, self.channels = rate, channels
        self.endian = "BIG" if kind == b"RIFX" else "LITTLE"
        if size is not None:
            self.left = size

    def _blocks(self, seconds, rate):
        """Samples [S, channels] of at least so many seconds, as they come."""
        layout = {
            "samplerate": rate,
            "channels": self.channels,
            "subtype": self.subtype,
            "format": "RAW",
            "endian": self.endian,
        }
        width, done = self.channels * WIDTHS[self.subtype], 0
        while not self.ended or self.kept:
            self._read(max(round(seconds * rate), 1) * width)
            size = len(self.kept) // width * width
            data, self.kept = self.kept[:size], self.kept[size:]
            if self.ended:
                # Half a sample.
                self.kept = b""
            if data:
                with signals.hold():
                    samples, _ = soundfile.read(
                        io.BytesIO(data),
                        dtype="float32",
                        always_2d=True,
                        **layout,
                    )
                done += len(samples)
                yield samples
        if done < LEAST_SECONDS * rate:
            raise ValueError(
                f"{self.name}: {done} samples at {rate} Hz; at least "
                f"{LEAST_SECONDS} s are needed"
            )

    def pieces(self, seconds, sample_rate):
        """The audio as it comes: the mean over the channels, as loud as it is,
        for what will come is not known. What `AudioFile` would have done
        about that is said at the end.

        Arguments
        ---------
        seconds : float
            Least length of a piece.
        sample_rate : int
            Rate of the samples that are handed out, in Hz.

        Yields
        ------
        torch.Tensor
            Samples [S].
        """
        rate = self.rate or sample_rate
        change, levels = Resampler(rate, sample_rate), Levels()
        for samples in self._blocks(seconds, rate):
            one = mono(samples, self.name)
            levels.add(samples)
            yield change(one)
        rest = change([], True)
        if len(rest):
            yield rest
        mix = levels.mix()
        if mix.channel is not None or mix.offset or mix.gain > 2 or mix.note:
            warn(
                self.name,
                (mix.note or "far from the usual level")
                + ": a live stream is heard as it is; transcribe it when it "
                "has ended",
            )

    def save(self, folder, sample_rate):
        """All of it as a file.

        Arguments
        ---------
        folder : str
            Where to.
        sample_rate : int
            Of raw audio in Hz, if that is not known.

        Returns
        -------
        str
            The file: all channels at their rate, exact to the bit.
        """
        path, rate = os.path.join(folder, "audio.w64"), self.rate or sample_rate
        with SoundFile(path, "w", rate, self.channels, "FLOAT") as file:
            for samples in self._blocks(READ_SECONDS, rate):
                file.write(samples)
        return path

    def _refuse_foreign(self):
        """Raises if this cannot be the beginning of raw audio."""
        what = foreign(self.kept)
        if what is not None:
            raise ValueError(
                f"{self.name}: no audio but {what}: send WAV or raw 16-bit "
                "PCM, or name the file"
            )


# Bytes of a sample.
WIDTHS = {name: bits // 8 for (_, bits), name in SUBTYPES.items()}


def foreign(head):
    """What bytes are that cannot be the beginning of raw audio.

    Arguments
    ---------
    head : bytes
        The first ones.

    Returns
    -------
    str or None
    """
    if head.startswith(FOREIGN) or head[4:8] == b"ftyp":
        return "a file of another format"
    what = None
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    if all(letter.isprintable() or letter.isspace() for letter in text):
        if "\ufffd" not in text:
            what = "text"
    samples = np.frombuffer(head[: len(head) // 2 * 2], "<i2") / 2**15
    # Every value as likely as any other, whatever the last one was.
    if len(samples) >= HEAD // 4 and 0.5 < samples.std() < 0.65:
        if abs(np.corrcoef(samples[1:], samples[:-1])[0, 1]) < 0.2:
            what = "compressed or random bytes"
    return what
