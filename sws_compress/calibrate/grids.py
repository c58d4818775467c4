"""Evenly spaced codebooks for entropy-coded weights.

At a price of lambda per bit, uniform cells of step s are all but optimal: their error s^2 / 12 falls by 2 ln 2 s^2 / 12
per bit, which is worth lambda if s^2 = 6 lambda / (h ln 2) at sensitivity h (Gish & Pierce 1968).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.calibrate.moments import Array
from sws_compress.thresholds import MAX_CODEBOOK, MAX_EVEN_CODEBOOK

MOST_MULTIPLES = 1 << 20
"""Multiples of a step that are told apart on either side of 0."""

COARSENING = 1.05
"""Growth of a step at a time while a codebook has too many entries."""

PART_VALUES = 1 << 22
"""Values that are looked at together."""

PRIOR_COUNT = 0.05
"""Weights that every entry is taken to have besides its own, so that an unused one costs many bits, not infinitely
many."""


def step_of(bit_price: float, sensitivity: npt.ArrayLike) -> Array:
    """The step at which a bit is worth ``bit_price`` for weights of a sensitivity, in units of the weights."""
    return np.sqrt(6 * bit_price / (math.log(2) * np.asarray(sensitivity, np.float64)))


def price_of(step: float, sensitivity: float) -> float:
    """The price per bit for which `step_of` gives ``step``."""
    return math.log(2) * sensitivity * step**2 / 6


def even_codebook(values: Array, step: float) -> Array:
    """The multiples of a step that are nearest to some value, and 0.

    Parameters
    ----------
    values : ndarray, any shape, float64
        The weights.
    step : float, > 0
        Distance of neighbours; it is made larger until 65,536 entries are enough.

    Returns
    -------
    ndarray, shape (k,), float64
        Ascending, k <= 65,536.
    """
    reach = max(values.max(initial=0.0), -values.min(initial=0.0))
    step = max(step, reach / MOST_MULTIPLES)
    lowest = round(float(values.min(initial=0.0)) / step)
    counts = np.zeros(round(float(values.max(initial=0.0)) / step) - lowest + 1, np.int64)
    for part in _parts(values):
        counts += np.bincount(np.round(part / step).astype(np.int64) - lowest, minlength=len(counts))
    occupied = np.flatnonzero(counts) + lowest
    coarser = 1.0
    while len(entries := np.union1d(np.round(occupied / coarser), 0.0)) > MAX_EVEN_CODEBOOK:
        coarser *= COARSENING
    step *= coarser
    if len(entries) > MAX_CODEBOOK:
        step = float(np.float32(step))  # float32 products of it and integers are then the entries, rounded
    found: Array = step * entries
    return found


def nearest(values: Array, codebook: Array) -> npt.NDArray[np.unsignedinteger]:
    """Nearest entry of an ascending codebook for each value, of the shape of ``values``."""
    middles = (codebook[1:] + codebook[:-1]) / 2
    dtype = np.min_scalar_type(len(codebook) - 1)
    found = [np.searchsorted(middles, part).astype(dtype) for part in _parts(values)]
    return np.concatenate(found).reshape(values.shape) if found else np.zeros(values.shape, dtype)


def counts_of(indices: npt.NDArray[np.unsignedinteger], size: int) -> npt.NDArray[np.int64]:
    """How many times each of ``size`` entries is used."""
    counts = np.zeros(size, np.int64)
    for part in _parts(indices):
        counts += np.bincount(part, minlength=size)
    return counts


def shares_of(indices: npt.NDArray[np.unsignedinteger], size: int) -> Array:
    """How often each of ``size`` entries is used, > 0, with `PRIOR_COUNT` for each."""
    counts = counts_of(indices, size) + PRIOR_COUNT
    shares: Array = counts / counts.sum()
    return shares


def _parts(values: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """An array, flat and piece by piece: what is made of a piece is wider than its values."""
    flat = values.reshape(-1)
    return (flat[start : start + PART_VALUES] for start in range(0, flat.size, PART_VALUES))
