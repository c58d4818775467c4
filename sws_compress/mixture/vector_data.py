"""Vectors of d consecutive weights, for mixtures with diagonal covariances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture.mixture import CHUNK_VALUES, AnyArray, Array, Mixture, log_joint, soft_max
from sws_compress.mixture.statistics import ExpectedStatistics


@dataclass(frozen=True, eq=False)
class VectorData:
    """Vectors as rows; a tensor becomes vectors by ``tensor.reshape(-1, d)``.

    ``values`` (n, d), n >= 1, any float dtype, not copied; ``sensitivities`` h >= 0 (n, d), or None for 1 everywhere.

    Raises ArgumentError on a bad shape or bad sensitivities, ModelError if a value is NaN or infinite.
    """

    values: AnyArray
    sensitivities: AnyArray | None = None

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
        if self.sensitivities is None:
            return
        if self.sensitivities.shape != self.values.shape:
            raise ArgumentError(
                f"sensitivities must have the shape of the values {self.values.shape}, "
                f"got {self.sensitivities.shape}: give one per weight"
            )
        if not (self.sensitivities.min() >= 0 and 0 < self.sensitivities.sum(dtype=np.float64) < np.inf):
            raise ArgumentError(
                "sensitivities must be finite and >= 0 with a positive sum, "
                f"got {self.sensitivities.min()} .. {self.sensitivities.max()}: clip them"
            )

    @property
    def count(self) -> float:
        """n, the number of vectors."""
        return float(len(self.values))

    @property
    def dimension(self) -> int:
        """d, the length of a vector."""
        return int(self.values.shape[1])

    @cached_property
    def magnitude(self) -> float:
        """Largest absolute weight."""
        return float(max(self.values.max(), -self.values.min()))

    @cached_property
    def sensitivity_scale(self) -> float:
        """1 / mean sensitivity."""
        return 1.0 if self.sensitivities is None else 1 / float(self.sensitivities.mean(dtype=np.float64))

    def expected_statistics(self, mixture: Mixture) -> ExpectedStatistics:
        """The E-step in chunks of rows, O(chunk k) memory. Raises ArgumentError if the mixture's d is another."""
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
        """Values and sensitivities (divided by their mean) of some rows, float64."""
        points = self.values[rows].astype(np.float64)
        if self.sensitivities is None:
            return points, None
        return points, self.sensitivities[rows].astype(np.float64) * self.sensitivity_scale


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted sums of clusters, each (k, d): of sensitivity, the weighted means, and the scatter about these means.

    They merge without cancellation; Chan, Golub & LeVeque 1983.
    """

    sensitivity: Array
    means: Array
    scatter: Array

    @staticmethod
    def none(shape: tuple[int, ...]) -> Moments:
        return Moments(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    @staticmethod
    def of(points: Array, sensitivities: Array | None, responsibilities: Array) -> Moments:
        """Moments of ``points`` (n, d), weighted by ``responsibilities`` (k, n) times ``sensitivities`` (n, d)."""
        scales = np.ones(points.shape) if sensitivities is None else sensitivities
        sensitivity = responsibilities @ scales
        moment = responsibilities @ (scales * points)
        means = np.divide(moment, sensitivity, out=np.zeros_like(moment), where=sensitivity > 0)
        scatter = np.empty_like(means)
        for j, column in enumerate(points.T):
            deviations = column - means[:, j, None]
            deviations *= deviations
            deviations *= responsibilities
            scatter[:, j] = deviations @ scales[:, j]
        return Moments(sensitivity, means, scatter)

    def merge(self, other: Moments) -> Moments:
        total = self.sensitivity + other.sensitivity
        share = np.divide(other.sensitivity, total, out=np.zeros_like(total), where=total > 0)
        gap = other.means - self.means
        scatter = self.scatter + other.scatter + gap * gap * share * self.sensitivity
        return Moments(total, self.means + gap * share, scatter)
