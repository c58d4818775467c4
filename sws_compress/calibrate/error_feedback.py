"""Assignment of a layer's weights, column by column, with the error of each column made up by the columns to come.

The cost of a row is (w - w') H (w - w')^T plus a price per bit. With H^-1 = U^T U, U upper triangular, the best that
the columns after j can do leaves (w_j - w'_j)^2 / U_jj^2 of an error in column j; they do it by moving by
-(w_j - w'_j) U_ji / U_jj. So column j is assigned by

    argmin_k (w_j - mu_k)^2 / U_jj^2 - bit_price log2 pi_k

The columns to come have to live with that choice. Where several survivors are kept, they decide: of the ways to assign
the columns so far, the cheapest ones are followed, each with its own errors made up (the M-algorithm).

References
----------
Frantar, Ashkboos, Hoefler & Alistarh, GPTQ, arXiv 2210.17323; with a rate term, CERWU, arXiv 2505.18758. Anderson &
Mohan, Sequential coding algorithms, 1984.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import get_lapack_funcs

from sws_compress.calibrate.column_order import ordered_factor
from sws_compress.calibrate.moments import Array
from sws_compress.threads import over_pieces

PIECE_ROWS = 128
"""Rows of a piece of work: many enough for fast products."""

BLOCK_COLUMNS, WIDE_COLUMNS = 64, 512
"""Columns whose errors reach those behind them in one product: within so many columns, and beyond."""

SURVIVOR_COLUMNS = 32
"""The same where survivors have errors of their own, which are copied as often."""


@dataclass(frozen=True, eq=False)
class Feedback:
    """What the columns of a layer do for each other.

    Parameters
    ----------
    order : ndarray, shape (d,), intp
        Columns of H in the order in which they are assigned; all else is in this order.
    curvatures : ndarray, shape (d,), float64
        1 / U_jj^2: what a unit of squared error costs in each column once the later ones have made up for it. Their
        product is det H.
    spread : ndarray, shape (d, d), of the type of H, or None
        What a unit of error in column j adds to column i > j: -U_ji / U_jj. Zero on and below the diagonal. None where
        H is diagonal: no column makes up for another.
    """

    order: npt.NDArray[np.intp]
    curvatures: Array
    spread: Array | None

    @classmethod
    def of(cls, moment: Array) -> Feedback:
        """The feedback for H, positive definite, shape (d, d), or its diagonal where it has no other entries."""
        if moment.ndim == 1:
            return cls(np.arange(len(moment)), np.ascontiguousarray(moment), None)
        order, factor = ordered_factor(moment)
        curvatures = np.square(np.diag(factor), dtype=np.float64)[::-1]
        (invert,) = get_lapack_funcs(("trtri",), (factor,))
        inverse, _ = invert(factor, lower=0, overwrite_c=1)
        spread = np.ascontiguousarray(inverse.T[::-1, ::-1])  # U
        spread /= -np.diag(spread)[:, None]
        np.fill_diagonal(spread, 0.0)
        return cls(order, np.ascontiguousarray(curvatures), spread)

    def over_moment(self, rows: Array) -> Array:
        """Rows times H^-1, shape (n, d)."""
        scale = self.curvatures.astype(rows.dtype)
        if self.spread is None:
            return rows / scale
        rows = rows[:, self.order]
        own = (rows - rows @ self.spread.T) / scale
        own -= own @ self.spread
        found = np.empty_like(own)
        found[:, self.order] = own
        return found

    def assign(
        self, rows: Array, codebook: Array, shares: Array, bit_price: float, survivors: int = 1
    ) -> npt.NDArray[np.unsignedinteger]:
        """Assign weights to the entries of a codebook so that the layer's outputs and its bits cost least.

        Parameters
        ----------
        rows : ndarray, shape (n, d), float64
            Weights by output.
        codebook : ndarray, shape (k,), float64
            Ascending, k <= 65,536.
        shares : ndarray, shape (k,), float64
            How often each entry is used, > 0: its symbol takes -log2 of it in bits.
        bit_price : float
            What a bit is worth, in units of w H w^T.
        survivors : int
            Ways to assign the columns so far that are followed, 1 .. 255.

        Returns
        -------
        ndarray, shape (n, d), uint8, or uint16 if k > 256
            Entries of the codebook.
        """
        from sws_compress.calibrate.feedback_kernels import assign_alone

        costs = -bit_price * np.log2(shares)
        chosen = np.empty(rows.shape, np.min_scalar_type(len(codebook) - 1))

        def piece(part: slice) -> None:
            if self.spread is None:
                assign_alone(rows[part], self.curvatures, codebook, costs, costs.min(), chosen[part])
                return
            own = np.array(rows[part][:, self.order], self.spread.dtype, order="C")
            found = np.empty(own.shape, chosen.dtype)
            if survivors > 1:
                _follow(self, self.spread, own, codebook, costs, survivors, found)
            else:
                _one_by_one(self, self.spread, own, codebook, costs, found)
            chosen[part, self.order] = found

        for _ in over_pieces(piece, len(rows), PIECE_ROWS):
            pass
        return chosen


def _one_by_one(
    feedback: Feedback, spread: Array, own: Array, codebook: Array, costs: Array, chosen: npt.NDArray[Any]
) -> None:
    """Write the entries of weights in order, ``own``, which are overwritten: the cheapest one of each column."""
    from sws_compress.calibrate.feedback_kernels import assign_columns

    size = own.shape[1]
    for first in range(0, size, WIDE_COLUMNS):
        last = min(first + WIDE_COLUMNS, size)
        errors = np.empty((len(own), last - first), own.dtype)
        for start in range(first, last, BLOCK_COLUMNS):
            end = min(start + BLOCK_COLUMNS, last)
            latest = errors[:, start - first : end - first]
            state = (own, spread, feedback.curvatures, codebook, costs, costs.min(), chosen, latest)
            assign_columns(*state, start)
            own[:, end:last] += latest @ spread[start:end, end:last]
        own[:, last:] += errors @ spread[first:last, last:]


def _follow(
    feedback: Feedback,
    spread: Array,
    own: Array,
    codebook: Array,
    costs: Array,
    survivors: int,
    chosen: npt.NDArray[Any],
) -> None:
    """Write the entries of weights in order, ``own``: those of the cheapest survivor of each row."""
    from sws_compress.calibrate.survivor_kernels import extend_survivors, trace_back

    size, lines = own.shape[1], np.repeat(own[:, None], survivors, axis=1)
    totals = np.full(lines.shape[:2], np.inf)
    totals[:, 0] = 0.0
    parents = np.empty((size, *totals.shape), np.uint8)
    entries = np.empty((size, *totals.shape), chosen.dtype)
    origins = np.empty(totals.shape, np.intp)
    for start in range(0, size, SURVIVOR_COLUMNS):
        end = min(start + SURVIVOR_COLUMNS, size)
        block, errors = slice(start, end), np.empty((*totals.shape, end - start), own.dtype)
        within = np.ascontiguousarray(spread[block, block].T)
        state = (lines, within, feedback.curvatures[block], codebook, costs, totals)
        extend_survivors(*state, parents[block], entries[block], origins, errors)
        if end < size:
            lines = np.take_along_axis(lines[:, :, end - start :], origins[:, :, None], 1)
            lines += errors @ spread[block, end:]
    trace_back(totals, parents, entries, chosen)
