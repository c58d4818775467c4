"""From weights to a palette: at most 256 distinct values and one index per symbol."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError, ModelError
from sws_compress.mixture._threads import over_pieces
from sws_compress.mixture.histogram import PIECE_WEIGHTS, as_float32
from sws_compress.mixture.params import AnyArray, Array, Mixture

MAX_CODEBOOK = 256
"""Indices are uint8."""

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Names of the types a tensor may have; NumPy knows bfloat16 where ``ml_dtypes`` has been imported."""

CHUNK = 1 << 18
"""Values converted and compared together; bounds the memory beyond the result to a few MB."""

GRID_STEPS = 1 << 12
"""Of the grid in which the cells of scalars are looked up; it stays in the first-level cache."""


@dataclass(frozen=True, eq=False)
class ChannelScales:
    """One factor for every slice of a tensor along ``axis``: ``values`` (slices,) float32, finite and positive.

    Raises ArgumentError where they are not.
    """

    values: npt.NDArray[np.float32]
    axis: int

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 1:
            found = f"{self.values.dtype} {self.values.shape}"
            raise ArgumentError(f"scales must be float32 of shape (slices,), got {found}: convert them")
        if not (np.isfinite(self.values).all() and (self.values > 0).all()):
            raise ArgumentError(f"scales must be finite and > 0, got {self.values.min()}: use 1 for slices of zeros")

    def broadcast(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """The factors in a shape that broadcasts to ``shape``, of which they are along one axis."""
        return self.values.reshape([size if axis == self.axis else 1 for axis, size in enumerate(shape)])


@dataclass(frozen=True, eq=False)
class Palette:
    """A tensor of few distinct values (d = 1) or few distinct rows of d consecutive values, slice by slice to scale.

    ``codebook`` (k,) or (k, d) of the tensor's own type, one of FLOATS, 1 <= k <= 256; ``indices`` (n,) uint8 into it,
    in C order; ``shape`` of the tensor, which holds n or n d values. With ``scales`` the tensor is the codebook's
    values times the scale of their slice: products of float32, rounded to the tensor's own type; the codebook is exact
    in float32 then.

    Raises ArgumentError where one of these rules is broken.
    """

    codebook: npt.NDArray[Any]
    indices: npt.NDArray[np.uint8]
    shape: tuple[int, ...]
    scales: ChannelScales | None = None

    def __post_init__(self) -> None:
        if self.codebook.dtype.name not in FLOATS or self.codebook.ndim not in (1, 2):
            found = f"{self.codebook.dtype} {self.codebook.shape}"
            raise ArgumentError(f"codebook must be floating-point of shape (k,) or (k, d), got {found}: convert it")
        if not 1 <= len(self.codebook) <= MAX_CODEBOOK:
            raise ArgumentError(f"codebook must have 1 to 256 entries, got {len(self.codebook)}: indices are uint8")
        if self.indices.dtype != np.uint8 or self.indices.ndim != 1:
            raise ArgumentError(
                f"indices must be uint8 of shape (n,), got {self.indices.dtype} {self.indices.shape}: convert them"
            )
        if self.indices.size and int(self.indices.max()) >= len(self.codebook):
            raise ArgumentError(
                f"indices must be < {len(self.codebook)}, got {self.indices.max()}: the codebook has no such entry"
            )
        if prod(self.shape) != self.indices.size * self.dimension:
            raise ArgumentError(
                f"shape must hold {self.indices.size * self.dimension} values, got {self.shape}: "
                "one index stands for d values"
            )
        if self.scales is not None:
            self._check_scales(self.scales)

    def _check_scales(self, scales: ChannelScales) -> None:
        if not 0 <= scales.axis < len(self.shape) or len(scales.values) != self.shape[scales.axis]:
            raise ArgumentError(
                f"scales must be one a slice along an axis of {self.shape}, got {len(scales.values)} along axis "
                f"{scales.axis}: name the axis they were made for"
            )
        with np.errstate(over="ignore"):
            single = self.codebook.astype(np.float32)
        if not np.array_equal(single.astype(self.codebook.dtype), self.codebook):
            raise ArgumentError(
                f"codebook with scales must be exact in float32, got {self.codebook.dtype}: round it first"
            )

    @property
    def dimension(self) -> int:
        """d, the number of consecutive values one index stands for."""
        return 1 if self.codebook.ndim == 1 else self.codebook.shape[1]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many symbols use each codebook entry, shape (k,)."""
        counts = np.zeros(len(self.codebook), np.int64)
        for start in range(0, self.indices.size, CHUNK):  # bincount would make int64 of all of them
            counts += np.bincount(self.indices[start : start + CHUNK], minlength=len(counts))
        return counts

    @property
    def entropy_bits(self) -> float:
        """Order-0 entropy of the indices, in bits per symbol (one symbol stands for d weights)."""
        counts = self.counts
        shares = counts[counts > 0] / max(self.indices.size, 1)
        return float(-(shares * np.log2(shares)).sum()) + 0.0

    @property
    def zeros(self) -> float:
        """Share of the tensor's values that are exactly zero, 0 .. 1."""
        zeros_per_entry = (self.codebook.reshape(len(self.codebook), -1) == 0).sum(axis=1)
        return float(self.counts @ zeros_per_entry) / max(prod(self.shape), 1)

    def expand(self) -> npt.NDArray[Any]:
        """The tensor, of the codebook's type and of ``shape``, bit for bit."""
        return self.part(0, prod(self.shape)).reshape(self.shape)

    def part(self, start: int, stop: int) -> npt.NDArray[Any]:
        """``expand().reshape(-1)[start:stop]`` alone; d must divide ``start`` and ``stop``."""
        values = self.codebook[self.indices[start // self.dimension : stop // self.dimension]].reshape(-1)
        if self.scales is None or not values.size:
            return values
        inner = prod(self.shape[self.scales.axis + 1 :])
        first, last = start // inner, -(-stop // inner)  # runs of one scale; those at the ends are cut
        runs = self.scales.values[np.arange(first, last) % len(self.scales.values)]
        factors = np.repeat(runs, inner)[start - first * inner :][: values.size]
        with np.errstate(over="ignore"):
            product: npt.NDArray[Any] = np.multiply(values, factors, dtype=np.float32, casting="unsafe")
            return product.astype(values.dtype)


def palette_of(values: AnyArray) -> Palette | None:
    """The palette that ``values`` (one of FLOATS, any shape) already have, or None if more than 256 bit patterns occur.

    Exact: 0.0 and -0.0 are two entries, `expand` returns the same bits, and the codebook is sorted, -0.0 first. Only
    scalar palettes are looked for (d = 1).

    Raises ArgumentError on another dtype or an empty array, ModelError if a value is NaN or infinite.
    """
    values = np.asarray(values)
    if values.dtype.name not in FLOATS or values.size == 0:
        raise ArgumentError(
            f"values must be floating-point and not empty, got {values.dtype} {values.shape}: convert them"
        )
    flat = values.reshape(-1)
    check_finite(flat)
    patterns = bit_patterns(flat)
    known = np.unique(patterns[:: max(1, patterns.size >> 12)])  # an ordinary tensor is refused here, after 4096 values
    if len(known) > MAX_CODEBOOK:
        return None
    for start in range(0, patterns.size, CHUNK):
        chunk = patterns[start : start + CHUNK]
        found = known[np.minimum(np.searchsorted(known, chunk), len(known) - 1)]
        new = chunk[found != chunk]
        if new.size:
            known = np.union1d(known, new)
            if len(known) > MAX_CODEBOOK:
                return None
    indices = np.empty(patterns.size, np.uint8)
    codebook = known.view(values.dtype)
    order = np.lexsort((~np.signbit(codebook), codebook.astype(np.float64)))
    rank = np.empty(len(order), np.uint8)
    rank[order] = np.arange(len(order), dtype=np.uint8)
    for start in range(0, patterns.size, CHUNK):
        indices[start : start + CHUNK] = rank[np.searchsorted(known, patterns[start : start + CHUNK])]
    return Palette(codebook[order], indices, values.shape)


def bit_patterns(values: AnyArray) -> npt.NDArray[np.unsignedinteger]:
    """The same memory as unsigned integers of the same width: what tells 0.0 from -0.0."""
    patterns: npt.NDArray[np.unsignedinteger] = values.view(f"u{values.dtype.itemsize}")
    return patterns


def snap(values: AnyArray, mixture: Mixture, *, rate_bits: float = 0.0, recentre: bool = True) -> Palette:
    """Give every weight the component argmin_k |w - mu_k|^2 / 2 - rate_bits log2 pi_k, then the mean of its members.

    Without ``recentre`` it is the mean of the component instead, which may have been fitted to weights of different
    sensitivities.

    ``values`` any shape; for d > 1 their number must be a multiple of d and every d consecutive ones are one symbol.
    ``rate_bits`` >= 0 is lambda, half the squared error that one bit is worth, in units of the weights squared; 0
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
    if not (rate_bits >= 0 and np.isfinite(rate_bits)):
        raise ArgumentError(f"rate_bits must be finite and >= 0, got {rate_bits}: it is the price of a bit")
    if values.size == 0 or values.size % mixture.dimension:
        raise ArgumentError(
            f"number of values must be a positive multiple of {mixture.dimension}, got {values.size}: "
            "a component describes that many consecutive weights"
        )
    points = values.reshape(-1, mixture.dimension)
    check_finite(points)
    with np.errstate(divide="ignore"):
        costs = -rate_bits * np.log2(mixture.weights) if rate_bits > 0 else np.zeros(mixture.components)
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
    from sws_compress.mixture import _kernels

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
        _kernels.assign_scalars(values, bounds, low, 1 / step, first, means, number, assignment[part], table)
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
    """Which component has the least (w - mu)^2 / 2 + cost, from left to right, and the w between neighbours.

    ``means`` and ``costs`` (k,), a cost may be infinite (never chosen); returns winners (m,) and breakpoints (m - 1,),
    1 <= m <= k. Subtracting w^2 / 2 leaves lines of slope -mu, whose lower envelope a convex-hull scan finds.
    """
    winners: list[int] = []
    breakpoints: list[float] = []
    for k in np.lexsort((costs, means)):
        if not np.isfinite(costs[k]) or (winners and means[k] == means[winners[-1]]):
            continue
        crossing = -np.inf
        while winners:
            gap = means[k] - means[winners[-1]]
            crossing = (means[k] + means[winners[-1]]) / 2 + (costs[k] - costs[winners[-1]]) / gap
            if not breakpoints or crossing > breakpoints[-1]:
                break
            winners.pop()
            breakpoints.pop()
        if winners:
            breakpoints.append(crossing)
        winners.append(int(k))
    return np.array(winners, dtype=np.intp), np.array(breakpoints)


def assign(chunk: Array, means: Array, costs: Array) -> npt.NDArray[np.intp]:
    """argmin_k of |w - mu_k|^2 / 2 + cost_k, shape (n,), of rows (n, d), in O(n) memory."""
    if chunk.shape[1] == 1:
        winners, breakpoints = lower_envelope(means[:, 0], costs)
        return winners[np.searchsorted(breakpoints, chunk[:, 0])]
    best = np.full(len(chunk), np.inf)
    chosen = np.zeros(len(chunk), np.intp)
    for k, (mean, cost) in enumerate(zip(means, costs, strict=True)):
        deviations = chunk - mean
        total = np.einsum("nd,nd->n", deviations, deviations) / 2 + cost
        closer = total < best
        best[closer] = total[closer]
        chosen[closer] = k
    return chosen


def check_finite(values: AnyArray) -> None:
    flat = values.reshape(-1)
    bad = sum(int((~np.isfinite(flat[start : start + CHUNK])).sum()) for start in range(0, flat.size, CHUNK))
    if bad:
        raise ModelError(f"weights must be finite, got {bad} NaN or infinite of {flat.size}: repair the model first")
