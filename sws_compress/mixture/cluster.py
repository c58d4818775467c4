"""Data-free clustering of one tensor: histogram, optimal start, hard EM, snap.

Hard EM (classification EM, Celeux & Govaert 1992) on a mixture whose components share one small variance is k-means for
``rate_bits = 0`` and entropy-constrained scalar quantization above (Chou, Lookabaugh & Gray 1989). Soft EM with free
variances fits the density better and the weights worse: its means are no codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sws_compress.mixture.histogram import OccupiedBins, weight_histogram, weight_range
from sws_compress.mixture.init import initial_mixture
from sws_compress.mixture.params import AnyArray, Array, Mixture
from sws_compress.mixture.snap import Palette, lower_envelope, palette_of, snap

BINS = 1 << 14
"""Fine enough that 256 components over a heavy-tailed tensor still have dozens of bins each."""

MAX_ITERATIONS = 200


@dataclass(frozen=True, eq=False)
class Clustering:
    """``mixture`` is None where the values were few and distinct already, and the palette is exact."""

    palette: Palette
    mixture: Mixture | None


def cluster(values: AnyArray, components: int, *, rate_bits: float = 0.0, seed: int) -> Clustering:
    """At most ``components`` distinct values, of the tensor's own type, for a floating-point tensor of any shape.

    A tensor that has no more distinct values than that is kept exactly. ``rate_bits`` (>= 0, in units of the weights
    squared) is half the squared error that one bit is worth. Raises ArgumentError for components outside 2..256,
    ModelError for NaN or infinite values.
    """
    exact = palette_of(values)
    if exact is not None and len(exact.codebook) <= components:
        return Clustering(exact, None)
    low, high = weight_range(values)
    histogram = weight_histogram(values, low=low, high=high, bins=BINS)
    start = initial_mixture(histogram, components, seed=seed)
    mixture = hard_em(histogram.occupied, start, rate_bits)
    return Clustering(snap(values, mixture, rate_bits=rate_bits), mixture)


def hard_em(bins: OccupiedBins, start: Mixture, rate_bits: float) -> Mixture:
    """Alternate assignment of bins and means of their weights until no bin moves; component 0 stays where it is.

    Components that lose all their bins keep their mean with weight 0 and are never chosen again.
    """
    mixture = start
    labels = np.full(len(bins.points), -1)
    for _ in range(MAX_ITERATIONS):
        chosen = _assign_bins(bins.points, mixture, rate_bits)
        if np.array_equal(chosen, labels):
            break
        labels = chosen
        mixture = _maximise(bins, labels, mixture)
    return mixture


def _assign_bins(points: Array, mixture: Mixture, rate_bits: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = np.where(mixture.weights > 0, -rate_bits * np.log2(mixture.weights), np.inf)
    winners, breakpoints = lower_envelope(mixture.means, costs)
    return winners[np.searchsorted(breakpoints, points)]


def _maximise(bins: OccupiedBins, labels: np.ndarray, previous: Mixture) -> Mixture:
    k = previous.components
    counts = np.bincount(labels, weights=bins.counts, minlength=k)
    mass = np.bincount(labels, weights=bins.sensitivity, minlength=k)
    moments = np.bincount(labels, weights=bins.sensitivity * bins.points, minlength=k)
    means = np.where(mass > 0, moments / np.maximum(mass, np.finfo(float).tiny), previous.means)
    means[0] = previous.means[0]
    scatter = np.bincount(
        labels, weights=bins.scatter + bins.sensitivity * (bins.points - means[labels]) ** 2, minlength=k
    )
    spread = scatter.sum() / mass.sum()  # one variance for all: that is what makes the assignment above the E-step
    return Mixture(counts / counts.sum(), means, np.full(k, max(spread, previous.variances.min())))
