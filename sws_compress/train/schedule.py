"""How a run tightens: stages, strengths and variance floors as functions of progress."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

from sws_compress.arguments import own_numbers
from sws_compress.errors import ArgumentError

NEVER_ZERO = ("strength", "penalty", "floor", "soft_every", "hard_every")
"""Fields of a schedule that are interpolated geometrically or divided by, so that 0 is no value of theirs."""


class Stage(enum.Enum):
    """Stage of a run.

    Attributes
    ----------
    SOFT
        Every weight is pulled towards the mixture.
    HARD
        Snapped weights are trained; EM steps assign them anew.
    TUNE
        Assignments are frozen, and only the codebooks move.
    """

    SOFT = "soft"
    HARD = "hard"
    TUNE = "tune"


def _between(start: float, end: float, fraction: float) -> float:
    """Geometric interpolation; ``fraction`` is clamped to 0..1."""
    fraction = min(max(fraction, 0.0), 1.0)
    return float(start ** (1 - fraction) * end**fraction)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a run tightens.

    Times are shares of the whole run, 0..1. Spreads are in standard deviations of the tensor. A pair is the value at
    the start and at the end of the soft stage, with geometric interpolation in between.

    Parameters
    ----------
    soft_until : float, default 0.15
        End of the soft stage and start of the hard one. With 1 the run is all soft stage: a regulariser.
    tune_from : float, default 0.93
        Assignments are frozen from here on, and codebooks are tuned. With 1 there is no tuning.
    target_at : float, default 0.45
        The size target is reached here.
    strength : (float, float), default (0.01, 0.1)
        Strength tau of the soft pull: its force at one standard deviation, in root-mean-square gradients.
    penalty : (float, float), optional
        Weight of ``-log p`` in the loss, in place of ``strength``: the run minimises
        ``loss + penalty * sum -log p(w)``. For a mean loss in nats over n samples, 1 / n makes it the log posterior.
    floor : (float, float), default (0.5, 0.1)
        Spread below which no component may fall in the soft stage.
    hard_pull : float, default 0.7
        Pull of latent weights to their mean in the hard stage, per unit of learning rate.
    sensitivity_power : float, default 0.5
        Sensitivities are expected squared gradients to this power. 1 is the Fisher information, the curvature of a
        converged network's loss; 0.5 is the metric that Adam descends in; 0 is no sensitivity.
    tune_rate : float, default 0.15
        Learning rate at the start of codebook tuning, as a share of that at the start of the run.
    codebook_rate : float, default 0.3
        Learning rate of codebooks in the tuning stage, as a share of that of the weights.
    soft_every, hard_every : int, default 50 and 10
        Optimiser steps per EM step in the soft and the hard stage.

    Raises
    ------
    ArgumentError
        If stages are out of order or a value is out of range.

    Examples
    --------
    >>> schedule = Schedule(soft_until=0.2, floor=(0.5, 0.05))
    >>> [schedule.stage(progress).value for progress in (0.1, 0.5, 0.95)]
    ['soft', 'hard', 'tune']
    """

    soft_until: float = 0.15
    tune_from: float = 0.93
    target_at: float = 0.45
    strength: tuple[float, float] = (0.01, 0.1)
    penalty: tuple[float, float] | None = None
    floor: tuple[float, float] = (0.5, 0.1)
    hard_pull: float = 0.7
    sensitivity_power: float = 0.5
    tune_rate: float = 0.15
    codebook_rate: float = 0.3
    soft_every: int = 50
    hard_every: int = 10

    def __post_init__(self) -> None:
        own_numbers(self, "schedule.")
        if self.soft_until != 1 and not 0 <= self.soft_until < self.target_at <= self.tune_from <= 1:
            raise ArgumentError(
                "schedule must have 0 <= soft_until < target_at <= tune_from <= 1, "
                f"got {self.soft_until}, {self.target_at}, {self.tune_from}: "
                "put the stages in order, or set soft_until to 1"
            )
        for field in fields(self):
            values = getattr(self, field.name)
            if values is None:
                continue
            rule = "> 0" if field.name in NEVER_ZERO else ">= 0"
            for value in values if isinstance(values, tuple) else (values,):
                if not (value > 0 if field.name in NEVER_ZERO else value >= 0):
                    raise ArgumentError(f"schedule.{field.name} must be {rule}, got {value}: choose another value")

    @property
    def tunes(self) -> bool:
        """Whether a run with this schedule has a tuning stage."""
        return self.soft_until < 1 and self.tune_from < 1

    def stage(self, progress: float) -> Stage:
        """Stage at ``progress``, the share of the run that is done."""
        if progress < self.soft_until or self.soft_until == 1:
            return Stage.SOFT
        return Stage.HARD if progress < self.tune_from else Stage.TUNE

    def learning_rate(self, progress: float) -> float:
        """Learning rate as a share of the first one: half a cosine to zero until ``tune_from``, then one for tuning."""
        start, end, height = (0.0, self.tune_from, 1.0)
        if progress >= self.tune_from:
            start, end, height = self.tune_from, 1.0, self.tune_rate
        done = 1.0 if end == start else min((progress - start) / (end - start), 1.0)
        return height * 0.5 * (1 + math.cos(math.pi * done))

    def update_every(self, stage: Stage) -> int:
        """Optimiser steps per EM step in ``stage``."""
        return self.soft_every if stage is Stage.SOFT else self.hard_every

    def pull_strength(self, progress: float) -> float:
        """The penalty if there is one, else the strength; each in its own unit."""
        return _between(*(self.penalty or self.strength), self._share_of_soft_stage(progress))

    def variance_floor(self, progress: float) -> float:
        """Least variance of a component in the soft stage, in squared standard deviations of the tensor."""
        return _between(*self.floor, self._share_of_soft_stage(progress)) ** 2

    def bit_price(self, progress: float, start: float, end: float) -> float:
        """Price of a bit: it rises geometrically from ``start`` to ``end`` between ``soft_until`` and ``target_at``."""
        return _between(start, end, self._share_of_path(progress))

    def target_bits(self, progress: float, first_bits: float, last_bits: float) -> float:
        """Coded bits to aim for: a geometric path from ``first_bits`` to ``last_bits``, reached at ``target_at``."""
        return _between(first_bits, last_bits, self._share_of_path(progress))

    def _share_of_soft_stage(self, progress: float) -> float:
        return progress / self.soft_until if self.soft_until else 1.0

    def _share_of_path(self, progress: float) -> float:
        return (progress - self.soft_until) / (self.target_at - self.soft_until)
