"""Compiled loops (numba) over float32 weights; imported only when the first of them is called.

The loops release the interpreter lock and run on pieces in plain threads (`sws_compress.threads`). Unlike numba's own
thread pool, these may be started from any thread, and survive a fork.

The pull works in blocks that stay in the first-level cache: only the table look-up in the middle is a scalar loop, and
the arithmetic around it vectorises. One plain loop is three times slower, because its stores might alias the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

BLOCK_WEIGHTS = 256
"""Weights of a block; its few arrays take some 5 KB, so that the table keeps most of the first-level cache."""


def _jit(function: Callable[..., None], *, cache: bool) -> Any:
    return numba.njit(nogil=True, cache=cache, error_model="numpy", fastmath={"contract"})(function)


def compiled(function: Callable[..., None]) -> Any:
    """Compile a function when it is first called, and keep it on disk if there is a folder that can be written."""
    try:
        return _jit(function, cache=True)
    except RuntimeError:  # numba found no folder to write to: compile anew in each process
        return _jit(function, cache=False)


@compiled
def pull_scalar(weights: Any, metric: Any, low: Any, inverse_step: Any, words: Any, tau: Any) -> None:
    """Pull in a metric of one number.

    A weight reads the word of the grid point nearest to it; NaN reads entry 0. Interpolation would read twice as much
    and take twice as long; a finer table costs nothing.
    """
    position, found = np.zeros(BLOCK_WEIGHTS, np.int32), np.empty(BLOCK_WEIGHTS, np.uint64)
    pairs, entries = position.view(np.uint64), found.view(np.float32)  # a and a m in turns
    last = np.float32(len(words) - 1)
    for start in range(0, len(weights), BLOCK_WEIGHTS):
        w = weights[start : start + BLOCK_WEIGHTS]
        for i in range(len(w)):
            x = (w[i] - low) * inverse_step + np.float32(0.5)
            x = x if x > np.float32(0) else np.float32(0)
            position[i] = np.int32(min(x, last))
        for i in range((len(w) + 1) // 2):  # one load for two positions; unsigned: no test for negative indices
            pair = pairs[i]
            found[2 * i] = words[pair & np.uint64(0xFFFFFFFF)]
            found[2 * i + 1] = words[pair >> np.uint64(32)]
        for i in range(len(w)):
            w[i] += tau * (entries[2 * i + 1] - entries[2 * i] * w[i]) / (metric + tau * entries[2 * i])


@compiled
def pull_adam(
    weights: Any, second_moment: Any, inverse_correction: Any, eps: Any, inverse_lr: Any,
    low: Any, inverse_step: Any, words: Any, tau: Any,
) -> None:  # fmt: skip
    """Pull in Adam's metric, (sqrt(second moment * inverse correction) + eps) / lr.

    The look-up is the one of `pull_scalar`. A function for both is not inlined well and takes a third longer.
    """
    position, found = np.zeros(BLOCK_WEIGHTS, np.int32), np.empty(BLOCK_WEIGHTS, np.uint64)
    pairs, entries = position.view(np.uint64), found.view(np.float32)
    last = np.float32(len(words) - 1)
    for start in range(0, len(weights), BLOCK_WEIGHTS):
        w = weights[start : start + BLOCK_WEIGHTS]
        v = second_moment[start : start + BLOCK_WEIGHTS]
        for i in range(len(w)):
            x = (w[i] - low) * inverse_step + np.float32(0.5)
            x = x if x > np.float32(0) else np.float32(0)
            position[i] = np.int32(min(x, last))
        for i in range((len(w) + 1) // 2):
            pair = pairs[i]
            found[2 * i] = words[pair & np.uint64(0xFFFFFFFF)]
            found[2 * i + 1] = words[pair >> np.uint64(32)]
        for i in range(len(w)):
            h = (np.sqrt(v[i] * inverse_correction) + eps) * inverse_lr
            w[i] += tau * (entries[2 * i + 1] - entries[2 * i] * w[i]) / (h + tau * entries[2 * i])


@compiled
def _locate(values: Any, low: Any, step: Any, bins: Any, position: Any, offset: Any) -> None:
    """Find the bin of each value, clamped to the grid (NaN: bin 0), and the distance from that bin's centre."""
    inverse_step = 1 / step
    top = np.float64(bins - 1)
    for i in range(len(values)):
        x = np.float64(values[i])
        p = (x - low) * inverse_step
        p = p if p > 0.0 else 0.0
        p = p if p < top else top
        j = np.int32(p)
        position[i] = j
        offset[i] = x - (low + (np.float64(j) + 0.5) * step)


@compiled
def histogram(values: Any, low: Any, step: Any, table: Any) -> None:
    """Add to ``table``, (bins, 3) float64: count, sum of w - c, sum of (w - c)^2, side by side in one cache line."""
    position = np.empty(BLOCK_WEIGHTS, np.int32)
    offset = np.empty(BLOCK_WEIGHTS, np.float64)
    for start in range(0, len(values), BLOCK_WEIGHTS):
        w = values[start : start + BLOCK_WEIGHTS]
        _locate(w, low, step, len(table), position, offset)
        for i in range(len(w)):
            row = np.uint64(position[i])
            table[row, 0] += 1.0
            table[row, 1] += offset[i]
            table[row, 2] += offset[i] * offset[i]


@compiled
def weighted_histogram(values: Any, sensitivities: Any, low: Any, step: Any, table: Any) -> None:
    """Add to ``table``, (bins, 4) float64: count, sum of h (w - c), sum of h (w - c)^2, sum of h."""
    position = np.empty(BLOCK_WEIGHTS, np.int32)
    offset = np.empty(BLOCK_WEIGHTS, np.float64)
    for start in range(0, len(values), BLOCK_WEIGHTS):
        w = values[start : start + BLOCK_WEIGHTS]
        _locate(w, low, step, len(table), position, offset)
        for i in range(len(w)):
            row = np.uint64(position[i])
            h = np.float64(sensitivities[start + i])
            table[row, 0] += 1.0
            table[row, 1] += h * offset[i]
            table[row, 2] += h * (offset[i] * offset[i])
            table[row, 3] += h
