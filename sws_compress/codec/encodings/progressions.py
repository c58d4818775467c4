"""Lines of symbols that go on by equal steps, modulo a period: the places of samples of sinusoids in their period.

The symbol n of line i is s_i + ((b_i + a_i n) mod P). A discrete Fourier or cosine transform is a codebook of one
period of the cosine, read like that: line i has the frequency a_i / P and the phase b_i / P. The codebook may have
several periods, each of another amplitude, and s_i is where that of the line begins. Symbols are the rows of the
codebook as it was given, with those that no symbol uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Operators, SymbolSequence, made

_SHORTEST_LINE = 16
"""Symbols of a line, at least: chance makes progressions of fewer, and their numbers take as many bytes."""

_MOST_PERIODS = 8
"""Periods that a codebook may have: amplitudes of the sinusoids of one table."""

_NANOSECONDS_PER_SYMBOL = 15.0
"""Time to compute a place and look it up."""

_BYTES_PER_SYMBOL = 16.0
"""Memory of a symbol at load: its product, its sum, its remainder, and its place, in int32."""


@dataclass(frozen=True)
class Progressions:
    """Looks up places that are computed from where a line starts and how it goes on.

    Arrays: starts b (lines,) and steps a (lines,), uint16; the length of a line and the period, int32, (); if there are
    several periods, the place where that of each line begins, s (lines,), uint16.

    Parameters
    ----------
    several : bool
        Whether the codebook has several periods.
    across : bool
        Whether symbols that follow each other are of different lines.
    """

    several: bool
    across: bool
    encoding = "progressions"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        symbols = arrays[0].size * float(arrays[2])
        return LoadCost(1e-9 * _NANOSECONDS_PER_SYMBOL * symbols, _BYTES_PER_SYMBOL * symbols)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        starts, steps, length, period, *begins = arrays
        zero, one = (ops.constant(np.array(number, np.int32)) for number in (0, 1))
        row, column = (ops.constant(np.array(shape, np.int64)) for shape in ([1, -1], [-1, 1]))
        of_lines, of_samples = (row, column) if self.across else (column, row)

        def numbers(stored: A) -> A:
            return ops.reshape(ops.cast(stored, np.int32), of_lines)

        samples = ops.reshape(ops.arange(zero, length, one), of_samples)
        places = ops.modulo(ops.add(numbers(starts), ops.multiply(numbers(steps), samples)), period)
        if self.several:
            places = ops.add(places, numbers(begins[0]))
        return ops.gather(codebook, ops.reshape(places, ops.constant(np.array([-1], np.int64))))


class ProgressionsEncoding:
    """Scalars whose lines are progressions, all of one length."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        if sequence.given is not None and sequence.is_scalar and not sequence.is_constant:
            yield from made(encode_progressions(*sequence.given))

    def recognise(self, operators: Operators) -> str | None:
        """Places are sums within a ``Range``, and values are looked up there: nothing is scattered, cut or expanded."""
        others = ("Expand", "ScatterElements", "TopK", "Shape", "Pow")
        found = operators["Range"] and operators["Add"] and not any(operators[name] for name in others)
        return Progressions.encoding if found else None


def encode_progressions(symbols: npt.NDArray[np.unsignedinteger], codebook: Array) -> Code | None:
    """Encode symbols whose lines are progressions within one of the codebook's periods each.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Rows of the codebook.
    codebook : ndarray (k,), float32
        One period, or up to `_MOST_PERIODS` of equal length.

    Returns
    -------
    Code or None
        None if they are not, for lines of 16 symbols or more.
    """
    for periods in range(1, _MOST_PERIODS + 1):
        period, left = divmod(len(codebook), periods)
        if left or period < 2:
            continue
        for length in _lengths(symbols.size, period):
            for across, lines in ((False, symbols.reshape(-1, length)), (True, symbols.reshape(length, -1).T)):
                if _found(lines[:1, :_SHORTEST_LINE], period) and (found := _found(lines, period)):
                    return _code(codebook, found, length, period, across=across)
    return None


@dataclass(frozen=True, eq=False)
class _Lines:
    """Start, step, and beginning of the period of every line, int32 (lines,)."""

    starts: npt.NDArray[np.int32]
    steps: npt.NDArray[np.int32]
    begins: npt.NDArray[np.int32]


def _lengths(count: int, period: int) -> Iterator[int]:
    """Lengths that lines of so many symbols may have, the longest first; int32 holds places before the remainder."""
    small = np.arange(1, math.isqrt(count) + 1)
    small = small[count % small == 0]
    lengths = np.union1d(small, count // small)
    within = (lengths >= _SHORTEST_LINE) & (lengths <= np.iinfo(np.int32).max // period - 1)
    yield from lengths[within][::-1].tolist()


def _found(symbols: npt.NDArray[np.unsignedinteger], period: int) -> _Lines | None:
    """The progressions that the rows of a matrix are; None if one of them is none."""
    lines = symbols.astype(np.int32)
    begins, starts = lines[:, 0] // period * period, lines[:, 0] % period
    steps = (lines[:, 1] - lines[:, 0]) % period
    grown = starts[:, None] + steps[:, None] * np.arange(lines.shape[1], dtype=np.int32)
    return _Lines(starts, steps, begins) if np.array_equal(grown % period + begins[:, None], lines) else None


def _code(codebook: Array, lines: _Lines, length: int, period: int, *, across: bool) -> Code:
    several = bool(lines.begins.any())
    columns = (lines.starts, lines.steps, *((lines.begins,) if several else ()))
    starts, steps, *begins = (column.astype(np.uint16) for column in columns)
    arrays = (starts, steps, np.array(length, np.int32), np.array(period, np.int32), *begins)
    return Code(
        Progressions(several, across), length * starts.size, codebook, arrays, (0, 1, *((4,) if several else ()))
    )
