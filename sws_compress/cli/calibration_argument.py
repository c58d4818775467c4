"""Inputs named on the command line: a file, a folder, or a function of the user's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sws_compress.cli.user_functions import error_text, is_function_name, named_function, to_standard_error
from sws_compress.errors import ArgumentError, DataError

_END = object()
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
    if not is_function_name(given):
        raise ArgumentError(f"--calibration must be {_FORMS}, got {given!r}, which does not exist: check the path")
    try:
        function = named_function("--calibration", given)
        with to_standard_error():
            found = function()
    except (Exception, SystemExit) as error:
        if isinstance(error, ArgumentError):
            raise
        raise _raised(given, error) from error
    return found if _is_whole(found) else _told(given, found)


def _is_whole(found: Any) -> bool:
    """Whether nothing of the user's runs when the inputs are read."""
    whole = isinstance(found, str | bytes | os.PathLike | Mapping | list | tuple) or hasattr(found, "__array__")
    return whole or not isinstance(found, Iterable)


def _told(given: str, found: Iterable[Any]) -> Iterator[Any]:
    """``found``, item by item."""
    try:
        with to_standard_error():
            items = iter(found)
        while True:
            with to_standard_error():
                item = next(items, _END)
            if item is _END:
                return
            yield item
    except (Exception, SystemExit) as error:
        raise _raised(given, error) from error


def _raised(given: str, error: BaseException) -> DataError:
    return DataError(
        f"--calibration {given} must return inputs when it is called without arguments, got {error_text(error)}: "
        "correct the function, or save the inputs with numpy.savez and give that file"
    )
