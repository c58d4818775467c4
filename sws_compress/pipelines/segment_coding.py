"""A weight of a streamed model at a price per bit."""

from __future__ import annotations

from sws_compress.calibrate.fixed_length import coded_in_words
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.codec.encodings.radix import fixed_lengths

LEAST_ENTRIES = 3
"""Entries of a codebook for a fixed length: one of them is 0, and of two the other would have one sign."""


def coded_at(layer: Layer, level: float, price: float, alone_elements: int) -> Coded:
    """Assign the weights of a layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    level : float
        What the outputs of the network suffer per unit of its error energy.
    price : float
        What a bit is worth in units of that.
    alone_elements : int
        Weights from which a layer is coded alone: its indices have a fixed length then.
    """
    layer = layer.at_level(level)
    if layer.rows.size < alone_elements:
        return layer.coded(price)
    return coded_in_words(layer, price, {size: bits for size, bits in fixed_lengths().items() if size >= LEAST_ENTRIES})
