"""Second moments of the inputs that weights multiply, and how far to trust them.

A layer y = W x whose weights change by dW changes its outputs by E|dW x|^2 = tr(dW H dW^T) with H = E[x x^T].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError

Array = npt.NDArray[np.float64]

LEAST_SHRINKAGE = 0.01
"""Share of the identity in every moment. Inputs that never occurred are rare, not impossible, and the inverse stays
well conditioned."""


BAND_ROWS = 1024
"""Rows of a moment that are added at a time: no second matrix is held."""


@dataclass(frozen=True, eq=False)
class InputMoment:
    """Sums of x x^T over samples of the inputs of a layer.

    Parameters
    ----------
    sums : ndarray, shape (groups, d, d), float64
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
        by_group = np.moveaxis(inputs, 1, 0).astype(np.float64)
        return cls(np.swapaxes(by_group, 1, 2) @ by_group, by_group.sum(axis=1), len(inputs))

    def include(self, inputs: npt.NDArray[np.floating]) -> InputMoment:
        """The moment with more samples, (n, groups, d); its matrices become those of the result."""
        by_group = np.moveaxis(inputs, 1, 0).astype(np.float64)
        for start in range(0, by_group.shape[2], BAND_ROWS):
            band = np.swapaxes(by_group[:, :, start : start + BAND_ROWS], 1, 2)
            self.sums[:, start : start + BAND_ROWS] += band @ by_group
        return InputMoment(self.sums, self.totals + by_group.sum(axis=1), self.samples + len(inputs))

    @property
    def mean(self) -> Array:
        """Mean inputs, shape (groups, d)."""
        return self.totals / self.samples

    def centred(self) -> InputMoment:
        """The moment of x less its mean."""
        sums, mean = self.sums.copy(), self.mean
        for start in range(0, sums.shape[1], BAND_ROWS):
            band = slice(start, start + BAND_ROWS)
            sums[:, band] -= self.totals[:, band, None] * mean[:, None]
        return InputMoment(sums, np.zeros_like(self.totals), self.samples)

    def shrunk(self) -> Array:
        """Positive definite estimates of H: each group's mean, drawn towards a multiple of the identity.

        With fewer samples than inputs the mean is singular, and weights would follow directions that only happened not
        to occur. The share of the identity is that of the oracle-approximating shrinkage, and at least
        ``LEAST_SHRINKAGE``.

        Returns
        -------
        ndarray, shape (groups, d, d), float64
            The identity for a group whose inputs were all 0.

        References
        ----------
        Chen, Wiesel, Eldar & Hero, Shrinkage algorithms for MMSE covariance estimation, 2010, equation 23.
        """
        mean = self.sums / self.samples
        size = mean.shape[-1]
        trace = np.trace(mean, axis1=1, axis2=2)
        squared_trace, trace_of_square = np.square(trace), np.array([np.vdot(each, each) for each in mean])
        spread = trace_of_square - squared_trace / size
        with np.errstate(divide="ignore", invalid="ignore"):
            share = ((1 - 2 / size) * trace_of_square + squared_trace) / ((self.samples + 1 - 2 / size) * spread)
        share = np.clip(np.where(spread > 0, share, 1.0), LEAST_SHRINKAGE, 1.0)
        level = np.where(trace > 0, trace / size, 1.0)
        mean *= (1 - share)[:, None, None]
        mean[:, np.arange(size), np.arange(size)] += (share * level)[:, None]
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
    energy: Array = np.einsum("gnd,gnd->gn", rows @ moment, rows)
    return energy
