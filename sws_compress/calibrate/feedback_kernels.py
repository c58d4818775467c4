"""The compiled loop (numba) of `error_feedback`; `mixture.kernels` says how these loops are run."""

from __future__ import annotations

from typing import Any

import numpy as np

from sws_compress.mixture.kernels import compiled


@compiled
def _cheapest(x: Any, h: Any, codebook: Any, costs: Any, least_cost: Any) -> Any:
    """Entry k of least h (x - codebook[k])^2 + costs[k]; the search goes outward until the error alone costs more."""
    last = len(codebook) - 1
    nearest = min(np.searchsorted(codebook, x), last)
    best, least = nearest, np.inf
    for k in range(nearest, -1, -1):
        error = h * (x - codebook[k]) * (x - codebook[k])
        if k < nearest and error + least_cost >= least:  # codebook[nearest] is above x, perhaps far
            break
        if error + costs[k] < least:
            best, least = k, error + costs[k]
    for k in range(nearest + 1, last + 1):
        error = h * (x - codebook[k]) * (x - codebook[k])
        if error + least_cost >= least:
            break
        if error + costs[k] < least:
            best, least = k, error + costs[k]
    return best


@compiled
def assign_alone(rows: Any, curvatures: Any, codebook: Any, costs: Any, least_cost: Any, chosen: Any) -> None:
    """Assign every weight for itself; arguments as in `assign_columns`, but ``rows`` stay as they are."""
    for r in range(len(rows)):
        for j in range(rows.shape[1]):
            chosen[r, j] = _cheapest(rows[r, j], curvatures[j], codebook, costs, least_cost)


@compiled
def assign_columns(
    rows: Any,
    spread: Any,
    curvatures: Any,
    codebook: Any,
    costs: Any,
    least_cost: Any,
    chosen: Any,
    errors: Any,
    first: Any,
) -> None:
    """Assign some columns of all rows in turn, and spread the error of each over those of them to come.

    Rows do not depend on each other. They take turns at each column, so that a line of ``spread`` is read once.

    Parameters
    ----------
    rows : (n, d) float64, overwritten
    spread : (d, d) float64, upper triangular: what a unit of error in column j adds to column i > j
    curvatures : (d,) float64, what a unit of squared error costs in each column
    codebook : (k,) float64, ascending
    costs : (k,) float64, price of each entry's symbol
    least_cost : float, the least of them
    chosen : (n, d) uint8 or uint16, written
    errors : (n, columns) float64, written: the error of each column
    first : int, the first of these columns
    """
    last = first + errors.shape[1]
    for j in range(first, last):
        line = spread[j]
        for r in range(len(rows)):
            w = rows[r]
            best = _cheapest(w[j], curvatures[j], codebook, costs, least_cost)
            chosen[r, j] = best
            change = w[j] - codebook[best]
            errors[r, j - first] = change
            for i in range(j + 1, last):
                w[i] += change * line[i]
