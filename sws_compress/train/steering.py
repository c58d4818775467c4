"""How a run finds the size it was asked for: bytes of the file, or a drop of the caller's metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sws_compress.errors import ArgumentError
from sws_compress.train.prior import SoftWeightSharing
from sws_compress.train.saved_state import check_number, check_state_dict
from sws_compress.train.schedule import Schedule, Stage
from sws_compress.train.targets import DEFAULT_CODED_RATIO, FLOAT_BITS, AssignedWeights, SteeringTarget

MEASURED_AT = (0.0, 0.25, 0.45, 0.56, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 0.98)
"""Shares of the hard stage at which the file is written out and measured, which may take a second. What a file has
besides its order-0 bits changes while it shrinks, and a jump at the end could not be trained away."""

SETTLING_MEASUREMENTS = 8
"""Measurements after assignments are frozen. Each corrects them, until the file is within `BYTES_TOLERANCE`."""

BYTES_TOLERANCE = 0.005
"""Error of a file, as a share of the bytes asked for, that needs no correction."""

LEAST_BRACKET_SHARE = 0.1
"""Least distance of a try from one that was too small or too large, as a share of what lies between the two. So the
bracket shrinks even where sizes jump."""

GREATEST_BYTES_SLOPE = 2.0
"""Bytes that a file is taken to lose per byte of coded bits, at most: more than 1 where units die with all their
weights."""

LEAST_BITS_SHARE = 0.05
"""Share of the present coded bits: the least to aim for at once. Below it a file is all codebook and graph."""

SEARCH_RANGE_NATS = math.log(400)
"""Logarithm of the factor by which a size may fall between the start of the hard stage and `SEARCH_ENDS_AT`, if the
metric allows."""

SEARCH_ENDS_AT = 0.65
"""Share of the run in which ``metric_drop`` looks for its size: the metric is measured once per epoch, so this takes
longer than the way to a known size."""

SPEED_SHARE_AFTER_SEARCH = 0.35
"""Speed at which sizes move after the search, as a share of the speed before: weights should come to rest."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Measures of the network as it is.

    Parameters
    ----------
    file_bytes : callable, optional
        Bytes that the file of the network would have; called about a dozen times, from the hard stage on.
    validate : callable, optional
        The caller's metric, higher is better; called after every epoch from the hard stage on. With ``metric_drop``
        also at the start and at the end.
    """

    file_bytes: Callable[[], int] | None = None
    validate: Callable[[], float] | None = None


@dataclass(frozen=True)
class Measured:
    """A measured file: its coded bits, its bytes, and the price of a bit at which its weights were assigned."""

    coded_bits: float
    file_bytes: int
    bit_price: float

    @property
    def other_bytes(self) -> float:
        """Bytes of the file beyond the coded bits."""
        return self.file_bytes - self.coded_bits / 8

    def error(self, target_bytes: int) -> float:
        """Distance from ``target_bytes``, as a share of them."""
        return abs(self.file_bytes - target_bytes) / target_bytes


@dataclass
class Kept:
    """The smallest network so far that loses no more than allowed."""

    coded_bits: float
    metric: float
    model: dict[str, torch.Tensor]


class Steering:
    """Measures a run, and tells its prior how many coded bits to aim for: it is a ``SizeTarget``.

    Parameters
    ----------
    target : SteeringTarget or None
        What the run is steered to; None if it follows a price of a bit. With None or ``coded_ratio`` the run is
        measured, but not steered.
    model : torch.nn.Module
        The network that is trained.
    elements : int
        Number of compressed weights.
    schedule : Schedule
        When the stages begin.
    measures : Measures
        How file and metric are measured.

    Attributes
    ----------
    metric : float or None
        The caller's metric as last measured.
    final_bits : float
        Coded bits that the run should end at, as far as is known now.

    Raises
    ------
    ArgumentError
        If the target cannot be measured.
    """

    def __init__(
        self, target: SteeringTarget | None, model: nn.Module, elements: int, schedule: Schedule, measures: Measures
    ) -> None:
        self._target_bytes = None if target is None else target.file_bytes
        self._metric_drop = None if target is None else target.metric_drop
        if self._target_bytes is not None and measures.file_bytes is None:
            raise ArgumentError("file_bytes must come with a measure of the file, got none: pass Measures(file_bytes=)")
        if self._metric_drop is not None and measures.validate is None:
            raise ArgumentError("metric_drop must come with a metric, got none: pass Measures(validate=)")
        self._model, self._schedule = model, schedule
        self._file_bytes, self._validate = measures.file_bytes, measures.validate
        if self._target_bytes is None:
            self.final_bits = FLOAT_BITS * elements / DEFAULT_CODED_RATIO  # until the metric was measured
        else:
            self.final_bits = 8.0 * self._target_bytes  # until a measurement tells what else is in the file
        self._held_bits: float | None = None
        self._measurements = 0
        self._last: Measured | None = None
        self.metric: float | None = None
        self._metric_before: float | None = None
        self._kept: Kept | None = None

    @property
    def steers(self) -> bool:
        """Whether the run is to ask for the bits to aim at."""
        return self._target_bytes is not None or self._metric_drop is not None

    # -- what the prior asks ---------------------------------------------------------------------------------------

    def bits(self, progress: float, first_bits: float) -> float:
        """Coded bits to aim for: what the last metric allows, else the schedule's path to ``final_bits``."""
        if self._held_bits is not None:
            return self._held_bits
        return self._schedule.target_bits(progress, first_bits, self.final_bits)

    def settle(self, weights: AssignedWeights) -> None:
        """Assign the weights for the last time, at the price of a bit whose file is closest to the bytes asked for."""
        self._measurements = len(MEASURED_AT) + 1
        target = self._target_bytes
        if self._file_bytes is None:
            return
        tried = [self._measure(self._file_bytes, weights.coded_bits, weights.bit_price)]
        if target is None:
            return
        while tried[-1].error(target) >= BYTES_TOLERANCE:
            if len(tried) == SETTLING_MEASUREMENTS:  # sizes jump where another code becomes the best
                best = min(tried, key=lambda one: one.error(target))
                weights.assign_at(best.bit_price)
                self._last = best
                return
            weights.assign_bits(bits_between(tried, target) or self.final_bits)
            tried.append(self._measure(self._file_bytes, weights.coded_bits, weights.bit_price))

    # -- what the loop calls ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Measure the metric of the float network, which ``metric_drop`` counts from.

        Raises
        ------
        ArgumentError
            If it is not a finite number.
        """
        if self._metric_drop is not None and self._validate is not None and self._metric_before is None:
            self._metric_before = float(self._validate())
            if not math.isfinite(self._metric_before):
                raise ArgumentError(
                    f"the metric of the float network must be a finite number, got {self._metric_before}: "
                    "max_drop counts from it"
                )

    def after_step(self, prior: SoftWeightSharing) -> None:
        """Measure the file when it is time."""
        bits, price = prior.coded_bits, prior.bit_price
        if self._file_bytes is None or bits is None or price is None:
            return
        begin, end = self._schedule.soft_until, self._schedule.tune_from
        due = sum(begin + share * (end - begin) <= prior.progress for share in MEASURED_AT) + prior.tuning
        if due > self._measurements:
            self._measurements = due
            self._measure(self._file_bytes, bits, price)

    def _measure(self, file_bytes: Callable[[], int], coded_bits: float, bit_price: float) -> Measured:
        """Measure the file of the present weights; if bytes are asked for, correct the bits to aim for."""
        found = Measured(coded_bits, file_bytes(), bit_price)
        if self._target_bytes is not None:
            # Where zeros cluster a file is smaller than its order-0 bits, and taken to shrink in proportion to them.
            slope = least = min(8 * found.file_bytes / coded_bits, 1.0)
            if self._last is not None and abs(self._last.coded_bits - coded_bits) > BYTES_TOLERANCE * coded_bits:
                slope = 8 * (self._last.file_bytes - found.file_bytes) / (self._last.coded_bits - coded_bits)
            slope = min(max(slope, least), GREATEST_BYTES_SLOPE)
            aim = coded_bits + 8 * (self._target_bytes - found.file_bytes) / slope
            self.final_bits = max(aim, LEAST_BITS_SHARE * coded_bits)
        self._last = found
        return found

    def projected_bytes(self, coded_bits: float | None) -> int | None:
        """Bytes of the file that weights of ``coded_bits`` would make; None before a file was measured."""
        return None if coded_bits is None or self._last is None else round(self._last.other_bytes + coded_bits / 8)

    def after_epoch(self, prior: SoftWeightSharing, epochs: int) -> None:
        """Measure the metric of the snapped network; with ``metric_drop``, decide the size of the next epoch."""
        bits = prior.coded_bits
        if self._validate is None or bits is None:
            return
        self.metric = float(self._validate())
        if self._metric_drop is None:
            return
        drop = self._drop(self.metric)
        if drop <= 1 and (self._kept is None or bits < self._kept.coded_bits):
            state = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self._kept = Kept(bits, self.metric, state)
        if prior.stage is Stage.HARD:
            speed = SEARCH_RANGE_NATS / max(1.0, epochs * (SEARCH_ENDS_AT - self._schedule.soft_until))
            if prior.progress >= SEARCH_ENDS_AT:
                speed *= SPEED_SHARE_AFTER_SEARCH
            self._held_bits = bits * math.exp(-speed * min(max(1 - drop, -1.0), 1.0))

    def finish(self, prior: SoftWeightSharing) -> None:
        """Restore the smallest network that lost no more than ``metric_drop``, if it is not the last one."""
        if self._metric_drop is None or self._validate is None:
            return
        self.metric = float(self._validate())
        bits = prior.coded_bits
        if self._kept is None or bits is None:
            return
        if self._drop(self.metric) > 1 or self._kept.coded_bits < bits:
            self._model.load_state_dict(self._kept.model)
            self.metric = self._kept.metric

    def _drop(self, metric: float) -> float:
        """Accuracy lost so far, in units of `metric_drop` (1.0 = all of it); inf if the metric is not finite."""
        assert self._metric_before is not None
        assert self._metric_drop is not None
        return (self._metric_before - metric) / self._metric_drop if math.isfinite(metric) else math.inf

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """State as tensors, numbers, lists and dicts."""
        return {
            "final_bits": self.final_bits,
            "held_bits": self._held_bits,
            "measurements": self._measurements,
            "last": None if self._last is None else vars(self._last),
            "metric": self.metric,
            "metric_before": self._metric_before,
            "kept": None if self._kept is None else vars(self._kept),
        }

    def check_saved(self, saved: dict[str, Any]) -> None:
        """Raise an error unless ``saved`` is what `state_dict` returns for this network."""
        check_number("coded bits", saved["final_bits"], least=0)
        check_number("measurements", saved["measurements"], whole=True, least=0)
        for name in ("held_bits", "metric", "metric_before"):
            if saved[name] is not None:
                check_number(name, saved[name])
        if saved["last"] is not None:
            for name, value in vars(Measured(**saved["last"])).items():
                check_number(name, value)
        if saved["kept"] is not None:
            kept = Kept(**saved["kept"])
            check_number("coded bits", kept.coded_bits)
            check_number("metric", kept.metric)
            check_state_dict("network", kept.model, self._model.state_dict())

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from `state_dict`, which `check_saved` has found to be one."""
        self.final_bits, self._held_bits = saved["final_bits"], saved["held_bits"]
        self._measurements = saved["measurements"]
        self._last = None if saved["last"] is None else Measured(**saved["last"])
        self.metric, self._metric_before = saved["metric"], saved["metric_before"]
        self._kept = None if saved["kept"] is None else Kept(**saved["kept"])


def bits_between(tried: Sequence[Measured], target_bytes: int) -> float | None:
    """Coded bits of the target, interpolated from the closest files below and above it; None if there are not both."""
    below = [one for one in tried if one.file_bytes < target_bytes]
    above = [one for one in tried if one.file_bytes > target_bytes]
    if not below or not above:
        return None
    low, high = max(below, key=lambda one: one.file_bytes), min(above, key=lambda one: one.file_bytes)
    share = (target_bytes - low.file_bytes) / (high.file_bytes - low.file_bytes)
    share = min(max(share, LEAST_BRACKET_SHARE), 1 - LEAST_BRACKET_SHARE)
    return low.coded_bits + share * (high.coded_bits - low.coded_bits)
