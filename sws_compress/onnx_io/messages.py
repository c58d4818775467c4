"""Other people's words inside our one-line messages."""

from __future__ import annotations

_LONGEST = 80
"""Characters of a name or value that are shown."""


def first_line(error: BaseException) -> str:
    """The first line of a message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def shown(value: object) -> str:
    """A name or value from a file, on one line and of bounded length; text in quotes."""
    text = str(value)
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return repr(short) if isinstance(value, str) else short
