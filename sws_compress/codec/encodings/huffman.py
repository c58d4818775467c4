"""Canonical Huffman code, stored as level planes so that whole arrays decode at once.

Plane l holds the l-th code bit of every symbol whose code is longer than l bits, in order of position. Codes are
canonical, the shorter ones first. All that a decoder keeps of an unfinished symbol is therefore the *rank* s of its
node: its number among the leaves passed so far, followed by the nodes of this level. With t leaves down to this level,
a node with s < t is a leaf, and s is its symbol's rank in code order. Any other node is inner, and bit b leads to the
node of rank 2 s - t + b one level deeper.

Position and rank travel as one integer z = K position + s, where K is the number of symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import bits_as_bytes, pack_bits
from sws_compress.codec.encodings.blocks import encode_blocks
from sws_compress.codec.interpreter import A, Array, ArrayOps, Vector
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.prefix import canonical_codes, code_lengths
from sws_compress.codec.program import Code, Operators, SymbolSequence, made

_LONGEST_SEQUENCE_SYMBOLS = 1 << 20
"""Sequences beyond are left to `strides`, which take less memory: level planes take some 40 bytes a bit to load."""

_NANOSECONDS_PER_BIT = 60.0
"""Time to read a bit of a plane."""

_BYTES_PER_BIT = 39.0
"""Memory of what is computed for a bit of a plane."""

_WIDE_FACTOR = 1.6
"""Times the cost if z needs int64."""


@dataclass(frozen=True)
class Level:
    """One level of the code tree.

    Parameters
    ----------
    leaves : int
        Number of leaves down to this level.
    finished, unfinished : int
        Number of symbols whose code ends here, and of those whose code is longer.
    """

    leaves: int
    finished: int
    unfinished: int


@dataclass(frozen=True)
class Huffman:
    """Walks all unfinished symbols down one level at a time. Arrays: planes as bytes (b, 1); sizes of the planes.

    Parameters
    ----------
    levels : tuple of Level
        From the root down.
    wide : bool
        Whether z needs int64.
    planes : int
        Number of sizes: one for each level, and one for unused bits if there are any.
    """

    levels: tuple[Level, ...]
    wide: bool
    planes: int
    encoding = "huffman"
    shareable = False
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        bits = 8.0 * arrays[0].size * (_WIDE_FACTOR if self.wide else 1.0)
        return LoadCost(1e-9 * _NANOSECONDS_PER_BIT * bits, _BYTES_PER_BIT * bits)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        integer: type[np.generic] = np.int64 if self.wide else np.int32
        symbols, total = self.levels[-1].leaves, self.levels[0].finished + self.levels[0].unfinished
        ranks = ops.constant(np.array(symbols, integer))
        origin, end = (ops.constant(np.array(number, integer)) for number in (0, symbols * total))
        start = ops.arange(origin, end, ranks)
        (bits,) = ops.call(bits_as_bytes, arrays[0])
        planes = ops.split(bits, arrays[1], self.planes)
        nodes, before, finished = start, 0, list[A]()
        for level, plane in zip(self.levels, planes, strict=False):
            passed = ops.constant(np.array(before, integer))
            if level.leaves == before or not level.unfinished:
                (nodes,) = ops.call(_Deeper(integer), nodes, plane, ranks, passed)
            else:
                leaves = ops.constant(np.array(level.leaves, integer))
                vectors = (Vector(level.finished, integer), Vector(level.unfinished, integer))
                done, nodes = ops.call(_Level(integer), nodes, plane, ranks, passed, leaves, vectors=vectors)
                finished.append(done)
            before = level.leaves
        finished.append(nodes)
        every = ops.concat(finished) if len(finished) > 1 else nodes
        return ops.call(_look_up, start, every, ranks, codebook)[0]


@dataclass(frozen=True)
class _Deeper:
    """One level down: rank s becomes 2 s - t + b."""

    integer: type[np.generic]

    def __call__(self, ops: ArrayOps[A], nodes: A, plane: A, ranks: A, passed: A) -> A:
        doubled = ops.add(nodes, ops.modulo(nodes, ranks))
        return ops.add(doubled, ops.subtract(ops.cast(plane, self.integer), passed))


@dataclass(frozen=True)
class _Level:
    """One level down, then finished symbols apart from the others."""

    integer: type[np.generic]

    def __call__(self, ops: ArrayOps[A], nodes: A, plane: A, ranks: A, passed: A, leaves: A) -> tuple[A, A]:
        (deeper,) = ops.call(_Deeper(self.integer), nodes, plane, ranks, passed)
        leaf = ops.less(ops.modulo(deeper, ranks), leaves)
        return ops.compress(deeper, leaf), ops.compress(deeper, ops.logical_not(leaf))


def _look_up(ops: ArrayOps[A], start: A, every: A, ranks: A, codebook: A) -> A:
    """Codebook rows of all ranks, at their positions; of ``start`` only the length is used."""
    return ops.gather(codebook, ops.scatter(start, ops.divide(every, ranks), ops.modulo(every, ranks)))


class HuffmanEncoding:
    """Prefix codes in level planes, of symbols and of blocks of them."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        symbols, codebook = sequence.symbols, sequence.codebook
        if sequence.is_constant or symbols.size > _LONGEST_SEQUENCE_SYMBOLS:
            return
        if sequence.is_scalar:
            yield from made(encode_blocks(symbols, codebook, encode_huffman))
        yield encode_huffman(symbols, codebook)

    def recognise(self, operators: Operators) -> str | None:
        """Finished symbols are scattered, as in `strides`, but one ``Range`` is all the walk needs.

        `sparse` and `classes` scatter, too; they alone use ``TopK``.
        """
        found = operators["ScatterElements"] and operators["Range"] == 1 and not operators["TopK"]
        return Huffman.encoding if found else None


def encode_huffman(symbols: npt.NDArray[np.unsignedinteger], codebook: Array) -> Code:
    """Encode symbols with an optimal prefix code.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        At least two different ones.
    codebook : ndarray (k,) or (k, d)
        Value of each symbol. That of the code is put in the order of the codes and cut to the symbols that occur.

    Returns
    -------
    Code
        Always made.
    """
    counts = np.bincount(symbols, minlength=len(codebook))
    lengths = code_lengths(counts)
    order = np.lexsort((np.arange(counts.size), lengths))[np.count_nonzero(lengths == 0) :]
    codes = canonical_codes(lengths[order])
    rank_of = np.zeros(counts.size, symbols.dtype)
    rank_of[order] = np.arange(order.size)
    ranks, depth = rank_of[symbols], lengths[order].astype(np.int64)
    levels, planes = [], []
    for level in range(1, int(depth.max()) + 1):
        planes.append(((codes >> np.maximum(depth - level, 0)) & 1).astype(np.uint8)[ranks])
        ranks = ranks[(depth > level)[ranks]]
        levels.append(Level(int(np.sum(depth <= level)), planes[-1].size - ranks.size, ranks.size))
    sizes = [plane.size for plane in planes]
    packed = pack_bits(np.concatenate(planes))
    if padding := -sum(sizes) % 8:
        sizes.append(padding)
    wide = order.size * symbols.size >= 1 << 31
    program = Huffman(tuple(levels), wide, len(sizes))
    return Code(program, symbols.size, codebook[order], (packed, np.array(sizes, np.int64)), (0,))
