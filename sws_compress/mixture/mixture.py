"""Gaussian mixtures p(w) = sum_k pi_k N(w; mu_k, Sigma_k) with diagonal Sigma_k, for scalars and short vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError

Array: TypeAlias = npt.NDArray[np.float64]


FloatArray: TypeAlias = npt.NDArray[np.float32]


AnyArray: TypeAlias = npt.NDArray[np.generic]


CHUNK_VALUES = 1 << 14
"""Values at a time where an array (k, chunk) is needed: 2 MB for 16 components."""


@dataclass(frozen=True, eq=False, repr=False)
class Mixture:
    """A Gaussian mixture with diagonal covariances.

    Parameters
    ----------
    weights : ndarray, shape (k,)
        Mixing proportions pi, at least 0, with sum 1. A component may have weight 0.
    means : ndarray, shape (k,), or (k, d) for vectors of d consecutive weights
        Component means mu, in units of the weights.
    variances : ndarray, shape of the means
        Diagonals of Sigma, positive, in units of the weights squared.

    All arrays are copied to float64 and are read-only.

    Raises
    ------
    ArgumentError
        If one of these rules is broken.

    Examples
    --------
    >>> import numpy as np
    >>> import sws_compress as sws
    >>> mixture = sws.Mixture(np.array([0.9, 0.1]), means=np.array([0.0, 0.5]), variances=np.array([0.01, 0.04]))
    >>> mixture.components, mixture.dimension
    (2, 1)
    >>> mixture.log_density(np.array([0.0, 0.5])).round(3)
    array([ 1.281, -1.612])
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

    def __repr__(self) -> str:
        ends = f"means from {self.means.min():.4g} to {self.means.max():.4g}"
        return f"<Mixture of {self.components} components, {ends}>"

    @property
    def components(self) -> int:
        """Number of components, k."""
        return len(self.weights)

    @property
    def dimension(self) -> int:
        """Number of consecutive weights that one component describes, d; 1 for scalars."""
        return 1 if self.means.ndim == 1 else self.means.shape[1]

    def log_density(self, values: AnyArray) -> Array:
        """Log density of weights.

        Parameters
        ----------
        values : ndarray, any shape with n elements, or (n, d) for vectors
            The weights.

        Returns
        -------
        ndarray, shape (n,), float64
            log p(w), in nats.

        Raises
        ------
        ArgumentError
            If d > 1 and the values have another shape.
        """
        points = as_points(values, self)
        log_densities = np.empty(len(points))
        for start in range(0, len(points), CHUNK_VALUES):
            joint = log_joint(points[start : start + CHUNK_VALUES], self)
            log_densities[start : start + CHUNK_VALUES] = soft_max(joint)[1]
        return log_densities


def as_points(values: AnyArray, mixture: Mixture) -> AnyArray:
    """Values as points of the mixture: (n,) for d = 1, whatever their shape, else (n, d).

    Raises
    ------
    ArgumentError
        If d > 1 and the values are not an (n, d) array.
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
    """Joint log density log(pi_k N(w; mu_k, Sigma_k / h)) without its terms in log h, which are alike for all k.

    Components come first, so that sums over them run along contiguous memory.

    Parameters
    ----------
    points : ndarray, shape (n,) or (n, d)
        The weights.
    mixture : Mixture
        A mixture of k components.
    sensitivities : ndarray, shape of the points, optional
        h; by default 1.
    spreads : ndarray, shape of the points, optional
        Added to h (w - mu)^2; by default 0.

    Returns
    -------
    ndarray, shape (k, n), float64
        In nats.
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
    """Responsibilities (k, n) and log sum_k exp(joint) (n,) of a joint log density (k, n), which is overwritten."""
    peaks = joint.max(axis=0)
    joint -= peaks
    np.exp(joint, out=joint)
    totals = joint.sum(axis=0)
    joint /= totals
    return joint, np.log(totals) + peaks
