"""From weights to a palette: at most 256 distinct values and one index per symbol."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.histogram import PIECE_WEIGHTS, as_float32
from sws_compress.mixture.mixture import AnyArray, Array, Mixture
from sws_compress.quantize.palette import CHUNK, FLOATS, MAX_CODEBOOK, Palette, check_finite
from sws_compress.threads import over_pieces

GRID_STEPS = 1 << 12
"""Of the grid in which the cells of scalars are looked up; it stays in the first-level cache."""


def snap(values: AnyArray, mixture: Mixture, *, bit_price: float = 0.0, recentre: bool = True) -> Palette:
    """Give every weight the component argmin_k |w - mu_k|^2 - bit_price log2 pi_k, then the mean of its members.

    Without ``recentre`` it is the mean of the component instead, which may have been fitted to weights of different
    sensitivities.

    ``values`` any shape; for d > 1 their number must be a multiple of d and every d consecutive ones are one symbol.
    ``bit_price`` >= 0 is lambda, the squared error that one bit is worth, in units of the weights squared; 0
    means the nearest mean. A component whose mean is exactly 0 stays exactly 0. Components that no weight chose, or
    that round to the same values, leave the codebook, which is sorted. Chou, Lookabaugh & Gray 1989.

    The codebook is of the type of ``values`` if that is one of FLOATS, else float32. For float64 its values are rounded
    to float32 all the same: clustering has no more digits to give, and a file stores four bytes for each then.

    Raises ArgumentError on more than 256 components, a negative rate or a size that d does not divide, ModelError if a
    value is NaN or infinite.
    """
    values = np.asarray(values)
    if mixture.components > MAX_CODEBOOK:
        raise ArgumentError(f"components must be <= 256, got {mixture.components}: indices are uint8")
    if not (bit_price >= 0 and np.isfinite(bit_price)):
        raise ArgumentError(f"bit_price must be finite and >= 0, got {bit_price}: it is the price of a bit")
    if values.size == 0 or values.size % mixture.dimension:
        raise ArgumentError(
            f"number of values must be a positive multiple of {mixture.dimension}, got {values.size}: "
            "a component describes that many consecutive weights"
        )
    points = values.reshape(-1, mixture.dimension)
    check_finite(points)
    with np.errstate(divide="ignore"):
        costs = -bit_price * np.log2(mixture.weights) if bit_price > 0 else np.zeros(mixture.components)
    if mixture.dimension == 1:
        members = _scalar_members(points[:, 0], mixture, costs)
    else:
        members = _members(points, mixture, costs)
    dtype = values.dtype if values.dtype.name in FLOATS else np.dtype(np.float32)
    if not recentre:
        members = members._replace(sums=np.zeros_like(members.sums))
    return _palette_of_members(members, mixture, values.shape, dtype)


class _Members(NamedTuple):
    """The component of every symbol, uint8 (n,); how many each has (k,); the sums (k, d) of their w - mu."""

    assignment: npt.NDArray[np.uint8]
    counts: Array
    sums: Array


def _members(points: AnyArray, mixture: Mixture, costs: Array) -> _Members:
    """Of rows (n, d), chunk by chunk."""
    means = mixture.means.reshape(mixture.components, -1)
    assignment = np.empty(len(points), np.uint8)
    counts, sums = np.zeros(len(means)), np.zeros(means.shape)
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK].astype(np.float64)
        chosen = assign(chunk, means, costs)
        assignment[start : start + CHUNK] = chosen
        counts += np.bincount(chosen, minlength=len(means))
        for j in range(chunk.shape[1]):
            sums[:, j] += np.bincount(chosen, weights=chunk[:, j] - means[chosen, j], minlength=len(means))
    return _Members(assignment, counts, sums)


def _scalar_members(flat: AnyArray, mixture: Mixture, costs: Array) -> _Members:
    """Of scalars (n,): looked up in a grid over the breakpoints, on a few threads, twenty times faster than a search.

    The grid only says where to start looking, so that the result is exact.
    """
    from sws_compress.quantize import kernels

    winners, breakpoints = lower_envelope(mixture.means, costs)
    number, means = winners.astype(np.uint8), mixture.means[winners]
    bounds = np.concatenate([[-np.inf], breakpoints, [np.inf]])
    low, high = (breakpoints[0], breakpoints[-1]) if len(breakpoints) else (0.0, 0.0)
    step = (high - low) / GRID_STEPS or 1.0
    first = np.searchsorted(breakpoints, low + step * np.arange(GRID_STEPS)).astype(np.int32)
    assignment = np.empty(len(flat), np.uint8)

    def piece(part: slice) -> Array:
        values = flat[part] if flat.dtype == np.float64 else as_float32(flat[part])
        table = np.zeros((len(winners), 2))
        kernels.assign_scalars(values, bounds, low, 1 / step, first, means, number, assignment[part], table)
        return table

    totals = np.zeros((mixture.components, 2))
    for table in over_pieces(piece, len(flat), PIECE_WEIGHTS):
        totals[winners] += table
    return _Members(assignment, totals[:, 0], totals[:, 1:])


def _palette_of_members(members: _Members, mixture: Mixture, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Palette:
    """The palette of cluster means."""
    assignment, counts, sums = members
    means = mixture.means.reshape(sums.shape)
    centres = means + sums / np.maximum(counts, 1)[:, None]
    centres[(means == 0).all(axis=1)] = 0.0
    used = counts > 0
    rows = centres[used].astype(np.float32).astype(dtype).astype(np.float64) + 0.0  # -0.0 + 0.0 = 0.0
    codebook, merged = np.unique(rows, axis=0, return_inverse=True)
    new_index = np.zeros(len(means), np.uint8)
    new_index[used] = merged.reshape(-1)
    if not np.array_equal(new_index, np.arange(len(new_index))):
        for start in range(0, assignment.size, CHUNK):
            assignment[start : start + CHUNK] = new_index[assignment[start : start + CHUNK]]
    return Palette(codebook.astype(dtype).reshape(-1, *mixture.means.shape[1:]), assignment, shape)


def lower_envelope(means: Array, costs: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Which component has the least (w - mu)^2 + cost, from left to right, and the w between neighbours.

    ``means`` and ``costs`` (k,), a cost may be infinite (never chosen); returns winners (m,) and breakpoints (m - 1,),
    1 <= m <= k. Subtracting w^2 leaves lines of slope -2 mu, whose lower envelope a convex-hull scan finds.
    """
    winners: list[int] = []
    breakpoints: list[float] = []
    for k in np.lexsort((costs, means)):
        if not np.isfinite(costs[k]) or (winners and means[k] == means[winners[-1]]):
            continue
        crossing = -np.inf
        while winners:
            gap = means[k] - means[winners[-1]]
            crossing = (means[k] + means[winners[-1]]) / 2 + (costs[k] - costs[winners[-1]]) / (2 * gap)
            if not breakpoints or crossing > breakpoints[-1]:
                break
            winners.pop()
            breakpoints.pop()
        if winners:
            breakpoints.append(crossing)
        winners.append(int(k))
    return np.array(winners, dtype=np.intp), np.array(breakpoints)


def assign(chunk: Array, means: Array, costs: Array) -> npt.NDArray[np.intp]:
    """argmin_k of |w - mu_k|^2 + cost_k, shape (n,), of rows (n, d), in O(n) memory."""
    if chunk.shape[1] == 1:
        winners, breakpoints = lower_envelope(means[:, 0], costs)
        return winners[np.searchsorted(breakpoints, chunk[:, 0])]
    best = np.full(len(chunk), np.inf)
    chosen = np.zeros(len(chunk), np.intp)
    for k, (mean, cost) in enumerate(zip(means, costs, strict=True)):
        deviations = chunk - mean
        total = np.einsum("nd,nd->n", deviations, deviations) + cost
        closer = total < best
        best[closer] = total[closer]
        chosen[closer] = k
    return chosen
