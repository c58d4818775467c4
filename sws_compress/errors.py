"""What can go wrong, one class per thing the user can do about it.

Every message is one line that names the thing, the rule, the value found and the cure, for example
``components must be >= 2, got 1: one is reserved for zero``.
"""

from __future__ import annotations


class SwsError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 2


class ArgumentError(SwsError, ValueError):
    """An argument is out of range or contradicts another: change the argument."""


class ModelError(SwsError, ValueError):
    """The model cannot be read or compressed as it is: give another model, or convert this one."""


class DataError(SwsError, ValueError):
    """The data loader or input file does not yield what is needed: fix the data."""


class OutputError(SwsError, OSError):
    """The output cannot be written: choose another path, or make room."""


class TrainingError(SwsError, RuntimeError):
    """Training broke down; the last good state was saved where the message says: lower the rate and resume."""


class VerificationError(SwsError, RuntimeError):
    """The written model does not do what the compressed network does: nothing was replaced."""

    exit_code = 1
