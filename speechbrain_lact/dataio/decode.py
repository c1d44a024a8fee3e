"""Decoders of audio files: libsndfile, and PyAV for what that cannot do.

No number of samples in a header is believed: each decoder reads until there
is no more, and what a header promises is only compared with that.

Authors
* speechbrain_lact contributors 2026
"""

import functools
import io
import math
import os
import re
import stat
import struct

import numpy as np
import soundfile

from speechbrain_lact.utils.console import signals

# Rates and numbers of channels that a header can mean.
RATES = (1000, 768000)
MOST_CHANNELS = 1024
# A WAV that was written into a pipe has 0, 0x7FFFF000 (sox), 0x80000000
# (arecord) or 0xFFFFFFFF (ffmpeg) as its length.
UNKNOWN = 0x7FFFF000
# Seconds that may be missing at the end: headers are off by a few samples.
TOLERANCE = 0.025
# Frames that are decoded at a time.
BLOCK = 1 << 16
# Seconds that are decoded ahead of a place, until a decoder has settled.
AHEAD = 1.0
# Seconds of the longest frame of a lossy format.
FRAME = 0.1
# What PyAV may take a file for: sound, and films with sound.
CONTAINERS = (
    "aac,ac3,adts,aiff,amr,ape,asf,au,avi,caf,dsf,eac3,flac,flv,loas,"
    "matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,ogg,tak,tta,w64,wav,wv"
)
# Formats of PyAV whose header has the exact length.
EXACT = ("aiff", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "w64", "wav")

# First bytes: what a chunk begins with, where chunks begin, and what their
# lengths are multiples of.
CHUNKS = {
    b"RIFF": ("<4sI", 12, 2),
    b"RIFX": (">4sI", 12, 2),
    b"RF64": ("<4sI", 12, 2),
    b"FORM": (">4sI", 12, 2),
    b"caff": (">4sq", 8, 1),
    b"riff": ("<16sQ", 40, 8),  # Wave64
}
# Chunks that are longer are not kept: pictures, lists of cues.
KEPT = 4096


def check_layout(name, rate, channels):
    """Raises if a header says what cannot be.

    Arguments
    ---------
    name : str
        What an error message calls the recording.
    rate : int
        Samples a second.
    channels : int
        Channels.
    """
    least, most = RATES
    if not least <= rate <= most or not 1 <= channels <= MOST_CHANNELS:
        raise ValueError(
            f"{name}: its header says {channels} channels at {rate} Hz: it is "
            f"damaged (1 to {MOST_CHANNELS} channels at {least} to {most} Hz "
            "can be read)"
        )


def walk_chunks(take, skip):
    """Reads a header (WAV, RIFX, RF64, Wave64, AIFF, CAF) up to the samples.

    Arguments
    ---------
    take : callable
        Takes a number of bytes and returns so many.
    skip : callable
        Takes a number of bytes that are not needed.

    Returns
    -------
    chunks : dict
        Contents of the small chunks before the samples, by name.
    size : int or None
        Bytes of samples; None if the header does not know.

    Raises
    ------
    ValueError
        If it is none of these formats, or damaged.
    """
    kind = take(4)
    if kind not in CHUNKS:
        raise ValueError("not a format of chunks")
    layout, begin, multiple = CHUNKS[kind]
    take(begin - 4)
    found = {}
    while True:
        name, size = struct.unpack(layout, take(struct.calcsize(layout)))
        name = name[:4]
        if kind == b"riff":
            size -= 24
        if name in (b"data", b"SSND", b"BODY"):
            break
        if not 0 <= size < 1 << 62:
            raise ValueError("the header is damaged")
        padding = -size % multiple
        if size <= KEPT:
            found[name] = take(size)
            skip(padding)
        else:
            skip(size + padding)
    if kind == b"RF64" and len(found.get(b"ds64", b"")) >= 16:
        (size,) = struct.unpack("<Q", found[b"ds64"][8:16])
    elif kind not in (b"riff", b"caff") and size >= UNKNOWN:
        size = 0
    if name == b"SSND":
        skip(8)
        size = max(size - 8, 0)
    return found, size if 0 < size < 1 << 62 else None


