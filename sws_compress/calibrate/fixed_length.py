"""Codebooks for codes of a fixed length, and weights that are assigned to them.

Where every index takes the same bits, a rare entry costs as much as a popular one: the entries lie closer where weights
are, as those that Lloyd found do.
"""

from __future__ import annotations

import math

import numpy as np

from sws_compress.calibrate.grids import counts_of
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.calibrate.moments import Array

SAMPLE_WEIGHTS = 1 << 16
"""Weights of a layer that its codebook is made from."""

QUANTILES = 1024
"""Quantiles that the first codebook is made from."""

ROUNDS = 100
"""Lloyd's steps, at most."""

SETTLED = 1e-5
"""Lloyd's steps end when they lower the error by a smaller share."""


def coded_in_words(layer: Layer, entries: int) -> Coded:
    """Assign all weights of a layer to a codebook of at most so many entries, whose indices have a fixed length."""
    codebook, error = lloyd(sample_of(layer), entries)
    divided, even = layer.divided, np.full(len(codebook), 1 / len(codebook))
    indices = np.stack(
        [feedback.assign(rows, codebook, even, 0.0) for rows, feedback in zip(divided, layer.feedback, strict=True)]
    )
    used = counts_of(indices, len(codebook)) > 0
    numbers = (np.cumsum(used) - 1).astype(np.uint8)
    return Coded(numbers[indices], codebook[used], layer.factors, math.sqrt(12 * error))


def sample_of(layer: Layer) -> Array:
    """Some weights of a layer divided by their factors, ascending."""
    sample = layer.divided.reshape(-1)
    if sample.size > SAMPLE_WEIGHTS:
        sample = np.random.default_rng(0).choice(sample, SAMPLE_WEIGHTS, replace=False)
    return np.sort(sample.astype(np.float64))


def lloyd(values: Array, size: int) -> tuple[Array, float]:
    """The codebook of least mean squared error, about, with an entry of exactly 0, and that error.

    Parameters
    ----------
    values : ndarray, shape (n,), float64
        Ascending.
    size : int
        Number of entries, at least 2.

    Returns
    -------
    codebook : ndarray, shape (k,), float64
        Ascending, k <= ``size``.
    error : float

    References
    ----------
    Lloyd 1957; Panter & Dite 1951 for the entries that it starts from: their density is the cube root of that of the
    values.
    """
    sums, squares = (np.concatenate([[0.0], np.cumsum(each)]) for each in (values, np.square(values)))
    codebook, error = _start(values, size), math.inf
    for _ in range(ROUNDS):
        before = error
        ends = np.concatenate([[0], np.searchsorted(values, (codebook[1:] + codebook[:-1]) / 2), [values.size]])
        counts, totals = np.diff(ends), np.diff(sums[ends])
        codebook = np.where(counts > 0, totals / np.maximum(counts, 1), codebook)
        codebook[np.abs(codebook).argmin()] = 0.0
        distances = np.diff(squares[ends]) - 2 * codebook * totals + counts * np.square(codebook)
        error = float(distances.sum()) / max(values.size, 1)
        empty = np.flatnonzero((counts == 0) & (codebook != 0))
        if empty.size:  # they help where the error is greatest
            worst = np.argsort(-distances)[: empty.size]
            codebook[empty[: worst.size]] = (codebook[worst] + values[np.maximum(ends[worst + 1] - 1, 0)]) / 2
            codebook.sort()
        elif not error < before * (1 - SETTLED):
            break
    return np.unique(codebook), error


def _start(values: Array, size: int) -> Array:
    """Entries whose density is the cube root of that of the values: width^(2/3) between values of equal number."""
    edges = np.unique(values[np.linspace(0, values.size - 1, min(values.size, QUANTILES)).round().astype(np.int64)])
    share = np.concatenate([[0.0], np.cumsum(np.diff(edges) ** (2 / 3))])
    found: Array = np.interp((np.arange(size) + 0.5) / size * share[-1], share, edges)
    return found
