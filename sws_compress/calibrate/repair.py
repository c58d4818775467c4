"""Repair: what else in a layer can make up for the error of its weights.

A layer y = W x + b whose weights become W' and whose inputs become x' has the outputs W' x' + b'. Their means stay with

    b' = b + W E[x] - W' E[x']

so that only the error around the mean counts: the weights are then assigned with the covariance of x in place of its
second moment.

References
----------
Nagel, van Baalen, Blankevoort & Welling, Data-free quantization through weight equalization and bias correction,
arXiv 1906.04721: the same constant, for weights that are assigned already.
"""

from __future__ import annotations

from dataclasses import dataclass

from sws_compress.calibrate.moments import Array


@dataclass(frozen=True, eq=False)
class Means:
    """Mean inputs of a layer whose outputs have a constant added.

    Parameters
    ----------
    before, now : ndarray, shape (groups, d), float64
        E[x] in the network as it was, and E[x'] in the one whose earlier layers are coded.
    """

    before: Array
    now: Array

    def kept_by(self, rows: Array, coded: Array) -> Array:
        """What must be added to the outputs for their means to stay.

        Parameters
        ----------
        rows, coded : ndarray, shape (groups, n, d), float64
            The weights by output, before and after.

        Returns
        -------
        ndarray, shape (groups, n), float64
        """
        kept: Array = (rows @ self.before[..., None] - coded @ self.now[..., None])[..., 0]
        return kept
