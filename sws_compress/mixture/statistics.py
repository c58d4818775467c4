"""What an E-step hands to the M-step, and what data must offer to be fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sws_compress.mixture.mixture import Array, Mixture


@dataclass(frozen=True, eq=False)
class ExpectedStatistics:
    """Expected sufficient statistics under responsibilities r; h are the sensitivities divided by their mean.

    ``mass`` (k,): sum_i r_ik. The others are shaped like the mixture's means, per dimension: ``sensitivity``
    sum_i h_i r_ik, ``means`` sum_i h_i r_ik w_i / sensitivity (0 where that is 0), ``scatter``
    sum_i h_i r_ik (w_i - means_k)^2, about these means. ``log_likelihood``: of all data, in nats.
    """

    mass: Array
    sensitivity: Array
    means: Array
    scatter: Array
    log_likelihood: float


class EMData(Protocol):
    """Weights that a mixture can be fitted to: a `WeightHistogram` or `VectorData`."""

    @property
    def count(self) -> float:
        """Number of weights (of vectors if d > 1), at least 1."""
        ...

    @property
    def magnitude(self) -> float:
        """Largest absolute value, at least 0."""
        ...

    def expected_statistics(self, mixture: Mixture) -> ExpectedStatistics:
        """The E-step, Murphy 2012, Eq. 11.27, summed over the data."""
        ...


def smallest_variance(data: EMData) -> float:
    """(2^-24 of the largest weight)^2: float32 weights cannot tell smaller variances from 0; positive always."""
    return variance_resolution(data.magnitude)


def variance_resolution(magnitude: float) -> float:
    """`smallest_variance` where the largest absolute value is ``magnitude``."""
    return max((2.0**-24 * magnitude) ** 2, 1e-200)
