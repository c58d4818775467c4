"""What travels beside the model through every pipeline, as one object."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from sws_compress.arguments import check_function, check_kind, whole_number
from sws_compress.errors import ArgumentError, DataError
from sws_compress.file_options import FileOptions
from sws_compress.files import checked_output
from sws_compress.metric_sense import Sense
from sws_compress.onnx_io.write.external import LARGEST_FILE_BYTES
from sws_compress.onnx_io.write.output import data_files
from sws_compress.pipelines.file_metric import FileMetric
from sws_compress.requests import Goal, WeightsOnly
from sws_compress.terminal.progress_bar import OnProgress, part_of_progress, silent

if TYPE_CHECKING:
    from torch import nn

Metric: TypeAlias = "Callable[[nn.Module], float]"
"""A metric of a torch module."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes from which a model counts as large.

    Parameters
    ----------
    model_bytes : int
        Bytes of tensors above which a model is streamed; integers count as float32. Below, all encodings of all
        weights, the sessions of the runtime and the copies between them fit into about 4 GB.
    calibrated_bytes : int
        The same for a model that is calibrated: below, it is assigned several times, until its goal is met.
    alone_elements : int
        Elements from which a weight of a streamed model is coded alone and at once. Trying all encodings would take
        minutes and gigabytes.
    file_bytes : int
        Bytes of the file above which its tensors go to a second file beside it.
    """

    model_bytes: int = 256 << 20
    calibrated_bytes: int = 512 << 20
    alone_elements: int = 1 << 16
    file_bytes: int = LARGEST_FILE_BYTES


DEFAULT_LIMITS = Limits()
"""The sizes of all calls that cannot choose them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One call of ``compress`` or ``export``, without the model and the request.

    Parameters
    ----------
    output : Path
        Where the small file goes.
    goal : Goal or None
        The size or the drop of the metric to reach.
    file : FileOptions
        What the file is like.
    inputs
        Example inputs as the caller gave them; None for random ones.
    evaluate : callable or None
        Metric of a torch module.
    sense : Sense
        Whether more or less of the metric is better.
    file_metric : FileMetric or None
        Metric of ONNX files, where the model is one.
    keep : tuple of str
        Patterns of weights that stay as they are.
    overrides : mapping of str to WeightsOnly
        How weights are rounded alone, by pattern.
    seed : int
        Seed of everything that is drawn at random; >= 0.
    strict : bool
        Whether a network whose outputs cannot be compared with the original's is refused.
    on_progress : callable
        Called as ``on_progress(description, done, total)``.
    limits : Limits
        Sizes from which a model is streamed.
    started : float
        Start of the call, on the clock of ``time.perf_counter``.

    Raises
    ------
    ArgumentError
        If ``file`` is no FileOptions, if an override is no WeightsOnly, or if ``seed`` is negative.
    OutputError
        If no file can be written at ``output``.
    """

    output: Path
    goal: Goal | None = None
    file: FileOptions = field(default_factory=FileOptions)
    inputs: Any = None
    evaluate: Metric | None = None
    sense: Sense = Sense.MAX
    file_metric: FileMetric | None = None
    keep: tuple[str, ...] = ()
    overrides: Mapping[str, WeightsOnly] = field(default_factory=dict)
    seed: int = 0
    strict: bool = False
    on_progress: OnProgress = silent
    limits: Limits = field(default_factory=Limits)
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if not isinstance(self.file, FileOptions):
            raise ArgumentError(
                f"file must be FileOptions, got {self.file!r}: for example FileOptions(weight_names=False)"
            )
        check_kind("overrides", self.overrides, Mapping, "{'*.bias': WeightsOnly(quality=35)}")
        for pattern, request in self.overrides.items():
            if not isinstance(request, WeightsOnly):
                raise ArgumentError(
                    f"overrides must be WeightsOnly by pattern, got {request!r} for {pattern!r}: "
                    "for example WeightsOnly(quality=35)"
                )
        object.__setattr__(self, "seed", checked_seed(self.seed))
        check_function("evaluate", self.evaluate, "evaluate(model)")
        checked_output(self.output)

    @property
    def given(self) -> dict[str, object]:
        """What was asked for beside the request, by the names of its arguments."""
        goal = {} if self.goal is None else self.goal.given
        metric = {} if self.evaluate is None else {"evaluate": "one"}
        patterns: dict[str, object] = {"keep": ", ".join(self.keep)} if self.keep else {}
        if self.overrides:
            patterns["overrides"] = ", ".join(self.overrides)
        return {**goal, **metric, **patterns, **self.file.changed}

    def refuse_uncompared(self, compared: bool, reason: str) -> None:
        """Raise DataError under ``strict`` unless outputs were ``compared``; ``reason`` says what they did."""
        if self.strict and not compared:
            raise DataError(
                f"outputs must be compared with the original's when strict is set, got some that {reason}: "
                "give other inputs, or leave strict out"
            )

    def part(self, first: float, last: float) -> Job:
        """The job, of whose progress the work is a part: from a share of the whole to another."""
        return replace(self, on_progress=part_of_progress(self.on_progress, first, last))

    @property
    def written_files(self) -> tuple[Path, ...]:
        """The output and the files beside it that may be overwritten with it."""
        return (self.output, *data_files(self.output))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started


def checked_seed(seed: object) -> int:
    """``seed`` as Python's own number. Raises ArgumentError if it is negative or no whole number."""
    found = whole_number("seed", seed)
    if found < 0:
        raise ArgumentError(f"seed must be >= 0, got {found}: any whole number will do")
    return found
