"""Rows that stay packed: a look-up takes the words of the rows that are asked for, and decodes no others.

Every row of a table (an embedding of v rows) is a whole number of radix words of its own, the last filled up with zero
digits, so that rows are gathered as bytes. Words have one to seven bytes and are read by a table of all words of a few
digits, as in long sequences of `radix`; with that table they shall take little memory. The codebook has the tensor's
own type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import digits
from sws_compress.codec.encodings.radix import Form, byte_words, number_type, part_table, word_forms
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.program import Operators

_NEAR = 7 / 6
"""Times the least memory that words may take which are read in fewer steps: dividing words into two parts takes half as
long again at every look-up."""


@dataclass(frozen=True)
class RowLookUp:
    """The decoder of looked-up rows: positions of any shape in, of shape (...), rows (..., *row shape) out.

    Arrays after the positions, which may be negative as Gather allows: words uint8 (v, w), or (v, w, b) of b >= 2; the
    codebook (k,) or (k, d); powers of the base (a,), the base, the number of parts K^a; for b >= 2 the powers of 256
    (b,), or (b, 1) if there are ``several_parts``, and then those of K^a (m / a,); if ``padded`` the width of a row of
    whole words and that of a row without padding, both (1,); the row shape, unless it is that width.

    Reshape's targets begin with the shape of the positions, as what is reshaped does: a 0 in them, which stands for
    that size of what is reshaped, is that size.
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

    ``words`` uint8 (v, w) or (v, w, b); ``arrays`` is what else ``program`` reads, the codebook first.
    """

    program: RowLookUp
    words: npt.NDArray[np.uint8]
    arrays: tuple[Array, ...]

    @property
    def payload_bytes(self) -> int:
        return self.words.nbytes

    @property
    def table_bytes(self) -> int:
        """The codebook."""
        return self.arrays[0].nbytes

    def look_up(self, ops: ArrayOps[A], positions: A) -> A:
        """Rows (..., *row shape) of positions of shape (...)."""
        return self.program(ops, positions, *map(ops.constant, (self.words, *self.arrays)))


def encode_rows(symbols: npt.NDArray[np.uint8], codebook: Array, shape: tuple[int, ...]) -> RowCode | None:
    """Encode a table of ``shape`` (v, ...) from its symbols, uint8 (n,), each below len(codebook) <= 256, in C order.

    Of codebooks (k, d) a symbol stands for d values of a row. Codebook rows that no symbol uses are dropped. None where
    only one is used (that needs no words), where a row has no whole number of symbols, and for fewer than two
    dimensions.
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
    """Of the words that take hardly more memory than the least, those of fewest parts: they are looked up fastest."""

    def memory(form: Form) -> float:
        table = base**form.part_digits * form.part_digits * symbol_bytes
        return float(rows * -(-per_row // form.digits) * form.word_bytes + table)

    forms = list(word_forms(base))
    enough = _NEAR * min(map(memory, forms))
    return min(
        (form for form in forms if memory(form) <= enough),
        key=lambda form: (form.parts, form.word_bytes, memory(form)),
    )


def _compact(symbols: npt.NDArray[np.uint8], codebook: Array) -> tuple[npt.NDArray[np.uint8], Array]:
    """Without the codebook rows that no symbol uses."""
    present = np.zeros(len(codebook), bool)
    present[symbols] = True
    if present.all():
        return symbols, codebook
    number = (np.cumsum(present) - 1).astype(np.uint8)
    return number[symbols], codebook[present]


class RowsEncoding:
    """Tables whose rows are looked up while they are packed."""

    def recognise(self, operators: Operators) -> str | None:
        """The ``Shape`` of the positions is the rows' own; `sparse` asks for a shape, too, but only to use ``TopK``."""
        return RowLookUp.encoding if operators["Shape"] and not operators["TopK"] else None
