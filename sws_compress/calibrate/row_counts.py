"""Tables whose rows are looked up: how often each is asked for tells what an error in it costs.

A row with share p of all look-ups costs sqrt(p) per unit of its error energy: halfway between p, which would leave
nothing of a row that the inputs happen not to use, and 1. Rows that were not looked up, or once, have in common what
Good and Turing expect of them: the share of the rows that were looked up once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.calibrate.grids import even_codebook, nearest
from sws_compress.calibrate.moments import Array
from sws_compress.entropy import entropy_bits

LEAST_UNSEEN = 0.1
"""Least share of the look-ups that is spread over all rows: those that the inputs do not use are still asked for."""

SCALE_BITS = 16
"""Bits that the scale of a row takes."""

USUAL_QUALITY = 20.0
"""Decibels at which bits are compared."""

SAMPLE_WEIGHTS = 1 << 18
"""Weights that they are estimated from, about."""


@dataclass(frozen=True, eq=False)
class RowCounts:
    """How often each row of a table was looked up.

    Parameters
    ----------
    halves : ndarray, shape (2, rows), int64
        In two halves of the inputs: each tells whether the other can be trusted.
    """

    halves: npt.NDArray[np.int64]

    @classmethod
    def of(cls, positions: npt.NDArray[np.integer], rows: int, half: int) -> RowCounts:
        """The look-ups at these positions, of any shape, in half 0 or 1; negative ones count from the end."""
        halves = np.zeros((2, rows), np.int64)
        halves[half] = np.bincount(positions.reshape(-1).astype(np.int64) % rows, minlength=rows)
        return cls(halves)

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(self.halves + other.halves)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Look-ups of each row, shape (rows,)."""
        counts: npt.NDArray[np.int64] = self.halves.sum(axis=0)
        return counts

    @property
    def not_used(self) -> float:
        """Share of the rows that were not looked up."""
        return float((self.counts == 0).mean())

    @property
    def shares(self) -> Array:
        """Share of the look-ups that is expected of each row, shape (rows,), > 0; they add up to 1."""
        return expected_shares(self.counts)

    def pays(self, rows: Array) -> bool:
        """Whether steps that follow the shares take fewer bits than even ones at the same error, scales included.

        The shares are those of one half of the inputs, the error is that of the look-ups in the other.

        Parameters
        ----------
        rows : ndarray, shape (rows, size), float64
            The table. One code serves all rows, so that different steps widen what it has to code.
        """
        some = slice(None, None, max(rows.size // SAMPLE_WEIGHTS, 1))
        step = float(np.sqrt(12 * 10 ** (-USUAL_QUALITY / 10) * np.square(rows[some]).mean()))
        if not step or not self.halves.any(axis=1).all():
            return False
        saved = -SCALE_BITS / rows.shape[1]
        for known, others in (self.halves, self.halves[::-1]):
            factors = expected_shares(known) ** -0.25
            factors /= np.sqrt((others * factors**2).sum() / others.sum())  # a step's error is that of an even one now
            saved += (_bits(rows[some], step) - _bits(rows[some] / factors[some, None], step)) / 2
        return bool(saved > 0)


def expected_shares(counts: npt.NDArray[np.int64]) -> Array:
    """Share of further look-ups that is expected of each row, > 0; they add up to 1.

    Parameters
    ----------
    counts : ndarray, shape (rows,), int64

    References
    ----------
    Good, The population frequencies of species and the estimation of population parameters, Biometrika 40, 1953.
    """
    rows, total = len(counts), int(counts.sum())
    if not total:
        return np.full(rows, 1 / rows)
    unseen = min(max((counts == 1).sum() / total, LEAST_UNSEEN), 1.0)
    shares: Array = (1 - unseen) * counts / total + unseen / rows
    return shares


def _bits(values: Array, step: float) -> float:
    """Bits per weight of values on an even grid."""
    codebook = even_codebook(values, step)
    return entropy_bits(np.bincount(nearest(values, codebook).reshape(-1), minlength=len(codebook))) / values.size
