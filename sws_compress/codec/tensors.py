"""From codebook rows to tensors of their shapes: one tensor a code, or several that share a stream and a codebook."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sws_compress.codec.code import Code, Program
from sws_compress.codec.ops import A, Array, ArrayOps


@dataclass(frozen=True)
class Unpack:
    """A program followed by Split and Reshape.

    Called with the codebook, the arrays of the code, then: the shape of a lone tensor, or the sizes of all members and
    the shapes of those marked in ``reshaped``. ``row_count`` is the number of rows where a row is a vector.
    """

    program: Program
    reshaped: tuple[bool, ...]
    row_count: int | None

    def __call__(self, ops: ArrayOps[A], codebook: A, *arrays: A) -> tuple[A, ...]:
        lone = len(self.reshaped) == 1
        extra = 1 if lone else 1 + sum(self.reshaped)
        stored, tail = arrays[: len(arrays) - extra], list(arrays[len(arrays) - extra :])
        if self.row_count is not None:
            count = ops.constant(np.array([self.row_count], np.int64))
        elif lone:
            count = ops.product(tail[0]) if self.reshaped[0] else tail[0]
        else:
            count = ops.total(tail[0])
        rows = self.program(ops, count, codebook, *stored)
        if lone:
            return (ops.reshape(rows, tail[0]) if self.reshaped[0] else rows,)
        shapes = iter(tail[1:])
        parts = ops.split(rows, tail[0], len(self.reshaped))
        return tuple(
            ops.reshape(part, next(shapes)) if reshaped else part
            for part, reshaped in zip(parts, self.reshaped, strict=True)
        )


def unpack(ops: ArrayOps[A], code: Code, shapes: tuple[tuple[int, ...], ...]) -> tuple[A, ...]:
    """The tensors of ``shapes`` that lie end to end, in C order, in the rows of ``code``; vectors only lone."""
    vectors = code.codebook.ndim > 1
    reshaped = tuple(len(shape) != 1 or vectors for shape in shapes)
    tail: list[Array] = []
    if len(shapes) > 1:
        tail.append(np.array([math.prod(shape) for shape in shapes], np.int64))
    tail += [np.array(shape, np.int64) for shape, wanted in zip(shapes, reshaped, strict=True) if wanted or not tail]
    program = Unpack(code.program, reshaped, code.count if vectors else None)
    handles = map(ops.constant, (code.codebook, *code.arrays, *tail))
    return ops.call(program, *handles) if code.program.shareable else program(ops, *handles)
