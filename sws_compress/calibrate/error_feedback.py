"""Assignment of a layer's weights, column by column, with the error of each column made up by the columns to come.

The cost of a row is (w - w') H (w - w')^T plus a price per bit. With H^-1 = U^T U, U upper triangular, the best that
the columns after j can do leaves (w_j - w'_j)^2 / U_jj^2 of an error in column j; they do it by moving by
-(w_j - w'_j) U_ji / U_jj. So column j is assigned by

    argmin_k (w_j - mu_k)^2 / U_jj^2 - bit_price log2 pi_k

References
----------
Frantar, Ashkboos, Hoefler & Alistarh, GPTQ, arXiv 2210.17323; with a rate term, CERWU, arXiv 2505.18758.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky
from scipy.linalg.lapack import get_lapack_funcs

from sws_compress.calibrate.moments import Array
from sws_compress.threads import over_pieces

PIECE_ROWS = 128
"""Rows of a piece of work: many enough for fast products."""

BLOCK_COLUMNS, WIDE_COLUMNS = 64, 512
"""Columns whose errors reach those behind them in one product: within so many columns, and beyond."""


@dataclass(frozen=True, eq=False)
class Feedback:
    """What the columns of a layer do for each other.

    Parameters
    ----------
    curvatures : ndarray, shape (d,), float64
        1 / U_jj^2: what a unit of squared error costs in each column once the later ones have made up for it. Their
        product is det H.
    spread : ndarray, shape (d, d), of the type of H, or None
        What a unit of error in column j adds to column i > j: -U_ji / U_jj. Zero on and below the diagonal. None where
        H is diagonal: no column makes up for another.
    """

    curvatures: Array
    spread: Array | None

    @classmethod
    def of(cls, moment: Array) -> Feedback:
        """The feedback for H, positive definite, shape (d, d), or its diagonal where it has no other entries."""
        if moment.ndim == 1:
            return cls(np.ascontiguousarray(moment), None)
        factor = _factor(moment)  # its flip is lower triangular, H = flip^T flip
        curvatures = np.square(np.diag(factor), dtype=np.float64)[::-1]
        (invert,) = get_lapack_funcs(("trtri",), (factor,))
        inverse, _ = invert(factor, lower=0, overwrite_c=1)
        spread = np.ascontiguousarray(inverse.T[::-1, ::-1])  # U
        spread /= -np.diag(spread)[:, None]
        np.fill_diagonal(spread, 0.0)
        return cls(np.ascontiguousarray(curvatures), spread)

    def over_moment(self, rows: Array) -> Array:
        """Rows times H^-1, shape (n, d)."""
        scale = self.curvatures.astype(rows.dtype)
        if self.spread is None:
            return rows / scale
        own = (rows - rows @ self.spread.T) / scale
        own -= own @ self.spread
        return own

    def assign(self, rows: Array, codebook: Array, shares: Array, bit_price: float) -> npt.NDArray[np.unsignedinteger]:
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

        Returns
        -------
        ndarray, shape (n, d), uint8, or uint16 if k > 256
            Entries of the codebook.
        """
        from sws_compress.calibrate.feedback_kernels import assign_alone, assign_columns

        costs = -bit_price * np.log2(shares)
        chosen = np.empty(rows.shape, np.min_scalar_type(len(codebook) - 1))
        size = rows.shape[1]

        def piece(part: slice) -> None:
            if self.spread is None:
                assign_alone(rows[part], self.curvatures, codebook, costs, costs.min(), chosen[part])
                return
            own = np.array(rows[part], self.spread.dtype, order="C")
            for first in range(0, size, WIDE_COLUMNS):
                last = min(first + WIDE_COLUMNS, size)
                errors = np.empty((len(own), last - first), own.dtype)
                for start in range(first, last, BLOCK_COLUMNS):
                    end = min(start + BLOCK_COLUMNS, last)
                    latest = errors[:, start - first : end - first]
                    state = (own, self.spread, self.curvatures, codebook, costs, costs.min(), chosen[part], latest)
                    assign_columns(*state, start)
                    own[:, end:last] += latest @ self.spread[start:end, end:last]
                own[:, last:] += errors @ self.spread[first:last, last:]

        for _ in over_pieces(piece, len(rows), PIECE_ROWS):
            pass
        return chosen


def _factor(moment: Array) -> Array:
    """The upper Cholesky factor of H flipped; float32 may take a nearly singular one for indefinite."""
    try:
        factor: Array = cholesky(moment[::-1, ::-1], lower=False, check_finite=False)
    except np.linalg.LinAlgError:
        factor = cholesky(moment[::-1, ::-1].astype(np.float64), lower=False).astype(moment.dtype)
    return factor
