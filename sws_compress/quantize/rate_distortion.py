"""Rate and distortion: what a palette costs in bits and in error, and one number to compare palettes by."""

from __future__ import annotations

import numpy as np

from sws_compress.mixture.mixture import AnyArray
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.palette import Palette

TABLE_NUMBER_BITS = 16
"""Bits that a number of a codebook or a scale takes in a file: nearly all of them are stored as float16."""


LEAST_SQUARED_ERROR = 1e-300
"""Mean squared errors count as at least this, so that exact palettes have a finite merit."""


def squared_error(palette: Palette, values: AnyArray, sensitivity: Sensitivity | None = None) -> float:
    """Sum of h (w - w')^2 over a tensor, in units of the weights squared.

    Parameters
    ----------
    palette : Palette
        The values w' it has now.
    values : ndarray, shape of the palette
        The values w it had before.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1; only ratios to the mean count.

    Returns
    -------
    float
        The sum, with sensitivities of mean 1.
    """
    squares = np.square(palette.expand().astype(np.float64) - values.astype(np.float64))
    if sensitivity is not None:
        squares *= sensitivity.relative.of(values.shape)
    return float(squares.sum())


def coded_bits(palette: Palette) -> float:
    """Bits of a tensor in a file with an ideal entropy coder: its indices, its codebook and its scales."""
    return palette.entropy_bits * palette.indices.size + TABLE_NUMBER_BITS * palette.table_numbers


def merit_bits(palette: Palette, values: AnyArray, sensitivity: Sensitivity | None = None) -> float:
    """Merit of a palette in bits per weight: coded bits plus half the log2 of the mean squared error; less is better.

    Palettes of different size and error have no order. At high rate the least error of R bits per weight is
    D = c 2^(-2 R), with c the same for all codebooks of one kind: each bit halves the error's root (6.02 dB). So
    R + log2(D) / 2 = log2(c) / 2 does not depend on R, and between two palettes it is the difference in bits per
    weight that would remain if both were brought to equal error.

    Parameters
    ----------
    palette, values, sensitivity
        As for `squared_error`.

    Returns
    -------
    float
        Bits per weight, of any sign: scaling the weights by c adds log2(c).
    """
    mean_square = squared_error(palette, values, sensitivity) / values.size
    return coded_bits(palette) / values.size + float(np.log2(max(mean_square, LEAST_SQUARED_ERROR))) / 2
