"""Most symbols are one fill value: store where the others are, class by class, as gaps.

A *class* is the ascending positions p_0 < p_1 < ... of one symbol in a stretch of the stream. A table of bins
(`gap_tables`) codes its gaps: gap = base_h + r with h >= 1 and 0 <= r < 2^(k_h). The first position of a class has
h = 1 and r = 0.

All classes lie end to end, and so do their numbers i. The h are unary: number i ends with a one at bit
u_i = h_0 + ... + h_i. The tables lie end to end as well, after one entry that is not used. With t_c the entry in front
of the table of class c, and e_i = t_c + h_i,

    p_i = (base_(e_0) + r_0 + ... + base_(e_i) + r_i) - B_c

where B_c is a constant of the class that the encoder makes. The class of number i is how many classes after the first
one have begun: a running sum of ones that are written at their first numbers.

Everything lies in one stream of bits, the unary ones from its start and the r from its end. ``TopK`` finds as many ones
as there are numbers, and those come first. Bit j of r_i is bit ``j - (k_(e_0) + ... + k_(e_i))``, counted from the end.

Golomb 1966, with a table instead of one modulus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, pack_bits
from sws_compress.codec.encodings.sparse import zero_symbol
from sws_compress.codec.gap_tables import gap_tables
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import BYTES_PER_GAP, BYTES_PER_STREAM_BIT, LoadCost
from sws_compress.codec.program import Code, Operators, SymbolSequence, made

_CLASS_BITS = 96
"""Bits of the file that the constants of one more class take."""

_LEAST_FILL_SHARE = 0.3
"""Below this share of the fill value other codes are always better."""

_NANOSECONDS_PER_GAP = 1200.0
"""Time to decode a number: tables and bits are looked up for each."""

_BYTES_PER_LANE = 16.0
"""Memory of a number for each bit that remainders may have: where the bit is, and the bit."""


@dataclass(frozen=True)
class Classes:
    """Writes the values of all classes, at their positions, into the fill value.

    Arrays: the bits; number of numbers (1,); first number of every class but the first, and a one for each (if there
    is one class, 0 and 0); t and B of every class; k and base of every entry of the tables; 0 .. kmax as (kmax + 1, 1);
    2^0 .. 2^kmax; the fill value (1,) if it is not zero.

    Parameters
    ----------
    filled : bool
        Whether there is a fill value other than zero.
    """

    filled: bool
    encoding = "classes"
    shareable = True
    bit_stream = 0

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        bits, numbers, _, _, _, _, _, _, lanes, *_ = arrays
        gaps = int(numbers[0])
        held = BYTES_PER_STREAM_BIT * 8 * bits.size + (BYTES_PER_GAP + _BYTES_PER_LANE * lanes.size) * gaps
        return LoadCost(1e-9 * _NANOSECONDS_PER_GAP * gaps, held)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        bits, numbers, starts, steps, tables, constants, low_bits, bases, lanes, powers, *fill = arrays
        flat, none = ops.constant(FLAT), ops.constant(np.array([0], np.int64))
        unary = ops.positions_of_ones(bits, numbers)
        of_class = ops.cumulative_sum(ops.scatter(ops.subtract(unary, unary), starts, steps))
        highs = ops.subtract(unary, ops.concat([none, ops.first(unary, flat)]))
        entries = ops.add(ops.gather(tables, of_class), highs)
        width = ops.gather(low_bits, entries)
        windows = ops.gather(bits, ops.subtract(lanes, ops.cumulative_sum(width)))
        remainders = ops.modulo(ops.matmul(powers, windows), ops.gather(powers, width))
        reached = ops.cumulative_sum(ops.add(ops.gather(bases, entries), remainders))
        positions = ops.subtract(reached, ops.gather(constants, of_class))
        background = ops.expand(fill[0], count) if self.filled else ops.zeros(count)
        return ops.scatter(background, positions, ops.gather(codebook, of_class))


class ClassesEncoding:
    """Positions of every symbol apart, around one that dominates."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        """One code around zero, which the file need not hold, and one around the most frequent symbol."""
        symbols, codebook = sequence.symbols, sequence.codebook
        if not sequence.is_scalar:
            return
        fills = {int(np.bincount(symbols).argmax()), zero_symbol(codebook)} - {None}
        for fill in fills:
            if fill is not None:
                yield from made(encode_classes(symbols, codebook, fill=fill, cuts=sequence.cuts))

    def recognise(self, operators: Operators) -> str | None:
        """``TopK`` finds the numbers, and two ``ScatterElements`` write where classes begin and where values are.

        `sparse` scatters once. With a prefix code for its values it scatters twice, but that code needs ``Range``.
        """
        found = operators["TopK"] and operators["ScatterElements"] == 2 and not operators["Range"]
        return Classes.encoding if found else None


@dataclass(frozen=True, eq=False)
class _Class:
    """Positions of one symbol, and the bits that their gaps take by estimate."""

    symbol: int
    positions: npt.NDArray[np.int64]
    bits: int


def encode_classes(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array, *, fill: int, cuts: Sequence[int] = ()
) -> Code | None:
    """Encode symbols around one of them.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        Numbers of codebook rows.
    codebook : ndarray (k,), float32
        Value of each symbol.
    fill : int
        The symbol that is everywhere else.
    cuts : sequence of int
        Positions where statistics may change, such as those where another tensor begins.

    Returns
    -------
    Code or None
        None if less than 30 % of the symbols are ``fill``, or all of them.
    """
    where = np.flatnonzero(symbols != fill)
    if where.size == 0 or where.size > (1 - _LEAST_FILL_SHARE) * symbols.size:
        return None
    classes = list(_classes(symbols, where, cuts))
    sizes = np.array([one.positions.size for one in classes])
    starts = np.cumsum(sizes) - sizes
    tables, table_of = gap_tables([np.diff(one.positions) for one in classes])
    low_bits = np.array([0, *(low for table in tables for low in table.low_bits)], np.int64)
    bases = np.concatenate([[1], *(table.bases for table in tables)])
    before = np.cumsum([0, *(len(table.low_bits) for table in tables)])[table_of]
    highs = np.concatenate(
        [
            np.searchsorted(tables[table].bases, np.diff(one.positions, prepend=one.positions[0] - 1), side="right")
            for one, table in zip(classes, table_of, strict=True)
        ]
    )
    positions = np.concatenate([one.positions for one in classes])
    entries = np.repeat(before, sizes) + highs
    remainders = np.diff(positions, prepend=0) - bases[entries]
    remainders[starts] = 0
    unary, width = np.cumsum(highs), low_bits[entries]
    constants = (np.cumsum(bases[entries] + remainders) - positions)[starts]
    constants[constants < 0] += symbols.size  # positions then count from the end of the tensor
    begun, steps = (starts[1:], np.ones(len(classes) - 1, np.int64)) if len(classes) > 1 else (starts, starts)
    lanes = np.arange(1 + int(low_bits.max()), dtype=np.int64)
    of_class = (begun, steps, before, constants)
    numbers, fills = np.array([where.size], np.int64), codebook[[fill]]
    arrays = (_stream(unary, remainders, width), numbers, *of_class, low_bits, bases, lanes[:, None], 1 << lanes)
    filled = zero_symbol(codebook[[fill]]) is None
    values = codebook[[one.symbol for one in classes]]
    return Code(Classes(filled), symbols.size, values, (*arrays, fills) if filled else arrays, (0,))


def _stream(
    unary: npt.NDArray[np.int64], remainders: npt.NDArray[np.int64], low_bits: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Bytes of the stream: ones at ``unary`` from the start; bit j of r_i at ``j - (k_0 + ... + k_i)`` from the end."""
    ends = np.cumsum(low_bits)
    bits = np.zeros(-(-(int(unary[-1]) + 1 + int(ends[-1])) // 8) * 8, np.uint8)
    bits[unary] = 1
    for lane in range(int(low_bits.max(initial=0))):
        held = low_bits > lane
        bits[lane - ends[held]] = remainders[held] >> lane & 1
    return pack_bits(bits)


def _classes(
    symbols: npt.NDArray[np.unsignedinteger], where: npt.NDArray[np.int64], cuts: Sequence[int]
) -> Iterator[_Class]:
    """One class for each symbol and stretch between ``cuts``; neighbours are joined if that takes fewer bits."""
    order = where[np.argsort(symbols[where], kind="stable")]
    found, first = np.unique(symbols[order], return_index=True)
    for symbol, positions in zip(found.tolist(), np.split(order, first[1:]), strict=True):
        pieces = [piece for piece in np.split(positions, np.searchsorted(positions, list(cuts))) if piece.size]
        known = [_class(symbol, pieces[0])]
        for piece in map(_class, [symbol] * len(pieces), pieces[1:]):
            joined = _class(symbol, np.concatenate([known[-1].positions, piece.positions]))
            if joined.bits < known[-1].bits + piece.bits:
                known[-1] = joined
            else:
                known.append(piece)
        yield from known


def _class(symbol: int, positions: npt.NDArray[np.int64]) -> _Class:
    """The class, estimated by the best table whose k are all alike (Rice & Plaunt 1971)."""
    gaps = np.diff(positions)
    widths = range(1 + int(gaps.max(initial=1)).bit_length())
    return _Class(symbol, positions, _CLASS_BITS + min(int(np.sum(-(-gaps >> k))) + k * gaps.size for k in widths))
