"""Bits between layers at equal slope: one price per bit for all of them.

The levels of the layers say what an error in each does to the outputs. They come from one trial each and are noisy, and
errors of many layers do more than add up, so that they are drawn halfway (in the logarithm) towards equal relative
errors in all layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sws_compress.calibrate.grids import even_codebook, nearest, step_of
from sws_compress.calibrate.layers import Layer
from sws_compress.calibrate.moments import Array
from sws_compress.entropy import entropy_bits

TRUST = 0.5
"""Exponent of the measured levels: 0 is the same relative error in all layers, 1 trusts the trials."""

LEAST_GAIN = 1e-6
"""Least share of a layer's relative error that is taken to reach the outputs, relative to the greatest."""

SAMPLE_WEIGHTS = 1 << 16
"""Weights of a layer that its bits are estimated from."""

PRICE_STEPS = 40
"""Bisections of the price: a factor of 2^-40 of a range of e^80."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What is kept of a layer to estimate its bits.

    Parameters
    ----------
    values : ndarray, shape (m,)
        Some of its weights, divided by their factors.
    count : int
        Number of its weights.
    sensitivity : float
        Of these values at level 1, see `Layer.sensitivity`.
    energy : float
        Weighted energy of its outputs.
    trial_error : float
        What its trial did to the network's outputs, per unit of weighted error energy.
    """

    values: Array
    count: int
    sensitivity: float
    energy: float
    trial_error: float

    @property
    def idle(self) -> bool:
        """Whether its trial told nothing: the inputs do not use it. Others may, so that it counts like the mean."""
        return self.trial_error == 0 and self.energy > 0

    @classmethod
    def of(cls, layer: Layer, trial_error: float, seed: int) -> Sample:
        """The sample of a layer at level 1."""
        flat = layer.divided.reshape(-1)
        if flat.size > SAMPLE_WEIGHTS:
            flat = np.random.default_rng(seed).choice(flat, SAMPLE_WEIGHTS, replace=False)
        return cls(flat, layer.rows.size, layer.sensitivity, layer.energy, trial_error)

    def bits(self, level: float, bit_price: float) -> float:
        """Estimate of the bits of the layer's indices at a price."""
        codebook = even_codebook(self.values, float(step_of(bit_price, level * self.sensitivity)))
        counts = np.bincount(nearest(self.values, codebook), minlength=len(codebook))
        return entropy_bits(counts) * self.count / self.values.size


def levels(samples: Sequence[Sample]) -> list[float]:
    """What a unit of each layer's error energy is taken to cost.

    Parameters
    ----------
    samples : sequence of Sample
        All layers; at least one.

    Returns
    -------
    list of float
        In units of the squared relative error of the network's outputs.
    """
    gains = np.array([sample.trial_error * sample.energy for sample in samples])
    told = ~np.array([sample.idle for sample in samples])
    gains = np.maximum(gains, max(LEAST_GAIN * gains.max(), np.finfo(float).tiny))
    even = np.exp(np.log(gains[told]).mean()) if told.any() else 1.0
    gains = np.where(told, gains, even)
    trusted = even * (gains / even) ** TRUST
    energies = np.maximum([sample.energy for sample in samples], np.finfo(float).tiny)
    return [float(level) for level in trusted / energies]


def price_for(samples: Sequence[Sample], bits: float) -> float:
    """The price per bit at which all layers together are estimated to take a number of bits."""
    own = levels(samples)
    low, high = -60.0, 20.0  # natural logarithms
    for _ in range(PRICE_STEPS):
        middle = (low + high) / 2
        if sum(sample.bits(level, np.exp(middle)) for sample, level in zip(samples, own, strict=True)) > bits:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))
