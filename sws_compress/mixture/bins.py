"""Bins that are fine where the weights are: what clustering without data sees of a tensor, however long its tails.

A few outliers can stretch an even grid over a hundred standard deviations, and leave the bulk of the weights in a dozen
of its bins. Where bins are crowded, the weights left of the crowd, in the crowd and right of it get a grid each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.histogram import OccupiedBins, WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.mixture import AnyArray
from sws_compress.mixture.sensitivity import Sensitivity

BINS_PER_GRID = 1 << 14
"""Bins of each grid. Up to so many weights are a point each."""


MAX_BIN_SHARE = 1 / 1024
"""Share of the tensor's weights above which a bin is divided. The fullest bin of a Gaussian has a quarter of that."""


MAX_GRID_DEPTH = 6
"""Grids within grids. A crowd is mostly a hundred times narrower than the grid it is found in."""


def fine_bins(values: AnyArray, sensitivity: Sensitivity | None = None) -> OccupiedBins:
    """Summarise the weights of a tensor as ascending points with spreads.

    Parameters
    ----------
    values : ndarray, any shape, floating point
        The weights, at least one.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.

    Returns
    -------
    OccupiedBins
        Ascending points. No bin of weights that differ holds more than 1/1024 of them, unless six nested grids do not
        tell them apart.

    Raises
    ------
    ArgumentError
        If there are no values, or the sensitivities do not broadcast to them.
    ModelError
        If a value is NaN or infinite.
    """
    values = np.asarray(values)
    flat = values.reshape(-1)
    weight_range(flat)  # refuses NaN and infinity before anything is sorted
    sensitivities = None if sensitivity is None else sensitivity.flat(values.shape)
    parts = _parts(flat, sensitivities, MAX_BIN_SHARE * flat.size, MAX_GRID_DEPTH)
    counts, mass, points, scatter = map(np.concatenate, zip(*parts, strict=True))
    to_mean_one = counts.sum() / mass.sum()
    return OccupiedBins(counts, to_mean_one * mass, points, to_mean_one * scatter)


def _parts(flat: AnyArray, sensitivities: AnyArray | None, crowded: float, depth: int) -> list[OccupiedBins]:
    """Bins of disjoint ranges, ascending; their sensitivities are sums of the given ones, not divided by the mean."""
    if sensitivities is not None and not sensitivities.any():
        return [_without_sensitivity(part) for part in _parts(flat, None, crowded, depth)]
    if flat.size <= BINS_PER_GRID:
        return [_points(flat, sensitivities)]
    low, high = weight_range(flat)
    sensitivity = None if sensitivities is None else Sensitivity(sensitivities)
    histogram = weight_histogram(flat, low=low, high=high, bins=BINS_PER_GRID, sensitivity=sensitivity)
    crowd = _crowd(histogram, crowded) if depth > 1 else None
    if crowd is None:
        bins, given = histogram.occupied, float(histogram.sensitivity.sum() / histogram.count)
        return [bins._replace(sensitivity=given * bins.sensitivity, scatter=given * bins.scatter)]
    left, right = np.less(flat, crowd[0]), np.greater_equal(flat, crowd[1])
    ranges = (left, ~(left | right), right)
    return [
        part
        for held in ranges
        if held.any()
        for part in _parts(flat[held], None if sensitivities is None else sensitivities[held], crowded, depth - 1)
    ]


def _points(flat: AnyArray, sensitivities: AnyArray | None) -> OccupiedBins:
    """One bin per distinct value."""
    points, inverse, occurrences = np.unique(flat.astype(np.float64), return_inverse=True, return_counts=True)
    counts: npt.NDArray[np.float64] = occurrences.astype(np.float64)
    mass = counts
    if sensitivities is not None:
        mass = np.bincount(inverse.reshape(-1), weights=sensitivities.astype(np.float64)).astype(np.float64)
    return OccupiedBins(counts=counts, sensitivity=mass, points=points, scatter=np.zeros(len(points)))


def _without_sensitivity(bins: OccupiedBins) -> OccupiedBins:
    return bins._replace(sensitivity=np.zeros_like(bins.sensitivity), scatter=np.zeros_like(bins.scatter))


def _crowd(histogram: WeightHistogram, crowded: float) -> tuple[float, float] | None:
    """Range of the bins with more than ``crowded`` weights that differ; None if it is not narrower by half."""
    step = (histogram.high - histogram.low) / histogram.bins
    mass = np.maximum(histogram.sensitivity, 1e-300)
    spread = histogram.second / mass - (histogram.first / mass) ** 2
    found = np.flatnonzero((histogram.counts > crowded) & (spread > (1e-6 * step) ** 2))
    if not found.size or found[-1] - found[0] >= histogram.bins // 2:
        return None
    return histogram.low + found[0] * step, histogram.low + (found[-1] + 1) * step
