"""The door to the modules that draw: matplotlib is an optional dependency."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sws_compress.errors import ArgumentError


def drawing(module: str) -> Any:
    """``report.<module>``, one of those that import matplotlib. Raises ArgumentError where it is not installed."""
    try:
        return import_module(f"sws_compress.report.{module}")
    except ImportError as error:
        raise ArgumentError(
            f"a picture must have matplotlib to be drawn, got '{error}': install it, or sws-compress[demo]"
        ) from error
