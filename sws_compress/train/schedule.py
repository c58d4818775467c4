"""How the run tightens: stages, strengths and variance floors as functions of progress."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

from sws_compress.errors import ArgumentError

ABOVE_ZERO = ("strength", "penalty", "floor", "soft_every", "hard_every")
"""What is divided by or interpolated geometrically."""


class Stage(enum.Enum):
    """SOFT pulls towards the mixture, HARD trains snapped weights, TUNE moves only the codebook."""

    SOFT = "soft"
    HARD = "hard"
    TUNE = "tune"


def _between(start: float, end: float, progress: float) -> float:
    """Geometric interpolation, clamped to [start, end] outside 0..1."""
    fraction = min(max(progress, 0.0), 1.0)
    return float(start ** (1 - fraction) * end**fraction)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """All fractions are of the whole run, all spreads are in standard deviations of the tensor.

    soft_until      end of the soft stage, start of the hard stage; 1: nothing but the soft stage, a regulariser
    tune_from       assignments are frozen from here on
    target_at       the size target is reached here (fraction of the whole run)
    strength        (start, end) of the soft pull: force at one standard deviation, in root-mean-square gradients
    penalty         (start, end) of the weight of -log p in the loss, in place of ``strength``: loss + penalty *
                    sum -log p(w) is minimised. For a mean loss in nats over n samples, 1 / n makes it the log posterior
    floor           (start, end) of the spread below which no component may fall in the soft stage
    hard_pull       pull of latent weights to their mean, per unit of learning rate
    sensitivity_power  sensitivities are expected squared gradients to this power: 1 is the Fisher information, the
                    curvature of a converged network's loss, 0.5 the metric that Adam descends in, 0 none
    tune_rate       learning rate at the start of codebook tuning, in learning rates at the start of the run
    codebook_rate   rate of the codebook in the tuning stage, in learning rates of the weights
    soft_every      optimiser steps per EM step in the soft stage
    hard_every      optimiser steps per EM step in the hard stage
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
            for value in values if isinstance(values, tuple) else (values,):
                if value < 0 or (field.name in ABOVE_ZERO and value == 0):
                    raise ArgumentError(f"schedule.{field.name} must be positive, got {value}: use a value above 0")

    def stage(self, progress: float) -> Stage:
        if progress < self.soft_until or self.soft_until == 1:
            return Stage.SOFT
        return Stage.HARD if progress < self.tune_from else Stage.TUNE

    def learning_rate(self, progress: float) -> float:
        """Share of the first learning rate: half a cosine to zero until ``tune_from``, another one for tuning."""
        start, end, height = (0.0, self.tune_from, 1.0)
        if progress >= self.tune_from:
            start, end, height = self.tune_from, 1.0, self.tune_rate
        done = 1.0 if end == start else min((progress - start) / (end - start), 1.0)
        return height * 0.5 * (1 + math.cos(math.pi * done))

    def update_every(self, stage: Stage) -> int:
        return self.soft_every if stage is Stage.SOFT else self.hard_every

    def pull_strength(self, progress: float) -> float:
        """The penalty where there is one, else the strength; each in its own unit."""
        return _between(*(self.penalty or self.strength), progress / self.soft_until if self.soft_until else 1.0)

    def variance_floor(self, progress: float) -> float:
        """In squared standard deviations of the tensor."""
        return _between(*self.floor, progress / self.soft_until if self.soft_until else 1.0) ** 2

    def rate(self, progress: float, start: float, end: float) -> float:
        """Price of a bit: rises geometrically from ``start`` to ``end`` until ``target_at``."""
        return _between(start, end, (progress - self.soft_until) / (self.target_at - self.soft_until))

    def target_bits(self, progress: float, first_bits: float, last_bits: float) -> float:
        """Coded bits to aim for: falls geometrically from ``first_bits`` to ``last_bits`` until ``target_at``."""
        return _between(first_bits, last_bits, (progress - self.soft_until) / (self.target_at - self.soft_until))
