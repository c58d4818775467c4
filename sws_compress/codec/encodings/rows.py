"""Rows that stay packed: a look-up takes the words of the rows that are asked for, and decodes no others.

Every row of a table (an embedding of v rows) is a whole number of radix words of its own, the last one filled up with
zero digits, so that rows are gathered as bytes. Words have one to seven bytes. A table of all words of a few digits
reads them, as in long sequences of `radix`; words and that table together should take little memory. The codebook has
the tensor's own type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import digits
from sws_compress.codec.encodings.radix import Form, byte_words, number_type, part_table, word_forms
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import NANOSECONDS_PER_WEIGHT, LoadCost
from sws_compress.codec.program import Code, Operators, SymbolSequence

_MEMORY_RATIO = 7 / 6
"""Times the least memory that words may take if they are read in fewer steps: to divide words into two parts takes half
as long again at every look-up."""

_BYTES_PER_PART = 8.0
"""Memory of a number that is parted into digits for the table of words: the number, and its copy as a column."""

_BYTES_PER_DIGIT = 8.0
"""Memory of a digit of the table of words: a quotient and a remainder."""


@dataclass(frozen=True)
class RowLookUp:
    """The decoder of rows that are looked up: positions of shape (...) in, rows of shape (..., *row shape) out.

    Arrays after the positions, which may be negative as Gather allows: words uint8 (v, w), or (v, w, b) of b >= 2; the
    codebook (k,) or (k, d); powers of the base (a,), the base, the number of parts K^a; for b >= 2 the powers of 256
    (b,), or (b, 1) if there are ``several_parts``, and then those of K^a (m / a,); if ``padded`` the width of a row of
    whole words and that of a row without padding, both (1,); the row shape, unless it is that width.

    The shapes to which rows are reshaped begin with the shape of the positions. A 0 in them stands for the size of what
    is reshaped, which begins with the same shape, so it stays a 0.

    Parameters
    ----------
    word_bytes : int
        b.
    several_parts : bool
        Whether words have more than one part.
    padded : bool
        Whether the last word of a row is filled up.
    reshaped : bool
        Whether rows need another shape in the end.
    """

    word_bytes: int
    several_parts: bool
    padded: bool
    reshaped: bool
    encoding = "rows"

    def __call__(self, ops: ArrayOps[A], positions: A, words: A, codebook: A, *arrays: A) -> A:
        powers, base, parts, *rest = arrays
        table = part_table(ops, codebook, powers, base, parts)
        numbers = ops.cast(ops.gather(words, positions), number_type(self.word_bytes))
        if self.word_bytes > 1:
            numbers = ops.matmul(numbers, rest.pop(0))
        if self.several_parts:
            numbers = digits(ops, numbers, rest.pop(0), ops.cast(parts, number_type(self.word_bytes)))
        rows, shape = ops.gather(table, numbers), ops.shape_of(positions)
        if self.padded:
            rows = ops.reshape(rows, ops.concat([shape, rest.pop(0)]))
            rows = ops.first(rows, rest.pop(0), axis=-1)
        return ops.reshape(rows, ops.concat([shape, rest.pop(0)])) if self.reshaped else rows


@dataclass(frozen=True, eq=False)
class RowCode:
    """A table whose rows are looked up while they are packed.

    Parameters
    ----------
    program : RowLookUp
        What looks rows up.
    words : ndarray (v, w) or (v, w, b), uint8
        The packed rows.
    arrays : tuple of ndarray
        What else the program reads, the codebook first.
    """

    program: RowLookUp
    words: npt.NDArray[np.uint8]
    arrays: tuple[Array, ...]

    @property
    def encoding(self) -> str:
        """Name of the encoding, for people."""
        return self.program.encoding

    @property
    def payload_bytes(self) -> int:
        """Bytes of the packed rows."""
        return self.words.nbytes

    @property
    def table_bytes(self) -> int:
        """Bytes of the codebook."""
        return self.arrays[0].nbytes

    @property
    def load_cost(self) -> LoadCost:
        """Estimated cost of loading: the rows stay as they are, and only the table of words is computed."""
        codebook, powers, _, parts, *_ = self.arrays
        entries = int(parts) * powers.size
        table_bytes = _BYTES_PER_PART * int(parts) + (_BYTES_PER_DIGIT + codebook[0].nbytes) * entries
        return LoadCost(1e-9 * NANOSECONDS_PER_WEIGHT * entries, self.words.nbytes + table_bytes)

    def look_up(self, ops: ArrayOps[A], positions: A) -> A:
        """Rows (..., *row shape) at positions of shape (...)."""
        return self.program(ops, positions, *map(ops.constant, (self.words, *self.arrays)))


class RowsEncoding:
    """Tables whose rows are looked up while they are packed."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> tuple[()]:
        """No codes: a sequence has no rows. `encode_rows` encodes tables, for callers who know how they are read."""
        return ()

    def recognise(self, operators: Operators) -> str | None:
        """The ``Shape`` of the positions is the rows' own; `sparse` asks for a shape, too, but only to use ``TopK``."""
        return RowLookUp.encoding if operators["Shape"] and not operators["TopK"] else None


