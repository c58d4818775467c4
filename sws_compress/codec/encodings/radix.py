"""Fixed-length code: a word holds as many base-K digits as fit, ``word = sum_j symbol_j K^j``.

In short sequences words are bytes (m = floor(log_K 256) symbols each) or int32 (m = floor(log_K 2^31)), read by
division. In long ones they have one to seven bytes, whichever comes nearest to log_2 K bits a symbol, and are read by a
table of all words of a few digits: K = 16 takes 4 bits, K = 3 1.6. For some K the shortest words take much memory to
read: K = 32 takes 5 bits, or 5.33 in lean words, K = 100 6.67 or 8, K = 128 7 or 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import digits, row_shape
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.program import Code, Operators

_TABLE_FROM = 1 << 16
"""Symbols from which a table is worth its nodes: one Gather then expands words to weights, three times faster."""


_TABLE_ROWS = 1 << 15


_LEAN = 10.0
"""Bytes of memory a symbol, of what is computed on the way, that words may take where lean ones are asked for."""


@dataclass(frozen=True)
class Radix:
    """Digits of words, looked up in the codebook.

    Arrays: words (n / m,), or (n / m, 1) where they are divided; if m > 1 also the powers of the base (m,), the base,
    and the shape of flat rows.
    """

    digits_per_word: int
    padded: bool
    encoding = "radix"
    shareable = True
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words = ops.cast(arrays[0], np.int32)
        if self.digits_per_word == 1:
            return ops.gather(codebook, words)
        powers, base, rows_shape = arrays[1:]
        rows = ops.reshape(ops.gather(codebook, digits(ops, words, powers, base)), rows_shape)
        return ops.first(rows, count) if self.padded else rows


@dataclass(frozen=True)
class RadixTable:
    """Parts of words, looked up in a table of the codebook rows of all parts there are.

    Arrays: words as bytes (w,), or (w, b) of b >= 2; the powers of the base (a,), the base, the shape of flat rows, the
    number of different parts K^a; for b >= 2 also the powers of 256 (b,), and those of K^a as (m / a,) if m > a, both
    of the type of words as numbers.
    """

    word_bytes: int
    several_parts: bool
    padded: bool
    encoding = "radix"
    shareable = True
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words, powers, base, rows_shape, parts, *places = arrays
        table = part_table(ops, codebook, powers, base, parts)
        numbers = ops.cast(words, number_type(self.word_bytes))
        if self.word_bytes > 1:
            numbers = ops.matmul(numbers, places[0])
        if self.several_parts:
            column = ops.reshape(numbers, ops.constant(np.array([-1, 1], np.int64)))
            numbers = digits(ops, column, places[1], ops.cast(parts, number_type(self.word_bytes)))
        rows = ops.reshape(ops.gather(table, numbers), rows_shape)
        return ops.first(rows, count) if self.padded else rows


def part_table(ops: ArrayOps[A], codebook: A, powers: A, base: A, parts: A) -> A:
    """Codebook rows of the digits of all parts 0 .. K^a - 1, shape (K^a, a) or (K^a, a, d)."""
    zero, one = (ops.constant(np.array(number, np.int32)) for number in (0, 1))
    every = ops.reshape(ops.arange(zero, parts, one), ops.constant(np.array([-1, 1], np.int64)))
    return ops.gather(codebook, digits(ops, every, powers, base))


def encode_radix(symbols: npt.NDArray[np.uint8], codebook: Array, *, lean: bool = True) -> Code:
    """Encode n >= 1 symbols, uint8 (n,), each below K = len(codebook), 2 <= K <= 256.

    ``lean``: without the words that take most memory to read, which for some K are smaller.
    """
    if symbols.size >= _TABLE_FROM:
        forms = [form for form in word_forms(len(codebook)) if not lean or form.memory <= _LEAN]
        best = min(forms, key=lambda form: (form.word_bytes / form.digits, form.word_bytes, form.parts))
        if best.digits > 1:
            return _by_table(symbols, codebook, best)
    base = len(codebook)
    per_byte, per_word = digits_that_fit(base, 1 << 8), digits_that_fit(base, 1 << 31)
    dtype: type[np.generic] = np.uint8
    per = per_byte
    if symbols.size < _TABLE_FROM and 4 * -(-symbols.size // per_word) < -(-symbols.size // per_byte):
        dtype, per = np.int32, per_word
    words = _words(symbols, base, per, dtype)
    if per == 1:
        return Code(Radix(1, False), symbols.size, codebook, (words,), (0,))
    powers = (base ** np.arange(per, dtype=np.int64)).astype(np.int32)
    arrays = (words[:, None], powers, np.array(base, np.int32), row_shape(codebook))
    return Code(Radix(per, symbols.size % per > 0), symbols.size, codebook, arrays, (0,))


@dataclass(frozen=True)
class Form:
    """Words of some bytes, each of some parts, each of some digits."""

    word_bytes: int
    part_digits: int
    parts: int

    @property
    def digits(self) -> int:
        return self.part_digits * self.parts

    @property
    def memory(self) -> float:
        """Bytes computed for a symbol before the table is read: of words, of parts divided and cut."""
        numbers = self.word_bytes + (self.word_bytes > 1) + (1 + 2 * self.parts) * (self.parts > 1)
        number_bytes = 4.0 if self.word_bytes < 4 else 8.0
        return number_bytes * numbers / self.digits

    def constants(self, base: int) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        """What words of digits of ``base`` are read with: the powers of the base (a,), the base, the number of parts
        K^a; for b >= 2 the powers of 256 (b,), and for several parts those of K^a (m / a,)."""
        wide, size = number_type(self.word_bytes), base**self.part_digits
        powers = (base ** np.arange(self.part_digits, dtype=np.int64)).astype(np.int32)
        places = []
        if self.word_bytes > 1:
            places.append((256 ** np.arange(self.word_bytes, dtype=np.int64)).astype(wide))
        if self.parts > 1:
            places.append((size ** np.arange(self.parts, dtype=np.int64)).astype(wide))
        return powers, np.array(base, np.int32), np.array(size, np.int32), tuple(places)


def word_forms(base: int) -> Iterator[Form]:
    """Words of one byte have one part, others up to seven bytes, which int64 holds, and parts of two digits or more."""
    yield Form(1, digits_that_fit(base, 1 << 8), 1)
    for word_bytes in range(2, 8):
        for part_digits in range(2, 1 + digits_that_fit(base, min(_TABLE_ROWS, 1 << 8 * word_bytes))):
            yield Form(word_bytes, part_digits, digits_that_fit(base**part_digits, 1 << 8 * word_bytes))


def number_type(word_bytes: int) -> type[np.generic]:
    return np.int32 if word_bytes < 4 else np.int64


def _by_table(symbols: npt.NDArray[np.uint8], codebook: Array, form: Form) -> Code:
    base = len(codebook)
    powers, number, parts, places = form.constants(base)
    arrays = (byte_words(symbols, base, form), powers, number, row_shape(codebook), parts, *places)
    program = RadixTable(form.word_bytes, form.parts > 1, symbols.size % form.digits > 0)
    return Code(program, symbols.size, codebook, arrays, (0,))


def byte_words(symbols: npt.NDArray[np.uint8], base: int, form: Form) -> npt.NDArray[np.uint8]:
    """Words of n symbols, the last filled up with zero digits: bytes (w,), or (w, b) of b >= 2, the lowest first."""
    if form.word_bytes == 1:
        return _words(symbols, base, form.digits, np.uint8)
    words = _words(symbols, base, form.digits, np.int64)
    return words.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, : form.word_bytes].copy()


def _words(symbols: npt.NDArray[np.uint8], base: int, per: int, dtype: type[np.generic]) -> Array:
    """Words (ceil(n / per),) of the given type, the last filled up with zero digits."""
    padding = -symbols.size % per
    powers = base ** np.arange(per, dtype=np.int64)
    rows = (np.pad(symbols, (0, padding)) if padding else symbols).reshape(-1, per)
    words: Array = rows[:, 0].astype(dtype)
    for digit in range(1, per):  # no sum is larger than a word: nothing wider is made, large tensors come here
        words += np.multiply(rows[:, digit], powers[digit], dtype=dtype, casting="unsafe")
    return words


def digits_that_fit(base: int, limit: int) -> int:
    """Largest m with ``base ** m <= limit``, at least 1."""
    m = 1
    while base ** (m + 1) <= limit:
        m += 1
    return m


def table_bytes(arrays: Sequence[Array]) -> float:
    """Bytes of memory that words of a `RadixTable` take on the way to its table."""
    words, powers, _, _, _, *places = arrays
    parts = places[1].size if len(places) > 1 else 1
    word_bytes = words.shape[1] if words.ndim > 1 else 1
    form = Form(word_bytes, powers.size, parts)
    return float(form.memory * form.digits * words.shape[0])


class RadixEncoding:
    """Words of a fixed number of symbols."""

    def recognise(self, operators: Operators) -> str | None:
        """``Gather`` reads a table, and its rows stay in order: every other encoding expands, scatters or compresses.

        Packed rows do neither; they need the ``Shape`` of the positions.
        """
        others = ("Expand", "ScatterElements", "TopK", "Shape")
        return Radix.encoding if operators["Gather"] and not any(operators[name] for name in others) else None
