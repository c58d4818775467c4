"""Whether files keep within a size and a metric: as data, as plain values for JSON, and as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from sws_compress.metric_sense import Sense
from sws_compress.report.printed import Printed
from sws_compress.report.tables import summary


@dataclass(frozen=True, repr=False)
class BudgetCheck(Printed):
    """One model file and its limits.

    Parameters
    ----------
    path : Path
        The file.
    file_bytes : int
        Its size with all files of external data, in bytes.
    max_bytes : int, optional
        The largest size that passes.
    metric : float, optional
        The caller's metric of it.
    worst_metric : float, optional
        The worst metric that passes.
    mode : str
        "max" if more of the metric is better, "min" if less is.
    """

    path: Path
    file_bytes: int
    max_bytes: int | None = None
    metric: float | None = None
    worst_metric: float | None = None
    mode: str = "max"

    @property
    def problems(self) -> tuple[str, ...]:
        """What is beyond a limit, a line each, with what to do about it."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.max_bytes is not None and self.file_bytes > self.max_bytes:
            yield (
                f"{self.path} must have at most {self.max_bytes:,} bytes, got {self.file_bytes:,}: compress it to that "
                "size (compress --target-bytes), or allow more (--max-bytes)"
            )
        if self.metric is not None and self.worst_metric is not None and self._is_worse(self.metric, self.worst_metric):
            bound = "at most" if Sense.of(self.mode) is Sense.MIN else "at least"
            yield (
                f"{self.path} must have a metric of {bound} {self.worst_metric:.6g}, got {self.metric:.6g}: compress "
                "it less, or allow more (--max-drop, --worst-metric)"
            )

    def _is_worse(self, metric: float, limit: float) -> bool:
        sense = Sense.of(self.mode)
        return not sense.signed(metric) >= sense.signed(limit)

    @property
    def passed(self) -> bool:
        """Whether the file keeps within all limits."""
        return not self.problems

    def __rich__(self) -> RenderableType:
        return BudgetReport((self,)).__rich__()

    def __repr__(self) -> str:
        return f"<BudgetCheck {self.path}: {self.file_bytes:,} bytes, {'passed' if self.passed else 'FAILED'}>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {**dataclasses.asdict(self), "path": str(self.path)}
        return {**values, "passed": self.passed, "problems": list(self.problems)}


@dataclass(frozen=True, repr=False)
class BudgetReport(Printed):
    """Several files and their limits.

    Parameters
    ----------
    checks : tuple of BudgetCheck
        One for each file.
    """

    checks: tuple[BudgetCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all files keep within their limits."""
        return all(check.passed for check in self.checks)

    def __rich__(self) -> RenderableType:
        return summary([line for check in self.checks for line in _lines(check)])

    def __repr__(self) -> str:
        return f"<BudgetReport of {len(self.checks)} files, {'passed' if self.passed else 'FAILED'}>"

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"passed": self.passed, "files": [check.to_json() for check in self.checks]}


def _lines(check: BudgetCheck) -> Iterator[tuple[str, str]]:
    allowed = "" if check.max_bytes is None else f", {check.max_bytes:,} allowed"
    worst = "" if check.worst_metric is None else f", {check.worst_metric:.6g} asked for"
    metric = "" if check.metric is None else f"; metric {check.metric:.6g}{worst}"
    yield str(check.path), f"{check.file_bytes:,} bytes{allowed}{metric}"
    yield "verdict", "passed" if check.passed else "FAILED"
    for problem in check.problems:
        yield "problem", problem
