"""Prefix codes read several bits at a time.

Level planes (`huffman`) ask every unfinished symbol after every bit whether it is finished, and what a runtime computes
for that stays in memory until loading is done. Here the code lengths are few *depths* d_0 < d_1 < .., and plane j holds
the next d_j - d_(j-1) bits of every symbol whose code is longer than d_(j-1) bits, as one number. Symbols that are
finished after plane 0 stay where they are; positions are kept only for the others. With few depths, well chosen, most
symbols are finished then, for about one percent more bits. The depths of an optimal code take more planes.

Codes are canonical, the shorter ones first. As in `huffman`, all that is kept of a symbol is the *rank* s of its node
among the leaves passed so far and the nodes of its level. With t leaves passed, a number b of e bits leads from an
inner node to the node of rank 2^e (s - t) + t + b. If that is below the number of leaves passed down to there, the node
is a leaf, and s is its symbol's rank in code order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import pack_bits
from sws_compress.codec.encodings.blocks import encode_blocks
from sws_compress.codec.interpreter import A, Array, ArrayOps, Vector
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.numbers import Bits, Numbers, decode_head, encode_head, head_bytes
from sws_compress.codec.prefix import canonical_codes, code_lengths, few_lengths
from sws_compress.codec.program import Code, Operators, SymbolSequence, made

ENTROPY_RATIOS = (None, 1.011, 1.015)
"""Bits of a code over the entropy that are tried: None takes as few bits as possible, more bits take less memory."""

WIDE_ENTROPY_RATIOS = (1.03, 1.06, 1.1)
"""The same, one after the other, as long as loading costs too much. Alphabets with long tails have no nearer code of
few depths: an embedding of 72 values takes 1.043 times its entropy, and half the memory of the code with 1.029. The
radix words that it would get take 1.65 times the entropy."""

_SHORTEST_SEQUENCE_SYMBOLS = 1 << 14
"""Length from which the bytes of the decoder, about a kilobyte, can pay: below, words take one bit more at most."""

_MOST_BITS_PER_NUMBER = 8
"""Numbers are bytes."""

_NANOSECONDS_PER_NUMBER = 90.0
"""Time to read a number of plane 0, and to write its symbol."""

_NANOSECONDS_PER_VISIT = 70.0
"""Time to read a number of another plane. A symbol is visited once in each plane."""

_BYTES_PER_SYMBOL = 9.0
"""Memory of a symbol beside its number in plane 0: a position, whether it is finished, and the result."""

_BYTES_PER_UNFINISHED_SYMBOL = 16.0
"""Memory of a symbol that is not finished after plane 0: rank and position, kept apart and put back."""

_BYTES_PER_VISIT = 26.0
"""Memory of a number of another plane, beside its bits."""

_BYTES_PER_BIT = 3.5
"""Memory of a bit of another plane."""


@dataclass(frozen=True)
class Level:
    """What one plane leads to.

    Parameters
    ----------
    bits : int
        Bits of each number of the plane.
    leaves : int
        Number of leaves down to here.
    nodes : int
        Number of these and of the inner nodes here.
    finished, unfinished : int
        Number of symbols whose code ends here, and of those whose code is longer.
    """

    bits: int
    leaves: int
    nodes: int
    finished: int
    unfinished: int

    @property
    def visits(self) -> int:
        """Number of symbols that have a number in the plane."""
        return self.finished + self.unfinished


@dataclass(frozen=True)
class Strides:
    """Walks the unfinished symbols from depth to depth.

    Arrays: plane 0 as `encode_head` makes it; the bits of all other planes as bytes (b, 1), those of each plane as the
    lowest bits of all its numbers, then the next; the sizes of these planes in bits.

    Parameters
    ----------
    levels : tuple of Level
        One for each depth.
    planes : int
        Number of sizes: one for each plane after plane 0, and one for unused bits if there are any.
    """

    levels: tuple[Level, ...]
    planes: int
    encoding = "strides"
    shareable = False
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        first, *others = self.levels
        visits = sum(level.visits for level in others)
        bits = sum(level.bits * level.visits for level in others)
        return LoadCost(
            1e-9 * (_NANOSECONDS_PER_NUMBER * first.visits + _NANOSECONDS_PER_VISIT * visits),
            (head_bytes(first.bits) + _BYTES_PER_SYMBOL) * first.visits
            + _BYTES_PER_UNFINISHED_SYMBOL * first.unfinished
            + _BYTES_PER_VISIT * visits
            + _BYTES_PER_BIT * bits,
        )

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        head, stored, sizes = arrays
        first, total = self.levels[0], self.levels[0].visits
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
    """Ranks one level down; a table over all ranks holds what does not depend on the numbers."""
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


class StridesEncoding:
    """Prefix codes read several bits at a time, of symbols and of blocks of them."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        if sequence.is_constant or sequence.symbols.size < _SHORTEST_SEQUENCE_SYMBOLS:
            return
        found: list[Code] = []
        for ratio in ENTROPY_RATIOS:
            encode = partial(encode_strides, entropy_ratio=ratio)
            if sequence.is_scalar:
                found += made(encode_blocks(sequence.symbols, sequence.codebook, encode))
            found += made(encode(sequence.symbols, sequence.codebook))
        for ratio in WIDE_ENTROPY_RATIOS:
            if sequence.limit is None or any(code.load_cost.within(sequence.limit) for code in found):
                break
            found += made(encode_strides(sequence.symbols, sequence.codebook, entropy_ratio=ratio))
        yield from found

    def recognise(self, operators: Operators) -> str | None:
        """Finished symbols are scattered, as in `huffman`, but several tables are made with ``Range``.

        There is one for the positions, one for the bits of a byte, and one for each width of numbers after plane 0.
        """
        found = operators["ScatterElements"] and operators["Range"] > 1 and not operators["TopK"]
        return Strides.encoding if found else None


def encode_strides(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array, *, entropy_ratio: float | None
) -> Code | None:
    """Encode symbols with a prefix code of few depths, or with an optimal one.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        At least two different ones.
    codebook : ndarray (k,) or (k, d)
        Value of each symbol. That of the code is put in the order of the codes and cut to the symbols that occur.
    entropy_ratio : float or None
        Few depths, with at most so many times the bits of the entropy; None takes the depths of an optimal code.

    Returns
    -------
    Code or None
        None if no code is within the ratio, or if all codes have one length: radix words do the same.
    """
    counts = np.bincount(symbols, minlength=len(codebook))
    lengths = (
        code_lengths(counts) if entropy_ratio is None else few_lengths(counts, _MOST_BITS_PER_NUMBER, entropy_ratio)
    )
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
    """Levels, and the numbers of their planes, for codes of ascending ``lengths``."""
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
    """The lengths that occur, and others between them if they are further apart than a number has bits."""
    depths = [0]
    for length in np.unique(lengths).tolist():
        while length - depths[-1] > _MOST_BITS_PER_NUMBER:
            depths.append(depths[-1] + _MOST_BITS_PER_NUMBER)
        depths.append(length)
    return depths[1:]
