"""Most symbols are one fill value: store where the others are, class by class, as Golomb-Rice coded gaps.

A *class* is the ascending positions p_0 < p_1 < ... of one symbol in a stretch of the stream. Class c has a modulus
M_c = 2^k_c of its own, so that frequent and rare symbols, dense and thin tensors, all cost near their entropy. Gaps are
``p_i - p_(i-1) = M_c h_i - r_i`` with h_i = ceil(gap / M_c) >= 1; the first of a class has h = 1, r = 0.

Over all numbers i of all classes end to end: the h are unary, a one at bit u_i = h_0 + ... + h_i - 1. With
R_i = r_0 + ... + r_i the position is

    p_i = M_c u_i - R_i - B_c

B_c being one constant a class, made by the encoder. Class c is the number of *bounds* b_1 < b_2 < ... below u_i.
Everything lies in one stream of bits: the unary ones from its start, the r from its end. ``TopK`` finds as many ones as
there are numbers, which are the first; bit j of r_i is bit ``j - (k_0 + ... + k_i)`` counted from the end.

Golomb 1966; Rice & Plaunt 1971.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, bits_as_integers, pack_bits
from sws_compress.codec.code import Code
from sws_compress.codec.ops import A, Array, ArrayOps

_CLASS_BITS = 96
"""What the constants of one more class cost in the file."""

_MOST_COMPARISONS = 1 << 23
"""Numbers times classes above which the comparisons with the bounds would take too much memory at load."""

_LEAST_FILL = 0.3
"""Share of the fill value below which other codes are always better."""


@dataclass(frozen=True)
class Classes:
    """Positions of all classes, written into the fill value.

    Arrays: bits as bytes (b, 1); number of numbers (1,); bounds (c, 1); ones (c,), c being the number of classes less
    one or 1; of every class k, M and B; 0 .. kmax - 1 as (kmax, 1); 2^0 .. 2^(kmax - 1); the fill value (1,) if it is
    not zero.
    """

    filled: bool
    encoding = "classes"
    shareable = True

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        stream, numbers, bounds, ones, low_bits, moduli, constants, lanes, powers, *fill = arrays
        bits = ops.reshape(ops.call(bits_as_integers, stream)[0], ops.constant(FLAT))
        unary = ops.positions_of_ones(bits, numbers)
        of_class = ops.matmul(ones, ops.cast(ops.less(bounds, unary), np.int64))
        modulus = ops.gather(moduli, of_class)
        ends = ops.cumulative_sum(ops.gather(low_bits, of_class))
        windows = ops.matmul(powers, ops.gather(bits, ops.subtract(lanes, ends)))
        remainders = ops.cumulative_sum(ops.modulo(windows, modulus))
        highs = ops.subtract(ops.multiply(unary, modulus), ops.gather(constants, of_class))
        positions = ops.subtract(highs, remainders)
        background = ops.expand(fill[0], count) if self.filled else ops.zeros(count)
        return ops.scatter(background, positions, ops.gather(codebook, of_class))


@dataclass(frozen=True, eq=False)
class _Class:
    symbol: int
    positions: npt.NDArray[np.int64]
    low_bits: int
    bits: int


def encode_classes(
    symbols: npt.NDArray[np.uint8], codebook: Array, *, fill: int, cuts: Sequence[int] = ()
) -> Code | None:
    """Encode symbols uint8 (n,) whose background is the symbol ``fill``; scalar codebook.

    ``cuts`` are positions where statistics change, such as those where another tensor begins. None where the code
    cannot pay or would take too much memory to decode.
    """
    where = np.flatnonzero(symbols != fill)
    if where.size == 0 or where.size > (1 - _LEAST_FILL) * symbols.size:
        return None
    classes = sorted(_classes(symbols, where, cuts), key=lambda one: one.low_bits)
    if where.size * len(classes) > _MOST_COMPARISONS:
        return None
    sizes = np.array([one.positions.size for one in classes])
    starts = np.cumsum(sizes) - sizes
    low_bits = np.array([one.low_bits for one in classes], np.int64)
    each = np.repeat(low_bits, sizes)
    positions = np.concatenate([one.positions for one in classes])
    gaps = np.diff(positions, prepend=0)
    gaps[starts] = 1 << low_bits
    highs = -(-gaps >> each)
    remainders = (highs << each) - gaps
    unary = np.cumsum(highs) - 1
    constants = (unary << each) - np.cumsum(remainders) - positions
    constants = constants[starts]
    constants[constants < 0] += symbols.size  # positions then count from the end of the tensor
    bounds = unary[starts[1:]] - 1 if len(classes) > 1 else unary[-1:]
    lanes = np.arange(max(1, int(low_bits.max())), dtype=np.int64)
    numbers = np.array([where.size], np.int64)
    tables = (bounds[:, None], np.ones(bounds.size, np.int64), low_bits, 1 << low_bits, constants)
    arrays: tuple[Array, ...] = (_stream(unary, remainders, each), numbers, *tables, lanes[:, None], 1 << lanes)
    filled = not _is_zero(codebook[fill])
    values = codebook[[one.symbol for one in classes]]
    return Code(Classes(filled), symbols.size, values, arrays + ((codebook[[fill]],) if filled else ()), (0,))


def _stream(
    unary: npt.NDArray[np.int64], remainders: npt.NDArray[np.int64], low_bits: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """Ones at ``unary`` from the start, bit j of remainder i at ``j - (k_0 + ... + k_i)`` from the end; whole bytes."""
    ends = np.cumsum(low_bits)
    bits = np.zeros(-(-(int(unary[-1]) + 1 + int(ends[-1])) // 8) * 8, np.uint8)
    bits[unary] = 1
    for lane in range(int(low_bits.max())):
        held = low_bits > lane
        bits[lane - ends[held]] = remainders[held] >> lane & 1
    return pack_bits(bits)


def _classes(symbols: npt.NDArray[np.uint8], where: npt.NDArray[np.int64], cuts: Sequence[int]) -> Iterator[_Class]:
    """Of every symbol one class for each stretch between ``cuts``, neighbours joined where that takes fewer bits."""
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
    """The class with the modulus of least bits."""
    gaps = np.diff(positions)
    best = min(
        (1 + low + int(np.sum(-(-gaps >> low))) + low * gaps.size, low)
        for low in range(1 + int(gaps.max(initial=1)).bit_length())
    )
    return _Class(symbol, positions, best[1], best[0] + _CLASS_BITS)


def _is_zero(value: np.floating) -> bool:
    return bool(value == 0) and not np.signbit(value)
