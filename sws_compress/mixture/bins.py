"""Bins that are fine where the weights are: what data-free clustering sees of a tensor, however long its tails.

A few outliers can stretch an even grid over a hundred standard deviations and leave the bulk of the weights in a dozen
of its bins. Where bins are crowded, weights left of the crowd, in it and right of it get a grid each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.histogram import OccupiedBins, WeightHistogram, as_float32, weight_histogram, weight_range
from sws_compress.mixture.mixture import AnyArray

BINS = 1 << 14
"""Of each grid. Up to so many weights are a point each."""


CROWDED_SHARE = 1 / 1024
"""Share of the tensor's weights above which a bin is divided; the fullest bin of a Gaussian has a quarter of that."""


MAX_DEPTH = 6
"""Grids within grids; the crowd is mostly a hundred times narrower than the grid it is found in."""


def fine_bins(values: AnyArray, sensitivities: AnyArray | None = None) -> OccupiedBins:
    """The weights of a tensor of any shape as ascending points with spreads.

    ``sensitivities`` h >= 0, shaped like the values; None means 1 everywhere. Raises ArgumentError if there are no
    values, ModelError if one is NaN or infinite.
    """
    flat = np.asarray(values).reshape(-1)
    weight_range(flat)  # refuses what is not finite, before anything is sorted
    scales = None if sensitivities is None else as_float32(np.asarray(sensitivities).reshape(-1))
    parts = _parts(flat, scales, CROWDED_SHARE * flat.size, MAX_DEPTH)
    counts, sensitivity, points, scatter = map(np.concatenate, zip(*parts, strict=True))
    to_mean_one = counts.sum() / sensitivity.sum()
    return OccupiedBins(counts, to_mean_one * sensitivity, points, to_mean_one * scatter)


def _parts(flat: AnyArray, scales: AnyArray | None, crowded: float, depth: int) -> list[OccupiedBins]:
    """Bins of disjoint ranges, ascending; none with more than ``crowded`` weights where ``depth`` allows.

    Their sensitivities are sums of those that were given.
    """
    if flat.size <= BINS:
        return [_points(flat, scales)]
    low, high = weight_range(flat)
    histogram = weight_histogram(flat, low=low, high=high, bins=BINS, sensitivities=scales)
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
        for part in _parts(flat[held], None if scales is None else scales[held], crowded, depth - 1)
    ]


def _points(flat: AnyArray, scales: AnyArray | None) -> OccupiedBins:
    points, inverse, counts = np.unique(flat.astype(np.float64), return_inverse=True, return_counts=True)
    weights: npt.NDArray[np.float64] = counts.astype(np.float64)
    sensitivity = weights
    if scales is not None:
        sensitivity = np.bincount(inverse.reshape(-1), weights=scales.astype(np.float64)).astype(np.float64)
    return OccupiedBins(counts=weights, sensitivity=sensitivity, points=points, scatter=np.zeros(len(points)))


def _crowd(histogram: WeightHistogram, crowded: float) -> tuple[float, float] | None:
    """The range of the bins with more than ``crowded`` weights that differ; None if it is not narrower by half."""
    step = (histogram.high - histogram.low) / histogram.bins
    mass = np.maximum(histogram.sensitivity, 1e-300)
    spread = histogram.second / mass - (histogram.first / mass) ** 2
    found = np.flatnonzero((histogram.counts > crowded) & (spread > (1e-6 * step) ** 2))
    if not found.size or found[-1] - found[0] >= histogram.bins // 2:
        return None
    return histogram.low + found[0] * step, histogram.low + (found[-1] + 1) * step
