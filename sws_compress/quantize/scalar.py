"""Data-free clustering of one tensor: fine bins, optimal start, hard EM, snap.

Hard EM (classification EM, Celeux & Govaert 1992) on a mixture whose components share one small variance is k-means for
``rate_bits = 0`` and entropy-constrained scalar quantization above (Chou, Lookabaugh & Gray 1989). Soft EM with free
variances fits the density better and the weights worse: its means are no codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.bins import fine_bins
from sws_compress.mixture.histogram import OccupiedBins
from sws_compress.mixture.mixture import AnyArray, Array, Mixture
from sws_compress.quantize.assign import lower_envelope, snap
from sws_compress.quantize.initial import mixture_of_bins
from sws_compress.quantize.palette import Palette, check_components, in_half, palette_of

MAX_ITERATIONS = 1000
"""From the optimal start a few, rarely a hundred; prices on bits make more."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """``mixture`` is None where the values were few and distinct already, and the palette is exact."""

    palette: Palette
    mixture: Mixture | None


def cluster(values: AnyArray, components: int, *, rate_bits: float = 0.0, seed: int) -> Clustering:
    """At most ``components`` distinct values, of the tensor's own type, for a floating-point tensor of any shape.

    A tensor that has no more distinct values than that is kept exactly. ``rate_bits`` (>= 0, in units of the weights
    squared) is half the squared error that one bit is worth. Zeros stay zeros where they are an even share of the
    components or more (a pruned tensor), or where bits have a price; elsewhere no component is held at zero, which
    would cost error. Raises ArgumentError for components outside 2..256, ModelError for NaN or infinite values.
    """
    check_components(components)
    exact = palette_of(values)
    if exact is not None and len(exact.codebook) <= components:
        return Clustering(exact, None)
    zeros = np.size(values) - int(np.count_nonzero(values))
    fixed_zero = rate_bits > 0 or components * zeros >= np.size(values)
    bins = fine_bins(values)
    start = mixture_of_bins(bins, components, fixed_zero=fixed_zero)
    mixture = hard_em(bins, start, rate_bits, fixed_zero=fixed_zero)
    palette = snap(values, mixture, rate_bits=rate_bits)
    return Clustering(in_half(palette, float(mixture.variances[0]) * np.size(values)), mixture)


def hard_em(bins: OccupiedBins, start: Mixture, rate_bits: float, *, fixed_zero: bool) -> Mixture:
    """Alternate assignment of ascending bins and means of their weights until no bin moves.

    With ``fixed_zero`` component 0 stays where it is. Components that lose all their bins keep their mean with weight 0
    and are never chosen again.
    """
    weights, means = start.weights.copy(), start.means.copy()
    moments = bins.sensitivity * bins.points
    owners, cells = np.empty(0, np.intp), np.empty(0, np.intp)
    for _ in range(MAX_ITERATIONS):
        previous = owners, cells
        owners, cells = _cells(bins.points, weights, means, rate_bits)
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
    points: Array, weights: Array, means: Array, rate_bits: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The components that have bins, from left to right, and the first bin of each."""
    with np.errstate(divide="ignore"):
        costs = -rate_bits * np.log2(weights) if rate_bits > 0 else np.where(weights > 0, 0.0, np.inf)
    winners, breakpoints = lower_envelope(means, costs)
    first = np.append(0, np.searchsorted(points, breakpoints, side="right"))
    held = np.diff(np.append(first, len(points))) > 0
    return winners[held], first[held]
