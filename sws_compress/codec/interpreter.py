"""The vocabulary in which decoders are written, and its NumPy interpreter.

A decoder is one Python function over `ArrayOps`. Run with `NumpyOps`, it decodes. Run with an interpreter that records
ONNX nodes, it *writes* what decodes. Every operation is one standard ONNX operator of opset 13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

A = TypeVar("A")


class Vector(NamedTuple):
    """Length and type of a vector that `ArrayOps.compress` makes, known beforehand."""

    length: int
    dtype: type[np.generic]


class ArrayOps(Protocol[A]):
    """Array operations. ``A`` is an array for NumPy, and a value of the graph for ONNX.

    Integers that are divided are never negative, so truncation and floor agree.
    """

    def constant(self, array: Array) -> A:
        """A literal; equal literals are stored once."""

    def cast(self, values: A, dtype: npt.DTypeLike) -> A:
        """Values converted to another type."""

    def reshape(self, values: A, shape: A) -> A:
        """Values in another shape, int64 (rank,), which may hold one -1."""

    def gather(self, table: A, indices: A, axis: int = 0) -> A:
        """Slices of ``table`` along ``axis``. For axis 0 the shape is ``indices.shape + table.shape[1:]``."""

    def add(self, left: A, right: A) -> A:
        """Sum, broadcast."""

    def subtract(self, left: A, right: A) -> A:
        """Difference, broadcast."""

    def multiply(self, left: A, right: A) -> A:
        """Product, broadcast."""

    def divide(self, left: A, right: A) -> A:
        """Integer quotient, broadcast."""

    def modulo(self, left: A, right: A) -> A:
        """Remainder, broadcast."""

    def shift_right(self, left: A, right: A) -> A:
        """Bit shift of unsigned integers, broadcast."""

    def matmul(self, left: A, right: A) -> A:
        """Matrix product with NumPy's rules for one and three dimensions."""

    def matmul_bytes(self, left: A, right: A) -> A:
        """Matrix product of uint8 arrays, as int32."""

    def power(self, base: A, exponents: A) -> A:
        """Integers ``base ** exponents``, of one type, broadcast; no exponent is negative."""

    def cumulative_sum(self, values: A, *, exclusive: bool = False) -> A:
        """Running sum of a vector: up to each element, or up to the one before it."""

    def less(self, left: A, right: A) -> A:
        """Whether ``left`` is less than ``right``, broadcast."""

    def logical_not(self, mask: A) -> A:
        """Negation of a boolean array."""

    def where(self, mask: A, chosen: A, others: A) -> A:
        """``chosen`` where the mask holds, else ``others``; all of one shape."""

    def arange(self, start: A, stop: A, step: A) -> A:
        """The numbers start, start + step, ... below ``stop``; all three are scalars of one integer type."""

    def shape_of(self, values: A) -> A:
        """Shape of the values, int64 (rank,)."""

    def zeros(self, shape: A) -> A:
        """Zeros, float32."""

    def expand(self, values: A, shape: A) -> A:
        """Values broadcast to ``shape``."""

    def scatter(self, values: A, positions: A, updates: A) -> A:
        """A copy of the vector ``values`` with ``updates`` written at distinct ``positions``."""

    def positions_of_ones(self, bits: A, count: A) -> A:
        """Positions of the first ``count`` ones of a 0/1 vector, ascending, int64; ``count`` has shape (1,)."""

    def positions_of_largest(self, values: A, count: A) -> A:
        """Positions of the ``count`` largest of a vector, the largest first, equal ones ascending; int64."""

    def compress(self, values: A, mask: A) -> A:
        """Elements, in C order, where ``mask`` holds, a vector of as many."""

    def concat(self, parts: list[A]) -> A:
        """Vectors, end to end."""

    def split(self, values: A, sizes: A, parts: int) -> tuple[A, ...]:
        """Parts along the first axis, of the given ``sizes``, int64 (parts,)."""

    def first(self, values: A, count: A, *, axis: int = 0) -> A:
        """The first ``count`` slices along ``axis``; ``count`` is int64 (1,). -1 takes all but the last one."""

    def after(self, values: A, count: A) -> A:
        """All elements of a vector but the first ``count``, int64 (1,)."""

    def call(
        self, function: Callable[..., Any], *arguments: A, vectors: tuple[Vector | None, ...] = ()
    ) -> tuple[A, ...]:
        """``function(self, *arguments)`` as a sub-program that calls may share.

        Parameters
        ----------
        function : callable, hashable
            Returns one value or a tuple.
        *arguments
            What it is called with.
        vectors : tuple of (Vector or None)
            Describes each output whose length does not follow from the shapes of the arguments. None says that it
            follows, or that the output is not used.

        Returns
        -------
        tuple
            All outputs.
        """


