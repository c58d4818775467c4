"""What the modules that draw share, and the way to them: matplotlib is an optional dependency."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sws_compress.errors import ArgumentError
from sws_compress.terminal.printing import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NAME_CHARACTERS = 48
"""Characters of a name that fit above a panel."""


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
            f"a picture must have matplotlib to be drawn, got '{error}': pip install 'sws-compress[pictures]'"
        ) from error


def short(name: str) -> str:
    """A name that fits above a panel: a long one loses its middle.

    Examples
    --------
    >>> short("encoder.layers.11.self_attention.query_key_value_projection.weight")
    'encoder.layers.11....key_value_projection.weight'
    """
    if len(name) <= NAME_CHARACTERS:
        return name
    start = 2 * (NAME_CHARACTERS - 3) // 5  # what tells names apart is mostly at the end
    return f"{name[:start]}...{name[start + 3 - NAME_CHARACTERS :]}"


def heading(axes: Axes, text: str) -> None:
    """Title of a panel, flush left, as it is: dollars and backslashes in names are no formula."""
    axes.set_title(visible(text), fontsize=10, loc="left", parse_math=False)
