"""The command in a process of its own: ``sws-compress`` and ``python -m sws_compress``.

An interrupt, or a request to end (SIGTERM), may come at any time. Compiled modules crash if one is raised while they
are imported, turn it into other errors, or forget it in a callback. Whatever becomes of it, the command ends with one
line. Nothing heavy is imported here: before `run` begins, an interrupt ends with a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends the command. Its exit code is 128 plus the signal's number, as a shell reports it."""

_LINE = b"sws-compress: interrupted, nothing was replaced\n"

_SHOW_CURSOR = b"\x1b[?25h\r\x1b[K"
"""What a terminal obeys: progress bars hide the cursor. Their line is erased."""

_AGAIN_SECONDS = 0.01
"""How soon an interrupt that was forgotten is raised again."""


def run() -> int:
    """Run the command of the process; returns its exit code."""
    for number in SIGNALS:
        signal.signal(number, _leave)  # nothing has begun
    from sws_compress.cli.main import main

    interrupts = _Interrupts()
    try:
        return main()
    except BaseException:
        if not interrupts.came:
            raise
        return _told(interrupts.came)
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # what is left has no traceback to show


class _Interrupts:
    """Interrupts from now on: the first is raised, or ends the process during an import; so does the second."""

    def __init__(self) -> None:
        self.came = 0
        self._usual_hook = sys.unraisablehook
        sys.unraisablehook = self._hook
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._raise_again)
        for number in SIGNALS:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.came or _is_importing(frame):
            _leave(number)
        self.came = number
        raise KeyboardInterrupt

    def _raise_again(self, *_: object) -> None:
        raise KeyboardInterrupt

    def _hook(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise again what a callback of compiled code or a finaliser cannot pass on."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._usual_hook(unraisable)
        elif hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(number: int, *_: object) -> None:
    """End the process without cleaning up; drafts of files are removed by the next one that writes there."""
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)
    os._exit(_told(number))


def _told(number: int) -> int:
    """The exit code for a signal, once the line is written."""
    with suppress(OSError):  # a closed standard error
        os.write(2, _LINE)
    return 128 + number


if __name__ == "__main__":
    sys.exit(run())
