"""The mixture itself: p(w) = sum_k pi_k N(w; mu_k, Sigma_k), Sigma_k diagonal, for scalars and short vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError

Array: TypeAlias = npt.NDArray[np.float64]


AnyArray: TypeAlias = npt.NDArray[np.generic]


CHUNK_VALUES = 1 << 14
"""Values looked at together where a (k, chunk) array is needed: 2 MB for 16 components."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A Gaussian mixture with diagonal covariances; its arrays are float64, copied and read-only.

    ``weights`` (k,) are the mixing proportions pi, at least 0, summing to 1; a component may have weight 0.
    ``means`` and ``variances`` are both (k,) for scalar weights or both (k, d) for vectors of d consecutive weights,
    in units of the weights and their squares; variances are positive.

    Raises ArgumentError where one of these rules is broken.
    """

    weights: Array
    means: Array
    variances: Array

    def __post_init__(self) -> None:
        for name in ("weights", "means", "variances"):
            values = np.array(getattr(self, name), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
            if not np.isfinite(values).all():
                raise ArgumentError(f"mixture {name} must be finite, got {values}: check the fit that made them")
        if self.weights.ndim != 1 or self.weights.size == 0:
            raise ArgumentError(f"mixture weights must have shape (k,), got {self.weights.shape}: one per component")
        if self.means.shape != self.variances.shape:
            raise ArgumentError(
                f"mixture variances must have the shape of the means {self.means.shape}, "
                f"got {self.variances.shape}: covariances are diagonal"
            )
        if self.means.ndim not in (1, 2) or len(self.means) != len(self.weights) or self.means.size == 0:
            raise ArgumentError(
                f"mixture means must have shape (k,) or (k, d) with k = {len(self.weights)}, got {self.means.shape}: "
                "one row per component"
            )
        if (self.weights < 0).any() or abs(self.weights.sum() - 1) > 1e-6:
            raise ArgumentError(f"mixture weights must be >= 0 and sum to 1, got {self.weights}: normalise them")
        if (self.variances <= 0).any():
            raise ArgumentError(f"mixture variances must be > 0, got {self.variances.min()}: set a variance floor")

    @property
    def components(self) -> int:
        """k, the number of components."""
        return len(self.weights)

    @property
    def dimension(self) -> int:
        """d, the number of consecutive weights one component describes; 1 for scalar weights."""
        return 1 if self.means.ndim == 1 else self.means.shape[1]

    def log_density(self, values: AnyArray) -> Array:
        """log p(w) in nats, shape (n,), of ``values`` (n,), or (n, d); for d = 1 any shape is read as (n,)."""
        points = as_points(values, self)
        log_densities = np.empty(len(points))
        for start in range(0, len(points), CHUNK_VALUES):
            joint = log_joint(points[start : start + CHUNK_VALUES], self)
            log_densities[start : start + CHUNK_VALUES] = soft_max(joint)[1]
        return log_densities


def as_points(values: AnyArray, mixture: Mixture) -> AnyArray:
    """``values`` as points of the mixture: (n,) for d = 1, whatever the shape was, else (n, d).

    Raises ArgumentError if d > 1 and the values are not an (n, d) array.
    """
    values = np.asarray(values)
    if mixture.means.ndim == 1:
        return values.reshape(-1)
    if values.ndim != 2 or values.shape[1] != mixture.dimension:
        raise ArgumentError(
            f"values must have shape (n, {mixture.dimension}), got {values.shape}: "
            "reshape them to rows of as many weights as a component describes"
        )
    return values


def log_joint(
    points: AnyArray, mixture: Mixture, sensitivities: Array | None = None, spreads: Array | None = None
) -> Array:
    """log(pi_k N(w; mu_k, Sigma_k / h)), shape (k, n), up to the log h terms, which no component can change.

    ``points`` (n,) or (n, d); ``sensitivities`` h of the same shape, 1 if None; ``spreads`` of the same shape, 0 if
    None, are added to h (w - mu)^2. Components come first so that sums over them run along contiguous memory.
    """
    columns = np.asarray(points, dtype=np.float64).reshape(len(points), -1).T
    scales = None if sensitivities is None else sensitivities.reshape(len(points), -1).T
    extras = None if spreads is None else spreads.reshape(len(points), -1).T
    means = mixture.means.reshape(mixture.components, -1)
    variances = mixture.variances.reshape(mixture.components, -1)
    with np.errstate(divide="ignore"):
        offsets = np.log(mixture.weights) - 0.5 * np.log(2 * np.pi * variances).sum(axis=1)
    joint: Array | None = None
    for j, column in enumerate(columns):
        squares = column - means[:, j, None]
        squares *= squares
        if scales is not None:
            squares *= scales[j]
        if extras is not None:
            squares += extras[j]
        squares *= -0.5 / variances[:, j, None]
        squares += offsets[:, None] if joint is None else joint
        joint = squares
    assert joint is not None  # a mixture has at least one dimension
    return joint


def soft_max(joint: Array) -> tuple[Array, Array]:
    """Responsibilities (k, n) and log sum_k exp(joint) (n,); the maximum is subtracted first. Overwrites ``joint``."""
    peaks = joint.max(axis=0)
    joint -= peaks
    np.exp(joint, out=joint)
    totals = joint.sum(axis=0)
    joint /= totals
    return joint, np.log(totals) + peaks
