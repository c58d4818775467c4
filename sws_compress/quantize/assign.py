"""Assignment of weights to components, and codebooks as the means of their members.

    assignment    argmin_k h (w - mu_k)^2 - bit_price log2 pi_k
    codebook      mu_k = sum h w / sum h over the members of k

h is the sensitivity of the weight (1 if unknown); ``bit_price`` is lambda, the sensitivity-weighted squared error that
one bit is worth. Chou, Lookabaugh & Gray 1989. For vectors the squared errors of their d weights are added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.histogram import PIECE_WEIGHTS, as_float32
from sws_compress.mixture.mixture import AnyArray, Array, Mixture
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.palette import CHUNK_ELEMENTS, FLOATS, Palette, check_finite
from sws_compress.threads import over_pieces
from sws_compress.thresholds import MAX_CODEBOOK

LOOK_UP_STEPS = 1 << 12
"""Steps of the grid in which the cells of scalars are looked up; it stays in the first-level cache."""


def snap(
    values: AnyArray, mixture: Mixture, *, sensitivity: Sensitivity | None = None, bit_price: float = 0.0
) -> Palette:
    """Assign every weight (or vector of d weights) to a component, and replace it by the mean of the members.

    A component whose mean is exactly 0 stays exactly 0. Components that no weight chose, or that round to the same
    values, leave the codebook, which is sorted.

    Parameters
    ----------
    values : ndarray, any shape, floating point
        The weights. If the mixture is over vectors, every d consecutive ones (C order) are one symbol.
    mixture : Mixture
        At most 256 components.
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.
    bit_price : float, >= 0
        What one bit is worth, in units of h w^2; 0 means the nearest mean.

    Returns
    -------
    Palette
        Its codebook has the type of ``values`` if that is one of FLOATS, else float32. All its values are exact in
        float32, those of float64 as well: clustering has no more digits to give, and a file stores four bytes each.

    Raises
    ------
    ArgumentError
        If there are more than 256 components, the price is negative, d does not divide the number of values, or the
        sensitivities do not broadcast to them.
    ModelError
        If a value is NaN or infinite.
    """
    values = np.asarray(values)
    if mixture.components > MAX_CODEBOOK:
        raise ArgumentError(f"components must be <= 256, got {mixture.components}: indices are uint8")
    check_bit_price(bit_price)
    if values.size == 0 or values.size % mixture.dimension:
        raise ArgumentError(
            f"number of values must be a positive multiple of {mixture.dimension}, got {values.size}: "
            "a component describes that many consecutive weights"
        )
    points = values.reshape(-1, mixture.dimension)
    check_finite(points)
    if sensitivity is not None:
        sensitivity.of(values.shape)  # refuses what does not broadcast
        if sensitivity.uniform:
            bit_price /= sensitivity.mean
            sensitivity = None
    costs = bit_costs(mixture.weights, bit_price)
    if mixture.dimension > 1:
        h = None if sensitivity is None else sensitivity.rows(values.shape, mixture.dimension)
        members = _vector_members(points, h, mixture.means, costs)
    else:
        h = None if sensitivity is None else sensitivity.flat(values.shape)
        members = scalar_members(points[:, 0], h, mixture.means, costs)
    dtype = values.dtype if values.dtype.name in FLOATS else np.dtype(np.float32)
    return _palette_of_members(members, mixture, values.shape, dtype)


def check_bit_price(bit_price: float) -> None:
    """Raise ArgumentError if the price is negative or not finite."""
    if not (bit_price >= 0 and np.isfinite(bit_price)):
        raise ArgumentError(f"bit_price must be finite and >= 0, got {bit_price}: 0 asks for the least error")


def bit_costs(shares: Array, bit_price: float) -> Array:
    """Price of each component's symbol, -bit_price log2 pi_k, shape (k,); all 0 if bits are free."""
    if bit_price == 0:
        return np.zeros(len(shares))
    with np.errstate(divide="ignore"):
        costs: Array = -bit_price * np.log2(shares)
    return costs


@dataclass(frozen=True, eq=False)
class Members:
    """Who belongs to which component.

    Parameters
    ----------
    assignment : ndarray, shape (n,), uint8
        Component of every symbol.
    counts : ndarray, shape (k,)
        Number of members.
    mass : ndarray, shape (k, d) or (k, 1)
        Sum of their h.
    sums : ndarray, shape (k, d)
        Sum of their h (w - mu_k).
    """

    assignment: npt.NDArray[np.uint8]
    counts: Array
    mass: Array
    sums: Array


def _vector_members(points: AnyArray, h: AnyArray | None, means: Array, costs: Array) -> Members:
    """Members among vectors (n, d) with sensitivities of the same shape, chunk by chunk."""
    assignment = np.empty(len(points), np.uint8)
    counts, mass, sums = np.zeros(len(means)), np.zeros(means.shape), np.zeros(means.shape)
    for start in range(0, len(points), CHUNK_ELEMENTS):
        chunk = points[start : start + CHUNK_ELEMENTS].astype(np.float64)
        weights = None if h is None else h[start : start + CHUNK_ELEMENTS].astype(np.float64)
        chosen = assign(chunk, means, costs, weights)
        assignment[start : start + CHUNK_ELEMENTS] = chosen
        counts += np.bincount(chosen, minlength=len(means))
        deviations = chunk - means[chosen]
        if weights is not None:
            deviations *= weights
            for j, column in enumerate(weights.T):
                mass[:, j] += np.bincount(chosen, weights=column, minlength=len(means))
        for j, column in enumerate(deviations.T):
            sums[:, j] += np.bincount(chosen, weights=column, minlength=len(means))
    return Members(assignment, counts, counts[:, None] if h is None else mass, sums)


