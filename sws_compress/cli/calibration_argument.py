"""Inputs named on the command line: a file, a folder, or a function of the user's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sws_compress.errors import ArgumentError, DataError

_FORMS = "an .npz file, a folder of such files, or package.module:function"


def calibration_inputs(given: str) -> Any:
    """Find the inputs that ``--calibration`` names.

    Parameters
    ----------
    given : str
        A path, or ``package.module:function``, which is called without arguments.

    Returns
    -------
    object
        The path, or what the function returns. An iterable raises DataError where the user's code raises.

    Raises
    ------
    ArgumentError
        If there is no such path, module or function.
    DataError
        If the function raises.
    """
    if given and Path(given).exists():
        return given
    module, _, function = given.partition(":")
    if not all(part.isidentifier() for name in (module, function) for part in name.split(".")):
        raise ArgumentError(f"--calibration must be {_FORMS}, got {given!r}, which does not exist: check the path")
    try:
        found = _function(given)()
    except (Exception, SystemExit) as error:
        if isinstance(error, ArgumentError):
            raise
        raise _raised(given, error) from error
    return found if _is_whole(found) else _told(given, found)


def _function(given: str) -> Callable[[], Any]:
    import pkgutil
    import sys

    sys.path.insert(0, "")  # the current folder, as python -m does
    try:
        found = pkgutil.resolve_name(given)
    except (Exception, SystemExit) as error:
        raise ArgumentError(
            f"--calibration must name a function that can be imported, got {given}, {_line(error)}: "
            "check its name, or start in its folder"
        ) from error
    if not callable(found):
        raise ArgumentError(
            f"--calibration must name a function, got {given}, which is of type {type(found).__name__}: "
            "name a function that returns the inputs"
        )
    return found  # type: ignore[no-any-return]


def _is_whole(found: Any) -> bool:
    """Whether nothing of the user's runs when the inputs are read."""
    whole = isinstance(found, str | bytes | os.PathLike | Mapping | list | tuple) or hasattr(found, "__array__")
    return whole or not isinstance(found, Iterable)


def _told(given: str, found: Iterable[Any]) -> Iterator[Any]:
    """``found``, item by item."""
    try:
        yield from found
    except (Exception, SystemExit) as error:
        raise _raised(given, error) from error


def _raised(given: str, error: BaseException) -> DataError:
    return DataError(
        f"--calibration {given} must return inputs when it is called without arguments, got {_line(error)}: "
        "correct the function, or save the inputs with numpy.savez and give that file"
    )


def _line(error: BaseException) -> str:
    """Type and text of an error."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
