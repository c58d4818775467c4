"""From codebook rows to tensors of their shapes: one tensor a code, or several that share a stream and a codebook."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.code import Code, Program
from sws_compress.codec.masks import slice_numbers, worthwhile_masks
from sws_compress.codec.ops import A, Array, ArrayOps
from sws_compress.codec.widths import candidates_of_any_type


def tensor_candidates(members: Sequence[npt.NDArray[np.uint8]], codebook: Array) -> tuple[Code, ...]:
    """Every applicable code of tensors of symbols that lie end to end, as they are and without their dead slices.

    ``members``: uint8, of any shapes; for a codebook of vectors one of its rows is one symbol. Errors as in
    `candidates`.
    """
    plain = candidates_of_any_type(_joined(members), codebook, _cuts(members))
    masks = [worthwhile_masks(member) if codebook.ndim == 1 else None for member in members]
    if not any(masks):
        return plain
    compact = [mask.compact(member) if mask else member for mask, member in zip(masks, members, strict=True)]
    masked = candidates_of_any_type(_joined(compact), codebook, _cuts(compact))
    return plain + tuple(replace(code, masks=tuple(masks)) for code in masked)


def _joined(members: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    return np.concatenate([member.reshape(-1) for member in members]) if len(members) > 1 else members[0].reshape(-1)


def _cuts(members: Sequence[npt.NDArray[np.uint8]]) -> list[int]:
    return list(itertools.accumulate(member.size for member in members))[:-1]


@dataclass(frozen=True)
class Unpack:
    """A program followed by Split, Reshape, and the Gathers that undo masks.

    Called with the codebook, the arrays of the code, the sizes of all members if they are several, and of every member
    its shape if it is ``reshaped`` (or lone) and the arrays of its masks along the axes ``masked``. ``row_count`` is
    the number of rows where a row is a vector.
    """

    program: Program
    reshaped: tuple[bool, ...]
    masked: tuple[tuple[int, ...], ...]
    row_count: int | None

    def __call__(self, ops: ArrayOps[A], codebook: A, *arrays: A) -> tuple[A, ...]:
        lone = len(self.reshaped) == 1
        extra = 1 if lone else 1 + sum(self.reshaped)
        extra += 2 * sum(map(len, self.masked))
        stored, tail = arrays[: len(arrays) - extra], list(arrays[len(arrays) - extra :])
        if self.row_count is not None:
            count = ops.constant(np.array([self.row_count], np.int64))
        elif lone:
            count = ops.product(tail[0]) if self.reshaped[0] else tail[0]
        else:
            count = ops.total(tail[0])
        rows = self.program(ops, count, codebook, *stored)
        if lone and not self.reshaped[0]:
            return (rows,)
        parts = (rows,) if lone else ops.split(rows, tail.pop(0), len(self.reshaped))
        return tuple(map(self._shaped, [ops] * len(parts), parts, self.reshaped, self.masked, [tail] * len(parts)))

    def _shaped(self, ops: ArrayOps[A], part: A, reshaped: bool, axes: tuple[int, ...], tail: list[A]) -> A:
        """Takes what it needs from the front of ``tail``."""
        if reshaped:
            part = ops.reshape(part, tail.pop(0))
        for axis in axes:
            (numbers,) = ops.call(slice_numbers, tail.pop(0), tail.pop(0))
            part = ops.gather(part, numbers, axis)
        return part


def unpack(ops: ArrayOps[A], code: Code, shapes: tuple[tuple[int, ...], ...]) -> tuple[A, ...]:
    """The tensors of ``shapes`` that lie end to end, in C order, in the rows of ``code``; vectors only lone."""
    vectors = code.codebook.ndim > 1
    masks = code.masks or (None,) * len(shapes)
    compact = tuple(mask.compact_shape(shape) if mask else shape for mask, shape in zip(masks, shapes, strict=True))
    reshaped = tuple(len(shape) != 1 or vectors for shape in shapes)
    tail: list[Array] = []
    if len(shapes) > 1:
        tail.append(np.array([math.prod(shape) for shape in compact], np.int64))
    for shape, wanted, mask in zip(compact, reshaped, masks, strict=True):
        if wanted or not tail:
            tail.append(np.array(shape, np.int64))
        tail += mask.arrays if mask else ()
    axes = tuple(mask.axes if mask else () for mask in masks)
    program = Unpack(code.program, reshaped, axes, code.count if vectors else None)
    handles = map(ops.constant, (code.codebook, *code.arrays, *tail))
    return ops.call(program, *handles) if code.program.shareable else program(ops, *handles)
