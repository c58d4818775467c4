"""The goal of a training run as a number that training can measure, and whether it can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sws_compress.errors import ArgumentError
from sws_compress.metric_sense import Sense
from sws_compress.pipelines.job import Job
from sws_compress.pipelines.metrics import constant_metric, refuse_wrong_sense, wrong_sense_note
from sws_compress.pipelines.projected import Scale
from sws_compress.pipelines.source import Source
from sws_compress.requests import Goal
from sws_compress.train.request import FineTuned
from sws_compress.train.targets import USUAL_LOSS_SHARE, SteeringTarget

if TYPE_CHECKING:
    from torch import nn

EXPECTED_RATIO = 20.0
"""How many times smaller a file is taken to become where no size is asked for."""


def bytes_asked_for(goal: Goal | None, source: Source) -> float:
    """Bytes of the file, as far as they are known before the run."""
    if goal is not None and goal.target_bytes is not None:
        return goal.target_bytes
    return source.dense_bytes / (EXPECTED_RATIO if goal is None or goal.ratio is None else goal.ratio)


def _default_target(before: float | None, sense: Sense) -> SteeringTarget:
    """What a run without a goal is steered to: a share of the metric, or of what the network knows."""
    if before is None:
        return SteeringTarget(loss_share=USUAL_LOSS_SHARE)
    if before == 0:
        raise ArgumentError("max_drop must be given where evaluate returns 0 for the network, got none: say how far")
    return SteeringTarget(metric_drop=sense.usual_drop(before))


def steering_target(
    request: FineTuned, job: Job, source: Source, scale: Scale, before: float | None
) -> SteeringTarget | None:
    """The goal as a number that training can measure; None where a price of a bit is given.

    Raises
    ------
    ArgumentError
        If a size is above that of the plain file, or below that of the smallest file.
    """
    if request.bit_price is not None:
        return None
    goal = job.goal
    if goal is None:
        return _default_target(before, job.sense)
    if goal.max_drop is not None:
        return SteeringTarget(metric_drop=goal.max_drop)
    if goal.target_bytes is not None:
        if not goal.target_bytes < source.dense_bytes:
            raise ArgumentError(
                f"target_bytes must be below the {source.dense_bytes} of the plain file, got {goal.target_bytes}: "
                "ask for fewer"
            )
        least = scale.least()
        if goal.target_bytes <= least.file_bytes:
            raise ArgumentError(
                f"target_bytes must be above {least.file_bytes} for this network, got {goal.target_bytes}: its "
                f"smallest file takes so many, {least.parts}"
            )
        return SteeringTarget(file_bytes=goal.target_bytes)
    ratio, least = goal.ratio or 1.0, scale.least()
    if not ratio * least.file_bytes < source.dense_bytes:
        raise ArgumentError(
            f"ratio must be below {source.dense_bytes / least.file_bytes:.2f} for this network, got {ratio}: "
            f"of its {source.dense_bytes} bytes the smallest file takes {least.file_bytes}, {least.parts}"
        )
    return SteeringTarget(file_bytes=round(source.dense_bytes / ratio))


def questioned(network: nn.Module, job: Job, before: float | None, *, steered: bool) -> tuple[str, ...]:
    """A line if a network of constant outputs has a better metric.

    Raises
    ------
    ArgumentError
        If the run is steered by that metric: it would be steered to constant outputs.
    """
    constant = None if job.evaluate is None or before is None else constant_metric(network, job.evaluate)
    if before is None or constant is None:
        return ()
    if steered:
        refuse_wrong_sense(before, constant, job.sense)
    return wrong_sense_note(before, constant, job.sense)
