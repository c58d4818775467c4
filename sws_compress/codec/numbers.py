"""Numbers of one to eight bits, unpacked with few bytes of memory for each.

Numbers of 4, 6 or 7 bits lie in the low bits of bytes. The high bits that are left of 1, 3 or 7 of these bytes make one
number more. Numbers of other widths are stored as planes: the lowest bits of all numbers, then the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits
from sws_compress.codec.interpreter import A, ArrayOps

_BITS_PER_BYTE = 8

_BYTES_PER_SPARE_NUMBER = {4: 1, 6: 3, 7: 7}
"""Number of bytes whose high bits make one number more, by the width of numbers."""


@dataclass(frozen=True)
class Bits:
    """Bits of bytes as a uint8 vector, by a table: that takes 1.5 bytes of memory a bit, and arithmetic 2."""

    def __call__(self, ops: ArrayOps[A], stored: A) -> A:
        zero, one, two, end = (ops.constant(np.array(number, np.int32)) for number in (0, 1, 2, 1 << _BITS_PER_BYTE))
        column = ops.reshape(ops.arange(zero, end, one), ops.constant(np.array([-1, 1], np.int64)))
        powers = ops.constant(1 << np.arange(_BITS_PER_BYTE, dtype=np.int32))
        table = ops.cast(digits(ops, column, powers, two), np.uint8)
        return ops.reshape(ops.gather(table, ops.cast(stored, np.int32)), ops.constant(FLAT))


@dataclass(frozen=True)
class Numbers:
    """Numbers, int32 (n,), from their planes end to end, uint8 (bits n,) of zeros and ones.

    Parameters
    ----------
    bits : int
        Bits of a number.
    """

    bits: int

    def __call__(self, ops: ArrayOps[A], planes: A) -> A:
        if self.bits == 1:
            return ops.cast(planes, np.int32)
        rows = ops.reshape(planes, ops.constant(np.array([self.bits, -1], np.int64)))
        return ops.matmul_bytes(ops.constant(1 << np.arange(self.bits, dtype=np.uint8)), rows)


@dataclass(frozen=True)
class _InBytes:
    """Numbers from bytes (r, g): r g of them are in the low bits, then g more in the high bits of r bytes each.

    They stay bytes to the end, to save memory. If a ``count`` of shape (1,) is given, the first so many are taken.
    """

    bits: int

    def __call__(self, ops: ArrayOps[A], stored: A, *count: A) -> A:
        shifts = (_BITS_PER_BYTE - self.bits) * np.arange(_BYTES_PER_SPARE_NUMBER[self.bits])
        low = ops.modulo(stored, ops.constant(np.array(1 << self.bits, np.uint8)))
        high = ops.shift_right(stored, ops.constant(np.array(self.bits, np.uint8)))
        spread = ops.matmul_bytes(ops.constant((1 << shifts).astype(np.uint8)[None]), high)
        numbers = ops.reshape(ops.concat([low, ops.cast(spread, np.uint8)]), ops.constant(FLAT))
        return ops.cast(ops.first(numbers, *count) if count else numbers, np.int32)


@dataclass(frozen=True)
class _InPlanes:
    """Numbers from bytes (bits, g): a row for each plane."""

    bits: int

    def __call__(self, ops: ArrayOps[A], stored: A) -> A:
        return ops.call(Numbers(self.bits), ops.call(Bits(), stored)[0])[0]


def decode_head(ops: ArrayOps[A], stored: A, bits: int, count: int | None = None) -> A:
    """Unpack what `encode_head` packed.

    Parameters
    ----------
    ops : ArrayOps
        Decodes, or writes down what decodes.
    stored : uint8
        The packed numbers.
    bits : int
        Bits of a number, 1 to 8.
    count : int, optional
        Number n of numbers; by default also those that fill up the last group.

    Returns
    -------
    int32 (n,)
        The numbers.
    """
    if bits == _BITS_PER_BYTE:
        return ops.cast(stored, np.int32)
    cut = [ops.constant(np.array([count], np.int64))] if count is not None and count % _together(bits) else []
    if bits in _BYTES_PER_SPARE_NUMBER:
        return ops.call(_InBytes(bits), stored, *cut)[0]
    (numbers,) = ops.call(_InPlanes(bits), stored)
    return ops.first(numbers, *cut) if cut else numbers


def encode_head(numbers: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Pack numbers.

    Parameters
    ----------
    numbers : ndarray (n,), uint8
        Each below ``2 ** bits``.
    bits : int
        Bits of a number, 1 to 8.

    Returns
    -------
    ndarray, uint8
        Shape (n,) for 8 bits; (1, g), (3, g) or (7, g) for 4, 6 or 7 bits; (bits, g) for others.
    """
    if bits == _BITS_PER_BYTE:
        return numbers
    padded = np.pad(numbers, (0, -numbers.size % _together(bits)))
    if bits not in _BYTES_PER_SPARE_NUMBER:
        return np.stack([np.packbits(padded >> j & 1, bitorder="little") for j in range(bits)])
    *low, spread = padded.reshape(_BYTES_PER_SPARE_NUMBER[bits] + 1, -1)
    spare = _BITS_PER_BYTE - bits
    high = [(spread >> spare * row & (1 << spare) - 1) << bits for row in range(len(low))]
    return np.stack(low) | np.stack(high)


def _together(bits: int) -> int:
    """Number of numbers that fill whole bytes together."""
    return _BYTES_PER_SPARE_NUMBER[bits] + 1 if bits in _BYTES_PER_SPARE_NUMBER else _BITS_PER_BYTE


def head_bytes(bits: int) -> float:
    """Memory that `decode_head` takes for a number, the number itself included."""
    if bits == _BITS_PER_BYTE:
        return 4.0
    return 8.5 if bits in _BYTES_PER_SPARE_NUMBER else 4.0 + 3.5 * bits
