"""The caller's metric of the model that is compressed, whether it is a module or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sws_compress.errors import ArgumentError, DataError
from sws_compress.metric_sense import Sense
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


def constant_metric(network: nn.Module, evaluate: Metric) -> float | None:
    """The metric of a network whose matrices are all zero, so that its outputs are constant; None if there is none.

    The network is left as it was.
    """
    import torch

    kept = [(each, each.detach().clone()) for each in network.parameters() if each.dim() > 1]
    try:
        with torch.no_grad():
            for parameter, _ in kept:
                parameter.zero_()
        return finite(measured(network, evaluate))
    except DataError:  # where zeros are divided by
        return None
    finally:
        with torch.no_grad():
            for parameter, values in kept:
                parameter.copy_(values)


def refuse_wrong_sense(before: float, constant: float, sense: Sense) -> None:
    """Raise ArgumentError if a metric is better of constant outputs than of the network that is compressed."""
    if sense.drop(before, constant) < 0:
        raise ArgumentError(
            f"evaluate must be better for the network than for one whose weights are all zero, got {before:.4g} and "
            f"{constant:.4g}: {_cure(sense)}"
        )


def wrong_sense_note(before: float, constant: float, sense: Sense) -> tuple[str, ...]:
    """The same as a line."""
    if not sense.drop(before, constant) < 0:
        return ()
    return (
        f"evaluate gives {before:.4g} for the network, and {constant:.4g}, which counts as better, for one whose "
        f"weights are all zero: {_cure(sense)}",
    )


def _cure(sense: Sense) -> str:
    other, word = ("min", "less") if sense is Sense.MAX else ("max", "more")
    return f'if {word} is better, say mode="{other}"; otherwise use a metric that constant outputs do badly in'
