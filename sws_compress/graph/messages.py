"""Other people's messages inside ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of a message that says something, for one-line errors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
