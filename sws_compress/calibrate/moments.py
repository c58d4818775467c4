"""Second moments of the inputs that weights multiply, and how far to trust them.

A layer y = W x whose weights change by dW changes its outputs by E|dW x|^2 = tr(dW H dW^T) with H = E[x x^T].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError

Array = npt.NDArray[np.floating[Any]]

WIDE_INPUTS = 1024
"""Inputs of a layer from which its matrices are float32: they are as many gigabytes as thousands of inputs squared, and
shrinkage keeps them far from singular."""

LEAST_SHRINKAGE = 0.01
"""Share of the identity in every moment. Inputs that never occurred are rare, not impossible, and the inverse stays
well conditioned."""


BAND_ROWS = 1024
"""Rows of a moment that are added at a time: no second matrix is held."""


def number_type(size: int) -> type[np.floating[Any]]:
    """The type of the matrices of a layer of so many inputs."""
    return np.float32 if size >= WIDE_INPUTS else np.float64


def by_groups(inputs: npt.NDArray[np.floating]) -> Array:
    """Samples, (n, groups, d), as a copy of shape (groups, n, d) in the type of the layer's matrices."""
    found: Array = np.moveaxis(inputs, 1, 0).astype(number_type(inputs.shape[2]))
    return found


@dataclass(frozen=True, eq=False)
class InputMoment:
    """Sums of x x^T over samples of the inputs of a layer.

    Parameters
    ----------
    sums : ndarray, shape (groups, d, d), float64, or float32 for `WIDE_INPUTS`
        One matrix per group of a grouped convolution; other layers have one group.
    totals : ndarray, shape (groups, d), float64
        Sums of x.
    samples : int
        Number of x that were added up.
    """

    sums: Array
    totals: Array
    samples: int

    @classmethod
    def of(cls, inputs: npt.NDArray[np.floating]) -> InputMoment:
        """The moment of samples of shape (n, groups, d).

        Raises
        ------
        ArgumentError
            If the samples have another number of axes.
        """
        if inputs.ndim != 3:
            raise ArgumentError(f"inputs must have shape (n, groups, d), got {inputs.shape}: reshape them")
        by_group = by_groups(inputs)
        return cls(np.swapaxes(by_group, 1, 2) @ by_group, by_group.sum(axis=1, dtype=np.float64), len(inputs))

    def include(self, inputs: npt.NDArray[np.floating]) -> InputMoment:
        """The moment with more samples, (n, groups, d); its matrices become those of the result."""
        by_group = by_groups(inputs)
        for start in range(0, by_group.shape[2], BAND_ROWS):
            own, behind = slice(start, start + BAND_ROWS), slice(start + BAND_ROWS, None)
            band = np.swapaxes(by_group[:, :, own], 1, 2)
            self.sums[:, own, start:] += band @ by_group[:, :, start:]
            self.sums[:, behind, own] = np.swapaxes(self.sums[:, own, behind], 1, 2)
        totals = self.totals + by_group.sum(axis=1, dtype=np.float64)
        return InputMoment(self.sums, totals, self.samples + len(inputs))

    @property
    def mean(self) -> Array:
        """Mean inputs, shape (groups, d)."""
        return self.totals / self.samples

    def centred(self) -> InputMoment:
        """The moment of x less its mean."""
        sums, mean = self.sums.copy(), self.mean
        for start in range(0, sums.shape[1], BAND_ROWS):
            band = slice(start, start + BAND_ROWS)
            sums[:, band] -= (self.totals[:, band, None] * mean[:, None]).astype(sums.dtype)
        return InputMoment(sums, np.zeros_like(self.totals), self.samples)

    def shrunk(self) -> Array:
        """Positive definite estimates of H: each group's mean, drawn towards a multiple of the identity.

        With fewer samples than inputs the mean is singular, and weights would follow directions that only happened not
        to occur. The share of the identity is that of the oracle-approximating shrinkage, and at least
        ``LEAST_SHRINKAGE``.

        Returns
        -------
        ndarray, shape (groups, d, d), of the type of the sums
            The identity for a group whose inputs were all 0.

        References
        ----------
        Chen, Wiesel, Eldar & Hero, Shrinkage algorithms for MMSE covariance estimation, 2010, equation 23.
        """
        mean = self.sums / self.samples
        size = mean.shape[-1]
        trace = np.trace(mean, axis1=1, axis2=2, dtype=np.float64)
        squares = [sum(float(np.vdot(line, line)) for line in each) for each in mean]
        squared_trace, trace_of_square = np.square(trace), np.array(squares)
        spread = trace_of_square - squared_trace / size
        with np.errstate(divide="ignore", invalid="ignore"):
            share = ((1 - 2 / size) * trace_of_square + squared_trace) / ((self.samples + 1 - 2 / size) * spread)
        share = np.clip(np.where(spread > 0, share, 1.0), LEAST_SHRINKAGE, 1.0)
        level = np.where(trace > 0, trace / size, 1.0)
        mean *= (1 - share)[:, None, None].astype(mean.dtype)
        mean[:, np.arange(size), np.arange(size)] += (share * level)[:, None].astype(mean.dtype)
        return mean


def correlated(moment: InputMoment, share: float) -> Array:
    """H of inputs of equal size that go together as far as some of what was seen of them is believed.

    Parameters
    ----------
    moment : InputMoment
        What was seen.
    share : float
        The share of it, 0..1; the rest takes inputs to have nothing to do with each other.

    Returns
    -------
    ndarray, shape (groups, d, d), float64
        Positive definite; the diagonal is 1.
    """
    found = moment.shrunk()
    sizes = np.sqrt(np.diagonal(found, axis1=1, axis2=2))
    found *= share / (sizes[:, :, None] * sizes[:, None, :])
    found[:, np.arange(found.shape[1]), np.arange(found.shape[1])] = 1.0
    return found


def output_energy(rows: Array, moment: Array) -> Array:
    """E|y|^2 of each output: w H w^T for every row.

    Parameters
    ----------
    rows : ndarray, shape (groups, n, d), float64
        Weights, or changes of them, by output.
    moment : ndarray, shape (groups, d, d) or (groups, d), float64
        H of each group, or its diagonal where it has no other entries.

    Returns
    -------
    ndarray, shape (groups, n), float64
    """
    if moment.ndim == 2:
        alone: Array = (np.square(rows) @ moment[..., None])[..., 0]
        return alone
    rows = rows.astype(moment.dtype, copy=False)
    energy: Array = np.einsum("gnd,gnd->gn", rows @ moment, rows).astype(np.float64)
    return energy
