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
from sws_compress.train.schedule import Schedule, Stage

MEASURED_AT = (0.0, 0.25, 0.45, 0.56, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94, 0.98)
"""Shares of the hard stage at which the file is written out and measured, which may take a second: what a file has
besides its order-0 bits changes while it shrinks, and a jump at the end could not be trained away."""

LAST_TRIES = 8
"""Measurements when assignments are frozen, each of which corrects them, until ``CLOSE`` to the bytes asked for."""

INSIDE = 0.1
"""How near, as a share of what lies between them, a try may come to one that was too small or too large."""

CLOSE = 0.005

MOST_SLOPE = 2.0
"""Bytes that a file is taken to lose per byte of coded bits: more than one where units die with all their weights."""

SMALLEST_SHARE = 0.05
"""Of the present coded bits: the least to aim for at once. Below it a file is all codebook and graph."""

REACH = math.log(400)
"""How far sizes may fall, in nats, from the start of the hard stage to ``SEARCHED_UNTIL`` when the metric allows."""

SEARCHED_UNTIL = 0.65
"""Share of the run in which ``max_drop`` looks for its size: once an epoch, so it needs longer than a known one."""

SETTLING = 0.35
"""Speed afterwards, where weights should come to rest, as a share of the speed before."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the run is steered to, at most one of three; none leaves the prior to its own ratio.

    target_bytes    of the whole file
    max_drop        points by which the metric (higher is better) may fall
    strength        the price of a bit (lambda) at the end of its ramp, in mean sensitivity-weighted squared weights
    """

    target_bytes: int | None = None
    max_drop: float | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in vars(self).items() if value is not None]
        if len(given) > 1:
            raise ArgumentError(f"the size must be steered by one of {', '.join(given)}, got all: leave one")
        for name in given:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ArgumentError(f"{name} must be > 0, got {value}: leave it out to give a ratio")


@dataclass
class Kept:
    """The smallest network so far that loses no more than allowed."""

    coded_bits: float
    metric: float
    model: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Measures:
    """Of the network as it is.

    file_bytes    bytes that its file would have; called a few times in the hard stage
    validate      the caller's metric, higher is better; called after every epoch of the hard stage, with ``max_drop``
                  also at the start and at the end
    """

    file_bytes: Callable[[], int] | None = None
    validate: Callable[[], float] | None = None


@dataclass(frozen=True)
class Measured:
    """Coded bits, bytes of the file, and the price of a bit at which the weights were assigned."""

    coded_bits: float
    file_bytes: int
    rate: float

    @property
    def other_bytes(self) -> float:
        """Of the file: all but the coded bits."""
        return self.file_bytes - self.coded_bits / 8

    def misses(self, target: int) -> float:
        """By what share of the bytes asked for."""
        return abs(self.file_bytes - target) / target


def _between(tried: Sequence[Measured], target: int) -> float | None:
    """Coded bits on the line from the largest file below the target to the smallest above; None if there are not both.

    Not nearer to either than INSIDE, so that what lies between them shrinks even where sizes jump.
    """
    below = [one for one in tried if one.file_bytes < target]
    above = [one for one in tried if one.file_bytes > target]
    if not below or not above:
        return None
    low, high = max(below, key=lambda one: one.file_bytes), min(above, key=lambda one: one.file_bytes)
    share = (target - low.file_bytes) / (high.file_bytes - low.file_bytes)
    return low.coded_bits + min(max(share, INSIDE), 1 - INSIDE) * (high.coded_bits - low.coded_bits)


