"""Output of the command line: JSON or a table on standard output, errors on standard error."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sws_compress.errors import OutputError, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

ERROR_CHARACTERS = 460
"""Characters of an error line that are shown; what is too long loses its middle."""

ERROR_END_CHARACTERS = 160
"""Characters of a shortened line that come from its end, where the cure stands."""


def show(values: dict[str, Any], table: RenderableType, *, as_json: bool) -> None:
    """Print values as JSON, or a table, on standard output.

    Parameters
    ----------
    values : dict
        What JSON shows; NaN and infinities become null.
    table : RenderableType
        What else is shown.
    as_json : bool
        Whether to print JSON.

    Raises
    ------
    OutputError
        If standard output cannot be written.
    """
    if sys.stdout is None:  # it was closed when Python began
        raise OutputError("standard output must be open, got a closed one: redirect it to a file or to /dev/null")
    try:
        if as_json:
            print(json_text(values))
        else:
            _print(table)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_standard_output()
        raise OutputError(f"standard output must be writable, got '{error.strerror}': make room for it") from error


def json_text(values: dict[str, Any]) -> str:
    """Values as JSON; NaN and infinities become null."""
    return json.dumps(_strict(values), indent=2, allow_nan=False)


def text_of(table: RenderableType, encoding: str = "utf-8") -> str:
    """A table as plain text, as wide as the terminal, without blanks at the ends of lines.

    Parameters
    ----------
    table : RenderableType
        What a rich console prints.
    encoding : str, default "utf-8"
        Of the terminal; other characters are escaped.
    """
    from rich.console import Console

    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding, newline="\n", write_through=True)
    console = Console(file=stream, highlight=False, force_terminal=False, force_jupyter=False)
    console.print(_Visible(table), crop=False)
    return "\n".join(line.rstrip() for line in buffer.getvalue().decode(encoding).split("\n")).removesuffix("\n")


def _print(table: RenderableType) -> None:
    """Print a table on standard output, in colours where that is a terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(_Visible(table), crop=False)
    else:
        print(text_of(table, console.encoding))


@dataclass(frozen=True)
class _Visible:
    """A table with its control characters escaped, but not the styles that rich adds."""

    table: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in console.render(self.table, options):
            lines = segment.text.split("\n")
            yield Segment("\n".join(visible(line, console.encoding) for line in lines), segment.style)


def print_error(message: str) -> None:
    """Print ``sws-compress: error:`` and the message on standard error: one line of printable characters."""
    if sys.stderr is None:  # it was closed when Python began
        return
    text = visible(message, sys.stderr.encoding or "ascii")
    if len(text) > ERROR_CHARACTERS:  # the thing is named at the beginning, and the cure at the end
        text = f"{text[: ERROR_CHARACTERS - ERROR_END_CHARACTERS]} ... {text[-ERROR_END_CHARACTERS:]}"
    print(f"sws-compress: error: {text}", file=sys.stderr)


def visible(text: str, encoding: str = "utf-8") -> str:
    r"""``text`` with escapes for what a terminal would obey or could not show.

    Parameters
    ----------
    text : str
        Text that may hold names from files.
    encoding : str, default "utf-8"
        Encoding of the terminal.

    Returns
    -------
    str
        One line of printable characters of the encoding.

    Examples
    --------
    >>> print(visible("fc\x1b[31m\u202e.weight"))
    fc\x1b[31m\u202e.weight
    """
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)


def _strict(value: Any) -> Any:
    """``value`` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def log_on_standard_error(verbosity: int) -> Iterator[None]:
    """Show what the package logs: at a verbosity of 1 what it does, at 2 what it does with every weight.

    Parameters
    ----------
    verbosity : int
        At 0 nothing is shown.
    """
    if not verbosity or sys.stderr is None:  # it was closed when Python began
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_VisibleFormatter("%(asctime)s  %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("sws_compress")
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    logger.addHandler(handler)
    logger.propagate = False  # functions of the user's may have set up logs of their own
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _VisibleFormatter(logging.Formatter):
    """Lines of printable characters: names come from files."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), sys.stderr.encoding or "ascii")


def silence_standard_output() -> None:
    """Send standard output nowhere, so that Python does not complain at exit about what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def silence_libraries() -> None:
    """Keep off standard error what onnx-ir logs and warns of while it reads: what matters of it is an error of ours."""
    logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", module="onnx_ir")


def occupy_standard_streams() -> None:
    """Open the null device for standard streams that are closed.

    The first files that are opened would take their numbers, and what a library prints would be written into them.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free
