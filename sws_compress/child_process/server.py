"""The child's side: answers requests until its parent is gone. It imports only what the requested functions need."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from importlib import import_module
from io import FileIO
from typing import Any

from sws_compress.child_process.wire import BEGUN, WireError, receive, send

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_MOST_REQUEST_BYTES = 1 << 62
_MOST_ERROR_CHARACTERS = 10_000
_SECONDS_AFTER_LIMIT = 5.0
"""The parent ends a call that takes too long. If it is gone, the child ends itself so much later."""


def main() -> None:
    """Answer requests on standard input, on standard output; both are the child's alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who is interrupted is the parent
    requests, answers = FileIO(os.dup(0), "rb"), FileIO(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # libraries print
        os.dup2(null, number)
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pending: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_read_all, args=(requests, pending), daemon=True).start()
    while True:
        request = pending.get()
        try:
            answers.write(BEGUN)
            answer = _answer(request)
            del request
            send(answers, answer)
        except WireError as error:
            send(answers, _error(error))
        except BrokenPipeError:
            os._exit(0)


def _read_all(requests: FileIO, pending: queue.Queue[Any]) -> None:
    """Hand on requests. Ends the process with the parent, whatever the main thread is doing."""
    try:
        while True:
            pending.put(receive(requests, most_bytes=_MOST_REQUEST_BYTES))
    except BaseException:  # EOFError is the usual one
        os._exit(0)


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """Call the function that is asked for, within its limits."""
    _limit_memory(request["memory_bytes"])
    _set_alarm(request["seconds"] + _SECONDS_AFTER_LIMIT)
    try:
        function = getattr(import_module(request["module"]), request["function"])
        return {"result": function(*request["arguments"])}
    except Exception as error:  # native libraries raise a dozen unrelated classes
        return _error(error)
    finally:
        _set_alarm(0)
        _limit_memory(None)  # the next request may be long


def _error(error: Exception) -> dict[str, Any]:
    kind = "memory" if isinstance(error, MemoryError) else "error"
    return {kind: str(error)[:_MOST_ERROR_CHARACTERS] or type(error).__name__}


def _set_alarm(seconds: float) -> None:
    """End the process by a signal after some time; 0 cancels it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _limit_memory(more_bytes: int | None) -> None:
    """Let the process take so many bytes besides those that it holds; None is no limit of ours."""
    held = _data_bytes()
    if resource is None or held is None:
        return
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = most if more_bytes is None else held + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if most < 0 else min(limit, most), most))


def _data_bytes() -> int | None:
    """What RLIMIT_DATA counts on Linux; None elsewhere."""
    if sys.platform != "linux":
        return None
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) << 10
    return None
