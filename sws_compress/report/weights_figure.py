"""The figure of a run: float weights, snapped weights and the mixture of both. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sws_compress.mixture.mixture import Mixture
from sws_compress.report.drawing import heading, short

FLOAT_COLOUR, SNAPPED_COLOUR, MIXTURE_COLOUR = "#8a8f98", "#c2410c", "#1d4ed8"
BINS = 200


def weights_figure(
    before: Mapping[str, npt.NDArray[np.float32]],
    after: Mapping[str, npt.NDArray[np.float32]],
    mixtures: Mapping[str, Mixture],
    path: Path,
) -> None:
    """Draw the weights of every tensor before and after compression, one row per tensor.

    The left panel is a histogram of the float weights, with the mixture's density in weights per bin. The right one
    shows how many snapped weights have each value, with the density scaled to the largest count. The axes of counts are
    logarithmic, because most weights are zero.

    Parameters
    ----------
    before, after : mapping of str to ndarray
        Float and snapped weights, by the names of the tensors; those of a tensor have one shape.
    mixtures : mapping of str to Mixture
        The final mixture of every tensor, by the same names.
    path : Path
        The PNG file to write.
    """
    figure = Figure(figsize=(10, 2.6 * len(before)), layout="constrained")
    axes = figure.subplots(len(before), 2, squeeze=False)
    for row, name in zip(axes, before, strict=True):
        limit = shown_range(before[name], after[name])
        _draw_density(row[0], name, before[name].ravel(), mixtures[name], limit)
        _draw_counts(row[1], after[name].ravel(), mixtures[name], limit)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def shown_range(before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> float:
    """Half the width of the axis of weights: all float weights and all snapped values lie well within.

    Training may move a value beyond the largest float weight.
    """
    return 1.05 * float(max(np.abs(before).max(), np.abs(after).max()))


def _draw_density(axes: Axes, name: str, weights: npt.NDArray[np.float32], mixture: Mixture, limit: float) -> None:
    counts, edges = np.histogram(weights, bins=BINS, range=(-limit, limit))
    axes.stairs(counts, edges, fill=True, color=FLOAT_COLOUR, label="float weights")
    grid, density = density_curve(mixture, limit)
    per_bin = density * weights.size * (edges[1] - edges[0])
    axes.plot(grid, per_bin, color=MIXTURE_COLOUR, linewidth=1.2, label="mixture prior")
    axes.set(yscale="log", ylim=(0.5, 2 * counts.max()), xlim=(-limit, limit), ylabel="weights per bin")
    heading(axes, f"{short(name)} before ({weights.size:,} weights)")
    axes.legend(fontsize=8, loc="upper right", frameon=False)


def _draw_counts(axes: Axes, weights: npt.NDArray[np.float32], mixture: Mixture, limit: float) -> None:
    values, counts = np.unique(weights, return_counts=True)
    grid, density = density_curve(mixture, limit)
    scaled = density * counts.max() / density.max()
    axes.plot(grid, scaled, color=MIXTURE_COLOUR, linewidth=1.2, label="mixture prior, scaled")
    axes.vlines(values, 0.5, counts, color=SNAPPED_COLOUR, linewidth=3)
    axes.plot(values, counts, "o", color=SNAPPED_COLOUR, markersize=5)
    axes.set(yscale="log", ylim=(0.5, 3 * counts.max()), xlim=(-limit, limit), ylabel="weights per value")
    zeros = float(counts[values == 0].sum()) / weights.size
    axes.set_title(f"after: {len(values)} distinct values, {100 * zeros:.1f} % zeros", fontsize=10, loc="left")
    axes.legend(fontsize=8, loc="upper right", frameon=False)


def density_curve(mixture: Mixture, limit: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Points of a mixture's density, close enough about every mean to show its peak however narrow it is.

    Parameters
    ----------
    mixture : Mixture
        The mixture.
    limit : float
        The curve runs from ``-limit`` to ``limit``.

    Returns
    -------
    grid, density : ndarray, shape (n,), float64
        Rising x, and p(x).
    """
    peaks = mixture.means[:, None] + np.sqrt(mixture.variances)[:, None] * np.linspace(-6, 6, 61)
    grid = np.unique(np.concatenate([np.linspace(-limit, limit, 2000), peaks.ravel()]))
    grid = grid[np.abs(grid) <= limit]
    return grid, np.exp(mixture.log_density(grid))
