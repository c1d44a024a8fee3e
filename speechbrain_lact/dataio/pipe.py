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

STDIN = "standard input"
# Seconds of standard input read at a time, to be saved.
PIECE = 10.0

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
# A WAV that goes into a pipe has 0, 0x7FFFF000 (sox), 0x80000000 (arecord) or
# 0xFFFFFFFF (ffmpeg) as its length.
UNKNOWN = 0x7FFFF000
# Bytes of raw audio that are looked at before it is believed to be some.
HEAD = 1024
FOREIGN = (
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b"caff",
    b".snd",
    b"RIFX",
    b"RF64",
)


class Incoming:
    """Audio from a pipe: WAV, or 16-bit PCM of one channel.

    Arguments
    ---------
    source : int
        File descriptor; what is there is read, and waited for.
    rate : int, optional
        Of raw audio in Hz; that of the model if it is not given.

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

    def __init__(self, source, rate=None):
        self.source, self.rate, self.ended = source, rate, False
        self.channels, self.subtype = 1, "PCM_16"
        self.kept, self.left = b"", float("inf")
        self._read(HEAD)
        if not self.kept:
            raise ValueError(f"{STDIN}: nothing has come in")
        if self.kept.startswith(b"RIFF"):
            self._header()
        else:
            _refuse_foreign(self.kept)
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
            raise ValueError(f"{STDIN}: ends within the header of a WAV")
        taken, self.kept = self.kept[:count], self.kept[count:]
        return taken

    def _header(self):
        """Reads a WAV header up to the samples."""
        if self._take(12)[8:] != b"WAVE":
            raise ValueError(f"{STDIN}: RIFF, but no WAV")
        layout = b""
        while True:
            kind, size = struct.unpack("<4sI", self._take(8))
            if kind == b"data":
                break
            if size > 1 << 20:
                raise ValueError(f"{STDIN}: the header of the WAV is damaged")
            body = self._take(size + size % 2)
            if kind == b"fmt ":
                layout = body
        if len(layout) < 16:
            raise ValueError(f"{STDIN}: the header of the WAV is damaged")
        tag, self.channels, self.rate = struct.unpack("<HHI", layout[:8])
        (bits,) = struct.unpack("<H", layout[14:16])
        if tag == EXTENSIBLE and len(layout) >= 26:
            (tag,) = struct.unpack("<H", layout[24:26])
        self.subtype = SUBTYPES.get((tag, bits))
        if self.subtype is None or not self.channels or not self.rate:
            raise ValueError(
                f"{STDIN}: a WAV of format {tag}, {bits} bits, {self.channels} "
                f"channels, {self.rate} Hz cannot be read: send 16-bit PCM"
            )
        if 0 < size < UNKNOWN:
            self.left = size

    def pieces(self, seconds, sample_rate):
        """The audio as it comes.

        Arguments
        ---------
        seconds : float
            Least length of a piece.
        sample_rate : int
            Rate of the samples that are handed out, in Hz.

        Yields
        ------
        torch.Tensor
            Samples [S], the mean over the channels.
        """
        from speechbrain_lact.dataio.audio import LEAST_SECONDS, Resampler, mono

        rate, done = self.rate or sample_rate, 0
        layout = {
            "samplerate": rate,
            "channels": self.channels,
            "subtype": self.subtype,
            "format": "RAW",
            "endian": "LITTLE",
        }
        width = self.channels * WIDTHS[self.subtype]
        change = Resampler(rate, sample_rate)
        while not self.ended or self.kept:
            self._read(max(round(seconds * rate), 1) * width)
            size = len(self.kept) // width * width
            data, self.kept = self.kept[:size], self.kept[size:]
            if self.ended:
                # Half a sample.
                self.kept = b""
            if data:
                samples, _ = soundfile.read(
                    io.BytesIO(data), dtype="float32", always_2d=True, **layout
                )
                done += len(samples)
                yield change(mono(samples, STDIN))
        if done < LEAST_SECONDS * rate:
            raise ValueError(
                f"{STDIN}: {done} samples at {rate} Hz; at least "
                f"{LEAST_SECONDS} s are needed"
            )
        rest = change([], True)
        if len(rest):
            yield rest

    def save(self, folder, sample_rate):
        """All of it as a file.

        Arguments
        ---------
        folder : str
            Where to.
        sample_rate : int
            In Hz.

        Returns
        -------
        str
            The file: one channel, exact to the bit.
        """
        path = os.path.join(folder, "audio.w64")
        with soundfile.SoundFile(path, "w", sample_rate, 1, "FLOAT") as file:
            for samples in self.pieces(PIECE, sample_rate):
                file.write(samples.numpy())
        return path


# Bytes of a sample.
WIDTHS = {name: bits // 8 for (_, bits), name in SUBTYPES.items()}


def _refuse_foreign(head):
    """Raises if these bytes cannot be the beginning of raw audio."""
    what = None
    if head.startswith(FOREIGN) or head[4:8] == b"ftyp":
        what = "a file of another format"
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head)
    if all(letter.isprintable() or letter.isspace() for letter in text):
        if "\ufffd" not in text:
            what = "text"
    samples = np.frombuffer(head[: len(head) // 2 * 2], "<i2") / 2**15
    # Every value as likely as any other, whatever the last one was.
    if len(samples) >= HEAD // 4 and 0.5 < samples.std() < 0.65:
        if abs(np.corrcoef(samples[1:], samples[:-1])[0, 1]) < 0.2:
            what = "compressed or random bytes"
    if what is not None:
        raise ValueError(
            f"{STDIN}: no audio but {what}: send WAV or raw 16-bit PCM, or "
            "name the file"
        )
