"""Expected statistics, which the E-step hands to the M-step, and the interface of data that can be fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sws_compress.mixture.mixture import Array, Mixture


@dataclass(frozen=True, eq=False)
class ExpectedStatistics:
    """Expected sufficient statistics under responsibilities r; h are the sensitivities divided by their mean.

    Parameters
    ----------
    mass : ndarray, shape (k,), float64
        sum_i r_ik.
    sensitivity : ndarray, shape of the mixture's means, float64
        sum_i h_i r_ik, per dimension.
    means : ndarray, shape of the mixture's means, float64
        sum_i h_i r_ik w_i / sensitivity; 0 where that is 0.
    scatter : ndarray, shape of the mixture's means, float64
        sum_i h_i r_ik (w_i - means_k)^2.
    log_likelihood : float
        Of all data, in nats.
    """

    mass: Array
    sensitivity: Array
    means: Array
    scatter: Array
    log_likelihood: float


class EMData(Protocol):
    """Interface of weights that a mixture can be fitted to: `WeightHistogram` and `VectorData` have it."""

    @property
    def count(self) -> float:
        """Number of weights (vectors if d > 1), at least 1."""
        ...

    @property
    def magnitude(self) -> float:
        """Largest absolute value, at least 0."""
        ...

    def expected_statistics(self, mixture: Mixture) -> ExpectedStatistics:
        """E-step summed over the data. Murphy 2012, Eq. 11.27."""
        ...


def smallest_variance(data: EMData) -> float:
    """Least variance that float32 weights tell from 0, (2^-24 of the largest weight)^2; always positive."""
    return variance_resolution(data.magnitude)


def variance_resolution(magnitude: float) -> float:
    """`smallest_variance` of data whose largest absolute value is ``magnitude``."""
    return max((2.0**-24 * magnitude) ** 2, 1e-200)
