"""Most symbols are zero: store the positions of the others as Golomb-Rice coded gaps. Golomb 1966; Rice & Plaunt 1971.

Positions are taken class by class: symbol c at position p is the number ``q = c n + p``, and the ascending list of all
q holds positions and values at once. Coding every class by its own gaps costs what coding all gaps and then the values
with an ideal code would cost, as long as zeros dominate, and it needs no code for values.

A gap d >= 1 between neighbours (the first counts from 0 and may be 0) is ``M h - r`` with h = ceil(d / M), M = 2^k. The
h are unary: one bit for each unit, a one where a number ends. With u the positions of those ones, counted from 0,

    q_i = M u_i - (r_0 + ... + r_i)

so decoding is one TopK (positions of ones, in a known number), one product with the weights of the r bits, and one
CumSum.

Where zeros do not dominate, values are coded apart: the numbers are positions alone (q = p), and the values of the
non-zeros are a code of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, bits_as_integers, pack_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import BYTES_PER_GAP, BYTES_PER_STREAM_BIT, LoadCost
from sws_compress.codec.program import Code, Encoding, Operators, Program, SymbolSequence, every_code, made

_LEAST_ZERO_SHARE = 0.3
"""Below this share of zeros positions cannot pay: even the entropy of the mask is then above half a bit a symbol."""

_NUMBERS_PER_BYTE = 8
"""Numbers are padded to a multiple of this, so that their low bits fill whole bytes."""

_NANOSECONDS_PER_GAP = 400.0
"""Time to decode a number."""


@dataclass(frozen=True, eq=False)
class Gaps:
    """Ascending numbers, as they are stored.

    Parameters
    ----------
    highs : ndarray (b, 1), uint8
        Unary bits of h.
    lows : ndarray (g, k, 1), uint8
        Bits of r: byte (g, j) holds bit j of eight r.
    weights : ndarray (k,), int64
        2^0 .. 2^(k-1).
    modulus : ndarray (), int64
        2^k.
    """

    highs: Array
    lows: Array
    weights: Array
    modulus: Array

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.highs, self.lows, self.weights, self.modulus


def decode_gaps(ops: ArrayOps[A], highs: A, lows: A, weights: A, modulus: A) -> A:
    """Ascending int64 numbers, by the equation at the head of this file."""
    flat = ops.constant(FLAT)
    remainders = ops.reshape(ops.matmul(weights, bits_as_integers(ops, lows)), flat)
    ones = ops.positions_of_ones(ops.reshape(bits_as_integers(ops, highs), flat), ops.shape_of(remainders))
    return ops.subtract(ops.multiply(ones, modulus), ops.cumulative_sum(remainders))


def _gaps_cost(highs: Array, lows: Array) -> LoadCost:
    numbers, bits = _NUMBERS_PER_BYTE * lows.shape[0], 8 * (highs.size + lows.size)
    return LoadCost(1e-9 * _NANOSECONDS_PER_GAP * numbers, BYTES_PER_STREAM_BIT * bits + BYTES_PER_GAP * numbers)


def encode_gaps(numbers: npt.NDArray[np.int64]) -> Gaps:
    """Encode numbers with the k that takes fewest bits.

    Parameters
    ----------
    numbers : ndarray (n,), int64
        Ascending, distinct and >= 0; n is a positive multiple of 8.
    """
    gaps = np.diff(numbers, prepend=0)
    bits = _best_low_bits(gaps)
    highs = -(-gaps >> bits)
    remainders = (highs << bits) - gaps
    ones = np.cumsum(highs)
    unary = np.zeros(int(ones[-1]) + 1, np.uint8)
    unary[ones] = 1
    planes = (remainders.reshape(-1, 1, _NUMBERS_PER_BYTE) >> np.arange(bits)[:, None] & 1).astype(np.uint8)
    lows = np.packbits(planes, axis=-1, bitorder="little")
    return Gaps(pack_bits(unary), lows, 2 ** np.arange(bits, dtype=np.int64), np.array(1 << bits, np.int64))


def _best_low_bits(gaps: npt.NDArray[np.int64]) -> int:
    def cost(bits: int) -> int:
        return int(np.sum(-(-gaps >> bits))) + bits * gaps.size

    return min(range(1, max(2, int(gaps.max()).bit_length() + 1)), key=cost)


@dataclass(frozen=True)
class Sparse:
    """Parts numbers q into class and position, and writes values into zeros. Arrays: those of `Gaps`."""

    encoding = "sparse"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        highs, lows, *_ = arrays
        return _gaps_cost(highs, lows)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        numbers = decode_gaps(ops, *arrays)
        rows = ops.gather(codebook, ops.divide(numbers, count))
        return ops.scatter(ops.zeros(count), ops.modulo(numbers, count), rows)


class SparseEncoding:
    """Positions and values of the non-zeros in one list of numbers."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        yield from made(encode_sparse(sequence.symbols, sequence.codebook))

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the numbers, one ``ScatterElements`` writes the values, and nothing is cut off.

        Values that are coded apart come after a ``Slice``, which cuts the padding off the positions.
        """
        found = operators["TopK"] and operators["ScatterElements"] == 1 and not operators["Slice"]
        return Sparse.encoding if found else None


def encode_sparse(symbols: npt.NDArray[np.unsignedinteger], codebook: Array) -> Code | None:
    """Encode symbols around zero.

    The codebook of the code leaves out the zero. Padding numbers write 0.0 (one more row) where zeros are anyway.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Numbers of codebook rows.
    codebook : ndarray (k,) or (k, d), float32
        Value of each symbol.

    Returns
    -------
    Code or None
        None if the codebook holds vectors or no +0.0, or if less than 30 % of the symbols are zero, or all of them.
    """
    zero = zero_symbol(codebook)
    zeros = np.empty(0) if zero is None else np.flatnonzero(symbols == zero)
    least = max(_NUMBERS_PER_BYTE, _LEAST_ZERO_SHARE * symbols.size)
    if zero is None or zeros.size < least or zeros.size == symbols.size:
        return None
    classes = symbols.astype(np.int64) - (symbols > zero)
    where = np.flatnonzero(symbols != zero)
    numbers = np.sort(classes[where] * symbols.size + where)
    values = np.delete(codebook, zero)
    if padding := -numbers.size % _NUMBERS_PER_BYTE:
        numbers = np.concatenate([numbers, len(values) * symbols.size + zeros[:padding]])
        values = np.append(values, codebook[zero])
    return Code(Sparse(), symbols.size, values, encode_gaps(numbers).arrays, (0, 1))


@dataclass(frozen=True)
class SparseValues:
    """Writes values that are coded apart at the positions of the non-zeros.

    Arrays: those of `Gaps`; the number of non-zeros (1,); those of the code of the values.

    Parameters
    ----------
    values : Program
        Decodes the values.
    """

    values: Program

    @property
    def encoding(self) -> str:
        return _name_with_values(self.values.encoding)

    @property
    def shareable(self) -> bool:
        return self.values.shareable

    @property
    def bit_stream(self) -> None:
        return None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        highs, lows, _, _, _, *stored = arrays
        return _gaps_cost(highs, lows) + self.values.load_cost(stored)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        highs, lows, weights, modulus, used, *stored = arrays
        positions = ops.first(decode_gaps(ops, highs, lows, weights, modulus), used)
        return ops.scatter(ops.zeros(count), positions, self.values(ops, used, codebook, *stored))


@dataclass(frozen=True)
class SparseValuesEncoding:
    """Positions of the non-zeros, then their values in another encoding.

    Parameters
    ----------
    values : tuple of Encoding
        Encodings that the values may have.
    """

    values: tuple[Encoding, ...]

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        symbols, zero = sequence.symbols, zero_symbol(sequence.codebook)
        if zero is None or len(sequence.codebook) < 3:
            return
        values = symbols[symbols != zero]
        if values.size > (1 - _LEAST_ZERO_SHARE) * symbols.size:
            return
        values -= values > zero
        for code in every_code(self.values, SymbolSequence(values, np.delete(sequence.codebook, zero))):
            yield _with_values(symbols, zero, code)

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the positions, a ``Slice`` cuts off their padding, and a ``ScatterElements`` writes values.

        What is left without these decodes the values, and is recognised as such. `classes` needs no ``Shape``.
        """
        own = Operators(("Shape", "TopK", "Slice", "ScatterElements"))
        if not own <= operators:
            return None
        names = (encoding.recognise(operators - own) for encoding in self.values)
        return next((_name_with_values(name) for name in names if name), None)


