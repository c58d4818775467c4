"""Codebooks and channel scales that fit best what has been assigned to them.

With assignments fixed, a weight is an entry times a factor, and what its layer's outputs suffer is quadratic in both:

    sum_o g_o (w_o - f_o q_o) H (w_o - f_o q_o)^T,  q_o the entries of the weights of output o

The best factor of an output is w_o H q_o^T / q_o H q_o^T. The best entries solve normal equations, here by conjugate
gradients.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sws_compress.calibrate.layers import FULL_HALVES, Coded, Layer
from sws_compress.calibrate.moments import Array
from sws_compress.thresholds import MAX_CODEBOOK

MOST_WEIGHTS = 1 << 18
"""Weights of a layer at most: each step takes as long as the assignment, and larger layers gain hardly anything."""

MOST_STEPS = 12
"""Steps of the conjugate gradients, at most."""

ENOUGH = 1e-8
"""They end when the squared residual has fallen so far."""


def re_solved(layer: Layer, coded: Coded) -> Coded:
    """The same assignment with the scales and the codebook that fit it best.

    Parameters
    ----------
    layer : Layer
        The layer.
    coded : Coded
        Its weights.

    Returns
    -------
    Coded
        As it was for large layers. Codebooks that a decoder computes stay even.
    """
    if layer.rows.size > MOST_WEIGHTS or len(coded.codebook) > MAX_CODEBOOK:
        return coded
    factors: Array = coded.factors.astype(np.float64)
    if layer.scaled:
        best = best_factors(layer.rows, coded.codebook[coded.indices], layer.moment, factors)
        factors = np.clip(best, *FULL_HALVES).astype(np.float16).astype(np.float64)
    codebook = coded.codebook
    if layer.reach is None:  # otherwise it stays even
        codebook = best_codebook(layer.rows, coded.indices, codebook, layer.moment, factors, layer.costs)
    found = replace(coded, codebook=codebook, factors=factors.astype(np.float32))
    better = (np.diff(codebook) > 0).all() and layer.error(_changes(layer, found)) < layer.error(_changes(layer, coded))
    return found if better else coded


def _changes(layer: Layer, coded: Coded) -> Array:
    changes: Array = coded.codebook[coded.indices] * coded.factors[..., None].astype(np.float64) - layer.rows
    return changes


def _applied(rows: Array, moment: Array) -> Array:
    """Rows times H, for H of shape (groups, d, d) or its diagonal."""
    product: Array = rows @ moment if moment.ndim == 3 else rows * moment[:, None]
    return product


def best_factors(rows: Array, entries: Array, moment: Array, factors: Array) -> Array:
    """Factor of each output with which its entries come closest; as it was where they make no output.

    Parameters
    ----------
    rows, entries : ndarray, shape (groups, n, d), float64
        The weights, and the entries that they were assigned to.
    moment : ndarray, shape (groups, d, d) or (groups, d), float64
    factors : ndarray, shape (groups, n)
        The factors so far.
    """
    seen = _applied(entries, moment)
    wanted, energy = (rows * seen).sum(axis=2), (entries * seen).sum(axis=2)
    usable = (energy > 0) & (wanted > 0)
    found: Array = np.where(usable, wanted / np.where(usable, energy, 1), factors)
    return found


def best_codebook(
    rows: Array, indices: npt.NDArray[np.unsignedinteger], codebook: Array, moment: Array, factors: Array, costs: Array
) -> Array:
    """Entries with which the weights come closest; 0 stays 0.

    Parameters
    ----------
    rows : ndarray, shape (groups, n, d), float64
    indices : ndarray, shape (groups, n, d), uint8
        The entry of each weight.
    codebook : ndarray, shape (k,), float64
        Where to start.
    moment : ndarray, shape (groups, d, d) or (groups, d), float64
    factors, costs : ndarray, shape (groups, n)
        Factors f, and what a unit of error energy in an output costs, g.

    Returns
    -------
    ndarray, shape (k,), float64
    """
    flat, free, found = indices.reshape(-1), codebook != 0, codebook.copy()

    def gathered(changes: Array) -> Array:
        weighted = (factors * costs)[..., None] * _applied(changes, moment)
        total: Array = np.bincount(flat, weighted.reshape(-1), minlength=len(codebook)) * free
        return total

    def weights_of(entries: Array) -> Array:
        weights: Array = entries[indices] * factors[..., None]
        return weights

    residual = gathered(rows - weights_of(found))
    direction, energy = residual, residual @ residual
    first = energy
    for _ in range(MOST_STEPS):
        if energy <= ENOUGH * first or not energy:
            break
        image = gathered(weights_of(direction))
        length = energy / (direction @ image)
        found += length * direction
        residual = residual - length * image
        energy, before = residual @ residual, energy
        direction = residual + energy / before * direction
    return found
