"""Watching a run while it trains: a line for the progress bar, a log to plot, an animation of the weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.errors import ArgumentError
from sws_compress.files import AnyPath, checked_output
from sws_compress.report.drawing import drawing
from sws_compress.report.frames import WeightFrames
from sws_compress.report.log import COLUMNS, TrainingLog, open_log
from sws_compress.terminal.progress_bar import LOGGER, OnProgress
from sws_compress.train.request import Log

if TYPE_CHECKING:
    from sws_compress.train.prior import SoftWeightSharing
    from sws_compress.train.progress import Progress

STEPS_PER_ROW = 10
"""Optimiser steps per row of the log: as many as between two EM steps of the hard stage."""


@dataclass(frozen=True)
class Watch:
    """What a training run calls.

    Parameters
    ----------
    on_progress : callable
        Called with the progress after every step.
    on_step : callable or None
        Called with the prior after every step.
    """

    on_progress: Callable[[Progress], None]
    on_step: Callable[[SoftWeightSharing], None] | None


@contextmanager
def watching(on_progress: OnProgress, log: Log | None, frames: AnyPath | None) -> Iterator[Watch]:
    """Watch a run: report every step, log some of them, and write an animation at the end.

    Parameters
    ----------
    on_progress : callable
        Called as ``on_progress(description, done, total)`` after every step.
    log : str, path, callable or None
        Gets every STEPS_PER_ROW-th step, the first and the last.
    frames : str, path or None
        A .gif file. The animation shows what this process trained: a resumed run lacks what came before, and a run
        that broke down has none.

    Yields
    ------
    Watch
        What the run is to call.

    Raises
    ------
    ArgumentError, OutputError
        If the log or the animation cannot be written. They are raised before the run.
    """
    animation = None if frames is None else checked_animation(frames)
    recorder = WeightFrames()
    sink = None if log is None or callable(log) else open_log(_checked_log(log))
    record = log if callable(log) else None if sink is None else _writing(sink)

    before: Progress | None = None

    def show(progress: Progress) -> None:
        nonlocal before
        on_progress(progress.line, progress.step, progress.total_steps)
        if before is not None and progress.epoch != before.epoch:
            _log_epoch(before, progress)
        before = progress
        if record is not None and _due(progress):
            record(progress)

    try:
        yield Watch(show, None if animation is None else recorder.add)
    finally:
        if sink is not None:
            sink.close()
    if before is not None:
        _log_epoch(before, before)
    if animation is not None and recorder.snapshots:
        recorder.save(animation)


def _log_epoch(last: Progress, known: Progress) -> None:
    """Tell the log of an epoch: its last step, with the metric and the bytes that are known after it."""
    LOGGER.info("%s", replace(last, metric=known.metric, projected_bytes=known.projected_bytes).line)


def _due(progress: Progress) -> bool:
    """Whether a step gets a row.

    The number of the step decides alone, so that a resumed run leaves the same rows as one without interruption.
    """
    return progress.step % STEPS_PER_ROW == 0 or progress.step in (1, progress.total_steps)


def _writing(sink: TrainingLog) -> Callable[[Progress], None]:
    def write(progress: Progress) -> None:
        sink.write({name: progress.stage.value if name == "stage" else getattr(progress, name) for name in COLUMNS})

    return write


def _checked_log(log: AnyPath) -> Path:
    path = Path(log)
    return path if path.is_dir() or not path.suffix else checked_output(path, "log")


def checked_animation(frames: AnyPath) -> Path:
    """The path of an animation, if it can be drawn and written.

    Raises
    ------
    ArgumentError, OutputError
        If it cannot.
    """
    path = checked_output(frames, "frames")
    if path.suffix.lower() != ".gif":
        raise ArgumentError(f"frames must end in .gif, got {os.fspath(frames)}: it is an animated picture")
    drawing("animation")
    return path
