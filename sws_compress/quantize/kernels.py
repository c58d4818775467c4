"""Compiled loop (numba) that assigns scalars to cells; see ``mixture.kernels`` for how these loops are run."""

from __future__ import annotations

from typing import Any

import numpy as np

from sws_compress.mixture.kernels import BLOCK, compiled


@compiled
def assign_scalars(
    values: Any, bounds: Any, low: Any, inverse_step: Any, first: Any, means: Any, number: Any, chosen: Any, sums: Any
) -> None:
    """For each of ``values`` (n,) the cell with bounds[cell] < value <= bounds[cell + 1]: its number into ``chosen``.

    ``bounds`` (m + 1,) float64 ascending from -inf to inf; ``first`` int32 (t,): on an even grid from ``low``, the cell
    to look at first; ``number`` (m,) and ``chosen`` (n,) uint8. ``sums`` (m, 2) float64 are added to: number of values
    in a cell, sum of value - mean.
    """
    position = np.empty(BLOCK, np.int32)
    top = np.float64(len(first) - 1)
    for start in range(0, len(values), BLOCK):
        w = values[start : start + BLOCK]
        for i in range(len(w)):
            p = (np.float64(w[i]) - low) * inverse_step
            p = p if p > 0.0 else 0.0
            position[i] = np.int32(p if p < top else top)
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
