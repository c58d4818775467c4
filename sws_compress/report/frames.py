"""Snapshots of a training run for an animation: histograms and mixtures of the weights, not the weights themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from sws_compress.arguments import whole_number
from sws_compress.errors import ArgumentError, TrainingError
from sws_compress.mixture.histogram import WeightHistogram
from sws_compress.mixture.mixture import Mixture
from sws_compress.report.drawing import drawing

BINS = 240
"""Bins of every histogram."""

RANGE_MARGIN = 0.15
"""What the histograms cover beyond the range of the first weights, on either side, as a share of that range: weights
move beyond where they began."""


class Prior(Protocol):
    """The part of ``train.prior.SoftWeightSharing`` that a recording reads."""

    total_steps: int | None

    @property
    def steps(self) -> int: ...

    @property
    def stage(self) -> Enum: ...

    @property
    def mixtures(self) -> dict[str, Mixture]: ...

    def histograms(
        self, ranges: Mapping[str, tuple[float, float]] | None = None, *, bins: int = 256
    ) -> dict[str, WeightHistogram]: ...


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One moment of a training run.

    Parameters
    ----------
    step : int
        Number of optimiser steps so far.
    stage : str
        "soft", "hard" or "tune".
    histograms : mapping of str to WeightHistogram
        The latent weights of every compressed parameter, by its name.
    mixtures : mapping of str to Mixture
        Its mixture, by the same names.
    """

    step: int
    stage: str
    histograms: Mapping[str, WeightHistogram]
    mixtures: Mapping[str, Mixture]


class WeightFrames:
    """A recording of a training run, for an animation.

    It keeps evenly spaced snapshots and the last one, each a histogram of `BINS` bins per parameter. A call of `add`
    that keeps nothing costs nothing.

    Parameters
    ----------
    count : int
        Number of snapshots to keep at most, >= 2, the last one not counted.

    Attributes
    ----------
    snapshots : list of Snapshot
        The snapshots so far, by rising steps.

    Raises
    ------
    ArgumentError
        If ``count`` is below 2.

    Examples
    --------
    >>> import torch, sws_compress as sws
    >>> net = torch.nn.Linear(40, 30)
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    >>> prior = sws.SoftWeightSharing(net, optimizer, components=4)
    >>> frames = sws.WeightFrames(count=10)
    >>> for _ in range(3):
    ...     frames.add(prior)
    ...     net(torch.randn(8, 40)).square().mean().backward()
    ...     optimizer.step()
    ...     prior.step()
    >>> [snapshot.step for snapshot in frames.snapshots]
    [0, 1, 2]

    ``frames.save("weights.gif")`` then writes the animation.
    """

    def __init__(self, count: int = 80) -> None:
        count = whole_number("count", count)
        if count < 2:
            raise ArgumentError(f"count must be >= 2, got {count}: 80 make an animation of ten seconds")
        self.count = count
        self.snapshots: list[Snapshot] = []
        self._every: int | None = None
        self._ranges: dict[str, tuple[float, float]] | None = None

    def add(self, prior: Prior) -> None:
        """Keep a snapshot of the present moment if one is due.

        Parameters
        ----------
        prior : SoftWeightSharing
            The prior of the run; it is not changed.
        """
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
        except TrainingError:  # a weight is NaN or infinite: the run itself says so, and saves its last good state
            return
        self.snapshots.append(Snapshot(prior.steps, prior.stage.value, histograms, prior.mixtures))
        if len(self.snapshots) > self.count and not last:  # the run's length is unknown: drop every second one
            self._every *= 2
            self.snapshots = [kept for kept in self.snapshots if kept.step % self._every == 0]

    def save(self, path: str | Path) -> None:
        """Write the animation.

        Parameters
        ----------
        path : str or Path
            The GIF file to write.

        Raises
        ------
        ArgumentError
            If there is no snapshot, or if matplotlib is not installed.
        """
        if not self.snapshots:
            raise ArgumentError("an animation must have snapshots, got none: call add() while the network trains")
        drawing("animation").write_gif(self.snapshots, Path(path))


def _widened(histogram: WeightHistogram) -> tuple[float, float]:
    margin = RANGE_MARGIN * (histogram.high - histogram.low)
    return histogram.low - margin, histogram.high + margin
