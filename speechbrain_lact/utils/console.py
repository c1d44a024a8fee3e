"""What a command owes to its process: streams, signals, files it writes.

Authors
* speechbrain_lact contributors 2026
"""

import codecs
import contextlib
import io
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

# What messages call the standard streams.
STDIN, STDOUT = "standard input", "standard output"
# The name of an error handler of `codecs`.
ESCAPE = "speechbrain_lact.escape"


def _escape(error):
    """Bytes in place of characters that an encoding lacks: an escape, or what
    a name that is not UTF-8 was read from."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    data = b""
    for letter in error.object[error.start : error.end]:
        if "\udc80" <= letter <= "\udcff":
            data += bytes([ord(letter) - 0xDC00])
        else:
            data += letter.encode("ascii", "backslashreplace")
    return data, error.end


codecs.register_error(ESCAPE, _escape)


class _Streams:
    """The standard streams, whatever the process began with."""

    def __init__(self):
        self.closed = set()
        """Names of those that were closed."""

    @contextlib.contextmanager
    def __call__(self):
        """Closed streams are opened on nothing; no character stops a job."""
        before = sys.stdin, sys.stdout, sys.stderr
        self.closed.clear()
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            if getattr(sys, name) is None:
                self.closed.add(name)
                mode = "w" if number else "r"
                setattr(sys, name, _nothing(number, mode))
        errors = getattr(sys.stdout, "errors", None)
        change = getattr(sys.stdout, "reconfigure", lambda **_: None)
        change(errors=ESCAPE)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                change(errors=errors)
            sys.stdin, sys.stdout, sys.stderr = before


def _nothing(number, mode):
    """A file without content. No file that is opened later gets the number
    of the stream: libraries in C write there."""
    try:
        os.fstat(number)
    except OSError:
        descriptor = os.open(os.devnull, os.O_RDWR)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.set_inheritable(number, True)
    return open(os.devnull, mode, encoding="utf-8", errors=ESCAPE)


standard_streams = _Streams()


def need_stdout():
    """Raises if what is printed can reach nobody."""
    if "stdout" in standard_streams.closed:
        raise ValueError(f"{STDOUT} is closed: name a file with --out")


def say(text, end="\n"):
    """Prints a text at once, above a progress bar if there is one.

    Arguments
    ---------
    text : str
        What to print.
    end : str
        What follows it.
    """
    from tqdm import tqdm

    try:
        tqdm.write(text + end, file=sys.stdout, end="")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from error


class Stderr(io.TextIOWrapper):
    """Standard error: where it cannot be written (a terminal that was closed,
    a full disk) the job goes on.

    Arguments
    ---------
    descriptor : int
        Of the file; it is closed with this.
    encoding : str, optional
        That of the process by default.

    Example
    -------
    >>> with Stderr(os.open("/dev/full", os.O_WRONLY)) as file:
    ...     file.write("disk full")
    9
    """

    def __init__(self, descriptor, encoding=None):
        file = open(descriptor, "wb", buffering=0)
        options = {"errors": "backslashreplace", "write_through": True}
        super().__init__(file, encoding, **options)

    def write(self, text):
        """As any file's."""
        with contextlib.suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self):
        """As any file's."""
        with contextlib.suppress(OSError):
            super().flush()


def end_output():
    """Writes out what standard output has kept, before the process ends.

    Returns
    -------
    OSError
        Why that failed, or None. Nothing more is then written there.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
        return error


class _Signals:
    """SIGINT, SIGTERM and SIGHUP all end a job as Ctrl-C does: by a
    KeyboardInterrupt. What was ignored when the process began (nohup), or has
    a handler of the caller's own, stays so; all is as before at the end."""

    def __init__(self):
        self.received, self._holding, self._before = None, 0, {}
        self._waits = self._lost = self._in_hook = False
        self._sender = None

    def __enter__(self):
        self.__init__()
        if _is_main():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) in (
                    signal.SIG_DFL,
                    signal.default_int_handler,
                ):
                    before = signal.signal(number, self._handle)
                    self._before[number] = before
            self._hook = sys.unraisablehook
            sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *_):
        self._lost = False
        try:
            if self._sender is not None:
                self._sender.join()
        finally:
            for number, before in self._before.items():
                signal.signal(number, before)
            if _is_main():
                sys.unraisablehook = self._hook

    def _handle(self, number, frame):
        """The first one counts; after it only Ctrl-C ends the clearing up."""
        if self._in_hook:  # it comes once more
            return
        first = self.received is None or self._lost
        if self.received is None:
            self.received = number
        if first and self._holding:
            self._waits = True
        elif first or number == signal.SIGINT:
            self._lost = False
            raise KeyboardInterrupt

    def _unraisable(self, lost):
        """An exception is lost in a function that C calls: the signal then
        comes once more, when that function has ended."""
        if self.received is None or lost.exc_type is not KeyboardInterrupt:
            return self._hook(lost)
        self._lost = self._in_hook = True
        self._sender = threading.Thread(target=self._send_again)
        self._sender.start()
        self._in_hook = False

    def _send_again(self):
        """Of a thread. It waits for the hook, where all exceptions are lost,
        and sends nothing to a process that has its own handlers again."""
        time.sleep(0.01)
        while self._in_hook:
            time.sleep(0.01)
        if self._lost:
            os.kill(os.getpid(), self.received)

    @contextlib.contextmanager
    def hold(self):
        """A step that is not left half done: the signal comes after it."""
        if not _is_main():
            yield
            return
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        if self._waits and not self._holding:
            self._waits = False
            raise KeyboardInterrupt

    def exit_code(self, code):
        """128 and the signal, as shells have it, if there was one.

        Arguments
        ---------
        code : int
            What it is otherwise.

        Returns
        -------
        int
        """
        return code if self.received is None else 128 + self.received


