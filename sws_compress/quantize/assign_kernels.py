"""Compiled loops (numba) that assign scalars to components; `mixture.kernels` says how these loops are run.

A cell is the range of values nearest to a mean, or cheapest with it. Cells are found by an even grid: its entry says
which cell to look at first, a short walk over the cells' bounds does the rest, so that the result is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sws_compress.mixture.kernels import BLOCK_WEIGHTS, compiled


@compiled
def _first_cells(values: Any, low: Any, inverse_step: Any, first: Any, position: Any) -> None:
    """Grid point of each of ``values``, clamped to the grid."""
    top = np.float64(len(first) - 1)
    for i in range(len(values)):
        p = (np.float64(values[i]) - low) * inverse_step
        p = p if p > 0.0 else 0.0
        position[i] = np.int32(p if p < top else top)


@compiled
def assign_scalars(
    values: Any, bounds: Any, low: Any, inverse_step: Any, first: Any, means: Any, number: Any, chosen: Any, sums: Any
) -> None:
    """Assign each of ``values`` to the cell with bounds[cell] < value <= bounds[cell + 1].

    Parameters
    ----------
    values : (n,) float32 or float64
    bounds : (m + 1,) float64, ascending from -inf to inf
    low, inverse_step : float, the grid
    first : (t,) int32, cell to look at first for each grid point
    means : (m,) float64, ascending
    number : (m,) uint8, component of each cell
    chosen : (n,) uint8, written
    sums : (m, 2) float64, added to: number of values, sum of value - mean
    """
    position = np.empty(BLOCK_WEIGHTS, np.int32)
    for start in range(0, len(values), BLOCK_WEIGHTS):
        w = values[start : start + BLOCK_WEIGHTS]
        _first_cells(w, low, inverse_step, first, position)
        for i in range(len(w)):
            x = np.float64(w[i])
            cell = np.uint64(first[np.uint64(position[i])])
            while x > bounds[cell + np.uint64(1)]:
                cell += np.uint64(1)
            while x <= bounds[cell]:
                cell -= np.uint64(1)
            chosen[start + i] = number[cell]
            sums[cell, 0] += 1.0
            sums[cell, 1] += x - means[cell]


@compiled
def assign_sensitive_scalars(
    values: Any, sensitivities: Any, bounds: Any, low: Any, inverse_step: Any, first: Any, means: Any, costs: Any,
    number: Any, chosen: Any, sums: Any,
) -> None:  # fmt: skip
    """Assign each of ``values`` to argmin h (value - mean)^2 + cost, where h differs from value to value.

    The search starts at the nearest mean and walks outwards on both sides, until even the least cost further out cannot
    make up for the distance.

    Parameters
    ----------
    values, bounds, low, inverse_step, first, means, number, chosen
        As for `assign_scalars`; the bounds are the middles between means.
    sensitivities : (n,) float32 or float64, h
    costs : (m,) float64, finite
    sums : (m, 3) float64, added to: number of values, sum of h, sum of h (value - mean)
    """
    position = np.empty(BLOCK_WEIGHTS, np.int32)
    priced = costs.max() > costs.min()
    least = np.empty((2, len(costs)), np.float64)  # of the cells up to this one, and from this one on
    least[0, 0] = costs[0]
    least[1, -1] = costs[-1]
    for k in range(1, len(costs)):
        least[0, k] = min(least[0, k - 1], costs[k])
        least[1, -1 - k] = min(least[1, -k], costs[-1 - k])
    for start in range(0, len(values), BLOCK_WEIGHTS):
        w = values[start : start + BLOCK_WEIGHTS]
        _first_cells(w, low, inverse_step, first, position)
        for i in range(len(w)):
            x = np.float64(w[i])
            h = np.float64(sensitivities[start + i])
            nearest = np.int64(first[position[i]])
            while x > bounds[nearest + 1]:
                nearest += 1
            while x <= bounds[nearest]:
                nearest -= 1
            cell = nearest
            if priced:
                best = h * (x - means[nearest]) ** 2 + costs[nearest]
                for side in range(2):
                    step = 2 * side - 1
                    other = nearest + step
                    while 0 <= other < len(means):
                        error = h * (x - means[other]) ** 2
                        if error + least[side, other] >= best:
                            break
                        if error + costs[other] < best:
                            best = error + costs[other]
                            cell = other
                        other += step
            chosen[start + i] = number[cell]
            sums[cell, 0] += 1.0
            sums[cell, 1] += h
            sums[cell, 2] += h * (x - means[cell])
