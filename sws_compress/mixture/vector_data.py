"""Vectors of d consecutive weights, for mixtures with diagonal covariances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import CHUNK_VALUES, AnyArray, Array, Mixture, log_joint, soft_max
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.statistics import ExpectedStatistics


@dataclass(frozen=True, eq=False)
class VectorData:
    """Vectors as rows; a tensor becomes vectors by ``tensor.reshape(-1, d)``.

    Parameters
    ----------
    values : ndarray, shape (n, d), floating point
        The vectors, at least one. They are not copied.
    sensitivity : Sensitivity, optional
        h of every weight; its values broadcast to (n, d). By default 1.

    Raises
    ------
    ArgumentError
        If the values are no matrix or empty, or the sensitivities do not broadcast to them.
    ModelError
        If a value is NaN or infinite.
    """

    values: AnyArray
    sensitivity: Sensitivity | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.size == 0:
            raise ArgumentError(
                f"vectors must have shape (n, d), got {self.values.shape}: reshape to rows of d weights"
            )
        bad = int((~np.isfinite(self.values)).sum())
        if bad:
            raise ModelError(
                f"weights must be finite, got {bad} NaN or infinite of {self.values.size}: repair the model"
            )
        if self.sensitivity is not None:
            self.sensitivity.of(self.values.shape)

    @property
    def count(self) -> float:
        """Number of vectors, n."""
        return float(len(self.values))

    @property
    def dimension(self) -> int:
        """Length of a vector, d."""
        return int(self.values.shape[1])

    @cached_property
    def magnitude(self) -> float:
        """Largest absolute weight."""
        return float(max(self.values.max(), -self.values.min()))

    def expected_statistics(self, mixture: Mixture) -> ExpectedStatistics:
        """E-step in chunks of rows, in O(chunk k) memory.

        Parameters
        ----------
        mixture : Mixture
            A mixture over vectors of the same length.

        Returns
        -------
        ExpectedStatistics
            Sums over all rows.

        Raises
        ------
        ArgumentError
            If the mixture has another dimension.
        """
        if mixture.means.ndim != 2 or mixture.dimension != self.dimension:
            raise ArgumentError(
                f"mixture means must have shape (k, {self.dimension}), got {mixture.means.shape}: match d"
            )
        mass = np.zeros(mixture.components)
        moments = Moments.none(mixture.means.shape)
        log_likelihood = 0.0
        for start in range(0, len(self.values), CHUNK_VALUES):
            points, sensitivities = self.chunk(slice(start, start + CHUNK_VALUES))
            joint = log_joint(points, mixture, sensitivities)
            responsibilities, log_density = soft_max(joint)
            mass += responsibilities.sum(axis=1)
            moments = moments.merge(Moments.of(points, sensitivities, responsibilities))
            log_likelihood += float(log_density.sum())
        return ExpectedStatistics(mass, moments.sensitivity, moments.means, moments.scatter, log_likelihood)

    def chunk(self, rows: slice | npt.NDArray[np.intp]) -> tuple[Array, Array | None]:
        """Values and relative sensitivities of some rows, float64; the latter None if all are 1."""
        points = self.values[rows].astype(np.float64)
        if self.sensitivity is None:
            return points, None
        sensitivities = self.sensitivity.of(self.values.shape)[rows].astype(np.float64)
        return points, sensitivities * (1 / self.sensitivity.mean)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sensitivity-weighted moments of clusters of vectors; they merge without cancellation.

    Parameters
    ----------
    sensitivity : ndarray, shape (k, d), float64
        Sum of h.
    means : ndarray, shape (k, d), float64
        Means under h; 0 where the sum of h is 0.
    scatter : ndarray, shape (k, d), float64
        Sum of h times the squared distance from these means.

    References
    ----------
    Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance.
    """

    sensitivity: Array
    means: Array
    scatter: Array

    @staticmethod
    def none(shape: tuple[int, ...]) -> Moments:
        """Moments of no vectors."""
        return Moments(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    @staticmethod
    def of(points: Array, sensitivities: Array | None, responsibilities: Array) -> Moments:
        """Moments of ``points`` (n, d), weighted by ``responsibilities`` (k, n) times ``sensitivities`` (n, d)."""
        h = np.ones(points.shape) if sensitivities is None else sensitivities
        sensitivity = responsibilities @ h
        moment = responsibilities @ (h * points)
        means = np.divide(moment, sensitivity, out=np.zeros_like(moment), where=sensitivity > 0)
        scatter = np.empty_like(means)
        for j, column in enumerate(points.T):
            deviations = column - means[:, j, None]
            deviations *= deviations
            deviations *= responsibilities
            scatter[:, j] = deviations @ h[:, j]
        return Moments(sensitivity, means, scatter)

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of vectors together."""
        total = self.sensitivity + other.sensitivity
        share = np.divide(other.sensitivity, total, out=np.zeros_like(total), where=total > 0)
        gap = other.means - self.means
        scatter = self.scatter + other.scatter + gap * gap * share * self.sensitivity
        return Moments(total, self.means + gap * share, scatter)