class Steering:
    """Watches a run and tells its prior what to aim for."""

    def __init__(
        self,
        goal: Goal,
        model: nn.Module,
        prior: SoftWeightSharing,
        schedule: Schedule,
        measures: Measures,
    ) -> None:
        if goal.target_bytes is not None and measures.file_bytes is None:
            raise ArgumentError("target_bytes must come with a measure of the file, got none: pass file_bytes")
        if goal.max_drop is not None and measures.validate is None:
            raise ArgumentError("max_drop must come with a metric, got none: pass evaluate")
        self._goal, self._model, self._prior, self._schedule = goal, model, prior, schedule
        self._file_bytes, self._validate = measures.file_bytes, measures.validate
        if goal.target_bytes is not None:
            prior.final_bits = 8.0 * goal.target_bytes  # until the first measurement tells what else is in the file
        self._measured = 0
        self._last: Measured | None = None
        self.metric: float | None = None
        self._before: float | None = None
        self._kept: Kept | None = None

    @property
    def projected_bytes(self) -> int | None:
        """Of the file that the present weights would make; None before it was measured."""
        bits = self._prior.coded_bits
        return None if bits is None or self._last is None else round(self._last.other_bytes + bits / 8)

    def start(self) -> None:
        """The metric of the float network, which ``max_drop`` counts from."""
        if self._goal.max_drop is not None and self._validate is not None and self._before is None:
            self._before = float(self._validate())
            if not math.isfinite(self._before):
                raise ArgumentError(
                    f"the metric of the float network must be a finite number, got {self._before}: "
                    "max_drop counts from it"
                )

    def after_step(self) -> None:
        """Measures the file when it is time, and corrects the coded bits that the prior aims for."""
        prior = self._prior
        if self._file_bytes is None or prior.coded_bits is None or self._measured > len(MEASURED_AT):
            return
        if prior.tuning:
            self._measured = len(MEASURED_AT) + 1
            self._settle(self._file_bytes)
            return
        begin, end = self._schedule.soft_until, self._schedule.tune_from
        due = [begin + share * (end - begin) <= prior.progress for share in MEASURED_AT]
        if sum(due) > self._measured:
            self._measured = sum(due)
            self._measure(self._file_bytes)

    def _settle(self, file_bytes: Callable[[], int]) -> None:
        """Assigns the weights for the last time, at the price of a bit whose file is closest to the bytes asked for."""
        prior, target = self._prior, self._goal.target_bytes
        tried = [self._measure(file_bytes)]
        if target is None:
            return
        while tried[-1].misses(target) >= CLOSE:
            if len(tried) == LAST_TRIES:  # sizes jump where another code becomes the best
                best = min(tried, key=lambda one: one.misses(target))
                prior.meet_rate(best.rate)
                self._last = best
                return
            prior.meet_bits(_between(tried, target) or prior.final_bits)
            tried.append(self._measure(file_bytes))

    def _measure(self, file_bytes: Callable[[], int]) -> Measured:
        """The file that the present weights would make; sets what the prior aims for, if bytes are asked for."""
        bits, rate = self._prior.coded_bits, self._prior.rate
        assert bits is not None
        assert rate is not None
        found = Measured(bits, file_bytes(), rate)
        target = self._goal.target_bytes
        if target is not None:
            # Where zeros cluster a file is smaller than its order-0 bits, and taken to shrink in proportion to them.
            slope = least = min(8 * found.file_bytes / bits, 1.0)
            if self._last is not None and abs(self._last.coded_bits - bits) > CLOSE * bits:
                slope = 8 * (self._last.file_bytes - found.file_bytes) / (self._last.coded_bits - bits)
            slope = min(max(slope, least), MOST_SLOPE)
            self._prior.final_bits = max(bits + 8 * (target - found.file_bytes) / slope, SMALLEST_SHARE * bits)
        self._last = found
        return found

    def after_epoch(self, epochs: int) -> None:
        """The metric of the snapped network; with ``max_drop``, how much smaller it may become until the next epoch."""
        prior = self._prior
        if self._validate is None or prior.coded_bits is None:
            return
        self.metric = float(self._validate())
        if self._goal.max_drop is None or self._before is None:
            return
        drop = self._drop(self.metric)
        if drop <= 1 and (self._kept is None or prior.coded_bits < self._kept.coded_bits):
            state = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self._kept = Kept(prior.coded_bits, self.metric, state)
        if prior.stage is Stage.HARD:
            speed = REACH / max(1.0, epochs * (SEARCHED_UNTIL - self._schedule.soft_until))
            if prior.progress >= SEARCHED_UNTIL:
                speed *= SETTLING
            prior.hold_bits(prior.coded_bits * math.exp(-speed * min(max(1 - drop, -1.0), 1.0)))

    def finish(self) -> None:
        """With ``max_drop``: the smallest network that lost no more comes back, if it is not the last one."""
        if self._goal.max_drop is None or self._before is None or self._validate is None:
            return
        self.metric = float(self._validate())
        bits = self._prior.coded_bits
        if self._kept is None or bits is None:
            return
        if self._drop(self.metric) > 1 or self._kept.coded_bits < bits:
            self._model.load_state_dict(self._kept.model)
            self.metric = self._kept.metric

    def _drop(self, metric: float) -> float:
        """By how many ``max_drop`` it lies below the float network's; infinite if it is no number."""
        assert self._before is not None
        assert self._goal.max_drop is not None
        return (self._before - metric) / self._goal.max_drop if math.isfinite(metric) else math.inf

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, lists and dicts."""
        return {
            "measured": self._measured,
            "last": None if self._last is None else vars(self._last),
            "metric": self.metric,
            "before": self._before,
            "kept": None if self._kept is None else vars(self._kept),
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self._measured = saved["measured"]
        self._last = None if saved["last"] is None else Measured(**saved["last"])
        self.metric, self._before = saved["metric"], saved["before"]
        self._kept = None if saved["kept"] is None else Kept(**saved["kept"])
