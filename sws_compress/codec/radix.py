"""Fixed-length code: a word holds as many base-K digits as fit, ``word = sum_j symbol_j K^j``.

Words are bytes (m = floor(log_K 256) symbols each) or int32 (m = floor(log_K 2^31)), whichever is smaller; a byte costs
8 / m bits per symbol, for example 4 for K = 16, 1.6 for K = 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import digits, row_shape
from sws_compress.codec.code import Code
from sws_compress.codec.ops import A, Array, ArrayOps

_TABLE_FROM = 1 << 16
"""Symbols from which a table is worth its nodes: one Gather then expands bytes to weights, three times faster."""


@dataclass(frozen=True)
class Radix:
    """Digits of words, looked up in the codebook.

    Arrays: words (n / m,), or (n / m, 1) where they are divided; if m > 1 also the powers of the base (m,), the base,
    and the shape of flat rows; if ``table`` the number of different words.
    """

    digits_per_word: int
    table: bool
    padded: bool
    encoding = "radix"
    shareable = True
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words = ops.cast(arrays[0], np.int32)
        if self.digits_per_word == 1:
            return ops.gather(codebook, words)
        powers, base, rows_shape = arrays[1:4]
        if self.table:
            origin, one = (ops.constant(np.array(number, np.int32)) for number in (0, 1))
            every_word = ops.arange(origin, arrays[4], one)
            column = ops.constant(np.array([-1, 1], np.int64))
            table = ops.gather(codebook, digits(ops, ops.reshape(every_word, column), powers, base))
            rows = ops.gather(table, words)
        else:
            rows = ops.gather(codebook, digits(ops, words, powers, base))
        rows = ops.reshape(rows, rows_shape)
        return ops.first(rows, count) if self.padded else rows


def encode_radix(symbols: npt.NDArray[np.uint8], codebook: Array) -> Code:
    """Encode n >= 1 symbols, uint8 (n,), each below K = len(codebook), 2 <= K <= 256."""
    base = len(codebook)
    per_byte, per_word = digits_that_fit(base, 1 << 8), digits_that_fit(base, 1 << 31)
    dtype: type[np.generic] = np.uint8
    per = per_byte
    if 4 * -(-symbols.size // per_word) < -(-symbols.size // per_byte):
        dtype, per = np.int32, per_word
    padding = -symbols.size % per
    powers = base ** np.arange(per, dtype=np.int64)
    rows = (np.pad(symbols, (0, padding)) if padding else symbols).reshape(-1, per)
    words: Array = rows[:, 0].astype(dtype)
    for digit in range(1, per):  # no sum is larger than a word: nothing wider is made, large tensors come here
        words += np.multiply(rows[:, digit], powers[digit], dtype=dtype, casting="unsafe")
    if per == 1:
        return Code(Radix(1, False, False), symbols.size, codebook, (words,), (0,))
    table = dtype is np.uint8 and symbols.size >= _TABLE_FROM
    arrays: tuple[Array, ...] = (powers.astype(np.int32), np.array(base, np.int32), row_shape(codebook))
    arrays = (words, *arrays, np.array(base**per, np.int32)) if table else (words[:, None], *arrays)
    return Code(Radix(per, table, padding > 0), symbols.size, codebook, arrays, (0,))


def digits_that_fit(base: int, limit: int) -> int:
    """Largest m with ``base ** m <= limit``, at least 1."""
    m = 1
    while base ** (m + 1) <= limit:
        m += 1
    return m
