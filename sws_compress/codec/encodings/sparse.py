"""Most symbols are zero: store where the others are, as Golomb-Rice coded gaps. Golomb 1966; Rice & Plaunt 1971.

Positions are taken class by class: symbol c at position p is the number ``q = c n + p``, and the ascending list of all
q holds positions and values at once. Coding every class by its own gaps costs what coding all gaps and then the values
with an ideal code would cost, as long as zeros dominate, and needs no value code.

A gap d >= 1 between neighbours (the first counts from 0 and may be 0) is ``M h - r`` with h = ceil(d / M), M = 2^k.
The h are unary: one bit per unit, a one where a number ends. With u the positions of those ones, counted from 0,

    q_i = M u_i - (r_0 + ... + r_i)

so decoding is one TopK (positions of ones, length known), one product with the weights of the r bits, and one CumSum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, bits_as_integers, pack_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.program import Code, Encoding, Operators, Program

LEAST_ZEROS = 0.3
"""Share of zeros below which positions cannot pay: even the entropy of the mask is then above half a bit a symbol."""


_GROUP = 8
"""Numbers are padded to a multiple of this, so that their low bits fill whole bytes."""


@dataclass(frozen=True)
class Gaps:
    """Ascending numbers: unary bits (b, 1); bits of r (g, k, 1), a byte for one bit of eight r; 2^0 .. 2^(k-1); 2^k."""

    highs: Array
    lows: Array
    weights: Array
    modulus: Array

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.highs, self.lows, self.weights, self.modulus


def decode_gaps(ops: ArrayOps[A], highs: A, lows: A, weights: A, modulus: A) -> A:
    """Ascending int64 numbers; see the head of this file for the equation."""
    flat = ops.constant(FLAT)
    remainders = ops.reshape(ops.matmul(weights, bits_as_integers(ops, lows)), flat)
    ones = ops.positions_of_ones(ops.reshape(bits_as_integers(ops, highs), flat), ops.shape_of(remainders))
    return ops.subtract(ops.multiply(ones, modulus), ops.cumulative_sum(remainders))


def encode_gaps(numbers: npt.NDArray[np.int64]) -> Gaps:
    """Encode ascending distinct numbers >= 0, int64 (n,), n a positive multiple of 8, with the k of least bits."""
    gaps = np.diff(numbers, prepend=0)
    bits = _best_low_bits(gaps)
    highs = -(-gaps >> bits)
    remainders = (highs << bits) - gaps
    ones = np.cumsum(highs)
    unary = np.zeros(int(ones[-1]) + 1, np.uint8)
    unary[ones] = 1
    planes = (remainders.reshape(-1, 1, _GROUP) >> np.arange(bits)[:, None] & 1).astype(np.uint8)
    lows = np.packbits(planes, axis=-1, bitorder="little")
    return Gaps(pack_bits(unary), lows, 2 ** np.arange(bits, dtype=np.int64), np.array(1 << bits, np.int64))


def _best_low_bits(gaps: npt.NDArray[np.int64]) -> int:
    def cost(bits: int) -> int:
        return int(np.sum(-(-gaps >> bits))) + bits * gaps.size

    return min(range(1, max(2, int(gaps.max()).bit_length() + 1)), key=cost)


@dataclass(frozen=True)
class Sparse:
    """Numbers q, parted into class and position, written into zeros. Arrays: those of `Gaps`."""

    encoding = "sparse"
    shareable = True
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        numbers = decode_gaps(ops, *arrays)
        rows = ops.gather(codebook, ops.divide(numbers, count))
        return ops.scatter(ops.zeros(count), ops.modulo(numbers, count), rows)


def encode_sparse(symbols: npt.NDArray[np.uint8], codebook: Array) -> Code | None:
    """Encode symbols uint8 (n,); codebook float32 (k,) with a +0.0. None where that is missing or hardly used.

    The codebook of the code leaves out the zero. Padding numbers write 0.0 (one more row) where zeros are anyway.
    """
    zero = zero_symbol(codebook)
    zeros = np.empty(0) if zero is None else np.flatnonzero(symbols == zero)
    if zero is None or zeros.size < max(_GROUP, LEAST_ZEROS * symbols.size) or zeros.size == symbols.size:
        return None
    classes = symbols.astype(np.int64) - (symbols > zero)
    where = np.flatnonzero(symbols != zero)
    numbers = np.sort(classes[where] * symbols.size + where)
    values = np.delete(codebook, zero)
    if padding := -numbers.size % _GROUP:
        numbers = np.concatenate([numbers, len(values) * symbols.size + zeros[:padding]])
        values = np.append(values, codebook[zero])
    return Code(Sparse(), symbols.size, values, encode_gaps(numbers).arrays, (0, 1))


@dataclass(frozen=True)
class SparseValues:
    """Positions apart from values, for tensors in which zeros do not dominate.

    Arrays: those of `Gaps`; the number of non-zeros (1,); those of the code of their values.
    """

    values: Program

    @property
    def encoding(self) -> str:
        return f"sparse+{self.values.encoding}"

    @property
    def shareable(self) -> bool:
        return self.values.shareable

    @property
    def bit_stream(self) -> None:
        return None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        highs, lows, weights, modulus, used, *stored = arrays
        positions = ops.first(decode_gaps(ops, highs, lows, weights, modulus), used)
        return ops.scatter(ops.zeros(count), positions, self.values(ops, used, codebook, *stored))


def sparse_positions(symbols: npt.NDArray[np.uint8], zero: int) -> Gaps:
    """Positions of the symbols other than ``zero``, padded with the numbers that follow the last position there is."""
    where = np.flatnonzero(symbols != zero)
    padding = symbols.size + np.arange(-where.size % _GROUP)
    return encode_gaps(np.concatenate([where, padding]))


def with_values(symbols: npt.NDArray[np.uint8], zero: int, values: Code) -> Code:
    """The code of ``symbols`` uint8 (n,) whose symbols other than ``zero`` are coded by ``values``."""
    positions = sparse_positions(symbols, zero).arrays
    used = np.array([values.count], np.int64)
    arrays = (*positions, used, *values.arrays)
    payload = (0, 1, *(len(positions) + 1 + index for index in values.payload))
    return Code(SparseValues(values.program), symbols.size, values.codebook, arrays, payload)


def zero_symbol(codebook: Array) -> int | None:
    """The symbol of +0.0 (not -0.0), if a scalar codebook has one."""
    if codebook.ndim != 1:
        return None
    found = np.flatnonzero((codebook == 0) & ~np.signbit(codebook))
    return int(found[0]) if found.size else None


class SparseEncoding:
    """Positions and values of the non-zeros in one number."""

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the numbers, one ``ScatterElements`` writes the values, and nothing is cut off.

        Values that are coded apart come after a ``Slice``, which cuts the padding off the positions.
        """
        found = operators["TopK"] and operators["ScatterElements"] == 1 and not operators["Slice"]
        return Sparse.encoding if found else None


@dataclass(frozen=True)
class SparseValuesEncoding:
    """Positions of the non-zeros, then their values in another encoding.

    Parameters
    ----------
    values : tuple of Encoding
        Encodings that the values may have.
    """

    values: tuple[Encoding, ...]

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the positions, a ``Slice`` cuts off their padding, and a ``ScatterElements`` writes values.

        What is left without these three decodes the values, and is recognised as such.
        """
        own = Operators(("TopK", "Slice", "ScatterElements", "Shape"))
        if not own <= operators:
            return None
        return next((f"sparse+{name}" for one in self.values if (name := one.recognise(operators - own))), None)
