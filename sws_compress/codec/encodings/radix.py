"""Fixed-length code: a word holds as many base-K digits as fit, ``word = sum_j symbol_j K^j``.

In short sequences, words are bytes (m = floor(log_K 256) symbols each) or int32 (m = floor(log_K 2^31)), and division
reads them; those of more than 256 values are uint16 or int32. In long ones they have one to seven bytes, whichever
comes nearest to log_2 K bits a symbol, and a table of all words of a few digits reads them: K = 16 takes 4 bits, K = 3
1.6. For some K the shortest words take much memory to read: K = 32 takes 5 bits, or 5.33 with less memory, K = 100 6.67
or 8, K = 128 7 or 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import digits, row_shape
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import LONG_SEQUENCE_SYMBOLS, Code, Operators, SymbolSequence

_LARGEST_TABLE_ROWS = 1 << 15
"""Number of words in a table at most, so that the table stays small beside the weights."""

_LEAST_MEMORY_BYTES_PER_SYMBOL = 10.0
"""Memory of what is computed for a symbol, up to which words count as read in little memory."""

_BYTES_PER_DIVIDED_DIGIT = 12.0
"""Memory of a symbol whose word is divided: quotient, remainder and value."""

_NANOSECONDS_PER_LONE_DIGIT = 25.0
"""Time to divide a word of many bytes, if no other symbol shares the part: of more than 256 values."""

_BYTES_PER_CAST_WORD = 4.0
"""Memory of a symbol that is a word: an int32."""


@dataclass(frozen=True)
class Radix:
    """Looks up the digits of words in the codebook.

    Arrays: words (n / m,), or (n / m, 1) if they are divided; if m > 1 also the powers of the base (m,), the base, and
    the shape of flat rows.

    Parameters
    ----------
    digits_per_word : int
        m.
    padded : bool
        Whether the last word is filled up with zero digits.
    """

    digits_per_word: int
    padded: bool
    encoding = "radix"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        each = _BYTES_PER_DIVIDED_DIGIT if self.digits_per_word > 1 else _BYTES_PER_CAST_WORD
        return LoadCost(0.0, each * arrays[0].size * self.digits_per_word)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        words = ops.cast(arrays[0], np.int32)
        if self.digits_per_word == 1:
            return ops.gather(codebook, words)
        powers, base, rows_shape = arrays[1:]
        rows = ops.reshape(ops.gather(codebook, digits(ops, words, powers, base)), rows_shape)
        return ops.first(rows, count) if self.padded else rows


@dataclass(frozen=True)
class RadixTable:
    """Looks up parts of words in a table of the codebook rows of all parts there are.

    Arrays: words as bytes (w,), or (w, b) of b >= 2; the powers of the base (a,), the base, the shape of flat rows, the
    number of different parts K^a; for b >= 2 also the powers of 256 (b,), and for m > a those of K^a (m / a,), both of
    the type of words as numbers.

    Parameters
    ----------
    word_bytes : int
        b.
    several_parts : bool
        Whether m > a.
    padded : bool
        Whether the last word is filled up with zero digits.
    """

    word_bytes: int
    several_parts: bool
    padded: bool
    encoding = "radix"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        words, powers, _, _, _, *places = arrays
        form = Form(self.word_bytes, powers.size, places[1].size if self.several_parts else 1)
        symbols = form.digits * words.shape[0]
        seconds = 1e-9 * _NANOSECONDS_PER_LONE_DIGIT * symbols if form.part_digits == 1 and form.parts > 1 else 0.0
        return LoadCost(seconds, form.bytes_per_symbol * symbols)

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


@dataclass(frozen=True)
class Form:
    """How words are made.

    Parameters
    ----------
    word_bytes : int
        Bytes of a word.
    part_digits : int
        Digits of each of its parts, which are read by one look-up.
    parts : int
        Parts of a word.
    """

    word_bytes: int
    part_digits: int
    parts: int

    @property
    def digits(self) -> int:
        """Symbols of a word."""
        return self.part_digits * self.parts

    @property
    def bytes_per_symbol(self) -> float:
        """Memory of what is computed for a symbol before the table is read: words, and parts divided and cut."""
        numbers = self.word_bytes + (self.word_bytes > 1) + (1 + 2 * self.parts) * (self.parts > 1)
        number_bytes = 4.0 if self.word_bytes < 4 else 8.0
        return number_bytes * numbers / self.digits

    def constants(self, base: int) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        """What words are read with.

        Parameters
        ----------
        base : int
            K.

        Returns
        -------
        powers : ndarray (a,), int32
            K^0 .. K^(a-1).
        base : ndarray (), int32
            K.
        size : ndarray (), int32
            Number of different parts, K^a.
        places : tuple of ndarray
            For b >= 2 the powers of 256 (b,); for several parts those of K^a (m / a,).
        """
        wide, size = number_type(self.word_bytes), base**self.part_digits
        powers = (base ** np.arange(self.part_digits, dtype=np.int64)).astype(np.int32)
        places = []
        if self.word_bytes > 1:
            places.append((256 ** np.arange(self.word_bytes, dtype=np.int64)).astype(wide))
        if self.parts > 1:
            places.append((size ** np.arange(self.parts, dtype=np.int64)).astype(wide))
        return powers, np.array(base, np.int32), np.array(size, np.int32), tuple(places)


def word_forms(base: int) -> Iterator[Form]:
    """All forms. Words of one byte have one part; others have up to seven bytes.

    Their parts have two digits or more, or one where that is no byte.
    """
    if base <= 1 << 8:
        yield Form(1, digits_that_fit(base, 1 << 8), 1)
    for word_bytes in range(2, 8):
        for part_digits in range(
            2 if base <= 1 << 8 else 1, 1 + digits_that_fit(base, min(_LARGEST_TABLE_ROWS, 1 << 8 * word_bytes))
        ):
            yield Form(word_bytes, part_digits, digits_that_fit(base**part_digits, 1 << 8 * word_bytes))


def number_type(word_bytes: int) -> type[np.generic]:
    """Integer type that holds words of so many bytes."""
    return np.int32 if word_bytes < 4 else np.int64


class RadixEncoding:
    """Words of a fixed number of symbols."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        """The words that are read in little memory, and shorter ones if there are any."""
        if sequence.is_constant:
            return
        code = encode_radix(sequence.symbols, sequence.codebook)
        yield code
        if sequence.is_long:
            shortest = encode_radix(sequence.symbols, sequence.codebook, most_bytes_per_symbol=math.inf)
            if shortest.payload_bytes < code.payload_bytes:
                yield shortest

    def recognise(self, operators: Operators) -> str | None:
        """``Gather`` reads a table, and its rows stay in order: most other encodings expand, scatter or compress.

        `buckets` have powers for their sizes, and `progressions` sums. Packed rows need the ``Shape`` of the positions.
        """
        others = ("Expand", "ScatterElements", "TopK", "Shape", "Pow", "Add")
        return Radix.encoding if operators["Gather"] and not any(operators[name] for name in others) else None


def encode_radix(
    symbols: npt.NDArray[np.unsignedinteger],
    codebook: Array,
    *,
    most_bytes_per_symbol: float = _LEAST_MEMORY_BYTES_PER_SYMBOL,
) -> Code:
    """Encode symbols in the shortest words.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        At least one, each below K.
    codebook : ndarray (K,) or (K, d), 2 <= K <= 65,536
        Value of each symbol.
    most_bytes_per_symbol : float
        Memory that reading the words of a long sequence may take. Less of it takes longer words for some K.

    Returns
    -------
    Code
        Always made.
    """
    if symbols.size >= LONG_SEQUENCE_SYMBOLS:
        forms = [form for form in word_forms(len(codebook)) if form.bytes_per_symbol <= most_bytes_per_symbol]
        order = sorted(forms, key=lambda form: (form.word_bytes / form.digits, form.word_bytes, form.parts))
        if order and order[0].digits > 1:
            return _by_table(symbols, codebook, order[0])
    dtype, per = _plain_words(len(codebook), symbols.size)
    base = len(codebook)
    words = _words(symbols, base, per, dtype)
    if per == 1:
        return Code(Radix(1, False), symbols.size, codebook, (words,), (0,))
    powers = (base ** np.arange(per, dtype=np.int64)).astype(np.int32)
    arrays = (words[:, None], powers, np.array(base, np.int32), row_shape(codebook))
    return Code(Radix(per, symbols.size % per > 0), symbols.size, codebook, arrays, (0,))


def _plain_words(base: int, size: int) -> tuple[type[np.generic], int]:
    """Type of the words of a sequence that are read without a table, and digits of each.

    A digit beyond a byte has two bytes, or shares an int32 with others, in long sequences as well.
    """
    dtype: type[np.generic] = np.uint8 if base <= 1 << 8 else np.uint16
    short, per_word = digits_that_fit(base, 1 << 8), digits_that_fit(base, 1 << 31)
    may_divide = size < LONG_SEQUENCE_SYMBOLS or base > 1 << 8
    if may_divide and 4 * -(-size // per_word) < np.dtype(dtype).itemsize * -(-size // short):
        return np.int32, per_word
    return dtype, short


def _by_table(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, form: Form) -> Code:
    base = len(codebook)
    powers, number, parts, places = form.constants(base)
    arrays = (byte_words(symbols, base, form), powers, number, row_shape(codebook), parts, *places)
    program = RadixTable(form.word_bytes, form.parts > 1, symbols.size % form.digits > 0)
    return Code(program, symbols.size, codebook, arrays, (0,))


def fixed_lengths() -> dict[int, float]:
    """Bits of a symbol in words that are read in little memory, by the largest K that takes no more."""
    found: dict[float, int] = {}
    for base in range(2, 257):
        forms = [form for form in word_forms(base) if form.bytes_per_symbol <= _LEAST_MEMORY_BYTES_PER_SYMBOL]
        found[min(8 * form.word_bytes / form.digits for form in forms)] = base
    return {base: bits for bits, base in found.items()}


def byte_words(symbols: npt.NDArray[np.unsignedinteger], base: int, form: Form) -> npt.NDArray[np.uint8]:
    """Words of symbols, the last one filled up with zero digits.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Each below ``base``.
    base : int
        K.
    form : Form
        How the words are made.

    Returns
    -------
    ndarray (w,) or (w, b), uint8
        Bytes of each word, the lowest first; b >= 2.
    """
    if form.word_bytes == 1:
        return _words(symbols, base, form.digits, np.uint8)
    words = _words(symbols, base, form.digits, np.int64)
    return words.astype("<i8", copy=False).view(np.uint8).reshape(-1, 8)[:, : form.word_bytes].copy()


def _words(symbols: npt.NDArray[np.unsignedinteger], base: int, per: int, dtype: type[np.generic]) -> Array:
    """Words of ``per`` symbols each, shape (ceil(n / per),); the last one is filled up with zero digits."""
    padding = -symbols.size % per
    powers = base ** np.arange(per, dtype=np.int64)
    rows = (np.pad(symbols, (0, padding)) if padding else symbols).reshape(-1, per)
    words: Array = rows[:, 0].astype(dtype)
    for digit in range(1, per):  # no sum is larger than a word: nothing wider is made, because large tensors come here
        words += np.multiply(rows[:, digit], powers[digit], dtype=dtype, casting="unsafe")
    return words


def digits_that_fit(base: int, limit: int) -> int:
    """Largest m with ``base ** m <= limit``, at least 1."""
    m = 1
    while base ** (m + 1) <= limit:
        m += 1
    return m
