"""A prefix code that static shapes read: a number or two name a bucket of words, and a few more bits the word.

A word is one symbol, or m of them. All words lie in one order, the popular ones first, and are cut into *buckets* of
2^r words each (`bucket_plans`). A first number names the bucket. Its largest value is an escape: then a second number,
from a list of its own, does. The r bits that are left of all words lie end to end.

How many escapes there are in front of a word tells the place of its second number, and a running sum of r the place of
its rest. So nothing is set apart or put back: every array has a length that follows from the arrays that are stored,
and all tensors share the functions that decode. In the file that is worth most where tensors are small.

The order of words of several symbols is not stored. Each symbol has a popularity p, about 8 log2 of its count, and
words are sorted by the sums of those of their symbols: that is their order if symbols are independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sws_compress.codec.bits import FLAT, digits
from sws_compress.codec.bucket_plans import BucketPlan, bucket_plan
from sws_compress.codec.encodings.radix import digits_that_fit
from sws_compress.codec.interpreter import A, Array, ArrayOps
from sws_compress.codec.load_cost import LoadCost
from sws_compress.codec.numbers import decode_head, encode_head, head_bytes
from sws_compress.codec.program import Code, Operators, SymbolSequence
from sws_compress.codec.transforms.even import LARGEST_STORED_CODEBOOK, EvenGrid

_MOST_WORDS = 1 << 13
"""Words there may be in all, so that a table of them stays small beside the weights."""

_LEAST_PLACES_PER_WORD = 2
"""Symbols of the sequence that each word takes at least, for the same reason."""

LONGEST_SEQUENCE_SYMBOLS = 1 << 20
"""Sequences beyond are left to `strides`, which take less memory: what these save in decoders no longer shows."""

_POPULARITY_STEPS = 8
"""Steps of p per factor of 2 in counts."""

_NANOSECONDS_PER_WORD = 80.0
"""Time to decode a word of the stream."""

_BYTES_PER_WORD = 44.0
"""Memory of a word of the stream beside its first number: r, where its rest begins, the rest, and its place."""

_BYTES_PER_ESCAPE_TEST = 24.0
"""Memory of a word of the stream where there are escapes: whether it is one, and its second number."""

_BYTES_PER_STREAM_BYTE = 54.0
"""Memory of a byte of the rests: 16 bits from each of its bits on."""

_BYTES_PER_CUT_SYMBOL = 4.0
"""Memory of a symbol that is copied where words are filled up."""

_BYTES_PER_TABLE_WORD = 48.0
"""Memory of a word of the table, and .."""

_BYTES_PER_TABLE_SYMBOL = 24.0
""".. of each of its symbols."""


@dataclass(frozen=True)
class Buckets:
    """Reads numbers, sums up what they say, and looks words up.

    Arrays: first numbers and second numbers as `encode_head` makes them, the latter only if there are escapes; the
    rests as bytes (b,), with more than 8 bits to spare; r of every bucket (buckets,), uint8; popularity of every symbol
    (K,), uint8, only if words have several symbols.

    Parameters
    ----------
    first_bits : int
        Bits of a first number.
    second_bits : int
        Bits of a second number; 0 if there are no escapes.
    symbols : int
        Symbols of a word, m.
    padded : bool
        Whether words are filled up, the last one or others behind it.
    """

    first_bits: int
    second_bits: int
    symbols: int
    padded: bool
    encoding = "buckets"
    shareable = True
    bit_stream = None

    def load_cost(self, arrays: Sequence[Array]) -> LoadCost:
        first, *others = arrays
        words = 8 * first.size / self.first_bits
        held = (head_bytes(self.first_bits) + _BYTES_PER_WORD) * words
        if self.second_bits:
            held += _BYTES_PER_ESCAPE_TEST * words
            held += (head_bytes(self.second_bits) + 4) * 8 * others.pop(0).size / self.second_bits
        held += _BYTES_PER_STREAM_BYTE * others[0].size
        if self.padded:
            held += _BYTES_PER_CUT_SYMBOL * self.symbols * words
        if self.symbols > 1:
            each = _BYTES_PER_TABLE_WORD + _BYTES_PER_TABLE_SYMBOL * self.symbols
            held += each * others[2].size ** self.symbols
        return LoadCost(1e-9 * _NANOSECONDS_PER_WORD * words, held)

    def __call__(self, ops: ArrayOps[A], count: A, codebook: A, *arrays: A) -> A:
        stored = list(arrays)
        buckets = decode_head(ops, stored.pop(0), self.first_bits)
        if self.second_bits:
            seconds = decode_head(ops, stored.pop(0), self.second_bits)
            last, escape = (ops.constant(np.array((1 << self.first_bits) - less, np.int32)) for less in (2, 1))
            (buckets,) = ops.call(_named, buckets, seconds, last, escape)
        rests, exponents, *popularities = stored
        table = ops.call(_Words(self.symbols), codebook, *popularities)[0] if popularities else codebook
        (rows,) = ops.call(_looked_up, buckets, rests, exponents, table)
        if popularities:
            rows = ops.reshape(rows, ops.constant(FLAT))
        return ops.first(rows, count) if self.padded else rows


def _named(ops: ArrayOps[A], firsts: A, seconds: A, last: A, escape: A) -> A:
    """Numbers of buckets: the first numbers up to the last that is none, or what the second ones add to the escape."""
    escapes = ops.less(last, firsts)
    before = ops.cumulative_sum(ops.cast(escapes, np.int32), exclusive=True)
    return ops.where(escapes, ops.gather(ops.add(seconds, escape), before), firsts)


def _looked_up(ops: ArrayOps[A], buckets: A, rests: A, exponents: A, table: A) -> A:
    """Rows of the table: those of the words whose buckets and rests are given."""
    widths = ops.cast(exponents, np.int32)
    sizes = ops.power(ops.constant(np.array(2, np.int32)), widths)
    starts = ops.cumulative_sum(ops.gather(widths, buckets), exclusive=True)
    numbers = ops.modulo(ops.gather(_windows(ops, rests), starts), ops.gather(sizes, buckets))
    origins = ops.gather(ops.cumulative_sum(sizes, exclusive=True), buckets)
    return ops.gather(table, ops.add(origins, numbers))


def _windows(ops: ArrayOps[A], stored: A) -> A:
    """Numbers, int32, that begin at every bit of bytes but the last eight; they have 9 to 16 bits."""
    wide = ops.cast(stored, np.int32)
    low, high = ops.first(wide, ops.constant(FLAT)), ops.after(wide, ops.constant(np.array([1], np.int64)))
    pairs = ops.add(low, ops.multiply(high, ops.constant(np.array(1 << 8, np.int32))))
    column = ops.reshape(pairs, ops.constant(np.array([-1, 1], np.int64)))
    return ops.reshape(ops.divide(column, ops.constant(1 << np.arange(8, dtype=np.int32))), ops.constant(FLAT))


@dataclass(frozen=True)
class _Words:
    """Values of all words of m symbols, (K^m, m), the popular ones first."""

    symbols: int

    def __call__(self, ops: ArrayOps[A], codebook: A, popularities: A) -> A:
        column = ops.constant(np.array([-1, 1], np.int64))
        single = ops.cast(popularities, np.int64)
        sums = single
        for _ in range(1, self.symbols):
            sums = ops.reshape(ops.add(ops.reshape(single, column), sums), ops.constant(FLAT))
        order = ops.positions_of_largest(sums, ops.shape_of(sums))
        base = ops.shape_of(single)
        powers = ops.power(base, ops.constant(np.arange(self.symbols, dtype=np.int64)))
        return ops.gather(codebook, digits(ops, ops.reshape(order, column), powers, base))


class BucketsEncoding:
    """Words in buckets."""

    def codes(self, sequence: SymbolSequence, earlier: Sequence[Code]) -> Iterator[Code]:
        """Codes of words of 1, 2, .. symbols, as long as each takes fewer bytes than the one before.

        If a large codebook is even there are others, which compute it.
        """
        if sequence.is_constant or sequence.symbols.size > LONGEST_SEQUENCE_SYMBOLS:
            return
        yield from _codes(sequence.symbols, sequence.codebook, in_order=False)
        grid = EvenGrid.of(sequence.codebook) if len(sequence.codebook) > LARGEST_STORED_CODEBOOK else None
        if grid is not None:
            yield from map(grid.computed, _codes(grid.symbols(sequence.symbols), grid.codebook, in_order=True))

    def recognise(self, operators: Operators) -> str | None:
        """``Pow`` makes the sizes of the buckets; no other encoding has it."""
        return Buckets.encoding if operators["Pow"] and not operators["ScatterElements"] else None


def _codes(symbols: npt.NDArray[np.unsignedinteger], codebook: Array, *, in_order: bool) -> Iterator[Code]:
    """Codes of words of 1, 2, .. symbols, as long as each takes fewer bytes than the one before."""
    most = min(_MOST_WORDS, symbols.size // _LEAST_PLACES_PER_WORD)
    code = encode_buckets(symbols, codebook, 1, in_order=in_order)
    yield code
    longest = digits_that_fit(len(codebook), most) if codebook.ndim == 1 else 1
    for per_word in range(2, longest + 1):
        before, code = code, encode_buckets(symbols, codebook, per_word)
        if code.payload_bytes >= before.payload_bytes:
            return
        yield code


def encode_buckets(
    symbols: npt.NDArray[np.unsignedinteger], codebook: Array, per_word: int, *, in_order: bool = False
) -> Code:
    """Encode words of a fixed number of symbols.

    Parameters
    ----------
    symbols : ndarray (n,), uint8 or uint16
        At least two different ones, each below K.
    codebook : ndarray (K,) or (K, d)
        Value of each symbol. That of the code is in the order of the words if they have one symbol.
    per_word : int
        Symbols of a word, m; 1 if the codebook has vectors.
    in_order : bool
        Whether the codebook stays as it is. That of a code whose words have several symbols always does.

    Returns
    -------
    Code
        Always made.
    """
    base = len(codebook)
    counts = np.bincount(symbols, minlength=base)
    popularities = np.round(_POPULARITY_STEPS * np.log2(np.maximum(counts, 1))).astype(np.uint8)
    if per_word == 1:
        order, table = np.arange(base) if in_order else np.argsort(-counts, kind="stable"), list[Array]()
        codebook = codebook[order]
    else:
        order, table = _word_order(popularities, per_word), [popularities]
    place_of = np.empty(order.size, np.int64)
    place_of[order] = np.arange(order.size)
    places = place_of[_words(symbols, base, per_word)]
    plan = bucket_plan(np.bincount(places, minlength=order.size))
    heads, rests, exponents = _parts(places, plan)
    program = Buckets(plan.first_bits, plan.second_bits, per_word, _room(heads[0], plan) * per_word > symbols.size)
    payload = tuple(range(len(heads) + 1))
    return Code(program, symbols.size, codebook, (*heads, rests, exponents, *table), payload)


def _word_order(popularities: npt.NDArray[np.uint8], per_word: int) -> npt.NDArray[np.int64]:
    """Words, as numbers of digits of base K, the popular ones first."""
    sums = single = popularities.astype(np.int64)
    for _ in range(1, per_word):
        sums = (single[:, None] + sums).reshape(-1)
    return np.argsort(-sums, kind="stable")


def _words(symbols: npt.NDArray[np.unsignedinteger], base: int, per_word: int) -> npt.NDArray[np.int64]:
    """Words of ``per_word`` symbols each; the last one is filled up with the first symbol."""
    padded = np.pad(symbols, (0, -symbols.size % per_word)).reshape(-1, per_word)
    return padded @ base ** np.arange(per_word)


def _parts(
    places: npt.NDArray[np.int64], plan: BucketPlan
) -> tuple[list[npt.NDArray[np.uint8]], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """First numbers and second ones, packed; the rests; r of every bucket."""
    exponents = np.array(plan.exponents, np.int64)
    origins = np.cumsum(1 << exponents) - (1 << exponents)
    buckets = np.searchsorted(origins, places, side="right") - 1
    firsts = np.minimum(buckets, plan.firsts) if plan.second_bits else buckets
    heads = [encode_head(firsts.astype(np.uint8), plan.first_bits)]
    if plan.second_bits:  # one more, which is read at the place of the word behind the last escape
        seconds = np.append(buckets[buckets >= plan.firsts] - plan.firsts, 0)
        heads.append(encode_head(seconds.astype(np.uint8), plan.second_bits))
    widths, numbers = exponents[buckets], places - origins[buckets]
    starts = np.cumsum(widths) - widths
    filler = _room(heads[0], plan) - places.size  # words behind the last one are of bucket 0
    end = int(widths.sum()) + filler * plan.exponents[0]
    bits = np.zeros(8 * (end // 8 + 2), np.uint8)
    for bit in range(int(exponents.max())):
        has = widths > bit
        bits[starts[has] + bit] = numbers[has] >> bit & 1
    return heads, np.packbits(bits, bitorder="little"), exponents.astype(np.uint8)


def _room(head: npt.NDArray[np.uint8], plan: BucketPlan) -> int:
    """Number of first numbers that a head holds, those that fill it up included."""
    return 8 * head.size // plan.first_bits
