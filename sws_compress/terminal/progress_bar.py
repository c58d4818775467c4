"""What a call tells while it works: a bar on standard error, the caller's own function, and the log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from sws_compress.errors import ArgumentError
from sws_compress.terminal.printing import visible

if TYPE_CHECKING:
    from rich.console import Console

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Called as ``on_progress(description, done, total)``; the total is 0 where nobody knows how much there is to do."""

LOGGER = logging.getLogger("sws_compress")
"""The log of the package. It says nothing until the program that uses the package gives it a handler."""

LOGGER.addHandler(logging.NullHandler())

SPEED_SECONDS = 600
"""The time that is left is estimated from the work of so many seconds: layers differ in how long they take."""

SAMPLE_SECONDS = 0.25
"""Seconds between two samples of that speed: rich keeps a thousand, which are to span epochs and their evaluation."""

PROGRESS_STEPS = 10_000
"""Units of the progress of work that has parts."""

_drawn = threading.Lock()
"""Held by the bar that is drawn: two on one terminal would overwrite each other."""


def silent(description: str, done: int, total: int) -> None:
    """Progress that nobody looks at."""


def part_of_progress(on_progress: OnProgress, first: float, last: float) -> OnProgress:
    """Progress of a part of the work, from a share of the whole to another, as that of the whole."""

    def told(description: str, done: int, total: int) -> None:
        share = first + (last - first) * done / max(total, 1)
        on_progress(description, round(PROGRESS_STEPS * share), PROGRESS_STEPS)

    return told


def progress_of(asked: bool | OnProgress) -> AbstractContextManager[OnProgress]:
    """What the caller wants to see of the progress.

    Parameters
    ----------
    asked : bool or callable
        True for a bar, False for nothing, or a function that is called as ``asked(description, done, total)``.

    Returns
    -------
    context manager of callable
        Gives what the work is to call; it is silent from the end on.

    Raises
    ------
    ArgumentError
        If ``asked`` is something else.
    """
    if asked is True:
        return progress_bar()
    if asked is False:
        return nullcontext(silent)
    if callable(asked):
        return nullcontext(asked)
    raise ArgumentError(
        f"progress must be True, False or a function of description, done and total, got {asked!r}: pass one of them"
    )


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[OnProgress]:
    """Progress bar on standard error, which vanishes at the end, whatever ends the work.

    It is silent where there is neither a terminal nor a notebook, and inside of another bar.

    Parameters
    ----------
    console : Console, optional
        Where to draw; by default standard error.

    Yields
    ------
    callable
        Called as ``show(description, done, total)``.
    """
    from rich.console import Console
    from rich.file_proxy import FileProxy

    console = console or Console(stderr=True)
    notebook = console.is_jupyter and find_spec("ipywidgets") is not None
    other_bar = isinstance(sys.stderr, FileProxy)  # rich puts it there while it draws
    if not (console.is_terminal or notebook) or other_bar or not _drawn.acquire(blocking=False):
        yield silent
        return
    try:
        with _drawing(console) as show:
            yield show
    finally:
        _drawn.release()


@contextmanager
def _drawing(console: Console) -> Iterator[OnProgress]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    description = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
    progress = Progress(
        description,  # names have brackets, which are no markup
        BarColumn(20),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # what goes to a file shall get there
        speed_estimate_period=SPEED_SECONDS,
    )
    with progress, _logs_above():
        task = progress.add_task("loading", total=None)
        known_total, sampled = 0, 0.0

        def show(text: str, done: int, total: int) -> None:
            nonlocal known_total, sampled
            changes: dict[str, Any] = {"description": visible(text, console.encoding)}
            now = time.monotonic()
            if total != known_total or now - sampled >= SAMPLE_SECONDS:
                known_total, sampled = total, now
                changes |= {"completed": done, "total": total or None}
            progress.update(task, **changes)

        yield show


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let handlers of logs that write to the terminal write above the bar: rich redirects only the streams of sys."""
    redirected = {
        id(original): proxy
        for name in ("stdout", "stderr")
        if (proxy := getattr(sys, name)) is not None
        and (original := getattr(proxy, "rich_proxied_file", None)) is not None
    }
    handlers = [*LOGGER.handlers, *logging.getLogger().handlers]
    moved = []
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and id(handler.stream) in redirected:
            moved.append((handler, handler.stream))
            handler.setStream(redirected[id(handler.stream)])
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)
