"""Our side: calls of functions in a child process, which is started when it is needed and again after its end."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from typing import Any

from sws_compress.child_process.limits import Limits
from sws_compress.child_process.wire import BEGUN, WireError, receive, send

_START = "import sys; sys.path[:] = sys.argv[1:]; from sws_compress.child_process.server import main; main()"
"""The child's program. It finds modules where its parent does, and nothing in the folder of a script."""

_PIPE_BYTES = 1 << 20
"""Size of the pipes where it can be set: the default of 64 kB halves the speed of large arrays."""

TOO_MUCH_MEMORY = "more than {:.1f} GB of memory"
"""What is told about a call that takes more than its limit, in GB."""


class CallError(Exception):
    """A call in the child that gave no result.

    Parameters
    ----------
    reason : str
        What went wrong, for an error line: the message of what the function raised, or how the process ended.
    out_of_bounds : bool
        Whether it took too much time or memory, or crashed; False if the function raised something else.
    """

    def __init__(self, reason: str, *, out_of_bounds: bool) -> None:
        super().__init__(reason)
        self.reason, self.out_of_bounds = reason, out_of_bounds


class _NotBegunError(CallError):
    """The process ended before it began with the call: nothing of it is done."""


def in_child(function: Callable[..., Any], *arguments: object, limits: Limits) -> Any:
    """Call a function in the child process.

    Parameters
    ----------
    function : callable
        A function of a module of this package. What it leaves in its module stays there until the child ends.
    *arguments : object
        What `wire.send` takes.
    limits : Limits
        What the call may take.

    Returns
    -------
    object
        What the function returned, with lists in place of tuples.

    Raises
    ------
    CallError
        If the function raised an error, the process ended, or a limit was exceeded. The next call starts another
        child if this one has ended.
    """
    return _child.call(function, arguments, limits)


def child_lives() -> bool:
    """Whether there is a child, which may hold what earlier calls left in it."""
    return _child.lives()


class _Child:
    """The child process, or none yet; threads take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[..., Any], arguments: tuple[object, ...], limits: Limits) -> Any:
        request = {
            "module": function.__module__,
            "function": function.__qualname__,
            "arguments": arguments,
            "seconds": limits.seconds,
            "memory_bytes": limits.memory_bytes,
        }
        with self._turn:
            used = self.lives()
            try:
                answer = self._answer(request, limits, again=used)
            except WireError as error:  # nothing is sent yet
                raise CallError(str(error), out_of_bounds=False) from error
            except BaseException:  # an interrupt leaves half a message in a pipe
                self.end()
                raise
        if "memory" in answer:
            raise CallError(TOO_MUCH_MEMORY.format(limits.memory_bytes / 1e9), out_of_bounds=True)
        if "error" in answer:
            raise CallError(str(answer["error"]), out_of_bounds=False)
        return answer["result"]

    def _answer(self, request: dict[str, Any], limits: Limits, *, again: bool) -> dict[str, Any]:
        """Ask; once more if the process was killed since the last call, as the system does that lacks memory."""
        try:
            return _asked(self._running(), request, limits)
        except _NotBegunError:
            if not again:
                raise
            return _asked(self._running(), request, limits)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._process = _started()
        return self._process

    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            _close(process)

    def leave(self) -> None:
        """Forget the process in a fork of the parent: it is not a child of this one."""
        process, self._process = self._process, None
        self._turn = threading.Lock()
        if process is not None:
            process.returncode = 0  # nothing to wait for
            _close(process)


def _asked(process: subprocess.Popen[bytes], request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """Send a request and read its answer. Raises CallError if the process ends, or is ended for its time."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(min(limits.seconds, threading.TIMEOUT_MAX), stop)
    timer.daemon = True
    timer.start()
    begun = False
    try:
        send(_file(process.stdin), request)
        begun = _file(process.stdout).read(len(BEGUN)) == BEGUN
        return _answer(_file(process.stdout), limits)
    except (EOFError, OSError) as error:  # OSError: a pipe without another end
        process.wait()
        if late.is_set():
            raise CallError(f"no end within {limits.seconds:.0f} s", out_of_bounds=True) from error
        kind = CallError if begun else _NotBegunError
        raise kind(_end_in_words(process.returncode), out_of_bounds=True) from error
    finally:
        timer.cancel()


def _answer(answers: FileIO, limits: Limits) -> dict[str, Any]:
    """Read an answer, whose arrays are no larger than the call may give."""
    try:
        answer = receive(answers, most_bytes=limits.answer_bytes)
        if not isinstance(answer, dict) or not answer.keys() & {"result", "error", "memory"}:
            raise WireError("answer must have a result")
    except WireError as error:
        raise CallError(f"an answer that cannot be read ({error})", out_of_bounds=True) from error
    return answer


def _started() -> subprocess.Popen[bytes]:
    """A new child. It leads a session of its own, so that the interrupts of a terminal do not reach it."""
    if getattr(sys, "frozen", False):  # its executable is no Python: it would start itself again
        raise CallError("a frozen application, which cannot start Python", out_of_bounds=True)
    paths = [entry for entry in sys.path if isinstance(entry, str)]
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *paths],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise CallError(f"no process of its own ({error.strerror or error})", out_of_bounds=True) from error
    for stream in (process.stdin, process.stdout):
        _enlarge(_file(stream))
    return process


def _enlarge(pipe: FileIO) -> None:
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _file(stream: object) -> FileIO:
    assert isinstance(stream, FileIO)
    return stream


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            _file(stream).close()


def _end_in_words(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code is None or code >= 0:
        return f"the end of its process (exit code {code})"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"the end of its process (signal {-code})"
    text = signal.strsignal(number) or number.name
    return f"a crash of its process ({number.name}, {text.lower()})"


_child = _Child()
atexit.register(_child.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child.leave)
