"""The order in which the columns of a layer are assigned: those that matter least come last.

Errors of a column are made up by those that come later, and cost c_j = det H_j.. / det H_j+1.., the part of H that
belongs to the columns from j on. Their product is det H in every order, so that their sum, which one step for all of
them makes errors cost, is least where they are most alike. The last column has nothing behind it and costs H_jj. So the
order is found from its end: next comes the column that costs least before those that are already there, as in
Cholesky's factorisation with pivots.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from sws_compress.calibrate.moments import WIDE_INPUTS, Array

CHOSEN_TOGETHER = 16
"""Columns that are chosen before their effect on the others is computed: products of blocks are fast."""


def ordered_factor(moment: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """The order, and the factor of H in this order.

    Columns of `WIDE_INPUTS` are in the order of H_jj, which takes no second matrix and is almost as good.

    Parameters
    ----------
    moment : ndarray, shape (d, d), floating point
        H, positive definite.

    Returns
    -------
    order : ndarray, shape (d,), intp
        Columns of H, the one that is assigned first in front.
    factor : ndarray, shape (d, d), of the type of H
        Upper triangular R, with R^T R = H for rows and columns in reversed order.
    """
    if len(moment) < WIDE_INPUTS:
        return _by_pivots(moment)
    last_first = np.argsort(np.diag(moment), kind="stable")
    return last_first[::-1].copy(), _factor(moment[np.ix_(last_first, last_first)])


def _by_pivots(moment: Array) -> tuple[npt.NDArray[np.intp], Array]:
    size = len(moment)
    last_first = np.empty(size, np.intp)
    left = np.arange(size)
    factor = np.zeros((size, size), moment.dtype)  # lower triangular for its rows in order
    costs = np.diag(moment).copy()
    for start in range(0, size, CHOSEN_TOGETHER):
        by_cost = left[np.argsort(costs[left], kind="stable")]
        chosen, left = by_cost[:CHOSEN_TOGETHER], np.sort(by_cost[CHOSEN_TOGETHER:])
        end = start + len(chosen)
        rows = np.concatenate([chosen, left])
        block = moment[np.ix_(rows, chosen)] - factor[rows, :start] @ factor[chosen, :start].T
        own = cholesky(block[: len(chosen)], lower=True)
        factor[chosen, start:end] = own
        factor[left, start:end] = solve_triangular(own, block[len(chosen) :].T, lower=True).T
        costs[left] -= np.square(factor[left, start:end]).sum(axis=1)
        last_first[start:end] = chosen
    return last_first[::-1].copy(), factor[last_first].T


def _factor(moment: Array) -> Array:
    """The upper Cholesky factor; float32 may take a nearly singular matrix for indefinite."""
    try:
        factor: Array = cholesky(moment, lower=False, check_finite=False)
    except np.linalg.LinAlgError:
        factor = cholesky(moment.astype(np.float64), lower=False).astype(moment.dtype)
    return factor
