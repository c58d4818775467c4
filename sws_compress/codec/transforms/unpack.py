"""Codebook rows to tensors: one tensor a code, or several that share a stream and a codebook."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import flat_bits, pack_bits
from sws_compress.codec.candidates import candidates, radix_candidate
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.program import Code, Program
from sws_compress.codec.transforms.dead_slices import numbered_masks, shared_masks, slice_numbers, worthwhile_masks
from sws_compress.codec.transforms.dtypes import in_single
from sws_compress.codec.transforms.scales import Scales
from sws_compress.errors import ArgumentError


def tensor_candidates(
    members: Sequence[npt.NDArray[np.unsignedinteger]],
    codebook: Array,
    limit: LoadCost | None = None,
    *,
    factors: npt.NDArray[np.float32] | None = None,
) -> tuple[Code, ...]:
    """Every code of tensors that lie end to end, as they are and without their dead slices.

    Parameters
    ----------
    members : sequence of ndarray, uint8 or uint16, of any shapes
        Symbols of each tensor. With a codebook of vectors, each symbol is one of its rows.
    codebook : ndarray (k,) or (k, d), floating point
        Value of each symbol, in the type of the tensors.
    limit : LoadCost, optional
        What decoding may cost, as for `candidates`.
    factors : ndarray, float32, optional
        Scales of the tensor, in a shape that broadcasts to its own; only for a tensor that is alone. Products are
        computed in float32.

    Returns
    -------
    tuple of Code
        `unpack` makes the tensors from any of them.

    Raises
    ------
    ArgumentError
        As for `candidates`, or if there are factors and the codebook is not exact in float32.
    """
    if factors is not None:
        scales = Scales.stored(factors, codebook.dtype)
        codes = tensor_candidates(members, _scaled_codebook(codebook), limit)
        return tuple(replace(code, scales=scales) for code in codes)
    plain = candidates(_joined(members), codebook, _cuts(members), limit)
    masks = [worthwhile_masks(member) if codebook.ndim == 1 else None for member in members]
    if not any(masks):
        return plain
    if len(members) > 1:  # the units that one layer lacks are those that the next one does not read
        known = {live.tobytes() for mask in masks if mask for _, live in mask.live}
        masks = [worthwhile_masks(member, known) for member in members]
    masks = shared_masks(members, masks)
    compact = [mask.compact(member) if mask else member for mask, member in zip(masks, members, strict=True)]
    masked = candidates(_joined(compact), codebook, _cuts(compact), limit)
    return plain + tuple(replace(code, masks=tuple(masks)) for code in masked)


def radix_tensor(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array, *, factors: npt.NDArray[np.float32] | None = None
) -> Code | None:
    """The radix code of one tensor, for tensors so large that making every code would take too long.

    Parameters
    ----------
    symbols, codebook
        As for `radix_candidate`.
    factors : ndarray, float32, optional
        Scales of the tensor, as for `tensor_candidates`.

    Returns
    -------
    Code or None
        As `radix_candidate`.

    Raises
    ------
    ArgumentError
        If there are factors and the codebook is not exact in float32.
    """
    if factors is None:
        return radix_candidate(symbols, codebook)
    code = radix_candidate(symbols, _scaled_codebook(codebook))
    return None if code is None else replace(code, scales=Scales.stored(factors, codebook.dtype))


def _scaled_codebook(codebook: Array) -> npt.NDArray[np.float32]:
    """The codebook of a tensor with scales, which is decoded in float32 whatever the tensor's type."""
    if (single := in_single(codebook)) is None:
        raise ArgumentError("codebook with scales must be exact in float32, got other values: round it first")
    return single


def _joined(members: Sequence[npt.NDArray[np.unsignedinteger]]) -> npt.NDArray[np.unsignedinteger]:
    return np.concatenate([member.reshape(-1) for member in members]) if len(members) > 1 else members[0].reshape(-1)


def _cuts(members: Sequence[npt.NDArray[np.unsignedinteger]]) -> list[int]:
    return list(itertools.accumulate(member.size for member in members))[:-1]


@dataclass(frozen=True)
class Member:
    """One tensor of a stream.

    Parameters
    ----------
    reshaped : bool
        Whether it has another shape than the rows.
    masks : tuple of (int, int)
        Masked axes, each with the number of its mask.
    """

    reshaped: bool
    masks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Unpack:
    """A program, followed by the Split, the Reshapes and the Gathers that make tensors of its rows.

    It is called with the codebook, the arrays of the code, and then:

    - the number of rows;
    - the sizes of all members, if there are several;
    - the shape of every member that is ``reshaped``;
    - if there are masks, the sizes of the parts into which the bits are cut: the stream of a program that reads bits,
      the masks, unused bits. The array of that program then holds the bits of the masks as well. Those of a program
      that reads no bits are one more array, in front of the sizes.

    Parameters
    ----------
    program : Program
        What decodes the rows.
    members : tuple of Member
        The tensors, in order.
    bit_parts : int
        Number of parts into which the bits are cut; 0 if there are no masks.
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
    """The tensors that a code holds.

    Parameters
    ----------
    ops : ArrayOps
        Decodes, or writes down what decodes.
    code : Code
        A code of the tensors end to end, each in C order, as `tensor_candidates` makes it.
    shapes : tuple of tuple of int
        Shape of every tensor. There is only one if the codebook holds vectors or the code has scales.

    Returns
    -------
    tuple
        The tensors, in order, each of its shape.
    """
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
    if code.narrow is not None:
        return tuple(ops.cast(tensor, code.narrow) for tensor in tensors)
    return tensors if code.scales is None else (code.scales.applied(ops, tensors[0]),)
