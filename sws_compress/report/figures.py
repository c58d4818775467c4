"""Figures. matplotlib is an optional dependency, imported here only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sws_compress.mixture.mixture import Mixture

BEFORE, AFTER, PRIOR = "#8a8f98", "#c2410c", "#1d4ed8"
BINS = 200


def weights_figure(
    before: Mapping[str, npt.NDArray[np.float32]],
    after: Mapping[str, npt.NDArray[np.float32]],
    mixtures: Mapping[str, Mixture],
    path: Path,
) -> None:
    """One row per tensor: the float weights, and the counts of the snapped weights, the mixture's density over both.

    ``before`` and ``after`` hold arrays of equal shapes by name, ``mixtures`` a mixture by the same names; both axes
    are logarithmic in the count, because most weights sit at zero. The density is scaled to weights per bin on the
    left, to the height of the tallest count on the right. Written to ``path`` (PNG).
    """
    figure = Figure(figsize=(10, 2.6 * len(before)), layout="constrained")
    axes = figure.subplots(len(before), 2, squeeze=False)
    for row, name in zip(axes, before, strict=True):
        _density(row[0], name, before[name].ravel(), mixtures[name])
        _clusters(row[1], after[name].ravel(), mixtures[name], row[0].get_xlim())
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _density(axes: Axes, name: str, weights: npt.NDArray[np.float32], mixture: Mixture) -> None:
    reach = 1.05 * float(np.abs(weights).max())
    counts, edges = np.histogram(weights, bins=BINS, range=(-reach, reach))
    axes.stairs(counts, edges, fill=True, color=BEFORE, label="float weights")
    grid, density = _curve(mixture, reach)
    axes.plot(grid, density * weights.size * (edges[1] - edges[0]), color=PRIOR, linewidth=1.2, label="mixture prior")
    axes.set(yscale="log", ylim=(0.5, 2 * counts.max()), xlim=(-reach, reach), ylabel="weights per bin")
    axes.set_title(f"{name} before ({weights.size:,} weights)", fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="upper right", frameon=False)


def _clusters(axes: Axes, weights: npt.NDArray[np.float32], mixture: Mixture, limits: tuple[float, float]) -> None:
    values, counts = np.unique(weights, return_counts=True)
    grid, density = _curve(mixture, max(map(abs, limits)))
    axes.plot(grid, density * counts.max() / density.max(), color=PRIOR, linewidth=1.2, label="mixture prior, scaled")
    axes.vlines(values, 0.5, counts, color=AFTER, linewidth=3)
    axes.plot(values, counts, "o", color=AFTER, markersize=5)
    axes.set(yscale="log", ylim=(0.5, 3 * counts.max()), xlim=limits, ylabel="weights per value")
    zeros = float(counts[values == 0].sum()) / weights.size
    axes.set_title(f"after: {len(values)} distinct values, {100 * zeros:.1f} % zeros", fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="upper right", frameon=False)


def _curve(mixture: Mixture, reach: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points (x, p(x)) from -reach to reach, close enough about every mean to show its peak however narrow."""
    peaks = mixture.means[:, None] + np.sqrt(mixture.variances)[:, None] * np.linspace(-6, 6, 61)
    grid = np.unique(np.concatenate([np.linspace(-reach, reach, 2000), peaks.ravel()]))
    grid = grid[np.abs(grid) <= reach]
    return grid, np.exp(mixture.log_density(grid))
