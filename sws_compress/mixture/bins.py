"""Bins that are fine where the weights are: what data-free clustering sees of a tensor, however long its tails.

A few outliers can stretch an even grid over a hundred standard deviations and leave the bulk of the weights in a dozen
of its bins. Where bins are crowded, weights left of the crowd, in it and right of it get a grid each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.histogram import OccupiedBins, WeightHistogram, weight_histogram, weight_range
from sws_compress.mixture.params import AnyArray

BINS = 1 << 14
"""Of each grid. Up to so many weights are a point each."""

CROWDED_SHARE = 1 / 1024
"""Share of the tensor's weights above which a bin is divided; the fullest bin of a Gaussian has a quarter of that."""

MAX_DEPTH = 6
"""Grids within grids; the crowd is mostly a hundred times narrower than the grid it is found in."""


def fine_bins(values: AnyArray) -> OccupiedBins:
    """The weights of a tensor of any shape as ascending points with spreads; every weight has sensitivity 1.

    Raises ArgumentError if there are no values, ModelError if one is NaN or infinite.
    """
    flat = np.asarray(values).reshape(-1)
    weight_range(flat)  # refuses what is not finite, before anything is sorted
    parts = _parts(flat, CROWDED_SHARE * flat.size, MAX_DEPTH)
    return OccupiedBins(*map(np.concatenate, zip(*parts, strict=True)))


def _parts(flat: AnyArray, crowded: float, depth: int) -> list[OccupiedBins]:
    """Bins of disjoint ranges, ascending; none with more than ``crowded`` weights where ``depth`` allows."""
    if flat.size <= BINS:
        return [_points(flat)]
    low, high = weight_range(flat)
    histogram = weight_histogram(flat, low=low, high=high, bins=BINS)
    crowd = _crowd(histogram, crowded) if depth > 1 else None
    if crowd is None:
        return [histogram.occupied]
    left, right = np.less(flat, crowd[0]), np.greater_equal(flat, crowd[1])
    ranges = (flat[left], flat[~(left | right)], flat[right])
    return [part for values in ranges if values.size for part in _parts(values, crowded, depth - 1)]


def _points(flat: AnyArray) -> OccupiedBins:
    points, counts = np.unique(flat.astype(np.float64), return_counts=True)
    weights: npt.NDArray[np.float64] = counts.astype(np.float64)
    return OccupiedBins(counts=weights, sensitivity=weights, points=points, scatter=np.zeros(len(points)))


def _crowd(histogram: WeightHistogram, crowded: float) -> tuple[float, float] | None:
    """The range of the bins with more than ``crowded`` weights that differ; None if it is not narrower by half."""
    step = (histogram.high - histogram.low) / histogram.bins
    counts = np.maximum(histogram.counts, 1)
    spread = histogram.second / counts - (histogram.first / counts) ** 2
    found = np.flatnonzero((histogram.counts > crowded) & (spread > (1e-6 * step) ** 2))
    if not found.size or found[-1] - found[0] >= histogram.bins // 2:
        return None
    return histogram.low + found[0] * step, histogram.low + (found[-1] + 1) * step
