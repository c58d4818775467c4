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
from math import prod

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.granularity import PerBlock
from sws_compress.quantize.palette import check_finite
from sws_compress.quantize.scales import BlockScales
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
    """A tensor on one grid per block: ``scale * (index - zero)`` with the block's scale and zero point.

    The tensor is seen as a matrix: its dimension ``axis`` runs along the rows, all others together are the rows.

    Parameters
    ----------
    indices : ndarray, shape (rows, columns), uint8
        Grid point of each weight, below 2^bits.
    scales : BlockScales, shape (rows, blocks)
        Step of the grid of each block, in units of the weights.
    zeros : ndarray, shape (rows, blocks), uint8
        Zero point of each block, below 2^bits.
    bits : {4, 8}
        Width of an index.
    axis : int
        Axis of the tensor along which blocks run.
    shape : tuple of int
        Shape of the tensor.

    Raises
    ------
    ArgumentError
        If one of these rules is broken.
    """

    indices: npt.NDArray[np.uint8]
    scales: BlockScales
    zeros: npt.NDArray[np.uint8]
    bits: int
    axis: int
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        columns = self.shape[_checked_axis(self.axis, self.shape)]
        rows = prod(self.shape) // max(columns, 1)
        self.scales.check_fit(rows, columns)
        wanted = {"indices": (rows, columns), "zeros": self.scales.values.shape}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.uint8:
                raise ArgumentError(
                    f"{name} must be uint8 of shape {shape}, got {array.dtype} {array.shape}: convert them"
                )
            if array.size and int(array.max()) >> self.bits:
                raise ArgumentError(f"{name} must be < {1 << self.bits}, got {array.max()}: they have {self.bits} bits")

    @property
    def symmetric(self) -> bool:
        """Whether all zero points lie in the middle, 2^(bits - 1), so that they need not be stored."""
        return bool((self.zeros == 1 << (self.bits - 1)).all())

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How many weights have each index, shape (2^bits,)."""
        return np.bincount(self.indices.reshape(-1), minlength=1 << self.bits)

    def expand(self) -> npt.NDArray[np.float32]:
        """The tensor, float32 of ``shape``: one float32 product per weight, as runtimes compute it."""
        rows, columns = self.indices.shape
        values = np.empty((rows, columns), np.float32)
        for block, part in enumerate(self.scales.slices(columns)):
            steps = self.indices[:, part].astype(np.float32) - self.zeros[:, block, None].astype(np.float32)
            values[:, part] = steps * self.scales.values[:, block, None]
        axis = _checked_axis(self.axis, self.shape)
        others = [size for i, size in enumerate(self.shape) if i != axis]
        return np.ascontiguousarray(np.moveaxis(values.reshape(*others, columns), -1, axis))


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
    granularity: PerBlock,
    axis: int = -1,
    symmetric: bool = False,
    sensitivity: Sensitivity | None = None,
) -> AffinePalette:
    """Fit one grid per block, with the least sum of h (w - w')^2.

    Parameters
    ----------
    values : ndarray, any shape with at least one axis, floating point
        The weights.
    bits : {4, 8}
        Width of an index.
    granularity : PerBlock
        Weights along ``axis`` that share a grid.
    axis : int
        Axis along which blocks run; that of the inputs of a matrix product.
    symmetric : bool
        Whether the zero point stays at 2^(bits - 1).
    sensitivity : Sensitivity, optional
        h of every weight, by default 1.

    Returns
    -------
    AffinePalette
        Indices, scales and zero points.

    Raises
    ------
    ArgumentError
        If an argument breaks one of these rules.
    ModelError
        If a value is NaN or infinite.
    """
    values = np.asarray(values)
    _check_bits(bits)
    if values.size == 0 or values.ndim == 0:
        raise ArgumentError(f"values must have an axis and not be empty, got shape {values.shape}: leave them out")
    axis = _checked_axis(axis, values.shape)
    check_finite(values)
    rows = _as_rows(values, axis)
    weights = None if sensitivity is None else _as_rows(sensitivity.of(values.shape), axis)
    count, columns = rows.shape
    blocks = granularity.blocks(columns)
    indices = np.empty(rows.shape, np.uint8)
    scales = np.empty((count, blocks), np.float32)
    zeros = np.empty((count, blocks), np.uint8)

    def fit_rows(piece: slice) -> None:
        for first, last in _spans(columns, granularity.size):
            width = min(granularity.size, columns - first)
            part = rows[piece, first:last].astype(np.float64).reshape(-1, width)
            h = None if weights is None else weights[piece, first:last].astype(np.float64).reshape(-1, width)
            fitted = fit_blocks(part, bits=bits, symmetric=symmetric, sensitivities=h)
            span = slice(first // granularity.size, granularity.blocks(last))
            indices[piece, first:last] = fitted.assigned.reshape(-1, last - first)
            scales[piece, span] = fitted.grids.scales.reshape(-1, span.stop - span.start)
            zeros[piece, span] = fitted.grids.zeros.reshape(-1, span.stop - span.start)

    list(over_pieces(fit_rows, count, max(1, CHUNK_WEIGHTS // columns)))
    return AffinePalette(indices, BlockScales(scales, granularity), zeros, bits, axis, values.shape)


def _as_rows(tensor: AnyArray, axis: int) -> AnyArray:
    """The tensor as a matrix whose rows run along ``axis``."""
    return np.moveaxis(tensor, axis, -1).reshape(-1, tensor.shape[axis])


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


def _check_bits(bits: int) -> None:
    if bits not in BITS:
        raise ArgumentError(f"bits must be 4 or 8, got {bits}: runtimes execute no other widths")


def _checked_axis(axis: int, shape: tuple[int, ...]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ArgumentError(f"axis must be an axis of shape {shape}, got {axis}: blocks run along it")
    return axis % len(shape)
