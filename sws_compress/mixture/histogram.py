"""Histograms with moments: all that a scalar mixture needs of a tensor, in O(bins) numbers. Histograms add up."""

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
"""Weights that one thread takes at a time. Each piece has a table of its own; they are added in order."""


RANGE_CHUNK = 1 << 16
"""Weights whose minimum and maximum are taken while they are in the cache: one pass over memory instead of two."""


class OccupiedBins(NamedTuple):
    """Bins that hold weights, as points with spreads; h are the sensitivities divided by their mean.

    Parameters
    ----------
    counts : ndarray, shape (m,), float64
        Number of weights.
    sensitivity : ndarray, shape (m,), float64
        Sum of h.
    points : ndarray, shape (m,), float64
        Mean of the weights under h; the bin's centre if all its h are 0.
    scatter : ndarray, shape (m,), float64
        Sum of h (w - point)^2.
    """

    counts: Array
    sensitivity: Array
    points: Array
    scatter: Array


@dataclass(frozen=True, eq=False, repr=False)
class WeightHistogram:
    """Counts and sensitivity-weighted moments per bin of an even grid.

    Moments are about the bin's own centre c, so that nothing cancels. The sums of two histograms over one grid are the
    histogram of all weights together.

    Parameters
    ----------
    low, high : float
        Ends of the grid, in units of the weights.
    counts : ndarray, shape (bins,), float64
        Number of weights.
    sensitivity : ndarray, shape (bins,), float64
        Sum of h, as given (not divided by the mean).
    first, second : ndarray, shape (bins,), float64
        Sum of h (w - c) and of h (w - c)^2.

    Raises
    ------
    ArgumentError
        If the shapes differ, the grid is empty, or no weight or no sensitivity is in it.

    Examples
    --------
    >>> import numpy as np
    >>> from sws_compress.mixture.histogram import weight_histogram
    >>> histogram = weight_histogram(np.float32([0.0, 0.5, 0.5, 1.0]), low=-0.25, high=1.25, bins=3)
    >>> histogram.counts.tolist(), histogram.centres.tolist()
    ([1.0, 2.0, 1.0], [0.0, 0.5, 1.0])
    >>> histogram.merge(histogram).count
    8.0
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

    def __repr__(self) -> str:
        return (
            f"<WeightHistogram of {self.count:,.0f} weights, {self.bins} bins from {self.low:.4g} to {self.high:.4g}>"
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
        """Largest absolute mean of a bin."""
        return float(np.abs(self.occupied.points).max())

    @property
    def standard_deviation(self) -> float:
        """Standard deviation of the weights under h, in their unit; exact, whatever the bins."""
        bins = self.occupied
        mean = bins.sensitivity @ bins.points / bins.sensitivity.sum()
        squares = bins.scatter.sum() + bins.sensitivity @ (bins.points - mean) ** 2
        return float(np.sqrt(squares / bins.sensitivity.sum()))

    @classmethod
    def of_moments(cls, low: float, high: float, table: Array) -> WeightHistogram:
        """Histogram from a `moment_table` of weights of sensitivity 1."""
        counts, first, second = (np.ascontiguousarray(column) for column in table.T)
        return cls(float(low), float(high), counts, counts, first, second)

    @cached_property
    def occupied(self) -> OccupiedBins:
        """Bins that hold weights, each as a point with a spread."""
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
        """Histogram of both sets of weights.

        Raises
        ------
        ArgumentError
            If the grids differ.
        """
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
        """E-step with one responsibility per bin and component, in O(bins k).

        Parameters
        ----------
        mixture : Mixture
            A scalar mixture.

        Returns
        -------
        ExpectedStatistics
            Sums over all weights.

        Raises
        ------
        ArgumentError
            If the mixture is over vectors.

        Notes
        -----
        The weights of a bin share their responsibilities. The best shared ones are r_bk ~ exp(mean over the bin's
        weights of log(pi_k N(w; mu_k, sigma_k^2 / h))). With them the log-likelihood is a lower bound of the exact one
        (Jensen's inequality), tight to second order in bin width / sigma. EM on this bound is monotone, however coarse
        the bins are.
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
    """Histogram of weights on even bins, in one pass.

    Pieces run in a few threads; the result does not depend on how many.

    Parameters
    ----------
    values : ndarray, any shape and strides
        The weights, read as float32. Values outside the range count in the first or last bin, with exact moments about
        its centre.
    low, high : float
        Ends of the grid, in units of the weights.
    bins : int, >= 1
        Number of bins.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.

    Returns
    -------
    WeightHistogram
        Counts and moments.

    Raises
    ------
    ArgumentError
        If the grid is empty, there are no values, or the sensitivities do not broadcast to them.
    ModelError
        If a value is NaN or infinite.
    """
    _check_grid(low, high, bins)
    values = np.asarray(values)
    flat = values.reshape(-1)
    sensitivities = None if sensitivity is None else sensitivity.flat(values.shape)
    table = moment_table(flat, sensitivities, low=low, high=high, bins=bins)
    if not np.isfinite(table).all():  # NaN and infinity end up in the sums
        raise_not_finite(flat)
    if sensitivities is None:
        return WeightHistogram.of_moments(low, high, table)
    counts, first, second, mass = (np.ascontiguousarray(column) for column in table.T)
    return WeightHistogram(float(low), float(high), counts, mass, first, second)


def weight_range(values: AnyArray) -> tuple[float, float]:
    """Range of a histogram that holds all weights.

    Parameters
    ----------
    values : ndarray, any shape, floating point
        The weights; they are read once, in chunks.

    Returns
    -------
    low, high : float
        Least and greatest value, moved apart if they are equal.

    Raises
    ------
    ArgumentError
        If there are no values.
    ModelError
        If a value is NaN or infinite.
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
    """Both ends of a range, moved apart a little if they are equal."""
    if low == high:
        margin = max(abs(low) * 2.0**-10, 1e-30)
        return low - margin, high + margin
    return low, high


def raise_not_finite(flat: AnyArray) -> None:
    """Raise ModelError with the number of values that are not finite in float32."""
    chunks = (flat[start : start + RANGE_CHUNK] for start in range(0, len(flat), RANGE_CHUNK))
    bad = sum(int((~np.isfinite(as_float32(chunk))).sum()) for chunk in chunks)
    raise ModelError(f"weights must be finite in float32, got {bad} NaN or infinite of {len(flat)}: repair the model")


def moment_table(flat: AnyArray, sensitivities: AnyArray | None = None, *, low: float, high: float, bins: int) -> Array:
    """Table that a `WeightHistogram` is made of; tables over one grid add up.

    Parameters
    ----------
    flat : ndarray, shape (n,), floating point
        The weights; there may be none.
    sensitivities : ndarray, shape (n,), optional
        h, finite and at least 0; by default 1.
    low, high, bins
        As for `weight_histogram`.

    Returns
    -------
    ndarray, shape (bins, 3), or (bins, 4) with sensitivities, float64
        Columns: number of weights, sum of h (w - c), sum of h (w - c)^2, and sum of h.
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
    """Values as contiguous float32: the same memory if they are that already, else a copy."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _check_grid(low: float, high: float, bins: int) -> None:
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ArgumentError(f"histogram range must be finite with low < high, got {low} .. {high}: use weight_range")
    if not 1 <= bins < 2**31:
        raise ArgumentError(f"bins must be >= 1, got {bins}: 4096 suits most tensors")
