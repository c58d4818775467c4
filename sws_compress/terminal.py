"""Output of the command line: a progress bar on standard error, JSON or a table on standard output."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sws_compress.errors import OutputError

if TYPE_CHECKING:
    from rich.console import RenderableType


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bar on standard error; it is silent where there is no terminal.

    Yields
    ------
    callable
        Called as ``show(description, done, total)``.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(None), TimeElapsedColumn(), TimeRemainingColumn())
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, expand=True, disable=silent) as progress:
        task = progress.add_task("loading", total=None)
        yield lambda description, done, total: progress.update(
            task, description=description, completed=done, total=total
        )


def show(values: dict[str, Any], table: Callable[[], RenderableType], *, as_json: bool) -> None:
    """Print values as JSON, or a table, on standard output.

    Parameters
    ----------
    values : dict
        What JSON shows; NaN and infinities become null.
    table : callable
        Makes the table.
    as_json : bool
        Whether to print JSON.

    Raises
    ------
    OutputError
        If standard output cannot be written.
    """
    try:
        if as_json:
            print(json.dumps(_strict(values), indent=2, allow_nan=False))
        else:
            from rich.console import Console

            Console(highlight=False).print(table())
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence_standard_output()
        raise OutputError(f"standard output must be writable, got '{error.strerror}': make room for it") from error


def _strict(value: Any) -> Any:
    """``value`` with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def silence_standard_output() -> None:
    """Send standard output nowhere, so that Python does not complain at exit about what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