def _promised(path):
    """The chunks of a file's header, where its samples begin, how many bytes
    of them there are and should be (None if that is not known)."""
    with open(path, "rb") as file:

        def take(count):
            data = file.read(count)
            if len(data) < count:
                raise ValueError("ends within the header")
            return data

        def skip(count):
            file.seek(count, os.SEEK_CUR)

        total = os.fstat(file.fileno()).st_size
        try:
            head = take(12)
            if head[:4] == b".snd":
                offset, size = struct.unpack(">II", head[4:])
                known = 0 < size < UNKNOWN
                return {}, offset, total - offset, size if known else None
            file.seek(0)
            if head.startswith(b"NIST_1A"):
                return {}, *_sphere(take(1024), total)
            chunks, size = walk_chunks(take, skip)
            return chunks, file.tell(), total - file.tell(), size
        except ValueError:
            return {}, 0, total, None


def _sphere(head, total):
    """Where samples of a NIST Sphere file begin, how many bytes of them there
    are and should be."""
    sizes = [
        re.search(rb"^%b -i (\d+)" % key, head, re.MULTILINE)
        for key in (b"sample_count", b"channel_count", b"sample_n_bytes")
    ]
    size = math.prod(int(found[1]) for found in sizes) if all(sizes) else None
    return len(head), total - len(head), size


def open_audio(path, name=None):
    """Opens a recording with the decoder that reads it right.

    Arguments
    ---------
    path : str
        The file.
    name : str, optional
        What error messages call it.

    Returns
    -------
    Sndfile or Av
        With `rate`, `channels`, `frames` (all that the header promises, or
        more, if there is more), `missing` (how many of them are not there, as
        far as is known), `blocks`, and `note`: what a user has to know.

    Raises
    ------
    ValueError
        In one line, if it cannot be read.
    """
    name = name or path
    check_file(path, name)
    chunks, offset, there, size = _promised(path)
    if len(chunks.get(b"fmt ", b"")) >= 8:
        order = "<"
        with open(path, "rb") as file:
            if file.read(4) == b"RIFX":
                order = ">"
        channels, rate = struct.unpack(order + "HI", chunks[b"fmt "][2:8])
        check_layout(name, rate, channels)
    found, reason = None, None
    try:
        found = _sndfile(path, offset)
    # TypeError: raw samples, which do not say what they are.
    except (soundfile.LibsndfileError, TypeError) as error:
        reason = getattr(error, "error_string", error)
    if found is None:
        try:
            found = Av(path)
        except (ImportError, OSError) as error:
            reason = _sentence(reason or error)
            if isinstance(error, ImportError):
                reason += ": pip install av, which reads more formats"
            raise ValueError(f"{name}: cannot be read: {reason}") from error
    check_layout(name, found.rate, found.channels)
    if size is not None and there > 0:
        missing = found.frames * (size - there) // there
        if missing > TOLERANCE * found.rate:
            found.frames, found.missing = found.frames + missing, missing
    return found


def check_file(path, name):
    """Raises if a path is no file that can be read.

    Arguments
    ---------
    path : str
        The path.
    name : str
        What the error message calls it.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        what = (
            "is a link to nothing" if os.path.islink(path) else "no such file"
        )
        raise ValueError(f"{name}: {what}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{name}: cannot be read: {reason}") from None
    if stat.S_ISFIFO(mode):
        raise ValueError(f"{name}: is a pipe, not a file")
    for test, what in (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            raise ValueError(f"{name}: is {what}, not a recording")
    try:
        open(path, "rb").close()
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror}") from None
    if not os.path.getsize(path):
        raise ValueError(f"{name}: is empty (0 bytes)")


def _sentence(reason):
    """What a library says, in one line without a full stop."""
    return " ".join(str(reason).split()).rstrip(".") or "unknown format"


def _sndfile(path, offset):
    """libsndfile's decoder, or None where its length would be wrong."""
    with SoundFile(os.fsencode(path)) as file:
        # It guesses the length of MP3, and stops there.
        if file.format == "MP3" or file.subtype.startswith("MPEG"):
            return None
        # Near the end it refuses an Ogg that has none.
        if file.format == "OGG" and not _has_end(path):
            return None
        if 0 < file.frames < 1 << 62:
            return Sndfile(path)
        if not offset:
            # FLAC of unknown length.
            return None
        little = file.format in ("WAV", "WAVEX", "RF64", "W64")
        options = {
            "samplerate": file.samplerate,
            "channels": file.channels,
            "subtype": file.subtype,
            "format": "RAW",
            "endian": "LITTLE" if little else "BIG",
        }
    return Sndfile(path, offset, options)


