"""From codebook rows to tensors of their shapes: one tensor a code, or several that share a stream and a codebook."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import flat_bits, pack_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Program
from sws_compress.codec.transforms.dead_slices import numbered_masks, shared_masks, slice_numbers, worthwhile_masks
from sws_compress.codec.transforms.dtypes import candidates_of_any_type
from sws_compress.codec.transforms.scales import Scales
from sws_compress.errors import ArgumentError

_CAST_BYTES = 16
"""What one more node takes in the file."""


def tensor_candidates(
    members: Sequence[npt.NDArray[np.uint8]], codebook: Array, limit: LoadCost | None = None
) -> tuple[Code, ...]:
    """Every applicable code of tensors of symbols that lie end to end, as they are and without their dead slices.

    ``members``: uint8, of any shapes; for a codebook of vectors one of its rows is one symbol. ``limit``, and errors,
    as in `candidates`.
    """
    plain = candidates_of_any_type(_joined(members), codebook, _cuts(members), limit)
    masks = [worthwhile_masks(member) if codebook.ndim == 1 else None for member in members]
    if not any(masks):
        return plain
    if len(members) > 1:  # the units that one layer lacks are those that the next one does not read
        known = {live.tobytes() for mask in masks if mask for _, live in mask.live}
        masks = [worthwhile_masks(member, known) for member in members]
    masks = shared_masks(members, masks)
    compact = [mask.compact(member) if mask else member for mask, member in zip(masks, members, strict=True)]
    masked = candidates_of_any_type(_joined(compact), codebook, _cuts(compact), limit)
    return plain + tuple(replace(code, masks=tuple(masks)) for code in masked)


def _joined(members: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    return np.concatenate([member.reshape(-1) for member in members]) if len(members) > 1 else members[0].reshape(-1)


def _cuts(members: Sequence[npt.NDArray[np.uint8]]) -> list[int]:
    return list(itertools.accumulate(member.size for member in members))[:-1]


@dataclass(frozen=True)
class Member:
    """One tensor of a stream: whether it is reshaped, and its masks, each an axis with the number of the mask."""

    reshaped: bool
    masks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Unpack:
    """A program followed by Split, Reshape, and the Gathers that undo masks.

    Called with the codebook, the arrays of the code, then: the number of rows; the sizes of all members if they are
    several; the shape of every member that is ``reshaped``; and, if there are masks, the sizes of ``bit_parts`` parts
    in which their bits are cut: the stream of a program that reads bits (its array then holds the masks as well), the
    masks, unused bits. Where the program reads no bits, those of the masks are one more array, in front of the sizes.
    """

    program: Program
    members: tuple[Member, ...]
    bit_parts: int

    def __call__(self, ops: ArrayOps[A], codebook: A, *arrays: A) -> tuple[A, ...]:
        lone, stream = len(self.members) == 1, self.program.bit_stream
        extra = 1 + (not lone) + sum(member.reshaped for member in self.members)
        extra += (1 if stream is not None else 2) if self.bit_parts else 0
        stored, (count, *tail) = list(arrays[: len(arrays) - extra]), arrays[len(arrays) - extra :]
        live: list[A] = []
        if stream is not None:
            stored[stream] = flat_bits(ops, stored[stream])
            if self.bit_parts:
                stored[stream], *live = ops.split(stored[stream], tail.pop(), self.bit_parts)
        elif self.bit_parts:
            live = list(ops.split(flat_bits(ops, tail[-2]), tail[-1], self.bit_parts))
        rows = self.program(ops, count, codebook, *stored)
        parts = (rows,) if lone else ops.split(rows, tail.pop(0), len(self.members))
        return self._shaped(ops, parts, live, iter(tail))

    def _shaped(self, ops: ArrayOps[A], parts: Sequence[A], live: Sequence[A], shapes: Iterator[A]) -> tuple[A, ...]:
        used = sorted({number for member in self.members for _, number in member.masks})
        numbers = {number: ops.call(slice_numbers, live[number])[0] for number in used}
        tensors = []
        for part, member in zip(parts, self.members, strict=True):
            tensor = ops.reshape(part, next(shapes)) if member.reshaped else part
            for axis, number in member.masks:
                tensor = ops.gather(tensor, numbers[number], axis)
            tensors.append(tensor)
        return tuple(tensors)


def unpack(ops: ArrayOps[A], code: Code, shapes: tuple[tuple[int, ...], ...]) -> tuple[A, ...]:
    """The tensors of ``shapes`` that lie end to end, in C order, in the rows of ``code``; vectors only lone."""
    vectors = code.codebook.ndim > 1
    masks = code.masks or (None,) * len(shapes)
    compact = [mask.compact_shape(shape) if mask else shape for mask, shape in zip(masks, shapes, strict=True)]
    different, numbers = numbered_masks(masks)
    members = tuple(Member(len(shape) != 1 or vectors, number) for shape, number in zip(shapes, numbers, strict=True))
    arrays: list[Array] = list(code.arrays)
    tail: list[Array] = [np.array([code.count], np.int64)]
    if len(shapes) > 1:
        tail.append(np.array([math.prod(shape) for shape in compact], np.int64))
    tail += [np.array(shape, np.int64) for shape, member in zip(compact, members, strict=True) if member.reshaped]
    sizes = [live.size for live in different]
    if different:
        bits = pack_bits(np.concatenate(different).astype(np.uint8))
        sizes += [unused] if (unused := -sum(sizes) % 8) else []
        if (stream := code.program.bit_stream) is not None:
            sizes.insert(0, 8 * arrays[stream].size)
            arrays[stream] = np.concatenate([arrays[stream], bits])
        else:
            tail.append(bits)
        tail.append(np.array(sizes, np.int64))
    program = Unpack(code.program, members, len(sizes))
    handles = map(ops.constant, (code.codebook, *arrays, *tail))
    tensors = ops.call(program, *handles) if code.program.shareable else program(ops, *handles)
    return tensors if code.scales is None else (_scaled(ops, tensors[0], code.scales),)


def _scaled(ops: ArrayOps[A], tensor: A, scales: Scales) -> A:
    """Outside of what tensors share: so the graph shows the tensor before it is scaled, and by what."""
    factors = ops.constant(scales.factors)
    if scales.factors.dtype != np.float32:
        factors = ops.cast(factors, np.float32)
    product = ops.multiply(tensor, factors)
    return product if scales.dtype == np.float32 else ops.cast(product, scales.dtype)


def scaled_candidates(
    symbols: npt.NDArray[np.uint8], codebook: Array, factors: Array, limit: LoadCost | None = None
) -> tuple[Code, ...]:
    """`tensor_candidates` of one tensor of the codebook's type that is multiplied by float32 ``factors``.

    They broadcast to its shape. Products are of float32; raises ArgumentError where the codebook is not exact in it.
    """
    scales = stored_scales(factors, codebook.dtype)
    codes = tensor_candidates([symbols], in_single(codebook), limit)
    return tuple(replace(code, scales=scales) for code in codes)


def stored_scales(factors: Array, dtype: np.dtype[Any]) -> Scales:
    """For a tensor of type ``dtype``; in float16 where they are exact in it and that saves more than a Cast takes."""
    with np.errstate(over="ignore"):
        half = factors.astype(np.float16)
    exact = half.astype(np.float32).tobytes() == factors.tobytes()
    return Scales(half if exact and factors.nbytes - half.nbytes > _CAST_BYTES else factors, dtype)


def in_single(codebook: Array) -> Array:
    """The codebook in float32; ArgumentError where it is not exact in it."""
    with np.errstate(over="ignore"):
        single = codebook.astype(np.float32)
    if single.astype(codebook.dtype).tobytes() != codebook.tobytes():
        raise ArgumentError("codebook with scales must be exact in float32, got other values: round it first")
    return single
