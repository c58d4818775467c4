"""Functions of the user's that the command line names: ``package.module:function``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout
from pathlib import Path
from typing import Any

from sws_compress.errors import ArgumentError


def is_function_name(given: str) -> bool:
    """Whether a text has the form ``package.module:function``."""
    module, _, function = given.partition(":")
    return all(part.isidentifier() for name in (module, function) for part in name.split("."))


def named_function(option: str, given: str) -> Callable[..., Any]:
    """Import a function; the current folder is searched first.

    Parameters
    ----------
    option : str
        What errors name.
    given : str
        ``package.module:function``.

    Raises
    ------
    ArgumentError
        If it cannot be imported, or is no function.
    """
    import pkgutil

    sys.path.insert(0, "")  # the current folder, as python -m does
    try:
        with to_standard_error():
            found = pkgutil.resolve_name(given)
    except (Exception, SystemExit) as error:
        raise ArgumentError(
            f"{option} must name a function that can be imported, got {given}, {error_text(error)}: "
            "check its name, or start in its folder"
        ) from error
    if not callable(found):
        raise ArgumentError(
            f"{option} must name a function, got {given}, which is of type {type(found).__name__}: name a function"
        )
    return found  # type: ignore[no-any-return]


def metric_function(given: str | None) -> Callable[[Path], Any] | None:
    """The function that ``--evaluate`` names; what it prints goes to standard error. None for None."""
    if given is None:
        return None
    if not is_function_name(given):
        raise ArgumentError(
            f"--evaluate must be package.module:function, got {given!r}: name a function that takes the path of an "
            "ONNX file and returns a number"
        )
    function = named_function("--evaluate", given)

    def evaluate(path: Path) -> Any:
        with to_standard_error():
            return function(path)

    return evaluate


def to_standard_error() -> AbstractContextManager[Any]:
    """What the user's code prints meanwhile goes to standard error: standard output is for our result."""
    return redirect_stdout(sys.stderr)


def error_text(error: BaseException) -> str:
    """Type and text of an error."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
