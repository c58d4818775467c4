"""All that is told of a compressed file on one page, as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sws_compress.onnx_io.analyse.tensor_kinds import FLOAT
from sws_compress.ort.running_cost import RunningCost
from sws_compress.report.file_parts import FileParts
from sws_compress.report.file_reports import Inspection
from sws_compress.report.inspection import TensorRow
from sws_compress.report.result import CompressionResult
from sws_compress.report.weight_charts import WeightChart

MAX_CHARTS = 32
"""Tensors that are drawn. Each takes up to 35 kB of the page."""

MIN_CHARTED_WEIGHTS = 16
"""Smaller tensors are not drawn."""


@dataclass(frozen=True, eq=False)
class ModelReport:
    """What the page of a file shows.

    Parameters
    ----------
    inspection : Inspection
        The file, tensor by tensor, with what its decoding costs.
    result : CompressionResult, optional
        What was done to it, where that is known.
    original_bytes : int, optional
        Size of the model that was compressed, where it is known.
    charts : mapping of str to WeightChart
        What is drawn, by the names of tensors.
    code : mapping of str to str
        How to load the file, by language.
    cost, cost_before : RunningCost, optional
        What the file and its original take to load and to run on this machine; None where that was not measured.
    """

    inspection: Inspection
    result: CompressionResult | None = None
    original_bytes: int | None = None
    charts: Mapping[str, WeightChart] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    cost: RunningCost | None = None
    cost_before: RunningCost | None = None

    @property
    def path(self) -> Path:
        """The file."""
        return self.inspection.path

    @property
    def file_bytes(self) -> int:
        """Its size with all files of external data, in bytes."""
        return self.inspection.disk_bytes

    @property
    def dense_bytes(self) -> int | None:
        """Size of the same network as a plain file: the one that the result names, else of the original file."""
        return self.original_bytes if self.result is None else self.result.dense_bytes

    @property
    def parts(self) -> FileParts:
        """The bytes of the file by kind."""
        known = None if self.result is None else self.result.parts
        return FileParts.of(self.inspection.parts.rows, self.file_bytes) if known is None else known

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON; without the pictures."""
        return {
            "file": str(self.path),
            "file_bytes": self.file_bytes,
            "dense_bytes": self.dense_bytes,
            "inspection": self.inspection.to_json(),
            "result": None if self.result is None else self.result.to_json(),
            "charts": {name: chart.to_json() for name, chart in self.charts.items()},
            "loading": dict(self.code),
            "running": _cost_json(self.cost),
            "running_before": _cost_json(self.cost_before),
        }


def _cost_json(cost: RunningCost | None) -> dict[str, Any] | None:
    return None if cost is None else dataclasses.asdict(cost)


def charted_tensors(rows: tuple[TensorRow, ...]) -> list[str]:
    """Names of the tensors that are drawn: those with the most bytes, in the order of the file."""
    floats = [row for row in rows if row.kind == FLOAT and math.prod(row.shape) >= MIN_CHARTED_WEIGHTS]
    chosen = {row.name for row in sorted(floats, key=lambda row: -row.file_bytes)[:MAX_CHARTS]}
    return [row.name for row in floats if row.name in chosen]
