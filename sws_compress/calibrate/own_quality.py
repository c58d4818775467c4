"""Weights coded to a quality of their own: energy of a layer's outputs over that of their error, in decibels."""

from __future__ import annotations

import math

from sws_compress.calibrate.grids import price_of
from sws_compress.calibrate.layers import Coded, Layer

ROUNDS = 4
"""Assignments, each at a price that is corrected by the error that the one before it has made."""

TOLERANCE = 0.1
"""The quality is met within so many decibels."""


def error_decibels(layer: Layer, coded: Coded) -> float:
    """Weighted energy of a layer's outputs over that of their error, in decibels; inf where there is no error."""
    changes = coded.codebook[coded.indices] * coded.factors[..., None]
    changes -= layer.rows
    error = layer.error(changes)
    return 10 * math.log10(layer.energy / error) if error > 0 else math.inf


def coded_to(layer: Layer, quality: float) -> Coded:
    """Assign the weights of a layer to the coarsest even grid that keeps a quality.

    Parameters
    ----------
    layer : Layer
        Its ``level`` does not matter.
    quality : float
        In decibels.

    Returns
    -------
    Coded
        Met within `TOLERANCE`, unless the weights are too few, or would need more entries than a codebook has.
    """
    layer = layer.at_level(1.0)
    if not layer.energy:
        return layer.coded(1.0)
    step = math.sqrt(12 * layer.energy / layer.rows.size * 10 ** (-quality / 10) / layer.sensitivity)
    price = price_of(step, layer.sensitivity)
    best, least = None, math.inf
    for _ in range(ROUNDS):
        coded = layer.coded(price)
        missed = error_decibels(layer, coded) - quality
        if abs(missed) < least or best is None:
            best, least = coded, abs(missed)
        if least <= TOLERANCE or not math.isfinite(missed):
            break
        price *= 10 ** (missed / 10)
    assert best is not None  # there is a round
    return best
