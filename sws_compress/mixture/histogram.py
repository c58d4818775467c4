"""A tensor's sufficient statistics for scalar mixtures: O(bins) numbers whatever the number of weights; they add up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import AnyArray, Array, Mixture, log_joint, soft_max
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.statistics import ExpectedStatistics
from sws_compress.threads import over_pieces

PIECE_WEIGHTS = 1 << 21
"""Weights one thread takes at a time; each piece has a table of its own, added in order of the pieces."""


RANGE_CHUNK = 1 << 16
"""Weights whose minimum and maximum are taken while they are in the cache: one pass over memory, not two."""


class OccupiedBins(NamedTuple):
    """The bins that hold weights, as points; arrays (m,) float64, sensitivities h divided by their mean."""

    counts: Array
    sensitivity: Array
    points: Array
    """Mean of the bin's weights under h (the bin's centre if all its h are 0)."""
    scatter: Array
    """Sum of h (w - point)^2 over the bin's weights."""


@dataclass(frozen=True, eq=False)
class WeightHistogram:
    """Counts and sensitivity-weighted moments per bin of an even grid from ``low`` to ``high``.

    ``counts`` number of weights, ``sensitivity`` sum of h, ``first`` sum of h (w - c), ``second`` sum of h (w - c)^2,
    each (bins,) float64, about the bin's own centre c, so that nothing cancels. Sums of two histograms over the same
    grid are the histogram of all weights together.

    Raises ArgumentError if the arrays' shapes differ or there is no weight or no sensitivity in it.
    """

    low: float
    high: float
    counts: Array
    sensitivity: Array
    first: Array
    second: Array

    def __post_init__(self) -> None:
        _check_grid(self.low, self.high, len(self.counts))
        for name in ("counts", "sensitivity", "first", "second"):
            if getattr(self, name).shape != (self.bins,):
                raise ArgumentError(
                    f"histogram {name} must have shape ({self.bins},), got {getattr(self, name).shape}: one per bin"
                )
        if not (self.counts.sum() > 0 and self.sensitivity.sum() > 0):
            raise ArgumentError(
                "histogram must hold weights of positive sensitivity, "
                f"got {self.counts.sum():g} weights, sensitivity {self.sensitivity.sum():g}: check the inputs"
            )

    @property
    def bins(self) -> int:
        """Number of bins."""
        return len(self.counts)

    @property
    def centres(self) -> Array:
        """Bin centres c, shape (bins,), in units of the weights."""
        step = (self.high - self.low) / self.bins
        centres: Array = self.low + (np.arange(self.bins, dtype=np.float64) + 0.5) * step
        return centres

    @property
    def count(self) -> float:
        """Number of weights."""
        return float(self.counts.sum())

    @property
    def magnitude(self) -> float:
        """Largest absolute bin mean."""
        return float(np.abs(self.occupied.points).max())

    @property
    def standard_deviation(self) -> float:
        """Root of the mean squared deviation of the weights (under h), in their unit; exact, whatever the bins."""
        bins = self.occupied
        mean = bins.sensitivity @ bins.points / bins.sensitivity.sum()
        squares = bins.scatter.sum() + bins.sensitivity @ (bins.points - mean) ** 2
        return float(np.sqrt(squares / bins.sensitivity.sum()))

    @classmethod
    def of_moments(cls, low: float, high: float, table: Array) -> WeightHistogram:
        """From columns count, sum of w - c and of (w - c)^2, (bins, 3) float64; every weight has sensitivity 1."""
        counts, first, second = (np.ascontiguousarray(column) for column in table.T)
        return cls(float(low), float(high), counts, counts, first, second)

    @cached_property
    def occupied(self) -> OccupiedBins:
        """The bins that hold weights, each as a point with a spread."""
        used = self.counts > 0
        scale = self.count / self.sensitivity.sum()
        sensitivity, first, second = (scale * sums[used] for sums in (self.sensitivity, self.first, self.second))
        shift = np.divide(first, sensitivity, out=np.zeros_like(first), where=sensitivity > 0)
        return OccupiedBins(
            counts=self.counts[used],
            sensitivity=sensitivity,
            points=self.centres[used] + shift,
            scatter=np.maximum(second - first * shift, 0.0),
        )

    def merge(self, other: WeightHistogram) -> WeightHistogram:
        """The histogram of both sets of weights. Raises ArgumentError if the grids differ."""
        if (self.low, self.high, self.bins) != (other.low, other.high, other.bins):
            raise ArgumentError(
                f"histograms must have the same grid, got {self.bins} bins in {self.low} .. {self.high} and "
                f"{other.bins} in {other.low} .. {other.high}: agree on low, high and bins first"
            )
        return WeightHistogram(
            self.low,
            self.high,
            self.counts + other.counts,
            self.sensitivity + other.sensitivity,
            self.first + other.first,
            self.second + other.second,
        )

    def expected_statistics(self, mixture: Mixture) -> ExpectedStatistics:
        """The E-step, with responsibilities shared by the weights in a bin; O(bins k).

        Among shared responsibilities the best are r_bk ~ exp(mean over the bin's weights of log(pi_k N(w; mu_k,
        sigma_k^2 / h))); with them ``log_likelihood`` is a lower bound of the exact one, by Jensen's inequality, tight
        to second order in bin width / sigma, and EM on it is monotone however coarse the bins are.

        Raises ArgumentError if the mixture is over vectors.
        """
        if mixture.means.ndim != 1:
            raise ArgumentError(f"mixture dimension must be 1, got {mixture.dimension}: use VectorData for vectors")
        bins = self.occupied
        per_weight = bins.sensitivity / bins.counts
        uniform = bool((per_weight == 1).all())
        joint = log_joint(bins.points, mixture, None if uniform else per_weight, bins.scatter / bins.counts)
        responsibilities, log_density = soft_max(joint)
        totals = np.stack([bins.counts, bins.sensitivity, bins.sensitivity * bins.points, bins.scatter], axis=1)
        mass, sensitivity, moment, within = (responsibilities @ totals).T
        means = np.divide(moment, sensitivity, out=np.zeros_like(moment), where=sensitivity > 0)
        deviations = bins.points - means[:, None]
        deviations *= deviations
        deviations *= responsibilities
        return ExpectedStatistics(
            mass=mass,
            sensitivity=sensitivity,
            means=means,
            scatter=within + deviations @ bins.sensitivity,
            log_likelihood=float(bins.counts @ log_density),
        )


