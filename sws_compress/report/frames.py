"""The weights gathering into clusters, recorded while a network trains: histograms and mixtures, never the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.report.drawing import drawing

BINS = 240
MARGIN = 0.15
"""Of the first range, on both sides: weights move beyond where they began."""


class Prior(Protocol):
    """What is looked at of ``train.prior.SoftWeightSharing``."""

    steps: int
    total_steps: int | None

    @property
    def stage(self) -> Enum: ...

    @property
    def mixtures(self) -> dict[str, Mixture]: ...

    def histograms(
        self, ranges: Mapping[str, tuple[float, float]] | None = None, *, bins: int = 256
    ) -> dict[str, WeightHistogram]: ...


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One moment of a run: the latent weights and the mixture of every compressed parameter, by name."""

    step: int
    stage: str
    histograms: Mapping[str, WeightHistogram]
    mixtures: Mapping[str, Mixture]


class WeightFrames:
    """Records a run for an animation.

        frames = WeightFrames()
        for x, y in batches:
            frames.add(prior)
            ...; optimizer.step(); prior.step()
        frames.add(prior)
        frames.save("weights.gif")

    However many calls of ``add`` there are, it keeps at most ``count`` snapshots, evenly spaced in steps, and the last
    one; each is BINS numbers a parameter on the grid of the first. A call that keeps nothing costs nothing.
    """

    def __init__(self, count: int = 80) -> None:
        if count < 2:
            raise ArgumentError(f"count must be >= 2, got {count}: 80 make an animation of ten seconds")
        self.count = count
        self.snapshots: list[Snapshot] = []
        self._every: int | None = None
        self._ranges: dict[str, tuple[float, float]] | None = None

    def add(self, prior: Prior) -> None:
        """Keep the present moment if it is due; the prior is looked at only."""
        last = prior.steps == prior.total_steps
        if self._every is None:
            self._every = 1 if prior.total_steps is None else math.ceil(prior.total_steps / self.count)
        if prior.steps % self._every and not last:
            return
        if self.snapshots and self.snapshots[-1].step == prior.steps:
            return
        try:
            if self._ranges is None:
                self._ranges = {name: _widened(histogram) for name, histogram in prior.histograms(bins=1).items()}
            histograms = prior.histograms(self._ranges, bins=BINS)
        except TrainingError:  # a weight is NaN or infinite: the run says so itself, and saves its last good state
            return
        self.snapshots.append(Snapshot(prior.steps, prior.stage.value, histograms, prior.mixtures))
        if len(self.snapshots) > self.count and not last:  # of a run of unknown length: every second one goes
            self._every *= 2
            self.snapshots = [kept for kept in self.snapshots if kept.step % self._every == 0]

    def save(self, path: str | Path) -> None:
        """Write the animation to ``path`` (GIF). Raises ArgumentError without a snapshot, or without matplotlib."""
        if not self.snapshots:
            raise ArgumentError("an animation must have snapshots, got none: call add() while the network trains")
        drawing("animation").write_gif(self.snapshots, Path(path))


def _widened(histogram: WeightHistogram) -> tuple[float, float]:
    margin = MARGIN * (histogram.high - histogram.low)
    return histogram.low - margin, histogram.high + margin
