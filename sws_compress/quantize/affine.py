"""Fits of grids ``scale * (k - zero)``, k = 0 .. 2^bits - 1, one per block: mixtures with means tied to a grid.

The fit is hard EM with one variance per block. The E-step rounds and clamps. The M-step is a weighted least-squares
line through (k, w) whose offset is an integer number of steps (``zero``), as runtimes store zero points.

The squared error has many local minima in the scale. Each block therefore has many starts, which differ in how far the
grid reaches beyond the largest weight or stops short of it. At 8 bits most of what is gained over min-max rounding is
gained there, by grids that happen to fall close to the block's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.errors import ArgumentError
from sws_compress.mixture.mixture import AnyArray, Array
from sws_compress.mixture.sensitivity import Sensitivity
from sws_compress.quantize.affine_palette import AffinePalette, check_bits, checked_axis
from sws_compress.quantize.granularity import PerBlock
from sws_compress.quantize.palette import check_finite
from sws_compress.quantize.weight_scales import BlockScales
from sws_compress.threads import over_pieces

START_LENGTHS = {4: np.linspace(0.5, 1.1, 13), 8: np.linspace(0.98, 1.16, 37)}
"""Lengths of the grid to start from, relative to the range of the block's weights, by bits. Four bits gain by cutting
tails off. At eight, longer grids are as good as shorter ones, and more of them are tried."""


MAX_EM_STEPS = 20
"""Steps of EM from the best start; mostly a few suffice until no block's error falls."""


CHUNK_WEIGHTS = 1 << 14
"""Weights that are fitted together: a handful of float64 arrays of this size stay in the second-level cache."""


LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Least absolute scale: smaller float32 numbers lose digits."""


GREATEST_SCALE = float(np.finfo(np.float32).max) / 256
"""Greatest absolute scale: products with differences of indices stay finite."""


@dataclass(frozen=True, eq=False)
class Grids:
    """Grids of n blocks.

    Parameters
    ----------
    scales : ndarray, shape (n,), float64
        Steps, exact in float32.
    zeros : ndarray, shape (n,), float64
        Zero points, exact in uint8.
    """

    scales: Array
    zeros: Array


@dataclass(frozen=True, eq=False)
class AffineStep:
    """Grids of n blocks and what they do to the weights.

    Parameters
    ----------
    grids : Grids
        The grids.
    assigned : ndarray, shape (n, size), float64
        Index of the nearest grid point of each weight.
    squared_errors : ndarray, shape (n,), float64
        Sum of h (w - w')^2 of each block.
    """

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
    check_bits(bits)
    if values.size == 0 or values.ndim == 0:
        raise ArgumentError(f"values must have an axis and not be empty, got shape {values.shape}: leave them out")
    axis = checked_axis(axis, values.shape)
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
    """Tensor as a matrix whose rows run along ``axis``."""
    return np.moveaxis(tensor, axis, -1).reshape(-1, tensor.shape[axis])


def fit_blocks(blocks: Array, *, bits: int, symmetric: bool, sensitivities: Array | None = None) -> AffineStep:
    """Fit a grid to each block: one M-step from every start, then EM from the best.

    Parameters
    ----------
    blocks : ndarray, shape (n, size), float64
        Weights of n blocks.
    bits : {4, 8}
        Width of an index.
    symmetric : bool
        Whether the zero point stays at 2^(bits - 1).
    sensitivities : ndarray, shape (n, size), optional
        h >= 0, by default 1.

    Returns
    -------
    AffineStep
        The grids, indices and errors.
    """
    best, most = None, np.empty(0)
    for start in _starts(blocks, bits, symmetric):
        solved, explained = _maximise(blocks, nearest(blocks, start, bits), start, bits, symmetric, sensitivities)
        if best is None:
            best, most = solved, explained
        else:
            best, most = _choose(explained > most, solved, best), np.maximum(explained, most)
    assert best is not None  # there is a start for every length
    step = assign_to_grids(blocks, best, bits=bits, sensitivities=sensitivities)
    for _ in range(MAX_EM_STEPS):
        previous, step = step, grid_em_step(blocks, step, bits=bits, symmetric=symmetric, sensitivities=sensitivities)
        if not (step.squared_errors < previous.squared_errors).any():
            break
    return step


def assign_to_grids(blocks: Array, grids: Grids, *, bits: int, sensitivities: Array | None = None) -> AffineStep:
    """Assign blocks (n, size) to their grids, and measure the error."""
    assigned = nearest(blocks, grids, bits)
    residuals = assigned - grids.zeros[:, None]
    residuals *= grids.scales[:, None]
    residuals -= blocks
    weighted = residuals if sensitivities is None else residuals * sensitivities
    return AffineStep(grids, assigned, np.einsum("ij,ij->i", weighted, residuals))


def grid_em_step(
    blocks: Array, step: AffineStep, *, bits: int, symmetric: bool, sensitivities: Array | None = None
) -> AffineStep:
    """Fit new grids to the assignment, then assign anew. No block's error rises.

    A block whose error would rise, because its scale is rounded to float32, keeps what it had.
    """
    grids, _ = _maximise(blocks, step.assigned, step.grids, bits, symmetric, sensitivities)
    after = assign_to_grids(blocks, grids, bits=bits, sensitivities=sensitivities)
    won = after.squared_errors < step.squared_errors
    return AffineStep(
        _choose(won, after.grids, step.grids),
        np.where(won[:, None], after.assigned, step.assigned),
        np.where(won, after.squared_errors, step.squared_errors),
    )


def nearest(blocks: Array, grids: Grids, bits: int) -> Array:
    """Index of the nearest grid point of each weight: integers in float64, of the shape (n, size) of the blocks."""
    k = blocks / grids.scales[:, None]
    k += grids.zeros[:, None]
    np.rint(k, out=k)
    return np.clip(k, 0, (1 << bits) - 1, out=k)


def _maximise(
    blocks: Array, assigned: Array, grids: Grids, bits: int, symmetric: bool, sensitivities: Array | None
) -> tuple[Grids, Array]:
    """M-step: grids (n,) for an assignment, and the part of sum(h w^2) that they explain, (n,).

    With d = k - zero the best scale is sum(h w d) / sum(h d^2), which explains sum(h w d)^2 / sum(h d^2). Of three zero
    points the one that explains most is taken: the old one and the two integers around the free regression's offset.
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
    """Grids over the range of each block, zero included.

    A symmetric grid has one more point on the side of k = 0. A negative scale turns that side to the largest weight.
    """
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    middle = 1 << (bits - 1)
    unit = np.full(len(blocks), LEAST_SCALE)
    for length in START_LENGTHS[bits]:
        if symmetric:
            scales = np.where(-low > high, -low, -high) * length / middle
            zeros = np.full(len(blocks), float(middle))
        else:
            scales = (high - low) * length / ((1 << bits) - 1)
            zeros = np.rint(np.divide(-low * length, scales, out=np.zeros_like(low), where=scales > 0))
        yield Grids(_as_float32(scales, unit), zeros)


def _as_float32(scales: Array, otherwise: Array) -> Array:
    """Scales rounded to float32; ``otherwise`` if that loses digits, or products with the indices would overflow."""
    with np.errstate(over="ignore"):
        rounded = scales.astype(np.float32).astype(np.float64)
    usable = (np.abs(rounded) >= LEAST_SCALE) & (np.abs(rounded) < GREATEST_SCALE)
    return np.where(usable, rounded, otherwise)


def _spans(columns: int, block_size: int) -> Iterator[tuple[int, int]]:
    """First and last column of the whole blocks, then of the shorter block at the end, as far as there are any."""
    whole = columns - columns % block_size
    if whole:
        yield 0, whole
    if whole < columns:
        yield whole, columns
