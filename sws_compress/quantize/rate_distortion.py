"""Comparing codebooks of different size and error."""

from __future__ import annotations

import numpy as np

from sws_compress.mixture.mixture import AnyArray
from sws_compress.quantize.palette import Palette


def merit_bits(palette: Palette, values: AnyArray) -> float:
    """Coded bits a weight, plus half the log2 of the squared error: the less the better.

    A bit more halves the error (6 dB), so this compares codebooks of different size and error at equal bytes. Codebook
    and scales count two bytes a number.
    """
    squares = float(np.mean(np.square(palette.expand().astype(np.float64) - values.astype(np.float64))))
    numbers = palette.codebook.size + (0 if palette.scales is None else palette.scales.values.size)
    coded = palette.entropy_bits * palette.indices.size + 16 * numbers
    return coded / values.size + float(np.log2(max(squares, 1e-300))) / 2
