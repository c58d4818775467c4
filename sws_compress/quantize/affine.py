"""The affine mixture: component means tied to a grid ``scale * (k - zero)``, k = 0 .. 2^bits - 1, one grid per block.

Hard EM with one variance per block: the E-step rounds and clamps, the M-step is a weighted least-squares line through
(k, w) whose offset must be an integer number of steps (``zero``), so that runtimes which store zero points as integers
execute the weights as they are. The squared error has many local minima in the scale, hence many starts per block: how
far the grid reaches past, or stops short of, the largest weight. At 8 bits most of what is won over min-max rounding is
won there, by grids that happen to fall close to the block's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array
from sws_compress.quantize.palette import check_finite
from sws_compress.threads import over_pieces

BITS = (4, 8)


REACHES = {4: np.linspace(0.5, 1.1, 13), 8: np.linspace(0.98, 1.16, 37)}
"""Starting lengths of the grid, relative to the range of the block's weights. Four bits gain from cutting tails off;
at eight, longer grids are as good as shorter ones and there are more of them to try."""


MAX_ITERATIONS = 20


CHUNK_WEIGHTS = 1 << 14
"""Weights looked at together: a handful of float64 arrays of this size stay in the second-level cache."""


_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class AffinePalette:
    """A matrix on one grid per row and block: scales[i, b] * (indices[i, j] - zeros[i, b]) with b = j // block_size.

    ``indices`` (rows, columns) uint8 below 2^bits; ``scales`` (rows, blocks) float32, not 0, of either sign; ``zeros``
    (rows, blocks) uint8 below 2^bits; blocks = ceil(columns / block_size). The tensor has ``shape``; its dimension
    ``axis`` is the one along which blocks run, all others together are the rows.

    Raises ArgumentError where one of these rules is broken.
    """

    indices: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.uint8]
    bits: int
    block_size: int
    axis: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_grid(self.bits, self.block_size)
        columns = self.shape[_checked_axis(self.axis, self.shape)]
        rows = int(np.prod(self.shape)) // max(columns, 1)
        blocks = -(-columns // self.block_size)
        wanted = {
            "indices": ((rows, columns), np.uint8),
            "scales": ((rows, blocks), np.float32),
            "zeros": ((rows, blocks), np.uint8),
        }
        for name, (shape, dtype) in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ArgumentError(
                    f"{name} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} {array.shape}: convert them"
                )
            if dtype is np.uint8 and array.size and int(array.max()) >> self.bits:
                raise ArgumentError(f"{name} must be < {1 << self.bits}, got {array.max()}: they have {self.bits} bits")
        if not (np.isfinite(self.scales).all() and self.scales.all()):
            raise ArgumentError("scales must be finite and not 0, got others: a block of zeros may have any scale")

    @property
    def symmetric(self) -> bool:
        """Whether all zeros lie in the middle, 2^(bits - 1), so that they need not be stored."""
        return bool((self.zeros == 1 << (self.bits - 1)).all())

    def expand(self) -> npt.NDArray[np.float32]:
        """The tensor, float32 of ``shape``: one float32 product per weight, as runtimes compute it."""
        rows, columns = self.indices.shape
        values = np.empty((rows, columns), np.float32)
        for block in range(self.scales.shape[1]):
            part = slice(block * self.block_size, (block + 1) * self.block_size)
            steps = self.indices[:, part].astype(np.float32) - self.zeros[:, block, None].astype(np.float32)
            values[:, part] = steps * self.scales[:, block, None]
        moved = [size for i, size in enumerate(self.shape) if i != _checked_axis(self.axis, self.shape)]
        return np.ascontiguousarray(np.moveaxis(values.reshape(*moved, columns), -1, self.axis))


@dataclass(frozen=True, eq=False)
class Grids:
    """One grid per block, n of them: ``scales`` and ``zeros`` (n,) float64, exactly float32 and uint8 numbers."""

    scales: Array
    zeros: Array


@dataclass(frozen=True, eq=False)
class AffineStep:
    """``grids``, the nearest grid points ``assigned`` (n, size) to the weights, and the weighted squared error (n,)."""

    grids: Grids
    assigned: Array
    squared_errors: Array


def affine_cluster(
    values: AnyArray,
    *,
    bits: int,
    block_size: int,
    axis: int = -1,
    symmetric: bool = False,
    sensitivities: AnyArray | None = None,
) -> AffinePalette:
    """The grids and indices of ``values`` (any shape with at least one dimension) with least sum of h (w - w')^2.

    bits            4 or 8
    block_size      consecutive weights along ``axis`` that share a grid; at least the length of ``axis`` for one grid
                    per output channel
    symmetric       zero stays at 2^(bits - 1)
    sensitivities   h >= 0, one per position along ``axis``; 1 if None

    Raises ArgumentError on other arguments, ModelError on NaN or infinite values.
    """
    values = np.asarray(values)
    _check_grid(bits, block_size)
    if values.size == 0 or values.ndim == 0:
        raise ArgumentError(f"values must have a dimension and not be empty, got shape {values.shape}: leave them out")
    axis = _checked_axis(axis, values.shape)
    check_finite(values)
    rows = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    weights = None if sensitivities is None else _checked_sensitivities(sensitivities, rows.shape[1])
    count, columns = rows.shape
    blocks = -(-columns // block_size)
    indices = np.empty(rows.shape, np.uint8)
    scales = np.empty((count, blocks), np.float32)
    zeros = np.empty((count, blocks), np.uint8)

    def fit_rows(piece: slice) -> None:
        for first, last in _spans(columns, block_size):
            width = min(block_size, columns - first)
            part = rows[piece, first:last].astype(np.float64).reshape(-1, width)
            h = None if weights is None else _per_block(weights[first:last], width, len(part))
            fitted = fit_blocks(part, bits=bits, symmetric=symmetric, sensitivities=h)
            span = slice(first // block_size, -(-last // block_size))
            indices[piece, first:last] = fitted.assigned.reshape(-1, last - first)
            scales[piece, span] = fitted.grids.scales.reshape(-1, span.stop - span.start)
            zeros[piece, span] = fitted.grids.zeros.reshape(-1, span.stop - span.start)

    list(over_pieces(fit_rows, count, max(1, CHUNK_WEIGHTS // columns)))
    return AffinePalette(indices, scales, zeros, bits, block_size, axis, values.shape)


def fit_blocks(blocks: Array, *, bits: int, symmetric: bool, sensitivities: Array | None = None) -> AffineStep:
    """The best grid per row of ``blocks`` (n, size): one M-step from every start, then EM from the best of them.

    ``sensitivities`` (n, size), 1 if None.
    """
    best, most = None, np.empty(0)
    for start in _starts(blocks, bits, symmetric):
        solved, explained = _maximise(blocks, nearest(blocks, start, bits), start, bits, symmetric, sensitivities)
        if best is None:
            best, most = solved, explained
        else:
            best, most = _choose(explained > most, solved, best), np.maximum(explained, most)
    assert best is not None  # there are always starts
    step = e_step(blocks, best, bits=bits, sensitivities=sensitivities)
    for _ in range(MAX_ITERATIONS):
        previous, step = step, em_step(blocks, step, bits=bits, symmetric=symmetric, sensitivities=sensitivities)
        if not (step.squared_errors < previous.squared_errors).any():
            break
    return step


def e_step(blocks: Array, grids: Grids, *, bits: int, sensitivities: Array | None = None) -> AffineStep:
    """``blocks`` (n, size) assigned to ``grids``, and what that costs."""
    assigned = nearest(blocks, grids, bits)
    residuals = assigned - grids.zeros[:, None]
    residuals *= grids.scales[:, None]
    residuals -= blocks
    weighted = residuals if sensitivities is None else residuals * sensitivities
    return AffineStep(grids, assigned, np.einsum("ij,ij->i", weighted, residuals))


def em_step(
    blocks: Array, step: AffineStep, *, bits: int, symmetric: bool, sensitivities: Array | None = None
) -> AffineStep:
    """New grids for the assignment, then a new assignment; no block's error ever rises.

    Where rounding the scale to float32 would make it rise, the block keeps what it had.
    """
    grids, _ = _maximise(blocks, step.assigned, step.grids, bits, symmetric, sensitivities)
    after = e_step(blocks, grids, bits=bits, sensitivities=sensitivities)
    won = after.squared_errors < step.squared_errors
    return AffineStep(
        _choose(won, after.grids, step.grids),
        np.where(won[:, None], after.assigned, step.assigned),
        np.where(won, after.squared_errors, step.squared_errors),
    )


def nearest(blocks: Array, grids: Grids, bits: int) -> Array:
    """k of the nearest grid point per weight: float64 integers of the shape of ``blocks`` (n, size)."""
    k = blocks / grids.scales[:, None]
    k += grids.zeros[:, None]
    np.rint(k, out=k)
    return np.clip(k, 0, (1 << bits) - 1, out=k)


def _maximise(
    blocks: Array, assigned: Array, grids: Grids, bits: int, symmetric: bool, sensitivities: Array | None
) -> tuple[Grids, Array]:
    """The M-step: grids (n,) for an assignment, and how much of sum(h w^2) they explain.

    With d = k - zero the best scale is sum(h w d) / sum(h d^2) and explains sum(h w d)^2 / sum(h d^2): the old zero and
    the two integers around the offset of the free regression are compared by that.
    """
    h_k_each = assigned if sensitivities is None else assigned * sensitivities
    h_w_each = blocks if sensitivities is None else blocks * sensitivities
    mass = np.full(len(blocks), float(blocks.shape[1])) if sensitivities is None else sensitivities.sum(axis=1)
    h_k, h_w = h_k_each.sum(axis=1), h_w_each.sum(axis=1)
    h_kk, h_wk = np.einsum("ij,ij->i", h_k_each, assigned), np.einsum("ij,ij->i", h_k_each, blocks)

    def solve(zeros: Array) -> tuple[Grids, Array]:
        moment, square = h_wk - zeros * h_w, h_kk - 2 * zeros * h_k + zeros**2 * mass
        scales = np.divide(moment, square, out=np.zeros_like(moment), where=square > 0)
        return Grids(_as_float32(scales, grids.scales), zeros), scales * moment

    best, most = solve(grids.zeros)
    if symmetric:
        return best, most
    covariance, variance = h_wk * mass - h_k * h_w, h_kk * mass - h_k**2
    steps_per_weight = np.divide(variance, covariance, out=np.zeros_like(mass), where=covariance != 0)
    offset = np.divide(h_k - h_w * steps_per_weight, mass, out=np.zeros_like(mass), where=mass > 0)
    for rounded in (np.floor(offset), np.ceil(offset)):
        solved, explained = solve(np.clip(rounded, 0, (1 << bits) - 1))
        best, most = _choose(explained > most, solved, best), np.maximum(explained, most)
    return best, most


def _choose(first_wins: npt.NDArray[np.bool_], first: Grids, second: Grids) -> Grids:
    return Grids(np.where(first_wins, first.scales, second.scales), np.where(first_wins, first.zeros, second.zeros))


def _starts(blocks: Array, bits: int, symmetric: bool) -> Iterator[Grids]:
    """Grids over the range of each block, zero included. A symmetric grid has one point more on the side of k = 0: a
    negative scale turns that side to the largest weight."""
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    middle = 1 << (bits - 1)
    unit = np.full(len(blocks), _SMALLEST_SCALE)
    for reach in REACHES[bits]:
        if symmetric:
            scales = np.where(-low > high, -low, -high) * reach / middle
            zeros = np.full(len(blocks), float(middle))
        else:
            scales = (high - low) * reach / ((1 << bits) - 1)
            zeros = np.rint(np.divide(-low * reach, scales, out=np.zeros_like(low), where=scales > 0))
        yield Grids(_as_float32(scales, unit), zeros)


def _as_float32(scales: Array, otherwise: Array) -> Array:
    """Scales as float32 holds them; ``otherwise`` where it holds none, or products with the indices would overflow."""
    with np.errstate(over="ignore"):
        rounded = scales.astype(np.float32).astype(np.float64)
    usable = (np.abs(rounded) >= _SMALLEST_SCALE) & (np.abs(rounded) < float(np.finfo(np.float32).max) / 256)
    return np.where(usable, rounded, otherwise)


def _spans(columns: int, block_size: int) -> Iterator[tuple[int, int]]:
    """The columns in whole blocks, and those of the shorter block at the end, where there are any."""
    whole = columns - columns % block_size
    if whole:
        yield 0, whole
    if whole < columns:
        yield whole, columns


def _per_block(sensitivities: Array, width: int, blocks: int) -> Array:
    """Sensitivities of a span of columns, repeated for as many ``blocks`` (rows x blocks per row)."""
    per_row = sensitivities.reshape(-1, width)
    return np.tile(per_row, (blocks // len(per_row), 1))


def _check_grid(bits: int, block_size: int) -> None:
    if bits not in BITS:
        raise ArgumentError(f"bits must be 4 or 8, got {bits}: runtimes execute no other widths")
    if block_size < 1:
        raise ArgumentError(f"block_size must be >= 1, got {block_size}: it counts weights")


def _checked_axis(axis: int, shape: tuple[int, ...]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ArgumentError(f"axis must be a dimension of shape {shape}, got {axis}: blocks run along it")
    return axis % len(shape)


def _checked_sensitivities(sensitivities: AnyArray, columns: int) -> Array:
    checked = np.asarray(sensitivities, dtype=np.float64)
    if checked.shape != (columns,) or not (np.isfinite(checked).all() and (checked >= 0).all()):
        raise ArgumentError(
            f"sensitivities must be {columns} finite numbers >= 0, got shape {checked.shape}: one per input"
        )
    return checked
