"""Data-free clustering of d consecutive weights: EM with diagonal covariances, then nearest means."""

from __future__ import annotations

import numpy as np

from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.assign import snap
from sws_compress.quantize.initial import SAMPLE_ROWS, initial_mixture
from sws_compress.quantize.palette import FLOATS, in_half
from sws_compress.quantize.scalar import Clustering, cluster

EM_STEPS = 10
"""On a sample of the rows."""


HARD_STEPS = 2
"""Assignments of all rows to their nearest means; the codebook of the last is what is kept."""


ROWS_PER_COMPONENT = 8
"""Below that many rows of d weights for each component the codebook costs more than it saves."""


def cluster_vectors(values: AnyArray, components: int, dimension: int, *, seed: int) -> Clustering:
    """At most ``components`` distinct rows of ``dimension`` consecutive weights (C order) of a tensor of any shape.

    `cluster`, with as many scalar components, where d does not divide the number of weights, where there are too few
    rows, where the values are few and distinct already, or of a type that float32 does not hold. ``seed`` drives the
    sample and the start. Errors as there.
    """
    values = np.asarray(values)
    rows = values.size // dimension
    if dimension == 1 or values.size % dimension or rows < ROWS_PER_COMPONENT * components:
        return cluster(values, components, seed=seed)
    whole = cluster(values, components, seed=seed)
    if whole.mixture is None or values.dtype.name not in FLOATS:
        return whole
    points = values.reshape(-1, dimension)
    chosen: slice | np.ndarray[tuple[int], np.dtype[np.intp]] = slice(None)
    if rows > SAMPLE_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, SAMPLE_ROWS, replace=False))
    data = VectorData(points[chosen])
    mixture = fit(
        data,
        initial_mixture(data, components, fixed_zero=False, seed=seed),
        Prior(fixed_zero=False),
        max_iterations=EM_STEPS,
    ).mixture
    palette = snap(values, mixture)
    for _ in range(HARD_STEPS - 1):
        palette = snap(values, _of_codebook(palette.codebook, mixture))
    error = float(np.square(palette.expand().astype(np.float64) - values.astype(np.float64)).sum())
    return Clustering(in_half(palette, error), mixture)


def _of_codebook(codebook: AnyArray, mixture: Mixture) -> Mixture:
    """A mixture with the codebook's rows as means."""
    count = len(codebook)
    return Mixture(
        np.full(count, 1 / count), codebook.astype(np.float64), np.full(codebook.shape, mixture.variances.mean())
    )