def _has_end(path):
    """Whether the last page of an Ogg is marked as that."""
    with open(path, "rb") as file:
        file.seek(max(os.path.getsize(path) - (1 << 17), 0))
        data = file.read()
    last = data.rfind(b"OggS")
    return 0 <= last < len(data) - 5 and bool(data[last + 5] & 4)


class _Rest(io.FileIO):
    """A file without its first bytes."""

    def __init__(self, path, offset):
        super().__init__(path)
        self.offset = offset
        self.seek(0)

    def seek(self, place, whence=os.SEEK_SET):
        """As of any file."""
        if whence == os.SEEK_SET:
            place += self.offset
        return super().seek(place, whence) - self.offset

    def tell(self):
        """As of any file."""
        return super().tell() - self.offset


class SoundFile(soundfile.SoundFile):
    """A file that a signal cannot interrupt while it is closed: libsndfile
    would be told to free it twice."""

    def close(self):
        """As any file's."""
        with signals.hold():
            super().close()


class Sndfile:
    """A file decoded by libsndfile.

    Arguments
    ---------
    path : str
        The file.
    offset : int
        Bytes before the samples, for a header without their number.
    options : dict, optional
        What soundfile has to know of samples without a header.
    """

    note, missing = "", 0

    def __init__(self, path, offset=0, options=None):
        self.path, self.offset, self.options = path, offset, options
        with self._open() as file:
            self.rate, self.channels = file.samplerate, file.channels
            self.frames = file.frames

    def _open(self):
        """The file, whatever its name is written in."""
        if self.options is None:
            return SoundFile(os.fsencode(self.path))
        with signals.hold():
            return SoundFile(_Rest(self.path, self.offset), **self.options)

    def blocks(self, start=0, stop=None):
        """Decoded samples from one frame up to another, or to the end.

        Arguments
        ---------
        start, stop : int
            Frames.

        Yields
        ------
        numpy.ndarray
            [S, channels], float32.

        Raises
        ------
        OSError
            If there is something that cannot be decoded.
        """
        left = float("inf") if stop is None else stop - start
        try:
            with self._open() as file:
                file.seek(min(start, file.frames))
                while left > 0:
                    size = min(BLOCK, left)
                    # It may call `_Rest`, where an interrupt would be lost.
                    with signals.hold():
                        block = file.read(size, "float32", always_2d=True)
                    if not len(block):
                        return
                    left -= len(block)
                    yield block
        except soundfile.LibsndfileError as error:
            raise OSError(_sentence(error.error_string)) from error


class Av:
    """The sound of a file decoded by PyAV (FFmpeg): MP3, M4A, WebM, and what
    libsndfile refuses.

    Arguments
    ---------
    path : str
        The file.

    Raises
    ------
    ImportError
        Without PyAV.
    OSError
        If there is nothing that can be decoded.
    """

    def __init__(self, path):
        self.path = os.path.abspath(path)
        found = os.stat(path)
        scan = _scan(self.path, found.st_size, found.st_mtime_ns)
        self.rate, self.channels, self.frames, self.missing = scan[:4]
        self.began, self.note = scan[4:]

    def blocks(self, start=0, stop=None):
        """As those of `Sndfile`."""
        ahead = start / self.rate - AHEAD
        seek = self.began is not None and ahead > AHEAD
        left = float("inf") if stop is None else stop - start
        place = None
        for frame in _decode(self.path, self.began + ahead if seek else None):
            if frame is None:
                continue
            if place is None:
                place = 0
                if seek:
                    place = round((frame.time - self.began) * self.rate)
            block = _samples(frame)
            place, skip = place + len(block), max(start - place, 0)
            block = block[skip : min(left + skip, len(block))]
            if len(block):
                left -= len(block)
                yield block
            if left <= 0:
                return


