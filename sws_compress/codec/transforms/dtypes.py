"""Tensors that are not float32.

Encodings know one type of codebook, float32. A tensor of another type is decoded as float32 and cast, where all its
codebook is exact in float32 (float16 and bfloat16 always are); else (float64) its codebook is looked up by numbers that
are decoded as float32, the most frequent value being number 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.codec.candidates import candidates
from sws_compress.codec.encodings.radix import encode_radix
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Wrapped
from sws_compress.errors import ArgumentError


@dataclass(frozen=True)
class Cast(Wrapped):
    """A program whose rows are cast to another type."""

    dtype: np.dtype[Any]

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        return ops.cast(self.program(ops, count, codebook, *arrays), self.dtype)


@dataclass(frozen=True)
class LookUp(Wrapped):
    """A program whose rows are numbers, looked up in one more array, the last."""

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        *stored, table = arrays
        return ops.gather(table, ops.cast(self.program(ops, count, codebook, *stored), np.int32))


def candidates_of_any_type(
    symbols: npt.NDArray[np.uint8], codebook: Array, cuts: Sequence[int] = (), limit: LoadCost | None = None
) -> tuple[Code, ...]:
    """`candidates` for a codebook (k,) or (k, d) of any floating-point type; decodes to that type, bit for bit.

    Raises ArgumentError as `candidates` does, and for vectors that are not exact in float32.
    """
    if codebook.dtype == np.float32:
        return candidates(symbols, codebook, cuts, limit)
    with np.errstate(over="ignore", invalid="ignore"):
        single = codebook.astype(np.float32)
        exact = single.astype(codebook.dtype).tobytes() == codebook.tobytes()
    if exact:
        codes = candidates(symbols, single, cuts, limit)
        return tuple(replace(code, program=Cast(code.program, codebook.dtype)) for code in codes)
    if codebook.ndim > 1:
        raise ArgumentError("codebook of vectors must be exact in float32, got other values: round it first")
    counts = np.bincount(symbols, minlength=len(codebook))
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    number = np.empty(len(codebook), np.uint8)
    number[order] = np.arange(order.size)
    codes = candidates(number[symbols], _numbers(order.size), cuts, limit)
    return tuple(_looked_up(code, codebook[order]) for code in codes)


def radix_of_any_type(symbols: npt.NDArray[np.uint8], codebook: Array) -> Code | None:
    """The radix code alone, in little time and memory, for a codebook of two rows or more of any floating-point type.

    None where a codebook is not exact in float32. Every row should be in use: none is dropped.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = codebook.astype(np.float32)
    if len(codebook) < 2 or single.astype(codebook.dtype).tobytes() != codebook.tobytes():
        return None
    code = encode_radix(symbols, single)
    return code if codebook.dtype == np.float32 else replace(code, program=Cast(code.program, codebook.dtype))


def _numbers(count: int) -> npt.NDArray[np.float32]:
    return np.arange(count, dtype=np.float32)


def _looked_up(code: Code, table: Array) -> Code:
    return replace(code, program=LookUp(code.program), arrays=(*code.arrays, table))
