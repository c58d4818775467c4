"""The way to the modules that draw: matplotlib is an optional dependency."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sws_compress.errors import ArgumentError


def drawing(module: str) -> Any:
    """Import a module of this room that needs matplotlib.

    Parameters
    ----------
    module : str
        Its name within the room, for example "animation".

    Returns
    -------
    module
        The module.

    Raises
    ------
    ArgumentError
        If matplotlib is not installed.
    """
    try:
        return import_module(f"sws_compress.report.{module}")
    except ImportError as error:
        raise ArgumentError(
            f"a picture must have matplotlib to be drawn, got '{error}': install it, or sws-compress[demo]"
        ) from error
