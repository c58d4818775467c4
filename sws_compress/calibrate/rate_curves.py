"""What bits buy in each layer of a network, and the price per bit for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sws_compress.calibrate.bit_allocation import PRICE_STEPS
from sws_compress.calibrate.fixed_length import lloyd, sample_of
from sws_compress.calibrate.grids import even_codebook, nearest
from sws_compress.calibrate.layers import Layer
from sws_compress.entropy import entropy_bits

LOWEST, HIGHEST = -60.0, 20.0
"""Natural logarithms of prices."""

LEAST_ERROR = 1e-15
"""Squared relative errors count as at least this: it is that of float32."""

DECIBELS = np.arange(0.0, 61.0)
"""Energies of the outputs over that of their error at which the entropy of weights is known."""


def quality_of(error: float) -> float:
    """A squared relative error of the outputs as their energy over that of the error, in decibels."""
    return -10 * math.log10(max(error, LEAST_ERROR))


@dataclass(frozen=True)
class Rate:
    """Bits that weights of a layer may take, and what error its outputs have with them.

    Parameters
    ----------
    bits : float
        Bits of a weight.
    error : float
        Weighted energy of the error relative to that of the outputs.
    entries : int or None
        Size of the codebook if indices have a fixed length; None if they are coded by entropy.
    """

    bits: float
    error: float
    entries: int | None = None


@dataclass(frozen=True)
class Curve:
    """What the bits of a layer buy.

    Parameters
    ----------
    count : int
        Number of its weights.
    rates : tuple of Rate
        What it may have.
    """

    count: int
    rates: tuple[Rate, ...]

    def at(self, gain: float, price: float) -> Rate:
        """The rate at which error and bits cost least; the network suffers ``gain`` per unit of relative error."""
        return min(self.rates, key=lambda rate: gain * rate.error + price * self.count * rate.bits)


def curve_in_words(layer: Layer, bits: Mapping[int, float]) -> Curve:
    """The curve of a layer whose indices have a fixed length: ``bits`` by the number of entries."""
    sample, scale = sample_of(layer), _scale(layer)
    rates = (Rate(bits[entries], scale * lloyd(sample, entries)[1], entries) for entries in sorted(bits))
    return Curve(layer.rows.size, tuple(rates))


def curve_by_entropy(layer: Layer) -> Curve:
    """The curve of a layer whose indices are coded by entropy: that of even grids (Gish & Pierce)."""
    sample, scale = sample_of(layer), _scale(layer)
    if not scale:
        return Curve(layer.rows.size, (Rate(0.0, 0.0),))
    errors = 10 ** (-DECIBELS / 10)
    return Curve(layer.rows.size, tuple(Rate(_bits(sample, math.sqrt(12 * e / scale)), float(e)) for e in errors))


def _scale(layer: Layer) -> float:
    """Relative error of the outputs per unit of squared error of a weight divided by its factor."""
    return layer.at_level(1.0).sensitivity * layer.rows.size / layer.energy if layer.energy > 0 else 0.0


def _bits(values: np.ndarray, step: float) -> float:
    codebook = even_codebook(values, step)
    return entropy_bits(np.bincount(nearest(values, codebook), minlength=len(codebook))) / values.size


@dataclass(frozen=True)
class Rates:
    """What bits buy in all layers of a network.

    Parameters
    ----------
    curves : mapping of str to Curve
        Of each layer.
    gains : mapping of str to float
        What decides: about what a relative error of each is taken to do to the outputs of the network.
    measured : mapping of str to float
        What a trial of each has found.
    tried : sequence of (float, float)
        Prices, and squared relative errors of the outputs that were found at them.
    """

    curves: Mapping[str, Curve]
    gains: Mapping[str, float]
    measured: Mapping[str, float]
    tried: Sequence[tuple[float, float]]

    def chosen(self, price: float) -> dict[str, Rate]:
        """What each layer gets at a price."""
        return {name: curve.at(self.gains[name], price) for name, curve in self.curves.items()}

    def bits(self, price: float) -> float:
        """Bits of all weights at a price."""
        return sum(self.curves[name].count * rate.bits for name, rate in self.chosen(price).items())

    def error(self, price: float) -> float:
        """Squared relative error of the outputs that is expected at a price.

        How far errors of many layers together differ from their sum is known at the prices that were tried.
        """
        known = sorted(self.tried)
        logs = [math.log(max(error, LEAST_ERROR)) - self._log_sum(tried) for tried, error in known]
        more = np.interp(math.log(price), [math.log(tried) for tried, _ in known], logs)
        return math.exp(self._log_sum(price) + float(more))

    def _log_sum(self, price: float) -> float:
        """Logarithm of the sum of the errors that layers make in the outputs of the network alone."""
        return math.log(
            max(sum(self.measured[name] * each.error for name, each in self.chosen(price).items()), LEAST_ERROR)
        )

    def price_for_bits(self, bits: float) -> float:
        """The price at which all weights take so many bits."""
        return price_where(lambda price: -self.bits(price), -bits)

    def price_for_error(self, error: float) -> float:
        """The price at which the outputs have this squared relative error."""
        return price_where(self.error, error)


def share_of_error(count: int, price: float, gain: float) -> float:
    """Squared relative error of the outputs of a layer of so many weights on even grids at a price (Gish & Pierce)."""
    return min(count * price / (2 * math.log(2) * gain), 1.0)


def price_where(rising: Callable[[float], float], wanted: float) -> float:
    """The price at which a function of it that rises has a value."""
    low, high = LOWEST, HIGHEST
    for _ in range(PRICE_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(math.exp(middle)) < wanted else (low, middle)
    return math.exp(low)
