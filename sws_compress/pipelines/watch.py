"""Watching a run while it trains: a line for the progress bar, a log to plot, an animation of the weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sws_compress.errors import ArgumentError
from sws_compress.files import AnyPath, checked_output
from sws_compress.pipelines.job import OnProgress
from sws_compress.report.drawing import drawing
from sws_compress.report.frames import WeightFrames
from sws_compress.report.log import COLUMNS, TrainingLog, open_log
from sws_compress.train.request import Log

if TYPE_CHECKING:
    from sws_compress.train.prior import SoftWeightSharing
    from sws_compress.train.progress import Progress

LOG_EVERY = 10
"""Steps a row: as often as the EM steps of the hard stage."""


@dataclass(frozen=True)
class Watch:
    """What ``train.loop.fine_tune`` is to call."""

    on_progress: Callable[[Progress], None]
    on_step: Callable[[SoftWeightSharing], None] | None


@contextmanager
def watching(on_progress: OnProgress, log: Log | None, frames: AnyPath | None) -> Iterator[Watch]:
    """Show each step with ``on_progress``, write every LOG_EVERY-th, the first and the last to ``log``; at the end
    write ``frames``, a GIF.

    The animation shows what this process trained: not what went before a resumption, nor a run that broke down.
    Raises ArgumentError or OutputError before the run where one of them cannot be written.
    """
    animation = None if frames is None else checked_animation(frames)
    recorder = WeightFrames()
    sink = None if log is None or callable(log) else open_log(_checked_log(log))
    record = log if callable(log) else None if sink is None else _writing(sink)

    def show(progress: Progress) -> None:
        on_progress(description(progress), progress.step, progress.total_steps)
        if record is not None and _due(progress):
            record(progress)

    try:
        yield Watch(show, None if animation is None else recorder.add)
    finally:
        if sink is not None:
            sink.close()
    if animation is not None and recorder.snapshots:
        recorder.save(animation)


def _due(progress: Progress) -> bool:
    """Whether a step gets a row. By its number alone, so that a resumed run leaves the rows of one that was not."""
    return progress.step % LOG_EVERY == 0 or progress.step in (1, progress.total_steps)


def description(progress: Progress) -> str:
    """For a bar in 80 columns: stage, loss, and of metric, projected bytes of the file and ratio what is known."""
    parts = [progress.stage.value, f"loss {progress.loss:.3f}"]
    if progress.metric is not None:
        parts.append(f"metric {progress.metric:.4g}")
    if progress.projected_bytes is not None:
        parts.append(f"{progress.projected_bytes:,} bytes")
    if progress.ratio is not None:
        parts.append(f"{progress.ratio:.1f}x")
    return "  ".join(parts)


def _writing(sink: TrainingLog) -> Callable[[Progress], None]:
    def write(progress: Progress) -> None:
        sink.write({name: progress.stage.value if name == "stage" else getattr(progress, name) for name in COLUMNS})

    return write


def _checked_log(log: AnyPath) -> Path:
    path = Path(log)
    return path if path.is_dir() or not path.suffix else checked_output(path, "log")


def checked_animation(frames: AnyPath) -> Path:
    """The path of an animation that can be drawn and written. Else ArgumentError or OutputError."""
    path = checked_output(frames, "frames")
    if path.suffix.lower() != ".gif":
        raise ArgumentError(f"frames must end in .gif, got {os.fspath(frames)}: it is an animated picture")
    drawing("animation")
    return path
