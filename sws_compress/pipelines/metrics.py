"""The caller's metric of the model that is compressed, whether it is a module or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sws_compress.module_modes import evaluating
from sws_compress.pipelines.file_metric import finite, metric
from sws_compress.pipelines.job import Job, Metric
from sws_compress.pipelines.source import Source

if TYPE_CHECKING:
    from torch import nn


def metric_of(module: nn.Module | None, job: Job) -> float | None:
    """The caller's metric of a module; None without one of the two."""
    return None if module is None or job.evaluate is None else measured(module, job.evaluate)


def metric_before(source: Source, job: Job) -> float | None:
    """The caller's metric of the original, module or file; None without one."""
    found = metric_of(source.module, job) if job.file_metric is None else job.file_metric.before
    return None if found is None else finite(found)


def measured(module: nn.Module, evaluate: Metric) -> float:
    """The metric of a module in evaluation mode."""
    with evaluating(module):
        return metric(evaluate, module, "the module")