class NumpyOps:
    """Runs a decoder on NumPy arrays, as ONNX defines the operators."""

    def constant(self, array: Array) -> Array:
        return array

    def cast(self, values: Array, dtype: npt.DTypeLike) -> Array:
        return values.astype(dtype)

    def reshape(self, values: Array, shape: Array) -> Array:
        return values.reshape(tuple(shape))

    def gather(self, table: Array, indices: Array, axis: int = 0) -> Array:
        slices: Array = np.take(table, indices, axis=axis)
        return slices

    def add(self, left: Array, right: Array) -> Array:
        return left + right

    def subtract(self, left: Array, right: Array) -> Array:
        return left - right

    def multiply(self, left: Array, right: Array) -> Array:
        return left * right

    def divide(self, left: Array, right: Array) -> Array:
        return left // right

    def modulo(self, left: Array, right: Array) -> Array:
        return left % right

    def shift_right(self, left: Array, right: Array) -> Array:
        return left >> right

    def matmul(self, left: Array, right: Array) -> Array:
        return left @ right

    def matmul_bytes(self, left: Array, right: Array) -> Array:
        return left.astype(np.int32) @ right.astype(np.int32)

    def power(self, base: Array, exponents: Array) -> Array:
        return base**exponents

    def cumulative_sum(self, values: Array, *, exclusive: bool = False) -> Array:
        sums = np.cumsum(values, dtype=values.dtype)
        return sums - values if exclusive else sums

    def less(self, left: Array, right: Array) -> Array:
        return left < right

    def logical_not(self, mask: Array) -> Array:
        return ~mask

    def where(self, mask: Array, chosen: Array, others: Array) -> Array:
        return np.where(mask, chosen, others)

    def arange(self, start: Array, stop: Array, step: Array) -> Array:
        return np.arange(start.item(), stop.item(), step.item(), dtype=stop.dtype)

    def shape_of(self, values: Array) -> Array:
        return np.array(values.shape, np.int64)

    def zeros(self, shape: Array) -> Array:
        return np.zeros(tuple(shape), np.float32)

    def expand(self, values: Array, shape: Array) -> Array:
        return np.broadcast_to(values, tuple(shape)).copy()

    def scatter(self, values: Array, positions: Array, updates: Array) -> Array:
        result = values.copy()
        result[positions] = updates
        return result

    def positions_of_ones(self, bits: Array, count: Array) -> Array:
        return np.flatnonzero(bits)[: count.item()]

    def positions_of_largest(self, values: Array, count: Array) -> Array:
        return np.argsort(-values, kind="stable")[: count.item()]

    def compress(self, values: Array, mask: Array) -> Array:
        return values.reshape(-1)[mask]

    def concat(self, parts: list[Array]) -> Array:
        return np.concatenate(parts)

    def split(self, values: Array, sizes: Array, parts: int) -> tuple[Array, ...]:
        return tuple(np.split(values, np.cumsum(sizes)[:-1]))

    def first(self, values: Array, count: Array, *, axis: int = 0) -> Array:
        return np.moveaxis(np.moveaxis(values, axis, 0)[: count.item()], 0, axis)

    def after(self, values: Array, count: Array) -> Array:
        return values[count.item() :]

    def call(
        self, function: Callable[..., Any], *arguments: Array, vectors: tuple[Vector | None, ...] = ()
    ) -> tuple[Array, ...]:
        result = function(self, *arguments)
        return result if isinstance(result, tuple) else (result,)
