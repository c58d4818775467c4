"""Text from files, libraries and callers, made fit for our one-line messages."""

from __future__ import annotations

from collections.abc import Sequence

_VALUE_CHARACTERS = 80
"""Characters of a name or value that are shown; the rest is cut off."""


_REASON_CHARACTERS = 240
"""Characters of another library's message that are shown; the rest is cut off."""


_TRACEBACK = "Original Traceback (most recent call last):"
"""How torch begins the traceback of a process that loads data."""


def shown(value: object) -> str:
    """A name or value from a file, on one line and of bounded length; text is in quotes and its control codes escaped.

    Parameters
    ----------
    value : object
        A string, or anything whose ``str`` is one line.

    Returns
    -------
    str
        At most some 80 characters; "..." marks what was cut off.
    """
    short = _cut(str(value), _VALUE_CHARACTERS)
    return repr(short) if isinstance(value, str) else short


def first_few(entries: Sequence[str], separator: str, count: int = 3) -> str:
    """The first ``count`` of several entries on one line, and how many more there are."""
    more = [] if len(entries) <= count else [f"and {len(entries) - count} more"]
    return separator.join([*entries[:count], *more])


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty, or the name of its class if there is none.

    Where the message is the traceback of another process, its last line tells what went wrong.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return _cut(lines[-1 if _TRACEBACK in lines else 0], _REASON_CHARACTERS)


def one_line(text: str) -> str:
    """All lines of a message as one, of bounded length."""
    return _cut(" ".join(text.split()), _REASON_CHARACTERS)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[:characters].rstrip() + "..."
