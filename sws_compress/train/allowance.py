"""How much a run may lose where no size is asked for, of a metric or of what the network knows, and the way there."""

from __future__ import annotations

import math
from collections.abc import Callable

from sws_compress.errors import ArgumentError
from sws_compress.metric_sense import Sense
from sws_compress.train.schedule import Schedule
from sws_compress.train.targets import USUAL_LOSS_SHARE, SteeringTarget

SEARCH_RANGE_NATS = math.log(400)
"""Logarithm of the factor by which a size may fall between the start of the hard stage and `SEARCH_ENDS_AT`, if the
metric allows."""

SEARCH_ENDS_AT = 0.65
"""Share of the run in which ``metric_drop`` looks for its size: the metric is measured once per epoch, so this takes
longer than the way to a known size."""

SPEED_SHARE_AFTER_SEARCH = 0.35
"""Speed at which sizes move after the search, as a share of the speed before: weights should come to rest."""

SEARCH_SLACK = 1.0
"""What may be lost besides while the learning rate is at its start, in usual allowances: that much comes back as the
rate falls. With 5, a U-Net fell too far to come back and ended 9.7 times smaller instead of 12.6, and a perceptron
lost eight times as much at an equal size (networks of ``benchmarks.training`` and of the tutorial, validation parts).
"""


class Allowance:
    """What a run may lose, and how much of it is used: 0 is nothing, 1 all of it.

    Parameters
    ----------
    target : SteeringTarget or None
        What the run is steered to; its ``metric_drop`` or its ``loss_share`` is the allowance.
    validate_float, validate : callable or None
        The caller's metric of the float network, and of the network as its file will hold it.
    share_lost : callable
        How much of what the network knew is lost now (``Collapse.share_lost``).
    sense : Sense
        Whether more or less of the metric is better.

    Attributes
    ----------
    metric_drop, loss_share : float or None
        The allowance; None if it is of another kind, or if there is none.
    metric_before : float or None
        The metric of the float network; None before `start`, or if nothing is counted from it.

    Raises
    ------
    ArgumentError
        If there is no metric to measure the drop of.
    """

    def __init__(
        self,
        target: SteeringTarget | None,
        validate_float: Callable[[], float] | None,
        validate: Callable[[], float] | None,
        share_lost: Callable[[], float],
        sense: Sense,
    ) -> None:
        self.metric_drop = None if target is None else target.metric_drop
        self.loss_share = None if target is None else target.loss_share
        if self.metric_drop is not None and (validate is None or validate_float is None):
            raise ArgumentError("metric_drop must come with a metric, got none: pass Measures(validate=)")
        self._validate_float, self._validate = validate_float, validate
        self._share_lost, self._sense = share_lost, sense
        self.metric_before: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return self.metric_drop is not None or self.loss_share is not None

    def start(self) -> None:
        """Measure the metric of the float network, which ``metric_drop`` counts from.

        Raises
        ------
        ArgumentError
            If it is not a finite number.
        """
        if self.metric_drop is None or self._validate_float is None or self.metric_before is not None:
            return
        self.metric_before = float(self._validate_float())
        if not math.isfinite(self.metric_before):
            raise ArgumentError(
                f"the metric of the float network must be a finite number, got {self.metric_before}: "
                "max_drop counts from it"
            )

    def used(self, metric: float | None, share_lost: float) -> float:
        """Share of the allowance that a network uses; infinite if its metric is not finite, 0 without an allowance."""
        if self.loss_share is not None:
            return share_lost / self.loss_share
        if self.metric_drop is None:
            return 0.0
        if metric is None or self.metric_before is None or not math.isfinite(metric):
            return math.inf
        return self._sense.drop(self.metric_before, metric) / self.metric_drop

    def measured(self) -> tuple[float | None, float]:
        """Metric and share lost of the network as it is: the one that counts, and None or 0 for the other."""
        if self.metric_drop is not None and self._validate is not None:
            return float(self._validate()), 0.0
        return None, self._share_lost()

    def used_now(self) -> float:
        """Share of the allowance that the network uses as it is."""
        return self.used(*self.measured())

    def next_bits(self, coded_bits: float, used: float, schedule: Schedule, progress: float, epochs: int) -> float:
        """Coded bits to aim for after an epoch: fewer the less of the allowance is used, and more beyond it.

        Parameters
        ----------
        coded_bits, used : float
            Size of the network, and the share of the allowance that it uses.
        schedule : Schedule
            When the hard stage begins, and how the learning rate falls.
        progress : float
            Share of the run that is done.
        epochs : int
            Length of the run.
        """
        speed = SEARCH_RANGE_NATS / max(1.0, epochs * (SEARCH_ENDS_AT - schedule.soft_until))
        if progress >= SEARCH_ENDS_AT:
            speed *= SPEED_SHARE_AFTER_SEARCH
        allowed = 1 + self._slack(schedule.learning_rate(progress))
        return coded_bits * math.exp(-speed * min(max(1 - used / allowed, -1.0), 1.0))

    def _slack(self, learning_rate: float) -> float:
        """Allowances that may be used besides, at a share of the first learning rate."""
        if self.loss_share is not None:
            return SEARCH_SLACK * learning_rate * USUAL_LOSS_SHARE / self.loss_share
        if self.metric_drop is None or self.metric_before is None:
            return 0.0
        return SEARCH_SLACK * learning_rate * self._sense.usual_drop(self.metric_before) / self.metric_drop