def _is_main():
    """Whether signals come to this thread."""
    return threading.current_thread() is threading.main_thread()


signals = _Signals()


def describe(error):
    """An error in one line, with the file first if it is of one.

    Arguments
    ---------
    error : Exception or str

    Returns
    -------
    str

    Example
    -------
    >>> describe(OSError(28, "No space left on device", "a.txt"))
    'a.txt: No space left on device'
    """
    if isinstance(error, OSError) and error.strerror:
        name = os.fsdecode(error.filename) if error.filename else None
        error = f"{name}: {error.strerror}" if name else error.strerror
    return " ".join(str(error).split())


def script(name, function):
    """Runs what a recipe does when it is called by name, and ends the process
    with an exit code; what is wrong is one line.

    Arguments
    ---------
    name : str
        Of the script, for messages.
    function : callable
        Takes the arguments of the process.
    """
    code = 0
    with standard_streams(), signals:
        try:
            function(sys.argv[1:])
        except KeyboardInterrupt:
            code = 130
        except BrokenPipeError:
            code = 128 + getattr(signal, "SIGPIPE", 13)
        except (OSError, ValueError) as error:
            code = 1
            with contextlib.suppress(OSError):
                print(f"{name}: {describe(error)}", file=sys.stderr)
        if end_output() and not code:
            code = 1
    sys.exit(signals.exit_code(code))


def refuse_existing(path, advice="name another one"):
    """Raises if there is a file of that name.

    Arguments
    ---------
    path : Path
        The name.
    advice : str
        What to do.
    """
    if os.path.lexists(path):
        raise ValueError(f"{path}: exists: {advice}")


def refuse_same(paths):
    """Raises if one file is named twice, in whatever spelling.

    Arguments
    ---------
    paths : dict
        Path, or None, by what names it.

    Example
    -------
    >>> refuse_same({"--out": "a.txt", "--rttm": "./a.txt"})
    Traceback (most recent call last):
    ValueError: ./a.txt: is both --out and --rttm: name two files
    """
    names = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = names.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ValueError(
                f"{path}: is both {other} and {name}: name two files"
            )


def check_new_file(path):
    """Raises if a file of that name cannot be written.

    Arguments
    ---------
    path : Path
        The name; if there is a file, it may be replaced.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder: name a file")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: is no ordinary file: name another one")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent}: no such folder")
    if len(os.fsencode(path.name)) > 200:
        raise ValueError(f"{path}: the name is too long: at most 200 bytes")
    check_new_folder(path.parent)


def check_new_folder(path):
    """Raises if nothing can be written into a folder that will be made, or is
    there.

    Arguments
    ---------
    path : Path
        The folder.
    """
    found = Path(os.path.abspath(path))
    while not os.path.lexists(found):
        found = found.parent
    if not found.is_dir():
        raise ValueError(f"{found}: is not a folder: name another one")
    try:
        tempfile.TemporaryFile(dir=found).close()
    except OSError as error:
        raise ValueError(
            f"{found}: nothing can be written there: {error.strerror}"
        ) from error


@contextlib.contextmanager
def whole(path):
    """A file that is written whole or not at all.

    Arguments
    ---------
    path : str or Path
        The file.

    Yields
    ------
    str
        What to write: it becomes the file at the end.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> with whole(path) as part:
    ...     _ = Path(part).write_text("all")
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('all', 1)
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(part)


def lock(descriptor, path):
    """Keeps other runs away for as long as this process has the file open.

    Arguments
    ---------
    descriptor : int
        An open file or folder.
    path : Path
        What the message names.

    Raises
    ------
    ValueError
        If another one has it.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{path}: another run is writing it: wait until that has ended, "
            "or name another one"
        ) from None
    except OSError:
        # A file system without locks.
        pass


@contextlib.contextmanager
def hold_folder(path):
    """A folder that no other run writes into; made if need be.

    Arguments
    ---------
    path : Path
        The folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    # A folder cannot be opened where there is no fcntl.
    descriptor = os.open(path if fcntl else os.devnull, os.O_RDONLY)
    try:
        lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def write_all(file, data):
    """Writes bytes to a file without a buffer, which may take some of them.

    Arguments
    ---------
    file : io.RawIOBase
    data : bytes
    """
    while data:
        data = data[file.write(data) :]


class Lines:
    """A file that grows by whole lines, whatever ends the process.

    Arguments
    ---------
    path : str or Path
        The file.
    new : bool
        Whether it must not exist. If so and nothing is written to it, it is
        removed when an error ends the `with` statement.
    errors : str
        What becomes of characters that are not UTF-8.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> with Lines(path) as lines:
    ...     lines.write("one")
    >>> path.read_text()
    'one\\n'
    """

    def __init__(self, path, new=True, errors="backslashreplace"):
        self.path, self.new, self.errors = path, new, errors
        self.file = open(path, "xb" if new else "ab", buffering=0)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        empty = self.file.tell() == 0
        self.file.close()
        if kind is not None and self.new and empty:
            os.remove(self.path)

    def write(self, line):
        """Adds a line, all of it or nothing.

        Arguments
        ---------
        line : str
            Without its end.
        """
        data = f"{line}\n".encode("utf-8", self.errors)
        start = self.file.seek(0, os.SEEK_END)
        try:
            write_all(self.file, data)
        except BaseException as error:
            self.file.truncate(start)
            if isinstance(error, OSError):
                raise OSError(
                    error.errno, error.strerror, str(self.path)
                ) from error
            raise
