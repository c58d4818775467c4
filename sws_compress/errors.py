"""Errors, one class per thing that the user can do about them.

Every message is one line that names the thing, the rule, the value found and the cure, for example
``components must be >= 2, got 1: one is reserved for zero``.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""``text`` with escapes for everything that is not printable: names in files may hold what terminals obey.

    Examples
    --------
    >>> print(printable("fc\x1b[31m\u202e.weight"))
    fc\x1b[31m\u202e.weight
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class SwsError(Exception):
    """Base of all errors that are raised on purpose.

    Parameters
    ----------
    *parts : str
        The line, or the parts of it that a subclass keeps apart; what is not printable is escaped (`printable`).

    Attributes
    ----------
    exit_code : int
        What the command line returns.

    Examples
    --------
    >>> import sws_compress as sws
    >>> try:
    ...     sws.WeightsOnly(components=1)
    ... except sws.SwsError as error:
    ...     print(error)
    components must be >= 2, got 1: one is reserved for zero
    """

    exit_code = 2

    def __init__(self, *parts: str) -> None:
        super().__init__(*map(printable, parts))


class ArgumentError(SwsError, ValueError):
    """An argument is out of range or contradicts another: change the argument."""


class ModelError(SwsError, ValueError):
    """The model cannot be read or compressed as it is: give another model, or convert this one."""


class DataError(SwsError, ValueError):
    """The data loader or the input file does not yield what is needed: fix the data."""


class PackageError(SwsError, ImportError):
    """A package that only some uses need is not installed: install the extra that the message names."""


class OutputError(SwsError, OSError):
    """The output cannot be written: choose another path, or make room."""


class TrainingError(SwsError, RuntimeError):
    """Training broke down: lower the learning rate and resume from the state that the message names."""


class VerificationError(SwsError, RuntimeError):
    """The written model does not do what the compressed network does: nothing was replaced."""

    exit_code = 1
