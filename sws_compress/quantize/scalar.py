"""Data-free clustering of one tensor: fine bins, optimal start, hard EM, snap.

Hard EM (classification EM, Celeux & Govaert 1992) on a mixture whose components share one small variance is k-means for
``bit_price = 0`` and entropy-constrained scalar quantization above (Chou, Lookabaugh & Gray 1989). Soft EM with free
variances fits the density better and the weights worse: its means are no codebook.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.bins import fine_bins
from sws_compress.mixture.histogram import OccupiedBins
from sws_compress.mixture.mixture import AnyArray, Array, Mixture
from sws_compress.quantize.assign import lower_envelope, snap
from sws_compress.quantize.initial import mixture_of_bins
from sws_compress.quantize.palette import Clustering, in_half

MAX_ITERATIONS = 1000
"""From the optimal start a few, rarely a hundred; prices on bits make more."""


def cluster_scalars(values: AnyArray, components: int, *, bit_price: float = 0.0) -> Clustering:
    """`cluster` with one codebook of scalars for a tensor that has more than ``components`` distinct values."""
    zeros = values.size - int(np.count_nonzero(values))
    fixed_zero = bit_price > 0 or components * zeros >= values.size
    bins = fine_bins(values)
    start = mixture_of_bins(bins, components, fixed_zero=fixed_zero)
    mixture = hard_em(bins, start, bit_price, fixed_zero=fixed_zero)
    palette = snap(values, mixture, bit_price=bit_price)
    return Clustering(in_half(palette, float(mixture.variances[0]) * values.size), mixture)


def hard_em(bins: OccupiedBins, start: Mixture, bit_price: float, *, fixed_zero: bool) -> Mixture:
    """Alternate assignment of ascending bins and means of their weights until no bin moves.

    With ``fixed_zero`` component 0 stays where it is. Components that lose all their bins keep their mean with weight 0
    and are never chosen again.
    """
    weights, means = start.weights.copy(), start.means.copy()
    moments = bins.sensitivity * bins.points
    owners, cells = np.empty(0, np.intp), np.empty(0, np.intp)
    for _ in range(MAX_ITERATIONS):
        previous = owners, cells
        owners, cells = _cells(bins.points, weights, means, bit_price)
        if np.array_equal(owners, previous[0]) and np.array_equal(cells, previous[1]):
            break
        weights = np.zeros_like(weights)
        weights[owners] = np.add.reduceat(bins.counts, cells)
        mass = np.add.reduceat(bins.sensitivity, cells)
        sums = np.add.reduceat(moments, cells)
        means[owners[mass > 0]] = sums[mass > 0] / mass[mass > 0]
        if fixed_zero:
            means[0] = start.means[0]
    nearest = np.repeat(means[owners], np.diff(np.append(cells, len(bins.points))))
    scatter = bins.scatter + bins.sensitivity * (bins.points - nearest) ** 2
    spread = scatter.sum() / bins.sensitivity.sum()  # one variance for all: so is the assignment an E-step
    return Mixture(weights / weights.sum(), means, np.full(len(means), max(spread, start.variances.min())))


def _cells(
    points: Array, weights: Array, means: Array, bit_price: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The components that have bins, from left to right, and the first bin of each."""
    with np.errstate(divide="ignore"):
        costs = -bit_price * np.log2(weights) if bit_price > 0 else np.where(weights > 0, 0.0, np.inf)
    winners, breakpoints = lower_envelope(means, costs)
    first = np.append(0, np.searchsorted(points, breakpoints, side="right"))
    held = np.diff(np.append(first, len(points))) > 0
    return winners[held], first[held]
