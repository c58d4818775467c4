"""Numbers of one to eight bits, unpacked with few bytes of memory for each.

Numbers of 4, 6 or 7 bits lie in the low bits of bytes, and the high bits that are left of 1, 3 or 7 of these bytes make
one number more. Other widths are stored as planes, the lowest bits of all numbers first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits
from sws_compress.codec.interpreter import A, ArrayOps

_BYTE = 8


_ROWS = {4: 1, 6: 3, 7: 7}
"""Bytes whose high bits make a number, by the width of numbers."""


@dataclass(frozen=True)
class Bits:
    """The bits of bytes, as a uint8 vector, by a table: 1.5 bytes of memory a bit, where arithmetic takes 2."""

    def __call__(self, ops: ArrayOps[A], stored: A) -> A:
        zero, one, two, end = (ops.constant(np.array(number, np.int32)) for number in (0, 1, 2, 1 << _BYTE))
        column = ops.reshape(ops.arange(zero, end, one), ops.constant(np.array([-1, 1], np.int64)))
        powers = ops.constant(1 << np.arange(_BYTE, dtype=np.int32))
        table = ops.cast(digits(ops, column, powers, two), np.uint8)
        return ops.reshape(ops.gather(table, ops.cast(stored, np.int32)), ops.constant(FLAT))


@dataclass(frozen=True)
class Numbers:
    """Numbers of ``bits`` bits as int32 (n,), from their planes end to end, uint8 (bits n,) of zeros and ones."""

    bits: int

    def __call__(self, ops: ArrayOps[A], planes: A) -> A:
        if self.bits == 1:
            return ops.cast(planes, np.int32)
        rows = ops.reshape(planes, ops.constant(np.array([self.bits, -1], np.int64)))
        return ops.matmul_bytes(ops.constant(1 << np.arange(self.bits, dtype=np.uint8)), rows)


@dataclass(frozen=True)
class _InBytes:
    """Numbers from bytes (r, g): r g of them in the low bits, then g in the high bits of r bytes each.

    They stay bytes to the end, for memory. The first ``count`` are taken, if it is given, shape (1,).
    """

    bits: int

    def __call__(self, ops: ArrayOps[A], stored: A, *count: A) -> A:
        shifts = (_BYTE - self.bits) * np.arange(_ROWS[self.bits])
        low = ops.modulo(stored, ops.constant(np.array(1 << self.bits, np.uint8)))
        high = ops.shift_right(stored, ops.constant(np.array(self.bits, np.uint8)))
        spread = ops.matmul_bytes(ops.constant((1 << shifts).astype(np.uint8)[None]), high)
        numbers = ops.reshape(ops.concat([low, ops.cast(spread, np.uint8)]), ops.constant(FLAT))
        return ops.cast(ops.first(numbers, *count) if count else numbers, np.int32)


@dataclass(frozen=True)
class _InPlanes:
    """Numbers from the bytes (bits, g) of their planes."""

    bits: int

    def __call__(self, ops: ArrayOps[A], stored: A) -> A:
        return ops.call(Numbers(self.bits), ops.call(Bits(), stored)[0])[0]


def decode_head(ops: ArrayOps[A], stored: A, bits: int, count: int) -> A:
    """``count`` numbers as int32 (n,)."""
    if bits == _BYTE:
        return ops.cast(stored, np.int32)
    cut = [ops.constant(np.array([count], np.int64))] if count % _together(bits) else []
    if bits in _ROWS:
        return ops.call(_InBytes(bits), stored, *cut)[0]
    (numbers,) = ops.call(_InPlanes(bits), stored)
    return ops.first(numbers, *cut) if cut else numbers


def encode_head(numbers: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Numbers (n,) below ``2 ** bits`` as bytes: (n,), for 4, 6, 7 bits (1 or 3 or 7, g), for others (bits, g)."""
    if bits == _BYTE:
        return numbers
    padded = np.pad(numbers, (0, -numbers.size % _together(bits)))
    if bits not in _ROWS:
        return np.stack([np.packbits(padded >> j & 1, bitorder="little") for j in range(bits)])
    *low, spread = padded.reshape(_ROWS[bits] + 1, -1)
    spare = _BYTE - bits
    high = [(spread >> spare * row & (1 << spare) - 1) << bits for row in range(len(low))]
    return np.stack(low) | np.stack(high)


def _together(bits: int) -> int:
    """How many numbers fill whole bytes."""
    return _ROWS[bits] + 1 if bits in _ROWS else _BYTE


def head_bytes(bits: int) -> float:
    """Bytes of memory that `decode_head` takes for a number, that of the number included."""
    if bits == _BYTE:
        return 4.0
    return 8.5 if bits in _ROWS else 4.0 + 3.5 * bits
