"""Codebooks of any type, on top of encodings that know only float32.

A codebook that is exact in float32, as every one of float16, bfloat16 or int8 is, is decoded in float32 and cast. Any
other one (float64, large integers) is a table: what is decoded are the numbers of its rows, as float32, and the most
frequent row is number 0. A float32 codebook that is exact in float16 may be stored in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Wrapped


@dataclass(frozen=True)
class HalfCodebook(Wrapped):
    """A program whose codebook is stored in float16 and widened first."""

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return self.program(ops, count, ops.cast(codebook, np.float32), *arrays)


@dataclass(frozen=True)
class Cast(Wrapped):
    """A program whose rows are cast to another type.

    Parameters
    ----------
    program : Program
        The inner program.
    dtype : dtype
        Type of the rows.
    """

    dtype: np.dtype[Any]

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return ops.cast(self.program(ops, count, codebook, *arrays), self.dtype)


@dataclass(frozen=True)
class LookUp(Wrapped):
    """A program that decodes row numbers; the last array is the table of the rows, the others are the program's own."""

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        *stored, _ = arrays
        return self.program.load_cost(stored)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        *stored, table = arrays
        return ops.gather(table, ops.cast(self.program(ops, count, codebook, *stored), np.int32))


def in_half(code: Code) -> Code | None:
    """The same code with its float32 codebook stored in float16; None if that is not exact."""
    with np.errstate(over="ignore"):
        half = code.codebook.astype(np.float16)
    if half.astype(np.float32).tobytes() != code.codebook.tobytes():
        return None
    return replace(code, program=HalfCodebook(code.program), codebook=half)


NARROW_TYPES = ("int4", "uint4")
"""Names of the types that ONNX Runtime casts to, but neither looks up nor reshapes."""


LARGEST_SINGLE_INTEGER = 1 << 24
"""Integers up to here are exact in float32, and every runtime casts them back to the same."""


def in_single(codebook: Array) -> npt.NDArray[np.float32] | None:
    """The codebook in float32; None if that is not exact."""
    if codebook.dtype.kind in "iu" and codebook.size:
        largest = max(int(codebook.max()), -int(codebook.min()))
        return codebook.astype(np.float32) if largest <= LARGEST_SINGLE_INTEGER else None
    with np.errstate(over="ignore", invalid="ignore"):
        single = codebook.astype(np.float32)
    return single if single.astype(codebook.dtype).tobytes() == codebook.tobytes() else None


def with_type(code: Code, dtype: np.dtype[Any]) -> Code:
    """The code with its float32 rows, or for `NARROW_TYPES` its float32 tensors, cast to ``dtype``."""
    if dtype.name in NARROW_TYPES:
        return replace(code, narrow=dtype)
    return code if dtype == np.float32 else replace(code, program=Cast(code.program, dtype))


OF_ANY_TYPE = ("constant", "radix", "huffman", "strides", "buckets", "tunstall")
"""Names of the encodings that do nothing with a codebook but look entries up. The others write them into zeros."""


def in_bytes(code: Code, dtype: np.dtype[Any]) -> tuple[Code, ...]:
    """A code of float32 scalars as one of ``dtype``, which has one byte.

    A codebook of bytes takes a quarter of the memory at every step from the look-up on, and of the file.

    Returns
    -------
    tuple of Code
        None if its codebook is stored in float16, which a codebook of bytes makes superfluous.
    """
    plain = code.codebook.dtype == np.float32 and not isinstance(code.program, Wrapped)
    if code.encoding not in OF_ANY_TYPE or dtype.name in NARROW_TYPES or dtype == np.bool_:
        return (with_type(code, dtype),)
    if plain:
        return (replace(code, codebook=code.codebook.astype(dtype)),)
    return () if isinstance(code.program, HalfCodebook) else (with_type(code, dtype),)


@dataclass(frozen=True, eq=False)
class RowTable:
    """A codebook of scalars that float32 does not hold, as a table of the rows that occur.

    Parameters
    ----------
    rows : ndarray (k,)
        Rows that occur, the most frequent one first.
    numbers : ndarray (n,), uint8, or uint16 if k > 256
        Number of each symbol's row.
    """

    rows: Array
    numbers: npt.NDArray[np.unsignedinteger]

    @classmethod
    def of(cls, symbols: npt.NDArray[np.unsignedinteger], codebook: Array) -> RowTable:
        counts = np.bincount(symbols, minlength=len(codebook))
        order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
        number = np.empty(len(codebook), np.min_scalar_type(order.size - 1))
        number[order] = np.arange(order.size)
        return cls(codebook[order], number[symbols])

    @property
    def codebook(self) -> npt.NDArray[np.float32]:
        """The codebook that encodings are given: the row numbers."""
        return np.arange(len(self.rows), dtype=np.float32)

    def looked_up(self, code: Code) -> Code:
        """The code of `numbers` with what looks up their rows."""
        return replace(code, program=LookUp(code.program), arrays=(*code.arrays, self.rows))
