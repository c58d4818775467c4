"""Digits of words, and bits of bytes: every decoder begins with one of these two.

Bit j of a stream is bit ``j % 8`` of byte ``j // 8``, least significant first: ``packbits(bitorder="little")``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, Array, ArrayOps

FLAT = np.array([-1], np.int64)
"""Shape that makes a vector of what is reshaped to it."""


def pack_bits(bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Bytes of n bits, shape (ceil(n / 8), 1); the last byte is filled up with zeros.

    Examples
    --------
    >>> pack_bits(np.array([1, 1, 0, 1, 0, 0, 0, 0, 1], np.uint8)).tolist()
    [[11], [1]]
    """
    return np.packbits(bits, bitorder="little")[:, None]


def digits(ops: ArrayOps[A], words: A, powers: A, base: A) -> A:
    """Digit j of every word, ``word // powers[j] % base``: shape (..., 1) becomes (..., m)."""
    return ops.modulo(ops.divide(words, powers), base)


def bits_as_integers(ops: ArrayOps[A], packed: A) -> A:
    """Bits of bytes of shape (..., 1), as int64 (..., 8)."""
    powers = ops.constant(2 ** np.arange(8, dtype=np.int64))
    return digits(ops, ops.cast(packed, np.int64), powers, ops.constant(np.array(2, np.int64)))


def flat_bits(ops: ArrayOps[A], packed: A) -> A:
    """Bits of bytes of shape (b, 1), as int64 (8 b,)."""
    return ops.reshape(ops.call(bits_as_integers, packed)[0], ops.constant(FLAT))


def bits_as_bytes(ops: ArrayOps[A], packed: A) -> A:
    """Bits of bytes of shape (b, 1), as uint8 (8 b,): for large tensors, whose bits should take one byte of memory."""
    shifts = ops.constant(np.arange(8, dtype=np.uint8))
    bits = ops.modulo(ops.shift_right(packed, shifts), ops.constant(np.array(2, np.uint8)))
    return ops.reshape(bits, ops.constant(FLAT))


def row_shape(codebook: Array) -> Array:
    """Shape that makes rows (n,) or (n, d), like those of the codebook, of what is reshaped to it."""
    return np.array([-1, *codebook.shape[1:]], np.int64)
