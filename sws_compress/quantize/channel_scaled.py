"""Clustering with one codebook and one scale per channel, for tensors whose channels differ in size.

A weight w of channel c becomes s_c mu_k, and its error is h (w - s_c mu_k)^2 = h s_c^2 (w / s_c - mu_k)^2. For given
scales the codebook is therefore that of the weights divided by their scales, with sensitivities h s_c^2. For a given
codebook the scale of a channel is a least-squares factor. The two take turns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sws_compress.mixture.mixture import AnyArray, Array
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.palette import FLOATS, Clustering
from sws_compress.quantize.scalar import cluster_scalars
from sws_compress.quantize.weight_scales import ChannelScales

CODEBOOK_FITS = 3
"""Fits of the codebook, with a fit of the scales between two of them."""


FULL_PRECISION_HALVES = (2.0**-14, 65504.0)
"""Least and greatest number at which float16 has all its digits."""


def cluster_by_channel(
    values: AnyArray,
    components: int,
    axis: int,
    *,
    sensitivity: Sensitivity | None = None,
    bit_price: float = 0.0,
) -> Clustering | None:
    """Cluster with a scale for every slice along ``axis``, as `cluster` with `PerChannel`.

    Parameters
    ----------
    values, components, sensitivity, bit_price
        As for `cluster_scalars`.
    axis : int
        Axis of the output channels.

    Returns
    -------
    Clustering or None
        The mixture is of the weights divided by their scales. None if the tensor has one axis, one slice or only zeros,
        or if its type cannot hold the scales or the products.

    Raises
    ------
    ArgumentError, ModelError
        As for `cluster`.
    """
    if values.ndim < 2 or values.shape[axis] < 2 or not values.any():
        return None
    h = None if sensitivity is None else sensitivity.of(values.shape)
    factors = _root_mean_squares(values, axis, h)
    found = None
    for _ in range(CODEBOOK_FITS):
        scales = _stored(np.where(factors > 0, factors, factors.max()), axis)
        if scales is None:
            return None
        found = _fitted(values, components, scales, sensitivity, bit_price)
        units = replace(found.palette, scales=None).expand()
        squares = _slice_sums(units, units, axis, h)
        factors = _slice_sums(values, units, axis, h) / np.where(squares > 0, squares, 1.0)
        factors = np.where(factors > 0, factors, scales.values)
    return found if found is not None and np.isfinite(found.palette.expand()).all() else None


def _fitted(
    values: AnyArray, components: int, scales: ChannelScales, sensitivity: Sensitivity | None, bit_price: float
) -> Clustering:
    """Best codebook for these scales."""
    factors = scales.broadcast(values.shape)
    divided = np.divide(values, factors, dtype=np.float32, casting="unsafe")
    squares = np.square(factors, dtype=np.float64)
    weighted = Sensitivity(squares if sensitivity is None else sensitivity.values * squares)
    found = cluster_scalars(divided, components, sensitivity=weighted, bit_price=bit_price)
    dtype = values.dtype if values.dtype.name in FLOATS else np.dtype(np.float32)
    palette = replace(found.palette, codebook=found.palette.codebook.astype(dtype), scales=scales)
    return Clustering(palette, found.mixture)


def _stored(factors: Array, axis: int) -> ChannelScales | None:
    """Scales rounded to float16 if that has all its digits for each of them, else to float32; None if not even that."""
    least, greatest = FULL_PRECISION_HALVES
    within = least <= factors.min() and factors.max() <= greatest
    with np.errstate(over="ignore", under="ignore"):
        scales = (factors.astype(np.float16) if within else factors).astype(np.float32)
    return ChannelScales(scales, axis) if (scales > 0).all() and np.isfinite(scales).all() else None


def _slice_sums(first: AnyArray, second: AnyArray, axis: int, h: AnyArray | None) -> Array:
    """Sum of h * first * second over each slice along ``axis``, (slices,) float64."""
    arrays = [first, second] if h is None else [first, second, h]
    rows = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in arrays)
    sums: Array = np.einsum(",".join(["cn"] * len(arrays)) + "->c", *rows, dtype=np.float64, casting="unsafe")
    return sums


def _root_mean_squares(values: AnyArray, axis: int, h: AnyArray | None) -> Array:
    """Root of the mean square under h of each slice along ``axis``, (slices,); 0 where a slice has no sensitivity."""
    slices = values.shape[axis]
    sums = _slice_sums(values, values, axis, h)
    if h is None:
        mean_squares: Array = sums * slices / values.size
    else:
        mass = np.moveaxis(h, axis, 0).reshape(slices, -1).sum(axis=1, dtype=np.float64)
        mean_squares = np.divide(sums, mass, out=np.zeros_like(sums), where=mass > 0)
    roots: Array = np.sqrt(mean_squares)
    return roots