def weight_histogram(
    values: AnyArray, *, low: float, high: float, bins: int = 4096, sensitivity: Sensitivity | None = None
) -> WeightHistogram:
    """Histogram of ``values`` (any shape and strides, read as float32) on ``bins`` even bins from ``low`` to ``high``.

    One pass over the weights, in pieces on a few threads; the result does not depend on how many. Values outside the
    range count in the first or last bin, with exact moments about its centre. ``sensitivities`` h >= 0, shaped like the
    values; None means 1 everywhere.

    Raises ArgumentError on a bad grid or sensitivities, ModelError if a value is NaN or infinite.
    """
    _check_grid(low, high, bins)
    values = np.asarray(values)
    flat = values.reshape(-1)
    sensitivities = None if sensitivity is None else sensitivity.flat(values.shape)
    table = moment_table(flat, sensitivities, low=low, high=high, bins=bins)
    if not np.isfinite(table).all():  # a NaN or an infinity anywhere ends up in the sums
        raise_not_finite(flat)
    if sensitivities is None:
        return WeightHistogram.of_moments(low, high, table)
    counts, first, second, mass = (np.ascontiguousarray(column) for column in table.T)
    return WeightHistogram(float(low), float(high), counts, mass, first, second)


def weight_range(values: AnyArray) -> tuple[float, float]:
    """(low, high) for `weight_histogram`: least and greatest value, widened if they are equal; one pass.

    Raises ArgumentError if there are no values, ModelError if one is NaN or infinite.
    """
    flat = np.asarray(values).reshape(-1)
    if flat.size == 0:
        raise ArgumentError("number of weights must be >= 1, got 0: there is nothing to fit")
    chunks = [flat[start : start + RANGE_CHUNK] for start in range(0, flat.size, RANGE_CHUNK)]
    low = float(np.min([chunk.min() for chunk in chunks]))
    high = float(np.max([chunk.max() for chunk in chunks]))
    if not np.isfinite(high - low):
        raise_not_finite(flat)
    return widened(low, high)


def widened(low: float, high: float) -> tuple[float, float]:
    """The same range, or a small one around the two if they are equal."""
    if low == high:
        margin = max(abs(low) * 2.0**-10, 1e-30)
        return low - margin, high + margin
    return low, high


def raise_not_finite(flat: AnyArray) -> None:
    """Raises ModelError with the number of values that are not finite in float32."""
    chunks = (flat[start : start + RANGE_CHUNK] for start in range(0, len(flat), RANGE_CHUNK))
    bad = sum(int((~np.isfinite(as_float32(chunk))).sum()) for chunk in chunks)
    raise ModelError(f"weights must be finite in float32, got {bad} NaN or infinite of {len(flat)}: repair the model")


def moment_table(flat: AnyArray, sensitivities: AnyArray | None = None, *, low: float, high: float, bins: int) -> Array:
    """Columns count, first, second and, with sensitivities, their sum; (bins, 3 or 4) float64, zeros of no weights.

    What `weight_histogram` is made of: tables over one grid add up. ``flat`` (n,), ``sensitivities`` (n,) or None.
    """
    from sws_compress.mixture import kernels

    low, step = float(low), (high - low) / bins

    def piece(part: slice) -> Array:
        values = as_float32(flat[part])
        if sensitivities is None:
            table = np.zeros((bins, 3))
            kernels.histogram(values, low, step, table)
            return table
        table = np.zeros((bins, 4))
        kernels.weighted_histogram(values, as_float32(sensitivities[part]), low, step, table)
        return table

    total = np.zeros((bins, 3 if sensitivities is None else 4))
    for table in over_pieces(piece, len(flat), PIECE_WEIGHTS):
        total += table
    return total


def as_float32(values: AnyArray) -> AnyArray:
    """Contiguous float32 values: the same memory if they are that already, a copy of this piece otherwise."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _check_grid(low: float, high: float, bins: int) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ArgumentError(f"histogram range must be finite with low < high, got {low} .. {high}: use weight_range")
    if not 1 <= bins < 2**31:
        raise ArgumentError(f"bins must be >= 1, got {bins}: 4096 suits most tensors")
