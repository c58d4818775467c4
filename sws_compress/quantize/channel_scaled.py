"""Clustering of a tensor whose channels are of different scale: one codebook, and one factor a channel.

What is minimised is the squared error of the weights themselves, sum (w - s_c mu_k)^2: fitted are the weights divided
by the scale s_c of their channel, with sensitivities s_c^2, in turns with the scales, each the least-squares factor of
its channel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sws_compress.mixture.bins import fine_bins
from sws_compress.mixture.mixture import AnyArray, Array
from sws_compress.quantize.assign import snap
from sws_compress.quantize.initial import mixture_of_bins
from sws_compress.quantize.palette import FLOATS, Clustering, in_half
from sws_compress.quantize.scalar import hard_em
from sws_compress.quantize.scales import ChannelScales

TURNS = 3
"""Of codebook and scales."""


_HALF_RANGE = (2.0**-14, 65504.0)
"""Where float16 has all its digits."""


def cluster_by_channel(values: AnyArray, components: int, axis: int) -> Clustering | None:
    """`cluster` with a scale for every slice along ``axis``; its mixture is of the weights divided by them.

    None where the tensor has one slice, or where its type cannot hold scales or products. Errors as there.
    """
    if values.ndim < 2 or values.shape[axis] < 2 or not values.any():
        return None
    fixed_zero = components * (values.size - int(np.count_nonzero(values))) >= values.size
    factors = np.sqrt(_slice_sums(values, values, axis) * values.shape[axis] / values.size)
    found = None
    for _ in range(TURNS):
        scales = _stored(np.where(factors > 0, factors, factors.max()), axis)
        if scales is None:
            return None
        found = _fitted(values, components, scales, fixed_zero=fixed_zero)
        units = replace(found.palette, scales=None).expand()
        squares = _slice_sums(units, units, axis)
        factors = _slice_sums(values, units, axis) / np.where(squares > 0, squares, 1.0)
        factors = np.where(factors > 0, factors, scales.values)
    return found if found is not None and np.isfinite(found.palette.expand()).all() else None


def _fitted(values: AnyArray, components: int, scales: ChannelScales, *, fixed_zero: bool) -> Clustering:
    """The best codebook for these scales."""
    factors = scales.broadcast(values.shape)
    divided = np.divide(values, factors, dtype=np.float32, casting="unsafe")
    squares = np.square(factors, dtype=np.float64)
    bins = fine_bins(divided, np.broadcast_to(squares / squares.mean(), values.shape))
    mixture = hard_em(bins, mixture_of_bins(bins, components, fixed_zero=fixed_zero), 0.0, fixed_zero=fixed_zero)
    palette = in_half(snap(divided, mixture, recentre=False), float(mixture.variances[0]) * values.size)
    dtype = values.dtype if values.dtype.name in FLOATS else np.dtype(np.float32)
    return Clustering(replace(palette, codebook=palette.codebook.astype(dtype), scales=scales), mixture)


def _stored(factors: Array, axis: int) -> ChannelScales | None:
    """As float16 where that has all its digits for every one, else as float32; None where that cannot hold them."""
    within = _HALF_RANGE[0] <= factors.min() and factors.max() <= _HALF_RANGE[1]
    with np.errstate(over="ignore", under="ignore"):
        scales = (factors.astype(np.float16) if within else factors).astype(np.float32)
    return ChannelScales(scales, axis) if (scales > 0).all() and np.isfinite(scales).all() else None


def _slice_sums(first: AnyArray, second: AnyArray, axis: int) -> Array:
    """Sums of products over every slice along ``axis``, (slices,) float64."""
    pairs = (np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1) for array in (first, second))
    sums: Array = np.einsum("cn,cn->c", *pairs, dtype=np.float64, casting="unsafe")
    return sums
