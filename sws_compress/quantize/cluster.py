"""Clustering of one tensor without data: a palette of few values, at the granularity that is asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sws_compress.mixture.mixture import AnyArray
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.assign import check_bit_price
from sws_compress.quantize.channel_scaled import cluster_by_channel
from sws_compress.quantize.granularity import Best, Granularity, PerChannel, PerTensor, Vectors, check_granularity
from sws_compress.quantize.palette import Clustering, check_components, palette_of
from sws_compress.quantize.rate_distortion import merit_bits
from sws_compress.quantize.scalar import cluster_scalars
from sws_compress.quantize.vectors import cluster_vectors

PER_TENSOR = PerTensor()

FAR_EXPONENT = 60
"""Powers of two up to which the largest magnitude of a tensor is near 1: squares of it, and squares of what float32
resolves of it, are ordinary numbers even in float32. Trained weights are all near 1."""


def cluster(
    values: AnyArray,
    components: int,
    granularity: Granularity = PER_TENSOR,
    *,
    channel_axis: int = 0,
    sensitivity: Sensitivity | None = None,
    bit_price: float = 0.0,
    seed: int,
) -> Clustering:
    """Cluster a tensor to at most ``components`` distinct values (vectors, or values before scaling).

    A tensor that has no more distinct values already is kept bit for bit, whatever the granularity. Where a tensor
    cannot have scales or vectors, it is clustered as with `PerTensor`.

    Parameters
    ----------
    values : ndarray, any shape, float16, bfloat16, float32 or float64
        The weights.
    components : int, 2 .. 256
        Entries of the codebook, at most.
    granularity : PerTensor, PerChannel, Vectors or Best
        Which weights share an entry or a scale.
    channel_axis : int
        Axis of the output channels, for `PerChannel`.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.
    bit_price : float, >= 0
        Error that one bit is worth, in units of h w^2: the sum of h (w - w')^2 plus ``bit_price`` times the bits of all
        indices is made small. 0 asks for the least error.
    seed : int
        Seed of the sample and the start of vectors; scalars need none.

    Returns
    -------
    Clustering
        The palette, and the mixture it came from. Weights whose squares a float may not hold (`FAR_EXPONENT`) are
        clustered without scales, times a power of two; they have no mixture.

    Raises
    ------
    ArgumentError
        If ``components`` is not in 2 .. 256, the granularity is of another type, the values are empty or not
        floating-point, the price is negative, or the sensitivities do not broadcast to the values.
    ModelError
        If a value is NaN or infinite.
    """
    values = np.asarray(values)
    check_components(components)
    check_granularity(granularity)
    check_bit_price(bit_price)
    if sensitivity is not None:
        sensitivity.of(values.shape)  # refuses what does not broadcast
    exact = palette_of(values)
    if exact is not None and len(exact.codebook) <= components:
        return Clustering(exact, None)
    if exponent := far_exponent(values):
        near = np.ldexp(values.astype(np.float64), -exponent)
        price = float(np.ldexp(bit_price, -2 * exponent))
        kept = granularity if isinstance(granularity, Vectors) else PerTensor()
        palette = cluster(
            near, components, kept, channel_axis=channel_axis, sensitivity=sensitivity, bit_price=price, seed=seed
        ).palette
        codebook = np.ldexp(palette.codebook, exponent).astype(values.dtype)
        return Clustering(replace(palette, codebook=codebook), None)

    def found(candidate: PerTensor | PerChannel | Vectors) -> Clustering | None:
        if isinstance(candidate, PerChannel):
            return cluster_by_channel(values, components, channel_axis, sensitivity=sensitivity, bit_price=bit_price)
        if isinstance(candidate, Vectors):
            return cluster_vectors(
                values, components, candidate.length, sensitivity=sensitivity, bit_price=bit_price, seed=seed
            )
        return cluster_scalars(values, components, sensitivity=sensitivity, bit_price=bit_price)

    candidates = granularity.candidates if isinstance(granularity, Best) else (granularity,)
    clusterings = [clustering for clustering in map(found, candidates) if clustering is not None]
    if not clusterings:
        return cluster_scalars(values, components, sensitivity=sensitivity, bit_price=bit_price)
    if len(clusterings) == 1:
        return clusterings[0]
    return min(clusterings, key=lambda clustering: merit_bits(clustering.palette, values, sensitivity))


def far_exponent(values: AnyArray) -> int:
    """The power of two by which the largest magnitude is far from 1; 0 if it is not, or not finite."""
    largest = max(-float(values.min()), float(values.max()))
    exponent = math.frexp(largest)[1]
    return exponent if math.isfinite(largest) and largest and abs(exponent) > FAR_EXPONENT else 0
