"""Data-free clustering of d consecutive weights: EM with diagonal covariances, then nearest means."""

from __future__ import annotations

import numpy as np

from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.assign import snap
from sws_compress.quantize.initial import SAMPLE_ROWS, initial_mixture
from sws_compress.quantize.palette import Clustering, in_half

EM_STEPS = 10
"""On a sample of the rows."""


HARD_STEPS = 2
"""Assignments of all rows to their nearest means; the codebook of the last is what is kept."""


VECTORS_PER_COMPONENT = 8
"""Below that many rows of d weights for each component the codebook costs more than it saves."""


def cluster_vectors(values: AnyArray, components: int, length: int, *, seed: int) -> Clustering | None:
    """`cluster` with one codebook of vectors of ``length`` consecutive weights; None where they are too few."""
    vectors = values.size // length
    if values.size % length or vectors < VECTORS_PER_COMPONENT * components:
        return None
    points = values.reshape(-1, length)
    chosen: slice | np.ndarray[tuple[int], np.dtype[np.intp]] = slice(None)
    if vectors > SAMPLE_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(vectors, SAMPLE_ROWS, replace=False))
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
