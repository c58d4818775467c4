"""Data-free clustering of one tensor: histogram, start, EM, snap."""

from __future__ import annotations

from dataclasses import dataclass

from sws_compress.mixture.em import EMResult, Prior, fit
from sws_compress.mixture.histogram import weight_histogram, weight_range
from sws_compress.mixture.init import initial_mixture
from sws_compress.mixture.params import AnyArray
from sws_compress.mixture.snap import Palette, palette_of, snap

BINS = 1 << 14
"""Fine enough that 256 components over a heavy-tailed tensor still have dozens of bins each."""


@dataclass(frozen=True, eq=False)
class Clustering:
    """``fitted`` is None where the values were few and distinct already, and the palette is exact."""

    palette: Palette
    fitted: EMResult | None


def cluster(values: AnyArray, components: int, prior: Prior, *, seed: int) -> Clustering:
    """At most ``components`` distinct values for a float32 tensor of any shape, by MAP-EM and nearest means.

    A tensor that has no more distinct values than that is kept exactly. Raises ArgumentError for components outside
    2..256, ModelError for NaN or infinite values.
    """
    exact = palette_of(values)
    if exact is not None and len(exact.codebook) <= components:
        return Clustering(exact, None)
    low, high = weight_range(values)
    histogram = weight_histogram(values, low=low, high=high, bins=BINS)
    start = initial_mixture(histogram, components, fixed_zero=prior.fixed_zero, seed=seed)
    fitted = fit(histogram, start, prior)
    return Clustering(snap(values, fitted.mixture), fitted)
