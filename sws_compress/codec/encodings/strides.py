"""Prefix codes read several bits at a time.

Level planes (`huffman`) ask every unfinished symbol after every bit whether it is finished, and what a runtime computes
for that stays in memory until loading is done. Here the lengths are *depths* d_0 < d_1 < .., and plane j holds, of
every symbol whose code is longer than d_(j-1) bits, the next d_j - d_(j-1) bits as one number. Symbols finished after
plane 0 stay where they are; only of the others the positions are kept. With few depths, well chosen, most symbols are
finished then, at the cost of about one percent in bits; with those of an optimal code there are more planes.

Codes are canonical with the shorter ones first. As in `huffman` all that is kept of a symbol is the *rank* s of its
node among the leaves passed so far and the nodes of its level. With t leaves passed, a number b of e bits leads from an
inner node to the node of rank 2^e (s - t) + t + b, which is a leaf, and s its symbol's rank in code order, where it is
below the number of leaves passed down to there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import pack_bits
from sws_compress.codec.interpreter import A, Array, ArrayOps, Vector
from sws_compress.codec.numbers import Bits, Numbers, decode_head, encode_head
from sws_compress.codec.prefix import canonical_codes, code_lengths, few_lengths
from sws_compress.codec.program import Code, Operators

_WIDEST = 8
"""Bits of a number at most."""


@dataclass(frozen=True)
class Level:
    """What one plane leads to.

    ``bits`` of each number; ``leaves``: cumulative down to here; ``nodes``: these and the inner nodes here;
    ``finished`` and ``unfinished``: symbols after it.
    """

    bits: int
    leaves: int
    nodes: int
    finished: int
    unfinished: int


@dataclass(frozen=True)
class Strides:
    """Walks the unfinished symbols from depth to depth.

    Arrays: plane 0 as `encode_head` makes it; the bits of all other planes as bytes (b, 1), of each plane the lowest
    bits of all its numbers, then the next; the sizes of these planes in bits.
    """

    levels: tuple[Level, ...]
    planes: int
    encoding = "strides"
    shareable = False
    bit_stream = None

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        head, stored, sizes = arrays
        first, total = self.levels[0], self.levels[0].finished + self.levels[0].unfinished
        ranks = decode_head(ops, head, first.bits, total)
        start = ops.arange(*_integers(ops, 0, total, 1))
        nodes, positions = ranks, start
        if first.finished:
            vector = Vector(first.unfinished, np.int32)
            nodes, positions = ops.call(
                _unfinished, ranks, start, *_integers(ops, first.leaves - 1), vectors=(vector, vector)
            )
        (bits,) = ops.call(Bits(), stored)
        planes = ops.split(bits, sizes, self.planes) if self.planes > 1 else (bits,)
        done: list[tuple[A, A]] = []
        for before, level, plane in zip(self.levels, self.levels[1:], planes, strict=False):
            nodes = _deeper(ops, nodes, plane, before, level)
            if level.finished and level.unfinished:
                lengths = (level.finished, level.finished, level.unfinished, level.unfinished)
                vectors = tuple(Vector(length, np.int32) for length in lengths)
                parted = ops.call(_parted, nodes, positions, *_integers(ops, level.leaves), vectors=vectors)
                done.append((parted[0], parted[1]))
                nodes, positions = parted[2:]
        done.append((nodes, positions))
        found, where = (ops.concat([part[i] for part in done]) if len(done) > 1 else done[0][i] for i in (0, 1))
        return ops.gather(codebook, ops.scatter(ranks, where, found))


def _integers(ops: ArrayOps[A], *numbers: int) -> list[A]:
    return [ops.constant(np.array(number, np.int32)) for number in numbers]


def _deeper(ops: ArrayOps[A], nodes: A, plane: A, before: Level, level: Level) -> A:
    """Ranks one level down; what does not depend on the numbers is read from a table over all ranks there are."""
    step = 1 << level.bits
    origin = before.leaves - step * before.leaves
    return ops.call(_Deeper(level.bits), nodes, plane, *_integers(ops, origin, origin + step * before.nodes, step))[0]


@dataclass(frozen=True)
class _Deeper:
    bits: int

    def __call__(self, ops: ArrayOps[A], nodes: A, plane: A, origin: A, end: A, step: A) -> A:
        (numbers,) = ops.call(Numbers(self.bits), plane)
        return ops.add(ops.gather(ops.arange(origin, end, step), nodes), numbers)


def _unfinished(ops: ArrayOps[A], nodes: A, positions: A, last_leaf: A) -> tuple[A, A]:
    mask = ops.less(last_leaf, nodes)
    return ops.compress(nodes, mask), ops.compress(positions, mask)


def _parted(ops: ArrayOps[A], nodes: A, positions: A, leaves: A) -> tuple[A, ...]:
    """Ranks and positions of the finished symbols, then those of the others."""
    finished = ops.less(nodes, leaves)
    masks = (finished, ops.logical_not(finished))
    return tuple(ops.compress(values, mask) for mask in masks for values in (nodes, positions))


def encode_strides(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, *, near: float | None) -> Code | None:
    """Encode n symbols, uint8 or uint16 (n,), two or more distinct; the codebook is re-ordered and cut to them.

    ``near``: few depths, with at most so many times the entropy, or None where that is not found; without it the depths
    of an optimal code. None also where all codes are of one length: radix words do that.
    """
    counts = np.bincount(symbols, minlength=len(codebook))
    lengths = code_lengths(counts) if near is None else few_lengths(counts, _WIDEST, near)
    if lengths is None or np.unique(lengths[lengths > 0]).size == 1:
        return None
    order = np.lexsort((np.arange(counts.size), lengths))[np.count_nonzero(lengths == 0) :]
    rank_of = np.zeros(counts.size, symbols.dtype)
    rank_of[order] = np.arange(order.size)
    levels, planes = _planes(rank_of[symbols], lengths[order])
    rest = [numbers >> j & 1 for numbers, level in zip(planes[1:], levels[1:], strict=True) for j in range(level.bits)]
    sizes = [numbers.size * level.bits for numbers, level in zip(planes[1:], levels[1:], strict=True)]
    if padding := -sum(sizes) % 8:
        sizes.append(padding)
    head = encode_head(planes[0], levels[0].bits)
    arrays = (head, pack_bits(np.concatenate(rest)), np.array(sizes, np.int64))
    return Code(Strides(tuple(levels), len(sizes)), symbols.size, codebook[order], arrays, (0, 1))


def _planes(
    ranks: npt.NDArray[np.unsignedinteger], lengths: npt.NDArray[np.int64]
) -> tuple[list[Level], list[npt.NDArray[np.uint8]]]:
    """Levels, and the numbers of their planes; ``lengths`` of the codes, ascending."""
    codes, levels, planes, depth = canonical_codes(lengths), list[Level](), [], 0
    for deeper in _depths(lengths):
        bits = deeper - depth
        of_rank = codes >> np.maximum(lengths - deeper, 0) & (1 << bits) - 1
        planes.append(of_rank.astype(np.uint8)[ranks])
        leaves = int(np.sum(lengths <= deeper))
        inner = np.unique(codes[leaves:] >> lengths[leaves:] - deeper).size
        before = ranks.size
        ranks = ranks[ranks >= leaves]
        levels.append(Level(bits, leaves, leaves + inner, before - ranks.size, ranks.size))
        depth = deeper
    return levels, planes


def _depths(lengths: npt.NDArray[np.int64]) -> list[int]:
    """The lengths that occur, and others between them where they are too far apart."""
    depths = [0]
    for length in np.unique(lengths).tolist():
        while length - depths[-1] > _WIDEST:
            depths.append(depths[-1] + _WIDEST)
        depths.append(length)
    return depths[1:]


class StridesEncoding:
    """Prefix codes read several bits at a time."""

    def recognise(self, operators: Operators) -> str | None:
        """Finished symbols are scattered, as in `huffman`, but several tables are made with ``Range``.

        There is one for the positions, one for the bits of a byte, and one for each width of numbers after plane 0.
        """
        found = operators["ScatterElements"] and operators["Range"] > 1 and not operators["TopK"]
        return Strides.encoding if found else None