def _decode(path, since=None):
    """Decoded frames of the first sound in a file, from a time a little
    before a number of seconds; None for what is damaged."""
    import av

    try:
        # Not by name: a name can be an address, and a list of addresses can
        # pass for a recording.
        with (
            open(path, "rb") as file,
            av.open(file, options={"format_whitelist": CONTAINERS}) as found,
        ):
            if not found.streams.audio:
                raise OSError("no sound in it")
            stream = found.streams.audio[0]
            if since is not None:
                found.seek(int(since / stream.time_base), stream=stream)
            for packet in found.demux(stream):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    yield None
    except av.error.FFmpegError as error:
        raise OSError(_sentence(error.strerror)) from error


def _samples(frame):
    """Samples of a frame [S, channels], float32."""
    data = frame.to_ndarray()
    if frame.format.is_planar:
        data = data.T
    else:
        data = data.reshape(-1, frame.layout.nb_channels)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / 128
    if data.dtype.kind == "i":
        return (data / 2.0 ** (8 * data.itemsize - 1)).astype(np.float32)
    return np.ascontiguousarray(data, np.float32)


@functools.lru_cache(maxsize=10000)
def _scan(path, size, changed):
    """Rate, channels, frames and missing frames of a file that is decoded once
    for this, the time of its first frame (None if times are not exact, so that
    no place can be found by its time), and what a user has to know of it."""
    import av

    rate = channels = began = None
    frames = missing = bad = 0
    exact = True
    for frame in _decode(path):
        if frame is None:
            bad += 1
            continue
        if rate is None:
            rate, channels = frame.sample_rate, frame.layout.nb_channels
            began = frame.time
            exact = began is not None and frame.time_base * rate <= 1
        if (rate, channels) != (frame.sample_rate, frame.layout.nb_channels):
            raise OSError("its rate or channels change on the way")
        if exact:
            exact = abs((frame.time - began) * rate - frames) < 1
        frames += frame.samples
    if not frames:
        raise OSError("nothing in it can be decoded")
    note = ""
    if bad:
        note, exact = f"damaged parts ({bad}) are left out", False
    with open(path, "rb") as file, av.open(file) as found:
        kind, stream = found.format.name, found.streams.audio[0]
        promised, slack = 0, FRAME
        if kind in EXACT:
            promised = round((stream.duration or 0) * stream.time_base * rate)
        elif kind == "mp3":
            # With what an encoder puts before and behind the sound.
            promised, slack = _mp3_length(path, rate), 3 * FRAME
        if promised - frames > slack * rate:
            missing = promised - frames
        if kind == "ogg":
            note = note or "its end is missing: taken as far as it goes"
    began = began if exact else None
    return rate, channels, frames + missing, missing, began, note


def _mp3_length(path, rate):
    """How many samples an MP3 says at its beginning that it has; 0 if it does
    not."""
    with open(path, "rb") as file:
        head = file.read(10)
        size = 0
        if head.startswith(b"ID3") and len(head) == 10:
            for byte in head[6:]:
                size = size << 7 | byte & 127
            size += 10
        file.seek(size)
        first = file.read(1500)
    found = re.search(rb"(?:Xing|Info)(....)(....)", first, re.DOTALL)
    if not found or not found[1][3] & 1:
        return 0
    return int.from_bytes(found[2], "big") * (1152 if rate >= 32000 else 576)