def assign(chunk: Array, means: Array, costs: Array, h: Array | None = None) -> npt.NDArray[np.intp]:
    """Component of least h |w - mu_k|^2 + cost_k for each row of (n, d), in O(n) memory; h is (n, d), by default 1."""
    best = np.full(len(chunk), np.inf)
    chosen = np.zeros(len(chunk), np.intp)
    for k, (mean, cost) in enumerate(zip(means, costs, strict=True)):
        deviations = chunk - mean
        weighted = deviations if h is None else deviations * h
        total = np.einsum("nd,nd->n", weighted, deviations) + cost
        closer = total < best
        best[closer] = total[closer]
        chosen[closer] = k
    return chosen


def scalar_members(flat: AnyArray, h: AnyArray | None, means: Array, costs: Array) -> Members:
    """Members among scalars.

    If all weights have one sensitivity, each component has one cell; else which component is cheapest depends on the
    sensitivity as well, and cells say where to begin.

    Parameters
    ----------
    flat : ndarray, shape (n,), floating point
        The weights.
    h : ndarray, shape (n,), float32 or float64, or None
        Their sensitivities; None for 1.
    means, costs : ndarray, shape (k,), float64
        Mean of each component and price of its symbol; a component of infinite cost is never chosen.

    Returns
    -------
    Members
        In O(n) memory.
    """
    from sws_compress.quantize import assign_kernels

    if h is None:
        winners, breakpoints = lower_envelope(means, costs)
    else:
        winners = distinct_means(means, costs)
        breakpoints = (means[winners][1:] + means[winners][:-1]) / 2
    number, own_means, own_costs, look_up = (
        winners.astype(np.uint8),
        means[winners],
        costs[winners],
        _look_up(breakpoints),
    )
    assignment = np.empty(len(flat), np.uint8)

    def piece(part: slice) -> Array:
        values = flat[part] if flat.dtype == np.float64 else as_float32(flat[part])
        table = np.zeros((len(winners), 2 if h is None else 3))
        if h is None:
            assign_kernels.assign_scalars(values, *look_up, own_means, number, assignment[part], table)
        else:
            assign_kernels.assign_sensitive_scalars(
                values, h[part], *look_up, own_means, own_costs, number, assignment[part], table
            )
        return table

    totals = np.zeros((len(means), 2 if h is None else 3))
    for table in over_pieces(piece, len(flat), PIECE_WEIGHTS):
        totals[winners] += table
    return Members(assignment, totals[:, 0], totals[:, -2:-1], totals[:, -1:])


def _look_up(breakpoints: Array) -> tuple[Array, float, float, npt.NDArray[np.int32]]:
    """Bounds of the cells, (m + 1,); start and inverse step of a grid; first cell of each of its points."""
    bounds = np.concatenate([[-np.inf], breakpoints, [np.inf]])
    low, high = (breakpoints[0], breakpoints[-1]) if len(breakpoints) else (0.0, 0.0)
    step = (high - low) / LOOK_UP_STEPS or 1.0
    first = np.searchsorted(breakpoints, low + step * np.arange(LOOK_UP_STEPS)).astype(np.int32)
    return bounds, low, 1 / step, first


def _palette_of_members(members: Members, mixture: Mixture, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Palette:
    """Palette of the members' means. A component whose members have no sensitivity keeps its mean."""
    assignment, means = members.assignment, mixture.means.reshape(members.sums.shape)
    centres = means + members.sums / np.where(members.mass > 0, members.mass, 1.0)
    centres[(means == 0).all(axis=1)] = 0.0
    used = members.counts > 0
    rows = centres[used].astype(np.float32).astype(dtype).astype(np.float64) + 0.0  # -0.0 + 0.0 = 0.0
    codebook, merged = np.unique(rows, axis=0, return_inverse=True)
    new_index = np.zeros(len(means), np.uint8)
    new_index[used] = merged.reshape(-1)
    if not np.array_equal(new_index, np.arange(len(new_index))):
        for start in range(0, assignment.size, CHUNK_ELEMENTS):
            assignment[start : start + CHUNK_ELEMENTS] = new_index[assignment[start : start + CHUNK_ELEMENTS]]
    return Palette(codebook.astype(dtype).reshape(-1, *mixture.means.shape[1:]), assignment, shape)


def lower_envelope(means: Array, costs: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Components with the least (w - mu)^2 + cost for some w, from left to right, and the w between neighbours.

    Subtracting w^2 leaves lines of slope -2 mu, whose lower envelope a convex-hull scan finds.

    Parameters
    ----------
    means, costs : ndarray, shape (k,), float64
        A component of infinite cost is never chosen; at least one cost is finite.

    Returns
    -------
    winners : ndarray, shape (m,), intp
        Components in the order of their means, m <= k.
    breakpoints : ndarray, shape (m - 1,), float64
        Ascending; a w on a breakpoint costs as much on either side.
    """
    winners: list[int] = []
    breakpoints: list[float] = []
    for k in distinct_means(means, costs):
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


def distinct_means(means: Array, costs: Array) -> npt.NDArray[np.intp]:
    """Components of finite cost in the order of their means; the cheapest of those with equal means."""
    order = np.lexsort((costs, means))
    order = order[np.isfinite(costs[order])]
    first = np.append(True, np.diff(means[order]) > 0)
    distinct: npt.NDArray[np.intp] = order[first]
    return distinct