def _name_with_values(values: str) -> str:
    return f"sparse+{values}"


def _with_values(symbols: npt.NDArray[np.unsignedinteger], zero: int, values: Code) -> Code:
    """The code of ``symbols`` whose symbols other than ``zero`` are coded by ``values``."""
    positions = _sparse_positions(symbols, zero).arrays
    used = np.array([values.count], np.int64)
    arrays = (*positions, used, *values.arrays)
    payload = (0, 1, *(len(positions) + 1 + index for index in values.payload))
    return Code(SparseValues(values.program), symbols.size, values.codebook, arrays, payload)


def _sparse_positions(symbols: npt.NDArray[np.unsignedinteger], zero: int) -> Gaps:
    """Positions of the symbols other than ``zero``, padded with the numbers that follow the last position there is."""
    where = np.flatnonzero(symbols != zero)
    padding = symbols.size + np.arange(-where.size % _NUMBERS_PER_BYTE)
    return encode_gaps(np.concatenate([where, padding]))


def zero_symbol(codebook: Array) -> int | None:
    """Symbol of +0.0 (not -0.0); None if a codebook has none, or holds vectors."""
    if codebook.ndim != 1:
        return None
    found = np.flatnonzero((codebook == 0) & ~np.signbit(codebook))
    return int(found[0]) if found.size else None
