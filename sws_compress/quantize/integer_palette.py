"""Palettes on the grid of integers that runtimes keep in memory: ``scale * factor * integer`` in words of few bits.

Even codebooks, which calibrated and rounded weights have, lie on such a grid already. Codebooks that were learned are
moved to the nearest one: every number of steps that the codebook may span is tried, followed by its least-squares
solution. Groups of weights that reach beyond the words get a factor of 2, 4, ..: only those are rounded once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.mixture.mixture import Array
from sws_compress.quantize.palette import Palette

WORD_BITS = (2, 4, 8)
"""Widths of a word that runtimes multiply by."""

NARROWING_LOSS = 0.02
"""Error that narrower words may add, as a share of what the codebook makes itself: 0.09 dB."""

MOST_LOSS = 0.25
"""The same for the widest words, 1 dB. A codebook whose entries lie closer than these steps is decoded to floats."""

EXACT_ERROR = 1e-12
"""Squared error that is rounding to float32, as a share of the squares."""

MOST_PARTS = 4
"""Steps that the nearest two entries of an even codebook are apart, at most."""

NEAR_STEPS = np.linspace(0.8, 1.25, 91)
"""Steps that are tried, as multiples of an estimate."""

WIDEST_CELL = 3.0
"""Times the usual distance of entries that a cell is wide at most: few entries lie far out."""

LARGEST_INTEGER = (1 << 15) - 1
"""Largest of the integers before factors."""


@dataclass(frozen=True)
class Groups:
    """Groups of weights that share a factor.

    Parameters
    ----------
    axis : int
        The axis whose slices are the rows of groups.
    size : int, optional
        Weights of a row that are a group, in order; by default the whole row. Then the tensor has two axes.
    """

    axis: int
    size: int | None = None

    def rows(self, tensor: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """A tensor as an array of shape (rows, groups, size), padded with zeros."""
        rows = np.moveaxis(tensor, self.axis, 0).reshape(tensor.shape[self.axis], -1)
        size = self.size or rows.shape[1]
        blocks = -(-rows.shape[1] // size)
        padded = np.pad(rows, ((0, 0), (0, blocks * size - rows.shape[1])))
        return padded.reshape(len(rows), blocks, size)

    def tensor(self, rows: npt.NDArray[np.int16], shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
        """What `rows` made rows of."""
        moved = (shape[self.axis], *(size for axis, size in enumerate(shape) if axis != self.axis))
        columns = int(np.prod(moved[1:], dtype=np.int64))
        return np.moveaxis(rows.reshape(len(rows), -1)[:, :columns].reshape(moved), 0, self.axis)


@dataclass(frozen=True, eq=False)
class IntegerPalette:
    """A tensor of integers of few bits, times scales, times powers of two.

    Parameters
    ----------
    integers : ndarray, int8
        From -2^(bits - 1) up to 2^(bits - 1) - 1, of the shape of the tensor.
    bits : {2, 4, 8}
        Width of a word.
    scales : ndarray, shape () or (slices,), float32
        The step of the grid, of the whole tensor or of each slice.
    axis : int or None
        The axis along which slices lie; None without slices.
    factors : ndarray, shape (rows, groups), float32, or None
        Powers of two, one for each of the ``groups``; None if all are 1.
    groups : Groups
        Which weights share a factor.
    loss : float
        Squared error that this adds, as a share of what rounding to the codebook makes.
    """

    integers: npt.NDArray[np.int8]
    bits: int
    scales: npt.NDArray[np.float32]
    axis: int | None
    factors: npt.NDArray[np.float32] | None
    groups: Groups
    loss: float

    def expand(self) -> npt.NDArray[np.float32]:
        """The tensor, float32."""
        values = self.integers.astype(np.float32)
        if self.factors is not None:
            size = self.groups.size or values.size // len(self.factors)
            factors = np.broadcast_to(self.factors[:, :, None], (*self.factors.shape, size))
            values *= self.groups.tensor(factors.astype(np.int16), values.shape)
        shape = [-1 if axis == self.axis else 1 for axis in range(values.ndim)]
        values *= self.scales if self.axis is None else self.scales.reshape(shape)
        return values


def integer_palette(palette: Palette, groups: Groups) -> IntegerPalette | None:
    """The nearest palette of integers, in the narrowest words that hardly add an error.

    Parameters
    ----------
    palette : Palette
        Float32 scalars, with or without scales.
    groups : Groups
        Which weights may share a factor.

    Returns
    -------
    IntegerPalette or None
        None if the values are others, or words of 8 bits would add more than `MOST_LOSS`.

    Examples
    --------
    >>> import numpy as np
    >>> from sws_compress.quantize.palette import Palette
    >>> palette = Palette(np.float32([-0.5, 0, 1.25]), np.uint8([0, 1, 2, 2]), shape=(2, 2))
    >>> found = integer_palette(palette, Groups(0))
    >>> found.integers.tolist(), round(float(found.scales), 6), found.bits
    ([[-2, 0], [5, 5]], 0.25, 4)
    """
    if palette.codebook.dtype != np.float32 or palette.dimension > 1:
        return None
    counts = palette.counts.astype(np.float64)
    codebook = np.where(counts > 0, palette.codebook.astype(np.float64), 0.0)
    own = _own_error(codebook[counts > 0], counts[counts > 0])
    even = _even_grid(codebook)
    for bits in WORD_BITS:
        most = (NARROWING_LOSS if bits < WORD_BITS[-1] else MOST_LOSS) * own
        grids = [even] if even else [*_near_grids(codebook, counts), _nearest_grid(codebook, counts, bits)]
        found = [_on_grid(palette, grid, bits, groups) for grid in grids if grid.error <= most]
        best = min(found, key=lambda each: each.error, default=None)
        if best is not None and best.error <= most:
            return _scaled(palette, best, bits, groups, best.error / own if own else 0.0)
    return None


@dataclass(frozen=True, eq=False)
class _Grid:
    """Integers of the entries of a codebook, the step, and the squared error."""

    numbers: Array
    step: float
    error: float


@dataclass(frozen=True, eq=False)
class _Words:
    """Words in rows, exponents of their factors, the step, and the squared error."""

    words: npt.NDArray[np.int16]
    exponents: npt.NDArray[np.int8]
    step: float
    error: float


def _on_grid(palette: Palette, grid: _Grid, bits: int, groups: Groups) -> _Words:
    """The weights in words, with factors where groups reach beyond them."""
    rows = groups.rows(grid.numbers.astype(np.int16)[palette.indices].reshape(palette.shape))
    words, exponents = _in_words(rows, bits)
    error = grid.error
    if exponents.any():
        error += grid.step**2 * _squared_error(rows, words, exponents)
    return _Words(words, exponents, grid.step, error)


def _scaled(palette: Palette, found: _Words, bits: int, groups: Groups, loss: float) -> IntegerPalette | None:
    """The palette with the scales of slices; None where float32 does not hold them."""
    slices = np.float64(1) if palette.scales is None else palette.scales.values.astype(np.float64)
    scales = np.asarray(found.step * slices, np.float32)
    if not (np.isfinite(scales).all() and (scales > np.finfo(np.float32).tiny).all()):
        return None
    axis = None if palette.scales is None else palette.scales.axis
    factors = np.exp2(found.exponents).astype(np.float32) if found.exponents.any() else None
    integers = groups.tensor(found.words, palette.shape).astype(np.int8)
    return IntegerPalette(integers, bits, scales, axis, factors, groups, loss)


def _usual_gap(entries: Array, counts: Array) -> float:
    """Distance of neighbours among the commonest of some ascending entries, their geometric mean."""
    heights = np.minimum(counts[1:], counts[:-1])
    return float(np.exp(heights @ np.log(np.diff(entries)) / heights.sum()))


def _own_error(codebook: Array, counts: Array) -> float:
    """What rounding to a codebook costs, about: a cell is as wide as the way to the next entry, if that is not far."""
    order = np.argsort(codebook)
    entries, counts = codebook[order], counts[order]
    if len(entries) < 2:
        return 0.0
    gaps = np.diff(entries)
    widths = np.minimum(np.concatenate([gaps[:1], gaps]), np.concatenate([gaps, gaps[-1:]]))
    widths = np.minimum(widths, WIDEST_CELL * _usual_gap(entries, counts))
    return float(counts @ widths**2) / 12


def _even_grid(codebook: Array) -> _Grid | None:
    """The grid of an even codebook, without any error; None if it is not even."""
    entries = np.union1d(codebook, 0.0)
    if len(entries) < 2:
        return _Grid(np.zeros(len(codebook)), 1.0, 0.0)
    square = float(codebook @ codebook)
    least = float(np.diff(entries).min())
    for part in range(1, MOST_PARTS + 1):
        step = least / part
        numbers = np.rint(codebook / step)
        step = float(numbers @ codebook) / float(numbers @ numbers)
        numbers = np.rint(codebook / step)
        error = float(np.square(numbers * step - codebook).sum())
        if np.abs(numbers).max() <= LARGEST_INTEGER and error <= EXACT_ERROR * square:
            return _Grid(numbers, step, 0.0)
    return None


def _near_grids(codebook: Array, counts: Array) -> tuple[_Grid, ...]:
    """The best grids whose steps are about the distance of the commonest entries, or a part of it."""
    order = np.argsort(codebook)
    used = order[counts[order] > 0]
    if len(used) < 2:
        return ()
    usual = _usual_gap(codebook[used], counts[used])
    parts = range(1, MOST_PARTS + 1)
    return tuple(_best_of(codebook, counts, usual / part * NEAR_STEPS, LARGEST_INTEGER) for part in parts)


def _nearest_grid(codebook: Array, counts: Array, bits: int) -> _Grid:
    """The best grid on which all entries are words of so many bits."""
    highest = (1 << (bits - 1)) - 1
    reach = max(codebook.max(initial=0.0) / highest, codebook.min(initial=0.0) / (-1 - highest))
    steps = np.concatenate([reach * highest / np.arange(1, highest + 1), reach * NEAR_STEPS])
    return _best_of(codebook, counts, steps, highest)


def _best_of(codebook: Array, counts: Array, starts: Array, highest: int) -> _Grid:
    """The grid of the least error among those that steps lead to."""
    steps = starts[:, None]
    for _ in range(2):
        numbers = np.clip(np.rint(codebook / steps), -1 - highest, highest)
        square = numbers**2 @ counts
        solved = np.divide(numbers * codebook @ counts, square, out=np.zeros_like(square), where=square > 0)
        steps = np.where(solved > 0, solved, steps[:, 0])[:, None]
    errors = (numbers * steps - codebook) ** 2 @ counts
    best = int(np.argmin(errors))
    return _Grid(numbers[best], float(steps[best, 0]), float(errors[best]))


def _in_words(rows: npt.NDArray[np.int16], bits: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int8]]:
    """Words (rows, groups, size), and exponents (rows, groups) of the factors that make them fit."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    lowest, highest = rows.min(axis=2).astype(np.float64), rows.max(axis=2).astype(np.float64)
    exponents = np.zeros(rows.shape[:2], np.int8)
    for exponent in range(1, 17 - bits):
        power = 2.0 ** (exponent - 1)
        exponents[(np.rint(highest / power) > high) | (np.rint(lowest / power) < low)] = exponent
    words = rows.copy()
    wide = exponents > 0
    words[wide] = np.clip(np.rint(rows[wide] / np.exp2(exponents[wide])[:, None]), low, high)
    return words, exponents


def _squared_error(rows: npt.NDArray[np.int16], words: npt.NDArray[np.int16], exponents: npt.NDArray[np.int8]) -> float:
    """Sum of the squared differences of integers from words times factors."""
    wide = exponents > 0
    return float(np.square(rows[wide] - words[wide] * np.exp2(exponents[wide])[:, None]).sum())
