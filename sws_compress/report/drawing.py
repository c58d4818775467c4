"""What the modules that draw share, and the way to them: matplotlib is an optional dependency."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError
from sws_compress.terminal.printing import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def heading(axes: Axes, text: str) -> None:
    """Title of a panel, flush left, as it is: dollars and backslashes in names are no formula."""
    axes.set_title(visible(text), fontsize=10, loc="left", parse_math=False)
