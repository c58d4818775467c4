"""A weight of a streamed model at a price per bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sws_compress.calibrate.fixed_length import coded_in_words
from sws_compress.calibrate.layers import Coded, Layer
from sws_compress.calibrate.rate_curves import Curve, Rate, curve_by_entropy, curve_in_words
from sws_compress.calibrate.re_solve import re_solved
from sws_compress.codec.encodings.radix import fixed_lengths
from sws_compress.quantize.palette import Palette

LEAST_ENTRIES = 3
"""Entries of a codebook for a fixed length: one of them is 0, and of two the other would have one sign."""

SCALE_BYTES = 2
"""Bytes of the scale of an output."""

TENSOR_BYTES = 200
"""About what the nodes take that decode a tensor, more than the plain one did."""


def curve_of(layer: Layer, alone_elements: int) -> Curve:
    """What bits buy in a layer: a weight of ``alone_elements`` is coded alone, its indices have a fixed length."""
    if layer.rows.size < alone_elements:
        return curve_by_entropy(layer)
    return curve_in_words(layer, {size: bits for size, bits in fixed_lengths().items() if size >= LEAST_ENTRIES})


def curve_from(told: Mapping[str, Any]) -> Curve:
    """A curve that has been a dict in JSON."""
    return Curve(told["count"], tuple(Rate(**rate) for rate in told["rates"]))


def bytes_in_words(palette: Palette) -> float:
    """What a palette takes in a file whose indices have a fixed length."""
    bits = next(bits for size, bits in sorted(fixed_lengths().items()) if size >= len(palette.codebook))
    factors = 0 if palette.scales is None else palette.scales.values.size
    return palette.indices.size * bits / 8 + palette.codebook.nbytes + SCALE_BYTES * factors + TENSOR_BYTES


def coded_at(layer: Layer, gain: float, price: float, entries: int | None) -> Coded:
    """Assign the weights of a layer.

    Parameters
    ----------
    layer : Layer
        The layer.
    gain : float
        What the outputs of the network suffer per unit of its relative error.
    price : float
        What a bit is worth in units of that.
    entries : int or None
        Size of its codebook if its indices have a fixed length.
    """
    layer = layer.at_level(gain / layer.energy if layer.energy > 0 else gain)
    return re_solved(layer, layer.coded(price) if entries is None else coded_in_words(layer, entries))