def encode_rows(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, shape: tuple[int, ...]) -> RowCode | None:
    """Encode a table so that its rows can be looked up while they are packed.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Symbols of the table in C order, each below K.
    codebook : ndarray (K,) or (K, d), floating point
        Value of each symbol; a symbol of vectors stands for d values of a row. Rows that no symbol uses are dropped.
    shape : tuple of int
        Shape (v, ...) of the table.

    Returns
    -------
    RowCode or None
        None if only one symbol is used, which needs no words, if a row has no whole number of symbols, or if the table
        has fewer than two dimensions.
    """
    width, dimension = math.prod(shape[1:]), math.prod(codebook.shape[1:])
    if len(shape) < 2 or not symbols.size or width % dimension:
        return None
    symbols, codebook = _compact(symbols, codebook)
    base, per_row = len(codebook), width // dimension
    if base < 2:
        return None
    form = _best_form(base, shape[0], per_row, codebook[0].nbytes)
    words_per_row = -(-per_row // form.digits)
    padding = words_per_row * form.digits - per_row
    rows = np.pad(symbols.reshape(-1, per_row), ((0, 0), (0, padding))) if padding else symbols
    words = byte_words(rows.reshape(-1), base, form)
    powers, number, parts, places = form.constants(base)
    arrays: list[Array] = [codebook, powers, number, parts]
    arrays += [places[0][:, None], *places[1:]] if form.parts > 1 else places
    if padding:
        arrays += [np.array([size * dimension], np.int64) for size in (per_row + padding, per_row)]
    reshaped = len(shape) > 2 or not padding
    arrays += [np.array(shape[1:], np.int64)] if reshaped else []
    program = RowLookUp(form.word_bytes, form.parts > 1, padding > 0, reshaped)
    return RowCode(program, words.reshape(shape[0], words_per_row, *words.shape[1:]), tuple(arrays))


def _best_form(base: int, rows: int, per_row: int, symbol_bytes: int) -> Form:
    """The form of fewest parts, which is looked up fastest, among those that take hardly more than the least memory."""

    def held_bytes(form: Form) -> float:
        table = base**form.part_digits * form.part_digits * symbol_bytes
        return float(rows * -(-per_row // form.digits) * form.word_bytes + table)

    forms = list(word_forms(base))
    enough = _MEMORY_RATIO * min(map(held_bytes, forms))
    return min(
        (form for form in forms if held_bytes(form) <= enough),
        key=lambda form: (form.parts, form.word_bytes, held_bytes(form)),
    )


def _compact(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array
) -> tuple[npt.NDArray[np.unsignedinteger], Array]:
    """Symbols and codebook without the rows that no symbol uses."""
    present = np.zeros(len(codebook), bool)
    present[symbols] = True
    if present.all():
        return symbols, codebook
    number = (np.cumsum(present) - 1).astype(np.min_scalar_type(np.count_nonzero(present) - 1))
    return number[symbols], codebook[present]
