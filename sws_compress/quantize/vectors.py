"""Clustering of vectors of consecutive weights, without data: EM with diagonal covariances, then hard steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.em import Prior, fit
from sws_compress.mixture.mixture import AnyArray, Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.mixture.vector_data import VectorData
from sws_compress.quantize.assign import snap
from sws_compress.quantize.initial import SAMPLE_VECTORS, initial_mixture
from sws_compress.quantize.palette import Clustering, Palette, in_half
from sws_compress.quantize.rate_distortion import squared_error
from sws_compress.quantize.scalar import relative_to_mean

EM_STEPS = 10
"""Steps of EM on a sample of the vectors."""


HARD_STEPS = 2
"""Assignments of all vectors; the members' means of the last one are the codebook."""


MIN_VECTORS_PER_COMPONENT = 8
"""Fewer vectors for each component are not worth a codebook of vectors: it costs more than it saves."""


def cluster_vectors(
    values: AnyArray,
    components: int,
    length: int,
    *,
    sensitivity: Sensitivity | None = None,
    bit_price: float = 0.0,
    seed: int,
) -> Clustering | None:
    """Cluster with one codebook of vectors of ``length`` consecutive weights, as `cluster` with `Vectors`.

    Parameters
    ----------
    values, components, sensitivity, bit_price
        As for `cluster_scalars`; one index stands for a vector, and its bits for all its weights.
    length : int
        Weights in a vector, consecutive in C order.
    seed : int
        Seed of the sample and the start.

    Returns
    -------
    Clustering or None
        None if the length does not divide the number of weights, or there are too few vectors for the codebook.

    Raises
    ------
    ArgumentError, ModelError
        As for `cluster`.
    """
    vectors = values.size // length
    if values.size % length or vectors < MIN_VECTORS_PER_COMPONENT * components:
        return None
    relative, price = relative_to_mean(sensitivity, bit_price)
    chosen: slice | npt.NDArray[np.intp] = slice(None)
    if vectors > SAMPLE_VECTORS:
        chosen = np.sort(np.random.default_rng(seed).choice(vectors, SAMPLE_VECTORS, replace=False))
    data = VectorData(values.reshape(-1, length)[chosen], _sampled(relative, values.shape, length, chosen))
    start = initial_mixture(data, components, fixed_zero=False, seed=seed)
    mixture = fit(data, start, Prior(fixed_zero=False), max_iterations=EM_STEPS).mixture
    palette = snap(values, mixture, sensitivity=relative, bit_price=price)
    for _ in range(HARD_STEPS - 1):
        palette = snap(values, _tied_mixture(palette, mixture), sensitivity=relative, bit_price=price)
    return Clustering(in_half(palette, squared_error(palette, values, relative)), mixture)


def _sampled(
    sensitivity: Sensitivity | None, shape: tuple[int, ...], length: int, chosen: slice | npt.NDArray[np.intp]
) -> Sensitivity | None:
    """Sensitivities of the chosen vectors; None if all are alike, or none of them has any."""
    h = None if sensitivity is None else sensitivity.rows(shape, length)[chosen]
    return None if h is None or not h.any() else Sensitivity(h)


def _tied_mixture(palette: Palette, mixture: Mixture) -> Mixture:
    """Mixture with the entries of the palette as means and their shares as weights."""
    variances = np.full(palette.codebook.shape, mixture.variances.mean())
    return Mixture(palette.counts / palette.indices.size, palette.codebook.astype(np.float64), variances)
